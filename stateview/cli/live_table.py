"""A table of keys and places at a terminal, kept up to date while others write, until Ctrl-C."""

from __future__ import annotations

import os
import signal
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from .. import codec
from ..manager import StateManager
from ..model import ABSENT
from ..states.changes import Change
from ..states.matching.patterns import Selection
from ..states.values.pointers import resolve_pointer, split_pointer
from .job_control import stop_process_group, wait_for_foreground
from .render import Style, columns_of, escape_cell, pad
from .results import plural

LOOK_SECONDS = 0.5  # between two looks at the size of the terminal, without a commit
NEW_SECONDS = 5.0  # a change this new is painted in the colour of its kind
_CELL_COLUMNS = 40
_KEY_COLUMNS = 48
_LINES_BESIDE = 2  # the heading and the last line

Row = tuple[str, str]  # a key, and the pointer of a place that has a row of its own


class Places:
    """What is watched: keys, each with the same pointers as columns; and single places, as `KEY#POINTER`.

    Args:
        words: keys, globs, pointers and places.
        keys: more keys and globs.

    """

    def __init__(self, words: list[str], keys: list[str]) -> None:
        self.pointers = [word for word in words if word.startswith("/")]
        places = [word.partition("#") for word in words if "#/" in word and not word.startswith("/")]
        patterns = [*keys, *(word for word in words if not word.startswith("/") and "#/" not in word)]
        for pointer in (*self.pointers, *(pointer for _, _, pointer in places)):
            split_pointer(pointer)  # an error here, and not once a change comes
        self._places = [(Selection([key]), pointer) for key, _, pointer in places]
        self._rows = Selection(patterns if patterns or places else None)
        self.keys = [*patterns, *(key for key, _, _ in places)] or None
        self.columns = [*self.pointers, *(["value"] if places or not self.pointers else [])]

    @property
    def has_pointers(self) -> bool:
        """Whether places inside values are watched, and not whole values alone."""
        return bool(self.pointers or self._places)

    def rows_of(self, key: str, value: Any) -> Iterator[tuple[Row, list[Any]]]:
        """Yield the rows of a key, each with a cell for each column."""
        if self._rows(key):
            cells = [_at(value, pointer) for pointer in self.pointers]
            whole = ABSENT if self.pointers and isinstance(value, dict | list) else value
            yield (key, ""), [*cells, whole][: len(self.columns)]
        for selection, pointer in self._places:
            if selection(key):
                yield (key, pointer), [*[ABSENT] * len(self.pointers), _at(value, pointer)]

    def changed(self, change: Change) -> Iterator[tuple[str, str, Any]]:
        """Yield key, pointer and new value of each watched place that a change touches."""
        for (key, place), before, after in self.sides(change):
            for column, old, new in zip(self.columns, before, after, strict=True):
                if differ(old, new):
                    yield key, place or ("" if column == "value" else column), new

    def sides(self, change: Change) -> Iterator[tuple[Row, list[Any], list[Any]]]:
        """Yield the rows of a changed key, with their cells before and after."""
        sides = self.rows_of(change.key, change.before), self.rows_of(change.key, change.after)
        for (row, before), (_, after) in zip(*sides, strict=True):
            yield row, before, after


def differ(old: Any, new: Any) -> bool:
    """Whether two values, or `ABSENT`, differ."""
    return old is not new and (old is ABSENT or new is ABSENT or codec.canonical(old) != codec.canonical(new))


def _at(value: Any, pointer: str) -> Any:
    return ABSENT if value is ABSENT else resolve_pointer(value, pointer)


