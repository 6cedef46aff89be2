"""Handlers: prune, compact, stats."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from ...errors import KeyNotFound, ReadOnly, StateException, see
from ...model import ProgressMessage
from ..context import Context
from ..exit_codes import UsageError
from ..results import ActionResult, Record, Table, in_bytes, plural
from .health import missing

if TYPE_CHECKING:
    from ...maintenance.prune import PruneReport
    from ...maintenance.stats import Stats
    from ...manager import StateManager

Read = TypeVar("Read")

_DRY_RUN = "dry run: nothing was changed"
_MAX_CHECKPOINTS = 20  # checkpoints that a person is shown
_GROWTH_PERIODS = 14  # hours or days
_KEY_CHARACTERS = 60  # characters of a key


def prune(context: Context, given: dict[str, Any]) -> Record | ActionResult:
    """`prune [PATTERN…]`."""
    pattern, history = given.get("pattern"), given.get("history", False)
    if "keep" not in given and "older_than" not in given:  # the manager would say so in the words of Python
        if history:
            raise UsageError("prune: nothing says how much of the history is to go", "Give --keep or --older-than")
        if pattern is None:
            raise UsageError(
                "prune: nothing says what is to go", "Give --keep, --older-than, or the names of checkpoints"
            )
    return _forget(context, given, {"pattern": pattern, "history": history})


def compact(context: Context, given: dict[str, Any]) -> Record | ActionResult:
    """`compact`."""
    history = "keep" in given or "older_than" in given
    return _forget(context, given, {"pattern": (), "history": history}, quietly=not history)


def _forget(
    context: Context, given: dict[str, Any], asked: dict[str, Any], quietly: bool = False
) -> Record | ActionResult:
    """Show what goes, ask, and do it; without a question where it is known that nothing goes that can be asked for."""
    asked |= {name: given[name] for name in ("keep", "older_than") if name in given}

    def act(manager: StateManager, **more: Any) -> PruneReport:
        if not manager.revision and (nothing := missing(manager)):
            raise KeyNotFound(nothing)
        try:
            return manager.prune(**asked, **more, progress=context.progress)
        except ValueError as error:
            if isinstance(error, StateException):
                raise
            raise UsageError(str(error), see("help", "prune")) from error

    if given.get("dry_run"):
        planned = _reading(context, lambda one: act(one, dry_run=True))
        return Record(_DRY_RUN, data=_data(planned), lines=_lines(planned))
    manager = context.manager
    if quietly:
        return _done(manager, act(manager))
    planned = act(manager, dry_run=True)
    if not planned:
        return _done(manager, planned)
    if context.ask is not None and not context.options.get("yes"):
        context.show(Record(data=_data(planned), lines=_lines(planned)))
    context.confirm(f"forget {_what(planned)}, which cannot come back?")
    return _done(manager, manager.prune(previewed=planned, progress=context.progress))


def _reading(context: Context, read: Callable[[StateManager], Read]) -> Read:
    """What only reads, also of a store that may only be read: one that is opened for writing can be in need of that."""
    try:
        return read(context.manager)
    except ReadOnly:
        if context.manager.read_only:
            raise
    options = context.options
    with context.open(options.get("store"), options.get("namespace"), read_only=True) as manager:
        return read(manager)


def _what(report: PruneReport) -> str:
    said = [plural(len(report.checkpoints), "checkpoint")] if report.checkpoints else []
    said += [f"{plural(report.revisions, 'revision')} of history"] if report.revisions else []
    return " and ".join(said)


def _done(manager: StateManager, report: PruneReport) -> ActionResult:
    if report.dry_run:
        unseen = plural(report.versions, "version")
        more = f"; it holds {unseen} that nothing can show: 'stateview compact'" if report.versions else ""
        return ActionResult(f"nothing to prune in namespace {manager.namespace!r}{more}", data=_data(report))
    told = f"{plural(report.versions, 'version')} dropped that nothing could show"
    if report:
        told = f"{_what(report)} forgotten, {plural(report.versions, 'version')} dropped"
    if report.before is None or report.after is None:
        told += f"; {manager.url} does not say what they took"
    else:
        told += f"; {in_bytes(report.before)} before, {in_bytes(report.after)} after"
    return ActionResult(told, data=_data(report))


def _data(report: PruneReport) -> dict[str, Any]:
    checkpoints = [
        {"name": one.name, "revision": one.revision, "time": one.time.isoformat()} for one in report.checkpoints
    ]
    names = ("namespace", "dry_run", "floor", "revisions", "versions", "before", "after", "freed")
    return {"checkpoints": checkpoints, **{name: getattr(report, name) for name in names}}


def _lines(report: PruneReport) -> tuple[tuple[str, str], ...]:
    lines = [
        ("checkpoint", f"{one.ref}  revision {one.revision}  {one.time.isoformat(' ', 'seconds')}")
        for one in report.checkpoints[:_MAX_CHECKPOINTS]
    ]
    if (more := len(report.checkpoints) - _MAX_CHECKPOINTS) > 0:
        lines.append(("", f"… and {more:,} more"))
    lines.append(("history", f"{plural(report.revisions, 'revision')} less, kept back to revision {report.floor}"))
    lines.append(("versions", f"{report.versions:,}"))
    of = "" if report.before is None else f" of {in_bytes(report.before)}"
    lines.append(("space", f"about {in_bytes(report.freed or 0)}{of} would come back"))
    return tuple(lines)


def _about(context: Context, name: str, text: str) -> None:
    context.progress(text.about(name) if isinstance(text, ProgressMessage) else f"{name}: {text}")


def stats(context: Context, given: dict[str, Any]) -> Record | Table:
    """`stats`."""
    if given.get("all"):
        return _all(context)
    manager = context.manager
    found = _reading(context, lambda one: one.stats(progress=context.progress))
    return Record(data=_numbers(found), lines=_told(manager, found))


def _all(context: Context) -> Table:
    manager = context.manager
    columns = ("namespace", "keys", "bytes", "versions", "history", "checkpoints", "revision", "newest", "space")

    def rows() -> Iterator[tuple[Any, ...]]:
        for name in manager.namespaces():
            with context.open(context.options.get("store"), name, read_only=True) as one:
                found = one.stats(progress=partial(_about, context, name))
            data = _numbers(found)
            yield tuple(data[column] for column in columns)

    return Table(columns=columns, rows=rows(), empty=f"no namespaces in {manager.url}")


def _numbers(found: Stats) -> dict[str, Any]:
    data = {name: getattr(found, name) for name in found.__struct_fields__}
    for name in ("oldest", "newest"):
        data[name] = None if data[name] is None else data[name].isoformat()
    data["largest"] = [{"key": one.key, "size": one.size} for one in found.largest]
    data["growth"] = [
        {"start": one.start.isoformat(), "commits": one.commits, "keys": one.keys, "bytes": one.bytes}
        for one in found.growth
    ]
    return data


def _told(manager: StateManager, found: Stats) -> tuple[tuple[str, str], ...]:
    def moment(time: Any) -> str:
        return "never" if time is None else time.isoformat(" ", "seconds")

    oldest = "" if found.oldest is None else f"  {moment(found.oldest)}"
    takes = f"not known: {found.store} does not say" if found.space is None else in_bytes(found.space)
    lines = [
        ("store", found.store),
        ("namespace", found.namespace),
        ("revision", f"{found.revision:,}  {moment(found.newest)}"),
        ("keys", f"{found.keys:,}  {in_bytes(found.bytes)}"),
        ("history", f"{plural(found.versions, 'version')} besides  {in_bytes(found.history)}"),
        ("log", f"{plural(found.commits, 'commit')}, back to revision {found.floor:,}{oldest}"),
        ("checkpoints", f"{found.checkpoints:,}, of which {found.automatic:,} automatic; for safety {manager.safety}"),
        ("space", takes),
    ]
    for place, one in enumerate(found.largest):
        lines.append(("" if place else "largest", f"{in_bytes(one.size):>8}  {_cut(one.key)}"))
    shown = found.growth[-_GROWTH_PERIODS:]
    for place, part in enumerate(shown):
        start = part.start.strftime("%Y-%m-%d %H:00" if found.period == "hour" else "%Y-%m-%d")
        said = f"{start}  {plural(part.commits, 'commit')}, {plural(part.keys, 'key')}, {in_bytes(part.bytes)}"
        lines.append(("" if place else f"by the {found.period}", said))
    if len(found.growth) > _GROWTH_PERIODS:
        lines.append(("", f"… and {len(found.growth) - _GROWTH_PERIODS:,} earlier"))
    return tuple(lines)


def _cut(key: str) -> str:
    return key if len(key) <= _KEY_CHARACTERS else key[: _KEY_CHARACTERS - 1] + "…"
