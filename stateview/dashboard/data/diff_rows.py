"""The change of one key as lines: places with before and after, texts line by line with the changed words marked.

Everything is bounded: a line by what is looked at of a text, a place by its lines, the whole by `ROWS`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, NamedTuple

from rich.cells import cell_len

from ... import codec
from ...model import ABSENT, PathChange
from ...states.json_diff import Change, align, differences, line_diff
from ...states.pointers import split_pointer
from ..display.redaction import MASK
from ..display.text import SIGNS, one_line

MAX_PLACES = 20_000  # places inside one value that are listed
MAX_ROWS = 20_000  # lines of one change
MAX_LINES = 400  # lines of one value that was added or removed
LINE_CHARACTERS = 1_000  # characters of one text that stand on one line before it is wrapped
BRIEF_CHARACTERS = 400  # characters of a value beside others
_TALL_CHARACTERS = 60  # characters from which on an object or array is better read on several lines
_NEAR_CHARACTERS = 40  # characters of each of two long texts in a list
_SLACK_CHARACTERS = 100  # characters that what was cut may be longer
INDENT_COLUMNS = 2  # columns by which what goes on with a wrapped line is moved in
_AROUND_CHARACTERS = 40  # characters before the first difference of two long texts
_MIN_ALIKE_SHARE = 0.3  # share of a line that must be the same for its changed words to be marked
_MAX_BITS = 200_000  # of an integer that is written out
_WORD = re.compile(r"\w+|\s+|[^\w\s]")

Hidden = Callable[[str], bool]  # whether what a name stands for is masked


class StyledSpan(NamedTuple):
    """A stretch of a line in one style; `marked` where it is a changed word."""

    text: str
    role: str = ""
    marked: bool = False


Parts = tuple[StyledSpan, ...]


class DiffRow(NamedTuple):
    """One line: of which place (-1 for a note), whether it is that place's first, a sign, and what stands there.

    `right` is the other half where before and after stand side by side, with a sign of its own. `number` is which line
    of its place it is, the same however lines are arranged: what a changed line was has the number of what it became.
    `goes_on` where it is the rest of a wrapped line, which has the sign at its beginning alone.
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
        """Whether it says what changed."""
        if self.goes_on:
            return any(part.role in ("added", "removed") for part in (*self.left, *(self.right or ())))
        return self.sign in "+−~" or self.right_sign in "+−~"


