"""Scripts through real processes: what is printed, each exit code, each error line."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from forked import forked

from stateview import StateManager

SHELL = [sys.executable, "-m", "stateview", "shell"]


pytestmark = pytest.mark.usefixtures("folder")


@pytest.fixture
def state() -> Iterator[StateManager]:
    with StateManager("json", "default") as manager:
        yield manager


def run(text: str, *words: str, code: int = 0) -> tuple[str, str]:
    done = forked("shell", *words, stdin=text)
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return done.stdout, done.stderr


def test_a_script_from_standard_input(state: StateManager) -> None:
    out, err = run('save job {"a": [1, 2],\n "b": "x | y"}\n\n# comment\nload job /b\nload job | cat\nkeys\n')
    assert out == '"x | y"\n{"a":[1,2],"b":"x | y"}\njob\n'
    assert err.splitlines()[-1] == 'saved job = {"a":[1,2],"b":"x | y"} (object), revision 1'
    assert ">" not in err  # no prompt where stdin is no terminal


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("load nothing", 1, "s.sv:3: load: there is no key 'nothing'"),
        ("diff 0 nowhere", 1, "s.sv:3: diff: there is no checkpoint 'nowhere'"),
        ("diff 0 --exit-code", 1, ""),
        ("assert k == 2", 1, "s.sv:3: assert: assertion failed: k == 2; the value is 1"),
        ("assert nothing exists", 1, "the value is missing"),
        ("assert live == 0", 1, "live and 0 differ; 'diff 0 live' shows how"),
        ("wait k == 2 --timeout 0.1", 1, "s.sv:3: wait: waited 0.1 s"),
        ("bisect k == 5", 1, "is false at revision 1"),
        ("lod k", 2, "s.sv:3: lod: there is no command 'lod'. Did you mean load"),
        ("save k {bad}", 2, "s.sv:3: save: not valid JSON"),
        ("save k", 2, "VALUE is missing"),
        ("commit", 2, "no transaction is open"),
        ("find '[' --regex", 2, "not a regular expression"),
        ("find --jsonpath '$['", 2, "not a JSONPath"),
        ("assert k ~ 5", 2, "Choose one of =="),
        ("shell", 2, "the shell is already open"),
        ("begin -n other", 2, "begin takes no --namespace"),
        ("option format xml", 2, "Choose one of auto"),
        ("source nowhere.sv", 3, "nowhere.sv"),
        ("save k 1 --read-only", 3, "reading only"),
        ("load k | false", 3, "s.sv:3: load: 'false' ended with exit code 1"),
        ("! exit 7", 3, "ended with exit code 7"),
        ("load k > /nowhere/x", 3, "/nowhere/x"),
        ("connect redis://:hunter2@127.0.0.1:1", 3, "redis://:***@127.0.0.1:1"),
        ("save k 1 --expected 9", 4, "not at revision 9"),
        ("delete k*", 5, "--yes"),
    ],
)
def test_errors_name_file_and_line_and_stop(line: str, code: int, said: str, state: StateManager, folder: Path) -> None:
    (folder / "s.sv").write_text(f"save k 1\n\n{line}\nsave never 1\n")
    _, err = run("", "-f", "s.sv", code=code)
    assert said in err
    assert "hunter2" not in err
    assert "never" not in state
    assert state.load("k") == 1


def test_keep_going_still_fails_with_the_first_code(state: StateManager) -> None:
    _, err = run("load nothing\nlod\nsave after 1\n", "--keep-going", code=1)
    assert "<stdin>:1: load" in err
    assert "<stdin>:2: lod" in err
    assert state.load("after") == 1


def test_lines_by_c_and_exit(state: StateManager) -> None:
    out, _ = run("", "-c", "save k 1", "-c", "load k", "-c", "exit", "-c", "load nothing")
    assert out == "1\n"


def test_a_script_is_run_as_it_comes(state: StateManager) -> None:
    child = subprocess.Popen(SHELL, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdin is not None
    assert child.stdout is not None
    for number in range(3):
        child.stdin.write(f"save k {number}\nload k\n")
        child.stdin.flush()
        assert child.stdout.readline() == f"{number}\n"
    child.stdin.close()
    assert child.wait() == 0


def test_transactions(state: StateManager) -> None:
    out, err = run("begin\nsave a 1\nsave b 2\nload a\nkeys\ndelete a\ncommit --reason both\nkeys\n")
    assert out == "1\na\nb\nb\n"
    assert "committed 2 keys, revision 1" in err
    assert state.log()[0].reason == "both"
    run("begin\nsave c 3\nrollback\n")
    assert "cannot run inside a transaction" in run("begin\nrestore 0\n", code=2)[1]
    _, err = run("begin\nsave d 4\n", code=2)
    assert "a transaction was left open and is rolled back" in err
    assert state.list_keys() == ["b"]


def test_diff_log_and_history_show_the_writes_of_the_open_transaction(state: StateManager) -> None:
    for key in ("a", "b", "c"):
        state.save(key, 1)
    state.checkpoint("cp")
    state.save("c", 2)
    script = """begin
