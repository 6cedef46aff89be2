"""The keys of a namespace, however many: what is seen of them is read by key, and the cursor is on a key."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import ClassVar, NamedTuple, Protocol, cast

from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message
from textual.reactive import reactive
from textual.timer import Timer

from ...backends.protocol import KeySummary
from ...model import now
from ..data.background import BackgroundExecutor, Stop
from ..data.key_filter import Filter
from ..data.key_source import FIRST_PAGE_ROWS, ORDERS, KeySource, Order, Page, Prefetch, open_source
from ..data.watcher import RETRY_SECONDS
from ..display.key_row import Columns, paint_key, start_of
from ..display.text import RowBuilder, format_age, format_clock, format_count, format_duration, format_size
from .virtual_list import VirtualList

AROUND_ROWS = 256  # rows that are held above and below what is seen
EDGE_ROWS = 96  # rows from the edge of what is held at which more is read
REREAD_SECONDS = 0.25  # seconds between two readings of the same rows at least
TOUCHED_SECONDS = 2.0  # seconds for which a row that was just written is marked
REPAINT_SECONDS = 1.0  # seconds after which ages are painted anew


class KeyListHost(Protocol):
    """What a list of keys needs of its app."""

    reader: BackgroundExecutor
    redact: tuple[str, ...]


class _PageResult(NamedTuple):
    """Rows that were read, by index or around the key `focus`; and those around the cursor's key, if that is another.

    `again` says that rows which were held may have changed, `show` that the cursor is to be seen.
    """

    page: Page
    focus: str | None = None
    key: str | None = None
    other: Page | None = None
    again: bool = False
    show: bool = False


class KeyList(VirtualList):
    """A list of keys, each with revision, size, time, expiry and the start of its value, as far as the width allows.

    Holds a few hundred rows around what is seen, however many there are. `show` says what is listed.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "mark", "Mark", show=False, id="keys.mark"),
        Binding("s", "sort", "Sort", show=False, id="keys.sort"),
        Binding("escape", "halt", "Stop the search", show=False, id="keys.stop"),
    ]

    status: reactive[str] = reactive("", repaint=False)
    """Where the cursor is among how many, and what else is to be known, in words. Holds no stored text."""

    class Highlighted(VirtualList.Highlighted):
        """The cursor is on another key, or its entry has become another. `key` is None while it is being read."""

        def __init__(self, list_: VirtualList, index: int) -> None:
            super().__init__(list_, index)
            assert isinstance(list_, KeyList)
            self.key, self.row = list_.key, list_.row

    class Chosen(Highlighted, VirtualList.Chosen):
        """Enter was pressed on a key, or it was clicked twice."""

    class Failed(Message):
        """Rows could not be read. Those that were shown are still."""

        def __init__(self, error: Exception) -> None:
            super().__init__()
            self.error = error

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self.order: Order = "key"
        self.marked: set[str] = set()
        self._source: KeySource | None = None
        self._key: str | None = None  # what the cursor is on; None while that is not known
        self._row: KeySummary | None = None
        self._start = 0  # the rows that are held, from which index on, of how many
        self._rows: list[KeySummary] = []
        self._total: int | None = None
        self._version: int | None = None  # of the source, when they were read; None: they are not of this source
        self._asked = 0.0  # when rows were last asked for, by `time.monotonic()`
        self._again: Timer | None = None
        self._rest: Timer | None = None
        self._learning = False  # whether the source has been asked to do some of its work, and
        self._learn_more = False  # whether there has been more for it to do since
        self._failures = 0  # how often in a row that has failed, and
        self._unlearned: Exception | None = None  # why
        self._to_end = False  # whether to go to the last key once it is known how many there are
        self._touched: dict[str, float] = {}  # keys that were just written, and until when they are marked
        self._error: Exception | None = None

    # --- what is shown -----------------------------------------------------------------------------------------

    @property
    def source(self) -> KeySource | None:
        """What is listed."""
        return self._source

    @property
    def count(self) -> int:
        """How many lines there are, as far as that is known."""
        return max(self._start + len(self._rows), self._total or 0)

    @property
    def total(self) -> int | None:
        """How many keys are listed; None while that is not known."""
        return self._total

    @property
    def position(self) -> int:
        """The index of the cursor's key among those that are listed."""
        return self.cursor

    @property
    def key(self) -> str | None:
        """The key that the cursor is on; None while it is being read, and where there is none."""
        return None if self._row is None else self._key

    @property
    def row(self) -> KeySummary | None:
        """The row of that key."""
        return self._row

    def show(self, source: KeySource, prefetch: Prefetch | None = None, *, keep: bool = True) -> None:
        """List what a source has, in the order that was chosen here; what was listed stays until that has been read.

        Args:
            source: see `open_source`.
            prefetch: what has begun to read the first page of this source.
            keep: leave the cursor on its key, or the next; else it goes to the first. Marks stay within a namespace.

        """
        if source.order != self.order:
            source = open_source(source.manager, source.at, source.text, self.order, self._host.redact)
        if self._source is None or self._source.manager is not source.manager:
            self.marked.clear()
            keep = False
        if not keep:
            self._key, self._row = None, None
        self._stop_timers()
        self._host.reader.cancel(self, "learn")
        self._learning = self._learn_more = self._to_end = False
        self._failures, self._unlearned = 0, None
        self._source, self._version, self._error = source, None, None
        self._touched.clear()
        self._tell()
        if prefetch is None or prefetch.source is not source:
            self._read(show=True)
        elif prefetch.ready is not None:
            self._take(_PageResult(prefetch.ready, show=True))
        else:
            self._ask(lambda _stop: _PageResult(prefetch.page(), show=True))

    def filter(self, text: str) -> None:
        """List the keys that a filter finds, see `Filter.parse`; without one, all, and the cursor stays on its key."""
        if self._source is not None and text != self._source.text:
            source = open_source(self._source.manager, self._source.at, text, self.order, self._host.redact)
            self.show(source, keep=not text)

    def moved(self, changed: list[str] | None) -> None:
        """Others have written these keys, or may have written any (None). The rows seen are read again soon."""
        if self._source is None or changed == []:
            return
        self._source.invalidate(changed)
        self._soon()
        if changed is None and self._failures and self._rest is not None:  # the backend may be back
            self._rest.stop()
            self._rest = None
        self._learn()

    def go_to(self, key: str) -> None:
        """Move the cursor to a key, or to the one after where it would be."""
        self._key, self._row = key, None
        self._read(show=True)

    @property
    def known(self) -> bool:
        """Whether what is listed has been read."""
        return self._version is not None and (self._row is not None or not self.count)

    def unmark(self, keys: Iterable[str] | None = None) -> None:
        """Mark these keys no more; None: any."""
        self.marked -= set(self.marked if keys is None else keys)
        self.refresh()
        self._tell()

    # --- reading -----------------------------------------------------------------------------------------------

    @property
    def _host(self) -> KeyListHost:
        return cast(KeyListHost, self.app)

    def _ask(self, act: object) -> None:
        self._asked = time.monotonic()
        self._host.reader.submit(self, "rows", act, self._take, self._failed)  # type: ignore[arg-type]

    def _failed(self, error: Exception) -> None:
        self._error = error
        self.refresh()
        self.post_message(self.Failed(error))

    def _soon(self) -> None:
        """Read the rows again, though not at once where that was just done."""
        if self._again is not None or self._source is None:
            return
        wait = self._asked + REREAD_SECONDS - time.monotonic()
        if wait <= 0 or not self._rows:
            self._read()
        else:
            self._again = self.set_timer(wait, self._read)

    def _read(self, *, show: bool = False) -> None:
        """Read the rows around what is seen, and where the cursor's key is by now.

        Args:
            show: read around the cursor's key, wherever it is, and bring it into sight.

        """
        source, key = self._source, self._key
        if source is None:
            return
        if self._again is not None:
            self._again.stop()
            self._again = None
        fresh, steady = self._version is None, self._version == source.version
        top, reach = self.scroll_offset.y, AROUND_ROWS + self.size.height
        focus = key if show or fresh else self._eye()
        rank = None if focus is None or not steady else self._index_of(focus)
        start, limit = (0, FIRST_PAGE_ROWS) if fresh else (max(0, top - AROUND_ROWS), 2 * reach)
        also = key if key != focus and not steady and not fresh else None

        def read(stop: Stop) -> _PageResult:
            page = source.page(start, limit) if focus is None else source.page_around(focus, reach, reach, rank)
            other = None if also is None or stop() else source.page_around(also, 1, 2)
            return _PageResult(page, focus, also, other, not steady and not fresh, show or fresh)

        self._ask(read)

    def _eye(self) -> str | None:
        """Return the key whose line is to stay where it is on the screen: the cursor's, or the first that is seen."""
        top, height, end = self.scroll_offset.y, max(1, self.size.height), self._start + len(self._rows)
        if top <= self.cursor < top + height and self._row_at(self.cursor) is not None:
            return self._key
        row = self._row_at(max(top, self._start)) if self._start < top + height and top < end else None
        return None if row is None else row.key

    def _read_on(self) -> None:
        """Read on where what is seen comes near the edge of what is held, or lies elsewhere."""
        top, end = self.scroll_offset.y, self._start + len(self._rows)
        low, high = max(0, top - EDGE_ROWS), min(self.count, top + self.size.height + EDGE_ROWS)
        if self._version is not None and (low < self._start or high > end):
            self._read()

    def _take(self, answer: _PageResult) -> None:
        """Rows have been read: they take the place of those that were held, and what was seen stays where it was."""
        page, source = answer.page, self._source
        assert source is not None, "rows are of a source"
        fresh, top, last = self._version is None, self.scroll_offset.y, self.cursor == self.count - 1
        was = None if fresh or answer.focus is None else self._index_of(answer.focus)
        shift = 0 if was is None else page.place - was
        if answer.again and not source.is_searching:
            self._touch(page.rows)
        self._start, self._rows, self._total, self._version = page.start, page.rows, page.total, page.version
        self._error = None
        self._put_cursor(answer, self.cursor + shift, last and not fresh)
        if source.order != "key" and top == 0 and shift > 0 and self.cursor < self.size.height:
            shift = 0  # in an order of its own, what is new comes in at the top, where one looks for it
        self.virtual_size = Size(self.size.width, self.count)
        if fresh and answer.focus is None:
            self.scroll_to(y=0, animate=False, force=True, immediate=True)
        elif shift:  # else a scroll that is under way goes on
            self.scroll_to(y=self.scroll_target_y + shift, animate=False, force=True, immediate=True)
        height = self.size.height
        if answer.show and not 0 <= self.cursor - self.scroll_offset.y < height:
            self.scroll_to(y=self.cursor - height // 2, animate=False, force=True, immediate=True)
        self.refresh()
        self._tell()
        if source.version != page.version:
            self._soon()
        if fresh:
            self.call_after_refresh(self._learn)  # what was read is painted first
        if self._to_end and page.total is not None:
            self.action_last()

    def _put_cursor(self, answer: _PageResult, guess: int, last: bool) -> None:
        """Move the cursor to its key's present row, or to the next key if it is gone.

        Args:
            answer: what was read.
            guess: where the cursor is if nothing is known of its key.
            last: whether it was on the last line.

        """
        page, other, key = answer.page, answer.other, self._key
        before = key, self._row
        if self._source is not None and self._source.is_searching and self.cursor == 0:
            key = None  # still searching, and still on the best so far
        index = None if key is None else self._index_of(key)
        if key is None:
            index = 0 if answer.show else self.count - 1 if last else guess
        elif index is None and key == answer.focus:
            index = page.place
        elif index is None and key == answer.key and other is not None:
            index = other.place
        elif index is None:
            index = guess
            self._soon()  # the cursor has moved since that was asked
        index = max(0, min(index, self.count - 1))
        row = self._row_at(index)
        if row is None and other is not None and other.start <= index < other.start + len(other.rows):
            row = other.rows[index - other.start]
        if row is not None or not self.count:
            self._key, self._row = (None, None) if row is None else (row.key, row)
        self.set_reactive(KeyList.cursor, index)
        if (self._key, self._row) != before or answer.show:
            self.post_message(self.Highlighted(self, index))

    def _row_at(self, index: int) -> KeySummary | None:
        place = index - self._start
        return self._rows[place] if 0 <= place < len(self._rows) else None

    def _index_of(self, key: str) -> int | None:
        return next((self._start + place for place, row in enumerate(self._rows) if row.key == key), None)

    def _touch(self, rows: list[KeySummary]) -> None:
        """Mark for a moment what has been written since the rows that are held were read."""
        if not self._rows:
            return
        known = {row.key: row.revision for row in self._rows}
        newest, until = max(known.values()), time.monotonic() + TOUCHED_SECONDS
        for row in rows:
            if known.get(row.key, newest) < row.revision:
                self._touched[row.key] = until

    # --- in the background -------------------------------------------------------------------------------------

    def _learn(self) -> None:
        """Have the source do some of its work; at most one piece at a time, and none while it rests."""
        source = self._source
        if source is None or self._rest is not None:
            return
        self._learn_more = self._learning
        if not self._learning:
            self._learning = True
            self._host.reader.submit(self, "learn", source.work, self._learned, self._learning_failed)

    def _learned(self, rest: float | None) -> None:
        self._learning = False
        if self._failures:
            self._error = None if self._error is self._unlearned else self._error
            self._failures, self._unlearned = 0, None
        if self._source is not None and (self._source.version != self._version or self._total is None):
            self._soon()
        self._tell()
        if rest:
            self._rest = self.set_timer(rest, self._rested)
        elif rest is not None or self._learn_more:
            self._learn()

    def _learning_failed(self, error: Exception) -> None:
        """Try again after a while; said once."""
        self._learning = False
        if not self._failures:
            self._unlearned = error
            self._failed(error)
        pause = RETRY_SECONDS[min(self._failures, len(RETRY_SECONDS) - 1)]
        self._failures += 1
        self._rest = self.set_timer(pause, self._rested)
        self._tell()

    def _rested(self) -> None:
        self._rest = None
        self._learn()

    def _stop_timers(self) -> None:
        for timer in (self._again, self._rest):
            if timer is not None:
                timer.stop()
        self._again = self._rest = None

    def on_mount(self) -> None:
        """Ages and marks are of the moment."""
        self.set_interval(REPAINT_SECONDS, self._tick)

    def _tick(self) -> None:
        moment = time.monotonic()
        for key in [key for key, until in self._touched.items() if until <= moment]:
            del self._touched[key]
            self.refresh()
        top, minute_ago = self.scroll_offset.y - self._start, now() - 60_000_000
        seen = self._rows[max(0, top) : max(0, top + self.size.height)]
        if any(row.time > minute_ago or row.expires for row in seen):
            self.refresh()

    # --- moving ------------------------------------------------------------------------------------------------

    def watch_cursor(self, old: int, new: int) -> None:
        """Report that the cursor is on another key."""
        self._to_end = False
        self._row = self._row_at(new)
        self._key = None if self._row is None else self._row.key
        super().watch_cursor(old, new)
        self._tell()

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Read what has come into sight."""
        super().watch_scroll_y(old_value, new_value)
        self._read_on()

    def on_resize(self) -> None:
        """As the base, and read what has come into sight."""
        super().on_resize()
        self._read_on()

    def action_last(self) -> None:
        """Move to the last line; where it is not known yet how many there are, once it is."""
        if self._total is None and self._source is not None:
            self._to_end = True
            self._tell()
        else:
            super().action_last()

    def action_mark(self) -> None:
        """Mark the key, or take its mark away, and go on to the next."""
        if self._key is None:
            return
        self.marked ^= {self._key}
        self.refresh_line(self.cursor)
        self.cursor += 1
        self._tell()

    def action_sort(self) -> None:
        """Sort by the next of: key, newest, oldest, largest, smallest."""
        self.order = ORDERS[(ORDERS.index(self.order) + 1) % len(ORDERS)]
        if self._source is not None:
            self.show(self._source, keep=self.order == "key")

    def action_halt(self) -> None:
        """End a search. What it found stays."""
        if self._source is not None:
            self._source.cancel()
            self._tell()
            self.refresh()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:  # noqa: ARG002 - Textual's
        """Escape is ours only while there is a search to end."""
        return action != "halt" or (self._source is not None and self._source.is_searching)

    # --- painting ----------------------------------------------------------------------------------------------

    def render_row(self, index: int, cells: RowBuilder) -> None:
        """Return a line; `⋯` while it is being read."""
        row, style, source = self._row_at(index), self.style_of, self._source
        if row is None or source is None:
            cells.add("  ⋯", style("dim"))
            return
        past = source.at is not None
        columns = Columns.of(cells.left, past)
        touched = row.key in self._touched
        cells.add("✓" if row.key in self.marked else " ", style("mark"))
        cells.add("•" if touched else " ", style("touched"))
        above = self._row_at(index - 1) if self.order == "key" else None
        paint_key(cells, columns.key, row.key, above.key if above else "", Filter.parse(source.text), style)
        plain = style("touched") if touched else style("dim")
        left = "" if not row.expires or past else f"⏱ {format_duration((row.expires - now()) / 1_000_000)}"
        if columns.revision:
            cells.add(f" {f'r{row.revision}':>{columns.revision - 1}}", plain, columns.revision)
        cells.add(f" {format_size(row.size):>{columns.size - 1}}", style("number"), columns.size)
        if columns.time:
            when = format_clock(row.time) if past else format_age(row.time, now())
            cells.add(f" {when:>{columns.time - 1}}", plain, columns.time)
        if columns.value:
            if left:
                cells.add(f"  {left}", style("word"))
            cells.add("  ").add(start_of(row, self._host.redact), style("string"), cells.left)

    def empty_text(self) -> list[str]:
        """Why there is nothing, and what to do."""
        source = self._source
        if source is None:
            return []
        if self._error is not None:
            return ["could not be read:", str(self._error)]
        if self._version is None:
            return ["⋯"]
        if source.is_searching:
            return ["searching…", "esc stops"]
        sought, manager = Filter.parse(source.text), source.manager
        if source.text:
            told = {
                "prefix": f"no key starts with {sought.text!r}",
                "glob": f"no key is like {sought.text!r}",
                "fuzzy": f"no key has the letters of {sought.text!r} in this order",
                "values": f"no value holds {sought.text!r}",
            }
            masks = ["masked values are not searched"] if sought.kind == "values" and self._host.redact else []
            hints = ["", "*x*  looks inside keys", "~x   fuzzy", "=x   in values", "esc  clears"]
            return [told[sought.kind], *masks, *hints]
        if source.at is not None:
            return ["there was no key as of there"]
        return [
            f"namespace {manager.namespace!r} has no keys yet, in",
            manager.url,
            "",
            "from stateview import StateManager",
            f"state = StateManager({manager.url!r}, {manager.namespace!r})",
            "state.save('greeting', 'hello')",
            "",
            "or here: a makes a key" if not manager.read_only else "",
        ]

    def _tell(self) -> None:
        source = self._source
        if source is None:
            return
        where = (
            f"{self.cursor + 1:,}/{format_count(self._total)}" if self.count else "no keys" if self._total == 0 else "…"
        )
        order = [] if self.order == "key" else [f"{self.order} first"]
        marked = [f"{len(self.marked):,} marked"] if self.marked else []
        waits = ["counting, then to the last"] if self._to_end else []
        failed = ["reading failed, tried again soon"] if self._failures else []
        self.status = " · ".join([where, *order, *waits, *source.status(), *failed, *marked])
