"""A process that is killed in the middle of an act."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

CALLS = ("rename", "link", "unlink", "mkdir", "rmdir", "ftruncate")


def die_at(
    step: int,
    act: Callable[[], object],
    calls: Iterable[tuple[Any, str]],
    patch: Callable[[Callable[[], None]], None] = lambda count: None,
) -> bool:
    """Act in a child that is killed before its step of that number; whether it came to its end.

    Args:
        step: the number, from 1.
        act: what the child does.
        calls: the functions whose calls are steps, each as the object that has it and a name.
        patch: counts more steps: it gets the function to call before each.

    """
    child = os.fork()
    if child:
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert code in (0, 9), code
        return code == 0
    left = [step]

    def count() -> None:
        left[0] -= 1
        if left[0] == 0:
            os._exit(9)

    def mortal(call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*given: Any, **options: Any) -> Any:
            count()
            return call(*given, **options)

        return counted

    try:
        for owner, name in calls:
            setattr(owner, name, mortal(getattr(owner, name)))
        patch(count)
        act()
        os._exit(0)
    finally:
        os._exit(1)
