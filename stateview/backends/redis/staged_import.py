"""The staged import of a Redis namespace: a copy of another namespace while it is built.

The staged data is a namespace under a longer prefix, `stateview:{NS}:migrating:`, in the same slot. One script renames
its keys at the end. Two more keys belong to the import. `lock` expires if the process is killed. The hash `receiver`
holds the note of the last `put`, and the token of the last import that acquired the lock. Only that import may write.
"""

from __future__ import annotations

import os
import secrets
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import redis
from redis.exceptions import ResponseError

from ...errors import Conflict
from ...model import Commit, to_micros
from ..conflicts import check_same_keyring, destination_exists_error, staging_locked_error
from ..deltas import CarriedVersion, Delta, may_be_packed
from ..files.staging import ASIDE
from ..processes import host_id, is_gone, started
from ..protocol import Backend, CheckpointRecord, Head, StoredVersion
from ..stored_values import StoredValues
from . import packing
from .connections.client import encode_bulk
from .connections.contact import REGISTRY
from .maintenance import merge_pages
from .scripts.common import KINDS, NAMES
from .scripts.transfer import ACQUIRE, FINISH, FORGET, RECORD, RELEASE
from .server_checks import refuse_eviction

if TYPE_CHECKING:
    from .backend import RedisBackend

LEASE_SECONDS = 120  # after so long without a `put`, another import may take over
MEMBERS_PER_COMMAND = 1000  # a command that runs long keeps all other clients waiting
WRITES_PER_COMMAND = 10_000

_PAIR = b"$%d\r\n%b\r\n$%d\r\n%b\r\n"  # two words in the server's protocol
_MEMBER = b"$1\r\n0\r\n$%d\r\n%b\r\n"  # the score 0, and a member
_Command = tuple[int, bytes]  # the number of its words, and the words in the server's protocol


