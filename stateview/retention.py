"""Which checkpoints a policy lets go. Pure.

A checkpoint without a name of a person's is automatic: `auto_YYYYMMDD_HHMMSS`, and `before_ACT_YYYYMMDD_HHMMSS` that an
act makes of the state before it, so that it can be taken back. The latter are for safety, and expire.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from fnmatch import fnmatchcase

from .backends.base import Mark
from .model import Checkpoint

_NOTES = ("made by ", "before ")  # what the notes of acts begin with
_STAMPED = r"{}_\d{{8}}_\d{{6}}(_\d+)?"
_UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}
_SECOND = 1_000_000


def is_automatic(mark: Mark) -> bool:
    """Whether a checkpoint was made without a person's naming it."""
    return _is_stamped("auto", mark.name) or is_safety(mark)


def is_safety(mark: Mark | Checkpoint) -> bool:
    """Whether a checkpoint was made by an act, of the state before it. What a person named alike has another note."""
    return mark.note.startswith(_NOTES) and _is_stamped("before_(restore|import|migrate)", mark.name)


def _is_stamped(stem: str, name: str) -> bool:
    import re  # here, since a plain load needs no pattern

    return re.fullmatch(_STAMPED.format(stem), name, re.ASCII) is not None


def to_micros(age: str | float | timedelta) -> int:
    """An age in microseconds: `30d`, `12h`, `90min`, `90m`, `45s`, `2w`; a number of seconds; a timedelta.

    Raises:
        ValueError: it is none of these, or below zero.

    """
    import re

    if isinstance(age, str):
        match = re.fullmatch(r"(\d{1,12}(?:\.\d{1,6})?) ?(s|min|m|h|d|w)", age, re.ASCII)
        if match is None:
            raise ValueError(f"{age[:40]!r} is not an age: give a number and one of {', '.join(_UNITS)}, such as 30d")
        return round(float(match[1]) * _UNITS[match[2]] * _SECOND)
    seconds = age.total_seconds() if isinstance(age, timedelta) else age
    if isinstance(age, bool) or not isinstance(seconds, (int, float)) or not 0 <= seconds <= 1e12:
        raise ValueError(f"{age!r} is not an age: give such as '30d', seconds, or a timedelta")
    return round(seconds * _SECOND)


def choose(marks: Iterable[Mark], patterns: Iterable[str] | None) -> list[Mark]:
    """The checkpoints of these names, by name, NAME@REVISION or glob; the automatic ones where there is no pattern."""
    if patterns is None:
        return [mark for mark in marks if is_automatic(mark)]
    wanted = list(patterns)
    names = ((mark, (mark.name, f"{mark.name}@{mark.revision}")) for mark in marks)
    return [mark for mark, both in names if any(fnmatchcase(name, one) for one in wanted for name in both)]


def beyond(marks: Iterable[Mark], keep: int | None, before: int | None) -> list[Mark]:
    """Of checkpoints in the order of their making, those that go: not the last `keep`, nor those made since `before`.

    None says nothing: without either, all of them go.
    """
    found = list(marks)
    if keep is not None:
        found = found[: max(0, len(found) - keep)]
    return [mark for mark in found if before is None or mark.time < before]
