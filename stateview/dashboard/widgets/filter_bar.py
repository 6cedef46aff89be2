"""The line for the filter of a list."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.message import Message
from textual.timer import Timer
from textual.widgets import Input

from .line_input import LineInput

KEYS = "word   prefix*   *glob*   ~letters   =in values"  # the filter of keys
DEBOUNCE_SECONDS = 0.08  # the pause in typing that starts a search


class FilterBar(LineInput):
    """Visible while it has the focus or a filter.

    Args:
        placeholder: what can be typed.
        id: the id of the widget.

    """

    DEFAULT_CSS = """
    FilterBar { height: 1; border: none; padding: 0 1; background: $surface; display: none; }
    FilterBar:focus { border: none; background: $panel; }
    FilterBar.-used { display: block; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "clear_filter", "Clear", show=False, id="filter.clear"),
        Binding("down", "to_list", "To the list", show=False, id="filter.leave"),
    ]

    class Typed(Message):
        """The filter has changed."""

        def __init__(self, bar: FilterBar, text: str) -> None:
            super().__init__()
            self.bar = bar
            self.text = text

        @property
        def control(self) -> FilterBar:
            """The line that sent the message."""
            return self.bar

    class Left(Message):
        """The user goes back to the list. `entered` says whether by Enter, which takes the best match."""

        def __init__(self, bar: FilterBar, entered: bool) -> None:
            super().__init__()
            self.bar = bar
            self.entered = entered

        @property
        def control(self) -> FilterBar:
            """The line that sent the message."""
            return self.bar

    def __init__(self, placeholder: str = KEYS, id: str | None = None) -> None:
        super().__init__(placeholder=placeholder, id=id)
        self.text = ""
        self._timer: Timer | None = None

    def open(self, text: str | None = None) -> None:
        """Show the line and give it the focus, with its text selected: what the user types replaces it.

        Args:
            text: another text, which is applied at once.

        """
        self.add_class("-used")
        if text is not None:
            self.value = text
            self._apply()
        self.select_all()
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
        self.leave(entered=True)

    def leave(self, *, entered: bool = False) -> None:
        """Apply the filter, and go back to the list. An empty line disappears."""
        self._apply()
        self.set_class(bool(self.text), "-used")
        self.post_message(self.Left(self, entered))

    def action_to_list(self) -> None:
        """Go to the list, and leave the filter as it is."""
        self.leave()

    def action_clear_filter(self) -> None:
        """Remove the filter, and go back to the list."""
        self.clear()
        self.post_message(self.Left(self, False))

    def _apply(self) -> None:
        self._stop_timer()
        if self.value != self.text:
            self.text = self.value
            self.post_message(self.Typed(self, self.text))

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.stop()
            self._timer = None
