"""A snapshot of a small namespace: a copy in memory, read in one transaction of the server."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from itertools import islice
from typing import TYPE_CHECKING, Any

import redis

from ...model import Commit
from ..conflicts import history_pruned_error
from ..protocol import PAGE_BYTES, CheckpointRecord, Head, StateAt, StoredVersion, Version
from .connections.contact import NEWEST_FORMAT, SEALED_FORMATS
from .maintenance import measure
from .overview import read_many
from .packing import pieces_of, unpacked_bytes, without_delta
from .scripts.common import unreadable_head
from .scripts.read import MISSING
from .scripts.transfer import COPY
from .transfer import parse_versions

if TYPE_CHECKING:
    from .reader import Reader

MAX_RECORDS = 20_000  # entries, versions and commits: reading more at once would keep other clients waiting
MAX_BYTES = 16_000_000
MANY_RECORDS, MANY_BYTES, MANY = 1000, 256_000, 100  # of each namespace, and how many namespaces are read at once


def take(reader: Reader) -> Snapshot | None:
    """Copy a namespace; None if it is too large, is not there, or its parts do not fit together."""
    head, live, _, _, history, _, _, _, commits, _, notes, *_ = reader._keys
    counts, sizes = measure(reader, (live, history, commits), (live, history))
    if sizes is None or sum(counts) > MAX_RECORDS or max(sizes) > MAX_BYTES:
        return None

    def read(client: Any) -> list[Any]:
        if not isinstance(client, redis.Redis):  # a cluster: its own pipelines take no scripts
            client = client.get_redis_connection(client.get_node_from_key(head))
        pipe = client.pipeline(transaction=True)
        for key in (head, live, history, commits, notes):
            pipe.hgetall(key)
        name = "EVAL_RO" if reader._reads_only(MISSING) else "EVAL"
        pipe.execute_command(name, MISSING, len(reader._keys), *reader._keys)
        return list(pipe.execute())

    fields, entries, past, records, marks, missing = reader._with_retry(read)
    if not fields or unreadable_head(fields) or missing or sum(map(unpacked_bytes, past.values())) > MAX_BYTES:
        return None
    return Snapshot(reader, fields, [*entries.items(), *past.items()], records, marks)


def take_many(backend: Reader, names: Sequence[str]) -> Iterator[Snapshot | None]:
    """Yield a copy of each namespace, see `CopiesNamespaces`. A round trip for each hundred namespaces."""
    backend._handshake()
    for start in range(0, len(names), MANY):
        page = names[start : start + MANY]
        replies = read_many(backend, page, COPY, MANY_RECORDS, MANY_BYTES)
        for name, reply in zip(page, replies, strict=True):
            yield _made(_of_namespace(backend, name), *reply) if isinstance(reply, list) else None


def _made(reader: Reader, sizes: bytes, words: bytes) -> Snapshot | None:
    """Return the copy of a namespace; None if it is to be opened by itself, since it is sealed or damaged."""
    fields, entries, past, records, marks = _hashes(sizes, words)
    stored = fields.get(b"format", b"0")
    if unreadable_head(fields) or b"keyring" in fields or stored in SEALED_FORMATS or int(stored) > NEWEST_FORMAT:
        return None
    if sum(map(unpacked_bytes, past.values())) > MAX_BYTES:
        return None
    reader._choose_values(fields)
    return Snapshot(reader, fields, [*entries.items(), *past.items()], records, marks)


def _of_namespace(backend: Reader, name: str) -> Reader:
    """Return a backend of another namespace, for reads without a cache. It uses the same connections."""
    other = copy(backend)
    other.namespace = name
    other._known = type(backend._known)()
    other._link = type(backend._link)()
    other._link.client = backend._link.client
    other._ready = True
    other._set_prefix(f"stateview:{{{name}}}:")
    return other


def _hashes(sizes: bytes, words: bytes) -> Iterator[dict[bytes, bytes]]:
    """Yield the hashes that the script COPY returns."""
    numbers = iter(map(int, sizes.split()))
    start = 0
    for count in numbers:
        found = []
        for size in islice(numbers, count):
            found.append(words[start : start + size])
            start += size
        yield dict(zip(found[::2], found[1::2], strict=True))


class Snapshot:
    """The reads of a backend, of a copy. What only the server can answer, it answers."""

    def __init__(
        self, reader: Reader, fields: dict[bytes, bytes], versions: list[tuple[bytes, bytes]],
        commits: dict[bytes, bytes], marks: dict[bytes, bytes],
    ) -> None:  # fmt: skip
        self._reader = reader
        numbers = (int(fields.get(name, b"0")) for name in (b"revision", b"time", b"floor"))
        self._revision, self._time, self._floor = numbers
        self._lineage = fields[b"lineage"].decode()
        chain = pieces_of(reader, [part for pair in versions for part in pair])
        pairs = ((reader._key(name), without_delta(packed).decode()) for name, packed in versions)
        self._all = sorted(parse_versions(reader, pairs, chain), key=lambda version: (version.key, version.revision))
        self._places = [(version.key, version.revision) for version in self._all]
        found = [reader._commit(name, record) for name, record in commits.items()]
        kept = [commit for commit in found if self._floor < commit.revision <= self._revision]
        self._commits = sorted(kept, key=lambda commit: -commit.revision)
        self._marks = reader._checkpoints(marks)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)

    def head(self) -> Head:
        live = StateAt(self._revision, self._reader.now())
        count = sum(1 for version in self._all if not version.until and version.visible(live.time))
        return Head(self._revision, self._time, count, self._floor, self._lineage)

    def marks(self) -> list[CheckpointRecord]:
        return list(self._marks)

    def marks_of(self, name: str) -> list[CheckpointRecord]:
        return [mark for mark in self._marks if mark.name == name]

    def commits(self, limit: int = 100, below: int = 0) -> list[Commit]:
        start = bisect_left(self._commits, 1 - below, key=lambda commit: -commit.revision) if below else 0
        return self._commits[start : start + limit]

    def versions(self, key: str, limit: int = 100, below: int = 0) -> list[Version]:
        start, end = bisect_left(self._places, (key, 0)), bisect_left(self._places, (key, below or 1 << 62))
        return [_plain(version) for version in reversed(self._all[start:end])][:limit]

    def versions_page(
        self, after: tuple[str, int] = ("", 0), limit: int = 1000, keys: Iterable[str] | None = None
    ) -> list[StoredVersion]:
        wanted = None if keys is None else set(keys)
        page: list[StoredVersion] = []
        size = 0
        for index in range(bisect_right(self._places, after), len(self._all)):
            version = self._all[index]
            if wanted is None or version.key in wanted:
                page.append(version)
                size += len(version.value or b"")
                if len(page) >= limit or size >= PAGE_BYTES:
                    break
        return page

    def changed_keys(self, low: StateAt, high: StateAt) -> list[str]:
        self._check_kept(low)
        self._check_kept(high)
        before, after = sorted((low.time, high.time))
        return sorted({
            version.key for version in self._all
            if low.revision < version.revision <= high.revision or before < version.expires <= after
        })  # fmt: skip

    def get(self, key: str) -> Version | None:
        return self.read([key]).get(key)

    def read(self, keys: Iterable[str], at: StateAt | None = None) -> dict[str, Version]:
        at = self._state(at)
        found = {}
        for key in keys:
            place = bisect_right(self._places, (key, at.revision)) - 1
            if place >= 0 and self._all[place].key == key and self._shows(self._all[place], at):
                found[key] = _plain(self._all[place])
        return found

    def scan(self, prefix: str = "", after: str = "", limit: int = 1000, at: StateAt | None = None) -> list[Version]:
        at = self._state(at)
        page: list[Version] = []
        for index in range(bisect_left(self._places, (max(prefix, after + "\0" if after else ""), 0)), len(self._all)):
            version = self._all[index]
            if len(page) >= limit or not version.key.startswith(prefix):
                break
            if self._shows(version, at):
                page.append(_plain(version))
        return page

    def _state(self, at: StateAt | None) -> StateAt:
        if at is None:
            return StateAt(self._revision, self._reader.now())
        self._check_kept(at)
        return at

    def _check_kept(self, at: StateAt) -> None:
        revision = at.revision
        if revision < self._floor and all(mark.revision != revision for mark in self._marks):
            raise history_pruned_error(self._reader.namespace, revision, self._floor)
        if revision > self._revision:
            raise history_pruned_error(self._reader.namespace, revision, self._floor)

    def _shows(self, version: StoredVersion, at: StateAt) -> bool:
        superseded = version.until and version.until <= at.revision
        return version.revision <= at.revision and not superseded and version.visible(at.time)


def _plain(version: StoredVersion) -> Version:
    return Version(version.key, version.value, version.revision, version.time, version.expires)