class RedisStagedImport:
    """A staged import, see `StagedImport`.

    Another import may take over after `LEASE_SECONDS` without a `put`, or as soon as it sees that the process of this
    import has ended.
    """

    def __init__(self, backend: RedisBackend) -> None:
        self._backend = backend
        self._token = f"{secrets.token_hex(16)}@{_process_identity()}"
        self._reader = backend._sibling("migrating:")
        self._unfinished = self._reader.examined()  # reads the staged data while it has no head
        self._unfinished._ready = True
        self._keys = self._reader._keys
        self._lock_keys = [self._reader._prefix + "receiver", self._reader._prefix + "lock"]
        backend._check_open()
        if not backend._with_retry(lambda client: client.exists(backend._keys[0])):
            refuse_eviction(backend)
        self._settled: Head | None = None  # the head that was written last, if no `put` came since
        holder = self._eval(ACQUIRE, self._lock_keys, self._token, LEASE_SECONDS, "")
        if holder and _has_ended(holder[0].decode()):
            holder = self._eval(ACQUIRE, self._lock_keys, self._token, LEASE_SECONDS, holder[0])
        self._open = not holder
        if holder:
            hint = f"Wait until it ends, or end its process; if it was killed, another copy can begin in {holder[1]} s"
            raise staging_locked_error(backend.url, backend.namespace, hint)
        self._upgrade()
        self._start_sealing()

    def _upgrade(self) -> None:
        """Take over what an earlier release has staged."""
        writes, touched = (self._keys[NAMES.index(name)] for name in ("writes", "touched"))
        if self._backend._with_retry(lambda client: client.type(touched)) == b"zset":
            self._backend._with_retry(lambda client: client.renamenx(touched, writes))

    def _start_sealing(self) -> None:
        """Take over the keyring of the namespace or of what is staged already, or make one if a key was given."""
        backend, receiver = self._backend, self._lock_keys[0]
        document = backend.keyring() or backend._with_retry(lambda client: client.hget(receiver, "keyring"))
        if document is None and (document := backend._given.new_keyring()) is not None:
            backend._with_retry(lambda client: client.hset(receiver, "keyring", document))
        self._keyring = document
        self._unfinished._use_keyring(document)
        self._values = self._unfinished.values
        self._values.check_open()

    def progress(self) -> dict[str, Any] | None:
        note = self._backend._with_retry(lambda client: client.hget(self._lock_keys[0], "note"))
        return None if note is None else msgspec.json.decode(note, type=dict[str, Any])

    def put(
        self, versions: Iterable[StoredVersion] = (), commits: Iterable[Commit] = (),
        marks: Iterable[CheckpointRecord] | None = None, *,
        note: dict[str, Any], forget: Iterable[str] = (),
    ) -> None:  # fmt: skip
        """Send one transaction of plain commands with many members each."""
        self._settled = None
        versions = list(versions)
        names = dict(zip(NAMES, map(str.encode, self._keys), strict=True))
        forgotten = [key.encode() for key in forget]
        words = [b"EVAL", FORGET.encode(), b"%d" % len(self._keys), *names.values()]
        commands = [
            _command([*words, *forgotten[start : start + MEMBERS_PER_COMMAND]])
            for start in range(0, len(forgotten), MEMBERS_PER_COMMAND)
        ]
        commands += _version_commands(names, versions, self._values)
        records = [b"HSET", names["commits"]]
        for commit in map(self._values.pack_commit, commits):
            fields = [commit.reason, commit.author, commit.keys, commit.position, commit.forward, commit.behind]
            records += (b"%d" % commit.revision, b"%d " % to_micros(commit.time) + msgspec.json.encode(fields))
        receiver, lock = (name.encode() for name in self._lock_keys)
        others = [
            records,
            *([] if marks is None else _mark_commands(names, map(self._values.pack_mark, marks))),
            [b"HSET", receiver, b"note", msgspec.json.encode(note, enc_hook=int)],
            [b"SET", lock, self._token.encode(), b"EX", b"%d" % LEASE_SECONDS],
        ]
        self._run([*commands, *(_command(words) for words in others if len(words) > 2)])
        for key in _keys_to_pack(versions):
            packing.tend(self._unfinished, key, packing.NEWEST)

    def staged(self, head: Head) -> Backend:
        """Return the reader of the staged data. O(1), and O(what the source has pruned meanwhile)."""
        self._settle(head)
        return self._reader

    def finish(self, head: Head, over: bool = False) -> str:
        """Rename the keys. The former namespace is kept under another prefix in the same slot.

        Raises:
            NotReplicated: the keys are renamed, but too few replicas have confirmed it.

        """
        backend = self._backend
        self._settle(head)
        backend.head()  # converts data of an older layout
        check_same_keyring(backend.keyring(), self._keyring, backend.namespace)
        aside = f"{backend._prefix}{ASIDE}{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{self._token[:4]}:"
        keys = [*self._lock_keys, *self._keys, *backend._keys, *(aside + name for name in NAMES)]
        if isinstance(backend._connect(), redis.Redis):
            keys.append(REGISTRY)
        else:  # a cluster may keep it in another slot
            backend._with_retry(lambda client: client.sadd(REGISTRY, backend.namespace))
        (status, *detail), replicas = self._rename(keys, over)
        if status == b"taken":
            raise destination_exists_error(backend.url, backend.namespace, int(detail[0]))
        if status == b"lost":
            raise self._lost_error()
        backend._begin_anew()
        backend._forget_reads()
        backend._learn_keyring()
        self._open = False
        self._reader.close()
        merge_pages(backend)
        if replicas is not None:
            backend._check_replicas(head.revision, replicas)
        return f"{aside}*" if detail[0] else ""

    def _rename(self, keys: list[str], over: bool) -> tuple[Any, Any]:
        """Run FINISH. Return its reply, and how many replicas have confirmed it; None if none are asked for."""
        options = self._backend.options
        arguments = [len(keys), *keys, self._token, int(over), self._backend.namespace]
        if not options.wait_replicas:
            return self._backend._with_retry(lambda client: client.eval(FINISH, *arguments)), None

        def act(client: Any) -> list[Any]:
            if not isinstance(client, redis.Redis):  # WAIT waits for the writes of its own connection
                client = client.get_redis_connection(client.get_node_from_key(self._keys[0]))
            pipe = client.pipeline(transaction=False)
            pipe.eval(FINISH, *arguments)
            pipe.wait(options.wait_replicas, max(1, int(options.wait_timeout * 1000)))
            replies: list[Any] = pipe.execute(raise_on_error=False)
            if isinstance(replies[0], Exception):
                raise replies[0]
            return replies

        reply, replicas = self._backend._with_retry(act)
        return reply, replicas

    def drop(self) -> None:
        self._release(remove=True)

    def close(self) -> None:
        self._release(remove=False)

    def _release(self, remove: bool) -> None:
        if self._open:
            self._open = False
            self._reader.close()
            self._eval(RELEASE, [*self._lock_keys, *self._keys], self._token, int(remove))

    def _lost_error(self) -> Conflict:
        backend = self._backend
        message = f"another copy has taken over the staged data of namespace {backend.namespace!r} of {backend.url}"
        return Conflict(message, "This copy sent nothing for too long, or was closed; run it again")

    # --- calls -------------------------------------------------------------------------------------------------

    def _eval(self, script: str, keys: list[str], *arguments: Any) -> Any:
        return self._backend._with_retry(lambda client: client.eval(script, len(keys), *keys, *arguments))

    def _run(self, commands: list[_Command]) -> None:
        """Run commands as one transaction, if this import still holds the staged data."""
        packed = b"".join([b"*%d\r\n%b" % command for command in commands])
        self._backend._with_retry(lambda client: self._send(client, packed, len(commands)))

    def _send(self, client: Any, packed: bytes, count: int) -> None:
        if not isinstance(client, redis.Redis):
            client = client.get_redis_connection(client.get_node_from_key(self._keys[0]))
        pool = client.connection_pool
        connection = pool.get_connection()
        try:
            connection.send_command("WATCH", self._lock_keys[0])
            connection.read_response()
            connection.send_command("HGET", self._lock_keys[0], "owner")
            if connection.read_response() != self._token.encode():
                raise self._lost_error()
            connection.send_packed_command([b"*1\r\n$5\r\nMULTI\r\n", packed, b"*1\r\n$4\r\nEXEC\r\n"])
            for _ in range(count + 1):
                connection.read_response()
            replies = connection.read_response()
            if replies is None:
                raise self._lost_error()
            for reply in replies:
                if isinstance(reply, ResponseError):
                    raise reply
        except BaseException:
            connection.disconnect()  # replies may still come
            raise
        finally:
            pool.release(connection)

    # --- the head ----------------------------------------------------------------------------------------------

    def _settle(self, head: Head) -> None:
        """Write the head, and remove the writes and commits that it makes unreachable."""
        if self._settled == head:
            return
        names = dict(zip(NAMES, self._keys, strict=True))
        fields = {
            "revision": head.revision, "time": head.time, "floor": head.floor, "lineage": head.lineage,
            "touch": self._token,
        }  # fmt: skip
        words = [str(word).encode() for field in fields.items() for word in field]
        if self._keyring is not None:
            words += (b"keyring", self._keyring)
        stored_format = b"4" if self._keyring is None else b"5"
        head_key, touched_key = names["head"].encode(), names["touched"].encode()
        self._run([
            _command([b"HSET", head_key, *words, b"format", stored_format]),
            _command([b"HSET", touched_key, b"format", b"4"]),
        ])  # fmt: skip
        oldest = self._backend._with_retry(lambda client: client.zrange(names["marks"], 0, 0, withscores=True))
        self._remove_writes(names["writes"], min([head.floor, *(int(revision) for _, revision in oldest)]))
        if head.floor:
            self._remove_commits(names["commits"], head.floor)
        self._eval(RECORD, self._keys)
        self._settled = head

    def _remove_writes(self, name: str, revision: int) -> None:
        """Remove the writes of all revisions up to this one. Each page of a stage has a single member."""
        end = f"({revision + 1:016}"
        while count := self._backend._with_retry(lambda client: client.zlexcount(name, "-", end)):
            last = min(count, WRITES_PER_COMMAND) - 1
            self._backend._with_retry(lambda client, last=last: client.zremrangebyrank(name, 0, last))  # type: ignore[misc]

    def _remove_commits(self, name: str, revision: int) -> None:
        """Remove the commits of all revisions up to this one."""
        cursor = 0
        while True:
            cursor, page = self._backend._with_retry(
                lambda client, at=cursor: client.hscan(name, at, count=MEMBERS_PER_COMMAND)  # type: ignore[misc]
            )
            if old := [number for number in page if int(number) <= revision]:
                self._backend._with_retry(lambda client, old=old: client.hdel(name, *old))  # type: ignore[misc]
            if not cursor:
                return


