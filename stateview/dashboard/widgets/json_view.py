"""A JSON value in lines that open and close: only what is seen is painted, only what is opened is decoded."""

from __future__ import annotations

import re
from textwrap import wrap
from typing import TYPE_CHECKING, Any, ClassVar, cast

from msgspec import Raw
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.timer import Timer

from ...model import PathChange
from ...states.json_diff import compare
from ...states.pointers import split_pointer
from ..data.background import Stop
from ..data.json_copy import CopyOptions, decoded, load_line, refused, text_of
from ..data.json_excerpts import label, preview, scalar
from ..data.json_nodes import SMALL_BYTES, Broken, LongText, Node, Path, estimate_size
from ..data.json_search import MAX_HITS, Hit, search
from ..data.json_text import TEXT_CHARACTERS, TextRow, line_at, start_of
from ..data.json_tree import Tree
from ..display.redaction import MASK, is_redacted
from ..display.text import SIGNS, RowBuilder, format_size, one_line
from .virtual_list import VirtualList

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..app import Dashboard

COMPARED_BYTES = 1_000_000  # bytes of a value whose changed places are marked
MAX_OPENED_LINES = 10_000  # lines that "open all" adds at most
MARKED_SECONDS = 2.0


class JsonView(VirtualList):
    """Shows one value at a time, and keeps what is open and the cursor's place while newer ones take its place."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("l,right", "open", "Open", show=False, id="value.open"),
        Binding("h,left", "fold", "Fold, or go to what holds it", show=False, id="value.fold"),
        Binding("space", "choose", "Open or fold", show=False, id="value.toggle"),
        Binding("J", "beside(1)", "Next sibling", show=False, id="value.next-sibling"),
        Binding("K", "beside(-1)", "Last sibling", show=False, id="value.last-sibling"),
        Binding("asterisk", "open_all", "Open all below", show=False, key_display="*", id="value.open-all"),
        Binding("slash", "search", "Search in the value", show=False, key_display="/", id="value.search"),
        Binding("n", "hit(1)", "Next match", show=False, id="value.next-match"),
        Binding("N", "hit(-1)", "Last match", show=False, id="value.last-match"),
        Binding("y", "copy", "Copy", show=False, id="value.copy"),
        Binding("b", "blame", "Who changed this", show=False, id="value.blame"),
    ]

    class Blame(Message):
        """Asks which commit last changed a place. `pointer` is its JSON Pointer."""

        def __init__(self, view: JsonView, pointer: str) -> None:
            super().__init__()
            self.view = view
            self.pointer = pointer

        @property
        def control(self) -> JsonView:
            """The view it comes from."""
            return self.view

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self.key = ""
        self._shown: Any = None  # what was given to `show`: a value, or its bytes
        self._tree: Tree | None = None
        self._said = ""
        self._expected: tuple[str, str, int | None] | None = None  # where to go once a value is shown
        self._touched: dict[str, str] = {}  # pointers to signs
        self._below: dict[str, set[str]] = {}  # pointers of boxes to the steps below which something is touched
        self._fading: Timer | None = None
        self._wanted = ""
        self._hits: list[Hit] | None = None  # None: still looking
        self._went: Hit | None = None  # where one went last
        self._more = False  # whether there are more than these
        self._hit = 0
        self._pattern: re.Pattern[str] | None = None
        self._told: Callable[[str], None] | None = None

    # --- what is shown -----------------------------------------------------------------------------------------

    @property
    def board(self) -> Dashboard:
        """The app."""
        return cast("Dashboard", self.app)

    def show(self, value: Any, key: str) -> None:
        """Show a value. Of the key that is shown already, what is open and the cursor stay, and changes are marked.

        Args:
            value: what `codec.decode` returned; or bytes, as they are stored: those are decoded as far as they are
                looked at, on a thread if they are many, which is the way for large values.
            key: its key.

        """
        if isinstance(value, bytes) and key == self.key and value == self._shown:
            return
        same = key == self.key and self._tree is not None
        before, self._shown = self._shown, value
        board = self.board
        hidden = is_redacted(key, board.redact)
        kept = self._tree.state() if same and self._tree is not None else None
        patterns, width = board.redact, self._text_width()

        def build(_stop: object) -> Tree:
            return Tree(Raw(value) if isinstance(value, bytes) else value, patterns, hidden, width, kept)

        def took(tree: Tree) -> None:
            self._take(tree, key, same)
            if same and not hidden:
                self._compare(before, value)

        if not isinstance(value, bytes) or len(value) <= SMALL_BYTES:
            board.reader.cancel(self, "tree")
            took(build(None))
            return
        if not same:
            self.show_text(f"reading {format_size(len(value))}…")
            self._shown = value
        board.reader.submit(self, "tree", build, took, board.show_error)

    def _take(self, tree: Tree, key: str, same: bool) -> None:
        path: Path = self._node.path if same and self._node is not None else ()
        above = self.cursor - self.scroll_offset.y
        if not same:
            self._forget()
        self.key, self._tree, self._said = key, tree, ""
        if isinstance(tree.root.value, Broken):
            self._tree, self._said = None, tree.root.value.why
        self.count_changed()
        at = tree.index_of(path) if self._tree is not None else 0
        if same:
            self.scroll_to(y=max(0, at - above), animate=False, force=True, immediate=True)
        else:
            self.scroll_to(y=0, animate=False, force=True, immediate=True)
        if at == self.cursor:
            self.post_message(self.Highlighted(self, at))
        self.cursor = at
        expected, self._expected = self._expected, None
        if expected is not None and expected[0] == key:
            self.go_to(*expected[1:])
        if self._wanted:
            self._look_for(self._wanted, jump=self._hits is None)

    def show_text(self, text: str) -> None:
        """Show no value but a text, such as why it could not be read."""
        self._forget()
        self.board.reader.cancel(self, "tree")
        self._tree, self._shown, self.key, self._said = None, None, "", text
        self.count_changed()

    def clear(self) -> None:
        """Show nothing."""
        self.show_text("")

    def _forget(self) -> None:
        """Nothing is marked or sought any more."""
        self._fade()
        self._wanted, self._hits, self._pattern = "", [], None
        self.board.reader.cancel(self, "search")
        self.board.reader.cancel(self, "compare")

    @property
    def _node(self) -> Node | None:
        rows = self._tree.rows if self._tree is not None else []
        return rows[self.cursor] if self.cursor < len(rows) else None

    @property
    def pointer(self) -> str:
        """The JSON Pointer (RFC 6901) of the cursor; empty for the whole value."""
        return self._node.pointer if self._node is not None else ""

    def go_to(self, pointer: str, at: int | None = None) -> None:
        """Open the way to a place and put the cursor there, or on the nearest box above it that is there.

        Args:
            pointer: the JSON Pointer of the place.
            at: a character of the text there, whose line is meant.

        """
        self._reveal(Hit(tuple(split_pointer(pointer)), at))

    def expect(self, key: str, pointer: str, at: int | None = None) -> None:
        """As `go_to`, once the value of this key is shown, unless that of another is shown first."""
        self._expected = None
        if key == self.key and self._tree is not None:
            self.go_to(pointer, at)
        else:
            self._expected = key, pointer, at

    def _reveal(self, hit: Hit) -> None:
        if self._tree is not None:
            at = self._tree.expand_to(hit.steps, hit.at)
            self._went = hit
            self.count_changed()
            self.cursor = at

    # --- what has changed --------------------------------------------------------------------------------------

    def _compare(self, before: Any, after: Any) -> None:
        def differ(_stop: Stop) -> list[PathChange]:
            if not all(_weight(side) <= COMPARED_BYTES for side in (before, after)):
                return []
            return compare(decoded(before), decoded(after))

        self.board.reader.submit(self, "compare", differ, self._mark, lambda _error: None)

    def _mark(self, changes: list[PathChange]) -> None:
        """Mark what has changed, for a moment. Something removed is marked at what held it."""
        self._fade()
        for one in changes:
            pointer = one.path
            while pointer:
                pointer, _, token = pointer.rpartition("/")
                self._below.setdefault(pointer, set()).add(token)
            place = one.path if one.kind != "removed" else one.path.rpartition("/")[0]
            self._touched[place] = SIGNS[one.kind] if one.kind != "removed" else self._touched.get(place, "~")
        if changes:
            self._fading = self.set_timer(MARKED_SECONDS, self._fade)
        self.refresh()

    def _fade(self) -> None:
        if self._fading is not None:
            self._fading.stop()
        self._fading = None
        self._touched, self._below = {}, {}
        self.refresh()

    def _sign(self, node: Node) -> str:
        """Return the sign of a line's change, or a blank. A folded box has that of what is in it."""
        if not self._touched or node.is_line:
            return " "
        pointer = node.pointer
        if isinstance(node.step, range) and node.parent is not None:
            steps = self._below.get(pointer, set())
            names = {str(node.parent.items[at] if isinstance(node.value, dict) else at) for at in node.step}
            return "~" if not node.open and not steps.isdisjoint(names) else " "
        folded = pointer in self._below and not node.open
        return self._touched.get(pointer) or ("~" if folded else " ")

    # --- painting ----------------------------------------------------------------------------------------------

    @property
    def count(self) -> int:
        """See `VirtualList.count`."""
        return 0 if self._tree is None else len(self._tree.rows)

    def empty_text(self) -> list[str]:
        """Return what was said instead of a value."""
        width = max(10, self.size.width - 2)
        return [piece for one in self._said.split("\n") for piece in wrap(one_line(one), width) or [""]]

    def render_row(self, index: int, cells: RowBuilder) -> None:
        """See `VirtualList.render_row`."""
        assert self._tree is not None
        node, dim = self._tree.rows[index], self.style_of("dim")
        cells.add(self._sign(node), self.style_of("touched"))
        if index == self.cursor and self._hits and _shows(node, self._hits[self._hit]):
            told = f" {self.search_told}"
            cells.left -= len(told)
            self._paint_node(node, cells)
            cells.add("", None, cells.left)
            cells.left += len(told)
            cells.add(told, dim)
            return
        self._paint_node(node, cells)

    def _paint_node(self, node: Node, cells: RowBuilder) -> None:
        dim = self.style_of("dim")
        room = max(4, cells.left // 2)
        indent = "  " * node.depth
        if len(indent) > room:  # very deep: the depth as a number
            indent = f"{node.depth}⋯".rjust(room)
        cells.add(indent, dim)
        if isinstance(node.value, TextRow):
            text = node.value
            cells.add("  " if text.note else "┊ " if text.goes_on else "│ ", dim)
            self._add(cells, text.text, dim if text.note else self.style_of("string"))
            return
        cells.add("▾ " if node.open else "▸ " if node.can_open() else "  ", dim)
        if isinstance(node.step, range):
            self._paint_range(node, node.step, cells)
            return
        if node.step is not None:
            self._add(cells, label(node.step), self.style_of("key") if isinstance(node.step, str) else dim)
            cells.add(": ", dim)
        if node.masked:
            cells.add(MASK).add(" masked", dim)
        else:
            self._paint_value(node, cells)

    def _paint_range(self, node: Node, span: range, cells: RowBuilder) -> None:
        dim = self.style_of("dim")
        cells.add(f"[{span[0]}…{span[-1]}]", dim)
        if isinstance(node.value, dict) and node.parent is not None:
            names = [label(node.parent.items[at]) for at in (span[0], span[-1])]
            cells.add(f"  {names[0]} … {names[1]}", self.style_of("key"))

    def _paint_value(self, node: Node, cells: RowBuilder) -> None:
        dim, room = self.style_of("dim"), max(8, cells.left)
        told = preview(node, room, self._tree.patterns if self._tree is not None else ())  # looks into it
        value = node.value
        if isinstance(value, Broken):
            cells.add(value.why, self.style_of("error"))
        elif isinstance(value, (dict, list)):
            ends = "{}" if isinstance(value, dict) else "[]"
            cells.add(f"{ends[0]}{len(value) or '':,}{ends[1]}" if value else ends, dim)
            if not node.open:
                cells.add(f" {told}", dim)
        elif isinstance(value, (str, LongText)):
            self._paint_string(value, node.open, cells)
        else:
            what = "string" if isinstance(value, Raw) and bytes(memoryview(value)[:1]) == b'"' else "number"
            role = "word" if value is None or isinstance(value, bool) else what
            after = f" {format_size(len(memoryview(value)))}" if isinstance(value, Raw) else ""
            text = scalar(value, room - len(after))
            if text[:1] in ("{", "["):
                role = "dim"
            self._add(cells, text, self.style_of(role), cells.left - len(after))
            cells.add(after, dim)

    def _paint_string(self, value: str | LongText, is_open: bool, cells: RowBuilder) -> None:
        dim, room = self.style_of("dim"), max(8, cells.left)
        if isinstance(value, LongText):
            text, after = value.start, f" {format_size(value.size)}"
        else:
            text, after = value, f" {len(value):,} characters" if len(value) > room - 2 else ""
        if "\n" in text[:TEXT_CHARACTERS]:
            lines = text[:TEXT_CHARACTERS].count("\n") + 1
            after += f" {lines:,}{'+' if len(text) > TEXT_CHARACTERS or isinstance(value, LongText) else ''} lines"
        if is_open:
            cells.add(after.strip() or "string", dim)
            return
        self._add(cells, scalar(text, room), self.style_of("string"), cells.left - len(after))
        cells.add(after, dim)

    def _add(self, cells: RowBuilder, text: str, style: Style, most: int | None = None) -> None:
        """Put stored text at the end, in at most so many columns, with what is sought in it marked."""
        kept = 0 if most is None else max(0, cells.left - max(0, most))
        cells.left -= kept
        at = 0
        if self._pattern is not None:
            for match in self._pattern.finditer(text, 0, 4 * max(0, cells.left) + 8):
                cells.add(text[at : match.start()], style).add(match[0], self.style_of("mark") + Style(underline=True))
                at = match.end()
        cells.add(text[at:] if at else text, style)
        cells.left += kept

    def _text_width(self) -> int:
        return max(20, (self.size.width or 80) - 10)

    def on_resize(self) -> None:
        """Texts are divided into lines by the width."""
        if self._tree is not None and self._tree.width != self._text_width():
            node, hit = self._node, self._went
            path = node.path if node is not None else ()
            if node is None or hit is None or not _shows(node, hit):
                hit = _line_hit(node)
            self._tree.rewrap(self._text_width())
            self.count_changed()
            self.cursor = self._tree.index_of(path) if hit is None else self._tree.expand_to(hit.steps, hit.at)
            if self._wanted:
                self._look_for(self._wanted, jump=self._hits is None)

    # --- opening and moving ------------------------------------------------------------------------------------

    def action_open(self) -> None:
        """Open the line; an open one: go to the first thing in it."""
        node = self._node
        if node is None or self._tree is None:
            return
        if node.masked:
            self._tell_masked()
        elif node.open:
            self.cursor += 1
        else:
            self._tree.open(self.cursor)
            self.count_changed()

    def action_fold(self) -> None:
        """Fold the line; one that is not open: go to what holds it."""
        node = self._node
        if node is None or self._tree is None:
            return
        if node.open:
            self._tree.collapse(self.cursor)
            self.count_changed()
        else:
            self.cursor = self._tree.parent(self.cursor)

    def action_choose(self) -> None:
        """Open or fold the line; of one that has nothing below it, tell that it was chosen."""
        node = self._node
        if node is not None and node.open:
            self.action_fold()
        elif node is not None and (node.can_open() or node.masked):
            self.action_open()
        else:
            super().action_choose()

    def action_beside(self, by: int) -> None:
        """Go to the next or last thing of the same box."""
        if self._tree is not None and self.count:
            self.cursor = self._tree.sibling(self.cursor, by)

    def action_open_all(self) -> None:
        """Open all below the line, within bounds."""
        if self._tree is None or self._node is None:
            return
        if not self._tree.open_all(self.cursor, MAX_OPENED_LINES):
            self.board.notify_user(f"not all was opened: {MAX_OPENED_LINES:,} lines at most at once")
        self.count_changed()

    def on_click(self, event: events.Click) -> None:
        """Open or fold by a click on the triangle."""
        index = event.y + self.scroll_offset.y
        if self._tree is None or index >= self.count:
            return
        node = self._tree.rows[index]
        if node.can_open() and 2 + 2 * node.depth <= event.x <= 3 + 2 * node.depth:
            event.prevent_default()
            self.cursor = index
            self.action_choose()

    def _tell_masked(self) -> None:
        self.board.notify_user(f"masked on the screen; this prints it: {self._load_line(self.pointer)}")

    # --- search ------------------------------------------------------------------------------------------------

    @property
    def search_told(self) -> str:
        """How the search stands, such as `3/17`; empty where nothing is sought."""
        if not self._wanted:
            return ""
        if self._hits is None:
            return "searching…"
        if not self._hits:
            return "no match"
        return f"{self._hit + 1:,}/{len(self._hits):,}{'+' if self._more else ''}"

    def action_search(self) -> None:
        """Ask for a text, and search as it is typed."""
        from ..dialogs.key_actions import SearchLine

        if self._tree is not None:
            self.app.push_screen(SearchLine(self))

    def search(self, text: str, told: Callable[[str], None] | None = None) -> None:
        """Search names and values, go to the first match, and say how it stands. No text: search no more.

        Args:
            text: what is sought; small letters find capitals too.
            told: called with `search_told` now and when the search has ended.

        """
        self.listen(told)
        self._look_for(text, jump=True)

    def listen(self, told: Callable[[str], None] | None) -> None:
        """Who is told how the search stands, when it has ended."""
        self._told = told

    def _look_for(self, text: str, jump: bool) -> None:
        tree, board = self._tree, self.board
        board.reader.cancel(self, "search")
        self._wanted = text
        self._pattern = None
        if not text or tree is None or tree.root.masked:
            self._found([], False)
            return
        exact = any(sign.isupper() for sign in text)
        self._pattern = re.compile(re.escape(text), 0 if exact else re.IGNORECASE)
        if jump:
            self._hits = None
            self._tell_search()
        value, patterns, width = tree.root.value, tree.patterns, tree.width
        if isinstance(value, LongText):
            value = Raw(self._shown)  # not only its start

        def look(stop: Stop) -> list[Hit]:
            return list(search(value, text, patterns, stop, width=width))

        board.reader.submit(self, "search", look, lambda hits: self._found(hits, jump), board.show_error)

    def _found(self, hits: list[Hit], jump: bool) -> None:
        self._hits = hits
        self._more = len(hits) == MAX_HITS or any(hit.more for hit in hits)
        self._hit = 0 if jump else min(self._hit, max(0, len(hits) - 1))
        if hits and jump:
            self._reveal(hits[0])
        self._tell_search()
        self.refresh()

    def _tell_search(self) -> None:
        if self._told is not None:
            self._told(self.search_told)

    def action_hit(self, by: int) -> None:
        """Go to the next or last match."""
        if not self._hits:
            self.board.notify_user(self.search_told or "nothing is sought: / searches in the value")
            return
        self._hit = (self._hit + by) % len(self._hits)
        self._reveal(self._hits[self._hit])
        self.refresh()

    # --- copying, blame ----------------------------------------------------------------------------------------

    def _load_line(self, pointer: str) -> str:
        return load_line(self.key, pointer, self.board.at, self.board.target_options)

    def copied(self, whole: bool = False) -> CopyOptions:
        """Return what can be copied of the line under the cursor, or of the whole value."""
        node = self._tree.root if whole and self._tree is not None else self._node
        if node is None:
            return CopyOptions([], "no value is shown")
        pointer = node.pointer
        line = self._load_line(pointer)
        why = refused(node, self.board.redact)
        texts = [] if why else [("value", text_of(node))]
        texts += [("JSON Pointer", pointer)] if pointer else []
        texts += [("command line", line), ("key", self.key)]
        if whole:
            texts.reverse()  # in the list of keys it is the key that is looked at
        return CopyOptions(texts, f"{why}; this prints it: {line}" if why else "")

    def action_copy(self, whole: bool = False) -> None:
        """Choose what to copy."""
        from ..dialogs.key_actions import copy_menu

        copy_menu(self.board, self.copied(whole))

    def action_blame(self) -> None:
        """Ask which commit last changed this place."""
        if self._node is not None:
            self.post_message(self.Blame(self, self.pointer))


def _shows(node: Node, hit: Hit) -> bool:
    """Whether what was found is on this line. O(lines of its text)."""
    if node.steps != hit.steps or node.is_line != (hit.at is not None):
        return False
    return node.parent is None or hit.at is None or node.step == line_at(node.parent.items, hit.at)


def _line_hit(node: Node | None) -> Hit | None:
    """Where a line of a text begins; None for any other."""
    if node is None or not node.is_line or node.parent is None or not isinstance(node.step, int):
        return None
    return Hit(node.steps, start_of(node.parent.items, node.step))


def _weight(side: Any) -> int:
    return len(side) if isinstance(side, bytes) else estimate_size(side, COMPARED_BYTES)
