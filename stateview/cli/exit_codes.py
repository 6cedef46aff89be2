"""The exit codes, and the exit code of each error."""

from __future__ import annotations

from ..errors import (
    BackendError,
    Conflict,
    Damaged,
    InvalidArgument,
    KeyNotFound,
    LockHeld,
    LockLost,
    NotReplicated,
    ReadOnly,
    RefNotFound,
    Rewound,
    StateException,
)


class ExitCode:  # no IntEnum: making one takes longer than the import of a module
    """The exit codes of the command line and of scripts in the shell."""

    OK = 0
    MISSING = 1  # a key or ref does not exist, a condition is false, or `diff --exit-code` found a difference
    USAGE = 2
    BACKEND = 3
    CONFLICT = 4
    NEEDS_YES = 5
    INTERRUPTED = 130


class UsageError(InvalidArgument):
    """The command line is wrong."""


class ConfirmationRequired(StateException):
    """A question was answered with no, or there was no terminal to ask at."""


def exit_code(error: BaseException) -> int:
    """Return the exit code of an error."""
    if isinstance(error, KeyboardInterrupt):
        return ExitCode.INTERRUPTED
    if isinstance(error, (KeyNotFound, RefNotFound)):
        return ExitCode.MISSING
    if isinstance(error, (Conflict, LockHeld, LockLost)):
        return ExitCode.CONFLICT
    if isinstance(error, ConfirmationRequired):
        return ExitCode.NEEDS_YES
    if isinstance(error, (BackendError, Damaged, NotReplicated, ReadOnly, Rewound, OSError)):
        return ExitCode.BACKEND
    return ExitCode.USAGE
