"""Commits and checkpoints of a namespace as one list, the newest first; the line under the cursor is a state."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

from textual.binding import Binding, BindingType
from textual.message import Message

from ...backends.protocol import CheckpointRecord, Head
from ...manager import StateManager
from ...model import Commit, now, to_micros
from ..data.background import Stop
from ..display.text import RowBuilder, format_age, format_clock, format_count
from .virtual_list import VirtualList

COMMITS_PER_PAGE = 200  # commits that are read at once
NEAR_ROWS = 60  # lines before the end of what is read, at which more is read
MAX_COMMITS = 2 * COMMITS_PER_PAGE  # commits that are held below what one looks at, while others write


class TimelineRow(NamedTuple):
    """A line: live, a checkpoint, or a commit."""

    revision: int
    mark: CheckpointRecord | None = None
    commit: Commit | None = None
    current: bool = True

    @property
    def ref(self) -> str:
        """What names this state in a command."""
        if self.mark is not None:
            return self.mark.name if self.current else f"{self.mark.name}@{self.mark.revision}"
        return "live" if self.commit is None else str(self.revision)

    @property
    def told(self) -> str:
        """What may have no room in the list: of a commit its author and time, of a checkpoint its time and note."""
        if self.mark is not None:
            return (
                f"{format_clock(self.mark.time)} · {self.mark.note}" if self.mark.note else format_clock(self.mark.time)
            )
        if self.commit is None:
            return ""
        moment = format_clock(to_micros(self.commit.time))
        return f"{moment} · by {self.commit.author}" if self.commit.author else moment


_LIVE = TimelineRow(0)


class Timeline(VirtualList):
    """The states one can go to. Holds what was read of the log, at most the history that is kept."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "mark", "CheckpointRecord", show=False, id="timeline.mark"),
    ]

    class Failed(Message):
        """The log could not be read."""

        def __init__(self, error: Exception) -> None:
            super().__init__()
            self.error = error

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self._manager: StateManager | None = None
        self._head = Head()
        self._known = False  # whether the head is that of the namespace, which may hold nothing
        self._marks: list[CheckpointRecord] = []
        self._commits: list[Commit] = []
        self._whole = False  # whether the oldest kept commit has been read
        self._asking = False
        self._lines: list[TimelineRow] = [_LIVE]
        self.marked: list[str] = []  # refs, at most two, in the order of marking

    @property
    def count(self) -> int:
        """See `VirtualList.count`."""
        return len(self._lines)

    @property
    def line(self) -> TimelineRow:
        """The line under the cursor."""
        return self._lines[self.cursor]

    # --- what is shown -----------------------------------------------------------------------------------------

    def show(self, manager: StateManager) -> None:
        """Look at another namespace."""
        self._manager, self._known = manager, False
        self._stop_reading()
        self._commits, self._marks, self._head, self._whole, self.marked = [], [], Head(), False, []
        self._arrange()
        self.cursor = 0

    def moved(self, head: Head, marks: list[CheckpointRecord]) -> None:
        """Read the new part of the log; the marks and the cursor stay."""
        if head.lineage != self._head.lineage or head.revision < self._head.revision:
            self._stop_reading()
            self._commits, self._whole = [], False
        newer = head.revision > (self._commits[0].revision if self._commits else 0)
        self._head, self._marks, self._known = head, marks, True
        if newer:
            self._read_newer()  # and arrange with what was read: once, not twice
        else:
            self._arrange()

    def go_to(self, ref: str) -> None:
        """Put the cursor on the line of a ref, if it is there."""
        for index, line in enumerate(self._lines):
            if line.ref == ref:
                self.cursor = index
                return

    def in_order(self, one: str, other: str) -> tuple[str, str]:
        """Two refs, the earlier state first, as far as the list knows them."""
        places = {line.ref: index for index, line in enumerate(self._lines)}
        return (one, other) if places.get(one, 0) >= places.get(other, 0) else (other, one)

    def unmark(self) -> None:
        """Mark no state any more."""
        self.marked = []
        self.refresh()

    def _stop_reading(self) -> None:
        """Cancel the reads of another log."""
        for slot in ("newer", "older"):
            self.app.reader.cancel(self, slot)  # type: ignore[attr-defined]
        self._asking = False

    def _read_newer(self) -> None:
        """Read the log down to what is known; where that is far, only its newest part, and forget what was known."""
        manager, newest = self._manager, self._commits[0].revision if self._commits else 0
        if manager is None:
            return
        limit = min(COMMITS_PER_PAGE, self._head.revision - newest)

        def read(stop: Stop) -> tuple[list[Commit], bool]:
            fresh: list[Commit] = []
            while not stop() and (page := manager.log(limit, below=fresh[-1].revision if fresh else 0)):
                fresh += [one for one in page if one.revision > newest]
                if page[-1].revision <= newest + 1 or not newest:
                    return fresh, bool(newest)
                if len(fresh) > 4 * COMMITS_PER_PAGE:
                    return fresh, False
            return fresh, False

        self.app.reader.submit(self, "newer", read, self._took_newer, self._failed)  # type: ignore[attr-defined]

    def _took_newer(self, answer: tuple[list[Commit], bool]) -> None:
        fresh, joins = answer
        self._commits = fresh + self._commits if joins else fresh
        self._whole = self._whole and joins
        self._forget(len(fresh))
        self._arrange()

    def _forget(self, fresh: int) -> None:
        """Let go of commits far below what one looks at: while others write, they would become ever more.

        So their number stays as it is while one looks at live, and nothing is laid out anew.
        """
        places = [index for index, line in enumerate(self._lines) if line.ref in self.marked] if self.marked else []
        seen = max(self.cursor, self.scroll_offset.y, *places)
        held = MAX_COMMITS + (seen + fresh if seen else 0)
        if len(self._commits) > held:
            self._commits, self._whole = self._commits[:held], False

    def _read_older(self) -> None:
        manager = self._manager
        if manager is None or self._asking:
            return
        self._asking, below = True, self._commits[-1].revision

        def took(older: list[Commit]) -> None:
            self._asking = False
            if self._commits and self._commits[-1].revision == below:
                self._whole = len(older) < COMMITS_PER_PAGE
                self._commits += older
                self._arrange()

        def failed(error: Exception) -> None:
            self._asking = False
            self._failed(error)

        self.app.reader.submit(self, "older", lambda _: manager.log(COMMITS_PER_PAGE, below=below), took, failed)  # type: ignore[attr-defined]

    def _failed(self, error: Exception) -> None:
        self.post_message(self.Failed(error))

    def _arrange(self) -> None:
        """Build the lines anew; the cursor stays on its state. O(commits held)."""
        self._commits = [one for one in self._commits if one.revision > self._head.floor]
        at = self._lines[self.cursor].ref if self._lines else "live"
        current = {mark.name: mark for mark in self._marks}
        marks = sorted(self._marks, key=lambda mark: mark.revision)  # stable: the later made of one revision last
        lines = [_LIVE._replace(revision=self._head.revision)]
        for commit in self._commits:
            while marks and marks[-1].revision >= commit.revision:
                mark = marks.pop()
                lines.append(TimelineRow(mark.revision, mark, None, current[mark.name] is mark))
            lines.append(TimelineRow(commit.revision, None, commit))
        lines += [TimelineRow(mark.revision, mark, None, current[mark.name] is mark) for mark in reversed(marks)]
        self._lines = lines
        refs = {line.ref: index for index, line in enumerate(lines)}
        self.marked = [ref for ref in self.marked if ref in refs]
        with self.prevent(VirtualList.Highlighted):  # the cursor's line moves, its state does not
            self.count_changed()
            if at in refs:
                self.cursor = refs[at]
        if at not in refs:
            self.post_message(self.Highlighted(self, self.cursor))

    # --- painting and moving -----------------------------------------------------------------------------------

    def render_row(self, index: int, cells: RowBuilder) -> None:
        """See `VirtualList.render_row`."""
        line, dim = self._lines[index], self.style_of("dim")
        cells.add("✓" if line.ref in self.marked else " ", self.style_of("mark"))
        if line.mark is not None:
            when = f"{format_age(line.mark.time, now()):>6}"
            role = "key" if line.current else "dim"
            cells.add("○ ", self.style_of("mark"))
            room = max(4, cells.left - len(when) - 1)
            cells.add(line.ref + (f"  {line.mark.note}" if line.mark.note else ""), self.style_of(role), room)
            cells.add(f" {when}", dim)
        elif line.commit is not None:
            commit = line.commit
            cells.add("│ ", dim).add(f"{commit.revision} ", dim)
            tail = f" {format_age(to_micros(commit.time), now()):>6}"
            keys = f" {format_count(commit.keys)}"
            author = f" {commit.author}" if commit.author and cells.left > 44 else ""
            told = cells.left - len(tail) - len(keys) - len(author)
            cells.add(commit.reason or "-", None, max(4, told)).add(author, dim).add(keys, self.style_of("number"))
            cells.add(tail, dim)
        else:
            cells.add("● ", self.style_of("mark")).add("live", self.style_of("key"))
            empty = "nothing was saved yet" if self._known else "⋯"
            cells.add(f"  r{self._head.revision}" if self._head.revision else f"  {empty}", dim)
        if index >= self.count - NEAR_ROWS and not self._whole and self._commits:
            self._read_older()

    def action_mark(self) -> None:
        """Mark the state under the cursor, or take its mark away; the third mark drops the first."""
        ref = self.line.ref
        self.marked = [one for one in self.marked if one != ref] if ref in self.marked else [*self.marked, ref][-2:]
        self.refresh()
