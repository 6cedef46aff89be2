"""Commands that may take long: each on a daemon thread of its own, with progress, stoppable, its output kept.

A job is told to stop; its handler hears of it in the next call to the backend, in the next word of progress, or between
two pieces of its result. A commit is one call, so it is whole or not at all.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from ...cli.context import Context
from ...cli.exit_codes import ConfirmationRequired, exit_code
from ...cli.render import Style, render
from ...cli.results import Changes, DiffResult, Result, Table, ValueResult
from ...errors import StateException
from ...manager import StateManager
from .observed_manager import Committed, observe

if TYPE_CHECKING:
    from textual.screen import Screen

    from ..app import Dashboard

MAX_LINES = 100_000  # of one output that are kept
MAX_CHARACTERS = 16_000_000  # of one output that are kept
LINE_CHARACTERS = 20_000  # characters of one line that are kept
MAX_OUTPUTS = 3  # of ended jobs that are kept
WHOLE_VALUE_BYTES = 4_000_000  # bytes of a value that is shown whole
_BY_LINES = ("", "pretty", "table", "json")  # formats of a table with a line for each row, after one of titles
POLL_SECONDS = 0.1  # seconds between two looks whether a question is still wanted


class Stopped(Exception):
    """Raised inside a handler, once, after its job was told to stop."""


class OutputTarget(NamedTuple):
    """What a line is about: a key, a place in its value (JSON Pointer), and a character of the text there."""

    key: str
    pointer: str
    at: int | None


class JobOutput:
    """The lines that a job has printed. One thread writes, another may read at any time."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.found: dict[int, OutputTarget] = {}  # what lines are about, by their numbers, where they are of a search
        self.full = False
        self.signs = False  # whether a line's first sign says what changed
        self._left = MAX_CHARACTERS
        self._open = ""

    def write(self, piece: str) -> bool:
        """Take a piece of text; False if no more is kept. O(length)."""
        *whole, last = piece.split("\n")
        for part in whole:
            self._add(self._open + part)
            self._open = ""
        self._open = (self._open + last)[: LINE_CHARACTERS + 1]
        return not self.full

    def note(self, table: Table) -> None:
        """Note what the lines of a table are about, as they come: after one of titles, each is a row."""
        place, first = table.position, len(self.lines) + 1

        def rows(given: Iterable[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
            for number, row in enumerate(given, first):
                key, pointer, value = row
                self.found[number] = OutputTarget(key, pointer, None if place is None else place(value))
                yield row

        table.rows = rows(table.rows)

    def end(self) -> None:
        """Keep the last line, which had no line end."""
        if self._open:
            self._add(self._open)
            self._open = ""

    def _add(self, text: str) -> None:
        if len(self.lines) >= MAX_LINES or self._left <= 0:
            self.full = True
            return
        kept = text if len(text) <= LINE_CHARACTERS else f"{text[:LINE_CHARACTERS]}…"
        self._left -= len(kept)
        self.lines.append(kept)


class Job:
    """A command that runs, or has run.

    Args:
        line: the command line that it equals.
        wanted: whether anyone is still there for whom it runs.

    """

    def __init__(self, line: str, wanted: Callable[[], bool]) -> None:
        self.line = line
        self._wanted = wanted
        self.started = time.monotonic()
        self.ended: float | None = None
        self.output = JobOutput()
        self.progress = ""
        self.said = ""
        self.code = 0
        self.well = True
        self.stopping = False
        self.stopped = False
        self.screen: Screen[Any] | None = None  # where its output is shown
        self.question: Screen[Any] | None = None
        self.url, self.namespace, self.at = "", "", "live"  # what it looks at, if that is what the app did
        self.heard = False  # whether the handler has been told to stop

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self.ended is None

    @property
    def told(self) -> str:
        """How far it is, in words."""
        return "stopping…" if self.stopping and self.running else self.progress

    @property
    def seconds(self) -> float:
        """How long it has run, or ran."""
        return (self.ended or time.monotonic()) - self.started

    @property
    def unwanted(self) -> bool:
        """Whether it is to stop."""
        return self.stopping or not self._wanted()

    def check(self) -> None:
        """Raise Stopped if the job is to stop; once, so that a handler can clean up after itself."""
        if not self.heard and self.unwanted:
            self.heard = True
            raise Stopped

    def say(self, text: str) -> None:
        """`progress` of a context."""
        self.check()
        self.progress = text


class JobContext(Context):
    """What the handler of a job works with.

    Args:
        options: the global options.
        job: the job.
        jobs: asks and shows for it.
        manager: what to look with; None: one is opened as the options say, and closed at the end.

    """

    def __init__(self, options: dict[str, Any], job: Job, jobs: Jobs, manager: StateManager | None) -> None:
        super().__init__(options, lambda question: jobs.ask(job, question), lambda one: jobs.show(job, one), job.say)
        self._job = job
        self._committed = jobs.committed
        self._borrowed = manager is not None
        if manager is not None:
            self._manager = observe(manager, jobs.committed, job.check)

    def open(
        self, store: str | None, namespace: str | None, read_only: bool = False, timeout: float | None = None
    ) -> StateManager:
        return observe(super().open(store, namespace, read_only, timeout), self._committed, self._job.check)

    def close(self) -> None:
        """Let go of what was opened here."""
        if self._borrowed:
            self._manager = None
        super().close()


Perform = Callable[[Job, JobContext], Result | None]
Ended = Callable[[Job, Exception | None], None]


class Jobs:
    """The jobs of an app. `committed` is told of what they commit, on their threads."""

    def __init__(self, app: Dashboard, committed: Committed) -> None:
        self._app = app
        self.committed = committed
        self.running: list[Job] = []
        self.watchers: set[Callable[[], None]] = set()  # told when a job begins or ends

    def start(
        self, line: str, perform: Perform, ended: Ended, *,
        options: dict[str, Any], manager: StateManager | None,
    ) -> Job:  # fmt: skip
        """Run something on a thread of its own.

        Args:
            line: the command line that it equals.
            perform: runs there. A result that it returns is shown; None shows nothing.
            ended: told, in the app's turn, that the job has ended, and of its error. `job.stopped`: it was stopped.
            options: of its context.
            manager: of its context.

        """
        job = Job(line, lambda: self._app.is_running)
        if manager is not None:
            job.url, job.namespace = manager.url, manager.namespace
        self.running.append(job)
        context = JobContext(options, job, self, manager)

        def work() -> None:
            error: BaseException | None = None
            try:
                result = perform(job, context)
                if result is not None:
                    job.said, job.code = result.message(), result.code
            except Stopped:
                pass  # `job.heard` tells
            except BaseException as raised:
                error = raised
            context.close()
            if manager is not None and manager is not self._app.manager:
                manager.close()  # the app has gone elsewhere, and closed it while it was in use here
            job.output.end()
            self._app.call_later(self._end, job, error, ended)

        self._tell()
        threading.Thread(target=work, name="job", daemon=True).start()
        return job

    def _end(self, job: Job, error: BaseException | None, ended: Ended) -> None:
        if not job.running:
            return
        job.ended = time.monotonic()
        self.running.remove(job)
        job.stopped = (error is None and job.heard) or (job.stopping and isinstance(error, ConfirmationRequired))
        if job.stopped:
            job.said, job.code, error = f"stopped at {job.progress}" if job.progress else "stopped", 130, None
        if error is not None and not isinstance(error, (StateException, OSError, ValueError)):
            raise error  # a fault of ours ends the program with its traceback
        if isinstance(error, Exception):
            job.said, job.code = str(error), int(exit_code(error))
        job.well = job.code == 0
        self._tell()
        ended(job, error if isinstance(error, Exception) else None)

    def stop(self, job: Job | None = None) -> bool:
        """Tell a job to stop, by default the newest; whether there was one. Waits for nothing."""
        if job is None:
            job = next((one for one in reversed(self.running) if not one.stopping), None)
        if job is None or not job.running:
            return False
        job.stopping = True
        if job.question is not None and self._app.screen is job.question:
            job.question.dismiss(False)
        self._tell()
        return True

    def _tell(self) -> None:
        for watcher in list(self.watchers):
            watcher()

    # --- called on a job's thread ------------------------------------------------------------------------------

    def ask(self, job: Job, question: str) -> bool:
        """Put a question to the person, and wait; no, if the job is stopped or the app ends meanwhile."""
        answered = threading.Event()
        answers: list[bool | None] = []

        def settle(answer: bool | None) -> None:
            job.question = None
            answers.append(answer)
            answered.set()

        def put() -> None:
            from textual.screen import ModalScreen
            from textual.widgets import Input

            from ..dialogs.confirm import Confirm

            if job.stopping:
                return
            app = self._app
            if isinstance(app.screen, ModalScreen) or isinstance(app.focused, Input):
                app.set_timer(POLL_SECONDS, put)  # what a person types just now is not meant for it
                return
            job.question = Confirm(question.split("\n"), job.line)
            app.push_screen(job.question, settle)

        self._app.call_later(put)
        while not answered.wait(POLL_SECONDS):
            if job.stopping or not self._app.is_running:
                return False
        return bool(answers[0])

    def show(self, job: Job, result: Result, format_: str = "") -> None:
        """Print a result into the job's output, and open a screen that shows it."""
        self._app.call_later(self.open, job)
        job.output.signs = isinstance(result, (DiffResult, Changes))
        if isinstance(result, ValueResult) and not format_ and len(result.data) <= WHOLE_VALUE_BYTES:
            format_ = "pretty"
        before = len(job.output.lines)
        if isinstance(result, Table) and result.columns == ("key", "path", "value") and format_ in _BY_LINES:
            job.output.note(result)
        for piece in render(result, Style(format_, terminal=True)):
            job.check()
            if not job.output.write(piece):
                break
        job.output.end()
        if len(job.output.lines) == before and result.empty:
            job.output.write(f"{result.empty}\n")

    def open(self, job: Job) -> None:
        """Open a screen on a job's output, in the app's turn, unless there is one or it would be in the way."""
        from textual.screen import ModalScreen

        app = self._app
        if job.screen is not None or (isinstance(app.screen, ModalScreen) and job.seconds > 1):
            return  # what a person types now is not meant for it; the list of what was done has it
        from ..screens.output import OutputScreen

        job.screen = OutputScreen(job)
        app.push_screen(job.screen)
