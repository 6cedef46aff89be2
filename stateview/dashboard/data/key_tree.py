"""The keys of a namespace as a tree by segment: folded groups are passed over without reading what they hold."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import islice

from ...backends.key_ranges import prefix_end
from ...backends.protocol import KeySummary, StateAt
from ...manager import StateManager
from ...states.view import Ref, resolve
from .key_source import COUNT_SECONDS, Order, Page, Stop, WorkPace

SEPARATORS = ":/"  # each ends a segment of a key, and belongs to it
ROWS_PER_ANCHOR = 512  # rows from one anchor to the next
_FEW, _MANY = 4, 512  # keys of one read: few before a group that may be passed over, many among keys without groups
_ABOVE_ALL = "\U0010ffff"


class KeyGroup(KeySummary, frozen=True):
    """A row for all keys that start with `key`, which ends in a separator.

    Attributes:
        count: the number of these keys; None while they are not counted.
        is_open: whether they are listed below.

    """

    count: int | None = None
    is_open: bool = False


class Place:
    """A key, or a group, seen from the open groups: how deep it stands, and what of its name is shown."""

    def __init__(self, key: str, opened: frozenset[str]) -> None:
        self.opened: list[str] = []  # the open groups that hold it, the outermost first
        self.group = ""  # the folded group that holds it
        for end in _segment_ends(key):
            if key[:end] not in opened:
                self.group = key[:end]
                break
            self.opened.append(key[:end])


def _segment_ends(key: str) -> Iterator[int]:
    return (at + 1 for at, sign in enumerate(key) if sign in SEPARATORS)


def groups_of(key: str) -> list[str]:
    """Return all groups that hold a key, the outermost first."""
    return [key[:end] for end in _segment_ends(key)]


class KeyTree:
    """The rows of a tree of keys.

    A row is a key, or a group: open with its rows below, or folded. The rows come in key order. A group of a single
    key is shown as that key. Pages are read from anchors, as in `KeyRange`: every 512th row. A folded group costs one
    read of a few keys, whatever it holds. Its keys are counted in the background, once its row has been read.

    Args:
        manager: of the namespace.
        at: the state; None is live.
        opened: the open groups.
        earlier: the tree of the same state with other open groups, to keep what it knows.

    """

    order: Order = "key"
    text = ""
    is_searching = False

    def __init__(
        self, manager: StateManager, at: Ref | None = None, opened: Iterable[str] = (), earlier: KeyTree | None = None
    ) -> None:
        self.manager = manager
        self.at = at
        self.opened = frozenset(opened)
        self.version = 0
        self._point: StateAt | None = None
        self._anchors: list[str] = []  # the keys of the rows 511, 1023, … as last found
        self._counted: int | None = None  # the number of rows as last found
        self._next_anchors: list[str] | None = []  # those of the pass under way; None: no pass is needed
        self._counts: dict[str, int] = {}  # of the groups
        self._uncounted: list[str] = []  # groups of the last page whose keys are to be counted
        self._mutex = threading.Lock()
        self._pace = WorkPace(COUNT_SECONDS)
        if earlier is not None and (earlier.manager, earlier.at) == (manager, at):
            self._point, self._counts = earlier._point, dict(earlier._counts)
            changed = min(earlier.opened ^ self.opened, default="")
            self._anchors = earlier._anchors[: bisect_left(earlier._anchors, changed)]
            self._next_anchors = list(self._anchors)

    # --- rows --------------------------------------------------------------------------------------------------

    def page(self, start: int, limit: int) -> Page:
        """O(limit + 512) rows. Beyond the anchors found so far, O(rows up to `start`)."""
        version, total = self.version, self._counted
        if total is not None:
            start = max(0, min(start, total - limit))
        with self._mutex:
            index = min(start // ROWS_PER_ANCHOR, len(self._anchors))
            anchor = self._anchors[index - 1] if index else ""
        skip = start - index * ROWS_PER_ANCHOR
        rows = list(islice(self._walk(anchor), skip + limit))
        if len(rows) < skip + limit:
            total = index * ROWS_PER_ANCHOR + len(rows)
            skip = max(0, len(rows) - limit)
            start = index * ROWS_PER_ANCHOR + skip
        return self._page(start, rows[skip:], total, start, version)

    def page_around(self, key: str, above: int, below: int, rank: int | None = None) -> Page:  # noqa: ARG002
        """O(above + below + 512) rows. A key in a folded group stands where the group does."""
        version = self.version
        with self._mutex:
            index = bisect_left(self._anchors, key)
            index = max(0, index - above // ROWS_PER_ANCHOR - 1)
            anchor = self._anchors[index - 1] if index else ""
        rows: list[KeySummary] = []
        place = None
        for row in self._walk(anchor):
            holds = isinstance(row, KeyGroup) and not row.is_open and key.startswith(row.key)
            if place is None and (row.key >= key or holds):
                place = len(rows)
            if place is not None and len(rows) >= place + below:
                break
            rows.append(row)
        else:
            self._ends_at(index * ROWS_PER_ANCHOR + len(rows))
        place = len(rows) if place is None else place
        first = max(0, place - max(1, above))
        start = index * ROWS_PER_ANCHOR
        return self._page(start + first, rows[first:], self._counted, start + place, version)

    def _ends_at(self, total: int) -> None:
        if self._counted is None:
            self._counted = total

    def _page(self, start: int, rows: list[KeySummary], total: int | None, place: int, version: int) -> Page:
        groups = [row.key for row in rows if isinstance(row, KeyGroup)]
        with self._mutex:
            self._uncounted = [group for group in groups if group not in self._counts]
        counted = [self._with_count(row) if isinstance(row, KeyGroup) else row for row in rows]
        return Page(start, counted, None if total is None else max(total, start + len(rows)), place, version)

    def _with_count(self, group: KeyGroup) -> KeyGroup:
        count = self._counts.get(group.key)
        return group if count is None else _group(group.key, group.is_open, count)

    def _walk(self, after: str) -> Iterator[KeySummary]:
        """Yield the rows after the row of a key or group; "" yields all. One read passes over a folded group."""
        before, low, limit = after, self._bound(after), 64
        while keys := self._read(low, limit):
            names, more = [row.key for row in keys], len(keys) == limit
            low, limit = names[-1], min(_MANY, 4 * limit)
            index = 0
            while index < len(keys):
                row = keys[index]
                place = Place(row.key, self.opened)
                for group in place.opened:
                    if not before.startswith(group):
                        yield _group(group, True)
                before, end = row.key, index + 1
                if not place.group:
                    yield row
                else:
                    end = bisect_left(names, prefix_end(place.group), index)
                    at_end = more and end == len(keys)
                    if end == index + 1 and not (at_end and self._goes_on(place.group, row.key)):
                        yield row
                    else:
                        before = place.group
                        yield _group(place.group, False)
                        if at_end:
                            low, limit = self._bound(place.group), _FEW
                index = end
            if not more:
                return

    def _bound(self, after: str) -> str:
        """Return the key after which the next row after the row of a key or group begins."""
        if not after or after[-1] not in SEPARATORS:
            return after
        if after in self.opened:  # the key of the very name of an open group stands below its row
            return after[:-1] + chr(ord(after[-1]) - 1) + _ABOVE_ALL
        return after + _ABOVE_ALL

    def _read(self, after: str, limit: int) -> list[KeySummary]:
        return self.manager.backend.list_keys("", after, "", limit, self._state())

    def _goes_on(self, group: str, key: str) -> bool:
        return bool(self.manager.backend.list_keys(group, key, "", 1, self._state()))

    def _state(self) -> StateAt | None:
        if self.at is not None and self._point is None:
            self._point = resolve(self.manager.backend, self.at)
        return self._point

    # --- background work ---------------------------------------------------------------------------------------

    def invalidate(self, changed: list[str] | None) -> None:
        """O(changes)."""
        if self.at is not None:
            return
        with self._mutex:
            if changed is None:
                self._counts.clear()
            for key in changed or ():
                for group in groups_of(key):
                    self._counts.pop(group, None)
            lowest = min(changed, default=None) if changed is not None else ""
            if lowest is not None:
                known = self._anchors if self._next_anchors is None else self._next_anchors
                self._next_anchors = known[: bisect_left(known, lowest)]
        self.version += 1

    def work(self, stop: Stop) -> float | None:
        """Count the groups of the last page, then the rows. O(keys of these groups), then O(rows)."""
        return self._pace.run(self._step, stop, correcting=self._counted is not None)

    def _step(self) -> bool:
        with self._mutex:
            group = self._uncounted.pop() if self._uncounted else None
            anchors = None if self._next_anchors is None else list(self._next_anchors)
        if group is not None:
            count = self.manager.backend.count(group, prefix_end(group), self._state())
            with self._mutex:
                self._counts[group] = count
                self.version += not self._uncounted  # shown together
            return True
        if anchors is None:
            return False
        last = anchors[-1] if anchors else ""
        rows = list(islice(self._walk(last), ROWS_PER_ANCHOR))
        with self._mutex:
            if self._next_anchors != anchors:
                return True  # others have written meanwhile: the pass goes on from before
            if len(rows) == ROWS_PER_ANCHOR:
                self._next_anchors.append(rows[-1].key)
                return True
            total = len(anchors) * ROWS_PER_ANCHOR + len(rows)
            self.version += (anchors, total) != (self._anchors, self._counted)
            self._anchors, self._counted, self._next_anchors = anchors, total, None
        return bool(self._uncounted)

    def cancel(self) -> None:
        """Do nothing: a tree is not searched."""

    def status(self) -> list[str]:
        """Say how many keys the rows stand for."""
        return ["tree, . lists all"]


def _group(key: str, is_open: bool, count: int | None = None) -> KeyGroup:
    return KeyGroup(key, 0, b"", 0, 0, count=count, is_open=is_open)
