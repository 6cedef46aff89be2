"""Superseded values as deltas: whatever comes between, every kept revision reads as it did, and takes little space."""

from __future__ import annotations

import base64
import json
import random
from pathlib import Path
from typing import Any, ClassVar, cast

import pytest
import redis
from packed_history import Texts, bytes_of, deltas, steps
from plain_sqlite import plain_sqlite
from stress import stressed

from stateview import StateManager, compression
from stateview.backends.deltas import MIN_BYTES
from stateview.backends.sqlite.backend import SQLiteBackend
from stateview.backends.sqlite.schema import FORMAT
from stateview.maintenance.history import iter_superseded

KEYS = "abc"


def copied(value: Any) -> Any:
    return json.loads(json.dumps(value))


class Run:
    """Three managers of one store that act by chance, and a model that keeps each state whole."""

    def __init__(self, url: str, seed: int) -> None:
        self.url = url
        self.chance = random.Random(seed)
        self.history = self.chance.choice([5, 30, 1000])
        self.managers = [self.open() for _ in range(3)]
        self.states: list[dict[str, Any]] = [{}]
        self.texts = [Texts(self.chance), Texts(self.chance), Texts(self.chance, 100, 50)]
        self.names = 0

    def open(self) -> StateManager:
        return StateManager(self.url, "ns", history=self.history)

    @property
    def revision(self) -> int:
        return len(self.states) - 1

    def value(self, key: str) -> Any:
        return copied(self.texts[KEYS.index(key)].next(key))

    # --- acts ----------------------------------------------------------------------------------------------------

    def act(self) -> None:
        act = self.chance.choices(*zip(*self.SHARES.items(), strict=True))[0]  # type: ignore[arg-type]
        act(self, self.chance.choice(self.managers))

    def save(self, state: StateManager) -> None:
        key = self.chance.choice(KEYS)
        value = self.value(key)
        assert state.save(key, value) == self.revision + 1
        self.states.append({**self.states[-1], key: value})

    def save_several(self, state: StateManager) -> None:
        values = {key: self.value(key) for key in KEYS}
        with state.transaction() as tx:
            for key, value in values.items():
                tx.save(key, value)
        self.states.append(values)

    def load(self, state: StateManager) -> None:
        key = self.chance.choice(KEYS)
        assert state.load(key, None) == self.states[-1].get(key)

    def delete(self, state: StateManager) -> None:
        key = self.chance.choice(KEYS)
        if state.delete(key):
            self.states.append({other: value for other, value in self.states[-1].items() if other != key})

    def checkpoint(self, state: StateManager) -> None:
        self.names += 1
        state.checkpoint(f"c{self.names % 9}")

    def delete_checkpoint(self, state: StateManager) -> None:
        if marks := state.checkpoints(all=True):
            state.delete_checkpoint(self.chance.choice(marks).ref)

    def compact(self, state: StateManager) -> None:
        head = state.backend.head()
        state.backend.compact(self.chance.randint(head.floor, head.revision))
        self.check_versions(state)

    def pack(self, state: StateManager) -> None:
        state.backend.compact(state.backend.head().floor)

    def reopen(self, state: StateManager) -> None:
        state.close()
        self.managers[self.managers.index(state)] = self.open()

    def restore(self, state: StateManager) -> None:
        if marks := state.checkpoints(all=True):
            mark = self.chance.choice(marks)
            state.restore_checkpoint(mark.ref)
            if state.revision > self.revision:
                self.states.append(self.states[mark.revision])

    def look(self, state: StateManager) -> None:
        revision = self.chance.choice(self.kept(state))
        key = self.chance.choice(KEYS)
        assert state.load(key, None, at=revision) == self.states[revision].get(key)

    SHARES: ClassVar = {
        save: 55, save_several: 6, load: 7, delete: 4, checkpoint: 10, delete_checkpoint: 4, compact: 3, pack: 1,
        reopen: 2, restore: 4, look: 4,
    }  # fmt: skip

    # --- what must hold --------------------------------------------------------------------------------------------

    def kept(self, state: StateManager) -> list[int]:
        """The revisions whose state must be readable."""
        marked = {mark.revision for mark in state.backend.marks()}
        floor = state.backend.head().floor
        assert floor <= self.revision
        return [revision for revision in range(self.revision + 1) if revision >= floor or revision in marked]

    def check_versions(self, state: StateManager) -> None:
        """After `compact`, of superseded values those are left that a kept state shows."""
        kept = self.kept(state)
        wanted = set()
        for key in KEYS:
            written = [0, *(r for r in range(1, self.revision + 1)
                            if self.states[r].get(key) is not self.states[r - 1].get(key))]  # fmt: skip
            for number, revision in enumerate(written):
                until = written[number + 1] if number + 1 < len(written) else self.revision + 1
                if key in self.states[revision] and until <= self.revision and any(revision <= r < until for r in kept):
                    wanted.add((key, revision))
        left = {(one.key, one.revision) for one in iter_superseded(state.backend) if not one.deleted}
        assert left == wanted

    def check(self) -> None:
        for state in (self.managers[0], self.open()):
            for revision in self.kept(state):
                found = {entry.key: entry.value for entry in state.at(revision).entries()}
                assert found == self.states[revision], revision
            for key in KEYS:
                for entry in state.history(key, 1000):
                    assert entry.revision in range(1, self.revision + 1)
                    if key in self.states[entry.revision]:
                        assert entry.value == self.states[entry.revision][key], (key, entry.revision)
            assert [one for one in state.doctor().findings if one.severity == "error"] == []
        state.close()


