"""Pages of keys without their values, from SQLite: found in the index on the key, of each value only the start read."""

from __future__ import annotations

from typing import Any

import apsw

from ..large_rows import LARGE_ROW_BYTES, LargeRowCache
from ..protocol import SUMMARY_BYTES, Head, KeySummary, StateAt
from .row_checksums import select

CUT_BYTES = 8192  # bytes: a longer value is not read to be cut, but opened at its start

# ?1 and ?2 bound the keys, ?3 is the revision, ?4 the time. What has expired is found in an index of its own, so that
# to pass over keys touches no row of the table.
_LIVE = """FROM entries WHERE key >= ?1 AND key < ?2
    AND rowid NOT IN (SELECT rowid FROM entries WHERE expires > 0 AND expires <= ?4)"""
_OLDER = "FROM entries WHERE key >= ?1 AND key < ?2 AND revision <= ?3 AND (expires = 0 OR expires > ?4)"
_SUPERSEDED = """FROM versions WHERE key >= ?1 AND key < ?2 AND revision <= ?3 AND until > ?3 AND value IS NOT NULL
    AND (expires = 0 OR expires > ?4)"""
# What a row holds behind a huge value is found by reading through all of that: only where it must be.
_START = f"CASE WHEN octet_length(value) <= {CUT_BYTES} THEN substr(CAST(value AS BLOB), 1, {SUMMARY_BYTES}) END"
_BEHIND = [
    f"CASE WHEN octet_length(value) <= {LARGE_ROW_BYTES} THEN {column} END"
    for column in ("revision", "time", "expires")
]
_SUPERSEDED_AT = "SELECT 1 FROM versions WHERE key = ? AND revision = ?"
_TYPES = (str, int, int, int, int)


def _query(columns: str, past: bool) -> str:
    sources = {"entries": _OLDER, "versions": _SUPERSEDED} if past else {"entries": _LIVE}
    return " UNION ALL ".join(f"SELECT {columns.format(table=table)} {rows}" for table, rows in sources.items())


def page(
    db: apsw.Connection, low: str, high: str, point: StateAt, past: bool, limit: int, skip: int, backwards: bool,
    head: Head, huge: LargeRowCache,
) -> list[KeySummary] | str:  # fmt: skip
    """See `Backend.list_keys`; live entries at the point's time unless `past`. In key order, or reverse.

    Returns the key instead where a row is not what was written.
    """
    order = "ORDER BY key DESC" if backwards else "ORDER BY key"
    if skip:
        query = f"{_query('key', past)} {order} LIMIT 1 OFFSET ?5"
        first = db.execute(query, (*_given(low, high, point), skip)).fetchone()
        if first is None:
            return []
        low, high = (low, first[0] + "\0") if backwards else (first[0], high)
    columns = ", ".join(["key", "octet_length(value)", _START, *_BEHIND, "rowid", "{table!r}"])
    query = f"{_query(columns, past)} {order} LIMIT ?5"
    rows: list[KeySummary] = []
    for key, size, start, *told, rowid, table in select(db, query, (*_given(low, high, point), limit)):
        if type(size) is int and size > LARGE_ROW_BYTES:
            row = _huge(db, key, size, rowid, table, head, huge)
        else:
            row = KeySummary(key, size, start if start is not None else _start(db, rowid, table), *told)
        if (type(row.key), type(row.size), type(row.revision), type(row.time), type(row.expires)) != _TYPES:
            return str(key)
        if rows and (rows[-1].key <= row.key if backwards else rows[-1].key >= row.key):
            return row.key  # in the index, a key has rotted into another
        rows.append(row)
    return rows


def _huge(
    db: apsw.Connection, key: str, size: int, rowid: int, table: str, head: Head, huge: LargeRowCache
) -> KeySummary:  # fmt: skip
    known = huge.find(key, head) if table == "entries" else None
    if known is not None and known.size == size and not select(db, _SUPERSEDED_AT, (key, known.revision)):
        return known
    told = select(db, f"SELECT revision, time, expires FROM {table} WHERE rowid = ?", (rowid,))
    row = KeySummary(key, size, _start(db, rowid, table), *told[0])
    if table == "entries":
        huge.put(row, head)
    return row


def _start(db: apsw.Connection, rowid: int, table: str) -> bytes:
    blob = db.blob_open("main", table, "value", rowid, False)
    try:
        return bytes(blob.read(SUMMARY_BYTES))
    finally:
        blob.close()


def count(db: apsw.Connection, low: str, high: str, point: StateAt, past: bool) -> int:
    """See `Backend.count`."""
    return int(db.execute(f"SELECT count(*) FROM ({_query('1', past)})", _given(low, high, point)).get)


def _given(low: str, high: str, point: StateAt) -> tuple[Any, ...]:
    return low, high or b"", point.revision, point.time  # any text is below any blob
