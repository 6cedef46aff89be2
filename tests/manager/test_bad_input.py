"""What is wrong from outside: arguments, edited files, full disks, missing rights, servers that fail."""

import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis
import redis_servers
from other_user import open_way

from stateview import (
    BackendError,
    BackendUnavailable,
    Conflict,
    Damaged,
    InvalidArgument,
    InvalidName,
    KeyNotFound,
    NotSerializable,
    ReadOnly,
    RefNotFound,
    StateException,
    StateManager,
)

ROOT = Path(__file__).parents[2]


def listing(folder):
    """Every file under a folder with the digest of its bytes, and every folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in Path(folder).rglob("*")
        if not path.name.endswith("-shm")  # where SQLite's readers, too, note that they are there
    }


@pytest.fixture(params=["json", "sqlite"])
def url(request, tmp_path):
    return f"{request.param}:{tmp_path / 'store'}"


@pytest.fixture
def state(url):
    with StateManager(url, "ns") as manager:
        manager.save("k", {"n": 1})
        manager.checkpoint("cp")
        manager.save("k", {"n": 2})
        yield manager


@contextmanager
def nothing_changes(state):
    folder = state.url.partition(":")[2]
    before = listing(folder), state.revision, state.load("k")
    yield
    assert (listing(folder), state.revision, state.load("k")) == before
    assert [entry.value for entry in state.history("k")] == [{"n": 2}, {"n": 1}]


# --- arguments ----------------------------------------------------------------------------------------------------

NAMES = [
    "",
    ".",
    "..",
    "../x",
    "a/b",
    "/a",
    "a\\b",
    ".hidden",
    "a b",
    "é",
    "x" * 129,
    "a\0",
    "a\n",
    "\ud800",
    "a:b",
    5,
    b"x",
]


def said(value):
    """How an error shows what it was given: never the raw text, which can hold a terminal's escapes."""
    return type(value).__name__ if not isinstance(value, str) else repr(value)[1:30].rstrip("'")


@pytest.mark.parametrize("name", NAMES, ids=repr)
def test_namespaces(tmp_path, url, name):
    with pytest.raises(InvalidName, match="namespace") as caught:
        StateManager(url, name)
    assert isinstance(caught.value, ValueError)
    assert said(name) in str(caught.value)
    state = StateManager(url, "ns")
    state.save("k", 1)
    before = listing(tmp_path)
    with pytest.raises(InvalidName):
        state.fork(name)
    assert listing(tmp_path) == before


@pytest.mark.parametrize("name", [*NAMES, "live", "7", "live~1", "cp@1"], ids=repr)
def test_checkpoint_names(state, name):
    with nothing_changes(state):
        for act in (lambda: state.checkpoint(name), lambda: state.rename_checkpoint("cp", name)):
            with pytest.raises(InvalidName, match="checkpoint") as caught:
                act()
            assert said(name) in str(caught.value)
        assert state.list_checkpoints() == ["cp"]


KEYS = ["", "\0", "a\0b", "x" * 1025, "é" * 513, "\ud800", "a\udfff", None, 5, True, b"k", ("a",)]


@pytest.mark.parametrize("key", KEYS, ids=lambda key: repr(key)[:20])
def test_keys(state, key):
    with nothing_changes(state):
        for act in (
            lambda: state.save(key, 1), lambda: state.save(key, 1, expected=0), lambda: state.load(key),
            lambda: state.load(key, None), lambda: state.load(key, at="cp"), lambda: state.delete(key),
            lambda: state.entry(key), lambda: state.update(key, lambda n: n, default=0), lambda: state.history(key),
            lambda: state.blame(key), lambda: state.revert(key, 1), lambda: state.at("cp").load(key),
        ):  # fmt: skip
            with pytest.raises(InvalidName, match="key"):
                act()
        for act in ("load", "delete"):
            with pytest.raises(InvalidName, match="key"), state.transaction() as block:
                block.save("k", 0)
                getattr(block, act)(key)
        with pytest.raises(InvalidName, match="key"), state.transaction() as block:
            block.save("k", 0)
            block.save(key, 1)
        assert key not in state
        assert key not in state.at("cp")


