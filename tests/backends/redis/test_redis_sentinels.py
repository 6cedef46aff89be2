"""Sentinels that disagree: on the wrong side of a partition they name the former primary, which still answers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import redis
import redis_servers
from conftest import REDIS
from redis_proxy import RedisProxy
from redis_servers import Server, until

from stateview import BackendUnavailable, StateException, StateManager
from stateview.backends.redis.connections.sentinels import IDLE_SECONDS

PATH = next(iter(REDIS.values()), "")
LINES = """sentinel monitor store 127.0.0.1 {port} 2
sentinel config-epoch store {epoch}
sentinel leader-epoch store {epoch}
sentinel current-epoch {epoch}
sentinel down-after-milliseconds store {patience}
"""
Watch = Callable[..., str]


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def watch(stack: ExitStack, folder: Path) -> Watch:
    """Starts a sentinel that knows a primary by the failover with a number, and returns its address."""

    def start(url: str, epoch: int, patience: int = 60_000) -> str:
        place = folder / f"sentinel-{len(list(folder.iterdir()))}"
        place.mkdir()
        text = LINES.format(port=url.rpartition(":")[2], epoch=epoch, patience=patience)
        server = Server(PATH, place, settings=text)
        stack.callback(server.end)
        return f"127.0.0.1:{server.port}"

    return start


@pytest.fixture
def primaries(stack: ExitStack) -> list[str]:
    """The URLs of a former primary and of the present one, both of which answer."""
    return [stack.enter_context(redis_servers.running(PATH)) for _ in range(2)]


def saved(url: str, **options: Any) -> float:
    """Save in a new manager, and return the seconds that this took."""
    began = time.monotonic()
    with StateManager(url, "main", **options) as state:
        state.save("k", 1)
    return time.monotonic() - began


def has_state(url: str) -> bool:
    with redis.Redis.from_url(url) as client:
        return bool(client.exists("stateview:namespaces"))


@pytest.mark.parametrize("latest_first", [False, True])
def test_the_first_save_goes_to_the_primary_of_the_latest_failover(
    watch: Watch, primaries: list[str], latest_first: bool
) -> None:
    former, present = primaries
    addresses = [watch(former, 3), watch(present, 4)]
    saved(f"redis+sentinel://{','.join(addresses[::-1] if latest_first else addresses)}/store/0")
    assert (has_state(former), has_state(present)) == (False, True)


def test_an_open_manager_leaves_the_former_primary_once_a_sentinel_knows_of_the_failover(
    watch: Watch, primaries: list[str], stack: ExitStack
) -> None:
    former, present = primaries
    late = stack.enter_context(RedisProxy())  # of a sentinel that is reached later
    url = f"redis+sentinel://{watch(former, 3)},127.0.0.1:{late.port}/store/0"
    with StateManager(url, "main", consistency="strict") as state:
        state.save("k", 1)
        late.lead_to(f"redis://{watch(present, 4)}")
        with StateManager(present, "main") as other:
            other.save("k", 2)
            until(lambda: _load(state) == 2)


@pytest.mark.parametrize("consistency", ["strict", "cached"])
def test_the_first_call_after_a_pause_waits_for_the_sentinels(
    watch: Watch, primaries: list[str], stack: ExitStack, consistency: str
) -> None:
    former, present = primaries
    late = stack.enter_context(RedisProxy())
    url = f"redis+sentinel://{watch(former, 3)},127.0.0.1:{late.port}/store/0"
    with StateManager(url, "main", consistency=consistency) as state:
        state.save("k", 1)
        assert state.load("k") == 1
        late.lead_to(f"redis://{watch(present, 4)}")
        with StateManager(present, "main") as other:
            other.save("k", 2)
        time.sleep(IDLE_SECONDS + 0.05)  # the pause
        assert _load(state) is None  # told that its commit is not there, in place of its value
        assert _load(state) == 2


def _load(state: StateManager) -> Any:
    try:
        return state.load("k")
    except StateException:
        return None  # `Rewound`: the commit of the former primary is not in the present one


@pytest.mark.parametrize("fault", ["frozen", "dead"])
def test_a_silent_sentinel_is_waited_for_a_moment_and_then_no_more(
    watch: Watch, primaries: list[str], stack: ExitStack, fault: str
) -> None:
    present = primaries[1]
    proxy = stack.enter_context(RedisProxy())
    if fault == "frozen":
        proxy.lead_to(f"redis://{watch(present, 4)}")
        proxy.plain.frozen = True
    url = f"redis+sentinel://127.0.0.1:{proxy.port},{watch(present, 4)}/store/0"
    assert saved(url) < 1.0
    with StateManager(url, "main") as state:
        state.save("k", 1)
        client = state.backend._connect()
        began = time.monotonic()
        for _ in range(5):
            client.connection_pool.get_master_address()
        assert time.monotonic() - began < 0.5
        proxy.plain.frozen = False


def test_sentinels_that_miss_the_present_primary_name_no_former_one(watch: Watch, primaries: list[str]) -> None:
    former, present = primaries
    with ExitStack() as stack:
        gone = stack.enter_context(redis_servers.running(PATH))
        addresses = [watch(former, 3), watch(gone, 4, patience=100)]
    with redis.Redis(port=int(addresses[1].rpartition(":")[2])) as client:
        until(lambda: client.sentinel_masters()["store"]["is_sdown"])
    with pytest.raises(BackendUnavailable):
        saved(f"redis+sentinel://{','.join(addresses)}/store/0", timeout=0.5)
    assert not has_state(former) and not has_state(present)


def test_a_name_that_no_sentinel_knows_is_said(watch: Watch, primaries: list[str]) -> None:
    with pytest.raises(BackendUnavailable, match="No master found for 'other'"):
        saved(f"redis+sentinel://{watch(primaries[0], 3)}/other/0", timeout=0.2)
