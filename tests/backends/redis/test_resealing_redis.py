"""Encryption of a Redis namespace is turned on, off and renewed while others read and write it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from random import Random
from typing import Any

import pytest
import redis
from conftest import REDIS
from sealed_stores import KEY, OTHER_KEY

from stateview import StateManager
from stateview.backends import make_backend
from stateview.backends.protocol import StateAt
from stateview.backends.redis import packing, resealing
from stateview.backends.redis.backend import RedisBackend
from stateview.backends.sealed_values import KeyedValues
from stateview.errors import InvalidArgument, KeyMissing
from stateview.maintenance import encryption
from stateview.testing import save

WORD = b"unmistakable"
SERVERS = REDIS[:1] if isinstance(REDIS, list) else [*REDIS][:1]


@pytest.fixture
def url(new_store: Callable[[str], str]) -> Iterator[str]:
    """An empty store on a server that does not compress the text of a DUMP."""
    url = new_store((SERVERS or ["redis"])[0])
    with redis.Redis.from_url(url) as client:
        client.config_set("rdbcompression", "no")
        yield url
        client.config_set("rdbcompression", "yes")


@pytest.fixture(autouse=True)
def small_bites(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resealing, "BITE_BYTES", 3000)


def backend_of(url: str) -> RedisBackend:
    return RedisBackend(url, url, "main", values=KeyedValues(KEY))


def managed(url: str, monkeypatch: pytest.MonkeyPatch) -> StateManager:
    with monkeypatch.context() as patch:
        patch.setattr("stateview.manager.make_backend", partial(make_backend, values=KeyedValues(KEY)))
        return StateManager(url, "main")


def fill(url: str, steps: int = 25) -> None:
    """Write packed history, notes, reasons, authors, keys that expire, and deletes."""
    chance, messages = Random(3), []
    with StateManager(url, "main", author=WORD.decode()) as state:
        for number in range(steps):
            messages.append(f"{WORD.decode()} {chance.randbytes(40).hex()}")
            state.save("list", messages, reason=f"{WORD.decode()} {number}")
            state.save(f"k{number % 4}", {"text": f"{WORD.decode()} {number}"}, ttl=3600 if number % 3 else None)
            if number % 7 == 0:
                state.checkpoint(f"c{number}", note=WORD.decode() if number else "")
                state.delete(f"k{number % 4}")
        state.save("like", {"$sealed": "AQIDBAUG"})


def content(backend: Any) -> tuple[Any, ...]:
    """All that a namespace shows, by every read."""
    versions, after = [], ("", 0)
    while page := backend.versions_page(after):
        versions += page
        after = (page[-1].key, page[-1].revision)
    keys = sorted({version.key for version in versions})
    head = backend.head()
    with backend.snapshot(whole=True) as copy:
        copied = copy.scan(), copy.marks(), copy.commits()
    past = StateAt(head.revision // 2, head.time)
    return (
        versions, [backend.versions(key) for key in keys], backend.commits(), backend.marks(), backend.scan(),
        backend.read(keys), [backend.get(key) for key in keys], backend.list_keys(), backend.scan(at=past),
        backend.list_keys(at=past), copied, backend.superseded()[0].key, head,
    )  # fmt: skip


def shown(url: str) -> bool:
    with redis.Redis.from_url(url) as client:
        return any(WORD in (client.dump(key) or b"") for key in client.scan_iter())


def head_of(url: str) -> dict[bytes, bytes]:
    with redis.Redis.from_url(url) as client:
        return client.hgetall("stateview:{main}:head")


def check_sound(url: str) -> None:
    backend = backend_of(url)
    assert [one for one in backend.diagnose(lambda _text: None) if one.severity == "error"] == []
    backend.close()


def ignore(_done: int, _total: int) -> None:
    pass


def rotate(backend: Any, progress: Any) -> int:
    return encryption.rotate_data_key(backend, [KEY], progress)


def encrypt(backend: Any, progress: Any) -> int:
    return encryption.encrypt(backend, KEY, "first", progress)


def decrypt(backend: Any, progress: Any) -> int:
    return encryption.decrypt(backend, KEY, progress)


def test_encryption_on_renewed_and_off_changes_no_read(url: str) -> None:
    fill(url)
    plain, early = RedisBackend(url, url, "main"), backend_of(url)
    before = content(plain)
    assert shown(url)
    format_before = head_of(url)[b"format"]
    for act in (encrypt, rotate):
        backend = backend_of(url)
        assert act(backend, ignore) > 80
        assert backend.reseal(ignore) == 0
        backend.close()
        assert not shown(url)
        assert head_of(url)[b"format"] == b"5"
        assert content(early) == before  # it knew another keyring
        check_sound(url)
    for read in (lambda: plain.get("list"), lambda: plain.versions("list"), lambda: plain.read(["list"])):
        with pytest.raises(KeyMissing):
            read()
    assert all(row.sealed for row in plain.list_keys())
    backend = backend_of(url)
    assert decrypt(backend, ignore) > 80
    backend.close()
    assert b"keyring" not in head_of(url)
    assert head_of(url)[b"format"] == format_before == b"4"
    for reader in (plain, early):
        assert content(reader) == before
        reader.close()
    check_sound(url)


def test_a_call_that_was_stopped_anywhere_is_repeated(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(url, 12)
    backend, reader = backend_of(url), backend_of(url)
    before = content(backend)

    class Stopped(Exception):
        pass

    for act in (encrypt, rotate, decrypt):
        for stop in (1, 3, 8, 20):
            calls = 0

            def progress(_done: int, _total: int, stop: int = stop) -> None:
                nonlocal calls
                calls += 1
                if calls == stop:
                    raise Stopped

            with suppress(Stopped):
                act(backend, progress)
                break
            assert content(reader) == before
            sent = backend._eval

            def failing(script: str, *words: Any, sent: Any = sent) -> Any:
                reply = sent(script, *words)
                if script is resealing.RESEAL:
                    raise Stopped
                return reply

            with monkeypatch.context() as patch, suppress(Stopped):
                patch.setattr(backend, "_eval", failing)
                act(backend, ignore)
            assert content(reader) == before
        with suppress(ValueError):  # it was complete already
            act(backend, ignore)
        assert content(reader) == before
        assert shown(url) == (act is decrypt)
        check_sound(url)
    backend.close()
    reader.close()


@pytest.mark.parametrize("cached", [True, pytest.param(False, marks=pytest.mark.stress)])
def test_others_go_on_meanwhile_and_lose_nothing(url: str, cached: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(url, 12)
    if not cached:
        monkeypatch.setattr(
            "stateview.backends.redis.connections.read_cache.InvalidationCache.generation", lambda _self: None
        )
    writers = [StateManager(url, "main"), managed(url, monkeypatch)]
    writers[0].load("list")
    writers[0].save("count", 0)
    ended, problems, counts = threading.Event(), [], [0]

    def write() -> None:
        writer = writers[1]
        chance = Random(5)
        while not ended.is_set():
            try:
                writer.update("count", lambda value: value + 1)
                counts[0] += 1
                text = f"{WORD.decode()} {chance.randbytes(300).hex()}"
                writer.save("own", {"text": text}, reason=WORD.decode())
                loaded: Any = writer.load("own")
                assert loaded["text"] == text
            except BaseException as error:
                problems.append(error)
                return

    backend = backend_of(url)
    encryption._change(
        backend, lambda _ring: encryption.keyring.create("a" * 32, KEY, "first", datetime.now(UTC), "sealing")
    )
    thread = threading.Thread(target=write)
    thread.start()
    try:
        encrypt(backend, ignore)
        for _ in range(3):
            rotate(backend, ignore)
            assert not shown(url)
        encryption._change(backend, lambda ring: encryption._with_state(backend, ring, KEY, "unsealing"))
        backend.reseal(ignore)
    finally:
        ended.set()
        thread.join()
    assert problems == []
    decrypt(backend, ignore)
    assert counts[0] > 0
    check_sound(url)
    assert writers[0].load("count") == counts[0]  # it opened the namespace when that was plain
    writers[0].save("count", -1)
    for writer in writers:
        writer.close()
    backend.close()


def test_who_knows_another_keyring_writes_in_the_present_form(url: str) -> None:
    fill(url, 3)
    plain, early, backend = RedisBackend(url, url, "main"), backend_of(url), backend_of(url)
    with StateManager(url, "main") as state:
        state.load("list")
        encrypt(backend, ignore)
        with pytest.raises(KeyMissing):
            state.save("list", WORD.decode())
        with pytest.raises(KeyMissing):
            state.checkpoint("late", note=WORD.decode())
    early.head()
    for _ in range(2):
        rotate(backend, ignore)
        save(early, "k0", b'"%b"' % WORD)  # under the new data key
        assert backend.reseal(ignore) == 0
        assert backend.get("k0").value == b'"%b"' % WORD  # type: ignore[union-attr]
    encryption.add_key(backend, KEY, OTHER_KEY, "second")
    assert early.get("k0").value == b'"%b"' % WORD  # type: ignore[union-attr]
    assert not shown(url)
    encryption._change(backend, lambda ring: encryption._with_state(backend, ring, KEY, "unsealing"))
    save(early, "k0", b'"in between"')
    with redis.Redis.from_url(url) as client:
        assert (client.hget("stateview:{main}:live", "k0") or b"").endswith(b'"in between"')
    assert backend.get("k0").value == b'"in between"'  # type: ignore[union-attr]
    decrypt(backend, ignore)
    assert save(plain, "k0", b"1").revision == backend.head().revision
    with pytest.raises(InvalidArgument):  # a key, and plain data
        save(early, "k0", b"2")
    for one in (plain, early, backend):
        one.close()


def test_encryption_keeps_the_size_of_the_history(url: str) -> None:
    fill(url, 60)
    backend = backend_of(url)
    with redis.Redis.from_url(url) as client:
        before = client.memory_usage("stateview:{main}:history", samples=0)
        encrypt(backend, ignore)
        assert client.memory_usage("stateview:{main}:history", samples=0) < 1.6 * before
    backend.close()


@pytest.mark.parametrize("rounds", [1, pytest.param(15, marks=pytest.mark.stress)])
def test_every_read_is_right_at_every_moment(url: str, rounds: int) -> None:
    fill(url, 10)
    backend, readers = backend_of(url), [backend_of(url) for _ in range(2)]
    before = content(backend)
    ended, problems = threading.Event(), []

    def read(reader: RedisBackend) -> None:
        while not ended.is_set():
            try:
                assert content(reader) == before
            except BaseException as error:
                problems.append(error)
                return

    threads = [threading.Thread(target=read, args=(reader,)) for reader in readers]
    for thread in threads:
        thread.start()
    try:
        for _ in range(rounds):
            for act in (encrypt, rotate, rotate, decrypt):
                act(backend, ignore)
                assert content(backend) == before
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert problems == []
    for one in (backend, *readers):
        one.close()


def test_packing_that_began_before_writes_nothing_plain(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = Random(3)
    for _ in range(6):  # each client knows no version before its own, and sends no delta
        plain = RedisBackend(url, url, "main")
        save(plain, "list", b'"%b %b"' % (WORD, chance.randbytes(50).hex().encode() * 20))
        plain.close()
    plain, backend = RedisBackend(url, url, "main"), backend_of(url)
    before = content(plain)
    sent = plain._eval

    def late(script: str, *words: Any) -> Any:
        if script is packing.PACK and backend.keyring() is None:
            encrypt(backend, ignore)
        return sent(script, *words)

    monkeypatch.setattr(plain, "_eval", late)
    packing.tend(plain, b"list")
    assert backend.keyring() is not None
    assert not any(record.startswith(b"*") for record in history(url))
    assert backend.reseal(ignore) == 0
    assert content(backend) == before
    monkeypatch.setattr(plain, "_eval", sent)
    decrypt(backend, ignore)
    packing.tend(plain, b"list")
    assert any(record.startswith(b"*") for record in history(url))
    assert content(backend) == before
    plain.close()
    backend.close()


def history(url: str) -> list[bytes]:
    with redis.Redis.from_url(url) as client:
        return list(client.hvals("stateview:{main}:history"))
