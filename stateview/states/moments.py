"""Find the state of a time: the newest revision whose commit is not after it. Commit times rise with revisions."""

from __future__ import annotations

from bisect import bisect_right
from contextlib import suppress
from datetime import datetime, timedelta

from ..arguments import MAX_INTEGER
from ..backends.protocol import Backend, Head, StateAt
from ..errors import HistoryPruned, InvalidArgument, InvalidName, RefNotFound
from ..model import format_time, to_micros
from ..refs import TIMES, local_micros, parse_age, parse_moment, parse_ref
from .view import find_mark, resolve

Ref = str | int
Moment = Ref | datetime | timedelta

_END = MAX_INTEGER - 1  # above every revision and every time


def state_of_time(backend: Backend, text: str, head: Head | None = None) -> StateAt:
    """Return the state of a time, by which it also judges expiry. O(log n) reads.

    Args:
        backend: the namespace.
        text: a time, as `parse_moment` takes it.
        head: its head, if that is known.

    Raises:
        RefNotFound: the time is in the future.
        HistoryPruned: the state is no longer kept.

    """
    head, now = head or backend.head(), backend.now()
    moment = parse_moment(text, now)
    if moment > max(now, head.time):  # a clock that was set back is behind the last commit
        what = f"@{text[:60]} is in the future: the clock of {backend.url} shows {format_time(now)}"
        raise RefNotFound(what, f"Give a time that has passed, such as {TIMES}")
    revision = revision_of(backend, moment, head)
    if revision is None:
        raise _pruned(backend, text)
    return StateAt(revision, max(0, min(moment, now)))


def revision_of(backend: Backend, moment: int, head: Head | None = None) -> int | None:
    """Return the newest revision whose commit is not after a time; None if it is no longer kept. O(log n) reads."""
    head = head or backend.head()
    while True:
        revision = _search(backend, moment, head)
        present = backend.head()
        if present.floor in (0, head.floor) or (revision or 0) > present.floor:
            return revision
        head = present  # commits were pruned during the search


def _search(backend: Backend, moment: int, head: Head) -> int | None:
    if moment >= head.time:
        return head.revision
    revision = head.floor + bisect_right(
        range(head.floor + 1, head.revision + 1), moment, key=lambda number: _time_of(backend, number)
    )
    if revision > head.floor or not head.floor:
        return revision
    # The commit of the floor itself may be gone. Then its time is not known
    return revision if 0 <= _time_of(backend, revision) <= moment else None


def _time_of(backend: Backend, revision: int) -> int:
    """Return the time of the newest kept commit up to a revision; -1 if there is none."""
    commits = backend.commits(1, revision + 1)
    return to_micros(commits[0].time) if commits else -1


def _pruned(backend: Backend, text: str) -> HistoryPruned:
    head = backend.head()
    after = backend.commits(1, head.floor + 2)
    first = format_time(to_micros(after[0].time) if after else head.time)
    return HistoryPruned(
        f"the state at @{text[:60]} of namespace {backend.namespace!r} is no longer kept",
        f"All states from @{first} on are kept; older ones are kept where a checkpoint names them",
    )


def pinned(backend: Backend, ref: Ref) -> Ref:
    """Return a ref that means the same state later: of a time such as `@2h`, the time that it means now."""
    parsed = parse_ref(ref)
    if not parsed.time:
        return ref
    moment = max(0, parse_moment(parsed.time, backend.now()))
    return f"@{format_time(moment)}{f'~{parsed.back}' if parsed.back else ''}"


def bounds(backend: Backend, since: Moment | None, until: Moment | None) -> tuple[StateAt, StateAt]:
    """Resolve the boundaries of `log` and `history`: only what comes after the first revision, and up to the second.

    Where the revision of a time is no longer kept, the times of the result are the boundaries. O(log n) reads.

    Args:
        backend: the namespace.
        since: a ref; a time in its grammar, with or without `@`; or a datetime or timedelta. A checkpoint's name comes
            before a time of the same spelling. None: the beginning.
        until: the same. None: no end.

    Raises:
        RefNotFound: it is none of these.
        InvalidArgument: it is not even spelled like one, or is an age below zero.

    """
    after = _boundary(backend, since, False) if since is not None else StateAt(0, 0)
    return after, _boundary(backend, until, True) if until is not None else StateAt(_END, _END)


def _boundary(backend: Backend, moment: Moment, is_end: bool) -> StateAt:
    time = _time_meant(backend, moment)
    always = _END if is_end else 0
    if time is None:
        return StateAt(resolve(backend, moment).revision, always)  # type: ignore[arg-type]
    head = backend.head()
    revision = revision_of(backend, time if is_end else time - 1, head)  # a commit of this very time is within
    if revision is None:
        return StateAt(head.floor if is_end else 0, time)
    return StateAt(revision, always)


def _time_meant(backend: Backend, moment: Moment) -> int | None:
    """Return the time that is meant, in microseconds; None for a ref that is no time."""
    try:
        if isinstance(moment, timedelta):
            return backend.now() - parse_age(moment)
        if isinstance(moment, datetime):
            return local_micros(moment)
    except ValueError as error:
        raise InvalidArgument(str(error)) from error
    if isinstance(moment, str) and (moment.startswith("@") or not _is_known_ref(backend, moment)):
        with suppress(ValueError):
            return parse_moment(moment.removeprefix("@"), backend.now())
    return None


def _is_known_ref(backend: Backend, text: str) -> bool:
    try:
        parsed = parse_ref(text)
    except InvalidName:
        return False
    return parsed.name is None or find_mark(backend, parsed.name, parsed.revision) is not None
