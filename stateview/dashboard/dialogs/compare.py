"""The dialog that asks for the two states of a diff."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Label

from ...errors import InvalidName
from ...refs import parse_ref
from ...states.matching.ranking import ranked
from ..display.text import RowBuilder, one_line
from ..widgets.line_input import LineInput
from ..widgets.virtual_list import VirtualList

LIVE = ("live", "live", "the present state")


class StateRows(VirtualList, can_focus=False):
    """Lists the states that match the field in focus."""

    def __init__(self, states: Sequence[tuple[str, str, str]]) -> None:
        super().__init__()
        self.states = states
        self.shown = list(states)

    @property
    def count(self) -> int:
        """The number of states that match."""
        return len(self.shown)

    def render_row(self, index: int, cells: RowBuilder) -> None:
        """Paint the name of a state, and when it was."""
        label, _, hint = self.shown[index]
        cells.add(one_line(label), width=min(34, max(10, cells.left * 2 // 3)))
        cells.add(f"  {one_line(hint)}", self.style_of("dim"))

    def empty_text(self) -> list[str]:
        """Say that the text itself is taken."""
        return ["no checkpoint of this name: enter takes a revision, live~3, @2h, @2026-11-28T10:00"]

    def filter(self, text: str) -> None:
        """Show the states that match, the best first."""
        self.shown = ranked(text, self.states, lambda state: state[:1])
        self.cursor = 0
        self.count_changed()


class CompareDialog(ModalScreen[tuple[str, str] | None]):
    """Asks for two states. The result of the dialog is their refs, the earlier state first as it was typed, or None.

    Args:
        states: the label, the ref and a hint of each state that is offered.

    """

    DEFAULT_CSS = """
    CompareDialog { align: center middle; }
    CompareDialog > Vertical {
        width: 76; max-width: 100%; height: auto; max-height: 100%;
        border: round $accent; background: $surface; padding: 0 1;
    }
    CompareDialog Horizontal { height: 1; }
    CompareDialog Horizontal Label { width: 7; }
    CompareDialog LineInput { width: 1fr; }
    CompareDialog StateRows { height: 10; }
    CompareDialog #message { width: 1fr; height: auto; max-height: 3; color: $text-muted; }
    CompareDialog #message.-wrong { color: $text-error; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Cancel", id="compare.leave"),
        Binding("down", "move(1)", "Down", show=False, id="compare.down"),
        Binding("up", "move(-1)", "Up", show=False, id="compare.up"),
        Binding("tab", "take", "Take, and go on", show=False, id="compare.take"),
    ]
    HELP = "Type a part of a name; down and up choose, enter takes it and goes on. From is the earlier state."

    def __init__(self, states: Sequence[tuple[str, str, str]]) -> None:
        super().__init__()
        self._states = states

    def compose(self) -> ComposeResult:
        """Show both fields, and the states below them."""
        with Vertical() as box:
            box.border_title = "Compare two states"
            with Horizontal():
                yield Label("from", markup=False)
                yield LineInput(id="from", placeholder="a checkpoint, a revision, live~3, @2h")
            with Horizontal():
                yield Label("to", markup=False)
                yield LineInput("live", id="to")
            yield StateRows(self._states)
            yield Label("", id="message", markup=False)

    def on_mount(self) -> None:
        """Begin with the earlier state."""
        self.query_one("#from", LineInput).focus()
        self._tell()

    def _tell(self, error: str = "") -> None:
        label = self.query_one("#message", Label)
        label.update(one_line(error or "enter takes the state and goes on · esc cancels"))
        label.set_class(bool(error), "-wrong")

    @on(Input.Changed)
    def _changed(self, event: Input.Changed) -> None:
        event.stop()
        if event.input.has_focus:
            self.query_one(StateRows).filter(event.value)
            self._tell()

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.action_take()

    @on(VirtualList.Highlighted)
    def _moved(self, event: VirtualList.Highlighted) -> None:
        event.stop()

    def action_move(self, by: int) -> None:
        """Choose another state of the list."""
        self.query_one(StateRows).cursor += by

    def action_take(self) -> None:
        """Take the state under the cursor into the field, or else its text; then go on."""
        field, rows = self.focused, self.query_one(StateRows)
        if not isinstance(field, LineInput):
            return
        text = field.value.strip()
        exact = [state for state in self._states if text in state[:2]]
        ref = exact[0][1] if exact else rows.shown[rows.cursor][1] if rows.count and not _is_ref(text) else text
        try:
            parse_ref(ref)
        except InvalidName as error:
            self._tell(str(error))
            return
        field.value = ref
        if field.id == "to":
            self.dismiss((self.query_one("#from", LineInput).value, ref))
            return
        to = self.query_one("#to", LineInput)
        to.focus()
        to.select_all()
        rows.filter("")

    def action_leave(self) -> None:
        """Close the dialog."""
        self.dismiss(None)


def _is_ref(text: str) -> bool:
    """Whether a text is a revision, a time, or counts back: it is meant as it stands."""
    return text.isdecimal() or text.startswith("@") or "~" in text
