"""The texts that can be copied from a row of a JSON value. All are safe to paste."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from typing import Any, NamedTuple

from msgspec import Raw

from .... import codec
from ...display.redaction import masked_places
from ...display.text import format_size
from .json_nodes import Broken, LongText, Node, estimate_size

LEAF_CHARACTERS = 2_000  # a longer value is edited on a screen of its own
CLIPBOARD_BYTES = 1_000_000  # bytes of a value that is copied, at most


class CopyOptions(NamedTuple):
    """The texts that can be copied.

    Attributes:
        texts: a label and a text each.
        refused: why the value is not among them, and the command that prints it; "" if it is.

    """

    texts: list[tuple[str, str]]
    refused: str


def refused(node: Node, patterns: tuple[str, ...]) -> str:
    """Return why the value of a row cannot be copied; "" if it can. O(CLIPBOARD_BYTES)."""
    value = _whole(node)
    if node.masked:
        return "masked values are not copied"
    if isinstance(value, Broken):
        return "the value cannot be decoded"
    if estimate_size(value, CLIPBOARD_BYTES) > CLIPBOARD_BYTES:
        return f"values over {format_size(CLIPBOARD_BYTES)} are not copied"
    if not patterns:
        return ""
    place = next(masked_places(decoded(value), patterns), None)
    return "" if place is None else f"the value holds a masked value at {node.pointer}{place}"


def text_of(node: Node) -> str:
    """Return the value of a row as text: a string without quotes, any other value as JSON."""
    value = decoded(_whole(node))
    if isinstance(value, str):
        return value
    return codec.pretty(codec.encode(value)).decode()


def leaf_of(node: Node) -> str | None:
    """Return a row's value as JSON, if it is short enough for a line and holds no others; else None."""
    value = node.value
    if node.masked or node.is_range or node.is_line or isinstance(value, (Broken, LongText)):
        return None
    if estimate_size(value, LEAF_CHARACTERS) > LEAF_CHARACTERS:
        return None
    value = decoded(value)
    if isinstance(value, (dict, list)):
        return None
    text = codec.encode(value).decode()
    return text if len(text) <= LEAF_CHARACTERS and "\\n" not in text and text.isprintable() else None


def load_line(key: str, pointer: str, at: str | None = None, where: Iterable[str] = ()) -> str:
    """Return the command line that prints a value, or a part of it.

    Args:
        key: its key.
        pointer: the JSON Pointer of the part; "" for all.
        at: the ref of the state; None is live.
        where: the options that name the store and the namespace.

    """
    words = [
        *where,
        "load",
        *(["--at", at] if at else []),
        *(["--"] if key.startswith("-") else []),
        key,
        *([pointer] if pointer else []),
    ]
    return " ".join(["stateview", *map(shell_word, words)])


def shell_word(word: str) -> str:
    """Quote a word for a shell (bash, zsh, ksh). Control characters are written as escapes. O(length)."""
    if word.isprintable():
        return shlex.quote(word)
    plain = word.replace("\\", "\\\\").replace("'", "\\'")
    return "$'" + "".join(sign if sign.isprintable() else _escape(sign) for sign in plain) + "'"


def _escape(sign: str) -> str:
    return f"\\x{ord(sign):02x}" if ord(sign) < 0x80 else f"\\U{ord(sign):08x}"


def _whole(node: Node) -> Any:
    """Return the value of a row. A range, and a row of a text, have the value of their parent."""
    while (node.is_line or node.is_range) and node.parent is not None:
        node = node.parent
    return node.value


def decoded(value: Any) -> Any:
    """Decode a value with all encoded parts inside it. O(size)."""
    if isinstance(value, (bytes, Raw)):
        return codec.decode(bytes(value))
    if isinstance(value, dict):
        return {name: decoded(item) for name, item in value.items()}
    return [decoded(item) for item in value] if isinstance(value, list) else value
