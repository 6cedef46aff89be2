"""Define the errors. Each is also the built-in error that a Python user would catch, and names the next step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias

from msgspec import Struct

if TYPE_CHECKING:
    from typing import Self

NOTHING_CHANGED = "Nothing was changed"
COMMITTED = "The commit was made"
COMMITTED_FOR_NOW = f"{COMMITTED}, though a loss of power may undo it"
_ELSEWHERE = (("help",), ("init",), ("key", "new"))  # commands that take no store and namespace


class NextStep(Struct, frozen=True):
    """Hold a sentence around a stateview command that is worth running next.

    The command is data, so that a face can put the store and namespace into it.

    Args:
        before: the words before the command.
        command: the command, word by word, without `stateview`.
        after: the words after it.

    """

    before: str
    command: tuple[str, ...]
    after: str = ""

    def text(self, options: Sequence[str] = ()) -> str:
        """Return the sentence; `options`, such as `["-n", "build"]`, go into the command."""
        from shlex import join

        target = () if self.command[:1] in _ELSEWHERE or self.command[:2] in _ELSEWHERE else options
        return f"{self.before}'{join(['stateview', *target, *self.command])}'{self.after}"


Hint: TypeAlias = "str | NextStep | tuple[str | NextStep, ...]"


def run(*command: str, after: str = "") -> NextStep:
    """Make the next step "Run 'stateview COMMAND'"."""
    return NextStep("Run ", command, after)


def see(*command: str) -> NextStep:
    """Make the next step "See 'stateview COMMAND'"."""
    return NextStep("See ", command)


def steps(hint: Hint) -> tuple[str | NextStep, ...]:
    """Split a hint into its sentences."""
    if isinstance(hint, tuple):
        return hint
    return (hint,) if hint else ()


def hint_text(hint: Hint, options: Sequence[str] = ()) -> str:
    """Return a hint as text; its commands name the store and namespace of the options."""
    text = ""
    for step in steps(hint):
        text += ("" if not text else " " if text[-1] in ".?!" else ". ") + (
            step if isinstance(step, str) else step.text(options)
        )
    return text


def names_command(hint: Hint, command: str) -> bool:
    """Return whether a hint names a command, such as `recover`."""
    return any(isinstance(step, NextStep) and step.command[0] == command for step in steps(hint))


class StateException(Exception):
    """Be the base of all errors that stateview raises on purpose.

    `message` says what happened, and to what. `hint` says what to do next, if there is a next step. `str()` gives both.
    `next_steps` are the sentences of the hint. `place` is the store's URL and the namespace that the error is about. A
    face sets `target` to the options that name them, and the commands in the hint then name them too. A hint that takes
    reads, such as similar names, is a function: it is called when somebody asks for the hint, so that raising and
    catching the error costs nothing.
    """

    target: Sequence[str] = ()
    place: tuple[str, str] | None = None

    def __init__(self, message: str, hint: Hint | Callable[[], Hint] = "") -> None:
        super().__init__(message)
        self.message = message
        self._steps: tuple[str | NextStep, ...] | Callable[[], Hint] = hint if callable(hint) else steps(hint)

    def about(self, url: str, namespace: str) -> Self:
        """Set the place, unless it is known, and return the error."""
        self.place = self.place or (url, namespace)
        return self

    @property
    def next_steps(self) -> tuple[str | NextStep, ...]:
        """Return the sentences of the hint. The first use looks up what the hint needs."""
        if callable(self._steps):
            self._steps = steps(self._steps())
        return self._steps

    @next_steps.setter
    def next_steps(self, value: tuple[str | NextStep, ...]) -> None:
        self._steps = value

    @property
    def hint(self) -> str:
        """Return what to do next, as text; "" without a next step."""
        return hint_text(self.next_steps, self.target)

    def __str__(self) -> str:  # KeyError would show the repr
        if not self.hint:
            return self.message
        if "\n" in self.message:
            return f"{self.message}\n{self.hint}"
        return f"{self.message}{'' if self.message[-1:] in '.?!' else '.'} {self.hint}"

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.message,), {**self.__dict__, "_steps": self.next_steps}


@contextmanager
def tells_what_was_done(done: Callable[[], str]) -> Iterator[None]:
    """Say in an error of the block what an act of several steps has done, in place of `NOTHING_CHANGED`.

    A call that fails knows only itself: "Nothing was changed" is not true of an act whose earlier steps succeeded.

    Args:
        done: returns what was done until the error, as a sentence without its full stop; "" for nothing.

    """
    try:
        yield
    except StateException as error:
        if text := done():
            steps = error.next_steps if NOTHING_CHANGED in error.next_steps else (*error.next_steps, NOTHING_CHANGED)
            error.next_steps = tuple(text if step == NOTHING_CHANGED else step for step in steps)
        raise


class KeyNotFound(StateException, KeyError):
    """The key has no value in the state that was read."""


class RefNotFound(StateException, LookupError):
    """No checkpoint or revision has this ref."""


class NamespaceNotFound(KeyNotFound, RefNotFound):
    """The namespace was never written, so it has no keys and no checkpoints."""


class HistoryPruned(RefNotFound):
    """The revision existed, but its history is pruned."""


class InvalidArgument(StateException, ValueError, TypeError):
    """An argument has the wrong type, or a value that is not allowed. Nothing was read or written."""


class InvalidName(InvalidArgument):
    """A namespace, key, checkpoint, ref or store URL is not allowed."""


class NotSerializable(StateException, TypeError):
    """A value would not come back equal. `path` is the place in it, such as `$.tasks[3].due`."""

    def __init__(self, message: str, hint: Hint = "", path: str = "$") -> None:
        super().__init__(message, hint)
        self.path = path


class Conflict(StateException, RuntimeError):
    """Another writer came first: the present revision is not the expected one. Nothing was written."""


class WaitTimeout(StateException, TimeoutError):
    """A condition did not become true in time. `value` is the last value of the key, `ABSENT` if it had none."""

    def __init__(self, message: str, hint: Hint = "", value: object = None) -> None:
        super().__init__(message, hint)
        self.value = value


class LockHeld(StateException, TimeoutError):
    """Another process, or this one, holds the lock, or runs the run. `host`, `process` and `since` tell who."""

    def __init__(
        self, message: str, hint: Hint = "", *, host: str = "", process: int | None = None, since: str = ""
    ) -> None:
        super().__init__(message, hint)
        self.host, self.process, self.since = host, process, since


class LockLost(StateException, RuntimeError):
    """The lock, or the run, is not the caller's own any more. Nothing was written."""


