"""Handlers: export, import."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any

from ...backends import full_url
from ...backends.files.memory_files import spool
from ...errors import KeyNotFound, NamespaceNotFound, see
from ...model import ProgressMessage
from ...states.matching.patterns import Selection, is_glob
from ..context import Context
from ..exit_codes import ExitCode, UsageError
from ..results import ActionResult, DiffResult, FullScreen, Result, Stream, plural, tally
from .checkpoints import DRY_RUN, wants_full_screen

if TYPE_CHECKING:
    from ...states.changes import Diff
    from ...transfer.export import ExportReport
    from ...transfer.import_job import ImportJob, ImportReport

_PIECE_BYTES = 1 << 16


def export(context: Context, args: dict[str, Any]) -> Result:
    """`export [FILE]`."""
    target = args.get("file", "-")
    keys = args.get("keys")
    selection: dict[str, Any] = {
        "layout": args.get("as"),
        "at": args.get("at"),
        "keys": keys,
        "plain": bool(args.get("plain")),
    }

    def progress(done: int, total: int) -> None:
        context.progress(ProgressMessage.of(done, total, "keys"))

    overwrite = target != "-" and os.path.isfile(target)
    if overwrite:
        context.confirm(f"overwrite {target}?")
    file = spool(in_memory=selection["plain"] and context.manager.is_encrypted) if target == "-" else None
    try:
        report = context.manager.export(file or target, overwrite=overwrite, progress=progress, **selection)
    except KeyNotFound as error:
        if isinstance(error, NamespaceNotFound) or Selection(keys).exact():
            raise
        return ActionResult(f"{error.message}; nothing was exported", data={"file": None})
    if file is not None:
        return Stream(_export_summary(report, "standard output"), pieces=_pieces(file))
    data = {
        "file": target, "layout": report.layout, "namespace": report.namespace, "revision": report.revision,
        "bytes": report.bytes,
    }  # fmt: skip
    return ActionResult(_export_summary(report, target), data=data)


def _pieces(file: IO[bytes]) -> Iterator[str]:
    file.seek(0)
    with io.TextIOWrapper(file, encoding="utf-8", newline="") as text:
        while piece := text.read(_PIECE_BYTES):
            yield piece


def _export_summary(report: ExportReport, target: str) -> str:
    counts = [plural(report.versions, "key" if report.layout == "json" else "version")]
    if report.layout != "json":
        counts += [plural(report.commits, "commit"), plural(report.checkpoints, "checkpoint")]
    state = f"{report.namespace} at revision {report.revision}"
    reading = f"; {report.reading}" if report.reading else ""
    return f"exported {', '.join(counts)} of {state} to {target} ({report.bytes:,} bytes){reading}"


def import_(context: Context, args: dict[str, Any]) -> Result:
    """`import SOURCE`."""
    source = args["source"]
    if args.get("merge") and args.get("replace"):
        raise UsageError("--merge and --replace exclude each other", see("help", "import"))
    if source == "-" and sys.stdin.isatty():
        raise UsageError("standard input is a terminal", "Give a file, or 'stateview import - < FILE'")
    if not args.get("dry_run"):
        context.manager.check_writable()

    def progress(done: int, total: int) -> None:
        text = f"{done * 100 // total}% read" if total else f"{done:,} read"
        context.progress(ProgressMessage(text, done, total))

    job = context.manager.open_import(
        source, how="merge" if args.get("merge") else "replace" if args.get("replace") else None,
        force=args.get("force", False), layout=args.get("as"), pattern=args.get("pattern"),
        strip_prefix=args.get("strip_prefix", ""), text=args.get("string", False), skip=args.get("skip", False),
        progress=progress,
    )  # fmt: skip
    context.close_later(job)  # the diff of a preview reads from the job while it is printed
    try:
        if args.get("dry_run"):
            return _plan(context, job)
        with job:
            if job.is_new:
                return _import_new(context, job)
            return _import_into(context, args, job)
    except KeyboardInterrupt:
        return _interrupted(job)
    except KeyNotFound as error:
        if not is_glob(args.get("pattern", "")):
            raise
        return ActionResult(f"{error.message}; nothing was imported", data={"keys": 0})


def _plan(context: Context, job: ImportJob) -> Result:
    plan = job.plan()
    source = _source(plan)
    if plan.diff is None:
        summary = f"{source}; it would create namespace {context.manager.namespace}: {_counts(plan)}"
        return ActionResult(f"{summary}; {DRY_RUN}", data=_data(plan, dry_run=True))
    if job.writes and not plan.diff:
        source = f"{source}; {_expiry(job)}"
    return DiffResult(f"{source}; {DRY_RUN}", diff=plan.diff, empty="" if job.writes else _no_change(plan))


def _import_new(context: Context, job: ImportJob) -> Result:
    report = job.execute()
    manager = context.manager
    summary = f"{_source(report)}; created namespace {manager.namespace}: {_counts(report)}, in {full_url(manager.url)}"
    return ActionResult(summary, data=_data(report))


def _interrupted(job: ImportJob) -> Result:
    revision = job.committed_revision()
    outcome = "nothing was changed" if revision is None else f"the import was already committed, revision {revision}"
    undo = "" if revision is None or job.is_new else "undo"
    data = {"event": "interrupted", "revision": revision}
    return ActionResult(f"interrupted: {outcome}", ExitCode.INTERRUPTED, undo, data=data)


def _import_into(context: Context, args: dict[str, Any], job: ImportJob) -> Result:
    asks = context.ask is not None and not context.options.get("yes")
    if asks:
        plan = job.plan()
        assert plan.diff is not None
        if job.writes:
            question = f"import {job.source.name} ({job.how}): {_changed(job, plan.diff)}?"
            source = job.source_state()
            screen = FullScreen(
                "live", str(source[1].revision), [change.key for change in plan.diff], question=question,
                words=["import", job.source.name, f"--{job.how}"], source=source, wanted=wants_full_screen(args),
            ) if plan.diff else None  # fmt: skip
            context.approve(DiffResult(_source(plan), diff=plan.diff, empty="", full_screen=screen), question)
    report = job.execute(seen=asks)
    if report.diff is None or not job.writes:
        return DiffResult(_source(report), diff=report.diff, empty=_no_change(report))
    safety = f"; the state before is checkpoint {report.checkpoint}" if report.checkpoint else ""
    history = "; the history in the file was not imported" if job.source.head is not None else ""
    summary = f"{_source(report)}; imported: {_changed(job, report.diff)}{safety}{history}"
    if asks:
        return ActionResult(summary, undo="undo", data=_data(report))
    return DiffResult(summary, undo="undo", diff=report.diff, empty="")


def _changed(job: ImportJob, diff: Diff) -> str:
    return tally(diff) if diff else _expiry(job)


def _expiry(job: ImportJob) -> str:
    return f"no value differs, only the expiry of {plural(len(job.writes), 'key')}"


def _source(report: ImportReport) -> str:
    """Return what was found in the source, and the keys that are left out."""
    more = ", …" if report.left_out > len(report.skipped) else ""
    left_out = f"; left out {plural(report.left_out, 'key')}: {', '.join(report.skipped)}" if report.left_out else ""
    return f"found {report.found}{left_out}{more}"


def _counts(report: ImportReport) -> str:
    return f"{plural(report.keys, 'key')}, {plural(report.checkpoints, 'checkpoint')}, revision {report.revision}"


def _no_change(report: ImportReport) -> str:
    return "live already has all of it" if report.how == "merge" else "live already equals the source"


def _data(report: ImportReport, **more: bool) -> dict[str, Any]:
    return {
        "found": report.found, "how": report.how, "revision": report.revision, "keys": report.keys,
        "checkpoints": report.checkpoints, "checkpoint": report.checkpoint, "left_out": report.left_out, **more,
    }  # fmt: skip