diff
log --limit 1
save a 5
delete b
save new {"x": 1}
diff
diff --summary --keys a --keys n*
diff cp --format jsonl
diff cp live
log --limit 2
log --key c --limit 1
log --by nobody
history a
history new --format jsonl
history b --limit 1
diff --keys nope
"""
    out, err = run(script, code=1)
    assert "the transaction changes nothing\n" in err and "key 'nope' is in neither" in err
    lines = [line.replace("\t", " ") for line in out.splitlines()]
    assert lines[0].startswith("4 ")
    assert lines[1:5] == ["3 keys differ: +1 added, -1 removed, ~1 changed", "~ a  1 → 5", "- b  1", '+ new  {"x":1}']
    assert lines[5:8] == ["2 keys differ: +1 added, ~1 changed", "~ a", "+ new"]
    assert [json.loads(line)["key"] for line in lines[8:12]] == ["a", "b", "c", "new"]
    assert lines[12:14] == ["1 key differs: ~1 changed", "~ c  1 → 2"]
    assert lines[14].startswith("0 ") and lines[14].endswith(" 3  (open transaction, not committed)")
    assert lines[15].startswith("4 ") and lines[16].startswith("4 ")
    assert lines[17].startswith("0 ") and " 5  (open transaction" in lines[17] and lines[18].startswith("1 ")
    assert json.loads(lines[19])["value"] == {"x": 1}
    assert "(deleted)" in lines[20]
    run("begin\nsave a 5\ndiff --exit-code\n", code=1)
    assert "takes no --with-namespace inside" in run("begin\ndiff cp --with-namespace x\n", code=2)[1]
    assert "BEFORE is missing" in run("diff\n", code=2)[1]
    run(f"begin\nsave b 2\ndiff cp\n! {sys.executable} -m stateview save c 9\ncommit\n")
    assert (state.load("b"), state.load("c")) == (2, 9), "what a diff compares is no read that could conflict"


def test_a_transaction_that_raced_is_a_conflict(state: StateManager, folder: Path) -> None:
    state.save("n", 1)
    line = f"{sys.executable} -m stateview save n 5"
    _, err = run(f"begin\nload n\n! {line}\nsave n 2\ncommit\n", code=4)
    assert "not at revision 1" in err
    assert state.load("n") == 5


def test_pipes_and_redirects_carry_raw_json_at_full_width(state: StateManager, folder: Path) -> None:
    state.save("wide", ["x" * 5000])
    out, _ = run("load wide | wc -c\nload wide > out.json\nkeys >> out.json\n")
    assert out.strip() == "5005"
    assert (folder / "out.json").read_text() == '["' + "x" * 5000 + '"]\nwide\n'


def test_children_do_not_eat_the_script(state: StateManager) -> None:
    out, _ = run("! cat\nsave k 1\nload k | cat; cat\nload k\n")
    assert out == "1\n1\n"


def test_a_pipe_that_has_enough_is_no_error(state: StateManager) -> None:
    with state.transaction() as transaction:
        for number in range(20_000):
            transaction.save(f"key:{number:06}", number)
    out, err = run("keys | head -n 1\n")
    assert (out, err) == ("key:000000\n", "")


def test_use_connect_alias_option_source(state: StateManager, folder: Path) -> None:
    (folder / "inner.sv").write_text("save inner 1\nd 0 --summary\n")
    (folder / "loop.sv").write_text("source loop.sv\n")
    out, _ = run(
        "alias d diff\nsource inner.sv\nuse other\nsave x 1\nkeys\n"
        "connect sqlite:db\nsave y 2\nkeys\noption format json\nkeys\n"
    )
    assert out.startswith("1 key differs: +1 added\n+ inner\nx\ny\n[")
    assert json.loads(out[out.index("[") :])[0]["key"] == "y"
    assert state.list_keys() == ["inner"]
    assert "sourced 16 deep" in run("source loop.sv\n", code=2)[1]
    assert "inner.sv:2: load" in run_nested(folder)


def run_nested(folder: Path) -> str:
    (folder / "inner.sv").write_text("save inner 1\nload nothing\n")
    return run("source inner.sv\nsave after 1\n", code=1)[1]


def test_find_assert_wait_bisect(state: StateManager) -> None:
    for tries in range(1, 40):
        state.save("job", {"tries": tries, "state": "failed" if tries > 22 else "running", "tags": ["a"]})
    state.checkpoint("cp")
    script = """assert job /tries >= 39
