"""Run commands for the screens on threads, and keep their command lines and outcomes."""

from __future__ import annotations

import os
import shlex
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from ...cli.context import Context
from ...cli.exit_codes import ConfirmationRequired
from ...cli.parser import parse
from ...cli.program import load_handler
from ...cli.render import Style, render
from ...cli.results import ActionResult, Result, plural
from ...errors import BackendError, NotReplicated, StateException
from ...manager import StateManager
from ...model import Commit
from ...states.moments import pinned
from ..display.redaction import MASK
from .jobs import MAX_OUTPUTS, Ended, Job, JobContext, Jobs, Perform
from .observed_manager import observe

if TYPE_CHECKING:
    from ...cli.line_parser import ParsedLine
    from ..app import Dashboard
    from .command_line import ParsedCommand

MAX_ACTIONS = 500  # completed actions in memory
_MAX_WORDS = 100  # a command line shows no more words
_WORD_CHARACTERS = 400  # longer words of a command line are cut
_LINE_CHARACTERS = 4_000  # longer command lines are cut
_NOTICE_LINES = 6  # a message with more lines opens the output screen


class CompletedAction(NamedTuple):
    """An action that has ended.

    `time` is in seconds since 1970, `line` the command line, `outcome` the message or the error. `job` has the output
    while it is in memory. `stopped` says whether the user stopped the action.
    """

    time: float
    line: str
    outcome: str
    succeeded: bool
    job: Job | None = None
    stopped: bool = False


class ActionContext(Context):
    """A context that uses the dashboard's manager and leaves it open."""

    def __init__(self, manager: StateManager, options: dict[str, Any]) -> None:
        super().__init__(options)
        self._manager = manager

    def close(self) -> None:
        """Keep the borrowed manager open."""
        self._manager = None


def command_line(words: list[str], where: Iterable[str] = ()) -> str:
    """Return the command line of an action for a terminal, on one line.

    Long words end in `…`, and many words are replaced by their number.
    """
    shown = [
        shlex.quote(word if len(word) <= _WORD_CHARACTERS else word[:_WORD_CHARACTERS] + "…")
        for word in words[:_MAX_WORDS]
    ]
    if len(words) > _MAX_WORDS:
        shown.append(f"… ({len(words) - _MAX_WORDS:,} more words)")
    return " ".join(["stateview", *map(shlex.quote, where), *shown])


