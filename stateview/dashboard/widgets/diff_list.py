"""The keys that differ, each with its sign, its mark, and in a few words how."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, cast

from textual.binding import Binding, BindingType

from ...model import Kind
from ...states.compare import change
from ..data.background import Stop
from ..data.diff_excerpts import Hidden, summary
from ..data.diff_model import NONE, PARTLY, WHOLE, DiffFilter, DiffIndex, DiffSides
from ..display.text import SIGNS, RowBuilder, fit_end, format_size, one_line
from .virtual_list import VirtualList

if TYPE_CHECKING:
    from ..app import Dashboard

BOXES = {NONE: "[ ]", PARTLY: "[-]", WHOLE: "[x]"}
_LARGE_VALUE_BYTES = 64_000  # bytes of a value of which a list says its size alone
_MIN_KEY_COLUMNS = 10  # columns that a key has at least, beside what is said of it
_MAX_SUMMARIES = 5_000  # summaries that are kept
_SUMMARIES_PER_READ = 100  # summaries that are read at once
_READ_SECONDS = 0.03  # seconds between two readings of summaries


class DiffList(VirtualList):
    """Shows what is in a `DiffIndex`, through a `DiffFilter`. Summaries are read for the lines that are seen.

    Args:
        marking: whether each line begins with a box.
        said: what to say of a marked key of a kind before its summary, and shorter where there is little room.

    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("l,right", "choose", "To the change", show=False, id="diff.open"),
    ]

    def __init__(
        self, *, marking: bool = False, said: dict[Kind, tuple[str, str]] | None = None, id: str | None = None
    ) -> None:
        super().__init__(id=id)
        self.marking = marking
        self.found = DiffIndex()
        self.shown = DiffFilter(self.found)
        self.touched: set[str] = set()  # keys that were written since they were listed
        self.said: list[str] = []  # what an empty list says
        self._said = said or {}
        self._sides: DiffSides | None = None
        self._summaries: dict[str, str] = {}
        self._wanted: set[str] = set()

    def show(self, found: DiffIndex, shown: DiffFilter) -> None:
        """Show other keys, or the same through another filter."""
        self.found, self.shown = found, shown
        self.count_changed()

    def compare(self, sides: DiffSides | None, changed: Callable[[str], bool] | None = None) -> None:
        """Take summaries from these states; of keys that have not changed the old ones stay."""
        self._sides = sides
        self._wanted.clear()
        cast("Dashboard", self.app).reader.cancel(self, "summaries")  # it reads the states before
        if changed is None:
            self._summaries.clear()
        else:
            self._summaries = {key: text for key, text in self._summaries.items() if not changed(key)}
        self.refresh()

    @property
    def key(self) -> str | None:
        """The key under the cursor."""
        return self.found.keys[self.shown[self.cursor]] if self.cursor < len(self.shown) else None

    @property
    def count(self) -> int:
        """See `VirtualList.count`."""
        return len(self.shown)

    def empty_text(self) -> list[str]:
        """See `VirtualList.empty_text`."""
        return self.said

    def render_row(self, index: int, cells: RowBuilder) -> None:
        """See `VirtualList.render_row`."""
        place = self.shown[index]
        key, kind, mark = self.found.keys[place], self.found.kind(place), self.found.mark(place)
        if self.marking:
            cells.add(BOXES[mark] + " ", self.style_of("mark" if mark else "dim"))
        else:
            cells.add("▪" if mark else " ", self.style_of("mark"))
        if self.touched:
            cells.add("! " if key in self.touched else "  ", self.style_of("touched"))
        cells.add(f"{SIGNS[kind]} ", self.style_of(kind))
        room = cells.left
        words, word = self._said.get(kind, ("", "")) if mark else ("", "")
        said = words if len(words) + 2 <= room - _MIN_KEY_COLUMNS else word
        beside = max(len(said) + 2 if said else 0, room * 2 // 5 if room >= 30 else 0)
        beside = max(0, min(beside, room - _MIN_KEY_COLUMNS))
        cells.add(fit_end(one_line(key), room - beside), self.style_of("key"), room - beside)
        if beside:
            text = self._summary(key)
            cells.add(" " + (f"{said} {text}" if said else text), self.style_of(kind if said else "dim"), beside)

    def _summary(self, key: str) -> str:
        text = self._summaries.get(key)
        if text is None and self._sides is not None:
            if not self._wanted:
                self.set_timer(_READ_SECONDS, self._read)
            self._wanted.add(key)
        return text or ""

    def _read(self) -> None:
        top, height = self.scroll_offset.y, self.size.height
        seen = range(top, min(top + height, self.count))
        keys = [key for key in (self.found.keys[self.shown[index]] for index in seen) if key in self._wanted][
            :_SUMMARIES_PER_READ
        ]
        sides, hidden = self._sides, hiding(cast("Dashboard", self.app))
        self._wanted.clear()
        if not keys or sides is None:
            return

        def read(stop: Stop) -> dict[str, str]:
            found: dict[str, str] = {}
            for key in keys:
                if stop():
                    break
                _, old, new = next(sides.pairs([key]))
                sizes = [len(one.value or b"") for one in (old, new) if one is not None]
                if sum(sizes) > _LARGE_VALUE_BYTES:
                    found[key] = " → ".join(map(format_size, sizes))
                else:
                    one = change(key, old, new)
                    found[key] = "" if one is None else summary(one, hidden)
            return found

        board = cast("Dashboard", self.app)
        board.reader.submit(self, "summaries", read, self._took, self._failed)

    def _took(self, found: dict[str, str]) -> None:
        if len(self._summaries) > _MAX_SUMMARIES:
            self._summaries.clear()
        self._summaries |= found
        self.refresh()

    def _failed(self, error: Exception) -> None:
        """Remember that a summary could not be read, so that it is not tried at every paint."""
        self._sides = None
        self.said = str(error).split("\n")
        self.refresh()


def hiding(board: Dashboard) -> Hidden:
    """Whether what a name stands for is not to be seen."""
    from ..display.redaction import is_redacted

    patterns = board.redact
    return (lambda name: is_redacted(name, patterns)) if patterns else (lambda _name: False)
