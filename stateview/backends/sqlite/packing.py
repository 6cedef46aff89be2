"""Pack the superseded values that are whole, as an older release kept them, while others read and write.

An older release kept plain values only.

Values are compressed in read transactions, which let others write. A short transaction then stores the deltas.
"""

from __future__ import annotations

import time
from typing import NamedTuple

import apsw

from ..deltas import FANOUT, MIN_BYTES, DamagedDelta, Delta, make_delta, rebased_steps
from ..protocol import ProgressCount
from ..stored_values import PLAIN
from . import packed, sealing
from .row_checksums import IN_PACKED, Row, checksum, has_deltas, select, until_checksum

VALUES_PER_TRANSACTION = 250  # others write between two transactions
BYTES_PER_TRANSACTION = 4_000_000  # of values
ROWS_PER_READ = 5000
PAUSE_SECONDS = 0.005  # between two transactions, since a waiting writer only polls for the lock
NEWEST_PLACE = FANOUT**5  # of the newest value of a key without deltas; older values get the places below

Position = tuple[str, int]  # a key and a revision
END: Position = ("\U0010ffff" * 257, 0)  # above all keys

_WHOLE = f"SELECT 1 FROM versions WHERE octet_length(value) >= {MIN_BYTES} LIMIT 1"
_PAGE = """SELECT key, revision, coalesce(octet_length(value), 0) FROM versions WHERE (key, revision) < (?, ?)
    ORDER BY key DESC, revision DESC LIMIT ?"""
_ROW = "SELECT until, CAST(value AS BLOB), time, expires, sum FROM versions WHERE key = ? AND revision = ?"
_NEWER = "SELECT revision, place FROM packed WHERE key = ? AND revision > ? AND place % ? = 0 ORDER BY revision LIMIT 1"
_EXISTS = """SELECT EXISTS (SELECT 1 FROM entries WHERE key = ?1 AND revision = ?2)
    OR EXISTS (SELECT 1 FROM versions WHERE key = ?1 AND revision = ?2 AND value IS NOT NULL)"""
_EMPTY = f"UPDATE versions SET value = '{IN_PACKED}' WHERE key = ? AND revision = ? AND value != ''"


class Bite(NamedTuple):
    """Deltas of whole values, to be stored in one transaction. `after` is where to go on; None at the end."""

    after: Position | None
    seen: int
    deltas: list[tuple[str, int, Delta]]


def pack_whole_versions(db: apsw.Connection, progress: ProgressCount | None) -> None:
    """Pack the superseded values that are whole, in many short transactions. An interrupted call can be repeated.

    A value that is better kept whole is compressed again by each call, and nothing is written for it.
    """
    if not db.execute(_WHOLE).fetchone():
        return
    total = int(db.execute("SELECT count(*) FROM versions").get)
    seen = 0
    after: Position | None = END
    while after is not None:
        if progress is not None:
            progress(min(seen, total), total)
        bite = next_bite(db, after)
        after, seen = bite.after, seen + bite.seen
        if bite.deltas:
            _store(db, bite.deltas)
            time.sleep(PAUSE_SECONDS)


def can_pack(db: apsw.Connection) -> bool:
    """Return whether `pack_whole_versions` would pack a value. O(versions), and O(bytes of those kept whole)."""
    after: Position | None = END if db.execute(_WHOLE).fetchone() else None
    while after is not None:
        bite = next_bite(db, after)
        if bite.deltas:
            return True
        after = bite.after
    return False


def next_bite(db: apsw.Connection, after: Position) -> Bite:
    """Pack some of the whole values before a position, newer ones first, without writing anything."""
    db.execute("BEGIN")
    packer = _Packer(db)
    size = seen = 0
    rows = select(db, _PAGE, (*after, ROWS_PER_READ))
    for key, revision, length in rows:
        large = length >= MIN_BYTES
        if large and size and (size + length > BYTES_PER_TRANSACTION or len(packer.deltas) == VALUES_PER_TRANSACTION):
            break
        after, seen = (key, revision), seen + 1
        if large:
            size += length
            packer.add(key, revision)
    db.execute("COMMIT")
    return Bite(after if seen < len(rows) or len(rows) == ROWS_PER_READ else None, seen, packer.deltas)


class _Packer:
    """Packs whole values in one read transaction, from the newest to the oldest of each key.

    So each is compressed once, relative to the base that `deltas` describes: its place tells which.
    """

    def __init__(self, db: apsw.Connection) -> None:
        self.deltas: list[tuple[str, int, Delta]] = []
        self._db = db
        self._chain = packed.chain(db, PLAIN)
        self._first: dict[str, int] = {}  # the index in `deltas` of the first delta of a key

    def add(self, key: str, revision: int) -> None:
        """Pack a value, unless it is damaged or better kept whole."""
        until, value, moment, expires, sum_ = select(self._db, _ROW, (key, revision))[0]
        if checksum(key, value, revision, moment, expires) + until_checksum(until) != sum_:
            return
        newer = self._newer(key, revision, 1)
        place = NEWEST_PLACE if newer is None else newer[1] - 1
        try:
            self._chain.put(key, revision, value)
            base = self._base(key, revision, place)
            delta = make_delta(value, base, self._chain.value(key, base) if base else None, place)
        except DamagedDelta:  # the base
            return
        if delta is not None:
            self._first.setdefault(key, len(self.deltas))
            self.deltas.append((key, revision, delta))

    def _base(self, key: str, revision: int, place: int) -> int:
        """Return the revision of the version that a delta at a place is relative to; 0 if there is none."""
        for step in reversed(list(rebased_steps(place))):
            if (newer := self._newer(key, revision, step)) is not None:
                return int(newer[0])
        return packed.next_revision(self._db, key, revision)

    def _newer(self, key: str, revision: int, step: int) -> Row | None:
        """Return revision and place of the next newer delta of a key whose place is a multiple of a step."""
        for _, other, delta in reversed(self.deltas[self._first.get(key, len(self.deltas)) :]):
            if delta.place % step == 0:
                return other, delta.place
        rows = select(self._db, _NEWER, (key, revision, step)) if has_deltas(self._db) else []
        return rows[0] if rows else None


def _store(db: apsw.Connection, deltas: list[tuple[str, int, Delta]]) -> None:
    """Store deltas, except those of versions that others packed or pruned meanwhile, or whose base they pruned."""
    db.execute("BEGIN IMMEDIATE")
    if sealing.is_sealed(db):  # meanwhile: what is sealed is packed as it is superseded
        db.execute("ROLLBACK")
        return
    packed.create(db)
    for key, revision, delta in deltas:
        if delta.base and not db.execute(_EXISTS, (key, delta.base)).get:
            continue
        db.execute(_EMPTY, (key, revision))
        if db.changes():
            packed.put(db, PLAIN, key, revision, delta)
    db.execute("COMMIT")
