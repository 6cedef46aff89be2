"""Encryption that is turned on, off and rotated in stores with data: every kept revision reads as before."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from contextlib import closing, suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest
from sealed_stores import KEY, open_sealed

from stateview import StateManager
from stateview.backends import open_backend
from stateview.backends.protocol import Backend, CheckpointWrite, CommitRequest, Write
from stateview.errors import KeyMissing, StateException
from stateview.maintenance.doctor import diagnose
from stateview.maintenance.encryption import decrypt, encrypt, key_status, rotate_data_key
from stateview.testing import save

KINDS = ["json", "sqlite"]
kinds = pytest.mark.parametrize("kind", KINDS)
WORD = "unmistakable"


class Stop(Exception):
    """What a progress callback raises."""


def no_progress(done: int, total: int) -> None:
    pass


def dump(backend: Backend) -> tuple[Any, ...]:
    versions, after = [], ("", 0)
    while page := backend.versions_page(after):
        versions += page
        after = (page[-1].key, page[-1].revision)
    superseded = [(one.key, one.revision, one.until, one.size) for one in backend.superseded(limit=10_000)]
    return versions, backend.commits(10_000), backend.marks(), backend.head().revision, superseded


def fill(url: str, count: int = 40) -> None:
    """Make a store with packed history, checkpoints, texts, an expiry and deletes, and with values in free space."""
    rng = Random(3)
    with StateManager(url, "main", author=f"{WORD} author") as state:
        messages = []
        for number in range(count):
            messages.append(f"{WORD} {rng.randbytes(60).hex()}")
            state.save("list", messages, reason=f"{WORD} {number}")
            state.save("small", f"{WORD} {number}")
            if number % 10 == 0:
                state.checkpoint("again", note=f"{WORD} note {number}")
        state.save("gone", WORD * 400)
        state.delete("gone")
        state.save("short-lived", WORD, ttl=3600)
        state.checkpoint("last", note=WORD)
        state.prune(keep=count)


def plain_files(url: str) -> list[str]:
    folder = Path(url.partition(":")[2])
    return sorted(path.name for path in folder.rglob("*") if path.is_file() and WORD.encode() in path.read_bytes())


def check_sound(backend: Backend) -> None:
    assert [finding.code for finding in diagnose(backend)] == []


@kinds
def test_every_revision_reads_as_before(store_url: str, kind: str) -> None:
    fill(store_url)
    with (
        closing(open_sealed(store_url)) as backend,
        closing(open_backend(store_url, "main")) as plain,
        closing(open_sealed(store_url)) as other,
    ):
        before = dump(plain)
        assert dump(other) == before
        assert encrypt(backend, KEY, "first", no_progress) > 100
        assert plain_files(store_url) == []
        for read in (lambda: plain.get("list"), lambda: dump(plain), plain.scan, lambda: plain.versions("list")):
            with pytest.raises(KeyMissing):
                read()
        for _ in range(2):
            assert dump(backend) == dump(other) == before
            check_sound(backend)
            ring = key_status(backend, KEY)
            assert (ring.state, ring.data_keys, ring.opens) == ("sealed", 1, True)
            rotate_data_key(backend, [KEY], no_progress)
        assert plain_files(store_url) == []
        assert decrypt(backend, KEY, no_progress) > 100
        assert dump(backend) == dump(other) == dump(plain) == before
        assert plain.get("small") == other.get("small") == backend.read(["small"])["small"]
        check_sound(plain)
        assert key_status(backend, KEY).state == "plain"
        save(plain, "small", b"1")
        if kind == "json":
            assert "last.json" in plain_files(store_url)


@kinds
def test_open_clients_learn_of_another_keyring(store_url: str, kind: str) -> None:
    fill(store_url, 3)
    with (
        closing(open_sealed(store_url)) as backend,
        closing(open_sealed(store_url)) as other,
        closing(open_backend(store_url, "main")) as plain,
    ):
        for _ in range(4):  # read from the cache at the end
            expected = plain.get("small")
            assert other.get("small") == expected
        encrypt(backend, KEY, "first", no_progress)
        assert other.get("small") == expected
        with pytest.raises(KeyMissing):
            plain.get("small")
        with pytest.raises(KeyMissing):
            save(plain, "small", b'"%s"' % WORD.encode())
        assert plain.list_keys()[0].sealed
        rotate_data_key(backend, [KEY], no_progress)
        save(other, "small", b'"%s other"' % WORD.encode())
        expected = backend.get("small")
        assert expected is not None
        assert expected == other.get("small")
        decrypt(backend, KEY, no_progress)
        assert plain.get("small") == other.get("small") == expected
        encrypt(backend, KEY, "again", no_progress)
        assert other.get("small") == expected  # under a data key that it has never seen
        assert plain_files(store_url) == []


@kinds
def test_a_snapshot_keeps_its_form(store_url: str, kind: str) -> None:
    fill(store_url, 3)
    with closing(open_sealed(store_url, timeout=0.2)) as backend, closing(open_sealed(store_url)) as other:
        before = dump(other)
        with other.snapshot() as snapshot:  # type: ignore[attr-defined]
            encrypt(backend, KEY, "first", no_progress)
            assert dump(snapshot) == before
        with other.snapshot() as snapshot:  # type: ignore[attr-defined]
            decrypt(backend, KEY, no_progress)
            assert dump(snapshot) == before
        assert dump(other) == before


def interrupted(act: Any, backend: Backend, step: int) -> bool:
    """Run an act that is stopped at a step; whether it was stopped."""
    left = step

    def stop(done: int, total: int) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise Stop

    with suppress(Stop):
        act(backend, stop)
        return False
    return True


ACTS: list[Any] = [
    lambda backend, progress: encrypt(backend, KEY, "first", progress),
    lambda backend, progress: rotate_data_key(backend, [KEY], progress),
    lambda backend, progress: decrypt(backend, KEY, progress),
]


@kinds
def test_an_act_that_is_stopped_is_repeated(store_url: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stateview.backends.sqlite.resealing.ROWS_PER_TRANSACTION", 30)
    fill(store_url, 20)
    backend = open_sealed(store_url)
    save_text = CommitRequest({"new": Write(b'"%s"' % (WORD.encode() * 60))}, reason=WORD)
    for number, act in enumerate(ACTS):
        step = 0
        while interrupted(act, backend, step):
            with closing(open_sealed(store_url)) as other:
                if step and not (number == 0 and kind == "json"):
                    other.commit(save_text)  # supersedes a value in the middle of the act
                before = dump(other)
                check_sound(other)
                assert dump(backend) == before
            step += 1
        assert step > 1
        assert dump(backend) == before
        assert (plain_files(store_url) == []) == (number < 2)
    backend.close()


def act_until_killed(url: str, number: int, step: int) -> None:
    def kill(done: int, total: int) -> None:
        nonlocal step
        step -= 1
        if step < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    ACTS[number](open_sealed(url), kill)


@pytest.mark.stress
@kinds
def test_a_killed_act_is_repeated(store_url: str, kind: str) -> None:
    fill(store_url, 120)
    context = multiprocessing.get_context("fork")
    backend = open_sealed(store_url)
    before = dump(backend)
    for number in range(3):
        for step in range(0, 8, 2):
            process = context.Process(target=act_until_killed, args=(store_url, number, step))
            process.start()
            process.join()
            assert dump(backend) == before
            check_sound(backend)
            if process.exitcode == 0:
                break
        else:
            ACTS[number](backend, no_progress)
        assert dump(backend) == before
        assert (plain_files(store_url) == []) == (number < 2)
    backend.close()


def count_up(url: str, key: str, turns: int) -> None:
    """Add to a counter, with the key, or without it while the namespace is plain."""
    backends = [open_sealed(url, timeout=30.0), open_backend(url, "main", timeout=30.0)]
    done = 0
    while done < turns:
        for backend in backends:
            with suppress(StateException):
                value = b'"%s %d"' % (WORD.encode() * 50, done)
                backend.commit(CommitRequest({key: Write(value)}, reason=WORD))
                done += 1
                break


@pytest.mark.stress
@kinds
def test_writers_go_on(store_url: str, kind: str) -> None:
    fill(store_url, 60)
    context = multiprocessing.get_context("fork")
    process = context.Process(target=count_up, args=(store_url, "process", 60))
    thread = threading.Thread(target=count_up, args=(store_url, "thread", 60))
    backend = open_sealed(store_url, timeout=30.0)
    first = backend.head().revision
    process.start()
    thread.start()
    for act in ACTS * 2:
        act(backend, no_progress)
    ACTS[0](backend, no_progress)
    process.join()
    thread.join()
    assert plain_files(store_url) == []
    assert backend.head().revision == first + 120
    for key in ("process", "thread"):
        values = [one.value for one in backend.versions(key, limit=1000)]
        assert values == [b'"%s %d"' % (WORD.encode() * 50, number) for number in reversed(range(60))]
    check_sound(backend)
    backend.close()


def interleave(url: str, seed: int, steps: int) -> None:
    """Run random acts, each maybe stopped, between commits; compare every kept version with what was written."""
    rng, backend, plain = Random(seed), open_sealed(url), open_backend(url, "main")
    save(plain, "k0", b"0")
    written: dict[tuple[str, int], bytes | None] = {("k0", 1): b"0"}
    for _ in range(steps):
        choice = rng.randrange(10)
        if choice < 6:
            key = f"k{rng.randrange(3)}"
            value = None if rng.random() < 0.1 else b'"%s"' % (rng.randbytes(8).hex() * rng.choice([1, 60])).encode()
            request = CommitRequest({key: Write(value)}, reason=WORD)
            writer = plain if key_status(backend, KEY).state == "plain" else backend
            written[key, writer.commit(request).revision] = value
            if rng.random() < 0.2:
                writer.commit(CommitRequest(marks=(CheckpointWrite(f"c{rng.randrange(3)}", WORD),)))
        elif choice == 6:
            backend.compact(max(0, backend.head().revision - 8))
        else:
            with suppress(StateException):  # an act that the state does not allow
                interrupted(ACTS[rng.randrange(3)], backend, rng.choice([0, 1, 2, 3, 100]))
        for version in dump(backend)[0]:
            assert version.value == written[version.key, version.revision]
    check_sound(backend)
    for one in (backend, plain):
        one.close()


@kinds
def test_any_interleaving(store_url: str, kind: str) -> None:
    interleave(store_url, 5, 25)


@pytest.mark.stress
@pytest.mark.parametrize("seed", range(7))
@kinds
def test_many_interleavings(store_url: str, kind: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stateview.backends.sqlite.resealing.ROWS_PER_TRANSACTION", 5)
    interleave(store_url, seed, 120)
