"""What came of a step as lines of text: its error, its result, or why it was skipped."""

from __future__ import annotations

import re
from textwrap import wrap
from typing import Any

from ... import codec
from ..display.redaction import MASK, is_redacted, without_masked
from ..display.text import one_line

_PLACE = re.compile(r'^  File "([^"\n]+)", line (\d+), in (.+)$', re.MULTILINE)
_OWN = "/stateview/workflow/"  # places that tell a user nothing
_CHARACTERS = 2_000  # of a result or a message that are wrapped


def outcome(key: str, record: dict[str, Any], patterns: tuple[str, ...]) -> tuple[str, list[str]]:
    """Return what came of a step as one text, and the places of the traceback of its error. O(size of the result).

    Args:
        key: the key of the step's entry.
        record: its value.
        patterns: the globs of masked names.

    """
    error = record.get("error")
    if is_redacted(key, patterns, record):
        return MASK, []
    if isinstance(error, dict):
        places = [
            f"at {path.rpartition('/')[2]}:{line} in {name}"
            for path, line, name in _PLACE.findall(str(error.get("trace", "")).replace("\\", "/"))
            if _OWN not in path
        ]
        return f"{error.get('type')}: {error.get('message')}", places
    if record.get("reason"):
        return f"skipped: {record['reason']}", []
    if record.get("result") is None:
        return "", []
    return "→ " + codec.encode(without_masked(record["result"], patterns)).decode(), []


def outcome_lines(text: str, trace: list[str], last: str, width: int, height: int) -> list[str]:
    """Return the text, as much of the end of a traceback as there is room for, and a last line.

    If there is room for a line only, it is the place of the error.
    """
    lines = wrap(one_line(text, _CHARACTERS), max(8, width))
    if len(lines) > height:
        return [*lines[: height - 1], lines[height - 1][: width - 1] + "…"]
    left = height - len(lines)
    room = max(left - 1, min(left, 1))
    if trace and room:
        lines += [one_line(line, width) for line in trace[-room:]]
    return [*lines, *([last] if len(lines) < height else [])]
