"""Redis: the keys of a namespace share the hash tag `{NS}`; one script a commit, plain commands, no modules.

Repeated loads come from memory for as long as a second connection, on which the server announces every commit
(CLIENT TRACKING, broadcast on the head key), is quiet and alive.
"""

from __future__ import annotations

import random
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from hashlib import sha1
from typing import Any, TypeVar

import msgspec
import redis
from redis.exceptions import (
    BusyLoadingError,
    NoScriptError,
    RedisClusterException,
    RedisError,
)

from ... import codec
from ...errors import NOTHING_CHANGED, BackendError, CommitUnknown, Damaged, ReadOnly, StateException, run
from ...model import Commit, Finding, check_checkpoint, check_key, now, to_datetime
from ..conflicts import (
    base_conflict_error,
    check_base,
    checkpoint_conflict_error,
    history_pruned_error,
    key_conflict_error,
)
from ..fork import watch_fork
from ..key_ranges import encodable_bound, key_range
from ..large_rows import LARGE_ROW_BYTES, LargeRowCache
from ..protocol import (
    SUMMARY_BYTES,
    CheckpointRecord,
    CheckpointWrite,
    CommitRequest,
    DiskUsage,
    Head,
    KeySummary,
    ProgressCount,
    ProgressText,
    RecoverySession,
    StagedImport,
    StateAt,
    StoredVersion,
    StoreIdentity,
    SupersededVersion,
    Version,
    Write,
)
from ..stored_values import PLAIN, StoredValues
from . import scripts
from .client import (
    CommitSession,
    NoConnection,
    encode_bulk,
    escape_match,
    is_transient,
    may_have_applied,
    open_client,
    reason,
    server_of,
    to_state_error,
)
from .read_cache import InvalidationCache

T = TypeVar("T")
_encode = msgspec.json.Encoder().encode
REGISTRY = "stateview:namespaces"
FIRST_CONTACT_SECONDS = 1.0  # seconds of trying to reach a server that refuses the very first connection
CACHE_BYTES = 32 * 1024 * 1024
WHOLE_VALUE_BYTES = 1 << 40  # more than any value has: a script then cuts nothing off
ADOPT_SECONDS = 2.0  # how long to look for data of the older layout before a new namespace is made
LARGEST_COMMIT_BYTES = 768 * 1024 * 1024  # bytes of one commit: a server ends the connection at 1 GiB, told of nothing
MAX_IDLE_SESSIONS = 4  # connections that commits keep between them
KEYS_PER_READ = 1000  # keys of one read; a script that is long keeps all other clients waiting


