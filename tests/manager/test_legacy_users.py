"""What users already have runs as written: the two documents' lines, their commands, and their data."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import older_formats as older
import pytest
import redis_servers

from stateview import StateException, StateManager

DOOR = Path(__file__).parents[2] / "scripts" / "state_manager.py"
DOORS = {"console": ["stateview"], "module": ["-m", "stateview"], "script": [str(DOOR)]}


@pytest.fixture
def redis_url(new_store: Callable[[str], str]) -> str:
    return new_store(next(iter(redis_servers.find()), "redis"))


def run(door: str, *words: str) -> subprocess.CompletedProcess[str]:
    first = DOORS[door]
    command = [str(Path(sys.executable).parent / "stateview")] if first == ["stateview"] else [sys.executable, *first]
    return subprocess.run([*command, *words], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)


@pytest.mark.parametrize("backend", ["json", "sqlite", "redis"])
def test_the_lines_of_managing_state(
    backend: str, folder: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STATEVIEW_REDIS_URL", redis_url)
    source = f'''
# Choose backend based on needs
state = StateManager(
    backend="{backend}",      # Development
    # backend="sqlite",  # Production
    # backend="redis",   # Distributed
    namespace="workflow-{folder.name}"
)
# Save any JSON-serializable data
state.save("current_phase", "building")
state.save("completed_tasks", ["scout", "plan"])
state.save("metadata", {{"timestamp": "2024-01-01", "user": "dev"}})
# Retrieve saved state
phase = state.load("current_phase")  # "building"
tasks = state.load("completed_tasks")  # ["scout", "plan"]
# Create named checkpoint
state.checkpoint("after_planning")

# List checkpoints
checkpoints = state.list_checkpoints()

# Recover from checkpoint
state.restore_checkpoint("after_planning")
value = 1
try:
    state.save("key", value)
except StateException as e:
    # Automatic retry with exponential backoff
    state.recover()
    state.save("key", value)
'''
    names: dict[str, Any] = {"StateManager": StateManager, "StateException": StateException}
    exec(source, names)
    assert names["phase"] == "building"
    assert names["tasks"] == ["scout", "plan"]
    assert names["checkpoints"] == ["after_planning"]
    assert names["state"].load("key") == 1
    # The except branch, taken: recover() on a sound store, then the save again.
    assert names["state"].recover().ok
    names["state"].save("key", 2)
    assert names["state"].load("key") == 2


def test_the_testing_block_of_the_mvp(folder: Path) -> None:
    source = """
from stateview import save_state, load_state, checkpoint, restore_checkpoint
# Test save/load
save_state("test", {"data": 123})
assert load_state("test") == {"data": 123}

# Test default
assert load_state("nonexistent", "default") == "default"

# Test checkpoint
save_state("phase", "scout")
cp = checkpoint("test_cp")
save_state("phase", "build")  # Change it
restore_checkpoint(cp)
assert load_state("phase") == "scout"  # Restored!

