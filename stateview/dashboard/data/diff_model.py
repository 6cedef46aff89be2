"""The streamed diff of two states: which keys differ and how, without their values. No terminal code.

The index takes about a hundred bytes a key. Both values of a key are read again when a screen shows the key.
"""

from __future__ import annotations

import time
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from ...backends.protocol import Backend, StateAt, Version
from ...errors import StateException
from ...model import Kind, PathChange
from ...refs import parse_ref
from ...states import compare as comparison
from ...states.changes import SIGNS as MARKS
from ...states.changes import Change
from ...states.matching.patterns import compile_globs, is_glob
from ...states.matching.ranking import is_subsequence, ranked
from ...states.moments import pinned
from ...states.view import Ref, resolve

KINDS: tuple[Kind, ...] = ("added", "removed", "changed")
KEYS_PER_PAGE = 200  # keys whose two sides are read at once
KEYS_PER_REPORT = 2_000  # keys of one report, at most
REPORT_SECONDS = 0.05  # seconds after which keys are reported, however few they are

NONE, PARTLY, WHOLE = 0, 1, 2  # how a key is marked


class DiffSide(NamedTuple):
    """One of the two states of a diff.

    Attributes:
        backend: the backend that keeps the state.
        point: the state.
        ref: a ref that still names the state after live has moved on.

    """

    backend: Backend
    point: StateAt
    ref: str


def side(backend: Backend, ref: Ref) -> DiffSide:
    """Return the state that a ref names now. Raises what `resolve` raises."""
    fixed = pinned(backend, ref)
    point = resolve(backend, fixed)
    parsed = parse_ref(fixed)
    if parsed.time and not parsed.back:
        return DiffSide(backend, point, str(fixed))
    named = parsed.name is not None and not parsed.back
    return DiffSide(backend, point, f"{parsed.name}@{point.revision}" if named else str(point.revision))


