"""The line under a value: size, revision, time and expiry, and the place of the cursor."""

from __future__ import annotations

from textual.strip import Strip
from textual.widget import Widget

from ...display.text import RowBuilder


class ValueInfo(Widget):
    """Shows facts about the value at the left, and the JSON Pointer of the cursor at the right."""

    DEFAULT_CSS = "ValueInfo { height: 1; color: $text-muted; background: $surface; }"

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self._facts, self._pointer = "", ""

    def show(self, facts: str | None = None, pointer: str | None = None) -> None:
        """Replace the facts and the pointer. None leaves the present text."""
        self._facts = self._facts if facts is None else facts
        self._pointer = self._pointer if pointer is None else pointer
        self.refresh()

    def render_line(self, y: int) -> Strip:  # noqa: ARG002
        """Paint the line. In a narrow line the beginning of the pointer is cut off."""
        width = self.size.width
        cells = RowBuilder(width, self.rich_style).add(f" {self._facts}")
        room = cells.left - 2
        pointer = self._pointer if len(self._pointer) <= room else "…" + self._pointer[-max(0, room - 1) :]
        if room > 3 and pointer:
            cells.add("", None, room + 1 - len(pointer)).add(pointer)
        return Strip(cells.fill(), width)
