"""The command prompt at the bottom: runs any command, and lists candidates while the user types."""

from __future__ import annotations

from typing import ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Label

from ...cli.definition import BY_NAME
from ...cli.line_parser import completion_words, quote
from ...errors import StateException
from ..actions.command_line import Candidate, argument_candidates, command_candidates
from ..actions.runner import ActionContext
from ..base_screen import DashboardScreen
from ..dialogs.step_actions import again_words
from ..display.text import RowBuilder, one_line
from ..widgets.line_input import LineInput
from ..widgets.virtual_list import VirtualList

_NAME_COLUMNS = 26  # of the name of a candidate; its help stands beside it


class Candidates(VirtualList, can_focus=False):
    """Lists the candidates under headings. The cursor is -1 until the user moves into the list."""

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
        """The number of rows, headings included."""
        return len(self.rows)

    @property
    def chosen(self) -> Candidate | None:
        """The candidate under the cursor."""
        row = self.rows[self.cursor] if 0 <= self.cursor < self.count else None
        return row if isinstance(row, Candidate) else None

    def show(self, candidates: list[Candidate]) -> None:
        """Replace the candidates, and hide the cursor."""
        self.rows = []
        heading = ""
        for candidate in candidates:
            if candidate.heading != heading:
                heading = candidate.heading
                self.rows.append(heading)
            self.rows.append(candidate)
        self.cursor = -1
        self.display = bool(self.rows)
        self.fit()
        self.count_changed()

    def fit(self) -> None:
        """Set the height to the number of rows, up to three fifths of the terminal."""
        self.styles.height = min(len(self.rows), max(3, self.app.size.height * 3 // 5))

    def validate_cursor(self, cursor: int) -> int:
        """Skip headings in the direction of the move; -1 hides the cursor."""
        cursor = max(-1, min(cursor, self.count - 1))
        if cursor >= 0 and isinstance(self.rows[cursor], str):
            cursor += -1 if cursor < self.cursor else 1
        return cursor

    def render_row(self, index: int, cells: RowBuilder) -> None:
        """Paint a heading, or a candidate and its help."""
        row = self.rows[index]
        if isinstance(row, str):
            cells.add(row, self.style_of("dim"))
        else:
            cells.add(f" {row.shown}", self.style_of("key"), min(_NAME_COLUMNS, cells.left))
            cells.add(f" {row.help}", self.style_of("dim"))

    def on_click(self, event: events.Click) -> None:
        """Take the candidate at a single click."""
        event.prevent_default()
        index = event.y + self.scroll_offset.y
        if index < self.count and isinstance(self.rows[index], Candidate):
            self.cursor = index
            self.action_choose()


class CommandScreen(DashboardScreen, ModalScreen[None]):
    """Shows the command line, a hint, and the candidates above them."""

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
        Binding("down", "newer", "Later line, or first candidate", show=False, id="command.newer"),
        Binding("pageup", "page(-1)", "Page up in the list", show=False, id="command.page-up"),
        Binding("pagedown", "page(1)", "Page down in the list", show=False, id="command.page-down"),
    ]
    HELP = "Runs any command of 'stateview help'. tab completes, up and down recall earlier lines, enter runs the line."
    AUTO_FOCUS = "LineInput"

    def __init__(self, text: str = "") -> None:
        super().__init__()
        self._text = text
        self._word_start = 0  # the position of the word that is completed
        self._candidates_of: str | None = None  # the text that the listed candidates complete
        self._pending_complete = 0  # a `complete` action that waits for candidates; 0 is none
        self._recalled = 0  # how many lines back the user has gone; 0 is the new line
        self._new_line = ""  # the text of the new line while an earlier one is recalled

    def compose(self) -> ComposeResult:
        """Show the candidates, the hint, and the line."""
        with Vertical():
            yield Candidates()
            yield Label("", id="hint", markup=False)
            with Horizontal():
                yield Label(":", id="sign", markup=False)
                yield LineInput(self._text, placeholder="a command, as in the shell; tab completes")

    def on_mount(self) -> None:
        """List the first candidates."""
        self._offer(self._text)

    def on_resize(self) -> None:
        """Fit the list to the new height."""
        self.query_one(Candidates).fit()

    # --- candidates --------------------------------------------------------------------------------------------

    @on(Input.Changed)
    def _changed(self, event: Input.Changed) -> None:
        event.stop()
        self._offer(event.value)

    def _offer(self, text: str) -> None:
        app = self.dashboard
        words = completion_words(text)
        self._hint(text)
        self._pending_complete = 0
        if words is None:
            app.reader.cancel(self, "offers")
            self._list(text, [], len(text))
        elif len(words[0]) == 1:  # the names of commands need no read
            app.reader.cancel(self, "offers")
            self._list(text, command_candidates(words[0][0], app.is_web, self._lines_of_step()), words[1])
        else:
            self.query_one(Candidates).cursor = -1  # the listed candidates are those of the text before
            context = ActionContext(app.manager, {**app.options, "read_only": True})
            patterns, stores = app.redact, app.page_stores
            app.reader.submit(
                self,
                "offers",
                lambda _stop: argument_candidates(words[0], context, stores, patterns),
                lambda candidates: self._list(text, candidates, words[1]),
                lambda error: self._offers_failed(text, error),
            )

    def _lines_of_step(self) -> dict[str, str]:
        """Return the command lines of the keys A and B for the step under the cursor, if the focus is on the steps."""
        main = self.dashboard.main
        if main is None or self.app.screen_stack[-2:-1] != [main] or main.focused is not main.steps:
            return {}
        step, progress = main.steps.step, main.steps.progress
        if step is None or progress is None:
            return {}
        lines = (again_words(progress.run.name, step.name, alone) for alone in (True, False))
        return {" ".join(words[:2]): " ".join(map(quote, words)) for words in lines}

    def _list(self, text: str, candidates: list[Candidate], word_start: int) -> None:
        self._candidates_of, self._word_start = text, word_start
        self.query_one(Candidates).show(candidates)
        pending, self._pending_complete = self._pending_complete, 0
        if pending:
            self._hint(text)
            self.action_complete(pending)

    def _offers_failed(self, text: str, error: Exception) -> None:
        self._pending_complete = 0
        self._list(text, [], 0)
        self._show_hint(str(error), True)

    @property
    def _current(self) -> bool:
        """Whether the candidates complete the present text. Until new ones are read, the list shows earlier ones."""
        return self._candidates_of == self.query_one(LineInput).value

    def _hint(self, text: str) -> None:
        command = BY_NAME.get(text.split(None, 1)[0]) if text.strip() else None
        self._show_hint(f"{command.usage}: {command.help}" if command is not None and not command.hidden else "")

    def _show_hint(self, text: str, wrong: bool = False) -> None:
        hint = self.query_one("#hint", Label)
        hint.update("\n".join(one_line(line) for line in text.split("\n")))
        hint.display = bool(text)
        hint.set_class(wrong, "-wrong")

    # --- keys --------------------------------------------------------------------------------------------------

    def action_complete(self, by: int) -> None:
        """Complete the common start of the candidates, or select the next one, once the candidates are read."""
        if not self._current:
            self._pending_complete = by
            self._show_hint("reading the candidates…")
            return
        listed = self.query_one(Candidates)
        candidates = [row for row in listed.rows if isinstance(row, Candidate)]
        if not candidates:
            return
        if listed.cursor < 0 and by > 0:
            if len(candidates) == 1:
                self._take(candidates[0])
                return
            word = self.query_one(LineInput).value[self._word_start :]
            common = _common_start([candidate.text for candidate in candidates])
            if len(common) > len(word) and common.startswith(word):
                self._replace_word(common)
                return
        last = listed.count - 1
        row = listed.cursor + by
        listed.cursor = last if row < 0 else 0 if row > last else row

    def action_page(self, by: int) -> None:
        """Move the cursor of the list by a page."""
        if not self._current:
            return
        candidates = self.query_one(Candidates)
        candidates.cursor = max(0, candidates.cursor + by * max(1, candidates.size.height - 1))

    def action_older(self) -> None:
        """Move up in the list. From its top, or outside it, recall the earlier line."""
        candidates, typed = self.query_one(Candidates), self.dashboard.acts.typed
        if candidates.cursor >= 0:
            candidates.cursor -= 1
            return
        if self._recalled == len(typed):
            return
        if not self._recalled:
            self._new_line = self.query_one(LineInput).value
        self._recalled += 1
        self._set_line(typed[-self._recalled])

    def action_newer(self) -> None:
        """Recall the later line. From the new line, move into the list."""
        if not self._recalled:
            if self._current:
                self.query_one(Candidates).cursor += 1
            return
        self._recalled -= 1
        self._set_line(self.dashboard.acts.typed[-self._recalled] if self._recalled else self._new_line)

    def _set_line(self, text: str) -> None:
        field = self.query_one(LineInput)
        field.value = text
        field.cursor_position = len(text)

    def _replace_word(self, text: str) -> None:
        self._set_line(self.query_one(LineInput).value[: self._word_start] + text)

    def _take(self, candidate: Candidate) -> None:
        is_prefix = candidate.help == "…"  # the first segments of keys: the user goes on with the next segment
        self._replace_word(candidate.text + ("" if is_prefix else " "))
        self.query_one(LineInput).focus()

    @on(VirtualList.Chosen)
    def _chosen(self, event: VirtualList.Chosen) -> None:
        event.stop()
        candidate = self.query_one(Candidates).chosen
        if candidate is not None and self._current:
            self._take(candidate)

    @on(VirtualList.Highlighted)
    def _moved(self, event: VirtualList.Highlighted) -> None:
        event.stop()

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        """Take the candidate under the cursor. Without one, run the line."""
        event.stop()
        candidate = self.query_one(Candidates).chosen
        text = event.value.strip()
        if candidate is not None and self._current:
            self._take(candidate)
        elif text:
            self.dismiss(None)
            self.app.call_later(self._run, text)

    def _run(self, text: str) -> None:
        """Run a line after this screen has closed. An invalid line opens a new prompt with the line and the error."""
        try:
            self.dashboard.acts.submit(text)
        except StateException as error:
            prompt = CommandScreen(text)
            self.dashboard.push_screen(prompt)
            prompt.call_after_refresh(prompt._show_hint, str(error), True)

    def action_leave(self) -> None:
        """Close the prompt."""
        self.dismiss(None)


def _common_start(texts: list[str]) -> str:
    first, last = min(texts), max(texts)
    length = next((at for at, sign in enumerate(first) if last[at : at + 1] != sign), len(first))
    return first[:length]
