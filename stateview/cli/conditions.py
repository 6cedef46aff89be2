"""Conditions on a value: `[PATH] OPERATOR [VALUE]`, as `assert`, `wait` and `bisect` take them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from .. import codec
from ..model import ABSENT
from .exit_codes import UsageError
from .values import parse_value

OPERATORS = ("==", "!=", "<", "<=", ">", ">=", "contains", "matches", "exists", "missing")
_UNARY = ("exists", "missing")
_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "<": lambda one, other: one < other,
    "<=": lambda one, other: one <= other,
    ">": lambda one, other: one > other,
    ">=": lambda one, other: one >= other,
}


class Condition(NamedTuple):
    """A parsed condition; `text` is the VALUE as it was typed."""

    path: str
    operator: str
    value: Any
    text: str

    def __str__(self) -> str:
        return " ".join(part for part in (self.path, self.operator, self.text) if part)

    def is_true(self, value: Any) -> bool:
        """Whether it is true of a key's value (`ABSENT`: the key has none). What cannot be compared is not true."""
        from ..states.pointers import resolve_pointer

        found = ABSENT if value is ABSENT else resolve_pointer(value, self.path)
        if self.operator in _UNARY:
            return (found is ABSENT) == (self.operator == "missing")
        if found is ABSENT:
            return self.operator == "!="
        if self.operator in ("==", "!="):
            return (codec.canonical(found) == codec.canonical(self.value)) == (self.operator == "==")
        if self.operator == "contains":
            return _contains(found, self.value)
        if self.operator == "matches":
            return isinstance(found, str) and re.search(self.value, found) is not None
        return _comparable(found, self.value) and _ORDER[self.operator](found, self.value)


def _contains(found: Any, wanted: Any) -> bool:
    if isinstance(found, str):
        return isinstance(wanted, str) and wanted in found
    if isinstance(found, dict):
        return isinstance(wanted, str) and wanted in found
    return isinstance(found, list) and codec.canonical(wanted) in [codec.canonical(item) for item in found]


def _comparable(one: Any, other: Any) -> bool:
    numbers = (int, float)
    if isinstance(one, numbers) and isinstance(other, numbers):
        return not isinstance(one, bool) and not isinstance(other, bool)
    return isinstance(one, str) and isinstance(other, str)


def parse_condition(words: list[str]) -> Condition:
    """Take the words of a condition.

    Raises:
        UsageError: they are none; the message says what is missing.

    """
    rest = list(words)
    path = rest.pop(0) if rest and (rest[0].startswith("/") or rest[0] == "") else ""
    if not rest or rest[0] not in OPERATORS:
        found = f", not {rest[0][:40]!r}" if rest else ""
        raise UsageError(f"an operator is due{found}", f"Choose one of {' '.join(OPERATORS)}")
    operator = rest.pop(0)
    if operator in _UNARY:
        if rest:
            raise UsageError(f"{operator} takes no value, and {rest[0][:40]!r} follows it")
        return Condition(path, operator, None, "")
    if len(rest) != 1:
        raise UsageError(f"one value is due after {operator}", "Quote it where it has spaces")
    value = parse_value(rest[0])
    if operator == "matches":
        try:
            value = rest[0] if not isinstance(value, str) else value
            re.compile(value)
        except re.error as error:
            raise UsageError(f"{rest[0][:60]!r} is not a regular expression: {error}") from error
    return Condition(path, operator, value, rest[0])
