"""What a line would do: the dry run of every command that changes something, and `explain`, which says it in words."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from stateview import StateManager
from stateview.cli.completion import candidates
from stateview.cli.definition import COMMANDS, SHELL
from stateview.cli.line_parser import read_line

Run = Callable[..., tuple[int, str, str]]

pytestmark = pytest.mark.usefixtures("folder")


@pytest.fixture
def state() -> StateManager:
    state = StateManager("json", "default")
    state.save("job", {"tokens": 1, "tags": ["a"]})
    state.save("phase", "plan")
    state.checkpoint("cp")
    state.save("phase", "build")
    return state


def test_every_command_either_changes_nothing_or_has_a_dry_run_or_says_what_it_does() -> None:
    for command in COMMANDS:
        if not command.hidden and command.group != SHELL:
            has_dry_run = any(option.name == "dry-run" for option in command.options)
            assert has_dry_run != bool(command.effect), command.name


@pytest.mark.parametrize(
    ("line", "changes"),
    [
        ("save phase done", {"phase": "done"}),
        ("save job#/tokens 5", {"job": {"tokens": 5, "tags": ["a"]}}),
        ("delete phase", {"phase": None}),
        ("delete *", {"job": None, "phase": None}),
        ("delete --prefix ph", {"phase": None}),
        ("rename phase stage", {"phase": None, "stage": "build"}),
        ('patch job [{"op":"remove","path":"/tags"}]', {"job": {"tokens": 1}}),
        ('merge job {"tags":null}', {"job": {"tokens": 1}}),
        ("increment job#/tokens 4", {"job": {"tokens": 5, "tags": ["a"]}}),
        ("increment new", {"new": 1}),
        ("append job#/tags b", {"job": {"tokens": 1, "tags": ["a", "b"]}}),
        ("undo", {"phase": "plan"}),
        ("restore cp", {"phase": "plan"}),
        ("revert --commit 3", {"phase": "plan"}),
        ("save phase build", {}),
        ("delete none*", {}),
    ],
)
def test_a_dry_run_and_an_explanation_show_the_same_and_change_nothing(
    line: str, changes: dict[str, object], state: StateManager, run: Run
) -> None:
    words = read_line(line).texts
    for format_ in ([], ["--format", "json"]):
        code, out, _ = run(*format_, *words, "--dry-run")
        assert code == 0
    found = [] if line == "delete none*" else json.loads(out)
    assert {one["key"]: one.get("after") for one in found} == changes
    code, out, _ = run("--format", "json", "explain", line)
    said = json.loads(out)
    assert code == 0 and said["command"] == words[0] and said["would_change"] == bool(changes)
    assert {one["key"]: one.get("after") for one in said.get("changes", [])} == changes
    if changes:
        assert "'undo' takes it back" in said["effect"] or "'redo' takes it back" in said["effect"]
    assert state.revision == 3


def test_what_is_no_change_of_a_value(state: StateManager, run: Run) -> None:
    def effect(*words: str) -> str:
        code, out, err = run("explain", *words)
        assert code == 0, err
        return out.split("effect")[1].strip()

    assert effect("expire", "phase", "2h").startswith("Then phase would expire in 7,200 s. 'undo'")
    assert effect("checkpoint", "cp") == "Then checkpoint cp would be revision 3, and the earlier state cp@2."
    assert effect("checkpoint", "cp", "--delete") == "Then checkpoint cp (revision 2) would be deleted."
    assert effect("fork", "copy") == "Then default at live would be forked into copy: 2 keys."
    assert "Nothing takes it back" in effect("prune", "--keep", "1") and "checkpoints" in effect("drop")
    assert effect("load", "phase") == "It changes nothing."
    assert effect("drop", "--dry-run") == "It changes nothing, since it is a dry run."
    assert effect("commit").startswith("It is a command of the shell")
    assert "here revision 2" in run("explain", "diff", "cp")[1]
    assert state.list_checkpoints() == ["cp"] and state.namespaces() == ["default"] and state.revision == 3
    assert run("--read-only", "explain", "delete *")[0] == 0


def test_what_the_command_would_refuse_is_refused(state: StateManager, run: Run) -> None:
    for words, code in (
        (["rename", "phase", "job"], 4), (["rename", "none", "x"], 1), (["delete", "phase", "--expected", "1"], 4),
        (["delete", "phase", "--previewed", "2"], 4), (["save", "phase", "x", "--expected", "0"], 4),
        (["expire", "phase", "2h", "--expected", "1"], 4), (["checkpoint", "cp", "--rename", "live"], 2),
        (["checkpoint", "no", "--delete"], 1), (["increment", "phase"], 2), (["fork", "default"], 4),
    ):  # fmt: skip
        assert run(*words, "--dry-run")[0] == code == run("explain", *words)[0], words
    assert run("explain", "lod")[0] == 2 and run("explain")[0] == 2 and run("explain", "_complete")[0] == 2
    assert state.revision == 3


def test_the_argument_of_explain_is_read_and_completed_as_a_line(state: StateManager) -> None:
    assert read_line('explain save job {"a": 1}').texts == ["explain", "save", "job", '{"a": 1}']
    assert [text for text, _ in candidates(["explain", "rest"])] == ["restore"]
    assert [text for text, _ in candidates(["explain", "load", "pha"])] == ["phase"]


def test_the_keys_with_a_prefix_are_counted(state: StateManager, run: Run) -> None:
    assert "here 1 key\n" in run("explain", "delete", "--prefix", "ph")[1]
    assert "here 0 keys\n" in run("explain", "delete", "--prefix", "ph*")[1]


def test_a_ref_of_another_namespace_is_not_explained_as_one_of_this(state: StateManager, run: Run) -> None:
    copy = state.fork("copy")
    copy.checkpoint("cp")
    code, out, _ = run("explain", "restore", "cp", "--from-namespace", "copy", "--keys", "phase")
    assert code == 0 and "here revision" not in out
    assert "here revision 2" in run("explain", "restore", "cp")[1]
