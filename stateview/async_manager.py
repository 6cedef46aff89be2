"""AsyncStateManager: the methods of `StateManager` for asyncio, each run by the same code on a worker thread.

Each asynchronous method is one line, which makes it from a synchronous one: by `_call`, `_call_giving`, `_stream` or
`_opened`. The name, the parameters and the docstring are kept. A type checker gets them by `ParamSpec`, so there is no
stub file to keep in step. Only methods of another shape are written out: `update`, `transaction`, `commit`, `watch`,
`fork`, `close`, and those that stand for properties.
"""

from __future__ import annotations

import inspect
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, ExitStack, asynccontextmanager
from contextvars import copy_context
from functools import partial, wraps
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Self, TypeVar

from . import codec
from .arguments import SecretText, check_integer
from .backends.retries import Backoff
from .encryption import Encryption
from .errors import Conflict, InvalidArgument, KeyNotFound
from .manager import UPDATE_SECONDS, StateManager
from .model import ABSENT
from .states.changes import Change, Diff
from .states.transaction import Transaction
from .states.view import Ref, StateView
from .transfer.import_job import ImportJob
from .worker_threads import WorkerThreads, finish, run_on_new_thread

if TYPE_CHECKING:
    from . import settings

THREADS = 8
MAX_THREADS = 1000
LOOK_SECONDS = 0.25  # of a watch at the revision, after which its thread can end
_ITEMS_PER_CALL = 256  # of an iterator, at most
_CALL_SECONDS = 0.01  # after which an iterator hands out what it has

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")
W = TypeVar("W")


class _Face(Generic[W]):
    """Calls an object on worker threads."""

    def __init__(self, wrapped: W, threads: WorkerThreads) -> None:
        self._wrapped = wrapped
        self._threads = threads

    async def _run(self, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
        return await finish(self._threads.submit(partial(function, self._wrapped, *args, **kwargs)))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._wrapped!r}>"


