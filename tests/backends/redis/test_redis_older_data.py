"""Data of the older layout on a server with many other keys: all of it is taken in, or none, and never half."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
import redis_servers
from conftest import REDIS

from stateview import BackendError, StateException, StateManager
from stateview.backends import notes
from stateview.backends.redis import older_strings
from stateview.cli.program import main

FIRST = next(iter(REDIS.values()), "")
FOREIGN = 6000
OLDER = 200
Contents = dict[bytes, bytes | None]
NAMESPACES = [f"ns{number}" for number in range(40)]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with redis_servers.running(FIRST) as url:
        yield url


@pytest.fixture
def client(server: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(server) as client:
        client.flushall()
        yield client


@pytest.fixture
def crowd(client: redis.Redis, monkeypatch: pytest.MonkeyPatch, folder: Path) -> redis.Redis:
    """A server with many keys, of which a look reads the first page only."""
    monkeypatch.setattr(older_strings, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(notes, "_said", set())
    client.mset({f"foreign:{number}": "x" for number in range(FOREIGN)})
    client.mset({f"state:main:n{number}": str(number) for number in range(OLDER)})
    client.mset({"checkpoint:main:early": '{"n1": 0}', "state:main2:n1": "1"})
    client.mset({f"state:{name}:old": "1" for name in NAMESPACES})
    return client


def contents(client: redis.Redis) -> set[bytes]:
    return set(client.scan_iter(count=10_000))


def unseen(client: redis.Redis) -> str:
    """Return a namespace whose older data is not on the first page."""
    _, page = client.scan(0, "*", older_strings._FIRST_COUNT, _type="string")
    return next(name for name in NAMESPACES if f"state:{name}:old".encode() not in page)


def test_a_small_server_is_looked_through_however_long_it_takes(
    client: redis.Redis, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(older_strings, "LOOK_SECONDS", 0.0)
    client.mset({f"state:main:n{number}": str(number) for number in range(OLDER)})
    with StateManager(server, "main") as state:
        assert {entry.key: entry.value for entry in state.entries()} == {f"n{one}": one for one in range(OLDER)}


def test_half_of_it_is_refused_and_the_command_that_is_named_takes_all(
    crowd: redis.Redis, server: str, capfd: pytest.CaptureFixture[str]
) -> None:
    before = contents(crowd)
    with StateManager(server, "main") as state:
        for act in (lambda: state.load("n1", 0), lambda: state.save("n1", 0), state.list_keys):
            with pytest.raises(BackendError, match="of the older layout") as caught:
                act()
            assert "Nothing was changed" in str(caught.value)
        assert "unreadable" in {finding.code for finding in state.doctor().findings}
        assert contents(crowd) == before
        command = shlex.split(str(caught.value).rpartition("by '")[2].rpartition("'")[0])
        assert command[0] == "stateview"
        assert main(command[1:]) == 0, capfd.readouterr().err
        assert len(state.list_keys()) == OLDER  # the open manager goes on
        assert state.load("n1", at="early") == 0
    assert before < contents(crowd)


def test_an_import_that_fails_leaves_it_refused(crowd: redis.Redis, server: str) -> None:
    crowd.set("state:main:broken", "{")
    before = contents(crowd)
    with StateManager(server, "main") as state:
        with pytest.raises(StateException, match="broken"):
            state.import_from(server)
        with pytest.raises(BackendError, match="of the older layout"):
            state.save("k", 1)
    assert contents(crowd) == before


def test_none_of_it_is_said_once_with_the_command_that_takes_it(
    crowd: redis.Redis, server: str, capfd: pytest.CaptureFixture[str]
) -> None:
    name = unseen(crowd)
    with StateManager(server, name, quiet=True) as state:
        assert state.load("old", None) is None
    assert not capfd.readouterr().err
    for _ in range(2):
        with StateManager(server, name) as state:
            state.save("new", 2)
    said = capfd.readouterr().err
    assert said.count("was stopped") == said.count("\n") == 1
    assert main(shlex.split(said.rpartition("until '")[2].rpartition("'")[0])[1:]) == 0
    with StateManager(server, name) as state:
        assert {entry.key: entry.value for entry in state.entries()} == {"new": 2, "old": 1}


def test_an_import_of_the_default_namespace_does_not_look_in_it_first(
    client: redis.Redis, server: str, folder: Path, run: Callable[..., tuple[int, str, str]]
) -> None:
    client.set("state:default:k", "1")
    code, _, err = run("import", server)
    assert code == 0, err
    with StateManager() as state:
        assert state.load("k") == 1
    assert contents(client) == {b"state:default:k"}


def test_a_process_that_makes_many_namespaces_looks_once_for_many(
    client: redis.Redis, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def looks() -> int:
        return int(client.info("commandstats").get("cmdstat_scan", {"calls": 0})["calls"])

    monkeypatch.setattr(older_strings, "_SPARE_SECONDS", 0.0)
    monkeypatch.setattr(older_strings, "_SPARE_SHARE", 1e-9)
    older_strings._looks.cache_clear()
    client.mset({"state:old:k": "1", "checkpoint:early:c": '{"k": 2}', "state:odd": "x", "stateview:x:y": "z"})
    before = looks()
    for number in range(20):
        with StateManager(server, f"new{number}") as state:
            state.save("k", number)
    assert looks() == before + 1
    for name, values in (("old", {"k": 1}), ("early", {})):  # those of which it found something are looked for
        with StateManager(server, name) as state:
            assert {entry.key: entry.value for entry in state.entries()} == values
    with StateManager(server, "early") as state:
        assert state.load("k", at="c") == 2
    assert looks() == before + 3
    client.set("state:late:k", "1")  # since the look: it stays, and an import takes it
    with StateManager(server, "late") as state:
        assert state.save("new", 2) == 1
        state.import_from(server, how="merge")
        assert state.load_many(["k", "new"]) == {"k": 1, "new": 2}


def test_a_process_that_makes_few_namespaces_looks_for_each(client: redis.Redis, server: str) -> None:
    older_strings._looks.cache_clear()
    for number in range(20):
        client.set(f"state:old{number}:k", number)
        with StateManager(server, f"old{number}") as state:
            assert state.load("k") == number


@pytest.mark.stress
def test_the_look_ends_among_two_hundred_thousand_keys(folder: Path) -> None:
    with redis_servers.running(FIRST) as url, redis.Redis.from_url(url) as client:
        for number in range(0, 200_000, 10_000):
            client.mset({f"foreign:{one}": "x" for one in range(number, number + 10_000)})
        for number in range(0, 2000, 1000):
            client.mset({f"state:main:n{one}": str(one) for one in range(number, number + 1000)})
        with StateManager(url, "new") as state:
            assert state.save("k", 1) == 1
        with StateManager(url, "main") as state:
            try:
                assert len(state.list_keys()) == 2000
            except BackendError as error:
                assert "of the older layout" in str(error)
                state.import_from(url)
                assert len(state.list_keys()) == 2000
