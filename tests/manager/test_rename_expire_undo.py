"""Rename, expire, and the previews of undo and redo: on every backend, and by their commands."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from forked import forked

from stateview import ABSENT, Conflict, InvalidName, KeyNotFound, ReadOnly, RefNotFound, StateManager


@pytest.fixture
def state(store_url: str) -> Iterator[StateManager]:
    with StateManager(store_url, "main") as manager:
        manager.save("k", {"a": [1, "é"]})
        manager.save("other", 1)
        yield manager


def content(state: StateManager) -> dict[str, Any]:
    return {entry.key: entry.value for entry in state.at("live").entries()}


# --- rename ----------------------------------------------------------------------------------------------------


def test_rename_moves_the_value_in_one_commit(state: StateManager) -> None:
    assert state.rename("k", "new/😀") == state.revision == 3
    assert content(state) == {"other": 1, "new/😀": {"a": [1, "é"]}}
    assert state.log(1)[0].reason == "rename k to new/😀"
    assert [entry.value for entry in state.history("k")] == [ABSENT, {"a": [1, "é"]}]
    state.undo()
    assert content(state) == {"other": 1, "k": {"a": [1, "é"]}}
    state.rename("k", "again", reason="because")
    assert state.log(1)[0].reason == "because"


def test_rename_moves_the_expiry(state: StateManager) -> None:
    state.save("k", 1, ttl=1000)
    state.rename("k", "new")
    assert 990 < (state.entry("new").ttl or 0) <= 1001
    state.save("brief", 1, ttl=0.05)
    state.rename("brief", "new brief")
    time.sleep(0.1)
    assert "new brief" not in state
    state.save("taken for a moment", 1, ttl=0.05)
    time.sleep(0.1)
    state.rename("other", "taken for a moment")
    assert state.entry("taken for a moment").expires is None


@pytest.mark.parametrize(
    ("key", "new", "more", "error", "said"),
    [
        ("nowhere", "new", {}, KeyNotFound, "there is no key 'nowhere'"),
        ("k", "other", {}, Conflict, "key 'other' exists already, since revision 2"),
        ("k", "k", {}, Conflict, "key 'k' exists already"),
        ("k", "new", {"expected": 2}, Conflict, "key 'k' is at revision 1, not at revision 2"),
        ("k", "new", {"expected": 0}, Conflict, "key 'k' exists"),
        ("k", "", {}, InvalidName, "empty"),
        ("k", "n" * 1025, {}, InvalidName, "1,025 bytes"),
        ("k\0", "new", {}, InvalidName, "NUL"),
        ("k", "new", {"expected": -1}, ValueError, "expected=-1"),
    ],
    ids=range(9),
)
def test_what_cannot_be_renamed(
    state: StateManager, key: str, new: str, more: dict[str, Any], error: type[Exception], said: str
) -> None:
    before = content(state)
    with pytest.raises(error, match=said):
        state.rename(key, new, **more)
    assert (content(state), state.revision) == (before, 2)


def test_of_many_who_rename_one_key_one_succeeds_and_no_value_is_lost(state: StateManager) -> None:
    def work(number: int) -> int | None:
        with StateManager(state._opened["backend"], "main") as own:
            try:
                return own.rename("k", f"new {number}")
            except KeyNotFound:
                return None

    with ThreadPoolExecutor(6) as pool:
        done = [one for one in pool.map(work, range(6)) if one]
    assert len(done) == 1
    assert sorted(content(state).values(), key=str) == sorted([1, {"a": [1, "é"]}], key=str)


def test_of_many_who_rename_to_one_key_one_succeeds(state: StateManager) -> None:
    for number in range(6):
        state.save(f"k{number}", number)

    def work(number: int) -> bool:
        with StateManager(state._opened["backend"], "main") as own:
            try:
                return bool(own.rename(f"k{number}", "target"))
            except Conflict:
                return False

    with ThreadPoolExecutor(6) as pool:
        done = [number for number, succeeded in enumerate(pool.map(work, range(6))) if succeeded]
    assert len(done) == 1
    found = content(state)
    assert found.pop("target") == done[0]
    assert {key for key in found if key.startswith("k") and key != "k"} == {f"k{n}" for n in range(6)} - {f"k{done[0]}"}


def test_rename_and_expire_take_what_was_written_while_they_looked(state: StateManager) -> None:
    real = state.backend.commit
    for act in (lambda: state.rename("k", "new"), lambda: state.expire("new", 500)):
        with StateManager(state._opened["backend"], "main") as other:
            acts = [lambda other=other: other.save(other.list_keys("k")[0] if "k" in other else "new", "later")]

            def commit(batch: Any, acts: list[Callable[[], Any]] = acts) -> Any:
                if acts:
                    acts.pop()()
                return real(batch)

            state.backend.commit = commit  # type: ignore[method-assign]
            act()
    assert content(state) == {"new": "later", "other": 1}
    assert state.entry("new").ttl


# --- expire ----------------------------------------------------------------------------------------------------


def test_expire_sets_and_clears_and_leaves_the_value(state: StateManager) -> None:
    assert state.expire("k", 1000) == state.revision == 3
    entry = state.entry("k")
    assert entry.value == {"a": [1, "é"]}
    assert 990 < (entry.ttl or 0) <= 1000
    assert state.log(1)[0].reason == "expire k in 1000 s"
    state.expire("k", None)
    assert state.entry("k").expires is None
    assert state.log(1)[0].reason == "expire k never"
    state.undo()
    assert state.entry("k").expires is not None
    state.expire("k", 0.05)
    time.sleep(0.1)
    assert "k" not in state
    with pytest.raises(KeyNotFound):
        state.expire("k", None)


@pytest.mark.parametrize("ttl", [0, -1, float("nan"), float("inf"), True, "5"])
def test_what_is_no_time_to_expire_in(state: StateManager, ttl: Any) -> None:
    with pytest.raises(ValueError, match="ttl="):
        state.expire("k", ttl)
    assert state.revision == 2


def test_expire_at_an_expected_revision(state: StateManager) -> None:
    with pytest.raises(Conflict, match="not at revision 2"):
        state.expire("k", 5, expected=2)
    assert state.expire("k", 5, expected=1) == 3


def test_reading_only_neither_is_done(state: StateManager) -> None:
    with StateManager(state._opened["backend"], "main", read_only=True) as reader:
        for act in (lambda: reader.rename("k", "new"), lambda: reader.expire("k", 5), lambda: reader.expire("k", None)):
            with pytest.raises(ReadOnly):
                act()
        assert reader.undo(dry_run=True)


# --- undo and redo, previewed ----------------------------------------------------------------------------------


def test_a_preview_of_undo_and_redo_is_what_they_do(state: StateManager) -> None:
    with state.transaction() as tx:
        tx.save("k", {"a": [2, "é"]})
        tx.delete("other")
        tx.save("made", 1, ttl=1000)
    for act in (state.undo, state.undo, state.redo, state.undo, state.redo, state.redo):
        revision = state.revision
        shown = act(dry_run=True)
        patch, counts = shown.as_json_patch(), shown.counts
        assert state.revision == revision
        done = act()
        assert (patch, counts) == (done.as_json_patch(), done.counts)
        assert state.revision == revision + 1


def test_a_preview_of_nothing_to_undo_says_so(state: StateManager) -> None:
    with pytest.raises(RefNotFound, match="nothing to redo"):
        state.redo(dry_run=True)
    state.undo()
    state.undo()
    with pytest.raises(RefNotFound, match="nothing to undo"):
        state.undo(dry_run=True)
    with pytest.raises(Conflict):
        state.redo(dry_run=True, expected=1)


# --- the commands ----------------------------------------------------------------------------------------------


def command(*words: str, code: int = 0) -> tuple[str, str]:
    done = forked(*words)
    assert done.returncode == code, done.stderr
    return done.stdout, done.stderr


@pytest.mark.usefixtures("folder")
def test_the_commands() -> None:
    with StateManager("json", "default") as state:
        state.save("k", 1)
        assert "renamed k to new, revision 2" in command("rename", "k", "new", "--reason", "why")[1]
        assert "there is no key 'k'" in command("rename", "k", "other", code=1)[1]
        state.save("k", 2)
        assert "exists already" in command("rename", "k", "new", code=4)[1]
        assert "new expires in 60 s, revision 4" in command("expire", "new", "60")[1]
        assert state.entry("new").ttl
        assert command("expire", "new", "never", "--format", "json")[0] == '{"key":"new","revision":5,"ttl":null}\n'
        assert state.entry("new").ttl is None
        for text in ("soon", "-5", "0", "nan", "inf"):
            assert "is not a time to expire in" in command("expire", "new", text, code=2)[1]
        assert command("expire", "new", "5", "--expected", "1", code=4)
        assert "undo would change no value" in command("undo", "--dry-run")[1]  # it would give the expiry back
        state.save("k", 3)
        printed, said = command("undo", "--dry-run")
        assert ("~ k  3 → 2" in printed, "dry run: nothing was changed" in said) == (True, True)
        assert (state.load("k"), state.revision) == (3, 6)
        state.undo()
        assert "~ k  2 → 3" in command("redo", "--dry-run")[0]
        assert state.load("k") == 2
