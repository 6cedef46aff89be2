"""Tests written as coroutines, each run by an event loop of its own; and the threads that calls leave behind."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any


def in_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a coroutine function as a test. Its arguments are fixtures."""

    @wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


def threads_of(kind: str = "", seconds: float = 0.0) -> list[str]:
    """The worker threads that are alive once so many seconds have passed, or as soon as there are none."""
    deadline = time.monotonic() + seconds
    while True:
        names = [thread.name for thread in threading.enumerate()]
        found = [name for name in names if name.startswith(("stateview-call", "stateview-apart")) and kind in name]
        if not found or time.monotonic() >= deadline:
            return found
        time.sleep(0.005)
