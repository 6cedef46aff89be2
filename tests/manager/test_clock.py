"""A clock that was ahead for one commit, and was set back: durations are measured by the clock, not by the log."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stateview import HistoryPruned, StateManager
from stateview.backends.protocol import CommitRequest, Write
from stateview.dashboard.display.text import format_age, format_ago

AHEAD = 30 * 86_400 * 1_000_000


@pytest.fixture
def state(store_url: str) -> Iterator[StateManager]:
    with StateManager(store_url, "n") as state:
        state.save("first", 1)
        ahead = state.backend.now() + AHEAD
        state.backend.commit(CommitRequest({"ahead": Write(b"1")}, time=ahead, reason="ahead"))
        assert state.head().time == ahead
        yield state


def left(state: StateManager, key: str, at: str | int | None = None) -> float:
    version = state.backend.get(key) if at is None else state.backend.read([key], state.at(at)._point).get(key)
    assert version is not None
    return (version.expires - state.backend.now()) / 1e6


def test_what_lives_for_a_time_lives_for_that_time(state: StateManager) -> None:
    state.save("lease", 1, ttl=100)
    state.save("other", 1)
    state.expire("other", 100)
    state.save("kept", 1, ttl=3600)
    state.rename("kept", "renamed")
    state.update("lease", lambda value: value + 1, ttl=100)
    with state.transaction() as tx:
        tx.save("both", 1, ttl=100)
    for key, seconds in (("lease", 100), ("other", 100), ("renamed", 3600), ("both", 100)):
        assert seconds - 20 < left(state, key) <= seconds + 0.05, key  # a server's clock is known that well
    revision = state.checkpoint("c") and state.revision
    state.save("next", 1)  # deletes only what has expired by the clock
    state.save("lease", 3, expected=state.entry("lease").revision, ttl=100)
    for ref in ("c", revision):
        assert state.load("lease", at=ref) == 2
        assert "other" in state.at(ref)
    state.delete("renamed")
    state.restore_checkpoint("c")
    assert 3580 < left(state, "renamed") <= 3600.05
    with state.fork(f"fork-{time.monotonic_ns()}", at="c") as fork:
        assert 3580 < left(fork, "renamed") <= 3600.05
        fork.backend.drop()
    state.save("brief", 1, ttl=0.02)
    state.expire("other", 0.02)
    time.sleep(0.04)
    assert "brief" not in state and "other" not in state
    state.save("next", 2)
    assert state.backend.versions("brief", 1)[0].value is None


def test_the_times_of_commits_rise_and_checkpoints_have_the_time_of_the_clock(state: StateManager) -> None:
    state.save("a", 1)
    times = [commit.time for commit in state.log()]
    assert times == sorted(times, reverse=True)
    state.checkpoint("c")
    assert abs(state.backend.marks()[-1].time - state.backend.now()) < 20_000_000
    time.sleep(0.02)
    assert [one.name for one in state.prune("c", older_than=0.01).checkpoints] == ["c"]
    state.prune((), older_than=0.01, history=True)
    assert state.load("ahead", at=state.revision) == 1
    with pytest.raises(HistoryPruned):
        state.at(0)


@pytest.mark.parametrize("again", [False, True])
def test_state_json_can_be_edited_though_it_was_written_by_a_clock_that_was_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    real = time.time_ns
    with monkeypatch.context() as patch, StateManager(f"json:{tmp_path}", "n") as state:
        patch.setattr(time, "time_ns", lambda: real() + AHEAD * 1000)
        state.save("a", 1)
    if again:
        with StateManager(f"json:{tmp_path}", "n") as state:
            state.save("b", 2)
    path = tmp_path / "n" / "state.json"
    document = json.loads(path.read_text())
    document["a"]["value"] = 3
    path.write_text(json.dumps(document))
    with StateManager(f"json:{tmp_path}", "n") as state:
        assert state.load("a") == 3
        assert state.log()[0].reason == "edited outside"


def test_an_age_in_the_future_is_shown_as_such() -> None:
    now = 10**15
    assert (format_age(now - 5_000_000, now), format_age(now + AHEAD, now)) == ("5 s", "+30 d")
    assert (format_ago(now + AHEAD, now), format_ago(now + 1000, now)) == ("in 30 d", "just now")
