"""The Backend protocol: one namespace of a store, as primitives that know revisions.

To write a backend, implement `Backend` and `StagedImport`, register a `stateview.backends.BackendKind`, and pass
`stateview.testing.BackendContract`. All commands are written once above these primitives.

A backend promises:

- `commit` is atomic, and durable once it has returned.
- A reader never sees part of a commit.
- A read at a revision returns the same answer for as long as the revision is kept.
- The times of commits rise with their revisions, even after the clock was set back.
- Writers in any number of threads and processes lose no update.

All times and durations are in microseconds; a time counts from 1970, UTC. A read at `time` treats an entry as absent if
its `expires` is neither 0 nor above `time`. Keys are sorted in code point order. Values are encoded JSON, see
`stateview.codec`. Costs are given for n keys.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal, NamedTuple, Protocol

from msgspec import Struct

from ..model import Commit, Finding, Problem

SUMMARY_BYTES = 160
MAX_EXPIRED_PER_COMMIT = 100  # expired entries that one commit deletes, so that no commit takes long because of them
PAGE_BYTES = 8_000_000  # of values, after which `versions_page` ends a page

ProgressText = Callable[[str], None]
"""Receives what is being done, as text for a person. An exception that it raises ends the operation."""

ProgressCount = Callable[[int, int], None]
"""Receives how much is done, and the total. An exception that it raises ends the operation."""


class Version(Struct, frozen=True, gc=False):
    """A value as one revision wrote it.

    Attributes:
        key: the key.
        value: the encoded value; None if the revision deleted the key.
        revision: the revision that wrote or deleted the value.
        time: when it did.
        expires: when the entry expires; 0 for no expiry.

    """

    key: str
    value: bytes | None
    revision: int
    time: int
    expires: int = 0

    def visible(self, time: int) -> bool:
        """Return whether a read at `time` sees this version."""
        return self.value is not None and (self.expires == 0 or self.expires > time)


class StoredVersion(Version, frozen=True, gc=False):
    """A version that is kept. `until` is the revision that superseded it; 0 if no revision has."""

    until: int = 0


class SupersededVersion(Struct, frozen=True, gc=False):
    """A kept version that is not live, without its value.

    Attributes:
        key: the key.
        revision: the revision that wrote the version.
        until: the revision that superseded it; 0 for the delete of a key that is still absent.
        size: bytes of the encoded value; 0 for a delete.
        deleted: whether the revision deleted the key.
        space: roughly how many bytes the version takes in the store.

    """

    key: str
    revision: int
    until: int
    size: int
    deleted: bool
    space: int


class DiskUsage(Struct, frozen=True):
    """The bytes that a namespace takes on the disk, or in the server's memory.

    Attributes:
        total: all its bytes.
        spare: roughly how many of these bytes `compact` frees in addition to the versions that it removes.
        copies: how many of these bytes are copies for people, which stateview does not read.

    """

    total: int
    spare: int = 0
    copies: int = 0


class KeySummary(Struct, frozen=True):
    """A row in a list of keys: a visible version without its whole value.

    Attributes:
        key: the key.
        size: bytes of the encoded value.
        start: the first `SUMMARY_BYTES` bytes of the encoded value. They may end inside a character.
        revision: the revision that wrote the value.
        time: when it did.
        expires: when the entry expires; 0 for no expiry.
        sealed: whether no key opens the value: `size` is then that of its stored form, and `start` is empty.

    """

    key: str
    size: int
    start: bytes
    revision: int
    time: int
    expires: int = 0
    sealed: bool = False


class StateAt(Struct, frozen=True):
    """A state: a revision, and the time by which a read judges expiry."""

    revision: int
    time: int


class Head(Struct, frozen=True):
    """The present state of a namespace, in numbers. All are 0 if the namespace was never written.

    Attributes:
        revision: the last revision.
        time: when it was committed.
        count: the number of live entries, without expired ones.
        floor: the lowest revision from which on all states are kept. A lower revision is kept if a checkpoint names it.
        lineage: a random text that tells this namespace from an earlier one of the same name; "" if never written.
        is_edited: whether the last revision is an edit by hand that is shown, and that the next writer commits.

    """

    revision: int = 0
    time: int = 0
    count: int = 0
    floor: int = 0
    lineage: str = ""
    is_edited: bool = False


class CheckpointRecord(Struct, frozen=True):
    """A stored checkpoint. `kind` is a `CheckpointKind`, or "" for a checkpoint of an older release."""

    name: str
    revision: int
    time: int
    note: str = ""
    kind: str = ""

    @property
    def point(self) -> StateAt:
        """Return the state that it names."""
        return StateAt(self.revision, self.time)


class CheckpointWrite(Struct, frozen=True):
    """A checkpoint that a commit makes.

    Attributes:
        name: its name. If a checkpoint of this name exists, the name moves, and the earlier checkpoint stays listed.
        note: a text for people.
        revision: the revision that it names; None for the one before this commit's writes, or with `after` for the one
            that they make.
        time: when it was made; 0 for the request's time, or the clock's.
        fresh: refuse the commit with `Conflict` if the name is taken before the commit.
        kind: a `CheckpointKind`, or "".
        after: whether it names the state after this commit's writes. Then `revision` is None.

    """

    name: str
    note: str = ""
    revision: int | None = None
    time: int = 0
    fresh: bool = False
    kind: str = ""
    after: bool = False

    def revision_in(self, before: int, new: int) -> int:
        """Return the revision that it names, in a commit that leads from one revision to another."""
        return (new if self.after else before) if self.revision is None else self.revision


class Write(Struct, frozen=True):
    """A write to one key.

    Attributes:
        value: the encoded value; None to delete the key.
        ttl: the time from now, by the clock, to the expiry; 0 for no expiry.
        time: when the value was written, if that is not the commit's time, as in imported data; else 0.

    """

    value: bytes | None
    ttl: int = 0
    time: int = 0


class CommitRequest(Struct, frozen=True):
    """One commit, which is applied whole or not at all.

    A request with writes makes one revision. A request without writes makes none, but makes and deletes checkpoints.

    Attributes:
        writes: the writes by key. Deleting a key that is absent counts as a write.
        expected: the revision that each of these keys must have; 0 for a key that must be absent.
        base: the revision that the namespace must have; None for any.
        reason: why, for the log.
        author: who, for the log.
        undo: `position`, `forward` and `behind` of the `Commit`.
        marks: the checkpoints to make.
        unmarks: the checkpoints to delete, by name and revision, before `marks` are made. Unknown ones are ignored.
        token: a text unique to this request; "" for none. A request that is sent again with its token is applied once.
        time: the commit's time; 0 for the backend's clock.

    """

    writes: dict[str, Write] = {}
    expected: dict[str, int] = {}
    base: int | None = None
    reason: str = ""
    author: str = ""
    undo: tuple[int, int, int] = (0, 0, 0)
    marks: tuple[CheckpointWrite, ...] = ()
    unmarks: tuple[tuple[str, int], ...] = ()
    token: str = ""
    time: int = 0


class StoreIdentity(Struct, frozen=True):
    """The identity of a namespace, whatever the spelling of its store URL.

    Two backends of one kind with equal identities access the same namespace.

    Attributes:
        store: identifies the store, and the namespace in it; () if the store cannot be determined.
        revision: the namespace's revision. Compared only if `store` is ().
        stamp: values unique to the last commit, or to the copy that made the namespace. Compared only if `store` is ().

    """

    store: tuple[object, ...]
    revision: int = 0
    stamp: tuple[object, ...] = ()


class StagedImport(Protocol):
    """A copy of another namespace while it is built. No list and no read shows it before `finish`.

    A staged import locks its destination against other staged imports until it is closed. If its process is killed, the
    staged data stays, and `progress` of the next staged import tells where to continue. For one thread at a time.
    """

    def progress(self) -> dict[str, Any] | None:
        """Return the `note` of the last `put` that is durable together with all before it; None if there is none."""

    def put(
        self, versions: Iterable[StoredVersion] = (), commits: Iterable[Commit] = (),
        marks: Iterable[CheckpointRecord] | None = None, *,
        note: dict[str, Any], forget: Iterable[str] = (),
    ) -> None:  # fmt: skip
        """Add versions, commits and checkpoints to the staged data, atomically together with a note.

        A crash may lose the last calls together with their notes, but never a call before one that was kept. After an
        error, continue from `progress()`.

        Args:
            versions: versions, as `versions_page` of the source returns them. None of them may be staged already.
            commits: commits, as `commits` of the source returns them. They replace staged commits of their revisions.
            marks: all checkpoints, oldest first, to replace the staged ones; None to keep the staged ones.
            note: what `progress` returns. It must be encodable as JSON.
            forget: keys whose staged versions are removed before any version is added.

        Raises:
            BackendError: the data cannot be written.

        Cost: O(size of the arguments), and O(log n) for each version.

        """

    def staged(self, head: Head) -> Backend:
        """Return a backend that reads the staged data as the namespace that `finish` makes of it with this head.

        Its `compact` removes versions that the source has pruned since they were copied. `close` of the staged import
        closes it.

        Args:
            head: the head of the source.

        Cost: O(keys + versions) after a `put`, else O(1).

        """

    def finish(self, head: Head, over: bool = False) -> str:
        """Turn the staged data into the namespace, atomically and durably, and release the destination.

        Args:
            head: the head of the source. The next commit makes the revision after it.
            over: replace the namespace if it exists, and keep the former one.

        Returns:
            where the former namespace is kept; "" if there was none.

        Raises:
            Conflict: the namespace exists, and `over` is false. The staged data stays.

        Cost: O(1) after `staged`.

        """

    def drop(self) -> None:
        """Remove the staged data, and release the destination."""

    def close(self) -> None:
        """Release the destination. The staged data stays."""


class Salvage(Struct, kw_only=True):
    """Everything sound that a damaged namespace still holds. A backend fills it in and decides nothing.

    `maintenance.recovery` decides by it which values, checkpoints and commits are lost.
    """

    subject: str
    """The damaged file, as the report names it."""
    damage: str
    """What is wrong with it; "" where no file as a whole is damaged."""
    head: Head = Head()
    """Revision, time and count as the last sound commit has them; lineage "" and floor -1 where they are lost."""
    versions: list[StoredVersion] = []
    commits: list[Commit] = []
    marks: list[CheckpointRecord] = []
    written: set[tuple[str, int]] = set()
    """Keys and revisions of which something says that they were written, whether or not the version is there."""
    past: set[tuple[str, int]] = set()
    """Those of `written` that were not live any more: only a delete has no later version of its key."""
    listed: set[str] = set()
    """Keys of which something says that they have a live value, and the value is missing."""
    checkpoint_names: set[str] = set()
    """Names of checkpoints of which something says that they exist."""
    unread: set[str] = set()
    """The parts that could not be read to their end: `entries`, `versions`, `touched`, `commits`, `marks`."""
    losses: list[Problem] = []
    """Losses that the backend alone can see."""
    in_place: bool = False
    """Whether `versions` are those of some keys only, which `rewrite` mends while others write; the floor stays."""


class WholeState(Struct, frozen=True):
    """All entries that a state shows, known apart from the versions: by a checkpoint's own file, or the live file.

    `proven` tells whether a digest confirms that `checkpoint` is a checkpoint of these entries. Otherwise only the name
    and the time of `checkpoint` are known.
    """

    entries: dict[str, Version]
    checkpoint: CheckpointRecord
    proven: bool


class LogSalvage(Salvage, kw_only=True):
    """The salvage of a namespace whose commits are the lines of a log, so that of a lost commit nothing is known.

    `versions`, `commits` and `marks` are those of the sound lines; `head.revision` is that of the last of them.
    """

    gaps: list[tuple[int, int]] = []
    """The revisions before and after unreadable commits; (-1, floor) for versions kept from before the floor."""
    unread_end: int = 0
    """How many unreadable lines follow the last sound one."""
    end_missing: bool = False
    """Whether the last sound commit is not the last one that was written."""
    live_subject: str = ""
    """The live file, as the report names it."""
    checkpoints_lost: bool = False
    """Whether an unreadable line may have made or deleted checkpoints."""
    live: dict[str, Version] | None = None
    """The live entries by the live file; None where that cannot be read."""
    live_proof: Literal["", "digest", "next"] = ""
    """A digest confirms that `live` is the state of `head.revision`, or (`next`) of the first unreadable commit."""
    digests: frozenset[int] = frozenset()
    """Revisions of whose live state a digest is known."""
    confirms: Callable[[int, dict[str, Version]], bool] = lambda _revision, _entries: False
    """Whether these entries have the digest that is known of a revision's live state."""
    states: list[WholeState] = []
    """The states that the checkpoints' files hold."""