def test_keys_of_every_kind_are_kept(state):
    keys = [
        " ", "\n", "a/b", "../x", "..", "~", "*", "[a]", "%", "'", '"', ";--", "x" * 1024, "é" * 512, "🜚", "\u2028",
        "\x1b[31m", "__proto__", "state.json", "a:b", "a", "A", "e\u0301", "é", "\U0010ffff", "\ufffe",
    ]  # fmt: skip
    for number, key in enumerate(keys):
        state.save(key, number)
    assert state.list_keys() == sorted([*keys, "k"])
    with StateManager(state.url, "ns") as other:
        assert [other.load(key) for key in keys] == list(range(len(keys)))


@pytest.mark.parametrize(
    "value", [float("nan"), {1: 2}, b"x", {"a": {1, 2}}, "\ud800", object()], ids=lambda v: type(v).__name__
)
def test_values(state, value):
    with nothing_changes(state):
        for act in (lambda: state.save("k", value), lambda: state.update("k", lambda _: value)):
            with pytest.raises(NotSerializable) as caught:
                act()
            assert isinstance(caught.value, TypeError)
            assert caught.value.path.startswith("$")
        with pytest.raises(NotSerializable), state.transaction() as block:
            block.save("other", 1)
            block.save("k", value)


REFS = [
    ("", InvalidName), ("a b", InvalidName), ("../x", InvalidName), ("live~", InvalidName), ("live~x", InvalidName),
    ("cp@", InvalidName), ("@1", InvalidName), ("~1", InvalidName), ("cp~~1", InvalidName), ("-1", RefNotFound),
    (-1, InvalidName), (True, InvalidName), (1.5, InvalidName), (b"cp", InvalidName), (["cp"], InvalidName),
    ("live@1", InvalidName), ("1@1", InvalidName), ("\ud800", InvalidName), ("c\0", InvalidName),
    ("nope", RefNotFound), ("CP", RefNotFound), ("cp@99", RefNotFound), ("cp~9", RefNotFound), ("live~9", RefNotFound),
    ("99", RefNotFound), (99, RefNotFound), ("9" * 40, RefNotFound), (10**30, RefNotFound), ("2~3", RefNotFound),
]  # fmt: skip


@pytest.mark.parametrize(("ref", "error"), REFS, ids=repr)
def test_refs(state, ref, error):
    with nothing_changes(state):
        for act in (
            lambda: state.load("k", at=ref), lambda: state.at(ref), lambda: state.diff(ref),
            lambda: state.diff("cp", ref), lambda: state.list_keys(at=ref), lambda: state.restore_checkpoint(ref),
            lambda: state.restore_checkpoint(ref, keys="k", dry_run=True), lambda: state.fork("other", at=ref),
            lambda: state.checkpoint("new", at=ref),
        ):  # fmt: skip
            with pytest.raises(error):
                act()
        assert state.list_checkpoints() == ["cp"]
        assert state.namespaces() == ["ns"]


def test_a_ref_that_is_near_another_is_named(state):
    with pytest.raises(RefNotFound, match=r"'cpp'.*Did you mean cp"):
        state.restore_checkpoint("cpp")


@pytest.mark.parametrize("name", ["nope", "live", "1", "", "cp@9", "cp~1", None, 1], ids=repr)
def test_checkpoints_that_are_not_there(state, name):
    with nothing_changes(state):
        for act in (
            lambda: state.delete_checkpoint(name), lambda: state.delete_checkpoints(["cp", name]),
            lambda: state.rename_checkpoint(name, "new"),
        ):  # fmt: skip
            with pytest.raises((RefNotFound, InvalidArgument)):
                act()
        with pytest.raises(Conflict, match="'cp'"):
            state.rename_checkpoint("cp", "cp")


@pytest.mark.parametrize("ttl", [0, -1, float("nan"), float("inf"), 1e11, True, "5", b"5", [1]], ids=repr)
def test_ttl(state, ttl):
    with nothing_changes(state):
        for act in (lambda: state.save("k", 1, ttl=ttl), lambda: state.update("k", lambda n: n, ttl=ttl)):
            with pytest.raises(ValueError, match="ttl"):
                act()
        with pytest.raises(ValueError, match="ttl"), state.transaction() as block:
            block.save("k", 1, ttl=ttl)


