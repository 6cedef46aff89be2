"""A copy of a manager whose calls to the backend can be stopped, and whose commits are reported."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, cast

from ...backends.protocol import Backend, CommitRequest, Head
from ...manager import StateManager

Committed = Callable[[str, str, int], None]  # store URL, namespace, revision


class _ObservedBackend:
    """Passes each call on to a backend. `__getattr__` keeps the class independent of the protocol's methods."""

    def __init__(self, backend: Backend, before: Callable[[], None], committed: Committed) -> None:
        self._backend = backend
        self._before = before
        self._committed = committed

    def __getattr__(self, name: str) -> Any:
        self._before()
        return getattr(self._backend, name)

    def commit(self, batch: CommitRequest) -> Head:
        self._before()
        head = self._backend.commit(batch)
        if batch.writes:  # a commit without writes returns the revision of the last writer
            self._committed(self._backend.url, self._backend.namespace, head.revision)
        return head


def observe(
    manager: StateManager, committed: Committed, before: Callable[[], None] = lambda: None
) -> StateManager:  # fmt: skip
    """Return a copy of a manager that shares its backend. Closing either closes the backend.

    Args:
        manager: the manager to copy.
        committed: called after each commit that wrote something, on the thread of the commit.
        before: called before each call to the backend. An exception that it raises cancels the call.

    """
    observed = copy.copy(manager)
    observed.backend = cast(Backend, _ObservedBackend(manager.backend, before, committed))
    return observed
