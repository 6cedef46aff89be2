"""The output screen: what a command prints, while it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.binding import Binding, BindingType

from ...cli.results import plural
from ..display.text import format_duration
from ..widgets.text_list import TextList, by_sign
from ..widgets.value.json_view import JsonView
from ..widgets.virtual_list import VirtualList
from .text_base import TextScreen

if TYPE_CHECKING:
    from ..actions.jobs import Job, OutputTarget
    from .main import MainScreen

POLL_SECONDS = 0.1  # between two looks at the output


class OutputScreen(TextScreen):
    """Shows the output of a job. While the job runs, escape stops it; only a second escape leaves the screen."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "back", "Stop / back", id="output.back"),
        Binding("b", "background", "Continue in the background", id="output.background"),
    ]
    HELP = (
        "The output of a command. While it runs, esc stops it, and b leaves it running: its progress stays on the\n"
        "main screen, and @ lists it with its output. The first 100,000 lines are kept. Enter on a line of 'find'\n"
        "goes to its key and place; Enter on the output of 'blame' goes to the commit."
    )

    def __init__(self, job: Job) -> None:
        super().__init__()
        self.job = job
        self._shown_lines = -1
        self._ended = False  # the screen shows the end of the job

    def body(self) -> TextList:
        return TextList(self.job.output.lines, self._role)

    def _role(self, text: str) -> str:
        return by_sign(text) if self.job.output.signs else ""

    def heading(self) -> str:
        return self.dashboard.short_command(self.job.line)

    def on_mount(self) -> None:
        """Update the screen until the job has ended."""
        self._timer = self.set_interval(POLL_SECONDS, self._update)

    def on_unmount(self) -> None:
        """Detach the screen from the job, so that the app shows the later messages of the job as notices."""
        if self.job.screen is self:
            self.job.screen = None

    def _update(self) -> None:
        lines = len(self.job.output.lines)
        if lines != self._shown_lines:
            self._shown_lines = lines
            self.list.count_changed()
        if not self.list.search_text:
            self.show_state(wrong=not self.job.running and not self.job.succeeded and not self.job.stopped)
        if not self.job.running and not self._ended:
            self._ended = True
            self._timer.stop()
            self.refresh_bindings()

    def state(self) -> str:
        job = self.job
        lines = plural(len(job.output.lines), "line")
        if job.output.full:
            lines += " kept, further ones dropped: '> FILE' writes all"
        if job.running:
            return " · ".join(
                part for part in ("running", format_duration(job.seconds), job.progress_text, lines) if part
            )
        code = f"exit code {job.code}" if job.code and not job.stopped else ""
        return " · ".join(part for part in (job.outcome, code, lines) if part)

    @on(VirtualList.Chosen)
    def _chosen(self, event: VirtualList.Chosen) -> None:
        event.stop()
        output = self.job.output
        target = output.targets.get(event.index)
        if target is not None:
            self._go_to(target)
        elif output.revision is not None and (main := self._to_main()) is not None:
            self.dashboard.show_state(str(output.revision))
            main.action_pane("timeline")

    def _to_main(self) -> MainScreen | None:
        """Close the screens above the main one. If that cannot be, show the reason, and return None."""
        app, job, main = self.dashboard, self.job, self.dashboard.main
        if main is None or (app.manager.url, app.manager.namespace) != (job.url, job.namespace):
            app.notify_user(f"this line is about {job.namespace}; the dashboard shows {app.manager.namespace}")
            return None
        from .edit import EditScreen

        above = app.screen_stack[app.screen_stack.index(main) + 1 :]
        if any(isinstance(screen, EditScreen) for screen in above):
            app.notify_user("a value is being edited; save it or leave it first")
            return None
        for _ in above:
            app.pop_screen()
        return main

    def _go_to(self, target: OutputTarget) -> None:
        """Select a key on the main screen, and a place in its value. The job continues."""
        main = self._to_main()
        if main is None:
            return
        main.key_filter.clear()
        main.keys.filter("")  # at once; the message of the cleared bar would come after `go_to`
        self.dashboard.show_state(self.job.at)
        main.keys.go_to(target.key)
        main.query_one(JsonView).expect(*target)
        main.action_pane("json" if target.pointer or target.at is not None else "keys")

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:  # noqa: ARG002
        """Hide the background action once the job has ended."""
        return action != "background" or self.job.running

    def leave(self) -> None:
        """Stop the job, or leave if it has ended or is stopping."""
        if self.job.running and not self.job.stopping:
            self.dashboard.acts.jobs.stop(self.job)
            self.show_state()
        else:
            self.dismiss(None)

    def action_background(self) -> None:
        """Leave the screen. The job continues."""
        self.dismiss(None)
