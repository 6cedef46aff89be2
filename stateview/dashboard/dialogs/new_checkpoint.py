"""Asks for a new checkpoint's name and note."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, ClassVar, NamedTuple, cast

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Label

from ...errors import InvalidName
from ...model import check_checkpoint
from ..display.text import one_line
from ..widgets.line_input import LineInput

if TYPE_CHECKING:
    from ..app import Dashboard


class CheckpointForm(NamedTuple):
    """What is typed: a name (empty: one is made), and a note."""

    name: str = ""
    note: str = ""

    def words(self, at: str | None) -> list[str]:
        """Return the command that names a ref so; None is live."""
        words = ["checkpoint", *([self.name] if self.name else [])]
        if self.note:
            words += ["--note", self.note]
        return words + (["--at", at] if at else [])


_EMPTY = CheckpointForm()


class CheckpointDialog(ModalScreen[CheckpointForm | None]):
    """Ends with what was typed, or None.

    Args:
        at: the ref to name; None: live.
        initial: what is there to begin with.

    """

    DEFAULT_CSS = """
    CheckpointDialog { align: center middle; }
    CheckpointDialog > Vertical {
        width: 70; max-width: 100%; height: auto; border: round $accent; background: $surface; padding: 0 1;
    }
    CheckpointDialog LineInput { margin-bottom: 1; }
    CheckpointDialog LineInput:focus { background: $primary-muted; }
    CheckpointDialog #said { color: $text-muted; width: 1fr; height: auto; max-height: 3; }
    CheckpointDialog #said.-wrong { color: $text-error; }
    CheckpointDialog #line { color: $text-muted; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "Cancel", id="checkpoint.leave")]
    HELP = "A checkpoint is a name for a state. Naming costs nothing; a name that is there already moves."

    def __init__(self, at: str | None, initial: CheckpointForm) -> None:
        super().__init__()
        self._at = at
        self._initial = initial

    def compose(self) -> ComposeResult:
        """Return a name, a note, and what they come to."""
        with Vertical() as box:
            box.border_title = f"Checkpoint of {self._at or 'live'}"
            yield Label("Name (empty: auto_ and the time)")
            auto = f"auto_{time.strftime('%Y%m%d_%H%M%S', time.gmtime())}"
            yield LineInput(self._initial.name, id="name", placeholder=auto)
            yield Label("Note")
            yield LineInput(self._initial.note, id="note", placeholder="what it is, in a few words")
            yield Label("", id="said", markup=False)
            yield Label("", id="line", markup=False)

    def on_mount(self) -> None:
        """Say what enter would do."""
        self._check()

    def _typed(self) -> CheckpointForm:
        return CheckpointForm(
            self.query_one("#name", Input).value.strip(), self.query_one("#note", Input).value.strip()
        )

    def _check(self) -> bool:
        app, said, typed = cast("Dashboard", self.app), self.query_one("#said", Label), self._typed()
        known = {mark.name for mark in app.news.marks} if app.news else set()
        name, wrong = typed.name, ""
        if name:
            try:
                check_checkpoint(name)
            except InvalidName as error:
                wrong = str(error)
        moves = f"{name} moves here; what it named stays as {name}@REVISION" if name in known else ""
        said.update(one_line(wrong or moves or "enter makes it · esc cancels"))
        said.set_class(bool(wrong), "-wrong")
        self.query_one("#line", Label).update(one_line(app.command_line(typed.words(self._at))))
        return not wrong

    def on_input_changed(self) -> None:
        """Check the name while it is typed."""
        self._check()

    def on_input_submitted(self) -> None:
        """Make it."""
        if self._check():
            self.dismiss(self._typed())

    def action_leave(self) -> None:
        """Make none."""
        self.dismiss(None)


def new_checkpoint(app: Dashboard, at: str | None, initial: CheckpointForm = _EMPTY) -> None:
    """Ask for a name, and make the checkpoint; one that cannot be made is asked for again."""
    if app.read_only:
        app.notify_user("read-only: a checkpoint would be written", wrong=True)
        return

    def answered(typed: CheckpointForm | None) -> None:
        if typed is None:
            return

        def failed(error: Exception) -> None:
            app.show_error(error, act=True)
            new_checkpoint(app, at, typed)

        app.acts.run(typed.words(at), failed=failed)

    app.push_screen(CheckpointDialog(at, initial), answered)
