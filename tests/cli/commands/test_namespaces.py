"""`namespaces` tells of each namespace what the namespace itself tells, on Redis by one request for all."""

import json
from pathlib import Path

import pytest
import redis
from conftest import REDIS
from sealed_stores import KEY

from stateview import StateManager
from stateview.cli.program import main


@pytest.fixture
def store(new_store, kind):
    """A store whose namespaces each have a peculiarity."""
    url = new_store(kind)
    acts = {
        "plain": lambda state: [state.save(f"k{number}", number) for number in range(3)],
        "empty": lambda state: (state.save("k", 1), state.checkpoint("c"), state.delete("k")),
        "checkpoint-alone": lambda state: state.checkpoint("c"),
        "moved": lambda state: [(state.save("k", name), state.checkpoint(name)) for name in ("a", "b", "a")],
        "expired": lambda state: (state.save("k", 1), state.save("short", 1, ttl=0.001), state.save("long", 1, ttl=60)),
        "sealed": lambda state: (state.save("k", 1), state.checkpoint("c", note="n")),
    }
    for name, act in acts.items():
        with StateManager(url, name, encryption_key=KEY.printed() if name == "sealed" else None) as state:
            act(state)
    return url


def test_each_namespace_is_told_as_it_is(store, capsys):
    assert main(["-s", store, "namespaces", "--format", "json"]) == 0
    found = [tuple(row.values()) for row in json.loads(capsys.readouterr().out)]
    wanted = []
    for name in ("checkpoint-alone", "empty", "expired", "moved", "plain", "sealed"):
        with StateManager(store, name) as state:
            head = state.head()
            wanted.append((name, head.count, head.revision, len(state.list_checkpoints()), ""))
    assert found == wanted
    assert wanted[2:5] == [("expired", 2, 3, 0, ""), ("moved", 1, 3, 2, ""), ("plain", 3, 3, 0, "")]


@pytest.mark.parametrize("kind", REDIS)
def test_damage_in_a_namespace_is_told_by_its_name(new_store, kind, capsys):
    url = new_store(kind)
    for name in ("a", "b", "c"):
        with StateManager(url, name) as state:
            state.save("k", 1)
    with redis.Redis.from_url(url) as client:
        client.delete("stateview:{b}:live")
    assert main(["-s", url, "namespaces"]) == 3
    told = capsys.readouterr()
    assert told.out == "a\nb\nc\n"
    assert "b: " in told.err and "stateview:{b}:live is gone" in told.err
    assert f"'stateview -s {url} -n b recover'" in told.err


@pytest.mark.parametrize("words", [["namespaces"], ["stats", "--all"]])
@pytest.mark.parametrize("kind", ["json", "sqlite"])
def test_the_sound_namespaces_are_listed_beside_damaged_ones(folder, kind, words, capsys):
    damage(kind, "b", "c")
    capsys.readouterr()
    assert main([*words, "--format", "json"]) == 3
    told = capsys.readouterr()
    rows = {row["namespace"]: (row["keys"], row["problem"]) for row in json.loads(told.out)}
    assert rows == {"a": (1, ""), "b": (None, "damaged"), "c": (None, "damaged"), "d": (1, "")}
    first, *lines = told.err.splitlines()
    assert first == "2 of 4 namespaces cannot be read"
    for line, name in zip(lines, "bc", strict=True):
        assert line.startswith(f"{name}: ") and f"'stateview -n {name} recover'" in line
    assert main([*words, "--format", "table"]) == 3
    rows = capsys.readouterr().out.splitlines()
    assert [row.split()[1:] for row in rows if row[0] in "bc"] == [["damaged"]] * 2


@pytest.mark.parametrize(
    "words",
    [
        ["diff", "live", "live", "--with-namespace", "b"],
        ["restore", "live", "--from-namespace", "b", "--keys", "k"],
        ["-n", "b", "load", "k"],
        ["-n", "b", "doctor"],
    ],
)
@pytest.mark.parametrize("kind", ["json", "sqlite"])
def test_the_advice_names_the_namespace_that_is_damaged(folder, kind, words, capsys):
    damage(kind, "b")
    assert main(words) == 3
    told = capsys.readouterr()
    assert "'stateview -n b recover'" in told.out + told.err


def test_the_advice_names_the_store_that_is_damaged(folder, capsys):
    damage("sqlite", "b")
    with StateManager("json:here", "b") as state:
        state.save("k", 1)
    store = f"sqlite:{folder / '.claude/state'}"
    wanted = f"'stateview -s {store} -n b recover'"
    assert main(["-s", "json:here", "-n", "b", "diff", "live", "live", "--with-store", store]) == 3
    assert wanted in capsys.readouterr().err
    assert main(["-n", "b", "doctor", store]) == 3
    assert wanted in capsys.readouterr().out


@pytest.mark.parametrize("side", ["one", "other"])
def test_the_advice_of_migrate_names_the_damaged_side(folder, side, capsys):
    with StateManager("sqlite:one", "a") as state:
        state.save("k", 1)
        state.migrate_to("sqlite:other")
    (folder / side / "a" / "state.db").write_bytes(b"x" * 30)
    assert main(["-n", "a", "migrate", "sqlite:one", "sqlite:other"]) == 3
    assert f"'stateview -s sqlite:{side} -n a recover'" in capsys.readouterr().err


def test_the_advice_on_a_missing_ref_names_the_other_namespace(folder, capsys):
    damage("sqlite", "b")
    assert main(["-n", "a", "diff", "live", "zzzz", "--with-namespace", "c"]) == 1
    assert "'stateview -n c checkpoints'" in capsys.readouterr().err


def test_a_message_names_the_namespace_whose_commit_undo_takes_back(folder, run):
    damage("sqlite", "b")
    assert "'stateview -n a undo' takes it back" in run("-n", "a", "delete", "k", "--yes")[2]
    assert "'stateview undo' takes it back" in run("delete", "k", "--yes")[2]
    Path("script").write_text("delete k --yes\nload k --at nosuch\n")
    _, _, told = run("-n", "c", "shell", "--file", "script")
    assert "'stateview -n c undo' takes it back" in told and "'stateview -n c checkpoints'" in told


def damage(kind, *names):
    """Make a store of namespaces `a` to `d` that the folder chooses, and damage some."""
    for name in "abcd":
        with StateManager(kind, name) as state:
            state.save("k", 1)
    assert main(["init", kind, "d"]) == 0
    for name in names:
        (Path(".claude/state") / name / {"json": "history.jsonl", "sqlite": "state.db"}[kind]).write_bytes(b"x" * 30)
