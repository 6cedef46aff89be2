"""Taking back one commit in the middle, and leaving all later ones in place: on every backend."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stress import examples

from stateview import Conflict, HistoryPruned, InvalidName, NamespaceNotFound, RefNotFound, StateManager
from stateview.backends.protocol import CommitRequest, Head

pytestmark = pytest.mark.usefixtures("folder")


def content(state: StateManager, at: str | int = "live") -> dict[str, Any]:
    return state.load_many(at=at)


@pytest.fixture
def state(store_url: str) -> Iterator[StateManager]:
    """Commit 3 changes a, deletes b and makes c and d; later commits write d, e and back."""
    with StateManager(store_url, "w") as state:
        with state.transaction() as tx:  # 1
            for key in "abe":
                tx.save(key, f"{key}1")
        state.save("other", 1)
        with state.transaction("the wrong one") as tx:  # 3
            tx.save("a", "a3")
            tx.delete("b")
            tx.save("c", "c3")
            tx.save("d", "d3")
        state.save("other", 4)
        yield state


def test_what_nobody_changed_since_goes_back(state: StateManager) -> None:
    before = content(state)
    planned = state.revert_commit(3, dry_run=True)
    assert (planned.conflicts, planned.checkpoint, state.revision) == ({}, "", 4)
    applied = state.revert_commit(3)
    changes = [(change.key, change.kind) for change in applied]
    assert changes == [("a", "changed"), ("b", "added"), ("c", "removed"), ("d", "removed")]
    assert [(change.key, change.kind) for change in planned] == changes, "the preview read it before"
    assert content(state) == {"a": "a1", "b": "b1", "e": "e1", "other": 4} and state.revision == 5
    assert state.log(1)[0].reason == "revert 3: the wrong one"
    assert applied.checkpoint.startswith("before_revert_") and content(state, applied.checkpoint) == before
    assert [mark.kind for mark in state.checkpoints()] == ["safety"]
    again = state.revert_commit(3)
    assert (list(again), again.conflicts, again.checkpoint, state.revision) == ([], {}, "", 5)
    state.undo()
    assert content(state) == before
    state.redo()
    assert content(state) == {"a": "a1", "b": "b1", "e": "e1", "other": 4}
    state.revert_commit(5, reason="it was right")
    assert content(state) == before and state.log(1)[0].reason == "it was right"


def test_what_was_changed_since_is_a_conflict(state: StateManager) -> None:
    state.save("d", "d5")
    state.delete("c")
    state.delete("a")
    before = content(state)
    planned = state.revert_commit(3, dry_run=True)
    assert planned.conflicts == {"a": 7, "d": 5} and [change.key for change in planned] == ["b"]
    with pytest.raises(Conflict, match=r"commit 3.*'a' \(revision 7\), 'd' \(revision 5\)"):
        state.revert_commit(3)
    assert content(state) == before and state.revision == 7 and not state.checkpoints()
    applied = state.revert_commit(3, skip_conflicts=True)
    assert applied.conflicts == {"a": 7, "d": 5} and [change.key for change in applied] == ["b"]
    assert content(state) == {**before, "b": "b1"}


def test_what_was_changed_and_put_back_is_no_conflict(state: StateManager) -> None:
    state.undo()
    state.redo()
    state.save("d", "else")
    state.save("d", "d3")
    state.save("a", "a1")  # as before the commit
    assert [change.key for change in state.revert_commit(3)] == ["b", "c", "d"]
    assert content(state)["a"] == "a1"


def test_an_expiry_belongs_to_what_was_written(store_url: str) -> None:
    with StateManager(store_url, "w") as state:
        state.save("a", 1, ttl=1000)
        state.save("b", 1)
        with state.transaction() as tx:  # 3
            tx.save("a", 2)
            tx.save("b", 2, ttl=0.02)
            tx.save("c", 2, ttl=0.02)
            tx.save("d", 2)
        state.expire("d", 500)
        time.sleep(0.15)
        for cleared in (False, True):
            if cleared:
                state.save("other", 1)  # deletes what has expired
            planned = state.revert_commit(3, dry_run=True)
            assert planned.conflicts == {"d": 4} and [change.key for change in planned] == ["a", "b"]
        state.revert_commit(3, skip_conflicts=True)
        assert content(state) == {"a": 1, "b": 1, "d": 2, "other": 1}
        assert 900 < (state.entry("a").ttl or 0) <= 1000 and state.entry("b").expires is None


def test_a_commit_is_named_by_any_ref(state: StateManager) -> None:
    state.checkpoint("wrong", at=3)
    for ref in (3, "3", "live~1", "wrong", f"@{state.log()[1].time.isoformat()}"):
        assert [change.key for change in state.revert_commit(ref, dry_run=True)] == ["a", "b", "c", "d"]
    assert [change.key for change in state.revert_commit("live", dry_run=True)] == ["other"]


def test_the_first_commit_can_be_reverted(state: StateManager) -> None:
    assert state.revert_commit(1, dry_run=True).conflicts == {"a": 3}
    state.revert_commit(1, skip_conflicts=True)
    assert content(state) == {"a": "a3", "c": "c3", "d": "d3", "other": 4}


def test_what_is_no_commit_is_refused(state: StateManager, store_url: str) -> None:
    for ref in (99, "nope", 0, "live~4"):
        with pytest.raises(RefNotFound):
            state.revert_commit(ref)
    with pytest.raises(InvalidName):
        state.revert_commit("a b")
    with pytest.raises(NamespaceNotFound), StateManager(store_url, "never") as never:
        never.revert_commit(1)
    state.checkpoint("kept", at=3)
    state.compact(4)
    for ref in (2, 3, "kept", 4):
        with pytest.raises(HistoryPruned):
            state.revert_commit(ref)
    assert state.revision == 4


def test_the_preview_and_the_expected_revision_are_checked(state: StateManager) -> None:
    with pytest.raises(Conflict, match="not at 3"):
        state.revert_commit(3, expected=3)
    state.save("other", 5)
    state.revert_commit(3, dry_run=True, previewed=4)
    state.save("d", "d6")
    with pytest.raises(Conflict, match="'d'"):
        state.revert_commit(3, previewed=5, skip_conflicts=True)
    assert state.revision == 6
    applied = state.revert_commit(3, previewed=6, skip_conflicts=True, expected=6)
    assert [change.key for change in applied] == ["a", "b", "c"]


def test_a_key_that_is_written_between_the_comparison_and_the_commit(
    state: StateManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It becomes a conflict; other keys do not matter."""
    original, writes = state._commit, [("other", 9), ("d", "late")]

    def commit(request: CommitRequest) -> Head:
        if writes and request.marks:
            with StateManager(state.url, "w") as other:
                other.save(*writes.pop(0))
        return original(request)

    monkeypatch.setattr(state, "_commit", commit)
    applied = state.revert_commit(3)
    assert [change.key for change in applied] == ["a", "b", "c", "d"], "a write of another key is no conflict"
    state.undo()
    with pytest.raises(Conflict, match="'d'"):
        state.revert_commit(3)
    assert state.load("d") == "late" and "b" not in state


