"""Wait until a condition on the value of a key is true: for `StateManager.wait` and the command `wait`."""

from __future__ import annotations

import time
from collections.abc import Callable
from math import inf
from typing import Any, NamedTuple

from .. import codec
from ..backends.names_only import names_only
from ..backends.protocol import Backend, Version
from ..model import ABSENT, SealedValue, check_key
from .conditions import Condition

WAIT_SECONDS = 30.0
_POLL_SECONDS = 1.0  # Ctrl-C is noticed between two waits, and so is a namespace that was dropped


class Waited(NamedTuple):
    """The end of a wait. `value` is that of the key, or `ABSENT`, at `revision` or later. `met`: the condition is true.

    The value is a `SealedValue` if no key opens it and the condition needs no more than that it exists.
    """

    met: bool
    value: Any
    revision: int


def wait_until(
    backend: Backend, key: str, condition: Condition | Callable[[Any], Any], timeout: float | None = WAIT_SECONDS
) -> Waited:
    """Wait until a condition is true for the value of a key, or until a timeout in seconds; None: without end.

    A commit of any writer ends a pause, and so does the key's expiry. One round trip for a look, and one for a pause.
    """
    check_key(key)
    is_true: Callable[[Any], Any] = condition.is_true if isinstance(condition, Condition) else condition
    needs_value = not isinstance(condition, Condition) or condition.needs_value
    reader = backend if needs_value else names_only(backend)
    deadline = inf if timeout is None else time.monotonic() + timeout
    while True:
        revision = backend.head().revision
        version = reader.read([key]).get(key)
        value = _value(version)
        if is_true(value):
            return Waited(True, value, revision)
        left = deadline - time.monotonic()
        if left <= 0:
            return Waited(False, value, revision)
        pause = min(left, _POLL_SECONDS)
        if version is not None and version.expires:
            pause = min(pause, max(0.001, (version.expires - backend.now()) / 1_000_000))
        backend.wait(revision, pause)


def _value(version: Version | None) -> Any:
    if version is None or version.value is None:
        return ABSENT
    if isinstance(version.value, SealedValue):
        return version.value
    return codec.decode(version.value, f"the value of {version.key[:60]!r}")
