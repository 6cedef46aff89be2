"""The rows of a JSON value: how a node of the tree is painted, and the signs of recent changes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

from msgspec import Raw
from rich.style import Style

from ...model import PathChange
from ..data.values.json_excerpts import label, preview, scalar
from ..data.values.json_nodes import Broken, LongText, Node
from ..data.values.json_text import TEXT_CHARACTERS, TextRow
from .redaction import MASK
from .text import SIGNS, RowBuilder, format_size


class RowPainter(NamedTuple):
    """Paints the nodes of one JSON tree.

    `style` returns the style of a role. `patterns` are the globs of masked names. Text that matches `search` is marked.
    """

    style: Callable[[str], Style]
    patterns: tuple[str, ...]
    search: re.Pattern[str] | None

    def paint(self, node: Node, cells: RowBuilder) -> None:
        """Paint a node with its indent and its name. Decodes as much of the value as the row shows."""
        dim = self.style("dim")
        room = max(4, cells.left // 2)
        indent = "  " * node.depth
        if len(indent) > room:  # too deep to indent: show the depth as a number
            indent = f"{node.depth}⋯".rjust(room)
        cells.add(indent, dim)
        if isinstance(node.value, TextRow):
            text = node.value
            cells.add("  " if text.note else "┊ " if text.goes_on else "│ ", dim)
            self._add(cells, text.text, dim if text.note else self.style("string"))
            return
        cells.add("▾ " if node.open else "▸ " if node.can_open() else "  ", dim)
        if isinstance(node.step, range):
            self._paint_range(node, node.step, cells)
            return
        if node.step is not None:
            self._add(cells, label(node.step), self.style("key") if isinstance(node.step, str) else dim)
            cells.add(": ", dim)
        if node.masked:
            cells.add(MASK).add(" masked", dim)
        else:
            self._paint_value(node, cells)

    def _paint_range(self, node: Node, span: range, cells: RowBuilder) -> None:
        cells.add(f"[{span[0]}…{span[-1]}]", self.style("dim"))
        if isinstance(node.value, dict) and node.parent is not None:
            first, last = (label(node.parent.items[index]) for index in (span[0], span[-1]))
            cells.add(f"  {first} … {last}", self.style("key"))

    def _paint_value(self, node: Node, cells: RowBuilder) -> None:
        dim, room = self.style("dim"), max(8, cells.left)
        text = preview(node, room, self.patterns)  # decodes the node's value
        value = node.value
        if isinstance(value, Broken):
            cells.add(value.why, self.style("error"))
        elif isinstance(value, (dict, list)):
            ends = "{}" if isinstance(value, dict) else "[]"
            cells.add(f"{ends[0]}{len(value) or '':,}{ends[1]}" if value else ends, dim)
            if not node.open:
                cells.add(f" {text}", dim)
        elif isinstance(value, (str, LongText)):
            self._paint_string(value, node.open, cells)
        else:
            kind = "string" if isinstance(value, Raw) and bytes(memoryview(value)[:1]) == b'"' else "number"
            role = "word" if value is None or isinstance(value, bool) else kind
            size = f" {format_size(len(memoryview(value)))}" if isinstance(value, Raw) else ""
            text = scalar(value, room - len(size))
            if text[:1] in ("{", "["):
                role = "dim"
            self._add(cells, text, self.style(role), cells.left - len(size))
            cells.add(size, dim)

    def _paint_string(self, value: str | LongText, is_open: bool, cells: RowBuilder) -> None:
        dim, room = self.style("dim"), max(8, cells.left)
        if isinstance(value, LongText):
            text, length = value.start, f" {format_size(value.size)}"
        else:
            text, length = value, f" {len(value):,} characters" if len(value) > room - 2 else ""
        if "\n" in text[:TEXT_CHARACTERS]:
            lines = text[:TEXT_CHARACTERS].count("\n") + 1
            length += f" {lines:,}{'+' if len(text) > TEXT_CHARACTERS or isinstance(value, LongText) else ''} lines"
        if is_open:
            cells.add(length.strip() or "string", dim)
            return
        self._add(cells, scalar(text, room), self.style("string"), cells.left - len(length))
        cells.add(length, dim)

    def _add(self, cells: RowBuilder, text: str, style: Style, width: int | None = None) -> None:
        """Add stored text in at most `width` columns, with matches of the search marked."""
        reserved = 0 if width is None else max(0, cells.left - max(0, width))
        cells.left -= reserved
        end = 0
        if self.search is not None:
            mark = self.style("mark") + Style(underline=True)
            for match in self.search.finditer(text, 0, 4 * max(0, cells.left) + 8):
                cells.add(text[end : match.start()], style).add(match[0], mark)
                end = match.end()
        cells.add(text[end:] if end else text, style)
        cells.left += reserved


class ChangeSigns:
    """The signs of the places that have just changed, by JSON Pointer.

    A removed place is marked at the object or array that held it. A folded node has the sign of a change inside.
    """

    def __init__(self, changes: Iterable[PathChange] = ()) -> None:
        self._signs: dict[str, str] = {}
        self._below: dict[str, set[str]] = {}  # pointer of a node -> its members with changes inside
        for change in changes:
            pointer = change.path
            while pointer:
                pointer, _, member = pointer.rpartition("/")
                self._below.setdefault(pointer, set()).add(member)
            if change.kind == "removed":
                self._signs.setdefault(change.path.rpartition("/")[0], "~")
            else:
                self._signs[change.path] = SIGNS[change.kind]

    def of(self, node: Node) -> str:
        """Return the sign of a node, or a blank."""
        if not self._signs or node.is_line:
            return " "
        pointer = node.pointer
        if isinstance(node.step, range) and node.parent is not None:
            changed = self._below.get(pointer, set())
            members = {str(node.parent.items[at] if isinstance(node.value, dict) else at) for at in node.step}
            return "~" if not node.open and not changed.isdisjoint(members) else " "
        folded = pointer in self._below and not node.open
        return self._signs.get(pointer) or ("~" if folded else " ")
