"""What several processes see of one store could have happened one after the other: the checker, and real histories."""

from __future__ import annotations

import json
import os
import random
import signal
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import KINDS
from linearizability import NEVER, Operation, check_linearizable, check_sessions
from redis_proxy import RedisProxy

from stateview import CommitUnknown, Conflict, StateManager

# --- the checker ------------------------------------------------------------------------------------------------------


def save(process: int, start: int, end: int, wrote: str, **more: Any) -> Operation:
    return Operation(process, "k", "save", start, end, wrote, **more)


def load(process: int, start: int, end: int, found: str, kind: str = "load") -> Operation:
    return Operation(process, "k", kind, start, end, found=found)


def update(process: int, start: int, end: int, found: str, wrote: str, **more: Any) -> Operation:
    return Operation(process, "k", "update", start, end, wrote, found, **more)


def delete(process: int, start: int, end: int, outcome: bool) -> Operation:
    return Operation(process, "k", "delete", start, end, outcome=outcome)


RIGHT = {
    "empty": [],
    "one after the other": [save(1, 0, 1, "a"), load(2, 2, 3, "a"), delete(1, 4, 5, True), load(2, 6, 7, "")],
    "overlapping writes in either order": [save(1, 0, 10, "a"), save(2, 0, 10, "b"), load(3, 11, 12, "a")],
    "a load beside a write sees it or not": [save(1, 0, 10, "a"), load(2, 1, 2, ""), load(3, 3, 4, "a")],
    "updates in turn": [update(1, 0, 9, "b", "a"), update(2, 0, 9, "", "b"), load(1, 10, 11, "a")],
    "one expectation met, one not": [
        save(1, 0, 1, "a"),
        save(1, 2, 9, "b", found="a", expecting=True),
        save(2, 2, 9, "c", found="a", expecting=True, outcome=False),
        load(3, 10, 11, "b"),
    ],
    "only if absent": [save(1, 0, 1, "a", expecting=True), save(2, 2, 3, "b", expecting=True, outcome=False)],
    "killed, and applied later": [save(1, 0, NEVER, "a"), load(2, 5, 6, ""), load(2, 7, 8, "a")],
    "killed, and never applied": [save(1, 0, NEVER, "a"), load(2, 5, 6, ""), load(2, 7, 8, "")],
    "an update of unknown end": [save(1, 0, 1, "a"), update(2, 2, NEVER, "", "b"), load(1, 3, 4, "b")],
    "an expectation of unknown end": [save(1, 0, NEVER, "a", found="x", expecting=True), load(2, 3, 4, "")],
}  # fmt: skip
WRONG = {
    "a lost update": [save(1, 0, 1, "a"), update(1, 2, 9, "a", "b"), update(2, 2, 9, "a", "c")],
    "a stale load": [save(1, 0, 1, "a"), save(1, 2, 3, "b"), load(2, 4, 5, "a")],
    "a load that goes back": [save(1, 0, 10, "a"), load(2, 1, 2, "a"), load(3, 3, 4, "")],
    "a load of the future": [load(2, 0, 1, "a"), save(1, 2, 3, "a")],
    "a load of what nobody wrote": [save(1, 0, 1, "a"), load(2, 2, 3, "z")],
    "applied twice": [save(1, 0, 1, "a"), save(2, 2, 3, "b"), load(3, 4, 5, "b"), load(3, 6, 7, "a")],
    "killed, and applied twice": [
        save(1, 0, NEVER, "a"), load(2, 1, 2, "a"), save(2, 3, 4, "b"), load(2, 5, 6, "b"), load(2, 7, 8, "a"),
    ],
    "killed, and taken back": [save(1, 0, NEVER, "a"), load(2, 1, 2, "a"), load(2, 3, 4, "")],
    "two expectations met": [
        save(1, 0, 1, "a"),
        save(1, 2, 9, "b", found="a", expecting=True),
        save(2, 2, 9, "c", found="a", expecting=True),
    ],
    "a conflict without cause": [save(1, 0, 1, "a"), save(1, 2, 3, "b", found="a", expecting=True, outcome=False)],
    "deleted twice": [save(1, 0, 1, "a"), delete(1, 2, 9, True), delete(2, 2, 9, True)],
    "a lost delete": [save(1, 0, 1, "a"), delete(1, 2, 3, True), load(2, 4, 5, "a")],
    "revisions that go back": [save(1, 0, 1, "a", revision=5), save(1, 2, 3, "b", revision=5)],
}  # fmt: skip
WRONG_SESSIONS = {
    "an own write not seen": [save(2, 0, 1, "a", revision=1), save(1, 2, 3, "b", revision=2), load(1, 4, 5, "a")],
    "an own write gone": [save(1, 2, 3, "b", revision=2), load(1, 4, 5, "")],
    "gone back": [
        save(2, 0, 1, "a", revision=1), save(2, 2, 3, "b", revision=2), load(1, 4, 5, "b"), load(1, 6, 7, "a"),
    ],
    "a load of the future": [load(2, 0, 1, "a"), save(1, 2, 3, "a")],
    "a load of what nobody wrote": [load(2, 2, 3, "z")],
}  # fmt: skip


