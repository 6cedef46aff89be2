"""Keys that do not lie together: what a filter finds, and what is sorted by time or size; found while one looks."""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from operator import itemgetter
from typing import Any

from ... import codec
from ...backends.protocol import SUMMARY_BYTES, KeySummary, StateAt, Version
from ...cli.commands.search import iter_scalars, leaf_text, make_matcher
from ...errors import Damaged
from ...manager import StateManager
from ...states.view import Ref, resolve
from ..display.redaction import is_redacted, without_masked
from .key_filter import Filter, score
from .key_source import REST_FACTOR, WORK_SECONDS, Order, Page, Stop

MAX_ROWS = 10_000  # rows that are held
KEYS_PER_PAGE = 1000  # keys read at once
BATCH_BYTES = 4_000_000  # bytes of values read at once
MAX_PENDING_KEYS = 20_000  # changed keys that are looked at one by one; after more everything is searched again
MAX_GONE_KEYS = 1000  # keys that went, whose places are remembered

SortKey = tuple[Any, ...]  # what rows are sorted by; no two rows have the same
_first = itemgetter(0)


def _by(order: Order, needle: str | None) -> Callable[[KeySummary], SortKey]:
    """Return what puts rows into an order; fuzzy matches into that of their quality where no other is asked for."""
    orders: dict[Order, Callable[[KeySummary], SortKey]] = {
        "newest": lambda row: (-row.time, -row.revision, row.key),
        "oldest": lambda row: (row.time, row.revision, row.key),
        "largest": lambda row: (-row.size, row.key),
        "smallest": lambda row: (row.size, row.key),
    }
    if order == "key":
        return (lambda row: (row.key,)) if needle is None else lambda row: (-score(needle, row.key), row.key)
    return orders[order]


class _Matches:
    """The first rows of all that were found, in their order, while keys are passed one after the other."""

    def __init__(self, by: Callable[[KeySummary], SortKey], limit: int) -> None:
        self.by = by
        self.limit = limit
        self.entries: list[tuple[SortKey, KeySummary]] = []
        self.places: dict[str, SortKey] = {}
        self.gone: dict[str, SortKey] = {}  # the latest at the end
        self.count = 0  # of all that was found, held or not
        self.bound: SortKey | None = None  # rows from here on are not all held
        self.after = ""  # the last key that was passed
        self.seen = 0  # keys passed
        self.sure = True  # whether the count is exact
        self.ended = False

    def add(self, rows: Iterable[KeySummary]) -> None:
        """Take rows in that are new. O(rows held), of few rows O(log) and a move in memory."""
        new = [(self.by(row), row) for row in rows]
        self.count += len(new)
        if self.bound is not None:
            new = [one for one in new if one[0] < self.bound]
        if not new:
            return
        self.entries += new
        self.entries.sort(key=_first)  # two runs, nearly: linear
        self.places.update((row.key, place) for place, row in new)
        if len(self.entries) > self.limit:
            for _, row in self.entries[self.limit :]:
                del self.places[row.key]
            self.bound = self.entries[self.limit][0]
            del self.entries[self.limit :]

    def change(self, key: str, row: KeySummary | None) -> None:
        """Return the row of a written key: its row as it is now, or None where it is not to be found any more.

        O(log n).
        """
        place = self.places.pop(key, None)
        if place is not None:
            del self.entries[self.index(place)]
            self.count -= 1
            self.gone[key] = place
            if len(self.gone) > MAX_GONE_KEYS:
                del self.gone[next(iter(self.gone))]
        elif self.bound is not None:
            self.sure = False  # it may have been counted, or not
            self.count -= row is not None
        if row is not None:
            self.add([row])

    def index(self, place: SortKey) -> int:
        """How many rows come before a place. O(log n)."""
        return bisect_left(self.entries, place, key=_first)

    def index_of(self, key: str) -> int:
        """Where a key is, or what follows where it was; 0 for one that was never held."""
        place = self.places.get(key, self.gone.get(key))
        return 0 if place is None else self.index(place)


