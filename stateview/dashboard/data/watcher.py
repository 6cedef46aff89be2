"""A daemon thread that watches a namespace, and reports to the app what changed or that the connection is lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from textual.message_pump import MessagePump

from ...backends.protocol import CheckpointRecord, Head, StateAt
from ...errors import HistoryPruned, Rewound, StateException
from ...manager import StateManager
from .rests import Rests

WAIT_SECONDS = 0.3  # seconds of one wait; checkpoints and expiry are checked between waits
NOTIFY_SECONDS = 0.2  # seconds between two reports at least, for each report repaints half the screen
REST_FACTOR = 5.0  # a slow check is followed by a rest of this many times its length
RETRY_SECONDS = 0.5  # seconds between two attempts while the connection is lost


class NamespaceChange(NamedTuple):
    """A change of the namespace.

    Attributes:
        head: the present head.
        changed: the keys that may differ; None if any key may.
        marks: the present checkpoints.
        lost: what the server says it has lost; "" if it has lost nothing.

    """

    head: Head
    changed: list[str] | None
    marks: list[CheckpointRecord]
    lost: str = ""

    def after(self, earlier: NamespaceChange | None) -> NamespaceChange:
        """Return this change combined with an earlier one."""
        if earlier is None:
            return self
        lost = self.lost or earlier.lost
        if self.changed is None or earlier.changed is None:
            return self._replace(changed=None, lost=lost)
        return self._replace(changed=sorted({*self.changed, *earlier.changed}), lost=lost)


class ConnectionLost(NamedTuple):
    """The backend does not answer.

    Attributes:
        error: why.
        since: the start of the first failed attempt, by `time.monotonic()`.

    """

    error: Exception
    since: float


class NamespaceWatcher:
    """Watches one namespace until it is closed.

    Args:
        owner: the app. The two functions run as messages of the app.
        manager: of the namespace.
        moved: is called with each change, at most five times a second, and once at the start.
        lost: is called after each failed attempt, and with None when the connection is back.

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
        self._last: tuple[StateAt, Head, list[CheckpointRecord]] | None = None  # what the last check read
        self._rewound = ""  # the message of an error that tells of lost commits, until the next change is reported
        threading.Thread(target=self._watch, name="live", daemon=True).start()

    def look(self) -> None:
        """Check the namespace at once."""
        self._now.set()

    def close(self) -> None:
        """End the thread. Does not wait."""
        self._closed = True
        self._now.set()

    def _watch(self) -> None:
        since = 0.0  # of the first failed attempt; 0 while the backend answers
        rests = Rests(REST_FACTOR)
        while not self._closed:
            started, busy = time.monotonic(), time.thread_time()
            try:
                self._check()
            except Rewound as error:  # it is raised once: the next check reads what is left
                self._rewound = error.message
                continue
            except (StateException, OSError) as error:
                since = since or started
                self._report(self._lost, ConnectionLost(error, since))
                self._rest(max(RETRY_SECONDS, REST_FACTOR * (time.thread_time() - busy)))
                continue
            rest = rests.after(time.monotonic() - started)
            if since:
                since = 0.0
                self._report(self._lost, None)
            try:
                self._manager.backend.wait(self._last[0].revision if self._last else 0, WAIT_SECONDS)
            except Rewound as error:
                self._rewound = error.message
                continue
            except (StateException, OSError):
                pass  # the next check fails too, and reports it
            self._rest(rest if rest > REST_FACTOR * NOTIFY_SECONDS else NOTIFY_SECONDS)

    def _rest(self, seconds: float) -> None:
        self._now.wait(seconds)
        self._now.clear()

    def _check(self) -> None:
        backend = self._manager.backend
        moment = backend.now()
        head, marks = backend.head(), backend.marks()
        now = StateAt(head.revision, moment)
        changed: list[str] | None = None  # at the first check, keys may have changed since the first page was read
        old_marks = marks
        if self._last is not None:
            then, old_head, old_marks = self._last
            replaced = self._rewound or head.lineage != old_head.lineage or head.revision < old_head.revision
            if not replaced and (head.revision, head.count) == (old_head.revision, old_head.count):
                changed = []
            elif not replaced:
                with suppress(HistoryPruned):
                    changed = backend.changed_keys(then, now)
        self._last = now, head, marks  # only now: if a read failed, the next check reports these changes
        if changed or changed is None or marks != old_marks:
            self._report(self._moved, NamespaceChange(head, changed, marks, self._rewound))
        self._rewound = ""

    def _report(self, callback: Callable[..., None], news: object) -> None:
        if not self._closed:
            self._owner.call_later(self._deliver, callback, news)

    def _deliver(self, callback: Callable[..., None], news: object) -> None:
        if not self._closed and self._owner.app.is_running:  # while the app ends, its widgets cannot take news
            callback(news)
