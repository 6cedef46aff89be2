"""`drop`: a namespace goes for good, only after its name was typed or with `--yes`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from forked import forked
from terminal import Terminal

from stateview import StateManager
from stateview.testing import retold

Run = Callable[..., tuple[int, str, str]]
GONE = {"keys": 2, "revision": 2, "checkpoints": 1}


@pytest.fixture
def state(store_url: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StateManager]:
    """A namespace with two keys and a checkpoint, which is that of the environment."""
    monkeypatch.setenv("STATEVIEW_STORE", store_url)
    monkeypatch.setenv("STATEVIEW_NAMESPACE", "ns")
    with StateManager(store_url, "ns") as manager, StateManager(store_url, "kept") as kept:
        manager.save("a", 1)
        manager.save("b", 2)
        manager.checkpoint("cp")
        kept.save("c", 3)
        yield manager


def test_drop_needs_a_yes_and_takes_this_namespace_alone(state: StateManager, run: Run) -> None:
    code, out, err = run("drop", "--dry-run", "--format", "json")
    assert code == 0 and GONE.items() <= json.loads(out).items() and "nothing was changed" in err
    code, _, err = run("drop")
    assert code == 5 and "with 2 keys, 1 checkpoint and 2 revisions of history" in err and "Give --yes" in err
    assert run("drop", "--yes", "--read-only")[0] == 3 and state.list_keys() == ["a", "b"]
    code, out, err = run("drop", "--yes", "--format", "json")
    assert code == 0 and GONE.items() <= json.loads(out).items()
    assert "removed namespace 'ns'" in err and "undo" not in err
    assert state.namespaces() == ["kept"]
    assert run("drop", "--yes")[0] == run("drop", "--dry-run")[0] == 1  # it is not there any more
    code, _, err = run("drop", "--yes", "--author", "ann", "-n", "kept")
    assert code == 2 and "drop takes no --author" in err


@pytest.mark.parametrize(("typed", "names"), [("y", ["kept", "ns"]), ("ns", ["kept"])])
@pytest.mark.parametrize("words", [["drop"], ["shell"]])
@pytest.mark.parametrize("kind", ["sqlite"])
def test_a_person_types_the_name(state: StateManager, words: list[str], typed: str, names: list[str]) -> None:
    terminal = Terminal(*words, columns=300)
    if words == ["shell"]:
        terminal.until("ns@2>")
        terminal.type("drop\r")
    terminal.until("Type ns to go ahead:")
    assert any("keys" in line and "2" in line for line in terminal.screen.display)  # what would go
    terminal.type(typed + "\r")
    terminal.until("removed namespace 'ns'" if typed == "ns" else "not done: the name was not typed")
    terminal.kill()
    assert state.namespaces() == names


def test_a_script_of_the_shell_needs_a_yes_and_no_transaction(state: StateManager) -> None:
    def shell(*lines: str) -> tuple[int, str]:
        done = forked("shell", *(word for line in lines for word in ("-c", line)))
        return done.returncode, done.stderr

    assert shell("drop")[0] == 5
    code, err = shell("begin", "drop --yes")
    assert code == 2 and "cannot run inside a transaction" in err and state.list_keys() == ["a", "b"]
    assert shell("drop -n kept --yes")[0] == 0 and state.namespaces() == ["ns"]
    assert shell("drop --yes", "save a 5")[0] == 0 and retold(state.list_keys) == ["a"]


def test_a_damaged_namespace_can_be_dropped(folder: Path, run: Run) -> None:
    with StateManager(f"json:{folder}/store", "ns") as state:
        state.save("a", 1)
    where = ["-s", f"json:{folder}/store", "-n", "ns"]
    (folder / "store" / "ns" / "state.json").write_text("{")
    (folder / "store" / "ns" / "history.jsonl").write_text("{")
    assert run("keys", *where)[0] == 3
    assert "damaged" in run("drop", "--dry-run", *where)[1]
    code, _, err = run("drop", "--yes", *where)
    assert code == 0 and "with damaged contents" in err
    assert run("keys", *where)[0] == 1