@pytest.mark.parametrize("expected", [-1, True, 1.0, "2", b"2"], ids=repr)
def test_expected(state, expected):
    with nothing_changes(state):
        for act in (
            lambda: state.save("k", 1, expected=expected), lambda: state.delete("k", expected=expected),
            lambda: state.undo(expected=expected), lambda: state.redo(expected=expected),
            lambda: state.restore_checkpoint("cp", expected=expected),
        ):  # fmt: skip
            with pytest.raises(ValueError, match="expected"):
                act()
        with pytest.raises(ValueError, match="expected"), state.transaction() as block:
            block.save("k", 1, expected=expected)


@pytest.mark.parametrize("expected", [0, 1, 3, 2**63 - 1], ids=repr)
def test_expected_of_another_revision(state, expected):
    with nothing_changes(state):
        for act in (
            lambda: state.save("k", 1, expected=expected), lambda: state.delete("k", expected=expected),
            lambda: state.undo(expected=expected), lambda: state.restore_checkpoint("cp", expected=expected),
        ):  # fmt: skip
            with pytest.raises(Conflict) as caught:
                act()
            assert isinstance(caught.value, RuntimeError)


def test_keys_to_restore_must_be_in_one_of_the_states(state):
    with nothing_changes(state), pytest.raises(KeyNotFound, match="'absent'"):
        state.restore_checkpoint("cp", keys=["k", "absent"])
    assert state.load("absent", None) is None
    with pytest.raises(KeyNotFound, match="'absent'") as caught:
        state.load("absent")
    assert isinstance(caught.value, KeyError)
    assert "ns" in str(caught.value)


URLS = [
    "", "jsn:x", "json:", "sqlite:", "json:a\0b", "http://user:secret@host/x", "mysql://user:secret@host/x", "redis:",
    "redis:x", "rediss", "nowhere", "json :x", 5, b"json",
]  # fmt: skip


@pytest.mark.parametrize("store", URLS, ids=repr)
def test_store_urls(tmp_path, monkeypatch, store):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidName) as caught:
        StateManager(store, "ns")
    assert "secret" not in str(caught.value)
    assert caught.value.hint
    assert listing(tmp_path) == {}


@pytest.mark.parametrize(
    "store",
    ["redis://user:secret@localhost:port/0", "redis://:secret@localhost:99999/0", "redis+sentinel://:secret@x/y"],
)
def test_redis_urls_that_cannot_be(store):
    with pytest.raises(StateException) as caught:
        StateManager(store, "ns", timeout=0.5).load("k")
    assert "secret" not in str(caught.value)


def test_options(url):
    with pytest.raises(ValueError, match="history=0"):
        StateManager(url, "ns", history=0)
    if url.startswith("sqlite"):
        with pytest.raises(BackendError, match="durability='fast'"):
            StateManager(url, "ns", durability="fast")


@pytest.mark.parametrize("reason", ["\ud800", "x\0y", "é" * 5000])
def test_reasons_and_notes_are_kept_or_refused(state, reason):
    if reason == "\ud800":
        with nothing_changes(state):
            for act in (lambda: state.save("k", 1, reason=reason), lambda: state.checkpoint("new", note=reason)):
                with pytest.raises(ValueError, match="is not Unicode text"):
                    act()
    else:
        state.save("k", 1, reason=reason)
        state.checkpoint("new", note=reason)
        assert state.log(1)[0].reason == state.checkpoints()[-1].note == reason


# --- read-only ----------------------------------------------------------------------------------------------------


def test_a_read_only_manager_writes_nothing(state):
    with nothing_changes(state), StateManager(state.url, "ns", read_only=True) as reader:
        for act in (
            lambda: reader.save("k", 1), lambda: reader.delete("k"), lambda: reader.checkpoint("x"), reader.undo,
            lambda: reader.update("k", lambda n: n), lambda: reader.restore_checkpoint("cp"), lambda: reader.fork("y"),
            lambda: reader.delete_checkpoint("cp"), lambda: reader.rename_checkpoint("cp", "z"), reader.recover,
            reader.compact, lambda: reader.delete_checkpoints([]), lambda: reader.save_many({"k": 1}),
        ):  # fmt: skip
            with pytest.raises(ReadOnly) as caught:
                act()
            assert isinstance(caught.value, PermissionError)
        with pytest.raises(ReadOnly), reader.transaction() as block:
            block.save("k", 1)
        assert reader.load("k") == {"n": 2}
        assert reader.load("k", at="cp") == {"n": 1}
        assert len(reader.diff("cp")) == 1


