"""Compare two JSON values by structure. Pure: reads no backend."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from ...codec import canonical
from ...errors import KeyNotFound
from ...model import ABSENT, Kind, PathChange
from ..changes import SIGNS
from .pointers import escape_token, unescape_token

Opcode = tuple[str, int, int, int, int]
_MAX_MATCHED_PAIRS = 250_000  # more pairs of elements than these go to the patience diff, not to SequenceMatcher
_MAX_EQUAL_PAIRS = 50_000  # SequenceMatcher visits each pair of equal elements repeatedly


class _Edit(NamedTuple):
    """Hold one difference: `at` is its pointer while patching left to right, `was` its pointer in the value before."""

    kind: Kind
    was: str
    at: str
    before: Any
    after: Any

    @property
    def path(self) -> str:
        """Return the pointer to show: the place in the value that holds the difference."""
        return self.was if self.kind == "removed" else self.at


def compare(before: Any, after: Any) -> list[PathChange]:
    """List the differences inside two JSON values, in document order.

    Objects are compared by key. Arrays are aligned, so that one insertion is one change. The pointer of a removed
    element is its place in `before`; every other pointer is a place in `after`. Two values that differ as a whole give
    one change with the empty pointer. O(size) for equal parts; a differing stretch of an array costs up to its square,
    bounded.
    """
    return list(differences(before, after))


def differences(before: Any, after: Any) -> Iterator[PathChange]:
    """Yield the differences of `compare`, one by one, so that a caller may stop early."""
    return (PathChange(step.path, step.kind, step.before, step.after) for step in _steps(before, after))


def json_patch(before: Any, after: Any, path: str = "") -> list[dict[str, Any]]:
    """List the RFC 6902 operations that turn `before` into `after`; `path` prefixes each pointer."""
    operations: list[dict[str, Any]] = []
    for step in _steps(before, after):
        if step.kind == "removed":
            operations.append({"op": "remove", "path": path + step.at})
        else:
            verb = "add" if step.kind == "added" else "replace"
            operations.append({"op": verb, "path": path + step.at, "value": step.after})
    return operations


def apply_selected(before: Any, after: Any, chosen: Iterable[str]) -> Any:
    """Apply only some of the differences to `before`; the other places keep their value of `before`.

    Args:
        before: a JSON value, or `ABSENT`. It is not changed; the result shares parts with it and with `after`.
        after: the other value.
        chosen: the pointers of the changes to make, as `compare` names them. A removal and another change of one array
            can share a pointer, which then means both. With the sign of its kind before it (`-/1`, `+/1`, `~/1`) a
            pointer means that change alone.

    All pointers give `after`, none give `before`. O(size), and for each change in an array up to the array's length.

    Raises:
        KeyNotFound: a pointer names no change.

    """
    wanted = set(chosen)
    missing = set(wanted)
    steps = []
    for step in _whole_or_steps(before, after):
        names = {step.path, SIGNS[step.kind] + step.path}
        missing -= names
        steps.append((step, not names.isdisjoint(wanted)))
    if missing:
        raise KeyNotFound(f"there is no change at {', '.join(map(repr, sorted(missing)[:5]))}")
    if all(taken for _, taken in steps):
        return after
    patch = _PartialPatch(before)
    for step, taken in steps:
        if taken:
            patch.make(step)
        else:
            patch.leave_out(step)
    return patch.value


def _whole_or_steps(before: Any, after: Any) -> Iterator[_Edit]:
    if (before is ABSENT) == (after is ABSENT):
        return _steps(before, after)
    return iter([_Edit("added" if before is ABSENT else "removed", "", "", before, after)])


class _PartialPatch:
    """Apply edits one by one, left to right, and copy only the parts that they change.

    An edit's `at` counts on all edits before it. For each edit left out, the later indices of the same array are one
    too high (nothing was added) or one too low (nothing was removed).
    """

    def __init__(self, value: Any) -> None:
        self.value = value
        self._shift: Counter[str] = Counter()  # by the pointer of the array
        self._copied: set[str] = set()

    def make(self, step: _Edit) -> None:
        """Apply an edit."""
        parent, _, token = step.at.rpartition("/")
        if not step.at:
            self.value = step.after
            return
        place = self._container(parent)
        if isinstance(place, dict):
            name = unescape_token(token)
            if step.kind == "removed":
                del place[name]
            else:
                place[name] = step.after
        else:
            index = int(token) + self._shift[parent]
            end = index if step.kind == "added" else index + 1
            place[index:end] = [] if step.kind == "removed" else [step.after]

    def leave_out(self, step: _Edit) -> None:
        """Record that an edit is not applied."""
        self._shift[step.at.rpartition("/")[0]] += {"added": -1, "removed": 1, "changed": 0}[step.kind]

    def _container(self, pointer: str) -> Any:
        """Return the object or array at a pointer, copied together with all its parents."""
        if not pointer:
            self.value = self._own("", self.value)
            return self.value
        parent, _, token = pointer.rpartition("/")
        place = self._container(parent)
        step = unescape_token(token) if isinstance(place, dict) else int(token) + self._shift[parent]
        place[step] = self._own(pointer, place[step])
        return place[step]

    def _own(self, pointer: str, value: Any) -> Any:
        if pointer in self._copied:
            return value
        self._copied.add(pointer)
        return value.copy()


def _steps(before: Any, after: Any, was: str = "", at: str = "") -> Iterator[_Edit]:
    if isinstance(before, dict) and isinstance(after, dict):
        for key, old in before.items():
            step = "/" + escape_token(key)
            if key not in after:
                yield _Edit("removed", was + step, at + step, old, ABSENT)
            else:
                yield from _steps(old, after[key], was + step, at + step)
        for key, new in after.items():
            if key not in before:
                yield _Edit("added", was + "/" + escape_token(key), at + "/" + escape_token(key), ABSENT, new)
    elif isinstance(before, list) and isinstance(after, list):
        yield from _list_steps(before, after, was, at)
    elif canonical(before) != canonical(after):
        yield _Edit("changed", was, at, before, after)


def _list_steps(before: list[Any], after: list[Any], was: str, at: str) -> Iterator[_Edit]:
    for tag, i1, i2, j1, j2 in align([canonical(item) for item in before], [canonical(item) for item in after]):
        if tag == "equal":
            continue
        both = min(i2 - i1, j2 - j1)
        for k in range(both):
            yield from _steps(before[i1 + k], after[j1 + k], f"{was}/{i1 + k}", f"{at}/{j1 + k}")
        for i in range(i1 + both, i2):
            yield _Edit("removed", f"{was}/{i}", f"{at}/{j1 + both}", before[i], ABSENT)
        for j in range(j1 + both, j2):
            yield _Edit("added", f"{was}/{i2}", f"{at}/{j}", ABSENT, after[j])


def align(before: Sequence[Any], after: Sequence[Any]) -> list[Opcode]:
    """Return opcodes as of `difflib` (`equal`, `replace`, `delete`, `insert`) that turn one sequence into the other.

    The common ends are cut off first. A small middle goes to `SequenceMatcher`. A large middle is divided at elements
    that each side holds once, in the longest order they share (patience diff), so that the cost stays near O(n log n).
    A large middle without such elements is one `replace`.
    """
    out: list[Opcode] = []
    pending: list[tuple[int, int, int, int]] = [(0, len(before), 0, len(after))]
    while pending:
        i1, i2, j1, j2 = pending.pop()
        head = 0
        while i1 + head < i2 and j1 + head < j2 and before[i1 + head] == after[j1 + head]:
            head += 1
        tail = 0
        while tail < min(i2 - i1, j2 - j1) - head and before[i2 - tail - 1] == after[j2 - tail - 1]:
            tail += 1
        if head:
            out.append(("equal", i1, i1 + head, j1, j1 + head))
        if tail:
            out.append(("equal", i2 - tail, i2, j2 - tail, j2))
        i1, i2, j1, j2 = i1 + head, i2 - tail, j1 + head, j2 - tail
        if i1 == i2 or j1 == j2:
            if i1 < i2 or j1 < j2:
                out.append(("delete" if i1 < i2 else "insert", i1, i2, j1, j2))
        elif (i2 - i1) * (j2 - j1) <= _MAX_MATCHED_PAIRS and _alike(before[i1:i2], after[j1:j2]) <= _MAX_EQUAL_PAIRS:
            from difflib import SequenceMatcher  # imported here: a load needs none

            matcher = SequenceMatcher(None, before[i1:i2], after[j1:j2], autojunk=False)
            out += [(tag, i1 + a, i1 + b, j1 + c, j1 + d) for tag, a, b, c, d in matcher.get_opcodes()]
        elif anchors := _anchors(before[i1:i2], after[j1:j2]):
            i, j = i1, j1
            for a, b in [*anchors, (i2 - i1, j2 - j1)]:
                pending.append((i, i1 + a, j, j1 + b))
                i, j = i1 + a, j1 + b
        else:
            out.append(("replace", i1, i2, j1, j2))
    merged: list[Opcode] = []
    for code in sorted(out, key=lambda code: (code[1], code[3])):
        if merged and merged[-1][0] == code[0] == "equal":
            _, i1, _, j1, _ = merged[-1]
            merged[-1] = ("equal", i1, code[2], j1, code[4])
        else:
            merged.append(code)
    return merged


def _alike(before: Sequence[Any], after: Sequence[Any]) -> int:
    right = Counter(after)
    return sum(right[item] for item in before)


def _anchors(before: Sequence[Any], after: Sequence[Any]) -> list[tuple[int, int]]:
    """Pair the indices of elements unique on both sides, in the longest run that keeps its order."""
    left, right = Counter(before), Counter(after)
    places = {item: j for j, item in enumerate(after) if right[item] == 1}
    pairs = [(i, places[item]) for i, item in enumerate(before) if left[item] == 1 and item in places]
    tops: list[int] = []  # the smallest last j of an increasing run of each length
    at_top: list[int] = []
    link: list[int] = []
    for index, (_, j) in enumerate(pairs):
        length = bisect_left(tops, j)
        link.append(at_top[length - 1] if length else -1)
        tops[length : length + 1] = [j]
        at_top[length : length + 1] = [index]
    run: list[tuple[int, int]] = []
    index = at_top[-1] if at_top else -1
    while index >= 0:
        run.append(pairs[index])
        index = link[index]
    return run[::-1]


def line_diff(before: str, after: str, context: int = 3) -> list[tuple[str, str]]:
    """Compare two texts line by line: pairs of a mark and a line, in order.

    The mark is `-`, `+`, ` ` for a line of context, or `…` for omitted equal lines, with their number as the text.
    """
    old, new = before.split("\n"), after.split("\n")
    out: list[tuple[str, str]] = []
    codes = align(old, new)
    for position, (tag, i1, i2, j1, j2) in enumerate(codes):
        if tag != "equal":
            out += [("-", line) for line in old[i1:i2]] + [("+", line) for line in new[j1:j2]]
            continue
        head = i1 if position == 0 else min(i2, i1 + context)
        tail = i2 if position == len(codes) - 1 else max(head, i2 - context)
        out += [(" ", line) for line in old[i1:head]]
        if tail > head:
            out.append(("…", f"{tail - head} equal line{'s' if tail - head > 1 else ''}"))
        out += [(" ", line) for line in old[tail:i2]]
    return out
