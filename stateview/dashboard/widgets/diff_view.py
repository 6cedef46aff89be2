"""The change of one key: its places, each with sign, JSON Pointer, before and after."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple, cast

from rich.style import Style
from textual.binding import Binding, BindingType
from textual.message import Message

from ...model import PathChange
from ...states.json_diff import Change
from ..data.background import Stop
from ..data.diff_model import selectors
from ..data.diff_rows import DiffRow, Layout, places_of, rows_of, stops_of
from ..data.diff_spans import INDENT_COLUMNS, StyledSpan
from ..display.text import RowBuilder
from .diff_list import BOXES, hiding
from .virtual_list import VirtualList

if TYPE_CHECKING:
    from ..app import Dashboard

SIDE_BY_SIDE_COLUMNS = 100  # columns of the screen from which on before and after can stand side by side
_HOLD_SECONDS = 0.15  # seconds for which the last change stays while the next is compared

Ask = Callable[[], Change | None]


class _Seen(NamedTuple):
    change: Change | None
    places: list[PathChange]
    whole: bool
    layout: Layout
    rows: list[DiffRow]
    stops: list[int]  # see `stops_of`


class DiffView(VirtualList):
    """Shows a `Change`. What differs inside it is sought on a thread, and can be given up."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("h,left", "leave", "To the keys", show=False, id="diff.keys"),
    ]

    class Compared(Message):
        """Another change is seen, or why there is none."""

    class Left(Message):
        """The list of keys is asked for."""

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self.key: str | None = None  # of what is shown, or sought
        self.change: Change | None = None
        self.places: list[PathChange] = []
        self.names: list[str] = []  # of the places: see `selectors`
        self.whole = True  # whether these are all places
        self.marks: Callable[[int], int] | None = None  # how a place is marked, where places can be
        self.trouble = ""
        self._rows: list[DiffRow] = []
        self._stops: list[int] = []
        self._split = False
        self._number = 0
        self._asking = False
        self._layout = Layout(0)

    # --- what is shown -----------------------------------------------------------------------------------------

    def show(self, change: Change | None) -> None:
        """Show a change that has been read; None: there is no difference."""
        self.look(change.key if change is not None else None, lambda: change)

    def look(self, key: str | None, ask: Ask, land: Literal["first", "last"] = "first", *, stay: bool = False) -> None:
        """Read and compare on a thread, then show. What was asked before is given up.

        Args:
            key: the key that it is about.
            ask: reads the change.
            land: the place where the cursor is put.
            stay: leave the cursor where it is: it is the same key, looked at again.

        """
        self.key = key
        layout, hidden = self._fitting(), hiding(self._board)

        def compare(stop: Stop) -> _Seen:
            change = ask()
            if change is None:
                return _Seen(None, [], True, layout, [], [])
            places, whole = places_of(change, stop)
            rows = [] if stop() else rows_of(change.key, places, whole, layout, hidden)
            return _Seen(change, places, whole, layout, rows, stops_of(rows))

        def took(seen: _Seen) -> None:
            at = self.cursor
            self.change, self.places, self.whole = seen.change, seen.places, seen.whole
            self.names = selectors(seen.places)
            if not stay:
                at = 0 if not seen.stops else seen.stops[-1] if land == "last" else seen.stops[0]
                self.scroll_to(y=0, animate=False, force=True, immediate=True)
            self._take(seen, at)
            self.post_message(self.Compared())

        def failed(error: Exception) -> None:
            self.clear(str(error))
            self.post_message(self.Compared())

        self._ask(compare, took, failed)
        number = self._number
        self.set_timer(_HOLD_SECONDS, lambda: self._forget(number))

    @property
    def busy(self) -> bool:
        """Whether the change is still being sought."""
        return self._asking

    def clear(self, trouble: str = "") -> None:
        """Show nothing, or what went wrong."""
        self._board.reader.cancel(self, ("change", self._number))
        self.trouble = trouble
        self.change, self.places, self.whole = None, [], True
        self._take(_Seen(None, [], True, self._layout, [], []), 0)

    @property
    def _board(self) -> Dashboard:
        return cast("Dashboard", self.app)

    def _ask(
        self, act: Callable[[Stop], _Seen], took: Callable[[_Seen], None], failed: Callable[[Exception], None]
    ) -> None:
        # each has a slot of its own: a large comparison that was given up is not waited for
        self._board.reader.cancel(self, ("change", self._number))
        self._number += 1
        self._asking, self.trouble = True, ""
        self._board.reader.submit(self, ("change", self._number), act, took, failed)

    def _forget(self, number: int) -> None:
        if self._asking and number == self._number:
            self.change, self.places = None, []
            self._rows, self._stops = [], []
            self.count_changed()

    def _take(self, seen: _Seen, cursor: int) -> None:
        self._asking, self._rows, self._stops, self._layout = False, seen.rows, seen.stops, seen.layout
        self.count_changed()
        self.cursor = cursor
        self._bring_into_sight()
        if seen.layout != self._fitting() and self.change is not None:
            self._lay_out()

    def _lay_out(self) -> None:
        change, places, whole = self.change, self.places, self.whole
        if change is None or self._asking:
            return
        layout, hidden = self._fitting(), hiding(self._board)

        def arrange(_stop: Stop) -> _Seen:
            rows = rows_of(change.key, places, whole, layout, hidden)
            return _Seen(change, places, whole, layout, rows, stops_of(rows))

        def took(seen: _Seen) -> None:
            self._take(seen, self._same(seen.rows))

        self._ask(arrange, took, lambda error: self.clear(str(error)))

    # --- side by side ------------------------------------------------------------------------------------------

    @property
    def split(self) -> bool:
        """Whether before and after are to stand side by side, where there is room."""
        return self._split

    @split.setter
    def split(self, split: bool) -> None:
        self._split = split
        self._lay_out()

    @property
    def too_narrow(self) -> bool:
        """Whether there is no room for what was asked for."""
        return self._split and self.app.size.width < SIDE_BY_SIDE_COLUMNS

    def _fitting(self) -> Layout:
        bar = self.styles.scrollbar_size_vertical  # whether it is there or not: else all were wrapped anew for it
        width = max(20, self.size.width - bar - 1 - (4 if self.marks else 0))
        return Layout(width, self._split and not self.too_narrow)

    def on_resize(self) -> None:
        """Wrap the lines anew."""
        if self._layout != self._fitting():
            self._lay_out()

    # --- places ------------------------------------------------------------------------------------------------

    @property
    def place(self) -> int:
        """The place under the cursor; -1 where there is none."""
        return self._rows[self.cursor].place if self.cursor < self.count else -1

    @property
    def stop(self) -> tuple[int, int]:
        """Which stop of `step` the cursor is at or behind, from 1, and how many there are."""
        at = bisect_right(self._stops, self.cursor)
        if at < len(self._stops) and (not at or self._rows[self._stops[at - 1]].place != self.place):
            at += 1  # on a text's title, before its first stop
        return at, len(self._stops)

    @property
    def all_listed(self) -> bool:
        """Whether there is a line for every place."""
        return not self._rows or self._rows[-1].place >= 0

    def _same(self, rows: list[DiffRow]) -> int:
        """Where the line under the cursor is among others: of the same place the same, as nearly as there is one."""
        now = self._rows[self.cursor] if self.cursor < self.count else None
        if now is None:
            return 0
        number = max((row.number for row in rows if row.place == now.place and row.number <= now.number), default=0)
        near = [at for at, row in enumerate(rows) if (row.place, row.number) == (now.place, number)]
        return next((at for at in near if rows[at].sign == now.sign), near[0] if near else 0)

    def step(self, by: int) -> bool:
        """Move to the next change, or the one before; in a long text each stretch is one. Whether there is one."""
        if self._asking:
            return False
        at = bisect_right(self._stops, self.cursor) if by > 0 else bisect_left(self._stops, self.cursor) - 1
        if not 0 <= at < len(self._stops):
            return False
        self.cursor = self._stops[at]
        self._bring_into_sight()
        return True

    def _bring_into_sight(self) -> None:
        """Scroll so that the change under the cursor is seen, with the line above it, as far as there is room."""
        end = self.cursor
        while end + 1 < self.count and self._rows[end + 1].differs and not self._rows[end + 1].head:
            end += 1
        self.show_line(min(end, self.cursor + max(0, self.size.height - 2)))
        self.show_line(max(0, self.cursor - 1))

    def action_leave(self) -> None:
        """Go to the keys."""
        self.post_message(self.Left())

    # --- painting ----------------------------------------------------------------------------------------------

    @property
    def count(self) -> int:
        """See `VirtualList.count`."""
        return len(self._rows)

    def empty_text(self) -> list[str]:
        """See `VirtualList.empty_text`."""
        if self.trouble:
            return [*self.trouble.split("\n"), "R looks again"]
        return ["comparing…"] if self._asking else [] if self.key is None else ["no difference"]

    def render_row(self, index: int, cells: RowBuilder) -> None:
        """See `VirtualList.render_row`."""
        row = self._rows[index]
        if self.marks is not None:
            box = BOXES[self.marks(row.place)] + " " if row.head else "    "
            cells.add(box, self.style_of("mark"))
        indent = " " * INDENT_COLUMNS if row.goes_on else ""
        roles = {"+": "added", "−": "removed", "~": "changed"}
        if row.right is None:
            sign = row.sign + " " if row.head or row.place < 0 else f"  {row.sign} "
            cells.add(sign + indent, self.style_of(roles.get(row.sign, "dim")))
            self._parts(row.left, cells)
            return
        half = self._layout.half
        cells.add(row.sign + " ", self.style_of(roles.get(row.sign, "dim")))
        left = RowBuilder(half, cells.base).add(indent)
        self._parts(row.left, left)
        cells.segments += left.fill()
        cells.left -= half
        cells.add("│", self.style_of("dim"))
        cells.add(f"{row.right_sign} {indent}", self.style_of(roles.get(row.right_sign, "dim")))
        self._parts(row.right, cells)

    def _parts(self, parts: tuple[StyledSpan, ...], cells: RowBuilder) -> None:
        for part in parts:
            style = self.style_of(part.role) if part.role else None
            if part.marked:  # reverse is seen without colours too
                style = (style or Style()) + Style(reverse=True)
            cells.add(part.text, style)
