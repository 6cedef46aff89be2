"""Copies of a SQLite namespace: its versions page by page, and the staging database that becomes a namespace.

The staging database is `migrating-sqlite/state.db` in the namespace's folder. Its extra table `receiver` holds the note
of the last put. Puts are collected in large transactions with a rollback journal, which does not journal appended
pages. The finished file is renamed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import TYPE_CHECKING, Any

import apsw
import msgspec

from ...errors import BackendError, Damaged
from ...model import Commit, to_micros
from ..conflicts import check_same_keyring, destination_exists_error
from ..deltas import MIN_BYTES, MIN_STORED_BYTES, CarriedVersion, Delta, may_be_packed
from ..files.durable_files import backup_damaged_file, file_error, file_lock, fsync_folder, remove, replaced_path
from ..files.staging import StagingFolder, set_aside
from ..protocol import PAGE_BYTES, Backend, CheckpointRecord, Head, StoredVersion
from ..stored_values import StoredValues
from . import packed, schema
from .connections import page_checksums as pages
from .read_cache import TRUST_SECONDS
from .row_checksums import IN_PACKED, RECOVER, checksum, has_deltas, row_checksum, unpacked, until_checksum

if TYPE_CHECKING:
    from .backend import SQLiteBackend
    from .connections.pool import Connection

STAGE = "migrating-sqlite"
TRANSACTION_BYTES = 32_000_000  # of values in one transaction
TRANSACTION_SECONDS = 5.0  # a put ends a transaction that is older
PAGE_CACHE_KIB = 48_000  # large enough that few pages are written before the transaction ends

_ENTRIES = "SELECT key, CAST(value AS BLOB), revision, time, expires, sum, 0 FROM entries WHERE"
_VERSIONS = "SELECT key, CAST(value AS BLOB), revision, time, expires, sum, until FROM versions WHERE"
_AFTER = "(key, revision) > (?1, ?2)"
_DUMP = f"{_ENTRIES} {_AFTER} UNION ALL {_VERSIONS} {_AFTER} ORDER BY 1, 3 LIMIT ?3"
_DUMP_KEY = f"""{_ENTRIES} key = ?1 AND revision > ?2 UNION ALL {_VERSIONS} key = ?1 AND revision > ?2
    ORDER BY 3 LIMIT ?3"""
_LAST = f"""SELECT key, revision, until, value, time, expires, sum FROM versions
    WHERE key = ? AND until = ? AND octet_length(value) >= {MIN_BYTES}"""  # of an earlier put, to be packed
_PUT_COMMIT = schema.NEW_COMMIT.replace("INSERT", "INSERT OR REPLACE")
_FILL_TOUCHED = """INSERT INTO touched SELECT revision, key FROM entries WHERE revision > ?1
    UNION ALL SELECT revision, key FROM versions ORDER BY 1, 2"""


def versions_page(
    db: apsw.Connection, path: str, values: StoredValues, after: tuple[str, int], limit: int,
    keys: Iterable[str] | None,
) -> list[StoredVersion]:  # fmt: skip
    """Return a page of versions, see `Backend.versions_page`, in the caller's transaction."""
    out: list[StoredVersion] = []
    size, unpack, top = 0, values.unpack, schema.MAX_REVISION
    chain = packed.chain(db, values)
    for key, data, revision, moment, expires, sum_, until in _rows(db, after, limit, keys):
        stored = value = data
        if data == b"":
            value = unpacked(chain, key, revision, path)
            stored = value if values.plain else data
        added = until and until_checksum(until)
        if checksum(key, stored, revision, moment, expires) + added != sum_ and not (
            data == b"" and values.mixed and checksum(key, value, revision, moment, expires) + added == sum_
        ):
            raise Damaged(f"{path}: revision {revision} of {key[:60]!r} is not what was written", RECOVER)
        if value is not None:
            if data:
                value = unpack(value, key, revision)
            size += len(value)
        out.append(StoredVersion(key, value, revision, moment, expires, 0 if until == top else until))
        if size >= PAGE_BYTES or len(out) >= limit:
            break
    return out


def deltas(db: Connection, versions: Iterable[StoredVersion]) -> dict[tuple[str, int], Delta]:
    """Return the deltas that versions are kept as, see `Reader.deltas`."""
    if not has_deltas(db):
        return {}
    found = {}
    for version in filter(may_be_packed, versions):
        delta = packed.read(db, db.values, version.key, version.revision)
        if delta is not None:
            found[version.key, version.revision] = delta
    return found


