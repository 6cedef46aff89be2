"""Upkeep of a SQLite namespace: what is kept beside what is live, what it takes on the disk, and forgetting it."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import apsw

from ...errors import BackendError
from ..common import file_error
from ..protocol import DiskUsage, ProgressCount, SupersededVersion
from ..stored_values import StoredValues

if TYPE_CHECKING:
    from .backend import SQLiteBackend

ROWS_PER_TRANSACTION = 5000  # rows of one transaction, between which others write
PAUSE_SECONDS = 0.005  # seconds between these: who waits for a lock does not hear of its end, but looks again and again
ROW_OVERHEAD_BYTES = (
    58  # bytes of a row of `versions`, of its place in the index and of `touched`, beside its value and three keys
)

_PAST = """SELECT key, revision, until, coalesce(octet_length(value), 0), value IS NULL, {value} FROM versions
    WHERE (key, revision) > (?, ?) ORDER BY key, revision LIMIT ?"""
_OPEN = 1 << 62  # `until` of a delete that still stands
_NEXT = """SELECT key, revision FROM versions WHERE (key, revision) > (?, ?)
    ORDER BY key, revision LIMIT 1 OFFSET ?"""
_DROP = """DELETE FROM versions AS v WHERE (key, revision) > (?1, ?2) AND (key, revision) <= (?3, ?4) AND (
    (until <= ?5 AND NOT EXISTS (SELECT 1 FROM marks WHERE marks.revision >= v.revision AND marks.revision < v.until))
    OR (value IS NULL AND revision <= ?5 AND NOT EXISTS (SELECT 1 FROM marks WHERE marks.revision < v.revision)))
    RETURNING revision, key"""
_LAST = ("\U0010ffff" * 257, 0)  # above every key


def past(
    db: apsw.Connection, values: StoredValues, after: tuple[str, int], limit: int
) -> list[SupersededVersion]:  # fmt: skip
    """List superseded versions, see `Backend.superseded`. Where values are not plain, O(their bytes)."""
    query = _PAST.format(value="NULL" if values.plain else "CAST(value AS BLOB)")
    rows = []
    for key, revision, until, stored_size, deleted, stored in db.execute(query, (*after, limit)):
        size = stored_size if stored is None else len(values.unpack(stored, key, revision))
        space = stored_size + 3 * len(key.encode()) + ROW_OVERHEAD_BYTES
        rows.append(SupersededVersion(key, revision, 0 if until == _OPEN else until, size, bool(deleted), space))
    return rows


def space(db: apsw.Connection, path: str) -> DiskUsage:
    """See `Backend.disk_usage`: the database with its WAL. The pages that are free, and the WAL, are spare."""
    total = 0
    for name in (path, path + "-wal"):
        try:
            total += os.stat(name).st_size
        except FileNotFoundError:
            continue
        except OSError as error:
            raise file_error(error, name) from error
    pages = (int(db.execute(f"PRAGMA {name}").get) for name in ("page_count", "freelist_count"))
    count, free = pages
    return DiskUsage(total, max(0, total - (count - free) * int(db.execute("PRAGMA page_size").get)))


def compact(backend: SQLiteBackend, db: apsw.Connection, floor: int, progress: ProgressCount | None) -> int:
    """See `Backend.compact`. Many short transactions; then VACUUM, through which other writers wait, rewrites the file.

    From the first on, nothing asks for what lies before the floor; what is swept away after that is no one's.
    """
    goal = _raise_floor(backend, db, floor)
    total = int(db.execute("SELECT count(*) FROM versions").get)
    dropped = looked = 0
    at: tuple[str, int] | None = ("", 0)
    while at is not None:
        if progress is not None:
            progress(looked, total)
        if at[0]:
            time.sleep(PAUSE_SECONDS)
        at, gone = _sweep(db, at, goal)
        dropped += gone
        looked = min(total, looked + ROWS_PER_TRANSACTION)
    _forget_touched(db, goal)
    if dropped or db.execute("PRAGMA freelist_count").get:
        try:
            db.execute("VACUUM")
        except apsw.FullError as error:
            what = f"{backend.path}: {dropped} versions were dropped, but there is no space left to rewrite the file"
            raise BackendError(what, "Free some space, and compact again") from error
    deadline = time.monotonic() + backend.timeout
    while db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()[0][0] and time.monotonic() < deadline:
        time.sleep(PAUSE_SECONDS)  # another connection is at the same, which the busy handler does not wait for
    return dropped


def _raise_floor(backend: SQLiteBackend, db: apsw.Connection, floor: int) -> int:
    db.execute("BEGIN IMMEDIATE")
    head = backend._head(db)
    goal = max(head.floor, min(floor, head.revision))
    # Above the floor a commit of one key names it itself; below, only `touched` does.
    told = "SELECT revision, key FROM commits WHERE revision > ? AND revision <= ? AND key != ''"
    db.execute(f"INSERT OR IGNORE INTO touched {told}", (head.floor, goal))
    db.execute("DELETE FROM commits WHERE revision <= ? AND revision < (SELECT max(revision) FROM commits)", (goal,))
    db.execute("UPDATE meta SET floor = max(floor, ?)", (goal,))
    db.execute("COMMIT")
    return goal


def _sweep(db: apsw.Connection, after: tuple[str, int], floor: int) -> tuple[tuple[str, int] | None, int]:
    """Drop some of what cannot be seen. Returns where to go on, None at the end, and how many versions went."""
    db.execute("BEGIN IMMEDIATE")
    last = db.execute(_NEXT, (*after, ROWS_PER_TRANSACTION - 1)).fetchone()
    gone = db.execute(_DROP, (*after, *(last or _LAST), floor)).fetchall()
    db.executemany("DELETE FROM touched WHERE revision = ? AND key = ?", gone)
    db.execute("COMMIT")
    return last, len(gone)


def _forget_touched(db: apsw.Connection, floor: int) -> None:
    """Forget which keys the revisions wrote that come before all that is kept."""
    while True:
        db.execute("BEGIN IMMEDIATE")
        oldest = db.execute("SELECT min(revision) FROM marks").get
        low = floor if oldest is None else min(floor, oldest)
        some = "SELECT revision, key FROM touched WHERE revision <= ? LIMIT ?"
        db.execute(f"DELETE FROM touched WHERE (revision, key) IN ({some})", (low, ROWS_PER_TRANSACTION))
        count = db.changes()
        db.execute("COMMIT")
        if count < ROWS_PER_TRANSACTION:
            return
        time.sleep(PAUSE_SECONDS)
