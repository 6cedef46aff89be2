"""The rows of a key list that are in memory, whatever the number of keys."""

from __future__ import annotations

from ...backends.protocol import KeySummary
from .key_source import Page


class KeyWindow:
    """Consecutive rows of a key source, with the total and the version of the source when the rows were read.

    `version` is None until rows of the present source have been read. `written` maps a key that was just written to
    the end of its mark, on the clock of `time.monotonic()`.
    """

    def __init__(self) -> None:
        self.start = 0
        self.rows: list[KeySummary] = []
        self.total: int | None = None
        self.version: int | None = None
        self.written: dict[str, float] = {}

    @property
    def end(self) -> int:
        """The index after the last row."""
        return self.start + len(self.rows)

    @property
    def count(self) -> int:
        """The number of keys, as far as the number is known."""
        return max(self.end, self.total or 0)

    def row_at(self, index: int) -> KeySummary | None:
        """Return the row at an index of the list, or None if the row is not in memory."""
        return self.rows[index - self.start] if self.start <= index < self.end else None

    def index_of(self, key: str) -> int | None:
        """Return the index of a key in the list, or None if its row is not in memory. O(rows)."""
        return next((index for index, row in enumerate(self.rows, self.start) if row.key == key), None)

    def take(self, page: Page) -> None:
        """Replace the rows by those of a page."""
        self.start, self.rows, self.total, self.version = page.start, page.rows, page.total, page.version

    def mark_written(self, rows: list[KeySummary], until: float) -> None:
        """Mark the keys that were written after the rows in memory were read."""
        if not self.rows:
            return
        revisions = {row.key: row.revision for row in self.rows}
        newest = max(revisions.values())
        for row in rows:
            if revisions.get(row.key, newest) < row.revision:
                self.written[row.key] = until

    def expire_marks(self, moment: float) -> bool:
        """Remove the marks that have ended. Returns whether there were any."""
        ended = [key for key, until in self.written.items() if until <= moment]
        for key in ended:
            del self.written[key]
        return bool(ended)
