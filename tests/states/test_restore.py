"""Restoring single changed paths, and only what nobody wrote since the preview: on every backend."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from forked import forked
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stress import examples, first

from stateview import Conflict, HistoryPruned, InvalidName, KeyNotFound, StateManager
from stateview.backends.protocol import CommitRequest, Head
from stateview.states.changes import SIGNS

PLAN = {"name": "plan", "state": "ready"}
JOB = {"tasks": [PLAN, {"name": "scout", "state": "done"}], "tries": 0, "note": "x"}
LATER = {"tasks": [{"name": "lint"}, PLAN, {"name": "scout", "state": "lost"}], "tries": 9}


@pytest.fixture
def state(store_url: str) -> Iterator[StateManager]:
    with StateManager(store_url, "main") as manager:
        yield manager


@pytest.fixture
def job(state: StateManager) -> StateManager:
    """A state with the checkpoint `cp`, and a live one in which four places of `job` differ from it."""
    with state.transaction() as tx:
        tx.save("job", JOB)
        tx.save("gone", [1])
        tx.save("same", 1)
    state.checkpoint("cp")
    with state.transaction() as tx:
        tx.save("job", LATER)
        tx.delete("gone")
        tx.save("made", {"a": 1})
    return state


def content(state: StateManager, at: str | int = "live") -> dict[str, Any]:
    return {entry.key: entry.value for entry in state.at(at).entries()}


def named(state: StateManager) -> dict[str, list[str]]:
    return {
        change.key: [SIGNS[one.kind] + one.path for one in change.paths]
        for change in state.restore_checkpoint("cp", dry_run=True)
    }


# --- paths -----------------------------------------------------------------------------------------------------


def test_one_change_comes_back_and_the_others_stay(job: StateManager) -> None:
    assert named(job)["job"] == ["-/tasks/0", "~/tasks/1/state", "~/tries", "+/note"]
    before = content(job)
    done = job.restore_checkpoint("cp", paths={"job": ["~/tasks/1/state"]})
    assert [(change.key, [tuple(one) for one in change.paths]) for change in done] == [
        ("job", [("/tasks/2/state", "changed", "lost", "done")])
    ]
    tasks = [{"name": "lint"}, PLAN, {"name": "scout", "state": "done"}]
    assert content(job) == {**before, "job": {"tasks": tasks, "tries": 9}}
    (mark,) = (one for one in job.checkpoints() if one.name.startswith("before_restore_"))
    assert content(job, mark.name) == before
    assert job.log(1)[0].reason == "restore cp --path job#~/tasks/1/state"
    job.undo()
    assert content(job) == before


def test_all_changes_of_a_key_are_the_whole_key(job: StateManager) -> None:
    job.restore_checkpoint("cp", paths={"job": [one[1:] for one in named(job)["job"]]})
    assert content(job) == {"job": JOB, "same": 1, "made": {"a": 1}}


def test_a_key_that_is_on_one_side_only_has_the_empty_pointer(job: StateManager) -> None:
    job.restore_checkpoint("cp", paths={"gone": [""], "made": "-"})
    assert content(job) == {"job": LATER, "same": 1, "gone": [1]}


def test_paths_and_keys_together_choose_what_either_does(job: StateManager) -> None:
    job.restore_checkpoint("cp", keys=["g*"], paths={"job": "/note", "gone": []})
    assert content(job) == {"job": {**LATER, "note": "x"}, "same": 1, "gone": [1], "made": {"a": 1}}
    job.undo()
    job.restore_checkpoint("cp", keys="job", paths={"job": "/note"})
    assert job.load("job") == JOB


def test_nothing_chosen_changes_nothing(job: StateManager) -> None:
    revision = job.revision
    assert not job.restore_checkpoint("cp", paths={})
    assert not job.restore_checkpoint("cp", paths={"job": [], "same": [], "nowhere": ()})
    assert not job.restore_checkpoint("cp", paths={"job": []}, dry_run=True)
    assert job.revision == revision


def test_the_expiry_stays_unless_all_changes_are_chosen(state: StateManager) -> None:
    state.save("k", {"a": 1, "b": 1}, ttl=1000)
    state.checkpoint("cp")
    state.save("k", {"a": 2, "b": 2}, ttl=5000)
    state.restore_checkpoint("cp", paths={"k": ["/a"]})
    entry = state.entry("k")
    assert entry.value == {"a": 1, "b": 2}
    assert 4980 < (entry.ttl or 0) <= 5001
    state.restore_checkpoint("cp", paths={"k": ["/b"]})
    entry = state.entry("k")
    assert entry.value == {"a": 1, "b": 1}
    assert 980 < (entry.ttl or 0) <= 1001


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        ({"job": ["/tries", "/nowhere"]}, "key 'job': there is no change at '/nowhere'"),
        ({"job": [""]}, "there is no change at ''"),
        ({"job": ["+/tries"]}, "there is no change at '\\+/tries'"),
        ({"gone": ["/0"]}, "key 'gone': there is no change at '/0'"),
        ({"same": [""]}, "key 'same' does not differ"),
        ({"nowhere": [""]}, "key 'nowhere' does not differ"),
    ],
    ids=["no such place", "not as a whole", "other kind", "inside a key that is gone", "no difference", "no key"],
)
@pytest.mark.parametrize("dry_run", [False, True])
def test_what_is_not_among_the_changes_is_an_error(job: StateManager, paths: Any, message: str, dry_run: bool) -> None:
    revision = job.revision
    with pytest.raises(KeyNotFound, match=message):
        job.restore_checkpoint("cp", paths=paths, dry_run=dry_run)
    assert job.revision == revision


def test_a_key_that_cannot_be_is_refused(job: StateManager) -> None:
    with pytest.raises(InvalidName):
        job.restore_checkpoint("cp", paths={"": [""]})


values = st.recursive(
    st.integers(0, 3) | st.sampled_from(["", "a"]),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.sampled_from("ab/~"), inner, max_size=3),
    max_leaves=12,
)


@settings(max_examples=examples(40), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(st.sampled_from("abc"), values), st.dictionaries(st.sampled_from("abc"), values), st.data()
)  # fmt: skip
def test_a_dry_run_shows_exactly_what_is_applied(tmp_path: Any, then: Any, now: Any, data: st.DataObject) -> None:
    with StateManager(f"sqlite:{tmp_path}/{os.urandom(4).hex()}", "main") as state:
        for some in (then, now):
            with state.transaction() as tx:
                tx.save("always", str(some))
                for key in "abc":
                    tx.save(key, some[key]) if key in some else tx.delete(key)
            if some is then:
                state.checkpoint("cp")
        everything = [(key, path) for key, paths in named(state).items() for path in paths]
        chosen = data.draw(st.sets(st.sampled_from(everything)) if everything else st.just(set()))
        paths: dict[str, list[str]] = {}
        for key, path in chosen:
            paths.setdefault(key, []).append(path)
        before = state.restore_checkpoint("cp", paths=paths, dry_run=True).as_json_patch()
        assert state.restore_checkpoint("cp", paths=paths).as_json_patch() == before
        state.restore_checkpoint("cp")
        assert {key: value for key, value in content(state).items() if key in "abc"} == then


# --- previewed -------------------------------------------------------------------------------------------------


def test_what_others_wrote_to_other_keys_does_not_matter(job: StateManager) -> None:
    seen = job.revision
    job.save("other", 1)
    job.save("same", 2)
    for choice in ({"keys": ["job"]}, {"keys": ["ma*"]}, {"paths": {"gone": [""]}}):
        assert job.restore_checkpoint("cp", previewed=seen, dry_run=True, **choice)
        assert job.restore_checkpoint("cp", previewed=seen, **choice)
        seen = job.revision
        job.save("other", seen)
    assert content(job) == {"job": JOB, "gone": [1], "same": 2, "other": seen}


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize(
    ("act", "choice", "named"),
    [
        (lambda s: s.save("job", 5), {}, "1 key to restore .* 'job'$"),
        (lambda s: s.save("job", 5), {"keys": "job"}, "'job'"),
        (lambda s: s.save("job", JOB | {"tries": 9}), {"paths": {"job": ["/tries"]}}, "'job'"),
        (lambda s: s.save("new", 5), {}, "'new'"),
        (lambda s: s.save("new", 5), {"keys": "n*"}, "'new'"),
        (lambda s: s.delete("same"), {}, "'same'"),
        (lambda s: s.delete("same"), {"keys": ["same", "job"]}, "'same'"),
        (lambda s: [s.save(f"n{i}", 1) for i in range(5)], {}, "5 keys .* 'n0', 'n1', 'n2', …"),
    ],
    ids=["key", "by name", "by path", "made since", "made since, by glob", "deleted", "deleted, by name", "several"],
)
def test_what_was_written_since_the_preview_is_a_conflict(
    job: StateManager, act: Callable[[StateManager], Any], choice: dict[str, Any], named: str, dry_run: bool
) -> None:
    seen = job.revision
    act(job)
    before, revision = content(job), job.revision
    with pytest.raises(Conflict) as raised:
        job.restore_checkpoint("cp", previewed=seen, dry_run=dry_run, **choice)
    assert re.search(named, raised.value.message), raised.value.message
    assert (content(job), job.revision) == (before, revision)
    if "paths" not in choice:
        assert job.restore_checkpoint("cp", previewed=revision, **choice)


def test_a_revision_that_never_was_is_a_conflict(job: StateManager) -> None:
    with pytest.raises(Conflict):
        job.restore_checkpoint("cp", previewed=job.revision + 1)
    with pytest.raises(ValueError, match="previewed"):
        job.restore_checkpoint("cp", previewed=-1)


def test_a_preview_that_the_history_no_longer_reaches(job: StateManager) -> None:
    seen = job.revision
    job.save("other", 1)
    job.save("other", 2)
    job.compact(job.revision)
    with pytest.raises(HistoryPruned, match="'gone' was deleted"):
        job.restore_checkpoint("cp", previewed=seen)
    job.save("made", 2)
    with pytest.raises(Conflict, match="'made'"):
        job.restore_checkpoint("cp", keys=["made", "job"], previewed=seen)
    assert job.restore_checkpoint("cp", keys=["job"], previewed=seen)
    assert job.load("job") == JOB


# --- in between ------------------------------------------------------------------------------------------------


class Meanwhile:
    """Has another manager write right before a manager's next commits: after its look, before its write."""

    def __init__(self, state: StateManager, *acts: Callable[[StateManager], Any]) -> None:
        self.acts = list(acts)
        self.other = StateManager(state.url, state.namespace)
        self.commit = state.backend.commit
        state.backend.commit = self  # type: ignore[method-assign]

    def __call__(self, batch: CommitRequest) -> Head:
        if self.acts:
            self.acts.pop(0)(self.other)
        return self.commit(batch)