print("✓ State management works")
"""
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "✓ State management works\n"), done.stderr


def test_the_mvp_functions_say_why_on_stderr(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import stateview

    assert stateview.save_state("bad", {1, 2}) is False
    assert "$" in capsys.readouterr().err
    assert stateview.restore_checkpoint("nowhere") is False
    assert "nowhere" in capsys.readouterr().err
    assert stateview.save_state("good", 1) is True
    assert stateview.load_state("nothing") is None
    name = stateview.checkpoint()
    stateview.save_state("newer", 2)
    assert stateview.restore_checkpoint(name) is True
    assert stateview.load_state("newer", "gone") == "gone"  # exact: the sketch left newer keys behind


@pytest.mark.parametrize("door", DOORS)
def test_every_command_under_scripts(door: str, folder: Path) -> None:
    acts: list[tuple[list[str], str | None]] = [
        (["init", "--backend", "json", "--namespace", "workflow-123"], ""),
        (["save", "--key", "phase", "--value", "building"], ""),
        (["load", "--key", "phase"], '"building"\n'),
        (["checkpoint", "--name", "after_planning"], "after_planning\n"),
        (["restore", "--checkpoint", "after_planning"], ""),
        (["migrate", "--from", "json", "--to", "sqlite"], ""),
    ]
    for words, out in acts:
        done = run(door, *words)
        assert (done.returncode, done.stdout) == (0, out), (words, done.stderr)
    with StateManager("sqlite", "workflow-123") as moved:
        assert moved.load("phase") == "building"
        assert moved.list_checkpoints() == ["after_planning"]


@pytest.mark.parametrize("door", DOORS)
def test_the_positional_forms(door: str, folder: Path) -> None:
    acts: list[tuple[list[str], str]] = [
        (["init", "json", "workflow-123"], ""),
        (["save", "phase", '"building"'], ""),
        (["load", "phase"], '"building"\n'),
        (["checkpoint", "after_planning"], "after_planning\n"),
        (["save", "phase", '"testing"'], ""),
        (["restore", "after_planning"], '1 key differs: ~1 changed\n~ phase  "testing" → "building"\n'),
        (["load", "phase"], '"building"\n'),
    ]
    for words, out in acts:
        done = run(door, *words)
        assert (done.returncode, done.stdout) == (0, out), (words, done.stderr)
    assert (folder / ".claude/state/workflow-123/state.json").exists()
    below = folder / "deep" / "er"
    below.mkdir(parents=True)
    os.chdir(below)
    assert run(door, "load", "phase").stdout == '"building"\n'


def check(state: StateManager, times: bool = True) -> None:
    """The older data is there: values, times, checkpoint; and all acts work on it."""
    assert {key: state.load(key) for key in state.list_keys()} == older.AFTER
    assert state.list_checkpoints() == ["early"]
    assert {entry.key: entry.value for entry in state.at("early").entries()} == older.BEFORE
    if times:
        assert state.entry("phase").time == datetime.fromisoformat(older.LATER).replace(tzinfo=UTC)
        assert state.entry("phase", at="early").time == datetime.fromisoformat(older.STAMP).replace(tzinfo=UTC)
    assert {change.key: change.kind for change in state.diff("early")} == {
        "phase": "changed", "old": "removed", "new": "added",
    }  # fmt: skip
    state.restore_checkpoint("early")
    assert {entry.key: entry.value for entry in state.at("live").entries()} == older.BEFORE
    state.undo()
    assert {key: state.load(key) for key in state.list_keys()} == older.AFTER


def test_json_data_of_the_sketch_opens_where_it_lies(folder: Path) -> None:
    older.write_json(folder / ".claude/state", "flow")
    original = (folder / ".claude/state/flow/state.json").read_bytes()
    with StateManager("json", "flow", read_only=True) as state:
        assert {key: state.load(key) for key in state.list_keys()} == older.AFTER
        assert state.load("phase", at="early") == "scout"
    assert (folder / ".claude/state/flow/state.json").read_bytes() == original
    with StateManager("json", "flow") as state:
        check(state)


def test_sqlite_data_of_the_sketch_opens_where_it_lies(folder: Path) -> None:
    older.write_sqlite(folder / ".claude/state", "flow")
    with StateManager("sqlite", "flow") as state:
        check(state)


def test_redis_data_of_the_sketch_opens_where_it_lies(redis_url: str) -> None:
    import redis

    with redis.Redis.from_url(redis_url) as client:
        client.set("state:flow-older-not-this:x", "1")
        client.set("state:flow[o]lder:x", "1")
        older.write_redis(client, "flow-older")
        with StateManager(redis_url, "flow-older") as state:
            check(state, times=False)
            assert state.entry("phase").expires is None  # the sketch let everything expire after a day
        assert client.get("state:flow-older:phase") is not None  # left as it was


def test_mvp_data_opens_where_it_lies(folder: Path) -> None:
    older.write_mvp(folder / ".claude/state")
    with StateManager() as state:
        check(state)
    assert StateManager().namespaces() == ["default"]


def test_data_with_a_broken_file_is_refused_and_left(folder: Path) -> None:
    older.write_json(folder / ".claude/state", "flow")
    path = folder / ".claude/state/flow/state.json"
    path.write_text(path.read_text()[:-5])
    with StateManager("json", "flow") as state, pytest.raises(StateException, match=r"line \d+ column \d+"):
        state.load("phase")
    assert sorted(one.name for one in path.parent.iterdir()) in (
        ["checkpoints", "state.json"],
        ["checkpoints", "lock", "state.json"],
    )
