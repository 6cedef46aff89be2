"""JSON Pointers (RFC 6901): escape, split and resolve."""

from __future__ import annotations

from typing import Any

from ..model import ABSENT


def escape_token(token: str | int) -> str:
    """Escape `~` and `/` in an object's member name, or write an array's index (RFC 6901, section 3)."""
    return str(token).replace("~", "~0").replace("/", "~1")


def unescape_token(token: str) -> str:
    """Return the member name of an escaped token."""
    return token.replace("~1", "/").replace("~0", "~")


def split_pointer(pointer: str) -> list[str]:
    """Return the unescaped tokens of a pointer; the empty pointer has none."""
    return [unescape_token(token) for token in pointer.split("/")[1:]]


def resolve_pointer(value: Any, pointer: str) -> Any:
    """Return the part of a value that a pointer names, or `ABSENT`.

    Raises:
        ValueError: the pointer is neither empty nor starts with `/`.

    """
    if pointer and not pointer.startswith("/"):
        raise ValueError(f"{pointer!r} is not a JSON Pointer: it must start with '/'")
    for token in split_pointer(pointer):
        if isinstance(value, dict) and token in value:
            value = value[token]
        elif isinstance(value, list) and _is_index(token) and int(token) < len(value):
            value = value[int(token)]
        else:
            return ABSENT
    return value


def _is_index(token: str) -> bool:
    return token == "0" or (token.isascii() and token.isdigit() and token[0] != "0" and len(token) <= 18)