class ActionRunner:
    """Runs commands for the screens of an app, and records the completed actions."""

    def __init__(self, app: Dashboard) -> None:
        self._app = app
        self._commits: set[tuple[str, str, int]] = set()  # store URL, namespace and revision
        self.done: list[CompletedAction] = []
        self.jobs = Jobs(app, self)
        self._waiting: deque[Callable[[], None]] = deque()  # actions in order. The first is running
        self.typed: list[str] = []  # the typed lines, oldest first

    def committed(self, url: str, namespace: str, revision: int) -> None:
        """Remember a commit, and end a pause of the dashboard."""
        self._commits.add((url, namespace, revision))
        self._app.call_later(self._app.resume)

    def unconfirmed(self, error: NotReplicated) -> None:
        """Show a notice beside that of the act, which goes on."""
        self._app.call_later(self._app.show_error, error, act=True)

    def was_made_here(self, commit: Commit) -> bool:
        """Whether this session made a commit of the present namespace."""
        manager = self._app.manager
        return (manager.url, manager.namespace, commit.revision) in self._commits

    def run(
        self, words: list[str], *, then: Callable[[Result], None] | None = None,
        failed: Callable[[Exception], None] | None = None,
    ) -> None:  # fmt: skip
        """Run a short command that writes, with `--yes`. Commands run one after the other, in the order of the calls.

        Args:
            words: the command line, word by word, without `stateview`.
            then: takes the result, in the app's thread. Without it, a notice shows the message of the result.
            failed: takes the error. Without it, the error is shown.

        """
        app, line = self._app, self._app.command_line(words)
        parsed = parse(words)
        assert parsed.command is not None, "an action is a command"
        handler, manager = load_handler(parsed.command), app.manager

        def act(_stop: object) -> Result:
            context = ActionContext(observe(manager, self), {**app.options, "yes": True})
            result: Result = handler(context, parsed.arguments)
            return _redact_message(result, parsed.arguments, app.masks)

        def end(result: Result) -> None:
            self._run_next()
            self._record(line, result.message(), result.code == 0)
            if then is not None:
                then(result)
            else:
                app.notify_user(result.message() or result.empty or "done")

        def fail(error: Exception) -> None:
            self._run_next()
            self._record(line, app.error_text(error), False)
            if failed is not None:
                failed(error)
            else:
                app.show_error(error, act=True)

        self._waiting.append(lambda: app.reader.submit(app, "act", act, end, fail))
        if len(self._waiting) == 1:
            self._waiting[0]()

    def _run_next(self) -> None:
        self._waiting.popleft()
        if self._waiting:
            self._waiting[0]()

    def start(
        self, words: list[str], *, then: Callable[[Result], None] | None = None,
        failed: Callable[[Exception], None] | None = None,
    ) -> Job:  # fmt: skip
        """Run a command that may take long as a job, with progress, and with `--yes`. The user can stop the job.

        Args:
            words: the command line, word by word, without `stateview`.
            then: takes the result, in the app's thread, unless the job was stopped. Without it, a notice reports it.
            failed: takes the error. Without it, the error is shown.

        """
        parsed = parse(words)
        assert parsed.command is not None, "an action is a command"
        handler, arguments, results = load_handler(parsed.command), parsed.arguments, []

        def perform(job: Job, context: JobContext) -> Result:
            result: Result = handler(context, arguments)
            results.append(result)
            if then is None:
                self._print(job, result, arguments)
            return result

        def ended(job: Job, error: Exception | None) -> None:
            if error is not None and failed is not None:
                failed(error)
            elif error is None and not job.stopped and then is not None:
                then(results[0])
            else:
                self._report(job, error)

        app = self._app
        return self._start(app.command_line(words), perform, ended, {**app.options, "yes": True}, app.manager)

    # --- typed lines -------------------------------------------------------------------------------------------

    def submit(self, text: str) -> None:
        """Run a typed line as the shell does, with its questions.

        Raises:
            StateException: the line is malformed, or the command is not available here. Nothing was done.

        """
        from ..display.result_redaction import reveals_redacted
        from .command_line import TERMINAL, opens_screen, parse_line

        app = self._app
        typed = parse_line(text, app.page_stores)
        if self.typed[-1:] != [text] and not reveals_redacted(typed.arguments, app.masks):
            self.typed.append(text)
            del self.typed[:-MAX_ACTIONS]
        name = typed.command.name if typed.command is not None else typed.line.texts[0] if typed.line.words else ""
        if name == "theme":
            from ..display.themes import choose_theme

            choose_theme(app, next(iter(typed.line.texts[1:]), None))
        elif name == "done":
            app.action_done()
        elif name == "exit":
            app.exit()
        elif name in ("use", "connect"):
            app.switch_to(typed.arguments.get("store"), typed.arguments.get("namespace"))
        elif name == "diff" and opens_screen(typed):
            from ..screens.diff import DiffScreen

            before, after = typed.arguments["before"], typed.arguments.get("after", "live")
            app.push_screen(DiffScreen(before, after))
        elif name in TERMINAL:
            from .suspend import run_in_terminal

            outcome, succeeded = run_in_terminal(app, typed.line.texts)
            self._record(text, outcome, succeeded)
            if not succeeded:
                app.notify_user(outcome, wrong=True)
        else:
            self._start_typed(typed)

    def _start_typed(self, typed: ParsedCommand) -> None:
        from ..display.result_redaction import reveals_redacted

        app, line = self._app, typed.line
        elsewhere = not typed.options.keys() <= {"format", "yes", "help"}  # options such as --store need a new manager
        options = {**app.options, **typed.options}
        handler = load_handler(typed.command) if typed.command is not None else None

        def perform(job: Job, context: JobContext) -> Result | None:
            if handler is None:
                from .command_line import pipe

                app.call_later(self.jobs.open, job)
                pipe(line.bang, iter(()), job)
                return None
            result: Result = handler(context, typed.arguments)
            result = _redact_message(result, typed.arguments, app.masks)
            self._print(job, result, typed.arguments, typed.options.get("format", ""), line)
            return result

        if typed.command is not None and reveals_redacted(typed.arguments, app.masks):
            shown = app.command_line([typed.command.name, typed.arguments["key"], MASK])
        elif line.bang:
            shown = typed.text
        else:
            where = [] if elsewhere else map(shlex.quote, app.target_options)
            shown = " ".join(["stateview", *where, typed.text.strip()])
        self._start(shown, perform, self._report, options, None if elsewhere else app.manager)

    def _print(
        self, job: Job, result: Result, arguments: dict[str, Any], format_: str = "", line: ParsedLine | None = None
    ) -> None:
        """Print a result to the file, the pipe or the screen that the line names. Runs on the job's thread."""
        from ..display.result_redaction import redact_result

        job.at = str(pinned(self._app.manager.backend, arguments.get("at", "live")))
        pieces = render(result, Style(format_))
        if line is not None and line.file:
            write_file(line.file, line.append, pieces, job)
        elif line is not None and line.pipe:
            from .command_line import pipe

            self._app.call_later(self.jobs.open, job)
            pipe(
                line.pipe,
                render(redact_result(result, arguments, self._app.redact, self._app.export_hint), Style(format_)),
                job,
            )
        elif not isinstance(result, ActionResult) or format_ in ("json", "jsonl"):
            self.jobs.show(job, redact_result(result, arguments, self._app.redact, self._app.export_hint), format_)

    def _start(
        self, line: str, perform: Perform, ended: Ended, options: dict[str, Any], manager: StateManager | None
    ) -> Job:
        shown = line if len(line) <= _LINE_CHARACTERS else line[:_LINE_CHARACTERS] + "…"

        def end(job: Job, error: Exception | None) -> None:
            if error is None and job.outcome.count("\n") >= _NOTICE_LINES:
                job.output.write(job.outcome + "\n")
                self.jobs.open(job)
            lines = len(job.output.lines)
            outcome = job.outcome or (plural(lines, "line") if lines else "done")
            self._record(shown, outcome, job.succeeded, job if lines else None, job.stopped)
            ended(job, error)

        return self.jobs.start(shown, perform, end, options=options, manager=manager)

    def _report(self, job: Job, error: Exception | None) -> None:
        """Show a notice with the outcome of a job, unless the screen of its output is open."""
        app, lines = self._app, len(job.output.lines)
        if job.screen is not None and job.screen.is_attached:
            return
        if isinstance(error, ConfirmationRequired):
            app.notify_user("not done; nothing was changed")
        elif error is not None:
            app.show_error(error, act=True)
        else:
            kept = f"{plural(lines, 'line')} printed: the list of actions shows them" if lines else ""
            code = f"exit code {job.code}" if job.code and not job.stopped else ""
            parts = [part for part in (job.outcome or ("" if kept else "done"), code, kept) if part]
            app.notify_user(
                f"{app.short_command(job.line)}\n" + " · ".join(parts), wrong=not job.succeeded and not job.stopped
            )

    def _record(self, line: str, outcome: str, succeeded: bool, job: Job | None = None, stopped: bool = False) -> None:
        self.done.append(CompletedAction(time.time(), line, outcome, succeeded, job, stopped))
        del self.done[:-MAX_ACTIONS]
        with_output = [index for index, action in enumerate(self.done) if action.job is not None]
        for index in with_output[:-MAX_OUTPUTS]:
            self.done[index] = self.done[index]._replace(job=None)


def _redact_message(result: Result, arguments: dict[str, Any], patterns: tuple[str, ...]) -> Result:
    """Mask the value in the message of an action. Other results are masked where they are printed."""
    if not patterns or not isinstance(result, ActionResult):
        return result
    from ..display.result_redaction import redact_result

    return redact_result(result, arguments, patterns)


def write_file(path: str, append: bool, pieces: Iterator[str], job: Job) -> None:
    """Write pieces of text to a file, as `>` and `>>` of the shell do.

    Raises:
        BackendError: the file cannot be written.

    """
    path = os.path.expanduser(path)
    try:
        with open(path, "ab" if append else "wb") as file:
            for piece in pieces:
                job.check()
                file.write(piece.encode(errors="surrogatepass"))
    except OSError as error:
        if isinstance(error, StateException):
            raise
        raise BackendError(f"{path}: {error.strerror}") from error
