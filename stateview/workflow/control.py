"""List runs and steps, have steps done again, and take a run away from a process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import Struct

from ..arguments import KeyName
from ..errors import InvalidArgument, KeyNotFound, see
from ..model import did_you_mean, name_first
from ..states.leases import has_ended, lock_key
from . import records
from .records import Record

if TYPE_CHECKING:
    from ..manager import StateManager

LAST = 1 << 60  # the order of a step that has no record yet


class RunStatus(Struct, frozen=True):
    """Describe a run.

    `state` is `running`, `done`, `failed`, `interrupted`, or `stopped`: its process ended without a word, or its lock
    expired. `step` is where it is, or where it stopped. `done` counts the steps that are done, and `go` how often the
    run began anew. `host`, `process` and `began` are those of the last process; times are text, for people.
    """

    name: str
    state: str
    step: str | None
    done: int
    go: int
    began: str
    ended: str | None
    host: str
    process: int | None


class StepStatus(Struct, frozen=True):
    """Describe a step. `items` counts those of `each` that are done; `duration` is in seconds, of the last try.

    `state` is that of a run, or `skipped`, or `waiting`. `stopped`: its process ended without a word, or lost the run.
    """

    name: str
    state: str
    tries: int
    began: str
    duration: float | None
    items: int
    error: dict[str, str] | None
    reason: str | None
    order: int = LAST


def run_state(record: Record, holder: Any, *, is_live: bool = True) -> str:
    """Return the state of a run.

    Args:
        record: its record.
        holder: the value of its lock at the same state; None if no process has it.
        is_live: whether this state is the present. Then a process that is known to have ended does not run.

    """
    is_held = isinstance(holder, dict) and not (is_live and has_ended(holder))
    return "stopped" if record["state"] == "running" and not is_held else str(record["state"])


def step_state(record: Record, run: str, fence: int | None) -> str:
    """Return the state of a step of a run that is in the state `run`, and whose process has the number `fence`."""
    is_going_on = run == "running" and record.get("fence") == fence
    return "stopped" if record["state"] == "running" and not is_going_on else str(record["state"])


def runs(manager: StateManager) -> list[RunStatus]:
    """List the runs of a namespace, by name. O(steps + items)."""
    keys = manager.list_keys(records.PREFIX)
    by_run: dict[str, list[str]] = {}
    for key in keys:
        parts = key.split("/")
        by_run.setdefault("/".join(parts[:2]), []).append(key)
    found = []
    for key, below in by_run.items():
        name = records.parts_of(key)[0]
        own = [key, *(one for one in below if one.count("/") == 2)]
        entries = manager.load_many([KeyName(one) for one in (*own, lock_key(records.lock_name(name)))])
        if key in entries:
            steps = [records.record_of(entries[one], one) for one in own[1:] if one in entries]
            record, lock = records.record_of(entries[key], key), entries.get(lock_key(records.lock_name(name)))
            found.append(_run_status(name, record, steps, run_state(record, lock)))
    return found


def _run_status(name: str, record: Record, steps: list[Record], state: str) -> RunStatus:
    done = sum(step["state"] in records.ENDED for step in steps)
    return RunStatus(
        name, state, record.get("step"), done, int(record.get("go", 0)), str(record.get("began", "")),
        record.get("ended"), str(record.get("host", "")), record.get("process"),
    )  # fmt: skip


def steps(manager: StateManager, run: str) -> list[StepStatus]:
    """List the steps of a run, in the order in which they were first begun. O(steps + items).

    Raises:
        KeyNotFound: there is no such run.

    """
    chosen, items = _steps(manager, run)
    return [
        StepStatus(
            name, record["state"], int(record.get("tries", 0)), str(record.get("began", "")), record.get("duration"),
            len(items.get(name, ())), record.get("error"), record.get("reason"),
        )
        for name, record in chosen.items()
    ]  # fmt: skip


def _steps(manager: StateManager, run: str) -> tuple[dict[str, Record], dict[str, list[str]]]:
    """Return the records of steps by name, in their order, and the keys of the items of each.

    The state of each record is that of `step_state`. Records and lock are read at once: a run that ends meanwhile does
    not make its steps `stopped`.
    """
    key, lock = records.run_key(run), lock_key(records.lock_name(run))
    items: dict[str, list[str]] = {}
    own = []
    for one in manager.list_keys(f"{key}/"):
        parts = records.parts_of(one)
        if len(parts) > 2:
            items.setdefault(parts[1], []).append(one)
        else:
            own.append(one)
    found = manager.load_many([KeyName(one) for one in (key, lock, *own)])
    if key not in found:
        raise KeyNotFound(f"there is no run {run!r} in namespace {manager.namespace!r}", see("run", "status"))
    record = records.record_of(found.pop(key), key)
    state, fence = run_state(record, found.pop(lock, None)), record.get("fence")
    named = {records.parts_of(one)[1]: records.record_of(value, one) for one, value in found.items()}
    for name in items:
        named.setdefault(name, {"state": "running", "fence": fence})  # some items are done, and the step is not
    named = {name: step | {"state": step_state(step, state, fence)} for name, step in named.items()}
    return dict(sorted(named.items(), key=lambda pair: (pair[1].get("order", LAST), pair[0]))), items


def only_run(manager: StateManager, name: str | None) -> str:
    """Return the name of a run; without one, that of the only run.

    Raises:
        KeyNotFound: the namespace has no run.
        InvalidArgument: it has several.

    """
    if name is not None:
        return name
    names = [status.name for status in runs(manager)]
    if not names:
        raise KeyNotFound(f"namespace {manager.namespace!r} has no run", see("keys"))
    if len(names) > 1:
        message = f"namespace {manager.namespace!r} has several runs: {name_first(names)}"
        raise InvalidArgument(message, "Name one of them")
    return names[0]


def reset(manager: StateManager, run: str, step: str, *, alone: bool = False) -> list[str]:
    """Have a step, and all steps that were begun after it, done again by the next run. Return the names of these.

    The commit deletes their entries, or those of their items at least, and `undo` takes it back. What the steps wrote
    elsewhere stays.

    Args:
        manager: the namespace.
        run: the run.
        step: the full name of the step.
        alone: only this step, with the steps inside it.

    Raises:
        KeyNotFound: there is no such run, or no such step.
        LockHeld: the run is going on.
        Conflict: another writer came first.

    """
    with manager._run_lock(run):
        found, items = _steps(manager, run)
        if step not in found:
            message = f"run {run!r} has no step {step!r}"
            near = did_you_mean(step, found)
            raise KeyNotFound(message, (*([near] if near else []), see("run", "steps", run)))
        chosen = done_again({name: record.get("order", LAST) for name, record in found.items()}, step, alone=alone)
        own = [records.step_key(run, name) for name in chosen]
        gone = [*own, *(key for name in chosen for key in items.get(name, ()))]
        key = records.run_key(run)
        with manager.transaction(f"run {run}: {'retry' if alone else 'reset'} {step}") as tx:
            tx.delete(keys=[KeyName(one) for one in gone])
            if alone:  # it keeps its place before the steps that stay
                for one, name in zip(own, chosen, strict=True):
                    tx.save(one, {"state": "waiting", "order": found[name].get("order", LAST)})
            record = records.record_of(tx.load(key), key)
            tx.save(key, record | {"state": "interrupted", "step": step})
        return chosen


def done_again(orders: dict[str, int], step: str, *, alone: bool) -> list[str]:
    """Return the steps that `reset` has done again, from the order of each step by name."""
    return [
        name
        for name, order in orders.items()
        if name == step or name.startswith(f"{step}>") or (not alone and order >= orders[step])
    ]


def unlock(manager: StateManager, run: str) -> dict[str, Any]:
    """Take a run away from the process that has it, and return what its lock says of this.

    That process writes nothing more to the run, or by its manager: see `StateManager.lock`.

    Raises:
        KeyNotFound: no process has the run.

    """
    key = lock_key(records.lock_name(run))
    holder = manager.load(key, None, fresh=True)
    if not isinstance(holder, dict) or not manager.delete(key, reason=f"unlock run {run}"):
        raise KeyNotFound(f"no process has run {run!r} of namespace {manager.namespace!r}", see("run", "status"))
    return holder
