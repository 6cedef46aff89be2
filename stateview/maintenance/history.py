"""Read the history of a namespace page by page: its commits, its versions, and which versions a checkpoint needs."""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from ..arguments import MAX_INTEGER
from ..backends.names_only import names_only
from ..backends.protocol import Backend, CheckpointRecord, StateAt, StoredVersion, SupersededVersion, Version
from ..errors import HistoryPruned
from ..model import Commit, opened, to_datetime, to_micros
from ..states.matching.patterns import Selection

COMMITS_PER_PAGE = 1000
VERSIONS_PER_PAGE = 5000
VERSIONS_PER_READ = 100  # of one key
_COMMITS_NEARBY = 50  # commits that are read at once, if the commits of certain revisions are wanted

_UNKNOWN = Commit(0, to_datetime(0))


def iter_commits(backend: Backend, below: int = 0) -> Iterator[Commit]:
    """Yield the kept commits below a revision, newest first; with 0, all of them."""
    while page := backend.commits(COMMITS_PER_PAGE, below):
        yield from page
        below = page[-1].revision


def commit_of(backend: Backend, revision: int) -> Commit | None:
    """Return the commit of a revision; None if it is not kept."""
    commits = backend.commits(1, revision + 1)
    return commits[0] if commits and commits[0].revision == revision else None


def commits_of(backend: Backend, revisions: Iterable[int]) -> Iterator[Commit]:
    """Yield the kept commits of some revisions, newest first. O(log n) each; close ones are read in one page."""
    page: dict[int, Commit] = {}
    for revision in revisions:
        if not page or revision < min(page):
            below = min(revision + 1, MAX_INTEGER)
            page = {commit.revision: commit for commit in backend.commits(_COMMITS_NEARBY, below)}
        if revision in page:
            yield page[revision]


def marks_up_to(backend: Backend, revision: int) -> list[CheckpointRecord]:
    """Return the checkpoints up to a revision. Others may have made later ones since the revision was read."""
    return [mark for mark in backend.marks() if mark.revision <= revision]


def versions_of(backend: Backend, key: str, below: int = 0) -> Iterator[Version]:
    """Yield the kept versions of a key below a revision, newest first; with 0, all of them."""
    while page := backend.versions(key, VERSIONS_PER_READ, below):
        yield from page
        below = page[-1].revision


class CommitFilter(NamedTuple):
    """Say which commits or versions to list; see `StateManager.log`. For the boundaries see `moments.bounds`."""

    by: Selection
    keys: Selection
    text: str
    after: StateAt
    until: StateAt

    def within(self, revision: int, time: int) -> bool:
        """Return whether a revision is after the beginning, and no later than the end."""
        return self.after.revision < revision <= self.until.revision and self.after.time <= time <= self.until.time

    def accepts(self, commit: Commit) -> bool:
        """Return whether author and reason are those wanted."""
        if self.by.patterns is not None and not self.by(opened(commit.author)):
            return False
        return not self.text or self.text in opened(commit.reason)

    def start(self, below: int) -> int:
        """Return the `below` of the first page to read."""
        return min(below or self.until.revision + 1, self.until.revision + 1)


def find_commits(backend: Backend, wanted: CommitFilter, below: int = 0) -> Iterator[Commit]:
    """Yield the commits that a filter selects, newest first, and stop at the first one before its beginning.

    O(commits read). Keys given by name cost O(log n + their versions). With a glob, the keys of each commit are read.
    """
    below = wanted.start(below)
    backend = names_only(backend)
    keys = wanted.keys.among(lambda names: [name for name in names if backend.versions(name, 1)])
    names, globs = keys.exact(), keys.patterns is not None and len(keys.exact()) < len(keys.patterns)
    commits = iter_commits(backend, below)
    if keys.patterns is not None and not globs:
        each = (versions_of(backend, name, below) for name in names)
        revisions = (version.revision for version in heapq.merge(*each, key=lambda version: -version.revision))
        commits = commits_of(backend, (revision for revision, _ in groupby(revisions)))
    for commit in commits:
        time = to_micros(commit.time)
        if commit.revision <= wanted.after.revision or time < wanted.after.time:
            return
        if not wanted.within(commit.revision, time) or not wanted.accepts(commit):
            continue
        try:
            if not globs or any(map(keys, keys_of(backend, commit.revision))):
                yield commit
        except HistoryPruned:
            return  # the floor has risen above the commit since its page was read: it is in the log no longer


def find_versions(backend: Backend, key: str, wanted: CommitFilter, below: int = 0) -> Iterator[Version]:
    """Yield the kept versions of a key that a filter selects, newest first, and stop before its beginning.

    The commit of a version that only a checkpoint keeps is not known: it has no author and no reason. O(versions read).
    """
    below = wanted.start(below)
    while page := backend.versions(key, VERSIONS_PER_READ, below):
        commits = {}
        if wanted.by.patterns is not None or wanted.text:
            commits = {commit.revision: commit for commit in commits_of(backend, [each.revision for each in page])}
        for version in page:
            if version.revision <= wanted.after.revision:
                return
            commit = commits.get(version.revision, _UNKNOWN)
            if wanted.within(version.revision, version.time) and wanted.accepts(commit):
                yield version
        below = page[-1].revision


def keys_of(backend: Backend, revision: int) -> list[str]:
    """List the keys that the commit of a kept revision wrote or deleted. O(its keys). JSON files: O(n)."""
    return backend.changed_keys(StateAt(revision - 1, 0), StateAt(revision, 0))  # equal times ignore expiry


def iter_superseded(backend: Backend) -> Iterator[SupersededVersion]:
    """Yield all kept versions that are not live."""
    after = ("", 0)
    while page := backend.superseded(after, VERSIONS_PER_PAGE):
        yield from page
        after = (page[-1].key, page[-1].revision)


def with_superseded_by(versions: Iterable[Version]) -> Iterator[StoredVersion]:
    """Yield versions with the revision that superseded each: that of the key's next version.

    Args:
        versions: sorted by key, then revision.

    """
    before: Version | None = None
    for version in versions:
        if before is not None:
            yield _stored(before, version.revision if version.key == before.key else 0)
        before = version
    if before is not None:
        yield _stored(before, 0)


def _stored(version: Version, until: int) -> StoredVersion:
    return StoredVersion(version.key, version.value, version.revision, version.time, version.expires, until)


def any_within(revisions: Sequence[int], start: int, end: int) -> bool:
    """Return whether one of the sorted revisions is at least `start` and below `end`."""
    place = bisect_left(revisions, start)
    return place < len(revisions) and revisions[place] < end
