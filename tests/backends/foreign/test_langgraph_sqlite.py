"""Threads of LangGraph's `SqliteSaver`, looked into where they lie: by graphs that ran, and files made by hand."""

from __future__ import annotations

import json
import os
import pickle
import shlex
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any, TypedDict

import msgspec
import pytest
from foreign_stores import ext, langgraph, message, name

from stateview import StateManager
from stateview.backends.protocol import StateAt
from stateview.cli.program import main
from stateview.errors import BackendUnavailable, Damaged, HistoryPruned, KeyNotFound, NamespaceNotFound, ReadOnly
from stateview.model import ABSENT
from stateview.sealing.keys import UserKey

Run = Callable[..., str]


@pytest.fixture
def run(folder: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command line, and returns what it prints."""

    def act(*words: str, code: int = 0) -> str:
        assert main(list(words)) == code, capsys.readouterr().err
        return capsys.readouterr().out

    return act


def opened(path: Path, thread: str = "t") -> StateManager:
    return StateManager(f"langgraph-sqlite:{path}", thread)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


class State(TypedDict):
    messages: Annotated[list[Any], lambda old, new: old + new]
    count: int
    tags: set[str]
    blob: bytes


def test_a_graph_that_ran_is_read_as_it_lies_and_goes_on_in_a_copy(run: Run, folder: Path) -> None:
    pytest.importorskip("langgraph.graph")
    from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
    from langchain_core.messages import AIMessage, HumanMessage
    from langgraph.checkpoint.sqlite import SqliteSaver
    from langgraph.graph import END, START, StateGraph

    model = GenericFakeChatModel(messages=iter(AIMessage(f"answer {number}") for number in range(99)))

    def ask(state: State) -> dict[str, Any]:
        count = state.get("count", 0) + 1
        answer = model.invoke(state["messages"])
        return {"messages": [answer], "count": count, "tags": {"b", "a", str(count)}, "blob": b"\xff" * count}

    graph = StateGraph(State).add_node("ask", ask).add_edge(START, "ask").add_edge("ask", END)  # type: ignore[type-var]
    path = folder / "runs.sqlite"
    store = f"langgraph-sqlite:{path}"
    with SqliteSaver.from_conn_string(str(path)) as saver:
        app = graph.compile(checkpointer=saver)

        def turn(thread: str, text: str) -> None:
            app.invoke({"messages": [HumanMessage(text)]}, {"configurable": {"thread_id": thread}})  # type: ignore[arg-type]

        turn("run-1", "first")
        turn("a@b.c", "other")
        state = StateManager(store, "run-1")
        first = state.list_checkpoints()
        turn("run-1", "second")  # while it is open, and the WAL is not in the database yet
        assert os.path.getsize(f"{path}-wal")
        assert run("-s", store, "namespaces").split() == ["run-1", "x..a.40b.2Ec"]
        found = list(saver.list({"configurable": {"thread_id": "run-1"}}))[::-1]
        assert state.list_checkpoints() == [f"c-{one.checkpoint['id']}" for one in found]
        assert state.list_checkpoints()[: len(first)] == first
        for one, at in zip(found, state.list_checkpoints(), strict=True):
            view = state.at(at)
            channels = {key[3:] for key in view.list_keys("ch/")}
            assert channels == one.checkpoint["channel_values"].keys()
            assert view.load("ch/count", None) == one.checkpoint["channel_values"].get("count")
            parent = one.parent_config["configurable"]["checkpoint_id"] if one.parent_config else None
            assert view.load("checkpoint")["parent"] == parent
            pending = {f"writes/{task}/{channel}" for task, channel, _ in one.pending_writes or ()}
            assert {
                f"writes/{key.split('/')[1]}/{key.split('/', 3)[3]}" for key in view.list_keys("writes/")
            } == pending
            assert view.load("metadata")["step"] == one.metadata["step"]
    before = content(folder)  # the owner has closed it: the WAL is gone
    assert list(before) == [str(path)]
    messages = state.load("ch/messages")
    assert [one["content"] for one in messages] == ["first", "answer 0", "second", "answer 2"]
    assert messages[0]["$class"] == "langchain_core.messages.human.HumanMessage"
    assert state.load("ch/tags") == {"$class": "builtins.set", "$args": [["2", "a", "b"]]}
    assert state.load("ch/blob") == {"$bytes": {"bytes": 2, "base64": "//8="}}
    assert [entry.value for entry in state.history("ch/count")] == [2, 1]
    last = state.list_checkpoints()[-1]
    shown = run("-s", store, "-n", "run-1", "diff", first[-1], last, "-k", "ch/messages")
    assert '+ /2  {"$class":"langchain_core.messages.human.HumanMessage","content":"second"' in shown
    assert "loop, step 1" in run("-s", store, "-n", "run-1", "log")
    assert "/1/content" in run("-s", store, "-n", "run-1", "find", "answer 0")
    assert json.loads(run("-s", store, "-n", "run-1", "blame", "ch/messages", "/3"))["revision"] == 6
    assert state.doctor().ok
    run("-s", store, "-n", "run-1", "export", "run.jsonl")
    assert content(folder) == before | {str(folder / "run.jsonl"): (folder / "run.jsonl").read_bytes()}

    # A copy has each checkpoint as a revision; restore, undo and fork work on it.
    run("-s", "sqlite:copy", "-n", "run-1", "import", store)
    copy = StateManager("sqlite:copy", "run-1")
    assert copy.list_checkpoints() == state.list_checkpoints()
    assert {entry.key: entry.value for entry in copy.at(first[-1]).entries()} == {
        entry.key: entry.value for entry in state.at(first[-1]).entries()
    }
    assert copy.log() == state.log()
    run("-s", "sqlite:copy", "-n", "run-1", "restore", first[-1], "-k", "ch/count", "-y")
    assert copy.load("ch/count") == 1
    run("-s", "sqlite:copy", "-n", "run-1", "undo", "-y")
    assert copy.load("ch/count") == 2
    run("-s", "sqlite:copy", "-n", "run-1", "fork", "again", "--at", first[-1])
    assert len(StateManager("sqlite:copy", "again").load("ch/messages")) == 2
    assert copy.doctor().ok
    run("migrate", store, "json:other", "-n", "run-1")
    assert StateManager("json:other", "run-1").load("ch/messages") == messages


def test_every_write_is_refused_with_the_next_step(folder: Path, run: Run) -> None:
    path = langgraph(folder / "c.db", {"a": 1}, {"a": 2})
    state = opened(path)
    acts: list[Callable[[], object]] = [
        lambda: state.save("k", 1), lambda: state.delete("ch/a"), lambda: state.checkpoint("c"), state.undo,
        lambda: state.restore_checkpoint("1"), lambda: state.fork("new"), state.drop, state.recover,
    ]  # fmt: skip
    before = content(folder)
    for act in acts:
        with pytest.raises(ReadOnly, match="import langgraph-sqlite"):
            act()
    assert content(folder) == before


def test_the_step_that_an_error_names_works_where_the_folder_uses_that_store(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    langgraph(folder / "c.db", {"a": 1}, thread="run-1")
    assert main(["init", "langgraph-sqlite:c.db", "run-1"]) == 0
    capsys.readouterr()
    assert main(["save", "k", "1"]) == 3
    step = capsys.readouterr().err.rpartition("Copy it by '")[2].partition("'")[0]
    assert main(shlex.split(step)[1:]) == 0
    assert StateManager("sqlite", "run-1").load("ch/a") == 1


def test_the_id_of_a_thread_is_shown_where_its_namespace_has_another_name(folder: Path) -> None:
    for number, thread in enumerate(("plain", "a@b.c", "t" * 300)):
        path = langgraph(folder / f"{number}.db", {"a": 1}, thread=thread)
        (name,) = opened(path).namespaces()
        assert opened(path, name).load("checkpoint").get("thread_id", name) == thread


def test_a_write_that_a_crash_left_behind_is_named_with_the_next_step(folder: Path) -> None:
    path = langgraph(folder / "c.db", {"a": 1})
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = delete")
        db.execute("PRAGMA cache_size = 1")
        db.execute("BEGIN")
        db.execute("CREATE TABLE big AS WITH n(i) AS (VALUES(1) UNION ALL SELECT i+1 FROM n WHERE i<99) "
                   "SELECT zeroblob(4000) FROM n")  # fmt: skip
        for end in ("", "-journal"):
            shutil.copy(f"{path}{end}", folder / f"crashed.db{end}")
    with pytest.raises(BackendUnavailable, match=r"did not end, and must be rolled back.*Run its owner once"):
        opened(folder / "crashed.db").head()
    with closing(sqlite3.connect(folder / "crashed.db")) as db:
        db.execute("SELECT * FROM checkpoints").fetchall()
    assert opened(folder / "crashed.db").load("ch/a") == 1


def test_a_key_in_the_environment_is_for_the_copy_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("cryptography")
    path = langgraph(folder / "c.db", {"a": 1})
    monkeypatch.setenv("STATEVIEW_KEY", UserKey.generate().printed())
    assert opened(path).load("ch/a") == 1
    assert main(["-s", "sqlite:copy", "-n", "t", "import", f"langgraph-sqlite:{path}"]) == 0
    copy = StateManager("sqlite:copy", "t")
    assert (copy.is_encrypted, copy.load("ch/a")) == (True, 1)


def test_states_are_those_of_the_thread_and_absent_keys_are_deletes(folder: Path) -> None:
    path = langgraph(folder / "c.db", {"a": 1, "b": [1]}, {"a": 1}, {"a": 2, "b": [1, 2]})
    state = opened(path)
    assert state.list_keys() == ["ch/a", "ch/b", "checkpoint", "metadata"]
    assert [(entry.revision, entry.value) for entry in state.history("ch/b")] == [(3, [1, 2]), (2, ABSENT), (1, [1])]
    assert [entry.revision for entry in state.history("ch/a")] == [3, 1]
    assert state.diff("1", "2", keys="ch/*").counts["removed"] == 1
    assert state.load("ch/a", at=f"c-{name(2)}") == 1
    assert [row.key for row in state.rows(skip=1, limit=2)] == ["ch/b", "checkpoint"]
    assert [row.key for row in state.rows(skip=1, limit=2, backwards=True)] == ["ch/b", "checkpoint"]
    assert state.doctor().ok
    with pytest.raises(NamespaceNotFound):
        opened(path, "nobody").load("x")


def test_what_the_owner_adds_replaces_and_deletes_is_seen(folder: Path) -> None:
    path = langgraph(folder / "c.db", {"a": 1})
    state = opened(path)
    assert state.load("ch/a") == 1
    langgraph(path, {"a": 2})
    assert (state.revision, state.load("ch/a"), state.load("ch/a", at="1")) == (2, 2, 1)
    with closing(sqlite3.connect(path)) as db, db:
        write = ("t", "", name(2), "task", 0, "a", "msgpack", msgspec.msgpack.encode(7))
        db.execute("INSERT INTO writes VALUES (?, ?, ?, ?, ?, ?, ?, ?)", write)
    assert state.load("writes/task/0/a") == 7
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("DELETE FROM checkpoints WHERE checkpoint_id = ?", (name(1),))
    assert state.revision == 1
    with pytest.raises(HistoryPruned):
        state.backend.read(["ch/a"], StateAt(2, 0))
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("DELETE FROM checkpoints")
    assert state.revision == 0
    assert state.namespaces() == []


@pytest.mark.parametrize("thread", ["x..41", "s..a..b", "h..", ".dot", "", "ü/\n", "a b", "a" * 500, "..", "\x1b[31m"])
def test_any_name_of_a_thread_opens_by_the_name_that_the_list_shows(folder: Path, thread: str) -> None:
    path = langgraph(folder / "c.db", {"a": 1}, thread=thread)
    langgraph(path, {"a": 2}, thread=thread, part="sub:1")
    names = opened(path).namespaces()
    assert len(set(names)) == 2
    assert sorted(opened(path, one).load("ch/a") for one in names) == [1, 2]


# --- values ---------------------------------------------------------------------------------------------------


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch executed",)


def shown(folder: Path, value: Any) -> Any:
    return opened(langgraph(folder / "c.db", {"v": value})).load("ch/v")


def test_objects_show_their_class_and_nothing_is_imported(folder: Path) -> None:
    module = "not_there.evil"
    assert shown(folder, [message("human", "hi"), ext(5, module, "M", {"a": ext(0, "uuid", "UUID", "00")}, "x")]) == [
        {"$class": "langchain_core.messages.human.HumanMessage", "content": "hi", "type": "human"},
        {"$class": "not_there.evil.M", "a": {"$class": "uuid.UUID", "$args": ["00"]}},
    ]
    assert "not_there" not in sys.modules


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"$class": "forged"}, {"$map": [["$class", "forged"]]}),
        ({1: "a", "b": float("nan")}, {"$map": [[1, "a"], ["b", {"$number": "nan"}]]}),
        (ext(3, "datetime", "date", "2026", "fromisoformat"), {"$class": "datetime.date", "$args": ["2026"]}),
        (ext(0, "builtins", "set", [2, 1]), {"$class": "builtins.set", "$args": [[1, 2]]}),
        (ext(1, "langgraph.types", "Send", ["node", 1]), {"$class": "langgraph.types.Send", "$args": ["node", 1]}),
        (b"ab", {"$bytes": {"bytes": 2, "base64": "YWI="}}),
        (2**63, 2**63),
        (msgspec.msgpack.Ext(7, msgspec.msgpack.encode([1])), {"$class": "langgraph.DeltaSnapshot", "$args": [[1]]}),
    ],
)  # fmt: skip
def test_what_json_lacks_has_a_marker_that_no_value_can_forge(folder: Path, value: Any, expected: Any) -> None:
    assert shown(folder, value) == expected


def test_what_is_not_decoded_is_opaque_with_type_and_size(folder: Path) -> None:
    path = langgraph(folder / "c.db", {"a": 1}, {"a": 2})
    data = pickle.dumps(Bomb())
    deep = b"\x91" * 100_000 + b"\xc0"
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE checkpoints SET type = 'pickle', checkpoint = ? WHERE checkpoint_id = ?", (data, name(1)))
        for at, (kind, value) in enumerate([("pickle", data), ("msgpack", deep), ("msgpack", b"\xdd\xff\xff\xff\xff")]):
            row = ("t", "", name(2), "task", at, "c\0\x1b", kind, value)
            db.execute("INSERT INTO writes VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
    state = opened(path)
    opaque = state.load("checkpoint", at="1")["$opaque"]
    assert (opaque["type"], opaque["bytes"]) == ("pickle", len(data))
    assert state.at("1").list_keys() == ["checkpoint", "metadata"]
    found = [state.load(key)["$opaque"] for key in state.list_keys("writes/")]
    assert [(one["type"], one["bytes"]) for one in found] == [
        ("pickle", len(data)), ("msgpack", len(deep)), ("msgpack", 5)
    ]  # fmt: skip
    assert state.list_keys("writes/")[0] == "writes/task/0/c%00\x1b"
    assert state.doctor().ok
    assert not (folder / "executed").exists()


def test_older_checkpoints_are_json(folder: Path) -> None:
    path = langgraph(folder / "c.db", {"a": 1})
    old = {"ts": "2024-01-01T00:00:00+00:00", "channel_values": {"m": {"lc": 2, "type": "constructor", "id": ["os"]}}}
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE checkpoints SET type = 'json', checkpoint = ?", (json.dumps(old).encode(),))
    state = opened(path)
    assert state.load("ch/m") == {"lc": 2, "type": "constructor", "id": ["os"]}
    assert state.log()[0].time.year == 2024


# --- hostile files ----------------------------------------------------------------------------------------------


def test_files_that_are_no_such_database_are_named(folder: Path) -> None:
    whole = langgraph(folder / "c.db", {"a": "x" * 20_000}).read_bytes()
    (folder / "cut.db").write_bytes(whole[: len(whole) // 2 - 100])
    (folder / "text.db").write_text("no database")
    (folder / "empty.db").write_bytes(b"")
    os.mkfifo(folder / "pipe.db")
    with closing(sqlite3.connect(folder / "view.db")) as db, db:
        db.execute(
            "CREATE VIEW checkpoints AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i FROM n) SELECT i FROM n"
        )
    with closing(sqlite3.connect(folder / "other.db")) as db, db:
        db.execute("CREATE TABLE checkpoints (name TEXT)")
    for file, words in {
        "cut.db": "malformed", "text.db": "no SQLite database", "empty.db": "no SQLite database", "pipe.db": "no file",
        "view.db": "lacks the table", "other.db": "lacks the columns",
    }.items():  # fmt: skip
        with pytest.raises(Damaged, match=words):
            opened(folder / file).load("ch/a")
    with pytest.raises(KeyNotFound, match="there is no file"):
        opened(folder / "missing.db").load("ch/a")
    assert not (folder / "missing.db").exists()


def test_rows_that_hold_other_types_than_the_saver_writes_do_no_harm(folder: Path) -> None:
    langgraph(folder / "c.db", {"a": 1})
    with closing(sqlite3.connect(folder / "c.db")) as db, db:
        insert = "INSERT INTO checkpoints VALUES (?, ?, ?, ?, ?, ?, ?)"
        db.execute(insert, (b"\xff", "", "a", None, "msgpack", b"\x80", b"{}"))
        db.execute(insert, ("odd", "", 5, 7, 3, 4.5, None))
        db.execute(insert, ("odd", "", "z", None, None, None, None))
        db.execute(insert, ("odd", "", "y", None, "msgpack", "text", "text"))
    assert main(["-s", "langgraph-sqlite:c.db", "namespaces"]) == 0
    odd = opened(folder / "c.db", "odd")
    assert "odd" in odd.namespaces()
    assert len(odd.checkpoints()) == 3
    assert odd.list_keys()
    for words in (["log"], ["diff", "1", "live"], ["export", "out.jsonl"]):
        assert main(["-s", "langgraph-sqlite:c.db", "-n", "odd", *words]) == 0


def test_a_folder_that_nobody_may_write_to_gets_no_file(folder: Path) -> None:
    inside = folder / "inside"
    inside.mkdir()
    path = langgraph(inside / "c.db", {"a": 1})
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA journal_mode = wal")
    inside.chmod(0o555)
    try:
        assert opened(path).load("ch/a") == 1
        assert os.listdir(inside) == ["c.db"]
    finally:
        inside.chmod(0o755)


def test_the_owner_writes_while_a_reader_has_it_open(folder: Path) -> None:
    path = langgraph(folder / "c.db", {"a": 1})
    with closing(sqlite3.connect(path, timeout=0)) as db:
        db.execute("PRAGMA journal_mode = wal")
        state = opened(path)
        for number in range(2, 6):
            langgraph(path, {"a": number})
            assert state.load("ch/a") == number
            assert db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0  # no reader is in its way


def test_own_stores_load_nothing_of_it(folder: Path) -> None:
    code = (
        "import sys; from stateview import StateManager; StateManager('sqlite:s', 'n').save('k', 1);"
        "assert not [name for name in sys.modules if 'foreign' in name and 'stateview' in name]"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=folder)
