"""An executor on daemon threads. The program can quit while a slow backend still answers."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

from textual.message_pump import MessagePump

from ...errors import StateException

T = TypeVar("T")
MAX_THREADS = 4

Stop = Callable[[], bool]  # whether the request was cancelled


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
    """Runs requests on threads, the newest first. A slot holds one request, and a newer request replaces it.

    So rows that were scrolled past are not read, and a late result is dropped.

    Args:
        held: run nothing before `release`. A thread that runs takes its time from the one that paints.
        complete: is called with each error on its thread, so that its hint names the right namespace.

    """

    def __init__(self, held: bool = False, complete: Callable[[StateException], object] = lambda _error: None) -> None:
        self._held = held
        self._complete = complete
        self._waiting: dict[Any, _Request] = {}  # the newest at the end
        self._running: dict[Any, _Request] = {}
        self._done: dict[Any, _Request] = {}  # the result is in the owner's message queue
        self._changed = threading.Condition()
        self._threads = 0
        self._idle = 0
        self._closed = False

    def submit(
        self, owner: MessagePump, slot: Any, act: Callable[[Stop], T], then: Callable[[T], None],
        failed: Callable[[Exception], None],
    ) -> None:  # fmt: skip
        """Run `act` on a thread, then `then` or `failed` as a message of the owner.

        Args:
            owner: the widget or app. If it has been removed, neither `then` nor `failed` is called.
            slot: the subject of the request. A newer request of the same owner and slot replaces this one.
            act: the work. Its argument is a function that returns whether to stop early.
            then: is called with the result.
            failed: is called with a `StateException`, an `OSError` or a `ValueError`. Any other exception is a bug, and
                ends the program with a traceback.

        """
        request = _Request(owner, act, then, failed)
        key = id(owner), slot
        with self._changed:
            self._stop(key)
            self._waiting[key] = request
            if not self._held:
                self._wake()

    def release(self) -> None:
        """Run the requests that were held, and all later ones at once."""
        with self._changed:
            self._held = False
            for _ in self._waiting:
                self._wake()

    def _wake(self) -> None:
        if not self._idle and self._threads < MAX_THREADS:
            self._threads += 1
            threading.Thread(target=self._work, name=f"reader-{self._threads}", daemon=True).start()
        self._changed.notify()

    def cancel(self, owner: MessagePump, slot: Any) -> None:
        """Cancel a request. If it runs already, its `Stop` returns True, and its result is dropped."""
        with self._changed:
            self._stop((id(owner), slot))

    def close(self) -> None:
        """Cancel all requests. Does not wait."""
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
                # a slot runs one request at a time: the older one has been cancelled
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
            callback: Callable[..., None]
            try:
                result, callback = request.act(request.is_stopped), request.then
            except (StateException, OSError, ValueError) as error:
                result, callback = error, request.failed
                if isinstance(error, StateException):
                    _ = error.next_steps  # similar names are looked up here, not in the app's thread
                    self._complete(error)
            except BaseException as error:
                result, callback = error, _raise
            with self._changed:
                del self._running[key]
                if not request.stopped:
                    self._done[key] = request
                self._changed.notify()
            if not request.stopped and not request.owner.call_later(self._deliver, key, request, callback, result):
                self.cancel(request.owner, key[1])  # the owner has been removed

    def _deliver(self, key: Any, request: _Request, callback: Callable[..., None], result: Any) -> None:
        with self._changed:
            if request.stopped:
                return
            del self._done[key]
        if request.owner.app.is_running:  # while the app ends, its widgets cannot take a result
            callback(result)


def _raise(error: BaseException) -> None:
    raise error
