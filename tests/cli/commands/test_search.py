"""What `find` shows of a value: the place where it was found; and in JSON all of it."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from dashboard_host import screen_text, shown, until
from forked import forked
from hypothesis import given
from hypothesis import strategies as st
from textual.pilot import Pilot

from stateview import StateManager, codec
from stateview.cli.commands.keys import load
from stateview.cli.commands.search import excerpt, find, find_span, make_matcher
from stateview.cli.context import Context
from stateview.cli.render import Style, render
from stateview.cli.results import Table, ValueResult
from stateview.dashboard.app import Dashboard
from stateview.dashboard.data.filtered_key_source import FilteredKeys
from stateview.dashboard.display.redaction import MASK
from stateview.dashboard.display.result_redaction import redact_result
from stateview.dashboard.screens.output import OutputScreen
from stateview.dashboard.widgets.text_list import TextList
from stateview.dashboard.widgets.value.json_view import JsonView
from stateview.states.values.pointers import escape_token

LONG = "x" * 20_000 + "needle" + "y" * 20_000
LINES = "\n".join(f"line {n} of the report{' RED alert' * (n in (57, 90))}" for n in range(1, 301))

pytestmark = pytest.mark.usefixtures("folder")


@pytest.fixture
def state() -> Iterator[StateManager]:
    with StateManager("json", "default") as manager:
        manager.save("report", {"text": LINES, "state": "RED"})
        manager.save("long", LONG)
        manager.save("needles", {"many": ["z" * 100] * 1000})
        yield manager


def out(*words: str) -> str:
    done = forked(*words)
    assert done.returncode == 0, done
    return done.stdout


def at_terminal(*words: str) -> str:
    main, other = pty.openpty()
    with subprocess.Popen([sys.executable, "-m", "stateview", *words], stdout=other, stderr=other) as child:
        os.close(other)
        printed = b""
        try:
            while data := os.read(main, 65536):
                printed += data
        except OSError:
            pass  # a terminal that nobody writes to any more
        assert child.wait() == 0
    os.close(main)
    return printed.decode()


def test_a_pipe_gets_the_place_and_never_all_of_a_long_value(state: StateManager) -> None:
    rows = [line.split("\t") for line in out("find", "RED").splitlines()]
    assert sorted(rows) == [
        ["report", "/state", '"RED"'],
        ["report", "/text", 'line 57: "…line 57 of the report RED alert…"'],
    ]
    found = out("find", "needle").splitlines()
    assert [line.split("\t")[0] for line in found] == ["long", "needles"]
    assert "xneedley" in found[0] and '"…x' in found[0] and found[0].endswith('y…"')
    assert all(len(line) <= 220 for line in found)
    assert found[1].endswith("…")  # found by its name: the start of the value


def test_a_terminal_shows_the_place_in_a_column(state: StateManager) -> None:
    shown = at_terminal("find", "RED alert")
    assert 'line 57: "…line 57 of the report RED alert…"' in shown
    assert "xneedley" in at_terminal("find", "*needle*")
    assert "xneedley" in at_terminal("find", "n[e]edle.y", "--regex")
    assert "xneedley" in at_terminal("find", "needle", "--format", "table")


def test_json_and_raw_have_all_of_the_value(state: StateManager) -> None:
    rows = json.loads(out("find", "needle", "--format", "json", "--in", "values"))
    assert rows == [{"key": "long", "path": "", "value": LONG}]
    assert json.loads(out("find", "needle", "--format", "jsonl", "--in", "values")) == rows[0]
    assert LONG in out("find", "needle", "--format", "raw", "--in", "values")


def test_an_excerpt_is_made_of_what_is_masked_already() -> None:
    secret = "the hunter2 of " * 40 + "public"
    rows = [
        ("conf", "", {"token": secret, "name": "x" * 300}),
        ("token", "", secret),
        ("open", "", "say public\nthings"),
    ]
    place = find_span("public")
    table = Table(columns=("key", "path", "value"), rows=rows, excerpt=lambda value, room: excerpt(value, place, room))
    for style in (Style(), Style("", terminal=True), Style("table"), Style("raw"), Style("jsonl")):
        shown = "".join(render(redact_result(table, {}, ("*token*",)), style))
        assert "hunter2" not in shown
        assert MASK in shown and "say public" in shown


@pytest.mark.parametrize("name", ["api/token", "~key"])
def test_a_name_with_escaped_signs_is_masked_by_its_path(name: str) -> None:
    args = {"key": "conf", "path": "/" + escape_token(name)}
    result = redact_result(ValueResult(data=b'"hunter2"'), args, (name,))
    assert isinstance(result, ValueResult)
    assert result.data == codec.encode(MASK)


@pytest.mark.parametrize("room", [60, 200])
def test_an_excerpt_has_the_place_and_is_no_longer_than_there_is_room(room: int) -> None:
    sides = ("", ""), ("x" * 500, ""), ("", "y" * 500), ("x" * 500, "y" * 500), ("\x1b" * 99, "\x01" * 99)
    for before, after in sides:
        shown = excerpt(f"{before}HIT{after}", find_span("HIT"), room)
        assert "HIT" in shown and len(shown) <= room
        assert ("…" in shown[:3], "…" in shown[-3:]) == (bool(before), bool(after))
    assert excerpt("HIT", find_span("HIT"), room) == '"HIT"'
    assert excerpt(12, find_span("2"), room) == "12"
    assert "777" in excerpt(int("1" * 900 + "777" + "1" * 900), find_span("777"), room)


@given(st.text(alphabet="ab\n\t\x1b", max_size=300), st.sampled_from(["a", "ba", "b*a", "*ab*", "?b*", "*[a]*"]))
def test_what_is_found_has_an_excerpt(text: str, pattern: str) -> None:
    if make_matcher(pattern)(text):
        shown = excerpt(text, find_span(pattern), 60)
        assert len(shown) <= 60
        assert shown.startswith("line ") == ("\n" in text and find_span(pattern)(text) is not None)


# --- names of members, JSONPath and regular expressions ---------------------------------------------------------------

NAMED = {"timeout_s": 30, "a/b": {"~": [{"timeout": None}]}, "list": ["timeout of 3 s"], "": {"": 1}, "0": True}


def places(manager: StateManager, pattern: str | None = None, **args: Any) -> list[str]:
    """Return the pointers that `find` prints of the key `m`; each can be loaded, and is what is printed."""
    context = Context({"store": manager.backend.url, "namespace": "default"})
    try:
        rows = list(find(context, args if pattern is None else {"pattern": pattern, **args}).rows)
        for key, path, value in rows:
            assert load(context, {"key": key, "path": path}).data == codec.encode(value)
        return [path for key, path, _ in rows if key == "m"]
    finally:
        context.close()


@pytest.mark.parametrize(
    ("pattern", "args", "found"),
    [
        ("timeout", {}, ["/timeout_s", "/a~1b/~0/0/timeout", "/list/0"]),
        ("timeout", {"in": "values"}, ["/timeout_s", "/a~1b/~0/0/timeout", "/list/0"]),
        ("timeout", {"in": "keys"}, []),
        ("time*", {}, ["/timeout_s", "/a~1b/~0/0/timeout", "/list/0"]),
        ("*_s", {}, ["/timeout_s"]),
        ("^t.*_s$", {"regex": True}, ["/timeout_s"]),
        ("a/b", {}, ["/a~1b"]),
        ("~", {}, ["/a~1b/~0"]),
        ("30", {"jsonpath": "$.*"}, ["/timeout_s"]),
        ("timeout", {"jsonpath": "$['a/b']"}, ["/a~1b/~0/0/timeout"]),
        ("timeout", {"jsonpath": "$..*"}, ["/timeout_s", "/a~1b/~0/0/timeout", "/list/0"]),
        (None, {"jsonpath": "$"}, [""]),
        (None, {"jsonpath": "$..['']"}, ["/", "//"]),
        (None, {"jsonpath": "$.list[-1]"}, ["/list/0"]),
    ],
)
def test_names_of_members_are_found_and_each_pointer_loads(
    folder: Path, pattern: str | None, args: dict[str, Any], found: list[str]
) -> None:
    with StateManager("json", "default") as manager:
        manager.save("m", NAMED)
        manager.save("other", "text")
        assert places(manager, pattern, **args) == found


@pytest.mark.parametrize("value", [1, None, True, "text", '{"a": [1]}', "[1]", "[", ""])
def test_the_root_of_a_query_is_any_value(folder: Path, value: Any) -> None:
    with StateManager("json", "default") as manager:
        manager.save("m", value)
        assert places(manager, jsonpath="$") == [""]
        assert places(manager, jsonpath="$..*") == []


def test_a_name_is_found_in_the_key_list_and_what_is_masked_is_not(state: StateManager) -> None:
    state.save("conf", {"token_name": {"hidden": "hunter2"}, "open": 1})
    for redact, text, keys in (
        ((), "=hidden", ["conf"]),
        ((), "=token", ["conf"]),
        (("*token*",), "=token", ["conf"]),
        (("*token*",), "=hidden", []),
        (("*token*",), "=hunter2", []),
    ):
        source = FilteredKeys(state, text=text, redact=redact)
        while source.work(lambda: False) is not None and source.is_searching:
            pass
        assert [row.key for row in source.page(0, 10).rows] == keys, (redact, text)
    shown: list[tuple[Any, ...]] = []
    for pattern in ("token", "hidden", "hunter2", "open"):
        args = {"pattern": pattern}
        context = Context({"store": state.backend.url, "namespace": "default"})
        result = redact_result(find(context, args), args, ("*token*",))
        assert isinstance(result, Table)
        shown += result.rows
        context.close()
    assert shown == [("conf", "/token_name", MASK), ("conf", "/open", 1)]


# --- in the dashboard ------------------------------------------------------------------------------------------------


def look(flow: Callable[[Pilot[None], Dashboard], Any], size: tuple[int, int] = (100, 30), **options: Any) -> None:
    """Run a flow on the whole dashboard."""

    async def go() -> None:
        app = Dashboard(StateManager("json", "default"), **options)
        async with app.run_test(size=size) as pilot:
            await until(pilot, lambda: app.news is not None and app.main is not None and app.main.keys.key is not None)
            await flow(pilot, app)

    asyncio.run(asyncio.wait_for(go(), 60))


async def find_line(pilot: Pilot[None], app: Dashboard, line: str, text: str) -> None:
    """Type a command, and put the cursor on the line of its output that holds a text."""
    app.acts.submit(line)
    await until(pilot, lambda: isinstance(app.screen, OutputScreen) and not app.acts.jobs.running)
    shown = app.screen.query_one(TextList)
    await until(pilot, lambda: any(text in one for one in shown.lines))
    shown.cursor = next(number for number, one in enumerate(shown.lines) if text in one)
    await pilot.pause()
    await pilot.press("enter")
    await pilot.pause()


@pytest.mark.parametrize("size", [(60, 15), (100, 30)])
def test_enter_goes_to_what_was_found(state: StateManager, size: tuple[int, int]) -> None:
    state.save("list", [{"text": "x\n" * 50 + "deep\n" * 3}])

    async def flow(pilot: Pilot[None], app: Dashboard) -> None:
        main = app.main
        assert main is not None
        view = main.query_one(JsonView)
        for line, text, key, pointer, seen in (
            ("find RED", "line 57", "report", "/text", "line 57 of the report RED"),
            ("find deep --format json", "deep", "list", "/0/text", "│ deep"),
            ("find needle", "needles", "needles", "/many", ""),
            ("find needle --in values", "xneedle", "long", "", "needle"),
            ("find state --in keys --format table", "", "", "", ""),
        ):
            main.key_filter.value = "lo"
            main.keys.filter("lo")
            await find_line(pilot, app, line, text)
            if not key:
                assert isinstance(app.screen, OutputScreen)  # a line that is about nothing
                continue
            await until(pilot, lambda key=key: app.screen is main and main.keys.key == view.key == key)
            await until(pilot, lambda pointer=pointer: view.pointer == pointer)
            if seen:
                await shown(pilot, seen)
                assert seen in view.render_line(view.cursor - view.scroll_offset.y).text
                assert view.has_focus
            assert not main.key_filter.text

    look(flow, size)


def test_enter_goes_to_the_state_in_which_it_was_found(state: StateManager) -> None:
    state.save("gone", {"was": "found here"})
    state.checkpoint("before")
    state.delete("gone")

    async def flow(pilot: Pilot[None], app: Dashboard) -> None:
        main = app.main
        assert main is not None
        await find_line(pilot, app, "find 'found here' --at before", "gone")
        await until(pilot, lambda: app.at == "before" and main.keys.key == "gone")
        await until(pilot, lambda: main.query_one(JsonView).pointer == "/was")
        await find_line(pilot, app, "find RED", "/state")
        await until(pilot, lambda: app.at is None and main.keys.key == "report")
        await find_line(pilot, app, "find RED -n default", "/state")
        await pilot.pause()
        assert isinstance(app.screen, OutputScreen)  # its own connection, which need not be the same store

    look(flow)


def test_masked_values_are_said_not_to_be_searched(state: StateManager) -> None:
    state.save("api_token", "hunter2 and\nmore")

    async def flow(pilot: Pilot[None], app: Dashboard) -> None:
        for line, told in (("find hunter2", True), ("find hunter2 --in keys", False)):
            app.acts.submit(line)
            await shown(pilot, "nothing found in namespace")
            assert ("masked values are not searched" in screen_text(app)) == told
            await until(pilot, lambda: not app.acts.jobs.running)
            await pilot.press("escape")
            await until(pilot, lambda: not isinstance(app.screen, OutputScreen))
        await find_line(pilot, app, "find token", "api_token")
        assert "hunter2" not in screen_text(app)

    look(flow, redact=("*token*",))
