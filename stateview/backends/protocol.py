"""The Backend protocol: what keeps one namespace, as primitives that know revisions.

Everything a user does is written once above these. A backend promises: `commit` is atomic and durable once it
returned; a reader never sees half of one; a read at a revision gives the same answer for as long as that revision is
kept; writers in any number of threads and processes lose nothing. `stateview.testing.BackendContract` holds it to that.

Times are microseconds since 1970, UTC. An entry whose `expires` is not 0 and not after the time of a read is absent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any, Literal, Protocol

from msgspec import Struct

from ..model import Commit, Finding, Problem

SUMMARY_BYTES = 160
PAGE_BYTES = 8_000_000  # bytes of values, after which a page of `dump` ends

ProgressText = Callable[[str], None]  # what is being done, for a person; what it raises ends the act
ProgressCount = Callable[[int, int], None]  # how much is done, and of how much; what it raises ends the act


class Version(Struct, frozen=True, gc=False):
    """An encoded value as one revision wrote it. `value` is None where that revision deleted the key."""

    key: str
    value: bytes | None
    revision: int
    time: int
    expires: int = 0

    def visible(self, time: int) -> bool:
        """Whether a read at `time` finds it."""
        return self.value is not None and (self.expires == 0 or self.expires > time)


class StoredVersion(Version, frozen=True, gc=False):
    """A version that is still kept, and the revision that superseded it (0: none has)."""

    until: int = 0


class SupersededVersion(Struct, frozen=True, gc=False):
    """A kept version that is not live, without its value, of which it has the size in bytes (0 for a delete).

    `until` is the revision that superseded it, 0 where it is the delete that still stands; `space` about how many bytes
    it takes where it is kept.
    """

    key: str
    revision: int
    until: int
    size: int
    deleted: bool
    space: int


class DiskUsage(Struct, frozen=True):
    """How many bytes a namespace takes on the disk, or in the server's memory.

    `spare` is about what of them `compact` gives back beside the versions that it drops.
    """

    total: int
    spare: int = 0


class KeySummary(Struct, frozen=True):
    """A visible version as a list shows it: without its value, of which it has the size and the start.

    `size` is in bytes of the encoded value; `start` is the first `START` bytes of it, and may end inside a character.
    """

    key: str
    size: int
    start: bytes
    revision: int
    time: int
    expires: int = 0


def prefix_end(prefix: str) -> str:
    """The first string after all that start with a prefix, in code point order; "" where there is none."""
    stem = prefix.rstrip("\U0010ffff")
    if not stem:
        return ""
    last = ord(stem[-1]) + 1
    return stem[:-1] + chr(0xE000 if last == 0xD800 else last)  # past the surrogates, which no key holds


class StateAt(Struct, frozen=True):
    """A state: a revision, and the time by which expiry is judged."""

    revision: int
    time: int


class Head(Struct, frozen=True):
    """Where a namespace stands. Revisions below `floor` are kept only where a checkpoint names them."""

    revision: int = 0
    time: int = 0
    count: int = 0
    floor: int = 0
    lineage: str = ""


class CheckpointRecord(Struct, frozen=True):
    """A checkpoint as it is stored. `kind` is a `CheckpointKind`, "" where none was stored: see `retention.kind_of`."""

    name: str
    revision: int
    time: int
    note: str = ""
    kind: str = ""


class CheckpointWrite(Struct, frozen=True):
    """A checkpoint to be made by a commit: of the revision before its writes, unless `revision` says another.

    `fresh` makes an existing name a conflict; otherwise the name moves and the earlier mark stays. A `time` of 0 is
    the commit's own.
    """

    name: str
    note: str = ""
    revision: int | None = None
    time: int = 0
    fresh: bool = False
    kind: str = ""


class Write(Struct, frozen=True):
    """A value to set, or None to delete. `ttl` is in microseconds from the commit's time, 0 for no expiry.

    `time` is when the value was written where that is not the commit's time: data adopted from elsewhere.
    """

    value: bytes | None
    ttl: int = 0
    time: int = 0


class CommitRequest(Struct, frozen=True):
    """One commit. It is applied whole, or refused with `Conflict` and nothing written.

    `expected` maps keys to the revision they must have (0: absent), `base` is the revision the namespace must have.
    `token` is unique to the batch: a second commit with the same token is the same commit. Without writes no
    revision is made; marks are set and removed all the same.
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
    """Where a namespace lies, however its store is spelt: two backends of one kind with equal places mean the same one.

    `store` is empty where the store does not say which it is. The others are for that: the namespace's `revision`, and
    in `stamp` what its last commit, or the copy that made it, left there and nowhere else.
    """

    store: tuple[object, ...]
    revision: int = 0
    stamp: tuple[object, ...] = ()


