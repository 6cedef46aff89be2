"""Bits flipped at many places of a large store, and files cut off at every byte: right, or an error; never wrong.

All that can be asked is asked: the live state, listed and by name, every state that is kept in some way, their diffs,
histories, the log and the checkpoints. What `recover` makes of it is right but where its report says it is not.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from packed_history import deltas
from stress import first, stressed, stride

from stateview import BackendError, Damaged, HistoryPruned, RefNotFound, StateException, StateManager

PLACES = 15  # of a part
PARTS = 8 if stride(0) else 4
SHARES = 7  # of the cuts of a small database: no divisor of the bytes between two cuts, so that each has many kinds
STEP = stride(8)  # bytes between two cuts
KEYS = [f"task:{number:03d}" for number in range(0, 120, 5)] + ["large", "other:3", "missing"]
REFS = ("live", "one", "cp40", "cp80", "live~5", "60", "100")


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No other process has the database open, for whose look at it `recover` would wait."""
    monkeypatch.setattr("stateview.backends.sqlite.backend.TRUST_SECONDS", 0.0)


def fill(url: str, how: str) -> None:
    chance = random.Random(5)
    more = {"more": "".join(f"{number}" for number in range(400))} if how == "packed" else {}
    with StateManager(url, "ns") as state:
        with state.transaction() as many:
            for number in range(120):
                many.save(f"task:{number:03d}", {"n": number, "text": "x" * chance.randrange(20, 300)} | more)
        state.checkpoint("one")
        for number in range(120):
            key = f"task:{chance.randrange(120):03d}"
            if number % 9 == 0:
                state.delete(key)
            else:
                value = {"n": -number, "text": "y" * chance.randrange(20, 400)} | more
                state.save(key, value, reason=f"step {number}")
            if number in (40, 80):
                state.checkpoint(f"cp{number}", note="noted")
        state.save("large", "z" * 9000)
        with state.transaction() as many:
            for number in range(20):
                many.save(f"other:{number}", number)
        if how == "packed":
            state.compact(0)
        if how == "pruned":  # much of what is kept of the past is what only checkpoints see
            state.prune((), keep=60, history=True)


def questions() -> dict[str, Callable[[StateManager], Any]]:
    """What can be asked, by name."""
    out: dict[str, Callable[[StateManager], Any]] = {
        "keys": lambda state: state.list_keys(),
        "rows": lambda state: [(row.key, row.size, row.start, row.revision) for row in state.rows()],
        "count": lambda state: (state.count(), state.count("task:", "task;")),
        "loads": lambda state: [state.load(key, "absent") for key in KEYS],
        "log": lambda state: state.log(1000),
        "checkpoints": lambda state: state.checkpoints(all=True),
    }
    for ref in REFS:
        out[f"at {ref}"] = lambda state, ref=ref: list(state.at(ref).entries())  # type: ignore[misc]
        out[f"diff {ref}"] = lambda state, ref=ref: [  # type: ignore[misc]
            (one.key, one.kind, one.before, one.after) for one in state.diff(ref)
        ]
        out[f"loads {ref}"] = lambda state, ref=ref: [  # type: ignore[misc]
            view.load(key, "absent") for view in [state.at(ref)] for key in KEYS
        ]
    for key in KEYS[::6]:
        out[f"history {key}"] = lambda state, key=key: state.history(key)  # type: ignore[misc]
    return out


QUESTIONS = questions()


def answers(url: str, allowed: tuple[type[StateException], ...] = (Damaged,)) -> dict[str, Any]:
    """The answer to every question; None where it is an error that may be."""
    out = {}
    with StateManager(url, "ns") as state:
        for name, ask in QUESTIONS.items():
            try:
                out[name] = ask(state)
            except allowed:
                out[name] = None
    return out


