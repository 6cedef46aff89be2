"""Decide what a namespace lost when some of its values became unreadable.

Other records list which revisions wrote which keys. A version that was written and is missing is lost. Its key is then
absent in every state that showed the version. If a checkpoint shows such a state, a delete replaces the version.
"""

from __future__ import annotations

import os
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Iterator

from msgspec.structs import replace

from ..backends.protocol import Head, Restored, Salvage, StoredVersion
from ..model import Commit, Problem, name_first, now, to_datetime, to_micros
from .history import any_within

MAX_NAMED_KEYS = 2000  # above this number, the report names a few keys and counts the rest
NO_COPY = "lost: no other copy exists"


class _KeyHistory:
    """Hold the revisions that are known to have written a key, and its sound versions by revision."""

    __slots__ = ("gone", "known", "lost_from", "sound")

    def __init__(self, sound: dict[int, StoredVersion], gone: Iterable[int], lacks_live: bool = False) -> None:
        self.sound = sound
        self.gone = sorted(gone)
        self.known = sorted([*sound, *self.gone]) if self.gone else sorted(sound)
        # A lost live value of unknown revision was written after all known versions of the key
        self.lost_from = max((version.until for version in sound.values()), default=0) if lacks_live else -1

    def after(self, revision: int) -> int:
        """Return the next known revision of the key; 0 if no later revision is known."""
        place = bisect_right(self.known, revision)
        return self.known[place] if place < len(self.known) else 0

    def is_newest_gone(self) -> bool:
        """Return whether the newest known version is gone."""
        return bool(self.gone) and self.gone[-1] == self.known[-1]

    def is_live_lost(self) -> bool:
        """Return whether the live value is lost."""
        return self.lost_from >= 0 or self.is_newest_gone()

    def is_live(self) -> bool:
        """Return whether the key has a live value that is sound."""
        newest = self.sound.get(self.known[-1]) if self.known else None
        return newest is not None and newest.value is not None

    def shows_gap(self, revision: int) -> bool:
        """Return whether the state at a revision showed a version that is gone."""
        if 0 <= self.lost_from <= revision:
            return True
        place = bisect_right(self.known, revision) - 1
        return place >= 0 and self.known[place] not in self.sound


