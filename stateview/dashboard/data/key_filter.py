"""The filter of a list of keys, and the score of a fuzzy match."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

from ...states.patterns import compile_globs, is_glob, literal_prefix

Kind = Literal["prefix", "glob", "fuzzy", "values"]
Match = Callable[[str], bool]


class Filter(NamedTuple):
    """A filter of keys.

    Attributes:
        kind: how keys are matched: by `prefix`, by `glob`, by letters in order (`fuzzy`), or by text in their `values`.
        text: the prefix, the glob, the letters or the text.
        prefix: a prefix of all matching keys.

    """

    kind: Kind
    text: str
    prefix: str = ""

    @classmethod
    def parse(cls, typed: str) -> Filter:
        """Parse a filter as typed: `~text` is fuzzy, `=text` searches values, `*?[` make a glob; else a prefix."""
        if typed[:1] == "~":
            return cls("fuzzy", typed[1:])
        if typed[:1] == "=":
            return cls("values", typed[1:])
        if typed.endswith("*") and not is_glob(typed[:-1]):
            return cls("prefix", typed[:-1], typed[:-1])
        if is_glob(typed):
            return cls("glob", typed, literal_prefix(typed))
        return cls("prefix", typed, typed)

    @property
    def ranged(self) -> bool:
        """Whether the matching keys follow each other in key order, so that they need no search."""
        return self.kind == "prefix" or not self.text

    def match(self) -> Match:
        """Return the function that matches keys. With the kind `values` it matches all keys.

        A glob matches the key of its own name too. `FilteredKeys` knows whether there is one: it then matches no other.
        """
        if self.kind == "glob":
            pattern = compile_globs(self.text)
            return lambda key: key == self.text or pattern.match(key) is not None
        if self.kind == "fuzzy":
            needle = self.text.lower()
            return lambda key: is_subsequence(needle, key)
        return lambda key: key.startswith(self.prefix)


def _lower(text: str) -> str:
    lowered = text.lower()
    return lowered if len(lowered) == len(text) else "".join(sign.lower()[0] for sign in text)


def is_subsequence(needle: str, text: str) -> bool:
    """Whether a text has the characters of a lower-case needle in order. O(length)."""
    lowered, position = _lower(text), -1
    for sign in needle:
        position = lowered.find(sign, position + 1)
        if position < 0:
            return False
    return True


def match_positions(needle: str, text: str) -> list[int]:
    """Return the positions of a needle's characters in a text: adjacent, or else close together. O(length)."""
    lowered, needle = _lower(text), needle.lower()
    start = lowered.find(needle)
    while start > 0 and lowered[start - 1].isalnum():  # prefer a later match at the start of a word
        later = lowered.find(needle, start + 1)
        if later < 0:
            break
        start = later
    if start >= 0:
        return list(range(start, start + len(needle)))
    end = -1
    for sign in needle:
        end = lowered.find(sign, end + 1)
    positions = []
    end += 1
    for sign in reversed(needle):
        end = lowered.rfind(sign, 0, end)
        positions.append(end)
    return positions[::-1]


def score(needle: str, text: str) -> int:
    """Return the score of a fuzzy match. Adjacent letters and letters at the start of words raise it. O(length)."""
    score, last = 0, -1
    for position in match_positions(needle, text):
        if position == last + 1 and last >= 0:
            score += 6
        elif position == 0 or not text[position - 1].isalnum():
            score += 8
        if last >= 0:
            score -= min(10, position - last - 1)
        last = position
    return score * 16 - min(len(text), 255)
