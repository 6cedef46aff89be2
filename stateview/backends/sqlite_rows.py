"""Pages of keys without their values, from SQLite: found in the index on the key, of each value only the start read."""

from __future__ import annotations

from typing import Any

import apsw

from .base import START, Point, Row
from .sqlite_check import select

CUT = 8192  # bytes: a longer value is not read to be cut, but opened at its start

# ?1 and ?2 bound the keys, ?3 is the revision, ?4 the time. What has expired is found in an index of its own, so that
# to pass over keys touches no row of the table.
_LIVE = """FROM entries WHERE key >= ?1 AND key < ?2
    AND rowid NOT IN (SELECT rowid FROM entries WHERE expires > 0 AND expires <= ?4)"""
_OLDER = "FROM entries WHERE key >= ?1 AND key < ?2 AND revision <= ?3 AND (expires = 0 OR expires > ?4)"
_SUPERSEDED = """FROM versions WHERE key >= ?1 AND key < ?2 AND revision <= ?3 AND until > ?3 AND value IS NOT NULL
    AND (expires = 0 OR expires > ?4)"""
_COLUMNS = f"""key, octet_length(value),
    CASE WHEN octet_length(value) <= {CUT} THEN substr(CAST(value AS BLOB), 1, {START}) END, revision, time, expires"""
_TYPES = (str, int, int, int, int)


def _query(columns: str, past: bool) -> str:
    sources = {"entries": _OLDER, "versions": _SUPERSEDED} if past else {"entries": _LIVE}
    return " UNION ALL ".join(f"SELECT {columns.format(table=table)} {rows}" for table, rows in sources.items())


def page(
    db: apsw.Connection, low: str, high: str, point: Point, past: bool, limit: int, skip: int, backwards: bool
) -> list[Row] | str:
    """See `Backend.rows`; of what is live at the time of the point where it is not `past`. In key order, or reverse.

    Returns the key instead where a row is not what was written.
    """
    order = "ORDER BY key DESC" if backwards else "ORDER BY key"
    if skip:
        query = f"{_query('key', past)} {order} LIMIT 1 OFFSET ?5"
        first = db.execute(query, (*_given(low, high, point), skip)).fetchone()
        if first is None:
            return []
        low, high = (low, first[0] + "\0") if backwards else (first[0], high)
    query = f"{_query(_COLUMNS + ', rowid, {table!r}', past)} {order} LIMIT ?5"
    rows = []
    for key, size, start, revision, time, expires, rowid, table in select(
        db, query, (*_given(low, high, point), limit)
    ):
        if (type(key), type(size), type(revision), type(time), type(expires)) != _TYPES:
            return str(key)
        if size > CUT:
            with db.blob_open("main", table, "value", rowid, False) as blob:
                start = blob.read(START)  # noqa: PLW2901 - what the query left out
        rows.append(Row(key, size, start, revision, time, expires))
    return rows


def count(db: apsw.Connection, low: str, high: str, point: Point, past: bool) -> int:
    """See `Backend.count`."""
    return int(db.execute(f"SELECT count(*) FROM ({_query('1', past)})", _given(low, high, point)).get)


def _given(low: str, high: str, point: Point) -> tuple[Any, ...]:
    return low, high or b"", point.revision, point.time  # any text is below any blob
