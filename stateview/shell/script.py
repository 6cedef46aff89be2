"""Scripts: lines of a file, of `-c`, or of standard input, run as they come, up to the first error."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator

from ..cli.exit_codes import ExitCode, UsageError, exit_code
from ..cli.line_parser import IncompleteLine, read_line
from ..errors import BackendError, StateException
from .session import ExitShell, Shell, print_message


class Script:
    """A run of lines. `where` names them in errors; `keep_going` is `--keep-going`."""

    def __init__(self, shell: Shell, where: str, keep_going: bool = False) -> None:
        self.shell = shell
        self.where = where
        self.keep_going = keep_going

    def run(self, lines: Iterable[str]) -> int:
        """Run them; the exit code is that of the first error.

        Raises:
            Leave: a line was `exit`.

        """
        first = ExitCode.OK
        for number, text in whole_lines(lines):
            code = self._one(number, text)
            if code and not first:
                first = ExitCode(code)
            if code and not self.keep_going:
                break
        return first

    def _one(self, number: int, text: str) -> int:
        try:
            code, said = self.shell.run(text)
        except StateException as error:
            self._tell(number, text, str(error))
            return exit_code(error)
        except BrokenPipeError:
            raise
        except OSError as error:
            self._tell(number, text, str(error))
            return exit_code(error)
        if said:
            self._tell(number, text, said)
        return code

    def _tell(self, number: int, text: str, message: str) -> None:
        name = text.split(None, 1)[0] if text.split() else ""
        print_message(f"{self.where}:{number}: {name}: {message.removeprefix(f'{name}: ')}")


def whole_lines(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    """The lines with those that go on joined, each with the number of its first."""
    held: list[str] = []
    start = 0
    for number, line in enumerate(lines, 1):
        start = start if held else number
        held.append(line.rstrip("\n"))
        text = "\n".join(held)
        try:
            read_line(text)
        except IncompleteLine:
            continue
        except UsageError:
            pass  # it is said when it is run
        held = []
        yield start, text
    if held:
        yield start, "\n".join(held)


def run_file(shell: Shell, path: str, keep_going: bool = False) -> int:
    """Run a file's lines as they are read.

    Raises:
        BackendError: it cannot be read.

    """
    try:
        with open(os.path.expanduser(path), encoding="utf-8", errors="strict") as file:
            return Script(shell, path, keep_going).run(file)
    except UnicodeDecodeError as error:
        raise BackendError(f"{path} is not UTF-8 text: {error.reason} at byte {error.start}") from error
    except OSError as error:
        if isinstance(error, (StateException, BrokenPipeError)):
            raise
        raise BackendError(f"{path}: {error.strerror}") from error


def run_scripts(shell: Shell, file: str | None, commands: list[str], keep_going: bool) -> int:
    """What `-f`, `-c` or standard input say, in this order; then a transaction left open is an error.

    Raises:
        StateException: a file that cannot be read.

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
        print_message("a transaction was left open: it is rolled back; end it with commit")
        code = code or ExitCode.USAGE
    return code


def _stdin() -> Iterator[str]:
    for line in sys.stdin.buffer:
        yield line.decode("utf-8", "surrogateescape")
