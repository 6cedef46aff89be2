"""The change of one key as rows: each place that differs, with its values before and after.

Texts are compared line by line, with the changed words marked. Everything is bounded: a line by its characters, a place
by its lines, and a change by `MAX_ROWS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import groupby, islice
from typing import Any, NamedTuple

from rich.cells import cell_len

from ...cli.results import plural
from ...model import PathChange
from ...states.changes import Change
from ...states.values.json_diff import align, differences
from ..display.redaction import MASK
from ..display.text import SIGNS, one_line
from .diff_excerpts import Hidden, both_sides, brief
from .diff_spans import INDENT_COLUMNS, Parts, StyledSpan, cut_line, quoted, words, wrap

MAX_PLACES = 20_000  # places of one value that are listed
MAX_ROWS = 20_000  # rows of one change
MAX_LINES = 400  # lines of one added or removed value
BRIEF_CHARACTERS = 400  # characters of a value beside others
CONTEXT_LINES = 3  # equal lines shown before and after changed lines
_TALL_CHARACTERS = 60  # a longer object or array is shown on several lines


class DiffRow(NamedTuple):
    """One row of a change.

    Attributes:
        place: the index of its place; -1 for a note.
        head: whether it is the first row of its place.
        sign: the sign in front.
        left: its text; the text before the change if before and after stand side by side.
        right: the text after the change, if the two stand side by side.
        right_sign: the sign in front of `right`.
        number: the number of its line within the place. It is the same in both layouts. A line and the line that
            replaced it have the same number.
        goes_on: whether it continues a wrapped line. It then has no sign.

    """

    place: int
    head: bool
    sign: str
    left: Parts
    right: Parts | None = None
    right_sign: str = " "
    number: int = 0
    goes_on: bool = False

    @property
    def differs(self) -> bool:
        """Whether the row shows a difference."""
        if self.goes_on:
            return any(part.role in ("added", "removed") for part in (*self.left, *(self.right or ())))
        return self.sign in "+−~" or self.right_sign in "+−~"


class Layout(NamedTuple):
    """The width of the rows in columns, and whether before and after stand side by side."""

    width: int
    split: bool = False

    @property
    def half(self) -> int:
        """The columns of one side, without its sign and the line between the sides."""
        return max(8, (self.width - 1) // 2 - 2)


def places_of(change: Change, stopped: Callable[[], bool]) -> tuple[list[PathChange], bool]:
    """Return the first `MAX_PLACES` differences inside a value, and whether these are all. O(size)."""
    if change.kind != "changed":
        return [PathChange("", change.kind, change.before, change.after)], True
    places: list[PathChange] = []
    for place in differences(change.before, change.after):
        if stopped():
            break
        if len(places) == MAX_PLACES:
            return places, False
        places.append(place)
    return places, True


def rows_of(key: str, places: list[PathChange], whole: bool, layout: Layout, hidden: Hidden) -> list[DiffRow]:
    """Return the rows of a change. O(rows), except for texts, which are compared line by line."""
    rows: list[DiffRow] = []
    for index, place in enumerate(places):
        rows += islice(_place(key, index, place, layout, hidden), MAX_ROWS - len(rows) + 1)
        if len(rows) > MAX_ROWS:
            left = len(places) - index - 1
            rest = f"{left:,} more places" if left else "more lines"
            return [*rows[:MAX_ROWS], _note(f"… {rest} are not shown")]
    if not whole:
        rows.append(_note(f"… more than {MAX_PLACES:,} places differ; the others are not shown"))
    return rows


def stops_of(rows: list[DiffRow]) -> list[int]:
    """Return the rows to which "next change" moves: each place, or each changed part of a text. O(rows)."""
    stops: list[int] = []
    for at, row in enumerate(rows):
        if row.head:
            stops.append(at)
        elif row.differs and not rows[at - 1].differs:
            last = rows[stops[-1]]
            if last.head and last.place == row.place:  # the text's title, which only says that the text changed
                stops.pop()
            stops.append(at)
    return stops


def _note(text: str) -> DiffRow:
    return DiffRow(-1, False, " ", (StyledSpan(text, "dim"),))


def _place(key: str, index: int, place: PathChange, layout: Layout, hidden: Hidden) -> Iterator[DiffRow]:
    title = StyledSpan(_end_of(place.path, layout.width // 2) if place.path else "(the whole value)", "key")
    values = () if place.path else (place.before, place.after)
    old, new = (MASK, MASK) if hidden(key, *values) else both_sides(place, BRIEF_CHARACTERS, hidden)
    if place.kind == "changed":
        yield from _changed(index, place, title, (old, new), layout)
    elif place.kind == "added":
        yield from _one_side(index, place.kind, place.after, title, new, layout, hidden)
    else:
        yield from _one_side(index, place.kind, place.before, title, old, layout, hidden)


def _changed(
    index: int, place: PathChange, title: StyledSpan, excerpts: tuple[str, str], layout: Layout
) -> Iterator[DiffRow]:  # fmt: skip
    sign, before, after = SIGNS["changed"], place.before, place.after
    old, new = excerpts
    texts = isinstance(before, str) and isinstance(after, str) and MASK not in excerpts
    if texts and ("\n" in before or "\n" in after):
        counts = f"  {before.count(chr(10)) + 1:,} → {after.count(chr(10)) + 1:,} lines"
        yield DiffRow(index, True, sign, (title, StyledSpan(counts, "dim")))
        yield from _text(index, before, after, layout)
        return
    columns = sum(cell_len(one_line(text)) for text in (title.text, old, new)) + 8
    if not layout.split and columns <= layout.width:
        sides = (StyledSpan(old, "removed"), StyledSpan(" → ", "dim"), StyledSpan(new, "added"))
        yield DiffRow(index, True, sign, (title, StyledSpan("  "), *sides))
        return
    yield DiffRow(index, True, sign, (title,))
    left, right = quoted(before, after) if texts else (old, new)
    yield from _hunk(index, [left], [right], layout)


def _one_side(
    index: int, kind: str, value: Any, title: StyledSpan, excerpt: str, layout: Layout, hidden: Hidden
) -> Iterator[DiffRow]:  # fmt: skip
    """Yield the rows of a value that was added or removed."""
    sign = SIGNS[kind]
    if isinstance(value, str):
        tall = "\n" in value
    else:
        tall = isinstance(value, (dict, list)) and len(excerpt) > _TALL_CHARACTERS
    wide = cell_len(one_line(excerpt)) + cell_len(one_line(title.text)) + 6 > layout.width
    if excerpt == MASK or not (tall or wide):
        yield DiffRow(index, True, sign, (title, StyledSpan("  "), StyledSpan(excerpt, kind)))
        return
    yield DiffRow(index, True, sign, (title,))
    lines = iter(value.split("\n")) if isinstance(value, str) and "\n" in value else _pretty(value, hidden)
    for number, text in enumerate(islice(lines, MAX_LINES), 1):
        yield from _wrapped(index, sign, (StyledSpan(cut_line(text), kind),), layout, number)
    if next(lines, None) is not None:
        yield DiffRow(index, False, "…", (StyledSpan("more of this value is not shown", "dim"),), number=MAX_LINES + 1)


def _pretty(value: Any, hidden: Hidden, start: str = "", end: str = "", depth: int = 0) -> Iterator[str]:
    """Yield the lines of a value as indented JSON."""
    indent = "  " * min(depth, 40)
    if not isinstance(value, (dict, list)) or not value:
        yield indent + start + brief(value, BRIEF_CHARACTERS, hidden) + end
        return
    yield indent + start + ("{" if isinstance(value, dict) else "[")
    last = len(value) - 1
    if isinstance(value, dict):
        for number, (name, item) in enumerate(value.items()):
            label, comma = brief(name, BRIEF_CHARACTERS, hidden) + ": ", "," if number < last else ""
            if hidden(name, item):
                yield f"{indent}  {label}{MASK}{comma}"
            else:
                yield from _pretty(item, hidden, label, comma, depth + 1)
    else:
        for number, item in enumerate(value):
            yield from _pretty(item, hidden, "", "," if number < last else "", depth + 1)
    yield indent + ("}" if isinstance(value, dict) else "]") + end


def _end_of(pointer: str, columns: int) -> str:
    """Return the end of a pointer, which says more than its start."""
    columns = max(columns, 20)
    return pointer if len(pointer) <= columns else "…" + pointer[1 - columns :]


def _text(index: int, before: str, after: str, layout: Layout) -> Iterator[DiffRow]:
    """Yield two texts line by line. A row with both line numbers comes before each group of changed lines."""
    old, new = before.split("\n"), after.split("\n")
    number = 1
    for equal, group in groupby(align(old, new), lambda opcode: opcode[0] == "equal"):
        opcodes = list(group)
        (_, i1, _, j1, _), (_, _, i2, _, j2) = opcodes[0], opcodes[-1]
        if not equal:
            where = f"{i1 + 1:,} → {j1 + 1:,}"
            yield DiffRow(index, False, "@", (StyledSpan(where, "dim"),), number=number)
            yield from _hunk(index, old[i1:i2], new[j1:j2], layout, number + 1)
            number += 1 + max(i2 - i1, j2 - j1)
            continue
        head = i1 if i1 == j1 == 0 else min(i2, i1 + CONTEXT_LINES)
        tail = i2 if (i2, j2) == (len(old), len(new)) else max(head, i2 - CONTEXT_LINES)
        for start, end in ((i1, head), (tail, i2)):
            if start == tail > head:
                omitted = StyledSpan(plural(tail - head, "equal line"), "dim")
                yield DiffRow(index, False, "…", (omitted,), number=number)
                number += 1
            for line in old[start:end]:
                yield from _both(index, (StyledSpan(cut_line(line)),), layout, number)
                number += 1


def _both(index: int, parts: Parts, layout: Layout, number: int) -> Iterator[DiffRow]:
    """Yield the rows of a line that both texts have."""
    if layout.split:
        for piece, half in enumerate(wrap(parts, layout.half, INDENT_COLUMNS)):
            yield DiffRow(index, False, " ", half, half, number=number, goes_on=piece > 0)
    else:
        yield from _wrapped(index, " ", parts, layout, number)


def _hunk(index: int, removed: list[str], added: list[str], layout: Layout, first: int = 1) -> Iterator[DiffRow]:
    """Yield removed lines and the added lines that replace them. Each removed line is compared with one added line."""
    if len(removed) + len(added) > MAX_ROWS:  # lines that are not shown need not be compared word by word
        removed, added = removed[:MAX_ROWS], added[:MAX_ROWS]
    pairs = [words(old, new) for old, new in zip(removed, added, strict=False)]
    olds = [old for old, _ in pairs] + [(StyledSpan(cut_line(text), "removed"),) for text in removed[len(pairs) :]]
    news = [new for _, new in pairs] + [(StyledSpan(cut_line(text), "added"),) for text in added[len(pairs) :]]
    if not layout.split:
        for sign, lines in (("−", olds), ("+", news)):
            for number, parts in enumerate(lines, first):
                yield from _wrapped(index, sign, parts, layout, number)
        return
    for line in range(max(len(olds), len(news))):
        left = wrap(olds[line], layout.half, INDENT_COLUMNS) if line < len(olds) else []
        right = wrap(news[line], layout.half, INDENT_COLUMNS) if line < len(news) else []
        for piece in range(max(len(left), len(right))):
            yield DiffRow(
                index, False, "−" if left and not piece else " ", left[piece] if piece < len(left) else (),
                right[piece] if piece < len(right) else (), "+" if right and not piece else " ",
                first + line, piece > 0,
            )  # fmt: skip


def _wrapped(index: int, sign: str, parts: Parts, layout: Layout, number: int) -> Iterator[DiffRow]:
    for piece, row in enumerate(wrap(parts, max(8, layout.width - 4), INDENT_COLUMNS)):
        yield DiffRow(index, False, " " if piece else sign, row, number=number, goes_on=piece > 0)
