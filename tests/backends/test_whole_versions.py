"""Stores of a release that kept every superseded version whole: read, written to, packed, and exported as before."""

from __future__ import annotations

import io
import json
import os
import random
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import apsw
import msgspec
import pytest
import redis
from conftest import REDIS

from stateview import StateManager
from stateview.backends.sqlite import packing
from stateview.cli.program import main

DATA = Path(__file__).parents[1] / "data" / "whole_versions"  # its make.py wrote it, with that release
WHOLE = "SELECT count(*) FROM versions WHERE octet_length(value) >= 512"


class Old(NamedTuple):
    """A copy of a store of the older release, and what that release exported."""

    url: str
    folder: Path
    export: bytes
    states: dict[int, dict[str, Any]]

    def open(self, **options: Any) -> StateManager:
        return StateManager(self.url, "main", **options)

    def check(self, state: StateManager) -> None:
        """Compare every state that the older release kept, and the history that its export holds."""
        for revision, values in self.states.items():
            assert {entry.key: entry.value for entry in state.at(revision).entries()} == values
        ours = [json.loads(line) for line in exported(state).splitlines()]
        for line in (json.loads(line) for line in self.export.splitlines()):
            if line.keys() & {"key", "commit", "checkpoint"}:
                assert line in ours


def exported(state: StateManager) -> bytes:
    target = io.BytesIO()
    state.export(target, layout="jsonl")
    return target.getvalue()


