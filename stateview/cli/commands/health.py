"""Handlers: doctor, recover."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from ...errors import hint_text
from ..context import Context, missing_namespace
from ..exit_codes import ExitCode
from ..guessed_store import with_store
from ..results import Table, plural

if TYPE_CHECKING:
    from ...manager import StateManager


_FORMATS = {0: "", 1: "; its history: whole versions (format 1)", 2: "; its history: packed (format 2)"}


def doctor(context: Context, args: dict[str, Any]) -> Table:
    """`doctor [STORE]`."""
    if "store" in args:
        options, told = with_store(context.options, args["store"], first=False)
        context.tell(told)
        with context.open(options["store"], options.get("namespace"), read_only=True) as manager:
            return _diagnose(context, manager)
    return _diagnose(context, context.manager)


def _diagnose(context: Context, manager: StateManager) -> Table:
    report = manager.doctor(context.progress)
    target = context.target_options((manager.url, manager.namespace))
    rows = [
        (finding.severity, finding.subject, finding.found, finding.meaning, hint_text(finding.next_step, target))
        for finding in report.findings
    ]
    counts = Counter(finding.severity for finding in report.findings)
    is_unread = report.ok and not report.revision
    is_sealed = is_unread and any(finding.code == "sealed" for finding in report.findings)
    missing = missing_namespace(manager) if is_unread and not is_sealed else ""
    verdict = f"is sound, revision {report.revision}{_FORMATS[report.format]}"
    if is_sealed:
        verdict = "is sealed, and cannot be read without its key"
    elif not report.ok:
        verdict = "is damaged, or cannot be read"
    total = ", ".join(
        plural(counts[severity], severity) for severity in ("error", "warning", "note") if counts[severity]
    )
    summary = missing or f"namespace {report.namespace} of {manager.url} {verdict}"
    return Table(
        f"{summary}{f' ({total})' if total else ''}",
        ExitCode.MISSING if missing else ExitCode.OK if report.ok else ExitCode.BACKEND,
        columns=("severity", "subject", "found", "meaning", "remedy"),
        rows=rows,
    )


def recover(context: Context, args: dict[str, Any]) -> Table:
    """`recover`."""
    manager = context.manager
    report = manager.recover()
    rows = [(problem.subject, problem.found, problem.done, problem.mended) for problem in report.problems]
    missing = missing_namespace(manager) if not rows and not report.revision else ""
    if missing:
        summary = missing
    elif not rows:
        summary = f"namespace {report.namespace} is sound, revision {report.revision}"
        if report.sealed:
            summary += "; its values are sealed, and were not checked: set STATEVIEW_KEY"
    else:
        failed = sum(1 for problem in report.problems if not problem.mended)
        summary = (
            f"namespace {report.namespace}: {len(rows) - failed} repaired, {failed} not repaired; "
            f"revision {report.revision}"
        )
    code = ExitCode.MISSING if missing else ExitCode.OK if report.ok else ExitCode.BACKEND
    return Table(summary, code, columns=("subject", "found", "done", "mended"), rows=rows)
