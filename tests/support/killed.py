"""A process that is killed in the middle of an act."""

from __future__ import annotations

import builtins
import os
from collections.abc import Callable, Iterable
from typing import Any

from stateview.backends.files import durable_files
from stateview.backends.jsonfile import records, transfer

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


def count_writes(count: Callable[[], None]) -> None:
    """Count each file that is opened to be written, and each half of what is written."""

    def write_all(file: Any, data: bytes) -> None:
        for half in (data[: len(data) // 2], data[len(data) // 2 :]):
            count()
            file.write(half)

    def opened(path: Any, mode: str = "r", *given: Any, **options: Any) -> Any:
        if mode[0] != "r":
            count()
        return plain_open(path, mode, *given, **options)

    plain_open, builtins.open = builtins.open, opened
    for module in (durable_files, records, transfer):
        module.write_all = write_all  # type: ignore[attr-defined]
