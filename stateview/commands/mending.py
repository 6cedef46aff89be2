"""Handlers: doctor, recover."""

from __future__ import annotations

from collections import Counter
from typing import Any

from .context import Context
from .exits import ExitCode
from .results import Table, plural


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
    if report.ok and not report.revision and manager.namespace not in manager.namespaces():
        state = "is not there"
    held = ", ".join(plural(counts[one], one) for one in ("error", "warning", "note") if counts[one])
    told = f"namespace {report.namespace} of {manager.url} {state}{f' ({held})' if held else ''}"
    code = ExitCode.OK if report.ok else ExitCode.BACKEND
    return Table(told, code, columns=("severity", "subject", "found", "meaning", "remedy"), rows=rows)


def recover(context: Context, given: dict[str, Any]) -> Table:
    """`recover`."""
    manager = context.manager
    report = manager.recover()
    rows = [(one.subject, one.found, one.done, one.mended) for one in report.problems]
    if not rows and not report.revision and manager.namespace not in manager.namespaces():
        told = f"namespace {report.namespace} of {manager.url} is not there"
    elif not rows:
        told = f"namespace {report.namespace} is sound, revision {report.revision}"
    else:
        lost = sum(1 for one in report.problems if not one.mended)
        told = (
            f"namespace {report.namespace}: {len(rows) - lost} mended, {lost} could not be; revision {report.revision}"
        )
    code = ExitCode.OK if report.ok else ExitCode.BACKEND
    return Table(told, code, columns=("subject", "found", "done", "mended"), rows=rows)
