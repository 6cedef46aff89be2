"""Arguments of a wrong type: every parameter of every public method, found by its signature, on every backend."""

import copy
import enum
import inspect
import math
import multiprocessing
import pickle
import shutil
import subprocess
import sys
from datetime import date, timedelta
from fractions import Fraction

import pytest

import stateview
from stateview import (
    BackendError,
    HistoryPruned,
    InvalidArgument,
    InvalidName,
    NamespaceNotFound,
    ReadOnly,
    StateManager,
    StateView,
    Transaction,
    arguments,
)
from stateview.cli.program import main

NO_TEXT = [5, b"x", None, ["x"], True, 1.5, {"a": 1}, "\udcff", "a\udcffb"]
NO_TEXTS = [5, b"x", True, [5], [b"x"], ["ok", None], ["\udcff"], "\udcff"]
NO_INTEGER = [-1, True, "1", 1.0, math.nan, 2**63, -(2**70), b"1", [1]]
NO_SECONDS = [-1, -0.001, True, "1", math.nan, math.inf, -math.inf, 10**400, 1e11, b"1", [1]]
NO_PATHS = [5, "k", ["k"], {"k": 5}, {"k": [5]}, {5: ["/a"]}, {"k": "\udcff"}]
NO_FUNCTION = [5, "f", True]
WRONG = {
    "str": NO_TEXT,
    "StoreURL": [value for value in NO_TEXT if not isinstance(value, str)],
    "str | None": [value for value in NO_TEXT if value is not None],
    "SecretText | None": [value for value in NO_TEXT if value is not None and not isinstance(value, str)],
    "int": [*NO_INTEGER, None],
    "int | None": NO_INTEGER,
    "float": [*NO_SECONDS, None],
    "float | None": NO_SECONDS,
    "Iterable[str] | str": [*NO_TEXTS, None],
    "Iterable[str] | str | None": NO_TEXTS,
    "Mapping[str, Any] | Iterable[tuple[str, Any]]": [5, None, "k", [5], ["ab"], [("k", 1, 2)], {5: 1}, {"\udcff": 1}],
    "Iterable[int]": [5, None, b"x", "1", ["1"], [None], [-1], [2**63], [1.0]],
    "Moment | None": [b"x", 1.5, True, -1, ["x"], "\udcff", "a b", timedelta(-1), date(2026, 11, 28)],
    "Mapping[str, Iterable[str]] | None": NO_PATHS,
    "Ref": [b"x", None, 1.5, True, -1, ["x"], "\udcff"],
    "Ref | None": [b"x", 1.5, True, -1, ["x"], "\udcff"],
    "Callable[[Any], Any]": NO_FUNCTION,
    "Callable[[Transaction], T]": NO_FUNCTION,
    "str | Callable[[Any], Any]": [
        *NO_TEXT,
        *["", "done", "==", "== ", "path == 1", "exists 1", "/~ exists", "== {", "matches ["],
    ],
    "OnChange": ["x", 5, None],
    "type[BaseException] | tuple[type[BaseException], ...]": [5, "x", None, (ValueError, 5)],
    "ProgressCount | None": NO_FUNCTION,
    "ProgressText | None": NO_FUNCTION,
    "OnMigrationProgress | None": NO_FUNCTION,
    "StateManager | None": [5, "x", True],
}
VALID = {  # of the parameters without a default
    "key": "k", "value": 1, "condition": "exists", "function": lambda value: value,
    "new": "other", "ttl": 5, "name": "cp", "ref": "cp",
    "before": "cp", "revision": 1, "target": "unused.jsonl", "source": "unused.jsonl", "other": "fork",
    "destination": "json:unused", "revisions": [1], "prefix": "k",
    "values": {"k": 3}, "names": ["cp"],
}  # fmt: skip
# Texts that are one word of a few: a wrong word is refused, and so is everything that is no word.
UNCHECKED = ("bool", "Any", "str | os.PathLike[str] | IO[bytes]", "Transaction", "PruneReport | None", "Backend",
             "StateAt", "StateView", "str | float | timedelta | None")  # fmt: skip


class Text(str):
    """A subclass of `str`, as numpy and others have."""


class Name(enum.StrEnum):
    K = "k"


class Whole:
    def __index__(self):
        return 3


@pytest.fixture
def state(store_url):
    with StateManager(store_url, "ns") as manager:
        manager.save("k", {"a": 1})
        manager.checkpoint("cp")
        manager.save("k", {"a": 2}, reason="why")
        yield manager


