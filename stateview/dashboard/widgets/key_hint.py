"""The list of keys that may come next, above the line of keys."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

from rich.cells import cell_len
from textual.strip import Strip
from textual.widget import Widget

from ..display.text import RowBuilder
from ..display.themes import component_style

_GAP = 2  # blanks between two columns
_NARROW = 26  # columns of a key and its text, where not all keys fit with their whole texts


class KeyHintRow(NamedTuple):
    """A key, what it does, and whether it can do so now."""

    key: str
    description: str
    enabled: bool


class KeyHint(Widget):
    """Shows keys in columns, on at most half of the screen, and makes the panes above it shrink.

    Args:
        title: what the keys are, or the keys of the chord so far.
        rows: the keys.

    """

    COMPONENT_CLASSES: ClassVar[set[str]] = {"hint--title", "hint--key", "hint--what", "hint--off"}
    DEFAULT_CSS = """
    KeyHint { dock: bottom; margin-bottom: 1; height: 1; background: $panel; }
    KeyHint > .hint--title { color: $text-accent; text-style: bold; }
    KeyHint > .hint--key { color: $footer-key-foreground; text-style: bold; }
    KeyHint > .hint--what { color: $foreground; }
    KeyHint > .hint--off { text-style: dim; }
    """

    def __init__(self, title: str, rows: list[KeyHintRow]) -> None:
        super().__init__()
        self._title = title
        self._rows = rows
        self._keys = max((cell_len(row.key) for row in rows), default=0)
        self._columns = self._width = self._lines = 1  # columns and lines of keys, and how wide a column is

    def on_mount(self) -> None:
        """Take the lines that the keys need."""
        self._fit()

    def on_resize(self) -> None:
        """Take the lines that the keys need at another width."""
        self._fit()

    def _fit(self) -> None:
        whole = self._keys + 1 + max((cell_len(row.description) for row in self._rows), default=0) + _GAP
        most = max(1, self.app.size.height // 2 - 1)
        for self._width in (whole, min(whole, _NARROW)):
            self._columns = max(1, self.app.size.width // self._width)
            self._lines = -(-len(self._rows) // self._columns)
            if self._lines <= most:
                break
        self._lines = min(self._lines, most)
        self._columns = min(self._columns, -(-len(self._rows) // max(self._lines, 1)) or 1)
        self._width = min(whole, self.app.size.width // self._columns)
        self.styles.height = 1 + self._lines

    def render_line(self, y: int) -> Strip:
        """Paint the title, or a line of keys: they go down the columns."""
        width, lines = self.size.width, self._lines
        cells = RowBuilder(width, self.rich_style)
        if y == 0:
            more = "" if lines * self._columns >= len(self._rows) else " · ? shows all"
            cells.add(f" {self._title}", component_style(self, "hint--title"))
            cells.add(f" · esc closes{more}", component_style(self, "hint--what"))
            return Strip(cells.fill(), width)
        for column in range(self._columns):
            index = column * lines + y - 1
            if index < len(self._rows):
                key, description, enabled = self._rows[index]
                what = component_style(self, "hint--what" if enabled else "hint--off")
                cells.add(f" {key}", component_style(self, "hint--key" if enabled else "hint--off"), self._keys + 1)
                cells.add(f" {description}", what, self._width - self._keys - 2)
                cells.add(" ")
        return Strip(cells.fill(), width)
