"""Revert one commit: what it wrote goes back to what it was before, where nobody has changed it since."""

from __future__ import annotations

from ..arguments import KeyName
from ..backends.conflicts import check_expected
from ..backends.protocol import Backend, StateAt, Version
from ..backends.retries import Backoff
from ..errors import Conflict, KeyNotFound, NextStep, RefNotFound
from ..model import name_first
from ..settings import CheckpointRetention
from . import compare as comparison
from .changes import Diff
from .missing import check_exists
from .restore import DEADLINE_SECONDS, Committer, RestoreDiff, RestoreRequest, commit_at, restore, title
from .view import resolve


class RevertDiff(RestoreDiff):
    """Hold the diff that a revert applied, its safety checkpoint ("": it wrote nothing), and the conflicts.

    `conflicts` has the keys of the commit that were changed since, each with the revision that changed it last. They
    stay as they are.
    """

    def __init__(self, applied: Diff, conflicts: dict[str, int]) -> None:
        made = (applied.checkpoint, applied.expired) if isinstance(applied, RestoreDiff) else ("", ())
        super().__init__(applied, *made)
        self.conflicts = conflicts


def revert_commit(
    backend: Backend, ref: str | int, skip_conflicts: bool, expected: int | None, previewed: int | None, reason: str,
    safety: CheckpointRetention | None, commit: Committer,
) -> RevertDiff:  # fmt: skip
    """Revert as `StateManager.revert_commit` does; without a retention policy, as a dry run."""
    check_exists(backend)
    revision = resolve(backend, ref).revision
    if not revision:
        raise RefNotFound("revision 0 is the empty beginning: no commit made it", "Give the revision of a commit")
    reason = reason or f"revert {title(backend, backend.head(), revision)}"
    backoff = Backoff(DEADLINE_SECONDS, first=0.01, longest=0.01)
    while True:
        work = _Revert(backend, revision, expected)
        if safety is not None:
            work.check(skip_conflicts, previewed)
        seen = work.live.revision if previewed is None and safety is not None else previewed
        keys = map(KeyName, work.keys)
        request = RestoreRequest(revision - 1, keys, None, expected, seen, reason=reason, act="revert")
        try:
            applied = restore(backend, request, safety, commit) if work.keys else Diff(*work.labels, lambda: iter(()))
            return RevertDiff(applied, work.conflicts)
        except (Conflict, KeyNotFound):  # another writer changed one of the keys since they were compared
            if expected is not None or previewed is not None or not backoff.wait():
                raise


class _Revert:
    """Find the keys of a commit that can go back, and those that were changed since. O(changes since the commit)."""

    def __init__(self, backend: Backend, revision: int, expected: int | None) -> None:
        head = backend.head()
        check_expected(backend.namespace, expected, head.revision)
        commit_at(backend, head, revision)
        self.backend, self.revision = backend, revision
        self.labels = ("live", str(revision - 1))
        self.live = StateAt(head.revision, backend.now())
        before = resolve(backend, revision - 1, head)
        self._after = StateAt(revision, before.time)  # equal times ignore expiry
        written = backend.changed_keys(before, self._after)
        changed = self._changed(written)
        self.keys: list[str] = []
        self.conflicts: dict[str, int] = {}
        for key, live, old in comparison.read_pairs(backend, written, self.live, before):
            if _same(key, live, old):
                continue  # it is back already
            if key in changed:
                self.conflicts[key] = live.revision if live else backend.versions(key, 1)[0].revision
            else:
                self.keys.append(key)

    def check(self, skip_conflicts: bool, previewed: int | None) -> None:
        """Refuse conflicts, unless they are to be left out and were there at the preview.

        Raises:
            Conflict: keys were changed since the commit.

        """
        late = [key for key, revision in self.conflicts.items() if previewed is not None and revision > previewed]
        if late or (self.conflicts and not skip_conflicts):
            raise Conflict(
                f"since commit {self.revision}, others have changed what it wrote: {conflicts_text(self.conflicts)}",
                (
                    NextStep("See ", ("revert", "--commit", str(self.revision), "--dry-run")),
                    "Give --skip-conflicts (skip_conflicts=True) to leave these keys out",
                ),
            )

    def _changed(self, written: list[str]) -> set[str]:
        """Return those keys whose live version is not what the commit wrote."""
        since = set(self.backend.changed_keys(self._after, StateAt(self.live.revision, self._after.time)))
        later = sorted(since.intersection(written))
        pairs = comparison.read_pairs(self.backend, later, self.live, self._after)
        return {key for key, live, wrote in pairs if not _same(key, live, wrote) and not self._expired(live, wrote)}

    def _expired(self, live: Version | None, wrote: Version | None) -> bool:
        """Return whether what the commit wrote has expired, and a later commit cleared it away."""
        if live is not None or wrote is None or not wrote.expires:
            return False
        last, *earlier = self.backend.versions(wrote.key, 2)
        return last.value is None and wrote.expires <= last.time and [wrote.revision] == [v.revision for v in earlier]


def _same(key: str, one: Version | None, other: Version | None) -> bool:
    if one is None or other is None:
        return one is other
    return one.expires == other.expires and comparison.change(key, one, other) is None


def conflicts_text(conflicts: dict[str, int]) -> str:
    """Name the first keys that were changed since, each with the revision that changed it last."""
    return name_first(f"{key[:60]!r} (revision {revision})" for key, revision in conflicts.items())
