"""Tests of plain stores once more, with a key in the environment: each namespace that they make is sealed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import test_bit_flips
from conftest import REDIS
from sealed_stores import KEY
from test_bad_input import test_a_full_disk  # noqa: F401
from test_packed_killed import *  # noqa: F403

from stateview import BackendError, Damaged, KeyWrong, StateException, StateManager

pytestmark = pytest.mark.stress


@pytest.fixture(autouse=True, scope="module")
def key() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STATEVIEW_KEY", KEY.printed())
        yield


@pytest.fixture(params=["sqlite", *(REDIS or ["redis"])])  # JSON files do not pack values that are sealed so small
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module", params=["sqlite", "sqlite pruned", "sqlite packed", "json", "json packed"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> test_bit_flips.Store:
    kind, _, how = request.param.partition(" ")
    return test_bit_flips.Store(kind, how, tmp_path_factory.mktemp("damage"))


def test_a_flipped_bit_is_never_a_wrong_answer(store: test_bit_flips.Store) -> None:
    chance = random.Random(3)
    noticed = 0
    places = ((path, place) for path, place in store.places(chance) if path.name != "keyring.json")
    for number, (path, place) in zip(range(16), places, strict=False):
        data = bytearray(store.files[path][0])
        data[place] ^= 1 << chance.randrange(8)
        store.damage(path, bytes(data))
        noticed += store.check((path.name, place)) > 0
        if number % 8 == 0 and store.kind == "sqlite":  # JSON files name no checkpoint whose line is lost
            store.damage(path, bytes(data))
            store.check_recovery((path.name, place))
    assert noticed > 4


def test_a_flipped_bit_of_the_keyring_opens_nothing(tmp_path: Path) -> None:
    url = f"json:{tmp_path}"
    with StateManager(url, "ns") as state:
        state.save("k", 1)
    path = tmp_path / "ns" / "keyring.json"
    data = path.read_bytes()
    for place in range(len(data)):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1 << place % 8]) + data[place + 1 :])
        with StateManager(url, "ns") as state:
            with pytest.raises((Damaged, KeyWrong, BackendError)):  # a later format, too
                state.load("k")
            with pytest.raises(StateException):
                state.save("k", 2)
    path.write_bytes(data)
    with StateManager(url, "ns") as state:
        assert (state.load("k"), state.revision) == (1, 1)
