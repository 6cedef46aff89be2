"""JSONPath (RFC 9535) over values. The library reads the query; the regular expressions in it are bounded here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

from jsonpath import UNDEFINED, JSONPath, JSONPathEnvironment, JSONPathError, JSONPathMatch, NodeList
from jsonpath.function_extensions import ExpressionType, FilterFunction

from ..codec import MAX_DEPTH
from .exit_codes import UsageError
from .regular_expressions import RegularExpression

Steps = tuple[int | str, ...]
_COMPARISONS = ("==", "!=", "<", "<=", ">", ">=")
_ANY = r"[^\r\n]"  # what `.` stands for in I-Regexp (RFC 9485)


class _Matches(FilterFunction):
    """The function `match` or `search` of a filter. It is false for what is not text or not an expression."""

    arg_types = [ExpressionType.VALUE, ExpressionType.VALUE]  # noqa: RUF012 - as the library declares it
    return_type = ExpressionType.LOGICAL

    def __init__(self, whole: bool) -> None:
        @lru_cache(maxsize=300)
        def compiled(pattern: str) -> RegularExpression | None:
            try:
                return RegularExpression(pattern, whole, dot=_ANY)
            except UsageError:
                return None

        self._compiled = compiled

    def __call__(self, text: object, pattern: object) -> bool:
        if not isinstance(text, str) or not isinstance(pattern, str):
            return False
        expression = self._compiled(pattern)
        return expression is not None and expression.search(text) is not None


class _Environment(JSONPathEnvironment):
    max_recursion_depth = MAX_DEPTH + 1  # it counts the texts inside the innermost box

    def setup_function_extensions(self) -> None:
        super().setup_function_extensions()
        self.function_extensions["match"] = _Matches(whole=True)
        self.function_extensions["search"] = _Matches(whole=False)

    def compare(self, left: object, operator: str, right: object) -> bool:
        """Compare as RFC 9535 does. The library takes booleans for numbers, inside of boxes and for `<`."""
        if operator not in _COMPARISONS:
            return super().compare(left, operator, right)
        left, right = _single(left), _single(right)
        if "=" in operator and _equal(left, right):
            return operator != "!="
        if operator in ("==", "!="):
            return operator == "!="
        return not isinstance(left, bool) and not isinstance(right, bool) and super().compare(left, operator[0], right)


def _single(operand: object) -> object:
    """Return the value of a query that can select one node at most, and any other operand as it is."""
    if isinstance(operand, NodeList):
        return operand[0].obj if operand else UNDEFINED
    return operand


def _equal(left: Any, right: Any) -> bool:
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_equal(item, right[name]) for name, item in left.items())
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_equal, left, right))
    return isinstance(left, bool) == isinstance(right, bool) and bool(left == right)


def compile_query(expression: str) -> Callable[[Any], Iterator[tuple[Steps, Any]]]:
    """Return a function that yields the steps and the value of each place that a JSONPath selects in a value.

    Raises:
        UsageError: it is not a JSONPath; or, from the iterator, it is nested too deep, or a search in it took too long.

    """
    shown = repr(expression[:60])
    try:
        compiled = _Environment(strict=True).compile(expression)
    except RecursionError as error:
        raise UsageError(f"the JSONPath {shown} is nested too deep") from error
    except JSONPathError as error:
        place = f" at character {error.token.index + 1}" if error.token is not None else ""
        raise UsageError(
            f"{shown} is not a JSONPath: {error.message}{place}", "It is as '$.tasks[0]' or '$..state'"
        ) from error
    except (ValueError, OverflowError) as error:  # a number that Python cannot read
        raise UsageError(f"{shown} is not a JSONPath: {error}") from error
    assert isinstance(compiled, JSONPath), "RFC 9535 joins no paths"

    def select(value: Any) -> Iterator[tuple[Steps, Any]]:
        # not `compiled.finditer`, which would decode a text as JSON
        root = JSONPathMatch(filter_context={}, obj=value, parent=None, path="$", parts=(), root=value)
        nodes: Any = [root]
        try:
            for segment in compiled.segments:
                nodes = segment.resolve(nodes)
            for node in nodes:
                yield node.parts, node.obj
        except RecursionError as error:
            raise UsageError(f"the JSONPath {shown} is nested too deep") from error

    return select
