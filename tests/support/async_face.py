"""A pytest plugin: tests of StateManager run through AsyncStateManager, each call on an event loop.

    python -m pytest -p async_face tests/manager/test_rename_expire_undo.py

`stateview.StateManager` becomes a class whose public methods call those of AsyncStateManager, and wait. Objects that it
returns are such classes too. They share their attributes with the real ones, so that tests may look inside.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from contextlib import contextmanager
from functools import wraps
from typing import Any

import stateview
from stateview.aio import extras
from stateview.encryption import Encryption
from stateview.transfer.import_job import ImportJob

SPECIAL = {"__contains__": "contains", "__iter__": "__aiter__"}
_calls: list[str] = []
_loop = asyncio.new_event_loop()
threading.Thread(target=_loop.run_forever, daemon=True).start()


async def outcome(coroutine: Any) -> tuple[Any, BaseException | None]:
    try:
        return await coroutine, None
    except BaseException as error:  # KeyboardInterrupt would end the loop
        return None, error


def run(coroutine: Any) -> Any:
    """Run a coroutine on the loop, and wait for it."""
    _calls.append(getattr(coroutine, "__name__", ""))
    result, error = asyncio.run_coroutine_threadsafe(outcome(coroutine), _loop).result()
    if error is not None:
        raise error
    return result


def to_sync(result: Any) -> Any:
    """Make of what an asynchronous method returns what the synchronous one would return."""
    if inspect.iscoroutine(result):
        return to_sync(run(result))
    if inspect.isasyncgen(result):
        return iterate(result)
    if type(result) in CLASSES:
        return CLASSES[type(result)](_face=result)
    return opened(result) if hasattr(result, "__aenter__") else result


def iterate(items: Any) -> Any:
    end = object()
    try:
        while (item := run(anext(items, end))) is not end:
            yield item
    finally:
        run(items.aclose())


@contextmanager
def opened(context: Any) -> Any:
    value = to_sync(run(context.__aenter__()))
    try:
        yield value
    except BaseException as error:
        if not run(context.__aexit__(type(error), error, error.__traceback__)):
            raise
    else:
        run(context.__aexit__(None, None, None))


def shim(sync: type, face: type) -> type:
    """Make a class of a synchronous one, whose public members are those of the asynchronous one."""

    @wraps(sync.__init__)
    def __init__(self: Any, *args: Any, _face: Any = None, **kwargs: Any) -> None:
        found = _face if _face is not None else face(*args, **kwargs)
        self.__dict__ = found._wrapped.__dict__
        self.__dict__["_face"] = found

    def through(name: str, member: Any) -> Any:
        function = member.fget if isinstance(member, property) else member

        @wraps(function)
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            found = getattr(self._face, SPECIAL.get(name, name))
            if not callable(found):
                return found
            return to_sync(found(*(getattr(one, "_face", one) for one in args), **kwargs))

        return property(call) if isinstance(member, property) else call

    members = {"__init__": __init__, "__exit__": lambda self, *_: self.close()}
    for name, member in vars(sync).items():
        known = SPECIAL.get(name, name)
        if (
            (name[0] != "_" or name in SPECIAL)
            and hasattr(face, known)
            and (callable(member) or hasattr(member, "fget"))
        ):
            members[name] = through(name, member)
    return type(sync.__name__, (sync,), members)


CLASSES = {
    face: shim(sync, face)
    for sync, face in (
        (stateview.StateManager, stateview.AsyncStateManager),
        (stateview.StateView, stateview.AsyncStateView),
        (stateview.Transaction, stateview.AsyncTransaction),
        (stateview.Diff, stateview.AsyncDiff),
        (Encryption, extras.AsyncEncryption),
        (ImportJob, extras.AsyncImportJob),
    )
}
stateview.StateManager = CLASSES[stateview.AsyncStateManager]  # type: ignore[misc]


def pytest_terminal_summary(terminalreporter: Any) -> None:
    terminalreporter.write_line(f"{len(_calls)} calls went through AsyncStateManager")
