"""A namespace of which another program keeps the present state alone: the methods of `Backend` over its entries.

All entries are of revision 1. The head's revision rises whenever this process sees that the store was changed. A read
at any of these revisions answers with the present state. What changed between two of them is not known.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from hashlib import sha256
from threading import Lock
from typing import NamedTuple

from ...errors import HistoryPruned
from ...model import Commit
from ..conflicts import history_pruned_error
from ..key_ranges import key_range
from ..protocol import CheckpointRecord, Head, KeySummary, StateAt, StoredVersion, SupersededVersion, Version
from .read_only import ReadOnlyBackend, cut

_ENTRY_REVISION = 1
_ROWS_PER_READ = 200


class Entry(NamedTuple):
    """An entry of the other program. `start` and `size` are those of the encoded value."""

    key: str
    size: int
    start: bytes
    time: int
    expires: int = 0


class Bounds(NamedTuple):
    """A range of keys, from `low` up to, not including, `high`, of those that are not expired at a time."""

    low: str
    high: str
    time: int


class _Generations:
    """How often this process saw each store change. All backends of a process count together."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._seen: dict[tuple[object, ...], tuple[object, int]] = {}

    def of(self, store: tuple[object, ...], mark: object) -> int:
        """Return the number for a store whose content has a mark, from 1."""
        with self._lock:
            known, number = self._seen.get(store, (mark, 1))
            if known != mark:
                number += 1
            self._seen[store] = mark, number
            return number


_generations = _Generations()


class PresentBackend(ReadOnlyBackend):
    """A namespace of which the present state alone is kept. A subclass finds its entries and their values."""

    @abstractmethod
    def mark(self) -> tuple[object, int] | None:
        """Return what differs after each change of the store, and when it last changed; None if it does not exist."""

    @abstractmethod
    def entries(self, bounds: Bounds, limit: int, skip: int = 0, backwards: bool = False) -> list[Entry]:
        """Return a page of entries, sorted by key, as `Backend.list_keys` does."""

    @abstractmethod
    def encoded(self, keys: list[str], time: int) -> dict[str, Version]:
        """Return the versions of the keys that are there, and not expired at a time."""

    @abstractmethod
    def count_of(self, bounds: Bounds) -> int:
        """Return the number of keys in a range."""

    def expired(self, low: int, high: int) -> list[str]:  # noqa: ARG002
        """Return the keys that expired after one time, up to another, if they are still known."""
        return []

    def version(self, entry: Entry, value: bytes) -> Version:
        """Return the version that shows an entry."""
        return Version(entry.key, value, _ENTRY_REVISION, entry.time, entry.expires)

    def head(self) -> Head:
        mark = self.mark()
        if mark is None:
            return Head()
        revision = _generations.of(self.identity().store, mark[0])
        lineage = sha256(repr(self.identity().store).encode()).hexdigest()[:32]
        return Head(revision, mark[1], self.count_of(Bounds("", "", self.now())), revision, lineage)

    def _time(self, at: StateAt | None) -> int:
        """Return the time by which a read judges expiry."""
        if at is None:
            return self.now()
        mark = self.mark()
        last = 0 if mark is None else _generations.of(self.identity().store, mark[0])
        if not (1 if last else 0) <= at.revision <= last:
            raise history_pruned_error(self.namespace, at.revision, last)
        return at.time

    def read(self, keys: Iterable[str], at: StateAt | None = None) -> dict[str, Version]:
        time = self._time(at)
        return {} if self.mark() is None else self.encoded(list(dict.fromkeys(keys)), time)

    def scan(self, prefix: str = "", after: str = "", limit: int = 1000, at: StateAt | None = None) -> list[Version]:
        time = self._time(at)
        if self.mark() is None or not limit:
            return []
        page = [one.key for one in self.entries(Bounds(*key_range(prefix, after, ""), time), limit)]
        found = self._found(page, time)
        if page and not found:  # all were deleted meanwhile; a short page would be the last
            return self.scan(prefix, page[-1], limit, at)
        return found

    def _found(self, page: list[str], time: int) -> list[Version]:
        found: list[Version] = []
        for start in range(0, len(page), _ROWS_PER_READ):
            some = self.encoded(page[start : start + _ROWS_PER_READ], time)
            found += [some[key] for key in page[start : start + _ROWS_PER_READ] if key in some]
        return found

    def list_keys(
        self, prefix: str = "", after: str = "", before: str = "", limit: int = 1000, at: StateAt | None = None,
        skip: int = 0, backwards: bool = False,
    ) -> list[KeySummary]:  # fmt: skip
        bounds = Bounds(*key_range(prefix, after, before), self._time(at))
        page = self.entries(bounds, limit, skip, backwards) if limit and self.mark() is not None else []
        return [KeySummary(one.key, one.size, one.start, _ENTRY_REVISION, one.time, one.expires) for one in page]

    def count(self, low: str = "", high: str = "", at: StateAt | None = None) -> int:
        time = self._time(at)
        return 0 if self.mark() is None else self.count_of(Bounds(low, high, time))

    def changed_keys(self, low: StateAt, high: StateAt) -> list[str]:
        self._time(low)
        self._time(high)
        if low.revision != high.revision:
            what = f"{self.url} keeps the present state alone, so what changed is not known"
            raise HistoryPruned(what, "Import it now and later, and compare the copies")
        return sorted(self.expired(*sorted((low.time, high.time))))

    def versions(self, key: str, limit: int = 100, below: int = 0) -> list[Version]:
        found = self.get(key) if limit and (not below or below > _ENTRY_REVISION) else None
        return [] if found is None else [found]

    def commits(self, limit: int = 100, below: int = 0) -> list[Commit]:  # noqa: ARG002
        return []

    def marks(self) -> list[CheckpointRecord]:
        return []

    def superseded(self, after: tuple[str, int] = ("", 0), limit: int = 1000) -> list[SupersededVersion]:  # noqa: ARG002
        return []

    def versions_page(
        self, after: tuple[str, int] = ("", 0), limit: int = 1000, keys: Iterable[str] | None = None
    ) -> list[StoredVersion]:
        start, time = after[0], self.now()
        if keys is not None:
            there = [] if self.mark() is None else sorted(key for key in {*keys} if key > start)
            found = self._found(there, time)
        else:
            found = self.scan("", start, limit)
        return cut((StoredVersion(one.key, one.value, one.revision, one.time, one.expires) for one in found), limit)