class FilteredKeys:
    """What a filter finds, in an order: at most 10,000 rows, the first of that order, and the count of all.

    `learn` passes all keys in pages; what it has found so far is there at once. What others write later is put in or
    taken out. Where rows beyond the held ones matter for that, everything is searched again, at a tenth of a core.

    Args:
        manager: of the namespace.
        at: the state; None is live. It is looked up once, when first read.
        text: the filter, see `Filter.parse`.
        order: one of `ORDERS`.
        limit: rows that are held.
        redact: globs; what they mask is not searched.

    """

    def __init__(
        self, manager: StateManager, at: Ref | None = None, text: str = "", order: Order = "key", limit: int = MAX_ROWS,
        redact: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        self.manager = manager
        self.at = at
        self.text = text
        self.order = order
        self.version = 0
        self._damaged: set[str] = set()  # whether these values hold what is sought cannot be told
        self._sought = Filter.parse(text)
        self._match = self._sought.match()
        self._by = _by(order, self._sought.text.lower() if self._sought.kind == "fuzzy" else None)
        searching = self._sought.kind == "values" and self._sought.text
        self._in_values = make_matcher(self._sought.text) if searching else None
        self._limit = limit
        self._redact = redact
        self._point: StateAt | None = None
        self._total: int | None = None  # keys there are, to say how far the search is
        self._mutex = threading.Lock()
        self._shown = _Matches(self._by, limit)
        self._scan: _Matches | None = self._shown
        self._pending: set[str] | None = set()
        self._halted = False
        self._rested = 0.0  # by `time.monotonic()`: no correcting before

    # --- reading -----------------------------------------------------------------------------------------------

    def page(self, start: int, limit: int) -> Page:
        """See `Source.page`. O(limit)."""
        with self._mutex:
            start = max(0, min(start, len(self._shown.entries) - limit))
            return self._cut(start, start + limit, start)

    def page_around(self, key: str, above: int, below: int, rank: int | None = None) -> Page:  # noqa: ARG002 - places are known here
        """See `Source.near`. O(log n + above + below)."""
        with self._mutex:
            place = self._shown.index_of(key)
            return self._cut(max(0, place - above), place + below, place)

    def _cut(self, start: int, end: int, place: int) -> Page:
        rows = [row for _, row in self._shown.entries[start:end]]
        return Page(start, rows, len(self._shown.entries), place, self.version)

    def _state(self) -> StateAt | None:
        if self.at is not None and self._point is None:
            self._point = resolve(self.manager.backend, self.at)
        return self._point

    # --- searching ---------------------------------------------------------------------------------------------

    def work(self, stop: Stop) -> float | None:
        """See `Source.learn`. O(keys) for all of it, or their values; O(changes) after that."""
        started = time.monotonic()
        if started < self._rested:
            return self._rested - started
        correcting = self._shown.ended
        more = True
        while more and not stop():
            more = self._apply() or self._search(stop)
            if time.monotonic() - started >= WORK_SECONDS:
                break
        if correcting:
            self._rested = time.monotonic() + REST_FACTOR * (time.monotonic() - started)
        if not more and self._lacks():
            with self._mutex:
                self._scan, more = _Matches(self._by, self._limit), True
        return max(0.0, self._rested - time.monotonic()) if more else None

    def _lacks(self) -> bool:
        """Whether rows that are not held, or the count of them, matter by now."""
        shown = self._shown
        whole = shown.bound is None or (shown.sure and len(shown.entries) > 0.9 * self._limit)
        return self._scan is None and not whole

    def _search(self, stop: Stop) -> bool:
        """Pass one page of keys; false where all were passed, or this was stopped."""
        scan = self._scan
        if scan is None or self._halted:
            return False
        if not scan.seen and self.at is None:
            self._total = self.manager.head().count
        rows = self.manager.backend.list_keys(self._sought.prefix, scan.after, "", KEYS_PER_PAGE, self._state())
        found = [row for row in rows if self._match(row.key)]
        if self._in_values is not None:
            holding = self._holding(found, lambda: self._halted or stop())
            if holding is None:
                return False
            found = holding
        with self._mutex:
            scan.add(found)
            scan.seen += len(rows)
            scan.after = rows[-1].key if rows else scan.after
            if len(rows) < KEYS_PER_PAGE:
                scan.ended = True
                self._shown, self._scan = scan, None
            self.version += 1
        return not scan.ended

    def _holding(self, rows: list[KeySummary], stop: Stop) -> list[KeySummary] | None:
        """Those whose values hold what is sought; None where this was stopped.

        Few megabytes are read at once, however large the values are.
        """
        found: set[str] = set()
        for keys in _batches(rows):
            if stop():
                return None
            found.update(version.key for version in self._read(keys) if self._holds(version))
        return [row for row in rows if row.key in found]

    def _read(self, keys: list[str]) -> list[Version]:
        """Return the versions of keys; of what is damaged, all but these."""
        try:
            return list(self.manager.backend.read(keys, self._state()).values())
        except Damaged:
            if len(keys) > 1:
                return [version for key in keys for version in self._read([key])]
            self._damaged.update(keys)
            return []

    def _holds(self, version: Version) -> bool:
        assert self._in_values is not None and version.value is not None, "asked of a visible version"
        try:
            value = codec.decode(version.value)
        except Damaged:
            self._damaged.add(version.key)
            return False
        if is_redacted(version.key, self._redact):
            return False
        return any(self._in_values(leaf_text(leaf)) for _, leaf in iter_scalars(without_masked(value, self._redact)))

    # --- what others write -------------------------------------------------------------------------------------

    def invalidate(self, changed: list[str] | None) -> None:
        """See `Source.moved`. O(changes)."""
        if self.at is not None:
            return
        with self._mutex:
            if changed is None or self._pending is None or len(self._pending) + len(changed) > MAX_PENDING_KEYS:
                self._pending = None
            else:
                self._pending.update(changed)

    def _apply(self) -> bool:
        """Take in some of what others wrote; false where there is nothing."""
        with self._mutex:
            if self._pending is None:
                self._pending = set()
                if not self._halted:
                    self._scan = _Matches(self._by, self._limit)
                return False
            keys = sorted(self._pending)[:KEYS_PER_PAGE]
            self._pending.difference_update(keys)
        if not keys:
            return False
        keys = [key for key in keys if self._match(key) or key in self._shown.places]
        rows = self._rows_of(keys)
        count = self.manager.head().count if not self.text else None
        with self._mutex:
            for found in {id(one): one for one in (self._shown, self._scan) if one is not None}.values():
                for key in keys:
                    if found.ended or key <= found.after:  # what lies ahead will be met
                        found.change(key, rows.get(key))
                if count is not None and found.ended:
                    found.count, found.sure = count, True
            self.version += 1
        return True

    def _rows_of(self, keys: list[str]) -> dict[str, KeySummary]:
        """Return the rows of those keys that are to be found."""
        found: dict[str, KeySummary] = {}
        self._damaged.difference_update(keys)
        for start in range(0, len(keys), 100):
            for version in self._read(keys[start : start + 100]):
                value = version.value or b""
                if self._in_values is None or self._holds(version):
                    row = KeySummary(
                        version.key, len(value), value[:SUMMARY_BYTES], version.revision, version.time, version.expires
                    )
                    found[row.key] = row
        if self._in_values is None:  # a damaged value has its row all the same
            for key in self._damaged.intersection(keys):
                found.update((row.key, row) for row in self.manager.backend.list_keys(key, limit=1) if row.key == key)
        return found

    # --- what is told ------------------------------------------------------------------------------------------

    @property
    def is_searching(self) -> bool:
        return not self._shown.ended and not self._halted

    def cancel(self) -> None:
        self._halted = True

    def status(self) -> list[str]:
        shown = self._shown
        said = []
        if not shown.ended:
            share = f"{shown.seen * 100 // max(1, self._total)}%" if self._total else f"{shown.seen:,} keys"
            said.append(f"stopped at {share}" if self._halted else f"{share} searched, esc stops")
        if shown.count > len(shown.entries):
            said.append(f"first {len(shown.entries):,} of {'' if shown.sure else '~'}{shown.count:,}")
        if self._in_values is not None and self._damaged:
            said.append(f"{len(self._damaged):,} damaged, not searched")
        return said


def _batches(rows: list[KeySummary]) -> Iterator[list[str]]:
    batch: list[str] = []
    held = 0
    for row in rows:
        if batch and held + row.size > BATCH_BYTES:
            yield batch
            batch, held = [], 0
        batch.append(row.key)
        held += row.size
    if batch:
        yield batch
