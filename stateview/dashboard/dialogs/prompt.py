"""A dialog with one input field."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Label

from ...errors import InvalidName
from ..display.text import one_line
from ..widgets.line_input import LineInput

DEFAULT_HINT = "enter confirms · esc cancels"


def validator(check: Callable[[str], object]) -> Callable[[str], str | None]:
    """Turn a function that raises `InvalidName` into a function that returns the error text, or None."""

    def error_of(text: str) -> str | None:
        try:
            check(text)
        except InvalidName as error:
            return str(error)
        return None

    return error_of


class PromptDialog(ModalScreen[str | None]):
    """Asks for a line of text. The result of the dialog is the line, or None.

    Args:
        title: the title in the border.
        initial: the first text of the field.
        check: returns the error of a line, or None. It runs at each key press, so it must not wait.
        command: returns the equivalent command line of a line.
        hint: the text below a valid line, or a function that returns the text for a line.
        select: select the first text, so that the user types another one in its place.

    """

    DEFAULT_CSS = """
    PromptDialog { align: center middle; }
    PromptDialog > Vertical {
        width: 76; max-width: 100%; height: auto; max-height: 100%;
        border: round $accent; background: $surface; padding: 0 1;
    }
    PromptDialog Label { width: 1fr; height: auto; max-height: 4; color: $text-muted; }
    PromptDialog #message.-wrong { color: $text-error; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "Cancel", id="ask.leave")]
    HELP = "Enter confirms the line, esc cancels."

    def __init__(
        self, title: str, initial: str = "", check: Callable[[str], str | None] | None = None,
        command: Callable[[str], str] | None = None, *,
        hint: str | Callable[[str], str] = DEFAULT_HINT, select: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self._select = select
        self._title = one_line(title, 60)
        self._initial = initial
        self._check = check or (lambda _text: None)
        self._command = command
        self._hint = hint
        self._typed = False

    def compose(self) -> ComposeResult:
        """Show the field, its error or hint, and the command line."""
        with Vertical() as box:
            box.border_title = self._title.replace("[", r"\[")
            yield LineInput(self._initial)
            yield Label("", id="message", markup=False)
            if self._command is not None:
                yield Label("", id="line", markup=False)

    def on_mount(self) -> None:
        """Check the first text."""
        if self._select:
            for field in self.query(LineInput):
                field.select_all()
        self._check_line()

    def _check_line(self) -> bool:
        if not self.query(LineInput):  # the dialog was dismissed before it was composed
            return False
        text = self.query_one(LineInput).value
        error = self._check(text)
        shown_error = error if text or self._typed else None  # an empty field is no error until the user has typed
        hint = self._hint if isinstance(self._hint, str) else self._hint(text)
        label = self.query_one("#message", Label)
        label.update("\n".join(one_line(line) for line in (shown_error or hint).split("\n")))
        label.set_class(shown_error is not None, "-wrong")
        if self._command is not None:
            self.query_one("#line", Label).update(one_line(self._command(text)) if error is None else "")
        return error is None

    @on(Input.Changed)
    def _changed(self, event: Input.Changed) -> None:
        event.stop()
        self._typed = self._typed or bool(event.value)
        self._check_line()

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self._typed = True
        if self._check_line():
            self.dismiss(event.value)

    def action_leave(self) -> None:
        """Close the dialog without a line."""
        self.dismiss(None)
