"""Prune: delete checkpoints and history by a policy, and free their space."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from ..backends.protocol import Backend, CheckpointRecord, CommitRequest, Head, ProgressText, SupersededVersion
from ..errors import Conflict, NotReplicated, tells_what_was_done
from ..model import Checkpoint, ProgressMessage, to_micros
from ..refs import parse_age
from ..states import retention
from ..states.matching.patterns import is_glob
from ..states.view import missing_mark, to_checkpoint
from .history import any_within, iter_commits, iter_superseded

VERSIONS_PER_REPORT = 5000
CHECKPOINTS_PER_COMMIT = 1000

Committer = Callable[[CommitRequest], Head]


class PrunePolicy(NamedTuple):
    """Say what to remove; see `StateManager.prune`. `before` is a time in microseconds."""

    patterns: tuple[str, ...] | None = None
    keep: int | None = None
    before: int | None = None
    history: bool = False


class PruneReport(Struct, frozen=True):
    """Report what a prune removed or, for a dry run, would remove.

    `floor` is the first revision that is kept then. Older versions stay only for checkpoints. `revisions` counts the
    revisions removed, `versions` the versions dropped. `before` and `after` are the bytes that the namespace took and
    takes (None: the server does not say). `freed` is the difference; for a dry run, an estimate. `lineage` identifies
    the namespace, so that the report does not apply to a later namespace of the same name.
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
        """Return whether any checkpoint or revision is removed."""
        return bool(self.checkpoints or self.revisions)


def policy(
    backend: Backend, pattern: Iterable[str] | str | None, keep: int | None, older_than: str | float | timedelta | None,
    history: bool,
) -> PrunePolicy:  # fmt: skip
    """Check the arguments of a prune, and return them as a policy.

    Raises:
        ValueError: no argument says what to remove, or an argument is not a number or an age.

    """
    if keep is not None and (isinstance(keep, bool) or not isinstance(keep, int) or keep < 0):
        raise ValueError(f"keep={keep!r}: give a whole number, not below 0")
    patterns = (pattern,) if isinstance(pattern, str) else None if pattern is None else tuple(pattern)
    if keep is None and older_than is None and (patterns is None or history):
        raise ValueError("no argument says what to remove: give keep, older_than, or the names of checkpoints")
    before = None if older_than is None else backend.now() - parse_age(older_than)
    return PrunePolicy(patterns, keep, before, history)


def plan(
    backend: Backend, policy: PrunePolicy, progress: ProgressText | None = None, estimate: bool = True
) -> PruneReport:
    """Report what a prune would remove, without a change. O(history); without `estimate`, O(checkpoints).

    Raises:
        RefNotFound: a named checkpoint does not exist.

    """
    head, marks = backend.head(), backend.marks()
    known = {name for mark in marks for name in retention.names_of(mark)} if policy.patterns else set()
    for pattern in policy.patterns or ():
        if not is_glob(pattern) and pattern not in known:
            raise missing_mark(backend, pattern, pattern.partition("@")[0])
    expired = retention.expired(retention.select(marks, policy.patterns), policy.keep, policy.before)
    floor = max(head.floor, _floor(backend, head, policy)) if policy.history else head.floor
    current = {mark.name: mark for mark in marks}
    checkpoints = tuple(to_checkpoint(mark, current[mark.name] is mark) for mark in expired)
    report = PruneReport(backend.namespace, True, checkpoints, floor, floor - head.floor, lineage=head.lineage)
    return _with_estimate(backend, report, marks, progress) if estimate else report


def _floor(backend: Backend, head: Head, policy: PrunePolicy) -> int:
    """Return the first revision that the policy keeps: the lower of what `keep` and `older_than` say."""
    floors = []
    if policy.keep is not None:
        floors.append(head.revision - policy.keep)
    if policy.before is not None:
        older = (commit.revision for commit in iter_commits(backend) if to_micros(commit.time) < policy.before)
        floors.append(next(older, head.floor))
    return min(floors)


