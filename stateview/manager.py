"""StateManager: all that can be done with a namespace, written once over the primitives of its backend."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property, partial
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

from . import codec, settings
from .backends import kind_of, make_backend, parse_store
from .backends.protocol import (
    Backend,
    CheckpointRecord,
    CheckpointWrite,
    CommitRequest,
    Head,
    KeySummary,
    StateAt,
    Version,
    Write,
)
from .errors import Conflict, HistoryPruned, InvalidName, KeyNotFound, ReadOnly, StateException
from .model import (
    ABSENT,
    Checkpoint,
    Commit,
    DoctorReport,
    Entry,
    RecoveryReport,
    check_checkpoint,
    check_key,
    check_name,
    is_key,
    parse_ref,
    to_datetime,
)
from .states import compare as comparison
from .states import restore as restoring
from .states.json_diff import Change, Diff, resolve_pointer
from .states.retention import kind_of_name, numbered_names, stamped_name
from .states.transaction import Transaction, check_expected, check_ttl
from .states.view import Ref, StateView, diff, find_mark, missing_key, missing_mark, resolve, to_checkpoint, to_entry

if TYPE_CHECKING:
    from datetime import timedelta

    from .backends.protocol import ProgressCount
    from .maintenance.prune import PruneReport
    from .maintenance.stats import Stats
    from .transfer.export_import import ExportReport, ImportJob, ImportReport
    from .transfer.migrate import MigrationReport, OnMigrationProgress

UPDATE_SECONDS = 60.0
KEYS_PER_FORK_COMMIT = 20_000
_WAIT_SECONDS = 1.0  # seconds of one wait of `watch`, between which Ctrl-C and a timeout are looked at


class StateManager:
    """The state of one workflow: values under keys, in one namespace of a store.

    Args:
        backend: `"json"`, `"sqlite"`, `"redis"`, a store URL, or the name of a store in `stateview.toml`. None: what
            `stateview init` chose in this folder, else JSON files.
        namespace: 1 to 128 letters, digits, `.`, `_`, `-`. None: what `init` chose, else `"default"`.
        read_only: every write raises `ReadOnly`, and nothing is created.
        author: who, for the log. None: the environment's `STATEVIEW_AUTHOR`.
        history: for how many revisions superseded versions are kept at least (10,000); what a checkpoint can see is
            kept in any case.
        timeout: seconds to go on trying through faults that can pass (10).
        durability: for SQLite, `"full"` (default) or `"normal"`, which is faster and may lose the last commits, never
            half of one, with the power.

    Safe to use from several threads, and in a child after `fork()`. Opening costs nothing: files and connections are
    opened, and an empty namespace is made, when they are first needed.

    Raises:
        InvalidName: a backend or namespace that cannot be.

    """

    def __init__(
        self, backend: str | None = None, namespace: str | None = None, *, read_only: bool = False,
        author: str | None = None, history: int | None = None, timeout: float | None = None,
        durability: str | None = None,
    ) -> None:  # fmt: skip
        if namespace is not None:
            check_name(namespace, "namespace")
        if backend is not None and (not isinstance(backend, str) or not backend):
            raise InvalidName(f"{backend!r} is not a store", "Use json, sqlite, redis, or a store URL")
        chosen = settings.resolve_target(backend, namespace)
        given = {"history": history, "timeout": timeout, "durability": durability}
        options = {name: value for name, value in given.items() if value is not None}
        read_only = read_only or chosen.read_only
        if history is not None and history < 1:
            raise ValueError(f"history={history!r}: at least 1 revision is kept")
        self.read_only = read_only
        self.author = author if author is not None else os.environ.get("STATEVIEW_AUTHOR", "")
        store, name = parse_store(chosen.store), check_name(chosen.namespace, "namespace")
        self._url, self._namespace = store.shown, name
        self._make = partial(make_backend, store, name, read_only=read_only, **options)
        if not kind_of(store).slow_import:
            self.backend = self._make()
        self._opened: dict[str, Any] = {
            "backend": chosen.store, "read_only": read_only, "author": author, "history": history, "timeout": timeout,
            "durability": durability,
        }  # fmt: skip

    def __enter__(self) -> StateManager:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<StateManager {self.url} namespace {self.namespace!r}{' read-only' if self.read_only else ''}>"

    @cached_property
    def backend(self) -> Backend:
        """What reads and writes the store; made when it is first asked for."""
        made: Backend = self.__dict__.setdefault("backend", self._make())  # the first of several threads' counts
        return made

    @property
    def namespace(self) -> str:
        """The namespace's name."""
        return self._namespace

    @property
    def url(self) -> str:
        """The store's URL, its password masked."""
        return self._url

    @property
    def revision(self) -> int:
        """The present revision; 0 where nothing was ever written."""
        return self.backend.head().revision

    def head(self) -> Head:
        """The present revision, its time, the number of keys, and how far back the history is kept."""
        return self.backend.head()

    def close(self) -> None:
        """Let go of files and connections. They are opened again if the manager is used again."""
        if "backend" in self.__dict__:
            self.backend.close()

    # --- keys --------------------------------------------------------------------------------------------------

    def save(
        self, key: str, value: Any, *, ttl: float | None = None, expected: int | None = None, reason: str = ""
    ) -> int:
        """Save a value under a key, durably, and return the new revision.

        Args:
            key: any non-empty string without NUL, up to 1,024 bytes of UTF-8.
            value: what JSON can hold: dict with string keys, list, str, int of any size, finite float, bool, None.
                Tuples come back as lists. Up to 64 MiB encoded and 200 levels deep.
            ttl: seconds until it expires; None: never, also where it had an expiry before.
            expected: the revision that the key must have now, 0 for "only if absent".
            reason: for the log.

        Raises:
            InvalidName, NotSerializable: nothing was written.
            Conflict: the key is not at `expected`.
            ReadOnly, BackendError, BackendUnavailable, Damaged: see each.

        """
        data = codec.encode(value)
        check_expected(expected)
        expectation = {} if expected is None else {check_key(key): expected}
        write = Write(data, check_ttl(ttl))
        return self._commit(
            CommitRequest({check_key(key): write}, expectation, reason=reason or f"save {key}")
        ).revision

    def load(self, key: str, default: Any = ABSENT, *, at: Ref | None = None) -> Any:
        """The value of a key, fresh: changing it changes nothing stored.

        Args:
            key: the key.
            default: returned where there is no value. None is a default like any other.
            at: a ref: the state to read. None: live.

        Raises:
            KeyNotFound: there is no value, and no default was given.
            RefNotFound, HistoryPruned: `at` names nothing that is kept.

        """
        if at is not None:
            return self.at(at).load(key, default)
        found = self.backend.get(check_key(key))
        if found is not None and found.value is not None:
            return codec.decode(found.value, key)
        if default is ABSENT:
            raise missing_key(self.backend, key)
        return default

    def entry(self, key: str, *, at: Ref | None = None) -> Entry:
        """The value of a key with its revision, time, expiry and what is left of it.

        Raises:
            KeyNotFound: there is none.

        """
        if at is not None:
            return self.at(at).entry(key)
        found = self.backend.get(check_key(key))
        if found is None:
            raise missing_key(self.backend, key)
        return to_entry(found)

    def delete(self, key: str, *, expected: int | None = None, reason: str = "") -> bool:
        """Delete a key; its history stays. Returns whether there was a value; nothing is written where not.

        Raises:
            Conflict: the key is not at the `expected` revision.

        """
        check_expected(expected)
        found = self.backend.get(check_key(key))
        if found is None and expected is None:
            return False
        expectation = {key: expected if expected is not None else found.revision if found else 0}
        try:
            self._commit(CommitRequest({key: Write(None)}, expectation, reason=reason or f"delete {key}"))
        except Conflict:
            if expected is not None:
                raise
            return self.delete(key, reason=reason)  # written anew, or deleted, since the look
        return True

    def list_keys(
        self, prefix: str = "", *, keys: Iterable[str] | str | None = None, at: Ref | None = None
    ) -> list[str]:
        """The keys, sorted by code points: those with a prefix, or chosen by names and globs. O(keys listed)."""
        return self.at("live" if at is None else at).list_keys(prefix, keys)

    def rows(
        self, prefix: str = "", after: str = "", before: str = "", limit: int = 1000, skip: int = 0,
        backwards: bool = False, *, at: Ref | None = None,
    ) -> list[KeySummary]:  # fmt: skip
        """A page of the keys without their values, in code point order, for lists of any length.

        Args:
            prefix: only keys that start with it.
            after: only keys above this one. "": from the first.
            before: only keys below this one. "": to the last.
            limit: how many at most. Fewer than these are all that there is.
            skip: how many keys to pass over first.
            backwards: take the last of these keys instead of the first, having passed over `skip` from the end; they
                are in ascending order all the same.
            at: a ref: the state to read. None: live, at the time of the call.

        Returns:
            Of each key its size in bytes, the start of its encoded value (which is not checked against its checksum),
            revision, time and expiry in microseconds. O(log n + limit), wherever in the namespace.

        Raises:
            RefNotFound, HistoryPruned: `at` names nothing that is kept.

        """
        if at is not None:
            return self.at(at).rows(prefix, after, before, limit, skip, backwards)
        return self.backend.list_keys(prefix, after, before, limit, None, skip, backwards)

    def count(self, low: str = "", high: str = "", *, at: Ref | None = None) -> int:
        """How many keys there are from `low` up to, not including, `high`; "" is no bound.

        Without bounds and a ref it is O(log n), else O(keys counted).

        Raises:
            RefNotFound, HistoryPruned: `at` names nothing that is kept.

        """
        return self.backend.count(low, high) if at is None else self.at(at).count(low, high)

    def __contains__(self, key: object) -> bool:
        return is_key(key) and self.backend.get(key) is not None

    def update(
        self, key: str, function: Callable[[Any], Any], default: Any = ABSENT, *, ttl: float | None = None,
        reason: str = "",
    ) -> Any:  # fmt: skip
        """Read, change and write a key with no other write in between; returns the new value.

        `function` gets the value (or `default`) and returns the new one. It may be called more than once, and must
        have no effect of its own.

        Raises:
            KeyNotFound: there is no value, and no default was given.
            Conflict: other writers were first for a whole minute.

        """

        def make() -> CommitRequest:
            found = self.backend.get(check_key(key))
            if found is None and default is ABSENT:
                raise missing_key(self.backend, key)
            value = function(default if found is None or found.value is None else codec.decode(found.value, key))
            write = Write(codec.encode(value), check_ttl(ttl))
            return CommitRequest({key: write}, {key: found.revision if found else 0}, reason=reason or f"update {key}")

        batch, _ = self._commit_with_retry(make)
        return codec.decode(batch.writes[key].value or b"null", key)

    def rename(self, key: str, new: str, *, expected: int | None = None, reason: str = "") -> int:
        """Give a key another name, in one commit, and return the new revision. The expiry goes along. O(log n).

        The history stays with each name: the earlier versions are those of `key`, whose last one is a delete.

        Args:
            key: the key.
            new: its new name, under which there must be no value.
            expected: the revision that the key must have now.
            reason: for the log.

        Raises:
            InvalidName: either cannot be a key.
            KeyNotFound: there is no value under `key`.
            Conflict: there is one under `new`, the key is not at `expected`, or others were first for a whole minute.

        """
        check_expected(expected)
        names = [check_key(key), check_key(new)]

        def make() -> CommitRequest:
            live = StateAt(self.backend.head().revision, self.backend.now())
            found = self.backend.read(names, live)
            if key not in found:
                raise missing_key(self.backend, key)
            if new in found:
                raise Conflict(f"key {new!r} exists already, since revision {found[new].revision}", "Delete it first")
            old = found[key]
            write = Write(old.value, old.expires - live.time if old.expires else 0)
            expectation = {key: old.revision if expected is None else expected, new: 0}
            return CommitRequest({key: Write(None), new: write}, expectation, reason=reason or f"rename {key} to {new}")

        return self._commit_with_retry(make, once=expected is not None)[1].revision

    def expire(self, key: str, ttl: float | None, *, expected: int | None = None, reason: str = "") -> int:
        """Set or clear when a key expires, and return the new revision. The value stays. O(log n).

        Args:
            key: the key.
            ttl: seconds from now; None: never.
            expected: the revision that the key must have now.
            reason: for the log.

        Raises:
            KeyNotFound: there is no value.
            Conflict: the key is not at `expected`, or others were first for a whole minute.
            ValueError: no positive number of seconds.

        """
        check_expected(expected)
        micros = check_ttl(ttl)
        said = reason or (f"expire {key} never" if ttl is None else f"expire {key} in {ttl:g} s")

        def make() -> CommitRequest:
            found = self.backend.get(check_key(key))
            if found is None:
                raise missing_key(self.backend, key)
            expectation = {key: found.revision if expected is None else expected}
            return CommitRequest({key: Write(found.value, micros)}, expectation, reason=said)

        return self._commit_with_retry(make, once=expected is not None)[1].revision

    @contextmanager
    def transaction(self, reason: str = "") -> Iterator[Transaction]:
        """A block of reads and writes that becomes one commit when it ends, and none if it raises.

        Raises:
            Conflict: at the end of the block, if a key that it read has been written by another since. Nothing was
                written; run the block again.

        """
        transaction = self.begin(reason)
        try:
            yield transaction
        except BaseException:
            transaction.discard()
            raise
        self.commit(transaction)

    def begin(self, reason: str = "") -> Transaction:
        """A transaction that ends with `commit`, or with nothing; for where a `with` block does not fit."""
        return Transaction(self.backend, self.at("live"), reason)

    def commit(self, transaction: Transaction, reason: str = "") -> int:
        """Commit a transaction that was begun with `begin`; returns the revision. Raises as `transaction` does."""
        batch = transaction.batch(reason)
        return self.revision if batch is None else self._commit(batch).revision

    # --- checkpoints and refs ----------------------------------------------------------------------------------

    def checkpoint(self, name: str | None = None, *, note: str = "", at: Ref | None = None) -> str:
        """Name the present state, or the one at a ref, and return the name. O(1); JSON files: O(keys).

        Without a name it is `auto_YYYYMMDD_HHMMSS`, unique. A name that is there already moves; what it named stays
        reachable as `NAME@REVISION`.
        """
        if name is not None:
            check_checkpoint(name)
        where = None if at is None else resolve(self.backend, at)
        if name is None:
            return self._mark_fresh(stamped_name("auto"), note, where)
        revision, moment = (None, 0) if where is None else (where.revision, where.time)
        self._commit(CommitRequest(marks=(CheckpointWrite(name, note, revision, moment, kind=kind_of_name(name)),)))
        return name

    def _mark_fresh(self, stem: str, note: str, where: StateAt | None) -> str:
        revision, moment = (None, 0) if where is None else (where.revision, where.time)
        for name in numbered_names(stem):
            try:
                self._commit(
                    CommitRequest(marks=(CheckpointWrite(name, note, revision, moment, fresh=True, kind="auto"),))
                )
                return name
            except Conflict:
                continue
        raise AssertionError("unreachable: the names have no end")

    def list_checkpoints(self) -> list[str]:
        """The names of the checkpoints, oldest first."""
        return [mark.name for mark in self.checkpoints()]

    def checkpoints(self, *, all: bool = False) -> list[Checkpoint]:
        """The checkpoints with revision, time and note, oldest first; with `all`, also what moved names were."""
        marks = self.backend.marks()
        current = {mark.name: mark for mark in marks}
        found = [to_checkpoint(mark, current[mark.name] is mark) for mark in marks]
        return [one for one in found if all or one.current]

    def delete_checkpoint(self, name: str) -> Checkpoint:
        """Delete a checkpoint (`NAME`, or `NAME@REVISION`), and return what it was. The state itself is untouched.

        Raises:
            RefNotFound: there is none.

        """
        mark = self._mark(name)
        self._commit(CommitRequest(unmarks=((mark.name, mark.revision),)))
        return to_checkpoint(mark)

    def rename_checkpoint(self, name: str, new: str) -> None:
        """Give a checkpoint another name, which must be free.

        Raises:
            RefNotFound: there is none.
            Conflict: the new name is taken.

        """
        mark = self._mark(name)
        kind = kind_of_name(check_checkpoint(new))
        fresh = CheckpointWrite(new, mark.note, mark.revision, mark.time, fresh=True, kind=kind)
        self._commit(CommitRequest(marks=(fresh,), unmarks=((mark.name, mark.revision),)))

    def _mark(self, ref: str) -> CheckpointRecord:
        parsed = parse_ref(ref)
        mark = (
            find_mark(self.backend.marks(), parsed.name, parsed.revision) if parsed.name and not parsed.back else None
        )
        if mark is None:
            raise missing_mark(self.backend, str(ref), parsed.name or str(ref))
        return mark

    def at(self, ref: Ref) -> StateView:
        """A read-only view of the state that a ref names: many reads of one consistent state.

        Args:
            ref: a checkpoint's name, `NAME@REVISION`, a revision number, `live`, or any of these with `~N` steps back.

        Raises:
            InvalidName: it is not a ref.
            RefNotFound, HistoryPruned: it names nothing that is kept.

        """
        return StateView(self.backend, resolve(self.backend, ref), str(ref))

    def diff(self, before: Ref, after: Ref = "live", *, keys: Iterable[str] | str | None = None) -> Diff:
        """What changed from one ref to another (live), as one `Change` a key. O(changes), streamed.

        Raises:
            RefNotFound, HistoryPruned: a ref names nothing that is kept.

        """
        return diff(self.at(before), self.at(after), keys)

    # --- restore, undo, redo -----------------------------------------------------------------------------------

    def restore_checkpoint(
        self, ref: Ref, keys: Iterable[str] | str | None = None, dry_run: bool = False, *,
        paths: Mapping[str, Iterable[str]] | None = None, expected: int | None = None, previewed: int | None = None,
    ) -> Diff:  # fmt: skip
        """Make the live state what it was at a ref, as one new commit, and return the diff that was applied.

        Keys made since are deleted. A checkpoint `before_restore_…` is made of the state before, in the same commit,
        which lets go those of its kind (`before_…`) that are neither among the last 20 nor of the last 30 days, or what
        `[safety]` in `stateview.toml` says. `undo` takes the restore back too. A key with an expiry gets the time that
        it had left then. O(changes since).

        Args:
            ref: the state to bring back.
            keys: only these, by names and globs.
            dry_run: only return the diff that would be applied.
            paths: only these changes: a key to JSON Pointers, as `Change.paths` of the dry run names them. The rest of
                the value stays as it is live, its expiry too unless all its changes are chosen. Two changes of one
                array can share a pointer, which means both; `-/1`, `+/1` and `~/1` mean the removed, the added and the
                changed one alone. With `keys` as well: what either chooses.
            expected: the revision that must be live. None: whatever it is, consistently.
            previewed: a revision that was live when someone looked at what this would do. It is done only if no key
                that it writes was written after that; others may have written other keys.

        Raises:
            Conflict: live is not at `expected`, or a key to write was written since `previewed`, or others wrote so
                often for 30 s that no try came between. With keys given by name or paths, only writes to those count.
            KeyNotFound: a key given by name is in neither state, or a path is that of no change.
            RefNotFound, HistoryPruned: the ref names nothing that is kept; or `previewed` is kept no more, and a key
                has been deleted, so that it cannot be told when.

        """
        check_expected(expected)
        check_expected(previewed, "previewed")
        request = restoring.RestoreRequest(ref, keys, paths, expected, previewed)
        return restoring.restore(self.backend, request, None if dry_run else self.safety, self._commit)

    @property
    def safety(self) -> settings.CheckpointRetention:
        """How long the checkpoints that acts make for safety (`before_…`) are kept, by the folder's `stateview.toml`.

        Raises:
            InvalidName: the file says what is not known.

        """
        return settings.find().safety()

    def revert(self, key: str, revision: int) -> Diff:
        """Bring one key back to its version of an earlier revision."""
        return self.restore_checkpoint(revision, keys=[_literal(check_key(key))])

    def undo(self, *, dry_run: bool = False, expected: int | None = None) -> Diff:
        """Take back the last commit that is not taken back yet, as a new commit; return the diff that was applied.

        Args:
            dry_run: only return the diff that would be applied.
            expected: the revision that must be live.

        Raises:
            RefNotFound: there is nothing to undo.
            HistoryPruned: what came before is no longer kept.
            Conflict: another wrote meanwhile, or live is not at `expected`.

        """
        check_expected(expected)
        return restoring.undo(self.backend, self._commit, expected, dry_run)

    def redo(self, *, dry_run: bool = False, expected: int | None = None) -> Diff:
        """Bring back what the last undo took away; return the diff that was applied.

        Args:
            dry_run: only return the diff that would be applied.
            expected: the revision that must be live.

        Raises:
            RefNotFound: the last commit was no undo, or all is redone.
            Conflict: as in `undo`.

        """
        check_expected(expected)
        return restoring.redo(self.backend, self._commit, expected, dry_run)

    # --- looking back ------------------------------------------------------------------------------------------

    def history(self, key: str, limit: int = 100) -> list[Entry]:
        """The kept versions of a key, newest first; a delete has the value `ABSENT`. O(limit)."""
        return [to_entry(version) for version in self.backend.versions(check_key(key), limit)]

    def log(self, limit: int = 100, *, below: int = 0) -> list[Commit]:
        """The kept commits, newest first; those before a revision, if `below` is given. O(limit)."""
        return self.backend.commits(limit, below)

    def blame(self, key: str, path: str = "") -> Commit:
        """The commit that last changed a key's value, or what a JSON Pointer finds inside it. O(versions passed).

        An undo or redo is seen through: it only brings back what another commit wrote.

        Raises:
            KeyNotFound: the key has no value, or nothing is at the path.
            HistoryPruned: it has not changed for as long as the history is kept.
            ValueError: the path is not a JSON Pointer.

        """
        if check_key(key) not in self:
            raise missing_key(self.backend, key + path)
        below = 0
        while True:
            last = self._last_change(key, path, below)
            found = self.backend.commits(1, last.revision + 1)
            if not found or found[0].revision != last.revision:
                return Commit(last.revision, to_datetime(last.time))
            commit = found[0]
            if not 0 < commit.position < commit.revision or not self.backend.versions(key, 1, commit.position + 1):
                return commit
            below = commit.position + 1  # an undo or a redo only brought back what stood at that revision

    def _last_change(self, key: str, path: str, below: int) -> Version:
        """The version, below a revision if one is given, since which a place inside a value is what it is there."""
        versions = _all_versions(self.backend, key, below)
        last = next(versions)
        value = resolve_pointer(to_entry(last).value, path) if last.value is not None else ABSENT
        if value is ABSENT:
            raise missing_key(self.backend, key + path)
        wanted = codec.canonical(value)
        for version in versions:
            found = ABSENT if version.value is None else resolve_pointer(to_entry(version).value, path)
            if found is ABSENT or codec.canonical(found) != wanted:
                return last
            last = version
        if last.revision <= (floor := self.backend.head().floor):
            raise HistoryPruned(
                f"{key + path!r} has not changed since revision {last.revision}, or earlier",
                f"The history is kept back to revision {floor}",
            )
        return last

    def watch(
        self, *, since: Ref = "live", keys: Iterable[str] | str | None = None, timeout: float | None = None
    ) -> Iterator[Change]:
        """The changes as they are committed by anyone, for ever, or until nothing comes for `timeout` seconds.

        Several commits between two looks come as one change a key. An entry that expires is seen with the next commit.
        """
        selection = comparison.Selection(keys)
        known = resolve(self.backend, since)
        quiet_since = time.monotonic()
        while True:
            left = _WAIT_SECONDS if timeout is None else min(_WAIT_SECONDS, timeout - (time.monotonic() - quiet_since))
            if left <= 0:
                return
            revision = self.backend.wait(known.revision, left)
            if revision < known.revision:
                raise StateException(f"namespace {self.namespace!r} was dropped or replaced while it was watched")
            if revision == known.revision:
                continue
            latest = resolve(self.backend, revision)
            yield from comparison.diff_points(self.backend, known, latest, (str(since), "live"), selection)
            known, quiet_since = latest, time.monotonic()

    # --- files -------------------------------------------------------------------------------------------------

    def export(
        self, target: str | os.PathLike[str] | IO[bytes], *, layout: str | None = None, at: Ref | None = None,
        keys: Iterable[str] | str | None = None, overwrite: bool = False, progress: ProgressCount | None = None,
    ) -> ExportReport:  # fmt: skip
        """Write the namespace into a file, of one revision whatever others write meanwhile. O(all that is kept).

        The file is there whole and durable, or not at all. The same namespace gives the same bytes, from any backend.

        Args:
            target: a path, or a file that is open for writing bytes. One that ends in `.gz` is packed.
            layout: `"jsonl"`, JSON Lines with the whole history and the checkpoints, in bounded memory; `"json"`, an
                object `{key: value}`, sorted. None: by the ending of the path, else `"jsonl"`.
            at: the state to export, for `"json"`. None: live.
            keys: only these, by names and globs, for `"json"`.
            overwrite: replace a file that is there.
            progress: is told how many keys are done, and of how many.

        Raises:
            Conflict: the file is there; or more is written meanwhile than the history keeps.
            KeyNotFound: there is no such namespace, or no key that is chosen.
            InvalidName: a path without a known ending, or a choice that the layout cannot hold.
            HistoryPruned, RefNotFound: `at` names nothing that is kept.

        """
        from .transfer.export_import import export, no_progress

        return export(self.backend, target, layout, at, keys, overwrite, progress or no_progress)

    def import_from(
        self, source: str | os.PathLike[str] | IO[bytes], *, how: str | None = None, dry_run: bool = False,
        force: bool = False, layout: str | None = None, pattern: str | None = None, strip_prefix: str = "",
        text: bool = False, skip: bool = False, progress: ProgressCount | None = None,
    ) -> ImportReport:  # fmt: skip
        """Take in what `export` wrote, a JSON object, data of an older layout, or the strings of any Redis.

        A namespace that is new is made of it, whole or not at all: of JSON Lines with history, revisions and
        checkpoints as they were. In one that is there it becomes one commit, which `undo` takes back. The source is
        never written to. O(all of it); in bounded memory, but for a JSON object and for what is to be written.

        Args:
            source: a path, a file that is open for reading bytes, or the URL of a Redis.
            how: for a namespace that is there: `"merge"`, the source's keys are written and all others stay;
                `"replace"`, all keys become as there, and a checkpoint `before_import_…` is made before.
            dry_run: only return what it would do; the diff is to be read while the source is as it was.
            force: also an export of another lineage, or one that is older than what is live.
            layout: `"jsonl"`, `"json"` or `"state"` (a state.json). None: what it is found to be.
            pattern: of a Redis the keys that its pattern matches, such as `app:*`, with what is left of their lives.
                None: the older layout's keys of this namespace.
            strip_prefix: what to take off the beginning of those keys.
            text: take those values that are not JSON as text.
            skip: leave out those keys that are no strings.
            progress: is told how much is done, and of how much; 0 where that is not known.

        Raises:
            Conflict: the namespace is there, and `how` is not given; the export is of another lineage, or older.
            Damaged: the source is not what it seems to be, with line and column, or the key. Nothing was changed.
            KeyNotFound: there is nothing to import.
            InvalidName: options that do not go together.

        """
        work = self.open_import(
            source, how=how, force=force, layout=layout, pattern=pattern, strip_prefix=strip_prefix, text=text,
            skip=skip, progress=progress,
        )  # fmt: skip
        if dry_run:
            return work.plan()
        with work:
            return work.execute()

    def open_import(
        self, source: str | os.PathLike[str] | IO[bytes], *, how: str | None = None, force: bool = False,
        layout: str | None = None, pattern: str | None = None, strip_prefix: str = "", text: bool = False,
        skip: bool = False, progress: ProgressCount | None = None,
    ) -> ImportJob:  # fmt: skip
        """An import in steps, to be looked at before it is done: a context manager. Arguments as of `import_from`."""
        from .transfer.export_import import ImportJob, no_progress
        from .transfer.import_sources import Options

        options = Options(layout, pattern, strip_prefix, text, skip)
        return ImportJob(
            self.backend, self._commit, source, options, how, force, self.author, progress=progress or no_progress
        )

    # --- the store ---------------------------------------------------------------------------------------------

    def namespaces(self) -> list[str]:
        """The namespaces of the store, sorted."""
        return self.backend.namespaces()

    def fork(self, other: str, *, at: Ref = "live") -> StateManager:
        """Start a new namespace in this store as this one was at a ref; returns its manager. O(keys).

        Raises:
            Conflict: it exists already.

        """
        self.check_writable()
        view = self.at(at)
        target = StateManager(namespace=check_name(other, "namespace"), **self._opened)
        if other in target.namespaces():
            raise Conflict(f"namespace {other!r} exists already", "Give another name")
        said = f"forked from {self.namespace} at {at} (revision {view.revision})"
        base = 0
        try:
            writes: dict[str, Write] = {}
            for version in comparison.entries(self.backend, view._point):
                ttl = version.expires - view._point.time if version.expires else 0
                writes[version.key] = Write(version.value, ttl, version.time)
                if len(writes) == KEYS_PER_FORK_COMMIT and not self.backend.rewrites_state:
                    target._commit(CommitRequest(writes, base=base, reason=said + ", unfinished"))
                    writes, base = {}, base + 1
            mark = (
                () if writes else (CheckpointWrite("forked", said),)
            )  # an empty namespace must have something to exist by
            target._commit(CommitRequest(writes, base=base, reason=said, marks=mark))
        except BaseException:
            if base:
                target.backend.drop()  # half of it is there, made by us
            raise
        return target

    def migrate_to(
        self, destination: str, *, dry_run: bool = False, force: bool = False, switch: bool = False,
        progress: OnMigrationProgress | None = None,
    ) -> MigrationReport:  # fmt: skip
        """Move this namespace into another store: what is live, checkpoints, history, expiry, revisions as they were.

        It is copied, then caught up with what is written meanwhile, then the copy is read back and compared, and only
        then is it there for anyone. Interrupted at any point, or killed, the next call goes on from there. This one is
        only read, and stays. O(all that is kept), in bounded memory but for JSON files.

        Args:
            destination: a store URL, `"json"`, `"sqlite"`, `"redis"`, or the name of a store in `stateview.toml`.
            dry_run: read everything, and only return what would be moved.
            force: also over a namespace that is another, or was written to since: a checkpoint `before_migrate_…` is
                made in it, and all of it is kept aside; the report says where.
            switch: make the destination the store of this folder's `stateview.toml` afterwards.
            progress: is called with a `Step` again and again; what it raises ends the copy, to be gone on with.

        Raises:
            KeyNotFound: there is no such namespace.
            Conflict: the destination holds another namespace of this name, or a later state of this one; another copy
                into it is under way; or this one forgets its history faster than that can be read.
            ReadOnly: the destination may not be written, or this one is of an older layout that is not adopted yet.
            Damaged: something cannot be read, or what was read back is not what was copied.
            BackendError: a store does not answer, or has no space.

        """
        from .transfer.migrate import migrate

        if switch:
            settings.find()  # a file that could not be changed in the end is an error at the beginning
        opened = {**self._opened, "read_only": True}
        target = StateManager(destination, self.namespace, read_only=dry_run, author=self.author)
        first = StateManager(destination, self.namespace, read_only=True)
        with target, first, StateManager(namespace=self.namespace, **opened) as source:
            report = migrate(
                source.backend, target.backend, dry_run=dry_run, force=force, author=self.author, progress=progress,
                first=None if dry_run else first.backend,
            )  # fmt: skip
        if switch and not dry_run:
            from msgspec.structs import replace

            try:
                return replace(report, switched=settings.switch_target(destination, self.namespace))
            except StateException as error:
                error.next_steps += ("The migration is done; run it again to switch",)
                raise
        return report

    def doctor(self, progress: Callable[[str], None] | None = None) -> DoctorReport:
        """Check all that is stored, without changing anything, and say what each finding means and what to do.

        Damage is a finding, not an exception, and so is a check that could not be made. Others may write meanwhile.
        O(all that is stored, and that every checkpoint shows), in bounded memory.

        Args:
            progress: told what is being looked at; what it raises ends the examination.

        """
        from .maintenance.doctor import diagnose

        with StateManager(namespace=self.namespace, **{**self._opened, "read_only": True}) as reader:
            findings = tuple(diagnose(reader.backend, progress))
            try:
                revision = reader.revision
            except (StateException, ValueError):
                revision = 0  # a finding tells why
        return DoctorReport(self.namespace, revision, findings)

    def recover(self) -> RecoveryReport:
        """Check the namespace, mend from the history what can be mended, and say what was done. O(all that is stored).

        Every damaged original is kept beside, and no value is guessed. Safe to call when nothing is wrong.

        Raises:
            ReadOnly: it was opened for reading only.
            Damaged: something a person must decide, such as an edited file that does not parse.

        """
        from .maintenance.recovery import recover

        self.check_writable()
        return recover(self.backend)

    def compact(self, floor: int | None = None, *, progress: Callable[[str], None] | None = None) -> int:
        """Forget the history before a revision (the present one), save what checkpoints see; give the space back.

        With `floor=0` only what nothing can show goes: what deleted checkpoints saw, or lies behind `history=` already.
        Others may read and write meanwhile, but for SQLite's rewriting of the file at the end. Killed at any instant it
        has harmed nothing, and done again it goes on. Returns the number of versions dropped. O(history).

        Args:
            floor: the revision; the history behind `history=` goes by itself.
            progress: told in words, now and then, how far it is; what it raises ends it.

        """
        from .maintenance import prune as pruning

        self.check_writable()
        return pruning.compact(self.backend, self.revision if floor is None else floor, progress)

    def prune(
        self, pattern: Iterable[str] | str | None = None, *, keep: int | None = None,
        older_than: str | float | timedelta | None = None, history: bool = False, dry_run: bool = False,
        previewed: PruneReport | None = None, progress: Callable[[str], None] | None = None,
    ) -> PruneReport:  # fmt: skip
        """Forget checkpoints, and the history if asked for, and give the space back; return what went.

        What another checkpoint, or a revision that is still kept, needs stays. Killed at any instant it has harmed
        nothing, and done again it goes on. O(history).

        Args:
            pattern: the checkpoints to choose from, by name, `NAME@REVISION` or glob. None: the automatic ones
                (`auto_…`, `before_…` with their time), so that what a person named goes only when it is named. `()`:
                none.
            keep: the last so many of these stay.
            older_than: those that are not older stay: `"30d"` (units s, min or m, h, d, w), seconds, or a timedelta.
            history: the same goes for the revisions: the last `keep` of them, and those not older, can still be read
                and undone.
            dry_run: only return what would go, and about how much would come back.
            previewed: the report of a dry run: exactly this goes, as far as it is still there, instead of what the
                other arguments choose by now.
            progress: told in words, now and then, how far it is; what it raises ends it.

        Raises:
            ValueError: nothing says what is to go, or what says it cannot be read.
            RefNotFound: there is no checkpoint of a name that was given.
            Conflict: what was `previewed` was another namespace in this one's place.

        """
        from .maintenance import prune as pruning

        if not dry_run:
            self.check_writable()
        planned = previewed
        if planned is None:
            wanted = pruning.policy(self.backend, pattern, keep, older_than, history)
            planned = pruning.plan(self.backend, wanted, progress, reckon=dry_run)
        return planned if dry_run else pruning.execute(self.backend, planned, self._commit, progress)

    def stats(self, *, progress: Callable[[str], None] | None = None) -> Stats:
        """The namespace in numbers: keys, bytes, history, checkpoints, the largest values, growth, size on disk.

        Reads no values, but on a Redis server. Others may write meanwhile: it is of no single state. O(keys + history).

        Args:
            progress: told in words, now and then, how far it is; what it raises ends it.

        """
        from .maintenance.stats import stats

        return stats(self.backend, progress)

    def check_writable(self) -> None:
        """Raise `ReadOnly` where every write would."""
        if self.read_only:
            raise ReadOnly(f"namespace {self.namespace!r} of {self.url} is open for reading only")

    def _commit(self, batch: CommitRequest) -> Head:
        """The only way to the backend's `commit`."""
        self.check_writable()
        if self.author and not batch.author:
            from msgspec.structs import replace

            batch = replace(batch, author=self.author)
        return self.backend.commit(batch)

    def _commit_with_retry(self, make: Callable[[], CommitRequest], once: bool = False) -> tuple[CommitRequest, Head]:
        """Commit what `make` makes of the present state, made anew while other writers are first; or try but `once`."""
        deadline = time.monotonic() + UPDATE_SECONDS
        pause = 0.001
        while True:
            batch = make()
            try:
                return batch, self._commit(batch)
            except Conflict:
                if once or time.monotonic() > deadline:
                    raise
            from random import uniform  # here, since few ever wait

            time.sleep(uniform(0, pause))
            pause = min(0.05, pause * 1.5)


