"""A backend that answers late, or fails once: what is done meanwhile is not lost, nor done to something else."""

from __future__ import annotations

import asyncio
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from dashboard_host import answered, screen_text, shown, state_of, until, write
from textual import events
from textual.pilot import Pilot
from textual.screen import Screen

from stateview import StateManager
from stateview.backends.sqlite.backend import SQLiteBackend
from stateview.dashboard.app import Dashboard
from stateview.dashboard.dialogs.confirm import Confirm
from stateview.dashboard.dialogs.menu import Menu
from stateview.dashboard.screens.command_prompt import Candidates
from stateview.dashboard.screens.edit import EditScreen
from stateview.dashboard.screens.history import HistoryScreen, Versions
from stateview.dashboard.screens.previews.restore import RestoreScreen
from stateview.dashboard.widgets.line_input import LineInput
from stateview.dashboard.widgets.namespace_list import Namespaces
from stateview.errors import BackendUnavailable

CALLS = ("changed_keys", "commit", "commits", "count", "head", "namespaces", "read", "list_keys", "scan", "versions")


class Gate:
    """Stands before the backend: a call that is `hold`ed waits until it is `let_go`; one that is to `fail` fails."""

    def __init__(self) -> None:
        self._open: dict[str, threading.Event] = {}
        self._only: dict[str, str] = {}
        self.failures: Counter[str] = Counter()
        self.waiting: Counter[str] = Counter()
        self.ended: Counter[str] = Counter()

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
            try:
                return method(self, *args, **options)
            finally:
                gate.ended[name] += 1

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


# --- dialogs that go before they are there ---------------------------------------------------------------------------


@pytest.mark.parametrize("dialog", [lambda: Confirm(["Sure?"]), lambda: Menu("Choose", [("one", 1, "")])])
def test_a_dialog_may_go_as_soon_as_it_is_pushed(url: str, dialog: Callable[[], Screen[Any]]) -> None:
    async def flow(pilot: Pilot[None], app: Dashboard) -> None:
        for _ in range(20):
            app.push_screen(dialog())
            app.pop_screen()
            await pilot.pause()
        await pilot.press("j")
        await until(pilot, lambda: app.main is not None and app.main.keys.key == "a2")

    run(url, flow)


@pytest.mark.parametrize("dialog", [Confirm(["Sure?"]), Menu("Choose", [("one", 1, "")])], ids=["confirm", "menu"])
def test_a_dialog_that_has_no_parts_yet_is_resized(url: str, dialog: Any) -> None:
    async def flow(_pilot: Pilot[None], _app: Dashboard) -> None:
        dialog.on_resize()
        getattr(dialog, "on_mount", int)()

    run(url, flow)


def test_a_key_is_handled_after_the_last_screen_has_gone(url: str) -> None:
    async def flow(_pilot: Pilot[None], app: Dashboard) -> None:
        key = events.Key("j", "j")
        app._typeahead._key = key
        app._typeahead._acted = True
        screens = app._screen_stack[:]
        app._screen_stack.clear()
        app._typeahead.handled(key)
        app._typeahead.sent(key)
        app._screen_stack.extend(screens)

    run(url, flow)


# --- saving ----------------------------------------------------------------------------------------------------------


async def saving(
    pilot: Pilot[None], app: Dashboard, gate: Gate, meanwhile: Callable[[], None] = lambda: None
) -> EditScreen:
    """A value that is being saved: the commit waits. `meanwhile` is done once it has been read."""
    await pilot.press("e")
    await shown(pilot, "Edit a1")
    await typed(pilot, "5")
    meanwhile()
    gate.hold("commit")
    await pilot.press("ctrl+s")
    await until(pilot, lambda: gate.waiting["commit"])
    assert isinstance(app.screen, EditScreen)
    return app.screen