def _with_estimate(
    backend: Backend, report: PruneReport, marks: list[CheckpointRecord], progress: ProgressText | None
) -> PruneReport:
    """Add the number of versions and bytes to the report of a dry run."""
    deleted = {(checkpoint.name, checkpoint.revision) for checkpoint in report.checkpoints}
    seen = sorted({mark.revision for mark in marks if (mark.name, mark.revision) not in deleted})
    versions = bytes_ = 0
    for count, version in enumerate(iter_superseded(backend), 1):
        if _is_unseen(version, report.floor, seen):
            versions += 1
            bytes_ += version.space
        if progress is not None and count % VERSIONS_PER_REPORT == 0:
            progress(f"{count:,} versions read")
    usage = backend.disk_usage(deleted)
    freed = bytes_ + (usage.spare if usage is not None else 0)
    before = None if usage is None else usage.total
    return replace(report, versions=versions, before=before, freed=freed if before is None else min(freed, before))


def _is_unseen(version: SupersededVersion, floor: int, seen: list[int]) -> bool:
    """Return whether `Backend.compact` drops a version, if `seen` are the revisions with checkpoints."""
    if 0 < version.until <= floor and not any_within(seen, version.revision, version.until):
        return True
    return version.deleted and version.revision <= floor and not any_within(seen, 0, version.revision)


def execute(
    backend: Backend, planned: PruneReport, commit: Committer, progress: ProgressText | None = None
) -> PruneReport:
    """Remove what was planned, as far as it still exists.

    The checkpoints go first. Then versions that only they needed are unreachable, and `compact` drops them. An
    interrupted run leaves unreachable versions, which the next run drops.

    Raises:
        Conflict: another namespace of this name has replaced the planned one.

    """
    if backend.head().lineage != planned.lineage:
        what = f"namespace {backend.namespace!r} was dropped or replaced since the preview"
        raise Conflict(what, "Preview it again, then prune")
    gone: list[Checkpoint] = []
    with tells_what_was_done(lambda: _told(gone)):
        return _execute(backend, planned, commit, progress, gone)


def delete_checkpoints(found: Sequence[Checkpoint], commit: Committer) -> list[Checkpoint]:
    """Delete checkpoints, and return them."""
    gone: list[Checkpoint] = []
    with tells_what_was_done(lambda: _told(gone)):
        _unmark(found, commit, None, gone)
    return gone


def _unmark(
    found: Sequence[Checkpoint], commit: Committer, progress: ProgressText | None, gone: list[Checkpoint]
) -> None:
    for start in range(0, len(found), CHECKPOINTS_PER_COMMIT):
        page = found[start : start + CHECKPOINTS_PER_COMMIT]
        try:
            commit(CommitRequest(unmarks=tuple((checkpoint.name, checkpoint.revision) for checkpoint in page)))
        except NotReplicated:
            gone += page
            raise
        gone += page
        if progress is not None:
            progress(ProgressMessage.of(start + len(page), len(found), "checkpoints deleted"))


def _told(gone: Sequence[Checkpoint]) -> str:
    return f"Checkpoints deleted so far: {len(gone):,}" if gone else ""


def _execute(
    backend: Backend, planned: PruneReport, commit: Committer, progress: ProgressText | None, gone: list[Checkpoint]
) -> PruneReport:
    before = backend.disk_usage()
    present = {(mark.name, mark.revision) for mark in backend.marks()}
    existing = [checkpoint for checkpoint in planned.checkpoints if (checkpoint.name, checkpoint.revision) in present]
    _unmark(existing, commit, progress, gone)
    head = backend.head()
    floor = max(head.floor, min(planned.floor, head.revision))
    versions = compact(backend, floor, progress)
    after = backend.disk_usage()
    usage: dict[str, Any] = {}
    if before is not None and after is not None:
        usage = {"before": before.total, "after": after.total, "freed": before.total - after.total}
    usage["lineage"] = head.lineage
    return PruneReport(backend.namespace, False, tuple(existing), floor, floor - head.floor, versions, **usage)


def compact(backend: Backend, floor: int, progress: ProgressText | None = None) -> int:
    """Run `Backend.compact` with progress as text."""
    if progress is None:
        return backend.compact(floor)
    return backend.compact(floor, lambda done, total: progress(ProgressMessage.of(done, total, "versions read")))