class LostVersions:
    """Decide which values are lost, and make the namespace's versions, commits and checkpoints."""

    def __init__(self, salvage: Salvage) -> None:
        head = salvage.head
        self.salvage = salvage
        self.problems: list[Problem] = []
        self.commits = {commit.revision: commit for commit in salvage.commits}
        self.floor = head.floor if head.floor >= 0 else min(self.commits, default=1) - 1
        # Up to this revision, a listed write may belong to a version that was pruned
        self.pruned_to = 0 if salvage.in_place else self.floor
        self.seen = sorted({mark.revision for mark in salvage.marks})
        self.keys = self._histories()
        newest = (history.known[-1] for history in self.keys.values() if history.known)
        self.top = max([self.floor, *newest, *self.commits], default=0)
        self.missing = sorted(key for key, history in self.keys.items() if history.is_live_lost())
        self.live = sum(history.is_live() for history in self.keys.values())
        self.is_empty = not salvage.versions and not salvage.commits and bool(salvage.unread)
        self._report()

    def is_whole(self) -> bool:
        """Return whether no data is lost."""
        return all(problem.mended for problem in self.problems)

    def summary(self) -> str:
        """Summarize how much was sound."""
        if self.is_empty:
            return "nothing in it could be read, and the namespace is empty now"
        salvage = self.salvage
        past = sum(version.value is None or version.until > 0 for version in salvage.versions)
        parts = (
            (len(salvage.versions) - past, "entry", "entries"), (past, "past version", "past versions"),
            (len(salvage.commits), "commit", "commits"), (len(salvage.marks), "checkpoint", "checkpoints"),
        )  # fmt: skip
        counts = ", ".join(f"{count:,} {singular if count == 1 else plural}" for count, singular, plural in parts)
        return f"rebuilt from what is sound ({counts})"

    def _histories(self) -> dict[str, _KeyHistory]:
        sound: dict[str, dict[int, StoredVersion]] = {}
        for version in self.salvage.versions:
            versions = sound.setdefault(version.key, {})
            if version.until or version.revision not in versions:
                versions[version.revision] = version
        gone: dict[str, set[int]] = {}
        for key, revision in self.salvage.written:
            versions = sound.get(key, {})
            if revision not in versions and (revision > self.pruned_to or self._is_uncovered(versions, revision)):
                gone.setdefault(key, set()).add(revision)
        for version in self.salvage.versions:
            if version.until > self.floor and version.until not in sound[version.key]:
                gone.setdefault(version.key, set()).add(version.until)
        for key, revision in sorted(self.salvage.past):
            if key not in self.salvage.listed and gone.get(key) and revision == max([*sound.get(key, ()), *gone[key]]):
                gone[key].remove(revision)
                sound.setdefault(key, {})[revision] = self._restore_delete(key, revision)
        keys = sound.keys() | gone.keys() | self.salvage.listed
        return {key: self._history(key, sound.get(key, {}), gone.get(key, ())) for key in keys}

    def _history(self, key: str, sound: dict[int, StoredVersion], gone: Collection[int]) -> _KeyHistory:
        """Make the history of a key. A listed live value has the newest gone revision, unless that version is past."""
        if key not in self.salvage.listed:
            return _KeyHistory(sound, gone)
        newest = max(gone, default=0)
        is_known = newest > max(sound, default=0) and (key, newest) not in self.salvage.past
        return _KeyHistory(sound, gone, not is_known)

    def _restore_delete(self, key: str, revision: int) -> StoredVersion:
        """Restore the last version of a key that has no live value: such a version was a delete."""
        subject = f"the delete of key {key[:60]!r} of revision {revision}"
        done = "restored: a past version without a later version was a delete"
        self.problems.append(Problem(subject, "it is missing", done, True, "delete-restored"))
        return StoredVersion(key, None, revision, 0)

    def _is_uncovered(self, sound: dict[int, StoredVersion], revision: int) -> bool:
        """Return whether a checkpoint below the floor may show a version that is listed, but missing."""
        place = bisect_left(self.seen, revision)
        if revision in sound or place == len(self.seen):
            return False
        seen = self.seen[place]
        return not any(start <= seen and not 0 < version.until <= seen for start, version in sound.items())

    # --- the report --------------------------------------------------------------------------------------------

    def _lose(self, subject: str, code: str, found: str = "missing, or not what was written") -> None:
        self.problems.append(Problem(subject, found, NO_COPY, False, code))

    def _report(self) -> None:
        self.problems += self.salvage.losses
        self._report_names()
        if self.is_empty:
            self._lose("everything", "lost-everything")
            return
        self._report_values()
        self._report_checkpoints()
        self._report_unknown()
        self._report_log()

    def _report_names(self) -> None:
        names = self.salvage.checkpoint_names
        if "marks" not in self.salvage.unread:
            return
        for name in sorted(names - {mark.name for mark in self.salvage.marks}):
            self._lose(f"checkpoint {name!r}", "lost-checkpoint")
        if not names:
            self._lose("checkpoints, whose names are not known", "lost-checkpoint")

    def _report_values(self) -> None:
        past = sorted(
            (revision, key)
            for key, history in self.keys.items()
            for revision in history.gone
            if revision > self.pruned_to and (revision != history.known[-1] or history.lost_from >= 0)
        )
        if len(self.missing) > MAX_NAMED_KEYS:
            self._lose(f"the values of {len(self.missing):,} keys: {some_keys(self.missing)}", "lost-value")
        else:
            for key in self.missing:
                history = self.keys[key]
                which = f"revision {history.gone[-1]} is " if history.is_newest_gone() else ""
                self._lose(f"the value of key {key[:60]!r}", "lost-value", f"{which}missing, or not what was written")
        if len(past) > MAX_NAMED_KEYS:
            names = some_keys(key for _, key in past)
            self._lose(f"past values of {len(past):,} revisions of keys: {names}", "lost-version")
        else:
            for revision, key in past:
                self._lose(f"the value of key {key[:60]!r} of revision {revision}", "lost-version")

    def _report_checkpoints(self) -> None:
        damaged = {
            key: history
            for key, history in self.keys.items()
            if history.lost_from >= 0 or any(revision > self.pruned_to for revision in history.gone)
        }
        for mark in self.salvage.marks:
            if absent := sorted(key for key, history in damaged.items() if history.shows_gap(mark.revision)):
                subject = f"in checkpoint {mark.name!r} the value of {some_keys(absent)}"
                self._lose(subject, "lost-in-checkpoint")

    def _report_unknown(self) -> None:
        """Report losses whose keys are not known."""
        head, unread = self.salvage.head, self.salvage.unread
        counted = head.revision == self.top and head.count >= 0
        if counted and not 0 <= head.count - self.live <= len(self.missing):
            self._lose(f"{abs(head.count - self.live)} entries whose keys are not known", "lost-unknown")
        elif "entries" in unread and (not counted or "commits" in unread):
            self._lose("perhaps entries whose keys are not known", "lost-unknown")
        if "versions" in unread and unread & {"touched", "commits"}:
            self._lose("perhaps past versions whose keys are not known", "lost-unknown")
        elif "versions" in unread:  # writes before the floor are not all listed
            for mark in self.salvage.marks:
                if mark.revision < self.floor:
                    subject = f"perhaps values in checkpoint {mark.name!r} (revision {mark.revision})"
                    self._lose(f"{subject}, whose keys are not known", "lost-unknown")

    def _report_log(self) -> None:
        if self.salvage.in_place:
            return  # the backend has replaced each missing commit by a record
        silent = [revision for revision in range(self.floor + 1, self.top + 1) if revision not in self.commits]
        if silent:
            plural = "s" if len(silent) > 1 else ""
            self._lose(f"the log of {len(silent)} commit{plural}, from {silent[0]} on", "lost-log")

    # --- the result --------------------------------------------------------------------------------------------

    def restored(self) -> Restored:
        """Return the namespace as it is to be stored. A new commit deletes the keys whose live value is lost."""
        revision, time = self.top + 1, now()
        floor = self.floor if self.is_whole() or self.salvage.in_place else revision
        lineage = self.salvage.head.lineage or os.urandom(16).hex()
        commit = Commit(revision, to_datetime(time), "recovered", "", len(self.missing))
        head = Head(revision, time, self.live, floor, lineage)
        versions = [
            version for key, history in sorted(self.keys.items()) for version in self._chain(key, history, head)
        ]
        return Restored(head, versions, [*self.salvage.commits, commit], self.salvage.marks, self.missing)

    def _chain(self, key: str, history: _KeyHistory, head: Head) -> Iterator[StoredVersion]:
        """Yield all versions of a key, each superseded by the next; a delete replaces a lost version that is needed."""
        end = head.revision if history.is_live_lost() and not self.salvage.in_place else 0
        written = head.time
        for revision in history.known:
            following = history.after(revision) or end
            version = history.sound.get(revision)
            if version is None:
                commit = self.commits.get(revision)
                written = to_micros(commit.time) if commit is not None else written
                delete = StoredVersion(key, None, revision, written, 0, following)
                if not 0 < following <= head.floor or self._is_seen(delete):
                    yield delete
                continue
            written = version.time
            pruned = revision < version.until <= self.floor and (not following or version.until <= following)
            yield version if pruned or version.until == following else replace(version, until=following)
        if end:
            yield StoredVersion(key, None, end, head.time, 0, 0)

    def _is_seen(self, version: StoredVersion) -> bool:
        """Return whether a checkpoint shows a superseded version."""
        return any_within(self.seen, version.revision, version.until)


def some_keys(keys: Iterable[str]) -> str:
    """Name the first keys, and count the rest."""
    return name_first(repr(key[:60]) for key in keys)
