"""Tell the kinds of checkpoints, make their automatic names, and choose which of them a policy deletes. Pure.

A checkpoint that no person named is automatic. It is called `auto_YYYYMMDD_HHMMSS`. An act names the safety checkpoint
`before_ACT_YYYYMMDD_HHMMSS` of the state before it, so that the act can be taken back. Safety checkpoints expire.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from datetime import timedelta
from itertools import count

from ..backends.protocol import CheckpointRecord
from ..model import CheckpointKind
from .patterns import matches_any

# A checkpoint made before kinds were stored shows its kind by its name; a safety checkpoint also by its note's start.
_UNSTORED_NOTES = ("made by ", "before ")
_AUTO = r"auto_\d{8}_\d{6}(_\d+)?"
_SAFETY = r"before_(restore|import|migrate)_\d{8}_\d{6}(_\d+)?"
_UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}
_SECOND_MICROSECONDS = 1_000_000


def kind_of(mark: CheckpointRecord) -> CheckpointKind:
    """Return the stored kind of a checkpoint; for an older checkpoint, the kind that its name and note show."""
    if mark.kind:
        return mark.kind  # type: ignore[return-value]
    if _is(_AUTO, mark.name):
        return "auto"
    return "safety" if _is(_SAFETY, mark.name) and mark.note.startswith(_UNSTORED_NOTES) else "named"


def kind_of_name(name: str) -> str:
    """Return the kind to store with a name that a person chose: "" unless the name looks automatic."""
    return "named" if _is(f"{_AUTO}|{_SAFETY}", name) else ""


def stamped_name(stem: str) -> str:
    """Return the automatic name `STEM_YYYYMMDD_HHMMSS`, in UTC."""
    return time.strftime(f"{stem}_%Y%m%d_%H%M%S", time.gmtime())


def numbered_names(name: str) -> Iterator[str]:
    """Yield a name, then the names to try if it is taken: `NAME_2`, `NAME_3`, without end."""
    yield name
    for number in count(2):
        yield f"{name}_{number}"


def _is(pattern: str, name: str) -> bool:
    import re  # imported here: a plain load needs no pattern

    return re.fullmatch(pattern, name, re.ASCII) is not None


def to_micros(age: str | float | timedelta) -> int:
    """Convert an age to microseconds: `30d`, `12h`, `90min`, `90m`, `45s`, `2w`; a number of seconds; a timedelta.

    Raises:
        ValueError: it is not an age, or is below zero.

    """
    import re

    if isinstance(age, str):
        match = re.fullmatch(r"(\d{1,12}(?:\.\d{1,6})?) ?(s|min|m|h|d|w)", age, re.ASCII)
        if match is None:
            raise ValueError(f"{age[:40]!r} is not an age: give a number and one of {', '.join(_UNITS)}, such as 30d")
        return round(float(match[1]) * _UNITS[match[2]] * _SECOND_MICROSECONDS)
    seconds = age.total_seconds() if isinstance(age, timedelta) else age
    if isinstance(age, bool) or not isinstance(seconds, (int, float)) or not 0 <= seconds <= 1e12:
        raise ValueError(f"{age!r} is not an age: give such as '30d', seconds, or a timedelta")
    return round(seconds * _SECOND_MICROSECONDS)


def select(marks: Iterable[CheckpointRecord], patterns: Iterable[str] | None) -> list[CheckpointRecord]:
    """Choose checkpoints by name, NAME@REVISION or glob; without patterns, the automatic ones."""
    if patterns is None:
        return [mark for mark in marks if kind_of(mark) != "named"]
    wanted = list(patterns)
    names = ((mark, (mark.name, f"{mark.name}@{mark.revision}")) for mark in marks)
    return [mark for mark, both in names if any(matches_any(name, wanted) for name in both)]


def expired(marks: Iterable[CheckpointRecord], keep: int | None, before: int | None) -> list[CheckpointRecord]:
    """Return the checkpoints to delete, from a list in the order of their making.

    Args:
        marks: the checkpoints.
        keep: the newest `keep` stay. None: no such rule.
        before: those made at this time (microseconds) or later stay. None: no such rule. Without any rule, all go.

    """
    found = list(marks)
    if keep is not None:
        found = found[: max(0, len(found) - keep)]
    return [mark for mark in found if before is None or mark.time < before]