class DiffProgress:
    """The progress of a diff: keys compared so far, and the estimated number of keys; 0 while that is not known."""

    def __init__(self, stopped: Callable[[], bool] = lambda: False) -> None:
        self.done = 0
        self.total = 0
        self.stopped = stopped

    @property
    def share(self) -> int | None:
        """The progress in percent, below 100; None while it is not known."""
        return min(99, 100 * self.done // self.total) if self.total else None


class DiffSides(NamedTuple):
    """The two states of a diff."""

    before: DiffSide
    after: DiffSide

    @property
    def one_history(self) -> bool:
        """Whether both states belong to one namespace, so that the diff costs O(changes) instead of O(keys)."""
        before, after = self.before.backend, self.after.backend
        return (before.url, before.namespace) == (after.url, after.namespace)

    def pairs(self, keys: Iterable[str]) -> Iterator[tuple[str, Version | None, Version | None]]:
        """Yield each key with its version before and after, read page by page."""
        page: list[str] = []
        for key in keys:
            page.append(key)
            if len(page) == KEYS_PER_PAGE:
                yield from self._read(page)
                page = []
        yield from self._read(page)

    def _read(self, page: list[str]) -> Iterator[tuple[str, Version | None, Version | None]]:
        if page:
            old = self.before.backend.read(page, self.before.point)
            new = self.after.backend.read(page, self.after.point)
            for key in page:
                yield key, old.pop(key, None), new.pop(key, None)

    def change(self, key: str) -> Change | None:
        """Read both versions of a key, and return the change; None if they are equal."""
        _, old, new = next(self.pairs([key]))
        return comparison.change(key, old, new)

    def among(self, keys: Sequence[str], progress: DiffProgress) -> Iterator[Change]:
        """Yield the changes of these keys. O(keys given)."""
        progress.total = len(keys)
        for key, old, new in self.pairs(keys):
            if progress.stopped():
                return
            progress.done += 1
            if self.one_history and old is not None and new is not None and old.revision == new.revision:
                continue
            if change := comparison.change(key, old, new):
                yield change

    def changes(self, progress: DiffProgress) -> Iterator[Change]:
        """Yield all changes in key order. O(changes) in one namespace, else O(keys), streamed."""
        before, after = self
        if self.one_history:
            yield from self.among(comparison.changed_keys(before.backend, before.point, after.point), progress)
            return
        # the larger side is the better estimate, since a key of both sides is compared once
        progress.total = max(before.backend.head().count, after.backend.head().count)
        for pair in comparison.merge_join((before.backend, before.point), (after.backend, after.point)):
            if progress.stopped():
                return
            progress.done += 1
            if change := comparison.change(*pair):
                yield change


def collect(changes: Iterable[Change], report: Callable[[list[str], bytes], None]) -> None:
    """Report the keys and kinds of changes, each kind as its index in `KINDS`: the first at once, then in batches."""
    keys: list[str] = []
    kinds = bytearray()
    reported_at = 0.0
    for change in changes:
        keys.append(change.key)
        kinds.append(KINDS.index(change.kind))
        moment = time.monotonic()
        if len(keys) >= KEYS_PER_REPORT or moment - reported_at >= REPORT_SECONDS:
            report(keys, bytes(kinds))
            keys, kinds, reported_at = [], bytearray(), moment
    if keys:
        report(keys, bytes(kinds))


def selectors(changes: Sequence[PathChange]) -> list[str]:
    """Return the argument of `restore --path` for each change: its pointer, after its sign if two changes share it."""
    uses = Counter(change.path for change in changes)
    return [change.path if uses[change.path] == 1 else MARKS[change.kind] + change.path for change in changes]


class DiffIndex:
    """The keys that differ, in key order, each with its kind and its mark. For one thread.

    A million keys take their strings and ten bytes each.
    """

    def __init__(self, mark: int = NONE) -> None:
        self.keys: list[str] = []
        self.partly: dict[str, set[str]] = {}  # the chosen changes of each key marked `PARTLY`, see `selectors`
        self.fresh = mark  # the mark of keys that `extend` adds
        self.earlier: DiffIndex | None = None  # the index of an earlier diff, whose marks `extend` takes over
        self._kinds = bytearray()  # for each key, an index in `KINDS`
        self._marks = bytearray()  # for each key, `NONE`, `PARTLY` or `WHOLE`
        self._counts = [[0, 0, 0] for _ in KINDS]  # by kind and mark, the number of keys

    def __len__(self) -> int:
        return len(self.keys)

    def extend(self, keys: list[str], kinds: bytes) -> None:
        """Add keys, all above the last key, with their kinds."""
        start = len(self.keys)
        self.keys += keys
        self._kinds += kinds
        self._marks += bytes([self.fresh]) * len(keys)
        for kind in range(len(KINDS)):
            self._counts[kind][self.fresh] += kinds.count(kind)
        if self.earlier is not None:
            self._copy_marks(self.earlier, start)

    def _copy_marks(self, earlier: DiffIndex, start: int) -> None:
        for index in range(start, len(self.keys)):
            key = self.keys[index]
            index_before = earlier.find(key)
            if index_before < len(earlier) and earlier.keys[index_before] == key:
                self.set_mark(index, earlier.mark(index_before), earlier.partly.get(key))

    def __contains__(self, key: str) -> bool:
        """Return whether a key differs. O(log n)."""
        return self.keys[self.find(key) : self.find(key) + 1] == [key]

    def find(self, key: str) -> int:
        """Return the index of a key, or of the first key after it. O(log n)."""
        return bisect_left(self.keys, key)

    def kind(self, index: int) -> Kind:
        """Return the kind of a key's change."""
        return KINDS[self._kinds[index]]

    def mark(self, index: int) -> int:
        """Return the mark of a key: `NONE`, `PARTLY` or `WHOLE`."""
        return self._marks[index]

    def set_mark(self, index: int, mark: int, chosen: set[str] | None = None) -> None:
        """Mark a key. With `PARTLY`, `chosen` holds the selectors of the chosen changes."""
        counts = self._counts[self._kinds[index]]
        counts[self._marks[index]] -= 1
        counts[mark] += 1
        self._marks[index] = mark
        if mark == PARTLY and chosen:
            self.partly[self.keys[index]] = chosen
        else:
            self.partly.pop(self.keys[index], None)

    def set_marks(self, mark: int | None, shown: Iterable[int] | None = None) -> None:
        """Mark all keys, or the keys at the indexes `shown`. With `None` as the mark, invert the marks. O(keys)."""
        new = {old: mark if mark is not None else NONE if old else WHOLE for old in (NONE, PARTLY, WHOLE)}
        if shown is not None:
            for index in shown:
                self.set_mark(index, new[self.mark(index)])
            return
        self._marks = self._marks.translate(bytes.maketrans(bytes(new), bytes(new.values())))
        for counts in self._counts:
            before = counts.copy()
            counts[:] = [sum(before[old] for old in new if new[old] == after) for after in (NONE, PARTLY, WHOLE)]
        self.fresh = new[self.fresh]
        self.partly.clear()

    def count(self, kind: Kind | None = None, *marks: int) -> int:
        """Return the number of keys of a kind (None: any) with one of these marks (none given: any). O(1)."""
        rows = self._counts if kind is None else [self._counts[KINDS.index(kind)]]
        return sum(counts[mark] for counts in rows for mark in marks or (NONE, PARTLY, WHOLE))

    @property
    def marked(self) -> int:
        """The number of marked keys, with those marked `PARTLY`."""
        return self.count(None, PARTLY, WHOLE)

    def marked_keys(self, mark: int) -> Iterator[str]:
        """Yield the keys with a mark, in key order."""
        index = self._marks.find(mark)
        while index >= 0:
            yield self.keys[index]
            index = self._marks.find(mark, index + 1)

    def merge(self, recheck: RecheckResult) -> int:
        """Apply the new kinds of keys that were compared again, and return the number of keys that were added.

        Keys keep their marks; added keys are not marked. O(keys) to copy, and O(log n) for each key compared again.
        """
        keys: list[str] = []
        kinds, marks = bytearray(), bytearray()
        copied = added = 0
        self.partly = dict(recheck.partly)
        for key, kind in sorted(recheck.kinds.items()):
            index = self.find(key)
            listed = index < len(self.keys) and self.keys[index] == key
            keys += self.keys[copied:index]
            kinds += self._kinds[copied:index]
            marks += self._marks[copied:index]
            copied = index + listed
            mark = NONE
            if listed:
                mark = self._marks[index]
                self._counts[self._kinds[index]][mark] -= 1
            if mark == PARTLY and key not in self.partly:  # no chosen change inside the value is left
                mark = NONE
            if kind is not None:
                keys.append(key)
                kinds.append(KINDS.index(kind))
                marks.append(mark)
                self._counts[kinds[-1]][mark] += 1
                added += not listed
        self.keys = keys + self.keys[copied:]
        self._kinds = kinds + self._kinds[copied:]
        self._marks = marks + self._marks[copied:]
        return added


class DiffFilter:
    """The indexes in a `DiffIndex` of the keys that pass a filter. `advance` computes them step by step.

    Args:
        found: the keys to filter. More may be added at any time.
        kinds: which kinds to show.
        text: the name of a key that differs if it holds `*`, `?` or `[`; or else a glob. Any other text is a part of
            the key, or letters of it in order while no key has it as a part. A capital letter makes it case-sensitive.

    """

    def __init__(self, found: DiffIndex, kinds: frozenset[Kind] = frozenset(KINDS), text: str = "") -> None:
        self.found = found
        self.kinds = kinds
        self.text = text
        self._seen = 0
        self._all = len(kinds) == len(KINDS) and not text
        self._glob = is_glob(text)
        self._indexes = array("L")
        self._match = None if self._all or not text else _matcher(text)
        self._fuzzy = text != "" and text == text.lower()  # search by letters if no key has the text as a part

    def __len__(self) -> int:
        return len(self.found) if self._all else len(self._indexes)

    def __getitem__(self, index: int) -> int:
        if self._all:
            return range(len(self.found))[index]
        return self._indexes[index]

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self.found)) if self._all else self._indexes)

    @property
    def filtered(self) -> bool:
        """Whether the filter can hide any key."""
        return not self._all

    @property
    def done(self) -> bool:
        """Whether all keys of the index have been filtered."""
        return self._all or self._seen >= len(self.found)

    def advance(self, limit: int) -> None:
        """Filter the next `limit` keys."""
        if self._all:
            return
        if self._glob and self.text in self.found:  # a name wins over a glob, also if the key is found late
            self._glob, self._match, self._indexes = False, self.text.__eq__, array("L")
        start, end = self._seen, min(len(self.found), self._seen + limit)
        self._seen = end
        indexes: Iterable[int] = range(start, end)
        if len(self.kinds) < len(KINDS):
            indexes = [index for index in indexes if self.found.kind(index) in self.kinds]
        match, keys = self._match, self.found.keys
        self._indexes.extend(indexes if match is None else [index for index in indexes if match(keys[index])])
        if self._fuzzy and not (self._glob or self._indexes) and self.done:
            self._fuzzy, self._seen, needle = False, 0, self.text
            self._match = lambda key: is_subsequence(needle, key)

    def best(self) -> int:
        """Return the position of the key that the text matches best. O(keys that pass)."""
        if not self.text or self._glob:
            return 0
        keys = self.found.keys
        return next(iter(ranked(self.text, range(len(self)), lambda row: [keys[self[row]]])), 0)

    def find(self, place: int) -> int:
        """Return the position in this filter of an index, or of the first one after it. O(log n)."""
        return min(place, len(self.found)) if self._all else bisect_left(self._indexes, place)


