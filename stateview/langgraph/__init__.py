"""Keep the threads of LangGraph: `StateviewSaver`, a checkpointer. Install it with `stateview[langgraph]`."""

from __future__ import annotations

from .saver import StateviewSaver

__all__ = ["StateviewSaver"]
