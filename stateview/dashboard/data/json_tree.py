"""A JSON value as lines that open and close. Only what has been opened is built, or even decoded. No terminal code."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple

from msgspec import Raw

from ... import codec
from ...errors import Damaged
from ...states.pointers import escape_token
from ..display.redaction import MASK, is_redacted
from ..display.text import format_size

CHILDREN_PER_CHUNK = 1_000  # children of one box that are listed together
TEXT_CHARACTERS = 1_000_000  # characters of one string that are listed when it is opened
TEXT_LINES = 20_000  # and pieces of it
SMALL_BYTES = 64_000  # bytes that are decoded whole at once
_LINE_BYTES = 1_000  # bytes that are decoded when a line is built, so that its form is known
_GLANCE_BYTES = 256_000  # bytes of a box that may be looked into to paint one line
_AUTO_OPEN_BYTES = 4_000_000  # bytes of a box that is opened without being asked for
_PREVIEW_CHILDREN = 8  # children that a folded box tells of
_LONG_CHARACTERS = 80  # characters from which on a string can be opened, to be read in lines
_PLAIN = re.compile(r"[A-Za-z_$][\w$-]*")

Step = str | int  # from a box to what it holds
Path = tuple[Step | range, ...]  # the steps to a line of the tree, with the ranges of long boxes


class Broken(NamedTuple):
    """Stands for what could not be decoded."""

    why: str


class LongText(NamedTuple):
    """Stands for a string of which only the start is decoded; `size` is in bytes as it is stored."""

    start: str
    size: int


class TextRow(NamedTuple):
    """A piece of a text that is shown in lines.

    `goes_on` where it continues the line above; `said` where it is none, but tells that there is more.
    """

    text: str
    goes_on: bool = False
    said: bool = False


class Node:
    """One line of the tree: a value, a range of the children of a long box, or a piece of a text.

    `value` is a decoded value, or `Raw` as long as nobody looked, or `LongText`, or `Broken`.
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
        self.items: list[Any] = []  # what is listed below: elements, names, or pieces of text

    @property
    def is_range(self) -> bool:
        """Whether it stands for some of the children of a long box."""
        return isinstance(self.step, range)

    @property
    def is_line(self) -> bool:
        """Whether it is a piece of a text."""
        return isinstance(self.value, TextRow)

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps from the whole value to what the line shows, or is a part of."""
        out: list[Step] = []
        node: Node | None = self
        while node is not None and node.step is not None:
            if not node.is_line and not isinstance(node.step, range):
                out.append(node.step)
            node = node.parent
        return tuple(reversed(out))

    @property
    def pointer(self) -> str:
        """The JSON Pointer (RFC 6901) of what the line shows, or is a part of."""
        return pointer_of(self.steps)

    @property
    def path(self) -> Path:
        """What tells the line from every other."""
        out: list[Step | range] = []
        node: Node | None = self
        while node is not None and node.step is not None:
            out.append(node.step)
            node = node.parent
        return tuple(reversed(out))

    def decode(self, limit: float = float("inf")) -> Any:
        """Return the value with its outermost level decoded, if that is no longer than `limit` bytes; else `Raw`."""
        if isinstance(self.value, Raw) and len(memoryview(self.value)) <= limit:
            text = start_of_text(self.value)
            self.value = look_into(self.value, self.depth) if text is None else text
        return self.value

    def can_open(self) -> bool:
        """Whether anything is below it."""
        if self.masked:
            return False
        if self.is_range:
            return True
        value = self.value
        if isinstance(value, Raw):
            first = bytes(memoryview(value)[:1])
            if first in (b"{", b"["):
                return len(memoryview(value)) > 2
            return first == b'"' and len(memoryview(value)) > _LONG_CHARACTERS
        if isinstance(value, LongText):
            return True
        if isinstance(value, str):
            return has_lines(value)
        return isinstance(value, (dict, list)) and bool(value)

    def children_of(self, width: int, patterns: tuple[str, ...]) -> list[Node]:
        """Open it and return its children.

        Args:
            width: characters of one line of a text.
            patterns: the names that are masked.

        """
        self.open = True
        if self.children is None:
            self.children = list(self._range(patterns) if self.is_range else self._build(width, patterns))
        return self.children

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
            node = Node(parent, item, self.value[item], is_redacted(item, patterns))
        else:
            node = Node(parent, index, item)
        node.decode(_LINE_BYTES)
        return node


def look_into(raw: Raw, depth: int) -> Any:
    """Return what is encoded in `raw`.

    All of it if it is small, else its outermost level; a long number stays as it is.
    """
    view = memoryview(raw)
    if depth >= codec.MAX_DEPTH:
        return Broken(f"nested over {codec.MAX_DEPTH} levels deep; not shown")
    if len(view) > _LONG_CHARACTERS and view[0] in b"-0123456789":  # its digits are shown as they are stored
        return raw
    try:
        return codec.decode(bytes(raw)) if len(view) <= SMALL_BYTES else codec.decode_level(raw)
    except Damaged as error:
        return Broken(str(error))


def start_of_text(raw: Raw) -> LongText | None:
    """Return the start of a string that is too long to be shown whole; None for all else. O(TEXT_SHOWN)."""
    view = memoryview(raw)
    if len(view) <= 4 * TEXT_CHARACTERS or view[0] != ord('"'):
        return None
    for end in range(TEXT_CHARACTERS, TEXT_CHARACTERS - 16, -1):  # not inside a character or an escape
        try:
            return LongText(codec.decode(bytes(view[:end]) + b'"'), len(view))
        except Damaged:
            continue
    return None


class Tree:
    """The lines of a value, top down.

    Args:
        value: what `decode` returned, or `Raw`, which is decoded as far as it is opened.
        patterns: the names that are masked.
        hidden: whether all of it is masked.
        width: characters of one line of a text.
        kept: which lines were open (see `state`) in a tree that this one takes the place of.
        budget: lines that are opened without being asked for.

    """

    def __init__(
        self, value: Any, patterns: tuple[str, ...] = (), hidden: bool = False, width: int = _LONG_CHARACTERS,
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
        """Show a value that is no box on a line of its own."""
        self.root.depth = 0
        self.rows = [self.root]
        if self.root.can_open() and kept.get((), True):
            self.root.children_of(self.width, self.patterns)
            self.rows += _below(self.root)

    def _grow(self, kept: dict[Path, bool], budget: int) -> None:
        """Open what was open, and of what was not there what the budget allows, level by level."""
        pending = deque([self.root])
        while pending:
            node = pending.popleft()
            if node is not self.root:
                if not node.can_open():
                    continue
                wanted = kept.get(node.path)
                if wanted is None:
                    wanted = _children(node) <= budget
                if not wanted:
                    continue
            children = node.children_of(self.width, self.patterns)
            budget -= len(children)
            pending.extend(children)

    def state(self) -> dict[Path, bool]:
        """Which of the lines that can be opened are, by their paths. O(lines built)."""
        out: dict[Path, bool] = {}
        pending = [self.root]
        while pending:
            node = pending.pop()
            if node.can_open():
                out[node.path] = node.open
            pending += node.children or ()
        return out

    def rewrap(self, width: int) -> None:
        """Lines have another number of characters: texts are divided anew. O(lines built)."""
        self.width = width
        pending = [self.root]
        while pending:
            node = pending.pop()
            if isinstance(node.value, (str, LongText)) and node.children is not None:
                node.children = None
                if node.open:
                    node.children_of(width, self.patterns)
            elif node.children is not None:
                pending += node.children
        self.rows = ([self.root] if self.root.depth == 0 else []) + list(_below(self.root))

    def index_of(self, path: Path) -> int:
        """Return the index of a line by its path, or of the nearest above it that is there and visible."""
        node = self.root
        for step in path:
            found = next((child for child in node.children or () if child.step == step), None) if node.open else None
            if found is None:
                break
            node = found
        return self.rows.index(node) if node in self.rows else 0

    def open(self, index: int) -> None:
        """Open a line. O(lines below it that become visible)."""
        node = self.rows[index]
        if node.can_open() and not node.open:
            node.children_of(self.width, self.patterns)
            self.rows[index + 1 : index + 1] = _below(node)

    def collapse(self, index: int) -> None:
        """Close a line."""
        node = self.rows[index]
        if node.open:
            self.rows[index + 1 : self.end(index)] = []
            node.open = False

    def end(self, index: int) -> int:
        """Return the index after the last line that is below one."""
        depth = self.rows[index].depth
        return next((at for at in range(index + 1, len(self.rows)) if self.rows[at].depth <= depth), len(self.rows))

    def open_all(self, index: int, limit: int) -> bool:
        """Open all below a line, level by level, up to `limit` new lines; whether that was all."""
        top = self.rows[index]
        self.collapse(index)
        pending = deque([top])
        every = True
        while pending:
            node = pending.popleft()
            if not node.can_open():
                continue
            if not node.open and _children(node) > limit:
                every = False
                continue
            children = node.children_of(self.width, self.patterns)
            limit -= len(children)
            pending.extend(children)
        self.rows[index + 1 : index + 1] = _below(top)
        return every

    def sibling(self, index: int, by: int) -> int:
        """Return the index of the next (`by` 1) or the last (-1) line of the same box.

        The same index where there is none.
        """
        depth = self.rows[index].depth
        at = index + by
        while 0 <= at < len(self.rows) and self.rows[at].depth > depth:
            at += by
        return at if 0 <= at < len(self.rows) and self.rows[at].depth == depth else index

    def parent(self, index: int) -> int:
        """Return the index of the line that holds this one; the same index at the top."""
        parent = self.rows[index].parent
        at = index
        while at >= 0 and self.rows[at] is not parent:
            at -= 1
        return at if at >= 0 else index

    def expand_to(self, steps: tuple[Step, ...], at: int | None = None) -> int:
        """Open the way to a place, and return the index of its line, or of the nearest one above it that is there.

        Args:
            steps: the steps to the place.
            at: a character of the text there: its line is meant, or the one that says what is left out.

        """
        node, there = self.root, False
        way = [node]
        for step in steps:
            found = _step_into(node, step, self)
            if found is None:
                break
            way += found
            node = found[-1]
        else:
            there = True
        index = 0
        for node in way:
            if node is self.root and self.rows[:1] != [node]:
                continue
            index = self.rows.index(node, index)
            if node is not way[-1]:
                self.open(index)
        if at is not None and there and isinstance(node.decode(), (str, LongText)) and node.can_open():
            self.open(index)
            index += 1 + line_at(node.items, at)
        return index


def _below(node: Node) -> Iterator[Node]:
    """Yield the visible lines below an open one."""
    pending = list(reversed(node.children or ())) if node.open else []
    while pending:
        one = pending.pop()
        yield one
        if one.open:
            pending += reversed(one.children or ())


def _children(node: Node) -> float:
    """How many lines opening would add; infinite where it is not worth while to find out."""
    if node.children is not None:
        return len(node.children)
    if isinstance(node.step, range):
        return len(node.step)
    value = node.decode(_AUTO_OPEN_BYTES)
    if isinstance(value, str):
        return value.count("\n") + 1 if "\n" in value and len(value) <= _GLANCE_BYTES else float("inf")
    if not isinstance(value, (dict, list)):
        return float("inf") if isinstance(value, (Raw, LongText)) else 0
    return len(value) if len(value) <= CHILDREN_PER_CHUNK else -(-len(value) // CHILDREN_PER_CHUNK)


def _step_into(node: Node, step: Step, tree: Tree) -> list[Node] | None:
    """Return the lines, from a box's down to that of what it holds at a step."""
    if node.masked or not isinstance(node.decode(), (dict, list)):
        return None
    children = _peek(node, tree)
    if isinstance(node.value, dict):
        step = str(step)
        if step not in node.value:
            return None
    else:
        if isinstance(step, str):
            step = int(step) if step.isdecimal() and len(step) < 19 else -1
        if not 0 <= step < len(node.value):
            return None
    way: list[Node] = []
    if children[0].is_range:
        place = step if isinstance(step, int) else node.items.index(step)
        way = [children[place // CHILDREN_PER_CHUNK]]
        children = _peek(way[0], tree)
    return [*way, next(child for child in children if child.step == step)]


def _peek(node: Node, tree: Tree) -> list[Node]:
    """Return the children of a node, which is left open or closed as it is."""
    was = node.open
    children = node.children_of(tree.width, tree.patterns)
    node.open = was
    return children


def text_lines(text: str, width: int, whole: str = "") -> list[TextRow]:
    """Return a text in lines, those that are too long in pieces; and what of it is left out. O(TEXT_SHOWN).

    Args:
        text: the text, or its start.
        width: characters of a line.
        whole: how large all of it is, if the text is only its start.

    """
    out = list(islice(_pieces(text[:TEXT_CHARACTERS], width), TEXT_LINES))
    if whole or len(text) > TEXT_CHARACTERS or len(out) == TEXT_LINES:
        told = f"the start is shown, of {whole or f'{len(text):,} characters'}; y has the command that prints all"
        out.append(TextRow(told, said=True))
    return out


def _pieces(text: str, width: int) -> Iterator[TextRow]:
    for line in text.split("\n"):
        room = room_of(line, width)
        yield TextRow(line[:room])
        for start in range(room, len(line), room):
            yield TextRow(line[start : start + room], goes_on=True)


def has_lines(text: str) -> bool:
    """Whether a string can be opened, to be read in lines."""
    return len(text) > _LONG_CHARACTERS or "\n" in text


def room_of(line: str, width: int) -> int:
    """How many characters of a text's line are shown on one of the screen: a character may take two columns."""
    return width if line.isascii() else max(1, width // 2)


def line_at(lines: list[TextRow], at: int) -> int:
    """Return the index of the line that shows a character of a text, or else of the last.

    Which says what is left out.
    """
    end = 0
    for index, line in enumerate(lines):
        end += 0 if line.goes_on or not index else 1  # the line end between them
        if line.said or at < end + len(line.text):
            return index
        end += len(line.text)
    return len(lines) - 1


def start_of(lines: list[TextRow], index: int) -> int:
    """Return the character of a text with which a line begins."""
    return sum(len(line.text) for line in lines[:index]) + sum(not line.goes_on for line in lines[1 : index + 1])


def shown_of(text: str, width: int) -> int:
    """How many characters of a text `text_lines` lists. O(TEXT_SHOWN)."""
    if len(text) < TEXT_LINES:
        return len(text)
    pieces = islice(_pieces(text[:TEXT_CHARACTERS], width), TEXT_LINES)
    return sum(len(piece.text) + (not piece.goes_on) for piece in pieces) - 1


def pointer_of(steps: tuple[Step, ...]) -> str:
    """Return steps as a JSON Pointer."""
    return "".join(f"/{escape_token(step)}" for step in steps)


def estimate_size(value: Any, limit: int) -> int:
    """About how many bytes a value takes as JSON; anything above `limit` where it is more. O(limit / 16)."""
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
        elif isinstance(item, list) and total + 16 * len(item) <= limit:
            pending += item
        elif isinstance(item, list):
            total = limit + 1
    return total


# --- words -------------------------------------------------------------------------------------------------------


def scalar(value: Any, room: int) -> str:
    """Return what a value is in at most about `room` characters of JSON; a box is `{…}` or `[…]`. O(room)."""
    if isinstance(value, Raw):
        view = memoryview(value)
        start = bytes(view[: room + 1])
        if start[:1] in (b"{", b"["):
            return _empty(start[:2]) or ("{…}" if start[:1] == b"{" else "[…]")
        text = start[:room].decode(errors="replace")
        return text if len(view) <= room else text + "…"
    if isinstance(value, dict):
        return "{…}" if value else "{}"
    if isinstance(value, list):
        return "[…]" if value else "[]"
    if isinstance(value, str):
        text = codec.encode(value[:room]).decode()
        return text if len(value) <= room else text[:-1] + "…"
    if type(value) is int and value.bit_length() > 400_000:  # it would take seconds to write down
        return f"(about {value.bit_length() * 30103 // 100_000:,} digits)"
    text = codec.encode(value).decode()
    return text if len(text) <= room else text[:room] + "…"


def _empty(start: bytes) -> str:
    return start.decode() if start in (b"{}", b"[]") else ""


def label(step: Step) -> str:
    """Return a member's name, or an index. A name that could be taken for something else is in quotes."""
    if isinstance(step, int):
        return str(step)
    return step if len(step) < _LONG_CHARACTERS and _PLAIN.fullmatch(step) else codec.encode(step).decode()


def preview(node: Node, room: int, patterns: tuple[str, ...]) -> str:
    """Return the first things that a folded box holds, in at most `room` characters."""
    value = node.decode(_GLANCE_BYTES)
    parts: list[str] = []
    if isinstance(value, dict):
        for name, item in islice(value.items(), _PREVIEW_CHILDREN):
            parts.append(f"{label(name)}: {MASK if is_redacted(name, patterns) else scalar(item, 24)}")
    elif isinstance(value, list):
        parts = [scalar(item, 24) for item in islice(value, _PREVIEW_CHILDREN)]
    more = parts and len(value) > len(parts)
    return (", ".join(parts) + (", …" if more else ""))[:room]
