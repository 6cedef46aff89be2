"""What a screen shows of runs and steps: which run, at which state, and that items are not read."""

import subprocess
import sys
from contextlib import suppress

import pytest

from stateview import LockLost, StateManager
from stateview.workflow import control, progress


@pytest.fixture
def state(store_url):
    with StateManager(store_url, "ns") as manager:
        yield manager


@pytest.fixture
def gone_process():
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    return process.pid


def fail():
    raise ValueError("bad row")


def go(state, name="nightly", items=()):
    with state.run(name) as run:
        run.step("fetch", list)
        list(run.each("send", items))
        run.step("last", fail)


def glance(one):
    return one.name, one.state, one.step


def test_the_newest_run_is_the_one_that_goes_on_or_was_written_last(state):
    assert progress.newest_run(state) is None
    state.save("run/1", "not of ours")
    with state.run("weekly/a") as run:
        run.step("s", int)
    with pytest.raises(ValueError):
        go(state)
    one = progress.newest_run(state)
    assert glance(one) == ("nightly", "failed", "last") and one.since == state.rows("run/nightly")[0].time
    with state.run("weekly/a"):
        with pytest.raises(ValueError):
            go(state)
        assert glance(progress.newest_run(state)) == ("weekly/a", "running", None)
    state.save("run/weekly%2Fa", {**state.load("run/weekly%2Fa"), "state": "running"})  # without a lock
    assert glance(progress.newest_run(state)) == ("weekly/a", "stopped", None)


def test_a_run_whose_process_has_ended_is_stopped_before_its_lock_expires(state, gone_process):
    with suppress(LockLost), state.run("r"):
        key = "lock/run%2Fr"
        with StateManager(state.url, "ns") as other:
            other.save(key, {**state.load(key), "process": gone_process, "started": "1"}, ttl=60)
            other.checkpoint("then")
        assert progress.newest_run(state).state == control.runs(state)[0].state == "stopped"
        assert progress.newest_run(state.at("then"), is_live=False).state == "running"


def test_a_run_is_read_at_any_state_and_what_is_unchanged_is_not_read_again(state, monkeypatch):
    monkeypatch.setattr(progress, "_ROWS", 10)
    with pytest.raises(ValueError):
        go(state, items=[f"i{number:03}" for number in range(35)])
    reader = progress.ProgressReader()
    found = reader.read(state)
    assert [(one.name, one.state, one.items) for one in found.steps] == [
        ("fetch", "done", 0), ("send", "done", 35), ("last", "failed", 0),
    ]  # fmt: skip
    assert found.steps[2].error["message"] == "bad row" and progress.count_of(found.steps) == 2
    assert progress.seconds_of(found.steps[0], 0) == found.steps[0].duration

    past = reader.read(state.at("nightly.fetch"), is_live=False)
    assert glance(past.run)[:2] == ("nightly", "running") and [one.name for one in past.steps] == ["fetch"]
    assert reader.read(state.at("1"), "nightly", is_live=False) is None  # the run had no lock's entry yet

    assert reader.read(state) is not None
    asked = []
    load_many = state.load_many
    monkeypatch.setattr(state, "load_many", lambda keys: asked.extend(keys) or load_many(keys))
    assert reader.read(state, "no such run") == found and asked == ["run/nightly"]


def test_a_step_that_nobody_does_any_more_is_stopped(state):
    with state.run("r") as run:
        for item in run.each("send", ["a", "b"]):
            assert item in "ab"
            step = progress.ProgressReader().read(state).steps
            assert [(one.name, one.state) for one in step] == ([("send", "running")] if item == "b" else [])
        state.save("run/r/old", {"state": "running", "order": 9, "fence": 0, "began": "2026-01-01T00:00:00Z"})
        send, old = progress.ProgressReader().read(state).steps
        assert (send.state, old.state, progress.seconds_of(old, 0)) == ("done", "stopped", None)
