"""Namespaces that are sealed with a key: the contract holds, and no byte that is stored shows what was written."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from random import Random
from typing import Any

import pytest
import test_contract
from conftest import REDIS
from plain_sqlite import plain_sqlite
from sealed_stores import KEY, OTHER_KEY, open_sealed, unsealed
from test_stored_values import check_hidden

from stateview import StateManager
from stateview.backends import make_backend, open_backend
from stateview.backends.protocol import Backend, CheckpointWrite, CommitRequest, StateAt, Write
from stateview.backends.sealed_values import KeyedValues
from stateview.backends.sqlite.connections import page_checksums
from stateview.backends.stored_values import PLAIN, StoredValues
from stateview.errors import BackendError, Conflict, Damaged, KeyMissing, KeyWrong
from stateview.maintenance.doctor import diagnose
from stateview.sealing import keyring
from stateview.testing import Open, delete, save


class _Sealed:
    def open(self, store: str, namespace: str, **options: Any) -> Backend:
        return open_sealed(store, namespace, **options)

    def stored(self, store: str, namespace: str, key: str) -> bytes | None:
        stored = super().stored(store, namespace, key)  # type: ignore[misc]
        return None if stored is None else unsealed(store, namespace, key, stored)

    @pytest.mark.parametrize("seed", [0])  # the other seeds try the history, on plain values
    def test_forgetting_keeps_what_checkpoints_see(self, backend: Backend, opened: Open, seed: int) -> None:
        super().test_forgetting_keeps_what_checkpoints_see(backend, opened, seed)  # type: ignore[misc]


@pytest.mark.stress  # test_stored_values runs the contract on another stored form
class TestSQLite(_Sealed, test_contract.TestSQLite):
    def damage(self, store: str, namespace: str, key: str) -> None:
        with plain_sqlite(test_contract.folder(store, namespace) / "state.db") as db:
            db.execute("UPDATE entries SET value = replace(value, 'A', 'B') WHERE key = ?", (key,))


@pytest.mark.stress
class TestJSON(_Sealed, test_contract.TestJSON):
    def damage(self, store: str, namespace: str, key: str) -> None:
        path = test_contract.folder(store, namespace) / "state.json"
        stat = path.stat()
        path.write_bytes(path.read_bytes().replace(b'"$sealed": "A', b'"$sealed": "B'))
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


@pytest.mark.stress
class TestRedis(_Sealed, test_contract.TestRedis):
    pass


# --- what is stored ----------------------------------------------------------------------------------------------

kinds = pytest.mark.parametrize("kind", ["json", "sqlite", *(REDIS or ["redis"])])
SERVER_SETTINGS = ("no-persistence", "no-fsync", "eviction", "old-server")
WORD = b"unmistakable"


def growing(state: StateManager, count: int = 60) -> list[dict[str, str]]:
    """Save a list that grows by messages which do not compress."""
    rng, messages = Random(7), []
    for number in range(count):
        messages.append({"text": f"{WORD.decode()} {rng.randbytes(150).hex()}"})
        state.save("visible", messages, reason=f"{WORD.decode()} {number}")
    return messages


@kinds
def test_no_stored_byte_shows_what_was_written(store_url: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stateview.manager.make_backend", partial(make_backend, values=KeyedValues(KEY)))
    with StateManager(store_url, "main", author=WORD.decode()) as state:
        messages = growing(state)
        state.checkpoint("before", note=WORD.decode())
        state.save("visible", {"more": [WORD.decode()] * 50}, ttl=3600)
        check_hidden(store_url)
        state.restore_checkpoint("before")
        with state.fork("other", at="before") as forked:
            forked.delete("visible", reason=WORD.decode())
        state.compact(20)
        check_hidden(store_url)
        assert [entry.value for entry in state.history("visible")][2:5] == [messages, messages[:-1], messages[:-2]]
        assert state.log()[-1].author == WORD.decode()
        assert [one.reason for one in state.log(grep=f"{WORD.decode()} 59")] == [f"{WORD.decode()} 59"]
        assert state.checkpoints()[0].note == WORD.decode()
        assert state.recover().ok
        assert state.doctor().ok
    check_hidden(store_url)


@kinds
def test_packed_history_keeps_its_ratio(store_url: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stateview.manager.make_backend", partial(make_backend, values=KeyedValues(KEY)))
    with StateManager(store_url, "main") as state:
        messages = growing(state, 150)
        state.compact(0)  # SQLite: the log is written back
        usage, version = state.backend.disk_usage(), state.backend.get("visible")
        assert usage is not None and version is not None and version.value is not None
        assert usage.total <= 4 * len(version.value)
        for entry in state.history("visible", limit=200):
            assert entry.value == messages[: entry.revision]


class _Raw(StoredValues):
    """Stored forms as they are, for who can write to a store and has no key."""

    plain, sealed = False, True

    def opened(self, keyring: bytes | None) -> StoredValues:
        return self


def raw(url: str, namespace: str = "main") -> Backend:
    return open_backend(url, namespace, values=_Raw())


@kinds
def test_a_form_in_another_place_is_damaged(store_url: str, kind: str) -> None:
    sealed, thief, other = open_sealed(store_url), raw(store_url), open_sealed(store_url, "other")
    save(other, "a", b'"first"')
    save(sealed, "a", b'"first"')
    save(sealed, "a", b'"second"')
    old, new = (thief.versions("a")[place].value or b"" for place in (1, 0))
    flipped = new[:60] + (b"A" if new[60:61] != b"A" else b"B") + new[61:]
    short = b'{"$sealed":"AQ=="}'
    for key, form in (("b", new), ("a", old), ("a", new), ("c", flipped), ("c", b'"plain"'), ("c", short)):
        if kind == "sqlite" and form == b'"plain"':
            with pytest.raises(BackendError):  # a trigger refuses it
                save(thief, key, form)
            continue
        save(thief, key, form)
        sealed.close()
        for read in (
            lambda key=key: sealed.get(key), lambda key=key: sealed.read([key]), sealed.scan, sealed.list_keys,
            lambda key=key: sealed.versions(key),
        ):  # fmt: skip
            with pytest.raises(Damaged):
                read()
        save(sealed, key, b"1")  # what is damaged can be overwritten
        assert sealed.get(key).value == b"1"  # type: ignore[union-attr]
    elsewhere = raw(store_url, "other")
    save(elsewhere, "a", old)
    with pytest.raises(Damaged):
        open_sealed(store_url, "other").get("a")
    for backend in (sealed, thief, other, elsewhere):
        backend.close()


@kinds
def test_a_text_in_another_place_is_damaged(store_url: str, kind: str) -> None:
    sealed, thief = open_sealed(store_url), raw(store_url)
    sealed.commit(CommitRequest({"k": Write(b"1")}, reason="reason", author="author"))
    sealed.commit(CommitRequest(marks=(CheckpointWrite("m", "note"),)))
    (commit,), (mark,) = thief.commits(), thief.marks()
    thief.commit(CommitRequest({"k": Write(b'{"$sealed":""}')}, reason=commit.reason))
    thief.commit(CommitRequest(marks=(CheckpointWrite("other", mark.note),)))
    for read in (sealed.commits, sealed.marks):
        with pytest.raises(Damaged):
            read()
    sealed.close()
    thief.close()


@pytest.mark.parametrize("kind", ["sqlite"])
def test_a_delta_in_another_place_is_damaged(store_url: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stateview.manager.make_backend", partial(make_backend, values=KeyedValues(KEY)))
    with StateManager(store_url, "main") as state:
        growing(state, 10)
        state.close()
        with closing(page_checksums.connect(str(test_contract.folder(store_url, "main") / "state.db"))) as db:
            db.execute("UPDATE packed SET data = (SELECT data FROM packed WHERE revision = 8) WHERE revision = 7")
        assert len(state.history("visible", limit=3)) == 3
        with pytest.raises(Damaged):
            state.history("visible", limit=4)
        with pytest.raises(Damaged):
            state.load("visible", at=6)  # by the delta of 7
        assert [finding.code for finding in state.doctor().findings][:1] == ["damaged-rows"]


@kinds
def test_without_its_key_names_are_listed_and_nothing_is_written(store_url: str, kind: str) -> None:
    sealed = open_sealed(store_url)
    value = b'"%s"' % (b"x" * 3000)
    sealed.commit(CommitRequest({"k": Write(value)}, reason="reason", marks=(CheckpointWrite("m", "note"),)))
    save(sealed, "k", b"1")
    head = sealed.head()
    for values, error in ((PLAIN, KeyMissing), (KeyedValues(OTHER_KEY), KeyWrong)):
        backend = open_backend(store_url, "main", values=values)
        assert backend.head() == head
        for at in (None, StateAt(1, backend.now())):
            (row,) = backend.list_keys(at=at)
            assert (row.key, row.start, row.sealed, row.size > 0) == ("k", b"", True, True)
        assert [(mark.name, mark.note) for mark in backend.marks()] == [("m", "(sealed)")]
        assert [(one.revision, one.reason) for one in backend.commits()] == [(2, ""), (1, "(sealed)")]
        assert [(one.key, one.revision) for one in backend.superseded()] == [("k", 1)]
        for act in (
            lambda backend=backend: backend.get("k"), lambda backend=backend: backend.read(["k"]), backend.scan,
            backend.versions_page, lambda backend=backend: backend.versions("k"), backend.open_staging,
            lambda backend=backend: save(backend, "k", b"2"), lambda backend=backend: delete(backend, "k"),
            lambda backend=backend: backend.commit(CommitRequest(marks=(CheckpointWrite("n"),))),
            lambda backend=backend: backend.compact(2),
        ):  # fmt: skip
            with pytest.raises(error):
                act()
        findings = [finding for finding in diagnose(backend) if finding.code not in SERVER_SETTINGS]
        assert [(finding.severity, finding.code) for finding in findings] == [("note", "sealed")]
        backend.close()
    assert sealed.head() == head
    sealed.close()


@kinds
def test_the_keyring_is_changed_only_by_who_knows_it(store_url: str, kind: str) -> None:
    backend: Any = open_sealed(store_url)
    assert backend.keyring() is None
    save(backend, "k", b"1")
    document = backend.keyring()
    ring = keyring.decode(document)
    changed = keyring.encode(keyring.add(ring, ring.identity, KEY, OTHER_KEY, "second", datetime.now(UTC)))
    for former in (None, changed):
        with pytest.raises(Conflict):
            backend.put_keyring(changed, former)
    backend.put_keyring(changed, document)
    assert backend.keyring() == changed
    assert backend.get("k").value == b"1"
    second = open_backend(store_url, "main", values=KeyedValues(OTHER_KEY))
    assert save(second, "k", b"2").revision == 2
    assert backend.get("k").value == b"2"
    second.close()
    backend.close()


@kinds
def test_who_opened_the_store_before_it_was_sealed_writes_nothing_plain(store_url: str, kind: str) -> None:
    early, late = open_backend(store_url, "main"), open_sealed(store_url)
    assert early.head().revision == late.head().revision == 0
    save(late, "k", b"1")
    with pytest.raises(KeyMissing):
        save(early, "k", WORD)
    with pytest.raises(KeyMissing):
        early.get("k")
    assert late.head().revision == 1
    early.close()
    late.close()


@kinds
def test_writers_of_a_sealed_namespace_lose_no_update(
    store_url: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On Redis each has sealed its commit for a revision that another one takes."""
    monkeypatch.setattr("stateview.manager.make_backend", partial(make_backend, values=KeyedValues(KEY)))
    managers = [StateManager(store_url, "main") for _ in range(2)]
    gate = threading.Barrier(4)

    def run(number: int) -> None:
        gate.wait()
        for _ in range(8):
            managers[number % 2].update("count", lambda value: value + 1, default=0)
            managers[number % 2].save(f"own {number}", [WORD.decode()] * 100)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(run, range(4)))
    reader = StateManager(store_url, "main")
    assert reader.load("count") == 32
    assert reader.revision == 64
    assert [entry.value for entry in reader.history("own 1")] == [[WORD.decode()] * 100] * 8
    for manager in (*managers, reader):
        manager.close()
