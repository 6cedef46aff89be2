"""Writers of one key in a queue: who is next, who is passed over, and that nobody is for long."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import redis
from conftest import REDIS

from stateview import BackendUnavailable, Conflict, StateManager
from stateview.backends.redis import turns as redis_turns
from stateview.states import attempts as attempts_module
from stateview.states.attempts import (
    SLOW_UPDATES_PER_LOOK,
    UPDATES_PER_LOOK,
    WAITERS_OF_CONTENTION,
    Attempts,
    turns_of,
)

HOLD = 30.0


@pytest.fixture(params=REDIS)
def url(new_store: Callable[[str], str], request: pytest.FixtureRequest) -> str:
    return new_store(request.param)


@pytest.fixture
def turns(url: str) -> Any:
    with StateManager(url, "ns") as state:
        yield turns_of(state.backend)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls of one thread can stand for waiters: none waits for long, and none is late."""
    monkeypatch.setattr(redis_turns, "LOOK_SECONDS", 0.001)
    monkeypatch.setattr(redis_turns, "LATE_SECONDS", HOLD)


def add(number: int) -> int:
    return number + 1


# --- the queue -------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("patient")
def test_turns_come_in_the_order_of_the_first_call(turns: Any) -> None:
    assert not turns.is_turn_wanted("k")
    first, ticket = turns.wait_turn("k", "a", 0, HOLD)
    assert first and turns.is_turn_wanted("k")
    assert not turns.wait_turn("k", "b", 0, HOLD)[0] and not turns.wait_turn("k", "c", 0, HOLD)[0]
    assert turns.wait_turn("k", "a", ticket, HOLD) == (True, ticket)  # it is still its turn
    assert turns.wait_turn("other", "c", 0, HOLD)[0]  # each key has a queue of its own
    assert turns.end_turn("k", "a") == 2
    assert not turns.wait_turn("k", "c", 0, HOLD)[0]
    assert turns.wait_turn("k", "b", 0, HOLD)[0]
    assert turns.end_turn("k", "b") == 1
    assert turns.wait_turn("k", "c", 0, HOLD)[0] and turns.end_turn("k", "c") == 0
    assert not turns.is_turn_wanted("k")


def test_a_waiter_is_woken(url: str, turns: Any) -> None:
    assert turns.wait_turn("k", "a", 0, HOLD)[0]
    came: list[bool] = []

    def wait() -> None:
        with StateManager(url, "ns") as other:
            ticket = 0
            while not came:
                is_mine, ticket = turns_of(other.backend).wait_turn("k", "b", ticket, HOLD)
                came.extend([True] if is_mine else [])

    thread = threading.Thread(target=wait)
    thread.start()
    while turns.end_turn("k", "nobody") != 2:
        pass
    assert not came
    turns.end_turn("k", "a")
    thread.join(60)
    assert came


