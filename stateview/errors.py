"""The tree of errors. Each is also the built-in that a Python user would catch, and says what to do next."""

from __future__ import annotations


class StateException(Exception):
    """Base of everything stateview raises on purpose.

    `message` says what happened and to what; `hint`, when there is one, what to do next. `str()` gives both.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:  # KeyError would show the repr
        if not self.hint:
            return self.message
        if "\n" in self.message:
            return f"{self.message}\n{self.hint}"
        return f"{self.message}{'' if self.message[-1:] in '.?!' else '.'} {self.hint}"

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.message, self.hint)


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

    def __init__(self, message: str, hint: str = "", path: str = "$") -> None:
        super().__init__(message, hint)
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.message, self.hint, self.path)


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
