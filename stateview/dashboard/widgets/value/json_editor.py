"""A text field for JSON with colours and validation. Imported only when a value is edited."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, ClassVar, cast

from rich.text import Text
from textual import on
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.timer import Timer
from textual.widgets import TextArea

from ....cli.render import escape_control_characters
from ...actions.value_edit import ValidationResult, validate
from ...display.themes import component_style

if TYPE_CHECKING:
    from ...app import Dashboard

DEBOUNCE_SECONDS = 0.15  # the pause in typing that starts the validation
CHECKED_AT_ONCE_CHARACTERS = 100_000  # longer texts are validated on a thread
WRAPPED_CHARACTERS = 20_000  # a text with a longer line is not wrapped: wrapping would take a second a key press
_COLOURED_CHARACTERS = 4_000  # colours end here in a longer line
_TOKEN = re.compile(
    r'(?P<key>"(?:[^"\\]|\\.)*+")(?=\s*:)|(?P<string>"(?:[^"\\]|\\.)*+"?)'
    r"|(?P<number>-?\d[\d.eE+-]*)|(?P<word>\b(?:true|false|null)\b)"
)


class JsonEdit(TextArea):
    """Edits a JSON text."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"json--key", "json--string", "json--number", "json--word"}
    DEFAULT_CSS = """
    JsonEdit { border: none; padding: 0; background: $surface; }
    JsonEdit:focus { border: none; }
    JsonEdit > .json--key { color: $text-primary; }
    JsonEdit > .json--string { color: $text-success; }
    JsonEdit > .json--number { color: $text-warning; }
    JsonEdit > .json--word { color: $text-accent; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("ctrl+g", "error", "To the error", id="edit.error")]

    class Validated(Message):
        """The text was validated after a change."""

        def __init__(self, edit: JsonEdit, verdict: ValidationResult) -> None:
            super().__init__()
            self.edit = edit
            self.verdict = verdict

        @property
        def control(self) -> JsonEdit:
            """The field that sent the message."""
            return self.edit

    def __init__(self, text: str, *, id: str | None = None) -> None:
        longest = max(map(len, text.split("\n")))
        super().__init__(
            text,
            soft_wrap=longest <= WRAPPED_CHARACTERS,
            tab_behavior="indent",
            show_line_numbers=True,
            id=id,
            compact=True,
        )
        self.indent_width = 2
        self.verdict: ValidationResult | None = None  # None: not validated since the last change
        self._timer: Timer | None = None

    def on_mount(self) -> None:
        """Validate the initial text."""
        self._validate()

    @on(TextArea.Changed)
    def _changed(self) -> None:
        self.verdict = None
        if self._timer is not None:
            self._timer.stop()
        self._timer = self.set_timer(DEBOUNCE_SECONDS, self._validate)

    def _validate(self) -> None:
        text = self.text
        if len(text) <= CHECKED_AT_ONCE_CHARACTERS:
            self._take(validate(text))
            return
        app = cast("Dashboard", self.app)
        app.reader.submit(self, "validate", lambda _stop: validate(text), self._take, app.show_error)

    def _take(self, verdict: ValidationResult) -> None:
        self.verdict = verdict
        self.post_message(self.Validated(self, verdict))

    def action_error(self) -> None:
        """Move the caret to the error."""
        if self.verdict is not None and self.verdict.place is not None:
            self.move_cursor(self.verdict.place, center=True)
            self.focus()

    def get_line(self, line_index: int) -> Text:
        """Return a line with its colours. Control characters are escaped, except tabs, which Textual expands."""
        plain = self.document.get_line(line_index)
        text = Text("\t".join(map(escape_control_characters, plain.split("\t"))), end="", no_wrap=True)
        for match in _TOKEN.finditer(plain, 0, _COLOURED_CHARACTERS):
            assert match.lastgroup is not None, "each alternative is a group"
            style = component_style(self, f"json--{match.lastgroup}")
            text.stylize(style, match.start(), match.end())
        return text
