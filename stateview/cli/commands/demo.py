"""Handler: demo. A workflow that goes wrong after a checkpoint, and how it is found and mended."""

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
_MADE = "# made by stateview demo; 'stateview demo' makes this folder anew\n"
_TASKS = ("scout", "plan", "build", "test", "release")
_SPEC = """Import the customers' orders.
Take only orders of the last 30 days.
Skip orders that are cancelled.
Write one row for each order.
Stop at the first error."""


def demo(context: Context, given: dict[str, Any]) -> Text:
    """`demo [FOLDER]`."""
    folder = given.get("folder", FOLDER)
    if context.options.get("read_only"):
        raise ReadOnly("demo makes a store, and --read-only was given")
    _clear(folder)
    os.makedirs(folder)
    store = f"sqlite:{os.path.join(folder, 'state')}"
    with open(os.path.join(folder, settings.FILE), "w", encoding="utf-8") as file:
        file.write(_MADE + 'store = "sqlite:state"\nnamespace = "import-orders"\n')
    say = _Narrator(context)
    with StateManager(store, "nightly-report", author="cron") as state:
        _nightly(state)
    with StateManager(store, "import-orders", author="agent-7") as state:
        _walk(state, say)
    program = "stateview" if shutil.which("stateview") else os.path.join(os.path.dirname(sys.executable), "stateview")
    return Text(text=_END.format(folder=folder, program=program))


def _clear(folder: str) -> None:
    path = os.path.join(folder, settings.FILE)
    if not os.path.exists(folder):
        return
    try:
        with open(path, encoding="utf-8") as file:
            ours = file.read().startswith(_MADE)
    except OSError:
        ours = False
    if not ours:
        raise UsageError(f"{folder} exists, and is no demo", "Give another folder: stateview demo FOLDER")
    shutil.rmtree(folder)


class _Narrator:
    """Shows a step: a sentence, the line of Python, and what came of it."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.number = 0

    def __call__(self, sentence: str, line: str) -> None:
        self.number += 1
        self.context.show(Text(text=f"\n{self.number}. {sentence}\n   >>> {line}\n"))

    def show(self, result: Result) -> None:
        self.context.show(result)


def _nightly(state: StateManager) -> None:
    for day in range(1, 6):
        with state.transaction(f"report of day {day}") as transaction:
            transaction.save("last_day", f"2026-03-0{day}")
            transaction.save("rows", 1180 + day * 37)
        state.checkpoint(f"day-{day}", note="sent")


def _walk(state: StateManager, say: _Narrator) -> None:
    say("A workflow saves its state under keys as it goes.", 'state.save("phase", "planning")')
    state.save("phase", "planning")
    with state.transaction("plan") as transaction:
        transaction.save("spec", _SPEC)
        for number, name in enumerate(_TASKS, 1):
            value = {"name": name, "state": "done" if number < 3 else "waiting", "tries": 1 if number < 3 else 0}
            transaction.save(f"task:{number:02}", value)
        transaction.save(
            "job", {"user": "dev", "limits": {"tokens": 200_000, "errors": 3}, "files": ["orders.csv", "rates.csv"]}
        )
    say("Before the risky part it names that state: a checkpoint.", 'state.checkpoint("after_planning")')
    state.checkpoint("after_planning", note="plan approved by dev")
    say("Then it goes wrong: a retry storm, a lost file, a plan rewritten by mistake.", 'state.update("job", …)')
    _go_wrong(state)
    say("What changed since the checkpoint, down to the place inside a value?", 'state.diff("after_planning")')
    say.show(DiffResult(diff=state.diff("after_planning")))
    blamed = state.blame("job", "/limits/tokens")
    say(
        f"Who set the limit? Commit {blamed.revision}, {blamed.reason!r}, by {blamed.author}.",
        'state.blame("job", "/limits/tokens")',
    )
    say(
        "Bring back the job and the plan, and leave the tasks.",
        'state.restore_checkpoint("after_planning", keys=["job", "spec"])',
    )
    say.show(DiffResult(diff=state.restore_checkpoint("after_planning", keys=["job", "spec"])))
    say("On second thoughts: take that back. Every act can be.", "state.undo()")
    undone = state.undo()
    state_after = len(state.diff("after_planning"))
    say.show(
        Text(
            text=f"{len(undone)} keys are as before; {state_after} differ from the checkpoint again, for you to mend.\n"
        )
    )


def _go_wrong(state: StateManager) -> None:
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
The store is left for you in {folder}. Go on with:

  cd {folder}
  {program} namespaces
  {program} diff after_planning
  {program} history task:03
  {program} blame job /limits/tokens
  {program} restore after_planning --dry-run
"""
