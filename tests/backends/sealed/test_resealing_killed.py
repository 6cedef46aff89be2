"""A process is killed at any step of encrypting, rotating or decrypting: all reads as before, and the next goes on."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sealed_stores import KEY
from stress import stride
from test_packed_killed import SAVES, Store, die_at

from stateview import StateManager

pytestmark = pytest.mark.stress

ACTS: dict[str, Callable[[StateManager], object]] = {
    "on": lambda state: state.encryption.turn_on(),
    "rotate": lambda state: state.encryption.rotate_data_key(),
    "off": lambda state: state.encryption.turn_off(),
}
EVERY = {"json": 1, "sqlite": 23}
AFTER = {"on": "sealed", "rotate": "sealed", "off": "plain"}


def opened(url: str) -> StateManager:
    return StateManager(url, "ns", encryption_key=KEY.printed())


@pytest.mark.parametrize("name", ACTS)
def test_killed_before_any_step_every_revision_reads_as_before_and_the_act_goes_on(
    store_url: str, kind: str, name: str
) -> None:
    store = Store(store_url)
    if name != "on":
        with opened(store_url) as state:
            ACTS["on"](state)
        store.remember()

    def act() -> None:
        with opened(store_url) as state:
            ACTS[name](state)

    finished, step, reached = False, 0, set()
    while not finished:
        step += stride(EVERY.get(kind, 5))
        store.put_back()
        finished = die_at(step, act)
        with opened(store_url) as state:
            reached.add(state.encryption.status().state)
            for revision in range(1, SAVES + 1):
                assert state.load("k", at=revision) == store.values[revision], (step, revision)
            assert [one for one in state.doctor().findings if one.severity == "error"] == [], step
            if name == "rotate" or state.encryption.status().state != AFTER[name]:
                ACTS[name](state)
            assert state.encryption.status().state == AFTER[name], step
        with opened(store_url) if name != "off" else StateManager(store_url, "ns") as state:
            assert [one for one in state.doctor().findings if one.severity == "error"] == [], step
            assert state.save("k", ["after"]) == SAVES + 1
            for revision in range(1, SAVES + 1):
                assert state.load("k", at=revision) == store.values[revision], (step, revision)
            assert state.recover().problems == ()
    print(f"{name}: {step} steps")
    assert len(reached) > 1 or name == "rotate"
