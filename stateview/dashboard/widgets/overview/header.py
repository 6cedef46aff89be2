"""The titles above the table of namespaces, and how wide its columns are."""

from __future__ import annotations

from typing import ClassVar

from textual import events
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from ...data.namespace_facts import COLUMNS
from ...display.text import RowBuilder
from ...display.themes import component_style

_NUMBERS = (9, 9, 8)  # columns of keys, size and commit, each with a blank before it
_WIDE = 42  # with so much room left for name, checkpoint and run, all three are shown
_NAME = 40  # columns of a name, at most, so that its numbers are near
SIGNS = 3  # columns of the mark, of the sign of the open namespace, and of a blank


def widths(width: int) -> list[int]:
    """Return the columns of each column of the table, in a row of so many columns. 0: it is left out."""
    rest = width - SIGNS - sum(_NUMBERS)
    if rest < _WIDE:
        run = 14 if rest >= 28 else 3
        return [max(4, rest - run), *_NUMBERS, 0, run]
    name = min(_NAME, rest * 2 // 5)
    run = (rest - name) // 2
    return [name, *_NUMBERS, rest - name - run, run]


class TableHeader(Widget):
    """Shows the titles, and a sign at the column that the table is sorted by. A click sorts."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"header--title", "header--sorted"}
    DEFAULT_CSS = """
    TableHeader { height: 1; background: $panel; }
    TableHeader > .header--title { color: $text-muted; }
    TableHeader > .header--sorted { color: $text-accent; text-style: bold; }
    """

    class Clicked(Message):
        """A title was clicked. `column` is the index in `COLUMNS`."""

        def __init__(self, column: int) -> None:
            super().__init__()
            self.column = column

    def __init__(self) -> None:
        super().__init__()
        self._sorted = (0, False)

    def show(self, column: int, backwards: bool) -> None:
        """Show by which column the table is sorted, and whether backwards."""
        self._sorted = column, backwards
        self.refresh()

    def _widths(self) -> list[int]:
        return widths(self.size.width - 2)  # the list has a column for its cursor, and the scroll bar

    def render_line(self, y: int) -> Strip:  # noqa: ARG002
        """Paint the titles: those of numbers to the right, as the numbers."""
        cells = RowBuilder(self.size.width, self.rich_style)
        cells.add("", None, 1 + SIGNS)
        column, backwards = self._sorted
        for index, width in enumerate(self._widths()):
            sign = ("▲" if backwards else "▼") if index == column else ""
            title = COLUMNS[index].title + sign
            text = f"{title:>{width}}" if 1 <= index <= len(_NUMBERS) else f" {title}" if index else title
            if width:
                role = "header--sorted" if index == column else "header--title"
                cells.add(text if len(title) < width else f" {sign}", component_style(self, role), width)
        return Strip(cells.fill(), self.size.width)

    def on_click(self, event: events.Click) -> None:
        """Sort by the column of the title."""
        event.stop()
        start = 1 + SIGNS
        for index, width in enumerate(self._widths()):
            if start <= event.x < start + width:
                self.post_message(self.Clicked(index))
            start += width
