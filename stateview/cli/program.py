"""The command line: words in, text and an exit code out. All it does itself is to know the terminal."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..errors import StateException, see
from .context import Context
from .exit_codes import ExitCode, UsageError, exit_code
from .parser import parse

if TYPE_CHECKING:
    from .definition import Command
    from .results import Result


def main(words: list[str] | None = None) -> int:
    """Run one command line (the process's own, if none is given) and return its exit code."""
    words = sys.argv[1:] if words is None else words
    try:
        return _run(words)
    except StateException as error:
        _tell(_described(error))
        return exit_code(error)
    except KeyboardInterrupt:
        _tell("interrupted")
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        _write_no_more()  # whoever read our output has enough
        return ExitCode.OK
    except OSError as error:
        _write_no_more()
        _tell(f"stateview: {error.filename or 'standard output'}: {error.strerror or error}")
        return exit_code(error)


def entry() -> None:
    """The process's entry: `main`, and an end without the interpreter's tidying up, which costs a tenth of a `load`."""
    _open_streams()
    code = main()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        pass  # nobody reads any more
    os._exit(code)


class _SafeStderr(io.TextIOWrapper):
    """Standard error. What cannot be written to it is lost: it changes neither what is done nor the exit code."""

    def write(self, text: str) -> int:
        with suppress(OSError):
            return super().write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            super().flush()


def _open_streams() -> None:
    """Have all three streams: one that is closed is the null device, in whose place a store's file would be opened."""
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:
            null = open(os.devnull, mode, encoding="utf-8")  # noqa: SIM115 - to the process's end
            setattr(sys, name, null)
            setattr(sys, f"__{name}__", null)
            if null.fileno() == number:
                os.set_inheritable(number, True)
    sys.stderr = _SafeStderr(sys.stderr.buffer, sys.stderr.encoding, "backslashreplace", line_buffering=True)


def _write_no_more() -> None:
    """Let nothing be written to standard output any more, at the exit either."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(words: list[str]) -> int:
    if words[:1] == ["--version"]:
        from .. import __version__

        _write([f"stateview {__version__}\n"])
        return ExitCode.OK
    bound = parse(words)
    if bound.command is None and "help" not in bound.globals and _at_terminal():
        bound = parse([*words, "dashboard"])
    if bound.command is None or "help" in bound.globals:
        from .commands.help import text_of

        if bound.command is None and "help" not in bound.globals:
            raise UsageError("no command was given", see("help"))
        _write([text_of(bound.command)])
        return ExitCode.OK
    if bound.command.shell:
        raise UsageError(f"'{bound.command.name}' is a command of the shell", see("help", "shell"))
    at_terminal = sys.stdin.isatty() and sys.stderr.isatty()
    ask = _ask if at_terminal else None

    def show(result: Result) -> None:
        try:
            _show(result, bound.globals)
        except BrokenPipeError:
            _write_no_more()  # what is shown on the way is not what was asked for: that is still done

    context = Context(bound.globals, ask, show, TerminalProgress().say)
    try:
        result: Result = load_handler(bound.command)(context, bound.arguments)
        try:
            _show(result, bound.globals)
        except KeyboardInterrupt:
            if result.told:
                _tell(result.narration())  # what was done is done, however much of it has been shown
            raise
        return result.code
    except StateException as error:
        from ..backends import mask

        store, namespace = bound.globals.get("store"), bound.globals.get("namespace")
        where = [*(["-s", mask(store)] if store else []), *(["-n", namespace] if namespace else [])]
        error.target = where
        raise
    finally:
        context.close()


def _at_terminal() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty() and sys.stderr.isatty()


def load_handler(command: Command) -> Any:
    """The function of a command, its module imported now."""
    module, _, name = command.handler.partition(":")
    return getattr(import_module(f"stateview.{module}"), name)


def _show(result: Result, options: dict[str, Any]) -> None:
    from .render import Style, render

    terminal = sys.stdout.isatty()
    plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
    style = Style(options.get("format", ""), terminal, terminal and not plain)
    wrote = _write(render(result, style), at_once=terminal or hasattr(result, "changes"))
    if not wrote and (empty := getattr(result, "empty", "")):
        _tell(empty)
    if result.told:
        _tell(result.narration())


def _write(pieces: Iterator[str] | list[str], at_once: bool = False) -> bool:
    """Write to standard output as UTF-8, whatever the locale says. Whether there was any."""
    out = sys.stdout.buffer
    wrote = False
    for piece in pieces:
        wrote = wrote or bool(piece)
        out.write(piece.encode(errors="surrogatepass"))
        if at_once:
            out.flush()
    out.flush()
    return wrote


def _tell(text: str) -> None:
    """Narration goes to standard error: standard output is for data."""
    from .render import escape_control_characters

    print("\n".join(escape_control_characters(line) for line in text.split("\n")), file=sys.stderr, flush=True)


def _described(error: StateException) -> str:
    return f"stateview: {error}"


class TerminalProgress:
    """Says how far something is: one line on standard error, where that is a terminal, at the pace of a reader."""

    def __init__(self) -> None:
        self._last = 0.0

    def say(self, text: str) -> None:
        """Show it in place of what was said last; nothing clears the line."""
        import time

        if (not text or time.monotonic() - self._last > 0.2) and sys.stderr.isatty():
            self._last = time.monotonic()
            print(f"\r{text}\033[K\r", end="", file=sys.stderr, flush=True)


def _ask(question: str) -> bool:
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
