"""Do an act on a key again while other writers come first: after some time, in turn."""

from __future__ import annotations

import secrets
import time
from types import TracebackType
from typing import cast

from ..backends.protocol import Backend, GivesTurns
from ..backends.retries import UPDATE_SECONDS, Backoff
from ..errors import BackendError, BackendUnavailable, StateException

LOST_SECONDS = 0.1  # that an act loses to other writers before it waits for turns: most conflicts pass earlier
WAITERS_OF_CONTENTION = 4  # with fewer, turns for all cost more than attempts that come second
CONTENDED_SECONDS = 1.0  # how long a key counts as contended after so many waited for it
UPDATES_PER_LOOK = 61  # a writer that always comes first looks so often for others that wait
SLOW_UPDATES_PER_LOOK, SECONDS_PER_LOOK = 8, 0.05  # or after so many updates that took so long together
MAX_CONTENDED = 1000  # keys that a manager remembers
_MIN_HOLD, _MAX_HOLD = 0.03, 0.1  # seconds; a writer that was killed in its turn costs the others so much
_ATTEMPTS_PER_HOLD = 4


class Contention:
    """The keys that other writers wait for, as far as one manager knows."""

    def __init__(self) -> None:
        self._until: dict[str, tuple[float, float]] = {}
        self._acts = 0
        self._looked = time.monotonic()

    def is_expected(self, backend: Backend, key: str) -> bool:
        """Return whether an act on a key waits for its turn from the first attempt on. Few acts look for others.

        Without a look, a writer whose attempts are the shortest would always come first, and never know.
        """
        self._acts += 1
        if self._acts >= SLOW_UPDATES_PER_LOOK and (
            self._acts >= UPDATES_PER_LOOK or time.monotonic() - self._looked >= SECONDS_PER_LOOK
        ):
            self._acts, self._looked = 0, time.monotonic()
            if (turns := turns_of(backend)) is not None and turns.is_turn_wanted(key):
                return True
        return bool(self._until) and self.is_noted(key)

    def is_noted(self, key: str) -> bool:
        """Return whether many waited for a key lately."""
        return time.monotonic() < self._until.get(key, (0.0, 0.0))[0]

    def note(self, key: str, attempt: float) -> None:
        """Note that many wait for a key, and how many seconds an attempt took."""
        if len(self._until) >= MAX_CONTENDED:
            self._until.clear()
        self._until[key] = time.monotonic() + CONTENDED_SECONDS, attempt

    def forget(self, key: str) -> None:
        """Note that few or none wait for a key."""
        self._until.pop(key, None)

    def attempt_seconds(self, key: str) -> float:
        """Return how long the last attempt took while many waited; 0 if that is not known."""
        return self._until.get(key, (0.0, 0.0))[1]


class Attempts:
    """The attempts of one act on a key. A block ends the turn that an attempt waited for.

    Writers that start again whenever they come second are served by luck: on a busy key, some are passed over by a
    hundred others. So a writer that has lost some time enters the queue of the key, if the backend has queues, and
    waits for its turn before each further attempt.

    A turn is advice. It ends after some tens of milliseconds, whether or not the writer still lives. A writer without a
    turn may commit as well: the revision of the key alone decides.

    Args:
        backend: the namespace.
        key: the key, or one of the keys; empty for as long as it is not known.
        contention: what the manager knows of other writers.
        began: the time of the first attempt, if that was made before.
        in_turn: whether the first attempt waits for its turn.

    """

    def __init__(
        self, backend: Backend, key: str, contention: Contention, began: float | None = None, in_turn: bool = False
    ) -> None:
        self._turns = turns_of(backend)
        self.key = key
        self._contention = contention
        self._backoff = Backoff(UPDATE_SECONDS, first=0.001, longest=0.005)
        now = time.monotonic()
        self._deadline = now + UPDATE_SECONDS
        self._patience = now if in_turn else (began or now) + LOST_SECONDS
        self._seconds = contention.attempt_seconds(key)
        self._waiter = ""
        self._ticket = 0
        self._began = 0.0

    def __enter__(self) -> Attempts:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._waiter or self._turns is None:
            return
        try:
            left = self._turns.end_turn(self.key, self._waiter)
        except StateException:
            return  # the act is complete, or has an error of its own; the turn ends by itself
        if left >= WAITERS_OF_CONTENTION:
            self._contention.note(self.key, time.monotonic() - self._began)
        else:
            self._contention.forget(self.key)

    def start(self) -> None:
        """Wait for the turn, if it is time for that."""
        if self._turns is not None and self.key and time.monotonic() >= self._patience:
            self._wait(self._turns)
        self._began = time.monotonic()

    def has_next(self) -> bool:
        """Wait after an attempt at which another writer came first, and return whether there is time for the next."""
        self._seconds = time.monotonic() - self._began
        return time.monotonic() < self._deadline if self._waiter else self._backoff.wait()

    def _wait(self, turns: GivesTurns) -> None:
        self._waiter = self._waiter or secrets.token_hex(8)
        hold = min(max(_MIN_HOLD, _ATTEMPTS_PER_HOLD * self._seconds), _MAX_HOLD)
        try:
            is_mine = False
            while not is_mine and time.monotonic() < self._deadline:
                is_mine, self._ticket = turns.wait_turn(self.key, self._waiter, self._ticket, hold)
        except BackendUnavailable:
            raise
        except BackendError:  # such as for a user that may not use lists: the attempts go on without turns
            self._turns, self._waiter = None, ""


def turns_of(backend: Backend) -> GivesTurns | None:
    """Return the backend as one that has queues of writers; None if it has none."""
    return cast("GivesTurns", backend) if hasattr(backend, "wait_turn") else None
