"""Base of the screens that show lines of text, with search, copy and save."""

from __future__ import annotations

import io
import os
from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.widgets import Input, Label

from ...cli.results import plural
from ..base_screen import DashboardScreen
from ..display.text import one_line
from ..widgets.key_bar import KeyBar
from ..widgets.line_input import LineInput
from ..widgets.status_bar import Banner
from ..widgets.text_list import TextList

CLIPBOARD_CHARACTERS = 1_000_000  # terminals drop a longer text that is sent to their clipboard


class TextScreen(DashboardScreen, Screen[None]):
    """Shows lines between a title and a line of state. A subclass supplies `heading`, `body` and `state`."""

    DEFAULT_CSS = """
    TextScreen #title { width: 1fr; height: 1; background: $panel; color: $foreground; text-style: bold; padding: 0 1; }
    TextScreen #state { width: 1fr; height: auto; max-height: 4; color: $text-muted; padding: 0 1; }
    TextScreen #state.-wrong { color: $text-error; }
    TextScreen #search { display: none; }
    TextScreen #search.-shown { display: block; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "back", "Back", id="text.back"),
        Binding("slash", "search", "Search", key_display="/", id="text.search"),
        Binding("n", "search_step(1)", "Next match", show=False, id="text.next"),
        Binding("N", "search_step(-1)", "Previous match", show=False, id="text.previous"),
        Binding("y", "copy", "Copy line", id="text.copy"),
        Binding("Y", "copy_all", "Copy all", show=False, id="text.copy-all"),
        Binding("S", "save", "Save to a file", id="text.save"),
    ]
    AUTO_FOCUS = "TextList"

    @abstractmethod
    def body(self) -> TextList:
        """Build the list of lines."""

    @abstractmethod
    def heading(self) -> str:
        """Return the title."""

    def state(self) -> str:
        """Return the line of state below the list."""
        return ""

    def compose(self) -> ComposeResult:
        """Show title, lines and state. The search field appears with its key."""
        yield Banner()
        yield Label(one_line(self.heading()), id="title", markup=False)
        yield self.body()
        yield Label("", id="state", markup=False)
        yield LineInput(placeholder="search", id="search")
        yield KeyBar()

    def on_mount(self) -> None:
        """Show the state."""
        self.show_state()

    @property
    def list(self) -> TextList:
        """The list of lines."""
        return self.query_one(TextList)

    def show_state(self, message: str = "", wrong: bool = False) -> None:
        """Show a message in place of the state; without a message, show the state."""
        label = self.query_one("#state", Label)
        label.update("\n".join(one_line(line) for line in (message or self.state()).split("\n")))
        label.set_class(wrong, "-wrong")

    # --- search ------------------------------------------------------------------------------------------------

    def action_search(self) -> None:
        """Open the search field."""
        search = self.query_one("#search", LineInput)
        search.add_class("-shown")
        search.select_all()  # what the user types replaces it
        search.focus()

    @on(Input.Changed, "#search")
    def _search_changed(self, event: Input.Changed) -> None:
        event.stop()
        if event.value:
            self._seek(event.value, 1, self.list.cursor)
        else:
            self._clear_search()

    def _clear_search(self) -> None:
        self.list.search_text = ""
        self.list.refresh()

    @on(Input.Submitted, "#search")
    def _search_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self._close_search()

    def _close_search(self) -> None:
        self.query_one("#search", LineInput).remove_class("-shown")
        self.list.focus()

    def _seek(self, text: str, step: int, start: int) -> None:
        matched = self.list.find(text, step, start)
        self.show_state("" if matched else f"no line contains {text!r}", not matched)

    def action_search_step(self, step: int) -> None:
        """Go to the next match, or to the previous one."""
        if self.list.search_text:
            self._seek(self.list.search_text, step, self.list.cursor + step)

    def action_back(self) -> None:
        """Close the search, or leave the screen."""
        search = self.query_one("#search", LineInput)
        if search.has_class("-shown"):
            search.value = ""
            self._close_search()
            self.show_state()
        elif self.list.search_text:
            self._clear_search()
            self.show_state()
        else:
            self.leave()

    def leave(self) -> None:
        """Return to the screen below."""
        self.dismiss(None)

    # --- copy and save -----------------------------------------------------------------------------------------

    def _lines(self) -> Sequence[str]:
        return self.list.lines

    def action_copy(self) -> None:
        """Copy the line under the cursor."""
        if self.list.count:
            self.app.copy_to_clipboard(self._lines()[self.list.cursor])
            self.dashboard.notify_user("copied the line")

    def action_copy_all(self) -> None:
        """Copy all lines."""
        text = "\n".join(self._lines())
        if len(text) > CLIPBOARD_CHARACTERS:
            self.dashboard.notify_user(
                f"{len(text):,} characters are too many to copy; S saves them to a file", wrong=True
            )
            return
        self.app.copy_to_clipboard(text)
        self.dashboard.notify_user(f"copied {plural(self.list.count, 'line')}")

    def action_save(self) -> None:
        """Save the lines to a file; in a browser, as a download."""
        app, text = self.dashboard, "\n".join(self._lines()) + "\n"
        if app.is_web:
            app.deliver_text(io.StringIO(text), save_filename="stateview.txt")
            return
        from ..dialogs.prompt import PromptDialog

        def write(path: str) -> str:
            with open(path, "x", encoding="utf-8", errors="surrogatepass") as file:
                file.write(text)
            return path

        def save_to(path: str | None) -> None:
            if path:
                path = os.path.expanduser(path)
                app.reader.submit(app, "save-text", lambda _stop: write(path), saved, app.show_error)

        def saved(path: str) -> None:
            app.notify_user(f"saved {plural(text.count(chr(10)), 'line')} to {path}")

        app.push_screen(PromptDialog("Save the lines to a new file", "", _path_error), save_to)


def _path_error(path: str) -> str | None:
    if not path:
        return "type the name of a file"
    path = os.path.expanduser(path)
    if os.path.lexists(path):
        return "this file exists already; type another name"
    folder = os.path.dirname(path) or "."
    return None if os.path.isdir(folder) else f"the folder {folder} does not exist"
