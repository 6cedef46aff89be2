"""How old a load may be: not older than the documented bound, than this process's writes, or than an answer before."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
import redis_topologies
import stress
from conftest import REDIS
from redis_proxy import RedisProxy
from redis_servers import running

from stateview import Conflict, StateManager

MAX_STALE_SECONDS = 0.5  # by default
SLACK_SECONDS = 0.3  # of a busy machine, between the clocks of two measurements


@pytest.fixture
def url(new_store: Callable[[str], str]) -> str:
    return new_store(next(iter(REDIS)))


@pytest.fixture
def proxy(url: str) -> Iterator[RedisProxy]:
    with RedisProxy(url) as one:
        yield one


class Other:
    """Writes like another process: this process's cache is not told."""

    def __init__(self, state: StateManager) -> None:
        self._state = state
        state.backend._connect()  # type: ignore[attr-defined]
        state.backend._link.tracking = None  # type: ignore[attr-defined]

    def save(self, key: str, value: Any) -> float:
        """Save a value, and return when that was acknowledged."""
        self._state.save(key, value)
        return time.monotonic()


def warm(state: StateManager, *keys: str) -> None:
    """Load keys until their values are cached."""
    deadline = time.monotonic() + 10
    cache: Any = None
    while cache is None or not all(cache.get(key) for key in keys):
        assert time.monotonic() < deadline
        for key in keys:
            state.load(key)
        cache = state.backend._link.tracking  # type: ignore[attr-defined]
        time.sleep(0.01)


def delayed(proxy: RedisProxy) -> None:
    proxy.announcements.delay = 0.03


def frozen(proxy: RedisProxy) -> None:
    proxy.announcements.frozen = True


def swallowed(proxy: RedisProxy) -> None:
    proxy.announcements.swallows = True


def cut(proxy: RedisProxy) -> None:
    proxy.cut(proxy.announcements)


def slow_for_ever(proxy: RedisProxy) -> None:
    proxy.announcements.delay = 1.5


FAULTS = [delayed, frozen, swallowed, cut, slow_for_ever]


@pytest.mark.parametrize("fault", stress.first(FAULTS, 3))
def test_no_load_is_older_than_the_bound_and_none_waits_for_announcements(
    url: str, proxy: RedisProxy, manage: Any, fault: Callable[[RedisProxy], None]
) -> None:
    state, other = manage(proxy.url, "main"), Other(manage(url, "main"))
    other.save("k", 0)
    warm(state, "k")
    fault(proxy)
    saved = other.save("k", 1)
    end = saved + MAX_STALE_SECONDS + 0.7
    slow = 0
    while (asked := time.monotonic()) < end:
        value = state.load("k")
        slow += time.monotonic() - asked > SLACK_SECONDS
        assert value == 1 or asked < saved + MAX_STALE_SECONDS, f"old {asked - saved:.3f} s after the save"
        time.sleep(0.002)
    assert slow < 3  # a busy machine may hold one up; a load that waits for announcements is slow each time
    assert state.load("k", fresh=True) == 1


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fresh_load_is_never_old(
    url: str, proxy: RedisProxy, manage: Any, fault: Callable[[RedisProxy], None]
) -> None:
    state, other = manage(proxy.url, "main"), Other(manage(url, "main"))
    other.save("k", 0)
    warm(state, "k")
    fault(proxy)
    for number in range(1, 30):
        other.save("k", number)
        assert state.load("k", fresh=True) == number
        assert state.load("k") == number  # after a later answer, no earlier one
    other._state.delete("k")
    assert state.load("k", None, fresh=True) is None
    assert state.load("k", None) is None


@pytest.mark.parametrize("ask", [
    lambda state: state.revision, lambda state: state.log(), lambda state: state.load("other"),
    lambda state: state.list_checkpoints(), lambda state: state.rows(), lambda state: state.at("live").load("other"),
    lambda state: state.load("absent", None), lambda state: state.history("other"), lambda state: state.list_keys(),
    lambda state: state.backend.wait(2, 5.0),
], ids=["revision", "log", "load", "checkpoints", "rows", "view", "absent", "history", "keys", "wait"])  # fmt: skip
def test_no_answer_is_older_than_one_before(
    url: str, proxy: RedisProxy, manage: Any, ask: Callable[[StateManager], Any]
) -> None:
    state, other = manage(proxy.url, "main"), manage(url, "main")
    other.save("k", 0)
    other.save("other", 0)
    warm(state, "k")
    frozen(proxy)
    Other(other)
    with other.transaction() as block:
        block.save("k", 1)
        block.save("other", 1)
    ask(state)
    assert state.load("k") == 1


