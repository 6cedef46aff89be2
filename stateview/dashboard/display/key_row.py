"""The parts of a key's line: where they go, how the key is cut and marked, what is seen of the value."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise, takewhile
from typing import NamedTuple

from rich.cells import cell_len
from rich.style import Style

from ... import codec
from ...backends.protocol import KeySummary
from ...cli.render import escape_control_characters
from ...errors import Damaged
from ..data.key_filter import Filter, match_positions
from .redaction import MASK, is_redacted
from .text import RowBuilder, cut_start

_NAME = re.compile(r'"((?:[^"\\]|\\.)*)"\s*:')


class Columns(NamedTuple):
    """Widths of the parts of a line, each with the blank before it; 0 where there is no room for one."""

    key: int
    revision: int
    size: int
    time: int
    value: int

    @classmethod
    def of(cls, width: int, past: bool) -> Columns:
        """Return what fits: the key and its size always, then the start of the value, the time, and the revision.

        Args:
            width: columns of the line, two of which are for signs.
            past: whether times are shown as dates, not as ages.

        """
        moment = 17 if past else 8
        time = moment if width >= 66 + moment else 0
        revision = 10 if width >= 92 else 0
        left = width - 2 - revision - time - 9
        key = max(20, min(72, left * 45 // 100)) if width >= 46 else left
        return cls(key, revision, 9, time, left - key)


def paint_key(
    cells: RowBuilder, width: int, key: str, above: str, sought: Filter, style: Callable[[str], Style]
) -> None:
    """Put a key into `width` columns, cut at its beginning: what the one above shares dim, what was found marked.

    O(width), and O(length of the key), which is at most 1,024 bytes.
    """
    text = escape_control_characters(key)
    cut = cut_start(text, width)
    marks = set(match_positions(sought.text, key)) if sought.kind == "fuzzy" else set()
    dim = 0 if marks else _shared(key, above)
    used = 0
    if cut:
        cells.add("…", style("dim"))
        used = 1
    for start, end in _runs(cut, len(text), dim, marks):
        role = "mark" if start in marks else "dim" if start < dim else "key"
        cells.add(text[start:end], style(role))
        used += cell_len(text[start:end])
    cells.add(" " * (width - used))


def _runs(start: int, end: int, dim: int, marks: set[int]) -> list[tuple[int, int]]:
    """Neighbouring characters that look the same."""
    edges = {start, end, *(place for mark in marks for place in (mark, mark + 1)), dim}
    inside = sorted(edge for edge in edges if start <= edge <= end)
    return list(pairwise(inside))


def _shared(key: str, above: str) -> int:
    """How much of the beginning is that of the key above, by whole words."""
    length = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(key, above, strict=False)))
    while length and key[length - 1].isalnum():
        length -= 1
    return length


def start_of(row: KeySummary, patterns: tuple[str, ...]) -> str:
    """Return the start of a value as text; from the first name on that is to be masked, none of it."""
    if not patterns:
        return row.start.decode(errors="ignore")
    if is_redacted(row.key, patterns):
        return MASK
    text = row.start.decode(errors="ignore")
    for name in _NAME.finditer(text):
        if _is_masked(name[1], patterns):
            return text[: name.end()] + MASK
    return text


def _is_masked(name: str, patterns: tuple[str, ...]) -> bool:
    if "\\" in name:
        try:
            name = str(codec.decode(f'"{name}"'))
        except Damaged:
            return True  # what cannot be read may be anything
    return is_redacted(name, patterns)
