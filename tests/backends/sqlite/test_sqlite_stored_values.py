"""Values of SQLite in another stored form than plain JSON: the contract holds, and no file holds a value as it was."""

from __future__ import annotations

from pathlib import Path

import pytest
from wrapped_values import WRAPPED

from stateview import Damaged, StateManager
from stateview.backends import open_backend
from stateview.backends.protocol import SUMMARY_BYTES, CommitRequest, StateAt, Write
from stateview.backends.sqlite.backend import SQLiteBackend
from stateview.testing import save

SECRET = b"an-unmistakable-text"


def database(store: str, namespace: str) -> Path:
    return Path(store.partition(":")[2]) / namespace / "state.db"


def opened(store: str, namespace: str = "main") -> SQLiteBackend:
    backend = open_backend(store, namespace, values=WRAPPED)
    assert isinstance(backend, SQLiteBackend)
    return backend


def files_with(folder: Path, text: bytes) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.is_file() and text in path.read_bytes()]


def test_no_file_holds_a_value_in_plain_text(tmp_path: Path) -> None:
    """After updates, a checkpoint, a restore, a copy into another namespace, `compact` and `recover`."""
    store = f"sqlite:{tmp_path}"
    with StateManager(store, "plain") as state:
        state.save("k", SECRET.decode())
        assert files_with(tmp_path, SECRET)
        state.backend.drop()
    backend, copy = opened(store), opened(store, "copy")
    with StateManager(store, "main") as state, StateManager(store, "copy") as fork:
        state.backend, fork.backend = backend, copy
        state.save("k", SECRET.decode())
        state.save("many", [SECRET.decode()] * 300)
        state.checkpoint("one")
        state.save("k", [SECRET.decode()])
        state.delete("many")
        state.restore_checkpoint("one")
        state.save("k", {"last": SECRET.decode()})

        head = backend.head()
        staging = copy.open_staging()
        staging.put(backend.versions_page(), backend.commits(), backend.marks(), note={})
        assert staging.staged(head).scan() == backend.scan()
        assert files_with(tmp_path, SECRET) == []
        staging.finish(head)

        assert state.list_checkpoints() == fork.list_checkpoints()
        for manager in (state, fork):
            assert manager.load("k") == {"last": SECRET.decode()}
            assert manager.load("many", at="one") == [SECRET.decode()] * 300
            assert manager.recover().problems == ()
            assert manager.doctor().findings == ()
        assert files_with(tmp_path, SECRET) == []
        backend.compact(head.revision)
        backend.close()
        copy.close()
        assert files_with(tmp_path, SECRET) == []
        assert state.load("k") == {"last": SECRET.decode()}


def test_a_value_that_was_moved_to_another_key_is_damaged(tmp_path: Path) -> None:
    """The row's checksum is right, so that only `unpack` can notice."""
    backend, plain = opened(f"sqlite:{tmp_path}"), SQLiteBackend(str(tmp_path), "main")
    save(backend, "a", SECRET)
    (version,) = plain.scan()
    assert version.value == WRAPPED.pack(SECRET, "a")
    save(plain, "b", version.value)
    for read in (
        lambda: backend.get("b"), lambda: backend.read(["a", "b"]), backend.scan, backend.list_keys,
        lambda: backend.versions("b"), backend.versions_page, lambda: backend.list_keys(at=StateAt(2, backend.now())),
    ):  # fmt: skip
        with pytest.raises(Damaged):
            read()
    save(plain, "b", b"1")
    with pytest.raises(Damaged):
        backend.superseded()
    backend.close()
    plain.close()


def test_summaries_of_large_values_are_of_the_value(tmp_path: Path) -> None:
    backend = opened(f"sqlite:{tmp_path}")
    values = {"large": b'"%s"' % (b"x" * 3_000_000), "small": b'"x"'}
    backend.commit(CommitRequest({key: Write(value) for key, value in values.items()}))
    at = StateAt(1, backend.now())
    backend.commit(CommitRequest({key: Write(b"[]") for key in values}))
    for backwards in (False, True):
        rows = backend.list_keys(at=at, backwards=backwards)
        assert {row.key: (row.size, row.start) for row in rows} == {
            key: (len(value), value[:SUMMARY_BYTES]) for key, value in values.items()
        }
    assert [(row.size, row.start) for row in backend.list_keys()] == [(2, b"[]")] * 2
    assert [row.size for row in backend.superseded()] == [len(value) for value in values.values()]
    backend.close()


def test_recover_keeps_values_in_their_stored_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row checksums are over the stored form: `recover` needs no key to tell a sound row from a damaged one."""
    monkeypatch.setattr("stateview.backends.sqlite.backend.TRUST_SECONDS", 0.0)
    backend = opened(f"sqlite:{tmp_path}")
    for number in range(50):
        save(backend, f"k{number}", b'["%s",%d]' % (SECRET, number))
    before = backend.scan()
    backend.close()
    path = tmp_path / "main" / "state.db"
    data = path.read_bytes()
    place = data.rindex(WRAPPED.pack(b'["%s",7]' % SECRET, "k7")) + 9
    path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
    with StateManager(f"sqlite:{tmp_path}", "main") as keyless:
        report = keyless.recover()
    assert [problem.subject for problem in report.problems] == ["main/state.db", "the value of key 'k7'"]
    assert backend.scan() == [version for version in before if version.key != "k7"]
    assert files_with(tmp_path, SECRET) == []
    backend.close()
