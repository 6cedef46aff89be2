"""Commits to a namespace's database."""

from __future__ import annotations

import time
from collections.abc import Container

import apsw

from ...errors import Damaged
from ..conflicts import check_preconditions, plain_data_error
from ..deltas import MIN_BYTES, MIN_STORED_BYTES
from ..protocol import MAX_EXPIRED_PER_COMMIT, CheckpointRecord, CommitRequest, Head
from . import schema
from .connections.pool import Connection, Preempted
from .reader import Reader
from .row_checksums import IN_PACKED, checksum, row_checksum, select, until_checksum

FILE_TRUST_SECONDS = 0.05  # for this long a connection that commits alone trusts that its file is still at the path
SLACK_REVISIONS = 64  # revisions that may be overdue before they are pruned: together they cost fewer pages
MAX_PRUNED_TOUCHES = 200  # rows of `touched` that one commit looks at to prune what is overdue

_NEXT_EXPIRY = "SELECT min(expires) FROM entries WHERE expires > 0"
_EXPIRED = "SELECT key FROM entries WHERE expires > 0 AND expires <= ? LIMIT ?"
_COUNT_EXPIRED = "SELECT count(*) FROM entries WHERE expires > 0 AND expires <= ?"
_SUPERSEDE_ENTRY = """INSERT INTO versions SELECT key, revision, ?2, iif(?4, '', value), time, expires, sum + ?3
    FROM entries WHERE key = ?1"""
_SUPERSEDE_SMALL = f"""INSERT INTO versions SELECT key, revision, ?2, value, time, expires, sum + ?3
    FROM entries WHERE key = ?1 AND octet_length(value) < {MIN_BYTES}"""
_LARGE_ENTRY = f"""SELECT revision, CAST(value AS BLOB) FROM entries
    WHERE key = ? AND octet_length(value) >= {MIN_BYTES}"""
_UNPLAIN_ENTRY = """SELECT revision, CAST(value AS BLOB), time, expires FROM entries
    WHERE key = ? AND octet_length(value) >= ?"""
_SUPERSEDE_PACKED = f"""INSERT INTO versions SELECT key, revision, ?2, '{IN_PACKED}', time, expires, ?3
    FROM entries WHERE key = ?1"""
_SUPERSEDE_DELETE = """UPDATE versions SET until = ?2, sum = sum + ?4
    WHERE key = ?1 AND value IS NULL AND until = ?3"""
_PUT_ENTRY = """INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value,
    revision = excluded.revision, time = excluded.time, expires = excluded.expires, sum = excluded.sum"""
_PUT_DELETE = "INSERT INTO versions VALUES (?, ?, ?, NULL, ?, 0, ?)"


