"""Run blocking calls on threads, and await them on an event loop without leaving one half known."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from typing import TypeVar

from ..backends.fork import watch_fork

T = TypeVar("T")


class WorkerThreads:
    """A bounded pool of threads, which starts each thread when a call needs it.

    Calls begin in the order in which they are submitted. The pool starts anew when it is used after `close`, and in a
    child process after `fork()`, where the calls of the parent do not exist.

    Args:
        count: the largest number of threads.

    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._start_anew()
        watch_fork(self)

    def _start_anew(self) -> None:
        self._mutex = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._apart: set[ThreadPoolExecutor] = set()

    @property
    def started(self) -> bool:
        """Whether there are threads, or may be."""
        return self._pool is not None

    def submit(self, function: Callable[[], T]) -> Future[T]:
        """Call a function on a thread, with the context variables of the caller."""
        with self._mutex:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self.count, "stateview-call")
            return self._pool.submit(copy_context().run, function)

    def open_apart(self) -> ThreadPoolExecutor:
        """Return a pool of one thread, for calls that wait so long that others would miss the thread.

        `close_apart` ends it. `close` waits for its call, and then it takes no more.
        """
        with self._mutex:
            pool = ThreadPoolExecutor(1, "stateview-apart")
            self._apart.add(pool)
            return pool

    def close_apart(self, pool: ThreadPoolExecutor, last: Callable[[], object]) -> None:
        """Call a last function on a thread of `open_apart`, and end the thread. Return at once."""

        def end() -> None:
            try:
                last()
            finally:
                with self._mutex:
                    self._apart.discard(pool)

        with suppress(RuntimeError):  # `close` has ended it
            pool.submit(end)
        pool.shutdown(wait=False)

    def close(self) -> None:
        """Wait until all submitted calls have returned, and end the threads."""
        with self._mutex:
            pools = [*self._apart, *([self._pool] if self._pool else [])]
            self._apart, self._pool = set(), None
        for pool in pools:
            pool.shutdown(wait=False)  # they end side by side
        for pool in pools:
            pool.shutdown(wait=True)

    def before_fork(self) -> None:
        """Do nothing: a child shares no thread with its parent."""

    def after_fork(self, child: bool) -> None:
        """Start anew in the child."""
        if child:
            self._start_anew()


def run_on_new_thread(function: Callable[[], T]) -> Future[T]:
    """Call a function on a thread that ends with it."""
    pool = ThreadPoolExecutor(1, "stateview-close")
    job = pool.submit(copy_context().run, function)
    pool.shutdown(wait=False)
    return job


async def finish(job: Future[T], *, may_leave: bool = False) -> T:
    """Await a call on a thread, and return its result.

    If the caller is cancelled, a call that has not begun never begins. One that has begun is awaited to its end, and
    `CancelledError` is raised then, with the error of the call as its cause.

    Args:
        job: the call.
        may_leave: raise `CancelledError` at once, and let a call that has begun go on. For reads.

    """
    loop = asyncio.get_running_loop()
    cancelled = None
    while not job.done():
        waiter: asyncio.Future[None] = loop.create_future()
        job.add_done_callback(partial(_wake, loop, waiter))
        try:
            await waiter
        except asyncio.CancelledError as error:
            if job.cancel() or may_leave:
                raise
            cancelled = error
    if cancelled is not None:
        raise cancelled from job.exception()
    return job.result()


def _wake(loop: asyncio.AbstractEventLoop, waiter: asyncio.Future[None], _job: object) -> None:
    def resolve() -> None:
        if not waiter.done():
            waiter.set_result(None)

    with suppress(RuntimeError):  # the loop was closed meanwhile, so nobody waits
        loop.call_soon_threadsafe(resolve)
