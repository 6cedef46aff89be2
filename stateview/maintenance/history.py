"""Read the history of a namespace page by page: its commits, its versions, and which versions a checkpoint needs."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence

from ..backends.protocol import Backend, StoredVersion, SupersededVersion, Version
from ..model import Commit

COMMITS_PER_PAGE = 1000
VERSIONS_PER_PAGE = 5000


def iter_commits(backend: Backend, below: int = 0) -> Iterator[Commit]:
    """Yield the kept commits below a revision, newest first; with 0, all of them."""
    while page := backend.commits(COMMITS_PER_PAGE, below):
        yield from page
        below = page[-1].revision


def commit_of(backend: Backend, revision: int) -> Commit | None:
    """Return the commit of a revision; None if it is not kept."""
    commits = backend.commits(1, revision + 1)
    return commits[0] if commits and commits[0].revision == revision else None


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
