"""Where a list of keys gets its rows: any part of a range of any length, read by key, without holding it."""

from __future__ import annotations

import os
import threading
import time
from bisect import bisect_left
from collections.abc import Callable
from itertools import accumulate
from typing import NamedTuple, Protocol

from ...backends.key_ranges import prefix_end
from ...backends.protocol import KeySummary, StateAt
from ...errors import StateException
from ...manager import StateManager
from ...states.view import Ref, resolve
from .key_filter import Filter

KEYS_PER_ANCHOR = 4096  # keys between two anchors
WORK_SECONDS = 0.05  # seconds of one piece of work in the background
REST_FACTOR = 14.0  # a piece that only corrects is followed by so many times its own length of rest
RECOUNTS_PER_READ = 8  # gaps that a read counts again itself, in about half a millisecond each
FIRST_PAGE_ROWS = 256  # rows of the page that is read before there is a screen

Order = str
ORDERS: tuple[Order, ...] = ("key", "newest", "oldest", "largest", "smallest")

Stop = Callable[[], bool]


class Page(NamedTuple):
    """Rows that follow each other: the index of the first, how many there are in all (None: not known yet).

    `place` is the index of the key that was asked for, or of what follows where it is gone. `version` is that of the
    source when it was read.
    """

    start: int
    rows: list[KeySummary]
    total: int | None
    place: int
    version: int


class KeySource(Protocol):
    """What a list of keys shows. Methods that read run on threads, and raise what the backend raises."""

    manager: StateManager
    at: Ref | None
    text: str
    order: Order
    version: int  # rises when pages that were read may not be right any more

    def page(self, start: int, limit: int) -> Page:
        """Rows from an index on; the last ones where it is beyond the end."""

    def page_around(self, key: str, above: int, below: int, rank: int | None = None) -> Page:
        """Rows around a key: some above it, and some from it on. `rank` is its index where that is known."""

    def invalidate(self, changed: list[str] | None) -> None:
        """Others may have written these keys, or any. Reads nothing."""

    def work(self, stop: Stop) -> float | None:
        """Do some work in the background. Returns the seconds to rest before there is more; None: there is no more."""

    def cancel(self) -> None:
        """Find no more than was found."""

    @property
    def is_searching(self) -> bool:
        """Whether there is a search that `halt` would end."""

    def status(self) -> list[str]:
        """Return what to know of it, in words, beside how many rows there are. Holds no stored text."""


def open_source(
    manager: StateManager, at: Ref | None = None, text: str = "", order: Order = "key", redact: tuple[str, ...] = ()
) -> KeySource:  # fmt: skip
    """Return what shows the keys that a filter finds, in an order. Reads nothing.

    Args:
        manager: of the namespace.
        at: the state; None is live.
        text: the filter as it is typed, see `Filter.parse`.
        order: one of `ORDERS`; fuzzy matches that are not sorted otherwise come best first.
        redact: globs; what they mask is not searched, as it could be guessed so.

    """
    sought = Filter.parse(text)
    if order == "key" and sought.ranged:
        return KeyRange(manager, at, sought.prefix, text)
    from .filtered_key_source import FilteredKeys

    return FilteredKeys(manager, at, text, order, redact=redact)


class RankIndex:
    """Where the keys of a long range lie: anchors far apart, and how many keys there are between two of them.

    A gap is known by its anchor `low`: it holds the keys above that, up to the next anchor. The size of the last may be
    None, not known. Sizes in `doubtful` are from before a change. Not safe for threads.
    """

    def __init__(self) -> None:
        self.lows = [""]
        self.sizes: list[int | None] = [None]
        self.whole = False  # whether there are anchors up to the end
        self.doubtful: set[str] = set()

    def index(self, key: str) -> int:
        """Which gap a key lies in. O(log gaps)."""
        return max(0, bisect_left(self.lows, key) - 1)

    def starts(self) -> list[int]:
        """Return the rank of the first key of each gap. O(gaps)."""
        return [0, *accumulate(size or 0 for size in self.sizes[:-1])]

    def total(self) -> int | None:
        """How many keys there are, if that is known."""
        last = self.sizes[-1]
        return None if last is None else self.starts()[-1] + last

    def doubt(self, changed: list[str] | None) -> None:
        """Keys, or any, were written: the sizes of their gaps may not be right."""
        if changed is None or len(changed) >= 64 * len(self.lows):
            self.doubtful.update(self.lows)
        else:
            self.doubtful.update(self.lows[self.index(key)] for key in changed)

    def high(self, low: str) -> str | None:
        """Return the anchor after a gap; None for the last gap, "" where there is no such gap any more."""
        index = bisect_left(self.lows, low)
        if index == len(self.lows) or self.lows[index] != low:
            return ""
        return self.lows[index + 1] if index + 1 < len(self.lows) else None

    def set(self, low: str, high: str | None, size: int) -> bool:
        """Return the size of a gap was counted.

        Left out where it has been divided since. Whether ranks have changed by it.
        """
        index = bisect_left(self.lows, low)
        if self.high(low) != high or self.sizes[index] == size:
            return False
        known, self.sizes[index] = self.sizes[index], size
        return known is not None  # none lies above the last gap, the one whose size was not known

    def divide(self, low: str, anchor: str, size: int) -> None:
        """Put an anchor into a gap, `size` keys above its beginning."""
        index = bisect_left(self.lows, low)
        rest = self.sizes[index]
        self.lows.insert(index + 1, anchor)
        self.sizes[index : index + 1] = [size, None if rest is None else max(0, rest - size)]


