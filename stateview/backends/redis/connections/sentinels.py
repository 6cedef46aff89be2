"""Sentinels: who the primary is, by those that know of the latest failover.

A sentinel on the wrong side of a partition goes on to name the former primary, which goes on to answer its clients.
Each failover raises the config epoch of the set, so the sentinel with the highest epoch is right.
"""

from __future__ import annotations

import threading
import time
from queue import Empty, SimpleQueue
from typing import Any

import redis
from redis.exceptions import RedisError
from redis.sentinel import MasterNotFoundError, Sentinel

CHECK_SECONDS = 0.5  # between two questions who the primary is
IDLE_SECONDS = 1.0  # without a question, after which a call waits for the answer
WAIT_SECONDS = 0.5  # that a call waits, once for each question: silent sentinels answer nobody
LATE_SECONDS = 0.2  # that the other sentinels are waited for when the first has answered

State = dict[str, Any]  # what a sentinel says of the primary
Answers = SimpleQueue[tuple[Any, State | Exception | None]]  # each with the client of the sentinel


class Sentinels(Sentinel):
    """The sentinels of a store URL. All are asked at once, in threads, since a silent one would hold up the others."""

    def __init__(self, addresses: list[tuple[str, int]], options: dict[str, Any]) -> None:
        super().__init__(addresses, sentinel_kwargs=options)  # type: ignore[no-untyped-call]
        self._asked: dict[Any, float] = {}  # when each was asked that has not answered yet

    def discover_master(self, service_name: str) -> tuple[str, int]:
        """Return the address of the primary; redis-py calls it for each new connection.

        Raises:
            MasterNotFoundError: no sentinel answers, or those with the highest epoch miss the primary.
            RedisError: each sentinel refuses, or does not answer.

        """
        states, errors = self._ask_all(service_name)
        latest = max(map(_rank, states), default=None)
        for state in states:
            if _rank(state) == latest and self.check_master_state(state, service_name):  # type: ignore[no-untyped-call]
                return state["ip"], state["port"]
        refusals = [
            error for error in errors.values() if not isinstance(error, (redis.ConnectionError, redis.TimeoutError))
        ]
        if refusals and not states:
            raise refusals[0]
        told = ", ".join(f"{sentinel} - {error!r}" for sentinel, error in errors.items())
        raise MasterNotFoundError(f"No master found for {service_name!r}" + (f" : {told}" if told else ""))

    def _ask_all(self, service_name: str) -> tuple[list[State], dict[Any, Exception]]:
        """Return what the sentinels say of the primary, and the errors of those that fail."""
        now = time.monotonic()
        silent = {one for one, asked in self._asked.copy().items() if now - asked > LATE_SECONDS}
        waited = set(self.sentinels) - silent or set(self.sentinels)
        answers: Answers = SimpleQueue()
        for sentinel in waited:
            self._asked[sentinel] = now
            arguments = (sentinel, service_name, answers)
            try:
                threading.Thread(target=self._ask, args=arguments, name="stateview-sentinel", daemon=True).start()
            except RuntimeError:  # no more threads, or the interpreter ends
                self._ask(*arguments)
        states: list[State] = []
        errors: dict[Any, Exception] = {}
        deadline = float("inf")
        while waited:
            try:
                left = max(0.0, deadline - time.monotonic())
                sentinel, answer = answers.get(timeout=left if states else None)
            except Empty:
                break
            waited.discard(sentinel)
            if isinstance(answer, Exception):
                errors[sentinel] = answer
            elif answer is not None:
                deadline = min(deadline, time.monotonic() + LATE_SECONDS)
                states.append(answer)
        return states, errors

    def _ask(self, sentinel: Any, service_name: str, answers: Answers) -> None:
        answer: State | Exception | None
        try:
            answer = sentinel.sentinel_masters().get(service_name)
        except Exception as error:  # the caller raises it
            answer = error
        self._asked.pop(sentinel, None)
        answers.put((sentinel, answer))


def _rank(state: dict[str, Any]) -> tuple[int, bool]:
    """Return a number that the later of two states has the higher of.

    The sentinel that carries out a failover raises the epoch before it names the new primary.
    """
    return state["config-epoch"], "failover_in_progress" not in state["flags"]


class SentinelCheck:
    """Asks the sentinels now and then who the primary is, beside the calls.

    A primary that its sentinels have replaced, since they do not reach it, goes on to answer those who do.
    """

    def __init__(self) -> None:
        self._answered = time.monotonic()  # when the last question ended: the first connection asks too
        self._question: threading.Event | None = None  # set at the end of the question that is under way

    def start(self, pool: Any) -> None:
        """Ask in a thread of its own, if that is due: silent sentinels would hold up a call for seconds.

        After a pause the call waits for the answer, since the primary may have been replaced in the meantime.
        """
        idle = time.monotonic() - self._answered
        if idle < CHECK_SECONDS or self._question is not None:
            return
        self._question = ended = threading.Event()
        try:
            threading.Thread(target=self._ask, args=(pool, ended), name="stateview-sentinels", daemon=True).start()
        except RuntimeError:  # no more threads, or the interpreter ends
            self._end(ended)
        if idle > IDLE_SECONDS:
            ended.wait(WAIT_SECONDS)

    def _ask(self, pool: Any, ended: threading.Event) -> None:
        try:
            pool.get_master_address()  # the pool notes it, and `has_moved` compares
        except (RedisError, OSError, ValueError, AttributeError):
            pass  # no sentinel names another primary, so the connections stay
        finally:
            self._end(ended)

    def _end(self, ended: threading.Event) -> None:
        self._answered = time.monotonic()
        self._question = None
        ended.set()


def has_moved(pool: Any, connection: Any) -> bool:
    """Return whether the sentinels have named another primary than the one that a connection leads to."""
    primary = getattr(pool, "master_address", None)
    return primary is not None and tuple(primary) != (connection.host, connection.port)