class Layout(NamedTuple):
    """How wide the lines are, in columns, and whether before and after stand side by side."""

    width: int
    split: bool = False

    @property
    def half(self) -> int:
        """The columns of one side, without its sign and the line between."""
        return max(8, (self.width - 1) // 2 - 2)


def places_of(change: Change, stopped: Callable[[], bool]) -> tuple[list[PathChange], bool]:
    """Return what differs inside a value, the first `PLACES` of it, and whether that is all. O(size)."""
    if change.kind != "changed":
        return [PathChange("", change.kind, change.before, change.after)], True
    found: list[PathChange] = []
    for one in differences(change.before, change.after):
        if stopped():
            break
        if len(found) == MAX_PLACES:
            return found, False
        found.append(one)
    return found, True


def rows_of(key: str, places: list[PathChange], whole: bool, layout: Layout, hidden: Hidden) -> list[DiffRow]:
    """Return the lines of a change. O(what is shown), but for texts, which are compared line by line."""
    out: list[DiffRow] = []
    for number, one in enumerate(places):
        out += islice(_place(key, number, one, layout, hidden), MAX_ROWS - len(out) + 1)
        if len(out) > MAX_ROWS:
            left = len(places) - number - 1
            said = f"{left:,} more places" if left else "more lines"
            return [*out[:MAX_ROWS], _note(f"… {said} are not shown")]
    if not whole:
        out.append(_note(f"… more than {MAX_PLACES:,} places differ; the others are not shown"))
    return out


def stops_of(rows: list[DiffRow]) -> list[int]:
    """Where one stops who goes from change to change: at each place, and in a text at each changed stretch. O(rows)."""
    stops: list[int] = []
    for at, row in enumerate(rows):
        if row.head:
            stops.append(at)
        elif row.differs and not rows[at - 1].differs:
            last = rows[stops[-1]]
            if last.head and last.place == row.place:  # a text's title says that it changed; here it says what
                stops.pop()
            stops.append(at)
    return stops


def summary(change: Change, hidden: Hidden) -> str:
    """Return a change in a few words, for a list. O(size) at worst: it is for values that are not large."""
    if hidden(change.key):
        return MASK
    if change.kind != "changed":
        return brief(change.after if change.kind == "added" else change.before, 60, hidden)
    first = list(islice(differences(change.before, change.after), 100))
    if len(first) > 1:
        return f"{len(first)}{'+' if len(first) == 100 else ''} places"
    one = first[0]
    if (
        isinstance(one.before, str)
        and isinstance(one.after, str)
        and max(len(one.before), len(one.after)) > _NEAR_CHARACTERS
    ):
        start = max(
            0, _common(one.before, one.after) - _NEAR_CHARACTERS // 4
        )  # else two long texts would look the same
        one = one._replace(
            before=one.before[start : start + _NEAR_CHARACTERS], after=one.after[start : start + _NEAR_CHARACTERS]
        )
    old, new = _sides(one, 60, hidden)
    if one.kind == "changed":
        return f"{one.path} {old} → {new}".strip()
    return f"{SIGNS[one.kind]} {one.path} {new if one.kind == 'added' else old}"


def brief(value: Any, bound: int, hidden: Hidden) -> str:
    """Return the start of a value as JSON, with its size where that is not all of it. O(bound)."""
    parts: list[str] = []
    room = bound
    for piece in _pieces(value, bound, hidden):
        parts.append(piece)
        room -= len(piece)
        if room < 0:
            text = "".join(parts)[:bound]
            if isinstance(value, str):
                return f"{text}… ({len(value):,} characters)"
            return f"{text}… ({len(value):,} items)" if isinstance(value, (dict, list)) else text + "…"
    return "".join(parts)


def _pieces(value: Any, bound: int, hidden: Hidden) -> Iterator[str]:
    if isinstance(value, str):
        yield codec.encode(value[: bound + 1]).decode()[: bound + 2]
    elif isinstance(value, dict):
        for number, (name, item) in enumerate(value.items()):
            yield ("," if number else "{") + codec.encode(name[: bound + 1]).decode() + ":"
            if hidden(name):
                yield MASK
            else:
                yield from _pieces(item, bound, hidden)
        yield "}" if value else "{}"
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield "," if number else "["
            yield from _pieces(item, bound, hidden)
        yield "]" if value else "[]"
    elif type(value) is int and value.bit_length() > _MAX_BITS:
        yield f"(an integer of {value.bit_length():,} bits)"
    elif value is ABSENT:
        yield "(no value)"
    else:
        yield codec.encode(value).decode()


def _pretty(value: Any, hidden: Hidden, start: str = "", end: str = "", depth: int = 0) -> Iterator[str]:
    indent = "  " * min(depth, 40)
    if not isinstance(value, (dict, list)) or not value:
        yield indent + start + brief(value, BRIEF_CHARACTERS, hidden) + end
        return
    yield indent + start + ("{" if isinstance(value, dict) else "[")
    last = len(value) - 1
    if isinstance(value, dict):
        for number, (name, item) in enumerate(value.items()):
            label, comma = brief(name, BRIEF_CHARACTERS, hidden) + ": ", "," if number < last else ""
            if hidden(name):
                yield f"{indent}  {label}{MASK}{comma}"
            else:
                yield from _pretty(item, hidden, label, comma, depth + 1)
    else:
        for number, item in enumerate(value):
            yield from _pretty(item, hidden, "", "," if number < last else "", depth + 1)
    yield indent + ("}" if isinstance(value, dict) else "]") + end


def _note(text: str) -> DiffRow:
    return DiffRow(-1, False, " ", (StyledSpan(text, "dim"),))


def _sides(one: PathChange, bound: int, hidden: Hidden) -> tuple[str, str]:
    if any(map(hidden, split_pointer(one.path))):
        return MASK, MASK
    return brief(one.before, bound, hidden), brief(one.after, bound, hidden)


def _place(key: str, number: int, one: PathChange, layout: Layout, hidden: Hidden) -> Iterator[DiffRow]:
    sign = SIGNS[one.kind]
    title = StyledSpan(_end(one.path, layout.width // 2) if one.path else "(the whole value)", "key")
    old, new = (MASK, MASK) if hidden(key) else _sides(one, BRIEF_CHARACTERS, hidden)
    texts = isinstance(one.before, str) and isinstance(one.after, str) and MASK not in (old, new)
    by_line = texts and ("\n" in one.before or "\n" in one.after)
    if one.kind == "changed":
        wide = cell_len(one_line(title.text)) + cell_len(one_line(old)) + cell_len(one_line(new)) + 8
        if not by_line and not layout.split and wide <= layout.width:
            sides = (StyledSpan(old, "removed"), StyledSpan(" → ", "dim"), StyledSpan(new, "added"))
            yield DiffRow(number, True, sign, (title, StyledSpan("  "), *sides))
            return
        if by_line:
            counts = f"  {one.before.count(chr(10)) + 1:,} → {one.after.count(chr(10)) + 1:,} lines"
            yield DiffRow(number, True, sign, (title, StyledSpan(counts, "dim")))
            yield from _text(number, one.before, one.after, layout)
        else:
            yield DiffRow(number, True, sign, (title,))
            left, right = _quoted(one.before, one.after) if texts else (old, new)
            yield from _hunk(number, [left], [right], layout)
        return
    value, shown = (one.after, new) if one.kind == "added" else (one.before, old)
    role = one.kind
    tall = (
        "\n" in value if isinstance(value, str) else isinstance(value, (dict, list)) and len(shown) > _TALL_CHARACTERS
    )
    wide = cell_len(one_line(shown)) + cell_len(one_line(title.text)) + 6 > layout.width
    if shown == MASK or not (tall or wide):
        yield DiffRow(number, True, sign, (title, StyledSpan("  "), StyledSpan(shown, role)))
        return
    yield DiffRow(number, True, sign, (title,))
    lines = iter(value.split("\n")) if isinstance(value, str) and "\n" in value else _pretty(value, hidden)
    for place, text in enumerate(islice(lines, MAX_LINES), 1):
        yield from _wrapped(number, sign, (StyledSpan(_cut(text), role),), layout, place)
    if next(lines, None) is not None:
        yield DiffRow(number, False, "…", (StyledSpan("more of this value is not shown", "dim"),), number=MAX_LINES + 1)


def _end(text: str, room: int) -> str:
    """Return the end of a pointer says most."""
    room = max(room, 20)
    return text if len(text) <= room else "…" + text[1 - room :]


def _cut(text: str) -> str:
    return text if len(text) <= LINE_CHARACTERS else f"{text[:LINE_CHARACTERS]}… ({len(text):,} characters)"


def _quoted(before: str, after: str) -> tuple[str, str]:
    """Two texts of one line as JSON; of long ones what lies around their first difference."""
    if max(len(before), len(after)) <= LINE_CHARACTERS:
        return codec.encode(before).decode(), codec.encode(after).decode()
    return _window(before, after)


def _window(before: str, after: str) -> tuple[str, str]:
    start = max(0, _common(before, after) - _AROUND_CHARACTERS)
    return _part(before, start), _part(after, start)


def _part(text: str, start: int) -> str:
    end = "…" if start + LINE_CHARACTERS < len(text) else ""
    return f"{'…' if start else ''}{text[start : start + LINE_CHARACTERS]}{end} ({len(text):,} characters)"


def _common(before: str, after: str) -> int:
    """How many characters two texts share at their start. O(length), by comparing slices."""
    low, high = 0, min(len(before), len(after))
    while low < high:
        middle = (low + high + 1) // 2
        if before[low:middle] == after[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _text(number: int, before: str, after: str, layout: Layout) -> Iterator[DiffRow]:
    """Two texts line by line; a line that was changed stands beside what it was.

    Before each changed stretch stands which line of either text is its first.
    """
    gone: list[str] = []
    come: list[str] = []
    old = new = 1  # the next line of each, the first is 1
    place = 1  # the next line of the rows

    def changed() -> Iterator[DiffRow]:
        nonlocal place
        if apart and (gone or come):
            where = f"{old - len(gone):,} → {new - len(come):,}"
            yield DiffRow(number, False, "@", (StyledSpan(where, "dim"),), number=place)
            place += 1
        yield from _hunk(number, gone, come, layout, place)
        place += max(len(gone), len(come))

    apart = True  # whether anything parts what comes from the stretch before
    for mark, text in line_diff(before, after):
        if mark == "-" and not come:
            gone.append(text)
            old += 1
        elif mark == "+":
            come.append(text)
            new += 1
        else:
            yield from changed()
            apart = mark != "-"
            gone, come = ([], []) if apart else ([text], [])
            if mark == "-":
                old += 1
                continue
            if mark == "…":
                yield DiffRow(number, False, "…", (StyledSpan(text, "dim"),), number=place)
                equal = int(text.partition(" ")[0])
            else:
                yield from _both(number, (StyledSpan(_cut(text)),), layout, place)
                equal = 1
            old, new, place = old + equal, new + equal, place + 1
    yield from changed()


def _both(number: int, parts: Parts, layout: Layout, place: int) -> Iterator[DiffRow]:
    if layout.split:
        for index, half in enumerate(wrap(parts, layout.half, INDENT_COLUMNS)):
            yield DiffRow(number, False, " ", half, half, number=place, goes_on=index > 0)
    else:
        yield from _wrapped(number, " ", parts, layout, place)


def _hunk(number: int, gone: list[str], come: list[str], layout: Layout, first: int = 1) -> Iterator[DiffRow]:
    """Lines that gave way to others, the first to the first, with the words that differ."""
    if len(gone) + len(come) > MAX_ROWS:  # no one reads so far: what is beyond need not be compared word by word
        gone, come = gone[:MAX_ROWS], come[:MAX_ROWS]
    pairs = [words(old, new) for old, new in zip(gone, come, strict=False)]
    both = len(pairs)
    olds = [old for old, _ in pairs] + [(StyledSpan(_cut(text), "removed"),) for text in gone[both:]]
    news = [new for _, new in pairs] + [(StyledSpan(_cut(text), "added"),) for text in come[both:]]
    if not layout.split:
        for sign, lines in (("−", olds), ("+", news)):
            for place, parts in enumerate(lines, first):
                yield from _wrapped(number, sign, parts, layout, place)
        return
    for place in range(max(len(olds), len(news))):
        left = wrap(olds[place], layout.half, INDENT_COLUMNS) if place < len(olds) else []
        right = wrap(news[place], layout.half, INDENT_COLUMNS) if place < len(news) else []
        for index in range(max(len(left), len(right))):
            yield DiffRow(
                number, False, "−" if left and not index else " ", left[index] if index < len(left) else (),
                right[index] if index < len(right) else (), "+" if right and not index else " ",
                first + place, index > 0,
            )  # fmt: skip


def _wrapped(number: int, sign: str, parts: Parts, layout: Layout, place: int) -> Iterator[DiffRow]:
    for index, piece in enumerate(wrap(parts, max(8, layout.width - 4), INDENT_COLUMNS)):
        yield DiffRow(number, False, " " if index else sign, piece, number=place, goes_on=index > 0)


def words(before: str, after: str) -> tuple[Parts, Parts]:
    """Two lines with the words that differ marked; with none marked where they have too little in common."""
    if max(len(before), len(after)) > LINE_CHARACTERS + _SLACK_CHARACTERS:
        before, after = _window(before, after)
    old, new = _WORD.findall(before), _WORD.findall(after)
    left: list[StyledSpan] = []
    right: list[StyledSpan] = []
    same = 0
    for tag, i1, i2, j1, j2 in align(old, new):
        one, other = "".join(old[i1:i2]), "".join(new[j1:j2])
        if tag == "equal":
            same += len(one.strip())
        if one:
            left.append(StyledSpan(one, "removed", tag != "equal"))
        if other:
            right.append(StyledSpan(other, "added", tag != "equal"))
    if same < _MIN_ALIKE_SHARE * min(len(before), len(after)):
        return (StyledSpan(before, "removed"),), (StyledSpan(after, "added"),)
    return tuple(left), tuple(right)


def wrap(parts: Parts, width: int, indent: int = 0) -> list[Parts]:
    """Return a line as lines of at most `width` columns, made inert.

    All but the first have `indent` columns less. O(length).

    They are parted behind a blank where there is one in the last third, else wherever the width ends.
    """
    inert = [part._replace(text=one_line(part.text, 2 * LINE_CHARACTERS)) for part in parts]
    text = "".join(part.text for part in inert)
    ends: list[int] = []
    start, room = 0, width
    while start < len(text):
        start += _fitting(text[start : start + room + 1], room)
        ends.append(start)
        room = width - indent
    return _cut_at(inert, ends)


def _cut_at(parts: list[StyledSpan], ends: list[int]) -> list[Parts]:
    """Return the parts as lines that end behind so many characters each."""
    out: list[Parts] = []
    now: list[StyledSpan] = []
    start = 0  # of what is left of the part, in the whole
    stops = iter(ends)
    end = next(stops, 0)
    for part in parts:
        text = part.text
        while text:
            piece = text[: end - start]
            now.append(part._replace(text=piece))
            text, start = text[len(piece) :], start + len(piece)
            if start == end:
                out.append(tuple(now))
                now, end = [], next(stops, 0)
    return out or [()]


def _fitting(text: str, room: int) -> int:
    """How many characters of a text's start go onto a line of so many columns; one at least."""
    end = min(len(text), room)
    while end > 1 and cell_len(text[:end]) > room:
        end -= max(1, (cell_len(text[:end]) - room) // 2)
    if end == len(text):
        return end
    blank = text.rfind(" ", 0, end)
    return blank + 1 if blank >= 0 and cell_len(text[: blank + 1]) * 3 >= room * 2 else end
