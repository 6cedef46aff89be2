"""Copy a namespace into the staging area of its destination, catch up with its writers, and compare the copy."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice, takewhile

import msgspec
from msgspec import Struct

from ..backends.deltas import carried
from ..backends.protocol import Backend, CheckpointRecord, Head, StagedImport, StateAt, StoredVersion
from ..errors import NOTHING_CHANGED, Conflict, HistoryPruned, NotReplicated, Rewound, StateException
from ..maintenance.history import COMMITS_PER_PAGE, iter_commits, marks_up_to
from ..model import Commit
from ..states.steady import snapshot
from .migration_check import check_edits, check_same
from .migration_report import MigrationProgress, OnMigrationProgress, ProgressRate
from .state_digests import VerificationReport
from .verify import Verification, VerificationError, reading_back
from .version_pages import KEYS_PER_CALL, PageDigest, as_of, iter_pages, page_digest, prefetch, version_id

FORMAT = 1  # of the resume point
MAX_CATCH_UP_ROUNDS = 10  # before the comparison
MAX_TAIL_ROUNDS = 10  # after the comparison, for commits made during it
MAX_RESTARTS = 3  # of the copy, if the source prunes the history between two rounds


class ResumePoint(Struct):
    """Describe what the staging area holds, as its note.

    It holds all versions of keys up to `after` (None: of all keys), as they were at `revision` or later. It holds the
    commits up to `commits`. `floor` is the source's floor when the copy began. `keys` counts the live keys copied.
    """

    lineage: str
    revision: int
    floor: int
    after: tuple[str, int] | None = ("", 0)
    commits: int = 0
    keys: int = 0
    format: int = FORMAT


_STAGE_CHANGED = "No visible data was changed"  # NOTHING_CHANGED is not true of the staging area


def in_place(destination: Backend, head: Head) -> str:
    """Return what is done where `StagedImport.finish` failed: its copy may be in place already; "" if it is not."""
    try:
        present = destination.head()
    except StateException:
        return f"Whether the copy is in place cannot be told: look at {destination.url}"
    is_copy = (present.lineage, present.revision) == (head.lineage, head.revision)
    return f"The copy is in place in {destination.url}" if is_copy else ""


class StagedCopy:
    """Build a copy in the destination's staging area."""

    def __init__(self, source: Backend, destination: Backend, report: OnMigrationProgress) -> None:
        self._origin, self._source, self._destination, self._report = source, source, destination, report
        self.receiver: StagedImport = destination.open_staging()
        self.marks: list[CheckpointRecord] = []
        self._page_digests: list[PageDigest] = []
        self._changed: set[str] = set()  # keys whose page digests are out of date
        self._keeps_pruned = False  # whether the stage holds versions that the source has pruned
        self._begun = False
        self.resumed = False
        self.moved = False  # whether the source was written to during the comparison
        self.reading: str | None = None  # see `KeepsPresentAlone`

    def __enter__(self) -> StagedCopy:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        """Release the destination, and add to an error that the copy can resume."""
        is_over = isinstance(error, NotReplicated | VerificationError)  # there is nothing left to resume
        if isinstance(error, StateException) and self._begun and not is_over:
            kept = tuple(_STAGE_CHANGED if step == NOTHING_CHANGED else step for step in error.next_steps)
            error.next_steps = (*kept, "Run it again: it resumes as much of the copy as is safe")
        try:
            self.receiver.close()
        except StateException:
            if error is None:
                raise  # otherwise the first error says more

    def build(self) -> tuple[Head, VerificationReport]:
        """Make the staging area equal to the source and compare it, so that only `finish` is left.

        Raises:
            Conflict: writers outrun the source's kept history. The staged data stays.
            VerificationError: the copy differs from the source. The copy is removed.

        """
        for attempt in range(MAX_RESTARTS):
            try:
                return self._build(again=not attempt)
            except HistoryPruned:  # the changes since the last round are pruned
                self._restart()
            except Rewound:
                self._check_source()
                raise  # it was the destination
            except VerificationError as error:
                self._check_source()
                if self._origin.head().floor > self._note.revision:  # compared with what was pruned meanwhile
                    self._restart()
                    continue
                self.receiver.drop()
                error.next_steps = (
                    "The copy was removed, the source is unchanged", "Check the disk or the server, then try again",
                )  # fmt: skip
                raise
        name = f"namespace {self._source.namespace!r} of {self._source.url}"
        raise Conflict(
            f"{name} prunes its history faster than it can be read",
            "Stop its writers for a moment, or raise history=, then run it again",
        )

    def _check_source(self) -> None:
        begun, self._begun = self._begun, False  # if the check fails, the copy cannot resume
        check_same(self._origin, Head(self._note.revision, lineage=self._note.lineage))
        self._begun = begun

    def _restart(self) -> None:
        self.receiver.drop()
        self.receiver = self._destination.open_staging()

    def _build(self, again: bool) -> tuple[Head, VerificationReport]:
        """Copy, compare and catch up. If writers outrun the last, begin again or, unless `again`, leave it at that."""
        self._page_digests, self._changed, self._keeps_pruned, self.moved = [], set(), False, False
        with snapshot(self._origin, whole=True) as self._source:
            self._note = self._load_note()
            self._copy_all()
            head = self._follow()
            compared = self._compare(head, None, [])
            self.reading = getattr(self._source, "reading", None)
        if self.reading is not None:  # what changed since is not known
            return head, compared
        for left in reversed(range(MAX_TAIL_ROUNDS)):
            if self._is_still(head) or not left:  # the compared state is whole, even if writers go on
                break
            with snapshot(self._origin, whole=True) as self._source:
                latest = self._source.head()
                try:
                    touched = self._changed_since(latest)
                except HistoryPruned:
                    if again:
                        raise
                    break
                self.moved = True
                self._catch_up(latest, touched)
                head = latest
                compared = self._compare(head, compared, touched)
        return head, compared

    def _compare(self, head: Head, compared: VerificationReport | None, touched: list[str]) -> VerificationReport:
        """Compare the copy with the source; where all was compared already, only the keys touched since."""
        while True:
            stage = self._staged(head)
            check = Verification(self._source, stage, head, self.marks, self._destination.now())
            if compared is None:
                pace = ProgressRate(self._report, self._source.namespace, "comparing", head.count)
                compared = check.compare_all(self._page_digests, sorted(self._changed), pace.reached)
                pruned = compared.pruned
            else:
                pruned = check.compare_keys(touched)
            if not pruned or self._keeps_pruned:
                return compared
            self._keeps_pruned, compared = True, None  # prune the stage too, then compare again

    def _load_note(self) -> ResumePoint:
        """Return what the staging area holds of this source; remove anything else from it."""
        head = self._source.head()
        stored = self.receiver.progress()
        if stored is not None:
            if stored.get("format") == FORMAT and not hasattr(self._source, "reading"):
                note = msgspec.convert(stored, ResumePoint)
                if note.lineage == head.lineage and note.revision <= head.revision:
                    self.resumed = self._begun = True
                    return note
            self._restart()
        return ResumePoint(head.lineage, int(head.revision), head.floor)

    def _put(
        self, versions: Sequence[StoredVersion] = (), commits: Sequence[Commit] = (),
        marks: Sequence[CheckpointRecord] | None = None,
        forget: Sequence[str] = (),
    ) -> None:  # fmt: skip
        deltas = getattr(self._source, "deltas", None)  # a backend of another package may have none
        if deltas is not None and versions:
            versions = carried(versions, deltas(versions))
        self.receiver.put(versions, commits, marks, note=msgspec.to_builtins(self._note), forget=forget)
        self._begun = True

    def _copy_all(self) -> None:
        note = self._note
        if note.after is None:
            return
        pace = ProgressRate(self._report, self._source.namespace, "copying", self._source.head().count, note.keys)
        for page in prefetch(iter_pages(self._source, note.after)):
            before, note.after = note.after, version_id(page[-1])
            self._page_digests.append(page_digest(before, page))
            note.keys += sum(not version.until and version.value is not None for version in page)
            versions = page
            if page[0].key == before[0]:
                # Two pages with versions of one key may be of two states. The key is copied again in the next round.
                versions = [each for each in page if each.key != before[0] or each.revision <= note.revision]
            self._put(versions)
            pace.reached(note.keys)
        note.after = None

    def _follow(self) -> Head:
        """Catch up until the copy is complete or, with steady writers, nearly complete."""
        for left in reversed(range(MAX_CATCH_UP_ROUNDS)):
            head = self._source.head()
            self._catch_up(head, self._changed_since(head))
            if self._source is not self._origin or self._is_still(head) or not left:
                break
        return head

    def _is_still(self, head: Head) -> bool:
        if marks_up_to(self._origin, head.revision) != self.marks:
            return False
        now = self._origin.head()
        return (now.revision, now.time, now.floor, now.lineage) == (head.revision, head.time, head.floor, head.lineage)

    def _changed_since(self, head: Head) -> list[str]:
        """Return the keys written since the note, as of a head."""
        note = self._note
        if head.lineage != note.lineage or head.revision < note.revision:
            self._check_source()
        return self._source.changed_keys(StateAt(note.revision, 0), StateAt(head.revision, 0))

    def _catch_up(self, head: Head, keys: list[str]) -> None:
        """Copy again all keys written since the note, as of a head.

        The note stays until the last of them is copied. An interrupted catch-up repeats them all, which is harmless.
        """
        check_edits(self._origin, head)
        note = self._note
        for start in range(0, len(keys), KEYS_PER_CALL):
            chunk = keys[start : start + KEYS_PER_CALL]
            forget: Sequence[str] = chunk
            for page in iter_pages(self._source, keys=chunk):
                self._put(as_of(page, head.revision), forget=forget)
                forget = ()
            if forget:  # the source keeps no version of these keys
                self._put(forget=forget)
            done = min(len(keys), start + KEYS_PER_CALL)
            self._report(MigrationProgress(self._source.namespace, "catching up with", done, len(keys)))
        if self._source.head().floor > head.revision:
            raise HistoryPruned("the state that was just read is pruned")
        self._put_commits(head)
        marks = marks_up_to(self._source, head.revision)
        self._keeps_pruned = self._keeps_pruned or head.floor > note.floor or not set(self.marks) <= set(marks)
        self.marks = marks
        note.revision = int(head.revision)
        self._put(marks=self.marks)
        self._changed.update(keys)

    def _put_commits(self, head: Head) -> None:
        copied_to = self._note.commits
        commits = takewhile(lambda commit: commit.revision > copied_to, iter_commits(self._source, head.revision + 1))
        while page := list(islice(commits, COMMITS_PER_PAGE)):
            self._put(commits=page)
        self._note.commits = int(head.revision)

    def _staged(self, head: Head) -> Backend:
        with reading_back(self._destination.url):
            stage = self.receiver.staged(head)
            if self._keeps_pruned:
                stage.compact(head.floor)
            return stage
