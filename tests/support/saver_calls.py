"""Checkpoints with few members, as LangGraph gives them to a saver."""

from __future__ import annotations

from typing import Any


def config(thread: str, identifier: str | None = None, graph: str = "") -> Any:
    chosen = {"thread_id": thread, "checkpoint_ns": graph}
    return {"configurable": chosen if identifier is None else {**chosen, "checkpoint_id": identifier}}


def made(number: int, values: dict[str, Any], versions: dict[str, Any] | None = None) -> Any:
    return {
        "v": 4, "id": f"id-{number:04}", "ts": "2026-01-01", "channel_values": values, "versions_seen": {},
        "channel_versions": versions or dict.fromkeys(values, number), "updated_channels": None,
    }  # fmt: skip


def put(saver: Any, thread: str, number: int, values: dict[str, Any], parent: int | None = None, **more: Any) -> None:
    versions = dict.fromkeys(values, number)
    at = config(thread, None if parent is None else f"id-{parent:04}", more.pop("graph", ""))
    saver.put(at, made(number, values, versions), {"source": "loop", "step": number, **more}, versions)


def ids(found: Any) -> list[str]:
    return [one.checkpoint["id"] for one in found]