def test_a_write_between_look_and_commit_elsewhere_does_no_harm(job: StateManager) -> None:
    for choice in ({"keys": ["job"]}, {"paths": {"gone": ""}}, {"keys": ["ma*"]}):
        Meanwhile(job, *(lambda other: other.save("same", time.monotonic()) for _ in range(3)))
        seen = job.revision
        applied = job.restore_checkpoint("cp", previewed=seen, **choice)
        assert len(applied) == 1
        before = job.list_checkpoints()[-1]
        assert before.startswith("before_restore_")
        assert [change.key for change in job.diff(before)] == [change.key for change in applied]
    assert {key: value for key, value in content(job).items() if key != "same"} == {"job": JOB, "gone": [1]}


@pytest.mark.parametrize(
    ("act", "choice"),
    [
        (lambda other: other.save("job", 5), {"keys": ["job"]}),
        (lambda other: other.save("job", 5), {"paths": {"job": ["/tries"]}}),
        (lambda other: other.save("gone", 5), {"keys": ["gone", "made"]}),
        (lambda other: other.delete("made"), {"keys": ["made", "job"]}),
        (lambda other: other.save("makes", 5), {"keys": ["ma*"]}),
        (lambda other: other.save("new", 5), {}),
    ],
    ids=["key", "path", "made", "deleted", "made, by glob", "made, of all"],
)
def test_a_write_between_look_and_commit_to_what_is_restored_is_a_conflict(
    job: StateManager, act: Callable[[StateManager], Any], choice: dict[str, Any]
) -> None:
    seen = job.revision
    Meanwhile(job, act)
    if choice == {"keys": ["made", "job"]}:  # what is as it should be needs no write any more
        job.restore_checkpoint("cp", previewed=seen, **choice)
        assert "made" not in job
        return
    with pytest.raises(Conflict, match="changed since revision"):
        job.restore_checkpoint("cp", previewed=seen, **choice)
    assert job.revision == seen + 1


