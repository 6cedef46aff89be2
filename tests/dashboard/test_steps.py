"""Runs in the list of namespaces, and the pane of the steps: at every state, live, and what is done again."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from dashboard_cases import at_screen, board, main, obeyed, run_board, toasts
from dashboard_host import line_with, screen_text, shown, until, write
from textual.pilot import Pilot

from stateview import StateManager
from stateview.dashboard.data.step_text import outcome, outcome_lines
from stateview.dashboard.dialogs.confirm import Confirm
from stateview.dashboard.display.run_row import bar, format_seconds, without_run
from stateview.dashboard.screens.command_prompt import CommandScreen
from stateview.dashboard.screens.help import HelpScreen
from stateview.dashboard.widgets import namespace_list
from stateview.dashboard.widgets.line_input import LineInput
from stateview.workflow import control

SIZES = [(80, 24), (100, 30), (160, 50)]


def publish(_rows: int) -> None:
    raise ConnectionError("the server answered 503 \x1b[31m[/]")


def fail(url: str, namespace: str = "work", name: str = "nightly") -> None:
    with StateManager(url, namespace) as state, pytest.raises(ConnectionError), state.run(name) as run:
        run.step("fetch", lambda: {"rows": 12, "token": "s3cret"})
        list(run.each("send", ["a", "b"]))
        run.step("publish", publish, 12, retries=1, backoff=0.0)


@contextmanager
def going_on(url: str, namespace: str = "work", name: str = "long") -> Iterator[None]:
    """A run of another thread, in the middle of a step."""
    begun, stop = threading.Event(), threading.Event()

    def wait() -> str:
        begun.set()
        stop.wait(60)
        return "waited"

    def work() -> None:
        with StateManager(url, namespace) as state, state.run(name) as run:
            run.step("first", int)
            run.step("wait", wait)

    thread = threading.Thread(target=work)
    thread.start()
    begun.wait(30)
    try:
        yield
    finally:
        stop.set()
        thread.join()


@pytest.fixture
def url(new_store: Callable[[str], str]) -> str:
    url = new_store("sqlite")
    write(url, phase="planning")
    return url


def row(pilot: Pilot[None], text: str) -> str:
    """The row of the side column with a text, without its frame."""
    return next((one for line in screen_text(board(pilot)).split("\n") if text in (one := line[1:44])), "")


async def at_steps(pilot: Pilot[None]) -> None:
    await until(pilot, lambda: main(pilot).has_class("has-runs") and main(pilot).keys.key is not None)
    await pilot.press("5")
    await until(pilot, lambda: main(pilot).steps.has_focus and main(pilot).steps.size.height)


def steps(pilot: Pilot[None]) -> list[tuple[str, str]]:
    progress = main(pilot).steps.progress
    return [(one.name, one.state) for one in progress.steps] if progress is not None else []


def lasts(pilot: Pilot[None]) -> str:
    """How long the step `wait` has been running, as its row says."""
    found = re.search(r"● wait +█+ +([\d.]+ m?s)", row(pilot, "● wait"))
    return found[1] if found else ""


# --- the list of namespaces ------------------------------------------------------------------------------------------


def test_namespaces_show_their_run(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(namespace_list, "POLL_SECONDS", 0.1)
    write(store_url, "plain", a=1)
    fail(store_url)
    fail(store_url, "a-very-long-name-of-a-namespace-here")
    with StateManager(store_url, "finished") as state, state.run("r"):
        pass

    async def flow(pilot: Pilot[None]) -> None:
        with going_on(store_url, "busy"):
            await until(pilot, lambda: re.search(r"busy +● running (now|\d+ s)", row(pilot, "busy")))
            await until(pilot, lambda: re.search(r"finished +✓ done (now|\d+ s) +1", row(pilot, "finished")))
            await until(pilot, lambda: re.search(r"work +✗ failed at publish", row(pilot, "● work")))
            await until(pilot, lambda: re.search(r"a-very-[a-z-]+… ✗ +\d", row(pilot, "a-very")))  # the sign alone
            await until(pilot, lambda: re.search(r"plain +1", row(pilot, "plain")))
        await until(pilot, lambda: "✓ done" in row(pilot, "busy"))  # nobody tells of commits to other namespaces
        with StateManager(store_url, "work") as state, state.run("nightly"):
            await until(pilot, lambda: "● running" in row(pilot, "● work"))

    run_board(StateManager(store_url, "work"), flow, (120, 40), store=store_url)


# --- the pane of the steps -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_steps_are_shown_with_what_came_of_them(url: str, size: tuple[int, int]) -> None:
    fail(url)

    async def flow(pilot: Pilot[None]) -> None:
        if size[0] < 120:
            await shown(pilot, "· 5 Steps")  # where it is hidden
        await at_steps(pilot)
        await shown(pilot, "5 Steps · nightly", "2/3 done", "✗ publish", "×2", "ConnectionError", "503")
        assert re.search(r"✓ send +\(2\) ", row(pilot, "✓ send")) and steps(pilot)[2] == ("publish", "failed")
        assert "4 Timeline" in screen_text(board(pilot)) and "● live" in screen_text(board(pilot))
        await pilot.press("g")
        await shown(pilot, '→ {"rows":12,"token":"••••••"}', "✓ fetch")
        assert re.search(r"✓ fetch +[▏▎▍▌▋▊▉█]+ +[\d.]+ m?s", row(pilot, "✓ fetch"))
        assert not obeyed(pilot) and "A Retry" in screen_text(board(pilot))
        await pilot.press("enter")
        await until(pilot, lambda: main(pilot).keys.has_focus and main(pilot).keys.key == "run/nightly/fetch")

    run_board(StateManager(url, "work"), flow, size, redact=("token",))


@pytest.mark.stress
def test_a_low_narrow_screen_has_room_for_steps(url: str) -> None:
    fail(url)

    async def flow(pilot: Pilot[None]) -> None:
        await at_steps(pilot)
        await shown(pilot, "✓ fetch", "✗ publish", "4 Timeline")
        assert "ConnectionError" not in screen_text(board(pilot))

    run_board(StateManager(url, "work"), flow, (60, 15))


@pytest.mark.stress
def test_steps_are_those_of_the_state_under_the_cursor_of_the_timeline(store_url: str) -> None:
    write(store_url, phase="planning")
    fail(store_url)

    async def flow(pilot: Pilot[None]) -> None:
        await at_steps(pilot)
        await until(pilot, lambda: len(steps(pilot)) == 3)
        board(pilot).show_state("nightly.fetch")
        await until(pilot, lambda: steps(pilot) == [("fetch", "done")])
        await shown(pilot, "● running", "1/1 done")
        await pilot.press("A")
        await until(pilot, lambda: any("retry changes live" in one for one in toasts(pilot)))
        board(pilot).show_state("1")
        await shown(pilot, "no run at this state")
        board(pilot).show_state(None)
        await until(pilot, lambda: len(steps(pilot)) == 3)

    run_board(StateManager(store_url, "work"), flow)


@pytest.mark.stress
def test_a_step_is_retried_or_reset_after_a_question_and_undo_takes_it_back(store_url: str) -> None:
    write(store_url, phase="planning")
    fail(store_url)

    async def flow(pilot: Pilot[None]) -> None:
        await at_steps(pilot)
        await until(pilot, lambda: len(steps(pilot)) == 3)
        await pilot.press("g", "j", "B")
        await at_screen(pilot, Confirm)
        await shown(pilot, "do 2 steps again?", "stateview run reset --run nightly send")
        await pilot.press("enter", "n")  # Enter is not yes
        await until(pilot, lambda: not isinstance(pilot.app.screen, Confirm))
        await pilot.press("B", "y")
        await until(pilot, lambda: steps(pilot) == [("fetch", "done")])
        said = "2 steps of run nightly will be done again: send, publish · z undoes it"
        await until(pilot, lambda: said in toasts(pilot))
        assert board(pilot).acts.done[-1].line == "stateview run reset --run nightly send"
        await pilot.press("z")
        await until(pilot, lambda: len(steps(pilot)) == 3)
        await pilot.press("g", "A", "y")
        await until(pilot, lambda: steps(pilot) and steps(pilot)[0] == ("fetch", "waiting"))
        await until(pilot, lambda: row(pilot, "○ fetch"))
        with StateManager(store_url, "work") as state:
            assert [one.state for one in control.steps(state, "nightly")] == ["waiting", "done", "failed"]
            with state.run("nightly"):
                await pilot.press("A", "y")
                await until(pilot, lambda: any("is held by" in one for one in toasts(pilot)))

    run_board(StateManager(store_url, "work"), flow)


def test_a_run_without_a_step_is_read_again(url: str) -> None:
    fail(url)

    async def flow(pilot: Pilot[None]) -> None:
        await at_steps(pilot)
        with StateManager(url, "work") as state:
            control.reset(state, "nightly", "fetch")
            await until(pilot, lambda: steps(pilot) == [])
            await pilot.press("A")
            await until(pilot, lambda: "the cursor is on no step" in toasts(pilot))
            state.undo()
        await until(pilot, lambda: len(steps(pilot)) == 3)

    run_board(StateManager(url, "work"), flow)


def test_the_command_prompt_offers_retry_and_reset_of_the_step_under_the_cursor(url: str) -> None:
    with StateManager(url, "work") as state, state.run("a b") as run:
        run.step("fetch", int)
        run.step("two words", int)

    async def take(pilot: Pilot[None], word: str) -> str:
        await pilot.press("colon")
        await at_screen(pilot, CommandScreen)
        await pilot.press(*word, "tab")
        return pilot.app.screen.query_one(LineInput).value

    async def flow(pilot: Pilot[None]) -> None:
        await at_steps(pilot)
        await pilot.press("G")
        assert await take(pilot, "retry") == 'run retry --run "a b" "two words" '
        await pilot.press("enter")
        await until(pilot, lambda: steps(pilot) == [("fetch", "done"), ("two words", "waiting")])
        await pilot.press("g")
        assert await take(pilot, "reset") == 'run reset --run "a b" fetch '
        await pilot.press("enter")
        await until(pilot, lambda: steps(pilot) == [])
        await pilot.press("z", "z")
        await until(pilot, lambda: steps(pilot) == [("fetch", "done"), ("two words", "done")])
        await pilot.press("2")
        assert await take(pilot, "reset") == "run reset "  # no step is selected

    run_board(StateManager(url, "work"), flow)


@pytest.mark.stress
def test_a_run_is_followed_while_it_goes_on(url: str) -> None:
    async def flow(pilot: Pilot[None]) -> None:
        await until(pilot, lambda: main(pilot).keys.key is not None)
        assert not main(pilot).has_class("has-runs")
        with going_on(url):
            await until(pilot, lambda: steps(pilot) == [("first", "done"), ("wait", "running")])
            # The cursor goes along, and the row is painted, after the answer has come
            await until(pilot, lambda: (step := main(pilot).steps.step) is not None and step.name == "wait")
            await until(pilot, lambda: lasts(pilot))
            seen = lasts(pilot)
            await until(pilot, lambda: lasts(pilot) not in ("", seen))
        await until(pilot, lambda: steps(pilot)[1] == ("wait", "done"))
        await shown(pilot, "✓ wait", '→ "waited"')

    run_board(StateManager(url, "work"), flow)


@pytest.mark.stress
def test_other_runs_are_below_and_enter_shows_one(url: str) -> None:
    fail(url)
    with StateManager(url, "work") as state, state.run("weekly") as run:
        run.step("report \x1b[2J", int)

    async def flow(pilot: Pilot[None]) -> None:
        await at_steps(pilot)
        await shown(pilot, "5 Steps · weekly", "▸ nightly", "✗ failed at publish")
        await pilot.press("G", "B")
        await until(pilot, lambda: "the cursor is on no step" in toasts(pilot))
        await pilot.press("enter")
        await shown(pilot, "5 Steps · nightly", "▸ weekly", "✗ publish")
        assert not obeyed(pilot)

    run_board(StateManager(url, "work"), flow)


@pytest.mark.stress
def test_without_a_run_there_is_no_pane_and_help_has_its_keys(url: str) -> None:
    fail(url, "ran")

    async def flow(pilot: Pilot[None]) -> None:
        await until(pilot, lambda: main(pilot).keys.key is not None)
        await pilot.press("5")
        await until(pilot, lambda: any("has no run" in one for one in toasts(pilot)))
        assert "Steps" not in line_with(board(pilot), "2 Keys") and not main(pilot).steps.size.height
        board(pilot).switch_to(None, "ran")
        await at_steps(pilot)
        await pilot.press("question_mark")
        await at_screen(pilot, HelpScreen)
        rows: Any = list(pilot.app.screen.list.lines)  # type: ignore[attr-defined]
        (reset,) = [index for index, one in enumerate(rows) if one.split()[:1] == ["B"]]
        assert "steps.reset" in rows[reset] and rows[reset + 1].split()[:4] == ["stateview", "run", "reset", "STEP"]
        await pilot.press("escape")
        board(pilot).switch_to(None, "work")
        await until(pilot, lambda: not main(pilot).has_class("has-runs"))
        await until(pilot, lambda: main(pilot).keys.has_focus)

    run_board(StateManager(url, "work"), flow, (80, 24), store=url)


@pytest.mark.stress
def test_what_is_done_again_is_refused_where_nothing_may_be_written(url: str) -> None:
    fail(url)

    async def flow(pilot: Pilot[None]) -> None:
        await at_steps(pilot)
        await pilot.press("B")
        await until(pilot, lambda: "read-only: reset would write" in toasts(pilot))

    run_board(StateManager(url, "work", read_only=True), flow)


# --- texts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 ms"), (0.0354, "35 ms"), (0.9999, "1000 ms"), (1.254, "1.25 s"), (12.54, "12.5 s"), (59.96, "1m00s"),
     (125, "2m05s"), (3599.6, "1h00m"), (11_260, "3h07m"), (90_000, "1d01h"), (86_400 * 99, "99d00h")],
)  # fmt: skip
def test_durations_are_short(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text and len(text) <= 7


def test_bars_are_in_proportion() -> None:
    assert [bar(part, 8, 4) for part in (0, 0.001, 1, 4, 8, 9)] == ["    ", "▏   ", "▌   ", "██  ", "████", "████"]
    assert bar(1, 0, 2) == "▏ "


def test_the_text_of_a_step_is_bounded() -> None:
    own, place = (f'  File "{path}", line 3, in go\n    x()\n' for path in ("/s/stateview/workflow/step.py", "/b/a.py"))
    error = {"type": "ValueError", "message": "bad", "trace": f"Traceback\n{own}{place}ValueError: bad"}
    text, trace = outcome("run/r/s", {"error": error}, ())
    assert outcome_lines(text, trace, "failed", 40, 3) == ["ValueError: bad", "at a.py:3 in go", "failed"]
    assert outcome_lines(text, trace, "failed", 40, 2) == ["ValueError: bad", "at a.py:3 in go"]
    assert outcome_lines("x" * 90, [], "done", 40, 2) == ["x" * 40, "x" * 39 + "…"]
    assert outcome("run/r/s", {"error": error}, ("run/*",)) == ("••••••", [])
    assert outcome("run/r/s", {"reason": "no rows"}, ())[0] == "skipped: no rows"


def test_a_narrow_timeline_leaves_out_the_run_that_its_rows_have_in_common() -> None:
    assert without_run("run nightly: send C-1065 done") == "send C-1065 done"
    assert without_run("run nightly begins") == "run nightly begins" and without_run("save a: b") == "save a: b"