def test_what_is_typed_while_it_saves_is_kept_and_can_be_saved(url: str, gate: Gate) -> None:
    async def flow(pilot: Pilot[None], app: Dashboard) -> None:
        screen = await saving(pilot, app, gate)
        await typed(pilot, "77")
        gate.let_go("commit")
        await shown(pilot, "saved the text of ctrl+s; later changes are not saved yet", "--expected 4")
        assert app.screen is screen and screen.text == "5771" and screen.unsaved
        assert state_of(url)["a1"] == 51
        await pilot.press("ctrl+s")
        await until(pilot, lambda: names(app) == ["MainScreen"])
        assert state_of(url)["a1"] == 5771

    run(url, flow)


def test_a_new_key_that_is_typed_on_while_it_saves_is_based_on_what_was_saved(url: str, gate: Gate) -> None:
    async def flow(pilot: Pilot[None], app: Dashboard) -> None:
        await pilot.press("a")
        await shown(pilot, "New key")
        await typed(pilot, "mine")
        await pilot.press("enter")
        await typed(pilot, "1")
        gate.hold("commit")
        await pilot.press("ctrl+s")
        await until(pilot, lambda: gate.waiting["commit"])
        await typed(pilot, "2")
        gate.let_go("commit")
        await shown(pilot, "later changes are not saved yet")
        await pilot.press("backspace")
        screen = app.screen
        assert isinstance(screen, EditScreen) and not screen.unsaved
        await typed(pilot, "3")
        await pilot.press("ctrl+s")
        await until(pilot, lambda: names(app) == ["MainScreen"])
        assert state_of(url)["mine"] == 13

    run(url, flow)


def test_what_is_typed_while_another_turns_out_to_be_first_is_kept(url: str, gate: Gate) -> None:
    async def flow(pilot: Pilot[None], app: Dashboard) -> None:
        await saving(pilot, app, gate, lambda: write(url, a1="theirs"))
        await typed(pilot, "77")
        gate.let_go("commit")
        await shown(pilot, "another process was first")
        await pilot.press("m")
        await shown(pilot, "later changes are not saved yet")
        assert state_of(url)["a1"] == 51
        assert isinstance(app.screen, EditScreen) and app.screen.text == "5771"

    run(url, flow)


def test_the_question_whether_to_leave_goes_with_the_save_that_answers_it(url: str, gate: Gate) -> None:
    async def flow(pilot: Pilot[None], app: Dashboard) -> None:
        await saving(pilot, app, gate)
        await pilot.press("ctrl+c")
        await shown(pilot, "Your text is not saved.")
        gate.let_go("commit")
        await until(pilot, lambda: names(app) == ["MainScreen"] and "saved a1 · r4" in told(app))
        assert app.is_running

    run(url, flow)


def test_a_save_that_ends_under_another_screen_leaves_that_one(url: str, gate: Gate) -> None:
    async def flow(pilot: Pilot[None], app: Dashboard) -> None:
        await saving(pilot, app, gate)
        app.action_help()
        await until(pilot, lambda: "HelpScreen" in names(app))
        gate.let_go("commit")
        await until(pilot, lambda: "saved a1" in told(app))
        assert names(app) == ["MainScreen", "EditScreen", "HelpScreen"]
        await pilot.press("escape")
        await until(pilot, lambda: names(app) == ["MainScreen"])

    run(url, flow)


def test_a_race_is_shown_once_the_question_above_has_its_answer(url: str, gate: Gate) -> None:
    async def flow(pilot: Pilot[None], app: Dashboard) -> None:
        await saving(pilot, app, gate, lambda: write(url, a1="theirs"))
        await pilot.press("ctrl+c")
        await shown(pilot, "Your text is not saved.")
        gate.let_go("commit")
        await until(pilot, lambda: isinstance(app.screen_stack[1], EditScreen) and app.screen_stack[1]._when_on_top)
        assert names(app)[2:] == ["Confirm"]
        await pilot.press("n")
        await shown(pilot, "another process was first")
        await pilot.press("t")
        await until(pilot, lambda: names(app) == ["MainScreen"])
        assert state_of(url)["a1"] == "theirs"

    run(url, flow)