class Writer(Reader):
    """The commits of the `Backend` protocol."""

    keep: int  # revisions whose versions are kept at least

    def commit(self, batch: CommitRequest) -> Head:
        """Commit. One transaction, O(writes log n), and one fsync."""
        self._check_writable()
        while True:
            try:
                return self._commit(batch)
            except Preempted:
                pass  # a call in the middle of this one committed first

    def _commit(self, batch: CommitRequest) -> Head:
        with self._connection(batch) as db:
            assert db is not None
            db.execute("BEGIN IMMEDIATE")
            if self._is_current(db):
                self._check_form(db)
                if not db.values.ready:
                    self._start_sealing(db)
                head, next_expiry = self._write(db, batch)
                db.execute("COMMIT")
                db.form_version = version = db.data_version()
                db.last_commit = (version, head, next_expiry)
                return head
            db.execute("ROLLBACK")
        self._current_pool()
        return self._commit(batch)  # another process dropped or replaced the file of this connection

    def _start_sealing(self, db: Connection) -> None:
        """Make the keyring of a namespace that was not written yet, where a key was given, and begin again.

        Raises:
            Sealed: no key opens the namespace.
            InvalidArgument: the namespace has plain data.

        """
        from . import sealing

        db.values.check_open()
        if self._head(db).revision or db.execute("SELECT 1 FROM marks LIMIT 1").fetchone():
            raise plain_data_error(self.namespace)
        sealing.put_keyring(db, self._given.new_keyring(), None)
        db.execute("COMMIT; BEGIN IMMEDIATE")
        self._check_form(db)

    def _is_current(self, db: Connection) -> bool:
        """Return whether the connection's file is still at the path. To be called under the write lock.

        A stat after an fsync takes as long as half a save, so a connection that commits alone trusts its file for
        `FILE_TRUST_SECONDS`. `recover` holds the write lock for longer than that once the new file is at the path, and
        `drop` holds it while it moves the file, and ends with a commit.
        """
        moment = time.monotonic()
        if moment - db.path_checked_at < FILE_TRUST_SECONDS and db.last_commit[0] == db.data_version():
            return True
        if self._inode() != db.inode:  # not the pool's, which another thread may have replaced meanwhile
            return False
        db.path_checked_at = moment
        return True

    def _write(self, db: Connection, batch: CommitRequest) -> tuple[Head, int]:
        """Apply a commit in the caller's transaction. Return the new head, and the time of the next expiry."""
        clock = self.now()
        head, expired, next_expiry = self._head_before(db, clock)
        check_preconditions(
            batch, self.namespace, head,
            live_revision=lambda key: _live_revision(db, key, clock),
            has_checkpoint=lambda name: bool(db.execute("SELECT count(*) FROM marks WHERE name = ?", (name,)).get),
            is_kept=lambda revision: self._is_kept(db, head, revision),
        )  # fmt: skip
        moment = batch.time or max(clock, head.time + 1)
        start = batch.time or clock  # of durations: the times of commits rise, even if the clock steps back
        if batch.marks or batch.unmarks:
            self._write_marks(db, batch, head, start)
        if not batch.writes:
            return head, next_expiry
        revision = head.revision + 1
        rows = head.count + expired
        for key, write in batch.writes.items():
            expires = start + write.ttl if write.ttl else 0
            if expires and expires < next_expiry:
                next_expiry = expires
            rows += self._put(db, key, write.value, revision, write.time or moment, expires)
        touched, left = list(batch.writes), 0
        if expired:
            removed, left = self._remove_expired(db, batch.writes, revision, moment, clock)
            touched += removed
            rows -= len(removed)
        if len(touched) > 1:
            db.executemany("INSERT INTO touched VALUES (?, ?)", [(revision, key) for key in touched])
        only_key = touched[0] if len(touched) == 1 else ""
        reason, author = batch.reason, batch.author
        if not db.values.plain:
            reason = db.values.pack_text(reason, "reason", "", revision)
            author = db.values.pack_text(author, "author", "", revision)
        row = (revision, moment, rows, reason, author, len(batch.writes), only_key, *batch.undo)
        db.execute(schema.NEW_COMMIT, (*row, row_checksum(*row)))
        floor = head.floor
        if revision - floor > self.keep + min(SLACK_REVISIONS, self.keep // 16):
            floor = self._prune(db, floor, revision)
        return Head(revision, moment, rows - left, floor, head.lineage), next_expiry

    def _head_before(self, db: Connection, moment: int) -> tuple[Head, int, int]:
        """Return the head, how many rows of `entries` have expired, and the time of the next expiry.

        Where the last commit was this connection's own, and nothing has expired since, it remembers all three. While
        expired rows are left the time is 0, so that the next commit counts them again.
        """
        version, head, next_expiry = db.last_commit
        if version == db.data_version() and moment < next_expiry:
            return head, 0, next_expiry
        revision, time, rows, expired, floor, lineage = self._head_row(db)
        next_expiry = 0 if expired else db.execute(_NEXT_EXPIRY).get or schema.MAX_REVISION
        return Head(revision, time, rows - expired, floor, lineage), expired, next_expiry

    def _remove_expired(
        self, db: Connection, written: Container[str], revision: int, moment: int, clock: int
    ) -> tuple[list[str], int]:
        """Delete entries expired by the clock, but for those just written. Return their keys, and how many are left."""
        expired = select(db, _EXPIRED, (clock, MAX_EXPIRED_PER_COMMIT))
        removed = [key for (key,) in expired if key not in written]
        for key in removed:
            self._put(db, key, None, revision, moment, 0)
        if len(expired) < MAX_EXPIRED_PER_COMMIT:
            return removed, 0
        return removed, int(db.execute(_COUNT_EXPIRED, (clock,)).get)

    def _put(self, db: Connection, key: str, value: bytes | None, revision: int, moment: int, expires: int) -> int:
        """Write or delete a key. Return by how much the number of rows of `entries` changes."""
        superseded = self._supersede(db, key, revision, value)
        if not superseded:
            change = until_checksum(revision) - until_checksum(schema.MAX_REVISION)
            db.execute(_SUPERSEDE_DELETE, (key, revision, schema.MAX_REVISION, change))
        stored = None if value is None else db.values.pack(value, key, revision)
        sum_ = checksum(key, stored, revision, moment, expires)
        if stored is None:
            db.execute("DELETE FROM entries WHERE key = ?", (key,))
            until = schema.MAX_REVISION
            db.execute(_PUT_DELETE, (key, revision, until, moment, sum_ + until_checksum(until)))
            return -superseded
        db.execute(_PUT_ENTRY, (key, stored.decode(), revision, moment, expires, sum_))
        return 1 - superseded

    def _supersede(self, db: Connection, key: str, revision: int, value: bytes | None) -> int:
        """Move the live version of a key into the history, packed if that saves space. Return how many there were."""
        end = until_checksum(revision)
        is_packed = False
        if db.values.plain:
            db.execute(_SUPERSEDE_SMALL, (key, revision, end))
            if db.changes():
                return 1
            if (live := db.execute(_LARGE_ENTRY, (key,)).fetchone()) is None:
                return 0
            from . import packed

            is_packed = packed.pack(db, db.values, key, live[0], live[1], revision, value)
        elif self._supersede_unplain(db, key, revision, value):
            return 1
        db.execute(_SUPERSEDE_ENTRY, (key, revision, end, is_packed))
        return db.changes()

    def _supersede_unplain(self, db: Connection, key: str, revision: int, value: bytes | None) -> bool:
        """Pack the live value of a key that is not plain, and make it superseded. Return whether it was packed."""
        from . import packed

        live = db.execute(_UNPLAIN_ENTRY, (key, MIN_STORED_BYTES)).fetchone()
        if live is None:
            return False
        former, stored, moment, expires = live
        try:
            encoded = db.values.unpack(stored, key, former)
        except Damaged:  # it is superseded as it is
            return False
        if not packed.pack(db, db.values, key, former, encoded, revision, value):
            return False
        sum_ = checksum(key, packed.summed(db.values, encoded), former, moment, expires) + until_checksum(revision)
        db.execute(_SUPERSEDE_PACKED, (key, revision, sum_))
        return True

    def _write_marks(self, db: Connection, batch: CommitRequest, head: Head, moment: int) -> None:
        for name, revision in batch.unmarks:
            schema.delete_mark(db, name, revision)
        for mark in batch.marks:
            revision = mark.revision_in(head.revision, head.revision + bool(batch.writes))
            made = CheckpointRecord(mark.name, revision, mark.time or moment, mark.note, mark.kind)
            schema.put_mark(db, db.values.pack_mark(made))

    def _prune(self, db: Connection, floor: int, revision: int) -> int:
        """Prune some of what lies before the last `keep` revisions. Return the new floor.

        A revision is pruned whole or not at all. One commit of more than `MAX_PRUNED_TOUCHES` keys is pruned at once.
        """
        goal = revision - self.keep
        rows = select(db, f"{schema.TOUCHED} LIMIT ?3", (floor, goal, MAX_PRUNED_TOUCHES + 1))
        if len(rows) > MAX_PRUNED_TOUCHES:
            goal = max(floor + 1, rows[-1][0] - 1)
        schema.prune(db, db.values, floor, goal)
        return goal


def _live_revision(db: apsw.Connection, key: str, moment: int) -> int:
    """Return the revision of the live entry of a key; 0 for an absent or expired key."""
    row = db.execute("SELECT revision, expires FROM entries WHERE key = ?", (key,)).fetchone()
    return 0 if row is None or 0 < row[1] <= moment else int(row[0])
