"""What takes the whole terminal: a diff that does not fit it, with the keys of the dashboard, and a live table."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from importlib import import_module
from typing import TYPE_CHECKING

from .exit_codes import UsageError
from .program import is_dumb_terminal
from .results import DiffResult, LiveTable, Result

if TYPE_CHECKING:
    from .context import Context

_PROMPT_LINES = 2  # that stay free: for the prompt, or for the question that follows


def open_full_screen(context: Context, result: Result, format_: str) -> bool | None:
    """Open a live table, or a diff that does not fit or that `--pager` asks for, on the full screen, at a terminal.

    Scripts, pipes and formats get the text. Textual is imported here alone: it takes as long as ten commands.

    Returns:
        None if the result is to be printed; otherwise whether the person has restored what it shows.

    Raises:
        UsageError: `--pager` was given, and there is no terminal.

    """
    can_open = context.opens_full_screen and not format_ and context.ask is not None
    at_terminal = can_open and sys.stdout.isatty() and not is_dumb_terminal()
    if isinstance(result, LiveTable):
        if not at_terminal or result.places is None:
            return None
        from .live_table import show

        show(context.manager, result.places, result.timeout, colour=not os.environ.get("NO_COLOR"))
        return False
    screen = result.full_screen if isinstance(result, DiffResult) else None
    if screen is None or screen.wanted is False:
        return None
    if not at_terminal:
        if screen.wanted:
            raise UsageError("--pager needs a terminal, and takes no --format", "Leave it out to get the text")
        return None
    if not screen.wanted and (not context.pager or _fits(result)):
        return None
    opened: bool = import_module("stateview.dashboard.full_screen").show(context, screen)
    return opened


def _fits(result: Result) -> bool:
    from .render import Style, render

    lines, columns = _room()
    left = lines - _PROMPT_LINES
    return all((left := left - _rows(piece, columns)) >= 0 for piece in render(result, Style(terminal=True)))


def _room() -> tuple[int, int]:
    size = os.get_terminal_size(sys.stdout.fileno())
    return (size.lines, size.columns) if size.lines and size.columns else (24, 80)


def _rows(piece: str, columns: int) -> int:
    """Return how many rows of a terminal a text takes, with the rows of lines that it wraps."""
    return sum(max(1, -(-len(line) // columns)) for line in _lines(piece))


def _lines(piece: str) -> Iterable[str]:
    return piece.removesuffix("\n").split("\n") if piece else ()
