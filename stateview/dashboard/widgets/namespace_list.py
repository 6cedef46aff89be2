"""The list of stores and their namespaces, each with its run and its number of keys."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from rich.cells import cell_len

from ...backends.protocol import Head
from ...errors import StateException
from ...manager import StateManager
from ...model import now
from ...workflow.progress import RunGlance, newest_run
from ..data.background import Stop
from ..display.run_row import ROLES, run_texts
from ..display.text import RowBuilder, format_count
from .virtual_list import VirtualList

Opener = Callable[[str | None, str | None], StateManager]
POLL_SECONDS = 5.0  # the visible namespaces are read again after so many seconds
REST_FACTOR = 10.0  # a slow read is followed by a rest of this many times its length
_NAME_COLUMNS = 8  # of a name, before what its run does is cut


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
        self._runs: dict[tuple[str, str], RunGlance | None] = {}
        self._polled_until = 0.0  # when the next read may begin, by `time.monotonic()`
        self._entries: list[TreeEntry] = [TreeEntry(*store) for store in stores]

    def on_mount(self) -> None:
        """Read the visible namespaces again and again."""
        self.set_interval(POLL_SECONDS, self._poll)

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

    def _read(self, namespace: tuple[str, str]) -> None:
        """Read the number of keys and the run of a namespace. Called for visible rows only."""
        if namespace in self._counted or namespace == self._current:
            return
        self._counted.add(namespace)

        def failed(error: Exception) -> None:
            self._errors[namespace] = str(error)
            self.refresh()

        self.dashboard.reader.submit(
            self,
            namespace,
            lambda _stop: self._summary(namespace),
            lambda found: self._show({namespace: found}),
            failed,
        )

    def _summary(self, namespace: tuple[str, str]) -> tuple[Head, RunGlance | None]:
        with self._open(*namespace) as manager:
            return manager.head(), _run_of(manager)

    def _show(self, found: dict[tuple[str, str], tuple[Head, RunGlance | None]]) -> None:
        for namespace, (head, run) in found.items():
            self._errors.pop(namespace, None)
            self._heads[namespace], self._runs[namespace] = head, run
        self.refresh()

    def read_run(self, manager: StateManager) -> None:
        """Read the run of the namespace that the dashboard shows, after a commit to the entries of its runs."""
        current = self._current

        def show(run: RunGlance | None) -> None:
            self._runs[current] = run
            self.refresh()

        self.dashboard.reader.submit(self, "run", lambda _stop: _run_of(manager), show, lambda _error: None)

    def refresh_ages(self) -> None:
        """Show since when the runs are as they are."""
        if any(self._runs.values()):
            self.refresh()

    def _poll(self) -> None:
        """Read the visible namespaces again: nobody tells of commits to them."""
        started = time.monotonic()
        if not self.size.height or started < self._polled_until or self.app.screen is not self.screen:
            return
        top = self.scroll_offset.y
        visible = [(one.store, one.namespace) for one in self._entries[top : top + self.size.height] if one.namespace]
        others = [one for one in visible if one in self._counted and one != self._current]
        current, manager = self._current, self.dashboard.manager
        is_going_on = self._is_going_on(current)
        if not others and not is_going_on:
            return
        self._polled_until = started + 60  # until it is read

        def read(stop: Stop) -> dict[tuple[str, str], tuple[Head, RunGlance | None]]:
            found = {}
            for namespace in others:
                if stop():
                    break
                with suppress(StateException, OSError):
                    found[namespace] = self._summary(namespace)
            if is_going_on:  # its process may have ended, which no commit tells
                found[current] = manager.head(), _run_of(manager)
            return found

        def show(found: dict[tuple[str, str], tuple[Head, RunGlance | None]]) -> None:
            ended = time.monotonic()
            self._polled_until = ended + REST_FACTOR * (ended - started) - POLL_SECONDS
            self._show(found)

        self.dashboard.reader.submit(self, "poll", read, show, lambda _error: None)

    def _is_going_on(self, namespace: tuple[str, str]) -> bool:
        run = self._runs.get(namespace)
        return run is not None and run.state == "running"

    def render_row(self, index: int, cells: RowBuilder) -> None:
        entry = self._entries[index]
        if entry.namespace is None:
            cells.add("▾ " if entry.store in self._names else "▸ ", self.style_of("dim"))
            cells.add(entry.shown, self.style_of("word"))
            if error := self._errors.get(entry.store):
                cells.add(f"  ! {error}", self.style_of("error"))
            return
        namespace = entry.store, entry.namespace
        self._read(namespace)
        failed, head = namespace in self._errors, self._heads.get(namespace)
        count = "!" if failed else format_count(head.count if head else None)
        cells.add("● " if namespace == self._current else "  ", self.style_of("mark"))
        self._paint_name(entry.namespace, self._runs.get(namespace), cells, len(count) + 1)
        cells.add(f" {count}", self.style_of("error" if failed else "number"))

    def _paint_name(self, name: str, run: RunGlance | None, cells: RowBuilder, right: int) -> None:
        """Add a name, and as much of what its run does as there is room for: at least the sign."""
        room = cells.left - right
        if run is None:
            cells.add(name, self.style_of("key"), max(4, room))
            return
        texts = run_texts(run, now())
        free = room - min(cell_len(name), max(_NAME_COLUMNS, room - 2)) - 1
        text = next((text for text in texts if cell_len(text) <= free), texts[-1])
        cells.add(name, self.style_of("key"), max(4, room - cell_len(text) - 1))
        cells.add(f" {text}", self.style_of(ROLES.get(run.state, "dim")))

    def empty_text(self) -> list[str]:
        return ["no store"]


def _run_of(manager: StateManager) -> RunGlance | None:
    """Return the newest run; None also where its entries cannot be read, as without a key."""
    with suppress(StateException):
        return newest_run(manager)
    return None
