"""The tables of a state.db, how they are created and pruned, and the adoption of the older layout."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any

import apsw

from ...errors import BackendError, Damaged
from ..files.durable_files import file_error
from ..files.namespace_folders import is_network_filesystem
from ..protocol import CheckpointRecord, CommitRequest, Version
from ..stored_values import StoredValues
from .connections import page_checksums as pages
from .row_checksums import RECOVER, has_deltas, row_checksum, select

FORMAT = 2  # 1: without checksums of the pages; 3 and 4: the same two with deltas; 5 and 6: also with a keyring
APPLICATION_ID = 0x73747677  # "stvw", by which `file` and SQLite recognise the database
MAX_REVISION = 1 << 62  # above every revision; `until` of a delete that nothing has superseded

TABLES = f"""
CREATE TABLE meta (id INTEGER PRIMARY KEY CHECK (id = 1), lineage TEXT NOT NULL, floor INTEGER NOT NULL) STRICT;
CREATE TABLE entries (
    key TEXT PRIMARY KEY, value TEXT NOT NULL, revision INTEGER NOT NULL, time INTEGER NOT NULL,
    expires INTEGER NOT NULL, sum INTEGER NOT NULL) STRICT;
CREATE INDEX entries_expires ON entries (expires) WHERE expires > 0;
CREATE TABLE versions (
    key TEXT NOT NULL, revision INTEGER NOT NULL, until INTEGER NOT NULL, value TEXT, time INTEGER NOT NULL,
    expires INTEGER NOT NULL, sum INTEGER NOT NULL, PRIMARY KEY (key, revision)) STRICT;
CREATE INDEX versions_expires ON versions (expires) WHERE expires > 0;
CREATE TABLE touched (revision INTEGER NOT NULL, key TEXT NOT NULL, PRIMARY KEY (revision, key)) STRICT, WITHOUT ROWID;
CREATE TABLE commits (
    revision INTEGER PRIMARY KEY, time INTEGER NOT NULL, count INTEGER NOT NULL, reason TEXT NOT NULL,
    author TEXT NOT NULL, keys INTEGER NOT NULL, key TEXT NOT NULL, position INTEGER NOT NULL,
    forward INTEGER NOT NULL, behind INTEGER NOT NULL, sum INTEGER NOT NULL) STRICT;
CREATE TABLE marks (
    id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, revision INTEGER NOT NULL, time INTEGER NOT NULL,
    note TEXT NOT NULL, sum INTEGER NOT NULL, UNIQUE (name, revision)) STRICT;
