"""Export and import through real files, stores and servers; what a file says is compared with what was in the store."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import older_formats
import pytest
import redis
from conftest import REDIS
from forked import forked
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stress import only, stressed
from terminal import Terminal
from test_transfer import ACTS, act, look, many

from stateview import StateManager
from stateview.backends.protocol import Backend, CheckpointWrite, CommitRequest, Head, Version, Write
from stateview.errors import BackendError, Conflict, Damaged, InvalidName, KeyNotFound, ReadOnly, StateException
from stateview.transfer import export as exporting
from stateview.transfer import import_sources as sources
from stateview.transfer.formats import jsonl
from stateview.transfer.formats.jsonl_reader import JsonlReader, Record

REDIS_KIND = next(iter(REDIS), "redis")
KINDS = ("json", "sqlite", REDIS_KIND)
BIG = 10**40 + 7
Make = Callable[..., StateManager]


@pytest.fixture
def state(store_url: str, make: Make) -> StateManager:
    """A manager of namespace `main` of each kind of store, empty."""
    return make(store_url)


@pytest.fixture
def make(folder: Path) -> Iterator[Make]:
    """Opens managers, and closes them with the test."""
    made: list[StateManager] = []

    def open_one(store: str, namespace: str = "main", **options: Any) -> StateManager:
        made.append(StateManager(store, namespace, **options))
        return made[-1]

    yield open_one
    for one in made:
        one.close()


def fill(state: StateManager) -> None:
    """Some of everything."""
    state.save("job", {"tasks": [1, 2], "big": BIG, "ü": "\u202e\x1b[31m"})
    state.save("lease", "x", ttl=3600)
    state.checkpoint("one", note="note é\n")
    state.save("job", {"tasks": [1]})
    state.save("schlüssel", (1e16, 1.5, None, True))
    state.delete("lease")
    state.checkpoint("two")
    state.checkpoint("one")
    state.save("späte\u0301r", 3)
    state.undo()


def text_of(state: StateManager) -> bytes:
    out = io.BytesIO()
    state.export(out)
    return out.getvalue()


def read(data: bytes) -> list[Record]:
    return list(JsonlReader(io.BytesIO(data), "file").records())


def live(state: StateManager) -> dict[str, Any]:
    return {entry.key: entry.value for entry in state.at("live").entries()}


def sealed(lines: list[bytes]) -> bytes:
    """Lines of an export, with the right digests and counts, whatever they say."""
    out = b""
    kinds = [0, 0, 0]
    total = 0
    for line in lines:
        out += line + b"\n"
        total += 1
        for place, start in enumerate((b'{"commit":', b'{"checkpoint":', b'{"key":')):
            kinds[place] += line.startswith(start)
        if total % jsonl.LINES_PER_DIGEST == 0:
            out += b'{"lines":%d,"sha256":"%s"}\n' % (total, hashlib.sha256(out).hexdigest().encode())
            total += 1
    digest = hashlib.sha256(out).hexdigest().encode()
    end = b'{"end":%d,"commits":%d,"checkpoints":%d,"versions":%d,"sha256":"%s"}\n'
    return out + end % (total, *kinds, digest)


# --- what an export is ------------------------------------------------------------------------------------------------


def test_an_export_holds_all_and_makes_the_same_namespace(
    state: StateManager, new_store: Callable[[str], str], make: Make
) -> None:
    many(state.backend)
    first = text_of(state)
    assert text_of(state) == first
    for kind in KINDS:
        other = make(new_store(kind))
        done = other.import_from(io.BytesIO(first))
        assert (done.how, done.revision, done.keys) == ("new", state.revision, state.head().count)
        assert text_of(other) == first
        copied, source = look(other.backend), look(state.backend)
        for seen in (copied, source):  # the format has no place for the kind of a checkpoint
            seen["marks"] = [msgspec.structs.replace(mark, kind="") for mark in seen["marks"]]
        assert copied == source
        assert other.recover().problems == ()
        assert other.save("more", 1) == state.revision + 1


@pytest.mark.parametrize("rounds", [3, *stressed(20)])
def test_round_trips_over_all_backends_give_equal_bytes(
    new_store: Callable[[str], str], tmp_path: Path, rounds: int
) -> None:
    stores, numbers = [new_store(kind) for kind in (*KINDS, "json")], count()

    @settings(max_examples=rounds, database=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(ACTS, min_size=1, max_size=25))
    def check(acts: list[tuple[Any, ...]]) -> None:
        name = f"n{next(numbers)}"
        with StateManager(stores[0], name) as state:
            for each in acts:
                act(state, *each)
            state.save("big", BIG)
            state.save("ключ", {"ü": "é"}, ttl=1000)
            expected, plain = text_of(state), io.BytesIO()
            state.export(plain, layout="json")
        for store in stores[1:]:
            with StateManager(store, f"{name}" if store != stores[3] else f"{name}-again") as other:
                other.import_from(io.BytesIO(expected))
                again = text_of(other)
                assert again.split(b"\n")[1:-2] == expected.split(b"\n")[1:-2]
                if other.namespace == name:
                    assert again == expected
                values = io.BytesIO()
                other.export(values, layout="json")
                assert values.getvalue() == plain.getvalue()

    check()


def test_what_a_backend_has_not_tidied_up_yet_is_not_exported(new_store: Callable[[str], str], make: Make) -> None:
    versions = []
    for kind in KINDS:
        state = make(new_store(kind), history=5)
        for turn in range(30):
            state.save("a", turn)
            if turn == 10:
                state.checkpoint("kept")
                state.checkpoint("gone")
            if turn == 12:
                state.checkpoint("other")
        state.delete_checkpoint("gone")
        state.delete_checkpoint("other")
        before = text_of(state)
        state.compact(state.head().floor)
        assert text_of(state) == before
        state.compact(25)
        records = read(text_of(state))
        versions.append([(one.revision, one.value) for one in records if isinstance(one, Version)])
    assert versions[0] == versions[1] == versions[2]
    assert [one for one, _ in versions[0]] == [11, 25, 26, 27, 28, 29, 30]


def test_plain_json_is_sorted_exact_and_of_any_state(state: StateManager, tmp_path: Path) -> None:
    fill(state)
    done = state.export(tmp_path / "live.json")
    text = (tmp_path / "live.json").read_text()
    assert json.loads(text) == live(state)
    assert list(json.loads(text)) == sorted(json.loads(text))
    assert text.endswith("\n}\n")
    assert text.startswith('{\n  "job": {\n    "tasks": [\n')
    assert (done.layout, done.versions, done.revision, done.bytes) == ("json", 2, state.revision, len(text.encode()))
    state.export(tmp_path / "past.json.gz", at="one@2")
    packed = (tmp_path / "past.json.gz").read_bytes()
    past = json.loads(gzip.decompress(packed))
    assert past["job"]["big"] == BIG
    assert past["lease"] == "x"
    state.export(tmp_path / "past.json.gz", at="one@2", overwrite=True)
    assert (tmp_path / "past.json.gz").read_bytes() == packed
    state.export(tmp_path / "some.json", keys=["sch*"])
    assert list(json.loads((tmp_path / "some.json").read_text())) == ["schlüssel"]
    with pytest.raises(KeyNotFound, match="no key matches"):
        state.export(tmp_path / "none.json", keys="none*")
    assert not (tmp_path / "none.json").exists()
    for key in state.list_keys():
        state.delete(key)
    state.export(tmp_path / "empty.json")
    assert (tmp_path / "empty.json").read_text() == "{}\n"


class Busy:
    """A namespace to which someone writes before each page of a dump is read."""

    def __init__(self, real: Backend, write: Callable[[], None]) -> None:
        self._real, self._write = real, write

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def versions_page(self, *given: Any, **options: Any) -> Any:
        self._write()
        return self._real.versions_page(*given, **options)


@pytest.mark.parametrize(("keep", "writes"), [(1000, 3), (40, 3), (12, 4)])
def test_an_export_is_of_one_revision_whatever_is_written_meanwhile(
    state: StateManager, new_store: Callable[[str], str], make: Make, monkeypatch: pytest.MonkeyPatch, keep: int,
    writes: int, store_url: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(exporting, "VERSIONS_PER_PAGE", 10)
    writer = make(store_url, history=keep)
    chance = random.Random(keep)
    states: dict[int, dict[str, Any]] = {0: {}}
    stop = [10_000]

    def write() -> None:
        for _ in range(writes):
            if stop[0] <= 0:
                return
            stop[0] -= 1
            key = f"key {chance.randrange(30):02}"
            now = dict(states[max(states)])
            if chance.random() < 0.3 and key in now:
                writer.delete(key)
                del now[key]
            else:
                now[key] = chance.randrange(1000)
                writer.save(key, now[key])
            states[writer.revision] = now

    for _ in range(20):
        write()
        writer.checkpoint(f"at-{writer.revision}")
    stop[0] = 60
    before = writer.revision
    out = io.BytesIO()
    done = exporting.export(Busy(writer.backend, write), out)  # type: ignore[arg-type]
    assert writer.revision > before
    copy = make(new_store("sqlite"))
    copy.import_from(io.BytesIO(out.getvalue()))
    head = copy.head()
    assert head.revision == done.revision
    assert head.floor <= head.revision
    assert (head.floor > 0) == (keep < 1000)
    for revision in range(head.floor, head.revision + 1):
        assert {one.key: one.value for one in copy.at(revision).entries()} == states[revision], revision
    for mark in copy.backend.marks():
        assert {one.key: one.value for one in copy.at(mark.name).entries()} == states[mark.revision], mark
    assert len(copy.list_checkpoints()) == 20
    assert copy.recover().problems == ()
    assert text_of(copy) == out.getvalue()


def test_an_export_that_writers_outrun_gives_up(
    state: StateManager, make: Make, store_url: str, tmp_path: Path
) -> None:
    writer = make(store_url, history=1)
    writer.save("a", 0)

    def write() -> None:
        for turn in range(3):
            writer.save("a", turn)
        writer.compact(writer.revision)

    with pytest.raises(Conflict, match="than its history keeps"):
        exporting.export(Busy(writer.backend, write), tmp_path / "x.jsonl")  # type: ignore[arg-type]
    assert os.listdir(tmp_path) == (["store"] if (tmp_path / "store").exists() else [])


def test_an_export_beside_real_writers_can_be_imported(
    state: StateManager, new_store: Callable[[str], str], make: Make, store_url: str
) -> None:
    with state.transaction() as tx:
        for number in range(2000):
            tx.save(f"key {number:04}", number)
    ended = threading.Event()
    errors: list[BaseException] = []

    def write() -> None:
        try:
            with StateManager(store_url, "main") as other:
                number = 0
                while not ended.is_set():
                    number += 1
                    with other.transaction() as tx:  # the two are equal in every state
                        tx.save(f"key {number % 2000:04}", -number)
                        tx.save("last", [number % 2000, -number])
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(5):
            copy = make(new_store("sqlite"))
            copy.import_from(io.BytesIO(text_of(state)))
            for ref in ("live", f"live~{copy.revision // 2}"):
                last = copy.load("last", None, at=ref)
                if last is not None:
                    assert copy.load(f"key {last[0]:04}", at=ref) == last[1]
    finally:
        ended.set()
        thread.join()
    assert not errors


# --- where an export goes ---------------------------------------------------------------------------------------------


def test_a_file_that_is_there_is_not_overwritten_unasked(state: StateManager, tmp_path: Path) -> None:
    fill(state)
    path = tmp_path / "x.jsonl"
    path.write_text("mine")
    with pytest.raises(Conflict, match="exists already"):
        state.export(path)
    assert path.read_text() == "mine"
    path.chmod(0o600)
    link = tmp_path / "link.jsonl"
    link.symlink_to(path)
    state.export(link, overwrite=True)
    assert link.is_symlink()
    assert path.read_bytes() == text_of(state)
    assert path.stat().st_mode & 0o777 == 0o600
    assert not [name for name in os.listdir(tmp_path) if ".tmp-" in name]


def test_the_name_that_was_given_decides_on_compression_and_not_the_file_behind_a_link(
    state: StateManager, tmp_path: Path
) -> None:
    fill(state)
    for name, target in (("x.jsonl.gz", "packed"), ("y.jsonl", "plain.gz")):
        (tmp_path / name).symlink_to(tmp_path / target)
        state.export(tmp_path / name, overwrite=True)
    assert gzip.decompress((tmp_path / "packed").read_bytes()) == text_of(state)
    assert (tmp_path / "plain.gz").read_bytes() == text_of(state)


def test_what_an_export_cannot_write_is_said(state: StateManager, tmp_path: Path) -> None:
    with pytest.raises(KeyNotFound, match=r"namespace 'main' of .* does not exist"):
        state.export(tmp_path / "x.jsonl")
    fill(state)
    (tmp_path / "folder.json").mkdir()
    refused: list[tuple[Any, dict[str, Any], type[StateException], str]] = [
        (tmp_path / "folder.json", {}, InvalidName, "is a folder"),
        (tmp_path / "none" / "x.json", {}, BackendError, "No such file"),
        (tmp_path / "x.txt", {}, InvalidName, "ends neither in"),
        (tmp_path / "x.jsonl", {"at": "one"}, InvalidName, "plain JSON only"),
        (tmp_path / "x.jsonl", {"layout": "xml"}, InvalidName, "no layout 'xml'"),
        ("/dev/full", {"layout": "jsonl"}, BackendError, "No space left"),
    ]
    for target, options, kind, said in refused:
        with pytest.raises(kind, match=said):
            state.export(target, **options)
    assert not (tmp_path / "x.jsonl").exists()
    state.export("/dev/null", layout="json")
    assert Path("/dev/null").is_char_device()


def test_a_pipe_gets_the_export_and_stays_a_pipe(state: StateManager, tmp_path: Path) -> None:
    fill(state)
    pipe = tmp_path / "pipe.jsonl"
    os.mkfifo(pipe)
    got: list[bytes] = []
    thread = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    thread.start()
    state.export(pipe)
    thread.join()
    assert got == [text_of(state)]
    assert pipe.is_fifo()


def test_no_half_file_is_left_where_there_is_no_more_room(tmp_path: Path) -> None:
    store = f"json:{tmp_path / 'store'}"
    with StateManager(store, "main") as state:
        state.save("a", "x" * 100_000)
    (tmp_path / "x.json").write_text("{}")
    program = """
