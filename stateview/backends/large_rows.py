"""A cache of the rows of large values, so that a list of keys does not read these values again."""

from __future__ import annotations

from .protocol import Head, KeySummary

LARGE_ROW_BYTES = 1_000_000  # of a value; reading a smaller value again is fast enough
_MAX_LARGE_ROWS = 100


class LargeRowCache:
    """Rows of large values that were live at some revision.

    A row stays valid until the history holds its version as superseded.
    """

    def __init__(self) -> None:
        self.rows: dict[str, tuple[KeySummary, int]] = {}
        self.lineage = ""

    def find(self, key: str, head: Head) -> KeySummary | None:
        """Return the cached row of a key, or None.

        The caller must check that the history does not hold the row's version as superseded. A row that was last seen
        below the floor is ignored, because the history can no longer show whether its version was superseded.
        """
        row, seen = self.rows.get(key, (None, 0))
        if row is None or self.lineage != head.lineage or head.floor > seen:
            return None
        self.rows[key] = row, head.revision
        return row

    def put(self, row: KeySummary, head: Head) -> None:
        """Cache a row that is live at this head."""
        if self.lineage != head.lineage or len(self.rows) >= _MAX_LARGE_ROWS:
            self.rows, self.lineage = {}, head.lineage
        self.rows[row.key] = row, head.revision
