"""migrate: from every kind of store into every other, whoever writes meanwhile, and however often it is killed."""

from __future__ import annotations

import io
import json
import os
import random
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from itertools import count, product
from pathlib import Path
from typing import Any

import pytest
import redis
import redis_servers
from conftest import REDIS
from forked import forked
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stress import first, only, stressed
from terminal import Terminal
from test_transfer import BRIEF, KINDS, Opened, act, dumped, look, opened

import stateview
from stateview import StateManager
from stateview.backends.protocol import Backend, Head, StateAt
from stateview.errors import BackendError, Conflict, Damaged, KeyNotFound, ReadOnly
from stateview.maintenance.recovery import recover
from stateview.transfer import migrate as migrating
from stateview.transfer.migrate import MigrationProgress
from stateview.transfer.staged_copy import StagedCopy

__all__ = ["opened"]  # a fixture
PAIRS = [(one, other) for one in KINDS for other in KINDS if one != other]
MIGRATE = [sys.executable, "-m", "stateview", "migrate"]
KILLS = int(os.environ.get("STATEVIEW_TEST_KILLS", "2"))
EXAMPLES = int(os.environ.get("STATEVIEW_TEST_EXAMPLES", "12"))
CYCLE = [("json", "sqlite"), ("sqlite", KINDS[2]), (KINDS[2], "json")]  # each kind read once, and written once
ONCE = only(PAIRS, *CYCLE)

Stores = Callable[[str], str]


def fill(state: StateManager, keys: int = 200, size: int = 40) -> None:
    """Three checkpoints with changes and deletes between them, expiry, large integers, keys of all scripts."""
    with state.transaction(
        reason="é\n",
    ) as tx:
        for number in range(keys):
            tx.save(f"ключ {number:05} \U0001f511", {"n": number, "text": "x" * size})
    state.checkpoint("one", note="note é\n")
    state.save("large", [2**200, -(10**40), 1e300, "\x00\ud7ff\uffff"])
    state.save("brief", 1, ttl=0.01)
    time.sleep(0.02)  # gone before anything is compared
    state.save("long", 1, ttl=3600)
    for number in range(0, keys, 7):
        state.delete(f"ключ {number:05} \U0001f511")
    state.checkpoint("two")
    state.save("large", 2**64)
    state.checkpoint("one")
    state.undo()
    state.save("after", None)


@pytest.fixture
def here(folder: Path) -> Path:
    """No settings from outside."""
    return folder


def moved(source: str, destination: str, **more: Any) -> Any:
    (report,) = stateview.migrate(source, destination, **{"namespace": "main", **more})
    return report


def exported(state: StateManager) -> bytes:
    out = io.BytesIO()
    state.export(out)
    return out.getvalue()


def cli(*words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = forked("migrate", *words)
    assert done.returncode == code, (words, done.stderr)
    return done


def content(backend: Backend) -> list[Any]:
    return [(one.key, one.revision, one.value, one.time, one.expires) for one in dumped(backend)]


# --- equal ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_all_that_can_be_seen_is_the_same(source: str, target: str, new_store: Stores, opened: Opened) -> None:
    stores = new_store(source), new_store(target)
    with StateManager(stores[0], "main") as state:
        fill(state)
        before = look(state.backend)
        report = state.migrate_to(stores[1])
        assert look(opened(stores[1], "main")) == before == look(state.backend)
    assert (report.revision, report.keys, len(report.checkpoints)) == (before["head"][0], before["head"][1], 3)
    assert report.bytes == sum(len(one[2] or b"") for one in before["dump"])
    assert report.versions == len(before["dump"])
    with StateManager(stores[1], "main") as other:
        assert other.recover().problems == ()
        assert other.load("large", at="two") == [2**200, -(10**40), 1e300, "\x00\ud7ff\uffff"]
        other.undo()
        assert other.revision == report.revision + 1


@pytest.mark.parametrize("rounds", [2, *stressed(EXAMPLES)])
def test_round_trips_give_the_same_bytes(new_store: Stores, rounds: int) -> None:
    stores = [new_store(kind) for kind in KINDS]
    numbers = count()

    @settings(max_examples=rounds, database=None, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def check(data: st.DataObject) -> None:
        name = f"n{next(numbers)}"
        acts = st.lists(st.one_of(
            st.tuples(st.just("save"), KEYS, VALUES, st.sampled_from([0, 0, 3600, BRIEF])),
            st.tuples(st.just("delete"), KEYS),
        ), min_size=1, max_size=8)  # fmt: skip
        with StateManager(stores[0], name) as state:
            for mark in ("one", "two", "three"):
                for each in data.draw(acts):
                    act(state, *each)
                state.checkpoint(mark, note=mark)
            first = content(state.backend), state.checkpoints(all=True), state.log(1000)
            text = exported(state)
        with ExitStack() as stack:
            last = stack.enter_context(StateManager(stores[0], name))
            digests = set()
            for place in (*stores[1:], f"{stores[0]}-back-{name}"):
                digests.add(last.migrate_to(place).digest)
                last = stack.enter_context(StateManager(place, name))
                assert (content(last.backend), last.checkpoints(all=True), last.log(1000)) == first
                assert exported(last) == text
            assert len(digests) == 1

    check()


KEYS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=6)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**60), 10**60) | st.text(st.characters(exclude_categories=["Cs"]))
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip


