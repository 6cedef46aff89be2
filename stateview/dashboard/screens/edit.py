"""The edit screen: saves a value only if nobody has written its key since it was read."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.events import ScreenResume
from textual.screen import ModalScreen

from ...cli.results import ActionResult, Result
from ...errors import Conflict, StateException
from ..actions.value_edit import (
    INLINE_CHARACTERS,
    Draft,
    ValidationResult,
    in_editor,
    keep_in_file,
    line_of,
    read_draft,
    refusal,
    save_words,
    validate,
)
from ..display.text import format_size, one_line
from ..widgets.value.json_editor import JsonEdit
from .edit_conflict import Choice, ConflictScreen, EditConflict, read_conflict
from .edit_form import EditFormScreen

if TYPE_CHECKING:
    from ..app import Dashboard

CLIPBOARD_CHARACTERS = 100_000  # a longer text is kept in a file instead of the clipboard


def edit(app: Dashboard, key: str, editor: bool = False, place: str = "") -> None:
    """Read the live value of a key, and open it for editing. If it cannot be edited, show the reason.

    Args:
        app: the app.
        key: the key.
        editor: open `$EDITOR` at once. A value above `INLINE_CHARACTERS` always opens there.
        place: the JSON Pointer of the place where the caret is at first.

    """
    if reason := refusal(app, key):
        app.notify_user(reason, wrong=True)
        return

    def open_screen(draft: Draft | None) -> None:
        outside = editor or (draft is not None and len(draft.text) > INLINE_CHARACTERS)
        if draft is None:
            app.notify_user(f"{key} does not exist any more", wrong=True)
        elif outside and app.is_web:
            size = format_size(len(draft.text))
            reason = "a browser has no $EDITOR" if editor else f"{size} are too large to edit in a browser"
            app.notify_user(f"{reason}; in a terminal: {app.command_line(['edit', key])}", wrong=True)
        else:
            app.push_screen(EditScreen(key, draft, outside=outside, place=place))

    app.request("edit", lambda _stop: read_draft(app, key), open_screen)


def add(app: Dashboard, key: str = "", text: str = "") -> None:
    """Open the form for a new key. If no key can be added, show the reason.

    Args:
        app: the app.
        key: a first text for the name.
        text: a first text for the value.

    """
    if reason := refusal(app, None):
        app.notify_user(reason, wrong=True)
        return
    app.push_screen(EditScreen(key, Draft(text), new=True))


class EditScreen(EditFormScreen):
    """Edits one value. The result of the screen is the revision that it saved, or None.

    Args:
        key: the key; with `new`, a first text for the name.
        draft: the value as it was read.
        new: create the key; its name is a field too.
        outside: open `$EDITOR` at once, and save its text if it is valid.
        place: the JSON Pointer of the place where the caret is at first.

    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+s", "save", "Save", priority=True, id="edit.save"),
        Binding("ctrl+e", "editor", "$EDITOR", priority=True, id="edit.editor"),
        Binding("escape", "leave", "Leave", priority=True, id="edit.leave"),
    ]
    HELP = (
        "JSON is checked as you type; ctrl+g goes to the error. ctrl+s saves, unless another process has written the\n"
        "key since it was read; then both values are shown. ctrl+e opens $EDITOR. On the main screen, z undoes a save."
    )

    def __init__(
        self, key: str, draft: Draft, *, new: bool = False, outside: bool = False, place: str = ""
    ) -> None:  # fmt: skip
        super().__init__(key, draft, new=new)
        self._place = place
        self._outside = outside
        self._sealed = True  # whether the namespace is encrypted, or not known yet
        self._when_on_top: Callable[[], object] | None = None  # runs once no other screen covers this one
        self._question: ModalScreen[bool] | None = None  # asks whether to leave with unsaved text

    def on_mount(self) -> None:
        """Move the caret to its place, and open `$EDITOR`, if the screen was opened for it."""
        if self._place:
            for field in self.query(JsonEdit):
                field.move_cursor((line_of(self._draft.text, self._place), 0), center=True)
                field.action_cursor_line_end()

        def learn(sealed: bool) -> None:
            self._sealed = sealed

        manager = self.dashboard.manager
        self.dashboard.reader.submit(self, "form", lambda _stop: manager.is_encrypted, learn, lambda _error: None)
        if self._outside:
            self.call_after_refresh(self.action_editor)

    # --- saving ------------------------------------------------------------------------------------------------

    def action_save(self) -> None:
        """Save the value, if it is valid."""
        text = self.text
        if self._busy:
            return
        self._busy = True
        self.dashboard.reader.submit(
            self, "judge", lambda _stop: validate(text), lambda verdict: self._save(verdict, text), self._failed
        )

    def _save(self, verdict: ValidationResult, text: str) -> None:
        """Save the text of the moment of ctrl+s, even if the user has typed on since."""
        self._show_verdict(verdict)
        key = self.key
        if verdict.data is None or self._key_error() is not None:
            self._busy = False
            if verdict.data is None:
                self._select_error(verdict)
            return
        base, data = self._base(), verdict.data
        if not self._new and text == self._start and base.revision:
            self._busy = False
            self.dashboard.notify_user(f"{key} is unchanged; nothing was saved")
            if self.text == text:
                self._run_on_top(lambda: self.dismiss(None))
            return
        self._show_message("saving…")

        def failed(error: Exception) -> None:
            if isinstance(error, Conflict):
                self._show_conflict(key, data, text)
            else:
                self._failed(error)

        def saved(result: Result) -> None:
            details = result.data if isinstance(result, ActionResult) else {}
            self.dashboard.notify_user(f"saved {details.get('key')} · r{details.get('revision')} · z undoes it")
            self.dashboard.show_key(str(details.get("key")))
            self._saved(key, text, base._replace(revision=int(details.get("revision", 0))))

        self.dashboard.acts.run(save_words(key, data, base), then=saved, failed=failed)

    def _select_error(self, verdict: ValidationResult) -> None:
        for field in self.query(JsonEdit):
            field.verdict = verdict
            field.action_error()

    def _saved(self, key: str, text: str, stored: Draft) -> None:
        """Leave after a save, unless the user has typed on since."""
        self._busy = False
        if not self.is_attached:
            return
        self._draft, self._based_on, self._start = stored, key, text
        if self.text != text or self.key != key:
            self._note("saved the text of ctrl+s; later changes are not saved yet")
            self._show_message("")
            for field in self.query(JsonEdit):
                if field.verdict is not None:  # else the field is still checking, and reports its verdict soon
                    self._show_verdict(field.verdict)
            return
        if self._question is not None and self.app.screen is self._question:
            self._question.dismiss(False)  # the save has made the question pointless
        self._run_on_top(lambda: self.dismiss(stored.revision or None))

    def _run_on_top(self, act: Callable[[], object]) -> None:
        """Run an action once no other screen covers this one. `dismiss` would close the other screen."""
        if self.app.screen is self:
            act()
        else:
            self._when_on_top = act

    @on(ScreenResume)
    def _run_waiting_act(self) -> None:
        """Run the action that waited until no other screen covered this one."""
        act, self._when_on_top = self._when_on_top, None
        if act is not None:
            act()

    def _failed(self, error: Exception) -> None:
        """Show why the save failed. The text stays in its field."""
        self._busy = False
        self.dashboard.show_error(error)
        if self.is_attached:
            self._refused = self.text
            self._show_message(f"not saved: {error}", wrong=True)

    # --- conflicts ---------------------------------------------------------------------------------------------

    def _show_conflict(self, key: str, mine: bytes, text: str) -> None:
        manager, patterns = self.dashboard.manager, self.dashboard.redact

        def show(conflict: EditConflict) -> None:
            if conflict.same:
                self.dashboard.notify_user(f"{key}: another process has saved the same value")
                self._saved(key, text, conflict.theirs or Draft(""))
            else:
                self._run_on_top(lambda: ask(conflict))

        def ask(conflict: EditConflict) -> None:
            self.dashboard.push_screen(
                ConflictScreen(key, mine, conflict), lambda choice: self._resolve(choice, key, mine, text, conflict)
            )

        def read(_stop: object) -> EditConflict:
            return read_conflict(manager, key, mine, patterns)

        self.dashboard.reader.submit(self, "race", read, show, self._failed)

    def _resolve(self, choice: Choice | None, key: str, mine: bytes, text: str, conflict: EditConflict) -> None:
        self._busy = False
        self._draft, self._based_on = conflict.theirs or Draft(""), key
        if choice == "mine":
            self._busy = True
            self._save(ValidationResult(mine, ""), text)
        elif choice == "theirs":
            try:
                kept = self._keep_text()
            except OSError as error:
                self._note(f"their value stays; yours is only in this field, because no file can be written: {error}")
                return
            self.dashboard.notify_user(f"their value stays; {kept}")
            self._run_on_top(lambda: self.dismiss(None))
        else:
            self._note("the next save overwrites the value that the other process wrote")

    def _keep_text(self) -> str:
        """Copy the text to the clipboard, or a long text to a file or a download. Returns a message that says which."""
        text = self.text
        if len(text) <= CLIPBOARD_CHARACTERS:
            self.app.copy_to_clipboard(text)
            return "your text is in the clipboard"
        if self.app.is_web:
            self.app.deliver_text(io.StringIO(text), save_filename="value.json")
            return "your text is downloaded"
        return f"your text is in {keep_in_file(text, self._sealed)}"

    def keep_unsaved_text(self) -> str:
        """Write the text to a file, because a signal ends the program."""
        if not self.unsaved:
            return ""
        try:
            return f"Your unsaved text for {one_line(self.key, 200)} is in {keep_in_file(self.text, self._sealed)}"
        except OSError as error:
            return f"Your unsaved text for {one_line(self.key, 200)} is lost, because no file can be written: {error}"

    # --- $EDITOR, and leaving ----------------------------------------------------------------------------------

    def action_editor(self) -> None:
        """Edit the text in `$EDITOR`."""
        before, direct = self.text, self._outside
        self._outside = False
        if self._busy:
            return
        if self.app.is_web:
            line = self.dashboard.command_line(["edit", self.key])
            self.dashboard.notify_user(f"a browser has no $EDITOR; in a terminal: {line}", wrong=True)
            return
        try:
            after = in_editor(self.dashboard, before, self._sealed)
        except StateException as error:
            self.dashboard.show_error(error)
            if direct:
                self.dismiss(None)
            return
        if direct and after == before:
            self.dashboard.notify_user(f"{self.key} is unchanged")
            self.dismiss(None)
            return
        self._text = after
        self.run_worker(self._replace_field(direct))

    async def _replace_field(self, save: bool) -> None:
        """Show the text of `$EDITOR`."""
        old_field = self.query("#field, #large")
        await old_field.remove()
        await self.query_one(Vertical).mount(field := self._field(), after="#note")
        if isinstance(field, JsonEdit):
            field.focus()
        if save:
            self.action_save()
        elif not isinstance(field, JsonEdit):
            text = self._text
            self.dashboard.reader.submit(self, "judge", lambda _stop: validate(text), self._show_verdict, self._failed)

    def action_leave(self) -> None:
        """Leave. Ask first if text is unsaved."""
        if self._busy:
            self.dashboard.notify_user("saving…")
        elif self.may_leave(lambda: self.dismiss(None)):
            self.dismiss(None)

    def may_leave(self, leave: Callable[[], object]) -> bool:
        """Return whether no text is unsaved. Otherwise ask, and call `leave` after a yes."""
        if not self.unsaved:
            return True
        from ..dialogs.confirm import Confirm

        if isinstance(self.app.screen, Confirm):
            return False  # the question is already on the screen

        def answered(sure: bool | None) -> None:
            if sure:
                leave()

        self._question = Confirm(["Your text is not saved.", "y discards it, n continues editing."], title="Leave?")
        self.app.push_screen(self._question, answered)
        return False