class _Grid:
    """The rows on the screen, with the sign and the time of the last change of each cell."""

    def __init__(self, places: Places, style: Style) -> None:
        self._places, self._style = places, style
        self._cells: dict[Row, list[Any]] = {}
        self._changed: dict[Row, tuple[str, float]] = {}

    def put(self, key: str, value: Any) -> None:
        """Take the value of a key when the table begins."""
        self._cells.update(self._places.rows_of(key, value))

    def take(self, change: Change) -> None:
        """Take a change. The row of a place that is gone stays, without its value."""
        for row, before, after in self._places.sides(change):
            if any(map(differ, before, after)):
                gone, new = (all(cell is ABSENT for cell in cells) for cells in (after, before))
                self._changed[row] = "-" if gone else "+" if new else "~", time.monotonic()
            self._cells[row] = after

    def lines(self, columns: int, rows: int, note: str) -> list[str]:
        """Return the lines for a terminal of a size. If the rows do not fit, those that changed last are shown."""
        shown = sorted(self._cells)
        hidden = max(0, len(shown) - max(1, rows - _LINES_BESIDE))
        if hidden:
            newest = sorted(shown, key=lambda row: -self._changed.get(row, ("", 0.0))[1])
            shown = sorted(newest[: len(shown) - hidden])
        names = [escape_cell(f"{key}#{place}" if place else key) for key, place in shown]
        texts = [[_text(cell) for cell in self._cells[row]] for row in shown]
        width = min(_KEY_COLUMNS, max(map(columns_of, names), default=3))
        headings = [escape_cell(name) for name in self._places.columns]
        widths = [
            min(_CELL_COLUMNS, max(columns_of(heading), *(columns_of(cells[at]) for cells in texts), 1))
            for at, heading in enumerate(headings)
        ] if texts else [columns_of(heading) for heading in headings]  # fmt: skip
        now = time.monotonic()
        lines = [self._style.paint(_cut("  " + _joined("key", headings, width, widths) + "  changed", columns), "…")]
        for row, name, cells in zip(shown, names, texts, strict=True):
            sign, moment = self._changed.get(row, (" ", 0.0))
            age = f"{now - moment:.0f} s ago" if moment else ""
            line = _cut(f"{sign} {_joined(name, cells, width, widths)}  {age}".rstrip(), columns)
            lines.append(self._style.paint(line, sign) if moment and now - moment < NEW_SECONDS else line)
        more = f"{plural(hidden, 'more row')} · " if hidden else ""
        return [*lines, self._style.paint(_cut(f"{more}{note}", columns), "…")]


def _joined(name: str, cells: list[str], width: int, widths: list[int]) -> str:
    return "  ".join([pad(name, width), *(pad(cell, room) for cell, room in zip(cells, widths, strict=True))])


def _cut(line: str, columns: int) -> str:
    return line if columns_of(line) <= columns else pad(line, columns)


def _text(cell: Any) -> str:
    return "" if cell is ABSENT else escape_cell(codec.encode(cell).decode()[: _CELL_COLUMNS + 1])


def show(manager: StateManager, places: Places, timeout: float | None, colour: bool) -> None:
    """Show the table until Ctrl-C, or until no commit comes for `timeout` seconds. Its last lines stay on the terminal.

    The size is looked at before each painting, so a resize shows at once, or within `LOOK_SECONDS`. Ctrl-Z gives the
    terminal back, and the table is painted again when the process continues.
    """
    grid = _Grid(places, Style("", True, colour))
    view = manager.at("live")
    for entry in view.entries(keys=places.keys):
        grid.put(entry.key, entry.value)

    def lines(note: str) -> list[str]:
        size = os.get_terminal_size(sys.stdout.fileno())
        return grid.lines(size.columns or 80, size.lines or 24, note)

    def paint() -> None:
        _write("\x1b[H" + "\r\n".join(f"{line}\x1b[K" for line in lines("Ctrl-C ends")) + "\x1b[J")

    try:
        with _full_screen(paint):
            paint()
            for change in manager._looks(view.revision, places.keys, timeout, LOOK_SECONDS):
                if change is not None:
                    grid.take(change)
                paint()
    except KeyboardInterrupt:
        pass  # it is how a person ends the table
    _write("".join(f"{line}\n" for line in lines("ended")))


def _write(text: str) -> None:
    data = text.encode(errors="surrogatepass")
    while data:  # without a buffer: a signal handler may write in the middle of another call
        data = data[os.write(sys.stdout.fileno(), data) :]


@contextmanager
def _full_screen(paint: Callable[[], None]) -> Iterator[None]:
    """Paint on the other screen of the terminal, without a cursor, and without the keys that are pressed.

    `paint` is called when the process continues after Ctrl-Z, SIGTSTP or SIGSTOP.
    """
    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    silent = [*before[:3], before[3] & ~(termios.ECHO | termios.ICANON), *before[4:]]
    stopping = False

    def take() -> None:
        _write("\x1b[?1049h\x1b[?25l")
        termios.tcsetattr(terminal, termios.TCSADRAIN, silent)

    def give_back() -> None:
        termios.tcsetattr(terminal, termios.TCSAFLUSH, before)
        _write("\x1b[?25h\x1b[?1049l")

    def stop(*_: object) -> None:
        nonlocal stopping
        stopping = True
        give_back()
        stop_process_group()
        wait_for_foreground(terminal)
        take()
        stopping = False
        paint()

    def go_on(*_: object) -> None:
        if not stopping:  # after SIGSTOP, the screen is the other one still
            wait_for_foreground(terminal)
            termios.tcsetattr(terminal, termios.TCSADRAIN, silent)
            paint()

    acts = {signal.SIGTSTP: stop, signal.SIGCONT: go_on}
    handlers = {number: signal.signal(number, act) for number, act in acts.items()}
    take()
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        give_back()
