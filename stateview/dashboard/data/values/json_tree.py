"""A JSON value as rows that open and close. Only opened boxes are built, or even decoded. No terminal code."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

from .json_nodes import CHILDREN_PER_CHUNK, LongText, Node, Path, Step
from .json_search import Hit
from .json_text import LONG_CHARACTERS, line_at, start_of


class Tree:
    """The visible rows of a value, from the top down.

    Args:
        value: a decoded value, or `Raw`, of which only opened parts are decoded.
        patterns: the globs of masked names.
        hidden: whether the whole value is masked.
        width: the columns of a row.
        kept: which nodes were open in the tree that this one replaces, see `state`.
        budget: how many rows may be opened without a request.

    """

    def __init__(
        self, value: Any, patterns: tuple[str, ...] = (), hidden: bool = False, width: int = LONG_CHARACTERS,
        kept: dict[Path, bool] | None = None, budget: int = 300,
    ) -> None:  # fmt: skip
        self.root = Node(None, None, value, hidden)
        self.patterns = patterns
        self.width = width
        self.rows: list[Node] = []
        self.root.decode()
        if not hidden and isinstance(self.root.value, (dict, list)) and self.root.value:
            self._grow(kept or {}, budget)
            self.rows = list(_below(self.root))
        else:
            self._grow_leaf(kept or {})

    def _grow_leaf(self, kept: dict[Path, bool]) -> None:
        """Show a value that is no box on a row of its own."""
        self.root.depth = 0
        self.rows = [self.root]
        if self.root.can_open() and kept.get((), True):
            self._children(self.root)
            self.rows += _below(self.root)

    def _grow(self, kept: dict[Path, bool], budget: int) -> None:
        """Open the nodes that were open. Open new nodes level by level, within the budget."""
        pending = deque([self.root])
        while pending:
            node = pending.popleft()
            if node is not self.root:
                if not node.can_open():
                    continue
                wanted = kept.get(node.path)
                if wanted is None:
                    wanted = node.children_to_open() <= budget
                if not wanted:
                    continue
            children = self._children(node)
            budget -= len(children)
            pending.extend(children)

    def _children(self, node: Node) -> list[Node]:
        return node.children_of(self.width, self.patterns)

    def state(self) -> dict[Path, bool]:
        """Return, by path, whether each node that can be opened is open. O(nodes built)."""
        open_by_path: dict[Path, bool] = {}
        pending = [self.root]
        while pending:
            node = pending.pop()
            if node.can_open():
                open_by_path[node.path] = node.open
            pending += node.children or ()
        return open_by_path

    def rewrap(self, width: int) -> None:
        """Divide the texts again for rows of another width. O(nodes built)."""
        self.width = width
        pending = [self.root]
        while pending:
            node = pending.pop()
            if isinstance(node.value, (str, LongText)) and node.children is not None:
                node.children = None
                if node.open:
                    self._children(node)
            elif node.children is not None:
                pending += node.children
        self.rows = ([self.root] if self.root.depth == 0 else []) + list(_below(self.root))

    def index_of(self, path: Path) -> int:
        """Return the index of a row by its path, or of its nearest visible ancestor."""
        node = self.root
        for step in path:
            child = next((child for child in node.children or () if child.step == step), None) if node.open else None
            if child is None:
                break
            node = child
        return self.rows.index(node) if node in self.rows else 0

    def open(self, index: int) -> None:
        """Open a row. O(rows below it that become visible)."""
        node = self.rows[index]
        if node.can_open() and not node.open:
            self._children(node)
            self.rows[index + 1 : index + 1] = _below(node)

    def collapse(self, index: int) -> None:
        """Close a row."""
        node = self.rows[index]
        if node.open:
            self.rows[index + 1 : self.end(index)] = []
            node.open = False

    def end(self, index: int) -> int:
        """Return the index after the last row below a row."""
        depth = self.rows[index].depth
        return next((at for at in range(index + 1, len(self.rows)) if self.rows[at].depth <= depth), len(self.rows))

    def open_all(self, index: int, limit: int) -> bool:
        """Open all rows below a row, level by level, up to `limit` new rows. Returns whether all were opened."""
        top = self.rows[index]
        self.collapse(index)
        pending = deque([top])
        complete = True
        while pending:
            node = pending.popleft()
            if not node.can_open():
                continue
            if not node.open and node.children_to_open() > limit:
                complete = False
                continue
            children = self._children(node)
            limit -= len(children)
            pending.extend(children)
        self.rows[index + 1 : index + 1] = _below(top)
        return complete

    def sibling(self, index: int, by: int) -> int:
        """Return the index of the next (`by` 1) or previous (-1) row of the same box; `index` if there is none."""
        depth = self.rows[index].depth
        at = index + by
        while 0 <= at < len(self.rows) and self.rows[at].depth > depth:
            at += by
        return at if 0 <= at < len(self.rows) and self.rows[at].depth == depth else index

    def parent(self, index: int) -> int:
        """Return the index of the row that holds a row; `index` at the top."""
        parent = self.rows[index].parent
        at = index
        while at >= 0 and self.rows[at] is not parent:
            at -= 1
        return at if at >= 0 else index

    def expand_to(self, steps: tuple[Step, ...], at: int | None = None) -> int:
        """Open the boxes around a value, and return the index of its row, or of its nearest row above.

        Args:
            steps: the steps to the value.
            at: a character of the text. The index is then that of the character's row, or of the note below the text.

        """
        way, complete = [self.root], True
        for step in steps:
            nodes = self._nodes_at(way[-1], step)
            if nodes is None:
                complete = False
                break
            way += nodes
        index = 0
        for node in way:
            if node is self.root and self.rows[:1] != [node]:
                continue
            index = self.rows.index(node, index)
            if node is not way[-1]:
                self.open(index)
        text = way[-1]
        if at is not None and complete and isinstance(text.decode(), (str, LongText)) and text.can_open():
            self.open(index)
            index += 1 + line_at(text.items, at)
        return index

    def _nodes_at(self, box: Node, step: Step) -> list[Node] | None:
        """Return the node at a step from a box, after its range if there is one; None if there is no such node."""
        if box.masked or not isinstance(box.decode(), (dict, list)):
            return None
        children = box.peek(self.width, self.patterns)
        if isinstance(box.value, dict):
            step = str(step)
            if step not in box.value:
                return None
        else:
            if isinstance(step, str):
                step = int(step) if step.isdecimal() and len(step) < 19 else -1
            if not 0 <= step < len(box.value):
                return None
        ranges: list[Node] = []
        if children[0].is_range:
            index = step if isinstance(step, int) else box.items.index(step)
            ranges = [children[index // CHILDREN_PER_CHUNK]]
            children = ranges[0].peek(self.width, self.patterns)
        return [*ranges, next(child for child in children if child.step == step)]


def _below(node: Node) -> Iterator[Node]:
    """Yield the visible rows below an open node."""
    pending = list(reversed(node.children or ())) if node.open else []
    while pending:
        child = pending.pop()
        yield child
        if child.open:
            pending += reversed(child.children or ())


def shows(node: Node, hit: Hit) -> bool:
    """Whether the row of a node shows a match. O(lines of the text)."""
    if node.steps != hit.steps or node.is_line != (hit.at is not None):
        return False
    return node.parent is None or hit.at is None or node.step == line_at(node.parent.items, hit.at)


def line_hit(node: Node | None) -> Hit | None:
    """Return the start of a line of text, or None for other nodes."""
    if node is None or not node.is_line or node.parent is None or not isinstance(node.step, int):
        return None
    return Hit(node.steps, start_of(node.parent.items, node.step))
