"""Pages and counts of keys without their values: what `list_keys` and `count` run on a connection."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import apsw

from ..large_rows import LARGE_ROW_BYTES, LargeRowCache
from ..protocol import SUMMARY_BYTES, Head, KeySummary, StateAt
from ..stored_values import StoredValues
from . import packed
from .row_checksums import damaged_entry_error, select, unpacked

MAX_CUT_BYTES = 8192  # SQL cuts a value of up to this size; a longer value is opened as a BLOB, which reads its start

# ?1 and ?2 bound the keys, ?3 is the revision, ?4 the time. Expired entries come from the index on `expires`, so that
# skipping keys reads the index on `key` alone, and no row of the table.
_LIVE = """FROM entries WHERE key >= ?1 AND key < ?2
    AND rowid NOT IN (SELECT rowid FROM entries WHERE expires > 0 AND expires <= ?4)"""
_PAST_ENTRIES = "FROM entries WHERE key >= ?1 AND key < ?2 AND revision <= ?3 AND (expires = 0 OR expires > ?4)"
_PAST_VERSIONS = """FROM versions WHERE key >= ?1 AND key < ?2 AND revision <= ?3 AND until > ?3 AND value IS NOT NULL
    AND (expires = 0 OR expires > ?4)"""
_START = f"CASE WHEN octet_length(value) <= {MAX_CUT_BYTES} THEN substr(CAST(value AS BLOB), 1, {SUMMARY_BYTES}) END"
# SQLite reads through the whole value to reach the columns behind it. Of a large row they are therefore left out.
_BEHIND_VALUE = [
    f"CASE WHEN octet_length(value) <= {LARGE_ROW_BYTES} THEN {column} END"
    for column in ("revision", "time", "expires")
]
_SUMMARY = ", ".join(["key", "octet_length(value)", _START, *_BEHIND_VALUE, "rowid", "{table!r}"])
_STORED_VALUE = "key, CAST(value AS BLOB), revision, time, expires"
_SUPERSEDED_AT = "SELECT 1 FROM versions WHERE key = ? AND revision = ?"
_TYPES = (str, int, int, int, int)


class KeyRange(NamedTuple):
    """The visible keys from `low` up to, not including, `high`, in one state. "" is no bound.

    `past` is whether anything was committed after the state, so that `versions` must be read as well.
    """

    low: str
    high: str
    at: StateAt
    past: bool

    def query(self, columns: str) -> str:
        """Return the SELECT of these columns; `{table}` in them is the name of the table."""
        sources = {"entries": _PAST_ENTRIES, "versions": _PAST_VERSIONS} if self.past else {"entries": _LIVE}
        return " UNION ALL ".join(f"SELECT {columns.format(table=table)} {rows}" for table, rows in sources.items())

    def bindings(self) -> tuple[Any, ...]:
        """Return ?1 to ?4 of the query."""
        return self.low, self.high or b"", self.at.revision, self.at.time  # SQLite sorts every text below every blob


class SummaryReader(NamedTuple):
    """Reads summaries of rows from one connection, at one head."""

    db: apsw.Connection
    path: str
    values: StoredValues
    large_rows: LargeRowCache
    head: Head

    def page(self, keys: KeyRange, limit: int, skip: int, backwards: bool) -> list[KeySummary]:
        """Return a page of a range, in descending order if `backwards`.

        Raises:
            Damaged: a row has other types than its columns, or the index is not in order.

        """
        order = "ORDER BY key DESC" if backwards else "ORDER BY key"
        if skip:
            query = f"{keys.query('key')} {order} LIMIT 1 OFFSET ?5"
            first = self.db.execute(query, (*keys.bindings(), skip)).fetchone()
            if first is None:
                return []
            keys = keys._replace(high=first[0] + "\0") if backwards else keys._replace(low=first[0])
        rows: list[KeySummary] = []
        for row in (self._summaries if self.values.plain else self._unpacked)(keys, f"{order} LIMIT ?5", limit):
            if (type(row.key), type(row.size), type(row.revision), type(row.time), type(row.expires)) != _TYPES:
                raise damaged_entry_error(self.path, str(row.key))
            if rows and (rows[-1].key <= row.key if backwards else rows[-1].key >= row.key):
                raise damaged_entry_error(self.path, row.key)
            rows.append(row)
        return rows

    def _summaries(self, keys: KeyRange, order: str, limit: int) -> Iterator[KeySummary]:
        """Read summaries of plain values: SQLite finds their size and their start."""
        rows = select(self.db, f"{keys.query(_SUMMARY)} {order}", (*keys.bindings(), limit))
        for key, size, start, revision, time, expires, rowid, table in rows:
            if size == 0:
                value = unpacked(packed.chain(self.db, self.values), key, revision, self.path)
                yield KeySummary(key, len(value), value[:SUMMARY_BYTES], revision, time, expires)
            elif type(size) is int and size > LARGE_ROW_BYTES:
                yield self._large(key, size, rowid, table)
            else:
                first_bytes = start if start is not None else self._start(rowid, table)
                yield KeySummary(key, size, first_bytes, revision, time, expires)

    def _unpacked(self, keys: KeyRange, order: str, limit: int) -> Iterator[KeySummary]:
        """Read summaries of values whose stored form is not the value: each is unpacked whole, one at a time."""
        rows = self.db.execute(f"{keys.query(_STORED_VALUE)} {order}", (*keys.bindings(), limit))
        for key, stored, revision, time, expires in rows:
            if (type(key), type(stored), type(revision)) != (str, bytes, int):
                raise damaged_entry_error(self.path, str(key))
            if stored:
                yield self.values.summary(key, stored, revision, time, expires)
            elif self.values.error is not None:
                size = packed.sizes(self.db, key, revision)[0]
                yield KeySummary(key, size, b"", revision, time, expires, sealed=True)
            else:
                value = unpacked(packed.chain(self.db, self.values), key, revision, self.path)
                yield KeySummary(key, len(value), value[:SUMMARY_BYTES], revision, time, expires)

    def _large(self, key: str, size: int, rowid: int, table: str) -> KeySummary:
        """Return the summary of a large value, from the cache where it holds the row that is live."""
        cached = self.large_rows.find(key, self.head) if table == "entries" else None
        if cached is not None and cached.size == size and not select(self.db, _SUPERSEDED_AT, (key, cached.revision)):
            return cached
        (behind,) = select(self.db, f"SELECT revision, time, expires FROM {table} WHERE rowid = ?", (rowid,))
        row = KeySummary(key, size, self._start(rowid, table), *behind)
        if table == "entries":
            self.large_rows.put(row, self.head)
        return row

    def _start(self, rowid: int, table: str) -> bytes:
        blob = self.db.blob_open("main", table, "value", rowid, False)
        try:
            return bytes(blob.read(SUMMARY_BYTES))
        finally:
            blob.close()


def count(db: apsw.Connection, keys: KeyRange) -> int:
    """Count the keys of a range. O(keys), of the past O(versions)."""
    return int(db.execute(f"SELECT count(*) FROM ({keys.query('1')})", keys.bindings()).get)
