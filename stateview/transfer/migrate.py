"""Moving a namespace into another backend: copied page by page, caught up by revision, compared, and only then there.

The copy is built in a stage of the destination's (see `StagedImport`), whose last note says what it holds: so whoever
comes next goes on from there. The source is read, and nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import Any

import msgspec
from msgspec import Struct

from ..backends.protocol import (
    Backend,
    CheckpointRecord,
    CheckpointWrite,
    CommitRequest,
    Head,
    StagedImport,
    StateAt,
    StoredVersion,
)
from ..errors import NOTHING_CHANGED, Conflict, HistoryPruned, KeyNotFound, NextStep, ReadOnly, StateException, run
from ..model import Commit, ProgressMessage, format_time
from ..states.compare import entries
from ..states.retention import numbered_names, stamped_name
from .verify import (
    KEYS_PER_CALL,
    PageDigest,
    StateDigest,
    Verification,
    VerificationError,
    VerificationReport,
    as_of,
    page_digest,
    pages,
    place,
    prefetch,
    reading_back,
    summarize,
)

FORMAT = 1  # of the note
MAX_IDENTITY_CHECKS = 100  # for whether two stores are one
MAX_CATCH_UP_ROUNDS = 10  # of catching up before the comparison
MAX_TAIL_ROUNDS = 10  # of catching up with what was written during a comparison
MAX_RESTARTS = 3  # copies that are begun because the source forgot what was between
COMMITS_PER_PAGE = 1000  # of one page
EDITED_KEYS_PER_PAGE = 10_000  # keys of one page of what may have been edited
OLDER = "older"  # the lineage of what is of an older layout, and not adopted yet
BRIEF_TTL_MICROSECONDS = 60_000_000  # microseconds: what expires sooner is not looked at
_MAX_NAMED_NAMESPACES = 10  # namespaces in an error


class MigrationProgress(Struct, frozen=True):
    """How far a migration is: `doing` what, and of `total` keys how many are `done`; the rate in keys a second."""

    namespace: str
    doing: str
    done: int
    total: int
    rate: float = 0.0

    @property
    def left(self) -> float | None:
        """About how many seconds this part takes on; None where that is not known yet."""
        return max(0, self.total - self.done) / self.rate if self.rate else None

    @property
    def percent(self) -> int:
        """How much of this part is done."""
        return min(100, 100 * self.done // self.total) if self.total else 0

    def message(self) -> ProgressMessage:
        """The text for a person, with its numbers."""
        return ProgressMessage(str(self), self.done, self.total)

    def __str__(self) -> str:
        told = f"{self.namespace}: {self.doing} {self.done:,} of {self.total:,} keys, {self.percent}%"
        left = self.left
        return told if left is None else f"{told}, {self.rate:,.0f} keys/s, {_spell(left)} left"


def _spell(seconds: float) -> str:
    whole = int(seconds + 0.5)
    return f"{whole // 60} min {whole % 60} s" if whole >= 60 else f"{whole} s"


class MigrationReport(Struct, frozen=True):
    """What a migration did, or with `dry_run` would do.

    `keys` are the live ones; `versions` all that are kept, with the `bytes` of their values; `digest` is of what live
    shows, `checkpoints` has keys and digest of each by `NAME@REVISION`. `already` where the destination held it all
    before, `resumed` where an earlier copy was gone on with. `behind` counts the commits that the source got meanwhile,
    which are not in the copy. `replaces` says what the destination held of that name
    before, `kept` where that is kept, `safety` the checkpoint that was made in it; `switched` which file names the
    destination now.
    """

    source: str
    destination: str
    namespace: str
    revision: int
    keys: int
    versions: int
    bytes: int
    digest: str = ""
    checkpoints: dict[str, StateDigest] = {}
    seconds: float = 0.0
    dry_run: bool = False
    already: bool = False
    resumed: bool = False
    behind: int = 0
    replaces: str = ""
    kept: str = ""
    safety: str = ""
    switched: str = ""


OnMigrationProgress = Callable[[MigrationProgress], None]


def migrate(
    source: Backend, destination: Backend, *, dry_run: bool = False, force: bool = False, author: str = "",
    progress: OnMigrationProgress | None = None, first: Backend | None = None,
) -> MigrationReport:  # fmt: skip
    """See `StateManager.migrate_to`. `author` is who the safety checkpoint is of.

    `first` is the destination open for reading only, by which it is judged: to look at what is of an older layout
    through the other adopts it, which a refusal must not.
    """
    started = time.monotonic()
    tell = progress or (lambda _step: None)
    head = _check_source(source)
    if first is not None:
        _judge_first(source, head, first, force)
    there = _judge(source, head, destination, force)
    if dry_run:
        pace = _ProgressRate(tell, source.namespace, "reading", head.count)
        marks = [mark for mark in source.marks() if mark.revision <= head.revision]
        found = summarize(source, StateAt(head.revision, source.now()), marks, pace.reached)
        more: dict[str, Any] = {"already": True} if there.already else {"replaces": there.held}
        return _report(source, destination, head, found, started, dry_run=True, **more)
    if there.already:
        found = _compare_whole(source, destination, head, there.head, tell)
        return _report(source, destination, head, found, started, already=True, behind=_behind(source, head))
    with _Copy(source, destination, tell) as copy:
        head, found = copy.build()
        _check_edits(source, source.head())
        safety = ""
        if there.head.lineage:
            there = _look(source, head, destination)  # others may have written there meanwhile
            if there.refusal is not None and not force:
                raise there.refusal
            safety = _mark_safe(destination, source, author) if there.refusal is not None else ""
        kept = copy.receiver.finish(head, over=bool(there.head.lineage))
    if copy.moved:  # while it was compared, so that what was counted is of before
        found = summarize(destination, StateAt(head.revision, destination.now()), copy.marks)
    return _report(
        source, destination, head, found, started, resumed=copy.resumed, behind=_behind(source, head),
        replaces=there.held, kept=kept, safety=safety,
    )  # fmt: skip


def _behind(source: Backend, head: Head) -> int:
    """How many commits of the source came after what was copied."""
    return max(0, source.head().revision - head.revision)


def _report(
    source: Backend, destination: Backend, head: Head, found: VerificationReport, started: float, **more: Any
) -> MigrationReport:  # fmt: skip
    return MigrationReport(
        source.url, destination.url, source.namespace, head.revision, found.live.keys, found.versions, found.bytes,
        found.live.digest, found.checkpoints, time.monotonic() - started, **more,
    )  # fmt: skip


# --- before anything is written ----------------------------------------------------------------------------------


class _DestinationState(Struct, frozen=True):
    """What the destination holds (`held`: in words), whether that is the source, and why it is not to be replaced."""

    head: Head
    held: str = ""
    already: bool = False
    refusal: Conflict | None = None


def check(source: Backend, destination: Backend, force: bool) -> None:
    """Look whether the source can be moved, to a destination that is open for reading only.

    Raises:
        KeyNotFound: there is nothing to move.
        ReadOnly: the source is of an older layout; or the destination is, and `force` is not given.
        Conflict: something else is in the way.

    """
    _judge_first(source, _check_source(source), destination, force)


def _judge_first(source: Backend, head: Head, destination: Backend, force: bool) -> None:
    try:
        _judge(source, head, destination, force)
    except ReadOnly:  # of an older layout, which is adopted, and then kept aside
        if not force:
            raise


def _judge(source: Backend, head: Head, destination: Backend, force: bool) -> _DestinationState:
    if _same_place(source, destination):
        raise Conflict(f"namespace {source.namespace!r} of {source.url} is there already: it is the source itself")
    there = _look(source, head, destination)
    if there.refusal is not None and not force:
        raise there.refusal
    return there


def _check_source(source: Backend) -> Head:
    head = source.head()
    if head.lineage == OLDER:
        what = f"namespace {source.namespace!r} of {source.url} is of an older layout"
        raise ReadOnly(what, NextStep("Open it once for writing, which adopts it, such as by ", ("log",)))
    if not head.lineage:
        names = ", ".join(source.namespaces()[:_MAX_NAMED_NAMESPACES])
        what = f"there is no namespace {source.namespace!r} in {source.url}"
        hint = f"It has {names}: say which by --namespace, or --all" if names else "Look at the path or the URL"
        raise KeyNotFound(what, hint)
    _check_edits(source, head)
    return head


def _check_edits(source: Backend, head: Head) -> None:
    """An edit of state.json by hand, which no one has taken in yet, is in no history: it would be left behind."""
    if source.kind != "json":
        return
    at = StateAt(head.revision, source.now())
    late = at.time + BRIEF_TTL_MICROSECONDS
    after = ""
    while True:
        shown, kept = (source.scan("", after, EDITED_KEYS_PER_PAGE, when) for when in (None, at))
        if shown != kept:  # a page ends elsewhere where something has expired, and values may be spelt otherwise
            break
        if len(shown) < EDITED_KEYS_PER_PAGE:
            return
        after = shown[-1].key
    told = (
        ((one.key, one.revision, one.time) for one in entries(source, when) if one.visible(late)) for when in (None, at)
    )
    if all(one == other for one, other in zip_longest(*told)) or source.head().revision != head.revision:
        return  # or another writer was there, who has taken it in
    what = f"{source.url}: state.json of {source.namespace!r} was edited by hand since its last commit"
    raise Conflict(what, NextStep("Run any command that may write, such as ", ("log",), ", to take the edit in"))


def _same_place(one: Backend, other: Backend) -> bool:
    """Whether both mean the same namespace, which must never be put in its own place."""
    if (one.kind, one.namespace) != (other.kind, other.namespace):
        return False
    for _ in range(MAX_IDENTITY_CHECKS):
        first, there, again = one.identity(), other.identity(), one.identity()
        if first.store and there.store:
            return first.store == there.store
        if first.stamp == there.stamp:
            return True
        if first.stamp == again.stamp or not first.revision <= there.revision <= again.revision:
            return False  # what was seen in between was not this one
    return True  # which is written to without a pause, and no other would keep step with it


def _look(source: Backend, head: Head, destination: Backend) -> _DestinationState:
    there = destination.head()
    if not there.lineage:
        return _DestinationState(there)
    marks = destination.marks()
    where = f"{destination.url} holds a namespace {destination.namespace!r} already"
    counts = f"{_count(there.count, 'key')}, {_count(len(marks), 'checkpoint')}"
    held = f"{counts}, revision {there.revision:,} of {format_time(there.time)}"
    if there.lineage != head.lineage:
        hint = "Give another namespace or store; or --force, which makes a checkpoint in it and keeps all of it aside"
        return _DestinationState(there, held, refusal=Conflict(f"{where}, which is another one: {held}", hint))
    force = "Go on there; or --force to replace it, which makes a checkpoint in it and keeps all of it aside"
    if there.revision > head.revision:
        return _DestinationState(there, held, refusal=Conflict(
            f"{where}, a later state of this one: it was migrated before, and written to since (revision"
            f" {there.revision:,} there, {head.revision:,} in {source.url})", force,
        ))  # fmt: skip
    if not _leads_to(source, destination, head, there):
        return _DestinationState(there, held, refusal=Conflict(
            f"{where}, which was this one once, and was written to since, as far as one can see (revision"
            f" {there.revision:,} there, {head.revision:,} in {source.url})", force,
        ))  # fmt: skip
    theirs = source.marks()
    renewed = {(mark.name, mark.revision): mark.time for mark in theirs}
    if more := [
        mark for mark in marks if mark not in theirs and mark.time >= renewed.get((mark.name, mark.revision), 0)
    ]:
        names = ", ".join(f"{mark.name}@{mark.revision}" for mark in more[:5])
        what = f"{where}, an earlier state of this one with checkpoints that this one has not: {names}"
        return _DestinationState(there, held, refusal=Conflict(what, force))
    same = there.revision == head.revision and marks == theirs
    return _DestinationState(there, held, already=same)


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def _leads_to(source: Backend, destination: Backend, head: Head, there: Head) -> bool:
    """Whether what the destination holds is certainly what the source was at that revision, and then went on from."""
    if not there.revision:
        return True
    last = [commit for one in (destination, source) for commit in one.commits(1, there.revision + 1)]
    found = [commit for commit in last if commit.revision == there.revision]
    if len(found) == 2:
        return found[0] == found[1]
    return there.revision == head.revision  # and all of it is going to be compared


def _compare_whole(
    source: Backend, destination: Backend, head: Head, there: Head, tell: OnMigrationProgress
) -> VerificationReport:
    """What is there already, compared with the source."""
    pace = _ProgressRate(tell, source.namespace, "comparing", head.count)
    check = Verification(source, destination, head, destination.marks(), destination.now(), there.floor)
    try:
        found = check.all((), (), pace.reached)
        _check_edits(source, source.head())
        return found
    except VerificationError as error:
        _check_same(source, head)
        now = destination.head()
        if (now.lineage, now.revision, now.time) != (there.lineage, there.revision, there.time):
            if refusal := _look(source, source.head(), destination).refusal:
                raise refusal from error
            what = f"namespace {destination.namespace!r} of {destination.url} was written to while it was compared"
            raise Conflict(what, "Run it again") from error
        what = f"{destination.url} holds this namespace at this very revision, but not the same: {error.message}"
        raise VerificationError(what, run("recover", after=" there")) from error


def _check_same(source: Backend, head: Head) -> None:
    """Refuse to go on where the source is no longer the namespace that it was."""
    found = source.head()
    if found.lineage == head.lineage and found.revision >= head.revision:
        return
    what = f"namespace {source.namespace!r} of {source.url} was"
    if not found.lineage:
        raise Conflict(f"{what} removed while it was read", "There is nothing to move any more")
    raise Conflict(f"{what} replaced while it was read", "Run it again, which begins anew")


def _mark_safe(destination: Backend, source: Backend, author: str) -> str:
    taken = {mark.name for mark in destination.marks()}
    name = next(one for one in numbered_names(stamped_name("before_migrate")) if one not in taken)
    mark = CheckpointWrite(name, f"before {source.namespace} of {source.url} was put in its place", kind="safety")
    destination.commit(CommitRequest(marks=(mark,), author=author))
    return name


# --- the copy ----------------------------------------------------------------------------------------------------


class _ProgressRate:
    """Tells how far a part is."""

    def __init__(self, tell: OnMigrationProgress, namespace: str, doing: str, total: int, before: int = 0) -> None:
        self._tell, self._namespace, self._doing = tell, namespace, doing
        self._total, self._before, self._started = total, before, time.monotonic()

    def reached(self, done: int) -> None:
        """So many keys are done."""
        seconds = time.monotonic() - self._started
        rate = (done - self._before) / seconds if seconds > 0.05 else 0.0
        self._tell(MigrationProgress(self._namespace, self._doing, done, max(done, self._total), rate))


class _ResumePoint(Struct):
    """What the stage holds, as its note says.

    All versions of keys up to `after` (None: of all) as they were at `revision` or later, the commits up to `commits`.
    `floor` is the source's when it was begun, `keys` how many live ones were copied.
    """

    lineage: str
    revision: int
    floor: int
    after: tuple[str, int] | None = ("", 0)
    commits: int = 0
    keys: int = 0
    format: int = FORMAT


_STAGE_CHANGED = "Nothing that anyone is shown was changed"  # what NOTHING_CHANGED means for a stage


class _Copy:
    """A copy that is under way in the stage of its destination."""

    def __init__(self, source: Backend, destination: Backend, tell: OnMigrationProgress) -> None:
        self._source, self._destination, self._tell = source, destination, tell
        self.receiver: StagedImport = destination.open_staging()
        self.marks: list[CheckpointRecord] = []
        self._parts: list[PageDigest] = []
        self._changed: set[str] = set()  # of which the parts are no longer true
        self._loose = False  # whether the source has forgotten what is in the stage
        self._begun = False
        self.resumed = False
        self.moved = False  # whether the source was written to during a comparison

    def __enter__(self) -> _Copy:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        """Let go of the destination; what ends a copy says that it can be gone on with."""
        if isinstance(error, StateException) and self._begun and not isinstance(error, VerificationError):
            # Backends say that of one write; a stage was written, and stays
            kept = tuple(_STAGE_CHANGED if step == NOTHING_CHANGED else step for step in error.next_steps)
            error.next_steps = (*kept, "Run it again, which goes on with as much of the copy as is safe")
        try:
            self.receiver.close()
        except StateException:
            if error is None:
                raise  # else what came first says more

    def build(self) -> tuple[Head, VerificationReport]:
        """Make the stage what the source is, compared, so that nothing is left but to finish it.

        Raises:
            Conflict: the source forgets its history faster than that can be read. The stage stays.
            Differs: the stage is not what the source is. It is removed.

        """
        for _ in range(MAX_RESTARTS):
            try:
                return self._build()
            except HistoryPruned:  # it has forgotten what changed since
                self._begin()
            except VerificationError as error:
                self._check_source()
                self.receiver.drop()
                error.next_steps = (
                    "The copy was removed, the source is as it was", "Check the disk or the server, and try again",
                )  # fmt: skip
                raise
        what = (
            f"namespace {self._source.namespace!r} of {self._source.url} forgets its history faster than that is read"
        )
        raise Conflict(what, "Stop its writers for a moment")

    def _check_source(self) -> None:
        begun, self._begun = self._begun, False  # where that fails, nobody can go on with what was copied
        _check_same(self._source, Head(self._note.revision, lineage=self._note.lineage))
        self._begun = begun

    def _begin(self) -> None:
        self.receiver.drop()
        self.receiver = self._destination.open_staging()

    def _build(self) -> tuple[Head, VerificationReport]:
        self._parts, self._changed, self._loose, self.moved = [], set(), False, False
        self._note = self._noted()
        self._copy_all()
        head = self._follow()
        compared: VerificationReport | None = None
        touched: list[str] = []
        tails = 0
        while True:
            stage = self._staged(head)
            check = Verification(self._source, stage, head, self.marks, self._destination.now())
            if compared is None:
                pace = _ProgressRate(self._tell, self._source.namespace, "comparing", head.count)
                compared = check.all(self._parts, sorted(self._changed), pace.reached)
                forgotten = compared.forgotten
            else:
                forgotten = check.some(touched)
            if forgotten and not self._loose:
                self._loose, compared = True, None  # to be forgotten in the stage as well
                continue
            tails += 1
            if (
                self._is_still(head) or tails == MAX_TAIL_ROUNDS
            ):  # its writers do not pause: what was compared is whole as it is
                return head, compared
            self.moved = True
            latest = self._source.head()
            touched = self._catch_up(latest)
            head = latest

    def _noted(self) -> _ResumePoint:
        """What the stage holds of this source; all else in it is removed."""
        head = self._source.head()
        told = self.receiver.progress()
        if told is not None:
            if told.get("format") == FORMAT:
                note = msgspec.convert(told, _ResumePoint)
                if note.lineage == head.lineage and note.revision <= head.revision:
                    self.resumed = self._begun = True
                    return note
            self._begin()
        return _ResumePoint(head.lineage, head.revision, head.floor)

    def _put(
        self, versions: Sequence[StoredVersion] = (), commits: Sequence[Commit] = (),
        marks: Sequence[CheckpointRecord] | None = None,
        forget: Sequence[str] = (),
    ) -> None:  # fmt: skip
        self.receiver.put(versions, commits, marks, note=msgspec.to_builtins(self._note), forget=forget)
        self._begun = True

    def _copy_all(self) -> None:
        note = self._note
        if note.after is None:
            return
        pace = _ProgressRate(self._tell, self._source.namespace, "copying", self._source.head().count, note.keys)
        for page in prefetch(pages(self._source, note.after)):
            before, note.after = note.after, place(page[-1])
            self._parts.append(page_digest(before, page))
            note.keys += sum([1 for one in page if not one.until and one.value is not None])
            # A key's versions may be of two pages, and so of two states: it is live once, and put anew later
            split = page[0].key == before[0]
            self._put([one for one in page if one.key != before[0] or one.revision <= note.revision] if split else page)
            pace.reached(note.keys)
        note.after = None

    def _follow(self) -> Head:
        """Catch up until nothing is left, or, where writers do not pause, next to nothing."""
        for left in reversed(range(MAX_CATCH_UP_ROUNDS)):
            head = self._source.head()
            self._catch_up(head)
            if self._is_still(head) or not left:
                break
        return head

    def _is_still(self, head: Head) -> bool:
        if self._marks_at(head) != self.marks:
            return False
        now = self._source.head()
        return (now.revision, now.time, now.floor, now.lineage) == (head.revision, head.time, head.floor, head.lineage)

    def _marks_at(self, head: Head) -> list[CheckpointRecord]:
        return [mark for mark in self._source.marks() if mark.revision <= head.revision]

    def _catch_up(self, head: Head) -> list[str]:
        """Put anew all that was written since the note, as of a head; returns the keys.

        Until the last put of it, the note stays: who is interrupted does all of it again, which does no harm.
        """
        note = self._note
        if head.lineage != note.lineage or head.revision < note.revision:
            self._check_source()
        keys = self._source.changed_keys(StateAt(note.revision, 0), StateAt(head.revision, 0))
        for start in range(0, len(keys), KEYS_PER_CALL):
            chunk = keys[start : start + KEYS_PER_CALL]
            forget: Sequence[str] = chunk
            for page in pages(self._source, keys=chunk):
                self._put(as_of(page, head.revision), forget=forget)
                forget = ()
            if forget:  # nothing of them is kept any more
                self._put(forget=forget)
            done = min(len(keys), start + KEYS_PER_CALL)
            self._tell(MigrationProgress(self._source.namespace, "catching up with", done, len(keys)))
        if self._source.head().floor > head.revision:
            raise HistoryPruned("what was just read is no longer kept")
        self._put_commits(head)
        marks = self._marks_at(head)
        self._loose = self._loose or head.floor > note.floor or not set(self.marks) <= set(marks)
        self.marks = marks
        note.revision = head.revision
        self._put(marks=self.marks)
        self._changed.update(keys)
        return keys

    def _put_commits(self, head: Head) -> None:
        low, below = self._note.commits, head.revision + 1
        while page := self._source.commits(COMMITS_PER_PAGE, below):
            if new := [one for one in page if one.revision > low]:
                self._put(commits=new)
            below = page[-1].revision
            if len(new) < len(page):
                break
        self._note.commits = head.revision

    def _staged(self, head: Head) -> Backend:
        with reading_back(self._destination.url):
            stage = self.receiver.staged(head)
            if self._loose:
                stage.compact(head.floor)
            return stage
