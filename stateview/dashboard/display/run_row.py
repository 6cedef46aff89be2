"""Runs and steps as text: a sign for each state, what a run does since when, and durations with their bars."""

from __future__ import annotations

import re

from ...workflow.progress import RunGlance
from .text import format_age

SIGNS = {
    "running": "●", "done": "✓", "failed": "✗", "interrupted": "!", "stopped": "■", "skipped": "–", "waiting": "○",
}  # fmt: skip
ROLES = {
    "running": "mark", "done": "added", "failed": "error", "interrupted": "changed", "stopped": "changed",
}  # fmt: skip
_UNKNOWN = "?"  # an entry may hold a state of a later release
_EIGHTHS = " ▏▎▍▌▋▊▉"
_RUN = re.compile(r"run \S+: ")  # how the reasons of a run's commits begin


def sign_of(state: str) -> str:
    """Return the sign of the state of a run or a step."""
    return SIGNS.get(state, _UNKNOWN)


def run_texts(run: RunGlance, moment: int) -> list[str]:
    """Return what a run does as texts, the longest first, the last one only a sign."""
    sign = sign_of(run.state)
    is_at = run.step is not None and run.state != "running"
    words = f"{sign} {run.state} at {run.step}" if is_at else f"{sign} {run.state}"
    age = format_age(run.since, moment)
    return [f"{words} {age}", words, *([f"{sign} {run.step}"] if is_at else []), sign]


def without_run(reason: str) -> str:
    """Return the reason of a commit without the name of its run, which the commits around it have too."""
    found = _RUN.match(reason)
    return reason[found.end() :] if found is not None else reason


def format_seconds(seconds: float) -> str:
    """Return a duration in at most seven columns: `35 ms`, `1.25 s`, `12.5 s`, `2m05s`, `3h07m`, `9d04h`."""
    if seconds < 1:
        return f"{round(seconds * 1000)} ms" if seconds >= 0.0005 else "0 ms"
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 9.995 else f"{seconds:.1f} s" if seconds < 59.95 else "1m00s"
    whole = round(seconds)
    if whole < 3600:
        unit, part, names = 60, 1, "ms"
    else:
        unit, part, names = (3600, 60, "hm") if whole < 86_400 else (86_400, 3600, "dh")
    return f"{whole // unit}{names[0]}{whole % unit // part:02}{names[1]}"


def bar(part: float, whole: float, width: int) -> str:
    """Return a bar of `width` columns for the share of a duration. A duration above zero has at least a sliver."""
    eighths = round(8 * width * min(1.0, part / whole)) if whole > 0 else 0
    eighths = max(eighths, 1 if part > 0 else 0)
    full, rest = divmod(eighths, 8)
    return ("█" * full + _EIGHTHS[rest]).rstrip().ljust(width)[:width]
