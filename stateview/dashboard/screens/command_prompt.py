"""A command line at the bottom: every command of the table, completed as typed. Empty, it lists them all."""

from __future__ import annotations

from typing import ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Label

from ...cli.definition import BY_NAME
from ...cli.line_parser import completion_words
from ...errors import StateException
from ..actions.command_line import Candidate, commands, offers
from ..actions.runner import ActionContext
from ..base_screen import DashboardScreen
from ..display.text import RowBuilder, one_line
from ..widgets.line_input import LineInput
from ..widgets.virtual_list import VirtualList

_NAME_COLUMNS = 26  # columns of what is offered


class Candidates(VirtualList, can_focus=False):
    """What may come next, under headings; no cursor (-1) until one moves into it. The focus stays in the line."""

    DEFAULT_CSS = """
    Candidates { background: $panel; }
    Candidates > .list--cursor {
        background: $block-cursor-background; color: $block-cursor-foreground; text-style: $block-cursor-text-style;
    }
    """

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[Candidate | str] = []
        self.set_reactive(VirtualList.cursor, -1)

    @property
    def count(self) -> int:
        """How many lines, headings included."""
        return len(self.rows)

    @property
    def chosen(self) -> Candidate | None:
        """The one under the cursor."""
        row = self.rows[self.cursor] if 0 <= self.cursor < self.count else None
        return row if isinstance(row, Candidate) else None

    def show(self, found: list[Candidate]) -> None:
        """Other candidates, and no cursor."""
        self.rows = []
        heading = ""
        for one in found:
            if one.heading != heading:
                heading = one.heading
                self.rows.append(heading)
            self.rows.append(one)
        self.cursor = -1
        self.display = bool(self.rows)
        self.fit()
        self.count_changed()

    def fit(self) -> None:
        """Be as high as the rows are, up to the better part of the terminal."""
        self.styles.height = min(len(self.rows), max(3, self.app.size.height * 3 // 5))

    def validate_cursor(self, cursor: int) -> int:
        """Pass over headings in the direction one goes; -1 is none."""
        cursor = max(-1, min(cursor, self.count - 1))
        if cursor >= 0 and isinstance(self.rows[cursor], str):
            cursor += -1 if cursor < self.cursor else 1
        return cursor

    def render_row(self, index: int, cells: RowBuilder) -> None:
        """Return a heading, or a candidate and its meaning."""
        row = self.rows[index]
        if isinstance(row, str):
            cells.add(row, self.style_of("dim"))
        else:
            cells.add(f" {row.shown}", self.style_of("key"), min(_NAME_COLUMNS, cells.left))
            cells.add(f" {row.help}", self.style_of("dim"))

    def on_click(self, event: events.Click) -> None:
        """Once is enough to take one."""
        event.prevent_default()
        index = event.y + self.scroll_offset.y
        if index < self.count and isinstance(self.rows[index], Candidate):
            self.cursor = index
            self.action_choose()


class CommandScreen(DashboardScreen, ModalScreen[None]):
    """The line, and above it what it may become."""

    DEFAULT_CSS = """
    CommandScreen { background: transparent; align: center bottom; }
    CommandScreen > Vertical { width: 100%; height: auto; max-height: 100%; background: $panel; }
    CommandScreen #hint { width: 1fr; height: auto; max-height: 5; color: $text-muted; padding: 0 1; }
    CommandScreen #hint.-wrong { color: $text-error; }
    CommandScreen Horizontal { height: 1; background: $surface; }
    CommandScreen #sign { width: 2; color: $text-accent; text-style: bold; }
    CommandScreen LineInput { width: 1fr; padding: 0; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,ctrl+p", "leave", "Close", id="command.leave"),
        Binding("tab", "complete(1)", "Complete", id="command.complete"),
        Binding("shift+tab", "complete(-1)", "Previous", show=False, id="command.complete-back"),
        Binding("up", "older", "Earlier line", show=False, id="command.older"),
        Binding("down", "newer", "Later line, or into the list", show=False, id="command.newer"),
        Binding("pageup", "page(-1)", "A page up in the list", show=False, id="command.page-up"),
        Binding("pagedown", "page(1)", "A page down in the list", show=False, id="command.page-down"),
    ]
    HELP = "Any command of 'stateview help'. tab completes, up and down go through earlier lines, enter runs it."
    AUTO_FOCUS = "LineInput"

    def __init__(self, text: str = "") -> None:
        super().__init__()
        self._text = text
        self._start = 0  # where the word that is completed begins
        self._offered: str | None = None  # the text that the candidates are of
        self._wanted = 0  # how it is to be completed once they are there
        self._older = 0  # how many lines back
        self._draft = ""  # what was typed before going back

    def compose(self) -> ComposeResult:
        """List, hint, line."""
        with Vertical():
            yield Candidates()
            yield Label("", id="hint", markup=False)
            with Horizontal():
                yield Label(":", id="sign", markup=False)
                yield LineInput(self._text, placeholder="a command, as in the shell; tab completes")

    def on_mount(self) -> None:
        """Offer what there is to begin with."""
        self._offer(self._text)

    def on_resize(self) -> None:
        """Resize the list with the terminal."""
        self.query_one(Candidates).fit()

    # --- what is offered ---------------------------------------------------------------------------------------

    @on(Input.Changed)
    def _changed(self, event: Input.Changed) -> None:
        event.stop()
        self._offer(event.value)

    def _offer(self, text: str) -> None:
        app, web = self.dashboard, self.dashboard.is_web
        found = completion_words(text)
        self._hint(text)
        self._wanted = 0
        if found is None:
            app.reader.cancel(self, "offers")
            self._show(text, [], len(text))
        elif len(found[0]) == 1:  # the table is at hand
            app.reader.cancel(self, "offers")
            self._show(text, commands(found[0][0], web), found[1])
        else:
            self.query_one(Candidates).cursor = -1  # none is chosen of those that belong to the text before
            context = ActionContext(app.manager, {**app.options, "read_only": True})
            app.reader.submit(
                self,
                "offers",
                lambda _stop: offers(found[0], context),
                lambda some: self._show(text, some, found[1]),
                lambda error: self._lost(text, error),
            )

    def _show(self, text: str, found: list[Candidate], start: int) -> None:
        self._offered, self._start = text, start
        self.query_one(Candidates).show(found)
        wanted, self._wanted = self._wanted, 0
        if wanted:
            self._hint(text)
            self.action_complete(wanted)

    def _lost(self, text: str, error: Exception) -> None:
        self._wanted = 0
        self._show(text, [], 0)
        self._say(str(error), True)

    @property
    def _current(self) -> bool:
        """Whether the candidates are those of what is typed; those of the text before are seen until they come."""
        return self._offered == self.query_one(LineInput).value

    def _hint(self, text: str) -> None:
        command = BY_NAME.get(text.split(None, 1)[0]) if text.strip() else None
        self._say(f"{command.usage}: {command.help}" if command is not None and not command.hidden else "")

    def _say(self, said: str, wrong: bool = False) -> None:
        hint = self.query_one("#hint", Label)
        hint.update("\n".join(one_line(one) for one in said.split("\n")))
        hint.display = bool(said)
        hint.set_class(wrong, "-wrong")

    # --- keys --------------------------------------------------------------------------------------------------

    def action_complete(self, by: int) -> None:
        """Complete what is sure; else go through what is offered; what is still being read, once it is there."""
        if not self._current:
            self._wanted = by
            self._say("reading what may come next…")
            return
        candidates = self.query_one(Candidates)
        found = [row for row in candidates.rows if isinstance(row, Candidate)]
        if not found:
            return
        if candidates.cursor < 0 and by > 0:
            if len(found) == 1:
                self._take(found[0])
                return
            word = self.query_one(LineInput).value[self._start :]
            common = _common([one.text for one in found])
            if len(common) > len(word) and common.startswith(word):
                self._put(common)
                return
        last = candidates.count - 1
        at = candidates.cursor + by
        candidates.cursor = last if at < 0 else 0 if at > last else at

    def action_page(self, by: int) -> None:
        """Go through the list by what is seen of it."""
        if not self._current:
            return
        candidates = self.query_one(Candidates)
        candidates.cursor = max(0, candidates.cursor + by * max(1, candidates.size.height - 1))

    def action_older(self) -> None:
        """Up in the list; from its top, or outside, to the line typed before."""
        candidates, typed = self.query_one(Candidates), self.dashboard.acts.typed
        if candidates.cursor >= 0:
            candidates.cursor -= 1
            return
        if self._older == len(typed):
            return
        if not self._older:
            self._draft = self.query_one(LineInput).value
        self._older += 1
        self._set(typed[-self._older])

    def action_newer(self) -> None:
        """Back to the line typed after; from the last one into the list."""
        if not self._older:
            if self._current:
                self.query_one(Candidates).cursor += 1
            return
        self._older -= 1
        self._set(self.dashboard.acts.typed[-self._older] if self._older else self._draft)

    def _set(self, text: str) -> None:
        line_ = self.query_one(LineInput)
        line_.value = text
        line_.cursor_position = len(text)

    def _put(self, text: str) -> None:
        self._set(self.query_one(LineInput).value[: self._start] + text)

    def _take(self, offer: Candidate) -> None:
        self._put(offer.text + ("" if offer.help == "…" else " "))  # below a part of a key there is more
        self.query_one(LineInput).focus()

    @on(VirtualList.Chosen)
    def _chosen(self, event: VirtualList.Chosen) -> None:
        event.stop()
        offer = self.query_one(Candidates).chosen
        if offer is not None and self._current:
            self._take(offer)

    @on(VirtualList.Highlighted)
    def _moved(self, event: VirtualList.Highlighted) -> None:
        event.stop()

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        """Take what the cursor is on into the line; else run the line, which stays to be mended if it cannot be."""
        event.stop()
        offer = self.query_one(Candidates).chosen
        text = event.value.strip()
        if offer is not None and self._current:
            self._take(offer)
        elif text:
            self.dismiss(None)
            self.app.call_later(self._run, text)

    def _run(self, text: str) -> None:
        """In the app's turn, with the line gone: what the command opens is not above it."""
        try:
            self.dashboard.acts.submit(text)
        except StateException as error:
            again = CommandScreen(text)
            self.dashboard.push_screen(again)
            again.call_after_refresh(again._say, str(error), True)

    def action_leave(self) -> None:
        """Run nothing."""
        self.dismiss(None)


def _common(texts: list[str]) -> str:
    """Return what all begin with."""
    first, last = min(texts), max(texts)
    size = next((at for at, (one, other) in enumerate(zip(first, last, strict=False)) if one != other), None)
    return first if size is None and len(first) <= len(last) else first[:size]