class Store:
    """A store whose files can be damaged, and put back."""

    def __init__(self, kind: str, how: str, folder: Path) -> None:
        self.kind = kind
        self.pruned, self.packed = how == "pruned", how == "packed"
        self.url = f"{kind}:{folder}"
        fill(self.url, how)
        assert not self.packed or deltas(self.url)
        self.folder = folder / "ns"
        self.right = answers(self.url, (HistoryPruned,) if self.pruned else ())
        self.files = {
            path: (path.read_bytes(), path.stat().st_mtime_ns) for path in self.folder.rglob("*.*") if path.is_file()
        }

    def damage(self, path: Path, data: bytes) -> None:
        for other in list(self.folder.rglob("*")):
            if other.is_file() and other.name != "lock" and other not in self.files:
                other.unlink()
        for other, (content, mtime) in self.files.items():
            other.write_bytes(data if other == path else content)
            os.utime(other, ns=(mtime, mtime))

    def places(self, chance: random.Random) -> Iterator[tuple[Path, int]]:
        """Places for flips, spread over the files by their size."""
        paths = sorted(path for path in self.files if not (self.packed and path.parent.name == "checkpoints"))
        sizes = [len(self.files[path][0]) for path in paths]
        while True:
            (path,) = chance.choices(paths, sizes)
            yield path, chance.randrange(len(self.files[path][0]))

    def check(self, what: object, allowed: tuple[type[StateException], ...] = (Damaged,)) -> int:
        """Every answer is right, or an error; returns how many are errors."""
        found = answers(self.url, (*allowed, HistoryPruned) if self.pruned else allowed)
        wrong = {name: answer for name, answer in found.items() if answer not in (None, self.right[name])}
        assert not wrong, (what, list(wrong))
        return sum(answer is None for answer in found.values())

    def check_recovery(self, what: object) -> None:
        """What is not right after `recover` is named in its report; `doctor` finds nothing more."""
        with StateManager(self.url, "ns") as state:
            report = state.recover()
            lost = " ".join(f"{one.subject} {one.found} {one.done}" for one in report.problems if not one.mended)
            all_lost = any(words in lost for words in ("everything", "keys are not known", "state.json"))
            for ref in ("live", "one", "cp40", "cp80"):
                right = {entry.key: entry.value for entry in self.right[f"at {ref}"]}
                try:
                    found = {entry.key: entry.value for entry in state.at(ref).entries()}
                except RefNotFound:
                    assert repr(ref) in lost or "everything" in lost or "checkpoints, whose" in lost, (
                        what,
                        ref,
                        report,
                    )
                    continue
                for key in right.keys() | found.keys():
                    if found.get(key) != right.get(key):
                        assert all_lost or repr(key) in lost, (what, key)
            assert [one for one in state.doctor().findings if one.severity == "error"] == [], what
            assert state.recover().problems == (), what
            assert state.save("after", 1) == state.revision


@pytest.fixture(
    scope="module", params=[f"{kind}{how}" for how in ("", " pruned", " packed") for kind in ("json", "sqlite")]
)
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Store:
    kind, _, how = request.param.partition(" ")
    return Store(kind, how, tmp_path_factory.mktemp("damage"))


@pytest.mark.parametrize("part", first(range(PARTS)))
def test_a_flipped_bit_is_never_a_wrong_answer(store: Store, part: int) -> None:
    chance = random.Random(f"{store.kind} {part}")
    noticed = 0
    for number, (path, place) in zip(range(PLACES), store.places(chance), strict=False):
        data = bytearray(store.files[path][0])
        data[place] ^= 1 << chance.randrange(8)
        store.damage(path, bytes(data))
        noticed += store.check((path.name, place)) > 0
        if number % 10 == 0:
            store.damage(path, bytes(data))
            store.check_recovery((path.name, place))
    assert noticed > 2


def test_a_store_is_larger_than_what_is_checked_whole_when_it_is_opened(store: Store) -> None:
    from stateview.backends.sqlite.connections.database import SMALL_FILE_BYTES

    assert store.kind == "json" or len(store.files[store.folder / "state.db"][0]) > 1.5 * SMALL_FILE_BYTES


@pytest.mark.parametrize("every", [9, *stressed(stride(4))])
def test_a_file_cut_off_anywhere_is_never_a_wrong_answer(store: Store, every: int) -> None:
    chance = random.Random(3)
    for path, (data, _) in store.files.items():
        cuts = [0, len(data) - 1, 1, 4095, 100, 4096, len(data) - 4096, *chance.sample(range(len(data)), 20)]
        for cut in cuts[::every]:
            store.damage(path, data[:cut])
            # A commit whose line is cut off at the end is one that was never acknowledged, and so is its checkpoint
            allowed = (Damaged, RefNotFound) if path.name == "history.jsonl" else (Damaged,)
            store.check((path.name, cut), allowed)
            store.damage(path, data[:cut])
            store.check_recovery((path.name, cut))


@pytest.mark.parametrize("part", first(range(SHARES)))
def test_a_small_database_cut_off_at_every_byte_is_an_error(tmp_path: Path, part: int) -> None:
    """Every byte of the pages' starts and ends, and between them every eighth, or all on request."""
    url = f"sqlite:{tmp_path}"
    with StateManager(url, "ns") as state:
        state.save("a", 1)
        state.checkpoint("one")
        state.save("a", 2)
    path = tmp_path / "ns" / "state.db"
    data = path.read_bytes()
    near = {page + step for page in range(0, len(data), 4096) for step in range(-16, 16)}
    for cut in range(len(data) - 1, -1, -1):
        if (cut in near or cut % STEP == 0) and cut % SHARES == part:
            os.truncate(path, cut)
            with StateManager(url, "ns") as state, pytest.raises((Damaged, BackendError), match=r"state\.db"):
                state.load("a")
