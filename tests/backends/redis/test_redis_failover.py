"""Primaries that are killed when their replicas have all: nothing is lost, and nothing is applied twice."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import failovers
import pytest
import redis_topologies
from conftest import REDIS
from failovers import KINDS, fail_over_as_asked
from redis_topologies import HASTE
from stress import first
from test_linearizability import check

from stateview import NotReplicated, StateManager

SERVER = next(iter(REDIS.values()), "")
FAILOVERS = int(os.environ.get("REDIS_FAILOVERS", "1"))  # of each topology
PROCESSES = 6  # of a history
each_topology = pytest.mark.parametrize("topology", first(["pair", "cluster", "sentinels"]))


@each_topology
def test_a_failover_after_which_the_replica_has_all_loses_nothing(topology: str, tmp_path: Path) -> None:
    outcome = fail_over_as_asked(topology, SERVER, KINDS["clean"], tmp_path, FAILOVERS)
    print(outcome.row(f"{topology}, clean"))
    assert outcome.acknowledged > failovers.ACTS * FAILOVERS
    assert (outcome.lost, outcome.twice, outcome.handed_out_twice) == ([], [], [])
    assert (outcome.stolen, outcome.rewound) == ([], 0)
    assert outcome.errors.keys() <= {"Conflict"}


@pytest.mark.stress
@pytest.mark.parametrize("topology", ["cluster", "sentinels"])
def test_what_processes_see_through_a_failover_could_have_happened_one_after_the_other(
    topology: str, tmp_path: Path
) -> None:
    with getattr(redis_topologies, topology)(SERVER) as servers:
        disturb = partial(failovers.clean, servers)
        check(servers.url, servers.url, tmp_path, 1, processes=PROCESSES, disturb=disturb)
        assert len(servers.alive()) == len(servers.servers) - 1


@pytest.mark.stress
@pytest.mark.parametrize("wait_replicas", [0, 1])
def test_a_client_of_a_cluster_that_met_the_dead_primary_finds_the_next(wait_replicas: int) -> None:
    with (
        redis_topologies.cluster(SERVER, patience=HASTE) as servers,
        StateManager(servers.url, "main", wait_replicas=wait_replicas, timeout=60) as first,
    ):
        first.save("k", 1)
        servers.catch_up("main")
        servers.kill("main")
        with StateManager(servers.url, "main", timeout=60) as second:  # it learns of no other primary yet
            assert second.load("k") == 1
        try:
            first.save("k", 2)
        except NotReplicated:
            assert wait_replicas
        assert first.load("k", fresh=True) == 2
