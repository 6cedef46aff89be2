"""Values in a stored form that is not the encoded value: the contract holds, and no stored byte shows a value."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis
import test_contract
from conftest import REDIS
from plain_sqlite import plain_sqlite
from wrapped_values import WRAPPED

from stateview import StateManager
from stateview.backends import make_backend, open_backend
from stateview.backends.jsonfile.backend import JSONBackend
from stateview.backends.protocol import Backend, CheckpointWrite, CommitRequest
from stateview.errors import Damaged
from stateview.maintenance.recovery import recover
from stateview.testing import Open, save, state
from stateview.transfer.migrate import migrate


class _Wrapped:
    def open(self, store: str, namespace: str, **options: Any) -> Backend:
        return open_backend(store, namespace, values=WRAPPED, **options)

    def stored(self, store: str, namespace: str, key: str) -> bytes | None:
        stored = super().stored(store, namespace, key)  # type: ignore[misc]
        return None if stored is None else WRAPPED.unpack(stored, key, 0)

    @pytest.mark.parametrize("seed", [0])  # the other seeds try the history, on plain values
    def test_forgetting_keeps_what_checkpoints_see(self, backend: Backend, opened: Open, seed: int) -> None:
        super().test_forgetting_keeps_what_checkpoints_see(backend, opened, seed)  # type: ignore[misc]


class TestJSON(_Wrapped, test_contract.TestJSON):
    def damage(self, store: str, namespace: str, key: str) -> None:
        path = test_contract.folder(store, namespace) / "state.json"
        stat = path.stat()
        path.write_bytes(path.read_bytes().replace(b'"value": "e', b'"value": "f'))
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


class TestSQLite(_Wrapped, test_contract.TestSQLite):
    def damage(self, store: str, namespace: str, key: str) -> None:
        with plain_sqlite(test_contract.folder(store, namespace) / "state.db") as db:
            db.execute("UPDATE entries SET value = replace(value, 'e', 'f') WHERE key = ?", (key,))


class TestRedis(_Wrapped, test_contract.TestRedis):
    pass


kinds = pytest.mark.parametrize("kind", ["json", "sqlite", *(REDIS or ["redis"])])


def everything(url: str) -> Iterator[tuple[str, bytes]]:
    """All that a store holds: its files, or the keys and values of a Redis server."""
    scheme, _, path = url.partition(":")
    if scheme in ("json", "sqlite"):
        for file in Path(path).rglob("*"):
            if file.is_file():
                yield str(file), file.read_bytes()
        return
    read: dict[bytes, Callable[[redis.Redis, bytes], object]] = {
        b"string": lambda client, key: client.get(key),
        b"hash": lambda client, key: client.hgetall(key),
        b"list": lambda client, key: client.lrange(key, 0, -1),
        b"set": lambda client, key: client.smembers(key),
        b"zset": lambda client, key: client.zrange(key, 0, -1),
        b"stream": lambda client, key: client.xrange(key),
    }
    with redis.Redis.from_url(url) as client:
        for key in client.scan_iter():
            yield key.decode(), repr(read[client.type(key)](client, key)).encode()


def check_hidden(url: str) -> None:
    contents = list(everything(url))
    assert any(b"visible" in content for _, content in contents)  # a key: the search looks where entries lie
    assert [name for name, content in contents if b"unmistakable" in content] == []


@kinds
def test_no_stored_byte_shows_a_value(
    store_url: str, new_store: Callable[[str], str], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stateview.manager.make_backend", partial(make_backend, values=WRAPPED))
    other_url = new_store(kind)
    with StateManager(store_url, "main") as manager:
        manager.save("visible", {"text": "unmistakable first"})
        manager.save("visible", {"text": "unmistakable second"}, ttl=3600)
        manager.checkpoint("before")
        manager.update("visible", lambda value: {**value, "more": "unmistakable third"})
        manager.save("another visible", ["unmistakable fourth"])
        check_hidden(store_url)
        manager.restore_checkpoint("before")
        check_hidden(store_url)
        assert manager.load("visible") == {"text": "unmistakable second"}
        with manager.fork("other", at="before") as forked:
            assert forked.load("visible") == {"text": "unmistakable second"}
            forked.delete("visible")
        check_hidden(store_url)
        manager.compact(manager.revision)
        for number in range(3):  # large enough for deltas
            manager.save("large visible", ["unmistakable", number, random.Random(0).randbytes(2000).hex()])
        with StateManager(other_url, "main") as copy:
            migrate(manager.backend, copy.backend)
        check_hidden(store_url)
        assert manager.recover().ok
        assert manager.doctor().ok
        check_hidden(store_url)
    check_hidden(other_url)
    with StateManager(other_url, "main") as copy:
        assert copy.load("visible", at="before") == {"text": "unmistakable second"}
        assert [version.value[1] for version in copy.history("large visible")] == [2, 1, 0]
        assert copy.history("visible")[0].value == {"text": "unmistakable second"}
        assert copy.doctor().ok


@kinds
def test_a_value_that_was_stored_in_another_form_is_damaged(store_url: str) -> None:
    plain = open_backend(store_url, "main")
    save(plain, "k", b'"plain"')
    plain.close()
    backend = open_backend(store_url, "main", values=WRAPPED)
    with pytest.raises(Damaged):
        backend.get("k")
    save(backend, "k", b"1")
    assert state(backend) == {"k": b"1"}
    backend.close()
    assert open_backend(store_url, "main").get("k").value == WRAPPED.pack(b"1", "k", 1)  # type: ignore[union-attr]


def edit(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change a state.json as a person does, later than it was written."""
    content = json.loads(path.read_bytes())
    change(content)
    path.write_text(json.dumps(content))
    later = path.stat().st_mtime_ns + 1_000_000_000
    os.utime(path, ns=(later, later))


