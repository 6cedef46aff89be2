"""The dashboard on an encrypted namespace that no key opens."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from dashboard_cases import at_screen, main, run_board, toasts
from dashboard_host import compared, screen_text, shown, until
from textual.pilot import Pilot

from stateview import StateManager
from stateview.dashboard.screens.diff import DiffScreen
from stateview.dashboard.screens.edit import EditScreen
from stateview.dashboard.screens.history import HistoryScreen
from stateview.dashboard.screens.main import MainScreen
from stateview.dashboard.widgets.value.json_editor import JsonEdit
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
        await shown(pilot, "Compare two states")
        await pilot.press("2", "enter", "enter")
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


@pytest.mark.parametrize("sealed", [True, False])
def test_an_unsaved_text_of_an_encrypted_namespace_is_kept_in_memory(
    sealed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = {name: tmp_path / name for name in ("disk", "memory")}
    for folder in folders.values():
        folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folders["disk"]))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folders["memory"]))
    key = UserKey.generate().printed() if sealed else None

    async def flow(pilot: Pilot[None]) -> None:
        await shown(pilot, "job")
        await pilot.press("e")
        await at_screen(pilot, EditScreen)
        screen = pilot.app.screen
        assert isinstance(screen, EditScreen)
        await until(pilot, lambda: screen._sealed is sealed)
        screen.query_one(JsonEdit).text = f'"{MARKER}"'
        await pilot.pause()
        assert "is in" in screen.keep_unsaved_text()
        for name, folder in folders.items():
            kept = [path.read_text() for path in folder.iterdir()]
            assert kept == ([f'"{MARKER}"'] if (name == "memory") is sealed else []), name
        screen.query_one(JsonEdit).text = screen._start
        await pilot.pause()

    with StateManager(f"sqlite:{tmp_path}/s", "work", encryption_key=key) as manager:
        manager.save("job", 1)
        run_board(manager, flow)


def test_a_namespace_that_another_process_encrypts_is_shown_as_sealed_once_it_is_reloaded(tmp_path: Path) -> None:
    url = f"json:{tmp_path}/s"
    with StateManager(url, "work") as state:
        for number in range(3):
            state.save("job", [number, MARKER], reason=MARKER)

    async def flow(pilot: Pilot[None]) -> None:
        await shown(pilot, "job", "1 unmistakable", MARKER)
        with StateManager(url, "work", encryption_key=UserKey.generate().printed()) as state:
            state.encryption.turn_on()
        await pilot.press("R")
        await shown(pilot, "there is no key", "3 (sealed)", "1 (sealed)")
        await until(pilot, lambda: MARKER not in screen_text(pilot.app))  # type: ignore[arg-type]
        assert not toasts(pilot)

    with StateManager(url, "work") as manager:
        run_board(manager, flow, (160, 40))