def test_many_keys_by_name_are_each_looked_at(state: StateManager) -> None:
    names = [f"k{number:04}" for number in range(1200)]
    for value in (1, 2):
        with state.transaction() as tx:
            for name in names[:-1]:
                tx.save(name, value)
        if value == 1:
            state.checkpoint("cp")
            state.save(names[-1], 1)
            state.checkpoint("cp")
    Meanwhile(state, lambda other: other.save("elsewhere", 1))
    seen = state.revision
    assert len(state.restore_checkpoint("cp", keys=names, previewed=seen)) == 1199
    state.undo()
    seen = state.revision
    Meanwhile(state, lambda other: other.save(names[-1], 3))  # one that was as it should be
    with pytest.raises(Conflict, match=names[-1]):
        state.restore_checkpoint("cp", keys=names, previewed=seen)


def test_without_a_preview_what_is_written_in_between_is_restored_too(job: StateManager) -> None:
    then = content(job, "cp")
    Meanwhile(job, lambda other: other.save("job", 5), lambda other: other.save("new", 5), lambda other: other.undo())
    job.restore_checkpoint("cp")
    assert content(job) == then
    Meanwhile(job, lambda other: other.save("job", 5))
    job.save("job", 6)
    job.restore_checkpoint("cp", keys=["job"])
    assert content(job) == then


