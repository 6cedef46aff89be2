"""Handlers: export, import."""

from __future__ import annotations

import io
import os
import sys
import tempfile
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any

from ...model import ProgressMessage
from ..context import Context
from ..exit_codes import ExitCode, UsageError
from ..results import ActionResult, DiffResult, Result, Stream, plural
from .checkpoints import tally

if TYPE_CHECKING:
    from ...states.json_diff import Diff
    from ...transfer.export_import import ExportReport, ImportJob, ImportReport

_PIECE_BYTES = 1 << 16


def export(context: Context, given: dict[str, Any]) -> Result:
    """`export [FILE]`."""
    target = given.get("file", "-")
    chosen: dict[str, Any] = {"layout": given.get("as"), "at": given.get("at"), "keys": given.get("keys")}

    def progress(done: int, all: int) -> None:
        context.progress(ProgressMessage.of(done, all, "keys"))

    if target == "-":
        spool = tempfile.TemporaryFile()  # noqa: SIM115 - read after the handler's end
        done = context.manager.export(spool, progress=progress, **chosen)
        return Stream(_told(done, "standard output"), pieces=_pieces(spool))
    overwrite = os.path.isfile(target)
    if overwrite:
        context.confirm(f"overwrite {target}?")
    done = context.manager.export(target, overwrite=overwrite, progress=progress, **chosen)
    data = {
        "file": target, "layout": done.layout, "namespace": done.namespace, "revision": done.revision,
        "bytes": done.bytes,
    }  # fmt: skip
    return ActionResult(_told(done, target), data=data)


def _pieces(spool: IO[bytes]) -> Iterator[str]:
    spool.seek(0)
    with io.TextIOWrapper(spool, encoding="utf-8", newline="") as text:
        while piece := text.read(_PIECE_BYTES):
            yield piece


def _told(done: ExportReport, target: str) -> str:
    where = f"{done.namespace} at revision {done.revision} to {target} ({done.bytes:,} bytes)"
    if done.layout == "json":
        return f"exported {plural(done.versions, 'key')} of {where}"
    held = [plural(done.versions, "version"), plural(done.commits, "commit"), plural(done.checkpoints, "checkpoint")]
    return f"exported {', '.join(held)} of {where}"


def import_(context: Context, given: dict[str, Any]) -> Result:
    """`import SOURCE`."""
    source = given["source"]
    if given.get("merge") and given.get("replace"):
        raise UsageError("--merge and --replace exclude each other")
    if source == "-" and sys.stdin.isatty():
        raise UsageError("standard input is a terminal", "Give a file, or 'stateview import - < FILE'")
    if not given.get("dry_run"):
        context.manager.check_writable()

    def progress(done: int, all: int) -> None:
        text = f"{done * 100 // all}% read" if all else f"{done:,} read"
        context.progress(ProgressMessage(text, done, all))

    work = context.manager.open_import(
        source, how="merge" if given.get("merge") else "replace" if given.get("replace") else None,
        force=given.get("force", False), layout=given.get("as"), pattern=given.get("pattern"),
        strip_prefix=given.get("strip_prefix", ""), text=given.get("string", False), skip=given.get("skip", False),
        progress=progress,
    )  # fmt: skip
    context.close_later(work)  # a preview reads from it when it is shown
    if given.get("dry_run"):
        return _plan(context, work)
    try:
        with work:
            if work.is_new:
                return _new(context, work.execute())
            return _into(context, work)
    except KeyboardInterrupt:
        return _interrupted(work)


def _plan(context: Context, work: ImportJob) -> Result:
    plan = work.plan()
    found = _found(plan)
    if plan.diff is None:
        told = f"{found}; it would make namespace {context.manager.namespace}: {_held(plan)}"
        return ActionResult(f"{told}; dry run: nothing was changed", data=_data(plan, dry_run=True))
    if work.writes and not plan.diff:
        found = f"{found}; {_expiry(work)}"
    return DiffResult(
        f"{found}; dry run: nothing was changed", diff=plan.diff, empty="" if work.writes else _same(plan)
    )


def _new(context: Context, done: ImportReport) -> Result:
    told = f"{_found(done)}; made namespace {context.manager.namespace} of it: {_held(done)}"
    return ActionResult(told, data=_data(done))


def _interrupted(work: ImportJob) -> Result:
    made = work.committed_revision()
    told = "nothing was changed" if made is None else f"it was imported by then, revision {made}"
    undo = "" if made is None or work.is_new else "undo"
    data = {"event": "interrupted", "revision": made}
    return ActionResult(told=f"interrupted: {told}", code=ExitCode.INTERRUPTED, undo=undo, data=data)


def _into(context: Context, work: ImportJob) -> Result:
    asked = context.ask is not None and not context.options.get("yes")
    if asked:
        plan = work.plan()
        assert plan.diff is not None
        if work.writes:
            context.show(DiffResult(_found(plan), diff=plan.diff, empty=""))
            context.confirm(f"import {work.source.name} ({work.how}): {_changed(work, plan.diff)}?")
    done = work.execute(seen=asked)
    if done.diff is None or not work.writes:
        return DiffResult(_found(done), diff=done.diff, empty=_same(done))
    kept = f"; the state before is checkpoint {done.checkpoint}" if done.checkpoint else ""
    history = "; the history in the file was not taken" if work.source.head is not None else ""
    told = f"{_found(done)}; imported: {_changed(work, done.diff)}{kept}{history}"
    if asked:
        return ActionResult(told=told, undo="undo", data=_data(done))
    return DiffResult(told=told, undo="undo", diff=done.diff, empty="")


def _changed(work: ImportJob, diff: Diff) -> str:
    return tally(diff) if diff else _expiry(work)


def _expiry(work: ImportJob) -> str:
    return f"no value differs, only when {plural(len(work.writes), 'key')} expire{'s' * (len(work.writes) == 1)}"


def _found(done: ImportReport) -> str:
    left = f"; left out {plural(done.left_out, 'key')}: {', '.join(done.skipped)}" if done.left_out else ""
    more = ", …" if done.left_out > len(done.skipped) else ""
    return f"found {done.found}{left}{more}"


def _held(done: ImportReport) -> str:
    return f"{plural(done.keys, 'key')}, {plural(done.checkpoints, 'checkpoint')}, revision {done.revision}"


def _same(done: ImportReport) -> str:
    return "live has all of it already" if done.how == "merge" else "live is as it is there"


def _data(done: ImportReport, **more: bool) -> dict[str, Any]:
    return {
        "found": done.found, "how": done.how, "revision": done.revision, "keys": done.keys,
        "checkpoints": done.checkpoints, "checkpoint": done.checkpoint, "left_out": done.left_out, **more,
    }  # fmt: skip
