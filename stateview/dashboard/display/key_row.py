"""The columns of a row in the list of keys, and what they show of the key and its value."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise, takewhile
from typing import NamedTuple

from rich.cells import cell_len, split_graphemes
from rich.style import Style

from ... import codec
from ...backends.protocol import KeySummary
from ...cli.render import escape_cell
from ...errors import Damaged
from ...states.matching.ranking import match_positions
from ..data.key_filter import Filter
from ..data.key_tree import KeyGroup, Place, groups_of
from .redaction import MASK, is_redacted
from .text import RowBuilder, cut_start

_NAME = re.compile(r'"((?:[^"\\]|\\.)*)"\s*:')


class Columns(NamedTuple):
    """The widths of a row's columns, each with the blank before it; 0 for a column that has no room."""

    key: int
    revision: int
    size: int
    time: int
    value: int

    @classmethod
    def of(cls, width: int, past: bool) -> Columns:
        """Return the columns that fit: always key and size, then the value, the time, and the revision.

        Args:
            width: the columns of the row, two of which are for signs.
            past: whether times are shown as dates instead of ages.

        """
        time = 17 if past else 8
        if width < 66 + time:
            time = 0
        revision = 10 if width >= 92 else 0
        left = width - 2 - revision - time - 9
        key = max(20, min(72, left * 45 // 100)) if width >= 46 else left
        return cls(key, revision, 9, time, left - key)


def paint_key(
    cells: RowBuilder, width: int, key: str, above: str, key_filter: Filter, style: Callable[[str], Style]
) -> None:
    """Add a key in `width` columns, cut at its start. Matches of a word are marked. O(width + length).

    Without a match, the prefix that the key shares with the key above is dim.
    """
    text = escape_cell(key)
    cut = cut_start(text, width)
    marks = set(match_positions(key_filter.text, key)) if key_filter.kind in ("word", "fuzzy") else set()
    dim = 0 if marks else _shared(key, above)
    used = 0
    if cut:
        cells.add("…", style("dim"))
        used = 1
    for start, end in _runs(text, cut, dim, marks):
        role = "mark" if start in marks else "dim" if start < dim else "key"
        cells.add(text[start:end], style(role))
        used += cell_len(text[start:end])
    cells.add(" " * (width - used))


def paint_group(cells: RowBuilder, group: KeyGroup, columns: Columns, style: Callable[[str], Style]) -> None:
    """Add the row of a group: its last segment, and how many keys it holds."""
    parents = groups_of(group.key)[:-1]
    above = parents[-1] if parents else ""
    indent = "  " * min(len(parents), columns.key // 4)
    cells.add("▾ " if group.is_open else "▸ ", style("dim")).add(indent)
    room = columns.key + columns.revision + columns.size - len(indent)
    count = "" if group.count is None else f" {group.count:,} key{'' if group.count == 1 else 's'}"
    cells.add(escape_cell(group.key[len(above) :]), style("word"), room - len(count))
    cells.add(count, style("number"))


def paint_leaf(
    cells: RowBuilder, width: int, key: str, opened: frozenset[str], style: Callable[[str], Style]
) -> None:  # fmt: skip
    """Add a key below its open groups: what of its name their rows do not show."""
    groups = Place(key, opened).opened
    indent = "  " * min(len(groups), width // 4)
    text = escape_cell(key[len(groups[-1]) if groups else 0 :])
    cut = cut_start(text, width - len(indent))
    shown = ("…" if cut else "") + text[cut:]
    cells.add(indent).add(shown, style("key")).add(" " * (width - len(indent) - cell_len(shown)))


def _runs(text: str, start: int, dim: int, marks: set[int]) -> list[tuple[int, int]]:
    """Return the stretches of characters that have one style. None begins inside what a terminal shows as one sign."""
    end = len(text)
    edges = {*marks, *(mark + 1 for mark in marks), dim}
    if not text.isascii():
        edges &= {first for first, _, _ in split_graphemes(text)[0]}
    inside = sorted({start, end, *(edge for edge in edges if start < edge < end)})
    return list(pairwise(inside))


def _shared(key: str, above: str) -> int:
    """Return the length of the prefix, in whole words, that a key shares with the key above."""
    length = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(key, above, strict=False)))
    while length and key[length - 1].isalnum():
        length -= 1
    return length


def start_of(row: KeySummary, patterns: tuple[str, ...]) -> str:
    """Return the start of a value as text, up to the first masked name."""
    if row.sealed:
        return "(sealed)"
    if not patterns:
        return row.start.decode(errors="ignore")
    if is_redacted(row.key, patterns, row.start):
        return MASK
    text = row.start.decode(errors="ignore")
    for name in _NAME.finditer(text):
        if _is_masked(name[1], text[name.end() :].lstrip()[:1], patterns):
            return text[: name.end()] + MASK
    return text


def _is_masked(name: str, start: str, patterns: tuple[str, ...]) -> bool:
    if "\\" in name:
        try:
            name = str(codec.decode(f'"{name}"'))
        except Damaged:
            return True  # the name cannot be decoded, so it may be a masked one
    return is_redacted(name, patterns, start.encode())
