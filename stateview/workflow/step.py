"""One call of a step: saved results, tries, time-outs, and the record of how it went."""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any

from .. import codec
from ..backends.protocol import CommitRequest
from ..errors import (
    CommitUnknown,
    InvalidArgument,
    LockLost,
    NotReplicated,
    NotSerializable,
    SkipStep,
    StateException,
    StepChanged,
    StepTimeout,
    was_committed,
)  # fmt: skip
from ..states.transaction import Transaction
from . import records
from .context import inside
from .options import Options
from .records import ENDED, Record, state_after
from .run import Run, reset_hint

if TYPE_CHECKING:
    from ..manager import StateManager

LONGEST_PAUSE_SECONDS = 60.0


class Step:
    """A call of a step in a run."""

    def __init__(self, run: Run, name: str, options: Options, arguments: str = "", function: Any = None) -> None:
        self.run, self.name, self.options = run, name, options
        self.key = records.step_key(run.name, name)
        self.thread: threading.Thread | None = None  # of the last try, if it had a time-out
        self._function = function
        self._code = records.code_digest(function) if function is not None else ""
        self._arguments = arguments
        self._tries = 0  # of this call
        self._former = 0  # tries of earlier runs
        self._order = 0
        self._began, self._clock = "", 0.0
        self._is_announced = False
        self._stopped_by: BaseException | None = None

    def is_done(self) -> bool:
        """Return whether the saved result stands.

        Raises:
            StepChanged: the step is done, and its arguments or its code differ.

        """
        record = self.run.found(self.key)
        if record is None or record["state"] not in ENDED:
            self._former = int(record.get("tries", 0)) if record else 0
            return False
        changes: list[str] = []
        if record.get("arguments", "") != self._arguments:
            changes.append("other arguments")
        if not records.same_code(record.get("code", ""), self._code):
            changes.append(f"another version of {record.get('function')}")
        if changes and self.options.on_change == "run":
            return False
        self.run.closed(self)
        if not changes or self.options.on_change == "keep":
            return True
        message = f"step {self.name!r} of run {self.run.name!r} was done with {' and '.join(changes)}"
        raise StepChanged(message, reset_hint(self.run.name, self.name))

    @property
    def saved(self) -> Any:
        """Return a fresh copy of the saved result."""
        return self.run.result(self.key)

    # --- the record --------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Begin a try."""
        self._order = self.run.opened(self)
        self._tries += 1
        self._clock, self._is_announced = time.monotonic(), False
        self._began = records.moment()

    def _record(self, state: str, error: BaseException | None = None) -> Record:
        is_over = state != "running"
        record: Record = {
            "state": state, "order": self._order, "tries": self._former + self._tries, "began": self._began,
            "ended": records.moment() if is_over else None,
            "duration": round(time.monotonic() - self._clock, 6) if is_over else None,
            "host": self.run.lock.host, "process": self.run.lock.process, "fence": self.run.lock.fence,
            "arguments": self._arguments, "code": self._code,
            "function": records.function_name(self._function) if self._function is not None else "",
        }  # fmt: skip
        if isinstance(error, SkipStep):
            return record | {"reason": error.message}
        return record if error is None else record | {"error": records.error_record(error)}

    def is_to_announce(self, seconds: float) -> bool:
        """Return whether the try has lasted for so long, and is not shown as running yet."""
        return not self._is_announced and time.monotonic() - self._clock >= seconds

    def announce(self) -> None:
        """Show the step as running."""
        self._is_announced = True
        self._write(self._record("running"))

    def stopped(self, error: BaseException | None) -> Record:
        """Return the record of a try that ended with its run, and not by itself."""
        error = self._stopped_by or error
        return self._record("interrupted" if error is None else state_after(error), error)

    def _write(self, record: Record) -> None:
        self.run.write_step(self, codec.encode(record), record)

    def finish(self, result: Any, request: CommitRequest | None = None, skipped: SkipStep | None = None) -> Any:
        """Commit the result, and return it as the next run will read it."""
        self._is_announced = True  # from here on nothing is to write over what is committed
        record = self._record("skipped" if skipped else "done", skipped)
        try:
            data, value = records.encoded(record, result, f"step {self.name!r}")
        except NotSerializable as error:
            self.fail(error)
            raise
        try:
            self.run.write_step(self, data, record, request)
        except StateException as error:
            if isinstance(error, CommitUnknown) or was_committed(error):
                self._stopped_by = error  # the end of the run looks whether it was made
            else:
                self.fail(error)
            raise
        self.run.closed(self)
        return value

    def fail(self, error: BaseException, is_cancelled: bool = False) -> None:
        """Commit that the step failed, or was cancelled; without effect where the run is lost."""
        self._is_announced = True
        if not isinstance(error, Exception) and not is_cancelled:
            self._stopped_by = error
            return  # the end of the run commits it, once it is known what was written
        if not isinstance(error, LockLost):
            with suppress(StateException):
                self._write(self._record(state_after(error), error))
        self.run.closed(self)

    def pause_after(self, error: BaseException) -> float | None:
        """Commit that a try failed; return the seconds until the next, None if it was the last."""
        if not self._is_retried(error):
            self.fail(error)
            return None
        with suppress(NotReplicated):  # a later commit waits for this one too
            self._write(self._record("running", error))
        from random import uniform  # imported here: few steps ever wait

        longest = min(LONGEST_PAUSE_SECONDS, self.options.backoff * 2.0 ** (self._tries - 1))
        return uniform(longest / 2, longest)

    def _is_retried(self, error: BaseException) -> bool:
        if isinstance(error, LockLost | StepChanged | NotSerializable | InvalidArgument):
            return False
        return self._tries <= self.options.retries and isinstance(error, self.options.retry_on)


