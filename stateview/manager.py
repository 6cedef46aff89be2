"""Offer all acts on a namespace, each written once over the primitives of its backend."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import cached_property, lru_cache, partial
from itertools import islice, repeat
from threading import get_ident
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, TypeVar, overload

from . import codec, settings
from .arguments import KeyName, SecretText, StoreURL, check_text, checked, checked_methods, may_be_same
from .backends import absolute_url, kind_of, make_backend, parse_store
from .backends.conflicts import key_conflict_error
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
from .backends.retries import UPDATE_SECONDS, Backoff
from .errors import (
    BackendError,
    CommitUnknown,
    Conflict,
    HistoryPruned,
    InvalidArgument,
    InvalidName,
    NextStep,
    NotReplicated,
    ReadOnly,
    Reentered,
    Sealed,
    StateException,
    WaitTimeout,
    see,
    tells_what_was_done,
)
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
    name_first,
)
from .states.changes import Change, Diff
from .states.matching.patterns import Selection
from .states.missing import check_exists, empty_store
from .states.transaction import Transaction, check_prefix, to_ttl
from .states.view import (
    Ref,
    StateView,
    diff,
    find_mark,
    is_live,
    load_found,
    missing_key,
    missing_mark,
    ordered,
    read_names,
    renew_points,
    resolve,
    to_checkpoint,
    to_entry,
)

if TYPE_CHECKING:
    from datetime import timedelta

    from .backends.protocol import ProgressCount, ProgressText
    from .backends.sealed_values import KeyedValues
    from .encryption import Encryption
    from .maintenance.blame import Blame
    from .maintenance.history import CommitFilter
    from .maintenance.prune import PruneReport
    from .maintenance.stats import Stats
    from .sealing.keys import UserKey
    from .states.attempts import Contention
    from .states.leases import Lock
    from .states.moments import Moment
    from .states.revert import RevertDiff
    from .transfer.export import ExportReport
    from .transfer.import_job import ImportJob, ImportReport
    from .transfer.migrate import MigrationReport, OnMigrationProgress
    from .workflow.options import OnChange
    from .workflow.run import Run

T = TypeVar("T")
MAX_OWN_CONFLICTS = 9  # of an update with writes of its own function; a signal handler that writes comes less often
KEYS_PER_FORK_COMMIT = 20_000
_UNFINISHED = ", unfinished"  # ends the reason of a commit of a fork that others follow
_WAIT_SECONDS = 1.0  # `watch` notices Ctrl-C and its timeout between two waits
_watched: dict[int, set[tuple[str, str, str]]] = {}  # by thread in a function of `update`: what it writes meanwhile


@checked_methods
class StateManager:
    """Keep the state of one workflow: values under keys, in one namespace of a store.

    Args:
        backend: `"json"`, `"sqlite"`, `"redis"`, a store URL, or the name of a store in `stateview.toml`. None: the
            store that `stateview init` chose in this folder or above, else JSON files. Below a `stateview.toml` a bare
            kind means the file's store, if that is of this kind, else `.claude/state` beside the file.
        namespace: 1 to 128 letters, digits, `.`, `_`, `-`. None: the namespace that `init` chose, else `"default"`.
        read_only: every write raises `ReadOnly`, and nothing is created.
        author: the author that the log names. None: the environment's `STATEVIEW_AUTHOR`.
        history: the number of revisions whose superseded versions are kept (10,000). Versions that a checkpoint needs
            are always kept.
        timeout: seconds for which a call retries faults that can pass (10).
        durability: for SQLite, `"full"` (default) or `"normal"`. `"normal"` is faster. A loss of power may then take
            the last commits, each whole.
        checkpoint_files: for JSON files, whether each checkpoint is also written into a file `checkpoints/NAME.json`,
            for people and older scripts. None: what `[stores.NAME]` in `stateview.toml` says, else true.
        encryption_key: the key of an encrypted namespace, as `stateview key new` prints it, or `passphrase:` and words.
            A new namespace is encrypted with it from its first commit. None: what `[stores.NAME]` in `stateview.toml`
            says, else the environment's `STATEVIEW_KEY`, else no key.
        wait_replicas: for Redis, how many replicas confirm each commit (0). If too few do so in time, the commit stands
            and `NotReplicated` is raised. None, here and below: what the store URL says.
        wait_timeout: for Redis, seconds that a commit waits for them (1).
        consistency: for Redis, `"cached"` (default) or `"strict"`. With `"strict"` each load asks the server.
        max_stale: for Redis, how many seconds older than the last commit a load may be that is `"cached"` (0.5).
        quiet: print no note on standard error. Without it a manager says once if its first write makes a store at a
            place that nobody chose, and if a bare kind means another store than the one that the file names. None:
            false, unless the environment's `STATEVIEW_QUIET` is set.

    A manager is safe to use from several threads, and in a child process after `fork()`. Opening it is free: the first
    access opens files and connections. The first write creates the namespace.

    A manager is pickled and copied as its arguments. The copy opens the same namespace with connections of its own. A
    pickle holds the password of a store URL in plain text. It does not hold the encryption key: the copy has that of
    its environment.

    Raises:
        InvalidName: the backend or the namespace is not valid.

    """

    def __init__(
        self, backend: str | None = None, namespace: str | None = None, *, read_only: bool = False,
        author: str | None = None, history: int | None = None, timeout: float | None = None,
        durability: str | None = None, checkpoint_files: bool | None = None, encryption_key: SecretText | None = None,
        wait_replicas: int | None = None, wait_timeout: float | None = None, consistency: str | None = None,
        max_stale: float | None = None, quiet: bool | None = None,
    ) -> None:  # fmt: skip
        if namespace is not None:
            check_name(namespace, "namespace")
        if backend is not None and (not isinstance(backend, str) or not backend):
            raise InvalidName(f"{backend!r} is not a store", "Use json, sqlite, redis, or a store URL")
        chosen = settings.resolve_target(backend, namespace)
        if checkpoint_files is None:
            checkpoint_files = chosen.checkpoint_files
        if consistency not in (None, "cached", "strict"):
            raise InvalidArgument(f"consistency={consistency!r}", 'Give "cached" or "strict"')
        optional = {
            "history": history, "timeout": timeout, "durability": durability, "checkpoint_files": checkpoint_files,
            "wait_replicas": wait_replicas, "wait_timeout": wait_timeout, "consistency": consistency,
            "max_stale": max_stale,
        }  # fmt: skip
        options: dict[str, Any] = {name: value for name, value in optional.items() if value is not None}
        key = encryption_key if encryption_key is not None else chosen.encryption_key or os.environ.get("STATEVIEW_KEY")
        self._keyed = _keyed_values(key or "") if key or encryption_key is not None else None
        if self._keyed is not None:
            options["values"] = self._keyed
        read_only = read_only or chosen.read_only
        if history == 0:
            raise InvalidArgument("history=0: at least 1 revision is kept")
        self.read_only = read_only
        if author is None:
            author = check_text(os.environ.get("STATEVIEW_AUTHOR", ""), "STATEVIEW_AUTHOR")
        self.author = author
        store, name = parse_store(chosen.store), check_name(chosen.namespace, "namespace")
        self.read_only = self.read_only or kind_of(store).foreign
        self._url, self._namespace = store.shown, name
        self._locks: list[Lock] = []  # those that are held by this manager
        self._opened: dict[str, Any] = {
            **optional, "backend": chosen.store, "read_only": read_only, "author": author,
            "encryption_key": key or None, "quiet": quiet,
        }  # fmt: skip
        quiet = options["quiet"] = bool(os.environ.get("STATEVIEW_QUIET")) if quiet is None else quiet
        self._announces = chosen.by_default and not quiet and kind_of(store).in_folder
        if chosen.warning and not quiet:
            from .backends.notes import say_once

            say_once(chosen.warning)
        self._absolute_url = absolute_url(store)
        self._make = partial(make_backend, store, name, read_only=read_only, **options)
        if not kind_of(store).slow_import:
            self.backend = self._make()

    def __enter__(self) -> StateManager:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[object, ...]:
        options = {**self._opened, "backend": self._absolute_url, "encryption_key": None}
        return partial(StateManager, namespace=self.namespace, **options), ()

    def __repr__(self) -> str:
        return f"<StateManager {self.url} namespace {self.namespace!r}{' read-only' if self.read_only else ''}>"

    def _reopen(self, namespace: str, **changes: Any) -> StateManager:
        """Return a manager of a namespace of the same store, wherever the working folder is by now."""
        options = {**self._opened, **changes}
        try:
            moved = absolute_url(parse_store(options["backend"])) != self._absolute_url
        except BackendError:
            moved = True
        return StateManager(namespace=namespace, **(options | {"backend": self._absolute_url} if moved else options))

    @cached_property
    def backend(self) -> Backend:
        """Return the backend that reads and writes the store. The first use makes it."""
        backend: Backend = self.__dict__.setdefault("backend", self._make())  # several threads get the first one's
        return backend

    @property
    def namespace(self) -> str:
        """Return the namespace's name."""
        return self._namespace

    @property
    def url(self) -> str:
        """Return the store's URL, with its password masked."""
        return self._url

    @property
    def revision(self) -> int:
        """Return the present revision, 0 for a namespace that was never written. O(1)."""
        return self.backend.head().revision

    def head(self) -> Head:
        """Return the present revision, its time, the number of keys, and the floor of the history. O(1)."""
        return self.backend.head()

    def close(self) -> None:
        """Close files and connections. A later use of the manager opens them again."""
        if "backend" in self.__dict__:
            self.backend.close()

    # --- keys --------------------------------------------------------------------------------------------------

    def save(
        self, key: str, value: Any, *, path: str = "", ttl: float | None = None, expected: int | None = None,
        reason: str = "",
    ) -> int:  # fmt: skip
        """Save a value under a key, durably, and return the new revision. O(log n); JSON files: O(keys).

        Args:
            key: any non-empty string without NUL, up to 1,024 bytes of UTF-8.
            value: a JSON value: dict with string keys, list, str, int of any size, finite float, bool, None. Tuples
                come back as lists. At most 64 MiB encoded and 200 levels deep.
            path: the JSON Pointer of a place inside the key's value, which alone is saved: `/limits/tokens`. `-`
                appends to an array. The rest of the value stays, and without `ttl` its expiry. "": the whole value.
            ttl: seconds until the entry expires. None: it never expires, even if it had an expiry before.
            expected: the revision that the key must have now; 0: the key must be absent.
            reason: the reason that the log shows.

        Raises:
            InvalidName, NotSerializable: the key, the path or the value is not allowed. Nothing was written.
            KeyNotFound: a path was given, and nothing can lie there.
            Conflict: the key is not at `expected`; with a path, other writers came first for 60 seconds.
            ReadOnly, BackendError, BackendUnavailable, Damaged: see each class.

        """
        data = codec.encode(value)
        if path:
            from .states.values.patches import set_place

            def change(before: Any) -> Any:
                return set_place(before, path, codec.decode(data), key)

            return self._change_inside(key, change, ttl, expected, reason or f"save {key}#{path}")[1].revision
        expectation = {} if expected is None else {check_key(key): expected}
        write = Write(data, to_ttl(ttl))
        return self._commit(
            CommitRequest({check_key(key): write}, expectation, reason=reason or f"save {key}")
        ).revision

    def save_many(
        self, values: Mapping[str, Any] | Iterable[tuple[str, Any]], *, ttl: float | None = None,
        batch_size: int | None = None, reason: str = "",
    ) -> int:  # fmt: skip
        """Save several keys, durably, in one commit or in batches, and return the new revision. As many `save`.

        A Redis server answers nobody while it runs a commit: for 10,000 small keys 40 to 150 ms. In batches it answers
        others between two commits, and a generator of a million pairs takes little memory. JSON files write their whole
        file for each batch.

        Args:
            values: values by key, or pairs of a key and a value. Of a key that comes twice, the last value counts.
            ttl: seconds until the entries expire. None: never.
            batch_size: None: all keys are one commit, or nothing is written. Else each commit has at most so many keys,
                and ends at 8 MiB of values. Readers then see the first batches before the last. A process that is
                stopped leaves them saved, and `undo` takes back one batch.
            reason: the reason that the log shows.

        Raises:
            InvalidArgument: the batch size is below 1, or `values` holds anything but pairs.
            InvalidName, NotSerializable: a key or a value is not allowed. Earlier batches stay saved.
            ReadOnly, BackendError, BackendUnavailable, Damaged: see each class.

        """
        from .states.batches import batches

        self.check_writable()
        keys = revision = 0
        with tells_what_was_done(lambda: f"Saved so far: {keys:,} keys, up to revision {revision:,}" if keys else ""):
            for writes in batches(values, to_ttl(ttl), batch_size):
                title = reason or f"save {name_first(writes)}"
                try:
                    revision = self._commit(CommitRequest(writes, reason=title)).revision
                except NotReplicated as error:
                    keys, revision = keys + len(writes), error.revision
                    raise
                keys += len(writes)
        return revision or self.revision

    def load(self, key: str, default: Any = ABSENT, *, at: Ref | None = None, fresh: bool = False) -> Any:
        """Return the value of a key. Changing the returned value never changes the stored value.

        Args:
            key: the key.
            default: returned if the key has no value. None is a default like any other.
            at: the state to read, as a ref. None: live.
            fresh: ask the store itself. Only Redis answers otherwise: a value that was loaded before may be half a
                second older than another process's last save. A load is never older than a write of this process, or
                than what this manager returned before. JSON files and SQLite always read the present value.

        Raises:
            KeyNotFound: the key has no value, and no default was given.
            RefNotFound, HistoryPruned: `at` names no kept state.

        """
        if at is not None:
            return self.at(at).load(key, default)
        version = self._latest(key) if fresh else self.backend.get(check_key(key))
        if version is not None and version.value is not None:
            return codec.decode(version.value, key)
        if default is ABSENT:
            raise missing_key(self.backend, key)
        return default

    def load_many(
        self, keys: Iterable[str] | str | None = None, default: Any = ABSENT, *, at: Ref | None = None
    ) -> dict[str, Any]:
        """Return the values of several keys by key: first of names, in the order given, then of globs, in key order.

        Names cost one round trip for a thousand keys. Live values are present ones, as with `load(fresh=True)`.

        Args:
            keys: names and globs. None: all keys.
            default: the value of names that have none. Without a default they are left out.
            at: the state to read, as a ref. None: live.

        Raises:
            InvalidName: a name is not a valid key.
            RefNotFound, HistoryPruned: `at` names no kept state.

        """
        if at is not None:
            return self.at(at).load_many(keys, default)
        from .states.steady import again

        selection = Selection(keys)
        return again(True, lambda: load_found(self.backend.read, partial(self._chosen, ""), selection, default))

    def entries(
        self, prefix: str = "", keys: Iterable[str] | str | None = None, *, limit: int | None = None,
        backwards: bool = False, at: Ref | None = None,
    ) -> Iterator[Entry]:  # fmt: skip
        """Yield entries, with their values, in key order.

        O(entries yielded), with globs O(entries with the prefix). Keys that are all given by name cost one round trip
        for a thousand, and so does a `limit` of at most 500 entries; backwards two.

        Args:
            prefix: only keys that start with this text.
            keys: only keys chosen by names and globs.
            limit: at most so many entries. None: all.
            backwards: from the last key to the first. With a limit these are the last ones.
            at: the state to read, as a ref. None: live.

        Raises:
            RefNotFound, HistoryPruned: `at` names no kept state.

        """
        return map(to_entry, self._chosen(prefix, keys, at, limit, backwards))

    def _chosen(
        self, prefix: str, keys: Iterable[str] | str | None, at: Ref | None = None, limit: int | None = None,
        backwards: bool = False,
    ) -> Iterator[Version]:  # fmt: skip
        from .states.compare import KEYS_PER_PAGE

        selection = Selection(keys)
        if at is None and selection.is_plain():
            return iter(ordered(read_names(self.backend, None, selection, prefix), limit, backwards))
        if at is None and keys is None and limit is not None and limit <= KEYS_PER_PAGE and not backwards:
            return iter(self.backend.scan(prefix, "", limit) if limit else ())
        view = self.at("live" if at is None else at)
        read = view.steady_entries if at is None else view.raw_entries
        return read(prefix, selection.patterns, limit, backwards)

    def _latest(self, key: str) -> Version | None:
        """Return the live version of a key by the store itself: `get` may answer from memory."""
        return self.backend.read([check_key(key)]).get(key)

    def entry(self, key: str, *, at: Ref | None = None) -> Entry:
        """Return the value of a key with its revision, time, expiry and remaining seconds.

        It is as new as `load` without `fresh`.

        Raises:
            KeyNotFound: the key has no value.

        """
        if at is not None:
            return self.at(at).entry(key)
        version = self.backend.get(check_key(key))
        if version is None:
            raise missing_key(self.backend, key)
        return to_entry(version)

    @overload
    def delete(self, key: str, *, expected: int | None = None, reason: str = "") -> bool: ...
    @overload
    def delete(self, *, keys: Iterable[str] | str, reason: str = "") -> list[str]: ...
    def delete(
        self, key: str | None = None, *, keys: Iterable[str] | str | None = None, expected: int | None = None,
        reason: str = "",
    ) -> bool | list[str]:  # fmt: skip
        """Delete a key and return whether it had a value. The key's history stays.

        A key without a value is not written.

        Args:
            key: the key.
            keys: instead of a key, names and globs. All of them are deleted in one commit, and those that had a value
                are returned. Names take one round trip to read, and one to delete.
            expected: the revision that the key must have now.
            reason: the reason that the log shows.

        Raises:
            Conflict: the key is not at the `expected` revision, or other writers came first for 60 seconds.

        """
        if keys is not None:
            if key is not None or expected is not None:
                raise InvalidArgument("give either key, or keys without expected")
            return self._delete_many(Selection(keys).patterns or [], reason)
        key = check_key(key)
        version = self.backend.get(check_key(key)) or self._latest(key)
        if version is None and expected is None:
            return False
        expectation = {key: expected if expected is not None else version.revision if version else 0}
        try:
            self._commit(CommitRequest({key: Write(None)}, expectation, reason=reason or f"delete {key}"))
        except Conflict:
            if expected is not None:
                raise
            return self.delete(key, reason=reason)  # another writer changed the key since it was read
        return True

    def delete_prefix(self, prefix: str, *, reason: str = "") -> list[str]:
        """Delete all keys that start with a text, in one commit, and return them. Their history stays.

        `*`, `?` and `[` in the prefix have no meaning. O(keys with the prefix); their values are not transferred. Two
        round trips for a thousand keys.

        Args:
            prefix: the text. It is not empty.
            reason: the reason that the log shows.

        Raises:
            InvalidArgument: the prefix is empty.
            Conflict: other writers came first for 60 seconds.

        """
        from .states.compare import rows

        check_prefix(prefix)
        return self._delete_all(lambda: rows(self.backend, prefix), reason or f"delete prefix {prefix}")

    def _delete_many(self, patterns: list[str], reason: str) -> list[str]:
        title = reason or f"delete {name_first(patterns)}"
        if Selection(patterns).is_plain():
            return self._delete_all(lambda: self._chosen("", patterns), title)
        return self._delete_all(lambda: self.at("live").steady_rows("", patterns), title)

    def _delete_all(self, choose: Callable[[], Iterable[Version | KeySummary]], title: str) -> list[str]:
        from .states.steady import again

        backoff = Backoff(UPDATE_SECONDS, first=0.001, longest=0.005)
        while True:
            found = again(True, lambda: {one.key: one.revision for one in choose()})
            try:
                if found:
                    self._commit(CommitRequest(dict.fromkeys(found, Write(None)), dict(found), reason=title))
                return list(found)
            except Conflict:  # another writer changed one of them since it was read
                if not backoff.wait():
                    raise

    def list_keys(
        self, prefix: str = "", *, keys: Iterable[str] | str | None = None, at: Ref | None = None
    ) -> list[str]:
        """List the keys with a prefix, or chosen by names and globs, in code point order. O(keys listed).

        Fewer than 500 live keys are one round trip.
        """
        ref = "live" if at is None else at
        from .states.compare import KEYS_PER_PAGE
        from .states.steady import again

        patterns = Selection(keys).patterns

        def names() -> list[str]:
            if at is None and keys is None:
                page = self.backend.list_keys(prefix, limit=KEYS_PER_PAGE)
                if len(page) < KEYS_PER_PAGE:
                    return [row.key for row in page]
            return [row.key for row in self.at(ref).steady_rows(prefix, patterns)]

        return again(is_live(ref), names)

    def rows(
        self, prefix: str = "", after: str = "", before: str = "", limit: int = 1000, skip: int = 0,
        backwards: bool = False, *, at: Ref | None = None,
    ) -> list[KeySummary]:  # fmt: skip
        """Return a page of the keys without their values, in code point order, for lists of any length.

        Args:
            prefix: only keys that start with this text.
            after: only keys above this key. "": from the first.
            before: only keys below this key. "": to the last.
            limit: the largest number of rows. A shorter page is the last page.
            skip: the number of keys to pass over first.
            backwards: take the last keys instead of the first, after passing over `skip` keys from the end. The page is
                in ascending order either way.
            at: the state to read, as a ref. None: live, at the time of the call.

        Returns:
            For each key: its size in bytes, the start of its encoded value, its revision, and its time and expiry in
            microseconds. The start is not checked against the value's checksum. O(log n + limit).

        Raises:
            RefNotFound, HistoryPruned: `at` names no kept state.

        """
        if at is not None:
            return self.at(at).rows(prefix, after, before, limit, skip, backwards)
        return self.backend.list_keys(prefix, after, before, limit, None, skip, backwards)

    def count(self, low: str = "", high: str = "", *, at: Ref | None = None) -> int:
        """Count the keys from `low` up to, not including, `high`; "" is no bound.

        Without bounds and a ref it costs O(log n), else O(keys counted).

        Raises:
            RefNotFound, HistoryPruned: `at` names no kept state.

        """
        return self.backend.count(low, high) if at is None else self.at(at).count(low, high)

    def __contains__(self, key: object) -> bool:
        try:
            return is_key(key) and self.backend.get(key) is not None
        except Sealed:
            return key in self.at("live")

    def update(
        self, key: str, function: Callable[[Any], Any], default: Any = ABSENT, *, path: str = "",
        ttl: float | None = None, keep_ttl: bool = False, reason: str = "",
    ) -> Any:  # fmt: skip
        """Read, change and write a key without another write in between, and return the new value.

        `function` gets the value (or `default`) and returns the new value. It may be called several times, so it must
        have no side effects.

        Args:
            key: the key.
            function: takes the value.
            default: what `function` gets where there is no value.
            path: the JSON Pointer of a place inside the value. `function` gets and returns what lies there. The rest of
                the value stays, and without `ttl` its expiry.
            ttl: seconds until the entry expires. None: never.
            keep_ttl: let a key that has a value keep its expiry.
            reason: the reason that the log shows.

        Raises:
            KeyNotFound: there is no value, and no default was given; or nothing can lie at `path`.
            Conflict: other writers came first for 60 seconds.
            Reentered: `function` itself writes the key, each time that it is called.

        """
        own = _OwnWrites(self, f"update of key {check_key(key)[:60]!r}")

        def call(before: Any) -> Any:
            value, written = _run_watched(function, before)
            own.check(written, [key])
            return value

        if path:
            from .states.values.patches import get_place, set_place

            def change(before: Any) -> Any:
                return set_place(before, path, call(get_place(before, path, key, default)), key)

            batch, _ = self._change_inside(key, change, ttl, None, reason or f"update {key}#{path}")
            return get_place(codec.decode(batch.writes[key].value or b"null", key), path, key)

        def make() -> CommitRequest:
            version = self.backend.get(key) or self._latest(key)
            if version is None and default is ABSENT:
                raise missing_key(self.backend, key)
            before = default if version is None or version.value is None else codec.decode(version.value, key)
            micros = self._time_left(version) if keep_ttl and version is not None else to_ttl(ttl)
            return CommitRequest(
                {key: Write(codec.encode(call(before)), micros)}, {key: version.revision if version else 0},
                reason=reason or f"update {key}",
            )  # fmt: skip

        batch, _ = self._commit_with_retry(key, make)
        return codec.decode(batch.writes[key].value or b"null", key)

    def patch(self, key: str, operations: Any, *, expected: int | None = None, reason: str = "") -> Any:
        """Apply a JSON Patch (RFC 6902) to a value in one commit, and return the new value. Its expiry is kept.

        Args:
            key: the key.
            operations: a list of objects, such as `{"op": "replace", "path": "/limits/tokens", "value": 5}`.
            expected: the revision that the key must have now.
            reason: the reason that the log shows.

        Raises:
            InvalidArgument, InvalidName: the operations are not a JSON Patch.
            KeyNotFound: the key has no value, or an operation names a place that is not there.
            Conflict: a `test` found another value, the key is not at `expected`, or other writers came first for 60
                seconds. Nothing was written.

        """
        from .states.values.patches import apply_patch

        data = codec.encode(operations)  # each try gets values of its own
        return self._changed(
            key, lambda before: apply_patch(before, codec.decode(data), key), expected, reason, "patch"
        )

    def merge(self, key: str, patch: Any, *, expected: int | None = None, reason: str = "") -> Any:
        """Merge a patch into a value (RFC 7396) in one commit, and return the new value. Its expiry is kept.

        Members of the patch replace members of the value, at any depth. A member that is None is removed. Anything but
        an object replaces what it is merged into.

        Args:
            key: the key.
            patch: a JSON value.
            expected: the revision that the key must have now.
            reason: the reason that the log shows.

        Raises:
            KeyNotFound: the key has no value.
            NotSerializable: the patch is not a JSON value.
            Conflict: the key is not at `expected`, or other writers came first for 60 seconds.

        """
        from .states.values.patches import merge_patch

        data = codec.encode(patch)
        return self._changed(key, lambda before: merge_patch(before, codec.decode(data)), expected, reason, "merge")

    def _changed(self, key: str, change: Callable[[Any], Any], expected: int | None, reason: str, act: str) -> Any:
        batch, _ = self._change_inside(key, change, None, expected, reason or f"{act} {key}")
        return codec.decode(batch.writes[key].value or b"null", key)

    def _change_inside(
        self, key: str, change: Callable[[Any], Any], ttl: float | None, expected: int | None, reason: str
    ) -> tuple[CommitRequest, Head]:
        """Commit what `change` makes of the value of a key. Without `ttl` its expiry stays."""

        def make() -> CommitRequest:
            version = self._at_expected(key, expected)
            value = codec.encode(change(codec.decode(version.value or b"null", key)))
            write = Write(value, self._time_left(version) if ttl is None else to_ttl(ttl))
            return CommitRequest({key: write}, {key: version.revision}, reason=reason)

        return self._commit_with_retry(key, make, once=expected is not None)

    def _at_expected(self, key: str, expected: int | None) -> Version:
        """Return the live version of a key, by the store itself.

        Raises:
            Conflict: it is not at the expected revision. What is written must be made of that and no other version.
            KeyNotFound: the key has no value, and none was expected.

        """
        version = self._latest(key)
        found = version.revision if version is not None else 0
        if expected is not None and not may_be_same(expected, found):
            raise key_conflict_error(key, expected, found)
        if version is None:
            raise missing_key(self.backend, key)
        return version

    def _time_left(self, version: Version) -> int:
        return max(1, version.expires - self.backend.now()) if version.expires else 0

    def rename(self, key: str, new: str, *, expected: int | None = None, reason: str = "") -> int:
        """Rename a key in one commit, and return the new revision. Its expiry is kept. O(log n).

        The history stays with each name. The versions of the old name end with a delete.

        Args:
            key: the key.
            new: its new name, which must have no value.
            expected: the revision that the key must have now.
            reason: the reason that the log shows.

        Raises:
            InvalidName: either name is not a valid key.
            KeyNotFound: `key` has no value.
            Conflict: `new` has a value, the key is not at `expected`, or other writers came first for 60 seconds.

        """
        names = [check_key(key), check_key(new)]

        def make() -> CommitRequest:
            present = self.backend.read(names)
            if key not in present:
                raise missing_key(self.backend, key)
            if new in present:
                raise Conflict(f"key {new!r} exists already, since revision {present[new].revision}", "Delete it first")
            version = present[key]
            # `new` must get that value and no other
            if expected is not None and not may_be_same(expected, version.revision):
                raise key_conflict_error(key, expected, version.revision)
            write = Write(version.value, self._time_left(version))
            expectation = {key: version.revision, new: 0}
            return CommitRequest({key: Write(None), new: write}, expectation, reason=reason or f"rename {key} to {new}")

        return self._commit_with_retry(key, make, once=expected is not None)[1].revision

    def expire(self, key: str, ttl: float | None, *, expected: int | None = None, reason: str = "") -> int:
        """Set or clear the expiry of a key, and return the new revision. The value stays. O(log n).

        Args:
            key: the key.
            ttl: seconds from now; None: never.
            expected: the revision that the key must have now.
            reason: the reason that the log shows.

        Raises:
            KeyNotFound: the key has no value.
            Conflict: the key is not at `expected`, or other writers came first for 60 seconds.
            InvalidArgument: `ttl` is not a positive number of seconds.

        """
        micros = to_ttl(ttl)
        title = reason or (f"expire {key} never" if ttl is None else f"expire {key} in {ttl:g} s")

        def make() -> CommitRequest:
            version = self._at_expected(key, expected)
            return CommitRequest({key: Write(version.value, micros)}, {key: version.revision}, reason=title)

        return self._commit_with_retry(key, make, once=expected is not None)[1].revision

    @contextmanager
    def transaction(self, reason: str = "") -> Iterator[Transaction]:
        """Open a block of reads and writes that becomes one commit at its end, or none if it raises.

        Raises:
            Conflict: at the end of the block, if another writer changed a key that the block read. Nothing was written;
                run the block again.

        """
        transaction = self.begin(reason)
        try:
            yield transaction
        except BaseException:
            transaction.discard()
            raise
        self.commit(transaction)

    def transact(self, function: Callable[[Transaction], T], *, reason: str = "") -> T:
        """Call a function with a transaction, commit what it wrote as one commit, and return its result.

        If another writer changes a key that the function read, it is called again, with a transaction of the later
        state. So it must have no side effects but writes of the transaction. If it raises, nothing is written. Its
        reads show the state of the first of them. A function that only writes makes one round trip.

        Args:
            function: takes a `Transaction`.
            reason: the reason that the log shows.

        Raises:
            Conflict: other writers came first for 60 seconds; or a key is not at the `expected` revision that the
                function gave.
            Reentered: `function` itself writes, past the transaction, what the transaction read, each time.

        """
        from .states.attempts import Attempts

        own = _OwnWrites(self, "transact")
        with Attempts(self.backend, "", self._contention) as attempts:
            while True:
                attempts.start()
                transaction = Transaction(self.backend, None, reason)
                try:
                    result, written = _run_watched(function, transaction)
                    own.check(written, transaction._read)
                    self.commit(transaction)
                    return result
                except Conflict as error:
                    attempts.key = attempts.key or min(transaction._read, default="")
                    if not transaction._may_pass(error) or not attempts.has_next():
                        raise
                finally:
                    transaction.discard()

    def begin(self, reason: str = "") -> Transaction:
        """Begin a transaction that ends with `commit`, where a `with` block does not fit."""
        return Transaction(self.backend, self.at("live"), reason)

    def commit(self, transaction: Transaction, reason: str = "") -> int:
        """Commit a transaction of `begin`, and return the revision. Raises as `transaction` does."""
        batch = transaction.batch(reason)
        return self.revision if batch is None else self._commit(batch).revision

    def lock(self, name: str, *, ttl: float = 30.0, wait: float | None = None) -> Lock:
        """Make a lock for a `with` block that one process at a time can be in, on one host or on many.

        The lock is the entry `lock/NAME`, with an expiry: a lease. A thread renews it each third of `ttl`. Whether it
        has expired is judged by one clock: that of the Redis server, or of the machine for files. A lock whose process
        has ended on this host is taken over at once, and any other after its `ttl`.

        The holder may lose the lock, as when its machine was suspended. So each commit that this manager makes in the
        block, from any thread, depends on the lock, and is refused with `LockLost` without it. Two managers, or two
        threads with one manager, are two holders. A restore and `undo` leave locks as they are.

        Args:
            name: any text. In the key `%` and `/` are quoted, as `%25` and `%2F`.
            ttl: seconds after which a lock that is not renewed is free.
            wait: seconds to wait for another holder. None: do not wait.

        Returns:
            The lock. Its `fence` is the revision of the commit that took it, which rises with each holder: pass it to
            other systems, so that they can refuse a former holder. Its `check()` raises `LockLost` once it is lost.

        Raises:
            LockHeld: at the beginning of the block, if another holder has it.
            NotReplicated: at the beginning, and the lock is not held: a failover could give it to another.
            LockLost: in the block, or at its end, if it was lost. What came after the loss was not written.
            InvalidArgument: the name or a number is not allowed.

        Cost: a commit and two reads to take it, a commit to give it back, and one for each renewal.

        """
        from .states.leases import Lock

        return Lock(self.backend, self._commit, self._locks, name, ttl, wait or 0.0)

    def run(
        self, name: str, *, retries: int = 0, backoff: float = 1.0, timeout: float | None = None,
        retry_on: type[BaseException] | tuple[type[BaseException], ...] = Exception, on_change: OnChange = "refuse",
        checkpoints: int = 5, ttl: float = 30.0, wait: float | None = None,
    ) -> Run:  # fmt: skip
        """Make a run of a workflow for a `with` block: steps that are done once, and a block that resumes.

        The block goes on where the last one of this name stopped, or begins anew if that one ended. One process at a
        time can be in it: see `lock`, whose `ttl`, `wait` and `LockLost` it has. What is promised of a step:

        - Its function may run again if the process dies before its commit, and then only: at least once.
        - Its result, the writes through its `tx`, the state `done` and its checkpoint are one commit: once.
        - Where its arguments or its code differ from those that it was done with, `on_change` decides.
        - A run whose lock is lost, or whose entries another writer has changed, writes nothing more.

        The run is the entry `run/NAME`, a step `run/NAME/STEP`, an item of `each` `run/NAME/STEP/ITEM`, so that diff,
        restore, undo, export and watch apply to them. Restoring the checkpoint `NAME.STEP` makes the next run go on
        after that step. A changed `result` in a step's entry is what the next run gets. Ctrl-C and SIGTERM mark the
        step as interrupted, the latter in the main thread, if the program has no handler of its own.

        Args:
            name: any text. In keys `%` and `/` are quoted, as `%25` and `%2F`.
            retries: how often a step is tried again after an error. A step may say otherwise, here and below.
            backoff: seconds before the first retry at most, doubled each time, up to 60.
            timeout: seconds for each try of a step, see `Run.step`. None: without end.
            retry_on: the exceptions after which a step is tried again.
            on_change: `"refuse"`, `"run"` or `"keep"` a step that was done with other arguments or code.
            checkpoints: how many checkpoints of each step are kept. 0: none are made.
            ttl: seconds after which a run whose process is not known to have ended can be taken over.
            wait: seconds to wait for another process. None: do not wait.

        Returns:
            The run, whose methods `step` and `each` do the work.

        Raises:
            LockHeld: at the beginning of the block, if the run is going on elsewhere.
            LockLost: in the block, or at its end, if the run was lost.
            InvalidArgument: an argument is not allowed.

        Cost: two commits and O(steps + items) to begin, and a commit to end.

        """
        from .workflow.options import Options
        from .workflow.run import Run

        options = Options(retries, backoff, timeout, retry_on, on_change)
        return Run(self, self._commit, self._run_lock(name, ttl, wait or 0.0), name, options, checkpoints)

    def _run_lock(self, name: str, ttl: float = 30.0, wait: float = 0.0) -> Lock:
        """Make the lock of a run."""
        from .states.leases import Lock
        from .workflow.records import lock_name

        unlock = NextStep("Or take the run away from it with ", ("run", "unlock", name))
        return Lock(self.backend, self._commit, self._locks, lock_name(name), ttl, wait, unlock)

    # --- checkpoints and refs ----------------------------------------------------------------------------------

    def checkpoint(self, name: str | None = None, *, note: str = "", at: Ref | None = None) -> str:
        """Name the present state, or the state at a ref, and return the name. O(1); JSON files: O(keys).

        Without a name, the checkpoint is called `auto_YYYYMMDD_HHMMSS`, made unique. An existing name moves to the new
        state. The earlier state stays reachable as `NAME@REVISION`.

        Raises:
            InvalidName: the name is not allowed.
            RefNotFound, HistoryPruned: `at` names no kept state.
            NotReplicated: the checkpoint was made, but too few replicas have confirmed it. The error names it.

        """
        from .states.retention import kind_of_name, stamped_name

        if name is not None:
            check_checkpoint(name)
        where = None if at is None else resolve(self.backend, at)
        if name is None:
            return self._mark_fresh(stamped_name("auto"), note, where)
        revision, moment = (None, 0) if where is None else (where.revision, where.time)
        self._commit(CommitRequest(marks=(CheckpointWrite(name, note, revision, moment, kind=kind_of_name(name)),)))
        return name

    def _mark_fresh(self, stem: str, note: str, where: StateAt | None) -> str:
        from .states.retention import numbered_names

        revision, moment = (None, 0) if where is None else (where.revision, where.time)
        for name in numbered_names(stem):
            try:
                self._commit(
                    CommitRequest(marks=(CheckpointWrite(name, note, revision, moment, fresh=True, kind="auto"),))
                )
                return name
            except NotReplicated as error:
                error.tell(f"Checkpoint {name!r} was made")
                raise
            except Conflict:
                continue
        raise AssertionError("unreachable: the names have no end")

    def list_checkpoints(self) -> list[str]:
        """List the names of the checkpoints, oldest first."""
        return [mark.name for mark in self.checkpoints()]

    def checkpoints(
        self, *, all: bool = False, limit: int | None = None, newest_first: bool = False
    ) -> list[Checkpoint]:
        """List the checkpoints in the order in which they were made. One round trip, O(checkpoints).

        Args:
            all: list the earlier states of moved names too.
            limit: at most so many: the first ones of the list. None: all.
            newest_first: begin with the checkpoint that was made last.

        """
        marks = self.backend.marks()
        current = {mark.name: mark for mark in marks}
        wanted = (mark for mark in (reversed(marks) if newest_first else marks) if all or current[mark.name] is mark)
        return [to_checkpoint(mark, current[mark.name] is mark) for mark in islice(wanted, limit)]

    def delete_checkpoint(self, name: str) -> Checkpoint:
        """Delete a checkpoint (`NAME` or `NAME@REVISION`) and return it. The state itself is not touched.

        Raises:
            RefNotFound: no checkpoint has this name.

        """
        mark = self._mark(name)
        self._commit(CommitRequest(unmarks=((mark.name, mark.revision),)))
        return to_checkpoint(mark)

    def delete_checkpoints(self, names: Iterable[str] | str) -> list[Checkpoint]:
        """Delete checkpoints by name, `NAME@REVISION` or glob, and return them. O(checkpoints).

        Versions that only they kept take their space until `compact`. `prune` frees it at once, in O(history).

        Raises:
            RefNotFound: a named checkpoint does not exist. Nothing was deleted.

        """
        from .maintenance import prune as pruning

        self.check_writable()
        wanted = pruning.policy(self.backend, names, 0, None, False)
        planned = pruning.plan(self.backend, wanted, estimate=False)
        return pruning.delete_checkpoints(planned.checkpoints, self._commit)

    def rename_checkpoint(self, name: str, new: str) -> None:
        """Rename a checkpoint. The new name must be free.

        Raises:
            RefNotFound: no checkpoint has this name.
            Conflict: the new name is taken.

        """
        from .states.retention import kind_of_name

        mark = self._mark(name)
        kind = kind_of_name(check_checkpoint(new))
        fresh = CheckpointWrite(new, mark.note, mark.revision, mark.time, fresh=True, kind=kind)
        self._commit(CommitRequest(marks=(fresh,), unmarks=((mark.name, mark.revision),)))

    def _mark(self, ref: str) -> CheckpointRecord:
        from .refs import parse_ref

        parsed = parse_ref(ref)
        mark = find_mark(self.backend, parsed.name, parsed.revision) if parsed.name and not parsed.back else None
        if mark is None:
            raise missing_mark(self.backend, str(ref), parsed.name or str(ref))
        return mark

    def at(self, ref: Ref) -> StateView:
        """Return a read-only view of the state that a ref names: many reads of one consistent state.

        Args:
            ref: a checkpoint's name, `NAME@REVISION`, a revision number, `live`, a time such as `@2h`, `@yesterday` or
                `@2026-11-28T10:00` (local, unless it has an offset or `Z`), or any of these with `~N` steps back. A
                time takes O(log n) reads.

        Raises:
            InvalidName: `ref` is not a ref.
            RefNotFound, HistoryPruned: the ref names no kept state.

        """
        return StateView(self.backend, resolve(self.backend, ref), str(ref))

    def diff(self, before: Ref, after: Ref = "live", *, keys: Iterable[str] | str | None = None) -> Diff:
        """Compare two refs and return the changes, one `Change` a key. O(changes), streamed.

        Raises:
            RefNotFound, HistoryPruned: a ref names no kept state.

        """
        return diff(self.at(before), self.at(after), keys)

    # --- restore, undo, redo -----------------------------------------------------------------------------------

    def restore_checkpoint(
        self, ref: Ref, keys: Iterable[str] | str | None = None, dry_run: bool = False, *,
        paths: Mapping[str, Iterable[str]] | None = None, expected: int | None = None, previewed: int | None = None,
        source: StateManager | None = None, reason: str = "",
    ) -> Diff:  # fmt: skip
        """Bring the live state back to a ref, as one commit, and return the applied diff. O(changes since).

        Keys made since the ref are deleted. The same commit creates the checkpoint `before_restore_…` of the state
        before. It also deletes older safety checkpoints, except the last 20 and those of the last 30 days; `[safety]`
        in `stateview.toml` changes these numbers. `undo` takes the restore back. A key with an expiry gets the seconds
        that it had left at the ref.

        Args:
            ref: the state to bring back.
            keys: only these keys, by names and globs. A pattern that is the name of a key means that key alone.
            dry_run: only return the diff that would be applied.
            paths: only these changes: a key to JSON Pointers, as `Change.paths` of the dry run names them. The rest of
                the value stays as it is live. Its expiry stays too, unless all its changes are chosen. Two changes of
                one array can share a pointer, which then means both. `-/1`, `+/1` and `~/1` mean the removed, the added
                and the changed element alone. With `keys` as well, a change is applied if either chooses it.
            expected: the revision that must be live. None: any revision.
            previewed: a revision that was live when a person looked at the preview. The restore is refused if a key
                that it writes was written after that revision. Other keys may have been written.
            source: the manager of another namespace, of this store or another. `ref` is then a state of that
                namespace, and the chosen keys get the values of that state. A key that the state lacks is deleted.
                `keys` or `paths` must be given. O(keys of both namespaces) with globs.
            reason: the reason that the log shows. "": the command line of the restore.

        Raises:
            InvalidArgument: `source` was given without `keys` and `paths`, or is no `StateManager`.
            Conflict: live is not at `expected`; a key to write was written after `previewed`; or other writers came
                first for 30 seconds. With keys given by name or paths, only writes to those keys count.
            KeyNotFound: a key given by name is in neither state, or a path names no change.
            RefNotFound, HistoryPruned: the ref names no kept state; or `previewed` is pruned and a key was deleted, so
                that the time of the delete is not known.

        """
        from .states import restore as restoring

        if not isinstance(source, StateManager | None):
            raise InvalidArgument(f"source is a StateManager, not {type(source).__name__}")
        other = None if source is None else source.backend
        request = restoring.RestoreRequest(ref, keys, paths, expected, previewed, reason=reason, source=other)
        return restoring.restore(self.backend, request, None if dry_run else self.safety, self._commit)

    @property
    def safety(self) -> settings.CheckpointRetention:
        """Return how long safety checkpoints (`before_…`) are kept, by the folder's `stateview.toml`.

        Raises:
            InvalidName: the file holds an unknown setting.

        """
        return settings.find().safety()

    def revert(self, key: str, revision: int) -> Diff:
        """Bring one key back to its version of an earlier revision. Raises as `restore_checkpoint` does."""
        return self.restore_checkpoint(revision, keys=[KeyName(check_key(key))])

    def revert_commit(
        self, revision: Ref, *, skip_conflicts: bool = False, dry_run: bool = False, expected: int | None = None,
        previewed: int | None = None, reason: str = "",
    ) -> RevertDiff:  # fmt: skip
        """Take back one earlier commit, as a new commit, and return the applied diff. O(changes since).

        Each key that the commit wrote goes back to its version before the commit, if live still holds what the commit
        wrote, expiry included. The other keys are conflicts: someone changed them since. Unlike `undo`, it leaves all
        later commits in place. It makes the checkpoint `before_revert_…` first, and `undo` takes it back.

        Args:
            revision: the revision of the commit, or another ref: the commit that made this state.
            skip_conflicts: leave out the keys that were changed since.
            dry_run: only return the diff that would be applied, and the conflicts.
            expected: the revision that must be live. None: any revision.
            previewed: a revision that was live when a person looked at the preview. The revert is refused if a key of
                the commit was written after it.
            reason: the reason that the log shows. "": `revert`, and the revision and reason of the commit.

        Returns:
            the diff. Its `conflicts` has the keys that were changed since, with the revision that changed each last.

        Raises:
            Conflict: a key was changed since the commit, and `skip_conflicts` is false; live is not at `expected`; a
                key was written after `previewed`; or other writers came first for 30 seconds. Nothing was written.
            RefNotFound: there is no such commit.
            HistoryPruned: the commit, or the state before it, is no longer kept.

        """
        from .states.revert import revert_commit

        safety = None if dry_run else self.safety
        return revert_commit(self.backend, revision, skip_conflicts, expected, previewed, reason, safety, self._commit)

    def undo(self, *, dry_run: bool = False, expected: int | None = None) -> Diff:
        """Take back the last commit that is not taken back yet, as a new commit; return the diff that was applied.

        Args:
            dry_run: only return the diff that would be applied.
            expected: the revision that must be live.

        Raises:
            RefNotFound: no commit is left to undo.
            HistoryPruned: the state before the commit is pruned.
            Conflict: another writer came first, or live is not at `expected`.

        """
        from .states.restore import undo

        return undo(self.backend, self._commit, expected, dry_run)

    def redo(self, *, dry_run: bool = False, expected: int | None = None) -> Diff:
        """Bring back the commit that the last undo took back; return the diff that was applied.

        Args:
            dry_run: only return the diff that would be applied.
            expected: the revision that must be live.

        Raises:
            RefNotFound: the last commit was no undo, or every undo is redone.
            Conflict: as in `undo`.

        """
        from .states.restore import redo

        return redo(self.backend, self._commit, expected, dry_run)

    # --- looking back ------------------------------------------------------------------------------------------

    def history(
        self, key: str, limit: int = 100, *, below: int = 0, by: Iterable[str] | str | None = None,
        since: Moment | None = None, until: Moment | None = None, grep: str | None = None, sealed: bool = False,
    ) -> list[Entry]:  # fmt: skip
        """List the kept versions of a key, newest first; a delete has the value `ABSENT`.

        O(limit); with filters O(versions read), and O(log n) reads for a time.

        Args:
            key: the key.
            limit: the largest number of versions.
            below: only versions of revisions before this one. 0: all.
            by: only versions whose commit is by one of these authors, by names and globs.
            since: only versions after a ref, or from a time on; as in `log`.
            until: only versions up to and including this: the first one is what `load(key, at=until)` reads.
            grep: only versions whose commit has this text in its reason.
            sealed: a value that no key opens is a `SealedValue` instead of an error.

        Raises:
            RefNotFound: `since` or `until` is no ref and no time.
            HistoryPruned: `since` or `until` names a revision that is no longer kept.

        """
        from .backends.names_only import names_only
        from .maintenance.history import find_versions

        backend = names_only(self.backend) if sealed else self.backend
        check_key(key)
        if by is since is until is grep is None:
            return [to_entry(version) for version in backend.versions(key, limit, below)]
        found = find_versions(backend, key, self._filter(by, None, since, until, grep), below)
        return [to_entry(version) for version in islice(found, limit)]

    def log(
        self, limit: int = 100, *, below: int = 0, by: Iterable[str] | str | None = None,
        key: Iterable[str] | str | None = None, since: Moment | None = None, until: Moment | None = None,
        grep: str | None = None,
    ) -> list[Commit]:  # fmt: skip
        """List the kept commits, newest first. O(limit); with filters O(commits read), and O(log n) reads for a time.

        The revision of the last one is the `below` of the next page.

        Args:
            limit: the largest number of commits.
            below: only commits before this revision. 0: all.
            by: only commits of these authors, by names and globs.
            key: only commits that wrote or deleted one of these keys, by names and globs. Names cost
                O(log n + versions). For a glob the keys of each commit are read; JSON files: O(keys) a commit.
            since: only commits after a ref; or from a time on: a datetime, a timedelta before now, or a time as refs
                have it, with or without its `@`, such as `2h` or `2026-11-28T10:00`. Without a zone, both are local. A
                checkpoint's name comes first.
            until: only commits up to and including this.
            grep: only commits with this text in their reason.

        Raises:
            RefNotFound: `since` or `until` is none of these.
            HistoryPruned: `since` or `until` names a revision that is no longer kept.

        """
        if by is key is since is until is grep is None:
            return self.backend.commits(limit, below)
        from .maintenance.history import find_commits

        return list(islice(find_commits(self.backend, self._filter(by, key, since, until, grep), below), limit))

    def _filter(
        self, by: Iterable[str] | str | None, key: Iterable[str] | str | None, since: Moment | None,
        until: Moment | None, grep: str | None,
    ) -> CommitFilter:  # fmt: skip
        from .maintenance.history import CommitFilter
        from .states.moments import bounds

        return CommitFilter(Selection(by), Selection(key), grep or "", *bounds(self.backend, since, until))

    def commits(self, revisions: Iterable[int]) -> dict[int, Commit]:
        """Return the kept commits of some revisions, by revision. O(log n) each."""
        from .maintenance.history import commits_of

        return {commit.revision: commit for commit in commits_of(self.backend, sorted({*revisions}, reverse=True))}

    def blame(self, key: str, path: str = "", *, at: Ref = "live") -> Commit:
        """Find the commit that last changed a key's value, or a place inside it, before a state. O(versions passed).

        Of a key that was deleted, or a place that was removed, it is the commit that did so. Of a key that expired, it
        is the commit that set the expiry. An undo or redo only brings back a version of another commit. The result is
        that other commit.

        Raises:
            KeyNotFound: the key never had a value, or nothing was ever at the path, as far as the history is kept.
            HistoryPruned: the value has not changed since before the history's floor.
            InvalidName: the path is not a JSON Pointer.
            RefNotFound: there is no state `at`.

        """
        return self.find_blame(key, path, at=at).commit

    def find_blame(self, key: str, path: str = "", *, at: Ref = "live") -> Blame:
        """Find what `blame` finds, and whether the value or the place is still there in that state.

        Raises:
            StateException: the errors of `blame`.

        """
        from .maintenance.blame import find_blame
        from .states.values.pointers import split_pointer

        check_key(key)
        split_pointer(path)
        state = StateAt(-1, self.backend.now()) if at == "live" else resolve(self.backend, at)
        return find_blame(self.backend, key, path, state)

    def watch(
        self, *, since: Ref = "live", keys: Iterable[str] | str | None = None, timeout: float | None = None
    ) -> Iterator[Change]:
        """Yield the changes as anyone commits them, forever, or until no commit comes for `timeout` seconds.

        Several commits between two looks come as one change a key. An expired entry is reported with the next commit.

        Raises:
            StateException: the namespace was dropped or replaced.
            HistoryPruned: it fell behind: the state of its last look is pruned.

        """
        for change in self._looks(since, keys, timeout, _WAIT_SECONDS):
            if change is not None:
                yield change

    @checked
    def _looks(
        self, since: Ref, keys: Iterable[str] | str | None, timeout: float | None, seconds: float
    ) -> Generator[Change | None, None, None]:
        """Yield what `watch` yields, and None whenever no commit came for some seconds: then the caller can end it."""
        from .states.compare import diff_points

        wanted = Selection(keys)
        seen = resolve(self.backend, since)
        quiet_since = time.monotonic()
        while True:
            left = seconds if timeout is None else min(seconds, timeout - (time.monotonic() - quiet_since))
            if left <= 0:
                return
            revision = self.backend.wait(seen.revision, left)
            if revision < seen.revision:
                raise StateException(f"namespace {self.namespace!r} was dropped or replaced while it was watched")
            if revision == seen.revision:
                yield None
                continue
            points = [seen, resolve(self.backend, "live")]
            renew = renew_points([seen.revision, "live"], points)
            labels = str(since), "live"
            try:
                yield from diff_points(self.backend, points[0], points[1], labels, wanted, renew)
            except HistoryPruned as error:
                what = f"the watch of namespace {self.namespace!r} fell behind: revision {seen.revision}, which it saw"
                raise HistoryPruned(f"{what} last, is pruned", ("Watch it again", *error.next_steps)) from error
            seen, quiet_since = points[1], time.monotonic()

    def wait(self, key: str, condition: str | Callable[[Any], Any], *, timeout: float | None = 30.0) -> Any:
        """Wait until a condition on a key's value is true, and return the value; `ABSENT` if the key has none.

        The command `wait` does the same. A commit of any process ends a pause, and so does the key's expiry. A value
        that was there only between two looks is not seen.

        Args:
            key: the key. It, and the namespace, need not exist yet.
            condition: `"[PATH] OPERATOR [VALUE]"`, such as `"== done"`, `"/tasks/0/state != running"` or `"exists"`.
                Operators: `==` `!=` `<` `<=` `>` `>=` `contains` `matches` `exists` `missing`. VALUE is JSON if it is
                valid JSON, otherwise a string. Or a function that takes the value, or `ABSENT`, and returns whether to
                stop.
            timeout: seconds to wait at most. None: without end.

        Raises:
            WaitTimeout: the condition did not become true in time.
            InvalidArgument: the text is not a condition.
            Sealed: the condition needs a value that no key opens.

        """
        from .states.conditions import parse_text
        from .states.waiting import wait_until

        wanted = parse_text(condition) if isinstance(condition, str) else condition
        met, value, _ = wait_until(self.backend, key, wanted, timeout)
        if not met:
            raise self._wait_timeout(key, condition, timeout, value)
        return value

    def _wait_timeout(
        self, key: str, condition: str | Callable[[Any], Any], timeout: float | None, value: Any
    ) -> WaitTimeout:
        what = f"waited {timeout:g} s for {key[:60]!r} {condition if isinstance(condition, str) else 'to be right'}"
        return WaitTimeout(f"{what} in namespace {self.namespace!r}", see("load", key), value)

    # --- files -------------------------------------------------------------------------------------------------

    def export(
        self, target: str | os.PathLike[str] | IO[bytes], *, layout: str | None = None, at: Ref | None = None,
        keys: Iterable[str] | str | None = None, overwrite: bool = False, plain: bool = False,
        progress: ProgressCount | None = None,
    ) -> ExportReport:  # fmt: skip
        """Write one revision of the namespace into a file, whatever others write meanwhile. O(all that is kept).

        The file appears whole and durable, or not at all. The same namespace gives the same bytes, from any backend.

        Args:
            target: a path, or a file open for writing bytes. A path that ends in `.gz` is compressed.
            layout: `"jsonl"`, JSON Lines with the whole history and the checkpoints, in bounded memory; `"json"`, an
                object `{key: value}`, sorted. None: by the ending of the path, else `"jsonl"`.
            at: the state to export, for `"json"`. None: live.
            keys: only these keys, by names and globs, for `"json"`.
            overwrite: replace an existing file.
            plain: write the values of an encrypted namespace as plain text. Otherwise its JSON Lines are sealed with
                the key in use, and plain JSON is refused.
            progress: called with the number of keys done and the total.

        Raises:
            Sealed: the namespace is encrypted, and no key opens it.
            Conflict: the file exists, or writers outrun the kept history.
            KeyNotFound: the namespace does not exist, a key given by name does not exist, or no key is chosen.
            InvalidName: the path's ending is unknown, or the layout does not take these arguments.
            HistoryPruned, RefNotFound: `at` names no kept state.

        """
        from .transfer.export import export

        return export(self.backend, target, layout, at, keys, overwrite, progress, plain)

    def import_from(
        self, source: str | os.PathLike[str] | IO[bytes], *, how: str | None = None, dry_run: bool = False,
        force: bool = False, layout: str | None = None, pattern: str | None = None, strip_prefix: str = "",
        text: bool = False, skip: bool = False, encryption_key: SecretText | None = None,
        progress: ProgressCount | None = None,
    ) -> ImportReport:  # fmt: skip
        """Import an export, a JSON object, data of an older layout, or the strings of any Redis. O(its size).

        A new namespace is created from the source, whole or not at all. From JSON Lines it gets the history, revisions
        and checkpoints too. An existing namespace gets one commit, which `undo` takes back. The source is never
        written. Memory is bounded, except for a JSON object and for the writes of that commit.

        Args:
            source: a path, a file open for reading bytes, or the URL of a Redis.
            how: for an existing namespace. `"merge"` writes the source's keys and keeps all others. `"replace"` makes
                all keys as in the source, after a checkpoint `before_import_…`.
            dry_run: only return the report of what would change. Read its diff while the source is unchanged.
            force: also import an export of another lineage, or an export older than live.
            layout: `"jsonl"`, `"json"` or `"state"` (a state.json). None: detect it.
            pattern: for a Redis, import the keys that this pattern matches, such as `app:*`, with their remaining
                expiry. None: the older layout's keys of this namespace.
            strip_prefix: a prefix to remove from those keys.
            text: import values that are not JSON as text.
            skip: leave out keys that are not strings.
            encryption_key: the key of a sealed file. None: the environment's `STATEVIEW_FILE_KEY`, else the key in use.
            progress: called with the amount done and the total, which is 0 if it is not known.

        Raises:
            Conflict: the namespace exists and `how` is not given; or the export is of another lineage, or older.
            Damaged: the source does not hold what its layout says, with line and column, or the key. Nothing was
                changed.
            KeyNotFound: the source is empty.
            InvalidName: the arguments do not go together.
            Sealed: the file is sealed, and the key does not open it.

        """
        work = self.open_import(
            source, how=how, force=force, layout=layout, pattern=pattern, strip_prefix=strip_prefix, text=text,
            skip=skip, encryption_key=encryption_key, progress=progress,
        )  # fmt: skip
        if dry_run:
            return work.plan()
        with work, self._announced():
            return work.execute()

    def open_import(
        self, source: str | os.PathLike[str] | IO[bytes], *, how: str | None = None, force: bool = False,
        layout: str | None = None, pattern: str | None = None, strip_prefix: str = "", text: bool = False,
        skip: bool = False, encryption_key: SecretText | None = None, progress: ProgressCount | None = None,
    ) -> ImportJob:  # fmt: skip
        """Open an import in steps, to preview it before it runs: a context manager. Arguments as of `import_from`."""
        from .transfer.import_job import ImportJob
        from .transfer.import_sources import Options

        file_key = encryption_key or os.environ.get("STATEVIEW_FILE_KEY")
        user_key = _keyed_values(file_key).user_key if file_key else None
        options = Options(layout, pattern, strip_prefix, text, skip, user_key)
        return ImportJob(self.backend, self._commit, source, options, how, force, self.author, progress)

    # --- the store ---------------------------------------------------------------------------------------------

    def namespaces(self) -> list[str]:
        """List the namespaces of the store, sorted."""
        return self.backend.namespaces()

    def in_namespace(self, name: str) -> StateManager:
        """Return a manager of another namespace of the same store, with the same options. Nothing is read or made.

        Raises:
            InvalidName: the name is not allowed.

        """
        return self._reopen(check_name(name, "namespace"))

    def drop(self) -> None:
        """Remove the namespace with everything in it: values, checkpoints and history. Nothing brings it back.

        A namespace that was never written stays so. A later write makes a new namespace of this name. Managers of the
        old one see that it is gone; a `watch` of it ends with an error.

        Raises:
            ReadOnly: the manager was opened for reading only.
            BackendError: a file or the server refuses. The error says what is left.

        """
        self.check_writable()
        self.backend.drop()

    def fork(self, other: str, *, at: Ref = "live") -> StateManager:
        """Copy this namespace, at a ref, into a new namespace of the store; return its manager. O(keys).

        Raises:
            NamespaceNotFound: this namespace was never written.
            Conflict: the new namespace exists already.
            NotReplicated: the new namespace is complete, but too few replicas have confirmed it. After any other error
                there is no new namespace, unless the error says so.

        """
        self.check_writable()
        self.check_exists()
        target = self.in_namespace(other)
        if other in target.namespaces():
            raise Conflict(f"namespace {other!r} exists already", "Give another name")
        from .states.steady import again

        again(is_live(at), lambda: self._fork_into(target, at))
        return target

    def _fork_into(self, target: StateManager, at: Ref) -> None:
        from .states.compare import entries
        from .states.leases import is_lease
        from .states.steady import snapshot

        base, reason = 0, ""
        try:
            with snapshot(self.backend, whole=True) as state:
                point = resolve(state, at)
                reason = f"forked from {self.namespace} at {at} (revision {point.revision})"
                writes: dict[str, Write] = {}
                for version in entries(state, point):
                    if is_lease(version.key, version):
                        continue  # nobody holds a lock of the new namespace
                    ttl = version.expires - point.time if version.expires else 0
                    writes[version.key] = Write(version.value, ttl, version.time)
                    if len(writes) == KEYS_PER_FORK_COMMIT and not self.backend.rewrites_state:
                        with suppress(NotReplicated):  # the last commit waits for all of them
                            target._commit(CommitRequest(writes, base=base, reason=reason + _UNFINISHED))
                        writes, base = {}, base + 1
            # A namespace without a commit and a checkpoint does not exist.
            mark = () if writes else (CheckpointWrite("forked", reason),)
            target._commit(CommitRequest(writes, base=base, reason=reason, marks=mark))
        except NotReplicated as error:
            error.tell(f"Namespace {target.namespace!r} is complete")
            raise
        except BaseException as error:
            is_in_doubt = isinstance(error, CommitUnknown) or not isinstance(error, StateException)
            may_be = "may be" if is_in_doubt and not base else "is"
            with tells_what_was_done(lambda: f"Namespace {target.namespace!r} {may_be} unfinished: remove it"):
                if base or (is_in_doubt and reason and target._was_just_made(reason)):
                    target.backend.drop()  # this call created it, and it is incomplete
            raise

    def _was_just_made(self, reason: str) -> bool:
        """Return whether this namespace has one commit alone, which a fork made with this reason."""
        commits = self.backend.commits(2)
        return len(commits) == 1 and commits[0].reason in (reason, reason + _UNFINISHED)

    def migrate_to(
        self, destination: StoreURL, *, dry_run: bool = False, force: bool = False, switch: bool = False,
        progress: OnMigrationProgress | None = None,
    ) -> MigrationReport:  # fmt: skip
        """Copy this namespace into another store: live entries, checkpoints, history, expiry and revisions.

        The migration copies the namespace, then the commits made meanwhile, then reads the copy back and compares it.
        Only then does the copy become visible. After an interruption or a kill the next call resumes the copy. This
        namespace is only read, and stays. O(all that is kept), in bounded memory except for JSON files.

        Args:
            destination: a store URL, `"json"`, `"sqlite"`, `"redis"`, or the name of a store in `stateview.toml`.
            dry_run: read everything, and only return what would be copied.
            force: also replace another namespace of this name, or a copy that was written to since. It gets a
                checkpoint `before_migrate_…` and is kept aside; the report says where.
            switch: afterwards make the destination the store of this folder's `stateview.toml`.
            progress: called with a `MigrationProgress` repeatedly. An exception from it stops the copy, which can
                resume.

        Raises:
            KeyNotFound: this namespace does not exist.
            InvalidArgument: `switch`, and the destination holds a password: give `${VARIABLE}` in its place.
            Conflict: the destination holds another namespace of this name, or a later state of this one; another copy
                into it is running; or writers outrun this namespace's kept history.
            ReadOnly: the destination may not be written, or this namespace has an older layout that is not adopted yet.
            Damaged: a part cannot be read, or the copy differs from the source.
            Sealed: no key opens this namespace, or the one at the destination.
            BackendError: a store does not answer, or has no space; or this namespace is encrypted and its copy would
                not be.
            NotReplicated: the copy is in place, but too few replicas of the destination have confirmed it.

        """
        from .transfer.migrate import migrate

        if switch:
            settings.check_switch(destination)  # what the file cannot name must fail before the copy, not after it
        options: dict[str, Any] = {"encryption_key": self._key_for(destination), "quiet": True}
        target = StateManager(destination, self.namespace, read_only=dry_run, author=self.author, **options)
        first = StateManager(destination, self.namespace, read_only=True, **options)
        with target, first, self._reopen(self.namespace, read_only=True) as source:
            report = migrate(
                source.backend, target.backend, dry_run=dry_run, force=force, author=self.author, progress=progress,
                first=None if dry_run else first.backend,
            )  # fmt: skip
        if switch and not dry_run:
            from msgspec.structs import replace

            with tells_what_was_done(lambda: "The migration is done; run it again to switch"):
                return replace(report, switched=settings.switch_target(destination, self.namespace))
        return report

    def _key_for(self, destination: StoreURL) -> str | None:
        """Return the key for a copy in another store: that of its settings, or else the one in use here."""
        return settings.resolve_target(destination, self.namespace).encryption_key or self._opened["encryption_key"]

    def doctor(self, progress: ProgressText | None = None) -> DoctorReport:
        """Check all stored data, without changing any of it, and report what each finding means and what to do.

        Damage is a finding, not an exception. So is a check that could not finish. Others may write meanwhile. O(all
        that is stored, and every checkpoint), in bounded memory.

        Args:
            progress: called with the subject of each check. An exception from it stops the checks.

        """
        from .maintenance.doctor import diagnose, examined, history_format

        with self._reopen(self.namespace, read_only=True) as reader:
            backend = examined(reader.backend)
            findings = tuple(diagnose(backend, progress))
            try:
                revision, format_ = backend.head().revision, history_format(backend)
            except (StateException, ValueError):
                revision = format_ = 0  # a finding says why
        return DoctorReport(self.namespace, revision, findings, format_)

    def recover(self) -> RecoveryReport:
        """Check the namespace, repair from the history what can be repaired, and report it. O(all that is stored).

        Every damaged original is kept beside the repaired data, and no value is guessed. A sound namespace is not
        changed.

        Raises:
            ReadOnly: the manager was opened for reading only.
            Damaged: a person must decide, such as about an edited file that does not parse.

        """
        from .maintenance.recovery import recover

        self.check_writable()
        return recover(self.backend)

    def compact(self, floor: int | None = None, *, progress: ProgressText | None = None) -> int:
        """Drop versions that nothing needs, free their space, and return the number of versions. O(history).

        Without `floor` only unreachable versions are dropped, as by the command `compact`: those kept for deleted
        checkpoints, or older than `history=`. No state that can be read is lost. With `floor`, versions that no
        checkpoint and no revision from `floor` on needs are dropped too: `floor=state.revision` forgets all history,
        as calls without `floor` once did.

        Others may read and write meanwhile, except while SQLite rewrites its file at the end. A killed `compact` has
        harmed nothing, and the next run resumes it.

        Args:
            floor: the first revision to keep. None: every revision that is kept now.
            progress: called with a text now and then. An exception from it stops the run.

        """
        from .maintenance import prune as pruning

        self.check_writable()
        return pruning.compact(self.backend, floor or 0, progress)

    def prune(
        self, pattern: Iterable[str] | str | None = None, *, keep: int | None = None,
        older_than: str | float | timedelta | None = None, history: bool = False, dry_run: bool = False,
        previewed: PruneReport | None = None, progress: ProgressText | None = None,
    ) -> PruneReport:  # fmt: skip
        """Delete checkpoints, and with `history` old revisions; free their space and report it. O(history).

        Data that another checkpoint or a kept revision needs stays. A killed `prune` has harmed nothing, and the next
        run resumes it.

        Args:
            pattern: the checkpoints to choose from, by name, `NAME@REVISION` or glob. None: the automatic checkpoints
                (`auto_…` and `before_…`), so that a person's checkpoint is removed only by its name. `()`: none.
            keep: always keep the newest `keep` of these.
            older_than: keep younger ones: `"30d"` (units s, min or m, h, d, w), seconds, or a timedelta.
            history: apply `keep` and `older_than` to revisions too. The kept revisions can still be read and undone.
            dry_run: only return what would be removed, and about how many bytes would be freed.
            previewed: the report of a dry run. Exactly this is removed, as far as it still exists, and the other
                arguments are not used.
            progress: called with a text now and then. An exception from it stops the run.

        Raises:
            ValueError: no argument says what to remove, or an argument cannot be read.
            RefNotFound: a named checkpoint does not exist.
            Conflict: the namespace is not the one that was previewed.

        """
        from .maintenance import prune as pruning

        if not dry_run:
            self.check_writable()
        planned = previewed
        if planned is None:
            wanted = pruning.policy(self.backend, pattern, keep, older_than, history)
            planned = pruning.plan(self.backend, wanted, progress, estimate=dry_run)
        return planned if dry_run else pruning.execute(self.backend, planned, self._commit, progress)

    def stats(self, *, progress: ProgressText | None = None) -> Stats:
        """Return the namespace in numbers: keys, bytes, history, checkpoints, the largest values, growth, size on disk.

        Values are read on a Redis server only. Others may write meanwhile, so the numbers are of no single state.
        O(keys + history).

        Args:
            progress: called with a text now and then. An exception from it stops the run.

        """
        from .maintenance.stats import stats

        return stats(self.backend, progress)

    @property
    def is_encrypted(self) -> bool:
        """Whether the namespace is encrypted, or its first commit will encrypt it. O(1)."""
        from .backends.stored_values import is_sealed

        return is_sealed(self.backend)

    @property
    def encryption(self) -> Encryption:
        """Return what encrypts this namespace, and what says which keys open it."""
        from .encryption import Encryption

        def use(key: str | None) -> None:
            self._opened["encryption_key"] = key

        return Encryption(self.backend, self._keyed, self.check_writable, use)

    def check_exists(self) -> None:
        """Raise `NamespaceNotFound` if the namespace was never written. An empty namespace exists. O(1)."""
        check_exists(self.backend)

    def check_writable(self) -> None:
        """Raise `ReadOnly` if every write would."""
        if self.read_only:
            getattr(self.backend, "refuse", lambda: None)()  # another program's store says what to do instead
            raise ReadOnly(f"namespace {self.namespace!r} of {self.url} is open for reading only")

    def _commit(self, batch: CommitRequest) -> Head:
        """Commit to the backend. No other code of this class does."""
        self.check_writable()
        if _watched and (written := _watched.get(get_ident())) is not None:
            written.update((self._absolute_url, self.namespace, key) for key in batch.writes)
        if self.author and not batch.author:
            from msgspec.structs import replace

            batch = replace(batch, author=self.author)
        send = self._send
        for lock in tuple(self._locks):  # each commit depends on the locks that are held
            if lock.is_here:
                send = partial(lock.commit, send)
        return send(batch)

    def _send(self, batch: CommitRequest) -> Head:
        if self._announces:
            with self._announced():
                return self.backend.commit(batch)
        return self.backend.commit(batch)

    @contextmanager
    def _announced(self) -> Iterator[None]:
        """Say after the first write if it has made the store, at a place that nobody chose."""
        try:
            new = self._announces and not self.backend.head().lineage and not self.backend.namespaces()
        except StateException:
            new = False  # the write itself tells what is wrong, if it fails too
        yield
        if new:
            from .backends.notes import say_once

            reason = settings.choice(self.url)
            say_once(f"{self._absolute_url} is a new store{f'. {reason}' if reason else ''}")
        self._announces = False

    @cached_property
    def _contention(self) -> Contention:
        """The keys that other writers wait for. Most commands update none, so they import less."""
        from .states.attempts import Contention

        return Contention()

    def _commit_with_retry(
        self, key: str, make: Callable[[], CommitRequest], once: bool = False
    ) -> tuple[CommitRequest, Head]:
        """Commit the request that `make` builds from the present state; rebuild it while other writers come first."""
        is_expected = not once and self._contention.is_expected(self.backend, key)
        began = time.monotonic()
        if not is_expected:  # nearly always, and nearly always this is all
            batch = make()
            try:
                return batch, self._commit(batch)
            except Conflict:
                if once:
                    raise
        from .states.attempts import Attempts

        with Attempts(self.backend, key, self._contention, began, is_expected) as attempts:
            while True:
                attempts.start()
                batch = make()
                try:
                    return batch, self._commit(batch)
                except Conflict:
                    if not attempts.has_next():
                        raise


