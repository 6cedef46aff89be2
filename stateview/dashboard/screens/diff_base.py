"""What the diff screen and the restore preview share: a diff that streams in, its keys, the change of one of them."""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from typing import ClassVar, Literal

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import Screen
from textual.timer import Timer
from textual.widgets import Input, Label

from ...model import Kind
from ...states.json_diff import Change
from ..base_screen import DashboardScreen
from ..data.background import Stop
from ..data.diff_model import KINDS, NONE, WHOLE, DiffFilter, DiffIndex, DiffProgress, DiffSides, collect
from ..display.text import SIGNS, format_count, one_line
from ..widgets.diff_list import DiffList
from ..widgets.diff_view import SIDE_BY_SIDE_COLUMNS, DiffView
from ..widgets.key_bar import KeyBar
from ..widgets.line_input import LineInput
from ..widgets.status_bar import Banner
from ..widgets.virtual_list import VirtualList

_POLL_SECONDS = 0.05  # seconds between two looks at what has come
_KEYS_PER_TICK = 50_000  # keys that are filtered in one of them
_DEBOUNCE_SECONDS = 0.05  # seconds for which the cursor must rest before a key's change is read


class DiffRun:
    """One going through a diff: written by its thread, read by the screen."""

    def __init__(self, found: DiffIndex) -> None:
        self.found = found  # what comes of it
        self.sides: DiffSides | None = None
        self.walk = DiffProgress()
        self.batches: deque[tuple[list[str], bytes]] = deque()
        self.state: Literal["running", "stopped", "whole", "failed"] = "running"


