"""Where the panes stand: zoomed, moved by keys and by the mouse, remembered, and at every size."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from dashboard_cases import board, main, run_board, toasts
from dashboard_host import lines, shown, until, write
from textual.pilot import Pilot

from stateview import StateManager
from stateview.dashboard.data.remembered import Memory, remembered_path
from stateview.dashboard.input.keymap import actions
from stateview.dashboard.widgets.arranged.arrangement import MIN_COLUMNS, MIN_ROWS, Wanted, arrange, divider_of

PANES = ("namespaces", "keys", "value", "timeline", "steps")
SIZES = [(40, 10), (79, 22), (80, 22), (100, 28), (119, 40), (120, 22), (160, 48)]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("focus", PANES)
@pytest.mark.parametrize("share", [None, 0.0, 0.37, 1.0])
def test_panes_fill_the_screen_and_never_overlap(size: tuple[int, int], focus: str, share: float | None) -> None:
    for zoomed in (False, True):
        plain = arrange(*size, Wanted(focus, zoomed, True), {})
        shares = {} if share is None else {divider.name: share for divider in plain.dividers}
        found = arrange(*size, Wanted(focus, zoomed, True, 9), shares)
        regions = found.regions.values()
        assert focus in found.regions
        assert sum(region.area for region in regions) == size[0] * size[1]
        assert all(one is other or not one.overlaps(other) for one in regions for other in regions)
        assert zoomed or all(one.width >= MIN_COLUMNS and one.height >= min(MIN_ROWS, size[1] // 4) for one in regions)


def test_at_100_columns_and_30_rows_keys_value_and_timeline_are_seen() -> None:
    regions = arrange(100, 28, Wanted(), {}).regions
    assert set(regions) == {"keys", "value", "timeline"}
    assert regions["timeline"].y == regions["keys"].bottom and regions["timeline"].x == regions["keys"].x
    assert set(arrange(100, 28, Wanted("timeline"), {}).regions) == {"keys", "value", "timeline", "changes"}


def test_a_border_moves_where_it_is_put_and_stops_at_the_least_size() -> None:
    divider = divider_of(arrange(100, 28, Wanted(), {}), "keys", beside=True)
    assert divider is not None and divider.name == "medium-value"
    for at in (30, 60, 70):
        assert arrange(100, 28, Wanted(), {divider.name: divider.share_at(at)}).regions["keys"].width == at
    assert arrange(100, 28, Wanted(), {divider.name: divider.share_at(-5)}).regions["keys"].width == MIN_COLUMNS
    below = divider_of(arrange(100, 28, Wanted(), {}), "keys", beside=False)
    assert below is not None and below.name == "medium-timeline"
    assert divider_of(arrange(100, 28, Wanted(), {}), "value", beside=False) is None


def test_a_pane_is_zoomed_and_borders_are_moved_and_remembered(folder: Path) -> None:
    write("sqlite:state", "work", job={"a": 1})
    path = str(folder / "home" / "dashboard.json")

    async def flow(pilot: Pilot[None]) -> None:
        panes = main(pilot).panes
        await shown(pilot, "2 Keys", "4 Timeline", "3 Value · job")
        keys = main(pilot).query_one("#keys-pane")
        width, height = keys.outer_size
        await pilot.press("ctrl+right", "ctrl+right", "ctrl+down")
        await until(pilot, lambda: keys.outer_size == (width + 4, height + 1))
        await pilot.press("plus")
        await shown(pilot, "zoomed, + shows all panes")
        await until(pilot, lambda: keys.outer_size == panes.size and not main(pilot).query_one("#json").region)
        await pilot.press("3")  # the zoom goes with the focus
        await until(pilot, lambda: main(pilot).query_one("#value-pane").outer_size == panes.size)
        await pilot.press("ctrl+left")
        assert "no other left or right" in toasts(pilot)[0]
        await pilot.press("plus")
        await until(pilot, lambda: keys.outer_size == (width + 4, height + 1))
        at = keys.region.right - 1, keys.region.y + 9
        await pilot.mouse_down(offset=at)
        await pilot.hover(offset=(at[0] - 9, at[1]))
        await pilot.mouse_up(offset=(at[0] - 9, at[1]))
        await until(pilot, lambda: keys.outer_size.width == width + 4 - 9)

    run_board(StateManager("sqlite:state", "work"), flow, (100, 30), memory=Memory(path))
    assert set(json.loads(Path(path).read_bytes())["shares"]) == {"medium-value", "medium-timeline"}
    assert os.stat(path).st_mode & 0o777 == 0o600

    async def again(pilot: Pilot[None]) -> None:
        await shown(pilot, "3 Value · job")
        assert main(pilot).panes.shares == json.loads(Path(path).read_bytes())["shares"]

    run_board(StateManager("sqlite:state", "work"), again, (100, 30), memory=Memory(path))


@pytest.mark.stress
def test_a_file_that_cannot_be_read_or_written_is_no_reason_not_to_start(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(folder))
    assert remembered_path() == str(folder / "stateview" / "dashboard.json")
    (folder / "stateview").mkdir()
    Path(remembered_path()).write_text('{"shares": 3}')
    assert Memory(remembered_path()).choices.shares == {}

    async def flow(pilot: Pilot[None]) -> None:
        board(pilot).memory = Memory(str(folder / "stateview" / "dashboard.json" / "file"))
        await pilot.press("ctrl+right")
        await until(pilot, lambda: any("not remembered" in text for text in toasts(pilot)))

    write("sqlite:state", "work", job=1)
    run_board(StateManager("sqlite:state", "work"), flow, (120, 30))


def test_the_keys_of_every_pane_are_configurable() -> None:
    ids = {action.id for action in actions()}
    assert {"value.blame", "value.open-all", "main.zoom", "main.border-left"} <= ids


@pytest.mark.parametrize("size", [(100, 30), pytest.param((60, 20), marks=pytest.mark.stress)], ids=str)
def test_notices_make_the_panes_shrink_and_cover_nothing(folder: Path, size: tuple[int, int]) -> None:
    write("sqlite:state", "work", job={"a": 1})

    async def flow(pilot: Pilot[None]) -> None:
        panes, height = main(pilot).panes, size[1]
        await shown(pilot, "2 Keys", "/ Filter")
        await until(pilot, lambda: panes.region.bottom == height - 1)
        for _ in range(3):  # the same notice again takes no more room
            await pilot.press("5")
            await shown(pilot, "this namespace has no run")
        await until(pilot, lambda: panes.region.bottom == height - 2)
        assert "this namespace has no run" in lines(board(pilot))[height - 2]
        assert "╯" in lines(board(pilot))[height - 3] and "? Help" in lines(board(pilot))[height - 1]
        pilot.app.clear_notifications()
        await until(pilot, lambda: panes.region.bottom == height - 1)

    run_board(StateManager("sqlite:state", "work"), flow, size)


def test_the_note_of_a_checkpoint_and_the_reason_of_a_commit_are_seen_in_full(folder: Path) -> None:
    with StateManager("sqlite:state", "work") as state:
        state.save("job", 1, reason="raise the limits, because the first of all the jobs took longer than expected")
        state.checkpoint("nightly", note="as it was before the long migration of all the customers\nask ana")

    async def flow(pilot: Pilot[None]) -> None:
        await shown(pilot, "○ nightly", "│ 1 raise")
        await pilot.press("4", "j")
        await shown(pilot, "nightly: as it was before", "of all the customers", "ask ana", "at r1")
        await pilot.press("j")
        await shown(pilot, "took longer than expected")
        await pilot.press("2")
        await until(pilot, lambda: "took longer than expected" not in "\n".join(lines(board(pilot))))

    run_board(StateManager("sqlite:state", "work"), flow, (100, 30))
