"""The keys of any application on a real Redis server, as JSON."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest
import redis
from conftest import REDIS
from dashboard_host import shown

from stateview import StateManager
from stateview.backends import mask, notes, parse_store
from stateview.backends.foreign.redis_keys import parse_url
from stateview.backends.protocol import TellsWhatIsCutOff
from stateview.cli.program import main
from stateview.dashboard.app import Dashboard
from stateview.errors import BackendUnavailable, InvalidName, NamespaceNotFound, ReadOnly


@pytest.fixture
def url(new_store: Callable[[str], str]) -> str:
    return new_store(next(iter(REDIS), "redis"))


@pytest.fixture
def server(url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(url) as client:
        yield client


def keys_of(url: str, query: str = "") -> str:
    return url.replace("redis://", "redis-keys://") + query


def test_each_type_is_json_and_names_are_sorted(url: str, server: redis.Redis, folder: Path) -> None:
    server.set("text", "hello")
    server.set("json", '{"b": [1, 2.50]}')
    server.set("bytes", b"\xff\0")
    server.set("late", "x", ex=1000)
    server.hset("hash", mapping={"f": "1", b"\xff": b"\xfe"})
    server.rpush("list", "a", "b")
    server.sadd("set", "b", "a")
    server.zadd("zset", {"m": 1.5, "n": float("inf")})
    server.xadd("stream", {"k": "v"}, id="1-0")
    server.set("$x", "1")
    server.set(b"\xff", "1")
    server.set("nul\0", "1")
    server.rpush("large", *range(1500))
    server.set("huge", "x" * 100_000)
    StateManager(url, "own").save("k", 1)  # stateview's own keys are left out
    state = StateManager(keys_of(url), "default")
    assert {key: state.load(key) for key in state.list_keys() if key not in ("large", "huge")} == {
        "text": "hello",
        "json": {"b": [1, 2.5]},
        "bytes": {"$bytes": {"bytes": 2, "base64": "/wA="}},
        "late": "x",
        "hash": {"$hash": {"f": "1", "$bytes/ff": {"$bytes": {"bytes": 1, "base64": "/g=="}}}},
        "list": {"$list": ["a", "b"]},
        "set": {"$set": ["a", "b"]},
        "zset": {"$zset": [["m", 1.5], ["n", {"$number": "inf"}]]},
        "stream": {"$stream": [{"id": "1-0", "fields": {"k": "v"}}]},
        "$str/$x": 1,
        "$bytes/ff": 1,
        "$bytes/6e756c00": 1,
    }
    large = state.load("large")
    assert (len(large["$list"]), large["count"]) == (1000, 1500)
    rows = state.rows()
    assert [row.key for row in rows] == sorted(row.key for row in rows) == state.list_keys()
    assert {row.key: row.size for row in rows}["huge"] == 100_000
    assert [row.key for row in state.rows(skip=2, limit=2)] == state.list_keys()[2:4]
    assert [row.key for row in state.rows(skip=1, limit=2, backwards=True)] == state.list_keys()[-3:-1]
    assert state.doctor().ok
    for words in (["namespaces"], ["log"], ["checkpoints"], ["diff", "live", "live"], ["export", "out.jsonl"]):
        assert main(["-s", keys_of(url), *words]) == 0
    assert main(["-s", "json:copy", "import", keys_of(url)]) == 0
    assert StateManager("json:copy").load("list") == {"$list": ["a", "b"]}
    with pytest.raises(ReadOnly):
        state.delete("text")
    with pytest.raises(NamespaceNotFound):
        StateManager(keys_of(url), "other").load("text")


def test_a_pattern_and_a_limit_choose_the_names(url: str, server: redis.Redis) -> None:
    server.mset({f"app:{number}": number for number in range(20_000)} | {"else": 1})
    assert StateManager(keys_of(url, "?match=app:1999*"), "default").list_keys() == [
        "app:1999", *(f"app:1999{digit}" for digit in range(10))
    ]  # fmt: skip
    state = StateManager(keys_of(url, "?limit=100"), "default")
    assert 100 <= state.head().count < 20_000
    assert state.load("else") == 1  # by its name
    assert [one.code for one in state.doctor().findings if one.severity == "warning"] == ["keys-not-all"]


def test_what_a_bound_cut_off_is_said_wherever_keys_are_counted(
    url: str, server: redis.Redis, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    server.mset({f"app:{number}": number for number in range(20_000)})
    cut, whole = keys_of(url, "?limit=10"), keys_of(url, "?match=app:1999*")
    told = f"stateview: {cut}: only the 1"
    for words in (["keys", "-l", "1"], ["--format", "table", "stats"]):
        notes._said.clear()  # a note is printed once a process
        assert main(["-s", cut, *words]) == 0
        out, error = capfd.readouterr()
        assert (error.count(told), error.count("match=GLOB")) == (1, 1)
        assert ("counted among the 1" in out) == (words[-1] == "stats")
        assert main(["-q", "-s", cut, *words]) == 0
        assert main(["-s", whole, *words]) == 0
        assert capfd.readouterr().err == ""
    source = StateManager(cut, "default", quiet=True)
    assert cast("TellsWhatIsCutOff", source.backend).cut_off() == ""  # it has read nothing yet
    asyncio.run(_status_of(source))


async def _status_of(manager: StateManager) -> None:
    async with Dashboard(manager, {}, None).run_test(size=(140, 40)) as pilot:
        await shown(pilot, "not all: the 1")


def test_the_url_is_checked_and_no_password_is_shown(url: str) -> None:
    assert parse_url("redis-keys://h:1/2?match=a%26b*&socket_timeout=1") == (
        "redis://h:1/2?socket_timeout=1", b"a&b*", 100_000
    )  # fmt: skip
    assert parse_url("redis-keys://h?tls=true")[0] == "rediss://h"
    with pytest.raises(InvalidName, match="limit"):
        StateManager(keys_of(url, "?limit=x"), "default").list_keys()
    secret = "redis-keys://user:geheim@127.0.0.1:1/0?match=*"
    assert mask(secret) == parse_store(secret).shown == "redis-keys://user:***@127.0.0.1:1/0?match=*"
    with pytest.raises(BackendUnavailable) as caught:
        StateManager(secret, "default", timeout=0.1).list_keys()
    assert "geheim" not in str(caught.value)
