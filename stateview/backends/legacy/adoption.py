"""Commits from the states that an older layout stored whole."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from ..protocol import CheckpointWrite, CommitRequest, Version, Write

REASON = "adopted from an older layout"
_NOTE = "adopted"  # of the checkpoints
_DELETE = Write(None)


class LegacyState(NamedTuple):
    """A state of an older layout.

    Attributes:
        name: the name of the checkpoint; "" for the live state.
        time: when it was stored, in microseconds; 0 if the layout does not store it.
        pages: the entries by key, in one page or several. Their `time` is 0 if the layout does not store it.

    """

    name: str
    time: int
    pages: Iterable[dict[str, Version]]


class AdoptionTarget(Protocol):
    """Where the commits go."""

    def read(self, keys: Iterable[str]) -> dict[str, Version]:
        """Return the entries that exist under some keys."""

    def all_keys(self) -> Iterable[str]:
        """Yield all keys."""

    def commit(self, request: CommitRequest) -> object:
        """Apply a commit."""


def adopt(states: Iterable[LegacyState], target: AdoptionTarget) -> None:
    """Commit the changes from each state to the next, and name each state by its checkpoint. O(size of all states).

    A state whose entries come in one page becomes one commit. The commit of the next state makes its checkpoint.

    Args:
        states: the checkpoints, oldest first, then the live state.
        target: where the commits go.

    """
    previous: LegacyState | None = None
    for state in states:
        reason = f"adopted checkpoint {state.name}" if state.name else REASON
        marks = () if previous is None else (CheckpointWrite(previous.name, _NOTE, None, previous.time),)
        keys: set[str] = set()
        pages = iter(state.pages)
        page: dict[str, Version] | None = next(pages, {})
        while page is not None:
            following = next(pages, None)
            keys.update(page)
            existing = target.read(page)
            writes = {key: _write(new, state.time) for key, new in page.items() if _differs(existing.get(key), new)}
            if following is None:
                writes.update((key, _DELETE) for key in target.all_keys() if key not in keys)
            if writes or marks:
                target.commit(CommitRequest(writes, reason=reason, marks=marks, time=state.time))
                marks = ()
            page = following
        previous = state


def adoption_requests(states: Iterable[LegacyState], entries: Iterable[Version] = ()) -> Sequence[CommitRequest]:
    """Return the commits of `adopt` as requests, for a backend that applies them in one step.

    Args:
        states: the checkpoints, oldest first, then the live state.
        entries: the entries that exist before the first commit.

    """
    collected = _Collected(entries)
    adopt(states, collected)
    return collected.requests


class _Collected:
    """A target that keeps requests, and the entries after them."""

    def __init__(self, entries: Iterable[Version]) -> None:
        self.requests: list[CommitRequest] = []
        self._entries = {version.key: version for version in entries}

    def read(self, keys: Iterable[str]) -> dict[str, Version]:
        return {key: self._entries[key] for key in keys if key in self._entries}

    def all_keys(self) -> Iterable[str]:
        return self._entries

    def commit(self, request: CommitRequest) -> None:
        self.requests.append(request)
        for key, write in request.writes.items():
            if write.value is None:
                self._entries.pop(key)
            else:
                self._entries[key] = Version(key, write.value, 0, write.time, 0)


def _differs(existing: Version | None, new: Version) -> bool:
    return existing is None or existing.value != new.value or new.time not in (0, existing.time)


def _write(version: Version, moment: int) -> Write:
    return Write(version.value, max(1, version.expires - moment) if version.expires else 0, version.time)
