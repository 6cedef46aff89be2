"""Maintenance of a SQLite namespace: superseded versions, disk usage, and `compact`."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import apsw

from ...errors import BackendError
from ..files.durable_files import file_error
from ..protocol import DiskUsage, ProgressCount, SupersededVersion
from ..prune_progress import PruneProgress
from ..retries import Backoff
from ..stored_values import StoredValues
from . import packed, schema
from .packing import END, PAUSE_SECONDS, pack_whole_versions

if TYPE_CHECKING:
    from .backend import SQLiteBackend
    from .connections.pool import Connection

ROWS_PER_TRANSACTION = 5000  # others write between two transactions
ROW_OVERHEAD_BYTES = 58  # a row of `versions`, its index entry and its row of `touched`, without value and three keys

_SUPERSEDED = """SELECT key, revision, until, coalesce(octet_length(value), 0), value IS NULL, {value} FROM versions
    WHERE (key, revision) > (?, ?) ORDER BY key, revision LIMIT ?"""
_NEXT = """SELECT key, revision FROM versions WHERE (key, revision) > (?, ?)
    ORDER BY key, revision LIMIT 1 OFFSET ?"""
_UNREACHABLE = """(key, revision) > (?1, ?2) AND (key, revision) <= (?3, ?4) AND (
    (until <= ?5 AND NOT EXISTS (SELECT 1 FROM marks WHERE marks.revision >= v.revision AND marks.revision < v.until))
    OR (value IS NULL AND revision <= ?5 AND NOT EXISTS (SELECT 1 FROM marks WHERE marks.revision < v.revision)))"""


def superseded(
    db: apsw.Connection, values: StoredValues, after: tuple[str, int], limit: int
) -> list[SupersededVersion]:  # fmt: skip
    """List superseded versions, see `Backend.superseded`. Where values are not plain, O(their bytes)."""
    query = _SUPERSEDED.format(value="NULL" if values.plain else "CAST(value AS BLOB)")
    rows = []
    for key, revision, until, length, deleted, stored in db.execute(query, (*after, limit)):
        if length or deleted:
            size, in_store = length if stored is None else values.size(stored, key, revision), length
        else:
            size, in_store = packed.sizes(db, key, revision)
        space = in_store + 3 * len(key.encode()) + ROW_OVERHEAD_BYTES
        by = 0 if until == schema.MAX_REVISION else until
        rows.append(SupersededVersion(key, revision, by, size, bool(deleted), space))
    return rows


def disk_usage(db: apsw.Connection, path: str) -> DiskUsage:
    """Measure the database and its WAL. Free pages, and the WAL, are spare."""
    total = 0
    for name in (path, path + "-wal"):
        try:
            total += os.stat(name).st_size
        except FileNotFoundError:
            continue
        except OSError as error:
            raise file_error(error, name) from error
    count, free, size = (
        int(db.execute(f"PRAGMA {name}").get) for name in ("page_count", "freelist_count", "page_size")
    )
    return DiskUsage(total, max(0, total - (count - free) * size))


def compact(
    backend: SQLiteBackend, db: Connection, floor: int, progress: ProgressCount | None, done: PruneProgress
) -> int:
    """Prune and pack in many short transactions, then VACUUM, see `Backend.compact`. Writers wait for the VACUUM.

    The first transaction raises the floor. Everything that later transactions delete is unreachable from then on.
    """
    goal = done.floor = _raise_floor(backend, db, floor, done)
    total = int(db.execute("SELECT count(*) FROM versions").get)
    deleted = seen = 0
    after: tuple[str, int] | None = ("", 0)
    while after is not None:
        if progress is not None:
            progress(seen, total)
        if after[0]:
            time.sleep(PAUSE_SECONDS)
        after, count = _delete_unreachable(backend, db, after, goal)
        deleted += count
        done.versions = deleted
        seen = min(total, seen + ROWS_PER_TRANSACTION)
    _delete_touched(db, goal)
    if db.values.plain:
        pack_whole_versions(db, progress)
    if deleted or db.execute("PRAGMA freelist_count").get:
        try:
            db.execute("VACUUM")
        except apsw.FullError as error:
            what = f"{backend.path}: there is no space left to rewrite the file without what was removed"
            raise BackendError(what, "Free some space, and compact again") from error
    backoff = Backoff(backend.timeout, PAUSE_SECONDS, PAUSE_SECONDS)
    while db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()[0][0] and backoff.wait():
        pass  # the busy handler does not wait for another connection's WAL checkpoint
    return deleted


def _raise_floor(backend: SQLiteBackend, db: Connection, floor: int, done: PruneProgress) -> int:
    """Raise the floor, and list in `touched` the keys that commits below it held. Return the new floor."""
    db.execute("BEGIN IMMEDIATE")
    backend._check_form(db)
    db.values.check_open()
    head = backend._head(db)
    done.before = head.floor
    goal = max(head.floor, min(floor, head.revision))
    commits = "SELECT revision, key FROM commits WHERE revision > ? AND revision <= ? AND key != ''"
    db.execute(f"INSERT OR IGNORE INTO touched {commits}", (head.floor, goal))
    schema.raise_floor(db, goal)
    db.execute("COMMIT")
    return goal


def _delete_unreachable(
    backend: SQLiteBackend, db: Connection, after: tuple[str, int], floor: int
) -> tuple[tuple[str, int] | None, int]:  # fmt: skip
    """Delete the unreachable ones of the next versions. Return the last of these, None at the end, and a count."""
    db.execute("BEGIN IMMEDIATE")
    backend._check_form(db)
    last = db.execute(_NEXT, (*after, ROWS_PER_TRANSACTION - 1)).fetchone()
    deleted = schema.delete_versions(db, db.values, _UNREACHABLE, (*after, *(last or END), floor))
    db.executemany("DELETE FROM touched WHERE revision = ? AND key = ?", deleted)
    db.execute("COMMIT")
    return last, len(deleted)


def _delete_touched(db: apsw.Connection, floor: int) -> None:
    """Delete from `touched` the revisions up to the first that is kept."""
    while True:
        db.execute("BEGIN IMMEDIATE")
        oldest = db.execute("SELECT min(revision) FROM marks").get
        first_kept = floor if oldest is None else min(floor, oldest)
        rows = "SELECT revision, key FROM touched WHERE revision <= ? LIMIT ?"
        db.execute(f"DELETE FROM touched WHERE (revision, key) IN ({rows})", (first_kept, ROWS_PER_TRANSACTION))
        count = db.changes()
        db.execute("COMMIT")
        if count < ROWS_PER_TRANSACTION:
            return
        time.sleep(PAUSE_SECONDS)
