"""The queue of undo and redo key presses."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..app import Dashboard


class UndoQueue:
    """Runs `undo` and `redo` one after the other, in the order of the keys. A failed one cancels the rest."""

    def __init__(self, app: Dashboard) -> None:
        self._app = app
        self._queue: deque[str] = deque()  # the first one runs

    def add(self, act: str) -> None:
        """Queue an `undo` or `redo`."""
        self._queue.append(act)
        if len(self._queue) == 1:
            self._start()

    def _start(self) -> None:
        from .undo import undo_or_redo

        undo_or_redo(self._app, self._queue[0], self._ended)

    def _ended(self, well: bool) -> None:
        self._queue.popleft()
        if not well:
            self._queue.clear()
        if self._queue:
            self._start()
        elif well:
            from ..screens.diff import DiffScreen

            if isinstance(screen := self._app.screen, DiffScreen):
                screen.reload()  # the user knows of this commit, and wants to see what is left
