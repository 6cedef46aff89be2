"""What is asked about one key or value: what to copy or search, when it expires, its new name, whether to delete it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.screen import ModalScreen
from textual.widgets import Input, Label

from ...backends.protocol import Version
from ...cli.results import Result, plural
from ...cli.values import parse_seconds
from ...errors import InvalidName, StateException
from ...model import check_key, now
from ...states.patterns import escape_glob, is_glob
from ..data.background import Stop
from ..display.redaction import is_redacted
from ..display.text import format_duration, one_line
from ..widgets.line_input import LineInput
from .confirm import Confirm
from .menu import Menu
from .prompt import TAKES, PromptDialog

if TYPE_CHECKING:
    from ..app import Dashboard
    from ..data.json_copy import CopyOptions
    from ..widgets.json_view import JsonView

MAX_NAMED_KEYS = 8  # keys that are named where many are deleted
DEBOUNCE_SECONDS = 0.15  # seconds after the last key until a search begins


class SearchLine(ModalScreen[None]):
    """One line at the bottom, over the value that is searched as one types."""

    DEFAULT_CSS = """
    SearchLine { align: left bottom; background: transparent; }
    SearchLine > Horizontal { height: 1; background: $boost; }
    SearchLine Label { color: $text-muted; width: auto; padding: 0 1; }
    SearchLine LineInput { width: 1fr; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "End the search", id="search.leave"),
        Binding("down", "hit(1)", "Next match", show=False, id="search.next"),
        Binding("up", "hit(-1)", "Last match", show=False, id="search.last"),
    ]
    HELP = "Type to search names and values; down and up go through the matches, Enter stays, esc ends the search."

    def __init__(self, view: JsonView) -> None:
        super().__init__()
        self._view = view
        self._text = ""

    def compose(self) -> ComposeResult:
        """Return what is sought, and how many there are."""
        with Horizontal():
            yield Label("/", markup=False)
            yield LineInput()
            yield Label("", id="told", markup=False)

    def _told(self, text: str) -> None:
        if self.is_attached:
            self.query_one("#told", Label).update(text)

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        event.stop()
        text = event.value
        self.set_timer(DEBOUNCE_SECONDS, lambda: self._search(text))

    def _search(self, text: str) -> None:
        if text == self.query_one(LineInput).value and text != self._text:
            self._text = text
            self._view.search(text, self._told)

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self._search(event.value)
        self._view.listen(None)
        self.dismiss(None)

    def action_hit(self, by: int) -> None:
        """Go through the matches."""
        self._view.action_hit(by)
        self._told(self._view.search_told)

    def action_leave(self) -> None:
        """Search no more."""
        self._view.search("")
        self.dismiss(None)


def copy_menu(app: Dashboard, copied: CopyOptions) -> None:
    """Choose what to copy, and copy it."""
    choices = copied.texts
    if copied.refused:
        app.notify_user(copied.refused, wrong=not choices)
    if not choices:
        return

    def chosen(number: int | None) -> None:
        if number is not None:
            label, text = choices[number]
            app.copy_to_clipboard(text)
            app.notify_user(f"copied the {label}: {text if len(text) <= 60 else text[:60] + '…'}")

    rows = [(label, number, text[:200]) for number, (label, text) in enumerate(choices)]
    app.push_screen(Menu("Copy", rows), chosen)


def options_end(*words: str) -> list[str]:
    """Words that are no options: with `--` before them where one looks like one."""
    return ["--", *words] if any(word.startswith("-") for word in words) else list(words)


def expire(app: Dashboard, key: str) -> None:
    """Ask when a key expires, and set it."""

    def words(text: str) -> list[str]:
        return ["expire", *options_end(key, text.strip())]

    def check(text: str) -> str | None:
        good = text.strip() == "never" or parse_seconds(text) is not None
        return None if good else "a time such as 90 (seconds), 15m, 2h or 7d; or never"

    def ask(version: Version) -> None:
        left = (version.expires - now()) / 1_000_000
        present = f"in {format_duration(left)}" if version.expires else "never"
        _ask(app, f"Expiry of {one_line(key, 40)}, now {present}", "", check, words)

    _with_version(app, "expire", key, ask)


