"""The list of the keys of a namespace: rows are read around the visible part, and the cursor stays on its key."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import ClassVar, NamedTuple, cast

from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message
from textual.reactive import reactive
from textual.timer import Timer

from ...backends.protocol import KeySummary
from ...model import now
from ..data.background import Stop
from ..data.key_filter import Filter
from ..data.key_source import (
    FIRST_PAGE_ROWS,
    ORDERS,
    KeySource,
    Order,
    Page,
    Prefetch,
    cut_off,
    open_source,
    similar_namespaces,
)
from ..data.key_tree import KeyGroup, KeyTree, groups_of
from ..data.key_window import KeyWindow
from ..display.key_row import Columns, paint_group, paint_key, paint_leaf, start_of
from ..display.text import RowBuilder, format_age, format_clock, format_count, format_duration, format_size
from .source_worker import KeyListHost, SourceWorker
from .virtual_list import VirtualList

AROUND_ROWS = 256  # rows in memory above and below the visible part
EDGE_ROWS = 96  # more rows are read once the visible part is this close to the edge of the rows in memory
REREAD_SECONDS = 0.25  # the same rows are not read more often
TOUCHED_SECONDS = 2.0  # how long a row that was just written is marked
REPAINT_SECONDS = 1.0  # how often ages are painted


class _PageResult(NamedTuple):
    """Rows that were read by index, or around the key `focus`.

    `key_page` holds the rows around the cursor's key `key`, if that is not `focus`. `reread` says that rows in memory
    may have changed. `show` says to scroll to the cursor. `cut_off` tells what the read left out. `similar`
    names other namespaces, if this one was never written.
    """

    page: Page
    focus: str | None = None
    key: str | None = None
    key_page: Page | None = None
    reread: bool = False
    show: bool = False
    cut_off: str = ""
    similar: str = ""


class KeyList(VirtualList):
    """A list of keys, each with revision, size, time, expiry and the start of its value, as far as the width allows.

    A few hundred rows around the visible part are in memory, whatever the number of keys. `show` sets the source.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "mark", "Mark", show=False, id="keys.mark"),
        Binding("s", "sort", "Sort", show=False, id="keys.sort"),
        Binding("full_stop", "tree", "Tree, or all keys", show=False, key_display=".", id="keys.tree"),
        Binding("l,right", "unfold", "Open a group", show=False, id="keys.open"),
        Binding("h,left", "fold", "Fold a group", show=False, id="keys.fold"),
        Binding("escape", "halt", "Stop the search", show=False, id="keys.stop"),
    ]

    status: reactive[str] = reactive("", repaint=False)
    """The position of the cursor, the number of keys, and the state of reads and searches. Holds no stored text."""

    class Highlighted(VirtualList.Highlighted):
        """The cursor is on another key, or its row has changed. `key` is None while the row is being read."""

        def __init__(self, list_: VirtualList, index: int) -> None:
            super().__init__(list_, index)
            assert isinstance(list_, KeyList)
            self.key, self.row = list_.key, list_.row

    class TreeChanged(Message):
        """Keys are grouped now, or no longer."""

    class Chosen(Highlighted, VirtualList.Chosen):
        """Enter was pressed on a key, or the key was double-clicked."""

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self.order: Order = "key"
        self.grouped = False  # whether keys are grouped, in their own order and without a filter
        self._opened: set[str] = set()  # the groups that the user has opened
        self.marked: set[str] = set()
        self._source: KeySource | None = None
        self._window = KeyWindow()
        self._worker = SourceWorker(self, self._source_worked, self._source_failed)
        self._key: str | None = None  # the key under the cursor, or None while it is not known
        self._row: KeySummary | None = None
        self._last_read = 0.0  # when rows were last requested, by `time.monotonic()`
        self._reread_timer: Timer | None = None
        self._cut_off = ""  # what the last read left out, for the status
        self._similar = ""  # asks whether another namespace was meant, if this was never written
        self._to_end = False  # whether to move to the last key as soon as the number of keys is known
        self._error: Exception | None = None

    # --- what is shown -----------------------------------------------------------------------------------------

    @property
    def source(self) -> KeySource | None:
        """The source of the rows."""
        return self._source

    @property
    def count(self) -> int:
        """The number of rows, as far as the number of keys is known."""
        return self._window.count

    @property
    def total(self) -> int | None:
        """The number of keys, or None while it is not known."""
        return self._window.total

    @property
    def position(self) -> int:
        """The index of the cursor's key in the list."""
        return self.cursor

    @property
    def key(self) -> str | None:
        """The key under the cursor. None on a group, while its row is being read, and in an empty list."""
        return None if self._row is None or self.group is not None else self._key

    @property
    def group(self) -> KeyGroup | None:
        """The group of keys under the cursor, if there is one."""
        return self._row if isinstance(self._row, KeyGroup) else None

    @property
    def row(self) -> KeySummary | None:
        """The row of the key under the cursor."""
        return self._row

    @property
    def is_loaded(self) -> bool:
        """Whether rows of the source have been read, with that of the cursor's key."""
        return self._window.version is not None and (self._row is not None or not self.count)

    def show(self, source: KeySource, prefetch: Prefetch | None = None, *, keep: bool = True) -> None:
        """List the keys of a source in the chosen order. The present rows stay until the first page has been read.

        Args:
            source: see `open_source`.
            prefetch: the read of the first page of this source, if it has been started.
            keep: leave the cursor on its key, or on the next key. False moves it to the first key. Marks stay within
                a namespace.

        """
        if self._source is None or self._source.manager is not source.manager:
            self.marked.clear()
            self._opened.clear()
            keep = False
        if self._is_tree(source.text):
            source = KeyTree(source.manager, source.at, self._opened, _as_tree(self._source))
        elif source.order != self.order or isinstance(source, KeyTree):
            source = open_source(source.manager, source.at, source.text, self.order, self._host.redact)
        if not keep:
            self._key, self._row = None, None
        self._stop_reread_timer()
        self._worker.reset(source)
        self._to_end = False
        self._source, self._window.version, self._error = source, None, None
        self._window.written.clear()
        self._update_status()
        if prefetch is None or prefetch.source is not source:
            self._read(show=True)
        elif prefetch.ready is not None and prefetch.ready.total:
            self._take(_PageResult(prefetch.ready, show=True, cut_off=prefetch.cut_off))
        else:
            self._submit(partial(self._prefetched, prefetch))

    def _prefetched(self, prefetch: Prefetch, _stop: Stop) -> _PageResult:
        page = prefetch.page()
        similar = similar_namespaces(prefetch.source, page)
        return _PageResult(page, show=True, cut_off=prefetch.cut_off, similar=similar)

    def _is_tree(self, text: str) -> bool:
        return self.grouped and not text and self.order == "key"

    def filter(self, text: str) -> None:
        """List the keys that match a filter, see `Filter.parse`.

        An empty filter lists all keys, and leaves the cursor on its key.
        """
        if self._source is not None and text != self._source.text:
            source = open_source(self._source.manager, self._source.at, text, self.order, self._host.redact)
            self.show(source, keep=not text)

    def secrets_changed(self) -> None:
        """Paint the values anew. A search in values begins again, because masked values are not searched."""
        if self._source is not None and Filter.parse(self._source.text).kind == "values":
            text = self._source.text
            self.show(open_source(self._source.manager, self._source.at, text, self.order, self._host.redact))
        self.refresh()

    def invalidate(self, changed: list[str] | None) -> None:
        """Read the visible rows again soon, because these keys were written. None stands for any keys."""
        if self._source is None or changed == []:
            return
        self._source.invalidate(changed)
        self._schedule_read()
        if changed is None and self._worker.failing:  # the backend may be back
            self._worker.stop_timer()
        self._worker.work()

    def go_to(self, key: str) -> None:
        """Move the cursor to a key, or to the next key if there is no such key. In a tree, open its groups."""
        self._key, self._row = key, None
        closed = [group for group in groups_of(key) if group not in self._opened]
        if closed and isinstance(self._source, KeyTree):
            self._opened.update(closed)
            self.show(self._source)
        else:
            self._read(show=True)

    def unmark(self, keys: Iterable[str] | None = None) -> None:
        """Remove the marks of these keys, or with None all marks."""
        self.marked -= set(self.marked if keys is None else keys)
        self.refresh()
        self._update_status()

    # --- reading -----------------------------------------------------------------------------------------------

    @property
    def _host(self) -> KeyListHost:
        return cast(KeyListHost, self.app)

    def _submit(self, read: Callable[[Stop], _PageResult]) -> None:
        self._last_read = time.monotonic()
        self._host.reader.submit(self, "rows", read, self._take, self._failed)

    def _failed(self, error: Exception) -> None:
        self._error = error
        self.refresh()
        self.post_message(self.Failed(error))

    def _schedule_read(self) -> None:
        """Read the rows again, at most once in `REREAD_SECONDS`."""
        if self._reread_timer is not None or self._source is None:
            return
        wait = self._last_read + REREAD_SECONDS - time.monotonic()
        if wait <= 0 or not self._window.rows:
            self._read()
        else:
            self._reread_timer = self.set_timer(wait, self._read)

    def _stop_reread_timer(self) -> None:
        if self._reread_timer is not None:
            self._reread_timer.stop()
            self._reread_timer = None

    def _read(self, *, show: bool = False) -> None:
        """Read the rows around the visible part, and the present index of the cursor's key.

        Args:
            show: read around the cursor's key, wherever it is, and scroll to it.

        """
        source, key, window = self._source, self._key, self._window
        if source is None:
            return
        self._stop_reread_timer()
        fresh, steady = window.version is None, window.version == source.version
        top, reach = self.scroll_offset.y, AROUND_ROWS + self.size.height
        focus = key if show or fresh else self._fixed_key()
        rank = None if focus is None or not steady else window.index_of(focus)
        start, limit = (0, FIRST_PAGE_ROWS) if fresh else (max(0, top - AROUND_ROWS), 2 * reach)
        cursor_key = key if key != focus and not steady and not fresh else None

        def read(stop: Stop) -> _PageResult:
            page = source.page(start, limit) if focus is None else source.page_around(focus, reach, reach, rank)
            key_page = None if cursor_key is None or stop() else source.page_around(cursor_key, 1, 2)
            reread, left_out = not steady and not fresh, cut_off(source.manager)
            similar = similar_namespaces(source, page)
            return _PageResult(page, focus, cursor_key, key_page, reread, show or fresh, left_out, similar)

        self._submit(read)

    def _fixed_key(self) -> str | None:
        """Return the key whose row must not move on the screen: the cursor's, or the first visible one."""
        window, top, height = self._window, self.scroll_offset.y, max(1, self.size.height)
        if top <= self.cursor < top + height and window.row_at(self.cursor) is not None:
            return self._key
        row = window.row_at(max(top, window.start)) if window.start < top + height and top < window.end else None
        return None if row is None else row.key

    def _read_near_edge(self) -> None:
        """Read more rows if the visible part comes near the edge of the rows in memory, or lies outside."""
        window, top = self._window, self.scroll_offset.y
        low, high = max(0, top - EDGE_ROWS), min(self.count, top + self.size.height + EDGE_ROWS)
        if window.version is not None and (low < window.start or high > window.end):
            self._read()

    def _take(self, result: _PageResult) -> None:
        """Replace the rows in memory. Visible rows stay where they are on the screen."""
        page, source, window = result.page, self._source, self._window
        assert source is not None, "rows come from a source"
        fresh, top, was_last = window.version is None, self.scroll_offset.y, self.cursor == self.count - 1
        old_index = None if fresh or result.focus is None else window.index_of(result.focus)
        shift = 0 if old_index is None else page.place - old_index
        if result.reread and not source.is_searching:
            window.mark_written(page.rows, time.monotonic() + TOUCHED_SECONDS)
        window.take(page)
        self._error, self._cut_off, self._similar = None, result.cut_off, result.similar
        self._place_cursor(result, self.cursor + shift, was_last and not fresh)
        if source.order != "key" and top == 0 and shift > 0 and self.cursor < self.size.height:
            shift = 0  # in other orders new keys appear at the top, so the top stays visible
        self.virtual_size = Size(self.size.width, self.count)
        if fresh and result.focus is None:
            self.scroll_to(y=0, animate=False, force=True, immediate=True)
        elif shift:  # without a shift, a scroll in progress continues
            self.scroll_to(y=self.scroll_target_y + shift, animate=False, force=True, immediate=True)
        height = self.size.height
        if result.show and not 0 <= self.cursor - self.scroll_offset.y < height:
            self.scroll_to(y=self.cursor - height // 2, animate=False, force=True, immediate=True)
        self.refresh()
        self._update_status()
        if source.version != page.version:
            self._schedule_read()
        if fresh:
            self.call_after_refresh(self._worker.work)  # the first rows are painted before
        elif isinstance(source, KeyTree):
            self._worker.work()  # the page may have groups that are not counted yet
        if self._to_end and page.total is not None:
            self.action_last()

    def _place_cursor(self, result: _PageResult, guess: int, was_last: bool) -> None:
        """Move the cursor to its key's present row, or to the next key if it is gone.

        Args:
            result: the rows that were read.
            guess: the index of the cursor if its key is in none of the rows.
            was_last: whether the cursor was on the last row.

        """
        page, key_page, key = result.page, result.key_page, self._key
        before = key, self._row
        if self._source is not None and self._source.is_searching and self.cursor == 0:
            key = None  # the cursor stays on the best match so far
        index = None if key is None else self._window.index_of(key)
        if key is None:
            index = 0 if result.show else self.count - 1 if was_last else guess
        elif index is None and key == result.focus:
            index = page.place
        elif index is None and key == result.key and key_page is not None:
            index = key_page.place
        elif index is None:
            index = guess
            self._schedule_read()  # the cursor has moved since the request
        index = max(0, min(index, self.count - 1))
        row = self._window.row_at(index)
        if row is None and key_page is not None and key_page.start <= index < key_page.start + len(key_page.rows):
            row = key_page.rows[index - key_page.start]
        if row is not None or not self.count:
            self._key, self._row = (None, None) if row is None else (row.key, row)
        self.set_reactive(KeyList.cursor, index)
        if (self._key, self._row) != before or result.show:
            self.post_message(self.Highlighted(self, index))

    # --- in the background -------------------------------------------------------------------------------------

    def _source_worked(self, earlier_error: Exception | None) -> None:
        if self._error is earlier_error:
            self._error = None
        if self._source is not None and (self._source.version != self._window.version or self.total is None):
            self._schedule_read()
        self._update_status()

    def _source_failed(self, error: Exception) -> None:
        self._failed(error)
        self._update_status()

    def on_mount(self) -> None:
        """Repaint ages and marks as time passes."""
        self.set_interval(REPAINT_SECONDS, self._tick)

    def _tick(self) -> None:
        window = self._window
        top, minute_ago = self.scroll_offset.y - window.start, now() - 60_000_000
        visible = window.rows[max(0, top) : max(0, top + self.size.height)]
        if window.expire_marks(time.monotonic()) or any(row.time > minute_ago or row.expires for row in visible):
            self.refresh()

    # --- moving ------------------------------------------------------------------------------------------------

    def watch_cursor(self, old: int, new: int) -> None:
        """Report the new key under the cursor."""
        self._to_end = False
        self._row = self._window.row_at(new)
        self._key = None if self._row is None else self._row.key
        super().watch_cursor(old, new)
        self._update_status()

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Read the rows that have become visible."""
        super().watch_scroll_y(old_value, new_value)
        self._read_near_edge()

    def on_resize(self) -> None:
        """Keep the cursor visible, and read the rows that have become visible."""
        super().on_resize()
        self._read_near_edge()

    def action_last(self) -> None:
        """Move to the last key, as soon as the number of keys is known."""
        if self.total is None and self._source is not None:
            self._to_end = True
            self._update_status()
        else:
            super().action_last()

    def action_mark(self) -> None:
        """Mark the key or remove its mark, and move to the next key."""
        if self.key is None or self._key is None:
            return
        self.marked ^= {self._key}
        self.refresh_line(self.cursor)
        self.cursor += 1
        self._update_status()

    def action_sort(self) -> None:
        """Switch to the next order: key, newest, oldest, largest, smallest."""
        self.order = ORDERS[(ORDERS.index(self.order) + 1) % len(ORDERS)]
        if self._source is not None:
            self.show(self._source, keep=self.order == "key")

    def action_tree(self) -> None:
        """Group the keys by the segments of their names, or list all of them. The cursor stays on its key."""
        if self._source is None:
            return
        if self.order != "key" or self._source.text:
            why = "clear the filter first" if self._source.text else "sort by key first: press s"
            self.app.notify(f"the tree has all keys in their order: {why}", markup=False)
            return
        self.grouped = not self.grouped
        self.show(self._source)
        self.post_message(self.TreeChanged())

    def action_unfold(self) -> None:
        """Open the group under the cursor; in an open group, go to its first row."""
        if self.group is None:
            return
        if self.group.is_open:
            self.cursor += 1
        else:
            self._toggle(self.group.key)

    def action_fold(self) -> None:
        """Fold the group under the cursor, or the group that holds its key."""
        open_groups = [group for group in groups_of(self._key or "") if group in self._opened]
        if open_groups and isinstance(self._source, KeyTree):
            self._toggle(open_groups[-1])

    def action_choose(self) -> None:
        """Open or fold a group. Report that a key was chosen."""
        if self.group is not None:
            self._toggle(self.group.key)
        else:
            super().action_choose()

    def _toggle(self, group: str) -> None:
        assert self._source is not None, "only rows of a source are opened"
        self._opened ^= {group}
        self._key, self._row = group, None
        self.show(self._source)

    def action_halt(self) -> None:
        """Stop the search. The keys found so far stay."""
        if self._source is not None:
            self._source.cancel()
            self._update_status()
            self.refresh()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:  # noqa: ARG002 - Textual's
        """Leave Escape to the screen unless a search runs, and the keys of a tree unless there is a tree."""
        if action in ("unfold", "fold"):
            return isinstance(self._source, KeyTree)
        return action != "halt" or (self._source is not None and self._source.is_searching)

    # --- painting ----------------------------------------------------------------------------------------------

    def render_row(self, index: int, cells: RowBuilder) -> None:
        """Paint a key, or `⋯` while its row is being read."""
        window, source, style = self._window, self._source, self.style_of
        row = window.row_at(index)
        if row is None or source is None:
            cells.add("  ⋯", style("dim"))
            return
        past = source.at is not None
        columns = Columns.of(cells.left, past)
        if isinstance(row, KeyGroup):
            paint_group(cells, row, columns, style)
            return
        written = row.key in window.written
        cells.add("✓" if row.key in self.marked else " ", style("mark"))
        cells.add("•" if written else " ", style("touched"))
        above = window.row_at(index - 1) if self.order == "key" else None
        if isinstance(source, KeyTree):
            paint_leaf(cells, columns.key, row.key, source.opened, style)
        else:
            paint_key(cells, columns.key, row.key, above.key if above else "", Filter.parse(source.text), style)
        plain = style("touched") if written else style("dim")
        expiry = "" if not row.expires or past else f"⏱ {format_duration((row.expires - now()) / 1_000_000)}"
        if columns.revision:
            cells.add(f" {f'r{row.revision}':>{columns.revision - 1}}", plain, columns.revision)
        cells.add(f" {format_size(row.size):>{columns.size - 1}}", style("number"), columns.size)
        if columns.time:
            when = format_clock(row.time) if past else format_age(row.time, now())
            cells.add(f" {when:>{columns.time - 1}}", plain, columns.time)
        if columns.value:
            if expiry:
                cells.add(f"  {expiry}", style("word"))
            cells.add("  ").add(start_of(row, self._host.redact), style("string"), cells.left)

    def empty_text(self) -> list[str]:
        """Return why the list is empty, and the next step."""
        source = self._source
        if source is None:
            return []
        if self._error is not None:
            return ["could not be read:", str(self._error)]
        if self._window.version is None:
            return ["⋯"]
        if source.is_searching:
            return ["searching…", "esc stops"]
        return _empty_source_text(source, bool(self._host.redact), self._similar)

    def _update_status(self) -> None:
        source = self._source
        if source is None:
            return
        position = f"{self.cursor + 1:,}/{format_count(self.total)}"
        parts = [position if self.count else "no keys" if self.total == 0 else "…"]
        parts += [] if self.order == "key" else [f"{self.order} first"]
        parts += ["counting keys to find the last"] if self._to_end else []
        parts += source.status()
        parts += [f"not all: {self._cut_off}"] if self._cut_off else []
        parts += ["reading failed, retrying soon"] if self._worker.failing else []
        parts += [f"{len(self.marked):,} marked"] if self.marked else []
        self.status = " · ".join(parts)


def _as_tree(source: KeySource | None) -> KeyTree | None:
    return source if isinstance(source, KeyTree) else None


def _empty_source_text(source: KeySource, redacting: bool, similar: str) -> list[str]:
    """Return why a source has no keys, and the next step."""
    filter_, manager = Filter.parse(source.text), source.manager
    if source.text:
        reasons = {
            "word": f"no key matches {filter_.text!r}",
            "prefix": f"no key starts with {filter_.text!r}",
            "glob": f"no key matches {filter_.text!r}",
            "fuzzy": f"no key has the letters of {filter_.text!r} in this order",
            "values": f"no value holds {filter_.text!r}",
        }
        masks = ["masked values are not searched"] if filter_.kind == "values" and redacting else []
        hints = ["", "=x   in values", "x*   only keys that start with x", "esc  clears the filter"]
        return [reasons[filter_.kind], *masks, *hints]
    if source.at is not None:
        return ["this state has no keys"]
    return [
        f"namespace {manager.namespace!r} has no keys yet, in",
        manager.url,
        *([similar] if similar else []),
        "",
        "from stateview import StateManager",
        f"state = StateManager({manager.url!r}, {manager.namespace!r})",
        "state.save('greeting', 'hello')",
        "",
        "press a to add a key" if not manager.read_only else "",
    ]
