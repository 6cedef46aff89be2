"""The preview of taking one commit back: what it shows, what it leaves as it is, and what it runs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from dashboard_host import compared, line_with, run, shown, state_of, until, write
from textual.pilot import Pilot

from stateview import StateManager
from stateview.dashboard.screens.previews.base import SEEN_SECONDS
from stateview.dashboard.screens.previews.revert import RevertScreen

START = {"job": {"tokens": 1, "tags": ["a"]}, "notes": "old", "phase": "planning"}
PLANNED = {"job": {"tokens": 2, "tags": ["b"]}, "notes": "new", "phase": "building"}


@pytest.fixture
def manager(new_store: Callable[[str], str]) -> StateManager:
    """A namespace whose second commit changed three keys, and whose third changed another key."""
    url = new_store("sqlite")
    with StateManager(url, "work") as state:
        for values, reason in ((START, "start"), (PLANNED, "plan"), ({"later": 1}, "later")):
            with state.transaction(reason) as transaction:
                for key, value in values.items():
                    transaction.save(key, value)
    return StateManager(url, "work")


async def opened(pilot: Pilot[None]) -> RevertScreen:
    screen = RevertScreen(2, "plan")
    pilot.app.push_screen(screen)
    await until(pilot, lambda: screen.is_attached)
    await compared(pilot)
    return screen


def test_the_commit_is_previewed_and_taken_back_as_one_commit(manager: StateManager) -> None:
    async def flow(pilot: Pilot[None]) -> None:
        screen = await opened(pilot)
        await shown(pilot, "Revert  commit 2: plan", "3 of 3 marked · 0 will be deleted", '"new" → "old"')
        await shown(pilot, "y reverts, after a checkpoint before_revert_…", "CLI: stateview revert --commit 2")
        await pilot.press("y")
        await until(pilot, lambda: "Reverted 3 keys · z undoes it" in pilot.app.told())
        assert pilot.app.screen is not screen

    run(manager, flow)
    assert state_of(manager.url) == {**START, "later": 1}
    with StateManager(manager.url, "work") as state:
        assert [commit.reason for commit in state.log(1)] == ["revert 2: plan"]


def test_what_was_changed_since_is_named_and_stays(manager: StateManager) -> None:
    write(manager.url, phase="testing")

    async def flow(pilot: Pilot[None]) -> None:
        screen = await opened(pilot)
        await shown(pilot, "! changed since, and left as it is: 'phase' (revision 4)", "2 of 2 marked")
        assert screen.index.keys == ["job", "notes"]
        assert line_with(pilot.app, "CLI:").strip() == "CLI: stateview revert --commit 2 --skip-conflicts"
        await pilot.press("y")
        await until(pilot, lambda: "Reverted 2 keys · z undoes it" in pilot.app.told())

    run(manager, flow)
    assert state_of(manager.url) == {**START, "phase": "testing", "later": 1}


def test_one_key_or_one_place_alone_is_taken_back(manager: StateManager) -> None:
    async def flow(pilot: Pilot[None]) -> None:
        await opened(pilot)
        await pilot.press("n", "enter")
        await shown(pilot, "[ ] ~ /tags/0", "[ ] ~ /tokens  2 → 1")
        await pilot.press("space")
        await shown(pilot, "CLI: stateview restore 1 --path 'job#/tokens'", "before_restore_…")
        await pilot.press("y")
        await until(pilot, lambda: "Reverted 1 path of 1 key · z undoes it" in pilot.app.told())

    run(manager, flow)
    assert state_of(manager.url) == {**PLANNED, "job": {"tokens": 1, "tags": ["b"]}, "later": 1}


def test_a_key_that_another_writes_meanwhile_is_left_out_and_y_is_asked_for_again(manager: StateManager) -> None:
    async def flow(pilot: Pilot[None]) -> None:
        screen = await opened(pilot)
        write(manager.url, phase="testing")
        await pilot.press("y")
        await until(pilot, lambda: any(text.startswith("not reverted: marked keys have") for text in pilot.app.told()))
        await shown(pilot, "left as it is: 'phase' (revision 4)", "2 of 2 marked")
        assert state_of(manager.url)["job"] == PLANNED["job"]
        await pilot.pause(SEEN_SECONDS)
        await compared(pilot)
        await pilot.press("y")
        await until(pilot, lambda: pilot.app.screen is not screen)

    run(manager, flow)
    assert state_of(manager.url) == {**START, "phase": "testing", "later": 1}


def test_a_commit_of_which_nothing_is_left_says_so(manager: StateManager) -> None:
    write(manager.url, **START)

    async def flow(pilot: Pilot[None]) -> None:
        await opened(pilot)
        await shown(pilot, "nothing of this commit is left", "0 of 0 marked")
        write(manager.url, **dict.fromkeys(START, 0))
        await pilot.press("R")
        await shown(pilot, "nothing of this commit can be taken back")

    run(manager, flow)