class Restored(Struct, frozen=True):
    """What a namespace holds after a recovery, as it is to be stored."""

    head: Head
    versions: list[StoredVersion]
    commits: list[Commit]
    marks: list[CheckpointRecord]
    missing: list[str] = []
    """Keys whose live value is lost. If `Salvage.in_place`, `rewrite` deletes them by a commit."""


class RecoverySession(Protocol):
    """A namespace while it is recovered. No other process writes to files until the session ends."""

    problems: list[Problem]
    """What `repair` mended on its own."""
    kept: list[str]
    """The damaged originals that were kept, as paths or as names of keys."""

    def repair(self) -> None:
        """Mend what needs no decision about states: leftover files, derived data."""

    def salvage(self) -> Salvage | None:
        """Read everything that is sound; None where nothing is damaged.

        Called again after each `rewrite`, until it returns None.

        Raises:
            Damaged: a person must decide, such as about a file of another program.

        """

    def rewrite(self, restored: Restored) -> None:
        """Make the namespace what was decided, and keep the damaged original."""


class Backend(Protocol):
    """One namespace of a store, safe for threads and across `fork()`. `stateview.backends.open_backend` makes one.

    Opening a backend reads and writes nothing. A write makes the store and the namespace if they do not exist.

    Every method may raise:

    - `BackendUnavailable`: the backend does not answer, or stays locked until the timeout.
    - `BackendError`: the backend refuses, as for lack of space or permission.
    - `Damaged`: the stored data is not what was written.
    - `ReadOnly`: the method writes, and the backend was opened with `read_only`.

    A method with an argument `at` reads the live state if `at` is None. It raises `HistoryPruned` if the revision of
    `at` is not kept.
    """

    kind: str
    """The name of its `BackendKind`."""

    url: str
    """Its store URL, without passwords."""

    namespace: str
    """The name of its namespace."""

    rewrites_state: bool
    """Whether each commit writes the whole live state, so that many small commits cost more than one large commit."""

    ranks_keys: bool
    """Whether it finds the position of any live key in O(log n), so that counting or skipping live keys costs that."""

    def identity(self) -> StoreIdentity:
        """Return the identity of the namespace. Writes nothing, and converts no data of an older layout.

        Cost: O(1).

        """

    def head(self) -> Head:
        """Return the present head of the namespace; all zero if it was never written.

        Cost: O(1).

        """

    def now(self) -> int:
        """Return the time of the clock by which the backend judges expiry."""

    def get(self, key: str) -> Version | None:
        """Return the visible live version of a key; None if the key is absent.

        It may answer from memory, up to half a second late, but never later than any answer before, or than a commit of
        this process. `read` never does.

        Cost: O(log n), or O(1) from memory.

        """

    def read(self, keys: Iterable[str], at: StateAt | None = None) -> dict[str, Version]:
        """Return the visible versions of several keys, all of one state. Absent keys are left out.

        Cost: O(log n) for each key.

        """

    def scan(self, prefix: str = "", after: str = "", limit: int = 1000, at: StateAt | None = None) -> list[Version]:
        """Return a page of visible versions, sorted by key.

        Args:
            prefix: only keys that start with it.
            after: only keys above this one.
            limit: the most versions to return. A shorter page is the last.
            at: the state.

        Cost: O(log n + limit).

        """

    def list_keys(
        self, prefix: str = "", after: str = "", before: str = "", limit: int = 1000, at: StateAt | None = None,
        skip: int = 0, backwards: bool = False,
    ) -> list[KeySummary]:  # fmt: skip
        """Return a page of the visible keys without their values, sorted by key.

        Large values are not read. A row may therefore describe an entry whose `get` raises `Damaged`. Even while others
        write, each key is returned once, in order.

        Args:
            prefix: only keys that start with it.
            after: only keys above this one; "" for no bound.
            before: only keys below this one; "" for no bound.
            limit: the most keys to return. A shorter page holds all of them.
            at: the state.
            skip: how many visible keys to pass over first.
            backwards: return the last keys of the range instead of the first, and pass over `skip` keys from its end.
                The page is still sorted ascending: `list_keys(backwards=True)` is the last page.

        Cost: O(log n + limit + skip), in Redis O(log n + limit). A past state adds O(versions passed over).

        """

    def count(self, low: str = "", high: str = "", at: StateAt | None = None) -> int:
        """Return the number of visible keys of a range.

        The keys with a prefix are `count(prefix, prefix_end(prefix))`, see `stateview.backends.key_ranges`.

        Args:
            low: the lowest key; "" for no bound.
            high: the key that ends the range, itself not counted; "" for no bound.
            at: the state.

        Cost: O(log n) for all live keys, and for any live keys if `ranks_keys`; else O(keys counted). A past state adds
        O(their versions).

        """

    def commit(self, batch: CommitRequest) -> Head:
        """Apply a commit, durably, and return the head after it.

        Args:
            batch: the commit. `conflicts.check_preconditions` raises the errors that its preconditions call for.

        Raises:
            Conflict: a precondition is not met. Nothing was written.
            HistoryPruned: a new checkpoint names a revision that is not kept. Nothing was written.
            CommitUnknown: the connection was lost, and the commit may or may not have been applied.

        Cost: O(log n) for each write. JSON files: O(n).

        """

    def changed_keys(self, low: StateAt, high: StateAt) -> list[str]:
        """Return the keys that may differ between two states, sorted.

        These are the keys that were written above the revision of `low` and up to that of `high`, and those that
        expired between the two times. With equal times, expiry is ignored.

        Raises:
            HistoryPruned: a revision is not kept.

        Cost: O(changes). JSON files: O(n).

        """

    def versions(self, key: str, limit: int = 100, below: int = 0) -> list[Version]:
        """Return the kept versions of a key, newest first, deletes included.

        Args:
            key: the key.
            limit: the most versions to return.
            below: only versions of lower revisions; 0 for all.

        Cost: O(log n + limit).

        """

    def commits(self, limit: int = 100, below: int = 0) -> list[Commit]:
        """Return the kept commits, newest first.

        Args:
            limit: the most commits to return.
            below: only commits of lower revisions; 0 for all.

        Cost: O(log n + limit).

        """

    def marks(self) -> list[CheckpointRecord]:
        """Return all checkpoints in the order in which they were made. The last of a name is the current one.

        Cost: O(checkpoints).

        """

    def compact(self, floor: int, progress: ProgressCount | None = None) -> int:
        """Remove the versions that no revision from `floor` on and no checkpoint needs, and free their space.

        Others may read and write meanwhile. An interrupted call loses no other version, and the next call continues.

        Args:
            floor: the lowest revision from which on all states stay readable.
            progress: receives the number of versions examined, and the total.

        Returns:
            the number of versions removed.

        Cost: O(history).

        """

    def superseded(self, after: tuple[str, int] = ("", 0), limit: int = 1000) -> list[SupersededVersion]:
        """Return a page of the kept versions that are not live, without values, sorted by key and revision.

        A page is of one state. An empty page ends the list.

        Args:
            after: the key and revision of the last version of the page before.
            limit: the most versions to return.

        Cost: O(log n + limit). Redis, and values in another stored form: O(bytes of the values).

        """

    def disk_usage(self, gone: Iterable[tuple[str, int]] = ()) -> DiskUsage | None:
        """Return the bytes that the namespace takes; None if the server does not report it.

        Args:
            gone: checkpoints, by name and revision, that count as deleted for `DiskUsage.spare`.

        Cost: O(1). Redis examines a thousand members of each of its keys.

        """

    def versions_page(
        self, after: tuple[str, int] = ("", 0), limit: int = 1000, keys: Iterable[str] | None = None
    ) -> list[StoredVersion]:
        """Return a page of all kept versions, deletes and expired entries included, sorted by key and revision.

        A page is of one state. Others may write between two pages, see `changed_keys`. A page ends soon after
        `PAGE_BYTES` of values. An empty page ends the list.

        Args:
            after: the key and revision of the last version of the page before.
            limit: the most versions to return.
            keys: only versions of these keys; None for all keys.

        Cost: O(log n + limit + keys).

        """

    def open_staging(self) -> StagedImport:
        """Open the staged import that is to become this namespace.

        Raises:
            Conflict: another process or object has it open.

        """

    def wait(self, revision: int, timeout: float) -> int:
        """Wait until the namespace is above a revision, or until a timeout, and return the revision that it is at.

        Args:
            revision: the last revision that the caller knows.
            timeout: seconds to wait at most.

        """

    def drop(self) -> None:
        """Remove the namespace and everything in it."""

    def namespaces(self) -> list[str]:
        """Return the names of all namespaces of this store, sorted."""

    def open_recovery(self) -> AbstractContextManager[RecoverySession]:
        """Lock the namespace for a recovery: see `maintenance.recovery`. A namespace that is missing is not created."""

    def diagnose(self, progress: ProgressText) -> Iterator[Finding]:
        """Find what is wrong, or may go wrong, in the place where this backend stores the namespace. Changes nothing.

        Damage and a server that does not answer are findings, not errors. Findings that the other methods can make are
        left out: `stateview.maintenance.doctor` makes them for all backends. A namespace that does not exist has none.

        Args:
            progress: receives what is being examined.

        Cost: O(all stored data), in bounded memory.

        """

    def close(self) -> None:
        """Close files and connections. A later call opens them again."""


