"""`stateview key`: keys through real processes, pipes and terminals. A key is printed before it opens anything."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from terminal import Terminal

from stateview import InvalidArgument, KeyMissing, KeyWrong, ReadOnly, Sealed, StateManager
from stateview.cli.completion import candidates
from stateview.cli.context import Context
from stateview.cli.exit_codes import exit_code
from stateview.sealing.keys import DEFAULT_N, UserKey

Run = Callable[..., tuple[int, str, str]]

pytestmark = pytest.mark.usefixtures("folder")
COMMAND = [sys.executable, "-m", "stateview"]
KEY, OTHER = UserKey.generate().printed(), UserKey.generate().printed()
WORDS = "passphrase:correct horse battery"


@pytest.fixture
def kind() -> str:
    return "sqlite"


both_kinds = pytest.mark.parametrize("kind", ["json", "sqlite"])


@pytest.fixture
def sealed(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An encrypted namespace. The key in use is that of the environment."""
    monkeypatch.setenv("STATEVIEW_STORE", kind)
    monkeypatch.setenv("STATEVIEW_KEY", KEY)
    with StateManager() as state:
        state.save("k", "unmistakable")


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plain namespace, and a key."""
    monkeypatch.setenv("STATEVIEW_STORE", "sqlite")
    with StateManager() as state:
        state.save("k", "unmistakable")
    monkeypatch.setenv("STATEVIEW_KEY", KEY)


def loads(key: str | None) -> object:
    """The value with a key; or the class of the error."""
    environment = {name: text for name, text in os.environ.items() if name != "STATEVIEW_KEY"}
    if key is not None:
        environment["STATEVIEW_KEY"] = key
    former = dict(os.environ)
    os.environ.clear()
    os.environ.update(environment)
    try:
        with StateManager() as state:
            return state.load("k")
    except Sealed as error:
        return type(error)
    finally:
        os.environ.clear()
        os.environ.update(former)


def labels() -> list[str]:
    with StateManager() as state:
        return [key.label for key in state.encryption.status().keys]


def test_a_new_key_is_all_that_is_printed_and_no_store_is_touched(run: Run, folder: Path) -> None:
    code, out, err = run("key", "new")
    assert code == 0
    assert UserKey.parse(out).printed() + "\n" == out
    assert "STATEVIEW_KEY" in err
    assert out.strip() not in err
    assert os.listdir(folder) == []


@both_kinds
def test_the_status_needs_no_key(run: Run, sealed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def status() -> dict[str, object]:
        code, out, _ = run("key", "status", "--format", "json")
        assert code == 0
        data: dict[str, object] = json.loads(out)
        return data

    (key,) = status()["keys"]  # type: ignore[misc]
    assert (key["label"], key["kind"]) == ("first", "random")
    assert (status()["state"], status()["opens"], status()["in_use"]) == ("sealed", True, key["id"])
    assert "in use" in run("key", "status", "--format", "pretty")[1]
    monkeypatch.setenv("STATEVIEW_KEY", OTHER)
    assert status()["opens"] is False
    assert "none of these" in run("key", "status", "--format", "pretty")[1]
    monkeypatch.delenv("STATEVIEW_KEY")
    assert status()["opens"] is None
    assert candidates(["key", "remove", "f"])[0][0] == "first"


def test_a_plain_namespace_says_so(run: Run, plain: None) -> None:
    assert json.loads(run("key", "status", "--format", "json")[1])["state"] == "plain"
    assert "nothing is encrypted" in run("key", "status", "--format", "pretty")[1]
    for act in ("add", "rotate", "off"):
        code, out, err = run("key", act)
        assert (code, out) == (2, ""), act
        assert "is not encrypted. See 'stateview key on'" in err
    assert run("save", "k", "2")[0] == 2  # a write with a key would be plain


@both_kinds
def test_an_added_key_opens_the_namespace_until_it_is_removed(run: Run, sealed: None) -> None:
    code, added, err = run("key", "add", "--label", "laptop")
    assert (code, added.strip() in err) == (0, False)
    assert loads(added) == "unmistakable"
    assert run("key", "add")[0] == 0
    assert labels() == ["first", "laptop", "key-3"]
    assert run("key", "add", "--label", "laptop")[0] == 2
    assert run("key", "remove", "laptop")[0] == 0
    assert loads(added) is KeyWrong
    assert run("key", "remove", "key-3")[0] == 0
    code, _, err = run("key", "remove", "first")
    assert code == 2
    assert "last key" in err
    assert loads(KEY) == "unmistakable"


def test_the_key_in_use_is_removed_only_with_a_yes(run: Run, sealed: None) -> None:
    _, added, _ = run("key", "add")
    assert run("key", "remove", "first")[0] == 5
    assert run("key", "remove", "first", "--yes")[0] == 0
    assert (loads(KEY), loads(added)) == (KeyWrong, "unmistakable")


def test_a_key_is_read_from_a_file_and_from_standard_input(run: Run, sealed: None, folder: Path) -> None:
    (folder / "key.txt").write_text(f"\n {OTHER.upper()} \n")
    code, out, err = run("key", "add", "--key-file", "key.txt", "--label", "file")
    assert (code, out, OTHER in err) == (0, "", False)
    third = UserKey.generate().printed()
    done = subprocess.run(
        [*COMMAND, "key", "add", "--key-file", "-"], input=third + "\n", capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert (loads(OTHER), loads(third)) == ("unmistakable", "unmistakable")


def test_what_is_no_key_is_refused_and_not_shown(run: Run, sealed: None, folder: Path) -> None:
    for text in (KEY[:-1], "secret words", "passphrase:no", f"{KEY}\n{OTHER}", "", "\xff"):
        (folder / "key.txt").write_bytes(text.encode("latin-1"))
        code, out, err = run("key", "add", "--key-file", "key.txt")
        assert (code, out) == (2, ""), err
        assert not any(line in err for line in text.split("\n") if line)
    assert run("key", "add", "--key-file", "missing")[0] == 2
    for line in (["key", "add", OTHER], ["key", "remove", WORDS], ["key", f"--label={OTHER}"], [OTHER]):
        code, out, err = run(*line)
        assert (code, out) == (2, "")
        assert "a key is never an argument" in err
        assert OTHER not in err
        assert WORDS not in err
    assert labels() == ["first"]


@both_kinds
def test_a_rotated_key_takes_the_place_of_the_key_in_use(run: Run, sealed: None) -> None:
    code, new, err = run("key", "rotate")
    assert code == 0
    assert "Set STATEVIEW_KEY" in err
    assert (loads(KEY), loads(new), labels()) == (KeyWrong, "unmistakable", ["first"])


def test_a_key_that_cannot_be_printed_opens_nothing(sealed: None) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    for act, redirection in (("add", ">&-"), ("rotate", ">/dev/full"), ("rotate", f">&{writer}")):
        script = f"{sys.executable} -m stateview key {act} {redirection}"
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, pass_fds=[writer], check=False)
        assert done.returncode == 3, (redirection, done.stderr)
        assert "was not printed. Nothing was changed" in done.stderr
    os.close(writer)
    assert (loads(KEY), labels()) == ("unmistakable", ["first"])


@both_kinds
def test_two_who_add_a_key_at_once_both_succeed(sealed: None) -> None:
    both = [subprocess.Popen([*COMMAND, "key", "add"], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    printed = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert [loads(key) for key in printed] == ["unmistakable"] * 2
    assert sorted(labels()) == ["first", "key-2", "key-3"]


@pytest.mark.parametrize("act", [["add"], ["rotate"], ["remove", "first"], ["off", "-y"], ["rotate", "--data"]])
def test_a_change_needs_a_key_that_opens(
    run: Run, sealed: None, act: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for key, said in ((None, "Set STATEVIEW_KEY"), (OTHER, "none of the keys")):
        monkeypatch.delenv("STATEVIEW_KEY") if key is None else monkeypatch.setenv("STATEVIEW_KEY", key)
        code, out, err = run("key", *act)
        assert (code, out) == (3, "")
        assert said in err
        assert OTHER not in err
    monkeypatch.setenv("STATEVIEW_KEY", KEY)
    code, out, err = run("key", *act, "--read-only")
    assert (code, out) == (3, "")
    assert "reading only" in err
    code, out, err = run("key", *act, "-n", "missing")
    assert (code, out) == (1, "")
    assert labels() == ["first"]


def test_options_that_an_act_would_ignore_are_refused(run: Run, sealed: None) -> None:
    for line in (
        "new --label x", "status first", "on --key-file f", "off --data", "add --data", "remove", "remove first --data",
        "rotate --label x", "rotate --data --passphrase", "add --passphrase --key-file f", "add --author me", "", "neu",
    ):  # fmt: skip
        assert run("key", *line.split())[0] == 2, line
    assert run("key", "add", "--passphrase")[0] == 2  # there is no terminal to ask at


def test_without_the_package_each_command_says_what_to_install(sealed: None, folder: Path) -> None:
    (folder / "none" / "cryptography").mkdir(parents=True)
    (folder / "none" / "cryptography" / "__init__.py").write_text("raise ImportError('it is not installed')")
    environment = {**os.environ, "PYTHONPATH": f"{folder / 'none'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    for line in ("load k", "key add"):
        done = subprocess.run([*COMMAND, *line.split()], env=environment, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (3, "", 1), line
        assert "pip install 'stateview[encryption]'" in done.stderr
    assert labels() == ["first"]


def test_completion_knows_the_acts_and_their_options(sealed: None) -> None:
    acts = [text for text, _ in candidates(["key", ""])]
    assert acts == ["new", "status", "on", "off", "add", "remove", "rotate"]
    options = {text for text, _ in candidates(["key", "rotate", "--"])}
    assert {"--data", "--key-file", "--passphrase", "--store"} <= options
    assert options.isdisjoint({"--label", "--name", "--act", "--author"})
    assert "--data" not in {text for text, _ in candidates(["key", "add", "--"])}
    context = Context({})
    try:
        assert [text for text, _ in candidates(["key", "remove", ""], context)] == ["first"]
        assert candidates(["key", "add", ""], context) == []
    finally:
        context.close()


# --- in the shell ----------------------------------------------------------------------------------------------------


def test_a_passphrase_is_asked_for_without_echo(sealed: None, folder: Path) -> None:
    environment = {"STATEVIEW_KEY": KEY, "XDG_STATE_HOME": str(folder), "STATEVIEW_STORE": "sqlite"}
    terminal = Terminal("shell", **environment)
    try:
        terminal.until("default@1>")
        terminal.type("key add --passphrase --label words\r")
        for question in ("New passphrase:", "The same again:"):
            terminal.until(question)
            terminal.type(WORDS.removeprefix("passphrase:") + "\r")
        terminal.until("'words'")
        terminal.type("key rem")
        terminal.type("\t")
        terminal.until("key remove")
        terminal.type(" wo\t")
        terminal.until("key remove words")
        terminal.type("\x15key add --key-file -\r")
        terminal.until("Key:")
        terminal.type(OTHER + "\r")
        terminal.until("'key-3'")
        terminal.type(f"key add {OTHER}\r")
        terminal.until("never an argument")
        terminal.type("exit\r")
        assert terminal.end() == 0
    finally:
        terminal.kill()
    assert b"correct" not in terminal.raw
    history = (folder / "stateview" / "history").read_text()
    assert history == ""  # no line is kept while the namespace is encrypted
    assert labels() == ["first", "words", "key-3"]
    assert loads(OTHER) == "unmistakable"
    with StateManager() as state:  # to derive a key from the words once more would take half a second
        assert [key.kind for key in state.encryption.status().keys] == ["random", "passphrase", "random"]


def test_a_script_of_the_shell_goes_on_with_the_new_key(run: Run, sealed: None, folder: Path) -> None:
    code, out, _ = run("shell", "-c", "key rotate > new.txt", "-c", "load k", "-c", "save k 2", "-c", "key add")
    assert code == 0
    assert out.startswith('"unmistakable"\nsvk1-')
    new = (folder / "new.txt").read_text()
    assert (loads(KEY), loads(new), loads(out.split()[-1])) == (KeyWrong, 2, 2)
    os.environ["STATEVIEW_KEY"] = new.strip()
    for broken in ("key add > missing/new.txt", "key add | exit 1"):
        assert run("shell", "-c", broken)[0] == 3
    assert run("shell", "-c", "key add --passphrase")[0] == 2
    assert len(labels()) == 2


# --- in Python -------------------------------------------------------------------------------------------------------


@both_kinds
def test_a_manager_goes_on_with_a_key_that_opens(sealed: None) -> None:
    with StateManager() as state, StateManager() as second:
        new, third = state.encryption.new_key(), state.encryption.new_key()
        assert second.load("k") == "unmistakable"
        assert state.encryption.add_key(new).label == "key-2"
        assert second.encryption.add_key(third).label == "key-3"  # it finds what the other has changed
        assert state.load("k") == "unmistakable"
        state.encryption.remove_key("key-2")
        state.encryption.rotate_key(new)
        state.save("k", 2)
        assert (state.load("k"), state.doctor().ok, loads(new)) == (2, True, 2)
        assert second.encryption.status().opens is False
        assert new not in f"{state!r}{state.encryption!r}{state.encryption.status()!r}"
        assert new.encode() not in pickle.dumps(state)
    with StateManager(encryption_key=new, read_only=True) as state, pytest.raises(ReadOnly):
        state.encryption.add_key(OTHER)
    with pytest.raises(KeyWrong), StateManager(encryption_key=KEY) as state:  # the former key is not the new one
        state.load("k")


def test_the_errors_have_the_exit_code_of_a_store_that_cannot_be_read() -> None:
    assert {exit_code(error("")) for error in (Sealed, KeyMissing, KeyWrong)} == {3}
    assert DEFAULT_N > 1 << 14  # of passphrases that the commands add


# --- what rewrites the values ----------------------------------------------------------------------------------------


def holds(text: bytes) -> bool:
    return any(text in path.read_bytes() for path in Path(".claude").rglob("*") if path.is_file())


@both_kinds
def test_a_namespace_is_encrypted_and_made_plain_again(run: Run, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATEVIEW_STORE", kind)
    run("save", "k", "unmistakable", "--reason", "a reason")
    code, _, err = run("key", "on")
    assert code == 3
    assert "Run 'stateview key new' and set STATEVIEW_KEY" in err
    monkeypatch.setenv("STATEVIEW_KEY", KEY)
    code, out, err = run("key", "on", "--label", "main")
    assert (code, out, labels()) == (0, "", ["main"])
    assert "copies may remain" in err
    assert not holds(b"unmistakable")
    assert (loads(KEY), loads(None)) == ("unmistakable", KeyMissing)
    assert run("key", "on")[0] == 2
    code, out, err = run("key", "off")
    assert (code, out) == (5, "")
    assert not holds(b"unmistakable")
    assert run("key", "off", "--yes")[0] == 0
    assert loads(None) == "unmistakable"
    assert holds(b"unmistakable")
    assert run("key", "off", "--yes")[0] == 2


@both_kinds
def test_a_new_data_key_needs_all_keys(run: Run, sealed: None, folder: Path) -> None:
    _, laptop, _ = run("key", "add", "--label", "laptop")
    _, server, _ = run("key", "add", "--label", "server")
    (folder / "one.txt").write_text(laptop)
    (folder / "both.txt").write_text(laptop + server)
    code, _, err = run("key", "rotate", "--data", "--key-file", "one.txt")
    assert code == 2
    assert "without server" in err
    code, out, err = run("key", "rotate", "--data", "--key-file", "both.txt")
    assert (code, out) == (0, ""), err
    assert "under the old data key may remain" in err
    assert [loads(key) for key in (KEY, laptop, server)] == ["unmistakable"] * 3
    status = json.loads(run("key", "status", "--format", "json")[1])
    assert (status["state"], status["data_keys"]) == ("sealed", 1)


def test_what_was_killed_is_gone_on_with(run: Run, plain: None) -> None:
    def stop(_done: int, _total: int) -> None:
        raise KeyboardInterrupt

    with StateManager() as state:
        for number in range(30):
            os.environ.pop("STATEVIEW_KEY", None)
            with StateManager() as writer:
                writer.save(f"k{number}", "unmistakable" * 100)
        os.environ["STATEVIEW_KEY"] = KEY
        with pytest.raises(KeyboardInterrupt):
            state.encryption.turn_on(progress=stop)
        assert state.encryption.status().state == "sealing"
    assert "repeat 'stateview key on'" in run("key", "status", "--format", "pretty")[1]
    assert run("key", "on")[0] == 0
    assert json.loads(run("key", "status", "--format", "json")[1])["state"] == "sealed"
    assert (loads(KEY), holds(b"unmistakable")) == ("unmistakable", False)


@both_kinds
def test_a_manager_that_made_its_namespace_plain_goes_on_without_a_key(sealed: None) -> None:
    with StateManager() as state:
        state.encryption.turn_off()
        state.save("k", 2)
        assert state.encryption.status().state == "plain"
        with pytest.raises(InvalidArgument):
            state.encryption.turn_off()
    assert loads(None) == 2