# --- the versions of a key -------------------------------------------------------------------------------------------


def test_the_history_stays_on_its_version_while_others_write_the_key(url: str) -> None:
    with StateManager(url, "work") as manager:
        for number in range(60):
            manager.save("a1", number)

    async def flow(pilot: Pilot[None], app: Dashboard) -> None:
        await pilot.press("H")
        await until(pilot, lambda: isinstance(app.screen, HistoryScreen) and app.screen.query_one(Versions).lines)
        versions = app.screen.query_one(Versions)
        for _ in range(35):
            await pilot.press("j")
        await until(pilot, lambda: len(versions.lines) > 40)
        revision = versions.at
        assert versions.cursor == 35
        write(url, a1="x")
        await until(pilot, lambda: versions.lines[0].revision == 64)
        assert versions.at == revision and versions.cursor == 36
        await pilot.press("r")
        await shown(pilot, f"Restore  {revision} → live")

    run(url, flow, (160, 30))


def test_before_the_versions_are_read_it_is_said_that_none_can_be_restored_yet(url: str, gate: Gate) -> None:
    async def flow(pilot: Pilot[None], app: Dashboard) -> None:
        gate.hold("versions")
        await pilot.press("H")
        await until(pilot, lambda: gate.waiting["versions"])
        await pilot.press("r")
        await until(pilot, lambda: "still reading" in told(app))

    run(url, flow)


# --- the command line ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("more", "becomes"), [(" ph", "load phase "), (" zz", "load zz")])
def test_tab_waits_for_the_candidates_of_what_is_typed(url: str, gate: Gate, more: str, becomes: str) -> None:
    async def flow(pilot: Pilot[None], app: Dashboard) -> None:
        await pilot.press("colon")
        await typed(pilot, "load")
        await shown(pilot, "load KEY")
        gate.hold("scan")
        await typed(pilot, more)
        await pilot.press("tab")
        await shown(pilot, f"load{more}", "reading the candidates")
        gate.let_go("scan")
        await until(pilot, lambda: "reading the candidates" not in screen_text(app))
        assert app.screen.query_one(LineInput).value == becomes

    run(url, flow)


def test_a_candidate_of_the_text_before_is_not_taken(url: str, gate: Gate) -> None:
    async def flow(pilot: Pilot[None], app: Dashboard) -> None:
        await pilot.press("colon")
        await typed(pilot, "load ")
        await shown(pilot, "phase")
        await pilot.press("tab")
        await until(pilot, lambda: app.screen.query_one(Candidates).chosen)
        gate.hold("scan")
        await typed(pilot, "zz")
        await pilot.press("down")
        assert app.screen.query_one(LineInput).value == "load zz"
        assert app.screen.query_one(Candidates).chosen is None
        await pilot.press("enter")
        await until(pilot, lambda: names(app)[1:] == [])

    run(url, flow)


# --- the timeline ----------------------------------------------------------------------------------------------------


def test_a_log_that_comes_late_is_not_that_of_the_namespace_gone_to(url: str, gate: Gate) -> None:
    async def flow(pilot: Pilot[None], app: Dashboard) -> None:
        assert app.main is not None
        timeline = app.main.timeline
        await until(pilot, lambda: len(timeline._rows) == 4 and timeline._whole)
        gate.hold("commits", only="work")
        write(url, a1=2)
        await until(pilot, lambda: gate.waiting["commits"])
        gate.hold("head", only="empty")
        app.switch_to(None, "empty")
        await until(pilot, lambda: gate.waiting["head"])
        gate.let_go("head")
        await shown(pilot, "live  nothing was saved yet")
        gate.ended.clear()
        gate.let_go("commits")
        await until(pilot, lambda: gate.ended["commits"])
        for _ in range(3):
            app.action_reload()
            await pilot.pause(0.1)
        assert [line.ref for line in timeline._rows] == ["live"]

    run(url, flow)


