"""Every screen and dialog of the dashboard, with a way to open each on the whole program."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import pkgutil
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from dashboard_host import compared, lines, until
from textual.pilot import Pilot
from textual.screen import Screen
from textual.widgets import Input

import stateview.dashboard.dialogs
import stateview.dashboard.screens
from stateview import StateManager
from stateview.dashboard.app import Dashboard
from stateview.dashboard.dialogs.compare import CompareDialog
from stateview.dashboard.dialogs.confirm import Confirm
from stateview.dashboard.dialogs.key_actions import SearchLine
from stateview.dashboard.dialogs.menu import Menu, MenuList
from stateview.dashboard.dialogs.new_checkpoint import CheckpointDialog
from stateview.dashboard.dialogs.prompt import PromptDialog
from stateview.dashboard.screens.activity import DoneScreen
from stateview.dashboard.screens.command_prompt import CommandScreen
from stateview.dashboard.screens.diff import DiffScreen
from stateview.dashboard.screens.diff_base import DiffBaseScreen
from stateview.dashboard.screens.edit import EditScreen
from stateview.dashboard.screens.edit_conflict import ConflictScreen
from stateview.dashboard.screens.help import HelpScreen
from stateview.dashboard.screens.history import HistoryScreen
from stateview.dashboard.screens.main import MainScreen
from stateview.dashboard.screens.output import OutputScreen
from stateview.dashboard.screens.overview import OverviewScreen
from stateview.dashboard.screens.previews.restore import RestoreScreen
from stateview.dashboard.screens.previews.revert import RevertScreen
from stateview.dashboard.screens.previews.take import TakeScreen
from stateview.dashboard.widgets.value.json_editor import JsonEdit

Case = Callable[[Pilot[None]], Awaitable[None]]
OBEYED = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def board(pilot: Pilot[None]) -> Dashboard:
    assert isinstance(pilot.app, Dashboard)
    return pilot.app


def main(pilot: Pilot[None]) -> MainScreen:
    screen = board(pilot).main
    assert screen is not None
    return screen


async def at_screen(pilot: Pilot[None], kind: type[Screen[Any]]) -> None:
    await until(pilot, lambda: type(pilot.app.screen) is kind and pilot.app.screen.is_attached)
    await pilot.pause()


def pressing(*keys: str) -> Case:
    async def press(pilot: Pilot[None]) -> None:
        await pilot.press(*keys)

    return press


async def open_conflict(pilot: Pilot[None]) -> None:
    key = main(pilot).keys.key
    assert key is not None
    await pilot.press("e")
    await at_screen(pilot, EditScreen)
    pilot.app.screen.query_one(JsonEdit).text = '"mine \\u001b[2J[/"'
    manager = board(pilot).manager
    with StateManager(manager.url, manager.namespace, author="them [/]\x1b[2J") as other:
        other.save(key, "theirs \x1b[2J[/\u202e")
    await pilot.press("ctrl+s")


async def open_output(pilot: Pilot[None]) -> None:
    await run_line(pilot, "log")


async def run_line(pilot: Pilot[None], line: str) -> None:
    await pilot.press("colon")
    await at_screen(pilot, CommandScreen)
    pilot.app.screen.query_one(Input).value = line
    await pilot.press("enter")


async def chosen_state(pilot: Pilot[None]) -> None:
    await at_screen(pilot, Menu)
    await pilot.press(*"start", "enter")


async def open_diff(pilot: Pilot[None]) -> None:
    await pilot.press("d")
    await at_screen(pilot, CompareDialog)
    await pilot.press(*"start", "enter", "enter")


async def open_restore(pilot: Pilot[None]) -> None:
    await pilot.press("r")
    await chosen_state(pilot)


async def open_revert(pilot: Pilot[None]) -> None:
    await pilot.press("4", "j", "V")
    await at_screen(pilot, RevertScreen)
    board(pilot).show_state(None)


async def open_take(pilot: Pilot[None]) -> None:
    manager, key = board(pilot).manager, main(pilot).keys.key
    assert key is not None
    other = StateManager(manager.url, "other")
    other.save(key, "theirs")
    pilot.app.push_screen(TakeScreen(other, "", "live", [key]))


async def open_search(pilot: Pilot[None]) -> None:
    await pilot.press("3", "slash")


async def nothing(pilot: Pilot[None]) -> None:
    await pilot.pause()


CASES: dict[type[Screen[Any]], Case] = {
    MainScreen: nothing,
    OverviewScreen: pressing("0"),
    HistoryScreen: pressing("H"),
    DiffScreen: open_diff,
    RestoreScreen: open_restore,
    RevertScreen: open_revert,
    TakeScreen: open_take,
    EditScreen: pressing("e"),
    ConflictScreen: open_conflict,
    CommandScreen: pressing("colon"),
    OutputScreen: open_output,
    HelpScreen: pressing("question_mark"),
    DoneScreen: pressing("at"),
    PromptDialog: pressing("M"),
    CheckpointDialog: pressing("c"),
    Confirm: pressing("X"),
    Menu: pressing("r"),
    CompareDialog: pressing("d"),
    SearchLine: open_search,
}


def all_screens() -> set[type[Screen[Any]]]:
    """Every screen and dialog that can be opened: those of the two packages that no other is built on."""
    found: set[type[Screen[Any]]] = set()
    for package in (stateview.dashboard.screens, stateview.dashboard.dialogs):
        for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            for _, one in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
                if issubclass(one, Screen) and one.__module__ == module.name:
                    found.add(one)
    return {one for one in found if not any(other is not one and issubclass(other, one) for other in found)}


async def open_case(pilot: Pilot[None], kind: type[Screen[Any]]) -> None:
    """Wait until the first keys are there, and open a screen."""
    await until(pilot, lambda: main(pilot).keys.key is not None and board(pilot).news is not None)
    await until(pilot, lambda: main(pilot)._shown is not None)
    await CASES[kind](pilot)
    await at_screen(pilot, kind)


def make_namespaces(folder: Path, count: int) -> None:
    """Make so many namespaces of JSON files in the store `json:many`, as an older release wrote them."""
    for number in range(count):
        below = folder / "many" / f"ns-{number:05}"
        below.mkdir(parents=True)
        (below / "state.json").write_bytes(b'{"k":{"value":1,"timestamp":"2026-01-01T00:00:00"}}')


class Lag:
    """How long the loop of the app was held up at most, in seconds of its thread's own work.

    Time in which the machine did something else does not count.
    """

    def __init__(self) -> None:
        self.longest = 0.0

    async def watch(self) -> None:
        while True:
            before = time.thread_time()
            await asyncio.sleep(0.01)
            self.longest = max(self.longest, time.thread_time() - before)


@asynccontextmanager
async def lag() -> AsyncIterator[Lag]:
    """Measure how long the loop is held up inside the block."""
    one = Lag()
    task = asyncio.create_task(one.watch())
    try:
        yield one
    finally:
        task.cancel()


def run_board(
    manager: StateManager, flow: Callable[[Pilot[None]], Any], size: tuple[int, int] = (120, 40), seconds: float = 60,
    **options: Any,
) -> None:  # fmt: skip
    """Run a flow on the whole dashboard of a manager; it must end in so many seconds."""

    async def go() -> None:
        app = Dashboard(manager, {"store": options.get("store")}, **options)
        async with app.run_test(size=size, notifications=True) as pilot:
            await flow(pilot)

    asyncio.run(asyncio.wait_for(go(), seconds))


def obeyed(pilot: Pilot[None]) -> list[str]:
    """The lines on the screen that hold what a terminal would obey."""
    return [repr(one) for one in lines(board(pilot)) if OBEYED.search(one)]


def typed(pilot: Pilot[None]) -> list[str]:
    """What stands in the fields of the screen."""
    screen = pilot.app.screen
    fields = [*screen.query(JsonEdit), *screen.query(MenuList), *screen.query(Input)]
    return [
        one.text if isinstance(one, JsonEdit) else one.typed if isinstance(one, MenuList) else one.value
        for one in fields
    ]


async def leave(pilot: Pilot[None]) -> None:
    """Go back to the main screen by its key; what is not saved is dropped."""
    for _ in range(6):
        screen = pilot.app.screen
        if isinstance(screen, MainScreen):
            return
        if isinstance(screen, DiffBaseScreen):
            await compared(pilot)
        elif isinstance(screen, OutputScreen):
            await until(pilot, lambda screen=screen: not screen.job.running)
        await pilot.press("y" if isinstance(screen, Confirm) and len(pilot.app.screen_stack) > 2 else "escape")
        await until(pilot, lambda screen=screen: pilot.app.screen is not screen)
    raise AssertionError(f"{pilot.app.screen} is not left")


def toasts(pilot: Pilot[None]) -> list[str]:
    return [str(one.message) for one in pilot.app._notifications]
