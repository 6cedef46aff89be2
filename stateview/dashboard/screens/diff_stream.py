"""A screen that lists the keys of a diff while the diff is computed, and shows the change of the selected key."""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from typing import Literal

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.screen import Screen
from textual.timer import Timer
from textual.widgets import Label

from ...model import Kind
from ...states.changes import Change
from ..base_screen import DashboardScreen
from ..data.background import Stop
from ..data.diff_model import KINDS, DiffFilter, DiffIndex, DiffProgress, DiffSides, collect
from ..display.text import SIGNS, format_count, one_line
from ..widgets.diff_list import DiffList
from ..widgets.diff_view import SIDE_BY_SIDE_COLUMNS, DiffView
from ..widgets.key_bar import KeyBar
from ..widgets.line_input import LineInput
from ..widgets.status_bar import Banner
from ..widgets.virtual_list import VirtualList

_POLL_SECONDS = 0.05  # between two looks at the batches of the diff
_KEYS_PER_TICK = 50_000  # keys that one tick filters, so that the screen stays responsive
_DEBOUNCE_SECONDS = 0.05  # the cursor must rest this long before the change of its key is read


class DiffRun:
    """One computation of a diff. Its thread adds batches; the screen takes them."""

    def __init__(self, index: DiffIndex) -> None:
        self.index = index  # takes the batches
        self.sides: DiffSides | None = None
        self.progress = DiffProgress()
        self.batches: deque[tuple[list[str], bytes]] = deque()
        self.state: Literal["running", "stopped", "whole", "failed"] = "running"


