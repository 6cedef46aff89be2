"""A network that cuts, delays, freezes or swallows what clients send and get: how old answers are, on each topology.

A proxy stands before each server and each sentinel. Beside the proxies, or in the process that reads, a writer saves
numbers and notes when each was acknowledged. The readers note when they asked, and what they were answered.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from functools import cache
from itertools import product
from typing import Any, NamedTuple

import pytest
import redis_topologies
from conftest import REDIS
from redis_proxy import RedisProxy
from redis_servers import until
from redis_topologies import HASTE, Topology
from stress import only
from test_redis_read_cache import Other, warm

from stateview import StateManager

SERVER = next(iter(REDIS.values()), "")
TOPOLOGIES: dict[str, Callable[[], AbstractContextManager[Topology]]] = {
    "single": lambda: redis_topologies.pair(SERVER, 0),
    "cluster": lambda: redis_topologies.cluster(SERVER, 2, 1, proxied=True),
    "sentinels": lambda: redis_topologies.sentinels(SERVER, 1, 3, proxied=True),
}
MAX_STALE_SECONDS = 0.15
DELAYS = {"plain": 0.1, "announcements": 1.0}  # seconds; an announcement is then later than any load may be old
REPLY_SECONDS = 0.3  # that a reply is waited for
FAULT_SECONDS = (0.15, 0.5)  # a frozen reply still comes, or is given up
CALM_SECONDS = 0.2
PAUSES = (0.0, 0.01, 0.05, 0.2)  # of the writer, in seconds; in the longest, loads come from memory
FELT_SECONDS = 2 * DELAYS["plain"]  # of a call at least, while the network is not only cut
FOLLOW_SECONDS = 2.0  # from the failover until a manager, on a busy machine, asks the sentinels and the new primary
LINKS = {"plain": ["plain"], "announcements": ["announcements"], "both": ["plain", "announcements"]}
CASES = [
    (topology, reads, link, fault)
    for topology in TOPOLOGIES
    for reads, link in (
        *product(["strict"], ["plain", "both"]),
        *product(["cached"], LINKS),
        *product(["own"], ["announcements", "both"]),  # cached, and another manager of the process writes
    )
    for fault in ("cut", "delay", "freeze", "swallow")
]


class Seen(NamedTuple):
    """When a manager was asked, when it answered, and the revision of its answer."""

    asked: float
    returned: float
    revision: int


@pytest.fixture(scope="module")
def start() -> Iterator[Callable[[str], Topology]]:
    """The servers of a topology; they are started when first asked for."""
    with ExitStack() as stack:
        yield cache(lambda topology: stack.enter_context(TOPOLOGIES[topology]()))


def disturb(proxies: list[RedisProxy], names: list[str], fault: str, stop: threading.Event) -> None:
    """Let a fault come and go."""
    links = [(proxy, getattr(proxy, name), DELAYS[name]) for proxy in proxies for name in names]
    for seconds in FAULT_SECONDS:
        for proxy, link, delay in links:
            if fault == "cut":
                proxy.cut(link)
            link.delay = delay if fault == "delay" else 0.0
            link.frozen, link.swallows = fault == "freeze", fault == "swallow"
        stop.wait(seconds)
        for _, link, _ in links:
            link.delay, link.frozen, link.swallows = 0.0, False, False
        stop.wait(CALM_SECONDS)


def read(stop: threading.Event, ask: Callable[[int], int]) -> list[Seen]:
    """Ask again and again, each time with the last answer."""
    seen = [Seen(0.0, 0.0, 1)]
    while not stop.is_set():
        asked = time.monotonic()
        revision = ask(seen[-1].revision)
        seen.append(Seen(asked, time.monotonic(), revision))
        stop.wait(0.003)
    return seen[1:]


def write(stop: threading.Event, state: StateManager, chance: random.Random) -> list[float]:
    """Save each revision's number, and return when each was acknowledged, from the first on."""
    saved = [time.monotonic()]
    while not stop.wait(chance.choice(PAUSES)):
        number = len(saved) + 1
        assert state.save("k", number) == number
        saved.append(time.monotonic())
    return saved


def check(seen: list[Seen], saved: list[float], bound: float) -> float:
    """Compare answers with what was acknowledged, and with earlier answers; return the age of the oldest answer."""
    returned = sorted(seen, key=lambda one: one.returned)
    before = known = 0
    age = 0.0
    for one in sorted(seen):
        while returned[before].returned < one.asked:
            known = max(known, returned[before].revision)
            before += 1
        assert one.revision >= known, f"revision {known} was answered, and then {one.revision}"
        if one.revision < len(saved):
            age = max(age, one.asked - saved[one.revision])  # the next revision was acknowledged so long before
    assert age <= bound, f"an answer was {age:.3f} s old"
    return age


