"""A snapshot of a namespace: all its reads run in one read transaction of one connection."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import apsw

from ...errors import HistoryPruned
from ..error_places import marks_errors
from ..fork import watch_fork
from ..protocol import Version
from .connections.pool import Connection
from .reader import Reader

if TYPE_CHECKING:
    from ..protocol import StateAt
    from .backend import SQLiteBackend


@marks_errors
class Snapshot(Reader):
    """The reads of a backend, of the state in which the snapshot was opened. It owns its connection.

    Writers go on meanwhile, but SQLite cannot shorten the WAL before the snapshot is closed.
    """

    def __init__(self, backend: SQLiteBackend, connection: Connection) -> None:
        self.__dict__.update(vars(backend))
        self._held: Connection | None = connection
        self._turn = threading.RLock()  # a connection serves one thread at a time
        watch_fork(self)

    def begin(self) -> bool:
        """Begin the read transaction. Return False where there is no WAL: it would keep all writers waiting."""
        with self._connection() as db:
            if db.signature is not None or db.pragma("journal_mode") != "wal":
                return False
            db.execute("BEGIN")
            self._head(db)  # the first read decides which state is read
            self._check_form(db)
            return True

    def close(self) -> None:
        """End the transaction, and close the connection."""
        with self._turn:
            held, self._held = self._held, None
            if held is not None:
                held.close()

    def before_fork(self) -> None:
        """Close the connection: SQLite's own record of who holds which lock would be wrong in the child."""
        self.close()

    def after_fork(self, child: bool) -> None:
        """Open nothing: whoever reads the snapshot begins again."""

    @contextmanager
    def _connection(self, new: object = None) -> Iterator[Any]:  # type: ignore[override]  # noqa: ARG002
        with self._turn, self._errors():
            if self._held is None:
                raise HistoryPruned(f"the snapshot of {self.path} is closed, as before every fork", "Read it again")
            yield self._held

    @contextmanager
    def _snapshot(self, db: apsw.Connection, *states: StateAt | None) -> Iterator[None]:
        for state in states:
            if state is not None:
                self._check_kept(db, state.revision)
        yield

    def get(self, key: str) -> Version | None:
        return self.read([key]).get(key)

    def _adopt(self) -> None:
        raise AssertionError("a snapshot is of a database that is open already")
