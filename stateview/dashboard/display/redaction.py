"""Redaction: the screen masks each value whose key, or whose name inside an object, matches a glob."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from re import Pattern
from typing import Any

from ...states.matching.patterns import compile_globs
from ...states.values.pointers import escape_token

MASK = "••••••"  # of one length, so that it does not give away the length of a value


@lru_cache(maxsize=8)
def _pattern(patterns: tuple[str, ...]) -> Pattern[str]:
    return compile_globs(*patterns, ignore_case=True)


def is_redacted(name: str, patterns: tuple[str, ...]) -> bool:
    """Return whether the value of a name is masked.

    Args:
        name: a key, or the name of an object's member.
        patterns: globs such as `*token*`. Case is ignored.

    """
    return bool(patterns) and _pattern(patterns).match(name) is not None


def masked_places(value: Any, patterns: tuple[str, ...]) -> Iterator[str]:
    """Yield the JSON Pointers of the masked members of a decoded value, not those inside masked members. O(size)."""
    pending: list[tuple[str, Any]] = [("", value)] if patterns else []
    while pending:
        pointer, box = pending.pop()
        if isinstance(box, dict):
            for name, item in box.items():
                if is_redacted(name, patterns):
                    yield f"{pointer}/{escape_token(name)}"
                elif isinstance(item, (dict, list)):
                    pending.append((f"{pointer}/{escape_token(name)}", item))
        elif isinstance(box, list):
            pending += ((f"{pointer}/{at}", item) for at, item in enumerate(box) if isinstance(item, (dict, list)))


def without_masked(value: Any, patterns: tuple[str, ...]) -> Any:
    """Return a decoded value with each masked member replaced by `••••••`. O(size).

    Use the result on a screen only. Never save it.
    """
    if not patterns:
        return value
    if isinstance(value, dict):
        return {
            name: MASK if is_redacted(name, patterns) else without_masked(item, patterns)
            for name, item in value.items()
        }
    if isinstance(value, list):
        return [without_masked(item, patterns) for item in value]
    return value
