"""The line of keys, the list of keys and the help name what can act, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from dashboard_cases import board, main, run_board
from dashboard_host import lines, screen_text, shown
from textual.pilot import Pilot

from stateview import StateManager
from stateview.dashboard.display.redaction import SECRETS
from stateview.dashboard.input.keymap import actions
from stateview.dashboard.input.listed import NEEDS_TERMINAL, WRITES
from stateview.dashboard.screens.help import help_rows

# A new action is in no list. If it writes, it belongs to WRITES; else here.
READ_EVERYWHERE = "ask checkpoint command compare confirm done filter help list menu namespaces output overview search"
READ_EVERYWHERE += " text timeline value"
READS = {
    "app": "command done help interrupt keys look pause quit secrets",
    "conflict": "edit theirs",
    "diff": "added back changed copy filter keys next open previous removed split write",
    "edit": "error leave",
    "history": "back copy travel",
    "keys": "fold open sort stop tree",
    "main": "back border-down border-left border-right border-up copy diff diff-elsewhere failed-runs filter history"
    " json keys namespaces newer-checkpoint older-checkpoint open overview plot steps timeline what zoom",
}


def test_of_each_action_it_is_decided_whether_it_writes() -> None:
    reads = {f"{group}.{name}" for group, names in READS.items() for name in names.split()}
    undecided = {action.id for action in actions()} - reads - WRITES - NEEDS_TERMINAL
    assert {action for action in undecided if action.partition(".")[0] not in READ_EVERYWHERE.split()} == set()
    assert reads | WRITES | NEEDS_TERMINAL <= {action.id for action in actions()}


@pytest.fixture
def url(new_store: Callable[[str], str]) -> str:
    url = new_store("sqlite")
    with StateManager(url, "work") as state:
        state.save("phase", 1)
        state.checkpoint("first")
        state.save("phase", 2)
    return url


@pytest.mark.parametrize("read_only", [False, True])
def test_a_read_only_dashboard_lists_no_key_that_writes(url: str, read_only: bool) -> None:
    async def flow(pilot: Pilot[None]) -> None:
        app = board(pilot)
        await shown(pilot, "phase", "first")
        assert ("Edit" in lines(app)[-1]) != read_only
        assert ("Checkpoint" in lines(app)[-1]) != read_only and "Diff" in lines(app)[-1]
        listed = {row.id for row in help_rows(app.screen)}
        assert (not listed & WRITES) == read_only and {"main.diff", "main.copy", "app.secrets"} <= listed
        await pilot.press(",")
        await shown(pilot, "keys that work here", "Copy")
        assert ("Rename" in screen_text(app)) != read_only
        await pilot.press("escape")
        await pilot.press("?")
        await shown(pilot, "find a key")
        assert ("bring a key back" in screen_text(app)) != read_only

    run_board(StateManager(url, "work", read_only=read_only), flow, (160, 50), redact=(SECRETS,))


def test_the_keys_follow_a_switch_to_a_store_that_is_read_only(
    url: str, folder: Path, new_store: Callable[[str], str]
) -> None:
    other = new_store("sqlite")
    with StateManager(other, "work") as state:
        state.save("elsewhere", 1)
    (folder / "stateview.toml").write_text(f'[stores.kept]\nurl = "{other}"\nread_only = true\n')

    async def flow(pilot: Pilot[None]) -> None:
        await shown(pilot, "phase", "Edit")
        board(pilot).switch_to("kept", "work")
        await shown(pilot, "elsewhere", "read-only")
        await pilot.pause()
        assert main(pilot).dashboard.read_only and "Edit" not in lines(board(pilot))[-1]

    run_board(StateManager(url, "work"), flow, (160, 50))