def test_all_namespaces(new_store: Stores, here: Path) -> None:
    source, target = new_store("json"), new_store("sqlite")
    for name in ("a", "b", "c"):
        with StateManager(source, name) as state:
            state.save("k", name)
    with StateManager(target, "b") as state:
        state.save("mine", 1)
    with pytest.raises(Conflict, match="of another origin: 1 key"):
        stateview.migrate(source, target, all=True)
    assert StateManager(target, "b").namespaces() == ["b"]
    StateManager(target, "b").backend.drop()
    reports = stateview.migrate(source, target, namespace="b", all=True)
    assert [report.namespace for report in reports] == ["a", "c", "b"]
    lines = cli(source, target, "--all", "--format", "json").stdout.splitlines()
    ends = [json.loads(line) for line in lines if '"migrated"' in line]
    assert [(one["namespace"], one["already"]) for one in ends] == [("a", True), ("b", True), ("c", True)]
    with pytest.raises(KeyNotFound):
        stateview.migrate(new_store("json"), target, all=True)


# --- others write meanwhile -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("source", "target"), first(CYCLE))
def test_what_is_written_meanwhile_comes_along(
    source: str, target: str, new_store: Stores, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stateview.transfer.version_pages.VERSIONS_PER_PAGE", 20)
    stores = new_store(source), new_store(target)
    with StateManager(stores[0], "main") as state:
        fill(state, 300)
    ended = threading.Event()

    def write(seed: int) -> None:
        chance = random.Random(seed)
        with StateManager(stores[0], "main") as one:
            for number in range(40):
                if ended.is_set():
                    return
                key = f"ключ {chance.randrange(300):05} \U0001f511"
                what = chance.randrange(6)
                if what < 3:
                    one.save(key, [number, seed], ttl=0.05 if what == 2 else None)
                elif what == 3:
                    one.delete(key)
                elif what == 4:
                    one.checkpoint(f"mark {seed}".replace(" ", "-"))
                else:
                    one.save(f"new {seed} {number}", number)
                time.sleep(0.002)

    writers = [threading.Thread(target=write, args=(seed,)) for seed in range(2)]
    seen: list[str] = []

    def progress(step: MigrationProgress) -> None:
        seen.append(step.doing)
        if step.doing == "copying" and len(seen) == 2:
            for writer in writers:
                writer.start()

    try:
        report = moved(*stores, progress=progress)
    finally:
        ended.set()
        for writer in writers:
            writer.join()
    one, other = (opened(store, "main") for store in stores)
    assert other.head().revision == report.revision
    if report.revision < one.head().revision or other.marks() != one.marks():  # what came after its end
        report = moved(*stores)
        assert report.kept  # the earlier copy
    moment = {"live", "head", "changed"}
    found, expected = look(other), look(one)
    assert {name: found[name] for name in found if name not in moment} == {
        name: expected[name] for name in expected if name not in moment
    }


class Meddling:
    """A source in which something happens before a call, once."""

    def __init__(self, backend: Backend, name: str, number: int, what: Callable[[], None]) -> None:
        self._backend, self._name, self._left, self._what = backend, name, number, what

    def __getattr__(self, name: str) -> Any:
        if name == self._name:
            self._left -= 1
            if self._left == 0:
                self._what()
        return getattr(self._backend, name)


WHEN = [("dump", 2), ("dump", 6), ("commits", 1), ("commits", 3), ("marks", 2), ("marks", 3)]
MEDDLING = list(product(["write", "forget", "delete all", "unmark"], WHEN, KINDS))


@pytest.mark.parametrize(("what", "when", "target"), only(MEDDLING, *MEDDLING[::4]))
def test_meddling_at_any_step(
    what: str, when: tuple[str, int], target: str, new_store: Stores, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stateview.transfer.version_pages.VERSIONS_PER_PAGE", 20)
    store, place = new_store("sqlite"), new_store(target)
    state = StateManager(store, "main", history=1000)
    fill(state, 60)

    def meddle() -> None:
        if what == "write":
            with state.transaction() as tx:
                for number in range(0, 60, 5):
                    tx.save(f"ключ {number:05} \U0001f511", "anew")
            state.checkpoint("two")
        elif what == "forget":
            state.delete_checkpoint("two")
            state.delete_checkpoint("one@1")
            state.save("large", 3)
            state.compact(state.revision)
        elif what == "delete all":
            with state.transaction() as tx:
                for key in state.list_keys():
                    tx.delete(key)
        else:
            state.delete_checkpoint("one")
            state.checkpoint("three", at="live~3")

    with state:
        source = Meddling(opened(store, "main"), *when, meddle)
        report = migrating.migrate(source, opened(place, "main"))  # type: ignore[arg-type]
        assert report.revision == state.revision
        assert look(opened(place, "main")) == look(state.backend)
        assert report.digest == migrating.migrate(state.backend, opened(place, "main")).digest


def test_a_source_whose_writers_do_not_pause_is_copied_as_of_a_revision_and_the_report_says_what_is_missing(
    new_store: Stores, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, place = new_store("sqlite"), new_store("sqlite")
    with StateManager(store, "main") as state:
        fill(state, 20)
        original = StagedCopy._is_still

        def restless(copy: Any, head: Head) -> bool:
            state.save("tick", head.revision)
            return original(copy, head)

        monkeypatch.setattr(StagedCopy, "_is_still", restless)
        report = state.migrate_to(place)
        assert report.behind == state.revision - report.revision > 0
        copied = opened(place, "main")
        assert copied.head().revision == report.revision
        at = StateAt(report.revision, copied.now())
        both = [
            {one.key: (one.value, one.revision, one.time) for one in side.scan("", "", 100, at)}
            for side in (copied, state.backend)
        ]
        assert both[0] == both[1]
        assert both[0]["tick"][1] == report.revision
        monkeypatch.setattr(StagedCopy, "_is_still", original)
        report = state.migrate_to(place)
        assert (report.behind, report.revision) == (0, state.revision)
        assert look(opened(place, "main")) == look(state.backend)


def test_history_that_is_forgotten_faster_than_it_is_read_begins_anew(new_store: Stores, opened: Opened) -> None:
    store, place = new_store("sqlite"), new_store("json")
    state = StateManager(store, "main", history=5)
    for number in range(30):
        state.save(f"k{number}", number)

    def meddle() -> None:
        for number in range(100):
            state.save(f"k{number % 40}", -number)

    with state:
        migrating.migrate(Meddling(opened(store, "main"), "dump", 1, meddle), opened(place, "main"))  # type: ignore[arg-type]
        assert look(opened(place, "main"))["states"] == look(state.backend)["states"]


# --- killed -----------------------------------------------------------------------------------------------------


def large(store: str, keys: int = 3000) -> None:
    with StateManager(store, "main") as state:
        fill(state, keys, 200)


@pytest.mark.timeout(300 + 10 * KILLS)
@pytest.mark.parametrize("kills", stressed(KILLS))
@pytest.mark.parametrize(("source", "target"), CYCLE)
def test_killed_and_run_again_until_it_is_done(
    source: str, target: str, kills: int, new_store: Stores, opened: Opened
) -> None:
    origin = new_store(source)
    large(origin)
    code = """
import sys, stateview.cli.program as program, stateview.transfer.version_pages as version_pages
version_pages.VERSIONS_PER_PAGE = 100
sys.exit(program.main(sys.argv[1:]))
"""
    command = [sys.executable, "-c", code, "migrate", origin, "", "-n", "main"]  # many pages to be cut off between
    started = time.monotonic()
    command[-3] = new_store(target)
    subprocess.run(command, check=True, capture_output=True)
    length = time.monotonic() - started
    expected = content(opened(origin, "main"))
    chance = random.Random(f"{source} {target}")
    cut = resumed = 0
    while cut < kills:
        command[-3] = place = new_store(target)
        for _ in range(4):
            child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            try:
                child.wait(length * chance.uniform(0.3, 1.1))
            except subprocess.TimeoutExpired:
                child.send_signal(signal.SIGKILL)
            said = child.communicate()[1]
            there = opened(place, "main").head()
            if child.returncode == 0:
                resumed += "continued" in said
                break
            assert child.returncode == -signal.SIGKILL, said
            cut += 1
            assert there.revision in (0, opened(origin, "main").head().revision)
            if there.lineage:
                assert content(opened(place, "main")) == expected
        else:
            subprocess.run(command, check=True, capture_output=True)
        assert content(opened(place, "main")) == expected
        assert opened(place, "main").marks() == opened(origin, "main").marks()
        assert recover(opened(place, "main")).problems == ()
        assert "already copied" in subprocess.run(command, check=True, capture_output=True, text=True).stderr
    print(f"{source} to {target}: {cut} kills, {resumed} gone on with")


@pytest.mark.parametrize("target", KINDS)
def test_what_was_copied_is_not_copied_again(target: str, new_store: Stores, opened: Opened) -> None:
    store, place = new_store("sqlite"), new_store(target)
    large(store, 12_000)
    stopped = [0]

    def stop(step: MigrationProgress) -> None:
        stopped[0] = step.done
        if step.done > 5000:
            raise InterruptedError

    with StateManager(store, "main") as state:
        with pytest.raises(InterruptedError):
            state.migrate_to(place, progress=stop)
        assert opened(place, "main").namespaces() == []
        state.save("ключ 00001 \U0001f511", "changed since")
        steps: list[MigrationProgress] = []
        report = state.migrate_to(place, progress=steps.append)
        assert report.resumed
        assert min(step.done for step in steps if step.doing == "copying") > stopped[0]
        assert content(opened(place, "main")) == content(state.backend)


# --- what is in the way -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", KINDS)
def test_another_namespace_is_refused_and_forced_aside(target: str, new_store: Stores, opened: Opened) -> None:
    store, place = new_store("json"), new_store(target)
    with StateManager(place, "main") as there:
        there.save("mine", 1)
        there.checkpoint("safe")
    with StateManager(store, "main") as state:
        fill(state, 20)
        with pytest.raises(Conflict, match=r"of another origin: 1 key, 1 checkpoint, revision 1 of 20.*--force"):
            state.migrate_to(place)
        assert opened(place, "main").get("mine") is not None
        report = state.migrate_to(place, force=True)
        assert look(opened(place, "main")) == look(state.backend)
    assert report.safety.startswith("before_migrate_")
    if target in ("json", "sqlite"):
        kept = Path(report.kept)
        with StateManager(f"{target}:{kept.parent}", kept.name) as former:
            assert former.list_checkpoints() == ["safe", report.safety]
            assert former.load("mine", at=report.safety) == 1
    else:
        with redis.Redis.from_url(place) as client:
            assert client.hget(report.kept.replace("*", "live"), "mine").endswith(b" 1")


def test_a_later_state_of_the_same_is_refused_as_that(new_store: Stores, opened: Opened) -> None:
    store, place = new_store("json"), new_store("sqlite")
    with StateManager(store, "main") as state, StateManager(place, "main") as other:
        fill(state, 5)
        revision = state.migrate_to(place).revision
        other.save("k", 1)
        with pytest.raises(
            Conflict, match=f"migrated before, and written to since .revision {revision + 1}.*Continue there"
        ):
            state.migrate_to(place)
        for _ in range(3):
            state.save("k", 2)
        with pytest.raises(Conflict, match="of the same origin, which seems to have been written to since"):
            state.migrate_to(place)
        other.compact(other.revision)
        with pytest.raises(Conflict, match="of the same origin, which seems to have been written to since"):
            state.migrate_to(place)
        assert other.load("k") == 1
        assert state.migrate_to(place, force=True).safety
        assert other.load("k") == 2


def test_an_earlier_copy_is_brought_up_to_date(new_store: Stores, opened: Opened) -> None:
    store, place = new_store("sqlite"), new_store("json")
    with StateManager(store, "main") as state, StateManager(place, "main") as other:
        fill(state, 5)
        assert not state.migrate_to(place).already
        assert state.migrate_to(place).already
        state.save("more", 1)
        report = state.migrate_to(place)
        assert report.kept
        assert not report.safety
        assert look(other.backend) == look(state.backend)
        state.checkpoint("again")
        assert not state.migrate_to(place).already
        state.checkpoint("again")  # of the same revision: a later time, and nothing of the copy's own
        assert not state.migrate_to(place).already
        assert look(other.backend) == look(state.backend)
        other.checkpoint("of the copy".replace(" ", "_"))
        state.save("more", 2)
        with pytest.raises(Conflict, match="of_the_copy"):
            state.migrate_to(place)


def test_a_copy_under_way_is_in_the_way(store_url: str, new_store: Stores, opened: Opened) -> None:
    with StateManager(new_store("sqlite"), "main") as state:
        fill(state, 5)
        receiver = opened(store_url, "main").open_staging()
        with pytest.raises(Conflict, match=r"under way.*Wait"):
            state.migrate_to(store_url)
        receiver.close()
        state.migrate_to(store_url)


def test_the_stage_of_another_source_is_begun_anew(store_url: str, new_store: Stores, opened: Opened) -> None:
    first = opened(store_url, "main").open_staging()
    first.put([], note={"format": 99, "of": "a later version"})
    first.close()
    with StateManager(new_store("sqlite"), "main") as state:
        fill(state, 5)
        assert not state.migrate_to(store_url).resumed
        assert look(opened(store_url, "main")) == look(state.backend)


def test_a_source_that_is_not_there_or_is_the_destination(new_store: Stores, here: Path) -> None:
    store = new_store("json")
    with pytest.raises(KeyNotFound, match=r"namespace 'main' .*check its path"):
        moved(store, new_store("sqlite"))
    with StateManager(store, "other") as state, pytest.raises(KeyNotFound, match="The store has other: choose"):
        state.save("k", 1)
        moved(store, new_store("sqlite"))
    with StateManager(store, "main") as state:
        state.save("k", 1)
    with pytest.raises(Conflict, match="both the source and the destination"):
        moved(store, store, force=True)
    path = store.partition(":")[2]
    os.symlink(path, here / "link")
    with pytest.raises(Conflict, match="both the source and the destination"):
        moved(store, "json:link", force=True)


@pytest.mark.parametrize("info", ["may be asked", "is forbidden"])
@pytest.mark.parametrize("writing", [False, True])
def test_a_redis_by_another_name_is_the_source_itself(info: str, writing: bool, new_store: Stores) -> None:
    store = new_store(KINDS[2])
    with ExitStack() as stack:
        admin = stack.enter_context(redis.Redis.from_url(store))
        if info == "is forbidden":
            admin.execute_command("ACL", "SETUSER", "shy", "on", "nopass", "~*", "&*", "+@all", "-info")
            stack.callback(admin.execute_command, "ACL", "DELUSER", "shy")
            store = store.replace("//", "//shy:any@")
        state = stack.enter_context(StateManager(store, "main"))
        fill(state, 20)
        ended = threading.Event()
        saved = []

        def write() -> None:
            with StateManager(store, "main") as other:
                while not ended.is_set():
                    other.save(f"order {len(saved)}", 1)
                    saved.append(f"order {len(saved)}")

        if writing:
            writer = threading.Thread(target=write)
            stack.callback(writer.join)
            stack.callback(ended.set)
            writer.start()
        names = set(admin.keys("*"))
        for other in (store.replace("127.0.0.1", "localhost"), f"{store}?socket_timeout=9"):
            ways = [{"force": True}, {"dry_run": True}, {"dry_run": True, "force": True}, {"switch": True}]
            for words in ways[:-1] if "@" in other else ways:  # no password is written into stateview.toml
                with pytest.raises(Conflict, match="both the source and the destination"):
                    moved(store, other, **words)
        ended.set()
        if writing:
            writer.join()
        assert set(admin.keys("*")) == names
        assert {*saved} <= {*state.list_keys()}


@pytest.mark.parametrize("forbidden", [False, True])
def test_another_database_or_server_is_another_place_whatever_info_tells(forbidden: bool, new_store: Stores) -> None:
    store = new_store(KINDS[2])
    path = next(iter(REDIS.values()))
    with redis_servers.running(path) as away:
        others = [new_store(KINDS[2]), f"{away}/{store.rpartition('/')[2]}"]
        with redis.Redis.from_url(store) as admin, redis.Redis.from_url(away) as there:
            for one in (admin, there):
                one.execute_command("ACL", "SETUSER", "shy", "on", "nopass", "~*", "&*", "+@all", "-info")
            try:
                if forbidden:
                    store, *others = (one.replace("//", "//shy:any@") for one in (store, *others))
                with StateManager(store, "main") as state:
                    fill(state, 20)
                    for other in others:
                        assert not state.migrate_to(other).already
                        assert state.migrate_to(other).already
            finally:
                admin.execute_command("ACL", "DELUSER", "shy")


def test_a_node_of_a_cluster_is_the_cluster(here: Path) -> None:
    path = next(iter(REDIS.values()))
    with redis_servers.running(path, "--cluster-enabled", "yes") as node, redis.Redis.from_url(node) as client:
        client.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16383)
        while client.cluster("info")["cluster_state"] != "ok":
            time.sleep(0.01)
        with StateManager(node, "main") as state:
            fill(state, 20)
        for other in (f"redis+cluster{node[5:]}", node.replace("127.0.0.1", "localhost")):
            with pytest.raises(Conflict, match="both the source and the destination"):
                moved(node, other, force=True)
            with pytest.raises(Conflict, match="both the source and the destination"):
                moved(other, node, force=True)


@pytest.mark.parametrize("kind", ["json", "sqlite"])
def test_a_folder_by_another_name_is_the_source_itself(kind: str, here: Path) -> None:
    with StateManager(f"{kind}:a", "main") as state:
        fill(state, 5)
        before = look(state.backend)
    (here / "b").mkdir()
    (here / "b" / "main").symlink_to(here / "a" / "main")
    for words in ({"force": True}, {"dry_run": True}):
        with pytest.raises(Conflict, match="both the source and the destination"):
            moved(f"{kind}:a", f"{kind}:b", **words)
    (here / "c").mkdir()
    mount = ["unshare", "-rm", "sh", "-c", 'mount --bind a c && exec "$@"', "sh"]
    try:
        allowed = subprocess.run([*mount, "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        allowed = False
    if allowed:
        words = [*mount, *MIGRATE, f"{kind}:a", f"{kind}:c", "-n", "main", "--force"]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert (done.returncode, "both the source and the destination" in done.stderr) == (4, True)
    with StateManager(f"{kind}:a", "main") as state:
        assert look(state.backend) == before


def test_an_edit_by_hand_is_not_left_behind(new_store: Stores) -> None:
    store = new_store("json")
    with StateManager(store, "main") as state:
        state.save("k", 1)
    path = Path(store.partition(":")[2]) / "main" / "state.json"
    time.sleep(0.05)
    path.write_text(path.read_text().replace('"value": 1', '"value": 7'))
    edited = path.read_bytes()
    assert b"7" in edited
    with pytest.raises(Conflict, match="edited by hand"):
        moved(store, new_store("sqlite"))
    assert path.read_bytes() == edited


def edit(store: str, old: str, new: str) -> Path:
    path = Path(store.partition(":")[2]) / "main" / "state.json"
    time.sleep(0.05)
    path.write_text(path.read_text().replace(old, new, 1))
    return path


def once(doing: str, what: Callable[[], object]) -> Callable[[MigrationProgress], None]:
    """Progress that does something when a part begins."""
    seen = []

    def progress(step: MigrationProgress) -> None:
        if step.doing == doing and not seen:
            seen.append(step)
            what()

    return progress


@pytest.mark.parametrize("doing", ["copying", "comparing"])
@pytest.mark.parametrize("already", [False, True])
def test_an_edit_by_hand_during_the_copy_is_not_left_behind(doing: str, already: bool, new_store: Stores) -> None:
    if already and doing == "copying":
        return
    store, place = new_store("json"), new_store("sqlite")
    with StateManager(store, "main") as state:
        state.save("k", "before")
        if already:
            state.migrate_to(place)
    with pytest.raises(Conflict, match="edited by hand"):
        moved(store, place, progress=once(doing, lambda: edit(store, '"before"', '"edited"')))
    with StateManager(store, "main") as state:
        assert state.load("k") == "edited"
        state.log()
    assert moved(store, place).revision == 2
    with StateManager(place, "main") as other:
        assert other.load("k") == "edited"


@pytest.mark.parametrize("kind", KINDS)
def test_commits_during_the_comparison_of_what_is_there_already_are_counted(kind: str, new_store: Stores) -> None:
    store, place = new_store(kind), new_store("sqlite")
    with StateManager(store, "main") as state:
        fill(state, 20)
        state.migrate_to(place)
        report = moved(store, place, progress=once("comparing", lambda: state.save("late", 1)))
        assert (report.already, report.behind) == (True, 1)


@pytest.mark.parametrize("target", KINDS)
def test_what_is_written_to_the_destination_while_it_is_compared_is_no_damage(target: str, new_store: Stores) -> None:
    store, place = new_store("sqlite"), new_store(target)
    with StateManager(store, "main") as state, StateManager(place, "main") as other:
        fill(state, 20)
        state.migrate_to(place)
        with pytest.raises(Conflict, match=r"later state.*Continue there") as caught:
            moved(store, place, progress=once("comparing", lambda: other.save("after", "new")))
        assert not isinstance(caught.value, Damaged)
        assert other.load("after") == "new"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("doing", ["copying", "comparing"])
@pytest.mark.parametrize("anew", [False, True])
def test_a_source_that_goes_while_it_is_copied_is_said_to_be_gone(
    kind: str, doing: str, anew: bool, new_store: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stateview.transfer.version_pages.VERSIONS_PER_PAGE", 20)
    store, place = new_store(kind), new_store("sqlite" if kind != "sqlite" else "json")
    with StateManager(store, "main") as state:
        fill(state, 100)

        def go() -> None:
            state.backend.drop()
            if anew:
                for _ in range(20):
                    state.save("another", 1)

        said = "replaced during the migration.*starts over" if anew else "removed during the migration.*No data is left"
        with pytest.raises(Conflict, match=said) as caught:
            moved(store, place, progress=once(doing, go))
        assert "goes on with" not in str(caught.value)
    with StateManager(place, "main") as other:
        assert other.namespaces() == []


@pytest.mark.parametrize("target", KINDS)
@pytest.mark.parametrize("force", [False, True])
def test_a_refusal_adopts_nothing_at_the_destination(target: str, force: bool, new_store: Stores) -> None:
    import older_formats as older

    store, place = new_store("sqlite"), new_store(target)
    root = Path(place.partition(":")[2])
    with ExitStack() as stack:
        if target in ("json", "sqlite"):
            getattr(older, f"write_{target}")(root, "main")
        else:
            client = stack.enter_context(redis.Redis.from_url(place))
            older.write_redis(client, "main")

        def held() -> object:
            if target in ("json", "sqlite"):
                return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
            return sorted(client.keys("*"))

        before = held()
        with StateManager(store, "main") as state:
            fill(state, 20)
            if not force:
                with pytest.raises((Conflict, ReadOnly)):
                    state.migrate_to(place)
                assert held() == before
            else:
                report = state.migrate_to(place, force=True)
                assert report.kept
                assert report.replaces
                assert moved(store, place).already


def test_older_data_is_to_be_adopted_first(here: Path, new_store: Stores) -> None:
    import older_formats as older

    older.write_json(here / "s", "main")
    with pytest.raises(ReadOnly, match=r"older layout.*stateview log"):
        moved("json:s", new_store("sqlite"))
    StateManager("json:s", "main").log()
    StateManager("json:s", "main").save("k", 1)
    assert moved("json:s", new_store("sqlite")).keys


def test_a_destination_that_cannot_be_written(here: Path, new_store: Stores, redis_server: Any) -> None:
    store = new_store("sqlite")
    with StateManager(store, "main") as state:
        fill(state, 5)
        Path("file").write_text("")
        with pytest.raises(BackendError, match="A store is a folder"):
            state.migrate_to("json:file")
        with pytest.raises(BackendError, match="does not answer"):
            state.migrate_to("redis://127.0.0.1:1/0")
    Path("stateview.toml").write_text('[stores.prod]\nurl = "sqlite:prod"\nread_only = true\n')
    with pytest.raises(ReadOnly):
        moved(store, "prod")
    assert "read-only" in cli(store, "sqlite:x", "-n", "main", "--read-only", code=3).stderr


@pytest.mark.parametrize("target", ["json", "sqlite"])
def test_a_full_disk_is_an_error_after_which_it_goes_on(target: str, new_store: Stores, opened: Opened) -> None:
    store, place = new_store("sqlite"), new_store(target)
    large(store, 20_000)
    limit = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (6_000_000, 6_000_000))"
    code = f"{limit}; from stateview.cli.program import main; sys.exit(main(sys.argv[1:]))"
    words = [sys.executable, "-c", code, "migrate", store, place, "-n", "main"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr
    assert "othing was changed" not in done.stderr
    assert "resumes as much of the copy as is safe" in done.stderr
    assert opened(place, "main").namespaces() == []
    moved(store, place)
    assert content(opened(place, "main")) == content(opened(store, "main"))


# --- verified ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", KINDS)
@pytest.mark.parametrize("what", ["live", "past", "gone", "more", "mark", "commit"])
def test_a_copy_that_differs_is_found_and_removed(
    what: str, target: str, new_store: Stores, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, place = new_store("sqlite"), new_store(target)
    with StateManager(store, "main") as state:
        fill(state, 50)
        original = StagedCopy._put

        def put(copy: Any, versions: Any = (), commits: Any = (), marks: Any = None, forget: Any = ()) -> None:
            from msgspec.structs import replace

            versions, commits = list(versions), list(commits)
            if versions and what in ("live", "past"):
                index = next(
                    n
                    for n, one in enumerate(versions)
                    if (one.value or b"")[:1] == b"{" and bool(one.until) == (what == "past")
                )
                one = versions[index]
                versions[index] = replace(one, value=one.value[:-1] + b" " + one.value[-1:])
            elif versions and what == "gone":
                del versions[3]
            elif versions and what == "more":
                versions.append(replace(versions[0], key="\U0010ffff"))
            elif marks and what == "mark":
                marks = [replace(marks[0], note="another"), *marks[1:]]
            elif commits and what == "commit":
                commits[0] = replace(commits[0], author="another")
            original(copy, versions, commits, marks, forget)

        monkeypatch.setattr(StagedCopy, "_put", put)
        with pytest.raises(Damaged, match=r"read back from .* is not what was copied.*was removed"):
            state.migrate_to(place)
        assert opened(place, "main").namespaces() == []
        monkeypatch.setattr(StagedCopy, "_put", original)
        assert not state.migrate_to(place).resumed
        assert look(opened(place, "main")) == look(state.backend)


@pytest.mark.parametrize("target", KINDS)
def test_a_byte_of_the_stage_that_changes_is_found(
    target: str, new_store: Stores, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, place = new_store("sqlite"), new_store(target)
    original = StagedCopy._staged

    def staged(copy: Any, head: Head) -> Backend:
        stage = original(copy, head)
        folder = Path(place.partition(":")[2]) / "main"
        if target == "json":
            stage.close()
            path = folder / "migrating-json" / "history.jsonl"
            path.write_bytes(path.read_bytes().replace(b"NEEDLE", b"NEADLE", 1))
        elif target == "sqlite":
            stage.close()
            path = folder / "migrating-sqlite" / "state.db"
            path.write_bytes(path.read_bytes().replace(b"NEEDLE", b"NEADLE", 1))
        else:
            with redis.Redis.from_url(place) as client:
                name = "stateview:{main}:migrating:live"
                client.hset(name, "needle", client.hget(name, "needle").replace(b"NEEDLE", b"NEADLE"))
        return stage

    with StateManager(store, "main") as state:
        fill(state, 50)
        state.save("needle", "NEEDLE")
        monkeypatch.setattr(StagedCopy, "_staged", staged)
        with pytest.raises(Damaged, match="was removed"):
            state.migrate_to(place)
        assert opened(place, "main").namespaces() == []
        monkeypatch.setattr(StagedCopy, "_staged", original)
        assert state.migrate_to(place).keys
        assert look(opened(place, "main")) == look(state.backend)


def test_what_is_there_already_is_compared_too(new_store: Stores, opened: Opened) -> None:
    store, place = new_store("sqlite"), new_store(KINDS[2])
    with StateManager(store, "main") as state:
        fill(state, 20)
        state.migrate_to(place)
        with redis.Redis.from_url(place) as client:
            name = "stateview:{main}:live"
            client.hset(name, "after", client.hget(name, "after").replace(b"null", b"true"))
        with pytest.raises(Damaged, match="at the same revision with other content"):
            state.migrate_to(place)


# --- the command ------------------------------------------------------------------------------------------------


def test_a_dry_run_tells_and_makes_nothing(here: Path) -> None:
    with StateManager("json:a", "main") as state:
        fill(state, 20)
        keys, versions = state.head().count, len(dumped(state.backend))
    files = sorted(here.rglob("*"))
    done = cli("json:a", "sqlite:b", "-n", "main", "--dry-run")
    assert done.stdout == ""
    assert (
        f"would copy {keys} keys and 3 checkpoints of main from json:a to sqlite:b: {versions} versions" in done.stderr
    )
    data = json.loads(cli("json:a", "sqlite:b", "-n", "main", "--dry-run", "--format", "json").stdout.splitlines()[-1])
    assert (data["event"], data["keys"], data["versions"]) == ("would", keys, versions)
    assert sorted(here.rglob("*")) == files
    assert moved("json:a", "sqlite:b").digest == data["digest"]


def test_switch_makes_scripts_carry_on_there(here: Path) -> None:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        done = forked(*words)
        assert done.returncode == 0, done
        return done

    run("init", "json", "flow")
    (here / "stateview.toml").write_text("# mine\n" + (here / "stateview.toml").read_text())
    run("save", "k", "1")
    below = here / "deep" / "er"
    below.mkdir(parents=True)
    os.chdir(below)
    said = run("migrate", "json:../../.claude/state", "sqlite:../../db", "--switch").stderr
    assert "stateview.toml now names the destination" in said
    assert list(below.iterdir()) == []
    run("save", "k", "2")
    os.chdir(here)
    assert run("load", "k").stdout == "2\n"
    assert (here / "stateview.toml").read_text().startswith("# mine\n")
    with StateManager("sqlite:db", "flow") as state:
        assert state.load("k") == 2
    with StateManager("json", "flow") as state:
        assert state.load("k") == 1


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_switch_leaves_the_ends_of_lines_as_they_are(end: str, here: Path) -> None:
    with StateManager("json:a", "main") as state:
        state.save("k", 1)
    path = here / "stateview.toml"
    path.write_bytes(end.join(["# mine", 'store = "json:a"', "", "[safety]", "keep = 3", ""]).encode())
    moved("json:a", "sqlite:b", switch=True)
    lines = path.read_bytes().decode().split(end)
    assert 'store = "sqlite:b"' in lines
    assert 'namespace = "main"' in lines
    assert not any("\n" in line or "\r" in line for line in lines)


def test_what_is_said_to_do_next_works_for_a_name_that_looks_like_an_option(here: Path) -> None:
    with StateManager("json:a b", "-x") as state:
        state.save("k", 1)
    said = cli("json:a b", "json:q r", "--namespace=-x").stderr
    command = said.partition("next: '")[2].rpartition("' makes")[0]
    assert command.startswith("stateview ")
    subprocess.run([sys.executable, "-m", *shlex.split(command)], check=True, capture_output=True)
    with StateManager() as state:
        assert (state.namespace, state.load("k")) == ("-x", 1)


def test_what_a_namespace_that_was_removed_left_is_said_to_be_kept(here: Path) -> None:
    with StateManager("sqlite:a", "main") as state:
        fill(state, 5)
        (here / "b" / "main" / "checkpoints").mkdir(parents=True)
        said = cli("sqlite:a", "json:b", "-n", "main").stderr
    assert "data of a deleted namespace is kept in" in said
    assert "()" not in said


def test_switch_to_a_named_store_names_this_namespace_and_keeps_link_and_mode(here: Path) -> None:
    with StateManager("json:a", "main") as state:
        state.save("k", 1)
    text = '# mine\nstore = "json:a"\nnamespace = "main"\n[stores.prod]\nurl = "sqlite:b"  # there\n'
    for more, store in (('namespace = "build"\n', "sqlite:b"), ("", "prod")):
        (here / "mine.toml").write_text(text + more)
        (here / "mine.toml").chmod(0o600)
        link = here / "stateview.toml"
        link.unlink(missing_ok=True)
        link.symlink_to("mine.toml")
        assert moved("json:a", "prod", switch=True).switched == str(link)
        assert link.is_symlink()
        assert link.stat().st_mode & 0o777 == 0o600
        assert link.read_text() == text.replace('store = "json:a"', f'store = "{store}"') + more
        with StateManager() as state:
            assert (state.url, state.namespace, state.load("k")) == ("sqlite:b", "main", 1)


def test_a_file_that_cannot_be_switched_is_said_before_anything_moves(here: Path) -> None:
    with StateManager("json:a", "main") as state:
        state.save("k", 1)
    (here / "stateview.toml").write_text("store = [")
    assert "not valid TOML" in cli("json:a", "sqlite:b", "-n", "main", "--switch", code=2).stderr
    assert not (here / "b").exists()


def test_what_would_be_replaced_is_said(here: Path) -> None:
    for store in ("json:a", "sqlite:b"):
        with StateManager(store, "main") as state:
            state.save("k", store)
    words = ("json:a", "sqlite:b", "-n", "main", "--force")
    said = cli(*words, "--dry-run").stderr
    assert "the existing namespace (1 key, 0 checkpoints, revision 1 of 20" in said
    assert "would be kept aside" in said
    assert "the replaced namespace (1 key, 0 checkpoints, revision 1 of 20" in cli(*words).stderr


def test_what_was_moved_before_an_error_is_said(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        with StateManager("sqlite:s", name) as state:
            state.save("k", name)
    original = migrating.migrate

    def fail_at_b(source: Backend, *rest: Any, **more: Any) -> Any:
        if source.namespace == "b":
            raise Conflict("no", "Wait")
        return original(source, *rest, **more)

    monkeypatch.setattr(migrating, "migrate", fail_at_b)
    with pytest.raises(Conflict, match=r"no. Wait. Moved before it: a$"):
        stateview.migrate("sqlite:s", "json:j", all=True)


def test_within_one_folder_it_says_what_not_to_remove(here: Path) -> None:
    with StateManager("json", "main") as state:
        state.save("k", 1)
    said = cli("--from", "json", "--to", "sqlite", "-n", "main").stderr
    assert "delete state.json, history.jsonl, checkpoints there, not the folder" in said
    assert "not the folder" not in cli("json", "sqlite:elsewhere", "-n", "main").stderr


@pytest.mark.parametrize(("first", "second"), [("json", "sqlite"), ("sqlite", "json")])
def test_within_one_folder_to_drop_one_leaves_the_other(first: str, second: str, here: Path) -> None:
    with StateManager(first, "main") as state, StateManager(second, "main") as other:
        fill(state, 10)
        state.migrate_to(second)
        other.save("since", 1)
        other.recover()
        with pytest.raises(Conflict, match="Continue there"):
            state.migrate_to(second)
        state.migrate_to(second, force=True)  # so that something is kept aside
        before = look(other.backend)
        stage = here / ".claude" / "state" / "main" / f"migrating-{second}"
        stage.mkdir()  # as of a copy that is under way
        state.backend.drop()
        assert look(other.backend) == before
        assert [finding.severity for finding in other.doctor().findings] == ["note", "warning"]
        assert (state.namespaces(), state.list_keys(), stage.exists()) == ([], [], True)
        assert other.namespaces() == ["main"]
        other.backend.drop()
        assert os.listdir(here / ".claude" / "state") == []


def test_lines_for_scripts_and_silence_without_a_terminal(here: Path) -> None:
    large("sqlite:a", 9000)
    done = cli("sqlite:a", "sqlite:b", "-n", "main", "--format", "jsonl")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["event"] for line in lines[-2:]] == ["progress", "migrated"]
    assert {line["doing"] for line in lines if line["event"] == "progress"} == {"copying", "comparing"}
    assert all(line["done"] <= line["total"] and 0 <= line["percent"] <= 100 for line in lines[:-1])
    done = cli("sqlite:a", "json:c", "-n", "main")
    assert done.stdout == ""
    assert "\r" not in done.stderr
    assert done.stderr.startswith("copied ")


def test_a_reader_that_has_enough_of_the_lines_does_not_end_the_copy(here: Path) -> None:
    with StateManager("sqlite:one", "main") as state:
        fill(state, 2000)
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [*MIGRATE, "sqlite:one", "sqlite:two", "-n", "main", "--format", "json"],
        stdout=write, stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    os.close(write)
    assert done.returncode == 0 and done.stderr.startswith("copied "), done.stderr
    with StateManager("sqlite:two", "main") as other:
        assert other.revision == StateManager("sqlite:one", "main").revision


def test_output_that_has_no_room_is_an_error_without_a_traceback(here: Path) -> None:
    with StateManager("sqlite:one", "main") as state:
        fill(state, 20)
    for words in (["export"], ["keys"], ["migrate", "sqlite:one", "sqlite:two", "--format", "json"]):
        with open("/dev/full", "w") as full:
            done = subprocess.run(
                [*MIGRATE[:-1], *words, *(["-s", "sqlite:one"] if len(words) == 1 else []), "-n", "main"],
                stdout=full, stderr=subprocess.PIPE, text=True, check=False,
            )  # fmt: skip
        assert (done.returncode, done.stderr) == (3, "stateview: standard output: No space left on device\n"), words


@pytest.mark.parametrize("keys", [40_000])
def test_a_terminal_sees_a_line_of_progress(here: Path, keys: int) -> None:
    large("sqlite:a", keys)
    terminal = Terminal("migrate", "sqlite:a", "sqlite:b", "-n", "main")
    text = terminal.until("read back and compared")
    assert terminal.end() == 0
    assert b"keys/s" in terminal.raw and b"s left" in terminal.raw  # it may be gone again before it is looked at
    assert "left" not in text


def test_ctrl_c_lets_go_and_the_next_goes_on(here: Path, new_store: Stores) -> None:
    large("sqlite:a", 20_000)
    place = new_store(KINDS[2])
    words = [*MIGRATE, "sqlite:a", place, "-n", "main", "--format", "json"]
    child = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout is not None
    child.stdout.readline()
    child.send_signal(signal.SIGINT)
    out, said = child.communicate(timeout=20)
    assert (child.returncode, said) == (130, "interrupted: run the same command again to continue the copy\n")
    assert json.loads(out.splitlines()[-1]) == {"event": "interrupted"}
    assert moved("sqlite:a", place).resumed


def test_after_a_kill_redis_need_not_be_waited_for(here: Path, new_store: Stores) -> None:
    large("sqlite:a", 20_000)
    place = new_store(KINDS[2])
    child = subprocess.Popen([*MIGRATE, "sqlite:a", place, "-n", "main", "--format", "json"], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    child.kill()
    stat = Path(f"/proc/{child.pid}/stat")
    while stat.read_text().rpartition(")")[2].split()[0] != "Z":  # it is not waited for, as where there is no init
        time.sleep(0.01)
    with redis.Redis.from_url(place) as client:
        name = "stateview:{main}:migrating:lock"
        held = client.get(name)
        assert held is not None
        client.set(name, held.replace(b"@", b"@elsewhere-"), ex=100)  # as of another machine
        with pytest.raises(Conflict, match=r"if it was killed, another copy can begin in \d+ s"):
            moved("sqlite:a", place)
        client.set(name, held, ex=100)
    assert moved("sqlite:a", place).resumed
    child.wait()
