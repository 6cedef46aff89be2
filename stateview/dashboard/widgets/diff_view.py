"""The change of one key: each place that differs, with sign, JSON Pointer, before and after."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable
from typing import ClassVar, Literal, NamedTuple

from rich.style import Style
from textual.binding import Binding, BindingType
from textual.message import Message

from ...model import PathChange
from ...states.changes import Change
from ..data.background import Stop
from ..data.diff_model import selectors
from ..data.diff_rows import DiffRow, Layout, places_of, rows_of, stops_of
from ..data.diff_spans import INDENT_COLUMNS, StyledSpan
from ..display.redaction import MASK
from ..display.text import RowBuilder
from .diff_list import BOXES, redaction_test
from .virtual_list import VirtualList

SIDE_BY_SIDE_COLUMNS = 100  # the width of the screen that before and after need side by side
_HOLD_SECONDS = 0.15  # how long the last change stays while the next is compared


class _Comparison(NamedTuple):
    """A change with the places that differ, laid out in rows. `whole` says whether `places` are all places."""

    change: Change | None
    places: list[PathChange]
    whole: bool
    layout: Layout
    rows: list[DiffRow]
    stops: list[int]  # see `stops_of`


class DiffView(VirtualList):
    """Shows a `Change`. The places that differ are computed on a thread, and the computation can be cancelled."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("h,left", "leave", "To the keys", show=False, id="diff.keys"),
    ]

    class Compared(Message):
        """Another change is shown, or an error."""

    class Left(Message):
        """The user goes back to the list of keys."""

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self.key: str | None = None  # the key of the change that is shown or being computed
        self.change: Change | None = None
        self.places: list[PathChange] = []
        self.names: list[str] = []  # the selectors of the places, see `selectors`
        self.whole = True  # whether `places` are all places
        self.marks: Callable[[int], int] | None = None  # returns the mark of a place, or None if places have no marks
        self.error_text = ""
        self._rows: list[DiffRow] = []
        self._stops: list[int] = []
        self._split = False
        self._request = 0  # the number of the last request
        self._computing = False
        self._layout = Layout(0)
        self._redact: tuple[str, ...] = ()  # what is masked in the rows that are shown or being computed

    # --- what is shown -----------------------------------------------------------------------------------------

    def show(self, change: Change | None) -> None:
        """Show a change that has been read. None shows that there is no difference."""
        self.load(change.key if change is not None else None, lambda: change)

    def load(
        self,
        key: str | None,
        read: Callable[[], Change | None],
        land: Literal["first", "last"] = "first",
        *,
        stay: bool = False,
    ) -> None:
        """Read and compare on a thread, then show the change. Cancels the request before.

        Args:
            key: the key of the change.
            read: reads the change.
            land: the place that the cursor moves to.
            stay: leave the cursor where it is, because the same key is loaded again.

        """
        self.key = key
        layout, hidden = self._fitting(), redaction_test(self.dashboard)

        def compare(stop: Stop) -> _Comparison:
            change = read()
            if change is None:
                return _Comparison(None, [], True, layout, [], [])
            places, whole = places_of(change, stop)
            rows = [] if stop() else rows_of(change.key, places, whole, layout, hidden)
            return _Comparison(change, places, whole, layout, rows, stops_of(rows))

        def show(result: _Comparison) -> None:
            cursor = self.cursor
            self.change, self.places, self.whole = result.change, result.places, result.whole
            self.names = selectors(result.places)
            if not stay:
                cursor = 0 if not result.stops else result.stops[-1] if land == "last" else result.stops[0]
                self.scroll_to(y=0, animate=False, force=True, immediate=True)
            self._take(result, cursor)
            self.post_message(self.Compared())

        def failed(error: Exception) -> None:
            self.clear(str(error))
            self.post_message(self.Compared())

        self._submit(compare, show, failed)
        request = self._request
        self.set_timer(_HOLD_SECONDS, lambda: self._clear_while_computing(request))

    @property
    def busy(self) -> bool:
        """Whether the change is still being computed."""
        return self._computing

    def clear(self, error_text: str = "") -> None:
        """Show no change, or an error."""
        self.dashboard.reader.cancel(self, ("change", self._request))
        self.error_text = error_text
        self.change, self.places, self.whole = None, [], True
        self._take(_Comparison(None, [], True, self._layout, [], []), 0)

    def _submit(
        self,
        compute: Callable[[Stop], _Comparison],
        show: Callable[[_Comparison], None],
        failed: Callable[[Exception], None],
    ) -> None:
        # Each request has its own slot: in one slot it would wait until a cancelled comparison has ended.
        self.dashboard.reader.cancel(self, ("change", self._request))
        self._request += 1
        self._computing, self.error_text = True, ""
        self._redact = self.dashboard.redact
        self.dashboard.reader.submit(self, ("change", self._request), compute, show, failed)

    def _clear_while_computing(self, request: int) -> None:
        if self._computing and request == self._request:
            self.change, self.places = None, []
            self._rows, self._stops = [], []
            self.count_changed()

    def _take(self, result: _Comparison, cursor: int) -> None:
        is_stale = self._redact != self.dashboard.redact  # a press has masked secrets since these rows were computed
        if is_stale:
            result = result._replace(rows=[], stops=[])
        self._computing, self._rows, self._stops, self._layout = False, result.rows, result.stops, result.layout
        self.count_changed()
        self.cursor = cursor
        self._show_change()
        if (is_stale or result.layout != self._fitting()) and self.change is not None:
            self._lay_out()

    @property
    def is_masked(self) -> bool:
        """Whether a value of the change is masked."""
        return any(MASK in span.text for row in self._rows for span in (*row.left, *(row.right or ())))

    def secrets_changed(self) -> None:
        """Lay out the rows again."""
        self._lay_out()

    def _lay_out(self) -> None:
        change, places, whole = self.change, self.places, self.whole
        if change is None or self._computing:
            return
        layout, hidden = self._fitting(), redaction_test(self.dashboard)

        def lay_out(_stop: Stop) -> _Comparison:
            rows = rows_of(change.key, places, whole, layout, hidden)
            return _Comparison(change, places, whole, layout, rows, stops_of(rows))

        def show(result: _Comparison) -> None:
            self._take(result, self._cursor_in(result.rows))

        self._submit(lay_out, show, lambda error: self.clear(str(error)))

    # --- side by side ------------------------------------------------------------------------------------------

    @property
    def split(self) -> bool:
        """Whether before and after are shown side by side on a screen that is wide enough."""
        return self._split

    @split.setter
    def split(self, split: bool) -> None:
        self._split = split
        self._lay_out()

    @property
    def too_narrow(self) -> bool:
        """Whether the screen is too narrow for before and after side by side."""
        return self._split and self.app.size.width < SIDE_BY_SIDE_COLUMNS

    def _fitting(self) -> Layout:
        bar = self.styles.scrollbar_size_vertical  # always reserved, so that the bar does not change the layout
        width = max(20, self.size.width - bar - 1 - (4 if self.marks else 0))
        return Layout(width, self._split and not self.too_narrow)

    def on_resize(self) -> None:
        """Wrap the rows again."""
        if self._layout != self._fitting():
            self._lay_out()

    # --- places ------------------------------------------------------------------------------------------------

    @property
    def place(self) -> int:
        """The index of the place under the cursor, or -1 if the row belongs to no place."""
        return self._rows[self.cursor].place if self.cursor < self.count else -1

    @property
    def stop(self) -> tuple[int, int]:
        """The number of the last stop of `step` at or before the cursor, from 1, and the number of stops."""
        number = bisect_right(self._stops, self.cursor)
        if number < len(self._stops) and (not number or self._rows[self._stops[number - 1]].place != self.place):
            number += 1  # the cursor is on the title of a text, before its first stop
        return number, len(self._stops)

    @property
    def all_listed(self) -> bool:
        """Whether every place has a row."""
        return not self._rows or self._rows[-1].place >= 0

    def _cursor_in(self, rows: list[DiffRow]) -> int:
        """Return the index of the row under the cursor in another layout, or of the nearest row of its place."""
        row = self._rows[self.cursor] if self.cursor < self.count else None
        if row is None:
            return 0
        number = max(
            (other.number for other in rows if other.place == row.place and other.number <= row.number), default=0
        )
        near = [index for index, other in enumerate(rows) if (other.place, other.number) == (row.place, number)]
        return next((index for index in near if rows[index].sign == row.sign), near[0] if near else 0)

    def step(self, by: int) -> bool:
        """Move to the next or previous change, and return whether there is one.

        Each changed stretch of a long text counts as a change.
        """
        if self._computing:
            return False
        index = bisect_right(self._stops, self.cursor) if by > 0 else bisect_left(self._stops, self.cursor) - 1
        if not 0 <= index < len(self._stops):
            return False
        self.cursor = self._stops[index]
        self._show_change()
        return True

    def _show_change(self) -> None:
        """Scroll to the change under the cursor, with the row above it, as far as there is room."""
        end = self.cursor
        while end + 1 < self.count and self._rows[end + 1].differs and not self._rows[end + 1].head:
            end += 1
        self.show_line(min(end, self.cursor + max(0, self.size.height - 2)))
        self.show_line(max(0, self.cursor - 1))

    def action_leave(self) -> None:
        """Go back to the list of keys."""
        self.post_message(self.Left())

    # --- painting ----------------------------------------------------------------------------------------------

    @property
    def count(self) -> int:
        return len(self._rows)

    def empty_text(self) -> list[str]:
        if self.error_text:
            return [*self.error_text.split("\n"), "R looks again"]
        return ["comparing…"] if self._computing else [] if self.key is None else ["no difference"]

    def render_row(self, index: int, cells: RowBuilder) -> None:
        row = self._rows[index]
        if self.marks is not None:
            box = BOXES[self.marks(row.place)] + " " if row.head else "    "
            cells.add(box, self.style_of("mark"))
        indent = " " * INDENT_COLUMNS if row.goes_on else ""
        roles = {"+": "added", "−": "removed", "~": "changed"}
        if row.right is None:
            sign = row.sign + " " if row.head or row.place < 0 else f"  {row.sign} "
            cells.add(sign + indent, self.style_of(roles.get(row.sign, "dim")))
            self._add_spans(row.left, cells)
            return
        half = self._layout.half
        cells.add(row.sign + " ", self.style_of(roles.get(row.sign, "dim")))
        left = RowBuilder(half, cells.base).add(indent)
        self._add_spans(row.left, left)
        cells.segments += left.fill()
        cells.left -= half
        cells.add("│", self.style_of("dim"))
        cells.add(f"{row.right_sign} {indent}", self.style_of(roles.get(row.right_sign, "dim")))
        self._add_spans(row.right, cells)

    def _add_spans(self, spans: tuple[StyledSpan, ...], cells: RowBuilder) -> None:
        for span in spans:
            style = self.style_of(span.role) if span.role else None
            if span.marked:  # reverse is visible without colours
                style = (style or Style()) + Style(reverse=True)
            cells.add(span.text, style)