def test_who_asks_no_more_is_passed_over_and_keeps_its_ticket(turns: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert turns.wait_turn("k", "killed", 0, 0.2)[0]
    ticket = turns.wait_turn("k", "late", 0, HOLD)[1]
    is_mine, later = False, 0
    while not is_mine:  # soon `killed` has had its turn, and `late` is too late
        is_mine, later = turns.wait_turn("k", "c", later, HOLD)
    assert turns.wait_turn("k", "late", ticket, HOLD) == (False, ticket)  # a turn that goes on is not cut short
    assert ticket < later
    monkeypatch.setattr(redis_turns, "LATE_SECONDS", HOLD)
    assert not turns.wait_turn("k", "late", ticket, HOLD)[0] and not turns.wait_turn("k", "d", 0, HOLD)[0]
    turns.end_turn("k", "c")
    assert not turns.wait_turn("k", "d", 0, HOLD)[0]
    assert turns.wait_turn("k", "late", ticket, HOLD)[0]


@pytest.mark.usefixtures("patient")
def test_a_queue_goes_by_itself(url: str, turns: Any) -> None:
    turns.wait_turn("k", "a", 0, HOLD)
    turns.wait_turn("k", "b", 0, HOLD)
    turns.end_turn("k", "a")
    with redis.Redis.from_url(url) as client:
        names = client.keys("stateview:*turns*")
        assert len(names) == 3 and all(0 < client.pttl(name) <= 2000 for name in names)


# --- the acts --------------------------------------------------------------------------------------------------------


def disturbing(turns: Any, other: StateManager, wanted: list[bool]) -> Callable[[int], int]:
    """An update before whose first four commits another comes, and which notes whether a turn is wanted."""

    def disturbed(number: int) -> int:
        wanted.append(turns.is_turn_wanted("n"))
        if len(wanted) < 5:
            other.save("n", 10 * len(wanted))
        return number + 1

    return disturbed


def test_an_act_that_lost_time_waits_for_its_turn_and_leaves_the_queue(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempts_module, "LOST_SECONDS", 0.0)
    with StateManager(url, "ns") as state, StateManager(url, "ns") as other:
        turns = turns_of(state.backend)
        wanted: list[bool] = []
        disturbed = disturbing(turns, other, wanted)
        assert state.update("n", disturbed, 0) == 41
        assert wanted == [False] + [True] * 4
        assert not turns.is_turn_wanted("n")
        wanted.clear()
        assert state.transact(lambda tx: tx.update("n", disturbed)) == 41 and wanted[-1]
        assert not turns.is_turn_wanted("n")

        def fail(number: int) -> int:
            if turns.is_turn_wanted("n"):
                raise ZeroDivisionError
            other.save("n", number + 1)
            return number

        with pytest.raises(ZeroDivisionError):
            state.update("n", fail)
        assert not turns.is_turn_wanted("n")


def test_an_act_that_lost_little_time_tries_again_without_a_turn(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts_module, "LOST_SECONDS", HOLD)
    with StateManager(url, "ns") as state, StateManager(url, "ns") as other:
        turns = turns_of(state.backend)
        wanted: list[bool] = []
        disturbed = disturbing(turns, other, wanted)
        assert state.update("n", disturbed, 0) == 41
        assert wanted == [False] * 5


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("others", [WAITERS_OF_CONTENTION - 1, WAITERS_OF_CONTENTION])
def test_a_key_is_contended_only_while_many_wait_for_it(url: str, others: int) -> None:
    with StateManager(url, "ns") as state:
        turns = turns_of(state.backend)
        with Attempts(state.backend, "n", state._contention, in_turn=True) as attempts:
            attempts.start()
            for number in range(others):
                assert not turns.wait_turn("n", f"other-{number}", 0, HOLD)[0]
        assert state._contention.is_expected(state.backend, "n") is (others == WAITERS_OF_CONTENTION)


@pytest.mark.parametrize(("pause", "updates"), [(HOLD, UPDATES_PER_LOOK), (0.0, SLOW_UPDATES_PER_LOOK)])
def test_a_writer_that_always_comes_first_looks_for_others(
    url: str, monkeypatch: pytest.MonkeyPatch, pause: float, updates: int
) -> None:
    monkeypatch.setattr(attempts_module, "SECONDS_PER_LOOK", pause)
    with StateManager(url, "ns") as state, redis.Redis.from_url(url) as client:
        turns_of(state.backend).wait_turn("n", "waiter", 0, 0.2)
        queues: list[list[bytes]] = []

        def note(number: int) -> int:
            queues.append(client.zrange("stateview:{ns}:turns:n", 0, -1))
            return number + 1

        for _ in range(updates):
            state.update("n", note, 0)
        assert queues[:-1] == [[b"waiter"]] * (updates - 1)
        assert b"waiter" not in queues[-1] and len(queues[-1]) == 1  # it waited until `waiter` had had its turn
        assert state.load("n") == updates


def test_a_user_without_the_right_to_wait_goes_on_without_turns(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts_module, "LOST_SECONDS", 0.0)
    with redis.Redis.from_url(url) as admin:
        admin.execute_command("ACL", "SETUSER", "plain", "reset", "on", ">x", "~*", "+@all", "-blpop")
        try:
            with StateManager(url.replace("://", "://plain:x@"), "ns") as state, StateManager(url, "ns") as other:
                turns_of(other.backend).wait_turn("n", "a", 0, HOLD)
                seen: list[int] = []

                def disturbed(number: int) -> int:
                    seen.append(number)
                    if len(seen) < 5:
                        other.save("n", len(seen))
                    return number + 1

                assert state.update("n", disturbed, 0) == 5
        finally:
            admin.acl_deluser("plain")


def test_a_server_that_is_gone_while_an_act_waits_is_an_error_of_the_act(url: str) -> None:
    gone = url.rpartition(":")[0] + ":1/0"
    with (
        StateManager(gone, "ns", timeout=0.1) as state,
        Attempts(state.backend, "n", state._contention, in_turn=True) as attempts,
        pytest.raises(BackendUnavailable),
    ):
        attempts.start()


# --- processes -------------------------------------------------------------------------------------------------------


def start(work: Callable[[], None]) -> int:
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        work()
        code = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(code)


@pytest.mark.parametrize(("processes", "updates"), [(4, 40), pytest.param(16, 60, marks=pytest.mark.stress)])
def test_nobody_is_passed_over_again_and_again(url: str, processes: int, updates: int) -> None:
    """A process that the machine does not run is passed over as well, so one update in twenty may be."""

    def work(name: str) -> None:
        with StateManager(url, "ns") as state:
            state.update("begun", add, 0)
            state.wait("begun", f">= {processes}", timeout=60)
            took = [state.update("n", add, 0) for _ in range(updates)]
            state.save(name, [after - before - 1 for before, after in pairwise(took)])

    children = [start(lambda: work(f"worker/{number}")) for number in range(processes)]  # noqa: B023
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * processes
    with StateManager(url, "ns") as state:
        assert state.load("n") == processes * updates
        passed_over = sorted(number for one in state.load_many("worker/*").values() for number in one)
        assert len(passed_over) == processes * (updates - 1)
        assert passed_over[len(passed_over) * 19 // 20] <= UPDATES_PER_LOOK, passed_over


@pytest.mark.stress
def test_writers_that_are_killed_in_their_turn_hold_up_nobody(url: str) -> None:
    """A third of the processes kill themselves in their function, which a turn or an attempt is under way for."""
    kills, lasting, updates = 8, 8, 60

    def work(name: str, last: int) -> None:
        calls = 0

        def function(number: int) -> int:
            nonlocal calls
            calls += 1
            if calls == last:
                os.kill(os.getpid(), signal.SIGKILL)
            return number + 1

        with StateManager(url, "ns") as state:
            for number in range(updates):
                state.update("n", function, 0)
                state.save(name, number + 1)

    killed = [start(lambda: work(f"killed/{number}", 20 + number)) for number in range(kills)]  # noqa: B023
    lasted = [start(lambda: work(f"lasted/{number}", 0)) for number in range(lasting)]  # noqa: B023
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in killed] == [-signal.SIGKILL] * kills
    assert [os.waitpid(child, 0)[1] for child in lasted] == [0] * lasting
    with StateManager(url, "ns") as state:
        assert set(state.load_many("lasted/*").values()) == {updates}
        assert state.load("n") == sum(state.load_many("*ed/*").values())


def test_an_act_on_an_expected_revision_waits_for_nobody(url: str) -> None:
    with StateManager(url, "ns") as state:
        revision = state.save("n", 1)
        turns_of(state.backend).wait_turn("n", "a", 0, HOLD)
        state.save("n", 2)
        with pytest.raises(Conflict):
            state.patch("n", [{"op": "replace", "path": "", "value": 3}], expected=revision)
