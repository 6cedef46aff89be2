"""A thread of LangGraph in the dashboard, opened by the path of its database alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from dashboard_host import shown
from foreign_stores import langgraph, message, name
from textual.pilot import Pilot

from stateview import StateManager
from stateview.backends.foreign.guess import guess
from stateview.cli.guessed_store import with_store
from stateview.cli.program import main
from stateview.dashboard.app import Dashboard
from stateview.errors import InvalidName


@pytest.fixture
def database(folder: Path) -> Path:
    turns = [message("human", "hi"), message("ai", "hello there")]
    states = [{"messages": turns[:1], "count": 1}, {"messages": turns, "count": 2}]
    return langgraph(folder / "runs.sqlite", *states, thread="run-1")


def test_a_thread_has_a_timeline_and_a_diff(database: Path) -> None:
    import asyncio

    options, _ = with_store({}, str(database))
    app = Dashboard(StateManager(options["store"], options["namespace"]), options, None)

    async def flow(pilot: Pilot[None]) -> None:
        await shown(pilot, "run-1", "ch/count", "ch/messages", f"c-{name(2)}"[:20], "loop, step 2")
        await pilot.press("d")
        await shown(pilot, "Compare two states")
        await pilot.press("down", "enter", "enter")
        await shown(pilot, "ch/messages", "+ /1", "1 → 2")

    async def go() -> None:
        async with app.run_test(size=(140, 40)) as pilot:
            await flow(pilot)

    asyncio.run(asyncio.wait_for(go(), 60))


def test_a_path_alone_says_what_it_is(database: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["shell", "runs.sqlite", "-c", "load ch/count"]) == 0
    told = capsys.readouterr()
    assert told.out == "2\n"
    found = "a database of LangGraph's SqliteSaver: langgraph-sqlite:runs.sqlite, namespace run-1"
    assert told.err == f"stateview: runs.sqlite is {found}\n"
    for kind in ("sqlite", "json"):
        StateManager(f"{kind}:own-{kind}", "main").save("k", 1)
    sqlite, json = f"sqlite:{folder}/own-sqlite", f"json:{folder}/own-json"
    assert (guess("own-sqlite/main/state.db").url, guess("own-sqlite/main").namespace) == (sqlite, "main")
    assert (guess("own-json/main/state.json").url, guess("own-json/main").namespace) == (json, "main")
    assert guess("own-json").url == "json:own-json"
    (folder / "text.txt").write_text("x")
    with pytest.raises(InvalidName, match="no store that stateview can tell"):
        guess("text.txt")
    for store in ("json:own-json", "json", None):
        assert with_store({}, store)[1] == ""


def test_every_command_takes_a_path_where_its_content_is_unambiguous(
    database: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*words: str) -> tuple[int, str, str]:
        code = main([*words])
        return code, *capsys.readouterr()

    told = "stateview: runs.sqlite is a database of LangGraph's SqliteSaver: langgraph-sqlite:runs.sqlite"
    assert run("-s", "runs.sqlite", "load", "ch/count") == (0, "2\n", f"{told}, namespace run-1\n")
    assert run("-q", "-s", "runs.sqlite", "load", "ch/count") == (0, "2\n", "")
    code, _, error = run("serve", "runs.sqlite", "--port", "99999")
    assert (code, error.splitlines()[0]) == (2, f"{told}, namespace run-1")
    code, _, error = run("-s", "runs.sqlite", "save", "k", "1")
    assert code != 0
    assert "only reads" in error
    for namespace in ("a", "b"):
        StateManager("json:own", namespace).save("k", namespace)
    assert run("-s", "./own", "-n", "b", "load", "k")[:2] == (0, '"b"\n')
    assert run("-s", "own/a", "load", "k")[:2] == (0, '"a"\n')
    code, _, error = run("-s", "own", "save", "k", "1")  # of two namespaces, none is chosen
    assert (code, StateManager("json:own").namespaces()) == (0, ["a", "b", "default"])
    (folder / "text.txt").write_text("x")
    code, _, error = run("-s", "text.txt", "keys")
    assert code == 2
    assert "no store that stateview can tell" in error