# --- the process of an import ------------------------------------------------------------------------------------


def _host() -> str:
    """Return a text that two processes share only if each can see the other by its id; "" if that is not known.

    The stored form is that of earlier releases: the boot, and the link of the namespace of process ids.
    """
    boot, _, process_ids = host_id().partition("/")
    return f"{boot}/pid:[{process_ids}]" if process_ids else ""


def _process_identity() -> str:
    """Return a text that no other process has or will have; "" if the system does not tell."""
    host, process = _host(), os.getpid()
    return f"{host}/{process}/{started(process)}" if host else ""


def _has_ended(token: str) -> bool:
    """Return whether the process of an import is known to have ended: it ran on this machine, in this container."""
    host, _, process = token.partition("@")[2].rpartition("/")[0].rpartition("/")
    return bool(host) and host == _host() and is_gone(int(process), token.rpartition("/")[2])


# --- commands ----------------------------------------------------------------------------------------------------


def _command(words: list[bytes]) -> _Command:
    return len(words), encode_bulk(words)


def _version_commands(
    names: dict[str, bytes], versions: Sequence[StoredVersion], values: StoredValues
) -> list[_Command]:
    """Return the commands that add versions: one for each key of the stage, of members in the server's protocol."""
    members: dict[str, list[bytes]] = {
        name: [] for name in ("live", "index", "expiry", "history", "hindex", "hexpiry", "writes")
    }
    live, index, expiry, history, hindex, hexpiry, writes = members.values()
    deltas = _usable_deltas(versions)
    references = Counter((key, delta.base) for (key, _), delta in deltas.items() if delta.base)
    for version in versions:
        key, revision, expires = version.key.encode(), version.revision, version.expires
        stored = None if version.value is None else values.pack(version.value, version.key, version.revision)
        size = len(key)
        writes.append(b"$1\r\n0\r\n$%d\r\n%016d%b\r\n" % (size + 16, revision, key))
        if stored is not None and not version.until:
            packed = b"%d %d %d %b" % (revision, version.time, expires, stored)
            live.append(_PAIR % (size, key, len(packed), packed))
            index.append(_MEMBER % (size, key))
            if expires:
                expiry.append(encode_bulk([b"%d" % expires, key]))
            continue
        field = b"%b\0%016d" % (key, revision)
        place = version.key, revision
        record = _past_record(version, stored, deltas.get(place), references[place], values)
        history.append(_PAIR % (len(field), field, len(record), record))
        hindex.append(_MEMBER % (len(field), field))
        if expires:
            hexpiry.append(encode_bulk([b"%d" % expires, field]))
    commands: list[_Command] = []
    for name, added in members.items():
        if added:
            start = encode_bulk([b"HSET" if name in ("live", "history") else b"ZADD", names[name]])
            commands.append((2 + 2 * len(added), start + b"".join(added)))
    return commands


