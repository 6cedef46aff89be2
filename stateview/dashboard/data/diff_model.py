"""A streamed diff of two states as a screen holds it: which keys differ and how, a hundred bytes a key, no values.

The values are read again, both sides, when a key is looked at. Nothing here knows the terminal.
"""

from __future__ import annotations

import time
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from ...backends.protocol import Backend, StateAt, Version
from ...errors import StateException
from ...model import Kind, PathChange
from ...states import compare as comparison
from ...states.json_diff import SIGNS as MARKS
from ...states.json_diff import Change
from ...states.patterns import compile_globs, is_glob
from ...states.view import Ref, resolve

KINDS: tuple[Kind, ...] = ("added", "removed", "changed")
KEYS_PER_PAGE = 200  # keys whose two sides are read at once
KEYS_PER_REPORT = 2_000  # keys that are told of at once
REPORT_SECONDS = 0.05  # seconds after which what was found is told, however little it is

NONE, PARTLY, WHOLE = 0, 1, 2  # how a key is marked
_KIND, _MARK = 3, 4  # a flag is a kind plus four times a mark


class DiffSide(NamedTuple):
    """One of the two states: where it is, which it is, and a ref that names this very one when live has moved on."""

    backend: Backend
    point: StateAt
    ref: str


def side(backend: Backend, ref: Ref) -> DiffSide:
    """Return the state that a ref names now. Raises what `resolve` raises."""
    point = resolve(backend, ref)
    text = str(ref)
    named = text.partition("@")[0]
    moves = text.startswith("live") or text.isdigit() or "~" in text
    return DiffSide(backend, point, str(point.revision) if moves else f"{named}@{point.revision}")


