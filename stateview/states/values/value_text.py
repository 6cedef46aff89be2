"""Values as text that a person typed: JSON if it is valid, otherwise a string."""

from __future__ import annotations

from typing import Any

from ... import codec
from ...errors import InvalidArgument

_JSON_STARTS = ("{", "[", '"')
USE_STRING = "To save it as a string, use --string"


def parse_value(text: str, must: bool = False) -> Any:
    """Return the JSON value of a text, or the text itself if it is not JSON.

    With `must`, and if the text starts like an object, an array or a string, it has to be valid JSON.

    Raises:
        InvalidArgument: the JSON is not valid, or the text starts with a byte order mark.

    """
    from json import JSONDecodeError

    if text.startswith("\ufeff"):
        raise InvalidArgument(
            "the value starts with a byte order mark", "Remove it, or use --string to save it as text"
        )
    try:
        return codec.parse_strict(text)
    except RecursionError:
        raise InvalidArgument(f"the value is nested over {codec.MAX_DEPTH} levels deep", USE_STRING) from None
    except ValueError as error:
        if not must and not text.lstrip().startswith(_JSON_STARTS):
            return text
        reason = str(error)
        if isinstance(error, JSONDecodeError):
            reason = f"{error.msg}\n{caret_line(text, error.pos)}"
        raise InvalidArgument(f"not valid JSON: {reason}", USE_STRING) from None


def caret_line(text: str, position: int, width: int = 72) -> str:
    """Return the line around a position of a text, at most `width` columns of it, and a caret under the position."""
    start = text.rfind("\n", 0, position) + 1
    end = text.find("\n", position)
    line = text[start : end if end >= 0 else len(text)]
    column = position - start
    cut = max(0, column - width // 2)
    shown = "".join(sign if sign.isprintable() else "\ufffd" for sign in line[cut : cut + width])
    return f"  {shown}\n  {' ' * (column - cut)}^"
