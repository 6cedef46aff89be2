"""Short excerpts of JSON values, names and boxes (objects and arrays), for one row of the screen."""

from __future__ import annotations

import re
from itertools import islice
from typing import Any

from msgspec import Raw

from .... import codec
from ...display.redaction import MASK, is_redacted
from .json_nodes import GLANCE_BYTES, Node, Step
from .json_text import LONG_CHARACTERS

_PREVIEW_CHILDREN = 8  # members of a closed box in its preview
_PREVIEW_CHARACTERS = 24  # characters of each of them
_MAX_BITS = 400_000  # of an integer that is written out: more take seconds
_PLAIN = re.compile(r"[A-Za-z_$][\w$-]*")


def scalar(value: Any, room: int) -> str:
    """Return a value in about `room` characters of JSON. A box is `{…}` or `[…]`. O(room)."""
    if isinstance(value, Raw):
        view = memoryview(value)
        start = bytes(view[: room + 1])
        if start[:2] in (b"{}", b"[]"):
            return start[:2].decode()
        if start[:1] in (b"{", b"["):
            return "{…}" if start[:1] == b"{" else "[…]"
        text = start[:room].decode(errors="replace")
        return text if len(view) <= room else text + "…"
    if isinstance(value, dict):
        return "{…}" if value else "{}"
    if isinstance(value, list):
        return "[…]" if value else "[]"
    if isinstance(value, str):
        text = codec.encode(value[:room]).decode()
        return text if len(value) <= room else text[:-1] + "…"
    if type(value) is int and value.bit_length() > _MAX_BITS:
        return f"(about {value.bit_length() * 30103 // 100_000:,} digits)"
    text = codec.encode(value).decode()
    return text if len(text) <= room else text[:room] + "…"


def label(step: Step) -> str:
    """Return the name of a member, or an index. A name that looks like something else is in quotes."""
    if isinstance(step, int):
        return str(step)
    return step if len(step) < LONG_CHARACTERS and _PLAIN.fullmatch(step) else codec.encode(step).decode()


def preview(node: Node, room: int, patterns: tuple[str, ...]) -> str:
    """Return the first members of a closed box in at most `room` characters."""
    box = node.decode(GLANCE_BYTES)
    parts: list[str] = []
    if isinstance(box, dict):
        for name, member in islice(box.items(), _PREVIEW_CHILDREN):
            text = MASK if is_redacted(name, patterns, member) else scalar(member, _PREVIEW_CHARACTERS)
            parts.append(f"{label(name)}: {text}")
    elif isinstance(box, list):
        parts = [scalar(element, _PREVIEW_CHARACTERS) for element in islice(box, _PREVIEW_CHILDREN)]
    more = parts and len(box) > len(parts)
    return (", ".join(parts) + (", …" if more else ""))[:room]
