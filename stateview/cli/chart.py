"""Draw numbers as a chart of block characters, without I/O. Importing a library for charts would take longer."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

_EIGHTHS = " ▁▂▃▄▅▆▇█"
_ROWS = 8
_MOST_PER_POINT = 4  # columns of a point, if there are few


def chart(values: Sequence[float], columns: int) -> list[str]:
    """Return the lines of a chart: a bar for each number in order, or for the mean of neighbours if there are many.

    It begins at 0, unless the numbers lie far from 0 and close together: then just below the least. O(numbers).
    """
    top, least = max(values), min(values)
    labels = [short(top), short(least)]
    room = max(1, columns - max(map(len, labels)) - 2)
    points = _means(values, room)
    wide = max(1, min(_MOST_PER_POINT, room // len(points)))
    base = min(0.0, least) if least <= top / 2 or least == top else least - (top - least) / (_ROWS * 8 - 1)
    labels[1] = short(0 if base == 0 and least >= 0 else least)
    span = (top - base) or 1.0
    heights = [round((point - base) / span * _ROWS * 8) if top != base else _ROWS * 4 for point in points]
    heights = [
        max(1, height) if point != 0 or base < 0 else height for height, point in zip(heights, points, strict=True)
    ]
    margin = max(map(len, labels))
    lines = []
    for row in range(_ROWS - 1, -1, -1):
        label = labels[0] if row == _ROWS - 1 else labels[1] if row == 0 else ""
        bars = "".join(_EIGHTHS[max(0, min(8, height - 8 * row))] * wide for height in heights)
        lines.append(f"{label:>{margin}} ┤{bars}".rstrip())
    return lines


def _means(values: Sequence[float], most: int) -> list[float]:
    """Return at most so many numbers: the means of neighbours."""
    count = min(len(values), most)
    bounds = [number * len(values) // count for number in range(count + 1)]
    parts = [values[start:end] for start, end in pairwise(bounds)]
    return [sum(part) / len(part) for part in parts]


def short(number: float) -> str:
    """Return a number for the axis, such as `1.2M`. Small numbers are whole."""
    for least, power, unit in ((10**9, 9, "G"), (10**6, 6, "M"), (10**4, 3, "k")):
        if abs(number) >= least:
            return f"{number / 10**power:.4g}{unit}"
    return f"{number:.6g}"
