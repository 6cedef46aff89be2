"""Primaries that are killed with commits that no replica has: everyone who knew them is told, once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis_topologies
from conftest import REDIS
from failovers import KINDS, Outcome, fail_over_as_asked
from redis_servers import until
from redis_topologies import Pair
from stress import first, stressed

from stateview import Conflict, NotReplicated, Rewound, StateManager

SERVER = next(iter(REDIS.values()), "")
FAILOVERS = int(os.environ.get("REDIS_FAILOVERS", "1"))  # of each topology
each_topology = pytest.mark.parametrize("topology", first(["pair", "cluster", "sentinels"]))


@pytest.fixture
def pair() -> Iterator[Pair]:
    """A primary and its replica behind one address."""
    with redis_topologies.pair(SERVER) as servers:
        yield servers


@pytest.fixture
def manage(pair: Pair) -> Iterator[Callable[..., StateManager]]:
    """Opens managers of one namespace of the pair, and closes them with the test."""
    opened: list[StateManager] = []

    def one(query: str = "", **options: Any) -> StateManager:
        opened.append(StateManager(pair.url + query, "main", timeout=20, **options))
        return opened[-1]

    yield one
    for state in opened:
        state.close()


def lose(pair: Pair, commits: Callable[[], object]) -> None:
    """Make the commits on the primary alone, and put the replica in its place."""
    pair.catch_up("main")
    primary = pair.primary("main")
    assert primary is not None
    primary.client().execute_command("CLIENT UNPAUSE")
    pair.cut("main")
    commits()
    pair.kill("main")


# --- processes that commit --------------------------------------------------------------------------------------------


def outcome_of(topology: str, kind: str, folder: Path) -> Outcome:
    outcome = fail_over_as_asked(topology, SERVER, KINDS[kind], folder, FAILOVERS)
    print(outcome.row(f"{topology}, {kind}"), outcome.errors)
    assert outcome.twice == []
    assert outcome.untold == []
    assert outcome.stolen == []
    return outcome


@each_topology
def test_everyone_who_knew_a_lost_commit_is_told(topology: str, tmp_path: Path) -> None:
    outcome = outcome_of(topology, "lagging", tmp_path)
    assert outcome.lost
    assert outcome.rewound >= len({token.partition(":")[0] for token in outcome.lost})


@pytest.mark.stress
@pytest.mark.parametrize("topology", ["cluster", "sentinels"])
def test_a_primary_that_is_killed_at_any_instant_loses_nothing_in_silence(topology: str, tmp_path: Path) -> None:
    outcome_of(topology, "killed", tmp_path)


CASES = [("cluster", "lagging"), ("sentinels", "lagging"), ("sentinels", "partly lagging")]


@pytest.mark.parametrize(("topology", "kind"), stressed(("pair", "lagging"), *CASES))
def test_what_a_replica_has_acknowledged_is_not_lost(topology: str, kind: str, tmp_path: Path) -> None:
    outcome = outcome_of(topology, f"{kind}, wait_replicas=1", tmp_path)
    assert outcome.lost == []


@pytest.mark.parametrize("topology", stressed("pair", "cluster", "sentinels"))
def test_a_primary_that_needs_a_replica_loses_nothing_in_silence(topology: str, tmp_path: Path) -> None:
    outcome_of(topology, "lagging, min-replicas-to-write 1", tmp_path)


# --- what one manager is told -----------------------------------------------------------------------------------------

FIRST_CALLS: dict[str, Callable[[StateManager], object]] = {
    "load": lambda state: state.load("k", fresh=True),
    "revision": lambda state: state.revision,
    "save": lambda state: state.save("other", 1),
    "expected": lambda state: state.save("k", 1, expected=3),
    "update": lambda state: state.update("k", lambda before: before),
    "checkpoint": lambda state: state.checkpoint("here"),
    "list": lambda state: state.list_keys(),
    "diff": lambda state: list(state.diff(1)),
    "log": lambda state: state.log(),
}


@pytest.mark.parametrize("call", first(FIRST_CALLS, 3))
def test_the_first_call_after_a_loss_tells_of_it_and_the_next_goes_on(pair: Pair, manage: Any, call: str) -> None:
    state = manage()
    assert state.save("k", 1) == 1
    lose(pair, lambda: [state.save("k", 2), state.save("k", 3)])
    with pytest.raises(Rewound) as told:
        FIRST_CALLS[call](state)
    assert (told.value.lost_from, told.value.revision) == (2, 1)
    assert (state.load("k", fresh=True), state.revision) == (1, 1)
    assert state.save("k", 4) == 2
    assert [commit.revision for commit in state.log()] == [2, 1]


def test_a_manager_that_knew_nothing_that_was_lost_is_not_told(pair: Pair, manage: Any) -> None:
    writer, reader, bystander = manage(), manage(), manage()
    writer.save("k", 1)
    assert (reader.load("k"), bystander.load("k")) == (1, 1)

    def commits() -> None:
        writer.save("k", 2)
        assert reader.load("k", fresh=True) == 2

    lose(pair, commits)
    assert bystander.save("k", 7) == 2  # the number that is lost, once more
    for state in (writer, reader):
        with pytest.raises(Rewound) as told:
            state.load("k", fresh=True)
        assert (told.value.lost_from, told.value.revision) == (2, 2)
        assert state.load("k", fresh=True) == 7
    assert bystander.revision == 2


def test_a_revision_of_a_lost_commit_is_never_met(pair: Pair, manage: Any) -> None:
    """The number is that of another's commit now: what was expected is not there."""
    state, other = manage(), manage()
    state.save("k", 1)
    other.load("k")
    lose(pair, lambda: state.save("k", "lost"))
    assert other.save("k", "another's") == 2
    with pytest.raises(Rewound):
        state.load("k", fresh=True)
    with pytest.raises(Conflict):
        state.save("k", "mine", expected=2)
    assert other.load("k", fresh=True) == "another's"
    assert state.save("k", "mine", expected=state.entry("k").revision) == 3


def test_each_loss_is_told_once(pair: Pair, manage: Any) -> None:
    state = manage()
    state.save("k", 1)
    for _ in range(2):
        lose(pair, lambda: state.save("k", "lost"))
        pair.mend()
        with pytest.raises(Rewound):
            state.save("k", "told")
        state.save("k", "kept")
    assert state.load("k", fresh=True) == "kept"


@pytest.mark.parametrize("by_url", [False, True])
def test_a_commit_that_too_few_replicas_have_is_applied_and_said_so(pair: Pair, manage: Any, by_url: bool) -> None:
    given = {"wait_replicas": 1, "wait_timeout": 0.2}
    state = manage("?wait_replicas=1&wait_timeout=0.2") if by_url else manage(**given)
    primary = pair.primary("main")
    assert primary is not None
    with primary.client() as client:
        client.set("other", 1)
        until(lambda: client.wait(1, 100) == 1)  # a new replica confirms nothing at first
    assert state.save("k", 1) == 1
    pair.cut("main")
    with pytest.raises(NotReplicated) as told:
        state.save("k", 2)
    assert told.value.revision == 2
    assert state.load("k") == 2
    pair.mend()
    assert state.save("k", 3) == 3
    assert [commit.revision for commit in state.log()] == [3, 2, 1]