class KeyRange:
    """The keys with a prefix, in their order.

    Pages are read by key. Any rank is reached from an anchor at most 4,096 keys away; the anchors are found in the
    background by `learn`, and until then ranks are counted from the nearest end. What others write is counted again
    gap by gap: few gaps when a page is read, many in the background, at a tenth of one core at most. Redis knows the
    ranks of what is live itself. Memory: one key in 4,096.

    Args:
        manager: of the namespace.
        at: the state; None is live. It is looked up once, when first read.
        prefix: of the keys.
        text: the filter as it was typed, if not the prefix itself.

    """

    order: Order = "key"
    is_searching = False

    def __init__(self, manager: StateManager, at: Ref | None = None, prefix: str = "", text: str | None = None) -> None:
        self.manager = manager
        self.at = at
        self.prefix = prefix
        self.text = prefix if text is None else text
        self.version = 0
        self._end = prefix_end(prefix)
        self._point: StateAt | None = None
        self._gaps = RankIndex()
        self._rested = 0.0  # by `time.monotonic()`: no correcting before
        self._mutex = threading.Lock()

    # --- reading -----------------------------------------------------------------------------------------------

    def page(self, start: int, limit: int) -> Page:
        """See `KeySource.page`. O(log n + limit) where ranks are known, else O(distance to the nearest end) more."""
        version, total = self.version, self._total()
        if total is not None and start + limit >= total:
            rows = self._rows(limit=max(1, min(limit, total - start)), backwards=True)
            return self._told(total - len(rows), rows, total, version)
        low, skip = self._from(start)
        back = None if total is None else total - start - limit
        if back is not None and back < skip:
            rows = self._rows(limit=limit, skip=back, backwards=True)
        else:
            rows = self._rows(after=low, limit=limit, skip=skip)
        if not rows and start:  # fewer than was thought: the last ones
            rows = self._rows(limit=limit, backwards=True)
        if len(rows) < limit:
            total = start + len(rows) if total is None else total
            start = max(0, total - len(rows))
        return self._told(start, rows, total, version)

    def page_around(self, key: str, above: int, below: int, rank: int | None = None) -> Page:
        """See `KeySource.page_around`. O(log n + above + below); O(4,096 keys of the index) more without a rank."""
        version, total = self.version, self._total()
        up = self._rows(before=key, limit=max(1, above), backwards=True)
        down = self._rows(after=up[-1].key if up else "", limit=below)
        rows = up + down
        if len(up) < max(1, above):
            start = 0
        elif total is not None and len(down) < below:
            start = max(0, total - len(rows))
        else:
            start = max(0, (self.rank(key) if rank is None else rank) - len(up))
        if len(down) < below:
            total = start + len(rows)
        return self._told(start, rows, total, version, start + len(up))

    def rank(self, key: str) -> int:
        """How many keys of the range lie below a key. Exact, unless what others wrote is being counted in `learn`."""
        if self._ranked():
            return self._count(self.prefix, key)
        with self._mutex:
            index = self._gaps.index(key)
            low, start = self._gaps.lows[index], self._gaps.starts()[index]
        return start + self._count(low + "\0" if low else self.prefix, key)

    @property
    def total(self) -> int | None:
        """How many keys there are; None while that is not known. Reads."""
        return self._total()

    def _told(
        self, start: int, rows: list[KeySummary], total: int | None, version: int, place: int | None = None
    ) -> Page:
        if total is not None:
            total = max(total, start + len(rows))
        return Page(start, rows, total, start if place is None else place, version)

    def _state(self) -> StateAt | None:
        if self.at is not None and self._point is None:
            self._point = resolve(self.manager.backend, self.at)
        return self._point

    def _rows(
        self, after: str = "", before: str = "", limit: int = 1, skip: int = 0, backwards: bool = False
    ) -> list[KeySummary]:
        return self.manager.backend.list_keys(self.prefix, after, before, limit, self._state(), skip, backwards)

    def _count(self, low: str, high: str | None) -> int:
        return self.manager.backend.count(low, self._end if high is None else high, self._state())

    def _ranked(self) -> bool:
        """Whether the backend itself finds the rank of any key of the state."""
        return self.at is None and self.manager.backend.ranks_keys

    def _total(self) -> int | None:
        if self.at is None and (self._ranked() or not self.prefix):
            return self._count(self.prefix, None)
        with self._mutex:
            doubtful = list(self._gaps.doubtful)
        if len(doubtful) <= RECOUNTS_PER_READ:
            for low in doubtful:
                self._count_gap(low)
        with self._mutex:
            return self._gaps.total()

    def _from(self, rank: int) -> tuple[str, int]:
        """Return the anchor to begin at in order to come to a rank, and how many keys to pass over."""
        if self._ranked():
            return "", rank
        with self._mutex:
            starts = self._gaps.starts()
            index = max(0, bisect_left(starts, rank + 1) - 1)
            return self._gaps.lows[index], rank - starts[index]

    # --- learning ----------------------------------------------------------------------------------------------

    def invalidate(self, changed: list[str] | None) -> None:
        """See `KeySource.invalidate`. O(changes)."""
        if self.at is not None:
            return
        with self._mutex:
            self._gaps.doubt(changed)
        self.version += 1

    def work(self, stop: Stop) -> float | None:
        """See `KeySource.work`. O(keys of the index) once, and then O(4,096 keys) for each gap that was written to."""
        if self._ranked():
            return None
        started, correcting = time.monotonic(), self._gaps.whole
        if started < self._rested:
            return self._rested - started
        more = True
        while more and not stop():
            more = self._learn_one()
            if time.monotonic() - started >= WORK_SECONDS:
                break
        if correcting:
            self._rested = time.monotonic() + REST_FACTOR * (time.monotonic() - started)
        return max(0.0, self._rested - time.monotonic()) if more else None

    def _learn_one(self) -> bool:
        """Count or divide one gap; false where nothing is left to do."""
        gaps = self._gaps
        with self._mutex:
            doubtful = next(iter(gaps.doubtful), None)
            wide = next(
                (low for low, size in zip(gaps.lows, gaps.sizes, strict=True) if (size or 0) > 2 * KEYS_PER_ANCHOR),
                None,
            )
            whole, last = gaps.whole, gaps.lows[-1]
            counted = gaps.sizes[-1] is not None
        if not whole and not counted:
            self._count_gap(last)  # how many there are is wanted first: the scroll bar waits for it
        elif doubtful is not None:
            self._count_gap(doubtful)
        elif wide is not None:
            self._divide(wide)
        else:
            with self._mutex:
                gaps.whole = True
            return False
        return True

    def _count_gap(self, low: str) -> None:
        with self._mutex:
            self._gaps.doubtful.discard(low)  # before it is counted: what is written from now on is doubted anew
            high = self._gaps.high(low)
        if high == "":
            return
        try:
            size = self._count(low + "\0" if low else self.prefix, None if high is None else high + "\0")
        except (StateException, OSError):
            with self._mutex:
                self._gaps.doubtful.add(low)
            raise
        with self._mutex:
            self.version += self._gaps.set(low, high, size)

    def _divide(self, low: str) -> None:
        """Put an anchor into a gap that is wide."""
        found = self._rows(after=low, skip=KEYS_PER_ANCHOR - 1, limit=1)
        with self._mutex:
            high = self._gaps.high(low)
            if found and high != "" and (high is None or found[0].key < high):
                self._gaps.divide(low, found[0].key, KEYS_PER_ANCHOR)
            else:  # it has become smaller since it was counted
                self._gaps.doubtful.add(low)

    def cancel(self) -> None:
        """See `KeySource.cancel`: nothing is searched here."""

    def status(self) -> list[str]:
        return []


