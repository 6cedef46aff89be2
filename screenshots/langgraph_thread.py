"""Pictures of a LangGraph thread in the dashboard: `python screenshots/langgraph_thread.py`. Needs chromium."""

from __future__ import annotations

import asyncio
import operator
import os
import tempfile
from typing import Annotated, Any, TypedDict

from dashboard import SIZE, take, until
from langchain_core.messages import AIMessage, AnyMessage
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages

from stateview import StateManager
from stateview.dashboard.app import Dashboard
from stateview.dashboard.widgets.timeline import Timeline
from stateview.langgraph import StateviewSaver

ANSWERS = iter(["It is in Lyon.", "By train, two hours.", "A table for two at noon."])


class State(TypedDict, total=False):
    """What the agent knows."""

    messages: Annotated[list[AnyMessage], add_messages]
    city: str
    calls: Annotated[int, operator.add]


def plan(state: State) -> State:
    """Choose a city."""
    city = "Lyon" if len(state["messages"]) < 3 else "Paris"
    return {"city": city, "calls": 1}


def answer(_: State) -> State:
    """Say what the model says."""
    return {"messages": [AIMessage(next(ANSWERS))], "calls": 1}


def run() -> list[str]:
    """Run three turns, and return the names of the checkpoints after them."""
    thread: Any = {"configurable": {"thread_id": "thread-1"}}
    builder = StateGraph(State).add_node("plan", plan).add_node("answer", answer)
    builder.add_edge(START, "plan").add_edge("plan", "answer")
    with StateviewSaver("sqlite:agents", author="agent", quiet=True) as saver:
        graph = builder.compile(checkpointer=saver)
        names = []
        for text in ("Where is the fair?", "How do I get there?", "Book a table."):
            graph.invoke({"messages": [("user", text)]}, thread, durability="sync")
            names.append(f"c-{graph.get_state(thread).config['configurable']['checkpoint_id']}")
    return names


async def walk(names: list[str]) -> None:
    """Take the pictures, in one session: a thread, the diff of two checkpoints, the restore of one channel."""
    app = Dashboard(StateManager("sqlite:agents", "thread-1", author="you"))
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, "ch/messages", "checkpoint")
        await pilot.press("2", "j", "j", "4")
        assert app.main is not None
        timeline = app.main.query_one(Timeline)
        timeline.go_to(names[0])
        await until(pilot, "AS OF c-")
        await take("langgraph-thread", pilot)

        await pilot.press("space")
        timeline.go_to(names[1])
        await until(pilot, f"AS OF {names[1]}")
        await pilot.press("space", "d")
        await until(pilot, f"Diff  {names[0]} → {names[1]}", "How do I get there?", "By train, two hours.")
        await take("langgraph-diff", pilot)

        await pilot.press("escape", "escape")
        timeline.go_to(names[0])
        await until(pilot, f"AS OF {names[0]}")
        await pilot.press("2", "r")
        await until(pilot, "this key: ch/messages")
        await pilot.press("enter")
        await until(pilot, "1 of 1 marked", "A table for two at noon.")
        await take("langgraph-restore", pilot)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        os.environ.pop("NO_COLOR", None)
        asyncio.run(walk(run()))
        os.chdir("/")
