"""A dashboard without its main screen, to put one screen on and look at what it paints."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from textual import events
from textual.pilot import Pilot
from textual.screen import Screen

from stateview import StateManager
from stateview.dashboard.app import Dashboard
from stateview.dashboard.screens.diff_base import DiffBaseScreen
from stateview.model import ABSENT


class Host(Dashboard):
    CSS_PATH = None

    def get_default_screen(self) -> Screen[None]:
        return Screen(id="_default")  # the main screen has tests of its own

    def on_ready(self, event: events.Ready) -> None:
        event.prevent_default()  # nobody watches: what others write is told by the test, or by nobody

    def told(self) -> list[str]:
        return [str(one.message) for one in self._notifications]


def lines(app: Dashboard) -> list[str]:
    return ["".join(segment.text for segment in strip) for strip in app.screen._compositor.render_strips()]


def screen_text(app: Dashboard) -> str:
    return "\n".join(lines(app))


def line_with(app: Dashboard, text: str) -> str:
    return next((line for line in lines(app) if text in line), "")


async def until(pilot: Pilot[None], condition: Callable[[], Any], seconds: float = 20) -> None:
    pause = 0.02
    while seconds > 0:
        if condition():
            return
        await pilot.pause(pause)
        seconds -= pause
        pause = min(pause * 1.25, 0.1)  # most conditions paint the screen anew, which takes as long as the first pauses
    raise AssertionError(f"it did not come to be; on the screen:\n{screen_text(pilot.app)}")  # type: ignore[arg-type]


async def shown(pilot: Pilot[None], *texts: str) -> None:
    def all_are() -> bool:
        screen = screen_text(pilot.app)  # type: ignore[arg-type]
        return all(text in screen for text in texts)

    await until(pilot, all_are)


async def compared(pilot: Pilot[None]) -> None:
    """Wait until the diff or preview on top is whole: its text is seen before that, and keys mean something else."""

    def over() -> bool:
        screen = pilot.app.screen
        return isinstance(screen, DiffBaseScreen) and screen.run.state != "running"

    await until(pilot, over)


async def answered(pilot: Pilot[None]) -> None:
    """Wait until all that was asked of the store has been answered."""
    reader = pilot.app.reader  # type: ignore[attr-defined]
    await until(pilot, lambda: not (reader._waiting or reader._running or reader._done))
    await pilot.pause()


def run(
    manager: StateManager, flow: Callable[[Pilot[None]], Any], size: tuple[int, int] = (120, 30), **options: Any
) -> None:
    """Run a flow on a dashboard of the manager; whatever it does must end within a minute."""

    async def go() -> None:
        app = Host(manager, **options)
        async with app.run_test(size=size) as pilot:
            await flow(pilot)

    asyncio.run(asyncio.wait_for(go(), 60))


def state_of(url: str, namespace: str = "work", at: str = "live") -> dict[str, Any]:
    with StateManager(url, namespace) as manager:
        return {entry.key: entry.value for entry in manager.at(at).entries() if entry.value is not ABSENT}


def write(url: str, namespace: str = "work", **values: Any) -> None:
    """As another process would."""
    with StateManager(url, namespace) as manager:
        for key, value in values.items():
            if value is ABSENT:
                manager.delete(key)
            else:
                manager.save(key, value)
