"""The background work of a key source: counting and searching, in pieces, with rests and retries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, cast

from textual.timer import Timer
from textual.widget import Widget

from ..data.background import BackgroundExecutor
from ..data.key_source import KeySource

RETRY_SECONDS = (0.5, 1.0, 2.0, 4.0, 8.0)  # seconds between two attempts; a new source ends the series


class KeyListHost(Protocol):
    """What a key list needs of its app."""

    reader: BackgroundExecutor
    redact: tuple[str, ...]


class SourceWorker:
    """Calls `KeySource.work` on a thread, one piece at a time.

    Args:
        owner: the widget whose timers and app are used.
        worked: called after each piece, with the error of the pieces before it, or None.
        failed: called with the first error of a series. Retries that fail are not reported again.

    """

    def __init__(
        self, owner: Widget, worked: Callable[[Exception | None], None], failed: Callable[[Exception], None]
    ) -> None:
        self._owner = owner
        self._worked = worked
        self._failed = failed
        self._source: KeySource | None = None
        self._timer: Timer | None = None  # runs while the worker rests
        self._running = False
        self._more = False  # whether `work` was called while a piece ran
        self._failures = 0
        self._error: Exception | None = None

    @property
    def failing(self) -> bool:
        """Whether the last piece failed."""
        return self._failures > 0

    def reset(self, source: KeySource) -> None:
        """Stop working for the present source, and take another one. `work` starts its work."""
        self.stop_timer()
        self._reader.cancel(self._owner, "work")
        self._running = self._more = False
        self._failures, self._error = 0, None
        self._source = source

    def stop_timer(self) -> None:
        """End the rest."""
        if self._timer is not None:
            self._timer.stop()
            self._timer = None

    def work(self) -> None:
        """Start a piece of work, unless one runs or the worker rests."""
        source = self._source
        if source is None or self._timer is not None:
            return
        self._more = self._running
        if not self._running:
            self._running = True
            self._reader.submit(self._owner, "work", source.work, self._piece_done, self._piece_failed)

    @property
    def _reader(self) -> BackgroundExecutor:
        return cast(KeyListHost, self._owner.app).reader

    def _piece_done(self, rest: float | None) -> None:
        self._running = False
        error, self._error, self._failures = self._error, None, 0
        self._worked(error)
        if rest:
            self._rest(rest)
        elif rest is not None or self._more:
            self.work()

    def _piece_failed(self, error: Exception) -> None:
        self._running = False
        pause = RETRY_SECONDS[min(self._failures, len(RETRY_SECONDS) - 1)]
        self._failures += 1
        self._rest(pause)
        if self._error is None:
            self._error = error
            self._failed(error)

    def _rest(self, seconds: float) -> None:
        def end() -> None:
            self._timer = None
            self.work()

        self._timer = self._owner.set_timer(seconds, end)
