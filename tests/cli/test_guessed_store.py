"""A path in place of a store URL: every command that takes a store tells by its content what it is."""

from __future__ import annotations

from pathlib import Path

import pytest
from foreign_stores import langgraph

from stateview import StateManager
from stateview.cli.commands.help import text_of
from stateview.cli.definition import BY_NAME
from stateview.cli.program import main
from stateview.shell.session import Shell

DATABASE = "a database of LangGraph's SqliteSaver"
KINDS = ("langgraph-sqlite:PATH", "crewai:PATH", "diskcache:PATH", "redis-keys://HOST:PORT/DB")


@pytest.fixture
def database(folder: Path) -> Path:
    return langgraph(folder / "runs.sqlite", {"count": 1}, {"count": 2}, thread="run-1")


@pytest.mark.parametrize("source", ["runs.sqlite", "./runs.sqlite", "langgraph-sqlite:runs.sqlite"])
@pytest.mark.parametrize("words", [["import"], ["import", "--from"]], ids=" ".join)
def test_import_takes_a_path_by_either_spelling(
    database: Path, source: str, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["-s", "json:copy", "-n", "run-1", *words, source]) == 0
    assert "LangGraph" in capsys.readouterr().err
    assert StateManager("json:copy", "run-1").load("ch/count") == 2


def test_migrate_and_diff_take_a_path(database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["migrate", "runs.sqlite", "json:copy"]) == 0
    assert f"runs.sqlite is {DATABASE}" in capsys.readouterr().err
    assert main(["migrate", "runs.sqlite", "sqlite:copy", "--all", "--quiet"]) == 0
    assert DATABASE not in capsys.readouterr().err
    assert StateManager("json:copy", "run-1").load("ch/count") == 2
    words = ["-s", "json:copy", "-n", "run-1", "diff", "1", "live", "--with-store", "./runs.sqlite", "--summary"]
    assert main(words) == 0
    told = capsys.readouterr()
    assert "ch/count" in told.out and f"./runs.sqlite is {DATABASE}" in told.err
    assert main(["-s", "json:copy", "-n", "run-1", "diff", "live", "--with-store", "langgraph-sqlite:runs.sqlite"]) == 0
    assert "between live of json:copy and live of langgraph-sqlite:runs.sqlite" in capsys.readouterr().err


def test_doctor_and_init_take_a_path(database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "runs.sqlite"]) == 0
    told = capsys.readouterr().err
    assert f"runs.sqlite is {DATABASE}" in told and "namespace run-1 of langgraph-sqlite:runs.sqlite is sound" in told
    assert main(["init", "runs.sqlite"]) == 0
    assert f"runs.sqlite is {DATABASE}" in capsys.readouterr().err
    assert main(["load", "ch/count"]) == 0
    assert capsys.readouterr().out == "2\n"


def test_connect_takes_a_path_and_its_namespace(database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shell = Shell({})
    shell.run("connect ./runs.sqlite")
    assert f"./runs.sqlite is {DATABASE}" in capsys.readouterr().err
    assert shell.target == ("langgraph-sqlite:./runs.sqlite", "run-1")
    shell.run("load ch/count")
    assert capsys.readouterr().out == "2\n"
    StateManager("json:own", "main").save("k", 1)
    StateManager("json:own", "other").save("k", 2)
    shell.run("connect own/other")
    assert shell.target[1] == "other"
    shell.run("connect own")
    assert shell.target[1] == "other", "the namespace stays, where the path names none"
    shell.shutdown()


@pytest.mark.parametrize("path", ["./nofile", "nofile.sqlite", "deep/down"])
@pytest.mark.parametrize("words", [["keys"], ["dashboard"], ["migrate"]], ids=" ".join)
def test_a_path_that_leads_nowhere_is_told(
    folder: Path, path: str, words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEXTUAL_DRIVER", "")
    line = {"keys": ["-s", path, "keys"], "dashboard": ["dashboard", path], "migrate": ["migrate", path, "json:b"]}
    assert main(line[words[0]]) == 2
    assert f"there is no file or folder {path}" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name", ["", "import", "dashboard", "migrate", "shell", "serve", "init", "namespaces", "connect"]
)
def test_the_help_names_each_kind_of_foreign_store(name: str) -> None:
    text = text_of(BY_NAME[name] if name else None)
    assert all(kind in text for kind in KINDS)