def test_more_in_between_than_the_history_keeps(store_url: str) -> None:
    with StateManager(store_url, "main", history=1) as state:
        state.save("a", 1)
        state.checkpoint("cp")
        state.save("a", 2)

        def much(other: StateManager) -> None:
            for number in range(120):
                other.save("b", number)
            other.compact(other.revision)

        Meanwhile(state, much)
        state.restore_checkpoint("cp")
        assert content(state) == {"a": 1}


WRITER = """
import sys, time
from stateview import StateManager
state = StateManager(sys.argv[1], "main")
began = time.monotonic()
number = 0
while True:
    state.save(f"busy:{number % 50}", number)
    number += 1
    time.sleep(max(0, began + number / 500 - time.monotonic()))
"""


CHOICES: list[dict[str, Any]] = [{"paths": {"job": ["/tries"]}}, {"keys": ["job", "gone"]}, {"keys": ["[jgm]*"]}]


@pytest.mark.parametrize("choice", first(CHOICES))
def test_it_succeeds_while_another_commits_500_times_a_second(job: StateManager, choice: dict[str, Any]) -> None:
    url = str(job._opened["backend"])
    writer = subprocess.Popen([sys.executable, "-c", WRITER, url])
    try:
        while "busy:10" not in job:
            time.sleep(0.01)
        for _ in range(5):
            seen = job.revision
            time.sleep(0.1)
            assert job.restore_checkpoint("cp", previewed=seen, **choice)
            before = job.list_checkpoints()[-1]
            after = job.checkpoints()[-1].revision + 1
            assert all(not change.key.startswith("busy") for change in job.diff(before, after))
            with job.transaction() as tx:
                tx.save("job", LATER)
                tx.save("gone", time.monotonic())
        assert writer.poll() is None
    finally:
        writer.kill()
        writer.wait()


# --- the command -----------------------------------------------------------------------------------------------


def command(*words: str, code: int = 0) -> tuple[str, str]:
    done = forked(*words)
    assert done.returncode == code, done.stderr
    return done.stdout, done.stderr


@pytest.mark.usefixtures("folder")
def test_the_command_restores_single_paths() -> None:
    with StateManager("json", "default") as state:
        with state.transaction() as tx:
            for key in ("a", "a#", "a#/b", "x#y"):
                tx.save(key, {"b": 1, "#": {"/": 1}})
            tx.save("a#/b#", 1)
        state.checkpoint("cp")
        with state.transaction() as tx:
            for key in ("a", "a#", "a#/b", "x#y"):
                tx.save(key, {"b": 2, "#": {"/": 2}})
        printed, said = command("restore", "cp", "--path", "x#y#/#/~1", "--path", "a#/b", "--dry-run")
        assert printed == (
            "2 keys differ: ~2 changed\n~ a\n    ~ /b  2 → 1\n~ x#y\n    ~ /#/~1  2 → 1\n"
        )  # fmt: skip
        assert "dry run" in said
        assert state.load("a", at="live")["b"] == 2
        again, said = command("restore", "cp", "--path", "x#y#/#/~1", "--path", "a#/b")
        assert again == printed
        assert "restored cp: 2 paths of 2 keys (2 changed)" in said
        assert state.load("x#y") == {"b": 2, "#": {"/": 1}}
        _, said = command("restore", "cp", "--path", "a#/b#~/b", "--keys", "x#y")
        assert "restored cp: 1 key and 1 path of 1 key (2 changed)" in said
        assert (state.load("a#/b"), state.load("x#y")) == ({"b": 1, "#": {"/": 2}}, {"b": 1, "#": {"/": 1}})
        assert "is not KEY#POINTER" in command("restore", "cp", "--path", "a", code=2)[1]
        assert "no key 'zz' or 'zz#' differs" in command("restore", "cp", "--path", "zz##/b", code=1)[1]
        assert "no change at '/c'" in command("restore", "cp", "--path", "a##/c", code=1)[1]


@pytest.mark.usefixtures("folder")
def test_the_command_holds_to_what_was_previewed() -> None:
    with StateManager("json", "default") as state:
        state.save("a", 1)
        state.checkpoint("cp")
        seen = state.save("a", 2)
        state.save("b", 1)
        assert "'b'" in command("restore", "cp", "--previewed", str(seen), code=4)[1]
        printed, _ = command("restore", "cp", "--keys", "a", "--previewed", str(seen), "--format", "json")
        assert json.loads(printed)
        assert content(state) == {"a": 1, "b": 1}
