"""What SQLite itself does not notice: a checksum over every row, and whether the tables agree with each other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from zlib import crc32

import apsw

Row = tuple[Any, ...]

# The text of a damaged row may be no UTF-8, on which a cursor would stop: it is read as bytes.
_COLUMNS = {
    "meta": "id, CAST(lineage AS BLOB), floor",
    "entries": "CAST(key AS BLOB), CAST(value AS BLOB), revision, time, expires, sum",
    "versions": "CAST(key AS BLOB), revision, until, CAST(value AS BLOB), time, expires, sum",
    "touched": "revision, CAST(key AS BLOB)",
    "commits": """revision, time, count, CAST(reason AS BLOB), CAST(author AS BLOB), keys, CAST(key AS BLOB),
        position, forward, behind, sum""",
    "marks": "id, CAST(name AS BLOB), revision, time, CAST(note AS BLOB), sum",
}
_ORDER = {  # that of the table itself: its index may be what is damaged
    "meta": ["id"], "entries": ["rowid"], "versions": ["rowid"], "touched": ["revision", "key"],
    "commits": ["revision"], "marks": ["id"],
}  # fmt: skip
TABLES = tuple(_COLUMNS)
KEY = 6  # the place in `commits` of the one key that a commit wrote


def select(db: apsw.Connection, query: str, given: tuple[Any, ...] = ()) -> list[Row]:
    """All rows of a query, of types that only the query knows."""
    return db.execute(query, given).fetchall()


def checksum(key: str, value: bytes | None, revision: int, moment: int, expires: int) -> int:
    """CRC-32 over all that a row says."""
    return crc32(b"\0" if value is None else value, crc32(f"{key}\0{revision}\0{moment}\0{expires}".encode()))


def guard(until: int) -> int:
    """What is added to the checksum of a version for the revision that superseded it; 0 for an entry."""
    return crc32(b"%d" % until) if until else 0


def row_sum(*fields: object) -> int:
    """CRC-32 over a row of the other tables."""
    return crc32("\0".join(map(str, fields)).encode())


def read(db: apsw.Connection, table: str, direction: str = "") -> Iterator[Row | None]:
    """The rows of a table; None for one that is not what was written.

    Raises:
        apsw.Error: from here on the table cannot be read.

    """
    order = ", ".join(f"{column} {direction}" for column in _ORDER[table])
    for raw in db.execute(f"SELECT {_COLUMNS[table]} FROM {table} ORDER BY {order}"):
        try:
            row = tuple(field.decode() if isinstance(field, bytes) else field for field in raw)
            yield row if _sound(table, row) else None
        except (UnicodeDecodeError, TypeError, AttributeError):  # no text, or of another type than the column's
            yield None


def _sound(table: str, row: Row) -> bool:
    if table == "entries":
        key, value, revision, moment, expires, expected = row
        return bool(checksum(key, value.encode(), revision, moment, expires) == expected)
    if table == "versions":
        key, revision, until, value, moment, expires, expected = row
        data = None if value is None else value.encode()
        return bool(checksum(key, data, revision, moment, expires) + guard(until) == expected)
    if table in ("commits", "marks"):
        return bool(row_sum(*row[table == "marks" : -1]) == row[-1])
    kinds = (int, str) if table == "touched" else (int, str, int)
    return tuple(map(type, row)) == kinds


def examine(db: apsw.Connection, tables: set[Row]) -> str:
    """What is wrong with a database, or nothing. `tables` are names and texts that its schema must hold. O(size)."""
    db.execute("BEGIN")
    try:
        return _examine(db, tables)
    finally:
        if db.in_transaction:
            db.execute("COMMIT")


def _examine(db: apsw.Connection, tables: set[Row]) -> str:
    said = [str(row[0]) for row in db.execute("PRAGMA integrity_check(5)")]
    if said != ["ok"]:
        return "; ".join(said)
    if not tables <= set(db.execute("SELECT name, sql FROM sqlite_schema")):
        return "its tables are not those of stateview"
    for table in ("entries", "versions"):  # the check passes over an empty index whose page says that it is not a leaf
        select(db, f"SELECT max(expires) FROM {table} INDEXED BY {table}_expires WHERE expires > 0")
    found: dict[str, list[Row]] = {}
    for table in TABLES:
        found[table] = [row for row in read(db, table) if row is not None]
        bad = int(db.execute(f"SELECT count(*) FROM {table}").get) - len(found[table])
        if bad:
            return f"{bad} row{'s' if bad > 1 else ''} of the table {table} not what was written"
    if len(found["meta"]) != 1:
        return "the table meta is empty"
    floor = found["meta"][0][2]
    written = {(row[2], row[0]) for row in found["entries"]} | {(row[1], row[0]) for row in found["versions"]}
    touched = {*found["touched"], *((row[0], row[KEY]) for row in found["commits"] if row[KEY])}
    if {row for row in written if row[0] > floor} != {row for row in touched if row[0] > floor}:
        return "what the commits touched is not what is there"
    last = found["commits"][-1] if found["commits"] else (0, 0, 0)
    if last[2] != len(found["entries"]):
        return f"{len(found['entries'])} entries instead of {last[2]}"
    if last[0] < max((revision for revision, _ in written), default=0):
        return "the last commits are missing"
    return ""
