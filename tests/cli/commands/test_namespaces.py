"""`namespaces` tells of each namespace what the namespace itself tells, on Redis by one request for all."""

import json

import pytest
import redis
from conftest import REDIS
from sealed_stores import KEY

from stateview import StateManager
from stateview.cli.program import main


@pytest.fixture
def store(new_store, kind):
    """A store whose namespaces each have a peculiarity."""
    url = new_store(kind)
    acts = {
        "plain": lambda state: [state.save(f"k{number}", number) for number in range(3)],
        "empty": lambda state: (state.save("k", 1), state.checkpoint("c"), state.delete("k")),
        "checkpoint-alone": lambda state: state.checkpoint("c"),
        "moved": lambda state: [(state.save("k", name), state.checkpoint(name)) for name in ("a", "b", "a")],
        "expired": lambda state: (state.save("k", 1), state.save("short", 1, ttl=0.001), state.save("long", 1, ttl=60)),
        "sealed": lambda state: (state.save("k", 1), state.checkpoint("c", note="n")),
    }
    for name, act in acts.items():
        with StateManager(url, name, encryption_key=KEY.printed() if name == "sealed" else None) as state:
            act(state)
    return url


def test_each_namespace_is_told_as_it_is(store, capsys):
    assert main(["-s", store, "namespaces", "--format", "json"]) == 0
    found = [tuple(row.values()) for row in json.loads(capsys.readouterr().out)]
    wanted = []
    for name in ("checkpoint-alone", "empty", "expired", "moved", "plain", "sealed"):
        with StateManager(store, name) as state:
            head = state.head()
            wanted.append((name, head.count, head.revision, len(state.list_checkpoints())))
    assert found == wanted
    assert wanted[2:5] == [("expired", 2, 3, 0), ("moved", 1, 3, 2), ("plain", 3, 3, 0)]


@pytest.mark.parametrize("kind", REDIS)
def test_damage_in_a_namespace_is_told_by_its_name(new_store, kind, capsys):
    url = new_store(kind)
    for name in ("a", "b", "c"):
        with StateManager(url, name) as state:
            state.save("k", 1)
    with redis.Redis.from_url(url) as client:
        client.delete("stateview:{b}:live")
    assert main(["-s", url, "namespaces"]) == 3
    told = capsys.readouterr()
    assert told.out == "a\n" and "stateview:{b}:live is gone" in told.err