@checked
def migrate(
    source: StoreURL, destination: StoreURL, *, namespace: str | None = None, all: bool = False, dry_run: bool = False,
    force: bool = False, switch: bool = False, author: str | None = None, progress: OnMigrationProgress | None = None,
) -> list[MigrationReport]:  # fmt: skip
    """Migrate one namespace of a store, or all of them, into another store; return a report on each.

    With `all`, no namespace is copied before every destination is checked. `switch` names the folder's own namespace,
    or the last one. For the other arguments see `StateManager.migrate_to`.
    """
    from .transfer.migrate import check

    with StateManager(source, namespace, read_only=True, author=author, quiet=True) as first:
        used = first.namespace
        names = first.namespaces() if all else [used]
        if not names:
            raise empty_store(first.backend)
        names.sort(key=lambda name: name == used)  # `switch` names the last namespace
        if all and dry_run:
            return _plan_all(first, names, destination, force, progress)
    managers = [StateManager(source, name, read_only=True, author=author, quiet=True) for name in names]
    if all:
        for manager in managers:
            options: dict[str, Any] = {"encryption_key": manager._key_for(destination), "quiet": True}
            with manager, StateManager(destination, manager.namespace, read_only=True, **options) as target:
                check(manager.backend, target.backend, force)
    reports: list[MigrationReport] = []
    for manager in managers:
        with manager:
            switched = switch and manager is managers[-1]
            options = {"dry_run": dry_run, "force": force, "switch": switched}
            moved = "" if dry_run or not reports else f"Moved before it: {', '.join(one.namespace for one in reports)}"
            with tells_what_was_done(partial(str, moved)):
                reports.append(manager.migrate_to(destination, progress=progress, **options))
    return reports


