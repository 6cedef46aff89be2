"""A source of the keys that match a word: those that start with it, and then those that have it elsewhere."""

from __future__ import annotations

from ....backends.protocol import KeySummary
from ....manager import StateManager
from ....states.view import Ref
from ..filtered_key_source import FilteredKeys
from ..key_source import KeyRange, Order, Page, Stop


class RankedKeys:
    """The keys that match a word, the best first.

    The keys that start with the word come first, in key order: they are read page by page, so a million of them need
    no search. A search in the background finds the others, see `ranker`. The rows of the others follow as soon as the
    number of the first ones is known.

    Args:
        manager: of the namespace.
        at: the state; None is live.
        text: the word.
        redact: globs, as for `FilteredKeys`.

    """

    order: Order = "key"

    def __init__(self, manager: StateManager, at: Ref | None, text: str, redact: tuple[str, ...] = ()) -> None:
        self.manager = manager
        self.at = at
        self.text = text
        self._first = KeyRange(manager, at, text)
        self._others = FilteredKeys(manager, at, text, redact=redact, without=text)

    @property
    def version(self) -> int:
        """Rises when pages that were read may no longer be right."""
        return self._first.version + self._others.version

    def page(self, start: int, limit: int) -> Page:
        """O(log n + limit), and as `KeyRange.page` without ranks."""
        version, total = self.version, self._first.total
        others = self._others.page(0, 0).total or 0
        if total is not None:
            start = max(0, min(start, total + others - limit))
        rows: list[KeySummary] = []
        if total is None or start < total:
            page = self._first.page(start, limit if total is None else min(limit, total - start))
            start, rows, total = page.start, page.rows, page.total
        if total is None:
            return Page(start, rows, None, start, version)
        rows += self._others.page(max(0, start - total), limit - len(rows)).rows if limit > len(rows) else []
        return Page(start, rows, max(total + others, start + len(rows)), start, version)

    def page_around(self, key: str, above: int, below: int, rank: int | None = None) -> Page:
        """O(log n + above + below), and as `KeyRange.page_around` without `rank`."""
        if key.startswith(self.text):
            place = self._first.page_around(key, 1, 1, rank).place
        else:
            place = (self._first.total or 0) + self._others.page_around(key, 0, 0).place
        page = self.page(max(0, place - above), min(place, above) + below)
        return page._replace(place=place)

    def invalidate(self, changed: list[str] | None) -> None:
        """O(changes)."""
        self._first.invalidate(changed)
        self._others.invalidate(changed)

    def work(self, stop: Stop) -> float | None:
        """O(keys) for the search; then O(changes)."""
        rests = [rest for source in (self._first, self._others) if (rest := source.work(stop)) is not None]
        return min(rests, default=None)

    def cancel(self) -> None:
        """End the search. The rows found so far stay."""
        self._others.cancel()

    @property
    def is_searching(self) -> bool:
        """Whether the search is under way."""
        return self._others.is_searching

    def status(self) -> list[str]:
        """Return the remarks of the search."""
        return self._others.status()
