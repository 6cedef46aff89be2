"""Ctrl-Z at the prompt, and a prompt that can be used again after any stop of the process."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from prompt_toolkit.application import Application, run_in_terminal

from ..cli.job_control import stop_process_group, wait_for_foreground


def suspend() -> None:
    """Stop the process group from a key binding, and paint the prompt again when a shell continues it."""
    run_in_terminal(stop_process_group)


@contextmanager
def repainted_after_stops(app: Application[Any]) -> Iterator[None]:
    """While an application runs, handle SIGTSTP as Ctrl-Z. After SIGSTOP, set the modes of the terminal again.

    prompt_toolkit handles neither: the shell's modes would stay, which echo each key and wait for a line.
    """

    def resume() -> None:
        if app.is_running:
            wait_for_foreground(app.input.fileno())
            app.input.raw_mode().__enter__()  # the application itself restores the earlier modes at its end
            app.renderer.reset()
            app.invalidate()

    def handler(act: Callable[[], None]) -> Callable[..., None]:
        def call_soon(*_: object) -> None:
            if app.is_running and app.loop is not None:
                app.loop.call_soon_threadsafe(act)

        return call_soon

    acts = {signal.SIGTSTP: suspend, signal.SIGCONT: resume}
    before = {number: signal.signal(number, handler(act)) for number, act in acts.items()}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)
