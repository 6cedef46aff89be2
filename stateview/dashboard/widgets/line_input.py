"""An input line that accepts no control characters."""

from __future__ import annotations

from textual import events
from textual.widgets import Input

from ...cli.render import escape_control_characters

MAX_CHARACTERS = 100_000  # longer text belongs in a file


class LineInput(Input):
    """Textual's input without a border. Pasted lines are joined into one."""

    DEFAULT_CSS = """
    LineInput, LineInput:focus { border: none; height: 1; background: $boost; }
    LineInput.-textual-compact { padding: 0 1; }
    """

    def __init__(self, value: str = "", *, placeholder: str = "", id: str | None = None) -> None:
        super().__init__(
            escape_control_characters(value[:MAX_CHARACTERS]),
            placeholder=placeholder,
            select_on_focus=False,
            max_length=MAX_CHARACTERS,
            compact=True,
            id=id,
        )

    def _on_paste(self, event: events.Paste) -> None:
        """Replace line ends by blanks, which are valid in JSON. Textual would drop all lines after the first."""
        event.prevent_default()
        event.stop()
        text = escape_control_characters(" ".join(event.text.splitlines()))
        self.replace(text[: MAX_CHARACTERS - len(self.value)], *self.selection)
