"""The command line of the dashboard, jobs, what they print, and the dialogs."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from dashboard_host import Host, answered, lines, screen_text, shown, state_of, until
from terminal import Terminal
from textual.containers import Vertical
from textual.pilot import Pilot

from stateview import StateManager
from stateview.cli.definition import COMMANDS, GROUPS
from stateview.cli.exit_codes import UsageError
from stateview.dashboard.actions import jobs
from stateview.dashboard.actions.command_line import Candidate, parse_line, pipe
from stateview.dashboard.dialogs.confirm import Confirm
from stateview.dashboard.dialogs.menu import Menu
from stateview.dashboard.dialogs.prompt import PromptDialog
from stateview.dashboard.screens.activity import DoneScreen
from stateview.dashboard.screens.command_prompt import Candidates, CommandScreen
from stateview.dashboard.screens.output import OutputScreen
from stateview.dashboard.screens.text_base import TextScreen
from stateview.dashboard.widgets.job_bar import JobBar
from stateview.dashboard.widgets.line_input import LineInput
from stateview.model import ABSENT

HOSTILE = "\x1b[31m[/red]\u202e\x9b2J\n[bold"


class Board(Host):
    """Remembers where it was told to go."""

    web = False

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        self.went: list[tuple[str | None, str | None]] = []

    def switch_to(self, store: str | None, namespace: str | None) -> None:
        self.went.append((store, namespace))

    @property
    def is_web(self) -> bool:
        return self.web


class WebBoard(Board):
    web = True


@pytest.fixture
def url(new_store: Callable[[str], str]) -> str:
    url = new_store("sqlite")
    with StateManager(url, "work", author="script") as state:
        for number in range(20):
            state.save(f"task:{number:02}", {"state": "done", "n": number})
        state.save("phase", "planning")
        state.checkpoint("planned", note="plan approved")
        state.save("phase", "building")
        state.save("tmp:1", HOSTILE)
    return url


Flow = Callable[[Pilot[None], Board], Any]


def run(url: str, flow: Flow, *, size: tuple[int, int] = (80, 24), kind: type[Board] = Board, **options: Any) -> None:
    """Run a flow on the store; the program must end by itself."""

    async def go() -> None:
        app = kind(StateManager(url, "work"), {"store": url, "namespace": "work"}, store=url, **options)
        async with app.run_test(size=size) as pilot:
            await flow(pilot, app)

    asyncio.run(asyncio.wait_for(go(), 60))


async def type_line(pilot: Pilot[None], app: Board, text: str) -> None:
    """Open the command line and type; a space at the end keeps the list from being taken."""
    app.action_command()
    await until(pilot, lambda: isinstance(app.screen, CommandScreen) and app.screen.is_mounted)
    app.screen.query_one(LineInput).value = text
    await pilot.pause()


async def enter_line(pilot: Pilot[None], app: Board, text: str) -> None:
    await type_line(pilot, app, text)
    await pilot.press("enter")
    await pilot.pause()


async def ended(pilot: Pilot[None], app: Board, count: int = 1) -> None:
    await until(pilot, lambda: len(app.acts.done) >= count and not app.acts.jobs.running)
    screen = app.screen
    if isinstance(screen, OutputScreen):
        await until(pilot, lambda: screen._ended)
    await pilot.pause()


def offered(app: Board) -> list[Candidate]:
    return [row for row in app.screen.query_one(Candidates).rows if isinstance(row, Candidate)]


def job_threads() -> list[threading.Thread]:
    return [one for one in threading.enumerate() if one.name.startswith(("job", "pipe"))]


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    deadline = time.monotonic() + 10
    while job_threads() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not job_threads()


# --- the palette and completion --------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(60, 15), (80, 24), (240, 70)])
def test_an_empty_line_lists_every_command_of_the_table_under_headings(url: str, size: tuple[int, int]) -> None:
    async def flow(pilot: Pilot[None], app: Board) -> None:
        await type_line(pilot, app, "")
        names = [one.text for one in offered(app)]
        assert {one.name for one in COMMANDS if not one.hidden} <= set(names)
        assert len(names) == len(set(names))
        rows = app.screen.query_one(Candidates).rows
        assert {row for row in rows if isinstance(row, str)} >= set(GROUPS)
        assert "Keys and values" in screen_text(app)
        assert lines(app)[-1].startswith(":")

    run(url, flow, size=size)


def test_a_word_finds_commands_by_name_then_by_help(url: str) -> None:
    async def flow(pilot: Pilot[None], app: Board) -> None:
        await type_line(pilot, app, "rest")
        assert offered(app)[0].text == "restore"
        app.screen.query_one(LineInput).value = "search"
        await pilot.pause()
        assert "find" in [one.text for one in offered(app)]

    run(url, flow)


def test_tab_completes_and_enter_takes_what_the_cursor_is_on(url: str) -> None:
    async def flow(pilot: Pilot[None], app: Board) -> None:
        await type_line(pilot, app, "load ")
        line = app.screen.query_one(LineInput)
        await until(pilot, lambda: len(offered(app)) == 3)
        assert [one.text for one in offered(app)] == ["phase", "task:", "tmp:1"]
        await pilot.press("t", "a")
        await until(pilot, lambda: [one.text for one in offered(app)] == ["task:"])
        await pilot.press("tab")
        assert line.value == "load task:"
        await until(pilot, lambda: len(offered(app)) == 20)
        await pilot.press("tab")
        assert line.value == "load task:"
        await pilot.press("down", "down", "up", "enter")
        assert line.value == "load task:01 "
        assert isinstance(app.screen, CommandScreen)

    run(url, flow)


def test_the_mouse_takes_a_candidate(url: str) -> None:
    async def flow(pilot: Pilot[None], app: Board) -> None:
        await type_line(pilot, app, "restore ")
        await until(pilot, lambda: len(offered(app)) == app.screen.query_one(Candidates).size.height == 2)
        await pilot.click(Candidates, offset=(3, 0))
        assert app.screen.query_one(LineInput).value == "restore planned "

    run(url, flow)


def test_a_key_that_cannot_be_typed_is_not_put_into_the_line(url: str) -> None:
    with StateManager(url, "work") as state:
        state.save("x\x1b[2J", 1)
        state.save("x y[/]", 1)

    async def flow(pilot: Pilot[None], app: Board) -> None:
        await type_line(pilot, app, "load x")
        await until(pilot, lambda: [one.text for one in offered(app)] == ['"x y[/]"'])
        await pilot.press("tab")
        assert app.screen.query_one(LineInput).value == 'load "x y[/]" '

    run(url, flow)


def test_what_is_pasted_becomes_one_inert_line(url: str) -> None:
    async def flow(pilot: Pilot[None], app: Board) -> None:
        from textual import events

        await type_line(pilot, app, "save k ")
        line = app.screen.query_one(LineInput)
        line.post_message(events.Paste('{"a":\n 1,\x1b[2J}'))
        await pilot.pause()
        assert line.value == 'save k {"a":  1,␛[2J}'

    run(url, flow)


def test_a_store_that_does_not_answer_is_said_beside_the_line(url: str) -> None:
    async def flow(pilot: Pilot[None], app: Board) -> None:
        await type_line(pilot, app, "load -s nowhere.toml ")
        await answered(pilot)
        assert isinstance(app.screen, CommandScreen)
        assert offered(app) == []

    run(url, flow)


# --- running ---------------------------------------------------------------------------------------------------------


def test_what_a_command_prints_is_shown_inert_with_its_line_as_title(url: str) -> None:
    async def flow(pilot: Pilot[None], app: Board) -> None:
        await enter_line(pilot, app, "load tmp:1 --format raw")
        await ended(pilot, app)
        assert isinstance(app.screen, OutputScreen)
        text = screen_text(app)
        assert text.startswith(" load tmp:1 --format raw")
        assert "␛[31m[/red]�" in text
        assert "[bold" in text
        assert not set(text) & {"\x1b", "\u202e", "\x9b"}
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(app.screen, OutputScreen))

    run(url, flow)


def test_an_act_is_told_in_a_notice_and_listed(url: str) -> None:
    async def flow(pilot: Pilot[None], app: Board) -> None:
        await enter_line(pilot, app, 'save phase {"a": [1, 2]}')
        await ended(pilot, app)
        assert not isinstance(app.screen, OutputScreen)
        assert 'saved phase = {"a":[1,2]}' in app.told()[-1]
        assert app.manager.load("phase") == {"a": [1, 2]}
        assert app.acts.done[-1].line == f'stateview -s {url} -n work save phase {{"a": [1, 2]}}'
        assert app.acts.was_made_here(app.manager.log(1)[0])
        assert not app.acts.was_made_here(app.manager.log(2)[1])

    run(url, flow)


def test_an_error_is_told_with_its_hint(url: str) -> None:
    async def flow(pilot: Pilot[None], app: Board) -> None:
        await enter_line(pilot, app, "load phas")
        await ended(pilot, app)
        assert "phas" in app.told()[-1]
        assert not app.acts.done[-1].succeeded

    run(url, flow)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("lood phase", "there is no command 'lood'"),
        ("load", "KEY is missing"),
        ('save k {"a" 1}', "not valid JSON"),
        ('save k {"a": 1', "the value is not complete"),
        ("begin", "transactions are for the shell"),
        ("dashboard", "it is open already"),
        ("serve", "its own terminal"),
        ("save k -", "standard input"),
        ("load phase |", "a command is missing after |"),
        ("theme nope", "there is no theme 'nope'"),
        ("shell", "there is no terminal here"),
    ],
)
def test_a_line_that_cannot_be_run_comes_back_with_the_reason(url: str, line: str, said: str) -> None:
    async def flow(pilot: Pilot[None], app: Board) -> None:
        await enter_line(pilot, app, line)
        await shown(pilot, said)
        assert isinstance(app.screen, CommandScreen)
        assert app.screen.query_one(LineInput).value == line
        assert app.acts.done == []

    run(url, flow, size=(100, 24))


def test_an_exit_code_that_is_not_zero_is_said(url: str) -> None:
    async def flow(pilot: Pilot[None], app: Board) -> None:
        await enter_line(pilot, app, "assert phase == planning")
        await ended(pilot, app)
        assert "exit code 1" in app.told()[-1] or "exit code 1" in screen_text(app)

    run(url, flow)


def test_up_and_down_go_through_the_lines_of_this_session(url: str) -> None:
    async def flow(pilot: Pilot[None], app: Board) -> None:
        await enter_line(pilot, app, "save a 1")
        await ended(pilot, app)
        await enter_line(pilot, app, "save b 2")
        await ended(pilot, app, 2)
        await type_line(pilot, app, "sa")
        line = app.screen.query_one(LineInput)
        seen = []
        for key in ("up", "up", "up", "down", "down"):
            await pilot.press(key)
            seen.append(line.value)
        assert seen == ["save b 2", "save a 1", "save a 1", "save b 2", "sa"]

    run(url, flow)


def test_use_and_connect_make_the_dashboard_go_there_and_exit_ends_it(url: str) -> None:
    async def flow(pilot: Pilot[None], app: Board) -> None:
        await enter_line(pilot, app, "use other")
        await enter_line(pilot, app, "connect prod")
        await until(pilot, lambda: app.went == [(None, "other"), ("prod", None)])
        await enter_line(pilot, app, "exit")
        await until(pilot, lambda: not app.is_running)

    run(url, flow)


def test_a_line_may_name_another_namespace_and_author(url: str) -> None:
    async def flow(pilot: Pilot[None], app: Board) -> None:
        await enter_line(pilot, app, "save k 1 -n other --author ann")
        await ended(pilot, app)
        with StateManager(url, "other") as other:
            assert other.load("k") == 1
            assert other.log(1)[0].author == "ann"
        assert "k" not in app.manager

    run(url, flow)


def test_read_only_holds_for_typed_lines(url: str) -> None:
    async def go() -> None:
        app = Board(StateManager(url, "work", read_only=True), {"store": url, "namespace": "work", "read_only": True})
        async with app.run_test() as pilot:
            for number, line in enumerate(("save k 1", "save k 1 -n other", "checkpoint x"), 1):
                await enter_line(pilot, app, line)
                await ended(pilot, app, number)
                assert not app.acts.done[-1].succeeded

    asyncio.run(go())
    with StateManager(url, "work") as state:
        assert "k" not in state
        assert state.namespaces() == ["work"]


# --- what asks -------------------------------------------------------------------------------------------------------


def test_restore_shows_what_would_change_and_asks(url: str) -> None:
    async def flow(pilot: Pilot[None], app: Board) -> None:
        await enter_line(pilot, app, "restore planned")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        await shown(pilot, "restore planned: 2 keys (1 removed, 1 changed)?")
        assert isinstance(app.screen_stack[-2], OutputScreen)
        assert any("tmp:1" in one for one in app.screen_stack[-2].job.output.lines)
        await pilot.press("enter")
        await pilot.pause(0.2)
        assert isinstance(app.screen, Confirm)
        assert app.manager.load("phase") == "building"
        await pilot.press("y")
        await ended(pilot, app)
        assert app.manager.load("phase") == "planning"
        await shown(pilot, "restored planned")

    run(url, flow)


@pytest.mark.parametrize("key", ["n", "escape"])
def test_no_is_no(url: str, key: str) -> None:
    async def flow(pilot: Pilot[None], app: Board) -> None:
        await enter_line(pilot, app, "delete task:*")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        await shown(pilot, "20")
        await pilot.press(key)
        await ended(pilot, app)
        assert len(app.manager.list_keys("task:")) == 20
        assert app.told()[-1] == "not done; nothing was changed"

    run(url, flow)


def test_the_mouse_answers_a_question(url: str) -> None:
    async def flow(pilot: Pilot[None], app: Board) -> None:
        await enter_line(pilot, app, "delete task:*")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        await shown(pilot, "y  yes")
        await pilot.click("#yes")
        await ended(pilot, app)
        assert app.manager.list_keys("task:") == []

    run(url, flow, size=(60, 15))


def test_drop_asks_for_the_name(url: str) -> None:
    async def flow(pilot: Pilot[None], app: Board) -> None:
        for number, typed in enumerate(("y", "work"), 1):
            await enter_line(pilot, app, "drop")
            await until(pilot, lambda: isinstance(app.screen, PromptDialog))
            await shown(pilot, "Type work to go ahead")
            await pilot.press(*typed, "enter")
            await ended(pilot, app, number)
            assert app.acts.done[-1].succeeded == (typed == "work")
            assert ("work" in app.manager.namespaces()) == (typed != "work")
            await pilot.press("escape")  # the output says what would go
        assert app.acts.done[-1].outcome.startswith("removed namespace 'work'")

    run(url, flow)


def test_a_job_that_is_stopped_while_it_asks_does_nothing(url: str) -> None:
    async def flow(pilot: Pilot[None], app: Board) -> None:
        await enter_line(pilot, app, "delete task:*")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        assert app.acts.jobs.stop()
        await ended(pilot, app)
        await until(pilot, lambda: not isinstance(app.screen, Confirm))
        assert len(app.manager.list_keys("task:")) == 20
        assert app.acts.done[-1].outcome.startswith("stopped")

    run(url, flow)


def test_with_yes_nothing_is_asked(url: str) -> None:
    async def flow(pilot: Pilot[None], app: Board) -> None:
        await enter_line(pilot, app, "delete task:* --yes")
        await ended(pilot, app)
        assert app.manager.list_keys("task:") == []

    run(url, flow)


# --- jobs ------------------------------------------------------------------------------------------------------------


def test_watch_streams_until_it_is_stopped(url: str) -> None:
    async def flow(pilot: Pilot[None], app: Board) -> None:
        await enter_line(pilot, app, "watch")
        await until(pilot, lambda: isinstance(app.screen, OutputScreen))
        with StateManager(url, "work") as other:
            # Saved again and again: a first save may come before the watch does.
            turns = count()
            await until(
                pilot,
                lambda: other.save("phase", f"[/]testing {next(turns)}") and "[/]testing" in screen_text(app),
            )
        assert "running" in lines(app)[-2]
        await pilot.press("escape")
        await ended(pilot, app)
        assert isinstance(app.screen, OutputScreen)
        assert "stopped" in lines(app)[-2]
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(app.screen, OutputScreen))

    run(url, flow)


def test_wait_is_stopped_while_it_waits(url: str) -> None:
    async def flow(pilot: Pilot[None], app: Board) -> None:
        await enter_line(pilot, app, "wait phase == never --timeout 60")
        await until(pilot, lambda: app.acts.jobs.running)
        app.acts.jobs.stop()
        await ended(pilot, app)
        assert app.acts.done[-1].outcome.startswith("stopped")

    run(url, flow)


def test_a_search_says_how_far_it_is_and_is_stopped_between_keys(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stateview.cli.commands.search._KEYS_PER_REPORT", 1)
    original, rest = jobs.Job.report, threading.Event()

    def report(job: jobs.Job, text: str) -> None:
        original(job, text)
        while not text.startswith(("0 ", "1 ", "2 ")) and not job.should_stop:  # far from its end, however slow we are
            rest.wait(0.02)

    monkeypatch.setattr(jobs.Job, "report", report)

    class Barred(Board):
        def compose(self) -> Iterator[Any]:
            with Vertical():
                yield JobBar()

    async def flow(pilot: Pilot[None], app: Board) -> None:
        assert not app.query_one(JobBar).display
        await enter_line(pilot, app, "find nothing-like-it")
        await until(pilot, lambda: isinstance(app.screen, OutputScreen))
        await shown(pilot, "of 22 keys searched")
        await pilot.press("b")
        await until(pilot, lambda: not isinstance(app.screen, OutputScreen))
        await shown(pilot, "find nothing-like-it · ", "esc stops")
        await pilot.click(JobBar)
        await until(pilot, lambda: isinstance(app.screen, OutputScreen))
        await pilot.press("b")
        await until(pilot, lambda: not isinstance(app.screen, OutputScreen))
        assert app.acts.jobs.stop()
        await ended(pilot, app)
        assert app.acts.done[-1].outcome.startswith("stopped")
        assert "stopped" in app.told()[-1]
        assert "esc stops" not in screen_text(app)

    run(url, flow, kind=Barred)


def test_a_job_that_ends_in_the_background_is_told_and_its_output_can_be_looked_at(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    monkeypatch.setattr(jobs.Job, "report", lambda job, text: go_on.wait(60))
    monkeypatch.setattr("stateview.cli.commands.search._KEYS_PER_REPORT", 5)

    async def flow(pilot: Pilot[None], app: Board) -> None:
        await enter_line(pilot, app, "find done")
        await until(pilot, lambda: isinstance(app.screen, OutputScreen))
        await pilot.press("b")
        go_on.set()
        await ended(pilot, app)
        assert "21 lines printed" in app.told()[-1]
        app.action_done()
        await shown(pilot, "✓ find done")
        await pilot.press("enter")
        await shown(pilot, "/state", "21 lines")

    run(url, flow)


def test_a_list_of_what_was_done_stops_what_runs_and_copies_a_line(url: str) -> None:
    async def flow(pilot: Pilot[None], app: Board) -> None:
        app.action_done()
        await shown(pilot, "nothing was done yet")
        await pilot.press("escape")
        await enter_line(pilot, app, f"save 'k[/]' {'x' * 300}")
        await ended(pilot, app)
        await enter_line(pilot, app, "watch")
        await until(pilot, lambda: isinstance(app.screen, OutputScreen))
        await pilot.press("b")
        app.action_done()
        await shown(pilot, "… watch", "✓ save", "x stops it")
        await pilot.press("x")
        await ended(pilot, app, 2)
        await shown(pilot, "■ watch")
        await pilot.press("j", "y")
        assert app.clipboard == f"stateview -s {url} -n work save 'k[/]' {'x' * 300}"
        assert "z undoes" in screen_text(app)

    run(url, flow, size=(60, 15))


@pytest.mark.parametrize("line", ["watch", "wait phase == never --timeout 60", "delete task:*", "!sleep 60"])
def test_quitting_waits_for_no_job_and_answers_no(url: str, line: str) -> None:
    async def go() -> float:
        app = Board(StateManager(url, "work"), {"store": url, "namespace": "work"})
        async with app.run_test() as pilot:
            await enter_line(pilot, app, line)
            await until(pilot, lambda: app.acts.jobs.running)
            await pilot.pause(0.5)
            started = time.monotonic()
            app.exit()
        return time.monotonic() - started

    assert asyncio.run(go()) < 30  # not when the 60 s are over; to take an app down takes a while itself
    with StateManager(url, "work") as state:
        assert len(state.list_keys("task:")) == 20


def test_a_long_act_ends_in_a_report(url: str, new_store: Callable[[str], str]) -> None:
    other = new_store("json")

    async def flow(pilot: Pilot[None], app: Board) -> None:
        job = app.acts.start(["migrate", url, other])
        assert app.acts.jobs.running == [job]
        await ended(pilot, app)
        assert "copied 22 keys and 1 checkpoint" in app.told()[-1]
        got: list[Any] = []
        app.acts.start(["load", "nothing"], failed=got.append)
        await ended(pilot, app, 2)
        app.acts.start(["find", "building"], then=got.append)
        await ended(pilot, app, 3)
        assert [type(one).__name__ for one in got] == ["KeyNotFound", "Table"]
        assert list(got[1].rows) == [("phase", "", "building")]

    run(url, flow)
    with StateManager(other, "work") as state:
        assert state.load("phase") == "building"


def test_a_migration_that_is_stopped_is_gone_on_with(
    url: str, new_store: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = new_store("sqlite")
    reached, go_on = threading.Event(), threading.Event()

    import stateview.transfer.staged_copy as module

    original = module.StagedCopy._put

    def put(*given: Any, **more: Any) -> None:
        original(*given, **more)
        if not reached.is_set():
            reached.set()
            go_on.wait(60)

    monkeypatch.setattr(module.StagedCopy, "_put", put)

    async def flow(pilot: Pilot[None], app: Board) -> None:
        job = app.acts.start(["migrate", url, other])
        await until(pilot, reached.is_set)
        app.acts.jobs.stop(job)
        go_on.set()
        await ended(pilot, app)
        assert job.stopped
        assert app.acts.done[-1].outcome.startswith("stopped")

    run(url, flow)
    with StateManager(other, "work") as state:
        assert state.namespaces() == []
    with StateManager(url, "work") as state:
        assert state.migrate_to(other).resumed


# --- output ----------------------------------------------------------------------------------------------------------


def test_output_is_bounded_and_says_so(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "MAX_LINES", 7)
    monkeypatch.setattr(jobs, "LINE_CHARACTERS", 50)
    with StateManager(url, "work") as state:
        state.save("long", "x" * 100_000)

    async def flow(pilot: Pilot[None], app: Board) -> None:
        await enter_line(pilot, app, "keys")
        await ended(pilot, app)
        await shown(pilot, "7 lines kept, further ones dropped")
        assert len(app.screen.job.output.lines) == 7
        await pilot.press("escape")
        await enter_line(pilot, app, "load long --format json")
        await ended(pilot, app, 2)
        assert app.screen.job.output.lines == ['"' + "x" * 49 + "…"]

    run(url, flow)


def test_output_is_searched_copied_and_saved(url: str, tmp_path: Path) -> None:
    async def flow(pilot: Pilot[None], app: Board) -> None:
        await enter_line(pilot, app, "keys")
        await ended(pilot, app)
        screen = app.screen
        assert isinstance(screen, TextScreen)
        await pilot.press("slash", *"TASK")
        await shown(pilot, "no line contains 'TASK'")
        await pilot.press("ctrl+u", *"task:1", "enter", "n")
        assert screen.list.lines[screen.list.cursor] == "task:11"
        await pilot.press("N", "y")
        assert app.clipboard == "task:10"
        await pilot.press("Y")
        assert app.clipboard.split("\n")[:2] == ["phase", "task:00"]
        await pilot.press("S")
        await until(pilot, lambda: isinstance(app.screen, PromptDialog))
        app.screen.query_one(LineInput).value = str(tmp_path)
        await pilot.pause()
        await shown(pilot, "this file exists already")
        app.screen.query_one(LineInput).value = str(tmp_path / "out.txt")
        await pilot.press("enter")
        await until(pilot, (tmp_path / "out.txt").exists)
        await until(pilot, lambda: "saved 22 lines" in app.told()[-1])

    run(url, flow)
    assert (tmp_path / "out.txt").read_text().split("\n")[-2] == "tmp:1"


def test_a_long_line_is_seen_sideways(url: str) -> None:
    async def flow(pilot: Pilot[None], app: Board) -> None:
        await enter_line(pilot, app, f"save k {'x' * 500}END")
        await ended(pilot, app)
        await enter_line(pilot, app, "load k --format json")
        await ended(pilot, app, 2)
        assert "END" not in screen_text(app)
        for _ in range(20):
            await pilot.press("l")
        assert "END" in screen_text(app)
        await pilot.press(*["h"] * 20)
        assert lines(app)[1].startswith('▌"xxx')

    run(url, flow)


def test_redirects_and_pipes(url: str, tmp_path: Path) -> None:
    async def flow(pilot: Pilot[None], app: Board) -> None:
        file = tmp_path / "keys.txt"
        await enter_line(pilot, app, f"keys 'task:*' > {file}")
        await ended(pilot, app)
        assert file.read_text().split("\n")[:2] == ["task:00", "task:01"]
        await enter_line(pilot, app, f"load phase >> {file}")
        await ended(pilot, app, 2)
        assert file.read_text().endswith('task:19\n"building"\n')
        await enter_line(pilot, app, "keys | grep 07; echo é")
        await ended(pilot, app, 3)
        assert app.screen.job.output.lines == ["task:07", "é"]
        await pilot.press("escape")
        await enter_line(pilot, app, "!echo out; echo err >&2; exit 3")
        await ended(pilot, app, 4)
        assert app.screen.job.output.lines == ["out", "err"]
        await shown(pilot, "ended with 3", "exit code 3")
        await pilot.press("escape")
        await enter_line(pilot, app, f"keys > {tmp_path}/no/such")
        await ended(pilot, app, 5)
        assert "No such file" in app.told()[-1]

    run(url, flow)


def test_a_pipe_that_is_stopped_is_killed(url: str) -> None:
    async def flow(pilot: Pilot[None], app: Board) -> None:
        started = time.monotonic()
        await enter_line(pilot, app, "keys | sleep 60")
        await until(pilot, lambda: isinstance(app.screen, OutputScreen))
        await pilot.press("escape")
        await ended(pilot, app)
        assert time.monotonic() - started < 40  # not when the 60 s are over
        assert app.acts.done[-1].outcome.startswith("stopped")

    run(url, flow)


def test_a_pipe_that_reads_nothing_is_no_error() -> None:
    job = jobs.Job("x", lambda: True)
    pipe("true", iter(["x" * 100_000] * 50), job)
    assert job.output.lines == []


@pytest.mark.parametrize(
    "line",
    ["keys | cat", "keys > out.txt", "!id", "save k @/etc/passwd", "edit phase", "load x --default @/etc/passwd"],
)
def test_in_a_browser_nothing_of_the_server_is_reached(url: str, line: str, folder: Path) -> None:
    async def flow(pilot: Pilot[None], app: Board) -> None:
        await enter_line(pilot, app, line)
        await shown(pilot, "browser")
        assert app.acts.done == []
        assert app.acts.jobs.running == []

    run(url, flow, kind=WebBoard)
    assert list(folder.iterdir()) == []


def test_a_string_that_begins_with_an_at_is_a_string_in_a_browser_too() -> None:
    assert parse_line("save k --string @name", []).arguments["value"] == "@name"
    with pytest.raises(UsageError):
        parse_line("save k @name", [])


def test_a_value_that_is_redacted_is_saved_and_not_told(url: str) -> None:
    async def flow(pilot: Pilot[None], app: Board) -> None:
        for number, line in enumerate(('save api_token "secret1"', 'save conf {"a":{"Token":"secret2"}}'), 1):
            await enter_line(pilot, app, line)
            await ended(pilot, app, number)
            assert not any(
                "secret" in one for one in [app.acts.done[-1].line, app.acts.done[-1].outcome, *app.acts.typed]
            )
            assert not any("secret" in text for text in app.told())
            await pilot.press("escape")
        assert app.acts.done[-1].line == f"stateview -s {url} -n work save conf '••••••'"
        assert "revision" in app.acts.done[-1].outcome
        await enter_line(pilot, app, 'save plain "seen"')
        await ended(pilot, app, 3)
        assert "seen" in app.acts.done[-1].line + app.acts.done[-1].outcome

    run(url, flow, redact=("*token*",))
    found = state_of(url)
    assert [found[key] for key in ("api_token", "conf", "plain")] == ["secret1", {"a": {"Token": "secret2"}}, "seen"]


def test_what_is_redacted_is_in_no_notice_export_search_or_list_of_acts(url: str) -> None:
    with StateManager(url, "work") as state:
        state.save("api_token", "secret1")
        state.save("conf", {"name": "x", "token": "secret2", "long": "y" * 100})

    async def flow(pilot: Pilot[None], app: Board) -> None:
        lines = (
            "assert api_token == zzz", "wait api_token == zzz --timeout 0.1", "assert conf /token == zzz",
            "assert conf == zzz", "export -", "export - --as json | cat", "find secret", "find secret --keys 'conf'",
        )  # fmt: skip
        for number, line in enumerate(lines, 1):
            await enter_line(pilot, app, line)
            await ended(pilot, app, number)
            told = app.acts.done[-1].outcome + "".join(app.told()) + screen_text(app)
            assert "secret" not in told.replace(line, ""), (line, told)
            if line.startswith(("assert", "wait")):
                assert "the value is ••••••" in told
            if line.startswith("export"):
                assert "Give a file" in told
            await pilot.press("escape")
        app.acts.run(["save", "--json", "other", '{"token":"secret3"}'])
        await until(pilot, lambda: len(app.acts.done) > len(lines))
        assert "secret" not in app.acts.done[-1].line + app.acts.done[-1].outcome + "".join(app.told())
        assert app.manager.load("other") == {"token": "secret3"}

    run(url, flow, redact=("*token*",))


def test_what_is_redacted_is_masked_in_what_commands_print(url: str) -> None:
    with StateManager(url, "work") as state:
        state.save("api_token", "secret1")
        state.save("conf", {"name": "x", "token": "secret2"})
        state.save("api_token", "secret3")

    async def flow(pilot: Pilot[None], app: Board) -> None:
        printing = (
            "load api_token", "load conf", "load conf /token", "entry api_token", "history api_token",
            "diff 22 --keys '*'", "find token", "log", "load conf | cat", "find --jsonpath '$.token' --keys conf",
        )  # fmt: skip
        for number, line in enumerate(printing, 1):
            await enter_line(pilot, app, line)
            await ended(pilot, app, number)
            assert isinstance(app.screen, OutputScreen)
            text = "\n".join(app.screen.job.output.lines)
            assert text, line
            assert "secret" not in text.replace("find secret", ""), line
            if line not in ("log",):
                assert "•••" in text, line
            await pilot.press("escape")
            await pilot.pause()

    run(url, flow, redact=("*token*",))


# --- dialogs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(60, 15), (160, 50)])
def test_a_question_is_inert_fits_and_says_its_command(url: str, size: tuple[int, int]) -> None:
    async def flow(pilot: Pilot[None], app: Board) -> None:
        answers: list[bool | None] = []
        question = [HOSTILE * 30, *(f"line {n}" for n in range(50))]
        app.push_screen(Confirm(question, "stateview delete " + HOSTILE, title="[/]" + HOSTILE), answers.append)
        await shown(pilot, "stateview delete ", "[/red]", "y  yes", "n  no")
        assert not set(screen_text(app)) & {"\x1b", "\u202e", "\x9b"}
        await pilot.press("tab", "tab", "enter", "space")
        assert answers == []
        await pilot.press("y")
        assert answers == [True]
        app.push_screen(Confirm(["open it?"], destructive=False), answers.append)
        await shown(pilot, "open it?")
        await pilot.press("enter")
        assert answers == [True, True]

    run(url, flow, size=size)


@pytest.mark.parametrize("size", [(60, 15), (160, 50)])
def test_a_menu_is_chosen_from_by_filter_cursor_and_mouse(url: str, size: tuple[int, int]) -> None:
    async def flow(pilot: Pilot[None], app: Board) -> None:
        got: list[Any] = []
        looked: list[int] = []
        choices = [(f"copy {HOSTILE if n == 3 else ''}{n}", n, f"hint {n}") for n in range(40)]

        async def menu() -> None:
            app.push_screen(Menu("[/] copy", choices, looked=looked.append), got.append)
            await shown(pilot, "copy 0", "type to filter")

        await menu()
        assert "␛[31m[/red]" in screen_text(app)
        await pilot.press(*"39", "enter")  # digits filter too
        await menu()
        await pilot.press(*"y 17")
        await shown(pilot, "/y 17")
        await pilot.press("enter")
        await menu()
        await pilot.press("down", "down", "up", "enter")
        await menu()
        await pilot.press(*"zzz")
        await shown(pilot, "no row matches")
        await pilot.press("enter", "backspace", "backspace", "backspace", "escape")
        await menu()
        await pilot.double_click("MenuList", offset=(4, 5))
        assert got == [39, 17, 1, None, 5]
        assert {39, 1} <= set(looked)

    run(url, flow, size=size)


def test_a_menu_puts_what_a_label_begins_with_before_what_it_holds_and_that_before_a_hint(url: str) -> None:
    async def flow(pilot: Pilot[None], app: Board) -> None:
        got: list[Any] = []
        choices = [("first", 1, "of the plan"), ("replan", 2, ""), ("Plan", 3, ""), ("other", 4, "")]
        app.push_screen(Menu("State", choices), got.append)
        await shown(pilot, "first")
        await pilot.press(*"plan")
        assert app.screen.query_one("MenuList").shown == [2, 1, 0]  # type: ignore[attr-defined]
        await pilot.press("enter")
        assert got == [3]

    run(url, flow)


@pytest.mark.parametrize("size", [(60, 15), (160, 50)])
def test_a_line_is_checked_as_it_is_typed(url: str, size: tuple[int, int]) -> None:
    async def flow(pilot: Pilot[None], app: Board) -> None:
        got: list[str | None] = []

        def check(text: str) -> str | None:
            return None if text.startswith("a") else f"{HOSTILE} no: {text}"

        ask = PromptDialog("Rename [/]", "x[/]", check, lambda text: f"stateview rename k {text}")
        app.push_screen(ask, got.append)
        await shown(pilot, "[/red]", "no: x[/]")
        await pilot.press("enter")
        assert got == []
        await pilot.press("home", "a")
        await shown(pilot, "stateview rename k ax[/]")
        assert "no: " not in screen_text(app)
        await pilot.press("enter")
        app.push_screen(PromptDialog("t"), got.append)
        await shown(pilot, "esc cancels")
        await pilot.press("escape")
        assert got == ["ax[/]", None]

    run(url, flow, size=size)


def test_themes_are_tried_as_the_cursor_moves_and_left_as_they_were_on_esc(url: str) -> None:
    async def flow(pilot: Pilot[None], app: Board) -> None:
        before = app.theme
        await enter_line(pilot, app, "theme")
        await shown(pilot, "stateview-light")
        await pilot.press(*"dracula")
        await until(pilot, lambda: app.theme == "dracula")
        await pilot.press("escape")
        await pilot.pause()
        assert app.theme == before
        await enter_line(pilot, app, "theme nord")
        assert app.theme == "nord"

    run(url, flow)


def test_done_is_a_word_of_the_line_too(url: str) -> None:
    async def flow(pilot: Pilot[None], app: Board) -> None:
        await enter_line(pilot, app, "done")
        await until(pilot, lambda: isinstance(app.screen, DoneScreen))

    run(url, flow)


def test_a_value_that_is_absent_stays_so_when_masked() -> None:
    from stateview.dashboard.display.result_redaction import _changes
    from stateview.states.changes import Change

    masked = list(
        _changes([Change("a_token", "added", ABSENT, "s"), Change("a_token", "removed", "s", ABSENT)], ("*token*",))
    )
    assert [(one.before is ABSENT, one.after is ABSENT) for one in masked] == [(True, False), (False, True)]


# --- the real program ------------------------------------------------------------------------------------------------


def test_edit_gets_the_terminal_and_gives_it_back(url: str, folder: Path) -> None:
    editor = folder / "editor.sh"
    editor.write_text('#!/bin/sh\necho "THE EDITOR IS HERE"\nread answer\necho "\\"$answer\\"" > "$1"\n')
    editor.chmod(0o700)
    program = Terminal("-s", url, "-n", "work", "dashboard", EDITOR=str(editor), VISUAL="")
    program.until("phase")
    program.type(":")
    program.until("a command, as in the shell")
    program.type("edit phase\r")
    program.until("THE EDITOR IS HERE")
    program.type("testing\r")
    program.until(lambda text: "phase" in text and "task:00" in text)
    program.type("@")
    program.until("✓ edit phase")
    program.type("q")
    program.until("task:00")
    program.type("q")
    assert program.end() == 0
    with StateManager(url, "work") as state:
        assert state.load("phase") == "testing"


def test_a_command_that_fails_in_the_terminal_is_read_before_coming_back(url: str, folder: Path) -> None:
    program = Terminal("-s", url, "-n", "work", "dashboard", EDITOR="false", VISUAL="")
    program.until("phase")
    program.type(":")
    program.until("a command, as in the shell")
    program.type("edit phase\r")
    program.until("press enter to go back")
    assert "nothing was saved" in program.text
    program.type("\r")
    program.until("task:00")
    program.type("q")
    assert program.end() == 0


def test_the_real_program_ends_at_once_while_a_job_runs(url: str, folder: Path) -> None:
    program = Terminal("-s", url, "-n", "work", "dashboard")
    program.until("phase")
    program.type(":")
    program.until("a command, as in the shell")
    program.type("watch\r")
    program.until("running")
    program.type("b")
    program.until("esc stops")
    program.type("\x1b")
    program.until(lambda text: "esc stops" not in text)
    program.type(":")
    program.until("a command, as in the shell")
    program.type("watch\r")
    program.until("running")
    program.type("\x03")
    assert program.end() == 0
