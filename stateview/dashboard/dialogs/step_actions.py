"""The dialog about a step of a run: whether to have it done again, alone or with all steps after it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...cli.results import Result, plural
from ...workflow.control import StepStatus, done_again
from ...workflow.progress import RunProgress
from ..display.text import one_line
from .confirm import Confirm
from .key_actions import MAX_NAMED_KEYS, options_end

if TYPE_CHECKING:
    from ..app import Dashboard


def again_words(run: str, step: str, alone: bool) -> list[str]:
    """Return the command that has a step done again."""
    return ["run", "retry" if alone else "reset", "--run", run, *options_end(step)]


def again(app: Dashboard, progress: RunProgress, step: StepStatus, alone: bool) -> None:
    """Ask whether the next run is to do a step again, and let it."""
    run = progress.run.name
    steps = done_again({one.name: one.order for one in progress.steps}, step.name, alone=alone)
    words = again_words(run, step.name, alone)
    more = [f"  and {len(steps) - MAX_NAMED_KEYS:,} more"] if len(steps) > MAX_NAMED_KEYS else []
    question = [
        f"Let the next run of {run} do {plural(len(steps), 'step')} again?",
        *(f"  {one_line(name, 200)}" for name in steps[:MAX_NAMED_KEYS]),
        *more,
        "Their results are deleted; the history keeps them. What the steps wrote elsewhere stays. z undoes it.",
    ]

    def done(result: Result) -> None:
        app.notify_user(f"{result.summary} · z undoes it")

    def answered(sure: bool | None) -> None:
        if sure:
            app.acts.run(words, then=done)

    app.push_screen(Confirm(question, app.command_line(words), title="Retry" if alone else "Reset"), answered)
