"""`recover()` of a Redis namespace: lists are made to agree with what is held; what cannot be read is set aside.

Others may write meanwhile: each step is a script that looks again before it changes anything.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Any

from ..model import Problem, RecoveryReport, check_key
from . import redis_scripts as scripts
from .base import Batch, Kept, Write
from .redis_doctor import (
    CHUNK,
    REGISTRY,
    disagreements,
    read_head,
    read_marks,
    scan,
    types,
    unreadable_commit,
    unreadable_entry,
    unreadable_head,
    unreadable_mark,
    unreadable_version,
)

if TYPE_CHECKING:
    from .redis import RedisBackend

_LOST = "recovered: what was said of this commit is lost"

# fmt: off
MEND = scripts._COMMON + """
-- Make the index and the expiries say what the hash does. ARGV: 'live' or 'history', then names. Returns how many.
local where, order, times = live, index, expiry
if ARGV[1] == 'history' then where, order, times = history, hindex, hexpiry end
local mended = 0
for i = 2, #ARGV do
  local name = ARGV[i]
  local packed, listed, score = call('HGET', where, name), call('ZSCORE', order, name), call('ZSCORE', times, name)
  local expires = packed and string.match(packed, '^%d+ %d+ (%d+) ')
  local before = mended
  if not packed then
    if call('ZREM', order, name) + call('ZREM', times, name) > 0 then mended = before + 1 end
  elseif expires then
    if not listed then call('ZADD', order, '0', name); mended = before + 1 end
    if expires == '0' then
      if call('ZREM', times, name) == 1 then mended = before + 1 end
    elseif not score or tonumber(score) ~= tonumber(expires) then
      call('ZADD', times, expires, name)
      mended = before + 1
    end
  end
end
return mended
"""

SET_ASIDE = scripts._COMMON + """
-- ARGV: 'live' or 'history', a name, and what was found under it.
local where, order, times = live, index, expiry
if ARGV[1] == 'history' then where, order, times = history, hindex, hexpiry end
if call('HGET', where, ARGV[2]) ~= ARGV[3] then return call('HGET', damaged, ARGV[2]) == ARGV[3] and 1 or 0 end
call('HSET', damaged, ARGV[2], ARGV[3])
call('ZREM', order, ARGV[2]); call('ZREM', times, ARGV[2])
return call('HDEL', where, ARGV[2])
"""

TOUCH = scripts._COMMON + """
-- Note for keys and fields of the history which revision wrote them, where that is above the floor. Returns how many.
local floor, added = tonumber(call('HGET', head, 'floor') or 0), 0
for i = 2, #ARGV do
  local r, key
  if ARGV[1] == 'live' then
    r, key = string.match(call('HGET', live, ARGV[i]) or '', '^(%d+) '), ARGV[i]
  elseif call('HEXISTS', history, ARGV[i]) == 1 then
    r, key = string.sub(ARGV[i], -16), string.sub(ARGV[i], 1, -18)
  end
  r = tonumber(r)
  if r and r > floor then added = added + call('ZADD', touched, '0', pad(r) .. key) end
end
return added
"""

UNTOUCH = scripts._COMMON + """
-- Forget what is said to be written above the floor, and is not there. Returns how many.
local floor, gone = tonumber(call('HGET', head, 'floor') or 0), 0
for _, row in ipairs(ARGV) do
  local r, key = tonumber(string.sub(row, 1, 16)), string.sub(row, 17)
  if not r then gone = gone + call('ZREM', touched, row)
  elseif r > floor and call('HEXISTS', history, key .. '\\0' .. string.sub(row, 1, 16)) == 0 and
    tonumber(string.match(call('HGET', live, key) or '', '^(%d+) ')) ~= r then
    gone = gone + call('ZREM', touched, row)
  end
