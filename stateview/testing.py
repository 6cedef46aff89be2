"""BackendContract: the test suite that every backend must pass. It needs pytest.

A subclass gives `store` (a fixture: where an empty store is), `open`, and three ways past the backend to what is
stored: `stored`, `damage` and `size`. `tests/backends/` has one for each backend: `test_contract.py` for those of this
package, and `test_sample_backend.py` for a backend of another package.

The suite runs in one process, so a store in its memory passes too. That a commit survives `kill -9`, and that writers
in several processes lose no update, is for a backend's own tests.
"""

# ruff: noqa: D102 - a test's name says what must hold

from __future__ import annotations

import random
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeVar, cast

import pytest

from .backends import open_backend
from .backends.key_ranges import prefix_end
from .backends.protocol import (
    SUMMARY_BYTES,
    Backend,
    CheckpointRecord,
    CheckpointWrite,
    CommitRequest,
    FindsCheckpoints,
    Head,
    KeySummary,
    StateAt,
    StoredVersion,
    Version,
    Write,
)
from .errors import Conflict, Damaged, HistoryPruned, ReadOnly, Rewound
from .maintenance.recovery import recover

T = TypeVar("T")
Open = Callable[..., Backend]

SECOND = 1_000_000
BRIEF = 50_000  # microseconds: a time to live that is shorter than a test
KEYS = [
    "\x01", "\x01\x01", " ", "*", "*?[]:", "0", ":", "?", "A", "[a-z]", "\\", "a", "a\x01", "a b", "a*", "a/b", "a:b",
    "aa", "b" * 1024, "foo", "foo\x01", "foobar", "fop", "k\n", "k\r\n", "naïve", "{a}", "~", "\x7f", "é", "日本",
    "\ud7ff", "\ue000", "\uffff", "😀", "\U0010ffff", "\U0010ffff" * 256,
]  # fmt: skip
VALUES = [
    b"null", b"true", b"0", b"-1", b"1.0", b"1e+300", b"123456789012345678901234567890", b'""', b'"\\u0000"',
    '"é日😀"'.encode(), b"[]", b"{}", b'{"b":[1,{"a":null}],"a":"x y"}', b'" V D 0 "',
]  # fmt: skip


def save(backend: Backend, key: str, value: bytes, ttl: int = 0) -> Head:
    """Commit one value."""
    return backend.commit(CommitRequest({key: Write(value, ttl)}))


def delete(backend: Backend, key: str) -> Head:
    """Commit one delete."""
    return backend.commit(CommitRequest({key: Write(None)}))


def mark(backend: Backend, name: str, **fields: Any) -> Head:
    """Commit one checkpoint."""
    return backend.commit(CommitRequest(marks=(CheckpointWrite(name, **fields),)))


def pages(backend: Backend, prefix: str = "", at: StateAt | None = None, limit: int = 7) -> list[Version]:
    """Scan all pages of a state."""
    found: list[Version] = []
    while True:
        page = backend.scan(prefix, found[-1].key if found else "", limit, at)
        found += page
        if len(page) < limit:
            return found


def retold(act: Callable[[], T]) -> T:
    """Run an act of a backend that may raise `Rewound` once, since another has removed what it knew."""
    try:
        return act()
    except Rewound:
        return act()


def state(backend: Backend, at: StateAt | None = None) -> dict[str, bytes | None]:
    """Return all values of a state."""
    return {version.key: version.value for version in pages(backend, at=at)}


def page_of(
    keys: list[str], prefix: str = "", after: str = "", before: str = "", limit: int = 1000, skip: int = 0,
    backwards: bool = False,
) -> list[str]:  # fmt: skip
    """Compute the page that `list_keys` must return if these keys are visible."""
    found = [key for key in sorted(keys) if key.startswith(prefix) and key > after and (not before or key < before)]
    if backwards:
        return found[::-1][skip : skip + limit][::-1]
    return found[skip : skip + limit]


def check_lists(backend: Backend, keys: list[str], at: StateAt | None, chance: random.Random, times: int = 100) -> None:
    """Check pages and counts of a state that has these visible keys, with bounds of all kinds."""
    prefixes = ["", "absent", "\x02", "a\0", "\ud800", "a\udfff", *{key[:n] for key in KEYS for n in (1, 2, 256)}]
    bounds = [*KEYS, "aa\x01", "a\0", "a\0b", "k\ud800", "\udbff", "zz", "\U0010ffff" * 257]
    assert keys_of(backend.list_keys(at=at)) == keys_of(backend.list_keys(at=at, backwards=True)) == sorted(keys)
    assert backend.count(at=at) == len(keys)
    for _ in range(times):
        prefix = chance.choice(prefixes) if chance.random() < 0.4 else ""
        after, before = (chance.choice(bounds) if chance.random() < 0.5 else "" for _ in range(2))
        limit, skip, backwards = (
            chance.choice([0, 1, 2, 5, 1000]),
            chance.choice([0, 0, 1, 3, 99]),
            chance.random() < 0.5,
        )
        expected = page_of(keys, prefix, after, before, limit, skip, backwards)
        given = (prefix, after, before, limit, at, skip, backwards)
        assert keys_of(backend.list_keys(*given)) == expected, given
        between = [key for key in keys if after <= key and (not before or key < before)]
        assert backend.count(after, before, at) == len(between), (after, before, at)
        counted = backend.count(prefix, prefix_end(prefix), at)
        assert counted == len([key for key in keys if key.startswith(prefix)]), (prefix, at)


def keys_of(rows: list[KeySummary]) -> list[str]:
    """Return the keys of rows."""
    return [row.key for row in rows]


def _metadata(row: KeySummary | Version) -> tuple[int, int, int]:
    return row.revision, row.time, row.expires


def sleep_until(backend: Backend, moment: int) -> None:
    """Sleep until the backend's clock is past a moment."""
    while backend.now() <= moment:
        time.sleep(0.005)


def dumped(backend: Backend, limit: int = 7, keys: list[str] | None = None) -> list[StoredVersion]:
    """Read all pages of versions."""
    found: list[StoredVersion] = []
    while page := backend.versions_page((found[-1].key, found[-1].revision) if found else ("", 0), limit, keys):
        assert len(page) <= limit
        found += page
    return found