def unpack(kind: str, folder: Path) -> Old:
    with tarfile.open(DATA / f"{kind}.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    states = {int(path.stem): json.loads(path.read_bytes()) for path in (folder / "at").iterdir()}
    return Old(f"{kind}:{folder / 'store'}", folder / "store" / "main", (folder / "export.jsonl").read_bytes(), states)


@pytest.fixture(params=("json", "sqlite"))
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Old:
    return unpack(request.param, tmp_path)


@pytest.fixture
def old_sqlite(tmp_path: Path) -> Old:
    return unpack("sqlite", tmp_path)


@pytest.fixture
def old_redis(new_store: Callable[[str], str], tmp_path: Path) -> Old:
    old = unpack("redis", tmp_path)._replace(url=new_store(next(iter(REDIS), "redis")))
    with redis.Redis.from_url(old.url, encoding="latin-1") as client:
        for command in json.loads((tmp_path / "store" / "commands.json").read_bytes()):
            client.execute_command(*command)
    return old


def history_bytes(old: Old) -> int:
    """Bytes of the file that holds the superseded versions."""
    return sum(
        (old.folder / name).stat().st_size for name in ("history.jsonl", "state.db") if (old.folder / name).exists()
    )


def query(old: Old, sql: str) -> Any:
    with old.open(read_only=True) as state, state.backend._connection() as db:  # type: ignore[attr-defined]
        return db.execute(sql).get


def test_it_opens_reads_equal_and_exports_the_same_bytes(old: Old) -> None:
    with old.open() as state:
        assert exported(state) == old.export
        old.check(state)
        assert [(one.name, one.note) for one in state.checkpoints(all=True)][:2] == [
            ("start", "before “anything”\nhappened"), ("moving", "step 0"),
        ]  # fmt: skip
        report = state.doctor()
        assert (report.ok, report.format) == (True, 1)
        assert [(finding.severity, finding.code) for finding in report.findings] == [("note", "whole-versions")]


def test_on_redis_it_reads_equal_before_and_after_writes_and_compact(old_redis: Old) -> None:
    with old_redis.open() as state:
        assert exported(state) == old_redis.export
        old_redis.check(state)
        assert state.doctor().ok
        assert state.compact() == 0
        assert exported(state) == old_redis.export
        for number in range(20):
            state.save("messages", [{"id": number}] * 60)
        old_redis.check(state)
        state.compact(20)
        kept = {revision: values for revision, values in old_redis.states.items() if revision >= 20}
        old_redis._replace(states=kept, export=b"").check(state)
        assert state.doctor().ok


def test_compact_packs_it_and_a_second_compact_writes_nothing(old: Old) -> None:
    before = history_bytes(old)
    with old.open() as state:
        assert state.compact() == 0
        assert exported(state) == old.export
        old.check(state)
        report = state.doctor()
        assert (report.findings, report.format) == ((), 2)
    assert history_bytes(old) < before / 2
    files = {path: (path.read_bytes(), path.stat().st_ino) for path in old.folder.rglob("*") if path.is_file()}
    with old.open() as state:
        assert state.compact() == 0
    assert {path: (path.read_bytes(), path.stat().st_ino) for path in old.folder.rglob("*") if path.is_file()} == files


def test_doctor_tells_the_format_and_what_packs_it(old: Old, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["--store", old.url, "-n", "main"]
    assert main(["doctor", *command, "--format", "json"]) == 0
    told = capsys.readouterr()
    assert [finding["remedy"] for finding in json.loads(told.out)] == [
        f"Run 'stateview -s {old.url} -n main compact': it packs them"
    ]
    assert "whole versions (format 1)" in told.err
    assert main(["compact", *command]) == 0
    assert main(["doctor", *command]) == 0
    assert "packed (format 2)" in capsys.readouterr().err


def test_what_is_written_to_it_is_kept_beside_its_versions(old: Old) -> None:
    with old.open() as state:
        for number in range(20):
            messages = state.load("messages")
            messages[number]["text"] = "changed"
            state.save("messages", messages)
        state.checkpoint("later")
        old.check(state)
        now = exported(state)
        assert state.doctor().ok
        state.compact()
        assert exported(state) == now
        old.check(state)
        for number in range(20):  # deltas that follow those which `compact` made
            state.save("messages", [{"id": number}] * 60)
        old.check(state)
        assert state.doctor().findings == ()


def test_versions_of_it_are_removed_before_and_after_packing(old: Old) -> None:
    with old.open() as state:
        state.compact(20)
        old_states = {revision: values for revision, values in old.states.items() if revision >= 20}
        old._replace(states=old_states, export=b"").check(state)
        state.compact(35)
        old._replace(states={key: old_states[key] for key in old_states if key >= 35}, export=b"").check(state)
        assert state.doctor().findings == ()
        state.compact(state.revision)
        assert state.doctor().findings == ()


def test_any_version_is_a_few_steps_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole versions older than deltas, and between deltas, as an older release beside this one leaves them."""
    with StateManager(f"sqlite:{tmp_path}", "main", durability="normal") as state:
        rows: list[tuple[int, int]] = []
        for number in range(340):
            with monkeypatch.context() as patch:
                if not 100 <= number < 120 and number < 320:  # this release packs these, the older one the others
                    patch.setattr("stateview.backends.sqlite.packed.pack", lambda *_args: False)
                state.save("k", [number, "x" * 600])
        state.compact()
        with state.backend._connection() as db:  # type: ignore[attr-defined]
            assert db.execute(WHOLE).get == 0
            rows = db.execute("SELECT revision, base FROM packed").fetchall()
        bases = dict(rows)

        def steps(revision: int) -> int:
            return 1 + steps(bases[revision]) if revision in bases else 0

        assert max(map(steps, bases)) < 60
        assert all(state.load("k", at=revision)[0] == revision - 1 for revision in range(1, 341, 7))


def test_packing_goes_on_beside_writers_and_prune(old_sqlite: Old, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between reading values and storing their deltas, another process writes, and prunes the base of a delta."""
    monkeypatch.setattr(packing, "BYTES_PER_TRANSACTION", 20_000)
    store = packing._store
    bites: list[int] = []
    with old_sqlite.open() as state, old_sqlite.open() as other:
        kept = next(mark.revision for mark in state.checkpoints(all=True) if mark.note == "step 16")

        def meanwhile(db: apsw.Connection, deltas: list[Any]) -> None:
            bites.append(len(deltas))
            other.save("messages", ["other", len(bites)] * 300)
            base = next((delta.base for _, revision, delta in deltas if revision == kept), 0)
            if base:
                with monkeypatch.context() as patch:
                    patch.setattr("stateview.backends.sqlite.maintenance.pack_whole_versions", lambda *_args: None)
                    other.compact(base + 1)
            store(db, deltas)
            assert not base or query(old_sqlite, f"SELECT value != '' FROM versions WHERE revision = {kept}")

        monkeypatch.setattr(packing, "_store", meanwhile)
        told: list[str] = []
        state.compact(progress=told.append)
        assert state.head().floor > kept
        assert 5 < len(bites) < len(told)
        assert max(bites) < 5
        for mark in state.checkpoints(all=True):
            assert {entry.key: entry.value for entry in state.at(mark.ref).entries()} == old_sqlite.states[
                mark.revision
            ]
        assert [finding.severity for finding in state.doctor().findings if finding.severity != "note"] == []


def test_a_damaged_version_stays_whole(old_sqlite: Old) -> None:
    """Its row stays as it is for `doctor` and `recover`; the other versions are packed."""
    with old_sqlite.open() as state, state.backend._connection() as db:  # type: ignore[attr-defined]
        db.execute("UPDATE versions SET time = time + 1 WHERE key = 'messages' AND revision = 10")
    with old_sqlite.open() as state:
        state.compact()
        assert [finding.code for finding in state.doctor().findings] == ["damaged-rows"]
        assert query(old_sqlite, WHOLE) == 1
        assert state.load("messages", at=9) == old_sqlite.states[9]["messages"]


@pytest.mark.stress
@pytest.mark.parametrize("kind", ["json", "sqlite"])
@pytest.mark.parametrize("seed", range(6))
def test_in_whatever_order_two_releases_write_pack_and_prune_every_kept_revision_reads_as_it_did(
    kind: str, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(seed)
    text = {key: [chance.randbytes(6).hex() for _ in range(chance.choice((10, 60, 120)))] for key in "abc"}
    states: list[dict[str, Any]] = [{}]
    with StateManager(f"{kind}:{tmp_path}", "main", durability="normal") as state:
        for _ in range(300):
            key, act = chance.choice("abc"), chance.random()
            if act < 0.05:
                state.compact(chance.choice((0, 0, chance.randrange(state.revision + 1))))
            elif act < 0.1 and state.revision:
                state.checkpoint(f"c{chance.randrange(4)}")
            elif act < 0.12 and state.checkpoints():
                state.delete_checkpoint(chance.choice(state.list_checkpoints()))
            elif act < 0.2 and key in states[-1]:
                state.delete(key)
                states.append({name: value for name, value in states[-1].items() if name != key})
            else:
                text[key][chance.randrange(len(text[key]))] = chance.randbytes(6).hex()
                value: Any = chance.choice((list(text[key]), list(text[key]), len(states), chance.randbytes(900).hex()))
                with monkeypatch.context() as patch:
                    if kind == "sqlite" and len(states) // 30 % 2:  # the older release is at work
                        patch.setattr("stateview.backends.sqlite.packed.pack", lambda *_args: False)
                    state.save(key, value)
                states.append({**states[-1], key: value})
        for revision in {
            *range(state.head().floor, state.revision + 1),
            *(one.revision for one in state.checkpoints(all=True)),
        }:
            assert {entry.key: entry.value for entry in state.at(revision).entries()} == states[revision]
        state.compact()
        for revision in range(state.head().floor, state.revision + 1):
            assert {entry.key: entry.value for entry in state.at(revision).entries()} == states[revision]
        assert state.doctor().findings == ()


class BaseVersion(msgspec.Struct):
    """A line of history.jsonl as the older release decodes it. Without a value it is a delete."""

    key: str
    revision: int
    time: int
    value: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


def test_the_older_release_takes_no_packed_version_for_a_delete(tmp_path: Path) -> None:
    old = unpack("json", tmp_path)
    with old.open() as state:
        state.compact(state.revision)
        assert state.load("messages", at="start") == old.states[2]["messages"]
    deletes = []
    packed = 0
    for line in (old.folder / "history.jsonl").read_bytes().splitlines():
        record = json.loads(line)
        if "delta" in record:
            packed += 1
            with pytest.raises(msgspec.ValidationError):
                msgspec.json.decode(line, type=BaseVersion)
        elif "key" in record and msgspec.json.decode(line, type=BaseVersion).value is msgspec.UNSET:
            deletes.append(record["key"])
    assert packed > 2
    assert deletes == ["brief", "notes/ü"]


def test_a_process_of_the_older_release_cannot_delete_the_base_of_a_delta(old_sqlite: Old) -> None:
    """It had the database open before it was packed, and its prune knows of no deltas."""
    with old_sqlite.open() as state:
        state.compact()
        with state.backend._connection() as db:  # type: ignore[attr-defined]
            db.execute("BEGIN IMMEDIATE")
            with pytest.raises(apsw.ConstraintError, match="upgrade stateview"):
                db.execute("DELETE FROM versions WHERE key = 'messages' AND until <= 20 RETURNING revision")
            db.execute("ROLLBACK")
        assert exported(state) == old_sqlite.export
        assert state.compact(20) > 10


KILLED = """
import os, signal, sys
from stateview import StateManager
from stateview.backends.sqlite import packing
packing.BYTES_PER_TRANSACTION = 20_000
store, bites = packing._store, []
def killed(db, deltas):
    store(db, deltas)
    bites.append(1)
    if len(bites) == 4:
        os.kill(os.getpid(), signal.SIGKILL)
packing._store = killed
StateManager(sys.argv[1], "main").compact()
"""


def test_killed_between_two_bites_it_goes_on_with_the_next_compact(old_sqlite: Old) -> None:
    whole = query(old_sqlite, WHOLE)
    process = subprocess.run([sys.executable, "-c", KILLED, old_sqlite.url], check=False)
    assert process.returncode == -signal.SIGKILL
    assert 0 < query(old_sqlite, WHOLE) < whole
    with old_sqlite.open() as state:
        assert exported(state) == old_sqlite.export
        state.compact()
        assert exported(state) == old_sqlite.export
    assert query(old_sqlite, WHOLE) == 0


def test_values_that_do_not_compress_stay_whole_and_are_no_work(tmp_path: Path) -> None:
    with StateManager(f"sqlite:{tmp_path}", "main") as state:
        for _ in range(5):
            state.save("k", os.urandom(3000).hex()[:4000] + chr(0x100))
        state.compact()
        before = (tmp_path / "main" / "state.db").read_bytes()
        state.compact()
        assert (tmp_path / "main" / "state.db").read_bytes() == before


@pytest.mark.parametrize("kind", ["json", "sqlite"])
def test_the_base_that_a_delta_is_left_with_may_be_a_small_value(kind: str, tmp_path: Path) -> None:
    """The base goes, is whole since it does not compress alone, and the next value is too small to be a base."""
    chance = random.Random(1)
    text = "".join(chance.choices([chr(code) for code in range(35, 127) if code != 92], k=1500))
    with StateManager(f"{kind}:{tmp_path}", "main") as state:
        state.save("k", text + "a")
        state.checkpoint("one")
        state.save("k", text + "b")
        state.save("k", 1)
        state.save("k", 2)
        state.compact()
        assert state.compact(state.revision) == 2
        assert state.load("k", at="one") == text + "a"
        assert state.doctor().findings == ()


@pytest.mark.parametrize("kind", ["json", "sqlite"])
def test_the_version_after_the_base_that_goes_may_be_a_delete(kind: str, tmp_path: Path) -> None:
    with StateManager(f"{kind}:{tmp_path}", "main") as state:
        state.save("k", ["one", "x" * 600])
        state.checkpoint("one")
        state.save("k", ["two", "x" * 600])
        state.compact()
        state.delete("k")
        assert state.compact(state.revision) == 1
        assert state.load("k", at="one")[0] == "one"
        assert state.doctor().findings == ()
