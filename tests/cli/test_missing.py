"""What was never written is not there: each command names it, offers what may be meant, and exits with 1."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

import stateview
from stateview import KeyNotFound, NamespaceNotFound, RefNotFound, StateManager
from stateview.model import nearest

pytestmark = pytest.mark.usefixtures("folder")

Run = Callable[..., tuple[int, str, str]]

READING = (
    ["load", "k"], ["load", "k", "--at", "live"], ["load", "k", "--at", "cp"], ["entry", "k"], ["keys"], ["keys", "k*"],
    ["find", "x"], ["checkpoints"], ["diff", "live"], ["diff", "cp"], ["diff", "0", "live"], ["log"], ["history", "k"],
    ["blame", "k"], ["assert", "k", "==", "1"], ["assert", "k", "!=", "1"], ["assert", "k", "missing"],
    ["assert", "live", "==", "0"], ["wait", "k", "exists", "--timeout", "0"], ["watch", "--timeout", "0.01"],
    ["bisect", "k", "exists"], ["export"], ["export", "--at", "live"], ["stats"], ["doctor"], ["recover"], ["undo"],
    ["redo"], ["restore", "live"], ["restore", "cp", "--dry-run"], ["fork", "copy"], ["delete", "k"], ["delete", "k*"],
    ["rename", "k", "l"], ["expire", "k", "9"], ["checkpoint", "cp", "--delete"], ["compact"], ["prune", "--keep", "1"],
)  # fmt: skip


def test_a_namespace_that_was_never_written_is_named_by_every_command(store_url: str, run: Run) -> None:
    with StateManager(store_url, "build") as state:
        state.save("k", 1)
        state.checkpoint("cp")
        for words in READING:
            code, out, err = run("-s", store_url, "-n", "biuld", *words)
            assert code == 1 and (not out or words == ["doctor"]), (words, code, out, err)  # it warns of the server
            assert "namespace 'biuld' of " in err and "does not exist" in err, (words, err)
            assert "Did you mean build?" in err, (words, err)
            assert "Traceback" not in err and err.count("\n") == (2 if words[0] == "watch" else 1), (words, err)
        assert state.namespaces() == ["build"]
        code, out, err = run("-s", store_url, "-n", "build", "diff", "live", "--with-namespace", "biuld")
        assert (code, out) == (1, "") and "namespace 'biuld'" in err
        assert run("migrate", store_url, "json:copy", "-n", "biuld")[0] == 1
        assert run("-s", store_url, "-n", "biuld", "load", "k", "--default", "7")[:2] == (0, "7\n")


def test_an_empty_namespace_that_was_written_once_is_there(store_url: str, run: Run) -> None:
    with StateManager(store_url, "emptied") as state, StateManager(store_url, "marked") as other:
        state.save("k", 1)
        state.delete("k")
        other.checkpoint("cp")
        for name in ("emptied", "marked"):
            for words in (["keys"], ["find", "x"], ["log"], ["checkpoints"], ["stats"], ["diff", "live"], ["doctor"]):
                code, _, err = run("-s", store_url, "-n", name, *words)
                assert code == 0 and "does not exist" not in err, (name, words, err)
        assert len(stateview.diff(state.at(1), other.at("live"))) == 1


def test_the_errors_of_the_library_carry_the_same_facts(store_url: str) -> None:
    with StateManager(store_url, "build") as state, StateManager(store_url, "biuld") as none:
        state.save("phase", 1)
        acts: list[Callable[[], object]] = [
            lambda: none.load("phase"), lambda: none.entry("phase"), lambda: none.at("cp"), lambda: none.at(3),
            lambda: none.diff("cp"), lambda: none.restore_checkpoint("live"), lambda: none.fork("copy"), none.undo,
            lambda: stateview.diff(state.at("live"), none.at("live")), lambda: none.blame("phase"),
            lambda: none.migrate_to("json:copy"), none.check_exists, lambda: none.export("f.jsonl"),
        ]  # fmt: skip
        for act in acts:
            with pytest.raises(NamespaceNotFound, match=r"'biuld'.*does not exist.*Did you mean build\?") as caught:
                act()
            assert isinstance(caught.value, KeyNotFound) and isinstance(caught.value, RefNotFound)
        assert (none.load("phase", None), none.list_keys(), none.log(), none.checkpoints()) == (None, [], [], [])
        copy = pickle.loads(pickle.dumps(caught.value))
        assert (type(copy), str(copy)) == (NamespaceNotFound, str(caught.value))


def test_similar_names_are_offered_for_keys_checkpoints_refs_and_stores(folder: Path, run: Run) -> None:
    (folder / "stateview.toml").write_text('[stores.prod]\nurl = "json:prod"\n[stores.staging]\nurl = "json:s"\n')
    with StateManager("json:s", "default") as state:
        with state.transaction() as transaction:
            for number in range(3000):
                transaction.save(f"task:{number:04}", number)
            transaction.save("Phase", 1)
            transaction.save("a\x1b[31m", 1)
        state.checkpoint("after_planning")
        state.checkpoint("moved")
        state.save("Phase", 2)
        state.checkpoint("moved")
    offered = {
        ("load", "phase"): "'Phase'", ("load", "task:00012"): "'task:0001'", ("load", "Phas", "--at", "1"): "'Phase'",
        ("history", "Phsae"): "'Phase'", ("restore", "1", "--keys", "Phaes"): "'Phase'",
        ("diff", "1", "--keys", "Phaes"): "'Phase'", ("load", "a[31m"): r"'a\x1b[31m'",
        ("load", "Phase", "--at", "after_planing"): "after_planning?", ("diff", "lvie"): "live?",
        ("diff", "moved@7"): "moved@1", ("checkpoint", "after_plan", "--delete"): "after_planning?",
    }  # fmt: skip
    for words, wanted in offered.items():
        code, out, err = run("-s", "staging", *words)
        assert (code, out) == (1, "") and "Did you mean" in err and wanted in err, (words, err)
    code, _, err = run("-s", "stagign", "keys")
    assert code == 2 and "Did you mean staging?" in err
    assert "See 'stateview -s staging keys'" in run("-s", "staging", "load", "zzz")[2]


@pytest.mark.parametrize(
    ("typed", "wanted"),
    [
        ("task:03", ["task:003", "task:030", "task:031"]),
        ("task:7", ["task:007", "task:017", "task:027"]),
        ("task:0019", ["task:019", "task:001", "task:009"]),
        ("tsk:03", ["task:003", "task:013", "task:023"]),
        ("phse", ["phase", "phases"]),
        ("phases:", ["phases", "phase"]),
        ("pha", ["phase", "phases"]),
        ("zzz", []),
    ],
)
def test_the_nearest_names_come_first(typed: str, wanted: list[str]) -> None:
    assert nearest(typed, [*(f"task:{number:03}" for number in range(200)), "phases", "phase"]) == wanted


@pytest.mark.parametrize("kind", ["json", "sqlite"])
def test_the_key_with_other_zeros_is_found_however_far_it_lies(folder: Path, run: Run, kind: str) -> None:
    with StateManager(kind, "default") as state, state.transaction() as transaction:
        for number in range(5000):
            transaction.save(f"task:{number:06}.x", 1)
    assert "Did you mean 'task:000003.x' or " in run("-s", kind, "load", "task:3.x")[2]
    assert "Did you mean 'task:000300.x' or " in run("-s", kind, "load", "task:0000300.x")[2]


def test_a_caught_error_reads_no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    with StateManager("sqlite:s", "w") as state:
        state.save("phase", 1)
        reads: list[object] = []
        original = state.backend.list_keys
        monkeypatch.setattr(
            state.backend, "list_keys", lambda *args, **more: reads.append(1) or original(*args, **more)
        )
        with pytest.raises(KeyNotFound) as caught:
            state.load("phaes")
        assert not reads
        assert "Did you mean 'phase'?" in str(caught.value) and "Did you mean 'phase'?" in str(caught.value)
        assert len(reads) == 2


def test_a_wrong_folder_names_the_store_and_the_file_that_is_missing(folder: Path, run: Run) -> None:
    for words in (["log"], ["checkpoints"], ["load", "k"], ["namespaces"], ["stats", "--all"]):
        code, out, err = run(*words)
        assert (code, out) == (1, "")
        assert f"json:{folder}/.claude/state" in err and f"no stateview.toml in {folder} or above" in err, err
    (folder / "stateview.toml").write_text('store = "sqlite:elsewhere"\n')
    err = run("log")[2]
    assert f"sqlite:{folder}/elsewhere" in err and f"{folder}/stateview.toml names this store" in err
    assert sorted(path.name for path in folder.iterdir()) == ["stateview.toml"]


def test_a_store_of_another_kind_in_the_same_folder_is_named(folder: Path, run: Run) -> None:
    StateManager("sqlite", "w", quiet=True).save("k", 1)
    for words in (["load", "k", "-n", "w"], ["namespaces"]):
        code, _, err = run(*words)
        assert code == 1 and f"But sqlite:{folder}/.claude/state has namespaces" in err, err


def test_an_error_can_always_be_shown(folder: Path) -> None:
    state = StateManager("json:s", "w")
    with pytest.raises(NamespaceNotFound) as caught:
        state.load("k")
    (folder / "stateview.toml").write_text("store = \n")
    assert str(caught.value).endswith("does not exist")


def test_the_shell_says_that_a_namespace_is_new(run: Run) -> None:
    StateManager("json:s", "build").save("k", 1)
    code, _, err = run("-s", "json:s", "shell", "-c", "use biuld")
    assert code == 0 and "which the first save creates. Did you mean build?" in err
    code, _, err = run("-s", "json:s", "shell", "-c", "use biuld", "-c", "keys")
    assert code == 1 and "namespace 'biuld' of json:" in err
    assert "which the first save creates" in run("-s", "json:s", "shell", "-c", "connect json:nowhere")[2]
    assert run("-s", "json:s", "-n", "new", "shell", "-c", "begin", "-c", "save k 1", "-c", "load k")[:2] == (2, "1\n")


def test_a_delete_inside_a_transaction_names_what_is_not_there(run: Run) -> None:
    with StateManager("json", "default") as state, state.transaction() as transaction:
        for number in range(3000):
            transaction.save(f"task:{number:05}", 1)

    def deleted(*words: str) -> tuple[int, str, str]:
        return run("shell", "-c", "begin", "-c", f"delete --yes {' '.join(words)}")

    assert "will delete 1 key; no key matches 'x*', 'y?'\n" in deleted("task:00001", "'x*'", "'y?'")[2]
    assert "no key matches 'x*'\n" in deleted("'x*'")[2]
    assert "will delete 10 keys\n" in deleted("'task:0000?'", "task:00001")[2]
    code, _, err = deleted("task:00001", "tusk:02999")
    assert code == 1 and "no key 'tusk:02999' in this transaction" in err and "Did you mean 'task:02999'" in err
    assert "See 'stateview keys'" in deleted("nothing")[2]
