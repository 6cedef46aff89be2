"""Functions that are steps inside a run, and plain functions outside of one."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, overload

from ..errors import InvalidArgument
from .context import current, open_runs
from .records import is_coroutine_function
from .run import Run

_F = TypeVar("_F", bound=Callable[..., Any])


@overload
def step(function: _F, /) -> _F: ...
@overload
def step(name: str | None = None, /, **options: Any) -> Callable[[_F], _F]: ...
def step(first: Any = None, /, **options: Any) -> Any:
    """Make a function a step of the run in which it is called; outside of a run it is a plain function.

    Write `@step`, or `@step("fetch", retries=3)`. The step has the function's name, or the one that is given. The
    options are those of `Run.step`. The run is the one whose block or step the call is in. A thread that was started
    without a context belongs to the only run of the process that is open.

    Raises:
        InvalidArgument: in such a thread, several runs are open. Call `run.step` on one of them.

    """
    if callable(first):
        return _made(first, None, {})
    return lambda function: _made(function, first, options)


def _made(function: Callable[..., Any], name: str | None, options: dict[str, Any]) -> Callable[..., Any]:
    title = name or function.__name__

    def called(*args: Any, **kwargs: Any) -> Any:
        run = _run_here()
        if run is None:
            return function(*args, **kwargs)
        key = options.get("key")
        chosen = run.options.changed(**{one: value for one, value in options.items() if one != "key"})
        return run.call(title, function, args, kwargs, chosen, key(*args, **kwargs) if callable(key) else key)

    if is_coroutine_function(function):

        @wraps(function)
        async def awaited(*args: Any, **kwargs: Any) -> Any:
            return await called(*args, **kwargs)

        return awaited
    return wraps(function)(called)


def _run_here() -> Run | None:
    run = current.get()
    runs = [one for one in open_runs if one.lock.is_here]  # a child by `fork` is in no run
    if run is not None and run in runs:
        return run
    if run is None and len(runs) > 1:
        raise InvalidArgument("several runs are open, and this thread belongs to none", "Call run.step on one of them")
    return runs[0] if run is None and runs else None
