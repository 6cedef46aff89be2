"""Globs over the names of keys and checkpoints: `*`, `?` and `[…]`, as `fnmatch` reads them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase, translate

_SIGNS = "*?["
_WILDCARD = re.compile(r"[*?]|\[.[^]]*\]?")
_ESCAPED_NAME = re.compile(r"(?:[^*?[]|\[[*?[]\])*")
_ESCAPED_SIGN = re.compile(r"\[([*?[])\]")


def is_glob(text: str) -> bool:
    """Return whether a text holds `*`, `?` or `[`. A key may hold them too, so the text can still be a key's name."""
    return any(sign in text for sign in _SIGNS)


def escape_glob(name: str) -> str:
    """Return the pattern that matches this name alone."""
    return "".join(f"[{sign}]" if sign in _SIGNS else sign for sign in name)


def unescape_glob(pattern: str) -> str | None:
    """Return the one name that a pattern matches; None if the pattern is a real glob."""
    if not is_glob(pattern):
        return pattern
    return _ESCAPED_SIGN.sub(r"\1", pattern) if _ESCAPED_NAME.fullmatch(pattern) else None


def literal_prefix(pattern: str) -> str:
    """Return the text before the first `*`, `?` or `[`: every match starts with it."""
    return pattern[: min((pattern.index(sign) for sign in _SIGNS if sign in pattern), default=len(pattern))]


def first_literal(pattern: str) -> str:
    """Return the first text between wildcards: every match contains it. It is empty if there is none."""
    return next(filter(None, _WILDCARD.split(pattern)), "")


def compile_globs(*patterns: str, ignore_case: bool = False) -> re.Pattern[str]:
    """Return a regular expression whose `match` accepts a whole name if one of the globs does."""
    return re.compile("|".join(map(translate, patterns)), re.IGNORECASE if ignore_case else 0)


def matches_any(name: str, patterns: Iterable[str]) -> bool:
    """Return whether one of the globs matches the whole name, case-sensitively."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


class Selection:
    """Select keys by name or glob. Without patterns it selects every key."""

    def __init__(self, patterns: Iterable[str] | str | None = None) -> None:
        self.patterns = None if patterns is None else [patterns] if isinstance(patterns, str) else list(patterns)
        # A key can be spelled like a glob, so each pattern is also compared as a name.
        self._names = frozenset([*(self.patterns or ()), *self.exact()])
        self._globs = [pattern for pattern in self.patterns or () if unescape_glob(pattern) is None]

    def __call__(self, key: str) -> bool:
        """Return whether a key is selected. O(globs); the number of names does not matter."""
        return self.patterns is None or key in self._names or matches_any(key, self._globs)

    def exact(self) -> list[str]:
        """Return the names among the patterns: those without wildcards, and those made by `escape_glob`."""
        return [name for pattern in self.patterns or () if (name := unescape_glob(pattern)) is not None]

    def prefix(self) -> str:
        """Return a prefix that every selected key has; it is empty if none is known."""
        return literal_prefix(self.patterns[0]) if self.patterns is not None and len(self.patterns) == 1 else ""
