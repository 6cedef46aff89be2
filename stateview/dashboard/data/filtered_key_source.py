"""A source of keys that a filter finds, or that are sorted by time or size. It searches in the background."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from operator import itemgetter
from typing import Any

from ... import codec
from ...backends.names_only import names_only
from ...backends.protocol import SUMMARY_BYTES, KeySummary, StateAt, Version
from ...cli.commands.search import find_parts, make_matcher
from ...errors import Damaged
from ...manager import StateManager
from ...model import SealedValue, is_key
from ...states.matching.ranking import LETTERS, Rank, ranker, score
from ...states.view import Ref, resolve
from ..display.redaction import is_redacted, without_masked
from .key_filter import Filter, Match
from .key_source import Order, Page, Stop, WorkPace

SEARCH_SECONDS = 0.05  # seconds of one piece of the search
MAX_ROWS = 10_000  # rows in memory
KEYS_PER_PAGE = 1000  # keys read at once
BATCH_BYTES = 4_000_000  # bytes of values read at once
MAX_PENDING_KEYS = 20_000  # written keys that are read one by one; after more, the search starts again
_LAST = "\U0010ffff" * 256  # a prefix and this sort after every key with the prefix
MAX_GONE_KEYS = 1000  # keys that left the list, and whose sort keys are remembered

SortKey = tuple[Any, ...]  # unique for each row
_sort_key_of = itemgetter(0)


def _sorter(order: Order, key_filter: Filter) -> Callable[[KeySummary], SortKey]:
    """Return the function that gives a row's sort key. The order "key" sorts the matches of a word by rank."""
    orders: dict[Order, Callable[[KeySummary], SortKey]] = {
        "newest": lambda row: (-row.time, -row.revision, row.key),
        "oldest": lambda row: (row.time, row.revision, row.key),
        "largest": lambda row: (-row.size, row.key),
        "smallest": lambda row: (row.size, row.key),
    }
    if order == "key" and key_filter.kind == "fuzzy":
        needle = key_filter.text.lower()
        return lambda row: (-score(needle, row.key), row.key)
    if order == "key" and key_filter.kind == "word":
        rank, worst = ranker(key_filter.text), Rank(LETTERS)
        return lambda row: (rank(row.key) or worst, row.key)
    if order == "key":
        return lambda row: (row.key,)
    return orders[order]


class _Matches:
    """The result of one search: the first `limit` matching rows in their order, and the number of all matches.

    The search reads the keys in key order and adds the matches page by page.
    """

    def __init__(self, sorter: Callable[[KeySummary], SortKey], limit: int) -> None:
        self.sorter = sorter
        self.limit = limit
        self.entries: list[tuple[SortKey, KeySummary]] = []
        self.sort_keys: dict[str, SortKey] = {}  # of the rows in `entries`
        self.gone: dict[str, SortKey] = {}  # of keys that left the list, the latest at the end
        self.count = 0  # all matches, in `entries` or not
        self.bound: SortKey | None = None  # `entries` lacks rows from this sort key on; None: it lacks none
        self.after = ""  # the last key that was read
        self.seen = 0  # keys read
        self.exact = True  # whether `count` is exact
        self.ended = False

    def add(self, rows: Iterable[KeySummary]) -> None:
        """Add rows of keys that have none yet. O(rows in memory)."""
        new = [(self.sorter(row), row) for row in rows]
        self.count += len(new)
        if self.bound is not None:
            new = [entry for entry in new if entry[0] < self.bound]
        if not new:
            return
        self.entries += new
        self.entries.sort(key=_sort_key_of)  # linear, for the list is two sorted runs
        self.sort_keys.update((row.key, sort_key) for sort_key, row in new)
        if len(self.entries) > self.limit:
            for _, row in self.entries[self.limit :]:
                del self.sort_keys[row.key]
            self.bound = self.entries[self.limit][0]
            del self.entries[self.limit :]

    def replace(self, key: str, row: KeySummary | None) -> None:
        """Replace the row of a written key; None if the key no longer matches. O(rows in memory)."""
        sort_key = self.sort_keys.pop(key, None)
        if sort_key is not None:
            del self.entries[self.index(sort_key)]
            self.count -= 1
            self.gone[key] = sort_key
            if len(self.gone) > MAX_GONE_KEYS:
                del self.gone[next(iter(self.gone))]
        elif self.bound is not None:
            self.exact = False  # nobody knows whether the key was counted before
            self.count -= row is not None
        if row is not None:
            self.add([row])

    def index(self, sort_key: SortKey) -> int:
        """Return the number of rows before a sort key. O(log n)."""
        return bisect_left(self.entries, sort_key, key=_sort_key_of)

    def index_of(self, key: str) -> int:
        """Return the index of a key, or the index where it was; 0 for a key that never had a row."""
        sort_key = self.sort_keys.get(key, self.gone.get(key))
        return 0 if sort_key is None else self.index(sort_key)


