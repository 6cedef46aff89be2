"""The nodes of a JSON value's tree. A node decodes its value when a row shows it. No terminal code."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from msgspec import Raw

from .... import codec
from ....errors import Damaged
from ....states.values.pointers import escape_token
from ...display.redaction import is_redacted
from ...display.text import format_size
from .json_text import LONG_CHARACTERS, TEXT_CHARACTERS, TextRow, has_lines, text_lines

CHILDREN_PER_CHUNK = 1_000  # children of one box that are listed together
SMALL_BYTES = 64_000  # bytes that are decoded whole at once
GLANCE_BYTES = 256_000  # bytes of a box that may be decoded to paint one row
_ROW_BYTES = 1_000  # bytes that are decoded when a row is built
_AUTO_OPEN_BYTES = 4_000_000  # bytes of a box that is opened without a request

Step = str | int  # from a box (an object or array) to a member or element
Path = tuple[Step | range, ...]  # the steps to a row of the tree, with the ranges of long boxes


class Broken(NamedTuple):
    """Takes the place of a value that could not be decoded."""

    why: str


class LongText(NamedTuple):
    """The decoded start of a long string, and the bytes that the whole string takes encoded."""

    start: str
    size: int


class Node:
    """One row of the tree: a value, a range of the children of a long box, or a row of a text.

    Attributes:
        parent: the node that this one is listed under.
        step: the step from the parent's box; for a row of a text, its index.
        value: a decoded value; `Raw` until a row shows it; `LongText`, `TextRow` or `Broken`.
        masked: whether the value is masked.
        depth: the depth in the tree; -1 for the root.
        open: whether the children are visible.
        children: the nodes listed under this one; None until it is first opened.
        items: the elements of an array, the names of an object, or the rows of a text.

    """

    __slots__ = ("children", "depth", "items", "masked", "open", "parent", "step", "value")

    def __init__(self, parent: Node | None, step: Step | range | None, value: Any, hidden: bool = False) -> None:
        self.parent = parent
        self.step = step
        self.value = value
        self.masked = hidden
        self.depth: int = -1 if parent is None else parent.depth + 1
        self.open = False
        self.children: list[Node] | None = None
        self.items: list[Any] = []

    @property
    def is_range(self) -> bool:
        """Whether the node stands for some of the children of a long box."""
        return isinstance(self.step, range)

    @property
    def is_line(self) -> bool:
        """Whether the node is a row of a text."""
        return isinstance(self.value, TextRow)

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps from the whole value to the node's value. A range or a row of a text has those of its parent."""
        steps = (node.step for node in self._ancestry() if not node.is_line)
        return tuple(step for step in steps if isinstance(step, (str, int)))

    @property
    def pointer(self) -> str:
        """The JSON Pointer (RFC 6901) of `steps`."""
        return "".join(f"/{escape_token(step)}" for step in self.steps)

    @property
    def path(self) -> Path:
        """The steps from the root to the node. They identify the node in its tree."""
        return tuple(node.step for node in self._ancestry() if node.step is not None)

    def _ancestry(self) -> list[Node]:
        """Return the nodes from the root down to this node."""
        nodes = [self]
        while (parent := nodes[-1].parent) is not None:
            nodes.append(parent)
        return nodes[::-1]

    def decode(self, limit: float = float("inf")) -> Any:
        """Return the value with its outermost level decoded; `Raw` if it takes more than `limit` bytes encoded."""
        if isinstance(self.value, Raw) and len(memoryview(self.value)) <= limit:
            text = text_start(self.value)
            self.value = decode_outer_level(self.value, self.depth) if text is None else text
        return self.value

    def can_open(self) -> bool:
        """Whether the node has children."""
        if self.masked:
            return False
        if self.is_range:
            return True
        value = self.value
        if isinstance(value, Raw):
            first = bytes(memoryview(value)[:1])
            if first in (b"{", b"["):
                return len(memoryview(value)) > 2
            return first == b'"' and len(memoryview(value)) > LONG_CHARACTERS
        if isinstance(value, LongText):
            return True
        if isinstance(value, str):
            return has_lines(value)
        return isinstance(value, (dict, list)) and bool(value)

    def children_of(self, width: int, patterns: tuple[str, ...]) -> list[Node]:
        """Open the node, and return its children.

        Args:
            width: the columns of a row.
            patterns: the globs of masked names.

        """
        self.open = True
        if self.children is None:
            self.children = list(self._range(patterns) if self.is_range else self._build(width, patterns))
        return self.children

    def peek(self, width: int, patterns: tuple[str, ...]) -> list[Node]:
        """Return the children, and leave the node open or closed as it is."""
        was_open = self.open
        children = self.children_of(width, patterns)
        self.open = was_open
        return children

    def children_to_open(self) -> float:
        """Return how many children opening the node lists; infinity if finding out costs too much."""
        if self.children is not None:
            return len(self.children)
        if isinstance(self.step, range):
            return len(self.step)
        value = self.decode(_AUTO_OPEN_BYTES)
        if isinstance(value, str):
            return value.count("\n") + 1 if "\n" in value and len(value) <= GLANCE_BYTES else float("inf")
        if not isinstance(value, (dict, list)):
            return float("inf") if isinstance(value, (Raw, LongText)) else 0
        return len(value) if len(value) <= CHILDREN_PER_CHUNK else -(-len(value) // CHILDREN_PER_CHUNK)

    def _build(self, width: int, patterns: tuple[str, ...]) -> Iterator[Node]:
        value = self.decode()
        if isinstance(value, LongText):
            self.items = text_lines(value.start, width, format_size(value.size))
        elif isinstance(value, str):
            self.items = text_lines(value, width)
        else:
            self.items = list(value) if isinstance(value, (dict, list)) else []
        if len(self.items) > CHILDREN_PER_CHUNK and isinstance(value, (dict, list)):
            for start in range(0, len(self.items), CHILDREN_PER_CHUNK):
                yield Node(self, range(start, min(start + CHILDREN_PER_CHUNK, len(self.items))), value)
        else:
            for index in range(len(self.items)):
                yield self._child(index, self, patterns)

    def _range(self, patterns: tuple[str, ...]) -> Iterator[Node]:
        assert isinstance(self.step, range)
        assert self.parent is not None
        for index in self.step:
            yield self.parent._child(index, self, patterns)

    def _child(self, index: int, parent: Node, patterns: tuple[str, ...]) -> Node:
        item = self.items[index]
        if isinstance(self.value, dict):
            value = self.value[item]
            node = Node(parent, item, value, is_redacted(item, patterns, value))
        else:
            node = Node(parent, index, item)
        node.decode(_ROW_BYTES)
        return node


def decode_outer_level(raw: Raw, depth: int) -> Any:
    """Decode a value: all of it if it is small, else its outermost level. A long number stays `Raw`."""
    view = memoryview(raw)
    if depth >= codec.MAX_DEPTH:
        return Broken(f"nested over {codec.MAX_DEPTH} levels deep; not shown")
    if len(view) > LONG_CHARACTERS and view[0] in b"-0123456789":  # its digits are shown as they are stored
        return raw
    try:
        return codec.decode(bytes(raw)) if len(view) <= SMALL_BYTES else codec.decode_level(raw)
    except Damaged as error:
        return Broken(str(error))


def text_start(raw: Raw) -> LongText | None:
    """Return the start of a string that is too long to be listed whole; None for all else. O(TEXT_CHARACTERS)."""
    view = memoryview(raw)
    if len(view) <= 4 * TEXT_CHARACTERS or view[0] != ord('"'):
        return None
    for end in range(TEXT_CHARACTERS, TEXT_CHARACTERS - 16, -1):  # a cut inside a character or an escape is damage
        try:
            return LongText(codec.decode(bytes(view[:end]) + b'"'), len(view))
        except Damaged:
            continue
    return None


def estimate_size(value: Any, limit: int) -> int:
    """Return about how many bytes a value takes as JSON; some number above `limit` if it takes more. O(limit / 16)."""
    total = 0
    pending = [value]
    while pending and total <= limit:
        item = pending.pop()
        total += 16
        if isinstance(item, Raw):
            total += len(memoryview(item))
        elif isinstance(item, LongText):
            total += item.size
        elif isinstance(item, str):
            total += len(item)
        elif type(item) is int:
            total += item.bit_length() // 3
        elif isinstance(item, dict):
            total += 16 * len(item)
            if total <= limit:
                total += sum(map(len, item))
                pending += item.values()
        elif isinstance(item, list):
            if total + 16 * len(item) > limit:
                return limit + 1
            pending += item
    return total
