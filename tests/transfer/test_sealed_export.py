"""Exports of encrypted namespaces are sealed, unless they are asked for plain text; import of both."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from sealed_stores import KEY, OTHER_KEY

from stateview import Damaged, InvalidArgument, KeyMissing, KeyWrong, StateManager

WORD = "unmistakable"


@pytest.fixture
def sealed(store_url: str) -> Any:
    with StateManager(store_url, "from", encryption_key=KEY.printed(), author=WORD) as state:
        for number in range(5):
            state.save("k", {"n": number, WORD: [WORD] * 40})
            state.save(f"k{number}", number)
        state.checkpoint("c", note=WORD)
        yield state


def seen(state: StateManager) -> Any:
    history = [(one.revision, one.value) for one in state.history("k")]
    return (
        [(one.key, one.value) for one in state.at("live").entries()],
        history,
        [(one.name, one.note) for one in state.checkpoints()],
        state.log(99),
    )


@pytest.mark.parametrize("name", ["file.jsonl", "file.jsonl.gz"])
@pytest.mark.parametrize("key", [None, OTHER_KEY, KEY])
def test_a_sealed_file_is_imported_with_its_key(
    sealed: Any, store_url: str, kind: str, tmp_path: Path, name: str, key: Any
) -> None:
    path = tmp_path / name
    sealed.export(path)
    assert WORD.encode() not in path.read_bytes()
    with StateManager(store_url, "to", encryption_key=key and key.printed()) as state:
        if key is not KEY:
            with pytest.raises(KeyWrong if key else KeyMissing):
                state.import_from(path)
            assert state.revision == 0
            return
        assert state.import_from(path, dry_run=True)
        state.import_from(path)
        assert seen(state) == seen(sealed)
        assert state.encryption.status().state == "sealed"
        state.save("k", 1)
        state.import_from(path, how="merge", force=True)
        assert state.load("k") == sealed.load("k")


@pytest.mark.parametrize("kind", ["json"])
def test_plain_text_is_written_only_if_it_is_asked_for(sealed: Any, store_url: str, kind: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="plain JSON"):
        sealed.export(tmp_path / "file.json")
    sealed.export(tmp_path / "file.json", plain=True)
    sealed.export(tmp_path / "plain.jsonl", plain=True)
    assert WORD in (tmp_path / "plain.jsonl").read_text()
    with StateManager(store_url, "to") as state:
        state.import_from(tmp_path / "plain.jsonl")
        assert seen(state) == seen(sealed)


@pytest.mark.parametrize("kind", ["sqlite"])
def test_a_file_that_was_changed_or_cut_off_is_damaged(sealed: Any, store_url: str, kind: str, tmp_path: Path) -> None:
    sealed.save("large", [f"{number * 7919 % 65521:x}" for number in range(400_000)])
    path = tmp_path / "file.jsonl"
    sealed.export(path)
    data = path.read_bytes()
    lines = data.splitlines(keepends=True)
    assert len(lines) > 4
    flipped = data[:-200] + bytes([data[-200] ^ 1]) + data[-199:]
    swapped = b"".join([lines[0], lines[2], lines[1], *lines[3:]])
    for changed in (flipped, swapped, b"".join(lines[:-1]), data[:-1], data + b"x", data[:300], b"".join(lines[:-2])):
        path.write_bytes(changed)
        with StateManager(store_url, "to", encryption_key=KEY.printed()) as state:
            with pytest.raises(Damaged):
                state.import_from(path)
            assert state.revision == 0


@pytest.mark.parametrize("kind", ["json", "sqlite"])
def test_an_import_writes_no_plain_file(
    sealed: Any, store_url: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    sealed.export(tmp_path / "file.jsonl")
    found: list[str] = []

    def look(done: int, total: int) -> None:
        for path in folder.rglob("*"):
            if path.is_file():
                found.append(path.name)
                assert WORD.encode() not in path.read_bytes()

    with StateManager(store_url, "to", encryption_key=KEY.printed()) as state:
        state.save("k", 1)
        state.import_from(tmp_path / "file.jsonl", how="replace", force=True, progress=look)
        look(0, 0)
        assert state.load("k") == sealed.load("k")
