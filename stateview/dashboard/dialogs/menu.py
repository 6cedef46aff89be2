"""A short list to choose from: by its number, by typing a part of it, or by moving to it."""

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

from ..display.text import RowBuilder, one_line
from ..widgets.virtual_list import VirtualList

T = TypeVar("T")


class MenuList(VirtualList, inherit_bindings=False):
    """The labels and hints. Letters filter, so that only keys without a letter move."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down", "move(1)", "Down", show=False, id="menu.down"),
        Binding("up", "move(-1)", "Up", show=False, id="menu.up"),
        Binding("pagedown", "half(2)", "Page down", show=False, id="menu.page-down"),
        Binding("pageup", "half(-2)", "Page up", show=False, id="menu.page-up"),
        Binding("home", "first", "First", show=False, id="menu.first"),
        Binding("end", "last", "Last", show=False, id="menu.last"),
        Binding("enter", "choose", "Choose", show=False, id="menu.choose"),
        Binding("backspace", "erase", "Erase the filter's last letter", show=False, id="menu.erase"),
    ]

    class Filtered(Message):
        """What is typed has changed."""

    def __init__(self, rows: Sequence[tuple[str, str]]) -> None:
        super().__init__()
        self._rows = [(one_line(label), one_line(hint)) for label, hint in rows]
        self._width = max((len(label) for label, _ in self._rows), default=0)
        self.typed = ""
        self.shown = list(range(len(rows)))

    @property
    def count(self) -> int:
        """How many match."""
        return len(self.shown)

    def empty_text(self) -> list[str]:
        """Return what to do where none matches."""
        return ["none matches; backspace takes a letter away"] if self._rows else ["there is nothing to choose from"]

    def render_row(self, index: int, cells: RowBuilder) -> None:
        """Return the number while numbers choose, the label, and the hint."""
        label, hint = self._rows[self.shown[index]]
        cells.add(f"{index + 1} " if index < 9 and not self.typed else "  ", self.style_of("dim"))
        cells.add(label, width=min(self._width, max(10, cells.left * 2 // 3)))
        cells.add("  " + hint, self.style_of("dim"))

    def check_consume_key(self, key: str, character: str | None) -> bool:  # noqa: ARG002
        """Whatever can be typed is taken."""
        return character is not None and character.isprintable()

    def on_key(self, event: events.Key) -> None:
        """Choose by a digit if nothing else is typed; filter by any other key."""
        sign = event.character
        if sign is None or not sign.isprintable():
            return
        event.stop()
        event.prevent_default()
        if not self.typed and sign in "123456789":
            if int(sign) <= self.count:
                self.cursor = int(sign) - 1
                self.action_choose()
            return
        self._type(self.typed + sign)

    def action_erase(self) -> None:
        """Take the last letter away."""
        self._type(self.typed[:-1])

    def _type(self, text: str) -> None:
        self.typed = text
        wanted = text.casefold()

        def rank(number: int) -> int:
            label = self._rows[number][0].casefold()
            return 0 if label.startswith(wanted) else 1 if wanted in label else 2

        found = [number for number, row in enumerate(self._rows) if wanted in "\n".join(row).casefold()]
        self.shown = sorted(found, key=rank)  # what a label says before what a hint says
        self.cursor = 0
        self.count_changed()
        self.post_message(self.Filtered())
        self.post_message(self.Highlighted(self, 0))


class Menu(ModalScreen[T | None], Generic[T]):
    """Ends with the value that was chosen, or None.

    Args:
        title: stands in the border.
        choices: label, value and hint of each; labels and hints may hold stored data.
        start: the number of the one that the cursor is on.
        looked: called with the value under the cursor as it moves.

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
    HELP = "Type to filter, a digit or Enter chooses, esc closes."

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
        """Return the list, and what is typed."""
        with Vertical() as box:
            box.border_title = self._title.replace("[", r"\[")
            yield MenuList(self._rows)
            yield Label(self._said(""), markup=False)

    def on_mount(self) -> None:
        """Begin where asked to."""
        for choices in self.query(MenuList):  # none where the app ends as soon as it is pushed
            choices.set_reactive(VirtualList.cursor, max(0, min(self._start, len(self._rows) - 1)))

    def on_resize(self) -> None:
        """Fit the list into the room beside its border and the line under it."""
        for choices in self.query(MenuList):
            choices.styles.height = max(1, min(len(self._rows), self.app.size.height - 3))

    def _said(self, typed: str) -> str:
        return f"/{one_line(typed, 40)}▏" if typed else "type to filter · enter chooses · esc closes"

    @on(MenuList.Filtered)
    def _filtered(self) -> None:
        self.query_one(Label).update(self._said(self.query_one(MenuList).typed))

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
        """Choose none."""
        self.dismiss(None)
