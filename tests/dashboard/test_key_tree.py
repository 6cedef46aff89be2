"""The keys as a tree by segment: what it shows, and that it reads no more than it shows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from dashboard_cases import main, run_board
from dashboard_host import shown, until, write
from hypothesis import given
from hypothesis import strategies as st
from textual.pilot import Pilot

from stateview import StateManager
from stateview.backends.protocol import KeySummary
from stateview.dashboard.data.key_tree import KeyGroup, KeyTree, groups_of
from stateview.dashboard.data.remembered import Memory


def never() -> bool:
    return False


def model(keys: list[str], opened: set[str]) -> Iterator[str]:
    """The rows as one would write them down with all keys at hand."""
    told: set[str] = set()
    for key in sorted(keys):
        row = key
        for group in groups_of(key):
            if group in opened:
                if group not in told:
                    told.add(group)
                    yield f"{group}*"
                continue
            if sum(other.startswith(group) for other in keys) > 1:
                row = f"{group}+"
            break
        if row not in told:
            told.add(row)
            yield row


def text_of(row: KeySummary) -> str:
    return f"{row.key}{'*' if row.is_open else '+'}" if isinstance(row, KeyGroup) else row.key


class Stand:
    """Keys in memory, as a backend lists them; counts what is read."""

    ranks_keys = False

    def __init__(self, keys: list[str]) -> None:
        self.keys, self.read, self.reads = sorted(keys), 0, 0
        self.backend = self

    def list_keys(self, prefix="", after="", before="", limit=1000, at=None, skip=0, backwards=False):
        self.reads += 1
        found = [key for key in self.keys if key > after and key.startswith(prefix)][:limit]
        self.read += len(found)
        return [KeySummary(key, 1, b"1", 1, 1) for key in found]

    def count(self, low="", high="", at=None) -> int:
        return sum(low <= key and (not high or key < high) for key in self.keys)


names = st.text("ab:/", min_size=1, max_size=5).filter(lambda key: key[-1] not in ":/")


@given(st.sets(names, max_size=40), st.sets(names, max_size=5), st.integers(0, 8), st.integers(1, 9), names)
def test_the_rows_are_those_of_the_whole_list(keys: set[str], some: set[str], start: int, limit: int, key: str) -> None:
    opened = {group for one in some for group in groups_of(f"{one}:x")}
    expected = list(model(list(keys), opened))
    tree = KeyTree(Stand(list(keys)), opened=opened)  # type: ignore[arg-type]
    assert [text_of(row) for row in tree.page(0, 1000).rows] == expected
    while tree.work(never) is not None:
        pass
    page = tree.page(start, limit)
    assert page.total == len(expected)
    assert [text_of(row) for row in page.rows] == expected[page.start : page.start + limit]
    around = tree.page_around(key, 3, 4)
    assert [text_of(row) for row in around.rows] == expected[around.start : around.start + len(around.rows)]


def test_a_folded_group_is_passed_over_and_counted() -> None:
    keys = [f"{group}:{number:05}" for group in "abcde" for number in range(20_000)] + ["z"]
    stand = Stand(keys)
    tree = KeyTree(stand)  # type: ignore[arg-type]
    assert [text_of(row) for row in tree.page(0, 300).rows] == ["a:+", "b:+", "c:+", "d:+", "e:+", "z"]
    assert stand.read < 100 and stand.reads < 12
    while tree.work(never) is not None:
        pass
    assert [row.count for row in tree.page(0, 5).rows if isinstance(row, KeyGroup)] == [20_000] * 5
    below = KeyTree(stand, opened=["c:"], earlier=tree)  # type: ignore[arg-type]
    assert [text_of(row) for row in below.page(0, 5).rows] == ["a:+", "b:+", "c:*", "c:00000", "c:00001"]
    while below.work(never) is not None:
        pass
    page = below.page_around("c:19999", 2, 9)
    assert (page.total, [text_of(row) for row in page.rows[-4:]]) == (20_006, ["c:19999", "d:+", "e:+", "z"])
    assert page.rows[page.place - page.start].key == "c:19999"


def test_a_tree_is_opened_folded_followed_and_remembered(folder: Path) -> None:
    with StateManager("sqlite:state", "work") as state:
        for number in range(1, 5):
            state.save(f"task:{number:02}", {"n": number})
        state.save("config/limits/tokens", 5)
        state.save("config/limits/errors", 6)
        state.save("job", 1)
        state.save("lone:key", 2)
    path = str(folder / "remembered" / "dashboard.json")

    async def flow(pilot: Pilot[None]) -> None:
        keys = main(pilot).keys
        await shown(pilot, "task:01")
        await pilot.press("full_stop")
        await shown(pilot, "▸ config/", "2 keys", "lone:key", "▸ task:", "4 keys", "tree, . lists all")
        assert [row.key for row in keys._window.rows] == ["config/", "job", "lone:key", "task:"]
        await pilot.press("G", "enter")
        await shown(pilot, "▾ task:", "  01", "  04")
        await pilot.press("j", "j")
        await until(pilot, lambda: keys.key == "task:02")
        await shown(pilot, "3 Value · task:02", "n: 2")
        write("sqlite:state", "work", **{"task:00": 0, "task:02": {"n": 22}})
        await shown(pilot, "5 keys", "n: 22")
        assert keys.key == "task:02"
        await pilot.press("h")
        await until(pilot, lambda: keys.group is not None and keys.group.key == "task:")
        await shown(pilot, "▸ task:", "enter opens or folds the group")
        await pilot.press("X")
        await shown(pilot, "this is a group of keys")
        main(pilot).show_key("config/limits/tokens")
        await until(pilot, lambda: keys.key == "config/limits/tokens")
        await shown(pilot, "▾ config/", "▾   limits/", "tokens")
        await pilot.press("slash", *"task", "enter")
        await shown(pilot, "task:02")
        await pilot.press("escape")
        await shown(pilot, "▸ task:")

    run_board(StateManager("sqlite:state", "work"), flow, (100, 30), memory=Memory(path))

    async def again(pilot: Pilot[None]) -> None:
        await shown(pilot, "▸ config/", "▸ task:")
        await pilot.press("full_stop")
        await shown(pilot, "task:01")

    run_board(StateManager("sqlite:state", "work"), again, (100, 30), memory=Memory(path))


@pytest.mark.parametrize("kind", ["json", "sqlite"])
def test_the_tree_of_a_past_state(new_store, kind: str) -> None:
    url = new_store(kind)
    with StateManager(url, "work") as state:
        with state.transaction("more") as more:
            for key in ("a:1", "a:2", "b"):
                more.save(key, 1)
        state.checkpoint("then")
        state.delete("a:2")
        assert [text_of(row) for row in KeyTree(state, "then").page(0, 9).rows] == ["a:+", "b"]
        assert [text_of(row) for row in KeyTree(state).page(0, 9).rows] == ["a:1", "b"]
