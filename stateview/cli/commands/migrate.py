"""Handler: migrate."""

from __future__ import annotations

import os
import shlex
import time
from typing import TYPE_CHECKING, Any

from ...backends import kind_of, mask, parse_store
from ...errors import ReadOnly
from ...manager import migrate as move
from ..context import Context
from ..exit_codes import ExitCode
from ..results import ActionResult, plural

if TYPE_CHECKING:
    from ...transfer.migrate import MigrationProgress, MigrationReport, OnMigrationProgress

REPORT_SECONDS = 1.0  # seconds between two lines of progress for a script


def migrate(context: Context, given: dict[str, Any]) -> ActionResult:
    """`migrate FROM TO`."""
    dry_run = bool(given.get("dry_run"))
    if context.options.get("read_only") and not dry_run:
        raise ReadOnly("migrate writes to the destination, and --read-only was given")
    lines = context.options.get("format") in ("json", "jsonl")
    tell: OnMigrationProgress = _JsonProgress(context) if lines else lambda step: context.progress(step.message())
    try:
        reports = move(
            given["from"], given["to"], namespace=context.options.get("namespace"), all=bool(given.get("all")),
            dry_run=dry_run, force=bool(given.get("force")), switch=bool(given.get("switch")),
            author=context.options.get("author"), progress=tell,
        )  # fmt: skip
    except KeyboardInterrupt:
        told = "nothing was changed" if dry_run else "run the same again, and it goes on with what was copied"
        return ActionResult(f"interrupted: {told}", ExitCode.INTERRUPTED, data={"event": "interrupted"})
    finally:
        context.progress("")
    results = [
        ActionResult(_told(report, given["to"], report is reports[-1]), data=_data(report)) for report in reports
    ]
    if lines:
        for result in results[:-1]:
            context.show(ActionResult(data=result.data))
    return ActionResult("\n".join(result.told for result in results), data=results[-1].data)


class _JsonProgress:
    """Progress as lines of JSON, a second apart."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._last: tuple[str, float] = ("", 0.0)

    def __call__(self, step: MigrationProgress) -> None:
        """A part of the work is done."""
        self._context.progress(step.message())  # where a person can stop it
        doing, now = f"{step.namespace} {step.doing}", time.monotonic()
        if doing == self._last[0] and now - self._last[1] < REPORT_SECONDS:
            return
        self._last = doing, now
        data = {
            "event": "progress", "namespace": step.namespace, "doing": step.doing, "done": step.done,
            "total": step.total, "percent": step.percent, "rate": round(step.rate),
            "left": None if step.left is None else round(step.left, 1),
        }  # fmt: skip
        self._context.show(ActionResult(data=data))


def _data(report: MigrationReport) -> dict[str, Any]:
    from msgspec import to_builtins

    found: dict[str, Any] = to_builtins(report)
    states = {name: {"keys": one.keys, "digest": one.digest} for name, one in report.checkpoints.items()}
    return {"event": "would" if report.dry_run else "migrated", **found, "checkpoints": states}


def _told(report: MigrationReport, given: str, last: bool) -> str:
    """What was done, and after the last of all what to do next."""
    held = f"{plural(report.keys, 'key')} and {plural(len(report.checkpoints), 'checkpoint')}"
    what = f"{held} of {report.namespace} from {report.source} to {report.destination}"
    size = f"{plural(report.versions, 'version')} of {plural(report.bytes, 'byte')}, revision {report.revision:,}"
    if report.dry_run:
        there = "; it is there already, and would be compared" if report.already else ""
        if report.replaces:
            there = f"; the namespace that is there ({report.replaces}) would be kept aside"
        return f"would copy {what}: {size}{there}"
    done = "there already:" if report.already else "went on with a copy, and copied" if report.resumed else "copied"
    lines = [
        f"{done} {what}: {size}, in {report.seconds:,.1f} s",
        f"read back and compared, digest {report.digest}; the source is as it was",
    ]
    if report.behind:
        late = plural(report.behind, "commit")
        lines.append(f"{late} of the source came after that, and not into the copy: stop its writers, and run it again")
    if report.kept:
        safe = f", with the checkpoint {report.safety}" if report.safety else ""
        what = f"before ({report.replaces})" if report.replaces else "of a namespace that was no more"
        lines.append(f"what was there {what} is kept in {report.kept}{safe}")
    if report.switched:
        lines.append(f"{report.switched} names it from now on")
        heard = {"STATEVIEW_STORE": given, "STATEVIEW_NAMESPACE": report.namespace}
        others = [name for name, chosen in heard.items() if os.environ.get(name, "") not in ("", chosen)]
        lines += [f"but the environment's {name} says otherwise, and is heard first" for name in others]
    elif last:
        words = [mask(given), report.namespace]
        if any(word.startswith("-") for word in words):
            words.insert(0, "--")
        lines.append(f"next: 'stateview init {shlex.join(words)}' makes scripts here use it")
    return "\n".join([*lines, *_same_folder(report)])


def _same_folder(report: MigrationReport) -> list[str]:
    """A warning, where removing the former namespace's folder would remove the new one too."""
    one, other = parse_store(report.source), parse_store(report.destination)
    if not (kind_of(one).in_folder and kind_of(other).in_folder):
        return []
    if os.path.realpath(one.place) != os.path.realpath(other.place):
        return []
    names = kind_of(one).files
    folder = os.path.join(one.place, report.namespace)
    return [f"both lie in {folder}: to remove the former, remove {', '.join(names)} in it, never the folder"]
