"""Superseded values as deltas: the table `packed`, and the rows of `versions` whose value it holds.

Such a row of `versions` has the empty text as its value, which no value is. All else in the row stays, also the
checksum over the whole value. Where values are not plain, the checksum is over the empty text: one over the encoded
value would tell of it. The table is created with the first delta.

A process of a release without deltas may have had the database open by then. Its prune would delete the base of a
delta. A trigger refuses that: who deletes a version deletes its delta first, and gives dependents another base.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress

import apsw

from ..deltas import MIN_BYTES, SMALL_FANOUT, Chain, DamagedDelta, Delta, make_delta, rebase, rebased_steps, spans
from ..stored_values import StoredValues
from .row_checksums import IN_PACKED, has_deltas
from .schema import FORMAT

_CREATE = """CREATE TABLE IF NOT EXISTS packed (
    key TEXT NOT NULL, revision INTEGER NOT NULL, base INTEGER NOT NULL, place INTEGER NOT NULL, size INTEGER NOT NULL,
    data BLOB NOT NULL, PRIMARY KEY (key, revision)) STRICT;
CREATE INDEX IF NOT EXISTS packed_base ON packed (key, base);
CREATE TRIGGER IF NOT EXISTS packed_delete BEFORE DELETE ON versions
    WHEN EXISTS (SELECT 1 FROM packed WHERE key = OLD.key AND (base = OLD.revision OR revision = OLD.revision))
    BEGIN SELECT RAISE(ABORT, 'the database has deltas: upgrade stateview'); END"""
NAMES = frozenset({"packed", "packed_base"})
_DELTA = "SELECT base, place, size, data FROM packed WHERE key = ? AND revision = ?"
# All deltas on the way to a whole value. A delta that is relative to an older version is damaged, and ends the way.
_PATH = """WITH RECURSIVE path AS (SELECT revision, base, place, size, data FROM packed WHERE key = ?1 AND revision = ?2
    UNION ALL SELECT packed.revision, packed.base, packed.place, packed.size, packed.data FROM path JOIN packed
    ON packed.key = ?1 AND packed.revision = path.base WHERE path.base > path.revision) SELECT * FROM path"""
_WHOLE = """SELECT CAST(value AS BLOB) FROM entries WHERE key = ?1 AND revision = ?2
    UNION ALL SELECT CAST(value AS BLOB) FROM versions WHERE key = ?1 AND revision = ?2 AND value != ''"""
_SIZES = "SELECT size, length(data) FROM packed WHERE key = ? AND revision = ?"
_NEXT_PLACE = "SELECT coalesce((SELECT place + 1 FROM packed WHERE key = ? ORDER BY revision DESC LIMIT 1), 0)"
_FORMER = """SELECT revision, place, length(data) FROM packed WHERE key = ? AND revision < ? AND place % ? = 0
    ORDER BY revision DESC LIMIT 1"""
_BASE = "SELECT base FROM packed WHERE key = ? AND revision = ?"
_NEXT_REVISION = """SELECT revision FROM versions WHERE key = ?1 AND revision > ?2 AND value IS NOT NULL
    UNION ALL SELECT revision FROM entries WHERE key = ?1 AND revision > ?2 ORDER BY 1 LIMIT 1"""
_DEPENDENTS = "SELECT revision, place, base FROM packed WHERE key = ? AND base = ?"


def chain(db: apsw.Connection, values: StoredValues, is_lone: bool = False) -> Chain:
    """Return the reader of encoded values of a database, for use in one transaction. `is_lone`: see `Chain`."""
    ahead: dict[tuple[str, int], Delta] = {}  # the deltas on the way to a lone version, which one statement has read

    def fetch(key: str, revision: int) -> Delta | bytes:
        if is_lone:
            if (found := ahead.pop((key, revision), None)) is None:
                for step, base, place, size, data in db.execute(_PATH, (key, revision)):
                    ahead[key, step] = Delta(base, place, size, values.unpack_delta(data, key, step, base))
                found = ahead.pop((key, revision), None)
            if found is not None:
                return found
        whole = db.execute(_WHOLE, (key, revision)).fetchone()
        if whole is not None:
            return values.unpack(bytes(whole[0]), key, revision)
        delta = read(db, values, key, revision)
        if delta is None:
            raise DamagedDelta(f"revision {revision} is missing")
        return delta

    return Chain(fetch, is_lone)


def read(db: apsw.Connection, values: StoredValues, key: str, revision: int) -> Delta | None:
    """Return the delta of a version; None if it has none. The table `packed` exists."""
    row = db.execute(_DELTA, (key, revision)).fetchone()
    if row is None:
        return None
    base, place, size, data = row
    return Delta(base, place, size, values.unpack_delta(data, key, revision, base))


def remove_keys(db: apsw.Connection, keys: list[tuple[str]]) -> None:
    """Remove all deltas of keys whose versions all go."""
    if has_deltas(db):
        db.executemany("DELETE FROM packed WHERE key = ?", keys)


def sizes(db: apsw.Connection, key: str, revision: int) -> tuple[int, int]:
    """Return the bytes of a packed value and of its delta; 0 where the delta is missing."""
    row = db.execute(_SIZES, (key, revision)).fetchone()
    return (0, 0) if row is None else (row[0], row[1])


def pack(
    db: apsw.Connection,
    values: StoredValues,
    key: str,
    revision: int,
    value: bytes,
    base: int,
    base_value: bytes | None,
) -> bool:
    """Put a superseded value into `packed`, relative to the version that superseded it, or alone.

    Some calls also make older deltas relative to this value, see `deltas`.

    Args:
        db: the connection, in a transaction that writes.
        values: the stored form of values.
        key: the key.
        revision: the revision that wrote the value.
        value: the encoded value.
        base: the revision that superseded it.
        base_value: the value of that revision; None for a delete.

    Returns:
        whether the value is packed now; False if it is better kept whole.

    """
    if len(value) < MIN_BYTES:
        return False
    place = db.execute(_NEXT_PLACE, (key,)).get if has_deltas(db) else 0
    delta = make_delta(value, base, base_value, place)
    if delta is None:
        return False
    if place == 0:
        create(db)
    put(db, values, key, revision, delta)
    for step in rebased_steps(place, SMALL_FANOUT):
        former = db.execute(_FORMER, (key, revision, step)).fetchone()
        if former is not None and spans(step, former[2]):
            reader = chain(db, values)
            reader.put(key, revision, value)
            with suppress(DamagedDelta):  # a version that cannot be read holds up no commit, and stays as it is
                delta = rebase(reader.value(key, former[0]), revision, value, former[1])
                if spans(step, len(delta.data)):
                    put(db, values, key, former[0], delta)
    return True


def remove(db: apsw.Connection, values: StoredValues, key: str, revisions: Collection[int]) -> None:
    """Remove the deltas of versions that are about to be deleted. Deltas relative to these take over their bases.

    Call it before the rows of `versions` are deleted. A delta that cannot be read has no base afterwards, and is
    damaged still.

    Cost: O(log n) for each version, and for each delta that stays and was relative to it O(its chain).

    """
    gone = set(revisions)
    bases = {}
    dependents = []
    for revision in gone:
        row = db.execute(_BASE, (key, revision)).fetchone()
        bases[revision] = row[0] if row is not None else next_revision(db, key, revision)
        dependents += [row for row in db.execute(_DEPENDENTS, (key, revision)) if row[0] not in gone]
    reader = chain(db, values)
    for revision, place, former_base in dependents:
        base = former_base
        while base in gone:
            base = bases[base]
        try:
            base_value = reader.value(key, base) if base else None
            put(db, values, key, revision, rebase(reader.value(key, revision), base, base_value, place))
        except DamagedDelta:
            db.execute("UPDATE packed SET base = 0 WHERE key = ? AND revision = ?", (key, revision))
    db.executemany("DELETE FROM packed WHERE key = ? AND revision = ?", [(key, revision) for revision in gone])


def next_revision(db: apsw.Connection, key: str, revision: int) -> int:
    """Return the revision of the next newer version of a key that has a value; 0 if there is none."""
    return db.execute(_NEXT_REVISION, (key, revision)).get or 0


def summed(values: StoredValues, value: bytes) -> bytes:
    """Return what the checksum of a row of `versions` is over, whose value is in `packed`. `value` is encoded."""
    is_plain = values.plain or (values.mixed and not values.sealed)  # while it is unsealed, new rows are as after that
    return value if is_plain else IN_PACKED.encode()


def create(db: apsw.Connection) -> None:
    """Create the table of deltas, and give the database the number of a format that has it."""
    db.execute(_CREATE)
    if (version := db.pragma("user_version")) <= FORMAT:
        db.pragma("user_version", version + FORMAT)


def put(db: apsw.Connection, values: StoredValues, key: str, revision: int, delta: Delta) -> None:
    """Store a delta, in place of an earlier one of the version."""
    base, place, size, data = delta
    stored = values.pack_delta(data, key, revision, base)
    db.execute("INSERT OR REPLACE INTO packed VALUES (?, ?, ?, ?, ?, ?)", (key, revision, base, place, size, stored))