def _plan_all(
    first: StateManager, names: list[str], destination: str, force: bool, progress: OnMigrationProgress | None
) -> list[MigrationReport]:
    """Report what migrations of some namespaces of a manager's store would do. Many small ones are read at once."""
    from .transfer.migrate import migrate as plan

    many = getattr(first.backend, "copies", None)
    copies: Iterator[Backend | None] = many(names) if many is not None else repeat(None, len(names))
    options: dict[str, Any] = {"encryption_key": first._key_for(destination), "quiet": True}
    reports = []
    for name, copy in zip(names, copies, strict=True):
        with ExitStack() as stack:
            source = copy or stack.enter_context(first._reopen(name, read_only=True)).backend
            target = stack.enter_context(StateManager(destination, name, read_only=True, **options))
            reports.append(plan(source, target.backend, dry_run=True, force=force, progress=progress))
    return reports


class _OwnWrites:
    """Refuse an act whose function writes what the act reads whenever it runs: the commit would conflict each time."""

    def __init__(self, state: StateManager, act: str) -> None:
        self._place = state._absolute_url, state.namespace
        self._act = act
        self._times = 0

    def check(self, written: set[tuple[str, str, str]], keys: Iterable[str]) -> None:
        self._times += any((*self._place, key) in written for key in keys)
        if self._times > MAX_OWN_CONFLICTS:
            what = f"{self._act}: its function writes the same key whenever it is called"
            raise Reentered(what, "Return the new value, and write other keys only")


def _run_watched(function: Callable[[Any], T], value: Any) -> tuple[T, set[tuple[str, str, str]]]:
    """Call a function, and return its result with the stores, namespaces and keys that this thread writes meanwhile."""
    thread = get_ident()
    outer = _watched.get(thread)
    written = _watched[thread] = set()
    try:
        return function(value), written
    finally:
        if outer is None:
            del _watched[thread]
        else:
            _watched[thread] = outer
            outer |= written


def _keyed_values(key: str) -> KeyedValues:
    """Return a form of values for a key. A manager has its own, since `rotate_key` gives it another key."""
    from .backends.sealed_values import KeyedValues

    return KeyedValues(_user_key(key))


@lru_cache(4)
def _user_key(key: str) -> UserKey:
    """Return a key. It is kept, since a passphrase takes half a second for each namespace."""
    from .sealing.keys import UserKey

    return UserKey.parse(key)
