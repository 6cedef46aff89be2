"""What SQLite itself does not notice: a checksum over every row, and whether the tables agree with each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from zlib import crc32

import apsw

from ...errors import Damaged, run
from ...model import ProgressMessage

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
# What was written, by the rows that are there and by what is told of it. Below the floor what is kept must be told of
# where a checkpoint lies before it; more may be.
_FLOOR = "revision > (SELECT floor FROM meta)"
_OLDEST = "revision > (SELECT min(floor, coalesce((SELECT min(revision) FROM marks), floor)) FROM meta)"
_WRITTEN = "SELECT revision, key FROM entries WHERE {0} UNION SELECT revision, key FROM versions WHERE {0}"
_TOLD = f"""SELECT revision, key FROM touched WHERE {{0}}
    UNION SELECT revision, key FROM commits WHERE key != '' AND {_FLOOR}"""
_MISSING = f"SELECT * FROM ({_WRITTEN.format(_OLDEST)}) EXCEPT SELECT * FROM ({_TOLD.format(_OLDEST)}) LIMIT 1"
_EXTRA = f"SELECT * FROM ({_TOLD.format(_FLOOR)}) EXCEPT SELECT * FROM ({_WRITTEN.format(_FLOOR)}) LIMIT 1"
_ROWS_PER_REPORT = 20_000  # rows
RECOVER = run("recover", after=": it keeps the damaged file and mends what can be mended")
KEY_COLUMN = 6  # the place in `commits` of the one key that a commit wrote


def select(db: apsw.Connection, query: str, given: tuple[Any, ...] = ()) -> list[Row]:
    """All rows of a query, of types that only the query knows."""
    return db.execute(query, given).fetchall()


def checksum(key: str, stored: bytes | None, revision: int, moment: int, expires: int) -> int:
    """Compute the CRC-32 of a row of `entries` or `versions`.

    `stored` is the value in its stored form, see `StoredValues`; None for a delete. Over the stored form, `doctor` and
    `recover` check every row without the key of sealed values, and the checksum tells nothing of a sealed value.
    """
    return crc32(b"\0" if stored is None else stored, crc32(f"{key}\0{revision}\0{moment}\0{expires}".encode()))


def until_checksum(until: int) -> int:
    """What is added to the checksum of a version for the revision that superseded it; 0 for an entry."""
    return crc32(b"%d" % until) if until else 0


def damaged_entry_error(path: str, key: str) -> Damaged:
    """Make the error for a row of a value that is not what was written."""
    return Damaged(f"{path}: the entry {key[:60]!r} is not what was written", RECOVER)


def row_checksum(*fields: object) -> int:
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
            yield row if is_sound(table, row) else None
        except (UnicodeDecodeError, TypeError, AttributeError):  # no text, or of another type than the column's
            yield None


def is_sound(table: str, row: Row) -> bool:
    """Return whether a row, with its columns in the order of the table, is what was written."""
    if table == "entries":
        key, value, revision, moment, expires, expected = row
        return bool(checksum(key, value.encode(), revision, moment, expires) == expected)
    if table == "versions":
        key, revision, until, value, moment, expires, expected = row
        data = None if value is None else value.encode()
        return bool(checksum(key, data, revision, moment, expires) + until_checksum(until) == expected)
    if table in ("commits", "marks"):
        return bool(row_checksum(*row[table == "marks" : -1]) == row[-1])
    kinds = (int, str) if table == "touched" else (int, str, int)
    return tuple(map(type, row)) == kinds and "\0" not in row[1]  # zeros are what is left of a page that is cut off


def first_corruption(db: apsw.Connection, tables: set[Row]) -> str:
    """What is wrong with a database, or nothing. `tables` are names and texts that its schema must hold. O(size)."""
    return next(find_corruption(db, tables), "")


def find_corruption(db: apsw.Connection, tables: set[Row], say: Callable[[str], None] | None = None) -> Iterator[str]:
    """All that is wrong with a database, in one state of it; what cannot be looked at after the first is left out.

    In bounded memory: what the tables say of each other is compared by SQLite.
    """
    db.execute("BEGIN")
    try:
        yield from _find_corruption(db, tables, say or (lambda _text: None))
    finally:
        if db.in_transaction:
            db.execute("COMMIT")


def _find_corruption(db: apsw.Connection, tables: set[Row], say: Callable[[str], None]) -> Iterator[str]:
    say("SQLite's own integrity check")
    said = [str(row[0]) for row in db.execute("PRAGMA integrity_check(5)")]
    if said != ["ok"]:
        yield "; ".join(said)
        return
    if not tables <= set(db.execute("SELECT name, sql FROM sqlite_schema")):
        yield "its tables are not those of stateview"
        return
    for table in ("entries", "versions"):  # the check passes over what a partial index holds beyond its rows
        query = f"SELECT count(*), total(sum) FROM {table} {{}} WHERE expires > 0"
        if select(db, query.format(f"INDEXED BY {table}_expires")) != select(db, query.format("NOT INDEXED")):
            yield f"the index {table}_expires is not what was written"
            return
    sound = True
    counts = {table: int(db.execute(f"SELECT count(*) FROM {table}").get) for table in TABLES}
    for table, total in counts.items():
        good = 0
        for number, row in enumerate(read(db, table)):
            good += row is not None
            if number % _ROWS_PER_REPORT == 0:
                say(ProgressMessage.of(number, total, "rows", f"table {table}"))
        if bad := total - good:
            sound = False
            yield f"{bad} row{'s' if bad > 1 else ''} of the table {table} not what was written"
    if counts["meta"] != 1:
        sound = False
        yield "the table meta is empty"
    if sound:
        say("whether the tables agree")
        yield from _disagreements(db, counts["entries"])


def _disagreements(db: apsw.Connection, entries: int) -> Iterator[str]:
    """What tables, of which each row is sound, say differently."""
    if db.execute(_MISSING).fetchone() or db.execute(_EXTRA).fetchone():
        yield "what the commits touched is not what is there"
    last = db.execute("SELECT revision, count FROM commits ORDER BY revision DESC LIMIT 1").fetchone() or (0, 0)
    if last[1] != entries:
        yield f"{entries} entries instead of {last[1]}"
    newest = "SELECT max(revision) FROM (SELECT revision FROM entries UNION ALL SELECT revision FROM versions)"
    if last[0] < (db.execute(newest).get or 0):
        yield "the last commits are missing"
