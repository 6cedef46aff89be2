"""The dialogs about a key or value: copy, search, expiry, rename and delete."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.screen import ModalScreen
from textual.widgets import Input, Label

from ... import codec
from ...arguments import KeyName
from ...backends.protocol import Version
from ...cli.results import Result, plural
from ...cli.values import parse_seconds, type_name
from ...errors import Conflict, StateException
from ...model import check_key, now
from ...states.values.patches import get_place
from ..actions.value_edit import refusal, validate
from ..data.background import Stop
from ..display.redaction import is_redacted, without_masked
from ..display.text import format_duration, one_line
from ..widgets.line_input import LineInput
from .confirm import Confirm
from .menu import Menu
from .prompt import DEFAULT_HINT, PromptDialog, validator

if TYPE_CHECKING:
    from ..app import Dashboard
    from ..data.values.json_copy import CopyOptions
    from ..widgets.value.json_view import JsonView

_SHOWN_CHARACTERS = 40  # of what another process has written to a place
MAX_NAMED_KEYS = 8  # in the question before a delete
DEBOUNCE_SECONDS = 0.15  # a search begins this long after the last key press


class SearchLine(ModalScreen[None]):
    """The search field of a value, at the bottom of the screen. Searches while the user types."""

    DEFAULT_CSS = """
    SearchLine { align: left bottom; background: transparent; }
    SearchLine > Horizontal { height: 1; background: $boost; }
    SearchLine Label { color: $text-muted; width: auto; padding: 0 1; }
    SearchLine LineInput { width: 1fr; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "End the search", id="search.leave"),
        Binding("down", "hit(1)", "Next match", show=False, id="search.next"),
        Binding("up", "hit(-1)", "Previous match", show=False, id="search.last"),
    ]
    HELP = "Type to search names and values. Down and up go to the next or previous match, Enter stays there, esc ends."

    def __init__(self, view: JsonView) -> None:
        super().__init__()
        self._view = view
        self._text = ""

    def compose(self) -> ComposeResult:
        """Show the search field and the number of matches."""
        with Horizontal():
            yield Label("/", markup=False)
            yield LineInput()
            yield Label("", id="matches", markup=False)

    def _show_matches(self, text: str) -> None:
        if self.is_attached:
            self.query_one("#matches", Label).update(text)

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        event.stop()
        text = event.value
        self.set_timer(DEBOUNCE_SECONDS, lambda: self._search(text))

    def _search(self, text: str) -> None:
        if text == self.query_one(LineInput).value and text != self._text:
            self._text = text
            self._view.search(text, self._show_matches)

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self._search(event.value)
        self._view.report_search_to(None)
        self.dismiss(None)

    def action_hit(self, by: int) -> None:
        """Select the next or previous match."""
        self._view.action_hit(by)
        self._show_matches(self._view.search_status)

    def action_leave(self) -> None:
        """End the search."""
        self._view.search("")
        self.dismiss(None)


def copy_menu(app: Dashboard, options: CopyOptions) -> None:
    """Ask which text to copy, and copy it."""
    texts = options.texts
    if options.refused:
        app.notify_user(options.refused, wrong=not texts)
    if not texts:
        return

    def copy(number: int | None) -> None:
        if number is not None:
            label, text = texts[number]
            app.copy_to_clipboard(text)
            app.notify_user(f"copied the {label}: {text if len(text) <= 60 else text[:60] + '…'}")

    rows = [(label, number, text[:200]) for number, (label, text) in enumerate(texts)]
    app.push_screen(Menu("Copy", rows), copy)


def options_end(*words: str) -> list[str]:
    """Return arguments of a command, after `--` if one of them begins like an option."""
    return ["--", *words] if any(word.startswith("-") for word in words) else list(words)


def expire(app: Dashboard, key: str) -> None:
    """Ask for the expiry of a key, and set it."""

    def words(text: str) -> list[str]:
        return ["expire", *options_end(key, text.strip())]

    def check(text: str) -> str | None:
        valid = text.strip() == "never" or parse_seconds(text) is not None
        return None if valid else "type a time, such as 90 (seconds), 15m, 2h or 7d, or never"

    def ask(version: Version) -> None:
        seconds = (version.expires - now()) / 1_000_000
        present = f"in {format_duration(seconds)}" if version.expires else "never"
        _ask(app, f"Expiry of {one_line(key, 40)}, now {present}", "", check, words)

    _with_version(app, "expire", key, ask)


def rename(app: Dashboard, key: str) -> None:
    """Ask for the new name of a key, and rename it."""

    def check(text: str) -> str | None:
        return "this is the present name" if text == key else key_error(text)

    def ask(_version: Version) -> None:
        initial = key if key.isprintable() else ""  # the field shows other characters of an unprintable key
        _ask(app, f"Rename {one_line(key, 50)}", initial, check, words, hint)

    def words(text: str) -> list[str]:
        return ["rename", *options_end(key, text)]

    def hint(text: str) -> str:
        reveals = is_redacted(key, app.redact) and not is_redacted(text, app.redact)
        return f"{DEFAULT_HINT}\nthis name is not masked: the screen will show its value" if reveals else DEFAULT_HINT

    _with_version(app, "rename", key, ask)


