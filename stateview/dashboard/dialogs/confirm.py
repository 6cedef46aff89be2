"""A question that is answered by yes or no."""

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
_COMMAND_LINES = 3  # lines that a command line takes at most
_LINE_CHARACTERS = 2_000  # characters of one of them


class Confirm(ModalScreen[bool]):
    """Ends with whether the answer was yes.

    Args:
        question: what is asked, line by line; may hold stored data.
        command: the command line that the act equals.
        title: stands in the border.
        destructive: Enter does nothing; else it is a yes.

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
    HELP = "A question before an act. What destroys something is confirmed by y, never by Enter."

    def __init__(
        self, question: Sequence[str], command: str = "", *, title: str = "Sure?", destructive: bool = True
    ) -> None:
        super().__init__()
        self._question = [one_line(one, _LINE_CHARACTERS) for one in question[:_MAX_LINES]]
        self._command = one_line(command, _LINE_CHARACTERS)
        self._title = one_line(title, 60)
        self._destructive = destructive

    def compose(self) -> ComposeResult:
        """Return the question, its command line, and both answers for the mouse."""
        with Vertical() as box:
            box.border_title = self._title.replace("[", r"\[")
            with VerticalScroll():
                for one in self._question:
                    yield Label(one or " ", markup=False)
            if self._command:
                yield Label(self._command, classes="command", markup=False)
            with Horizontal():
                for name, label in (("yes", "y  yes"), ("no", "n  no")):
                    button = Button(label, id=name, compact=True)
                    button.can_focus = False  # else Enter would press it
                    yield button

    def on_resize(self) -> None:
        """Give the question the rows that the rest leaves.

        The border, the command line, a blank line, and the answers.
        """
        for asked in self.query(VerticalScroll):  # none where it is dismissed as soon as it is pushed
            asked.styles.max_height = max(1, self.app.size.height - 2 - _COMMAND_LINES - 2)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:  # noqa: ARG002
        """Enter is no answer to what destroys."""
        return not (action == "enter" and self._destructive)

    def action_answer(self, sure: bool) -> None:
        """Answer, and go."""
        self.dismiss(sure)

    def action_enter(self) -> None:
        """Yes to what destroys nothing."""
        self.dismiss(True)

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Answer by a click."""
        event.stop()
        self.dismiss(event.button.id == "yes")
