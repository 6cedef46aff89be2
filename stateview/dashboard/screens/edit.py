"""A value edited in place, or in `$EDITOR`; saved only if its key is still as it was read."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Label

from ...cli.results import ActionResult, Result
from ...errors import Conflict, StateException
from ..actions.value_edit import (
    INLINE_CHARACTERS,
    Draft,
    ValidationResult,
    in_editor,
    judge,
    keep_in_file,
    read_draft,
    refusal,
    save_words,
)
from ..base_screen import DashboardScreen
from ..display.text import format_duration, format_size, one_line
from ..widgets.json_editor import JsonEdit
from ..widgets.key_bar import KeyBar
from ..widgets.line_input import LineInput
from ..widgets.status_bar import Banner
from .edit_conflict import Choice, ConflictScreen, EditConflict, read_conflict

if TYPE_CHECKING:
    from ...backends.protocol import Head
    from ..app import Dashboard

CLIPBOARD_CHARACTERS = 100_000  # characters that are put into the clipboard; more go into a file


def edit(app: Dashboard, key: str, editor: bool = False) -> None:
    """Read a key's live value and edit it; refused, with the reason, where that cannot be.

    Args:
        app: the app.
        key: the key.
        editor: edit it in `$EDITOR` at once. Large values are in any case.

    """
    if why := refusal(app, key):
        app.notify_user(why, wrong=True)
        return

    def opened(draft: Draft | None) -> None:
        outside = editor or (draft is not None and len(draft.text) > INLINE_CHARACTERS)
        if draft is None:
            app.notify_user(f"{key}: there is no such key any more", wrong=True)
        elif outside and app.is_web:
            why = (
                f"{format_size(len(draft.text))} are too much to edit here"
                if not editor
                else "a browser has no $EDITOR"
            )
            app.notify_user(f"{why}; in a terminal: {app.command_line(['edit', key])}", wrong=True)
        else:
            app.push_screen(EditScreen(key, draft, outside=outside))

    app.request("edit", lambda _stop: read_draft(app, key), opened)


def add(app: Dashboard, key: str = "", text: str = "") -> None:
    """Make a new key; refused, with the reason, where that cannot be.

    Args:
        app: the app.
        key: a name to begin with.
        text: a value to begin with.

    """
    if why := refusal(app, None):
        app.notify_user(why, wrong=True)
        return
    app.push_screen(EditScreen(key, Draft(text), new=True))


class EditScreen(DashboardScreen, ModalScreen[int | None]):
    """Edits one value; ends with the revision that was saved, or None.

    Args:
        key: the key; a name to begin with, if it is `new`.
        draft: the value as it was read.
        new: the key is to be made, and its name can be edited too.
        outside: begin in `$EDITOR`, and save what comes back from it, if that is a value.

    """

    DEFAULT_CSS = """
    EditScreen > Vertical { width: 100%; height: 100%; border: round $accent; background: $surface; padding: 0 1; }
    EditScreen JsonEdit { height: 1fr; }
    EditScreen Label { width: 1fr; height: auto; max-height: 2; color: $text-muted; }
    EditScreen #verdict { color: $text-success; }
    EditScreen #verdict.-wrong { color: $text-error; }
    EditScreen #note { color: $text-warning; }
    EditScreen #note.-empty { display: none; }
    EditScreen #large { height: 1fr; max-height: 100%; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+s", "save", "Save", priority=True, id="edit.save"),
        Binding("ctrl+e", "editor", "$EDITOR", priority=True, id="edit.editor"),
        Binding("escape", "leave", "Leave", priority=True, id="edit.leave"),
    ]
    HELP = (
        "JSON is checked as you type; ctrl+g goes to the error. ctrl+s saves, if nobody has written the key since it\n"
        "was read; else both are shown. ctrl+e edits in $EDITOR. z, on the main screen, undoes what was saved."
    )

    def __init__(self, key: str, draft: Draft, *, new: bool = False, outside: bool = False) -> None:
        super().__init__()
        self._key = key
        self._draft = draft  # what a save is based on
        self._based_on = key  # the key that the draft's revision is of
        self._start = draft.text
        self._text = draft.text  # where it is not in a field
        self._new = new
        self._outside = outside
        self._busy = False
        self._refused: str | None = None  # the text that could not be saved
        self._later: Callable[[], object] | None = None  # to be done once no other screen lies over this one
        self._question: ModalScreen[bool] | None = None  # whether to leave what is not saved

    def compose(self) -> ComposeResult:
        """Return the key if it is new, the value, what is wrong with it, and the command line that saves it."""
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
        said = f"{format_size(len(self._text))}: too large to edit here. ctrl+e opens $EDITOR again."
        return Label(said, id="large", markup=False)

    def on_mount(self) -> None:
        """Begin to edit."""
        if self._draft.deadline is not None:
            self._note(f"it expires in {format_duration(self._draft.ttl or 0)}, which a save keeps: --ttl")
        if self._new:
            self.query_one("#key").focus()
        else:
            self.query("JsonEdit").focus()
        if self._outside:
            self.call_after_refresh(self.action_editor)

    # --- what is there -----------------------------------------------------------------------------------------

    @property
    def text(self) -> str:
        """What has been written so far."""
        field = self.query(JsonEdit)
        return field.first().text if field else self._text

    @property
    def key(self) -> str:
        """The key as it is typed."""
        return self.query_one("#key", LineInput).value if self._new else self._key

    @property
    def unsaved(self) -> bool:
        """Whether something would be lost."""
        made = self._new and self._base().revision == 0
        return self.text != self._start or (made and bool(self.text.strip()))

    def _wrong_key(self) -> str | None:
        from ..dialogs.key_actions import wrong_key

        return wrong_key(self.key) if self._new else None

    def _base(self) -> Draft:
        """Return what a save is based on: the key as it was read; a new one must not be there."""
        return self._draft if self.key == self._based_on else Draft("")

    def _note(self, text: str) -> None:
        note = self.query_one("#note", Label)
        note.update(one_line(text))
        note.set_class(not text, "-empty")

    def _say(self, verdict: ValidationResult) -> None:
        said = self.query_one("#verdict", Label)
        wrong = self._wrong_key() if verdict.data is not None else None
        said.update(one_line(wrong or verdict.said))
        said.set_class(verdict.data is None or wrong is not None, "-wrong")
        ready = verdict.data is not None and wrong is None
        words = save_words(self.key, verdict.data or b"", self._base())
        self._line(self.dashboard.command_line(words) if ready else "")

    def _line(self, text: str) -> None:
        shown = self.query_one("#line", Label)
        shown.update(one_line(text))
        shown.display = bool(text)

    @on(JsonEdit.Judged)
    def _judged(self, event: JsonEdit.Judged) -> None:
        event.stop()
        if self._refused != self.text:  # a verdict that comes late does not hide why it was not saved
            self._refused = None
            self._say(event.verdict)

    @on(Input.Changed, "#key")
    def _key_typed(self, event: Input.Changed) -> None:
        event.stop()
        said, wrong = self.query_one("#verdict", Label), self._wrong_key()
        verdict = self.query_one(JsonEdit).verdict if self.query(JsonEdit) else None
        if wrong is not None:
            said.update(one_line(wrong))
            said.add_class("-wrong")
            self._line("")
        elif verdict is not None:
            self._say(verdict)

    @on(Input.Submitted, "#key")
    def _key_done(self, event: Input.Submitted) -> None:
        event.stop()
        self.query("JsonEdit").focus()

    @on(events.Click, "#verdict")
    def _clicked(self) -> None:
        for field in self.query(JsonEdit):
            field.action_error()

    def namespace_changed(self, _head: Head, changed: list[str] | None) -> None:
        """Somebody committed: if it was this key, a save will show both."""
        key, based, manager = self.key, self._base().revision, self.dashboard.manager
        if not based or self._busy or (changed is not None and key not in changed):
            return

        def present(_stop: object) -> int:
            rows = manager.backend.list_keys(prefix=key, limit=1)
            return rows[0].revision if rows and rows[0].key == key else 0

        def took(revision: int) -> None:
            if revision != based and not self._busy and self.is_attached:
                what = "has written this key" if revision else "has deleted this key"
                self._note(f"another {what} since: a save will show theirs and yours")

        self.dashboard.reader.submit(
            self, "present", present, took, lambda _error: None
        )  # the app tells of a lost backend

    # --- saving ------------------------------------------------------------------------------------------------

    def action_save(self) -> None:
        """Save what is written, if it is a value."""
        text = self.text
        if self._busy:
            return
        self._busy = True
        self.dashboard.reader.submit(
            self, "judge", lambda _stop: judge(text), lambda verdict: self._save(verdict, text), self._failed
        )

    def _save(self, verdict: ValidationResult, text: str) -> None:
        """Save what the text was when that was asked for; one may have typed on since."""
        self._say(verdict)
        key = self.key
        if verdict.data is None or self._wrong_key() is not None:
            self._busy = False
            if verdict.data is None:
                self._to_error(verdict)
            return
        base, data = self._base(), verdict.data
        if not self._new and text == self._start and base.revision:
            self._busy = False
            self.dashboard.notify_user(f"{key}: you changed nothing, and nothing was saved")
            if self.text == text:
                self._alone(lambda: self.dismiss(None))
            return
        words = save_words(key, data, base)
        self.query_one("#verdict", Label).update("saving…")

        def failed(error: Exception) -> None:
            if isinstance(error, Conflict):
                self._conflict(key, data, text)
            else:
                self._failed(error)

        def saved(result: Result) -> None:
            told = result.data if isinstance(result, ActionResult) else {}
            self.dashboard.notify_user(f"saved {told.get('key')} · r{told.get('revision')} · z undoes it")
            self.dashboard.show_key(str(told.get("key")))
            self._end(key, text, base._replace(revision=int(told.get("revision", 0))))

        self.dashboard.acts.run(words, then=saved, failed=failed)

    def _to_error(self, verdict: ValidationResult) -> None:
        for field in self.query(JsonEdit):
            field.verdict = verdict
            field.action_error()

    def _end(self, key: str, text: str, stored: Draft) -> None:
        """Leave after a save, unless the user has typed on since."""
        self._busy = False
        if not self.is_attached:
            return
        self._draft, self._based_on, self._start = stored, key, text
        if self.text != text or self.key != key:
            self._note("saved what was there at ctrl+s; what was typed since is not")
            self.query_one("#verdict", Label).update("")
            for field in self.query(JsonEdit):
                if field.verdict is not None:  # else it comes
                    self._say(field.verdict)
            return
        if self._question is not None and self.app.screen is self._question:
            self._question.dismiss(False)  # nothing would be lost any more
        self._alone(lambda: self.dismiss(stored.revision or None))

    def _alone(self, act: Callable[[], object]) -> None:
        """Do what concerns the top screen now if that is this one, else once it is: `dismiss` ends the top one."""
        if self.app.screen is self:
            act()
        else:
            self._later = act

    def on_screen_resume(self) -> None:
        """No other screen lies over this one any more."""
        later, self._later = self._later, None
        if later is not None:
            later()

    def _failed(self, error: Exception) -> None:
        """Not saved; what was written stays here."""
        self._busy = False
        self.dashboard.show_error(error)
        if self.is_attached:
            self._refused = self.text
            said = self.query_one("#verdict", Label)
            said.update(one_line(f"not saved: {error}"))
            said.add_class("-wrong")

    # --- another was first -------------------------------------------------------------------------------------

    def _conflict(self, key: str, mine: bytes, text: str) -> None:
        manager, patterns = self.dashboard.manager, self.dashboard.redact

        def show(race: EditConflict) -> None:
            if race.same:
                self.dashboard.notify_user(f"{key}: another has saved the same value")
                self._end(key, text, race.theirs or Draft(""))
            else:
                self._alone(lambda: ask(race))

        def ask(race: EditConflict) -> None:
            self.dashboard.push_screen(
                ConflictScreen(key, mine, race), lambda choice: self._chosen(choice, key, mine, text, race)
            )

        def read(_stop: object) -> EditConflict:
            return read_conflict(manager, key, mine, patterns)

        self.dashboard.reader.submit(self, "race", read, show, self._failed)

    def _chosen(self, choice: Choice | None, key: str, mine: bytes, text: str, race: EditConflict) -> None:
        self._busy = False
        self._draft, self._based_on = race.theirs or Draft(""), key
        if choice == "mine":
            self._busy = True
            self._save(ValidationResult(mine, ""), text)
        elif choice == "theirs":
            try:
                kept = self._keep()
            except OSError as error:
                self._note(f"theirs stays; what you wrote is only here, for it cannot be put into a file: {error}")
                return
            self.dashboard.notify_user(f"theirs stays; {kept}")
            self._alone(lambda: self.dismiss(None))
        else:
            self._note("a save now writes over what the other wrote, which you have seen")

    def _keep(self) -> str:
        """Put what was written where it can be had again; says where."""
        text = self.text
        if len(text) <= CLIPBOARD_CHARACTERS:
            self.app.copy_to_clipboard(text)
            return "what you wrote is in the clipboard"
        return f"what you wrote is in {keep_in_file(text)}"

    def keep_unsaved_text(self) -> str:
        """Put what is not saved into a file, since the program ends; what to say of it, empty where all is saved."""
        if not self.unsaved:
            return ""
        try:
            return f"What you wrote for {one_line(self.key, 200)} is in {keep_in_file(self.text)}"
        except OSError as error:
            return f"What you wrote for {one_line(self.key, 200)} is lost, for it cannot be put into a file: {error}"

    # --- elsewhere, and leaving --------------------------------------------------------------------------------

    def action_editor(self) -> None:
        """Edit what is written in `$EDITOR`."""
        before, direct = self.text, self._outside
        self._outside = False
        if self._busy:
            return
        if self.app.is_web:
            other = self.dashboard.command_line(["edit", self.key])
            self.dashboard.notify_user(f"a browser has no $EDITOR; in a terminal: {other}", wrong=True)
            return
        try:
            after = in_editor(self.dashboard, before)
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
        self.run_worker(self._put(direct))

    async def _put(self, save: bool) -> None:
        """Show what the editor wrote."""
        old = self.query("#field, #large")
        await old.remove()
        await self.query_one(Vertical).mount(field := self._field(), after="#note")
        if isinstance(field, JsonEdit):
            field.focus()
        if save:
            self.action_save()
        elif not isinstance(field, JsonEdit):
            text = self._text
            self.dashboard.reader.submit(self, "judge", lambda _stop: judge(text), self._say, self._failed)

    def action_leave(self) -> None:
        """Leave; asked about if something would be lost."""
        if self._busy:
            self.dashboard.notify_user("saving…")
        elif self.may_leave(lambda: self.dismiss(None)):
            self.dismiss(None)

    def may_leave(self, leave: Callable[[], object]) -> bool:
        """Whether nothing would be lost. Otherwise it is asked about, and `leave` called on a yes."""
        if not self.unsaved:
            return True
        from ..dialogs.confirm import Confirm

        if isinstance(self.app.screen, Confirm):
            return False  # it is being asked

        def answered(sure: bool | None) -> None:
            if sure:
                leave()

        question = ["What you wrote is not saved.", "y drops it, n goes on editing."]
        self._question = Confirm(question, title="Leave?")
        self.app.push_screen(self._question, answered)
        return False
