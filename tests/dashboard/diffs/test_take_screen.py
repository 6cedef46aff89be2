"""Taking keys and places from another namespace, from the diff with it, by a preview."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from dashboard_host import compared, line_with, run, shown, state_of, until, write
from textual.pilot import Pilot

from stateview import StateManager
from stateview.dashboard.screens.diff import DiffScreen
from stateview.dashboard.screens.previews.take import TakeScreen

HERE = {"job": {"tokens": 1, "tags": ["a"]}, "notes": "mine", "only": 1}
THERE = {"job": {"tokens": 2, "tags": ["b"]}, "notes": "theirs", "new": [1]}


@pytest.fixture
def manager(new_store: Callable[[str], str]) -> StateManager:
    url = new_store("sqlite")
    write(url, "work", **HERE)
    write(url, "staging", **THERE)
    return StateManager(url, "work")


async def opened(pilot: Pilot[None], manager: StateManager, store: str = "") -> DiffScreen:
    other = StateManager(store or manager.url, "staging", read_only=True)
    screen = DiffScreen("live", other=other, store=store)
    pilot.app.push_screen(screen)
    await until(pilot, lambda: screen.is_attached)
    await compared(pilot)
    return screen


async def previewed(pilot: Pilot[None]) -> TakeScreen:
    await pilot.press("P")
    await until(pilot, lambda: isinstance(pilot.app.screen, TakeScreen) and pilot.app.screen.is_attached)
    await compared(pilot)
    screen = pilot.app.screen
    assert isinstance(screen, TakeScreen)
    return screen


def test_marked_keys_are_taken_as_one_commit(manager: StateManager) -> None:
    async def flow(pilot: Pilot[None]) -> None:
        diff = await opened(pilot, manager)
        await shown(pilot, "space marks keys to take", "P Take")
        await pilot.press("j", "space", "space", "space")  # new, notes, only
        screen = await previewed(pilot)
        await shown(pilot, "Take  staging:", "3 of 3 marked · 1 will be deleted", "y takes, after a checkpoint before_")
        await shown(pilot, "restore 3 --from-namespace staging --keys new --keys notes --keys only")
        await pilot.press("y")
        await until(pilot, lambda: "Taken 3 keys · z undoes it" in pilot.app.told())
        assert pilot.app.screen is not screen
        await until(pilot, lambda: diff.index.keys == ["job"])  # the diff is computed again
        await pilot.press("z")
        await until(pilot, lambda: len(diff.index.keys) == 4)  # and after the undo
        await pilot.press("Z")
        await until(pilot, lambda: diff.index.keys == ["job"])

    run(manager, flow, options={"store": manager.url})
    assert state_of(manager.url) == {"job": HERE["job"], "notes": "theirs", "new": [1]}
    assert state_of(manager.url, "staging") == THERE
    with StateManager(manager.url, "work") as state:
        assert state.log(3)[2].reason == "restore 3 --from-namespace staging --keys new notes only"
        state.undo()
    assert state_of(manager.url) == HERE


def test_the_key_or_the_place_under_the_cursor_is_taken_without_marks(manager: StateManager) -> None:
    async def flow(pilot: Pilot[None]) -> None:
        screen = await opened(pilot, manager)
        await until(pilot, lambda: not screen.view.busy)
        preview = await previewed(pilot)
        assert preview.index.keys == ["job"]
        assert "--keys job" in line_with(pilot.app, "CLI:")
        await pilot.press("escape")
        await pilot.press("enter")
        await shown(pilot, "~ /tokens  1 → 2")
        await previewed(pilot)
        await shown(pilot, "[-] ~ job", "1 in part", "restore 3 --from-namespace staging --path 'job#/tokens'")
        await pilot.press("y")
        await until(pilot, lambda: "Taken 1 path of 1 key · z undoes it" in pilot.app.told())

    run(manager, flow, options={"store": manager.url})
    assert state_of(manager.url) == {**HERE, "job": {"tokens": 2, "tags": ["a"]}}


def test_a_place_that_no_longer_differs_is_said_and_nothing_is_marked(manager: StateManager) -> None:
    async def flow(pilot: Pilot[None]) -> None:
        await opened(pilot, manager)
        await pilot.press("enter")
        await shown(pilot, "~ /tokens  1 → 2")
        write(manager.url, job={"tokens": 2, "tags": ["a"]})
        await previewed(pilot)
        await shown(pilot, "! /tokens does not differ from live: nothing is marked", "0 of 1 marked")

    run(manager, flow, options={"store": manager.url})


def test_from_another_store_and_its_password_is_not_shown(
    manager: StateManager, new_store: Callable[[str], str]
) -> None:
    store = new_store("json")
    write(store, "staging", notes="far away")

    async def flow(pilot: Pilot[None]) -> None:
        screen = await opened(pilot, manager, store)
        await pilot.press("j", "j")
        assert screen.keys.key == "only"
        await pilot.press("k")
        await previewed(pilot)
        await pilot.press("y")
        await until(pilot, lambda: "Taken 1 key · z undoes it" in pilot.app.told())
        words = ["restore", "1", "--from-store", "redis://:secret@example/0", "--keys", "notes"]
        assert "secret" not in pilot.app.command_line(words)
        assert f"--from-store {store}" in pilot.app.acts.done[-1].line

    run(manager, flow, options={"store": manager.url})
    assert state_of(manager.url) == {**HERE, "notes": "far away"}


def test_nothing_is_taken_where_both_states_are_of_this_namespace_or_the_manager_is_read_only(
    manager: StateManager,
) -> None:
    async def flow(pilot: Pilot[None]) -> None:
        screen = DiffScreen("1", "live")
        pilot.app.push_screen(screen)
        await until(pilot, lambda: screen.is_attached)
        assert not screen.check_action("take", ())
        await pilot.press("escape")
        await opened(pilot, manager)
        await previewed(pilot)
        await shown(pilot, "read-only: no take")
        await pilot.press("y")
        await until(pilot, lambda: any(text.startswith("read-only") for text in pilot.app.told()))

    run(StateManager(manager.url, "work", read_only=True), flow)
    assert state_of(manager.url) == HERE
