"""Exports of encrypted namespaces are sealed, unless they are asked for plain text; import of both."""

from __future__ import annotations

import io
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
            for dry_run in (True, False):
                with pytest.raises(KeyWrong if key else KeyMissing, match=name):
                    state.import_from(path, dry_run=dry_run)
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
            for dry_run in (True, False):
                with pytest.raises(Damaged, match=r"file\.jsonl"):
                    state.import_from(path, dry_run=dry_run)
            assert state.revision == 0


@pytest.mark.parametrize("kind", ["json"])
def test_a_keyring_that_was_changed_is_damage_of_the_file(
    sealed: Any, store_url: str, kind: str, tmp_path: Path
) -> None:
    path = tmp_path / "file.jsonl"
    sealed.export(path)
    path.write_bytes(path.read_bytes().replace(b'"label":"export"', b'"label":"exporT"', 1))
    with StateManager(store_url, "to", encryption_key=KEY.printed()) as state:
        with pytest.raises(Damaged, match=r"file\.jsonl: its keyring"):
            state.import_from(path)
        assert state.revision == 0


@pytest.mark.parametrize("kind", ["json", "sqlite"])
def test_a_preview_into_a_plain_namespace_is_refused_as_the_import_is(
    sealed: Any, store_url: str, kind: str, tmp_path: Path
) -> None:
    sealed.export(tmp_path / "file.jsonl")
    with StateManager(store_url, "to") as state:
        state.save("k", 1)
    with StateManager(store_url, "to", encryption_key=KEY.printed()) as state:
        for dry_run in (True, False):
            with pytest.raises(InvalidArgument, match="'stateview key on'"):
                state.import_from(tmp_path / "file.jsonl", how="merge", force=True, dry_run=dry_run)
        assert state.load("k") == 1
        state.encryption.turn_on()
        state.import_from(tmp_path / "file.jsonl", how="merge", force=True)
        assert state.load("k") == sealed.load("k")


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


@pytest.mark.parametrize("kind", ["sqlite"])
def test_a_file_may_have_a_key_of_its_own(
    sealed: Any, store_url: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sealed.export(tmp_path / "file.jsonl")
    with StateManager(store_url, "plain") as state:  # a key in use would not let it be written
        state.save("own", 1)
        with pytest.raises(KeyWrong):
            state.import_from(tmp_path / "file.jsonl", how="replace", force=True, encryption_key=OTHER_KEY.printed())
        state.import_from(tmp_path / "file.jsonl", how="replace", force=True, encryption_key=KEY.printed())
        assert state.load("k") == sealed.load("k")
        assert not state.is_encrypted
    monkeypatch.setenv("STATEVIEW_FILE_KEY", KEY.printed())
    with StateManager(store_url, "other", encryption_key=OTHER_KEY.printed()) as state:
        state.import_from(tmp_path / "file.jsonl")
        assert seen(state) == seen(sealed)
        assert state.is_encrypted


@pytest.mark.parametrize("kind", ["sqlite"])
def test_a_plain_export_to_a_pipe_is_not_copied_to_the_disk(
    sealed: Any, store_url: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = {name: tmp_path / name for name in ("disk", "memory")}
    for folder in folders.values():
        folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folders["disk"]))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folders["memory"]))

    class Pipe(io.BytesIO):
        def write(self, data: Any) -> int:
            assert [path for path in folders["disk"].rglob("*") if path.is_file()] == []
            assert [path for path in folders["memory"].rglob("*") if path.is_file()] != []
            return super().write(data)

    out = Pipe()
    sealed.export(out, plain=True)
    assert WORD.encode() in out.getvalue()
    assert list(folders["memory"].iterdir()) == []
