"""Chords of `[keys]`, and the list of the keys that may come next."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from dashboard_cases import at_screen, board, main, run_board
from dashboard_host import line_with, lines, screen_text, shown, until, write
from textual.pilot import Pilot

from stateview import StateManager
from stateview.dashboard.app import Dashboard
from stateview.dashboard.dialogs.new_checkpoint import CheckpointDialog
from stateview.dashboard.input import keymap
from stateview.dashboard.screens.help import HelpScreen
from stateview.dashboard.screens.main import MainScreen
from stateview.dashboard.screens.overview import OverviewScreen
from stateview.dashboard.widgets.filter_bar import FilterBar
from stateview.dashboard.widgets.key_hint import KeyHint

GIVEN = {
    "main.overview": ("u o", "0"),
    "main.checkpoint": ("u c", "c"),
    "main.plot": ("u . p",),
    "app.help": ("ctrl+t ?",),
}


@pytest.fixture
def url(new_store: Callable[[str], str]) -> str:
    url = new_store("sqlite")
    write(url, "work", count=1, other=2)
    return url


def run_with_chords(url: str, flow: Callable[[Pilot[None]], object], size: tuple[int, int] = (100, 30)) -> None:
    async def ready(pilot: Pilot[None]) -> None:
        await until(pilot, lambda: board(pilot).news is not None and main(pilot)._shown is not None)
        await flow(pilot)  # type: ignore[misc]

    run_board(StateManager(url, "work"), ready, size, keys=keymap.check(GIVEN, "stateview.toml"))


def hinted(pilot: Pilot[None]) -> bool:
    return bool(pilot.app.screen.query(KeyHint))


def test_a_chord_is_read_from_the_settings() -> None:
    assert keymap.check(GIVEN, "stateview.toml") == {
        "main.overview": "u o,0",
        "main.checkpoint": "u c,c",
        "main.plot": "u full_stop p",
        "app.help": "ctrl+t question_mark",
    }
    clashes = keymap.clashes({"main.overview": "e o"})
    assert [str(one) for one in clashes] == ["the key e is both main.overview and main.edit: only one of them gets it"]


def test_what_may_follow_is_shown_until_the_chord_ends(url: str) -> None:
    async def flow(pilot: Pilot[None]) -> None:
        await pilot.press("u")
        await shown(
            pilot, "u … · esc closes", "o   Overview of all namespaces", "c   Checkpoint", ". p Chart of a number"
        )
        assert "? Help" not in line_with(board(pilot), "u …")
        assert lines(board(pilot))[-1].strip()  # the line of keys is not covered
        await pilot.press("full_stop")
        await shown(pilot, "u . … · esc closes", "p Chart of a number")
        await pilot.press("escape")
        await until(pilot, lambda: not hinted(pilot))
        assert "u …" not in screen_text(board(pilot))
        await pilot.press("u", "o")
        await at_screen(pilot, OverviewScreen)
        await pilot.press("escape")
        await at_screen(pilot, MainScreen)
        await pilot.press("u", *"c", *"named")  # what is typed next goes into the dialog
        await at_screen(pilot, CheckpointDialog)
        assert pilot.app.focused is not None and pilot.app.focused.value == "named"  # type: ignore[attr-defined]

    run_with_chords(url, flow)


def test_another_key_ends_the_chord_and_does_nothing(url: str) -> None:
    async def flow(pilot: Pilot[None]) -> None:
        await pilot.press("u", "j")
        await until(pilot, lambda: not hinted(pilot))
        assert main(pilot).keys.cursor == 0
        await pilot.press("j")
        assert main(pilot).keys.cursor == 1

    run_with_chords(url, flow)


def test_in_a_line_of_text_the_keys_are_text_and_help_names_the_chord(url: str) -> None:
    async def flow(pilot: Pilot[None]) -> None:
        await pilot.press("slash", *"ou")
        bar = main(pilot).query_one("#filter", FilterBar)
        assert bar.value == "ou" and not hinted(pilot)
        await pilot.press("escape", "ctrl+t", "question_mark")
        await at_screen(pilot, HelpScreen)
        await pilot.press("slash", *"main.overview", "enter")
        await shown(pilot, "u o, 0")

    run_with_chords(url, flow)


@pytest.mark.parametrize("size", [(80, 24), (60, 15), (160, 50)])
def test_the_keys_that_act_are_listed_and_the_next_one_acts(url: str, size: tuple[int, int]) -> None:
    async def flow(pilot: Pilot[None]) -> None:
        await until(pilot, lambda: board(pilot).news is not None and main(pilot)._shown is not None)
        await pilot.press("comma")
        await shown(pilot, "keys that work here · esc closes")
        assert ("? shows all" in screen_text(board(pilot))) == (size != (160, 50))
        assert "V     Take one commit" in screen_text(board(pilot))
        assert lines(board(pilot))[0].strip().startswith("work")  # the panes shrink
        await pilot.press("comma")
        await until(pilot, lambda: not hinted(pilot))
        await pilot.press("comma", "0")
        await at_screen(pilot, OverviewScreen)
        assert not main(pilot).query(KeyHint)
        await pilot.press("comma")
        await shown(pilot, "keys that work here", "s ", "Sort")
        await pilot.press("escape")
        await until(pilot, lambda: not hinted(pilot))
        assert isinstance(pilot.app, Dashboard) and isinstance(pilot.app.screen, OverviewScreen)

    run_board(StateManager(url, "work"), flow, size)