import resource, signal, sys
from stateview import StateManager, StateException
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
try:
    StateManager(sys.argv[1], "main", read_only=True).export(sys.argv[2], overwrite=True)
except StateException as error:
    sys.exit(str(error))
"""
    done = subprocess.run(
        [sys.executable, "-c", program, store, str(tmp_path / "x.json")], capture_output=True, text=True, check=False
    )
    assert "x.json: File too large" in done.stderr, done.stderr
    assert (tmp_path / "x.json").read_text() == "{}"
    assert sorted(os.listdir(tmp_path)) == ["store", "x.json"]


# --- into a namespace that is there -----------------------------------------------------------------------------------


def test_a_namespace_that_is_there_is_changed_only_as_asked(state: StateManager, tmp_path: Path) -> None:
    state.save("a", 1)
    state.save("b", {"x": 1}, ttl=1000)
    state.export(tmp_path / "x.json")
    (tmp_path / "x.json").write_text('{"b": {"x": 2}, "c": 1e2}')
    with pytest.raises(Conflict, match=r"exists already: 2 keys at revision 2; .* a plain JSON object with 2 keys"):
        state.import_from(tmp_path / "x.json")
    plan = state.import_from(tmp_path / "x.json", how="replace", dry_run=True)
    assert plan.diff is not None
    assert [(one.key, one.kind) for one in plan.diff] == [("a", "removed"), ("b", "changed"), ("c", "added")]
    assert state.revision == 2
    merged = state.import_from(tmp_path / "x.json", how="merge")
    assert merged.diff is not None
    assert [(one.key, one.kind) for one in merged.diff] == [("b", "changed"), ("c", "added")]
    assert (merged.revision, merged.checkpoint, state.list_checkpoints()) == (3, "", [])
    assert live(state) == {"a": 1, "b": {"x": 2}, "c": 100}
    assert state.log(1)[0].reason == f"import {tmp_path / 'x.json'} (merge)"
    replaced = state.import_from(tmp_path / "x.json", how="replace")
    assert live(state) == {"b": {"x": 2}, "c": 100}
    assert state.list_checkpoints() == [replaced.checkpoint]
    assert replaced.checkpoint.startswith("before_import_")
    assert state.load("a", at=replaced.checkpoint) == 1
    state.undo()
    assert live(state) == {"a": 1, "b": {"x": 2}, "c": 100}
    again = state.import_from(tmp_path / "x.json", how="merge")
    assert again.diff is not None
    assert list(again.diff) == []
    assert again.revision == state.revision == 5


def test_plain_json_leaves_the_expiry_of_what_is_equal(state: StateManager, tmp_path: Path) -> None:
    state.save("a", 1, ttl=1000)
    state.save("b", 1, ttl=1000)
    (tmp_path / "x.json").write_text('{"a": 1, "b": 2}')
    state.import_from(tmp_path / "x.json", how="merge")
    assert state.entry("a").expires is not None
    assert state.entry("b").expires is None


def test_an_export_is_merged_with_its_expiry_and_without_what_has_expired(state: StateManager, tmp_path: Path) -> None:
    state.save("a", 1, ttl=1000)
    state.save("brief", 1, ttl=0.3)
    state.save("b", 1)
    state.export(tmp_path / "x.jsonl")
    until = state.entry("a").expires
    state.save("a", 1)
    state.delete("b")
    time.sleep(0.3)
    done = state.import_from(tmp_path / "x.jsonl", how="merge", force=True)
    assert done.diff is not None
    assert [one.key for one in done.diff] == ["b"]
    found = state.entry("a").expires
    assert found is not None and until is not None
    assert abs((found - until).total_seconds()) < 0.5
    assert "brief" not in state


def test_an_export_of_another_lineage_or_an_older_one_is_refused_unless_forced(
    state: StateManager, new_store: Callable[[str], str], make: Make, tmp_path: Path
) -> None:
    fill(state)
    state.export(tmp_path / "old.jsonl")
    state.save("job", 5)
    for how in ("merge", "replace"):
        with pytest.raises(Conflict, match=r"older than the live state, revision 8"):
            state.import_from(tmp_path / "old.jsonl", how=how)
    stranger = make(new_store("json"))
    stranger.save("z", 1)
    stranger.export(tmp_path / "stranger.jsonl")
    with pytest.raises(Conflict, match="which has another lineage"):
        state.import_from(tmp_path / "stranger.jsonl", how="merge")
    twin = make(new_store("sqlite"))
    twin.import_from(tmp_path / "old.jsonl")
    twin.save("job", 6)
    twin.save("job", 7)
    twin.export(tmp_path / "twin.jsonl")
    with pytest.raises(
        Conflict, match="its history diverged from this namespace: revision 8 is a different commit in each"
    ):
        state.import_from(tmp_path / "twin.jsonl", how="replace")
    assert (state.revision, state.load("job")) == (8, 5)
    state.export(tmp_path / "mine.jsonl")
    ahead = make(new_store("sqlite"))
    ahead.import_from(tmp_path / "mine.jsonl")
    ahead.save("job", 9)
    ahead.export(tmp_path / "ahead.jsonl")
    state.import_from(tmp_path / "ahead.jsonl", how="merge")
    assert state.load("job") == 9
    for name in ("old", "stranger", "twin"):
        state.import_from(tmp_path / f"{name}.jsonl", how="replace", force=True)
    assert state.load("job") == 7


def test_what_others_write_meanwhile_is_not_lost_and_not_passed_over(
    state: StateManager, make: Make, store_url: str, tmp_path: Path
) -> None:
    with state.transaction() as tx:
        for number in range(50):
            tx.save(f"k{number}", number)
    (tmp_path / "x.json").write_text(json.dumps({"k1": "new", "k2": 2, "more": 1}))
    other = make(store_url)
    with state.open_import(tmp_path / "x.json", how="merge") as work:
        work.refresh()
        other.save("k40", "theirs")
        other.save("k2", "theirs too")
        assert work.execute().revision == 4
    assert (state.load("k1"), state.load("k2"), state.load("k40")) == ("new", 2, "theirs")
    state.save("k1", 1)
    with state.open_import(tmp_path / "x.json", how="replace") as work:
        seen = work.plan()
        assert seen.diff is not None
        assert len(seen.diff) == 49
        other.save("k2", 2)  # as it is in the file: nothing that was seen is different
        work.execute(seen=True)
    assert live(state) == {"k1": "new", "k2": 2, "more": 1}
    with state.open_import(tmp_path / "x.json", how="replace") as work:
        work.plan()
        other.save("late", 1)
        assert work.writes == {}
        work.execute(seen=True)
    state.delete("late")
    state.save("k1", 3)
    with state.open_import(tmp_path / "x.json", how="replace") as work:
        work.plan()
        other.save("late", 1)
        with pytest.raises(Conflict, match="now change other keys: 'late'"):
            work.execute(seen=True)
    assert state.load("k1") == 3


def test_a_read_only_namespace_can_be_exported_and_compared_only(
    state: StateManager, make: Make, store_url: str
) -> None:
    fill(state)
    reader = make(store_url, read_only=True)
    assert text_of(reader) == text_of(state)
    plan = reader.import_from(io.BytesIO(b'{"a": 1}'), how="merge", dry_run=True)
    assert plan.diff is not None
    assert [one.key for one in plan.diff] == ["a"]
    with pytest.raises(ReadOnly):
        reader.import_from(io.BytesIO(b'{"a": 1}'), how="merge")
    fresh = make(store_url, "fresh", read_only=True)
    with pytest.raises(ReadOnly):
        fresh.import_from(io.BytesIO(text_of(state)))
    assert state.namespaces() == ["main"]


# --- into a new one ---------------------------------------------------------------------------------------------------


def test_a_new_namespace_is_there_whole_or_not_at_all(
    state: StateManager, make: Make, store_url: str, tmp_path: Path
) -> None:
    with state.transaction() as tx:
        for number in range(5000):
            tx.save(f"k{number:04}", number)
    data = text_of(state)
    fresh = make(store_url, "fresh")
    with pytest.raises(Damaged, match="lines 5,001 to 5,007: they are not what was written"):
        fresh.import_from(io.BytesIO(data.replace(b'"value":4999', b'"value":4998')))
    with pytest.raises(Damaged, match="lines 2,001 to 3,000"):
        fresh.import_from(io.BytesIO(data.replace(b'"value":2222', b'"value":2223')))
    assert fresh.namespaces() == ["main"]
    assert fresh.head() == Head()

    def stop(done: int, _all: int) -> None:
        if done > 100_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fresh.import_from(io.BytesIO(data), progress=stop)
    assert fresh.namespaces() == ["main"]
    fresh.import_from(io.BytesIO(data))
    assert read(text_of(fresh)) == read(data)


@pytest.mark.parametrize("kind", KINDS)
def test_an_import_that_was_killed_leaves_nothing_and_can_be_done_again(
    kind: str, new_store: Callable[[str], str], make: Make, tmp_path: Path
) -> None:
    store, source = new_store(kind), make(new_store("sqlite"))
    with source.transaction() as tx:
        for number in range(20_000):
            tx.save(f"k{number:05}", "x" * 50)
    source.export(tmp_path / "x.jsonl")
    program = """
