"""A server that may evict what it acknowledged: it gets no new namespace, unless the store URL allows it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis
import redis_servers
from conftest import REDIS

from stateview import BackendError, StateManager
from stateview.backends.redis.connections.contact import REGISTRY
from stateview.sealing.keys import UserKey

FIRST = next(iter(REDIS.values()), "")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with redis_servers.running(FIRST, "--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru") as url:
        yield url


@pytest.fixture
def url(server: str) -> Iterator[str]:
    yield server
    with redis.Redis.from_url(server) as client:
        client.config_set("maxmemory", "64mb")
        client.config_set("maxmemory-policy", "allkeys-lru")
        client.flushall()


def test_a_new_namespace_is_refused_and_nothing_is_written(url: str) -> None:
    with StateManager(url, "main") as state, redis.Redis.from_url(url) as client:
        with pytest.raises(BackendError) as caught:
            state.save("k", 1)
        for part in ("64 MiB", "allkeys-lru", "Nothing was changed", "noeviction", "volatile-*", "allow_eviction=1"):
            assert part in str(caught.value)
        assert not client.dbsize()
        client.config_set("maxmemory-policy", "noeviction")
        assert state.save("k", 1) == 1  # the open manager asks again


@pytest.mark.parametrize(("setting", "value"), [("maxmemory-policy", "volatile-lru"), ("maxmemory", "0")])
def test_a_server_that_evicts_nothing_of_it_is_not_refused(url: str, setting: str, value: str) -> None:
    with redis.Redis.from_url(url) as client:
        client.config_set(setting, value)
    with StateManager(url, "main") as state:
        assert state.save("k", 1) == 1


def test_the_url_allows_it_and_what_exists_goes_on(url: str) -> None:
    with StateManager(f"{url}/0?socket_timeout=3&allow_eviction=1", "main") as state:
        assert state.save("k", 1) == 1
    with StateManager(url, "main") as state:
        assert state.save("k", 2) == 2
        assert "eviction" in {finding.code for finding in state.doctor().findings}


def test_every_way_to_make_a_namespace_is_refused(url: str) -> None:
    with StateManager(f"{url}?allow_eviction=yes", "main") as state:
        state.save("k", 1)
    with StateManager(url, "main") as state, pytest.raises(BackendError, match="allow_eviction"):
        state.fork("other")
    key = UserKey.generate().printed()
    with StateManager(url, "s", encryption_key=key) as state, pytest.raises(BackendError, match="allow_eviction"):
        state.save("k", 1)
    with redis.Redis.from_url(url) as client:
        client.set("state:old:k", "1")
        with StateManager(url, "old") as state, pytest.raises(BackendError, match="allow_eviction"):
            state.load("k")
        assert client.smembers(REGISTRY) == {b"main"}


def test_a_user_who_may_not_ask_is_not_refused(url: str) -> None:
    with redis.Redis.from_url(url) as client:
        client.acl_setuser("worker", enabled=True, passwords=["+pw"], keys=["*"], commands=["+@all", "-info"])
    with StateManager(url.replace("://", "://worker:pw@"), "main") as state:
        assert state.save("k", 1) == 1
