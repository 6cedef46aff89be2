"""The panes of the main screen: namespaces, timeline, steps, keys and the selected value, all of one state."""

from __future__ import annotations

from rich.cells import cell_len
from textual import on
from textual.app import ComposeResult
from textual.content import Content
from textual.events import DescendantFocus, Resize
from textual.screen import Screen
from textual.timer import Timer

from ...backends.names_only import names_only
from ...backends.protocol import Head, Version
from ...cli.results import plural
from ...errors import Sealed
from ...model import SealedValue, now
from ...states.view import resolve
from ...workflow.progress import concerns_runs, count_of
from ..base_screen import DashboardScreen
from ..data.key_filter import Filter
from ..data.key_source import KeySource, Prefetch, open_source
from ..display.run_row import run_texts
from ..display.text import format_ago, format_duration, format_size, one_line
from ..widgets.arranged.arrangement import Wanted
from ..widgets.arranged.pane import Pane
from ..widgets.arranged.panes import Panes
from ..widgets.commit_changes import CommitChanges, DensityStrip
from ..widgets.filter_bar import FilterBar
from ..widgets.full_text import FullText
from ..widgets.job_bar import JobBar
from ..widgets.key_bar import KeyBar
from ..widgets.key_list import KeyList
from ..widgets.namespace_list import Namespaces
from ..widgets.status_bar import Banner, StatusBar
from ..widgets.step_details import StepDetails
from ..widgets.step_list import StepList
from ..widgets.timeline import Timeline
from ..widgets.value.json_view import JsonView
from ..widgets.value.value_info import ValueInfo
from ..widgets.virtual_list import VirtualList

_LOW = 20  # rows of the screen
_MIN_STEP_ROWS = 3  # of the list of steps
DEBOUNCE_SECONDS = 0.05  # a cursor must rest this long before its row is read
HEAVY_VALUE_BYTES = 1_000_000  # above this size of the value, it must rest five times as long
PANE_OF = {
    "namespaces": "1 Namespaces",
    "keys": "2 Keys",
    "value": "3 Value",
    "timeline": "4 Timeline",
    "steps": "5 Steps",
}


