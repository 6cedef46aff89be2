"""The line at the top with namespace, store and state, and the banner of a lost backend."""

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
from ..display.themes import component_style

if TYPE_CHECKING:
    from ..app import Dashboard


class StatusBar(Widget):
    """Shows namespace, store and state in one line. The state is in words, so that it is known without colours."""

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
        self._content = ("", "", "", "live", "")

    def show(self, namespace: str, url: str, state: str, role: str, right: str) -> None:
        """Show other contents. `role` is `live`, `past` or `paused`. `right` stands at the right end."""
        content = namespace, url, state, role, right
        if content != self._content:
            self._content = content
            self.refresh()

    def render_line(self, y: int) -> Strip:  # noqa: ARG002
        """Paint the line. In a narrow line the beginning of the URL is cut off."""
        namespace, url, state, role, right = self._content
        dim = component_style(self, "status--dim")
        cells = RowBuilder(self.size.width, self.rich_style)
        cells.add(
            f" {namespace} ", None, min(cell_len(namespace) + 2, max(8, cells.left - len(state) - len(right) - 5))
        )
        room = cells.left - len(state) - len(right) - 6
        if room > 8:
            cells.add(f"{fit_end(one_line(url), min(cell_len(url), room))} ", dim)
        cells.add(f" {state} ", component_style(self, f"status--{role}"))
        cells.add("", None, max(0, cells.left - len(right) - 2))
        return Strip(cells.add(f" {right} ", dim).fill(), self.size.width)


class Banner(Widget):
    """Shows the error while the backend is lost, in at most `MAX_LINES` lines."""

    DEFAULT_CSS = """
    Banner { height: 1; display: none; background: $error; color: $background; text-style: bold; }
    Banner.-shown { display: block; }
    """
    MAX_LINES = 3

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self._lost: ConnectionLost | None = None

    def on_mount(self) -> None:
        """Show the present error on a new screen, and count the seconds."""
        self.show(cast("Dashboard", self.app).lost)
        self.set_interval(1.0, self._tick)

    def on_resize(self) -> None:
        """Wrap the error to the new width."""
        self._fit()

    def _tick(self) -> None:
        if self._lost is not None:
            self._fit()
            self.refresh()

    def show(self, lost: ConnectionLost | None) -> None:
        """Show that the backend is lost. None hides the banner."""
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
        lost = format_duration(max(1.0, time.monotonic() - self._lost.since))
        width = self.app.size.width - 2
        error = cast("Dashboard", self.app).error_text(self._lost.error)
        reason = f"backend lost {lost} ago" if isinstance(self._lost.error, BackendUnavailable) else "cannot be read"
        text = one_line(f"! {reason}, retrying · {error}", self.MAX_LINES * width)
        lines = wrap(text, max(1, width))
        if any(cell_len(line) > width for line in lines):  # wide characters: `wrap` counts characters, not columns
            lines = chop_cells(text, max(1, width))
        return lines[: self.MAX_LINES]

    def render_line(self, y: int) -> Strip:
        """Paint a line."""
        cells, lines = RowBuilder(self.size.width, self.rich_style), self._lines()
        if y < len(lines):
            cells.add(f" {lines[y]}")
        return Strip(cells.fill(), self.size.width)
