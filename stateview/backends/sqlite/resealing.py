"""Rewrite a database in the form that its keyring asks for, in short transactions, while others read and commit.

Live values come first. Every commit writes in the new form, so a value that is superseded before the live values are
done is found among the superseded ones, which follow. A row that is in its form is left, so a killed call goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ...errors import Conflict, Damaged
from ..deltas import Chain, DamagedDelta, Delta
from ..files.staging import remove_plain_leftovers
from ..protocol import ProgressCount
from ..retries import Backoff
from . import packed, sealing
from .packing import END, PAUSE_SECONDS
from .row_checksums import IN_PACKED, checksum, damaged_entry_error, has_deltas, row_checksum, select, until_checksum

if TYPE_CHECKING:
    from .backend import SQLiteBackend
    from .connections.pool import Connection

ROWS_PER_TRANSACTION = 250  # others write between two transactions
BYTES_PER_TRANSACTION = 2_000_000  # of values
Row = tuple[Any, ...]

_ENTRIES = "SELECT key FROM entries WHERE key > ? ORDER BY key LIMIT ?"
_ENTRY = "SELECT CAST(value AS BLOB), revision, time, expires, sum FROM entries WHERE key = ?"
_VERSIONS = """SELECT key, revision FROM versions WHERE (key, revision) < (?, ?)
    ORDER BY key DESC, revision DESC LIMIT ?"""
_VERSION = "SELECT CAST(value AS BLOB), until, time, expires, sum FROM versions WHERE key = ? AND revision = ?"
_DELTA = "SELECT base, place, size, data FROM packed WHERE key = ? AND revision = ?"
_COMMITS = "SELECT * FROM commits WHERE revision > ? ORDER BY revision LIMIT ?"
_MARKS = "SELECT id, name, revision, time, note, sum FROM marks WHERE id > ? ORDER BY id LIMIT ?"


class _KeyringChanged(Exception):
    """Another process changed the keyring: what was done already may be in a form that is not asked for any more."""


def reseal(backend: SQLiteBackend, db: Connection, progress: ProgressCount) -> int:
    """Rewrite what is not in the form, see `KeepsKeyring.reseal`."""
    secure_delete = db.pragma("secure_delete")
    db.pragma("secure_delete", True)  # so that no plain text stays in the space that is freed
    work = _Resealing(backend, db, progress)
    try:
        while not work.run():
            pass
        if work.keyring is not None and sealing.state(work.keyring) == "sealing":
            with backend._lock():
                remove_plain_leftovers(backend.folder, "sqlite", backend.url)
            db.execute("VACUUM")  # what was deleted before is in free space still
        backoff = Backoff(backend.timeout, PAUSE_SECONDS, PAUSE_SECONDS)
        while db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()[0][0] and backoff.wait():
            pass  # a long read of another process blocks it
    finally:
        if not db.in_transaction:
            db.pragma("secure_delete", secure_delete)
    return work.count


class _Resealing:
    """The rewriting of one database."""

    def __init__(self, backend: SQLiteBackend, db: Connection, progress: ProgressCount) -> None:
        self.count = 0
        self.keyring: bytes | None = None
        self._backend = backend
        self._db = db
        self._progress = progress
        self._changed = 0  # in the transaction

    def run(self) -> bool:
        """Rewrite all; False if the keyring was changed meanwhile."""
        tables = ("entries", "versions", "commits", "marks")
        total = sum(int(self._db.execute(f"SELECT count(*) FROM {table}").get) for table in tables)
        steps: list[tuple[Callable[[Any], tuple[Any, int]], Any]] = [
            (self._entries, ""), (self._versions, END), (self._commits, -1), (self._marks, -1),
        ]  # fmt: skip
        seen, is_first = 0, True
        try:
            for step, start in steps:
                after = start
                while after is not None:
                    self._progress(min(seen, total), total)
                    self._begin(is_first)
                    if self.keyring is None:
                        self._db.execute("ROLLBACK")
                        return True
                    is_first = False
                    after, examined = step(after)
                    seen += examined
                    self._db.execute("COMMIT")
                    self.count += self._changed
                    if self._changed:
                        time.sleep(PAUSE_SECONDS)
        except _KeyringChanged:
            self._db.execute("ROLLBACK")
            return False
        self._progress(total, total)
        return True

    def _begin(self, is_first: bool) -> None:
        self._changed = 0
        self._db.execute("BEGIN IMMEDIATE")
        if not self._backend._is_current(self._db):
            raise Conflict(f"{self._backend.path} was replaced meanwhile", "Try again")
        self._backend._check_form(self._db)
        if is_first:
            self.keyring = self._db.keyring
        elif self._db.keyring != self.keyring:
            raise _KeyringChanged
        if self.keyring is not None:
            self._db.values.check_open()

    def _entries(self, after: str) -> tuple[str | None, int]:
        db, values = self._db, self._db.values
        keys, size = [key for (key,) in select(db, _ENTRIES, (after, ROWS_PER_TRANSACTION))], 0
        for seen, key in enumerate(keys):
            if size > BYTES_PER_TRANSACTION:
                return keys[seen - 1], seen
            ((stored, revision, moment, expires, sum_),) = select(db, _ENTRY, (key,))
            size += len(stored)
            if checksum(key, stored, revision, moment, expires) != sum_:
                raise damaged_entry_error(self._backend.path, key)
            if (resealed := values.resealed(stored, key, revision)) is not stored:
                row = (resealed.decode(), checksum(key, resealed, revision, moment, expires), key)
                db.execute("UPDATE entries SET value = ?, sum = ? WHERE key = ?", row)
                self._changed += 1
        return (keys[-1] if len(keys) == ROWS_PER_TRANSACTION else None), len(keys)

    def _versions(self, after: tuple[str, int]) -> tuple[tuple[str, int] | None, int]:
        """Rewrite superseded values and deltas, newer ones first: they are the bases of older ones."""
        db, chain = self._db, packed.chain(self._db, self._db.values)
        places, size = select(db, _VERSIONS, (*after, ROWS_PER_TRANSACTION)), 0
        for seen, place in enumerate(places):
            if size > BYTES_PER_TRANSACTION:
                return places[seen - 1], seen
            ((stored, until, moment, expires, sum_),) = select(db, _VERSION, place)
            row = (*place, moment, expires, sum_ - until_checksum(until), until_checksum(until))
            if stored == b"":
                size += self._packed(chain, *row)
            elif stored is not None:
                size += len(stored)
                self._whole(stored, *row)
        return (places[-1] if len(places) == ROWS_PER_TRANSACTION else None), len(places)

    def _whole(self, stored: bytes, key: str, revision: int, moment: int, expires: int, sum_: int, added: int) -> None:
        values = self._db.values
        if checksum(key, stored, revision, moment, expires) != sum_:
            raise damaged_entry_error(self._backend.path, key)
        if (resealed := values.resealed(stored, key, revision)) is not stored:
            self._put(resealed, key, revision, checksum(key, resealed, revision, moment, expires) + added)

    def _packed(self, chain: Chain, key: str, revision: int, moment: int, expires: int, sum_: int, added: int) -> int:
        """Rewrite a delta, and the checksum of its version; return the bytes that were read."""
        db, values, size = self._db, self._db.values, 0
        rows = select(db, _DELTA, (key, revision)) if has_deltas(db) else []
        if not rows:
            raise damaged_entry_error(self._backend.path, key)
        base, place, length, data = rows[0]
        sealed_sum = checksum(key, IN_PACKED.encode(), revision, moment, expires)
        needed_sum = sealed_sum
        if sum_ != sealed_sum or not values.sealed:
            try:
                value, size = chain.value(key, revision), length
            except DamagedDelta as error:
                raise damaged_entry_error(self._backend.path, key) from error
            plain_sum = checksum(key, value, revision, moment, expires)
            if sum_ not in (sealed_sum, plain_sum):
                raise damaged_entry_error(self._backend.path, key)
            needed_sum = sealed_sum if values.sealed else plain_sum
        if not values.is_current_delta(data):
            opened = values.unpack_delta(data, key, revision, base)
            packed.put(db, values, key, revision, Delta(base, place, length, opened))
            self._changed += 1
        if sum_ != needed_sum:
            self._put(None, key, revision, needed_sum + added)
        return size + len(data)

    def _put(self, stored: bytes | None, key: str, revision: int, sum_: int) -> None:
        """Update a version; `stored` is None for one that is in `packed`."""
        text = IN_PACKED if stored is None else stored.decode()
        update = "UPDATE versions SET value = ?, sum = ? WHERE key = ? AND revision = ?"
        self._db.execute(update, (text, sum_, key, revision))
        self._changed += stored is not None

    def _commits(self, after: int) -> tuple[int | None, int]:
        db, values = self._db, self._db.values
        rows = select(db, _COMMITS, (after, ROWS_PER_TRANSACTION))
        for row in rows:
            revision, texts = row[0], row[3:5]
            if row_checksum(*row[:-1]) != row[-1]:
                raise Damaged(f"{self._backend.path}: commit {revision} is not what was written")
            resealed = [
                values.resealed_text(text, purpose, "", revision)
                for text, purpose in zip(texts, ("reason", "author"), strict=True)
            ]
            if changed := sum(new is not old for new, old in zip(resealed, texts, strict=True)):
                sum_ = row_checksum(*row[:3], *resealed, *row[5:-1])
                update = "UPDATE commits SET reason = ?, author = ?, sum = ? WHERE revision = ?"
                db.execute(update, (*resealed, sum_, revision))
                self._changed += changed
        return (rows[-1][0] if len(rows) == ROWS_PER_TRANSACTION else None), len(rows)

    def _marks(self, after: int) -> tuple[int | None, int]:
        db, values = self._db, self._db.values
        rows = select(db, _MARKS, (after, ROWS_PER_TRANSACTION))
        for number, name, revision, moment, note, sum_ in rows:
            if row_checksum(name, revision, moment, note) != sum_:
                raise Damaged(f"{self._backend.path}: checkpoint {name!r:.60} is not what was written")
            if (stored := values.resealed_text(note, "note", name, revision)) is not note:
                row = (stored, row_checksum(name, revision, moment, stored), number)
                db.execute("UPDATE marks SET note = ?, sum = ? WHERE id = ?", row)
                self._changed += 1
        return (rows[-1][0] if len(rows) == ROWS_PER_TRANSACTION else None), len(rows)