def call(
    run: Run, name: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], options: Options
) -> Any:
    """Do a step by a function, or return the coroutine that does it."""
    step = Step(run, name, options, records.arguments_digest(args, kwargs), function)
    if records.is_coroutine_function(function):
        return _call_coroutine(step, function, args, kwargs)
    if step.is_done():
        return step.saved
    while True:
        step.begin()
        try:
            with inside(step.run, step.name):
                result = _limited(step, function, args, kwargs)
            if isinstance(result, Awaitable):
                if isinstance(result, Coroutine):
                    result.close()
                what = f"step {name!r}: {records.function_name(function)} returned an awaitable"
                raise InvalidArgument(what, "Give the step an 'async def' function, and await the step")
        except SkipStep as error:
            return step.finish(None, skipped=error)
        except BaseException as error:
            pause = step.pause_after(error)
            if pause is None:
                raise
            time.sleep(pause)
            if step.thread is not None and step.thread.is_alive():
                step.fail(error)  # two tries at once would be worse than none
                raise
        else:
            return step.finish(result)


async def _call_coroutine(
    step: Step, function: Callable[..., Coroutine[Any, Any, Any]], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    import asyncio

    if step.is_done():
        return step.saved
    while True:
        step.begin()
        try:
            with inside(step.run, step.name):
                result = await _within(step, function(*args, **kwargs))
        except SkipStep as error:
            return step.finish(None, skipped=error)
        except asyncio.CancelledError as error:
            step.fail(error, is_cancelled=True)
            raise
        except BaseException as error:
            pause = step.pause_after(error)
            if pause is None:
                raise
            await asyncio.sleep(pause)
        else:
            return step.finish(result)


async def _within(step: Step, coroutine: Coroutine[Any, Any, Any]) -> Any:
    import asyncio

    seconds = step.options.timeout
    scope = asyncio.timeout(seconds)
    try:
        async with scope:
            return await coroutine
    except TimeoutError:
        if not scope.expired():
            raise  # one of the coroutine's own
        raise _timeout_error(step, "It was cancelled") from None


def _limited(step: Step, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call a function; one with a time-out in a thread of its own, which goes on after the time-out."""
    if step.options.timeout is None:
        return function(*args, **kwargs)
    outcome: list[tuple[Any, BaseException | None]] = []
    context = contextvars.copy_context()

    def work() -> None:
        try:
            outcome.append((context.run(function, *args, **kwargs), None))
        except BaseException as error:
            outcome.append((None, error))

    step.thread = threading.Thread(target=work, name=f"step {step.name}", daemon=True)
    step.thread.start()
    step.thread.join(step.options.timeout)
    if not outcome:
        raise _timeout_error(step, "Its thread goes on, since Python cannot stop it, and its result is dropped")
    result, error = outcome[0]
    if error is not None:
        raise error
    return result


def _timeout_error(step: Step, what: str) -> StepTimeout:
    return StepTimeout(f"step {step.name!r} took longer than its time-out of {step.options.timeout:g} s", what)


class StepTransaction(Transaction):
    """The transaction of a step's block.

    Attributes:
        result: the step's result: set it in the block. Of a step that is done, the saved one.
        done: whether the step is done, so that nothing in the block is written.

    """

    result: Any = None
    done: bool = False


class Block:
    """A step that is a block: of a `for` loop, which a step that is done passes over, or of a `with` statement."""

    def __init__(self, step: Step, manager: StateManager) -> None:
        self._step, self._manager = step, manager
        self._transaction: StepTransaction | None = None
        self._context: Any = None

    def __iter__(self) -> Iterator[StepTransaction]:
        if not self._step.is_done():
            transaction = self._begin()
            with inside(self._step.run, self._step.name):
                yield transaction
            self._finish()

    def __enter__(self) -> StepTransaction:
        if self._step.is_done():
            self._transaction = self._new()
            self._transaction.done, self._transaction.result = True, self._step.saved
            return self._transaction
        transaction = self._begin()
        self._context = inside(self._step.run, self._step.name)
        self._context.__enter__()
        return transaction

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        transaction = self._transaction
        assert transaction is not None
        if transaction.done:
            transaction.discard()
            return False
        self._context.__exit__(None, None, None)
        if error is None:
            self._finish()
            return False
        transaction.discard()
        if isinstance(error, SkipStep):
            self._step.finish(None, skipped=error)
            return True
        self._step.fail(error)
        return False

    def _new(self) -> StepTransaction:
        return StepTransaction(self._manager.backend, self._manager.at("live"), "")

    def _begin(self) -> StepTransaction:
        self._step.begin()
        self._transaction = self._new()
        return self._transaction

    def _finish(self) -> None:
        transaction = self._transaction
        assert transaction is not None
        self._step.finish(transaction.result, transaction.batch())
