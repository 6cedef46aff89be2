"""The table of all namespaces of a store: names at once, the facts of the visible rows in the background."""

from __future__ import annotations

import time
from functools import partial
from itertools import islice
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.reactive import reactive

from ....cli.results import plural
from ....errors import BackendUnavailable
from ....model import now
from ...data.background import Stop
from ...data.filters.namespaces import NamespaceFilter
from ...data.namespace_facts import COLUMNS, PROBLEMS, NamespaceFacts, in_order, read_facts
from ...data.rests import Rests
from ...display.run_row import ROLES, run_texts
from ...display.text import RowBuilder, format_age, format_count, format_size
from ..virtual_list import VirtualList
from .header import TableHeader, widths

PIECE_SECONDS = 0.1  # of one read, after which its facts are shown
POLL_SECONDS = 5.0  # the visible namespaces are read again after so many seconds
REST_FACTOR = 10.0  # a slow read is followed by a rest of this many times its length
_DELAY_SECONDS = 0.03  # collects the rows of one paint into one read
_NAMES_PER_PIECE = 500  # at most


class NamespaceTable(VirtualList):
    """Lists namespaces. An order by a fact, and a filter of runs, read the facts of all of them."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "mark", "Mark", id="overview.mark"),
        Binding("s", "sort", "Sort", id="overview.sort"),
        Binding("v", "reverse", "Reverse", show=False, id="overview.reverse"),
        Binding("escape", "halt", "Stop reading", show=False, id="overview.stop"),
    ]

    status: reactive[str] = reactive("", repaint=False)
    """How many namespaces are listed, in which order, and how many of them are read."""

    def __init__(self, current: str, id: str | None = None) -> None:
        super().__init__(id=id)
        self._current = current  # the namespace that the dashboard shows
        self._names: list[str] = []
        self._rows: list[str] = []  # those that match the filter, in order
        self._filter = NamespaceFilter("")
        self._column = 0
        self._backwards = False
        self._due: set[str] = set()  # visible names that are read again
        self._began: float | None = None  # when a read began, by `time.monotonic()`
        self._rest_until = 0.0
        self._rests = {"names": Rests(REST_FACTOR), "facts": Rests(REST_FACTOR)}
        self._halted = False  # only visible rows are read
        self._scheduled = False  # a read begins soon
        self._loaded = False  # the names have been read
        self._error = ""
        self.facts: dict[str, NamespaceFacts] = {}
        self.marked: list[str] = []  # at most two, in the order of marking

    def on_mount(self) -> None:
        """Read the names, then the visible namespaces again and again."""
        self.read()
        self.set_interval(1.0, self.refresh)  # the ages
        self.set_interval(POLL_SECONDS, self._poll)

    @property
    def count(self) -> int:
        return len(self._rows)

    @property
    def name_at_cursor(self) -> str | None:
        """The namespace under the cursor."""
        return self._rows[self.cursor] if self._rows else None

    # --- reading -----------------------------------------------------------------------------------------------

    def read(self, by_itself: bool = False) -> None:
        """Read the names, and the visible namespaces again.

        Args:
            by_itself: the user has not asked for it: what was stopped stays so, and an error is not shown again.

        """
        open_manager, began = self.dashboard.open, time.monotonic()

        def read_names(_stop: Stop) -> list[str]:
            with open_manager(None, None) as manager:
                return manager.namespaces()

        def show(names: list[str]) -> None:
            self._rest("names", began)
            first, self._loaded = not self._loaded, True
            self._names, self._error, self._halted = names, "", self._halted and by_itself
            self.facts = {name: self.facts[name] for name in names if name in self.facts}
            self._due = set(self._visible())
            self._rebuild(self._current if first else None)
            self._read_on()

        def failed(error: Exception) -> None:
            self._error = str(error)
            if not by_itself:
                self.dashboard.show_error(error)
            self._update_status()
            self.refresh()

        self.dashboard.reader.submit(self, "names", read_names, show, failed)

    def read_again(self, name: str) -> None:
        """Read a namespace again, if it is visible."""
        self._due.add(name)
        self._read_on()

    def _visible(self) -> list[str]:
        top = self.scroll_offset.y
        return self._rows[top : top + self.size.height]

    @property
    def _needs_all(self) -> bool:
        return not self._halted and (self._column > 0 or self._filter.sign == "!")

    def _unread(self) -> list[str]:
        """Return the names to read next: of the visible ones, else of the others if order or filter need them."""
        visible = [name for name in self._visible() if name not in self.facts or name in self._due]
        if visible or not self._needs_all:
            return visible
        return list(islice((name for name in self._names if name not in self.facts), _NAMES_PER_PIECE))

    def _read_on(self) -> None:
        """Read the next names for a short time, show their facts, and go on."""
        names, open_manager, self._scheduled = self._unread(), self.dashboard.open, False
        if self._began is not None or not names:
            self._update_status()
            return
        self._began = time.monotonic()

        def read(stop: Stop) -> dict[str, NamespaceFacts]:
            found: dict[str, NamespaceFacts] = {}
            ends = time.monotonic() + PIECE_SECONDS
            for name in names:
                found[name] = read_facts(partial(open_manager, None, name))
                if stop() or time.monotonic() >= ends:
                    break
            return found

        self.dashboard.reader.submit(self, "facts", read, self._take, self._failed)

    def _take(self, found: dict[str, NamespaceFacts]) -> None:
        if self._began is not None and not any(isinstance(facts.error, BackendUnavailable) for facts in found.values()):
            self._rest("facts", self._began)
        self._began = None
        for name, facts in found.items():
            self.facts[name] = facts.after(self.facts.get(name))
        self._due -= found.keys()
        if self._needs_all:
            self._rebuild()
        self.refresh()
        self._read_on()

    def _rest(self, subject: str, began: float) -> None:
        ended = time.monotonic()
        self._rest_until = max(self._rest_until, ended + self._rests[subject].after(ended - began))

    def _failed(self, error: Exception) -> None:
        self._began = None
        self.post_message(self.Failed(error))

    def _poll(self) -> None:
        """Read the names and the visible namespaces again: nobody tells of commits to them."""
        if self.app.screen is self.screen and self._began is None and time.monotonic() >= self._rest_until:
            self.read(by_itself=True)

    def action_halt(self) -> None:
        """Stop reading namespaces that are not visible."""
        self._halted = True
        self._update_status()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:  # noqa: ARG002 - Textual's
        """Leave Escape to the screen unless all namespaces are being read."""
        return action != "halt" or (self._needs_all and len(self.facts) < len(self._names))

    # --- order, filter and marks -------------------------------------------------------------------------------

    def filter(self, text: str) -> None:
        """Show the namespaces that match a filter: of names, or with `!` of the states of their runs."""
        wanted = NamespaceFilter.parse(text)
        if wanted != self._filter:
            self._filter, self._halted = wanted, False
            self._rebuild("" if text else None)
            self._read_on()

    def sort(self, column: int) -> None:
        """Sort by a column; by the present one, the other way round."""
        self._backwards = column == self._column and not self._backwards
        self._column, self._halted = column, False
        self.screen.query_one(TableHeader).show(self._column, self._backwards)
        self._rebuild("")
        self._read_on()

    def action_sort(self) -> None:
        """Sort by the next column."""
        self.sort((self._column + 1) % len(COLUMNS))

    def action_reverse(self) -> None:
        """Sort the other way round."""
        self.sort(self._column)

    def action_mark(self) -> None:
        """Mark the namespace under the cursor, or remove its mark. A third mark removes the first."""
        name = self.name_at_cursor
        if name is None:
            return
        if name in self.marked:
            self.marked.remove(name)
        else:
            self.marked = [*self.marked, name][-2:]
        self.refresh()
        self._update_status()

    def unmark(self) -> None:
        """Remove all marks."""
        self.marked = []
        self.refresh()
        self._update_status()

    def _rebuild(self, cursor: str | None = None) -> None:
        """Build the rows again, with the cursor on a name, by default on the same one; "" is the first row."""
        at = self.name_at_cursor if cursor is None else cursor
        if self._filter.sign == "!":
            rows = [name for name in self._names if self._runs_as_wanted(name)]
        else:
            rows = self._filter.names(self._names)
        ranked = self._filter.text and not self._filter.sign and not self._column
        if not ranked or self._backwards:
            rows = in_order(rows, self.facts, COLUMNS[self._column], self._backwards)
        self._rows = rows
        self.count_changed()
        if at == "":
            self.cursor = 0
        elif at in rows:
            self.cursor = rows.index(at)
        self.marked = [name for name in self.marked if name in self._names]
        self._update_status()

    def _runs_as_wanted(self, name: str) -> bool:
        facts = self.facts.get(name)
        return facts is not None and facts.run is not None and facts.run.state.startswith(self._filter.text.lower())

    def _update_status(self) -> None:
        column = COLUMNS[self._column]
        total, read = len(self._names), len(self.facts)
        shown = f"{len(self._rows):,} of " if self._filter.text else ""
        parts = [f"{shown}{plural(total, 'namespace')}"]
        parts.append(f"sorted by {column.reverse if self._backwards else column.order}")
        if self._needs_all and read < total:
            parts.append(f"{read * 100 // total}% read, esc stops")
        elif self._halted and read < total:
            parts.append(f"{read:,} read, R reads on")
        if self.marked:
            parts.append(f"{len(self.marked)} marked, d compares")
        self.status = " · ".join(parts)

    # --- painting ----------------------------------------------------------------------------------------------

    def render_row(self, index: int, cells: RowBuilder) -> None:
        name = self._rows[index]
        facts = self.facts.get(name)
        if facts is None and self._began is None and not self._scheduled:
            self._scheduled = True
            self.set_timer(_DELAY_SECONDS, self._read_on)
        facts = facts or NamespaceFacts()
        columns = widths(cells.left)
        cells.add("✓" if name in self.marked else " ", self.style_of("mark"))
        cells.add("● " if name == self._current else "  ", self.style_of("mark"))
        cells.add(name, self.style_of("key"), columns[0])
        size = "" if facts.keys is None else "–" if facts.size is None else format_size(facts.size)
        age = "" if facts.committed is None else format_age(facts.committed, now())
        count = "" if facts.problem and facts.keys is None else format_count(facts.keys)
        for text, width in zip((count, size, age), columns[1:4], strict=True):
            cells.add(f" {text:>{width - 1}}", self.style_of("dim" if text is age else "number"), width)
        if facts.problem:
            role = "dim" if facts.problem == "sealed" else "error"
            cells.add(f" ! {PROBLEMS[facts.problem]}", self.style_of(role), cells.left)
            return
        self._paint_checkpoint(facts, cells, columns[4])
        self._paint_run(facts, cells, columns[5])

    def _paint_checkpoint(self, facts: NamespaceFacts, cells: RowBuilder, width: int) -> None:
        mark = facts.checkpoint
        if mark is None or not width:
            cells.add("", None, width)
            return
        age = f" {format_age(mark.time, now())}"
        cells.add(" ").add(mark.name, None, max(1, width - len(age) - 1))
        cells.add(age, self.style_of("dim"), len(age))

    def _paint_run(self, facts: NamespaceFacts, cells: RowBuilder, width: int) -> None:
        if facts.run is not None:
            texts = run_texts(facts.run, now())
            text = next((text for text in texts if len(text) < width), texts[-1])
            cells.add(f" {text}", self.style_of(ROLES.get(facts.run.state, "dim")), width)

    def empty_text(self) -> list[str]:
        if self._error:
            return [*self._error.split("\n"), "R reads again"]
        if self._filter.text:
            searching = self._needs_all and len(self.facts) < len(self._names)
            return ["searching…", "esc stops"] if searching else ["no namespace matches", "esc clears the filter"]
        return ["this store has no namespace yet" if self._loaded else "reading…"]
