"""The tree of errors. Each is also the built-in that a Python user would catch, and says what to do next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from msgspec import Struct

NOTHING_CHANGED = "Nothing was changed"
_ELSEWHERE = ("help", "init")  # commands that take no store and namespace


class NextStep(Struct, frozen=True):
    """A sentence around a stateview command that is worth running next.

    Args:
        before: the words before the command.
        command: the command, word by word, without `stateview`.
        after: the words after it.

    The command is data, so that a face can name the store and namespace that it is about.
    """

    before: str
    command: tuple[str, ...]
    after: str = ""

    def text(self, options: Sequence[str] = ()) -> str:
        """The sentence; `options`, such as `["-n", "build"]`, are put into the command."""
        from shlex import join

        target = () if self.command[0] in _ELSEWHERE else options
        return f"{self.before}'{join(['stateview', *target, *self.command])}'{self.after}"


Hint: TypeAlias = "str | NextStep | tuple[str | NextStep, ...]"


def run(*command: str, after: str = "") -> NextStep:
    """The next step "Run 'stateview COMMAND'"."""
    return NextStep("Run ", command, after)


def see(*command: str) -> NextStep:
    """The next step "See 'stateview COMMAND'"."""
    return NextStep("See ", command)


def steps(hint: Hint) -> tuple[str | NextStep, ...]:
    """A hint as its sentences."""
    if isinstance(hint, tuple):
        return hint
    return (hint,) if hint else ()


def hint_text(hint: Hint, options: Sequence[str] = ()) -> str:
    """A hint as text, in which commands name the store and namespace of some options."""
    text = ""
    for step in steps(hint):
        text += ("" if not text else " " if text[-1] in ".?!" else ". ") + (
            step if isinstance(step, str) else step.text(options)
        )
    return text


def names_command(hint: Hint, command: str) -> bool:
    """Whether a hint names a command, such as `recover`."""
    return any(isinstance(step, NextStep) and step.command[0] == command for step in steps(hint))


class StateException(Exception):
    """Base of everything stateview raises on purpose.

    `message` says what happened and to what; `hint`, when there is one, what to do next. `str()` gives both.
    `next_steps` are the sentences of the hint. A face that knows which store and namespace were meant sets `target` to
    the options that name them, and the commands in the hint name them too.
    """

    target: Sequence[str] = ()

    def __init__(self, message: str, hint: Hint = "") -> None:
        super().__init__(message)
        self.message = message
        self.next_steps = steps(hint)

    @property
    def hint(self) -> str:
        """What to do next, as text; "" where there is nothing to do."""
        return hint_text(self.next_steps, self.target)

    def __str__(self) -> str:  # KeyError would show the repr
        if not self.hint:
            return self.message
        if "\n" in self.message:
            return f"{self.message}\n{self.hint}"
        return f"{self.message}{'' if self.message[-1:] in '.?!' else '.'} {self.hint}"

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.message,), self.__dict__


class KeyNotFound(StateException, KeyError):
    """The key holds no value at the state that was read."""


class RefNotFound(StateException, LookupError):
    """No checkpoint or revision answers to this ref."""


class HistoryPruned(RefNotFound):
    """The revision existed, but its history is no longer kept."""


class InvalidName(StateException, ValueError):
    """A namespace, key, checkpoint, ref or store URL that is not allowed."""


class NotSerializable(StateException, TypeError):
    """A value that would not come back equal. `path` says where in it, such as `$.tasks[3].due`."""

    def __init__(self, message: str, hint: Hint = "", path: str = "$") -> None:
        super().__init__(message, hint)
        self.path = path


class Conflict(StateException, RuntimeError):
    """Another writer was there first: an expected revision is not the present one. Nothing was written."""


class ReadOnly(StateException, PermissionError):
    """A write to what was opened, or can only be opened, for reading."""


class Damaged(StateException, ValueError):
    """What is stored is not what was written. It is left where it is; `recover()` mends what can be mended."""


class BackendError(StateException, OSError):
    """The backend answered, and refused: no space, no permission, wrong setting. Trying again would not help."""


class BackendUnavailable(BackendError, ConnectionError):
    """The backend does not answer, or stayed busy until the deadline."""


class CommitUnknown(BackendUnavailable):
    """The connection was lost after a commit was sent: it may or may not have been applied."""
