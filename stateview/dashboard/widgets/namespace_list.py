"""The list of stores and their namespaces, each with its run and its number of keys."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import ClassVar, NamedTuple

from rich.cells import cell_len
from textual.binding import Binding, BindingType
from textual.reactive import reactive

from ...backends.protocol import Head
from ...errors import BackendUnavailable, StateException
from ...manager import StateManager
from ...model import now
from ...workflow.progress import RunGlance, newest_run
from ..data.background import Stop
from ..data.filters.namespaces import NamespaceFilter
from ..data.rests import Rests
from ..display.run_row import ROLES, run_texts
from ..display.text import RowBuilder, format_count
from .virtual_list import VirtualList

Opener = Callable[[str | None, str | None], StateManager]
POLL_SECONDS = 5.0  # the visible namespaces are read again after so many seconds
REST_FACTOR = 10.0  # a slow read is followed by a rest of this many times its length
SEARCH_SECONDS = 0.2  # seconds of one piece of a search
_NAME_COLUMNS = 8  # of a name, before what its run does is cut


class TreeEntry(NamedTuple):
    """A row: a store (what opens it and what is shown), a namespace of the store, or a run that a filter found."""

    store: str
    shown: str
    namespace: str | None = None
    run: RunGlance | None = None


class Namespaces(VirtualList):
    """Lists the stores of `stateview.toml` and of the command line. Opening a store reads its namespaces.

    Args:
        stores: for each store, the argument of `open` and the text to show, which holds no password.
        open: returns a read-only manager of a store and a namespace. The list closes it.

    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "halt", "Stop the search", show=False, id="namespaces.stop"),
    ]

    status: reactive[str] = reactive("", repaint=False)
    """How many namespaces match the filter, and the state of the search; empty without a filter."""

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
        self._rests = Rests(REST_FACTOR)
        self._entries: list[TreeEntry] = [TreeEntry(*store) for store in stores]
        self._filter = NamespaceFilter("")
        self._found: list[TreeEntry] = []  # what the search of the filter has found
        self._searched: int | None = None  # namespaces that were searched; None without a search under way
        self._choose_first = False  # Enter was pressed before a match was found

    def on_mount(self) -> None:
        """Read the visible namespaces again and again."""
        self.set_interval(POLL_SECONDS, self._poll)

    @property
    def count(self) -> int:
        return len(self._entries)

    @property
    def entry(self) -> TreeEntry | None:
        """The entry under the cursor; None if nothing matches the filter."""
        return self._entries[self.cursor] if self._entries else None

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
            if self._filter.reads and self._searched is None:
                self._found.clear()
                self._search(0)

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

    # --- the filter --------------------------------------------------------------------------------------------

    def filter(self, text: str) -> None:
        """Show the namespaces that match a filter, see `NamespaceFilter.parse`. An empty filter shows all by store."""
        wanted = NamespaceFilter.parse(text)
        if wanted == self._filter:
            return
        cursor = self.entry
        self._filter, self._found, self._choose_first = wanted, [], False
        self._searched = None
        self.dashboard.reader.cancel(self, "search")
        if wanted.reads:
            self._search(0)
        self._rebuild(None if text else cursor and cursor._replace(run=None))

    def choose_first(self) -> None:
        """Choose the row under the cursor, or the first match as soon as one is found."""
        if self._entries:
            self.action_choose()
        else:
            self._choose_first = self._searched is not None

    def _search(self, start: int) -> None:
        """Search the namespaces from an index on, for a short time; then go on from there."""
        wanted, spaces = self._filter, self._all_names()
        self._searched = start

        def read(stop: Stop) -> tuple[list[TreeEntry], int]:
            found: list[TreeEntry] = []
            ends, index = time.monotonic() + SEARCH_SECONDS, start
            while index < len(spaces) and not stop() and (index == start or time.monotonic() < ends):
                entry = spaces[index]
                with suppress(StateException, OSError), self._open(entry.store, entry.namespace) as manager:
                    found += [entry._replace(run=run) for run in wanted.search(manager, stop)]
                index += 1
            return found, index

        def take(result: tuple[list[TreeEntry], int]) -> None:
            found, end = result
            self._found += found
            self._searched = None
            if end < len(spaces):
                self._search(end)
            self._rebuild(self.entry)
            if found and self._choose_first:
                self._choose_first = False
                self.action_choose()

        def failed(error: Exception) -> None:
            self._searched = None
            self.post_message(self.Failed(error))
            self._update_status()

        self.dashboard.reader.submit(self, "search", read, take, failed)

    def action_halt(self) -> None:
        """Stop the search. The namespaces found so far stay."""
        self.dashboard.reader.cancel(self, "search")
        self._searched = None
        self._update_status()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:  # noqa: ARG002 - Textual's
        """Leave Escape to the screen unless a search runs."""
        return action != "halt" or self._searched is not None

    def _update_status(self) -> None:
        total = sum(map(len, self._names.values()))
        if not self._filter.text:
            self.status = ""
            return
        parts = [f"{len(self._entries):,} of {total:,}"]
        if self._searched is not None:
            parts = [f"{len(self._entries):,} found", f"{self._searched * 100 // max(1, total)}% searched, esc stops"]
        self.status = " · ".join(parts)

    def _all_names(self) -> list[TreeEntry]:
        """Return the namespaces of all open stores."""
        return [
            TreeEntry(store, shown, name)
            for store, shown in self._stores
            for name in self._filter.names(self._names_of(store))
        ]

    def _names_of(self, store: str) -> list[str]:
        names = self._names.get(store, [])
        if store == self._current[0] and self._current[1] not in names and store in self._names:
            names = sorted([*names, self._current[1]])  # it exists from its first save on
        return names

    def _rebuild(self, cursor: TreeEntry | None) -> None:
        """Build the entries again, and leave the cursor on its entry; None moves it to the first."""
        if self._filter.reads:
            entries = list(self._found)
        elif self._filter.text:
            entries = self._all_names()
        else:
            entries = []
            for store, shown in self._stores:
                entries.append(TreeEntry(store, shown))
                entries += [TreeEntry(store, shown, name) for name in self._names_of(store)]
        self._entries = entries
        self.count_changed()
        self.cursor = entries.index(cursor) if cursor in entries else 0 if cursor is None else self.cursor
        self._update_status()

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

        is_lost = False

        def read(stop: Stop) -> dict[tuple[str, str], tuple[Head, RunGlance | None]]:
            nonlocal is_lost
            found = {}
            for namespace in others:
                if stop():
                    break
                try:
                    found[namespace] = self._summary(namespace)
                except BackendUnavailable:
                    is_lost = True
                except (StateException, OSError):
                    pass  # the list says of each namespace that it cannot be read when it first reads it
            if is_going_on:  # its process may have ended, which no commit tells
                found[current] = manager.head(), _run_of(manager)
            return found

        def show(found: dict[tuple[str, str], tuple[Head, RunGlance | None]]) -> None:
            ended = time.monotonic()
            self._polled_until = 0.0 if is_lost else ended + self._rests.after(ended - started) - POLL_SECONDS
            self._show(found)

        def failed(_error: Exception) -> None:
            self._polled_until = 0.0

        self.dashboard.reader.submit(self, "poll", read, show, failed)

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
        store = f" {entry.shown}" if self._filter.text and len(self._names) > 1 else ""
        self._paint_name(entry.namespace, entry.run or self._runs.get(namespace), cells, len(count) + 1, store)
        cells.add(f" {count}", self.style_of("error" if failed else "number"))

    def _paint_name(self, name: str, run: RunGlance | None, cells: RowBuilder, right: int, store: str = "") -> None:
        """Add a name, and as much of what its run does as there is room for: at least the sign."""
        room = cells.left - right
        if store and cell_len(store) <= room - cell_len(name):
            room -= cell_len(store)
            cells.left -= cell_len(store)
            self._paint_name(name, run, cells, right)
            cells.left += cell_len(store)
            cells.add(store, self.style_of("dim"))
            return
        if run is None:
            cells.add(name, self.style_of("key"), max(4, room))
            return
        texts = run_texts(run, now())
        free = room - min(cell_len(name), max(_NAME_COLUMNS, room - 2)) - 1
        text = next((text for text in texts if cell_len(text) <= free), texts[-1])
        cells.add(name, self.style_of("key"), max(4, room - cell_len(text) - 1))
        cells.add(f" {text}", self.style_of(ROLES.get(run.state, "dim")))

    def empty_text(self) -> list[str]:
        if self._searched is not None:
            return ["searching…", "esc stops"]
        if not self._filter.text:
            return ["no store"]
        reasons = {"=": "holds a key that matches", "!": "has a run in the state"}
        return [
            f"no namespace {reasons.get(self._filter.sign, 'matches')} {self._filter.text!r}",
            "esc clears the filter",
        ]


def _run_of(manager: StateManager) -> RunGlance | None:
    """Return the newest run; None also where its entries cannot be read, as without a key."""
    with suppress(StateException):
        return newest_run(manager)
    return None
