"""Values and durations as they are typed."""

from __future__ import annotations

from typing import Any

from .. import codec
from .exit_codes import UsageError

DURATIONS = "90 (seconds), 15m, 2h or 7d"


def read_value(text: str, string: bool = False, json: bool = False) -> Any:
    """Return a typed value: JSON if it is valid, otherwise a string. `-` reads standard input, `@FILE` reads a file.

    Text that starts like an object, an array or a string must be valid JSON. `NaN`, `007` and `1e400` are strings.

    Raises:
        UsageError: the JSON is not valid (with a caret under the position), or the file cannot be read.

    """
    if string and json:
        raise UsageError("--string and --json exclude each other")
    if not string or text == "-":
        text = _fetch(text)
    if string:
        return text
    from ..states.values.value_text import parse_value  # imported here: a load needs none

    return parse_value(text, json)


def _fetch(text: str) -> str:
    if text == "-":
        from ..transfer.standard_input import standard_input

        data, name = standard_input("Give the value, or @FILE").read(), "standard input"
    elif text.startswith("@") and len(text) > 1:
        name = text[1:]
        try:
            with open(name, "rb") as file:
                data = file.read()
        except OSError as error:
            raise UsageError(
                f"{name}: {error.strerror}", "To save a string that starts with @, use --string"
            ) from error
    else:
        return text
    try:
        return codec.decode_text(data).rstrip("\n")
    except UnicodeDecodeError as error:
        raise UsageError(f"{name} {codec.text_fault(error)}", codec.SAVE_AS_UTF8) from error


def parse_duration(text: str) -> float | None:
    """Return a duration in seconds: `90`, or with a unit of `refs.parse_age`, such as `15m`, `2h`, `7d`.

    Returns None if it is not a duration, below zero, or longer than an expiry can be.
    """
    from ..refs import parse_age

    text = text.strip()
    try:
        seconds = parse_age(text) / 1_000_000 if text[-1:].isalpha() else float(text)
    except ValueError:
        return None
    return seconds if 0 <= seconds < 1e10 else None


def parse_seconds(text: str) -> float | None:
    """Return the seconds until a key expires, as `parse_duration` does, and None for zero too."""
    return parse_duration(text) or None


def type_name(value: Any) -> str:
    """Return the JSON name of a value's type."""
    if value is None:
        return "null"
    kinds = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
    return kinds[type(value)]


def place_hint(key: str, pointer: str) -> str:
    """Return the hint for a place that was given in two words to a command that takes it in one."""
    from shlex import quote

    return f"Give a place in one word, with #: {quote(f'{key}#{pointer}')}"