def public_methods(cls):
    return [(name, member) for name, member in vars(cls).items() if inspect.isfunction(member) and name[0] != "_"]


def content(state):
    return (
        state.head(), state.log(), state.checkpoints(all=True), list(state.at("live").entries()), state.namespaces(),
    )  # fmt: skip


def call(target, method, parameters, name, value):
    required = {one.name: VALID.get(one.name) for one in parameters if one.default is inspect.Parameter.empty}
    result = getattr(target, method)(**{**required, name: value})
    if inspect.isgenerator(result):
        next(result)
    if hasattr(result, "__enter__"):
        with result:
            pass


def test_every_parameter_of_every_method(state, tmp_path, monkeypatch):
    """A parameter with an annotation that this test does not know fails it: somebody has to say how it is checked."""
    monkeypatch.chdir(tmp_path)
    before, tried = content(state), 0
    with state.transaction() as transaction:
        for target, cls in ((state, StateManager), (state.at("cp"), StateView), (transaction, Transaction)):
            for method, member in public_methods(cls):
                parameters = list(inspect.signature(member).parameters.values())[1:]
                for parameter in parameters:
                    if parameter.annotation in UNCHECKED:
                        continue
                    of_checkpoint = parameter.name == "name" and method != "checkpoint"
                    for value in WRONG["Ref" if of_checkpoint else parameter.annotation]:
                        with pytest.raises(InvalidArgument):
                            call(target, method, parameters, parameter.name, value)
                            pytest.fail(f"{cls.__name__}.{method}({parameter.name}={value!r}) is accepted")
                        tried += 1
    assert content(state) == before
    assert tried > 700 and not list(tmp_path.glob("unused*"))


@pytest.mark.parametrize("name", ["author", "durability", "history", "timeout", "namespace", "backend"])
def test_every_argument_of_the_constructor(tmp_path, name):
    annotation = inspect.signature(StateManager.__init__).parameters[name].annotation
    for value in WRONG[annotation]:
        with pytest.raises(InvalidArgument):
            StateManager(**{"backend": f"json:{tmp_path}", "namespace": "ns", name: value})
    with pytest.raises(InvalidArgument, match="history=0"):
        StateManager(f"json:{tmp_path}", "ns", history=0)


def test_the_author_of_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("STATEVIEW_AUTHOR", "\udcff")
    with pytest.raises(InvalidArgument, match="STATEVIEW_AUTHOR"):
        StateManager(f"json:{tmp_path}", "ns")


def test_the_functions_of_the_module(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    stateview.save_state("k", 1)
    for value in (5, b"x", "\udcff"):
        assert not stateview.save_state(value, 1)
        assert "was not saved" in capsys.readouterr().err
        for act in (stateview.load_state, stateview.checkpoint):
            with pytest.raises(InvalidName):
                act(value)
    for name, value in (("author", 5), ("progress", 5), ("source", 5), ("destination", 5), ("namespace", 5)):
        with pytest.raises(InvalidArgument):
            stateview.migrate(**{"source": "json", "destination": "sqlite", name: value})
    assert stateview.load_state("k") == 1


def test_the_message_names_the_argument_and_what_was_given(state):
    for act, message in (
        (lambda: state.save("k", 1, reason=5), "reason=5: give a string, not int"),
        (lambda: state.checkpoint("c", note=None), "note=None: give a string, not NoneType"),
        (lambda: state.log(-1), "limit=-1: give a whole number from 0 to 9,223,372,036,854,775,807"),
        (lambda: state.log(limit=True), "limit=True: give a whole number, not bool"),
        (lambda: state.save("k", 1, ttl=math.nan), "ttl=nan: give a number of seconds from 0 to 10,000,000,000"),
        (lambda: state.list_keys(keys=["a", 5]), "keys[1]=5: give a string, not int"),
    ):
        with pytest.raises(InvalidArgument) as caught:
            act()
        assert str(caught.value) == message
        assert isinstance(caught.value, TypeError) and isinstance(caught.value, ValueError)


def test_subclasses_and_numbers_of_other_libraries_are_taken_for_what_they_hold(state):
    state.save(Text("t"), Text("v"), reason=Text("r"), ttl=Fraction(600))
    state.save(Name.K, 3, expected=Whole() if state.entry("k").revision == 3 else 2)
    state.checkpoint(Text("c"), note=Text("n"))
    state.rename(Text("t"), Text("u"), reason=Text("s"))
    with StateManager(state.url if "redis" not in state.url else state._opened["backend"], "ns") as fresh:
        assert fresh.log(Whole())[0].reason == "s"
        assert (fresh.load("u"), fresh.load(Name.K), fresh.checkpoints()[-1].note) == ("v", 3, "n")
        assert fresh.diff(Text("cp"), keys=(key for key in [Text("u")])).counts["added"] == 1
        assert fresh.delete(Name.K) and "k" not in fresh
        assert fresh.restore_checkpoint("cp", paths={Text("k"): Text("")}, dry_run=True)


def load_in_another_process(manager, queue):
    queue.put((repr(manager), manager.author, manager.load("k"), manager.save("k", 3)))


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda state: pickle.loads(pickle.dumps(state))])
def test_a_manager_is_copied_as_its_arguments(store_url, duplicate):
    with StateManager(store_url, "ns", author="me", timeout=7, history=50) as state:
        state.save("k", 1)
        with duplicate(state) as second:
            assert {**second._opened, "backend": ""} == {**state._opened, "backend": ""}
            assert second.backend is not state.backend
            second.save("k", 2)
        assert (state.load("k"), state.log()[0].author) == (2, "me")
        with duplicate(StateManager(store_url, "ns", read_only=True)) as second, pytest.raises(ReadOnly):
            second.save("k", 3)