def test_a_read_only_manager_makes_nothing(tmp_path, url):
    with StateManager(url, "ns", read_only=True) as reader:
        assert reader.list_keys() == []
        assert reader.revision == 0
        assert reader.namespaces() == []
        with pytest.raises(ReadOnly):
            reader.save("k", 1)
    assert listing(tmp_path) == {}


def run(script, *arguments, before=()):
    """Run a script in a process of its own; what it asserts must hold."""
    code = "import os, sys\nfrom stateview import *\n" + textwrap.dedent(script)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [*before, sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_folder_that_may_not_be_written(state):
    folder = Path(state.url.partition(":")[2])
    state.close()
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = listing(folder)
    try:
        open_way(folder.parent)
        run(
            """
            import copy, difflib, fcntl, hashlib, json, random, shutil, zlib
            url = sys.argv[1]
            with StateManager(url, "ns") as state:
                state.load("k")
            if os.getuid() == 0:  # whom no permission binds; the other one may not even import
                os.chdir("/")
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            acts = (lambda s: s.save("k", 1), lambda s: s.checkpoint("x"), lambda s: s.delete("k"), StateManager.undo)
            for act in acts:
                with StateManager(url, "ns", timeout=1) as state:
                    try:
                        act(state)
                    except ReadOnly as error:
                        assert "ns" in str(error), error
                    else:
                        raise AssertionError("it was written")
            with StateManager(url, "ns", read_only=True) as state:
                assert state.load("k") == {"n": 2}
                assert state.load("k", at="cp") == {"n": 1}
            with StateManager(url, "new") as state:
                assert state.list_keys() == []
                try:
                    state.save("k", 1)
                except ReadOnly:
                    sys.exit(0)
            raise AssertionError("a namespace was made")
            """,
            state.url,
        )
    finally:
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)
    assert listing(folder) == before


def test_a_store_whose_path_is_a_file(tmp_path, url):
    kind = url.partition(":")[0]
    (tmp_path / "file").write_text("mine")
    for store in (f"{kind}:{tmp_path / 'file'}", f"{kind}:{tmp_path / 'file' / 'below'}"):
        with StateManager(store, "ns") as state, pytest.raises(BackendError, match="file"):
            state.save("k", 1)
    assert (tmp_path / "file").read_text() == "mine"


# --- a full disk --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["json", "sqlite"])
def test_a_full_disk(tmp_path, kind):
    """A small disk of its own, which is gone with the process: mounted where a user namespace allows it."""
    run(
        """
        import base64, random
        from stateview.codec import canonical
        folder, kind = sys.argv[1:]
        url = f"{kind}:{folder}/store"
        right, full, revision = {}, 0, 0
        random.seed(4)
        with open(f"{folder}/ballast", "wb") as ballast:
            ballast.write(b"x" * 4_000_000)
        with StateManager(url, "ns", timeout=2) as state:
            state.save("first", "value")
            state.checkpoint("start")
            right["first"] = "value"
            for number in range(2000):
                key, value = f"k{number % 10:02}", ["x" * 100 * (number % 61)] * 10
                if number % 4:  # what the history keeps whole
                    value = base64.b64encode(random.randbytes(750 * (number % 61))).decode()
                try:
                    revision = state.save(key, value)
                    right[key] = value
                except BackendError as error:
                    assert not isinstance(error, BackendUnavailable), error
                    assert "space" in str(error).lower(), error
                    full += 1
                if full == 5:
                    break
            assert full, "the disk was never full"
        def check():
            with StateManager(url, "ns", timeout=2) as state:
                assert canonical({key: state.load(key) for key in state.list_keys()}) == canonical(right)
                assert state.load("first", at="start") == "value"
                assert state.list_keys(at="start") == ["first"]
                assert state.revision == revision
        filler = os.open(f"{folder}/filler", os.O_CREAT | os.O_WRONLY)
        try:
            while os.write(filler, b"x" * 512):
                pass
        except OSError:
            os.close(filler)
        with StateManager(url, "ns", timeout=2) as state:
            more = base64.b64encode(random.randbytes(75_000)).decode()
            for act in (lambda: state.save("more", more), lambda: state.restore_checkpoint("start")):
                try:
                    act()
                except BackendError as error:
                    assert "space" in str(error).lower(), error
                else:
                    raise AssertionError("there was space")
        os.remove(f"{folder}/filler")
        check()
        os.remove(f"{folder}/ballast")
        with StateManager(url, "ns") as state:
            for key in list(right)[1:30]:
                state.delete(key)
                del right[key]
            revision = state.revision
            state.compact(state.revision)
        check()
        with StateManager(url, "ns") as state:
            state.save("after", [1])
            assert state.load("after") == [1]
            state.recover()
            assert state.recover().problems == ()
            assert state.load("after") == [1]
        """,
        tmp_path / "disk",
        kind,
        before=small_disk(tmp_path / "disk", "7m"),
    )


