"""Read a namespace of a Redis server."""

from __future__ import annotations

import time
from abc import ABC
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import msgspec

from ...arguments import Revision
from ...errors import Damaged, Sealed, run
from ...model import Commit, now, to_datetime
from ..conflicts import history_pruned_error
from ..deltas import Chain, Delta
from ..key_ranges import encodable_bound, key_range
from ..large_rows import LARGE_ROW_BYTES, LargeRowCache
from ..protocol import (
    SUMMARY_BYTES,
    Backend,
    Changes,
    CheckpointRecord,
    DiskUsage,
    Head,
    KeySummary,
    NamespaceNumbers,
    StateAt,
    StoredVersion,
    StoreIdentity,
    SupersededVersion,
    Version,
)
from ..stored_values import SEALED_START, SEALED_TEXT_START, StoredValues
from . import packing
from .connections.client import server_of
from .connections.contact import REGISTRY, Contact
from .scripts import read as read_scripts
from .scripts.common import KINDS

KEYS_PER_READ = 1000  # keys of one script: a script that runs long keeps all other clients waiting
KEYS_PER_COMPARISON = 64  # that are read together with the list of changed keys
TOUCHES_PER_READ = 10_000  # the limit in the script CHANGED
WHOLE_VALUE_BYTES = 1 << 40  # more than any value has: a script then returns values whole
POLL_SECONDS = 0.2  # between two looks at the revision where the server announces no commits
MAX_SLEEP_SECONDS = 1.0  # of waiting for an announcement; then the revision is read anyway
ENDLESS = 1 << 52  # more than any number of keys, and above every revision
LIVE = -1  # stands for the revision of the live state in the arguments of scripts

P = ParamSpec("P")
T = TypeVar("T")


