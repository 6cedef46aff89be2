"""The form of the edit screen: key, value, verdict on the value, and the command line that saves it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual import events, on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Label

from ..actions.value_edit import INLINE_CHARACTERS, Draft, ValidationResult, save_words
from ..base_screen import DashboardScreen
from ..display.text import format_duration, format_size, one_line
from ..widgets.key_bar import KeyBar
from ..widgets.line_input import LineInput
from ..widgets.status_bar import Banner
from ..widgets.value.json_editor import JsonEdit

if TYPE_CHECKING:
    from ...backends.protocol import Head


class EditFormScreen(DashboardScreen, ModalScreen[int | None]):
    """Base of `EditScreen`. Shows the fields, and checks them while the user types.

    Args:
        key: the key; with `new`, a first text for the name.
        draft: the value as it was read.
        new: create the key; its name is a field too.

    """

    DEFAULT_CSS = """
    EditFormScreen > Vertical { width: 100%; height: 100%; border: round $accent; background: $surface; padding: 0 1; }
    EditFormScreen JsonEdit { height: 1fr; }
    EditFormScreen Label { width: 1fr; height: auto; max-height: 2; color: $text-muted; }
    EditFormScreen #verdict { color: $text-success; }
    EditFormScreen #verdict.-wrong { color: $text-error; }
    EditFormScreen #note { color: $text-warning; }
    EditFormScreen #note.-empty { display: none; }
    EditFormScreen #large { height: 1fr; max-height: 100%; }
    """

    def __init__(self, key: str, draft: Draft, *, new: bool = False) -> None:
        super().__init__()
        self._key = key
        self._draft = draft  # the version of the key that a save expects
        self._based_on = key  # the key of that version
        self._start = draft.text  # the last text that was read or saved
        self._text = draft.text  # the present text, if it is too large for a field
        self._new = new
        self._busy = False  # a save is under way
        self._refused: str | None = None  # the text of a failed save

    def compose(self) -> ComposeResult:
        """Show the name of a new key, the value, the verdict, and the command line."""
        with Vertical() as box:
            box.border_title = "New key" if self._new else one_line(f"Edit {self._key}", 200).replace("[", r"\[")
            yield Banner()
            if self._new:
                yield LineInput(self._key, placeholder="the new key", id="key")
            yield Label(classes="-empty", id="note", markup=False)
            yield self._field()
            yield Label(id="verdict", markup=False)
            yield Label(id="line", markup=False)
            yield KeyBar()

    def _field(self) -> JsonEdit | Label:
        if len(self._text) <= INLINE_CHARACTERS:
            return JsonEdit(self._text, id="field")
        size = format_size(len(self._text))
        return Label(f"{size} are too large to edit here. ctrl+e opens $EDITOR again.", id="large", markup=False)

    def on_mount(self) -> None:
        """Focus the first field."""
        if self._draft.deadline is not None:
            self._note(f"the key expires in {format_duration(self._draft.ttl or 0)}; a save keeps the expiry (--ttl)")
        if self._new:
            self.query_one("#key").focus()
        else:
            self.query("JsonEdit").focus()

    # --- the fields --------------------------------------------------------------------------------------------

    @property
    def text(self) -> str:
        """The value as it is typed."""
        field = self.query(JsonEdit)
        return field.first().text if field else self._text

    @property
    def key(self) -> str:
        """The key as it is typed."""
        return self.query_one("#key", LineInput).value if self._new else self._key

    @property
    def unsaved(self) -> bool:
        """Whether leaving would lose text."""
        not_created = self._new and self._base().revision == 0
        return self.text != self._start or (not_created and bool(self.text.strip()))

    def _key_error(self) -> str | None:
        from ..dialogs.key_actions import key_error

        return key_error(self.key) if self._new else None

    def _base(self) -> Draft:
        """Return the version that a save expects; revision 0 if the key must not exist yet."""
        return self._draft if self.key == self._based_on else Draft("")

    # --- verdict and notes -------------------------------------------------------------------------------------

    def _note(self, text: str) -> None:
        note = self.query_one("#note", Label)
        note.update(one_line(text))
        note.set_class(not text, "-empty")

    def _show_message(self, text: str, wrong: bool = False) -> None:
        label = self.query_one("#verdict", Label)
        label.update(one_line(text))
        label.set_class(wrong, "-wrong")

    def _show_verdict(self, verdict: ValidationResult) -> None:
        key_error = self._key_error() if verdict.data is not None else None
        ready = verdict.data is not None and key_error is None
        self._show_message(key_error or verdict.message, wrong=not ready)
        words = save_words(self.key, verdict.data or b"", self._base())
        self._show_command(self.dashboard.command_line(words) if ready else "")

    def _show_command(self, line: str) -> None:
        label = self.query_one("#line", Label)
        label.update(one_line(line))
        label.display = bool(line)

    @on(JsonEdit.Validated)
    def _validated(self, event: JsonEdit.Validated) -> None:
        event.stop()
        if self._refused != self.text:  # else a late verdict would hide why the save failed
            self._refused = None
            self._show_verdict(event.verdict)

    @on(Input.Changed, "#key")
    def _key_typed(self, event: Input.Changed) -> None:
        event.stop()
        key_error = self._key_error()
        verdict = self.query_one(JsonEdit).verdict if self.query(JsonEdit) else None
        if key_error is not None:
            self._show_message(key_error, wrong=True)
            self._show_command("")
        elif verdict is not None:
            self._show_verdict(verdict)

    @on(Input.Submitted, "#key")
    def _key_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.query("JsonEdit").focus()

    @on(events.Click, "#verdict")
    def _go_to_error(self) -> None:
        for field in self.query(JsonEdit):
            field.action_error()

    # --- changes by other processes ----------------------------------------------------------------------------

    def namespace_changed(self, _head: Head, changed: list[str] | None) -> None:
        """Note that another process wrote or deleted this key."""
        key, expected, manager = self.key, self._base().revision, self.dashboard.manager
        if not expected or self._busy or (changed is not None and key not in changed):
            return

        def read_revision(_stop: object) -> int:
            rows = manager.backend.list_keys(prefix=key, limit=1)
            return rows[0].revision if rows and rows[0].key == key else 0

        def compare(revision: int) -> None:
            if revision != expected and not self._busy and self.is_attached:
                event = "has written this key" if revision else "has deleted this key"
                self._note(f"another process {event} since: a save will show both values")

        def ignore(_error: Exception) -> None:  # the banner shows a lost backend
            pass

        self.dashboard.reader.submit(self, "present", read_revision, compare, ignore)
