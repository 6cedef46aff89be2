"""What a `compact` has done so far: an error in the middle of it tells that."""

from __future__ import annotations

from msgspec import Struct


class PruneProgress(Struct):
    """The floor before and after, and the versions removed until now."""

    before: int = 0
    floor: int = 0
    versions: int = 0

    def text(self) -> str:
        """Return what was done, as a sentence; "" for nothing."""
        if self.floor <= self.before and not self.versions:
            return ""
        raised = f"The history before revision {self.floor} was pruned, " if self.floor > self.before else ""
        count = f"{self.versions:,} version{'' if self.versions == 1 else 's'} removed so far"
        return f"{raised}{count}; 'compact' does the rest"
