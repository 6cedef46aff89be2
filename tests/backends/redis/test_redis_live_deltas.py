"""Superseded versions relative to the live value: whoever comes between, each version reads as it was written."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from conftest import REDIS
from packed_history import deltas, steps

from stateview import StateManager

P = "stateview:{ns}:"
WORDS = [f"word{number}" for number in range(500)]

pytestmark = pytest.mark.parametrize("kind", list(REDIS)[:1])


@pytest.fixture
def client(store_url: str) -> Iterator[Any]:
    with redis.Redis.from_url(store_url) as found:
        yield found


@pytest.fixture
def states(store_url: str) -> Iterator[tuple[StateManager, StateManager]]:
    with StateManager(store_url, "ns") as ours, StateManager(store_url, "ns") as theirs:
        yield ours, theirs


def texts(count: int) -> list[list[str]]:
    """Lists that grow by one text."""
    chance = random.Random(7)
    whole = [" ".join(chance.choices(WORDS, k=30)) for _ in range(20 + count)]
    return [whole[: 20 + number] for number in range(count)]


def record_of(client: Any, revision: int) -> bytes:
    return bytes(client.hget(P + "history", f"k\0{revision:016}"))


def check(state: StateManager, values: dict[int, Any]) -> None:
    for revision, value in values.items():
        assert state.load("k", None, at=revision) == value, revision
    assert [one for one in state.doctor().findings if one.severity == "error"] == []


def test_who_knows_the_live_value_keeps_none_whole(states: Any, client: Any, store_url: str) -> None:
    values = dict(enumerate(texts(40), 1))
    for value in values.values():
        states[0].save("k", value)
    assert not [record for record in client.hvals(P + "history") if not record.startswith(b"*")]
    assert b" P" in record_of(client, 39)[:60]
    found = deltas(store_url)
    assert len(found) == 39
    assert max(steps(found, *place) for place in found) <= 20
    check(states[1], values)


def _overwrite(ours: StateManager, theirs: StateManager, value: Any) -> Any:
    theirs.save("k", [*value[:-1], "x" * len(value[-1])])  # of the same length
    return theirs.load("k")


def _expire(ours: StateManager, theirs: StateManager, value: Any) -> Any:
    theirs.save("k", value, ttl=3600)
    return value


def _delete(ours: StateManager, theirs: StateManager, value: Any) -> Any:
    theirs.delete("k")
    return None


def _shorten(ours: StateManager, theirs: StateManager, value: Any) -> Any:
    theirs.save("k", 1)
    return 1


def _compact(ours: StateManager, theirs: StateManager, value: Any) -> Any:
    theirs.save("other", 1)
    theirs.compact(theirs.revision)
    return value


BETWEEN: list[Callable[[StateManager, StateManager, Any], Any]] = [_overwrite, _expire, _delete, _shorten, _compact]


@pytest.mark.parametrize("between", BETWEEN, ids=lambda act: act.__name__.strip("_"))
@pytest.mark.parametrize("by_update", [False, True], ids=["save", "update"])
def test_what_others_do_in_between_is_kept_as_they_did_it(
    states: Any, client: Any, between: Callable[..., Any], by_update: bool
) -> None:
    ours, theirs = states
    values: dict[int, Any] = {}
    for value in texts(8):
        values[ours.save("k", value)] = value
        if by_update:
            ours.update("k", lambda found: [*found, "more"])
            values[ours.revision] = [*value, "more"]
        ours.checkpoint(f"c{ours.revision}")
        found = between(ours, theirs, values[ours.revision])
        values[theirs.revision] = found
        ours.save("k", value)
        values[ours.revision] = value
        ours.checkpoint(f"d{ours.revision}")
    marked = {mark.revision for mark in ours.checkpoints(all=True)}
    kept = {revision: value for revision, value in values.items() if revision in marked or between is not _compact}
    for state in states:
        check(state, kept)
    ours.compact(ours.revision)
    for state in states:
        check(state, {revision: value for revision, value in kept.items() if revision in marked})
    assert ours.recover().problems == ()


def test_a_past_read_does_not_fetch_the_live_value_that_the_client_knows(states: Any, client: Any) -> None:
    values = dict(enumerate(texts(30), 1))
    values[31] = ["y" * 300_000]
    values[32] = ["y" * 300_000, "z"]
    for value in values.values():
        states[0].save("k", value)

    def sent() -> int:
        return int(client.info("stats")["total_net_output_bytes"])

    for state, is_known in zip(states, (True, False), strict=True):
        state.load("other", None)
        before = sent()
        assert state.load("k", at=31) == values[31]
        assert (sent() - before < 20_000) == is_known
    states[1].save("k", 5)
    assert states[0].load("k", at=31) == values[31]
    assert states[0].load("k", at=32) == values[32]
