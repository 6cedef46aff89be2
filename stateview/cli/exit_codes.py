"""What a command's end is called: one exit code an outcome, one function from error to code."""

from __future__ import annotations

from enum import IntEnum

from ..errors import BackendError, Conflict, Damaged, KeyNotFound, ReadOnly, RefNotFound, StateException


class ExitCode(IntEnum):
    """The exit codes of the CLI, and of a script in the shell."""

    OK = 0
    MISSING = 1  # a key or ref is not there; or a diff is not empty, when asked
    USAGE = 2
    BACKEND = 3
    CONFLICT = 4
    NEEDS_YES = 5
    INTERRUPTED = 130


class UsageError(StateException, ValueError):
    """The command line is not one."""


class ConfirmationRequired(StateException):
    """Something that is asked about at a terminal, and there is none; or the answer was no."""


def exit_code(error: BaseException) -> ExitCode:
    """The exit code of an error."""
    if isinstance(error, KeyboardInterrupt):
        return ExitCode.INTERRUPTED
    if isinstance(error, (KeyNotFound, RefNotFound)):
        return ExitCode.MISSING
    if isinstance(error, Conflict):
        return ExitCode.CONFLICT
    if isinstance(error, ConfirmationRequired):
        return ExitCode.NEEDS_YES
    if isinstance(error, (BackendError, Damaged, ReadOnly, OSError)):
        return ExitCode.BACKEND
    return ExitCode.USAGE