@pytest.mark.parametrize("name", RIGHT)
def test_a_history_that_can_be_put_in_order_is_right(name: str) -> None:
    check_linearizable(RIGHT[name])
    check_linearizable([*RIGHT[name], *(one._replace(key="other") for one in RIGHT[name])])


@pytest.mark.parametrize("name", WRONG)
def test_a_history_that_cannot_be_put_in_order_is_wrong(name: str) -> None:
    with pytest.raises(AssertionError, match="not linearizable"):
        check_linearizable(WRONG[name])
    with pytest.raises(AssertionError, match="not linearizable"):
        check_linearizable([*RIGHT["empty"], *(one._replace(key="z") for one in WRONG[name]), save(1, 0, 1, "a")])


@pytest.mark.parametrize("name", WRONG_SESSIONS)
def test_a_process_that_does_not_see_its_own_writes_is_wrong(name: str) -> None:
    with pytest.raises(AssertionError):
        check_sessions(WRONG_SESSIONS[name])


def test_a_stale_load_of_the_writes_of_others_is_no_fault_of_a_session() -> None:
    writes = [save(1, 0, 1, "a", revision=1), save(1, 2, 3, "b", revision=2)]
    check_sessions([*writes, load(2, 4, 5, "a"), load(2, 6, 7, "b")])


def test_the_search_is_quick_where_many_operations_overlap() -> None:
    every = [save(number, 0, 100, f"v{number}") for number in range(12)]
    check_linearizable([*every, load(1, 200, 300, "v3"), load(2, 200, 300, "v3")])
    with pytest.raises(AssertionError):
        check_linearizable([*every, load(1, 200, 300, "v3"), load(2, 200, 300, "v4")])


# --- real histories ---------------------------------------------------------------------------------------------------

PROCESSES = 4
OPERATIONS = 60  # of each process
KEYS = ("left", "right")


class Client:
    """A process that acts on a store, and tells each operation before it and after it."""

    def __init__(self, store: str, number: int, log: Path, seed: int) -> None:
        self.number = number
        self.chance = random.Random(seed * 100 + number)
        self.log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.state = StateManager(store, "main", author=f"p{number}", timeout=60)
        self.known: dict[str, tuple[str, int]] = {}  # of each key: what this process saw last, and its revision

    def tell(self, operation: Operation) -> None:
        os.write(self.log, json.dumps(operation).encode() + b"\n")

    def run(self) -> None:
        for count in range(OPERATIONS):
            kind = self.chance.choice(("load", "fresh", "save", "save", "update", "delete"))
            wrote = f"{self.number}:{count}" if kind in ("save", "update") else ""
            self.act(Operation(self.number, self.chance.choice(KEYS), kind, time.monotonic_ns(), wrote=wrote))

    def act(self, operation: Operation) -> None:
        """Do an operation. An error that leaves it open whether it was applied leaves it without an end."""
        expected = None
        if operation.kind == "save" and operation.key in self.known and self.chance.random() < 0.7:
            found, expected = self.known[operation.key]
            operation = operation._replace(expecting=True, found=found)
        self.tell(operation)
        try:
            ended = self.do(operation, expected)
        except Conflict:
            if not operation.expecting:
                raise
            ended = operation._replace(outcome=False)
            self.known.pop(operation.key)
        except CommitUnknown:
            return
        self.tell(ended._replace(end=time.monotonic_ns()))

    def do(self, operation: Operation, expected: int | None) -> Operation:
        state, key = self.state, operation.key
        if operation.kind == "load":
            return operation._replace(found=state.load(key, ""))
        if operation.kind == "fresh":
            if self.chance.random() < 0.5:
                return operation._replace(found=state.load(key, "", fresh=True))
            self.known[key] = entry = read_entry(state, key)
            return operation._replace(found=entry[0])
        if operation.kind == "delete":
            return operation._replace(outcome=state.delete(key))
        if operation.kind == "save":
            revision = state.save(key, operation.wrote, expected=expected)
            self.known[key] = operation.wrote, revision
            return operation._replace(revision=revision)
        given = ""

        def change(value: str) -> str:
            nonlocal given
            given = value
            return operation.wrote

        state.update(key, change, default="")
        return operation._replace(found=given)


