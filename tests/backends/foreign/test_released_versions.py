"""Stores that released versions of other libraries wrote, the first with the format and some since."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from released import run_with

from stateview import StateManager
from stateview.backends.foreign.guess import guess
from stateview.cli.program import main

pytestmark = pytest.mark.stress

LANGGRAPH = """
import sys
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.sqlite import SqliteSaver
config = {"configurable": {"thread_id": "run-1", "checkpoint_ns": ""}}
messages = [HumanMessage(content="hi", id="1"), AIMessage(content="yes", id="2"), HumanMessage(content="bye", id="3")]
with SqliteSaver.from_conn_string(sys.argv[1]) as saver:
    for step in range(3):
        made = {
            "v": 1, "id": f"1ef4f797-8335-6428-8001-8a1503f9b87{step}", "ts": f"2024-07-31T20:14:1{step}.804150+00:00",
            "channel_values": {"messages": messages[: step + 1], "count": step, "when": {"at": (1, 2)}},
            "channel_versions": {"messages": step + 1, "count": step + 1}, "versions_seen": {"agent": {}},
            "pending_sends": [], "updated_channels": None,
        }
        about = {"source": "loop", "step": step, "writes": {}, "parents": {}}
        config = saver.put(config, made, about, {"count": step + 1})
        saver.put_writes(config, [("count", step + 1)], "task-1")
"""


@pytest.mark.parametrize("version", ["1.0.0", "2.0.0", "2.0.11", "3.0.0", "3.1.0"])
def test_threads_of_langgraphs_saver(tmp_path: Path, folder: Path, version: str) -> None:
    path = folder / "runs.sqlite"
    run_with(tmp_path / "python", [f"langgraph-checkpoint-sqlite=={version}"], LANGGRAPH, path)
    store = f"langgraph-sqlite:{path}"
    assert guess(str(path)).url == store
    state = StateManager(store, "run-1")
    assert (state.namespaces(), state.revision, state.load("ch/count")) == (["run-1"], 3, 2)
    texts = ["hi", "yes", "bye"]
    for revision in (1, 2, 3):
        shown = json.dumps(state.load("ch/messages", at=revision))
        assert [text for text in texts if f'"{text}"' in shown] == texts[:revision]
        assert "opaque" not in shown
    assert "HumanMessage" in json.dumps(state.load("ch/messages", at=1))
    assert state.load("metadata", at=2)["step"] == 1
    assert state.load("writes/task-1/0/count") == 3
    assert {change.key for change in state.diff(2, keys="ch/*")} == {"ch/count", "ch/messages"}
    assert state.log()[0].time.year == 2024
    assert state.doctor().ok
    assert main(["-s", "sqlite:copy", "-n", "run-1", "import", store]) == 0
    copy = StateManager("sqlite:copy", "run-1")
    assert copy.load("ch/count", at=state.list_checkpoints()[0]) == 0


DISKCACHE = """
import collections.abc
import sys
vars(collections).update(vars(collections.abc))  # version 3 looks for names where Python 3.9 had them
import diskcache
with diskcache.Cache(sys.argv[1]) as cache:
    cache["text"], cache["long"], cache["bytes"] = "x", "y" * 50_000, b"\\xff"
    cache["list"], cache[5], cache[1.5], cache[b"k"], cache[("t", 1)] = [1, 2], "five", 2.5, None, "pair"
    cache.set("late", 1, expire=1000)
    cache.set("gone", 1, expire=-1)
with diskcache.FanoutCache(sys.argv[2], shards=2) as cache:
    for number in range(20):
        cache[str(number)] = number
