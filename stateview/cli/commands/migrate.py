"""Handler: migrate."""

from __future__ import annotations

import os
import shlex
import time
from typing import TYPE_CHECKING, Any

from ...backends import kind_of, mask, parse_store
from ...errors import ReadOnly
from ...manager import migrate as migrate_namespaces
from ..context import Context
from ..exit_codes import ExitCode
from ..guessed_store import with_store
from ..results import ActionResult, plural

if TYPE_CHECKING:
    from ...transfer.migrate import MigrationProgress, MigrationReport, OnMigrationProgress

REPORT_SECONDS = 1.0  # between two lines of JSON progress


def migrate(context: Context, args: dict[str, Any]) -> ActionResult:
    """`migrate FROM TO`."""
    dry_run = bool(args.get("dry_run"))
    if context.options.get("read_only") and not dry_run:
        raise ReadOnly("migrate writes to the destination, but --read-only was given")
    options, told = with_store(context.options, args["from"], first=False)
    context.tell(told)
    namespace = context.options.get("namespace") if args.get("all") else options.get("namespace")
    as_json = context.options.get("format") in ("json", "jsonl")
    progress: OnMigrationProgress = _JsonProgress(context) if as_json else lambda step: context.progress(step.message())
    try:
        reports = migrate_namespaces(
            options["store"], args["to"], namespace=namespace, all=bool(args.get("all")),
            dry_run=dry_run, force=bool(args.get("force")), switch=bool(args.get("switch")),
            author=context.options.get("author"), progress=progress,
        )  # fmt: skip
    except KeyboardInterrupt:
        outcome = "nothing was changed" if dry_run else "run the same command again to continue the copy"
        return ActionResult(f"interrupted: {outcome}", ExitCode.INTERRUPTED, data={"event": "interrupted"})
    finally:
        context.progress("")
    results = [
        ActionResult(_summary(report, args["to"], report is reports[-1]), data=_data(report)) for report in reports
    ]
    if as_json:
        for result in results[:-1]:
            context.show(ActionResult(data=result.data))
    return ActionResult("\n".join(result.summary for result in results), data=results[-1].data)


class _JsonProgress:
    """Prints progress as lines of JSON, at most one a second for each part of the work."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._last: tuple[str, float] = ("", 0.0)

    def __call__(self, step: MigrationProgress) -> None:
        """Print the progress of the present part."""
        self._context.progress(step.message())  # the dashboard stops a job here
        part, now = f"{step.namespace} {step.doing}", time.monotonic()
        if part == self._last[0] and now - self._last[1] < REPORT_SECONDS:
            return
        self._last = part, now
        data = {
            "event": "progress", "namespace": step.namespace, "doing": step.doing, "done": step.done,
            "total": step.total, "percent": step.percent, "rate": round(step.rate),
            "left": None if step.left is None else round(step.left, 1),
        }  # fmt: skip
        self._context.show(ActionResult(data=data))


def _data(report: MigrationReport) -> dict[str, Any]:
    from msgspec import to_builtins

    fields: dict[str, Any] = to_builtins(report, enc_hook=int)
    states = {name: {"keys": digest.keys, "digest": digest.digest} for name, digest in report.checkpoints.items()}
    return {"event": "would" if report.dry_run else "migrated", **fields, "checkpoints": states}


def _summary(report: MigrationReport, destination: str, is_last: bool) -> str:
    """Return what was copied, and after the last namespace the next command."""
    amount = f"{plural(report.keys, 'key')} and {plural(len(report.checkpoints), 'checkpoint')}"
    what = f"{amount} of {report.namespace} from {report.source} to {report.destination}"
    size = f"{plural(report.versions, 'version')} of {plural(report.bytes, 'byte')}, revision {report.revision:,}"
    if report.dry_run:
        existing = "; the copy already exists and would be compared" if report.already else ""
        if report.replaces:
            existing = f"; the existing namespace ({report.replaces}) would be kept aside"
        return f"would copy {what}: {size}{', encrypted' if report.encrypted else ''}{existing}"
    verb = "already copied" if report.already else "continued and copied" if report.resumed else "copied"
    lines = [
        f"{verb} {what}: {size}, in {report.seconds:,.1f} s",
        f"read back and compared, digest {report.digest}; the source is unchanged",
    ]
    if report.reading:
        lines.append(report.reading)
    if report.encrypted:
        lines.append("the copy is encrypted")
    if report.behind:
        missed = plural(report.behind, "commit")
        lines.append(
            f"the copy lacks {missed} made meanwhile: stop the writers of the source, and run the command again"
        )
    if report.kept:
        replaced = f"the replaced namespace ({report.replaces})" if report.replaces else "data of a deleted namespace"
        safety = f", with the checkpoint {report.safety}" if report.safety else ""
        lines.append(f"{replaced} is kept in {report.kept}{safety}")
    return "\n".join([*lines, *_next_steps(report, destination, is_last), *_shared_folder(report)])


def _next_steps(report: MigrationReport, destination: str, is_last: bool) -> list[str]:
    if report.switched:
        wanted = {"STATEVIEW_STORE": destination, "STATEVIEW_NAMESPACE": report.namespace}
        differing = [name for name, value in wanted.items() if os.environ.get(name, "") not in ("", value)]
        return [
            f"{report.switched} now names the destination",
            *(f"but the environment variable {name} names another, and takes precedence" for name in differing),
        ]
    if not is_last:
        return []
    words = [mask(destination), report.namespace]
    if any(word.startswith("-") for word in words):
        words.insert(0, "--")
    return [f"next: 'stateview init {shlex.join(words)}' makes the destination the store of this folder"]


def _shared_folder(report: MigrationReport) -> list[str]:
    """Return a warning if both copies are in one folder, so that deleting the folder would delete both."""
    source, destination = parse_store(report.source), parse_store(report.destination)
    if not (kind_of(source).in_folder and kind_of(destination).in_folder):
        return []
    if os.path.realpath(source.place) != os.path.realpath(destination.place):
        return []
    names = kind_of(source).files
    folder = os.path.join(source.place, report.namespace)
    return [f"both copies are in {folder}: to delete the old one, delete {', '.join(names)} there, not the folder"]
