"""A menu: the user chooses a row by typing a part of it, or with the cursor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, Generic, TypeVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.message import Message
from textual.screen import ModalScreen
from textual.widgets import Label

from ...states.matching.ranking import ranked
from ..display.text import RowBuilder, one_line
from ..widgets.virtual_list import VirtualList

T = TypeVar("T")


class MenuList(VirtualList, inherit_bindings=False):
    """The rows of a menu. Letters filter, so the cursor moves with other keys only."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down", "move(1)", "Down", show=False, id="menu.down"),
        Binding("up", "move(-1)", "Up", show=False, id="menu.up"),
        Binding("pagedown", "half(2)", "Page down", show=False, id="menu.page-down"),
        Binding("pageup", "half(-2)", "Page up", show=False, id="menu.page-up"),
        Binding("home", "first", "First", show=False, id="menu.first"),
        Binding("end", "last", "Last", show=False, id="menu.last"),
        Binding("enter", "choose", "Choose", show=False, id="menu.choose"),
        Binding("backspace", "erase", "Erase the last letter of the filter", show=False, id="menu.erase"),
    ]

    class Filtered(Message):
        """The text of the filter has changed."""

    def __init__(self, rows: Sequence[tuple[str, str]]) -> None:
        super().__init__()
        self._rows = [(one_line(label), one_line(hint)) for label, hint in rows]
        self._width = max((len(label) for label, _ in self._rows), default=0)
        self.typed = ""
        self.shown = list(range(len(rows)))

    @property
    def count(self) -> int:
        """The number of matching rows."""
        return len(self.shown)

    def empty_text(self) -> list[str]:
        return ["no row matches; backspace erases a letter"] if self._rows else ["the menu is empty"]

    def render_row(self, index: int, cells: RowBuilder) -> None:
        """Paint label and hint."""
        label, hint = self._rows[self.shown[index]]
        cells.add(" ")
        cells.add(label, width=min(self._width, max(10, cells.left * 2 // 3)))
        cells.add("  " + hint, self.style_of("dim"))

    def check_consume_key(self, key: str, character: str | None) -> bool:  # noqa: ARG002
        """Take every printable key, so that it filters."""
        return character is not None and character.isprintable()

    def on_key(self, event: events.Key) -> None:
        """Filter with any printable key."""
        character = event.character
        if character is None or not character.isprintable():
            return
        event.stop()
        event.prevent_default()
        self._filter(self.typed + character)

    def action_erase(self) -> None:
        """Erase the last letter of the filter."""
        self._filter(self.typed[:-1])

    def _filter(self, text: str) -> None:
        self.typed = text
        part = text.casefold()
        numbers = range(len(self._rows))
        in_label = ranked(text, numbers, lambda number: [self._rows[number][0]])
        in_hint = [number for number in numbers if part in self._rows[number][1].casefold()]
        self.shown = list(dict.fromkeys([*in_label, *in_hint]))
        self.cursor = 0
        self.count_changed()
        self.post_message(self.Filtered())
        self.post_message(self.Highlighted(self, 0))


class Menu(ModalScreen[T | None], Generic[T]):
    """Shows a menu. The result of the dialog is the value of the chosen row, or None.

    Args:
        title: the title in the border.
        choices: label, value and hint of each row. Control characters of stored data in the texts are escaped.
        start: the number of the row under the cursor at first.
        looked: called with the value under the cursor when the cursor moves.

    """

    DEFAULT_CSS = """
    Menu { align: center middle; }
    Menu > Vertical {
        width: 76; max-width: 100%; height: auto; max-height: 100%;
        border: round $accent; background: $surface; padding: 0 1;
    }
    Menu Label { width: 1fr; height: 1; color: $text-muted; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "Close", id="menu.close")]
    HELP = "Type to filter, Enter chooses, esc closes."

    def __init__(
        self, title: str, choices: Sequence[tuple[str, T, str]], *, start: int = 0,
        looked: Callable[[T], None] | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self._title = one_line(title, 60)
        self._values = [value for _, value, _ in choices]
        self._rows = [(label, hint) for label, _, hint in choices]
        self._start = start
        self._looked = looked

    def compose(self) -> ComposeResult:
        """Show the rows and the filter."""
        with Vertical() as box:
            box.border_title = self._title.replace("[", r"\[")
            yield MenuList(self._rows)
            yield Label(_filter_text(""), markup=False)

    def on_mount(self) -> None:
        """Move the cursor to its first row."""
        for choices in self.query(MenuList):  # empty if the app ends before the dialog is composed
            choices.set_reactive(VirtualList.cursor, max(0, min(self._start, len(self._rows) - 1)))

    def on_resize(self) -> None:
        """Fit the list between the border and the line of the filter."""
        for choices in self.query(MenuList):
            choices.styles.height = max(1, min(len(self._rows), self.app.size.height - 3))

    @on(MenuList.Filtered)
    def _filtered(self) -> None:
        self.query_one(Label).update(_filter_text(self.query_one(MenuList).typed))

    @on(VirtualList.Highlighted)
    def _moved(self, event: VirtualList.Highlighted) -> None:
        event.stop()
        choices = self.query_one(MenuList)
        if type(event) is VirtualList.Highlighted and self._looked is not None and event.index < choices.count:
            self._looked(self._values[choices.shown[event.index]])

    @on(VirtualList.Chosen)
    def _chosen(self, event: VirtualList.Chosen) -> None:
        event.stop()
        self.dismiss(self._values[self.query_one(MenuList).shown[event.index]])

    def action_leave(self) -> None:
        """Close the menu without a choice."""
        self.dismiss(None)


def _filter_text(typed: str) -> str:
    return f"/{one_line(typed, 40)}▏" if typed else "type to filter · enter chooses · esc closes"