def edit_leaf(app: Dashboard, key: str, pointer: str, before: str, typed: str | None = None) -> None:
    """Ask for another value of one place, and write that place alone, unless it has changed since.

    If it has, show both values, and ask again.

    Args:
        app: the app.
        key: the key.
        pointer: the JSON Pointer of the place.
        before: its value as JSON.
        typed: what was typed before another process wrote the value `before`. None: nobody did.

    """
    if reason := refusal(app, key):
        app.notify_user(reason, wrong=True)
        return

    def value(text: str) -> Any:
        data = validate(text).data
        return text if data is None else codec.decode(data)

    def words(text: str) -> list[str]:
        operations = [
            {"op": "test", "path": pointer, "value": codec.decode(before.encode())},
            {"op": "replace", "path": pointer, "value": value(text)},
        ]
        return ["patch", *options_end(key, codec.encode(operations).decode())]

    def hint(text: str) -> str:
        kind = "a string, since it is no other JSON" if validate(text).data is None else type_name(value(text))
        if typed is not None:
            theirs = codec.encode(without_masked(codec.decode(before.encode()), app.redact)).decode()
            return f"{kind} · another process has written {one_line(theirs, _SHOWN_CHARACTERS)} · enter replaces it"
        return f"{kind} · enter saves this place alone · esc cancels"

    def check(text: str) -> str | None:
        return "type a value: JSON, or text for a string" if not text else None

    def changed(text: str) -> None:
        def look(_stop: object) -> str:
            return codec.encode(get_place(app.manager.load(key, fresh=True), pointer, key)).decode()

        app.request("edit", look, lambda theirs: edit_leaf(app, key, pointer, theirs, text))

    title = f"{one_line(key, 30)}#{one_line(pointer, 40)}"
    _ask(app, title, before if typed is None else typed, check, words, hint, select=True, changed=changed)


key_error = validator(check_key)  # returns why a text is no valid key, or None


def _ask(
    app: Dashboard, title: str, initial: str, check: Callable[[str], str | None],
    words: Callable[[str], list[str]], hint: str | Callable[[str], str] = DEFAULT_HINT, *, select: bool = False,
    changed: Callable[[str], None] | None = None,
) -> None:  # fmt: skip
    """Ask for a line, and run the command that `words` makes of the line. After an error, ask again.

    `changed` is called instead with the line, if the value was changed since it was read.
    """

    def run(text: str | None) -> None:
        if text is None:
            return

        def failed(error: Exception) -> None:
            if isinstance(error, Conflict) and changed is not None:
                changed(text)
                return
            app.show_error(error, act=True)
            _ask(app, title, text, check, words, hint, select=select, changed=changed)

        def succeeded(result: Result) -> None:
            _notify_result(app, result)
            if words(text)[0] == "rename":
                app.show_key(text)

        app.acts.run(words(text), then=succeeded, failed=failed)

    dialog = PromptDialog(title, initial, check, lambda text: app.command_line(words(text)), hint=hint, select=select)
    app.push_screen(dialog, run)


def _notify_result(app: Dashboard, result: Result) -> None:
    app.notify_user(f"{result.summary} · z undoes it")


def _with_version(app: Dashboard, action: str, key: str, then: Callable[[Version], None]) -> None:
    """Read the live version of a key on a thread, and pass it on. If the key cannot be changed, show the reason."""
    manager = app.manager
    try:
        manager.check_writable()
    except StateException as error:
        app.show_error(error)
        return

    def check(version: Version | None) -> None:
        if version is None:
            app.notify_user(f"{key} does not exist any more", wrong=True)
        elif app.paused_at is not None and version.revision > app.paused_at:
            app.notify_user(
                f"{key} was written at r{version.revision}, after the pause: press p to show it first", wrong=True
            )
        else:
            then(version)

    app.request(action, lambda _stop: manager.backend.get(key), check)


def delete(app: Dashboard, keys: Sequence[str]) -> None:
    """Ask whether to delete keys, and delete them in one commit, unless one is written meanwhile."""
    if len(keys) == 1:
        key = keys[0]
        _with_version(
            app, "delete", key,
            lambda version: _confirm(app, keys, ["--expected", str(version.revision), *options_end(KeyName(key))]),
        )  # fmt: skip
        return
    manager = app.manager
    seen = app.paused_at if app.paused_at is not None or app.news is None else app.news.head.revision

    def read_revision(_stop: Stop) -> int:
        manager.check_writable()
        return manager.revision if seen is None else seen

    def ask(revision: int) -> None:
        _confirm(app, keys, ["--previewed", str(revision), *options_end(*map(KeyName, keys))])

    app.request("delete", read_revision, ask)


def _confirm(app: Dashboard, keys: Sequence[str], arguments: list[str]) -> None:
    words = ["delete", *arguments]
    more = [f"  and {len(keys) - MAX_NAMED_KEYS:,} more"] if len(keys) > MAX_NAMED_KEYS else []
    question = [
        f"Delete {plural(len(keys), 'key')} of {app.manager.namespace}?",
        *(f"  {one_line(key, 200)}" for key in keys[:MAX_NAMED_KEYS]),
        *more,
        "The history keeps the values. z undoes the delete.",
    ]

    def ended(result: Result) -> None:
        app.unmark(keys)
        _notify_result(app, result)

    def run(sure: bool | None) -> None:
        if sure:
            app.acts.run(words, then=ended)

    app.push_screen(Confirm(question, app.command_line(words), title="Delete"), run)
