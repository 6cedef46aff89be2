"""The activity screen: the running jobs and the actions of this session, with their command lines."""

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

POLL_SECONDS = 0.5  # between two looks at the running jobs


class DoneList(TextList):
    """Lists the running jobs, then the actions, the newest first. `lines` are the command lines."""

    def __init__(self, rows: list[Job | CompletedAction]) -> None:
        super().__init__([], empty="nothing was done yet; each action is listed here with its command line")
        self.rows: list[Job | CompletedAction] = []
        self.show(rows)

    def show(self, rows: list[Job | CompletedAction]) -> None:
        """Replace the rows. The cursor stays on its row number."""
        self.rows = rows
        self.lines = [row.line for row in rows]

    def render_row(self, index: int, cells: RowBuilder) -> None:
        """Show the time, the result sign and the command line; in a wide terminal, also the message."""
        row = self.rows[index]
        if isinstance(row, Job):
            when, sign, role, message = (
                f"{format_duration(row.seconds):>8}",
                "…",
                "mark",
                row.progress_text or "running",
            )
        else:
            when = time.strftime("%H:%M:%S", time.localtime(row.time))
            sign, role = ("✓", "dim") if row.succeeded else ("✗", "error")
            if row.stopped:
                sign, role = "■", "mark"
            message = row.outcome
        cells.add(f"{when} ", self.style_of("dim")).add(f"{sign} ", self.style_of(role))
        wide = cells.left > 60
        name = cast("Dashboard", self.app).short_command(row.line)[self.left :]
        cells.add(name, None, cells.left // 2 if wide else None)
        if wide:
            cells.add(f"  {message}", self.style_of("dim"))


class DoneScreen(TextScreen):
    """Shows the list, and the message of the selected row."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("x", "stop", "Stop", id="done.stop"),
    ]
    HELP = "The running jobs and the actions of this session, newest first. Enter shows the output, y copies the line."

    def body(self) -> TextList:
        return DoneList(self._rows())

    def _rows(self) -> list[Job | CompletedAction]:
        acts = self.dashboard.acts
        return [*reversed(acts.jobs.running), *reversed(acts.done)]

    def heading(self) -> str:
        return "Done in this session"

    def on_mount(self) -> None:
        """Update the list while jobs run."""
        self.set_interval(POLL_SECONDS, self._update)

    def _update(self) -> None:
        shown = self.list
        assert isinstance(shown, DoneList)
        rows = self._rows()
        if rows != shown.rows or self.dashboard.acts.jobs.running:
            shown.show(rows)
            shown.count_changed()
            self._show_selected()

    def state(self) -> str:
        shown = self.query_one(DoneList)
        done = f"{plural(len(self.dashboard.acts.done), 'action')} · z undoes the last commit, Z redoes it"
        if not shown.count:
            return done
        row = shown.rows[shown.cursor]
        if isinstance(row, Job):
            return f"{row.progress_text or 'running'} · x stops it · enter shows its output"
        printed = " · enter shows its output" if row.job is not None else ""
        return f"{row.outcome[:400]}{printed}\n{done}"

    def _show_selected(self) -> None:
        if not self.list.search_text:
            self.show_state()
        self.refresh_bindings()

    @on(VirtualList.Highlighted)
    def _moved(self, event: VirtualList.Highlighted) -> None:
        event.stop()
        if type(event) is VirtualList.Highlighted:
            self._show_selected()

    @on(VirtualList.Chosen)
    def _chosen(self, event: VirtualList.Chosen) -> None:
        event.stop()
        row = self.query_one(DoneList).rows[event.index]
        job = row if isinstance(row, Job) else row.job
        if job is None:
            self.dashboard.notify_user("no output of this action is kept")
        else:
            self.dashboard.acts.jobs.open(job)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:  # noqa: ARG002
        """Hide the stop action, unless a running job is selected."""
        if action != "stop":
            return True
        shown = self.query(DoneList)
        rows = shown.first().rows if shown else []
        return bool(rows) and isinstance(rows[min(shown.first().cursor, len(rows) - 1)], Job)

    def action_stop(self) -> None:
        """Stop the selected job."""
        row = self.query_one(DoneList).rows[self.list.cursor]
        if isinstance(row, Job):
            self.dashboard.acts.jobs.stop(row)
            self._update()