@pytest.mark.parametrize(
    ("topology", "reads", "link", "fault"),
    only(
        CASES,
        ("single", "strict", "plain", "swallow"),
        ("cluster", "cached", "announcements", "freeze"),
        ("sentinels", "cached", "plain", "cut"),
        ("sentinels", "own", "announcements", "swallow"),
    ),
)
def test_no_answer_is_too_old_and_no_manager_contradicts_itself(
    start: Callable[[str], Topology], manage: Any, topology: str, reads: str, link: str, fault: str
) -> None:
    servers = start(topology)
    namespace = f"{reads}-{link}-{fault}"
    consistency = "strict" if reads == "strict" else "cached"
    bound = MAX_STALE_SECONDS if reads == "cached" else 0.0
    proxies = servers.proxies or [servers.proxy]
    chance, stop = random.Random(namespace), threading.Event()

    url = f"{servers.url}?socket_timeout={REPLY_SECONDS}"
    state = manage(url, namespace, consistency=consistency, max_stale=MAX_STALE_SECONDS)
    assert state.save("k", 1) == 1
    writer = manage(url if reads == "own" else servers.promoted(namespace).url, namespace)
    if reads != "own":
        Other(writer)
    assert writer.revision == 1  # a first contact during a fault ends sooner with an error
    until(lambda: state.backend._link.tracking.generation() is not None)
    if consistency == "cached":
        warm(state, "k")

    def count() -> int:
        return sum(proxy.count(getattr(proxy, name)) for proxy in proxies for name in LINKS[link])

    def ask(_: int) -> int:
        return state.revision if chance.random() < 0.01 else state.load("k")

    opened = count()
    with ThreadPoolExecutor() as pool:
        loads = pool.submit(read, stop, ask)
        waits = pool.submit(read, stop, lambda known: state.backend.wait(known, 0.4))
        writes = pool.submit(write, stop, writer, chance)
        try:
            disturb(proxies, LINKS[link], fault, stop)
        finally:
            stop.set()
    age = check(loads.result() + waits.result(), writes.result(), bound)
    assert state.load("k", fresh=True) == state.revision == len(writes.result())

    # The fault was felt
    if fault == "cut":
        assert count() > opened
    elif link != "announcements":
        assert max(one.returned - one.asked for one in loads.result()) > FELT_SECONDS
    elif bound:
        assert age > 0


@pytest.mark.stress
def test_no_answer_is_too_old_when_a_primary_that_nobody_reaches_is_replaced(manage: Any) -> None:
    """The former primary goes on, and is reached again before the sentinels make it a replica."""
    with redis_topologies.sentinels(SERVER, 1, 3, patience=HASTE, proxied=True) as servers:
        url = f"{servers.url}?socket_timeout={REPLY_SECONDS}"
        readers = [manage(url, "main", consistency=one, max_stale=MAX_STALE_SECONDS) for one in ("strict", "cached")]
        writer = manage(url, "main")
        Other(writer)
        assert writer.save("k", 1) == 1
        for state in readers:
            assert state.load("k") == 1
        former = servers.promoted("main")
        [proxy] = [one for one in servers.proxies if one.target_port == former.port]
        stop = threading.Event()
        with ThreadPoolExecutor() as pool:
            loads = [pool.submit(read, stop, lambda _, state=state: state.load("k")) for state in readers]
            writes = pool.submit(write, stop, writer, random.Random(1))
            try:
                stop.wait(CALM_SECONDS)
                proxy.plain.frozen = proxy.announcements.frozen = True
                servers._wait_for_copies(former)
                proxy.servers.frozen = True
                until(lambda: servers.primary("main") not in (None, former))
                stop.wait(0.5)
                proxy.plain.frozen = proxy.announcements.frozen = proxy.servers.frozen = False
                stop.wait(1.0)
                assert servers.info(former)["role"] == "master"
            finally:
                stop.set()
        for seen, bound in zip(loads, (0.0, MAX_STALE_SECONDS), strict=True):
            check(seen.result(), writes.result(), bound)
        assert [state.load("k", fresh=True) for state in readers] == [len(writes.result())] * 2


@pytest.mark.stress
def test_a_primary_that_its_sentinels_do_not_reach_is_left_by_those_who_do(manage: Any) -> None:
    """It goes on to answer. Without a question to the sentinels its clients would stay as long as it is cut off."""
    with redis_topologies.sentinels(SERVER, 1, 3, patience=HASTE, proxied=True) as servers:
        readers = [manage(servers.url, "main", consistency=one) for one in ("strict", "cached")]
        assert readers[0].save("k", 1) == 1
        former = servers.promoted("main")
        [proxy] = [one for one in servers.proxies if one.target_port == former.port]
        stop = threading.Event()
        servers._wait_for_copies(former)
        with ThreadPoolExecutor() as pool:
            loads = [pool.submit(read, stop, lambda _, state=state: state.load("k")) for state in readers]
            try:
                proxy.servers.frozen = True
                until(lambda: servers.primary("main") not in (None, former))
                writer = manage(servers.url, "main")
                Other(writer)
                assert writer.save("k", 2) == 2
                saved = [0.0, time.monotonic()]
                stop.wait(FOLLOW_SECONDS + CALM_SECONDS)
            finally:
                stop.set()
        for seen in loads:
            check(seen.result(), saved, FOLLOW_SECONDS)
            assert seen.result()[-1].revision == 2