end
return gone
"""

FILL = scripts._COMMON + """
-- Records for the revisions that have none, or one that cannot be read. ARGV: the start and the end of what is written,
-- between which comes how many keys it touched; then a revision and what is known to be wrong there, or nothing.
local floor, last = tonumber(call('HGET', head, 'floor') or 0), tonumber(call('HGET', head, 'revision') or 0)
local out = {}
for i = 3, #ARGV, 2 do
  local r = tonumber(ARGV[i])
  local found = call('HGET', commits, ARGV[i])
  if r > floor and r <= last and (not found or (ARGV[i + 1] ~= '' and found == ARGV[i + 1])) then
    local rows = call('ZRANGEBYLEX', touched, '[' .. pad(r), '(' .. pad(r + 1))
    local time = '0'
    for _, row in ipairs(rows) do
      local key = string.sub(row, 17)
      local own, t = string.match(call('HGET', live, key) or '', '^(%d+) (%d+) ')
      local past = call('HGET', history, key .. '\\0' .. pad(r))
      if tonumber(own) ~= r then t = string.match(past or '', '^%d+ (%d+) ') end
      if t and tonumber(t) > tonumber(time) then time = t end
    end
    call('HSET', commits, int(r), time .. ' ' .. ARGV[1] .. #rows .. ARGV[2])
    out[#out + 1] = int(r)
  elseif found and found == ARGV[i + 1] then
    call('HDEL', commits, ARGV[i])
  end
end
return out
"""

HOLE = scripts._COMMON + """
-- Where a version is lost, the key is absent. ARGV: the field of the history, its revision, what superseded it or 0.
if call('HEXISTS', history, ARGV[1]) == 1 then return 0 end
local time = string.match(call('HGET', commits, ARGV[2]) or '', '^(%d+) ') or '0'
call('HSET', history, ARGV[1], ARGV[3] .. ' ' .. time .. ' 0 D')
return call('ZADD', hindex, '0', ARGV[1])
"""

MARK = scripts._COMMON + """
-- Put a checkpoint in its place, or remove it where that is -1. ARGV: its member, what is said of it, the place.
if (call('HGET', notes, ARGV[1]) or '') ~= ARGV[2] then return 0 end
if ARGV[3] ~= '-1' then
  call('ZADD', marks, ARGV[3], ARGV[1])
else
  call('ZREM', marks, ARGV[1])
  call('HDEL', notes, ARGV[1])
end
return 1
"""

COUNT = scripts._COMMON + """
-- Count the checkpoints of each name, and take the sequence on where it is behind. Returns whether anything was wrong.
local names, wrong, last = {}, 0, 0
local all = call('HGETALL', notes)
for i = 1, #all, 2 do
  local name = string.match(all[i], '^(.+)@%d+$')
  if name then
    names['name:' .. name] = (names['name:' .. name] or 0) + 1
    last = math.max(last, tonumber(string.match(all[i + 1], '^%d+')) or 0)
  end
end
for i = 1, #all, 2 do
  if string.sub(all[i], 1, 5) == 'name:' and not names[all[i]] and not string.find(all[i], '@') then
    call('HDEL', notes, all[i])
    wrong = 1
  end
end
for name, count in pairs(names) do
  if call('HGET', notes, name) ~= int(count) then
    call('HSET', notes, name, int(count))
    wrong = 1
  end
end
if last > 0 and (tonumber(call('HGET', notes, 'sequence') or 0) or 0) < last then
  call('HSET', notes, 'sequence', int(last))
  wrong = 1
end
return wrong
"""

CLOSE = scripts._COMMON + """
-- The revision that superseded a version. ARGV: a field of the history, what is there, what is to be there.
if call('HGET', history, ARGV[1]) ~= ARGV[2] then return 0 end
call('HSET', history, ARGV[1], ARGV[3])
return 1
"""
# fmt: on


def recover(backend: RedisBackend) -> RecoveryReport:
    """Check and mend. See `Backend.recover`."""
    return _Recovery(backend).run()


def _chunks(items: Iterable[Any], size: int = CHUNK) -> Iterator[list[Any]]:
    rest = iter(items)
    while chunk := list(islice(rest, size)):
        yield chunk


def _shown(name: bytes) -> str:
    return repr(name.decode(errors="replace")[:60])


class _Recovery:
    def __init__(self, backend: RedisBackend) -> None:
        self.backend = backend
        self.problems: list[Problem] = []
        self.kept: list[str] = []
        self.aside = backend._keys[13]
        self.holes: list[tuple[bytes, int]] = []  # keys, and from which revision on a version is missing

    def note(self, subject: str, found: str, done: str, mended: bool = True) -> None:
        self.problems.append(Problem(subject, found, done, mended))

    def run(self) -> RecoveryReport:
        backend = self.backend
        self.mend_types()
        self.mend_head()
        if backend._try(lambda client: client.exists(backend._keys[0])):
            self.mend_lists()
            self.set_aside_versions()
            gone = self.set_aside_entries()
            self.mend_marks()
            self.fill_holes()
            self.mend_chains()
            self.mend_touched()
            self.mend_commits()
            if gone:
                self.backend.commit(Batch(gone, reason="recover: set aside what was damaged"))
            if backend._try(lambda client: client.sadd(REGISTRY, backend.namespace)):
                self.note(f"namespace {backend.namespace!r}", f"it was not in {REGISTRY}", "added")
        if backend._tracking is not None:
            backend._tracking.forget()
        return RecoveryReport(backend.namespace, backend.head().revision, tuple(self.problems), tuple(self.kept))

    def mend_types(self) -> None:
        """Put aside what is of another type than ours, and keep what would go by itself."""
        backend = self.backend
        for finding in types(backend):
            name = finding.subject.removeprefix(backend._prefix)
            if finding.found.startswith("it is a "):
                place = f"{backend._prefix}damaged-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}:{name}"
                backend._try(lambda client, key=finding.subject, to=place: client.rename(key, to))  # type: ignore[misc]
                self.kept.append(place)
                again = name in ("index", "expiry", "hindex", "hexpiry", "touched", "tokens", "older")
                done = "made anew from the entries and their history" if again else "what was in it is lost"
                self.note(finding.subject, finding.found, f"{done}; it is kept as {place}", again)
            else:
                backend._try(lambda client, key=finding.subject: client.persist(key))  # type: ignore[misc]
                self.note(finding.subject, finding.found, "it stays now")

    def mend_head(self) -> None:
        """The revision is that of the newest that is there; what cannot be told from anything is said."""
        backend = self.backend
        head = read_head(backend)
        if head is not None and not unreadable_head(head):
            return
        head = head or {}
        revisions = [int(name) for name, _ in scan(backend, 8) if name.isdigit()]
        starts = (packed.split(b" ", 1)[0] for _, packed in backend._entries())
        revisions += [int(start) for start in starts if start.isdigit()]
        revisions += [int(name[-16:]) for name, _ in scan(backend, 4) if name[-16:].isdigit()]
        top = max(revisions, default=0)
        seconds, micros = backend._try(lambda client: client.time())
        fields: dict[str, Any] = {"revision": top, "time": seconds * 1_000_000 + micros, "floor": top, "format": 1}
        for name in ("time", "floor"):
            if head.get(name.encode(), b"").isdigit():
                fields[name] = int(head[name.encode()])
        lineage = head.get(b"lineage", b"").decode(errors="replace")
        fields["lineage"] = lineage if lineage.isalnum() else "recovered"
        backend._try(lambda client: client.hset(backend._keys[0], mapping=fields))
        said = f"made anew: revision {top} is the newest there is"
        whole = fields["floor"] != top and lineage == fields["lineage"]
        self.note(backend._keys[0], "it was not what was written", said if whole else
                  f"{said}; older states are read only where a checkpoint names them", whole)  # fmt: skip

    def set_aside_entries(self) -> dict[str, Write]:
        """Take out the entries that cannot be read; the deletes that say so."""
        backend = self.backend
        bad = {name: (packed, wrong) for name, packed in backend._entries()
               if (wrong := unreadable_entry(backend, name, packed))}  # fmt: skip
        deletes = {}
        for name, (packed, wrong) in sorted(bad.items()):
            if not backend._run(SET_ASIDE, "live", name, packed):
                continue
            done = f"set aside in {self.aside}; its earlier versions are in its history"
            self.note(f"key {_shown(name)}", wrong, done, False)
            try:
                deletes[check_key(name.decode())] = Write(None)
            except ValueError:  # no key, and so never one of ours
                continue
            first = packed.split(b" ", 1)[0]
            self.holes.append((name, int(first) if first.isdigit() else self.last_touch(name)))
        self.keep_aside(bool(bad))
        return deletes

    def last_touch(self, key: bytes) -> int:
        """The last revision that wrote a key, as what changed tells it."""
        rows = (row for row, _ in scan(self.backend, 7) if row[16:] == key and row[:16].isdigit())
        return max((int(row[:16]) for row in rows), default=0)

    def keep_aside(self, used: bool) -> None:
        if used and self.aside not in self.kept:
            self.kept.append(self.aside)

    def set_aside_versions(self) -> None:
        """Take out the past versions that cannot be read."""
        backend = self.backend
        bad = {name: (packed, wrong) for name, packed in scan(backend, 4)
               if (wrong := unreadable_version(name, packed))}  # fmt: skip
        for name, (packed, wrong) in sorted(bad.items()):
            if backend._run(SET_ASIDE, "history", name, packed):
                key, _, revision = name.rpartition(b"\0")
                subject = f"revision {int(revision)} of key {_shown(key)}" if revision.isdigit() else _shown(name)
                self.note(subject, wrong, f"set aside in {self.aside}", False)
                if revision.isdigit():
                    self.holes.append((key, int(revision)))
        self.keep_aside(bool(bad))

    def mend_lists(self) -> None:
        """Make indexes and expiries say what is held."""
        backend = self.backend
        for kind, places, what in (("live", (1, 2, 3), "the key index"), ("history", (4, 5, 6), "the history's index")):
            mended = 0
            for place in places:
                for chunk in _chunks(name for name, _ in scan(backend, place)):
                    if wrong := disagreements(backend, kind, chunk):
                        mended += int(backend._run(MEND, kind, *wrong))
            if mended:
                found = f"of {mended} names it did not say what is held"
                self.note(what, found, f"made to agree with the {'entries' if kind == 'live' else 'versions'}")

    def mend_marks(self) -> None:
        """Give checkpoints their places back; those of which nothing is known any more are lost."""
        backend = self.backend
        scores, said = read_marks(backend)
        for member in sorted(scores.keys() | {name for name in said if b"@" in name}):
            if not unreadable_mark(member, said.get(member), scores.get(member)):
                continue
            name, _, revision = (part.decode(errors="replace") for part in member.rpartition(b"@"))
            score = int(revision) if revision.isdigit() else -1
            placed = not unreadable_mark(member, said.get(member), score)
            if not backend._run(MARK, member, said.get(member, b""), score if placed else -1):
                continue  # changed meanwhile
            if placed:
                self.note(f"checkpoint {name[:128]!r}", "it was not where its revision is", "put back")
            else:
                done = f"lost; 'stateview checkpoint {name[:128]} --at {revision[:16]}' makes it anew"
                self.note(f"checkpoint {name[:128]!r}", "what was said of it is not what was written", done, False)
        if backend._run(COUNT):
            self.note(backend._keys[10], "how many checkpoints have a name was not right", "counted anew")

    def mend_chains(self) -> None:
        """A version was superseded by the next one of its key, where that is still there."""
        backend, mended = self.backend, 0
        doubtful: list[str] = []
        before: Kept | None = None
        after = ("", 0)
        while page := backend.dump(after, CHUNK):
            doubtful += [other.key for _, other in _breaks([before, *page] if before else page, 0)]
            before = page[-1]
            after = (before.key, before.revision)
        for key in dict.fromkeys(doubtful):  # again, since others may have written between two pages
            versions: list[Kept] = []
            while not versions or versions[-1].until:  # one that stands is the last
                page = backend.dump((key, versions[-1].revision if versions else 0), CHUNK, [key])
                if not page:
                    break
                versions += page
            floor = backend.head().floor  # after that: what was forgotten meanwhile lies below it
            mended += sum(self.close(one, other.revision) for one, other in _breaks(versions, floor))
        if mended:
            found = f"{mended} versions did not hand over to the next"
            self.note("the history", found, "made to end where the next begins")

    def close(self, one: Kept, until: int) -> int:
        backend = self.backend
        name = one.key.encode() + b"\0%016d" % one.revision
        packed = backend._try(lambda client: client.hget(backend._keys[4], name))
        if packed is None:
            return 0
        rest = packed.partition(b" ")[2]
        return int(backend._run(CLOSE, name, packed, b"%d " % until + rest))

    def mend_touched(self) -> None:
        """Which revision wrote what is told by the versions that are there."""
        backend = self.backend
        added = gone = 0
        for kind, place in (("live", 1), ("history", 4)):
            for chunk in _chunks(name for name, _ in scan(backend, place)):
                added += int(backend._run(TOUCH, kind, *chunk))
        for chunk in _chunks(row for row, _ in scan(backend, 7)):
            gone += int(backend._run(UNTOUCH, *chunk))
        if added or gone:
            found = f"{added} writes were not known, {gone} were that are not there"
            self.note("what changed", found, "made to agree with the versions")

    def mend_commits(self) -> None:
        """Every revision has a record; where that is lost, one that says so, with the time of what it wrote."""
        backend, head = self.backend, self.backend.head()
        bad = {name: packed for name, packed in scan(backend, 8) if unreadable_commit(name, packed)}
        start, end = f'[{json.dumps(_LOST)},"",', ",0,0,0]"
        filled: list[int] = []
        for chunk in _chunks(range(head.floor + 1, head.revision + 1)):
            pairs = [text for revision in chunk for text in (str(revision), bad.pop(b"%d" % revision, b""))]
            filled += map(int, backend._run(FILL, start, end, *pairs))
        for name in bad:
            backend._try(lambda client, name=name: client.hdel(backend._keys[8], name))  # type: ignore[misc]
        if filled:
            some = ", ".join(map(str, sorted(filled)[:10])) + (" …" if len(filled) > 10 else "")
            what = f"commits of {len(filled)} revisions" if len(filled) > 1 else "commit of revision"
            self.note(backend._keys[8], f"the {what} {some} could not be read, or were missing",
                      "who did them and why is lost; what they wrote is there", False)  # fmt: skip

    def fill_holes(self) -> None:
        """In states that showed what is lost the key is absent; which checkpoints these are is said."""
        for key, revision in self.holes:
            if revision:
                until = self.following(key, revision) or 0
                self.backend._run(HOLE, key + b"\0%016d" % revision, revision, until)
        for mark in self.backend.marks() if self.holes else ():
            seen = sorted({key for key, revision in self.holes if self.sees(key, revision, mark.revision)})
            if seen:
                names = ", ".join(_shown(key) for key in seen[:10])
                found = f"it shows {names}, which cannot be read"
                self.note(f"checkpoint {mark.name!r}", found, "lost there: no other copy of it exists", False)

    def sees(self, key: bytes, revision: int, at: int) -> bool:
        """Whether a state shows the version of a key that this revision wrote, as far as the next one tells."""
        following = self.following(key, revision)
        return at >= revision and (following is None or at < following)

    def following(self, key: bytes, revision: int) -> int | None:
        """The revision of the next version of a key."""
        later = (one.revision for one in self.backend.versions(key.decode(), 1 << 30) if one.revision > revision)
        return min(later, default=None)


def _breaks(versions: list[Kept], floor: int) -> Iterator[tuple[Kept, Kept]]:
    """Neighbours of one key of which the first was not superseded by the second, nor by what is forgotten since."""
    for one, other in pairwise(versions):
        handed_over = one.until == other.revision or one.revision < one.until <= min(floor, other.revision)
        if one.key == other.key and not handed_over:
            yield one, other
