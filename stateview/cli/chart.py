"""Draw numbers as a chart of block characters, without I/O. Importing a library for charts would take longer."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

SPREAD = "░"  # from the least to the greatest number of a column
_EIGHTHS = " ▁▂▃▄▅▆▇█"
_MOST_PER_POINT = 4  # columns of a point, if there are few


def chart(values: Sequence[float], columns: int, rows: int = 8) -> list[str]:
    """Return the lines of a chart: a bar for each number in order.

    If there are many, a bar is for neighbours: full up to their least, and shaded from there to their greatest.

    It begins at 0, unless the numbers lie far from 0 and close together: then just below the least. O(numbers).
    """
    top, least = max(values), min(values)
    labels = [short(top), short(least)]
    room = max(1, columns - max(map(len, labels)) - 2)
    points = _neighbours(values, room)
    wide = max(1, min(_MOST_PER_POINT, room // len(points)))
    base = min(0.0, least) if least <= top / 2 or least == top else least - (top - least) / (rows * 8 - 1)
    labels[1] = short(0 if base == 0 and least >= 0 else least)
    span = (top - base) or 1.0

    def height(number: float) -> int:
        found = round((number - base) / span * rows * 8) if top != base else rows * 4
        return max(1, found) if number != 0 or base < 0 else found

    heights = [(height(min(part)), height(max(part))) for part in points]
    margin = max(map(len, labels))
    lines = []
    for row in range(rows - 1, -1, -1):
        label = labels[0] if row == rows - 1 else labels[1] if row == 0 else ""
        bars = "".join(_cell(low - 8 * row, high - 8 * row) * wide for low, high in heights)
        lines.append(f"{label:>{margin}} ┤{bars}".rstrip())
    return lines


def _cell(low: int, high: int) -> str:
    """Return a bar's character in a row. Its least and greatest lie so many eighths above the lower edge of the row."""
    if low < 8 <= high:
        return _EIGHTHS[low] if low > 0 else SPREAD
    return _EIGHTHS[max(0, min(8, high))]


def _neighbours(values: Sequence[float], most: int) -> list[Sequence[float]]:
    """Split numbers into at most so many parts."""
    count = min(len(values), most)
    bounds = [number * len(values) // count for number in range(count + 1)]
    return [values[start:end] for start, end in pairwise(bounds)]


def short(number: float) -> str:
    """Return a number for the axis, such as `1.2M`. Small numbers are whole."""
    for least, power, unit in ((10**9, 9, "G"), (10**6, 6, "M"), (10**4, 3, "k")):
        if abs(number) >= least:
            return f"{number / 10**power:.4g}{unit}"
    return f"{number:.6g}"
