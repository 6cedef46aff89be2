"""A copy of a manager whose calls to the backend can be stopped, and whose commits are reported."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Protocol, cast

from msgspec.structs import replace

from ...backends.protocol import Backend, CommitRequest, Head
from ...errors import NotReplicated
from ...manager import StateManager


class Observer(Protocol):
    """Is told of commits, on their threads."""

    def committed(self, url: str, namespace: str, revision: int) -> None:
        """Take note of a commit that wrote something."""

    def unconfirmed(self, error: NotReplicated) -> None:
        """Take note of a commit that too few replicas have confirmed. The act goes on, since the commit was made."""


class _ObservedBackend:
    """Passes each call on to a backend. `__getattr__` keeps the class independent of the protocol's methods."""

    def __init__(self, backend: Backend, before: Callable[[], None], observer: Observer) -> None:
        self._backend = backend
        self._before = before
        self._observer = observer

    def __getattr__(self, name: str) -> Any:
        self._before()
        return getattr(self._backend, name)

    def commit(self, batch: CommitRequest) -> Head:
        self._before()
        try:
            head = self._backend.commit(batch)
        except NotReplicated as error:
            self._observer.unconfirmed(error)
            head = replace(self._backend.head(), revision=error.revision)
        if batch.writes:  # a commit without writes returns the revision of the last writer
            self._observer.committed(self._backend.url, self._backend.namespace, head.revision)
        return head


def observe(
    manager: StateManager, observer: Observer, before: Callable[[], None] = lambda: None
) -> StateManager:  # fmt: skip
    """Return a copy of a manager that shares its backend. Closing either closes the backend.

    Args:
        manager: the manager to copy.
        observer: is told of each commit.
        before: called before each call to the backend. An exception that it raises cancels the call.

    """
    observed = copy.copy(manager)
    observed.backend = cast(Backend, _ObservedBackend(manager.backend, before, observer))
    return observed
