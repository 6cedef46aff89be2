"""What was done in this session, with the command line of each."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, ClassVar, cast

from textual import on
from textual.binding import Binding, BindingType

from ...cli.results import plural
from ..actions.jobs import Job
from ..actions.runner import CompletedAction
from ..display.text import RowBuilder, format_duration
from ..widgets.text_list import TextList
from ..widgets.virtual_list import VirtualList
from .text_base import TextScreen

if TYPE_CHECKING:
    from ..app import Dashboard

POLL_SECONDS = 0.5  # seconds between two looks at what runs


class DoneList(TextList):
    """What runs, then what was done, newest first. `lines` are the command lines."""

    def __init__(self, rows: list[Job | CompletedAction]) -> None:
        super().__init__([], empty="nothing was done yet; each act is listed here with its command line")
        self.rows: list[Job | CompletedAction] = []
        self.show(rows)

    def show(self, rows: list[Job | CompletedAction]) -> None:
        """Other rows; the cursor stays where it was."""
        self.rows = rows
        self.lines = [row.line for row in rows]

    def render_row(self, index: int, cells: RowBuilder) -> None:
        """When, how it ended, and the command line; what came of it where there is room."""
        row = self.rows[index]
        if isinstance(row, Job):
            when, sign, role, said = f"{format_duration(row.seconds):>8}", "…", "mark", row.told or "running"
        else:
            when = time.strftime("%H:%M:%S", time.localtime(row.time))
            sign, role = ("✓", "dim") if row.well else ("✗", "error")
            if row.stopped:
                sign, role = "■", "mark"
            said = row.said
        cells.add(f"{when} ", self.style_of("dim")).add(f"{sign} ", self.style_of(role))
        wide = cells.left > 60
        name = cast("Dashboard", self.app).short_command(row.line)[self.left :]
        cells.add(name, None, cells.left // 2 if wide else None)
        if wide:
            cells.add(f"  {said}", self.style_of("dim"))


class DoneScreen(TextScreen):
    """The list, newest first."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("x", "stop", "Stop", id="done.stop"),
    ]
    HELP = "What runs, and what was done here, newest first. Enter shows what was printed; y copies the command line."

    def body(self) -> TextList:
        """Return what there is now."""
        return DoneList(self._rows())

    def _rows(self) -> list[Job | CompletedAction]:
        acts = self.dashboard.acts
        return [*reversed(acts.jobs.running), *reversed(acts.done)]

    def heading(self) -> str:
        """Return the title."""
        return "Done in this session"

    def on_mount(self) -> None:
        """Follow what runs."""
        self.set_interval(POLL_SECONDS, self._look)

    def _look(self) -> None:
        shown = self.list
        assert isinstance(shown, DoneList)
        rows = self._rows()
        if rows != shown.rows or self.dashboard.acts.jobs.running:
            shown.show(rows)
            shown.count_changed()
            self._tell()

    def state(self) -> str:
        """Return what came of the act under the cursor."""
        shown = self.query_one(DoneList)
        done = f"{plural(len(self.dashboard.acts.done), 'act')} · z undoes the last commit, Z does it again"
        if not shown.count:
            return done
        row = shown.rows[shown.cursor]
        if isinstance(row, Job):
            return f"{row.told or 'running'} · x stops it · enter shows what it prints"
        printed = " · enter shows what it printed" if row.job is not None else ""
        return f"{row.said[:400]}{printed}\n{done}"

    def _tell(self) -> None:
        if not self.list.sought:
            self.show_state()
        self.refresh_bindings()

    @on(VirtualList.Highlighted)
    def _moved(self, event: VirtualList.Highlighted) -> None:
        event.stop()
        if type(event) is VirtualList.Highlighted:
            self._tell()

    @on(VirtualList.Chosen)
    def _chosen(self, event: VirtualList.Chosen) -> None:
        event.stop()
        row = self.query_one(DoneList).rows[event.index]
        job = row if isinstance(row, Job) else row.job
        if job is None:
            self.dashboard.notify_user("it printed nothing that is kept")
        else:
            self.dashboard.acts.jobs.open(job)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:  # noqa: ARG002
        """Only what runs can be stopped."""
        if action != "stop":
            return True
        shown = self.query(DoneList)
        rows = shown.first().rows if shown else []
        return bool(rows) and isinstance(rows[min(shown.first().cursor, len(rows) - 1)], Job)

    def action_stop(self) -> None:
        """Stop the job under the cursor."""
        row = self.query_one(DoneList).rows[self.list.cursor]
        if isinstance(row, Job):
            self.dashboard.acts.jobs.stop(row)
            self._look()
