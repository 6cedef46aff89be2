"""The overview of the store: all its namespaces with keys, size, last commit, last checkpoint and run."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.widgets import Label

from ...backends.protocol import Head
from ...cli.context import target_options
from ..actions.runner import command_line
from ..base_screen import DashboardScreen
from ..display.text import one_line
from ..widgets.filter_bar import FilterBar
from ..widgets.key_bar import KeyBar
from ..widgets.overview.header import TableHeader
from ..widgets.overview.table import NamespaceTable
from ..widgets.status_bar import Banner
from ..widgets.virtual_list import VirtualList


class OverviewScreen(DashboardScreen, Screen[None]):
    """Lists the namespaces of the present store. Enter opens a namespace, and two marked ones are compared."""

    DEFAULT_CSS = """
    OverviewScreen Label { width: 1fr; height: 1; padding: 0 1; text-wrap: nowrap; text-overflow: ellipsis; }
    OverviewScreen #title { background: $panel; text-style: bold; }
    OverviewScreen #table { height: 1fr; scrollbar-gutter: stable; }
    OverviewScreen #tally { background: $panel; }
    OverviewScreen #line { color: $text-muted; }
    """
    HELP = (
        "All namespaces of the store. s sorts by the next column, v the other way round, a click on a title by that\n"
        "column. An order by a number reads all namespaces in the background. A namespace that cannot be read says why."
    )
    WAYS: ClassVar[tuple[tuple[str, ...], ...]] = (
        ("open a namespace", "/ and a part of its name, enter, enter"),
        ("compare two namespaces", "space on each, d; or d alone, with the open one"),
        ("find the largest namespace", "s until it is sorted by size"),
        ("see the failed runs", "/!failed"),
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "search", "Filter", key_display="/", id="overview.filter"),
        Binding("d", "diff", "Diff", id="overview.diff"),
        Binding("y", "copy", "Copy CLI", show=False, id="overview.copy"),
        Binding("escape,0", "back", "Back", key_display="esc", id="overview.back"),
    ]
    AUTO_FOCUS = "#table"

    def compose(self) -> ComposeResult:
        """Put the titles above the table."""
        app = self.dashboard
        yield Banner()
        yield Label(one_line(f"Namespaces of {app.manager.url}"), id="title", markup=False)
        yield FilterBar("word   prefix*   *glob*   ~letters   !run state", id="overview-filter")
        yield TableHeader()
        yield NamespaceTable(app.manager.namespace, id="table")
        yield Label(id="tally", markup=False)
        yield Label(one_line(f"CLI: {self._command()}"), id="line", markup=False)
        yield KeyBar()

    def on_mount(self) -> None:
        """Show what the table says of itself."""
        self.watch(self.table, "status", lambda status: self.query_one("#tally", Label).update(status))

    @property
    def table(self) -> NamespaceTable:
        """The table."""
        return self.query_one(NamespaceTable)

    @property
    def _filter(self) -> FilterBar:
        return self.query_one(FilterBar)

    def _command(self) -> str:
        store = {"store": self.dashboard.options.get("store")}  # --all and a namespace exclude each other
        return command_line(["stats", "--all"], target_options(store))

    # --- changes by other processes ----------------------------------------------------------------------------

    def namespace_changed(self, head: Head, changed: list[str] | None) -> None:  # noqa: ARG002
        """Read the open namespace again."""
        self.table.read_again(self.dashboard.manager.namespace)

    def reload(self) -> None:
        """Read the names and the visible namespaces again."""
        self.table.read()

    @on(VirtualList.Failed)
    def _read_failed(self, event: VirtualList.Failed) -> None:
        self.dashboard.show_error(event.error)

    # --- filter and order --------------------------------------------------------------------------------------

    def action_search(self) -> None:
        """Open the filter."""
        self._filter.open()

    @on(FilterBar.Typed)
    def _filter_typed(self, event: FilterBar.Typed) -> None:
        self.table.filter(event.text)

    @on(FilterBar.Left)
    def _filter_left(self) -> None:
        self.table.focus()

    @on(TableHeader.Clicked)
    def _title_clicked(self, event: TableHeader.Clicked) -> None:
        self.table.sort(event.column)

    # --- actions -----------------------------------------------------------------------------------------------

    @on(VirtualList.Chosen, "#table")
    def _chosen(self) -> None:
        """Open the namespace under the cursor; say why if it cannot be read."""
        name = self.table.name_at_cursor
        facts = self.table.facts.get(name or "")
        if facts is not None and not facts.opens:
            assert facts.error is not None, "a namespace that does not open has an error"
            self.dashboard.notify_user(self.dashboard.error_text(facts.error), wrong=True)
        elif name is not None:
            if name != self.dashboard.manager.namespace:
                self.dashboard.switch_to(None, name)
            self.leave()

    def action_diff(self) -> None:
        """Compare the two marked namespaces; without two marks, the marked or the open one with the selected one.

        The open namespace is the earlier side, so that keys can be taken into it.
        """
        from .diff import DiffScreen

        app, at, present = self.dashboard, self.table.name_at_cursor, self.dashboard.manager.namespace
        pair = [*self.table.marked, *([at] if at is not None else [])][:2]
        if len(set(pair)) < 2:
            pair = [present, *pair[:1]]
        if len(set(pair)) < 2:
            app.notify_user("d compares two namespaces: space marks them, or move to another")
            return
        first, second = reversed(pair) if pair[1] == present else pair
        here = None if first == present else app.open(None, first)
        app.push_screen(DiffScreen("live", here=here, other=app.open(None, second)))

    def action_copy(self) -> None:
        """Copy the command line that prints a table of all namespaces."""
        self.app.copy_to_clipboard(self._command())
        self.dashboard.notify_user("copied the command line")

    def action_back(self) -> None:
        """Do the first that applies: clear the filter, unmark, leave."""
        if self._filter.text:
            self._filter.clear()
        elif self.table.marked:
            self.table.unmark()
        else:
            self.leave()

    def leave(self) -> None:
        """Return to the screen below."""
        self.dismiss(None)
