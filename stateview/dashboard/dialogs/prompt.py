"""Asks for one line."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Label

from ..display.text import one_line
from ..widgets.line_input import LineInput

TAKES = "enter takes it · esc cancels"


class PromptDialog(ModalScreen[str | None]):
    """Ends with the line, or None.

    Args:
        title: stands in the border.
        initial: what is there to begin with.
        check: called with the line as it is typed; returns what is wrong with it, or None. It must not wait.
        command: called with the line as it is typed; returns the command line that Enter equals.
        hint: said while nothing is wrong: a text, or what says it of the line.

    """

    DEFAULT_CSS = """
    PromptDialog { align: center middle; }
    PromptDialog > Vertical {
        width: 76; max-width: 100%; height: auto; max-height: 100%;
        border: round $accent; background: $surface; padding: 0 1;
    }
    PromptDialog Label { width: 1fr; height: auto; max-height: 4; color: $text-muted; }
    PromptDialog #said.-wrong { color: $text-error; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "Cancel", id="ask.leave")]
    HELP = "Enter takes the line, esc leaves everything as it is."

    def __init__(
        self, title: str, initial: str = "", check: Callable[[str], str | None] | None = None,
        command: Callable[[str], str] | None = None, *,
        hint: str | Callable[[str], str] = TAKES,
    ) -> None:  # fmt: skip
        super().__init__()
        self._title = one_line(title, 60)
        self._initial = initial
        self._check = check or (lambda _text: None)
        self._command = command
        self._hint = hint
        self._typed = False

    def compose(self) -> ComposeResult:
        """Return the line, what is wrong with it, and what it comes to."""
        with Vertical() as box:
            box.border_title = self._title.replace("[", r"\[")
            yield LineInput(self._initial)
            yield Label("", id="said", markup=False)
            if self._command is not None:
                yield Label("", id="line", markup=False)

    def on_mount(self) -> None:
        """Judge what is there to begin with."""
        self._judge()

    def _judge(self) -> bool:
        if not self.query(LineInput):  # it ended before it had parts
            return False
        text = self.query_one(LineInput).value
        refused = self._check(text)
        wrong = refused if text or self._typed else None  # else nobody has typed anything wrong yet
        said = self.query_one("#said", Label)
        hint = self._hint if isinstance(self._hint, str) else self._hint(text)
        said.update("\n".join(one_line(one) for one in (wrong or hint).split("\n")))
        said.set_class(wrong is not None, "-wrong")
        if self._command is not None:
            self.query_one("#line", Label).update(one_line(self._command(text)) if refused is None else "")
        return refused is None

    @on(Input.Changed)
    def _changed(self, event: Input.Changed) -> None:
        event.stop()
        self._typed = self._typed or bool(event.value)
        self._judge()

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self._typed = True
        if self._judge():
            self.dismiss(event.value)

    def action_leave(self) -> None:
        """Take nothing."""
        self.dismiss(None)
