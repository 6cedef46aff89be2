"""Stores of other programs, made by hand in their formats: for what their libraries write seldom, or never."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import msgspec

CREWAI = """CREATE TABLE IF NOT EXISTS checkpoints (id TEXT PRIMARY KEY, created_at TEXT NOT NULL, parent_id TEXT,
    branch TEXT NOT NULL DEFAULT 'main', data JSONB NOT NULL)"""
FLOWS = """CREATE TABLE IF NOT EXISTS flow_states (id INTEGER PRIMARY KEY AUTOINCREMENT, flow_uuid TEXT NOT NULL,
    method_name TEXT NOT NULL, timestamp DATETIME NOT NULL, state_json TEXT NOT NULL)"""
CHECKPOINTS = """CREATE TABLE checkpoints (thread_id TEXT NOT NULL, checkpoint_ns TEXT NOT NULL DEFAULT '',
    checkpoint_id TEXT NOT NULL, parent_checkpoint_id TEXT, type TEXT, checkpoint BLOB, metadata BLOB,
    PRIMARY KEY (thread_id, checkpoint_ns, checkpoint_id))"""
WRITES = """CREATE TABLE writes (thread_id TEXT NOT NULL, checkpoint_ns TEXT NOT NULL DEFAULT '',
    checkpoint_id TEXT NOT NULL, task_id TEXT NOT NULL, idx INTEGER NOT NULL, channel TEXT NOT NULL, type TEXT,
    value BLOB, PRIMARY KEY (thread_id, checkpoint_ns, checkpoint_id, task_id, idx))"""


def langgraph(path: Path, *states: dict[str, Any], thread: str = "t", part: str = "") -> Path:
    """Add checkpoints to a thread, each with these channels, as LangGraph's `SqliteSaver` stores them."""
    with closing(sqlite3.connect(path)) as db, db:
        if not list(db.execute("SELECT 1 FROM sqlite_schema")):
            db.execute(CHECKPOINTS)
            db.execute(WRITES)
        (before,) = db.execute(
            "SELECT count(*) FROM checkpoints WHERE thread_id = ? AND checkpoint_ns = ?", (thread, part)
        ).fetchone()
        for number, channels in enumerate(states, before + 1):
            packed = msgspec.msgpack.encode({"v": 4, "id": name(number), "channel_values": channels})
            row = (thread, part, name(number), name(number - 1), "msgpack", packed, metadata(number))
            db.execute("INSERT INTO checkpoints VALUES (?, ?, ?, ?, ?, ?, ?)", row)
    return path


def name(number: int) -> str:
    return f"1f1ebe4f-c7db-63e4-8000-{number:012}"


def metadata(step: int) -> bytes:
    return json.dumps({"source": "loop", "step": step}).encode()


def ext(code: int, *content: Any) -> msgspec.msgpack.Ext:
    """An extension value of LangGraph's serializer: of an object with a module and a name, and so on."""
    return msgspec.msgpack.Ext(code, msgspec.msgpack.encode(content))


def message(kind: str, content: str) -> msgspec.msgpack.Ext:
    fields = {"content": content, "type": kind}
    return ext(5, f"langchain_core.messages.{kind}", f"{kind.title()}Message", fields, "model_validate_json")


def crewai(place: Path, *inputs: Any, branch: str = "main") -> Path:
    """Add checkpoints of a crew, as the providers of CrewAI 1.15 write them: to a database, or to a folder of files."""
    parent: str | None = None
    for number, value in enumerate(inputs):
        identifier = f"20260131T0900{number:02}_{len(branch):08x}"
        crew = {"name": "crew", "checkpoint_inputs": value, "tasks": [{"output": "x" * number}]}
        document = {
            "crewai_version": "1.15.30", "parent_id": parent, "branch": branch, "entities": [crew],
            "event_record": {"nodes": {}},
        }  # fmt: skip
        if place.suffix == ".db":
            with closing(apsw.Connection(str(place))) as db:
                db.execute("PRAGMA journal_mode=WAL")
                db.execute(CREWAI)
                row = (identifier, identifier[:15], parent, branch, json.dumps(document))
                db.execute("INSERT INTO checkpoints VALUES (?, ?, ?, ?, jsonb(?))", row)
        else:
            (place / branch).mkdir(parents=True, exist_ok=True)
            (place / branch / f"{identifier}_p-{parent or 'none'}.json").write_text(json.dumps(document))
        parent = identifier
    return place


def crewai_flow(path: Path, *states: tuple[str, Any], flow: str = "flow-1") -> Path:
    """Add the states of a flow, each with the method that it came after, as CrewAI's `SQLiteFlowPersistence` does."""
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(FLOWS)
        for number, (method, state) in enumerate(states):
            row = (flow, method, f"2026-01-31T09:00:{number:02}+00:00", json.dumps(state))
            db.execute(
                "INSERT INTO flow_states (flow_uuid, method_name, timestamp, state_json) VALUES (?, ?, ?, ?)", row
            )
    return path
