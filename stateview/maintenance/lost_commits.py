"""Decide what a namespace lost when commits of its log became unreadable.

Only the revision of an unreadable commit is known: it may have changed any key. Other files limit the loss. The file of
a checkpoint holds a whole state, and so does the live file. A sound commit stores a digest of its state. The digest
confirms that state, even if the state was rebuilt from versions.
"""

from __future__ import annotations

import os
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from operator import attrgetter

from msgspec.structs import replace

from ..backends.protocol import CheckpointRecord, Head, LogSalvage, Restored, StoredVersion, Version, WholeState
from ..backends.state_match import matching_revisions
from ..model import Commit, Problem, now, to_datetime, to_micros
from .history import with_superseded_by
from .lost_versions import some_keys

Entries = dict[str, Version]
_REVISION = attrgetter("revision")
_FROM_FILES = "checkpoints that only it named are restored from their files; a checkpoint without a file is lost"


class LostCommits:
    """Decide which revisions stay readable, and make the namespace's versions, commits and checkpoints."""

    def __init__(self, salvage: LogSalvage) -> None:
        self.salvage = salvage
        self.reached = self.revision = salvage.head.revision
        self.floor = salvage.head.floor
        self.gaps = sorted(salvage.gaps)
        self.commits = list(salvage.commits)
        self.marks = list(salvage.marks)
        self.problems: list[Problem] = list(salvage.losses)
        self.versions: dict[str, list[Version]] = {}
        for version in sorted(salvage.versions, key=_REVISION):
            self.versions.setdefault(version.key, []).append(
                Version(version.key, version.value, version.revision, version.time, version.expires)
            )
        self.live_is_proven = salvage.live_proof == "digest"
        self.is_next = False  # whether the live state is that of the first unreadable commit at the end
        proven = [state for state in salvage.states if state.proven]
        for state in sorted(proven, key=lambda state: state.checkpoint.revision):
            self._learn(state.checkpoint.revision, state.entries, state.checkpoint.time)
        live = self._find_live()
        if self.live_is_proven:
            self._learn(self.reached, live, 0)
        closed = [after - before < 2 and self._is_confirmed(after) for before, after in self.gaps]
        for (before, after), is_closed in zip(self.gaps, closed, strict=True):
            if is_closed and after > before:
                self._add_record(after)
        floor = self._find_floor(closed)
        self.open_gaps = [gap for gap, is_closed in zip(self.gaps, closed, strict=True) if not is_closed]
        # The last revision up to which every state is known
        self.known_to = self.open_gaps[0][0] if self.open_gaps else self.revision
        lowest, self.floor = self.floor, self.revision + 1 if floor is None else floor
        self._restore_checkpoints(lowest)
        unknown = 0 if self.live_is_proven else 1 if self.is_next else salvage.unread_end
        self.end = max([self.reached + unknown, *(version.revision for version in live.values())])
        self._commit_live(live)
        if floor is None or not self._has_whole_log():
            self.floor = self.revision  # earlier states are readable only through a checkpoint
        self._report()

    def restored(self) -> Restored:
        """Return the namespace as it is to be stored."""
        time = to_micros(self.commits[-1].time) if self.commits else now()
        lineage = self.salvage.head.lineage or os.urandom(16).hex()
        head = Head(self.revision, time, len(self._live()), self.floor, lineage)
        return Restored(head, list(self._stored()), self.commits, self.marks)

    def _stored(self) -> Iterator[StoredVersion]:
        return with_superseded_by(version for _, versions in sorted(self.versions.items()) for version in versions)

    def is_whole(self) -> bool:
        """Return true: the first line of the report names no loss, since each loss has a line of its own."""
        return True

    def summary(self) -> str:
        """Summarize how far the log is sound, and where the namespace continues."""
        firsts = [before for before, _ in self.gaps] + [self.reached] * (self.end > self.reached)
        first = max(min(firsts, default=self.reached), 0)
        kept = f"sound up to revision {first}" + (", and the sound commits after it are kept" if self.gaps else "")
        return f"{kept}; the live state is revision {self.revision}"

    # --- states ------------------------------------------------------------------------------------------------

    def _live(self) -> Entries:
        return {key: versions[-1] for key, versions in self.versions.items() if versions[-1].value is not None}

    def _state(self, revision: int) -> Entries:
        """Return the last version of every key up to a revision, deletes and expired versions included."""
        latest = ((key, _latest(versions, revision)) for key, versions in self.versions.items())
        return {key: version for key, version in latest if version is not None}

    def _shown(self, revision: int, time: int) -> Entries:
        return {key: version for key, version in self._state(revision).items() if version.visible(time)}

    def _is_confirmed(self, revision: int) -> bool:
        """Return whether a digest confirms a revision's state, rebuilt from the known versions. O(versions)."""
        if revision not in self.salvage.digests:
            return False
        entries = {key: version for key, version in self._state(revision).items() if version.value is not None}
        return self.salvage.confirms(revision, entries)

    def _learn(self, revision: int, entries: Entries, time: int) -> None:
        """Add what a whole state shows of unreadable commits: its versions, and the deletes of keys that it lacks."""
        for key, version in entries.items():
            versions = self.versions.setdefault(key, [])
            if version.revision not in {existing.revision for existing in versions}:
                insort(versions, version, key=_REVISION)
        lost = [number for before, after in self.gaps for number in range(before + 1, after + 1) if number <= revision]
        if not lost:
            return
        for key, versions in self.versions.items():
            last = _latest(versions, revision)
            if key not in entries and last is not None and last.visible(time) and lost[-1] > last.revision:
                insort(versions, Version(key, None, lost[-1], self._time_of(lost[-1])), key=_REVISION)

    def _written_by(self, revision: int) -> list[Version]:
        return [version for versions in self.versions.values() for version in versions if version.revision == revision]

    def _time_of(self, revision: int) -> int:
        """Date an unreadable commit by a version that it wrote, or else by the commit before it."""
        times = [version.time for version in self._written_by(revision)]
        before = (to_micros(commit.time) for commit in self.commits if commit.revision <= revision)
        return max(times or before, default=0)

    def _add_record(self, revision: int) -> None:
        """Add a commit to the log whose state is known, but whose reason and author are lost."""
        keys = len(self._written_by(revision))
        commit = Commit(revision, to_datetime(self._time_of(revision)), "recovered: its line was lost", "", keys)
        insort(self.commits, commit, key=_REVISION)

    def _commit(self, revision: int, time: int, reason: str, before: Entries, after: Entries) -> None:
        """Add a commit that leads from one state to another."""
        writes = [
            Version(key, version.value, revision, version.time or time, version.expires)
            for key, version in after.items()
            if before.get(key) != version
        ]
        writes += [Version(key, None, revision, time) for key in sorted(before.keys() - after.keys())]
        for version in writes:
            self.versions.setdefault(version.key, []).append(version)
        self.commits.append(Commit(revision, to_datetime(time), reason, "", len(writes)))
        self.revision = revision

    # --- the live state ----------------------------------------------------------------------------------------

    def _find_live(self) -> Entries:
        """Take the live state from its file, or rebuild it from the sound commits."""
        salvage = self.salvage
        if salvage.live is not None:
            if salvage.live_proof == "":
                return self._confirm(salvage.live)
            self.is_next = salvage.live_proof == "next"
            return salvage.live
        subject, found = salvage.live_subject, "missing or damaged, as is the history"
        if not salvage.unread_end and not salvage.end_missing and self._is_confirmed(self.reached):
            self.live_is_proven = True
            self.problems.append(Problem(subject, found, "rebuilt from the history", True, "live-rebuilt"))
            return self._live()
        starts = [before for before, _ in self.gaps]
        confirmed = (revision for revision in [self.reached, *reversed(starts)] if self._is_confirmed(revision))
        revision = max(next(confirmed, min([self.reached, *starts])), 0)
        done = f"taken back to revision {revision}; later values are lost, except those that checkpoints show"
        self.problems.append(Problem(subject, found, done, False, "live-taken-back"))
        return {key: version for key, version in self._state(revision).items() if version.value is not None}

    def _confirm(self, live: Entries) -> Entries:
        """Compare a live state of unknown digest, entry by entry, with the sound commits."""
        sound = {
            (version.key, version.revision): version for versions in self.versions.values() for version in versions
        }
        logged = {commit.revision for commit in self.commits}
        # Up to this revision, any version may be lost
        unsure = self.floor if any(before < 0 for before, _ in self.gaps) else 0
        entries: Entries = {}
        doubtful, wrong = [], []
        for key, version in live.items():
            if sound.get((key, version.revision)) == version:
                entries[key] = version
            elif version.revision <= unsure or (version.revision > self.floor and version.revision not in logged):
                entries[key] = version
                doubtful.append(key)
            else:
                wrong.append(key)
        for key, newest in self._live().items():
            if key in wrong:
                entries[key] = newest
            elif key not in live or (key not in doubtful and live[key].revision < newest.revision):
                doubtful.append(key)
        subject = self.salvage.live_subject
        if wrong:
            done = f"these keys are restored from the history: {some_keys(wrong)}; the damaged original is kept"
            found = "not what was written, as is the history"
            self.problems.append(Problem(subject, found, done, False, "live-wrong"))
        if doubtful:
            found = f"nothing confirms the keys {some_keys(doubtful)}"
            done = "they stay as the live state has them: check them"
            self.problems.append(Problem(subject, found, done, False, "live-doubtful"))
        return entries

    def _commit_live(self, live: Entries) -> None:
        """Add a commit that leads to the live state, unless the last commit leads to it."""
        before, time = self._live(), now()
        differs = any(before.get(key) != version for key, version in live.items()) or before.keys() - live.keys()
        if self.is_next and self.revision == self.reached:
            self._commit(self.revision + 1, time, "recovered", before, live)  # that of the first unreadable commit
        elif differs or self.end > self.revision or self.floor > self.revision:
            self._commit(max(self.end, self.revision) + 1, time, "recovered", before, live)

    # --- which revisions are readable --------------------------------------------------------------------------

    def _has_whole_log(self) -> bool:
        above = [commit.revision for commit in self.commits if commit.revision > self.floor]
        return above == list(range(self.floor + 1, self.revision + 1))

    def _find_floor(self, closed: list[bool]) -> int | None:
        """Find the first revision from which every state is known; None if not even the last state is known.

        From a confirmed state the sound commits lead to all later states, up to the next gap.
        """
        for place in reversed(range(len(self.gaps))):
            if closed[place]:
                continue
            following = self.gaps[place + 1] if place + 1 < len(self.gaps) else None
            until = following[0] if following else self.revision
            numbers = sorted(number for number in self.salvage.digests if self.gaps[place][1] <= number <= until)
            first = bisect_left(numbers, True, key=self._is_confirmed)
            if first < len(numbers):
                return numbers[first]
            return following[1] if following else None
        return self.floor

    # --- checkpoints -------------------------------------------------------------------------------------------

    def _restore_checkpoints(self, lowest: int) -> None:
        """Restore from their files the checkpoints whose state or commit may be lost. `lowest` is the former floor."""
        files = {state.checkpoint: state for state in self.salvage.states if state.proven}
        lost = [
            mark
            for mark in self.marks
            if self.known_to < mark.revision < self.floor
            and (mark not in files or self._shown(mark.revision, mark.time) != files[mark].entries)
        ]
        self.marks = [mark for mark in self.marks if mark not in lost]
        for mark in lost:
            self._restore_checkpoint(mark, files.get(mark))
        names = {mark.name for mark in self.marks}
        for state in sorted(self.salvage.states, key=lambda state: state.checkpoint.name):
            if not state.proven:
                same = self._revisions_of(state, lowest)
                if same or state.checkpoint.name not in names:  # else the file of a known checkpoint may be damaged
                    self._adopt_checkpoint(state, same)

    def _restore_checkpoint(self, mark: CheckpointRecord, state: WholeState | None) -> None:
        """Restore a checkpoint of an unreadable revision: its file's entries become a revision of their own."""
        subject = f"checkpoint {mark.name!r}"
        found = f"its state, revision {mark.revision}, is lost"
        if state is None:
            done = "lost: its file is missing or damaged too"
            self.problems.append(Problem(subject, found, done, False, "lost-checkpoint"))
            return
        revision = self._add_state(mark, state.entries)
        self.problems.append(
            Problem(subject, found, f"restored from its file, as revision {revision}", True, "checkpoint-restored")
        )

    def _adopt_checkpoint(self, state: WholeState, same: list[int]) -> None:
        """Restore a checkpoint that no sound commit names."""
        name, time = state.checkpoint.name, state.checkpoint.time
        subject, found = f"checkpoint {name!r}", "its file exists, but no sound commit names it"
        lost = "its note and its time are lost; it has the time of its file"
        if not same:
            revision = self._add_state(state.checkpoint, state.entries)
            done = f"restored from its file, as revision {revision}, which nothing confirms: check it; {lost}"
            self.problems.append(Problem(subject, found, done, False, "checkpoint-doubtful"))
            return
        times = {commit.revision: to_micros(commit.time) for commit in self.commits}
        revision = max((number for number in same if times.get(number, 0) <= time), default=same[0])
        self.marks.append(replace(state.checkpoint, revision=revision))
        self.marks.sort(key=attrgetter("time"))
        which = f"revision {revision}"
        if len(same) > 1:
            which += f", or another of {same[0]} to {same[-1]} that shows the same"
        self.problems.append(Problem(subject, found, f"its state is whole: {which}; {lost}", False, "checkpoint-named"))

    def _add_state(self, mark: CheckpointRecord, entries: Entries) -> int:
        """Add a commit that leads to a state, and a checkpoint of it; return its revision."""
        newest = max((version.revision for version in entries.values()), default=0)
        revision = max(mark.revision, newest, self.revision + 1)
        before = self._shown(self.revision, mark.time)
        self._commit(revision, mark.time, f"recovered checkpoint {mark.name}", before, entries)
        self.marks.append(replace(mark, revision=revision))
        return revision

    def _revisions_of(self, state: WholeState, lowest: int) -> list[int]:
        """Return the known revisions whose states have the entries of a checkpoint's file."""
        same = matching_revisions(self.versions, state.entries, state.checkpoint.time, self.reached)
        return [revision for revision in same if lowest <= revision <= self.known_to or revision >= self.floor]

    # --- the report --------------------------------------------------------------------------------------------

    def _report(self) -> None:
        """Report which revisions are lost, and what of each."""
        subject = self.salvage.subject
        after_end = [(self.reached, self.end)] if self.end > self.reached else []
        for gap in [*self.gaps, *after_end]:
            before, after = gap
            if after == before and gap not in self.open_gaps:
                continue
            found = f"the commit of revision {after} is" if after == before + 1 else "commits are"
            found = f"{found} unreadable" + (f": revisions {before + 1} to {after}" if after > before + 1 else "")
            if before < 0:
                found = "versions from before the floor are unreadable"
            elif after == before:
                found = f"the commit after revision {before} does not follow it"
            if gap in self.gaps and gap not in self.open_gaps:
                done = "lost: its time, reason and author; a digest confirms its state"
            elif gap in after_end and self.is_next:
                done = "lost: its time, reason and author; a digest confirms the live state"
            else:
                done = "lost: what was written, when and why; states are known "
                done += f"from revision {self.floor} on, and earlier states only through a checkpoint"
            self.problems.append(Problem(subject, found, f"{done}; {_FROM_FILES}", False, "lost-commit"))
        if self.salvage.checkpoints_lost and not self.gaps and not after_end:
            found = "the unreadable lines wrote no revision, but made or deleted checkpoints"
            self.problems.append(Problem(subject, found, _FROM_FILES, False, "lost-checkpoint-line"))


def _latest(versions: list[Version], revision: int) -> Version | None:
    """Return the last version up to a revision, from versions in ascending order."""
    place = bisect_right(versions, revision, key=_REVISION)
    return versions[place - 1] if place else None
