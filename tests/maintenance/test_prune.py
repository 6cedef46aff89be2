"""Pruning: what goes by which policy, that what stays reads as before, that the space comes back, ended at any time."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from conftest import REDIS
from forked import forked
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stress import examples, stressed
from terminal import Terminal

from stateview import Conflict, HistoryPruned, InvalidName, ReadOnly, RefNotFound, StateManager
from stateview.backends.protocol import CheckpointRecord, CheckpointWrite, CommitRequest
from stateview.maintenance.history import iter_superseded
from stateview.maintenance.prune import PruneReport
from stateview.refs import parse_age as micros
from stateview.states.retention import kind_of

DAY = 86_400_000_000


@pytest.fixture
def state(store_url: str, folder: Path) -> Iterator[StateManager]:
    with StateManager(store_url, "main") as manager:
        yield manager


def marked(
    state: StateManager, name: str, days: float = 0.0, revision: int | None = None, note: str | None = None
) -> None:
    """A checkpoint that was made some days ago; by an act, if its name is like that and no note is given."""
    time_ = int(state.backend.now() - days * DAY)
    if note is None:
        note = "made by restore 1" if name.startswith("before_") else ""
    state.backend.commit(CommitRequest(marks=(CheckpointWrite(name, note, revision, time_),)))


def names(state: StateManager) -> list[str]:
    return state.list_checkpoints()


def read(state: StateManager, ref: Any) -> dict[str, Any]:
    return {entry.key: entry.value for entry in state.at(ref).entries()}


def everything(state: StateManager) -> dict[Any, Any]:
    """All that can be asked for: each kept state, the checkpoints and the log."""
    head, marks = state.head(), [f"{one.name}@{one.revision}" for one in state.checkpoints(all=True)]
    found: dict[Any, Any] = {ref: read(state, ref) for ref in (*range(head.floor, head.revision + 1), *marks)}
    return {**found, "marks": marks, "log": state.log(10_000)}


def dated(name: str, number: int = 0) -> str:
    return f"before_{name}_20260102_030405" + (f"_{number}" if number else "")


# --- what is chosen ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "note", "automatic", "safety"),
    [
        ("auto_20260102_030405", "", True, False),
        ("auto_20260102_030405_12", "mine", True, False),
        ("before_restore_20260102_030405", "made by restore 1", True, True),
        ("before_import_20260102_030405_2", "made by import x (replace)", True, True),
        ("before_migrate_20260102_030405", "before main of json:x was put in its place", True, True),
        ("before_restore_20260102_030405", "", False, False),
        ("before_restore_20260102_030405", "mine", False, False),
        ("before_deploy_20260102_030405", "made by me", False, False),
        ("before_build", "", False, False),
        ("auto_backup", "", False, False),
        ("before_restore_20260102_030405x", "made by restore 1", False, False),
        ("my_before_restore_20260102_030405", "made by restore 1", False, False),
        ("before_restore_२०२६०१०२_०३०४०५", "made by restore 1", False, False),
    ],
)
def test_a_checkpoint_made_before_kinds_were_stored_is_told_by_its_name_and_note(
    name: str, note: str, automatic: bool, safety: bool
) -> None:
    mark = CheckpointRecord(name, 1, 0, note)
    assert (kind_of(mark) != "named", kind_of(mark) == "safety") == (automatic, safety)


def test_what_acts_make_for_safety_is_known_as_such(state: StateManager, folder: Path) -> None:
    state.save("a", 1)
    state.save("a", 2)
    restored: Any = state.restore_checkpoint(1)
    (folder / "x.json").write_text("{}")
    imported = state.import_from("x.json", how="replace")
    state.checkpoint(dated("restore"), note="made by me")
    state.checkpoint(dated("deploy"))
    auto = state.checkpoint()
    state.rename_checkpoint(restored.checkpoint, "kept")
    kinds = {one.name: one.kind for one in state.checkpoints()}
    assert kinds == {"kept": "named", imported.checkpoint: "safety", auto: "auto",
                     dated("restore"): "named", dated("deploy"): "named"}  # fmt: skip


@pytest.mark.parametrize(
    ("age", "seconds"),
    [("45s", 45), ("3m", 180), ("3min", 180), ("2h", 7200), ("30d", 2_592_000), ("2w", 1_209_600), ("1.5h", 5400),
     ("0s", 0), ("1 d", 86_400), (60, 60), (0.5, 0.5), (timedelta(days=2), 172_800)],
)  # fmt: skip
def test_an_age_is_read(age: Any, seconds: float) -> None:
    assert micros(age) == seconds * 1_000_000


@pytest.mark.parametrize(
    "age",
    ["", "d", "30", "-1d", "30y", "1d2h", "١d", "1e3s", "9" * 13 + "d", -1, True, float("nan"), float("inf"), None, []],
)
def test_what_is_no_age_is_refused(age: Any) -> None:
    with pytest.raises(ValueError, match="is not an age"):
        micros(age)


def test_without_a_pattern_only_automatic_checkpoints_go(state: StateManager) -> None:
    state.save("k", 1)
    for name in ("mine", "auto_20260102_030405", "before_build", dated("deploy"), dated("restore"), dated("import")):
        marked(state, name)
    report = state.prune(keep=1)
    assert [one.name for one in report.checkpoints] == ["auto_20260102_030405", dated("restore")]
    assert names(state) == ["mine", "before_build", dated("deploy"), dated("import")]


def test_a_pattern_chooses_what_a_person_named(state: StateManager) -> None:
    for number in range(5):
        state.save("k", number)
        state.checkpoint(f"nightly_{number}")
    state.checkpoint("release")
    state.prune("nightly_*", keep=2)
    assert names(state) == ["nightly_3", "nightly_4", "release"]
    state.prune(["release", "nightly_3"])
    assert names(state) == ["nightly_4"]


def test_of_a_name_that_moved_the_earlier_ones_can_go(state: StateManager) -> None:
    for number in range(1, 4):
        state.save("k", number)
        state.checkpoint("stage")
    state.prune("stage@1")
    assert [one.ref for one in state.checkpoints(all=True)] == ["stage@2", "stage"]
    state.prune("stage", keep=1)
    assert [one.ref for one in state.checkpoints(all=True)] == ["stage"]
    assert read(state, "stage") == {"k": 3}


def test_what_either_half_keeps_stays(state: StateManager) -> None:
    state.save("k", 1)
    for number, days in enumerate([50, 40, 20, 10]):
        state.save("k", number)
        marked(state, dated("restore", number + 2), days)
    assert len(state.prune(keep=3, older_than="30d", dry_run=True).checkpoints) == 1
    assert len(state.prune(keep=1, older_than="30d", dry_run=True).checkpoints) == 2
    assert len(state.prune(older_than=15 * 86_400, dry_run=True).checkpoints) == 3
    assert len(state.prune(keep=0, dry_run=True).checkpoints) == 4


def test_history_goes_by_the_same_policy(state: StateManager) -> None:
    for number in range(1, 11):
        state.save("k", number)
        if number == 3:
            state.checkpoint("mine")
    assert state.prune(keep=99, history=True).revisions == 0
    report = state.prune(keep=4, history=True)
    assert (report.floor, report.revisions, report.versions) == (6, 6, 4)
    assert [read(state, ref)["k"] for ref in (6, 7, 10, "mine")] == [6, 7, 10, 3]
    assert [one.revision for one in state.log()] == [10, 9, 8, 7]
    for _ in range(4):
        state.undo()
    assert state.load("k") == 6
    with pytest.raises(HistoryPruned):
        state.undo()
    with pytest.raises(HistoryPruned):
        read(state, 5)


def test_history_that_is_older_goes_and_what_stood_at_that_time_stays(state: StateManager) -> None:
    start = state.backend.now() - 100 * DAY
    for number in range(10):
        state.backend.commit(CommitRequest({"k": _write(number)}, time=start + number * 10 * DAY))
    assert state.prune(older_than="45d", history=True).floor == 6  # written 50 days ago, it stood until 40 days ago
    assert read(state, 6) == {"k": 5}
    assert state.prune(older_than="200d", history=True).revisions == 0


def _write(value: Any) -> Any:
    from stateview.backends.protocol import Write

    return Write(json.dumps(value).encode())


@pytest.mark.parametrize(
    "asked",
    [{}, {"history": True}, {"keep": -1}, {"keep": True}, {"keep": 1.5}, {"older_than": "soon"},
     {"pattern": "*", "history": True}],
)  # fmt: skip
def test_what_does_not_say_what_is_to_go_is_refused(state: StateManager, asked: Any) -> None:
    state.save("k", 1)
    marked(state, dated("restore"))
    with pytest.raises(ValueError, match=r"keep|age"):
        state.prune(**asked)
    assert names(state) == [dated("restore")]


def test_a_name_that_is_not_there_is_an_error_and_a_glob_is_not(state: StateManager) -> None:
    state.save("k", 1)
    state.checkpoint("mine")
    with pytest.raises(RefNotFound, match="mine"):
        state.prune("mind")
    assert not state.prune("x*")
    assert names(state) == ["mine"]


def test_a_namespace_that_is_not_there_has_nothing_to_prune(state: StateManager) -> None:
    assert not state.prune(keep=0, history=True)
    assert not state.prune(older_than="1d", history=True, dry_run=True)
    assert state.namespaces() == []


def test_reading_only_refuses_all_but_the_dry_run(state: StateManager, store_url: str) -> None:
    state.save("k", 1)
    marked(state, dated("restore"))
    with StateManager(store_url, "main", read_only=True) as reader:
        assert reader.prune(keep=0, dry_run=True)
        for act in (lambda: reader.prune(keep=0), reader.compact):
            with pytest.raises(ReadOnly):
                act()
    assert names(state) == [dated("restore")]


# --- what is kept, what comes back ---------------------------------------------------------------------------------


def test_a_dry_run_changes_nothing_and_tells_what_would_go(state: StateManager) -> None:
    chance = random.Random(1)
    for number in range(30):
        with state.transaction() as tx:
            for key in chance.sample("abcdefgh", 3):
                if chance.random() < 0.2 and key in tx.list_keys():
                    tx.delete(key)
                else:
                    tx.save(key, chance.randbytes(2000).hex())
        marked(state, dated("restore", number + 2))
    before = everything(state)
    planned = state.prune(keep=3, history=True, dry_run=True)
    assert everything(state) == before
    done = state.prune(keep=3, history=True)
    assert (planned.dry_run, done.dry_run) == (True, False)
    assert planned.checkpoints == done.checkpoints
    assert len(done.checkpoints) == 27
    assert (planned.floor, planned.revisions, planned.versions) == (done.floor, done.revisions, done.versions)
    assert done.before is not None
    assert done.after is not None
    assert planned.freed is not None
    assert done.freed == done.before - done.after > done.before / 2
    assert 0.6 < planned.freed / done.freed < 1.4


write = st.tuples(st.just("write"), st.sets(st.sampled_from("abc"), min_size=1), st.integers(0, 3))
mark = st.tuples(
    st.just("mark"), st.sampled_from(["m", "n", dated("restore"), "auto_20260102_030405"]), st.sampled_from([0, 10, 20])
)
unmark = st.tuples(st.just("unmark"), st.integers(0, 5))
prune = st.tuples(
    st.just("prune"), st.sampled_from([(), None, (), "m", "n@1", "*"]), st.sampled_from([None, 0, 1, 3, 6]),
    st.sampled_from([None, 5, 15]), st.booleans(),
)  # fmt: skip
acts = st.lists(st.one_of(write, mark, write, prune, unmark), min_size=8, max_size=40)


@settings(max_examples=examples(60), suppress_health_check=list(HealthCheck))
@given(acts=acts)
def test_prune_keeps_remaining_states_readable(store_url: str, acts: list[Any]) -> None:
    state = StateManager(store_url, f"n{random.randrange(1 << 60)}")
    number = 0
    for how, *given_ in acts:
        if how == "write":
            with state.transaction() as tx:
                for key in sorted(given_[0]):
                    number += 1
                    if given_[1]:  # a delete is one in four
                        tx.save(key, number)
                    elif key in tx.list_keys():
                        tx.delete(key)
        elif how == "mark":
            marked(state, *given_)
        elif how == "unmark" and given_[0] < len(found := state.checkpoints(all=True)):
            state.delete_checkpoint(f"{found[given_[0]].name}@{found[given_[0]].revision}")
        elif how == "prune":
            check_prune(state, *given_)
    check_prune(state, "*", None, None, False)
    check_prune(state, None, 0, None, True)
    left = list(iter_superseded(state.backend))
    assert [one for one in left if not one.deleted] == []  # nothing but deletes that stand can be left
    assert state.recover().problems == ()
    state.close()


def check_prune(state: StateManager, pattern: Any, keep: int | None, days: int | None, whole: bool) -> None:
    older_than = None if days is None else f"{days}d"
    before, size = everything(state), weight(state)
    try:
        planned = state.prune(pattern, keep=keep, older_than=older_than, history=whole, dry_run=True)
    except ValueError:
        return
    except RefNotFound:
        assert pattern not in (None, (), "*")
        return
    assert everything(state) == before
    if keep:
        done = state.prune(previewed=planned)
    else:
        done = state.prune(pattern, keep=keep, older_than=older_than, history=whole)
    assert (done.checkpoints, done.floor, done.versions) == (planned.checkpoints, planned.floor, planned.versions)
    after = everything(state)
    gone = {f"{one.name}@{one.revision}" for one in done.checkpoints}
    assert after.pop("marks") == [one for one in before["marks"] if one not in gone]
    assert after.pop("log") == [one for one in before["log"] if one.revision > done.floor]
    kept = {ref for ref in before if ref not in gone and (not isinstance(ref, int) or ref >= done.floor)}
    assert after == {ref: before[ref] for ref in kept - {"marks", "log"}}
    assert weight(state) <= size
    assert state.prune((), dry_run=True).versions == 0


def weight(state: StateManager) -> int:
    return sum(one.space for one in iter_superseded(state.backend))


def test_nothing_is_left_of_what_went(state: StateManager, kind: str) -> None:
    """Also not which keys the revisions wrote, of keys that still live."""
    for number in range(40):
        with state.transaction() as tx:
            for key in range(20):
                tx.save(f"k{key:02}", number * 100 + key)
        state.checkpoint(f"c{number}")
    state.prune("*")
    state.prune((), keep=0, history=True)
    if kind == "sqlite":
        with __import__("sqlite3").connect(state.backend.path) as db:  # type: ignore[attr-defined]
            counts = [
                db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("versions", "touched", "marks")
            ]
        assert counts == [0, 0, 0]
    elif kind.startswith("redis"):
        client = state.backend._connect()  # type: ignore[attr-defined]
        kept = {name.decode().rpartition(":")[2] for name in client.scan_iter("stateview:{main}:*")}
        assert kept <= {"head", "live", "index", "tokens", "notes", "commits", "touched"}
        assert client.hkeys("stateview:{main}:notes") in ([], [b"sequence"])
    else:
        folder = Path(state.backend.folder)  # type: ignore[attr-defined]
        assert list((folder / "checkpoints").iterdir()) == []
        assert len((folder / "history.jsonl").read_text().splitlines()) < 25
    assert list(iter_superseded(state.backend)) == []


def test_the_floor_can_be_raised_past_many_commits(state: StateManager) -> None:
    for number in range(300):
        state.save(f"k{number % 7}", number)
    marked(state, "m", revision=150)
    assert state.prune((), keep=10, history=True).floor == 290
    assert len(state.log(1000)) == 10
    assert read(state, "m") == {f"k{at % 7}": at for at in range(143, 150)}
    assert {change.key for change in state.diff("m", 290)} == {f"k{number}" for number in range(7)}


def test_what_was_shown_goes_and_nothing_that_came_since(state: StateManager) -> None:
    state.save("k", 1)
    marked(state, dated("restore"))
    marked(state, "old", revision=0)
    shown = state.prune(["before_*", "old"], dry_run=True)
    marked(state, dated("restore", 2))
    state.delete_checkpoint("old")
    done = state.prune(previewed=shown)
    assert [one.name for one in done.checkpoints] == [dated("restore")]
    assert names(state) == [dated("restore", 2)]


def test_what_was_shown_of_another_namespace_is_refused(state: StateManager) -> None:
    for number in range(3):
        state.save("k", number)
    marked(state, dated("restore"))
    shown = state.prune(keep=0, history=True, dry_run=True)
    state.backend.drop()
    for number in range(9):
        state.save("other", number)
    marked(state, dated("restore"), revision=3)
    with pytest.raises(Conflict, match="replaced"):
        state.prune(previewed=shown)
    assert (state.head().floor, names(state)) == (0, [dated("restore")])


def test_others_write_and_mark_while_it_prunes(state: StateManager, store_url: str, kind: str) -> None:
    with state.transaction() as tx:
        for key in range(100):
            tx.save(f"k{key:03}", "x" * 500)
    stop, failed, seen = threading.Event(), [], []

    def write() -> None:
        number = 0
        with StateManager(store_url, "main") as other:
            while not stop.is_set():
                number += 1
                try:
                    other.save("theirs", number)
                    if number % 5 == 0:
                        name = other.checkpoint(f"theirs{number}")
                        seen.append((name, other.at(name).load("theirs")))
                except Exception as error:
                    failed.append(error)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for number in range(12):
            with state.transaction() as tx:
                for key in range(100):
                    tx.save(f"k{key:03}", f"{number}" * 500)
            marked(state, dated("restore", number + 2))
            state.prune(keep=1, history=number % 2 == 0)
        deadline = time.monotonic() + 20
        while not (seen or failed) and time.monotonic() < deadline:
            time.sleep(0.01)
    finally:
        stop.set()
        thread.join()
    assert failed == []
    assert seen
    for name, value in seen:
        assert state.at(name).load("theirs") == value


def test_the_space_comes_back_while_another_writes(state: StateManager, store_url: str) -> None:
    chance = random.Random(1)
    for number in range(5):
        with state.transaction() as tx:
            for key in range(500):
                tx.save(f"k{key:03}", chance.randbytes(1000).hex())  # as a delta it would take next to nothing
        state.checkpoint(f"c{number}")
    stop = threading.Event()

    def write() -> None:
        with StateManager(store_url, "main") as other:
            while not stop.is_set():
                other.save("theirs", "x" * 50)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        done = state.prune("c*", keep=1, history=True)
    finally:
        stop.set()
        thread.join()
    assert done.before is not None
    assert done.after is not None
    assert done.after < done.before * 0.7


def test_the_file_that_a_killed_process_left_of_a_checkpoint_goes(folder: Path) -> None:
    with StateManager("json", "main") as state:
        state.save("k", 1)
        state.checkpoint("c")
        place = Path(state.backend.folder) / "checkpoints"  # type: ignore[attr-defined]
        content = (place / "c.json").read_bytes()
        state.delete_checkpoint("c")
        (place / "c.json").write_bytes(content)
        (place / "mine.json").write_bytes(content)
        state.compact(0)
        assert [path.name for path in place.iterdir()] == ["mine.json"]


# --- ended in the middle -------------------------------------------------------------------------------------------


class Stopped(Exception):
    pass


def test_stopped_at_any_word_of_progress_it_has_harmed_nothing(state: StateManager) -> None:
    for number in range(6):
        with state.transaction() as tx:
            for key in range(60):
                tx.save(f"k{key:02}", f"{number}" * 100)
        state.checkpoint(f"c{number}")
    content = {one: read(state, one) for one in ("c4", "c5", "live")}
    words = 0

    def stop(_text: str) -> None:
        nonlocal words
        words += 1
        if words == chosen:
            raise Stopped

    for chosen in (1, 2, 3):
        words = 0
        with pytest.raises(Stopped):
            state.prune(
                "c[0-3]" if chosen == 1 else "c*", keep=2 if chosen > 1 else None, history=chosen > 1, progress=stop
            )
            words = chosen - 1
            stop("")
        assert {one: read(state, one) for one in content} == content
        state.save(f"more{chosen}", 1)
        content["live"] = read(state, "live")
    state.prune("c*", keep=2, history=True)
    assert {one: read(state, one) for one in content} == content
    assert names(state) == ["c4", "c5"]


KILLED = """
import sys
from stateview import StateManager
state = StateManager(sys.argv[1], sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
state.prune("c*", keep=1, history=True)
print("done", flush=True)
"""


@pytest.mark.parametrize("rounds", stressed(4))
def test_prune_killed_at_any_point_keeps_remaining_states(store_url: str, rounds: int, folder: Path) -> None:
    chance = random.Random(7)
    took = 0.1
    killed = 0
    for round_ in range(rounds):
        namespace = f"n{round_}"
        with StateManager(store_url, namespace) as state:
            for number in range(5):
                with state.transaction() as tx:
                    for key in range(1500):
                        tx.save(f"k{key:04}", f"{number}" * 200)
                state.checkpoint(f"c{number}")
            content = {one: read(state, one) for one in ("c4", "live")}
        command = [sys.executable, "-c", KILLED, store_url, namespace]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        started = time.monotonic()
        process.stdin.write("\n")
        process.stdin.flush()
        if round_:
            time.sleep(took * chance.random())
            process.send_signal(signal.SIGKILL)
        killed += process.stdout.readline() != "done\n"
        if not round_:
            took = time.monotonic() - started
        process.communicate()
        with StateManager(store_url, namespace) as state:
            assert {one: read(state, one) for one in content} == content
            state.prune("c*", keep=1, history=True)
            assert {one: read(state, one) for one in content} == content
            assert names(state) == ["c4"]
            assert {one.revision for one in iter_superseded(state.backend)} == {4}
            assert state.save("more", 1) == 6
            assert state.recover().problems == ()
    assert killed >= rounds // 3


# --- safety checkpoints --------------------------------------------------------------------------------------------


def safety(folder: Path, keep: int, days: int) -> None:
    (folder / "stateview.toml").write_text(f"[safety]\nkeep = {keep}\ndays = {days}\n")


def test_a_restore_lets_go_of_old_safety_checkpoints(state: StateManager, folder: Path) -> None:
    safety(folder, 3, 30)
    state.save("k", 0)
    for number, days in enumerate([90, 80, 70, 60, 50, 1]):
        state.save("k", number)
        marked(state, dated("restore" if number % 2 else "import", number + 2), days)
    marked(state, "before_release", 90)
    marked(state, "before_deploy_20260102_030405", 90)
    marked(state, dated("restore", 20), 90, note="mine")
    marked(state, "auto_20260102_030405", 90)
    state.save("k", 9)
    applied: Any = state.restore_checkpoint(1)
    assert list(applied.expired) == [dated("import", 2), dated("restore", 3), dated("import", 4), dated("restore", 5)]
    assert names(state) == [
        dated("import", 6),
        dated("restore", 7),
        "before_release",
        "before_deploy_20260102_030405",
        dated("restore", 20),
        "auto_20260102_030405",
        applied.checkpoint,
    ]
    assert state.load("k") == 0
    state.undo()
    assert state.load("k") == 9
    assert read(state, applied.checkpoint) == {"k": 9}


def test_by_default_the_last_twenty_and_those_of_thirty_days_stay(state: StateManager) -> None:
    state.save("k", -9)
    state.save("k", 0)
    for number in range(25):
        marked(state, dated("restore", number + 2), 31)
        state.save("k", number)
    for number in range(5):
        marked(state, dated("import", number + 2), 29)
        state.save("k", -number)
    state.restore_checkpoint(1)
    kept = names(state)
    assert kept[:14] == [dated("restore", number + 2) for number in range(11, 25)]
    assert len(kept) == 20


def test_what_is_restored_does_not_go_at_its_own_restore(state: StateManager, folder: Path) -> None:
    safety(folder, 0, 0)
    state.save("k", 0)
    marked(state, dated("restore"), 90)
    state.save("k", 1)
    marked(state, dated("restore", 2), 90)
    state.save("k", 2)
    state.restore_checkpoint(dated("restore"))
    assert names(state)[0] == dated("restore")
    assert dated("restore", 2) not in names(state)
    assert state.load("k") == 0


def test_a_dry_run_and_a_restore_of_nothing_let_nothing_go(state: StateManager, folder: Path) -> None:
    safety(folder, 0, 0)
    state.save("k", 0)
    marked(state, dated("restore"), 90)
    state.restore_checkpoint(0, dry_run=True)
    state.restore_checkpoint(1)
    assert names(state) == [dated("restore")]


@pytest.mark.parametrize(
    "text",
    ["[safety]\nkeep = -1", "[safety]\nkeep = true", "[safety]\ndays = 1.5", "[safety]\ndays = '30d'",
     "[safety]\nkept = 1", "safety = 3"],
)  # fmt: skip
def test_a_policy_that_is_not_one_is_refused(folder: Path, text: str) -> None:
    with StateManager("json", "main") as state:
        state.save("k", 0)
        state.save("k", 1)
        (folder / "stateview.toml").write_text(text)
        with pytest.raises(InvalidName, match=r"safety|keep|days"):
            state.restore_checkpoint(1)
        assert state.load("k") == 1


# --- the commands --------------------------------------------------------------------------------------------------


def run(*words: str, code: int = 0) -> tuple[str, str]:
    done = forked(*words)
    assert done.returncode == code, (words, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return done.stdout, done.stderr


@pytest.fixture
def filled(folder: Path) -> StateManager:
    state = StateManager("json", "default")
    for number in range(5):
        state.save("k", number)
        marked(state, dated("restore", number + 2))
        state.checkpoint(f"c{number}")
    return state


def test_a_script_needs_yes_and_shows_what_would_go(filled: StateManager) -> None:
    out, err = run("prune", "--keep", "2", "--dry-run")
    shown = json.loads(out)
    assert [one["name"] for one in shown["checkpoints"]] == [dated("restore", number) for number in (2, 3, 4)]
    assert (shown["dry_run"], shown["revisions"]) == (True, 0)
    assert "nothing was changed" in err
    assert "3 checkpoints" in run("prune", "--keep", "2", code=5)[1]
    assert len(names(filled)) == 10
    out, err = run("prune", "--keep", "2", "--yes")
    assert "3 checkpoints deleted" in err
    assert len(names(filled)) == 7
    assert "nothing to prune" in run("prune", "--keep", "2")[1]


def test_at_a_terminal_it_shows_what_goes_and_asks(filled: StateManager) -> None:
    for answer, left in (("n", 10), ("y", 7)):
        terminal = Terminal("prune", "--keep", "2", columns=110)
        assert dated("restore", 2) in terminal.until("cannot be undone")
        terminal.type(answer + "\r")
        terminal.until("Nothing was changed" if left == 10 else "checkpoints deleted")
        terminal.end()
        assert len(names(filled)) == left


def test_compact_alone_forgets_nothing_that_can_be_asked_for(filled: StateManager) -> None:
    before = everything(filled)
    assert "unreachable version" in run("compact")[1]
    assert everything(filled) == before
    assert "4 revisions of history" in run("compact", "--keep", "1", code=5)[1]
    run("compact", "--keep", "1", "--yes")
    assert filled.head().floor == 4
    assert len(names(filled)) == 10


def test_what_matches_nothing_does_nothing_also_with_yes(filled: StateManager, folder: Path) -> None:
    filled.delete_checkpoint("c0")
    size = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for words in (["prune", "zz*"], ["prune", "--keep", "50"], ["compact", "--keep", "50"]):
        for more in ([], ["--yes"]):
            _, err = run(*words, *more)
            assert "nothing to prune in namespace 'default'" in err
            assert "before" not in err
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == size


def test_a_number_below_zero_is_said_to_be_one(filled: StateManager) -> None:
    assert "keep must be 0 or more, not '-1'" in run("prune", "--keep=-1", "--yes", code=2)[1]
    assert "keep must be a whole number, not '1.5'" in run("prune", "--keep=1.5", "--yes", code=2)[1]
    assert len(names(filled)) == 10


@pytest.mark.parametrize(
    "words", [["prune"], ["prune", "--history"], ["prune", "--older-than", "soon"], ["compact", "--older-than", "-1d"]]
)
def test_what_says_nothing_is_a_usage_error(filled: StateManager, words: list[str]) -> None:
    assert run(*words, "--yes", code=2)[0] == ""
    assert len(names(filled)) == 10


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "Give --keep, --older-than, or the names of checkpoints"),
        (["--history"], "Give --keep or --older-than"),
        (["c*", "--history"], "Give --keep or --older-than"),
    ],
)
def test_what_is_missing_is_named_as_it_is_typed(filled: StateManager, words: list[str], told: str) -> None:
    said = run("prune", *words, "--dry-run", code=2)[1]
    assert told in said
    assert "older_than" not in said
    assert len(names(filled)) == 10


def test_restore_says_what_went_and_checkpoints_how_long_they_stay(filled: StateManager, folder: Path) -> None:
    safety(folder, 1, 0)
    assert "the last 1 and those of the last 0 days" in run("checkpoints")[1]
    said = run("restore", "c1")[1]
    assert "4 old safety checkpoints deleted: the last 1 and those of the last 0 days are kept" in said
    filled.prune("*")
    assert run("checkpoints")[1].count("kept") == 0


@pytest.mark.parametrize("server", REDIS or ["redis"])
def test_what_a_redis_user_may_not_ask_is_said_to_be_unknown(redis_server: Callable[[str], str], server: str) -> None:
    url = redis_server(server)
    with redis.Redis.from_url(url) as admin:
        admin.execute_command("ACL", "SETUSER", "shy", "on", ">pw", "~*", "&*", "+@all", "-memory")
        try:
            with StateManager(url.replace("redis://", "redis://shy:pw@") + "/0", "shy") as state:
                state.save("k", 1)
                state.checkpoint("c")
                state.save("k", 2)
                report: PruneReport = state.prune("c")
                assert (report.before, report.after, report.freed) == (None, None, None)
                assert len(report.checkpoints) == 1
                assert state.prune((), keep=0, history=True, dry_run=True).freed
                state.backend.drop()
        finally:
            admin.execute_command("ACL", "DELUSER", "shy")


def test_checkpoints_are_deleted_together_and_compact_frees_their_space(
    state: StateManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(6):
        state.save("k", [number, "x" * 3000])
        state.checkpoint(f"c-{number}")
    state.checkpoint("c-0")  # moved: the earlier state stays as c-0@1
    monkeypatch.setattr("stateview.maintenance.prune.CHECKPOINTS_PER_COMMIT", 2)
    with pytest.raises(RefNotFound, match="'c-9'"):
        state.delete_checkpoints(["c-1", "c-9"])
    assert len(names(state)) == 6
    gone = state.delete_checkpoints(["c-[12]", "c-3", "c-0@1"])
    assert sorted(mark.ref for mark in gone) == ["c-0@1", "c-1", "c-2", "c-3"]
    assert names(state) == ["c-4", "c-5", "c-0"]
    assert state.delete_checkpoints("none*") == state.delete_checkpoints([]) == []
    assert read(state, 2)["k"][0] == 1  # the history keeps it
    state.compact(state.revision)
    with pytest.raises(HistoryPruned):
        state.load("k", at=2)
    assert read(state, "c-4")["k"][0] == 4
