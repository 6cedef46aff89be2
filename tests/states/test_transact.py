"""`transact` and `Transaction.checkpoint`: a block that is retried, and a commit that names its own state."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from stateview import Conflict, InvalidName, KeyNotFound, ReadOnly, Reentered, StateManager, Transaction
from stateview.sealing.keys import UserKey


@pytest.fixture
def state(store_url: str) -> Iterator[StateManager]:
    with StateManager(store_url, "main") as manager:
        manager.save("a", 10)
        manager.save("b", 0)
        yield manager


@pytest.fixture
def other(state: StateManager) -> Iterator[StateManager]:
    with StateManager(state._opened["backend"], "main") as manager:
        yield manager


def content(state: StateManager) -> dict[str, Any]:
    return {entry.key: entry.value for entry in state.at("live").entries()}


def test_a_block_is_called_again_when_another_writer_came_first(state: StateManager, other: StateManager) -> None:
    seen = []

    def move(tx: Transaction) -> str:
        seen.append(tx.load("a"))
        if len(seen) < 3:
            other.update("a", lambda value: value + 1)
        tx.save("a", seen[-1] - 5)
        tx.save("b", 5)
        return f"call {len(seen)}"

    assert state.transact(move, reason="moved") == "call 3"
    assert (seen, content(state)) == ([10, 11, 12], {"a": 7, "b": 5})
    assert state.log(1)[0].reason == "moved"
    assert state.revision == 5


def test_a_block_that_raises_or_writes_nothing_commits_nothing(state: StateManager, other: StateManager) -> None:
    def fail(tx: Transaction) -> None:
        tx.save("a", tx.load("none"))

    with pytest.raises(KeyNotFound):
        state.transact(fail)
    assert state.transact(lambda tx: tx.load("a") + 1) == 11

    calls = []

    def write_elsewhere(tx: Transaction) -> None:
        calls.append(tx)
        other.save("a", 1, expected=99)

    with pytest.raises(Conflict, match="99"):  # the function's own error is not the commit's
        state.transact(write_elsewhere)
    assert (len(calls), state.revision) == (1, 2)
    with pytest.raises(ReadOnly):
        StateManager(state._opened["backend"], "main", read_only=True).transact(lambda tx: tx.save("a", 1))


def test_a_revision_that_cannot_come_is_no_reason_to_try_again(state: StateManager, other: StateManager) -> None:
    calls = []

    def demand(tx: Transaction) -> None:
        calls.append(tx)
        tx.save("a", 1, expected=99)

    with pytest.raises(Conflict, match="99"):
        state.transact(demand)
    assert len(calls) == 1

    def follow(tx: Transaction) -> None:
        calls.append(tx)
        tx.save("a", 1, expected=tx.revision("a"))
        if len(calls) == 2:
            other.save("a", 2)

    state.transact(follow)
    assert (len(calls), content(state)) == (3, {"a": 1, "b": 0})


def test_a_block_that_always_conflicts_with_itself_is_refused(state: StateManager) -> None:
    def work(tx: Transaction) -> None:
        state.save("a", tx.load("a") + 1)
        tx.save("b", 1)

    with pytest.raises(Reentered, match="transact"):
        state.transact(work)


def test_a_block_may_be_read_past_what_is_kept(store_url: str) -> None:
    calls = []
    with StateManager(store_url, "brief", history=1) as state:
        state.save("a", 0)
        state.save("b", 0)

        def work(tx: Transaction) -> int:
            calls.append(tx)
            a = tx.load("a")
            if len(calls) == 1:
                for number in range(100):
                    state.save("b", number)
                state.compact(state.revision)
            tx.save("sum", a + tx.load("b"))
            return tx.load("sum")

        assert (state.transact(work), len(calls)) == (99, 2)


def test_a_block_reads_the_state_of_its_first_read(state: StateManager, other: StateManager) -> None:
    def work(tx: Transaction) -> dict[str, Any]:
        other.save("b", 1)
        seen = tx.load_many(["a", "b"])
        other.save("b", 2)
        return {**seen, **tx.load_many(["b"])}

    assert state.transact(work) == {"a": 10, "b": 1}


def test_a_commit_names_the_state_that_it_makes(state: StateManager, other: StateManager) -> None:
    with state.transaction("step") as tx:
        tx.save("a", 11)
        assert tx.checkpoint("after", note="a note") == "after"
        tx.save("b", 1)
    state.save("a", 12)
    (mark,) = other.checkpoints()
    assert (mark.name, mark.revision, mark.note, mark.kind) == ("after", 3, "a note", "named")
    assert other.at("after").load_many() == {"a": 11, "b": 1}
    assert [commit.reason for commit in state.log(2)] == ["save a", "step"]
    state.restore_checkpoint("after")
    assert content(state) == {"a": 11, "b": 1}
    assert state.doctor().ok


def test_a_name_moves_with_a_commit_and_may_come_alone(state: StateManager) -> None:
    state.checkpoint("here")
    with state.transaction() as tx:
        tx.delete("b")
        tx.checkpoint("here")
        tx.checkpoint("there")
    assert [mark.ref for mark in state.checkpoints(all=True)] == ["here@2", "here", "there"]
    assert state.at("here").list_keys() == ["a"]
    with state.transaction() as tx:
        tx.checkpoint("alone")
    assert (state.revision, state.at("alone").revision) == (3, 3)
    for name in ("live", "5", "", ".x"):
        with pytest.raises(InvalidName):
            state.transact(lambda tx, name=name: tx.checkpoint(name))  # type: ignore[misc]


def test_a_conflict_makes_no_name(state: StateManager, other: StateManager) -> None:
    with pytest.raises(Conflict), state.transaction() as tx:
        tx.save("b", tx.load("a"))
        tx.checkpoint("never")
        other.save("a", 0)
    assert state.list_checkpoints() == []


def test_the_first_commit_of_a_namespace_is_named_and_an_encrypted_note_opens(store_url: str) -> None:
    with StateManager(store_url, "sealed", encryption_key=UserKey.generate().printed(), quiet=True) as state:
        with state.transaction() as tx:
            tx.save("k", "secret")
            tx.checkpoint("first", note="unmistakable")
        state.save("k", "later")
        assert [(mark.name, mark.revision, mark.note) for mark in state.checkpoints()] == [("first", 1, "unmistakable")]
        assert state.load("k", at="first") == "secret"
        assert state.doctor().ok