class FilteredKeys:
    """The keys that match a filter, in an order: the first 10,000 rows, and the number of all matches.

    `work` reads all keys in pages, and pages of the list show what it has found so far. Later writes are then applied
    to the rows. If they would need rows that are not in memory, the search starts again, at a tenth of a core.

    Args:
        manager: of the namespace.
        at: the state; None is live. The ref is resolved once, at the first read.
        text: the filter, see `Filter.parse`.
        order: one of `ORDERS`.
        limit: rows in memory.
        redact: globs. Masked values are not searched.
        without: keys with this prefix are left out, because another source lists them.

    """

    def __init__(
        self, manager: StateManager, at: Ref | None = None, text: str = "", order: Order = "key", limit: int = MAX_ROWS,
        redact: tuple[str, ...] = (), without: str = "",
    ) -> None:  # fmt: skip
        self.manager = manager
        self.at = at
        self.text = text
        self.order = order
        self.version = 0
        self._damaged: set[str] = set()  # keys whose values could not be searched
        self._filter = Filter.parse(text)
        self._without = without
        self._match = self._matcher()
        self._sorter = _sorter(order, self._filter)
        in_values = self._filter.kind == "values" and self._filter.text
        self._match_text = make_matcher(self._filter.text) if in_values else None
        self._limit = limit
        self._redact = redact
        self._point: StateAt | None = None
        self._total: int | None = None  # the number of keys, for the percentage of the search
        self._mutex = threading.Lock()
        self._listed = _Matches(self._sorter, limit)
        self._search: _Matches | None = self._listed  # the search under way; later ones replace `_listed` at their end
        self._pending: set[str] | None = set()  # written keys to read again; None: search again
        self._cancelled = False
        self._pace = WorkPace(SEARCH_SECONDS)

    def _matcher(self) -> Match:
        match, without = self._filter.match(), self._without
        return (lambda key: not key.startswith(without) and match(key)) if without else match

    # --- reading -----------------------------------------------------------------------------------------------

    def page(self, start: int, limit: int) -> Page:
        """O(limit)."""
        with self._mutex:
            start = max(0, min(start, len(self._listed.entries) - limit))
            return self._page(start, start + limit, start)

    def page_around(self, key: str, above: int, below: int, rank: int | None = None) -> Page:  # noqa: ARG002 - the index is in memory
        """O(log n + above + below)."""
        with self._mutex:
            index = self._listed.index_of(key)
            return self._page(max(0, index - above), index + below, index)

    def _page(self, start: int, end: int, place: int) -> Page:
        rows = [row for _, row in self._listed.entries[start:end]]
        return Page(start, rows, len(self._listed.entries), place, self.version)

    def _state(self) -> StateAt | None:
        if self.at is not None and self._point is None:
            self._point = resolve(self.manager.backend, self.at)
        return self._point

    # --- searching ---------------------------------------------------------------------------------------------

    def work(self, stop: Stop) -> float | None:
        """O(keys) for a search, or O(their values); then O(changes)."""
        return self._pace.run(
            lambda: self._apply_writes() or self._search_page(stop) or self._search_again(),
            stop,
            correcting=self._listed.ended,
        )

    def _search_again(self) -> bool:
        """Start a new search if the rows in memory no longer suffice, or the count is not exact."""
        listed = self._listed
        suffices = listed.bound is None or (listed.exact and len(listed.entries) > 0.9 * self._limit)
        if self._search is not None or suffices:
            return False
        with self._mutex:
            self._search = _Matches(self._sorter, self._limit)
        return True

    def _search_page(self, stop: Stop) -> bool:
        """Search one page of keys. Returns False if the search has ended or was stopped."""
        search = self._search
        if search is None or self._cancelled:
            return False
        if not search.seen:
            self._total = self.manager.head().count if self.at is None else None
            if self._filter.kind == "glob":
                name = self._filter.text
                named = is_key(name) and names_only(self.manager.backend).read([name], self._state())
                self._match = name.__eq__ if named else self._matcher()
        rows = self.manager.backend.list_keys(self._filter.prefix, search.after, "", KEYS_PER_PAGE, self._state())
        matching = [row for row in rows if self._match(row.key)]
        if self._match_text is not None:
            searched = self._search_values(matching, lambda: self._cancelled or stop())
            if searched is None:
                return False
            matching = searched
        with self._mutex:
            search.add(matching)
            search.seen += len(rows)
            search.after = rows[-1].key if rows else search.after
            if self._without and search.after.startswith(self._without):
                search.after = self._without + _LAST
            if len(rows) < KEYS_PER_PAGE:
                search.ended = True
                self._listed, self._search = search, None
            self.version += 1
        return not search.ended

    def _search_values(self, rows: list[KeySummary], stop: Stop) -> list[KeySummary] | None:
        """Return the rows whose values match; None if stopped. Reads `BATCH_BYTES` of values at once."""
        matching: set[str] = set()
        for keys in _batches(rows):
            if stop():
                return None
            matching.update(version.key for version in self._read(keys) if self._matches_value(version))
        return [row for row in rows if row.key in matching]

    def _read(self, keys: list[str]) -> list[Version]:
        """Return the versions of keys. Damaged values are left out and noted."""
        try:
            backend = self.manager.backend if self._match_text is not None else names_only(self.manager.backend)
            return list(backend.read(keys, self._state()).values())
        except Damaged:
            if len(keys) > 1:
                return [version for key in keys for version in self._read([key])]
            self._damaged.update(keys)
            return []

    def _matches_value(self, version: Version) -> bool:
        assert self._match_text is not None and version.value is not None, "only visible versions are read"
        try:
            value = codec.decode(version.value)
        except Damaged:
            self._damaged.add(version.key)
            return False
        if is_redacted(version.key, self._redact, value):
            return False
        return next(find_parts(without_masked(value, self._redact), self._match_text), None) is not None

    # --- writes of others --------------------------------------------------------------------------------------

    def invalidate(self, changed: list[str] | None) -> None:
        """O(changes)."""
        if self.at is not None:
            return
        with self._mutex:
            if changed is None or self._pending is None or len(self._pending) + len(changed) > MAX_PENDING_KEYS:
                self._pending = None
            else:
                self._pending.update(changed)

    def _apply_writes(self) -> bool:
        """Apply some pending writes to the rows. Returns False if there are none."""
        with self._mutex:
            if self._pending is not None and self._filter.kind == "glob" and self._filter.text in self._pending:
                self._pending = None  # the key that is named like the glob came or went: other keys match
            if self._pending is None:
                self._pending = set()
                if not self._cancelled:
                    self._search = _Matches(self._sorter, self._limit)
                return False
            keys = sorted(self._pending)[:KEYS_PER_PAGE]
            self._pending.difference_update(keys)
        if not keys:
            return False
        keys = [key for key in keys if self._match(key) or key in self._listed.sort_keys]
        rows = self._rows_of(keys)
        count = self.manager.head().count if not self.text else None
        with self._mutex:
            results = [self._listed]
            if self._search is not None and self._search is not self._listed:
                results.append(self._search)
            for matches in results:
                for key in keys:
                    if matches.ended or key <= matches.after:  # the search will read the keys after these
                        matches.replace(key, rows.get(key))
                if count is not None and matches.ended:
                    matches.count, matches.exact = count, True
            self.version += 1
        return True

    def _rows_of(self, keys: list[str]) -> dict[str, KeySummary]:
        """Return the rows of those keys that match."""
        rows: dict[str, KeySummary] = {}
        self._damaged.difference_update(keys)
        for start in range(0, len(keys), 100):
            for version in self._read(keys[start : start + 100]):
                if self._match_text is None or self._matches_value(version):
                    rows[version.key] = _summary(version)
        if self._match_text is None:  # `list_keys` gives the row of a damaged value
            for key in self._damaged.intersection(keys):
                rows.update((row.key, row) for row in self.manager.backend.list_keys(key, limit=1) if row.key == key)
        return rows

    # --- status ------------------------------------------------------------------------------------------------

    @property
    def is_searching(self) -> bool:
        return not self._listed.ended and not self._cancelled

    def cancel(self) -> None:
        self._cancelled = True

    def status(self) -> list[str]:
        listed = self._listed
        remarks = []
        if not listed.ended:
            share = f"{listed.seen * 100 // max(1, self._total)}%" if self._total else f"{listed.seen:,} keys"
            remarks.append(f"stopped at {share}" if self._cancelled else f"{share} searched, esc stops")
        if listed.count > len(listed.entries):
            remarks.append(f"first {len(listed.entries):,} of {'' if listed.exact else '~'}{listed.count:,}")
        if self._match_text is not None and self._damaged:
            remarks.append(f"{len(self._damaged):,} damaged, not searched")
        return remarks


def _summary(version: Version) -> KeySummary:
    value = b"" if version.value is None else version.value
    is_sealed = isinstance(value, SealedValue)
    size = value.size if isinstance(value, SealedValue) else len(value)
    start = value[:SUMMARY_BYTES]
    return KeySummary(version.key, size, start, version.revision, version.time, version.expires, is_sealed)


def _batches(rows: list[KeySummary]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for row in rows:
        if batch and size + row.size > BATCH_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(row.key)
        size += row.size
    if batch:
        yield batch