class Prefetch:
    """Begins to read the first page on a thread of its own, while there is nothing yet to show it on.

    Args:
        manager: of the namespace.
        at: the state; None is live.
        apart: in a process of its own, since the library of the backend takes long to import. There must be no other
            thread yet.

    """

    def __init__(self, manager: StateManager, at: Ref | None = None, *, apart: bool = False) -> None:
        self.source = KeyRange(manager, at)
        self._page: Page | None = None
        self._error: Exception | None = None
        self._ended = threading.Event()
        self._apart: Callable[[], Page | None] = lambda: None
        if apart and hasattr(os, "fork"):
            from .forked_read import read_in_fork

            self._apart = read_in_fork(self._first, Page)
        threading.Thread(target=self._read, name="prefetch", daemon=True).start()

    def _first(self) -> Page:
        return self.source.page(0, FIRST_PAGE_ROWS)

    def _read(self) -> None:
        try:
            self._page = self._apart() or self._first()
        except (StateException, OSError, ValueError) as error:
            self._error = error
        finally:
            self._ended.set()

    @property
    def ready(self) -> Page | None:
        """The page, if it has been read. Does not wait."""
        return self._page

    def page(self) -> Page:
        """Wait for the page.

        Raises:
            StateException, OSError, ValueError: it could not be read.

        """
        self._ended.wait()
        if self._error is not None:
            raise self._error
        assert self._page is not None, "either was read, or failed"
        return self._page
