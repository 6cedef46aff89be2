"""Superseded values as deltas, see `scripts` for their form in the history.

A server compresses nothing, so clients do it. A client that knows the live value, because it wrote or read it, sends
its delta with the next commit of the key. The script of a commit names the keys of which more is to be done, and
whoever commits does a bite of it, see `tend`. `compact` does the rest.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from ...errors import Damaged, run
from ..deltas import (
    FANOUT,
    MIN_BYTES,
    SMALL_FANOUT,
    Chain,
    DamagedDelta,
    Delta,
    make_delta,
    may_be_packed,
    rebase,
    rebased_steps,
    spans,
)
from ..protocol import StoredVersion
from ..stored_values import StoredValues
from .connections.contact import keyring_digest
from .scripts.common import COMMON, NOTE_PARTS, REFER
from .scripts.paged_lists import WRITE_LISTS

if TYPE_CHECKING:
    from .reader import Reader

NEWEST, _OLDEST = b"N", b"O"  # where a bite begins
_VERSIONS_PER_BITE = 5000
_READ_BYTES_PER_BITE = 8_000_000  # of versions that the server reads: a script that runs long keeps others waiting
_VALUE_BYTES_PER_BITE = 4_000_000  # of values that are packed
_RECOUNTS_PER_SCRIPT = 16
_KNOWN_BYTES = 32_000_000  # of values that a client has read or written and may send deltas of

# fmt: off
OUTLINE = COMMON + """
-- The superseded versions of a key without values. ARGV: the key; N for the newest versions, from the newest, or O for
-- the oldest, from the oldest; how many; how many bytes to read. Returns for each version its revision, the start of
-- what is stored, the size of the value, 1 if a kept state shows it, and the bytes after the start.
local low, high = ARGV[1] .. '\\0', ARGV[1] .. '\\0:'
local out, read, members = {}, 0
if ARGV[2] == 'N' then members = range_back(hindex, low, high, tonumber(ARGV[3]))
else members = range(hindex, low, high, tonumber(ARGV[3])) end
local floor = tonumber(call('HGET', head, 'floor') or 0)
for _, member in ipairs(members) do
  local packed = call('HGET', history, member) or ''
  local start, size = string.match(packed, '^(%*%d+ %d+ %d+ [PW]%d+ %d+ %d+ )(%d+ )')
  if start then
    start = start .. size
  else
    start = string.match(packed, '^%d+ %d+ %d+ [VD]')
    if not start then break end  -- damaged
    size = #packed - #start
  end
  local first, u = tonumber(string.sub(member, -16)), tonumber(string.match(start, '^%*?(%d+)'))
  local kept = u == 0 or u > floor or call('ZCOUNT', marks, int(first), '(' .. int(u)) > 0
  out[#out + 1] = {first, start, tonumber(size), kept and 1 or 0, #packed - #start}
  read = read + #packed
  if read > tonumber(ARGV[4]) then break end
end
return out
"""

PIECES = COMMON + """
-- Versions and those that they are relative to. ARGV: members.
for _, member in ipairs(ARGV) do collect(member) end
return pieces
"""

PACK = COMMON + WRITE_LISTS + NOTE_PARTS + REFER + """
-- Change how versions of a key are kept. ARGV: the key; the digest of the keyring; for each version its revision, what
-- `OUTLINE` said that its start is, the base, the place with the size of the value, and the delta. In place of a base
-- stands W for a value that is better kept whole, or X for a version to remove. Returns how many were removed, and how
-- many changed. What others have changed meanwhile is passed over: under another keyring, all. A copy has no keyring in
-- its head until it has a revision.
local f = call('HMGET', head, 'revision', 'keyring')
if f[1] and redis.sha1hex(f[2] or '') ~= ARGV[2] then return {0, 0} end
whole(2, 13)
local key, removed, changed = ARGV[1] .. '\\0', 0, 0
for i = 3, #ARGV, 5 do
  local r, start, base, place, data = tonumber(ARGV[i]), ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4]
  local member = key .. pad(r)
  local packed = call('HGET', history, member) or ''
  local refs, former = string.match(packed, '^%*%d+ %d+ %d+ [PW](%d+) (%d+) ')
  local newer = tonumber(base) and key .. pad(tonumber(base))
  if base == 'X' then
    local u = tonumber(string.match(packed, '^%*?(%d+)') or 0)
    local floor = tonumber(call('HGET', head, 'floor') or 0)
    if u > 0 and u <= floor and (refs or '0') == '0' and call('ZCOUNT', marks, int(r), '(' .. int(u)) == 0 then
      call('HDEL', history, member); unlist(hindex, {member}); call('ZREM', hexpiry, member)
      unlist(writes, {pad(r) .. ARGV[1]})
      if former and former ~= '0' then refer(key .. pad(tonumber(former)), -1) end
      removed = removed + 1
    end
  elseif string.sub(packed, 1, #start) == start then
    local first, rest = string.match(start, '^%*?(%d+ %d+ %d+ )[VPW](.*)$')
    local size = ' ' .. (string.match(rest, '(%d+) $') or #packed - #start) .. ' '
    refs, changed = refs or '0', changed + 1
    if base == 'W' then
      call('HSET', history, member, '*' .. first .. 'W' .. refs .. ' 0 1' .. size .. string.sub(packed, #start + 1))
    elseif base == '0' or string.match(call('HGET', history, newer) or '', '^%*?%d+ %d+ %d+ [VPW]') then
      call('HSET', history, member, '*' .. first .. 'P' .. refs .. ' ' .. base .. ' ' .. place .. ' ' .. data)
      if base ~= '0' then refer(newer, 1) end
      if former and former ~= '0' then refer(key .. pad(tonumber(former)), -1) end
    end
  end
end
if removed > 0 then record()
elseif changed > 0 then call('HSET', head, 'format', f[2] and '5' or '4') end  -- the same: it empties caches
return {removed, changed}
"""

RECOUNT = COMMON + REFER + """
-- Count the versions that are relative to some versions. ARGV: 1 to correct the counts; fields of the history. Returns
-- those with a wrong count.
local out = {}
for i = 2, #ARGV do
  local member, count = ARGV[i], 0
  local packed = call('HGET', history, member)
  if packed then
    for _, older in ipairs(range(hindex, string.sub(member, 1, -17), member, 2 ^ 53)) do
      local base = string.match(call('HGET', history, older) or '', '^%*%d+ %d+ %d+ P%d+ (%d+) ')
      if base and tonumber(base) == tonumber(string.sub(member, -16)) then count = count + 1 end
    end
    local refs = tonumber(string.match(packed, '^%*%d+ %d+ %d+ [PW](%d+) ') or 0)
    if refs ~= count then
      out[#out + 1] = member
      if ARGV[1] == '1' and string.match(packed, '^%*?%d+ %d+ %d+ [VPW]') then refer(member, count - refs) end
    end
  end
end
return out
"""
# fmt: on

_WHOLE = re.compile(rb"\d+ \d+ \d+ V")
_HEADER = re.compile(rb"\*\d+ \d+ \d+ ([PW])(\d+) (\d+) (\d+) (\d+) ")


class _Row(NamedTuple):
    """A superseded version without its value."""

    revision: int
    start: bytes
    size: int
    kept: bool
    stored: int
    kind: bytes
    base: int
    place: int


class KnownValues:
    """The live values of keys that this client has read or written, as far as they may become deltas."""

    def __init__(self) -> None:
        self._versions: dict[str, tuple[int, int, bytes]] = {}
        self._bytes = 0

    def put(self, key: str, revision: int, time: int, value: bytes | None) -> None:
        """Remember a version that is live. O(1)."""
        former = self._versions.pop(key, None)
        if former is not None:
            self._bytes -= len(former[2])
            if former[0] > revision:  # another thread was first
                revision, time, value = former
        if value is None or len(value) < MIN_BYTES:
            return
        self._bytes += len(value)
        if self._bytes > _KNOWN_BYTES:  # threads may count wrong together, and begin anew here
            self.clear()
        else:
            self._versions[key] = revision, time, value

    def values_of(self, keys: Iterable[str]) -> dict[str, tuple[int, bytes]]:
        """Return the revisions and values that are known of some keys."""
        found = {key: self._versions.get(key) for key in keys}
        return {key: (version[0], version[2]) for key, version in found.items() if version is not None}

    def clear(self) -> None:
        """Forget all versions."""
        self._versions.clear()
        self._bytes = 0

    def delta(self, key: str, value: bytes | None, values: StoredValues, at: int) -> tuple[bytes, bytes] | None:
        """Return the words of a commit that pack the live version of a key; None if it is not known, or small.

        Args:
            key: the key.
            value: the value that the commit writes.
            values: the stored form of values.
            at: the revision of the commit; any number if nothing is sealed.

        """
        known = self._versions.get(key)
        if known is None or value is None or len(value) < MIN_BYTES:
            return None
        revision, time, former = known
        delta = make_delta(former, at, value, 0)
        how = b"P%d %d %d" % (revision, time, len(former))
        if delta is None:
            return how, b""
        return how, delta.data if values.plain else values.pack_delta(delta.data, key, revision, at)


def pieces_of(
    backend: Reader, pieces: Sequence[bytes], is_lone: bool = False,
    known: Mapping[str, tuple[int, bytes]] = MappingProxyType({}),
) -> Chain:  # fmt: skip
    """Return the reader of the encoded values of linked versions in a script's reply.

    Args:
        backend: the backend.
        pieces: fields of the history and what is stored there, in turn; or keys and their live entries.
        is_lone: see `Chain`.
        known: the revisions and values of keys that the reply leaves out.

    """
    records = dict(zip(pieces[::2], pieces[1::2], strict=True))

    def fetch(key: str, revision: int) -> Delta | bytes:
        if key in known and known[key][0] == revision:
            return known[key][1]
        record = records.get(_field(key, revision))
        if record is None and (entry := records.get(key.encode(), b"")).startswith(b"%d " % revision):
            return backend._unpacked(backend._split(key, entry)[3], key, revision)
        kept = _parse(record or b"")
        if isinstance(kept, bytes):
            return backend._unpacked(kept, key, revision)
        return _opened(backend, key, revision, kept)

    return Chain(fetch, is_lone)


def _parse(record: bytes) -> Delta | bytes:
    """Parse a version that has a value.

    Raises:
        DamagedDelta: it is not what was written, or missing.

    """
    if record[:1] != b"*":
        if not (start := _WHOLE.match(record)):
            raise DamagedDelta("a delta is relative to a version without a value")
        return record[start.end() :]
    linked = parse_linked(record)
    return Delta(linked.base, linked.place, linked.size, linked.data) if linked.is_delta else linked.data


class Linked(NamedTuple):
    """A linked version, see `scripts`. `start` comes before the size: the times, the kind, the count and the place."""

    start: bytes
    is_delta: bool
    base: int
    place: int
    size: int
    data: bytes

    def with_data(self, data: bytes) -> bytes:
        """Return the record with another form of the same delta or value."""
        return b"%b%d %b" % (self.start, self.size if self.is_delta else len(data), data)


def parse_linked(record: bytes) -> Linked:
    """Parse a linked version.

    Raises:
        DamagedDelta: it is not what was written.

    """
    header = _HEADER.match(record)  # as strict as the scripts: what one of them passes over is an error here
    if header is None:
        raise DamagedDelta("a version is not what was written")
    data, (kind, _, base, place, size) = record[header.end() :], header.groups()
    if kind == b"W" and len(data) != int(size):
        raise DamagedDelta("a version is not what was written")
    return Linked(record[: header.start(5)], kind == b"P", int(base), int(place), int(size), data)


def deltas(backend: Reader, versions: Iterable[StoredVersion]) -> dict[tuple[str, int], Delta]:
    """Return the deltas that versions are kept as, see `Reader.deltas`."""
    places = [(version.key, version.revision) for version in versions if may_be_packed(version)]
    if not places:
        return {}
    fields = [_field(*place) for place in places]
    records = backend._with_retry(lambda client: client.hmget(backend._keys[4], fields))
    found = {}
    for place, record in zip(places, records, strict=True):
        with suppress(DamagedDelta):  # others have changed it since the versions were read
            if isinstance(kept := _parse(record or b""), Delta):
                found[place] = _opened(backend, *place, kept)
    return found


def _field(key: str, revision: int) -> bytes:
    """Return the field of the history that holds a version."""
    return b"%b\0%016d" % (key.encode(), revision)


def _opened(backend: Reader, key: str, revision: int, delta: Delta) -> Delta:
    return delta._replace(data=backend.values.unpack_delta(delta.data, key, revision, delta.base))


def chain_of(backend: Reader, fields: Iterable[bytes]) -> Chain:
    """Return the reader of some linked versions. One round trip."""
    return pieces_of(backend, backend._eval(PIECES, *fields))


def miscounted(backend: Reader, correct: bool = False) -> list[bytes]:
    """Return the versions whose count of deltas that are relative to them is wrong, and correct them if asked to."""
    counts: Counter[bytes] = Counter()
    cursor = 0
    while True:
        cursor, page = backend._with_retry(lambda client, at=cursor: client.hscan(backend._keys[4], at, count=1000))  # type: ignore[misc]
        for field, record in page.items():
            if header := _HEADER.match(record):
                refs, base = int(header[2]), int(header[3])
                counts[field] -= refs
                if base:
                    counts[b"%b%016d" % (field[:-16], base)] += 1
        if not cursor:
            break
    doubtful = [field for field, count in counts.items() if count]
    wrong = []
    for start in range(0, len(doubtful), _RECOUNTS_PER_SCRIPT):  # others may have packed meanwhile, or HSCAN told twice
        wrong += backend._eval(RECOUNT, int(correct), *doubtful[start : start + _RECOUNTS_PER_SCRIPT])
    return wrong


def without_delta(record: bytes) -> bytes:
    """Return the start of a linked version, up to its kind; any other record as it is."""
    return b" ".join(record.split(b" ", 3)[:3]) + b" " if record[:1] == b"*" else record


def unpacked_bytes(record: bytes) -> int:
    """Return how many bytes the value of a version has; roughly, if it is not linked or damaged."""
    header = _HEADER.match(record)
    return int(header[5]) if header else len(record)


def value_of(backend: Reader, chain: Chain, key: str, revision: int) -> bytes:
    """Return the value of a linked version.

    Raises:
        Damaged: a version that it is relative to is missing, or not what was written.

    """
    try:
        return chain.value(key, revision)
    except DamagedDelta as error:
        what = f"{backend.url}: revision {revision} of key {key[:60]!r} is not what was written: {error}"
        raise Damaged(what, run("recover")) from error


def tend_all(backend: Reader, keys: Iterable[bytes]) -> None:
    """Do a bite of packing for each key that a commit named, see the script COMMIT."""
    for word in keys:
        newest, _, key = word.partition(b" ")
        if int(newest):
            _tend(backend, key, NEWEST, int(newest))
        else:
            _tend(backend, key, _OLDEST, _VERSIONS_PER_BITE)


def tend(backend: Reader, key: bytes, end: bytes = _OLDEST) -> int:
    """Pack all superseded versions of a key, remove those that no kept state shows, and return how many these were.

    Args:
        backend: the backend.
        key: the key.
        end: whether to begin with the `NEWEST` or the oldest versions, of which there may be more than are looked at.

    Cost: three round trips for each bite.

    """
    removed = 0
    while True:
        gone, changed = _tend(backend, key, end, _VERSIONS_PER_BITE)
        removed += gone
        if not gone and not changed:
            return removed


def _tend(backend: Reader, key: bytes, end: bytes, limit: int) -> tuple[int, int]:
    """Do a bite at the newest or the oldest versions of a key; return how many were removed, and how many changed."""
    known, values = backend._keyring, backend.values
    reply = backend._eval(OUTLINE, key, end, limit, _READ_BYTES_PER_BITE)
    rows = [_row(*fields) for fields in (reply[::-1] if end == NEWEST else reply)]
    bases = _plan(rows)
    if not bases:
        return 0, 0
    name = key.decode()
    changing = [row for row in rows if row.revision in bases and row.kept]
    wanted = {revision for row in changing for revision in (row.revision, bases[row.revision].base) if revision}
    chain = pieces_of(backend, [])
    if wanted:
        chain = chain_of(backend, (b"%b\0%016d" % (key, revision) for revision in wanted))
    words: list[bytes | int] = []
    for row in reversed(changing):  # the newest first: nothing changes a version before its own turn
        goal = bases[row.revision]
        try:
            value = chain.value(name, row.revision)
            base_value = chain.value(name, goal.base) if goal.base else None
        except DamagedDelta:
            continue  # a version that cannot be read holds up no commit, and stays as it is
        if row.kind == b"P":
            delta: Delta | None = rebase(value, goal.base, base_value, goal.place)
        else:
            delta = make_delta(value, goal.base, base_value, goal.place)
        if delta is None:
            words += (row.revision, row.start, b"W", 0, b"")
        elif spans(goal.step, len(delta.data)):
            data = values.pack_delta(delta.data, name, row.revision, delta.base)
            words += (row.revision, row.start, delta.base, b"%d %d" % (delta.place, delta.size), data)
    for row in rows:  # the oldest first: it is relative to newer ones
        if row.revision in bases and not row.kept:
            words += (row.revision, row.start, b"X", 0, b"")
    removed, changed = backend._eval(PACK, key, keyring_digest(known), *words)
    return int(removed), int(changed)


class _Goal(NamedTuple):
    base: int
    place: int
    step: int = FANOUT


def _row(revision: int, start: bytes, size: int, kept: int, stored: int) -> _Row:
    if start[:1] != b"*":
        return _Row(revision, start, size, bool(kept), stored, start[-1:], 0, 0)
    _, _, _, kind, base, place, _ = start.split(b" ", 6)
    return _Row(revision, start, size, bool(kept), stored, kind[:1], int(base), int(place))


def _plan(rows: list[_Row]) -> dict[int, _Goal]:
    """Return which versions of a key are to be changed: the base and the place of those that stay.

    The newest superseded version stays as it is: only a commit makes it relative to the live value, see `scripts`.
    """
    goals: dict[int, _Goal] = {}
    gone = {row.revision for row in rows if not row.kept and row.kind != b"D"}
    stays = [row for row in rows if row.revision not in gone]
    packed: dict[int, int] = {}  # places and revisions of the deltas so far
    last_place, size = -1, 0
    known = {row.revision: row for row in rows}
    for index, row in enumerate(stays):
        following = stays[index + 1] if index + 1 < len(stays) else None
        if row.kind == b"P":
            last_place = row.place
            if row.base in gone and size <= _VALUE_BYTES_PER_BITE:
                goals[row.revision] = _Goal(_surviving(rows, row, gone), row.place)
                size += row.size
        elif (row.kind == b"V" or (row.kind == b"W" and not row.place)) and row.size >= MIN_BYTES and following:
            if size > _VALUE_BYTES_PER_BITE:
                break
            last_place += 1
            goals[row.revision] = _Goal(following.revision if following.size >= MIN_BYTES else 0, last_place)
            size += row.size
        else:
            continue
        packed[last_place] = row.revision
        for step in rebased_steps(last_place, SMALL_FANOUT):
            former = packed.get(last_place - step)
            if former is None or not _is_older(goals.get(former), known[former], row.revision):
                continue
            if spans(step, known[former].stored) and (former not in goals or step in rebased_steps(step)):
                goals[former] = _Goal(row.revision, last_place - step, step)
                size += row.size
    return goals | dict.fromkeys(gone, _Goal(0, 0))


def _is_older(goal: _Goal | None, row: _Row, revision: int) -> bool:
    """Return whether the base that a version has or gets is older than a revision."""
    return 0 < (row.base if goal is None else goal.base) < revision


def _surviving(rows: list[_Row], row: _Row, gone: set[int]) -> int:
    """Return the next newer version that stays and has a value; 0 if there is none among the rows."""
    newer = (found for found in rows if found.revision > row.revision and found.revision not in gone)
    return next((found.revision for found in newer if found.size >= MIN_BYTES), 0)
