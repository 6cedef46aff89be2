"""Workflow state that survives being stopped: checkpoints, diff, restore and undo on JSON files, SQLite and Redis."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from . import quick_msgspec as _quick_msgspec  # noqa: F401 - before all that imports msgspec
from .arguments import Revision
from .backends import working_folder
from .errors import (
    BackendError,
    BackendUnavailable,
    CommitUnknown,
    Conflict,
    Damaged,
    HistoryPruned,
    InvalidArgument,
    InvalidName,
    KeyMissing,
    KeyNotFound,
    KeyWrong,
    LockHeld,
    LockLost,
    NamespaceNotFound,
    NotReplicated,
    NotSerializable,
    ReadOnly,
    Reentered,
    RefNotFound,
    Rewound,
    Sealed,
    SkipStep,
    StateException,
    StepChanged,
    StepTimeout,
    WaitTimeout,
    was_committed,
)
from .manager import StateManager, migrate
from .model import (
    ABSENT,
    Checkpoint,
    Commit,
    DoctorReport,
    Entry,
    Finding,
    PathChange,
    Problem,
    RecoveryReport,
)
from .states.changes import Change, Diff
from .states.matching.patterns import join_key, split_key
from .states.transaction import Transaction
from .states.view import StateView, diff

if TYPE_CHECKING:
    from .aio.manager import AsyncStateManager
    from .aio.views import AsyncDiff, AsyncStateView, AsyncTransaction
    from .workflow.decorator import step

__version__ = "0.1.0"
__all__ = [
    "ABSENT",
    "AsyncDiff",
    "AsyncStateManager",
    "AsyncStateView",
    "AsyncTransaction",
    "BackendError",
    "BackendUnavailable",
    "Change",
    "Checkpoint",
    "Commit",
    "CommitUnknown",
    "Conflict",
    "Damaged",
    "Diff",
    "DoctorReport",
    "Entry",
    "Finding",
    "HistoryPruned",
    "InvalidArgument",
    "InvalidName",
    "KeyMissing",
    "KeyNotFound",
    "KeyWrong",
    "LockHeld",
    "LockLost",
    "NamespaceNotFound",
    "NotReplicated",
    "NotSerializable",
    "PathChange",
    "Problem",
    "ReadOnly",
    "RecoveryReport",
    "Reentered",
    "RefNotFound",
    "Revision",
    "Rewound",
    "Sealed",
    "SkipStep",
    "StateException",
    "StateManager",
    "StateView",
    "StepChanged",
    "StepTimeout",
    "Transaction",
    "WaitTimeout",
    "checkpoint",
    "diff",
    "join_key",
    "load_state",
    "migrate",
    "restore_checkpoint",
    "save_state",
    "split_key",
    "step",
]

_LAZY = {  # imported by the first use: their modules are not needed by a StateManager
    "AsyncDiff": ".aio.views",
    "AsyncStateManager": ".aio.manager",
    "AsyncStateView": ".aio.views",
    "AsyncTransaction": ".aio.views",
    "step": ".workflow.decorator",
}
_default: tuple[tuple[str | None, ...], StateManager] | None = None


def __getattr__(name: str) -> Any:
    """Import a name of `_LAZY` at its first use."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    found = globals()[name] = getattr(import_module(_LAZY[name], __name__), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _manager() -> StateManager:
    """Return the default store's manager: one for each working folder and environment."""
    global _default
    where = (working_folder(), os.environ.get("STATEVIEW_STORE"), os.environ.get("STATEVIEW_NAMESPACE"))
    if _default is None or _default[0] != where:
        _default = (where, StateManager())
    return _default[1]


def save_state(key: str, value: Any) -> bool:
    """Save a value in the default store. Return True, or False with the reason on stderr.

    It also returns True for a value that was saved before an error, which stderr names: too few replicas
    confirmed it, for example.
    """
    try:
        _manager().save(key, value)
    except StateException as error:
        was_made = was_committed(error)
        print(f"stateview: {key!r} was {'' if was_made else 'not '}saved: {error}", file=sys.stderr)
        return was_made
    return True


def load_state(key: str, default: Any = None) -> Any:
    """Return the value of a key in the default store, or `default` if the key has no value.

    Raises:
        StateException: the value cannot be read. That differs from a key without a value.

    """
    return _manager().load(key, default)


def checkpoint(name: str | None = None) -> str:
    """Name the present state of the default store, and return the name.

    Raises:
        NotReplicated: the checkpoint was made, but too few replicas have confirmed it. The error names it.
        StateException: the checkpoint was not made.

    """
    return _manager().checkpoint(name)


def restore_checkpoint(name: str) -> bool:
    """Restore a checkpoint of the default store exactly. Return True, or False with the reason on stderr.

    It also returns True for a restore that was made before an error, which stderr names: too few replicas
    confirmed it, for example.
    """
    try:
        _manager().restore_checkpoint(name)
    except StateException as error:
        was_made = was_committed(error)
        print(f"stateview: {name!r} was {'' if was_made else 'not '}restored: {error}", file=sys.stderr)
        return was_made
    return True
