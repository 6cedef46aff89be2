"""The list of the commits and checkpoints of a namespace, newest first. Each row is a state."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.reactive import reactive

from ...backends.protocol import CheckpointRecord, Head, StateAt
from ...manager import StateManager
from ...model import Commit, now, to_micros
from ...states.matching.ranking import ranked
from ...states.view import resolve
from ..data.background import Stop
from ..data.filters.timeline import COMMITS_PER_PAGE, CommitPage, TimelineFilter
from ..display.run_row import without_run
from ..display.text import RowBuilder, format_age, format_count
from ..display.timeline_row import LIVE, UNRESOLVED, TimelineRow, index_of, insert
from .virtual_list import VirtualList

NEAR_ROWS = 60  # painting a row this close to the end reads older commits
MAX_COMMITS = 2 * COMMITS_PER_PAGE  # commits in memory below the last visible row


class Timeline(VirtualList):
    """Lists the states of a namespace. Older commits are read as the user scrolls down."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "mark", "Mark", show=False, id="timeline.mark"),
        Binding("less_than_sign", "side(0)", "Diff from here", show=False, key_display="<", id="timeline.from"),
        Binding("greater_than_sign", "side(1)", "Diff to here", show=False, key_display=">", id="timeline.to"),
        Binding("C", "checkpoints", "Checkpoints only", show=False, id="timeline.checkpoints"),
    ]

    status: reactive[str] = reactive("", repaint=False)
    """What is listed, if that is not everything."""

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self._manager: StateManager | None = None
        self._head = Head()
        self._has_head = False  # whether `_head` has been read. Also an empty namespace has a head
        self._marks: list[CheckpointRecord] = []
        self._commits: list[Commit] = []
        self._newest = self._oldest = 0  # the revisions that the commits in memory reach from and to; 0: none was read
        self._whole = False  # whether the oldest retained commit has been read
        self._wanted = TimelineFilter()
        self._seeking = False  # the cursor goes to the best match as soon as one has been read
        self._reading_older = False
        self._rows: list[TimelineRow] = [LIVE]
        self.marked: list[str] = []  # at most two refs, in the order of marking
        self.sides: list[str | None] = [None, None]  # the refs of the states that a diff goes from and to
        self.checkpoints_only = False  # hides the commits

    @property
    def count(self) -> int:
        return len(self._rows)

    @property
    def line(self) -> TimelineRow:
        """The row under the cursor."""
        return self._rows[self.cursor]

    # --- what is shown -----------------------------------------------------------------------------------------

    def show(self, manager: StateManager) -> None:
        """Show another namespace."""
        self._manager, self._has_head = manager, False
        self._stop_reading()
        self._marks, self._head, self.marked, self._wanted, self._seeking = [], Head(), [], TimelineFilter(), False
        self.sides = [None, None]
        self._forget()
        self._rebuild(LIVE)

    def update_head(self, head: Head, marks: list[CheckpointRecord]) -> None:
        """Show a new head and the present checkpoints, and read the new commits. Marks and cursor stay."""
        if head.lineage != self._head.lineage or head.revision < self._head.revision:
            self._stop_reading()
            self._forget()
            if self._has_head:
                self._rebuild(LIVE)  # the states that were listed are gone
        newer = head.revision > self._newest
        self._head, self._marks, self._has_head = head, marks, True
        if newer:
            self._read_newer()  # rebuilds the rows afterwards
        else:
            self._rebuild()

    def reload(self) -> None:
        """Read the commits again: another process may have sealed their texts. The rows stay until they are read."""
        if self._head.revision:
            self._read_newer(again=True)

    def go_to(self, ref: str) -> None:
        """Move the cursor to the state of a ref. A state without a row gets one."""
        if ref != self.line.ref:
            self._rebuild(TimelineRow(int(ref) if ref.isdecimal() else UNRESOLVED, other=ref))

    def filter(self, text: str) -> None:
        """List the states that match a filter, see `TimelineFilter`. The present state keeps its row."""
        wanted = TimelineFilter(text)
        before, self._wanted, self._seeking = self._wanted, wanted, False
        if before.hides or wanted.hides:
            self._stop_reading()
            self._forget()
            self._rebuild()
            self._read_newer(again=True)
        self._update_status()

    def go_to_best(self) -> None:
        """Move to the state that the filter names, or to its best match, as soon as that has been read."""
        typed = self._wanted.typed
        if self._wanted.is_ref:
            self.go_to(typed)
            return
        rows = [row for row in self._rows if (row.mark or row.commit) is not None]
        best = ranked(typed, rows, lambda row: self._wanted.names_of(row.commit, row.mark, row.ref))
        best = best or rows[:1]
        self._seeking = not best
        if best:
            self.cursor = self._rows.index(best[0])
        elif self._whole:
            self.dashboard.notify_user(f"no commit and no checkpoint matches {typed!r}")

    def _update_status(self) -> None:
        if not self._wanted.hides:
            self.status = "C: all" if self.checkpoints_only else ""
            return
        count = sum((row.mark or row.commit) is not None for row in self._rows)
        self.status = f"{count:,} found" + ("" if self._whole else "…")

    def _forget(self) -> None:
        self._commits, self._newest, self._oldest, self._whole = [], 0, 0, False

    def in_order(self, first: str, second: str) -> tuple[str, str]:
        """Return two refs with the earlier state first. A ref without a row counts as live."""
        indexes = {row.ref: index for index, row in enumerate(self._rows)}
        return (first, second) if indexes.get(first, 0) >= indexes.get(second, 0) else (second, first)

    def unmark(self) -> None:
        """Remove all marks."""
        self.marked, self.sides = [], [None, None]
        self.refresh()

    @property
    def held(self) -> list[str]:
        """The refs of all marks, which keep their rows."""
        return [*self.marked, *(ref for ref in self.sides if ref is not None)]

    @property
    def density(self) -> tuple[list[int], int]:
        """The keys of each commit in memory, newest first, and the index of the commit of the cursor's state."""
        revision = self.line.revision
        at = next((index for index, one in enumerate(self._commits) if one.revision <= revision), -1)
        return [commit.keys for commit in self._commits], at

    def _stop_reading(self) -> None:
        """Cancel all reads of the log."""
        for slot in ("newer", "older", "position"):
            self.dashboard.reader.cancel(self, slot)
        self._reading_older = False

    def _read_newer(self, again: bool = False) -> None:
        """Read the commits after those in memory. If there are too many, the newest replace those in memory.

        Args:
            again: replace those in memory by as many.

        """
        manager, newest, wanted = self._manager, 0 if again else self._newest, self._wanted
        if manager is None:
            return
        head = self._head.revision
        limit = max(len(self._commits) if again else 0, min(COMMITS_PER_PAGE, self._head.revision - newest))

        def read(stop: Stop) -> tuple[CommitPage, bool, int]:
            commits: list[Commit] = []
            first, below = head if wanted.hides else 0, 0
            while not stop():
                page = wanted.read(manager, below, stop, max(1, limit))
                commits += [commit for commit in page.commits if commit.revision > newest]
                first, below = first or (page.commits[0].revision if page.commits else 0), page.oldest
                read = CommitPage(commits, page.oldest, page.whole)
                if page.whole or page.oldest <= newest + 1 or not newest:
                    return read, bool(newest), first
                if len(commits) > 4 * COMMITS_PER_PAGE:
                    return read, False, first
            return CommitPage(commits, below, False), False, first

        self.dashboard.reader.submit(self, "newer", read, self._take_newer, self._failed)

    def _take_newer(self, result: tuple[CommitPage, bool, int]) -> None:
        page, joins, first = result
        self._commits = page.commits + self._commits if joins else page.commits
        self._whole = self._whole if joins else page.whole
        self._newest = max(first, self._newest)
        self._oldest = self._oldest if joins else page.oldest
        self._drop_oldest(len(page.commits))
        self._rebuild()

    def _drop_oldest(self, new: int) -> None:
        """Drop commits far below the visible rows, so that a busy writer does not fill the memory.

        At the top of the list their number then stays constant, and new commits change no layout.
        """
        held = self.held
        marked = [index for index, row in enumerate(self._rows) if row.ref in held] if held else []
        lowest = max(self.cursor, self.scroll_offset.y, *marked)
        limit = MAX_COMMITS + (lowest + new if lowest else 0)
        if len(self._commits) > limit:
            self._commits, self._whole = self._commits[:limit], False
            self._oldest = self._commits[-1].revision

    def _read_older(self) -> None:
        manager = self._manager
        if manager is None or self._reading_older:
            return
        self._reading_older, below, wanted = True, self._oldest, self._wanted

        def read(stop: Stop) -> CommitPage:
            return wanted.read(manager, below, stop)

        def append(page: CommitPage) -> None:
            self._reading_older = False
            if self._oldest == below:
                self._whole, self._oldest = page.whole, page.oldest or below
                self._commits += page.commits
                self._rebuild()

        def failed(error: Exception) -> None:
            self._reading_older = False
            self._failed(error)

        self.dashboard.reader.submit(self, "older", read, append, failed)

    def _failed(self, error: Exception) -> None:
        self.post_message(self.Failed(error))

    def _rebuild(self, at: TimelineRow | None = None) -> None:
        """Build the rows again, with the cursor on a state, by default on the same one. O(commits in memory)."""
        self._commits = [commit for commit in self._commits if commit.revision > self._head.floor]
        before, at = self.line.ref, at or self.line
        current = {mark.name: mark for mark in self._marks}
        marks = sorted(self._marks, key=lambda mark: mark.revision)  # stable: of one revision, the newest mark is last
        rows = [LIVE._replace(revision=self._head.revision)]
        kept = {at.ref, *self.held}
        for commit in self._commits:
            while marks and marks[-1].revision >= commit.revision:
                mark = marks.pop()
                rows.append(TimelineRow(mark.revision, mark, None, current[mark.name] is mark))
            if not self.checkpoints_only or str(commit.revision) in kept:
                rows.append(TimelineRow(commit.revision, None, commit))
        rows += [TimelineRow(mark.revision, mark, None, current[mark.name] is mark) for mark in reversed(marks)]
        if self._wanted.hides:
            rows = [row for row in rows if row.mark is None or row.ref in kept or self._wanted.accepts_mark(row.mark)]
        for row in self._rows:
            if row.other and row.ref in self.held and row is not at:
                insert(rows, row)
        cursor = index_of(rows, at) or insert(rows, at)
        self._rows = rows
        indexes = {row.ref: index for index, row in enumerate(rows)}
        self.marked = [ref for ref in self.marked if ref in indexes]
        self.sides = [ref if ref in indexes else None for ref in self.sides]
        with self.prevent(VirtualList.Highlighted):  # only the index of the cursor changes, not its state
            self.count_changed()
            self.cursor = cursor
        if self.line.ref != before:
            self.post_message(self.Highlighted(self, self.cursor))
        if self.line.revision == UNRESOLVED and self._has_head:
            self._resolve(self.line.other)
        self._update_status()
        if self._seeking:
            self.go_to_best()

    def _resolve(self, ref: str) -> None:
        """Find the revision of a ref such as `@2h`, so that later commits do not change which state it names."""
        manager = self._manager
        if manager is None:
            return

        def resolved(state: StateAt) -> None:
            if self.line.ref == ref:
                self._rebuild(TimelineRow(state.revision, other=str(state.revision)))

        # If it fails, the list of keys, which needs it too, shows the error.
        self.dashboard.reader.submit(
            self, "position", lambda _: resolve(manager.backend, ref), resolved, lambda _error: None
        )

    # --- painting and moving -----------------------------------------------------------------------------------

    def render_row(self, index: int, cells: RowBuilder) -> None:
        row, dim = self._rows[index], self.style_of("dim")
        sign = "<" if row.ref == self.sides[0] else ">" if row.ref == self.sides[1] else ""
        cells.add(sign or ("✓" if row.ref in self.marked else " "), self.style_of("mark"))
        if row.mark is not None:
            age = f"{format_age(row.mark.time, now()):>6}"
            role = "key" if row.current else "dim"
            cells.add("○ ", self.style_of("mark"))
            room = max(4, cells.left - len(age) - 1)
            cells.add(row.ref + (f"  {row.mark.note}" if row.mark.note else ""), self.style_of(role), room)
            cells.add(f" {age}", dim)
        elif row.commit is not None:
            commit = row.commit
            cells.add("│ ", dim).add(f"{commit.revision} ", dim)
            age = f" {format_age(to_micros(commit.time), now()):>6}"
            keys = f" {format_count(commit.keys)}"
            is_wide = cells.left > 44
            author = f" {commit.author}" if commit.author and is_wide else ""
            room = max(4, cells.left - len(age) - len(keys) - len(author))
            cells.add((commit.reason if is_wide else without_run(commit.reason)) or "-", None, room)
            cells.add(author, dim).add(keys, self.style_of("number")).add(age, dim)
        elif row.other:
            cells.add("◇ ", self.style_of("mark")).add(row.other, self.style_of("key"))
        else:
            cells.add("● ", self.style_of("mark")).add("live", self.style_of("key"))
            empty = "nothing was saved yet" if self._has_head else "⋯"
            cells.add(f"  r{self._head.revision}" if self._head.revision else f"  {empty}", dim)
        # A state far below the rows in memory is no reason to read all rows in between.
        is_near = index >= self.count - NEAR_ROWS and self._oldest > 0
        if is_near and not self._whole and (self._wanted.hides or not self.line.other):
            self._read_older()

    def action_side(self, side: int) -> None:
        """Let the next diff go from the state under the cursor, or to it; on the same state again, remove that."""
        ref = self.line.ref
        self.sides[side] = None if self.sides[side] == ref else ref
        if self.sides[1 - side] == ref:
            self.sides[1 - side] = None
        self.refresh()

    def action_checkpoints(self) -> None:
        """Hide the commits, or show them again."""
        self.checkpoints_only = not self.checkpoints_only
        self._rebuild()

    def step_checkpoint(self, by: int) -> None:
        """Move to the next older checkpoint, or the next newer one: above the newest is live."""
        indexes = [index for index, row in enumerate(self._rows) if row.mark is not None or not index]
        after = [index for index in indexes if (index - self.cursor) * by > 0]
        if after:
            self.cursor = after[0] if by > 0 else after[-1]
        elif self._whole or by < 0:
            self.dashboard.notify_user("no further checkpoint" + self.dashboard.unless_read_only(": c creates one"))

    def action_mark(self) -> None:
        """Mark the state under the cursor, or remove its mark. A third mark removes the first."""
        ref = self.line.ref
        if ref in self.marked:
            self.marked.remove(ref)
        else:
            self.marked = [*self.marked, ref][-2:]
        self.refresh()
