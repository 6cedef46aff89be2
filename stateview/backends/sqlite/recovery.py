"""`recover()` of a SQLite namespace: every row that is what was written goes into a new database."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import apsw

from ...errors import Damaged, ReadOnly
from ...model import Problem, RecoveryReport, now
from ..durable_files import backup_damaged_file, fsync_folder, remove, remove_stale_temporary_files, temporary
from . import page_checksums as pages
from . import schema
from .row_checksums import KEY_COLUMN, TABLES, Row, checksum, first_corruption, read, row_checksum, until_checksum

if TYPE_CHECKING:
    from .backend import SQLiteBackend

_DEFAULT_PAGE_BYTES = 4096
_TOP = 1 << 62
_SAVED = {
    "entries": ("entry", "entries"), "versions": ("past version", "past versions"), "commits": ("commit", "commits"),
    "marks": ("checkpoint", "checkpoints"),
}  # fmt: skip
_UNREADABLE = (apsw.Error, UnicodeDecodeError)  # the text of an error, too, may hold what is no UTF-8


def recover(backend: SQLiteBackend, trust: float) -> RecoveryReport:
    """Check and mend. See `Backend.recover`. `trust` is for how long others believe that the file is the same."""
    if not os.path.exists(backend.path):
        return RecoveryReport(backend.namespace, 0, tuple(_without_database(backend)))
    if not os.access(backend.folder, os.W_OK):
        hint = "Run it as who owns the folder: what is mended is written there, beside what is damaged"
        raise ReadOnly(f"{backend.folder}: this user may not write to it", hint)
    with backend._lock():
        problems = [
            Problem(name, "left over from a process that is gone", "removed")
            for name in remove_stale_temporary_files(backend.folder)
        ]
        kept: tuple[str, ...] = ()
        if found := _examine(backend):
            backend.close()
            kept = _Rebuild(backend, found, problems, trust).run()
        return RecoveryReport(backend.namespace, backend.head().revision, tuple(problems), kept)


def _without_database(backend: SQLiteBackend) -> Iterator[Problem]:
    """Of a file that someone removed, or is moving, nothing can be mended, and its log is of use only beside it."""
    if os.path.exists(backend.path + "-wal"):
        place = os.path.relpath(backend.path, backend.root)
        done = "nothing was changed: put the file back beside that one, or remove that one as well"
        yield Problem(place, "it is missing, and its wal file is there", done, False)


def _examine(backend: SQLiteBackend) -> str:
    """What is wrong with the database as it is, or nothing."""
    try:
        with backend._connection() as db:
            assert db is not None
            if found := first_corruption(db, schema.tables()):
                return found
            # Two bytes of the header say whether a database may be written.
            may = os.access(backend.path, os.W_OK) and os.access(backend.folder, os.W_OK)
            return "its header says that it may not be written" if may and db.readonly("main") else ""
    except Damaged as error:
        return error.message


class _Rebuild:
    def __init__(self, backend: SQLiteBackend, found: str, problems: list[Problem], trust: float) -> None:
        self.trust = trust
        self.backend = backend
        self.path = backend.path
        self.found = found
        self.problems = problems
        self.good: dict[str, dict[Row, Row]] = {table: {} for table in TABLES}  # by what identifies a row
        self.lost: list[str] = []
        self.unread: set[str] = set()  # tables that could not be read to the end
        self.named: set[str] = set()  # checkpoints, as an index lists them
        self.kinds: dict[tuple[str, int], str] = {}  # of checkpoints, where they can be read

    def run(self) -> tuple[str, ...]:
        original = self.lock()
        if original is not None and self.is_foreign(original):
            original.close()
            raise Damaged(f"{self.path}: {self.found}", "Move it away, or give another store")
        name, copy = temporary(self.path), temporary(self.path)
        try:
            if original is not None and self.has_tables(original):
                self.copy(original)
            else:
                self.mend_schema(copy)
                mended = pages.connect_trusting(copy)
                self.copy(mended)
                mended.close()
            schema.create(name)
            self.write(name)
            kept = self.replace(name, original)
        finally:
            if original is not None:
                original.close()
            for path in (name, copy):
                for suffix in ("", "-wal", "-shm", "-journal"):
                    remove(path + suffix)
        place = os.path.relpath(self.path, self.backend.root)
        held = any(self.good[table] for table in ("entries", "versions", "commits"))
        saved = {names: len(self.good[table]) for table, names in _SAVED.items()}
        counts = ", ".join(f"{count:,} {one if count == 1 else many}" for (one, many), count in saved.items())
        done = f"built anew from the rows that are sound ({counts}); it is kept as {os.path.basename(kept[0])}"
        if not held and (self.unread or os.path.getsize(kept[0]) == 0):
            done = f"nothing in it could be read; it is kept as {os.path.basename(kept[0])}, and the namespace is empty"
            self.lost.append("everything")
        self.problems.append(Problem(place, self.found, done, not self.lost))
        self.problems += [Problem(what, "not what was written", "lost: no other copy of it exists", False)
                          for what in self.lost]  # fmt: skip
        return kept

    def lock(self) -> apsw.Connection | None:
        """The damaged database, kept from all writers until another is in its place; None where it cannot be opened."""
        connection = pages.connect_trusting(self.path)
        try:
            connection.set_busy_timeout(int(self.backend.timeout * 1000))
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            connection.execute("BEGIN IMMEDIATE")
        except _UNREADABLE:
            connection.close()
            return None
        return connection

    def is_foreign(self, db: apsw.Connection) -> bool:
        """Whether it is a sound database of something else, which is not ours to replace."""
        try:
            names = {name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
            return bool(names) and not names & set(TABLES) and db.pragma("quick_check") == "ok"
        except _UNREADABLE:
            return False

    def has_tables(self, db: apsw.Connection) -> bool:
        """Whether the tables can be read where they lie."""
        try:
            if os.path.getsize(self.path) % _DEFAULT_PAGE_BYTES and db.pragma("page_size") == _DEFAULT_PAGE_BYTES:
                return False  # SQLite takes what is missing of a page for zeros, and does not ask for its checksum
            return schema.tables() <= set(db.execute("SELECT name, sql FROM sqlite_schema"))
        except _UNREADABLE:
            return False

    def mend_schema(self, copy: str) -> None:
        """A copy of the database with the first page of a new one, which knows where the tables begin.

        It is filled up with zeros to where they begin: of a file that lacks one of these pages SQLite reads nothing.
        """
        shutil.copyfile(self.path, copy)
        if os.path.exists(self.path + "-wal"):
            shutil.copyfile(self.path + "-wal", copy + "-wal")
        roots = self.roots(copy)
        new = temporary(self.path)
        try:
            schema.create(new)
            with open(new, "rb") as file:
                first = bytearray(file.read(_DEFAULT_PAGE_BYTES))
        finally:
            remove(new)
        with open(copy, "r+b") as file:
            told = int.from_bytes(file.read(_DEFAULT_PAGE_BYTES)[28:32], "big")
            there = -(-os.path.getsize(copy) // _DEFAULT_PAGE_BYTES)
            count = max(there, int.from_bytes(first[28:32], "big"), *(root for root in roots.values() if root <= told))
            first[28:32], first[32:40] = count.to_bytes(4, "big"), bytes(8)  # no free pages: none will be needed
            first[92:96] = first[24:28]
            file.seek(0)
            file.write(first)
            file.truncate(count * _DEFAULT_PAGE_BYTES)
        db = pages.connect_trusting(copy)
        try:
            db.execute("PRAGMA writable_schema = ON")
            db.execute(f"PRAGMA user_version = {schema.FORMAT}")  # writes the page with its checksum
            for name, root in roots.items():
                if 1 < root <= count:
                    db.execute("UPDATE sqlite_schema SET rootpage = ? WHERE name = ?", (root, name))
        except _UNREADABLE:
            pass  # a table that begins elsewhere is not found; what is read is checked row by row
        finally:
            db.close()

    def roots(self, path: str) -> dict[str, int]:
        """Where the damaged schema says that each table begins, as far as it can be read."""
        out: dict[str, int] = {}
        db = apsw.Connection(path)
        try:
            db.execute("PRAGMA writable_schema = ON")  # goes on past what is malformed
            for name, root in db.execute("SELECT CAST(name AS BLOB), rootpage FROM sqlite_schema"):
                if isinstance(root, int) and root not in out.values():
                    out[name.decode(errors="replace")] = root
        except (*_UNREADABLE, AttributeError):
            pass
        finally:
            db.close()
        return out

    def copy(self, db: apsw.Connection) -> None:
        """Take all rows that are sound.

        A table of which every page is what its checksum is of, is whole. Of another the pages are read as they are:
        what is a row then, its own checksum says. The rows of `touched` have none, and what they tell can be done
        without: of it only sound pages are read.
        """
        for table in TABLES:
            pages.verify(db, True)
            whole = self.take(db, table)
            pages.verify(db, False)
            if not whole:
                self.unread.add(table)
                if table != "touched":
                    self.take(db, table)
        if len(self.good["meta"]) != 1:  # more are rows of another table, whose page is in the place of this one
            self.good["meta"] = {}
            self.lost.append("1 row of the table meta")
        last = max(self.good["commits"], default=(0,))
        if "commits" not in self.unread and any(row[:1] > last for row in self.good["touched"]):
            self.good["touched"] = {}  # another page is in the place of one of its own
            self.unread.add("touched")
        pages.verify(db, True)
        try:
            named = [name for (name,) in db.execute("SELECT name FROM marks INDEXED BY sqlite_autoindex_marks_1")]
        except _UNREADABLE:
            return
        try:
            self.kinds = schema.read_kinds(db)
        except _UNREADABLE:
            pass  # a checkpoint without its kind is told by its name, as an older one is
        if all(isinstance(name, str) and "\0" not in name for name in named):
            self.named = set(named)
        if len(named) > len(self.good["marks"]):  # a page that says it holds fewer rows than it does
            self.unread.add("marks")

    def take(self, db: apsw.Connection, table: str) -> bool:
        """Take the sound rows, forwards to where a table breaks off, and backwards to there; whether it does not."""
        for direction in ("ASC", "DESC"):
            bad = 0
            try:
                for row in read(db, table, direction):
                    if row is None:
                        bad += 1
                    else:
                        self.good[table][_identity(table, row)] = row
            except _UNREADABLE:
                continue
            if bad and table == "commits":
                self.lost.append(f"{bad} row{'s' if bad > 1 else ''} of the table commits")
            elif bad:
                self.unread.add(table)
            return True
        return False

    def write(self, name: str) -> None:
        good = self.good
        commits, marks = good["commits"], good["marks"]
        written: dict[tuple[int, str], int] = {(row[2], row[0]): 0 for row in good["entries"].values()}
        written |= {(row[1], row[0]): row[2] for row in good["versions"].values()}
        metas = list(good["meta"].values())
        floor = metas[0][2] if metas else min((row[0] for row in commits.values()), default=1) - 1
        lineage = metas[0][1] if metas else os.urandom(16).hex()
        told = {(row[0], row[KEY_COLUMN]) for row in commits.values() if row[0] > floor and row[KEY_COLUMN]}
        told |= set(good["touched"].values())
        told |= {(row[2], row[0]) for row in good["versions"].values() if row[2] != _TOP}  # what superseded it
        gone = {row for row in told if row[0] > floor and row not in written}
        touched = told | written.keys()  # all, since of `touched` itself rows may be missing below the floor as well
        turns: dict[str, list[int]] = {key: [] for _, key in gone}
        for revision, key in sorted(touched):
            if key in turns:
                turns[key].append(revision)
        live = {row[0] for row in good["entries"].values()}
        missing = sorted(key for revision, key in gone if turns[key][-1] == revision)
        for key in live & set(missing):  # it was written again since, as is told: what is there is not the last of it
            _, value, revision, moment, expires, sum_ = good["entries"].pop((key,))
            until = next(turn for turn in turns[key] if turn > revision)
            row = key, revision, until, value, moment, expires, sum_ + until_checksum(until)
            good["versions"][_identity("versions", row)] = row
        live -= set(missing)
        if "marks" in self.unread:
            self.lost += [f"checkpoint {mark!r}" for mark in sorted(self.named - {row[1] for row in marks.values()})]
            self.lost += [] if self.named else ["checkpoints, whose names are not known"]
        self.lost += [f"the value of key {key[:60]!r}" for key in missing]
        self.lost += [f"the value of key {key[:60]!r} of revision {revision}"
                      for revision, key in sorted(gone) if turns[key][-1] != revision]  # fmt: skip
        for _, mark, revision, *_ in marks.values():
            seen = {key: [turn for turn in turns[key] if turn <= revision] for key in turns}
            holes = sorted(key for key, before in seen.items() if before and (before[-1], key) in gone)
            if holes:
                names = ", ".join(repr(key[:60]) for key in holes[:10])
                self.lost.append(f"in checkpoint {mark!r} the value of {names}")
        top = max([floor, *(row[0] for row in touched), *(key[0] for key in commits)], default=0)
        last = commits[max(commits)] if commits else None
        if last is not None and last[0] == top and not 0 <= last[2] - len(live) <= len(missing):
            self.lost.append(f"{abs(last[2] - len(live))} entries, whose keys are not known")
        elif "entries" in self.unread and (last is None or last[0] != top or "commits" in self.unread):
            self.lost.append("perhaps entries, whose keys are not known")
        if "versions" in self.unread and self.unread & {"touched", "commits"}:
            self.lost.append("perhaps past versions, whose keys are not known")
        elif "versions" in self.unread:  # `touched` does not tell all that was written before the floor
            self.lost += [f"perhaps values in checkpoint {mark[1]!r} (revision {mark[2]}), whose keys are not known"
                          for mark in marks.values() if mark[2] < floor]  # fmt: skip
        if silent := top - floor - sum(floor < turn for (turn,) in commits):
            first = next(turn for turn in range(floor + 1, top + 1) if (turn,) not in commits)
            self.lost.append(f"the log of {silent} commit{'s' if silent > 1 else ''}, from {first} on")
        revision, moment = top + 1, now()
        if self.lost:
            floor = revision  # states in which something is missing are read only where a checkpoint names them
        said = (revision, moment, len(live), "recovered", "", len(missing), "", 0, 0, 0)
        touched |= {(revision, key) for key in missing}
        self.fill(name, (lineage, floor), said, missing, sorted(touched))

    def fill(self, name: str, meta: Row, said: Row, missing: list[str], touched: list[Row]) -> None:
        """Put what could be read into a new database, with a commit, `said`, that deletes what is missing."""
        revision, moment = said[:2]
        fresh = pages.connect(name)
        try:
            with fresh:
                fresh.execute("DELETE FROM meta; INSERT INTO meta VALUES (1, ?, ?)", meta)
                for table in ("entries", "versions", "commits", "marks"):
                    rows = list(self.good[table].values())
                    if rows:
                        places = ",".join("?" * len(rows[0]))
                        fresh.executemany(f"INSERT OR IGNORE INTO {table} VALUES ({places})", rows)
                for _, mark, at, *_ in self.good["marks"].values():
                    schema.put_kind(fresh, mark, at, self.kinds.get((mark, at), ""))
                for key in missing:
                    sum_ = checksum(key, None, revision, moment, 0) + until_checksum(_TOP)
                    fresh.execute(
                        "INSERT INTO versions VALUES (?, ?, ?, NULL, ?, 0, ?)", (key, revision, _TOP, moment, sum_)
                    )
                fresh.executemany("INSERT OR IGNORE INTO touched VALUES (?, ?)", touched)
                fresh.execute(schema.NEW_COMMIT, (*said, row_checksum(*said)))
            fresh.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            fresh.close()

    def replace(self, name: str, original: apsw.Connection | None) -> tuple[str, ...]:
        kept = [backup_damaged_file(self.path)]
        if original is None:  # no one could write; what is left of a log belongs to the damaged file
            for suffix in ("-wal", "-shm"):
                if os.path.exists(self.path + suffix):
                    kept.append(backup_damaged_file(self.path + suffix))
                    remove(self.path + suffix)
        else:  # its log is empty
            for suffix in ("-wal", "-shm"):
                remove(self.path + suffix)
        os.rename(name, self.path)
        fsync_folder(self.backend.folder)
        time.sleep(self.trust)  # before it lets go of the lock: who commits after this looks at the file again
        return tuple(kept)


def _identity(table: str, row: Row) -> Row:
    return row[:2] if table in ("versions", "touched") else row[:1]