class TakesSnapshots(Protocol):
    """What a backend may offer in addition. Without it, long reads begin again when their state is pruned."""

    def snapshot(self, whole: bool = False) -> AbstractContextManager[Backend]:
        """Open a backend that reads the present state, and all states kept now, until the block ends.

        Others may write meanwhile; no read of the snapshot sees that. It takes no writes. Where it is not possible, the
        backend gives itself.

        Args:
            whole: whether nearly everything will be read, so that a copy in memory is worth its cost.

        Cost: O(1). JSON files: O(n).

        """


class NamespaceNumbers(NamedTuple):
    """The numbers of one namespace. A name of a checkpoint counts once."""

    name: str
    keys: int
    revision: int
    checkpoints: int


class CountsNamespaces(Protocol):
    """What a backend may offer in addition, if it can count many namespaces faster than by opening each."""

    def numbers(self, names: Sequence[str]) -> Iterator[NamespaceNumbers | None]:
        """Yield the numbers of namespaces of the store, in order.

        None stands for a namespace without keys, or with damage: it is to be opened by itself, which says more.

        Cost: O(1) for each.

        """


class Changes(NamedTuple):
    """The keys that may differ between two states, and the versions of the first of them.

    Attributes:
        keys: the keys, sorted.
        read: how many of the keys, from the first on, were read.
        low: the versions of those in the earlier state.
        high: the versions of those in the later state.

    """

    keys: list[str]
    read: int
    low: dict[str, Version]
    high: dict[str, Version]


