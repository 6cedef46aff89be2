"""A long string of a JSON value as rows of the screen. No terminal code."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

TEXT_CHARACTERS = 1_000_000  # characters of one string that are listed when it is opened
TEXT_ROWS = 20_000  # rows of one string that are listed
LONG_CHARACTERS = 80  # a longer string can be opened, to be read in rows


class TextRow(NamedTuple):
    """One row of a text.

    Attributes:
        text: its characters.
        goes_on: whether it continues the line of the row above.
        note: whether it holds no part of the text, but says that more follows.

    """

    text: str
    goes_on: bool = False
    note: bool = False


def text_lines(text: str, width: int, full_size: str = "") -> list[TextRow]:
    """Return a text as rows, wrapped between words, and a note if some are left out. O(TEXT_CHARACTERS).

    Args:
        text: the text, or its start.
        width: the columns of a row.
        full_size: the size of the whole text, if `text` is only its start.

    """
    rows = list(islice(_rows(text[:TEXT_CHARACTERS], width), TEXT_ROWS))
    if full_size or len(text) > TEXT_CHARACTERS or len(rows) == TEXT_ROWS:
        size = full_size or f"{len(text):,} characters"
        rows.append(TextRow(f"the start is shown, of {size}; y has the command that prints all", note=True))
    return rows


def _rows(text: str, width: int) -> Iterator[TextRow]:
    for line in text.split("\n"):
        start = 0
        for end in row_ends(line, width):
            yield TextRow(line[start:end], goes_on=start > 0)
            start = end


def row_ends(line: str, width: int) -> Iterator[int]:
    """Yield where each row of a line ends: after the last blank that fits, but inside a word that fills half a row.

    The blank stays on its row, so that the rows together are the line.
    """
    start, step = 0, characters_per_row(line, width)
    while len(line) - start > step:
        blank = line.rfind(" ", start + step // 2, start + step)
        start = blank + 1 if blank >= 0 else start + step
        yield start
    yield len(line)


def has_lines(text: str) -> bool:
    """Whether a string can be opened, to be read in rows."""
    return len(text) > LONG_CHARACTERS or "\n" in text


def characters_per_row(line: str, width: int) -> int:
    """Return how many characters of a line fit on a row. A character can take two columns."""
    return width if line.isascii() else max(1, width // 2)


def line_at(rows: list[TextRow], at: int) -> int:
    """Return the index of the row that shows character `at` of the text; of the last row if none does."""
    end = 0
    for index, row in enumerate(rows):
        end += 0 if row.goes_on or not index else 1  # the newline before the row
        if row.note or at < end + len(row.text):
            return index
        end += len(row.text)
    return len(rows) - 1


def start_of(rows: list[TextRow], index: int) -> int:
    """Return the position in the text of a row's first character."""
    return sum(len(row.text) for row in rows[:index]) + sum(not row.goes_on for row in rows[1 : index + 1])


def listed_characters(text: str, width: int) -> int:
    """Return how many characters of a text `text_lines` lists. O(TEXT_CHARACTERS)."""
    if len(text) < TEXT_ROWS:
        return len(text)
    rows = islice(_rows(text[:TEXT_CHARACTERS], width), TEXT_ROWS)
    return sum(len(row.text) + (not row.goes_on) for row in rows) - 1
