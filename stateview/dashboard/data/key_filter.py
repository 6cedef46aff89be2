"""What is typed to filter keys, and how well a key answers to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

from ...states.patterns import compile_globs, is_glob, literal_prefix

Kind = Literal["prefix", "glob", "fuzzy", "values"]
Match = Callable[[str], bool]


class Filter(NamedTuple):
    """What is looked for: keys that start with `text`, are like it, or hold its letters; or values that hold it.

    `prefix` is what every key found starts with.
    """

    kind: Kind
    text: str
    prefix: str = ""

    @classmethod
    def parse(cls, typed: str) -> Filter:
        """Return what was typed.

        `~text` fuzzy, `=text` in values, a glob where there is one of `*?[`, else a prefix.
        """
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
        """Whether what is found lies together in key order, so that nothing needs to be searched."""
        return self.kind == "prefix" or not self.text

    def match(self) -> Match:
        """Whether a key is to be found, as far as the key says that."""
        if self.kind == "glob":
            pattern = compile_globs(self.text)
            return lambda key: pattern.match(key) is not None
        if self.kind == "fuzzy":
            needle = self.text.lower()
            return lambda key: is_subsequence(needle, key)
        return lambda key: key.startswith(self.prefix)


def _lower(text: str) -> str:
    lowered = text.lower()
    return lowered if len(lowered) == len(text) else "".join(sign.lower()[0] for sign in text)


def is_subsequence(needle: str, text: str) -> bool:
    """Whether a text has the characters of a needle in lower case, in their order. O(length)."""
    lowered, place = _lower(text), -1
    for sign in needle:
        place = lowered.find(sign, place + 1)
        if place < 0:
            return False
    return True


def match_positions(needle: str, text: str) -> list[int]:
    """Where the characters of a needle stand in a text that holds them: together if they can, else close. O(length)."""
    lowered, needle = _lower(text), needle.lower()
    start = lowered.find(needle)
    while start > 0 and lowered[start - 1].isalnum():  # rather at the start of a word, if there is one
        other = lowered.find(needle, start + 1)
        if other < 0:
            break
        start = other
    if start >= 0:
        return list(range(start, start + len(needle)))
    end = -1
    for sign in needle:
        end = lowered.find(sign, end + 1)
    found = []
    end += 1
    for sign in reversed(needle):
        end = lowered.rfind(sign, 0, end)
        found.append(end)
    return found[::-1]


def score(needle: str, text: str) -> int:
    """How well a text that holds a needle answers to it: letters together, and at the starts of words. O(length)."""
    score, last = 0, -1
    for place in match_positions(needle, text):
        if place == last + 1 and last >= 0:
            score += 6
        elif place == 0 or not text[place - 1].isalnum():
            score += 8
        if last >= 0:
            score -= min(10, place - last - 1)
        last = place
    return score * 16 - min(len(text), 255)
