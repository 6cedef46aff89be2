"""Symbolic links in a store are followed and stay links; one that leads nowhere is an error.

Another file system is needed for some; `/dev/shm` is one where it exists.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from stress import first, only

from stateview import StateException, StateManager

PARTS = {
    "json": ("state.json", "history.jsonl", "checkpoints", "checkpoints/one.json", "lock", ".", ".."),
    "sqlite": ("state.db", "lock", ".", ".."),
}
CASES = [(kind, part) for kind, parts in PARTS.items() for part in parts]
FILES = [("json", "state.json"), ("json", "history.jsonl"), ("sqlite", "state.db")]


@pytest.fixture
def other_disk(tmp_path: Path) -> Iterator[Path]:
    if not os.path.isdir("/dev/shm") or os.stat("/dev/shm").st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is one file system")
    folder = Path(tempfile.mkdtemp(dir="/dev/shm"))
    yield folder
    shutil.rmtree(folder)


def build(kind: str, store: Path) -> None:
    with StateManager(f"{kind}:{store}", "main") as state:
        state.save("a", 1)
        state.checkpoint("one")
        state.save("a", 2)


def link(path: Path, folder: Path) -> Path:
    """Move a file or folder elsewhere, and leave a link to it; return where it is."""
    target = folder / f"moved-{path.name}"
    shutil.move(path, target)
    path.symlink_to(target)
    return target


def linked(kind: str, part: str, store: Path, folder: Path) -> tuple[Path, Path]:
    """Build a store in which a part is a link; return the link and what it leads to."""
    build(kind, store)
    path = Path(os.path.normpath(store / "main" / part))
    return path, link(path, folder)


@pytest.mark.parametrize(("kind", "part"), only(CASES, ("json", "state.json"), ("json", "."), ("sqlite", "state.db")))
def test_a_link_is_followed_and_stays(tmp_path: Path, kind: str, part: str) -> None:
    store = tmp_path / "store"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    path, target = linked(kind, part, store, elsewhere)
    url = f"{kind}:{store}"
    with StateManager(url, "main") as state:
        assert (state.load("a"), state.load("a", at="one")) == (2, 1)
        state.save("a", 3)
        state.checkpoint("one")
        state.checkpoint("two")
        state.save("b", 1)
        state.delete_checkpoint("two")
        state.restore_checkpoint("one")
        state.compact(2)
        assert path.is_symlink()
        assert path.resolve() == target
        assert [one for one in state.doctor().findings if one.severity != "note"] == []
        assert state.recover().problems == ()
    with StateManager(url, "main") as state:
        assert (state.load("a"), state.list_keys()) == (3, ["a"])
    with StateManager(url, "main", read_only=True) as state:
        assert state.load("a") == 3
    assert path.is_symlink()


@pytest.mark.parametrize(("kind", "part"), first(FILES))
def test_recover_keeps_the_damaged_file_and_the_link(tmp_path: Path, kind: str, part: str) -> None:
    store = tmp_path / "store"
    path, target = linked(kind, part, store, tmp_path)
    time = target.stat().st_mtime_ns
    rotten = bytearray(target.read_bytes())
    rotten[len(rotten) // 2] ^= 1
    target.write_bytes(rotten)
    os.utime(target, ns=(time, time))
    with StateManager(f"{kind}:{store}", "main") as state:
        report = state.recover()
        assert [Path(name).read_bytes() for name in report.kept] == [rotten] or kind == "sqlite"
        assert state.doctor().ok
        state.save("b", 1)
    assert path.is_symlink()
    assert not any(Path(name).is_symlink() for name in report.kept)


@pytest.mark.parametrize(("kind", "part"), first([*FILES, ("json", "checkpoints"), ("sqlite", ".")]))
def test_a_migration_onto_a_link_leaves_it_a_link(tmp_path: Path, kind: str, part: str) -> None:
    source = f"{'sqlite' if kind == 'json' else 'json'}:{tmp_path / 'source'}"
    store = tmp_path / "store"
    path, target = linked(kind, part, store, tmp_path)
    with StateManager(source, "main") as state:
        state.save("a", "migrated")
        state.checkpoint("one")
        report = state.migrate_to(f"{kind}:{store}", force=True)
    assert path.is_symlink()
    assert path.resolve() == target
    with StateManager(f"{kind}:{store}", "main") as state:
        assert (state.load("a"), state.list_checkpoints()) == ("migrated", ["one"])
        assert [one for one in state.doctor().findings if one.severity == "error"] == []
    assert report.kept
    kept = Path(report.kept)
    assert not any(one.is_symlink() for one in kept.rglob("*"))


@pytest.mark.parametrize(("kind", "part"), [*FILES, ("json", "."), ("sqlite", "."), ("json", ".."), ("sqlite", "..")])
def test_a_link_that_leads_nowhere_is_no_new_namespace(tmp_path: Path, kind: str, part: str) -> None:
    store = tmp_path / "store"
    path, target = linked(kind, part, store, tmp_path)
    target.rename(tmp_path / "away")
    with StateManager(f"{kind}:{store}", "main") as state:
        for act in (lambda: state.load("a", "default"), state.list_keys, lambda: state.save("a", 3)):
            with pytest.raises(StateException, match=path.name):
                act()
    (tmp_path / "away").rename(target)
    with StateManager(f"{kind}:{store}", "main") as state:
        assert state.load("a") == 2


@pytest.mark.parametrize(
    ("kind", "part"), first([("json", "state.json"), ("json", "checkpoints"), ("json", "."), ("sqlite", "state.db")])
)
def test_a_link_to_another_file_system_is_followed_or_refused(
    tmp_path: Path, other_disk: Path, kind: str, part: str
) -> None:
    store = tmp_path / "store"
    path, target = linked(kind, part, store, other_disk)
    with StateManager(f"{kind}:{store}", "main") as state:
        assert state.load("a") == 2
        try:
            state.checkpoint("three")
            state.save("a", 3)
            done = True
        except StateException as error:
            done = False
            assert "another file system" in str(error)
        assert done == (part in (".", "state.db"))
        assert state.load("a") == (3 if done else 2)
        assert state.recover().problems == ()
        assert [one for one in state.doctor().findings if one.severity == "error"] == []
    assert path.is_symlink()
    assert target.exists()


@pytest.mark.parametrize("kind", ["json", "sqlite"])
def test_a_namespace_that_is_a_link_is_dropped(tmp_path: Path, kind: str) -> None:
    path, target = linked(kind, ".", tmp_path / "store", tmp_path)
    with StateManager(f"{kind}:{tmp_path / 'store'}", "main") as state:
        state.backend.drop()
        assert not path.is_symlink()
        assert not target.exists()
        assert state.list_keys() == []
        state.save("a", 1)
        assert state.load("a") == 1


@pytest.mark.parametrize("kind", ["json", "sqlite"])
def test_the_targets_of_links_to_single_files_are_dropped(tmp_path: Path, kind: str) -> None:
    name = "history.jsonl" if kind == "json" else "state.db"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with StateManager(f"{kind}:{tmp_path / 'store'}", "main") as state:
        state.save("a", "secret")
    path = tmp_path / "store" / "main" / name
    path.rename(elsewhere / name)
    path.symlink_to(elsewhere / name)
    url = f"{kind}:{tmp_path / 'store'}"
    with StateManager(url, "main") as state, StateManager(url, "main") as other:
        assert state.load("a") == other.load("a") == "secret"
        state.save("b", 1)
        state.backend.drop()
        assert list(elsewhere.iterdir()) == []
        assert state.list_keys() == []
        other.save("c", 1)
        with StateManager(url, "main") as third:
            assert state.list_keys() == third.list_keys() == ["c"]


@pytest.mark.parametrize("kind", ["json", "sqlite"])
def test_what_a_link_of_a_person_leads_to_stays_when_the_namespace_is_dropped(tmp_path: Path, kind: str) -> None:
    build(kind, tmp_path / "store")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "paper").write_text("text")
    (tmp_path / "store" / "main" / "notes").symlink_to(tmp_path / "mine")
    with StateManager(f"{kind}:{tmp_path / 'store'}", "main") as state:
        state.backend.drop()
    assert (tmp_path / "mine" / "paper").read_text() == "text"
    assert not (tmp_path / "store" / "main").exists()
