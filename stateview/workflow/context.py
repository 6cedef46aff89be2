"""The runs that are open in this process, and the run and the step that a call is in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .run import Run

current: ContextVar[Run | None] = ContextVar("current run", default=None)
current_step: ContextVar[tuple[Run, str] | None] = ContextVar("current step", default=None)  # with its name
open_runs: list[Run] = []


@contextmanager
def inside(run: Run, name: str) -> Iterator[None]:
    """Name the steps that are called meanwhile as those inside a step, or inside an item of one."""
    tokens = current.set(run), current_step.set((run, name))
    try:
        yield
    finally:
        with suppress(ValueError):  # a generator was closed in another context
            current_step.reset(tokens[1])
            current.reset(tokens[0])
