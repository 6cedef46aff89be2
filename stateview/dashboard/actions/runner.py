"""Commands of the table, run from a screen: on a thread, told when they end, and kept with their command lines."""

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
from ...cli.results import ActionResult as ResultDone
from ...cli.results import Result, plural
from ...errors import BackendError, StateException
from ...manager import StateManager
from ...model import Commit
from ..display.redaction import MASK
from .jobs import MAX_OUTPUTS, Ended, Job, JobContext, Jobs, Perform
from .observed_manager import observe

if TYPE_CHECKING:
    from ...cli.line_parser import ParsedLine
    from ..app import Dashboard
    from .command_line import ParsedCommand

MAX_ACTIONS = 500  # acts that are remembered
_MAX_WORDS = 100  # words of a command line that are shown
_WORD_CHARACTERS = 400  # characters of one word of a command line
_LINE_CHARACTERS = 4_000  # characters of a line that was typed
_NOTICE_LINES = 6  # lines of a report that a notice shows


class CompletedAction(NamedTuple):
    """An act that has ended.

    When (seconds since 1970), its command line, what came of it, whether that was well, its output, if it is kept, and
    whether the person stopped it.
    """

    time: float
    line: str
    said: str
    well: bool
    job: Job | None = None
    stopped: bool = False


class ActionContext(Context):
    """A context of the manager that the dashboard looks with, which it leaves open."""

    def __init__(self, manager: StateManager, options: dict[str, Any]) -> None:
        super().__init__(options)
        self._manager = manager

    def close(self) -> None:
        """Keep the borrowed manager open."""
        self._manager = None


def command_line(words: list[str], where: Iterable[str] = ()) -> str:
    """Return what to type for an act in a terminal, on one line.

    A long value is cut, and marked so; so are many words.
    """
    shown = [
        shlex.quote(word if len(word) <= _WORD_CHARACTERS else word[:_WORD_CHARACTERS] + "…")
        for word in words[:_MAX_WORDS]
    ]
    if len(words) > _MAX_WORDS:
        shown.append(f"… ({len(words) - _MAX_WORDS:,} more words)")
    return " ".join(["stateview", *map(shlex.quote, where), *shown])


