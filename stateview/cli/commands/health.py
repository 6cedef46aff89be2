"""Handlers: doctor, recover."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from ..context import Context
from ..exit_codes import ExitCode
from ..results import Table, plural

if TYPE_CHECKING:
    from ...manager import StateManager

_MAX_NAMED_NAMESPACES = 10  # namespaces


def doctor(context: Context, given: dict[str, Any]) -> Table:
    """`doctor [STORE]`."""
    if "store" in given:
        with context.open(given["store"], context.options.get("namespace"), read_only=True) as manager:
            report = manager.doctor(context.progress)
    else:
        manager = context.manager
        report = manager.doctor(context.progress)
    rows = [(one.severity, one.subject, one.found, one.meaning, one.remedy) for one in report.findings]
    counts = Counter(one.severity for one in report.findings)
    state = f"is sound, revision {report.revision}" if report.ok else "is damaged, or cannot be read"
    nothing = missing(manager) if report.ok and not report.revision else ""
    held = ", ".join(plural(counts[one], one) for one in ("error", "warning", "note") if counts[one])
    told = nothing or f"namespace {report.namespace} of {manager.url} {state}"
    code = ExitCode.MISSING if nothing else ExitCode.OK if report.ok else ExitCode.BACKEND
    return Table(
        f"{told}{f' ({held})' if held else ''}",
        code,
        columns=("severity", "subject", "found", "meaning", "remedy"),
        rows=rows,
    )


def recover(context: Context, given: dict[str, Any]) -> Table:
    """`recover`."""
    manager = context.manager
    report = manager.recover()
    rows = [(one.subject, one.found, one.done, one.mended) for one in report.problems]
    nothing = missing(manager) if not rows and not report.revision else ""
    if nothing:
        told = nothing
    elif not rows:
        told = f"namespace {report.namespace} is sound, revision {report.revision}"
    else:
        lost = sum(1 for one in report.problems if not one.mended)
        told = (
            f"namespace {report.namespace}: {len(rows) - lost} mended, {lost} could not be; revision {report.revision}"
        )
    code = ExitCode.MISSING if nothing else ExitCode.OK if report.ok else ExitCode.BACKEND
    return Table(told, code, columns=("subject", "found", "done", "mended"), rows=rows)


def missing(manager: StateManager) -> str:
    """That the namespace is not there, and which are; empty where it is."""
    found = manager.namespaces()
    if manager.namespace in found:
        return ""
    others = ", ".join(found[:_MAX_NAMED_NAMESPACES]) + (" …" if len(found) > _MAX_NAMED_NAMESPACES else "")
    held = f"; it has {others}: say which by --namespace" if found else ""
    return f"namespace {manager.namespace} of {manager.url} is not there{held}"
