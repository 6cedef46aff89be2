"""The command line: runs one command, prints its result, and returns the exit code."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..errors import NOTHING_CHANGED, BackendError, KeyNotFound, StateException, see
from .context import Context, target_options
from .exit_codes import ConfirmationRequired, ExitCode, UsageError, exit_code
from .parser import ParsedArgs, parse

if TYPE_CHECKING:
    from .definition import Command
    from .results import Result

_PROGRESS_SECONDS = 0.2


def main(words: list[str] | None = None) -> int:
    """Run one command line (by default that of the process) and return its exit code."""
    words = sys.argv[1:] if words is None else words
    try:
        return _run(words)
    except StateException as error:
        print_message(f"stateview: {error}")
        return exit_code(error)
    except KeyboardInterrupt:
        print_message("interrupted")
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        _close_stdout()  # the reader of the output has ended
        return ExitCode.OK
    except OSError as error:
        from ..backends.files.durable_files import CLOSE_FILES, OUT_OF_FILES

        _close_stdout()
        subject = f"stateview: {error.filename or 'standard output'}: {error.strerror or error}"
        print_message(f"stateview: too many files are open. {CLOSE_FILES}" if error.errno in OUT_OF_FILES else subject)
        return exit_code(error)


def entry() -> None:
    """Run `main` and exit the process at once: the interpreter's cleanup would cost a tenth of a `load`."""
    _open_streams()
    code = main()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        pass
    os._exit(code)


class _SafeStderr(io.TextIOWrapper):
    """Standard error that ignores write errors, so that they change neither the action nor the exit code."""

    def write(self, text: str) -> int:
        with suppress(OSError):
            return super().write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            super().flush()


def _open_streams() -> None:
    """Replace closed streams by the null device: otherwise the store's file would get the number of a stream."""
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:
            null = open(os.devnull, mode, encoding="utf-8")  # noqa: SIM115 - open until the process ends
            setattr(sys, name, null)
            setattr(sys, f"__{name}__", null)
            if null.fileno() == number:
                os.set_inheritable(number, True)
    sys.stderr = _SafeStderr(sys.stderr.buffer, sys.stderr.encoding, "backslashreplace", line_buffering=True)


