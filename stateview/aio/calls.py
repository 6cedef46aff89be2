"""Make asynchronous methods from synchronous ones, each in one line of a class.

The name, the parameters and the docstring of a method are kept. A type checker gets them by `ParamSpec`, so there is no
stub file to keep in step, and no signature is written twice.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, ExitStack, asynccontextmanager
from functools import partial, wraps
from time import monotonic
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

from .threads import WorkerThreads, finish

_ITEMS_PER_CALL = 256  # of an iterator, at most
_CALL_SECONDS = 0.01  # after which an iterator hands out what it has

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")
W = TypeVar("W")


class Face(Generic[W]):
    """Calls an object on worker threads."""

    def __init__(self, wrapped: W, threads: WorkerThreads) -> None:
        self._wrapped = wrapped
        self._threads = threads

    async def _run(self, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
        return await finish(self._threads.submit(partial(function, self._wrapped, *args, **kwargs)))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._wrapped!r}>"


def call(method: Callable[Concatenate[Any, P], T]) -> Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]:
    """Make a method that awaits a synchronous one."""

    @wraps(method)
    async def await_call(face: Face[Any], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await face._run(method, *args, **kwargs)

    return await_call


def call_giving(
    make: Callable[[Any, WorkerThreads], R], method: Callable[Concatenate[Any, P], Any]
) -> Callable[Concatenate[Any, P], Coroutine[Any, Any, R]]:
    """Make a method that awaits a synchronous one, and returns an asynchronous face of its result."""

    @wraps(method)
    async def await_call(face: Face[Any], /, *args: P.args, **kwargs: P.kwargs) -> R:
        return make(await face._run(method, *args, **kwargs), face._threads)

    return await_call


def stream(
    method: Callable[Concatenate[Any, P], Iterable[T]],
) -> Callable[Concatenate[Any, P], AsyncGenerator[T, None]]:
    """Make a method that is an asynchronous iterator over a synchronous one's items."""

    @wraps(method)
    async def iterate(face: Face[Any], /, *args: P.args, **kwargs: P.kwargs) -> AsyncGenerator[T, None]:
        iterator: Iterator[T] = iter(await face._run(method, *args, **kwargs))
        limit = 1
        try:
            while True:
                items, error = await face._run(take, iterator, limit)
                for item in items:
                    yield item
                if isinstance(error, StopIteration):
                    return
                if error is not None:
                    raise error
                limit = min(limit * 2, _ITEMS_PER_CALL)
        finally:
            if isinstance(iterator, Iterator) and hasattr(iterator, "close"):
                if face._threads.started:
                    await face._run(lambda _: iterator.close())
                else:
                    iterator.close()  # the manager is closed, and starts no thread for this

    return iterate


def opened(
    make: Callable[[Any, WorkerThreads], R], method: Callable[Concatenate[Any, P], AbstractContextManager[Any]]
) -> Callable[Concatenate[Any, P], AbstractAsyncContextManager[R]]:
    """Make a method for `async with` from one for `with`. The block gets an asynchronous face of what is opened."""

    @wraps(method)
    @asynccontextmanager
    async def open_(face: Face[Any], /, *args: P.args, **kwargs: P.kwargs) -> AsyncGenerator[R, None]:
        stack = ExitStack()  # still empty if the call never began
        try:
            found = await face._run(lambda wrapped: stack.enter_context(method(wrapped, *args, **kwargs)))
            yield make(found, face._threads)
        finally:
            error = sys.exc_info()
            await face._run(lambda _: stack.__exit__(*error))

    return open_


def take(_wrapped: object, iterator: Iterator[T], limit: int) -> tuple[list[T], Exception | None]:
    """Return the next items of an iterator, and the error that came instead of more; `StopIteration` at its end."""
    items: list[T] = []
    deadline = monotonic() + _CALL_SECONDS
    try:
        while len(items) < limit and (not items or monotonic() < deadline):
            items.append(next(iterator))
    except Exception as error:
        return items, error
    return items, None


def is_coroutine_function(function: object) -> bool:
    """Return whether calling a function, or an object, gives a coroutine."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004
