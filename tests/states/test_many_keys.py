"""Several keys at once: `save_many`, `load_many`, `entries`, `delete(keys=…)`, of a manager, a view, a transaction."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import REDIS

from stateview import InvalidName, NotSerializable, ReadOnly, StateManager
from stateview.errors import Conflict, InvalidArgument
from stateview.states import batches

VALUES = {"a": 1, "a[0]": None, "b/x": {"n": [1]}, "b/y": "y", "c": 3}


@pytest.fixture
def state(store_url: str) -> Iterator[StateManager]:
    with StateManager(store_url, "main") as manager:
        for key, value in VALUES.items():
            manager.save(key, value)
        manager.checkpoint("c")
        manager.save("a", 2)
        yield manager


def readers(state: StateManager) -> dict[str, Any]:
    return {"manager": state, "view": state.at("live"), "transaction": state.begin()}


def test_values_of_several_keys_come_in_the_order_given(state: StateManager) -> None:
    for reader in readers(state).values():
        assert list(reader.load_many(["c", "a", "none", "a[0]", "a"]).items()) == [("c", 3), ("a", 2), ("a[0]", None)]
        assert reader.load_many(["none", "a"], None) == {"none": None, "a": 2}
        assert reader.load_many("a") == {"a": 2}
        assert reader.load_many([]) == {}
        assert reader.load_many() == {**VALUES, "a": 2}
        assert list(reader.load_many(["b/*", "z", "a"], 0)) == ["z", "a", "b/x", "b/y"]
        with pytest.raises(InvalidName):
            reader.load_many(["a", ""])
    assert state.load_many(["a", "c"], at="c") == state.at("c").load_many(["a", "c"]) == {"a": 1, "c": 3}
    first, second = state.load_many(["b/x"]), state.load_many(["b/x"])
    first["b/x"]["n"].append(2)
    assert second == state.load_many(["b/x"]) == {"b/x": {"n": [1]}}


def test_several_keys_are_saved_in_one_commit_or_in_batches(state: StateManager) -> None:
    before = state.revision
    assert state.save_many({"a": 3, "new": [1]}, ttl=60) == before + 1
    assert state.load_many(["a", "new"]) == {"a": 3, "new": [1]}
    assert (state.entry("new").ttl or 0) > 50
    pairs = ((f"k{number}", number) for number in range(5))
    assert state.save_many(pairs, batch_size=2, reason="numbers") == before + 4
    assert state.load_many("k?") == {f"k{number}": number for number in range(5)}
    assert state.save_many([("a", 1), ("b", 2), ("a", 3)]) == before + 5
    assert state.save_many({}) == state.save_many([], batch_size=1) == before + 5
    found = [(commit.reason, commit.keys) for commit in state.log(limit=5)]
    assert found == [("save a, b", 2), ("numbers", 1), ("numbers", 2), ("numbers", 2), ("save a, new", 2)]
    assert state.load_many(["a", "b"]) == {"a": 3, "b": 2}


def test_a_batch_is_saved_before_the_next_pairs_are_read_and_ends_with_its_bytes(
    state: StateManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "BATCH_BYTES", 100)
    before, seen = state.revision, []

    def pairs() -> Iterator[tuple[str, str]]:
        for number in range(6):
            seen.append(state.revision - before)
            yield f"k{number}", "x" * (60 if number < 4 else 1)

    state.save_many(pairs(), batch_size=3)
    assert seen == [0, 0, 1, 1, 2, 2]


def test_a_value_that_cannot_be_saved_is_named_and_earlier_batches_stay(state: StateManager) -> None:
    before = state.revision
    bad: list[tuple[str, Any]] = [("x", 1), ("y", 2), ("z", {1})]
    with pytest.raises(NotSerializable, match=f"key 'z': a set .* Saved so far: 2 keys, up to revision {before + 1}"):
        state.save_many(bad, batch_size=2)
    assert state.load_many(["x", "y", "z"]) == {"x": 1, "y": 2}
    with pytest.raises(NotSerializable) as caught:
        state.save_many([("x", 5), ("z", {1})])
    assert "Saved so far" not in str(caught.value)
    with pytest.raises(InvalidName):
        state.save_many({"": 1})
    for values, named in ((5, "not int"), ("ab", "'a' is no pair"), ([("x", 1, 2)], "is no pair")):
        with pytest.raises(InvalidArgument, match=named):
            state.save_many(values)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="batch_size=0"):
        state.save_many({"x": 1}, batch_size=0)
    assert state.revision == before + 1


@pytest.mark.parametrize(("prefix", "keys", "chosen"), [
    ("", None, ["a", "a[0]", "b/x", "b/y", "c"]), ("b", None, ["b/x", "b/y"]), ("", ["c", "a", "no"], ["a", "c"]),
    ("", "b/*", ["b/x", "b/y"]), ("b", ["b/x", "c"], ["b/x"]), ("", ["a[0]"], ["a[0]"]), ("", ["", "c"], ["c"]),
    ("", [], []), ("", "a[[]0]", ["a[0]"]), ("", ["?", "b/y"], ["a", "b/y", "c"]),
])  # fmt: skip
def test_entries_are_chosen_by_prefix_names_and_globs(
    state: StateManager, prefix: str, keys: Any, chosen: list[str]
) -> None:
    for name, reader in readers(state).items():
        entries = list(reader.entries(prefix, keys))
        assert [entry.key for entry in entries] == chosen, name
        assert entries == [state.entry(key) for key in chosen]
    assert [entry.value for entry in state.entries(keys="a", at="c")] == [1]


def test_entries_come_from_either_end_up_to_a_limit(state: StateManager) -> None:
    with state.transaction() as block:
        for number in range(1100):  # more than two pages
            block.save(f"n{number:04}", number)
    every = [*VALUES, *(f"n{number:04}" for number in range(1100))]
    for reader in readers(state).values():

        def keys(*given: Any, reader: Any = reader, **options: Any) -> list[str]:
            return [entry.key for entry in reader.entries(*given, **options)]

        assert keys(backwards=True) == every[::-1]
        for limit in (0, 1, 3, 500, 501, 1000, 9999):
            assert keys(limit=limit) == every[:limit]
            assert keys(limit=limit, backwards=True) == every[::-1][:limit]
        assert keys("b/", limit=1, backwards=True) == ["b/y"]
        assert keys("n", ["n00?1", "c"], limit=2, backwards=True) == ["n0091", "n0081"]
        assert keys("n", ["n00?1", "c"], limit=2) == ["n0001", "n0011"]
        assert keys(keys=["c", "a", "none", "b/x"], limit=2) == ["a", "b/x"]
        assert keys(keys=["c", "a", "none", "b/x"], limit=2, backwards=True) == ["c", "b/x"]
        assert keys(keys="a[[]0]", limit=0) == []
    (last,) = state.entries("n", limit=1, backwards=True)
    assert last == state.entry("n1099")
    assert [entry.value for entry in state.entries(limit=1, backwards=True, at="c")] == [3]


def test_a_prefix_is_deleted_in_one_commit_whatever_it_spells(state: StateManager) -> None:
    before = state.revision
    assert state.delete_prefix("b/") == ["b/x", "b/y"]
    assert (state.revision, state.log(1)[0].reason) == (before + 1, "delete prefix b/")
    assert state.delete_prefix("b/") == state.delete_prefix("[a]") == state.delete_prefix("*") == []
    assert state.delete_prefix("a[", reason="why") == ["a[0]"]
    assert (state.revision, state.log(1)[0].reason, state.list_keys()) == (before + 2, "why", ["a", "c"])
    with state.transaction() as block:
        block.save("ab", 1)
        assert block.delete_prefix("a") == ["a", "ab"]
        assert block.delete_prefix("*") == []
        for refused in (state.delete_prefix, block.delete_prefix):
            with pytest.raises(InvalidArgument, match="every key"):
                refused("")
    assert state.list_keys() == ["c"]
    state.undo()
    assert state.list_keys() == ["a", "c"]


def test_checkpoints_come_from_either_end_up_to_a_limit(state: StateManager) -> None:
    for name in ("d", "e", "d"):
        state.save("a", name)
        state.checkpoint(name)

    def refs(**options: Any) -> list[str]:
        return [checkpoint.ref for checkpoint in state.checkpoints(**options)]

    assert refs() == ["c", "e", "d"]
    assert refs(limit=2) == ["c", "e"]
    assert refs(limit=2, newest_first=True) == ["d", "e"]
    assert refs(limit=3, newest_first=True, all=True) == ["d", "e", "d@7"]
    assert refs(limit=0) == []


def test_a_namespace_is_dropped_with_its_history(state: StateManager) -> None:
    with StateManager(state._opened["backend"], "main", read_only=True) as reader, pytest.raises(ReadOnly):
        reader.drop()
    with StateManager(state._opened["backend"], "beside") as beside:
        beside.save("k", 1)
        state.drop()
        assert (state.revision, state.list_checkpoints(), state.namespaces()) == (0, [], ["beside"])
        state.drop()
        assert state.save("k", 2) == 1
        assert beside.load("k") == 1


def test_a_block_sees_its_own_writes_among_several_keys(state: StateManager) -> None:
    with state.transaction() as block:
        block.save("new", "n")
        block.save("c", 4)
        block.delete("a")
        assert block.load_many(["a", "new", "c", "b/y"]) == {"new": "n", "c": 4, "b/y": "y"}
        assert [(one.key, one.value, one.revision) for one in block.entries(keys=["c", "a", "new", "b/y"])] == [
            ("b/y", "y", 4), ("c", 4, 0), ("new", "n", 0),
        ]  # fmt: skip
        assert block.delete(keys=["new", "b/*", "none"]) == ["b/x", "b/y", "new"]
        assert block.delete(keys=["new"]) == []
        assert block.list_keys() == ["a[0]", "c"]
    assert state.list_keys() == ["a[0]", "c"]
    assert state.log()[0].keys == 5


def test_what_a_block_read_among_several_keys_may_not_change(state: StateManager) -> None:
    for read in (
        lambda block: block.load_many(["b/x", "none"]), lambda block: list(block.entries(keys=["none"])),
        lambda block: block.delete(keys=["none", "c"]),
    ):  # fmt: skip
        with pytest.raises(Conflict), state.transaction() as block:
            read(block)
            block.save("mine", 1)
            state.save("none", 1)
            state.save("b/x", 1)
        assert "mine" not in state
        state.delete("none")


def test_several_keys_are_deleted_in_one_commit(state: StateManager) -> None:
    before = state.revision
    assert state.delete(keys=["c", "none", "a[0]"]) == ["a[0]", "c"]
    assert state.revision == before + 1
    assert state.log()[0].reason == "delete c, none, a[0]"
    assert state.delete(keys="none") == state.delete(keys=[]) == state.delete(keys="no*") == []
    assert state.revision == before + 1
    assert state.delete(keys=["b*"], reason="why") == ["b/x", "b/y"]
    assert (state.log()[0].reason, state.list_keys()) == ("why", ["a"])
    for wrong in ({"key": "a", "keys": ["a"]}, {"keys": ["a"], "expected": 1}):
        with pytest.raises(InvalidArgument):
            state.delete(**wrong)
    with state.transaction() as block:
        for refused in (state.delete, block.delete):
            with pytest.raises(InvalidName):
                refused()  # type: ignore[operator]
    assert state.delete("a") is True


def test_a_writer_that_comes_first_is_waited_for(state: StateManager, monkeypatch: pytest.MonkeyPatch) -> None:
    with StateManager(state.url, "main") as other:
        commit, late = state._commit, [lambda: other.save("c", 9), lambda: other.delete("a")]

        def commit_late(request: Any) -> Any:
            if late:
                late.pop()()
            return commit(request)

        monkeypatch.setattr(state, "_commit", commit_late)
        assert state.delete(keys=["a", "c"]) == ["c"]
    assert state.list_keys() == ["a[0]", "b/x", "b/y"]


def test_several_keys_cost_one_round_trip(new_store: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> None:
    import redis

    sent: list[int] = []  # the thread of each request: the cache has one of its own
    connection = redis.connection.AbstractConnection
    send = connection.send_packed_command

    def counted(*given: Any, **options: Any) -> Any:
        sent.append(threading.get_ident())
        return send(*given, **options)

    monkeypatch.setattr(connection, "send_packed_command", counted)
    url = new_store(next(iter(REDIS)))
    names = [f"k{number}" for number in range(200)]
    with StateManager(url, "main") as state:
        with state.transaction() as block:
            for name in names:
                block.save(name, name)
        view = state.at("live")
        block = state.begin()

        def commands(act: Callable[[], Any]) -> int:
            sent.clear()
            act()
            return sent.count(threading.get_ident())

        def trips(act: Callable[[], Any]) -> int:
            act()
            return commands(act)

        assert trips(lambda: state.load_many(names)) == 1
        assert trips(lambda: list(state.entries(keys=names))) == 1
        assert trips(lambda: view.load_many(names)) == 1
        assert trips(lambda: list(view.entries(keys=names))) == 1
        assert trips(lambda: block.load_many(names)) == 1
        assert trips(lambda: list(block.entries(keys=names))) == 1
        assert commands(lambda: block.delete(keys=names)) == 1
        assert trips(lambda: list(state.entries("k", limit=50))) == 1
        assert trips(lambda: list(view.entries("k", limit=50, backwards=True))) == 2
        assert trips(lambda: state.checkpoints(limit=1, newest_first=True)) == 1
        assert trips(lambda: state.transact(lambda tx: tx.save("k1", 1))) == 1
        assert commands(lambda: state.delete_prefix("k1")) == 2
        assert commands(lambda: state.delete(keys=names)) == 2
        assert state.list_keys() == []


def test_a_name_wins_over_the_pattern_that_it_spells(store_url: str) -> None:
    with StateManager(store_url, "main") as state:
        for key in ("a[0]", "a[[]0]"):
            state.save(key, key)
        assert state.load_many("a[[]0]") == {"a[[]0]": "a[[]0]"}
        assert [entry.key for entry in state.entries(keys="a[[]0]")] == ["a[[]0]"]
        with state.transaction() as transaction:
            assert transaction.load_many(["a[[]0]"]) == {"a[[]0]": "a[[]0]"}
            assert transaction.delete(keys="a[[]0]") == ["a[[]0]"]
        assert state.list_keys() == ["a[0]"]
        assert state.load_many("a[[]0]", None) == {"a[0]": "a[0]"}


def test_an_entry_that_the_block_wrote_has_its_expiry(tmp_path: Path) -> None:
    with StateManager(f"sqlite:{tmp_path}", "main") as state, state.transaction() as transaction:
        transaction.save("k", 1, ttl=50)
        (entry,) = transaction.entries()
        assert entry.expires is not None and 49 < (entry.expires - entry.time).total_seconds() < 51


@pytest.mark.parametrize("act", [
    lambda state: state.list_keys(),
    lambda state: list(state.load_many("k*")),
    lambda state: state.delete(keys="k*"),
], ids=["list_keys", "load_many", "delete"])  # fmt: skip
def test_a_live_read_goes_on_where_the_floor_passes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, act: Any
) -> None:
    with StateManager(f"sqlite:{tmp_path}", "main", history=1) as state:
        with state.transaction() as transaction:
            for number in range(2500):
                transaction.save(f"k{number:04}", number)
        scan, pages = state.backend.scan, []

        def beside_a_writer(*arguments: Any, **options: Any) -> Any:
            page = scan(*arguments, **options)
            pages.append(page)
            if len(pages) in (1, 2, 3):
                for number in range(3):
                    state.save("other", number)
                state.backend.compact(state.revision)
            return page

        monkeypatch.setattr(
            type(state.backend), "scan", lambda _self, *words, **options: beside_a_writer(*words, **options)
        )
        assert len([key for key in act(state) if key != "other"]) == 2500