class StagedImport(Protocol):
    """Where a copy of another namespace is built: a stage, which no list and no read shows before `finish`.

    Killed at any instant, the stage stays, and `progress` of the next receiver says from where to go on. It holds its
    destination against every other receiver until it is closed. For one thread at a time.
    """

    def progress(self) -> dict[str, Any] | None:
        """The `note` of the last put that the stage certainly holds, with all before it; None where it is empty."""

    def put(
        self, versions: Iterable[StoredVersion] = (), commits: Iterable[Commit] = (),
        marks: Iterable[CheckpointRecord] | None = None, *,
        note: dict[str, Any], forget: Iterable[str] = (),
    ) -> None:  # fmt: skip
        """Add what `dump`, `commits` and `marks` of the source gave; all of it is there with its note, or nothing.

        A crash may take the last puts with their notes, never one without those after it. After an error, go on from
        `progress()`. O(what is given) and O(log n) for each version.

        Args:
            versions: kept versions. A version that is there already is not to be put again.
            commits: kept commits; one that is there is replaced.
            marks: all checkpoints, in the order of their making, in place of those that are there; None leaves these.
            note: what JSON can say, for `progress`.
            forget: keys whose versions all go before any is added: those that were written since they were put.

        """

    def staged(self, head: Head) -> Backend:
        """The stage as the namespace that it becomes with this head, for looking at it; the receiver closes it.

        `compact` takes away what the source forgot while it was copied. O(keys + versions) after a put.
        """

    def finish(self, head: Head, over: bool = False) -> str:
        """Put the stage in the place of the namespace, atomically and durably, and let go of the destination.

        Args:
            head: where the source stood when the last of it was put; the next commit is one revision on.
            over: replace a namespace that is there, and keep that aside.

        Returns the place where the former namespace is kept; "" where there was none. O(1) after `staged`.

        Raises:
            Conflict: there is a namespace, and `over` is not given. The stage stays.

        """

    def drop(self) -> None:
        """Remove the stage, and let go of the destination."""

    def close(self) -> None:
        """Let go of the destination. The stage stays, with all that was put."""


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
    """One namespace of a store. Opened by `stateview.backends.open_backend`; safe for threads and across fork().

    Every method raises `BackendUnavailable` where the backend does not answer, `BackendError` where it refuses, and
    `Damaged` where what it holds is not what was written. An `at` of None is live, now; an `at` that is no longer kept
    raises `HistoryPruned`.
    """

    kind: str
    url: str
    namespace: str
    rewrites_state: bool
    """Whether each commit writes the whole live state, so that many small commits cost more than a large one."""

    def identity(self) -> StoreIdentity:
        """Where the namespace lies. Reads, and adopts nothing. O(1)."""

    def head(self) -> Head:
        """Where the namespace stands; all zero where it was never written. O(1)."""

    def now(self) -> int:
        """The time by the backend's own clock, by which expiry is judged."""

    def get(self, key: str) -> Version | None:
        """The live version of one key. O(log n), or O(1) from a coherent cache."""

    def read(self, keys: Iterable[str], at: StateAt | None = None) -> dict[str, Version]:
        """The visible versions of several keys, all of one state. O(log n) a key."""

    def scan(self, prefix: str = "", after: str = "", limit: int = 1000, at: StateAt | None = None) -> list[Version]:
        """Up to `limit` visible versions with the prefix and a key above `after`, in code point order.

        A page shorter than `limit` is the last.
        """

    def list_keys(
        self, prefix: str = "", after: str = "", before: str = "", limit: int = 1000, at: StateAt | None = None,
        skip: int = 0, backwards: bool = False,
    ) -> list[KeySummary]:  # fmt: skip
        """A page of the visible keys, without their values, in code point order.

        The values are not read, so that neither is their checksum: a row may tell of an entry of which `get` says that
        it is `Damaged`. Whatever else writes meanwhile, no key comes twice, and none out of order.

        Args:
            prefix: only keys that start with it.
            after: only keys above this one. "": from the first.
            before: only keys below this one. "": to the last.
            limit: how many at most. Fewer than these are all that there is.
            at: the state; None is live, now.
            skip: how many visible keys to pass over first.
            backwards: take the last of these keys instead of the first, having passed over `skip` from the end. They
                are returned in ascending order all the same: `rows(backwards=True)` is the last page.

        O(log n + limit), wherever the page lies; O(skip) more, of keys alone, but for Redis, and O(versions passed
        over) more for a past state.
        """

    def count(self, low: str = "", high: str = "", at: StateAt | None = None) -> int:
        """How many visible keys there are from `low` up to, not including, `high`; "" is no bound.

        Those with a prefix are `count(prefix, prefix_end(prefix))`. All that is live is known: O(log n). O(keys
        counted) otherwise, and O(their versions) more for a past state; of what is live in Redis O(log n).
        """

    def commit(self, batch: CommitRequest) -> Head:
        """Apply a batch. Raises `Conflict`, `BackendError`, and `CommitUnknown` where the outcome cannot be known."""

    def changed_keys(self, low: StateAt, high: StateAt) -> list[str]:
        """Keys, sorted, that may differ between two states: touched after `low`, up to `high`, or expired meanwhile.

        With equal times, expiry is left out. O(changes); O(keys) for JSON files.
        """

    def versions(self, key: str, limit: int = 100, below: int = 0) -> list[Version]:
        """The kept versions of a key, newest first, deletes included; below a revision where `below` is not 0."""

    def commits(self, limit: int = 100, below: int = 0) -> list[Commit]:
        """The kept commits, newest first; below a revision where `below` is not 0."""

    def marks(self) -> list[CheckpointRecord]:
        """All checkpoints, in the order of their making; the last of a name is the current one."""

    def compact(self, floor: int, progress: ProgressCount | None = None) -> int:
        """Forget the versions that no revision from `floor` on and no checkpoint can see; give the space back.

        Others may read and write meanwhile. Killed at any instant, or ended by what `progress` raises, it has forgotten
        nothing else, and done again it goes on. Returns the number of versions dropped. O(history).
        """

    def superseded(self, after: tuple[str, int] = ("", 0), limit: int = 1000) -> list[SupersededVersion]:
        """A page of the versions that are kept and not live, by key and then revision, without their values.

        Args:
            after: the key and revision of the last one of the page before.
            limit: how many at most. An empty page: there are no more.

        A page is of one state. O(log n + limit), of values only with Redis.
        """

    def disk_usage(self, gone: Iterable[tuple[str, int]] = ()) -> DiskUsage | None:
        """What the namespace takes; None where the server does not say.

        Args:
            gone: checkpoints (name, revision) that are taken for deleted in the reckoning of what is spare.

        O(1), but for Redis, which looks at a thousand members of each of its keys.
        """

    def versions_page(
        self, after: tuple[str, int] = ("", 0), limit: int = 1000, keys: Iterable[str] | None = None
    ) -> list[StoredVersion]:
        """A page of all versions that are kept, deletes and what has expired included, by key and then revision.

        A page is of one state; between pages others may write, of which `changed` tells. It ends after `limit`
        versions at most, and soon after `PAGE` bytes of values. An empty page: there are no more.

        Args:
            after: the key and revision of the last version of the page before.
            limit: how many at most.
            keys: only the versions of these.

        O(log n + limit); O(keys) more where these are given.
        """

    def open_staging(self) -> StagedImport:
        """The place where a copy of another namespace is built, to become this one.

        Raises:
            Conflict: another receiver has it.

        """

    def wait(self, revision: int, timeout: float) -> int:
        """Wait up to `timeout` seconds until the namespace's revision is above `revision`; return what it is then."""

    def drop(self) -> None:
        """Remove the namespace and everything in it."""

    def namespaces(self) -> list[str]:
        """The namespaces of this store, sorted."""

    def open_recovery(self) -> AbstractContextManager[RecoverySession]:
        """Lock the namespace for a recovery: see `maintenance.recovery`. A namespace that is missing is not created."""

    def diagnose(self, say: ProgressText) -> Iterator[Finding]:
        """What is wrong, or may go wrong, with what lies where this backend keeps the namespace; changes nothing.

        What can be seen through the other primitives is left out. Where there is no namespace, nothing. Nothing is
        raised for damage, or where nothing answers: that is a finding. O(all that is stored), in bounded memory.
        """

    def close(self) -> None:
        """Let go of files and connections. The backend is not used again."""
