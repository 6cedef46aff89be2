"""Conditions on a value, for `wait`, `assert` and `bisect`: `[PATH] OPERATOR [VALUE]`."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, NamedTuple

from .. import codec
from ..errors import InvalidArgument
from ..model import ABSENT
from .matching.regular_expressions import RegularExpression
from .values.pointers import resolve_pointer, split_pointer
from .values.value_text import parse_value

OPERATORS = ("==", "!=", "<", "<=", ">", ">=", "contains", "matches", "exists", "missing")
_UNARY = ("exists", "missing")
_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class Condition(NamedTuple):
    """A parsed condition. `text` is the VALUE as it was typed; `value` is a `RegularExpression` for `matches`."""

    path: str
    operator: str
    value: Any
    text: str

    def __str__(self) -> str:
        return " ".join(part for part in (self.path, self.operator, self.text) if part)

    @property
    def needs_value(self) -> bool:
        """Whether more must be known of a value than that it exists."""
        return bool(self.path) or self.operator not in _UNARY

    def is_true(self, value: Any) -> bool:
        """Return whether the condition is true for a value or `ABSENT`. Values that cannot be ordered make it false."""
        part = ABSENT if value is ABSENT else resolve_pointer(value, self.path)
        if self.operator in _UNARY:
            return (part is ABSENT) == (self.operator == "missing")
        if part is ABSENT:
            return self.operator == "!="
        if self.operator in ("==", "!="):
            return (codec.canonical(part) == codec.canonical(self.value)) == (self.operator == "==")
        if self.operator == "contains":
            return _contains(part, self.value)
        if self.operator == "matches":
            return isinstance(part, str) and self.value.search(part) is not None
        return _ordered(part, self.value) and _ORDER[self.operator](part, self.value)


def _contains(container: Any, wanted: Any) -> bool:
    if isinstance(container, (str, dict)):
        return isinstance(wanted, str) and wanted in container
    return isinstance(container, list) and codec.canonical(wanted) in [codec.canonical(item) for item in container]


def _ordered(left: Any, right: Any) -> bool:
    """Return whether both are numbers or both are strings. A boolean is not a number here."""
    numbers = (int, float)
    if isinstance(left, numbers) and isinstance(right, numbers):
        return not isinstance(left, bool) and not isinstance(right, bool)
    return isinstance(left, str) and isinstance(right, str)


def parse_text(text: str) -> Condition:
    """Parse a condition that is one text, such as `/tasks/0/state != running`. VALUE is all that follows the operator.

    Raises:
        InvalidArgument: it is not a condition.

    """
    import re  # imported here: the faces have words

    for word in re.finditer(r"\S+", text):
        path = text[: word.start()].strip()
        if word[0] in OPERATORS and (not path or path.startswith("/")):
            value = text[word.end() :].strip()
            return parse_condition([*filter(None, (path,)), word[0], *filter(None, (value,))])
    return parse_condition(text.split())


def parse_condition(words: list[str]) -> Condition:
    """Parse the words of a condition.

    Raises:
        InvalidName: the path is not a JSON Pointer.
        InvalidArgument: they are not a condition; the message names the missing part.

    """
    rest = list(words)
    path = rest.pop(0) if rest and (rest[0].startswith("/") or rest[0] == "") else ""
    split_pointer(path)
    if not rest or rest[0] not in OPERATORS:
        instead = f", not {rest[0][:40]!r}" if rest else ""
        raise InvalidArgument(f"expected an operator{instead}", f"Choose one of {' '.join(OPERATORS)}")
    sign = rest.pop(0)
    if sign in _UNARY:
        if rest:
            raise InvalidArgument(f"{sign} takes no value, but {rest[0][:40]!r} follows it")
        return Condition(path, sign, None, "")
    if len(rest) != 1:
        raise InvalidArgument(f"expected one value after {sign}, not {len(rest)}", "Quote a value that contains spaces")
    value = parse_value(rest[0])
    if sign == "matches":
        value = RegularExpression(value if isinstance(value, str) else rest[0])
    return Condition(path, sign, value, rest[0])