def small_disk(folder, size):
    folder.mkdir()
    mount = f'mount -t tmpfs -o size={size} tmpfs "{folder}" && exec "$@"'
    return ["unshare", "--mount", "--map-root-user", "sh", "-c", mount, "sh"]


# --- files edited by hand -----------------------------------------------------------------------------------------


@pytest.fixture
def edited(tmp_path):
    """A JSON store, and a function that edits its state.json as an editor would."""
    url = f"json:{tmp_path / 'store'}"
    path = tmp_path / "store" / "ns" / "state.json"
    with StateManager(url, "ns") as state:
        state.save("k", {"n": 1})
        state.save("other", "x")

        def edit(old, new):
            text = path.read_text()
            assert old in text
            path.write_text(text.replace(old, new))
            later = path.stat().st_mtime_ns + 1_000_000_000
            os.utime(path, ns=(later, later))
            return path

        yield state, edit


def test_a_valid_edit_is_taken_in_once_and_can_be_undone(edited, capfd):
    state, edit = edited
    edit('"n": 1', '"n": 1.50, "more": [true]')
    assert state.load("k") == {"n": 1.5, "more": [True]}
    assert state.load("k") == state.at("live").load("k")
    with StateManager(state.url, "ns") as other:
        assert other.load("k") == {"n": 1.5, "more": [True]}
    said = capfd.readouterr().err
    assert said.count("edited outside") == 1
    assert "state.json" in said
    assert "undo" in said
    assert (state.revision, state.log(1)[0].reason, state.log(1)[0].keys) == (3, "edited outside", 1)
    assert state.history("k")[0].revision == 3
    state.undo()
    assert state.load("k") == {"n": 1}
    assert state.load("other") == "x"


def test_keys_added_and_removed_by_hand(edited, capfd):
    state, edit = edited
    path = edit('"other"', '"renamed"')
    text = json.loads(path.read_text())
    text["bare"] = {"value": None}
    path.write_text(json.dumps(text))
    os.utime(path, (time.time() + 9,) * 2)
    assert {key: state.load(key) for key in state.list_keys()} == {"k": {"n": 1}, "renamed": "x", "bare": None}
    assert [(change.key, change.kind) for change in state.diff("live~1")] == [
        ("bare", "added"), ("other", "removed"), ("renamed", "added"),
    ]  # fmt: skip
    state.save("k", 2)
    assert "1 key" not in capfd.readouterr().err
    assert json.loads(path.read_text()).keys() == {"k", "renamed", "bare"}


def test_an_edit_that_changes_no_value_makes_no_revision(edited, capfd):
    state, edit = edited
    path = edit("\n", "\n ")
    assert state.load("k") == {"n": 1}
    assert state.revision == 2
    assert state.save("k", 3) == 3
    assert capfd.readouterr().err == ""
    assert path.read_text().startswith('{\n  "k"')