class DiffProgress:
    """How far a diff has come: keys looked at, and how many there are about; 0 until that is known."""

    def __init__(self, stopped: Callable[[], bool] = lambda: False) -> None:
        self.done = 0
        self.total = 0
        self.stopped = stopped

    @property
    def share(self) -> int | None:
        """Percent, below 100."""
        return min(99, 100 * self.done // self.total) if self.total else None


class _StoppedError(Exception):
    pass


class DiffSides(NamedTuple):
    """The two states that are compared."""

    before: DiffSide
    after: DiffSide

    @property
    def one_history(self) -> bool:
        """Whether both are states of one namespace, so that the diff costs what changed and not what there is."""
        one, other = self.before.backend, self.after.backend
        return (one.url, one.namespace) == (other.url, other.namespace)

    def pairs(self, keys: Iterable[str]) -> Iterator[tuple[str, Version | None, Version | None]]:
        """Both versions of each key, read page by page."""
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
        """Return what happened to one key, read now; None where both sides are the same."""
        _, old, new = next(self.pairs([key]))
        return comparison.change(key, old, new)

    def among(self, keys: Sequence[str], walk: DiffProgress) -> Iterator[Change]:
        """Yield the changes of these keys. O(keys given)."""
        walk.total = len(keys)
        for key, old, new in self.pairs(keys):
            if walk.stopped():
                return
            walk.done += 1
            if self.one_history and old is not None and new is not None and old.revision == new.revision:
                continue
            if found := comparison.change(key, old, new):
                yield found

    def changes(self, walk: DiffProgress) -> Iterator[Change]:
        """All changes in key order: O(changes) in one namespace, else O(keys) and streamed."""
        if self.one_history:
            yield from self.among(
                comparison.changed_keys(self.before.backend, self.before.point, self.after.point), walk
            )
            return
        # a key of both sides counts once: the larger side is the better guess
        walk.total = max(self.before.backend.head().count, self.after.backend.head().count)

        def pass_by(_key: str) -> bool:
            walk.done += 1
            if walk.stopped():
                raise _StoppedError
            return True

        (left, one, _), (right, other, _) = self
        try:
            yield from comparison.diff_stores((left, one), (right, other), ("", ""), pass_by)
        except _StoppedError:
            return


def collect(changes: Iterable[Change], found: Callable[[list[str], bytes], None]) -> None:
    """Go through changes, and hand on keys and kinds (places in `KINDS`): the first at once, then in batches."""
    keys: list[str] = []
    kinds = bytearray()
    told = 0.0
    for change in changes:
        keys.append(change.key)
        kinds.append(KINDS.index(change.kind))
        moment = time.monotonic()
        if len(keys) >= KEYS_PER_REPORT or moment - told >= REPORT_SECONDS:
            found(keys, bytes(kinds))
            keys, kinds, told = [], bytearray(), moment
    if keys:
        found(keys, bytes(kinds))


def selectors(paths: Sequence[PathChange]) -> list[str]:
    """Return what `restore --path` takes for each change.

    Its pointer, with the sign before it where two have the same.
    """
    seen: dict[str, int] = {}
    for one in paths:
        seen[one.path] = seen.get(one.path, 0) + 1
    return [one.path if seen[one.path] == 1 else MARKS[one.kind] + one.path for one in paths]


class DiffIndex:
    """The keys that differ, in key order, each with its kind and whether it is marked. For one thread.

    A million of them take the strings and nine bytes each; counts are kept as they change.
    """

    def __init__(self, mark: int = NONE) -> None:
        self.keys: list[str] = []
        self.partly: dict[str, set[str]] = {}  # of a key marked partly, the chosen changes: see `selectors`
        self.fresh = mark  # the mark of what is yet to come
        self.earlier: DiffIndex | None = (
            None  # whose marks are taken over: what was listed before it was looked at again
        )
        self._flags = bytearray()
        self._tally = [0] * 16

    def __len__(self) -> int:
        return len(self.keys)

    def extend(self, keys: list[str], kinds: bytes) -> None:
        """Take a batch, all above what is there."""
        flags = kinds.translate(bytes((flag + _MARK * self.fresh) % 256 for flag in range(256)))
        start = len(self.keys)
        self.keys += keys
        self._flags += flags
        for flag in set(flags):
            self._tally[flag] += flags.count(flag)
        if self.earlier is not None:
            self._mark_as(self.earlier, start)

    def _mark_as(self, earlier: DiffIndex, start: int) -> None:
        for place in range(start, len(self.keys)):
            key = self.keys[place]
            index = earlier.find(key)
            if index < len(earlier) and earlier.keys[index] == key and earlier.mark(index) != self.mark(place):
                self.set_mark(place, earlier.mark(index), earlier.partly.get(key))

    def find(self, key: str) -> int:
        """Where a key is, or would be. O(log n)."""
        return bisect_left(self.keys, key)

    def kind(self, index: int) -> Kind:
        """Return what happened to a key."""
        return KINDS[self._flags[index] & _KIND]

    def mark(self, index: int) -> int:
        """`NONE`, `PARTLY` or `WHOLE`."""
        return self._flags[index] // _MARK

    def set_mark(self, index: int, mark: int, chosen: set[str] | None = None) -> None:
        """Mark a key; partly, with the changes that are chosen."""
        flag = self._flags[index]
        self._tally[flag] -= 1
        self._flags[index] = flag & _KIND | mark * _MARK
        self._tally[self._flags[index]] += 1
        if mark == PARTLY and chosen:
            self.partly[self.keys[index]] = chosen
        else:
            self.partly.pop(self.keys[index], None)

    def set_marks(self, mark: int | None, shown: Iterable[int] | None = None) -> None:
        """Mark all keys, or those shown; None marks those that are not, and takes the mark of the others."""
        marks = {old: mark if mark is not None else NONE if old else WHOLE for old in (NONE, PARTLY, WHOLE)}
        table = bytes((flag & _KIND | marks.get(flag // _MARK, 0) * _MARK) % 256 for flag in range(256))
        if shown is None:
            self._flags = bytearray(self._flags.translate(table))
            self.fresh = marks[self.fresh]
            self.partly.clear()
        else:
            for index in shown:
                self._flags[index] = table[self._flags[index]]
                self.partly.pop(self.keys[index], None)
        self._count()

    def _count(self) -> None:
        self._tally = [self._flags.count(flag) for flag in range(16)]

    def count(self, kind: Kind | None = None, *marks: int) -> int:
        """How many keys there are of a kind, or of any, with one of these marks, or with any. O(1)."""
        kinds = range(len(KINDS)) if kind is None else (KINDS.index(kind),)
        return sum(self._tally[one + mark * _MARK] for one in kinds for mark in marks or (NONE, PARTLY, WHOLE))

    @property
    def marked(self) -> int:
        """How many keys are marked, partly ones too."""
        return self.count(None, PARTLY, WHOLE)

    def marked_keys(self, mark: int) -> Iterator[str]:
        """Yield the keys with a mark, in key order. Finding the next costs next to nothing."""
        marks = self._flags.translate(bytes(flag // _MARK for flag in range(256)))
        place = marks.find(mark)
        while place >= 0:
            yield self.keys[place]
            place = marks.find(mark, place + 1)

    def merge(self, again: RecheckResult) -> int:
        """Put in what keys are now: another kind, no difference any more, or one that was not there.

        A mark stays as it is, but what was not there before is not marked. Returns how many of these there are.
        O(keys) to copy, O(log n) for each that is given.
        """
        keys: list[str] = []
        flags = bytearray()
        start = fresh = 0
        self.partly = dict(again.partly)
        for key in sorted(again.kinds):
            index, kind = self.find(key), again.kinds[key]
            known = index < len(self.keys) and self.keys[index] == key
            keys += self.keys[start:index]
            flags += self._flags[start:index]
            start = index + known
            mark = self._flags[index] // _MARK if known else NONE
            if mark == PARTLY and key not in self.partly:  # nothing of what was chosen inside is there any more
                mark = NONE
            if kind is not None:
                keys.append(key)
                flags.append(KINDS.index(kind) + mark * _MARK)
                fresh += not known
        self.keys = keys + self.keys[start:]
        self._flags = flags + self._flags[start:]
        self._count()
        return fresh


class DiffFilter:
    """The places in `DiffIndex` of those that a filter lets through. Computed step by step, as `DiffIndex` grows too.

    Args:
        found: what is filtered.
        kinds: which kinds to show.
        text: a glob if it holds `*`, `?` or `[`, else what a key must hold; with a capital letter it must be exact.

    """

    def __init__(self, found: DiffIndex, kinds: frozenset[Kind] = frozenset(KINDS), text: str = "") -> None:
        self.found = found
        self.kinds = kinds
        self.text = text
        self._seen = 0
        self._all = len(kinds) == len(KINDS) and not text
        self._places = array("L")
        self._match = None if self._all or not text else _matcher(text)

    def __len__(self) -> int:
        return len(self.found) if self._all else len(self._places)

    def __getitem__(self, index: int) -> int:
        if self._all:
            return range(len(self.found))[index]
        return self._places[index]

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self.found)) if self._all else self._places)

    @property
    def filtered(self) -> bool:
        """Whether the filter keeps anything back."""
        return not self._all

    @property
    def done(self) -> bool:
        """Whether all that was found has been looked at."""
        return self._all or self._seen >= len(self.found)

    def advance(self, limit: int) -> None:
        """Look at so many more keys."""
        if self._all:
            return
        start, end = self._seen, min(len(self.found), self._seen + limit)
        self._seen = end
        places: Iterable[int] = range(start, end)
        if len(self.kinds) < len(KINDS):
            places = [place for place in places if self.found.kind(place) in self.kinds]
        match, keys = self._match, self.found.keys
        self._places.extend(places if match is None else [place for place in places if match(keys[place])])

    def find(self, place: int) -> int:
        """Which of those shown is at a place in `DiffIndex`, or the first after it. O(log n)."""
        return min(place, len(self.found)) if self._all else bisect_left(self._places, place)


def _matcher(text: str) -> Callable[[str], object]:
    exact = text != text.lower()
    if is_glob(text):
        return compile_globs(text, ignore_case=not exact).match
    return (lambda key: text in key) if exact else (lambda key: text in key.lower())


class RecheckResult(NamedTuple):
    """What keys are that were written since a preview: a kind or None, and what is left of the choice inside them."""

    sides: DiffSides
    kinds: dict[str, Kind | None]
    partly: dict[str, set[str]]


def check_again(
    sides: DiffSides, now: StateAt, only: Sequence[str] | None, partly: dict[str, set[str]], walk: DiffProgress
) -> RecheckResult:  # fmt: skip
    """Look again at the keys written since a diff that begins at live. O(what was written since).

    Args:
        sides: the diff, whose `before` is live as it was.
        now: live as it is.
        only: the keys that the diff is limited to.
        partly: the changes chosen inside keys.
        walk: where to stop.

    Raises:
        HistoryPruned: it is no longer known what was written since.
        StateException: it was stopped.

    """
    written = comparison.changed_keys(sides.before.backend, sides.before.point, now)
    if only is not None:
        wanted = set(only)
        written = [key for key in written if key in wanted]
    fresh = sides._replace(before=sides.before._replace(point=now))
    kinds: dict[str, Kind | None] = dict.fromkeys(written)
    left = {key: chosen for key, chosen in partly.items() if key not in kinds}
    for change in fresh.among(written, walk):
        kinds[change.key] = change.kind
        if change.key in partly and change.kind == "changed":
            left[change.key] = partly[change.key].intersection(selectors(change.paths))
    if walk.stopped():
        raise StateException("looking again was stopped", "R looks again")
    return RecheckResult(fresh, kinds, {key: chosen for key, chosen in left.items() if chosen})
