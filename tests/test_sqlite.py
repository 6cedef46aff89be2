"""What only SQLite's backend remembers from one commit to the next, and what its trimming moves between tables."""

import random
import shutil

import pytest

from stateview import StateManager
from stateview.backends import sqlite, sqlite_schema
from stateview.backends.sqlite_check import examine


def differing(one, other):
    return {key for key in {*one, *other} if one.get(key) != other.get(key)}


@pytest.mark.parametrize("seed", range(5))
def test_two_connections_and_a_short_history(tmp_path, seed):
    """Commits of one key and of several, in turns, far beyond what is kept: checkpoints still differ as they should."""
    chance = random.Random(seed)
    history = chance.choice([3, 40, 64])
    states = [StateManager(f"sqlite:{tmp_path}", "ns", history=history) for _ in range(2)]
    now, marks = {}, {}
    for number in range(300):
        state, act, key = chance.choice(states), chance.random(), f"k{chance.randrange(8)}"
        if act < 0.6:
            state.save(key, number)
            now[key] = number
        elif act < 0.75:
            with state.transaction() as tx:
                for key in ("k0", "k1", "k2"):
                    tx.save(key, number)
                    now[key] = number
        elif act < 0.9 and key in now:
            state.delete(key)
            del now[key]
        elif act < 0.97:
            state.checkpoint(f"c{number}")
            marks[f"c{number}"] = dict(now)
    for state in states:
        head = state.backend.head()
        assert head.count == len(now)
        assert history <= head.revision - head.floor <= history + sqlite.SLACK
        for name, before in marks.items():
            assert {entry.key for entry in state.diff(name)} == differing(before, now)
            other = chance.choice(list(marks))
            assert {entry.key for entry in state.diff(name, other)} == differing(before, marks[other])
        with state.backend._connection() as db:
            assert examine(db, sqlite_schema.tables()) == ""
        state.close()


def test_a_save_after_the_store_was_dropped_or_removed(tmp_path, monkeypatch):
    ours, theirs = (StateManager(f"sqlite:{tmp_path}", "ns") for _ in range(2))
    assert [ours.save("k", number) for number in range(3)] == [1, 2, 3]
    theirs.backend.drop()
    assert ours.save("k", 3) == 1
    assert theirs.load("k") == 3
    shutil.rmtree(tmp_path / "ns")
    monkeypatch.setattr(sqlite, "LOOK", 0.0)  # who removes files by hand is seen a twentieth of a second later
    assert ours.save("k", 4) == 1
    ours.close()
    theirs.close()
