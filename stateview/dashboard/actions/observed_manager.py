"""A manager that looks through another's eyes: on the same backend, telling of each call and of what was committed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, cast

from ...backends.protocol import Backend, CommitRequest, Head
from ...manager import StateManager

Committed = Callable[[str, str, int], None]  # store URL, namespace, revision


class _ObservedBackend:
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
        if batch.writes:  # else the revision is that of whoever wrote last
            self._committed(self._backend.url, self._backend.namespace, head.revision)
        return head


def observe(
    manager: StateManager, committed: Committed, before: Callable[[], None] = lambda: None
) -> StateManager:  # fmt: skip
    """Return a manager on the backend of another.

    Args:
        manager: the other; it stays as it is, and closing either closes the backend.
        committed: told of each commit that wrote something, on the thread that made it.
        before: called before each call to the backend; what it raises ends the call.

    """
    other = copy.copy(manager)
    other.backend = cast(Backend, _ObservedBackend(manager.backend, before, committed))
    return other