"""


@pytest.mark.parametrize("version", ["3.0.0", "4.1.0", "5.0.3", "5.2.1", "5.6.3"])
def test_folders_of_diskcache(tmp_path: Path, folder: Path, version: str) -> None:
    run_with(tmp_path / "python", [f"diskcache=={version}"], DISKCACHE, folder / "c", folder / "f")
    state = StateManager(guess(str(folder / "c")).url, "default")
    found = state.load_many()
    (pickled,) = (key for key in found if key.startswith("$pickle/"))
    assert found.pop(pickled) == "pair"
    assert found.pop("list")["$opaque"]["type"] == "pickle"
    assert found.pop("$bytes/6b")["$opaque"]["type"] == "pickle"
    assert found == {
        "text": "x", "long": "y" * 50_000, "bytes": {"$bytes": {"bytes": 1, "base64": "/w=="}},
        "$int/0000000000000000005": "five", "$float/1.5": 2.5, "late": 1,
    }  # fmt: skip
    assert 900 < (state.entry("late").ttl or 0) <= 1000
    shards = StateManager(guess(str(folder / "f")).url, "000")
    assert len(shards.namespaces()) == 2
    assert sum(StateManager(shards.url, name).head().count for name in shards.namespaces()) == 20
    assert state.doctor().ok
    assert main(["-s", "sqlite:copy", "import", state.url]) == 0


# CrewAI takes 1 GB with all that it needs. These modules of it need little, if the packages around them are empty.
CREWAI = """
import importlib, importlib.util, json, sys, types
import pysqlite3
sys.modules["sqlite3"] = pysqlite3  # Python's own may be of before 3.45, without jsonb()
root = importlib.util.find_spec("crewai").submodule_search_locations[0]
for name in ("", ".state", ".flow", ".flow.persistence", ".utilities"):
    package = types.ModuleType("crewai" + name)
    package.__path__ = [root + name.replace(".", "/")]
    sys.modules[package.__name__] = package
from crewai.state.provider.json_provider import JsonProvider
from crewai.state.provider.sqlite_provider import SqliteProvider
from crewai.flow.persistence.sqlite import SQLiteFlowPersistence
for provider, place in ((SqliteProvider(), sys.argv[1]), (JsonProvider(), sys.argv[2])):
    parent = None
    for number in range(3):
        crew = {"name": "crew", "checkpoint_inputs": {"n": number}}
        data = json.dumps({"parent_id": parent, "branch": "main", "entities": [crew], "event_record": {"nodes": {}}})
        parent = provider.extract_id(provider.checkpoint(data, place, parent_id=parent, branch="main"))
    provider.checkpoint(data, place, parent_id=parent, branch="fork/a")
flows = SQLiteFlowPersistence(sys.argv[3])
for number, method in enumerate(("begin", "work")):
    flows.save_state("flow-1", method, {"id": "flow-1", "n": number, "tags": ["a"] * number})
"""
NEEDED = ["pysqlite3-binary", "pydantic", "aiosqlite", "aiofiles", "portalocker", "appdirs", "typing_extensions"]


@pytest.mark.parametrize("version", ["1.14.2", "1.14.7", "1.15.0", "1.15.30"])
def test_checkpoints_and_flows_of_crewai(tmp_path: Path, folder: Path, version: str) -> None:
    alone = (f"crewai=={version}", *([f"crewai-core=={version}"] if version != "1.14.2" else []))
    places = [folder / "crew.db", folder / "crew", folder / "flows.db"]
    run_with(tmp_path / "python", NEEDED, CREWAI, *places, alone=alone)
    for place in places[:2]:
        state = StateManager(guess(str(place)).url, "main")
        assert state.namespaces() == ["main", "x..fork.2Fa"]
        assert (state.revision, state.load("entity/0/checkpoint_inputs")) == (3, {"n": 2})
        assert [change.key for change in state.diff(1, 2)] == [
            "entity/0/checkpoint_inputs",
            "parent",
            "state/parent_id",
        ]
        assert state.doctor().ok
    flow = StateManager(guess(str(places[2])).url, "flow-1")
    assert [commit.reason for commit in flow.log()] == ["after work", "after begin"]
    assert flow.load_many() == {"state/id": "flow-1", "state/n": 1, "state/tags": ["a"]}
    assert flow.load("state/n", at=1) == 0
    assert main(["-s", "sqlite:copy", "-n", "flow-1", "import", flow.url]) == 0
