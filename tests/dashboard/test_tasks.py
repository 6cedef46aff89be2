"""Tasks of a user, each with the number of keys that it takes; a typed name counts as its letters."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dashboard_cases import at_screen, board, main, make_namespaces, run_board, toasts
from dashboard_host import answered, compared, lines, shown, state_of, until, write
from test_steps import fail
from textual.pilot import Pilot

from stateview import StateManager
from stateview.dashboard.data.filters.timeline import TimelineFilter
from stateview.dashboard.dialogs.menu import Menu
from stateview.dashboard.screens.diff import DiffScreen
from stateview.dashboard.screens.output import OutputScreen
from stateview.dashboard.screens.previews.restore import RestoreScreen
from stateview.dashboard.widgets.namespace_list import Namespaces
from stateview.dashboard.widgets.value.json_editor import JsonEdit
from stateview.dashboard.widgets.value.json_view import JsonView

Flow = Callable[["Keys"], Any]


class Keys:
    """Presses keys, and counts them."""

    def __init__(self, pilot: Pilot[None]) -> None:
        self.pilot = pilot
        self.count = 0

    async def press(self, *keys: str) -> None:
        self.count += len(keys)
        await self.pilot.press(*keys)

    async def type(self, text: str) -> None:
        """Type a name or a value, which does not count."""
        await self.pilot.press(*text)


def do(url: str, flow: Flow, most: int, namespace: str = "work", size: tuple[int, int] = (100, 30)) -> None:
    """Run a flow from the first key of the list on; it must need no more than so many keys."""

    async def run(pilot: Pilot[None]) -> None:
        await until(pilot, lambda: board(pilot).news is not None and main(pilot)._shown is not None)
        await answered(pilot)
        keys = Keys(pilot)
        await flow(keys)
        assert keys.count <= most

    run_board(StateManager(url, namespace), run, size)


@pytest.fixture
def url(new_store: Callable[[str], str]) -> str:
    url = new_store("sqlite")
    with StateManager(url, "work", author="script") as state:
        state.save("job", {"user": "dev", "limits": {"tokens": 200_000, "errors": 3}})
        state.save("phase", "planning")
        for number in range(1, 31):
            state.save("phase", f"phase {number}")
            state.checkpoint(f"nightly-{number:02}")
            if number == 12:
                state.update("job", lambda _: 2_000_000, path="/limits/tokens", reason="raise the limit")
    return url


def test_a_checkpoint_is_reached_by_its_name(url: str) -> None:
    async def flow(keys: Keys) -> None:
        await keys.press("4", "slash")
        await keys.type("nightly-07")
        await keys.press("enter")
        await shown(keys.pilot, "AS OF nightly-07", "2 Keys")
        assert main(keys.pilot).timeline.has_focus
        await keys.pilot.press("escape")  # the filter goes, the state stays
        await until(keys.pilot, lambda: main(keys.pilot).timeline.line.ref == "nightly-07")

    do(url, flow, 3)


@pytest.mark.stress
def test_a_member_inside_a_value_is_found(url: str) -> None:
    async def flow(keys: Keys) -> None:
        await keys.press("enter", "slash")
        await keys.type("tokens")
        await keys.press("enter")
        await until(keys.pilot, lambda: main(keys.pilot).query_one(JsonView).pointer == "/limits/tokens")

    do(url, flow, 3)


@pytest.mark.stress
def test_a_hit_of_a_search_in_values_is_its_place(url: str) -> None:
    write(url, "work", other=[{"x": 1}, {"deep": "needle"}, "a needle"], third={"last": "needle"})

    async def flow(keys: Keys) -> None:
        view = main(keys.pilot).query_one(JsonView)
        await keys.press("slash", "=")
        await keys.type("needle")
        await until(keys.pilot, lambda: main(keys.pilot).keys.key == "other")
        await keys.press("enter", "enter")
        await until(keys.pilot, lambda: view.has_focus and view.pointer == "/1/deep")
        await keys.press("n")
        await until(keys.pilot, lambda: view.pointer == "/2")
        await keys.pilot.press("n")
        await until(keys.pilot, lambda: view.key == "third" and view.pointer == "/last")

    do(url, flow, 5)


@pytest.mark.stress
def test_the_text_of_a_filter_is_replaced_and_ranked(url: str) -> None:
    write(url, "work", **{"config/job": 1, "xjobx": 1, "j_o_b": 1, "jobs": 1})

    async def flow(keys: Keys) -> None:
        found = main(keys.pilot).keys
        await keys.press("slash")
        await keys.type("phase")
        await keys.press("enter", "slash")
        await keys.type("job")
        await until(keys.pilot, lambda: found.total == 5)
        assert [row.key for row in found._window.rows] == ["job", "jobs", "config/job", "xjobx", "j_o_b"]

    do(url, flow, 3)


@pytest.mark.parametrize(
    ("typed", "revisions"),
    [
        ("raise the", [15]),
        ("ANA", [34]),
        ("=late", [34]),
        ("=lat", [34]),
        ("=j?b", [15, 1]),
        ("=job", [15, 1]),
        ("nobody", []),
        ("", list(range(34, 0, -1))),
    ],
)
def test_commits_are_found_by_reason_author_and_key(url: str, typed: str, revisions: list[int]) -> None:
    with StateManager(url, "work", author="ana") as state:
        state.save("late", 1, reason="by hand")
        found = TimelineFilter(typed).read(state, 0, lambda: False)
        assert [commit.revision for commit in found.commits] == revisions and found.whole


@pytest.mark.stress
def test_the_timeline_is_filtered_and_goes_to_a_time(url: str) -> None:
    async def flow(keys: Keys) -> None:
        timeline = main(keys.pilot).timeline
        await keys.pilot.press("4", "slash", *"raise")
        await until(keys.pilot, lambda: [row.revision for row in timeline._rows if row.commit is not None] == [15])
        await keys.pilot.press("enter")
        await until(keys.pilot, lambda: board(keys.pilot).at == "15")
        await keys.pilot.press("slash", *"@2h", "enter")
        await until(keys.pilot, lambda: board(keys.pilot).at == "0")  # the namespace is younger
        await until(keys.pilot, lambda: board(keys.pilot).main.query_one("#timeline-filter").value == "")

    do(url, flow, 0)


def test_all_failed_runs_are_seen_by_one_key_and_enter_goes_there(url: str) -> None:
    for name in ("a-broken", "b-broken"):
        fail(url, name)
    with StateManager(url, "c-fine") as state, state.run("fine") as run:
        run.step("one", int)

    async def flow(keys: Keys) -> None:
        await keys.press("!")
        await shown(keys.pilot, "a-broken", "b-broken", "2 of 4")
        assert "c-fine" not in [one.namespace for one in main(keys.pilot).query_one(Namespaces)._entries]
        await keys.pilot.press("j", "enter")
        await until(keys.pilot, lambda: board(keys.pilot).manager.namespace == "b-broken")
        await shown(keys.pilot, "nightly")

    do(url, flow, 1)


def test_one_key_is_brought_back(url: str) -> None:
    write(url, "work", job="broken")

    async def flow(keys: Keys) -> None:
        await keys.press("r")
        await shown(keys.pilot, "this key before its last change", "all keys at nightly-30")
        await keys.press("enter")
        await shown(keys.pilot, "only job", "1 of 1 marked")
        await compared(keys.pilot)
        await keys.press("y")
        await shown(keys.pilot, "Restored 1 key")

    do(url, flow, 3)
    assert state_of(url)["job"] == {"user": "dev", "limits": {"tokens": 2_000_000, "errors": 3}}
    assert state_of(url)["phase"] == "phase 30"


@pytest.mark.stress
def test_the_preview_of_all_keys_begins_at_the_key_and_tells_what_its_filter_hides(url: str) -> None:
    async def flow(keys: Keys) -> None:
        await keys.press("j", "r")
        await shown(keys.pilot, "this key")
        await keys.type("nightly-05")
        await keys.press("enter")
        await compared(keys.pilot)
        screen = keys.pilot.app.screen
        assert isinstance(screen, RestoreScreen)
        await until(keys.pilot, lambda: screen.keys.key == "phase")
        await keys.press("slash", *"job", "enter")
        await shown(keys.pilot, "AND 1 marked key THAT THE FILTER HIDES")
        await keys.press("n")
        await keys.press("escape", "j", "space")
        await until(keys.pilot, lambda: "FILTER HIDES" not in screen.title_text())

    do(url, flow, 99)


def test_two_old_checkpoints_are_compared(url: str) -> None:
    async def flow(keys: Keys) -> None:
        await keys.press("4", "}", ">", "}", "<", "d")
        await shown(keys.pilot, "Diff  nightly-29 → nightly-30", "~1")

    do(url, flow, 6)


@pytest.mark.stress
def test_two_states_are_asked_for_in_one_dialog(url: str) -> None:
    async def flow(keys: Keys) -> None:
        await keys.press("d")
        await shown(keys.pilot, "Compare two states", "nightly-30")
        await keys.type("y-05")
        await keys.press("enter")
        await keys.type("y-12")
        await keys.press("enter")
        await shown(keys.pilot, "Diff  nightly-05 → nightly-12")

    do(url, flow, 3)


@pytest.mark.stress
def test_a_typed_diff_of_two_states_is_the_screen(url: str) -> None:
    async def flow(keys: Keys) -> None:
        await keys.press("colon", *"diff nightly-05 nightly-07", "enter")
        await shown(keys.pilot, "Diff  nightly-05 → nightly-07", "~1")
        await keys.press("escape", "colon", *"diff nightly-05 --summary", "enter")
        await until(keys.pilot, lambda: isinstance(keys.pilot.app.screen, OutputScreen))

    do(url, flow, 99)


@pytest.mark.stress
def test_the_changes_of_the_commit_follow_the_timeline(url: str) -> None:
    async def flow(keys: Keys) -> None:
        await keys.press("4")
        await shown(keys.pilot, "Changes of r33", '"phase 29" → "pha', "▃▃▃")
        await keys.press("C")
        await shown(keys.pilot, "4 Checkpoints · C: all")
        assert all(row.commit is None for row in main(keys.pilot).timeline._rows)
        await keys.press("j", "j")
        await shown(keys.pilot, "AS OF nightly-29", "Changes of r32")

    do(url, flow, 99)


def test_the_commit_that_broke_a_value_is_found(url: str) -> None:
    with StateManager(url, "work") as state:
        for number in range(10):  # later changes elsewhere in the value
            state.update("job", lambda _, number=number: number, path="/limits/errors")

    async def flow(keys: Keys) -> None:
        view = main(keys.pilot).query_one(JsonView)
        await keys.press("enter", "j", "j")
        await until(keys.pilot, lambda: view.pointer == "/limits/tokens")
        await keys.press("b")
        await shown(keys.pilot, "revision  15")
        await keys.press("enter")
        await until(keys.pilot, lambda: main(keys.pilot).timeline.has_focus and board(keys.pilot).at == "15")

    do(url, flow, 6)


def test_one_leaf_is_edited_and_undone(url: str) -> None:
    async def flow(keys: Keys) -> None:
        await keys.press("enter", "e")
        await shown(keys.pilot, "job#/user", "enter saves this place alone")
        await keys.type("ana")
        await shown(keys.pilot, "a string")
        write(url, "work", job={"user": "dev", "limits": "written meanwhile"})
        await keys.press("enter")
        await until(keys.pilot, lambda: state_of(url)["job"] == {"user": "ana", "limits": "written meanwhile"})
        assert keys.count <= 3
        await until(keys.pilot, lambda: board(keys.pilot).news.head.revision == 35)
        await keys.pilot.press("z")
        await until(keys.pilot, lambda: state_of(url)["job"] == {"user": "dev", "limits": "written meanwhile"})

    do(url, flow, 3)


def test_a_leaf_that_another_process_has_written_is_shown_before_it_is_replaced(url: str) -> None:
    async def flow(keys: Keys) -> None:
        await keys.press("enter", "e")
        await shown(keys.pilot, "job#/user", "enter saves this place alone")
        await keys.type("ana")
        write(url, "work", job={"user": "bob", "limits": 1})
        await keys.press("enter")
        await shown(keys.pilot, "ana", 'another process has written "bob"', "enter replaces it")
        assert state_of(url)["job"] == {"user": "bob", "limits": 1}
        await keys.press("enter")
        await until(keys.pilot, lambda: state_of(url)["job"] == {"user": "ana", "limits": 1})

    do(url, flow, 4)


def test_one_commit_in_the_middle_is_taken_back(url: str) -> None:
    async def flow(keys: Keys) -> None:
        await keys.pilot.press("4", "slash", *"raise the", "enter")
        await until(keys.pilot, lambda: board(keys.pilot).at == "15")
        await keys.press("V")
        await shown(keys.pilot, "Revert  commit 15: raise the limit", "~ /limits/tokens  2000000 → 200000")
        await shown(keys.pilot, "before_revert_…", "revert --commit 15")
        await compared(keys.pilot)
        await keys.press("y")
        await until(keys.pilot, lambda: state_of(url)["job"]["limits"] == {"tokens": 200_000, "errors": 3})
        await until(keys.pilot, lambda: board(keys.pilot).at is None)
        assert state_of(url)["phase"] == "phase 30"

    do(url, flow, 2)


def test_a_number_is_drawn_over_its_history(url: str) -> None:
    async def flow(keys: Keys) -> None:
        await keys.press("enter")
        main(keys.pilot).query_one(JsonView).go_to("/limits/tokens")
        await keys.press("#")
        await at_screen(keys.pilot, OutputScreen)
        await shown(keys.pilot, "job#/limits/tokens  2 versions, 200k → 2M", "2M ┤", "r1 ", "r15 ")
        bars = next(line for line in lines(board(keys.pilot)) if "2M ┤" in line)
        assert len(bars.rstrip()) <= 100
        await keys.pilot.press("escape")
        main(keys.pilot).timeline.go_to("14")
        await until(keys.pilot, lambda: board(keys.pilot).at == "14")
        await keys.pilot.press("3", "#")  # of an earlier state: up to there
        await at_screen(keys.pilot, OutputScreen)
        await shown(keys.pilot, "1 version, 200k → 200k")
        await keys.pilot.press("escape", "2", "j", "#")
        await until(keys.pilot, lambda: any("no version of 'phase' is a number" in one for one in toasts(keys.pilot)))

    do(url, flow, 2)


def test_a_masked_number_is_not_drawn(url: str) -> None:
    async def flow(pilot: Pilot[None]) -> None:
        await until(pilot, lambda: board(pilot).news is not None and main(pilot)._shown is not None)
        main(pilot).keys.go_to("phase")
        await until(pilot, lambda: main(pilot).keys.key == "phase")
        await pilot.press("#")
        await at_screen(pilot, OutputScreen)
        await shown(pilot, "masked values are not drawn")

    with StateManager(url, "work") as state:
        state.save("phase", 7)
    run_board(StateManager(url, "work"), flow, redact=("phase",))


@pytest.mark.parametrize("columns", [60, 130])
def test_a_chart_is_as_wide_as_the_screen(url: str, columns: int) -> None:
    with StateManager(url, "work") as state:
        for number in range(1, 200):
            state.save("count", number)

    async def flow(keys: Keys) -> None:
        main(keys.pilot).keys.go_to("count")
        await until(keys.pilot, lambda: main(keys.pilot).keys.key == "count")
        await keys.press("#")
        await at_screen(keys.pilot, OutputScreen)
        await shown(keys.pilot, "199 versions, 1 → 199")
        widest = max(len(line.rstrip("│ ")) for line in lines(board(keys.pilot)) if "┤" in line)
        assert columns - 8 <= widest <= columns

    do(url, flow, 1, size=(columns, 24))


@pytest.mark.stress
def test_the_last_change_is_undone_by_one_key(url: str) -> None:
    async def flow(keys: Keys) -> None:
        await keys.pilot.press("X")
        await shown(keys.pilot, "Delete 1 key")
        await keys.pilot.press("y")
        await until(keys.pilot, lambda: "job" not in state_of(url))
        await until(keys.pilot, lambda: main(keys.pilot).keys.key == "phase")
        await keys.press("z")
        await until(keys.pilot, lambda: "job" in state_of(url))

    do(url, flow, 1)


@pytest.mark.stress
def test_a_state_is_compared_with_another_store_by_its_name(url: str, folder: Path) -> None:
    write("sqlite:elsewhere", "work", job={"user": "ana"})

    async def run(pilot: Pilot[None]) -> None:
        await until(pilot, lambda: board(pilot).news is not None and main(pilot)._shown is not None)
        await answered(pilot)
        keys = Keys(pilot)
        await keys.press("D")
        await shown(pilot, "Store", "elsewhere")
        await keys.type("elsew")
        await keys.press("enter")
        await answered(pilot)
        await until(pilot, lambda: isinstance(pilot.app.screen, Menu))
        await keys.press("enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, DiffScreen))
        await compared(pilot)
        assert keys.count <= 4

    stores = [(url, "here"), ("sqlite:elsewhere", "elsewhere")]
    run_board(StateManager(url, "work"), run, (100, 30), store=url, stores=stores)


@pytest.mark.stress
def test_q_goes_back_one_screen_and_quits_from_the_main_one(url: str) -> None:
    async def flow(keys: Keys) -> None:
        app = board(keys.pilot)
        for key in ("H", "w", "question_mark", "at"):
            await keys.press(key)
            await until(keys.pilot, lambda: len(app.screen_stack) == 2)
            await keys.press("q")
            await until(keys.pilot, lambda: len(app.screen_stack) == 1)
        await keys.press("q")
        await until(keys.pilot, lambda: app._exit)

    do(url, flow, 99)


@pytest.mark.stress
def test_the_editor_opens_at_the_place_under_the_cursor(url: str) -> None:
    async def flow(keys: Keys) -> None:
        await keys.press("enter", "j", "e")
        await until(keys.pilot, lambda: bool(keys.pilot.app.screen.query(JsonEdit)))
        await until(keys.pilot, lambda: keys.pilot.app.screen.query_one(JsonEdit).cursor_location == (2, 13))

    do(url, flow, 3)


@pytest.mark.parametrize("count", [200, pytest.param(10_000, marks=pytest.mark.stress)])
def test_a_namespace_of_many_is_opened_by_its_name(folder: Path, count: int) -> None:
    make_namespaces(folder, count)
    write("json:many", "ns-00000", k=1)

    async def flow(keys: Keys) -> None:
        namespaces = main(keys.pilot).query_one(Namespaces)
        await until(keys.pilot, lambda: namespaces.count > count)
        await keys.press("o")
        await keys.type(f"{count - 46}")
        await keys.press("enter")
        await until(keys.pilot, lambda: board(keys.pilot).manager.namespace == f"ns-{count - 46:05}")
        await until(keys.pilot, lambda: main(keys.pilot).keys.has_focus)
        assert namespaces.count > count  # the filter is gone

    do("json:many", flow, 2, "ns-00000")