class ActionRunner:
    """Runs commands for the screens of an app, and remembers what was done."""

    def __init__(self, app: Dashboard) -> None:
        self._app = app
        self._made: set[tuple[str, str, int]] = set()
        self.done: list[CompletedAction] = []
        self.jobs = Jobs(app, self._committed)
        self._waiting: deque[Callable[[], None]] = deque()  # acts in their order, the first of them at work
        self.typed: list[str] = []  # the lines that were typed, oldest first

    def _committed(self, url: str, namespace: str, revision: int) -> None:
        self._made.add((url, namespace, revision))
        self._app.call_later(self._app.resume)

    def made(self, commit: Commit) -> bool:
        """Whether a commit of the namespace that is looked at was made here, in this session."""
        manager = self._app.manager
        return (manager.url, manager.namespace, commit.revision) in self._made

    def run(
        self, words: list[str], *, then: Callable[[Result], None] | None = None,
        failed: Callable[[Exception], None] | None = None,
    ) -> None:  # fmt: skip
        """Run a command that changes something, as if its words were typed with `--yes`; nothing is asked here.

        One after the other, in the order in which they were asked for.

        Args:
            words: the command line, word by word, without `stateview`.
            then: gets the result, in the app's turn; without it, what the result tells is shown as a notice.
            failed: gets the error; without it, the error is shown.

        """
        app, line = self._app, self._app.command_line(words)
        bound = parse(words)
        assert bound.command is not None, "an act is a command"
        handler, manager = load_handler(bound.command), app.manager

        def act(_stop: object) -> Result:
            context = ActionContext(observe(manager, self._committed), {**app.options, "yes": True})
            result: Result = handler(context, bound.arguments)
            return _told_seen(result, bound.arguments, app.redact)

        def end(result: Result) -> None:
            self._next()
            self._keep(line, result.message(), result.code == 0)
            if then is not None:
                then(result)
            else:
                app.notify_user(result.message() or result.empty or "done")

        def fail(error: Exception) -> None:
            self._next()
            self._keep(line, str(error), False)
            if failed is not None:
                failed(error)
            else:
                app.show_error(error, act=True)

        self._waiting.append(lambda: app.reader.submit(app, "act", act, end, fail))
        if len(self._waiting) == 1:
            self._waiting[0]()

    def _next(self) -> None:
        self._waiting.popleft()
        if self._waiting:
            self._waiting[0]()

    def start(
        self, words: list[str], *, then: Callable[[Result], None] | None = None,
        failed: Callable[[Exception], None] | None = None,
    ) -> Job:  # fmt: skip
        """As `run`, for what may take long: with progress and a bar, and it can be stopped. Ends in a report.

        Args:
            words: as of `run`.
            then: gets the result, in the app's turn, if the job was not stopped; without it, a notice tells of it.
            failed: gets the error; without it, the error is shown.

        """
        bound = parse(words)
        assert bound.command is not None, "an act is a command"
        handler, arguments, results = load_handler(bound.command), bound.arguments, []

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

    # --- lines that are typed ----------------------------------------------------------------------------------

    def submit(self, text: str) -> None:
        """Run a line as the shell would, asking what is to be asked.

        Raises:
            StateException: it cannot be read, or has no place here; nothing was done.

        """
        from ..display.result_redaction import reveals_redacted
        from .command_line import TERMINAL, take

        app = self._app
        typed = take(text, app.is_web)
        if self.typed[-1:] != [text] and not reveals_redacted(typed.arguments, app.redact):
            self.typed.append(text)
            del self.typed[:-MAX_ACTIONS]
        name = typed.command.name if typed.command is not None else typed.line.texts[0] if typed.line.words else ""
        if name in ("theme", "done"):
            self._own(name, typed.line.texts[1:])
        elif name == "exit":
            app.exit()
        elif name in ("use", "connect"):
            app.switch_to(typed.arguments.get("store"), typed.arguments.get("namespace"))
        elif name in TERMINAL:
            from .suspend import run_in_terminal

            said, well = run_in_terminal(app, typed.line.texts)
            self._keep(text, said, well)
            if not well:
                app.notify_user(said, wrong=True)
        else:
            self._submit(typed)

    def _own(self, name: str, words: list[str]) -> None:
        if name == "done":
            self._app.action_done()
            return
        from ..display.themes import choose_theme

        choose_theme(self._app, words[0] if words else None)

    def _submit(self, typed: ParsedCommand) -> None:
        from ..display.result_redaction import reveals_redacted

        app, line = self._app, typed.line
        elsewhere = {name: value for name, value in typed.options.items() if name not in ("format", "yes", "help")}
        options = {**app.options, **typed.options}
        handler = load_handler(typed.command) if typed.command is not None else None

        def perform(job: Job, context: JobContext) -> Result | None:
            if handler is None:
                from .command_line import pipe

                app.call_later(self.jobs.open, job)
                pipe(line.bang, iter(()), job)
                return None
            result: Result = handler(context, typed.arguments)
            result = _told_seen(result, typed.arguments, app.redact)
            self._print(job, result, typed.arguments, typed.options.get("format", ""), line)
            return result

        if reveals_redacted(typed.arguments, app.redact):
            shown = app.command_line(["save", typed.arguments["key"], MASK])
        elif line.bang:
            shown = typed.text
        else:
            where = [] if elsewhere else map(shlex.quote, app.target_options)
            shown = " ".join(["stateview", *where, typed.text.strip()])
        self._start(shown, perform, self._report, options, None if elsewhere else app.manager)

    def _print(
        self, job: Job, result: Result, arguments: dict[str, Any], format_: str = "", line: ParsedLine | None = None
    ) -> None:
        """On a job's thread: what a result prints, to where the line says."""
        from ..display.result_redaction import redact_result

        job.at = arguments.get("at", "live")
        pieces = render(result, Style(format_))
        if line is not None and line.file:
            write_file(line.file, line.append, pieces, job)
        elif line is not None and line.pipe:
            from .command_line import pipe

            self._app.call_later(self.jobs.open, job)
            pipe(line.pipe, render(redact_result(result, arguments, self._app.redact), Style(format_)), job)
        elif not isinstance(result, ResultDone) or format_ in ("json", "jsonl"):
            self.jobs.show(job, redact_result(result, arguments, self._app.redact), format_)

    def _start(
        self, line: str, perform: Perform, ended: Ended, options: dict[str, Any], manager: StateManager | None
    ) -> Job:
        shown = line if len(line) <= _LINE_CHARACTERS else line[:_LINE_CHARACTERS] + "…"

        def end(job: Job, error: Exception | None) -> None:
            if error is None and job.said.count("\n") >= _NOTICE_LINES:
                job.output.write(job.said + "\n")
                self.jobs.open(job)
            lines = len(job.output.lines)
            said = job.said or (plural(lines, "line") if lines else "done")
            self._keep(shown, said, job.well, job if lines else None, job.stopped)
            ended(job, error)

        return self.jobs.start(shown, perform, end, options=options, manager=manager)

    def _report(self, job: Job, error: Exception | None) -> None:
        """Say what came of a job, unless a screen that shows its output says it."""
        app, lines = self._app, len(job.output.lines)
        if job.screen is not None and job.screen.is_attached:
            return
        if isinstance(error, ConfirmationRequired):
            app.notify_user("not done; nothing was changed")
        elif error is not None:
            app.show_error(error, act=True)
        else:
            kept = f"{plural(lines, 'line')} printed: the list of what was done shows them" if lines else ""
            code = f"exit code {job.code}" if job.code and not job.stopped else ""
            parts = [part for part in (job.said or ("" if kept else "done"), code, kept) if part]
            app.notify_user(
                f"{app.short_command(job.line)}\n" + " · ".join(parts), wrong=not job.well and not job.stopped
            )

    def _keep(self, line: str, said: str, well: bool, job: Job | None = None, stopped: bool = False) -> None:
        self.done.append(CompletedAction(time.time(), line, said, well, job, stopped))
        del self.done[:-MAX_ACTIONS]
        kept = [number for number, one in enumerate(self.done) if one.job is not None]
        for number in kept[:-MAX_OUTPUTS]:
            self.done[number] = self.done[number]._replace(job=None)


def _told_seen(result: Result, given: dict[str, Any], patterns: tuple[str, ...]) -> Result:
    """Return a result that tells of an act, with the value that it tells of masked if need be; any other as it is."""
    if not patterns or not isinstance(result, ResultDone):
        return result
    from ..display.result_redaction import redact_result

    return redact_result(result, given, patterns)


def write_file(path: str, append: bool, pieces: Iterator[str], job: Job) -> None:
    """Write pieces of text to a file, as the shell's `>` and `>>`.

    Raises:
        BackendError: it cannot be written.

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
