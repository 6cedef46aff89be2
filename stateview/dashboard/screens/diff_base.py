"""Base of the diff screen and the restore preview: filter, marks, and moving through the changes of a diff."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.widgets import Input

from ...model import Kind
from ..data.diff_model import NONE, WHOLE
from ..widgets.diff_view import SIDE_BY_SIDE_COLUMNS, DiffView
from ..widgets.virtual_list import VirtualList
from .diff_stream import DiffStreamScreen

LAST_BINDINGS: list[BindingType] = [  # after those of the subclass, in the line of keys
    Binding("escape", "back", "Back", key_display="esc", id="diff.back"),
    Binding("t", "split", "Split", id="diff.split"),
]


class DiffBaseScreen(DiffStreamScreen):
    """A diff whose keys can be filtered and marked. A subclass chooses the states, and acts on the marked keys."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("right_square_bracket", "step(1)", "Change", key_display="] [", id="diff.next"),
        Binding("left_square_bracket", "step(-1)", "Previous", show=False, key_display="[", id="diff.previous"),
        Binding("plus", "kind('added')", "Added", show=False, key_display="+", id="diff.added"),
        Binding("minus", "kind('removed')", "Removed", show=False, key_display="-", id="diff.removed"),
        Binding("tilde", "kind('changed')", "Changed", show=False, key_display="~", id="diff.changed"),
        Binding("slash", "filter", "Filter", key_display="/", id="diff.filter"),
        Binding("space", "mark", "Mark", id="diff.mark"),
        Binding("a", "mark_all", "All", id="diff.mark-all"),
        Binding("n", "mark_none", "None", id="diff.mark-none"),
        Binding("i", "invert", "Invert", id="diff.invert"),
    ]

    _steps = 0  # a step that waits until the change of the selected key has been read

    # --- moving ------------------------------------------------------------------------------------------------

    @on(DiffView.Compared)
    def _compared(self) -> None:
        self.refresh_labels()
        self.tell_secrets()
        if self._steps and self.keys.key == self.view.key:
            steps, self._steps = self._steps, 0
            self.action_step(steps)

    @on(VirtualList.Chosen, "#keys")
    def _chosen(self, event: VirtualList.Chosen) -> None:
        event.stop()
        self._focus_change()

    def _focus_change(self) -> None:
        self.add_class("on-change")
        self.view.focus()

    @on(DiffView.Left)
    def _focus_keys(self) -> None:
        self.remove_class("on-change")
        self.keys.focus()

    def on_descendant_focus(self) -> None:
        """Show the pane with the focus, if the terminal has room for one."""
        if self.focused in (self.keys, self.view):
            self.set_class(self.focused is self.view, "on-change")

    def action_step(self, by: int) -> None:
        """Go to the next change inside the value; after the last one, to the next key."""
        keys, view = self.keys, self.view
        if self.has_class("-narrow") and keys.count:  # the change is hidden until it has the focus
            self._focus_change()
        if view.busy or view.key != keys.key:
            if not self._steps:  # the first press waits for the change; a second press skips the change
                self._steps = by
                return
        elif view.step(by):
            return
        self._steps = 0
        if 0 <= keys.cursor + by < keys.count:
            self._land = "first" if by > 0 else "last"
            keys.cursor += by
            self.show_change()
        else:
            self.dashboard.notify_user("this is the last change" if by > 0 else "this is the first change")

    def action_split(self) -> None:
        """Switch between before and after side by side, and before above after."""
        view = self.view
        view.split = not view.split
        if view.too_narrow:
            self.dashboard.notify_user(
                f"side by side needs {SIDE_BY_SIDE_COLUMNS} columns; a narrower terminal shows before above after"
            )
        self.refresh_labels()

    # --- filter ------------------------------------------------------------------------------------------------

    def action_kind(self, kind: Kind) -> None:
        """Show or hide the keys of a kind."""
        self._kinds = self._kinds ^ {kind}
        self._refilter()

    def action_filter(self) -> None:
        """Open the filter."""
        field = self.query_one("#filter", Input)
        field.add_class("-open")
        field.select_all()  # what the user types replaces it
        field.focus()

    @on(Input.Changed, "#filter")
    def _filter_changed(self, event: Input.Changed) -> None:
        event.stop()
        self._text = event.value
        self._refilter()

    @on(Input.Submitted, "#filter")
    def _filter_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        event.input.set_class(bool(event.value), "-open")
        self.keys.focus()
        if event.value and self.keys.filter.done:
            self.keys.cursor = self.keys.filter.best()

    def _clear_filter(self) -> None:
        field = self.query_one("#filter", Input)
        field.value = ""  # calls `_filter_changed`
        field.remove_class("-open")
        self.keys.focus()

    # --- marks -------------------------------------------------------------------------------------------------

    def action_mark(self) -> None:
        """Mark or unmark the selected key."""
        keys = self.keys
        if keys.key is not None:
            place = keys.filter[keys.cursor]
            self.index.set_mark(place, WHOLE if self.index.mark(place) == NONE else NONE)
            keys.cursor += 1
            self.marks_changed()

    def _mark_shown(self, mark: int | None) -> None:
        shown = self.keys.filter
        if shown.filtered and not shown.done:
            self.dashboard.notify_user("still filtering the keys; try again in a moment")
            return
        self.index.set_marks(mark, shown if shown.filtered else None)
        self.marks_changed()

    def marks_changed(self) -> None:
        """Redraw the marks and their counts."""
        self.keys.refresh()
        self.view.refresh()
        self.refresh_labels()

    def action_mark_all(self) -> None:
        """Mark all keys that the filter shows."""
        self._mark_shown(WHOLE)

    def action_mark_none(self) -> None:
        """Unmark all keys that the filter shows."""
        self._mark_shown(NONE)

    def action_invert(self) -> None:
        """Invert the marks of the keys that the filter shows."""
        self._mark_shown(None)

    # --- back --------------------------------------------------------------------------------------------------

    def action_back(self) -> None:
        """Do the first that applies: stop the run, return to the keys, clear the filter, leave."""
        if self.run.state == "running":
            self.stop()
        elif self.focused is self.view:
            self._focus_keys()
        elif self._text or self.query_one("#filter", Input).has_class("-open"):
            self._clear_filter()
        else:
            self.leave()

    def leave(self) -> None:
        """Return to the screen below."""
        self.dismiss(False)
