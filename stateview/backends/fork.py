"""Objects that must be told of a fork, such as those that hold locks or connections."""

from __future__ import annotations

import os
import threading
from _weakrefset import WeakSet  # weakref.WeakSet, without the rest of weakref
from contextlib import ExitStack
from typing import Protocol

from .reentry import members


class ForkAware(Protocol):
    """An object with state that a child process must not share with its parent."""

    def before_fork(self) -> None:
        """Wait until no other thread is in a critical section. The forking thread calls this in the parent."""

    def after_fork(self, child: bool) -> None:
        """Release what `before_fork` acquired in the parent, or make it anew in the child.

        Args:
            child: whether this process is the child.

        """


_watched: WeakSet[ForkAware] = WeakSet()
_fork_lock = threading.RLock()
_notified: list[ForkAware] = []  # the objects whose `before_fork` was called for the present fork


def watch_fork(watched: ForkAware) -> None:
    """Call the methods of an object at every fork, for as long as the object lives."""
    _watched.add(watched)


def _before_fork() -> None:
    _fork_lock.acquire()
    _notified[:] = members(_watched)
    for watched in _notified:
        watched.before_fork()


def _after_fork(child: bool) -> None:
    with ExitStack() as calls:  # each is called, whatever another of them raises
        calls.callback(_release_fork_lock, child)
        for watched in reversed(_notified):
            calls.callback(watched.after_fork, child)
        _notified.clear()


def _release_fork_lock(child: bool) -> None:
    global _fork_lock
    if child:
        _fork_lock = threading.RLock()
    else:
        _fork_lock.release()


os.register_at_fork(
    before=_before_fork,
    after_in_parent=lambda: _after_fork(child=False),
    after_in_child=lambda: _after_fork(child=True),
)
