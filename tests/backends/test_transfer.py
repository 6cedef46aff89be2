"""Copies by `dump` and `receive`, from every kind of store into every other: nothing is to tell them apart."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import killed
import pytest
import redis
from conftest import REDIS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stress import stressed, stride

from stateview import StateException, StateManager
from stateview.backends import open_backend
from stateview.backends.protocol import (
    Backend,
    CheckpointWrite,
    CommitRequest,
    Head,
    StagedImport,
    StateAt,
    StoredVersion,
    Write,
)
from stateview.errors import Conflict, Damaged
from stateview.maintenance.recovery import recover
from stateview.states.view import resolve
from stateview.testing import KEYS, VALUES, retold

KINDS = ("json", "sqlite", next(iter(REDIS), "redis"))
PAIRS = [(source, target) for source in KINDS for target in KINDS]
BRIEF = 0.02  # seconds to live: gone before anything is compared

Opened = Callable[[str, str], Backend]


@pytest.fixture
def opened() -> Iterator[Opened]:
    """Opens backends, and closes them with the test."""
    backends: list[Backend] = []

    def open_one(store: str, namespace: str = "main", **options: Any) -> Backend:
        backends.append(open_backend(store, namespace, **options))
        return backends[-1]

    yield open_one
    for backend in backends:
        backend.close()


def pages(backend: Backend, limit: int = 1000, keys: list[str] | None = None) -> Iterator[list[StoredVersion]]:
    after = ("", 0)
    while page := backend.versions_page(after, limit, keys):
        assert len(page) <= limit
        yield page
        after = page[-1].key, page[-1].revision


def dumped(backend: Backend, limit: int = 1000, keys: list[str] | None = None) -> list[StoredVersion]:
    return [version for page in pages(backend, limit, keys) for version in page]


def fill(receiver: StagedImport, source: Backend, limit: int = 3) -> Head:
    """Put all of a source into a stage."""
    head = source.head()
    for number, page in enumerate(pages(source, limit)):
        receiver.put(page, note={"page": number})
    receiver.put((), source.commits(1 << 30), source.marks(), note={"revision": head.revision})
    return head


def copy(source: Backend, target: Backend, limit: int = 3) -> None:
    receiver = target.open_staging()
    receiver.finish(fill(receiver, source, limit))


def points(backend: Backend) -> dict[str, StateAt]:
    """All states that can be read."""
    head = backend.head()
    out = {f"{revision}": resolve(backend, revision) for revision in range(head.floor, head.revision)}
    return out | {f"{mark.name}@{mark.revision}": mark.point for mark in backend.marks()}


def look(backend: Backend) -> dict[str, Any]:
    """All that can be read of a namespace."""
    head, states = backend.head(), points(backend)
    keys = {version.key for version in dumped(backend)}
    return {
        "head": (head.revision, head.count, head.floor, head.lineage),
        "marks": backend.marks(),
        "commits": backend.commits(1 << 30),
        "versions": {key: backend.versions(key, 1000) for key in keys},
        "live": (backend.scan(), backend.list_keys(), backend.count(), backend.read(keys)),
        "states": {
            ref: (backend.scan(at=at), backend.count(at=at), backend.list_keys(at=at)) for ref, at in states.items()
        },
        "dump": [(one.key, one.revision, one.value, one.time, one.expires) for one in dumped(backend)],
        "changed": {
            (one, other): backend.changed_keys(first, second)
            for one, first in states.items() for other, second in states.items() if first.revision <= second.revision
        },
    }  # fmt: skip


def undated(ref: str) -> str:
    """A ref without the second that the name of a safety checkpoint holds."""
    return re.sub(r"_\d{8}_\d{6}[^@]*", "", ref)


def behaviour(state: StateManager) -> dict[str, Any]:
    """All that does not depend on when it was written."""
    backend = state.backend
    states = points(backend)
    return {
        "head": (backend.head().revision, backend.head().count, backend.head().floor),
        "marks": [(undated(mark.name), mark.revision, mark.note) for mark in backend.marks()],
        "commits": [(one.revision, one.position, one.forward, one.behind) for one in state.log(1000)],
        "states": {
            undated(ref): [(v.key, v.value, v.revision) for v in backend.scan(at=at)] for ref, at in states.items()
        },
        "live": [(v.key, v.value, v.revision) for v in backend.scan()],
    }


# --- random acts --------------------------------------------------------------------------------------------------

NAMES = st.sampled_from("abcde")
MARKS = st.sampled_from(["m", "n", "o"])
ACTS = st.one_of(
    st.tuples(st.just("save"), NAMES, st.integers(0, 9), st.sampled_from([0, 0, 0, 3600, BRIEF])),
    st.tuples(st.just("save"), NAMES, st.integers(0, 9), st.just(0)),
    st.tuples(st.just("delete"), NAMES),
    st.tuples(st.just("several"), st.lists(NAMES, min_size=1, max_size=4), st.integers(0, 9)),
    st.tuples(st.just("checkpoint"), MARKS, st.integers(0, 3)),
    st.tuples(st.just("delete_checkpoint"), MARKS),
    st.tuples(st.just("restore"), MARKS),
    st.tuples(st.just("undo")),
    st.tuples(st.just("redo")),
    st.tuples(st.just("compact"), st.integers(0, 4)),
)


def act(state: StateManager, how: str, *given: Any) -> str:
    """Do something; what came of it, in a word."""
    try:
        if how == "save":
            state.save(given[0], given[1], ttl=given[2] or None)
        elif how == "several":
            with state.transaction(reason="several") as tx:
                for key in given[0]:
                    tx.save(key, [given[1]])
        elif how == "checkpoint":
            state.checkpoint(given[0], note=f"note é {given[1]}", at=f"live~{given[1]}")
        elif how == "restore":
            state.restore_checkpoint(given[0])
        elif how == "compact":
            state.compact(max(0, state.revision - given[0]))
        else:
            getattr(state, how)(*given)
    except StateException as error:
        return type(error).__name__
    finally:
        if given and given[-1] == BRIEF:
            time.sleep(BRIEF * 1.5)
    return "done"


@pytest.mark.parametrize("rounds", [2, *stressed(10)])
@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_a_copy_is_what_its_source_is_and_goes_on_as_it(
    source: str, target: str, rounds: int, new_store: Callable[[str], str]
) -> None:
    stores, numbers = (new_store(source), new_store(target)), count()

    @settings(max_examples=rounds, database=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(ACTS, min_size=1, max_size=20), st.lists(ACTS, max_size=8), st.integers(1, 5))
    def check(acts: list[tuple[Any, ...]], more: list[tuple[Any, ...]], limit: int) -> None:
        number = next(numbers)
        with StateManager(stores[0], f"a{number}") as one, StateManager(stores[1], f"b{number}") as other:
            for each in acts:
                act(one, *each)
            if not one.head().lineage:
                return
            copy(one.backend, other.backend, limit)
            assert look(other.backend) == look(one.backend)
            assert other.recover().problems == ()
            for each in more:
                assert act(one, *each)[:20] == act(other, *each)[:20], each
                assert behaviour(other) == behaviour(one), each
            assert other.recover().problems == ()

    check()


# --- dump ---------------------------------------------------------------------------------------------------------


def many(backend: Backend) -> None:
    """Keys and values of all kinds, each several times, some deleted, some with an expiry, two checkpoints."""
    backend.commit(
        CommitRequest({key: Write(VALUES[n % len(VALUES)]) for n, key in enumerate(KEYS)}, reason="é\n", author="a")
    )
    backend.commit(CommitRequest(marks=(CheckpointWrite("one", "note\n é"),)))
    backend.commit(
        CommitRequest({key: Write(None) if n % 3 else Write(b"[2]", 3_600_000_000) for n, key in enumerate(KEYS[::2])})
    )
    backend.commit(CommitRequest(marks=(CheckpointWrite("two", kind="safety"), CheckpointWrite("one", kind="named"))))
    backend.commit(CommitRequest({key: Write(b"3") for key in KEYS[::4]}, undo=(1, 2, 3)))
    backend.commit(CommitRequest({"gone": Write(b"1", 1), "never": Write(None)}))


@pytest.mark.parametrize("limit", [1, 2, 7, 1000])
def test_a_dump_is_every_version_in_order(store_url: str, opened: Opened, limit: int) -> None:
    backend = opened(store_url, "main")
    assert backend.versions_page() == []
    many(backend)
    found = dumped(backend, limit)
    assert [(one.key, one.revision) for one in found] == sorted({(one.key, one.revision) for one in found})
    by_key: dict[str, list[StoredVersion]] = {}
    for one in found:
        by_key.setdefault(one.key, []).append(one)
    assert by_key.keys() == {*KEYS, "gone", "never"}
    for key, kept in by_key.items():
        plain = [(one.key, one.value, one.revision, one.time, one.expires) for one in reversed(kept)]
        assert plain == [(one.key, one.value, one.revision, one.time, one.expires) for one in backend.versions(key)]
        assert [one.until for one in kept] == [*(one.revision for one in kept[1:]), 0]
    some = ["never", *KEYS[::5], "absent", "\U0010ffff" * 3]
    assert dumped(backend, limit, some) == [one for one in found if one.key in some]
    assert dumped(backend, limit, []) == []


def test_a_page_of_large_values_is_short(store_url: str, opened: Opened) -> None:
    backend = opened(store_url, "main")
    large = b'"' + b"x" * 3_000_000 + b'"'
    for turn in range(2):
        backend.commit(CommitRequest({f"k{number}": Write(large) for number in range(6)}, reason=str(turn)))
    sizes = [sum(len(one.value or b"") for one in page) for page in pages(backend)]
    assert max(sizes) < 12_000_000
    assert sum(sizes) == 12 * len(large)
    assert len(dumped(backend, 1000, ["k1", "k3", "k4", "k5"])) == 8


def test_a_dump_goes_on_while_others_write(store_url: str, opened: Opened) -> None:
    """What was written meanwhile is what `changed` tells of; all else is as it was."""
    backend, writer = opened(store_url, "main"), opened(store_url, "main")
    many(backend)
    started, found = backend.head(), []
    for number, page in enumerate(pages(backend, 5)):
        found += page
        writer.commit(
            CommitRequest({KEYS[number]: Write(b"9"), KEYS[-number]: Write(None), f"new{number}": Write(b"1")})
        )
    head = backend.head()
    again = backend.changed_keys(StateAt(started.revision, 0), StateAt(head.revision, 0))
    kept = [one for one in found if one.key not in again] + dumped(backend, 1000, again)
    assert sorted(kept, key=lambda one: (one.key, one.revision)) == dumped(backend)


def test_damage_is_named_by_a_dump(kind: str, store_url: str, opened: Opened) -> None:
    backend = opened(store_url, "main")
    many(backend)
    backend.close()
    if kind == "json":
        path = Path(store_url.partition(":")[2]) / "main" / "history.jsonl"
        path.write_bytes(path.read_bytes().replace(b"[2]", b"[7]", 1))
    elif kind == "sqlite":
        import sqlite3

        with sqlite3.connect(Path(store_url.partition(":")[2]) / "main" / "state.db") as db:
            db.execute("UPDATE entries SET value = '[7]' WHERE key = 'a'")
    else:
        with redis.Redis.from_url(store_url) as client:
            client.hset("stateview:{main}:live", "foo", "[7]")
    with pytest.raises(Damaged, match={"json": "line", "sqlite": "'a'"}.get(kind, "foo")):
        dumped(opened(store_url, "main"))


# --- receive ------------------------------------------------------------------------------------------------------


@pytest.fixture
def source(opened: Opened, tmp_path: Path) -> Backend:
    """A namespace of some size, in SQLite."""
    backend = opened(f"sqlite:{tmp_path / 'source'}", "source")
    many(backend)
    return backend


def test_a_stage_is_nowhere_to_be_seen(store_url: str, opened: Opened, source: Backend) -> None:
    target, other = opened(store_url, "main"), opened(store_url, "other")
    receiver = target.open_staging()
    head = fill(receiver, source)
    staged = receiver.staged(head)
    assert look(staged) == look(source)
    for backend in (target, opened(store_url, "main")):
        assert (backend.head(), backend.namespaces(), backend.scan(), backend.versions_page()) == (Head(), [], [], [])
        assert backend.marks() == backend.commits() == []
    other.commit(CommitRequest({"k": Write(b"1")}))
    assert other.namespaces() == ["other"]
    assert receiver.finish(head) == ""
    assert target.namespaces() == ["main", "other"]
    assert look(target) == look(opened(store_url, "main")) == look(source)


def test_what_is_put_again_replaces_what_was_forgotten(store_url: str, opened: Opened, source: Backend) -> None:
    """Catching up: the versions of keys that were written meanwhile are put anew, and the checkpoints too."""
    target = opened(store_url, "main")
    receiver = target.open_staging()
    before = fill(receiver, source)
    receiver.staged(before)
    source.commit(CommitRequest({KEYS[3]: Write(b"9"), KEYS[4]: Write(None), "new": Write(b"1")}))
    source.commit(CommitRequest(marks=(CheckpointWrite("three"),), unmarks=(("one", 1),)))
    source.commit(CommitRequest({KEYS[3]: Write(b"10")}, reason="last"))
    head = source.head()
    keys = source.changed_keys(StateAt(before.revision, 0), StateAt(head.revision, 0))
    new = [one for one in source.commits(1000) if one.revision > before.revision]
    receiver.put(dumped(source, 1000, keys), new, source.marks(), note={}, forget=keys)
    receiver.finish(head)
    assert look(target) == look(source)
    assert recover(target).problems == ()


def test_what_the_source_forgets_meanwhile_can_be_forgotten(store_url: str, opened: Opened, source: Backend) -> None:
    target = opened(store_url, "main")
    receiver = target.open_staging()
    fill(receiver, source)
    source.commit(CommitRequest(unmarks=(("one", 1), ("one", 2), ("two", 2))))
    source.compact(3)
    receiver.put(marks=source.marks(), note={})
    head = source.head()
    receiver.staged(head).compact(head.floor)
    receiver.finish(head)
    assert look(target) == look(source)
    assert target.compact(head.floor) == 0


def test_a_receiver_goes_on_where_the_last_was_closed(store_url: str, opened: Opened, source: Backend) -> None:
    first = opened(store_url, "main").open_staging()
    assert first.progress() is None
    page = source.versions_page(limit=20)
    first.put(page, note={"after": [page[-1].key, page[-1].revision], "é": None})
    first.close()
    second = opened(store_url, "main").open_staging()
    note = second.progress()
    assert note == {"after": [page[-1].key, page[-1].revision], "é": None}
    for some in (page for page in [source.versions_page((note["after"][0], note["after"][1]))] if page):
        second.put(some, note={})
    second.put((), source.commits(), source.marks(), note={})
    second.finish(source.head())
    assert look(opened(store_url, "main")) == look(source)


def test_one_receiver_at_a_time(store_url: str, opened: Opened, source: Backend) -> None:
    target = opened(store_url, "main")
    for end in ("drop", "close"):
        receiver = target.open_staging()
        for backend in (target, opened(store_url, "main")):
            with pytest.raises(Conflict, match="under way"):
                backend.open_staging()
        opened(store_url, "other").open_staging().close()
        fill(receiver, source)
        getattr(receiver, end)()
    receiver = target.open_staging()
    assert receiver.progress() is not None
    receiver.drop()
    receiver.close()
    copy(source, target)
    target.open_staging().close()  # a finished one holds nothing
    assert target.namespaces() == ["main"]


def test_a_dropped_stage_leaves_nothing(kind: str, store_url: str, opened: Opened, source: Backend) -> None:
    for nothing in (True, False):
        receiver = opened(store_url, "main").open_staging()
        if nothing:
            receiver.close()
        else:
            fill(receiver, source)
            receiver.drop()
        if kind in ("json", "sqlite"):
            assert [path for path in Path(store_url.partition(":")[2]).rglob("*") if path.is_file()] == []
        else:
            with redis.Redis.from_url(store_url) as client:
                assert client.keys("*") == []


def test_a_namespace_that_is_there_stays(store_url: str, opened: Opened, source: Backend) -> None:
    target = opened(store_url, "main")
    receiver = target.open_staging()
    head = fill(receiver, source)
    target.commit(CommitRequest({"mine": Write(b"1")}))
    with pytest.raises(Conflict, match="revision 1"):
        receiver.finish(head)
    assert [version.key for version in opened(store_url, "main").scan()] == ["mine"]
    target.drop() if "redis" in store_url else None
    receiver.close()


def test_over_a_namespace_that_is_kept(kind: str, store_url: str, opened: Opened, source: Backend) -> None:
    target, reader = opened(store_url, "main"), opened(store_url, "main")
    target.commit(
        CommitRequest(
            {"mine": Write(b"1"), KEYS[0]: Write(b"2")}, marks=(CheckpointWrite("old"), CheckpointWrite("one"))
        )
    )
    target.commit(CommitRequest({"mine": Write(b"2")}))
    former = look(target)
    assert reader.get("mine") is not None
    receiver = target.open_staging()
    kept = receiver.finish(fill(receiver, source), over=True)
    for backend in (target, reader, opened(store_url, "main")):
        assert retold(partial(look, backend)) == look(source)
        assert backend.get("mine") is None
    assert recover(target).problems == ()
    head = reader.commit(CommitRequest({"new": Write(b"1")}))
    assert head.revision == source.head().revision + 1
    assert target.namespaces() == ["main"]
    if kind in ("json", "sqlite"):
        place = Path(kept)
        assert look(opened(f"{kind}:{place.parent}", place.name)) == former
    else:
        with redis.Redis.from_url(store_url) as client:
            assert client.hget(kept.replace("*", "live"), "mine").endswith(b" 2")


# --- killed at any instant ----------------------------------------------------------------------------------------

FOLDERS = ("", "support", "support/servers", "support/stores", "backends")
TEST_PATHS = ":".join(str(Path(__file__).parents[1] / name) for name in FOLDERS)
COPY = """
import sys
sys.path[:0] = sys.argv[3].split(':')
from stateview.backends import open_backend
from test_transfer import going_on
going_on(open_backend(sys.argv[1], "source", read_only=True), open_backend(sys.argv[2], "main"))
"""


def going_on(source: Backend, target: Backend, over: bool = False) -> None:
    """What migrate does, in short: from where the last one came to, to the end."""
    receiver = target.open_staging()
    note = receiver.progress() or {"after": ["", 0]}
    after = note["after"]
    while after and (page := source.versions_page((after[0], after[1]), 25)):
        after = [page[-1].key, page[-1].revision]
        receiver.put(page, note={"after": after})
    receiver.put((), source.commits(1000), source.marks(), note={"after": None})
    head = source.head()
    assert receiver.staged(head).count() == head.count
    receiver.finish(head, over)


@pytest.mark.parametrize("kills", stressed(4))
@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_any_instant_and_gone_on_with(
    kind: str, kills: int, new_store: Callable[[str], str], tmp_path: Path, opened: Opened
) -> None:
    place = f"sqlite:{tmp_path / 'source'}"
    source = opened(place, "source")
    for turn in range(8):
        source.commit(
            CommitRequest({f"key {n:03}": Write(b"%d" % turn) for n in range(turn, 200)}, marks=(CheckpointWrite("m"),))
        )
    expected = look(source)
    started = time.monotonic()
    command = [sys.executable, "-c", COPY, place]
    whole = new_store(kind)
    subprocess.run(
        [*command, whole, TEST_PATHS],
        check=True,
    )
    length = time.monotonic() - started
    assert look(opened(whole, "main")) == expected
    before_end = 0
    for number in range(kills):
        store = new_store(kind)
        for attempt in range(2):
            child = subprocess.Popen(
                [
                    *command,
                    store,
                    TEST_PATHS,
                ],
                stderr=subprocess.DEVNULL,
            )
            time.sleep(length * (0.2 + 0.8 * (number + attempt / 2) / kills))
            child.send_signal(signal.SIGKILL)
            child.wait()
            target = opened(store, "main")
            assert target.head() in (Head(), source.head())
            if target.head().lineage:
                break
            before_end += 1
            assert target.namespaces() == []
            if kind not in ("json", "sqlite"):  # as after its lease
                with redis.Redis.from_url(store) as client:
                    client.delete("stateview:{main}:migrating:lock")
        else:
            going_on(source, target)
        assert look(opened(store, "main")) == expected
    assert before_end


def dying(step: int, source: str, target: str, over: bool) -> bool:
    """Copy in a child that is killed before its call number `step`; whether it came to its end."""
    return killed.die_at(
        step,
        lambda: going_on(open_backend(source, "source", read_only=True), open_backend(target, "main"), over),
        [
            *((os, name) for name in (*killed.CALLS, "fsync")),
            (redis.connection.AbstractConnection, "send_packed_command"),
        ],
    )


@pytest.mark.parametrize("every", [7, *stressed(stride(5))])
@pytest.mark.parametrize("over", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_killed_before_every_step(
    kind: str, over: bool, every: int, new_store: Callable[[str], str], tmp_path: Path, opened: Opened
) -> None:
    place = f"sqlite:{tmp_path / 'source'}"
    source = opened(place, "source")
    for turn in range(3):
        source.commit(
            CommitRequest(
                {f"key {n:03}": Write(b"%d" % turn) for n in range(turn, 60)}, marks=(CheckpointWrite(f"m{turn}"),)
            )
        )
    expected, former = look(source), None
    finished, step = False, 0
    while not finished:
        step += every
        store = new_store(kind)
        if over:
            first = opened(store, "main")
            first.commit(CommitRequest({"mine": Write(b"1")}, marks=(CheckpointWrite("old"), CheckpointWrite("m1"))))
            first.commit(CommitRequest({"mine": Write(b"2")}))
            former = look(first)
            first.close()
        finished = dying(step, place, store, over)
        target = opened(store, "main")
        if former is None and not target.head().lineage:
            assert target.namespaces() == []
        else:
            assert look(target) in (former, expected), step
        if kind not in ("json", "sqlite"):
            with redis.Redis.from_url(store) as client:
                client.delete("stateview:{main}:migrating:lock")
        if not target.head().lineage or look(target) == former:
            assert not finished
            target.close()
            going_on(source, opened(store, "main"), over)
        again = opened(store, "main")
        assert look(again) == expected, step
        assert again.commit(CommitRequest({"more": Write(b"1")})).revision == source.head().revision + 1
        assert recover(again).problems == (), step
        again.close()
    assert step > 5
    print(f"{kind}: {step} steps")


# --- Redis: a lock that goes by itself ----------------------------------------------------------------------------


def test_a_receiver_that_was_taken_over_writes_nothing_more(
    new_store: Callable[[str], str], opened: Opened, source: Backend
) -> None:
    store = new_store(KINDS[2])
    late = opened(store, "main").open_staging()
    page = source.versions_page(limit=5)
    late.put(page, note={"by": "the first"})
    with redis.Redis.from_url(store) as client:
        assert 0 < client.ttl("stateview:{main}:migrating:lock") <= 120
        client.delete("stateview:{main}:migrating:lock")
    late.put(note={"by": "the first, still"})  # no one has taken over
    with pytest.raises(Conflict):
        opened(store, "main").open_staging()
    with redis.Redis.from_url(store) as client:
        client.delete("stateview:{main}:migrating:lock")
    second = opened(store, "main").open_staging()
    assert second.progress() == {"by": "the first, still"}
    for refused in (lambda: late.put(page, note={"by": "a ghost"}), lambda: late.finish(source.head())):
        with pytest.raises(Conflict, match="taken over"):
            refused()
    late.drop()
    assert second.progress() == {"by": "the first, still"}
    second.put(dumped(source), source.commits(), source.marks(), note={}, forget=[one.key for one in page])
    second.finish(source.head())
    assert look(opened(store, "main")) == look(source)


def test_the_lock_names_its_process_in_the_form_of_earlier_releases(
    new_store: Callable[[str], str], opened: Opened
) -> None:
    store, name = new_store(KINDS[2]), "stateview:{main}:migrating:lock"
    opened(store, "main").open_staging()
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    start = Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]
    host = f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    with redis.Redis.from_url(store, decode_responses=True) as client:
        token, _, process = str(client.get(name)).partition("@")
        assert process == f"{host}/{os.getpid()}/{start}"
        for holder in (process, f"{boot}-/{process.partition('/')[2]}", ""):  # alive, elsewhere, not known
            client.set(name, f"{token}@{holder}", ex=100)
            with pytest.raises(Conflict):
                opened(store, "main").open_staging()
        client.set(name, f"{token}@{host}/{os.getpid()}/1", ex=100)  # its id was used again
    opened(store, "main").open_staging()
