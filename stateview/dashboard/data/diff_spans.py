"""Styled text of a diff: two lines with their different words marked, and lines wrapped to a width."""

from __future__ import annotations

import re
from typing import NamedTuple

from rich.cells import cell_len

from ... import codec
from ...states.values.json_diff import align
from ..display.text import one_line

LINE_CHARACTERS = 1_000  # characters of one line of a text; the rest is cut off
INDENT_COLUMNS = 2  # columns by which the continuation of a wrapped line is indented
_SLACK_CHARACTERS = 100  # characters by which a line that was cut may exceed `LINE_CHARACTERS`
_AROUND_CHARACTERS = 40  # characters before the first difference of two long lines
_MIN_ALIKE_SHARE = 0.3  # two lines with a smaller equal share are shown without marked words
_WORD = re.compile(r"\w+|\s+|[^\w\s]")


class StyledSpan(NamedTuple):
    """Text in one style. `marked` says that it is a changed word."""

    text: str
    role: str = ""
    marked: bool = False


Parts = tuple[StyledSpan, ...]


def cut_line(text: str) -> str:
    """Return the first `LINE_CHARACTERS` of a line, with its length if more follow."""
    return text if len(text) <= LINE_CHARACTERS else f"{text[:LINE_CHARACTERS]}… ({len(text):,} characters)"


def quoted(before: str, after: str) -> tuple[str, str]:
    """Return two lines as JSON; of long lines the part around their first difference."""
    if max(len(before), len(after)) <= LINE_CHARACTERS:
        return codec.encode(before).decode(), codec.encode(after).decode()
    return _around_difference(before, after)


def _around_difference(before: str, after: str) -> tuple[str, str]:
    start = max(0, common_prefix(before, after) - _AROUND_CHARACTERS)
    return _excerpt(before, start), _excerpt(after, start)


def _excerpt(text: str, start: int) -> str:
    end = "…" if start + LINE_CHARACTERS < len(text) else ""
    return f"{'…' if start else ''}{text[start : start + LINE_CHARACTERS]}{end} ({len(text):,} characters)"


def common_prefix(before: str, after: str) -> int:
    """Return the length of the common prefix of two texts. O(length), by bisection over compared slices."""
    low, high = 0, min(len(before), len(after))
    while low < high:
        middle = (low + high + 1) // 2
        if before[low:middle] == after[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def words(before: str, after: str) -> tuple[Parts, Parts]:
    """Return two lines with their different words marked; no word is marked if the lines have little in common."""
    if max(len(before), len(after)) > LINE_CHARACTERS + _SLACK_CHARACTERS:
        before, after = _around_difference(before, after)
    old, new = _WORD.findall(before), _WORD.findall(after)
    left: list[StyledSpan] = []
    right: list[StyledSpan] = []
    same = 0
    for tag, i1, i2, j1, j2 in align(old, new):
        old_text, new_text = "".join(old[i1:i2]), "".join(new[j1:j2])
        if tag == "equal":
            same += len(old_text.strip())
        if old_text:
            left.append(StyledSpan(old_text, "removed", tag != "equal"))
        if new_text:
            right.append(StyledSpan(new_text, "added", tag != "equal"))
    if same < _MIN_ALIKE_SHARE * min(len(before), len(after)):
        return (StyledSpan(before, "removed"),), (StyledSpan(after, "added"),)
    return tuple(left), tuple(right)


def wrap(parts: Parts, width: int, indent: int = 0) -> list[Parts]:
    """Wrap a line to rows of at most `width` columns, and make it inert. O(length).

    A row ends after a blank if its last third has one, else where the width ends. Rows after the first have `indent`
    columns less.
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
    """Divide the parts into rows that end at these positions of the whole text."""
    rows: list[Parts] = []
    row: list[StyledSpan] = []
    start = 0  # the position of `text` in the whole
    remaining = iter(ends)
    end = next(remaining, 0)
    for part in parts:
        text = part.text
        while text:
            piece = text[: end - start]
            row.append(part._replace(text=piece))
            text, start = text[len(piece) :], start + len(piece)
            if start == end:
                rows.append(tuple(row))
                row, end = [], next(remaining, 0)
    return rows or [()]


def _fitting(text: str, room: int) -> int:
    """Return how many characters from a text's start fit into `room` columns; 1 at least."""
    end = min(len(text), room)
    while end > 1 and cell_len(text[:end]) > room:
        end -= max(1, (cell_len(text[:end]) - room) // 2)
    if end == len(text):
        return end
    blank = text.rfind(" ", 0, end)
    return blank + 1 if blank >= 0 and cell_len(text[: blank + 1]) * 3 >= room * 2 else end
