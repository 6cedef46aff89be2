"""Search many names by a typed word at the speed of one search in a text. Without I/O, for completion.

What `ranking` tells of one name at a time is found here in all names at once. A word that is in no name is taken for
the letters of a name in order, and then for a name with one slip: a letter too many, too few, another or swapped.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence

from .ranking import EXACT, PREFIX, Rank, lowered, ranker, score

_BETWEEN = "\0"  # between two names: no name contains it
_RANKED_NAMES = 1000  # that contain a word: the best of them come first, and later names are not looked at
_SLIP_LETTERS = range(4, 41)  # letters of a word that is searched with a slip


class NameSearch:
    """Names in their order, to be searched by words. O(length of all names) to make.

    Args:
        names: the names.

    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names
        self._text = _BETWEEN.join(map(lowered, names))
        self._starts: list[int] = []
        position = 0
        for name in names:
            self._starts.append(position)
            position += len(name) + 1

    def __call__(self, word: str) -> list[int]:
        """Return the numbers of the names that match a word, the best first; all of them for an empty word.

        Without a name that contains the word, those that are similar. O(length of all names), by searches of the text.
        """
        if not word:
            return list(range(len(self.names)))
        return self.containing(word) or self.similar(word)

    def containing(self, word: str) -> list[int]:
        """Return the names that contain a word. A single letter must be their first one."""
        return [number for found, number in self._ranks(word) if len(word) > 1 or found.kind in (EXACT, PREFIX)]

    def inside(self, word: str) -> list[int]:
        """Return the names that contain a word behind their start. A single letter is in none."""
        if len(word) < 2:
            return []
        ranks = self._ranks(word, f"(?<=[^{_BETWEEN}])")
        return [number for found, number in ranks if found.kind not in (EXACT, PREFIX)]

    def similar(self, word: str) -> list[int]:
        """Return the names that have the letters of a word in order; if there is none, those with one slip."""
        return [] if len(word) < 2 else self._spread(lowered(word)) or self._slipped(lowered(word))

    def _ranks(self, word: str, behind: str = "") -> list[tuple[Rank, int]]:
        rank, numbers = ranker(word), self._matches(behind + re.escape(lowered(word)))
        return sorted((found, number) for number in numbers if (found := rank(self.names[number])))

    def _spread(self, needle: str) -> list[int]:
        """Return the names that have the letters of a needle in order, the closest together first."""
        letters = [re.escape(letter) for letter in needle]
        inner = "".join(f"[^{_BETWEEN}{letter}]*{letter}" for letter in letters)
        found = list(self._matches(rf"(?:^|(?<={_BETWEEN})){inner}"))
        return sorted(found, key=lambda number: -score(needle, self.names[number]))

    def _slipped(self, needle: str) -> list[int]:
        """Return the names with a part that differs from a needle by one slip; those of its first letter come first."""
        if len(needle) not in _SLIP_LETTERS:
            return []
        found: set[int] = set()
        for at in range(len(needle)):
            before, letter, after = map(re.escape, (needle[:at], needle[at], needle[at + 1 :]))
            sign = f"[^{_BETWEEN}]"
            slips = [before + after, before + sign + after, before + sign + letter + after]
            if at + 1 < len(needle):
                slips.append(before + re.escape(needle[at + 1]) + letter + re.escape(needle[at + 2 :]))
            for slip in slips:
                found.update(self._matches(slip))
        return sorted(found, key=lambda number: (not lowered(self.names[number]).startswith(needle[0]), number))

    def _matches(self, pattern: str) -> Iterator[int]:
        """Yield the numbers of the first names that match a regular expression, each once."""
        last, count = -1, 0
        for match in re.finditer(pattern, self._text):
            number = bisect_right(self._starts, match.start()) - 1
            if number != last:
                yield number
                last, count = number, count + 1
                if count == _RANKED_NAMES:
                    return
