"""Rewrite all that a Redis namespace stores in the form that its keyring asks for, while others go on.

A client reads a bite of records, opens and seals them, and one script replaces those that nobody has changed meanwhile.
Why one pass is enough, see `scripts`. The records that `recover` has set aside, and former namespaces that `migrate`
and `import` have kept, stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from hashlib import sha1
from typing import TYPE_CHECKING

import msgspec

from ...errors import Conflict, Damaged
from ..deltas import DamagedDelta
from ..protocol import ProgressCount
from ..stored_values import StoredValues
from .connections.contact import keyring_digest
from .packing import Linked, parse_linked
from .scripts.common import COMMON, NAMES

if TYPE_CHECKING:
    from .backend import RedisBackend

BITE_BYTES = 2_000_000  # that the server reads or writes at once; a larger record is a bite of its own
_MAX_RECORDS = 1000  # of a bite
_TRIES = 10  # passes, if others change the keyring again and again

# fmt: off
RESEAL = COMMON + """
-- Replace records by another form of theirs. ARGV: the place of their hash in KEYS; the digest of the keyring; for each
-- record its field, the digest of what was read, and the record to store. Returns the fields of which another record
-- lies there now; or 'rekey' if another keyring does.
if redis.sha1hex(call('HGET', head, 'keyring') or '') ~= ARGV[2] then return 'rekey' end
local where, changed = KEYS[tonumber(ARGV[1])], {}
for i = 3, #ARGV, 3 do
  local packed = call('HGET', where, ARGV[i])
  if packed then  -- else it was pruned, or has moved to the history
    if redis.sha1hex(packed) == ARGV[i + 1] then call('HSET', where, ARGV[i], ARGV[i + 2])
    else changed[#changed + 1] = ARGV[i] end
  end
end
return changed
"""
# fmt: on


class _Rekeyed(Exception):
    """Another client has changed the keyring."""


def reseal(backend: RedisBackend, progress: ProgressCount) -> int:
    """Rewrite all records that are in another form than the keyring asks for, and return the number of their parts."""
    count = 0
    for _ in range(_TRIES):
        backend._learn_keyring()
        job = _Pass(backend, progress)
        try:
            job.run()
            return count + job.count
        except _Rekeyed:  # what was passed already may be in another form now
            count += job.count
    raise Conflict(f"the keyring of namespace {backend.namespace!r} changes again and again", "Try again")


class _Pass:
    """One pass over the namespace, under one keyring."""

    def __init__(self, backend: RedisBackend, progress: ProgressCount) -> None:
        self.count = 0
        self._backend = backend
        self._progress = progress
        self._keyring, self._values = backend._keyring, backend.values
        self._values.check_open()
        self._done = self._total = 0
        self._damaged: Damaged | None = None

    def run(self) -> None:
        """Rewrite what is not current; `_Rekeyed` if the keyring is another at the end. What is `Damaged` is left."""
        if self._keyring is None:
            return  # all is plain
        backend = self._backend
        # The order matters: entries move from `live` to the history.
        forms: dict[str, _Form] = {"live": _entry, "history": _version, "commits": _commit, "notes": _mark}
        places = [(NAMES.index(name), form) for name, form in forms.items()]
        self._total = sum(backend._with_retry(lambda client, at=at: client.hlen(backend._keys[at])) for at, _ in places)  # type: ignore[misc]
        for place, form in places:
            for records in self._bites(place):
                self._rewrite(place, form, records)
                self._done += len(records)
                self._progress(min(self._done, self._total), self._total)
        if not backend._knows_keyring(self._keyring):
            raise _Rekeyed
        if self._damaged is not None:
            raise self._damaged

    def _bites(self, place: int) -> Iterator[dict[bytes, bytes]]:
        """Yield all records of a hash, some of them twice. It begins with one, since a value may be large."""
        key, cursor, size = self._backend._keys[place], 0, 1
        while True:
            cursor, records = self._backend._with_retry(
                lambda client, at=cursor, size=size: client.hscan(key, at, count=size)  # type: ignore[misc]
            )
            if records:
                yield records
            if not cursor:
                return
            read = sum(map(len, records.values()))
            size = max(1, min(_MAX_RECORDS, 2 * size, size * BITE_BYTES // max(1, read)))

    def _rewrite(self, place: int, form: _Form, records: dict[bytes, bytes]) -> None:
        """Rewrite records, again those that others change meanwhile."""
        backend = self._backend
        words: list[bytes] = []
        again: list[bytes] = []
        waiting = 0
        for field, record in records.items():
            try:
                count, rewritten = form(self._values, backend, field, record)
            except Damaged as error:
                self._damaged = self._damaged or error
                continue
            if not count:
                continue
            if waiting and waiting + len(rewritten) > BITE_BYTES:
                again += self._send(place, words)
                words, waiting = [], 0
            words += (field, sha1(record, usedforsecurity=False).hexdigest().encode(), rewritten)
            waiting += len(rewritten)
            self.count += count
        if words:
            again += self._send(place, words)
        for field in again:
            self.count -= form(self._values, backend, field, records[field])[0]
            record = backend._with_retry(lambda client, field=field: client.hget(backend._keys[place], field))  # type: ignore[misc]
            if record is not None:
                self._rewrite(place, form, {field: record})

    def _send(self, place: int, words: list[bytes]) -> list[bytes]:
        """Replace records, and return the fields of those that others have changed."""
        changed = self._backend._eval(RESEAL, place + 1, keyring_digest(self._keyring), *words)
        if changed == b"rekey":
            raise _Rekeyed
        return list(changed)


# --- records ----------------------------------------------------------------------------------------------------
# Each function returns how many parts of a record were rewritten, and the record. A record that is current is checked
# no further.

_Form = Callable[[StoredValues, "RedisBackend", bytes, bytes], tuple[int, bytes]]


def _entry(values: StoredValues, backend: RedisBackend, field: bytes, record: bytes) -> tuple[int, bytes]:
    key = backend._key(field)
    revision, moment, expires, stored = backend._split(key, record)
    resealed = values.resealed(stored, key, revision)
    return int(resealed is not stored), b"%d %d %d %b" % (revision, moment, expires, resealed)


def _version(values: StoredValues, backend: RedisBackend, field: bytes, record: bytes) -> tuple[int, bytes]:
    name, _, number = field.rpartition(b"\0")
    key, revision = backend._key(name), int(number) if number.isdigit() else 0
    if record[:1] == b"*":
        try:
            return _linked(values, parse_linked(record), key, revision)
        except DamagedDelta as error:
            raise backend._damaged(f"revision {revision} of key {key[:60]!r}") from error
    until, moment, expires, rest = backend._split(key, record)
    if rest == b"D":
        return 0, record
    if rest[:1] != b"V":
        raise backend._damaged(f"a version of {key[:60]!r}")
    stored = rest[1:]
    resealed = values.resealed(stored, key, revision)
    return int(resealed is not stored), b"%d %d %d V%b" % (until, moment, expires, resealed)


def _linked(values: StoredValues, linked: Linked, key: str, revision: int) -> tuple[int, bytes]:
    if linked.is_delta:
        data = values.resealed_delta(linked.data, key, revision, linked.base)
    else:
        data = values.resealed(linked.data, key, revision)
    return int(data is not linked.data), linked.with_data(data)


def _commit(values: StoredValues, backend: RedisBackend, field: bytes, record: bytes) -> tuple[int, bytes]:
    moment, _, encoded = record.partition(b" ")
    try:
        revision = int(field)
        reason, author, *others = msgspec.json.decode(encoded)
        count, texts = 0, []
        for purpose, text in (("reason", reason), ("author", author)):
            rewritten = values.resealed_text(text, purpose, "", revision)
            count += rewritten != text
            texts.append(rewritten)
    except Damaged:
        raise
    except (ValueError, TypeError, AttributeError) as error:
        raise backend._damaged(f"the commit of revision {field[:20]!r}") from error
    return count, b"%b %b" % (moment, msgspec.json.encode([*texts, *others]))


def _mark(values: StoredValues, backend: RedisBackend, field: bytes, record: bytes) -> tuple[int, bytes]:
    if b"@" not in field:
        return 0, record
    try:
        order, moment, kind, note = record.split(b" ", 3)
        name, _, revision = field.decode().rpartition("@")
        rewritten = values.resealed_text(note.decode(), "note", name, int(revision)).encode()
    except Damaged:
        raise
    except ValueError as error:
        raise backend._damaged(f"the checkpoint {field[:140]!r}") from error
    return int(rewritten != note), b" ".join((order, moment, kind, rewritten))
