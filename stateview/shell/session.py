"""What a shell knows between two lines, and how it runs one: for the prompt and for scripts alike."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from .. import settings
from ..backends import parse_store
from ..cli.context import Context
from ..cli.definition import BY_NAME, Command
from ..cli.exit_codes import UsageError
from ..cli.line_parser import ParsedLine, Word, read_line
from ..cli.parser import parse
from ..cli.program import load_handler
from ..cli.render import Style, escape_control_characters, render
from ..cli.results import Result
from ..errors import BackendError, StateException
from ..model import check_name

_MAX_NESTED_SOURCES = 16  # files that source each other
_PER_LINE = ("format", "store", "namespace", "read_only", "yes", "author")

_OUTSIDE = {
    "shell": ("this is the shell already", "Use 'source FILE' to run a file"),
    "serve": ("serve runs until it is stopped, in a terminal of its own", "Start 'stateview serve' there"),
}


class PipeFailed(BackendError):
    """The command that a line was piped into, or that `!` ran, ended with an error."""


class Outcome(NamedTuple):
    """How a line ended: its exit code, and what it says in failing."""

    code: int = 0
    said: str = ""


class ExitShell(Exception):
    """`exit` was given."""


class Shell(Context):
    """A context that lasts: store, namespace, transaction, options, aliases.

    Args:
        options: global options as on the command line; they hold for every line.
        ask: as of `Context`.
        write: takes what a line prints on standard output, in pieces, and whether each is to be shown at once.
        style: how to print where nothing else is said.

    """

    def __init__(
        self,
        options: dict[str, Any],
        ask: Callable[[str], bool] | None = None,
        write: Callable[[Iterator[str], bool], None] | None = None,
        style: Style | None = None,
        progress: Callable[[str], None] | None = None,
    ) -> None:
        super().__init__(options, ask, self._show_now, progress)
        self.style = style or Style()
        self.write = write or write_out
        self.settings: dict[str, Any] = {"format": "", "pager": True, "timing": False, "editing": "emacs"}
        self.aliases: dict[str, list[Word]] = {}
        self._named: tuple[str, str] | None = None
        self._depth = 0

    # --- state -------------------------------------------------------------------------------------------------

    @property
    def read_only(self) -> bool:
        """Whether writes are refused."""
        return bool(self.options.get("read_only"))

    @property
    def where(self) -> tuple[str, str]:
        """The store's URL as it may be shown, and the namespace. Opens nothing, and imports no backend.

        Raises:
            InvalidName: a store or namespace that cannot be.

        """
        if self._manager is not None:
            return self._manager.url, self._manager.namespace
        if self._named is None:
            chosen = settings.resolve_target(self.options.get("store"), self.options.get("namespace"))
            self._named = parse_store(chosen.store).shown, check_name(chosen.namespace, "namespace")
        return self._named

    def connect(self, store: str | None, namespace: str | None) -> None:
        """Make another store or namespace the present one, once it has answered."""
        if self.transaction is not None:
            raise UsageError("a transaction is open", "End it with commit or rollback first")
        other = self.open(store, namespace)
        try:
            other.head()
        except BaseException:
            other.close()
            raise
        self.close()
        self.options.update({name: value for name, value in (("store", store), ("namespace", namespace)) if value})
        self._manager = other

    def shutdown(self) -> bool:
        """Let go of everything; whether a transaction was left open, which is rolled back."""
        left = self.transaction is not None
        self.transaction = None
        self.close()
        return left

    # --- running a line ----------------------------------------------------------------------------------------

    def run(self, text: str) -> Outcome:
        """Run one line and print what it prints. What it says in failing is for the caller to print.

        Raises:
            StateException, OSError: what went wrong; nothing is printed of it here.
            Leave: the line was `exit`.

        """
        line = read_line(text)
        if line.bang:
            self._bang(line.bang)
            return Outcome()
        if not line.words:
            return Outcome()
        started = time.perf_counter()
        outcome = self._command(self._unalias(line))
        if self.settings["timing"]:
            print_message(f"{(time.perf_counter() - started) * 1000:.1f} ms")
        return outcome

    def _unalias(self, line: ParsedLine) -> ParsedLine:
        first = line.words[0]
        if first.text in self.aliases and first.text not in BY_NAME:
            return line._replace(words=[*self.aliases[first.text], *line.words[1:]])
        return line

    def _command(self, line: ParsedLine) -> Outcome:
        bound = parse(line.texts)
        if "help" in bound.globals:
            from ..cli.commands.help import text_of

            self.write(iter([text_of(bound.command)]), False)
            return Outcome()
        if bound.command is None:
            raise UsageError("no command was given", "See 'help'")
        if bound.command.name in _OUTSIDE:
            raise UsageError(*_OUTSIDE[bound.command.name])
        self._check_transaction(bound.command.name)
        given = {name: value for name, value in bound.globals.items() if name in _PER_LINE}
        context = self._elsewhere(bound.command, given)
        sure = self.options.get("yes")
        self.options["yes"] = sure or given.get("yes")
        try:
            result: Result = load_handler(bound.command)(context, bound.arguments)
            self._emit(result, line, given.get("format", ""))
            return Outcome(result.code, result.narration() if result.code else "")
        finally:
            self.options["yes"] = sure
            if context is not self:
                context.close()

    def _elsewhere(self, command: Command, given: dict[str, Any]) -> Context:
        """The shell itself, or a context for a line that names another store, namespace or author, or is read-only."""
        other = [name for name in given if name not in ("format", "yes")]
        if not other:
            return self
        if self.transaction is not None:
            raise UsageError("a transaction is of one store and namespace", "End it with commit or rollback first")
        if command.shell:
            raise UsageError(f"{command.name} takes no --{other[0].replace('_', '-')}", f"See 'help {command.name}'")
        return Context({**self.options, **given}, self.ask, self._show_now, self.progress)

    def _check_transaction(self, name: str) -> None:
        if self.transaction is None:
            return
        inside = (
            "save",
            "load",
            "delete",
            "keys",
            "assert",
            "commit",
            "rollback",
            "help",
            "option",
            "alias",
            "source",
            "exit",
        )
        if name not in inside:
            raise UsageError(f"{name} does not go with an open transaction", "End it with commit or rollback first")

    # --- output ------------------------------------------------------------------------------------------------

    def _show_now(self, result: Result) -> None:
        self._emit(result, ParsedLine([]), "")

    def _emit(self, result: Result, line: ParsedLine, format_: str) -> None:
        format_ = format_ or self.settings["format"] or self.options.get("format", "")
        if line.pipe:
            self._pipe(render(result, Style(format_)), line.pipe)
        elif line.file:
            self._to_file(render(result, Style(format_)), line)
        else:
            wrote = False

            def pieces() -> Iterator[str]:
                nonlocal wrote
                for piece in render(result, self.style._replace(format=format_)):
                    wrote = wrote or bool(piece)
                    yield piece

            self.write(pieces(), hasattr(result, "changes"))
            if not wrote and (empty := getattr(result, "empty", "")):
                print_message(empty)
        if result.told and not result.code:
            print_message(result.narration())

    def _pipe(self, pieces: Iterator[str], command: str) -> None:
        sys.stdout.flush()
        child = subprocess.Popen(["/bin/sh", "-c", command], stdin=subprocess.PIPE)
        assert child.stdin is not None
        try:
            for piece in pieces:
                child.stdin.write(piece.encode(errors="surrogatepass"))
        except BrokenPipeError:
            pass  # it has read what it wanted; its exit code says whether that was well
        finally:
            try:
                child.stdin.close()
            except BrokenPipeError:
                pass
            code = child.wait()
        if code:
            raise PipeFailed(f"'{command[:60]}' ended with {code}")

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
            raise PipeFailed(f"'{command[:60]}' ended with {code}")

    def enter_source(self) -> None:
        """Count one file deeper.

        Raises:
            UsageError: files source each other without end.

        """
        self._depth += 1
        if self._depth > _MAX_NESTED_SOURCES:
            raise UsageError(f"files are sourced {_MAX_NESTED_SOURCES} deep", "Does one source itself?")

    def leave_source(self) -> None:
        """Count back."""
        self._depth -= 1


def write_out(pieces: Iterator[str], at_once: bool = True) -> None:
    """To standard output, as UTF-8; each piece when it comes, unless it is not needed `at_once`."""
    out = sys.stdout.buffer
    for piece in pieces:
        out.write(piece.encode(errors="surrogatepass"))
        if at_once:
            out.flush()
    out.flush()


def print_message(text: str) -> None:
    """Narration, to standard error."""
    print("\n".join(escape_control_characters(one) for one in text.split("\n")), file=sys.stderr, flush=True)
