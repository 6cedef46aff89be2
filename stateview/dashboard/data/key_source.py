"""Sources of the rows in a list of keys. A source reads pages on demand and never holds all keys."""

from __future__ import annotations

import os
import threading
import time
from bisect import bisect_left
from collections.abc import Callable
from typing import NamedTuple, Protocol

from ...backends.key_ranges import prefix_end
from ...backends.protocol import KeySummary, StateAt
from ...errors import StateException, hint_text
from ...manager import StateManager
from ...states.missing import near_hint
from ...states.view import Ref, resolve
from .key_filter import Filter
from .rests import Rests

KEYS_PER_ANCHOR = 4096  # keys from one anchor to the next
COUNT_SECONDS = 0.5  # seconds of one piece of counting. A pass over a million keys takes half of it.
REST_FACTOR = 14.0  # a piece that corrects earlier results is followed by a rest of this many times its length
FIRST_PAGE_ROWS = 256  # rows of the page that is read before there is a screen

Order = str
ORDERS: tuple[Order, ...] = ("key", "newest", "oldest", "largest", "smallest")

Stop = Callable[[], bool]


class Page(NamedTuple):
    """Consecutive rows of a list of keys.

    Attributes:
        start: the index of the first row in the list.
        rows: the rows.
        total: the number of rows in the list; None while it is not known.
        place: the index of the requested key, or of the next key if the list does not have it.
        version: the source's version when it read the page.

    """

    start: int
    rows: list[KeySummary]
    total: int | None
    place: int
    version: int


class KeySource(Protocol):
    """The rows of one list of keys. Methods that read run on threads, and raise what the backend raises."""

    manager: StateManager
    at: Ref | None
    text: str
    order: Order

    @property
    def version(self) -> int:
        """A number that rises when pages that were read may no longer be right."""

    def page(self, start: int, limit: int) -> Page:
        """Return the rows from index `start`, or the last rows if the list is shorter."""

    def page_around(self, key: str, above: int, below: int, rank: int | None = None) -> Page:
        """Return `above` rows before a key, and `below` rows from the key on. `rank` is the key's index, if known."""

    def invalidate(self, changed: list[str] | None) -> None:
        """Note that other processes may have written these keys; None for any key. Reads nothing."""

    def work(self, stop: Stop) -> float | None:
        """Do a piece of background work. Returns the seconds until the next piece; None if no work is left."""

    def cancel(self) -> None:
        """End the search. The rows found so far stay."""

    @property
    def is_searching(self) -> bool:
        """Whether a search is under way that `cancel` would end."""

    def status(self) -> list[str]:
        """Return remarks for the status line. They hold no stored text."""


def cut_off(manager: StateManager) -> str:
    """Say what the last reads left out, see `TellsWhatIsCutOff`. It may open the backend, so call it on a thread."""
    find = getattr(manager.backend, "cut_off", None)
    return "" if find is None else find()


def similar_namespaces(source: KeySource, page: Page) -> str:
    """Ask whether another namespace was meant, if that of an empty list was never written. Call it on a thread."""
    manager = source.manager
    if page.total != 0 or source.text or source.at is not None or manager.head().lineage:
        return ""
    return hint_text(near_hint(manager.namespace, manager.namespaces, "")())


def open_source(
    manager: StateManager, at: Ref | None = None, text: str = "", order: Order = "key", redact: tuple[str, ...] = ()
) -> KeySource:  # fmt: skip
    """Return the source of the keys that match a filter. Reads nothing.

    Args:
        manager: of the namespace.
        at: the state; None is live.
        text: the filter as typed, see `Filter.parse`.
        order: one of `ORDERS`. In the order "key", the matches of a word are sorted by rank.
        redact: globs. Masked values are not searched, because a search would let a user guess them.

    """
    key_filter = Filter.parse(text)
    if order == "key" and key_filter.ranged:
        return KeyRange(manager, at, key_filter.prefix, text)
    if order == "key" and key_filter.kind == "word":
        from .filters.ranked_keys import RankedKeys

        return RankedKeys(manager, at, text, redact)
    from .filtered_key_source import FilteredKeys

    return FilteredKeys(manager, at, text, order, redact=redact)


