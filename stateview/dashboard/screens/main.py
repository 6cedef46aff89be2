"""The main screen: the keys of its panes, and their actions."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.events import ScreenResume

from ...workflow.records import step_key
from ..data.filters.namespaces import NamespaceFilter
from ..display.text import one_line
from ..display.timeline_row import UNRESOLVED
from ..widgets.arranged.pane import Pane
from ..widgets.filter_bar import FilterBar
from ..widgets.full_text import FullText
from ..widgets.key_list import KeyList
from ..widgets.namespace_list import Namespaces
from ..widgets.step_list import StepList
from ..widgets.value.json_view import JsonView
from ..widgets.virtual_list import VirtualList
from .filtering import FilteringScreen
from .panes import DEBOUNCE_SECONDS

PANES = {
    "namespaces": "Namespaces",
    "keys": "Keys",
    "json": "Value",
    "timeline": "Timeline",
    "steps": "Steps",
}  # in the order of numbers


class MainScreen(FilteringScreen):
    """The screen below all others."""

    HELP = (
        "Keys of the namespace, the value of the selected key, and the timeline. Moving along the timeline shows\n"
        "every pane as it was at that revision; esc returns to live. z undoes each change to keys and values.\n"
        "A namespace with runs has a pane of their steps."
    )
    WAYS: ClassVar[tuple[tuple[str, ...], ...]] = (
        ("find a key", "/ and a part of its name; start* for the start alone, =text for values"),
        ("find a place in a value", "enter, / and a part of its name or value, enter; n goes on"),
        ("edit one place", "enter, move to it, e; z undoes", "main.edit"),
        ("bring a key back", "r, enter, y; z undoes", "main.restore"),
        ("find the commit that changed it", "enter, move to the place, b, enter"),
        ("see a number over its history", "enter, move to it, #"),
        ("see what each commit changed", "4, then move: the changes follow; w opens them"),
        ("go to a checkpoint", "4, / and a part of its name, enter; } and { go from one to the next"),
        ("take one commit back", "4, move to it, V; w shows what it changed", "main.revert"),
        ("compare two states", "d and both names; or < and > in the timeline, then d"),
        ("open another namespace", "o and a part of its name, enter"),
        ("see all namespaces, and compare two", "0, space on each, d"),
        ("see all failed runs", "!"),
        ("read one pane on the whole screen", "+, and + again"),
        ("give a pane more room", "ctrl or shift with an arrow, or drag its border"),
        ("show a masked password or token", "U, and U again", "app.secrets"),
        ("see keys by the parts of their names", "., then enter opens a group"),
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        *(
            Binding(str(number), f"pane('{name}')", f"To the pane {title}", show=False, id=f"main.{name}")
            for number, (name, title) in enumerate(PANES.items(), 1)
        ),
        Binding("0", "overview", "Overview of all namespaces", show=False, id="main.overview"),
        Binding("slash", "search", "Filter", key_display="/", id="main.filter"),
        Binding("o", "open_namespace", "Open a namespace", show=False, id="main.open"),
        Binding("exclamation_mark", "failed_runs", "Failed runs", show=False, key_display="!", id="main.failed-runs"),
        Binding("e", "edit", "Edit", id="main.edit"),
        Binding("E", "editor", "In $EDITOR", show=False, id="main.editor"),
        Binding("a", "add", "New key", show=False, id="main.add"),
        Binding("M", "rename", "Rename", show=False, id="main.rename"),
        Binding("T", "expire", "Expiry", show=False, id="main.expire"),
        Binding("X", "delete", "Delete", show=False, id="main.delete"),
        Binding("H", "history", "History", id="main.history"),
        Binding("number_sign", "plot", "Chart of a number", show=False, key_display="#", id="main.plot"),
        Binding("y", "copy", "Copy", show=False, id="main.copy"),
        Binding("c", "checkpoint", "Checkpoint", id="main.checkpoint"),
        Binding("d", "diff", "Diff", id="main.diff"),
        Binding(
            "right_curly_bracket",
            "checkpoint_step(1)",
            "Older checkpoint",
            show=False,
            key_display="}",
            id="main.older-checkpoint",
        ),
        Binding(
            "left_curly_bracket",
            "checkpoint_step(-1)",
            "Newer checkpoint",
            show=False,
            key_display="{",
            id="main.newer-checkpoint",
        ),
        Binding("w", "commit_changes", "What the commit changed", show=False, id="main.what"),
        Binding("D", "diff_elsewhere", "Diff with another namespace", show=False, id="main.diff-elsewhere"),
        Binding("r", "restore", "Restore", id="main.restore"),
        Binding("V", "revert", "Take one commit back", show=False, id="main.revert"),
        Binding("F", "fork", "Fork", show=False, id="main.fork"),
        Binding("plus", "zoom", "Zoom", show=False, key_display="+", id="main.zoom"),
        *(
            Binding(
                f"ctrl+{way},shift+{way}",
                f"move_border({columns}, {rows})",
                f"Move the border {way}",
                show=False,
                id=f"main.border-{way}",
            )
            for way, columns, rows in (("left", -2, 0), ("right", 2, 0), ("up", 0, -1), ("down", 0, 1))
        ),
        Binding("escape", "back", "Back", show=False, id="main.back"),
    ]

    # --- panes, states and namespaces --------------------------------------------------------------------------

    @on(JsonView.Blame)
    def _blame(self, event: JsonView.Blame) -> None:
        if self._shown is not None:
            at = ["--at", ref] if (ref := self.dashboard.ref) else []
            self.dashboard.acts.start(["blame", *at, "--", self._shown.key, event.pointer])

    @on(VirtualList.Highlighted, "#timeline")
    def _state_highlighted(self) -> None:
        if self._state_timer is not None:
            self._state_timer.stop()
        timeline = self.timeline
        self.query_one("#timeline-pane", Pane).set_titles(below=Content(one_line(timeline.line.details, 80)))
        self.query_one(FullText).show(timeline.line.text if timeline.has_focus else "")

        def rested() -> None:
            self.dashboard.show_state(timeline.line.ref)
            self.show_changes()

        self._state_timer = self.set_timer(DEBOUNCE_SECONDS, rested)

    def _show_highlighted_state(self) -> None:
        """Show the selected state now: the action that follows applies to it."""
        if self._state_timer is not None:
            self._state_timer.stop()
        self.dashboard.show_state(self.timeline.line.ref)

    @on(VirtualList.Chosen, "#timeline")
    @on(KeyList.Chosen)
    def _chosen(self, event: VirtualList.Chosen | KeyList.Chosen) -> None:
        self.action_pane("keys" if event.control is self.timeline else "json")
        if event.control is self.keys:
            self.seek_hit()

    @on(VirtualList.Chosen, "#namespaces")
    def _namespace_chosen(self) -> None:
        namespaces = self.query_one(Namespaces)
        entry, bar = namespaces.entry, self.query_one("#namespace-filter", FilterBar)
        if entry is None:
            return
        if entry.namespace is not None:
            self.steps.choose_at_next(entry.run.name if entry.run is not None else None)
            self.dashboard.switch_to(entry.store, entry.namespace)
            if bar.text:
                self.action_pane("keys")
            if not NamespaceFilter.parse(bar.text).sign:
                bar.clear()  # a search that took long stays: the user goes through what it found
        elif namespaces.is_open(entry.store):
            namespaces.close(entry.store)
        else:
            namespaces.read(entry.store)

    @on(VirtualList.Chosen, "#steps")
    def _step_chosen(self) -> None:
        """Go to the entry of a step; for another run, show its steps."""
        steps = self.steps
        if steps.other is not None:
            steps.choose(steps.other.name)
        elif steps.step is not None and steps.progress is not None:
            self.show_key(step_key(steps.progress.run.name, steps.step.name))
            self.action_pane("keys")

    @on(StepList.Again)
    def _again(self, event: StepList.Again) -> None:
        progress = self.steps.progress
        if progress is not None and not self._refuses("retry" if event.alone else "reset"):
            from ..dialogs.step_actions import again

            again(self.dashboard, progress, event.step, event.alone)

    def action_back(self) -> None:
        """Do the first that applies: leave the value, clear a filter, unmark, return to live, stop the newest job."""
        self._show_highlighted_state()
        used = [bar for bar in (self.filter_in_focus(), *self.query(FilterBar)) if bar is not None and bar.text]
        if self.query_one(JsonView).has_focus:
            self.action_pane("keys")
        elif used:
            used[0].clear()
        elif self.keys.marked or self.timeline.held:
            self.keys.unmark()
            self.timeline.unmark()
        elif self.dashboard.at is not None:
            self.dashboard.show_state(None)
        elif not self.dashboard.acts.jobs.stop():
            self.action_pane("keys")

    @on(ScreenResume)
    def _switch(self) -> None:
        """Switch to the namespace that waited until no other screen covered this one."""
        self.dashboard.apply_switch()

    # --- actions on a key --------------------------------------------------------------------------------------

    def _writable_key(self, action: str) -> str | None:
        """Return the selected key, if the action may change it now. Otherwise show the reason."""
        reason = ""
        if self.query_one(Namespaces).has_focus:
            reason = f"{action} works on keys and checkpoints: press 2 for the keys, 4 for the timeline"
        elif self._refuses(action):
            return None
        elif self.keys.group is not None:
            reason = f"{action} works on a key, and this is a group of keys: enter opens it"
        elif self.keys.key is None:
            reason = "no key is selected; a adds a key" if self.keys.is_loaded else "the keys are still being read"
        if reason:
            self.dashboard.notify_user(reason, wrong=True)
            return None
        return self.keys.key

    def _refuses(self, action: str) -> bool:
        """Return whether nothing may be written now. Then show the reason."""
        app, reason = self.dashboard, ""
        if app.read_only:
            reason = f"read-only: {action} would write"
        elif app.at is not None:
            reason = f"{action} changes live, but the screen shows {app.at}: esc returns to live, r restores {app.at}"
        elif app.lost is not None:
            reason = f"the backend is lost: {action} has to wait until it is back"
        if reason:
            app.notify_user(reason, wrong=True)
        return bool(reason)

    def action_edit(self, editor: bool = False) -> None:
        """Edit the selected value, here or in `$EDITOR`; with the focus in the value, the place under the cursor."""
        key, view = self._writable_key("edit"), self.query_one(JsonView)
        if key is None:
            return
        at_place = view.has_focus and view.key == key
        if at_place and not editor and (leaf := view.leaf) is not None:
            from ..dialogs.key_actions import edit_leaf

            edit_leaf(self.dashboard, key, view.pointer, leaf)
        else:
            from .edit import edit

            edit(self.dashboard, key, editor=editor, place=view.pointer if at_place else "")

    def action_editor(self) -> None:
        """Edit the selected value in `$EDITOR`."""
        self.action_edit(editor=True)

    def action_add(self) -> None:
        """Add a key."""
        if self.dashboard.read_only or self.dashboard.at is not None:
            self._writable_key("a new key")
            return
        from .edit import add

        add(self.dashboard)

    def action_rename(self) -> None:
        """Rename the selected key; on the timeline, the checkpoint."""
        if self.timeline.has_focus:
            from ..actions.pickers import rename_checkpoint

            rename_checkpoint(self.dashboard, self.timeline.line)
        elif (key := self._writable_key("rename")) is not None:
            from ..dialogs.key_actions import rename

            rename(self.dashboard, key)

    def action_expire(self) -> None:
        """Set the expiry of the selected key."""
        if (key := self._writable_key("expire")) is not None:
            from ..dialogs.key_actions import expire

            expire(self.dashboard, key)

    def action_delete(self) -> None:
        """Delete the marked keys, or the selected key; on the timeline, the checkpoint."""
        if self.timeline.has_focus:
            from ..actions.pickers import delete_checkpoint

            delete_checkpoint(self.dashboard, self.timeline.line)
        elif (key := self._writable_key("delete")) is not None:
            from ..dialogs.key_actions import delete

            delete(self.dashboard, sorted(self.keys.marked) or [key])

    def action_history(self) -> None:
        """List the versions of the selected key."""
        if self.keys.key is not None:
            from .history import HistoryScreen

            at = 0 if self.timeline.line.ref == "live" else self.timeline.line.revision
            self.app.push_screen(HistoryScreen(self.keys.key, max(at, 0)))

    def action_plot(self) -> None:
        """Draw the number under the cursor over its history, up to the state on the screen."""
        from ..dialogs.key_actions import options_end

        key, view, at = self.keys.key, self.query_one(JsonView), self.timeline.line
        if key is None:
            self.dashboard.notify_user("no key is selected, so there is no number to draw")
            return
        place = f"{key}#{view.pointer}" if view.has_focus and view.key == key and view.pointer else key
        below = [] if at.ref == "live" or at.revision < 0 else ["--below", str(at.revision + 1)]
        self.dashboard.acts.start(["plot", *below, *options_end(place)], failed=self._plot_failed)

    def _plot_failed(self, error: Exception) -> None:
        from ...cli.commands.plot import NoNumber

        if isinstance(error, NoNumber):
            error.next_steps = ("Go to a number in the value pane",)
        self.dashboard.show_error(error, act=True)

    def action_copy(self) -> None:
        """Copy the key, the value or a command line; with the focus in the value, the selected place."""
        view = self.query_one(JsonView)
        if self.keys.key is not None and (self._shown is None or self._shown.key != self.keys.key):
            self.dashboard.notify_user(f"the value of {one_line(self.keys.key, 60)} has not been read yet")
        else:
            view.action_copy(whole=not view.has_focus)

    # --- actions on a state ------------------------------------------------------------------------------------

    def action_checkpoint(self) -> None:
        """Create a checkpoint of the state on the screen."""
        from ..dialogs.new_checkpoint import new_checkpoint

        self._show_highlighted_state()
        new_checkpoint(self.dashboard, self.dashboard.ref)

    def action_diff(self) -> None:
        """Diff the two marked states; otherwise diff the selected state with live; on live, ask for both states."""
        timeline, selected = self.timeline, self.timeline.line.ref
        (before, after), marked = timeline.sides, timeline.marked
        if before is not None or after is not None:
            rest = selected if selected not in (before, after) else "live"
            self._open_diff(before or rest, after or rest)
        elif len(marked) == 2:
            self._open_diff(*timeline.in_order(*marked))
        elif marked and marked[0] != selected:
            self._open_diff(*timeline.in_order(marked[0], selected))
        elif selected != "live":
            self._open_diff(selected, "live")
        else:
            from ..actions.pickers import choose_two_states

            choose_two_states(self.dashboard, self._open_diff)

    def _open_diff(self, before: str, after: str) -> None:
        from .diff import DiffScreen

        self.app.push_screen(DiffScreen(before, after, start_key=self.keys.key))

    def action_checkpoint_step(self, by: int) -> None:
        """Move the timeline to the next older checkpoint, or the next newer one."""
        self.timeline.step_checkpoint(by)

    def action_commit_changes(self) -> None:
        """Show the changes of the selected commit; on live, of the last commit."""
        from .diff import DiffScreen

        line = self.timeline.line
        if line.revision == UNRESOLVED:
            self.dashboard.notify_user(f"the revision of {line.ref} has not been read yet")
        elif line.revision:
            self.app.push_screen(DiffScreen(str(line.revision - 1), str(line.revision)))
        else:
            self.dashboard.notify_user("nothing was saved yet")

    def action_diff_elsewhere(self) -> None:
        """Diff the state on the screen with another namespace, in this store or another."""
        from ..actions.pickers import choose_namespace

        self._show_highlighted_state()
        choose_namespace(self.dashboard, self.dashboard.at or "live")

    def action_overview(self) -> None:
        """List all namespaces of the store."""
        from .overview import OverviewScreen

        self.app.push_screen(OverviewScreen())

    def action_restore(self) -> None:
        """Preview a restore of the selected state, limited to the marked keys; on live, ask for a state.

        On a key, offer this key first: at the selected state, or at its earlier versions.
        """
        from .previews.restore import RestoreScreen

        marked, key, selected = sorted(self.keys.marked) or None, self.keys.key, self.timeline.line.ref

        def preview(ref: str, keys: list[str] | None = marked) -> None:
            self.app.push_screen(RestoreScreen(ref, keys, start_key=key))

        on_key = marked is None and key is not None and (self.keys.has_focus or self.query_one(JsonView).has_focus)
        if on_key and key is not None:
            from ..actions.pickers import choose_restore

            choose_restore(self.dashboard, key, None if selected == "live" else selected, preview)
        elif selected != "live":
            preview(selected)
        else:
            self._choose_state("Restore", preview)

    def action_revert(self) -> None:
        """Preview what taking back the commit under the cursor of the timeline alone would change."""
        app, line = self.dashboard, self.timeline.line
        if app.read_only:
            app.notify_user("read-only: revert would write", wrong=True)
        elif line.commit is None:
            app.notify_user("V takes back one commit: press 4, and select it in the timeline", wrong=True)
        else:
            from .previews.revert import RevertScreen

            screen = RevertScreen(line.revision, line.commit.reason)
            self.app.push_screen(screen, lambda reverted: app.show_state(None) if reverted else None)

    def _choose_state(self, title: str, then: Callable[[str], object]) -> None:
        from ..actions.pickers import choose_state

        choose_state(self.dashboard, title, then)

    def action_fork(self) -> None:
        """Fork the state on the screen into a new namespace."""
        from ..actions.pickers import fork

        self._show_highlighted_state()
        fork(self.dashboard)
