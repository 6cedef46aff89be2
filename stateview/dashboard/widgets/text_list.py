"""Lines of text to scroll through, sideways too, with a search."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType

from ..display.text import RowBuilder
from .virtual_list import VirtualList

_SIGNS = {"+": "added", "-": "removed", "~": "changed"}
_MEASURED_ROWS = 200  # lines seen at most, whose lengths say how far there is to go sideways


def by_sign(text: str) -> str:
    """Return the role of a line of a diff."""
    return _SIGNS.get(text.lstrip(" ")[:1], "")


class TextList(VirtualList):
    """Lines as they are; they may hold anything, and more may come at any time.

    Args:
        lines: the lines; another thread may add to them, `resized` shows it.
        role: the role of a line, or "".
        empty: said where there is none.

    """

    COMPONENT_CLASSES: ClassVar[set[str]] = {"list--found"}
    DEFAULT_CSS = """
    TextList { height: 1fr; }
    TextList > .list--found { text-style: reverse; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("l,right", "sideways(1)", "Right", show=False, id="text.right"),
        Binding("h,left", "sideways(-1)", "Left", show=False, id="text.left"),
    ]

    def __init__(
        self, lines: Sequence[str], role: Callable[[str], str] | None = None, empty: str = "", id: str | None = None
    ) -> None:
        super().__init__(id=id)
        self.lines = lines
        self.left = 0
        self.sought = ""
        self.empty = empty
        self._role = role or (lambda _text: "")

    @property
    def count(self) -> int:
        """How many there are now."""
        return len(self.lines)

    def empty_text(self) -> list[str]:
        """Return what to say where there is none."""
        return self.empty.split("\n") if self.empty else []

    def render_row(self, index: int, cells: RowBuilder) -> None:
        """Return the line from the sideways position on, with the search text marked."""
        text = self.lines[index][self.left :][: 4 * cells.left]
        role = self._role(self.lines[index][:200])
        style = self.style_of(role) if role else None
        if self.left:
            cells.add("‹", self.style_of("dim"))
        if not self.sought:
            cells.add(text, style)
            return
        mark = self.style_of("found")
        for part, marked in _parts(text, self.sought):
            cells.add(part, mark if marked else style)

    def action_sideways(self, by: int) -> None:
        """Go right or left by half of what is seen."""
        step = max(1, self.size.width // 2)
        top = self.scroll_offset.y
        longest = max((len(self.lines[at]) for at in range(top, min(self.count, top + _MEASURED_ROWS))), default=0)
        self.left = max(0, min(self.left + by * step, max(0, longest - step)))
        self.refresh()

    def seek(self, text: str, step: int, start: int) -> bool:
        """Go to the next line (`step` 1, or -1) from a line on that holds a text, around the end; whether there is one.

        Capital letters count where there is one in the text. O(lines).
        """
        self.sought = text
        self.refresh()
        folded = text == text.lower()
        for number in range(self.count):
            index = (start + step * number) % self.count
            line = self.lines[index]
            if text in (line.lower() if folded else line):
                self.cursor = index
                place = (line.lower() if folded else line).find(text)
                if not self.left <= place < self.left + self.size.width - len(text) - 2:
                    self.left = max(0, place - self.size.width // 2)
                return True
        return False


def _parts(text: str, sought: str) -> list[tuple[str, bool]]:
    """Return a text in parts, each with whether it is what is sought."""
    within = text.lower() if sought == sought.lower() else text
    if len(within) != len(text):  # some letters become two: places would not fit
        return [(text, False)]
    parts: list[tuple[str, bool]] = []
    place = 0
    while (found := within.find(sought, place)) >= 0:
        parts += [(text[place:found], False), (text[found : found + len(sought)], True)]
        place = found + len(sought)
    return [*(part for part in parts if part[0]), (text[place:], False)]
