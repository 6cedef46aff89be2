"""A run: the lock, the entries, and the commits of a workflow."""

from __future__ import annotations

import signal
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from contextvars import Token
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from .. import codec
from ..arguments import checked, may_be_same
from ..backends.protocol import CheckpointWrite, CommitRequest, Head, Version, Write
from ..errors import Conflict, InvalidArgument, LockLost, StateException, run, see
from ..model import check_lock
from ..states.leases import Lock
from . import records
from .context import current, current_step, open_runs
from .options import OnChange, Options
from .records import ENDED, Record, state_after

if TYPE_CHECKING:
    from ..manager import StateManager
    from .step import Step

ANNOUNCE_SECONDS = 0.5  # a step that lasts longer is shown as running
_SIGTERM_STATUS = 128 + signal.SIGTERM


class Run:
    """One go of a workflow. `StateManager.run` makes runs, and says what they promise.

    Attributes:
        name: the name of the run.
        is_resumed: whether the block goes on with a go that stopped before its end.

    """

    def __init__(
        self, manager: StateManager, commit: Callable[[CommitRequest], Head], lock: Lock, name: str, options: Options,
        checkpoints: int,
    ) -> None:  # fmt: skip
        self.name = name
        self.is_resumed = False
        self.key = records.run_key(name)
        self.lock = lock
        self.options = options
        self._manager, self._commit = manager, commit
        self._checkpoints = checkpoints
        self._mutex = threading.RLock()
        self._record: Record = {}
        self._steps: dict[str, tuple[Record, bytes]] = {}  # by key: the record without its result, and the whole value
        self._revisions: dict[str, int] = {}  # of the entries of the run that are there, by key
        self._tried: dict[str, list[bytes]] = {}  # by key: what was sent, and no reply said that it was written
        self._last = self.key  # the entry that was written last: an undo or a restore would change it
        self._items: dict[str, set[str]] = {}  # by the key of a step: the keys of its items that are done
        self._order = 0
        self._counts: dict[str, dict[str, int]] = {}  # by outer step and by name: how often this was called in it
        self._open: dict[str, Step] = {}  # by key: the steps that are being done
        self._busy: set[str] = set()  # the names of these, and of those that are about to be
        self._is_over = False
        self._changed: LockLost | None = None
        lock.beats.append(self._announce)
        self._tokens: tuple[Token[Run | None], Token[tuple[Run, str] | None]] | None = None
        self._restore_signal = False

    def __repr__(self) -> str:
        return f"<Run {self.name!r} {self._record.get('state', 'not begun')}>"

    # --- the block ---------------------------------------------------------------------------------------------

    def __enter__(self) -> Run:
        self.lock.acquire()
        try:
            self._begin()
        except BaseException:
            with suppress(StateException):
                self.lock.release()
            raise
        self._tokens = current.set(self), current_step.set(None)
        open_runs.append(self)
        self._watch_sigterm()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._restore_signal:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if self in open_runs:
            open_runs.remove(self)
        if self._tokens is not None:
            with suppress(ValueError):  # the block was left in another context, as by a generator
                current.reset(self._tokens[0])
                current_step.reset(self._tokens[1])
        if not self.lock.is_here:
            return
        try:
            self._end(error)
        except StateException:
            if error is None:  # else the error of the block says more, and the lock expires
                raise
        finally:
            with suppress(StateException):
                self.lock.release()  # which has no effect if the end was committed

    def _watch_sigterm(self) -> None:
        """Let SIGTERM end the block as Ctrl-C does, unless the program has a handler of its own."""
        is_main = threading.current_thread() is threading.main_thread()
        if is_main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, _terminate)
            self._restore_signal = True

    def _begin(self) -> None:
        backend, prefix = self._manager.backend, f"{self.key}/"
        entry = backend.read([self.key]).get(self.key)
        former: Record = {}
        if entry is not None:
            former, self._revisions[self.key] = _record_of(entry), entry.revision
        keys = self._manager.list_keys(prefix)
        self.is_resumed = bool(former) and former["state"] != "done"
        self._record = {
            "state": "running", "go": int(former.get("go", 0)) + (not self.is_resumed), "step": None,
            "began": former["began"] if self.is_resumed and "began" in former else records.moment(),
            "ended": None, "host": self.lock.host, "process": self.lock.process, "fence": self.lock.fence,
        }  # fmt: skip
        if self.is_resumed:
            self._load(keys)
            self.commit(self._own_write(), reason=f"run {self.name} goes on")
            return
        unmarks = tuple(self._superseded_checkpoints()) if self._checkpoints else ()
        deletes = dict.fromkeys(keys, Write(None))
        request = CommitRequest(deletes, unmarks=unmarks)
        self.commit(self._own_write(), request, reason=f"run {self.name} begins")

    def _own_write(self) -> dict[str, bytes]:
        return {self.key: codec.encode(self._record)}

    def _load(self, keys: list[str]) -> None:
        """Read the steps, and the names of the items that are done."""
        steps = []
        for key in keys:
            step, _, item = key[len(self.key) + 1 :].partition("/")
            if item:
                self._items.setdefault(f"{self.key}/{step}", set()).add(key)
            else:
                steps.append(key)
        for start in range(0, len(steps), 1000):
            for version in self._manager.backend.read(steps[start : start + 1000]).values():
                record = self._learn(version)
                self._order = max(self._order, int(record.get("order", 0)))

    def _learn(self, version: Version) -> Record:
        """Take over the entry of a step as it is stored."""
        record = _record_of(version)
        self._steps[version.key] = record, version.value or b""
        self._revisions[version.key] = version.revision
        return record

    def _superseded_checkpoints(self) -> Iterator[tuple[str, int]]:
        """Yield the checkpoints of this run, by name and revision, of which there are too many."""
        counts: dict[str, int] = {}
        note = self._note()
        for mark in reversed(self._manager.backend.marks()):
            if mark.kind == "auto" and mark.note == note:
                counts[mark.name] = counts.get(mark.name, 0) + 1
                if counts[mark.name] >= self._checkpoints:  # this go makes one more
                    yield mark.name, mark.revision

    def _note(self) -> str:
        return f"made by run {self.name}"

    def _end(self, error: BaseException | None) -> None:
        """Commit the end of the run, and of the steps that were left open, together with the end of the lock."""
        with self._mutex:
            if self._changed is not None or self.lock.is_lost:
                self._is_over = True
                self.lock.release()
                if self._changed is not None:
                    raise self._changed
                return
            if self._tried or self._open:
                self._settle()
            writes = {key: codec.encode(step.stopped(error)) for key, step in self._open.items()}
            state = "interrupted" if error is None and self._open else state_after(error)
            self._record |= {"state": state, "ended": records.moment()}
            if self._open:
                self._record["step"] = [*self._open.values()][-1].name
            request = self._request(writes | self._own_write(), CommitRequest(), f"run {self.name} {_ENDS[state]}")
            self._is_over = True
            try:
                self.lock.release(request)
            except Conflict as conflict:
                raise self._changed_error() from conflict

    # --- commits -----------------------------------------------------------------------------------------------

    def commit(self, writes: dict[str, bytes], request: CommitRequest | None = None, *, reason: str) -> None:
        """Commit entries of the run, on the condition that nobody else has changed the run since.

        Args:
            writes: the entries.
            request: what is committed in addition.
            reason: the reason that the log shows.

        Raises:
            LockLost: the lock is lost, or another writer has changed the run. Nothing was written.
            Conflict: a key that `request` names has changed.

        """
        with self._mutex:
            while True:
                if self._changed is not None:
                    raise self._changed
                if not self.lock.is_here:
                    what = f"run {self.name!r} is that of the parent of this process"
                    raise LockLost(what, "Do its steps in the parent, or give the child a run of its own")
                if self._is_over:
                    raise LockLost(f"run {self.name!r} has ended", "Do the work of a step inside the block of its run")
                batch = self._request(writes, request or CommitRequest(), reason)
                try:
                    head = self._commit(batch)
                except Conflict:
                    if not self._adopt(writes):
                        raise
                else:
                    break
            for key in writes:
                self._revisions[key] = head.revision
                self._last = key
                self._tried.pop(key, None)

    def _request(self, writes: dict[str, bytes], request: CommitRequest, reason: str) -> CommitRequest:
        for key, data in writes.items():
            self._tried.setdefault(key, []).append(data)
        expected = {key: self._revisions.get(key, 0) for key in (self.key, self._last, *writes)}
        return replace(
            request, writes={**request.writes, **{key: Write(data) for key, data in writes.items()}},
            expected={**request.expected, **expected}, reason=reason,
        )  # fmt: skip

    def _adopt(self, keys: Iterable[str]) -> dict[str, Version]:
        """Find out why a commit was refused. Return the entries that an earlier one has written without a reply.

        Raises:
            LockLost: another writer has changed an entry.

        """
        keys = dict.fromkeys([self.key, self._last, *keys])
        found = self._manager.backend.read(keys)
        adopted = {}
        for key in keys:
            version = found.get(key)
            if may_be_same(version.revision if version is not None else 0, self._revisions.get(key, 0)):
                continue
            if version is None or version.value not in self._tried.get(key, ()):
                raise self._changed_error()
            adopted[key] = version
            self._revisions[key] = version.revision
        return adopted

    def _settle(self) -> None:
        """Learn what this run has written, after an error that may have come in the middle of a commit."""
        for key, version in self._adopt(self._open).items():
            if key in self._open and self._learn(version)["state"] in ENDED:
                del self._open[key]  # its commit was made, and the error came after it

    def _changed_error(self) -> LockLost:
        message = f"run {self.name!r} was changed by another writer, as by a restore, an undo or a reset"
        self._changed = LockLost(message, ("Nothing was written. Start the run again", see("history", self.key)))
        return self._changed

    def _announce(self) -> None:
        """Show the steps that have lasted for a while as running. Called by the thread that renews the lock."""
        with suppress(StateException), self._mutex:
            for step in list(self._open.values()):
                if not self._is_over and step.is_to_announce(ANNOUNCE_SECONDS):
                    step.announce()

    # --- steps -------------------------------------------------------------------------------------------------

    @checked
    def step(
        self, name: str, function: Callable[..., Any] | None = None, *args: Any, key: str | int | None = None,
        retries: int | None = None, backoff: float | None = None, timeout: float | None = None,
        retry_on: type[BaseException] | tuple[type[BaseException], ...] | None = None,
        on_change: OnChange | None = None,
    ) -> Any:  # fmt: skip
        """Do a step once: call a function, or give a block; return the saved result if it was done before.

        With a function: `rows = run.step("fetch", fetch, url)`. Its result, the state `done` and a checkpoint are one
        commit. If the process dies before it, the next run calls the function again. For a coroutine function, write
        `await run.step(...)`.

        Without a function: `for tx in run.step("publish"):` runs its block once, and not at all when the step is done.
        `tx` is a transaction: its writes, its `tx.result` and the state `done` are one commit. `with run.step(...) as
        tx:` differs in one point: Python cannot pass over a `with` block. When the step is done, the block runs, writes
        nothing, and `tx.done` is true.

        The second call of one name is the step `name[2]`, and so on. In threads or tasks at once the order is by
        chance, so give each a `key`: the step is `name[KEY]`. A step inside another is `OUTER>name`.

        Args:
            name: the name of the step.
            function: what to call.
            *args: its arguments.
            key: what tells this call from others of the same name.
            retries: how often to try again after an error. None: as the run says.
            backoff: seconds before the first retry at most, doubled each time, up to 60.
            timeout: seconds for each try. A coroutine is cancelled. A function goes on in its thread, since Python
                cannot stop a thread: its result is dropped, and it is tried again only once it has ended.
            retry_on: the exceptions after which it is tried again.
            on_change: what to do if the step is done, and the arguments or the function's code differ: `"refuse"` it,
                `"run"` it again, or `"keep"` the result. Arguments that JSON cannot hold count by their type.

        Returns:
            The result, as JSON gives it back: a tuple is a list, on the first call too. A step that raised `SkipStep`
            returns None.

        Raises:
            StepChanged: by `on_change`.
            NotSerializable: JSON cannot hold the result.
            StepTimeout: the last try took too long.
            LockLost: the lock is lost, or another writer has changed the run.
            NotReplicated: the step is done, and too few replicas have confirmed it. The next run passes over it.
            InvalidArgument: an argument is not allowed, or two steps of one name are done at once.
            Whatever the function raises, after the last try. The step is then `failed`, and tried again next time.

        Cost: one commit. A step of over half a second has one more, which shows it as running.

        """
        from .step import Block, Step

        options = self.options.changed(
            retries=retries, backoff=backoff, timeout=timeout, retry_on=retry_on, on_change=on_change
        )
        if function is None:
            if args:
                raise InvalidArgument("a step without a function takes no arguments")
            return Block(Step(self, self.named(name, key), options), self._manager)
        return self.call(name, function, args, {}, options, key)

    def call(
        self, name: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any],
        options: Options, key: str | int | None = None,
    ) -> Any:  # fmt: skip
        """Do a step by a function, as `step` does."""
        from .step import call

        return call(self, self.named(name, key), function, args, kwargs, options)

    @checked
    def each(
        self, name: str, items: Iterable[Any], key: str | Callable[[Any], str | int] | None = None
    ) -> Iterator[Any]:
        """Give each item that is not done yet; it is done when the loop asks for the next.

        `for row in run.each("send", rows, key="id"):` goes over the items once, whatever is killed in between: an item
        in work when the process dies is given again, and none that is done. Items may be added and removed between two
        runs. An item whose block raises, or leaves the loop by `break`, is not done.

        Args:
            name: the name of the step.
            items: the items. They are read one by one.
            key: what identifies an item: the name of its field, or a function. None: the item itself, a text or a
                whole number.

        Raises:
            InvalidArgument: an item has no such key, or two items have the same.
            LockLost: as `step`.

        Cost: one commit of one small entry for each item.

        """
        from .each import each

        return each(self, self.named(name, None), items, key)

    def named(self, name: str, key: str | int | None) -> str:
        """Return the full name of a call of a step."""
        outer = current_step.get()
        inside = outer[1] if outer is not None and outer[0] is self else ""
        base = check_lock(name, "step")
        base = f"{inside}>{base}" if inside else base
        with self._mutex:
            counts = self._counts.setdefault(inside, {})
            if key is not None:
                name = f"{base}[{key}]"
                if name in counts:
                    message = f"step {name!r} of run {self.name!r} was called before with this key"
                    raise InvalidArgument(message, "Give each call a key of its own")
                counts[name] = 1
                return name
            number = counts[base] = counts.get(base, 0) + 1
            former = base if number == 2 else f"{base}[{number - 1}]"
            if number > 1 and former in self._busy:
                message = f"two steps named {base!r} of run {self.name!r} are done at once"
                raise InvalidArgument(message, "Their order is by chance: give each a key=")
            name = base if number == 1 else f"{base}[{number}]"
            self._busy.add(name)
            return name

    # --- for steps ---------------------------------------------------------------------------------------------

    def found(self, key: str) -> Record | None:
        """Return the record of a step without its result, None if it was never begun."""
        with self._mutex:
            if key in self._tried and (version := self._adopt([key]).get(key)) is not None:
                self._learn(version)  # it was done inside another, which is tried again
        return self._steps[key][0] if key in self._steps else None

    def result(self, key: str) -> Any:
        """Return a fresh copy of the saved result of a step."""
        return codec.decode(self._steps[key][1], key).get("result")

    def items_done(self, key: str) -> set[str]:
        """Return the keys of the items of a step that are done."""
        return self._items.setdefault(key, set())

    def opened(self, step: Step) -> int:
        """Take a step as being done. Return its place among the steps of the run."""
        with self._mutex:
            self._open[step.key] = step
            self._counts.pop(step.name, None)  # another try numbers the steps inside it anew
            record = self.found(step.key)
            if record is None or "order" not in record:
                self._order += 1
                return self._order
            return int(record["order"])

    def closed(self, step: Step) -> None:
        """Take a step as not being done any more."""
        with self._mutex:
            self._open.pop(step.key, None)
            self._busy.discard(step.name)

    def write_step(self, step: Step, data: bytes, record: Record, request: CommitRequest | None = None) -> None:
        """Commit the record of a step; of one that is done, together with its checkpoint and with a request."""
        is_done = record["state"] in ENDED
        if is_done and self._checkpoints:
            name = records.checkpoint_name(self.name, step.name)
            mark = CheckpointWrite(name, self._note(), kind="auto", after=True)
            request = replace(request or CommitRequest(), marks=(*(request.marks if request else ()), mark))
        writes = {step.key: data}
        with self._mutex:
            if not is_done:
                self._record["step"] = step.name
                writes |= self._own_write()
            self.commit(writes, request, reason=f"run {self.name}: {step.name} {record['state']}")
            self._steps[step.key] = record, data
        if len(data) > records.LARGE_BYTES:
            size = f"{len(data) / 1e6:.1f} MB"
            text = f"the result of step {step.name!r} takes {size} in the state; return a path or an id instead"
            warnings.warn(text, stacklevel=2)


_ENDS = {"done": "is done", "failed": "failed", "interrupted": "was interrupted"}


def _record_of(version: Version) -> Record:
    """Return the record of an entry without the result."""
    record = records.record_of(codec.decode(version.value or b"", version.key), version.key)
    return {name: value for name, value in record.items() if name != "result"}


def reset_hint(run_name: str, step: str) -> tuple[Any, ...]:
    """Return what to do about a step that was done with other arguments."""
    return (
        run("run", "reset", step, "--run", run_name, after=" to do it again, with all steps after it"),
        "Or give on_change='run' to do it again alone, or 'keep' to keep its result",
    )


def _terminate(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(_SIGTERM_STATUS)
