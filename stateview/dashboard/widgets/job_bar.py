"""The line that shows the running job. It is hidden while no job runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, cast

from rich.style import Style
from textual.strip import Strip
from textual.timer import Timer
from textual.widget import Widget

from ...model import ProgressMessage
from ..display.text import RowBuilder, format_duration
from ..display.themes import component_style

if TYPE_CHECKING:
    from ..actions.jobs import Job, Jobs
    from ..app import Dashboard

POLL_SECONDS = 0.2  # how often the progress is painted
GAUGE_COLUMNS = 12


class JobBar(Widget):
    """Shows the newest running job: command, progress, time, and the key that stops it. A click opens the output."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"job--name", "job--dim"}
    DEFAULT_CSS = """
    JobBar { height: 1; display: none; background: $panel; color: $foreground; }
    JobBar.-shown { display: block; }
    JobBar > .job--name { text-style: bold; color: $text-accent; }
    JobBar > .job--dim { color: $text-muted; }
    """

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self._timer: Timer | None = None

    @property
    def _jobs(self) -> Jobs:
        return cast("Dashboard", self.app).acts.jobs

    @property
    def _job(self) -> Job | None:
        return self._jobs.running[-1] if self._jobs.running else None

    def on_mount(self) -> None:
        """Watch jobs start and end. The timer runs only while a job runs."""
        self._timer = self.set_interval(POLL_SECONDS, self.refresh, pause=True)
        self._jobs.watchers.add(self._changed)
        self._changed()

    def on_unmount(self) -> None:
        """Stop watching jobs."""
        self._jobs.watchers.discard(self._changed)

    def _changed(self) -> None:
        shown = self._job is not None
        self.set_class(shown, "-shown")
        if self._timer is not None:
            (self._timer.resume if shown else self._timer.pause)()
        self.refresh()

    def render_line(self, y: int) -> Strip:  # noqa: ARG002
        """Paint the line. The key that stops the job is visible at any width."""
        width, job = self.size.width, self._job
        cells = RowBuilder(width, self.rich_style)
        if job is not None:
            more = len(self._jobs.running) - 1
            end = f" · {format_duration(job.seconds)}{f' · and {more} more' if more else ''} · esc stops "
            name = f" {cast('Dashboard', self.app).short_command(job.line)} "
            progress = f"· {job.progress_text}" if job.progress_text else ""
            room = max(0, width - len(end))
            if room > 50 and (gauge := _gauge(job.progress)):
                cells.add(f" {gauge}", self._style("name"))
                room -= len(gauge) + 1
            cells.add(name, self._style("name"), min(len(name), max(room // 2, room - len(progress))))
            cells.add(progress, self._style("dim"), max(0, cells.left - len(end)))
            cells.add(end, self._style("dim"))
        return Strip(cells.fill(), width)

    def _style(self, role: str) -> Style:
        return component_style(self, f"job--{role}")

    def on_click(self) -> None:
        """Open the output of the job."""
        job = self._job
        if job is not None and job.screen is None:
            self._jobs.open(job)


def _gauge(progress: str) -> str:
    """Return the progress as a bar, or an empty text while the total is unknown."""
    if not isinstance(progress, ProgressMessage) or not progress.total:
        return ""
    full = min(GAUGE_COLUMNS, GAUGE_COLUMNS * progress.done // progress.total)
    return "━" * full + "─" * (GAUGE_COLUMNS - full)
