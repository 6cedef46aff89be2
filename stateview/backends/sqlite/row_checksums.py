"""Checksums of rows, and the search for corruption: SQLite itself does not notice a flipped bit in a row."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from zlib import crc32

import apsw
from msgspec import Struct

from ...errors import Damaged, run
from ...model import ProgressMessage
from ..protocol import ProgressText
from ..stored_values import StoredValues

if TYPE_CHECKING:
    from ..deltas import Chain

RECOVER = run("recover", after=": it keeps the damaged file and mends what can be mended")
KEY_COLUMN = 6  # the index, in a row of `commits`, of the key of a commit that wrote one key

IN_PACKED = ""  # the value of a row of `versions` whose value is in the table `packed`
Row = tuple[Any, ...]

# A damaged text may not be UTF-8, which would end the cursor. Texts are therefore read as bytes.
_COLUMNS = {
    "meta": "id, CAST(lineage AS BLOB), floor",
    "entries": "CAST(key AS BLOB), CAST(value AS BLOB), revision, time, expires, sum",
    "versions": "CAST(key AS BLOB), revision, until, CAST(value AS BLOB), time, expires, sum",
    "touched": "revision, CAST(key AS BLOB)",
    "commits": """revision, time, count, CAST(reason AS BLOB), CAST(author AS BLOB), keys, CAST(key AS BLOB),
        position, forward, behind, sum""",
    "marks": "id, CAST(name AS BLOB), revision, time, CAST(note AS BLOB), sum",
}
_ORDER = {  # the order of the table's own b-tree, since an index may be what is damaged
    "meta": ["id"], "entries": ["rowid"], "versions": ["rowid"], "touched": ["revision", "key"],
    "commits": ["revision"], "marks": ["id"],
}  # fmt: skip
TABLES = tuple(_COLUMNS)
# Each write has a row in `entries` or `versions`. `touched` lists it too, or its commit if the commit wrote one key.
# Below the floor, `touched` must list a write only if a checkpoint precedes the write; extra rows are allowed.
_FLOOR = "revision > (SELECT floor FROM meta)"
_OLDEST = "revision > (SELECT min(floor, coalesce((SELECT min(revision) FROM marks), floor)) FROM meta)"
_WRITTEN = "SELECT revision, key FROM entries WHERE {0} UNION SELECT revision, key FROM versions WHERE {0}"
_LISTED = f"""SELECT revision, key FROM touched WHERE {{0}}
    UNION SELECT revision, key FROM commits WHERE key != '' AND {_FLOOR}"""
_NOT_LISTED = f"SELECT * FROM ({_WRITTEN.format(_OLDEST)}) EXCEPT SELECT * FROM ({_LISTED.format(_OLDEST)}) LIMIT 1"
_NOT_WRITTEN = f"SELECT * FROM ({_LISTED.format(_FLOOR)}) EXCEPT SELECT * FROM ({_WRITTEN.format(_FLOOR)}) LIMIT 1"
_UNUSED_DELTA = """SELECT 1 FROM packed AS p LEFT JOIN versions AS v ON v.key = p.key AND v.revision = p.revision
    WHERE v.value IS NOT '' LIMIT 1"""
_ROWS_PER_REPORT = 20_000


class Corruption(Struct, frozen=True):
    """One kind of damage in a database: a code for programs, and a text for people."""

    code: str
    text: str


def select(db: apsw.Connection, query: str, bindings: Row = ()) -> list[Row]:
    """Return all rows of a query."""
    return db.execute(query, bindings).fetchall()


def has_deltas(db: apsw.Connection) -> bool:
    """Return whether the database has the table `packed`."""
    return db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'packed'").fetchone() is not None


def chain_of(db: apsw.Connection, values: StoredValues, is_lone: bool = False) -> Chain:
    """Return the reader of encoded values of a database, for use in one transaction. `is_lone`: see `Chain`."""
    from .packed import chain  # not for a load of a live value

    return chain(db, values, is_lone)


def checksum(key: str, stored: bytes | None, revision: int, moment: int, expires: int) -> int:
    """Compute the CRC-32 of a row of `entries` or `versions`.

    `stored` is the value in its stored form, see `StoredValues`; None for a delete. Over the stored form, `doctor` and
    `recover` check every row without the key of sealed values, and the checksum tells nothing of a sealed value.
    """
    return crc32(b"\0" if stored is None else stored, crc32(f"{key}\0{revision}\0{moment}\0{expires}".encode()))


def until_checksum(until: int) -> int:
    """Compute what `until`, the superseding revision, adds to a version's checksum; 0 for a live entry."""
    return crc32(b"%d" % until) if until else 0


