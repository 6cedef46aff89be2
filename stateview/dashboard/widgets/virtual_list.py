"""A list of any length: each line is painted when it is seen, and a cursor moves over it."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip

from ..display.text import RowBuilder

_ROLES = ("cursor", "dim", "key", "string", "number", "word", "added", "removed", "changed", "mark", "touched", "error")


class VirtualList(ScrollView, can_focus=True):
    """Base of every list here. A subclass says `count` and paints one line with `paint`.

    The first column of each line is left to the cursor, so that it is seen without colour too.
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

    class Highlighted(Message):
        """The cursor is on another line, or the line under it has become another."""

        def __init__(self, list_: VirtualList, index: int) -> None:
            super().__init__()
            self.list = list_
            self.index = index

        @property
        def control(self) -> VirtualList:
            """The list it is about."""
            return self.list

    class Chosen(Highlighted):
        """Enter was pressed on a line, or it was clicked twice."""

    # --- what a subclass says ----------------------------------------------------------------------------------

    @property
    @abstractmethod
    def count(self) -> int:
        """How many lines there are."""

    @abstractmethod
    def render_row(self, index: int, cells: RowBuilder) -> None:
        """Put the parts of a line into `cells`, whose width is that of the list less the cursor's column."""

    def empty_text(self) -> list[str]:
        """Return what an empty list says, line by line: that it is empty, and what to do about it."""
        return []

    # --- for subclasses ----------------------------------------------------------------------------------------

    def style_of(self, role: str) -> Style:
        """Return the style of one of the roles, such as `key`, `dim`, `added`; to be put over the base."""
        return self.get_component_rich_style(f"list--{role}", partial=True)

    @property
    def line_width(self) -> int:
        """Columns of a line: all but that of the scroll bar, which `size` counts too."""
        return self.scrollable_content_region.width

    def count_changed(self) -> None:
        """To be called when `count` has become another: the scroll bar and the cursor follow."""
        self.virtual_size = Size(self.size.width, self.count)
        self.cursor = self.validate_cursor(self.cursor)
        self.refresh()

    def show_line(self, index: int) -> None:
        """Scroll as little as needed for a line to be seen."""
        height, top = self.size.height, self.scroll_offset.y
        if height <= 0:
            return
        if index < top:
            self.scroll_to(y=index, animate=False, force=True, immediate=True)
        elif index >= top + height:
            self.scroll_to(y=index - height + 1, animate=False, force=True, immediate=True)

    # --- painting ----------------------------------------------------------------------------------------------

    def render_lines(self, crop: Region) -> list[Strip]:
        """Return the lines that are to be painted.

        Textual works out the style of a widget each time it is asked for it.
        """
        self._base = self.rich_style
        return super().render_lines(crop)

    def render_line(self, y: int) -> Strip:
        """One line of the screen; Textual asks for those that are seen."""
        width, index, base = self.line_width, y + self.scroll_offset.y, self._base
        if index >= self.count:
            said = self.empty_text() if self.count == 0 else []
            text = f" {said[y]}" if y < len(said) else ""
            return Strip(RowBuilder(width, base).add(text, self.style_of("dim")).fill(), width)
        at = index == self.cursor
        cells = RowBuilder(width, base)
        cells.add("▌" if at and self.has_focus else "▏" if at else " ", self.style_of("mark"))
        self.render_row(index, cells)
        segments = cells.fill()
        if at:  # what the segments say of their colour gives way: Strip.apply_style would lie under them
            segments = list(Segment.apply_style(segments, post_style=self.style_of("cursor")))
        return Strip(segments, width)

    # --- moving ------------------------------------------------------------------------------------------------

    def validate_cursor(self, cursor: int) -> int:
        """Keep the cursor on a line."""
        return max(0, min(cursor, self.count - 1))

    def watch_cursor(self, old: int, new: int) -> None:
        """Scroll to the cursor, and say where it is."""
        if self.size.height <= 0:  # watchers run before the first layout too
            return
        top = self.scroll_offset.y
        self.show_line(new)
        if top == self.scroll_offset.y:
            for index in (old, new):
                self.refresh(Region(0, index - top, self.size.width, 1))
        self.post_message(self.Highlighted(self, new))

    def on_resize(self) -> None:
        """Keep the line under the cursor in sight."""
        self.count_changed()
        self.show_line(self.cursor)

    def on_focus(self) -> None:
        """Show the cursor where the focus is."""
        self.refresh_line(self.cursor)

    def on_blur(self) -> None:
        """As `on_focus`."""
        self.refresh_line(self.cursor)

    def action_move(self, by: int) -> None:
        """Move the cursor by lines."""
        self.cursor += by

    def action_half(self, by: int) -> None:
        """Move the cursor by halves of what is seen."""
        self.cursor += by * max(1, self.size.height // 2)

    def action_first(self) -> None:
        """Move to the first line."""
        self.cursor = 0

    def action_last(self) -> None:
        """Move to the last line."""
        self.cursor = self.count - 1

    def action_choose(self) -> None:
        """Open the line under the cursor."""
        if self.count:
            self.post_message(self.Chosen(self, self.cursor))

    def on_click(self, event: events.Click) -> None:
        """Put the cursor where the mouse is; twice opens."""
        index = event.y + self.scroll_offset.y
        if index < self.count:
            self.cursor = index
            if event.chain == 2:
                self.action_choose()
