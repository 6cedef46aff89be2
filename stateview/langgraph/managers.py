"""Keep the managers of the namespaces open that were used last."""

from __future__ import annotations

import os
import resource
import sys
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

from stateview import StateManager

_MAX_OPEN = 64
_FILES_PER_MANAGER = 4  # on SQLite; on Redis it holds two connections
_SHARE = 4  # managers hold at most one file in four that the process may still open


class _Opened:
    """A manager, and how many blocks use it."""

    __slots__ = ("state", "users")

    def __init__(self, state: StateManager) -> None:
        self.state = state
        self.users = 0


class Managers:
    """The managers of a store's namespaces. Those in use are open, and of the others as many as there is room for.

    A manager is closed when nobody uses it: a call of another thread would fail under a close.
    """

    def __init__(self, store: StateManager) -> None:
        self._store = store
        self._limit = min(_free_files() // (_FILES_PER_MANAGER * _SHARE), _MAX_OPEN)
        self._opened: OrderedDict[str, _Opened] = OrderedDict()  # the one that was used last is the last
        self._mutex = threading.RLock()  # a signal handler may come in the middle

    @contextmanager
    def use(self, namespace: str) -> Iterator[StateManager]:
        """Give the manager of a namespace, which stays open for the length of the block."""
        with self._mutex:
            one = self._opened.get(namespace)
            if one is None:
                one = self._opened[namespace] = _Opened(self._store.in_namespace(namespace))
            else:
                self._opened.move_to_end(namespace)
            one.users += 1
            surplus = self._take_surplus()
        try:
            _close(surplus)  # first: the block opens files
            yield one.state
        finally:
            with self._mutex:
                one.users -= 1
                is_out = not one.users and self._opened.get(namespace) is not one
                surplus = [one.state] if is_out else self._take_surplus()
            _close(surplus)

    def close(self, namespace: str | None = None) -> None:
        """Close the manager of a namespace, or all. One in use is closed at the end of its last use."""
        with self._mutex:
            names = [*self._opened] if namespace is None else [namespace]
            out = [one for name in names if (one := self._opened.pop(name, None)) is not None]
        _close([one.state for one in out if not one.users])

    def _take_surplus(self) -> list[StateManager]:
        """Remove the managers for which there is no room, from that which was not used for longest."""
        over = len(self._opened) - self._limit
        if over <= 0:
            return []
        idle = [name for name, one in self._opened.items() if not one.users]
        return [self._opened.pop(name).state for name in idle[:over]]


def _free_files() -> int:
    """Return how many files the process may still open."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if files == resource.RLIM_INFINITY:
        return sys.maxsize
    try:
        return max(0, files - len(os.listdir("/proc/self/fd")))
    except OSError:  # this system does not tell how many are open
        return files


def _close(states: list[StateManager]) -> None:
    for state in states:
        state.close()
