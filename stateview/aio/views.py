"""What an AsyncStateManager returns: diffs, views and transactions."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

from ..model import ABSENT
from ..states.changes import Diff
from ..states.transaction import Transaction
from ..states.values.patches import get_place
from ..states.view import StateView
from .calls import Face, call, call_giving, is_coroutine_function, stream
from .threads import WorkerThreads

T = TypeVar("T")


class AsyncDiff(Face[Diff]):
    """Hold the changes between two states: a `Diff` for `async for`. Iterating streams the changes, one a key."""

    @property
    def before(self) -> str:
        """Return the label of the first state."""
        return self._wrapped.before

    @property
    def after(self) -> str:
        """Return the label of the second state."""
        return self._wrapped.after

    @property
    def checkpoint(self) -> str:
        """Return the safety checkpoint that a restore or a revert made; "" for another diff."""
        return getattr(self._wrapped, "checkpoint", "")

    @property
    def conflicts(self) -> dict[str, int]:
        """Return the keys that `revert_commit` left as they are, with the revisions that changed them last."""
        return getattr(self._wrapped, "conflicts", {})

    __aiter__ = stream(Diff.__iter__)
    as_json_patch = call(Diff.as_json_patch)

    async def counts(self) -> dict[str, int]:
        """Count the keys added, removed and changed. O(changes) the first time."""
        return await self._run(lambda diff: dict(diff.counts))

    async def count(self) -> int:
        """Count the changes: `len()` of a `Diff`. O(changes) the first time."""
        return await self._run(len)

    def __bool__(self) -> bool:
        raise TypeError("an AsyncDiff is not true or false by itself: use `await diff.count()`")


class AsyncStateView(Face[StateView]):
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

    load = call(StateView.load)
    load_many = call(StateView.load_many)
    entry = call(StateView.entry)
    entries = stream(StateView.entries)
    raw_entries = stream(StateView.raw_entries)
    steady_entries = stream(StateView.steady_entries)
    steady_rows = stream(StateView.steady_rows)
    list_keys = call(StateView.list_keys)
    rows = call(StateView.rows)
    count = call(StateView.count)

    def without_values(self) -> AsyncStateView:
        """Return this view for lists of keys, with a `SealedValue` in place of each value that no key opens."""
        return AsyncStateView(self._wrapped.without_values(), self._threads)

    async def contains(self, key: object) -> bool:
        """Return whether a key has a value: `key in view`."""
        return await self._run(StateView.__contains__, key)


class AsyncTransaction(Face[Transaction]):
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

    @property
    def written(self) -> list[str]:
        """Return the keys that the commit will write or delete, sorted."""
        return self._wrapped.written

    load = call(Transaction.load)
    load_many = call(Transaction.load_many)
    entries = stream(Transaction.entries)
    save = call(Transaction.save)
    patch = call(Transaction.patch)
    merge = call(Transaction.merge)

    diff = call_giving(AsyncDiff, Transaction.diff)
    delete = call(Transaction.delete)
    delete_prefix = call(Transaction.delete_prefix)
    revision = call(Transaction.revision)
    checkpoint = call(Transaction.checkpoint)
    list_keys = call(Transaction.list_keys)
    batch = call(Transaction.batch)
    discard = call(Transaction.discard)

    async def update(
        self, key: str, function: Callable[[Any], Any], default: Any = ABSENT, *, path: str = "", keep_ttl: bool = False
    ) -> Any:
        """Save the result of `function` on a key's value, or on what lies at a JSON Pointer in it, and return it.

        A coroutine function is awaited.
        """
        if not is_coroutine_function(function):
            return await self._run(Transaction.update, key, function, default, path=path, keep_ttl=keep_ttl)
        before = await self.load(key, ABSENT if path else default)
        if path:
            before = get_place(before, path, key, default)
        value = await function(before)
        return await self._run(Transaction.update, key, lambda _: value, default, path=path, keep_ttl=keep_ttl)
