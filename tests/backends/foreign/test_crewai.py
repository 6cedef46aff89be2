"""CrewAI's checkpoints, looked into where they lie: a folder of JSON files, and a SQLite database."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from foreign_stores import crewai

from stateview import StateManager
from stateview.backends.foreign.guess import guess
from stateview.cli.program import main
from stateview.errors import Damaged, ReadOnly


@pytest.mark.parametrize("place", ["crew", "crew.db"])
def test_branches_are_namespaces_and_checkpoints_are_revisions(folder: Path, place: str) -> None:
    crewai(folder / place, {"n": 1}, {"n": 2}, {"n": 2})
    crewai(folder / place, {"n": 9}, branch="fork/a_1")
    store = f"crewai:{place}"
    assert guess(place).url == store
    state = StateManager(store, "main")
    assert state.namespaces() == ["main", "x..fork.2Fa_1"]
    assert state.list_checkpoints() == [f"c-20260131T09000{number}_00000004" for number in range(3)]
    assert state.list_keys("entity/") == ["entity/0/checkpoint_inputs", "entity/0/name", "entity/0/tasks"]
    assert [entry.value for entry in state.history("entity/0/checkpoint_inputs")] == [{"n": 2}, {"n": 1}]
    assert [entry.value for entry in state.history("parent")][-1] is None
    assert state.log()[0].time.isoformat() == "2026-01-31T09:00:02+00:00"
    assert {change.key for change in state.diff("2", "live")} == {"entity/0/tasks", "parent", "state/parent_id"}
    assert StateManager(store, "x..fork.2Fa_1").load("entity/0/checkpoint_inputs") == {"n": 9}
    assert state.doctor().ok
    for words in (["namespaces"], ["log"], ["checkpoints"], ["diff", "1", "live"], ["export", "out.jsonl"]):
        assert main(["-s", store, "-n", "main", *words]) == 0
    assert main(["-s", "sqlite:copy", "-n", "main", "import", store]) == 0
    copy = StateManager("sqlite:copy", "main")
    copy.restore_checkpoint("1", keys=["entity/0/checkpoint_inputs"])
    assert copy.load("entity/0/checkpoint_inputs") == {"n": 1}
    copy.undo()
    assert copy.load("entity/0/checkpoint_inputs") == {"n": 2}
    with pytest.raises(ReadOnly):
        state.save("k", 1)


def test_files_that_are_no_checkpoints_are_opaque_or_left_out(folder: Path) -> None:
    crewai(folder / "crew", {"n": 1}, {"n": 2}, {"n": 3})
    first, second, third = sorted((folder / "crew" / "main").iterdir())
    first.write_text("[" * 100_000)
    second.unlink()
    os.mkfifo(second)
    (folder / "crew" / "main" / "notes.json").write_text("{}")
    state = StateManager("crewai:crew", "main")
    assert state.load("state", at="1")["$opaque"]["bytes"] == 100_000
    assert (state.revision, state.load("entity/0/checkpoint_inputs")) == (2, {"n": 3})
    third.write_bytes(b'{"entities": [{"a": \xff}]}')
    assert state.load("state")["$opaque"]["type"] == "JSON"
    (folder / "no.db").write_text("x")
    with pytest.raises(Damaged, match="no SQLite database"):
        StateManager("crewai:no.db", "main").list_keys()
