"""The VALUE slot: what a person types as a value, and what it is called."""

from __future__ import annotations

import sys
from typing import Any

from .. import codec
from .exit_codes import UsageError

_STARTS = ("{", "[", '"')
LENGTHS = "90 (seconds), 15m, 2h or 7d"  # how a length of time is typed


def read_value(text: str, string: bool = False, json: bool = False) -> Any:
    """A typed value: JSON where it is valid, else a string. `-` is standard input and `@FILE` a file.

    What starts like an object, an array or a string must be valid JSON; `NaN`, `007` and `1e400` are strings.

    Raises:
        UsageError: broken JSON (with a caret under the place), or a file that cannot be read.

    """
    if string and json:
        raise UsageError("--string and --json exclude each other")
    if not string or text == "-":
        text = _fetch(text)
    return text if string else parse_value(text, json)


def _fetch(text: str) -> str:
    if text == "-":
        data, where = sys.stdin.buffer.read(), "standard input"
    elif text.startswith("@") and len(text) > 1:
        where = text[1:]
        try:
            with open(where, "rb") as file:
                data = file.read()
        except OSError as error:
            raise UsageError(f"{where}: {error.strerror}", "For a string that starts with @, use --string") from error
    else:
        return text
    try:
        return data.decode().rstrip("\n")
    except UnicodeDecodeError as error:
        raise UsageError(f"{where} is not UTF-8 text: {error.reason} at byte {error.start}") from error


def parse_value(text: str, must: bool = False) -> Any:
    """JSON, or, unless it `must` be or starts like it, the text itself.

    Raises:
        UsageError: broken JSON.

    """
    from json import JSONDecodeError

    try:
        return codec.parse_strict(text)
    except JSONDecodeError as error:
        if not must and not text.lstrip().startswith(_STARTS):
            return text
        raise UsageError(
            f"not valid JSON: {error.msg}\n{caret_line(text, error.pos)}", "To save it as text, use --string"
        ) from None
    except (ValueError, RecursionError) as error:
        if not must and not text.lstrip().startswith(_STARTS):
            return text
        raise UsageError(f"not valid JSON: {error}", "To save it as text, use --string") from None


def caret_line(text: str, position: int, width: int = 72) -> str:
    """The line of a text around a position, and a caret under it."""
    start = text.rfind("\n", 0, position) + 1
    end = text.find("\n", position)
    line = text[start : end if end >= 0 else len(text)]
    column = position - start
    cut = max(0, column - width // 2)
    shown = "".join(sign if sign.isprintable() else "\ufffd" for sign in line[cut : cut + width])
    return f"  {shown}\n  {' ' * (column - cut)}^"


def parse_duration(text: str) -> float | None:
    """A length of time in seconds: `90`, or with a unit of `retention.to_micros`, such as `15m`, `2h`, `7d`.

    None where it is none, below zero, or longer than a key can have.
    """
    from ..states.retention import to_micros

    text = text.strip()
    try:
        seconds = to_micros(text) / 1_000_000 if text[-1:].isalpha() else float(text)
    except ValueError:
        return None
    return seconds if 0 <= seconds < 1e10 else None


def parse_seconds(text: str) -> float | None:
    """As `length_of`, and None for zero: in how many seconds a key expires."""
    return parse_duration(text) or None


def type_name(value: Any) -> str:
    """JSON's word for a value's type."""
    if value is None:
        return "null"
    kinds = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
    return kinds[type(value)]
