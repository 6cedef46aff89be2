"""What is nested too deep, wherever it comes from: one line, the right error, and nothing lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stateview import Damaged, InvalidArgument, InvalidName, NotSerializable, StateException, StateManager, settings
from stateview.backends.protocol import CommitRequest, Write
from stateview.cli.commands import assertions, export_import, keys, search
from stateview.cli.context import Context
from stateview.cli.exit_codes import ExitCode, UsageError, exit_code
from stateview.cli.json_queries import compile_query
from stateview.cli.line_parser import read_line
from stateview.codec import MAX_DEPTH

pytestmark = pytest.mark.usefixtures("folder")
DEPTHS = (MAX_DEPTH + 1, 900, 20_000)


def refused(kind: type[StateException], code: int, act: Callable[..., Any], *args: Any, **more: Any) -> str:
    with pytest.raises(kind) as caught:
        act(*args, **more)
    assert exit_code(caught.value) == code
    assert "\n" not in str(caught.value) and "recursion" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("depth", DEPTHS)
def test_text_of_a_person(depth: int, folder: Path) -> None:
    deep = "[" * depth + "]" * depth
    (folder / "deep.json").write_text(deep)
    (folder / "keys.json").write_text(f'{{"k":{deep}}}')
    context = Context({"store": "json:store", "namespace": "n"})
    for value in (deep, "@deep.json", '{"a":' * depth + "1" + "}" * depth):
        kinds = (InvalidArgument, NotSerializable)  # the second for what Python can still parse
        refused(kinds, ExitCode.USAGE, keys.save, context, {"key": "k", "value": value})  # type: ignore[arg-type]
    refused(Damaged, ExitCode.BACKEND, export_import.import_, context, {"source": "keys.json"})
    assert not (folder / "store" / "n" / "state.json").exists()
    (folder / "stateview.toml").write_text("[keys]\na = " + "{a = " * depth + '"q"' + "}" * depth)
    try:
        settings.find().keys()
    except InvalidName as error:
        assert "nested too deep" in str(error)
    with context.manager as state:
        state.save("k", [1])
        pointer = "/0" * depth
        assert keys.load(context, {"key": "k", "path": pointer, "default": "7"}).data == b"7"
        assert assertions.check(context, {"subject": "k", "condition": [pointer, "missing"]}).code == ExitCode.OK
        edited = folder / "store/n/state.json"
        edited.write_text(edited.read_text().replace("1\n", deep + "\n", 1))
        assert "nested over 200 levels" in refused(Damaged, ExitCode.BACKEND, StateManager("json:store", "n").load, "k")


@pytest.mark.parametrize("depth", DEPTHS)
def test_a_line_of_a_script(depth: int) -> None:
    try:
        read_line(f"save k {'[' * depth}{']' * depth}")
    except UsageError as error:
        assert "nested over 200 levels" in str(error) and "\n" not in str(error)


@pytest.mark.parametrize("depth", DEPTHS)
def test_what_was_stored_by_other_means(depth: int, store_url: str) -> None:
    with StateManager(store_url, "work") as state:
        state.save("k", 1)
        state.checkpoint("c")
        deep = ("[" * depth + "]" * depth).encode()
        try:
            state.backend.commit(CommitRequest({"k": Write(deep)}))
        except Damaged:
            assert store_url.startswith("json:")  # a JSON file is written in full, and formatted
            return
        state.save("z", 1)
        context = Context({"store": store_url, "namespace": "work"})
        for act in (
            lambda: state.load("k"),
            lambda: state.history("k"),
            lambda: list(state.diff("c")),
            lambda: state.restore_checkpoint("c", dry_run=True).counts,
            lambda: list(search.find(context, {"pattern": "x"}).rows),
            lambda: list(search.find(context, {"jsonpath": "$..*"}).rows),
        ):
            assert "nested over 200 levels" in refused(Damaged, ExitCode.BACKEND, act)
        try:
            state.export("out.json")  # copies the text, as far as it can be formatted
        except Damaged as error:
            assert "the value of 'k' is nested" in str(error)
        assert state.load("z") == 1
        context.close()


@pytest.mark.parametrize(
    "query", ["$" + "[?@" * 500 + "]" * 500, f"$[?{'(' * 900}@{')' * 900}]", f"$[?{'length(' * 900}@{')' * 900}==1]"]
)
def test_a_query(query: str) -> None:
    assert "nested over 50 levels" in refused(UsageError, ExitCode.USAGE, compile_query, query)


def test_a_query_that_is_only_long() -> None:
    assert list(compile_query("$" + "[0]" * 3000)([[0]])) == []
    assert [value for _, value in compile_query("$[?" + "@ && " * 3000 + "@]")([[0]])] == [[0]]


def test_a_query_reaches_the_deepest_value_that_can_be_saved() -> None:
    value: Any = "end"
    for level in range(MAX_DEPTH):
        value = [value] if level % 2 else {"a": value}
    found = [steps for steps, part in compile_query("$..*")(value) if part == "end"]
    assert [len(steps) for steps in found] == [MAX_DEPTH]