def test_a_write_of_this_process_is_seen_at_once(proxy: RedisProxy, manage: Any) -> None:
    state, other = manage(proxy.url, "main"), manage(proxy.url, "main")
    for number, (writer, reader) in enumerate(((state, other), (other, state))):
        writer.save("k", number)
        warm(reader, "k")
        frozen(proxy)
        writer.save("k", "new")
        assert reader.load("k") == "new"
        proxy.announcements.frozen = False


def test_a_refused_write_tells_of_what_was_written(url: str, proxy: RedisProxy, manage: Any) -> None:
    state, other = manage(proxy.url, "main"), Other(manage(url, "main"))
    other.save("k", 0)
    other.save("n", 0)
    warm(state, "k", "n")
    frozen(proxy)
    other.save("k", 1)
    with pytest.raises(Conflict):
        state.save("k", 2, expected=1)
    assert state.load("k") == 1
    other.save("n", 5)
    calls = []
    assert state.update("n", lambda value: calls.append(value) or value + 1) == 6
    assert calls in ([0, 5], [5])
    other.save("new", 1)
    assert state.load("late", None) is None
    other.save("late", 1)
    assert state.delete("late")
    assert not state.delete("late")


def test_announcements_that_come_again_are_used_again(url: str, proxy: RedisProxy, manage: Any) -> None:
    state, other = manage(proxy.url, "main"), Other(manage(url, "main"))
    other.save("k", 0)
    warm(state, "k")
    frozen(proxy)
    other.save("k", 1)
    time.sleep(MAX_STALE_SECONDS)
    assert state.load("k") == 1
    proxy.announcements.frozen = False
    warm(state, "k")
    cut(proxy)
    warm(state, "k")
    assert proxy.count(proxy.announcements) >= 2


def test_announcements_of_a_former_primary_make_no_load_older_than_the_bound(url: str, manage: Any) -> None:
    """The listening connection stays on a server that answers, but takes no commits any more."""
    state, other = manage(url, "main", max_stale=0.2), Other(manage(url, "main"))
    other.save("k", 0)
    state.backend._connect()
    cache = state.backend._link.tracking
    present = cache._find_pool
    with running(next(iter(REDIS.values()))) as place, redis.Redis.from_url(place) as former:
        cache._find_pool = lambda: former.connection_pool
        warm(state, "k")
        former_connection = cache._connection
        cache._find_pool = present
        end = time.monotonic() + 3.0
        number = 0
        while time.monotonic() < end and cache._connection is former_connection:
            number += 1
            saved = other.save("k", number)
            while (asked := time.monotonic()) < saved + 0.25:
                assert state.load("k") == number or asked < saved + 0.2
        warm(state, "k")
        assert cache._connection is not former_connection  # commits that were not announced


def test_on_a_cluster_repeated_loads_come_from_memory_and_a_wait_is_woken(manage: Any) -> None:
    with redis_topologies.cluster(next(iter(REDIS.values())), replicas=0) as servers:
        state, other = manage(servers.url, "main"), Other(manage(servers.url, "main"))
        other.save("k", 0)
        warm(state, "k")
        saved = other.save("k", 1)
        while (asked := time.monotonic()) < saved + 1:
            assert state.load("k") == 1 or asked < saved + MAX_STALE_SECONDS
        seen = []
        waiting = threading.Thread(target=lambda: seen.append(state.backend.wait(2, 60.0)))
        waiting.start()
        time.sleep(0.1)
        other.save("k", 2)
        waiting.join(timeout=30)
        assert seen == [3]


@pytest.mark.stress
def test_under_every_fault_at_random_no_load_is_older_than_the_bound(url: str, proxy: RedisProxy, manage: Any) -> None:
    state, other = manage(proxy.url, "main"), Other(manage(url, "main"))
    chance = random.Random(5)
    saved = [other.save("k", 0)]
    for _ in range(16):
        proxy.announcements.frozen = proxy.announcements.swallows = False
        proxy.announcements.delay = chance.choice([0, 0, 0.02, 0.2])
        if chance.random() < 0.6:
            chance.choice(FAULTS)(proxy)
        end = time.monotonic() + 0.5
        while (asked := time.monotonic()) < end:
            value = state.load("k")
            newer = saved[value + 1] if value + 1 < len(saved) else asked
            assert asked < newer + MAX_STALE_SECONDS
            if chance.random() < 0.05:
                saved.append(other.save("k", len(saved)))
            time.sleep(0.001)