CREATE INDEX marks_revision ON marks (revision);
PRAGMA application_id = {APPLICATION_ID};
"""
# Created with the first kind, so that the schema of older databases stays valid. Without the table there is no kind.
_CREATE_KINDS = """CREATE TABLE IF NOT EXISTS checkpoint_kinds (
    name TEXT NOT NULL, revision INTEGER NOT NULL, kind TEXT NOT NULL, PRIMARY KEY (name, revision)) STRICT"""


def tables() -> set[tuple[Any, ...]]:
    """Return the names and SQL texts that the schema of every database of stateview holds."""
    connection = apsw.Connection(":memory:")
    try:
        connection.execute(TABLES)
        return set(connection.execute("SELECT name, sql FROM sqlite_schema"))
    finally:
        connection.close()


def uri_path(path: str) -> str:
    """Escape a path for a SQLite URI."""
    return path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")


def prepare(connection: apsw.Connection, durability: str) -> None:
    """Set what every connection needs."""
    # Otherwise SQLite compares bound times with the partial indexes, and prepares each statement again.
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
    # In WAL mode EXTRA is FULL. With a rollback journal only EXTRA survives a loss of power after the acknowledgement.
    level = "EXTRA" if durability == "full" else "NORMAL"
    connection.execute(f"PRAGMA synchronous = {level}; PRAGMA cell_size_check = ON; PRAGMA trusted_schema = OFF")


def create(path: str, with_deltas: bool = False, keyring: bytes | None = None) -> None:
    """Create an empty database at `path`, durable and closed, with or without the tables of deltas and the keyring."""
    connection = begin(path)
    try:
        set_mode(connection, path)
        with connection:
            _make_tables(connection)
            if with_deltas:
                from . import packed

                packed.create(connection)
            if keyring is not None:
                from . import sealing

                sealing.put_keyring(connection, keyring, None)
        write_back_log(connection)
    finally:
        connection.close()


def write_back_log(connection: apsw.Connection) -> None:
    """Write all pages from the WAL into the database, durably. The WAL checkpoint of a close does not report errors."""
    if connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()[0][0]:
        raise apsw.BusyError("the log is in use")


def begin(path: str) -> apsw.Connection:
    """Open a connection that creates a database with checksums in its pages.

    The umask decides who may use it, its -wal and -shm files. SQLite itself would create it with mode 644.
    """
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666))
    except OSError as error:
        raise file_error(error, path) from error
    connection = pages.connect(path)
    pages.protect(connection)
    return connection


def set_mode(connection: apsw.Connection, path: str) -> None:
    """Set WAL mode, or on a network file system the rollback mode that survives a loss of power."""
    network = is_network_filesystem(path)
    connection.pragma("journal_mode", "TRUNCATE" if network else "WAL")
    connection.pragma("synchronous", "EXTRA" if network else "FULL")


def _make_tables(connection: apsw.Connection) -> None:
    make_tables(connection)
    connection.execute("INSERT INTO meta VALUES (1, ?, 0)", (os.urandom(16).hex(),))


def make_tables(connection: apsw.Connection) -> None:
    """Create the empty tables and set the format's number, in the caller's transaction."""
    connection.execute(TABLES)
    connection.pragma("user_version", FORMAT if pages.has_checksums(connection) else 1)


def is_older(connection: apsw.Connection) -> bool:
    """Return whether a database holds the table of the older layout, which `legacy.sqlite_table` reads."""
    columns = [row[1] for row in connection.execute("PRAGMA table_info(state)")]
    return columns == ["key", "value", "timestamp"]


def check(connection: apsw.Connection, path: str) -> int:
    """Refuse a database that is not of stateview, or cannot be used by this version. Return its format.

    Raises:
        Damaged: another application's database, or a damaged header.
        BackendError: a later format, or page checksums without the VFS that writes them.

    """
    application = connection.pragma("application_id")
    version = connection.pragma("user_version")
    if application != APPLICATION_ID:
        raise Damaged(f"{path} is a SQLite database, but none of stateview", "Move it away, or give another store")
    if version > 3 * FORMAT:
        raise BackendError(f"{path} has format {version}, this stateview knows {3 * FORMAT}", "Upgrade stateview")
    has_page_checksums = version in (FORMAT, 2 * FORMAT, 3 * FORMAT)
    if has_page_checksums and not pages.has_checksums(connection):
        raise Damaged(f"{path}: its header is not what was written", RECOVER)
    if has_page_checksums and pages.vfs() is None:
        hint = "Install apsw from a wheel: pip install --only-binary apsw apsw"
        raise BackendError(f"{path} has checksums in its pages, which this build of apsw cannot write", hint)
    return int(version)


_NEWEST = """SELECT max(revision) FROM (
    SELECT max(revision) AS revision FROM touched
    UNION ALL SELECT revision FROM (SELECT revision FROM entries ORDER BY rowid DESC LIMIT 1)
    UNION ALL SELECT revision FROM (SELECT iif(until = ?, revision, until) AS revision FROM versions
        ORDER BY rowid DESC LIMIT 1))"""


def find_missing(connection: apsw.Connection) -> str:
    """Describe a part that is missing, or "", as far as a few look-ups tell. O(log n), in the caller's transaction."""
    names = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema")}
    needed = set(re.findall(r"CREATE (?:TABLE|INDEX) (\w+)", TABLES))
    if (version := connection.pragma("user_version")) > FORMAT:
        from . import packed

        needed |= packed.NAMES
    if version > 2 * FORMAT:
        from . import sealing

        needed |= sealing.needed(connection)
    if missing := sorted(needed - names):
        return f"the table or index {missing[0]} is missing"
    floors = connection.execute("SELECT floor FROM meta").fetchall()
    if not floors:
        return "the table meta is empty, or the namespace is being dropped"
    if len(floors) > 1 or type(floors[0][0]) is not int:
        return "the table meta does not hold what was written"
    floor = floors[0][0]
    row = connection.execute("SELECT revision, count FROM commits ORDER BY revision DESC LIMIT 1").fetchone()
    revision, count = row or (0, 0)
    if max(floor, connection.execute(_NEWEST, (MAX_REVISION,)).get or 0) > revision:
        return "the last commits are missing"
    has_entries, has_versions = (
        bool(connection.execute(f"SELECT EXISTS (SELECT 1 FROM {table})").get) for table in ("entries", "versions")
    )
    if has_entries != bool(count):
        return f"the table entries does not hold {count} entries"
    if has_versions or count >= revision - floor:
        return ""
    # Without a superseded version each commit that wrote since the floor wrote other keys; a recovery writes none
    writing = connection.execute("SELECT count(*) FROM commits WHERE revision > ? AND keys > 0", (floor,)).get
    return "superseded versions are missing" if count < writing else ""


def add_checksums(path: str, busy: Callable[[int], bool]) -> None:
    """Write a database of the older layout anew, so that its pages have checksums. O(size)."""
    connection = pages.connect(path)
    try:
        connection.set_busy_handler(busy)
        if is_older(connection) and pages.protect(connection):
            connection.pragma("journal_mode", "DELETE")
            connection.execute("VACUUM")
    finally:
        connection.close()


def adopt(connection: apsw.Connection, path: str, write: Callable[[Any, CommitRequest], object]) -> None:
    """Turn the tables of the older layout into commits, within the caller's transaction.

    Raises:
        Damaged: a row does not parse. The caller rolls back.

    """
    from ..legacy import sqlite_table
    from ..legacy.adoption import adoption_requests

    states = sqlite_table.read_tables(connection, path)
    if not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'meta'").fetchone():
        _make_tables(connection)
    rows = select(connection, "SELECT key, value FROM entries")
    for request in adoption_requests(states, [Version(key, value.encode(), 0, 0) for key, value in rows]):
        write(connection, request)
    sqlite_table.drop_tables(connection)


