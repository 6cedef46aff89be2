"""A JSON value as a tree. Only visible rows are painted, and only opened nodes are decoded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from msgspec import Raw
from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.timer import Timer

from ....model import PathChange
from ....states.values.json_diff import compare
from ....states.values.pointers import split_pointer
from ...data.background import Stop
from ...data.values.json_copy import CopyOptions, decoded, leaf_of, load_line, refused, text_of
from ...data.values.json_nodes import SMALL_BYTES, Broken, Node, Path, estimate_size
from ...data.values.json_search import Hit
from ...data.values.json_tree import Tree, line_hit, shows
from ...display.json_row import ChangeSigns, RowPainter
from ...display.redaction import is_redacted, without_secrets
from ...display.text import RowBuilder, format_size
from ..virtual_list import VirtualList
from .value_search import ValueSearch

if TYPE_CHECKING:
    from collections.abc import Callable

COMPARED_BYTES = 1_000_000  # changes inside larger values are not marked
MAX_OPENED_LINES = 10_000  # rows that "open all" adds at most
MARKED_SECONDS = 2.0  # how long changes are marked


class JsonView(VirtualList):
    """Shows one value. A newer value of the same key keeps the open nodes and the cursor."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("l,right", "open", "Open", show=False, id="value.open"),
        Binding("h,left", "fold", "Fold, or go to the parent", show=False, id="value.fold"),
        Binding("space", "choose", "Open or fold", show=False, id="value.toggle"),
        Binding("J", "beside(1)", "Next sibling", show=False, id="value.next-sibling"),
        Binding("K", "beside(-1)", "Previous sibling", show=False, id="value.last-sibling"),
        Binding("asterisk", "open_all", "Open all below", show=False, key_display="*", id="value.open-all"),
        Binding("slash", "search", "Search in the value", show=False, key_display="/", id="value.search"),
        Binding("n", "hit(1)", "Next match", show=False, id="value.next-match"),
        Binding("N", "hit(-1)", "Previous match", show=False, id="value.last-match"),
        Binding("y", "copy", "Copy", show=False, id="value.copy"),
        Binding("b", "blame", "Which commit changed this", show=False, id="value.blame"),
    ]

    class Blame(Message):
        """Asks which commit last changed the place with the JSON Pointer `pointer`."""

        def __init__(self, pointer: str) -> None:
            super().__init__()
            self.pointer = pointer

    class HitsPassed(Message):
        """The search has passed the last match of the value, or with `by` -1 the first one."""

        def __init__(self, by: int) -> None:
            super().__init__()
            self.by = by

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self.key = ""
        self._value: Any = None  # the argument of `show`: a value, or its bytes
        self._tree: Tree | None = None
        self._patterns: tuple[str, ...] = ()  # what is masked in it
        self._message = ""  # shown instead of a value
        self._target: tuple[str, str, int | None] | None = None  # key, pointer and character to go to, see `expect`
        self._sought: tuple[str, str] | None = None  # key and text to search, see `expect_search`
        self._signs = ChangeSigns()
        self._sign_timer: Timer | None = None
        self._search = ValueSearch(self, self._reveal)
        self._last_target: Hit | None = None  # where the cursor was put last

    # --- what is shown -----------------------------------------------------------------------------------------

    def show(self, value: Any, key: str) -> None:
        """Show a value. If its key is shown already, open nodes and the cursor stay, and changes are marked.

        Args:
            value: a result of `codec.decode`, or the stored bytes. Bytes are decoded as nodes are opened, and many
                bytes on a thread, so pass bytes for large values.
            key: the key of the value.

        """
        dashboard = self.dashboard
        patterns, width = dashboard.redact, self._text_width()
        if isinstance(value, bytes) and key == self.key and value == self._value and patterns == self._patterns:
            return
        same = key == self.key and self._tree is not None
        before, self._value = self._value, value
        self._patterns = patterns
        hidden = is_redacted(key, patterns, value)
        state = self._tree.state() if same and self._tree is not None else None

        def build(_stop: object) -> Tree:
            return Tree(Raw(value) if isinstance(value, bytes) else value, patterns, hidden, width, state)

        def show_tree(tree: Tree) -> None:
            if patterns != dashboard.redact:  # a press has masked secrets since this tree was built
                self.show(value, key)
                return
            self._take(tree, key, same)
            if same and not hidden:
                self._compare(before, value)

        if not isinstance(value, bytes) or len(value) <= SMALL_BYTES:
            dashboard.reader.cancel(self, "tree")
            show_tree(build(None))
            return
        if not same:
            self.show_text(f"reading {format_size(len(value))}…")
            self._value = value
        dashboard.reader.submit(self, "tree", build, show_tree, dashboard.show_error)

    def secrets_changed(self) -> None:
        """Mask what is masked now."""
        if self._tree is not None:
            self.show(self._value, self.key)

    @property
    def is_masked(self) -> bool:
        """Whether a row is masked."""
        return self._tree is not None and any(node.masked for node in self._tree.rows)

    def _take(self, tree: Tree, key: str, same: bool) -> None:
        path: Path = self._node.path if same and self._node is not None else ()
        above = self.cursor - self.scroll_offset.y
        if not same:
            self._end_search()
        self.key, self._tree, self._message = key, tree, ""
        if isinstance(tree.root.value, Broken):
            self._tree, self._message = None, tree.root.value.why
        self.count_changed()
        index = tree.index_of(path) if self._tree is not None else 0
        self.scroll_to(y=max(0, index - above) if same else 0, animate=False, force=True, immediate=True)
        if index == self.cursor:
            self.post_message(self.Highlighted(self, index))
        self.cursor = index
        target, self._target = self._target, None
        if target is not None and target[0] == key:
            self.go_to(*target[1:])
        sought, self._sought = self._sought, None
        if sought is not None and sought[0] == key:
            self.search(sought[1])
        else:
            self._search.restart(tree, self._value)

    def show_text(self, text: str) -> None:
        """Show a text instead of a value, such as the error of a read."""
        self._end_search()
        self.dashboard.reader.cancel(self, "tree")
        self._tree, self._value, self.key, self._message = None, None, "", text
        self.count_changed()

    def clear(self) -> None:
        """Show nothing."""
        self.show_text("")

    def _end_search(self) -> None:
        """End the search, and remove the marks of changes."""
        self._fade()
        self._search.cancel()
        self.dashboard.reader.cancel(self, "compare")

    @property
    def _node(self) -> Node | None:
        rows = self._tree.rows if self._tree is not None else []
        return rows[self.cursor] if self.cursor < len(rows) else None

    @property
    def pointer(self) -> str:
        """The JSON Pointer (RFC 6901) of the node under the cursor. Empty for the whole value."""
        return self._node.pointer if self._node is not None else ""

    @property
    def leaf(self) -> str | None:
        """The value under the cursor as JSON, if it fits into a line and holds no others."""
        return leaf_of(self._node) if self._node is not None else None

    def go_to(self, pointer: str, at: int | None = None) -> None:
        """Open the nodes above a place and move the cursor there, or to the nearest node above that exists.

        Args:
            pointer: the JSON Pointer of the place.
            at: the index of a character of the text at that place. The cursor moves to its line.

        """
        self._reveal(Hit(tuple(split_pointer(pointer)), at))

    def expect(self, key: str, pointer: str, at: int | None = None) -> None:
        """Call `go_to` as soon as the value of this key is shown, unless another key is shown first."""
        self._target = None
        if key == self.key and self._tree is not None:
            self.go_to(pointer, at)
        else:
            self._target = key, pointer, at

    def expect_search(self, key: str, text: str) -> None:
        """Search a text as soon as the value of this key is shown, unless another key is shown first."""
        self._sought = None
        if key == self.key and self._tree is not None:
            self.search(text)
        else:
            self._sought = key, text

    def _reveal(self, hit: Hit) -> None:
        if self._tree is not None:
            index = self._tree.expand_to(hit.steps, hit.at)
            self._last_target = hit
            self.count_changed()
            self.cursor = index

    # --- changes -----------------------------------------------------------------------------------------------

    def _compare(self, before: Any, after: Any) -> None:
        def find_changes(_stop: Stop) -> list[PathChange]:
            if not all(_size(value) <= COMPARED_BYTES for value in (before, after)):
                return []
            return compare(decoded(before), decoded(after))

        self.dashboard.reader.submit(self, "compare", find_changes, self._mark, lambda _error: None)

    def _mark(self, changes: list[PathChange]) -> None:
        """Mark the changes for `MARKED_SECONDS`."""
        self._fade()
        self._signs = ChangeSigns(changes)
        if changes:
            self._sign_timer = self.set_timer(MARKED_SECONDS, self._fade)
        self.refresh()

    def _fade(self) -> None:
        if self._sign_timer is not None:
            self._sign_timer.stop()
        self._sign_timer = None
        self._signs = ChangeSigns()
        self.refresh()

    # --- painting ----------------------------------------------------------------------------------------------

    @property
    def count(self) -> int:
        return 0 if self._tree is None else len(self._tree.rows)

    def empty_text(self) -> list[str]:
        """Return the text that is shown instead of a value."""
        return self._message.split("\n")

    def render_row(self, index: int, cells: RowBuilder) -> None:
        assert self._tree is not None
        node, painter = self._tree.rows[index], RowPainter(self.style_of, self._tree.patterns, self._search.pattern)
        cells.add(self._signs.of(node), self.style_of("touched"))
        hit = self._search.hit
        if index == self.cursor and hit is not None and shows(node, hit):
            status = f" {self._search.status}"
            cells.left -= len(status)
            painter.paint(node, cells)
            cells.add("", None, cells.left)
            cells.left += len(status)
            cells.add(status, self.style_of("dim"))
            return
        painter.paint(node, cells)

    def _text_width(self) -> int:
        return max(20, (self.size.width or 80) - 10)

    def on_resize(self) -> None:
        """Wrap the texts anew."""
        if self._tree is not None and self._tree.width != self._text_width():
            node, hit = self._node, self._last_target
            path = node.path if node is not None else ()
            if node is None or hit is None or not shows(node, hit):
                hit = line_hit(node)
            self._tree.rewrap(self._text_width())
            self.count_changed()
            self.cursor = self._tree.index_of(path) if hit is None else self._tree.expand_to(hit.steps, hit.at)
            self._search.restart(self._tree, self._value)

    # --- opening and moving ------------------------------------------------------------------------------------

    def action_open(self) -> None:
        """Open the node. In an open node, go to its first member."""
        node = self._node
        if node is None or self._tree is None:
            return
        if node.masked:
            press = "U shows it, and " if self._is_secret(node) else ""
            line = self._load_line(self.pointer)
            self.dashboard.notify_user(f"this value is masked on the screen; {press}this prints it: {line}")
        elif node.open:
            self.cursor += 1
        else:
            self._tree.open(self.cursor)
            self.count_changed()

    def action_fold(self) -> None:
        """Fold the node. If it is not open, go to its parent."""
        node = self._node
        if node is None or self._tree is None:
            return
        if node.open:
            self._tree.collapse(self.cursor)
            self.count_changed()
        else:
            self.cursor = self._tree.parent(self.cursor)

    def action_choose(self) -> None:
        """Open or fold the node. A node without members is reported as chosen."""
        node = self._node
        if node is not None and node.open:
            self.action_fold()
        elif node is not None and (node.can_open() or node.masked):
            self.action_open()
        else:
            super().action_choose()

    def action_beside(self, by: int) -> None:
        """Go to the next or previous member of the same parent."""
        if self._tree is not None and self.count:
            self.cursor = self._tree.sibling(self.cursor, by)

    def action_open_all(self) -> None:
        """Open all nodes below, up to `MAX_OPENED_LINES` rows."""
        if self._tree is None or self._node is None:
            return
        if not self._tree.open_all(self.cursor, MAX_OPENED_LINES):
            self.dashboard.notify_user(f"only the first {MAX_OPENED_LINES:,} lines were opened")
        self.count_changed()

    def on_click(self, event: events.Click) -> None:
        """Open or fold the node whose triangle is clicked."""
        index = event.y + self.scroll_offset.y
        if self._tree is None or index >= self.count:
            return
        node = self._tree.rows[index]
        if node.can_open() and 2 + 2 * node.depth <= event.x <= 3 + 2 * node.depth:
            event.prevent_default()
            self.cursor = index
            self.action_choose()

    # --- search ------------------------------------------------------------------------------------------------

    @property
    def search_status(self) -> str:
        """The state of the search, such as the number of the match, for the title."""
        return self._search.status

    def action_search(self) -> None:
        """Ask for a text and search while it is typed."""
        from ...dialogs.key_actions import SearchLine

        if self._tree is not None:
            self.app.push_screen(SearchLine(self))

    def search(self, text: str, report: Callable[[str], None] | None = None) -> None:
        """Search names and values, and go to the first match. An empty text ends the search.

        Args:
            text: the text to find. Without capital letters, case is ignored.
            report: called with `search_status` now and when the search has ended.

        """
        self.report_search_to(report)
        self._search.start(text, self._tree, self._value)

    def report_search_to(self, report: Callable[[str], None] | None) -> None:
        """Replace the function that is called with `search_status`."""
        self._search.report = report

    def action_hit(self, by: int) -> None:
        """Go to the next or previous match."""
        if self._search.hit is None:
            self.dashboard.notify_user(self._search.status or "no search yet: / searches the value")
            return
        if self._search.passes_end(by):
            self.post_message(self.HitsPassed(by))
        self._search.step(by)
        self.refresh()

    # --- copying, blame ----------------------------------------------------------------------------------------

    def _load_line(self, pointer: str) -> str:
        return load_line(self.key, pointer, self.dashboard.at, self.dashboard.target_options)

    def copy_options(self, whole: bool = False) -> CopyOptions:
        """Return the texts to copy for the node under the cursor, or for the whole value."""
        node = self._tree.root if whole and self._tree is not None else self._node
        if node is None:
            return CopyOptions([], "no value is shown")
        pointer = node.pointer
        line = self._load_line(pointer)
        why = refused(node, self.dashboard.redact)
        texts = [] if why else [("value", text_of(node))]
        texts += [("JSON Pointer", pointer)] if pointer else []
        texts += [("command line", line), ("key", self.key)]
        if whole:
            texts.reverse()  # the key comes first in the list of keys
        press = "U shows it, and " if why and self._is_secret(node) else ""
        return CopyOptions(texts, f"{why}; {press}this prints it: {line}" if why else "")

    def _is_secret(self, node: Node) -> bool:
        """Return whether all that is masked in a node is shown by a press."""
        app = self.dashboard
        globs = without_secrets(app.masks)
        name = node.step if isinstance(node.step, str) else self.key
        return app.may_show_secrets and not (is_redacted(name, globs) if node.masked else refused(node, globs))

    def action_copy(self, whole: bool = False) -> None:
        """Open the menu of texts to copy."""
        from ...dialogs.key_actions import copy_menu

        copy_menu(self.dashboard, self.copy_options(whole))

    def action_blame(self) -> None:
        """Ask which commit last changed the value under the cursor."""
        if self._node is not None:
            self.post_message(self.Blame(self.pointer))


def _size(value: Any) -> int:
    return len(value) if isinstance(value, bytes) else estimate_size(value, COMPARED_BYTES)
