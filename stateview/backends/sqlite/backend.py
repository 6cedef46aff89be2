"""SQLite: one database `ROOT/NS/state.db` for each namespace, in WAL mode, by apsw, which brings its own SQLite.

`entries` holds the live values. `versions` holds superseded versions, and deletes. The newest row of `commits` stores
the revision and the number of entries. A commit of one key stores its key there too; a commit of several keys lists
them in `touched`. So a save writes few pages. Every row of a value has a checksum, see `row_checksums`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager

import apsw

from ...errors import StateException, tells_what_was_done
from ...model import Finding
from ..error_places import marks_errors
from ..protocol import Backend, ProgressCount, ProgressText, RecoverySession, StagedImport
from ..stored_values import PLAIN, StoredValues
from . import schema
from .connections import page_checksums as pages
from .connections.pool import Connection, leave_log
from .read_cache import TRUST_SECONDS
from .row_checksums import has_deltas
from .writer import Writer


@marks_errors
class SQLiteBackend(Writer):
    """The state of one namespace in a SQLite database.

    Args:
        root: the folder of the store. The namespace is a folder in it, which the first commit creates.
        namespace: a checked name.
        read_only: open the database for reading only, and never create it.
        history: keep superseded versions for at least this many revisions.
        timeout: seconds to wait for another writer.
        durability: `full` (an acknowledged commit survives a loss of power) or `normal` (it survives a crash of the
            process; a loss of power may lose the last commits, but never half of one).
        values: the form in which values are stored.

    """

    kind = "sqlite"
    rewrites_state = False
    ranks_keys = False

    def __init__(
        self, root: str, namespace: str, *, read_only: bool = False, history: int = 10_000, timeout: float = 10.0,
        durability: str = "full", values: StoredValues = PLAIN,
    ) -> None:  # fmt: skip
        super().__init__(root, namespace, read_only, timeout, durability)
        self.keep = history
        self.values = self._given = values
        self._form = None, values

    @contextmanager
    def snapshot(self, whole: bool = False) -> Iterator[Backend]:  # noqa: ARG002
        """Open a read transaction. With a rollback journal, as on a network file system, it would stop all writers."""
        from .snapshot import Snapshot

        with self._mutex, self._errors():
            self._current_pool()
            connection = self._connect()
        if connection is None:
            yield self
            return
        reads = Snapshot(self, connection)
        try:
            yield reads if reads.begin() else self  # type: ignore[misc]  # it takes no writes
        finally:
            reads.close()

    def open_staging(self) -> StagedImport:
        from .transfer import SQLiteReceiver

        self._check_writable()
        return SQLiteReceiver(self)

    def compact(self, floor: int, progress: ProgressCount | None = None) -> int:
        """Prune and give space back. Others may write meanwhile, except while VACUUM rewrites the file at the end."""
        from ..prune_progress import PruneProgress
        from .maintenance import compact

        self._check_writable()
        done = PruneProgress()
        with tells_what_was_done(done.text), self._connection() as db:
            return 0 if db is None else compact(self, db, floor, progress, done)

    def history_format(self) -> int:
        with self._connection() as db:
            return 0 if db is None else 1 + has_deltas(db)

    def keyring(self) -> bytes | None:
        with self._connection() as db:
            if db is None:
                return None
            with self._snapshot(db):
                db.pragma("user_version")  # the first read decides which state is read
                self._check_form(db)
                return db.keyring

    def put_keyring(self, document: bytes | None, former: bytes | None) -> None:
        from . import sealing

        self._check_writable()
        if not os.path.exists(self.path):
            self._create()
        with self._connection() as db:
            assert db is not None
            db.execute("BEGIN IMMEDIATE")
            sealing.put_keyring(db, document, former)
            db.execute("COMMIT")

    def reseal(self, progress: ProgressCount) -> int:
        """Reseal in many short transactions. Where plain values were sealed, VACUUM rewrites the file at the end."""
        from .resealing import reseal

        self._check_writable()
        with self._connection() as db:
            return 0 if db is None else reseal(self, db, progress)

    def drop(self) -> None:
        self._check_writable()
        if not os.path.isdir(self.folder):
            return
        from ..files.staging import remove_taken_out, take_out

        with self._lock(), self._write_lock() as db:
            self._pool.close_idle(keep_log=True)  # what it would write into the database is removed next
            removed = take_out(self.folder, "sqlite")  # first: a process that is killed after it has dropped all
            try:
                remove_taken_out(removed, self.namespace)  # where it is a link, the database is at its path until then
            finally:
                if db is None or not _empty_meta(db):
                    time.sleep(TRUST_SECONDS)

    @contextmanager
    def _write_lock(self) -> Iterator[apsw.Connection | None]:
        """Keep writers out of the database, whatever it holds. Gives None where it is missing, or cannot be written."""
        with ExitStack() as stack:
            db = None
            try:
                with self._errors():
                    if os.path.exists(self.path):
                        db = stack.enter_context(closing(pages.connect(self.path)))
                        db.set_busy_handler(self._busy_handler())
                        leave_log(db)
                        db.pragma("journal_mode")  # a first read, which completes what a killed process left, durably
                        db.pragma("synchronous", "OFF")  # for what is written once the database is out of its place
                        db.execute("BEGIN IMMEDIATE")
            except StateException:  # of a damaged database, or of one that this user may not write
                db = None
            yield db

    @contextmanager
    def open_recovery(self) -> Iterator[RecoverySession]:
        """Lock the namespace for a recovery. No thread opens a connection meanwhile."""
        from .recovery import open_recovery

        self.close()
        with self._mutex, open_recovery(self, TRUST_SECONDS) as session:
            yield session

    def diagnose(self, say: ProgressText) -> Iterator[Finding]:
        from .doctor import diagnose

        return diagnose(self, say)

    def _adopt(self) -> None:
        with self._lock(), self._errors():
            if os.path.exists(self.path):
                schema.add_checksums(self.path, self._busy_handler())
            connection = Connection.open(self.path, vfs=pages.vfs())
            try:
                connection.set_busy_handler(self._busy_handler())
                connection.values = self._given
                schema.prepare(connection, self.durability)
                schema.set_mode(connection, self.path)
                connection.execute("BEGIN IMMEDIATE")
                if schema.is_older(connection):
                    schema.adopt(connection, self.path, self._write)
                connection.execute("COMMIT")
            finally:
                connection.close()


def _empty_meta(db: apsw.Connection) -> bool:
    """Make the caches of other processes invalid by a commit. Return False where that fails."""
    try:
        db.execute("DELETE FROM meta; COMMIT")
    except apsw.Error:
        return False
    return True
