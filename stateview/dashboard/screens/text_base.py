"""Base of the screens that show lines: search, copy, save."""

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

CLIPBOARD_CHARACTERS = 1_000_000  # characters that a terminal is given to copy at once


class TextScreen(DashboardScreen, Screen[None]):
    """A title, lines, and a line that says how it stands. A subclass gives the list in `body`."""

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
        Binding("n", "again(1)", "Next match", show=False, id="text.next"),
        Binding("N", "again(-1)", "Previous match", show=False, id="text.previous"),
        Binding("y", "copy", "Copy line", id="text.copy"),
        Binding("Y", "copy_all", "Copy all", show=False, id="text.copy-all"),
        Binding("s", "save", "Save to a file", id="text.save"),
    ]
    AUTO_FOCUS = "TextList"

    @abstractmethod
    def body(self) -> TextList:
        """Return the list."""

    @abstractmethod
    def heading(self) -> str:
        """Return the title."""

    def state(self) -> str:
        """How it stands, in a line."""
        return ""

    def compose(self) -> ComposeResult:
        """Title, lines, state, and the search where it is asked for."""
        yield Banner()
        yield Label(one_line(self.heading()), id="title", markup=False)
        yield self.body()
        yield Label("", id="state", markup=False)
        yield LineInput(placeholder="search", id="search")
        yield KeyBar()

    def on_mount(self) -> None:
        """Say how it stands."""
        self.show_state()

    @property
    def list(self) -> TextList:
        """The list that is shown."""
        return self.query_one(TextList)

    def show_state(self, said: str = "", wrong: bool = False) -> None:
        """Say something in place of the state, or the state."""
        label = self.query_one("#state", Label)
        label.update("\n".join(one_line(one) for one in (said or self.state()).split("\n")))
        label.set_class(wrong, "-wrong")

    # --- search ------------------------------------------------------------------------------------------------

    def action_search(self) -> None:
        """Ask for what to search."""
        search = self.query_one("#search", LineInput)
        search.add_class("-shown")
        search.focus()

    @on(Input.Changed, "#search")
    def _sought(self, event: Input.Changed) -> None:
        event.stop()
        if event.value:
            self._seek(event.value, 1, self.list.cursor)
        else:
            self.list.sought = ""
            self.list.refresh()

    @on(Input.Submitted, "#search")
    def _found(self, event: Input.Submitted) -> None:
        event.stop()
        self._close_search()

    def _close_search(self) -> None:
        self.query_one("#search", LineInput).remove_class("-shown")
        self.list.focus()

    def _seek(self, text: str, step: int, start: int) -> None:
        found = self.list.seek(text, step, start)
        self.show_state("" if found else f"{text!r} is not in here", not found)

    def action_again(self, step: int) -> None:
        """Go to the next or previous match."""
        if self.list.sought:
            self._seek(self.list.sought, step, self.list.cursor + step)

    def action_back(self) -> None:
        """Leave the search, else the screen."""
        search = self.query_one("#search", LineInput)
        if search.has_class("-shown"):
            search.value = ""
            self._close_search()
            self.show_state()
        elif self.list.sought:
            self.list.sought = ""
            self.list.refresh()
            self.show_state()
        else:
            self.leave()

    def leave(self) -> None:
        """Go back to the screen before."""
        self.dismiss(None)

    # --- taking lines away -------------------------------------------------------------------------------------

    def _text(self) -> Sequence[str]:
        return self.list.lines

    def action_copy(self) -> None:
        """Copy the line under the cursor."""
        if self.list.count:
            self.app.copy_to_clipboard(self._text()[self.list.cursor])
            self.dashboard.notify_user("copied the line")

    def action_copy_all(self) -> None:
        """Copy all lines."""
        text = "\n".join(self._text())
        if len(text) > CLIPBOARD_CHARACTERS:
            self.dashboard.notify_user(
                f"{len(text):,} characters are too many to copy; save them to a file", wrong=True
            )
            return
        self.app.copy_to_clipboard(text)
        self.dashboard.notify_user(f"copied {plural(self.list.count, 'line')}")

    def action_save(self) -> None:
        """Save the lines to a file; in a browser, as a download."""
        app, text = self.dashboard, "\n".join(self._text()) + "\n"
        if app.is_web:
            app.deliver_text(io.StringIO(text), save_filename="stateview.txt")
            return
        from ..dialogs.prompt import PromptDialog

        def write(_stop: object, path: str) -> str:
            with open(path, "x", encoding="utf-8", errors="surrogatepass") as file:
                file.write(text)
            return path

        def answered(path: str | None) -> None:
            if path:
                path = os.path.expanduser(path)
                app.reader.submit(app, "save-text", lambda stop: write(stop, path), told, app.show_error)

        def told(path: str) -> None:
            app.notify_user(f"saved {plural(text.count(chr(10)), 'line')} to {path}")

        app.push_screen(PromptDialog("Save the lines to a new file", "", _check_path), answered)


def _check_path(path: str) -> str | None:
    if not path:
        return "the name of a file"
    path = os.path.expanduser(path)
    if os.path.lexists(path):
        return "there is such a file already; give another name"
    folder = os.path.dirname(path) or "."
    return None if os.path.isdir(folder) else f"there is no folder {folder}"