import os, sys
from stateview import StateManager
StateManager(sys.argv[1], "main").import_from(sys.argv[2], progress=lambda done, _: done > 1_000_000 and os._exit(9))
"""
    command = [sys.executable, "-c", program, store, str(tmp_path / "x.jsonl")]
    assert subprocess.run(command, check=False).returncode == 9
    target = make(store)
    assert target.namespaces() == []
    target.import_from(tmp_path / "x.jsonl")
    assert text_of(target) == (tmp_path / "x.jsonl").read_bytes()


def test_an_import_does_not_take_over_a_migration(state: StateManager) -> None:
    receiver = state.backend.open_staging()
    receiver.put(note={"after": ["a", 1]})
    receiver.close()
    if state.backend.kind == "redis":
        with redis.Redis.from_url(state.backend.url) as client:
            client.delete("stateview:{main}:migrating:lock")
    with pytest.raises(Conflict, match=r"a migration into namespace 'main' .* is not finished"):
        state.import_from(io.BytesIO(b'{"a": 1}'))
    receiver = state.backend.open_staging()
    assert receiver.progress() == {"after": ["a", 1]}
    receiver.drop()


def test_a_document_makes_a_namespace_of_one_commit(state: StateManager, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(json.dumps({"b": [1], "a": BIG}))
    plan = state.import_from(tmp_path / "x.json", dry_run=True)
    assert (plan.how, plan.keys, plan.revision, state.namespaces()) == ("new", 2, 1, [])
    state.author = "me"
    state.import_from(tmp_path / "x.json")
    assert live(state) == {"a": BIG, "b": [1]}
    assert [(one.revision, one.keys, one.author) for one in state.log()] == [(1, 2, "me")]
    state.undo()
    assert live(state) == {}


# --- what is wrong with a file ----------------------------------------------------------------------------------------


@pytest.fixture
def text(tmp_path: Path) -> bytes:
    with StateManager(f"sqlite:{tmp_path / 'of text'}", "main") as state:
        fill(state)
        return text_of(state)


def test_a_file_cut_off_anywhere_is_refused(text: bytes) -> None:
    expected = read(text)
    assert len(expected) > 10
    for end in range(len(text)):
        with pytest.raises(Damaged, match=r"line \d+: "):
            read(text[:end])


def test_a_flipped_bit_anywhere_is_refused(text: bytes) -> None:
    for place in range(len(text)):
        for bit in (0, 5):
            altered = bytearray(text)
            altered[place] ^= 1 << bit
            with pytest.raises(Damaged, match=r"lines? [\d,]+"):
                read(bytes(altered))


def test_lines_that_are_missing_doubled_or_moved_are_refused(text: bytes) -> None:
    lines = text.split(b"\n")[:-1]
    for place in range(len(lines)):
        for altered in (
            [*lines[:place], *lines[place + 1 :]], [*lines[: place + 1], *lines[place:]],
            [*lines[:place], *lines[place : place + 2][::-1], *lines[place + 2 :]],
        ):  # fmt: skip
            if altered != lines:
                with pytest.raises(Damaged, match=r"line"):
                    read(b"".join(line + b"\n" for line in altered))


HEAD = b'{"stateview":1,"namespace":"main","lineage":"ab","revision":5,"floor":4,"time":7}'
GOOD = [
    HEAD, b'{"commit":5,"time":7,"keys":1}', b'{"checkpoint":"m","revision":3,"time":4}',
    b'{"key":"a","revision":2,"time":3,"value":1}', b'{"key":"a","revision":5,"time":3,"deleted":true}',
]  # fmt: skip
KEY = b'{"key":"%b","revision":3,"time":3,"value":%b}'
WRONG: list[tuple[int, bytes, str]] = [
    (0, HEAD.replace(b'"ab"', b'"../x"'), "lineage"),
    (0, HEAD.replace(b"main", b"../main"), "not allowed"),
    (0, HEAD.replace(b'"floor":4', b'"floor":6'), "floor 6"),
    (0, HEAD.replace(b'"floor":4', b'"floor":1'), "3 of the commits 2 to 5 are missing"),
    (0, HEAD.replace(b'"revision":5', b'"revision":99999999999999999999'), r"`\$.revision`"),
    (0, HEAD.replace(b'"revision":5', b'"revision":9999999999999999'), r"`int` <= 1000000000000000 - at `\$.revision`"),
    (0, HEAD.replace(b'"time":7', b'"time":1e300'), "int"),
    (0, HEAD.replace(b'{"stateview":1', b'{"stateview":2'), "format 2, and this stateview reads formats up to 1"),
    (0, b"\xef\xbb\xbf" + HEAD, "line 1 column 1: a byte order mark"),
    (0, HEAD + b"\r", "CRLF"),
    (1, b'{"commit":6,"time":7,"keys":1}', "commit 6"),
    (1, b'{"commit":4,"time":7,"keys":1}', "commit 4"),
    (1, b'{"checkpoint":"n","revision":3,"time":4}', "1 of the commits 5 to 5 are missing"),
    (1, b'{"commit":1,"time":7,"keys":1}', "commit 1"),
    (1, b'{"commit":5,"time":-7,"keys":1}', r"`\$.time`"),
    (1, b'{"commit":5,"time":253402300800000000,"keys":1}', r"`\$.time`"),
    (1, b'{"commit":5,"time":7,"keys":1,"keys":2}', "not as an export writes it"),
    (1, b'{"commit":5,"time":7,"keys":1,"more":2}', "unknown field"),
    (1, b'{"commit":5,"time":7,"keys":1,"undo":[1,2]}', "length 3"),
    (1, b'{"commit":5,"time":7,"keys":1,"reason":"\\ud800"}', "line 2"),
    (2, b'{"checkpoint":"live","revision":3,"time":4}', "not allowed"),
    (2, b'{"checkpoint":"m","revision":9,"time":4}', "revision 9"),
    (2, b'{"checkpoint":"m", "revision":3,"time":4}', "not as an export writes it"),
    (3, KEY % (b"", b"1"), "empty"),
    (3, KEY % (b"\\u0000", b"1"), "NUL"),
    (3, KEY % (b"k" * 1025, b"1"), "1,025 bytes"),
    (3, KEY % (b"\xff", b"1"), "UTF-8|utf-8"),
    (3, KEY % (b"a", b"NaN"), "column"),
    (3, KEY % (b"a", b"1e999"), "valid JSON|out of range"),
    (3, KEY % (b"a", b'"\\ud800"'), "line 4"),
    (3, KEY % (b"a", b'"\xff"'), "UTF-8|utf-8"),
    (3, KEY % (b"a", b'{"x":1,"x":2}'), "twice"),
    (3, KEY % (b"a", b"[" * 201 + b"]" * 201), "levels deep"),
    (3, KEY % (b"a", b"[" * 100_000 + b"]" * 100_000), "deep|recursion"),
    (3, KEY % (b"a", b"[1,]"), "column"),
    (3, b'{"key":"a","revision":2,"time":3,"deleted":true,"value":1}', "either"),
    (3, b'{"key":"a","revision":2,"time":3}', "either"),
    (3, b'{"key":"a","revision":6,"time":3,"value":1}', "revision 6"),
    (3, b'{"key":"b","revision":2,"time":3,"value":1}', "line 5: the versions are not sorted"),
    (3, b'{"key":"a","revision":5,"time":3,"value":1}', "line 5: the versions are not sorted"),
    (3, b'{"key":"a","revision":2,"time":3,"expires":-1,"value":1}', r"`\$.expires`"),
    (3, b'{"commit":4,"time":7,"keys":1}', "out of order"),
    (3, b'{"what":4}', "no line of an export"),
    (3, b"", "no line of an export"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "content", "said"), WRONG)
def test_a_line_that_cannot_be_is_refused_though_its_digest_is_right(
    line: int, content: bytes, said: str, tmp_path: Path
) -> None:
    assert len(read(sealed(GOOD))) == 4
    lines = [*GOOD]
    lines[line] = content
    with (
        StateManager(f"json:{tmp_path}", "main") as state,
        pytest.raises(Damaged, match=f"line {line + 1}|line [35]") as caught,
    ):
        state.import_from(io.BytesIO(sealed(lines)), layout="jsonl")
    import re

    assert re.search(said, str(caught.value)), caught.value
    assert not (tmp_path / "main").exists()


def test_integers_of_any_size_and_numbers_as_they_were_stored_come_through(tmp_path: Path) -> None:
    huge = "7" * 20_000
    lines = [*GOOD[:2], KEY % (b"a", huge.encode()), KEY % (b"b", b"[1e+16,1.0,1e2]"), KEY % (b"c", b'{"a": [1, 2]}')]
    with StateManager(f"json:{tmp_path}", "main") as state:
        state.import_from(io.BytesIO(sealed(lines)))
        again = text_of(state)
    assert b'"value":' + huge.encode() in again
    assert b"[1e+16,1.0,1e2]" in again
    assert b'{"a":[1,2]}' in again


DOCUMENTS: list[tuple[bytes, str]] = [
    (b"", "line 1 column 1"),
    (b"[1]", "not an object"),
    (b"\xef\xbb\xbf{}", "line 1 column 1: a byte order mark"),
    (b'{"a": 1,\r\n "b": \xff}', "line 2 column 7: not UTF-8"),
    (b'{"a": 1,\n "b": 2,\n "a": 3}', "line 3 column 2: the key 'a' occurs twice"),
    (b'{"a": [1,\n {"x": 1, "x": "\\""}]}', "line 2 column 11: the key 'x' occurs twice"),
    (b'{"a": "NaN",\n "b": [NaN]}', "line 2 column 8: NaN is not JSON"),
    (b'{"a": -Infinity}', "line 1 column 7: -Infinity is not JSON"),
    (b'{"a": 1,\n "b": 1e999}', "line 2 column 7: the number 1e999 is too large"),
    (b'{"a": 1,\n "b": }', "line 2 column 7: Expecting value"),
    (b'{"a": 1}\n{"b": 2}', "line 2 column 1: Extra data"),
    (b'{"a": "\\ud800"}', "lone surrogate at \\$"),
    (b'{"a": "x"', "line 1 column 10"),
    (b'{"' + b"k" * 1025 + b'": 1}', "1,025 bytes"),
    (b'{"": 1}', "empty"),
    (b'{"a": ' + b"[" * 201 + b"]" * 201 + b"}", "201|200 levels deep"),
    (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "line 1 column 20\\d: nested over 200"),
    (b'{"a": "' + b"x" * (64 << 20) + b'"}', "over the limit"),
]


@pytest.mark.parametrize(("data", "said"), DOCUMENTS)
def test_a_document_that_says_what_no_save_would_take_is_refused_with_its_place(
    data: bytes, said: str, tmp_path: Path
) -> None:
    with StateManager(f"json:{tmp_path / 's'}", "main") as state, pytest.raises(Damaged, match=said):
        state.import_from(io.BytesIO(data))
    assert not (tmp_path / "s").exists()


def unpacked(data: bytes | bytearray) -> bytes | None:
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error):
        return None


def test_packed_files_are_bounded_and_checked(text: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = gzip.compress(text)
    with StateManager(f"json:{tmp_path / 's'}", "main") as state:
        for end in range(2, len(packed), 7):
            with pytest.raises(Damaged):
                state.import_from(io.BytesIO(packed[:end]))
        for place in range(10, len(packed), 7):
            altered = bytearray(packed)
            altered[place] ^= 4
            if unpacked(altered) == text:  # it was one of the bits that fill the last byte of the stream
                continue
            with pytest.raises(Damaged):
                state.import_from(io.BytesIO(bytes(altered)))
        bomb = gzip.compress(HEAD + b"\n" + b'{"key":"' + bytes(200 << 20), 1)
        assert len(bomb) < 2_000_000
        with pytest.raises(Damaged, match="line 2: the line is longer than"):
            state.import_from(io.BytesIO(bomb))
        monkeypatch.setattr(sources, "MAX_DOCUMENT_BYTES", 1_000_000)
        with pytest.raises(Damaged, match="a document of over 1,000,000 bytes"):
            state.import_from(io.BytesIO(gzip.compress(b"{" + b" " * 2_000_000)))
        state.import_from(io.BytesIO(packed))
    assert not list((tmp_path / "s" / "main").glob("migrating*"))


def test_what_is_no_file_is_said(state: StateManager, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    fill(state)
    place = state.backend.url
    refused: list[tuple[Any, dict[str, Any], type[StateException], str]] = [
        (tmp_path / "none.json", {}, KeyNotFound, "no file"),
        (tmp_path / "folder", {}, KeyNotFound, "nothing that can be imported"),
        ("/dev/zero", {}, Damaged, "a device"),
        ("json:none", {}, InvalidName, "stateview migrate json:none"),
        (tmp_path / "none.json", {"pattern": "*"}, InvalidName, "URL of a Redis"),
        (tmp_path / "none.json", {"layout": "xml"}, InvalidName, "no layout 'xml'"),
    ]
    if not place.startswith("redis"):
        folder = Path(place.partition(":")[2]) / "main"
        refused.append((folder, {}, InvalidName, f"is the namespace 'main' of a store.*migrate {state.backend.kind}:"))
    for source, options, kind, said in refused:
        with pytest.raises(kind, match=said):
            state.import_from(source, how="merge", **options)
    with pytest.raises(InvalidName, match="merge or replace"):
        state.import_from(tmp_path / "none.json", how="both")


def test_a_pipe_is_read_to_its_end(state: StateManager, text: bytes, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for data in (text[: len(text) // 2], text):
        thread = threading.Thread(target=pipe.write_bytes, args=(data,))
        thread.start()
        if data == text:
            state.import_from(pipe)
        else:
            with pytest.raises(Damaged, match="cut off here"):
                state.import_from(pipe)
        thread.join()
    assert text_of(state) == text


# --- older layouts ----------------------------------------------------------------------------------------------------


def tree(path: Path) -> dict[str, bytes]:
    return {str(one): one.read_bytes() for one in sorted(path.rglob("*")) if one.is_file()}


@pytest.mark.parametrize("layout", ["json", "json file", "sqlite", "sqlite file", "loose"])
def test_the_older_layouts_are_taken_with_their_checkpoints_and_left_as_they_are(
    layout: str, state: StateManager, tmp_path: Path
) -> None:
    root = tmp_path / "older"
    given = root / "ns"
    if layout.startswith("json"):
        older_formats.write_json(root, "ns")
        given = given / "state.json" if "file" in layout else given
    elif layout.startswith("sqlite"):
        older_formats.write_sqlite(root, "ns")
        given = given / "state.db" if "file" in layout else given
    else:
        older_formats.write_mvp(root)
        given = root
    before = tree(root)
    done = state.import_from(given)
    assert done.how == "new"
    assert "older" in done.found
    assert live(state) == older_formats.AFTER
    assert state.list_checkpoints() == ["early"]
    assert {one.key: one.value for one in state.at("early").entries()} == older_formats.BEFORE
    assert state.entry("phase").time.isoformat() == "2024-01-02T10:00:00.654321+00:00"
    assert tree(root) == before
    state.save("mine", 1)
    merged = state.import_from(given, how="merge")
    assert merged.diff is not None
    assert list(merged.diff) == []
    state.import_from(given, how="replace")
    assert live(state) == older_formats.AFTER


def test_a_single_state_json_is_taken_for_what_it_is(state: StateManager, tmp_path: Path) -> None:
    entry = {"value": [1], "timestamp": "2024-01-01T10:00:00", "revision": 7}
    path = tmp_path / "state.json"
    path.write_text(json.dumps({"a": entry}))
    assert "state.json" in state.import_from(path).found
    assert state.entry("a").value == [1]
    assert state.entry("a").time.year == 2024
    state.import_from(path, how="merge", layout="json")
    assert state.load("a") == entry


def test_values_that_look_like_a_state_json_are_not_taken_for_one(state: StateManager, tmp_path: Path) -> None:
    entry = {"value": [1], "timestamp": "2024-01-01T10:00:00"}
    state.save("a", entry)
    path = tmp_path / "out.json"
    state.export(path)
    for source in (path, io.BytesIO(path.read_bytes())):
        with pytest.raises(InvalidName, match="two ways") as raised:
            state.import_from(source, how="replace")
        assert "--as json" in raised.value.hint
        assert "--as state" in raised.value.hint
    assert state.revision == 1
    assert list(state.import_from(path, how="replace", layout="json").diff or ()) == []
    assert state.load("a") == entry
    state.import_from(path, how="replace", layout="state")
    assert state.load("a") == [1]
    state.save("b", 1)
    state.export(path, overwrite=True)
    assert "plain JSON" in state.import_from(path, how="replace").found  # not every entry looks like that


def test_an_older_sqlite_file_that_is_damaged_is_named(state: StateManager, tmp_path: Path) -> None:
    older_formats.write_sqlite(tmp_path, "ns")
    path = tmp_path / "ns" / "state.db"
    path.write_bytes(path.read_bytes().replace(b'"build"', b'"build,'))
    with pytest.raises(Damaged, match=f"{path}.*'phase'"):
        state.import_from(path)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(StateException):
        state.import_from(path)
    assert state.head() == Head()


# --- Redis ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def server(new_store: Callable[[str], str]) -> Iterator[Any]:
    """A client of a Redis that is no store of ours, with its URL in `place`."""
    url = new_store(REDIS_KIND)
    with redis.Redis.from_url(url) as client:
        client.place = url
        yield client


def contents(client: Any) -> dict[bytes, Any]:
    return {name: (client.dump(name), client.ttl(name) >= 0) for name in client.keys("*")}


def test_strings_of_any_redis_are_taken_with_what_is_left_of_their_lives(state: StateManager, server: Any) -> None:
    server.mset({f"app:{number:04}": json.dumps({"n": number, "ü": "é"}) for number in range(3500)})
    server.set("app:brief", " [1, 2] ", ex=5000)
    server.set("app:gone", "1", px=1)
    server.set("else", "no JSON")
    server.set("app:big", str(BIG))
    time.sleep(0.01)
    before = contents(server)
    done = state.import_from(server.place, pattern="app:*", strip_prefix="app:")
    assert (done.keys, done.skipped) == (3502, ())
    assert state.load("0007") == {"n": 7, "ü": "é"}
    assert state.load("big") == BIG
    entry = state.entry("brief")
    assert entry.value == [1, 2]
    assert entry.ttl is not None
    assert 4000 < entry.ttl <= 5001
    assert len(state.list_keys()) == 3502
    assert contents(server) == before
    merged = state.import_from(server.place, pattern="app:*", strip_prefix="app:", how="replace")
    assert merged.diff is not None
    assert list(merged.diff) == []
    assert merged.revision == 1
    server.persist("app:brief")
    state.import_from(server.place, pattern="app:*", strip_prefix="app:", how="merge")
    assert state.entry("brief").expires is None


def test_what_is_no_json_string_is_named_and_taken_or_left_out_when_asked(state: StateManager, server: Any) -> None:
    server.set("a:text", "hello")
    with pytest.raises(Damaged, match=r"the value of 'a:text' is not valid JSON.*--string"):
        state.import_from(server.place, pattern="a:*")
    server.rpush("a:list", 1)
    server.hset("a:hash", "f", 1)
    server.set("a:number", "1")
    with pytest.raises(Damaged, match=r"the key 'a:(list|hash)' is a (list|hash), not a string.*--skip"):
        state.import_from(server.place, pattern="a:*", text=True)
    assert state.head() == Head()
    done = state.import_from(server.place, pattern="a:*", text=True, skip=True)
    assert live(state) == {"a:text": "hello", "a:number": 1}
    assert sorted(done.skipped) == ["a:hash (hash)", "a:list (list)"]
    assert done.left_out == 2
    for name, value, said in [
        (b"b:\xff", b"1", "not UTF-8"), (b"b:v", b"\xff", "not UTF-8"), (b"b:dup", b'{"a":1,"a":2}', "twice"),
        (b"b:" + b"k" * 1025, b"1", "bytes of UTF-8"), (b"b:deep", b"[" * 300 + b"]" * 300, "levels deep"),
    ]:  # fmt: skip
        server.set(name, value)
        with pytest.raises(StateException, match=said):
            state.import_from(server.place, pattern="b:*", how="merge", text=name == b"b:v")
        server.delete(name)
    server.mset({"c:x": "1", "x": "2", "c:": "3"})
    with pytest.raises(InvalidName, match="nothing is left of the key 'c:'"):
        state.import_from(server.place, pattern="c:*", strip_prefix="c:", how="merge")
    server.delete("c:")
    with pytest.raises(InvalidName, match="are the same without the prefix"):
        state.import_from(server.place, pattern="*x", strip_prefix="c:", how="merge")
    with pytest.raises(KeyNotFound, match=r"has no string that matches 'none:"):
        state.import_from(server.place, pattern="none:*", how="merge")
    with pytest.raises(InvalidName, match="go with a pattern"):
        state.import_from(server.place, skip=True, how="merge")


@pytest.mark.parametrize("keys", [4000, *stressed(10_000)])
def test_scan_gives_keys_more_than_once_and_each_is_taken_once(state: StateManager, server: Any, keys: int) -> None:
    server.mset({f"k{number}": str(number) for number in range(keys)})
    ended = threading.Event()

    def grow() -> None:  # a table that grows and shrinks makes SCAN begin parts anew
        while not ended.is_set():
            with redis.Redis.from_url(server.place) as client, client.pipeline(transaction=False) as pipe:
                for number in range(keys):
                    pipe.set(f"other{number}", "x")
                pipe.delete(*(f"other{number}" for number in range(keys)))
                pipe.execute()

    thread = threading.Thread(target=grow)
    thread.start()
    try:
        state.import_from(server.place, pattern="k*")
    finally:
        ended.set()
        thread.join()
    assert live(state) == {f"k{number}": number for number in range(keys)}
    assert state.recover().problems == ()


def test_namespaces_of_ours_are_no_strings_of_another(state: StateManager, server: Any, make: Make) -> None:
    mine = make(server.place, "mine")
    mine.save("a", 1)
    server.set("b", "2")
    assert state.import_from(server.place, pattern="*").keys == 1
    assert live(state) == {"b": 2}


def test_the_older_redis_layout_is_taken_whole(state: StateManager, server: Any) -> None:
    older_formats.write_redis(server, "main")
    server.mset({f"state:main:n{number}": str(number) for number in range(2500)})
    server.set("state:main2:x", "1")
    server.set("checkpoint:main:late", json.dumps({"phase": "test", "n1": 1}))
    before = contents(server)
    done = state.import_from(server.place)
    assert "older layout" in done.found
    assert live(state) == older_formats.AFTER | {f"n{number}": number for number in range(2500)}
    assert state.list_checkpoints() == ["early", "late"]
    assert {one.key: one.value for one in state.at("early").entries()} == older_formats.BEFORE
    assert {one.key: one.value for one in state.at("late").entries()} == {"phase": "test", "n1": 1}
    assert contents(server) == before
    with pytest.raises(KeyNotFound, match="no keys state:"):
        StateManager(state.backend.url, "strange").import_from(server.place)


def test_a_server_that_is_not_there_is_said(state: StateManager) -> None:
    with pytest.raises(StateException, match="does not answer"):
        state.import_from("redis://:secret@localhost:1/0", pattern="*")
    assert state.namespaces() == []


# --- the command line -------------------------------------------------------------------------------------------------


def run(*words: str, code: int = 0, stdin: str = "", **environment: str) -> tuple[str, str]:
    done = forked(*words, stdin=stdin, **environment)
    assert done.returncode == code, done
    assert "Traceback" not in done.stderr
    return done.stdout, done.stderr


def test_the_commands(folder: Path) -> None:
    temporary = folder / "tmp"
    temporary.mkdir()
    more = {"TMPDIR": str(temporary)}
    run("save", "a", "1")
    run("save", "b", '"\\u202e\\u001b[31m"')
    printed, said = run("export", **more)
    assert len(read(printed.encode())) == 4
    assert "exported 2 versions, 2 commits, 0 checkpoints of default at revision 2 to standard output" in said
    assert run("export", "x.jsonl.gz", **more)[0] == ""
    assert gzip.decompress((folder / "x.jsonl.gz").read_bytes()).decode() == printed
    assert "overwrite x.jsonl.gz?" in run("export", "x.jsonl.gz", code=5)[1]
    run("export", "x.jsonl.gz", "--yes", **more)
    assert json.loads(run("export", "--as", "json", "--keys", "a", **more)[0]) == {"a": 1}
    assert "created namespace copy: 2 keys, 0 checkpoints, revision 2" in run("import", "x.jsonl.gz", "-n", "copy")[1]
    assert run("export", "-n", "copy", **more)[0].splitlines()[1:-1] == printed.splitlines()[1:-1]
    assert "--merge" in run("import", "x.jsonl.gz", code=4, **more)[1]
    run("import", "x.jsonl.gz", "--merge", "--replace", code=2)
    stdin = '{"a": 2, "c": null}'
    printed, said = run("import", "-", "--merge", "--dry-run", "--format", "json", stdin=stdin, **more)
    assert [one["key"] for one in json.loads(printed)] == ["a", "c"]
    assert "dry run" in said
    assert "would create namespace new: 2 keys" in run("import", "-", "-n", "new", "--dry-run", stdin=stdin, **more)[1]
    printed, said = run("import", "-", "--replace", stdin=stdin, **more)
    assert "the state before is checkpoint before_import_" in said
    assert " undo' takes it back" in said
    assert json.loads(run("export", "--as", "json")[0]) == {"a": 2, "c": None}
    assert "live already equals the source" in run("import", "-", "--replace", stdin=stdin, **more)[1]
    assert "older than the live state" in run("import", "x.jsonl.gz", "--merge", code=4, **more)[1]
    assert "line 1 column 2" in run("import", "-", "--merge", code=3, stdin="{", **more)[1]
    assert "read" in run("import", "x.jsonl.gz", "-n", "new", "--read-only", code=3, **more)[1]
    assert list(temporary.iterdir()) == []


def start(*words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "stateview", *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("waits", [[0], *stressed([0, 0, 1.5])])
@pytest.mark.parametrize("kind", ["json", "sqlite"])
def test_an_import_that_is_interrupted_says_what_it_has_done(
    kind: str, waits: list[float], folder: Path, make: Make
) -> None:
    state = make(f"{kind}:store")
    state.save("a", 1)
    (folder / "x.json").write_text(json.dumps({f"k{number}": "x" * 50 for number in range(5000)}))
    for wait in waits:  # of the diff, the pipe takes but the beginning
        before = state.revision
        process = start("import", "x.json", "--replace", "-s", state.url, "-n", "main")
        deadline = time.monotonic() + 20
        while state.revision == before and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(wait)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
        assert process.returncode == 130, said
        assert f"already committed, revision {before + 1}" in said or "imported: 5,001 keys" in said, said
        assert " undo' takes it back" in said
        assert "interrupted" in said
        assert "Traceback" not in said
        state.undo()
        assert state.list_keys() == ["a"]


def test_an_import_that_is_interrupted_before_it_did_something_says_that(folder: Path) -> None:
    os.mkfifo("pipe")
    for more in ((), ("--merge",)):
        process = start("import", "pipe", *more)
        with open("pipe", "w") as pipe:
            pipe.write('{"a":')
            pipe.flush()
            time.sleep(0.3)
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=20)
        assert process.returncode == 130
        assert said.startswith("interrupted")
        assert run("namespaces", code=0 if more else 1)[0] == ("" if not more else "default\n")
        run("save", "a", "1")


def in_bash(line: str) -> tuple[int, str, str]:
    line = line.replace("stateview", f"{sys.executable} -m stateview")
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr + done.stdout
    return done.returncode, done.stdout, done.stderr


STREAMS = [">&-", "2>&-", "2>/dev/full", "2> >(true)", ">&- 2>&-", "<&- >&- 2>&-"]


@pytest.mark.parametrize("stream", only(STREAMS, ">&-", "2>/dev/full"))
def test_a_stream_that_is_closed_or_full_changes_nothing(stream: str, folder: Path) -> None:
    run("save", "a", "1")
    (folder / "x.json").write_text('{"b": 2}')
    assert in_bash(f"stateview stats {stream}")[0] == 0
    assert in_bash(f"stateview import x.json --merge {stream}")[0] == 0
    assert run("load", "b")[0] == "2\n"
    code, printed, _ = in_bash(f"stateview keys {stream}")
    assert (code, printed) == (0, "" if ">&-" in stream.split() else "a\nb\n")
    code, printed, _ = in_bash(f"stateview load nothing {stream}")
    assert (code, printed) == (1, "")
    assert run("doctor", "--format", "json")[0] == "[]\n"


def test_standard_input_that_is_closed_is_said(folder: Path) -> None:
    code, _, said = in_bash("stateview import - <&-")
    assert code == 2
    assert "standard input is closed" in said
    assert in_bash("stateview namespaces <&-")[:2] == (1, "")
    assert not (folder / ".claude").exists()
    assert in_bash("stateview import - </dev/null")[0] == 3  # which is there, and empty


def test_an_export_to_an_empty_name_says_so(folder: Path) -> None:
    run("save", "a", "1")
    for more in ((), ("--as", "json")):
        assert "name of the file is empty" in run("export", "", *more, code=2)[1]
    assert sorted(os.listdir(folder)) == [".claude"]


def test_at_a_terminal_the_diff_is_shown_and_asked_about(folder: Path) -> None:
    run("save", "a", "1")
    (folder / "x.json").write_text('{"a": 2}')
    for answer, expected in (("n", "1\n"), ("y", "2\n")):
        terminal = Terminal("import", "x.json", "--merge")
        try:
            shown = terminal.until("[y/N]")
            assert "1 → 2" in shown
            assert "import x.json (merge): 1 key (1 changed)?" in shown
            terminal.type(answer + "\r")
            assert terminal.end() == (5 if answer == "n" else 0)
        finally:
            terminal.kill()
        assert run("load", "a")[0] == expected
    run("save", "b", '"\\u009b31m\\u202e"')
    terminal = Terminal("export", "--as", "json")
    try:
        terminal.until("to standard output")
        assert b"\xc2\x9b" not in terminal.raw
        assert "\u202e".encode() not in terminal.raw
    finally:
        terminal.kill()


FORMATS = [
    (how, more) for how in ("--merge", "--replace") for more in ((), ("--format", "json"), ("--format", "jsonl"))
]


@pytest.mark.parametrize("formats", [FORMATS[1::3], *stressed(FORMATS)], ids=len)
def test_an_import_that_changes_only_when_keys_expire_says_so(
    folder: Path, formats: list[tuple[str, tuple[str, ...]]]
) -> None:
    run("save", "a", "1")
    run("save", "b", "1")
    run("export", "x.jsonl")
    sentence = "no value differs, only the expiry of 2 keys"
    for how, more in formats:
        run("save", "a", "1", "--ttl", "1000")
        run("save", "b", "1", "--ttl", "1000")
        words = ["import", "x.jsonl", how, "--force", *more]
        before = run("log")[0]
        printed, said = run(*words, "--dry-run")
        assert sentence in said
        assert "live" not in said
        assert printed == ("[]\n" if "json" in more else "")
        assert run("log")[0] == before
        printed, said = run(*words)
        assert f"imported: {sentence}" in said
        assert "takes it back" in said
        assert run("log")[0] != before
        assert sentence not in run(*words)[1]
    run("save", "a", "1", "--ttl", "1000")
    terminal = Terminal("import", "x.jsonl", "--replace", "--force")
    try:
        assert terminal.until("[y/N]").count("no value differs, only the expiry of 1 key") == 1
        terminal.type("y\r")
        assert terminal.end() == 0
    finally:
        terminal.kill()


# --- size -------------------------------------------------------------------------------------------------------------


@pytest.mark.stress
def test_memory_is_bounded_by_pages_not_by_the_namespace(tmp_path: Path) -> None:
    store = f"sqlite:{tmp_path / 'store'}"
    with StateManager(store, "main") as state:
        for start in range(200):
            state.backend.commit(
                CommitRequest(
                    {f"{start}:{n}": Write(b'"%s"' % (b"x" * 10_000)) for n in range(100)},
                    marks=(CheckpointWrite("m"),),
                )
            )
    program = """
import sys
from stateview import StateManager
with StateManager(sys.argv[1], "main") as state:
    state.export(sys.argv[2])
with StateManager(sys.argv[1], "copy") as state:
    state.import_from(sys.argv[2])
    state.import_from(sys.argv[2], how="replace", force=True)
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
"""
    command = [sys.executable, "-c", program, store, str(tmp_path / "x.jsonl")]
    peak = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout) // 1024
    assert (tmp_path / "x.jsonl").stat().st_size > 200_000_000
    assert peak < 200, f"{peak} MB"