def test_an_edit_by_hand_is_in_the_stored_form(tmp_path: Path) -> None:
    backend = JSONBackend(str(tmp_path), "main", values=WRAPPED)
    save(backend, "k", b"1")
    path = tmp_path / "main" / "state.json"
    before = path.read_bytes()
    edit(path, lambda content: content["k"].update(value=json.loads(WRAPPED.pack(b"2", "k", 2))))
    assert (backend.get("k").value, backend.head().revision) == (b"2", 2)  # type: ignore[union-attr]
    for wrong in (3, "text", json.loads(WRAPPED.pack(b"2", "other", 2))):
        edit(path, lambda content, wrong=wrong: content["k"].update(value=wrong))  # type: ignore[misc]
        with pytest.raises(Damaged, match="the entry 'k'"):
            backend.get("k")
    path.write_bytes(before)
    edit(path, lambda content: content.update(l=dict(content.pop("k"), value=json.loads(WRAPPED.pack(b"3", "l", 3)))))
    assert state(backend) == {"l": b"3"}


def test_data_of_an_older_layout_is_packed_when_it_is_taken_in(tmp_path: Path) -> None:
    folder = tmp_path / "main"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "state.json").write_text('{"visible": {"value": "unmistakable", "timestamp": "2026-01-31T09:00:00"}}')
    for read_only in (True, False):
        backend = JSONBackend(str(tmp_path), "main", values=WRAPPED, read_only=read_only)
        assert state(backend) == {"visible": b'"unmistakable"'}
    save(backend, "k", b"1")
    check_hidden(f"json:{tmp_path}")


def test_recovered_values_keep_their_stored_form(tmp_path: Path) -> None:
    backend = JSONBackend(str(tmp_path), "main", values=WRAPPED)
    for number in range(6):
        save(backend, "visible", b'"unmistakable %d"' % number)
        save(backend, f"k{number}", b"1")
    backend.commit(CommitRequest(marks=(CheckpointWrite("one"),)))
    path = Path(backend.history_path)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[4] = lines[4].replace(b'"rev"', b'"rex"')
    path.write_bytes(b"".join(lines))
    before = state(backend)
    recover(backend)
    for reader in (backend, JSONBackend(str(tmp_path), "main", values=WRAPPED)):
        assert state(reader) == before
        values = [version.value for version in reader.versions("visible")]
        assert values[0] == b'"unmistakable 5"'
        assert all(value is None or value.startswith(b'"unmistakable') for value in values)
    check_hidden(f"json:{tmp_path}")
