"""Calls that come in the middle of another call of the same thread: from signal handlers, finalizers and callbacks.

Such a call must not wait for a lock that its own thread holds, since the thread would never release the lock.
"""

from __future__ import annotations

from _weakrefset import WeakSet  # weakref.WeakSet, without the rest of weakref
from threading import RLock
from typing import TypeVar

from ..errors import Reentered

_T = TypeVar("_T")


def members(objects: WeakSet[_T]) -> list[_T]:
    """Return the members of a set, to which another thread or a signal handler may add meanwhile."""
    references = objects.data.copy()  # type: ignore[attr-defined]  # in one step of the interpreter, unlike an iteration
    return [found for reference in references if (found := reference()) is not None]


def is_owned(lock: RLock) -> bool:
    """Return whether this thread holds a lock. It is read from the lock, so no exception leaves a wrong mark behind."""
    return bool(lock._is_owned())  # type: ignore[attr-defined]


def reentry_error(path: str, state: str = "locked") -> Reentered:
    """Return the error for a call that would wait for its own thread."""
    return Reentered(
        f"{path} is {state} by another call of this thread, and this call came in the middle of it",
        "In a signal handler, finalizer or callback, set a flag, and save after the other call",
    )