def row_checksum(*fields: object) -> int:
    """Compute the CRC-32 of a row of `commits` or `marks`."""
    return crc32("\0".join(map(str, fields)).encode())


def damaged_entry_error(path: str, key: str) -> Damaged:
    """Make the error for a row of `entries` or `versions` with a wrong checksum."""
    return Damaged(f"{path}: the entry {key[:60]!r} is not what was written", RECOVER)


def unpacked(chain: Chain, key: str, revision: int, path: str) -> bytes:
    """Return the encoded value of a row of `versions` whose value is in the table `packed`.

    Raises:
        Damaged: a delta of its chain is damaged, or missing.

    """
    try:
        return chain.value(key, revision)
    except ValueError as error:
        raise damaged_entry_error(path, key) from error


def read(
    db: apsw.Connection, table: str, values: StoredValues, direction: str = "", sums_only: bool = False
) -> Iterator[Row | None]:
    """Iterate over the rows of a table; None stands for a row that is not what was written.

    The rows hold encoded values and texts instead of their stored forms, unless no key opens these, or the
    checksums alone are to be looked at.

    Raises:
        apsw.Error: the table cannot be read any further.

    """
    order = ", ".join(f"{column} {direction}" for column in _ORDER[table])
    chain = None  # of a table `versions` with deltas
    for raw in db.execute(f"SELECT {_COLUMNS[table]} FROM {table} ORDER BY {order}"):
        try:
            row = tuple(field.decode() if isinstance(field, bytes) else field for field in raw)
            is_packed = table == "versions" and row[3] == IN_PACKED
            is_mixed = is_packed and values.mixed  # the checksum may be over the value, as of plain values
            opens = is_packed if values.plain else values.error is None and (is_mixed or not sums_only)
            if is_packed and opens:
                chain = chain or chain_of(db, values)
                value = chain.value(str(row[0]), int(row[1])).decode()
            if is_packed and values.plain:
                row = (*row[:3], value, *row[4:])
            sound = _is_sound(table, row)
            if not sound and is_mixed:
                sound = not opens or _is_sound(table, (*row[:3], value, *row[4:]))
            if not sound:
                yield None
            elif values.plain or not opens:
                yield row
            else:
                yield (*row[:3], value, *row[4:]) if is_packed else _opened(table, row, values)
        except (ValueError, TypeError, AttributeError):  # not UTF-8, not of the column's type, or a damaged delta
            yield None


def _opened(table: str, row: Row, values: StoredValues) -> Row:
    """Return a sound row with what its stored forms hold."""
    if table in ("entries", "versions"):
        place = 1 if table == "entries" else 3
        revision = row[2] if table == "entries" else row[1]
        if row[place] is not None:
            value = values.unpack(row[place].encode(), row[0], revision).decode()
            row = (*row[:place], value, *row[place + 1 :])
    elif table == "commits":
        reason = values.unpack_text(row[3], "reason", "", row[0])
        row = (*row[:3], reason, values.unpack_text(row[4], "author", "", row[0]), *row[5:])
    elif table == "marks":
        row = (*row[:4], values.unpack_text(row[4], "note", row[1], row[2]), *row[5:])
    return row


def _is_sound(table: str, row: Row) -> bool:
    """Return whether a row, with its columns in the order of the table, is what was written."""
    if table == "entries":
        key, value, revision, moment, expires, expected = row
        return bool(checksum(key, value.encode(), revision, moment, expires) == expected)
    if table == "versions":
        key, revision, until, value, moment, expires, expected = row
        stored = None if value is None else value.encode()
        return bool(checksum(key, stored, revision, moment, expires) + until_checksum(until) == expected)
    if table in ("commits", "marks"):
        return bool(row_checksum(*row[table == "marks" : -1]) == row[-1])
    types = (int, str) if table == "touched" else (int, str, int)
    return tuple(map(type, row)) == types and "\0" not in row[1]  # a page that was cut off reads as zeros


