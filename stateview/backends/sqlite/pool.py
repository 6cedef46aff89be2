"""Connections to one SQLite database, what each knows, and their use for the length of a block."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import apsw

from ...errors import Damaged
from ..conflicts import check_new
from ..protocol import CommitRequest, Head
from .read_cache import ReadCache, open_cache

if TYPE_CHECKING:
    from .backend import SQLiteBackend

_LOADS_BEFORE_CACHING = 3  # loads after which a process is one that loads again and again


class Connection(apsw.Connection):
    """A connection that knows what its own last commit left: SQLite's count of changes, the head, the next expiry.

    The count, SQLITE_FCNTL_DATA_VERSION, moves with each commit of this connection, and where a transaction begins
    after another connection's.
    """

    known: tuple[int, Head, int] = (-1, Head(), 0)
    looked = -1.0  # when the file was last seen to be at its path


class PooledConnection:
    """A connection of the pool for the length of a block; a plain class, since it is on the way of every save."""

    __slots__ = ("_backend", "_connection", "_new", "_pool")

    def __init__(self, backend: SQLiteBackend, new: CommitRequest | None) -> None:
        self._backend = backend
        self._new = new

    def __enter__(self) -> Connection | None:
        backend = self._backend
        pool = backend._pool
        if self._new is None or not pool:  # a commit looks whether it is the right file once it has the lock
            pool = backend._current_pool()
        self._pool = pool
        try:
            connection: Connection | None = pool.pop()
        except IndexError:
            connection = backend._open(pool)
            if connection is None and self._new is not None:
                check_new(self._new, backend.namespace)
                with backend._mutex:
                    backend._create()
                self._pool = backend._current_pool()
                connection = backend._open(self._pool)
        self._connection = connection
        return connection

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        connection = self._connection
        if connection is None:
            return
        if error is None:
            self._pool.append(connection)
            return
        translated = error
        if isinstance(error, (apsw.Error, UnicodeDecodeError)):
            translated = self._backend._translate(error)
        if isinstance(translated, Damaged):
            self._pool.close_all(connection)
        else:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            self._pool.append(connection)
        if translated is not error:
            raise translated from error


class Pool(deque[Connection]):
    """Connections that wait for their next use, all to one file; `opened` are these and those in use."""

    def __init__(self, inode: int = 0) -> None:
        super().__init__()
        self.inode = inode
        self.opened: set[Connection] = set()
        self.memory: ReadCache | None = None
        self._recalls = 0

    def cache(self, path: str) -> ReadCache | None:
        """The memory of what is read again and again, made at the third read: a process that loads once needs none."""
        self._recalls += 1
        if self._recalls == _LOADS_BEFORE_CACHING:
            self.memory = open_cache(path)
        return self.memory

    def close_all(self, connection: Connection) -> None:
        """Close a connection. With the last one the WAL index may go, and what it vouched for."""
        self.opened.discard(connection)
        self.memory, self._recalls = None, 0
        connection.close()


inherited: list[Pool] = []