def _matcher(text: str) -> Callable[[str], object]:
    exact = text != text.lower()
    if is_glob(text):
        return compile_globs(text, ignore_case=not exact).match
    return (lambda key: text in key) if exact else (lambda key: text in key.lower())


class RecheckResult(NamedTuple):
    """The result of comparing keys again that were written after a preview.

    Attributes:
        sides: the diff, now from the present live state.
        kinds: the new kind of each key's change; None if the key no longer differs.
        partly: the chosen changes that still exist, of each key marked `PARTLY`.

    """

    sides: DiffSides
    kinds: dict[str, Kind | None]
    partly: dict[str, set[str]]


def check_again(
    sides: DiffSides, now: StateAt, only: Sequence[str] | None, partly: dict[str, set[str]], progress: DiffProgress
) -> RecheckResult:  # fmt: skip
    """Compare the keys again that were written after a diff from live was made. O(keys written).

    Args:
        sides: the diff. Its `before` is the live state of that time.
        now: the present live state.
        only: the keys that the diff is limited to; None for all.
        partly: the chosen changes of each key marked `PARTLY`.
        progress: says when to stop.

    Raises:
        HistoryPruned: the history no longer says which keys were written.
        StateException: it was stopped.

    """
    written = comparison.changed_keys(sides.before.backend, sides.before.point, now)
    if only is not None:
        limit = set(only)
        written = [key for key in written if key in limit]
    sides_now = sides._replace(before=sides.before._replace(point=now))
    kinds: dict[str, Kind | None] = dict.fromkeys(written)
    left = {key: chosen for key, chosen in partly.items() if key not in kinds}
    for change in sides_now.among(written, progress):
        kinds[change.key] = change.kind
        if change.key in partly and change.kind == "changed":
            left[change.key] = partly[change.key].intersection(selectors(change.paths))
    if progress.stopped():
        raise StateException("looking again was stopped", "R looks again")
    return RecheckResult(sides_now, kinds, {key: chosen for key, chosen in left.items() if chosen})