def read_kinds(db: apsw.Connection, *name: str) -> dict[tuple[str, int], str]:
    """Return the stored kinds of checkpoints, or of those of one name, by name and revision."""
    if not _has_kinds(db):
        return {}
    rows = db.execute("SELECT name, revision, kind FROM checkpoint_kinds" + " WHERE name = ?" * len(name), name)
    return {(name, revision): kind for name, revision, kind in rows}


def put_mark(db: apsw.Connection, mark: CheckpointRecord) -> None:
    """Store a checkpoint, in place of an earlier checkpoint of the same name and revision."""
    delete_mark(db, mark.name, mark.revision)
    row = (mark.name, mark.revision, mark.time, mark.note)
    db.execute("INSERT INTO marks (name, revision, time, note, sum) VALUES (?, ?, ?, ?, ?)", (*row, row_checksum(*row)))
    put_kind(db, mark.name, mark.revision, mark.kind)


def put_kind(db: apsw.Connection, name: str, revision: int, kind: str) -> None:
    """Store the kind of a checkpoint, unless it is ""."""
    if kind:
        db.execute(_CREATE_KINDS)
        db.execute("INSERT INTO checkpoint_kinds VALUES (?, ?, ?)", (name, revision, kind))


def delete_mark(db: apsw.Connection, name: str, revision: int) -> None:
    """Delete a checkpoint if it exists."""
    db.execute("DELETE FROM marks WHERE name = ? AND revision = ?", (name, revision))
    if _has_kinds(db):
        db.execute("DELETE FROM checkpoint_kinds WHERE name = ? AND revision = ?", (name, revision))


def delete_marks(db: apsw.Connection) -> None:
    """Delete all checkpoints."""
    db.execute("DELETE FROM marks")
    if _has_kinds(db):
        db.execute("DELETE FROM checkpoint_kinds")


def _has_kinds(db: apsw.Connection) -> bool:
    return db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'checkpoint_kinds'").fetchone() is not None


NEW_COMMIT = "INSERT INTO commits VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
# The keys that the revisions after ?1, up to ?2, wrote. Above the floor a commit of one key holds the key itself.
TOUCHED = """SELECT revision, key FROM touched WHERE revision > ?1 AND revision <= ?2
    UNION SELECT revision, key FROM commits
    WHERE revision > max(?1, (SELECT floor FROM meta)) AND revision <= ?2 AND key != '' ORDER BY 1, 2"""
_NO_CHECKPOINT = "NOT EXISTS (SELECT 1 FROM marks WHERE marks.revision >= v.revision AND marks.revision < v.until)"


def prune(db: apsw.Connection, values: StoredValues, low: int, goal: int) -> None:
    """Raise the floor to `goal`: delete the versions superseded after `low`, up to `goal`, that no checkpoint needs.

    `touched` must still list the keys that differ between two checkpoints, or between a checkpoint and the floor.
    Between two neighbours of these the last touch of a key suffices, so the earlier touches are deleted.
    O(rows of `touched` between `low` and `goal`).
    """
    oldest = db.execute("SELECT min(revision) FROM marks").get
    for revision, key in db.execute(TOUCHED, (low, goal)).fetchall():
        deleted: list[tuple[Any, ...]] = delete_versions(
            db, values, f"key = ?1 AND until = ?2 AND {_NO_CHECKPOINT}", (key, revision)
        )
        if oldest is None or oldest >= revision:
            # A deleted checkpoint may have kept older versions. Without their delete they would seem the newest.
            older = "key = ?1 AND revision <= ?2 AND (revision < ?2 OR value IS NULL)"
            deleted += delete_versions(db, values, older, (key, revision))
            deleted.append((revision, key))
        else:
            # Below the floor the commit no longer lists its key.
            db.execute("INSERT OR IGNORE INTO touched VALUES (?, ?)", (revision, key))
        db.executemany("DELETE FROM touched WHERE revision = ? AND key = ?", deleted)
    raise_floor(db, goal)


def delete_versions(
    db: apsw.Connection, values: StoredValues, condition: str, bindings: tuple[Any, ...]
) -> list[tuple[Any, ...]]:
    """Delete rows of `versions AS v`, and their deltas. Return the revision and key of each."""
    if has_deltas(db):
        from . import packed

        gone: dict[str, list[int]] = {}
        for key, revision in db.execute(f"SELECT key, revision FROM versions AS v WHERE {condition}", bindings):
            gone.setdefault(key, []).append(revision)
        for key, revisions in gone.items():
            packed.remove(db, values, key, revisions)
    return db.execute(f"DELETE FROM versions AS v WHERE {condition} RETURNING revision, key", bindings).fetchall()


def raise_floor(db: apsw.Connection, goal: int) -> None:
    """Raise the floor to `goal`, and delete the commits up to it, except the newest commit."""
    db.execute("DELETE FROM commits WHERE revision <= ? AND revision < (SELECT max(revision) FROM commits)", (goal,))
    db.execute("UPDATE meta SET floor = max(floor, ?)", (goal,))
