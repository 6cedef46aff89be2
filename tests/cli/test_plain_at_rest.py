"""No act on an encrypted namespace writes a value to the disk, outside the store or in it."""

from __future__ import annotations

import os
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from terminal import Terminal

from stateview import StateManager
from stateview.backends.files import memory_files
from stateview.sealing.keys import UserKey
from stateview.transfer.import_job import ImportJob

Run = Callable[..., tuple[int, str, str]]

KEY = UserKey.generate().printed()
MARKER = "unmistakable"


@pytest.fixture
def disk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the store, the home, and all temporary files that do not lie in memory."""
    for name, place in (("TMPDIR", "tmp"), ("HOME", "home"), ("XDG_STATE_HOME", "home/state")):
        (folder / place).mkdir(exist_ok=True, parents=True)
        monkeypatch.setenv(name, str(folder / place))
    monkeypatch.setattr("tempfile.tempdir", str(folder / "tmp"))
    monkeypatch.setenv("STATEVIEW_KEY", KEY)
    yield folder
    assert_plain_nowhere(folder)


@pytest.fixture
def memory(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that stands for memory."""
    place = tmp_path_factory.mktemp("memory")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(place))
    return place


@contextmanager
def without_key(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.delenv("STATEVIEW_KEY")
        yield


def holders(folder: Path) -> list[Path]:
    """The files that hold the marker."""
    return [path for path in folder.rglob("*") if path.is_file() and MARKER.encode() in path.read_bytes()]


def assert_plain_nowhere(folder: Path) -> None:
    assert holders(folder) == []


def script(folder: Path, code: str) -> str:
    """An editor that runs a program on its file; `path` is the file's name."""
    path = folder / "editor.py"
    path.write_text(f"import os, sys\npath = sys.argv[1]\n{code}")
    return f"{sys.executable} {path}"


def test_edit_keeps_its_file_in_memory_and_overwrites_it(disk: Path, memory: Path) -> None:
    with StateManager("sqlite:st") as state:
        state.save("k", MARKER)
    link = memory / "kept-link"  # the file's blocks can still be read after it is removed
    code = f"""
assert path.startswith({str(memory)!r})
assert "unmis" + "takable" in open(path).read()
os.link(path, {str(link)!r})
open(path, "a").write(" ")
"""
    terminal = Terminal("-s", "sqlite:st", "edit", "k", EDITOR=script(disk, code), VISUAL="")
    terminal.until("unchanged")
    assert terminal.end() == 0
    assert [path.name for path in memory.iterdir()] == ["kept-link"]
    assert set(link.read_bytes()) == {0}


def test_without_a_folder_in_memory_the_file_is_overwritten_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_files, "memory_folder", lambda: None)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    place = memory_files.private_folder(in_memory=True)
    assert stat.S_IMODE(os.stat(place).st_mode) == 0o700
    path, link = Path(place, "value"), tmp_path / "link"
    path.write_text(MARKER)
    os.link(path, link)
    memory_files.erase(place)
    assert not os.path.exists(place)
    assert set(link.read_bytes()) == {0}


@pytest.mark.parametrize("kind", ["json", "sqlite"])
def test_an_import_converts_its_source_in_encrypted_stores(
    disk: Path, memory: Path, kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    source = tmp_path_factory.mktemp("source") / "x.jsonl"
    with without_key(monkeypatch), StateManager(f"sqlite:{source.parent / 'st'}") as plain:
        for number in range(20):
            plain.save("k", [MARKER, number], reason=MARKER)
        plain.checkpoint("c", note=MARKER)
        plain.export(source)
    with StateManager(f"{kind}:st", "new") as new, open(source, "rb") as pipe:
        assert new.import_from(pipe).keys == 1
        assert new.load("k") == [MARKER, 19]
    with StateManager(f"{kind}:st", "other") as other:
        other.save("k", 1)
        seen = 0

        def execute(job: ImportJob, approved: bool = False) -> object:
            nonlocal seen
            seen += len(list((disk / "tmp").rglob("state.db")))
            assert_plain_nowhere(disk)  # while the temporary stores are there
            return run_it(job, approved)

        run_it = ImportJob.execute
        monkeypatch.setattr(ImportJob, "execute", execute)
        with open(source, "rb") as pipe:
            other.import_from(pipe, how="merge", force=True)
        with other.open_import(source, how="replace", force=True) as job:
            job.refresh()
            job.execute()
        assert seen, "the source was converted in a store"
        assert other.load("k") == [MARKER, 19]
    assert list((disk / "tmp").iterdir()) == []
    assert list(memory.iterdir()) == []


def test_lines_typed_in_an_encrypted_namespace_stay_in_memory(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with without_key(monkeypatch), StateManager("sqlite:plain") as state:
        state.save("k", 1)
    for store, key in (("sqlite:sealed", KEY), ("sqlite:plain", "")):
        shell = Terminal("-q", "-s", store, "shell", STATEVIEW_KEY=key)
        shell.until("default")
        shell.type(f"save {store[7:]} 7{MARKER if key else ''}\r")
        shell.until("revision")
        shell.type(f"save --namespace other k {MARKER}\r")
        shell.until("saved k =")
        shell.type("exit\r")
        assert shell.end() == 0
    history = (disk / "home/state/stateview/history").read_text()
    assert "save plain 7" in history
    assert "sealed" not in history
    shutil.rmtree(disk / "plain")  # it may hold what was saved there
