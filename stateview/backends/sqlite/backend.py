"""SQLite: one database `ROOT/NS/state.db` a namespace, in WAL mode, through apsw, which carries its own SQLite.

`entries` holds what is live, `versions` what was superseded and the deletes, `commits` and `marks` the rest. The last
commit says the revision and the count, and a commit of one key which that is; `touched` holds the keys of the others:
so a save writes few pages. Every row of a value carries a checksum over all of it: SQLite itself does not notice a
flipped bit.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import apsw

from ...errors import NOTHING_CHANGED, BackendError, BackendUnavailable, Damaged, ReadOnly, StateException
from ...model import Commit, Finding, now, to_datetime
from ..common import (
    MAX_EXPIRED_PER_COMMIT,
    LargeRowCache,
    check_base,
    checkpoint_conflict_error,
    encodable_bound,
    file_error,
    file_lock,
    folder_identity,
    folders_with,
    fsync_folder,
    history_pruned_error,
    key_conflict_error,
    key_range,
    remove,
    remove_stale_temporary_files,
    temporary,
    watch_fork,
)
from ..protocol import (
    CheckpointRecord,
    CommitRequest,
    DiskUsage,
    Head,
    KeySummary,
    ProgressCount,
    ProgressText,
    RecoverySession,
    StagedImport,
    StateAt,
    StoredVersion,
    StoreIdentity,
    SupersededVersion,
    Version,
)
from . import listing as sqlite_rows
from . import page_checksums as pages
from . import schema
from .pool import Connection, Pool, PooledConnection, inherited
from .read_cache import TRUST_SECONDS
from .row_checksums import KEY_COLUMN, checksum, first_corruption, row_checksum, select, until_checksum

POLL_SECONDS = 0.02  # seconds between looks of `wait`
SMALL_FILE_BYTES = (
    64 * 1024
)  # bytes of a database that is checked through and through when it is opened, in about a millisecond
FILE_TRUST_SECONDS = (
    0.05  # seconds for which a connection that commits alone trusts that its file is still the one at its path
)
SLACK_REVISIONS = 64  # revisions that may be overdue before they are forgotten: many at once cost less, page for page
MAX_TRIMMED_ROWS = 200  # touched rows that one commit looks at to forget what is overdue

_GET = "SELECT value, revision, time, expires, sum FROM entries WHERE key = ?"
_HEAD = "SELECT revision, time, count FROM commits ORDER BY revision DESC LIMIT 1"
_STORED = f"""SELECT * FROM ({_HEAD}) LEFT JOIN (SELECT count(*) FROM entries WHERE expires > 0 AND expires <= ?)
    LEFT JOIN (SELECT floor, lineage FROM meta)"""
_DUE = "SELECT min(expires) FROM entries WHERE expires > 0"
_LIVE = """SELECT key, value, revision, time, expires, sum FROM entries
    WHERE key >= ? AND key < ? AND (expires = 0 OR expires > ?) ORDER BY key LIMIT ?"""
_PAST = """SELECT key, value, revision, time, expires, sum, 0 FROM entries
    WHERE key >= ?1 AND key < ?2 AND revision <= ?3 AND (expires = 0 OR expires > ?4)
    UNION ALL SELECT key, value, revision, time, expires, sum, until FROM versions
    WHERE key >= ?1 AND key < ?2 AND revision <= ?3 AND until > ?3 AND value IS NOT NULL
      AND (expires = 0 OR expires > ?4)
    ORDER BY key LIMIT ?5"""
_AT = """SELECT value, revision, time, expires, sum, 0 FROM entries WHERE key = ?1 AND revision <= ?2
    UNION ALL SELECT value, revision, time, expires, sum, until FROM versions
    WHERE key = ?1 AND revision <= ?2 AND until > ?2 LIMIT 1"""
_VERSIONS = """SELECT value, revision, time, expires, sum, 0 FROM entries WHERE key = ?1 AND revision < ?2
    UNION ALL SELECT value, revision, time, expires, sum, until FROM versions WHERE key = ?1 AND revision < ?2
    ORDER BY revision DESC LIMIT ?3"""
_CHANGED = """SELECT key FROM touched WHERE revision > ?1 AND revision <= ?2
    UNION SELECT key FROM commits WHERE revision > ?1 AND revision <= ?2 AND key != ''
    UNION SELECT key FROM entries WHERE expires > 0 AND expires > ?3 AND expires <= ?4
    UNION SELECT key FROM versions WHERE expires > 0 AND expires > ?3 AND expires <= ?4 ORDER BY 1"""
_COMMITS = """SELECT revision, time, count, reason, author, keys, key, position, forward, behind, sum FROM commits
    WHERE revision < ? AND revision > (SELECT floor FROM meta) ORDER BY revision DESC LIMIT ?"""
_TOP = 1 << 62


class SQLiteBackend:
    """State of one namespace in a SQLite database.

    Args:
        root: the folder of the store; the namespace is a folder in it. Made at the first commit.
        namespace: a checked name.
        read_only: open the database for reading only, and make none.
        history: superseded versions are kept for this many revisions at least.
        timeout: seconds to wait for another writer.
        durability: `full` (an acknowledged commit survives a loss of power) or `normal` (it survives a crash of the
            process; a loss of power may take the last ones, never half of one).

    """

    kind = "sqlite"
    rewrites_state = False

    def __init__(
        self, root: str, namespace: str, *, read_only: bool = False, history: int = 10_000, timeout: float = 10.0,
        durability: str = "full",
    ) -> None:  # fmt: skip
        if durability not in ("full", "normal"):
            raise BackendError(f"durability={durability!r} is not known", "Use 'full' or 'normal'")
        self.root = os.path.abspath(root)
        self.url = f"sqlite:{root}"
        self.namespace = namespace
        self.folder = os.path.join(self.root, namespace)
        self.path = os.path.join(self.folder, "state.db")
        self.read_only = read_only
        self.keep = history
        self.timeout = timeout
        self.durability = durability
        self._examined = False
        self._pool = Pool()
        self._huge = LargeRowCache()
        self._mutex = threading.RLock()  # held while a connection is opened
        watch_fork(self)

    def before_fork(self) -> None:
        """A connection never crosses a fork: SQLite's own notes of who holds which lock would be wrong in the child."""
        self._mutex.acquire()
        deadline = time.monotonic() + self.timeout
        while True:
            self.close()
            if not self._pool.opened or time.monotonic() > deadline:
                return
            time.sleep(0.001)  # another thread is in the middle of something

    def after_fork(self, child: bool) -> None:
        """Both open connections anew."""
        if not child:
            self._mutex.release()
            return
        inherited.append(self._pool)  # what was still in use: never closed here
        self._pool = Pool()
        self._mutex = threading.RLock()

    # --- connections -------------------------------------------------------------------------------------------

    def _current_pool(self) -> Pool:
        """The pool of the database that is there now: another process may have dropped or recovered the one before."""
        inode = self._inode()
        if inode != self._pool.inode:
            with self._mutex:
                if inode != self._pool.inode:
                    self.close()
                    self._pool = Pool(inode)
        return self._pool

    def _inode(self) -> int:
        try:
            return os.stat(self.path).st_ino
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise file_error(error, self.path) from error

    def _open(self, pool: Pool) -> Connection | None:
        """A connection, or None where the namespace has no database."""
        with self._mutex:
            connection = self._connect() if pool.inode else None
            if connection is not None:
                pool.opened.add(connection)
            return connection

    def _connect(self) -> Connection | None:
        try:
            size = os.stat(self.path).st_size
        except FileNotFoundError:
            return None
        except OSError as error:
            raise file_error(error, self.path) from error
        if size == 0:
            raise Damaged(f"{self.path} is empty, which no database of stateview is", schema.RECOVER)
        cut_off = size % 4096 and not self._has_log()  # else the log holds what the file itself does not yet
        flags = apsw.SQLITE_OPEN_READONLY if self.read_only else apsw.SQLITE_OPEN_READWRITE
        name = self.path
        if self.read_only and not os.access(self.folder, os.W_OK) and not os.path.exists(self.path + "-wal"):
            name = f"file:{schema.uri_path(self.path)}?immutable=1"  # WAL needs to write beside the file, or this
            flags |= apsw.SQLITE_OPEN_URI
        with self._errors():
            connection = Connection(name, flags=flags, vfs=pages.vfs())
            connection.set_busy_handler(self._busy_handler())  # first: a setting can meet a lock too
            schema.prepare(connection, self.durability)
            if schema.needs_adoption(connection):
                if self.read_only:
                    raise ReadOnly(f"{self.path} is of an older format", "Open it once for writing, which adopts it")
                connection.close()
                self._adopt()
                return self._connect()
            schema.check(connection, self.path)
            if cut_off and size % int(connection.pragma("page_size")):
                connection.close()  # SQLite takes what is missing of a page for zeros
                raise Damaged(f"{self.path} is cut off in the middle of a page", schema.RECOVER)
            if not self._examined and size <= SMALL_FILE_BYTES:
                if found := first_corruption(connection, set()):
                    connection.close()
                    raise Damaged(f"{self.path}: {found}", schema.RECOVER)
                self._examined = True
        return connection

    def _has_log(self) -> bool:
        return any(os.path.exists(self.path + suffix) for suffix in ("-wal", "-journal"))

    def _busy_handler(self) -> Any:
        started = 0.0

        def handler(tries: int) -> bool:
            nonlocal started
            if tries == 0:
                started = time.monotonic()
            elif time.monotonic() - started > self.timeout:
                return False
            from random import uniform  # here, since few ever wait

            time.sleep(uniform(0.0002, min(0.02, 0.0005 * (tries + 1))))
            return True

        return handler

    def _connection(self, new: CommitRequest | None = None) -> PooledConnection:
        """A connection for this thread until the block ends; None where there is no database, unless `new` makes it."""
        return PooledConnection(self, new)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Errors of SQLite as ours."""
        try:
            yield
        except (apsw.Error, UnicodeDecodeError) as error:
            raise self._translate(error) from error

    def _translate(self, error: apsw.Error | UnicodeDecodeError) -> StateException:
        what = f"{self.path}: {error}"
        if isinstance(error, (apsw.BusyError, apsw.LockedError)):
            return BackendUnavailable(f"{self.path} was locked by another writer for {self.timeout:g} s", "Try again")
        if isinstance(error, (apsw.CorruptError, apsw.NotADBError, apsw.SQLError, UnicodeDecodeError)):
            return Damaged(what, schema.RECOVER)  # an SQLError: our statements are right, so the tables are not
        if isinstance(error, apsw.FullError):
            return BackendError(f"{what}: no space left", (NOTHING_CHANGED, "Free some space and try again"))
        if getattr(error, "extendedresult", 0) == apsw.SQLITE_READONLY_ROLLBACK:
            what = f"{self.path}: a rollback journal lies beside it, and only who may write can take that back"
            return ReadOnly(what, "Open it once for writing")
        other = "" if self.read_only else ", or open it with read_only=True (--read-only)"
        if isinstance(error, (apsw.ReadOnlyError, apsw.PermissionsError)):
            return ReadOnly(what, f"Check who owns the file and its folder{other}")
        if isinstance(error, apsw.CantOpenError):
            hint = "Check the folder's permissions and free space: a WAL database writes beside itself even to be read"
            return BackendError(what, f"{hint}{other}")
        if isinstance(error, apsw.IOError):
            if pages.is_fault(error):
                what = f"{self.path}: a page is not what was written, or was written by another program"
                return Damaged(what, schema.RECOVER)
            return BackendError(what, "Check the disk, and its free space")
        return BackendError(what)

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """The folder's lock, for the making of files in it, or the moving of them; the system's errors as ours."""
        try:
            with file_lock(os.path.join(self.folder, "lock"), self.timeout):
                yield
        except OSError as error:
            if isinstance(error, StateException):
                raise
            raise file_error(error, error.filename or self.folder) from error

    def _create(self) -> None:
        """Make the database under another name and rename it: no one ever opens one that is half made."""
        with self._lock():
            remove_stale_temporary_files(self.folder)
            if os.path.exists(self.path):
                return
            name = temporary(self.path)
            try:
                with self._errors():
                    schema.create(name)
                os.rename(name, self.path)
            finally:
                for leftover in (name, f"{name}-wal", f"{name}-shm", f"{name}-journal"):
                    remove(leftover)
            fsync_folder(self.folder)

    def _adopt(self) -> None:
        """Take in the tables of the sketch where they lie, in one transaction."""
        with self._lock(), self._errors():
            if os.path.exists(self.path):
                schema.add_checksums(self.path, self._busy_handler())
            connection = Connection(self.path, vfs=pages.vfs())
            try:
                connection.set_busy_handler(self._busy_handler())
                schema.prepare(connection, self.durability)
                schema.set_mode(connection, self.path)
                connection.execute("BEGIN IMMEDIATE")
                if schema.needs_adoption(connection):
                    schema.adopt(connection, self.path, self._write)
                connection.execute("COMMIT")
            finally:
                connection.close()

    # --- reading -----------------------------------------------------------------------------------------------

    def identity(self) -> StoreIdentity:
        """See `Backend.identity`. The folder, as the file system knows it."""
        return folder_identity(self.folder)

    def now(self) -> int:
        """The machine's clock."""
        return now()

    def head(self) -> Head:
        """See `Backend.head`. O(log n), and O(expired entries not yet taken away)."""
        with self._connection() as db:
            return Head() if db is None else self._head(db)

    def _head(self, db: apsw.Connection) -> Head:
        revision, moment, count, gone, floor, lineage = self._stored(db)
        return Head(revision, moment, count - gone, floor, lineage)

    def _stored(self, db: apsw.Connection) -> tuple[Any, ...]:
        """As `_head`, and how many of the entries that are there have expired."""
        row = db.execute(_STORED, (now(),)).fetchone()
        if row is None:
            meta = db.execute("SELECT floor, lineage FROM meta").fetchone()
            row = (0, 0, 0, 0, *(meta or (None, None)))
        if row[4] is None:
            raise Damaged(f"{self.path}: the table meta is empty, or the namespace is being dropped", schema.RECOVER)
        return tuple(row)

    def get(self, key: str) -> Version | None:
        """See `Backend.get`. One prepared statement; none for a key that was read and no one committed since."""
        pool = self._pool
        if pool.memory is not None and (held := pool.memory.get(key)) is not None:
            return held if not held.expires or held.visible(now()) else None
        looked = time.monotonic()
        try:
            if os.stat(self.path).st_ino != pool.inode:
                raise IndexError
            db = pool.pop()
        except (IndexError, OSError):
            with self._connection() as first:  # puts a connection into the pool, if there is a database
                if first is None:
                    return None
            return self.get(key)
        try:
            memory = pool.cache(self.path)
            stamp = memory.stamp() if memory is not None else b""
            row = db.execute(_GET, (key,)).fetchone()
        except (apsw.Error, UnicodeDecodeError) as error:
            raise self._translate(error) from error
        finally:
            pool.append(db)
        if row is None:
            self._check_gap(key)
            return None
        value, revision, moment, expires, sum_ = row
        data = value.encode()
        if checksum(key, data, revision, moment, expires) != sum_:
            raise self._rotten(key)
        version = Version(key, data, revision, moment, expires)
        if memory is not None:
            memory.put(version, stamp, looked)
        return version if not expires or version.visible(now()) else None

    def _check_gap(self, key: str) -> None:
        """A key that is not found may be one whose bytes have rotted: then it is a neighbour, with a wrong checksum."""
        with self._connection() as db:
            assert db is not None
            for where in ("key < ? ORDER BY key DESC", "key > ? ORDER BY key"):
                row = db.execute(
                    f"SELECT key, value, revision, time, expires, sum FROM entries WHERE {where} LIMIT 1", (key,)
                ).fetchone()
                if row is not None:
                    self._version(*row)

    def _check_past_gap(self, db: apsw.Connection, key: str, revision: int) -> None:
        """As `_check_gap`, of a state that is past."""
        for where, order in (("<=", "DESC"), (">", "ASC")):
            row = db.execute(
                f"""SELECT key, value, revision, time, expires, sum, until FROM versions
                WHERE (key, revision) {where} (?, ?) ORDER BY key {order}, revision {order} LIMIT 1""",
                (key, revision),
            ).fetchone()
            if row is not None:
                self._version(*row)

    def _rotten(self, key: str) -> Damaged:
        return Damaged(f"{self.path}: the entry {key[:60]!r} is not what was written", schema.RECOVER)

    def _version(
        self, key: str, value: str | None, revision: int, time: int, expires: int, sum: int, until: int = 0
    ) -> Version:
        data = None if value is None else value.encode()
        if checksum(key, data, revision, time, expires) + until_checksum(until) != sum:
            raise self._rotten(key)
        return Version(key, data, revision, time, expires)

    def read(self, keys: Iterable[str], at: StateAt | None = None) -> dict[str, Version]:
        """See `Backend.read`."""
        with self._connection() as db:
            if db is None:
                self._keeps_nothing(at)
                return {}
            out = {}
            keys, gap = list(keys), ""
            moment = now() if at is None else at.time
            with self._snapshot(db, at):
                for key in keys:
                    row = db.execute(_AT, (key, _TOP if at is None else at.revision)).fetchone()
                    if row is None:
                        gap = key
                    elif (version := self._version(key, *row)).visible(moment):
                        out[key] = version
                if gap and at is not None and len(keys) == 1:  # of many keys, as a diff reads them, not worth it
                    self._check_past_gap(db, gap, at.revision)
        return out

    def scan(self, prefix: str = "", after: str = "", limit: int = 1000, at: StateAt | None = None) -> list[Version]:
        """See `Backend.scan`. O(log n + limit); of a past state O(versions from there on)."""
        with self._connection() as db:
            if db is None:
                self._keeps_nothing(at)
                return []
            low = max(prefix, after + "\0") if after else prefix  # one bound: SQLite seeks by no more
            high = prefix + "\U0010ffff" * 257  # no key is as long as this in its last character
            with self._snapshot(db, at):
                if at is None or at.revision == self._head(db).revision:  # else all versions after are passed over
                    rows = select(db, _LIVE, (low, high, now() if at is None else at.time, limit))
                else:
                    rows = select(db, _PAST, (low, high, at.revision, at.time, limit))
            return [self._version(*row) for row in rows]

    def list_keys(
        self, prefix: str = "", after: str = "", before: str = "", limit: int = 1000, at: StateAt | None = None,
        skip: int = 0, backwards: bool = False,
    ) -> list[KeySummary]:  # fmt: skip
        """See `Backend.list_keys`. O(expired entries not yet taken away) more.

        For a value of more than a megabyte O(size) more: 12 ms for 50 MB, live only when it is first met.
        """
        with self._connection() as db:
            if db is None:
                self._keeps_nothing(at)
                return []
            with self._snapshot(db, at):
                head = self._head(db)
                point, past = _point(head, at)
                low, high = key_range(prefix, after, before)
                page = sqlite_rows.page(db, low, high, point, past, limit, skip, backwards, head, self._huge)
            if isinstance(page, str):
                raise self._rotten(page)
        return page[::-1] if backwards else page

    def count(self, low: str = "", high: str = "", at: StateAt | None = None) -> int:
        """See `Backend.count`. A million keys of an index are counted in about a tenth of a second."""
        with self._connection() as db:
            if db is None:
                self._keeps_nothing(at)
                return 0
            if at is None and not low and not high:
                return self._head(db).count
            with self._snapshot(db, at):
                return sqlite_rows.count(db, encodable_bound(low), encodable_bound(high), *_point(self._head(db), at))

    @contextmanager
    def _snapshot(self, db: apsw.Connection, *points: StateAt | None) -> Iterator[None]:
        """One consistent read of several statements, at points that are checked to be kept."""
        db.execute("BEGIN")
        try:
            for point in points:
                if point is not None:
                    self._check_kept(db, point.revision)
            yield
        finally:
            if db.in_transaction:
                db.execute("COMMIT")

    def _check_kept(self, db: apsw.Connection, revision: int) -> None:
        head = self._head(db)
        if revision > head.revision or (
            revision < head.floor
            and db.execute("SELECT 1 FROM marks WHERE revision = ? LIMIT 1", (revision,)).fetchone() is None
        ):
            raise history_pruned_error(self.namespace, revision, head.floor)

    def _keeps_nothing(self, at: StateAt | None) -> None:
        if at is not None and at.revision:
            raise history_pruned_error(self.namespace, at.revision, 0)

    def changed_keys(self, low: StateAt, high: StateAt) -> list[str]:
        """See `Backend.changed_keys`. O(changes log changes)."""
        with self._connection() as db:
            if db is None:
                self._keeps_nothing(low)
                self._keeps_nothing(high)
                return []
            with self._snapshot(db, low, high):
                before, after = sorted((low.time, high.time))
                rows = select(db, _CHANGED, (low.revision, high.revision, before, after))
        return [key for (key,) in rows]

    def versions(self, key: str, limit: int = 100, below: int = 0) -> list[Version]:
        """See `Backend.versions`."""
        with self._connection() as db:
            if db is None:
                return []
            rows = select(db, _VERSIONS, (key, below or _TOP, limit))
            return [self._version(key, *row) for row in rows]

    def commits(self, limit: int = 100, below: int = 0) -> list[Commit]:
        """See `Backend.commits`."""
        with self._connection() as db:
            if db is None:
                return []
            rows = select(db, _COMMITS, (below or _TOP, limit))
        for row in rows:
            if row_checksum(*row[:-1]) != row[-1]:
                raise Damaged(f"{self.path}: commit {row[0]} is not what was written", schema.RECOVER)
        return [Commit(row[0], to_datetime(row[1]), *row[3:KEY_COLUMN], *row[KEY_COLUMN + 1 : -1]) for row in rows]

    def marks(self) -> list[CheckpointRecord]:
        """See `Backend.marks`."""
        with self._connection() as db:
            if db is None:
                return []
            rows = select(db, "SELECT name, revision, time, note, sum FROM marks ORDER BY id")
            kinds = schema.read_kinds(db)
        for row in rows:
            if row_checksum(*row[:-1]) != row[-1]:
                raise Damaged(f"{self.path}: checkpoint {row[0]!r:.60} is not what was written", schema.RECOVER)
        return [
            CheckpointRecord(name, at, moment, note, kinds.get((name, at), "")) for name, at, moment, note, _ in rows
        ]

    def versions_page(
        self, after: tuple[str, int] = ("", 0), limit: int = 1000, keys: Iterable[str] | None = None
    ) -> list[StoredVersion]:
        """See `Backend.versions_page`."""
        from .transfer import dump

        with self._connection() as db:
            if db is None:
                return []
            with self._snapshot(db):
                return dump(db, self.path, after, limit, keys)

    def open_staging(self) -> StagedImport:
        """See `Backend.open_staging`."""
        from .transfer import SQLiteReceiver

        self._check_writable()
        return SQLiteReceiver(self)

    def wait(self, revision: int, timeout: float) -> int:
        """See `Backend.wait`. Looks fifty times a second."""
        deadline = time.monotonic() + timeout
        while (head := self.head().revision) <= revision and (left := deadline - time.monotonic()) > 0:
            time.sleep(min(POLL_SECONDS, left))
        return head

    def namespaces(self) -> list[str]:
        """See `Backend.namespaces`."""
        return folders_with(self.root, ("state.db",))

    def close(self) -> None:
        """See `Backend.close`."""
        pool = self._pool
        while pool:
            pool.close_all(pool.pop())

    # --- writing -----------------------------------------------------------------------------------------------

    def commit(self, batch: CommitRequest) -> Head:
        """See `Backend.commit`. One transaction; O(writes log n); one fsync."""
        self._check_writable()
        with self._connection(batch) as db:
            assert db is not None
            db.execute("BEGIN IMMEDIATE")
            moment = time.monotonic()
            if moment - db.looked < FILE_TRUST_SECONDS and db.known[0] == db.data_version():
                moment = db.looked
            elif self._inode() != self._pool.inode:
                moment = 0.0
            if moment:
                head, due = self._write(db, batch)
                db.execute("COMMIT")
                db.known, db.looked = (db.data_version(), head, due), moment
                return head
            db.execute("ROLLBACK")
        self._current_pool()
        return self.commit(batch)  # another process dropped or recovered the database that this one had open

    def _write(self, db: Connection, batch: CommitRequest) -> tuple[Head, int]:
        """The head that the batch makes, and when the next entry expires; 0 where that must be asked."""
        moment = now()
        version, head, due = db.known
        overdue = 0
        if version != db.data_version() or due <= moment:  # another connection committed, or something expired
            last, time, count, overdue, floor, lineage = self._stored(db)
            head = Head(last, time, count - overdue, floor, lineage)
            due = 0 if overdue else db.execute(_DUE).get or _TOP
        check_base(batch, self.namespace, head.revision)
        moment = max(moment, head.time + 1)
        for key, expected in batch.expected.items():
            row = db.execute("SELECT revision, expires FROM entries WHERE key = ?", (key,)).fetchone()
            revision = 0 if row is None or 0 < row[1] <= moment else row[0]
            if revision != expected:
                raise key_conflict_error(key, expected, revision)
        moment = batch.time or moment
        if batch.marks or batch.unmarks:
            self._write_marks(db, batch, head, moment)
        if not batch.writes:
            return head, due
        revision, floor = head.revision + 1, head.floor
        count = head.count + overdue
        for key, write in batch.writes.items():
            expires = moment + write.ttl if write.ttl else 0
            if expires and expires < due:
                due = expires
            count += self._put(db, key, write.value, revision, write.time or moment, expires)
        touched, full = list(batch.writes), False
        if overdue:
            reap = "SELECT key FROM entries WHERE expires > 0 AND expires <= ? LIMIT ?"
            gone = select(db, reap, (moment, MAX_EXPIRED_PER_COMMIT))
            reaped = [key for (key,) in gone if key not in batch.writes]
            for key in reaped:
                count += self._put(db, key, None, revision, moment, 0)
            touched += reaped
            full = len(gone) == MAX_EXPIRED_PER_COMMIT
        if len(touched) > 1:
            db.executemany("INSERT INTO touched VALUES (?, ?)", [(revision, key) for key in touched])
        alone = touched[0] if len(touched) == 1 else ""
        told = (revision, moment, count, batch.reason, batch.author, len(batch.writes), alone, *batch.undo)
        db.execute(schema.NEW_COMMIT, (*told, row_checksum(*told)))
        if full:
            left = "SELECT count(*) FROM entries WHERE expires > 0 AND expires <= ?"
            count -= int(db.execute(left, (moment,)).get)
        if revision - floor > self.keep + min(SLACK_REVISIONS, self.keep // 16):
            floor = self._trim(db, floor, revision)
        return Head(revision, moment, count, floor, head.lineage), due

    def _put(self, db: apsw.Connection, key: str, value: bytes | None, revision: int, moment: int, expires: int) -> int:
        """Write or delete one key; returns by how much the count of entries changes."""
        db.execute(
            "INSERT INTO versions SELECT key, revision, ?2, value, time, expires, sum + ?3 FROM entries WHERE key = ?1",
            (key, revision, until_checksum(revision)),
        )
        was_there = db.changes()
        if not was_there:
            db.execute(
                "UPDATE versions SET until = ?2, sum = sum + ?4 WHERE key = ?1 AND value IS NULL AND until = ?3",
                (key, revision, _TOP, until_checksum(revision) - until_checksum(_TOP)),
            )
        sum_ = checksum(key, value, revision, moment, expires)
        if value is None:
            db.execute("DELETE FROM entries WHERE key = ?", (key,))
            row = (key, revision, _TOP, moment, sum_ + until_checksum(_TOP))
            db.execute("INSERT INTO versions VALUES (?, ?, ?, NULL, ?, 0, ?)", row)
            return -was_there
        db.execute(
            """INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value,
            revision = excluded.revision, time = excluded.time, expires = excluded.expires, sum = excluded.sum""",
            (key, value.decode(), revision, moment, expires, sum_),
        )
        return 1 - was_there

    def _write_marks(self, db: apsw.Connection, batch: CommitRequest, head: Head, moment: int) -> None:
        for mark in batch.marks:
            if mark.fresh and db.execute("SELECT 1 FROM marks WHERE name = ?", (mark.name,)).fetchone():
                raise checkpoint_conflict_error(mark.name)
            if mark.revision is not None:
                self._check_kept(db, mark.revision)
        for name, revision in batch.unmarks:
            schema.delete_mark(db, name, revision)
        for mark in batch.marks:
            revision = head.revision if mark.revision is None else mark.revision
            schema.put_mark(db, CheckpointRecord(mark.name, revision, mark.time or moment, mark.note, mark.kind))

    # --- upkeep ------------------------------------------------------------------------------------------------

    def _trim(self, db: apsw.Connection, floor: int, head: int) -> int:
        """Forget a little of what lies before the last `keep` revisions; returns the new floor."""
        goal = head - self.keep
        rows = select(db, f"{schema.TOUCHED} LIMIT ?3", (floor, goal, MAX_TRIMMED_ROWS + 1))
        if len(rows) > MAX_TRIMMED_ROWS:
            # A revision is forgotten whole or not at all; one that touched more than TRIM keys goes at one stroke.
            goal = max(floor + 1, rows[-1][0] - 1)
        schema.trim(db, floor, goal)
        return goal

    def compact(self, floor: int, progress: ProgressCount | None = None) -> int:
        """See `Backend.compact`. Others write meanwhile, but for the end, when VACUUM rewrites the whole file."""
        from .maintenance import compact

        self._check_writable()
        with self._connection() as db:
            return 0 if db is None else compact(self, db, floor, progress)

    def superseded(self, after: tuple[str, int] = ("", 0), limit: int = 1000) -> list[SupersededVersion]:
        """See `Backend.superseded`."""
        from .maintenance import past

        with self._connection() as db:
            return [] if db is None else past(db, after, limit)

    def disk_usage(self, gone: Iterable[tuple[str, int]] = ()) -> DiskUsage | None:  # noqa: ARG002
        """See `Backend.disk_usage`."""
        from .maintenance import space

        with self._connection() as db:
            return DiskUsage(0) if db is None else space(db, self.path)

    def drop(self) -> None:
        """See `Backend.drop`."""
        self._check_writable()
        if not os.path.isdir(self.folder):
            return
        import shutil

        from ..staging import take_out

        told = self._forget()
        self.close()

        with self._lock():
            moved = take_out(self.folder, "sqlite")
            if not told:
                time.sleep(TRUST_SECONDS)
        shutil.rmtree(moved)

    @contextmanager
    def open_recovery(self) -> Iterator[RecoverySession]:
        """See `Backend.open_recovery`. No thread opens a connection meanwhile."""
        from .recovery import open_recovery

        self.close()
        with self._mutex, open_recovery(self, TRUST_SECONDS) as session:
            yield session

    def diagnose(self, say: ProgressText) -> Iterator[Finding]:
        """See `Backend.diagnose`."""
        from .doctor import examine

        return examine(self, say)

    def _forget(self) -> bool:
        """Make other processes look at the file again, by a commit; False where it cannot be written."""
        try:
            with self._connection() as db:
                if db is not None:
                    db.execute("DELETE FROM meta")
        except StateException:
            return False
        return True

    def _check_writable(self) -> None:
        if self.read_only:
            raise ReadOnly(f"{self.path} is open for reading only")


def _point(head: Head, at: StateAt | None) -> tuple[StateAt, bool]:
    """The state to read, and whether anything was committed after it."""
    return (StateAt(_TOP, now()), False) if at is None else (at, at.revision < head.revision)
