"""Stored text for the screen: inert, bounded, and cut to columns. Also numbers and times as text."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style

from ...cli.render import escape_cell, pad
from ...model import to_datetime

MAX_CHARACTERS = 2_000  # characters of one stored text that are read to paint one row
SIGNS = {"added": "+", "removed": "−", "changed": "~"}


def one_line(text: str, bound: int = MAX_CHARACTERS) -> str:
    """Return the first `bound` characters of a stored text as one inert line. O(bound)."""
    return escape_cell(text if len(text) <= bound else text[:bound] + "…")


def fit_end(text: str, width: int) -> str:
    """Return a line in exactly `width` columns: cut at its start, or filled with blanks."""
    cut = cut_start(text, width)
    return pad("…" + text[cut:] if cut else text, width)


def cut_start(text: str, width: int) -> int:
    """Return how many characters to cut from the start so that the rest fits after a `…`; 0 if the text fits."""
    if cell_len(text) <= width:
        return 0
    start = max(0, len(text) - width + 1)
    while start < len(text) and cell_len(text[start:]) > width - 1:
        start += 1
    return start


def format_size(count: int) -> str:
    """Return a number of bytes in at most seven columns, such as `54 B`, `1.2 kB`, `48.0 MB`."""
    if count < 1000:
        return f"{count} B"
    power = min(3, (len(str(count)) - 1) // 3)
    scaled = count / 1000**power
    if scaled >= 999.95 and power < 3:  # would be rounded to 1000.0
        power, scaled = power + 1, scaled / 1000
    return f"{scaled:.1f} {['B', 'kB', 'MB', 'GB'][power]}"


def format_count(number: int | None) -> str:
    """Return a count with separated thousands; `…` for None, a count that is not known yet."""
    return "…" if number is None else f"{number:,}"


def format_clock(micros: int) -> str:
    """Return a stored time (microseconds, UTC) as local time, or as date and time if it is not today."""
    moment = to_datetime(micros).astimezone()
    today = datetime.now(UTC).astimezone().date()
    return moment.strftime("%H:%M:%S" if moment.date() == today else "%Y-%m-%d %H:%M")


def format_age(micros: int, now: int) -> str:
    """Return the age of a time in the largest whole unit: `3 s`, `12 min`, `5 h`, `9 d`; `now` below a second.

    A time that is still to come, since the clock was set back, begins with a plus: `+9 d`. 0 stands for no known time.
    """
    if not micros:
        return "-"
    ahead = micros - now
    return f"+{format_duration(ahead / 1_000_000)}" if ahead >= 1_000_000 else format_duration(-ahead / 1_000_000)


def format_ago(micros: int, now: int) -> str:
    """Return the age of a time in words: `3 s ago`, `just now`."""
    if not micros:
        return "at an unknown time"
    if micros - now >= 1_000_000:
        return f"in {format_duration((micros - now) / 1_000_000)}"
    return "just now" if now - micros < 1_000_000 else f"{format_age(micros, now)} ago"


def format_duration(seconds: float) -> str:
    """Return a duration in the largest whole unit; `now` below a second."""
    if seconds < 1:
        return "now"
    for limit, step, unit in ((60, 1, "s"), (3600, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{int(seconds / step)} {unit}"
    return f"{timedelta(seconds=seconds).days:,} d"


class RowBuilder:
    """Builds a row from segments until its width is full. `add` makes stored text inert; no caller does."""

    def __init__(self, width: int, base: Style) -> None:
        self.left = width
        self.base = base
        self.segments: list[Segment] = []

    def add(self, text: str, style: Style | None = None, width: int | None = None) -> RowBuilder:
        """Append a text in exactly `width` columns, or in as many as it needs."""
        if self.left > 0:
            line = one_line(text, 4 * self.left + 8)
            columns = cell_len(line) if width is None else width
            columns = min(columns, self.left)
            self.segments.append(Segment(pad(line, columns), self.base if style is None else self.base + style))
            self.left -= columns
        return self

    def fill(self) -> list[Segment]:
        """Return the segments, filled with blanks to the full width."""
        if self.left > 0:
            self.segments.append(Segment(" " * self.left, self.base))
            self.left = 0
        return self.segments