class ReadsChanges(Protocol):
    """What a backend may offer in addition, if it can list changed keys and read them in one round trip."""

    def changes(self, low: StateAt, high: StateAt) -> Changes:
        """Return the changed keys as `changed_keys`, and the versions of the first of them as `read`.

        Raises:
            HistoryPruned: a state is no longer kept.

        Cost: that of `changed_keys`, and O(values) of a bounded number of keys.

        """


class FindsCheckpoints(Protocol):
    """What a backend may offer in addition, if it can find the checkpoints of one name without reading all others."""

    def marks_of(self, name: str) -> list[CheckpointRecord]:
        """Return the checkpoints of a name, as `marks` does.

        Cost: O(log checkpoints + checkpoints of the name). Redis: O(checkpoints), in the server.

        """


class TellsWhatIsCutOff(Protocol):
    """What a backend may offer in addition, if lists and counts may lack keys that are there."""

    def cut_off(self) -> str:
        """Say what was cut off by the last reads, for a person; "" for nothing. It reads nothing."""


class ScansSome(Protocol):
    """What a backend may offer in addition, if a page of `scan` could fill the memory."""

    def scan_some(
        self, prefix: str = "", after: str = "", limit: int = 1000, at: StateAt | None = None
    ) -> list[Version]:
        """Return a page as `scan` does, which ends soon after `PAGE_BYTES` of values. An empty page is the last."""


