"""Find the commit that last changed a value, or a place inside it."""

from __future__ import annotations

from typing import Literal, NamedTuple

from .. import codec
from ..backends.protocol import Backend, StateAt, Version
from ..errors import HistoryPruned
from ..model import ABSENT, Commit, to_datetime
from ..states.values.pointers import resolve_pointer
from ..states.view import missing_key, to_entry
from .history import versions_of


class Blame(NamedTuple):
    """A commit that changed a value last, and the outcome in the state that was asked about: "" if there is a value."""

    commit: Commit
    outcome: Literal["", "deleted", "expired"]


def find_blame(backend: Backend, key: str, path: str, state: StateAt) -> Blame:
    """Find the commit that last changed the value at a path of a key before a state, see `StateManager.blame`.

    The revision of `state` is -1 for live. O(versions passed).

    Raises:
        KeyNotFound: nothing was ever at the path, as far as the history is kept.
        HistoryPruned: the value has not changed since before the history's floor.

    """
    last, outcome = _last_change(backend, key, path, state.revision + 1, state.time)
    if last is None:
        raise missing_key(backend, key + path)
    while True:
        commits = backend.commits(1, last.revision + 1)
        if not commits or commits[0].revision != last.revision:
            return Blame(Commit(last.revision, to_datetime(last.time)), outcome)
        commit = commits[0]
        if not 0 < commit.position < commit.revision or not backend.versions(key, 1, commit.position + 1):
            return Blame(commit, outcome)
        # An undo or redo only brought back the version of that revision.
        last, _ = _last_change(backend, key, path, commit.position + 1)
        if last is None:
            return Blame(commit, outcome)


def _last_change(
    backend: Backend, key: str, path: str, below: int, now: int | None = None
) -> tuple[Version | None, Literal["", "deleted", "expired"]]:
    """Find the version since which the value at a path is the same, below a revision if it is not 0.

    `now` is when the newest may have expired.

    Returns:
        the version, None if no kept version has anything at the path; what became of the value.

    """
    versions = versions_of(backend, key, below)
    last = next(versions, None)
    if last is None:
        return None, ""
    wanted = _canonical_part(last, path)
    if now is not None and wanted is not None and not last.visible(now):
        return last, "expired"
    outcome: Literal["", "deleted"] = "deleted" if wanted is None else ""
    for version in versions:
        if last.value is None and 0 < version.expires <= last.time:
            return version, "expired"  # it had expired when a later commit cleared it away
        if _canonical_part(version, path) != wanted:
            return last, outcome
        last = version
    if wanted is None:
        return None, outcome
    if last.revision <= (floor := backend.head().floor):
        raise HistoryPruned(
            f"{key + path!r} has not changed since revision {last.revision}, or earlier",
            f"The history is kept back to revision {floor}",
        )
    return last, outcome


def _canonical_part(version: Version, path: str) -> bytes | None:
    """Return the value at a path of a version, for comparison; None if nothing is there."""
    part = ABSENT if version.value is None else resolve_pointer(to_entry(version).value, path)
    return None if part is ABSENT else codec.canonical(part)