DEEP = "[" * 201 + "]" * 201
BAD_EDITS = {
    "broken": ('"n": 1', '"n": oops', "line 4 column 12"),
    "cut": ('"timestamp"', "", "line 6 column"),
    "comma": ('"x",', '"x",,', "line "),
    "twice": ('"other"', '"k"', "'k' occurs twice"),
    "twice inside": ('"n": 1', '"n": 1, "n": 2', "'n' occurs twice"),
    "NaN": ('"n": 1', '"n": NaN', "NaN"),
    "overflow": ('"n": 1', '"n": 1e400', "too large"),
    "no value": ('"value": "x"', '"val": "x"', "'other'.*value"),
    "deep": ('"n": 1', f'"n": {DEEP}', "'k'.*200 levels"),
    "very deep": ('"n": 1', f'"n": {"[" * 100_000 + "]" * 100_000}', r"state\.json"),
    "surrogate": ('"n": 1', '"n": "\\ud800"', "'k'.*surrogate"),
    "no key": ('"other"', '""', "''|empty"),
    "time": ('"timestamp": "20', '"timestamp": "x20', "time"),
}


@pytest.mark.parametrize("name", BAD_EDITS)
def test_an_edit_that_cannot_be_taken_is_refused_and_loses_nothing(edited, name):
    state, edit = edited
    old, new, message = BAD_EDITS[name]
    text = Path(state.url.partition(":")[2], "ns", "state.json").read_text()
    path = edit(old, new)
    before = listing(path.parent)
    for act in (
        lambda: state.load("k"), lambda: state.load("other", None), state.list_keys, lambda: state.save("k", 3),
        lambda: state.delete("k"), state.undo, lambda: state.checkpoint("x"),
        lambda: StateManager(state.url, "ns").load("k"),
    ):  # fmt: skip
        with pytest.raises(Damaged, match=message) as caught:
            act()
        assert str(path) in str(caught.value)
        assert isinstance(caught.value, ValueError)
    assert listing(path.parent) == before
    path.write_text(text)
    assert (state.load("k"), state.load("other")) == ({"n": 1}, "x")
    assert state.revision == 2


@pytest.mark.parametrize(
    "text", ["", " ", "[]", "null", '"x"', "\ufeff{}", "{}garbage", '{"k": 1}', '{"k": []}'], ids=repr
)
def test_a_file_that_is_no_state_is_refused(edited, text):
    state, _ = edited
    path = Path(state.url.partition(":")[2]) / "ns" / "state.json"
    path.write_text(text)
    os.utime(path, (time.time() + 9,) * 2)
    for act in (lambda: state.load("k"), lambda: state.save("k", 3)):
        with pytest.raises(Damaged, match=r"state\.json"):
            act()
    assert path.read_text() == text
    assert state.recover().ok
    assert state.load("k") == {"n": 1}


def test_emptied_by_hand(edited, capfd):
    state, _ = edited
    path = Path(state.url.partition(":")[2]) / "ns" / "state.json"
    path.write_text("{}")
    os.utime(path, (time.time() + 9,) * 2)
    assert state.list_keys() == []
    assert "2 keys" in capfd.readouterr().err
    state.undo()
    assert state.list_keys() == ["k", "other"]


@pytest.mark.parametrize("back", [0, 3_600_000_000_000], ids=["the same time", "an earlier time"])
def test_another_content_under_an_old_time_is_rot(edited, back):
    state, _ = edited
    path = Path(state.url.partition(":")[2]) / "ns" / "state.json"
    stamp = path.stat().st_mtime_ns - back
    path.write_text(path.read_text().replace('"x"', '"y"'))
    os.utime(path, ns=(stamp, stamp))
    with StateManager(state.url, "ns") as other:
        for act in (lambda: other.load("k"), lambda: other.save("k", 3)):
            with pytest.raises(Damaged, match="recover"):
                act()


