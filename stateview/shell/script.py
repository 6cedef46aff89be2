"""Scripts: run the lines of a file, of `-c`, or of standard input up to the first error."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from io import TextIOWrapper

from .. import codec
from ..cli.exit_codes import ExitCode, UsageError, exit_code
from ..cli.line_parser import IncompleteLine, read_line
from ..cli.program import print_message
from ..errors import BackendError, StateException
from ..transfer.standard_input import standard_input
from .session import ExitShell, Shell


class Script:
    """Runs lines. `name` is their source in errors. `keep_going` continues after an error."""

    def __init__(self, shell: Shell, name: str, keep_going: bool = False) -> None:
        self.shell = shell
        self.name = name
        self.keep_going = keep_going

    def run(self, lines: Iterable[str]) -> int:
        """Run the lines and return the exit code of the first error.

        Raises:
            ExitShell: a line was `exit`.

        """
        first = ExitCode.OK
        for number, text in whole_lines(lines):
            code = self._run_line(number, text)
            if code and not first:
                first = code
            if code and not self.keep_going:
                break
        return first

    def _run_line(self, number: int, text: str) -> int:
        try:
            code, message = self.shell.run(text)
        except BrokenPipeError:
            raise
        except (StateException, OSError) as error:
            code, message = exit_code(error), str(error)
        if message:
            command = text.split(None, 1)[0] if text.split() else ""
            print_message(f"{self.name}:{number}: {command}: {message.removeprefix(f'{command}: ')}")
        return code


def whole_lines(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    """Join the lines that continue, and yield each line with the number of its first part."""
    pending: list[str] = []
    start = 0
    for number, line in enumerate(lines, 1):
        start = start if pending else number
        pending.append(line.rstrip("\n"))
        text = "\n".join(pending)
        try:
            read_line(text)
        except IncompleteLine:
            continue
        except UsageError:
            pass  # running the line reports the error
        pending = []
        yield start, text
    if pending:
        yield start, "\n".join(pending)


def run_file(shell: Shell, path: str, keep_going: bool = False) -> int:
    """Run the lines of a file while it is read.

    Raises:
        BackendError: the file cannot be read.

    """
    try:
        with open(os.path.expanduser(path), "rb") as file:
            codec.check_text_start(file.peek(64)[:64])
            return Script(shell, path, keep_going).run(TextIOWrapper(file, encoding="utf-8", errors="strict"))
    except UnicodeDecodeError as error:
        raise BackendError(f"{path} {codec.text_fault(error)}", codec.SAVE_AS_UTF8) from error
    except OSError as error:
        if isinstance(error, (StateException, BrokenPipeError)):
            raise
        raise BackendError(f"{path}: {error.strerror}") from error


def run_scripts(shell: Shell, file: str | None, commands: list[str], keep_going: bool) -> int:
    """Run the lines of `-f`, then those of `-c`, or else standard input. A transaction left open is an error.

    Raises:
        StateException: the file cannot be read.

    """
    code: int = ExitCode.OK
    try:
        if file is not None and file != "-":
            code = run_file(shell, file, keep_going)
        if commands and (not code or keep_going):
            code = Script(shell, "-c", keep_going).run(commands) or code
        if not commands and (file is None or file == "-"):
            code = Script(shell, "<stdin>", keep_going).run(_stdin())
    except ExitShell:
        pass
    if shell.shutdown():
        print_message("a transaction was left open and is rolled back; end it with 'commit'")
        code = code or ExitCode.USAGE
    return code


def _stdin() -> Iterator[str]:
    file = standard_input("Give the lines with -c, or a file with -f")
    try:
        codec.check_text_start(file.peek(64)[:64])  # type: ignore[attr-defined]
    except UnicodeDecodeError as error:
        raise BackendError(f"standard input {codec.text_fault(error)}", codec.SAVE_AS_UTF8) from error
    for line in file:
        yield line.decode("utf-8", "surrogateescape")
