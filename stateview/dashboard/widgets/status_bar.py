"""The line at the top: which store and namespace, at which state, and whether it can be written; and what is wrong."""

from __future__ import annotations

import time
from textwrap import wrap
from typing import TYPE_CHECKING, ClassVar, cast

from rich.cells import cell_len, chop_cells
from textual.strip import Strip
from textual.widget import Widget

from ...errors import BackendUnavailable
from ..data.watcher import ConnectionLost
from ..display.text import RowBuilder, fit_end, format_duration, one_line

if TYPE_CHECKING:
    from ..app import Dashboard


class StatusBar(Widget):
    """One line. The state that is looked at stands in words, so that it is known without colours."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"status--live", "status--past", "status--paused", "status--dim"}
    DEFAULT_CSS = """
    StatusBar { height: 1; background: $panel; color: $foreground; }
    StatusBar > .status--live { color: $text-success; text-style: bold; }
    StatusBar > .status--past { background: $warning; color: $background; text-style: bold; }
    StatusBar > .status--paused { color: $text-warning; text-style: bold reverse; }
    StatusBar > .status--dim { color: $text-muted; }
    """

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self._said = ("", "", "", "live", "")

    def show(self, namespace: str, url: str, state: str, role: str, right: str) -> None:
        """Say where we are, at which state (`role`: `live`, `past`, `paused`), and what stands at the right."""
        said = namespace, url, state, role, right
        if said != self._said:
            self._said = said
            self.refresh()

    def render_line(self, y: int) -> Strip:  # noqa: ARG002
        """Return the line; the URL gives way first, from its beginning on."""
        namespace, url, state, role, right = self._said
        dim = self.get_component_rich_style("status--dim", partial=True)
        cells = RowBuilder(self.size.width, self.rich_style)
        cells.add(
            f" {namespace} ", None, min(cell_len(namespace) + 2, max(8, cells.left - len(state) - len(right) - 5))
        )
        room = cells.left - len(state) - len(right) - 6
        if room > 8:
            cells.add(f"{fit_end(one_line(url), min(cell_len(url), room))} ", dim)
        cells.add(f" {state} ", self.get_component_rich_style(f"status--{role}", partial=True))
        cells.add("", None, max(0, cells.left - len(right) - 2))
        return Strip(cells.add(f" {right} ", dim).fill(), self.size.width)


class Banner(Widget):
    """Lines that are there while the backend is lost: one, and as many more as the error takes."""

    DEFAULT_CSS = """
    Banner { height: 1; display: none; background: $error; color: $background; text-style: bold; }
    Banner.-shown { display: block; }
    """
    MOST = 3  # lines

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self._lost: ConnectionLost | None = None

    def on_mount(self) -> None:
        """Count the seconds, also on a screen that is opened meanwhile."""
        self.show(cast("Dashboard", self.app).lost)
        self.set_interval(1.0, self._tick)

    def on_resize(self) -> None:
        """In another width the error takes other lines."""
        self._fit()

    def _tick(self) -> None:
        if self._lost is not None:
            self._fit()
            self.refresh()

    def show(self, lost: ConnectionLost | None) -> None:
        """Say that the backend is lost; None: that it is not."""
        if lost != self._lost:
            self._lost = lost
            self.set_class(lost is not None, "-shown")
            self._fit()
            self.refresh()

    def _fit(self) -> None:
        self.styles.height = max(1, len(self._lines()))

    def _lines(self) -> list[str]:
        if self._lost is None:
            return []
        moment = time.monotonic()
        wait = max(0, round(self._lost.again - moment))
        lost = format_duration(max(1.0, moment - self._lost.since))
        width = self.app.size.width - 2
        error = cast("Dashboard", self.app).error_text(self._lost.error)
        gone = f"backend lost {lost} ago" if isinstance(self._lost.error, BackendUnavailable) else "cannot be read"
        said = one_line(f"! {gone}, next try in {wait} s, R now · {error}", self.MOST * width)
        lines = wrap(said, max(1, width))
        return (lines if all(cell_len(one) <= width for one in lines) else chop_cells(said, max(1, width)))[: self.MOST]

    def render_line(self, y: int) -> Strip:
        """Return a line of it."""
        cells, lines = RowBuilder(self.size.width, self.rich_style), self._lines()
        if y < len(lines):
            cells.add(f" {lines[y]}")
        return Strip(cells.fill(), self.size.width)