assert job /state matches ^fail
assert job /tags contains "a"
assert job /nothing missing
assert live == cp
assert live != 5
wait job /tries == 39
bisect job /state == failed --format json
find failed
find --jsonpath $.tags[*]
find 'j*' --in keys | wc -l
"""
    out, _ = run(script)
    lines = out.splitlines()
    found = json.loads(lines[0])
    assert found["revision"] == 23
    assert found["reads"] <= 9  # O(log n) of 39 revisions
    assert lines[1:3] == ['job\t/state\t"failed"', 'job\t/tags/0\t"a"']
    assert lines[3].strip() == "1"


def test_wait_is_woken_by_another_process(state: StateManager) -> None:
    child = subprocess.Popen([*SHELL, "-c", "wait k == 7 --timeout 20"], stderr=subprocess.PIPE, text=True)
    time.sleep(0.5)
    state.save("k", 7)
    _, err = child.communicate(timeout=20)
    assert (child.returncode, err) == (0, "k == 7, revision 1\n")


def test_read_only_and_yes_hold_for_every_line(state: StateManager) -> None:
    state.save("k", 1)
    assert "reading only" in run("save k 2\n", "--read-only", code=3)[1]
    run("delete k*\n", "--yes")
    assert "k" not in state
    run("save a 1\ndelete a* --yes\n")
    assert "a" not in state


def test_rubbish_is_refused_without_a_traceback() -> None:
    chance = random.Random(8)
    rubbish = bytes(byte for byte in chance.randbytes(9000) if byte not in b"!|>")  # which run and write
    for given in (rubbish + b"\n\xff\xfe\n", b"!true\0\n", b"keys | cat\0\n", b"keys > a\0b\n", b"load a\0b\n"):
        done = subprocess.run([*SHELL, "--keep-going"], input=given, capture_output=True, check=False)
        assert done.returncode == 2
        assert b"Traceback" not in done.stderr
        assert b"\x1b" not in done.stderr


def test_the_cli_has_what_makes_sense_there(state: StateManager) -> None:
    state.save("k", {"a": 1})
    words = [["find", "k"], ["assert", "k", "/a", "==", "1"], ["wait", "k", "exists"], ["bisect", "k", "exists"]]
    for one in words:
        assert forked(*one).returncode == 0, one
    refused = forked("use", "x")
    assert (refused.returncode, "command of the shell" in refused.stderr) == (2, True)