def _rows(
    db: apsw.Connection, after: tuple[str, int], limit: int, keys: Iterable[str] | None
) -> Iterator[tuple[Any, ...]]:
    if keys is None:
        return db.execute(_DUMP, (*after, limit))
    first, revision = after
    wanted = sorted({key for key in keys if key >= first})
    return chain.from_iterable(db.execute(_DUMP_KEY, (key, revision if key == first else 0, limit)) for key in wanted)


class SQLiteReceiver:
    """The `StagedImport` of SQLite."""

    def __init__(self, backend: SQLiteBackend, stage: str = STAGE, keyring: bytes | None = None) -> None:
        self._backend = backend
        self._keyring, self._is_recovery = keyring, stage != STAGE
        self._stage = StagingFolder(backend.folder, stage, backend.url)
        self._path = self._stage.path("state.db")
        self._staged_keyring: bytes | None = None
        self._settled: Head | None = None
        self._reader: SQLiteBackend | None = None
        self._size, self._since = 0, 0.0
        self._db: apsw.Connection | None = None
        try:
            with backend._errors():
                if not self._open():
                    self._stage.clear()
                    self._create()
        except BaseException:
            self.close()
            raise

    def _open(self) -> bool:
        """Open the staging database; False where there is none, or where it was complete and about to be renamed."""
        if not os.path.exists(self._path):
            return False
        try:
            self._connect()
            return self._note is not None
        except (apsw.CorruptError, apsw.NotADBError, apsw.SQLError):
            self._close()
            return False

    def _connect(self) -> None:
        db = self._db = pages.connect(self._path)
        db.set_busy_timeout(int(self._backend.timeout * 1000))  # the backend that `staged` gave has it open as well
        schema.prepare(db, "full")
        db.execute(f"PRAGMA journal_mode = TRUNCATE; PRAGMA cache_size = -{PAGE_CACHE_KIB}")
        self._note = db.execute("SELECT note FROM receiver").get
        from . import sealing

        self._staged_keyring = sealing.read_keyring(db)
        self._values = self._backend._given.opened(self._staged_keyring)
        self._values.check_open()

    def _create(self) -> None:
        db = schema.begin(self._path)
        with db:
            schema.make_tables(db)
            db.execute("INSERT INTO meta VALUES (1, '', 0)")
            document = self._keyring
            if not self._is_recovery:
                document = self._backend.keyring() or self._backend._given.new_keyring()
            if document is not None:
                from . import sealing

                sealing.put_keyring(db, document, None)
            db.execute("CREATE TABLE receiver (note TEXT NOT NULL) STRICT; INSERT INTO receiver VALUES ('null')")
        db.close()
        self._connect()

    def _close(self) -> None:
        if self._reader is not None:
            self._reader.close()
        if self._db is not None:
            self._db.close()
            self._db = None

    def _writable(self) -> apsw.Connection:
        if self._db is None:
            raise BackendError(f"the receiver of {self._backend.url} was closed", "Open another with receive()")
        return self._db

    def progress(self) -> dict[str, Any] | None:
        with self._backend._errors():
            text = self._writable().execute("SELECT note FROM receiver").get
            note: dict[str, Any] | None = msgspec.json.decode(text)
            return note

    def put(
        self, versions: Iterable[StoredVersion] = (), commits: Iterable[Commit] = (),
        marks: Iterable[CheckpointRecord] | None = None, *,
        note: dict[str, Any], forget: Iterable[str] = (),
    ) -> None:  # fmt: skip
        db = self._writable()
        self._settled = None
        if not db.in_transaction:
            self._size, self._since = 0, time.monotonic()
        with self._backend._errors():
            with _transaction(db):
                if keys := [(key,) for key in forget]:
                    packed.remove_keys(db, keys)
                    db.executemany("DELETE FROM entries WHERE key = ?", keys)
                    db.executemany("DELETE FROM versions WHERE key = ?", keys)
                self._put_versions(db, versions)
                _put_commits(db, map(self._values.pack_commit, commits))
                if marks is not None:
                    _put_marks(db, map(self._values.pack_mark, marks))
                db.execute("UPDATE receiver SET note = ?", (msgspec.json.encode(note, enc_hook=int).decode(),))
            if self._size >= TRANSACTION_BYTES or time.monotonic() - self._since >= TRANSACTION_SECONDS:
                db.execute("COMMIT")

    def _put_versions(self, db: apsw.Connection, versions: Iterable[StoredVersion]) -> None:
        """Add rows. A superseded value is packed once the next version of its key is known."""
        live: list[tuple[Any, ...]] = []
        past: list[tuple[Any, ...]] = []
        pack, plain = self._values.pack, self._values.plain
        large: bytes | None = None  # the value of the last row of `past`, if it may be packed
        previous = ""
        for version in versions:
            key, value, revision = version.key, version.value, version.revision
            moment, expires = version.time, version.expires
            if not previous:
                past += db.execute(_LAST, (key, revision))
                large = self._values.unpack(past[0][3].encode(), key, past[0][1]) if past else None
            if large is not None:
                _pack_last(db, self._values, past, large, revision, value if key == previous or not previous else None)
                large = None
            previous = key
            if isinstance(version, CarriedVersion) and version.delta is not None and value is not None:
                packed.create(db)
                packed.put(db, self._values, key, revision, version.delta)
                self._size += len(version.delta.data)
                sum_ = checksum(key, packed.summed(self._values, value), revision, moment, expires)
                past.append(
                    (key, revision, version.until, IN_PACKED, moment, expires, sum_ + until_checksum(version.until))
                )
                continue
            stored = None if value is None else pack(value, key, revision)
            sum_ = checksum(key, stored, revision, moment, expires)
            if stored is not None:
                self._size += len(stored)
                text = stored.decode()
                if not version.until:
                    live.append((key, text, revision, moment, expires, sum_))
                    continue
                if value is not None and len(value) >= MIN_BYTES and (plain or len(stored) >= MIN_STORED_BYTES):
                    large = value
            else:
                text = None
            until = version.until or schema.MAX_REVISION
            past.append((key, revision, until, text, moment, expires, sum_ + until_checksum(until)))
        if live:
            db.executemany("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?)", live)
        _put_past(db, past)

    def staged(self, head: Head) -> Backend:
        from .backend import SQLiteBackend

        self._settle(head)
        if self._reader is None:
            timeout, values = self._backend.timeout, self._backend._given
            self._reader = SQLiteBackend(self._stage.parent, STAGE, timeout=timeout, values=values)
        return self._reader

    def build(self, head: Head) -> str:
        """Finish the database in the stage, with its whole log, and close it; return its path."""
        self._settle(head, prune_log=False)
        self._seal()
        return self._path

    def _settle(self, head: Head, prune_log: bool = True) -> None:
        """Write what follows from all puts: the head, and the keys that each revision touched."""
        if self._settled == head:
            return
        db = self._writable()
        with self._backend._errors():
            with _transaction(db):
                db.execute("UPDATE meta SET lineage = ?, floor = ?", (head.lineage, head.floor))
                if prune_log:
                    db.execute("DELETE FROM commits WHERE revision <= ? AND revision < ?", (head.floor, head.revision))
                if head.revision:
                    self._count(db, head)
                oldest = db.execute("SELECT min(revision) FROM marks").get
                # Nobody can diff below both the floor and the oldest checkpoint, so those `touched` rows are not needed
                # for entries. `compact` needs them for the superseded versions that are left there.
                low = head.floor if oldest is None else min(head.floor, oldest)
                db.execute("DELETE FROM touched")
                db.execute(_FILL_TOUCHED, (low,))
            db.execute("COMMIT")
        self._settled = head

    def _count(self, db: apsw.Connection, head: Head) -> None:
        """Store the number of entries in the last commit, where the backend reads the number."""
        count = db.execute("SELECT count(*) FROM entries").get
        row = db.execute("SELECT * FROM commits WHERE revision = ?", (head.revision,)).fetchone()
        commit = (head.revision, head.time, count, "", "", 0, "", 0, 0, 0)
        if row is not None:
            commit = (*row[:2], count, *row[3:-1])
        db.execute(_PUT_COMMIT, (*commit, row_checksum(*commit)))

    def finish(self, head: Head, over: bool = False) -> str:
        """Rename the staging database. A former namespace is kept in a folder of its own in the namespace's folder."""
        backend, folder = self._backend, self._stage.parent
        self._settle(head)
        existing = backend.head()  # adopts a database of the older layout
        check_same_keyring(backend.keyring(), self._staged_keyring, backend.namespace)
        kept = ""
        try:
            replaced_path(backend.path, self._stage.folder)
            with file_lock(os.path.join(folder, "lock"), backend.timeout):
                if not os.path.exists(backend.path):
                    self._seal()
                    self._rename()
                elif over:
                    kept = self._replace()
                else:
                    raise destination_exists_error(backend.url, backend.namespace, existing.revision)
        except OSError as error:
            if isinstance(error, BackendError):
                raise
            raise file_error(error, folder) from error
        self.drop()
        return kept

    def _seal(self) -> None:
        """Make the staging database a database like any other, durable and closed."""
        with self._backend._errors():
            if self._reader is not None:
                self._reader.close()
            db = self._writable()
            db.execute("DROP TABLE receiver")
            schema.set_mode(db, self._path)
            schema.write_back_log(db)
            self._close()
        with open(self._path, "rb") as file:
            os.fsync(file.fileno())

    def _rename(self) -> None:
        path = self._backend.path
        for suffix in ("-wal", "-journal"):  # of a database that is gone: SQLite would apply it to this database
            if os.path.exists(path + suffix):
                backup_damaged_file(path + suffix)
                remove(path + suffix)
        os.rename(self._path, path)
        fsync_folder(os.path.dirname(path))

    def _replace(self) -> str:
        """Replace a database that is in use, and keep it aside."""
        backend = self._backend
        backend.close()
        with backend._errors():
            former = pages.connect(backend.path)
            try:
                former.set_busy_handler(backend._busy_handler())
                former.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                former.execute("BEGIN IMMEDIATE")  # from here on nobody writes to it
                self._seal()
                kept = set_aside(self._stage.parent, ("state.db",))
                for suffix in ("-wal", "-shm"):
                    remove(backend.path + suffix)
                self._rename()
                time.sleep(TRUST_SECONDS)  # whoever commits after this checks the file again
            finally:
                former.close()
        return kept

    def drop(self) -> None:
        self._close()
        if os.path.isdir(self._stage.folder):
            self._stage.clear()
        self._stage.release()

    def close(self) -> None:
        if self._db is not None:
            with self._backend._errors():
                if self._db.in_transaction:
                    self._db.execute("COMMIT")
                if self.progress() is None:
                    self.drop()
        self._close()
        self._stage.release()


