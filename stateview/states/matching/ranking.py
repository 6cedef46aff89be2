"""How well a typed word matches a name. Without I/O, for the lists of the dashboard and for completion.

The best matches come first: the name itself, a name that starts with the word, a name with the word at the start of one
of its words, a name with the word inside, and last a name that has the letters of the word in order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeVar

T = TypeVar("T")

EXACT, PREFIX, WORD_START, INSIDE, LETTERS = range(5)


class Rank(NamedTuple):
    """The rank of a match. The lowest is the best; equal ranks leave the order of the names.

    Attributes:
        kind: `EXACT`, `PREFIX`, `WORD_START`, `INSIDE` or `LETTERS`.
        detail: the order within the kind: first the case as typed, or the letters that are closest together.

    """

    kind: int
    detail: int = 0


def ranker(word: str) -> Callable[[str], Rank | None]:
    """Return the function that ranks a name by a word; None is no match. Case is ignored. O(length) a name.

    An empty word matches every name, and all names rank the same.
    """
    needle = word.lower()

    def rank(name: str) -> Rank | None:
        text = lowered(name)
        start = text.find(needle)
        if start < 0:
            return Rank(LETTERS, -score(needle, name)) if is_subsequence(needle, name) else None
        if start == 0:
            kind = EXACT if needle and len(text) == len(needle) else PREFIX
            return Rank(kind, not name.startswith(word))
        while start > 0:
            if not text[start - 1].isalnum():
                return Rank(WORD_START)
            start = text.find(needle, start + 1)
        return Rank(INSIDE)

    return rank


def ranked(word: str, items: Iterable[T], names_of: Callable[[T], Iterable[str]]) -> list[T]:
    """Return the items with a name that matches a word, the best first. Equal ranks keep the order of the items.

    Args:
        word: the word; an empty word returns all items.
        items: the items.
        names_of: returns the names of an item. The best one counts, and among equals the first.

    """
    rank = ranker(word)
    found: list[tuple[Rank, int, T]] = []
    for item in items:
        ranks = [(one, number) for number, name in enumerate(names_of(item)) if (one := rank(name)) is not None]
        if ranks:
            found.append((*min(ranks), item))
    found.sort(key=lambda entry: entry[:2])
    return [item for *_, item in found]


def lowered(text: str) -> str:
    """Return a text in lower case, with each character in its place. O(length)."""
    lower = text.lower()
    return lower if len(lower) == len(text) else "".join(sign.lower()[0] for sign in text)


def is_subsequence(needle: str, text: str) -> bool:
    """Whether a text has the characters of a lower-case needle in order. O(length)."""
    lower, position = lowered(text), -1
    for sign in needle:
        position = lower.find(sign, position + 1)
        if position < 0:
            return False
    return True


def match_positions(needle: str, text: str) -> list[int]:
    """Return the positions of a needle's characters in a text: adjacent, or else close together. O(length)."""
    lower, needle = lowered(text), needle.lower()
    start = lower.find(needle)
    while start > 0 and lower[start - 1].isalnum():  # prefer a later match at the start of a word
        later = lower.find(needle, start + 1)
        if later < 0:
            break
        start = later
    if start >= 0:
        return list(range(start, start + len(needle)))
    end = -1
    for sign in needle:
        end = lower.find(sign, end + 1)
    positions = []
    end += 1
    for sign in reversed(needle):
        end = lower.rfind(sign, 0, end)
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
