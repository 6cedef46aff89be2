"""Globs over the names of keys and checkpoints: `*`, `?` and `[…]`, as `fnmatch` reads them; and keys of parts.

A key may hold these signs too. A pattern that is the whole name of a key, in a state that is looked at, means that key
alone, wherever keys are chosen: `Selection.among` decides it. `a[[]0]` means the key `a[0]`, whether it exists or not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase, translate

from ...arguments import KeyName, check_string
from ...errors import InvalidName
from ...model import check_key

_SIGNS = "*?["
_QUOTED = frozenset("%:*?[#\x7f") | frozenset(map(chr, range(32)))
_EMPTY = "%"  # a single empty part, since a key is not empty
# Compiled at the first use, since every command imports this module
_WILDCARD = r"[*?]|\[.[^]]*\]?"
_ESCAPED_NAME = r"(?:[^*?[]|\[[*?[]\])*"
_ESCAPED_SIGN = r"\[([*?[])\]"


def is_glob(text: str) -> bool:
    """Return whether a text holds `*`, `?` or `[`. A key may hold them too, so the text can still be a key's name."""
    return any(sign in text for sign in _SIGNS)


def unescape_glob(pattern: str) -> str | None:
    """Return the one name that a pattern matches; None if the pattern is a real glob."""
    if not is_glob(pattern):
        return pattern
    return re.sub(_ESCAPED_SIGN, r"\1", pattern) if re.fullmatch(_ESCAPED_NAME, pattern) else None


def literal_prefix(pattern: str) -> str:
    """Return the text before the first `*`, `?` or `[`: every match starts with it."""
    return pattern[: min((pattern.index(sign) for sign in _SIGNS if sign in pattern), default=len(pattern))]


def first_literal(pattern: str) -> str:
    """Return the first text between wildcards: every match contains it. It is empty if there is none."""
    return next(filter(None, re.split(_WILDCARD, pattern)), "")


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
        self._names = frozenset([*(self.patterns or ()), *self.exact()])
        self._globs = [pattern for pattern in self.patterns or () if name_of(pattern) is None]

    def __call__(self, key: str) -> bool:
        """Return whether a key is selected. O(globs); the number of names does not matter."""
        return self.patterns is None or key in self._names or matches_any(key, self._globs)

    def among(self, existing: Callable[[list[str]], Iterable[str]]) -> Selection:
        """Return the selection for states whose keys are known: a pattern that is a key's name means that key alone.

        Args:
            existing: returns those of some names that are keys. It is called if a pattern has wildcards.

        """
        doubtful = list(filter(_is_doubtful, self.patterns or ()))
        if not doubtful or not (found := set(existing(doubtful))):
            return self
        return Selection(KeyName(pattern) if pattern in found else pattern for pattern in self.patterns or ())

    def exact(self) -> list[str]:
        """Return the names among the patterns: those without wildcards, or with each wildcard in brackets."""
        return [name for pattern in self.patterns or () if (name := name_of(pattern)) is not None]

    def is_names(self) -> bool:
        """Return whether every pattern is the name of one key."""
        return self.patterns is not None and len(self.exact()) == len(self.patterns)

    def is_plain(self) -> bool:
        """Return whether every pattern is the name of one key, whichever keys there are: no pattern has wildcards."""
        return self.patterns is not None and not any(map(_is_doubtful, self.patterns))

    def prefix(self) -> str:
        """Return a prefix that every selected key has; it is empty if none is known."""
        if self.patterns is None or len(self.patterns) != 1:
            return ""
        (pattern,) = self.patterns
        return pattern if type(pattern) is KeyName else literal_prefix(pattern)


def _is_doubtful(pattern: str) -> bool:
    return is_glob(pattern) and type(pattern) is not KeyName


def name_of(pattern: str) -> str | None:
    """Return the one name that a pattern matches; None if it is a real glob."""
    return str(pattern) if type(pattern) is KeyName else unescape_glob(pattern)  # a plain text, as keys are


def join_key(*parts: str) -> str:
    """Join parts to a key such as `task:42:result`. `split_key` returns the same parts, whatever they hold.

    Letters, digits, spaces, `/`, `-`, `_`, `.` and most other signs stay as they are. `:`, `%`, `#`, `*`, `?`, `[` and
    control characters are written as `%` and two hexadecimal digits, so the key is no glob and no `KEY#POINTER`. An
    empty last part makes a prefix: `join_key("task", "4", "")` is `task:4:`, without the keys of `task:42`.

    Raises:
        InvalidName: there is no part, or the key is over 1,024 bytes of UTF-8.
        InvalidArgument: a part is no string.

    """
    if not parts:
        raise InvalidName("a key needs at least one part")
    key = ":".join(_quote(check_string(part, f"parts[{index}]")) for index, part in enumerate(parts))
    return check_key(key or _EMPTY)


def split_key(key: str) -> tuple[str, ...]:
    """Return the parts of a key that `join_key` made.

    Raises:
        InvalidName: it is no valid key, or a `%` in it does not begin a quoted character.

    """
    if check_key(key) == _EMPTY:
        return ("",)
    return tuple(_unquote(part, key) for part in key.split(":"))


def _quote(part: str) -> str:
    if part.isascii() and _QUOTED.isdisjoint(part):
        return part
    return "".join(
        "".join(f"%{byte:02X}" for byte in sign.encode(errors="surrogatepass"))
        if sign in _QUOTED or "\ud800" <= sign <= "\udfff"
        else sign
        for sign in part
    )


def _unquote(part: str, key: str) -> str:
    first, *rest = part.split("%")
    data = first.encode()
    try:
        for piece in rest:
            data += bytes([int(piece[:2], 16)] if piece[:2].isalnum() and len(piece) > 1 else [256])
            data += piece[2:].encode()
        return data.decode(errors="surrogatepass")
    except ValueError:
        raise InvalidName(f"key {key[:60]!r} was not made by join_key: a % begins no quoted character") from None
