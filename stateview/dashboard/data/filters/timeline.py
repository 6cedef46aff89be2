"""The filter of the timeline: by reason, author or checkpoint, by the keys that a commit wrote, or by a state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ....arguments import KeyName
from ....backends.names_only import names_only
from ....backends.protocol import CheckpointRecord
from ....errors import HistoryPruned
from ....manager import StateManager
from ....model import Commit, is_key
from ....states.matching.ranking import INSIDE, LETTERS, ranker
from ..background import Stop
from ..key_filter import Filter

COMMITS_PER_PAGE = 200
COMMITS_PER_READ = 5000  # commits that one read of a filtered log looks at


class CommitPage(NamedTuple):
    """Matching commits, newest first. `oldest` is the last revision that was looked at; `whole`: there is no older."""

    commits: list[Commit]
    oldest: int
    whole: bool


class TimelineFilter(NamedTuple):
    """A filter as typed: `=key` finds the commits of a key, `@time` and a revision name a state, all else is a word."""

    typed: str = ""

    @property
    def is_ref(self) -> bool:
        """Whether the text names one state, and hides none."""
        return self.typed.startswith("@") or self.typed.isdecimal()

    @property
    def hides(self) -> bool:
        """Whether the filter can hide rows."""
        return bool(self.typed.removeprefix("=")) and not self.is_ref

    def names_of(self, commit: Commit | None, mark: CheckpointRecord | None, ref: str) -> Sequence[str]:
        """Return the texts of a row that a word is looked for in."""
        if mark is not None:
            return ref, mark.note
        return (commit.reason, commit.author) if commit is not None else ()

    def accepts_mark(self, mark: CheckpointRecord) -> bool:
        """Whether a checkpoint matches."""
        return not self.hides or self._ranks((mark.name, mark.note), LETTERS)

    def _ranks(self, names: Sequence[str], worst: int) -> bool:
        if self.typed[:1] == "=":
            return False
        rank = ranker(self.typed)
        return any((found := rank(name)) is not None and found.kind <= worst for name in names)

    def read(self, manager: StateManager, below: int, stop: Stop, limit: int = COMMITS_PER_PAGE) -> CommitPage:
        """Read matching commits before a revision; 0: from the newest on. O(commits looked at)."""
        if self.hides and self.typed[:1] == "=":
            key = self.typed[1:]
            if is_key(key) and names_only(manager.backend).versions(key, 1):
                commits = manager.log(limit, below=below, key=KeyName(key))
                return CommitPage(commits, commits[-1].revision if commits else 0, len(commits) < limit)
        commits, seen = [], 0
        while not stop():
            page = manager.log(limit, below=below)
            seen += len(page)
            below = page[-1].revision if page else below
            commits += [commit for commit in page if not self.hides or self._accepts(manager, commit)]
            whole = len(page) < limit
            if whole or not self.hides or len(commits) >= limit or seen >= COMMITS_PER_READ:
                return CommitPage(commits, below, whole)
        return CommitPage(commits, below, False)

    def _accepts(self, manager: StateManager, commit: Commit) -> bool:
        if self.typed[:1] != "=":
            # Scattered letters of a word are in nearly every reason.
            return self._ranks((commit.reason, commit.author), INSIDE)
        from ....maintenance.history import keys_of

        wanted = Filter.parse(self.typed[1:])
        rank, match = ranker(wanted.text), wanted.match()
        try:
            keys = keys_of(names_only(manager.backend), commit.revision)
        except HistoryPruned:
            return False
        if wanted.kind != "word":
            return any(map(match, keys))
        return any((found := rank(key)) is not None and found.kind <= INSIDE for key in keys)
