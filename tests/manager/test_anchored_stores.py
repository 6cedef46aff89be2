"""Where a bare kind looks below a `stateview.toml`, and what is said when a store is made where nobody chose it."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

import stateview
from stateview import InvalidName, ReadOnly, StateManager
from stateview.cli.program import main

Said = Callable[[], str]


@pytest.fixture
def said(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Said:
    """Return what was printed on standard error since the last call, as if each were of a process of its own."""

    def said() -> str:
        monkeypatch.setattr("stateview.backends.notes._said", set())
        return capfd.readouterr().err

    said()
    return said


@pytest.fixture
def below(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Write a `stateview.toml`, and go to a folder below it."""

    def below(text: str) -> Path:
        (folder / "stateview.toml").write_text(text)
        (folder / "a" / "b").mkdir(parents=True)
        monkeypatch.chdir(folder / "a" / "b")
        return folder

    return below


def place(*arguments: str) -> str:
    """Return the kind and the whole path of the store that a manager opens."""
    kind, _, path = StateManager(*arguments).url.partition(":")
    return f"{kind}:{Path(path).resolve()}"


def test_a_bare_kind_is_the_store_that_the_file_above_names(below: Callable[[str], Path], said: Said) -> None:
    folder = below('store = "sqlite:data"\nnamespace = "w"\n[stores.other]\nurl = "json:other"\n')
    StateManager("sqlite", "w").save("k", 1)
    assert (folder / "data" / "w" / "state.db").exists()
    assert main(["load", "k"]) == 0 and main(["-s", "sqlite", "-n", "w", "load", "k"]) == 0
    assert place("sqlite") == place() == f"sqlite:{folder}/data"
    assert place("json", "w") == f"json:{folder}/.claude/state", "of another kind: beside the file"
    assert place("other") == f"json:{folder}/other"
    assert place("sqlite:data", "w") == f"sqlite:{folder}/a/b/data", "a URL counts from the working folder"
    assert StateManager("sqlite").namespace == "w"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", {"json": ".claude/state", "sqlite": ".claude/state"}),
        ('theme = "nord"\n', {"json": ".claude/state", "sqlite": ".claude/state"}),
        ('store = "sqlite"\n', {"json": ".claude/state", "sqlite": ".claude/state"}),
        ('store = "p"\n[stores.p]\nurl = "sqlite:x"\n[stores.q]\nurl = "json:y"\n',
         {"sqlite": "x", "json": ".claude/state"}),
        ('store = "json:x"\n[stores.sqlite]\nurl = "sqlite:named"\n', {"sqlite": "named", "json": "x"}),
        ('store = "redis://:${UNSET_PASSWORD}@h/0"\n', {"json": ".claude/state"}),
    ],
)  # fmt: skip
def test_the_place_of_a_bare_kind(text: str, wanted: dict[str, str], below: Callable[[str], Path]) -> None:
    folder = below(text)
    for kind, path in wanted.items():
        assert place(kind, "w") == f"{kind}:{folder / path}"


def test_without_a_file_a_bare_kind_is_in_the_working_folder(folder: Path) -> None:
    assert place("sqlite", "w") == f"sqlite:{folder}/.claude/state"


