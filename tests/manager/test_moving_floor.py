"""Long reads while another process commits at full speed and the history is short: whole answers, never damage.

Every commit of the writer moves an amount from one account to another, so that the accounts add up to 0 in each state.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import pytest
from conftest import KINDS
from stress import stressed

from stateview import ABSENT, Conflict, HistoryPruned, StateManager
from stateview.backends.protocol import StateAt
from stateview.states.steady import snapshot

ACCOUNTS = 90
HISTORY = 20
SECONDS = 0.1  # for which each act is repeated
WRITER = f"""
import random, sys
from stateview import Conflict, StateManager
state, number = StateManager(sys.argv[1], "n", history={HISTORY}, durability="normal"), 0
while True:
    number += 1
    one, other = random.sample(range({ACCOUNTS}), 2)
    try:
        with state.transaction() as tx:
            for account, amount in ((one, number), (other, -number)):
                tx.update(f"account {{account:03}}", lambda value: value + amount)
    except Conflict:
        pass  # an undo came first
    print(state.revision, flush=True) if number == {2 * HISTORY} else None
"""


@contextmanager
def written(url: str) -> Iterator[StateManager]:
    """A namespace to which a process writes, with the checkpoint `start` of the state before."""
    with StateManager(url, "n", history=HISTORY, timeout=30) as state:
        with state.transaction() as tx:
            for account in range(ACCOUNTS):
                tx.save(f"account {account:03}", 0)
        state.checkpoint("start")
        writer = subprocess.Popen([sys.executable, "-c", WRITER, url], stdout=subprocess.PIPE)
        try:
            assert writer.stdout is not None and writer.stdout.readline()
            yield state
            assert writer.poll() is None, "the writer ended"
        finally:
            writer.kill()
            writer.communicate()


def check(values: dict[str, Any]) -> None:
    assert len(values) == ACCOUNTS and sum(values.values()) == 0, values


def values(state: StateManager, at: str | int = "live") -> dict[str, Any]:
    return {entry.key: entry.value for entry in state.at(at).entries() if entry.key.startswith("account")}


def check_copy(copy: StateManager) -> None:
    head = copy.head()
    for revision in [*range(head.floor, head.revision + 1), "start"]:
        check(values(copy, revision))
    assert [commit.revision for commit in copy.log(10**6)] == [*range(head.revision, head.floor, -1)]
    assert copy.doctor().ok and copy.recover().problems == ()


def export(state: StateManager, new: Callable[[str], str]) -> None:
    out = io.BytesIO()
    report = state.export(out)
    with StateManager(new("sqlite"), "n") as copy:
        copy.import_from(io.BytesIO(out.getvalue()))
        assert copy.revision == report.revision
        check_copy(copy)


def export_json(state: StateManager, new: Callable[[str], str]) -> None:
    out = io.BytesIO()
    state.export(out, layout="json")
    check(json.loads(out.getvalue()))


def migrate(state: StateManager, new: Callable[[str], str]) -> None:
    store = new("sqlite" if state.url.startswith("json") else "json")
    report = state.migrate_to(store)
    with StateManager(store, "n") as copy:
        assert copy.revision == report.revision
        check_copy(copy)


def migrate_again(state: StateManager, new: Callable[[str], str]) -> None:
    store = new("sqlite")
    state.migrate_to(store)
    for dry_run in (True, False):
        try:
            state.migrate_to(store, dry_run=dry_run)
        except Conflict as error:  # in doubt the former copy is not replaced
            assert "is pruned" in str(error)
    with StateManager(store, "n") as copy:
        check_copy(copy)


def fork(state: StateManager, new: Callable[[str], str]) -> None:
    with state.fork(f"fork-{time.monotonic_ns()}") as other:
        check(values(other))
        other.backend.drop()


def list_keys(state: StateManager, new: Callable[[str], str]) -> None:
    assert state.list_keys("account") == [f"account {account:03}" for account in range(ACCOUNTS)]


def diff(state: StateManager, new: Callable[[str], str]) -> None:
    changes = list(state.diff("start"))
    assert sum(change.after - change.before for change in changes) == 0
    back = list(state.diff("live", "start"))
    assert sum(change.after - change.before for change in back) == 0
    near = list(state.diff("live~2"))
    assert sum(change.after - change.before for change in near) == 0


def restore(state: StateManager, new: Callable[[str], str]) -> None:
    planned = list(state.restore_checkpoint("start", "account*", dry_run=True))
    assert sum(change.after - change.before for change in planned) == 0
    state.save("other", time.monotonic_ns())
    state.checkpoint("other")
    applied = state.restore_checkpoint("other", keys="other")
    assert list(applied) == []
    state.delete("other")
    time.sleep(0.05)
    applied = state.restore_checkpoint("other", keys="other")
    time.sleep(0.05)
    assert [change.key for change in applied] == ["other"]


def undo(state: StateManager, new: Callable[[str], str]) -> None:
    for act in (state.undo, state.redo):
        try:
            applied = act()
            time.sleep(0.02)
            # Where the writer has made no commit since `restore`, it is the restore of `other` that is undone
            assert sum(change.after - change.before for change in applied if change.key != "other") == 0
        except Conflict:
            pass
        except LookupError as error:
            assert act == state.redo, error


def watch(state: StateManager, new: Callable[[str], str]) -> None:
    try:
        for change in islice(state.watch(timeout=1), 200):
            assert change.before is not ABSENT and change.after is not ABSENT
    except HistoryPruned as error:
        assert "fell behind" in str(error)


def look_back(state: StateManager, new: Callable[[str], str]) -> None:
    log = [commit.revision for commit in state.log()]
    assert log == [*range(log[0], log[-1] - 1, -1)]
    for account in range(0, ACCOUNTS, 9):
        key = f"account {account:03}"
        versions = [entry.revision for entry in state.history(key)]
        assert versions == sorted(versions, reverse=True) and versions
        try:
            assert state.blame(key).revision >= versions[0]
        except HistoryPruned:
            pass


def transaction(state: StateManager, new: Callable[[str], str]) -> None:
    try:
        with state.transaction() as tx:
            check({key: tx.load(key) for key in tx.list_keys("account")})
            tx.save("seen", 1)
    except Conflict:
        pass


def rename(state: StateManager, new: Callable[[str], str]) -> None:
    state.save("old", 1)
    state.rename("old", "new")
    state.delete("new")


def inspect(state: StateManager, new: Callable[[str], str]) -> None:
    assert [found for found in state.doctor().findings if found.severity == "error"] == []
    assert state.stats().keys >= ACCOUNTS
    state.prune((), keep=1, history=True, dry_run=True)


def import_into(state: StateManager, new: Callable[[str], str]) -> None:
    document = json.dumps({f"imported {number}": time.monotonic_ns() for number in range(50)}).encode()
    try:
        report = state.import_from(io.BytesIO(document), how="merge")
        time.sleep(0.02)
        assert report.diff is not None and len(report.diff) == 50
    except Conflict:  # it retries for 30 seconds, and another process always comes first
        pass


ACTS = [
    export, export_json, migrate, migrate_again, fork, list_keys, diff, restore, undo, watch, look_back, transaction,
    rename, inspect, import_into,
]  # fmt: skip
QUICK = {"json": [fork], "sqlite": [export, diff], "redis": [migrate]}


@pytest.mark.parametrize(("kind", "acts"), [*QUICK.items(), *stressed(*((kind, ACTS) for kind in QUICK))])
def test_beside_a_writer_with_a_short_history(
    kind: str, acts: list[Callable[..., None]], new_store: Callable[[str], str]
) -> None:
    with written(new_store(KINDS[2] if kind == "redis" else kind)) as state:
        for act in acts:
            until = time.monotonic() + SECONDS
            while True:
                act(state, new_store)
                if time.monotonic() > until:
                    break


def seen(backend: Any) -> list[Any]:
    at = StateAt(backend.head().revision, backend.now())
    first = StateAt(1, 0)
    return [
        backend.head(), backend.marks(), backend.commits(), backend.versions_page(), backend.versions_page(keys=["a"]),
        backend.versions("a"), backend.scan(), backend.scan("a", at=at), backend.scan(after="a", at=first),
        backend.read(["a", "b", "none"], first), backend.get("b"), backend.changed_keys(first, at),
    ]  # fmt: skip


def test_a_snapshot_stays_as_it_is(store_url: str) -> None:
    with StateManager(store_url, "n", timeout=0.2) as state:  # for so long SQLite's `compact` waits for the snapshot
        for number in range(5):
            state.save("a", number, ttl=None if number else 3600)
            state.save(f"b{number % 2}", [number])
        state.save("b", None)
        state.delete("b1")
        state.checkpoint("one", at=2, note="note")
        with snapshot(state.backend, whole=True) as reads:
            before = seen(state.backend)
            assert seen(reads) == before
            state.save("a", "late")
            state.delete("b")
            state.delete_checkpoint("one")
            state.compact(state.revision)
            assert seen(reads) == before
            with pytest.raises(HistoryPruned):
                state.load("a", at=1)


def test_a_fork_begins_an_export_again(new_store: Callable[[str], str]) -> None:
    with StateManager(new_store("sqlite"), "n") as state:
        state.save("a", 1)
        forks = [1]

        def fork(_done: int, _total: int) -> None:
            if forks and (child := os.fork()) == 0:
                os._exit(0)
            elif forks:
                forks.clear()
                os.waitpid(child, 0)
                state.save("a", 2)

        out = io.BytesIO()
        assert state.export(out, progress=fork).revision == 2