def _close_stdout() -> None:
    """Discard all further output, also that which the interpreter would flush at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(words: list[str]) -> int:
    if words[:1] == ["--version"]:
        from .. import __version__

        write_output([f"stateview {__version__}\n"])
        return ExitCode.OK
    parsed = parse(words)
    if parsed.command is None and "help" not in parsed.globals and _at_terminal():
        parsed = parse([*words, "dashboard"])
    if "help" in parsed.globals:
        from .commands.help import text_of

        write_output([text_of(parsed.command)])
        return ExitCode.OK
    if parsed.command is None:
        raise UsageError("no command was given", see("help"))
    if parsed.command.shell:
        raise UsageError(f"'{parsed.command.name}' is a command of the shell", see("help", "shell"))
    return _run_command(parsed.command, parsed)


def _run_command(command: Command, parsed: ParsedArgs) -> int:
    options = parsed.globals
    if os.path.exists(options.get("store", "")):
        from .definition import INTERFACES
        from .guessed_store import with_store

        if command.group != INTERFACES:  # these choose a namespace, too, which a person sees and can leave
            options, guessed = with_store(options, None, first=False)
            if guessed and not options.get("quiet"):
                print_message(f"stateview: {guessed}")

    def show(result: Result) -> None:
        try:
            print_result(result, options)
        except BrokenPipeError:
            _close_stdout()  # only a preview is lost: the action itself is still run

    ask = _ask if sys.stdin.isatty() and sys.stderr.isatty() else None
    context = Context(options, ask, show, TerminalProgress().show, *((ask_secret, _ask_line) if ask else ()))
    try:
        result: Result = load_handler(command)(context, parsed.arguments)
        if context.open_full_screen(result) is not None:
            return result.code
        try:
            print_result(result, options)
        except KeyboardInterrupt:
            if result.summary:
                # The action is done, even if its output was interrupted
                print_message(result.message(target_options(options)))
            raise
        return result.code
    except StateException as error:
        error.target = context.target_options(error.place)
        raise
    finally:
        context.close()


def is_dumb_terminal() -> bool:
    """Return whether the terminal can only print lines, as inside an editor: it obeys no escape sequence."""
    return os.environ.get("TERM", "") in ("dumb", "unknown")


def _at_terminal() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty() and sys.stderr.isatty()


def load_handler(command: Command) -> Any:
    """Import the handler of a command, and return a function that runs it and looks up the hints of its errors."""
    module, _, name = command.handler.partition(":")
    handler = getattr(import_module(f"stateview.{module}"), name)

    def run(context: Context, arguments: dict[str, Any]) -> Any:
        try:
            return handler(context, arguments)
        except StateException as error:
            name = arguments.get("key")
            if isinstance(error, KeyNotFound) and isinstance(name, str) and "#/" in name:
                from .commands.places import place_step

                if (step := place_step(context, command, name, arguments.get("at"))) is not None:
                    error.next_steps = (step,)
            _ = error.next_steps  # similar names are looked up now, on this thread, while the store is open
            raise

    return run


def print_result(result: Result, options: dict[str, Any]) -> None:
    """Print a result to standard output, and its message to standard error."""
    from .render import Style, render

    terminal = sys.stdout.isatty()
    plain = bool(os.environ.get("NO_COLOR")) or is_dumb_terminal()
    style = Style(options.get("format", ""), terminal, terminal and not plain)
    with printed_first(result):
        printed = write_output(render(result, style), at_once=terminal or result.at_once)
    if not printed and result.empty:
        print_message(result.empty)
    if result.summary:
        print_message(result.message(target_options(options)))


@contextmanager
def printed_first(result: Result) -> Iterator[None]:
    """Print a result in the block, and then do its `then`, if it has one.

    What opens a namespace, such as a key, must not be lost on the way. If it cannot be printed, nothing is changed.

    Raises:
        BackendError: the result was not printed.

    """
    if result.then is None:
        yield
        return
    try:
        if getattr(sys.stdout, "name", "") == os.devnull:  # it was closed, see `_open_streams`
            raise OSError(errno.EBADF, "it is closed")
        yield
    except OSError as error:
        if isinstance(error, StateException):
            raise
        _close_stdout()
        raise BackendError(
            f"standard output: {error.strerror}. The new key was not printed", NOTHING_CHANGED
        ) from error
    result.summary = result.then()


def write_output(pieces: Iterable[str], at_once: bool = False) -> bool:
    """Write to standard output as UTF-8 in every locale, and return whether there was any text.

    Args:
        pieces: the text.
        at_once: flush after each piece.

    """
    out = sys.stdout.buffer
    any_text = False
    for piece in pieces:
        any_text = any_text or bool(piece)
        out.write(piece.encode(errors="surrogatepass"))
        if at_once:
            out.flush()
    out.flush()
    return any_text


def print_message(text: str) -> None:
    """Print a message to standard error, with control characters escaped; standard output is for data.

    A message may repeat a word that somebody typed, such as a store URL in the wrong place: its password is hidden.
    """
    from .render import escape_lines

    if "@" in text:
        from ..backends import mask_logins

        text = mask_logins(text)
    print(escape_lines(text), file=sys.stderr, flush=True)


class TerminalProgress:
    """Shows progress in one line on standard error, if that is a terminal."""

    def __init__(self) -> None:
        self._last = 0.0

    def show(self, text: str) -> None:
        """Replace the line by a text, at most five times a second. An empty text clears the line."""
        import time

        if is_dumb_terminal():
            return
        if (not text or time.monotonic() - self._last > _PROGRESS_SECONDS) and sys.stderr.isatty():
            self._last = time.monotonic()
            print(f"\r{text}\033[K\r", end="", file=sys.stderr, flush=True)


def ask_secret(question: str) -> str:
    """Ask the person at the terminal for a line, without echo.

    Raises:
        ConfirmationRequired: there was no answer.

    """
    from getpass import getpass

    try:
        return getpass(f"{question}: ")
    except EOFError as error:
        raise ConfirmationRequired("not done", NOTHING_CHANGED) from error


def _ask(question: str) -> bool:
    return _read_answer(f"{question} [y/N] ").lower() in ("y", "yes")


def _ask_line(question: str) -> str:
    return _read_answer(f"{question}: ")


def _read_answer(prompt: str) -> str:
    print(prompt, end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip()
