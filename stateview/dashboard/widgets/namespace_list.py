"""Stores and their namespaces, with how many keys each holds; the open store's namespaces below it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ...backends.protocol import Head
from ...manager import StateManager
from ..data.background import Stop
from ..display.text import RowBuilder, format_count
from .virtual_list import VirtualList

Opener = Callable[[str | None, str | None], StateManager]


class TreeEntry(NamedTuple):
    """A store (as it is given and as it is shown), or a namespace in it."""

    store: str
    shown: str
    namespace: str | None = None


class Namespaces(VirtualList):
    """The stores of `stateview.toml` and the one that was given. A store is read when it is opened.

    Args:
        stores: what to give to `open`, and what to show (no password), of each store.
        open: makes a manager for reading only, which is closed here.

    """

    def __init__(self, stores: list[tuple[str, str]], open: Opener, id: str | None = None) -> None:
        super().__init__(id=id)
        self._stores = stores
        self._open = open
        self._names: dict[str, list[str]] = {}  # of the stores that are open
        self._heads: dict[tuple[str, str], Head] = {}
        self._asked: set[tuple[str, str]] = set()
        self._folded: set[str] = set()  # stores that are not to open of themselves
        self._trouble: dict[str, str] = {}
        self._here = ("", "")
        self._lines: list[TreeEntry] = [TreeEntry(*store) for store in stores]

    @property
    def count(self) -> int:
        """See `VirtualList.count`."""
        return len(self._lines)

    @property
    def place(self) -> TreeEntry:
        """What the cursor is on."""
        return self._lines[self.cursor]

    def here(self, store: str, namespace: str, head: Head | None = None) -> None:
        """Say which namespace the dashboard is in, and how it stands if that is known; its store is opened."""
        went = self._here != (store, namespace)
        self._here = store, namespace
        known = self._heads.get(self._here)
        if head is not None:
            self._heads[self._here] = head
        if store not in self._names or (head and head.lineage and namespace not in self._names[store]):
            self.call_after_refresh(self._follow, store)
        if went:
            self._folded.discard(store)
            self._arrange(TreeEntry(store, dict(self._stores)[store], namespace))
        elif head and (known is None or known.count != head.count):
            self.refresh()

    def _follow(self, store: str) -> None:
        if store not in self._folded:
            self.read(store)

    def read(self, store: str) -> None:
        """Read, or read again, which namespaces a store has, and how many keys each."""
        self._folded.discard(store)

        def names(_stop: Stop) -> list[str]:
            with self._open(store, None) as manager:
                return manager.namespaces()

        def took(found: list[str]) -> None:
            self._trouble.pop(store, None)
            self._names[store] = found
            self._asked = {asked for asked in self._asked if asked[0] != store}
            self._arrange(self.place)

        def failed(error: Exception) -> None:
            self._trouble[store] = str(error)
            self._names.setdefault(store, [])
            self.app.show_error(error)  # type: ignore[attr-defined]  # the line has no room for all of it
            self.refresh()

        self.app.reader.submit(self, ("names", store), names, took, failed)  # type: ignore[attr-defined]

    def close(self, store: str) -> None:
        """Show a store without its namespaces."""
        self.app.reader.cancel(self, ("names", store))  # type: ignore[attr-defined]  # else they open it again
        self._folded.add(store)
        self._names.pop(store, None)
        self._arrange(self.place)

    def is_open(self, store: str) -> bool:
        """Whether a store shows its namespaces."""
        return store in self._names

    def _arrange(self, at: TreeEntry) -> None:
        lines = []
        for store, shown in self._stores:
            lines.append(TreeEntry(store, shown))
            names = self._names.get(store, [])
            if store == self._here[0] and self._here[1] not in names and store in self._names:
                names = sorted([*names, self._here[1]])  # one that its first save will make
            lines += [TreeEntry(store, shown, name) for name in names]
        self._lines = lines
        self.count_changed()
        if at in lines:
            self.cursor = lines.index(at)

    def _count(self, place: TreeEntry) -> None:
        """Read how many keys a namespace holds: only of those that are seen."""
        assert place.namespace is not None
        key = place.store, place.namespace
        if key in self._asked or key == self._here:
            return
        self._asked.add(key)

        def head(_stop: Stop) -> Head:
            with self._open(*key) as manager:
                return manager.head()

        def took(found: Head) -> None:
            self._heads[key] = found
            self._trouble.pop("\0".join(key), None)
            self.refresh()

        def failed(error: Exception) -> None:
            self._trouble["\0".join(key)] = str(error)
            self.refresh()

        self.app.reader.submit(self, key, head, took, failed)  # type: ignore[attr-defined]

    def render_row(self, index: int, cells: RowBuilder) -> None:
        """See `VirtualList.render_row`."""
        place = self._lines[index]
        if place.namespace is None:
            cells.add("▾ " if place.store in self._names else "▸ ", self.style_of("dim"))
            cells.add(place.shown, self.style_of("word"))
            if trouble := self._trouble.get(place.store):
                cells.add(f"  ! {trouble}", self.style_of("error"))
            return
        key = place.store, place.namespace
        self._count(place)
        trouble, head = self._trouble.get("\0".join(key)), self._heads.get(key)
        shown = "!" if trouble else format_count(head.count if head else None)
        here = key == self._here
        cells.add("● " if here else "  ", self.style_of("mark"))
        cells.add(place.namespace, self.style_of("key"), max(4, cells.left - len(shown) - 1))
        cells.add(f" {shown}", self.style_of("error" if trouble else "number"))

    def empty_text(self) -> list[str]:
        """See `VirtualList.empty_text`."""
        return ["no store"]
