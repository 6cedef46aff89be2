"""A process is killed at any step of anything that writes JSON files: nothing is damaged, and the next save heals."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import killed
import pytest
from stress import only

from stateview import StateManager
from stateview.backends.protocol import CheckpointWrite, CommitRequest, Write

OLDER = (
    '{"a": {"value": %d, "timestamp": "2025-01-01T00:00:00"}, "b": {"value": 0, "timestamp": "2025-01-01T00:00:00"}}'
)
UNFINISHED = {"unfinished-copy", "stale-temporary-file", "damaged-file-kept", "legacy-layout"}


def die_at(step: int, act: Callable[[], object]) -> bool:
    """Act in a child that is killed before its call number `step` that changes files; whether it came to its end."""
    return killed.die_at(step, act, [(os, name) for name in killed.CALLS], killed.count_writes)


# --- stores ---------------------------------------------------------------------------------------------------------


def build(folder: Path) -> None:
    with StateManager(f"json:{folder}", "main", history=6) as state:
        state.save("a", 1)
        state.checkpoint("c")
        state.save("a", 2)
        state.checkpoint("c")
        state.save("b", 1)
        state.checkpoint("d")
        state.delete("b")
        state.save("a", {"x": 3})


def older_layout(folder: Path) -> None:
    (folder / "main" / "checkpoints").mkdir(parents=True)
    for number, name in enumerate(("checkpoints/one.json", "checkpoints/two.json", "state.json")):
        (folder / "main" / name).write_text(OLDER % number)
        os.utime(folder / "main" / name, (1_700_000_000 + number,) * 2)


def key_files(folder: Path) -> None:
    for number, place in enumerate(("checkpoints/one", "checkpoints/two", ".")):
        (folder / place).mkdir(parents=True, exist_ok=True)
        (folder / place / "a.json").write_text(json.dumps({"value": number, "timestamp": "2025-01-01T00:00:00"}))
        os.utime(folder / place, (1_700_000_000 + number,) * 2)


def change(path: Path, edit: Callable[[str], str], later: int = 1) -> None:
    """Change a file; its modification time rises by some seconds."""
    time = path.stat().st_mtime_ns + later * 10**9
    path.write_text(edit(path.read_text()))
    os.utime(path, ns=(time, time))


def edited(folder: Path) -> None:
    build(folder)
    change(folder / "main" / "state.json", lambda text: text.replace("3", '"by hand"', 1))


def formatted(folder: Path) -> None:
    build(folder)
    change(folder / "main" / "state.json", lambda text: json.dumps(json.loads(text)))


def interrupted(folder: Path) -> None:
    """A commit that was killed between its line and its renames."""
    build(folder)
    copy = folder.with_name("copy")
    for step in range(1, 100):
        shutil.copytree(folder, copy)
        die_at(step, lambda: move_and_save(f"json:{folder}"))
        last = (folder / "main" / "history.jsonl").read_bytes().splitlines(keepends=True)[-1]
        if b'"rev":6' in last and last.endswith(b"\n"):
            shutil.rmtree(copy)
            return
        shutil.rmtree(folder)
        copy.rename(folder)


def rotten(folder: Path) -> None:
    build(folder)
    change(folder / "main" / "state.json", lambda text: text.replace("3", "5", 1), 0)
    change(folder / "main" / "checkpoints" / "c.json", lambda text: text.replace("2", "4", 1), 0)


def without_history(folder: Path) -> None:
    build(folder)
    (folder / "main" / "history.jsonl").unlink()


def move_and_save(url: str) -> None:
    with StateManager(url, "main") as state:
        state.backend.commit(CommitRequest({"a": Write(b"9")}, marks=(CheckpointWrite("c", ""),)))


# --- acts -----------------------------------------------------------------------------------------------------------


def acting(act: Callable[[StateManager], object]) -> Callable[[str], None]:
    def run(url: str) -> None:
        with StateManager(url, "main", history=6) as state:
            act(state)

    return run


def save_default(url: str) -> None:
    with StateManager(url, "default") as state:
        state.save("new", 1)


ACTS: dict[str, tuple[Callable[[Path], None], Callable[[str], None]]] = {
    "first save": (lambda folder: folder.mkdir(), acting(lambda state: state.save("a", 1))),
    "save": (build, acting(lambda state: state.save("b", 2))),
    "delete": (build, acting(lambda state: state.delete("a"))),
    "new checkpoint": (build, acting(lambda state: state.checkpoint("new"))),
    "moved checkpoint": (build, acting(lambda state: state.checkpoint("c"))),
    "save and moved checkpoint": (build, move_and_save),
    "deleted checkpoint": (build, acting(lambda state: state.delete_checkpoint("d"))),
    "renamed checkpoint": (build, acting(lambda state: state.rename_checkpoint("d", "e"))),
    "restore": (build, acting(lambda state: state.restore_checkpoint("d"))),
    "undo": (build, acting(lambda state: state.undo())),
    "prune": (build, acting(lambda state: state.prune("*", keep=1, history=True))),
    "fork": (build, acting(lambda state: state.fork("other"))),
    "drop": (build, acting(lambda state: state.backend.drop())),
    "older layout": (older_layout, acting(lambda state: state.save("new", 1))),
    "file per key": (key_files, save_default),
    "edited": (edited, acting(lambda state: state.save("new", 1))),
    "formatted": (formatted, acting(lambda state: state.save("new", 1))),
    "interrupted": (interrupted, acting(lambda state: state.save("new", 1))),
    "recover": (rotten, acting(lambda state: state.recover())),
    "recover without history": (without_history, acting(lambda state: state.recover())),
}


def look(url: str, namespace: str) -> dict[str, Any]:
    """All that a namespace shows, by the name of the checkpoint without a time that a name may hold."""
    with StateManager(url, namespace, read_only=True) as state:
        refs = [str(mark.ref) for mark in state.checkpoints(all=True)]
        shown = {ref.partition("_restore_")[0]: {one.key: one.value for one in state.at(ref).entries()} for ref in refs}
        return {**shown, "live": {key: state.load(key) for key in state.list_keys()}}


@pytest.mark.parametrize("name", only(ACTS, "first save", "moved checkpoint"))
def test_killed_at_any_step_nothing_is_damaged_and_the_next_save_heals(tmp_path: Path, name: str) -> None:
    prepare, act = ACTS[name]
    namespace = "default" if name == "file per key" else "main"
    before, store = tmp_path / "before", tmp_path / "store"
    prepare(before)
    url = f"json:{store}"
    recovers = name.startswith("recover")
    seen: list[dict[str, Any]] = []
    finished, step = False, 0
    while not finished:
        step += 1
        assert step < 150
        shutil.rmtree(store, ignore_errors=True)
        shutil.copytree(before, store)
        finished = die_at(step, lambda: act(url))
        with StateManager(url, namespace) as state:
            if recovers:
                report = state.recover()
                assert report.ok or prepare is without_history, (step, report)
            found = [one for one in state.doctor().findings if one.severity == "error"]
            assert found == [], step
            if (shown := look(url, namespace)) not in seen:
                seen.append(shown)
            state.save("after", 1)
            if namespace == "main" and prepare is not older_layout:
                state.checkpoint("another")
            left = {one.code for one in state.doctor().findings}
            assert left <= (UNFINISHED if recovers or name in ("fork", "edited") else set()), (step, left)
            assert state.recover().problems == (), step
            assert look(url, namespace)["live"] == {**shown["live"], "after": 1}
    assert len(seen) <= 2  # the state before the act, and the state after it


@pytest.mark.parametrize("kind", ["json", "sqlite"])
def test_a_drop_that_is_killed_leaves_the_namespace_or_nothing_and_the_next_one_removes_the_rest(
    tmp_path: Path, kind: str
) -> None:
    url, finished, step = f"{kind}:{tmp_path}", False, 0
    while not finished:
        step += 1
        with StateManager(url, "main") as state:
            state.save("a", 1)
        finished = die_at(step, lambda: acting(lambda state: state.backend.drop())(url))
        with StateManager(url, "main") as state:
            assert state.load("a", None) in (1, None)
            state.save("a", 2)
            assert state.doctor().ok
            state.backend.drop()
        assert list(tmp_path.iterdir()) == []
    assert step > 2
