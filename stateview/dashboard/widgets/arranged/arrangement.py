"""Where the panes of the main screen stand. A function of the size, the focus and the moved borders, without I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from textual.geometry import Region

MEDIUM, WIDE = 80, 120  # columns: from MEDIUM on the screen has two columns of panes, from WIDE on three
TALL = 26  # rows of the panes: from here on two panes find room above each other
MIN_COLUMNS, MIN_ROWS = 18, 3  # of a pane, its borders included
_SIDE = ("namespaces", "timeline", "steps")
_SIDE_COLUMNS = (34, 56)  # of the column at the side, as long as nobody has moved its border
_SHORT_ROWS = 5  # of the namespaces without the focus, on a short screen


class Split(NamedTuple):
    """Two boxes beside or above each other. `share` is that of the first box, while the border is not moved."""

    name: str
    beside: bool
    first: Box
    second: Box
    share: float


Box = str | Split  # the name of a pane, or two boxes


class Divider(NamedTuple):
    """The border between two boxes.

    Attributes:
        name: of the split.
        beside: whether it moves to the left and right; else up and down.
        at: the column or row at which the second box begins.
        across: the first and the last column or row of the other direction.
        area: where both boxes stand.
        panes: the names of all panes in both boxes.
        least: the least columns or rows of the two boxes.

    """

    name: str
    beside: bool
    at: int
    across: tuple[int, int]
    area: Region
    panes: frozenset[str]
    least: tuple[int, int]

    @property
    def length(self) -> int:
        """The columns or rows that the two boxes share."""
        return self.area.width if self.beside else self.area.height

    @property
    def start(self) -> int:
        """The first column or row of both boxes."""
        return self.area.x if self.beside else self.area.y

    def share_at(self, at: int) -> float:
        """Return the share of the first box if the border stood at another column or row."""
        first, second = self.least
        inside = max(first, min(at - self.start, self.length - second))
        return round(max(0.0, min(1.0, inside / max(1, self.length))), 4)

    def has(self, x: int, y: int) -> bool:
        """Whether a cell belongs to the border: each box draws a line of its own."""
        along, other = (x, y) if self.beside else (y, x)
        return along in (self.at - 1, self.at) and self.across[0] <= other <= self.across[1]


class Arrangement(NamedTuple):
    """The regions of the visible panes by name, and the borders between them."""

    regions: dict[str, Region]
    dividers: list[Divider]


class Wanted(NamedTuple):
    """What is to be arranged.

    Attributes:
        focus: the pane with the focus.
        zoomed: whether it alone is shown.
        has_runs: whether there is a pane of steps.
        step_rows: the most rows that the pane of steps needs.

    """

    focus: str = "keys"
    zoomed: bool = False
    has_runs: bool = False
    step_rows: int = 1000


def arrange(width: int, height: int, wanted: Wanted, shares: Mapping[str, float]) -> Arrangement:
    """Arrange the panes.

    Args:
        width: columns for all panes.
        height: rows for all panes.
        wanted: which panes are to be seen.
        shares: of the first box of each split whose border was moved, by the name of the split.

    """
    found = Arrangement({}, [])
    box = wanted.focus if wanted.zoomed else _box(width, height, wanted)
    _place(box, Region(0, 0, width, height), shares, found)
    return found


def _box(width: int, height: int, wanted: Wanted) -> Box:
    focus, follows = wanted.focus, wanted.focus == "timeline"
    side = _side(height, wanted)
    if width < MEDIUM:
        return side if focus in _SIDE else focus
    keys: Box = Split("changes", False, "keys", "changes", 0.66) if follows else "keys"
    if width >= WIDE:
        least, most = _SIDE_COLUMNS
        share = max(least, min(int(width * 0.28), most)) / width
        return Split("side", True, side, Split("value", True, keys, "value", 0.5), share)
    if focus in ("namespaces", "steps") or (follows and height < TALL):
        return Split("medium-side", True, side, keys, max(_SIDE_COLUMNS[0], int(width * 0.28)) / width)
    left: Box = "keys"
    value: Box = "value"
    if height >= TALL:
        left = Split("medium-timeline", False, "keys", "timeline", 0.58)
        value = Split("medium-changes", False, "value", "changes", 0.58) if follows else "value"
    return Split("medium-value", True, left, value, 5 / 11)


def _side(height: int, wanted: Wanted) -> Box:
    """Return the namespaces above the timeline, with the steps below. A short screen gives the focus most rows."""
    focus = wanted.focus
    rest: Box = "timeline"
    short = height < TALL
    left = height - (_SHORT_ROWS if short and focus != "namespaces" else height // 3)
    if wanted.has_runs:
        share = 0.5 if not short or focus == "namespaces" else 1 / 3 if focus == "steps" else 2 / 3
        if left * (1 - share) > wanted.step_rows:  # what a short list leaves free is for the timeline
            share = 1 - wanted.step_rows / max(1, left)
        rest = Split("steps", False, "timeline", "steps", share)
    share = (left and 1 - left / max(1, height)) if not (short and focus == "namespaces") else 2 / 3
    return Split("namespaces", False, "namespaces", rest, share)


def _least(box: Box, beside: bool) -> int:
    """Return the least columns of a box, or its least rows."""
    if isinstance(box, str):
        return MIN_COLUMNS if beside else MIN_ROWS
    first, second = _least(box.first, beside), _least(box.second, beside)
    return first + second if box.beside == beside else max(first, second)


def _place(box: Box, area: Region, shares: Mapping[str, float], found: Arrangement) -> frozenset[str]:
    """Place a box, and return the names of its panes."""
    if isinstance(box, str):
        found.regions[box] = area
        return frozenset((box,))
    length = area.width if box.beside else area.height
    least = _least(box.first, box.beside), _least(box.second, box.beside)
    if sum(least) > length:
        least = length * least[0] // sum(least), length - length * least[0] // sum(least)
    at = max(least[0], min(round(length * shares.get(box.name, box.share)), length - least[1]))
    x, y, width, height = area
    if box.beside:
        first, second = Region(x, y, at, height), Region(x + at, y, width - at, height)
        across = y, y + height - 1
    else:
        first, second = Region(x, y, width, at), Region(x, y + at, width, height - at)
        across = x, x + width - 1
    panes = _place(box.first, first, shares, found) | _place(box.second, second, shares, found)
    found.dividers.append(Divider(box.name, box.beside, at + (x if box.beside else y), across, area, panes, least))
    return panes


def divider_of(arrangement: Arrangement, pane: str, beside: bool) -> Divider | None:
    """Return the border nearest to a pane that moves in a direction; None if its pane fills that direction."""
    near = [divider for divider in arrangement.dividers if divider.beside == beside and pane in divider.panes]
    return min(near, key=lambda divider: divider.length, default=None)
