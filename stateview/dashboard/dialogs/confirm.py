"""A dialog with a yes-or-no question."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Button, Label

from ..display.text import one_line

_MAX_LINES = 200  # of a question
_COMMAND_LINES = 3  # of a command line, at most
_LINE_CHARACTERS = 2_000  # of each line


class Confirm(ModalScreen[bool]):
    """Asks a question. The result of the dialog is whether the answer was yes.

    Args:
        question: the lines of the question. Control characters of stored data in them are escaped.
        command: the equivalent command line.
        title: the title in the border.
        destructive: whether Enter does nothing; else it means yes.

    """

    DEFAULT_CSS = """
    Confirm { align: center middle; }
    Confirm > Vertical {
        width: 76; max-width: 100%; height: auto; max-height: 100%;
        border: round $accent; background: $surface; padding: 0 1;
    }
    Confirm VerticalScroll { height: auto; scrollbar-size-vertical: 1; }
    Confirm VerticalScroll:focus { background: $surface; }
    Confirm Label { width: 1fr; }
    Confirm .command { color: $text-muted; height: auto; max-height: 3; }
    Confirm Horizontal { height: 1; margin-top: 1; }
    Confirm Button { width: auto; min-width: 10; margin-right: 2; background: $panel; color: $foreground; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "Yes", id="confirm.yes"),
        Binding("n,escape", "answer(False)", "No", id="confirm.no"),
        Binding("enter", "enter", "Yes", show=False, id="confirm.enter"),
    ]
    HELP = "y confirms, n or esc cancels. Enter confirms only a question that destroys nothing."

    def __init__(
        self, question: Sequence[str], command: str = "", *, title: str = "Sure?", destructive: bool = True
    ) -> None:
        super().__init__()
        self._question = [one_line(line, _LINE_CHARACTERS) for line in question[:_MAX_LINES]]
        self._command = one_line(command, _LINE_CHARACTERS)
        self._title = one_line(title, 60)
        self._destructive = destructive

    def compose(self) -> ComposeResult:
        """Show the question, its command line, and both answers as buttons for the mouse."""
        with Vertical() as box:
            box.border_title = self._title.replace("[", r"\[")
            with VerticalScroll():
                for line in self._question:
                    yield Label(line or " ", markup=False)
            if self._command:
                yield Label(self._command, classes="command", markup=False)
            with Horizontal():
                for name, label in (("yes", "y  yes"), ("no", "n  no")):
                    button = Button(label, id=name, compact=True)
                    button.can_focus = False  # with the focus, Enter would press it
                    yield button

    def on_resize(self) -> None:
        """Give the question all rows except those of border, command line, blank line and answers."""
        for question in self.query(VerticalScroll):  # empty if the dialog is dismissed before it is composed
            question.styles.max_height = max(1, self.app.size.height - 2 - _COMMAND_LINES - 2)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:  # noqa: ARG002
        """Disable Enter for a destructive question."""
        return not (action == "enter" and self._destructive)

    def action_answer(self, sure: bool) -> None:
        """Close the dialog with an answer."""
        self.dismiss(sure)

    def action_enter(self) -> None:
        """Answer yes to a question that destroys nothing."""
        self.dismiss(True)

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Answer with the button."""
        event.stop()
        self.dismiss(event.button.id == "yes")
