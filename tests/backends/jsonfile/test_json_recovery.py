"""`recover()` of a JSON history line by line: what is sound stays, what is lost is named, and no state is made up."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from stress import first

from stateview import Damaged, HistoryPruned, RecoveryReport, RefNotFound, StateManager
from stateview.model import Commit

Lines = list[bytes]


def flip(line: bytes, place: int = 60, bit: int = 0) -> bytes:
    return line[:place] + bytes([line[place] ^ (1 << bit)]) + line[place + 1 :]


class Store:
    """A JSON namespace, all its states as they should read, and ways to damage its history."""

    def __init__(self, folder: Path) -> None:
        self.url = f"json:{folder}"
        self.folder = folder / "ns"
        self.history = self.folder / "history.jsonl"
        self.right: dict[int, dict[str, Any]] = {0: {}}
        self.marks: dict[str, dict[str, Any]] = {}
        self.log: list[Commit] = []

    def open(self) -> StateManager:
        return StateManager(self.url, "ns")

    def remember(self, state: StateManager) -> None:
        """All that the store shows while it is sound."""
        self.log = state.log(10_000)
        self.marks = {
            str(mark.ref): {one.key: one.value for one in state.at(mark.ref).entries()}
            for mark in state.checkpoints(all=True)
        }

    def lines(self) -> Lines:
        return self.history.read_bytes().splitlines(keepends=True)

    def damage(self, change: Callable[[Lines], Lines]) -> None:
        """Put other lines into the history; a person did not do it, so its time stays."""
        time = self.history.stat().st_mtime_ns
        self.history.write_bytes(b"".join(change(self.lines())))
        os.utime(self.history, ns=(time, time))

    def number(self, text: bytes) -> int:
        """The place of the line that holds a text."""
        (place,) = [number for number, line in enumerate(self.lines()) if text in line]
        return place

    def recover(self) -> RecoveryReport:
        """Recover, after which `doctor` has no errors, and recovering again has nothing to do."""
        with self.open() as state:
            report = state.recover()
            assert [one for one in state.doctor().findings if one.severity == "error"] == []
            assert state.recover().problems == ()
        return report

    def readable(self) -> set[int]:
        """The revisions that can be read; those that can are right."""
        found = set()
        with self.open() as state:
            for revision, right in self.right.items():
                try:
                    shown = {one.key: one.value for one in state.at(revision).entries()}
                except (HistoryPruned, RefNotFound):
                    continue
                assert shown == right, revision
                found.add(revision)
        return found


def lost(report: RecoveryReport) -> str:
    return " ".join(f"{one.subject} {one.found}: {one.done}" for one in report.problems if not one.mended)


@pytest.fixture
def rounds(tmp_path: Path) -> Store:
    """Sixty saves to ten keys, in turn."""
    store = Store(tmp_path)
    with store.open() as state:
        for number in range(60):
            store.right[state.save(f"k{number % 10}", number)] = {
                f"k{one % 10}": one for one in range(max(0, number - 9), number + 1)
            }
        store.remember(state)
    return store


@pytest.mark.parametrize(
    "change",
    [
        lambda lines: lines[:6] + lines[5:],
        lambda lines: [*lines[:6], lines[7], lines[6], *lines[8:]],
        lambda lines: [lines[0], *reversed(lines[1:])],
        lambda lines: lines[1:] + lines[:1],
    ],
    ids=["doubled", "swapped", "turned around", "header last"],
)
def test_lines_doubled_or_swapped_cost_nothing(rounds: Store, change: Callable[[Lines], Lines]) -> None:
    before = rounds.lines()
    rounds.damage(change)
    report = rounds.recover()
    assert report.ok
    assert [one.done.partition(";")[0] for one in report.problems] == ["put in order, nothing is lost"]
    assert rounds.lines() == before
    assert len(report.kept) == 1


@pytest.mark.parametrize("how", ["flipped", "missing"])
def test_a_bad_line_costs_its_revision_and_what_may_show_it(rounds: Store, how: str) -> None:
    rounds.damage(lambda lines: lines[:6] + ([flip(lines[6])] if how == "flipped" else []) + lines[7:])
    report = rounds.recover()
    assert "commit of revision 6 is unreadable: lost: what was written" in lost(report)
    assert "from revision 16 on" in lost(report)  # when the key that it may have written was written again
    assert rounds.readable() == set(range(16, 61))
    with rounds.open() as state:
        assert state.log(100) == [commit for commit in rounds.log if commit.revision != 6]
        assert [one.revision for one in state.history("k5")] == [56, 46, 36, 26, 16]
        assert [one.revision for one in state.history("k4")] == [55, 45, 35, 25, 15, 5]
        assert state.save("k5", "after") == 61
    rounds.right[61] = {**rounds.right[60], "k5": "after"}
    assert 61 in rounds.readable()


def test_a_lost_commit_that_is_still_live_costs_only_its_reason(rounds: Store) -> None:
    rounds.damage(lambda lines: lines[:57] + lines[58:])
    report = rounds.recover()
    assert "commit of revision 57 is unreadable: lost: its time, reason and author" in lost(report)
    assert rounds.readable() == set(range(61))
    with rounds.open() as state:
        (commit,) = [commit for commit in state.log(100) if commit not in rounds.log]
    assert (commit.revision, commit.reason, commit.keys) == (57, "recovered: its line was lost", 1)


def test_the_last_line_costs_no_state_where_state_json_is_what_it_led_to(rounds: Store) -> None:
    rounds.damage(lambda lines: [*lines[:-1], flip(lines[-1], len(lines[-1]) - 8)])
    report = rounds.recover()
    assert "commit of revision 60 is unreadable: lost: its time, reason and author" in lost(report)
    assert rounds.readable() == set(range(61))


def test_the_last_line_missing_costs_the_past_states_but_no_log(rounds: Store) -> None:
    rounds.damage(lambda lines: lines[:-1])
    report = rounds.recover()
    assert "commit of revision 60 is unreadable: lost: what was written" in lost(report)
    assert "'k9'" in lost(report)
    with rounds.open() as state:
        assert {one.key: one.value for one in state.at("live").entries()} == rounds.right[60]
        assert state.log(100)[1:] == rounds.log[1:]
    assert rounds.readable() == set()


def test_a_state_that_is_missing_too_is_made_of_the_lines_where_these_prove_it(rounds: Store) -> None:
    rounds.damage(lambda lines: lines[:6] + lines[7:])
    (rounds.folder / "state.json").unlink()
    report = rounds.recover()
    assert "state.json" not in lost(report)
    assert rounds.readable() == set(range(16, 61))


def test_a_state_that_is_missing_too_is_not_mixed_of_what_may_be_lost(rounds: Store) -> None:
    rounds.damage(lambda lines: lines[:57] + lines[58:])
    (rounds.folder / "state.json").unlink()
    report = rounds.recover()
    assert "taken back to revision 56" in lost(report)
    with rounds.open() as state:
        assert {one.key: one.value for one in state.at("live").entries()} == rounds.right[56]


@pytest.fixture
def marked(tmp_path: Path) -> Store:
    """Checkpoints with notes; between the last and the live state, a key that came and went."""
    store = Store(tmp_path)
    with store.open() as state:
        for number, name in enumerate(("one", "two", "three")):
            state.save("a", number)
            state.save(f"b{number}", number)
            state.checkpoint(name, note=f"note of {name}")
        state.save("gone", 1)
        state.delete("gone")
        state.checkpoint("four", note="note of four")
        store.remember(state)
        shown: dict[str, Any] = {}
        for revision in range(1, state.revision + 1):
            shown = {one.key: one.value for one in state.at(revision).entries()}
            store.right[revision] = shown
    return store


@pytest.mark.parametrize("name", ["one", "two", "three", "four"])
def test_of_a_checkpoint_whose_line_is_lost_the_report_says_what_is_not_known(marked: Store, name: str) -> None:
    place = marked.number(b'"name":"%s"' % name.encode())
    with marked.open() as state:
        right = {mark.name: mark for mark in state.checkpoints()}
    marked.damage(lambda lines: lines[:place] + lines[place + 1 :])
    report = marked.recover()
    assert f"checkpoint {name!r}" in lost(report)
    assert "its note and its time are lost" in lost(report)
    assert ("or another of 6 to 8 that shows the same" in lost(report)) == (name in ("three", "four"))
    with marked.open() as state:
        found = {mark.name: mark for mark in state.checkpoints()}
        assert [mark.name for mark in state.checkpoints()] == ["one", "two", "three", "four"]
        assert {one.key: one.value for one in state.at(name).entries()} == marked.right[right[name].revision]
    assert {other: mark for other, mark in found.items() if other != name} == {
        other: mark for other, mark in right.items() if other != name
    }
    assert marked.readable() == set(range(9))


def test_a_later_checkpoint_of_a_name_whose_line_is_lost_is_found_by_its_file(marked: Store) -> None:
    with marked.open() as state:
        state.checkpoint("one", note="moved")
    marked.damage(lambda lines: lines[:-1])
    report = marked.recover()
    assert "checkpoint 'one'" in lost(report)
    with marked.open() as state:
        assert {one.key: one.value for one in state.at("one").entries()} == marked.right[8]
        assert {one.key: one.value for one in state.at("one@2").entries()} == marked.right[2]


@pytest.mark.parametrize("gone", [["history.jsonl"], ["history.jsonl", "state.json"]], ids=len)
def test_what_recover_makes_of_checkpoints_alone_passes_doctor(marked: Store, gone: list[str]) -> None:
    for name in gone:
        (marked.folder / name).unlink()
    report = marked.recover()
    assert all(f"checkpoint {name!r}" in lost(report) for name in ("one", "two", "three", "four"))
    with marked.open() as state:
        for name, revision in (("one", 2), ("two", 4), ("three", 6), ("four", 8)):
            assert {one.key: one.value for one in state.at(name).entries()} == marked.right[revision]


def test_doctor_says_once_that_the_history_cannot_be_read(rounds: Store) -> None:
    rounds.damage(lambda lines: [*lines[:6], flip(lines[6]), *lines[7:]])
    with rounds.open() as state:
        (finding,) = [one for one in state.doctor().findings if one.severity == "error"]
    assert finding.subject == os.path.join("ns", "history.jsonl")


@pytest.mark.parametrize(
    "change",
    [lambda lines: [lines[0], lines[1], *lines[1:]], lambda lines: lines[:1] + lines[:0:-1]],
    ids=["doubled", "turned around"],
)
def test_a_history_written_anew_is_not_read_out_of_order(rounds: Store, change: Callable[[Lines], Lines]) -> None:
    with rounds.open() as state:
        state.prune((), keep=30, history=True)
    rounds.damage(change)
    with rounds.open() as state:
        assert not state.doctor().ok
    assert rounds.recover().ok
    assert rounds.readable() == set(range(30, 61))


def build(store: Store, chance: random.Random) -> None:
    """Anything that a script does, in any order."""
    now: dict[str, Any] = {}
    with store.open() as state:
        for step in range(chance.randrange(5, 40)):
            act = chance.random()
            if act < 0.6:
                key = f"k{chance.randrange(chance.choice((2, 5, 20)))}"
                state.save(key, step, reason=f"step {step}")
                now = {**now, key: step}
            elif act < 0.75:
                key = f"k{chance.randrange(6)}"
                state.delete(key)
                now = {other: value for other, value in now.items() if other != key}
            elif act < 0.85:
                with state.transaction() as many:
                    for number in range(3):
                        many.save(f"k{number}", -step)
                now = {**now, **{f"k{number}": -step for number in range(3)}}
            elif act < 0.95:
                state.checkpoint(f"c{chance.randrange(4)}", note=f"note {step}")
            elif state.revision > 4:
                state.prune((), keep=chance.randrange(1, state.revision), history=True)
            store.right[state.revision] = now
        store.remember(state)


@pytest.mark.parametrize("seed", first(range(int(os.environ.get("STATEVIEW_TEST_SEEDS", "60"))), 10))
def test_whatever_lines_are_damaged_no_state_is_made_up(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    store = Store(tmp_path)
    build(store, chance)
    lines = store.lines()
    sound = store.readable()
    for _ in range(chance.choice((1, 1, 2, 3))):
        place = chance.randrange(len(lines))
        how = chance.choice(("flip", "flip", "remove", "double", "swap"))
        if how == "flip":
            lines[place] = flip(lines[place], chance.randrange(len(lines[place])), chance.randrange(8))
        elif how == "remove" and (b'"set":' in lines[place] or b'"delete":' in lines[place]):
            del lines[place]  # what made no revision leaves no trace
        elif how == "double":
            lines.insert(place, lines[place])
        else:
            other = chance.randrange(len(lines))
            lines[place], lines[other] = lines[other], lines[place]
        if not lines:
            return
    store.damage(lambda _: lines)
    before = {path.name: path.read_bytes() for path in store.folder.iterdir() if path.is_file()}
    with store.open() as state:
        try:
            live = {one.key: one.value for one in state.at("live").entries()}
        except Damaged:
            live = None
    assert live in (None, store.right[max(store.right)])
    report = store.recover()
    named = lost(report)
    assert [Path(path).read_bytes() for path in report.kept if "history" in path] in ([], [before["history.jsonl"]])
    readable = store.readable()
    if report.ok:
        assert readable >= sound
    with store.open() as state:
        live = {one.key: one.value for one in state.at("live").entries()}
        right = store.right[max(store.right)]
        differ = [key for key in live.keys() | right.keys() if live.get(key) != right.get(key)]
        assert all(repr(key) in named or "state.json" in named for key in differ), (differ, report)
        known = {commit.revision: commit for commit in store.log}
        for commit in state.log(10_000):
            assert known.get(commit.revision, commit) == commit or "recovered" in commit.reason
        for ref, right in store.marks.items():
            try:
                shown = {one.key: one.value for one in state.at(ref).entries()}
            except (RefNotFound, HistoryPruned):
                assert not report.ok, ref
                continue
            assert shown == right or repr(ref.partition("@")[0]) in named, (ref, report)
