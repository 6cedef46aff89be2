"""Handlers: assert, wait, bisect."""

from __future__ import annotations

import time
from typing import Any

from ... import codec
from ...errors import InvalidName, RefNotFound
from ...model import ABSENT
from ..conditions import Condition, parse_condition
from ..context import Context
from ..exit_codes import ExitCode, UsageError
from ..results import ActionResult, Excerpt, Record

WAIT_SECONDS = 30.0
_MAX_CHARACTERS = 80


def check(context: Context, given: dict[str, Any]) -> ActionResult:
    """`assert SUBJECT CONDITION`."""
    manager, subject = context.manager, given["subject"]
    condition = parse_condition(given["condition"])
    value = _found(
        context.reader.load(subject, _NONE) if "at" not in given else manager.load(subject, _NONE, at=given["at"])
    )
    if value is ABSENT and condition.operator in ("==", "!=") and not condition.path:
        try:
            differs = bool(manager.diff(condition.text, subject))
        except (RefNotFound, InvalidName):
            differs = None
        if differs is not None:
            if differs == (condition.operator == "!="):
                return ActionResult()
            is_now = "differ" if differs else "are the same"
            hint = f"; 'diff {condition.text} {subject}' shows how" if differs else ""
            told = f"assertion failed: {subject} and {condition.text} {is_now}{hint}"
            return ActionResult(told, ExitCode.MISSING, data={"assert": False})
    if condition.is_true(value):
        return ActionResult()
    before = f"assertion failed: {subject} {condition}; it is "
    shown = Excerpt(subject, condition.path, before, _shown(value, condition))
    return ActionResult(told=shown.told(), code=ExitCode.MISSING, data={"assert": False}, shown=shown)


class _NONE:
    """A default that no key holds."""


def _found(value: Any) -> Any:
    return ABSENT if value is _NONE else value


def _shown(value: Any, condition: Condition) -> str:
    from ...states.pointers import resolve_pointer

    found = ABSENT if value is ABSENT else resolve_pointer(value, condition.path)
    if found is ABSENT:
        return "not there"
    text = codec.encode(found).decode()
    return text if len(text) <= _MAX_CHARACTERS else text[: _MAX_CHARACTERS - 1] + "…"


def wait(context: Context, given: dict[str, Any]) -> ActionResult:
    """`wait KEY CONDITION`."""
    manager, key = context.manager, given["key"]
    condition = parse_condition(given["condition"])
    seconds = given.get("timeout", WAIT_SECONDS)
    deadline = time.monotonic() + seconds
    while True:
        revision = manager.revision
        value = _found(manager.load(key, _NONE))
        if condition.is_true(value):
            return ActionResult(f"{key} {condition}, revision {revision}", data={"revision": revision})
        left = deadline - time.monotonic()
        if left <= 0:
            before = f"waited {seconds:g} s for {key} {condition}; it is "
            shown = Excerpt(key, condition.path, before, _shown(value, condition))
            return ActionResult(told=shown.told(), code=ExitCode.MISSING, data={"wait": False}, shown=shown)
        manager.backend.wait(revision, min(left, 1.0))


def bisect(context: Context, given: dict[str, Any]) -> Record | ActionResult:
    """`bisect KEY CONDITION`."""
    manager, key = context.manager, given["key"]
    condition = parse_condition(given["condition"])
    head = manager.head()
    low = manager.at(given["since"]).revision if "since" in given else head.floor
    high = manager.at(given.get("until", "live")).revision
    if low > high:
        raise UsageError(f"--since {given.get('since')} is later than --until {given.get('until', 'live')}")
    reads = 0

    def holds(revision: int) -> bool:
        nonlocal reads
        reads += 1
        return condition.is_true(_found(manager.load(key, _NONE, at=revision)))

    if not holds(high):
        return ActionResult(
            f"{key} {condition} is not true at revision {high}; --until names a state in which it is",
            ExitCode.MISSING,
            data={"bisect": None},
        )
    if low == high or holds(low):
        told = f"{key} {condition} is true already at revision {low}, the earliest looked at"
        return ActionResult(told, ExitCode.MISSING, data={"bisect": None})
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    (commit,) = manager.log(1, below=high + 1)
    data = {
        "revision": high,
        "time": commit.time.isoformat(),
        "reason": commit.reason,
        "author": commit.author,
        "reads": reads,
    }
    return Record(data={name: value for name, value in data.items() if value != ""})