def migrate(
    source: str, destination: str, *, namespace: str | None = None, all: bool = False, dry_run: bool = False,
    force: bool = False, switch: bool = False, author: str | None = None, progress: OnMigrationProgress | None = None,
) -> list[MigrationReport]:  # fmt: skip
    """Move one namespace, or all, of a store into another store; returns a report on each.

    With `all`, nothing is moved before it is known that no destination is in the way. The last of them, or the one
    that the folder uses, is what `switch` names. For the rest see `StateManager.migrate_to`.
    """
    from .transfer.migrate import check

    with StateManager(source, namespace, read_only=True, author=author) as first:
        used = first.namespace
        names = first.namespaces() if all else [used]
    if not names:
        raise KeyNotFound(f"there is no namespace in {first.url}", "Look at the path or the URL")
    names.sort(key=lambda name: name == used)  # the last is what `switch` names
    managers = [StateManager(source, name, read_only=True, author=author) for name in names]
    if all:
        for one in managers:
            with one, StateManager(destination, one.namespace, read_only=True) as target:
                check(one.backend, target.backend, force)
    reports = []
    for one in managers:
        with one:
            switched = switch and one is managers[-1]
            given = {"dry_run": dry_run, "force": force, "switch": switched}
            try:
                reports.append(one.migrate_to(destination, progress=progress, **given))
            except StateException as error:
                if reports and not dry_run:
                    done = ", ".join(report.namespace for report in reports)
                    error.next_steps += (f"Moved before it: {done}",)
                raise
    return reports


def _literal(key: str) -> str:
    return "".join(f"[{sign}]" if sign in "*?[" else sign for sign in key)


def _all_versions(backend: Backend, key: str, below: int = 0) -> Iterator[Version]:
    while page := backend.versions(key, 100, below):
        yield from page
        below = page[-1].revision
