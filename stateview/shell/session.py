"""The state of a shell, and how it runs a line. The prompt and scripts share it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from msgspec.structs import replace

from .. import settings
from ..backends import parse_store
from ..cli.context import Context
from ..cli.definition import BY_NAME, Command
from ..cli.exit_codes import UsageError
from ..cli.line_parser import ParsedLine, Word, read_line
from ..cli.parser import parse
from ..cli.program import load_handler, print_message, printed_first, write_output
from ..cli.render import Style, render
from ..cli.results import DiffResult, LiveTable, Result
from ..errors import BackendError, StateException
from ..model import check_name

_MAX_NESTED_SOURCES = 16
_END_FIRST = "End it first with 'commit' or 'rollback'"
_PER_LINE = ("format", "store", "namespace", "read_only", "yes", "author", "quiet")

_IN_TRANSACTION = (
    "save", "patch", "merge", "increment", "append", "load", "delete", "keys", "assert", "commit",
    "diff", "log", "history", "rollback", "help", "option", "alias", "source", "exit",
)  # fmt: skip
_REFUSED = {  # commands of the command line that the shell does not run: the message and the next step
    "shell": ("the shell is already open", "Use 'source FILE' to run a file"),
    "serve": ("serve needs a terminal of its own", "Run 'stateview serve' in another terminal"),
}


class PipeFailed(BackendError):
    """A system command, after `|` or `!`, ended with an error."""


class Outcome(NamedTuple):
    """The exit code of a line, and its error message."""

    code: int = 0
    message: str = ""


class ExitShell(Exception):
    """The line was `exit`."""


class Shell(Context):
    """A context for many lines: it has a transaction, options and aliases.

    Args:
        options: the global options of the command line; they apply to every line.
        ask: as of `Context`.
        write: prints the output of a line, in pieces, and flushes after each piece if its second argument is true.
        style: the default format, terminal and colours.
        progress: as of `Context`.
        ask_secret, ask_line: as of `Context`.

    """

    def __init__(
        self,
        options: dict[str, Any],
        ask: Callable[[str], bool] | None = None,
        write: Callable[[Iterator[str], bool], object] | None = None,
        style: Style | None = None,
        progress: Callable[[str], None] | None = None,
        ask_secret: Callable[[str], str] | None = None,
        ask_line: Callable[[str], str] | None = None,
    ) -> None:
        super().__init__(options, ask, self._show_now, progress, ask_secret, ask_line)
        self.style = style or Style()
        self.write = write or write_output
        self.settings: dict[str, Any] = {"format": "", "pager": True, "timing": False, "editing": "emacs"}
        self.aliases: dict[str, list[Word]] = {}
        self._format = ""  # that the line asks for
        self._line_target: list[str] = []  # the options that name the store and namespace of the line
        self._target: tuple[str, str] | None = None
        self._depth = 0

    # --- state -------------------------------------------------------------------------------------------------

    @property
    def read_only(self) -> bool:
        """Whether writes are refused."""
        return bool(self.options.get("read_only"))

    @property
    def target(self) -> tuple[str, str]:
        """The store's URL with its password masked, and the namespace. Opens nothing, and imports no backend.

        Raises:
            InvalidName: the store or namespace is not valid.

        """
        if self._manager is not None:
            return self._manager.url, self._manager.namespace
        if self._target is None:
            target = settings.resolve_target(self.options.get("store"), self.options.get("namespace"))
            self._target = parse_store(target.store).shown, check_name(target.namespace, "namespace")
        return self._target

    def connect(self, store: str | None, namespace: str | None) -> None:
        """Switch to another store or namespace, after it has answered.

        Raises:
            UsageError: a transaction is open.

        """
        if self.transaction is not None:
            raise UsageError("a transaction is open", _END_FIRST)
        manager = self.open(store, namespace)
        try:
            manager.head()
        except BaseException:
            manager.close()
            raise
        self.close()
        self.options.update({name: value for name, value in (("store", store), ("namespace", namespace)) if value})
        self._manager = manager

    def shutdown(self) -> bool:
        """Close the store. Returns whether a transaction was open; it is rolled back."""
        was_open = self.transaction is not None
        self.transaction = None
        self.close()
        return was_open

    # --- running a line ----------------------------------------------------------------------------------------

    def run(self, text: str) -> Outcome:
        """Run a line and print its output. The caller prints errors, and the message of the outcome.

        Raises:
            StateException, OSError: the line failed.
            ExitShell: the line was `exit`.

        """
        line = read_line(text)
        if line.bang:
            self._bang(line.bang)
            return Outcome()
        if not line.words:
            return Outcome()
        started = time.perf_counter()
        outcome = self._run_command(self._expand_alias(line))
        if self.settings["timing"]:
            print_message(f"{(time.perf_counter() - started) * 1000:.1f} ms")
        return outcome

    def _expand_alias(self, line: ParsedLine) -> ParsedLine:
        first = line.words[0]
        if first.text in self.aliases and first.text not in BY_NAME:
            return line._replace(words=[*self.aliases[first.text], *line.words[1:]])
        return line

    def _run_command(self, line: ParsedLine) -> Outcome:
        parsed = parse(line.texts)
        command = parsed.command
        if "help" in parsed.globals:
            from ..cli.commands.help import text_of

            self.write(iter([text_of(command)]), False)
            return Outcome()
        if command is None:
            raise UsageError("no command was given", "See 'help'")
        if command.name in _REFUSED:
            raise UsageError(*_REFUSED[command.name])
        if self.transaction is not None and command.name not in _IN_TRANSACTION:
            raise UsageError(f"{command.name} cannot run inside a transaction", _END_FIRST)
        options = {name: value for name, value in parsed.globals.items() if name in _PER_LINE}
        context = self._context_for(command, options)
        self._format, self._line_target = options.get("format", ""), context.target_options()
        yes = self.options.get("yes")
        self.options["yes"] = yes or options.get("yes")
        try:
            result: Result = load_handler(command)(context, parsed.arguments)
            if line.pipe or line.file or context.open_full_screen(result) is None:
                self._emit(result, line, self._format)
            return Outcome(result.code, result.message(self._line_target) if result.code else "")
        except StateException as error:
            error.target = context.target_options(error.place)
            raise
        finally:
            self.options["yes"] = yes
            if context is not self:
                context.close()

    def _context_for(self, command: Command, options: dict[str, Any]) -> Context:
        """Return the shell itself, or a context of its own for a line with another store, namespace or author."""
        names = [name for name in options if name not in ("format", "yes")]
        if not names:
            return self
        option = "--" + names[0].replace("_", "-")
        if self.transaction is not None:
            raise UsageError(f"{option} cannot be given inside a transaction", _END_FIRST)
        if command.shell:
            raise UsageError(f"{command.name} takes no {option}", f"See 'help {command.name}'")
        asks = self.ask, self._show_now, self.progress, self.ask_secret, self.ask_line
        format_ = self.settings["format"] or self.options.get("format", "")
        context = Context({**self.options, "format": format_, **options}, *asks)
        context.pager = bool(self.settings["pager"])
        return context

    # --- output ------------------------------------------------------------------------------------------------

    def open_full_screen(self, result: Result) -> bool | None:
        """Open a diff or a live table as `Context` does, by the options of the shell and of the line."""
        if not isinstance(result, DiffResult | LiveTable):
            return None
        from ..cli.full_screen import open_full_screen

        self.pager = bool(self.settings["pager"])
        return open_full_screen(self, result, self._format or self.settings["format"] or self.options.get("format", ""))

    def _show_now(self, result: Result) -> None:
        self._emit(result, ParsedLine([]), "")

    def _emit(self, result: Result, line: ParsedLine, format_: str) -> None:
        with printed_first(result):
            self._print(result, line, format_ or self.settings["format"] or self.options.get("format", ""))
        if result.summary and not result.code:
            print_message(result.message(self._line_target))

    def _print(self, result: Result, line: ParsedLine, format_: str) -> None:
        if line.pipe:
            self._pipe(render(result, Style(format_)), line.pipe)
        elif line.file:
            self._to_file(render(result, Style(format_)), line)
        else:
            any_text = False

            def pieces() -> Iterator[str]:
                nonlocal any_text
                for piece in render(result, replace(self.style, format=format_)):
                    any_text = any_text or bool(piece)
                    yield piece

            self.write(pieces(), result.at_once)
            if not any_text and result.empty:
                print_message(result.empty)

    def _pipe(self, pieces: Iterator[str], command: str) -> None:
        sys.stdout.flush()
        child = subprocess.Popen(["/bin/sh", "-c", command], stdin=subprocess.PIPE)
        assert child.stdin is not None
        try:
            for piece in pieces:
                child.stdin.write(piece.encode(errors="surrogatepass"))
        except BrokenPipeError:
            pass  # the command may stop reading early; its exit code is checked below
        finally:
            try:
                child.stdin.close()
            except BrokenPipeError:
                pass
            code = child.wait()
        if code:
            raise PipeFailed(f"'{command[:60]}' ended with exit code {code}")

    def _to_file(self, pieces: Iterator[str], line: ParsedLine) -> None:
        path = os.path.expanduser(line.file)
        try:
            with open(path, "ab" if line.append else "wb") as file:
                for piece in pieces:
                    file.write(piece.encode(errors="surrogatepass"))
        except OSError as error:
            if isinstance(error, StateException):
                raise
            raise BackendError(f"{path}: {error.strerror}") from error

    def _bang(self, command: str) -> None:
        sys.stdout.flush()
        stdin = None if self.ask is not None else subprocess.DEVNULL
        code = subprocess.run(["/bin/sh", "-c", command], stdin=stdin, check=False).returncode
        if code:
            raise PipeFailed(f"'{command[:60]}' ended with exit code {code}")

    def enter_source(self) -> None:
        """Enter a sourced file.

        Raises:
            UsageError: too many files source each other.

        """
        self._depth += 1
        if self._depth > _MAX_NESTED_SOURCES:
            raise UsageError(f"files are sourced {_MAX_NESTED_SOURCES} deep", "Check whether a file sources itself")

    def leave_source(self) -> None:
        """Leave a sourced file."""
        self._depth -= 1
