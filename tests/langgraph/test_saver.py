"""`StateviewSaver` as LangGraph calls it, on each kind of store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from conftest import KINDS, REDIS
from saver_calls import config, ids, made, put

from stateview import InvalidArgument, KeyNotFound, ReadOnly, StateManager

MODES = ("namespaces", "keys")


@dataclass
class Pair:
    x: int
    y: int


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def saver(store_url: str, mode: str) -> Iterator[Any]:
    from stateview.langgraph import StateviewSaver

    with StateviewSaver(StateManager(store_url, "all"), threads=mode) as found:
        yield found


def test_only_what_changed_is_written_and_what_is_gone_is_deleted(saver: Any) -> None:
    put(saver, "t", 1, {"a": 1, "b": 2, "c": 3})
    own = saver.state.in_namespace("t") if not saver._shared else saver.state
    root = "t/" if saver._shared else ""
    at = config("t", "id-0001")
    saver.put(at, made(2, {"a": 1, "b": 5}, {"a": 1, "b": 2, "c": 2}), {"step": 2}, {"b": 2, "c": 2})
    changed = {change.key.removeprefix(root): change.kind for change in own.diff("live~1")}
    assert changed == {"ch/b": "changed", "ch/c": "removed", "checkpoint": "changed"}
    assert saver.get_tuple(config("t")).checkpoint["channel_values"] == {"a": 1, "b": 5}
    assert saver.get_tuple(at).checkpoint["channel_values"] == {"a": 1, "b": 2, "c": 3}
    assert own.log(1)[0].reason == ("2, thread t" if root else "2")


def test_a_branch_from_an_older_checkpoint_holds_its_own_values_though_versions_are_equal(saver: Any) -> None:
    put(saver, "t", 1, {"a": "root", "b": "root"})
    saver.put(config("t", "id-0001"), made(2, {"a": "x", "b": "root"}, {"a": 2, "b": 1}), {}, {"a": 2})
    saver.put(config("t", "id-0001"), made(3, {"a": "root", "b": "y"}, {"a": 1, "b": 2}), {}, {"b": 2})
    saver.put(config("t", "id-0002"), made(4, {"a": "x", "b": "y2"}, {"a": 2, "b": 2}), {}, {"b": 2})
    found = {one.checkpoint["id"]: one.checkpoint["channel_values"] for one in saver.list(config("t"))}
    assert found == {
        "id-0001": {"a": "root", "b": "root"}, "id-0002": {"a": "x", "b": "root"}, "id-0003": {"a": "root", "b": "y"},
        "id-0004": {"a": "x", "b": "y2"},
    }  # fmt: skip
    assert saver.get_tuple(config("t", "id-0003")).parent_config == config("t", "id-0001")


def test_threads_of_any_id_and_subgraphs_are_kept_apart(saver: Any) -> None:
    threads = ["t", "T", "t/1", "t.2f1", "thread.t", "a b@c", ".", "x" * 300, "é%2F", "t*", "[t]", "5"]
    graphs = ["", "child:1", "child:1|deep:" + "y" * 150, "%", "a/b"]
    for thread in threads:
        for number, graph in enumerate(graphs):
            put(saver, thread, 1, {"a": f"{thread} {graph}"}, graph=graph, run_id=f"run {number}")
            saver.put_writes(config(thread, "id-0001", graph), [("a", graph)], "task/1")
    for thread in threads:
        for graph in graphs:
            for found in (
                saver.get_tuple(config(thread, None, graph)), saver.get_tuple(config(thread, "id-0001", graph)),
                *saver.list(config(thread, None, graph)),
            ):  # fmt: skip
                assert found.checkpoint["channel_values"] == {"a": f"{thread} {graph}"}
                assert found.config == config(thread, "id-0001", graph)
                assert found.pending_writes == [("task/1", "a", graph)]
    every = [
        (one.config["configurable"]["thread_id"], one.config["configurable"]["checkpoint_ns"])
        for one in saver.list(None)
    ]
    assert sorted(every) == sorted((thread, graph) for thread in threads for graph in graphs)
    whole = {"configurable": {"thread_id": "t/1"}}
    assert len(list(saver.list(whole))) == len(graphs)
    saver.delete_for_runs(["run 2"])
    assert len(list(saver.list(None))) == len(threads) * (len(graphs) - 1)
    saver.delete_thread("t")
    assert list(saver.list(config("t"))) == []
    saver.delete_thread("t*")
    assert len(list(saver.list(None))) == (len(threads) - 2) * (len(graphs) - 1)


def test_checkpoints_are_listed_by_filter_before_and_limit(saver: Any) -> None:
    for number in range(1, 8):
        put(saver, "t", number, {"a": number}, number - 1 or None, odd=number % 2 == 1)
    assert ids(saver.list(config("t"))) == [f"id-{number:04}" for number in range(7, 0, -1)]
    assert ids(saver.list(config("t"), filter={"odd": True}, limit=2)) == ["id-0007", "id-0005"]
    saver.put(config("u"), made(1, {}), {"user": {"id": 7}, "user.id": 8}, {})
    for match, found in (({"user": {"id": 7}}, 1), ({"user.id": 8}, 1), ({"user.id": 7}, 0), ({"user": {}}, 0)):
        assert len(list(saver.list(None, filter=match))) == found
    assert ids(saver.list(config("t"), before=config("t", "id-0003"))) == ["id-0002", "id-0001"]
    assert ids(saver.list(config("t", "id-0004"))) == ["id-0004"]
    assert ids(saver.list(config("t"), limit=0)) == []
    assert ids(saver.list(config("none"))) == []
    assert saver.get_tuple(config("none")) is saver.get_tuple(config("t", "none")) is None


def test_writes_are_kept_once_and_in_langgraphs_order(saver: Any) -> None:
    put(saver, "t", 1, {"a": 1})
    at = config("t", "id-0001")
    saver.put_writes(at, [("a", 1), ("b", {2})], "task-2", "path 1")
    saver.put_writes(at, [("a", "again"), ("__error__", "first")], "task-2", "path 1")
    saver.put_writes(at, [("__error__", "second")], "task-2", "path 1")
    saver.put_writes(at, [("a", 3)], "task-1", "path 2")
    assert saver.get_tuple(at).pending_writes == [
        ("task-2", "__error__", "second"), ("task-2", "a", 1), ("task-2", "b", {2}), ("task-1", "a", 3),
    ]  # fmt: skip
    put(saver, "t", 2, {"a": 2}, 1)
    assert saver.get_tuple(config("t")).pending_writes == []
    assert [len(one.pending_writes) for one in saver.list(config("t"))] == [0, 4]


def test_what_a_run_made_is_deleted_and_the_newest_that_is_left_is_live(saver: Any) -> None:
    for number in (1, 2, 3):
        put(saver, "t", number, {"a": number, f"only{number}": 1}, number - 1 or None, run_id=f"r{number // 2}")
    saver.delete_for_runs(["r1"])
    assert ids(saver.list(config("t"))) == ["id-0001"]
    assert saver.get_tuple(config("t")).checkpoint["channel_values"] == {"a": 1, "only1": 1}
    saver.delete_for_runs(["r0"])
    assert saver.get_tuple(config("t")) is None
    with pytest.raises(InvalidArgument, match="keep_latest"):
        saver.prune(["t"], strategy="all")


def test_a_copy_holds_every_checkpoint_and_goes_its_own_way(saver: Any) -> None:
    for number in (1, 2, 3):
        put(saver, "from", number, {"a": number}, number - 1 or None)
        saver.put_writes(config("from", f"id-{number:04}"), [("a", number + 1)], "task", "path")
    put(saver, "from", 4, {"b": 1}, graph="child:1")
    saver.copy_thread("from", "to")
    put(saver, "from", 5, {"a": 5}, 3)
    found = list(saver.list({"configurable": {"thread_id": "to"}}))
    assert ids(found) == ["id-0004", "id-0003", "id-0002", "id-0001"]
    assert [one.checkpoint["channel_values"] for one in found] == [{"b": 1}, {"a": 3}, {"a": 2}, {"a": 1}]
    assert [len(one.pending_writes) for one in found] == [0, 1, 1, 1]
    assert {one.config["configurable"]["thread_id"] for one in found} == {"to"}
    saver.prune(["to"])
    assert ids(saver.list({"configurable": {"thread_id": "to"}})) == ["id-0004", "id-0003"]
    assert len(ids(saver.list(config("from")))) == 4


def test_a_thread_with_a_long_id_is_copied_under_its_own_name(saver: Any) -> None:
    long, longer = "x" * 200, "y" * 300
    put(saver, long, 1, {"a": 1})
    for source, target in ((long, longer), (longer, "short"), ("short", "z" * 200)):
        saver.copy_thread(source, target)
    put(saver, "z" * 200, 2, {"a": 2}, 1)
    found = {one.config["configurable"]["thread_id"] for one in saver.list(None)}
    assert found == {long, longer, "short", "z" * 200}


def test_each_act_is_one_commit_and_reads_make_nothing(store_url: str) -> None:
    from stateview.langgraph import StateviewSaver

    with StateviewSaver(store_url, author="agent") as saver:
        assert list(saver.list(None)) == []
        assert saver.get_tuple(config("t")) is None
        assert saver.state.namespaces() == []
        put(saver, "t", 1, {"a": 1})
        saver.put_writes(config("t", "id-0001"), [("a", 1)], "task")
        own = StateManager(store_url, "t")
        assert [(one.reason, one.author) for one in own.log()] == [
            ("task wrote a", "agent"), ("loop 1", "agent"),
        ]  # fmt: skip
        assert [(one.name, one.note, one.revision) for one in own.checkpoints()] == [("c-id-0001", "loop 1", 1)]
        own.save("mine", 1)  # a key of the user
        assert saver.get_tuple(config("t")).checkpoint["channel_values"] == {"a": 1}
    with StateviewSaver(store_url, read_only=True) as saver:
        assert saver.get_tuple(config("t")) is not None
        with pytest.raises(ReadOnly):
            put(saver, "t", 2, {"a": 1})


def test_an_earlier_checkpoint_takes_two_reads_of_values_and_is_whole(
    saver: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(saver, "t", 1, {"a": 1, "b*": 2, "gone": 3})
    put(saver, "t", 2, {"a": 4, "new": 6}, parent=1)
    put(saver, "t", 3, {"a": 7, "new": 9}, parent=2)
    with saver._place(config("t")) as place:
        backend = place.state.backend
    read, asked = backend.read, list[list[str]]()

    def reading(keys: Any, at: Any = None) -> Any:
        asked.append(sorted(keys))
        return read(asked[-1], at)

    monkeypatch.setattr(backend, "read", reading)
    assert saver.get_tuple(config("t", "id-0002")).checkpoint["channel_values"] == {"a": 4, "new": 6}
    assert len(asked) == 2
    assert saver.get_tuple(config("t", "id-0001")).checkpoint["channel_values"] == {"a": 1, "b*": 2, "gone": 3}


def test_a_save_after_another_writers_is_made_anew_and_both_are_whole(
    store_url: str, mode: str, saver: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stateview.langgraph import StateviewSaver

    put(saver, "t", 1, {"a": 1, "b": 1})
    with saver._place(config("t")) as place:
        backend = place.state.backend
    read = backend.read
    with StateviewSaver(StateManager(store_url, "all"), threads=mode) as other:
        late = [lambda: put(other, "t", 3, {"a": 3}, parent=1)]

        def reading(keys: Any, at: Any = None) -> Any:
            found = read(keys, at)
            if late:
                late.pop()()
            return found

        monkeypatch.setattr(backend, "read", reading)
        saver.put(config("t", "id-0001"), made(2, {"a": 1, "b": 2}, {"a": 1, "b": 2}), {"step": 2}, {"b": 2})
    assert not late
    found = {one.checkpoint["id"]: one.checkpoint["channel_values"] for one in saver.list(config("t"))}
    assert found == {"id-0001": {"a": 1, "b": 1}, "id-0002": {"a": 1, "b": 2}, "id-0003": {"a": 3}}
    assert saver.get_tuple(config("t")).checkpoint["id"] == "id-0002"


def test_what_tasks_write_before_their_checkpoint_is_saved_is_no_part_of_it(saver: Any) -> None:
    put(saver, "t", 1, {"a": 1})
    saver.put_writes(config("t", "id-0002"), [("a", 2)], "task")
    put(saver, "t", 2, {"a": 2}, parent=1)
    assert saver.get_tuple(config("t")).pending_writes == [("task", "a", 2)]
    with saver._place(config("t")) as own:
        own.state.restore_checkpoint(own.name("id-0002"), keys=[f"{own.root}*"])
    assert saver.get_tuple(config("t", "id-0002")).pending_writes == []


def test_acts_of_a_turn_make_few_round_trips(new_store: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> None:
    from stateview.backends.redis.connections.server import Server
    from stateview.langgraph import StateviewSaver

    calls = []
    run = Server._run
    monkeypatch.setattr(Server, "_run", lambda *given, **more: calls.append(1) or run(*given, **more))
    with StateviewSaver(new_store(next(iter(REDIS)))) as saver:
        for number in (1, 2):
            del calls[:]
            put(saver, "t", number, {"a": [number] * 500}, parent=number - 1 or None)
            saver.put_writes(config("t", f"id-{number:04}"), [("a", 1)], "task")
        assert len(calls) == 3


def test_arguments_are_checked(here: StateManager) -> None:
    from stateview.langgraph import StateviewSaver

    with pytest.raises(InvalidArgument, match="threads='tables'"):
        StateviewSaver(here, threads="tables")  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="durability"):
        StateviewSaver(here, durability="full")
    with pytest.raises(KeyNotFound):
        here.in_namespace("other").load("k")


def foreign(saver: Any, name: str, values: dict[str, Any]) -> tuple[StateManager, str]:
    """Save data of another program where the thread of a name would lie; give its manager and the start of its keys."""
    own, root = (saver.state, f"{name}/") if saver._shared else (saver.state.in_namespace(name), "")
    own.save_many({root + key: value for key, value in values.items()})
    return own, root


@pytest.mark.parametrize(
    "values",
    [{"phase": "building"}, {"checkpoint": 3}, {"checkpoint": {"id": "x", "channel_versions": {}}, "ch/a": 1}],
)
def test_data_of_others_is_passed_over_refused_and_kept(saver: Any, values: dict[str, Any]) -> None:
    put(saver, "t", 1, {"a": 1}, run_id="r")
    own, root = foreign(saver, "workflow-1", values)
    before = {entry.key: (entry.value, entry.revision) for entry in own.entries(root)}
    acts: list[Callable[[], Any]] = [
        lambda: saver.get_tuple(config("workflow-1")), lambda: saver.get_tuple(config("workflow-1", "x")),
        lambda: list(saver.list(config("workflow-1"))), lambda: put(saver, "workflow-1", 1, {"a": 1}),
        lambda: saver.put_writes(config("workflow-1", "x"), [("a", 1)], "task"),
        lambda: saver.delete_thread("workflow-1"), lambda: saver.prune(["workflow-1"]),
        lambda: saver.copy_thread("t", "workflow-1"), lambda: saver.copy_thread("workflow-1", "t"),
    ]  # fmt: skip
    for act in acts:
        with pytest.raises(InvalidArgument, match=f"workflow-1.*{own.namespace}.*key.*Use another thread_id"):
            act()
    assert ids(saver.list(None)) == ["id-0001"]
    saver.delete_for_runs(["r"])
    assert {entry.key: (entry.value, entry.revision) for entry in own.entries(root)} == before


def test_only_a_thread_is_deleted_and_one_that_is_not_there_is_no_error(saver: Any) -> None:
    saver.delete_thread("none")
    put(saver, "t", 1, {"a": 1})
    own, root = foreign(saver, "t", {"mine": 1})
    with pytest.raises(InvalidArgument, match="mine"):
        saver.delete_thread("t")
    own.delete(f"{root}mine")
    saver.delete_thread("t")
    assert list(saver.list(None)) == []
    put(saver, "t", 1, {"a": 1}, run_id="r")
    saver.delete_for_runs(["r"])
    saver.delete_thread("t")  # it has nothing but history
    saver.put_writes(config("early", "id-0001"), [("a", 1)], "task")
    put(saver, "early", 1, {"a": 1}, graph="child")
    put(saver, "early", 1, {"a": 1})
    saver.delete_thread("early")
    assert saver.state.list_keys() == []
    if not saver._shared:
        assert saver.state.namespaces() == []
        foreign(saver, "notes", {"k": 1})[0].delete("k")
        with pytest.raises(InvalidArgument, match="history"):
            saver.delete_thread("notes")


def test_a_thread_whose_checkpoint_was_overwritten_is_named(saver: Any) -> None:
    put(saver, "t", 1, {"a": 1})
    assert saver.get_tuple(config("t")) is not None
    own, _ = foreign(saver, "t", {"checkpoint": "mine"})
    for act in (lambda: saver.get_tuple(config("t")), lambda: put(saver, "t", 2, {"a": 2}, parent=1)):
        with pytest.raises(InvalidArgument, match="'t'"):
            act()
    own.undo()
    put(saver, "t", 2, {"a": 2}, parent=1)
    assert ids(saver.list(config("t"))) == ["id-0002", "id-0001"]


def conformance(url: str, mode: str, capabilities: set[str] | None) -> dict[str, list[str]]:
    """What LangGraph's own conformance suite finds wrong."""
    from langgraph.checkpoint.conformance import checkpointer_test, validate

    from stateview.langgraph import StateviewSaver

    @checkpointer_test(name="stateview")
    async def stateview() -> Any:
        with StateviewSaver(StateManager(url, "all"), threads=mode) as saver:
            yield saver

    report = asyncio.run(validate(stateview, capabilities=capabilities))
    ran = {name: result.failures for name, result in report.results.items() if result.detected}
    assert len(ran) == len(capabilities or report.results)
    return {name: failures for name, failures in ran.items() if failures}