class DiffBaseScreen(DashboardScreen, Screen[bool]):
    """Base. A subclass says which two states are compared, and what is done with the keys."""

    DEFAULT_CSS = """
    DiffBaseScreen Label { width: 1fr; height: 1; padding: 0 1; text-wrap: nowrap; text-overflow: ellipsis; }
    DiffBaseScreen #title { background: $panel; text-style: bold; }
    DiffBaseScreen #note { color: $text-warning; display: none; height: auto; max-height: 4; text-wrap: wrap; }
    DiffBaseScreen #note.-said { display: block; }
    DiffBaseScreen #note.-wrong { color: $text-error; text-style: bold; }
    DiffBaseScreen #panes { height: 1fr; }
    DiffBaseScreen #left { width: 2fr; }
    DiffBaseScreen #right { width: 3fr; border-left: solid $panel-lighten-1; }
    DiffBaseScreen #right:focus-within { border-left: solid $accent; }
    DiffBaseScreen #about { color: $text-muted; }
    DiffBaseScreen #tally { background: $panel; }
    DiffBaseScreen #line { color: $text-muted; }
    DiffBaseScreen #filter { display: none; height: 1; border: none; background: $boost; padding: 0 1; }
    DiffBaseScreen #filter.-open { display: block; }
    DiffBaseScreen.-medium #left { width: 1fr; }
    DiffBaseScreen.-medium #right { width: 1fr; }
    DiffBaseScreen.-narrow #right { display: none; border-left: none; }
    DiffBaseScreen.-narrow.on-change #right { display: block; }
    DiffBaseScreen.-narrow.on-change #left { display: none; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("right_square_bracket", "step(1)", "Next", key_display="]", id="diff.next"),
        Binding("left_square_bracket", "step(-1)", "Previous", key_display="[", id="diff.previous"),
        Binding("t", "split", "Split", id="diff.split"),
        Binding("plus", "kind('added')", "Added", show=False, key_display="+", id="diff.added"),
        Binding("minus", "kind('removed')", "Removed", show=False, key_display="-", id="diff.removed"),
        Binding("tilde", "kind('changed')", "Changed", show=False, key_display="~", id="diff.changed"),
        Binding("slash", "filter", "Filter", key_display="/", id="diff.filter"),
        Binding("space", "mark", "Mark", id="diff.mark"),
        Binding("a", "mark_all", "Mark all", show=False, id="diff.mark-all"),
        Binding("n", "mark_none", "Mark none", show=False, id="diff.mark-none"),
        Binding("i", "invert", "Invert marks", show=False, id="diff.invert"),
        Binding("escape", "back", "Back", key_display="esc", id="diff.back"),
    ]
    HORIZONTAL_BREAKPOINTS: list[tuple[int, str]] | None = [(0, "-narrow"), (80, "-medium"), (120, "-wide")]  # noqa: RUF012
    AUTO_FOCUS = "#keys"

    def __init__(self, mark: int, *, marking: bool, said: dict[Kind, tuple[str, str]] | None = None) -> None:
        super().__init__()
        self._mark = mark  # what a key has as it is listed
        self.keys = DiffList(marking=marking, said=said, id="keys")
        self.view = DiffView(id="change")  # of the key under the cursor
        self.found = DiffIndex(mark)  # what is listed: of `run`, or of the one before it until this one finds something
        self.run = DiffRun(self.found)
        self.compared: DiffSides | None = None  # the states that what is listed is about
        self._kinds = frozenset(KINDS)
        self._text = ""
        self._seek: str | None = None  # the key that the cursor is to come back to
        self._land: Literal["first", "last"] = "first"
        self._steps = 0  # a step to a change that is not there yet
        self._ticks: Timer | None = None
        self._resting: Timer | None = None

    # --- what a subclass says ----------------------------------------------------------------------------------

    @abstractmethod
    def diff_sides(self) -> DiffSides:
        """Return the two states; on a thread, each time that they are compared. Raises what the backend raises."""

    def restrict_keys(self) -> list[str] | None:
        """Return the keys that are compared, sorted; None: all."""
        return None

    @abstractmethod
    def title_text(self) -> str:
        """Return what is compared, or restored."""

    @abstractmethod
    def selection_text(self) -> str:
        """Return what is marked, in words."""

    @abstractmethod
    def command(self) -> str:
        """Return the equivalent command line."""

    @abstractmethod
    def no_difference_text(self) -> list[str]:
        """Return what is said where nothing differs."""

    def finished(self) -> None:
        """All keys are there."""

    # --- the screen --------------------------------------------------------------------------------------------

    def compose(self) -> ComposeResult:
        """Keys beside the change of one of them; under 80 columns one or the other."""
        yield Banner()
        yield Label(id="title", markup=False)
        yield Label(id="note", markup=False)
        with Horizontal(id="panes"):
            with Vertical(id="left"):
                yield self.keys
            with Vertical(id="right"):
                yield Label(id="about", markup=False)
                yield self.view
        yield LineInput(id="filter", placeholder="part of a key, or a glob · esc clears")
        yield Label(id="tally", markup=False)
        yield Label(id="line", markup=False)
        yield KeyBar()

    def on_mount(self) -> None:
        """Begin to compare."""
        self._ticks = self.set_interval(_POLL_SECONDS, self._tick, pause=True)
        self.start()

    def on_resize(self) -> None:
        """Whether there is room for what was asked for may have changed."""
        self.refresh_labels()

    def note(self, text: str, *, wrong: bool = False) -> None:
        """Say something above the keys, until something else is said. The text may hold stored data."""
        label = self.query_one("#note", Label)
        label.update("\n".join(one_line(one, 500) for one in text.split("\n")))
        label.set_class(bool(text), "-said")
        label.set_class(wrong, "-wrong")

    def refresh_labels(self) -> None:
        """Say anew what is known: counts, marks and the command line."""
        shown, found, state = self.keys.shown, self.found, self.run.state
        kinds = [
            f"{SIGNS[kind]}{format_count(found.count(kind))}"
            if kind in self._kinds
            else f"({SIGNS[kind]}{format_count(found.count(kind))})"
            for kind in KINDS
        ]
        parts = [f"{self.title_text()}   {' '.join(kinds)}"]
        if state == "running":
            share = self.run.walk.share
            parts.append(f"computing{'…' if share is None else f' {share}%'} (esc stops)")
        elif state == "stopped":
            parts.append("stopped before the end (R looks again)")
        if shown.filtered:
            parts.append(f"{format_count(len(shown))}{'' if shown.done else '…'} shown")
        if self.view.too_narrow:
            parts.append(f"split needs {SIDE_BY_SIDE_COLUMNS} columns")
        self.query_one("#title", Label).update(one_line("   ".join(parts)))
        self.query_one("#tally", Label).update(one_line(self.selection_text()))
        told = f"CLI: {self.command()}"
        if len(told) > self.size.width:  # what it does is seen, if not all of where
            told = f"CLI: … {self.dashboard.short_command(self.command())}"
        self.query_one("#line", Label).update(one_line(told))
        self.keys.said = self._nothing()
        self._tell_about()

    def _nothing(self) -> list[str]:
        state = self.run.state
        if len(self.found):
            return ["no key like this; esc clears" if self._text else "no kind is shown; + - ~ show them"]
        if state == "running":
            return ["comparing…"]
        return (
            self.no_difference_text() if state == "whole" else ["stopped; R looks again" if state == "stopped" else ""]
        )

    def _tell_about(self) -> None:
        view, at = self.view, ""
        if view.change is not None and view.place >= 0:
            change = view.change
            revisions = [f"r{one}" for one in (change.before_revision, change.after_revision) if one]
            stop, stops = view.stop
            at = f"{stop:,} of {stops:,}{'' if view.all_listed else '+'} · {' → '.join(revisions)} · "
        self.query_one("#about", Label).update(one_line(f"{at}{view.key or ''}"))

    # --- streaming ---------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Compare from the beginning."""
        app, earlier = self.dashboard, self.found
        self.run = run = DiffRun(DiffIndex(earlier.fresh if len(earlier) else self._mark))
        run.found.earlier = earlier if len(earlier) else None
        self.note("")

        def compare(stop: Stop) -> None:
            run.walk = DiffProgress(stop)
            sides = run.sides = self.diff_sides()
            keys = self.restrict_keys()
            changes = sides.changes(run.walk) if keys is None else sides.among(keys, run.walk)
            collect(changes, put)

        def put(keys: list[str], kinds: bytes) -> None:
            first = not run.batches
            run.batches.append((keys, kinds))
            if first:
                self.call_later(self._tick)

        def whole(_: None) -> None:
            self._end(run, "whole")

        def failed(error: Exception) -> None:
            self._end(run, "failed")
            self.note(f"{error}\nR looks again · esc leaves", wrong=True)

        app.reader.submit(self, "diff", compare, whole, failed)
        if self._ticks is not None:
            self._ticks.resume()
        self.refresh_labels()

    def _end(self, run: DiffRun, state: Literal["stopped", "whole", "failed"]) -> None:
        if run is self.run:
            self._tick()
            run.state = state
            run.found.earlier = None
            self._tick()
            if state == "whole":
                self.finished()

    def stop(self) -> None:
        """Compare no further; what was found stays."""
        self.dashboard.reader.cancel(self, "diff")
        self._end(self.run, "stopped")

    def _tick(self) -> None:
        """Take in what has come, and filter a piece of it."""
        run, keys = self.run, self.keys
        if self.found is not run.found and (run.batches or run.state == "whole"):
            self._change_over()
        empty = not keys.count
        while run.batches:
            self.found.extend(*run.batches.popleft())
        keys.shown.advance(_KEYS_PER_TICK)
        if self._seek is not None:
            self._come_back(self._seek)
        keys.count_changed()
        if empty and keys.count:
            self.look()
        if run.state != "running" and keys.shown.done and self._ticks is not None:
            self._seek = None
            self._ticks.pause()
        self.refresh_labels()

    def _change_over(self) -> None:
        """List what the run finds instead of what was listed: an error leaves that as it was."""
        run, keys = self.run, self.keys
        self._seek = keys.key
        self.found, self.compared = run.found, run.sides
        keys.touched = set()
        keys.compare(run.sides)
        self._refilter()

    def _come_back(self, key: str) -> None:
        """Put the cursor on a key once it is listed, or where it would be."""
        place, keys = self.found.find(key), self.keys
        index = keys.shown.find(place)
        if index < keys.count:
            self._seek = None
            keys.cursor = index

    # --- the change under the cursor ---------------------------------------------------------------------------

    def look(self, *, stay: bool = False) -> None:
        """Read and show the change of the key under the cursor."""
        sides, key, view, land = self.compared, self.keys.key, self.view, self._land
        self._land = "first"
        if sides is None or key is None:
            view.key = None
            view.clear()
            return

        def read() -> Change | None:
            return sides.change(key)

        view.look(key, read, land, stay=stay)
        self._tell_about()

    @on(VirtualList.Highlighted, "#keys")
    def _highlighted(self, event: VirtualList.Highlighted) -> None:
        event.stop()
        if self.keys.key == self.view.key:
            return
        if self._resting is not None:
            self._resting.stop()
        self._resting = self.set_timer(_DEBOUNCE_SECONDS, self._rested)

    def _rested(self) -> None:
        if self.keys.key != self.view.key:
            self.look()

    @on(VirtualList.Highlighted, "#change")
    def _moved_inside(self, event: VirtualList.Highlighted) -> None:
        event.stop()
        self._tell_about()

    @on(DiffView.Compared)
    def _compared(self) -> None:
        self.refresh_labels()
        if self._steps and self.keys.key == self.view.key:
            steps, self._steps = self._steps, 0
            self.action_step(steps)

    @on(VirtualList.Chosen, "#keys")
    def _chosen(self, event: VirtualList.Chosen) -> None:
        event.stop()
        self._to_change()

    def _to_change(self) -> None:
        self.add_class("on-change")
        self.view.focus()

    @on(DiffView.Left)
    def _left(self) -> None:
        self.remove_class("on-change")
        self.keys.focus()

    def on_descendant_focus(self) -> None:
        """Under 80 columns the pane that has the focus is the one that is seen."""
        if self.focused in (self.keys, self.view):
            self.set_class(self.focused is self.view, "on-change")

    def action_step(self, by: int) -> None:
        """Go to the next change inside the value, and after the last to the next key."""
        keys, view = self.keys, self.view
        if self.has_class("-narrow") and keys.count:  # else what one goes to is not on the screen
            self._to_change()
        if view.busy or view.key != keys.key:
            if not self._steps:  # it is made when the change is there; whoever presses again does not want to wait
                self._steps = by
                return
        elif view.step(by):
            return
        self._steps = 0
        if 0 <= keys.cursor + by < keys.count:
            self._land = "first" if by > 0 else "last"
            keys.cursor += by
            self.look()
        else:
            self.dashboard.notify_user("this is the last change" if by > 0 else "this is the first change")

    def action_split(self) -> None:
        """Put before and after side by side, or one under the other."""
        view = self.view
        view.split = not view.split
        if view.too_narrow:
            self.dashboard.notify_user(
                f"side by side needs {SIDE_BY_SIDE_COLUMNS} columns; one under the other until then"
            )
        self.refresh_labels()

    # --- filters -----------------------------------------------------------------------------------------------

    def _refilter(self) -> None:
        keys = self.keys
        self._seek = self._seek or keys.key
        shown = DiffFilter(self.found, self._kinds, self._text)
        shown.advance(_KEYS_PER_TICK)
        keys.show(self.found, shown)
        if self._seek is not None:
            self._come_back(self._seek)
        if self._ticks is not None:
            self._ticks.resume()
        if keys.key != self.view.key:
            self.look()
        self.refresh_labels()

    def action_kind(self, kind: Kind) -> None:
        """Show the keys of a kind, or leave them out."""
        self._kinds = self._kinds ^ {kind}
        self._refilter()

    def action_filter(self) -> None:
        """Open the filter."""
        box = self.query_one("#filter", Input)
        box.add_class("-open")
        box.focus()

    @on(Input.Changed, "#filter")
    def _filtered(self, event: Input.Changed) -> None:
        event.stop()
        self._text = event.value
        self._refilter()

    @on(Input.Submitted, "#filter")
    def _submitted(self, event: Input.Submitted) -> None:
        event.stop()
        event.input.set_class(bool(event.value), "-open")
        self.keys.focus()

    def _unfilter(self) -> None:
        box = self.query_one("#filter", Input)
        box.value = ""  # `_filtered` hears of it
        box.remove_class("-open")
        self.keys.focus()

    # --- marks -------------------------------------------------------------------------------------------------

    def action_mark(self) -> None:
        """Mark the key under the cursor, or take its mark away."""
        keys = self.keys
        if keys.key is not None:
            place = keys.shown[keys.cursor]
            self.found.set_mark(place, WHOLE if self.found.mark(place) == NONE else NONE)
            keys.cursor += 1
            self.remarked()

    def _mark_shown(self, mark: int | None) -> None:
        shown = self.keys.shown
        if shown.filtered and not shown.done:
            self.dashboard.notify_user("still filtering: a moment")
            return
        self.found.set_marks(mark, shown if shown.filtered else None)
        self.remarked()

    def remarked(self) -> None:
        """Show the marks after they changed."""
        self.keys.refresh()
        self.view.refresh()
        self.refresh_labels()

    def action_mark_all(self) -> None:
        """Mark all keys that are shown."""
        self._mark_shown(WHOLE)

    def action_mark_none(self) -> None:
        """Mark none of the keys that are shown."""
        self._mark_shown(NONE)

    def action_invert(self) -> None:
        """Mark those that are not, and the others not."""
        self._mark_shown(None)

    # --- back --------------------------------------------------------------------------------------------------

    def action_back(self) -> None:
        """One level back: stop, to the keys, clear the filter, leave."""
        if self.run.state == "running":
            self.stop()
        elif self.focused is self.view:
            self._left()
        elif self._text or self.query_one("#filter", Input).has_class("-open"):
            self._unfilter()
        else:
            self.leave()

    def leave(self) -> None:
        """Go back to the screen below."""
        self.dismiss(False)
