"""Values and durations as they are typed."""

from __future__ import annotations

from typing import Any

from .. import codec
from .exit_codes import UsageError

_JSON_STARTS = ("{", "[", '"')
USE_STRING = "To save it as a string, use --string"
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
    return text if string else parse_value(text, json)


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


def parse_value(text: str, must: bool = False) -> Any:
    """Return the JSON value of a text, or the text itself if it is not JSON.

    With `must`, and if the text starts like an object, an array or a string, it has to be valid JSON.

    Raises:
        UsageError: the JSON is not valid, or the text starts with a byte order mark.

    """
    from json import JSONDecodeError

    if text.startswith("\ufeff"):
        raise UsageError("the value starts with a byte order mark", "Remove it, or use --string to save it as text")
    try:
        return codec.parse_strict(text)
    except RecursionError:
        raise UsageError(f"the value is nested over {codec.MAX_DEPTH} levels deep", USE_STRING) from None
    except ValueError as error:
        if not must and not text.lstrip().startswith(_JSON_STARTS):
            return text
        reason = str(error)
        if isinstance(error, JSONDecodeError):
            reason = f"{error.msg}\n{caret_line(text, error.pos)}"
        raise UsageError(f"not valid JSON: {reason}", USE_STRING) from None


def caret_line(text: str, position: int, width: int = 72) -> str:
    """Return the line around a position of a text, at most `width` columns of it, and a caret under the position."""
    start = text.rfind("\n", 0, position) + 1
    end = text.find("\n", position)
    line = text[start : end if end >= 0 else len(text)]
    column = position - start
    cut = max(0, column - width // 2)
    shown = "".join(sign if sign.isprintable() else "\ufffd" for sign in line[cut : cut + width])
    return f"  {shown}\n  {' ' * (column - cut)}^"


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
