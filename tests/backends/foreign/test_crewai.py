"""CrewAI's checkpoints, looked into where they lie: a folder of JSON files, and a SQLite database."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from hashlib import sha256
from pathlib import Path

import pytest
from foreign_stores import crewai, crewai_flow

from stateview import StateManager
from stateview.backends.foreign.guess import guess
from stateview.cli.program import main
from stateview.errors import Damaged, ReadOnly

RECORDED = Path(__file__).parents[2] / "data" / "crewai_flow.db"


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


def test_each_state_that_a_flow_saved_is_a_revision_named_by_its_method(folder: Path) -> None:
    flow = crewai_flow(folder / "flows.db", ("begin", {"id": "flow-1", "n": 1}), ("work", {"id": "flow-1", "n": 2}))
    crewai_flow(flow, ("begin", {"n": 9}), flow="b c")
    assert guess(str(flow)).url == f"crewai:{flow}"
    state = StateManager(f"crewai:{flow}", "flow-1")
    assert state.namespaces() == ["flow-1", "x..b.20c"]
    assert state.list_checkpoints() == ["c-1", "c-2"]
    assert [commit.reason for commit in state.log()] == ["after work", "after begin"]
    assert state.log()[0].time.isoformat() == "2026-01-31T09:00:01+00:00"
    assert (state.load("state/n"), state.load("state/n", at="c-1")) == (2, 1)
    assert {change.key for change in state.diff("c-1")} == {"state/n"}
    assert StateManager(f"crewai:{flow}", "x..b.20c").load("state/n") == 9
    assert main(["-s", "sqlite:copy", "-n", "flow-1", "import", f"crewai:{flow}"]) == 0
    copy = StateManager("sqlite:copy", "flow-1")
    copy.restore_checkpoint("c-1")
    assert copy.load("state/n") == 1


def test_a_flow_that_crewai_ran_is_read() -> None:
    """`tests/data/crewai_flow.db` was made by a flow of CrewAI 1.15.30 with the methods `begin` and `work`."""
    found = guess(str(RECORDED))
    state = StateManager(found.url, StateManager(found.url, "main").namespaces()[0])
    assert [(commit.reason, commit.time.isoformat()[:19]) for commit in state.log()] == [
        ("after work", "2026-11-29T19:09:27"), ("after begin", "2026-11-29T19:09:27"),
    ]  # fmt: skip
    assert {change.key: change.after for change in state.diff(1)} == {"state/n": 2, "state/tags": ["x"]}
    assert sorted(path.name for path in RECORDED.parent.glob(f"{RECORDED.name}*")) == [RECORDED.name]


def test_states_of_flows_that_are_no_objects_or_have_no_time_are_read(folder: Path) -> None:
    flow = crewai_flow(folder / "flows.db", ("a", {"n": 1}), ("b", {"n": 2}), ("c", {"n": 3}))
    with closing(sqlite3.connect(flow)) as db, db:
        db.execute("UPDATE flow_states SET state_json = x'ff5b', timestamp = x'ff' WHERE id = 1")
        db.execute("UPDATE flow_states SET state_json = '[1]', timestamp = 'never' WHERE id = 2")
    state = StateManager(f"crewai:{flow}", "flow-1")
    assert state.load("state", at="c-2")["$opaque"] == {
        "type": "JSON",
        "bytes": 3,
        "sha256": sha256(b"[1]").hexdigest()[:16],
    }
    assert (state.load("state/n"), "state" in state) == (3, False)
    assert state.load("state", at="c-1")["$opaque"]["type"] == "JSON"
    assert state.doctor().ok
