"""The line at the bottom: the keys of the screen and their actions."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, NamedTuple, cast

from rich.cells import cell_len
from rich.style import Style
from textual import events
from textual.screen import Screen
from textual.strip import Strip
from textual.widget import Widget

from ..base_screen import DashboardScreen
from ..display.text import RowBuilder
from ..display.themes import component_style
from ..input.listed import is_listed

if TYPE_CHECKING:
    from ..app import Dashboard

QUIT = "back_or_quit"
HELP = "help"  # the action that is shown at any width
SECRETS = "secrets"  # the action that is shown where it would do something, at any width too


class Hint(NamedTuple):
    """A key binding: the key, its displayed name, its description, its action, and whether it is enabled now."""

    key: str
    display: str
    description: str
    action: str
    enabled: bool

    @property
    def width(self) -> int:
        """The columns of the hint."""
        return cell_len(self.display) + 1 + cell_len(self.description)


class KeyBar(Widget):
    """Shows as many bindings of its screen as fit into one line. A click presses the key.

    Textual's Footer is not used. It makes new widgets for all keys whenever a binding changes, and it cuts off the
    last hint, which is the help.
    """

    COMPONENT_CLASSES: ClassVar[set[str]] = {"keys--key", "keys--what", "keys--off"}
    DEFAULT_CSS = """
    KeyBar { height: 1; dock: bottom; background: $footer-background; color: $footer-foreground; }
    KeyBar > .keys--key { color: $footer-key-foreground; text-style: bold; }
    KeyBar > .keys--what { color: $footer-description-foreground; }
    KeyBar > .keys--off { text-style: dim; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._hints: list[Hint] = []

    def on_mount(self) -> None:
        """Watch the bindings of the screen."""
        self.screen.bindings_updated_signal.subscribe(self, self._changed)

    def _changed(self, screen: Screen[object]) -> None:
        by_action: dict[str, Hint] = {}
        for _, binding, enabled, _ in screen.active_bindings.values():
            if binding.action == QUIT and screen is not self.app.screen_stack[0]:
                continue  # here the key goes back, as Escape, which has its own hint
            description = self._secrets_text() if binding.action == SECRETS else binding.description
            listed = is_listed(cast("Dashboard", self.app), binding.id or "")
            if binding.show and description and listed and binding.action not in by_action:
                display = self.app.get_key_display(binding)
                by_action[binding.action] = Hint(binding.key, display, description, binding.action, enabled)
        main = screen.MAIN_ACTION if isinstance(screen, DashboardScreen) else ""
        hints = sorted(by_action.values(), key=lambda hint: hint.action != main)
        if hints != self._hints:
            self._hints = hints
            self.refresh()

    def _secrets_text(self) -> str:
        screen = self.screen
        if not isinstance(screen, DashboardScreen):
            return ""
        if screen.dashboard.shows_secrets:
            return "Mask secrets"
        return "Show secrets" if screen.has_secrets and screen.dashboard.may_show_secrets else ""

    def _placed(self) -> tuple[list[tuple[int, Hint]], int]:
        """Return the hints that fit, each with its first column, and the column of the `…` (-1 if all hints fit)."""
        width = self.size.width
        gap = next((gap for gap in (2, 1) if sum(hint.width + gap for hint in self._hints) <= width + gap), 0)
        last = [] if gap else [hint for hint in self._hints if hint.action in (HELP, SECRETS)]
        room = width if gap else width - sum(hint.width + 1 for hint in last) - 2
        placed, column = [], 0
        for hint in self._hints:
            if hint in last:
                continue
            if column + hint.width > room:
                break
            placed.append((column, hint))
            column += hint.width + (gap or 1)
        ellipsis = -1 if gap else column
        for hint in last:
            placed.append((column + 2, hint))
            column += hint.width + 1
        return placed, ellipsis

    def render_line(self, y: int) -> Strip:  # noqa: ARG002
        """Paint the line."""
        key, what, off = (component_style(self, f"keys--{role}") for role in ("key", "what", "off"))
        width = self.size.width
        cells = RowBuilder(width, self.rich_style)
        placed, ellipsis = self._placed()
        parts: list[tuple[int, str, Style]] = [(ellipsis, "…", what)] if ellipsis >= 0 else []
        for column, hint in placed:
            parts.append((column, hint.display, key if hint.enabled else off))
            parts.append((column + cell_len(hint.display), f" {hint.description}", what if hint.enabled else off))
        for column, text, style in sorted(parts, key=lambda part: part[0]):
            cells.add("", None, column - (width - cells.left)).add(text, style)
        return Strip(cells.fill(), width)

    def on_click(self, event: events.Click) -> None:
        """Press the key of the clicked hint."""
        event.stop()
        for column, hint in self._placed()[0]:
            if column <= event.x < column + hint.width:
                if hint.enabled:
                    self.app.simulate_key(hint.key)
                else:
                    self.app.bell()
