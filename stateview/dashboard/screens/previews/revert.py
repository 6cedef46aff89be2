"""The preview of a revert: the changes that it would make, and the keys of the commit that stay as they are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from ....states.revert import conflicts_text
from ...data.diff_model import WHOLE, DiffSides, RecheckResult
from .base import PreviewScreen


class RevertScreen(PreviewScreen):
    """Previews the revert of one commit. Keys of the commit that were changed since are named, and stay.

    Args:
        revision: the revision of the commit.
        reason: the reason of the commit, for the title.

    """

    ACT, DONE = "revert", "reverted"
    HELP = (
        "The changes that a revert of one commit would make: each key that the commit wrote goes back to its value\n"
        "before. A key that was changed since stays. space marks a key or, inside a value, a place. y creates a\n"
        "checkpoint of live, and writes the marked keys in one commit. z undoes the revert."
    )
    WAYS: ClassVar[tuple[tuple[str, ...], ...]] = (
        ("take back the whole commit", "y"),
        ("take back one key of it", "n, move to the key, space, y"),
        ("take back one place of it", "n, enter, move to the place, space, y"),
    )

    def __init__(self, revision: int, reason: str) -> None:
        super().__init__(str(revision - 1), [])
        self._revision = revision
        self._reason = reason
        self._conflicts: dict[str, int] = {}  # the keys that were changed since, by name: when

    def diff_sides(self) -> DiffSides:
        """Compare live with the state before the commit, in the keys that can go back."""
        sides = super().diff_sides()
        planned = self.dashboard.manager.revert_commit(self._revision, dry_run=True)
        self._only, self._conflicts = [change.key for change in planned], planned.conflicts
        return sides

    def title_text(self) -> str:
        return f"Revert  commit {self._revision}: {self._reason}{self._hidden_text()}"

    def no_difference_text(self) -> list[str]:
        return ["nothing of this commit can be taken back" if self._conflicts else "nothing of this commit is left"]

    def finished(self) -> None:
        """Name the keys that stay as they are."""
        super().finished()
        if self._conflicts:
            self.note(f"! changed since, and left as it is: {conflicts_text(self._conflicts)}")

    def reload(self) -> None:
        """Plan the revert again."""
        self.start()

    @property
    def _is_whole(self) -> bool:
        return self.run.state == "whole" and self.index.count(None, WHOLE) == len(self.index) > 0

    def safety(self) -> str:
        return self.ACT if self._is_whole else super().safety()

    def words(self, ref: str) -> Iterator[str]:
        """Yield the words of `revert`; for some of the keys, of `restore`, which does the same to them."""
        if not self._is_whole:
            yield from super().words(ref)
            return
        yield from ("revert", "--commit", str(self._revision))
        if self._conflicts:
            yield "--skip-conflicts"

    def _merge(self, result: RecheckResult) -> int:
        """Plan again if keys of the commit were written: what was changed since is not taken back."""
        if result.kinds:
            self.start()
            return self.index.marked
        return super()._merge(result)