def test_the_same_content_is_right_under_any_time(edited, tmp_path):
    state, _ = edited
    path = Path(state.url.partition(":")[2]) / "ns" / "state.json"
    for stamp in (0, 1, time.time() + 1e6):
        os.utime(path, (stamp, stamp))
        with StateManager(state.url, "ns") as other:
            assert (other.load("k"), other.revision) == ({"n": 1}, 2)
    shutil.copytree(path.parent, tmp_path / "copy" / "ns", copy_function=shutil.copyfile)
    with StateManager(f"json:{tmp_path / 'copy'}", "ns") as copy:
        assert (copy.load("k"), copy.revision) == ({"n": 1}, 2)
        assert copy.save("k", 2) == 3


def test_a_read_only_manager_shows_an_edit_and_takes_nothing_in(edited, tmp_path):
    state, edit = edited
    edit('"n": 1', '"n": 7')
    before = listing(tmp_path)
    with StateManager(state.url, "ns", read_only=True) as reader:
        assert reader.load("k") == {"n": 7}
        assert reader.list_keys() == ["k", "other"]
    assert listing(tmp_path) == before


# --- Redis --------------------------------------------------------------------------------------------------------

SECRET = "pa:ss/w@rd"
SAFE = "pa%3Ass%2Fw%40rd"


@pytest.fixture(scope="module")
def redis_path():
    return next(iter(redis_servers.find().values()))


@contextmanager
def within(seconds):
    """Less than it goes on trying by default, or than it was told to."""
    started = time.monotonic()
    yield
    assert time.monotonic() - started < seconds


def refused(url, error, acts=("load", "save"), **options):
    """Each act raises `error`, which names the server and hides its password. Returns the messages."""
    out = []
    for act in acts:
        with StateManager(url, "ns", **options) as state:
            arguments = {"load": ("k", None), "save": ("k", 1), "checkpoint": ("c",), "list_keys": ()}[act]
            with pytest.raises(error) as caught:
                getattr(state, act)(*arguments)
            out.append(str(caught.value))
            assert "127.0.0.1" in out[-1]
            assert not any(secret in out[-1] + repr(state) for secret in (SECRET, SAFE, "wrong-one"))
    return out


def server_at(port, path, *options):
    """A server on a given port: one that comes back."""
    command = [path, "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no", *options]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            if redis.Redis(port=port).ping():
                return server
        except redis.RedisError:
            time.sleep(0.02)
    raise AssertionError("the server did not start")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_redis_that_is_not_there():
    url = f"redis://user:{SAFE}@127.0.0.1:{free_port()}/0"
    with within(9):
        for message in refused(url, BackendUnavailable):
            assert "does not answer" in message
            assert "user:***@" in message
    with within(8), pytest.raises(ConnectionError):
        StateManager(url, "ns").load("k")


def test_redis_that_accepts_and_never_answers():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        with within(15):
            refused(f"redis://127.0.0.1:{server.getsockname()[1]}/0", BackendUnavailable, timeout=1.0)


def test_redis_that_freezes(redis_path):
    port = free_port()
    server = server_at(port, redis_path)
    try:
        with StateManager(f"redis://127.0.0.1:{port}/0", "ns", timeout=1.0) as state:
            state.save("k", 1)
            server.send_signal(signal.SIGSTOP)
            for act in (state.list_keys, lambda: state.save("k", 2), lambda: state.load("absent", None)):
                with within(8), pytest.raises(BackendUnavailable):
                    act()
            server.send_signal(signal.SIGCONT)
            assert state.load("k") in (1, 2)  # the save that was sent may have come through: the error said so
            state.save("k", 3)
            assert state.load("k") == 3
    finally:
        server.kill()
        server.wait()


def test_redis_with_a_password(redis_path):
    with redis_servers.running(redis_path) as plain:
        place = plain.removeprefix("redis://")
        redis.Redis.from_url(plain).config_set("requirepass", SECRET)
        for login in ("", ":wrong-one@", "default:wrong-one@", "nobody:wrong-one@"):
            with within(8):
                messages = refused(f"redis://{login}{place}/0", BackendError, timeout=30)
            assert all("password" in message for message in messages)
        for login in (f":{SAFE}@", f"default:{SAFE}@"):
            with StateManager(f"redis://{login}{place}/0", "ns") as state:
                state.save("k", login)
                assert state.load("k") == login
                assert SAFE not in repr(state) + state.url
                with pytest.raises(KeyNotFound) as caught:
                    state.load("absent")
                assert SAFE not in str(caught.value)


