"""A list of any length with a cursor. Only visible rows are painted."""

from __future__ import annotations

from abc import abstractmethod
from textwrap import wrap
from typing import TYPE_CHECKING, Any, ClassVar, cast

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip

from ..display.text import RowBuilder, one_line
from ..display.themes import component_style

if TYPE_CHECKING:
    from ..app import Dashboard

_ROLES = ("cursor", "dim", "key", "string", "number", "word", "added", "removed", "changed", "mark", "touched", "error")


class VirtualList(ScrollView, can_focus=True):
    """The base of all lists. A subclass defines `count` and paints one row in `render_row`.

    The first column of each row shows the cursor, so that it is visible without colours.
    """

    COMPONENT_CLASSES: ClassVar[set[str]] = {f"list--{role}" for role in _ROLES}
    DEFAULT_CSS = """
    VirtualList { overflow-x: hidden; scrollbar-size-vertical: 1; background: $surface; }
    VirtualList > .list--cursor { background: $block-cursor-blurred-background; }
    VirtualList:focus > .list--cursor {
        background: $block-cursor-background; color: $block-cursor-foreground; text-style: $block-cursor-text-style;
    }
    VirtualList > .list--dim { color: $text-muted; }
    VirtualList > .list--key { color: $text-primary; }
    VirtualList > .list--string { color: $text-success; }
    VirtualList > .list--number { color: $text-warning; }
    VirtualList > .list--word { color: $text-accent; }
    VirtualList > .list--added { color: $text-success; }
    VirtualList > .list--removed { color: $text-error; }
    VirtualList > .list--changed { color: $text-warning; }
    VirtualList > .list--mark { color: $text-accent; text-style: bold; }
    VirtualList > .list--touched { color: $text-warning; text-style: bold; }
    VirtualList > .list--error { color: $text-error; text-style: bold; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j,down", "move(1)", "Down", show=False, id="list.down"),
        Binding("k,up", "move(-1)", "Up", show=False, id="list.up"),
        Binding("ctrl+d", "half(1)", "Half a page down", show=False, id="list.half-down"),
        Binding("ctrl+u", "half(-1)", "Half a page up", show=False, id="list.half-up"),
        Binding("pagedown,ctrl+f", "half(2)", "Page down", show=False, id="list.page-down"),
        Binding("pageup,ctrl+b", "half(-2)", "Page up", show=False, id="list.page-up"),
        Binding("g,home", "first", "First", show=False, id="list.first"),
        Binding("G,end", "last", "Last", show=False, id="list.last"),
        Binding("enter", "choose", "Open", show=False, id="list.open"),
    ]

    cursor: reactive[int] = reactive(0, repaint=False)
    _base = Style()
    _painted_width = 0

    class Highlighted(Message):
        """The cursor is on another row, or its row has changed."""

        def __init__(self, list_: VirtualList, index: int) -> None:
            super().__init__()
            self.list = list_
            self.index = index

        @property
        def control(self) -> VirtualList:
            """The list that sent the message."""
            return self.list

    class Chosen(Highlighted):
        """Enter was pressed on a row, or the row was double-clicked."""

    class Failed(Message):
        """Rows could not be read. The earlier rows are still shown."""

        def __init__(self, error: Exception) -> None:
            super().__init__()
            self.error = error

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._role_styles: dict[str, Style] = {}  # of the present paint

    # --- what a subclass defines -------------------------------------------------------------------------------

    @property
    @abstractmethod
    def count(self) -> int:
        """The number of rows."""

    @abstractmethod
    def render_row(self, index: int, cells: RowBuilder) -> None:
        """Paint a row into `cells`, which is as wide as the list without the cursor's column."""

    def empty_text(self) -> list[str]:
        """Return the lines that an empty list shows: why it is empty, and the next step."""
        return []

    # --- for subclasses ----------------------------------------------------------------------------------------

    @property
    def dashboard(self) -> Dashboard:
        """The app."""
        return cast("Dashboard", self.app)

    def style_of(self, role: str) -> Style:
        """Return the style of a role, such as `key`, `dim` or `added`, to be combined with the base style."""
        style = self._role_styles.get(role)
        if style is None:
            style = self._role_styles[role] = component_style(self, f"list--{role}")
        return style

    @property
    def line_width(self) -> int:
        """The columns of a row. `size` includes the column of the scroll bar."""
        return self.scrollable_content_region.width

    def count_changed(self) -> None:
        """Adapt the scroll bar and the cursor. A subclass calls this after each change of `count`."""
        self.virtual_size = Size(self.size.width, self.count)
        self.cursor = self.validate_cursor(self.cursor)
        self.refresh()

    def show_line(self, index: int) -> None:
        """Scroll the least distance that makes a row visible."""
        height, top = self.size.height, self.scroll_offset.y
        if height <= 0:
            return
        if index < top:
            self.scroll_to(y=index, animate=False, force=True, immediate=True)
        elif index >= top + height:
            self.scroll_to(y=index - height + 1, animate=False, force=True, immediate=True)

    # --- painting ----------------------------------------------------------------------------------------------

    def render_lines(self, crop: Region) -> list[Strip]:
        """Paint the visible rows.

        Styles and width are read once, because Textual computes them at each access.
        """
        self._base, self._painted_width = self.rich_style, self.line_width
        self._role_styles.clear()
        return super().render_lines(crop)

    def render_line(self, y: int) -> Strip:
        """Paint one line of the screen."""
        width, index, base = self._painted_width, y + self.scroll_offset.y, self._base
        if index >= self.count:
            lines = self._wrapped_empty_text() if self.count == 0 else []
            text = f" {lines[y]}" if y < len(lines) else ""
            return Strip(RowBuilder(width, base).add(text, self.style_of("dim")).fill(), width)
        has_cursor = index == self.cursor
        cells = RowBuilder(width, base)
        cells.add("▌" if has_cursor and self.has_focus else "▏" if has_cursor else " ", self.style_of("mark"))
        self.render_row(index, cells)
        segments = cells.fill()
        if has_cursor:  # `post_style` overrides the colours of the segments, Strip.apply_style would not
            segments = list(Segment.apply_style(segments, post_style=self.style_of("cursor")))
        return Strip(segments, width)

    def _wrapped_empty_text(self) -> list[str]:
        width = max(10, self.line_width - 2)
        return [piece for line in self.empty_text() for piece in wrap(one_line(line), width) or [""]]

    # --- moving ------------------------------------------------------------------------------------------------

    def validate_cursor(self, cursor: int) -> int:
        """Keep the cursor inside the list."""
        return max(0, min(cursor, self.count - 1))

    def watch_cursor(self, old: int, new: int) -> None:
        """Scroll to the cursor, and report its row."""
        if self.size.height <= 0:  # watchers also run before the first layout
            return
        top = self.scroll_offset.y
        self.show_line(new)
        if top == self.scroll_offset.y:
            for index in (old, new):
                self.refresh(Region(0, index - top, self.size.width, 1))
        self.post_message(self.Highlighted(self, new))

    def on_resize(self) -> None:
        """Keep the row under the cursor visible."""
        self.count_changed()
        self.show_line(self.cursor)

    def on_focus(self) -> None:
        """Paint the cursor of a list with the focus."""
        self.refresh_line(self.cursor)

    def on_blur(self) -> None:
        """Paint the cursor of a list without the focus."""
        self.refresh_line(self.cursor)

    def action_move(self, by: int) -> None:
        """Move the cursor by a number of rows."""
        self.cursor += by

    def action_half(self, by: int) -> None:
        """Move the cursor by half pages."""
        self.cursor += by * max(1, self.size.height // 2)

    def action_first(self) -> None:
        """Move to the first row."""
        self.cursor = 0

    def action_last(self) -> None:
        """Move to the last row."""
        self.cursor = self.count - 1

    def action_choose(self) -> None:
        """Report that the row under the cursor was chosen."""
        if self.count:
            self.post_message(self.Chosen(self, self.cursor))

    def on_click(self, event: events.Click) -> None:
        """Move the cursor to the clicked row. A double click chooses it."""
        index = event.y + self.scroll_offset.y
        if index < self.count:
            self.cursor = index
            if event.chain == 2:
                self.action_choose()
