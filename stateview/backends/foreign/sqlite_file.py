"""A database of another program, opened for reading only. Nothing is written, and no lock is held between two reads.

A database without a `-wal` is opened as immutable: even a reader would create `-wal` and `-shm` otherwise. Should its
owner write meanwhile, the read is repeated. A database with a `-wal` is read with it, as SQLite's readers do.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar
from urllib.parse import quote

import apsw

from ...errors import BackendError, BackendUnavailable, Damaged, KeyNotFound, StateException
from ..files.durable_files import file_error
from ..fork import watch_fork

MAGIC = b"SQLite format 3\0"
MAX_BLOB_BYTES = 256 * 1024 * 1024  # of a row that is read; SQLite refuses a longer one
_MAX_REPEATS = 20  # of a read during which the owner wrote, before it counts as unavailable
T = TypeVar("T")
Signature = tuple[int, int, int, bool]


class SqliteFile:
    """A database of another program. Each `read` is one short transaction.

    Args:
        path: of the database.
        tables: the columns that each of its tables must have.
        what: whose database it is to be, for messages, such as `LangGraph's SqliteSaver`.
        timeout: seconds to wait for a writer that locks the whole database.

    """

    def __init__(self, path: str, tables: Mapping[str, Sequence[str]], what: str, timeout: float) -> None:
        self.path = path
        self._tables = tables
        self._what = what
        self._timeout = timeout
        self._lock = threading.RLock()
        self._db: apsw.Connection | None = None
        self._signature: Signature | None = None
        self._is_immutable = False
        self._inode = 0
        self._is_held = False
        self.has_moved = False  # whether a connection was opened anew
        self.generation = 0  # rises with each connection, so that what was learned from another one is not trusted
        watch_fork(self)

    def read(self, act: Callable[[apsw.Connection], T]) -> T:
        """Run an act in a read transaction, and return its result. Readers and writers of the owner go on meanwhile.

        Raises:
            KeyNotFound: there is no such file.
            Damaged: it is no database of that program, or is damaged.
            BackendUnavailable: the owner holds a lock, or writes without a pause.
            BackendError: the system refuses.

        """
        with self._lock:
            for _ in range(_MAX_REPEATS):
                db = self._connection()
                try:
                    if not db.in_transaction:
                        db.execute("BEGIN")
                    try:
                        result = act(db)
                    finally:
                        if not self._is_held and not self._is_stale() and db.in_transaction:
                            db.execute("ROLLBACK")
                    if not self._is_stale():
                        return result
                except (apsw.Error, UnicodeDecodeError) as error:
                    if not self._is_stale():
                        self.close()
                        raise self._translated(error) from error
                except StateException:  # what was read during a write may look damaged
                    if not self._is_stale():
                        raise
                self.close()
            raise BackendUnavailable(f"{self.path} was written to during every read", "Try again")

    @contextmanager
    def held(self) -> Iterator[SqliteFile]:
        """Open the database once more, for reads that are all of one state, until the block ends.

        A `-wal` holds the state while the owner goes on. Without it, the reads after a write of the owner are of the
        state after it, and `has_moved` tells so.
        """
        file = SqliteFile(self.path, self._tables, self._what, self._timeout)
        file._is_held = True
        try:
            yield file
        finally:
            file.close()

    def data_version(self, db: apsw.Connection) -> tuple[int, int]:
        """Return what changes whenever the content may have changed, to be called in a read. O(1)."""
        return self.generation, int(db.pragma("data_version"))

    def close(self) -> None:
        """Close the connection. The next read opens it again."""
        with self._lock:
            if self._db is not None:
                self._db.close(True)
                self._db = None

    def before_fork(self) -> None:
        """Close the connection: SQLite's own record of who holds which lock would be wrong in the child."""
        self._lock.acquire()
        self.close()

    def after_fork(self, child: bool) -> None:
        """Let parent and child open connections anew."""
        if child:
            self._lock = threading.RLock()
        else:
            self._lock.release()

    def _is_stale(self) -> bool:
        """Return whether an immutable database was written to since it was opened."""
        return self._is_immutable and self._signature != self._present_signature()

    def _present_signature(self) -> Signature | None:
        try:
            status = os.stat(self.path)
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size, self._has_wal()

    def _has_wal(self) -> bool:
        return os.path.exists(self.path + "-wal")

    def _connection(self) -> apsw.Connection:
        is_same = self._is_held or self._inode == self._present_inode()
        if self._db is not None and not self._is_stale() and is_same:
            return self._db
        self.has_moved = self.has_moved or self.generation > 0
        self.close()
        self._check_file()
        self._is_immutable = not self._has_wal() and not os.path.exists(self.path + "-journal")
        self._signature, self._inode = self._present_signature(), self._present_inode()
        name = "file:" + quote(os.path.abspath(self.path)) + ("?immutable=1" if self._is_immutable else "?mode=ro")
        try:
            db = apsw.Connection(name, flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
            self._db = db
            db.set_busy_timeout(int(self._timeout * 1000))
            db.limit(apsw.SQLITE_LIMIT_LENGTH, MAX_BLOB_BYTES)
            db.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
            db.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)
            for setting in ("query_only = 1", "mmap_size = 0", "cell_size_check = 1", "cache_size = -8000"):
                db.execute(f"PRAGMA {setting}")
            self._check_tables(db)
        except apsw.Error as error:
            self.close()
            raise self._translated(error) from error
        except StateException:
            self.close()
            raise
        self.generation += 1
        return db

    def _present_inode(self) -> int:
        try:
            return os.stat(self.path).st_ino
        except OSError:
            return 0

    def _check_file(self) -> None:
        """Check that the path leads to a file that begins as a database does. Opening a pipe would wait for ever."""
        if "\0" in self.path:
            raise BackendError("the path holds a NUL character", "Give another path")
        try:
            status = os.stat(self.path)
            if not stat.S_ISREG(status.st_mode):
                raise Damaged(f"{self.path} is no file, so it is not {self._what}", "Give the path of the database")
            with open(self.path, "rb") as file:
                start = file.read(len(MAGIC))
        except FileNotFoundError:
            raise KeyNotFound(f"there is no file {self.path}", "Check the path") from None
        except OSError as error:
            if isinstance(error, StateException):
                raise
            raise file_error(error, self.path) from error
        if start != MAGIC and not (start == b"" and self._has_wal()):
            raise Damaged(f"{self.path} is no SQLite database, so it is not {self._what}", "Check the path")

    def _check_tables(self, db: apsw.Connection) -> None:
        """Check that the tables are there. A view of that name could make the reader run for ever."""
        names = set(
            db.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND sql NOT LIKE 'CREATE VIRTUAL%'")
        )
        for table, columns in self._tables.items():
            found = {row[1] for row in db.execute(f'PRAGMA table_info("{table}")')} if (table,) in names else set()
            if missing := [column for column in columns if column not in found]:
                lacks = f"the columns {', '.join(missing)} of the table {table!r}" if found else f"the table {table!r}"
                raise Damaged(f"{self.path} is not {self._what}: it lacks {lacks}", "Check the path")

    def _translated(self, error: apsw.Error | UnicodeDecodeError) -> StateException:
        what = f"{self.path}: {error}"
        if isinstance(error, (apsw.BusyError, apsw.LockedError)):
            return BackendUnavailable(f"{self.path} was locked by its owner for {self._timeout:g} s", "Try again")
        if isinstance(error, apsw.ReadOnlyError) and os.path.exists(self.path + "-journal"):
            crashed = f"{self.path} has a -journal: a write of its owner did not end, and must be rolled back"
            return BackendUnavailable(
                crashed, "Run its owner once; or copy both files, and read the copy once with 'sqlite3'"
            )
        if isinstance(error, apsw.CantOpenError):
            hint = "Check the permissions: beside a -wal file SQLite needs the -shm file, or may create it"
            return BackendError(what, hint)
        if isinstance(error, apsw.TooBigError):
            return Damaged(f"{self.path}: a row is over {MAX_BLOB_BYTES:,} bytes", "It is too large to be shown")
        if isinstance(error, (apsw.CorruptError, apsw.NotADBError, apsw.SQLError, UnicodeDecodeError)):
            return Damaged(what, "Check it with 'PRAGMA integrity_check' of SQLite: stateview repairs no foreign store")
        return BackendError(what, "Check the disk and the permissions")


def rows(db: apsw.Connection, query: str, values: tuple[Any, ...] = ()) -> list[Any]:
    """Return all rows of a query."""
    return list(db.execute(query, values))