def rename(app: Dashboard, key: str) -> None:
    """Ask for a key's new name, and give it."""

    def check(text: str) -> str | None:
        if text == key:
            return "that is its name"
        return key_error(text)

    def ask(_version: Version) -> None:
        initial = key if key.isprintable() else ""  # what is shown of it would be another name
        _ask(app, f"Rename {one_line(key, 50)}", initial, check, words, hint)

    def words(text: str) -> list[str]:
        return ["rename", *options_end(key, text)]

    def hint(text: str) -> str:
        shows = is_redacted(key, app.redact) and not is_redacted(text, app.redact)
        return f"{TAKES}\nnot masked under this name: its value will be shown" if shows else TAKES

    _with_version(app, "rename", key, ask)


def key_error(text: str) -> str | None:
    """Return what is wrong with a text as a key; None where it may be one."""
    try:
        check_key(text)
    except InvalidName as error:
        return str(error)
    return None


def _ask(
    app: Dashboard, title: str, initial: str, check: Callable[[str], str | None],
    words: Callable[[str], list[str]], hint: str | Callable[[str], str] = TAKES,
) -> None:  # fmt: skip
    """Ask for a line and run the command that it makes; one that fails is asked for again."""

    def answered(text: str | None) -> None:
        if text is None:
            return

        def failed(error: Exception) -> None:
            app.show_error(error, act=True)
            _ask(app, title, text, check, words, hint)

        def made(result: Result) -> None:
            done(app, result)
            if words(text)[0] == "rename":
                app.show_key(text)

        app.acts.run(words(text), then=made, failed=failed)

    asked = PromptDialog(title, initial, check, lambda text: app.command_line(words(text)), hint=hint)
    app.push_screen(asked, answered)


def done(app: Dashboard, result: Result) -> None:
    """Tell what was done, and how to take it back."""
    app.notify_user(f"{result.summary} · z undoes it")


def _with_version(app: Dashboard, what: str, key: str, then: Callable[[Version], None]) -> None:
    """Read the live version of a key on a thread; refused where nothing can be written."""
    manager = app.manager
    try:
        manager.check_writable()
    except StateException as error:
        app.show_error(error)
        return

    def took(version: Version | None) -> None:
        if version is None:
            app.notify_user(f"{key}: there is no such key any more", wrong=True)
        elif app.paused_at is not None and version.revision > app.paused_at:
            app.notify_user(
                f"{key}: written at r{version.revision}, after what is shown here; p goes on with live", wrong=True
            )
        else:
            then(version)

    app.request(what, lambda _stop: manager.backend.get(key), took)


def delete(app: Dashboard, keys: Sequence[str]) -> None:
    """Ask whether to delete keys, and delete them in one commit.

    Only if none was written meanwhile. Of several, the names with `*`, `?` or `[` in them are given as globs that match
    them alone, so that nothing else goes where one of them has gone meanwhile.
    """
    if len(keys) == 1:
        key = keys[0]
        _with_version(
            app, "delete", key,
            lambda version: _confirm(app, keys, ["--expected", str(version.revision), *options_end(key)]),
        )  # fmt: skip
        return
    manager = app.manager
    seen = app.paused_at if app.paused_at is not None or app.news is None else app.news.head.revision

    def clashing(_stop: Stop) -> tuple[list[str], int]:
        manager.check_writable()
        clashes = [key for key in keys if is_glob(key) and escape_glob(key) in manager]
        return clashes, manager.revision if seen is None else seen

    def ask(found: tuple[list[str], int]) -> None:
        clashes, revision = found
        if clashes:
            app.notify_user(f"delete {clashes[0]} by itself: the glob for it is another key's name", wrong=True)
        else:
            words = [escape_glob(key) if is_glob(key) else key for key in keys]
            _confirm(app, keys, ["--previewed", str(revision), *options_end(*words)])

    app.request("delete", clashing, ask)


def _confirm(app: Dashboard, keys: Sequence[str], words: list[str]) -> None:
    words = ["delete", *words]
    more = [f"  and {len(keys) - MAX_NAMED_KEYS:,} more"] if len(keys) > MAX_NAMED_KEYS else []
    question = [
        f"Delete {plural(len(keys), 'key')} of {app.manager.namespace}?",
        *(f"  {one_line(key, 200)}" for key in keys[:MAX_NAMED_KEYS]),
        *more,
        "The history stays, and z undoes it.",
    ]

    def deleted(result: Result) -> None:
        app.unmark(keys)
        done(app, result)

    def answered(sure: bool | None) -> None:
        if sure:
            app.acts.run(words, then=deleted)

    app.push_screen(Confirm(question, app.command_line(words), title="Delete"), answered)
