"""Something that happens in the middle of a call, on the thread of the call."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import stateview

PACKAGE = str(Path(stateview.__file__).parent)
SIGNALS = ("call", "c_return")  # where Python runs signal handlers: as a function begins, and after each in C


def run_at_call(
    outer: Callable[[], object],
    inner: Callable[[], object],
    wanted: int,
    places: str | tuple[str, ...] = PACKAGE,
    events: tuple[str, ...] = SIGNALS,
) -> int:
    """Call `outer`, and `inner` at the function call of that number; return how many calls `outer` made until its end.

    Args:
        outer: the call. What `inner` raises in it comes out of this function.
        inner: what happens in the middle of it.
        wanted: the number, from 1. -1: `inner` is not called.
        places: what the names of the files begin with whose calls count.
        events: which events of `sys.setprofile` count. They count no more once `inner` was called.

    """
    calls = 0

    def profile(frame: Any, event: str, _argument: Any) -> None:
        nonlocal calls
        if event in events and frame.f_code.co_filename.startswith(places):
            calls += 1
            if calls == wanted:
                sys.setprofile(None)
                inner()

    sys.setprofile(profile)
    try:
        outer()
    finally:
        sys.setprofile(None)
    return calls
