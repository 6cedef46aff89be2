"""The filter of a list of keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

from ...states.matching.patterns import compile_globs, is_glob, literal_prefix
from ...states.matching.ranking import is_subsequence, ranker

Kind = Literal["word", "prefix", "glob", "fuzzy", "values"]
Match = Callable[[str], bool]


class Filter(NamedTuple):
    """A filter of keys.

    Attributes:
        kind: how keys are matched: by a `word` inside, by `prefix`, by `glob`, by letters in order (`fuzzy`), or by
            text in their `values`.
        text: the word, the prefix, the glob, the letters or the text.
        prefix: a prefix of all matching keys.

    """

    kind: Kind
    text: str
    prefix: str = ""

    @classmethod
    def parse(cls, typed: str) -> Filter:
        """Parse a filter as typed: `text*` is a prefix, `~text` is fuzzy, `=text` searches values, `*?[` make a glob.

        Any other text is a word, see `ranker`.
        """
        if typed[:1] == "~":
            return cls("fuzzy", typed[1:])
        if typed[:1] == "=":
            return cls("values", typed[1:])
        if typed.endswith("*") and not is_glob(typed[:-1]):
            return cls("prefix", typed[:-1], typed[:-1])
        if is_glob(typed):
            return cls("glob", typed, literal_prefix(typed))
        return cls("word", typed) if typed else cls("prefix", "")

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
        if self.kind == "word":
            rank = ranker(self.text)
            return lambda key: rank(key) is not None
        return lambda key: key.startswith(self.prefix)
