"""A namespace of which another program keeps the present state alone: the methods of `Backend` over its entries.

All entries are of revision 1. The head's revision rises whenever this process sees that the store was changed. A read
at any of these revisions answers with the present state. What changed between two of them is not known.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from copy import copy
from hashlib import sha256
from math import inf
from threading import Lock
from typing import NamedTuple

from ...errors import HistoryPruned
from ...model import Commit
from ..conflicts import history_pruned_error
from ..key_ranges import key_range
from ..protocol import (
    PAGE_BYTES,
    Backend,
    CheckpointRecord,
    Head,
    KeySummary,
    StateAt,
    StoredVersion,
    SupersededVersion,
    Version,
)
from .read_only import ReadOnlyBackend

_ENTRY_REVISION = 1


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

    _pinned: tuple[int, int] | None = None  # revision and time of a snapshot

    @property
    def reading(self) -> str:
        """How a snapshot gives the values, see `KeepsPresentAlone`."""
        return ""

    @abstractmethod
    def mark(self) -> tuple[object, int] | None:
        """Return what differs after each change of the store, and when it last changed; None if it does not exist."""

    @abstractmethod
    def names(self, bounds: Bounds, limit: int) -> list[str]:
        """Return the first keys of a range, sorted. It reads no value."""

    @abstractmethod
    def entries(self, bounds: Bounds, limit: int, skip: int = 0, backwards: bool = False) -> list[Entry]:
        """Return a page of entries, sorted by key, as `Backend.list_keys` does."""

    @abstractmethod
    def encoded(self, keys: list[str], time: int, enough: float = inf) -> list[Version]:
        """Return the versions of the keys that are there, and not expired at a time, in the order of the keys.

        It ends with the version after which the values are `enough` bytes together.
        """

    @abstractmethod
    def count_of(self, bounds: Bounds) -> int:
        """Return the number of keys in a range."""

    def expired(self, low: int, high: int) -> list[str]:  # noqa: ARG002
        """Return the keys that expired after one time, up to another, if they are still known."""
        return []

    def version(self, entry: Entry, value: bytes) -> Version:
        """Return the version that shows an entry."""
        return Version(entry.key, value, _ENTRY_REVISION, entry.time, entry.expires)

    @contextmanager
    def snapshot(self, whole: bool = False) -> Iterator[Backend]:  # noqa: ARG002
        """Open a backend whose head and keys stay. Each value is as it is when it is read."""
        present = self._present()
        state = self if present is None or self._pinned else copy(self)
        state._pinned = present
        yield state

    def _present(self) -> tuple[int, int] | None:
        """Return the revision of the present state, and when it was last changed; None if there is no namespace."""
        mark = None if self._pinned else self.mark()
        return self._pinned if mark is None else (_generations.of(self.identity().store, mark[0]), mark[1])

    def last_revision(self) -> int:
        present = self._present()
        return present[0] if present else 0

    def head(self) -> Head:
        present = self._present()
        if present is None:
            return Head()
        revision, moment = present
        lineage = sha256(repr(self.identity().store).encode()).hexdigest()[:32]
        return Head(revision, moment, self.count_of(Bounds("", "", self.now())), revision, lineage)

    def _time(self, at: StateAt | None) -> int:
        """Return the time by which a read judges expiry."""
        if at is None:
            return self.now()
        last = self.last_revision()
        if not (1 if last else 0) <= at.revision <= last:
            raise history_pruned_error(self.namespace, at.revision, last)
        return at.time

    def read(self, keys: Iterable[str], at: StateAt | None = None) -> dict[str, Version]:
        time = self._time(at)
        found = [] if self._present() is None else self.encoded(list(dict.fromkeys(keys)), time)
        return {version.key: version for version in found}

    def scan(self, prefix: str = "", after: str = "", limit: int = 1000, at: StateAt | None = None) -> list[Version]:
        time, found = self._time(at), list[Version]()
        while self._present() is not None and len(found) < limit:
            page = self.names(Bounds(*key_range(prefix, after, ""), time), limit - len(found))
            if not page:
                break
            found += self.encoded(page, time)
            after = page[-1]  # some may be deleted meanwhile; a short page would be the last
        return found

    def scan_some(
        self, prefix: str = "", after: str = "", limit: int = 1000, at: StateAt | None = None
    ) -> list[Version]:
        time, found = self._time(at), list[Version]()
        while not found and self._present() is not None:
            page = self.names(Bounds(*key_range(prefix, after, ""), time), limit)
            if not page:
                break
            found, after = self.encoded(page, time, PAGE_BYTES), page[-1]
        return found

    def list_keys(
        self, prefix: str = "", after: str = "", before: str = "", limit: int = 1000, at: StateAt | None = None,
        skip: int = 0, backwards: bool = False,
    ) -> list[KeySummary]:  # fmt: skip
        bounds = Bounds(*key_range(prefix, after, before), self._time(at))
        page = self.entries(bounds, limit, skip, backwards) if limit and self._present() is not None else []
        return [KeySummary(one.key, one.size, one.start, _ENTRY_REVISION, one.time, one.expires) for one in page]

    def count(self, low: str = "", high: str = "", at: StateAt | None = None) -> int:
        time = self._time(at)
        return 0 if self._present() is None else self.count_of(Bounds(low, high, time))

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
        if keys is None:
            found = self.scan_some("", after[0], limit)
        else:
            found, left = list[Version](), sorted(key for key in {*keys} if key > after[0])
            while left and not found and self._present() is not None:
                found, left = self.encoded(left[:limit], self.now(), PAGE_BYTES), left[limit:]
        return [StoredVersion(one.key, one.value, one.revision, one.time, one.expires) for one in found]
