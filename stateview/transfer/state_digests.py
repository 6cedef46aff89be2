"""Count and hash what each state of a namespace shows: live, and each checkpoint."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from hashlib import blake2b
from itertools import pairwise
from operator import attrgetter
from typing import NamedTuple

from ..backends.protocol import Backend, CheckpointRecord, StateAt, StoredVersion
from .version_pages import DIGEST_BYTES, as_of, iter_pages, prefetch, value_bytes

SAMPLED_KEYS = 1000
ENDLESS = 1 << 62  # above all revisions and times

_revision, _until, _expires, _value = map(attrgetter, ("revision", "until", "expires", "value"))


class StateDigest(NamedTuple):
    """Identify a state: the number of its keys, and a digest of their values, revisions, times and expiry."""

    keys: int
    digest: str


class VerificationReport(NamedTuple):
    """Report what a namespace holds. `pruned` counts the copied versions that the source has pruned since."""

    versions: int
    bytes: int
    live: StateDigest
    checkpoints: dict[str, StateDigest]
    pruned: int


class StateHasher:
    """Hash live and each checkpoint at once, from versions that are added by key, then revision.

    Args:
        at: the live state.
        marks: the checkpoints.

    """

    def __init__(self, at: StateAt, marks: Sequence[CheckpointRecord]) -> None:
        self._states = [at, *(mark.point for mark in marks)]
        self._order = sorted(range(len(self._states)), key=lambda number: self._states[number].revision)
        self._revisions = [self._states[number].revision for number in self._order]
        self._names = [f"{mark.name}@{mark.revision}" for mark in marks]
        self._oldest = min(state.revision for state in self._states)
        self._hashes = [blake2b(digest_size=DIGEST_BYTES) for _ in self._states]
        self._counts = [0] * len(self._states)
        self.sample: list[str] = []  # the first keys with several versions or an expiry

    def add(self, page: Sequence[StoredVersion]) -> None:
        """Add versions to the states that show them."""
        is_plain = max(map(_revision, page)) <= self._oldest and not any(map(_until, page))
        if is_plain and not any(map(_expires, page)) and None not in map(_value, page):
            block = b"".join(map(_encode, page))  # every state shows all of the page
            for number, state_hash in enumerate(self._hashes):
                state_hash.update(block)
                self._counts[number] += len(page)
            return
        if len(self.sample) < SAMPLED_KEYS:
            self.sample += [version.key for version in page if version.until or version.expires]
        lines = [
            (version.revision, version.until or ENDLESS, version.expires or ENDLESS, _encode(version))
            for version in page if version.value is not None
        ]  # fmt: skip
        starts: dict[int, list[int]] = {}
        ends: dict[int, list[int]] = {}
        for index, (low, high, _, _) in enumerate(lines):
            first, end = bisect_left(self._revisions, low), bisect_left(self._revisions, high)
            if first < end:
                starts.setdefault(first, []).append(index)
                ends.setdefault(end, []).append(index)
        shown: set[int] = set()  # the lines that the states from `first` to before `end` show, unless they expired
        for first, end in pairwise(sorted({*starts, *ends})):
            shown.difference_update(ends.get(first, ()))
            shown.update(starts.get(first, ()))
            self._add_lines([lines[index] for index in sorted(shown)], first, end)

    def _add_lines(self, lines: Sequence[tuple[int, int, int, bytes]], first: int, end: int) -> None:
        """Add lines to a range of the states, each of them to the states in which it has not expired."""
        if not lines:
            return
        expires = min(line[2] for line in lines)
        block = b"".join(line[3] for line in lines)
        for number in self._order[first:end]:
            time = self._states[number].time
            left = lines if expires > time else [line for line in lines if line[2] > time]
            self._hashes[number].update(block if left is lines else b"".join(line[3] for line in left))
            self._counts[number] += len(left)

    @property
    def keys(self) -> int:
        """Return the number of live keys so far."""
        return self._counts[0]

    def digests(self) -> tuple[StateDigest, dict[str, StateDigest]]:
        """Return the digest of live, and of each checkpoint by `NAME@REVISION`."""
        live, *checkpoints = (
            StateDigest(count, state_hash.hexdigest())
            for count, state_hash in zip(self._counts, self._hashes, strict=True)
        )
        return live, dict(zip(self._names, checkpoints, strict=True))


def _encode(version: StoredVersion) -> bytes:
    value = version.value or b""
    numbers = version.revision, version.time, version.expires, len(value)
    return b"%b\0%d %d %d %d %b" % (version.key.encode(), *numbers, value)


def summarize(
    backend: Backend, at: StateAt, marks: Sequence[CheckpointRecord], report: Callable[[int], None] = lambda _: None
) -> VerificationReport:  # fmt: skip
    """Read a whole namespace, and return what it holds as of a state. O(versions).

    Args:
        backend: the namespace.
        at: the live state.
        marks: the checkpoints to hash.
        report: called with the number of live keys so far.

    """
    states = StateHasher(at, marks)
    versions = size = 0
    for page in prefetch(iter_pages(backend)):
        if kept := as_of(page, at.revision):
            states.add(kept)
            versions, size = versions + len(kept), size + value_bytes(kept)
        report(states.keys)
    return VerificationReport(versions, size, *states.digests(), 0)
