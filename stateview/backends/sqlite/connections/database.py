"""The database file of a namespace: how it is created and opened, its connections, and its errors as ours."""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import apsw

from ....errors import (
    NOTHING_CHANGED,
    BackendError,
    BackendUnavailable,
    Damaged,
    InvalidName,
    ReadOnly,
    Reentered,
    StateException,
)
from ...files.durable_files import (
    CLOSE_FILES,
    check_links,
    file_error,
    file_lock,
    fsync_folder,
    holds_lock,
    is_out_of_files,
    remove,
    remove_stale_temporary_files,
    temporary,
)
from ...fork import watch_fork
from ...protocol import CommitRequest
from ...reentry import reentry_error
from ...retries import Backoff
from ...stored_values import StoredValues
from .. import schema
from ..row_checksums import RECOVER, first_corruption
from . import page_checksums as pages
from . import wal_index
from .pool import Connection, Pool, PooledConnection, connections, inherited, leave_log, make_way

SMALL_FILE_BYTES = 64 * 1024  # up to this size a database is checked whole when it is first opened; takes about 1 ms
_SMALLEST_PAGE_BYTES = 4096
_FILES_OF_CONNECTION = 4  # the database, its -wal and -shm, and their folder
_MIN_BACKOFF_SECONDS = 0.001
_MAX_BACKOFF_SECONDS = 0.005  # beside busy writers a waiter with long pauses comes too late again and again


