"""Reading in a process of its own, while this one imports what shows it: a second core has nothing else to do."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar

import msgspec

T = TypeVar("T")


def read_in_fork(read: Callable[[], T], kind: type[T]) -> Callable[[], T | None]:
    """Begin to read in a forked process. To be called while there is no other thread.

    Args:
        read: gives the result; it may raise anything.
        kind: the type of the result, one that msgspec encodes.

    Returns:
        What waits for the result. It gives None if there was an error: who reads again hears it first hand.

    """
    source, sink = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            with open(sink, "wb") as file:
                file.write(msgspec.msgpack.encode(read()))
        finally:
            os._exit(0)  # what the parent was about to do, is to be done there alone

    os.close(sink)

    def wait() -> T | None:
        with open(source, "rb") as file:
            data = file.read()
        try:
            os.waitpid(child, 0)
        except ChildProcessError:
            pass  # it has ended, and somebody else was told
        return msgspec.msgpack.decode(data, type=kind) if data else None

    return wait
