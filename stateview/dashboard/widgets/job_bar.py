"""A line for the job that runs; not there while none does."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, cast

from rich.style import Style
from textual.strip import Strip
from textual.timer import Timer
from textual.widget import Widget

from ...model import ProgressMessage
from ..display.text import RowBuilder, format_duration

if TYPE_CHECKING:
    from ..actions.jobs import Job
    from ..app import Dashboard

POLL_SECONDS = 0.2  # seconds between two looks at how far it is
GAUGE_COLUMNS = 12  # columns


class JobBar(Widget):
    """What runs, how far it is, for how long, and how to stop it. Place it on any screen; a click opens the output."""

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
    def _job(self) -> Job | None:
        running = cast("Dashboard", self.app).acts.jobs.running
        return running[-1] if running else None

    def on_mount(self) -> None:
        """Hear of jobs that begin and end; nothing is looked at while none runs."""
        self._timer = self.set_interval(POLL_SECONDS, self.refresh, pause=True)
        cast("Dashboard", self.app).acts.jobs.watchers.add(self._changed)
        self._changed()

    def on_unmount(self) -> None:
        """Hear no more."""
        cast("Dashboard", self.app).acts.jobs.watchers.discard(self._changed)

    def _changed(self) -> None:
        shown = self._job is not None
        self.set_class(shown, "-shown")
        if self._timer is not None:
            (self._timer.resume if shown else self._timer.pause)()
        self.refresh()

    def render_line(self, y: int) -> Strip:  # noqa: ARG002
        """Return the line: how to stop it is what is seen in any case."""
        width, job = self.size.width, self._job
        cells = RowBuilder(width, self.rich_style)
        if job is not None:
            board = cast("Dashboard", self.app)
            more = len(board.acts.jobs.running) - 1
            end = f" · {format_duration(job.seconds)}{f' · and {more} more' if more else ''} · esc stops "
            name, far = f" {board.short_command(job.line)} ", f"· {job.told}" if job.told else ""
            room = max(0, width - len(end))
            if room > 50 and (gauge := _gauge(job.progress)):
                cells.add(f" {gauge}", self._style("name"))
                room -= len(gauge) + 1
            cells.add(name, self._style("name"), min(len(name), max(room // 2, room - len(far))))
            cells.add(far, self._style("dim"), max(0, cells.left - len(end)))
            cells.add(end, self._style("dim"))
        return Strip(cells.fill(), width)

    def _style(self, role: str) -> Style:
        return self.get_component_rich_style(f"job--{role}", partial=True)

    def on_click(self) -> None:
        """Show what it prints."""
        job = self._job
        if job is not None and job.screen is None:
            cast("Dashboard", self.app).acts.jobs.open(job)


def _gauge(progress: str) -> str:
    """How far something is as a bar, where that is known."""
    if not isinstance(progress, ProgressMessage) or not progress.total:
        return ""
    full = min(GAUGE_COLUMNS, GAUGE_COLUMNS * progress.done // progress.total)
    return "━" * full + "─" * (GAUGE_COLUMNS - full)
