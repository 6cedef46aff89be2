"""Migrate a namespace into another backend: copy it, catch up with its writers, compare, then publish the copy.

The copy is built in a staging area of the destination (see `StagedImport`). Its last note says what it holds, so that
the next run resumes it. The source is only read.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

from ..backends.protocol import Backend, CheckpointWrite, CommitRequest, Head, StateAt
from ..errors import Conflict, NotReplicated, Rewound, run, tells_what_was_done
from ..maintenance.history import marks_up_to
from ..states.retention import numbered_names, stamped_name
from ..states.steady import snapshot
from .migration_check import check, check_edits, check_same, check_source, inspect, is_encrypted, judge, judge_read_only
from .migration_report import MigrationProgress, MigrationReport, OnMigrationProgress, ProgressRate
from .staged_copy import StagedCopy, in_place
from .state_digests import VerificationReport, summarize
from .verify import Verification, VerificationError

__all__ = ["MigrationProgress", "MigrationReport", "OnMigrationProgress", "check", "migrate"]


def migrate(
    source: Backend, destination: Backend, *, dry_run: bool = False, force: bool = False, author: str = "",
    progress: OnMigrationProgress | None = None, first: Backend | None = None,
) -> MigrationReport:  # fmt: skip
    """Migrate as `StateManager.migrate_to` does; `author` signs the safety checkpoint.

    `first` is the destination opened read-only, for the first judgement. A writable backend adopts an older layout when
    it reads it, and a refused migration must not adopt anything.
    """
    started = time.monotonic()
    report = progress or (lambda _step: None)
    head = check_source(source)
    if first is not None:
        judge_read_only(source, head, first, force)
    target = judge(source, head, destination, force)
    if dry_run:
        with snapshot(source, whole=True) as state:
            head = state.head()
            pace = ProgressRate(report, source.namespace, "reading", head.count)
            marks = marks_up_to(state, head.revision)
            verified = summarize(state, StateAt(head.revision, state.now()), marks, pace.reached)
        outcome: dict[str, Any] = {"already": True} if target.already else {"replaces": target.contents}
        return _report(source, destination, head, verified, started, dry_run=True, **outcome)
    if target.already:
        verified = _compare_whole(source, destination, head, target.head, report)
        return _report(source, destination, head, verified, started, already=True, behind=_behind(source, head))
    with StagedCopy(source, destination, report) as copy:
        head, verified = copy.build()
        check_edits(source, source.head())
        safety = ""
        if target.head.lineage:
            target = inspect(source, head, destination)  # others may have written to the destination meanwhile
            if target.refusal is not None and not force:
                raise target.refusal
            safety = _add_safety_checkpoint(destination, source, author) if target.refusal is not None else ""
        made = f"The destination got the checkpoint {safety}" if safety else ""
        with tells_what_was_done(lambda: in_place(destination, head) or made):
            kept = copy.receiver.finish(head, over=bool(target.head.lineage))
    with tells_what_was_done(lambda: "The migration is done"):
        if copy.moved:  # the counts of the comparison are older than the copy
            verified = summarize(destination, StateAt(head.revision, destination.now()), copy.marks)
        return _report(
            source, destination, head, verified, started, resumed=copy.resumed, behind=_behind(source, head),
            replaces=target.contents, kept=kept, safety=safety, reading=copy.reading or "",
        )  # fmt: skip


def _behind(source: Backend, head: Head) -> int:
    """Count the source's commits that came after the copied state; 0 if it tells of none."""
    return 0 if hasattr(source, "reading") else max(0, source.head().revision - head.revision)


def _report(
    source: Backend, destination: Backend, head: Head, verified: VerificationReport, started: float, **more: Any
) -> MigrationReport:  # fmt: skip
    live = verified.live
    encrypted = is_encrypted(destination, copied=not more.get("dry_run") or more.get("already", False))
    return MigrationReport(
        source.url, destination.url, source.namespace, head.revision, live.keys, verified.versions, verified.bytes,
        live.digest, verified.checkpoints, time.monotonic() - started, encrypted=encrypted, **more,
    )  # fmt: skip


def _compare_whole(
    source: Backend, destination: Backend, head: Head, copied: Head, report: OnMigrationProgress
) -> VerificationReport:
    """Compare a copy that exists already with the source."""
    pace = ProgressRate(report, source.namespace, "comparing", head.count)
    try:
        with snapshot(source, whole=True) as state:
            check = Verification(state, destination, head, destination.marks(), destination.now(), copied.floor)
            verified = check.compare_all((), (), pace.reached)
        check_edits(source, source.head())
        return verified
    except Rewound:
        check_same(source, head)
        raise  # it was the destination
    except VerificationError as error:
        check_same(source, head)
        if source.head().floor > head.revision:
            what = f"namespace {source.namespace!r} of {source.url} prunes its history faster than it can be compared"
            raise Conflict(what, "Run the migration again") from error
        now = destination.head()
        if (now.lineage, now.revision, now.time) != (copied.lineage, copied.revision, copied.time):
            if refusal := inspect(source, source.head(), destination).refusal:
                raise refusal from error
            what = f"namespace {destination.namespace!r} of {destination.url} was written to during the comparison"
            raise Conflict(what, "Run the migration again") from error
        what = f"{destination.url} holds this namespace at the same revision with other content: {error.message}"
        verification = VerificationError(what, run("recover"))
        raise verification.about(destination.url, destination.namespace) from error


def _add_safety_checkpoint(destination: Backend, source: Backend, author: str) -> str:
    taken = {mark.name for mark in destination.marks()}
    name = next(candidate for candidate in numbered_names(stamped_name("before_migrate")) if candidate not in taken)
    mark = CheckpointWrite(name, f"before {source.namespace} of {source.url} was put in its place", kind="safety")
    with suppress(NotReplicated):  # the end of the copy waits for this commit too
        destination.commit(CommitRequest(marks=(mark,), author=author))
    return name
