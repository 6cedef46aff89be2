"""A backend that answers late, or once not at all: what is done meanwhile is neither lost nor done to something else."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from dashboard_host import line_with, screen_text, shown, state_of, until, write
from textual.pilot import Pilot

from stateview import StateManager
from stateview.backends.sqlite import SQLiteBackend
from stateview.dashboard.app import Dashboard
from stateview.dashboard.screens.restore import RestoreScreen
from stateview.errors import BackendUnavailable

CALLS = ("commit", "commits", "count", "head", "namespaces", "read", "rows", "versions")


class Gate:
    """Stands before the backend: a call that is `hold`ed waits until it is `let_go`; one that is to `fail` fails."""

    def __init__(self) -> None:
        self._open: dict[str, threading.Event] = {}
        self._only: dict[str, str] = {}
        self.failures: Counter[str] = Counter()
        self.waiting: Counter[str] = Counter()

    def hold(self, *names: str, only: str = "") -> None:
        """Calls wait from now on; with `only`, those of that namespace."""
        for name in names:
            self._open[name] = threading.Event()
            self.waiting[name] = 0
            self._only[name] = only

    def let_go(self, *names: str) -> None:
        """What waits goes on, and nothing waits any more."""
        for name in names or list(self._open):
            self._open.pop(name).set()

    def fail(self, name: str, times: int = 1, only: str = "") -> None:
        """The next calls fail."""
        self.failures[name] = times
        self._only[name] = only

    def passed(self, name: str, namespace: str) -> None:
        if self._only.get(name) not in (None, "", namespace):
            return
        if (event := self._open.get(name)) is not None:
            self.waiting[name] += 1
            event.wait(60)
        if self.failures[name]:
            self.failures[name] -= 1
            raise BackendUnavailable("gone away")


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    gate = Gate()

    def guarded(name: str) -> Callable[..., Any]:
        method = getattr(SQLiteBackend, name)

        def call(self: SQLiteBackend, *args: Any, **options: Any) -> Any:
            gate.passed(name, self.namespace)
            return method(self, *args, **options)

        return call

    for name in CALLS:
        monkeypatch.setattr(SQLiteBackend, name, guarded(name))
    yield gate
    gate.let_go()


@pytest.fixture
def url(tmp_path: Path) -> str:
    url = f"sqlite:{tmp_path}/store"
    write(url, a1=1, a2=2, phase="p")
    return url


def run(url: str, flow: Callable[[Pilot[None], Dashboard], Any], size: tuple[int, int] = (160, 40)) -> None:
    """Run a flow on the whole dashboard, in which the keys are there; it must end within a minute."""

    async def go() -> None:
        app = Dashboard(StateManager(url, "work"), {"store": url, "namespace": "work"}, store=url)
        async with app.run_test(size=size, notifications=True) as pilot:
            await until(pilot, lambda: app.main is not None and app.main.keys.key and "LIVE ● r" in screen_text(app))
            await flow(pilot, app)

    asyncio.run(asyncio.wait_for(go(), 60))


def told(app: Dashboard) -> str:
    return "\n".join(str(one.message) for one in app._notifications)


def names(app: Dashboard) -> list[str]:
    return [type(screen).__name__ for screen in app.screen_stack]


async def typed(pilot: Pilot[None], text: str) -> None:
    await pilot.press(*("space" if sign == " " else sign for sign in text))


# --- a restore -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("conflict", [True, False])
def test_a_restore_that_is_refused_after_it_was_left_is_told(url: str, gate: Gate, conflict: bool) -> None:
    async def flow(pilot: Pilot[None], app: Dashboard) -> None:
        screen = RestoreScreen("1")
        app.push_screen(screen)
        await shown(pilot, "y restores")
        gate.hold("commit")
        await pilot.press("y")
        await until(pilot, lambda: gate.waiting["commit"])
        await pilot.press("escape")
        await until(pilot, lambda: names(app) == ["MainScreen"])
        if conflict:
            gate.passed = lambda *_: None  # type: ignore[method-assign]
            write(url, phase="another's")
        else:
            gate.fail("commit")
        gate.let_go("commit")
        await until(pilot, lambda: app.acts.done)
        await shown(pilot, "not restored:" if conflict else "gone away")
        await pilot.press("j")
        await until(pilot, lambda: app.main is not None and app.main.keys.key == "a2")

    run(url, flow)
