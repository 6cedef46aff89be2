"""Agents of LangGraph with a model that says what it is told. Imported inside of tests, since it takes a second."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Annotated, Any, TypedDict

from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, AnyMessage, BaseMessage
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages


class State(TypedDict, total=False):
    messages: Annotated[list[AnyMessage], add_messages]
    topic: str
    steps: Annotated[int, operator.add]


def agent(saver: Any, *, after: Callable[[str], object] = lambda node: None, **options: Any) -> Any:
    """A graph of two nodes: `think` sets the topic, and `answer` asks a model that counts the messages it was given."""

    def think(state: State) -> State:
        after("think")
        return {"topic": state.get("topic", "") + str(state["messages"][-1].content)[:1], "steps": 1}

    def answer(state: State) -> State:
        after("answer")
        said = AIMessage(f"{len(state['messages'])} messages about {state['topic']}")
        model = GenericFakeChatModel(messages=iter([said]))
        return {"messages": [model.invoke(state["messages"])], "steps": 1}

    graph = StateGraph(State)
    graph.add_node("think", think)
    graph.add_node("answer", answer)
    graph.add_edge(START, "think")
    graph.add_edge("think", "answer")
    graph.add_edge("answer", END)
    return graph.compile(checkpointer=saver, **options)


def thread(name: str, **more: Any) -> Any:
    return {"configurable": {"thread_id": name, **more}}


def said(state: dict[str, Any] | Any) -> list[str]:
    """What the messages of a state say."""
    messages: list[BaseMessage] = (state if isinstance(state, dict) else state.values)["messages"]
    return [str(message.content) for message in messages]
