"""A graph runs on a saver, a person changes its thread by stateview, and the graph goes on from that."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest

from stateview import KeyWrong, StateManager

MODES = ("namespaces", pytest.param("keys", marks=pytest.mark.stress))


def ask(graph: Any, text: str, name: str = "t1") -> list[str]:
    from agents import said, thread

    return said(graph.invoke({"messages": [("user", text)]}, thread(name)))


@pytest.mark.parametrize("mode", MODES)
def test_a_graph_goes_on_from_what_was_restored_whole_or_one_channel(store_url: str, mode: str) -> None:
    from agents import agent, said, thread

    from stateview.langgraph import StateviewSaver

    with StateManager(store_url, "all") as state, StateviewSaver(state, threads=mode) as saver:
        graph = agent(saver)
        assert ask(graph, "apples") == ["apples", "1 messages about a"]
        first = graph.get_state(thread("t1"))
        assert ask(graph, "bears")[2:] == ["bears", "3 messages about ab"]
        ask(graph, "other", "t2")
        own = state if mode == "keys" else StateManager(store_url, "t1")
        keys, root = ("t1/*", "t1/") if mode == "keys" else (None, "")
        name = next(one for one in own.list_checkpoints() if first.config["configurable"]["checkpoint_id"] in one)

        # One message more is what a diff of two states shows
        [change] = own.diff(name, keys=[f"{root}ch/messages"])
        assert [(path.path, path.kind, path.after["content"]) for path in change.paths] == [
            ("/2", "added", "bears"), ("/3", "added", "3 messages about ab"),
        ]  # fmt: skip

        own.restore_checkpoint(name, keys=[f"{root}ch/topic"])  # one channel
        live = graph.get_state(thread("t1"))
        assert (live.values["topic"], len(said(live))) == ("a", 4)
        assert ask(graph, "cats")[4:] == ["cats", "5 messages about ac"]

        own.restore_checkpoint(name, keys=keys)  # the whole thread
        assert said(graph.get_state(thread("t1"))) == ["apples", "1 messages about a"]
        assert graph.get_state(thread("t1")).config == first.config
        assert ask(graph, "dogs") == ["apples", "1 messages about a", "dogs", "3 messages about ad"]
        middle = next(one for one in graph.get_state_history(thread("t1")) if one.next == ("answer",))
        middle_id = middle.config["configurable"]["checkpoint_id"]
        own.restore_checkpoint(next(one for one in own.list_checkpoints() if middle_id in one), keys=keys)
        assert graph.get_state(thread("t1")).next == ("answer",)
        own.undo()
        assert graph.get_state(thread("t1")).next == ()
        own.redo()
        assert said(graph.invoke(None, thread("t1")))[-1] == "3 messages about ad"
        assert said(graph.get_state(thread("t2"))) == ["other", "1 messages about o"]


@pytest.mark.stress
def test_time_travel_forks_and_the_last_run_is_live(store_url: str) -> None:
    from agents import agent, said, thread

    from stateview.langgraph import StateviewSaver

    with StateviewSaver(store_url) as saver:
        graph = agent(saver)
        ask(graph, "apples")
        ask(graph, "bears")
        history = list(graph.get_state_history(thread("t1")))
        past = next(one for one in history if one.next == ("answer",) and len(said(one)) == 1)
        assert said(graph.invoke(None, past.config)) == ["apples", "1 messages about a"]
        edited = graph.update_state(past.config, {"topic": "zebras"})
        assert said(graph.invoke(None, edited)) == ["apples", "1 messages about zebras"]
        assert said(graph.get_state(thread("t1"))) == ["apples", "1 messages about zebras"]
        for one in history:  # what is past stays as it was
            assert graph.get_state(one.config).values == one.values
        assert len(list(graph.get_state_history(thread("t1")))) > len(history)


@pytest.mark.stress
@pytest.mark.parametrize("mode", ["namespaces", "keys"])
def test_a_subgraph_is_kept_in_its_thread_and_goes_on_after_an_interrupt(store_url: str, mode: str) -> None:
    from agents import State, agent, said, thread
    from langgraph.graph import START, StateGraph
    from langgraph.types import Command, interrupt

    from stateview.langgraph import StateviewSaver

    def confirm(state: State) -> State:
        return {"topic": interrupt("which topic?")}

    with StateManager(store_url, "all") as state, StateviewSaver(state, threads=mode) as saver:
        inner = StateGraph(State)
        inner.add_node("confirm", confirm)
        inner.add_node("answer", agent(None))
        inner.add_edge(START, "confirm")
        inner.add_edge("confirm", "answer")
        outer = StateGraph(State)
        outer.add_node("inner", inner.compile())
        outer.add_edge(START, "inner")
        graph = outer.compile(checkpointer=saver)
        found = graph.invoke({"messages": [("user", "apples")]}, thread("a thread/1"))
        assert found["__interrupt__"][0].value == "which topic?"
        snapshot = graph.get_state(thread("a thread/1"), subgraphs=True)
        assert snapshot.tasks[0].state.next == ("confirm",)
        own = state if mode == "keys" else StateManager(store_url, "thread.a.20thread.2f1")
        asked = own.checkpoint("asked")
        done = said(graph.invoke(Command(resume="pears "), thread("a thread/1")))
        assert done == ["apples", "1 messages about pears a"]
        own.restore_checkpoint(asked)
        again = said(graph.invoke(Command(resume="plums "), thread("a thread/1")))
        assert again == ["apples", "1 messages about plums a"]
        assert any(key.split("sub/")[-1].startswith("inner:") for key in own.list_keys() if "sub/" in key)


@pytest.mark.stress
def test_a_channel_of_deltas_is_computed_from_writes_also_after_a_restore_and_a_prune(store_url: str) -> None:
    from agents import said, thread
    from langchain_core.messages import AnyMessage
    from langgraph.channels.delta import DeltaChannel
    from langgraph.graph import START, StateGraph
    from langgraph.graph.message import _messages_delta_reducer

    from stateview.langgraph import StateviewSaver

    channel = Annotated[list[AnyMessage], DeltaChannel(_messages_delta_reducer, snapshot_frequency=4)]
    Deltas = TypedDict("Deltas", {"messages": channel})  # noqa: UP013 - annotations of a class would be texts
    with StateviewSaver(store_url) as saver:
        graph = StateGraph(Deltas)
        graph.add_node("echo", lambda state: {"messages": [("ai", f"{len(state['messages'])}")]})
        graph.add_edge(START, "echo")
        graph = graph.compile(checkpointer=saver)
        for number in range(7):
            graph.invoke({"messages": [("user", f"q{number}")]}, thread("t1"))
        whole = said(graph.get_state(thread("t1")))
        assert len(whole) == 14
        history = list(graph.get_state_history(thread("t1")))
        states = [(one.config, said(one)) for one in history if "messages" in one.values]
        past = next(config for config, messages in states if len(messages) == 6)
        own = StateManager(store_url, "t1")
        own.restore_checkpoint(f"c-{past['configurable']['checkpoint_id']}")
        assert said(graph.get_state(thread("t1"))) == whole[:6]
        for config, messages in states:
            assert said(graph.get_state(config)) == messages
        assert said(graph.invoke({"messages": [("user", "new")]}, thread("t1"))) == [*whole[:6], "new", "7"]
        saver.prune(["t1"])
        assert said(graph.get_state(thread("t1"))) == [*whole[:6], "new", "7"]


@pytest.mark.stress
def test_async_graphs_of_many_threads_at_once(store_url: str) -> None:
    from agents import agent, said, thread

    from stateview.langgraph import StateviewSaver

    async def main() -> None:
        with StateviewSaver(store_url) as saver:
            graph = agent(saver)

            async def talk(name: str) -> list[str]:
                for text in ("apples", "bears"):
                    found = await graph.ainvoke({"messages": [("user", text)]}, thread(name))
                return said(found)

            done = await asyncio.gather(*(talk(f"t{number}") for number in range(6)))
            assert {tuple(messages) for messages in done} == {
                ("apples", "1 messages about a", "bears", "3 messages about ab"),
            }  # fmt: skip
            listed = [one async for one in saver.alist(thread("t3"))]
            assert len(listed) == 8
            await saver.acopy_thread("t3", "copy")
            copied = [one async for one in saver.alist(thread("copy"))]
            assert [one.checkpoint for one in copied] == [one.checkpoint for one in listed]
            assert [one.pending_writes for one in copied] == [one.pending_writes for one in listed]
            assert said(await graph.ainvoke({"messages": [("user", "cats")]}, thread("copy")))[4:] == [
                "cats", "5 messages about abc",
            ]  # fmt: skip

    asyncio.run(main())


@pytest.mark.stress
def test_two_writers_to_a_thread_lose_nothing_and_one_of_them_is_live(store_url: str) -> None:
    from agents import agent, said, thread

    from stateview.langgraph import StateviewSaver

    with StateviewSaver(store_url) as saver:
        ask(agent(saver), "start")
    failed: list[BaseException] = []

    def talk(name: str) -> None:
        try:
            with StateviewSaver(store_url) as own:
                for number in range(3):
                    ask(agent(own), f"{name}{number}")
        except BaseException as error:
            failed.append(error)
            raise

    writers = [threading.Thread(target=talk, args=(name,)) for name in ("a", "b")]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert not failed
    with StateviewSaver(store_url) as saver:
        listed = list(saver.list(thread("t1")))
        assert len({one.checkpoint["id"] for one in listed}) == 4 * 7
        held = {one.checkpoint["id"]: one.checkpoint["channel_values"].get("messages", []) for one in listed}
        for one in listed:  # each branch is whole: it has all of its parent, and a message more at most
            if one.parent_config is not None:
                messages, before = held[one.checkpoint["id"]], held[one.parent_config["configurable"]["checkpoint_id"]]
                assert messages[: len(before)] == before
                assert len(messages) <= len(before) + 1
        assert said(agent(saver).get_state(thread("t1")))[:1] == ["start"]


KILLED = """
import os, sys
sys.path.insert(0, sys.argv[3])
from agents import agent, thread
from stateview.langgraph import StateviewSaver
left = int(sys.argv[2])
def after(node):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), 9)
with StateviewSaver(sys.argv[1]) as saver:
    graph = agent(saver, after=after)
    for text in ("apples", "bears"):
        graph.invoke({"messages": [("user", text)]}, thread("t1"), durability="sync")