class KeepsPresentAlone(Protocol):
    """What a backend has in addition, if it knows no past state, and not what changed since: a live foreign store."""

    @property
    def reading(self) -> str:
        """How a snapshot gave the values, for a person; "" if they are all of one moment."""


class CopiesNamespaces(Protocol):
    """What a backend may offer in addition, if it can read many small namespaces faster than by opening each."""

    def copies(self, names: Sequence[str]) -> Iterator[Backend | None]:
        """Yield a copy of each namespace of the store, in memory and for reading only, in order.

        None stands for a namespace that is to be opened by itself: it is large, sealed, damaged, or not there.

        Cost: O(their data).

        """


class AdoptsInTime(Protocol):
    """What a backend may offer in addition, if it refuses a namespace of whose older data it found a part in time."""

    def expect_import(self) -> None:
        """Refuse it no more, since an import takes all of the older data.

        Cost: O(1).

        """


class GivesTurns(Protocol):
    """What a backend may offer in addition: writers that come second form a queue for a key, across all machines.

    A turn is advice: it keeps nobody from writing. `stateview.states.attempts` uses it.
    """

    def wait_turn(self, key: str, waiter: str, ticket: int, hold: float) -> tuple[bool, int]:
        """Enter the queue of a key or ask again, wait a moment, and return whether the turn came, and the ticket.

        A waiter that neither asks nor ends its turn is passed over after some tens of milliseconds.

        Args:
            key: the key.
            waiter: a name that nobody else has.
            ticket: what the last call returned; 0 for the first one. It keeps the place in the queue.
            hold: seconds for which the turn lasts at most.

        Cost: O(log waiters), and some tens of milliseconds of waiting.

        """

    def end_turn(self, key: str, waiter: str) -> int:
        """Leave the queue of a key, and return how many are in it.

        Cost: O(log waiters).

        """

    def is_turn_wanted(self, key: str) -> bool:
        """Return whether the queue of a key holds a waiter.

        Cost: O(1).

        """


