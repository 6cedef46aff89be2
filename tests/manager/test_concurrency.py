"""Many processes and threads on one store, processes that fork, and processes that are killed in the middle."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from packed_history import deltas
from stress import stressed

from stateview import StateManager
from stateview.backends.legacy import json_files

PROCESSES = 8
BACKENDS = [f"stateview.backends.{name}.backend" for name in ("jsonfile", "sqlite", "redis")]
updates = pytest.mark.parametrize("updates", [20, *stressed(150)])  # of each process
rounds = pytest.mark.parametrize("rounds", stressed(7))
kills = pytest.mark.parametrize("kills", [20, *stressed(35)])  # of each kind of work, on each kind of store
SECONDS = 0.04  # that a process has at most until it is killed, after it has told what it is to tell
PROCESS = multiprocessing.get_context("forkserver")  # each process is new, and need not import everything again
PROCESS.set_forkserver_preload(["pytest", "hypothesis", "stateview.manager", *BACKENDS])


def run_processes(work: Callable[..., None], arguments: list[tuple[Any, ...]], seconds: float = 240) -> None:
    """Run each in a process of its own; all must end well."""
    processes = [PROCESS.Process(target=work, args=given) for given in arguments]
    for process in processes:
        process.start()
    deadline = time.monotonic() + seconds
    try:
        while any(process.exitcode is None for process in processes) and time.monotonic() < deadline:
            if any(process.exitcode for process in processes):
                break  # the others may wait for this one
            time.sleep(0.01)
        assert [process.exitcode for process in processes] == [0] * len(processes)
    finally:
        for process in processes:
            process.kill()


# --- writers lose nothing --------------------------------------------------------------------------------------


def increment(store: str, number: int, updates: int) -> None:
    with StateManager(store, "main", author=f"p{number}") as state:
        for _ in range(updates):
            state.update("count", lambda value: value + 1, default=0)


@updates
def test_updates_of_many_processes_lose_nothing(store_url: str, updates: int) -> None:
    run_processes(increment, [(store_url, number, updates) for number in range(PROCESSES)])
    with StateManager(store_url, "main") as state:
        assert state.load("count") == state.revision == PROCESSES * updates
        versions = state.history("count", PROCESSES * updates + 1)
        assert [entry.value for entry in versions] == [*range(PROCESSES * updates, 0, -1)]
        authors = [commit.author for commit in state.log(PROCESSES * updates)]
        assert sorted(authors) == sorted(f"p{number}" for number in range(PROCESSES) for _ in range(updates))


def test_threads_share_a_manager(store_url: str) -> None:
    with StateManager(store_url, "main") as state:

        def work(name: str) -> None:
            for number in range(40):
                state.update("count", lambda value: value + 1, default=0)
                state.save(name, number)
                assert state.load(name) == number
                assert name in state.list_keys()
                if number % 10 == 0:
                    state.checkpoint(f"{name}-{number}")
                    assert state.load(name, at=f"{name}-{number}") == number

        with ThreadPoolExecutor(6) as pool:
            list(pool.map(work, [f"t{number}" for number in range(6)]))
        assert state.load("count") == 240
        assert state.revision == 480
        assert len(state.list_checkpoints()) == 24


FILLER = [f"line {number} of many that no writer changes" for number in range(150)]  # a value that history packs


def append(store: str, name: str, updates: int, compacts: bool = False) -> None:
    """Append to one large list; now and then prune what is superseded, or only pack it."""
    chance = random.Random(name)
    with StateManager(store, "main") as state:
        for number in range(updates):
            state.update("list", lambda value, item=f"{name} {number}": [*value, item], default=FILLER)  # type: ignore[misc]
            if number % 7 == 0:
                state.checkpoint(f"{name}-{number}")
            if compacts and number % 5 == 4:
                head = state.backend.head()
                state.compact(chance.choice((head.floor, max(head.revision - 20, 0))))


@pytest.mark.parametrize("updates", [6, *stressed(60)])  # of each writer
@pytest.mark.parametrize("how", ["threads", *stressed("processes")])
def test_writers_of_one_large_key_lose_nothing_while_its_history_is_packed(
    store_url: str, how: str, updates: int
) -> None:
    writers = [(store_url, f"w{number}", updates, number == 0) for number in range(4)]
    if how == "threads":
        with ThreadPoolExecutor(len(writers)) as pool:
            list(pool.map(append, *zip(*writers, strict=True)))
    else:
        run_processes(append, writers)
    with StateManager(store_url, "main") as state:
        items = state.load("list")[len(FILLER) :]
        assert sorted(items) == sorted(
            f"{name} {number}" for _, name, updates, _ in writers for number in range(updates)
        )
        floor = state.backend.head().floor
        for revision in {*range(max(floor, 1), state.revision), *(mark.revision for mark in state.checkpoints())}:
            assert state.load("list", at=revision) == FILLER + items[:revision]  # each commit appended one
        assert [one for one in state.doctor().findings if one.severity == "error"] == []
        state.compact(state.revision)
        for mark in state.checkpoints():
            assert state.load("list", at=mark.ref) == FILLER + items[: mark.revision]
        assert deltas(store_url, "main")
        assert state.recover().problems == ()


# --- readers see whole commits ---------------------------------------------------------------------------------


def write_pairs(store: str, folder: str) -> None:
    with StateManager(store, "main", history=20) as state:
        number = 0
        while not (Path(folder) / "stop").exists():
            number += 1
            with state.transaction() as tx:
                tx.save("left", number)
                tx.save("right", number)
                if number % 3 == 0:
                    tx.save("extra", number)
                elif number % 3 == 1:
                    tx.delete("extra")
            if number % 10 == 0:
                state.checkpoint("pair")
        state.save("written", number)


def read_pairs(store: str, read_only: bool, changes: int) -> None:
    """Read until so many changes were seen."""
    deadline, last, seen = time.monotonic() + 120, 0, 0
    with StateManager(store, "main", read_only=read_only) as state:
        while seen < changes and time.monotonic() < deadline:
            found = {version.key: int(version.value or b"0") for version in state.backend.scan()}
            assert found.get("left") == found.get("right"), found
            assert ("extra" in found) == (found.get("left", 1) % 3 == 0), found
            both = {key: version.value for key, version in state.backend.read(["left", "right"]).items()}
            assert both.get("left") == both.get("right"), both
            now = int(both.get("left") or b"0")
            assert last <= now <= state.load("right", 0), (last, now)
            if "pair" in state.list_checkpoints():
                view = state.at("pair")
                assert view.load("left") == view.load("right")
            seen, last = seen + (now > last), now
    assert seen == changes


@pytest.mark.parametrize("changes", stressed(150))
def test_readers_never_see_half_of_a_commit(store_url: str, tmp_path: Path, changes: int) -> None:
    writer = PROCESS.Process(target=write_pairs, args=(store_url, str(tmp_path)))
    writer.start()
    try:
        run_processes(read_pairs, [(store_url, read_only, changes) for read_only in (False, True, True)])
        (tmp_path / "stop").touch()
        writer.join(30)
        assert writer.exitcode == 0
    finally:
        writer.kill()
    with StateManager(store_url, "main") as state:
        assert state.load("written") > 20


# --- first opens -----------------------------------------------------------------------------------------------


def open_new(store: str, number: int, ready: Any, rounds: int) -> None:
    for turn in range(rounds):
        ready.wait()
        with StateManager(store, f"new-{turn}") as state:
            state.load("k", None)
            state.save(f"p{number}", turn)
            assert state.load(f"p{number}") == turn


@rounds
def test_many_processes_open_a_new_store_at_once(store_url: str, rounds: int) -> None:
    ready = PROCESS.Barrier(PROCESSES)
    run_processes(open_new, [(store_url, number, ready, rounds) for number in range(PROCESSES)])
    for turn in range(rounds):
        with StateManager(store_url, f"new-{turn}") as state:
            assert state.list_keys() == [f"p{number}" for number in range(PROCESSES)]
            assert state.revision == PROCESSES


def test_a_namespace_is_made_while_another_process_looks_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = json_files.refers_to_history

    def make_first(*given: Any) -> str:
        monkeypatch.undo()
        with StateManager(f"json:{tmp_path}", "main") as other:
            other.save("k", 1)
            other.checkpoint("c")
        return real(*given)

    monkeypatch.setattr(json_files, "refers_to_history", make_first)
    with StateManager(f"json:{tmp_path}", "main") as state:
        assert state.load("k") == 1


# --- fork ------------------------------------------------------------------------------------------------------


def in_child(work: Callable[[], None]) -> int:
    """Fork, do the work in the child, and return the child's process id."""
    child = os.fork()
    if child:
        return child
    try:
        work()
        os._exit(0)
    except BaseException as error:
        os.write(2, f"{error!r}\n".encode())
        os._exit(1)