def test_writers_of_other_keys_lose_nothing(store_url: str) -> None:
    with StateManager(store_url, "w") as state, StateManager(store_url, "w") as other:
        state.save("a", 1)
        state.save("a", 2)
        ended = threading.Event()

        def write() -> None:
            for number in range(30):
                other.save("b", number)
            ended.set()

        thread = threading.Thread(target=write)
        thread.start()
        state.revert_commit(2)
        thread.join()
        assert ended.is_set() and content(state) == {"a": 1, "b": 29}


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_command(state: StateManager, store_url: str, run: Callable[..., tuple[int, str, str]]) -> None:
    def done(*words: str) -> tuple[int, str, str]:
        return run("-s", store_url, "-n", "w", "revert", *words)

    code, out, err = done("--commit", "3", "--dry-run", "--format", "json")
    assert code == 0 and "dry run" in err and [change["key"] for change in json.loads(out)] == ["a", "b", "c", "d"]
    state.save("d", "d5")
    code, out, err = done("--commit", "3", "--dry-run")
    assert code == 4 and "'d' (revision 5)" in err and "b1" in out
    code, out, err = done("--commit", "3")
    assert (code, out) == (4, "") and "'d' (revision 5)" in err and "--skip-conflicts" in err
    assert state.revision == 5
    code, out, err = done("--commit", "live~2", "--skip-conflicts", "--reason", "sorry")
    assert (
        code == 0 and "reverted commit 3: 3 keys" in err and "'d' (revision 5)" in err and " undo' takes it back" in err
    )
    assert content(state) == {"a": "a1", "b": "b1", "d": "d5", "e": "e1", "other": 4}
    assert state.log(1)[0].reason == "sorry"
    code, out, err = done("--commit", "3", "--skip-conflicts")
    assert (code, out) == (0, "") and "nothing to revert; changed since" in err
    assert run("-s", store_url, "-n", "w", "shell", "-c", "revert a 3")[0] == 0
    assert state.load("a") == "a3" and state.log(1)[0].reason == "restore 3 --keys a"
    assert "dry run" in done("a", "1", "--dry-run")[2] and state.load("a") == "a3"
    for words in ([], ["a"], ["a", "1", "--commit", "3"], ["a", "1", "--reason", "x"], ["--commit", "a b"]):
        assert done(*words)[0] == 2, words


# --- against a model --------------------------------------------------------------------------------------------------


WRITES = st.dictionaries(st.sampled_from("abcd"), st.none() | st.integers(0, 2), min_size=1)


@settings(max_examples=examples(40))
@given(commits=st.lists(WRITES, min_size=1, max_size=6), data=st.data())
def test_against_a_model(
    new_store: Callable[[str], str], kind: str, commits: list[dict[str, int | None]], data: st.DataObject
) -> None:
    check_revert(new_store(kind), commits, data)


@pytest.mark.stress
@settings(max_examples=examples(100))
@given(commits=st.lists(WRITES, min_size=1, max_size=6), data=st.data())
def test_many_against_a_model(
    new_store: Callable[[str], str], kind: str, commits: list[dict[str, int | None]], data: st.DataObject
) -> None:
    check_revert(new_store(kind), commits, data)


def check_revert(url: str, commits: list[dict[str, int | None]], data: st.DataObject) -> None:
    states: list[dict[str, int]] = [{}]
    with StateManager(url, "w") as state:
        for writes in commits:
            with state.transaction() as tx:
                for key, value in writes.items():
                    if value is not None or key not in states[-1]:  # a delete of an absent key writes nothing
                        tx.save(key, value or 0)
                    else:
                        tx.delete(key)
            states.append(content(state))
        revision = data.draw(st.integers(1, len(commits)))
        before, after, live = states[revision - 1], states[revision], states[-1]
        wanted, conflicts = dict(live), set()
        for key in commits[revision - 1]:
            old, wrote, now = (one.get(key) for one in (before, after, live))
            if now == old:
                continue
            if now != wrote:
                conflicts.add(key)
            elif old is None:
                del wanted[key]
            else:
                wanted[key] = old
        applied = state.revert_commit(revision, skip_conflicts=True)
        assert (content(state), set(applied.conflicts)) == (wanted, conflicts)
        assert state.revision == len(commits) + (wanted != live)
