"""`run`: what runs and steps are listed as, and steps that are done again."""

import json
import subprocess
import sys
from contextlib import suppress

import pytest

from stateview import KeyNotFound, LockHeld, LockLost, StateManager
from stateview.workflow import control


@pytest.fixture
def state(store_url, folder, monkeypatch):
    monkeypatch.setenv("STATEVIEW_STORE", store_url)
    monkeypatch.setenv("STATEVIEW_NAMESPACE", "ns")
    with StateManager(store_url, "ns") as manager:
        yield manager


calls = []


def note(name, error=None):
    calls.append(name)
    if error:
        raise error
    return name


def go(state, fails=False, name="nightly"):
    calls.clear()
    with state.run(name, on_change="keep") as run:
        run.step("fetch", note, "fetch")
        list(run.each("send", ["a", "b"]))
        run.step("outer", lambda: run.step("inner", note, "inner"))
        if fails:
            run.step("last", note, "last", ValueError("bad\nrow"))
    return list(calls)


def rows(run, *words):
    code, out, error = run("run", *words, "--format", "json")
    assert code == 0, error
    return json.loads(out)


def test_runs_and_steps_are_listed(state, run):
    assert run("keys")[0] == 1  # nothing was written yet
    with pytest.raises(ValueError):
        go(state, True)
    (status,) = rows(run, "status")
    assert {name: status[name] for name in ("run", "state", "step", "done")} == {
        "run": "nightly", "state": "failed", "step": "last", "done": 4,
    }  # fmt: skip
    found = rows(run, "steps")
    assert [(one["step"], one["state"], one["tries"], one["items"]) for one in found] == [
        ("fetch", "done", 1, ""), ("send", "done", 1, 2), ("outer", "done", 1, ""), ("outer>inner", "done", 1, ""),
        ("last", "failed", 1, ""),
    ]  # fmt: skip
    assert found[-1]["error"] == "ValueError: bad\nrow" and found[0]["seconds"] >= 0
    code, out, _ = run("run", "steps", "nightly", "--format", "table")
    assert code == 0 and "outer>inner" in out
    with state.run("other"):
        assert [(one["run"], one["state"]) for one in rows(run, "status")] == [
            ("nightly", "failed"), ("other", "running"),
        ]  # fmt: skip
    code, _, error = run("run", "steps")
    assert code == 2 and "several runs: nightly, other" in error


def test_reset_and_retry_are_commits_that_undo_takes_back(state, run):
    go(state)
    code, _, error = run("--author", "ann", "run", "reset", "send")
    assert state.log(2)[1].author == "ann" and state.log(2)[1].reason == "run nightly: reset send"
    assert code == 0 and "3 steps of run nightly will be done again: send, outer, outer>inner" in error
    assert "stateview undo" in error and state.list_keys("run/nightly/") == ["run/nightly/fetch"]
    assert run("undo")[0] == 0 and rows(run, "status")[0]["state"] == "done"
    assert len(rows(run, "steps")) == 4 and state.list_keys("run/nightly/send/") != []
    assert run("run", "retry", "fetch")[0] == 0
    assert go(state) == ["fetch"]
    assert run("run", "retry", "outer", "--run", "nightly")[0] == 0
    assert go(state) == ["inner"]
    assert run("run", "reset", "send")[0] == 0
    assert go(state) == ["inner"] and go(state) == ["fetch", "inner"]


def test_what_is_not_there_or_goes_on(state, run):
    go(state)
    for words, text in ((["steps", "x"], "no run 'x'"), (["reset", "fetsch"], "Did you mean fetch?"),
                        (["unlock"], "no process has run 'nightly'")):  # fmt: skip
        code, _, error = run("run", *words)
        assert code == 1 and text in error
    assert run("run", "reset")[0] == 2 and run("run", "status", "x")[0] == 2
    with pytest.raises(KeyNotFound):
        control.only_run(StateManager(state._opened["backend"], "none"), None)
    with state.run("nightly"):
        code, _, error = run("run", "reset", "fetch")
        assert code == 4 and "is held by this process" in error
        with pytest.raises(LockHeld):
            control.reset(state, "nightly", "fetch")


def test_unlock_takes_a_run_away(state, run):
    with pytest.raises(LockLost), state.run("r") as work:
        code, _, error = run("run", "unlock")
        assert code == 0 and "run r is taken away from process" in error
        work.step("s", int)
    assert rows(run, "status")[0]["state"] == "stopped"


def test_steps_whose_process_has_ended_are_stopped(state, run):
    def states():
        return {one["step"]: one["state"] for one in rows(run, "steps")}

    go(state)
    with StateManager(state.url, "ns") as other, suppress(LockLost), state.run("nightly") as work:
        for item in work.each("load", ["a", "b"]):
            if item == "b":
                break
        lock = other.load("lock/run%2Fnightly")
        before = {"began": "2026-01-01T00:00:00Z", "order": 90}
        other.save("run/nightly/now", {**before, "state": "running", "fence": work.lock.fence})
        other.save("run/nightly/lost", {**before, "state": "running", "fence": 0})  # of a process that lost the run
        assert states() == {"load": "running", "now": "running", "lost": "stopped"}

        with subprocess.Popen([sys.executable, "-c", ""]) as ended:
            pass
        other.save("lock/run%2Fnightly", {**lock, "process": ended.pid, "started": "1"}, ttl=60)
        assert rows(run, "status")[0]["state"] == "stopped"
        assert states() == {"load": "stopped", "now": "stopped", "lost": "stopped"}
        shell = [sys.executable, "-m", "stateview", "shell", "-c", "run steps nightly"]
        assert subprocess.run(shell, capture_output=True, text=True, check=True).stdout.count("stopped") == 3
        other.delete("lock/run%2Fnightly")
        assert set(states().values()) == {"stopped"}


def test_the_shell_and_the_completion_know_the_command(state):
    go(state)
    from stateview.cli.completion import candidates

    assert {text for text, _ in candidates(["run", ""])} == {"status", "steps", "retry", "reset", "unlock"}
    assert {"fetch", "outer>inner"} <= {text for text, _ in candidates(["run", "reset", ""])}
    assert candidates(["run", "steps", "ni"])[0] == ("nightly", "done")
    assert candidates(["run", "reset", "x", "--run", "n"]) == [("nightly", "done")]
    words = [sys.executable, "-m", "stateview", "shell"]
    script = "run steps nightly\nrun reset outer\nundo\n"
    done = subprocess.run(words, input=script, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "fetch" in done.stdout and state.log()[0].reason.startswith("undo"), done.stderr
