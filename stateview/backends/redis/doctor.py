"""`doctor()` of a Redis namespace: what the server is set to, and whether the namespace's keys say the same.

Others may write meanwhile: what seems wrong is asked for again by one script, of one state.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec
from redis.exceptions import ResponseError

from ... import codec
from ...errors import StateException, run
from ...model import Finding, check_key
from ..protocol import ProgressText
from ..staging import ASIDE, replaced_finding, unfinished_finding
from . import scripts
from .client import escape_match
from .errors import is_unsupported
from .server import REGISTRY

if TYPE_CHECKING:
    from .backend import RedisBackend

RECOVER = run("recover")
WRONG_TYPE = "wrong-type"  # the code of a finding: a key is of a type that is not ours
MEMBERS_PER_SCRIPT = 500  # members of one script: what is long keeps all other clients waiting
MAX_SKEW_MICROSECONDS = 1_000_000  # microseconds between two clocks, from which on it is worth saying
FULL_SHARE = 0.9  # of maxmemory
OLDEST = (6, 2)
TYPES = dict.fromkeys(scripts.NAMES, "zset") | dict.fromkeys(
    ("head", "live", "history", "commits", "notes", "tokens", "older", "damaged"), "hash"
)

# fmt: off
LOOK = scripts._COMMON + """
-- What is said of some names. ARGV: 'live' or 'history', then keys, or fields of the history. Returns those of which
-- the hash, its index and its set of expiries do not say the same, each with what is wrong with it.
local where, order, times = live, index, expiry
if ARGV[1] == 'history' then where, order, times = history, hindex, hexpiry end
local known = tonumber(call('HGET', head, 'floor') or 0)  -- of what is after it, or a checkpoint, touched tells
known = math.min(known, tonumber(call('ZRANGE', marks, 0, 0, 'WITHSCORES')[2]) or known)
local out = {}
for i = 2, #ARGV do
  local packed = call('HGET', where, ARGV[i])
  local listed, score = call('ZSCORE', order, ARGV[i]), call('ZSCORE', times, ARGV[i])
  local expires = packed and string.match(packed, '^%d+ %d+ (%d+) ')
  local found
  if not packed then
    if listed or score then found = 'bare' end
  elseif not expires then found = 'unreadable'
  elseif tonumber(listed) ~= 0 then found = 'unlisted'
  elseif (expires ~= '0') ~= (score and true or false) or (score and tonumber(score) ~= tonumber(expires)) then
    found = 'expiry'
  else
    local r, key = string.match(packed, '^%d+'), ARGV[i]
    if where == history then r, key = string.sub(ARGV[i], -16), string.sub(ARGV[i], 1, -18) end
    r = tonumber(r)
    if r and r > known and not call('ZSCORE', touched, pad(r) .. key) then found = 'untold' end
  end
  if found then out[#out + 1] = ARGV[i]; out[#out + 1] = found end
end
return out
"""

UNMET = scripts._COMMON + """
-- Which writes are known of which there is no version. ARGV: members of touched.
local out = {}
for _, row in ipairs(ARGV) do
  local r, key = string.sub(row, 1, 16), string.sub(row, 17)
  if call('ZSCORE', touched, row) and call('HEXISTS', history, key .. '\\0' .. r) == 0 and
    tonumber(string.match(call('HGET', live, key) or '', '^(%d+) ')) ~= tonumber(r) then
    out[#out + 1] = row
  end
end
return out
"""

MARKS = scripts._COMMON + """
return {call('ZRANGE', marks, 0, -1, 'WITHSCORES'), call('HGETALL', notes)}
"""
# fmt: on

_WRONG = {
    "bare": "{} names without what they name",
    "unlisted": "{} that no list shows",
    "unreadable": "{} that are not what was written",
    "untold": "{} of which it is not told when they were written",
    "expiry": "{} whose expiry is not what the entry says",
}


def diagnose(backend: RedisBackend, say: ProgressText) -> Iterator[Finding]:
    """Yield the findings about a namespace on a server."""
    try:
        server = _ServerChecks(backend)
        yield from server.run()
        if kind := registry_type(backend):
            meaning = "something else wrote to it; no namespace can be listed, and no new one be made"
            yield Finding("error", REGISTRY, f"it is a {kind}, not a set", meaning, RECOVER)
        wrong = list(types(backend))
        yield from wrong
        if any(one.code == WRONG_TYPE for one in wrong):
            return
        head = read_head(backend)
        if head is None or scripts.unreadable_head(head):
            meaning = "nothing can be read or written"
            yield Finding("error", backend._keys[0], "it is not what was written", meaning, RECOVER)
            return
        yield from server.clock()
        yield from _migrations(backend, say)
        if not head:
            return
        yield from _entries(backend, say)
        yield from _history(backend, say)
        yield from _touched(backend, say)
        yield from _marks(backend)
        yield from _commits(backend, say)
        yield from _beside(backend)
    except StateException as error:
        meaning = "what is stored could not be checked, or not all of it"
        yield Finding("error", backend.url, error.message, meaning, error.next_steps)


class _ServerChecks:
    """What the server says of itself."""

    def __init__(self, backend: RedisBackend) -> None:
        self.backend = backend

    def run(self) -> Iterator[Finding]:
        info = yield from self.ask("INFO", lambda client: client.info("everything"))
        settings = yield from self.ask("CONFIG GET", lambda client: client.config_get("*"))
        if info is not None:
            yield from self.state(info)
        if settings is not None:
            yield from self.persistence(settings)
        policy = (settings or info or {}).get("maxmemory-policy") or (info or {}).get("maxmemory_policy", "")
        limit = int((settings or {}).get("maxmemory") or (info or {}).get("maxmemory") or 0)
        if info is not None or settings is not None:
            yield from self.memory(str(policy), limit, int((info or {}).get("used_memory", 0)))

    def clock(self) -> Iterator[Finding]:
        """Yield the server's clock, which is asked for with the head."""
        self.backend._handshake()
        if abs(skew := self.backend._skew) > MAX_SKEW_MICROSECONDS:
            found = f"its clock is {abs(skew) / 1e6:.1f} s {'ahead' if skew > 0 else 'behind'}"
            meaning = "times in the log, and when entries expire, are by its clock"
            yield self.warn(found, meaning, "Let both machines take their time from the network (NTP)")

    def warn(self, found: str, meaning: str, remedy: str = "") -> Finding:
        return Finding("warning", self.backend.url, found, meaning, remedy)

    def ask(self, what: str, act: Callable[[Any], Any]) -> Any:
        """Return the answer; a finding, and None, where this login may not ask."""

        def asked(client: Any) -> Any:
            try:
                return _of_one(client, self.backend, act)
            except ResponseError as error:
                if is_unsupported(error):
                    return error
                raise

        answer = self.backend._with_retry(asked)
        if isinstance(answer, Exception):
            meaning = "whether its settings may lose state could not be checked"
            remedy = "Ask who runs the server for appendonly, appendfsync, save and maxmemory-policy"
            yield Finding("note", self.backend.url, f"{what} is not allowed: {answer}", meaning, remedy)
            return None
        return answer

    def state(self, info: dict[str, Any]) -> Iterator[Finding]:
        version = str(info.get("redis_version", "0"))
        if tuple(int(part) for part in version.split(".")[:2] if part.isdigit()) < OLDEST:
            yield self.warn(f"version {version}", "stateview is tested with 6.2 and later", "Upgrade the server")
        if info.get("role") == "slave":
            link = info.get("master_link_status", "down")
            found = f"it is a replica, its link to the primary {link}"
            meaning = "every write is refused, and what is read may be behind"
            yield self.warn(found, meaning, "Give the address of the primary")
        for name, what in (
            ("rdb_last_bgsave_status", "its last snapshot failed"),
            ("aof_last_write_status", "its last write to the append-only file failed"),
            ("aof_last_bgrewrite_status", "its last rewrite of the append-only file failed"),
        ):
            if info.get(name, "ok") != "ok":
                meaning = "what is acknowledged from now on may not outlive the server; it may refuse writes"
                yield self.warn(what, meaning, "Look at the server's log and its disk")
        if info.get("loading"):
            yield self.warn("it is still loading its data", "what is read now may not be all")

    def persistence(self, settings: dict[str, str]) -> Iterator[Finding]:
        appends, sync, save = (settings.get(name, "") for name in ("appendonly", "appendfsync", "save"))
        remedy = "Set appendonly yes and appendfsync always (CONFIG SET, and in its configuration file)"
        if appends != "yes" and not save:
            found = 'appendonly no, and no snapshots (save "")'
            yield self.warn(found, "all state is lost when the server ends", remedy)
        elif appends != "yes":
            found = f"appendonly no; snapshots (save {save!r})"
            yield self.warn(found, "all commits since the last snapshot are lost when the server crashes", remedy)
        elif sync == "no":
            yield self.warn("appendfsync no", "the last half minute may be lost with the power", remedy)
        elif sync == "everysec":
            meaning = "the last second may be lost when the server crashes, more where its disk is slow"
            yield Finding("note", self.backend.url, "appendfsync everysec", meaning, remedy)

    def memory(self, policy: str, limit: int, used: int) -> Iterator[Finding]:
        remedy = "CONFIG SET maxmemory-policy noeviction"
        if policy.startswith("allkeys-"):
            when = f"at {limit >> 20} MiB" if limit else "as soon as a maxmemory is set"
            meaning = f"{when} the server throws away acknowledged state, a whole namespace at once"
            yield self.warn(f"maxmemory-policy {policy}", meaning, remedy)
        if limit and used > FULL_SHARE * limit:
            meaning = "when it is full, it refuses writes, or throws away what its policy says"
            yield self.warn(f"{used / limit:.0%} of its memory is used", meaning, "Raise maxmemory, or prune")


def _of_one(client: Any, backend: RedisBackend, act: Callable[[Any], Any]) -> Any:
    """Asked of the server that holds the namespace: a cluster would ask all."""
    if hasattr(client, "get_node_from_key"):
        return act(client.get_redis_connection(client.get_node_from_key(backend._keys[0])))
    return act(client)


def types(backend: RedisBackend) -> Iterator[Finding]:
    """Each key is of its type, and none goes by itself."""

    def act(client: Any) -> list[Any]:
        return [(client.type(key), client.pttl(key)) for key in backend._keys]

    for key, name, (kind, left) in zip(backend._keys, scripts.NAMES, backend._with_retry(act), strict=True):
        if kind.decode() not in ("none", TYPES[name]):
            found = f"it is a {kind.decode()}, not a {TYPES[name]}"
            yield Finding(
                "error", key, found, "something else wrote to it; what was in it is gone", RECOVER, WRONG_TYPE
            )
        elif left >= 0:
            found = f"the server will remove it in {left / 1000:,.0f} s"
            yield Finding("error", key, found, "something else has set an expiry; it takes state with it", RECOVER)


def read_head(backend: RedisBackend) -> dict[bytes, bytes] | None:
    """Return the head, empty where there is no namespace; None where it is missing, and something is there."""
    parts = [backend._keys[place] for place in scripts.PARTS]
    there = backend._with_retry(lambda client: client.exists(*parts))  # before: the first commit writes all of them
    head: dict[bytes, bytes] = backend._with_retry(lambda client: client.hgetall(backend._keys[0]))
    return head if head or not there else None


def _chunks(items: Iterable[Any]) -> Iterator[list[Any]]:
    rest = iter(items)
    while chunk := list(islice(rest, MEMBERS_PER_SCRIPT)):
        yield chunk


def scan(backend: RedisBackend, place: int) -> Iterator[tuple[bytes, Any]]:
    """All members of a hash or a sorted set, with what they hold; some of them twice."""
    key = backend._keys[place]
    command = "hscan" if TYPES[scripts.NAMES[place]] == "hash" else "zscan"
    cursor: Any = 0
    while True:
        cursor, page = backend._with_retry(
            lambda client, at=cursor: getattr(client, command)(key, at, count=MEMBERS_PER_SCRIPT)  # type: ignore[misc]
        )
        yield from page.items() if isinstance(page, dict) else page
        if not cursor:
            return


def disagreements(backend: RedisBackend, kind: str, names: list[bytes]) -> dict[bytes, str]:
    """Of which of some keys, or fields of the history, not all is said alike; and what is wrong."""
    reply = backend._eval(LOOK, kind, *names)
    return {name: what.decode() for name, what in zip(reply[::2], reply[1::2], strict=True)}


def _agreement(backend: RedisBackend, kind: str, places: tuple[int, ...], say: ProgressText) -> Iterator[Finding]:
    counts: dict[str, int] = {}
    first: dict[str, bytes] = {}
    seen = 0
    for place in places:
        for chunk in _chunks(name for name, _ in scan(backend, place)):
            for name, what in disagreements(backend, kind, chunk).items():
                if place == places[0] or what == "bare":  # the others are met where they are held
                    counts[what] = counts.get(what, 0) + 1
                    first.setdefault(what, name)
            seen += len(chunk)
            say(f"{kind}: {seen:,} names")
    for what, count in counts.items():
        example = first[what].split(b"\0")[0].decode(errors="replace")[:60]
        found = f"{_WRONG[what].format(count)}, such as {example!r}"
        meaning = "what is listed, counted or read is not the same"
        yield Finding("error", f"{backend._prefix}{kind}", found, meaning, RECOVER)


def _entries(backend: RedisBackend, say: ProgressText) -> Iterator[Finding]:
    bad = 0
    example = ""
    last = backend.head().revision
    for name, packed in backend._entries():
        if wrong := unreadable_entry(backend, name, packed, last):
            now_there = backend._with_retry(lambda client, name=name: client.hget(backend._keys[1], name))  # type: ignore[misc]
            if now_there == packed:
                bad += 1
                example = example or wrong
    if bad:
        found = f"{bad} entries cannot be read, such as: {example}"
        yield Finding("error", f"{backend._prefix}live", found, "something else wrote to it", RECOVER)
    yield from _agreement(backend, "live", (1, 2, 3), say)


def unreadable_entry(backend: RedisBackend, name: bytes, packed: bytes, last: int) -> str:
    """Why an entry cannot be read; nothing where it can. `last` is a revision that there is."""
    try:
        key = check_key(name.decode())
        version = backend._version(key, packed)
        codec.decode(version.value or b"", f"the value of {key[:60]!r}")
        if version.revision > last and version.revision > (now := backend.head().revision):
            return f"{key[:60]!r} says to be of revision {version.revision}, and {now} is the last"
    except UnicodeDecodeError:
        return "it is not a key"
    except StateException as error:
        return error.message
    return ""


def unreadable_version(backend: RedisBackend, name: bytes, packed: bytes) -> str:
    """As `unreadable_entry`, for a field of the history."""
    key, nul, revision = name.rpartition(b"\0")
    try:
        if not nul or len(revision) != 16 or not revision.isdigit():
            raise ValueError
        check_key(key.decode())
        until, moment, expires, rest = packed.split(b" ", 3)
        int(until), int(moment), int(expires)
        if rest[:1] == b"V":
            value = backend.values.unpack(rest[1:], key.decode(), int(revision))
            codec.decode(value, f"a version of {key.decode()[:60]!r}")
        elif rest != b"D":
            raise ValueError
    except StateException as error:
        return error.message
    except ValueError:
        return f"{name[:60]!r} is not what was written"
    return ""


def _history(backend: RedisBackend, say: ProgressText) -> Iterator[Finding]:
    bad, example = 0, ""
    for name, packed in scan(backend, 4):
        if wrong := unreadable_version(backend, name, packed):
            bad += 1
            example = example or wrong
    if bad:
        found = f"{bad} versions cannot be read, such as: {example}"
        yield Finding("error", f"{backend._prefix}history", found, "something else wrote to it", RECOVER)
    yield from _agreement(backend, "history", (4, 5, 6), say)


def unreadable_mark(member: bytes, packed: bytes | None, score: float | None) -> str:
    """Why a checkpoint cannot be read; nothing where it can."""
    name, _, revision = member.rpartition(b"@")
    parts = (packed or b"").split(b" ", 3)
    if (
        not name
        or not revision.isdigit()
        or len(parts) != 4
        or not all(part.isdigit() for part in parts[:3])
        or (int(parts[2]) >= len(scripts.KINDS))
    ):
        return "what is said of it is not what was written"
    return "" if score == int(revision) else "it is not where its revision is"


def read_marks(backend: RedisBackend) -> tuple[dict[bytes, float], dict[bytes, bytes]]:
    """Return the places of the checkpoints, and what is said of them, in one state."""
    placed, said = backend._eval(MARKS)
    scores = {name: float(score) for name, score in zip(placed[::2], placed[1::2], strict=True)}
    return scores, dict(zip(said[::2], said[1::2], strict=True))


def _marks(backend: RedisBackend) -> Iterator[Finding]:
    scores, notes = read_marks(backend)
    members = {name for name in notes if b"@" in name}
    for member in sorted(members | scores.keys()):
        if wrong := unreadable_mark(member, notes.get(member), scores.get(member)):
            subject = f"checkpoint {member.decode(errors='replace')[:140]!r}"
            yield Finding("error", subject, wrong, "it cannot be read, or may be forgotten too early", RECOVER)
    names = Counter(member.rpartition(b"@")[0] for member in members)
    if {name: b"%d" % count for name, count in names.items()} != {
        name.removeprefix(b"name:"): count for name, count in notes.items() if name.startswith(b"name:")
    }:
        found = "how many checkpoints have a name is not right"
        yield Finding("error", backend._keys[10], found, "a name that is free may be refused, or the reverse", RECOVER)
    orders = [notes[member].partition(b" ")[0] for member in members]
    last = max((int(order) for order in orders if order.isdigit()), default=0)
    if not (order := notes.get(b"sequence", b"0")).isdigit() or int(order) < last:
        found = "how many checkpoints were made is not right"
        yield Finding("error", backend._keys[10], found, "none can be made, or not in their order", RECOVER)


def unreadable_commit(revision: bytes, packed: bytes) -> bool:
    """Whether the record of a commit is not what was written."""
    moment, _, told = packed.partition(b" ")
    try:
        fields = msgspec.json.decode(told, type=tuple[str, str, int, int, int, int])
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return True
    return not (revision.isdigit() and moment.isdigit() and fields)


def _touched(backend: RedisBackend, say: ProgressText) -> Iterator[Finding]:
    say("what changed")
    last = backend.head().revision
    count, example = 0, b""
    for chunk in _chunks(row for row, _ in scan(backend, 7)):
        for row in backend._eval(UNMET, *chunk):
            if not (row[:16].isdigit() and int(row[:16]) > last):
                count, example = count + 1, example or row[16:]
    if count:
        found = f"{count} writes of which there is no version, such as one of {example.decode(errors='replace')[:60]!r}"
        yield Finding("error", f"{backend._prefix}touched", found, "what they wrote is missing", RECOVER)


def newest_commit(backend: RedisBackend) -> tuple[int, list[bytes]]:
    """Return the highest revision of which there is a record (0: none), and those whose record cannot be read."""
    newest, bad = 0, set()
    for name, packed in scan(backend, 8):
        if unreadable_commit(name, packed):
            bad.add(name)
        else:
            newest = max(newest, int(name))
    return newest, sorted(bad)


def _commits(backend: RedisBackend, say: ProgressText) -> Iterator[Finding]:
    say("the commits")
    newest, bad = newest_commit(backend)
    if newest > (known := backend.head().revision):
        found = f"its revision is {known}, and there is a commit {newest}"
        yield Finding("error", backend._keys[0], found, "what is saved next takes the place of what is there", RECOVER)
    if bad:
        found = f"{len(bad)} records of commits cannot be read, such as that of {bad[0].decode(errors='replace')[:20]}"
        yield Finding("error", f"{backend._prefix}commits", found, "the log cannot be shown", RECOVER)


def registry_type(backend: RedisBackend) -> str:
    """Return what the list of namespaces is instead of a set; nothing where it is one, or is not there."""
    kind: str = backend._with_retry(lambda client: client.type(REGISTRY)).decode()
    return "" if kind in ("set", "none") else kind


def _beside(backend: RedisBackend) -> Iterator[Finding]:
    """Yield what lies beside the namespace, and is not of it."""
    if not registry_type(backend) and not backend._with_retry(
        lambda client: client.sismember(REGISTRY, backend.namespace)
    ):
        found = f"it is not in {REGISTRY}"
        yield Finding("error", f"namespace {backend.namespace!r}", found, "no list of namespaces shows it", RECOVER)
    if aside := backend._with_retry(lambda client: client.hlen(backend._keys[13])):
        remedy = f"DEL '{backend._keys[13]}' when nothing in it is missed any more"
        yield Finding("note", backend._keys[13], f"{aside} entries that 'recover' set aside", "they take room", remedy)


def _migrations(backend: RedisBackend, say: ProgressText) -> Iterator[Finding]:
    """Yield what copies into the namespace left: a stage, and what was replaced. O(keys of the server), by SCAN."""
    say("what migrations left")
    receiver = f"{backend._prefix}migrating:receiver"
    if backend._with_retry(lambda client: client.exists(receiver)):
        remedy = (
            f"Run the migration again, which goes on, or the import; or UNLINK the keys {backend._prefix}migrating:*"
        )
        yield unfinished_finding(receiver, remedy)
    head = escape_match(backend._prefix + ASIDE) + "*:head"
    for name in sorted(backend._with_retry(lambda client: list(client.scan_iter(match=head, count=5000)))):
        kept = name.decode().removesuffix("head") + "*"
        remedy = "UNLINK these keys when nothing in them is missed any more"
        yield replaced_finding(kept, remedy)