def _rereads(read: Callable[Concatenate[Any, P], T]) -> Callable[Concatenate[Any, P], T]:
    """Let a method read again for as long as another client has changed the keyring since it began."""

    @wraps(read)
    def reread(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> T:
        if self.values.error is not None:  # it lists what it cannot open without an error
            self._learn_keyring()
        while True:
            known, values = self._keyring, self.values
            try:
                return read(self, *args, **kwargs)
            except (Damaged, Sealed):
                if self._knows_keyring(known) and self.values is values:  # another thread may have begun a namespace
                    raise

    return reread


class Reader(Contact, ABC):
    """The reading half of a backend. Each method makes one round trip, unless its docstring says otherwise."""

    def __init__(
        self, address: str, shown: str, namespace: str, read_only: bool, history: int, timeout: float | None,
        values: StoredValues, chosen: dict[str, Any],
    ) -> None:  # fmt: skip
        super().__init__(address, shown, namespace, read_only, history, timeout, values, chosen)
        self._large_rows = LargeRowCache()
        self._known = packing.KnownValues()
        self._revision: int | None = None  # the last one that a sealed commit can count from

    # --- the namespace -----------------------------------------------------------------------------------------

    def identity(self) -> StoreIdentity:
        """Make two round trips. A replica has the identity of its primary."""
        head = self._with_retry(lambda client: client.hgetall(self._keys[0]))
        revision = head.get(b"revision", b"")
        server = self._with_retry(lambda client: server_of(client, self._keys[0]))
        return StoreIdentity(server, int(revision) if revision.isdigit() else 0, tuple(sorted(head.items())))

    def now(self) -> int:
        """Return the time of the server's clock, by its difference to the local clock at the first contact."""
        self._handshake()
        return now() + self._skew

    def head(self) -> Head:
        revision, moment, count, floor, lineage, _ = self._eval(read_scripts.HEAD)
        self._revision = int(revision)
        return Head(Revision(int(revision), int(moment)), int(moment), int(count), int(floor), lineage.decode())

    def history_format(self) -> int:
        """Make one round trip."""
        self._handshake()
        stored = int(self._with_retry(lambda client: client.hget(self._keys[0], "format")) or 0)
        return min(stored, 2)  # 3: the same history, sealed

    def namespaces(self) -> list[str]:
        self._handshake()
        names = self._registered()
        is_missing = self.namespace not in names and self._with_retry(lambda client: client.exists(self._keys[0]))
        if is_missing and self.namespace not in (names := self._registered()):  # not of a first commit meanwhile
            raise Damaged(f"{self.url}: {REGISTRY}, the list of namespaces, lacks {self.namespace!r}", run("recover"))
        return sorted(names)

    def numbers(self, names: Sequence[str]) -> Iterator[NamespaceNumbers | None]:
        from .overview import numbers

        return numbers(self, names)

    def _registered(self) -> set[str]:
        return {name.decode() for name in self._registry(lambda client: client.smembers(REGISTRY))}

    def wait(self, revision: int, timeout: float) -> int:
        """Sleep until the server announces a commit. Poll where the server does not announce commits."""
        deadline = time.monotonic() + timeout
        while True:
            self._handshake()
            tracking = self._link.tracking
            generation = tracking.generation() if tracking is not None else None
            current = self.head().revision
            left = deadline - time.monotonic()
            if current > revision or left <= 0:
                return current
            if tracking is None or generation is None:
                time.sleep(min(left, POLL_SECONDS))
            else:
                tracking.sleep(min(left, MAX_SLEEP_SECONDS), generation)

    # --- values ------------------------------------------------------------------------------------------------

    def get(self, key: str) -> Version | None:
        """Make no round trip for a key that was read before, if no commit came since.

        The answer may be `max_stale` seconds old where it was read before. It is not older than any answer before, nor
        than a commit of this process. With `consistency="strict"` each call makes a round trip.
        """
        self._handshake()
        tracking = self._link.tracking
        cached = tracking.get(key) if tracking is not None else None
        version = self._fetch(key) if cached is None else cached[0]
        if version is not None and version.expires and not version.visible(now() + self._skew):
            return None
        return version

    @_rereads
    def _fetch(self, key: str) -> Version | None:
        """Read an entry from the server, and cache it."""
        tracking = self._link.tracking
        generation = tracking.generation() if tracking is not None and self.options.consistency == "cached" else None
        answer, entry = self._ask(read_scripts.GET, key)
        version = None if entry is None else self._version(key, entry)
        if version is not None:
            self._known.put(key, version.revision, version.time, version.value)
        if tracking is not None and generation is not None:
            tracking.put(key, version, answer, generation)
        return version

    def read(self, keys: Iterable[str], at: StateAt | None = None) -> dict[str, Version]:
        """Make a round trip for each thousand keys. Without `at`, each thousand keys are of one state."""
        wanted = list(keys)
        versions: dict[str, Version] = {}
        for start in range(0, len(wanted), KEYS_PER_READ):
            versions.update(self._read_some(wanted[start : start + KEYS_PER_READ], at))
        return versions

    @_rereads
    def _read_some(self, keys: list[str], at: StateAt | None) -> dict[str, Version]:
        revision, moment = _arguments(at)
        known = {} if at is None else self._known.values_of(keys)
        names = [f"{key}\0{known[key][0]:016}" if key in known else key for key in keys]
        reply = self._eval(read_scripts.READ, revision, moment, *names)
        self._check_kept(reply, revision)
        return self._versions(reply[1], reply[2:], known)

    @_rereads
    def scan(self, prefix: str = "", after: str = "", limit: int = 1000, at: StateAt | None = None) -> list[Version]:
        """Make a round trip for each thousand keys passed over."""
        page: list[Version] = []
        revision, moment = _arguments(at)
        while len(page) < limit:
            size = max(16, min(KEYS_PER_READ, limit - len(page)))
            reply = self._eval(read_scripts.SCAN, prefix, after, size, revision, moment)
            self._check_kept(reply, revision)
            page += self._versions(reply[2], reply[3:]).values()
            after = reply[1].decode()
            if not after:
                break
        return page[:limit]

    def _versions(
        self, pieces: list[bytes], flat: list[bytes], known: Mapping[str, tuple[int, bytes]] | None = None
    ) -> dict[str, Version]:
        """Parse a reply of keys and their entries, in turn, with the pieces of linked versions."""
        names = map(self._key, flat[::2])
        chain = packing.pieces_of(self, pieces, is_lone=True, known=known or {})
        return {key: self._version(key, entry, chain) for key, entry in zip(names, flat[1::2], strict=True)}

    @_rereads
    def _entry_version(self, key: str, entry: bytes) -> Version:
        return self._version(key, entry)

    def _version(self, key: str, entry: bytes, chain: Chain | None = None) -> Version:
        """Parse an entry, and unpack its value."""
        if chain is not None and entry[:1] == b"*":
            revision, moment, expires, _ = self._split(key, entry[1:])
            self._link.answers.meet(revision, key)
            return Version(key, packing.value_of(self, chain, key, revision), revision, moment, expires)
        revision, moment, expires, stored = self._split(key, entry)
        self._link.answers.meet(revision, key)
        return Version(key, self._unpacked(stored, key, revision), revision, moment, expires)

    def _unpacked(self, stored: bytes, key: str, revision: int) -> bytes:
        known = self._keyring
        value = self.values.unpack(stored, key, revision)
        if value is stored and stored.startswith(SEALED_START):
            self._check_keyring(known)
        return value

    def _check_keyring(self, known: bytes | None) -> None:
        """Raise an error if another client has changed the keyring: what looks sealed is no value of a user then."""
        if not self._knows_keyring(known):
            raise Damaged(f"{self.url}: the keyring of {self.namespace!r} was changed during a read", "Try again")

    def _split(self, key: str, entry: bytes) -> tuple[int, int, int, bytes]:
        """Return revision, time, expiry and stored value of an entry."""
        try:
            start, text, expires, stored = entry.split(b" ", 3)
            moment = int(text)
            return Revision(int(start), moment), moment, int(expires), stored
        except ValueError as error:
            raise self._damaged(f"the entry {key[:60]!r}") from error

    def _damaged(self, what: str) -> Damaged:
        return Damaged(f"{self.url}: {what} is not what was written", run("recover"))

    def _key(self, name: bytes) -> str:
        try:
            return name.decode()
        except UnicodeDecodeError as error:
            raise Damaged(f"{self.url}: {name[:60]!r} is not a key", run("recover")) from error

    def _check_kept(self, reply: Any, revision: int) -> None:
        """Raise the error for a script's reply that a revision is pruned."""
        if reply[0] == b"pruned":
            raise history_pruned_error(self.namespace, revision, int(reply[-1]))

    # --- lists of keys -----------------------------------------------------------------------------------------

    def list_keys(
        self, prefix: str = "", after: str = "", before: str = "", limit: int = 1000, at: StateAt | None = None,
        skip: int = 0, backwards: bool = False,
    ) -> list[KeySummary]:  # fmt: skip
        """Make a round trip for each thousand keys, or 8 MB of values, which stay on the server if they are plain.

        O(skip) while expired entries are not deleted yet. The server can read a value only whole: O(size) for a value
        of more than a megabyte (0.2 s for 50 MB), in the live state only when it is first listed.
        """
        low, high = key_range(prefix, after, before)
        page: list[KeySummary] = []
        while True:
            skip, last, rows = self._rows(low, high, backwards, skip, limit - len(page), at)
            page += rows
            if not last or len(page) == limit:
                return page[::-1] if backwards else page
            low, high = (low, last) if backwards else (last + "\0", high)

    @_rereads
    def _rows(
        self, low: str, high: str, backwards: bool, skip: int, limit: int, at: StateAt | None
    ) -> tuple[int, str, list[KeySummary]]:
        """Return how many keys are still to be passed over, the key to continue after, and rows of a page."""
        revision, moment = _arguments(at)
        cache = self._large_rows
        cached = [text for row, seen in cache.rows.values() for text in (row.key, row.revision, seen)]
        self._handshake()
        known, values = self._keyring, self.values
        start = SUMMARY_BYTES if values.plain else WHOLE_VALUE_BYTES
        walk = (low, high, int(backwards), skip, min(KEYS_PER_READ, limit), revision, moment, start)
        reply = self._eval(read_scripts.ROWS, *walk, LARGE_ROW_BYTES, cache.lineage, *cached)
        self._check_kept(reply, revision)
        _, left, last, current, floor, lineage, pieces, *flat = reply
        chain = packing.pieces_of(self, pieces)
        head = Head(int(current), 0, 0, int(floor), lineage.decode())
        rows = []
        for name, stored_size, entry in zip(*[iter(flat)] * 3, strict=True):
            key = self._key(name)
            row = cache.find(key, head) if not entry else None
            if row is None:
                row = self._summary(key, stored_size, entry, chain, values)
                if values.plain and row.start.startswith(SEALED_START):
                    self._check_keyring(known)
                if not row.sealed and stored_size > LARGE_ROW_BYTES and revision in (LIVE, head.revision):
                    cache.put(row, head)
            rows.append(row)
        return left, self._key(last), rows

    def _summary(self, key: str, stored_size: int, entry: bytes, chain: Chain, values: StoredValues) -> KeySummary:
        """Summarize an entry. A plain value comes without its end."""
        if values.error is not None:
            revision, moment, expires, _ = self._split(key, entry.removeprefix(b"*"))
            return KeySummary(key, stored_size, b"", int(revision), moment, expires, sealed=True)
        if values.plain and entry[:1] != b"*":
            revision, moment, expires, stored = self._split(key, entry)
            return KeySummary(key, stored_size, stored, int(revision), moment, expires)
        version = self._version(key, entry, chain)
        value = version.value or b""
        return KeySummary(key, len(value), value[:SUMMARY_BYTES], int(version.revision), version.time, version.expires)

    def count(self, low: str = "", high: str = "", at: StateAt | None = None) -> int:
        """Make a round trip for each thousand keys of a past state, or for each 5,000 expired entries not deleted."""
        low, high = encodable_bound(low), encodable_bound(high)
        revision, moment = _arguments(at)
        expired = position = 0
        while position >= 0:
            reply = self._eval(read_scripts.COUNT, low, high, revision, moment, position)
            self._check_kept(reply, revision)
            if reply[0] == b"past":
                return self._count_past(low, high, at)
            _, total, seen, position = reply
            expired += seen
        return int(total - expired)

    def _count_past(self, low: str, high: str, at: StateAt | None) -> int:
        left = ENDLESS
        while True:
            left, last, _ = self._rows(low, high, False, left, 0, at)
            if not last:
                return ENDLESS - left
            low = last + "\0"

    # --- the history -------------------------------------------------------------------------------------------

    def changed_keys(self, low: StateAt, high: StateAt) -> list[str]:
        """Make a round trip for each ten thousand writes."""
        return self._changes(low, high, 0).keys

    def changes(self, low: StateAt, high: StateAt) -> Changes:
        """Make a round trip for each ten thousand writes. Up to 64 keys are read in the same one."""
        return self._changes(low, high, KEYS_PER_COMPARISON)

    @_rereads
    def _changes(self, low: StateAt, high: StateAt, limit: int) -> Changes:
        keys: set[bytes] = set()
        last = b""
        while True:
            reply = self._eval(read_scripts.CHANGED, *_arguments(low), *_arguments(high), last, limit)
            if reply[0] == b"pruned":
                raise history_pruned_error(self.namespace, int(reply[1]), int(reply[2]))
            _, writes, expired, past, pieces, *flat = reply
            keys.update(member[16:] for member in writes)
            if len(writes) < TOUCHES_PER_READ:
                break
            last = writes[-1]
        keys.update(expired)
        keys.update(member[:-17] for member in past)
        chain = packing.pieces_of(self, pieces, is_lone=True)
        read = [self._key(name) for name in flat[::3]]
        low_versions, high_versions = (
            {key: self._version(key, entry, chain) for key, entry in zip(read, flat[side::3], strict=True) if entry}
            for side in (1, 2)
        )
        return Changes(sorted(map(self._key, keys)), len(read), low_versions, high_versions)

    @_rereads
    def versions(self, key: str, limit: int = 100, below: int = 0) -> list[Version]:
        pieces, *rows = self._eval(read_scripts.VERSIONS, key, limit, below or ENDLESS)
        chain = packing.pieces_of(self, pieces)
        versions = []
        for revision, moment, expires, kept in rows[:limit]:
            value = None
            if kept[:1] == b"*":
                value = packing.value_of(self, chain, key, int(revision))
            elif kept[:1] == b"V":
                value = self._unpacked(kept[1:], key, int(revision))
            self._link.answers.meet(int(revision), key)
            versions.append(Version(key, value, Revision(int(revision), int(moment)), int(moment), int(expires)))
        return versions

    @_rereads
    def commits(self, limit: int = 100, below: int = 0) -> list[Commit]:
        """Make a round trip for each thousand commits."""
        commits: list[Commit] = []
        while len(commits) < limit:
            size = min(KEYS_PER_READ, limit - len(commits))
            flat = self._eval(read_scripts.LOG, size, below or ENDLESS)
            commits += map(self._commit, flat[::2], flat[1::2])
            if len(flat) < 2 * size:
                break
            below = commits[-1].revision
        return commits

    def _commit(self, revision: bytes, record: bytes) -> Commit:
        moment, _, fields = record.partition(b" ")
        known = self._keyring
        try:
            commit = Commit(int(revision), to_datetime(int(moment)), *msgspec.json.decode(fields))
            commit = self.values.unpack_commit(commit)
            self._link.answers.meet(commit.revision)
            if commit.reason.startswith(SEALED_TEXT_START) or commit.author.startswith(SEALED_TEXT_START):
                self._check_keyring(known)
            return commit
        except (ValueError, TypeError) as error:
            raise self._damaged(f"the commit of revision {int(revision)}") from error

    @_rereads
    def marks(self) -> list[CheckpointRecord]:
        return self._checkpoints(dict(zip(*self._eval(read_scripts.MARKS), strict=True)))

    @_rereads
    def marks_of(self, name: str) -> list[CheckpointRecord]:
        notes = self._eval(read_scripts.MARKS_OF, name)
        return self._checkpoints(dict(zip(notes[::2], notes[1::2], strict=True)))

    def _checkpoints(self, notes: Mapping[bytes, bytes | None]) -> list[CheckpointRecord]:
        """Parse the hash `notes`; None stands for a record that it lacks."""
        marks = []
        known = self._keyring
        for member, record in notes.items():
            if b"@" in member:
                try:
                    order, moment, kind, note = (record or b"").split(b" ", 3)
                    name, _, revision = member.decode().rpartition("@")
                    found = CheckpointRecord(name, int(revision), int(moment), note.decode(), KINDS[int(kind)])
                    found = self.values.unpack_mark(found)
                    if found.note.startswith(SEALED_TEXT_START):
                        self._check_keyring(known)
                    marks.append((int(order), found))
                except (ValueError, IndexError) as error:
                    raise self._damaged(f"the checkpoint {member[:140]!r}") from error
        return [record for _, record in sorted(marks, key=lambda mark: mark[0])]

    @contextmanager
    def snapshot(self, whole: bool = False) -> Iterator[Backend]:
        """Copy a small namespace into memory, if `whole`. A larger one is read page by page."""
        self._handshake()
        copied = self._copied() if whole else None
        yield self if copied is None else copied  # type: ignore[misc]

    @_rereads
    def _copied(self) -> Any:
        from .snapshot import take

        return take(self)

    @_rereads
    def versions_page(
        self, after: tuple[str, int] = ("", 0), limit: int = 1000, keys: Iterable[str] | None = None
    ) -> list[StoredVersion]:
        """Make one round trip, or one for each thousand keys."""
        from . import transfer

        return transfer.versions_page(self, after, limit, keys)

    @_rereads
    def deltas(self, versions: Iterable[StoredVersion]) -> dict[tuple[str, int], Delta]:
        """Return the deltas that versions are kept as, by key and revision. One round trip."""
        return packing.deltas(self, versions)

    @_rereads
    def superseded(self, after: tuple[str, int] = ("", 0), limit: int = 1000) -> list[SupersededVersion]:
        from . import maintenance

        return maintenance.superseded(self, after, limit)

    def disk_usage(self, gone: Iterable[tuple[str, int]] = ()) -> DiskUsage | None:  # noqa: ARG002
        """Make one round trip."""
        from . import maintenance

        self._handshake()
        return maintenance.disk_usage(self)

    def _entries(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield all live entries as they are stored, some of them twice."""
        cursor = 0
        while True:
            cursor, entries = self._with_retry(
                lambda client, at=cursor: client.hscan(self._keys[1], at, count=KEYS_PER_READ)  # type: ignore[misc]
            )
            yield from entries.items()
            if not cursor:
                return


def _arguments(at: StateAt | None) -> tuple[int, int]:
    """Return the revision and the time of a state, as scripts take them."""
    return (LIVE, 0) if at is None else (at.revision, at.time)
