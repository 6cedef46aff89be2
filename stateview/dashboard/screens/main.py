"""The main screen: namespaces, timeline, keys and the value under the cursor, all of one state."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.events import DescendantFocus, Resize
from textual.screen import Screen
from textual.timer import Timer

from ...backends.protocol import Head, Version
from ...cli.results import plural
from ...model import now
from ...states.view import resolve
from ..base_screen import DashboardScreen
from ..data.key_filter import Filter
from ..data.key_source import Prefetch
from ..display.text import format_ago, format_duration, format_size, one_line
from ..widgets.filter_bar import FilterBar
from ..widgets.job_bar import JobBar
from ..widgets.json_view import JsonView
from ..widgets.key_bar import KeyBar
from ..widgets.key_list import KeyList
from ..widgets.namespace_list import Namespaces
from ..widgets.pane import Pane
from ..widgets.status_bar import Banner, StatusBar
from ..widgets.timeline import Timeline
from ..widgets.value_info import ValueInfo
from ..widgets.virtual_list import VirtualList

DEBOUNCE_SECONDS = 0.05  # seconds for which a cursor must rest before what it is on is read
HEAVY_VALUE_BYTES = 1_000_000  # bytes of a value for which it must rest longer
MEDIUM, WIDE = 80, 120  # columns from which on two panes are seen, and all
PANES = {"namespaces": "Namespaces", "keys": "Keys", "json": "Value", "timeline": "Timeline"}  # by number


class MainScreen(DashboardScreen, Screen[None]):
    """Looks at the app's namespace, live or at its ref."""

    HELP = (
        "Keys of the namespace, the value under the cursor, and the timeline. Moving along the timeline shows every\n"
        "pane as of there; esc comes back to live. Nothing here destroys state without a way back: z undoes."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        *(
            Binding(str(n), f"pane('{name}')", f"To the pane {said}", show=False, id=f"main.{name}")
            for n, (name, said) in enumerate(PANES.items(), 1)
        ),
        Binding("slash", "search", "Filter", key_display="/", id="main.filter"),
        Binding("e", "edit", "Edit", id="main.edit"),
        Binding("E", "editor", "In $EDITOR", show=False, id="main.editor"),
        Binding("a", "add", "New key", show=False, id="main.add"),
        Binding("M", "rename", "Rename", show=False, id="main.rename"),
        Binding("T", "expire", "Expiry", show=False, id="main.expire"),
        Binding("X", "delete", "Delete", show=False, id="main.delete"),
        Binding("H", "history", "History", id="main.history"),
        Binding("y", "copy", "Copy", show=False, id="main.copy"),
        Binding("c", "checkpoint", "Checkpoint", id="main.checkpoint"),
        Binding("d", "diff", "Diff", id="main.diff"),
        Binding("w", "what", "What the commit changed", show=False, id="main.what"),
        Binding("D", "diff_elsewhere", "Diff with another namespace", show=False, id="main.diff-elsewhere"),
        Binding("r", "restore", "Restore", id="main.restore"),
        Binding("F", "fork", "Fork", show=False, id="main.fork"),
        Binding("escape", "back", "Back", show=False, id="main.back"),
    ]
    AUTO_FOCUS = "#keys"

    def __init__(self, prefetch: Prefetch | None = None) -> None:
        super().__init__(classes="on-keys")
        self._prefetch = prefetch
        self._shown: Version | None = None  # what the value pane shows
        self._timer: Timer | None = None
        self._travel: Timer | None = None

    def compose(self) -> ComposeResult:
        """Three columns; the stylesheet says which are seen."""
        yield StatusBar()
        yield Banner()
        with Horizontal(id="panes"):
            with Vertical(id="side"):
                with Pane(id="namespaces-pane", classes="pane") as pane:
                    pane.border_title = "1 Namespaces"
                    yield Namespaces(self.dashboard.stores, self.dashboard.open, id="namespaces")
                with Pane(id="timeline-pane", classes="pane") as pane:
                    pane.border_title = "4 Timeline"
                    yield Timeline(id="timeline")
            with Pane(id="keys-pane", classes="pane") as pane:
                pane.border_title = "2 Keys"
                yield FilterBar(id="filter")
                yield KeyList(id="keys")
            with Pane(id="value-pane", classes="pane") as pane:
                pane.border_title = "3 Value"
                yield JsonView(id="json")
                yield ValueInfo(id="value-info")
        yield JobBar()
        yield KeyBar()

    def on_mount(self) -> None:
        """Show what the app looks at."""
        self.watch(self.keys, "status", self._status_changed)
        self.set_interval(1.0, self._tick)
        self.show_namespace()

    def _tick(self) -> None:
        """How long ago things were goes on."""
        self.timeline.refresh()
        self._show_facts()

    def _status_changed(self, status: str) -> None:
        self.query_one("#keys-pane", Pane).say(below=status)

    # --- what is shown -----------------------------------------------------------------------------------------

    @property
    def keys(self) -> KeyList:
        """The list of keys."""
        return self.query_one(KeyList)

    @property
    def timeline(self) -> Timeline:
        """The list of states."""
        return self.query_one(Timeline)

    def show_namespace(self) -> None:
        """Show everything of the namespace that the app has switched to."""
        app = self.dashboard
        self.query_one(Namespaces).here(app.store, app.manager.namespace)
        self.timeline.show(app.manager)
        self.query_one(FilterBar).clear()
        self.show_state()

    def show_state(self) -> None:
        """Show keys and value of the state that the app has switched to."""
        app, prefetch = self.dashboard, self._prefetch
        self._prefetch = None
        self.set_class(app.at is not None, "-past")
        source = prefetch.source if prefetch is not None else self.query_one(FilterBar).source(app.manager, app.ref)
        self.keys.show(source, prefetch)
        if self._shown is not None:
            self._read_value(self._shown.key)
        self.show_status()

    def show_status(self) -> None:
        """Say where we are."""
        app = self.dashboard
        right = "read-only" if app.read_only else "RW"
        if app.at is not None:
            state, role = f"AS OF {app.at}, NOT LIVE · esc: live", "past"
        elif app.lost is not None:
            state, role = "LOST", "paused"
        elif app.paused:
            behind = plural(app.commits_behind, "commit")
            state, role = f"PAUSED at r{app.paused_at}, {behind} behind · p: go on", "paused"
        else:
            head = app.news.head if app.news else None
            state, role = f"LIVE ● r{head.revision}" if head else "LIVE ●", "live"
            if head is not None and not head.lineage:
                state = "LIVE ● NOT THERE YET"
        self.query_one(StatusBar).show(app.manager.namespace, app.manager.url, state, role, right)
        self.query_one(Banner).show(app.lost)

    def namespace_changed(self, head: Head, changed: list[str] | None) -> None:
        """Somebody committed: the lists follow, and the value, unless a past state is looked at."""
        app = self.dashboard
        assert app.news is not None
        self.query_one(Namespaces).here(app.store, app.manager.namespace, head)
        self.timeline.moved(head, app.news.marks)
        if app.at is None:
            self.keys.moved(changed)
            if self.keys.key is not None and (changed is None or self.keys.key in changed):
                self._read_value(self.keys.key)
        self.show_status()

    def reload(self) -> None:
        """Read everything again."""
        namespaces = self.query_one(Namespaces)
        namespaces.read(self.dashboard.store)
        if self.dashboard.news is not None:
            self.timeline.moved(self.dashboard.news.head, self.dashboard.news.marks)  # the log may not have been read
        self.keys.moved(None)
        if self.keys.key is not None:
            self._read_value(self.keys.key)

    # --- the value ---------------------------------------------------------------------------------------------

    @on(KeyList.Highlighted)
    def _key_highlighted(self, event: KeyList.Highlighted) -> None:
        if self._timer is not None:
            self._timer.stop()
        key = event.key
        if key is None:
            self._show_nothing()
            return
        heavy = event.row is not None and event.row.size > HEAVY_VALUE_BYTES
        self._timer = self.set_timer(5 * DEBOUNCE_SECONDS if heavy else DEBOUNCE_SECONDS, lambda: self._read_value(key))

    @on(KeyList.Failed)
    @on(Timeline.Failed)
    def _failed(self, event: KeyList.Failed | Timeline.Failed) -> None:
        self.dashboard.show_error(event.error)

    def _read_value(self, key: str) -> None:
        app = self.dashboard
        backend, at = app.manager.backend, app.ref

        def read(_stop: object) -> Version | None:
            if at is None:
                return backend.get(key)
            return backend.read([key], resolve(backend, at)).get(key)

        def took(version: Version | None) -> None:
            if key != self.keys.key or (backend, at) != (app.manager.backend, app.ref):
                return  # the cursor, or what is looked at, has moved on
            if version is None or version.value is None:
                self._show_nothing()
                return
            self._shown = version
            self.query_one(JsonView).show(version.value, key)
            self._show_facts()

        app.reader.submit(self, "value", read, took, self._value_failed)

    def _value_failed(self, error: Exception) -> None:
        self.dashboard.show_error(error)
        if self._shown is None or self._shown.key != self.keys.key:  # what was read before of this key stays
            self._show_nothing(str(error))

    def _show_nothing(self, said: str = "") -> None:
        self._shown = None
        self.query_one("#value-pane", Pane).say("3 Value")
        self.query_one(JsonView).show_text(said)
        self.query_one(ValueInfo).show("", "")

    def _show_facts(self) -> None:
        shown = self._shown
        if shown is None or shown.value is None:
            return
        self.query_one("#value-pane", Pane).say(Content(f"3 Value · {one_line(shown.key, 80)}"))
        facts = [format_size(len(shown.value)), f"r{shown.revision}", format_ago(shown.time, now())]
        if shown.expires:
            facts.insert(1, f"expires in {format_duration((shown.expires - now()) / 1_000_000)}")
        self.query_one(ValueInfo).show(" · ".join(facts), self.query_one(JsonView).pointer)

    def show_key(self, key: str) -> None:
        """Put the cursor on a key that was just made; a filter that would hide it goes."""
        bar = self.query_one(FilterBar)
        if bar.text and not Filter.parse(bar.text).match()(key):
            self.keys.filter("")
            bar.clear()
        self.keys.go_to(key)

    @on(FilterBar.Typed)
    def _filter_typed(self, event: FilterBar.Typed) -> None:
        self.keys.filter(event.text)

    @on(FilterBar.Left)
    def _filter_left(self) -> None:
        self.action_pane("keys")

    @on(VirtualList.Highlighted, "#json")
    def _place_highlighted(self) -> None:
        self.query_one(ValueInfo).show(pointer=self.query_one(JsonView).pointer)

    @on(JsonView.Blame)
    def _blame(self, event: JsonView.Blame) -> None:
        if self._shown is not None:
            self.dashboard.acts.start(["blame", "--", self._shown.key, event.pointer])

    # --- moving between panes, states and namespaces -----------------------------------------------------------

    def action_pane(self, name: str) -> None:
        """Put the focus into a pane."""
        self.query_one(f"#{name}").focus()

    def on_resize(self, event: Resize) -> None:
        """Where not all panes are seen, the keys' title tells of the others."""
        self._name_others(event.size.width)

    def _name_others(self, width: int) -> None:
        others = ""
        if width < MEDIUM:
            others = " · 3 Value · 4 Timeline"
        elif width < WIDE:
            others = " · 3 Value" if self.has_class("on-side") else " · 4 Timeline · 1 Namespaces"
        self.query_one("#keys-pane").border_title = f"2 Keys{others}"

    def on_descendant_focus(self, event: DescendantFocus) -> None:
        """Where there is no room for all panes, the one with the focus is seen."""
        inside = {node.id for node in event.widget.ancestors_with_self}
        side = "side" if "side" in inside else "value" if "value-pane" in inside else "keys"
        for name in ("side", "keys", "value"):
            self.set_class(name == side, f"on-{name}")
        self._name_others(self.app.size.width)

    @on(VirtualList.Highlighted, "#timeline")
    def _state_highlighted(self) -> None:
        if self._travel is not None:
            self._travel.stop()
        timeline = self.timeline
        self.query_one("#timeline-pane", Pane).say(below=Content(one_line(timeline.line.told, 80)))
        if timeline.has_focus:
            self._travel = self.set_timer(DEBOUNCE_SECONDS, lambda: self.dashboard.show_state(timeline.line.ref))

    @on(VirtualList.Chosen, "#timeline")
    @on(KeyList.Chosen)
    def _chosen(self, event: VirtualList.Chosen | KeyList.Chosen) -> None:
        self.action_pane("keys" if event.control is self.timeline else "json")

    @on(VirtualList.Chosen, "#namespaces")
    def _place_chosen(self) -> None:
        namespaces = self.query_one(Namespaces)
        place = namespaces.place
        if place.namespace is not None:
            self.dashboard.switch_to(place.store, place.namespace)
        elif namespaces.is_open(place.store):
            namespaces.close(place.store)
        else:
            namespaces.read(place.store)

    def action_back(self) -> None:
        """One level back: to the keys, the filter, the marks, then live, then the job that runs."""
        if self._travel is not None:
            self._travel.stop()
        if self.query_one(JsonView).has_focus:
            self.action_pane("keys")
        elif self.query_one(FilterBar).text:
            self.query_one(FilterBar).clear()
        elif self.keys.marked or self.timeline.marked:
            self.keys.unmark()
            self.timeline.unmark()
        elif self.dashboard.at is not None:
            self.timeline.go_to("live")
            self.dashboard.show_state(None)
        elif not self.dashboard.acts.jobs.stop():
            self.action_pane("keys")

    def action_search(self) -> None:
        """Filter the keys."""
        self.query_one(FilterBar).open()

    # --- acts --------------------------------------------------------------------------------------------------

    def _one_key(self, what: str) -> str | None:
        """Return the key under the cursor, if something may be done to it now; else the reason is told."""
        reason = ""
        if self.query_one(Namespaces).has_focus:
            reason = f"{what} is for keys and checkpoints: 2 goes to the keys, 4 to the timeline"
        elif self.dashboard.read_only:
            reason = f"read-only: {what} would write"
        elif self.dashboard.at is not None:
            reason = (
                f"{what} changes live, and this is {self.dashboard.at}: esc goes back to live, r restores from here"
            )
        elif self.dashboard.lost is not None:
            reason = f"the backend is lost: {what} has to wait until it is back"
        elif self.keys.key is None:
            reason = "no key is there; a makes one" if self.keys.known else "the keys are still being read"
        if reason:
            self.dashboard.notify_user(reason, wrong=True)
            return None
        return self.keys.key

    def action_edit(self) -> None:
        """Edit the value here."""
        if (key := self._one_key("edit")) is not None:
            from .edit import edit

            edit(self.dashboard, key)

    def action_editor(self) -> None:
        """Edit the value in `$EDITOR`."""
        if (key := self._one_key("edit")) is not None:
            from .edit import edit

            edit(self.dashboard, key, editor=True)

    def action_add(self) -> None:
        """Make a new key."""
        if self.dashboard.read_only or self.dashboard.at is not None:
            self._one_key("a new key")
            return
        from .edit import add

        add(self.dashboard)

    def action_rename(self) -> None:
        """Give the key another name; on the timeline, the checkpoint."""
        if self.timeline.has_focus:
            from ..actions.pickers import rename_checkpoint

            rename_checkpoint(self.dashboard, self.timeline.line)
        elif (key := self._one_key("rename")) is not None:
            from ..dialogs.key_actions import rename

            rename(self.dashboard, key)

    def action_expire(self) -> None:
        """Set when the key goes."""
        if (key := self._one_key("expire")) is not None:
            from ..dialogs.key_actions import expire

            expire(self.dashboard, key)

    def action_delete(self) -> None:
        """Delete the marked keys, or the one under the cursor; on the timeline, the checkpoint."""
        if self.timeline.has_focus:
            from ..actions.pickers import delete_checkpoint

            delete_checkpoint(self.dashboard, self.timeline.line)
        elif (key := self._one_key("delete")) is not None:
            from ..dialogs.key_actions import delete

            delete(self.dashboard, sorted(self.keys.marked) or [key])

    def action_history(self) -> None:
        """Step through the versions of the key."""
        if self.keys.key is not None:
            from .history import HistoryScreen

            self.app.push_screen(HistoryScreen(self.keys.key))

    def action_copy(self) -> None:
        """Copy the key, the value or a command line; what the cursor is on inside the value, if that has the focus."""
        view = self.query_one(JsonView)
        if self.keys.key is not None and (self._shown is None or self._shown.key != self.keys.key):
            self.dashboard.notify_user(f"the value of {one_line(self.keys.key, 60)} has not been read yet")
        else:
            view.action_copy(whole=not view.has_focus)

    def action_checkpoint(self) -> None:
        """Name the state that is looked at."""
        from ..dialogs.new_checkpoint import new_checkpoint

        self._settle()
        new_checkpoint(self.dashboard, self.dashboard.ref)

    def action_diff(self) -> None:
        """Compare the two marked states, or the one that is looked at with live; else ask which."""
        from .diff import DiffScreen

        marked = self.timeline.marked
        here = self.timeline.line.ref if self.timeline.has_focus else self.dashboard.at or "live"
        if len(marked) == 2:
            self.app.push_screen(DiffScreen(*self.timeline.in_order(*marked)))
        elif marked and marked[0] != here:
            self.app.push_screen(DiffScreen(*self.timeline.in_order(marked[0], here)))
        elif here != "live":
            self.app.push_screen(DiffScreen(here))
        else:
            self._choose_state("Diff of live with", lambda ref: self.app.push_screen(DiffScreen(ref)))

    def action_what(self) -> None:
        """Show what the commit that is looked at changed; while live is looked at, the last one."""
        from .diff import DiffScreen

        line = self.timeline.line
        if line.revision:
            self.app.push_screen(DiffScreen(str(line.revision - 1), str(line.revision)))
        else:
            self.dashboard.notify_user("nothing was saved yet")

    def action_diff_elsewhere(self) -> None:
        """Compare the state that is looked at with another namespace, here or in another store."""
        from ..actions.pickers import choose_namespace

        self._settle()
        choose_namespace(self.dashboard, self.dashboard.at or "live")

    def _settle(self) -> None:
        """Switch to the state under the timeline's cursor before an act on it."""
        if self._travel is not None:
            self._travel.stop()
            if self.timeline.has_focus:
                self.dashboard.show_state(self.timeline.line.ref)

    def on_screen_resume(self) -> None:
        """No screen lies over this one any more."""
        self.dashboard.apply_switch()

    def action_restore(self) -> None:
        """Preview bringing back the state that is looked at, or one that is asked for; the marked keys, if any are."""
        from .restore import RestoreScreen

        keys = sorted(self.keys.marked) or None
        here = self.timeline.line.ref if self.timeline.has_focus else self.dashboard.at or "live"
        if here != "live":
            self.app.push_screen(RestoreScreen(here, keys))
        else:
            self._choose_state("Restore", lambda ref: self.app.push_screen(RestoreScreen(ref, keys)))

    def _choose_state(self, title: str, then: Callable[[str], object]) -> None:
        from ..actions.pickers import choose_state

        choose_state(self.dashboard, title, then)

    def action_fork(self) -> None:
        """Start a new namespace as the one that is looked at is, or was."""
        from ..actions.pickers import fork

        self._settle()
        fork(self.dashboard)
