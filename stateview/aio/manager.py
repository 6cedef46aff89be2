"""AsyncStateManager: the methods of `StateManager` for asyncio, each run by the same code on a worker thread.

A method is one line, see `calls`. Only those of another shape are written out: `update`, `transact`, `transaction`,
`commit`, `lock`, `watch`, `wait`, `fork`, `in_namespace`, `close`, and those that stand for properties.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import asynccontextmanager
from contextvars import copy_context
from functools import partial
from math import inf
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar

from .. import codec
from ..arguments import SecretText, check_integer, check_seconds
from ..backends.retries import UPDATE_SECONDS, Backoff
from ..errors import Conflict, InvalidArgument, KeyNotFound, LockHeld, WaitTimeout
from ..manager import StateManager
from ..model import ABSENT
from ..states.changes import Change
from ..states.view import Ref
from .calls import Face, call, call_giving, is_coroutine_function, opened, stream, take
from .threads import WorkerThreads, finish, run_on_new_thread
from .views import AsyncDiff, AsyncStateView, AsyncTransaction

if TYPE_CHECKING:
    from .. import settings
    from ..states.leases import Lock
    from ..transfer.import_job import ImportJob
    from .extras import AsyncEncryption, AsyncImportJob

THREADS = 8
MAX_THREADS = 1000
LOOK_SECONDS = 0.25  # of a watch at the revision, after which its thread can end

P = ParamSpec("P")
T = TypeVar("T")


def _import_job(job: ImportJob, threads: WorkerThreads) -> AsyncImportJob:
    from .extras import AsyncImportJob

    return AsyncImportJob(job, threads)


class AsyncStateManager(Face[StateManager]):
    """Keep the state of one workflow from asyncio: `StateManager` with `await`, `async with` and `async for`.

    Its methods, arguments and errors are those of `StateManager`, whose code runs on worker threads. So a call never
    blocks the event loop. A call costs a switch of threads, about 0.1 ms, more than its synchronous one.

    Args:
        backend: and all other arguments: see `StateManager`.
        threads: the number of calls that run at once. Others wait for their turn. An open `watch` has one thread more.

    Cancellation: a call that has not begun when it is cancelled never begins. One that has begun runs to its end, and
    `CancelledError` is raised then. So a commit is either made or not when the `await` ends, and a read tells which. A
    call ends late where it waits for a lock or a server: `timeout=` bounds this. An open `watch` ends at once, and its
    thread after a quarter of a second.

    Order: the calls of one task take effect in their order. Calls of several tasks begin in the order in which they
    were made, and then run at once.

    Functions: `progress`, and a plain function of `update`, run on a worker thread, with the context variables of the
    caller. A coroutine function of `update` is awaited by the calling task.

    A manager can be used by event loops in several threads. After `fork()` the child uses it with threads of its own.
    Opening it is free: the first call starts threads, and opens files and connections.

    Raises:
        InvalidName: the backend or the namespace is not valid.

    """

    def __init__(
        self, backend: str | None = None, namespace: str | None = None, *, read_only: bool = False,
        author: str | None = None, history: int | None = None, timeout: float | None = None,
        durability: str | None = None, checkpoint_files: bool | None = None, encryption_key: SecretText | None = None,
        wait_replicas: int | None = None, wait_timeout: float | None = None, consistency: str | None = None,
        max_stale: float | None = None, quiet: bool | None = None, threads: int = THREADS,
    ) -> None:  # fmt: skip
        if not 1 <= check_integer(threads, "threads") <= MAX_THREADS:
            raise InvalidArgument(f"threads={threads}: give a number from 1 to {MAX_THREADS}")
        manager = StateManager(
            backend, namespace, read_only=read_only, author=author, history=history, timeout=timeout,
            durability=durability, checkpoint_files=checkpoint_files, encryption_key=encryption_key,
            wait_replicas=wait_replicas, wait_timeout=wait_timeout, consistency=consistency, max_stale=max_stale,
            quiet=quiet,
        )  # fmt: skip
        super().__init__(manager, WorkerThreads(threads))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __reduce__(self) -> tuple[object, ...]:
        return _asynchronous, (self._wrapped, self._threads.count)

    def __repr__(self) -> str:
        return f"<Async{repr(self._wrapped).removeprefix('<')}"

    @property
    def namespace(self) -> str:
        """Return the namespace's name."""
        return self._wrapped.namespace

    @property
    def url(self) -> str:
        """Return the store's URL, with its password masked."""
        return self._wrapped.url

    @property
    def read_only(self) -> bool:
        """Whether every write raises `ReadOnly`."""
        return self._wrapped.read_only

    @property
    def author(self) -> str:
        """Return the author that the log names."""
        return self._wrapped.author

    async def run_sync(
        self, function: Callable[Concatenate[StateManager, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Call a function on a worker thread with the `StateManager`, and return its result.

        For several acts in one switch of threads, and for what only a `StateManager` has. It is cancelled as any call.

        Args:
            function: called with the `StateManager` and the other arguments.
            args: passed on.
            kwargs: passed on.

        """
        return await self._run(function, *args, **kwargs)

    async def close(self) -> None:
        """Wait for the calls that were made before, then end the threads, and close files and connections.

        Open watches end. A later use of the manager opens all of it again.
        """

        def close() -> None:
            self._threads.close()
            self._wrapped.close()

        await finish(run_on_new_thread(close))

    async def revision(self) -> int:
        """Return the present revision, 0 for a namespace that was never written. O(1)."""
        return await self._run(lambda state: state.revision)

    async def safety(self) -> settings.CheckpointRetention:
        """Return how long safety checkpoints (`before_…`) are kept, by the folder's `stateview.toml`.

        Raises:
            InvalidName: the file holds an unknown setting.

        """
        return await self._run(lambda state: state.safety)

    async def is_encrypted(self) -> bool:
        """Return whether the namespace is encrypted, or its first commit will encrypt it. O(1)."""
        return await self._run(lambda state: state.is_encrypted)

    @property
    def encryption(self) -> AsyncEncryption:
        """Return what encrypts this namespace, and what says which keys open it."""
        from .extras import AsyncEncryption

        return AsyncEncryption(self._wrapped, self._threads)

    head = call(StateManager.head)

    # --- keys --------------------------------------------------------------------------------------------------

    save = call(StateManager.save)
    save_many = call(StateManager.save_many)
    load = call(StateManager.load)
    load_many = call(StateManager.load_many)
    entry = call(StateManager.entry)
    entries = stream(StateManager.entries)
    delete = call(StateManager.delete)
    delete_prefix = call(StateManager.delete_prefix)
    list_keys = call(StateManager.list_keys)
    rows = call(StateManager.rows)
    count = call(StateManager.count)
    rename = call(StateManager.rename)
    expire = call(StateManager.expire)
    patch = call(StateManager.patch)
    merge = call(StateManager.merge)

    async def contains(self, key: object) -> bool:
        """Return whether a key has a value: `key in state`."""
        return await self._run(StateManager.__contains__, key)

    async def update(
        self, key: str, function: Callable[[Any], Any], default: Any = ABSENT, *, path: str = "",
        ttl: float | None = None, keep_ttl: bool = False, reason: str = "",
    ) -> Any:  # fmt: skip
        """Read, change and write a key without another write in between, and return the new value.

        `function` gets the value (or `default`) and returns the new value. It may be called several times, so it must
        have no side effects. With `path`, it gets and returns what lies there. A plain function runs on a worker
        thread. A coroutine function is awaited by the calling task, between a read and a commit, and holds no thread.

        Raises:
            KeyNotFound: the key has no value, and no default was given.
            Conflict: other writers came first for 60 seconds, or a coroutine function itself writes the key.
            Reentered: a plain function itself writes the key, each time that it is called.

        """
        if not is_coroutine_function(function):
            given = {"path": path, "ttl": ttl, "keep_ttl": keep_ttl, "reason": reason}
            return await self._run(StateManager.update, key, function, default, **given)
        backoff = Backoff(UPDATE_SECONDS, first=0.001, longest=0.005)
        while True:
            before, revision, left = await self._run(_read_for_update, key, default, path)
            after = await function(before)
            try:
                kept = left if keep_ttl else ttl
                return await self._run(_write_update, key, after, path, revision, kept, reason)
            except Conflict:
                if not await self._run(lambda _: backoff.wait()):
                    raise

    @asynccontextmanager
    async def transaction(self, reason: str = "") -> AsyncGenerator[AsyncTransaction, None]:
        """Open a block of reads and writes that becomes one commit at its end, or none if it raises or is cancelled.

        Raises:
            Conflict: at the end of the block, if another writer changed a key that the block read. Nothing was written;
                run the block again.

        """
        transaction = await self.begin(reason)
        try:
            yield transaction
        except BaseException:
            transaction._wrapped.discard()
            raise
        await self.commit(transaction)

    async def transact(self, function: Callable[[Any], Any], *, reason: str = "") -> Any:
        """Call a function with a transaction, commit what it wrote as one commit, and return its result.

        If another writer changes a key that the function read, it is called again, with a transaction of the later
        state. A plain function gets a `Transaction`, and runs on a worker thread. A coroutine function gets an
        `AsyncTransaction`, is awaited by the calling task, and holds no thread.

        Raises:
            Conflict: other writers came first for 60 seconds, or a coroutine function itself writes what it read; or a
                key is not at the `expected` revision that the function gave.
            Reentered: a plain function itself writes, past the transaction, what the transaction read, each time.

        """
        if not is_coroutine_function(function):
            return await self._run(StateManager.transact, function, reason=reason)
        backoff = Backoff(UPDATE_SECONDS, first=0.001, longest=0.005)
        while True:
            transaction = await self.begin(reason)
            try:
                result = await function(transaction)
                await self.commit(transaction)
                return result
            except Conflict as error:
                if not transaction._wrapped._may_pass(error) or not await self._run(lambda _: backoff.wait()):
                    raise
            finally:
                transaction._wrapped.discard()

    @asynccontextmanager
    async def lock(self, name: str, *, ttl: float = 30.0, wait: float | None = None) -> AsyncGenerator[Lock, None]:
        """Hold a lock in an `async with` block that one process at a time can be in, on one host or on many.

        See `StateManager.lock`. Tasks with one manager are one holder each. Waiting takes no thread from other calls.
        """
        deadline = monotonic() + (0.0 if wait is None else check_seconds(wait, "wait"))
        thread = self._threads.open_apart()
        held: Lock | None = None
        try:
            while held is None or not held.fence:
                left = max(0.0, deadline - monotonic())
                held = self._wrapped.lock(name, ttl=ttl, wait=min(left, LOOK_SECONDS))
                try:
                    await finish(thread.submit(copy_context().run, held.acquire))
                except LockHeld:
                    if left <= LOOK_SECONDS:
                        raise
            yield held
        finally:
            error = sys.exc_info()
            if held is not None and held.fence:
                await finish(thread.submit(copy_context().run, held.__exit__, *error))
            self._threads.close_apart(thread, lambda: None)

    begin = call_giving(AsyncTransaction, StateManager.begin)

    async def commit(self, transaction: AsyncTransaction, reason: str = "") -> int:
        """Commit a transaction of `begin`, and return the revision. Raises as `transaction` does."""
        return await self._run(StateManager.commit, getattr(transaction, "_wrapped", transaction), reason)

    # --- checkpoints and refs ----------------------------------------------------------------------------------

    checkpoint = call(StateManager.checkpoint)
    list_checkpoints = call(StateManager.list_checkpoints)
    checkpoints = call(StateManager.checkpoints)
    delete_checkpoint = call(StateManager.delete_checkpoint)
    delete_checkpoints = call(StateManager.delete_checkpoints)
    rename_checkpoint = call(StateManager.rename_checkpoint)
    at = call_giving(AsyncStateView, StateManager.at)
    diff = call_giving(AsyncDiff, StateManager.diff)

    # --- restore, undo, redo -----------------------------------------------------------------------------------

    restore_checkpoint = call_giving(AsyncDiff, StateManager.restore_checkpoint)
    revert = call_giving(AsyncDiff, StateManager.revert)
    revert_commit = call_giving(AsyncDiff, StateManager.revert_commit)
    undo = call_giving(AsyncDiff, StateManager.undo)
    redo = call_giving(AsyncDiff, StateManager.redo)

    # --- looking back ------------------------------------------------------------------------------------------

    history = call(StateManager.history)
    log = call(StateManager.log)
    commits = call(StateManager.commits)
    blame = call(StateManager.blame)
    find_blame = call(StateManager.find_blame)

    async def watch(
        self, *, since: Ref = "live", keys: Iterable[str] | str | None = None, timeout: float | None = None
    ) -> AsyncGenerator[Change, None]:
        """Yield the changes as anyone commits them, forever, or until no commit comes for `timeout` seconds.

        Several commits between two looks come as one change a key. An expired entry is reported with the next commit.
        The watch begins with the first item that is awaited. It ends when the manager is closed.

        Raises:
            StateException: the namespace was dropped or replaced.
            HistoryPruned: it fell behind: the state of its last look is pruned.

        """
        looks = self._wrapped._looks(since, keys, timeout, LOOK_SECONDS)
        thread = self._threads.open_apart()
        try:
            while True:
                try:
                    job = thread.submit(copy_context().run, take, None, looks, 1)
                except RuntimeError:
                    return  # the manager was closed meanwhile
                changes, error = await finish(job, may_leave=True)
                if isinstance(error, StopIteration):
                    return
                if error is not None:
                    raise error
                if changes[0] is not None:
                    yield changes[0]
        finally:
            self._threads.close_apart(thread, looks.close)

    async def wait(self, key: str, condition: str | Callable[[Any], Any], *, timeout: float | None = 30.0) -> Any:
        """Wait until a condition on a key's value is true, and return the value; `ABSENT` if the key has none.

        See `StateManager.wait`. It has a thread of its own, and can be cancelled at once.
        """
        deadline = inf if timeout is None else monotonic() + check_seconds(timeout, "timeout")
        thread = self._threads.open_apart()
        try:
            while True:
                left = max(0.0, deadline - monotonic())
                look = partial(self._wrapped.wait, key, condition, timeout=min(left, LOOK_SECONDS))
                try:
                    return await finish(thread.submit(copy_context().run, look), may_leave=True)
                except WaitTimeout as error:
                    if left <= LOOK_SECONDS:
                        raise self._wrapped._wait_timeout(key, condition, timeout, error.value) from None
        finally:
            self._threads.close_apart(thread, lambda: None)

    # --- files -------------------------------------------------------------------------------------------------

    export = call(StateManager.export)
    import_from = call(StateManager.import_from)
    open_import = opened(_import_job, StateManager.open_import)

    # --- the store ---------------------------------------------------------------------------------------------

    namespaces = call(StateManager.namespaces)
    migrate_to = call(StateManager.migrate_to)
    doctor = call(StateManager.doctor)
    recover = call(StateManager.recover)
    compact = call(StateManager.compact)
    prune = call(StateManager.prune)
    stats = call(StateManager.stats)
    check_exists = call(StateManager.check_exists)
    check_writable = call(StateManager.check_writable)
    drop = call(StateManager.drop)

    def in_namespace(self, name: str) -> AsyncStateManager:
        """Return a manager of another namespace of the same store, with the same options. Nothing is read or made.

        Raises:
            InvalidName: the name is not allowed.

        """
        return _asynchronous(self._wrapped.in_namespace(name), self._threads.count)

    async def fork(self, other: str, *, at: Ref = "live") -> AsyncStateManager:
        """Copy this namespace, at a ref, into a new namespace of the store; return its manager. O(keys).

        Raises:
            NamespaceNotFound: this namespace was never written.
            Conflict: the new namespace exists already.
            NotReplicated: the new namespace is complete, but too few replicas have confirmed it. After any other error
                there is no new namespace, unless the error says so.

        """
        return _asynchronous(await self._run(StateManager.fork, other, at=at), self._threads.count)


def _asynchronous(manager: StateManager, threads: int) -> AsyncStateManager:
    """Return the asynchronous face of a manager."""
    face = AsyncStateManager.__new__(AsyncStateManager)
    Face.__init__(face, manager, WorkerThreads(threads))
    return face


def _read_for_update(state: StateManager, key: str, default: Any, path: str) -> tuple[Any, int, float | None]:
    try:
        entry = state.entry(key)
    except KeyNotFound:
        if default is ABSENT or path:
            raise
        return default, 0, None
    if path:
        from ..states.values.patches import get_place

        return get_place(entry.value, path, key, default), entry.revision, None
    return entry.value, entry.revision, entry.ttl


def _write_update(
    state: StateManager, key: str, value: Any, path: str, revision: int, ttl: float | None, reason: str
) -> Any:
    data = codec.encode(value)
    state.save(key, value, path=path, ttl=ttl, expected=revision, reason=reason or f"update {key}{path and '#' + path}")
    return codec.decode(data, key)
