"""The line at the bottom: which keys do what on this screen."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

from rich.cells import cell_len
from textual import events
from textual.screen import Screen
from textual.strip import Strip
from textual.widget import Widget

from ..display.text import RowBuilder

HELP = "help"  # the action that is named however narrow the screen is


class Hint(NamedTuple):
    """A key, how it is written, what it does, by which action, and whether it does so now."""

    key: str
    display: str
    what: str
    action: str
    enabled: bool

    @property
    def width(self) -> int:
        """The columns that it takes."""
        return cell_len(self.display) + 1 + cell_len(self.what)


class KeyBar(Widget):
    """The shown bindings of its screen in one line, those that find room; a click presses the key.

    One widget that paints a line: Textual's Footer makes widgets anew for each key whenever a binding changes, and
    cuts off what comes last, which is how to get help.
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
        """Follow the bindings."""
        self.screen.bindings_updated_signal.subscribe(self, self._changed)

    def _changed(self, screen: Screen[object]) -> None:
        found: dict[str, Hint] = {}
        for _, binding, enabled, _ in screen.active_bindings.values():
            if binding.show and binding.action not in found:
                display = self.app.get_key_display(binding)
                found[binding.action] = Hint(binding.key, display, binding.description, binding.action, enabled)
        hints = list(found.values())
        if hints != self._hints:
            self._hints = hints
            self.refresh()

    def _placed(self) -> tuple[list[tuple[int, Hint]], int]:
        """Return what is shown from which column on; and the column of a `…` for what is not, -1 where all is."""
        width = self.size.width
        gap = next((gap for gap in (2, 1) if sum(hint.width + gap for hint in self._hints) <= width + gap), 0)
        last = [] if gap else [hint for hint in self._hints if hint.action == HELP]
        room = width if gap else width - sum(hint.width + 1 for hint in last) - 2
        placed, at = [], 0
        for hint in self._hints:
            if hint in last:
                continue
            if at + hint.width > room:
                break
            placed.append((at, hint))
            at += hint.width + (gap or 1)
        return [*placed, *((at + 2, hint) for hint in last)], -1 if gap else at

    def render_line(self, y: int) -> Strip:  # noqa: ARG002
        """Return the line."""
        key, what, off = (
            self.get_component_rich_style(f"keys--{role}", partial=True) for role in ("key", "what", "off")
        )
        width = self.size.width
        cells = RowBuilder(width, self.rich_style)
        placed, more = self._placed()
        parts = [(at, hint.display, key if hint.enabled else off) for at, hint in placed]
        parts += [(at + cell_len(hint.display), f" {hint.what}", what if hint.enabled else off) for at, hint in placed]
        parts += [(more, "…", what)] if more >= 0 else []
        for at, text, style in sorted(parts, key=lambda part: part[0]):
            cells.add("", None, at - (width - cells.left)).add(text, style)
        return Strip(cells.fill(), width)

    def on_click(self, event: events.Click) -> None:
        """Press the key that is named there."""
        event.stop()
        for at, hint in self._placed()[0]:
            if at <= event.x < at + hint.width:
                if hint.enabled:
                    self.app.simulate_key(hint.key)
                else:
                    self.app.bell()
