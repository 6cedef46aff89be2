"""The keys of any application on a real Redis server, as JSON."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Any, cast

import pytest
import redis
from conftest import REDIS
from dashboard_host import shown

from stateview import StateManager, codec
from stateview.backends import mask, notes, parse_store
from stateview.backends.foreign import redis_keys
from stateview.backends.foreign.redis_keys import RedisKeys, parse_url
from stateview.backends.protocol import TellsWhatIsCutOff
from stateview.cli.program import main
from stateview.dashboard.app import Dashboard
from stateview.errors import BackendError, BackendUnavailable, InvalidName, NamespaceNotFound, ReadOnly
from stateview.states import compare
from stateview.transfer import export, version_pages


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


def test_hostile_names_and_values_are_shown_inert_and_bounded(url: str, server: redis.Redis, folder: Path) -> None:
    long, torn = b"n" * 2000, b"\xf0\x9f" * 900
    with server.pipeline() as pipe:
        for number, name in enumerate((b"\xff\xfe", b"\x1b[31m", b"a\r\nb", b"", long, long + b"x", torn)):
            pipe.set(name, number)
        pipe.hset("pairs", mapping={f"f{number}": "v" for number in range(1100)})
        pipe.sadd("members", *range(1100))
        for number in range(1100):
            pipe.xadd("events", {b"\xff": b"\x00"}, id=f"{number + 1}-0")
        pipe.xadd("empty", {"a": 1}, id="1-0")
        pipe.xtrim("empty", 0)
        pipe.set("nothing", "")
        pipe.pfadd("log", "a")
        pipe.execute()
    state = StateManager(keys_of(url), "default")
    names = state.list_keys()
    assert sorted(name for name in names if name.startswith("$")) == [
        "$bytes/", "$bytes/fffe", *sorted(f"$odd/{sha256(name).hexdigest()}" for name in (long, long + b"x", torn))
    ]  # fmt: skip
    assert state.load(f"$odd/{sha256(long).hexdigest()}") == 4
    assert (state.load("\x1b[31m"), state.load("$bytes/")) == (1, 3)
    for name, members in (("pairs", "$hash"), ("members", "$set"), ("events", "$stream")):
        value = state.load(name)
        assert (len(value[members]), value["count"]) == (1000, 1100)
    assert state.load("events")["$stream"][0]["fields"] == {"$bytes/ff": "\0"}
    assert (state.load("empty"), state.load("nothing")) == ({"$stream": []}, "")
    assert state.load("log")["$bytes"]["bytes"] > 10
    assert len(state.rows()) == len(names)
    assert main(["-s", keys_of(url), "export", "out.jsonl"]) == 0


@pytest.mark.stress
def test_a_name_of_a_megabyte_and_a_list_over_the_limit_of_a_value(url: str, server: redis.Redis) -> None:
    name = b"n" * 1_000_000
    server.set(name, 1)
    server.rpush("wide", *["w" * 40_000_000] * 2)
    state = StateManager(keys_of(url), "default")
    assert state.list_keys() == [f"$odd/{sha256(name).hexdigest()}", "wide"]
    assert state.load("wide")["$opaque"]["type"] == "list"
    assert [row.key for row in state.rows()] == state.list_keys()


@pytest.mark.stress
def test_the_first_page_of_a_million_keys_takes_no_full_scan(url: str, server: redis.Redis) -> None:
    for start in range(0, 1_000_000, 50_000):
        server.eval("for i = 1, 50000 do redis.call('SET', 'app:' .. ARGV[1] + i, i) end", 0, start)
    state = StateManager(keys_of(url), "default", quiet=True)

    def calls(command: str) -> int:
        return int(server.info("commandstats").get(f"cmdstat_{command}", {"calls": 0})["calls"])

    scans = calls("scan")
    assert len(state.rows(limit=3)) == 3
    assert calls("scan") - scans < 20
    types = calls("type")
    keys = state.stats().keys
    assert 100_000 <= keys < 120_000
    assert calls("type") - types < keys * 1.1, "each key is asked for once"
    assert state.load("app:1000000") == 50_000
    server.flushdb()


def test_a_type_that_is_not_known_is_an_opaque_value_with_its_name(new_store: Callable[[str], str]) -> None:
    url = new_store(max(REDIS, default="redis"))  # the newest server
    with redis.Redis.from_url(url) as client:
        try:
            client.execute_command("VADD", "vectors", "VALUES", 2, 1, 0, "a")
        except redis.ResponseError:
            pytest.skip("before Redis 8 there is no type that is not known")
    state = StateManager(keys_of(url), "default")
    with redis.Redis.from_url(url) as client:
        seen = state.load("vectors")["$opaque"]
        assert seen["type"] == "vectorset" and seen["bytes"] > 0
        client.execute_command("VADD", "vectors", "VALUES", 2, 0, 1, "a")
        assert state.load("vectors")["$opaque"]["sha256"] != seen["sha256"]
    assert [row.key for row in state.rows()] == ["vectors"]


def test_what_is_over_the_limit_of_a_value_shows_its_size_and_a_digest_of_its_content(
    url: str, server: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codec, "MAX_BYTES", 10_000)
    monkeypatch.setattr(redis_keys, "READ_BYTES", 3000)
    state = StateManager(keys_of(url), "default")

    def written(letter: str) -> dict[str, Any]:
        members = [letter * 100 + str(number) for number in range(200)]
        with server.pipeline() as pipe:
            pipe.delete("hash", "list", "set", "zset", "stream")
            pipe.hset("hash", mapping={str(number): member for number, member in enumerate(members)})
            pipe.rpush("list", *members)
            pipe.sadd("set", *members)
            pipe.zadd("zset", dict.fromkeys(members, 1.0))
            for number, member in enumerate(members, 1):
                pipe.xadd("stream", {"f": member}, id=f"{number}-0")
            pipe.set("string", "x" * 15_000 + letter + "x" * 4999)
            pipe.execute()
        return {key: state.load(key)["$opaque"] for key in ("hash", "list", "set", "zset", "stream", "string")}

    first, same, other = written("a"), written("a"), written("b")
    assert first == same
    assert [shown["type"] for shown in first.values()] == list(first)
    assert all(shown["bytes"] >= 20_000 for shown in first.values()) and first["string"]["bytes"] == 20_000
    assert all(first[key]["sha256"] != other[key]["sha256"] for key in first)


@pytest.mark.parametrize("moment", [2, 3], ids=["before its type is asked for", "after that"])
def test_a_key_that_goes_or_changes_during_a_read_is_no_wrong_value(
    url: str, server: redis.Redis, moment: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("goes", "other"):
        server.rpush(name, "a")
    server.set("text", "a")
    server.set("stays", "")
    state = StateManager(keys_of(url), "default")
    assert len(state.list_keys()) == 4
    ask, trips = RedisKeys._pipe, count(1)

    def act(backend: RedisKeys, commands: list[Any]) -> list[Any]:
        if next(trips) == moment:
            server.delete("goes", "text")
            server.delete("other")
            server.set("other", "b")
        return ask(backend, commands)

    monkeypatch.setattr(RedisKeys, "_pipe", act)
    changed = {"$opaque": {"type": "a type that changed meanwhile"}}
    found = state.load_many(["goes", "other", "text", "stays"])
    assert found == {"other": "b" if moment == 2 else changed, "stays": ""}


def test_large_strings_are_read_a_few_at_a_time(url: str, server: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    server.mset({f"k{number}": "x" * 3_000_000 for number in range(5)})
    server.rpush("list", "a")
    ask, together = RedisKeys._pipe, list[int]()

    def act(backend: RedisKeys, commands: list[Any]) -> list[Any]:
        together.append(sum(command[0] == "GETRANGE" for command in commands))
        return ask(backend, commands)

    monkeypatch.setattr(RedisKeys, "_pipe", act)
    found = StateManager(keys_of(url), "default").load_many([*(f"k{number}" for number in range(5)), "list"])
    assert ({key: len(value) for key, value in found.items()}) == {f"k{n}": 3_000_000 for n in range(5)} | {"list": 1}
    assert [number for number in together if number] == [2, 2, 1]


def test_a_change_of_a_member_that_is_not_shown_is_a_change(url: str, server: redis.Redis) -> None:
    members = [str(number) for number in range(1500)]
    server.rpush("list", *members)
    server.hset("hash", mapping=dict.fromkeys(members, "a"))
    server.zadd("zset", dict.fromkeys(members, 1.0))
    state = StateManager(keys_of(url), "default")
    before = state.load_many()
    assert state.load_many() == before
    server.lset("list", 1400, "other")
    server.hset("hash", mapping=dict.fromkeys(members[-400:], "b"))
    server.zadd("zset", {members[-1]: 2.0})
    after = state.load_many()
    assert all(before[key] != after[key] and after[key]["count"] == 1500 for key in before)
    assert before["list"]["$list"] == after["list"]["$list"]


def test_a_list_of_keys_moves_no_members_of_large_collections(url: str, server: redis.Redis) -> None:
    for number in range(3):
        server.rpush(f"list{number}", *["x" * 20_000] * 40)
        server.hset(f"hash{number}", mapping={str(field): "x" * 20_000 for field in range(40)})
    server.rpush("small", *range(30))
    state = StateManager(keys_of(url), "default")
    state.list_keys()
    before = server.info("stats")["total_net_output_bytes"]
    rows = {row.key: row for row in state.rows()}
    assert server.info("stats")["total_net_output_bytes"] - before < 20_000
    assert rows["list0"].start == b'{"count":40,"$list":' and rows["list0"].size > 700_000
    assert rows["hash0"].start == b'{"count":40,"$hash":'
    assert rows["small"].start.startswith(b'{"$list":["0","1",')


@pytest.mark.parametrize("layout", ["json", "jsonl"])
def test_an_export_reads_each_key_once_while_keys_come_and_go(
    url: str,
    server: redis.Redis,
    folder: Path,
    layout: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    server.mset({f"k{number}": number for number in range(10)})
    monkeypatch.setattr(redis_keys, "_MIN_INDEX_SECONDS", 0)
    monkeypatch.setattr(redis_keys, "_REST_FACTOR", 0)
    monkeypatch.setattr(compare, "KEYS_PER_PAGE", 2)
    monkeypatch.setattr(export, "VERSIONS_PER_PAGE", 2)
    monkeypatch.setattr(version_pages, "VERSIONS_PER_PAGE", 2)
    ask, moments, asked = RedisKeys.encoded, count(), list[str]()

    def act(backend: RedisKeys, keys: list[str], *more: Any) -> list[Any]:
        server.set(f"k9-{next(moments)}", 1)
        server.delete("k4", "k5")
        asked.extend(keys)
        return ask(backend, keys, *more)

    monkeypatch.setattr(RedisKeys, "encoded", act)
    assert main(["-s", keys_of(url), "export", f"out.{layout}"]) == 0
    assert "each key is as it was when it was read" in capsys.readouterr().err
    assert asked == [f"k{number}" for number in range(10)]
    text = Path(f"out.{layout}").read_text()
    assert '"k3"' in text and '"k4"' not in text and '"k9"' in text and "k9-" not in text
    assert main(["migrate", keys_of(url), "json:copy"]) == 0
    assert "each key is as it was when it was read" in capsys.readouterr().err
    assert StateManager("json:copy").load("k9") == 9
    assert main(["-s", "json:other", "import", keys_of(url)]) == 0
    assert "each key is as it was when it was read" in capsys.readouterr().err
    server.set("k9", "new")
    assert main(["migrate", keys_of(url), "json:copy"]) == 4
    assert "copied from there before" in capsys.readouterr().err
    assert main(["migrate", keys_of(url), "json:copy", "--force"]) == 0
    assert StateManager("json:copy").load("k9") == "new"


def test_stats_ask_for_each_key_once(url: str, server: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    server.mset({f"k{number}": "x" * number for number in range(1, 31)})
    ask, asked = RedisKeys._pipe, Counter[object]()

    def act(backend: RedisKeys, commands: list[Any]) -> list[Any]:
        asked.update(command[0] for command in commands)
        return ask(backend, commands)

    monkeypatch.setattr(RedisKeys, "_pipe", act)
    found = StateManager(keys_of(url), "default").stats()
    assert (found.keys, found.versions, found.largest[0].key) == (30, 0, "k30")
    assert asked == dict.fromkeys(("TYPE", "PTTL", "STRLEN", "GETRANGE"), 30)


def test_what_a_user_may_not_read_is_named_and_the_rest_is_read(url: str, server: redis.Redis) -> None:
    server.mset({"app:a": 1, "app:b": 2, "secret": 3})
    server.rpush("app:list", "x")

    def as_user(*rights: str) -> StateManager:
        server.execute_command("ACL", "SETUSER", "looker", "reset", "on", ">geheim", *rights)
        return StateManager(keys_of(url.replace("redis://", "redis://looker:geheim@")), "default", timeout=2)

    few = as_user("~app:*", "+scan", "+type", "+pttl", "+strlen", "+getrange", "+select", "+exists")
    assert few.load_many() == {
        "app:a": 1, "app:b": 2, "app:list": {"$opaque": {"type": "list that this user may not read"}},
        "secret": {"$opaque": {"type": "key that this user may not read"}},
    }  # fmt: skip
    assert [row.key for row in few.rows()] == ["app:a", "app:b", "app:list", "secret"]
    assert few.load("app:b") == 2
    assert few.doctor().ok
    assert as_user("~*", "+scan", "+select").load("app:a") == {"$opaque": {"type": "key that this user may not read"}}
    with pytest.raises(BackendError, match="scan"):
        as_user("~*", "+type", "+select").list_keys()


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
    told = f"stateview: {cut}: only the first 1"
    for words in (["keys", "-l", "1"], ["--format", "table", "stats"]):
        notes._said.clear()  # a note is printed once a process
        assert main(["-s", cut, *words]) == 0
        out, error = capfd.readouterr()
        assert (error.count(told), error.count("match=GLOB")) == (1, 1)
        assert ("counted among the first 1" in out) == (words[-1] == "stats")
        assert main(["-q", "-s", cut, *words]) == 0
        assert main(["-s", whole, *words]) == 0
        assert capfd.readouterr().err == ""
    source = StateManager(cut, "default", quiet=True)
    assert cast("TellsWhatIsCutOff", source.backend).cut_off() == ""  # it has read nothing yet
    asyncio.run(_status_of(source))


async def _status_of(manager: StateManager) -> None:
    async with Dashboard(manager, {}, None).run_test(size=(100, 30)) as pilot:
        await shown(pilot, "not all: the first 1")
        await shown(pilot, f"not all: {cast('TellsWhatIsCutOff', manager.backend).cut_off()}")


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
