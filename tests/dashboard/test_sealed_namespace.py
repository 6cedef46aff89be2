"""The dashboard on an encrypted namespace that no key opens."""

from __future__ import annotations

from pathlib import Path

from dashboard_cases import at_screen, main, run_board, toasts
from dashboard_host import compared, screen_text, shown, until
from textual.pilot import Pilot

from stateview import StateManager
from stateview.dashboard.screens.diff import DiffScreen
from stateview.dashboard.screens.history import HistoryScreen
from stateview.dashboard.screens.main import MainScreen
from stateview.sealing.keys import UserKey

MARKER = "unmistakable"


def test_every_pane_names_what_is_there_and_says_that_it_is_sealed(tmp_path: Path) -> None:
    url, key = f"sqlite:{tmp_path}/s", UserKey.generate().printed()

    def write(number: int) -> None:
        with StateManager(url, "work", encryption_key=key, author=MARKER) as state:
            state.save("job", [number, MARKER], reason=MARKER)
            state.checkpoint(f"cp{number}", note=MARKER)

    write(1)
    write(2)

    async def flow(pilot: Pilot[None]) -> None:
        await shown(pilot, "job", "(sealed)", "there is no key", "2 (sealed)", "cp1  (sealed)", " B · r2 · ")
        write(3)
        await shown(pilot, " B · r3 · ")
        await pilot.press("H")
        await at_screen(pilot, HistoryScreen)
        await shown(pilot, "r3", "r2", "r1", "Change r3", "there is no key")
        await pilot.press("escape")
        await at_screen(pilot, MainScreen)
        await pilot.press("d")
        await shown(pilot, "Diff of live")
        await pilot.press("2", "enter")
        await at_screen(pilot, DiffScreen)
        await compared(pilot)
        await shown(pilot, "STATEVIEW_KEY", "key status")
        await pilot.press("escape")
        await at_screen(pilot, MainScreen)
        assert not toasts(pilot), "what the panes say is not said again"
        for act in ("e", "z"):
            pilot.app.clear_notifications()
            await pilot.press(act)
            await until(pilot, lambda: toasts(pilot))
            assert "STATEVIEW_KEY" in toasts(pilot)[-1], act
        await pilot.press("slash", *"jo")
        await shown(pilot, "job", "1/1")
        write(4)
        await shown(pilot, " B · r4 · ")
        assert main(pilot).keys.key == "job"
        assert MARKER not in screen_text(pilot.app)  # type: ignore[arg-type]

    with StateManager(url, "work") as manager:
        run_board(manager, flow, (160, 40))
        assert manager.revision == 4
