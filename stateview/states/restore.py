"""Restore, undo and redo: new commits with the content of an earlier state."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import partial
from itertools import chain

from .. import codec
from ..backends.conflicts import base_conflict_error, check_expected
from ..backends.protocol import Backend, CheckpointRecord, CheckpointWrite, CommitRequest, Head, StateAt, Version, Write
from ..backends.retries import Backoff
from ..errors import Conflict, HistoryPruned, InvalidArgument, KeyNotFound, RefNotFound, see
from ..model import Commit, check_key, to_datetime
from ..settings import CheckpointRetention
from . import compare as comparison
from . import retention
from .changes import SIGNS, Change, Diff
from .leases import PREFIX as LOCKS
from .leases import is_lease
from .matching.patterns import Selection
from .missing import check_exists
from .moments import pinned
from .steady import snapshot
from .values.json_diff import apply_selected
from .values.pointers import split_pointer
from .view import renew_points, resolve

DEADLINE_SECONDS = 30.0  # a restore retries for so long while other writers come first
MAX_EXPIRED_CHECKPOINTS = 1000  # safety checkpoints that one restore deletes at most
_DAY_MICROSECONDS = 86_400_000_000
_MAX_REASON_CHARACTERS = 500

Committer = Callable[[CommitRequest], Head]
Pair = tuple[str, Version | None, Version | None]


class RestoreRequest:
    """Describe which keys and places to restore, and under which conditions; see `StateManager.restore_checkpoint`.

    `act` names the safety checkpoint. The log shows `reason`, by default the command line that asks for the restore.
    `source` keeps the state to restore, if that is another namespace.
    """

    def __init__(
        self, ref: str | int, keys: Iterable[str] | str | None, paths: Mapping[str, Iterable[str]] | None = None,
        expected: int | None = None, previewed: int | None = None, *, reason: str = "", act: str = "restore",
        source: Backend | None = None,
    ) -> None:  # fmt: skip
        if source is not None and keys is None and not paths:
            raise InvalidArgument("from another namespace, chosen keys or paths are restored", "Give keys or paths")
        self.ref = ref
        self.source = source
        self.selection = self._given = Selection(() if keys is None and paths is not None else keys)
        pairs = (paths or {}).items()
        self.paths = {
            check_key(key): {pointers} if isinstance(pointers, str) else set(pointers) for key, pointers in pairs
        }
        for pointer in chain.from_iterable(self.paths.values()):
            split_pointer(pointer[1:] if pointer.startswith(tuple(SIGNS.values())) else pointer)
        self.expected = expected
        self.previewed = previewed
        self.act = act
        self._reason = reason

    def look(self, *states: tuple[Backend, StateAt]) -> bool:
        """Decide which patterns are names of keys in these states. Returns whether that differs from the last look."""
        before = self.selection.exact()
        self.selection = comparison.select(self._given, *states)
        return self.selection.exact() != before

    def __call__(self, key: str) -> bool:
        """Return whether a key, or a place in it, is to be restored."""
        return key in self.paths or self.selection(key)

    @property
    def names(self) -> list[str] | None:
        """List all keys that the restore can touch, if each was given by name; else None."""
        patterns, exact = self.selection.patterns, self.selection.exact()
        if patterns is None or len(exact) < len(patterns):
            return None
        return sorted({*exact, *patterns, *self.paths})  # `a[[]0]` can become the name of a key too

    def reason(self, url: str) -> str:
        """Return why, for the log of a namespace of the store `url`."""
        if self._reason:
            return self._reason
        words = [f"restore {self.ref}"]
        if self.source is not None:
            words += ["--from-namespace", self.source.namespace]
            words += ["--from-store", self.source.url] if self.source.url != url else []
        if self.selection.patterns:
            words += ["--keys", *self.selection.patterns]
        words += [f"--path {key}#{path}" for key in sorted(self.paths) for path in sorted(self.paths[key])]
        text = " ".join(words)
        return text if len(text) <= _MAX_REASON_CHARACTERS else text[: _MAX_REASON_CHARACTERS - 1] + "…"


class RestoreDiff(Diff):
    """Hold the diff that a restore applied, its safety checkpoint, and the safety checkpoints that it deleted."""

    def __init__(self, applied: Diff, checkpoint: str, expired: tuple[str, ...]) -> None:
        super().__init__(applied.before, applied.after, applied._source)
        self.checkpoint = checkpoint
        self.expired = expired


def restore(backend: Backend, request: RestoreRequest, safety: CheckpointRetention | None, commit: Committer) -> Diff:
    """Restore as `StateManager.restore_checkpoint` does; without a retention policy, as a dry run."""
    work = _Restore(backend, request)
    if safety is None:
        return work.preview()
    backoff = Backoff(DEADLINE_SECONDS, first=0.01, longest=0.01)
    names = retention.numbered_names(retention.stamped_name(f"before_{request.act}"))
    name = next(names)
    while True:
        try:
            expired, batch = work.plan(name, safety)
        except HistoryPruned:
            if backend.head().floor <= work.live.revision or not backoff.wait():
                raise  # not the live state that was read is pruned, but another
            work.begin_again()
            continue
        if not work.writes:
            return Diff(*work.labels, lambda: iter(()))
        try:
            head = commit(batch)
        except Conflict:
            if not backoff.wait():
                raise
            if any(checkpoint.name == name for checkpoint in backend.marks()):
                name = next(names)
            continue
        # Others may have written other keys since: the state before is the revision before this commit.
        before = partial(backend.read, at=StateAt(head.revision - 1, work.live.time))
        applied = applied_diff(before, work.writes, head, work.labels)
        return RestoreDiff(applied, name, tuple(mark.name for mark in expired))


class _Restore:
    """Plan one restore, and keep the plan up to date while others write.

    The condition of its commit makes the restore atomic. A restore of keys given by name depends on those keys alone.
    Its commit expects each of them at the revision that was read, so writers of other keys never make it fail. A
    restore by globs, or of all keys, also depends on no other key having appeared, so its commit expects the
    namespace's revision. After a conflict only the keys written since the last read are planned again, so that the next
    try is quick.
    """

    def __init__(self, backend: Backend, request: RestoreRequest) -> None:
        self.backend = backend
        self.request = request
        check_exists(backend)
        self.labels = ("live", str(request.ref))
        source = backend
        if request.source is not None:
            check_exists(request.source)
            source, self.labels = request.source, ("live", f"{request.source.namespace}:{request.ref}")
        request.ref = pinned(source, request.ref)  # `@2h` must not move on while the restore is tried again
        self.target = resolve(source, request.ref)
        self.live = StateAt(0, 0)
        self.writes: dict[str, Write] = {}
        self._looked = False
        self._begun_again = False

    def begin_again(self) -> None:
        """Plan from the beginning next time, from one snapshot.

        Raises:
            HistoryPruned: the state to restore is pruned.

        """
        self.target = resolve(self.source, self.request.ref)
        self._looked, self._begun_again = False, True

    @property
    def source(self) -> Backend:
        """Return the backend that keeps the state to restore."""
        return self.request.source or self.backend

    def plan(self, mark: str, safety: CheckpointRetention) -> tuple[list[CheckpointRecord], CommitRequest]:
        """Plan against the present live state; return the checkpoints to delete, and the commit."""
        backend = self.backend
        try:
            with snapshot(backend) if self._begun_again else nullcontext(backend) as self.backend:
                self.look()
                expired = self.expired(safety) if self.writes else []
                return expired, self.batch(mark, expired) if self.writes else CommitRequest()
        finally:
            self.backend = backend

    def preview(self) -> Diff:
        """Return the diff that would be applied, streamed."""
        request = self.request
        if request.previewed is None:
            self._go_live()
            self._require()
        else:
            self.look()
        if request.source is None and not request.paths and not self._has_locks():
            points = [self.live, self.target]
            renew = renew_points(["live", request.ref], points) if request.expected is None else None
            return comparison.diff_points(self.backend, points[0], points[1], self.labels, request, renew)
        for _ in self._pairs(request.paths):
            pass  # an unknown path must fail now, not when the diff is read
        return _preview(lambda: self._pairs(self._touched()), self.labels)

    def look(self) -> None:
        """Plan against the present live state.

        Raises:
            Conflict: live is not at the expected revision, or was written after the preview.

        """
        previous = self.live if self._looked else None
        renamed = self._go_live()
        try:
            since = None if previous is None or renamed else self.backend.changed_keys(previous, self.live)
        except HistoryPruned:  # more was written since the last read than the history keeps
            since = None
        if since is None:
            self._require()
            keys = self._touched()
            self.writes.clear()
        else:
            keys = list(filter(self.request, since))
            for key in keys:
                self.writes.pop(key, None)
        self._check_previewed(self.request.paths, since)  # their pointers belong to the previewed values
        self.writes.update(_writes(self._pairs(keys), self.target, self.request.source is None))
        self._check_previewed(self.writes.keys() - self.request.paths.keys(), since)
        self._looked = True

    def expired(self, safety: CheckpointRetention) -> list[CheckpointRecord]:
        """List the safety checkpoints to delete, oldest first, but not the restored one. O(checkpoints)."""
        existing = [mark for mark in self.backend.marks() if retention.kind_of(mark) == "safety"]
        keep = max(0, safety.keep - 1)  # this restore makes one more
        old = retention.expired(existing, keep, self.live.time - safety.days * _DAY_MICROSECONDS)
        return [mark for mark in old if mark.revision != self.target.revision][:MAX_EXPIRED_CHECKPOINTS]

    def batch(self, mark: str, expired: Iterable[CheckpointRecord]) -> CommitRequest:
        """Build the planned commit. Its checkpoint names the revision before it."""
        request, reason, names = self.request, self.request.reason(self.backend.url), self.request.names
        marks = (CheckpointWrite(mark, f"made by {reason}", fresh=True, kind="safety"),)
        unmarks = tuple((checkpoint.name, checkpoint.revision) for checkpoint in expired)
        if names is None or request.expected is not None:
            return CommitRequest(self.writes, base=self.live.revision, reason=reason, marks=marks, unmarks=unmarks)
        expected = dict.fromkeys(names, 0)
        for start in range(0, len(names), comparison.KEYS_PER_PAGE):
            versions = self.backend.read(names[start : start + comparison.KEYS_PER_PAGE], self.live)
            expected.update((name, version.revision) for name, version in versions.items())
        return CommitRequest(self.writes, expected, reason=reason, marks=marks, unmarks=unmarks)

    def _go_live(self) -> bool:
        """Take the present live state. Returns whether other patterns than before are names of keys."""
        revision, request = self.backend.head().revision, self.request
        check_expected(self.backend.namespace, request.expected, revision)
        if request.previewed is not None and request.previewed > revision:  # of a namespace that was dropped since
            raise base_conflict_error(self.backend.namespace, request.previewed, revision)
        self.live = StateAt(revision, self.backend.now())
        return request.look((self.backend, self.live), (self.source, self.target))

    def _require(self) -> None:
        if self.request.selection.patterns:
            states = (self.backend, self.live), (self.source, self.target)
            comparison.require_keys(self.request.selection, *states)

    def _touched(self) -> list[str]:
        """List the keys that may differ, and the keys named with paths."""
        request = self.request
        if request.source is None:
            changed: Iterable[str] = comparison.changed_keys(self.backend, self.live, self.target)
        elif request.names is not None:
            return request.names
        else:
            states = (self.backend, self.live), (request.source, self.target)
            changed = (row.key for backend, at in states for row in comparison.rows(backend, "", at))
        return sorted({*filter(request, changed), *request.paths})

    def _has_locks(self) -> bool:
        try:
            found = self.backend.list_keys(LOCKS, limit=1, at=self.target)
        except HistoryPruned:  # the comparison reads a later state, or raises this
            found = []
        return bool(found or self.backend.list_keys(LOCKS, limit=1))

    def _pairs(self, keys: Iterable[str]) -> Iterator[Pair]:
        """Yield the live version of each key, and the version to restore."""
        paths, whole = self.request.paths, self.request.selection
        for key, old, new in comparison.read_pairs(self.backend, keys, self.live, self.target, self.source):
            if is_lease(key, old, new) and key not in whole.exact():
                continue
            partly = self._partly(key, old, new) if key in paths else new
            yield key, old, new if whole(key) else partly

    def _partly(self, key: str, old: Version | None, new: Version | None) -> Version | None:
        """Apply the chosen changes inside a key. The key keeps its expiry unless all changes are chosen."""
        pointers, ref = self.request.paths[key], self.request.ref
        if not pointers:
            return old
        change = comparison.change(key, old, new)
        if change is None:
            raise KeyNotFound(f"key {key!r} does not differ between live and {ref}", see("diff"))
        try:
            value = apply_selected(change.before, change.after, pointers)
        except KeyNotFound as error:
            hint = see("restore", str(ref), "--dry-run")
            raise KeyNotFound(f"key {key!r}: {error.message} between live and {ref}", hint) from None
        if value is change.after:
            return new
        assert old is not None and new is not None, "only a change inside a value has parts"
        expires = old.expires - self.live.time + self.target.time if old.expires else 0
        return Version(key, codec.encode(value), new.revision, new.time, expires)

    def _check_previewed(self, keys: Collection[str], since: list[str] | None) -> None:
        """Refuse if one of these keys was written after the preview or, if known, since the last read."""
        previewed = self.request.previewed
        if previewed is None or not keys:
            return
        if since is not None:
            written = set(since)
        else:
            try:
                written = set(self.backend.changed_keys(StateAt(previewed, 0), StateAt(self.live.revision, 0)))
            except HistoryPruned:
                written = self._rewritten(keys, previewed)
        late = sorted(written.intersection(keys))
        if late:
            names = ", ".join(repr(key[:60]) for key in late[:3]) + (", …" if len(late) > 3 else "")
            count = "1 key" if len(late) == 1 else f"{len(late):,} keys"
            raise Conflict(
                f"{count} to restore changed since revision {previewed}, which was previewed: {names}",
                "Look at what would be restored now, and try again",
            )

    def _rewritten(self, keys: Iterable[str], revision: int) -> set[str]:
        """Find the keys written after a pruned revision: a live entry has the revision of its write."""
        written = set()
        for key, version, _ in comparison.read_pairs(self.backend, keys, self.live, self.live):
            if version is None:
                raise HistoryPruned(
                    f"revision {revision} is no longer kept, so when key {key[:60]!r} was deleted cannot be told",
                    "Preview it again, and restore soon after",
                )
            if version.revision > revision:
                written.add(key)
        return written


def _preview(pairs: Callable[[], Iterator[Pair]], labels: tuple[str, str]) -> Diff:
    """Return the diff between the versions of each key, read when it is iterated."""

    def source() -> Iterator[Change]:
        for pair in pairs():
            if difference := comparison.change(*pair):
                yield difference

    return Diff(*labels, source)


def _writes(pairs: Iterable[Pair], target: StateAt, one_history: bool = True) -> Iterator[tuple[str, Write]]:
    """Yield the writes that give keys the value and expiry of another version, of the same namespace or another."""
    for key, old, new in pairs:
        if new is None or new.value is None:
            if old is not None:
                yield key, Write(None)
        elif old is None or not ((one_history and old.revision == new.revision) or _alike(key, old, new)):
            yield key, Write(new.value, new.expires - target.time if new.expires else 0)


def _alike(key: str, old: Version, new: Version) -> bool:
    return old.expires == new.expires and comparison.change(key, old, new) is None


def undo(backend: Backend, commit: Committer, expected: int | None, dry_run: bool) -> Diff:
    """Undo as `StateManager.undo` does."""
    with _unless_overtaken(backend) as head:
        return _undo(backend, head, commit, expected, dry_run)


def _undo(backend: Backend, head: Head, commit: Committer, expected: int | None, dry_run: bool) -> Diff:
    last = commit_at(backend, head, head.revision)
    position = position_of(last)
    if position <= 0:
        raise _nothing("undo", backend)
    before = position - 1
    if before < head.floor:
        raise HistoryPruned(f"what came before revision {position} is no longer kept", see("checkpoints"))
    earlier = position_of(commit_at(backend, head, before)) if before > head.floor else before
    marks = (earlier, position, last.revision if last.forward else 0)
    reason = f"undo {title(backend, head, position)}"
    return _go(backend, head, before, marks, reason, commit, expected, dry_run)


def redo(backend: Backend, commit: Committer, expected: int | None, dry_run: bool) -> Diff:
    """Redo as `StateManager.redo` does."""
    with _unless_overtaken(backend) as head:
        return _redo(backend, head, commit, expected, dry_run)


@contextmanager
def _unless_overtaken(backend: Backend) -> Iterator[Head]:
    """Give the head. If the block finds something pruned since then, another writer came first: raise `Conflict`."""
    head = backend.head()
    try:
        yield head
    except HistoryPruned as error:
        present = backend.head()
        if present.floor == head.floor:
            raise
        raise base_conflict_error(backend.namespace, head.revision, present.revision) from error


def _redo(backend: Backend, head: Head, commit: Committer, expected: int | None, dry_run: bool) -> Diff:
    last = commit_at(backend, head, head.revision) if head.revision > head.floor else Commit(0, to_datetime(0))
    if not last.forward:
        raise _nothing("redo", backend)
    if last.forward < head.floor:
        raise HistoryPruned(f"revision {last.forward} is no longer kept", see("checkpoints"))
    behind = commit_at(backend, head, last.behind) if last.behind > head.floor else None
    marks = (last.forward, behind.forward if behind else 0, behind.behind if behind else 0)
    reason = f"redo {title(backend, head, last.forward)}"
    return _go(backend, head, last.forward, marks, reason, commit, expected, dry_run)


def _go(
    backend: Backend, head: Head, revision: int, marks: tuple[int, int, int], reason: str, commit: Committer,
    expected: int | None, dry_run: bool,
) -> Diff:  # fmt: skip
    check_expected(backend.namespace, expected, head.revision)
    live, target = StateAt(head.revision, backend.now()), resolve(backend, revision, head)
    # Equal times leave out entries that only expired: undo takes back writes alone.
    low, high = sorted((StateAt(revision, 0), StateAt(head.revision, 0)), key=lambda point: point.revision)

    def pairs() -> Iterator[Pair]:
        found = comparison.read_pairs(backend, backend.changed_keys(low, high), live, target)
        return (pair for pair in found if not is_lease(*pair))

    if dry_run:
        return _preview(pairs, ("live", str(revision)))
    planned = {key: (old, new) for key, old, new in pairs()}
    writes = dict(_writes(((key, old, new) for key, (old, new) in planned.items()), target))
    if not writes:  # nothing is left to change, but the next undo needs a commit that records this one
        key = next((key for key, old, _ in pairs()), None)
        if key is not None:
            writes = {key: _as_is(backend, key, live)}
    result = commit(CommitRequest(writes, base=head.revision, reason=reason, undo=marks))
    olds = {key: planned[key][0] for key in writes if key in planned}
    return applied_diff(olds, writes, result, ("live", str(revision)))


def _as_is(backend: Backend, key: str, live: StateAt) -> Write:
    version = backend.read([key], live).get(key)
    if version is None:
        return Write(None)
    return Write(version.value, version.expires - live.time if version.expires else 0)


def applied_diff(
    before: Mapping[str, Version | None] | Callable[[list[str]], Mapping[str, Version | None]],
    writes: Mapping[str, Write],
    head: Head,
    labels: tuple[str, str],
) -> Diff:
    """Return what a commit changed. Its own state is not read: others may have pruned that already.

    Args:
        before: the versions of the keys before the commit, or returns those of some keys.
        writes: what the commit wrote.
        head: the head after the commit.
        labels: what to call the two states.

    """

    def source() -> Iterator[Change]:
        keys = sorted(writes)
        for start in range(0, len(keys), comparison.KEYS_PER_PAGE):
            page = keys[start : start + comparison.KEYS_PER_PAGE]
            olds = before(page) if callable(before) else before
            for key in page:
                value = writes[key].value
                new = None if value is None else Version(key, value, head.revision, head.time)
                if difference := comparison.change(key, olds.get(key), new):
                    yield difference

    return Diff(*labels, source)


def position_of(commit: Commit) -> int:
    """Return the revision whose content a commit restored (0: the empty beginning), else its own revision."""
    return commit.position if commit.position or commit.forward else commit.revision


def commit_at(backend: Backend, head: Head, revision: int) -> Commit:
    """Return the commit of a revision.

    Raises:
        RefNotFound: it is revision 0, which no commit made.
        HistoryPruned: it is no longer kept.

    """
    if revision <= 0:
        raise _nothing("undo", backend)
    commits = backend.commits(1, revision + 1)
    if not commits or commits[0].revision != revision:
        raise HistoryPruned(
            f"commit {revision} is no longer kept", f"The history reaches back to revision {head.floor}"
        )
    return commits[0]


def title(backend: Backend, head: Head, revision: int) -> str:
    """Return the revision and the reason of a commit, for the reason of another."""
    commit = commit_at(backend, head, revision)
    return f"{revision}: {commit.reason}"[:200]


def _nothing(act: str, backend: Backend) -> RefNotFound:
    check_exists(backend)
    return RefNotFound(f"there is nothing to {act} in namespace {backend.namespace!r}", see("log"))
