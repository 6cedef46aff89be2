"""Namespaces of an earlier format: read as they are, upgraded by the first write, and closed to the earlier release."""

from __future__ import annotations

import json
import lzma
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from conftest import REDIS
from stress import stressed

from stateview import BackendError, StateManager
from stateview.backends.redis.connections import contact
from stateview.backends.redis.scripts.common import NAMES
from stateview.sealing.keys import Secret, UserKey

DATA = Path(__file__).parents[2] / "data"
FIRST_COMMIT = (DATA / "redis_commit_format_1.lua").read_text()
EARLIER = [name.replace("writes", "touched") for name in NAMES[:-1]]  # the names of the keys before format 4
P = "stateview:{main}:"
KEYS = [P + name for name in EARLIER]
FORMATS = (1, 2, 3)


def key_of(number: int) -> str | None:
    """The key of the store of a format, which its make.py has."""
    return UserKey(Secret(bytes(range(32)))).printed() if number == 3 else None


class Earlier:
    """A namespace of an earlier format, and what the release that wrote it would do with it."""

    def __init__(self, url: str, client: Any, number: int) -> None:
        self.url, self.client, self.format = url, client, number
        if number == 1:
            self.states: dict[str, Any] = {}
            self.scripts = {"commit": FIRST_COMMIT}
            client.sadd("stateview:namespaces", "main")
            values: dict[str, Any] = {}
            for revision in range(1, 41):
                key = f"k{revision % 7}"
                self.commit(revision, {key: json.dumps(revision)}, marks=[{"name": f"c{revision}", "after": True}])
                values[key] = revision
                self.states[str(revision)] = dict(values)
        else:
            content = json.loads(lzma.decompress((DATA / "redis_formats" / f"{number}.json.xz").read_bytes()))
            self.states, self.scripts = content["states"], content["scripts"]
            with redis.Redis.from_url(url, encoding="latin-1") as writer:
                for command in content["commands"]:
                    writer.execute_command(*command)

    def commit(self, number: int, writes: dict[str, str], **options: Any) -> Any:
        if not self.client.exists(KEYS[0]):
            options["lineage"] = "a" * 32
        record = json.dumps(["", "earlier", len(writes), 0, 0, 0])
        words: list[Any] = [json.dumps(options) if options else "", record, "session", number, 1000]
        words += [] if self.format == 1 else [""]
        for key, value in writes.items():
            words += (key, "", value)
        return self.client.eval(self.scripts["commit"], len(KEYS), *KEYS, *words)

    def open(self, **options: Any) -> StateManager:
        return StateManager(self.url, "main", encryption_key=key_of(self.format), **options)

    def check(self, state: StateManager, since: int = 1) -> None:
        for revision, values in self.states.items():
            if int(revision) >= since:
                assert {entry.key: entry.value for entry in state.at(int(revision)).entries()} == values
        assert [one for one in state.doctor().findings if one.severity == "error"] == []

    def dump(self) -> dict[bytes, Any]:
        kinds = {key: self.client.type(key) for key in self.client.scan_iter()}
        reads = {b"hash": self.client.hgetall, b"set": self.client.smembers, b"zset": self._scored}
        return {key: reads[kind](key) for key, kind in kinds.items()}

    def _scored(self, key: bytes) -> Any:
        return self.client.zrange(key, 0, -1, withscores=True)


@pytest.fixture
def client(store_url: str) -> Iterator[Any]:
    with redis.Redis.from_url(store_url) as found:
        yield found


@pytest.fixture(params=FORMATS)
def earlier(request: pytest.FixtureRequest, store_url: str, client: Any) -> Earlier:
    return Earlier(store_url, client, request.param)


def stored_format(client: Any) -> int:
    return int(client.hget(P + "head", "format"))


@pytest.mark.parametrize("kind", REDIS)
def test_a_reader_reads_it_and_changes_nothing(earlier: Earlier) -> None:
    before = earlier.dump()
    with earlier.open(read_only=True) as state:
        earlier.check(state)
        last = max(map(int, earlier.states))
        assert len(state.log(limit=100)) == last
        for low in (1, last // 2, last - 1):
            old, new = earlier.states[str(low)], earlier.states[str(last)]
            changed = {key for key in old.keys() | new.keys() if old.get(key) != new.get(key)}
            assert {change.key for change in state.diff(low)} == changed
    assert earlier.dump() == before


FIRST_WRITES: dict[str, Callable[[StateManager], Any]] = {
    "save": lambda state: state.save("new", 1),
    "checkpoint": lambda state: state.checkpoint("new"),
    "compact": lambda state: state.compact(5),
    "recover": lambda state: state.recover(),
    "undo": lambda state: state.undo(),
    "delete": lambda state: state.delete(state.list_keys()[0]),
}


DEFAULT = [(1, "save"), (2, "compact"), (2, "undo"), (3, "recover")]
OTHERS = [(number, act) for number in FORMATS for act in FIRST_WRITES if (number, act) not in DEFAULT]


@pytest.mark.parametrize("kind", REDIS)
@pytest.mark.parametrize(("earlier", "act"), [*DEFAULT, *stressed(*OTHERS)], indirect=["earlier"])
def test_the_first_write_upgrades_it(earlier: Earlier, client: Any, act: str) -> None:
    with earlier.open() as state:
        FIRST_WRITES[act](state)
        assert stored_format(client) == (5 if earlier.format == 3 else 4)
        assert client.type(P + "touched") == b"hash"
        earlier.check(state, 5)
        for number in range(30):
            state.save(f"more/{number:02}", number)
            state.save(f"more/{number:02}", -number)
        earlier.check(state, 5)
        assert state.compact(5) == 0 or act != "compact"
        assert client.zcard(P + "hindex") < client.hlen(P + "history") / 5
        assert client.zcard(P + "writes") < state.revision / 5
        earlier.check(state, 5)
        assert state.recover().problems == ()


@pytest.mark.parametrize("kind", REDIS)
def test_an_open_client_of_that_release_goes_on_until_then_and_is_refused_after(earlier: Earlier, client: Any) -> None:
    last = max(map(int, earlier.states))
    with earlier.open() as state:
        assert state.revision == last
        if earlier.format != 3:
            assert isinstance(earlier.commit(1000, {"theirs": "1"}), bytes)
            assert state.load("theirs") == 1
        state.save("ours", 1)
        before = earlier.dump()
        with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
            earlier.commit(1001, {"theirs": "2"})
        if "changed" in earlier.scripts:
            words = ["", 1, 0, last, 0, "", 10]
            with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
                client.eval(earlier.scripts["changed"], len(KEYS), *KEYS, *words)
        assert earlier.dump() == before
        earlier.check(state)


@pytest.mark.parametrize("kind", REDIS)
def test_a_client_of_the_release_before_is_told_to_upgrade(
    store_url: str, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with StateManager(store_url, "main") as state:
        state.save("k", 1)
        assert stored_format(client) == 4
        assert client.hget(P + "live", "k").endswith(b" 0 1")  # what is live stays as it was
    monkeypatch.setattr(contact, "NEWEST_FORMAT", 3)
    with StateManager(store_url, "main") as older:
        for act in (lambda: older.load("k"), lambda: older.save("k", 1), older.list_checkpoints):
            with pytest.raises(BackendError, match="Upgrade stateview"):
                act()