def test_a_manager_is_sent_to_another_process_and_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    state = StateManager("sqlite:here", "ns", author="me")
    state.save("k", 1)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    spawn = multiprocessing.get_context("spawn")
    queue = spawn.Queue()
    child = spawn.Process(target=load_in_another_process, args=(state, queue))
    child.start()
    said, author, value, revision = queue.get(timeout=60)
    child.join()
    assert (author, value, revision, state.load("k")) == ("me", 1, 2, 3) and str(tmp_path / "here") in said
    state.fork("forked")  # opens the store again: by its full path
    assert state.namespaces() == ["forked", "ns"] and not list((tmp_path / "elsewhere").iterdir())


@pytest.mark.parametrize("kind", ["json", "sqlite"])
def test_a_working_folder_that_was_removed_is_named(tmp_path, monkeypatch, capsys, kind):
    gone, lasting = tmp_path / "gone", StateManager(f"{kind}:{tmp_path}/store", "ns")
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    for act in (StateManager, lambda: StateManager(f"{kind}:here", "ns"), lambda: stateview.load_state("k")):
        with pytest.raises(BackendError, match=r"the working folder was removed\. Change to a folder that exists"):
            act()
    assert not stateview.save_state("k", 1) and "the working folder was removed" in capsys.readouterr().err
    assert main(["load", "k"]) == 3 and "the working folder was removed" in capsys.readouterr().err
    lasting.save("k", 1)  # a full path needs no working folder
    assert main(["--store", lasting.url, "-n", "ns", "load", "k"]) == 0
    with lasting as state:
        assert state.fork("forked").load("k") == 1


@pytest.mark.parametrize("kind", ["json", "sqlite"])
def test_a_store_that_is_removed_while_it_is_open_is_named_by_its_full_path(tmp_path, monkeypatch, capsys, kind):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    state, later = StateManager(f"{kind}:store", "ns"), StateManager(kind, "ns")
    state.save("k", 1)
    view = state.at(1)
    monkeypatch.chdir(tmp_path)
    shutil.rmtree(tmp_path / "here")
    with pytest.raises(NamespaceNotFound, match=f"'ns' of {kind}:{tmp_path}/here/store does not exist"):
        state.load("k")
    with pytest.raises(HistoryPruned, match="'ns' has no revision 1 any more: it was removed or replaced"):
        view.load("k")
    later.save("k", 1)  # says where it makes the store
    assert f"{kind}:{tmp_path}/here/.claude/state is a new store" in capsys.readouterr().err


OUT_OF_FILES = """
import os, resource, sys
from stateview import BackendError, StateManager
import stateview.maintenance.doctor, stateview.states.restore
url = sys.argv[1]
with StateManager(url, "ns") as state:
    state.save("k", 1); state.checkpoint("c"); state.save("k", 2)
    state.restore_checkpoint("c"); state.list_keys()
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
held = []
while len(held) < 99:
    try: held.append(os.open(os.devnull, os.O_RDONLY))
    except OSError: break
for free in range(3):
    for act in ("save", "checkpoint", "list_keys", "namespaces", "restore_checkpoint"):
        with StateManager(url, "ns") as state:
            args = {"save": ("k", 3), "checkpoint": ("d",), "restore_checkpoint": ("c",)}.get(act, ())
            try: getattr(state, act)(*args)
            except BackendError as error:
                assert ": too many files are open. Close files" in str(error), error
            else: print(act, free)
    os.close(held.pop())
for descriptor in held: os.close(descriptor)
with StateManager(url, "ns") as state:
    assert state.doctor().ok and state.load("k") == 1, state.load("k")
"""