"""


@pytest.mark.stress
@pytest.mark.parametrize("kind", ["json", "sqlite"])
def test_a_run_that_was_killed_is_resumed_where_it_was(store_url: str) -> None:
    from agents import agent, said, thread

    from stateview.langgraph import StateviewSaver

    support = str(Path(__file__).parent.parent / "support")
    environment = {**os.environ, "PYTHONPATH": support}
    for step in (1, 2, 4):
        url = f"{store_url}-{step}"
        done = subprocess.run(
            [sys.executable, "-c", KILLED, url, str(step), support], env=environment, check=False, capture_output=True
        )
        assert done.returncode == -signal.SIGKILL, done.stderr
        with StateviewSaver(url) as saver:
            graph = agent(saver)
            assert graph.get_state(thread("t1")).next == ("think",) if step == 1 else ("answer",)
            found = said(graph.invoke(None, thread("t1")))
            assert found == ["apples", "1 messages about a", "bears", "3 messages about ab"][: 2 if step < 3 else 4]
            assert StateManager(url, "t1").doctor().ok


@pytest.mark.stress
def test_one_channel_is_restored_in_the_dashboard_and_the_graph_goes_on_with_it(store_url: str) -> None:
    from agents import agent, said, thread
    from dashboard_host import compared, shown

    from stateview.dashboard.app import Dashboard
    from stateview.dashboard.widgets.timeline import Timeline
    from stateview.langgraph import StateviewSaver

    async def restore(name: str) -> None:
        app = Dashboard(StateManager(store_url, "t1", author="a person"))
        async with app.run_test(size=(120, 40), notifications=True) as pilot:
            await shown(pilot, "ch/messages", "ch/topic")
            assert app.main is not None
            app.main.query_one(Timeline).go_to(name)
            await shown(pilot, "AS OF c-")
            await pilot.press("2", "j", "j")
            await shown(pilot, "3 Value · ch/topic")
            await pilot.press("r")
            await shown(pilot, "this key: ch/topic")
            await pilot.press("enter")
            await shown(pilot, "1 of 1 marked")
            await compared(pilot)
            await pilot.press("y")
            await shown(pilot, "z undoes")

    with StateviewSaver(store_url) as saver:
        graph = agent(saver)
        ask(graph, "apples")
        first = graph.get_state(thread("t1")).config["configurable"]["checkpoint_id"]
        ask(graph, "bears")
        asyncio.run(asyncio.wait_for(restore(f"c-{first}"), 60))
        live = graph.get_state(thread("t1")).values
        assert (live["topic"], len(said(live)), live["steps"]) == ("a", 4, 4)
        assert ask(graph, "cats")[4:] == ["cats", "5 messages about ac"]
        assert [one.author for one in StateManager(store_url, "t1").log() if "restore" in one.reason] == ["a person"]


def test_a_graph_goes_on_after_the_keys_of_its_encrypted_thread_are_rotated(tmp_path: Path) -> None:
    from agents import agent, said, thread

    from stateview.langgraph import StateviewSaver

    def plain() -> list[str]:
        words = [b"apples", b"bears", b"messages about", b"HumanMessage"]
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert any(path.name == "state.db" for path in files)
        return [path.name for path in files for word in words if word in path.read_bytes()]

    url, new_key = f"sqlite:{tmp_path}/store", StateManager(f"sqlite:{tmp_path}/store").encryption.new_key
    first, second = new_key(), new_key()
    with StateviewSaver(url, encryption_key=first) as saver:
        ask(agent(saver), "apples")
        assert plain() == []
        StateManager(url, "t1", encryption_key=first).encryption.rotate_key(second)
        with pytest.raises(KeyWrong):
            ask(agent(saver), "bears")
    with StateviewSaver(url, encryption_key=second) as saver:
        StateManager(url, "t1", encryption_key=second).encryption.rotate_data_key()
        graph = agent(saver)
        assert ask(graph, "bears") == ["apples", "1 messages about a", "bears", "3 messages about ab"]
        assert [len(one.values.get("messages", [])) for one in graph.get_state_history(thread("t1"))] == [
            4, 3, 3, 2, 2, 1, 1, 0,
        ]  # fmt: skip
        assert said(list(graph.get_state_history(thread("t1")))[4]) == ["apples", "1 messages about a"]
        assert plain() == []


DOCUMENT = Path(__file__).parent.parent.parent / "references" / "langgraph.md"


def blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)


def run_block(block: str) -> None:
    exec(compile(block, "langgraph.md", "exec", dont_inherit=True), {"__name__": "document"})


def test_threads_of_another_saver_are_taken_over_and_go_on(folder: Path) -> None:
    from agents import State, agent, said, thread
    from langgraph.checkpoint.sqlite import SqliteSaver
    from langgraph.graph import START, StateGraph
    from langgraph.types import Command, interrupt

    from stateview.langgraph import StateviewSaver

    def made(saver: Any) -> Any:
        inner = StateGraph(State).add_node("confirm", lambda state: {"topic": interrupt("which?")})
        graph = StateGraph(State).add_node("inner", inner.add_edge(START, "confirm").compile(checkpointer=True))
        graph.add_node("count", lambda state: {"steps": 1}).add_node("answer", agent(None))
        graph.add_edge(START, "inner").add_edge(START, "count").add_edge(["inner", "count"], "answer")
        return graph.compile(checkpointer=saver)

    def states(graph: Any, name: str) -> list[Any]:
        every = [*graph.get_state_history(thread(name)), graph.get_state(thread(name), subgraphs=True)]
        return [one for state in every for one in (state, *(task.state for task in state.tasks))]

    names = ("t1", "user@x")
    with SqliteSaver.from_conn_string("runs.sqlite") as old:
        graph = made(old)
        ask(graph, "apples", "t1")
        first = graph.get_state(thread("t1")).config
        graph.invoke(Command(resume="pears "), thread("t1"))
        graph.invoke(None, {"configurable": {**thread("t1")["configurable"], **first["configurable"]}})  # a branch
        ask(graph, "bears", "t1")
        ask(graph, "cats", "user@x")
        before = {name: states(graph, name) for name in names}
        [copy] = [block for block in blocks() if "SqliteSaver" in block]
        run_block(copy)
        run_block(copy)
        with StateviewSaver("sqlite:./agents") as saver:
            own = made(saver)
            assert {name: states(own, name) for name in names} == before
            assert own.get_state(thread("t1")).next == ("inner",)
            for name in names:
                done = said(own.invoke(Command(resume="plums "), thread(name)))
                assert done == said(graph.invoke(Command(resume="plums "), thread(name)))
                assert "plums" in done[-1]


@pytest.mark.stress
def test_the_code_of_the_document_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    assert len(blocks()) == 3
    for block in blocks():
        run_block(block)
    assert capsys.readouterr().out.splitlines() == [
        "ch/draft about bees about ants", "ch/topic bees ants", "{'topic': 'bees', 'draft': 'about ants'}",
    ]  # fmt: skip
