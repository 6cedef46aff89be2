"""A fork that fails: the copy is whole, or it is not there, and the error says which."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from conftest import KINDS

from stateview import BackendUnavailable, CommitUnknown, NotReplicated, StateManager
from stateview import manager as manager_module
from stateview.backends.protocol import CommitRequest, Write

KEYS = {f"k{number}": number for number in range(5)}


@pytest.fixture(autouse=True)
def small_commits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manager_module, "KEYS_PER_FORK_COMMIT", 2)


def fail_in_commit(monkeypatch: pytest.MonkeyPatch, number: int, error: BaseException, made: bool = True) -> None:
    """The commit of this number raises an error, after it was made or in its place."""
    real, calls = StateManager._commit, [0]

    def commit(self: StateManager, *args: Any) -> Any:
        calls[0] += 1
        if calls[0] != number:
            return real(self, *args)
        if made:
            real(self, *args)
        raise error

    monkeypatch.setattr(StateManager, "_commit", commit)


def test_a_fork_that_no_replica_confirms_is_whole(new_store: Callable[[str], str], manage: Any) -> None:
    state = manage(new_store(KINDS[2]), "main", wait_replicas=1, wait_timeout=0.02)
    with pytest.raises(NotReplicated):
        state.save_many(KEYS)
    with pytest.raises(NotReplicated, match=r"confirmed revision 3 .* Namespace 'copy' is complete"):
        state.fork("copy")
    assert {entry.key: entry.value for entry in state.in_namespace("copy").entries()} == KEYS


@pytest.mark.parametrize("error", [CommitUnknown("no answer"), KeyboardInterrupt()], ids=["unknown", "interrupt"])
@pytest.mark.parametrize("number", [1, 2])
def test_a_fork_whose_commit_is_in_doubt_leaves_nothing(
    state: StateManager, monkeypatch: pytest.MonkeyPatch, number: int, error: BaseException
) -> None:
    state.save_many(KEYS)
    with monkeypatch.context() as patch:
        fail_in_commit(patch, number if not state.backend.rewrites_state else 1, error)
        with pytest.raises(type(error)):
            state.fork("copy")
    assert "copy" not in state.namespaces()
    with state.fork("copy") as copy:
        assert {entry.key: entry.value for entry in copy.entries()} == KEYS


def test_a_fork_that_is_in_doubt_takes_nothing_of_others_away(
    state: StateManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    state.save_many(KEYS)
    other = state.in_namespace("copy")

    def commit(self: StateManager, *_: Any) -> Any:
        other.backend.commit(CommitRequest({"theirs": Write(b"1")}))
        raise CommitUnknown("no answer")

    monkeypatch.setattr(StateManager, "_commit", commit)
    with pytest.raises(CommitUnknown):
        state.fork("copy")
    assert other.list_keys() == ["theirs"]


def test_a_copy_that_may_be_left_is_told(state: StateManager, monkeypatch: pytest.MonkeyPatch) -> None:
    state.save_many(KEYS)

    def gone(*_: Any) -> Any:
        raise BackendUnavailable("no answer")

    fail_in_commit(monkeypatch, 1, CommitUnknown("no answer"))
    monkeypatch.setattr(StateManager, "_was_just_made", gone)
    with pytest.raises(BackendUnavailable, match="Namespace 'copy' may be unfinished: remove it"):
        state.fork("copy")
