"""Asks for a new checkpoint's name and note."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Label

from ...errors import InvalidName
from ...model import check_checkpoint
from ..acts import command_line
from ..paint import line
from ..widgets.line_input import LineInput

if TYPE_CHECKING:
    from ..app import Dashboard


class NewCheckpoint(ModalScreen[list[str] | None]):
    """Ends with the words of the command, or None.

    Args:
        at: the ref to name; None: live.
        known: the names that there are: one of these moves.

    """

    DEFAULT_CSS = """
    NewCheckpoint { align: center middle; }
    NewCheckpoint > Vertical {
        width: 70; max-width: 100%; height: auto; border: round $accent; background: $surface; padding: 0 1;
    }
    NewCheckpoint LineInput { margin-bottom: 1; }
    NewCheckpoint LineInput:focus { background: $primary-muted; }
    NewCheckpoint #said { color: $text-muted; height: 1; }
    NewCheckpoint #said.-wrong { color: $text-error; }
    NewCheckpoint #line { color: $text-muted; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "Cancel", id="checkpoint.leave")]
    HELP = "A checkpoint is a name for a state. Naming costs nothing; a name that is there already moves."

    def __init__(self, at: str | None, known: list[str]) -> None:
        super().__init__()
        self._at = at
        self._known = known

    def compose(self) -> ComposeResult:
        """A name, a note, and what they come to."""
        with Vertical() as box:
            box.border_title = f"Checkpoint of {self._at or 'live'}"
            yield Label("Name (empty: auto_ and the time)")
            yield LineInput(id="name", placeholder=f"auto_{time.strftime('%Y%m%d_%H%M%S', time.gmtime())}")
            yield Label("Note")
            yield LineInput(id="note", placeholder="what it is, in a few words")
            yield Label("", id="said", markup=False)
            yield Label("", id="line", markup=False)

    def on_mount(self) -> None:
        """Say what enter would do."""
        self._check()

    def _words(self) -> list[str]:
        name, note = self.query_one("#name", Input).value.strip(), self.query_one("#note", Input).value.strip()
        words = ["checkpoint", *([name] if name else [])]
        if note:
            words += ["--note", note]
        return words + (["--at", self._at] if self._at else [])

    def _check(self) -> bool:
        said, name = self.query_one("#said", Label), self.query_one("#name", Input).value.strip()
        wrong = ""
        if name:
            try:
                check_checkpoint(name)
            except InvalidName as error:
                wrong = error.message
        moves = f"{name} moves here; what it named stays as {name}@REVISION" if name in self._known else ""
        said.update(line(wrong or moves or "enter makes it · esc cancels"))
        said.set_class(bool(wrong), "-wrong")
        self.query_one("#line", Label).update(line(command_line(self._words())))
        return not wrong

    def on_input_changed(self) -> None:
        """Checked as typed."""
        self._check()

    def on_input_submitted(self) -> None:
        """Make it."""
        if self._check():
            self.dismiss(self._words())

    def action_leave(self) -> None:
        """Make none."""
        self.dismiss(None)


def new_checkpoint(app: Dashboard, at: str | None, known: list[str]) -> None:
    """Ask for a name, and make the checkpoint."""
    if app.read_only:
        app.tell("read-only: a checkpoint would be written", wrong=True)
        return

    def answered(words: list[str] | None) -> None:
        if words is not None:
            app.acts.run(words)

    app.push_screen(NewCheckpoint(at, known), answered)
