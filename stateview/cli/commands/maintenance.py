"""Handlers: prune, compact, stats."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from ...errors import ReadOnly, StateException, see
from ...model import ProgressMessage
from ..context import Context
from ..exit_codes import UsageError
from ..results import ActionResult, Record, Table, in_bytes, plural
from .checkpoints import DRY_RUN
from .stores import table_of_namespaces

if TYPE_CHECKING:
    from datetime import datetime

    from ...maintenance.prune import PruneReport
    from ...maintenance.stats import Stats
    from ...manager import StateManager

Read = TypeVar("Read")

_MAX_CHECKPOINTS = 20  # checkpoints that a preview lists
_MAX_GROWTH_PERIODS = 14
_KEY_CHARACTERS = 60


def prune(context: Context, args: dict[str, Any]) -> Record | ActionResult:
    """`prune [PATTERN…]`."""
    pattern, history = args.get("pattern"), args.get("history", False)
    if "keep" not in args and "older_than" not in args:  # the manager's error would name Python arguments
        if history:
            raise UsageError("prune: --history needs a limit", "Give --keep or --older-than")
        if pattern is None:
            raise UsageError("prune: nothing was chosen", "Give --keep, --older-than, or the names of checkpoints")
    return _prune(context, args, {"pattern": pattern, "history": history})


def compact(context: Context, args: dict[str, Any]) -> Record | ActionResult:
    """`compact`."""
    history = "keep" in args or "older_than" in args
    return _prune(context, args, {"pattern": (), "history": history}, ask=history)


def _prune(context: Context, args: dict[str, Any], policy: dict[str, Any], ask: bool = True) -> Record | ActionResult:
    """Preview, ask and prune. Without `ask` the policy removes only unreachable data, so nobody is asked."""
    policy |= {name: args[name] for name in ("keep", "older_than") if name in args}

    def run(manager: StateManager, **more: Any) -> PruneReport:
        manager.check_exists()
        try:
            return manager.prune(**policy, **more, progress=context.progress)
        except ValueError as error:
            if isinstance(error, StateException):
                raise
            raise UsageError(str(error), see("help", "prune")) from error

    if args.get("dry_run"):
        planned = _read(context, lambda manager: run(manager, dry_run=True))
        return Record(DRY_RUN, data=_prune_data(planned), lines=_preview(planned))
    manager = context.manager
    if not ask:
        return _pruned(context, manager, run(manager))
    planned = run(manager, dry_run=True)
    if not planned:
        return _pruned(context, manager, planned)
    if context.ask is not None and not context.options.get("yes"):
        context.show(Record(data=_prune_data(planned), lines=_preview(planned)))
    context.confirm(f"delete {_amount(planned)}, which cannot be undone?")
    return _pruned(context, manager, manager.prune(previewed=planned, progress=context.progress))


def _read(context: Context, read: Callable[[StateManager], Read]) -> Read:
    """Read from the store. If it can only be opened read-only, read it like that."""
    try:
        return read(context.manager)
    except ReadOnly:
        if context.manager.read_only:
            raise
    options = context.options
    with context.open(options.get("store"), options.get("namespace"), read_only=True) as manager:
        return read(manager)


def _amount(report: PruneReport) -> str:
    parts = [plural(len(report.checkpoints), "checkpoint")] if report.checkpoints else []
    parts += [f"{plural(report.revisions, 'revision')} of history"] if report.revisions else []
    return " and ".join(parts)


def _pruned(context: Context, manager: StateManager, report: PruneReport) -> ActionResult:
    unreachable = plural(report.versions, "unreachable version")
    if report.dry_run:
        more = f"; {context.quoted('compact')} removes {unreachable}" if report.versions else ""
        return ActionResult(f"nothing to prune in namespace {manager.namespace!r}{more}", data=_prune_data(report))
    summary = f"{unreachable} removed"
    if report:
        summary = f"{_amount(report)} deleted, {plural(report.versions, 'version')} removed"
    if report.before is None or report.after is None:
        summary += f"; {manager.url} does not report the space"
    else:
        summary += f"; {in_bytes(report.before)} before, {in_bytes(report.after)} after"
    return ActionResult(summary, data=_prune_data(report))


def _prune_data(report: PruneReport) -> dict[str, Any]:
    checkpoints = [
        {"name": mark.name, "revision": mark.revision, "time": mark.time.isoformat()} for mark in report.checkpoints
    ]
    names = ("namespace", "dry_run", "floor", "revisions", "versions", "before", "after", "freed")
    return {"checkpoints": checkpoints, **{name: getattr(report, name) for name in names}}


def _preview(report: PruneReport) -> tuple[tuple[str, str], ...]:
    lines = [
        ("checkpoint", f"{mark.ref}  revision {mark.revision}  {mark.time.isoformat(' ', 'seconds')}")
        for mark in report.checkpoints[:_MAX_CHECKPOINTS]
    ]
    if (more := len(report.checkpoints) - _MAX_CHECKPOINTS) > 0:
        lines.append(("", f"… and {more:,} more"))
    lines.append(("history", f"{plural(report.revisions, 'revision')} less, kept from revision {report.floor}"))
    lines.append(("versions", f"{report.versions:,}"))
    total = "" if report.before is None else f" of {in_bytes(report.before)}"
    lines.append(("space", f"frees about {in_bytes(report.freed or 0)}{total}"))
    return tuple(lines)


def stats(context: Context, args: dict[str, Any]) -> Record | Table:
    """`stats`."""
    if args.get("all"):
        return _stats_of_all(context)

    def measure(manager: StateManager) -> Stats:
        manager.check_exists()
        return manager.stats(progress=context.progress)

    report = _read(context, measure)
    return Record(data=_stats_data(report), lines=_stats_lines(context.manager, report))


def _stats_of_all(context: Context) -> Table:
    columns = ("namespace", "keys", "bytes", "versions", "history", "checkpoints", "revision", "newest", "space")

    def read(manager: StateManager) -> tuple[Any, ...]:
        data = _stats_data(manager.stats(progress=partial(_progress_of, context, manager.namespace)))
        return tuple(data[column] for column in columns)

    return table_of_namespaces(context, columns, read)


def _progress_of(context: Context, namespace: str, text: str) -> None:
    context.progress(text.about(namespace) if isinstance(text, ProgressMessage) else f"{namespace}: {text}")


def _stats_data(report: Stats) -> dict[str, Any]:
    data = {name: getattr(report, name) for name in report.__struct_fields__}
    for name in ("oldest", "newest"):
        data[name] = None if data[name] is None else data[name].isoformat()
    data["largest"] = [{"key": entry.key, "size": entry.size} for entry in report.largest]
    data["growth"] = [
        {"start": period.start.isoformat(), "commits": period.commits, "keys": period.keys, "bytes": period.bytes}
        for period in report.growth
    ]
    return data


def _stats_lines(manager: StateManager, report: Stats) -> tuple[tuple[str, str], ...]:
    oldest = "" if report.oldest is None else f"  {_time(report.oldest)}"
    space = f"unknown: {report.store} does not report it" if report.space is None else in_bytes(report.space)
    find = getattr(manager.backend, "cut_off", None)  # see `TellsWhatIsCutOff`
    cut = f", counted among {told} only" if find is not None and (told := find()) else ""
    automatic = f"{report.automatic:,} automatic; of the safety checkpoints {manager.safety}"
    lines = [
        ("store", report.store),
        ("namespace", report.namespace),
        ("revision", f"{report.revision:,}  {_time(report.newest)}"),
        ("keys", f"{report.keys:,}  {in_bytes(report.bytes)}{'  (sealed)' if report.sealed else ''}{cut}"),
        ("history", f"{plural(report.versions, 'earlier version')}  {in_bytes(report.history)}"),
        ("log", f"{plural(report.commits, 'commit')}, back to revision {report.floor:,}{oldest}"),
        ("checkpoints", f"{report.checkpoints:,}, {automatic}"),
        ("space", space),
    ]
    if report.checkpoint_files:
        cost = f"{in_bytes(report.checkpoint_files)} of it: copies for people; 'checkpoint_files = false' saves them"
        lines.append(("checkpoint files", cost))
    for index, entry in enumerate(report.largest):
        lines.append(("" if index else "largest", f"{in_bytes(entry.size):>8}  {_shortened(entry.key)}"))
    hourly = report.period == "hour"
    for index, period in enumerate(report.growth[-_MAX_GROWTH_PERIODS:]):
        start = period.start.strftime("%Y-%m-%d %H:00" if hourly else "%Y-%m-%d")
        amounts = f"{plural(period.commits, 'commit')}, {plural(period.keys, 'key')}, {in_bytes(period.bytes)}"
        lines.append(("" if index else f"by the {report.period}", f"{start}  {amounts}"))
    if len(report.growth) > _MAX_GROWTH_PERIODS:
        lines.append(("", f"… and {len(report.growth) - _MAX_GROWTH_PERIODS:,} earlier"))
    return tuple(lines)


def _time(time: datetime | None) -> str:
    return "never" if time is None else time.isoformat(" ", "seconds")


def _shortened(key: str) -> str:
    return key if len(key) <= _KEY_CHARACTERS else key[: _KEY_CHARACTERS - 1] + "…"