def _put_past(db: apsw.Connection, past: list[tuple[Any, ...]]) -> None:
    if past:
        db.executemany("INSERT OR REPLACE INTO versions VALUES (?, ?, ?, ?, ?, ?, ?)", past)
        past.clear()


def _pack_last(
    db: apsw.Connection, values: StoredValues, past: list[tuple[Any, ...]], value: bytes, base: int,
    base_value: bytes | None,
) -> None:  # fmt: skip
    """Pack the value of the last row that is to be added to `versions`, and add the rows before it."""
    key, revision, until, text, moment, expires, sum_ = past.pop()
    _put_past(db, past)
    if packed.pack(db, values, key, revision, value, base, base_value):
        text = IN_PACKED
        sum_ = checksum(key, packed.summed(values, value), revision, moment, expires) + until_checksum(until)
    past.append((key, revision, until, text, moment, expires, sum_))


@contextmanager
def _transaction(db: apsw.Connection) -> Iterator[None]:
    """Run the block in the open transaction, or begin one. It stays open; an error rolls all of it back."""
    try:
        if not db.in_transaction:
            db.execute("BEGIN IMMEDIATE")
        yield
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _put_commits(db: apsw.Connection, commits: Iterable[Commit]) -> None:
    rows = []
    for commit in commits:
        row = (commit.revision, to_micros(commit.time), 0, commit.reason, commit.author, commit.keys, "",
               commit.position, commit.forward, commit.behind)  # fmt: skip
        rows.append((*row, row_checksum(*row)))
    if rows:
        db.executemany(_PUT_COMMIT, rows)


def _put_marks(db: apsw.Connection, marks: Iterable[CheckpointRecord]) -> None:
    schema.delete_marks(db)
    for mark in marks:
        schema.put_mark(db, mark)
