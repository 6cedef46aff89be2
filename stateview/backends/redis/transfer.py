"""Copies of a Redis namespace: what it keeps, page by page, and the stage in which another becomes one.

The stage is a namespace under a longer prefix, `stateview:{NS}:migrating:`, in the same slot; one script renames its
keys at the end. Beside them lie two more: `lock`, which goes by itself where its receiver was killed, and the hash
`receiver` with the note of the last put and the token of the last receiver, without which nothing is written.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import msgspec
import redis
from redis.exceptions import ResponseError

from ...errors import Conflict, Damaged, run
from ...model import Commit, to_micros
from ..conflicts import destination_exists_error, staging_locked_error
from ..protocol import PAGE_BYTES, Backend, CheckpointRecord, Head, StoredVersion
from ..staging import ASIDE
from ..stored_values import StoredValues
from .client import encode_bulk
from .scripts import _COMMON, KINDS, NAMES
from .server import REGISTRY

if TYPE_CHECKING:
    from .backend import RedisBackend
    from .reader import Reader

LEASE_SECONDS = 120  # seconds without a put after which another receiver may take over
VERSIONS_PER_PAGE = 1000  # versions of a page, keys of a script: what is long keeps all other clients waiting

_PAIR = b"$%d\r\n%b\r\n$%d\r\n%b\r\n"  # two words in the server's protocol
_BARE = b"$1\r\n0\r\n$%d\r\n%b\r\n"  # a score of nought, and a member
_Command = tuple[int, bytes]  # how many words it has, and these in the server's protocol

# fmt: off
DUMP = _COMMON + """
-- A page of what is kept. ARGV: the key and the revision to go on after; how many; how many bytes; then keys, where
-- only theirs are wanted. Returns names and what is packed under them, as MessagePack, which is read faster.
local key, revision, limit, room = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
if call('HLEN', live) ~= call('ZCARD', index) or call('HLEN', history) ~= call('ZCARD', hindex) then
  error('DAMAGED: the key index is not that of the entries')
