"""The contract suite on every backend there is."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
from conftest import REDIS
from plain_sqlite import plain_sqlite

from stateview.backends.jsonfile.backend import JSONBackend
from stateview.backends.key_ranges import prefix_end
from stateview.backends.protocol import CheckpointWrite, CommitRequest, Write
from stateview.testing import KEYS, BackendContract, Open, save, state


def folder(store: str, namespace: str) -> Path:
    return Path(store.partition(":")[2]) / namespace


def size_of_files(store: str, namespace: str) -> int:
    return sum(path.stat().st_size for path in folder(store, namespace).rglob("*") if path.is_file())


@pytest.mark.parametrize("prefix", ["", "a", "aa", "b" * 1024, "\x01", "\x7f", "\ud7ff", "\uffff", *KEYS])
def test_the_end_of_a_prefix_is_above_its_keys_and_no_others(prefix: str) -> None:
    end = prefix_end(prefix)
    keys = {*KEYS, prefix + "\x01", prefix + "\U0010ffff" * 9, prefix[:-1] + "\ue000", end + "\x01"} | ({end} - {""})
    assert {key for key in keys if key.startswith(prefix)} == {
        key for key in keys if prefix <= key and (not end or key < end)
    }
    end.encode()


class TestJSON(BackendContract):
    @pytest.fixture
    def store(self, new_store: Callable[[str], str]) -> str:
        return new_store("json")

    def stored(self, store: str, namespace: str, key: str) -> bytes | None:
        found = json.loads((folder(store, namespace) / "state.json").read_bytes())
        if key not in found:
            return None
        return json.dumps(found[key]["value"], ensure_ascii=False, separators=(",", ":")).encode()

    def damage(self, store: str, namespace: str, key: str) -> None:
        path = folder(store, namespace) / "state.json"
        stat = path.stat()
        path.write_bytes(path.read_bytes().replace(b'"value"\n', b'"valuf"\n').replace(b'"value",', b'"valuf",'))
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))

    size = staticmethod(size_of_files)


@pytest.mark.stress
class TestJSONWithoutCheckpointFiles(TestJSON):
    @pytest.fixture(autouse=True)
    def without_files(self, monkeypatch: pytest.MonkeyPatch) -> None:
        defaults = {**(JSONBackend.__init__.__kwdefaults__ or {}), "checkpoint_files": False}
        monkeypatch.setattr(JSONBackend.__init__, "__kwdefaults__", defaults)


class TestSQLite(BackendContract):
    @pytest.fixture
    def store(self, new_store: Callable[[str], str]) -> str:
        return new_store("sqlite")

    def stored(self, store: str, namespace: str, key: str) -> bytes | None:
        with plain_sqlite(folder(store, namespace) / "state.db") as db:
            value = db.execute("SELECT value FROM entries WHERE key = ?", (key,)).get
        return None if value is None else value.encode()

    def damage(self, store: str, namespace: str, key: str) -> None:
        with plain_sqlite(folder(store, namespace) / "state.db") as db:
            db.execute("UPDATE entries SET value = replace(value, 'u', 'v') WHERE key = ?", (key,))

    size = staticmethod(size_of_files)


@pytest.mark.parametrize("server", REDIS or ["redis"])
class TestRedis(BackendContract):
    @pytest.fixture
    def store(self, new_store: Callable[[str], str], server: str) -> str:
        return new_store(server)

    def connect(self, store: str) -> Any:
        """Return a client of redis-py."""
        return redis.Redis.from_url(store)

    def stored(self, store: str, namespace: str, key: str) -> bytes | None:
        with self.connect(store) as client:
            packed = client.hget(f"stateview:{{{namespace}}}:live", key)
        return None if packed is None else packed.split(b" ", 3)[3]

    def damage(self, store: str, namespace: str, key: str) -> None:
        with self.connect(store) as client:
            client.hset(f"stateview:{{{namespace}}}:live", key, "value")

    def size(self, store: str, namespace: str) -> int:
        with self.connect(store) as client:
            keys = list(client.scan_iter(f"stateview:{{{namespace}}}:*"))
            return sum(client.memory_usage(key, samples=0) for key in keys)

    def test_a_commit_that_is_sent_again_is_one_commit(self, opened: Open) -> None:
        one, other = opened(), opened()
        batch = CommitRequest(
            {"k": Write(b"1")}, {"k": 0}, marks=(CheckpointWrite("m", fresh=True),), token="0123456789abcdef"
        )
        first = one.commit(batch)
        save(other, "k", b"2")
        again = one.commit(batch)
        assert (first.revision, again.revision) == (1, 1)
        assert state(other) == {"k": b"2"}
        assert one.head().revision == 2
        assert [mark.revision for mark in one.marks()] == [0]
        marking = CommitRequest(marks=(CheckpointWrite("n"),), token="fedcba9876543210")
        one.commit(marking)
        save(other, "k", b"3")
        one.commit(marking)
        assert [(mark.name, mark.revision) for mark in one.marks()] == [("m", 0), ("n", 2)]