def test_a_bare_redis_is_the_servers_of_the_file_unless_the_environment_names_one(
    below: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    below('store = "p"\n[stores.p]\nurl = "rediss://h:7/3"\nread_only = true\nnamespace = "n"\n')
    state = StateManager("redis")
    assert (state.url, state.namespace, state.read_only) == ("rediss://h:7/3", "n", True)
    with pytest.raises(ReadOnly):
        state.save("k", 1)
    monkeypatch.setenv("STATEVIEW_REDIS_URL", "redis://elsewhere:1/0")
    assert StateManager("redis").url == "redis://elsewhere:1/0"


def test_the_environment_may_name_a_bare_kind(below: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = below('store = "sqlite:data"\n')
    for kind, wanted in (("sqlite", "data"), ("json", ".claude/state")):
        monkeypatch.setenv("STATEVIEW_STORE", kind)
        assert place() == place(kind) == f"{kind}:{folder / wanted}"


def test_a_broken_file_is_an_error_and_no_other_store_is_opened(below: Callable[[str], Path]) -> None:
    below("store = \n")
    with pytest.raises(InvalidName, match="not valid TOML"):
        StateManager("sqlite", "w")


def test_a_manager_stays_where_it_was_opened(below: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = below('store = "sqlite:data"\n')
    state = StateManager("sqlite", "w")
    monkeypatch.chdir(folder / "a")
    state.save("k", 1)
    assert pickle.loads(pickle.dumps(state)).load("k") == 1
    assert state.fork("x").load("k") == 1
    assert sorted(path.name for path in (folder / "data").iterdir()) == ["w", "x"]


# --- what is said --------------------------------------------------------------------------------------------------


def test_a_store_that_is_made_where_nobody_chose_it_is_said_once(folder: Path, said: Said) -> None:
    state = StateManager("sqlite", "w")
    assert state.load("k", None) is None and said() == ""
    state.save("k", 1)
    text = said()
    assert text.count("\n") == 1
    assert f"sqlite:{folder}/.claude/state is a new store" in text and f"no stateview.toml in {folder} or above" in text
    state.save("k", 2)
    StateManager("sqlite", "w").save("k", 3)
    StateManager("sqlite", "another").save("k", 3)
    assert said() == "", "the store exists"
    StateManager("json").save("k", 1)
    assert f"json:{folder}/.claude/state is a new store" in said(), "of another kind, in the same folder"


@pytest.mark.parametrize("words", [["save", "k", "1"], ["checkpoint", "c"], ["import", "f.json"]])
def test_the_command_line_names_the_full_path_of_a_new_store(words: list[str], folder: Path, said: Said) -> None:
    (folder / "f.json").write_text('{"k": 1}')
    assert main(words) == 0
    assert f"json:{folder}/.claude/state" in said()


def test_the_functions_of_the_module_say_it_too(folder: Path, said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, write in enumerate((lambda: stateview.save_state("k", 1), lambda: stateview.checkpoint("c"))):
        (folder / str(number)).mkdir()
        monkeypatch.chdir(folder / str(number))
        assert stateview.load_state("k") is None and said() == ""
        write()
        assert f"json:{folder}/{number}/.claude/state is a new store" in said()


def test_a_chosen_place_is_not_said(folder: Path, said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    StateManager("json:one", "w").save("k", 1)
    StateManager("json", "w", quiet=True).save("k", 1)
    assert main(["-s", "sqlite", "--quiet", "save", "k", "1"]) == 0
    assert "new store" not in said()
    monkeypatch.chdir(folder / "one")
    monkeypatch.setenv("STATEVIEW_QUIET", "1")
    StateManager("json", "w").save("k", 1)
    monkeypatch.delenv("STATEVIEW_QUIET")
    (folder / "two").mkdir()
    monkeypatch.chdir(folder / "two")
    assert main(["init", "sqlite", "w"]) == 0
    StateManager().save("k", 1)
    StateManager("sqlite", "w").save("k", 2)
    assert "new store" not in said()


def test_after_a_switch_a_program_that_names_the_old_kind_is_warned(
    below: Callable[[str], Path], said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = below('store = "json"\nnamespace = "w"\n')
    StateManager("json", "w").save("k", 1)
    assert main(["migrate", "json", "sqlite", "--switch"]) == 0
    assert "means" not in said()
    assert (folder / ".claude/state/w/state.db").exists() and not (folder / "a/b/.claude").exists()
    assert (folder / "stateview.toml").read_text() == 'store = "sqlite"\nnamespace = "w"\n'
    StateManager("json", "w").load("k")
    StateManager("json", "w")
    text = said()
    assert text.count("\n") == 1
    assert f"json:{folder}/.claude/state" in text and f"{folder}/stateview.toml names sqlite:{folder}" in text
    for quiet in (
        lambda: StateManager().load("k"), lambda: StateManager("sqlite", "w").load("k"),
        lambda: StateManager(f"json:{folder}/.claude/state", "w").load("k"),
        lambda: StateManager("json", "another").load("k", 0), lambda: StateManager("json", "w", quiet=True).load("k"),
    ):  # fmt: skip
        quiet()
        assert said() == ""


def test_a_switch_to_a_bare_kind_keeps_the_files_own_store_of_that_kind(below: Callable[[str], Path]) -> None:
    folder = below('store = "sqlite:data"\nnamespace = "w"\n')
    StateManager("json:old", "w").save("k", 1)
    assert main(["migrate", "json:old", "sqlite", "--switch"]) == 0
    assert 'store = "sqlite:data"' in (folder / "stateview.toml").read_text()
    assert StateManager().load("k") == 1


def test_state_that_is_left_in_the_working_folder_is_named(
    below: Callable[[str], Path], said: Said, folder: Path
) -> None:
    folder = below('store = "sqlite:data"\nnamespace = "w"\n')
    StateManager(f"sqlite:{folder}/a/b/.claude/state", "w").save("k", 1)
    StateManager("sqlite", "w")
    text = said()
    assert f"'sqlite' means sqlite:{folder}/data" in text and f"sqlite:{folder}/a/b/.claude/state has a" in text
    StateManager("sqlite", "another")
    assert said() == ""


def test_init_below_a_file_chooses_a_store_of_its_own(below: Callable[[str], Path]) -> None:
    folder = below('store = "sqlite:data"\nnamespace = "w"\n')
    assert main(["init", "sqlite", "mine"]) == 0
    assert place() == place("sqlite") == f"sqlite:{folder}/a/b/.claude/state"
    assert StateManager().namespace == "mine"
