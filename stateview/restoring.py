"""Restore, undo and redo: new commits whose content is that of an earlier state."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from . import comparison
from .backends.base import Backend, Batch, Head, NewMark, Point, Version, Write
from .backends.shared import conflict_base
from .comparison import Selection
from .diff import Diff
from .errors import Conflict, HistoryPruned, RefNotFound
from .model import Commit, to_datetime
from .view import resolve

DEADLINE = 30.0  # seconds of starting anew because others wrote meanwhile

Committer = Callable[[Batch], Head]


def restore(
    backend: Backend, ref: str | int, selection: Selection, dry_run: bool, expected: int | None, commit: Committer
) -> Diff:
    """See `StateManager.restore_checkpoint`."""
    target = resolve(backend, ref)
    deadline = time.monotonic() + DEADLINE
    number = 1
    while True:
        head = backend.head()
        if expected is not None and head.revision != expected:
            raise conflict_base(backend.namespace, expected, head.revision)
        live = Point(head.revision, backend.now())
        if selection.patterns is not None:
            comparison.require(selection, backend, live, target)
        labels = ("live", str(ref))
        if dry_run:
            return comparison.diff_points(backend, live, target, labels, selection)
        keys = filter(selection, comparison.changed_keys(backend, live, target))
        writes = plan(backend, keys, live, target)
        if not writes:
            return comparison.diff_points(backend, live, live, labels, selection)
        stamp = time.strftime("%Y%m%d_%H%M%S", time.gmtime())
        name = f"before_restore_{stamp}" + (f"_{number}" if number > 1 else "")
        reason = f"restore {ref}" + ("" if selection.patterns is None else f" --keys {' '.join(selection.patterns)}")
        mark = NewMark(name, f"made by {reason}", fresh=True)
        try:
            done = commit(Batch(writes, base=head.revision, reason=reason, marks=(mark,)))
        except Conflict:
            if time.monotonic() > deadline or (expected is not None and backend.head().revision != expected):
                raise
            number += any(known.name == name for known in backend.marks())
            from random import uniform

            time.sleep(uniform(0, 0.01))
            continue
        return _applied(backend, live, done, labels)


def plan(backend: Backend, keys: Iterable[str], live: Point, target: Point) -> dict[str, Write]:
    """The writes that give these keys the value, and the expiry, that they have in another state."""
    writes: dict[str, Write] = {}
    for key, old, new in comparison.pairs(backend, keys, live, target):
        if new is None or new.value is None:
            if old is not None:
                writes[key] = Write(None)
        elif old is None or not _alike(key, old, new):
            writes[key] = Write(new.value, new.expires - target.time if new.expires else 0)
    return writes


def _alike(key: str, old: Version, new: Version) -> bool:
    if old.revision == new.revision:
        return True
    return old.expires == new.expires and comparison.change(key, old, new) is None


def undo(backend: Backend, commit: Committer, expected: int | None) -> Diff:
    """See `StateManager.undo`."""
    head = backend.head()
    last = _commit_at(backend, head, head.revision)
    position = _position(last)
    if position <= 0:
        raise _nothing("undo", backend)
    before = position - 1
    if before < head.floor:
        raise HistoryPruned(f"what came before revision {position} is no longer kept", "See 'stateview checkpoints'")
    earlier = _position(_commit_at(backend, head, before)) if before > head.floor else before
    marks = (earlier, position, last.revision if last.forward else 0)
    return _go(backend, head, before, marks, f"undo {_title(backend, head, position)}", commit, expected)


def redo(backend: Backend, commit: Committer, expected: int | None) -> Diff:
    """See `StateManager.redo`."""
    head = backend.head()
    last = _commit_at(backend, head, head.revision) if head.revision > head.floor else Commit(0, to_datetime(0))
    if not last.forward:
        raise _nothing("redo", backend)
    if last.forward < head.floor:
        raise HistoryPruned(f"revision {last.forward} is no longer kept", "See 'stateview checkpoints'")
    behind = _commit_at(backend, head, last.behind) if last.behind > head.floor else None
    marks = (last.forward, behind.forward if behind else 0, behind.behind if behind else 0)
    reason = f"redo {_title(backend, head, last.forward)}"
    return _go(backend, head, last.forward, marks, reason, commit, expected)


def _go(
    backend: Backend, head: Head, revision: int, marks: tuple[int, int, int], reason: str, commit: Committer,
    expected: int | None,
) -> Diff:  # fmt: skip
    if expected is not None and head.revision != expected:
        raise conflict_base(backend.namespace, expected, head.revision)
    live, target = Point(head.revision, backend.now()), resolve(backend, revision, head)
    # Only what was written since is taken back: with equal times, `changed` leaves out what merely expired.
    low, high = sorted((Point(revision, 0), Point(head.revision, 0)), key=lambda point: point.revision)
    writes = plan(backend, backend.changed(low, high), live, target)
    if not writes:  # the commit changed nothing that is still there; a commit must say so, for the next undo
        key = next(iter(backend.changed(low, high)), None)
        if key is not None:
            writes = {key: _as_is(backend, key, live)}
    done = commit(Batch(writes, base=head.revision, reason=reason, undo=marks))
    return _applied(backend, live, done, ("live", str(revision)))


def _as_is(backend: Backend, key: str, live: Point) -> Write:
    found = backend.read([key], live).get(key)
    if found is None:
        return Write(None)
    return Write(found.value, found.expires - live.time if found.expires else 0)


def _applied(backend: Backend, live: Point, done: Head, labels: tuple[str, str]) -> Diff:
    after = Point(done.revision, live.time)
    return comparison.diff_points(backend, live, after, labels, Selection())


def _position(commit: Commit) -> int:
    """The revision whose content a commit brought back, 0 for the empty beginning; else its own."""
    return commit.position if commit.position or commit.forward else commit.revision


def _commit_at(backend: Backend, head: Head, revision: int) -> Commit:
    if revision <= 0:
        raise _nothing("undo", backend)
    found = backend.commits(1, revision + 1)
    if not found or found[0].revision != revision:
        raise HistoryPruned(
            f"commit {revision} is no longer kept", f"The history reaches back to revision {head.floor}"
        )
    return found[0]


def _title(backend: Backend, head: Head, revision: int) -> str:
    commit = _commit_at(backend, head, revision)
    return f"{revision}: {commit.reason}"[:200]


def _nothing(act: str, backend: Backend) -> RefNotFound:
    return RefNotFound(f"there is nothing to {act} in namespace {backend.namespace!r}", "See 'stateview log'")