def ends_well(child: int, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while True:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            assert os.waitstatus_to_exitcode(status) == 0
            return
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            pytest.fail("the child hangs")
        time.sleep(0.005)


def test_parent_and_child_go_on_after_a_fork(store_url: str) -> None:
    state = StateManager(store_url, "main")
    state.save("start", 1)
    assert state.load("start") == 1

    def go_on(name: str) -> None:
        for number in range(30):
            state.update("count", lambda value: value + 1, default=0)
            state.save(name, number)
            assert state.load(name) == number
        state.checkpoint(name)

    children = [in_child(lambda number=number: go_on(f"child-{number}")) for number in range(3)]
    go_on("parent")
    for child in children:
        ends_well(child)
    assert state.load("count") == 120
    assert {state.load(name) for name in ("parent", "child-0", "child-1", "child-2")} == {29}
    assert len(state.list_checkpoints()) == 4
    state.close()


def test_fork_while_other_threads_write(store_url: str) -> None:
    """The child is made at any instant of the others' work, and neither waits for a lock that no one will let go."""
    state, rounds = StateManager(store_url, "main"), 25
    state.save("count", 0)
    stop = threading.Event()
    written = [0, 0]

    def write(number: int) -> None:
        while not stop.is_set():
            state.update("count", lambda value: value + 1)
            state.load(f"t{number}", None)
            written[number] += 1
            time.sleep(random.uniform(0, 0.002))  # else the children's updates wait for seconds beside busy threads

    def child(turn: int) -> None:
        assert state.load("count") >= 0
        state.update("count", lambda value: value + 1)
        state.save(f"child-{turn}", turn)
        assert state.load(f"child-{turn}") == turn

    threads = [threading.Thread(target=write, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    try:
        for turn in range(rounds):
            time.sleep(random.uniform(0, 0.01))
            ends_well(in_child(lambda turn=turn: child(turn)))
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert state.load("count") == sum(written) + rounds
    assert state.list_keys("child-") == sorted(f"child-{turn}" for turn in range(rounds))
    state.close()


# --- kill -9 ---------------------------------------------------------------------------------------------------


def work_until_killed(store: str, kind: str, start: int, tell: int) -> None:
    """Do one kind of work for ever, and tell what was done, once it was."""
    state = StateManager(store, "main", history=15)
    for number in range(start, sys.maxsize):
        if kind == "save":
            with state.transaction() as tx:
                tx.save("left", number)
                tx.save("right", number)
        elif kind == "checkpoint":
            with state.transaction() as tx:
                tx.save("left", number)
                tx.save("right", number)
            state.checkpoint(f"c{number % 7}", note=str(number))
        else:
            state.restore_checkpoint(("even", "odd")[number % 2])
        os.write(tell, b"%d\n" % number)


def kill_once(store: str, kind: str, start: int, chance: random.Random) -> int:
    """Start that work, kill it at some instant, and return the last number that it told of; 0 where it told of none.

    That instant is soon after it was started, or, however slow the machine is, after it has told of a few numbers.
    """
    heard, tell = os.pipe()
    child = in_child(lambda: work_until_killed(store, kind, start, tell))
    os.close(tell)
    with open(heard, "rb") as file:
        told = [file.readline() for _ in range(chance.choice((0, 0, 1, 4)))]
        time.sleep(chance.uniform(0, SECONDS))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL, "it ended before it was killed"
        told += [line for line in file.readlines() if line.endswith(b"\n")]
    return int(told[-1]) if told else 0


def content(state: StateManager, ref: str = "live") -> dict[str, int]:
    return {entry.key: entry.value for entry in state.at(ref).entries()}


@kills
@pytest.mark.parametrize("kind", ["json", "sqlite"])
def test_kill_in_saves(new_store: Callable[[str], str], kind: str, kills: int) -> None:
    store, chance, told = new_store(kind), random.Random(1), 0
    for turn in range(kills):
        told = max(told, kill_once(store, "save", told + 1, chance))
        with StateManager(store, "main") as state:
            found = content(state)
            assert found.get("left") == found.get("right")
            assert found.get("left", 0) in (told, told + 1)
            told = found.get("left", 0)
            if turn % 10 == 0:
                assert state.recover().ok
    assert told > kills / 10


@kills
@pytest.mark.parametrize("kind", ["json", "sqlite"])
def test_kill_in_checkpoints(new_store: Callable[[str], str], kind: str, kills: int) -> None:
    store, chance, told = new_store(kind), random.Random(2), 0
    known: dict[str, int] = {}
    for turn in range(kills):
        last = kill_once(store, "checkpoint", told + 1, chance)
        known |= {f"c{number % 7}": number for number in range(told + 1, last + 1)}
        with StateManager(store, "main") as state:
            marks = {mark.name: mark for mark in state.checkpoints()}
            assert marks.keys() >= known.keys()
            for mark in state.checkpoints(all=True)[-10:]:
                assert content(state, mark.ref) == {"left": int(mark.note), "right": int(mark.note)}
            for name, number in known.items():
                assert int(marks[name].note) in (number, max(last, told) + 1)
            known |= {name: int(mark.note) for name, mark in marks.items()}
            told = content(state).get("left", 0)
            if turn % 10 == 0:
                assert state.recover().ok
    assert told > kills / 10


@kills
@pytest.mark.parametrize("kind", ["json", "sqlite"])
def test_kill_in_restores(new_store: Callable[[str], str], kind: str, kills: int) -> None:
    store, chance, told = new_store(kind), random.Random(3), 0
    states: list[dict[str, int]] = [{"left": 0, "both": 0}, {"both": 1, "right": 1, "more": 1}]
    with StateManager(store, "main") as state:
        for name, wanted in zip(("even", "odd"), states, strict=True):
            with state.transaction() as tx:
                for key in ("left", "right", "both", "more"):
                    tx.delete(key)
                for key, value in wanted.items():
                    tx.save(key, value)
            state.checkpoint(name)
    for turn in range(kills):
        last = kill_once(store, "restore", told + 1, chance)
        with StateManager(store, "main") as state:
            assert (content(state, "even"), content(state, "odd")) == tuple(states)
            assert content(state) in ([states[last % 2], states[(last + 1) % 2]] if last else states)
            before = [name for name in state.list_checkpoints() if name.startswith("before_restore_")]
            assert all(content(state, name) in states for name in before)
            for name in before:
                state.delete_checkpoint(name)
            if turn % 10 == 0:
                assert state.recover().ok
        told = max(told, last)
    assert told > kills / 10


@pytest.mark.parametrize("kind", ["json", "sqlite"])
def test_what_a_killed_process_left_is_swept(new_store: Callable[[str], str], kind: str) -> None:
    store, chance = new_store(kind), random.Random(4)
    for turn in range(20):
        kill_once(store, "checkpoint", turn * 1000, chance)
    with StateManager(store, "main") as state:
        state.save("k", 1)
        state.recover()
    assert list(Path(store.partition(":")[2]).rglob("*.tmp-*")) == []
