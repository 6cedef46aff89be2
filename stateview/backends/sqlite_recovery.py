"""`recover()` of a SQLite namespace: every row that is what was written goes into a new database."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import apsw

from ..errors import Damaged
from ..model import Problem, RecoveryReport, now
from . import sqlite_schema as schema
from .shared import file_lock, fsync_folder, keep_damaged, sweep, temporary

if TYPE_CHECKING:
    from .sqlite import SQLiteBackend

_TABLES = {"meta": 3, "entries": 6, "versions": 7, "touched": 2, "commits": 9, "marks": 5}
_ORDER = {"meta": "id", "entries": "key", "versions": "key, revision", "touched": "revision, key",
          "commits": "revision", "marks": "id"}  # fmt: skip
_SUMS = {"entries": (0, 1, 2, 3, 4, 5), "versions": (0, 3, 1, 4, 5, 6)}  # where a row holds what its checksum covers


def recover(backend: SQLiteBackend) -> RecoveryReport:
    """Check and mend. See `Backend.recover`."""
    if not os.path.exists(backend.path):
        return RecoveryReport(backend.namespace, 0)
    with file_lock(os.path.join(backend.folder, "lock"), backend.timeout):
        problems = [Problem(name, "left over from a process that is gone", "removed") for name in sweep(backend.folder)]
        found = _examine(backend)
        if not found:
            return RecoveryReport(backend.namespace, backend.head().revision, tuple(problems))
        backend.close()
        kept = _rebuild(backend, found, problems)
        return RecoveryReport(backend.namespace, backend.head().revision, tuple(problems), kept)


def _examine(backend: SQLiteBackend) -> str:
    """What is wrong with the database as it is, or nothing."""
    try:
        with backend._connection() as db:
            assert db is not None
            said = [row[0] for row in db.execute("PRAGMA integrity_check(5)")]
            if said != ["ok"]:
                return "; ".join(said)
            for table in _SUMS:
                for row in db.execute(f"SELECT * FROM {table}"):
                    if not _sound(table, row):
                        return f"the {table} row of {row[0][:60]!r} is not what was written"
            stored = db.execute("SELECT count FROM commits ORDER BY revision DESC LIMIT 1").fetchone()
            count = db.execute("SELECT count(*) FROM entries").fetchone()[0]
            if stored is not None and stored[0] != count:
                return f"{count} entries instead of {stored[0]}"
    except Damaged as error:
        return error.message
    return ""


def _sound(table: str, row: tuple[Any, ...]) -> bool:
    from .sqlite import checksum

    key, value, revision, moment, expires, expected = (row[place] for place in _SUMS[table])
    data = None if value is None else value.encode()
    return bool(checksum(key, data, revision, moment, expires) == expected)


def _rows(db: apsw.Connection, table: str) -> Iterator[tuple[Any, ...]]:
    """All rows that can be read: forwards to the first bad page, then backwards to it."""
    for direction in ("ASC", "DESC"):
        order = ", ".join(f"{column} {direction}" for column in _ORDER[table].split(", "))
        try:
            yield from db.execute(f"SELECT * FROM {table} ORDER BY {order}")
            return
        except apsw.Error:
            continue


def _rebuild(backend: SQLiteBackend, found: str, problems: list[Problem]) -> tuple[str, ...]:
    name = temporary(backend.path)
    schema.create(name)
    bad: list[str] = []
    fresh = apsw.Connection(name)
    try:
        fresh.execute("BEGIN; DELETE FROM meta")
        readable = _copy(backend.path, fresh, bad)
        if readable:
            _settle(fresh, bad)
        else:
            fresh.execute("ROLLBACK; BEGIN")
        fresh.execute("COMMIT; PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        fresh.close()
    kept = [keep_damaged(backend.path)]
    for suffix in ("-wal", "-shm"):
        if os.path.exists(backend.path + suffix):
            kept.append(keep_damaged(backend.path + suffix))
    os.rename(name, backend.path)
    fsync_folder(backend.folder)
    saved = f"built anew from the rows that are sound; the damaged file is kept as {os.path.basename(kept[0])}"
    if not readable:
        saved = f"nothing in it could be read; it is kept as {os.path.basename(kept[0])}, and the namespace is empty"
    problems.append(Problem(os.path.relpath(backend.path, backend.root), found, saved, readable))
    problems += [Problem(what, "not what was written", "lost: no other copy of it exists", False) for what in bad]
    return tuple(kept)


def _copy(path: str, fresh: apsw.Connection, bad: list[str]) -> bool:
    try:
        damaged = apsw.Connection(path)
    except apsw.Error:
        return False
    copied = 0
    try:
        for table, width in _TABLES.items():
            for row in _rows(damaged, table):
                if table in _SUMS and not _sound(table, row):
                    bad.append(f"{'the value' if table == 'entries' else 'an earlier value'} of key {row[0][:60]!r}")
                    continue
                try:
                    fresh.execute(f"INSERT OR IGNORE INTO {table} VALUES ({','.join('?' * width)})", row)
                    copied += 1
                except (apsw.ConstraintError, apsw.MismatchError, ValueError):
                    bad.append(f"a row of the table {table}")
    finally:
        damaged.close()
    return copied > 0


def _settle(fresh: apsw.Connection, bad: list[str]) -> None:
    """Make the tables agree, and say which keys are gone without a trace of their value."""
    if fresh.execute("SELECT 1 FROM meta").fetchone() is None:
        schema_lineage = os.urandom(16).hex()
        fresh.execute("INSERT INTO meta VALUES (1, ?, 0)", (schema_lineage,))
        bad.append("the lineage of the namespace")
    gone = fresh.execute(
        """SELECT key, max(revision) FROM touched WHERE revision > (SELECT floor FROM meta) GROUP BY key
        HAVING NOT EXISTS (SELECT 1 FROM entries WHERE entries.key = touched.key)
           AND NOT EXISTS (SELECT 1 FROM versions WHERE versions.key = touched.key AND revision = max(touched.revision))"""
    ).fetchall()
    known = " ".join(bad)
    bad += [f"the value of key {key[:60]!r}" for key, _ in gone if repr(key[:60]) not in known]
    top = """SELECT max(coalesce((SELECT max(revision) FROM commits), 0), coalesce((SELECT max(revision) FROM touched), 0),
        coalesce((SELECT max(revision) FROM entries), 0))"""
    revision = fresh.execute(top).fetchone()[0] + 1
    count = fresh.execute("SELECT count(*) FROM entries").fetchone()[0]
    for key, _ in gone:
        fresh.execute("INSERT INTO touched VALUES (?, ?)", (revision, key))
    fresh.execute(
        "INSERT INTO commits VALUES (?, ?, ?, 'recovered', '', ?, 0, 0, 0)", (revision, now(), count, len(gone))
    )