def test_langgraphs_conformance_suite_finds_nothing_in_the_quick_parts(tmp_path: Any) -> None:
    assert conformance(f"sqlite:{tmp_path}", "keys", {"put_writes", "get_tuple"}) == {}


@pytest.mark.stress
@pytest.mark.parametrize(
    ("kind", "mode"),
    [*((kind, "namespaces") for kind in KINDS), ("sqlite", "keys")],  # the keys lie in each kind of store in one way
)
def test_langgraphs_conformance_suite_finds_nothing(store_url: str, mode: str) -> None:
    assert conformance(store_url, mode, None) == {}


def test_another_serializer_hides_values_and_leaves_the_order_of_checkpoints_readable(here: StateManager) -> None:
    from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
    from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

    from stateview.langgraph import StateviewSaver

    class Reverse:
        def encrypt(self, plaintext: bytes) -> tuple[str, bytes]:
            return "reverse", plaintext[::-1]

        def decrypt(self, ciphername: str, ciphertext: bytes) -> bytes:
            return ciphertext[::-1]

    saver = StateviewSaver(here, serde=EncryptedSerializer(Reverse(), JsonPlusSerializer()))
    put(saver, "t", 1, {"a": "word", "b": {1}}, odd=True)
    put(saver, "t", 2, {"a": "words", "b": {2}}, 1, odd={"a set"})
    saver.put_writes(config("t", "id-0002"), [("a", "word")], "task")
    own = here.in_namespace("t")
    assert "word" not in repr({entry.key: entry.value for entry in own.entries()})
    assert own.load("checkpoint")["channel_versions"] == {"a": 2, "b": 2}
    found = list(saver.list(config("t")))
    assert [one.checkpoint["channel_values"] for one in found] == [{"a": "words", "b": {2}}, {"a": "word", "b": {1}}]
    assert [one.metadata["odd"] for one in found] == [{"a set"}, True]
    assert found[0].pending_writes == [("task", "a", "word")]


def test_a_copy_of_the_saver_with_a_longer_allowlist_makes_more_classes(here: StateManager) -> None:
    from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

    from stateview.langgraph import StateviewSaver

    saver = StateviewSaver(here, serde=JsonPlusSerializer(allowed_msgpack_modules=None))
    put(saver, "t", 1, {"a": Pair(1, 2)})
    assert saver.get_tuple(config("t")).checkpoint["channel_values"] == {"a": {"x": 1, "y": 2}}
    more = saver.with_allowlist([(Pair.__module__, "Pair")])
    assert more.get_tuple(config("t")).checkpoint["channel_values"] == {"a": Pair(1, 2)}