def test_redis_replica(redis_path, monkeypatch):
    with redis_servers.running(redis_path) as primary, redis_servers.running(redis_path) as replica:
        with StateManager(primary, "ns") as state:
            state.save("k", 1)
        with redis.Redis.from_url(replica) as client:
            client.replicaof("127.0.0.1", primary.rpartition(":")[2])
            deadline = time.monotonic() + 20
            while client.info("replication")["master_link_status"] != "up" and time.monotonic() < deadline:
                time.sleep(0.05)
        with within(8), StateManager(replica, "ns") as state:
            assert state.load("k") == 1
            assert state.list_keys() == ["k"]
            monkeypatch.setattr("stateview.backends.redis.connections.server.FIRST_CONTACT_SECONDS", 0.1)
            for act in (lambda: state.save("k", 2), lambda: state.checkpoint("c"), lambda: state.delete("k")):
                with pytest.raises(ReadOnly, match="replica"):
                    act()
            assert state.load("k") == 1


def test_redis_that_is_full(redis_path):
    with redis_servers.running(redis_path) as url, redis.Redis.from_url(url) as client:
        client.config_set("maxmemory-policy", "noeviction")
        with StateManager(url, "ns") as state:
            state.save("k", 1)
            client.config_set("maxmemory", "1mb")
            before = {name: client.dump(name) for name in client.scan_iter()}
            for act in (
                lambda: state.save("k", 2),
                lambda: state.save("new", "x" * 1000),
                lambda: state.delete("k"),
                state.undo,
            ):
                with within(8), pytest.raises(BackendError, match=r"full|maxmemory") as caught:
                    act()
                assert not isinstance(caught.value, BackendUnavailable)
            assert {name: client.dump(name) for name in client.scan_iter()} == before
            assert state.load("k") == 1
            assert state.list_keys() == ["k"]
            client.config_set("maxmemory", "0")
            assert state.save("k", 2) == 2


def test_redis_keys_of_another_type(redis_path):
    acts = [
        lambda state: state.save("k", 2), lambda state: state.delete("k"), lambda state: state.checkpoint("d"),
        lambda state: state.list_keys(), lambda state: state.load("k", at="c"), lambda state: state.history("k"),
        lambda state: state.log(), lambda state: state.diff("c").counts, lambda state: state.save("t", 1, ttl=60),
    ]  # fmt: skip
    with redis_servers.running(redis_path) as url, redis.Redis.from_url(url) as client:
        with StateManager(url, "ns") as state:
            state.save("k", 0)
            state.checkpoint("c")
            state.save("k", 1)
            state.save("t", 0, ttl=60)

        def everything():
            return {name: client.dump(name) for name in client.scan_iter()}

        sound = everything()
        own = [name for name in sound if name.startswith(b"stateview:{ns}:")]
        for planted in [name for name in own if not name.endswith(b":touched")]:  # nobody reads it
            found = 0
            for act in acts:
                for name, data in sound.items():
                    client.restore(name, 0, data, replace=True)
                client.delete(planted)
                client.set(planted, "something else")
                before = everything()
                with StateManager(url, "ns") as state:
                    try:
                        act(state)
                    except Damaged as error:
                        assert "stateview:{ns}" in str(error)
                        assert everything() == before
                        found += 1
            assert found, planted


def test_redis_that_goes_and_comes_back(redis_path, tmp_path):
    port = free_port()
    options = ["--dir", str(tmp_path), "--appendonly", "yes", "--appendfsync", "always"]
    server = server_at(port, redis_path, *options)
    try:
        with StateManager(f"redis://127.0.0.1:{port}/0", "ns", timeout=1.0) as state:
            state.save("k", 1)
            assert state.load("k") == 1
            server.kill()
            server.wait()
            for act in (lambda: state.save("k", 2), state.list_keys, lambda: state.load("k")):
                with within(8), pytest.raises(BackendUnavailable):
                    act()
            server = server_at(port, redis_path, *options)
            assert state.load("k") == 1
            assert state.save("k", 3) == 2
            assert state.load("k") == 3
    finally:
        server.kill()
        server.wait()
