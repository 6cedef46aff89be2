"""A text in full below a list whose rows cut it."""

from __future__ import annotations

from textwrap import wrap

from textual.geometry import Size
from textual.strip import Strip
from textual.widget import Widget

from ..display.text import RowBuilder, one_line

MAX_ROWS = 5


class FullText(Widget):
    """Shows a text in as many rows as it needs, at most `MAX_ROWS`. An empty text takes no row."""

    DEFAULT_CSS = "FullText { height: auto; color: $text-muted; background: $surface; }"

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self._text = ""

    def show(self, text: str) -> None:
        """Show another text. Control characters of stored data are escaped."""
        if text != self._text:
            self._text = text
            self.refresh(layout=True)

    def _rows(self, width: int) -> list[str]:
        lines = [row for line in self._text.splitlines() for row in wrap(one_line(line), max(10, width - 2)) or [""]]
        return lines if len(lines) <= MAX_ROWS else [*lines[: MAX_ROWS - 1], f"{lines[MAX_ROWS - 1][: width - 4]} …"]

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:  # noqa: ARG002 - Textual's
        """Return the rows of the text."""
        return len(self._rows(width))

    def render_line(self, y: int) -> Strip:
        """Paint a row."""
        width, rows = self.size.width, self._rows(self.size.width)
        text = f" {rows[y]}" if y < len(rows) else ""
        return Strip(RowBuilder(width, self.rich_style).add(text).fill(), width)
