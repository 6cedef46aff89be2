"""What is not to be seen on a screen."""

from __future__ import annotations

from fnmatch import fnmatchcase

MASK = "••••••"


def masked(key: str, patterns: tuple[str, ...]) -> bool:
    """Whether what a key, or a name inside a value, stands for is masked: a glob matches it, in whatever case."""
    lowered = key.lower()
    return any(fnmatchcase(lowered, pattern.lower()) for pattern in patterns)
