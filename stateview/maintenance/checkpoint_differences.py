"""Which keys differ between each checkpoint and the next, found in one pass over all versions."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import pairwise

from ..backends.protocol import CheckpointRecord, StateAt, StoredVersion


class CheckpointDifferences:
    """The keys that differ between neighbouring checkpoints. O(log checkpoints) for each version.

    Args:
        marks: the checkpoints.

    """

    def __init__(self, marks: Iterable[CheckpointRecord]) -> None:
        self.sample = "k"  # the first key that has a version
        self._points = sorted({mark.point for mark in marks}, key=lambda point: (point.revision, point.time))
        self._revisions = [point.revision for point in self._points]
        self._times = [point.time for point in self._points]
        self._times_rise = all(one <= two for one, two in pairwise(self._times))
        self._numbers = {point: number for number, point in enumerate(self._points)}
        self._keys: dict[int, set[str]] = {}  # by the number of the later checkpoint
        self._is_empty = True

    def add(self, version: StoredVersion) -> None:
        """Take a version into account. Each version of a namespace is to be added once."""
        if self._is_empty:
            self.sample, self._is_empty = version.key, False
        if version.value is None:
            return
        first = bisect_left(self._revisions, version.revision)
        end = bisect_left(self._revisions, version.until) if version.until else len(self._points)
        for low, high in self._visible(first, end, version.expires):
            for number in (low, high):
                if 0 < number < len(self._points):
                    self._keys.setdefault(number, set()).add(version.key)

    def _visible(self, first: int, end: int, expires: int) -> Iterator[tuple[int, int]]:
        """Yield the ranges of checkpoints, among those of the version's revisions, in which it has not expired."""
        if expires and self._times_rise:
            end = min(end, bisect_left(self._times, expires))
        if not expires or self._times_rise:
            if first < end:
                yield first, end
            return
        for number in range(first, end):
            if self._times[number] < expires:
                yield number, number + 1

    def keys(self, low: StateAt, high: StateAt) -> set[str] | None:
        """Return the keys that differ between two neighbouring checkpoints; None if they were no neighbours."""
        before, after = self._numbers.get(low), self._numbers.get(high)
        if before is None or after is None or after - before not in (0, 1):
            return None
        return self._keys.get(after, set()) if before < after else set()