def _call(method: Callable[Concatenate[Any, P], T]) -> Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]:
    """Make a method that awaits a synchronous one."""

    @wraps(method)
    async def call(face: _Face[Any], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await face._run(method, *args, **kwargs)

    return call


def _call_giving(
    make: Callable[[Any, WorkerThreads], R], method: Callable[Concatenate[Any, P], Any]
) -> Callable[Concatenate[Any, P], Coroutine[Any, Any, R]]:
    """Make a method that awaits a synchronous one, and returns an asynchronous face of its result."""

    @wraps(method)
    async def call(face: _Face[Any], /, *args: P.args, **kwargs: P.kwargs) -> R:
        return make(await face._run(method, *args, **kwargs), face._threads)

    return call


def _stream(
    method: Callable[Concatenate[Any, P], Iterable[T]],
) -> Callable[Concatenate[Any, P], AsyncGenerator[T, None]]:
    """Make a method that is an asynchronous iterator over a synchronous one's items."""

    @wraps(method)
    async def stream(face: _Face[Any], /, *args: P.args, **kwargs: P.kwargs) -> AsyncGenerator[T, None]:
        iterator: Iterator[T] = iter(await face._run(method, *args, **kwargs))
        limit = 1
        try:
            while True:
                items, error = await face._run(_take, iterator, limit)
                for item in items:
                    yield item
                if isinstance(error, StopIteration):
                    return
                if error is not None:
                    raise error
                limit = min(limit * 2, _ITEMS_PER_CALL)
        finally:
            if isinstance(iterator, Iterator) and hasattr(iterator, "close"):
                if face._threads.started:
                    await face._run(lambda _: iterator.close())
                else:
                    iterator.close()  # the manager is closed, and starts no thread for this

    return stream


def _opened(
    make: Callable[[Any, WorkerThreads], R], method: Callable[Concatenate[Any, P], AbstractContextManager[Any]]
) -> Callable[Concatenate[Any, P], AbstractAsyncContextManager[R]]:
    """Make a method for `async with` from one for `with`. The block gets an asynchronous face of what is opened."""

    @wraps(method)
    @asynccontextmanager
    async def open_(face: _Face[Any], /, *args: P.args, **kwargs: P.kwargs) -> AsyncGenerator[R, None]:
        stack = ExitStack()  # still empty if the call never began
        try:
            opened = await face._run(lambda wrapped: stack.enter_context(method(wrapped, *args, **kwargs)))
            yield make(opened, face._threads)
        finally:
            error = sys.exc_info()
            await face._run(lambda _: stack.__exit__(*error))

    return open_


def _take(_wrapped: object, iterator: Iterator[T], limit: int) -> tuple[list[T], Exception | None]:
    """Return the next items of an iterator, and the error that came instead of more; `StopIteration` at its end."""
    items: list[T] = []
    deadline = monotonic() + _CALL_SECONDS
    try:
        while len(items) < limit and (not items or monotonic() < deadline):
            items.append(next(iterator))
    except Exception as error:
        return items, error
    return items, None


def _is_coroutine_function(function: object) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004


class AsyncDiff(_Face[Diff]):
    """Hold the changes between two states: a `Diff` for `async for`. Iterating streams the changes, one a key."""

    @property
    def before(self) -> str:
        """Return the label of the first state."""
        return self._wrapped.before

    @property
    def after(self) -> str:
        """Return the label of the second state."""
        return self._wrapped.after

    __aiter__ = _stream(Diff.__iter__)
    as_json_patch = _call(Diff.as_json_patch)

    async def counts(self) -> dict[str, int]:
        """Count the keys added, removed and changed. O(changes) the first time."""
        return await self._run(lambda diff: dict(diff.counts))

    async def count(self) -> int:
        """Count the changes: `len()` of a `Diff`. O(changes) the first time."""
        return await self._run(len)

    def __bool__(self) -> bool:
        raise TypeError("an AsyncDiff is not true or false by itself: use `await diff.count()`")


class AsyncStateView(_Face[StateView]):
    """Read a namespace as it is at one state. The state never changes. `AsyncStateManager.at` makes views."""

    @property
    def ref(self) -> str:
        """Return the ref that was given."""
        return self._wrapped.ref

    @property
    def namespace(self) -> str:
        """Return the name of the viewed namespace."""
        return self._wrapped.namespace

    @property
    def revision(self) -> int:
        """Return the viewed revision."""
        return self._wrapped.revision

    load = _call(StateView.load)
    load_many = _call(StateView.load_many)
    entry = _call(StateView.entry)
    entries = _stream(StateView.entries)
    raw_entries = _stream(StateView.raw_entries)
    steady_entries = _stream(StateView.steady_entries)
    list_keys = _call(StateView.list_keys)
    rows = _call(StateView.rows)
    count = _call(StateView.count)

    def without_values(self) -> AsyncStateView:
        """Return this view for lists of keys, with a `SealedValue` in place of each value that no key opens."""
        return AsyncStateView(self._wrapped.without_values(), self._threads)

    async def contains(self, key: object) -> bool:
        """Return whether a key has a value: `key in view`."""
        return await self._run(StateView.__contains__, key)


class AsyncTransaction(_Face[Transaction]):
    """Keep writes in memory until the block ends. `AsyncStateManager.transaction` makes transactions.

    It behaves as `Transaction` does. Calls from several tasks take turns.
    """

    def __init__(self, wrapped: Transaction, threads: WorkerThreads) -> None:
        super().__init__(wrapped, threads)
        self._turn = threading.Lock()

    async def _run(self, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
        def in_turn(transaction: Transaction) -> T:
            with self._turn:
                return function(transaction, *args, **kwargs)

        return await super()._run(in_turn)

    @property
    def size(self) -> int:
        """Return how many keys the commit will write or delete."""
        return self._wrapped.size

    load = _call(Transaction.load)
    load_many = _call(Transaction.load_many)
    entries = _stream(Transaction.entries)
    save = _call(Transaction.save)
    delete = _call(Transaction.delete)
    revision = _call(Transaction.revision)
    list_keys = _call(Transaction.list_keys)
    batch = _call(Transaction.batch)
    discard = _call(Transaction.discard)

    async def update(self, key: str, function: Callable[[Any], Any], default: Any = ABSENT) -> Any:
        """Save the result of `function` on a key's value, and return it. A coroutine function is awaited."""
        if not _is_coroutine_function(function):
            return await self._run(Transaction.update, key, function, default)
        value = await function(await self.load(key, default))
        await self.save(key, value)
        return value


class AsyncEncryption(_Face[StateManager]):
    """Encrypt the namespace of a manager, and say which keys open it: `Encryption` with `await`."""

    async def _run(self, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
        return await super()._run(lambda manager: function(manager.encryption, *args, **kwargs))

    new_key = staticmethod(Encryption.new_key)
    status = _call(Encryption.status)
    turn_on = _call(Encryption.turn_on)
    turn_off = _call(Encryption.turn_off)
    add_key = _call(Encryption.add_key)
    remove_key = _call(Encryption.remove_key)
    rotate_key = _call(Encryption.rotate_key)
    rotate_data_key = _call(Encryption.rotate_data_key)
    check_open = _call(Encryption.check_open)


class AsyncImportJob(_Face[ImportJob]):
    """An opened import, see `ImportJob`. `AsyncStateManager.open_import` opens it."""

    refresh = _call(ImportJob.refresh)
    preview = _call_giving(AsyncDiff, ImportJob.preview)
    execute = _call(ImportJob.execute)
    committed_revision = _call(ImportJob.committed_revision)
    plan = _call(ImportJob.plan)
    close = _call(ImportJob.close)


class AsyncStateManager(_Face[StateManager]):
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
        quiet: bool | None = None, threads: int = THREADS,
    ) -> None:  # fmt: skip
        if not 1 <= check_integer(threads, "threads") <= MAX_THREADS:
            raise InvalidArgument(f"threads={threads}: give a number from 1 to {MAX_THREADS}")
        manager = StateManager(
            backend, namespace, read_only=read_only, author=author, history=history, timeout=timeout,
            durability=durability, checkpoint_files=checkpoint_files, encryption_key=encryption_key, quiet=quiet,
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
        return AsyncEncryption(self._wrapped, self._threads)

    head = _call(StateManager.head)

    # --- keys --------------------------------------------------------------------------------------------------

    save = _call(StateManager.save)
    load = _call(StateManager.load)
    load_many = _call(StateManager.load_many)
    entry = _call(StateManager.entry)
    entries = _stream(StateManager.entries)
    delete = _call(StateManager.delete)
    list_keys = _call(StateManager.list_keys)
    rows = _call(StateManager.rows)
    count = _call(StateManager.count)
    rename = _call(StateManager.rename)
    expire = _call(StateManager.expire)

    async def contains(self, key: object) -> bool:
        """Return whether a key has a value: `key in state`."""
        return await self._run(StateManager.__contains__, key)

    async def update(
        self, key: str, function: Callable[[Any], Any], default: Any = ABSENT, *, ttl: float | None = None,
        reason: str = "",
    ) -> Any:  # fmt: skip
        """Read, change and write a key without another write in between, and return the new value.

        `function` gets the value (or `default`) and returns the new value. It may be called several times, so it must
        have no side effects. A plain function runs on a worker thread. A coroutine function is awaited by the calling
        task, between a read and a commit, and holds no thread.

        Raises:
            KeyNotFound: the key has no value, and no default was given.
            Conflict: other writers came first for 60 seconds, or a coroutine function itself writes the key.
            Reentered: a plain function itself writes the key, each time that it is called.

        """
        if not _is_coroutine_function(function):
            return await self._run(StateManager.update, key, function, default, ttl=ttl, reason=reason)
        backoff = Backoff(UPDATE_SECONDS, first=0.001, longest=0.005)
        while True:
            before, revision = await self._run(_read_for_update, key, default)
            after = await function(before)
            try:
                return await self._run(_write_update, key, after, revision, ttl, reason)
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

    begin = _call_giving(AsyncTransaction, StateManager.begin)

    async def commit(self, transaction: AsyncTransaction, reason: str = "") -> int:
        """Commit a transaction of `begin`, and return the revision. Raises as `transaction` does."""
        return await self._run(StateManager.commit, getattr(transaction, "_wrapped", transaction), reason)

    # --- checkpoints and refs ----------------------------------------------------------------------------------

    checkpoint = _call(StateManager.checkpoint)
    list_checkpoints = _call(StateManager.list_checkpoints)
    checkpoints = _call(StateManager.checkpoints)
    delete_checkpoint = _call(StateManager.delete_checkpoint)
    rename_checkpoint = _call(StateManager.rename_checkpoint)
    at = _call_giving(AsyncStateView, StateManager.at)
    diff = _call_giving(AsyncDiff, StateManager.diff)

    # --- restore, undo, redo -----------------------------------------------------------------------------------

    restore_checkpoint = _call_giving(AsyncDiff, StateManager.restore_checkpoint)
    revert = _call_giving(AsyncDiff, StateManager.revert)
    undo = _call_giving(AsyncDiff, StateManager.undo)
    redo = _call_giving(AsyncDiff, StateManager.redo)

    # --- looking back ------------------------------------------------------------------------------------------

    history = _call(StateManager.history)
    log = _call(StateManager.log)
    commits = _call(StateManager.commits)
    blame = _call(StateManager.blame)
    find_blame = _call(StateManager.find_blame)

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
                    job = thread.submit(copy_context().run, _take, None, looks, 1)
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

    # --- files -------------------------------------------------------------------------------------------------

    export = _call(StateManager.export)
    import_from = _call(StateManager.import_from)
    open_import = _opened(AsyncImportJob, StateManager.open_import)

    # --- the store ---------------------------------------------------------------------------------------------

    namespaces = _call(StateManager.namespaces)
    migrate_to = _call(StateManager.migrate_to)
    doctor = _call(StateManager.doctor)
    recover = _call(StateManager.recover)
    compact = _call(StateManager.compact)
    prune = _call(StateManager.prune)
    stats = _call(StateManager.stats)
    check_exists = _call(StateManager.check_exists)
    check_writable = _call(StateManager.check_writable)

    async def fork(self, other: str, *, at: Ref = "live") -> AsyncStateManager:
        """Copy this namespace, at a ref, into a new namespace of the store; return its manager. O(keys).

        Raises:
            NamespaceNotFound: this namespace was never written.
            Conflict: the new namespace exists already.

        """
        return _asynchronous(await self._run(StateManager.fork, other, at=at), self._threads.count)


def _asynchronous(manager: StateManager, threads: int) -> AsyncStateManager:
    """Return the asynchronous face of a manager."""
    face = AsyncStateManager.__new__(AsyncStateManager)
    _Face.__init__(face, manager, WorkerThreads(threads))
    return face


def _read_for_update(state: StateManager, key: str, default: Any) -> tuple[Any, int]:
    try:
        entry = state.entry(key)
    except KeyNotFound:
        if default is ABSENT:
            raise
        return default, 0
    return entry.value, entry.revision


def _write_update(state: StateManager, key: str, value: Any, revision: int, ttl: float | None, reason: str) -> Any:
    data = codec.encode(value)
    state.save(key, value, ttl=ttl, expected=revision, reason=reason or f"update {key}")
    return codec.decode(data, key)
