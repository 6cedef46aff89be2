"""The filters of the panes: each belongs to the pane in focus."""

from __future__ import annotations

from textual import on

from ...states.matching.patterns import first_literal, is_glob
from ..data.filters.namespaces import FAILED
from ..data.filters.timeline import TimelineFilter
from ..data.key_filter import Filter
from ..widgets.filter_bar import FilterBar
from ..widgets.key_list import KeyList
from ..widgets.namespace_list import Namespaces
from ..widgets.timeline import Timeline
from ..widgets.value.json_view import JsonView
from .panes import PanesScreen


class FilteringScreen(PanesScreen):
    """Filters the panes. A subclass adds the other keys and their actions."""

    def action_pane(self, name: str) -> None:
        """Move the focus to a pane."""
        if name == "steps" and not self.has_class("has-runs"):
            self.dashboard.notify_user("this namespace has no run, so there are no steps")
        else:
            self.query_one(f"#{name}").focus()

    # --- the filters -------------------------------------------------------------------------------------------

    @on(FilterBar.Typed)
    def _filter_typed(self, event: FilterBar.Typed) -> None:
        lists: dict[str, KeyList | Namespaces | Timeline]
        lists = {"namespace-filter": self.query_one(Namespaces), "timeline-filter": self.timeline}
        lists.get(event.bar.id or "", self.keys).filter(event.text)

    @on(FilterBar.Left, "#filter")
    def _key_filter_left(self) -> None:
        self.action_pane("keys")

    @on(FilterBar.Left, "#namespace-filter")
    def _namespace_filter_left(self, event: FilterBar.Left) -> None:
        """Go to the list; after Enter, open its first namespace and go to the keys."""
        self.action_pane("namespaces")
        if event.entered and event.bar.text:
            self.query_one(Namespaces).choose_first()

    @on(FilterBar.Left, "#timeline-filter")
    def _timeline_filter_left(self, event: FilterBar.Left) -> None:
        self.action_pane("timeline")
        if event.entered and event.bar.text:
            self.timeline.go_to_best()
            if TimelineFilter(event.bar.text).is_ref:
                event.bar.clear()  # it hides nothing, and the cursor is on its state

    def filter_in_focus(self) -> FilterBar | None:
        """Return the filter of the pane in focus; None in a pane without a filter."""
        for name, bar in (("namespaces", "#namespace-filter"), ("timeline", "#timeline-filter"), ("keys", "#filter")):
            if self.query_one(f"#{name}-pane").has_focus_within:
                return self.query_one(bar, FilterBar)
        return None

    def action_search(self) -> None:
        """Open the filter of the pane in focus, or else that of the keys."""
        (self.filter_in_focus() or self.key_filter).open()

    def action_open_namespace(self) -> None:
        """Open the filter of the namespaces: Enter opens the best match."""
        self.query_one("#namespace-filter", FilterBar).open()

    def action_failed_runs(self) -> None:
        """List the failed runs of all namespaces."""
        self.query_one("#namespace-filter", FilterBar).open(f"!{FAILED}")
        self.action_pane("namespaces")

    # --- a search in values -------------------------------------------------------------------------------------

    def seek_hit(self) -> None:
        """Go to the place in the value that the filter of values has found."""
        wanted, key = Filter.parse(self.key_filter.text), self.keys.key
        if wanted.kind == "values" and key is not None:
            text = first_literal(wanted.text) if is_glob(wanted.text) else wanted.text
            self.query_one(JsonView).expect_search(key, text)

    @on(JsonView.HitsPassed)
    def _hits_passed(self, event: JsonView.HitsPassed) -> None:
        """Go on in the next key that the filter of values has found."""
        keys = self.keys
        if Filter.parse(self.key_filter.text).kind == "values" and 0 <= keys.cursor + event.by < keys.count:
            keys.cursor += event.by
            self.seek_hit()
