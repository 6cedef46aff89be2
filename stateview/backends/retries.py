"""How every part of stateview waits: for the next attempt up to a deadline, and for a later revision."""

from __future__ import annotations

import time
from collections.abc import Callable

UPDATE_SECONDS = 60.0  # how long an act on present values is tried while other writers come first


class Backoff:
    """The pauses between the attempts of one operation.

    Each pause is a random part of a longest one, so that waiting processes do not all try again at the same instant.
    The longest pause grows with each attempt.

    Args:
        timeout: seconds from now to the deadline.
        first: seconds of the first pause at most.
        longest: seconds of any pause at most.
        growth: the factor by which each pause may be longer than the one before; 1 for pauses of one length.

    """

    def __init__(self, timeout: float, first: float, longest: float, growth: float = 2.0) -> None:
        self._deadline = time.monotonic() + timeout
        self._pause = first
        self._longest = longest
        self._growth = growth

    def wait(self) -> bool:
        """Sleep until the next attempt. Return False at once if the deadline comes before it: then there is none."""
        if time.monotonic() + self._pause >= self._deadline:
            return False
        from random import uniform  # imported here: few operations ever wait

        time.sleep(uniform(self._pause / 2, self._pause))
        self._pause = min(self._longest, self._pause * self._growth)
        return True


def poll_revision(read: Callable[[], int], revision: int, timeout: float, pause: float) -> int:
    """Read the revision again and again until it is later than `revision`; return the revision of the last read.

    Args:
        read: returns the present revision of a namespace.
        revision: the revision that the caller knows.
        timeout: seconds to wait at most.
        pause: seconds between two reads.

    """
    deadline = time.monotonic() + timeout
    while (current := read()) <= revision and (left := deadline - time.monotonic()) > 0:
        time.sleep(min(pause, left))
    return current
