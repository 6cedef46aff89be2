"""Primaries that are killed when their replicas have all: nothing is lost, and nothing is applied twice."""

from __future__ import annotations

import os
import threading
from functools import partial
from pathlib import Path

import failovers
import pytest
import redis
import redis_topologies
from conftest import REDIS
from failovers import KINDS, fail_over_as_asked
from redis_servers import running
from redis_topologies import HASTE
from stress import first
from test_linearizability import check

from stateview import BackendUnavailable, NotReplicated, ReadOnly, StateManager

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


@pytest.mark.stress
def test_a_commit_that_no_connection_of_a_cluster_carried_is_known_not_to_be_made() -> None:
    with (
        redis_topologies.cluster(SERVER, proxied=True) as servers,
        StateManager(f"{servers.url}?socket_timeout=1", "main", timeout=2) as state,
    ):
        state.save("k", 1)
        for proxy in servers.proxies:
            proxy.cut(proxy.plain)
            proxy.plain.swallows = True
        try:
            with pytest.raises(BackendUnavailable):
                state.save("k", 2)
        finally:
            for proxy in servers.proxies:
                proxy.plain.swallows = False
                proxy.cut(proxy.plain)
        assert state.load("k", fresh=True) == 1


@pytest.mark.parametrize("way", ["argument", "URL", "none"])
def test_a_replica_that_becomes_the_primary_within_the_timeout_takes_the_commit(way: str) -> None:
    with running(SERVER) as former, running(SERVER) as url:
        client = redis.Redis.from_url(url)
        client.replicaof("127.0.0.1", former.rpartition(":")[2])
        address = f"{url}/0?timeout=20" if way == "URL" else url
        state = StateManager(address, "main", timeout=20 if way == "argument" else None)
        if way == "none":
            with state, client, pytest.raises(ReadOnly):
                state.save("k", 1)
            return
        promotion = threading.Timer(1.0, lambda: client.replicaof("NO", "ONE"))
        promotion.start()
        with state, client:
            assert state.save("k", 1) == 1
        promotion.join()
