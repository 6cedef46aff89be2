"""Taking keys and places from another namespace or store, in Python and on the command line: on every backend."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from stateview import Conflict, InvalidArgument, KeyNotFound, NamespaceNotFound, StateManager

Run = Callable[..., tuple[int, str, str]]

pytestmark = pytest.mark.usefixtures("folder")

HERE = {"job": {"tokens": 1, "tags": ["a"]}, "notes": "mine", "only": 1, "same": 0}
THERE = {"job": {"tokens": 2, "tags": ["b"]}, "notes": "theirs", "new": [1], "same": 0}


@pytest.fixture
def state(store_url: str) -> Iterator[StateManager]:
    """A namespace, beside which `staging` has other values of the same revisions."""
    for namespace, values in (("work", HERE), ("staging", THERE)):
        with StateManager(store_url, namespace) as manager:
            for key, value in values.items():
                manager.save(key, value)
    with StateManager(store_url, "work") as manager:
        yield manager


@pytest.fixture
def staging(state: StateManager, store_url: str) -> Iterator[StateManager]:
    with StateManager(store_url, "staging", read_only=True) as manager:
        yield manager


def content(state: StateManager) -> dict[str, Any]:
    return state.load_many()


def test_chosen_keys_get_the_values_that_they_have_there(state: StateManager, staging: StateManager) -> None:
    planned = state.restore_checkpoint("live", ["n*", "only"], dry_run=True, source=staging)
    assert {change.key: change.kind for change in planned} == {"new": "added", "notes": "changed", "only": "removed"}
    assert content(state) == HERE
    applied = state.restore_checkpoint("live", ["n*", "only"], source=staging)
    assert [change.key for change in applied] == ["new", "notes", "only"]
    assert content(state) == {"job": HERE["job"], "notes": "theirs", "new": [1], "same": 0}
    assert state.log(1)[0].reason == "restore live --from-namespace staging --keys n* only"
    assert state.list_checkpoints()[-1].startswith("before_restore_")
    state.undo()
    assert content(state) == HERE
    assert content(staging) == THERE


def test_a_place_alone_is_taken_from_an_earlier_state_there(
    state: StateManager, staging: StateManager, store_url: str
) -> None:
    with StateManager(store_url, "staging") as writer:
        writer.save("job", {"tokens": 9, "tags": ["z"]})
    state.restore_checkpoint("live~1", paths={"job": ["/tokens"]}, source=staging, reason="tokens of staging")
    assert state.load("job") == {"tokens": 2, "tags": ["a"]}
    assert state.log(1)[0].reason == "tokens of staging"


def test_what_expires_there_expires_here_after_the_same_time(
    state: StateManager, staging: StateManager, store_url: str
) -> None:
    with StateManager(store_url, "staging") as writer:
        writer.save("notes", "theirs", ttl=600)
    state.restore_checkpoint("live", ["notes"], source=staging)
    left = state.entry("notes").ttl
    assert left is not None and 590 < left <= 600


def test_from_another_store(state: StateManager, new_store: Callable[[str], str]) -> None:
    url = new_store("json")
    with StateManager(url, "work") as other:
        other.save("job", 5)
        state.restore_checkpoint("live", ["job"], source=other)
        assert state.load("job") == 5
        assert state.log(1)[0].reason == f"restore live --from-namespace work --from-store {other.url} --keys job"


def test_what_is_refused_changes_nothing(state: StateManager, staging: StateManager, store_url: str) -> None:
    revision = state.revision
    with pytest.raises(InvalidArgument, match="chosen keys or paths"):
        state.restore_checkpoint("live", source=staging)
    with pytest.raises(InvalidArgument, match="not str"):
        state.restore_checkpoint("live", ["job"], source="staging")  # type: ignore[arg-type]
    with pytest.raises(KeyNotFound, match="neither"):
        state.restore_checkpoint("live", ["none"], source=staging)
    with StateManager(store_url, "stagign") as missing, pytest.raises(NamespaceNotFound, match="stagign"):
        state.restore_checkpoint("live", ["job"], source=missing)
    with pytest.raises(Conflict):
        state.restore_checkpoint("live", ["job"], source=staging, previewed=0)
    assert (state.revision, content(state)) == (revision, HERE)


def test_the_command_previews_and_takes(state: StateManager, store_url: str, run: Run) -> None:
    where = ["-s", store_url, "-n", "work"]
    take = ["restore", "live", "--from-namespace", "staging"]
    code, _, err = run(*where, *take)
    assert code == 2 and "need --keys or --path" in err
    code, out, _ = run(*where, "--format", "json", *take, "--keys", "notes", "--path", "job#/tokens", "--dry-run")
    assert code == 0
    assert {one["key"]: one["after"] for one in json.loads(out)} == {
        "notes": "theirs", "job": {"tokens": 2, "tags": ["a"]},
    }  # fmt: skip
    assert content(state) == HERE
    code, _, err = run(*where, *take, "--keys", "notes", "--path", "job#/tokens", "--reason", "as staging")
    assert code == 0 and "restored staging:live" in err
    assert content(state) == {**HERE, "notes": "theirs", "job": {"tokens": 2, "tags": ["a"]}}
    assert state.log(1)[0].reason == "as staging"
    code, _, err = run(*where, *take, "--keys", "same")
    assert code == 0 and "live already equals staging:live in these keys; nothing to restore" in err
    code, _, err = run(*where, *take, "--path", "same#/a")
    assert code == 1 and "diff live live --with-namespace staging" in err
