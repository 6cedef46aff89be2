"""A process is killed at any step of what packs, trims and rebases deltas: every kept revision reads as before."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from typing import Any

import apsw
import killed
import pytest
import redis
from packed_history import Texts, deltas
from stress import stride

from stateview import StateManager

SAVES = 34  # further saves make older deltas relative to others, at the places 16 and 32
MORE = 16


class Store:
    """A store with deltas, which is put back before each step; the value of its key at each revision."""

    def __init__(self, url: str) -> None:
        self.url = url
        texts, self.values = Texts(random.Random(8), 100, 50), [None]
        while len(self.values) <= SAVES + MORE:
            value = texts.next("k")
            if isinstance(value, list):
                self.values.append(value)
        with StateManager(url, "ns") as state:
            for revision in range(1, SAVES + 1):
                state.save("k", self.values[revision])
                if revision % 7 == 0:
                    state.checkpoint(f"c{revision}")
        assert deltas(url)
        kind, _, self.place = url.partition(":")
        self.files = kind in ("json", "sqlite")
        self.remember()

    def remember(self) -> None:
        """Let the store be put back to what it is now."""
        if self.files:
            shutil.rmtree(f"{self.place}-before", ignore_errors=True)
            shutil.copytree(self.place, f"{self.place}-before")
        else:
            with redis.Redis.from_url(self.url) as client:
                self.before = {key: client.dump(key) for key in client.scan_iter()}

    def put_back(self) -> None:
        if self.files:
            shutil.rmtree(self.place)
            shutil.copytree(f"{self.place}-before", self.place)
            return
        with redis.Redis.from_url(self.url) as client:
            client.flushdb()
            for key, dumped in self.before.items():
                client.restore(key, 0, dumped)

    def check(self) -> int:
        """Every kept revision reads as it did, and commits go on; returns the revision that was there."""
        with StateManager(self.url, "ns") as state:
            last = state.revision
            floor = state.backend.head().floor
            for revision, value in enumerate(self.values[: last + 1]):
                if revision >= floor or (revision % 7 == 0 and 0 < revision <= SAVES):
                    assert state.load("k", None, at=revision) == value, revision
            assert [one for one in state.doctor().findings if one.severity == "error"] == []
            state.save("k", ["after"])
            state.compact(floor)
            for revision in range(7, SAVES + 1, 7):
                assert state.load("k", at=f"c{revision}") == self.values[revision]
            state.recover()
            assert state.recover().problems == ()
            assert state.load("k") == ["after"]
            return last


def save(state: StateManager, values: list[Any]) -> None:
    for value in values[SAVES + 1 :]:
        state.save("k", value)


ACTS: dict[str, tuple[int, Callable[[StateManager, list[Any]], object]]] = {
    "saves": (10_000, save),
    "saves that trim": (5, save),
    "compact": (10_000, lambda state, values: state.compact(state.revision)),
    "prune": (10_000, lambda state, values: state.prune("c*", keep=1, history=True)),
}


def die_at(step: int, act: Callable[[], object]) -> bool:
    """Act in a child that is killed before that step: a system call, a statement of SQLite, or a request to Redis."""

    def patch(count: Callable[[], None]) -> None:
        def traced(*_: Any) -> bool:
            count()
            return True

        killed.count_writes(count)
        apsw.connection_hooks.append(lambda db: setattr(db, "exec_trace", traced))

    calls = [(os, name) for name in (*killed.CALLS, "fsync")]
    return killed.die_at(step, act, [*calls, (redis.connection.AbstractConnection, "send_packed_command")], patch)


EVERY = {"saves": stride(29), "saves that trim": stride(41), "compact": stride(7), "prune": stride(7)}


@pytest.mark.parametrize(("name", "every"), EVERY.items())
def test_killed_before_any_step_every_kept_revision_reads_as_before(
    store_url: str, kind: str, name: str, every: int
) -> None:
    history, act = ACTS[name]
    store = Store(store_url)

    def run() -> None:
        with StateManager(store_url, "ns", history=history) as state:
            act(state, store.values)

    finished, step, reached = False, 0, set()
    while not finished:
        step += every
        store.put_back()
        finished = die_at(step, run)
        if name == "prune":
            with StateManager(store_url, "ns") as state:
                for revision in (SAVES // 7 * 7, SAVES):
                    assert state.load("k", at=revision) == store.values[revision]
                assert [one for one in state.doctor().findings if one.severity == "error"] == []
                state.prune("c*", keep=1, history=True)
                assert state.load("k", at=f"c{SAVES // 7 * 7}") == store.values[SAVES // 7 * 7]
                assert state.recover().problems == ()
        else:
            reached.add(store.check())
    print(f"{kind}: {name}: {step} steps")
    assert step > 3 * every or every > 1
    assert "saves" not in name or every > 1 or reached == set(range(SAVES, SAVES + MORE + 1))
