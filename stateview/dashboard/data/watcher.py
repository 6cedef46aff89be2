"""What others write: a daemon thread that waits on the backend, and tells the app what changed, or that it is lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from textual.message_pump import MessagePump

from ...backends.protocol import CheckpointRecord, Head, StateAt
from ...errors import HistoryPruned, StateException
from ...manager import StateManager

WAIT_SECONDS = 0.3  # seconds of one wait, between which checkpoints and expiry are looked at
NOTIFY_SECONDS = 0.2  # seconds between two tellings at least: more no one can read, and each paints half the screen
REST_FACTOR = 5.0  # a look is followed by at least so many times its own length of rest
RETRY_SECONDS = (1.0, 2.0, 4.0, 8.0)  # seconds between tries while the backend is lost


class NamespaceChange(NamedTuple):
    """The namespace is not what it was: its head, and the keys that may differ; None where that cannot be told."""

    head: Head
    changed: list[str] | None
    marks: list[CheckpointRecord]

    def after(self, earlier: NamespaceChange | None) -> NamespaceChange:
        """Both this and an earlier one, as one."""
        if earlier is None:
            return self
        both = None if self.changed is None or earlier.changed is None else {*self.changed, *earlier.changed}
        return self._replace(changed=None if both is None else sorted(both))


class ConnectionLost(NamedTuple):
    """The backend does not answer: why, since when, and when it is tried again (both `time.monotonic()`)."""

    error: Exception
    since: float
    again: float


class NamespaceWatcher:
    """Watches one namespace until it is closed.

    Args:
        owner: in whose turn the two functions are called.
        manager: of the namespace.
        moved: told what changed, at most five times a second, and once at the beginning.
        lost: told that the backend is lost, after each try; and None when it is back.

    """

    def __init__(
        self, owner: MessagePump, manager: StateManager, moved: Callable[[NamespaceChange], None],
        lost: Callable[[ConnectionLost | None], None],
    ) -> None:  # fmt: skip
        self._owner = owner
        self._manager = manager
        self._moved = moved
        self._lost = lost
        self._closed = False
        self._now = threading.Event()
        self._known: tuple[StateAt, Head, list[CheckpointRecord]] | None = None
        threading.Thread(target=self._watch, name="live", daemon=True).start()

    def look(self) -> None:
        """Look, or try again, at once."""
        self._now.set()

    def close(self) -> None:
        """Tell nothing any more. Does not wait."""
        self._closed = True
        self._now.set()

    def _watch(self) -> None:
        tries, since = 0, 0.0
        while not self._closed:
            started = time.monotonic()
            try:
                self._look()
            except (StateException, OSError) as error:
                since = since or started
                pause = RETRY_SECONDS[min(tries, len(RETRY_SECONDS) - 1)]
                tries += 1
                self._tell(self._lost, ConnectionLost(error, since, time.monotonic() + pause))
                self._rest(pause)
                continue
            if tries:
                tries, since = 0, 0.0
                self._tell(self._lost, None)
            took = time.monotonic() - started
            try:
                self._manager.backend.wait(self._known[0].revision if self._known else 0, WAIT_SECONDS)
            except (StateException, OSError):
                continue  # the next look meets it again, and tells
            self._rest(max(NOTIFY_SECONDS, REST_FACTOR * took) if took > NOTIFY_SECONDS else NOTIFY_SECONDS)

    def _rest(self, seconds: float) -> None:
        self._now.wait(seconds)
        self._now.clear()

    def _look(self) -> None:
        backend = self._manager.backend
        moment = backend.now()
        head, marks = backend.head(), backend.marks()
        now = StateAt(head.revision, moment)
        if self._known is None:
            self._known = now, head, marks
            self._tell(
                self._moved, NamespaceChange(head, None, marks)
            )  # something may have been written since it was read
            return
        was, known, known_marks = self._known
        self._known = now, head, marks
        if head.lineage != known.lineage or head.revision < known.revision:  # dropped, or another one in its place
            self._tell(self._moved, NamespaceChange(head, None, marks))
            return
        changed: list[str] | None = []
        if head.revision != known.revision or head.count != known.count:
            try:
                changed = backend.changed_keys(was, now)
            except HistoryPruned:  # more was written meanwhile than is kept
                changed = None
        if changed or changed is None or marks != known_marks:
            self._tell(self._moved, NamespaceChange(head, changed, marks))

    def _tell(self, what: Callable[..., None], news: object) -> None:
        if not self._closed:
            self._owner.call_later(self._deliver, what, news)

    def _deliver(self, what: Callable[..., None], news: object) -> None:
        if not self._closed and self._owner.app.is_running:  # else its screens are being taken down
            what(news)
