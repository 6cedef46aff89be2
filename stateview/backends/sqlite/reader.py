"""Reads of a namespace's database, live and at a revision."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from itertools import pairwise
from threading import get_ident
from typing import TYPE_CHECKING, Any, TypeVar

import apsw

from ...errors import Damaged, StateException
from ...model import Commit, SealedValue, now, to_datetime
from ..conflicts import history_pruned_error
from ..files.namespace_folders import folder_identity, folders_with
from ..protocol import (
    CheckpointRecord,
    DiskUsage,
    Head,
    KeySummary,
    StateAt,
    StoredVersion,
    StoreIdentity,
    SupersededVersion,
    Version,
)
from ..retries import poll_revision
from ..stored_values import SEALED_START
from . import schema
from .connections.database import Database
from .connections.pool import Connection, FormChanged
from .row_checksums import (
    IN_PACKED,
    KEY_COLUMN,
    RECOVER,
    chain_of,
    checksum,
    damaged_entry_error,
    row_checksum,
    select,
    unpacked,
    until_checksum,
)

if TYPE_CHECKING:
    from ..deltas import Chain, Delta
    from ..large_rows import LargeRowCache
    from ..stored_values import StoredValues

POLL_SECONDS = 0.02  # between two looks of `wait` at the head

# A second row says that the last value was superseded, though neither a live value nor a delete followed. Below the
# floor that delete may have been pruned. The first row is returned before the second is looked for.
_GET = """SELECT value, revision, time, expires, sum FROM entries WHERE key = ?1
    UNION ALL SELECT NULL, 0, 0, 0, 0 FROM (SELECT value, until FROM versions WHERE key = ?1
        ORDER BY revision DESC LIMIT 1) WHERE value IS NOT NULL AND until > (SELECT floor FROM meta)"""
_LAST_COMMIT = "SELECT revision, time, count FROM commits ORDER BY revision DESC LIMIT 1"
_HEAD = f"""SELECT * FROM ({_LAST_COMMIT}) LEFT JOIN (SELECT count(*) FROM entries WHERE expires > 0 AND expires <= ?)
    LEFT JOIN (SELECT floor, lineage FROM meta)"""
_LIVE = """SELECT key, value, revision, time, expires, sum FROM entries
    WHERE key >= ? AND key < ? AND (expires = 0 OR expires > ?) ORDER BY key LIMIT ?"""
_PAST = """SELECT key, value, revision, time, expires, sum, 0 FROM entries
    WHERE key >= ?1 AND key < ?2 AND revision <= ?3 AND (expires = 0 OR expires > ?4)
    UNION ALL SELECT key, value, revision, time, expires, sum, until FROM versions
    WHERE key >= ?1 AND key < ?2 AND revision <= ?3 AND until > ?3 AND value IS NOT NULL
      AND (expires = 0 OR expires > ?4)
    ORDER BY key LIMIT ?5"""
_AT = """SELECT value, revision, time, expires, sum, 0 FROM entries WHERE key = ?1 AND revision <= ?2
    UNION ALL SELECT * FROM (SELECT value, revision, time, expires, sum, until FROM versions
    WHERE key = ?1 AND revision <= ?2 ORDER BY revision DESC LIMIT 1) WHERE until > ?2 LIMIT 1"""
_VERSIONS = """SELECT value, revision, time, expires, sum, 0 FROM entries WHERE key = ?1 AND revision < ?2
    UNION ALL SELECT value, revision, time, expires, sum, until FROM versions WHERE key = ?1 AND revision < ?2
    ORDER BY revision DESC LIMIT ?3"""
_CHANGED = """SELECT key FROM touched WHERE revision > ?1 AND revision <= ?2
    UNION SELECT key FROM commits WHERE revision > ?1 AND revision <= ?2 AND key != ''
    UNION SELECT key FROM entries WHERE expires > 0 AND expires > ?3 AND expires <= ?4
    UNION SELECT key FROM versions WHERE expires > 0 AND expires > ?3 AND expires <= ?4 ORDER BY 1"""
_COMMITS = """SELECT revision, time, count, reason, author, keys, key, position, forward, behind, sum FROM commits
    WHERE revision < ? AND revision > (SELECT floor FROM meta) ORDER BY revision DESC LIMIT ?"""
# One statement, as the head: outside of a transaction another process may commit between two
_WITHOUT_COMMITS = """SELECT floor, lineage, floor OR EXISTS (SELECT 1 FROM entries) OR EXISTS (SELECT 1 FROM versions)
    FROM (SELECT NOT EXISTS (SELECT 1 FROM commits) AS is_unwritten) LEFT JOIN meta WHERE is_unwritten"""
_COUNT_COMMITS = """SELECT count(*), max(?1, (SELECT floor FROM meta)) FROM commits
    WHERE revision > max(?1, (SELECT floor FROM meta)) AND revision <= ?2"""
# Commits of several keys that list none of them, though one of the keys has a value of that revision
_UNLISTED = """SELECT 1 FROM commits AS c WHERE revision > max(?1, (SELECT floor FROM meta)) AND revision <= ?2
    AND key = '' AND keys > 0 AND NOT EXISTS (SELECT 1 FROM touched WHERE touched.revision = c.revision)
    AND (EXISTS (SELECT 1 FROM entries WHERE entries.revision = c.revision)
        OR EXISTS (SELECT 1 FROM versions WHERE versions.revision = c.revision)) LIMIT 1"""
_MARKS = "SELECT name, revision, time, note, sum FROM marks ORDER BY id"
_MARKS_OF = "SELECT name, revision, time, note, sum FROM marks WHERE name = ? ORDER BY id"


_SEALED_START = SEALED_START.decode()  # of a live value that is read as if the namespace was not sealed
_Read = TypeVar("_Read", bound=Callable[..., Any])


def _again(read: _Read) -> _Read:
    """Run a read again if the keyring was changed since its connection read last."""

    @wraps(read)
    def repeated(*args: Any, **options: Any) -> Any:
        while True:
            with suppress(FormChanged):
                return read(*args, **options)

    return repeated  # type: ignore[return-value]


class Reader(Database):
    """The reads of the `Backend` protocol."""

    _large_rows: LargeRowCache | None = None

    def identity(self) -> StoreIdentity:
        return folder_identity(self.folder)

    def now(self) -> int:
        return now()

    def head(self) -> Head:
        """Return the head. O(log n + expired entries that no commit has removed yet)."""
        with self._connection() as db:
            return Head() if db is None else self._head(db)

    def _head(self, db: apsw.Connection) -> Head:
        revision, moment, count, expired, floor, lineage = self._head_row(db)
        return Head(revision, moment, count - expired, floor, lineage)

    def _head_row(self, db: apsw.Connection, moment: int | None = None) -> tuple[Any, ...]:
        """Return revision, time, rows of `entries`, rows among them that expired by a moment, floor and lineage."""
        moment = self.now() if moment is None else moment
        while (row := db.execute(_HEAD, (moment,)).fetchone()) is None:
            if (unwritten := db.execute(_WITHOUT_COMMITS).fetchone()) is not None:
                floor, lineage, are_commits_missing = unwritten
                if floor is not None and are_commits_missing:
                    raise Damaged(f"{self.path}: the commits are missing", RECOVER)
                row = 0, 0, 0, 0, floor, lineage
                break
        if row[4] is None:
            raise Damaged(f"{self.path}: the table meta is empty, or the namespace is being dropped", RECOVER)
        return tuple(row)

    # --- values ------------------------------------------------------------------------------------------------

    def get(self, key: str) -> Version | None:
        """Return the live version of a key. O(log n), or O(1) from the cache if nobody committed since the last get.

        For speed it takes a connection from the pool by itself, and checks the row by itself: `_connection` would add a
        tenth to the time of a load, and `_version` a twentieth.
        """
        pool = self._pool
        if pool.read_cache is not None and (cached := pool.read_cache.get(key)) is not None:
            return cached if not cached.expires or cached.visible(self.now()) else None
        checked_at = time.monotonic()
        try:
            if os.stat(self.path).st_ino != pool.inode:
                raise IndexError
            db = pool.pop()
            db.thread = get_ident()
        except (IndexError, OSError):  # no connection to the file at the path: `_connection` opens one, or reports why
            with self._connection() as opened:
                if opened is None:
                    return None
            return self.get(key)
        if db.signature is not None:
            pool.append(db)
            return self.read([key]).get(key)
        try:
            cache = pool.count_load(self.path)
            header = cache.header() if cache is not None else b""
            row = db.execute(_GET, (key,)).fetchone()
            values = db.values
            is_form_new = not values.plain and db.data_version() != db.form_version
        except (apsw.Error, UnicodeDecodeError) as error:
            raise self._translate(error) from error
        finally:
            pool.append(db)
        if row is None:
            return None
        value, revision, moment, expires, sum_ = row
        if value is None:
            raise Damaged(f"{self.path}: the entry {key[:60]!r} is missing, and was not deleted", RECOVER)
        stored = value.encode()
        if checksum(key, stored, revision, moment, expires) != sum_:
            raise damaged_entry_error(self.path, key)
        if is_form_new or (values.plain and value.startswith(_SEALED_START)):
            return self.read([key]).get(key)  # the keyring was changed, or may have been
        version = Version(key, values.unpack(stored, key, revision), revision, moment, expires)
        if cache is not None:
            cache.put(version, header, checked_at)
        return version if not expires or version.visible(self.now()) else None

    def _version(
        self, values: StoredValues, chain: Chain, key: str, value: str | None, revision: int, time: int, expires: int,
        sum: int, until: int = 0,
    ) -> Version:  # fmt: skip
        """Make a version of a row, and unpack its value. `chain` reads in the transaction that read the row.

        Raises:
            Damaged: the row has another checksum, or a delta of its chain is damaged.

        """
        stored = data = None if value is None else value.encode()
        if is_packed := value == IN_PACKED:
            data = unpacked(chain, key, revision, self.path)
            stored = data if values.plain else stored
        added = until and until_checksum(until)
        if checksum(key, stored, revision, time, expires) + added != sum and not (
            is_packed
            and values.mixed
            and (isinstance(data, SealedValue) or checksum(key, data, revision, time, expires) + added == sum)
        ):
            raise damaged_entry_error(self.path, key)
        if data is not None and not is_packed:
            data = values.unpack(data, key, revision)
        return Version(key, data, revision, time, expires)

    @_again
    def read(self, keys: Iterable[str], at: StateAt | None = None) -> dict[str, Version]:
        with self._connection() as db:
            if db is None:
                self._check_unwritten(at)
                return {}
            out = {}
            moment = self.now() if at is None else at.time
            with self._snapshot(db, at):
                chain = chain_of(db, db.values, is_lone=True)
                for key in keys:
                    row = db.execute(_AT, (key, schema.MAX_REVISION if at is None else at.revision)).fetchone()
                    if row is not None and (version := self._version(db.values, chain, key, *row)).visible(moment):
                        out[key] = version
        return out

    @_again
    def scan(self, prefix: str = "", after: str = "", limit: int = 1000, at: StateAt | None = None) -> list[Version]:
        """Return a page of visible versions. O(log n + limit); of a past state O(versions from there on)."""
        with self._connection() as db:
            if db is None:
                self._check_unwritten(at)
                return []
            low = max(prefix, after + "\0") if after else prefix  # one lower bound, since SQLite seeks by one only
            high = prefix + "\U0010ffff" * 257  # longer than a key may be, so above every key with the prefix
            with self._snapshot(db, at):
                moment = self.now() if at is None else at.time
                revision, _, count, expired, *_ = self._head_row(db, moment)
                if at is None or at.revision == revision:  # else versions are read and skipped
                    rows = select(db, _LIVE, (low, high, moment, limit))
                    if not low and len(rows) < min(limit, count - expired):
                        raise Damaged(f"{self.path}: {len(rows)} entries instead of {count - expired}", RECOVER)
                else:
                    rows = select(db, _PAST, (low, high, at.revision, at.time, limit))
                chain = chain_of(db, db.values, is_lone=True)
                return [self._version(db.values, chain, *row) for row in rows]

    # --- keys --------------------------------------------------------------------------------------------------

    @_again
    def list_keys(
        self, prefix: str = "", after: str = "", before: str = "", limit: int = 1000, at: StateAt | None = None,
        skip: int = 0, backwards: bool = False,
    ) -> list[KeySummary]:  # fmt: skip
        """Return a page of visible keys. O(expired entries that no commit has removed yet) more.

        For a value of more than a megabyte O(size) more: 12 ms for 50 MB. A live value is cached at the first listing.
        Where values are not plain, every value is read and unpacked.
        """
        from ..key_ranges import key_range
        from ..large_rows import LargeRowCache
        from . import listing

        self._large_rows = self._large_rows or LargeRowCache()
        with self._connection() as db:
            if db is None:
                self._check_unwritten(at)
                return []
            with self._snapshot(db, at):
                moment = self.now() if at is None else at.time
                revision, time, rows, expired, floor, lineage = self._head_row(db, moment)
                head = Head(revision, time, rows - expired, floor, lineage)
                keys = listing.KeyRange(*key_range(prefix, after, before), *_range_state(head, at, moment))
                reader = listing.SummaryReader(db, self.path, db.values, self._large_rows, head)
                page = reader.page(keys, limit, skip, backwards)
                if at is None and not (prefix or after or before or skip) and len(page) < min(limit, head.count):
                    raise Damaged(f"{self.path}: {len(page)} entries instead of {head.count}", RECOVER)
        return page[::-1] if backwards else page

    def count(self, low: str = "", high: str = "", at: StateAt | None = None) -> int:
        """Count visible keys. An index of a million keys takes about a tenth of a second."""
        from ..key_ranges import encodable_bound
        from . import listing

        with self._connection() as db:
            if db is None:
                self._check_unwritten(at)
                return 0
            if at is None and not low and not high:
                return self._head(db).count
            with self._snapshot(db, at):
                state = _range_state(self._head(db), at, self.now())
                return listing.count(db, listing.KeyRange(encodable_bound(low), encodable_bound(high), *state))

    def changed_keys(self, low: StateAt, high: StateAt) -> list[str]:
        """Return the keys that changed between two states. O(changes log changes)."""
        with self._connection() as db:
            if db is None:
                self._check_unwritten(low)
                self._check_unwritten(high)
                return []
            with self._snapshot(db, low, high):
                count, floor = select(db, _COUNT_COMMITS, (low.revision, high.revision))[0]
                unlisted = db.execute(_UNLISTED, (low.revision, high.revision)).get
                if floor is None or unlisted or count != max(0, high.revision - floor):
                    raise Damaged(f"{self.path}: what the commits touched is missing", RECOVER)
                before, after = sorted((low.time, high.time))
                rows = select(db, _CHANGED, (low.revision, high.revision, before, after))
        return [key for (key,) in rows]

    # --- kept states -------------------------------------------------------------------------------------------

    @contextmanager
    def _snapshot(self, db: Connection, *states: StateAt | None) -> Iterator[None]:
        """Run the block in one read transaction.

        Raises:
            HistoryPruned: one of the states is no longer kept.
            FormChanged: the values that it read are not in the form that the connection knew.

        """
        db.execute("BEGIN")
        try:
            try:
                for state in states:
                    if state is not None:
                        self._check_kept(db, state.revision)
                yield
            except StateException:
                with suppress(apsw.Error):
                    self._compare_form(db)
                raise
            self._compare_form(db)
        finally:
            if db.in_transaction:
                db.execute("COMMIT")

    def _compare_form(self, db: Connection) -> None:
        if not self._check_form(db):
            raise FormChanged

    def _check_kept(self, db: apsw.Connection, revision: int) -> None:
        head = self._head(db)
        if not self._is_kept(db, head, revision):
            raise history_pruned_error(self.namespace, revision, head.floor)

    def _is_kept(self, db: apsw.Connection, head: Head, revision: int) -> bool:
        """Return whether a state can be read at a revision."""
        if revision >= head.floor:
            return revision <= head.revision
        return db.execute("SELECT 1 FROM marks WHERE revision = ? LIMIT 1", (revision,)).fetchone() is not None

    def _check_unwritten(self, at: StateAt | None) -> None:
        """Raise `HistoryPruned` unless `at` is live or revision 0, for a namespace that has no database."""
        if at is not None and at.revision:
            raise history_pruned_error(self.namespace, at.revision, 0)

    # --- history -----------------------------------------------------------------------------------------------

    @_again
    def versions(self, key: str, limit: int = 100, below: int = 0) -> list[Version]:
        with self._connection() as db:
            if db is None:
                return []
            with self._snapshot(db):
                rows = select(db, _VERSIONS, (key, below or schema.MAX_REVISION, limit))
                chain = chain_of(db, db.values)
                return [self._version(db.values, chain, key, *row) for row in rows]

    @_again
    def commits(self, limit: int = 100, below: int = 0) -> list[Commit]:
        with self._connection() as db:
            if db is None:
                return []
            with self._snapshot(db):
                rows = select(db, _COMMITS, (below or schema.MAX_REVISION, limit))
                if not rows:
                    self._head_row(db)  # raises `Damaged` if the floor or all commits are missing
            unpack = db.values.unpack_commit
        for row, following in pairwise(rows):
            if row[0] != following[0] + 1:
                raise Damaged(f"{self.path}: the commit of revision {row[0] - 1} is missing", RECOVER)
        for row in rows:
            if row_checksum(*row[:-1]) != row[-1]:
                raise Damaged(f"{self.path}: commit {row[0]} is not what was written", RECOVER)
        return [
            unpack(Commit(row[0], to_datetime(row[1]), *row[3:KEY_COLUMN], *row[KEY_COLUMN + 1 : -1])) for row in rows
        ]

    @_again
    def marks(self) -> list[CheckpointRecord]:
        return self._marks(_MARKS)

    @_again
    def marks_of(self, name: str) -> list[CheckpointRecord]:
        return self._marks(_MARKS_OF, name)

    def _marks(self, query: str, *name: str) -> list[CheckpointRecord]:
        with self._connection() as db:
            if db is None:
                return []
            with self._snapshot(db):
                rows = select(db, query, name)
                kinds = schema.read_kinds(db, *name)
            unpack = db.values.unpack_mark
        for row in rows:
            if row_checksum(*row[:-1]) != row[-1]:
                raise Damaged(f"{self.path}: checkpoint {row[0]!r:.60} is not what was written", RECOVER)
        return [
            unpack(CheckpointRecord(name, revision, moment, note, kinds.get((name, revision), "")))
            for name, revision, moment, note, _ in rows
        ]

    @_again
    def versions_page(
        self, after: tuple[str, int] = ("", 0), limit: int = 1000, keys: Iterable[str] | None = None
    ) -> list[StoredVersion]:
        from .transfer import versions_page

        with self._connection() as db:
            if db is None:
                return []
            with self._snapshot(db):
                return versions_page(db, self.path, db.values, after, limit, keys)

    @_again
    def deltas(self, versions: Iterable[StoredVersion]) -> dict[tuple[str, int], Delta]:
        """Return the deltas that versions are kept as, by key and revision. O(log n) for each large version."""
        from .transfer import deltas

        with self._connection() as db:
            if db is None:
                return {}
            with self._snapshot(db):
                return deltas(db, versions)

    @_again
    def superseded(self, after: tuple[str, int] = ("", 0), limit: int = 1000) -> list[SupersededVersion]:
        from .maintenance import superseded

        with self._connection() as db:
            if db is None:
                return []
            with self._snapshot(db):
                return superseded(db, db.values, after, limit)

    def disk_usage(self, gone: Iterable[tuple[str, int]] = ()) -> DiskUsage | None:  # noqa: ARG002
        from .maintenance import disk_usage

        with self._connection() as db:
            return DiskUsage(0) if db is None else disk_usage(db, self.path)

    # --- the rest ----------------------------------------------------------------------------------------------

    def wait(self, revision: int, timeout: float) -> int:
        """Read the head every `POLL_SECONDS`."""
        return poll_revision(lambda: self.head().revision, revision, timeout, POLL_SECONDS)

    def namespaces(self) -> list[str]:
        return folders_with(self.root, ("state.db",))


def _range_state(head: Head, at: StateAt | None, moment: int) -> tuple[StateAt, bool]:
    """Return the state that a `KeyRange` reads, live at a moment, and whether anything was committed after it."""
    return (StateAt(schema.MAX_REVISION, moment), False) if at is None else (at, at.revision < head.revision)
