"""Any number of threads are kept with few files and connections."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from saver_calls import config, put

from stateview import StateManager


@pytest.fixture
def few_files() -> Iterator[int]:
    """Let this process open 40 files more than it has open, and give the limit."""
    if not Path("/proc/self/fd").exists():
        pytest.skip("this system does not tell which files are open")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = len(os.listdir("/proc/self/fd")) + 40
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, before[1]))
    yield limit
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_more_threads_than_files_may_be_open_are_kept_by_few_connections(tmp_path: Path, few_files: int) -> None:
    from stateview.langgraph import StateviewSaver

    threads = [f"{'t' * 200 if number % 2 else ''}{number}" for number in range(15)]
    with StateviewSaver(f"sqlite:{tmp_path}/store") as saver:
        for name in threads:
            put(saver, name, 1, {"a": 1})
        assert len(list(saver.list(None))) == len(threads)
        for name in threads:
            assert saver.get_tuple(config(name)) is not None
        assert len(os.listdir("/proc/self/fd")) < few_files - 10


def test_a_manager_that_another_thread_uses_is_not_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from stateview.langgraph import managers

    closed = []
    monkeypatch.setattr(StateManager, "close", lambda state: closed.append(state.namespace))
    monkeypatch.setattr(managers, "_MAX_OPEN", 1)
    pool = managers.Managers(StateManager(f"sqlite:{tmp_path}", "all"))
    with pool.use("a") as first, pool.use("b"):
        with pool.use("a") as again, pool.use("c"):
            assert again is first
        assert closed == ["c"]
        pool.close("a")
        with pool.use("a") as other:
            assert other is not first
        assert closed == ["c", "a"]
    assert closed == ["c", "a", "a"]
    pool.close()
    assert closed == ["c", "a", "a", "b"]


@pytest.mark.stress
def test_many_threads_from_several_threads_of_python(store_url: str, few_files: int) -> None:
    from stateview.langgraph import StateviewSaver

    with StateviewSaver(store_url) as saver, ThreadPoolExecutor(4) as workers:

        def turn(number: int) -> int:
            name = f"t{number % 20}"
            found = saver.get_tuple(config(name))
            last = int(found.checkpoint["id"][3:]) if found is not None else 0
            put(saver, name, number + 1, {"a": number}, last or None)
            saver.put_writes(config(name, f"id-{number + 1:04}"), [("a", 1)], "task")
            return len(list(saver.list(config(name))))

        assert max(workers.map(turn, range(200))) == 10
        assert len(os.listdir("/proc/self/fd")) < few_files - 10
        assert len(list(saver.list(None))) == 200
