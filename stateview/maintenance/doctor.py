"""Check whether a namespace keeps its promises, through the `Backend` protocol.

A backend's own `diagnose` reports physical damage. This module holds the checks that are the same for all backends. No
check changes anything. Others may write meanwhile, so an apparent fault is checked again, in one state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import cast

from .. import codec
from ..backends.names_only import names_only
from ..backends.protocol import Backend, CheckpointRecord, Head, ProgressText, StateAt, StoredVersion, Version
from ..errors import (
    BackendError,
    BackendUnavailable,
    Hint,
    HistoryPruned,
    Sealed,
    StateException,
    names_command,
    run,
    steps,
)
from ..model import Finding, ProgressMessage
from ..states import compare as comparison
from .checkpoint_differences import CheckpointDifferences

VERSIONS_PER_PAGE = 1000
_MAX_ATTEMPTS = 5  # reads of the live state while others write


def examined(backend: Backend) -> Backend:
    """Return a backend that reads what is left of a damaged namespace, see `CanBeExamined`."""
    method = getattr(type(backend), "examined", None)  # a backend of another package may have none
    return backend if method is None else cast("Backend", method(backend))


def history_format(backend: Backend) -> int:
    """Return the format of the stored history, see `TellsFormat`; 0 if the backend does not tell."""
    method = getattr(type(backend), "history_format", None)  # a backend of another package may have none
    return 0 if method is None else cast("int", method(backend))


def diagnose(backend: Backend, progress: ProgressText | None = None) -> Iterator[Finding]:
    """Yield all findings about a namespace, each as soon as it is made.

    O(all stored data, and every checkpoint), in bounded memory except for the keys that changed.

    Args:
        backend: opened read-only, since a writable backend adopts older data when it reads; from `examined`.
        progress: called with the subject of each check. An exception from it stops the checks.

    """
    report = progress or (lambda _text: None)
    damaged = False
    for finding in backend.diagnose(report):
        damaged = damaged or finding.severity == "error"
        yield finding
    try:
        head = backend.head()
    except (StateException, ValueError) as error:
        if not damaged:  # the backend's own finding says more
            yield _failed_check("the head", error)
        return
    if head.lineage:
        yield from _Diagnosis(backend, head, report, damaged).run()


def _failed_check(subject: str, error: Exception) -> Finding:
    """Build the finding for a check that could not finish."""
    found = error.message if isinstance(error, StateException) else f"the stored data is damaged: {error}"
    hint: Hint = error.next_steps if isinstance(error, StateException) else ()
    if isinstance(error, Sealed):
        return Finding("note", subject, found, "what needs the key could not be checked, all else was", hint, "sealed")
    if not isinstance(error, BackendError) and not names_command(hint, "recover"):
        hint = (run("recover"), *steps(hint))
    if isinstance(error, HistoryPruned):
        meaning = "its history was pruned during the check"
        return Finding("warning", subject, found, meaning, run("doctor", after=" again"), "check-outrun")
    if isinstance(error, BackendUnavailable):
        return Finding("error", subject, found, "the backend does not answer", hint, "unavailable")
    return Finding("error", subject, found, "some or all of it cannot be read", hint, "unreadable")


class _Diagnosis:
    def __init__(self, backend: Backend, head: Head, report: ProgressText, damaged: bool) -> None:
        self.backend = names_only(backend)  # without a key the versions alone are not checked
        self.head = head
        self.report = report
        self.damaged = damaged  # the backend has reported damage, so an unreadable part is no news
        self.floor = head.floor  # the highest floor seen; others may prune meanwhile
        self.touched: set[str] | None = None  # keys with a kept version above the floor; None: not all could be read
        self.differences: CheckpointDifferences | None = None
        self.unreadable: set[str] = set()  # messages reported already: several checks may read the same part

    def run(self) -> Iterator[Finding]:
        checks: tuple[tuple[str, Callable[[], Iterator[Finding]]], ...] = (
            ("the live state", self.live), ("the log", self.commits), ("the versions", self.versions),
            ("the change index", self.changes), ("the checkpoints", self.checkpoints),
        )  # fmt: skip
        for subject, check in checks:
            self.report(subject)
            try:
                yield from check()
            except (StateException, ValueError) as error:
                finding = _failed_check(subject, error)
                reported = self.damaged and not isinstance(error, BackendError)
                if not reported and finding.found not in self.unreadable:
                    self.unreadable.add(finding.found)
                    yield finding

    def error(self, code: str, subject: str, found: str, meaning: str) -> Finding:
        return Finding("error", subject, found, meaning, run("recover"), code)

    def warning(self, code: str, subject: str, found: str, meaning: str) -> Finding:
        return Finding("warning", subject, found, meaning, run("doctor", after=" again"), code)

    def live(self) -> Iterator[Finding]:
        """Check that the entries come in order, and are as many as the head says."""
        for _ in range(_MAX_ATTEMPTS):
            before = self.backend.head()
            seen = 0
            last = ""
            for version in comparison.entries(self.backend, None):
                if version.key <= last:
                    yield self.error("entries-out-of-order", "the live state",
                                     f"key {version.key[:60]!r} comes after key {last[:60]!r}",
                                     "keys are listed twice, or not at all")  # fmt: skip
                    return
                last, seen = version.key, seen + 1
                if seen % VERSIONS_PER_PAGE == 0:
                    self.report(ProgressMessage.of(seen, before.count, "entries", "the live state"))
            after = self.backend.head()
            if (before.revision, before.count) == (after.revision, after.count):
                if seen != before.count:
                    found = f"{seen:,} entries are listed, but the head counts {before.count:,}"
                    yield self.error(
                        "entry-count", "the live state", found, "entries are missing, or there are extra ones"
                    )
                return
        yield self.warning("check-outrun", "the live state", "other writers changed it during every check",
                           "its number of entries could not be checked")  # fmt: skip

    def commits(self) -> Iterator[Finding]:
        """Check that every revision above the floor has its commit."""
        missing, first, expected = 0, 0, self.head.revision
        below = expected + 1
        floor = self.head.floor
        while expected > floor and (page := self.backend.commits(VERSIONS_PER_PAGE, below)):
            for commit in page:
                if floor < commit.revision < expected:
                    missing, first = missing + expected - commit.revision, commit.revision + 1
                expected = commit.revision - 1
            below = page[-1].revision
            floor = max(floor, self.backend.head().floor)
            self.report(f"the log: down to revision {below:,}")
        floor = max(floor, self.backend.head().floor)
        if expected > floor:
            missing, first = missing + expected - floor, floor + 1
        if missing:
            found = f"the commits of {missing:,} revisions are missing, from revision {first} on"
            yield self.error("commits-missing", "the log", found, "the time and reason of these revisions are lost")

    def versions(self) -> Iterator[Finding]:
        """Check that every kept version can be read, and is superseded by the next version of its key."""
        wrong: list[str] = []
        touched: set[str] = set()
        differences = CheckpointDifferences(self.backend.marks())
        before: StoredVersion | None = None
        seen = 0
        after = ("", 0)
        while page := self.backend.versions_page(after, VERSIONS_PER_PAGE):
            for version in page:
                if before is not None and not self._follows(before, version):
                    wrong += [before.key] if not wrong or wrong[-1] != before.key else []
                if version.value is not None:
                    codec.decode(version.value, f"revision {version.revision} of {version.key[:60]!r}")
                if self.head.floor < version.revision <= self.head.revision:
                    touched.add(version.key)
                differences.add(version)
                before = version
            after = (page[-1].key, page[-1].revision)
            seen += len(page)
            self.report(f"the versions: {seen:,}")
        self.touched, self.differences = touched, differences
        if before is not None and not self._follows(before, None):
            wrong.append(before.key)
        wrong = [key for key in wrong if not self._is_chain(key)]
        if wrong:
            found = f"the versions of {len(wrong):,} keys do not follow each other, for example {wrong[0][:60]!r}"
            yield self.error(
                "versions-broken", "the versions", found, "a past state may show a value that it never had"
            )

    def _follows(self, version: StoredVersion, following: Version | None) -> bool:
        """Return whether the next version superseded this version, or the version that did is pruned."""
        if following is None or following.key != version.key:
            # A delete superseded it, and was pruned: it lies below the floor.
            return version.until == 0 or version.revision < version.until <= self.floor
        if not version.revision < version.until <= following.revision:
            return False
        return version.until == following.revision or version.until <= self.floor

    def _is_chain(self, key: str) -> bool:
        """Check the versions of a key again, in one state."""
        versions: list[StoredVersion] = []
        while not versions or versions[-1].until:  # a version that is not superseded is the last in this state
            page = self.backend.versions_page((key, versions[-1].revision if versions else 0), VERSIONS_PER_PAGE, [key])
            if not page:
                break
            versions += page
        self.floor = self.backend.head().floor  # read last: versions pruned meanwhile lie below it
        return all(
            self._follows(version, following)
            for version, following in pairwise([*versions, None])
            if version is not None
        )

    def changes(self) -> Iterator[Finding]:
        """Check that the change index since the floor lists the keys that were written."""
        head = self.head
        listed = set(self.backend.changed_keys(StateAt(head.floor, head.time), StateAt(head.revision, head.time)))
        if self.touched is None:
            return  # the versions are unreadable, and that is a finding already
        if differ := sorted(listed ^ self.touched):
            if self.backend.head().floor != head.floor:
                found = "the history was pruned during the check"
                yield self.warning("check-outrun", "the change index", found, "the index could not be checked")
                return
            found = f"the change index and the stored versions disagree about {len(differ):,} keys, for example"
            meaning = "a diff may leave out a key that changed, or list a key that did not"
            yield self.error("changes-disagree", "the change index", f"{found} {differ[0][:60]!r}", meaning)

    def checkpoints(self) -> Iterator[Finding]:
        """Check that every checkpoint can be read, and that the change index covers its differences to the next.

        What differs was found while the versions were read. Without that every checkpoint is read whole.
        """
        marks = sorted(self.backend.marks(), key=lambda mark: (mark.revision, mark.time))
        for mark, following in pairwise([*marks, None]):
            assert mark is not None
            self.report(f"checkpoint {mark.name}")
            subject = f"checkpoint {mark.name!r}"
            if mark.revision > self.head.revision and mark.revision > self.backend.head().revision:
                found = f"it names revision {mark.revision}, which was never written"
                yield self.error("checkpoint-unwritten", subject, found, "the checkpoint shows no state")
                continue
            try:
                if self.differences is None or not self._agrees(self.differences, mark, following):
                    yield from self._checkpoint(subject, mark, following)
            except (StateException, ValueError) as error:
                if mark in self.backend.marks():  # not deleted meanwhile
                    yield _failed_check(subject, error)

    def _agrees(
        self, differences: CheckpointDifferences, mark: CheckpointRecord, following: CheckpointRecord | None
    ) -> bool:
        """Read a key of a checkpoint, and return whether the change index lists what differs in the next."""
        low, high = mark.point, (following or mark).point
        self.backend.read([differences.sample], low)
        keys = differences.keys(low, high)
        return keys is not None and (not keys or keys <= set(self.backend.changed_keys(low, high)))

    def _checkpoint(
        self, subject: str, mark: CheckpointRecord, following: CheckpointRecord | None
    ) -> Iterator[Finding]:
        low = mark.point
        if following is None:
            for _ in comparison.entries(self.backend, low):
                pass
            return
        high = following.point
        if low == high:
            return  # the same state: it is read with the next checkpoint
        listed = set(self.backend.changed_keys(low, high))
        for key, old, new in comparison.merge_join((self.backend, low), (self.backend, high)):
            differs = old is None or new is None or old.revision != new.revision
            if differs and key not in listed:
                found = (
                    f"key {key[:60]!r} differs in checkpoint {following.name!r}, but the change index does not list it"
                )
                yield self.error("change-unlisted", subject, found, "a diff of the two checkpoints leaves the key out")
                return