end
local out, count, read = {}, 0, 0
local function add(name, packed)  -- whether the page is full
  if not packed then error('DAMAGED: an entry is not what was written') end
  out[#out + 1] = name
  out[#out + 1] = packed
  count, read = count + 1, read + #packed
  return count >= limit or read >= room
end
local function add_live(name)
  local packed = call('HGET', live, name)
  if name == key and packed then
    local r = split(packed)
    if r <= tonumber(revision) then return false end
  end
  return add(name, packed)
end

local function less_from(a, b, skip)  -- as less, where the first bytes are known to be alike
  for i = skip + 1, math.min(#a, #b) do
    local x, y = string.byte(a, i), string.byte(b, i)
    if x ~= y then return x < y end
  end
  return #a < #b
end

local function owner_of(member) return member and string.sub(member, 1, -18) end

local function same_start(list)  -- how many bytes all of them begin with alike, when the list is in byte order
  local a, b, n = list[1], list[#list], 0
  while n < #a and string.byte(a, n + 1) == string.byte(b, n + 1) do n = n + 1 end
  return n
end

local function of_all()
  local names, top
  if key == '' then
    names = call('ZRANGEBYLEX', index, '-', '+', 'LIMIT', 0, limit)
    top = names[limit]
  else  -- one more, since the first may have been of the page before
    names = call('ZRANGEBYLEX', index, '[' .. key, '+', 'LIMIT', 0, limit + 1)
    top = names[limit + 1]
  end
  local low = key == '' and '-' or '(' .. key .. '\\0' .. revision
  local high = top and '(' .. top .. '\\0:' or '+'  -- what comes after so many names is of another page
  local members = call('ZRANGEBYLEX', hindex, low, high, 'LIMIT', 0, limit)
  local skip = 0  -- keys are long, and alike where they begin
  if names[1] and members[1] then
    local first, last = owner_of(members[1]), owner_of(members[#members])
    skip = same_start({names[1], names[#names]})
    while skip > 0 and (string.sub(first, 1, skip) ~= string.sub(names[1], 1, skip)
                        or string.sub(last, 1, skip) ~= string.sub(names[1], 1, skip)) do skip = skip - 1 end
  end
  local i, j, full, owner = 1, 1, false, owner_of(members[1])
  while not full and (names[i] or members[j]) do
    local name, member = names[i], members[j]
    if member and (not name or owner == name or less_from(owner, name, skip)) then
      full = add(member, call('HGET', history, member))
      j = j + 1
      owner = owner_of(members[j])
    else
      full = add_live(name)
      i = i + 1
    end
  end
end

local function of_some()
  for i = 5, #ARGV do
    local wanted = ARGV[i]
    local from = wanted == key and '(' .. key .. '\\0' .. revision or '[' .. wanted .. '\\0'
    for _, member in ipairs(call('ZRANGEBYLEX', hindex, from, '(' .. wanted .. '\\0:', 'LIMIT', 0, limit)) do
      if add(member, call('HGET', history, member)) then return end
    end
    if call('HEXISTS', live, wanted) == 1 and add_live(wanted) then return end
  end
end

if #ARGV > 4 then of_some() else of_all() end
return cmsgpack.pack(out)
"""

FORGET = _COMMON + """
for _, key in ipairs(ARGV) do
  local packed = call('HGET', live, key)
  if packed then
    local r = split(packed)
    call('HDEL', live, key); call('ZREM', index, key); call('ZREM', expiry, key)
    call('ZREM', touched, pad(r) .. key)
  end
  for _, member in ipairs(call('ZRANGEBYLEX', hindex, '[' .. key .. '\\0', '(' .. key .. '\\0:')) do
    call('HDEL', history, member); call('ZREM', hindex, member); call('ZREM', hexpiry, member)
    call('ZREM', touched, string.sub(member, -16) .. key)
  end
end
return 1
"""

ACQUIRE = """
-- ARGV: the token; the lease; the token of a receiver that is known to be gone. Returns who holds it, if not this one.
local held = redis.call('GET', KEYS[2])
if held and held ~= ARGV[1] and held ~= ARGV[3] then return {held, redis.call('TTL', KEYS[2])} end
redis.call('SET', KEYS[2], ARGV[1], 'EX', ARGV[2])
redis.call('HSET', KEYS[1], 'owner', ARGV[1])
return {}
"""

RELEASE = """
-- ARGV: the token; 1: the stage goes as well.
if redis.call('HGET', KEYS[1], 'owner') ~= ARGV[1] then return 0 end
redis.call('UNLINK', KEYS[2])
if ARGV[2] == '1' then redis.call('UNLINK', unpack(KEYS))
elseif redis.call('HEXISTS', KEYS[1], 'note') == 0 then redis.call('UNLINK', KEYS[1]) end
return 1
"""

FINISH = """
-- KEYS: receiver, lock; those of the stage, of the namespace, and those under which that is kept; the registry, where
-- that is on the same server. ARGV: the token; 1: over what is there; the namespace.
local call, token = redis.call, ARGV[1]
local count = math.floor((#KEYS - 2) / 3)
local there, registry = 2 + count, KEYS[2 + 3 * count + 1]
if call('HGET', KEYS[1], 'owner') ~= token then
  if call('HGET', KEYS[there + 1], 'touch') == token then return {'ok', ''} end  -- done, and its answer was lost
  return {'lost'}
end
local former = call('EXISTS', unpack(KEYS, there + 1, there + count)) > 0
if former and ARGV[2] ~= '1' then return {'taken', call('HGET', KEYS[there + 1], 'revision') or '0'} end
if registry then call('SADD', registry, ARGV[3]) end  -- first: it fails where that is no set
for i = 1, count do
  if call('EXISTS', KEYS[there + i]) == 1 then call('RENAME', KEYS[there + i], KEYS[there + count + i]) end
end
for i = 1, count do
  if call('EXISTS', KEYS[2 + i]) == 1 then call('RENAME', KEYS[2 + i], KEYS[there + i]) end
end
call('UNLINK', KEYS[1], KEYS[2])
return {'ok', former and '1' or ''}
"""
# fmt: on


def versions_page(
    backend: Reader, after: tuple[str, int], limit: int, keys: Iterable[str] | None
) -> list[StoredVersion]:
    """Return a page of the stored versions."""
    given = (after[0], f"{after[1]:016}", min(limit, VERSIONS_PER_PAGE), PAGE_BYTES)
    if keys is None:
        return _parse(backend, backend._eval(DUMP, *given))
    wanted = sorted({key for key in keys if key >= after[0]})
    for start in range(0, len(wanted), VERSIONS_PER_PAGE):
        if page := _parse(backend, backend._eval(DUMP, *given, *wanted[start : start + VERSIONS_PER_PAGE])):
            return page
    return []


def _parse(backend: Reader, reply: bytes) -> list[StoredVersion]:
    out = []
    name = ""
    value: bytes | None
    unpack = backend.values.unpack
    try:
        flat = msgspec.msgpack.decode(reply, type=list[str])
        for name, packed in zip(flat[::2], flat[1::2], strict=True):
            first, moment, expires, rest = packed.split(" ", 3)
            key, nul, revision = name.partition("\0")
            if not nul:
                value = unpack(rest.encode(), key, int(first))
                out.append(StoredVersion(key, value, int(first), int(moment), int(expires)))
            else:
                value = None if rest == "D" else unpack(rest[1:].encode(), key, int(revision))
                out.append(StoredVersion(key, value, int(revision), int(moment), int(expires), int(first)))
    except Damaged:
        raise  # from `unpack`, which says more
    except ValueError as error:  # msgspec's errors and UnicodeDecodeError are too
        what = f"{backend.url}: the entry {name[:60]!r} is not what was written"
        raise Damaged(what, run("recover")) from error
    return out


class RedisStagedImport:
    """See `Receiver`. Another may take over where no put comes for `LEASE` seconds, or sees that this one is gone."""

    def __init__(self, backend: RedisBackend) -> None:
        self._backend = backend
        self._token = f"{secrets.token_hex(16)}@{_process(os.getpid())}"
        self._reader = backend._sibling("migrating:")
        self._keys = self._reader._keys
        self._own = [self._reader._prefix + "receiver", self._reader._prefix + "lock"]
        self._settled: Head | None = None
        held = self._eval(ACQUIRE, self._own, self._token, LEASE_SECONDS, "")
        if held and _is_gone(held[0].decode()):
            held = self._eval(ACQUIRE, self._own, self._token, LEASE_SECONDS, held[0])
        self._open = not held
        if held:
            hint = f"Wait for its end, or end it; if it was killed, another can begin in {held[1]} s"
            raise staging_locked_error(backend.url, backend.namespace, hint)

    def _eval(self, script: str, keys: list[str], *arguments: Any) -> Any:
        return self._backend._with_retry(lambda client: client.eval(script, len(keys), *keys, *arguments))

    def _lost(self) -> Conflict:
        backend = self._backend
        what = f"another receiver has taken over the copy into namespace {backend.namespace!r} of {backend.url}"
        return Conflict(what, "This one was without a sign of life for too long, or was closed")

    def progress(self) -> dict[str, Any] | None:
        note = self._backend._with_retry(lambda client: client.hget(self._own[0], "note"))
        return None if note is None else msgspec.json.decode(note, type=dict[str, Any])

    def put(
        self, versions: Iterable[StoredVersion] = (), commits: Iterable[Commit] = (),
        marks: Iterable[CheckpointRecord] | None = None, *,
        note: dict[str, Any], forget: Iterable[str] = (),
    ) -> None:  # fmt: skip
        """See `Receiver.put`. One transaction of the server's, of plain commands with many members each."""
        self._settled = None
        names = dict(zip(NAMES, map(str.encode, self._keys), strict=True))
        commands: list[_Command] = []
        gone = [key.encode() for key in forget]
        for start in range(0, len(gone), VERSIONS_PER_PAGE):
            words = [b"EVAL", FORGET.encode(), b"%d" % len(self._keys), *names.values()]
            commands.append(_command([*words, *gone[start : start + VERSIONS_PER_PAGE]]))
        commands += _versions(names, versions, self._backend.values)
        told = [b"HSET", names["commits"]]
        for one in commits:
            fields = [one.reason, one.author, one.keys, one.position, one.forward, one.behind]
            told += (b"%d" % one.revision, b"%d " % to_micros(one.time) + msgspec.json.encode(fields))
        receiver, lock = (name.encode() for name in self._own)
        others = [told, *([] if marks is None else _marks(names, marks))]
        others.append([b"HSET", receiver, b"note", msgspec.json.encode(note)])
        others.append([b"SET", lock, self._token.encode(), b"EX", b"%d" % LEASE_SECONDS])
        self._together([*commands, *(_command(words) for words in others if len(words) > 2)])

    def _together(self, commands: list[_Command]) -> None:
        """Have the server run some commands as one, if the stage is still this receiver's."""
        packed = b"".join([b"*%d\r\n%b" % command for command in commands])
        self._backend._with_retry(lambda client: self._send(client, packed, len(commands)))

    def _send(self, client: Any, packed: bytes, count: int) -> None:
        if not isinstance(client, redis.Redis):
            client = client.get_redis_connection(client.get_node_from_key(self._keys[0]))
        pool = client.connection_pool
        connection = pool.get_connection()
        try:
            connection.send_command("WATCH", self._own[0])
            connection.read_response()
            connection.send_command("HGET", self._own[0], "owner")
            if connection.read_response() != self._token.encode():
                raise self._lost()
            connection.send_packed_command([b"*1\r\n$5\r\nMULTI\r\n", packed, b"*1\r\n$4\r\nEXEC\r\n"])
            for _ in range(count + 1):
                connection.read_response()
            answers = connection.read_response()
            if answers is None:
                raise self._lost()
            for answer in answers:
                if isinstance(answer, ResponseError):
                    raise answer
        except BaseException:
            connection.disconnect()  # answers may be left on it
            raise
        finally:
            pool.release(connection)

    def staged(self, head: Head) -> Backend:
        """See `Receiver.staged`. O(1) but for what the source forgot meanwhile."""
        self._settle(head)
        return self._reader

    def _settle(self, head: Head) -> None:
        """Write the head, and take away what nobody can ask for that comes after it."""
        if self._settled == head:
            return
        backend = self._backend
        names = dict(zip(NAMES, self._keys, strict=True))
        fields = {
            "revision": head.revision, "time": head.time, "floor": head.floor, "lineage": head.lineage, "format": 1,
            "touch": self._token,
        }  # fmt: skip
        told = [str(word).encode() for field in fields.items() for word in field]
        self._together([_command([b"HSET", names["head"].encode(), *told])])
        oldest = backend._with_retry(lambda client: client.zrange(names["marks"], 0, 0, withscores=True))
        low = min([head.floor, *(int(revision) for _, revision in oldest)])
        end = f"({low + 1:016}"
        while count := backend._with_retry(lambda client: client.zlexcount(names["touched"], "-", end)):
            last = min(count, 10 * VERSIONS_PER_PAGE) - 1
            backend._with_retry(lambda client, last=last: client.zremrangebyrank(names["touched"], 0, last))  # type: ignore[misc]
        if head.floor:
            self._forget_commits(names["commits"], head.floor)
        self._settled = head

    def _forget_commits(self, name: str, floor: int) -> None:
        cursor = 0
        while True:
            scan = self._backend._with_retry(lambda client, at=cursor: client.hscan(name, at, count=VERSIONS_PER_PAGE))  # type: ignore[misc]
            cursor, found = scan
            if gone := [revision for revision in found if int(revision) <= floor]:
                self._backend._with_retry(lambda client, gone=gone: client.hdel(name, *gone))  # type: ignore[misc]
            if not cursor:
                return

    def finish(self, head: Head, over: bool = False) -> str:
        """See `Receiver.finish`. The former namespace is kept under another prefix in the same slot."""
        backend = self._backend
        self._settle(head)
        backend.head()  # adopts what is of an older layout
        aside = f"{backend._prefix}{ASIDE}{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{self._token[:4]}:"
        keys = [*self._own, *self._keys, *backend._keys, *(aside + name for name in NAMES)]
        if isinstance(backend._connect(), redis.Redis):
            keys.append(REGISTRY)
        else:  # in another slot of a cluster
            backend._with_retry(lambda client: client.sadd(REGISTRY, backend.namespace))
        status, *said = self._eval(FINISH, keys, self._token, int(over), backend.namespace)
        if status == b"taken":
            raise destination_exists_error(backend.url, backend.namespace, int(said[0]))
        if status == b"lost":
            raise self._lost()
        if backend._tracking is not None:
            backend._tracking.forget()
        self._open = False
        self._reader.close()
        return f"{aside}*" if said[0] else ""

    def drop(self) -> None:
        self._release(stage=True)

    def close(self) -> None:
        self._release(stage=False)

    def _release(self, stage: bool) -> None:
        if self._open:
            self._open = False
            self._reader.close()
            self._eval(RELEASE, [*self._own, *self._keys], self._token, int(stage))


def _process(pid: int) -> str:
    """Return a name that no other process has or will have, as seen from this machine and container.

    "" where that is unknown.

    Times of a start are of one boot, and numbers of processes of one namespace of them.
    """
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            boot = file.read().strip()
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        if fields[0] in (b"Z", b"X"):  # ended, and its parent has not asked how: in a container that may never be
            return ""
        start = fields[19].decode()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}/{pid}/{start}"
    except OSError:  # gone, or no Linux
        return ""


def _is_gone(token: str) -> bool:
    """Whether a receiver's process certainly is no more: it was one of this machine and container, and is not there."""
    who = token.partition("@")[2].rpartition("/")[0]
    ours = _process(os.getpid()).rpartition("/")[0]
    where, _, pid = who.rpartition("/")
    if not who or where != ours.rpartition("/")[0]:
        return False
    return _process(int(pid)) != token.partition("@")[2]


def _command(words: list[bytes]) -> _Command:
    return len(words), encode_bulk(words)


def _versions(names: dict[str, bytes], versions: Iterable[StoredVersion], values: StoredValues) -> list[_Command]:
    """Return what adds versions to the stage: one command for each of its keys, of members in the server's protocol."""
    pieces: dict[str, list[bytes]] = {
        name: [] for name in ("live", "index", "expiry", "history", "hindex", "hexpiry", "touched")
    }
    live, index, expiry, history, hindex, hexpiry, touched = pieces.values()
    for one in versions:
        key, revision, expires = one.key.encode(), one.revision, one.expires
        stored = None if one.value is None else values.pack(one.value, one.key)
        size = len(key)
        touched.append(b"$1\r\n0\r\n$%d\r\n%016d%b\r\n" % (size + 16, revision, key))
        if stored is not None and not one.until:
            packed = b"%d %d %d %b" % (revision, one.time, expires, stored)
            live.append(_PAIR % (size, key, len(packed), packed))
            index.append(_BARE % (size, key))
            if expires:
                expiry.append(encode_bulk([b"%d" % expires, key]))
            continue
        member = b"%b\0%016d" % (key, revision)
        packed = b"%d %d %d %b" % (one.until, one.time, expires, b"D" if stored is None else b"V" + stored)
        history.append(_PAIR % (len(member), member, len(packed), packed))
        hindex.append(_BARE % (len(member), member))
        if expires:
            hexpiry.append(encode_bulk([b"%d" % expires, member]))
    return [
        (
            2 + 2 * len(some),
            encode_bulk([b"HSET" if name in ("live", "history") else b"ZADD", names[name]]) + b"".join(some),
        )
        for name, some in pieces.items()
        if some
    ]


def _marks(names: dict[str, bytes], marks: Iterable[CheckpointRecord]) -> list[list[bytes]]:
    """Return what puts checkpoints in place of those of the stage."""
    revisions, notes = [b"ZADD", names["marks"]], [b"HSET", names["notes"]]
    counts: dict[str, int] = {}
    for one in marks:
        member = f"{one.name}@{one.revision}".encode()
        revisions += (b"%d" % one.revision, member)
        counts[one.name] = counts.get(one.name, 0) + 1
        notes += (member, b"%d %d %d %b" % (sum(counts.values()), one.time, KINDS.index(one.kind), one.note.encode()))
    for name, count in counts.items():
        notes += (b"name:" + name.encode(), b"%d" % count)
    if counts:
        notes += (b"sequence", b"%d" % sum(counts.values()))
    return [[b"DEL", names["marks"], names["notes"]], revisions, notes]
