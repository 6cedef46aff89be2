"""The line for the filter of the key list."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, cast

from textual.binding import Binding, BindingType
from textual.message import Message
from textual.timer import Timer
from textual.widgets import Input

from ...manager import StateManager
from ...states.view import Ref
from ..data.key_source import KeySource, open_source
from .line_input import LineInput

DEBOUNCE_SECONDS = 0.08  # the pause in typing that starts a search

if TYPE_CHECKING:
    from ..app import Dashboard


class FilterBar(LineInput):
    """Visible while it has the focus or a filter. See `Filter.parse` for the syntax."""

    DEFAULT_CSS = """
    FilterBar { height: 1; border: none; padding: 0 1; background: $surface; display: none; }
    FilterBar:focus { border: none; background: $panel; }
    FilterBar.-used { display: block; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "clear_filter", "Clear", show=False, id="filter.clear"),
        Binding("down", "submit", "To the list", show=False, id="filter.leave"),
    ]

    class Typed(Message):
        """The filter has changed."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    class Left(Message):
        """The user goes back to the list."""

    def __init__(self, id: str | None = None) -> None:
        super().__init__(placeholder="prefix   *glob*   ~fuzzy   =in values", id=id)
        self.text = ""
        self._timer: Timer | None = None

    def source(self, manager: StateManager, at: Ref | None = None) -> KeySource:
        """Return a source of the keys that match the filter."""
        return open_source(manager, at, self.text, redact=cast("Dashboard", self.app).redact)

    def open(self) -> None:
        """Show the line and give it the focus."""
        self.add_class("-used")
        self.focus()

    def clear(self) -> None:
        """Remove the filter."""
        self.value = ""
        self._apply()
        self.remove_class("-used")

    def on_input_changed(self, event: Input.Changed) -> None:
        """Search for the text once typing pauses."""
        event.stop()
        self._stop_timer()
        if self.value != self.text:
            self._timer = self.set_timer(DEBOUNCE_SECONDS, self._apply)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Apply the filter, and go back to the list."""
        event.stop()
        self._apply()
        self.set_class(bool(self.text), "-used")
        self.post_message(self.Left())

    def action_clear_filter(self) -> None:
        """Remove the filter, and go back to the list."""
        self.clear()
        self.post_message(self.Left())

    def _apply(self) -> None:
        self._stop_timer()
        if self.value != self.text:
            self.text = self.value
            self.post_message(self.Typed(self.text))

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.stop()
            self._timer = None
