"""`doctor()`: whether a namespace keeps its promises, read through the same primitives as everything else.

What only one kind of backend can see is its own `examine`; what is written once over all is here. Nothing is changed.
Others may write meanwhile: what seems wrong is looked at again, in one state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

from .. import codec
from ..backends.protocol import Backend, CheckpointRecord, Head, ProgressText, StateAt, StoredVersion, Version
from ..errors import BackendError, BackendUnavailable, Hint, HistoryPruned, StateException, names_command, run, steps
from ..model import Finding, ProgressMessage
from ..states import compare as comparison

VERSIONS_PER_PAGE = 1000
_MAX_ATTEMPTS = 5  # looks, while others write


def diagnose(backend: Backend, say: ProgressText | None = None) -> Iterator[Finding]:
    """All findings about a namespace, each as it is made.

    Args:
        backend: opened for reading only, since else to read may adopt older data.
        say: told what is being looked at; what it raises ends the examination.

    O(all that is stored, and that every checkpoint shows), in bounded memory but for the keys that changed.

    """
    tell = say or (lambda _text: None)
    wrong: list[str] = []
    for finding in backend.diagnose(tell):
        wrong += [finding.subject] if finding.severity == "error" else []
        yield finding
    try:
        head = backend.head()
        there = bool(head.lineage)
    except (StateException, ValueError) as error:
        if not wrong:  # else it has been said, and better
            yield _could_not("the head", error)
        return
    if there:
        yield from _Diagnosis(backend, head, tell, wrong).run()


def _could_not(subject: str, error: Exception) -> Finding:
    """A check that could not be made to its end."""
    said = error.message if isinstance(error, StateException) else f"it is not what was written: {error}"
    hint: Hint = error.next_steps if isinstance(error, StateException) else ()
    if not isinstance(error, BackendError) and not names_command(hint, "recover"):
        hint = (run("recover"), *steps(hint))
    if isinstance(error, HistoryPruned):
        meaning = "its history was forgotten while it was looked at"
        return Finding("warning", subject, said, meaning, "Run it again")
    reached = "nothing answers" if isinstance(error, BackendUnavailable) else "it cannot be read, or not all of it"
    return Finding("error", subject, said, reached, hint)


class _Diagnosis:
    def __init__(self, backend: Backend, head: Head, say: ProgressText, wrong: list[str]) -> None:
        self.backend = backend
        self.head = head
        self.say = say
        self.wrong = wrong  # the files and more that are known to be, of which no check need say so again
        self.floor = head.floor  # as high as it is known to be
        self.touched: set[str] = set()  # keys of which a version above the floor is kept

    def run(self) -> Iterator[Finding]:
        checks: tuple[tuple[str, Callable[[], Iterator[Finding]]], ...] = (
            ("the live state", self.live), ("the log", self.commits), ("the versions", self.versions),
            ("what changed", self.changes), ("the checkpoints", self.checkpoints),
        )  # fmt: skip
        for subject, check in checks:
            self.say(subject)
            try:
                yield from check()
            except (StateException, ValueError) as error:
                finding = _could_not(subject, error)
                if not any(known in finding.found for known in self.wrong):
                    self.wrong.append(finding.found)
                    yield finding

    def error(self, subject: str, found: str, meaning: str) -> Finding:
        return Finding("error", subject, found, meaning, run("recover"))

    def live(self) -> Iterator[Finding]:
        """The entries in order, as many as the head says."""
        for _ in range(_MAX_ATTEMPTS):
            before = self.backend.head()
            seen = 0
            last = ""
            for version in comparison.entries(self.backend, None):
                if version.key <= last:
                    yield self.error("the live state", f"{version.key[:60]!r} comes after {last[:60]!r}",
                                     "keys are listed twice, or not at all")  # fmt: skip
                    return
                last, seen = version.key, seen + 1
                if seen % VERSIONS_PER_PAGE == 0:
                    self.say(ProgressMessage.of(seen, before.count, "entries", "the live state"))
            after = self.backend.head()
            if (before.revision, before.count) == (after.revision, after.count):
                if seen != before.count:
                    found = f"{seen:,} entries are listed, and {before.count:,} are counted"
                    yield self.error("the live state", found, "some are missing, or should not be there")
                return
        yield Finding("warning", "the live state", "others wrote to it all the time",
                      "whether its count is right could not be checked", "Run it again")  # fmt: skip

    def commits(self) -> Iterator[Finding]:
        """Every revision above the floor has its commit."""
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
            self.say(f"the log: down to revision {below:,}")
        if expected > floor:
            missing, first = missing + expected - floor, floor + 1
        if missing:
            found = f"the commits of {missing:,} revisions are missing, from {first} on"
            yield self.error("the log", found, "what they did, when and why is not known")

    def versions(self) -> Iterator[Finding]:
        """Every kept version can be read, and hands over to the next."""
        wrong: list[str] = []
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
                    self.touched.add(version.key)
                before = version
            after = (page[-1].key, page[-1].revision)
            seen += len(page)
            self.say(f"the versions: {seen:,}")
        if before is not None and not self._follows(before, None):
            wrong.append(before.key)
        wrong = [key for key in wrong if not self._is_chain(key)]
        if wrong:
            found = f"the versions of {len(wrong):,} keys do not follow each other, such as those of {wrong[0][:60]!r}"
            yield self.error("the versions", found, "a past state may show what was not there")

    def _follows(self, one: StoredVersion, other: Version | None) -> bool:
        """Whether what superseded a version is the next one, or was forgotten since."""
        if other is None or other.key != one.key:
            # What superseded it was a delete, and is forgotten: below the floor
            return one.until == 0 or one.revision < one.until <= self.floor
        if not one.revision < one.until <= other.revision:
            return False
        return one.until == other.revision or one.until <= self.floor

    def _is_chain(self, key: str) -> bool:
        """Looked at again, in one state."""
        found: list[StoredVersion] = []
        while not found or found[-1].until:  # one that stands is the last: what comes after it has come since
            page = self.backend.versions_page((key, found[-1].revision if found else 0), VERSIONS_PER_PAGE, [key])
            if not page:
                break
            found += page
        self.floor = self.backend.head().floor  # after that: what was forgotten meanwhile lies below it
        return all(self._follows(one, other) for one, other in pairwise([*found, None]) if one is not None)

    def changes(self) -> Iterator[Finding]:
        """What is said to have changed since the floor is what was written."""
        head = self.head
        told = set(self.backend.changed_keys(StateAt(head.floor, head.time), StateAt(head.revision, head.time)))
        if differ := sorted(told ^ self.touched):
            if self.backend.head().floor != head.floor:
                meaning = "whether diffs tell all could not be checked"
                yield Finding("warning", "what changed", "history was forgotten meanwhile", meaning, "Run it again")
                return
            found = f"of {len(differ):,} keys, such as {differ[0][:60]!r}, it is not known right that they changed"
            yield self.error("what changed", found, "a diff may leave them out, or show what did not change")

    def checkpoints(self) -> Iterator[Finding]:
        """Every checkpoint reads back wholly, and what differs from the next is known."""
        marks = sorted(self.backend.marks(), key=lambda mark: (mark.revision, mark.time))
        for mark, following in pairwise([*marks, None]):
            assert mark is not None
            self.say(f"checkpoint {mark.name}")
            subject = f"checkpoint {mark.name!r}"
            if mark.revision > self.backend.head().revision:
                found = f"it names revision {mark.revision}, which was never written"
                yield self.error(subject, found, "it shows nothing")
                continue
            try:
                yield from self._checkpoint(subject, mark, following)
            except (StateException, ValueError) as error:
                if mark in self.backend.marks():  # not deleted meanwhile
                    yield _could_not(subject, error)

    def _checkpoint(
        self, subject: str, mark: CheckpointRecord, following: CheckpointRecord | None
    ) -> Iterator[Finding]:
        low = StateAt(mark.revision, mark.time)
        if following is None:
            for _ in comparison.entries(self.backend, low):
                pass
            return
        high = StateAt(following.revision, following.time)
        if low == high:
            return  # read with the next
        told = set(self.backend.changed_keys(low, high))
        for key in _differing(self.backend, low, high):
            if key not in told:
                found = f"{key[:60]!r} differs in {following.name!r}, and is not known to have changed"
                yield self.error(subject, found, "a diff of the two leaves it out")
                return


def _differing(backend: Backend, one: StateAt, other: StateAt) -> Iterator[str]:
    """The keys that two states do not show alike, in order."""
    left, right = comparison.entries(backend, one), comparison.entries(backend, other)
    first, second = next(left, None), next(right, None)
    while first is not None or second is not None:
        if second is None or (first is not None and first.key < second.key):
            assert first is not None
            yield first.key
            first = next(left, None)
        elif first is None or second.key < first.key:
            yield second.key
            second = next(right, None)
        else:
            if first.revision != second.revision:
                yield first.key
            first, second = next(left, None), next(right, None)
