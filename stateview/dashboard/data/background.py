"""Reads and acts on daemon threads: neither a slow backend nor quitting waits for the other."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

from textual.message_pump import MessagePump

from ...errors import StateException

T = TypeVar("T")
MAX_THREADS = 4

Stop = Callable[[], bool]  # whether the answer is not wanted any more


class _Request:
    def __init__(
        self, owner: MessagePump, act: Callable[[Stop], Any], then: Callable[[Any], None],
        failed: Callable[[Exception], None],
    ) -> None:  # fmt: skip
        self.owner = owner
        self.act = act
        self.then = then
        self.failed = failed
        self.stopped = False

    def is_stopped(self) -> bool:
        return self.stopped


class BackgroundExecutor:
    """Runs what is asked, the newest first. A *slot* holds one request: a newer one takes the place of an older.

    So what was scrolled past is never read, and an answer that comes late is dropped.
    """

    def __init__(self) -> None:
        self._waiting: dict[Any, _Request] = {}  # the newest at the end
        self._running: dict[Any, _Request] = {}
        self._done: dict[Any, _Request] = {}  # whose answer is on its way
        self._changed = threading.Condition()
        self._threads = 0
        self._idle = 0
        self._closed = False

    def submit(
        self, owner: MessagePump, slot: Any, act: Callable[[Stop], T], then: Callable[[T], None],
        failed: Callable[[Exception], None],
    ) -> None:  # fmt: skip
        """Run `act` on a thread, then `then` with its result, or `failed` with its error, in the owner's messages.

        Args:
            owner: the widget or app in whose turn `then` and `failed` run; neither does once it has gone.
            slot: what the request is about; a newer request of the same owner and slot replaces this one.
            act: gets a function that says whether to stop early.
            then: takes the result.
            failed: takes a `StateException`, an `OSError`, or a `ValueError`. Anything else is a fault of ours, and
                ends the program with its traceback.

        """
        request = _Request(owner, act, then, failed)
        key = id(owner), slot
        with self._changed:
            self._stop(key)
            self._waiting[key] = request
            if not self._idle and self._threads < MAX_THREADS:
                self._threads += 1
                threading.Thread(target=self._work, name=f"reader-{self._threads}", daemon=True).start()
            self._changed.notify()

    def cancel(self, owner: MessagePump, slot: Any) -> None:
        """Forget a request: it is not run, or told to stop, and not answered."""
        with self._changed:
            self._stop((id(owner), slot))

    def close(self) -> None:
        """Answer nothing any more. Does not wait."""
        with self._changed:
            self._closed = True
            for key in [*self._waiting, *self._running, *self._done]:
                self._stop(key)
            self._changed.notify_all()

    def _stop(self, key: Any) -> None:
        self._waiting.pop(key, None)
        for request in (self._running.get(key), self._done.pop(key, None)):
            if request is not None:
                request.stopped = True

    def _take(self) -> tuple[Any, _Request] | None:
        with self._changed:
            while True:
                if self._closed:
                    return None
                # one of a slot at a time: what runs there has been told to stop
                key = next((key for key in reversed(self._waiting) if key not in self._running), None)
                if key is not None:
                    self._running[key] = self._waiting.pop(key)
                    return key, self._running[key]
                self._idle += 1
                self._changed.wait()
                self._idle -= 1

    def _work(self) -> None:
        while (taken := self._take()) is not None:
            key, request = taken
            answer: Callable[..., None]
            try:
                result, answer = request.act(request.is_stopped), request.then
            except (StateException, OSError, ValueError) as error:
                result, answer = error, request.failed
            except BaseException as error:
                result, answer = error, _raise
            with self._changed:
                del self._running[key]
                if not request.stopped:
                    self._done[key] = request
                self._changed.notify()
            if not request.stopped and not request.owner.call_later(self._answer, key, request, answer, result):
                self.cancel(request.owner, key[1])  # it has gone

    def _answer(self, key: Any, request: _Request, answer: Callable[..., None], result: Any) -> None:
        with self._changed:
            if request.stopped:
                return
            del self._done[key]
        if request.owner.app.is_running:  # else its screens are being taken down
            answer(result)


def _raise(error: BaseException) -> None:
    raise error
