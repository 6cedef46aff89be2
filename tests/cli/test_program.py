"""The command line through real processes: what is printed where, exit codes, settings, hostile data, pipes."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonpatch
import pytest
import wcwidth
from forked import forked
from rich.cells import cell_len
from stress import stressed
from terminal import Terminal

from stateview import StateManager
from stateview.cli.definition import COMMANDS, GROUPS, SHELL
from stateview.cli.program import main

COMMAND = [sys.executable, "-m", "stateview"]
HOSTILE = "a\x1b[31m\u202eb\n[/c]\x9b0m"


pytestmark = pytest.mark.usefixtures("folder")


def run(*words: str, code: int = 0, stdin: str = "", **environment: str) -> tuple[str, str]:
    done = forked(*words, stdin=stdin, **environment)
    assert done.returncode == code, done
    assert "Traceback" not in done.stderr
    return done.stdout, done.stderr


def out(*words: str, **more: Any) -> str:
    return run(*words, **more)[0]


def err(*words: str, code: int, **more: Any) -> str:
    printed, said = run(*words, code=code, **more)
    assert printed == "", printed
    return said


@pytest.fixture
def state() -> Iterator[StateManager]:
    with StateManager("json", "default") as manager:
        yield manager


# --- values --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "value", "type_name"),
    [
        ("8080", 8080, "integer"),
        ("-5", -5, "integer"),
        ("1.5", 1.5, "number"),
        ("true", True, "boolean"),
        ("null", None, "null"),
        ("building", "building", "string"),
        ('"8080"', "8080", "string"),
        ("007", "007", "string"),
        ("NaN", "NaN", "string"),
        ("Infinity", "Infinity", "string"),
        ("1e400", "1e400", "string"),
        ("it's", "it's", "string"),
        ('{"a": [1, "x | y"]}', {"a": [1, "x | y"]}, "object"),
        ("[]", [], "array"),
        ("9" * 70, int("9" * 70), "integer"),
        ("", "", "string"),
        ("a b", "a b", "string"),
        ("ü\u2028", "ü\u2028", "string"),
    ],
)
def test_what_is_typed_is_what_is_saved(typed: str, value: object, type_name: str, state: StateManager) -> None:
    said = run("save", "k", typed)[1]
    assert f"({type_name})" in said
    assert state.load("k") == value
    assert type(state.load("k")) is type(value)


def test_forced_types_stdin_and_files(state: StateManager, folder: Path) -> None:
    run("save", "a", "8080", "--string")
    run("save", "b", "-", stdin='{"from": "stdin"}\n')
    (folder / "v.json").write_text("[1, 2]")
    run("save", "c", "@v.json")
    run("save", "d", "@v.json", "--string")
    run("save", "e", "--", "--dashes")
    assert [state.load(key) for key in "abcde"] == ["8080", {"from": "stdin"}, [1, 2], "@v.json", "--dashes"]
    assert "not valid JSON" in err("save", "f", "plain", "--json", code=2)
    assert "nowhere.json" in err("save", "f", "@nowhere.json", code=2)
    assert "f" not in state


def test_broken_json_gets_a_caret(state: StateManager) -> None:
    said = err("save", "k", '{"a": 1, }', code=2)
    lines = said.split("\n")
    assert lines[1].strip() == '{"a": 1, }'
    assert lines[2].index("^") - 2 == 9
    assert "twice" in err("save", "k", '{"a": 1, "a": 2}', code=2)
    assert "k" not in state


# --- exit codes and messages ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["load", "nothing"], 1, "no key 'nothing'"),
        (["load", "k", "/a/b"], 1, "nothing at /a/b"),
        (["load", "k", "a"], 2, "JSON Pointer"),
        (["load", "k", "--at", "nowhere"], 1, "no checkpoint 'nowhere'"),
        (["load", "k", "--at", "cpp"], 1, "Did you mean cp?"),
        (["load", "k", "--at", "99"], 1, "no revision 99"),
        (["load", "k", "--at", "live~99"], 1, "no revision"),
        (["load", "k", "--at", "a b"], 2, "not a ref"),
        (["entry", "nothing"], 1, "no key"),
        (["history", "nothing"], 1, "no key"),
        (["blame", "k", "/nothing"], 1, "no key 'k/nothing'"),
        (["delete", "nothing"], 1, "no key"),
        (["delete", "k*"], 5, "--yes"),
        (["diff", "cp", "nowhere"], 1, "nowhere"),
        (["redo"], 1, "nothing to redo"),
        (["lod"], 2, "Did you mean load"),
        (["load"], 2, "KEY is missing"),
        (["load", "a", "/b", "c"], 2, "one argument too many"),
        (["load", "k", "--nothing"], 2, "no option --nothing"),
        (["--theme", "x"], 2, "there is no option --theme. Run 'stateview dashboard --theme'"),
        (["load", "k", "--at"], 2, "needs a value"),
        (["load", "k", "--format", "xml"], 2, "pretty, json"),
        (["save", "k", "1", "--ttl", "0"], 2, "must be more than 0"),
        (["save", "k", "1", "--ttl", "soon"], 2, "must be a duration"),
        (["save", "k", "1", "--ttl", "1y"], 2, "such as 90 (seconds), 15m, 2h or 7d"),
        (["expire", "k", "soon"], 2, "such as 90 (seconds), 15m, 2h or 7d; or never"),
        (["save", "k", "1", "--expected", "x"], 2, "whole number"),
        (["save", "", "1"], 2, "must not be empty"),
        (["save", "k" * 1025, "1"], 2, "1,025 bytes"),
        (["save", "k", "1", "--expected", "7"], 4, "not at revision 7"),
        (["save", "k", "1", "--expected", "0"], 4, "exists already"),
        (["restore", "cp", "--expected", "7"], 4, "not at 7"),
        (["checkpoint", "live"], 2, "refs already"),
        (["checkpoint", "../x"], 2, "not allowed"),
        (["checkpoint", "nowhere", "--delete"], 1, "no checkpoint"),
        (["fork", "default"], 4, "exists already"),
        (["-n", "../../x", "load", "k"], 2, "not allowed"),
        (["-s", "oracle:x", "load", "k"], 2, "not a store"),
        (["-s", "nothing", "load", "k"], 2, "neither a store URL nor a store"),
        (["save", "k", "1", "--read-only"], 3, "reading only"),
        (["--read-only", "restore", "cp"], 3, "reading only"),
        (["undo", "--read-only"], 3, "reading only"),
        (["-s", "redis://user:secret@127.0.0.1:1/0", "load", "k"], 3, "redis://user:***@127.0.0.1:1/0 does not answer"),
        (["migrate", "json", "json"], 4, "is both the source and the destination"),
        ([], 2, "no command"),
    ],
)  # fmt: skip
def test_errors_are_one_line_with_the_code_and_change_nothing(
    words: list[str], code: int, said: str, state: StateManager
) -> None:
    state.save("k", {"a": 1})
    state.checkpoint("cp")
    state.save("k", {"a": 2})
    found = err(*words, code=code)
    assert said in found
    assert found.startswith("stateview: ")
    assert found.count("\n") == 1
    assert "secret" not in found
    assert (state.revision, state.load("k"), state.list_checkpoints()) == (2, {"a": 2}, ["cp"])


def test_reading_what_is_not_there_makes_nothing(folder: Path) -> None:
    err("load", "k", code=1)
    err("keys", code=1)
    err("log", code=1)
    assert list(folder.iterdir()) == []


def test_ctrl_c_ends_a_watch(state: StateManager) -> None:
    state.save("k", 1)
    watch = subprocess.Popen([*COMMAND, "watch"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert watch.stdout is not None
    for turn in range(2, 1000):  # saved again and again: a first save may come before the watch does
        state.save("k", turn)
        if select.select([watch.stdout], [], [], 0.1)[0]:
            break
    assert 2 <= json.loads(watch.stdout.readline())["after"] <= turn
    watch.send_signal(signal.SIGINT)
    _, said = watch.communicate(timeout=60)
    assert (watch.returncode, said) == (130, b"interrupted\n")


def test_a_reader_that_has_enough_ends_it_quietly(state: StateManager) -> None:
    with state.transaction() as transaction:
        for number in range(20_000):
            transaction.save(f"key:{number:06}", number)
    line = f"{sys.executable} -m stateview keys | head -n 1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", line], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("key:000000\n", "")


# --- every command -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "seconds"),
    [
        ("61.5", 61.5),
        pytest.param("90", 90, marks=pytest.mark.stress),
        pytest.param("90s", 90, marks=pytest.mark.stress),
        pytest.param("15m", 900, marks=pytest.mark.stress),
        ("15min", 900),
        pytest.param("2h", 7200, marks=pytest.mark.stress),
        pytest.param("7d", 604_800, marks=pytest.mark.stress),
        pytest.param("2w", 1_209_600, marks=pytest.mark.stress),
    ],
)
def test_a_length_of_time_is_typed_in_one_way_everywhere(state: StateManager, typed: str, seconds: float) -> None:
    run("save", "saved", "1", "--ttl", typed)
    run("save", "set", "1")
    assert json.loads(out("expire", "set", typed, "--format", "json"))["ttl"] == seconds
    assert json.loads(out("expire", "--seconds", typed, "set", "--format", "json"))["ttl"] == seconds
    for key in ("saved", "set"):
        assert seconds - 60 < json.loads(out("entry", key, "--format", "json"))["ttl"] <= seconds
    run("wait", "set", "==", "1", "--timeout", typed)
    run("expire", "set", "never")
    assert "ttl" not in json.loads(out("entry", "set", "--format", "json"))


def test_the_acts_in_order(state: StateManager) -> None:
    assert out("checkpoint", "empty") == "empty\n"
    run("set", "task:1", '{"state": "waiting"}', "--reason", "begin", "--author", "ann")
    run("save", "task:2", "2")
    assert out("cp", "early", "--note", "two tasks") == "early\n"
    run("save", "task:1", '{"state": "done"}')
    run("del", "task:2")
    run("save", "other", "x", "--ttl", "1000")
    assert out("get", "task:1") == '{"state":"done"}\n'
    assert out("get", "task:1", "/state") == '"done"\n'
    assert out("get", "task:1", "/state", "--format", "raw") == "done"
    assert out("get", "task:1", "--at", "early") == '{"state":"waiting"}\n'
    assert out("get", "task:1", "--at", "live~3") == '{"state":"waiting"}\n'
    assert out("get", "nothing", "--default", "none") == '"none"\n'
    assert out("ls") == "other\ntask:1\n"
    assert out("ls", "task:*", "--at", "early") == "task:1\ntask:2\n"
    assert out("ls", "--prefix", "task", "--limit", "1") == "task:1\n"
    assert out("checkpoints") == "empty\nearly\n"
    rows = [json.loads(line) for line in out("checkpoints", "--format", "jsonl").splitlines()]
    assert [(row["name"], row["revision"], row["note"]) for row in rows] == [
        ("empty", 0, ""),
        ("early", 2, "two tasks"),
    ]
    entry = json.loads(out("entry", "other"))
    assert entry["value"] == "x"
    assert 0 < entry["ttl"] <= 1000
    log = [json.loads(line) for line in out("log", "--format", "jsonl").splitlines()]
    assert [row["revision"] for row in log] == [5, 4, 3, 2, 1]
    assert (log[4]["reason"], log[4]["author"], log[3]["checkpoints"]) == ("begin", "ann", "early")
    history = [json.loads(line) for line in out("history", "task:2", "--format", "jsonl").splitlines()]
    assert [row.get("value", "deleted" in row) for row in history] == [True, 2]
    assert json.loads(out("blame", "task:1", "/state"))["revision"] == 3
    assert out("diff", "early").splitlines()[0] == "3 keys differ: +1 added, -1 removed, ~1 changed"
    assert "~ /state" in out("diff", "early", "--keys", "task:*")
    assert out("diff", "early", "--summary").splitlines()[1:] == ["+ other", "~ task:1", "- task:2"]
    assert run("diff", "live", "live", "--exit-code")[1] == "no difference between live and live\n"
    out("diff", "early", "--exit-code", code=1)
    before = {"task:1": {"state": "waiting"}, "task:2": 2}
    patch = json.loads(out("diff", "early", "--patch"))
    assert jsonpatch.apply_patch(before, patch) == {"task:1": {"state": "done"}, "other": "x"}
    assert "dry run" in run("restore", "early", "--dry-run")[1]
    assert "stateview undo" in run("restore", "early", "--keys", "task:*")[1]
    assert {key: state.load(key) for key in state.list_keys()} == {**before, "other": "x"}
    assert "redo" in run("undo")[1]
    assert state.list_keys() == ["other", "task:1"]
    run("redo")
    assert state.list_keys() == ["other", "task:1", "task:2"]
    assert out("fork", "second", "--at", "early") == "second\n"
    assert out("namespaces") == "default\nsecond\n"
    assert out("-n", "second", "ls") == "task:1\ntask:2\n"
    assert out("diff", "early", "--with-namespace", "second", code=0) == ""
    run("checkpoint", "early", "--rename", "first")
    run("checkpoint", "first", "--delete")
    assert "first" not in state.list_checkpoints()
    assert "sound" in run("recover")[1]
    run("delete", "task:*", "--yes")
    assert state.list_keys() == ["other"]
    changes = out("watch", "--since", "empty", "--count", "1", "--timeout", "5")
    assert json.loads(changes) == {"key": "other", "kind": "added", "after": "x"}
    assert out("watch", "--timeout", "0.2") == ""


def test_a_moved_checkpoint_keeps_what_it_named() -> None:
    run("save", "k", "1")
    run("checkpoint", "cp")
    run("save", "k", "2")
    run("checkpoint", "cp")
    assert out("load", "k", "--at", "cp") == "2\n"
    assert out("checkpoints", "--all") == "cp@1\ncp\n"
    assert out("load", "k", "--at", "cp@1") == "1\n"


def test_global_options_stand_anywhere() -> None:
    run("--namespace", "ns", "save", "k", "1")
    assert out("load", "--namespace", "ns", "k") == out("load", "k", "-n", "ns") == out("-n=ns", "load", "k") == "1\n"
    assert out("load", "k", STATEVIEW_NAMESPACE="ns") == "1\n"
    run("load", "k", code=1)


@pytest.mark.parametrize("name", ["json", "jsonl", "raw", "table", "pretty"])
def test_every_format_prints_every_table(name: str, state: StateManager) -> None:
    state.save("k", ["x"])
    state.checkpoint("cp")
    for words in (["keys"], ["log"], ["checkpoints"], ["namespaces"], ["history", "k"]):
        printed = out(*words, "--format", name)
        if name == "json":
            assert isinstance(json.loads(printed), list)
        elif name == "jsonl":
            assert all(isinstance(json.loads(line), dict) for line in printed.splitlines())
        assert printed.endswith("\n")
    assert json.loads(out("keys", "nothing", "--format", "json")) == []


# --- settings ------------------------------------------------------------------------------------------------------


def test_stateview_toml_names_stores_and_keeps_its_comments(folder: Path) -> None:
    (folder / "stateview.toml").write_text(
        '# mine\n[stores.prod]\nurl = "redis://:${PASSWORD_OF_TEST}@127.0.0.1:1/0"  # far\n'
        '[stores.here]\nurl = "sqlite:db"\n'
    )
    run("init", "here", "flow")
    text = (folder / "stateview.toml").read_text()
    assert "# mine" in text
    assert "# far" in text
    (folder / "below").mkdir()
    os.chdir(folder / "below")
    run("save", "k", "1")
    assert (folder / "db" / "flow" / "state.db").exists()
    assert out("-s", "here", "-n", "flow", "load", "k") == "1\n"
    assert "PASSWORD_OF_TEST, which stateview.toml names, is not set" in err("-s", "prod", "load", "k", code=2)
    said = err("-s", "prod", "load", "k", code=3, PASSWORD_OF_TEST="hunter2")
    assert "redis://:***@127.0.0.1:1/0" in said
    assert "hunter2" not in said


def test_a_named_store_may_be_read_only_and_have_a_namespace(folder: Path) -> None:
    text = '[stores.lab]\nurl = "json:lab"\nnamespace = "build"\n'
    (folder / "stateview.toml").write_text(text)
    run("-s", "lab", "save", "k", "1")
    assert out("-s", "json:lab", "-n", "build", "load", "k") == "1\n"
    (folder / "stateview.toml").write_text(text + "read_only = true\n")
    assert "reading only" in err("-s", "lab", "save", "k", "2", code=3)
    (folder / "stateview.toml").write_text(text + "readonly = true\n")
    assert "'readonly' in [stores.lab] is not known" in err("-s", "lab", "save", "k", "2", code=2)
    (folder / "stateview.toml").write_text('stor = "json"\n')
    assert "'stor' is not known" in err("load", "k", code=2)


def test_init_changes_nothing_unasked(folder: Path) -> None:
    run("init", "sqlite", "flow")
    assert "says: sqlite, namespace flow" in run("init")[1]
    assert "before: sqlite, namespace flow" in run("init", "json", "other")[1]
    assert "--read-only" in err("--read-only", "init", "sqlite", code=3)
    assert json.loads(out("init", "--format", "json"))["namespace"] == "other"


def test_no_match_is_not_no_difference(state: StateManager) -> None:
    state.save("k", 1)
    state.checkpoint("cp")
    state.save("k", 2)
    state.save("same", 1)
    state.checkpoint("later")
    state.save("k", 3)
    alone = "no key matches 'zzz*' in either state\n"
    assert run("diff", "cp", "--keys", "zzz*") == ("", alone)
    assert run("restore", "cp", "--keys", "zzz*", "--dry-run") == ("", alone)
    assert run("restore", "cp", "--keys", "zzz*") == ("", alone)
    other = ("restore", "live", "--keys", "zzz*", "--from-namespace", "other")
    with state.fork("other"):
        assert run(*other)[1] == alone
    assert run("diff", "later", "--keys", "s*")[1] == "no difference between later and live in these keys\n"
    some = "live already equals later in these keys; nothing to restore\n"
    assert run("restore", "later", "--keys", "same")[1] == some
    assert run("restore", "later", "-k", "same", "-k", "zzz*")[1] == f"{alone[:-1]}; {some}"
    state.restore_checkpoint("later")
    assert run("diff", "later")[1] == "no difference between later and live\n"


def test_blame_sees_through_undo_and_redo(state: StateManager) -> None:
    for limit in (1, 2, 3):
        state.save("job", {"limit": limit}, reason=f"limit {limit}")
    state.undo()
    assert state.blame("job", "/limit").reason == "limit 2"
    state.redo()
    assert state.blame("job", "/limit").reason == "limit 3"


def test_a_broken_stateview_toml_is_named(folder: Path) -> None:
    (folder / "stateview.toml").write_text("store = [")
    assert "stateview.toml is not valid TOML" in err("load", "k", code=2)
    assert "not valid TOML" in err("init", "json", code=2)
    assert (folder / "stateview.toml").read_text() == "store = ["
    (folder / "stateview.toml").write_text("store = 5\n")
    assert "'store' must be a string" in err("load", "k", code=2)


def test_stateview_toml_sets_up_the_dashboard(folder: Path) -> None:
    from stateview.settings import find

    assert (find().redact(), find().mask_secrets(), find().theme(), find().keys()) == ((), True, None, {})
    (folder / "stateview.toml").write_text(
        'redact = ["*token*", "secret:*"]\nmask_secrets = false\ntheme = "nord"\n'
        '[keys]\napp.quit = "q"\n"main.restore" = ["r", "f5"]\nundo = []\n'
    )
    found = find()
    assert (found.redact(), found.mask_secrets(), found.theme()) == (("*token*", "secret:*"), False, "nord")
    assert found.keys() == {"app.quit": ("q",), "main.restore": ("r", "f5"), "undo": ()}
    run("save", "k", "1")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('redact = "*token*"', "'redact' must be a list of strings"),
        ("redact = [1]", "'redact' must be a list of strings"),
        ("mask_secrets = 0", "'mask_secrets' must be true or false"),
        ("theme = 1", "'theme' must be a string"),
        ('keys = "q"', "'keys' must be a table"),
        ("[keys]\nquit = 1", "'quit' in [keys] must be a string or a list of strings"),
        ("[keys]\napp.quit = 1", "'app.quit' in [keys] must be a string or a list of strings"),
        ('[keys]\nquit = ["q", 1]', "'quit' in [keys] must be a string or a list of strings"),
        ('themes = "nord"', "'themes' is not known"),
    ],
)
def test_what_stateview_toml_may_not_say_of_the_dashboard(folder: Path, text: str, said: str) -> None:
    (folder / "stateview.toml").write_text(text)
    assert said in err("load", "k", code=2)


# --- a terminal, and hostile data ----------------------------------------------------------------------------------


def at_terminal(words: list[str], typed: bytes = b"", **environment: str) -> tuple[int, str]:
    """Run in a pty; type when a question is asked."""
    child, terminal = pty.fork()
    if child == 0:
        os.environ.update({"TERM": "xterm", **environment})
        os.execv(sys.executable, [*COMMAND, *words])
    seen = b""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if select.select([terminal], [], [], 0.1)[0]:
            try:
                data = os.read(terminal, 65536)
            except OSError:
                break
            if not data:
                break
            seen += data
            if typed and seen.rstrip().endswith(b"[y/N]"):
                os.write(terminal, typed)
                typed = b""
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), seen.decode()


def test_restore_at_a_terminal_shows_asks_and_obeys(state: StateManager) -> None:
    state.save("k", 1)
    state.checkpoint("cp")
    state.save("k", 2)
    code, seen = at_terminal(["restore", "cp"], b"n\n")
    assert code == 5
    assert "2 → 1" in seen
    assert "restore cp: 1 key (1 changed)? [y/N]" in seen
    assert state.load("k") == 2
    code, seen = at_terminal(["restore", "cp"], b"y\n")
    assert (code, state.load("k")) == (0, 1)
    assert "takes it back" in seen
    code, seen = at_terminal(["restore", "cp"])
    assert "nothing to restore" in seen


def test_revert_at_a_terminal_shows_asks_and_obeys(state: StateManager) -> None:
    state.save("k", 1)
    state.save("k", 2)
    state.save("other", 1)
    code, seen = at_terminal(["revert", "--commit", "2"], b"n\n")
    assert (code, state.load("k")) == (5, 2)
    assert "2 → 1" in seen and "revert commit 2: 1 key (1 changed)? [y/N]" in seen
    code, seen = at_terminal(["revert", "--commit", "live~1"], b"y\n")
    assert (code, state.load("k")) == (0, 1) and "takes it back" in seen
    code, seen = at_terminal(["revert", "--commit", "2"])
    assert code == 0 and "nothing to revert" in seen and "[y/N]" not in seen
    state.save("k", 3)
    code, seen = at_terminal(["revert", "--commit", "2"])
    assert code == 4 and "'k' (revision 5)" in seen and "[y/N]" not in seen


@pytest.mark.parametrize("words", [[], ["-n", "default"], ["ui", "json"]])
def test_at_a_terminal_no_command_is_the_dashboard(state: StateManager, words: list[str]) -> None:
    state.save("some:key", 1)
    terminal = Terminal(*words)
    try:
        terminal.until("some:key")
        terminal.type("q")
        assert terminal.end() == 0
    finally:
        terminal.kill()


def test_without_a_terminal_no_command_is_an_error() -> None:
    assert "no command was given" in err(code=2)
    assert "needs a terminal" in err("dashboard", code=2)


def test_a_terminal_without_a_cursor_gets_lines(state: StateManager) -> None:
    state.save("some:key", 1)
    for words in ([], ["dashboard"]):
        terminal = Terminal(*words, TERM="dumb")
        assert terminal.end() == 2
        assert b"needs a terminal that can move its cursor, and TERM is dumb" in terminal.raw
        assert b"\x1b" not in terminal.raw
    terminal = Terminal("shell", TERM="unknown")
    terminal.until("default@1>")
    terminal.type("load some:key\r")
    terminal.until(lambda text: "\n1\n" in text and text.count("default@1>") == 2)
    terminal.type("\x03")
    terminal.until(lambda text: text.count("default@1>") == 3)
    terminal.type("save n [1,\r2]\r")
    terminal.until("default@2>")
    terminal.type("\x04")
    assert terminal.end() == 0 and state.load("n") == [1, 2]
    assert b"\x1b" not in terminal.raw


def test_tables_are_aligned_in_every_terminal(state: StateManager) -> None:
    """The first counts an emoji by its variation selector, as new terminals do; the last does not, as older ones."""
    keys = [
        "plain",
        "\u26a0\ufe0f alert",
        "\u26a0x",
        "\u2764\ufe0f",
        "1\ufe0f\u20e3 key",
        "\u8868" * 3,
        "e\u0301",
        "\u231a\ufe0e",
    ]
    for key in keys:
        state.save(key, 1)
    table = out("keys", "--format", "table").splitlines()
    assert len(table) == len(keys) + 1
    for columns_of in (cell_len, wcwidth.wcswidth, lambda text: sum(map(wcwidth.wcwidth, text))):
        columns = [columns_of(row[: re.search(r"  (revision|\d+ )", row).start(1)]) for row in table]
        assert len(set(columns)) == 1, table


def test_a_cell_that_is_cut_says_so_also_where_marks_take_no_column(state: StateManager) -> None:
    marks = "e\u0301" * 40
    for key in ("x" * 60, "x" * 61, marks, marks + "1", marks + "2"):
        state.save(key, 1)
    cells = [line.split()[0] for line in out("keys", "--format", "table").splitlines()[1:]]
    assert [cell.endswith("…") for cell in cells] == [True, True, True, False, True]
    assert max(map(cell_len, cells)) == 60


def test_the_dashboard_opens_from_the_shell_and_comes_back(state: StateManager) -> None:
    state.save("some:key", 1)
    terminal = Terminal("shell")
    try:
        terminal.until("default@1>")
        terminal.type("serve\n")
        terminal.until("needs a terminal of its own")
        terminal.type("dashboard\n")
        terminal.until("some:key")
        terminal.type("q")
        terminal.until(lambda text: text.rstrip().endswith("default@1>"))
        terminal.type("keys\n")
        terminal.until("\nsome:key")
        terminal.type("exit\n")
        assert terminal.end() == 0
    finally:
        terminal.kill()


def test_a_terminal_sees_hostile_data_as_symbols(state: StateManager) -> None:
    state.save(HOSTILE, {HOSTILE: HOSTILE})
    state.checkpoint("cp")
    state.save(HOSTILE, [HOSTILE])
    for words in (["keys"], ["log"], ["entry", HOSTILE], ["load", HOSTILE], ["diff", "cp"], ["history", HOSTILE]):
        code, seen = at_terminal(words, NO_COLOR="1")
        assert code == 0
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", seen.replace("\r\n", "\n")), words
        assert "[/c]" in seen
    code, seen = at_terminal(["load", "missing" + HOSTILE])
    assert (code, "\x1b" in seen, "\u202e" in seen) == (1, False, False)


def test_colours_only_where_they_are_wanted(state: StateManager) -> None:
    state.save("k", 1)
    assert "\033[32m" in at_terminal(["diff", "0"])[1]
    assert "\033[" not in at_terminal(["diff", "0"], NO_COLOR="1")[1]
    assert "\033[" not in at_terminal(["diff", "0"], TERM="dumb")[1]
    assert "\033[" not in out("diff", "0")


def test_pretty_at_a_terminal_and_compact_in_a_pipe(state: StateManager) -> None:
    state.save("k", {"a": [1]})
    assert at_terminal(["load", "k"])[1].replace("\r", "") == '{\n  "a": [\n    1\n  ]\n}\n'
    assert out("load", "k") == '{"a":[1]}\n'


def test_output_is_utf8_in_any_locale(state: StateManager) -> None:
    state.save("ü→", "ä")
    assert out("load", "ü→", LC_ALL="C", PYTHONIOENCODING="ascii") == '"ä"\n'


@pytest.mark.parametrize("every", [9, *stressed(1)])
def test_version_and_help(every: int, capfd: pytest.CaptureFixture[str]) -> None:
    def here(*words: str) -> str:
        assert main(list(words)) == 0
        return capfd.readouterr().out

    show = out if every > 1 else here  # two processes for each command would say what those for every ninth say
    assert re.fullmatch(r"stateview \d+\.\d+\.\d+\n", out("--version"))
    listed = out("help")
    for number, command in enumerate(COMMANDS):
        if not command.hidden:
            assert command.help in listed
            if number % every:
                continue
            text = show("help", command.name)
            assert text == show(command.name, "--help")
            assert all(example in text for example in command.examples)


def test_help_lists_each_command_under_the_heading_of_its_group() -> None:
    assert {command.group for command in COMMANDS} == set(GROUPS)
    assert all(command.shell == (command.group == SHELL) for command in COMMANDS)
    heading, found = "", {}
    for line in out("help").splitlines():
        heading = line.removesuffix(":") if line.endswith(":") else heading
        if heading in GROUPS and line.startswith("  "):
            found[line.split()[0]] = heading
    assert found == {command.name: command.group for command in COMMANDS if not command.hidden}


def test_each_command_has_an_example_and_a_handler() -> None:
    from stateview.cli.program import load_handler

    for command in COMMANDS:
        assert callable(load_handler(command))
        assert command.hidden or command.examples, command.name


def test_the_next_step_is_for_the_store_that_was_named(folder: Path) -> None:
    run("-s", "sqlite:bad", "-n", "w-f", "save", "k", "1")
    Path("bad/w-f/state.db").write_bytes(b"rubbish" * 1000)
    for name in Path("bad/w-f").glob("state.db-*"):
        name.unlink()
    assert "'stateview -s sqlite:bad -n w-f recover'" in run("load", "k", "-s", "sqlite:bad", "-n", "w-f", code=3)[1]