class Database(ABC):
    """The file `ROOT/NAMESPACE/state.db` and this process's connections to it.

    Args:
        root: the folder of the store. The namespace is a folder in it, which the first commit creates.
        namespace: a checked name.
        read_only: open the database for reading only, and never create it.
        timeout: seconds to wait for another writer.
        durability: `full` or `normal`, see `SQLiteBackend`.

    """

    def __init__(self, root: str, namespace: str, read_only: bool, timeout: float, durability: str) -> None:
        if durability not in ("full", "normal"):
            raise BackendError(f"durability={durability!r} is not known", "Use 'full' or 'normal'")
        self.root = os.path.abspath(root)
        self.url = f"sqlite:{root}"
        self.namespace = namespace
        self.folder = os.path.join(self.root, namespace)
        self.path = self._real_path()
        try:
            self.path.encode()
        except UnicodeEncodeError:
            what = f"{self.path!r}: SQLite opens no file whose path is not UTF-8"
            raise InvalidName(what, "Rename the folder, or use JSON files") from None
        self.read_only = read_only
        self.timeout = timeout
        self.durability = durability
        self._checked = False  # whether a small database was checked whole
        self._complete_inode = 0  # of the database that was found to have all its parts
        self._pool = self._pool_before_fork = Pool()
        self._mutex = threading.RLock()  # held while a connection is opened
        watch_fork(self)

    @abstractmethod
    def _adopt(self) -> None:
        """Convert a database of the older layout in place."""

    values: StoredValues  # the form of the values that was read last; that of a transaction is its connection's
    _given: StoredValues  # the form by the arguments
    _form: tuple[bytes | None, StoredValues]  # the keyring that was opened last, with its form

    def _check_form(self, db: Connection) -> bool:
        """Return whether a connection knows the form of what its transaction has read; else let it know.

        To be called in a transaction, after the first read: that decides which state is read.
        """
        version = db.data_version()
        if version == db.form_version:
            return True
        document = None
        if int(db.pragma("user_version")) > 2 * schema.FORMAT:
            from .. import sealing

            document = sealing.read_keyring(db)
            if document is None:
                raise Damaged(f"{self.path}: the keyring is missing", "Restore the database from a backup")
        known, values = self._form
        if document != known:
            values = self._given.opened(document)
            self._form = document, values
        is_known = db.form_version != -1 and document == db.keyring
        self.values, db.values, db.keyring, db.form_version = values, values, document, version
        return is_known

    # --- forks -------------------------------------------------------------------------------------------------

    def before_fork(self) -> None:
        """Close all connections: SQLite's own record of who holds which lock would be wrong in the child."""
        self._mutex.acquire()
        # With an empty pool a thread must open a connection, and waits for the mutex. It would not wait for `close`.
        self._pool_before_fork, self._pool = self._pool, Pool()
        with suppress(Reentered):  # in the middle of another call, which the child does not continue
            make_way(self._pool_before_fork.inode, self.path)
        backoff = Backoff(self.timeout, _MIN_BACKOFF_SECONDS, _MIN_BACKOFF_SECONDS)
        self._pool_before_fork.close_idle()
        while self._pool_before_fork.is_used_elsewhere() and backoff.wait():
            self._pool_before_fork.close_idle()

    def after_fork(self, child: bool) -> None:
        """Let parent and child open connections anew."""
        if not child:
            self._pool = self._pool_before_fork
            self._mutex.release()
            return
        if self._pool_before_fork.opened:  # another thread still used connections: the child never closes them
            inherited.append(self._pool_before_fork)
        self._pool = self._pool_before_fork = Pool()
        self._mutex = threading.RLock()

    # --- connections -------------------------------------------------------------------------------------------

    def _connection(self, new: CommitRequest | None = None) -> PooledConnection:
        """Return a context manager that gives this thread a connection.

        It gives None where there is no database, unless `new` is a commit that creates the database.
        """
        return PooledConnection(self, new)

    def _current_pool(self) -> Pool:
        """Return the pool of the file that is at the path now: another process may have dropped or replaced it."""
        inode = self._inode()
        if inode != self._pool.inode:
            with self._mutex:
                if inode != self._pool.inode:
                    self.close()
                    self._pool = Pool(inode)
        return self._pool

    def _real_path(self) -> str:
        """Return the path of the database itself, where `state.db` is a link: SQLite puts the -wal beside the file."""
        path = os.path.join(self.folder, "state.db")
        return os.path.realpath(path) if os.path.islink(path) else path

    def _inode(self) -> int:
        """Return the inode of the file at the path, 0 where there is none."""
        try:
            return os.stat(self.path).st_ino
        except FileNotFoundError:
            check_links(self.root, self.folder, os.path.join(self.folder, "state.db"))
            former, self.path = self.path, self._real_path()  # `drop` removes the link and what it leads to
            return 0 if self.path == former else self._inode()
        except OSError as error:
            raise file_error(error, self.path) from error

    def _open(self, pool: Pool) -> Connection | None:
        """Open a connection for a pool; None where the namespace has no database."""
        with self._mutex:
            connection = self._connect() if pool.inode else None
            if connection is not None:
                connection.inode, connection.pool = pool.inode, pool
                pool.opened.add(connection)
                connections.add(connection)
            return connection

    def _connect(self, pooled: bool = True) -> Connection | None:
        """Open the database; None where there is none. See `_busy_handler` for `pooled`."""
        try:
            size = os.stat(self.path).st_size
        except FileNotFoundError:
            return None
        except OSError as error:
            raise file_error(error, self.path) from error
        if size == 0:
            raise Damaged(f"{self.path} is empty, which no database of stateview is", RECOVER)
        may_be_cut_off = size % _SMALLEST_PAGE_BYTES and not self._has_log()  # pages may still be in the log alone
        with self._errors():
            connection = self._new_connection(pooled)
            if schema.is_older(connection):
                if connection.readonly("main"):
                    raise ReadOnly(f"{self.path} is of an older format", "Open it once for writing, which adopts it")
                connection.close()
                self._adopt()
                return self._connect(pooled)
            connection.execute("BEGIN")
            schema.check(connection, self.path)
            self._check_form(connection)
            if may_be_cut_off and size % int(connection.pragma("page_size")):
                connection.close()  # SQLite would read the missing part of the last page as zeros
                raise Damaged(f"{self.path} is cut off in the middle of a page", RECOVER)
            if not self._checked and size <= SMALL_FILE_BYTES:
                if corruption := first_corruption(connection, set(), connection.values, True):
                    connection.close()
                    raise Damaged(f"{self.path}: {corruption}", RECOVER)
                self._checked = True
            elif self._complete_inode != (inode := self._inode()):
                if missing := schema.find_missing(connection):
                    connection.close()
                    raise Damaged(f"{self.path}: {missing}", RECOVER)
                self._complete_inode = inode
            connection.execute("COMMIT")
        return connection

    def _new_connection(self, pooled: bool) -> Connection:
        backoff = Backoff(self.timeout, _MIN_BACKOFF_SECONDS, _MAX_BACKOFF_SECONDS)
        while wal_index.is_outdated(connection := self._open_file(pooled)):
            leave_log(connection)  # which is not the log of the index
            connection.close()
            if self._may_write():
                wal_index.remove_index(self.path)
            if not backoff.wait():
                what = f"{self.path}: another program held an outdated index of the -wal file for {self.timeout:g} s"
                raise BackendUnavailable(what, "Close that program, and try again")
        schema.prepare(connection, self.durability)
        return connection

    def _open_file(self, pooled: bool) -> Connection:
        name, signature = self.path, None
        may_write = not self.read_only and self._may_write()
        flags = apsw.SQLITE_OPEN_READWRITE if may_write else apsw.SQLITE_OPEN_READONLY
        if not may_write and not os.access(self.folder, os.W_OK) and not os.path.exists(self.path + "-wal"):
            # Even a reader creates the -wal and -shm files, unless the database is said to be immutable.
            signature = self._signature()
            name = f"file:{schema.uri_path(self.path)}?immutable=1"
            flags |= apsw.SQLITE_OPEN_URI
        connection = Connection.open(name, flags=flags, vfs=pages.vfs())
        connection.signature = signature
        connection.set_busy_handler(self._busy_handler(pooled))  # before the first read, which can meet a lock
        return connection

    def _may_write(self) -> bool:
        """Return whether this user may write the database and the files beside it. Who may not can still read."""
        beside = [path for path in (f"{self.path}-wal", f"{self.path}-shm") if os.path.exists(path)]
        needed = [self.path, *beside] if len(beside) == 2 else [self.path, *beside, self.folder]
        # Others make files between two looks, and the last connection of another process may remove one
        return all(
            not os.path.lexists(path) or os.access(path, os.W_OK) or not os.path.lexists(path) for path in needed
        )

    def _signature(self) -> tuple[int, int, int, bool] | None:
        """Return what changes with any write to the database; None where there is no database."""
        try:
            status = os.stat(self.path)
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size, os.path.exists(self.path + "-wal")

    def _has_log(self) -> bool:
        return any(os.path.exists(self.path + suffix) for suffix in ("-wal", "-journal"))

    def _busy_handler(self, pooled: bool = False) -> Callable[[int], bool]:
        """Return SQLite's busy handler: wait with growing, random pauses until `timeout` is over.

        Args:
            pooled: whether it is for a connection that can meet a lock of its own thread. That of a recovery cannot.

        """
        backoff: Backoff | None = None

        def wait(attempt: int) -> bool:
            nonlocal backoff
            if attempt == 0 and pooled and self._make_way():
                return True
            if backoff is None or attempt == 0:
                backoff = Backoff(self.timeout, _MIN_BACKOFF_SECONDS, _MAX_BACKOFF_SECONDS)
            return backoff.wait()

        return wait

    def _make_way(self) -> bool:
        """Roll back the commit in the middle of which this call came, see `make_way`."""
        if holds_lock(os.path.join(self.folder, "lock")):
            raise reentry_error(self.path)
        return make_way(self._inode(), self.path)

    def close(self) -> None:
        """Close the connections that are not in use."""
        self._pool.close_idle()

    # --- files -------------------------------------------------------------------------------------------------

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """Hold the folder's lock, under which files are created and moved; errors of the system become ours."""
        try:
            with file_lock(os.path.join(self.folder, "lock"), self.timeout):
                yield
        except OSError as error:
            raise file_error(error, error.filename or self.folder) from error

    def _create(self) -> None:
        """Create the database under a temporary name and rename it, so that nobody opens half of a database."""
        with self._lock():
            remove_stale_temporary_files(self.folder)
            if os.path.exists(self.path):
                return
            name = temporary(self.path)
            try:
                with self._errors():
                    schema.create(name, keyring=self._given.new_keyring())
                os.rename(name, self.path)
            finally:
                for leftover in (name, f"{name}-wal", f"{name}-shm", f"{name}-journal"):
                    remove(leftover)
            fsync_folder(self.folder)

    def _check_writable(self) -> None:
        if self.read_only:
            raise ReadOnly(f"{self.path} is open for reading only")

    # --- errors ------------------------------------------------------------------------------------------------

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Raise errors of SQLite as ours."""
        try:
            yield
        except (apsw.Error, UnicodeDecodeError) as error:
            raise self._translate(error) from error

    def _translate(self, error: apsw.Error | UnicodeDecodeError) -> StateException:
        """Make our error of SQLite's, with the path and the next step."""
        what = f"{self.path}: {error}"
        if isinstance(error, (apsw.BusyError, apsw.LockedError)):
            return BackendUnavailable(f"{self.path} was locked by another writer for {self.timeout:g} s", "Try again")
        if isinstance(error, (apsw.CorruptError, apsw.NotADBError, apsw.SQLError, UnicodeDecodeError)):
            return Damaged(what, RECOVER)  # an SQLError means that the tables are not ours, since our statements are
        if isinstance(error, apsw.FullError):
            return BackendError(f"{what}: no space left", (NOTHING_CHANGED, "Free some space and try again"))
        if getattr(error, "extendedresult", 0) == apsw.SQLITE_READONLY_ROLLBACK:
            what = f"{self.path}: a rollback journal lies beside it, and only who may write can take that back"
            return ReadOnly(what, "Open it once for writing")
        if isinstance(error, (apsw.ReadOnlyError, apsw.PermissionsError)):
            what = f"{self.path}: this user may not write to it, or to its folder"
            return ReadOnly(what, "Ask who owns them for the right to write to the folder and all files in it")
        if isinstance(error, apsw.CantOpenError):
            if is_out_of_files(_FILES_OF_CONNECTION):
                return BackendError(f"{self.path}: too many files are open", CLOSE_FILES)
            hint = "Check the folder's permissions and free space: a WAL database writes beside itself even to be read"
            return BackendError(what, hint)
        if isinstance(error, apsw.IOError):
            if pages.is_fault(error):
                what = f"{self.path}: a page is not what was written, or was written by another program"
                return Damaged(what, RECOVER)
            return BackendError(what, "Check the disk, and its free space")
        return BackendError(what)