def read_entry(state: StateManager, key: str) -> tuple[str, int]:
    """The value of a key, not older than any acknowledged commit, and its revision."""
    version = state.backend.read([key]).get(key)
    return ("", 0) if version is None else (json.loads(version.value or b""), version.revision)


def read(log: Path) -> list[Operation]:
    """The operations that a process told: without an end where it told only of the beginning."""
    told: dict[int, Operation] = {}
    for line in log.read_bytes().splitlines():
        operation = Operation(*json.loads(line))
        told[operation.start] = operation
    return list(told.values())


def history(
    store: str, folder: Path, seed: int, processes: int = PROCESSES, disturb: Callable[[], object] | None = None
) -> list[Operation]:
    """Let processes act at the same time, and kill one of them in the middle, or disturb them in another way."""
    logs = [folder / f"{seed}-{number}" for number in range(processes)]
    children = []
    for number, log in enumerate(logs):
        child = os.fork()
        if not child:
            code = 1
            try:
                Client(store, number, log, seed).run()
                code = 0
            except BaseException:
                log.with_name(f"{log.name}.error").write_text(traceback.format_exc())
            finally:
                os._exit(code)
        children.append(child)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and (not logs[0].exists() or logs[0].read_bytes().count(b"\n") < OPERATIONS):
        time.sleep(0.001)  # until the first is at half of its way
    if disturb is None:
        os.kill(children[0], signal.SIGKILL)
    else:
        disturb()
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    errors = "\n".join(error.read_text() for error in sorted(folder.glob(f"{seed}-*.error")))
    assert not errors, errors
    assert codes[disturb is None :] == [0] * (processes - (disturb is None))
    return [operation for log in logs for operation in read(log)]


def check(store: str, url: str, folder: Path, seed: int, **options: Any) -> None:
    """Check a history of a store that processes reach by a URL. The options are those of `history`."""
    operations = history(url, folder, seed, **options)
    stale = store.startswith("redis")  # its loads come from a cache, which may lag for a moment
    ordered = [one for one in operations if one.kind != "load" or not stale]
    check_linearizable(ordered)
    check_sessions(operations)
    with StateManager(store, "main") as state:
        end = time.monotonic_ns()
        last = [Operation(9, key, "fresh", end, end, found=state.load(key, "", fresh=True)) for key in KEYS]
        check_linearizable([*ordered, *last])


@pytest.mark.stress
@pytest.mark.parametrize("seed", range(2))
def test_what_processes_see_could_have_happened_one_after_the_other(store_url: str, tmp_path: Path, seed: int) -> None:
    check(store_url, store_url, tmp_path, seed)


@pytest.mark.stress
@pytest.mark.parametrize(("delay", "frozen"), [(0.03, False), (0.3, False), (0.0, True)])
def test_the_same_where_the_announcements_of_commits_come_late(
    new_store: Callable[[str], str], tmp_path: Path, delay: float, frozen: bool
) -> None:
    store = new_store(KINDS[2])
    with RedisProxy(store) as proxy:
        proxy.announcements.delay, proxy.announcements.frozen = delay, frozen
        check(store, proxy.url, tmp_path, 7)
        assert proxy.count(proxy.announcements)