def first_corruption(db: apsw.Connection, schema: set[Row], values: StoredValues, sums_only: bool = False) -> str:
    """Return the text of the first corruption of a database, or "". See `find_corruption`."""
    found = next(find_corruption(db, schema, values, sums_only=sums_only), None)
    return "" if found is None else found.text


def find_corruption(
    db: apsw.Connection,
    schema: set[Row],
    values: StoredValues,
    progress: ProgressText | None = None,
    sums_only: bool = False,
) -> Iterator[Corruption]:
    """Find all corruption of a database, in the caller's transaction or a read transaction. O(size), in bounded memory.

    `schema` holds the names and SQL texts that `sqlite_schema` must hold. Checks that need an earlier check to pass
    are left out where it failed.
    """
    is_own = not db.in_transaction
    if is_own:
        db.execute("BEGIN")
    try:
        yield from _find_corruption(db, schema, values, progress or (lambda _text: None), sums_only)
    finally:
        if is_own and db.in_transaction:
            db.execute("COMMIT")


def _find_corruption(
    db: apsw.Connection, schema: set[Row], values: StoredValues, progress: ProgressText, sums_only: bool
) -> Iterator[Corruption]:
    progress("SQLite's own integrity check")
    messages = [str(row[0]) for row in db.execute("PRAGMA integrity_check(5)")]
    if messages != ["ok"]:
        yield Corruption("integrity-check", "; ".join(messages))
        return
    if not schema <= set(db.execute("SELECT name, sql FROM sqlite_schema")):
        yield Corruption("wrong-tables", "its tables are not those of stateview")
        return
    for table in ("entries", "versions"):  # the integrity check misses extra rows of a partial index
        query = f"SELECT count(*), total(sum) FROM {table} {{}} WHERE expires > 0"
        if select(db, query.format(f"INDEXED BY {table}_expires")) != select(db, query.format("NOT INDEXED")):
            yield Corruption("damaged-index", f"the index {table}_expires is not what was written")
            return
    sound = True
    counts = {table: int(db.execute(f"SELECT count(*) FROM {table}").get) for table in TABLES}
    for table, total in counts.items():
        if damaged := _count_damaged_rows(read(db, table, values, sums_only=sums_only), table, total, progress):
            sound = False
            rows = "1 row" if damaged == 1 else f"{damaged} rows"
            yield Corruption("damaged-rows", f"{rows} of the table {table} not what was written")
    if counts["meta"] != 1:
        sound = False
        yield Corruption("meta-missing", "the table meta is empty")
    if sound:
        progress("whether the tables agree")
        yield from _find_disagreements(db, counts["entries"])


def _count_damaged_rows(rows: Iterator[Row | None], table: str, total: int, progress: ProgressText) -> int:
    sound = 0
    for number, row in enumerate(rows):
        sound += row is not None
        if number % _ROWS_PER_REPORT == 0:
            progress(ProgressMessage.of(number, total, "rows", f"table {table}"))
    return total - sound


def _find_disagreements(db: apsw.Connection, entries: int) -> Iterator[Corruption]:
    """Compare tables whose rows are all sound: a whole row, or a whole page, may be missing."""
    if db.execute(_NOT_LISTED).fetchone() or db.execute(_NOT_WRITTEN).fetchone():
        yield Corruption("touched-mismatch", "what the commits touched is not what is there")
    if has_deltas(db) and db.execute(_UNUSED_DELTA).fetchone():
        yield Corruption("unused-delta", "a delta belongs to no version")
    last = db.execute("SELECT revision, count FROM commits ORDER BY revision DESC LIMIT 1").fetchone() or (0, 0)
    if last[1] != entries:
        yield Corruption("entry-count", f"{entries} entries instead of {last[1]}")
    newest = "SELECT max(revision) FROM (SELECT revision FROM entries UNION ALL SELECT revision FROM versions)"
    if last[0] < (db.execute(newest).get or 0):
        yield Corruption("commits-missing", "the last commits are missing")
