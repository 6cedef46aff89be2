"""How many round trips a command makes on Redis, beside those that connect."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from conftest import KINDS
from redis_proxy import RedisProxy

from stateview import StateManager


@pytest.mark.parametrize(
    ("words", "trips"),
    [("diff c", 3), ("diff c live --keys k1", 5), ("keys", 2), ("checkpoints", 1), ("log", 2)],
)
def test_a_command_reads_nothing_twice(
    new_store: Callable[[str], str], run: Callable[..., tuple[int, str, str]], words: str, trips: int
) -> None:
    url = new_store(KINDS[2])
    with StateManager(url, "work") as state:
        state.save_many({f"k{number}": number for number in range(20)})
        state.checkpoint("c")
        state.save_many({f"k{number}": -number for number in range(10)})
    assert run("-s", url, "-n", "work", *words.split())[0] == 0  # the server learns the scripts
    with RedisProxy(url) as proxy:
        code, out, _ = run("-s", proxy.url, "-n", "work", *words.split())
        assert (code, bool(out)) == (0, True)
        connect = 2 if url.endswith("/0") else 3  # HELLO, SELECT, and the first contact
        assert proxy.plain.trips == connect + trips


@pytest.mark.parametrize("words", ["diff live", "diff 0", "diff c", "keys", "checkpoints", "log", "log --by me"])
def test_a_namespace_that_was_never_written_is_named(
    store_url: str, run: Callable[..., tuple[int, str, str]], words: str
) -> None:
    code, out, err = run("-s", store_url, "-n", "work", *words.split())
    assert (code, out) == (1, "")
    assert "namespace 'work' of " in err and "does not exist" in err
