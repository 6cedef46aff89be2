"""JSON Pointers (RFC 6901): escape, split and resolve."""

from __future__ import annotations

from typing import Any

from ...errors import InvalidName
from ...model import ABSENT


def escape_token(token: str | int) -> str:
    """Escape `~` and `/` in an object's member name, or write an array's index (RFC 6901, section 3)."""
    return str(token).replace("~", "~0").replace("/", "~1")


def unescape_token(token: str) -> str:
    """Return the member name of an escaped token."""
    return token.replace("~1", "/").replace("~0", "~")


def split_pointer(pointer: str) -> list[str]:
    """Return the unescaped tokens of a pointer; the empty pointer has none.

    Raises:
        InvalidName: the pointer is neither empty nor starts with `/`, or holds a `~` that is not part of `~0` or `~1`.

    """
    if pointer and not pointer.startswith("/"):
        raise InvalidName(f"{pointer[:100]!r} is not a JSON Pointer: it must start with '/'")
    if "~" in pointer.replace("~0", ".").replace("~1", "."):
        raise InvalidName(
            f"{pointer[:100]!r} is not a JSON Pointer: ~ is not followed by 0 or 1", "Write ~0 for ~, and ~1 for /"
        )
    return [unescape_token(token) for token in pointer.split("/")[1:]]


def resolve_pointer(value: Any, pointer: str) -> Any:
    """Return the part of a value that a pointer names, or `ABSENT`. Raises what `split_pointer` raises."""
    for token in split_pointer(pointer):
        if isinstance(value, dict) and token in value:
            value = value[token]
        elif isinstance(value, list) and is_index(token) and int(token) < len(value):
            value = value[int(token)]
        else:
            return ABSENT
    return value


def is_index(token: str) -> bool:
    """Return whether a token is an index of an array: digits without a leading zero."""
    return token == "0" or (token.isascii() and token.isdigit() and token[0] != "0" and len(token) <= 18)
