"""The rows of the timeline: live, the checkpoints and the commits, each of which is a state."""

from __future__ import annotations

from typing import NamedTuple

from ...backends.protocol import CheckpointRecord
from ...model import Commit, to_micros
from .text import format_clock

UNRESOLVED = -1


class TimelineRow(NamedTuple):
    """A row: live, a checkpoint, or a commit. `current` is false for a checkpoint whose name has moved on.

    `other` is the ref of a state that the screen shows, but that is none of these, or not among the rows yet. Its
    revision is `UNRESOLVED` at first.
    """

    revision: int
    mark: CheckpointRecord | None = None
    commit: Commit | None = None
    current: bool = True
    other: str = ""

    @property
    def ref(self) -> str:
        """The ref of the state, as commands take it."""
        if self.mark is not None:
            return self.mark.name if self.current else f"{self.mark.name}@{self.mark.revision}"
        return self.other or ("live" if self.commit is None else str(self.revision))

    @property
    def details(self) -> str:
        """The time of the row, with the author of a commit."""
        if self.mark is not None:
            clock, more = format_clock(self.mark.time), f"at r{self.mark.revision}"
        elif self.commit is not None:
            clock = format_clock(to_micros(self.commit.time))
            more = self.commit.author and f"by {self.commit.author}"
        else:
            return ""
        return f"{clock} · {more}" if more else clock

    @property
    def text(self) -> str:
        """The name and the note of a checkpoint, or the reason of a commit, in full."""
        if self.mark is not None:
            return f"{self.ref}: {self.mark.note}" if self.mark.note else self.ref
        return self.commit.reason if self.commit is not None else ""


LIVE = TimelineRow(0)


def index_of(rows: list[TimelineRow], at: TimelineRow) -> int:
    """Return the index of a state; 0 is live, or that no row has the state.

    A checkpoint may have been moved, renamed or deleted: then its state is that of another row of the same revision.
    """
    if at.ref == "live":
        return 0
    known = at.revision != UNRESOLVED
    of_ref = (
        index for index, row in enumerate(rows) if row.ref == at.ref and (row.revision == at.revision or not known)
    )
    of_revision = (index for index, row in enumerate(rows) if index and row.revision == at.revision)
    return next(of_ref, 0) or next(of_revision, 0)


def insert(rows: list[TimelineRow], at: TimelineRow) -> int:
    """Insert a state without a row in the order of revisions; return its index, or 0 for live."""
    if at.ref == "live":
        return 0
    older = (index for index, row in enumerate(rows) if index and row.revision < at.revision)
    index = 1 if at.revision == UNRESOLVED else next(older, len(rows))
    rows.insert(index, at if at.other else TimelineRow(at.revision, other=str(at.revision)))
    return index
