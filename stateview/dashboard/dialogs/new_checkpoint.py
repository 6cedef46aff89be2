"""The dialog for a new checkpoint."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, ClassVar, NamedTuple, cast

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Label

from ...model import check_checkpoint
from ..display.text import one_line
from ..widgets.line_input import LineInput
from .prompt import validator

if TYPE_CHECKING:
    from ..app import Dashboard


class CheckpointForm(NamedTuple):
    """The fields of the dialog. With an empty name, the command generates one."""

    name: str = ""
    note: str = ""

    def words(self, at: str | None) -> list[str]:
        """Return the words of the command that creates the checkpoint of a ref; None is live."""
        words = ["checkpoint", *([self.name] if self.name else [])]
        if self.note:
            words += ["--note", self.note]
        return words + (["--at", at] if at else [])


_EMPTY = CheckpointForm()
_name_error = validator(check_checkpoint)


class CheckpointDialog(ModalScreen[CheckpointForm | None]):
    """Asks for name and note. The result of the dialog is the form, or None.

    Args:
        at: the ref of the checkpoint; None is live.
        initial: the first texts of the fields.

    """

    DEFAULT_CSS = """
    CheckpointDialog { align: center middle; }
    CheckpointDialog > Vertical {
        width: 70; max-width: 100%; height: auto; border: round $accent; background: $surface; padding: 0 1;
    }
    CheckpointDialog LineInput { margin-bottom: 1; }
    CheckpointDialog LineInput:focus { background: $primary-muted; }
    CheckpointDialog #message { color: $text-muted; width: 1fr; height: auto; max-height: 3; }
    CheckpointDialog #message.-wrong { color: $text-error; }
    CheckpointDialog #line { color: $text-muted; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "Cancel", id="checkpoint.leave")]
    HELP = "A checkpoint is a name for a revision. A new checkpoint with the same name replaces an earlier one."

    def __init__(self, at: str | None, initial: CheckpointForm) -> None:
        super().__init__()
        self._at = at
        self._initial = initial

    def compose(self) -> ComposeResult:
        """Show the fields, the error or hint, and the command line."""
        with Vertical() as box:
            box.border_title = f"Checkpoint of {self._at or 'live'}"
            yield Label("Name (empty: auto_ and the time)")
            auto = f"auto_{time.strftime('%Y%m%d_%H%M%S', time.gmtime())}"
            yield LineInput(self._initial.name, id="name", placeholder=auto)
            yield Label("Note")
            yield LineInput(self._initial.note, id="note", placeholder="a short description")
            yield Label("", id="message", markup=False)
            yield Label("", id="line", markup=False)

    def on_mount(self) -> None:
        """Show what enter will do."""
        self._check()

    def _form(self) -> CheckpointForm:
        return CheckpointForm(
            self.query_one("#name", Input).value.strip(), self.query_one("#note", Input).value.strip()
        )

    def _check(self) -> bool:
        app, form = cast("Dashboard", self.app), self._form()
        existing = {mark.name for mark in app.news.marks} if app.news else set()
        name = form.name
        error = _name_error(name) if name else None
        replaces = f"{name} exists: it moves here, and the earlier one stays as {name}@REVISION"
        hint = replaces if name in existing else "enter creates it · esc cancels"
        label = self.query_one("#message", Label)
        label.update(one_line(error or hint))
        label.set_class(bool(error), "-wrong")
        self.query_one("#line", Label).update(one_line(app.command_line(form.words(self._at))))
        return not error

    def on_input_changed(self) -> None:
        """Check the name at each key press."""
        self._check()

    def on_input_submitted(self) -> None:
        """Close the dialog with the form, if the name is valid."""
        if self._check():
            self.dismiss(self._form())

    def action_leave(self) -> None:
        """Close the dialog without a form."""
        self.dismiss(None)


def new_checkpoint(app: Dashboard, at: str | None, initial: CheckpointForm = _EMPTY) -> None:
    """Ask for name and note, and create the checkpoint. After an error, show the dialog again."""
    if app.read_only:
        app.notify_user("read-only: a checkpoint would write", wrong=True)
        return

    def create(form: CheckpointForm | None) -> None:
        if form is None:
            return

        def failed(error: Exception) -> None:
            app.show_error(error, act=True)
            new_checkpoint(app, at, form)

        app.acts.run(form.words(at), failed=failed)

    app.push_screen(CheckpointDialog(at, initial), create)
