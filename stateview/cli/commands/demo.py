"""Handler: demo. A workflow fails after a checkpoint; the demo finds the cause and restores the state."""

from __future__ import annotations

import os
import shutil
import sys
from typing import Any

from ... import settings
from ...errors import ReadOnly
from ...manager import StateManager
from ..context import Context
from ..exit_codes import UsageError
from ..results import DiffResult, Result, Text

FOLDER = "stateview-demo"
_FIRST_LINE = "# made by stateview demo; 'stateview demo' makes this folder anew\n"
_TASKS = ("scout", "plan", "build", "test", "release")
_SPEC = """Import the customers' orders.
Take only orders of the last 30 days.
Skip orders that are cancelled.
Write one row for each order.
Stop at the first error."""


def demo(context: Context, args: dict[str, Any]) -> Text:
    """`demo [FOLDER]`."""
    folder = args.get("folder", FOLDER)
    if context.options.get("read_only"):
        raise ReadOnly("demo creates a store, but --read-only was given")
    _clear(folder)
    os.makedirs(folder)
    store = f"sqlite:{os.path.join(folder, 'state')}"
    with open(os.path.join(folder, settings.FILE), "w", encoding="utf-8") as file:
        file.write(_FIRST_LINE + 'store = "sqlite:state"\nnamespace = "import-orders"\n')
    narrator = _Narrator(context)
    with StateManager(store, "nightly-report", author="cron") as state:
        _nightly(state)
    with StateManager(store, "import-orders", author="agent-7") as state:
        _walk(state, narrator)
    program = "stateview" if shutil.which("stateview") else os.path.join(os.path.dirname(sys.executable), "stateview")
    return Text(text=_END.format(folder=folder, program=program))


def _clear(folder: str) -> None:
    path = os.path.join(folder, settings.FILE)
    if not os.path.exists(folder):
        return
    try:
        with open(path, encoding="utf-8") as file:
            is_demo = file.read().startswith(_FIRST_LINE)
    except OSError:
        is_demo = False
    if not is_demo:
        raise UsageError(f"{folder} exists and was not made by demo", "Give another folder: stateview demo FOLDER")
    shutil.rmtree(folder)


class _Narrator:
    """Prints each step: a sentence, the line of Python, and its result."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.number = 0

    def step(self, sentence: str, line: str) -> None:
        """Print the number of the next step, its sentence and its line of Python."""
        self.number += 1
        self.context.show(Text(text=f"\n{self.number}. {sentence}\n   >>> {line}\n"))

    def show(self, result: Result) -> None:
        """Print the result of a step."""
        self.context.show(result)


def _nightly(state: StateManager) -> None:
    for day in range(1, 6):
        with state.transaction(f"report of day {day}") as transaction:
            transaction.save("last_day", f"2026-03-0{day}")
            transaction.save("rows", 1180 + day * 37)
        state.checkpoint(f"day-{day}", note="sent")


def _walk(state: StateManager, narrator: _Narrator) -> None:
    narrator.step("A workflow saves its state under keys as it goes.", 'state.save("phase", "planning")')
    state.save("phase", "planning")
    with state.transaction("plan") as transaction:
        transaction.save("spec", _SPEC)
        for number, name in enumerate(_TASKS, 1):
            value = {"name": name, "state": "done" if number < 3 else "waiting", "tries": 1 if number < 3 else 0}
            transaction.save(f"task:{number:02}", value)
        transaction.save(
            "job", {"user": "dev", "limits": {"tokens": 200_000, "errors": 3}, "files": ["orders.csv", "rates.csv"]}
        )
    narrator.step("Before the risky part it names the state: a checkpoint.", 'state.checkpoint("after_planning")')
    state.checkpoint("after_planning", note="plan approved by dev")
    narrator.step(
        "Then it fails: too many retries, a lost file, a plan rewritten by mistake.", 'state.update("job", …)'
    )
    _fail(state)
    narrator.step(
        "What has changed since the checkpoint, down to single fields of a value?", 'state.diff("after_planning")'
    )
    narrator.show(DiffResult(diff=state.diff("after_planning")))
    blamed = state.blame("job", "/limits/tokens")
    narrator.step(
        f"Who raised the limit? Commit {blamed.revision}, {blamed.reason!r}, by {blamed.author}.",
        'state.blame("job", "/limits/tokens")',
    )
    narrator.step(
        "Restore the job and the plan, and keep the tasks.",
        'state.restore_checkpoint("after_planning", keys=["job", "spec"])',
    )
    narrator.show(DiffResult(diff=state.restore_checkpoint("after_planning", keys=["job", "spec"])))
    narrator.step("Undo the restore. Every action can be undone.", "state.undo()")
    undone = state.undo()
    differing = len(state.diff("after_planning"))
    changed = f"{len(undone)} keys are as before the restore"
    narrator.show(Text(text=f"{changed}. {differing} keys differ from the checkpoint: you can repair them.\n"))


def _fail(state: StateManager) -> None:
    state.save("phase", "building", reason="start build")
    for _ in range(3):
        state.update("task:03", _failed_again, reason="build failed, retry")
    state.update(
        "job", lambda job: {**job, "limits": {"tokens": 2_000_000, "errors": 3}}, reason="raise limits to get through"
    )
    state.update("job", lambda job: {**job, "files": ["orders.csv"]}, reason="clean up files")
    state.update(
        "spec",
        lambda text: text.replace("Stop at the first error.", "Go on after errors.\nLog them."),
        reason="adapt plan",
    )
    state.save("error", {"task": "task:03", "message": "rates.csv: no such file", "at": 3}, reason="report error")
    state.delete("task:05", reason="drop release")


def _failed_again(task: dict[str, Any]) -> dict[str, Any]:
    return {**task, "state": "failed", "tries": task["tries"] + 1}


_END = """
The store is kept in {folder}. Try:

  cd {folder}
  {program} namespaces
  {program} diff after_planning
  {program} history task:03
  {program} blame job /limits/tokens
  {program} restore after_planning --dry-run
"""
