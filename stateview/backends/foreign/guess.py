"""Tell by its content what store a path leads to: one of stateview's own, or another program's."""

from __future__ import annotations

import os
import re

import apsw
from msgspec import Struct

from ...errors import InvalidName
from .sqlite_file import MAGIC, SqliteFile

_HINT = "Give a store URL, such as sqlite:PATH or langgraph-sqlite:PATH: see 'stateview help namespaces'"
_OWN = {"state.db": "sqlite", "state.json": "json", "history.jsonl": "json"}
_CREWAI = re.compile(r"\d{8}T\d{6}_[0-9a-f]{8}(_p-.*)?\.json")
_SHARD = re.compile(r"\d{3}")
_MAX_ENTRIES = 10_000  # of a folder that are looked at


class Guess(Struct, frozen=True):
    """What a path was found to be: a store URL, its description, and the namespace if the path names one."""

    url: str
    found: str
    namespace: str | None = None

    @property
    def is_foreign(self) -> bool:
        """Return whether it is another program's store."""
        return self.url.partition(":")[0] not in _OWN.values()


def guess(path: str) -> Guess:
    """Tell what store a file or folder is. It reads names of files, and the tables of a database.

    Raises:
        InvalidName: it is none that is known.
        Damaged, BackendError: it cannot be read.

    """
    found = find_guess(path)
    if found is None:
        raise InvalidName(f"{path} is no store that stateview can tell by its content", _HINT)
    return found


def find_guess(path: str) -> Guess | None:
    """Tell as `guess` does; None if it is no store that is known."""
    return _of_folder(path) if os.path.isdir(path) else _of_file(path)


def _of_folder(path: str) -> Guess | None:
    with os.scandir(path) as entries:
        names = sorted(entry.name for _, entry in zip(range(_MAX_ENTRIES), entries, strict=False))
    if "cache.db" in names:
        return Guess(f"diskcache:{path}", "a cache of diskcache")
    for name, kind in _OWN.items():
        if name in names:
            return _own(path, kind)
    inside = [(name, os.path.join(path, name)) for name in names if os.path.isdir(os.path.join(path, name))]
    for name, kind in _OWN.items():
        if any(os.path.exists(os.path.join(folder, name)) for _, folder in inside):
            return Guess(f"{kind}:{path}", "a store of stateview")
    if any(_SHARD.fullmatch(name) and os.path.exists(os.path.join(folder, "cache.db")) for name, folder in inside):
        return Guess(f"diskcache:{path}", "a FanoutCache of diskcache")
    if any(_is_branch(folder) for _, folder in inside):
        return Guess(f"crewai:{path}", "a folder of CrewAI's checkpoints")
    return None


def _is_branch(folder: str) -> bool:
    with os.scandir(folder) as entries:
        return any(_CREWAI.fullmatch(entry.name) for _, entry in zip(range(_MAX_ENTRIES), entries, strict=False))


def _of_file(path: str) -> Guess | None:
    folder, name = os.path.split(os.path.abspath(path))
    if os.path.isfile(path):
        with open(path, "rb") as file:
            start = file.read(len(MAGIC))
        if start == MAGIC:
            return _of_database(path, folder)
        if _OWN.get(name) == "json":
            return _own(folder, "json")
    return None


def _of_database(path: str, folder: str) -> Guess | None:
    columns = SqliteFile(path, {}, "a database", timeout=5.0).read(_columns)
    if {"thread_id", "checkpoint_ns"} <= columns.get("checkpoints", set()):
        return Guess(f"langgraph-sqlite:{path}", "a database of LangGraph's SqliteSaver")
    if {"created_at", "parent_id", "branch", "data"} <= columns.get("checkpoints", set()):
        return Guess(f"crewai:{path}", "a database of CrewAI's checkpoints")
    if {"flow_uuid", "method_name", "state_json"} <= columns.get("flow_states", set()):
        return Guess(f"crewai:{path}", "a database of CrewAI's flows")
    if {"entries", "commits"} <= columns.keys() and os.path.basename(path) == "state.db":
        return _own(folder, "sqlite")
    if {"key", "raw", "mode"} <= columns.get("Cache", set()) and os.path.basename(path) == "cache.db":
        return Guess(f"diskcache:{folder}", "a cache of diskcache")
    return None


def _columns(db: apsw.Connection) -> dict[str, set[str]]:
    """Return the columns of each table, in small letters where SQLite does not tell them apart."""
    query = """SELECT tables.name, columns.name FROM sqlite_schema AS tables, pragma_table_info(tables.name) AS columns
        WHERE tables.type = 'table'"""
    found: dict[str, set[str]] = {}
    for table, column in db.execute(query):
        found.setdefault(table, set()).add(column)
    return found


def _own(folder: str, kind: str) -> Guess:
    """Return the namespace that is a folder of a store of stateview."""
    root, namespace = os.path.split(os.path.abspath(folder))
    return Guess(f"{kind}:{root}", "a namespace of stateview", namespace)
