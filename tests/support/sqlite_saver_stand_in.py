"""A plugin of pytest: LangGraph's own tests of `SqliteSaver` get a `StateviewSaver` in its place.

`STAND_IN_STORE` is the store URL, and `STAND_IN_THREADS` the mode. Each saver that a test opens begins empty.
"""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from itertools import count
from typing import Any

import redis
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

from stateview.langgraph import StateviewSaver

_STORE, _MODE = os.environ["STAND_IN_STORE"], os.environ["STAND_IN_THREADS"]
_numbers = count()


@contextmanager
def _opened(_: str) -> Iterator[StateviewSaver]:
    store = _STORE
    if store.startswith("redis:"):
        with redis.Redis.from_url(store) as client:
            client.flushdb()
    else:
        store += f"-{next(_numbers)}"
    with StateviewSaver(store, threads=_MODE, quiet=True) as saver:  # type: ignore[arg-type]
        yield saver


@asynccontextmanager
async def _opened_by_async(_: str) -> AsyncIterator[StateviewSaver]:
    with _opened(_) as saver:
        yield saver


def pytest_pyfunc_call(pyfuncitem: Any) -> bool | None:
    """Run a test that is a coroutine function, as LangGraph's own plugin does."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True


SqliteSaver.from_conn_string = staticmethod(_opened)  # type: ignore[assignment]
AsyncSqliteSaver.from_conn_string = staticmethod(_opened_by_async)  # type: ignore[assignment]
