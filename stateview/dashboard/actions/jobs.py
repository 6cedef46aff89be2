"""Commands that may take long. Each runs on its own daemon thread, reports progress, and can be stopped.

A request to stop takes effect at the next call to the backend, at the next progress report, or between two pieces of
the result. A commit is one call, so a job never stops inside a commit.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from ...cli.context import Context
from ...cli.exit_codes import ConfirmationRequired, exit_code
from ...cli.render import Style, render
from ...cli.results import Changes, DiffResult, Record, Result, Table, ValueResult
from ...errors import StateException
from ...manager import StateManager
from .observed_manager import Observer, observe

if TYPE_CHECKING:
    from textual.screen import Screen

    from ..app import Dashboard

MAX_LINES = 100_000  # an output keeps no more lines
MAX_CHARACTERS = 16_000_000  # an output keeps no more characters
LINE_CHARACTERS = 20_000  # longer lines are cut
MAX_OUTPUTS = 3  # outputs of ended jobs in memory
WHOLE_VALUE_BYTES = 4_000_000  # larger values are not indented
_FRAME_LINES = 3  # of the screen of an output: title, state and keys
_BY_LINES = ("", "pretty", "table", "json")  # the formats with a line of titles, and then a line for each row
POLL_SECONDS = 0.1  # how often a question checks whether its job was stopped


class Stopped(Exception):
    """Raised once inside a handler whose job was stopped."""


class OutputTarget(NamedTuple):
    """The place that a line shows: a key, a JSON Pointer into its value, and the index of a character of the text."""

    key: str
    pointer: str
    at: int | None


class JobOutput:
    """The lines that a job has printed. One thread writes, and another may read at any time."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.targets: dict[int, OutputTarget] = {}  # by line number, for the result of a search
        self.revision: int | None = None  # of the commit that the output is about
        self.full = False
        self.signs = False  # whether each line begins with the sign of a change
        self._characters_left = MAX_CHARACTERS
        self._partial = ""  # the last line, until its end is written

    def write(self, piece: str) -> bool:
        """Add a piece of text, and return whether the output takes more. O(length)."""
        *ended, last = piece.split("\n")
        for part in ended:
            self._add(self._partial + part)
            self._partial = ""
        self._partial = (self._partial + last)[: LINE_CHARACTERS + 1]
        return not self.full

    def record_targets(self, table: Table) -> None:
        """Record the target of each row of a table while the rows are printed below a line of titles."""
        position, first = table.position, len(self.lines) + 1

        def record(rows: Iterable[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
            for number, row in enumerate(rows, first):
                key, pointer, value = row
                self.targets[number] = OutputTarget(key, pointer, None if position is None else position(value))
                yield row

        table.rows = record(table.rows)

    def end(self) -> None:
        """Add the last line if it has no line end."""
        if self._partial:
            self._add(self._partial)
            self._partial = ""

    def _add(self, line: str) -> None:
        if len(self.lines) >= MAX_LINES or self._characters_left <= 0:
            self.full = True
            return
        kept = line if len(line) <= LINE_CHARACTERS else f"{line[:LINE_CHARACTERS]}…"
        self._characters_left -= len(kept)
        self.lines.append(kept)


class Job:
    """A command that runs, or has run.

    Args:
        line: the command line of the job.
        wanted: returns whether the app still runs.

    """

    def __init__(self, line: str, wanted: Callable[[], bool]) -> None:
        self.line = line
        self._wanted = wanted
        self.started = time.monotonic()
        self.ended: float | None = None
        self.output = JobOutput()
        self.progress = ""
        self.outcome = ""  # the message of the result, or the error
        self.code = 0
        self.succeeded = True
        self.stopping = False  # whether the user has stopped the job
        self.stopped = False
        self.screen: Screen[Any] | None = None  # the screen that shows the output
        self.question: Screen[Any] | None = None
        self.url, self.namespace, self.at = "", "", "live"  # the state that the job reads, if it is the app's
        self.stop_raised = False  # whether the handler has got `Stopped`

    @property
    def running(self) -> bool:
        """Whether the job has not ended."""
        return self.ended is None

    @property
    def progress_text(self) -> str:
        """The progress to show. Empty if there was no report."""
        return "stopping…" if self.stopping and self.running else self.progress

    @property
    def seconds(self) -> float:
        """The time since the start, or between start and end."""
        return (self.ended or time.monotonic()) - self.started

    @property
    def should_stop(self) -> bool:
        """Whether the handler should stop."""
        return self.stopping or not self._wanted()

    def check(self) -> None:
        """Raise Stopped if the handler should stop.

        Later calls do not raise, so that the handler can use the backend to clean up.
        """
        if not self.stop_raised and self.should_stop:
            self.stop_raised = True
            raise Stopped

    def report(self, text: str) -> None:
        """Report progress. Raises Stopped if the handler should stop."""
        self.check()
        self.progress = text


class JobContext(Context):
    """The context of a job's handler.

    Args:
        options: the global options.
        job: the job.
        jobs: asks questions and shows results for the job.
        manager: the manager to use. None opens a manager by the options, and closes it at the end.

    """

    def __init__(self, options: dict[str, Any], job: Job, jobs: Jobs, manager: StateManager | None) -> None:
        super().__init__(
            options, lambda question: jobs.ask(job, question), lambda result: jobs.show(job, result), job.report,
            ask_line=lambda question: jobs.ask_line(job, question),
        )  # fmt: skip
        self.opens_full_screen = False
        self._job = job
        self._observer = jobs.observer
        self._borrowed = manager is not None
        if manager is not None:
            self._manager = observe(manager, jobs.observer, job.check)

    def open(
        self, store: str | None, namespace: str | None, read_only: bool = False, timeout: float | None = None
    ) -> StateManager:
        return observe(super().open(store, namespace, read_only, timeout), self._observer, self._job.check)

    def close(self) -> None:
        """Close the manager, unless it was passed to the context."""
        if self._borrowed:
            self._manager = None
        super().close()


Perform = Callable[[Job, JobContext], Result | None]
Ended = Callable[[Job, Exception | None], None]


class Jobs:
    """The jobs of an app. `observer` is told of each commit of a job."""

    def __init__(self, app: Dashboard, observer: Observer) -> None:
        self._app = app
        self.observer = observer
        self.running: list[Job] = []
        self.watchers: set[Callable[[], None]] = set()  # called when a job starts, stops or ends

    def start(
        self, line: str, perform: Perform, ended: Ended, *,
        options: dict[str, Any], manager: StateManager | None,
    ) -> Job:  # fmt: skip
        """Start a job on its own thread.

        Args:
            line: the command line of the job.
            perform: runs on the thread. Its result, if any, gives the job its outcome and exit code.
            ended: called in the app's thread with the ended job and its error. `job.stopped` tells of a stop.
            options: the options of the context.
            manager: the manager of the context.

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
                    job.outcome, job.code = result.message(), result.code
            except Stopped:
                pass  # `job.stop_raised` is set
            except BaseException as raised:
                error = raised
            context.close()
            if manager is not None and manager is not self._app.manager:
                manager.close()  # the app closed it when it switched, while the job still used it
            job.output.end()
            self._app.call_later(self._end, job, error, ended)

        self._notify_watchers()
        threading.Thread(target=work, name="job", daemon=True).start()
        return job

    def _end(self, job: Job, error: BaseException | None, ended: Ended) -> None:
        if not job.running:
            return
        job.ended = time.monotonic()
        self.running.remove(job)
        job.stopped = (error is None and job.stop_raised) or (job.stopping and isinstance(error, ConfirmationRequired))
        if job.stopped:
            job.outcome, job.code, error = f"stopped at {job.progress}" if job.progress else "stopped", 130, None
        if error is not None and not isinstance(error, (StateException, OSError, ValueError)):
            raise error  # a bug ends the program with its traceback
        if isinstance(error, Exception):
            job.outcome, job.code = self._app.error_text(error), int(exit_code(error))
        job.succeeded = job.code == 0
        self._notify_watchers()
        ended(job, error if isinstance(error, Exception) else None)

    def stop(self, job: Job | None = None) -> bool:
        """Stop a job, by default the newest, and return whether there was a job to stop. Does not wait."""
        if job is None:
            job = next((running for running in reversed(self.running) if not running.stopping), None)
        if job is None or not job.running:
            return False
        job.stopping = True
        if job.question is not None and self._app.screen is job.question:
            job.question.dismiss(None)
        self._notify_watchers()
        return True

    def _notify_watchers(self) -> None:
        for watcher in list(self.watchers):
            watcher()

    # --- called on a job's thread ------------------------------------------------------------------------------

    def ask(self, job: Job, question: str) -> bool:
        """Ask the user, and wait for the answer. Returns False if the job is stopped or the app ends before."""
        from ..dialogs.confirm import Confirm

        return bool(self._answer(job, lambda: Confirm(question.split("\n"), job.line)))

    def ask_line(self, job: Job, question: str) -> str:
        """Ask the user for a line, and wait for it. Returns "" if the job is stopped or the app ends before."""
        from ..dialogs.prompt import PromptDialog

        dialog = partial(PromptDialog, "Sure?", command=lambda _text: job.line, hint=question)
        answer: str | None = self._answer(job, dialog)
        return answer or ""

    def _answer(self, job: Job, dialog: Callable[[], Screen[Any]]) -> Any:
        """Open a dialog, and wait for its result. Returns None if the job is stopped or the app ends before."""
        answered = threading.Event()
        answers: list[Any] = []

        def take_answer(answer: Any) -> None:
            job.question = None
            answers.append(answer)
            answered.set()

        def open_dialog() -> None:
            from textual.screen import ModalScreen
            from textual.widgets import Input

            if job.stopping:
                return
            app = self._app
            if isinstance(app.screen, ModalScreen) or isinstance(app.focused, Input):
                app.set_timer(POLL_SECONDS, open_dialog)  # keys that are typed now are not an answer
                return
            job.question = question = dialog()
            app.push_screen(question, take_answer)

        self._app.call_later(open_dialog)
        while not answered.wait(POLL_SECONDS):
            if job.stopping or not self._app.is_running:
                return None
        return answers[0]

    def show(self, job: Job, result: Result, format_: str = "") -> None:
        """Print a result into the job's output, and open the screen of the output."""
        self._app.call_later(self.open, job)
        job.output.signs = isinstance(result, (DiffResult, Changes))
        if isinstance(result, ValueResult) and not format_ and len(result.data) <= WHOLE_VALUE_BYTES:
            format_ = "pretty"
        before = len(job.output.lines)
        if isinstance(result, Record) and isinstance(result.data.get("revision"), int):
            job.output.revision = result.data["revision"]
        if isinstance(result, Table) and result.columns == ("key", "path", "value") and format_ in _BY_LINES:
            job.output.record_targets(result)
        size = self._app.size
        style = Style(format_, terminal=True, columns=size.width - 2, lines=size.height - _FRAME_LINES)
        for piece in render(result, style):
            job.check()
            if not job.output.write(piece):
                break
        job.output.end()
        if len(job.output.lines) == before and result.empty:
            job.output.write(f"{result.empty}\n")

    def open(self, job: Job) -> None:
        """Open the screen of a job's output, unless it is open or would hide a dialog. Runs in the app's thread."""
        from textual.screen import ModalScreen

        app = self._app
        if job.screen is not None or (isinstance(app.screen, ModalScreen) and job.seconds > 1):
            return  # keys that are typed now are for the dialog. The list of actions opens the output later
        from ..screens.output import OutputScreen

        job.screen = OutputScreen(job)
        app.push_screen(job.screen)