class BackendContract(ABC):
    """The contract of a backend. Subclass it, and provide `store`, `stored`, `damage` and `size`."""

    @pytest.fixture
    @abstractmethod
    def store(self) -> str:
        """Provide the URL of an empty store."""

    def open(self, store: str, namespace: str, **options: Any) -> Backend:
        """Open a new instance of the backend. Override this to open it in another way."""
        return open_backend(store, namespace, **options)

    @abstractmethod
    def stored(self, store: str, namespace: str, key: str) -> bytes | None:
        """Return the encoded live value of a key from the storage, expired or not; None if there is none."""

    @abstractmethod
    def damage(self, store: str, namespace: str, key: str) -> None:
        """Change the stored live entry of a key without the backend, so that it is not what was written."""

    @abstractmethod
    def size(self, store: str, namespace: str) -> int:
        """Return the bytes that the namespace takes in the storage; 0 if nothing was made."""

    @pytest.fixture
    def opened(self, store: str) -> Iterator[Open]:
        """Open backends, and close them after the test."""
        backends: list[Backend] = []

        def open_one(namespace: str = "main", **options: Any) -> Backend:
            backends.append(self.open(store, namespace, **options))
            return backends[-1]

        yield open_one
        for backend in backends:
            backend.close()

    @pytest.fixture
    def backend(self, opened: Open) -> Backend:
        """Open the namespace `main`, which was never written."""
        return opened()

    # --- a new namespace ---------------------------------------------------------------------------------------

    def test_a_new_namespace_is_empty(self, backend: Backend) -> None:
        nothing = StateAt(0, backend.now())
        assert backend.head() == Head()
        assert backend.get("a") is None
        assert backend.read(["a"]) == backend.read(["a"], nothing) == {}
        assert backend.scan() == backend.scan(at=nothing) == []
        assert (
            backend.list_keys()
            == backend.list_keys(at=nothing)
            == backend.list_keys("p", "a", "z", 3, None, 2, True)
            == []
        )
        assert backend.count() == backend.count("a", "z") == backend.count(at=nothing) == 0
        assert not backend.changed_keys(nothing, nothing)
        assert not backend.marks()
        assert (len(backend.versions("a")), len(backend.commits()), backend.namespaces()) == (0, 0, [])
        assert backend.compact(10) == 0
        assert backend.wait(0, 0) == 0

    def test_reading_makes_nothing(self, store: str, backend: Backend) -> None:
        self.test_a_new_namespace_is_empty(backend)
        assert self.size(store, "main") == 0

    def test_a_revision_that_never_was_is_refused(self, backend: Backend) -> None:
        for at in (StateAt(1, backend.now()), StateAt(5, 0)):
            with pytest.raises(HistoryPruned):
                backend.read(["a"], at)
            with pytest.raises(HistoryPruned):
                backend.scan(at=at)
            self.check_not_listed(backend, at)
            with pytest.raises(HistoryPruned):
                backend.changed_keys(StateAt(0, 0), at)
            with pytest.raises(HistoryPruned):
                mark(backend, "a", revision=at.revision)
            save(backend, "k", b"1")
        assert backend.marks() == []

    # --- commit ------------------------------------------------------------------------------------------------

    def test_each_commit_is_one_revision_and_later(self, backend: Backend, opened: Open) -> None:
        other, last = opened(), Head()
        for number in range(1, 21):
            before = backend.now()
            head = save((backend, other)[number % 2], f"k{number % 5}", b"%d" % number)
            assert (head.revision, head.count, head.floor) == (number, min(number, 5), 0)
            assert last.time < head.time
            assert before - SECOND < head.time < backend.now() + SECOND
            assert head.lineage
            assert head.lineage == (last.lineage or head.lineage)
            assert head == backend.head() == other.head()
            last = head

    def test_one_commit_is_one_revision_and_time_for_all_its_keys(self, backend: Backend) -> None:
        save(backend, "gone", b"0")
        head = backend.commit(CommitRequest({"b": Write(b"2"), "gone": Write(None), "a": Write(b"1")}))
        assert [(v.key, v.value, v.revision, v.time) for v in backend.scan()] == [
            ("a", b"1", 2, head.time),
            ("b", b"2", 2, head.time),
        ]
        assert (head.count, head.revision) == (2, 2)
        assert backend.versions("gone")[0] == Version("gone", None, 2, head.time)

    def test_values_come_back_byte_for_byte(self, store: str, backend: Backend, opened: Open) -> None:
        values = {f"k{number}": value for number, value in enumerate(VALUES)}
        backend.commit(CommitRequest({key: Write(value) for key, value in values.items()}))
        point = StateAt(1, backend.now())
        save(backend, "later", b"1")
        for reader in (backend, opened()):
            assert {key: version.value for key, version in reader.read(values).items()} == values
            assert {key: version.value for key, version in reader.read(values, point).items()} == values
            assert {key: getattr(reader.get(key), "value", None) for key in values} == values
            assert {key: reader.versions(key)[0].value for key in values} == values
        assert {key: self.stored(store, "main", key) for key in values} == values

    def test_large_values_and_many_keys(self, backend: Backend, opened: Open) -> None:
        large = b'"' + b"x" * 3_000_000 + b'"'
        writes = {f"k{number:04}": b"%d" % number for number in range(2500)}
        backend.commit(CommitRequest({"large": Write(large), **{key: Write(value) for key, value in writes.items()}}))
        found = opened()
        assert [version.key for version in pages(found, limit=1000)] == [*writes, "large"]
        assert found.read(["large"])["large"].value == large
        at = StateAt(1, found.now())
        delete(backend, "k0000")
        assert state(found, at) == {**writes, "large": large}
        assert len(found.read([*writes], at)) == 2500
        assert found.changed_keys(StateAt(0, 0), StateAt(1, 0)) == [*writes, "large"]
        assert found.head().count == 2500

    def test_expected_revisions(self, backend: Backend) -> None:
        def attempt(expected: dict[str, int]) -> Head:
            return backend.commit(CommitRequest({"k": Write(b"9"), "other": Write(b"9")}, expected))

        with pytest.raises(Conflict):
            attempt({"k": 1})
        assert attempt({"k": 0}).revision == 1
        for wrong in ({"k": 0}, {"k": 2}, {"k": 1, "other": 0}, {"absent": 1}):
            with pytest.raises(Conflict):
                attempt(wrong)
        assert attempt({"k": 1, "other": 1, "absent": 0}).revision == 2
        delete(backend, "k")
        with pytest.raises(Conflict):
            attempt({"k": 2})
        assert attempt({"k": 0}).revision == 4

    def test_expected_base(self, backend: Backend) -> None:
        with pytest.raises(Conflict):
            backend.commit(CommitRequest({"k": Write(b"1")}, base=1))
        assert backend.commit(CommitRequest({"k": Write(b"1")}, base=0)).revision == 1
        for base in (0, 2):
            with pytest.raises(Conflict):
                backend.commit(CommitRequest({"k": Write(b"2")}, base=base))
        assert backend.commit(CommitRequest({"k": Write(b"2")}, base=1)).revision == 2

    def test_the_times_of_commits_rise(self, backend: Backend) -> None:
        """A state is found by its time in O(log n) reads, so no commit is earlier than the one before it."""
        save(backend, "a", b"1")
        ahead = backend.now() + 3_600_000_000
        backend.commit(CommitRequest({"b": Write(b"2")}, time=ahead))
        save(backend, "c", b"3")
        assert save(backend, "d", b"4").time > ahead
        times = [commit.time for commit in backend.commits()]
        assert times == sorted(set(times), reverse=True)

    def test_a_refused_commit_leaves_nothing(self, backend: Backend, opened: Open) -> None:
        save(backend, "k", b"1")
        mark(backend, "taken")
        before = backend.head(), state(backend), backend.marks(), backend.commits(), backend.versions("k")
        writes = {"k": Write(b"2"), "new": Write(b"2")}
        marks = (CheckpointWrite("a"), CheckpointWrite("taken"))
        for refused in (
            CommitRequest(writes, {"k": 7}, marks=marks),
            CommitRequest(writes, base=7, marks=marks),
            CommitRequest(writes, marks=(*marks, CheckpointWrite("taken", fresh=True)), unmarks=(("other", 1),)),
        ):
            with pytest.raises(Conflict):
                backend.commit(refused)
        with pytest.raises(HistoryPruned):
            backend.commit(CommitRequest(writes, marks=(*marks, CheckpointWrite("b", revision=7))))
        for reader in (backend, opened()):
            assert before == (reader.head(), state(reader), reader.marks(), reader.commits(), reader.versions("k"))

    def test_a_refused_first_commit_makes_no_namespace(self, backend: Backend) -> None:
        for refused in (CommitRequest({"k": Write(b"1")}, base=3), CommitRequest({"k": Write(b"1")}, {"k": 3})):
            with pytest.raises(Conflict):
                backend.commit(refused)
        assert backend.head() == Head()
        assert backend.namespaces() == []

    def test_a_delete_of_nothing_is_a_revision_too(self, backend: Backend, opened: Open) -> None:
        other = opened()
        save(backend, "k", b"1")
        assert other.head().revision == 1
        assert delete(backend, "absent").revision == 2
        assert other.head().revision == 2
        assert save(other, "k", b"3").revision == 3
        assert [commit.revision for commit in opened().commits()] == [3, 2, 1]
        assert state(backend, StateAt(2, 0)) == {"k": b"1"}

    def test_times_that_are_given_are_kept(self, backend: Backend, opened: Open) -> None:
        backend.commit(
            CommitRequest({"a": Write(b"1", 0, 1000), "b": Write(b"1")}, time=5000, marks=(CheckpointWrite("m"),))
        )
        for reader in (backend, opened()):
            found = reader.read(["a", "b"])
            assert (found["a"].time, found["b"].time) == (1000, 5000)
            assert [commit.time.timestamp() for commit in reader.commits()] == [0.005]
            assert reader.marks() == [CheckpointRecord("m", 0, 5000)]
        assert save(backend, "a", b"2").time > 5000

    def test_durations_are_measured_by_the_clock(self, backend: Backend, opened: Open) -> None:
        ahead = backend.now() + 1000 * SECOND
        backend.commit(CommitRequest({"a": Write(b"1")}, time=ahead))
        assert save(backend, "lease", b"1", 100 * SECOND).time > ahead
        backend.commit(CommitRequest(marks=(CheckpointWrite("m"),)))
        assert save(backend, "other", b"1").time > ahead + 1
        for reader in (backend, opened()):
            assert reader.read(["lease"])["lease"].expires <= reader.now() + 100 * SECOND
            assert reader.marks()[0].time <= reader.now()
        backend.commit(CommitRequest({"lease": Write(b"2")}, {"lease": 2}))

    def test_commits_tell_what_was_said(self, backend: Backend, opened: Open) -> None:
        save(backend, "a", b"1")
        reason = 'because\n\x1b[31m "é😀"'
        head = backend.commit(
            CommitRequest({"a": Write(b"2"), "b": Write(None)}, reason=reason, author="ann", undo=(1, 2, 3))
        )
        for reader in (backend, opened()):
            told = reader.commits(1)[0]
            assert (told.revision, told.reason, told.author, told.keys) == (2, reason, "ann", 2)
            assert (told.position, told.forward, told.behind) == (1, 2, 3)
            assert round(told.time.timestamp() * SECOND) == head.time

    def test_threads_lose_nothing(self, backend: Backend) -> None:
        def work(name: str) -> None:
            for _ in range(25):
                while True:
                    found = backend.get("k")
                    value, revision = (int(found.value or b""), found.revision) if found else (0, 0)
                    writes = {"k": Write(b"%d" % (value + 1)), name: Write(b"%d" % value)}
                    try:
                        backend.commit(CommitRequest(writes, {"k": revision}))
                        break
                    except Conflict:
                        time.sleep(random.uniform(0, 0.005))

        threads = [threading.Thread(target=work, args=(f"t{number}",)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert state(backend)["k"] == b"100"
        assert backend.head().revision == 100

    # --- checkpoints -------------------------------------------------------------------------------------------

    def test_a_mark_names_the_revision_before_the_writes_of_its_commit(self, backend: Backend, opened: Open) -> None:
        head = mark(backend, "start", note="first of all")
        assert (head.revision, head.count) == (0, 0)
        save(backend, "k", b"1")
        backend.commit(CommitRequest({"k": Write(b"2")}, marks=(CheckpointWrite("one"),)))
        head = mark(backend, "two")
        assert head == backend.head() == opened().head()
        assert head.revision == 2
        for reader in (backend, opened()):
            marks = reader.marks()
            assert [(m.name, m.revision, m.note) for m in marks] == [
                ("start", 0, "first of all"), ("one", 1, ""), ("two", 2, "")
            ]  # fmt: skip
            assert sorted(m.time for m in marks) == [m.time for m in marks]
            assert [state(reader, StateAt(m.revision, m.time)) for m in marks] == [{}, {"k": b"1"}, {"k": b"2"}]

    def test_a_mark_names_the_revision_after_the_writes_of_its_commit(self, backend: Backend, opened: Open) -> None:
        marks = (CheckpointWrite("made", "n", after=True, fresh=True), CheckpointWrite("before"))
        head = backend.commit(CommitRequest({"k": Write(b"1"), "t": Write(b"0", 3_600_000_000)}, marks=marks))
        with pytest.raises(Conflict):
            backend.commit(CommitRequest({"k": Write(b"9")}, marks=(CheckpointWrite("made", after=True, fresh=True),)))
        backend.commit(CommitRequest({"k": Write(b"2"), "t": Write(None)}, marks=(CheckpointWrite("two", after=True),)))
        mark(backend, "same", after=True)
        save(backend, "k", b"3")
        for reader in (backend, opened()):
            found = {m.name: (m.revision, m.note) for m in reader.marks()}
            assert found == {"made": (head.revision, "n"), "before": (0, ""), "two": (2, ""), "same": (2, "")}
            points = {m.name: m.point for m in reader.marks()}
            assert state(reader, points["made"]) == {"k": b"1", "t": b"0"}
            assert state(reader, points["two"]) == state(reader, points["same"]) == {"k": b"2"}
        backend.compact(backend.head().revision)
        assert state(opened(), points["made"]) == {"k": b"1", "t": b"0"}

    def test_a_mark_of_a_past_revision_and_time(self, backend: Backend) -> None:
        for number in range(3):
            save(backend, "k", b"%d" % number)
        mark(backend, "past", revision=1, time=1234, note="n")
        mark(backend, "nothing", revision=0)
        assert backend.marks()[0] == CheckpointRecord("past", 1, 1234, "n")
        assert backend.marks()[1].revision == 0
        assert backend.head().revision == 3

    def test_a_name_moves_and_what_it_named_stays(self, backend: Backend, opened: Open) -> None:
        for number in range(1, 4):
            save(backend, "k", b"%d" % number)
            mark(backend, "m", note=str(number))
            mark(backend, f"other{number}")
        mark(backend, "m", revision=2, note="again")
        for reader in (backend, opened()):
            marks = [(m.name, m.revision, m.note) for m in reader.marks() if m.name == "m"]
            assert marks == [("m", 1, "1"), ("m", 3, "3"), ("m", 2, "again")]
            assert [m.name for m in reader.marks()] == ["m", "other1", "other2", "m", "other3", "m"]

    def test_the_checkpoints_of_a_name_are_found_alone(self, backend: Backend, opened: Open) -> None:
        if not hasattr(backend, "marks_of"):
            pytest.skip("the backend reads all checkpoints")
        for name in ("m", "m.2", "other", "M"):
            save(backend, "k", name.encode())
            backend.commit(CommitRequest(marks=(CheckpointWrite(name, note=name, kind="auto"),)))
        mark(backend, "m", revision=1, note="again")
        mark(backend, "m", note="moved")
        for reader in (backend, opened()):
            find = cast("FindsCheckpoints", reader).marks_of
            for name in ("m", "m.2", "M", "none"):
                assert find(name) == [m for m in reader.marks() if m.name == name]
            assert [(m.revision, m.note) for m in find("m")] == [(1, "again"), (4, "moved")]

    def test_a_fresh_mark_refuses_a_name_that_is_there(self, backend: Backend) -> None:
        save(backend, "k", b"1")
        mark(backend, "m", fresh=True)
        save(backend, "k", b"2")
        with pytest.raises(Conflict):
            mark(backend, "m", fresh=True)
        mark(backend, "m")
        backend.commit(CommitRequest(unmarks=(("m", 2),)))
        with pytest.raises(Conflict):
            mark(backend, "m", fresh=True)
        backend.commit(CommitRequest(unmarks=(("m", 1),)))
        mark(backend, "m", fresh=True)
        assert [(m.name, m.revision) for m in backend.marks()] == [("m", 2)]

    def test_the_kind_of_a_checkpoint_is_stored(self, backend: Backend, opened: Open) -> None:
        backend.commit(
            CommitRequest({"k": Write(b"1")}, marks=(CheckpointWrite("a"), CheckpointWrite("b", kind="safety")))
        )
        assert [m.kind for m in opened().marks()] == ["", "safety"]
        backend.commit(
            CommitRequest(marks=(CheckpointWrite("b", revision=0), CheckpointWrite("a", revision=0, kind="auto")))
        )
        for reader in (backend, opened()):  # the one that was made again has the kind of the second time
            assert {(m.name, m.revision): m.kind for m in reader.marks()} == {("b", 0): "", ("a", 0): "auto"}
        backend.commit(CommitRequest(unmarks=(("a", 0),)))
        backend.commit(CommitRequest(marks=(CheckpointWrite("a", revision=0),)))
        assert [m.kind for m in opened().marks()] == ["", ""]

    def test_unmark_and_rename(self, backend: Backend, opened: Open) -> None:
        save(backend, "k", b"1")
        mark(backend, "a")
        save(backend, "k", b"2")
        mark(backend, "a")
        backend.commit(CommitRequest(unmarks=(("a", 7), ("never", 1))))
        backend.commit(CommitRequest(unmarks=(("a", 2),), marks=(CheckpointWrite("b", "n", 2, 77, fresh=True),)))
        for reader in (backend, opened()):
            assert [(m.name, m.revision) for m in reader.marks()] == [("a", 1), ("b", 2)]
            assert reader.marks()[1] == CheckpointRecord("b", 2, 77, "n")
        with pytest.raises(Conflict):  # what is there before the commit counts
            backend.commit(CommitRequest(unmarks=(("b", 2),), marks=(CheckpointWrite("b", fresh=True),)))
        backend.commit(CommitRequest(unmarks=(("a", 1), ("b", 2))))
        assert backend.marks() == opened().marks() == []

    # --- reading -----------------------------------------------------------------------------------------------

    def test_every_revision_reads_as_it_was(self, backend: Backend, opened: Open) -> None:
        chance = random.Random(7)
        states: list[dict[str, bytes | None]] = [{}]
        keys = ["a", "aa", "ab", "b", "b\x01", "é"]
        for number in range(40):
            chosen = chance.sample(keys, chance.randint(1, 3))
            writes = {key: Write(b"%d" % number if chance.random() < 0.6 else None) for key in chosen}
            backend.commit(CommitRequest(writes))
            after = states[-1] | {key: write.value for key, write in writes.items()}
            states.append({key: value for key, value in after.items() if value is not None})
        for reader in (backend, opened()):
            for revision, content in enumerate(states):
                at = StateAt(revision, reader.now())
                assert state(reader, at) == content
                assert {k: v.value for k, v in reader.read(keys, at).items()} == content
                assert all(version.revision <= revision for version in reader.read(keys, at).values())
            assert state(reader) == states[-1]
            for key in keys:
                versions = reader.versions(key)
                assert [v.revision for v in versions] == sorted({v.revision for v in versions}, reverse=True)
                assert all(v.value == states[v.revision].get(key) for v in versions)

    @pytest.mark.parametrize("past", [False, True])
    def test_scan_pages_and_prefixes(self, backend: Backend, past: bool) -> None:
        backend.commit(CommitRequest({key: Write(b"1") for key in KEYS}))
        at = None
        if past:
            at = StateAt(1, backend.now())
            backend.commit(CommitRequest({key: Write(None if number % 2 else b"2") for number, key in enumerate(KEYS)}))
            save(backend, "aaa", b"3")
        keys = sorted(KEYS)
        for limit in (1, 2, 5, len(KEYS), 1000):
            assert [version.key for version in pages(backend, at=at, limit=limit)] == keys
        prefixes = {key[:length] for key in KEYS for length in (1, 2, 3)} | {*KEYS, "absent", "foo*", "\x02"}
        for prefix in prefixes:
            expected = [key for key in keys if key.startswith(prefix)]
            assert [version.key for version in pages(backend, prefix, at, 2)] == expected
        for after in [*KEYS, "aa\x01", "zz", "\U0010ffff" * 255]:
            assert [v.key for v in backend.scan("", after, 1000, at)] == [key for key in keys if key > after]
            assert [v.key for v in backend.scan("a", after, 3, at)] == [
                key for key in keys if key > after and key.startswith("a")
            ][:3]

    def test_scan_of_the_past_over_keys_with_many_versions(self, backend: Backend) -> None:
        for number in range(30):
            value = Write(b"%d" % number)
            backend.commit(CommitRequest({"a": value, f"b{number:02}": Write(b"1"), "c": value}))
        at = StateAt(30, backend.now())
        backend.commit(CommitRequest({"a": Write(None), **{f"b{number:02}": Write(None) for number in range(30)}}))
        for limit in (1, 2, 16, 17, 100):
            assert [v.key for v in pages(backend, at=at, limit=limit)] == ["a", *(f"b{n:02}" for n in range(30)), "c"]
        assert state(backend) == {"c": b"29"}

    # --- lists -------------------------------------------------------------------------------------------------

    def check_not_listed(self, backend: Backend, at: StateAt) -> None:
        """Check that lists of a state that is not kept are refused, even if the list would be empty."""
        for given in ({}, {"limit": 0}, {"prefix": "absent", "backwards": True}, {"after": "b", "before": "a"}):
            with pytest.raises(HistoryPruned):
                backend.list_keys(at=at, **given)
        for bounds in (("", ""), ("a", ""), ("b", "a")):
            with pytest.raises(HistoryPruned):
                backend.count(*bounds, at=at)

    def test_lists_are_right_for_all_bounds(self, backend: Backend, opened: Open) -> None:
        chance = random.Random(5)
        backend.commit(CommitRequest({key: Write(b"1") for key in KEYS}))
        at = StateAt(1, backend.now())
        check_lists(backend, KEYS, None, chance)
        check_lists(backend, KEYS, at, chance, 20)
        backend.commit(CommitRequest({key: Write(None if number % 2 else b"2") for number, key in enumerate(KEYS)}))
        save(backend, "aaa", b"3")
        for reader in (backend, opened()):
            check_lists(reader, KEYS, at, chance)
            check_lists(reader, [*KEYS[::2], "aaa"], None, chance)

    def test_lists_of_every_revision(self, backend: Backend, opened: Open) -> None:
        chance = random.Random(11)
        states: list[set[str]] = [set()]
        for number in range(60):
            chosen = chance.sample(KEYS, chance.randint(1, 8))
            writes = {key: Write(b"%d" % number if chance.random() < 0.6 else None) for key in chosen}
            backend.commit(CommitRequest(writes))
            gone = {key for key, write in writes.items() if write.value is None}
            states.append((states[-1] | writes.keys()) - gone)
        backend.compact(20)
        for reader in (backend, opened()):
            for revision in range(20, 61, 4):
                check_lists(reader, [*states[revision]], StateAt(revision, reader.now()), chance, 12)
            check_lists(reader, [*states[-1]], None, chance)

    def test_a_row_describes_its_entry(self, backend: Backend, opened: Open) -> None:
        values = [*VALUES, *(b'"' + "é😀".encode() * n + b'"' for n in (26, 27, 1366)), b'"%s"' % (b"x" * 3_000_000)]
        values += [
            b'"%s"' % (b"x" * (size - 2))
            for size in (SUMMARY_BYTES - 1, SUMMARY_BYTES, SUMMARY_BYTES + 1, 8191, 8192, 8193, 70_000)
        ]
        batch = {f"k{number:02}": Write(value, 60 * SECOND * (number % 2)) for number, value in enumerate(values)}
        backend.commit(CommitRequest(batch))
        at = StateAt(1, backend.now())
        before = {version.key: version for version in backend.scan()}
        backend.commit(CommitRequest({key: Write(b"[]") for key in batch}))
        for reader in (backend, opened()):
            rows = reader.list_keys(at=at)
            assert rows == reader.list_keys("k", at=at, backwards=True, limit=len(values))
            for row, value in zip(rows, values, strict=True):
                version = before[row.key]
                assert (row.size, row.start) == (len(value), value[:SUMMARY_BYTES])
                assert (row.revision, row.time, row.expires) == (1, version.time, version.expires)
            assert [(row.size, row.start, row.revision) for row in reader.list_keys()] == [(2, b"[]", 2)] * len(values)
        backend.commit(CommitRequest({key: Write(write.value) for key, write in batch.items()}))
        assert [(row.size, row.start) for row in backend.list_keys()] == [
            (len(value), value[:SUMMARY_BYTES]) for value in values
        ]

    def test_expired_entries_are_not_listed(self, backend: Backend, opened: Open) -> None:
        writes = {f"k{number:04}": Write(b"1", BRIEF if number % 3 else 0) for number in range(1650)}
        writes |= {f"l{number:04}": Write(b"1", BRIEF) for number in range(2050)}
        writes["m"] = Write(b"1", 60 * SECOND)
        head = backend.commit(CommitRequest(writes))
        lasting = [key for key, write in writes.items() if write.ttl != BRIEF]
        past = StateAt(1, head.time + BRIEF - 1)
        sleep_until(backend, head.time + BRIEF)
        for at in (None, StateAt(1, backend.now()), past):
            keys = [*writes] if at is past else lasting
            for reader, backwards in ((backend, False), (opened(), True)):
                for skip, limit in ((0, 5), (3, 5), (500, 50), (549, 2), (551, 5), (0, 2000)):
                    expected = page_of(keys, limit=limit, skip=skip, backwards=backwards)
                    found = reader.list_keys(limit=limit, at=at, skip=skip, backwards=backwards)
                    assert keys_of(found) == expected
                assert keys_of(reader.list_keys("l", at=at, backwards=backwards, limit=2)) == page_of(
                    keys, "l", limit=2, backwards=backwards
                )
                for bounds in (("", ""), ("k0100", "k1500"), ("l", ""), ("", "l0001"), ("k1649", "m")):
                    between = [key for key in keys if bounds[0] <= key and (not bounds[1] or key < bounds[1])]
                    assert reader.count(*bounds, at=at) == len(between)
        save(backend, "a", b"1")  # takes some of it away
        assert backend.count(at=past) == len(writes)
        assert keys_of(backend.list_keys(at=past, limit=9999)) == [*writes]
        assert keys_of(backend.list_keys(limit=9999)) == ["a", *lasting]
        assert backend.count("a", "z") == len(lasting) + 1

    def test_rows_of_huge_values_follow_every_change(self, backend: Backend, opened: Open) -> None:
        chance, other = random.Random(3), opened()
        for number in range(30):
            act, key = chance.random(), chance.choice("abc")
            if act < 0.4:
                save(other, key, b'"%02d%s"' % (number % 4, b"x" * 1_000_000), chance.choice([0, 0, 60 * SECOND]))
            elif act < 0.6:
                delete(other, key)
            elif act < 0.75:
                other.compact(other.head().revision)
            elif act < 0.8:
                other.drop()
                retold(backend.head)
            live = other.head()
            for at in (
                None,
                StateAt(live.revision, other.now()),
                StateAt(max(live.floor, live.revision - 1), other.now()),
            ):
                listed = pages(other, at=at)
                told = [(v.key, len(v.value or b""), (v.value or b"")[:SUMMARY_BYTES], *_metadata(v)) for v in listed]
                for reader in (backend, other):
                    assert [(row.key, row.size, row.start, *_metadata(row)) for row in reader.list_keys(at=at)] == told
                    assert keys_of(reader.list_keys(skip=1, limit=1, at=at)) == [version.key for version in listed[1:2]]
                    assert reader.count(at=at) == len(listed)

    def test_a_huge_value_whose_history_is_forgotten_is_read_anew(self, backend: Backend, opened: Open) -> None:
        writer = opened()
        for number in range(1, 4):
            save(writer, "k", b'"%d%s"' % (number, b"x" * 1_500_000))
            for reader in (backend, writer):
                assert [(row.revision, row.start[:2]) for row in reader.list_keys()] == [
                    (2 * number - 1, b'"%d' % number)
                ]
            save(writer, "k", b'"y%s"' % (b"x" * 1_500_000))
            writer.compact(2 * number)
            for reader in (backend, writer):
                assert [(row.revision, row.start[:2]) for row in reader.list_keys()] == [(2 * number, b'"y')]

    def test_a_huge_value_that_expires_is_not_listed(self, backend: Backend) -> None:
        head = save(backend, "k", b'"%s"' % (b"x" * 1_500_000), 2 * SECOND)
        save(backend, "l", b'"%s"' % (b"x" * 1_500_000))
        assert keys_of(backend.list_keys()) == ["k", "l"]
        sleep_until(backend, head.time + 2 * SECOND)
        assert keys_of(backend.list_keys()) == keys_of(backend.list_keys(at=StateAt(2, backend.now()))) == ["l"]
        assert keys_of(backend.list_keys(at=StateAt(2, head.time))) == ["k", "l"]
        assert keys_of(backend.list_keys(at=StateAt(1, head.time))) == ["k"]

    def test_lists_of_keys_with_many_versions(self, backend: Backend) -> None:
        keys = ["a", *(f"b{number:02}" for number in range(30)), "c"]
        for number in range(30):
            value = Write(b"%d" % number)
            backend.commit(CommitRequest({"a": value, f"b{number:02}": Write(b"1"), "c": value}))
        at = StateAt(30, backend.now())
        backend.commit(CommitRequest({"a": Write(None), **{f"b{number:02}": Write(None) for number in range(30)}}))
        for limit in (1, 2, 16, 17, 100):
            for skip in (0, 1, 16, 30):
                for backwards in (False, True):
                    expected = page_of(keys, limit=limit, skip=skip, backwards=backwards)
                    assert keys_of(backend.list_keys(limit=limit, at=at, skip=skip, backwards=backwards)) == expected
        assert backend.count(at=at) == 32
        assert backend.list_keys(at=StateAt(31, at.time))[0].start == b"29"

    @pytest.mark.parametrize("past", [False, True])
    def test_a_page_is_in_order_while_others_write(self, backend: Backend, opened: Open, past: bool) -> None:
        lasting = [f"k{number:04}" for number in range(0, 3000, 3)]
        coming = [f"k{number:04}" for number in range(3000) if number % 3]
        backend.commit(CommitRequest({key: Write(b"1") for key in lasting}))
        mark(backend, "m")
        at = StateAt(1, backend.now()) if past else None
        done = threading.Event()

        def work() -> None:
            chance, writer = random.Random(1), opened()
            while not done.is_set():
                chosen = chance.sample(coming, 40)
                writer.commit(CommitRequest({key: Write(b"2" if chance.random() < 0.6 else None) for key in chosen}))

        thread = threading.Thread(target=work)
        thread.start()
        try:
            chance, until = random.Random(2), time.monotonic() + 0.5
            while time.monotonic() < until:
                limit, backwards = chance.choice([10, 300, 1500, 5000]), chance.random() < 0.5
                skip, bound = chance.choice([0, 0, 100]), chance.choice(["", *lasting])
                after, before = ("", bound) if backwards else (bound, "")
                found = keys_of(backend.list_keys("k", after, before, limit, at, skip, backwards))
                assert found == sorted(set(found))
                if found:
                    assert [key for key in found if key in set(lasting)] == [
                        key for key in lasting if found[0] <= key <= found[-1]
                    ]
                if past:
                    assert found == page_of(lasting, "k", after, before, limit, skip, backwards)
                    assert backend.count("k1", "k2", at) == 333
                elif not skip and len(found) < limit:
                    assert {*found} >= {*page_of(lasting, "k", after, before)}
        finally:
            done.set()
            thread.join()

    def test_what_is_damaged_is_listed_or_an_error(self, store: str, backend: Backend, opened: Open) -> None:
        backend.commit(CommitRequest({"k": Write(b'"value"'), "l": Write(b"1")}))
        backend.close()
        self.damage(store, "main", "k")
        for at in (None, StateAt(1, opened().now())):
            try:
                assert keys_of(opened().list_keys(at=at)) == ["k", "l"]
            except Damaged:
                pass

    def test_keys_of_all_kinds(self, store: str, backend: Backend, opened: Open) -> None:
        for number, key in enumerate(KEYS):
            save(backend, key, b"%d" % number)
        backend.commit(CommitRequest({key: Write(b"-1") for key in KEYS}, {key: n + 1 for n, key in enumerate(KEYS)}))
        for reader in (backend, opened()):
            for number, key in enumerate(KEYS):
                found = reader.get(key)
                assert found is not None
                assert (found.key, found.value) == (key, b"-1")
                assert [version.value for version in reader.versions(key)] == [b"-1", b"%d" % number]
            at = StateAt(len(KEYS), 0)
            assert {k: v.value for k, v in reader.read(KEYS, at).items()} == {k: b"%d" % n for n, k in enumerate(KEYS)}
            assert reader.changed_keys(at, StateAt(at.revision + 1, 0)) == sorted(KEYS)
        assert all(self.stored(store, "main", key) == b"-1" for key in KEYS)
        backend.commit(CommitRequest({key: Write(None) for key in KEYS}))
        assert backend.scan() == []

    def test_changed_by_touch(self, backend: Backend) -> None:
        backend.commit(CommitRequest({key: Write(b"1") for key in "abcd"}))
        save(backend, "a", b"2")
        delete(backend, "b")
        save(backend, "b", b"1")
        backend.commit(CommitRequest({"e": Write(b"1"), "a": Write(b"1")}))

        def changed(low: int, high: int) -> list[str]:
            return backend.changed_keys(StateAt(low, 0), StateAt(high, 0))

        assert changed(0, 5) == ["a", "b", "c", "d", "e"]
        assert changed(1, 5) == ["a", "b", "e"]
        assert changed(2, 3) == changed(2, 4) == ["b"]
        assert changed(4, 5) == ["a", "e"]
        assert changed(5, 5) == changed(0, 0) == []

    def test_versions_and_commits_by_page(self, backend: Backend) -> None:
        for number in range(1, 26):
            if number % 5 == 0:
                delete(backend, "k")
            else:
                save(backend, "k", b"%d" % number)
        assert [v.revision for v in backend.versions("k")] == [*range(25, 0, -1)]
        assert [c.revision for c in backend.commits()] == [*range(25, 0, -1)]
        assert [v.revision for v in backend.versions("k") if v.value is None] == [25, 20, 15, 10, 5]
        for below in (0, 1, 2, 10, 26, 99):
            expected = [revision for revision in range(25, 0, -1) if not below or revision < below][:4]
            assert [v.revision for v in backend.versions("k", 4, below)] == expected
            assert [c.revision for c in backend.commits(4, below)] == expected
        assert backend.versions("absent") == backend.versions("kk") == []

    def test_others_see_a_commit_at_once(self, backend: Backend, opened: Open) -> None:
        other = opened()
        for number in range(300):
            one, two = (backend, other) if number % 2 else (other, backend)
            assert two.get("absent") is None
            save(one, "k", b"%d" % number)
            found = two.get("k")
            assert found is not None
            assert found.value == b"%d" % number
            assert two.head().revision == found.revision
            if number % 10 == 0:
                delete(one, "k")
                assert two.get("k") is None
                mark(one, "m")
                assert two.marks() == one.marks()
                assert two.commits(1)[0].revision == two.head().revision

    # --- expiry ------------------------------------------------------------------------------------------------

    def test_an_expired_entry_is_gone_everywhere(self, backend: Backend, opened: Open) -> None:
        other = opened()
        head = backend.commit(
            CommitRequest({"k": Write(b"1", BRIEF), "stays": Write(b"1"), "long": Write(b"1", SECOND * 60)})
        )
        expires = head.time + BRIEF
        assert backend.versions("k")[0].expires == expires
        before, after = StateAt(1, expires - 1), StateAt(1, expires)
        sleep_until(backend, expires)
        for reader in (backend, other):
            assert reader.get("k") is None
            assert list(reader.read(["k", "stays"])) == ["stays"]
            assert list(state(reader)) == ["long", "stays"]
            assert reader.head().count == 2
            assert list(state(reader, before)) == ["k", "long", "stays"]
            assert list(reader.read(["k"], before)) == ["k"]
            assert list(state(reader, after)) == ["long", "stays"]
            assert reader.read(["k"], after) == {}
        with pytest.raises(Conflict):
            backend.commit(CommitRequest({"k": Write(b"2")}, {"k": 1}))
        assert backend.commit(CommitRequest({"k": Write(b"2")}, {"k": 0})).count == 3

    def test_changed_by_expiry(self, backend: Backend) -> None:
        first = backend.commit(CommitRequest({"k": Write(b"1", BRIEF), "stays": Write(b"1")}))
        expires = first.time + BRIEF
        assert backend.changed_keys(StateAt(1, expires - 1), StateAt(1, expires)) == ["k"]
        assert backend.changed_keys(StateAt(1, expires - 1), StateAt(1, expires - 1)) == []
        assert backend.changed_keys(StateAt(1, expires), StateAt(1, expires + 1)) == []
        sleep_until(backend, expires)
        save(backend, "other", b"1")
        assert "k" in backend.changed_keys(StateAt(1, expires - 1), StateAt(2, backend.now()))
        assert "k" in backend.changed_keys(StateAt(1, expires - 1), StateAt(1, expires))

    def test_a_rewrite_clears_or_renews_the_expiry(self, backend: Backend, opened: Open) -> None:
        save(backend, "cleared", b"1", BRIEF)
        save(backend, "cleared", b"2")
        save(backend, "renewed", b"1", BRIEF)
        save(backend, "renewed", b"2", 60 * SECOND)
        save(backend, "deleted", b"1", BRIEF)
        delete(backend, "deleted")
        head = save(backend, "deleted", b"2")
        sleep_until(backend, head.time + BRIEF)
        save(backend, "more", b"1")
        for reader in (backend, opened()):
            assert list(state(reader)) == ["cleared", "deleted", "more", "renewed"]
            assert reader.read(["cleared"])["cleared"].expires == 0
            assert reader.read(["renewed"])["renewed"].expires == reader.versions("renewed")[0].time + 60 * SECOND
            assert reader.head().count == 4

    def test_what_expired_is_taken_away_by_later_commits(self, store: str, backend: Backend) -> None:
        head = backend.commit(CommitRequest({f"k{number:03}": Write(b"1", BRIEF) for number in range(150)}))
        sleep_until(backend, head.time + BRIEF)
        assert self.stored(store, "main", "k000") == b"1"
        for number in range(2):
            assert save(backend, "other", b"%d" % number).count == 1
        assert [self.stored(store, "main", f"k{number:03}") for number in range(150)] == [None] * 150
        assert backend.versions("k000")[0].value is None
        assert len(state(backend, StateAt(1, head.time))) == 150
        assert len(backend.changed_keys(StateAt(1, head.time), StateAt(3, head.time))) == 151

    # --- forgetting --------------------------------------------------------------------------------------------

    def check_kept(self, backend: Backend, states: dict[int, dict[str, bytes | None]]) -> None:
        """Check that kept states read as they were, and differ as `changed_keys` says, and that others are refused."""
        floor, last = backend.head().floor, backend.head().revision
        kept = {m.revision for m in backend.marks()} | {*range(floor, last + 1)}
        for revision, content in states.items():
            at = StateAt(revision, backend.now())
            if revision in kept:
                assert state(backend, at) == content
                assert keys_of(backend.list_keys(at=at)) == sorted(content)
                assert backend.count(at=at) == len(content)
                continue
            with pytest.raises(HistoryPruned):
                backend.scan(at=at)
            with pytest.raises(HistoryPruned):
                backend.read(["a"], at)
            with pytest.raises(HistoryPruned):
                backend.list_keys(at=at)
            with pytest.raises(HistoryPruned):
                backend.count(at=at)
            with pytest.raises(HistoryPruned):
                backend.changed_keys(at, StateAt(last, 0))
        for key in {key for content in states.values() for key in content}:
            newest = next((version.value for version in backend.versions(key, 1)), None)
            assert newest == states[last].get(key), "a delete was forgotten before what it deleted"
        for low in kept:
            for high in kept:
                if low < high:
                    differ = {k for k in states[low] | states[high] if states[low].get(k) != states[high].get(k)}
                    found = backend.changed_keys(StateAt(low, 0), StateAt(high, 0))
                    assert found == sorted(set(found))
                    assert differ <= set(found)
        assert state(backend) == states[last]
        assert backend.head().count == len(states[last])
        assert [commit.revision for commit in backend.commits()] == [*range(last, floor, -1)]

    @pytest.mark.parametrize("seed", range(3))
    def test_forgetting_keeps_what_checkpoints_see(self, backend: Backend, opened: Open, seed: int) -> None:
        """A small history, marks that come, move and go, and `compact`, against a record of all states."""
        keep = (4, 10, 1)[seed]
        chance, backend = random.Random(seed), opened(history=keep)
        states: dict[int, dict[str, bytes | None]] = {0: {}}
        compacted = 0
        for number in range(1, 81):
            act = chance.random()
            marks = backend.marks()
            if act < 0.6:
                chosen = chance.sample("abcdef", 2)
                writes = {key: Write(b"%d" % number if chance.random() < 0.6 else None) for key in chosen}
                revision = backend.commit(CommitRequest(writes)).revision
                after = states[revision - 1] | {key: write.value for key, write in writes.items()}
                states[revision] = {key: value for key, value in after.items() if value is not None}
            elif act < 0.75:
                mark(backend, chance.choice("mno"))
            elif act < 0.85 and marks:
                gone = chance.choice(marks)
                backend.commit(CommitRequest(unmarks=((gone.name, gone.revision),)))
            elif act < 0.92:
                compacted = max(compacted, chance.randint(0, backend.head().revision))
                backend.compact(compacted)
                assert backend.head().floor >= compacted
            else:
                backend = opened(history=keep)
            assert backend.head().floor <= max(compacted, backend.head().revision - keep)
            self.check_kept(backend, states)
        assert backend.head().floor > 10

    def test_a_delete_is_not_forgotten_before_what_it_deleted(self, opened: Open) -> None:
        backend = opened(history=3)
        for number in range(5):
            save(backend, "k", b"%d" % number)
            mark(backend, "m")
        backend.commit(CommitRequest({"k": Write(None)}))
        for gone in backend.marks():
            backend.commit(CommitRequest(unmarks=((gone.name, gone.revision),)))
        for number in range(8):
            found = [version.value for version in backend.versions("k")]
            assert found[:1] in ([], [None])
            save(backend, "other", b"%d" % number)

    def test_a_commit_of_many_keys_is_forgotten(self, opened: Open) -> None:
        backend = opened(history=2)
        states: dict[int, dict[str, bytes | None]] = {0: {}}
        for number in range(1, 41):
            count = 450 if number in (2, 3) else 1
            backend.commit(CommitRequest({f"k{key:03}": Write(b"%d" % number) for key in range(count)}))
            states[number] = states[number - 1] | {f"k{key:03}": b"%d" % number for key in range(count)}
            if number == 2:
                mark(backend, "m")
        assert backend.head().floor > 15
        self.check_kept(backend, states)

    def test_compact_counts_the_versions_that_it_removes(self, backend: Backend, opened: Open) -> None:
        for number in range(1, 11):
            save(backend, "k", b"%d" % number)
        mark(backend, "m", revision=3)
        assert backend.compact(8) == 6  # all before 8 but the one of the checkpoint
        assert [v.revision for v in backend.versions("k")] == [10, 9, 8, 3]
        assert backend.compact(5) == 0
        assert backend.head().floor == 8
        backend.commit(CommitRequest(unmarks=(("m", 3),)))
        assert backend.compact(8) == 1
        assert backend.compact(99) == 2
        for reader in (backend, opened()):
            assert reader.head().floor == 10
            assert [v.revision for v in reader.versions("k")] == [10]
            assert reader.commits() == []
        assert save(backend, "k", b"11").revision == 11
        assert state(backend, StateAt(10, 0)) == {"k": b"10"}

    def test_what_only_a_checkpoint_keeps_can_be_renamed(self, backend: Backend) -> None:
        for number in range(1, 6):
            save(backend, "k", b"%d" % number)
        mark(backend, "a", revision=2)
        backend.compact(5)
        backend.commit(CommitRequest(unmarks=(("a", 2),), marks=(CheckpointWrite("b", revision=2, fresh=True),)))
        assert [(m.name, m.revision) for m in backend.marks()] == [("b", 2)]
        assert state(backend, StateAt(2, 0)) == {"k": b"2"}

    def test_compact_frees_space(self, store: str, backend: Backend) -> None:
        chance = random.Random(1)
        for _ in range(40):
            save(backend, "k", b'"%s"' % chance.randbytes(25_000).hex().encode())
        before = self.size(store, "main")
        backend.compact(40)
        assert 0 < self.size(store, "main") < before / 4

    def test_compact_reports_progress_and_can_be_ended(self, backend: Backend) -> None:
        for number in range(1, 11):
            save(backend, "k", b"%d" % number)
        mark(backend, "m", revision=3)

        def end(done: int, total: int) -> None:
            assert 0 <= done <= total
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            backend.compact(8, end)
        assert state(backend, StateAt(3, 0)) == {"k": b"3"}
        assert state(backend) == {"k": b"10"}
        backend.compact(8)
        assert [v.revision for v in backend.versions("k")] == [10, 9, 8, 3]

    def test_superseded_versions_are_kept_and_not_live(self, backend: Backend) -> None:
        assert backend.superseded() == []
        self.fill(backend)
        found = []
        after = ("", 0)
        while page := backend.superseded(after, 7):
            assert len(page) <= 7
            found += page
            after = (page[-1].key, page[-1].revision)
        kept = [one for one in dumped(backend) if one.until or one.value is None]
        told = [(one.key, one.revision, one.until, one.size, one.deleted) for one in found]
        assert told == [(one.key, one.revision, one.until, len(one.value or b""), one.value is None) for one in kept]
        assert all(one.space > one.size for one in found)

    def test_compact_frees_what_disk_usage_calls_spare(self, backend: Backend) -> None:
        chance = random.Random(1)
        for _ in range(40):
            save(backend, "k", b'"%s"' % chance.randbytes(25_000).hex().encode())
        mark(backend, "m", revision=20)
        before = backend.disk_usage([("m", 20)])
        assert before is not None
        past = sum(one.space for one in backend.superseded())
        backend.commit(CommitRequest(unmarks=(("m", 20),)))
        backend.compact(40)
        after = backend.disk_usage()
        assert after is not None
        assert after.total < before.total / 4
        assert abs(before.total - before.spare - past - after.total) < before.total / 4

    # --- copies ------------------------------------------------------------------------------------------------

    def fill(self, backend: Backend) -> None:
        """Commit values, deletes, an expired entry and moved checkpoints, and raise the floor."""
        backend.commit(
            CommitRequest({key: Write(VALUES[at % len(VALUES)]) for at, key in enumerate(KEYS)}, reason="all")
        )
        mark(backend, "m")
        backend.commit(CommitRequest({key: Write(None) for key in KEYS[::3]}, author="ann"))
        backend.commit(CommitRequest({key: Write(b"2", 3600 * SECOND) for key in KEYS[::2]}, undo=(1, 2, 3)))
        mark(backend, "m", note="é\n")
        mark(backend, "n", revision=2)
        save(backend, "brief", b"3", 1)
        backend.compact(3)

    def test_pages_of_versions_hold_all_kept_versions(self, backend: Backend) -> None:
        assert backend.versions_page() == []
        self.fill(backend)
        found = dumped(backend)
        assert found == dumped(backend, 1) == dumped(backend, 1000)
        assert [(one.key, one.revision) for one in found] == sorted({(one.key, one.revision) for one in found})
        for key in {*KEYS, "brief"}:
            kept = [one for one in found if one.key == key]
            versions = [Version(key, one.value, one.revision, one.time, one.expires) for one in kept]
            assert versions == backend.versions(key)[::-1]
            assert [one.until for one in kept] == [*(one.revision for one in kept[1:]), 0]
        some = ["absent", *KEYS[::5]]
        assert dumped(backend, 3, some) == [one for one in found if one.key in some]
        assert backend.versions_page(keys=[]) == []

    def test_a_copy_is_whole_or_not_there(self, backend: Backend, opened: Open) -> None:
        self.fill(backend)
        target, head = opened("copy"), backend.head()
        receiver = target.open_staging()
        assert receiver.progress() is None
        with pytest.raises(Conflict):
            opened("copy").open_staging()
        receiver.put(dumped(backend)[:20], note={"so far": 20})
        receiver.close()
        receiver = opened("copy").open_staging()
        assert receiver.progress() == {"so far": 20}
        receiver.put(dumped(backend)[20:], backend.commits(), backend.marks(), note={})
        save(backend, "later", b"1")
        delete(backend, KEYS[4])
        late = backend.changed_keys(StateAt(head.revision, 0), StateAt(backend.head().revision, 0))
        new = backend.commits(2)
        receiver.put(dumped(backend, keys=late), new, note={"caught": "up"}, forget=late)
        head = backend.head()
        staged = receiver.staged(head)
        assert (target.head(), target.versions_page(), target.namespaces()) == (Head(), [], ["main"])
        for copy in (staged, target, opened("copy")):
            if copy is target:
                assert receiver.finish(head) == ""
            assert copy.head() == head
            assert (dumped(copy), copy.commits(), copy.marks()) == (dumped(backend), backend.commits(), backend.marks())
            for point in [one.point for one in backend.marks()]:
                assert copy.scan(at=point) == backend.scan(at=point)
            assert copy.scan() == backend.scan()
        assert target.namespaces() == ["copy", "main"]
        assert save(target, "k", b"1").revision == head.revision + 1

    def test_a_copy_does_not_take_the_place_of_another(self, backend: Backend, opened: Open) -> None:
        self.fill(backend)
        target = opened("copy")
        save(target, "k", b"1")
        receiver = target.open_staging()
        receiver.put(dumped(backend), backend.commits(), backend.marks(), note={})
        with pytest.raises(Conflict):
            receiver.finish(backend.head())
        assert state(opened("copy")) == {"k": b"1"}
        assert receiver.finish(backend.head(), over=True)
        for one in (target, opened("copy")):
            assert state(one) == state(backend)
            assert one.head() == backend.head()
        assert target.namespaces() == ["copy", "main"]

    # --- the rest ----------------------------------------------------------------------------------------------

    def test_wait_is_woken_by_anothers_commit(self, backend: Backend, opened: Open) -> None:
        other = opened()
        save(other, "k", b"0")
        assert backend.wait(0, 10) == 1
        for number in range(1, 6):
            timer = threading.Timer(0.1, save, (other, "k", b"1"))
            started = time.monotonic()
            timer.start()
            assert backend.wait(number, 10) == number + 1
            assert 0.05 < time.monotonic() - started < 2
            timer.join()

    def test_wait_ends_with_its_time(self, backend: Backend) -> None:
        save(backend, "k", b"0")
        started = time.monotonic()
        assert backend.wait(1, 0.3) == 1
        assert 0.25 < time.monotonic() - started < 2

    def test_namespaces_do_not_meet(self, opened: Open) -> None:
        names = ["A", "a", "a-b", "a.b", "a_b", "foo", "foobar", "b", "1"]
        for name in names:
            save(opened(name), "b:c", b'"%s"' % name.encode())
            mark(opened(name), "a")
        assert opened().namespaces() == opened("foo").namespaces() == sorted(names)
        for name in names:
            assert state(opened(name)) == {"b:c": b'"%s"' % name.encode()}
            assert opened(name).head().revision == 1
        assert len({opened(name).head().lineage for name in names}) == len(names)
        opened("foo").drop()
        opened("a").drop()
        left = sorted({*names} - {"foo", "a"})
        assert opened().namespaces() == left
        assert all(state(opened(name)) for name in left)

    def test_drop_and_start_again(self, store: str, backend: Backend, opened: Open) -> None:
        other, third = opened(), opened(read_only=True)
        lineage = save(backend, "k", b"1").lineage
        mark(backend, "m")
        save(backend, "k", b"2", 60 * SECOND)
        for one in (other, third):
            assert one.get("k") is not None
        backend.drop()
        assert self.size(store, "main") == 0
        for one in (backend, other, third, opened()):
            assert retold(partial(one.get, "k")) is None
            assert one.head() == Head()
            assert (one.scan(), one.marks(), one.versions("k"), one.namespaces()) == ([], [], [], [])
        backend.drop()
        head = save(other, "k", b"3")
        assert head.revision == 1
        assert head.lineage != lineage
        for one in (backend, other, third, opened()):
            assert retold(partial(state, one)) == {"k": b"3"}
            assert one.head() == head
            assert one.marks() == []

    def test_read_only_reads_and_refuses(self, store: str, opened: Open) -> None:
        reader, writer = opened(read_only=True), opened()
        for act in (
            lambda: save(reader, "k", b"1"), lambda: mark(reader, "m"), lambda: reader.compact(0), reader.drop,
            reader.open_staging,
        ):  # fmt: skip
            with pytest.raises(ReadOnly):
                act()
        assert reader.head() == Head()
        assert self.size(store, "main") == 0
        save(writer, "k", b"1")
        mark(writer, "m")
        before = writer.head(), writer.marks()
        for act in (lambda: save(reader, "k", b"2"), lambda: mark(reader, "n"), lambda: reader.compact(1), reader.drop):
            with pytest.raises(ReadOnly):
                act()
        assert (reader.head(), reader.marks()) == (writer.head(), writer.marks()) == before
        assert state(reader) == state(reader, StateAt(1, reader.now())) == {"k": b"1"}
        save(writer, "k", b"2")
        assert state(reader) == {"k": b"2"}

    def test_a_damaged_entry_is_an_error(self, store: str, backend: Backend, opened: Open) -> None:
        backend.commit(CommitRequest({"k": Write(b'"value"'), "l": Write(b"1")}))
        backend.close()
        self.damage(store, "main", "k")
        for read in (lambda: opened().get("k"), lambda: opened().read(["k"]), lambda: opened().scan()):
            with pytest.raises(Damaged):
                read()

    def test_recover_finds_no_problem_in_a_sound_namespace(self, backend: Backend) -> None:
        assert recover(backend).ok
        backend.commit(CommitRequest({key: Write(b"1", 60 * SECOND) for key in KEYS}))
        mark(backend, "m")
        delete(backend, KEYS[0])
        before = backend.head(), state(backend), backend.marks(), backend.versions("a")
        report = recover(backend)
        assert (report.ok, report.problems, report.revision) == (True, (), 2)
        assert before == (backend.head(), state(backend), backend.marks(), backend.versions("a"))

    def test_diagnose_finds_no_error_in_a_sound_namespace_and_changes_nothing(self, backend: Backend) -> None:
        assert [one for one in backend.diagnose(print) if one.severity == "error"] == []
        backend.commit(CommitRequest({key: Write(b"1", 60 * SECOND) for key in KEYS}))
        mark(backend, "m")
        delete(backend, KEYS[0])
        before = backend.head(), state(backend), backend.marks(), backend.versions("a")
        assert [one for one in backend.diagnose(print) if one.severity == "error"] == []
        assert before == (backend.head(), state(backend), backend.marks(), backend.versions("a"))

    def test_progress_can_end_diagnose(self, backend: Backend) -> None:
        for number in range(3):
            save(backend, "k", b"%d" % number)
        mark(backend, "m")

        def stop(text: str) -> None:
            raise KeyboardInterrupt(text)

        with pytest.raises(KeyboardInterrupt):
            list(backend.diagnose(stop))
        assert recover(backend).ok

    def test_a_closed_backend_opens_again(self, backend: Backend) -> None:
        save(backend, "k", b"1")
        backend.close()
        backend.close()
        assert state(backend) == {"k": b"1"}
        assert save(backend, "k", b"2").revision == 2
