"""The thread that watches a namespace: how late it tells a commit after an outage, and how often it asks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import redis_servers
from dashboard_cases import board, run_board
from dashboard_host import run, write
from stress import first
from textual.pilot import Pilot

from stateview import StateManager
from stateview.dashboard.data.rests import Rests
from stateview.dashboard.data.watcher import ConnectionLost, NamespaceChange, NamespaceWatcher
from stateview.dashboard.widgets import namespace_list

LATEST_SECONDS = 1.5  # the second that a commit may take to be told, and what a busy machine adds
COMMITS, PAUSE_SECONDS = 3, 0.25


@pytest.fixture
def server(tmp_path: Path) -> Iterator[redis_servers.Server]:
    path = next(iter(redis_servers.find().values()))
    server = redis_servers.Server(path, tmp_path, "--appendonly", "yes", "--appendfsync", "always")
    yield server
    server.end()


@pytest.mark.parametrize(
    ("timeout", "outage"),
    first([(2.0, 2.6), (0.2, 1.6), (4.0, 6.0), (0.2, 6.0)], 2),
    ids=["a look waits", "looks fail", "a look waits long", "looks fail long"],
)
def test_a_commit_after_an_outage_is_told_within_a_second(
    server: redis_servers.Server, timeout: float, outage: float
) -> None:
    told: dict[int, float] = {}  # when each revision was told first
    losses: list[ConnectionLost | None] = []

    def moved(change: NamespaceChange) -> None:
        told.setdefault(change.head.revision, time.monotonic())

    async def flow(pilot: Pilot[None]) -> None:
        watcher = NamespaceWatcher(pilot.app, manager, moved, losses.append)
        await until(pilot, lambda: 1 in told)
        server.end()
        await pilot.pause(outage)
        server.start(server.port)
        for number in range(COMMITS):
            written = time.monotonic()
            revision = writer.save("number", number)
            await until(pilot, partial(is_told, revision))
            late = min(told[one] for one in told if one >= revision) - written
            assert late < LATEST_SECONDS
            await pilot.pause(PAUSE_SECONDS)
        watcher.close()

    def is_told(revision: int) -> bool:
        return max(told) >= revision

    with StateManager(server.url, "work", timeout=timeout) as manager, StateManager(server.url, "work") as writer:
        writer.save("number", 0)
        run(manager, flow)
    assert losses or timeout > outage / 2
    assert not losses or losses[-1] is None


async def until(pilot: Pilot[None], condition: Callable[[], bool]) -> None:
    while not condition():  # `run` ends it after a minute
        await pilot.pause(0.02)


def test_the_list_of_namespaces_follows_an_outage_without_a_rest(
    server: redis_servers.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(namespace_list, "POLL_SECONDS", 0.2)
    for name in ("work", "other"):
        write(server.url, name, phase="planning")

    async def flow(pilot: Pilot[None]) -> None:
        names = board(pilot).screen.query_one(namespace_list.Namespaces)
        other = board(pilot).store, "other"
        await until(pilot, lambda: other in names._heads)
        server.end()
        await pilot.pause(1.2)
        server.start(server.port)
        await pilot.pause(1.0)  # a read that waited for the server is done
        written = time.monotonic()
        write(server.url, "other", more=1)
        await until(pilot, lambda: names._heads[other].count == 2)
        assert time.monotonic() - written < 4  # it was ten times as long as the read waited

    run_board(StateManager(server.url, "work"), flow, size=(120, 30))


def test_a_slow_store_rests_and_a_store_that_was_slow_once_does_not() -> None:
    rests = Rests(5.0)
    assert [rests.after(took) for took in (9.0, 0.25, 6.0, 0.25)] == [0.0, 1.25, 1.25, 1.25]
    assert [rests.after(took) for took in (2.0, 2.0, 3.0)] == [1.25, 10.0, 10.0]


def test_a_piece_of_work_rests_as_long_as_it_took_but_for_a_wait() -> None:
    rests = Rests(10.0, usual=0.5)
    assert [rests.after(took) for took in (0.4, 0.5, 8.0, 0.1)] == [4.0, 5.0, 5.0, 1.0]