class TellsFormat(Protocol):
    """What a backend may offer in addition, if it stores history in more than one format."""

    def history_format(self) -> int:
        """Return the number of the format; 0 if the namespace was never written.

        In format 1 superseded versions are whole. In format 2 they are packed: large ones may be deltas.

        Cost: O(1).

        """


class KeepsKeyring(Protocol):
    """What a backend may offer in addition, if it can hold a namespace whose values are sealed."""

    def keyring(self) -> bytes | None:
        """Return the keyring document of the namespace; None if the namespace is plain.

        Cost: O(1).

        """

    def put_keyring(self, document: bytes | None, former: bytes | None) -> None:
        """Store the keyring document durably, or remove it, if `former` is what lies there. It seals no value.

        Args:
            document: the new document; None to remove it.
            former: the document that the caller knows; None for no document.

        Raises:
            Conflict: another document lies there. Nothing was written.

        """

    def reseal(self, progress: ProgressCount) -> int:
        """Rewrite each value, delta and text that is not stored in the form that the keyring asks for.

        Others may read and commit meanwhile, also who opened the namespace before its keyring was changed. After the
        call all is stored in this form, whoever wrote it. A killed call has harmed nothing, and the next one goes on.
        Revisions, times and the history stay as they are.

        Args:
            progress: called between bites. An exception from it stops the call, which can be repeated.

        Returns:
            The number of values, deltas and texts that were rewritten.

        Raises:
            Sealed: no key opens the namespace.
            Damaged: a stored form cannot be opened. It is left as it is.

        Cost: O(history), in bites of a bounded number of bytes. JSON files: one rewrite, during which others wait.

        """


class CanBeExamined(Protocol):
    """What a backend may offer in addition, if its reads raise `Damaged` for a namespace without a part."""

    def examined(self) -> Backend:
        """Return a backend that reads what is left of the namespace. Reads of this backend still raise the error.

        Cost: O(1).

        """
