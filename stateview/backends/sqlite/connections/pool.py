"""Connections to one database, and the use of a connection for the length of a block."""

from __future__ import annotations

import threading
from _weakrefset import WeakSet  # weakref.WeakSet, without the rest of weakref
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

import apsw

from ....errors import BackendUnavailable, Damaged, ReadOnly
from ...conflicts import check_new
from ...protocol import CommitRequest, Head
from ...reentry import members, reentry_error
from ...stored_values import PLAIN, StoredValues
from ..read_cache import ReadCache, open_cache
from .file_locks import LockedConnection

if TYPE_CHECKING:
    from .database import Database

_LOADS_BEFORE_CACHING = 3  # a process that loads once or twice needs no cache


class Connection(LockedConnection):
    """A connection that remembers its own last commit, so that the next commit need not read the head.

    `last_commit` is SQLITE_FCNTL_DATA_VERSION after that commit, the head, and when the next entry expires. The data
    version changes with each commit of this connection, and when a transaction begins after another one's commit.
    """

    last_commit: tuple[int, Head, int] = (-1, Head(), 0)
    thread = 0  # the thread that uses it, or used it last
    restartable = False  # whether its transaction is a commit, which can be run again from the start
    preempted = False  # whether a call in the middle of that commit has closed it
    inode = 0  # of its file
    pool: Pool
    signature: tuple[int, int, int, bool] | None = None  # of a file that is read as if nobody wrote to it
    values: StoredValues = PLAIN  # the form of values by the keyring
    keyring: bytes | None = None  # as of `form_version`
    form_version = -1  # the data version for which the keyring was last compared
    path_checked_at = -1.0  # `monotonic` seconds: when its file was last seen at the path


def leave_log(connection: apsw.Connection) -> None:
    """Keep a connection from writing the WAL into the database, if it is the last one and is closed."""
    with suppress(apsw.Error):  # closed meanwhile
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)


class FormChanged(Exception):
    """A transaction has read what is in another form than its connection knew. It is to be run again."""


class Preempted(Exception):
    """A call in the middle of a commit, on the same thread, has rolled the commit back to make its own."""


def make_way(inode: int, path: str) -> bool:
    """Roll back the commit of this thread that holds the write lock of a file; return whether there was one.

    A signal handler or a finalizer runs between two statements of a commit, and its own commit would wait for the lock
    for ever. Closing the connection rolls the commit back, and its next statement fails, so that it runs again.

    Raises:
        Reentered: this thread holds the lock for another purpose than a commit, or inside SQLite.

    """
    thread = threading.get_ident()
    for connection in members(connections):
        if connection.inode != inode or connection.thread != thread:
            continue
        try:
            if connection.txn_state("main") != apsw.SQLITE_TXN_WRITE:
                continue
            if not connection.restartable:
                raise reentry_error(path)
            connection.pool.close_connection(connection)
        except apsw.ConnectionClosedError:
            continue
        except apsw.ThreadingViolationError as error:
            raise reentry_error(path) from error
        connection.preempted = True
        return True
    return False


class PooledConnection:
    """A connection of the pool for the length of a block. A plain class, since every save enters it."""

    __slots__ = ("_connection", "_database", "_new", "_pool")

    def __init__(self, database: Database, new: CommitRequest | None) -> None:
        self._database = database
        self._new = new

    def __enter__(self) -> Connection | None:
        database = self._database
        pool = database._pool
        if self._new is None or not pool:  # a commit checks the file again once it has the lock
            pool = database._current_pool()
        self._pool = pool
        connection: Connection | None
        try:
            connection = pool.pop()
            if connection.signature is not None and connection.signature != database._signature():
                pool.close_connection(connection)
                raise IndexError
        except IndexError:
            connection = database._open(pool)
            if connection is None and self._new is not None:
                check_new(self._new, database.namespace)
                with database._mutex:
                    database._create()
                self._pool = database._current_pool()
                connection = database._open(self._pool)
        if connection is not None:
            connection.thread = threading.get_ident()
            connection.restartable = self._new is not None
        self._connection = connection
        return connection

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        connection = self._connection
        if connection is None:
            return
        if connection.preempted:
            if isinstance(error, apsw.Error):
                raise Preempted from error
            return
        is_stale = connection.signature is not None and connection.signature != self._database._signature()
        if is_stale and (error is None or isinstance(error, Exception)):
            self._pool.close_connection(connection)
            what = f"{self._database.path} was written to while this user, who may not write to it, read it"
            raise BackendUnavailable(what, "Try again") from error
        if error is None:
            self._pool.append(connection)
            return
        translated = error
        if isinstance(error, (apsw.Error, UnicodeDecodeError)):
            translated = self._database._translate(error)
        if isinstance(translated, (Damaged, ReadOnly)):  # who gets the right to write needs another connection
            self._pool.close_connection(connection)
        else:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            self._pool.append(connection)
        if translated is not error:
            raise translated from error


class Pool(deque[Connection]):
    """The connections to one file that are not in use. `opened` holds these and those in use."""

    def __init__(self, inode: int = 0) -> None:
        super().__init__()
        self.inode = inode
        self.opened: set[Connection] = set()
        self.read_cache: ReadCache | None = None
        self._loads = 0

    def count_load(self, path: str) -> ReadCache | None:
        """Count a load from the database, and return the cache, which the third load opens."""
        self._loads += 1
        if self._loads == _LOADS_BEFORE_CACHING:
            self.read_cache = open_cache(path)
        return self.read_cache

    def close_idle(self, keep_log: bool = False) -> None:
        """Close the connections that are not in use.

        Args:
            keep_log: leave the WAL as it is, where the last connection would write it into the database, and sync both.

        """
        while self:
            connection = self.pop()
            if keep_log:
                leave_log(connection)
            self.close_connection(connection)

    def is_used_elsewhere(self) -> bool:
        """Return whether another thread uses a connection. What this thread uses, it cannot wait for."""
        thread = threading.get_ident()
        return any(connection.thread != thread for connection in list(self.opened))

    def close_connection(self, connection: Connection) -> None:
        """Close a connection and drop the cache: with the last connection the WAL index may go."""
        self.read_cache, self._loads = None, 0
        connection.close()
        self.opened.discard(connection)


connections: WeakSet[Connection] = WeakSet()  # of all databases, for `make_way`
inherited: list[Pool] = []
