"""The recovery of a SQLite namespace: read every sound row, and put a new database in place of the damaged one."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import apsw

from ...errors import Damaged, ReadOnly
from ...model import Commit, Problem, to_datetime
from ..files.durable_files import (
    backup_damaged_file,
    fsync_folder,
    remove,
    remove_stale_temporary_files,
    replaced_path,
    temporary,
)
from ..protocol import CheckpointRecord, Head, Restored, Salvage, StoredVersion
from ..stored_values import StoredValues, are_sealed, lost_keyring_error
from . import schema
from .connections import page_checksums as pages
from .row_checksums import TABLES, Row, first_corruption, read
from .transfer import SQLiteReceiver

if TYPE_CHECKING:
    from .backend import SQLiteBackend

_DEFAULT_PAGE_BYTES = 4096
_TOP = 1 << 62
_UNREADABLE = (apsw.Error, UnicodeDecodeError)  # an error's own text may be invalid UTF-8


@contextmanager
def open_recovery(backend: SQLiteBackend, trust_seconds: float) -> Iterator[SQLiteRecovery]:
    """Open a recovery session of a database, under the lock of its folder.

    Other processes rely on an open database file for up to `trust_seconds` after it was replaced.
    """
    session = SQLiteRecovery(backend, trust_seconds)
    if not os.path.exists(backend.path):  # an unlocked look: the lock would create the folder
        yield session
        return
    if not os.access(backend.folder, os.W_OK):
        hint = "Run it as the owner of the folder: the repaired database is written beside the damaged one"
        raise ReadOnly(f"{backend.folder}: this user may not write to it", hint)
    with backend._lock():
        try:
            yield session
        finally:
            session.close()


class SQLiteRecovery:
    """A `RecoverySession` that writes a new database beside the damaged one."""

    def __init__(self, backend: SQLiteBackend, trust_seconds: float) -> None:
        self.problems: list[Problem] = []
        self.kept: list[str] = []
        self._backend = backend
        self._path = backend.path
        self._trust_seconds = trust_seconds
        self._original: apsw.Connection | None = None
        self._copy = temporary(backend.path)
        self._rows: dict[str, dict[Row, Row]] = {table: {} for table in TABLES}  # sound rows, by their identity
        self._kinds: dict[tuple[str, int], str] = {}
        self._values: StoredValues = backend.values
        self._keyring: bytes | None = None
        self._salvage = Salvage(subject=os.path.relpath(self._path, backend.root), damage="")

    def close(self) -> None:
        """Release the damaged database, and remove what was only needed to read it."""
        if self._original is not None:
            self._original.close()
        for suffix in ("", "-wal", "-shm", "-journal"):
            remove(self._copy + suffix)

    def repair(self) -> None:
        """Remove leftover files; report a WAL file without its database, which only a person can bring back."""
        if os.path.exists(self._path):
            for name in remove_stale_temporary_files(self._backend.folder):
                self.problems.append(Problem(name, "left over from a process that is gone", "removed", code="leftover"))
        elif os.path.exists(self._path + "-wal"):
            done = "nothing was changed: put the database file back beside the -wal file, or remove the -wal file too"
            found = "it is missing, and its -wal file exists"
            self.problems.append(Problem(self._salvage.subject, found, done, False, "no-database"))

    def salvage(self) -> Salvage | None:
        """Read the sound rows, from the file itself or, if its schema is damaged, from a copy with a new schema."""
        if self.kept or not os.path.exists(self._path):
            return None
        damage = self._find_damage()
        if not damage:
            return None
        self._backend.close()
        self._salvage.damage = damage
        self._original = self._lock()
        if self._original is not None and self._is_foreign(self._original):
            raise Damaged(f"{self._path}: {damage}", "Move it away, or give another store")
        if self._original is not None and self._has_tables(self._original):
            self._read_tables(self._original)
        else:
            self._replace_schema(self._copy)
            database = pages.connect_trusting(self._copy)
            self._read_tables(database)
            database.close()
        self._fill_salvage()
        return self._salvage

    def rewrite(self, restored: Restored) -> None:
        """Write a new database, and rename it into place while the damaged one is locked."""
        name = os.path.basename(temporary(self._path))
        versions = sorted(restored.versions, key=lambda version: (version.key, version.revision))
        keyring = self._keyring
        if not (keyring or versions):  # nothing is left that is plain: it begins anew as the arguments say
            keyring = self._backend._given.new_keyring()
        stage = SQLiteReceiver(self._backend, name, keyring)
        try:
            stage.put(versions, restored.commits, restored.marks, note={})
            self._replace(stage.build(restored.head))
        finally:
            stage.drop()

    # --- the damaged file --------------------------------------------------------------------------------------

    def _find_damage(self) -> str:
        """Describe what is wrong with the database; "" where it is sound."""
        backend = self._backend
        try:
            with backend._errors():
                connection = backend._connect(pooled=False)
            assert connection is not None
            with backend._errors(), closing(connection) as db:
                if damage := first_corruption(db, schema.tables(), connection.values):
                    return damage
                # Two bytes of the header say whether a database may be written
                writable = os.access(backend.path, os.W_OK) and os.access(backend.folder, os.W_OK)
                return "its header says that it may not be written" if writable and db.readonly("main") else ""
        except Damaged as error:
            return error.message

    def _lock(self) -> apsw.Connection | None:
        """Open the damaged database and lock it against writers; None where it cannot be opened."""
        connection = pages.connect_trusting(self._path)
        try:
            connection.set_busy_timeout(int(self._backend.timeout * 1000))
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            connection.execute("BEGIN IMMEDIATE")
        except _UNREADABLE:
            connection.close()
            return None
        return connection

    def _is_foreign(self, db: apsw.Connection) -> bool:
        """Whether this is a sound database of another program, which must not be replaced."""
        try:
            names = {name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
            return bool(names) and not names & set(TABLES) and db.pragma("quick_check") == "ok"
        except _UNREADABLE:
            return False

    def _has_tables(self, db: apsw.Connection) -> bool:
        """Whether the schema is sound, so that the tables can be read in place."""
        try:
            if os.path.getsize(self._path) % _DEFAULT_PAGE_BYTES and db.pragma("page_size") == _DEFAULT_PAGE_BYTES:
                return False  # SQLite reads the missing bytes of a page as zeros, and does not verify its checksum
            return schema.tables() <= set(db.execute("SELECT name, sql FROM sqlite_schema"))
        except _UNREADABLE:
            return False

    def _replace_schema(self, copy: str) -> None:
        """Copy the database, and give the copy the first page of a new database, with the root pages of the tables.

        The copy is padded with zeros up to the last root page: SQLite reads nothing from a file that lacks one.
        """
        shutil.copyfile(self._path, copy)
        if os.path.exists(self._path + "-wal"):
            shutil.copyfile(self._path + "-wal", copy + "-wal")
        roots = self._root_pages(copy)
        new = temporary(self._path)
        self._keyring = self._find_keyring()
        is_sealed = self._keyring is not None or "keyring" in roots
        try:
            schema.create(new, with_deltas="packed" in roots, keyring=b"" if is_sealed else None)
            with open(new, "rb") as file:
                first = bytearray(file.read(_DEFAULT_PAGE_BYTES))
        finally:
            remove(new)
        with open(copy, "r+b") as file:
            stated = int.from_bytes(file.read(_DEFAULT_PAGE_BYTES)[28:32], "big")
            present = -(-os.path.getsize(copy) // _DEFAULT_PAGE_BYTES)
            needed = [root for root in roots.values() if root <= stated]
            count = max(present, int.from_bytes(first[28:32], "big"), *needed)
            first[28:32], first[32:40] = count.to_bytes(4, "big"), bytes(8)  # no free pages: the copy is only read
            first[92:96] = first[24:28]
            file.seek(0)
            file.write(first)
            file.truncate(count * _DEFAULT_PAGE_BYTES)
        db = pages.connect_trusting(copy)
        try:
            db.execute("PRAGMA writable_schema = ON")
            version = schema.FORMAT * (1 + ("packed" in roots or is_sealed) + is_sealed)
            db.execute(f"PRAGMA user_version = {version}")  # writes the page with its checksum
            for name, root in roots.items():
                if 1 < root <= count:
                    db.execute("UPDATE sqlite_schema SET rootpage = ? WHERE name = ?", (root, name))
        except _UNREADABLE:
            pass  # a table with another root page is not found; every row that is read has its own checksum
        finally:
            db.close()

    def _root_pages(self, path: str) -> dict[str, int]:
        """Read the root page of each table from the damaged schema, as far as it is readable."""
        out: dict[str, int] = {}
        db = apsw.Connection(path)
        try:
            db.execute("PRAGMA writable_schema = ON")  # reads on after a malformed row
            for name, root in db.execute("SELECT CAST(name AS BLOB), rootpage FROM sqlite_schema"):
                if isinstance(root, int) and root not in out.values():
                    out[name.decode(errors="replace")] = root
        except (*_UNREADABLE, AttributeError):
            pass
        finally:
            db.close()
        return out

    def _read_tables(self, db: apsw.Connection) -> None:
        """Read all sound rows.

        A table whose pages all have the right checksum is complete. Otherwise its pages are read unverified, and each
        row is verified by its own checksum. The rows of `touched` have no checksum and can be derived from the
        versions, so only its verified pages are read.
        """
        self._choose_values(db)
        for table in TABLES:
            pages.verify(db, True)
            complete = self._read_table(db, table)
            pages.verify(db, False)
            if not complete:
                self._salvage.unread.add(table)
                if table != "touched":
                    self._read_table(db, table)
        if len(self._rows["meta"]) != 1:  # two rows come from a page of another table in this place
            self._rows["meta"] = {}
            self._lose_rows(1, "meta")
        last = max(self._rows["commits"], default=(0,))
        if "commits" not in self._salvage.unread and any(row[:1] > last for row in self._rows["touched"]):
            self._rows["touched"] = {}  # one of its pages was replaced by another page
            self._salvage.unread.add("touched")
        pages.verify(db, True)
        try:
            named = [name for (name,) in db.execute("SELECT name FROM marks INDEXED BY sqlite_autoindex_marks_1")]
        except _UNREADABLE:
            return
        try:
            self._kinds = schema.read_kinds(db)
        except _UNREADABLE:
            pass  # the kind of a checkpoint without a stored kind follows from its name
        if all(isinstance(name, str) and "\0" not in name for name in named):
            self._salvage.checkpoint_names = set(named)
        if len(named) > len(self._rows["marks"]):  # the header of a page counts too few rows
            self._salvage.unread.add("marks")

    def _choose_values(self, db: apsw.Connection) -> None:
        """Choose the form of values by the keyring.

        Raises:
            Sealed: no key opens the values, so that deltas cannot be read.
            Damaged: the database has sealed values, and no keyring was found.

        """
        from . import sealing

        pages.verify(db, True)
        is_sealed = self._keyring is not None
        try:
            is_sealed |= sealing.is_sealed(db)
            self._keyring = sealing.read_keyring(db) or self._keyring
        except _UNREADABLE:
            pass
        if self._keyring is None and is_sealed:
            self._keyring = self._find_keyring()
        if self._keyring is None and (is_sealed or are_sealed(_live_values(db))):
            raise lost_keyring_error(self._path)
        self._values = self._backend._given.opened(self._keyring)
        self._values.check_open()

    def _find_keyring(self) -> bytes | None:
        """Look for a keyring in the bytes of the file and its log; one that the key opens is preferred. O(size)."""
        from ...sealing.keyring import find_keyrings

        found = None
        for path in (self._path, self._path + "-wal"):
            if os.path.exists(path):
                with open(path, "rb") as file:
                    data = file.read()
                for document in find_keyrings(data):
                    if found is None or self._backend._given.opened(document).error is None:
                        found = document
        return found

    def _read_table(self, db: apsw.Connection, table: str) -> bool:
        """Read the sound rows from the start and, if a page is unreadable, from the end; whether all could be read."""
        for direction in ("ASC", "DESC"):
            bad = 0
            try:
                for row in read(db, table, self._values, direction):
                    if row is None:
                        bad += 1
                    else:
                        self._rows[table][_identity(table, row)] = row
            except _UNREADABLE:
                continue
            if bad and table == "commits":
                self._lose_rows(bad, table)
            elif bad:
                self._salvage.unread.add(table)
            return True
        return False

    def _lose_rows(self, count: int, table: str) -> None:
        rows = f"{count} row{'s' if count > 1 else ''} of the table {table}"
        found, done = "not what was written", "lost: no other copy exists"
        self._salvage.losses.append(Problem(rows, found, done, False, "lost-rows"))

    def _fill_salvage(self) -> None:
        """Put the rows into the salvage."""
        rows, salvage = self._rows, self._salvage
        _, lineage, floor = next(iter(rows["meta"].values()), (1, "", -1))
        salvage.head = Head(0, 0, -1, floor, lineage)
        commits = rows["commits"]
        if commits:
            revision, moment, count, *_ = commits[max(commits)]
            salvage.head = Head(revision, moment, count, floor, lineage)
        for row in commits.values():
            revision, moment, _, reason, author, keys, key, *undo, _ = row
            salvage.commits.append(Commit(revision, to_datetime(moment), reason, author, keys, *undo))
            if key and revision > floor:
                salvage.written.add((key, revision))
        for key, value, revision, moment, expires, _ in rows["entries"].values():
            salvage.versions.append(StoredVersion(key, value.encode(), revision, moment, expires))
        for key, revision, until, value, moment, expires, _ in rows["versions"].values():
            data = None if value is None else value.encode()
            salvage.versions.append(StoredVersion(key, data, revision, moment, expires, 0 if until == _TOP else until))
        salvage.written |= {(key, revision) for revision, key in rows["touched"].values()}
        for _, name, revision, moment, note, _ in rows["marks"].values():
            salvage.marks.append(CheckpointRecord(name, revision, moment, note, self._kinds.get((name, revision), "")))
        if os.path.getsize(self._path) == 0:
            salvage.unread.update(TABLES)

    def _replace(self, new: str) -> None:
        """Keep the damaged file, and put another in its place. The damaged file's log is of no use to the new one."""
        replaced_path(self._path, os.path.dirname(new))  # before anything is changed
        self.kept.append(backup_damaged_file(self._path))
        for suffix in ("-wal", "-shm"):
            path = self._path + suffix
            if self._original is None and os.path.exists(path):  # else the log was written back, and is empty
                self.kept.append(backup_damaged_file(path))
            remove(path)
        os.rename(new, self._path)
        fsync_folder(os.path.dirname(self._path))
        time.sleep(self._trust_seconds)  # before the lock is released: later commits look at the file again


def _live_values(db: apsw.Connection) -> list[bytes]:
    """Return the live values as they are stored, as far as they can be read. O(size)."""
    pages.verify(db, False)
    try:
        return [value.encode() for (value,) in db.execute("SELECT value FROM entries") if isinstance(value, str)]
    except _UNREADABLE:
        return []
    finally:
        pages.verify(db, True)


def _identity(table: str, row: Row) -> Row:
    return row[:2] if table in ("versions", "touched") else row[:1]
