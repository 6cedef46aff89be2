"""Deltas beside a release that knows none: a client of it that is open goes on, one that opens is told to upgrade."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import redis
from conftest import REDIS
from packed_history import Texts, deltas
from stress import stressed

from stateview import BackendError, StateManager
from stateview.backends.redis.connections import contact
from stateview.backends.redis.scripts.common import NAMES
from stateview.maintenance.history import iter_superseded

COMMIT = (Path(__file__).parents[2] / "data" / "redis_commit_format_1.lua").read_text()  # of the release before
KEYS = [f"stateview:{{ns}}:{name}" for name in NAMES]
HEAD = KEYS[0]


class OldClient:
    """A client of format 1 that has been open since before the first delta."""

    def __init__(self, client: Any, keep: int) -> None:
        self._commit = client.register_script(COMMIT)
        self._keep = keep
        self._number = 0

    def commit(self, writes: dict[str, str | None], **options: Any) -> int:
        """Make a commit; the revision after it."""
        self._number += 1
        record = json.dumps(["", "older", len(writes), 0, 0, 0])
        words: list[Any] = [json.dumps(options) if options else "", record, "session", self._number, self._keep]
        for key, value in writes.items():
            words += (key, "D", "") if value is None else (key, "", value)
        reply = self._commit(KEYS, words)
        assert isinstance(reply, bytes), reply
        return int(reply.split()[0])


@pytest.mark.parametrize(("seed", "acts"), [(3, 50), *stressed(*((seed, 200) for seed in range(5)))])
@pytest.mark.parametrize("kind", REDIS)
def test_an_open_client_of_the_release_before_commits_in_between(store_url: str, seed: int, acts: int) -> None:
    chance = random.Random(seed)
    history = chance.choice([5, 30, 1000])
    texts = Texts(chance)
    now: dict[str, Any] = {}
    marks: dict[str, dict[str, Any]] = {}
    packed = 0
    with redis.Redis.from_url(store_url) as client:
        states = [StateManager(store_url, "ns", history=history) for _ in range(2)]
        now["k"] = states[0].save("k", 1)
        old = OldClient(client, history)
        for number in range(acts):
            act, key, is_old, state = chance.random(), chance.choice("ab"), chance.random() < 0.4, chance.choice(states)
            if act < 0.7:
                value = json.loads(json.dumps(texts.next(key)))
                if is_old:
                    old.commit({key: json.dumps(value, separators=(",", ":"))})
                else:
                    state.save(key, value)
                now[key] = value
            elif act < 0.75:
                if key in now:
                    if is_old:
                        old.commit({key: None})
                    else:
                        state.delete(key)
                    del now[key]
            elif act < 0.88:
                if is_old:
                    old.commit({}, marks=[{"name": f"c{number}"}])
                else:
                    state.checkpoint(f"c{number}")
                marks[f"c{number}"] = dict(now)
            elif act < 0.92 and marks:
                name = chance.choice(list(marks))
                state.delete_checkpoint(name)
                del marks[name]
            elif act < 0.95:
                head = state.backend.head()
                state.backend.compact(chance.randint(head.floor, head.revision))
            elif marks:
                name = chance.choice(list(marks))
                assert state.load("a", None, at=name) == marks[name].get("a")
            packed = max(packed, len(deltas(store_url)))
        assert packed > 3
        for state in states:
            for _ in range(2):
                assert {entry.key: entry.value for entry in state.at("live").entries()} == now
                for name, content in marks.items():
                    assert {entry.key: entry.value for entry in state.at(name).entries()} == content, name
                assert [one for one in state.doctor().findings if one.severity == "error"] == []
                state.compact(state.revision)
            marked = {mark.revision for mark in state.backend.marks()}
            for one in iter_superseded(state.backend):  # what the older client's trim passed over is gone as well
                assert one.deleted or any(one.revision <= revision < one.until for revision in marked)
            assert state.recover().problems == ()
            state.close()


@pytest.mark.parametrize("kind", REDIS)
def test_a_client_of_the_release_before_is_told_to_upgrade(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["line " * 200 + str(number) for number in range(4)]
    with StateManager(store_url, "ns") as state, redis.Redis.from_url(store_url) as client:
        state.save("k", texts[0])
        assert client.hget(HEAD, "format") == b"1"  # nothing yet that it could not read
        for text in texts[1:]:
            state.save("k", text)
        assert deltas(store_url)
        assert client.hget(HEAD, "format") == b"2"
        assert client.hget(KEYS[1], "k").endswith(json.dumps(texts[-1]).encode())  # what is live stays as it was
    monkeypatch.setattr(contact, "NEWEST_FORMAT", 1)
    with StateManager(store_url, "ns") as older:
        for act in (lambda: older.load("k"), lambda: older.save("k", 1), older.list_checkpoints):
            with pytest.raises(BackendError, match="Upgrade stateview"):
                act()
