"""A list of text lines that scrolls in both directions and can be searched."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType

from ..display.text import RowBuilder
from .virtual_list import VirtualList

_SIGNS = {"+": "added", "-": "removed", "~": "changed"}
_MEASURED_ROWS = 200  # the longest of so many lines limits scrolling to the right


def by_sign(text: str) -> str:
    """Return the role of a line of a diff, by its first character."""
    return _SIGNS.get(text.lstrip(" ")[:1], "")


class TextList(VirtualList):
    """Shows lines of text, with control characters escaped.

    Args:
        lines: the lines. Another thread may append to them. `count_changed` shows the new lines.
        role: returns the role of a line, or "".
        empty: the text of an empty list.

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
        self.search_text = ""
        self.empty = empty
        self._role = role or (lambda _text: "")

    @property
    def count(self) -> int:
        return len(self.lines)

    def empty_text(self) -> list[str]:
        return self.empty.split("\n") if self.empty else []

    def render_row(self, index: int, cells: RowBuilder) -> None:
        """Paint a line from column `left` on, with the search text marked."""
        text = self.lines[index][self.left :][: 4 * cells.left]
        role = self._role(self.lines[index][:200])
        style = self.style_of(role) if role else None
        if self.left:
            cells.add("‹", self.style_of("dim"))
        if not self.search_text:
            cells.add(text, style)
            return
        match_style = self.style_of("found")
        for part, matches in _split(text, self.search_text):
            cells.add(part, match_style if matches else style)

    def action_sideways(self, by: int) -> None:
        """Scroll right or left by half the width."""
        step = max(1, self.size.width // 2)
        top = self.scroll_offset.y
        longest = max(map(len, self.lines[top : top + _MEASURED_ROWS]), default=0)
        self.left = max(0, min(self.left + by * step, max(0, longest - step)))
        self.refresh()

    def find(self, text: str, step: int, start: int) -> bool:
        """Move to the next line with a text, and return whether there is one. O(lines).

        Args:
            text: the text to find. Without capital letters, case is ignored.
            step: 1 searches forwards, -1 backwards, around the end of the list.
            start: the index of the first line that is searched.

        """
        self.search_text = text
        self.refresh()
        for number in range(self.count):
            index = (start + step * number) % self.count
            position = _fold(self.lines[index], text).find(text)
            if position >= 0:
                self.cursor = index
                if not self.left <= position < self.left + self.size.width - len(text) - 2:
                    self.left = max(0, position - self.size.width // 2)
                return True
        return False


def _fold(line: str, search_text: str) -> str:
    """Return a line in lower case, unless the search text has capital letters."""
    return line.lower() if search_text == search_text.lower() else line


def _split(text: str, search_text: str) -> list[tuple[str, bool]]:
    """Split a text into parts. The flag of a part says whether it matches the search text."""
    folded = _fold(text, search_text)
    if len(folded) != len(text):  # lower case can be longer, then positions in `folded` are not those of `text`
        return [(text, False)]
    parts: list[tuple[str, bool]] = []
    end = 0
    while (start := folded.find(search_text, end)) >= 0:
        parts += [(text[end:start], False), (text[start : start + len(search_text)], True)]
        end = start + len(search_text)
    return [*(part for part in parts if part[0]), (text[end:], False)]