class RedisBackend:
    """State of one namespace on a Redis server (6.2 or later, or Valkey).

    Args:
        url: `redis://`, `rediss://`, `redis+cluster://` or `redis+sentinel://HOST:PORT,…/SERVICE/DB`. The user, the
            password, the database and every option that redis-py knows (`socket_timeout`, `ssl_ca_certs`, …) count.
        shown: the URL without its password, for messages.
        namespace: a checked name.
        read_only: never write.
        history: superseded versions are kept for this many revisions at least.
        timeout: seconds to go on trying through faults that can pass.
        values: the form in which the server keeps values.

    """

    kind = "redis"
    rewrites_state = False
    editable_by_hand = False

    def __init__(
        self, url: str, shown: str, namespace: str, *, read_only: bool = False, history: int = 10_000,
        timeout: float = 10.0, values: StoredValues = PLAIN,
    ) -> None:  # fmt: skip
        self.url = shown
        self.namespace = namespace
        self.read_only = read_only
        self.keep = history
        self.timeout = timeout
        self.values = values
        self._address = url
        self._prefix = f"stateview:{{{namespace}}}:"
        self._keys = [self._prefix + name for name in scripts.NAMES]
        self._huge = LargeRowCache()
        self._mutex = threading.RLock()
        self._client: Any = None
        self._tracking: InvalidationCache | None = None
        self._set_prefix(f"stateview:{{{namespace}}}:")
        self._held = 0 if "max_connections" in url else MAX_IDLE_SESSIONS
        self._lanes: list[CommitSession] = []  # those that no commit is under way on
        self._skew = 0
        self._reached = False  # whether the server has answered once
        self._met = False  # whether its clock is known, and older data was looked for
        watch_fork(self)

    def _set_prefix(self, prefix: str) -> None:
        self._prefix = prefix
        self._keys = [prefix + name for name in scripts.NAMES]
        named = [b"EVALSHA", _sha(scripts.COMMIT).encode(), b"%d" % len(self._keys), *map(str.encode, self._keys)]
        self._commit_words = len(named), encode_bulk(named)

    def _sibling(self, name: str) -> RedisBackend:
        """Return what lies under a longer prefix of this namespace, as a namespace of its own."""
        other = RedisBackend(
            self._address, self.url, self.namespace, history=self.keep, timeout=self.timeout, values=self.values
        )
        other._set_prefix(self._prefix + name)
        return other

    def before_fork(self) -> None:
        """No other thread is about to connect."""
        self._mutex.acquire()

    def after_fork(self, child: bool) -> None:
        """Let the child open its own connections."""
        if not child:
            self._mutex.release()
            return
        self._mutex = threading.RLock()
        self._client = None
        self._tracking = None
        self._lanes = []

    # --- talking to the server ---------------------------------------------------------------------------------

    def _connect(self) -> Any:
        with self._mutex:
            if self._client is None:
                try:
                    self._client = open_client(self._address, self.timeout)
                except (ValueError, TypeError) as error:
                    raise BackendError(f"{self.url} is not a usable Redis URL: {error}") from error
                if isinstance(self._client, redis.Redis):
                    self._tracking = InvalidationCache(self._client.connection_pool, self._keys[0], CACHE_BYTES)
            return self._client

    def _with_retry(self, act: Callable[[Any], T], commit: bool = False, extra: float = 0.0) -> T:
        """Do something with the client; try again through faults that can pass, up to the deadline.

        `commit` is for what is applied by the server even if its answer is lost.
        """
        deadline = (
            time.monotonic() + (self.timeout if self._reached else min(self.timeout, FIRST_CONTACT_SECONDS)) + extra
        )
        pause, sent = 0.01, False
        while True:
            client: Any = None
            try:
                client = self._connect()
                result = act(client)
                self._reached = True
                return result
            except (RedisError, RedisClusterException, AttributeError, OSError, ValueError) as caught:
                error = caught.__cause__ if isinstance(caught.__cause__, RedisError) else caught
                if not isinstance(error, (RedisError, RedisClusterException)):
                    if isinstance(caught, StateException) or self._client is client:
                        raise
                    # `close` on another thread took the connection apart while the library read from it
                    error = redis.ConnectionError("the connection was closed")
                sent = sent or (commit and not isinstance(caught, NoConnection) and may_have_applied(error))
                self._reached = self._reached or isinstance(error, (BusyLoadingError, redis.TimeoutError))
                if is_transient(error) and time.monotonic() + pause < deadline:
                    time.sleep(pause * random.uniform(0.5, 1.0))
                    pause = min(1.0, pause * 2)
                    continue
                if sent:
                    hint = "The commit may or may not have been applied: look before you try again"
                    raise CommitUnknown(f"{self.url} does not answer: {reason(error)}", hint) from error
                raise to_state_error(error, self.url, self.namespace) from error

    def _eval(self, script: str, *arguments: Any) -> Any:
        sha = _sha(script)

        def act(client: Any) -> Any:
            try:
                return client.evalsha(sha, len(self._keys), *self._keys, *arguments)
            except NoScriptError:
                return client.eval(script, len(self._keys), *self._keys, *arguments)

        self._handshake()
        return self._with_retry(act)

    def _send(self, lane: CommitSession, words: list[bytes]) -> Any:
        """Have the server run a commit, once: the same words sent again by the same lane are the same commit."""

        def act(client: Any) -> Any:
            try:
                if isinstance(client, redis.Redis):
                    return lane.ask(client.connection_pool, self._commit_words, words)
                return client.evalsha(_sha(scripts.COMMIT), len(self._keys), *self._keys, *words)
            except NoScriptError:
                return client.eval(scripts.COMMIT, len(self._keys), *self._keys, *words)

        if not self._met:
            self._handshake()
        return self._with_retry(act, commit=True, extra=len(words) / 30_000)  # a huge commit takes its time

    def _handshake(self) -> None:
        """Once per connection: learn the server's clock, and look for older data if the namespace is new."""
        if self._met:
            return
        with self._mutex:
            if self._met:
                return
            head = self._with_retry(lambda client: client.hgetall(self._keys[0]))
            started = now()  # not before: connecting takes longer than asking for the time
            there = 0
            if not head:  # in this order: the first commit writes all of them
                there = self._with_retry(lambda client: client.exists(*(self._keys[place] for place in scripts.PARTS)))
                head = self._with_retry(lambda client: client.hgetall(self._keys[0]))
            clock = self._with_retry(lambda client: client.time())
            self._skew = clock[0] * 1_000_000 + clock[1] - (started + now()) // 2
            if head.get(b"format", b"").isdigit() and int(head[b"format"]) > 1:
                raise BackendError(f"{self.url}: namespace {self.namespace!r} has a later format", "Upgrade stateview")
            if scripts.unreadable_head(head) or (not head and there):
                raise Damaged(f"{self.url}: {self._keys[0]} is not what was written", run("recover"))
            if not head:
                self._adopt()
            self._met = True

    # --- reading -----------------------------------------------------------------------------------------------

    def identity(self) -> StoreIdentity:
        """See `Backend.identity`. Two round trips. A replica lies where its primary does."""
        head = self._with_retry(lambda client: client.hgetall(self._keys[0]))
        revision = head.get(b"revision", b"")
        return StoreIdentity(
            self._with_retry(lambda client: server_of(client, self._keys[0])),
            int(revision) if revision.isdigit() else 0, tuple(sorted(head.items())),
        )  # fmt: skip

    def now(self) -> int:
        """Return the server's clock, as far as this one's difference to it is known."""
        self._handshake()
        return now() + self._skew

    def head(self) -> Head:
        """See `Backend.head`. One round trip."""
        revision, moment, count, floor, lineage, _ = self._eval(scripts.HEAD)
        return Head(int(revision), int(moment), int(count), int(floor), lineage.decode())

    def get(self, key: str) -> Version | None:
        """See `Backend.get`. No round trip for a key that was read before and no commit came since."""
        self._handshake()
        tracking = self._tracking
        if tracking is not None and (found := tracking.get(key)) is not None:
            version = found[0]
        else:
            generation = tracking.generation() if tracking is not None else None
            packed = self._with_retry(lambda client: client.hget(self._keys[1], key))
            version = None if packed is None else self._version(key, packed)
            if tracking is not None and generation is not None:
                tracking.put(key, version, generation)
        if version is not None and version.expires and not version.visible(now() + self._skew):
            return None
        return version

    def _version(self, key: str, packed: bytes) -> Version:
        """Parse an entry, and unpack its value."""
        revision, moment, expires, stored = self._split(key, packed)
        return Version(key, self.values.unpack(stored, key, revision), revision, moment, expires)

    def _split(self, key: str, packed: bytes) -> tuple[int, int, int, bytes]:
        """Return revision, time, expiry and stored value of an entry."""
        try:
            revision, moment, expires, stored = packed.split(b" ", 3)
            return int(revision), int(moment), int(expires), stored
        except ValueError as error:
            raise Damaged(f"{self.url}: the entry {key[:60]!r} is not what was written", run("recover")) from error

    def read(self, keys: Iterable[str], at: StateAt | None = None) -> dict[str, Version]:
        """See `Backend.read`. A round trip for each thousand keys; more than that is one state only with an `at`."""
        wanted = list(keys)
        out: dict[str, Version] = {}
        revision, moment = (-1, 0) if at is None else (at.revision, at.time)
        for start in range(0, len(wanted), KEYS_PER_READ):
            reply = self._eval(scripts.READ, revision, moment, *wanted[start : start + KEYS_PER_READ])
            self._check(reply, revision)
            out.update(self._versions(reply[1:]))
        return out

    def _versions(self, flat: list[bytes]) -> dict[str, Version]:
        pairs = zip(flat[::2], flat[1::2], strict=True)
        return {
            key: self._version(key, packed) for key, packed in ((self._name(name), packed) for name, packed in pairs)
        }

    def _check(self, reply: Any, revision: int) -> None:
        if reply[0] == b"pruned":
            raise history_pruned_error(self.namespace, revision, int(reply[-1]))

    def scan(self, prefix: str = "", after: str = "", limit: int = 1000, at: StateAt | None = None) -> list[Version]:
        """See `Backend.scan`. One round trip for each thousand keys passed over."""
        out: list[Version] = []
        revision, moment = (-1, 0) if at is None else (at.revision, at.time)
        while len(out) < limit:
            size = max(16, min(KEYS_PER_READ, limit - len(out)))
            reply = self._eval(scripts.SCAN, prefix, after, size, revision, moment)
            self._check(reply, revision)
            out += self._versions(reply[2:]).values()
            after = reply[1].decode()
            if not after:
                break
        return out[:limit]

    def list_keys(
        self, prefix: str = "", after: str = "", before: str = "", limit: int = 1000, at: StateAt | None = None,
        skip: int = 0, backwards: bool = False,
    ) -> list[KeySummary]:  # fmt: skip
        """See `Backend.list_keys`. A round trip for each thousand keys, or 8 MB of values, which stay on the server.

        O(skip) where something has expired and is not taken away yet. For a value of more than a megabyte O(size) more
        on the server, which can only read it whole: a fifth of a second for 50 MB, live only when it is first met.
        """
        low, high = key_range(prefix, after, before)
        out: list[KeySummary] = []
        while True:
            left, last, page = self._rows(low, high, backwards, skip, limit - len(out), at)
            out += page
            if not last or len(out) == limit:
                return out[::-1] if backwards else out
            low, high = (low, last) if backwards else (last + "\0", high)
            skip = left

    def _rows(
        self, low: str, high: str, backwards: bool, skip: int, limit: int, at: StateAt | None
    ) -> tuple[int, str, list[KeySummary]]:
        """Return some of a page: how many are still to be passed over, the key to go on after, and rows."""
        revision, moment = (-1, 0) if at is None else (at.revision, at.time)
        remembered = self._huge
        known = [text for row, seen in remembered.rows.values() for text in (row.key, row.revision, seen)]
        start = SUMMARY_BYTES if self.values.plain else WHOLE_VALUE_BYTES
        walk = (low, high, int(backwards), skip, min(KEYS_PER_READ, limit), revision, moment, start)
        reply = self._eval(scripts.ROWS, *walk, LARGE_ROW_BYTES, remembered.lineage, *known)
        self._check(reply, revision)
        _, left, last, number, floor, lineage, *flat = reply
        head = Head(int(number), 0, 0, int(floor), lineage.decode())
        page = []
        for name, stored_size, packed in zip(flat[::3], flat[1::3], flat[2::3], strict=True):
            key = self._name(name)
            found = remembered.find(key, head) if not packed else None
            if found is None:
                written, when, expires, value = self._split(key, packed)
                size = stored_size
                if not self.values.plain:
                    value = self.values.unpack(value, key, written)
                    size = len(value)
                found = KeySummary(key, size, value[:SUMMARY_BYTES], written, when, expires)
                if stored_size > LARGE_ROW_BYTES and revision in (-1, head.revision):
                    remembered.put(found, head)
            page.append(found)
        return left, self._name(last), page

    def _name(self, name: bytes) -> str:
        try:
            return name.decode()
        except UnicodeDecodeError as error:
            raise Damaged(f"{self.url}: {name[:60]!r} is not a key", run("recover")) from error

    def count(self, low: str = "", high: str = "", at: StateAt | None = None) -> int:
        """See `Backend.count`. One round trip, of a past state one for each thousand keys.

        Where much has expired and is not taken away yet, a round trip for each five thousand of these.
        """
        low, high = encodable_bound(low), encodable_bound(high)
        revision, moment = (-1, 0) if at is None else (at.revision, at.time)
        expired = position = 0
        while position >= 0:
            reply = self._eval(scripts.COUNT, low, high, revision, moment, position)
            self._check(reply, revision)
            if reply[0] == b"past":
                return self._count_past(low, high, at)
            _, total, gone, position = reply
            expired += gone
        return int(total - expired)

    def _count_past(self, low: str, high: str, at: StateAt | None) -> int:
        endless = left = 1 << 52
        while True:
            left, last, _ = self._rows(low, high, False, left, 0, at)
            if not last:
                return endless - left
            low = last + "\0"

    def changed_keys(self, low: StateAt, high: StateAt) -> list[str]:
        """See `Backend.changed_keys`. A round trip for each ten thousand touches."""
        found: set[bytes] = set()
        last = b""
        while True:
            reply = self._eval(scripts.CHANGED, low.revision, high.revision, last)
            if reply[0] == b"pruned":
                raise history_pruned_error(self.namespace, int(reply[1]), int(reply[2]))
            found.update(member[16:] for member in reply[1])
            if len(reply[1]) < 10_000:
                break
            last = reply[1][-1]
        before, after = sorted((low.time, high.time))
        if before != after:
            _, _, _, expiry, _, _, hexpiry, *_ = self._keys
            found.update(self._with_retry(lambda client: client.zrangebyscore(expiry, f"({before}", after)))
            past = self._with_retry(lambda client: client.zrangebyscore(hexpiry, f"({before}", after))
            found.update(member[:-17] for member in past)
        return sorted(key.decode() for key in found)

    def versions(self, key: str, limit: int = 100, below: int = 0) -> list[Version]:
        """See `Backend.versions`. One round trip."""
        rows = self._eval(scripts.VERSIONS, key, limit, below or 1 << 52)
        out = []
        for revision, moment, expires, packed in rows[:limit]:
            value = self.values.unpack(packed[1:], key, int(revision)) if packed[:1] == b"V" else None
            out.append(Version(key, value, int(revision), int(moment), int(expires)))
        return out

    def commits(self, limit: int = 100, below: int = 0) -> list[Commit]:
        """See `Backend.commits`. Two round trips for each thousand."""
        head = self.head()
        top = min(below - 1 if below else head.revision, head.revision)
        revisions = range(top, max(head.floor, top - limit), -1)
        out = []
        for start in range(0, len(revisions), KEYS_PER_READ):
            some = [str(revision) for revision in revisions[start : start + KEYS_PER_READ]]
            rows = self._with_retry(lambda client, some=some: client.hmget(self._keys[8], some))  # type: ignore[misc]
            for revision, row in zip(some, rows, strict=True):
                if row is not None:
                    moment, _, told = row.partition(b" ")
                    out.append(Commit(int(revision), to_datetime(int(moment)), *msgspec.json.decode(told)))
        return out

    def marks(self) -> list[CheckpointRecord]:
        """See `Backend.marks`. One round trip."""
        self._handshake()
        rows = self._with_retry(lambda client: client.hgetall(self._keys[10]))
        found = []
        for member, packed in rows.items():
            if b"@" in member:
                order, moment, kind, note = packed.split(b" ", 3)
                name, _, revision = member.decode().rpartition("@")
                told = CheckpointRecord(name, int(revision), int(moment), note.decode(), scripts.KINDS[int(kind)])
                found.append((int(order), told))
        return [mark for _, mark in sorted(found, key=lambda pair: pair[0])]

    def versions_page(
        self, after: tuple[str, int] = ("", 0), limit: int = 1000, keys: Iterable[str] | None = None
    ) -> list[StoredVersion]:
        """See `Backend.versions_page`. One round trip for each thousand versions or keys."""
        from .transfer import dump

        return dump(self, after, limit, keys)

    def open_staging(self) -> StagedImport:
        from .transfer import RedisReceiver

        self._check_writable()
        return RedisReceiver(self)

    def wait(self, revision: int, timeout: float) -> int:
        """See `Backend.wait`. Woken by the server; looks five times a second where it cannot be."""
        deadline = time.monotonic() + timeout
        while True:
            self._handshake()
            tracking = self._tracking
            generation = tracking.generation() if tracking is not None else None
            head = self.head().revision
            left = deadline - time.monotonic()
            if head > revision or left <= 0:
                return head
            if tracking is None or generation is None:
                time.sleep(min(left, 0.2))
            else:
                tracking.sleep(min(left, 1.0), generation)

    def namespaces(self) -> list[str]:
        self._handshake()
        return sorted(name.decode() for name in self._registry(lambda client: client.smembers(REGISTRY)))

    def _registry(self, act: Callable[[Any], T]) -> T:
        """Ask for, or change, the list of namespaces, which is no key of this one."""
        try:
            return self._with_retry(act)
        except Damaged as error:
            what = f"{self.url}: the list of namespaces, the key {REGISTRY}, is no set: something else wrote to it"
            raise Damaged(what, run("recover")) from error

    def close(self) -> None:
        with self._mutex:
            if self._tracking is not None:
                self._tracking.close()
            if self._client is not None:
                self._client.close()
            self._client = self._tracking = None
            self._lanes = []

    # --- writing -----------------------------------------------------------------------------------------------

    def commit(self, batch: CommitRequest) -> Head:
        """See `Backend.commit`. One round trip; one more for the first commit of a namespace."""
        self._check_writable()
        try:
            lane = self._lanes.pop()  # another thread's commit has another
        except IndexError:
            lane = CommitSession()
        try:
            words = self._commit_args(batch, lane.next())
            if (size := sum(map(len, words))) > LARGEST_COMMIT_BYTES:
                what = f"{self.url}: {size >> 20} MiB of values are more than a server takes in one commit"
                raise BackendError(what, (NOTHING_CHANGED, "Save them in several"))
            reply = self._send(lane, words)
            if reply == [b"register"]:
                self._registry(lambda client: client.sadd(REGISTRY, self.namespace))
                reply = self._send(lane, self._commit_args(batch, lane.next(), new=True))
        finally:
            if len(self._lanes) >= self._held:
                lane.rest()
            self._lanes.append(lane)
        if not isinstance(reply, bytes):
            self._raise_conflict(reply, batch)
        if self._tracking is not None:
            self._tracking.forget()
        revision, moment, count, floor, lineage = reply.split()
        return Head(int(revision), int(moment), int(count), int(floor), lineage.decode())

    def _check_writable(self) -> None:
        if self.read_only:
            raise ReadOnly(f"{self.url} is open for reading only")

    def _commit_args(self, batch: CommitRequest, number: tuple[bytes, bytes], new: bool = False) -> list[bytes]:
        """Return what COMMIT is given. `number` is the lane and the number in it, for where the batch has no token."""
        writes = batch.writes
        rare: dict[str, Any] = {}
        if new:
            rare["lineage"] = secrets.token_hex(16)
        if batch.base is not None:
            rare["base"] = batch.base
        if batch.expected:
            rare["expected"] = batch.expected
        if batch.time:
            rare["time"] = batch.time
        if batch.marks:
            fields = ("name", "note", "revision", "time", "fresh")
            rare["marks"] = [{f: getattr(mark, f) for f in fields if getattr(mark, f) not in (None, 0, "", False)
                              or (f == "revision" and mark.revision == 0)} for mark in batch.marks]  # fmt: skip
            for sent, mark in zip(rare["marks"], batch.marks, strict=True):
                if mark.kind:
                    sent["kind"] = scripts.KINDS.index(mark.kind)
        if batch.unmarks:
            rare["unmarks"] = batch.unmarks
        if batch.token:
            number = batch.token.encode(), b"1"
        told = _encode([batch.reason, batch.author, len(writes), *batch.undo])
        words = [_encode(rare) if rare else b"", told, *number, b"%d" % self.keep]
        pack = self.values.pack
        for key, write in writes.items():
            if write.value is None:
                words += (key.encode(), b"D", b"")
            elif write.ttl or write.time:
                words += (key.encode(), b"%d %d" % (write.ttl, write.time), pack(write.value, key))
            else:
                words += (key.encode(), b"", pack(write.value, key))
        return words

    def _raise_conflict(self, reply: Any, batch: CommitRequest) -> None:
        status = reply[0]
        if status == b"base":
            check_base(batch, self.namespace, int(reply[1]))
            raise base_conflict_error(self.namespace, batch.base or 0, int(reply[1]))
        if status == b"key":
            raise key_conflict_error(reply[1].decode(), int(reply[2]), int(reply[3]))
        if status == b"mark":
            raise checkpoint_conflict_error(reply[1].decode())
        if status == b"pruned":
            raise history_pruned_error(self.namespace, int(reply[1]), int(reply[2]))

    def _adopt(self) -> None:
        """Take in the older layout: strings `state:NS:KEY` and `checkpoint:NS:NAME`, which stay where they are."""
        live = self._older(f"state:{self.namespace}:")
        states = self._older(f"checkpoint:{self.namespace}:")
        if not live and not states:
            return
        if self.read_only:
            raise ReadOnly(f"{self.url}: {self.namespace!r} is of an older layout", "Open it once for writing")
        batches: list[CommitRequest] = []
        before: dict[str, bytes] = {}
        previous = ""
        parsed = {check_checkpoint(name): self._parse(text, f"checkpoint {name}") for name, text in states.items()}
        present = {check_key(key): self._parse(text, f"entry {key}") for key, text in live.items()}
        for label, content in [*sorted(parsed.items()), ("", present)]:
            data = {check_key(key): codec.encode(value) for key, value in content.items()}
            writes = {key: Write(None) for key in before.keys() - data.keys()}
            writes |= {key: Write(value) for key, value in data.items() if before.get(key) != value}
            marks = (CheckpointWrite(previous, "adopted"),) if previous else ()
            reason = f"adopted checkpoint {label}" if label else "adopted from an older layout"
            base = sum(1 for batch in batches if batch.writes)
            batches.append(CommitRequest(writes, base=base, reason=reason, marks=marks, token=secrets.token_hex(8)))
            previous, before = label, data
        self._registry(lambda client: client.sadd(REGISTRY, self.namespace))

        def act(client: Any) -> Any:
            if not isinstance(client, redis.Redis):  # a cluster: its own pipelines take no scripts
                client = client.get_redis_connection(client.get_node_from_key(self._keys[0]))
            pipe = client.pipeline(transaction=True)
            for batch in batches:
                pipe.eval(scripts.COMMIT, len(self._keys), *self._keys, *self._commit_args(batch, (b"", b""), new=True))
            return pipe.execute()

        self._with_retry(act, commit=True)

    def _older(self, prefix: str) -> dict[str, bytes]:
        """Return the strings under a prefix, as far as a short look finds them."""
        pattern = escape_match(prefix) + "*"

        def act(client: Any) -> dict[str, bytes]:
            deadline = time.monotonic() + ADOPT_SECONDS
            found = {}
            for name in client.scan_iter(match=pattern, count=5000, _type="string"):
                value = client.get(name)
                if value is not None:
                    found[name[len(prefix) :].decode()] = value
                if time.monotonic() > deadline:
                    break
            return found

        return self._with_retry(act)

    def _parse(self, text: bytes, what: str) -> Any:
        try:
            return codec.parse_strict(text.decode())
        except (ValueError, RecursionError) as error:
            said = f"{self.url}: the older {what[:80]} is not valid JSON: {error}"
            raise Damaged(said, NOTHING_CHANGED) from error

    # --- upkeep ------------------------------------------------------------------------------------------------

    def compact(self, floor: int, progress: ProgressCount | None = None) -> int:
        """See `Backend.compact`. In steps, so that the server answers others meanwhile."""
        from .maintenance import compact

        self._check_writable()
        return compact(self, floor, progress)

    def superseded(self, after: tuple[str, int] = ("", 0), limit: int = 1000) -> list[SupersededVersion]:
        from .maintenance import past

        return past(self, after, limit)

    def disk_usage(self, gone: Iterable[tuple[str, int]] = ()) -> DiskUsage | None:  # noqa: ARG002
        """See `Backend.disk_usage`. One round trip a key."""
        from .maintenance import space

        self._handshake()
        return space(self)

    def drop(self) -> None:
        self._check_writable()
        self._with_retry(lambda client: client.unlink(*self._keys))
        self._registry(lambda client: client.srem(REGISTRY, self.namespace))
        if self._tracking is not None:
            self._tracking.forget()

    def _entries(self) -> Iterator[tuple[bytes, bytes]]:
        """All that lies in `live`, as it is, some of it twice."""
        cursor = 0
        while True:
            cursor, entries = self._with_retry(
                lambda client, at=cursor: client.hscan(self._keys[1], at, count=KEYS_PER_READ)  # type: ignore[misc]
            )
            yield from entries.items()
            if not cursor:
                return

    @contextmanager
    def open_recovery(self) -> Iterator[RecoverySession]:
        """See `Backend.open_recovery`. Others may write meanwhile: there is no lock."""
        from .recovery import RedisRecovery

        self._check_writable()
        yield RedisRecovery(self)

    def diagnose(self, progress: ProgressText) -> Iterator[Finding]:
        from .doctor import examine

        return examine(self, progress)


_shas: dict[str, str] = {}


def _sha(script: str) -> str:
    if script not in _shas:
        _shas[script] = sha1(script.encode(), usedforsecurity=False).hexdigest()
    return _shas[script]
