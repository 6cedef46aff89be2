"""What the screen does not show: values whose key, or whose name inside an object, matches a redaction pattern."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from re import Pattern
from typing import Any

from ...states.patterns import compile_globs
from ...states.pointers import escape_token

MASK = "••••••"  # of one length, whatever it stands for


@lru_cache(maxsize=8)
def _pattern(patterns: tuple[str, ...]) -> Pattern[str]:
    return compile_globs(*patterns, ignore_case=True)


def is_redacted(name: str, patterns: tuple[str, ...]) -> bool:
    """Whether what stands under a name, a key or that of an object's member, is not to be shown.

    Args:
        name: the name.
        patterns: globs such as `*token*`; the case of letters makes no difference.

    """
    return bool(patterns) and _pattern(patterns).match(name) is not None


def masked_places(value: Any, patterns: tuple[str, ...]) -> Iterator[str]:
    """Yield the JSON Pointers of the masked members inside a decoded value; none is inside another. O(size)."""
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
    """Return a decoded value with `••••••` in the place of each masked member.

    The value itself where none can be. O(size).

    For what is compared or previewed on a screen; never for what is saved.
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