def _usable_deltas(versions: Sequence[StoredVersion]) -> dict[tuple[str, int], Delta]:
    """Return the deltas that come with versions and are relative to one of the superseded versions, or to none."""
    past = {(version.key, version.revision) for version in versions if version.until}
    return {
        (version.key, version.revision): delta
        for version in versions
        if isinstance(version, CarriedVersion)
        and (delta := version.delta) is not None
        and (not delta.base or (version.key, delta.base) in past)
    }


def _past_record(
    version: StoredVersion, stored: bytes | None, delta: Delta | None, references: int, values: StoredValues
) -> bytes:
    """Return what is stored of a superseded version. `references` counts the deltas that are relative to it."""
    start = b"%d %d %d " % (version.until, version.time, version.expires)
    if stored is None:
        return start + b"D"
    if delta is not None:
        data = values.pack_delta(delta.data, version.key, version.revision, delta.base)
        return b"*%bP%d %d %d %d %b" % (start, references, delta.base, delta.place, delta.size, data)
    return b"*%bW%d 0 0 %d %b" % (start, references, len(stored), stored) if references else start + b"V" + stored


def _keys_to_pack(versions: Iterable[StoredVersion]) -> list[bytes]:
    """Return the keys of which several superseded versions are large."""
    counts = Counter(version.key for version in versions if may_be_packed(version))
    return [key.encode() for key, count in counts.items() if count > 1]


def _mark_commands(names: dict[str, bytes], marks: Iterable[CheckpointRecord]) -> list[list[bytes]]:
    """Return the commands that replace the checkpoints of the stage."""
    revisions, notes = [b"ZADD", names["marks"]], [b"HSET", names["notes"]]
    counts: dict[str, int] = {}
    for mark in marks:
        member = f"{mark.name}@{mark.revision}".encode()
        revisions += (b"%d" % mark.revision, member)
        counts[mark.name] = counts.get(mark.name, 0) + 1
        order = sum(counts.values())
        notes += (member, b"%d %d %d %b" % (order, mark.time, KINDS.index(mark.kind), mark.note.encode()))
    for name, count in counts.items():
        notes += (b"name:" + name.encode(), b"%d" % count)
    if counts:
        notes += (b"sequence", b"%d" % sum(counts.values()))
    return [[b"DEL", names["marks"], names["notes"]], revisions, notes]
