"""What can be copied of a line of a JSON value, as text that is safe to paste."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from typing import Any, NamedTuple

from msgspec import Raw

from ... import codec
from ..display.redaction import masked_places
from ..display.text import format_size
from .json_tree import Broken, Node, estimate_size

CLIPBOARD_BYTES = 1_000_000  # bytes of a value that can be put into a clipboard


class CopyOptions(NamedTuple):
    """What can be copied, as labels and texts; and why the value cannot, and how to get it, if it cannot."""

    texts: list[tuple[str, str]]
    refused: str


def refused(node: Node, patterns: tuple[str, ...]) -> str:
    """Why the value of a line is not copied; empty where it can be. O(COPIED)."""
    value = _whole(node)
    if node.masked:
        return "masked values are not copied"
    if isinstance(value, Broken):
        return "it cannot be decoded"
    if estimate_size(value, CLIPBOARD_BYTES) > CLIPBOARD_BYTES:
        return f"over {format_size(CLIPBOARD_BYTES)} are too much for a clipboard"
    if not patterns:
        return ""
    place = next(masked_places(decoded(value), patterns), None)
    return "" if place is None else f"it holds a masked value at {node.pointer}{place}"


def text_of(node: Node) -> str:
    """Return the value of a line as text: a string as it is, all else as JSON."""
    value = decoded(_whole(node))
    if isinstance(value, str):
        return value
    return codec.pretty(codec.encode(value)).decode()


def load_line(key: str, pointer: str, at: str | None = None, where: Iterable[str] = ()) -> str:
    """Return the command line that prints a place inside a value.

    Args:
        key: of the value.
        pointer: of the place.
        at: the ref that is looked at; None is live.
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
    """Return a word as a shell (bash, zsh, ksh) reads it.

    What a terminal would obey is spelled out in it. O(length).
    """
    if word.isprintable():
        return shlex.quote(word)
    plain = word.replace("\\", "\\\\").replace("'", "\\'")
    return "$'" + "".join(sign if sign.isprintable() else _spelled(sign) for sign in plain) + "'"


def _spelled(sign: str) -> str:
    return f"\\x{ord(sign):02x}" if ord(sign) < 0x80 else f"\\U{ord(sign):08x}"


def _whole(node: Node) -> Any:
    """Return the value that a line shows, or is a part of."""
    while (node.is_line or node.is_range) and node.parent is not None:
        node = node.parent
    return node.value


def decoded(value: Any) -> Any:
    """Return a value, or its bytes, with nothing left encoded in it. O(size)."""
    if isinstance(value, (bytes, Raw)):
        return codec.decode(bytes(value))
    if isinstance(value, dict):
        return {name: decoded(item) for name, item in value.items()}
    return [decoded(item) for item in value] if isinstance(value, list) else value