class DiffStreamScreen(DashboardScreen, Screen[bool]):
    """Base of `DiffBaseScreen`. Shows the diff as it comes; the subclass filters, marks and moves.

    Args:
        mark: the mark of each key when it is listed.
        marking: whether each row of the list begins with a box.
        said: the words for a marked key of a kind, and a shorter form for narrow terminals.
        start_key: the key under the cursor at first, if it differs.

    """

    DEFAULT_CSS = """
    DiffStreamScreen Label { width: 1fr; height: 1; padding: 0 1; text-wrap: nowrap; text-overflow: ellipsis; }
    DiffStreamScreen #title { background: $panel; text-style: bold; }
    DiffStreamScreen #note { color: $text-warning; display: none; height: auto; max-height: 4; text-wrap: wrap; }
    DiffStreamScreen #note.-shown { display: block; }
    DiffStreamScreen #note.-wrong { color: $text-error; text-style: bold; }
    DiffStreamScreen #panes { height: 1fr; }
    DiffStreamScreen #left { width: 2fr; }
    DiffStreamScreen #right { width: 3fr; border-left: solid $panel-lighten-1; }
    DiffStreamScreen #right:focus-within { border-left: solid $accent; }
    DiffStreamScreen #about { color: $text-muted; }
    DiffStreamScreen #tally { background: $panel; }
    DiffStreamScreen #line { color: $text-muted; }
    DiffStreamScreen #filter { display: none; height: 1; border: none; background: $boost; padding: 0 1; }
    DiffStreamScreen #filter.-open { display: block; }
    DiffStreamScreen.-medium #left { width: 1fr; }
    DiffStreamScreen.-medium #right { width: 1fr; }
    DiffStreamScreen.-narrow #right { display: none; border-left: none; }
    DiffStreamScreen.-narrow.on-change #right { display: block; }
    DiffStreamScreen.-narrow.on-change #left { display: none; }
    """
    HORIZONTAL_BREAKPOINTS: list[tuple[int, str]] | None = [(0, "-narrow"), (80, "-medium"), (120, "-wide")]  # noqa: RUF012
    AUTO_FOCUS = "#keys"

    def __init__(
        self, mark: int, *, marking: bool, said: dict[Kind, tuple[str, str]] | None = None, start_key: str | None = None
    ) -> None:  # fmt: skip
        super().__init__()
        self._start_key = start_key
        self._mark = mark
        self.keys = DiffList(marking=marking, mark_labels=said, id="keys")
        self.view = DiffView(id="change")  # the change of the selected key
        self.index = DiffIndex(mark)  # the keys in the list; of the run before, until this run has a first batch
        self.run = DiffRun(self.index)
        self.compared: DiffSides | None = None  # the two states of the keys in the list
        self._kinds = frozenset(KINDS)  # the kinds that the filter shows
        self._text = ""  # the text of the filter
        self._seek: str | None = None  # the key that the cursor returns to, once it is listed
        self._land: Literal["first", "last"] = "first"  # the stop inside the next change that is shown
        self._ticks: Timer | None = None
        self._rest_timer: Timer | None = None  # shows the change once the cursor rests

    # --- for subclasses ----------------------------------------------------------------------------------------

    @abstractmethod
    def diff_sides(self) -> DiffSides:
        """Resolve the two states. Each run calls this on its thread. Raises the errors of the backend."""

    def restrict_keys(self) -> list[str] | None:
        """Return the keys to compare, sorted; None is all."""
        return None

    @abstractmethod
    def title_text(self) -> str:
        """Return the title: the two states."""

    @abstractmethod
    def selection_text(self) -> str:
        """Summarize the marks."""

    @abstractmethod
    def command(self) -> str:
        """Return the equivalent command line."""

    @abstractmethod
    def no_difference_text(self) -> list[str]:
        """Return the lines of an empty list after a complete diff."""

    @property
    def has_secrets(self) -> bool:
        """Whether a value of the change is masked."""
        return self.view.is_masked

    def secrets_changed(self) -> None:
        """Paint the summaries and the change anew."""
        self.keys.secrets_changed()
        self.view.secrets_changed()

    def finished(self) -> None:
        """Act after a run has listed all keys. By default, do nothing."""

    # --- the screen --------------------------------------------------------------------------------------------

    def compose(self) -> ComposeResult:
        """Put the keys beside the change. A terminal under 80 columns shows one of the two."""
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
        """Start the first run."""
        self._ticks = self.set_interval(_POLL_SECONDS, self._tick, pause=True)
        self.start()

    def on_resize(self) -> None:
        """Fit the labels to the new width."""
        self.refresh_labels()

    def note(self, text: str, *, wrong: bool = False) -> None:
        """Show a text above the keys until the next note. Control characters of stored data in it are escaped."""
        label = self.query_one("#note", Label)
        label.update("\n".join(one_line(line, 500) for line in text.split("\n")))
        label.set_class(bool(text), "-shown")
        label.set_class(wrong, "-wrong")

    def refresh_labels(self) -> None:
        """Update counts, marks and the command line."""
        self.query_one("#title", Label).update(one_line("   ".join(self._title_parts())))
        self.query_one("#tally", Label).update(one_line(self.selection_text()))
        line = f"CLI: {self.command()}"
        if len(line) > self.size.width:  # cut the store and the namespace, so that the command itself is visible
            line = f"CLI: … {self.dashboard.short_command(self.command())}"
        self.query_one("#line", Label).update(one_line(line))
        self.keys.empty_lines = self._empty_text()
        self._show_position()

    def _title_parts(self) -> list[str]:
        shown, state = self.keys.filter, self.run.state
        counts = [(kind, f"{SIGNS[kind]}{format_count(self.index.count(kind))}") for kind in KINDS]
        kinds = " ".join(count if kind in self._kinds else f"({count})" for kind, count in counts)
        is_known = state != "failed" or len(self.index)
        parts = [f"{self.title_text()}   {kinds if is_known else 'could not be compared'}"]
        if state == "running":
            percent = self.run.progress.share
            parts.append(f"computing{'…' if percent is None else f' {percent}%'} (esc stops)")
        elif state == "stopped":
            parts.append("stopped before the end (R reloads)")
        if shown.filtered:
            parts.append(f"{format_count(len(shown))}{'' if shown.done else '…'} shown")
        if self.view.too_narrow:
            parts.append(f"split needs {SIDE_BY_SIDE_COLUMNS} columns")
        return parts

    def _empty_text(self) -> list[str]:
        if len(self.index):
            return ["no key matches; esc clears the filter" if self._text else "all kinds are hidden; + - ~ show them"]
        if self.run.state == "whole":
            return self.no_difference_text()
        return [{"running": "comparing…", "stopped": "stopped; R reloads"}.get(self.run.state, "")]

    def _show_position(self) -> None:
        view, position = self.view, ""
        if view.change is not None and view.place >= 0:
            change = view.change
            revisions = [f"r{revision}" for revision in (change.before_revision, change.after_revision) if revision]
            stop, stops = view.stop
            position = f"{stop:,} of {stops:,}{'' if view.all_listed else '+'} · {' → '.join(revisions)} · "
        self.query_one("#about", Label).update(one_line(f"{position}{view.key or ''}"))

    # --- streaming ---------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Compute the diff from the beginning. The marks of the keys in the list stay."""
        app, earlier = self.dashboard, self.index
        self.run = run = DiffRun(DiffIndex(earlier.fresh if len(earlier) else self._mark))
        run.index.earlier = earlier if len(earlier) else None
        self.note("")

        def compute(stop: Stop) -> None:
            run.progress = DiffProgress(stop)
            sides = run.sides = self.diff_sides()
            keys = self.restrict_keys()
            changes = sides.changes(run.progress) if keys is None else sides.among(keys, run.progress)
            collect(changes, add_batch)

        def add_batch(keys: list[str], kinds: bytes) -> None:
            first = not run.batches
            run.batches.append((keys, kinds))
            if first:
                self.call_later(self._tick)

        def whole(_: None) -> None:
            self._end(run, "whole")

        def failed(error: Exception) -> None:
            self._end(run, "failed")
            self.note(f"{error}\nR reloads · esc leaves", wrong=True)

        app.reader.submit(self, "diff", compute, whole, failed)
        if self._ticks is not None:
            self._ticks.resume()
        self.refresh_labels()

    def _end(self, run: DiffRun, state: Literal["stopped", "whole", "failed"]) -> None:
        if run is self.run:
            self._tick()
            run.state = state
            run.index.earlier = None
            self._tick()
            if state == "whole":
                self.finished()

    def stop(self) -> None:
        """Stop the run. The keys that it has listed stay."""
        self.dashboard.reader.cancel(self, "diff")
        self._end(self.run, "stopped")

    def _tick(self) -> None:
        """Take the new batches, and filter up to `_KEYS_PER_TICK` keys."""
        run, keys = self.run, self.keys
        if self.index is not run.index and (run.batches or run.state == "whole"):
            self._replace_list()
        empty = not keys.count
        while run.batches:
            self.index.extend(*run.batches.popleft())
        keys.filter.advance(_KEYS_PER_TICK)
        if self._seek is not None:
            self._return_to(self._seek)
        keys.count_changed()
        if empty and keys.count:
            self.show_change()
        if run.state != "running" and keys.filter.done and self._ticks is not None:
            self._seek = None
            self._ticks.pause()
        self.refresh_labels()

    def _replace_list(self) -> None:
        """List the keys of the new run. Called at its first batch, so that a failed run keeps the earlier list."""
        run, keys = self.run, self.keys
        self._seek = keys.key or self._start_key
        self.index, self.compared = run.index, run.sides
        keys.touched = set()
        keys.compare(run.sides)
        self._refilter()

    def _refilter(self) -> None:
        keys = self.keys
        self._seek = self._seek or keys.key
        shown = DiffFilter(self.index, self._kinds, self._text)
        shown.advance(_KEYS_PER_TICK)
        keys.show(self.index, shown)
        if self._seek is not None:
            self._return_to(self._seek)
        if self._ticks is not None:
            self._ticks.resume()
        if keys.key != self.view.key:
            self.show_change()
        self.refresh_labels()

    def _return_to(self, key: str) -> None:
        """Move the cursor to a key, or to the next key after it, once that is listed."""
        row = self.keys.filter.find(self.index.find(key))
        if row < self.keys.count:
            self._seek = None
            if key in self.index or key != self._start_key:
                self.keys.cursor = row
            self._start_key = None

    # --- the change of the selected key ------------------------------------------------------------------------

    def show_change(self, *, stay: bool = False) -> None:
        """Read and show the change of the selected key. `stay` keeps the cursor and the scroll position in it."""
        sides, key, view, land = self.compared, self.keys.key, self.view, self._land
        self._land = "first"
        if sides is None or key is None:
            view.key = None
            view.clear()
            return

        def read() -> Change | None:
            return sides.change(key)

        view.load(key, read, land, stay=stay)
        self._show_position()

    @on(VirtualList.Highlighted, "#keys")
    def _key_highlighted(self, event: VirtualList.Highlighted) -> None:
        event.stop()
        if self.keys.key == self.view.key:
            return
        if self._rest_timer is not None:
            self._rest_timer.stop()
        self._rest_timer = self.set_timer(_DEBOUNCE_SECONDS, self._cursor_rested)

    def _cursor_rested(self) -> None:
        if self.keys.key != self.view.key:
            self.show_change()

    @on(VirtualList.Highlighted, "#change")
    def _place_highlighted(self, event: VirtualList.Highlighted) -> None:
        event.stop()
        self._show_position()
