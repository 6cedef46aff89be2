"""Handlers: assert, wait, bisect."""

from __future__ import annotations

from typing import Any

from ... import codec
from ...errors import InvalidName, RefNotFound, Sealed
from ...model import ABSENT, SealedValue
from ...states.conditions import Condition, parse_condition
from ...states.waiting import WAIT_SECONDS, wait_until
from ..context import Context, missing_namespace
from ..exit_codes import ExitCode, UsageError
from ..results import ActionResult, Excerpt, Record

_MAX_CHARACTERS = 80


def check(context: Context, args: dict[str, Any]) -> ActionResult:
    """`assert SUBJECT CONDITION`."""
    subject = args["subject"]
    condition = parse_condition(args["condition"])
    value = _read(context, subject, condition, args.get("at"))
    if value is ABSENT and context.transaction is None:
        context.manager.check_exists()
    if value is ABSENT and condition.operator in ("==", "!=") and not condition.path:
        result = _compare_states(context, subject, condition, args.get("at"))
        if result is not None:
            return result
    if condition.is_true(value):
        return ActionResult()
    return _failed(f"assertion failed: {subject} {condition}", subject, condition, value, {"assert": False})


def _read(context: Context, key: str, condition: Condition, at: str | None = None) -> Any:
    """Return a value, or `ABSENT`; a `SealedValue` where no key opens it and the condition needs no more."""
    try:
        return context.read(key, at)
    except Sealed:
        if condition.needs_value or context.transaction is not None:
            raise
        return SealedValue(0) if key in context.manager.at(at or "live") else ABSENT


def _compare_states(context: Context, subject: str, condition: Condition, at: str | None) -> ActionResult | None:
    """Compare two states; None if one of the two names is not a ref."""
    try:
        differ = bool(context.manager.diff(condition.text, subject))
    except (RefNotFound, InvalidName):
        return None
    if at is not None:
        raise UsageError("assert: --at does not go with two states", "Name the states themselves")
    if differ == (condition.operator == "!="):
        return ActionResult()
    outcome = f"differ; 'diff {condition.text} {subject}' shows how" if differ else "are the same"
    summary = f"assertion failed: {subject} and {condition.text} {outcome}"
    return ActionResult(summary, ExitCode.MISSING, data={"assert": False})


def _failed(start: str, key: str, condition: Condition, value: Any, data: dict[str, Any]) -> ActionResult:
    excerpt = Excerpt(key, condition.path, f"{start}; the value is ", _excerpt(value, condition))
    return ActionResult(excerpt.message(), ExitCode.MISSING, data=data, excerpt=excerpt)


def _excerpt(value: Any, condition: Condition) -> str:
    from ...states.values.pointers import resolve_pointer

    part = ABSENT if value is ABSENT else resolve_pointer(value, condition.path)
    if part is ABSENT:
        return "missing"
    if isinstance(part, SealedValue):
        return repr(part)
    text = codec.encode(part).decode()
    return text if len(text) <= _MAX_CHARACTERS else text[: _MAX_CHARACTERS - 1] + "…"


def wait(context: Context, args: dict[str, Any]) -> ActionResult:
    """`wait KEY CONDITION`."""
    manager, key = context.manager, args["key"]
    condition = parse_condition(args["condition"])
    seconds = args.get("timeout", WAIT_SECONDS)
    met, value, revision = wait_until(manager.backend, key, condition, seconds)
    if met:
        return ActionResult(f"{key} {condition}, revision {revision}", data={"revision": revision})
    said = f"waited {seconds:g} s for {key} {condition}"
    if missing := missing_namespace(manager):
        return ActionResult(f"{said}; {missing}", ExitCode.MISSING, data={"wait": False})
    return _failed(said, key, condition, value, {"wait": False})


def bisect(context: Context, args: dict[str, Any]) -> Record | ActionResult:
    """`bisect KEY CONDITION`."""
    manager, key = context.existing, args["key"]
    condition = parse_condition(args["condition"])
    head = manager.head()
    low = manager.at(args["since"]).revision if "since" in args else head.floor
    high = manager.at(args.get("until", "live")).revision
    if low > high:
        raise UsageError(f"--since {args.get('since')} is later than --until {args.get('until', 'live')}")
    reads = 0

    def is_true_at(revision: int) -> bool:
        nonlocal reads
        reads += 1
        return condition.is_true(context.read(key, revision))

    if not is_true_at(high):
        summary = f"{key} {condition} is false at revision {high}; give --until a state in which it is true"
        return ActionResult(summary, ExitCode.MISSING, data={"bisect": None})
    if low == high or is_true_at(low):
        summary = f"{key} {condition} is already true at revision {low}, the earliest in the range"
        return ActionResult(summary, ExitCode.MISSING, data={"bisect": None})
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_true_at(middle) else (middle, high)
    (commit,) = manager.log(1, below=high + 1)
    data = {
        "revision": high,
        "time": commit.time.isoformat(),
        "reason": commit.reason,
        "author": commit.author,
        "reads": reads,
    }
    return Record(data={name: value for name, value in data.items() if value != ""})