class StepChanged(StateException, RuntimeError):
    """The step was done before, with other arguments or by another version of its function. It was not called."""


class StepTimeout(StateException, TimeoutError):
    """A step took longer than its time-out."""


class SkipStep(StateException):
    """Raise it in a step to say that there is nothing to do: the step counts as skipped, and returns None."""


class ReadOnly(StateException, PermissionError):
    """The store is open for reading only, or can only be read."""


class Damaged(StateException, ValueError):
    """The stored data differs from what was written. It stays in place; `recover()` repairs what it can."""


class Sealed(StateException, PermissionError):
    """The namespace is encrypted, and no key that was given opens it. Nothing was written."""


class KeyMissing(Sealed):
    """No encryption key was given where one is needed: for an encrypted namespace, or to encrypt one."""


class KeyWrong(Sealed):
    """The encryption key that was given is none of the keys of the namespace."""


class BackendError(StateException, OSError):
    """The backend refused: no space, no permission, a wrong setting. A retry would not help."""


class Reentered(BackendError):
    """Two calls of a thread, one in the middle of the other, exclude each other. The refused call wrote nothing.

    The inner call comes from a signal handler, a finalizer or a callback.
    """


class BackendUnavailable(BackendError, ConnectionError):
    """The backend does not answer, or stayed busy until the deadline."""


class CommitUnknown(BackendUnavailable):
    """The connection was lost after a commit was sent. The commit may or may not be applied."""


class Rewound(StateException, RuntimeError):
    """The namespace lost commits that this manager knew. It is raised once; the next call goes on from what is left.

    The server fails over to a replica that lacks the commits, restarts without them, or was emptied. Another process
    may also have dropped the namespace, or replaced it.

    Args:
        lost_from: the first of the lost revisions that this manager knew. Commits before it may be lost too.
        revision: the present revision of the namespace; 0 if it is gone.

    """

    def __init__(self, message: str, hint: Hint = "", *, lost_from: int = 0, revision: int = 0) -> None:
        super().__init__(message, hint)
        self.lost_from, self.revision = lost_from, revision


class NotReplicated(StateException, RuntimeError):
    """The commit was made, but too few replicas have confirmed it. A failover may lose it.

    Args:
        revision: the revision of the commit.
        replicas: how many replicas have confirmed it.

    """

    def __init__(self, message: str, hint: Hint = "", *, revision: int = 0, replicas: int = 0) -> None:
        super().__init__(message, hint)
        self.revision, self.replicas = revision, replicas

    def tell(self, done: str) -> None:
        """Say what the act has done, in place of `COMMITTED`."""
        self.next_steps = tuple(done if step == COMMITTED else step for step in self.next_steps)


def was_committed(error: StateException) -> bool:
    """Return whether the act that raised an error has made its commit all the same."""
    return isinstance(error, NotReplicated) or any(step in (COMMITTED, COMMITTED_FOR_NOW) for step in error.next_steps)
