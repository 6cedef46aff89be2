"""Tell the kinds of checkpoints, make their automatic names, and choose which of them a policy deletes. Pure.

A checkpoint that no person named is automatic. It is called `auto_YYYYMMDD_HHMMSS`. An act names the safety checkpoint
`before_ACT_YYYYMMDD_HHMMSS` of the state before it, so that the act can be taken back. Safety checkpoints expire.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from itertools import count

from ..backends.protocol import CheckpointRecord
from ..model import CheckpointKind
from .matching.patterns import is_glob, matches_any

# A checkpoint made before kinds were stored shows its kind by its name; a safety checkpoint also by its note's start.
_UNSTORED_NOTES = ("made by ", "before ")
_AUTO = r"auto_\d{8}_\d{6}(_\d+)?"
_SAFETY = r"before_(restore|revert|import|migrate)_\d{8}_\d{6}(_\d+)?"


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
    if not name.startswith(("auto_", "before_")):  # nearly all names
        return False
    import re  # imported here: a plain load needs no pattern

    return re.fullmatch(pattern, name, re.ASCII) is not None


def select(marks: Iterable[CheckpointRecord], patterns: Iterable[str] | None) -> list[CheckpointRecord]:
    """Choose checkpoints by name, NAME@REVISION or glob; without patterns, the automatic ones."""
    if patterns is None:
        return [mark for mark in marks if kind_of(mark) != "named"]
    wanted = set(patterns)
    globs = list(filter(is_glob, wanted))
    return [
        mark
        for mark in marks
        if not wanted.isdisjoint(both := names_of(mark)) or (globs and any(matches_any(name, globs) for name in both))
    ]


def names_of(mark: CheckpointRecord) -> tuple[str, str]:
    """Return the two names of a checkpoint: NAME and NAME@REVISION."""
    return mark.name, f"{mark.name}@{mark.revision}"


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
