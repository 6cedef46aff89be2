"""Look into the stores of other programs, read-only: LangGraph, CrewAI, diskcache, and the plain keys of a Redis.

The entry points of the group `stateview.backends` name the kinds below, so that a store of stateview's own imports
nothing of this package. `references/other-stores.md` tells what each kind shows.

- Nothing foreign is executed: no class is imported, and no pickle is opened. What cannot be decoded is shown as opaque.
- Nothing is written. A database is opened for reading only, in short transactions.
"""

from __future__ import annotations

from typing import Any

from .. import BackendKind, Store
from ..protocol import Backend


def _langgraph_sqlite(store: Store, namespace: str, **options: Any) -> Backend:
    from .langgraph_sqlite import LangGraphSqlite

    return LangGraphSqlite(store, namespace, **options)


def _diskcache(store: Store, namespace: str, **options: Any) -> Backend:
    from .diskcache import DiskCache

    return DiskCache(store, namespace, **options)


def _redis_keys(store: Store, namespace: str, **options: Any) -> Backend:
    from .redis_keys import RedisKeys

    return RedisKeys(store, namespace, **options)


def _crewai(store: Store, namespace: str, **options: Any) -> Backend:
    from .crewai import CrewAI, CrewAIFlows, holds_flows

    return (CrewAIFlows if holds_flows(store.place) else CrewAI)(store, namespace, **options)


LANGGRAPH_SQLITE = BackendKind(
    "langgraph-sqlite", "LangGraph's SQLite saver", _langgraph_sqlite, ("langgraph-sqlite",), takes_path=True,
    foreign=True,
)  # fmt: skip
DISKCACHE = BackendKind("diskcache", "a cache of diskcache", _diskcache, ("diskcache",), takes_path=True, foreign=True)
REDIS_KEYS = BackendKind(
    "redis-keys", "the plain keys of a Redis server", _redis_keys, ("redis-keys",), slow_import=True,
    server=True, foreign=True, options=("quiet",),
)  # fmt: skip
CREWAI = BackendKind("crewai", "CrewAI's checkpoints or flows", _crewai, ("crewai",), takes_path=True, foreign=True)
