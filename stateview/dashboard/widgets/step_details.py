"""The lines under the list of steps: error or result of the step under the cursor, and who did it."""

from __future__ import annotations

from typing import Any, ClassVar, cast

from textual.strip import Strip
from textual.widget import Widget

from ...arguments import KeyName
from ...errors import StateException
from ...manager import StateManager
from ...workflow.control import StepStatus
from ...workflow.progress import moment_of
from ...workflow.records import step_key
from ..data.background import BackgroundExecutor, Stop
from ..data.step_text import outcome, outcome_lines
from ..display.text import RowBuilder, format_clock, one_line
from ..display.themes import component_style


class StepDetails(Widget):
    """Shows what came of one step, in as many lines as the stylesheet gives."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"details--error", "details--dim"}
    DEFAULT_CSS = """
    StepDetails { height: 4; background: $surface; color: $foreground; border-top: solid $panel-lighten-1; }
    StepDetails > .details--error { color: $text-error; }
    StepDetails > .details--dim { color: $text-muted; }
    """

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self._text, self._trace, self._last, self._is_error = "", [""], "", False

    def show(
        self, manager: StateManager, at: str | None, run: str, step: StepStatus | None, patterns: tuple[str, ...]
    ) -> None:
        """Read a step's entry at a state, and show it. The lines before it stay until it is read."""
        reader = cast("BackgroundExecutor", self.app.reader)  # type: ignore[attr-defined]
        if step is None:
            reader.cancel(self, "step")
            self._take(("", []), {}, "")
            return
        key = step_key(run, step.name)

        def read(_stop: Stop) -> tuple[tuple[str, list[str]], dict[str, Any]]:
            found = manager.load_many([KeyName(key)], at=at).get(key)
            record = found if isinstance(found, dict) else {}
            return outcome(key, record, patterns), record

        def failed(error: Exception) -> None:
            self._take((error.message if isinstance(error, StateException) else str(error), []), {}, step.state)

        reader.submit(self, "step", read, lambda found: self._take(*found, step.state), failed)

    def _take(self, found: tuple[str, list[str]], record: dict[str, Any], state: str) -> None:
        (self._text, self._trace), self._is_error = found, "error" in record
        began = moment_of(record.get("began"))
        parts = [
            state,
            f"began {format_clock(began)}" if began is not None else "",
            f"process {record['process']} on {record.get('host')}" if record.get("process") else "",
        ]
        self._last = one_line(" · ".join(part for part in parts if part))
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """Paint a line."""
        width, height = self.size
        lines = outcome_lines(self._text, self._trace, self._last, width - 2, height)
        cells = RowBuilder(width, self.rich_style)
        if y < len(lines):
            is_last = lines[y] == self._last and y == len(lines) - 1
            role = "dim" if is_last else "error" if self._is_error else ""
            cells.add(f" {lines[y]}", component_style(self, f"details--{role}") if role else None)
        return Strip(cells.fill(), width)
