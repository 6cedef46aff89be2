"""The list of the steps of a run at one state, in their order, and below them the other runs."""

from __future__ import annotations

from contextlib import suppress
from typing import ClassVar

from rich.cells import cell_len
from textual.binding import Binding, BindingType
from textual.message import Message

from ...errors import Sealed
from ...manager import StateManager
from ...model import now
from ...states.view import StateView, resolve
from ...workflow.control import StepStatus
from ...workflow.progress import ProgressReader, RunGlance, RunProgress, newest_run, seconds_of
from ..data.background import Stop
from ..display.run_row import ROLES, bar, format_seconds, run_texts, sign_of
from ..display.text import RowBuilder, fit_end, one_line
from .virtual_list import VirtualList

AGAIN_SECONDS = 5.0  # a run that goes on is read again: its process may end without a commit
_BAR_SHARE = 4  # the bars take one column of so many
_TIME_COLUMNS = 8


class StepList(VirtualList):
    """Lists the steps of one run: the one that was chosen, or else the newest. What goes on grows."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("A", "again(True)", "Retry", id="steps.retry"),
        Binding("B", "again(False)", "Reset from here", id="steps.reset"),
    ]

    class Read(Message):
        """The run was read. `has_runs` says whether the namespace has runs, though maybe none at this state."""

        def __init__(self, has_runs: bool) -> None:
            super().__init__()
            self.has_runs = has_runs

    class Again(Message):
        """Asks to have a step done again: alone, or with all steps after it."""

        def __init__(self, step: StepStatus, alone: bool) -> None:
            super().__init__()
            self.step = step
            self.alone = alone

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self._manager: StateManager | None = None
        self._at: str | None = None  # the ref that is shown; None is live
        self._reader = ProgressReader()
        self._chosen: str | None = None  # the name of the run that the user chose
        self._next_run: str | None = None  # see `choose_at_next`
        self._point = 0  # the time of the state that is shown, in microseconds
        self.progress: RunProgress | None = None
        self._going_on: list[StepStatus] = []
        self._longest = 0.0  # seconds, of the steps that have ended

    def on_mount(self) -> None:
        """Let what goes on grow."""
        self.set_interval(1.0, self._grow)
        self.set_interval(AGAIN_SECONDS, self._read_running)

    @property
    def count(self) -> int:
        return len(self.progress.steps) + len(self.progress.others) if self.progress is not None else 0

    @property
    def step(self) -> StepStatus | None:
        """The step under the cursor."""
        if self.progress is None or not 0 <= self.cursor < len(self.progress.steps):
            return None
        return self.progress.steps[self.cursor]

    @property
    def other(self) -> RunGlance | None:
        """The other run under the cursor."""
        if self.progress is None:
            return None
        index = self.cursor - len(self.progress.steps)
        return self.progress.others[index] if 0 <= index < len(self.progress.others) else None

    # --- what is shown -----------------------------------------------------------------------------------------

    def show(self, manager: StateManager, at: str | None) -> None:
        """Show the run of a namespace at a state."""
        if manager is not self._manager:
            self._reader, self._chosen, self.progress = ProgressReader(), self._next_run, None
            self._next_run = None
            self.count_changed()
        self._manager, self._at = manager, at
        self.read()

    def choose_at_next(self, run: str | None) -> None:
        """Show a run of the namespace that is shown next, None is its newest run."""
        self._next_run = run

    def choose(self, run: str) -> None:
        """Show another run."""
        self._chosen = run
        self.read()

    def read(self) -> None:
        """Read the run again. The present rows stay until it is read."""
        manager, at, reader, run = self._manager, self._at, self._reader, self._chosen
        if manager is None:
            return

        def read_run(_stop: Stop) -> tuple[RunProgress | None, bool, int]:
            with suppress(Sealed):  # no key opens the entries: nothing is known of runs
                if at is None:
                    found = reader.read(manager, run)
                    return found, found is not None, 0
                point = resolve(manager.backend, at)
                found = reader.read(StateView(manager.backend, point, at), run, is_live=False)
                return found, found is not None or newest_run(manager) is not None, point.time
            return None, False, 0

        self.dashboard.reader.submit(self, "run", read_run, self._take, self._failed)

    def _failed(self, error: Exception) -> None:
        if self.progress is not None:  # else this pane is not seen
            self.post_message(self.Failed(error))

    def _take(self, found: tuple[RunProgress | None, bool, int]) -> None:
        """Show what was read. The cursor stays on its step; on the one where the run is, it goes with the run."""
        progress, has_runs, self._point = found
        before, step, other = self.progress, self.step, self.other
        self.progress = progress
        steps = progress.steps if progress is not None else []
        self._going_on = [one for one in steps if one.state == "running"]
        self._longest = max((one.duration or 0.0 for one in steps), default=0.0)
        index: int | None = None
        if progress is None:
            pass
        elif before is None or before.run.name != progress.run.name or self.cursor == _active(before):
            index = _active(progress)
        elif step is not None:
            index = progress.index_of(step.name)
        elif other is not None:
            names = [one.name for one in progress.others]
            index = len(progress.steps) + names.index(other.name) if other.name in names else None
        with self.prevent(VirtualList.Highlighted):
            self.count_changed()
            if index is not None:
                self.cursor = index
        self.post_message(self.Read(has_runs))

    def _grow(self) -> None:
        if self.progress is not None and self.size.height:
            self.refresh()

    def _read_running(self) -> None:
        is_seen = self._at is None and self.size.height > 0
        if is_seen and self.progress is not None and self.progress.run.state == "running":
            self.read()

    def on_resize(self) -> None:
        """Leave no row empty while rows above are out of sight."""
        top = min(self.scroll_offset.y, max(0, self.count - self.size.height))
        self.scroll_to(y=top, animate=False, force=True, immediate=True)

    # --- painting and moving -----------------------------------------------------------------------------------

    def render_row(self, index: int, cells: RowBuilder) -> None:
        progress = self.progress
        assert progress is not None, "without a run there is no row"
        if index >= len(progress.steps):
            run = progress.others[index - len(progress.steps)]
            texts = run_texts(run, now())
            text = next((text for text in texts if cell_len(text) + cell_len(run.name) + 4 <= cells.left), texts[-1])
            cells.add("▸ ", self.style_of("dim")).add(run.name, self.style_of("key"), cells.left - cell_len(text) - 1)
            cells.add(f" {text}", self.style_of(ROLES.get(run.state, "dim")))
            return
        step, moment = progress.steps[index], self.moment
        seconds = seconds_of(step, moment)
        role = self.style_of(ROLES.get(step.state, "dim"))
        cells.add(f"{sign_of(step.state)} ", role)
        width = cells.left // _BAR_SHARE if cells.left >= 24 else 0
        tries = f" ×{step.tries}" if step.tries > 1 else ""
        items = f" ({step.items:,})" if step.items else ""
        room = max(4, cells.left - width - _TIME_COLUMNS - len(tries) - len(items) - 1)
        cells.add(fit_end(one_line(step.name), room), self.style_of("key"))
        cells.add(items, self.style_of("number")).add(tries, self.style_of("changed"))
        if width:
            longest = max([self._longest, *(seconds_of(one, moment) or 0.0 for one in self._going_on)])
            cells.add(f" {bar(seconds or 0.0, longest, width)}", role)
        cells.add(f"{'' if seconds is None else format_seconds(seconds):>{_TIME_COLUMNS}}", self.style_of("number"))

    @property
    def moment(self) -> int:
        """The time until which a step that goes on has lasted: on the screen of a past state it stays as it was."""
        return now() if self._at is None else self._point

    def empty_text(self) -> list[str]:
        return ["no run at this state"] if self._at is not None else []

    def action_again(self, alone: bool) -> None:
        """Ask to have the step under the cursor done again."""
        if self.step is not None:
            self.post_message(self.Again(self.step, alone))
        else:
            self.dashboard.notify_user("the cursor is on no step", wrong=True)


def _active(progress: RunProgress) -> int:
    """Return the index of the step where the run is, or where it stopped: else of the last step."""
    index = progress.index_of(progress.run.step) if progress.run.step is not None else None
    going = next((at for at, one in enumerate(progress.steps) if one.state in ("running", "failed")), None)
    return next((at for at in (index, going) if at is not None), max(0, len(progress.steps) - 1))
