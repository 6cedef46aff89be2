"""Handler: run. It lists runs and steps, has steps done again, and takes a run away from a process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...errors import InvalidArgument
from ...workflow import control
from ..context import Context
from ..exit_codes import UsageError
from ..results import ActionResult, Result, Table, plural


def run(context: Context, args: dict[str, Any]) -> Result:
    """`run ACT [NAME]`."""
    act: Callable[[Context, dict[str, Any]], Result] = _ACTS[args["act"]]
    return act(context, args)


def _status(context: Context, args: dict[str, Any]) -> Table:
    found = control.runs(context.existing)
    columns = ("run", "state", "step", "done", "began", "ended", "host", "process")
    rows = [
        (one.name, one.state, one.step or "", one.done, one.began, one.ended or "", one.host, one.process or "")
        for one in found
    ]
    return Table(columns=columns, rows=rows, empty="no run")


def _steps(context: Context, args: dict[str, Any]) -> Table:
    manager = context.existing
    columns = ("step", "state", "tries", "seconds", "items", "error")
    rows = []
    for one in control.steps(manager, _run_of(context, args.get("name"))):
        error = f"{one.error['type']}: {one.error['message']}" if one.error else one.reason or ""
        seconds = "" if one.duration is None else round(one.duration, 3)
        rows.append((one.name, one.state, one.tries, seconds, one.items or "", error))
    return Table(columns=columns, rows=rows, empty="no step")


def _retry(context: Context, args: dict[str, Any]) -> ActionResult:
    return _reset(context, args, alone=True)


def _reset(context: Context, args: dict[str, Any], alone: bool = False) -> ActionResult:
    manager, name = context.existing, _run_of(context, args.get("run"))
    steps = control.reset(manager, name, args["name"], alone=alone)
    shown = ", ".join(steps[:3]) + (", …" if len(steps) > 3 else "")
    summary = f"{plural(len(steps), 'step')} of run {name} will be done again: {shown}"
    return ActionResult(summary, undo="undo", data={"run": name, "steps": steps})


def _unlock(context: Context, args: dict[str, Any]) -> ActionResult:
    manager, name = context.existing, _run_of(context, args.get("name"))
    holder = control.unlock(manager, name)
    data = {"run": name, "host": holder.get("host"), "process": holder.get("process"), "since": holder.get("since")}
    summary = f"run {name} is taken away from process {data['process']} on host {data['host']}"
    return ActionResult(summary, data=data)


def _run_of(context: Context, name: str | None) -> str:
    try:
        return control.only_run(context.existing, name)
    except InvalidArgument as error:
        raise UsageError(error.message, error.next_steps) from None


_ACTS: dict[str, Callable[[Context, dict[str, Any]], Result]] = {
    "status": _status,
    "steps": _steps,
    "retry": _retry,
    "reset": _reset,
    "unlock": _unlock,
}
