"""The overview of all namespaces of a store: what it says of each, its orders, its filter, marks and Enter."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import redis_servers
from dashboard_cases import at_screen, board, main, make_namespaces, run_board, toasts
from dashboard_host import compared, line_with, lines, screen_text, shown, until, write
from test_steps import fail
from textual.pilot import Pilot

from stateview import StateManager
from stateview.dashboard.data.namespace_facts import COLUMNS, NamespaceFacts, in_order
from stateview.dashboard.screens.diff import DiffScreen
from stateview.dashboard.screens.main import MainScreen
from stateview.dashboard.screens.overview import OverviewScreen
from stateview.dashboard.widgets.overview import table as table_module
from stateview.dashboard.widgets.overview.header import SIGNS, widths
from stateview.dashboard.widgets.overview.table import NamespaceTable
from stateview.sealing.keys import UserKey

TITLES = [column.title for column in COLUMNS]


async def opened(pilot: Pilot[None]) -> NamespaceTable:
    await until(pilot, lambda: board(pilot).news is not None)
    await pilot.press("0")
    await at_screen(pilot, OverviewScreen)
    table = pilot.app.screen.query_one(NamespaceTable)
    await until(pilot, lambda: table._names and len(table.facts) >= min(len(table._names), table.size.height))
    return table


@pytest.fixture
def url(folder: Path) -> str:
    url = "sqlite:state"
    write(url, "work", phase="planning", job=[1, 2])
    write(url, "large", **{f"key{number}": "x" * 10_000 for number in range(30)})
    with StateManager(url, "marked") as state:
        state.save("phase", "building")
        state.checkpoint("after_planning")
    fail(url, "failing")
    return url


def test_each_namespace_is_listed_with_its_numbers_times_and_run(store_url: str) -> None:
    write(store_url, "work", phase="planning", job=[1, 2])
    with StateManager(store_url, "marked") as state:
        state.save("phase", "building")
        state.checkpoint("after_planning")
    fail(store_url, "failing")

    async def flow(pilot: Pilot[None]) -> None:
        await opened(pilot)
        await shown(pilot, "3 namespaces · sorted by name", *TITLES)
        said = {name: " ".join(line_with(board(pilot), f"{name} ").split()) for name in ("failing", "marked", "work")}
        age, size = r"(now|\d+ s)", r"[\d.]+ k?M?B"
        assert re.fullmatch(rf"failing 6 {size} {age} .*✗ failed at publish.*", said["failing"])
        assert re.search(rf"marked 1 {size} {age} after_planning {age}", said["marked"])
        assert re.search(rf"● work 2 {size} {age}$", said["work"].rstrip())
        write(store_url, "work", more=1)
        await until(pilot, lambda: "● work 3 " in " ".join(line_with(board(pilot), "● work").split()))

    run_board(StateManager(store_url, "work"), flow, size=(120, 30))


def test_it_is_sorted_by_each_column_both_ways_by_keys_and_by_the_mouse(url: str) -> None:
    largest, oldest = ["large", "failing", "work", "marked"], ["work", "large", "marked", "failing"]

    async def flow(pilot: Pilot[None]) -> None:
        table = await opened(pilot)
        assert table._rows == ["failing", "large", "marked", "work"]
        await pilot.press("v")
        assert table._rows == ["work", "marked", "large", "failing"]
        await pilot.press("s")
        await shown(pilot, "sorted by most keys", "Keys▼")
        assert table._rows == largest
        await pilot.press("s")
        await shown(pilot, "sorted by largest")
        assert table._rows[0] == "large"
        await pilot.press("s", "v")
        await shown(pilot, "sorted by oldest commit", "Commit▲")
        assert table._rows == oldest
        await pilot.press("s")
        await shown(pilot, "sorted by latest checkpoint")
        assert table._rows == ["failing", "marked", "large", "work"]
        await pilot.press("v")
        assert table._rows == ["marked", "failing", "large", "work"]  # those without a checkpoint stay last
        await pilot.press("s")
        await shown(pilot, "sorted by run state")
        assert table._rows[0] == "failing"
        keys = 1 + SIGNS + sum(widths(118)[:1]) + 5
        await pilot.click("TableHeader", offset=(keys, 0))
        await shown(pilot, "sorted by most keys")
        await pilot.click("TableHeader", offset=(keys, 0))
        await shown(pilot, "sorted by fewest keys")
        assert table._rows == [*reversed(largest[1:]), "large"]

    run_board(StateManager(url, "work"), flow, size=(120, 30))


def test_names_without_a_fact_come_last_in_both_ways() -> None:
    facts = {"a": NamespaceFacts(keys=1), "b": NamespaceFacts(), "c": NamespaceFacts(keys=3)}
    assert in_order(["a", "b", "c", "d"], facts, COLUMNS[1], backwards=False) == ["c", "a", "b", "d"]
    assert in_order(["a", "b", "c", "d"], facts, COLUMNS[1], backwards=True) == ["a", "c", "b", "d"]


def test_it_is_filtered_by_name_and_by_run(url: str) -> None:
    async def flow(pilot: Pilot[None]) -> None:
        table = await opened(pilot)
        await pilot.press("slash", *"ark", "enter")
        await shown(pilot, "1 of 4 namespaces")
        assert table._rows == ["marked"]
        assert table.has_focus
        await pilot.press("slash", *"!failed", "enter")
        await until(pilot, lambda: table._rows == ["failing"])
        await pilot.press("slash", *"!running", "enter")
        await shown(pilot, "no namespace matches", "esc clears the filter")
        await pilot.press("escape")
        await until(pilot, lambda: table.count == 4)

    run_board(StateManager(url, "work"), flow)


def test_two_marked_namespaces_are_compared_and_one_with_the_open_one(url: str) -> None:
    async def flow(pilot: Pilot[None]) -> None:
        table = await opened(pilot)
        await pilot.press("d")  # the cursor is on the open namespace
        await until(pilot, lambda: any("d compares two namespaces" in one for one in toasts(pilot)))
        await pilot.press("g", "space", "j", "j", "space")
        await shown(pilot, "2 marked, d compares")
        await pilot.press("d")
        await at_screen(pilot, DiffScreen)
        await compared(pilot)
        await shown(pilot, "Diff  failing:live → marked:live", "+1 −6")
        line = line_with(board(pilot), "CLI:")
        assert line.strip() == "CLI: stateview -s sqlite:state -n failing diff live live --with-namespace marked"
        assert pilot.app.screen.check_action("restore", ()) is False  # neither is the open namespace
        await pilot.press("escape")
        await at_screen(pilot, OverviewScreen)
        await pilot.press("escape")  # takes the marks off
        assert table.marked == []
        await pilot.press("d")
        await at_screen(pilot, DiffScreen)
        await shown(pilot, "Diff  work:live → marked:live")

    run_board(StateManager(url, "work"), flow, size=(160, 40))


def test_enter_opens_a_namespace(url: str) -> None:
    async def flow(pilot: Pilot[None]) -> None:
        await opened(pilot)
        await pilot.press("g", "enter")
        await at_screen(pilot, MainScreen)
        await until(pilot, lambda: board(pilot).manager.namespace == "failing")
        await pilot.press("0")
        await at_screen(pilot, OverviewScreen)
        await shown(pilot, "● failing")
        await pilot.press("0")
        await at_screen(pilot, MainScreen)

    run_board(StateManager(url, "work"), flow)


def test_what_cannot_be_read_says_so_in_its_row(url: str, folder: Path) -> None:
    with StateManager(url, "secret", encryption_key=UserKey.generate().printed()) as state:
        state.save("token", 1)
    write(url, "broken", a=1)
    database = folder / "state" / "broken" / "state.db"
    database.write_bytes(b"\0" * database.stat().st_size)

    async def flow(pilot: Pilot[None]) -> None:
        table = await opened(pilot)
        await shown(pilot, "! damaged: enter says why", "! sealed: no key opens its values", "after_planning")
        await pilot.press("slash", *"brok", "enter", "enter")
        await until(pilot, lambda: any("stateview -n broken recover" in one for one in toasts(pilot)))
        assert board(pilot).screen is table.screen
        StateManager(url, "marked").drop()
        table.read_again("marked")
        await pilot.press("escape")
        await shown(pilot, "! gone: ")
        await pilot.press("R")
        await until(pilot, lambda: "! gone" not in screen_text(board(pilot)))
        assert "marked" not in table._names
        await pilot.press("slash", *"secr", "enter", "enter")
        await until(pilot, lambda: board(pilot).manager.namespace == "secret")

    run_board(StateManager(url, "work"), flow, size=(120, 30))


def test_what_others_make_write_and_drop_appears_by_itself(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_module, "POLL_SECONDS", 0.1)

    async def flow(pilot: Pilot[None]) -> None:
        table = await opened(pilot)
        await pilot.press("G")
        write(url, "large", more=1)
        write(url, "added", k=1)
        StateManager(url, "failing").drop()
        await until(pilot, lambda: table._rows == ["added", "large", "marked", "work"])
        await until(pilot, lambda: (large := table.facts["large"]).keys == 31 and not large.problem)
        assert table.name_at_cursor == "work"

    run_board(StateManager(url, "work"), flow)


def test_what_was_read_stays_as_stale_while_the_server_is_away(tmp_path: Path) -> None:
    server = redis_servers.Server(next(iter(redis_servers.find().values())), tmp_path)
    write(server.url, "work", a=1)
    write(server.url, "other", a=1, b=2)

    async def flow(pilot: Pilot[None]) -> None:
        table = await opened(pilot)
        server.end()
        table.read_again("other")
        await until(pilot, lambda: table.facts["other"].problem == "unavailable")
        assert " ".join(line_with(board(pilot), " other ").split()).startswith("other 2 ")
        await shown(pilot, "! stale: ")
        server.start(server.port)  # it has kept nothing
        write(server.url, "other", c=3)
        await pilot.press("R")
        await until(pilot, lambda: (table.facts["other"].keys, table.facts["other"].problem) == (1, ""))

    try:
        run_board(StateManager(server.url, "work", timeout=0.3), flow, size=(120, 30))
    finally:
        server.end()


@pytest.mark.parametrize("count", [200, pytest.param(10_000, marks=pytest.mark.stress)])
def test_many_namespaces_are_listed_at_once_and_only_what_is_seen_is_read(folder: Path, count: int) -> None:
    make_namespaces(folder, count)
    write("json:many", "ns-00000", k=1)
    write("json:many", f"ns-{count - 1:05}", a=1, b=1)

    async def flow(pilot: Pilot[None]) -> None:
        await until(pilot, lambda: board(pilot).news is not None and main(pilot)._shown is not None)
        began = time.monotonic()
        table = await opened(pilot)
        assert time.monotonic() - began < 5
        height = table.size.height
        await pilot.pause(0.3)
        assert len(table.facts) == height
        await pilot.press("G")
        await until(pilot, lambda: f"ns-{count - 1:05}" in table.facts)
        await pilot.pause(0.2)
        assert len(table.facts) == 2 * height
        await pilot.press("s", "g")
        if count > 1000:
            await shown(pilot, "% read, esc stops")
            await pilot.press("escape")
            await shown(pilot, " read, R reads on")
            assert len(table.facts) < count
        else:
            await until(pilot, lambda: len(table.facts) == count)
            assert table._rows[0] == f"ns-{count - 1:05}"

    run_board(StateManager("json:many", "ns-00000"), flow)


@pytest.mark.parametrize("width", [20, 58, 78, 98, 158, 300])
def test_the_columns_fill_the_row_and_the_name_keeps_room(width: int) -> None:
    columns = widths(width)
    assert len(columns) == len(COLUMNS)
    assert min(columns) >= 0 and columns[0] >= 4
    if width >= 58:
        assert SIGNS + sum(columns) == width
        assert columns[0] >= 12


def test_at_60_columns_the_name_numbers_and_run_are_seen(url: str) -> None:
    async def flow(pilot: Pilot[None]) -> None:
        await opened(pilot)
        await shown(pilot, "failing", "✗ publish", "marked", "Keys", "Size", "Commit", "Run")
        assert all(len(line.rstrip()) <= 60 for line in lines(board(pilot)))

    run_board(StateManager(url, "work"), flow, size=(60, 15))


def test_the_command_of_the_overview_runs_as_it_stands(url: str, run: Callable[..., tuple[int, str, str]]) -> None:
    said: list[str] = []

    async def flow(pilot: Pilot[None]) -> None:
        board(pilot).options["namespace"] = "work"
        await opened(pilot)
        said.append(line_with(board(pilot), "CLI: stateview"))

    run_board(StateManager(url, "work"), flow, store=url)
    words = said[0].split("stateview", 1)[1].split()
    assert words == ["-s", url, "stats", "--all"] and run(*words)[0] == 0