class PanesScreen(DashboardScreen, Screen[None]):
    """Shows the namespace of the app, live or at its ref. A subclass adds the keys and their actions."""

    AUTO_FOCUS = "#keys"

    def __init__(self, prefetch: Prefetch | None = None) -> None:
        super().__init__()
        self._prefetch = prefetch
        self._shown: Version | None = None  # the version in the value pane
        self._focus = "keys"  # the name of the pane with the focus
        self._zoomed = False  # whether it alone is shown
        self._step_rows = _MIN_STEP_ROWS  # that the pane of the steps needs
        self._followed = 0  # the revision whose changes are shown
        self._value_timer: Timer | None = None  # reads the value once the cursor rests
        self._state_timer: Timer | None = None  # shows the state once the cursor of the timeline rests

    def compose(self) -> ComposeResult:
        """Show the panes between the status and the keys. `Panes` arranges them."""
        yield StatusBar()
        yield Banner()
        with Panes(id="panes", shares=self.dashboard.memory.choices.shares):
            with Pane(id="namespaces-pane", classes="pane") as pane:
                pane.border_title = "1 Namespaces"
                yield FilterBar("word   =holds key   !run state", id="namespace-filter")
                yield Namespaces(self.dashboard.stores, self.dashboard.open, id="namespaces")
            with Pane(id="keys-pane", classes="pane") as pane:
                pane.border_title = "2 Keys"
                yield FilterBar(id="filter")
                yield KeyList(id="keys")
            with Pane(id="value-pane", classes="pane") as pane:
                pane.border_title = "3 Value"
                yield JsonView(id="json")
                yield ValueInfo(id="value-info")
            with Pane(id="timeline-pane", classes="pane") as pane:
                pane.border_title = "4 Timeline"
                yield FilterBar("word   =key   @2h   revision", id="timeline-filter")
                yield DensityStrip(id="density")
                yield Timeline(id="timeline")
                yield FullText("timeline-text")
            with Pane(id="changes-pane", classes="pane"):
                yield CommitChanges(id="changes")
            with Pane(id="steps-pane", classes="pane") as pane:
                pane.border_title = "5 Steps"
                yield StepList(id="steps")
                yield StepDetails(id="step-details")
        yield JobBar()
        yield KeyBar()

    def on_mount(self) -> None:
        """Show the namespace, and follow the status of the key list."""
        self.keys.grouped = self.dashboard.memory.choices.tree
        self.watch(self.keys, "status", self._status_changed)
        self.watch(self.query_one(Namespaces), "status", self._namespaces_counted)
        self.watch(self.timeline, "status", self._commits_counted)
        self.set_interval(1.0, self._refresh_ages)
        self.show_namespace()

    def _refresh_ages(self) -> None:
        self.timeline.refresh()
        self.query_one(DensityStrip).show(*self.timeline.density)
        if self.has_class("on-timeline") and self.timeline.line.revision != self._followed:
            self.show_changes()  # live has moved on
        self.query_one(Namespaces).refresh_ages()
        self._show_facts()
        self._show_run()

    def _status_changed(self, status: str) -> None:
        self.query_one("#keys-pane", Pane).set_titles(below=status)

    def _namespaces_counted(self, status: str) -> None:
        self.query_one("#namespaces-pane", Pane).set_titles(below=status)

    def _commits_counted(self, status: str) -> None:
        self.query_one("#timeline-pane", Pane).set_titles(
            ("4 Checkpoints" if self.timeline.checkpoints_only else "4 Timeline") + (f" · {status}" if status else "")
        )
        self.show_changes()

    # --- namespace and state -----------------------------------------------------------------------------------

    @property
    def keys(self) -> KeyList:
        """The list of keys."""
        return self.query_one(KeyList)

    @property
    def key_filter(self) -> FilterBar:
        """The filter of the keys."""
        return self.query_one("#filter", FilterBar)

    @property
    def timeline(self) -> Timeline:
        """The list of states."""
        return self.query_one(Timeline)

    @property
    def steps(self) -> StepList:
        """The list of the steps of a run."""
        return self.query_one(StepList)

    def show_namespace(self) -> None:
        """Fill all panes after the app has switched to another namespace."""
        app = self.dashboard
        self.query_one(Namespaces).set_current(app.store, app.manager.namespace)
        self.timeline.show(app.manager)
        self.key_filter.clear()
        self.query_one("#timeline-filter", FilterBar).clear()
        self.show_state()

    def show_state(self) -> None:
        """Show keys and value, and the cursor of the timeline, after the app has switched to another state."""
        app, prefetch = self.dashboard, self._prefetch
        self._prefetch = None
        self.set_class(app.at is not None, "-past")
        self.timeline.go_to(app.at or "live")
        source: KeySource
        if prefetch is not None:
            source = prefetch.source
        else:
            source = open_source(app.manager, app.ref, self.key_filter.text, redact=app.redact)
        self.steps.show(app.manager, app.ref)
        self.keys.show(source, prefetch)
        if self._shown is not None:
            self._read_value(self._shown.key)
        self.show_status()

    def show_status(self) -> None:
        """Show namespace, store and state in the status bar, and a lost connection in the banner."""
        app = self.dashboard
        right = ("zoomed, + shows all panes · " if self._zoomed else "") + ("read-only" if app.read_only else "RW")
        right = ("SECRETS SHOWN · " if app.shows_secrets else "") + right
        if app.at is not None:
            state, role = f"AS OF {app.at}, NOT LIVE · esc: live", "past"
        elif app.lost is not None:
            state, role = "LOST", "paused"
        elif app.paused:
            behind = plural(app.commits_behind, "commit")
            state, role = f"PAUSED at r{app.paused_at}, {behind} behind · p: continue", "paused"
        else:
            head = app.news.head if app.news else None
            state, role = f"LIVE ● r{head.revision}" if head else "LIVE ●", "live"
            if head is not None and not head.lineage:
                state = "LIVE ● NOT CREATED YET"
        self.query_one(StatusBar).show(app.manager.namespace, app.manager.url, state, role, right)
        self.query_one(Banner).show(app.lost)

    def namespace_changed(self, head: Head, changed: list[str] | None) -> None:
        """Update the lists. Update keys and value only if they show live."""
        app = self.dashboard
        assert app.news is not None
        self.query_one(Namespaces).set_current(app.store, app.manager.namespace, head)
        self.timeline.update_head(head, app.news.marks)
        if concerns_runs(changed):
            self.query_one(Namespaces).read_run(app.manager)
        if app.at is None:
            if concerns_runs(changed):
                self.steps.read()
            self.keys.invalidate(changed)
            if self.keys.key is not None and (changed is None or self.keys.key in changed):
                self._read_value(self.keys.key)
        self.show_status()

    def reload(self) -> None:
        """Read all panes again."""
        app = self.dashboard
        self.query_one(Namespaces).read(app.store)
        self.query_one(Namespaces).read_run(app.manager)
        self.timeline.reload()
        self.steps.read()
        self.keys.invalidate(None)
        if self.keys.key is not None:
            self._read_value(self.keys.key)

    @property
    def has_secrets(self) -> bool:
        """Whether a value is masked in the value pane."""
        return self.query_one(JsonView).is_masked

    def secrets_changed(self) -> None:
        """Paint keys, value, step and changes anew. A search in values begins again."""
        self.query_one(JsonView).secrets_changed()
        self._step_highlighted()
        self.query_one(CommitChanges).secrets_changed()
        self.keys.secrets_changed()

    def show_changes(self) -> None:
        """Show what the selected commit changed, while the timeline has the focus, and where it lies."""
        timeline = self.timeline
        self.query_one(DensityStrip).show(*timeline.density)
        self.query_one(FullText).show(timeline.line.text if self.has_class("on-timeline") else "")
        if not self.has_class("on-timeline"):
            return
        revision = self._followed = timeline.line.revision
        title = f"Changes of r{revision} · w opens them" if revision > 0 else "Changes"
        self.query_one("#changes-pane", Pane).set_titles(title)
        self.query_one(CommitChanges).follow(self.dashboard.manager, revision)

    # --- the value ---------------------------------------------------------------------------------------------

    @on(KeyList.Highlighted)
    def _key_highlighted(self, event: KeyList.Highlighted) -> None:
        if self._value_timer is not None:
            self._value_timer.stop()
        key, group = event.key, self.keys.group
        if group is not None:
            keys = "its keys are being counted" if group.count is None else plural(group.count, "key")
            self._clear_value(f"{one_line(group.key, 200)}\n{keys}\n\nenter opens or folds the group, . lists all keys")
            return
        if key is None:
            self._clear_value()
            return
        heavy = event.row is not None and event.row.size > HEAVY_VALUE_BYTES
        seconds = 5 * DEBOUNCE_SECONDS if heavy else DEBOUNCE_SECONDS
        self._value_timer = self.set_timer(seconds, lambda: self._read_value(key))

    @on(KeyList.TreeChanged)
    def _tree_changed(self) -> None:
        self.dashboard.memory.choices.tree = self.keys.grouped
        self.dashboard.remember()

    @on(VirtualList.Failed)
    def _failed(self, event: VirtualList.Failed) -> None:
        self.dashboard.show_error(event.error)

    def _read_value(self, key: str) -> None:
        app = self.dashboard
        backend, at = app.manager.backend, app.ref

        def read(_stop: object) -> tuple[Version | None, Sealed | None]:
            point = None if at is None else resolve(backend, at)
            try:
                return backend.get(key) if point is None else backend.read([key], point).get(key), None
            except Sealed as error:
                return names_only(backend).read([key], point).get(key), error

        def show(answer: tuple[Version | None, Sealed | None]) -> None:
            version, error = answer
            if key != self.keys.key or (backend, at) != (app.manager.backend, app.ref):
                return  # the cursor or the state has changed since the read began
            if version is None or version.value is None:
                self._clear_value()
                return
            self._shown = version
            if error is None:
                self.query_one(JsonView).show(version.value, key)
            else:
                self.query_one(JsonView).show_text(f"(sealed)\n{app.error_text(error)}")
            self._show_facts()

        app.reader.submit(self, "value", read, show, self._value_failed)

    def _value_failed(self, error: Exception) -> None:
        self.dashboard.show_error(error)
        if self._shown is None or self._shown.key != self.keys.key:  # else the earlier value of this key stays
            self._clear_value(self.dashboard.error_text(error))

    def _clear_value(self, text: str = "") -> None:
        self._shown = None
        self.query_one("#value-pane", Pane).set_titles("3 Value")
        self.query_one(JsonView).show_text(text)
        self.query_one(ValueInfo).show("", "")
        self.tell_secrets()

    def _show_facts(self) -> None:
        shown = self._shown
        if shown is None or shown.value is None:
            return
        self.query_one("#value-pane", Pane).set_titles(Content(f"3 Value · {one_line(shown.key, 80)}"))
        size = shown.value.size if isinstance(shown.value, SealedValue) else len(shown.value)
        facts = [format_size(size), f"r{shown.revision}", format_ago(shown.time, now())]
        if shown.expires:
            facts.insert(1, f"expires in {format_duration((shown.expires - now()) / 1_000_000)}")
        self.query_one(ValueInfo).show(" · ".join(facts), self.query_one(JsonView).pointer)

    def show_key(self, key: str) -> None:
        """Move the cursor to a new key. Clear a filter that would hide the key."""
        bar = self.key_filter
        if bar.text and not Filter.parse(bar.text).match()(key):
            self.keys.filter("")
            bar.clear()
        self.keys.go_to(key)

    @on(VirtualList.Highlighted, "#json")
    def _place_highlighted(self) -> None:
        self.query_one(ValueInfo).show(pointer=self.query_one(JsonView).pointer)
        self.tell_secrets()

    # --- the steps ---------------------------------------------------------------------------------------------

    @on(StepList.Read)
    def _run_read(self, event: StepList.Read) -> None:
        """Show the pane of the steps if the namespace has runs, also where the state on the screen has none."""
        if not event.has_runs and self.steps.has_focus:
            self.keys.focus()
        self.set_class(event.has_runs, "has-runs")
        self.place_panes()
        self._show_run()
        self.call_after_refresh(self._show_run)  # the pane may have got its width only now
        self._step_highlighted()

    @property
    def _details_rows(self) -> int:
        """The rows for what came of a step: none on a screen so low that they would leave none for the steps."""
        height = self.app.size.height
        return 0 if height < _LOW else max(3, min(8, height // 6))

    def _show_run(self) -> None:
        steps, pane = self.steps, self.query_one("#steps-pane", Pane)
        progress = steps.progress
        if progress is None:
            pane.set_titles("5 Steps", "")
            return
        count = f" · {count_of(progress.steps):,}/{len(progress.steps):,} done"
        room = pane.size.width - len(count) - 4
        texts = run_texts(progress.run, steps.moment)
        text = next((text for text in texts if cell_len(text) <= room), texts[-1])
        pane.set_titles(Content(one_line(f"5 Steps · {progress.run.name}", 80)), Content(one_line(text + count)))
        self._step_rows = max(_MIN_STEP_ROWS, steps.count) + self._details_rows + 2
        self.place_panes()

    @on(VirtualList.Highlighted, "#steps")
    def _step_highlighted(self) -> None:
        app, progress = self.dashboard, self.steps.progress
        run = progress.run.name if progress is not None else ""
        self.query_one(StepDetails).show(app.manager, app.ref, run, self.steps.step, app.redact)

    # --- where the panes stand ---------------------------------------------------------------------------------

    @property
    def panes(self) -> Panes:
        """The container of the panes."""
        return self.query_one(Panes)

    def place_panes(self) -> None:
        """Arrange the panes for the focus, and name the hidden ones in the title of the keys."""
        panes = self.panes
        panes.want(Wanted(self._focus, self._zoomed, self.has_class("has-runs"), self._step_rows))
        self._name_hidden_panes()

    def _name_hidden_panes(self) -> None:
        regions = self.panes.arrangement().regions
        names = [name for name in ("value", "steps", "timeline", "namespaces") if name not in regions]
        if not self.has_class("has-runs"):
            names = [name for name in names if name != "steps"]
        hidden = "".join(f" · {PANE_OF[name]}" for name in names[:2])
        self.query_one("#keys-pane").border_title = f"2 Keys{hidden}"

    def action_zoom(self) -> None:
        """Show the pane with the focus alone, or all panes again."""
        self._zoomed = not self._zoomed
        self.place_panes()
        self.show_status()

    def action_move_border(self, columns: int, rows: int) -> None:
        """Move the border next to the pane with the focus."""
        if not self.panes.move(bool(columns), columns or rows):
            way = "left or right" if columns else "above or below"
            self.dashboard.notify_user(f"this pane has no other {way} of it")

    @on(Panes.Moved)
    def _border_moved(self, event: Panes.Moved) -> None:
        self.dashboard.memory.choices.shares = event.shares
        self.dashboard.remember()

    def on_resize(self, event: Resize) -> None:  # noqa: ARG002 - Textual's
        """Name the hidden panes in the title of the keys, and give the details of a step their share."""
        self.query_one(StepDetails).styles.height = self._details_rows
        self.call_after_refresh(self._name_hidden_panes)
        self.call_after_refresh(self._show_run)

    def on_descendant_focus(self, event: DescendantFocus) -> None:
        """Show the pane with the focus, if there is no room for all panes."""
        inside = {(node.id or "").removesuffix("-pane") for node in event.widget.ancestors_with_self}
        followed = self._focus == "timeline"
        self._focus = next((name for name in PANE_OF if name in inside), self._focus)
        self.set_class(self._focus == "timeline", "on-timeline")
        if followed != (self._focus == "timeline"):
            self.show_changes()
        self.place_panes()
        self.call_after_refresh(self._show_run)
