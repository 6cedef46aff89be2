"""Reading in a forked process while this process imports Textual."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar

import msgspec

T = TypeVar("T")


# Two cores, fastest of 60 starts on Redis: first key after 407 ms; after 515 ms with a thread, which imports redis-py
# and Textual in turns. An empty Textual takes 260 ms, and benchmarks/dashboard.py allows 1.5 times that.
def read_in_fork(read: Callable[[], T], kind: type[T]) -> Callable[[], T | None]:
    """Begin to read in a forked process. Call it while there is no other thread.

    Args:
        read: returns the result. It may raise any exception.
        kind: the type of the result, which msgspec must be able to encode.

    Returns:
        A function that waits for the result. After an error in the forked process it returns None. The caller then
        reads in its own process, and gets the exception.

    """
    source, sink = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            with open(sink, "wb") as file:
                file.write(msgspec.msgpack.encode(read(), enc_hook=int))
        finally:
            os._exit(0)  # no code of the parent may run here

    os.close(sink)

    def wait() -> T | None:
        with open(source, "rb") as file:
            data = file.read()
        try:
            os.waitpid(child, 0)
        except ChildProcessError:
            pass  # another part of the program has waited for it
        return msgspec.msgpack.decode(data, type=kind) if data else None

    return wait
