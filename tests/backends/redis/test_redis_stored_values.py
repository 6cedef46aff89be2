"""Redis holds values in their stored form only: no reply and no dump of the server shows one, whatever was done.

`tests/backends/test_stored_values.py` runs the contract on the same stored form.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import redis
from conftest import REDIS
from wrapped_values import WRAPPED, WrappedValues

from stateview import StateManager
from stateview.backends import make_backend
from stateview.backends.protocol import SUMMARY_BYTES, Backend, StateAt
from stateview.backends.redis.backend import RedisBackend
from stateview.backends.stored_values import PLAIN, StoredValues
from stateview.errors import Damaged
from stateview.testing import delete, save, state
from stateview.transfer.migrate import migrate

SECRET = b"unmistakable"
LARGE = b'"' + b"ab" * 1_000_000 + b'"'  # in its stored form it is small
PREFIX = "stateview:{main}:"

each_server = pytest.mark.parametrize("server", REDIS or ["redis"])


@pytest.fixture
def url(new_store: Callable[[str], str], server: str) -> Iterator[str]:
    """An empty store on a server that does not compress the text of a DUMP."""
    url = new_store(server)
    with redis.Redis.from_url(url) as client:
        client.config_set("rdbcompression", "no")
        yield url
        client.config_set("rdbcompression", "yes")


def backend_of(url: str, values: StoredValues = WRAPPED) -> RedisBackend:
    return RedisBackend(url, url, "main", values=values)


def dumps(url: str) -> dict[bytes, bytes]:
    """Every key of the database, as the server writes it to its disk."""
    with redis.Redis.from_url(url) as client:
        return {key: client.dump(key) or b"" for key in client.scan_iter()}


def check_hidden(url: str) -> None:
    contents = dumps(url)
    assert any(b"visible" in content for content in contents.values())  # a key: the search looks where entries lie
    assert [key for key, content in contents.items() if SECRET in content or SECRET in key] == []


def text(number: int) -> dict[str, str]:
    return {"text": f"{SECRET.decode()} {number}"}


@each_server
@pytest.mark.parametrize("values", [WRAPPED, PLAIN], ids=["wrapped", "plain"])
def test_no_dump_shows_a_value(
    url: str, new_store: Callable[[str], str], server: str, values: StoredValues, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = check_hidden if values is WRAPPED else lambda _url: None
    monkeypatch.setattr("stateview.manager.make_backend", partial(make_backend, values=values))
    copy_url = new_store(server)
    with StateManager(url, "main") as manager, StateManager(copy_url, "main") as copy:
        manager.save("visible", text(1))
        manager.update("visible", lambda _value: text(2))
        manager.checkpoint("before")
        manager.save("visible", text(3), ttl=3600)
        manager.save("visible 2", text(4))
        manager.delete("visible 2")
        check(url)
        manager.restore_checkpoint("before")
        manager.undo()
        manager.redo()
        check(url)
        with manager.fork("other", at="before") as forked:
            forked.save("visible", text(5))
        migrate(manager.backend, copy.backend)
        manager.compact(manager.revision)
        assert manager.load("visible") == copy.load("visible", at="before") == text(2)
        assert [entry.value for entry in copy.history("visible")] == [text(n) for n in (2, 3, 2, 3, 2, 1)]
    check(url)
    check(copy_url)
    if values is PLAIN:  # the search finds what lies open
        assert any(SECRET in content for content in dumps(url).values())


@each_server
def test_while_a_copy_is_staged_no_dump_shows_a_value(url: str, server: str, new_store: Callable[[str], str]) -> None:
    source, backend = backend_of(new_store(server), PLAIN), backend_of(url)
    for number in range(3):
        save(source, "visible", b'{"text":"%b %d"}' % (SECRET, number))
    staged = backend.open_staging()
    staged.put(source.versions_page(), source.commits(), note={})
    check_hidden(url)
    assert state(staged.staged(source.head())) == state(source)
    staged.finish(source.head())
    check_hidden(url)
    assert backend.versions_page() == source.versions_page()


READS: dict[str, Callable[[Backend], Any]] = {
    "get": lambda backend: backend.get("k"),
    "read": lambda backend: backend.read(["k"]),
    "scan": lambda backend: backend.scan(),
    "list_keys": lambda backend: backend.list_keys(),
    "versions": lambda backend: backend.versions("k"),
    "versions_page": lambda backend: backend.versions_page(),
}


@each_server
@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_the_value_of_another_key_is_damaged(url: str, read: Callable[[Backend], Any]) -> None:
    backend = backend_of(url)
    save(backend, "k", b"1")
    save(backend, "other", b"2")
    read(backend)
    with redis.Redis.from_url(url) as client:
        client.hset(PREFIX + "live", "k", client.hget(PREFIX + "live", "other") or b"")
    backend.close()  # it forgets what it has read
    with pytest.raises(Damaged, match="not the value of this key"):
        read(backend)


@each_server
def test_a_superseded_value_of_another_key_is_damaged(url: str) -> None:
    backend = backend_of(url)
    for key in ("k", "other"):
        save(backend, key, b"1")
        delete(backend, key)
    with redis.Redis.from_url(url) as client:
        stored = client.hget(PREFIX + "history", b"other\0%016d" % 3) or b""
        client.hset(PREFIX + "history", b"k\0%016d" % 1, b"2" + stored[1:])
    past = StateAt(1, backend.now())
    for read in (
        backend.superseded, lambda: backend.versions("k"), backend.versions_page,
        lambda: backend.read(["k"], past), lambda: backend.scan(at=past), lambda: backend.list_keys(at=past),
    ):  # fmt: skip
        with pytest.raises(Damaged, match="not the value of this key"):
            read()


@each_server
def test_summaries_are_of_the_encoded_value(url: str) -> None:
    backend = backend_of(url)
    values = {"large": LARGE, "long": b'"' + b"x" * 500 + b'"', "short": b"[1,2]"}
    for key, value in values.items():
        save(backend, key, value)
        save(backend, key, value)
    save(backend, "short", b"0")
    for _ in range(2):  # the second time, large rows may come from memory
        rows = {row.key: (row.size, row.start) for row in backend.list_keys()}
        assert rows == {key: (len(value), value[:SUMMARY_BYTES]) for key, value in (values | {"short": b"0"}).items()}
    assert [(version.key, version.revision, version.size) for version in backend.superseded()] == [
        ("large", 1, len(LARGE)), ("long", 3, 502), ("short", 5, 5), ("short", 6, 5)
    ]  # fmt: skip


@each_server
def test_repeated_loads_unpack_a_value_once(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    unpacked: list[str] = []

    class Counting(WrappedValues):
        def unpack(self, stored: bytes, key: str, revision: int) -> bytes:
            unpacked.append(key)
            return super().unpack(stored, key, revision)

    backend = backend_of(url, Counting())
    save(backend, "k", b"1")
    deadline = time.monotonic() + 10
    while backend._link.tracking is None or backend._link.tracking.get("k") is None:  # its connection opens meanwhile
        assert time.monotonic() < deadline
        backend.get("k")
    unpacked.clear()
    for _ in range(5):
        version = backend.get("k")
        assert version is not None
        assert version.value == b"1"
    assert unpacked == []


@each_server
def test_a_commit_is_one_round_trip_in_every_form(url: str) -> None:
    for values in (WRAPPED, PLAIN):
        backend = RedisBackend(url, url, f"plain-{values.plain}", values=values)
        save(backend, "k", b"1")
        with redis.Redis.from_url(url) as client:
            client.ping()
            with client.monitor() as monitor:
                save(backend, "k", b"2")
                with redis.Redis.from_url(url) as other:
                    other.echo("done")
                sent = []
                while sent[-1:] != ["ECHO"]:
                    command = monitor.next_command()
                    if command["client_type"] != "lua":
                        sent.append(command["command"].split()[0])
        assert [name for name in sent if name not in ("CLIENT", "HELLO", "SELECT")] == ["EVALSHA", "ECHO"]
