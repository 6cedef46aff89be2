"""The search in a value: the matches, the current match, and the state of the search."""

from __future__ import annotations

import re
from collections.abc import Callable

from msgspec import Raw

from ...data.background import Stop
from ...data.values.json_nodes import LongText
from ...data.values.json_search import MAX_HITS, Hit, search
from ...data.values.json_tree import Tree
from ..virtual_list import VirtualList


class ValueSearch:
    """Searches names and values of a tree on a thread.

    `pattern` matches the text, and is None without a search. `report`, if set, is called with each new `status`.

    Args:
        owner: the list that shows the tree.
        go_to: moves the cursor of the list to a match.

    """

    def __init__(self, owner: VirtualList, go_to: Callable[[Hit], None]) -> None:
        self._owner = owner
        self._go_to = go_to
        self.text = ""
        self.pattern: re.Pattern[str] | None = None
        self.report: Callable[[str], None] | None = None
        self._hits: list[Hit] | None = []  # None while the search runs
        self._more = False  # whether the value may have more matches than `_hits`
        self._index = 0

    @property
    def hit(self) -> Hit | None:
        """The current match."""
        return self._hits[self._index] if self._hits else None

    @property
    def status(self) -> str:
        """The number of the current match, such as `3/17`, or the state of the search. Empty without a search."""
        if not self.text:
            return ""
        if self._hits is None:
            return "searching…"
        if not self._hits:
            return "no match"
        return f"{self._index + 1:,}/{len(self._hits):,}{'+' if self._more else ''}"

    def start(self, text: str, tree: Tree | None, data: bytes) -> None:
        """Search, and go to the first match.

        Args:
            text: the text to find. Without capital letters, case is ignored. An empty text ends the search.
            tree: the tree to search, if a value is shown.
            data: the stored value. It is searched instead of a tree that holds only the start of a long text.

        """
        self._start(text, tree, data, jump=True)

    def restart(self, tree: Tree | None, data: bytes) -> None:
        """Search the text in a new tree. The cursor stays, unless the first match has not been found yet."""
        if self.text:
            self._start(self.text, tree, data, jump=self._hits is None)

    def cancel(self) -> None:
        """End the search."""
        self._owner.dashboard.reader.cancel(self._owner, "search")
        self.text, self.pattern, self._hits = "", None, []

    def passes_end(self, by: int) -> bool:
        """Whether `step` would begin again at the other end."""
        return bool(self._hits) and not 0 <= self._index + by < len(self._hits or [])

    def step(self, by: int) -> None:
        """Go to the next or previous match."""
        if self._hits:
            self._index = (self._index + by) % len(self._hits)
            self._go_to(self._hits[self._index])

    def _start(self, text: str, tree: Tree | None, data: bytes, jump: bool) -> None:
        self._owner.dashboard.reader.cancel(self._owner, "search")
        self.text, self.pattern = text, None
        if not text or tree is None or tree.root.masked:
            self._take([], False)
            return
        exact = any(letter.isupper() for letter in text)
        self.pattern = re.compile(re.escape(text), 0 if exact else re.IGNORECASE)
        if jump:
            self._hits = None
            self._report_status()
        value, patterns, width = tree.root.value, tree.patterns, tree.width
        if isinstance(value, LongText):
            value = Raw(data)

        def find(stop: Stop) -> list[Hit]:
            return list(search(value, text, patterns, stop, width=width))

        dashboard = self._owner.dashboard
        dashboard.reader.submit(self._owner, "search", find, lambda hits: self._take(hits, jump), dashboard.show_error)

    def _take(self, hits: list[Hit], jump: bool) -> None:
        self._hits = hits
        self._more = len(hits) == MAX_HITS or any(hit.more for hit in hits)
        self._index = 0 if jump else min(self._index, max(0, len(hits) - 1))
        if hits and jump:
            self._go_to(hits[0])
        self._report_status()
        self._owner.refresh()

    def _report_status(self) -> None:
        if self.report is not None:
            self.report(self.status)
