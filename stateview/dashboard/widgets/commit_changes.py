"""The keys that the commit under the cursor of the timeline changed, and the strip that shows where changes lie."""

from __future__ import annotations

from math import log2

from rich.segment import Segment
from textual.strip import Strip
from textual.widget import Widget

from ...manager import StateManager
from ..data.background import Stop
from ..data.diff_model import DiffFilter, DiffIndex, DiffProgress, DiffSides, collect, side
from ..display.themes import component_style
from .diff_list import DiffList

MAX_KEYS = 200  # keys of one commit that are listed
_HEIGHTS = "▁▂▃▄▅▆▇█"


class CommitChanges(DiffList, can_focus=False):
    """Follows the timeline. `w` opens the same changes on a screen of their own."""

    DEFAULT_CSS = "CommitChanges { height: 1fr; }"

    def follow(self, manager: StateManager, revision: int) -> None:
        """Show what the commit of a revision changed. The earlier changes stay until these are read."""
        if revision < 1:
            self.dashboard.reader.cancel(self, "commit")
            self._take(None)
            return

        def read(stop: Stop) -> tuple[DiffSides, DiffIndex] | None:
            backend, index = manager.backend, DiffIndex()
            sides = DiffSides(side(backend, str(revision - 1)), side(backend, str(revision)))
            progress = DiffProgress(lambda: stop() or len(index) >= MAX_KEYS)
            collect(sides.changes(progress), index.extend)
            return sides, index

        self.dashboard.reader.submit(self, "commit", read, self._take, self._not_read)

    def _take(self, found: tuple[DiffSides, DiffIndex] | None) -> None:
        sides, index = found if found is not None else (None, DiffIndex())
        self.empty_lines = ["nothing differs"] if found is not None else []
        self.show(index, DiffFilter(index))
        self.compare(sides)

    def _not_read(self, error: Exception) -> None:
        self._take(None)
        self.empty_lines = str(error).split("\n")
        self.refresh()


class DensityStrip(Widget):
    """One line: the commits in memory, the newest at the left, and how many keys each stretch of them changed."""

    COMPONENT_CLASSES = {"density--bar", "density--here"}  # noqa: RUF012
    DEFAULT_CSS = """
    DensityStrip { height: 1; background: $surface; }
    DensityStrip > .density--bar { color: $text-muted; }
    DensityStrip > .density--here { color: $text-accent; text-style: bold underline; }
    """

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self._keys: list[int] = []  # of each commit, the keys that it wrote
        self._at = -1  # the commit under the cursor; -1: none

    def show(self, keys: list[int], at: int) -> None:
        """Show how many keys each commit wrote, and which one has the cursor."""
        if (keys, at) != (self._keys, self._at):
            self._keys, self._at = keys, at
            self.refresh()

    def render_line(self, y: int) -> Strip:  # noqa: ARG002
        """Paint the line. The height of a column is that of its commit with the most keys, on a logarithmic scale."""
        width = self.size.width
        bar, here = component_style(self, "density--bar"), component_style(self, "density--here")
        columns = density(self._keys, width - 2)
        cursor = column_of(self._at, len(self._keys), width - 2)
        segments = [
            Segment(sign, self.rich_style + (here if number == cursor else bar)) for number, sign in enumerate(columns)
        ]
        return Strip([Segment(" ", self.rich_style), *segments]).extend_cell_length(width, self.rich_style)


def column_of(index: int, commits: int, width: int) -> int:
    """Return the column of a commit; -1 for none."""
    if index < 0 or commits <= 0:
        return -1
    return index if commits <= width else index * width // commits


def density(keys: list[int], width: int) -> str:
    """Return a sign for each column: how many keys the largest of its commits wrote. O(commits)."""
    columns = [0] * max(0, min(len(keys), width))
    for index, count in enumerate(keys):
        if columns:
            column = column_of(index, len(keys), len(columns))
            columns[column] = max(columns[column], count)
    whole = log2(1 + max(7, *columns, 0))
    return "".join(_HEIGHTS[round(log2(1 + max(0, count)) / whole * (len(_HEIGHTS) - 1))] for count in columns)
