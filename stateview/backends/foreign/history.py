"""A namespace whose states another program keeps whole: the methods of `Backend` over a list of its checkpoints.

Revision N is the N-th of the checkpoints, counted from the oldest one that is kept. An index says which keys each of
them changed. Values are decoded when they are read.
"""

from __future__ import annotations

from abc import abstractmethod
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from itertools import count, islice
from typing import Any, NamedTuple

from ...model import Commit, to_datetime
from ..conflicts import history_pruned_error
from ..key_ranges import key_range
from ..protocol import SUMMARY_BYTES, CheckpointRecord, Head, KeySummary, StateAt, StoredVersion, Version
from .read_only import ReadOnlyBackend, cut

_serials = count()
_MAX_ROWS = 10_000  # of summaries that are kept, so that a list of keys decodes no value twice


class Point(NamedTuple):
    """A checkpoint of the other program: its place in the store, its name here, its time, and what made it."""

    place: Any
    name: str
    time: int
    reason: str
    author: str = ""


class History:
    """The index of a namespace: its points, and for each key the revisions that wrote it, or deleted it (negative)."""

    def __init__(self, lineage: str = "") -> None:
        self.lineage = lineage
        self.serial = next(_serials)
        self.points: list[Point] = []
        self.changes: list[list[str]] = []  # the keys that each revision wrote or deleted
        self.versions: dict[str, list[int]] = {}
        self.names: dict[str, Any] = {}  # what a key stands for in the store
        self.live: set[str] = set()
        self.sorted: list[str] = []

    def add(self, point: Point, written: dict[str, Any], present: set[str]) -> None:
        """Add the next checkpoint.

        Args:
            point: the checkpoint. Its time is raised if it does not rise.
            written: the keys that it wrote, each with what it stands for in the store.
            present: all keys that it has.

        """
        if self.points and point.time <= self.points[-1].time:
            point = point._replace(time=self.points[-1].time + 1)
        self.points.append(point)
        self.changes.append([])
        for key, name in written.items():
            self.names[key] = name
        self._amend(written, self.live - present)
        self.live = present

    def amend(self, written: dict[str, Any]) -> None:
        """Add keys to the last checkpoint, or make their values new."""
        fresh = {key: name for key, name in written.items() if abs(self.versions.get(key, [0])[-1]) != self.last}
        self.names |= fresh
        self._amend(fresh, set())
        self.live = self.live | fresh.keys()

    def _amend(self, written: Iterable[str], deleted: Iterable[str]) -> None:
        revision = self.last
        added = [(key, revision) for key in written] + [(key, -revision) for key in deleted]
        if any(key not in self.versions for key, _ in added):
            self.sorted = []
        for key, mark in added:
            self.versions.setdefault(key, []).append(mark)
        self.changes[-1] += [key for key, _ in added]

    @property
    def last(self) -> int:
        """The last revision."""
        return len(self.points)

    def keys(self) -> list[str]:
        """Return all keys that ever were, sorted."""
        if not self.sorted and self.versions:
            self.sorted = sorted(self.versions)
        return self.sorted

    def written(self, key: str, revision: int) -> int:
        """Return the revision that wrote what a key has in a state; 0 if the key is absent."""
        marks = self.versions.get(key, ())
        at = bisect_right(marks, revision, key=abs)
        return max(0, marks[at - 1]) if at else 0


