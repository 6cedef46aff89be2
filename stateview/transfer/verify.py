"""Verify a copy against its source: compare every kept version, and count and hash what each state shows.

The copy is read back whole. The source is read again only where it may have changed since it was copied, or where
another process copied it. Elsewhere the digests of the copied pages are compared.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from operator import attrgetter

from ..backends.protocol import Backend, CheckpointRecord, Head, StateAt, StoredVersion, Version
from ..errors import Damaged
from ..maintenance.history import COMMITS_PER_PAGE, any_within
from .state_digests import ENDLESS, SAMPLED_KEYS, StateHasher, VerificationReport
from .version_pages import (
    KEYS_PER_CALL,
    PageDigest,
    VersionId,
    as_of,
    iter_pages,
    page_digest,
    prefetch,
    value_bytes,
    version_id,
)

SCANNED_STATES = 100
MIN_SAMPLED_KEYS = 10
_revision = attrgetter("revision")
_MAX_SHOWN_KEY = 60  # characters of a key in an error


class VerificationError(Damaged):
    """The copy differs from the source."""


def difference(url: str, what: str) -> VerificationError:
    """Build the error for a copy that differs from its source."""
    return VerificationError(f"the data read back from {url} is not what was copied: {what}")


@contextmanager
def reading_back(url: str) -> Iterator[None]:
    """Report damage as a fault of the copy at `url`, not of the source."""
    try:
        yield
    except VerificationError:
        raise
    except Damaged as error:
        raise difference(url, error.message) from error


class _VersionCursor:
    """Read the versions of a copy in order, up to a given version at a time."""

    def __init__(self, pages: Iterator[list[StoredVersion]], url: str) -> None:
        self._pages = pages
        self._url = url
        self._buffer: list[StoredVersion] = []

    def read_until(self, last: VersionId | None) -> list[StoredVersion]:
        """Return the next versions, up to and including `last`; with None, all that are left."""
        versions: list[StoredVersion] = []
        while True:
            if not self._buffer:
                with reading_back(self._url):
                    self._buffer = next(self._pages, [])
            cut = len(self._buffer) if last is None else bisect_right(self._buffer, last, key=version_id)
            versions += self._buffer[:cut]
            self._buffer = self._buffer[cut:]
            if self._buffer or not cut:
                return versions

    def push_back(self, versions: list[StoredVersion]) -> None:
        """Put versions back, so that the next call returns them again."""
        self._buffer = versions + self._buffer


class Verification:
    """Compare a copy with its source, as the source was at a head.

    Args:
        source: the copied namespace. Others may write to it.
        copy: the copy.
        head: the head of the source that was copied.
        marks: the checkpoints that were copied.
        time: the time by which expiry is judged on both sides.
        floor: the floor of the copy, if it is above the floor of the head.

    """

    def __init__(
        self, source: Backend, copy: Backend, head: Head, marks: Sequence[CheckpointRecord], time: int, floor: int = 0
    ) -> None:
        self._source, self._copy, self._head, self._marks = source, copy, head, marks
        self._at = StateAt(head.revision, time)
        self._marked = sorted({mark.revision for mark in marks})
        self._floor = self._copied_floor = max(head.floor, floor)
        self._states = StateHasher(self._at, marks)
        self._versions = self._bytes = self._pruned = 0

    def compare_all(
        self, digests: Sequence[PageDigest], changed: Sequence[str], report: Callable[[int], None]
    ) -> VerificationReport:
        """Compare everything. O(versions).

        Args:
            digests: digests of the copied pages, in order. Other parts of the source are read again.
            changed: keys whose page digests are out of date, sorted.
            report: called with the number of live keys so far.

        Raises:
            VerificationError: the copy differs from the source.
            Damaged: the source is damaged.

        """
        copy = _VersionCursor(prefetch(iter_pages(self._copy)), self._copy.url)
        after = "", 0
        for expected in digests:
            if expected.after > after:
                self._compare_range(copy, after, expected.after)
            page = copy.read_until(expected.last)
            first = bisect_left(changed, expected.after[0])
            is_current = first == len(changed) or changed[first] > expected.last[0]
            if is_current and len(page) == expected.versions and page_digest(expected.after, page) == expected:
                self._accept(page)
            else:
                copy.push_back(page)
                self._compare_range(copy, expected.after, expected.last)
            after = expected.last
            report(self._states.keys)
        self._compare_range(copy, after, None, report)
        self._check_head()
        self._check_commits()
        self._check_reads()
        return VerificationReport(self._versions, self._bytes, *self._states.digests(), self._pruned)

    def compare_keys(self, keys: Sequence[str]) -> int:
        """Compare the versions of some keys, the head, the checkpoints and the commits.

        Returns:
            the number of copied versions that the source has pruned since.

        Raises:
            VerificationError: the copy differs from the source.

        """
        for start in range(0, len(keys), KEYS_PER_CALL):
            chunk = keys[start : start + KEYS_PER_CALL]
            expected = [version for page in iter_pages(self._source, keys=chunk) for version in page]
            with reading_back(self._copy.url):
                copied = [version for page in iter_pages(self._copy, keys=chunk) for version in page]
            self._compare_versions(expected, copied)
        self._check_head()
        self._check_commits()
        return self._pruned

    def _compare_range(
        self,
        copy: _VersionCursor,
        after: VersionId,
        last: VersionId | None,
        report: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Read a part of the source again, and compare it with the copy."""
        for page in prefetch(iter_pages(self._source, after)):
            cut = len(page) if last is None else bisect_right(page, last, key=version_id)
            if cut:
                copied = copy.read_until(version_id(page[cut - 1]))
                if page[:cut] == copied:
                    self._accept(copied)
                else:
                    self._compare_versions(page[:cut], copied)
            report(self._states.keys)
            if cut < len(page):
                break
        self._compare_versions([], copy.read_until(last))

    def _accept(self, versions: Sequence[StoredVersion]) -> None:
        if versions:
            self._states.add(versions)
            self._versions += len(versions)
            self._bytes += value_bytes(versions)

    def _compare_versions(self, expected: list[StoredVersion], copied: list[StoredVersion]) -> None:
        """Compare version by version. The source may have advanced or pruned since it was copied."""
        left = {version_id(version): version for version in as_of(expected, self._head.revision)}
        right = {version_id(version): version for version in copied}
        if left.keys() != right.keys():
            self._floor = max(self._floor, self._source.head().floor)
        for key, revision in sorted(left.keys() | right.keys()):
            original, copy = left.get((key, revision)), right.get((key, revision))
            if original is None and copy is not None and not self._is_needed(copy):
                self._pruned += 1
            elif copy is None and original is not None and not self._is_needed(original):
                pass
            elif original is None or copy is None or not self._is_same(original, copy):
                raise difference(self._copy.url, f"key {key[:_MAX_SHOWN_KEY]!r} at revision {revision}")
            else:
                self._accept([copy])

    def _is_needed(self, version: StoredVersion) -> bool:
        """Return whether a kept state shows the version, or shows that its key was deleted."""
        if version.value is None and not version.until:
            return version.revision > self._floor or any_within(self._marked, 0, version.revision)
        until = version.until or ENDLESS
        return until > self._floor or any_within(self._marked, version.revision, version.until)

    def _is_same(self, original: StoredVersion, copy: StoredVersion) -> bool:
        if (original.value, original.time, original.expires) != (copy.value, copy.time, copy.expires):
            return False
        low, high = sorted((original.until or ENDLESS, copy.until or ENDLESS))
        return low == high or (high <= self._floor and not any_within(self._marked, low, high))

    # --- head, commits and reads -------------------------------------------------------------------------------

    def _check_head(self) -> None:
        with reading_back(self._copy.url):
            head, marks = self._copy.head(), self._copy.marks()
        expected = self._head.revision, self._copied_floor, self._head.lineage  # the time is checked with the commits
        if (head.revision, head.floor, head.lineage) != expected:
            raise difference(self._copy.url, f"its head is at revision {head.revision}")
        if marks != list(self._marks):
            raise difference(self._copy.url, "its checkpoints")

    def _check_commits(self) -> None:
        below = self._head.revision + 1
        while expected := self._source.commits(COMMITS_PER_PAGE, below):
            start, below = below, expected[-1].revision
            expected = [commit for commit in expected if commit.revision > self._copied_floor]
            with reading_back(self._copy.url):
                copied = self._copy.commits(len(expected), start) if expected else []
            if expected != copied:  # commits that the source has pruned since are the last in both
                raise difference(self._copy.url, f"its commits below revision {start}")

    def _check_reads(self) -> None:
        """Read a sample of each state by the methods that users read by, and scan up to `SCANNED_STATES` states."""
        live = self._states.digests()[0]
        states = [(self._at, live.keys), *((mark.point, None) for mark in self._marks)]
        limit = max(MIN_SAMPLED_KEYS, SAMPLED_KEYS * SCANNED_STATES // max(SCANNED_STATES, len(states)))
        step = -(-len(states) // SCANNED_STATES)
        kept: dict[str, list[StoredVersion]] = {}
        scanned: list[Version] = []
        for number, (at, keys) in enumerate(states):
            with reading_back(self._copy.url):
                is_scanned = number % step == 0
                if is_scanned:
                    scanned = self._copy.scan(limit=limit, at=at)
                sample = sorted({*(version.key for version in scanned), *self._states.sample[:limit]})
                read = self._copy.read(sample, at)
                self._add_versions(kept, sample)
                count = None if keys is None else self._copy.count(at=at)
            shown = (_shown(kept[key], at) for key in sample)
            expected = {version.key: (version.value, version.revision) for version in shown if version is not None}
            by_read, by_scan = (
                {version.key: (version.value, version.revision) for version in versions}
                for versions in (read.values(), scanned if is_scanned else ())
            )
            if expected != by_read or not by_scan.items() <= expected.items() or count != keys:
                raise difference(self._copy.url, f"its state at revision {at.revision}")

    def _add_versions(self, kept: dict[str, list[StoredVersion]], keys: Sequence[str]) -> None:
        """Read all versions of the keys of the copy that were not read before."""
        if len(kept) > 2 * SAMPLED_KEYS:
            kept.clear()
        if missing := [key for key in keys if key not in kept]:
            kept.update((key, []) for key in missing)
            for page in iter_pages(self._copy, keys=missing):
                for version in page:
                    kept[version.key].append(version)


def _shown(versions: Sequence[StoredVersion], at: StateAt) -> StoredVersion | None:
    """Return the version, of those of a key by ascending revision, that a state shows."""
    count = bisect_right(versions, at.revision, key=_revision)
    version = versions[count - 1] if count else None
    if version is None or (version.until or ENDLESS) <= at.revision or not version.visible(at.time):
        return None
    return version
