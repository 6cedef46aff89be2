"""Read a long answer of one state, although writers move the history floor on meanwhile.

A ref names a fixed state, such as a checkpoint, or a state of the moment: `live`, `live~3`. Once the floor has passed a
state of the moment, it is read again from a later one. A fixed state that is pruned raises `HistoryPruned`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

from ..backends.protocol import Backend, StateAt
from ..backends.retries import Backoff
from ..errors import HistoryPruned

RETRY_SECONDS = 10.0  # how long an answer is begun again, where the backend has no snapshot
HELD_ITEMS = 1000  # read before the first is handed out: until then the answer can begin again
HELD_BYTES = 8_000_000

T = TypeVar("T")
Renew = Callable[[Backend], tuple[StateAt, ...]]
"""Returns the later states to read, of a namespace; raises `HistoryPruned` if a fixed one of them is pruned."""


def snapshot(backend: Backend, whole: bool = False) -> AbstractContextManager[Backend]:
    """Open a snapshot of a backend; give the backend itself where it has none.

    Args:
        backend: the namespace.
        whole: whether nearly all of it will be read, so that a copy of it may be made.

    """
    opened = getattr(type(backend), "snapshot", None)  # a backend of another package may have none
    return nullcontext(backend) if opened is None else opened(backend, whole)


def again(is_live: bool, act: Callable[[], T]) -> T:
    """Run an act, and run it again while the states of the moment that it reads are pruned meanwhile.

    Args:
        is_live: whether the act resolves a state of the moment each time, and no fixed one.
        act: what to run. It leaves nothing behind if it fails.

    """
    backoff = Backoff(RETRY_SECONDS, first=0.001, longest=0.01)
    while True:
        try:
            return act()
        except HistoryPruned:
            if not is_live or not backoff.wait():
                raise


def steady(
    backend: Backend, points: tuple[StateAt, ...], renew: Renew | None,
    read: Callable[..., Iterator[T]], weight: Callable[[T], int],
) -> Iterator[T]:  # fmt: skip
    """Yield what `read` yields of some states, and begin again with later states if these are pruned meanwhile.

    Args:
        backend: the namespace.
        points: the states.
        renew: returns the later states, of the backend that it gets; None where all states are fixed.
        read: called with a backend and the states.
        weight: returns the bytes of an item.

    Raises:
        HistoryPruned: a fixed state is pruned; or the floor passed the state after the first items were yielded.

    """
    if renew is None:
        yield from read(backend, *points)
        return
    backoff = Backoff(RETRY_SECONDS, first=0.001, longest=0.01)
    again = False
    while True:
        with snapshot(backend, whole=True) if again else nullcontext(backend) as state:
            if again:
                points = renew(state)
            held: list[T] = []
            size = 0
            try:
                items = read(state, *points)
                for item in items:
                    held.append(item)
                    size += weight(item)
                    if len(held) >= HELD_ITEMS or size >= HELD_BYTES:
                        break
            except HistoryPruned:
                if not backoff.wait():
                    raise
                again = True
                continue
            yield from held
            yield from items
            return