def test_a_process_without_free_descriptors_is_told_so_and_nothing_is_harmed(store_url):
    words = [sys.executable, "-c", OUT_OF_FILES, store_url]
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "list_keys 0" not in done.stdout.splitlines()
    assert "save" not in done.stdout or "redis" in store_url  # which needs one descriptor


BYTES = "\udcff"


def test_words_of_the_command_line_that_are_no_unicode(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["init", "json", "n"]) == 0 and main(["save", "k", "1"]) == 0
    head = StateManager().head()
    capsys.readouterr()
    for words in (
        *(["checkpoint", "c", "--note", BYTES], ["save", "k", "1", "--reason", BYTES], ["save", BYTES, "1"]),
        *(["--author", BYTES, "save", "k", "1"], ["save", "k", BYTES], ["find", BYTES], ["find", "--regex", BYTES]),
        *(["keys", BYTES], ["keys", f"{BYTES}*"], ["load", "k", "--at", BYTES], ["diff", "live", BYTES], [BYTES]),
        *(
            ["restore", "1", "--keys", BYTES, "--yes"],
            ["prune", BYTES, "--yes"],
            ["fork", BYTES],
            ["expire", "k", BYTES],
        ),
        *(
            ["rename", "k", BYTES],
            ["blame", "k", f"/{BYTES}"],
            ["assert", "k", "==", BYTES],
            ["-n", BYTES, "load", "k"],
        ),
        *(
            ["-n", BYTES, "load", "k"],
            ["log", "--limit", BYTES],
            ["-s", f"sqlite:{BYTES}", "load", "k"],
            ["-s", f"json:{BYTES}", "init"],
        ),
    ):
        assert main(words) == 2, words
        error = capsys.readouterr().err
        assert error.startswith("stateview: ") and error.count("\n") == 1, error
    assert StateManager().head() == head


def test_a_store_in_a_folder_whose_name_is_not_utf8(tmp_path, monkeypatch, capsysbinary):
    monkeypatch.chdir(tmp_path)
    store = ["-s", f"json:{BYTES}", "-n", "ns"]
    for words in (
        ["save", "k", "1"],
        ["checkpoint", "c"],
        ["log"],
        ["stats"],
        ["doctor"],
        ["namespaces"],
        ["diff", "c"],
    ):
        for style in ("pretty", "json"):
            of_store = store[:2] if words == ["namespaces"] else store
            assert main([*of_store, *words, "--format", style]) == 0, words
    assert main(["migrate", f"json:{BYTES}", f"json:other{BYTES}", "-n", "ns"]) == 0
    assert (
        main([*store, "export", f"{BYTES}.jsonl"]) == 0 and main([*store, "import", f"{BYTES}.jsonl", "--merge"]) == 0
    )
    with StateManager(f"json:other{BYTES}", "ns", author="me") as state:
        assert (
            state.load("k") == 1
            and state.fork("two").load("k") == 1
            and pickle.loads(pickle.dumps(state)).load("k") == 1
        )


@pytest.mark.parametrize("number", [2**63, 10**40])
def test_a_limit_beyond_what_a_store_counts(tmp_path, monkeypatch, capsys, number):
    monkeypatch.chdir(tmp_path)
    main(["save", "k", "1"])
    capsys.readouterr()
    for words in (["log"], ["history", "k"], ["keys"], ["find", "k"]):
        assert main([*words, "--limit", str(number)]) == 2
        assert "--limit must be at most 9,223,372,036,854,775,807" in capsys.readouterr().err
        assert main([*words, "--limit", str(2**63 - 1)]) == 0


class Unshown:
    def __repr__(self):
        raise RuntimeError


@pytest.mark.parametrize(
    "value",
    [list(range(100_000)), [["x" * 100] * 6] * 6, {n: n for n in range(100_000)}, 10**5000, [10**5000], "x" * 100_000,
     b"x" * 100_000, "\udcff" * 1000, Unshown(), {"k" * 100_000: 5}],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_a_message_shows_the_start_of_a_long_argument(value):
    for check in {*arguments._CHECKS.values()}:
        try:
            check(value, "name")
        except InvalidArgument as error:
            assert 20 < len(str(error)) < 250