@pytest.mark.parametrize(("seed", "acts"), [(5, 30), *stressed(*((seed, 120) for seed in range(4)))])
def test_every_kept_revision_reads_as_it_did(store_url: str, seed: int, acts: int) -> None:
    run = Run(store_url, seed)
    for _ in range(acts):
        run.act()
    run.check()
    assert run.history < 1000 or deltas(store_url)
    state = run.managers[0]
    state.compact(run.revision)
    run.check_versions(state)
    run.check()
    assert state.recover().problems == ()
    for manager in run.managers:
        manager.close()


@pytest.mark.parametrize("kind", ["json", "sqlite"])
def test_a_delta_whose_base_goes_is_not_made_relative_to_a_small_value(store_url: str) -> None:
    noise = base64.b64encode(random.Random(1).randbytes(3000)).decode()
    with StateManager(store_url, "ns") as state:
        state.save("k", noise)
        state.checkpoint("c")
        for value in (noise + "x", 1, 2):  # the first is better kept whole, and is the base of the one before
            state.save("k", value)
        state.compact(1)
        assert deltas(store_url)["k", 1].base == 2
        state.compact(state.revision)
        assert deltas(store_url).keys() == {("k", 1)}
        assert state.load("k", at="c") == noise


# --- bounds -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", stressed(500))
def test_a_growing_list_takes_little_and_no_version_is_far(store_url: str, count: int) -> None:
    chance, messages = random.Random(4), []
    with StateManager(store_url, "ns") as state:
        for number in range(1, count + 1):
            messages.append({"role": "user", "text": f"{chance.getrandbits(1000):x}"})
            state.save("list", messages)
            if number % 50 == 0:
                state.checkpoint(f"c{number}")
    live = len(json.dumps(messages))
    for packed in (False, True):  # by the commits alone, and by `compact` too
        with StateManager(store_url, "ns") as state:
            if packed:
                state.compact(0)
            for revision in range(1, count + 1, 17):
                assert state.load("list", at=revision) == messages[:revision]
        found = deltas(store_url)
        assert len(found) > count * 0.8
        assert max(steps(found, key, revision) for key, revision in found) <= 20
        assert bytes_of(store_url) < 8 * live, packed
        print(f"{max(steps(found, *one) for one in found)} steps, {bytes_of(store_url) / live:.1f} of live")


@pytest.fixture
def packings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the values that were tried to be packed."""
    tried: list[int] = []

    def compress(value: bytes, base: bytes | None = None) -> bytes:
        tried.append(len(value))
        return whole(value, base)

    whole = compression.compress
    monkeypatch.setattr(compression, "compress", compress)
    return tried


def test_of_a_past_value_all_deltas_are_read_by_one_statement(tmp_path: Path) -> None:
    with StateManager(f"sqlite:{tmp_path}", "ns") as state:
        for number in range(100):
            state.save("k", [f"item {item}" for item in range(100 + number)])
        statements: list[str] = []
        for connection in cast("SQLiteBackend", state.backend)._pool.opened:
            connection.exec_trace = lambda cursor, text, values: not statements.append(text)
        assert len(state.load("k", at=20)) == 119
        assert sum("packed" in text for text in statements) == 2  # of the value, and of the live one


def test_what_packing_makes_no_smaller_stays_whole(store_url: str, kind: str, packings: list[int]) -> None:
    chance = random.Random(3)
    values = [base64.b64encode(chance.randbytes(4000)).decode() for _ in range(30)]
    with StateManager(store_url, "ns") as state:
        for value in values:
            state.save("k", value)
        state.compact(0)
        assert packings
        assert deltas(store_url) == {}
        del packings[:]
        if kind not in ("json", "sqlite"):  # these note nowhere that a value was tried
            state.compact(0)
            state.save("k", "more")
            state.compact(0)
            assert len(packings) <= 2  # of the last two, which had no later version yet
        assert [state.load("k", at=revision) for revision in range(1, 31)] == values


def test_small_values_are_kept_as_before(store_url: str, kind: str, packings: list[int]) -> None:
    with StateManager(store_url, "ns") as state:
        for number in range(40):
            state.save("k", "x" * (MIN_BYTES - 10) + f"{number}")
        state.compact(0)
        assert (packings, deltas(store_url)) == ([], {})
        assert state.load("k", at=1) == "x" * (MIN_BYTES - 10) + "0"
    if kind == "sqlite":
        with plain_sqlite(Path(store_url.partition(":")[2]) / "ns" / "state.db") as db:
            assert db.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'packed'").get == 0
            assert db.execute("PRAGMA user_version").get <= FORMAT
    elif kind != "json":
        with redis.Redis.from_url(store_url) as client:
            assert not any(record.startswith(b"*") for record in client.hvals("stateview:{ns}:history"))


def test_what_reads_all_versions_unpacks_each_once(
    store_url: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The keys change in turn, so that a check in the order of the commits never reads a key twice in a row."""
    calls: list[int] = []

    def decompress(data: bytes, base: bytes | None, size: int, checked: bool = True) -> bytes:
        calls.append(size)
        return whole(data, base, size, checked)

    whole = compression.decompress
    chance = random.Random(4)
    values = [[chance.randbytes(30).hex() for _ in range(30)] for _ in range(8)]
    with StateManager(store_url, "ns") as state:
        for number in range(240):
            values[number % 8][number % 30] = chance.randbytes(30).hex()
            state.save(f"k{number % 8}", values[number % 8])
        state.compact(0)
        count = len(deltas(store_url))
        assert count > 200
        monkeypatch.setattr(compression, "decompress", decompress)
        for act, times in ((state.doctor, 4), (lambda: state.export(tmp_path / "all.jsonl"), 1)):
            del calls[:]
            act()
            assert count <= len(calls) <= count * times, act
