"""Acts are done in their order, on what the person saw when asking: not on what came, or was gone to, meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import redis
from conftest import REDIS
from dashboard_host import screen_text, shown, until, write
from test_main_screen import board, look, main
from textual.pilot import Pilot

from stateview import StateManager
from stateview.backends.sqlite.backend import SQLiteBackend
from stateview.dashboard.dialogs.confirm import Confirm
from stateview.dashboard.widgets.timeline import Timeline
from stateview.errors import Damaged, run


@pytest.fixture
def url(new_store: Callable[[str], str]) -> str:
    url = new_store("sqlite")
    with StateManager(url, "other") as state:
        state.save("a1", "other's")
    with StateManager(url, "work", author="script") as state:
        for key in ("a1", "a2", "b"):
            state.save(key, 1)
        state.checkpoint("before")
        state.save("b", 2)
    return url


def keys(url: str, namespace: str = "work") -> list[str]:
    with StateManager(url, namespace) as state:
        return state.list_keys()


def held(monkeypatch: pytest.MonkeyPatch, name: str) -> threading.Event:
    """Make a call of the backend wait for an event, which is returned."""
    real, released = getattr(SQLiteBackend, name), threading.Event()

    def late(self: SQLiteBackend, *given: Any, **more: Any) -> Any:
        released.wait(60)
        return real(self, *given, **more)

    monkeypatch.setattr(SQLiteBackend, name, late)
    return released


async def read(pilot: Pilot[None]) -> None:
    """Wait until the keys, the value and the news have come."""
    await until(pilot, lambda: main(pilot).keys.key and main(pilot)._shown and board(pilot).news)


def test_a_dialog_is_about_the_namespace_in_which_it_was_opened(url: str) -> None:
    async def flow(pilot: Pilot[None]) -> None:
        await read(pilot)
        await pilot.press("space", "space", "X")
        await shown(pilot, "Delete 2 keys of work?")
        board(pilot).switch_to(None, "other")
        await until(pilot, lambda: board(pilot)._next_target is not None)
        await pilot.press("y")
        await until(pilot, lambda: board(pilot).manager.namespace == "other")
        await until(pilot, lambda: keys(url) == ["b"])

    look(StateManager(url, "work"), flow)
    assert keys(url, "other") == ["a1"]


def test_an_answer_that_comes_when_one_types_elsewhere_opens_nothing(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def flow(pilot: Pilot[None]) -> None:
        await read(pilot)
        released = held(monkeypatch, "get")
        await pilot.press("X", "slash", "y")
        released.set()
        await shown(pilot, "delete was canceled")
        assert len(pilot.app.screen_stack) == 1

    look(StateManager(url, "work"), flow)
    assert keys(url) == ["a1", "a2", "b"]


def test_a_list_of_namespaces_that_comes_late_opens_nothing(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def flow(pilot: Pilot[None]) -> None:
        await read(pilot)
        released = held(monkeypatch, "namespaces")
        await pilot.press("D", "slash", "1")
        released.set()
        await shown(pilot, "diff was canceled")
        assert len(pilot.app.screen_stack) == 1

    look(StateManager(url, "work"), flow)


def test_many_keys_are_deleted_only_as_they_were_seen(url: str) -> None:
    async def flow(pilot: Pilot[None]) -> None:
        await read(pilot)
        await pilot.press("space", "space", "X")
        await shown(pilot, "Delete 2 keys of work?", "--previewed 4")
        write(url, "work", a2="precious")
        await pilot.press("y")
        await shown(pilot, "'a2' was written since revision 4")

    look(StateManager(url, "work"), flow)
    assert keys(url) == ["a1", "a2", "b"]


def test_paused_is_one_revision_and_acts_are_for_it(url: str) -> None:
    async def flow(pilot: Pilot[None]) -> None:
        await read(pilot)
        await pilot.press("p")
        await shown(pilot, "PAUSED at r4")
        write(url, "work", a1="unseen", new=1)
        await shown(pilot, "2 commits behind")
        await pilot.press("R", "slash", "a", "enter", "escape")
        await until(pilot, lambda: main(pilot).keys.total == 3)
        assert "unseen" not in screen_text(board(pilot))
        await pilot.press("g", "X")
        await shown(pilot, "a1 was written at r5, after the pause")
        await pilot.press("c")
        await shown(pilot, "Checkpoint of 4")
        await pilot.press(*"held", "enter")
        await shown(pilot, "checkpoint held is revision 4")
        assert board(pilot).paused  # a name is no commit
        await pilot.press("j", "T")
        await shown(pilot, "Expiry of a2")
        await pilot.press(*"2h", "enter")
        await shown(pilot, "LIVE ● r7", "unseen")

    look(StateManager(url, "work"), flow)


def test_a_checkpoint_is_of_the_line_of_the_timeline_that_the_cursor_has_just_come_to(url: str) -> None:
    async def flow(pilot: Pilot[None]) -> None:
        await read(pilot)
        await until(pilot, lambda: pilot.app.screen.query_one(Timeline).count > 4)
        await pilot.press("4", "j", "j", "j", "c")
        await shown(pilot, "Checkpoint of 3")

    look(StateManager(url, "work"), flow)


def test_acts_are_done_in_their_order_and_no_undo_is_lost(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    manager = StateManager(url, "work")

    async def flow(pilot: Pilot[None]) -> None:
        await read(pilot)
        acts = board(pilot).acts
        released = held(monkeypatch, "commit")
        acts.run(["checkpoint", "safe"])
        acts.run(["save", "a1", "5"])
        acts.run(["save", "a1", "6"])
        released.set()
        await until(pilot, lambda: [one.line.split()[-1] for one in acts.done] == ["safe", "5", "6"])
        await pilot.press("z", "z")
        await until(pilot, lambda: len(acts.done) == 5)
        assert manager.load("a1") == 1

    look(manager, flow)


def test_a_namespace_that_is_not_what_it_was_is_told(url: str) -> None:
    async def flow(pilot: Pilot[None]) -> None:
        await read(pilot)
        with StateManager(url, "work") as state:
            state.backend.drop()
        await shown(pilot, "work is gone, it had r4 with 3 keys: it was dropped, or its store", "NOT CREATED YET")

    look(StateManager(url, "work"), flow)


def test_commits_that_a_server_lost_are_told_although_later_ones_stand(new_store: Callable[[str], str]) -> None:
    """The revision is higher than before the loss, so only the store's own error tells of it."""
    url = new_store(next(iter(REDIS)))
    with StateManager(url, "work") as state:
        state.save("a", 1)
    manager = StateManager(url, "work")

    async def flow(pilot: Pilot[None]) -> None:
        await shown(pilot, "LIVE ● r1")
        with redis.Redis.from_url(url) as client, StateManager(url, "other") as maker:
            for number in range(5):
                maker.save("a", number)
            pipe = client.pipeline()
            for key in client.keys("stateview:{other}:*"):
                pipe.rename(key, key.replace(b"{other}", b"{work}"))
            pipe.execute()
        await shown(pilot, "'work' is another", "LIVE ● r5")

    look(manager, flow)


def test_a_next_step_is_for_the_store_that_is_looked_at(url: str) -> None:
    async def flow(pilot: Pilot[None]) -> None:
        await read(pilot)
        error = Damaged("it is damaged", run("recover", after=": x"))
        assert board(pilot).error_text(error) == f"it is damaged. Run 'stateview -s {url} recover': x"

    look(StateManager(url, "work"), flow, store=url)


def test_a_question_of_a_job_waits_while_one_types(url: str) -> None:
    async def flow(pilot: Pilot[None]) -> None:
        await read(pilot)
        await pilot.press("slash")
        board(pilot).acts.submit("delete a*")
        await pilot.pause(0.3)
        assert not isinstance(pilot.app.screen, Confirm)
        await pilot.press("escape")
        await shown(pilot, "delete 2 keys of work?")
        await pilot.press("escape")
        await until(pilot, lambda: len(pilot.app.screen_stack) == 1)

    look(StateManager(url, "work"), flow)
    assert keys(url) == ["a1", "a2", "b"]
