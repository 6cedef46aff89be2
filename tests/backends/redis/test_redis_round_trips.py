"""How often each act waits for the server: on a link of 200 ms every round trip is felt."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conftest import REDIS
from redis_proxy import RedisProxy

from stateview import StateManager

ACTS: dict[str, tuple[int, Callable[[StateManager], Any]]] = {
    "load(fresh=True)": (1, lambda state: state.load("k-5", fresh=True)),
    "load of a key after a commit": (1, lambda state: state.load("k-5")),
    "save": (1, lambda state: state.save("k-6", "x")),
    "save_many": (1, lambda state: state.save_many({"k-6": 1, "k-7": 2})),
    "update": (2, lambda state: state.update("k-6", str)),
    "checkpoint": (1, lambda state: state.checkpoint("now")),
    "diff of 10 changes": (3, lambda state: list(state.diff("before"))),
    "list_keys": (1, lambda state: state.list_keys()),
    "checkpoints": (1, lambda state: state.checkpoints()),
}


@pytest.fixture(params=REDIS)
def proxy(request: pytest.FixtureRequest, new_store: Callable[[str], str]) -> Iterator[RedisProxy]:
    store_url = new_store(request.param)
    with StateManager(store_url, "main") as state, RedisProxy(store_url) as proxy:
        state.save_many({f"k-{number}": number for number in range(50)})
        state.checkpoint("before")
        for number in range(10):
            state.save(f"k-{number}", "changed")
        for _, act in ACTS.values():  # so the server has the scripts
            act(state)
        yield proxy


def trips(proxy: RedisProxy, act: Callable[[], object]) -> int:
    before = proxy.plain.trips
    act()
    return proxy.plain.trips - before


def test_no_act_makes_more_round_trips_than_it_needs(proxy: RedisProxy) -> None:
    with StateManager(proxy.url, "main", consistency="strict") as state:
        assert trips(proxy, lambda: state.load("k-5")) <= 4  # the first of a process
        for _, act in ACTS.values():
            act(state)
        counted = {name: trips(proxy, lambda act=act: act(state)) for name, (_, act) in ACTS.items()}
    assert counted == {name: most for name, (most, _) in ACTS.items()}
