"""The filter of the list of namespaces: by name, by the keys that a namespace holds, or by the state of its runs."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

from ....errors import StateException
from ....manager import StateManager
from ....states.matching.ranking import INSIDE, ranked, ranker
from ....workflow.progress import RunGlance, all_runs
from ..background import Stop
from ..key_filter import Filter, Match

KEYS_PER_PAGE = 1000
FAILED = "failed"  # the state that `!` alone stands for


class NamespaceFilter(NamedTuple):
    """A filter of namespaces as typed.

    Attributes:
        text: the text without its sign.
        sign: "" for names, `=` for the keys that a namespace holds, `!` for the states of its runs.

    """

    text: str
    sign: str = ""

    @classmethod
    def parse(cls, typed: str) -> NamespaceFilter:
        """Parse a filter: `=text` looks at keys, `!state` at runs; any other text is a filter of names as for keys."""
        if typed[:1] in ("=", "!"):
            return cls(typed[1:] or (FAILED if typed[:1] == "!" else ""), typed[:1])
        return cls(typed)

    @property
    def reads(self) -> bool:
        """Whether each namespace must be read."""
        return bool(self.sign and self.text)

    def names(self, names: Sequence[str]) -> list[str]:
        """Return the names that match: for a word the best first, else in their order. O(names)."""
        wanted = Filter.parse("" if self.sign else self.text)
        if wanted.kind == "word":
            return ranked(wanted.text, names, lambda name: [name])
        return list(filter(wanted.match(), names))

    def search(self, manager: StateManager, stop: Stop) -> list[RunGlance | None]:
        """Read a namespace, and return its matching runs; for a filter of keys, one None if a key matches.

        A namespace that cannot be read does not match: its row says so without a filter.
        """
        with suppress(StateException, OSError):
            if self.sign == "!":
                return [run for run in all_runs(manager) if run.state.startswith(self.text.lower())]
            return [None] if _holds(manager, Filter.parse(self.text), stop) else []
        return []


def _holds(manager: StateManager, wanted: Filter, stop: Stop) -> bool:
    """Whether a namespace has a key that matches. O(keys), or O(log n) if a key starts with the word."""
    backend, matches = manager.backend, _matcher(wanted)
    if wanted.kind == "word" and backend.list_keys(wanted.text, "", "", 1):
        return True
    after = ""
    while not stop() and (rows := backend.list_keys(wanted.prefix, after, "", KEYS_PER_PAGE)):
        if any(matches(row.key) for row in rows):
            return True
        after = rows[-1].key
    return False


def _matcher(wanted: Filter) -> Match:
    if wanted.kind != "word":
        return wanted.match()
    rank = ranker(wanted.text)

    def matches(key: str) -> bool:
        found = rank(key)
        return found is not None and found.kind <= INSIDE  # scattered letters would match nearly every namespace

    return matches
