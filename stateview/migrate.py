"""Copying a namespace into another store, and comparing what came out."""

from __future__ import annotations

from .backends.base import Batch, NewMark, Point, Write
from .comparison import Selection, diff_stores, entries, pairs
from .errors import Conflict, KeyNotFound, StateException
from .manager import FORK_PAGE, StateManager
from .view import resolve


def migrate(source: StateManager, target: StateManager, *, dry_run: bool = False) -> int:
    """Copy the live state and every checkpoint of a namespace, compare, and return the number of checkpoints.

    Revisions are counted anew: each checkpoint's state and the live one become a commit. O(keys + changes between
    checkpoints).

    Raises:
        KeyNotFound: there is nothing to copy.
        Conflict: the destination holds something already, or the source was written meanwhile.
        StateException: what was read back differs; the destination is dropped again.

    """
    one, other = source.backend, target.backend
    head = one.head()
    if not head.lineage:
        raise KeyNotFound(f"there is no namespace {source.namespace!r} in {source.url}", "See 'stateview namespaces'")
    there = other.head()
    if there.lineage:
        raise Conflict(
            f"{target.url} has a namespace {target.namespace!r} already: {there.count} keys, revision {there.revision}",
            "Give a store in which it is new",
        )
    marks = sorted(one.marks(), key=lambda mark: mark.revision)
    if dry_run:
        return len(marks)
    states = [*(Point(mark.revision, mark.time) for mark in marks), resolve(one, head.revision, head)]
    placed: list[int] = []
    try:
        before: Point | None = None
        for position, point in enumerate(states):
            _copy(source, target, before, point)
            if position < len(marks):
                mark = marks[position]
                target._commit(Batch(marks=(NewMark(mark.name, mark.note, None, mark.time),)))
            placed.append(other.head().revision)
            before = point
        for point, revision in zip(states, placed, strict=True):
            copied = (other, Point(revision, point.time))
            if diff_stores((one, point), copied, ("", ""), Selection()):
                raise StateException(
                    f"what was read back from {target.url} differs", "Nothing is kept there; try again"
                )
        if one.head().revision != head.revision:
            raise Conflict(f"namespace {source.namespace!r} was written meanwhile", "Stop its writers, and try again")
    except BaseException:
        other.drop()
        raise
    return len(marks)


def _copy(source: StateManager, target: StateManager, before: Point | None, point: Point) -> None:
    """Commit what makes the destination hold a state, given that it holds the one before."""
    one = source.backend
    writes: dict[str, Write] = {}

    def flush() -> None:
        if writes:
            target._commit(Batch(dict(writes), reason=f"migrated revision {point.revision} from {source.url}"))
            writes.clear()

    paged = target.backend.kind != "json"  # a commit of JSON files rewrites them all
    if before is None:
        for version in entries(one, point):
            writes[version.key] = Write(
                version.value, version.expires - point.time if version.expires else 0, version.time
            )
            if paged and len(writes) == FORK_PAGE:
                flush()
    else:
        for key, old, new in pairs(one, one.changed(before, point), before, point):
            if new is not None and (old is None or old.revision != new.revision):
                writes[key] = Write(new.value, new.expires - point.time if new.expires else 0, new.time)
            elif new is None and old is not None:
                writes[key] = Write(None)
            if paged and len(writes) == FORK_PAGE:
                flush()
    flush()