def test_nothing_is_said_to_be_saved_only_once_that_has_been_read(url: str, gate: Gate) -> None:
    async def flow(pilot: Pilot[None], app: Dashboard) -> None:
        assert app.main is not None
        app.main.timeline.show(app.manager)
        await shown(pilot, "live  ⋯")
        assert "nothing was saved yet" not in screen_text(app)

    run(url, flow)


# --- the watcher -----------------------------------------------------------------------------------------------------


def test_a_change_that_could_not_be_read_is_reported_by_the_next_check(url: str, gate: Gate) -> None:
    async def flow(pilot: Pilot[None], app: Dashboard) -> None:
        gate.fail("changed_keys")
        write(url, a1=9)
        await until(pilot, lambda: app.lost is not None)
        app.action_reload()
        await until(pilot, lambda: app.lost is None and app.news is not None and app.news.changed == ["a1"])

    run(url, flow)


# --- the list of keys ------------------------------------------------------------------------------------------------


@pytest.fixture
def many(url: str) -> str:
    with StateManager(url, "work") as manager, manager.transaction() as several:
        for number in range(9000):
            several.save(f"k{number:04}", number)
    return url


def test_a_search_that_failed_once_says_so_and_goes_on(many: str, gate: Gate) -> None:
    async def flow(pilot: Pilot[None], app: Dashboard) -> None:
        assert app.main is not None
        keys = app.main.keys
        gate.fail("read", 1_000_000)
        await pilot.press("slash")
        await typed(pilot, "=8999")
        await until(pilot, lambda: "reading failed, retrying soon" in keys.status and keys.source.text == "=8999")
        gate.failures.clear()
        await until(pilot, lambda: keys.key == "k8999" and keys.status == "1/1")

    run(many, flow)


def test_the_last_key_of_a_past_state_is_gone_to_once_it_is_known_how_many_there_are(many: str, gate: Gate) -> None:
    with StateManager(many, "work") as manager:
        manager.checkpoint("before")
        manager.save("a1", 3)

    async def flow(pilot: Pilot[None], app: Dashboard) -> None:
        assert app.main is not None
        keys = app.main.keys
        await answered(pilot)  # a count of the live state would be held too, and the past state would wait for it
        gate.hold("count")
        app.show_state("before")
        await until(pilot, lambda: gate.waiting["count"] and keys.total is None and keys.key == "a1")
        await pilot.press("G")
        await until(pilot, lambda: "counting keys to find the last" in keys.status)
        gate.let_go("count")
        await until(pilot, lambda: keys.key == "phase" and keys.status == "9,003/9,003")

    run(many, flow)


# --- namespaces ------------------------------------------------------------------------------------------------------


def test_a_count_of_keys_that_failed_once_is_read_again(url: str, gate: Gate) -> None:
    write(url, "other", a1=1)
    gate.fail("head", 1000, only="other")  # until the screen has shown it

    async def flow(pilot: Pilot[None], app: Dashboard) -> None:
        await until(pilot, lambda: re.search(r"│ +other +!│", screen_text(app)))
        gate.failures.clear()
        await pilot.press("R")
        await until(pilot, lambda: re.search(r"│ +other +1│", screen_text(app)))

    run(url, flow)


def test_a_store_that_is_folded_stays_folded(url: str, gate: Gate) -> None:
    write(url, "other", a1=1)

    async def flow(pilot: Pilot[None], app: Dashboard) -> None:
        assert app.main is not None
        namespaces = app.main.query_one(Namespaces)
        await shown(pilot, "other")
        gate.hold("namespaces")
        await pilot.press("R")
        await until(pilot, lambda: gate.waiting["namespaces"])
        await pilot.press("1", "g", "enter")
        await until(pilot, lambda: not namespaces.is_open(app.store))
        gate.let_go("namespaces")
        write(url, b1=1)
        await shown(pilot, "save b1")
        await pilot.press("j")
        assert not namespaces.is_open(app.store)
        await pilot.press("enter")
        await shown(pilot, "other")

    run(url, flow)