class WorkPace:
    """Divides background work into pieces, and rests after each piece that corrects earlier results.

    The rest bounds the load while other processes keep writing: corrections take a tenth of a core at most.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds  # of one piece
        self.rest_until = 0.0  # by `time.monotonic()`
        self._rests = Rests(REST_FACTOR, seconds)

    def run(self, step: Callable[[], bool], stop: Stop, *, correcting: bool) -> float | None:
        """Repeat a step for one piece. Returns what `KeySource.work` returns.

        Args:
            step: returns whether more work is left.
            stop: whether to end early.
            correcting: whether the work corrects earlier results.

        """
        started = time.monotonic()
        if started < self.rest_until:
            return self.rest_until - started
        more = True
        while more and not stop():
            more = step()
            if time.monotonic() - started >= self.seconds:
                break
        ended = time.monotonic()
        if correcting:
            self.rest_until = ended + self._rests.after(ended - started)
        return max(0.0, self.rest_until - ended) if more else None


class KeyRange:
    """The keys with a prefix, in key order.

    Pages are read by key. To turn an index into a key and back, `work` finds anchors: every 4,096th key. Until the
    anchors are known, an index costs O(keys before it). After a write the anchors from the lowest written key on are
    found again in the background. Until then an index or the total can be off by the number of keys written or
    deleted. Redis ranks live keys itself and needs no anchors. Memory: one key in 4,096.

    Args:
        manager: of the namespace.
        at: the state; None is live. The ref is resolved once, at the first read.
        prefix: of the keys.
        text: the filter as typed, if it is not the prefix itself.

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
        self._anchors: list[str] = []  # the keys with the ranks 4095, 8191, … as last found
        self._counted: int | None = None  # the number of keys as last counted
        self._next_anchors: list[str] | None = None  # the anchors that the present pass has found
        self._lowest_written: str | None = ""  # the lowest key written since the present pass began
        self._mutex = threading.Lock()
        self._pace = WorkPace(COUNT_SECONDS)

    # --- reading -----------------------------------------------------------------------------------------------

    def page(self, start: int, limit: int) -> Page:
        """O(log n + limit), and O(4,096 keys of the index) more without ranks."""
        version, total = self.version, self._total()
        if total is not None and start + limit >= total:
            rows = self._rows(limit=max(1, min(limit, total - start)), backwards=True)
            return self._page(total - len(rows), rows, total, version)
        anchor, skip = self._anchor_before(start)
        rows = self._rows(after=anchor, limit=limit, skip=skip)
        if not rows and start:  # the list is shorter than `start`
            rows = self._rows(limit=limit, backwards=True)
        if len(rows) < limit:
            total = start + len(rows) if total is None else total
            start = max(0, total - len(rows))
        return self._page(start, rows, total, version)

    def page_around(self, key: str, above: int, below: int, rank: int | None = None) -> Page:
        """O(log n + above + below), and O(4,096 keys of the index) more without `rank`."""
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
        return self._page(start, rows, total, version, start + len(up))

    def rank(self, key: str) -> int:
        """Return the number of keys of the range below a key. Not exact while `work` follows what others wrote."""
        if self._ranked():
            return self._count(self.prefix, key)
        with self._mutex:
            index = bisect_left(self._anchors, key)
            anchor = self._anchors[index - 1] if index else ""
        return index * KEYS_PER_ANCHOR + self._count(anchor + "\0" if anchor else self.prefix, key)

    @property
    def total(self) -> int | None:
        """The number of keys; None while it is not known. Reads."""
        return self._total()

    def _page(
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
        """Whether the backend itself ranks the keys of the state."""
        return self.at is None and self.manager.backend.ranks_keys

    def _total(self) -> int | None:
        if self.at is None and (self._ranked() or not self.prefix):
            return self._count(self.prefix, None)
        return self._counted

    def _anchor_before(self, rank: int) -> tuple[str, int]:
        """Return the last anchor before a rank, and the number of keys between the two."""
        if self._ranked():
            return "", rank
        with self._mutex:
            index = min(rank // KEYS_PER_ANCHOR, len(self._anchors))
            return self._anchors[index - 1] if index else "", rank - index * KEYS_PER_ANCHOR

    # --- background work ---------------------------------------------------------------------------------------

    def invalidate(self, changed: list[str] | None) -> None:
        """O(changes)."""
        if self.at is not None:
            return
        lowest = min(changed, default=None) if changed is not None else ""
        with self._mutex:
            if lowest is not None and (self._lowest_written is None or lowest < self._lowest_written):
                self._lowest_written = lowest
        self.version += 1

    def work(self, stop: Stop) -> float | None:
        """O(keys of the index above the lowest written key)."""
        if self._ranked():
            return None
        return self._pace.run(self._find_anchor, stop, correcting=self._counted is not None)

    def _find_anchor(self) -> bool:
        """Find the next anchor of a pass. Returns False if nobody has written since the last pass began.

        A write below the found anchors does not restart the pass, or a busy writer would keep it from ever ending.
        """
        with self._mutex:
            if self._next_anchors is None:
                if self._lowest_written is None:
                    return False
                self._next_anchors = self._anchors[: bisect_left(self._anchors, self._lowest_written)]
                self._lowest_written = None
        anchors = self._next_anchors
        last = anchors[-1] if anchors else ""
        if rows := self._rows(after=last, skip=KEYS_PER_ANCHOR - 1):
            anchors.append(rows[0].key)
            return True
        counted = len(anchors) * KEYS_PER_ANCHOR + self._count(last + "\0" if last else self.prefix, None)
        with self._mutex:
            if self._counted is not None and (anchors, counted) != (self._anchors, self._counted):
                self.version += 1
            self._anchors, self._counted, self._next_anchors = anchors, counted, None
        return True

    def cancel(self) -> None:
        """Do nothing: a range is not searched."""

    def status(self) -> list[str]:
        return []


class Prefetch:
    """Reads the first page in the background, before there is a screen to show it.

    Args:
        manager: of the namespace.
        at: the state; None is live.
        fork: read in a forked process, see `read_in_fork`. No other thread may run yet.

    """

    def __init__(self, manager: StateManager, at: Ref | None = None, *, fork: bool = False) -> None:
        self.source = KeyRange(manager, at)
        self.cut_off = ""  # see `cut_off`
        self._page: Page | None = None
        self._error: Exception | None = None
        self._ended = threading.Event()
        self._forked: Callable[[], Page | None] | None = None
        if fork and hasattr(os, "fork"):
            from .forked_read import read_in_fork

            self._forked = read_in_fork(self._read, Page)
        threading.Thread(target=self._run, name="prefetch", daemon=True).start()

    def _read(self) -> Page:
        return self.source.page(0, FIRST_PAGE_ROWS)

    def _run(self) -> None:
        try:
            page = self._forked() if self._forked is not None else None
            if page is None:
                page = self._read()
                self.cut_off = cut_off(self.source.manager)
            self._page = page
        except (StateException, OSError, ValueError) as error:
            self._error = error
        finally:
            self._ended.set()

    @property
    def ready(self) -> Page | None:
        """The page; None until it has been read."""
        return self._page

    def page(self) -> Page:
        """Wait for the page.

        Raises:
            StateException, OSError, ValueError: the page could not be read.

        """
        self._ended.wait()
        if self._error is not None:
            raise self._error
        assert self._page is not None, "the thread sets the page or the error"
        return self._page
