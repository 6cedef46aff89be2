"""A namespace that several begin at once: nobody is refused, and no update is lost."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from sealed_stores import KEY
from stress import stressed

from stateview import StateManager


@pytest.mark.parametrize("kind", ["json", "sqlite"])
def test_a_folder_that_another_makes_between_two_looks_may_be_written_to(tmp_path, kind, monkeypatch):
    """The writer took itself for a reader, and wrote without the lock."""
    with StateManager(f"{kind}:{tmp_path}/s", "ns", quiet=True) as state:
        state.backend.head()
        look = os.access

        def access(path, *given):
            found = look(path, *given)
            os.makedirs(tmp_path / "s" / "ns", exist_ok=True)
            return found

        monkeypatch.setattr("os.access", access)
        assert state.backend._may_write()
        assert state.save("k", 1) == 1


@pytest.mark.parametrize("rounds", [3, *stressed(30)])
@pytest.mark.parametrize("sealed", [False, True])
def test_threads_that_begin_a_namespace_at_once_lose_no_update(new_store, kind, sealed, rounds):
    key = KEY.printed() if sealed else None
    for _ in range(rounds):
        url, barrier = new_store(kind), threading.Barrier(4)
        managers = [StateManager(url, "ns", encryption_key=key, quiet=True) for _ in range(2)]

        def begin(number, managers=managers, barrier=barrier):
            barrier.wait()
            managers[number % 2].update("count", lambda n: n + 1, 0)

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(begin, range(4)))
        for manager in managers:
            assert (manager.load("count", fresh=True), manager.revision) == (4, 4)
            manager.close()
