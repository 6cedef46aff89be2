"""Keep one namespace in memory: the methods of the protocol `Backend`."""

from __future__ import annotations

import zlib
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import islice
from uuid import uuid4

from msgspec.structs import replace

from stateview.backends.conflicts import check_preconditions, history_pruned_error
from stateview.backends.key_ranges import key_range
from stateview.backends.protocol import (
    MAX_EXPIRED_PER_COMMIT,
    PAGE_BYTES,
    SUMMARY_BYTES,
    CheckpointRecord,
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
)
from stateview.backends.stored_values import PLAIN, StoredValues
from stateview.errors import BackendUnavailable, Damaged, ReadOnly, run
from stateview.model import Commit, Finding, now, to_datetime

from .namespace import CHANGED, EMPTY, STORES, MemoryVersion, Namespace

RECORD_BYTES = 200  # about what a version takes in memory beside its key and value
MAX_REVISION = 1 << 62


class MemoryBackend:
    """Open one namespace of a store in memory. See the protocol `Backend` for what each method promises.

    Args:
        store: the name of the store, shared by the whole process.
        namespace: a checked name.
        read_only: refuse every write.
        history: keep superseded versions for at least this many revisions.
        timeout: seconds to wait for the lock.
        values: turns values into the form that is stored, and back.

    """

    kind = "memory"
    rewrites_state = True  # a commit copies the tables of the namespace
    ranks_keys = False

    def __init__(
        self, store: str, namespace: str, *, read_only: bool = False, history: int = 10_000, timeout: float = 10.0,
        values: StoredValues = PLAIN,
    ) -> None:  # fmt: skip
        self.store = store
        self.url = f"memory:{store}"
        self.namespace = namespace
        self.read_only = read_only
        self.history = history
        self.timeout = timeout
        self.values = values

    # Helpers: the lock, the namespace, and the stored form of a version.

    @contextmanager
    def locked(self) -> Iterator[dict[str, Namespace]]:
        """Hold the lock of all writers, and yield the namespaces of this store."""
        if not CHANGED.acquire(timeout=self.timeout):
            raise BackendUnavailable(f"{self.url} was locked for {self.timeout:g} s", "Try again")
        try:
            yield STORES.setdefault(self.store, {})
        finally:
            CHANGED.release()

    def present(self, *states: StateAt | None) -> Namespace:
        """Return the present namespace, or raise `HistoryPruned` if it does not keep one of these states."""
        present = STORES.get(self.store, {}).get(self.namespace, EMPTY)
        for at in states:
            if at is not None and not present.is_kept(at.revision):
                raise history_pruned_error(self.namespace, at.revision, present.head.floor)
        return present

    def check_writable(self) -> None:
        """Raise `ReadOnly` if the backend was opened for reading only."""
        if self.read_only:
            raise ReadOnly(f"namespace {self.namespace!r} of {self.url} is open for reading only")

    def pack(self, version: Version, until: int = 0) -> MemoryVersion:
        """Turn a version into its stored form."""
        value = None if version.value is None else self.values.pack(version.value, version.key, version.revision)
        checksum = zlib.crc32(value or b"")
        return MemoryVersion(version.key, value, version.revision, version.time, version.expires, until, checksum)

    def value_of(self, stored: MemoryVersion) -> bytes | None:
        """Return the encoded value of a stored version; None for a delete."""
        if stored.value is None:
            return None
        if not stored.is_sound():
            raise Damaged(f"{self.url}: revision {stored.revision} of {stored.key[:60]!r} is not what was written")
        return self.values.unpack(stored.value, stored.key, stored.revision)

    def unpack(self, stored: MemoryVersion) -> Version:
        """Turn a stored version into the version that readers get."""
        return Version(stored.key, self.value_of(stored), stored.revision, stored.time, stored.expires)

    def unpack_stored(self, stored: MemoryVersion) -> StoredVersion:
        """Turn a stored version into the version that copies and recoveries get."""
        value = self.value_of(stored)
        return StoredVersion(stored.key, value, stored.revision, stored.time, stored.expires, stored.until)

    def visible(self, low: str, high: str, at: StateAt | None, backwards: bool = False) -> Iterator[MemoryVersion]:
        """Return the visible versions with keys from `low` up to, not including, `high`, sorted by key.

        The check that the state is kept must not wait for the first version: hence no `yield` here.
        """
        present, state = self.present(at), at or StateAt(MAX_REVISION, now())
        end = bisect_left(present.keys, high) if high else len(present.keys)
        keys = present.keys[bisect_left(present.keys, low) : end]
        versions = (present.visible(key, state) for key in (reversed(keys) if backwards else keys))
        return (version for version in versions if version is not None)

    # Reading. Every method takes the present namespace once, so its answer is of one state.

    def identity(self) -> StoreIdentity:
        """Return the name of the store, which is unique in its process, and the name of the namespace."""
        return StoreIdentity((self.store, self.namespace))

    def head(self) -> Head:
        """Return the head. O(live keys with an expiry)."""
        return self.present().current_head()

    def now(self) -> int:
        """Return the time by the clock of the machine."""
        return now()

    def get(self, key: str) -> Version | None:
        """Return the live version of a key. O(1)."""
        return self.read([key]).get(key)

    def read(self, keys: Iterable[str], at: StateAt | None = None) -> dict[str, Version]:
        """Return the visible versions of several keys."""
        present, state = self.present(at), at or StateAt(MAX_REVISION, now())
        versions = {key: present.visible(key, state) for key in keys}
        return {key: self.unpack(version) for key, version in versions.items() if version is not None}

    def scan(self, prefix: str = "", after: str = "", limit: int = 1000, at: StateAt | None = None) -> list[Version]:
        """Return a page of the visible versions."""
        versions = self.visible(*key_range(prefix, after, ""), at)
        return [self.unpack(version) for version in islice(versions, limit)]

    def list_keys(
        self, prefix: str = "", after: str = "", before: str = "", limit: int = 1000, at: StateAt | None = None,
        skip: int = 0, backwards: bool = False,
    ) -> list[KeySummary]:  # fmt: skip
        """Return a page of the visible keys. Size and start come from the whole value, since memory is fast."""
        versions = self.visible(*key_range(prefix, after, before), at, backwards)
        page = [self._summary(version) for version in islice(versions, skip, skip + limit)]
        return page[::-1] if backwards else page

    def _summary(self, stored: MemoryVersion) -> KeySummary:
        value = self.value_of(stored) or b""
        return KeySummary(stored.key, len(value), value[:SUMMARY_BYTES], stored.revision, stored.time, stored.expires)

    def count(self, low: str = "", high: str = "", at: StateAt | None = None) -> int:
        """Count the visible keys between two bounds. O(keys counted)."""
        return sum(1 for _ in self.visible(low, high, at))

    def changed_keys(self, low: StateAt, high: StateAt) -> list[str]:
        """Return the keys that may differ between two states. O(versions).

        The kept versions suffice. If two kept states differ in a key, the version or delete that made them differ is
        kept.
        """
        before, after = sorted((low.time, high.time))
        return sorted({
            version.key for version in self.present(low, high).following(("", 0))
            if low.revision < version.revision <= high.revision or before < version.expires <= after
        })  # fmt: skip

    def versions(self, key: str, limit: int = 100, below: int = 0) -> list[Version]:
        """Return the kept versions of a key, newest first."""
        kept = [version for version in self.present().versions.get(key, []) if not below or version.revision < below]
        return [self.unpack(version) for version in kept[::-1][:limit]]

    def commits(self, limit: int = 100, below: int = 0) -> list[Commit]:
        """Return the kept commits, newest first."""
        present = self.present()
        newest = min(present.head.revision, below - 1) if below else present.head.revision
        revisions = range(newest, present.head.floor, -1)
        return [present.commits[revision] for revision in revisions[:limit] if revision in present.commits]

    def marks(self) -> list[CheckpointRecord]:
        """Return the checkpoints in the order in which they were made."""
        return self.present().marks.copy()

    def versions_page(
        self, after: tuple[str, int] = ("", 0), limit: int = 1000, keys: Iterable[str] | None = None
    ) -> list[StoredVersion]:
        """Return a page of all kept versions. `PAGE_BYTES` of values end the page early."""
        page: list[StoredVersion] = []
        size = 0
        for kept in islice(self.present().following(after, keys), limit):
            page.append(self.unpack_stored(kept))
            size += len(page[-1].value or b"")
            if size >= PAGE_BYTES:
                break
        return page

    def superseded(self, after: tuple[str, int] = ("", 0), limit: int = 1000) -> list[SupersededVersion]:
        """Return a page of the versions that are kept and not live."""
        not_live = (kept for kept in self.present().following(after) if kept.until or kept.value is None)
        return [self._superseded(kept) for kept in islice(not_live, limit)]

    def _superseded(self, kept: MemoryVersion) -> SupersededVersion:
        size = len(self.value_of(kept) or b"")
        return SupersededVersion(kept.key, kept.revision, kept.until, size, kept.value is None, _space(kept))

    def disk_usage(self, gone: Iterable[tuple[str, int]] = ()) -> DiskUsage:
        """Return an estimate of the memory that the versions take. Nothing is spare beside them."""
        return DiskUsage(sum(_space(version) for version in self.present().following(("", 0))))

    def wait(self, revision: int, timeout: float) -> int:
        """Wait for a commit after a revision. The condition releases the lock while it waits."""
        with self.locked():
            CHANGED.wait_for(lambda: self.present().head.revision > revision, timeout)
        return self.present().head.revision

    def namespaces(self) -> list[str]:
        """Return the names of the namespaces that are not hidden."""
        return sorted(name for name in STORES.get(self.store, {}).copy() if not name.startswith("."))

    # Writing. A commit changes a draft. Its last step puts the draft in the place of the namespace.

    def commit(self, batch: CommitRequest) -> Head:
        """Apply a commit. `token` is not needed: no reply can get lost, so nobody sends a request again."""
        self.check_writable()
        with self.locked() as namespaces:
            draft = self.present().draft()
            clock = now()
            self._check(batch, draft, clock)
            if not draft.head.lineage:
                draft.head = Head(lineage=uuid4().hex)
            self._set_marks(batch, draft, batch.time or clock)
            if batch.writes:
                self._write(batch, draft, clock)
            namespaces[self.namespace] = draft
            CHANGED.notify_all()
            return draft.current_head()

    def _check(self, batch: CommitRequest, draft: Namespace, clock: int) -> None:
        """Raise `Conflict` if the request was made for another state."""

        def live_revision(key: str) -> int:
            live = draft.visible(key, StateAt(MAX_REVISION, clock))
            return live.revision if live else 0

        check_preconditions(
            batch, self.namespace, draft.head, live_revision=live_revision, is_kept=draft.is_kept,
            has_checkpoint=lambda name: any(mark.name == name for mark in draft.marks),
        )  # fmt: skip

    def _set_marks(self, batch: CommitRequest, draft: Namespace, time: int) -> None:
        """Delete and make checkpoints. A new one names the revision before the writes of its commit, or after them."""
        made = []
        for new in batch.marks:
            revision = new.revision_in(draft.head.revision, draft.head.revision + bool(batch.writes))
            made.append(CheckpointRecord(new.name, revision, new.time or time, new.note, new.kind))
        gone = {*batch.unmarks, *((mark.name, mark.revision) for mark in made)}
        draft.marks = [mark for mark in draft.marks if (mark.name, mark.revision) not in gone] + made

    def _write(self, batch: CommitRequest, draft: Namespace, clock: int) -> None:
        """Add the versions and the record of a commit. Delete expired keys, and prune history that is too long."""
        revision, start = draft.head.revision + 1, batch.time or clock
        time = batch.time or max(clock, draft.head.time + 1)  # commit times must rise, even if the clock steps back
        for key in draft.expired(clock)[:MAX_EXPIRED_PER_COMMIT]:
            if key not in batch.writes:
                draft.add(self.pack(Version(key, None, revision, time)))
        for key, write in batch.writes.items():
            expires = start + write.ttl if write.ttl else 0
            draft.add(self.pack(Version(key, write.value, revision, write.time or time, expires)))
        draft.commits[revision] = Commit(
            revision, to_datetime(time), batch.reason, batch.author, len(batch.writes), *batch.undo
        )
        draft.head = replace(draft.head, revision=revision, time=time)
        if revision - draft.head.floor > self.history + self.history // 16:  # seldom: a prune reads all versions
            draft.prune(revision - self.history)

    def compact(self, floor: int, progress: ProgressCount | None = None) -> int:
        """Prune the history before a revision."""
        self.check_writable()
        if progress is not None:
            progress(0, sum(1 for _ in self.present().following(("", 0))))  # before the lock: `progress` may write
        with self.locked() as namespaces:
            if self.namespace not in namespaces:
                return 0
            draft = self.present().draft()
            removed = draft.prune(max(draft.head.floor, min(floor, draft.head.revision)))
            namespaces[self.namespace] = draft
            return removed

    def drop(self) -> None:
        """Remove the namespace."""
        self.check_writable()
        with self.locked() as namespaces:
            namespaces.pop(self.namespace, None)

    def open_staging(self) -> StagedImport:
        """Open the staged import of the namespace."""
        from .staging import MemoryStagedImport

        self.check_writable()
        return MemoryStagedImport(self)

    def close(self) -> None:
        """Close nothing: memory needs no connection. The store stays until its process ends."""

    # Checking.

    def diagnose(self, progress: ProgressText) -> Iterator[Finding]:
        """Yield an error for each version whose value cannot be read."""
        for number, version in enumerate(self.present().following(("", 0))):
            if number % 1000 == 0:
                progress(f"{number:,} versions checked")
            try:
                self.value_of(version)
            except Damaged as error:
                yield Finding("error", version.key, error.message, "the value is lost", run("recover"), "damaged-value")

    def open_recovery(self) -> AbstractContextManager[RecoverySession]:
        """Lock the namespace for a recovery."""
        from .recovery import open_recovery

        return open_recovery(self)


def _space(version: MemoryVersion) -> int:
    return RECORD_BYTES + len(version.key.encode()) + len(version.value or b"")
