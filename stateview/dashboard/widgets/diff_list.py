"""The list of keys that differ, each with its sign, its mark and a summary of the change."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

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
_LARGE_VALUE_BYTES = 64_000  # the summary of larger values is their size
_MIN_KEY_COLUMNS = 10  # the summary leaves so much room to the key
_MAX_SUMMARIES = 5_000  # summaries in memory
_SUMMARIES_PER_READ = 100
_READ_SECONDS = 0.03  # the delay that collects missing summaries into one read


class DiffList(VirtualList):
    """Shows the keys of a `DiffIndex` that pass a `DiffFilter`. Summaries are read for the visible rows only.

    Args:
        marking: whether each row begins with a box.
        mark_labels: by kind, the text before the summary of a marked key, and a shorter text for narrow lists.

    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("l,right", "choose", "To the change", show=False, id="diff.open"),
    ]

    def __init__(
        self, *, marking: bool = False, mark_labels: dict[Kind, tuple[str, str]] | None = None, id: str | None = None
    ) -> None:
        super().__init__(id=id)
        self.marking = marking
        self.index = DiffIndex()
        self.filter = DiffFilter(self.index)
        self.touched: set[str] = set()  # keys that were written after they were listed
        self.empty_lines: list[str] = []
        self._mark_labels = mark_labels or {}
        self._sides: DiffSides | None = None
        self._summaries: dict[str, str] = {}
        self._missing: set[str] = set()  # painted keys without a summary

    def show(self, index: DiffIndex, filter: DiffFilter) -> None:
        """Show the keys of an index that pass a filter."""
        self.index, self.filter = index, filter
        self.count_changed()

    def compare(self, sides: DiffSides | None, changed: Callable[[str], bool] | None = None) -> None:
        """Read summaries from these states. Keys for which `changed` is false keep their summaries."""
        self._sides = sides
        self._missing.clear()
        self.dashboard.reader.cancel(self, "summaries")  # that request reads the earlier states
        if changed is None:
            self._summaries.clear()
        else:
            self._summaries = {key: text for key, text in self._summaries.items() if not changed(key)}
        self.refresh()

    def secrets_changed(self) -> None:
        """Read the summaries again."""
        self.compare(self._sides)

    @property
    def key(self) -> str | None:
        """The key under the cursor."""
        return self.index.keys[self.filter[self.cursor]] if self.cursor < len(self.filter) else None

    @property
    def count(self) -> int:
        return len(self.filter)

    def empty_text(self) -> list[str]:
        return self.empty_lines

    def render_row(self, index: int, cells: RowBuilder) -> None:
        position = self.filter[index]
        key, kind, mark = self.index.keys[position], self.index.kind(position), self.index.mark(position)
        if self.marking:
            cells.add(BOXES[mark] + " ", self.style_of("mark" if mark else "dim"))
        else:
            cells.add("▪" if mark else " ", self.style_of("mark"))
        if self.touched:
            cells.add("! " if key in self.touched else "  ", self.style_of("touched"))
        cells.add(f"{SIGNS[kind]} ", self.style_of(kind))
        room = cells.left
        long, short = self._mark_labels.get(kind, ("", "")) if mark else ("", "")
        label = long if len(long) + 2 <= room - _MIN_KEY_COLUMNS else short
        width = max(len(label) + 2 if label else 0, room * 2 // 5 if room >= 30 else 0)  # of the summary
        width = max(0, min(width, room - _MIN_KEY_COLUMNS))
        cells.add(fit_end(one_line(key), room - width), self.style_of("key"), room - width)
        if width:
            text = self._summary(key)
            cells.add(" " + (f"{label} {text}" if label else text), self.style_of(kind if label else "dim"), width)

    def _summary(self, key: str) -> str:
        text = self._summaries.get(key)
        if text is None and self._sides is not None:
            if not self._missing:
                self.set_timer(_READ_SECONDS, self._read)
            self._missing.add(key)
        return text or ""

    def _read(self) -> None:
        top, height = self.scroll_offset.y, self.size.height
        visible = (self.index.keys[self.filter[row]] for row in range(top, min(top + height, self.count)))
        keys = [key for key in visible if key in self._missing][:_SUMMARIES_PER_READ]
        sides, hidden = self._sides, redaction_test(self.dashboard)
        self._missing.clear()
        if not keys or sides is None:
            return

        def read(stop: Stop) -> dict[str, str]:
            summaries: dict[str, str] = {}
            for key in keys:
                if stop():
                    break
                _, old, new = next(sides.pairs([key]))
                sizes = [len(version.value or b"") for version in (old, new) if version is not None]
                if sum(sizes) > _LARGE_VALUE_BYTES:
                    summaries[key] = " → ".join(map(format_size, sizes))
                else:
                    difference = change(key, old, new)
                    summaries[key] = "" if difference is None else summary(difference, hidden)
            return summaries

        self.dashboard.reader.submit(self, "summaries", read, self._add_summaries, self._failed)

    def _add_summaries(self, summaries: dict[str, str]) -> None:
        if len(self._summaries) > _MAX_SUMMARIES:
            self._summaries.clear()
        self._summaries |= summaries
        self.refresh()

    def _failed(self, error: Exception) -> None:
        """Stop reading summaries: each paint would retry."""
        self._sides = None
        self.empty_lines = str(error).split("\n")
        self.refresh()


def redaction_test(app: Dashboard) -> Hidden:
    """Return a function that tells whether the value of a name is masked."""
    from ..display.redaction import is_redacted

    patterns = app.redact
    return (lambda name, *values: is_redacted(name, patterns, *values)) if patterns else (lambda *_: False)
