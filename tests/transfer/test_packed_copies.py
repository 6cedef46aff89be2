"""Packed history says the same as history that is kept whole, whatever is asked of it, and wherever it is copied."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import KINDS
from packed_history import Texts, deltas
from stress import stressed

from stateview import StateManager
from stateview.backends import deltas as deltas_module
from stateview.backends.jsonfile import history as json_history
from stateview.backends.redis import packing
from stateview.backends.sqlite import packed as sqlite_packed
from stateview.backends.sqlite import packing as sqlite_packing
from stateview.backends.sqlite import transfer as sqlite_transfer
from stateview.backends.sqlite import writer as sqlite_writer
from stateview.transfer import version_pages

NEVER = 1 << 40
MODULES = (deltas_module, json_history, packing, sqlite_packed, sqlite_packing, sqlite_transfer)
QUERIES = ((sqlite_writer, "_SUPERSEDE_SMALL"), (sqlite_writer, "_LARGE_ENTRY"), (sqlite_transfer, "_LAST"))
Run = Callable[..., tuple[int, str, str]]


@contextmanager
def unpacked() -> Iterator[None]:
    """Keep every version whole, as if each were too small."""
    with pytest.MonkeyPatch.context() as patch:
        for module in MODULES:
            patch.setattr(module, "MIN_BYTES", NEVER)
        for owner, name in QUERIES:
            patch.setattr(owner, name, getattr(owner, name).replace("512", str(NEVER)))
        yield


def fill(url: str) -> None:
    texts = Texts(random.Random(5), 60, 30)
    with StateManager(url, "ns") as state:
        for number in range(60):
            key = "abc"[number % 3]
            value = {"lines": texts.next(key), "count": number, "step": {"done": number > 30}}
            state.save(key, value, reason=f"step {number}", ttl=3600 if number == 50 else None)
            if number % 9 == 0:
                state.checkpoint(f"c{number}", note="noted")
            if number == 40:
                state.delete("b")
        state.undo()
        state.restore_checkpoint("c36", keys=["c"])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """An export of a store of which nothing is packed: its path and its bytes."""
    folder = tmp_path_factory.mktemp("whole")
    with unpacked():
        fill(f"sqlite:{folder}/store")
        assert deltas(f"sqlite:{folder}/store") == {}
        with StateManager(f"sqlite:{folder}/store", "ns") as state:
            state.export(folder / "whole.jsonl")
    return folder / "whole.jsonl", (folder / "whole.jsonl").read_bytes()


def imported(url: str, path: Path) -> str:
    with StateManager(url, "ns") as state:
        state.import_from(path)
    return url


def exported(url: str, folder: Path, namespace: str = "ns") -> bytes:
    with StateManager(url, namespace) as state:
        state.export(folder / "out.jsonl", overwrite=True)
        assert [one for one in state.doctor().findings if one.severity == "error"] == []
    return (folder / "out.jsonl").read_bytes()


def content(state: StateManager, ref: str | int = "live") -> dict[str, Any]:
    return {entry.key: (entry.value, entry.revision, entry.time) for entry in state.at(ref).entries()}


def answers(url: str, run: Run) -> dict[str, Any]:
    """All that can be asked about the past, and then the outcome of acts that go back to it."""
    out: dict[str, Any] = {}
    with StateManager(url, "ns") as state:
        refs: list[str] = [mark.ref for mark in state.checkpoints(all=True)]
        out["log"] = state.log(1000)
        for ref in (*refs, *range(state.backend.head().floor, state.revision + 1, 5)):
            out[f"at {ref}"] = content(state, ref)
            out[f"rows {ref}"] = state.rows(at=ref)
        for ref in refs:
            for other in ("live", refs[0]):
                diff = state.diff(ref, other)
                out[f"diff {ref} {other}"] = [(one.key, one.kind, one.before, one.after) for one in diff]
                out[f"patch {ref} {other}"] = diff.as_json_patch()
        for key in "abc":
            out[f"history {key}"] = state.history(key, 1000)
            for path in ("", "/lines", "/lines/3", "/step/done"):
                for ref in ("live", refs[2]):
                    if key in state.at(ref):
                        try:
                            out[f"blame {key} {path} {ref}"] = state.blame(key, path, at=ref)
                        except KeyError as error:
                            out[f"blame {key} {path} {ref}"] = type(error)
        for words in (
            *(["find", "99", "--at", str(ref)] for ref in refs),
            ["find", "--jsonpath", "$..count", "--at", str(refs[1])],
            ["bisect", "a", "/step/done", "==", "true"],
            ["bisect", "c", "/count", ">", "20"],
        ):
            code, said, _ = run("-s", url, "-n", "ns", *words, "--format", "json")
            out[" ".join(words)] = code, json.loads(said)
        with state.fork("forked", at=refs[1]) as fork:
            out["fork"] = [(entry.key, entry.value) for entry in fork.at("live").entries()]
        for act, again in ((state.undo, state.undo), (state.redo, state.undo)):
            act()
            again()
            out[f"after {act.__name__}"] = [(entry.key, entry.value) for entry in state.at("live").entries()]
        changes = state.restore_checkpoint(refs[1])
        out["restore"] = [(one.key, one.kind, one.before, one.after) for one in changes]
        out["revert"] = [
            (one.key, one.before, one.after) for one in state.revert("a", state.history("a", 1000)[-1].revision)
        ]
        out["live"] = [(entry.key, entry.value) for entry in state.at("live").entries()]
        assert [one for one in state.doctor().findings if one.severity == "error"] == []
    return out


def test_all_acts_are_as_on_history_that_is_kept_whole(
    kind: str, new_store: Callable[[str], str], whole: tuple[Path, bytes], run: Run
) -> None:
    packed = imported(new_store(kind), whole[0])
    assert len(deltas(packed)) > 20
    with unpacked():
        plain = imported(new_store(kind), whole[0])
        assert deltas(plain) == {}
        wanted = answers(plain, run)
    found = answers(packed, run)
    for question, answer in wanted.items():
        assert found[question] == answer, question
    assert found.keys() == wanted.keys()
    assert {answer[0] for question, answer in found.items() if question.startswith("bisect")} == {0}


def carried(source: str, copy: str) -> set[tuple[str, int]]:
    """The versions that are kept as the same delta in both."""
    former = deltas(source)
    return {place for place, kept in deltas(copy).items() if place in former and kept[:4] == former[place][:4]}


PAIRS = [(source, target) for source in KINDS for target in KINDS]


@pytest.mark.parametrize(("source", "target"), [("sqlite", "json"), *stressed(*PAIRS)])
@pytest.mark.parametrize("page", [4000, 7])
def test_a_copy_is_as_of_history_that_is_kept_whole(
    source: str, target: str, page: int, new_store: Callable[[str], str], whole: tuple[Path, bytes], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(version_pages, "VERSIONS_PER_PAGE", page)
    path, wanted = whole
    packed = imported(new_store(source), path)
    assert exported(packed, tmp_path) == wanted
    copy = new_store(target)
    with StateManager(packed, "ns") as state:
        state.migrate_to(copy)
    assert exported(copy, tmp_path) == wanted
    assert len(deltas(copy)) > 20
    assert len(carried(packed, copy)) > len(deltas(copy)) * (0.8 if page == 4000 else 0.3)
    with StateManager(copy, "ns") as state:  # what was copied goes on to be packed and pruned
        marks = {mark.ref: content(state, mark.ref) for mark in state.checkpoints(all=True)}
        last = state.load("a")
        for number in range(20):
            state.save("a", {**last, "count": number})
        state.compact(state.revision)
        assert {ref: content(state, ref) for ref in marks} == marks
        assert state.recover().problems == ()


@pytest.mark.parametrize("kind", stressed(*KINDS))
def test_packed_history_goes_into_a_store_that_keeps_it_whole_and_back(
    kind: str, new_store: Callable[[str], str], whole: tuple[Path, bytes], tmp_path: Path
) -> None:
    packed = imported(new_store(kind), whole[0])
    plain, again = new_store("sqlite"), new_store(kind)
    with unpacked(), StateManager(packed, "ns") as state:
        state.migrate_to(plain)
    assert deltas(plain) == {}
    assert exported(plain, tmp_path) == whole[1]
    with StateManager(plain, "ns") as state:
        state.migrate_to(again)
    assert exported(again, tmp_path) == whole[1]
    assert len(deltas(again)) > 20
