"""The list of stores and their namespaces, each with its number of keys."""

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
    """A row: a store (what opens it and what is shown), or a namespace of the store."""

    store: str
    shown: str
    namespace: str | None = None


class Namespaces(VirtualList):
    """Lists the stores of `stateview.toml` and of the command line. Opening a store reads its namespaces.

    Args:
        stores: for each store, the argument of `open` and the text to show, which holds no password.
        open: returns a read-only manager of a store and a namespace. The list closes it.

    """

    def __init__(self, stores: list[tuple[str, str]], open: Opener, id: str | None = None) -> None:
        super().__init__(id=id)
        self._stores = stores
        self._open = open
        self._names: dict[str, list[str]] = {}  # the namespaces of each open store
        self._heads: dict[tuple[str, str], Head] = {}
        self._counted: set[tuple[str, str]] = set()  # namespaces whose head was requested
        self._folded: set[str] = set()  # stores that the user has closed
        self._errors: dict[str | tuple[str, str], str] = {}  # by store, or by store and namespace
        self._current = ("", "")
        self._entries: list[TreeEntry] = [TreeEntry(*store) for store in stores]

    @property
    def count(self) -> int:
        return len(self._entries)

    @property
    def entry(self) -> TreeEntry:
        """The entry under the cursor."""
        return self._entries[self.cursor]

    def set_current(self, store: str, namespace: str, head: Head | None = None) -> None:
        """Mark the namespace that the dashboard shows, and open its store. `head` updates its number of keys."""
        switched = self._current != (store, namespace)
        self._current = store, namespace
        earlier = self._heads.get(self._current)
        if head is not None:
            self._heads[self._current] = head
        if store not in self._names or (head and head.lineage and namespace not in self._names[store]):
            self.call_after_refresh(self._open_current, store)
        if switched:
            self._folded.discard(store)
            self._rebuild(TreeEntry(store, dict(self._stores)[store], namespace))
        elif head and (earlier is None or earlier.count != head.count):
            self.refresh()

    def _open_current(self, store: str) -> None:
        if store not in self._folded:
            self.read(store)

    def read(self, store: str) -> None:
        """Read the namespaces of a store, and their numbers of keys."""
        self._folded.discard(store)

        def read_names(_stop: Stop) -> list[str]:
            with self._open(store, None) as manager:
                return manager.namespaces()

        def show_names(names: list[str]) -> None:
            self._errors.pop(store, None)
            self._names[store] = names
            self._counted = {namespace for namespace in self._counted if namespace[0] != store}
            self._rebuild(self.entry)

        def failed(error: Exception) -> None:
            self._errors[store] = str(error)
            self._names.setdefault(store, [])
            self.dashboard.show_error(error)  # the row has no room for the whole message
            self.refresh()

        self.dashboard.reader.submit(self, ("names", store), read_names, show_names, failed)

    def close(self, store: str) -> None:
        """Hide the namespaces of a store."""
        self.dashboard.reader.cancel(self, ("names", store))  # its result would open the store again
        self._folded.add(store)
        self._names.pop(store, None)
        self._rebuild(self.entry)

    def is_open(self, store: str) -> bool:
        """Whether a store shows its namespaces."""
        return store in self._names

    def _rebuild(self, cursor: TreeEntry) -> None:
        """Build the entries again, and leave the cursor on its entry."""
        entries = []
        for store, shown in self._stores:
            entries.append(TreeEntry(store, shown))
            names = self._names.get(store, [])
            if store == self._current[0] and self._current[1] not in names and store in self._names:
                names = sorted([*names, self._current[1]])  # it exists from its first save on
            entries += [TreeEntry(store, shown, name) for name in names]
        self._entries = entries
        self.count_changed()
        if cursor in entries:
            self.cursor = entries.index(cursor)

    def _count_keys(self, namespace: tuple[str, str]) -> None:
        """Read the number of keys of a namespace. Called for visible rows only."""
        if namespace in self._counted or namespace == self._current:
            return
        self._counted.add(namespace)

        def read_head(_stop: Stop) -> Head:
            with self._open(*namespace) as manager:
                return manager.head()

        def show_head(head: Head) -> None:
            self._heads[namespace] = head
            self._errors.pop(namespace, None)
            self.refresh()

        def failed(error: Exception) -> None:
            self._errors[namespace] = str(error)
            self.refresh()

        self.dashboard.reader.submit(self, namespace, read_head, show_head, failed)

    def render_row(self, index: int, cells: RowBuilder) -> None:
        entry = self._entries[index]
        if entry.namespace is None:
            cells.add("▾ " if entry.store in self._names else "▸ ", self.style_of("dim"))
            cells.add(entry.shown, self.style_of("word"))
            if error := self._errors.get(entry.store):
                cells.add(f"  ! {error}", self.style_of("error"))
            return
        namespace = entry.store, entry.namespace
        self._count_keys(namespace)
        failed, head = namespace in self._errors, self._heads.get(namespace)
        count = "!" if failed else format_count(head.count if head else None)
        cells.add("● " if namespace == self._current else "  ", self.style_of("mark"))
        cells.add(entry.namespace, self.style_of("key"), max(4, cells.left - len(count) - 1))
        cells.add(f" {count}", self.style_of("error" if failed else "number"))

    def empty_text(self) -> list[str]:
        return ["no store"]
