"""The container of the panes: it arranges them, and lets the mouse move their borders."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual import events
from textual.containers import Container
from textual.geometry import Size
from textual.layout import ArrangeResult, Layout, WidgetPlacement
from textual.message import Message

from .arrangement import Arrangement, Divider, Wanted, arrange, divider_of

if TYPE_CHECKING:
    from textual.widget import Widget


class PanesLayout(Layout):
    """Places each pane where `arrange` wants it. A pane without a place is hidden, as after `display: none`."""

    name = "panes"

    def arrange(self, parent: Widget, children: list[Widget], size: Size, greedy: bool = True) -> ArrangeResult:  # noqa: ARG002
        """Return the places of the visible panes."""
        assert isinstance(parent, Panes), "only the container of the panes has this layout"
        regions = parent.arrangement(size).regions
        places = []
        for child in children:
            region = regions.get((child.id or "").removesuffix("-pane"))
            if region is not None and region.area:
                places.append(
                    WidgetPlacement(region, child.styles.offset.resolve(size, size), child.styles.margin, child)
                )
        return places


class Panes(Container):
    """Holds the panes. The id of each is its name with `-pane` behind it."""

    class Moved(Message):
        """A border has been moved. `shares` has that of each moved border."""

        def __init__(self, shares: dict[str, float]) -> None:
            super().__init__()
            self.shares = shares

    def __init__(self, *children: Widget, id: str | None = None, shares: dict[str, float] | None = None) -> None:
        super().__init__(*children, id=id)
        self.shares = dict(shares or {})
        self.wanted = Wanted()
        self._dragged: Divider | None = None
        self._grip = 0  # from the cell that the mouse took hold of to the border
        self._layout = PanesLayout()

    @property
    def layout(self) -> Layout:
        """The layout, which the stylesheet does not name: Textual's styles know their own layouts only."""
        return self._layout

    def arrangement(self, size: Size | None = None) -> Arrangement:
        """Return where the panes stand."""
        width, height = size or self.size
        return arrange(width, height, self.wanted, self.shares)

    def want(self, wanted: Wanted) -> None:
        """Arrange the panes in another way."""
        if wanted != self.wanted:
            self.wanted = wanted
            self._arrange_again()

    def _arrange_again(self) -> None:
        """Let Textual ask the layout again: it keeps the answer until a child asks for a layout."""
        self.children[0].refresh(layout=True)

    def move(self, beside: bool, by: int) -> bool:
        """Move the border nearest to the pane in focus. Returns whether it has one in this direction."""
        divider = divider_of(self.arrangement(), self.wanted.focus, beside)
        if divider is None:
            return False
        self._put(divider, divider.at + by)
        self.post_message(self.Moved(self.shares))
        return True

    def _put(self, divider: Divider, at: int) -> None:
        self.shares[divider.name] = divider.share_at(at)
        self._arrange_again()

    def _cell(self, event: events.MouseEvent) -> tuple[int, int]:
        return event.screen_x - self.region.x, event.screen_y - self.region.y

    def _along(self, event: events.MouseEvent, divider: Divider) -> int:
        return self._cell(event)[0 if divider.beside else 1]

    def on_mouse_down(self, event: events.MouseDown) -> None:
        """Take hold of the border under the mouse; of two that meet, the shorter."""
        held = [divider for divider in self.arrangement().dividers if divider.has(*self._cell(event))]
        self._dragged = min(held, key=lambda divider: divider.length, default=None)
        if self._dragged is not None:
            event.stop()
            self._grip = self._dragged.at - self._along(event, self._dragged)
            self.capture_mouse()

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """Move the border with the mouse."""
        if self._dragged is not None:
            event.stop()
            self._put(self._dragged, self._along(event, self._dragged) + self._grip)

    def on_mouse_up(self, event: events.MouseUp) -> None:
        """Let go of the border."""
        if self._dragged is not None:
            event.stop()
            self._dragged = None
            self.release_mouse()
            self.post_message(self.Moved(self.shares))
