"""Pruning: forgetting checkpoints and history by a policy, and giving back the space that they took."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from typing import Any, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from ..backends.protocol import Backend, CheckpointRecord, CommitRequest, Head, SupersededVersion
from ..errors import Conflict
from ..model import Checkpoint, ProgressMessage, to_micros
from ..states import retention
from ..states.view import missing_mark, to_checkpoint

VERSIONS_PER_PAGE = 5000
CHECKPOINTS_PER_COMMIT = 1000  # checkpoints deleted in one commit
_SIGNS = "*?["

Said = Callable[[str], None]
Committer = Callable[[CommitRequest], Head]


class PrunePolicy(NamedTuple):
    """What is to go. See `StateManager.prune`; `before` is a time in microseconds."""

    patterns: tuple[str, ...] | None = None
    keep: int | None = None
    before: int | None = None
    history: bool = False


class PruneReport(Struct, frozen=True):
    """What a prune forgot or, as a dry run, would forget.

    `floor` is the revision back to which the history is kept then, save what checkpoints see, and `revisions` how many
    it lost. `versions` are those that are dropped. `before` and `after` are the bytes that the namespace took and takes
    (None where the server does not say), and `freed` what came back; of a dry run, about what would. `lineage` tells
    the namespace from another that took its place.
    """

    namespace: str
    dry_run: bool
    checkpoints: tuple[Checkpoint, ...] = ()
    floor: int = 0
    revisions: int = 0
    versions: int = 0
    before: int | None = None
    after: int | None = None
    freed: int | None = None
    lineage: str = ""

    def __bool__(self) -> bool:
        """Whether anything goes, or went, that could be asked for."""
        return bool(self.checkpoints or self.revisions)


def policy(
    backend: Backend, pattern: Iterable[str] | str | None, keep: int | None, older_than: str | float | timedelta | None,
    history: bool,
) -> PrunePolicy:  # fmt: skip
    """The policy that was asked for, checked.

    Raises:
        ValueError: nothing says what is to go, or what says it is no number or age.

    """
    if keep is not None and (isinstance(keep, bool) or not isinstance(keep, int) or keep < 0):
        raise ValueError(f"keep={keep!r}: give a whole number, not below 0")
    patterns = (pattern,) if isinstance(pattern, str) else None if pattern is None else tuple(pattern)
    if keep is None and older_than is None and (patterns is None or history):
        raise ValueError("nothing says what is to go: give keep, older_than, or the names of checkpoints")
    before = None if older_than is None else backend.now() - retention.to_micros(older_than)
    return PrunePolicy(patterns, keep, before, history)


def plan(backend: Backend, wanted: PrunePolicy, said: Said | None = None, reckon: bool = True) -> PruneReport:
    """What would go, without a change. O(history), or where it is not to be reckoned up, O(checkpoints).

    Raises:
        RefNotFound: a checkpoint that is given by name is not there.

    """
    head, marks = backend.head(), backend.marks()
    for one in wanted.patterns or ():
        if not any(sign in one for sign in _SIGNS) and not retention.select(marks, [one]):
            raise missing_mark(backend, one, one.partition("@")[0])
    gone = retention.expired(retention.select(marks, wanted.patterns), wanted.keep, wanted.before)
    floor = max(head.floor, _floor(backend, head, wanted)) if wanted.history else head.floor
    current = {mark.name: mark for mark in marks}
    checkpoints = tuple(to_checkpoint(mark, current[mark.name] is mark) for mark in gone)
    report = PruneReport(backend.namespace, True, checkpoints, floor, floor - head.floor, lineage=head.lineage)
    return _reckoned(backend, report, marks, said) if reckon else report


def _floor(backend: Backend, head: Head, wanted: PrunePolicy) -> int:
    """The revision back to which the policy keeps the history: the lower of what its two halves say."""
    floors = []
    if wanted.keep is not None:
        floors.append(head.revision - wanted.keep)
    if wanted.before is not None:
        below = 0
        while page := backend.commits(1000, below):
            below = page[-1].revision
            old = next((one.revision for one in page if to_micros(one.time) < wanted.before), None)
            if old is not None:
                floors.append(old)
                break
        else:
            floors.append(head.floor)
    return min(floors)


def _reckoned(backend: Backend, report: PruneReport, marks: list[CheckpointRecord], said: Said | None) -> PruneReport:
    """The report of a dry run with what would come back."""
    gone = {(one.name, one.revision) for one in report.checkpoints}
    seen = sorted({mark.revision for mark in marks if (mark.name, mark.revision) not in gone})
    versions = space = 0
    for looked, one in enumerate(iter_superseded(backend), 1):
        if _is_unseen(one, report.floor, seen):
            versions += 1
            space += one.space
        if said is not None and looked % VERSIONS_PER_PAGE == 0:
            said(f"{looked:,} versions looked at")
    takes = backend.disk_usage(gone)
    freed = space + (takes.spare if takes is not None else 0)
    before = None if takes is None else takes.total
    return replace(report, versions=versions, before=before, freed=freed if before is None else min(freed, before))


def _is_unseen(one: SupersededVersion, floor: int, seen: list[int]) -> bool:
    """Whether `Backend.compact` drops a version where only these revisions below the floor are named."""
    first = bisect_left(seen, one.revision)
    if 0 < one.until <= floor and (first == len(seen) or seen[first] >= one.until):
        return True
    return one.deleted and one.revision <= floor and first == 0


def iter_superseded(backend: Backend) -> Iterator[SupersededVersion]:
    """All versions that are kept and not live, read page by page."""
    after = ("", 0)
    while page := backend.superseded(after, VERSIONS_PER_PAGE):
        yield from page
        after = (page[-1].key, page[-1].revision)


def execute(backend: Backend, planned: PruneReport, commit: Committer, said: Said | None = None) -> PruneReport:
    """Do what was planned, as far as it still is there.

    The checkpoints go first. From then on nothing asks for what only they could see; whatever ends it before that is
    swept away and its space given back, done again it goes on.

    Raises:
        Conflict: it was planned for a namespace that is there no longer.

    """
    if backend.head().lineage != planned.lineage:
        what = f"namespace {backend.namespace!r} was dropped or replaced since it was looked at"
        raise Conflict(what, "Look at what would go now, and try again")
    before = backend.disk_usage()
    present = {(mark.name, mark.revision) for mark in backend.marks()}
    going = [one for one in planned.checkpoints if (one.name, one.revision) in present]
    for start in range(0, len(going), CHECKPOINTS_PER_COMMIT):
        commit(
            CommitRequest(
                unmarks=tuple((one.name, one.revision) for one in going[start : start + CHECKPOINTS_PER_COMMIT])
            )
        )
        if said is not None:
            said(ProgressMessage.of(min(start + CHECKPOINTS_PER_COMMIT, len(going)), len(going), "checkpoints deleted"))
    head = backend.head()
    floor = max(head.floor, min(planned.floor, head.revision))
    versions = compact(backend, floor, said)
    after = backend.disk_usage()
    known: dict[str, Any] = {}
    if before is not None and after is not None:
        known = {"before": before.total, "after": after.total, "freed": before.total - after.total}
    known["lineage"] = head.lineage
    return PruneReport(backend.namespace, False, tuple(going), floor, floor - head.floor, versions, **known)


def compact(backend: Backend, floor: int, said: Said | None = None) -> int:
    """`Backend.compact`, told in words."""
    if said is None:
        return backend.compact(floor)
    return backend.compact(floor, lambda done, total: said(ProgressMessage.of(done, total, "versions looked at")))
