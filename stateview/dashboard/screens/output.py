"""What a command prints, as it comes."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.binding import Binding, BindingType

from ...cli.results import plural
from ..display.text import format_duration
from ..widgets.filter_bar import FilterBar
from ..widgets.json_view import JsonView
from ..widgets.text_list import TextList, by_sign
from ..widgets.virtual_list import VirtualList
from .text_base import TextScreen

if TYPE_CHECKING:
    from ..actions.jobs import Job, OutputTarget

POLL_SECONDS = 0.1  # seconds between two looks at what has come


class OutputScreen(TextScreen):
    """The output of a job; leaving it while it runs needs two steps, so that nothing goes on unseen by mistake."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "back", "Stop / back", id="output.back"),
        Binding("b", "background", "Go on in the background", id="output.background"),
    ]
    HELP = (
        "What a command prints, as it comes. While it runs, esc stops it and b leaves it running: its progress stays\n"
        "on the main screen, and the list of what was done shows its output. Kept are the first 100,000 lines.\n"
        "Enter on a line of 'find' goes to what was found."
    )

    def __init__(self, job: Job) -> None:
        super().__init__()
        self.job = job
        self._seen = -1
        self._told_end = False

    def body(self) -> TextList:
        """Return the lines so far."""
        return TextList(self.job.output.lines, self._role)

    def _role(self, text: str) -> str:
        return by_sign(text) if self.job.output.signs else ""

    def heading(self) -> str:
        """Return the command line."""
        return self.dashboard.short_command(self.job.line)

    def on_mount(self) -> None:
        """Look at what comes until the job has ended."""
        self._timer = self.set_interval(POLL_SECONDS, self._look)

    def on_unmount(self) -> None:
        """Let later messages of the job become notices."""
        if self.job.screen is self:
            self.job.screen = None

    def _look(self) -> None:
        lines = len(self.job.output.lines)
        if lines != self._seen:
            self._seen = lines
            self.list.count_changed()
        if not self.list.sought:
            self.show_state(wrong=not self.job.running and not self.job.well and not self.job.stopped)
        if not self.job.running and not self._told_end:
            self._told_end = True
            self._timer.stop()
            self.refresh_bindings()

    def state(self) -> str:
        """How far it is, or how it ended."""
        job = self.job
        lines = plural(len(job.output.lines), "line") + (
            ", and no more are kept: '> FILE' writes all" * job.output.full
        )
        if job.running:
            return " · ".join(part for part in ("running", format_duration(job.seconds), job.told, lines) if part)
        code = f"exit code {job.code}" if job.code and not job.stopped else ""
        return " · ".join(part for part in (job.said, code, lines) if part)

    @on(VirtualList.Chosen)
    def _chosen(self, event: VirtualList.Chosen) -> None:
        event.stop()
        found = self.job.output.found.get(event.index)
        if found is not None:
            self._go_to(found)

    def _go_to(self, found: OutputTarget) -> None:
        """Go to a key on the main screen, and to the place in its value. What runs here goes on."""
        app, job, main = self.dashboard, self.job, self.dashboard.main
        if main is None or (app.manager.url, app.manager.namespace) != (job.url, job.namespace):
            app.notify_user("that is of another namespace than the one that is looked at")
            return
        from .edit import EditScreen

        over = app.screen_stack[app.screen_stack.index(main) + 1 :]
        if any(isinstance(screen, EditScreen) for screen in over):
            app.notify_user("first end what is edited here")
            return
        for _ in over:
            app.pop_screen()
        main.query_one(FilterBar).clear()
        main.keys.filter("")  # now: what clears the bar comes in its turn
        if job.at != (app.at or "live"):
            main.timeline.go_to(job.at)
            app.show_state(job.at)
        main.keys.go_to(found.key)
        main.query_one(JsonView).expect(*found)
        main.action_pane("json" if found.pointer or found.at is not None else "keys")

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:  # noqa: ARG002
        """There is nothing to leave running once it has ended."""
        return action != "background" or self.job.running

    def leave(self) -> None:
        """Stop the job; once it has ended, leave."""
        if self.job.running and not self.job.stopping:
            self.dashboard.acts.jobs.stop(self.job)
            self.show_state()
        else:
            self.dismiss(None)

    def action_background(self) -> None:
        """Leave, and let it go on."""
        self.dismiss(None)