class HistoryBackend(ReadOnlyBackend):
    """A namespace whose states are the checkpoints of another program. A subclass reads the index, and the values."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._rows: dict[tuple[int, str, int], tuple[int, bytes]] = {}  # size and start by index, key and revision

    @abstractmethod
    def history(self) -> History:
        """Return the present index. An index that was returned before may be changed, but only by what is new."""

    @abstractmethod
    def encoded(self, history: History, wanted: Iterable[tuple[str, int]]) -> Iterator[bytes]:
        """Yield the encoded values of keys as revisions wrote them, in order."""

    def head(self) -> Head:
        history = self.history()
        if not history.points:
            return Head(lineage=history.lineage)
        return Head(history.last, history.points[-1].time, len(history.live), 0, history.lineage)

    def _state(self, history: History, at: StateAt | None) -> int:
        if at is None:
            return history.last
        if not 0 <= at.revision <= history.last:
            raise history_pruned_error(self.namespace, at.revision, 0)
        return at.revision

    def _version(self, history: History, key: str, revision: int, value: bytes) -> Version:
        return Version(key, value, revision, history.points[revision - 1].time)

    def _read(self, history: History, wanted: list[tuple[str, int]]) -> Iterator[Version]:
        for (key, revision), value in zip(wanted, self.encoded(history, wanted), strict=True):
            yield self._version(history, key, revision, value)

    def read(self, keys: Iterable[str], at: StateAt | None = None) -> dict[str, Version]:
        history = self.history()
        state = self._state(history, at)
        wanted = [(key, revision) for key in dict.fromkeys(keys) if (revision := history.written(key, state))]
        return {version.key: version for version in self._read(history, wanted)}

    def scan(self, prefix: str = "", after: str = "", limit: int = 1000, at: StateAt | None = None) -> list[Version]:
        history = self.history()
        visible = self._visible(history, *key_range(prefix, after, ""), self._state(history, at))
        return list(self._read(history, list(islice(visible, limit))))

    def _visible(
        self, history: History, low: str, high: str, state: int, backwards: bool = False
    ) -> Iterator[tuple[str, int]]:
        keys = sorted(history.live) if state == history.last else history.keys()
        chosen = keys[bisect_left(keys, low) : bisect_left(keys, high) if high else len(keys)]
        for key in reversed(chosen) if backwards else chosen:
            if revision := history.written(key, state):
                yield key, revision

    def list_keys(
        self, prefix: str = "", after: str = "", before: str = "", limit: int = 1000, at: StateAt | None = None,
        skip: int = 0, backwards: bool = False,
    ) -> list[KeySummary]:  # fmt: skip
        history = self.history()
        visible = self._visible(history, *key_range(prefix, after, before), self._state(history, at), backwards)
        page = list(islice(visible, skip, skip + limit))
        page = page[::-1] if backwards else page
        unknown = [(key, revision) for key, revision in page if (history.serial, key, revision) not in self._rows]
        if len(self._rows) + len(unknown) > _MAX_ROWS:
            self._rows, unknown = {}, page
        for (key, revision), value in zip(unknown, self.encoded(history, unknown), strict=True):
            self._rows[history.serial, key, revision] = len(value), value[:SUMMARY_BYTES]
        return [
            KeySummary(key, *self._rows[history.serial, key, revision], revision, history.points[revision - 1].time)
            for key, revision in page
        ]

    def count(self, low: str = "", high: str = "", at: StateAt | None = None) -> int:
        history = self.history()
        return sum(1 for _ in self._visible(history, low, high, self._state(history, at)))

    def changed_keys(self, low: StateAt, high: StateAt) -> list[str]:
        history = self.history()
        first, last = self._state(history, low), self._state(history, high)
        return sorted({key for changes in history.changes[first:last] for key in changes})

    def versions(self, key: str, limit: int = 100, below: int = 0) -> list[Version]:
        history = self.history()
        marks = [mark for mark in history.versions.get(key, []) if not below or abs(mark) < below][::-1][:limit]
        found = self._read(history, [(key, mark) for mark in marks if mark > 0])
        return [
            next(found) if mark > 0 else Version(key, None, -mark, history.points[-mark - 1].time) for mark in marks
        ]

    def commits(self, limit: int = 100, below: int = 0) -> list[Commit]:
        history = self.history()
        newest = min(history.last, below - 1) if below else history.last
        return [self._commit(history, revision) for revision in range(newest, max(0, newest - limit), -1)]

    def _commit(self, history: History, revision: int) -> Commit:
        point, changes = history.points[revision - 1], history.changes[revision - 1]
        return Commit(revision, to_datetime(point.time), point.reason, point.author, len(changes))

    def marks(self) -> list[CheckpointRecord]:
        points = self.history().points
        return [CheckpointRecord(one.name, at, one.time, one.reason) for at, one in enumerate(points, 1)]

    def versions_page(
        self, after: tuple[str, int] = ("", 0), limit: int = 1000, keys: Iterable[str] | None = None
    ) -> list[StoredVersion]:
        history = self.history()
        names = history.keys() if keys is None else sorted({*keys} & history.versions.keys())
        return cut(self._following(history, names[bisect_left(names, after[0]) :], after), limit)

    def _following(self, history: History, names: list[str], after: tuple[str, int]) -> Iterator[StoredVersion]:
        for key in names:
            marks = history.versions[key]
            rest = [at for at, mark in enumerate(marks) if (key, abs(mark)) > after]
            found = self.encoded(history, [(key, marks[at]) for at in rest if marks[at] > 0])
            for at in rest:
                revision = abs(marks[at])
                until = abs(marks[at + 1]) if at + 1 < len(marks) else 0
                value = next(found) if marks[at] > 0 else None
                yield StoredVersion(key, value, revision, history.points[revision - 1].time, 0, until)
