"""JSONPath (RFC 9535): read a query strictly, and select the places of a value that it names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple, NoReturn

from ..codec import MAX_DEPTH
from ..errors import InvalidArgument
from ..model import ABSENT
from ..states.matching.regular_expressions import RegularExpression
from .exit_codes import UsageError

Steps = tuple[int | str, ...]
Node = tuple[Steps, Any]
_Selector = Callable[[Any, Any], Iterator[tuple[int | str, Any]]]  # of a value and the root: its chosen children
_Test = Callable[[Any, Any], bool]  # of the current value and the root

_MAX_NESTED = 50  # filters, parentheses and functions inside each other
_MAX_INDEX = 2**53 - 1
_ANY = r"[^\r\n]"  # what `.` stands for in I-Regexp (RFC 9485)
_ESCAPED = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "/": "/", "\\": "\\", "'": "'", '"': '"'}
_INT, _BLANK = r"(?:0|-?[1-9][0-9]*)", r"[ \t\r\n]*"
_LETTER = r"A-Za-z_\x80-\ud7ff\ue000-\U0010ffff"

_BLANKS = re.compile(_BLANK)
_INDEX = re.compile(_INT)
_SLICE = re.compile(rf"(?:({_INT}){_BLANK})?:{_BLANK}(?:({_INT}){_BLANK})?(?::(?:{_BLANK}({_INT}))?)?")
_NAME = re.compile(rf"[{_LETTER}][0-9{_LETTER}]*")
_STRING = re.compile(r"""(["'])((?:\\.|(?!\1)[^\\\x00-\x1f\ud800-\udfff])*)\1""", re.DOTALL)
_ESCAPE = re.compile(
    r"\\(?:u([dD][89abAB][0-9A-Fa-f]{2})\\u([dD][c-fC-F][0-9A-Fa-f]{2})|u((?![dD][89a-fA-F])[0-9A-Fa-f]{4})|(.))",
    re.DOTALL,
)
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_WORD = re.compile(r"(true|false|null)(?![A-Za-z0-9_])")
_FUNCTION = re.compile(r"([a-z][a-z0-9_]*)\(")
_COMPARISON = re.compile(r"==|!=|<=|>=|<|>")


class _Segment(NamedTuple):
    descends: bool
    selectors: list[_Selector]

    def select(self, nodes: Iterator[Node], root: Any) -> Iterator[Node]:
        for node in nodes:
            for steps, value in _descendants(node) if self.descends else (node,):
                for selector in self.selectors:
                    for step, child in selector(value, root):
                        yield (*steps, step), child


class _Query(NamedTuple):
    """The segments after `$` or `@`. A singular query selects one node at most, by names and indexes alone."""

    from_root: bool
    segments: list[_Segment]
    singular: bool

    def nodes(self, value: Any, root: Any) -> Iterator[Node]:
        """Yield the nodes, from the root or from the current value."""
        nodes: Iterator[Node] = iter([((), root if self.from_root else value)])
        if len(self.segments) > MAX_DEPTH:  # each goes at least one level down
            return iter(())
        for segment in self.segments:
            nodes = segment.select(nodes, root)
        return nodes

    def value(self, value: Any, root: Any) -> Any:
        """Return the value of the one node; `ABSENT` if there are none or several."""
        return _value(self.nodes(value, root))


class _Operand(NamedTuple):
    """A part of a filter: a literal, a query or a function. `kind` is `literal`, `query`, `value` or `logical`."""

    kind: str
    evaluate: Callable[[Any, Any], Any]
    query: _Query | None = None

    @property
    def has_value(self) -> bool:
        """Whether it can be compared."""
        return self.query.singular if self.query is not None else self.kind != "logical"


def compile_query(expression: str) -> Callable[[Any], Iterator[Node]]:
    """Return a function that yields the steps and the value of each place that a JSONPath selects in a value.

    O(nodes visited), streamed. `match` and `search` take the syntax of `RegularExpression`, which holds I-Regexp.

    Raises:
        InvalidArgument: it is not a JSONPath; or, from the iterator, a regular expression in it took too long.

    """
    query = _Parser(expression).parse()
    return lambda value: query.nodes(value, value)


class _Parser:
    """Reads a query by recursive descent; `at` is the position."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.nested = 0

    def parse(self) -> _Query:
        if not self.text.startswith("$"):
            self.fail("it does not start with '$'")
        query = self.query()
        if self.at < len(self.text):
            self.fail(f"unexpected {self.text[self.at]!r}")
        return query

    def fail(self, fault: str) -> NoReturn:
        place = f"{self.text[:60]!r} is not a JSONPath: {fault} at character {self.at + 1}"
        raise UsageError(place, "Write such as '$.tasks[0]', '$..state' or '$.tasks[?@.tries > 3]'")

    # --- tokens ----------------------------------------------------------------------------------------------------

    def take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        if match := pattern.match(self.text, self.at):
            self.at = match.end()
        return match

    def blank(self) -> None:
        self.take(_BLANKS)

    def has(self, sign: str) -> bool:
        if found := self.text.startswith(sign, self.at):
            self.at += len(sign)
        return found

    def next_is(self, sign: str) -> bool:
        self.blank()
        return self.has(sign)

    def expect(self, sign: str) -> None:
        if not self.next_is(sign):
            found = repr(self.text[self.at]) if self.at < len(self.text) else "the end"
            self.fail(f"expected {sign!r}, not {found},")

    def integer(self, text: str) -> int:
        if len(text) > 17 or abs(int(text)) > _MAX_INDEX:
            self.fail("a number that is out of range")
        return int(text)

    def string(self) -> str | None:
        start = self.at
        if (match := self.take(_STRING)) is None:
            return None
        quote, text = match.groups()

        def unescape(escape: re.Match[str]) -> str:
            high, low, unit, sign = escape.groups()
            if unit:
                return chr(int(unit, 16))
            if high:
                return chr(0x10000 + ((int(high, 16) & 0x3FF) << 10) + (int(low, 16) & 0x3FF))
            if sign not in _ESCAPED or (sign in "\"'" and sign != quote):
                self.at = start + 1 + escape.start()
                self.fail(f"the unknown escape {escape[0]!r}")
            return _ESCAPED[sign]

        return _ESCAPE.sub(unescape, text)

    # --- segments and selectors ------------------------------------------------------------------------------------

    def query(self) -> _Query:
        from_root = self.text[self.at] == "$"
        self.at += 1
        segments: list[_Segment] = []
        singular = True
        while True:
            before = self.at
            self.blank()
            descends = self.has("..")
            is_dotted = not descends and self.has(".")
            if not is_dotted and self.has("["):
                selectors, single = self.brackets()
            elif not descends and not is_dotted:
                self.at = before
                return _Query(from_root, segments, singular)
            elif self.has("*"):
                selectors, single = [_children], False
            elif name := self.take(_NAME):
                selectors, single = [_named(name[0])], True
            else:
                self.fail("a name, '*' or '[' is missing" if descends else "a name or '*' is missing")
            singular = singular and single and not descends
            segments.append(_Segment(descends, selectors))

    def brackets(self) -> tuple[list[_Selector], bool]:
        selectors: list[_Selector] = []
        single = True
        while True:
            self.blank()
            if (name := self.string()) is not None:
                selectors.append(_named(name))
            elif found := self.take(_SLICE):
                selectors.append(_sliced(*(None if part is None else self.integer(part) for part in found.groups())))
                single = False
            elif found := self.take(_INDEX):
                selectors.append(_indexed(self.integer(found[0])))
            elif self.has("*"):
                selectors.append(_children)
                single = False
            elif self.has("?"):
                selectors.append(_filtered(self.alternatives()))
                single = False
            else:
                self.fail("a name in quotes, a number, '*' or '?' is missing")
            if self.next_is("]"):
                return selectors, single and len(selectors) == 1
            self.expect(",")

    # --- filters ---------------------------------------------------------------------------------------------------

    def enter(self) -> None:
        self.nested += 1
        if self.nested > _MAX_NESTED:
            self.fail(f"filters nested over {_MAX_NESTED} levels deep")

    def alternatives(self) -> _Test:
        self.enter()
        tests = [self.conditions()]
        while self.next_is("||"):
            tests.append(self.conditions())
        self.nested -= 1
        return tests[0] if len(tests) == 1 else lambda value, root: any(test(value, root) for test in tests)

    def conditions(self) -> _Test:
        tests = [self.condition()]
        while self.next_is("&&"):
            tests.append(self.condition())
        return tests[0] if len(tests) == 1 else lambda value, root: all(test(value, root) for test in tests)

    def condition(self) -> _Test:
        self.blank()
        if negated := self.has("!"):
            self.blank()
        if self.has("("):
            test = self.alternatives()
            self.expect(")")
        else:
            left = self.operand()
            self.blank()
            if not negated and (sign := self.take(_COMPARISON)):
                self.blank()
                return self.comparison(left, sign[0], self.operand())
            if left.kind in ("literal", "value"):
                self.fail("a comparison is missing")
            query = left.query
            test = left.evaluate if query is None else lambda value, root: any(True for _ in query.nodes(value, root))
        return (lambda value, root: not test(value, root)) if negated else test

    def comparison(self, left: _Operand, sign: str, right: _Operand) -> _Test:
        if not left.has_value or not right.has_value:
            self.fail("a comparison of what can be several values, or of a test,")
        return lambda value, root: _compare(left.evaluate(value, root), sign, right.evaluate(value, root))

    def operand(self) -> _Operand:
        literal: Any
        if self.text.startswith(("@", "$"), self.at):
            query = self.query()
            return _Operand("query", query.value, query)
        if (literal := self.string()) is not None:
            pass
        elif number := self.take(_NUMBER):
            if len(number[0]) > 1000:
                self.fail("a number that is out of range")
            literal = float(number[0]) if number[1] or number[2] else int(number[0])
        elif word := self.take(_WORD):
            literal = {"true": True, "false": False, "null": None}[word[0]]
        elif function := self.take(_FUNCTION):
            return self.function(function[1])
        else:
            self.fail("a value, '@', '$' or a function is missing")
        return _Operand("literal", lambda _value, _root: literal)

    def function(self, name: str) -> _Operand:
        if name not in _FUNCTIONS:
            self.fail(f"there is no function {name!r}; known are {', '.join(_FUNCTIONS)};")
        count, takes_nodes, is_test, make = _FUNCTIONS[name]
        self.enter()
        arguments: list[_Operand] = []
        while not arguments or self.has(","):
            self.blank()
            arguments.append(self.operand())
            self.blank()
        self.nested -= 1
        self.expect(")")
        if len(arguments) != count or not all(
            argument.query is not None if takes_nodes else argument.has_value for argument in arguments
        ):
            what = "query" if takes_nodes else "value" if count == 1 else "values"
            self.fail(f"{name}() takes {count} {what}, which ended")
        function = make()
        if takes_nodes:
            (query,) = (argument.query for argument in arguments)
            assert query is not None
            return _Operand("value", lambda value, root: function(query.nodes(value, root)))
        return _Operand(
            "logical" if is_test else "value",
            lambda value, root: function(*(argument.evaluate(value, root) for argument in arguments)),
        )


# --- selectors -----------------------------------------------------------------------------------------------------


def _children(value: Any, _root: Any) -> Iterator[tuple[int | str, Any]]:
    if isinstance(value, dict):
        yield from value.items()
    elif isinstance(value, list):
        yield from enumerate(value)


def _named(name: str) -> _Selector:
    def select(value: Any, _root: Any) -> Iterator[tuple[int | str, Any]]:
        if isinstance(value, dict) and name in value:
            yield name, value[name]

    return select


def _indexed(index: int) -> _Selector:
    def select(value: Any, _root: Any) -> Iterator[tuple[int | str, Any]]:
        if isinstance(value, list) and -len(value) <= index < len(value):
            yield index % len(value), value[index]

    return select


def _sliced(start: int | None, end: int | None, step: int | None) -> _Selector:
    def select(value: Any, _root: Any) -> Iterator[tuple[int | str, Any]]:
        if isinstance(value, list) and step != 0:
            for index in range(*slice(start, end, step).indices(len(value))):
                yield index, value[index]

    return select


def _filtered(test: _Test) -> _Selector:
    return lambda value, root: ((step, child) for step, child in _children(value, root) if test(child, root))


def _below(steps: Steps, value: Any) -> Iterator[Node]:
    return (((*steps, step), child) for step, child in _children(value, None))


def _descendants(node: Node) -> Iterator[Node]:
    """Yield a node and all nodes below it, each before its children."""
    pending: list[Iterator[Node]] = [iter([node])]
    while pending:
        if (found := next(pending[-1], None)) is None:
            pending.pop()
            continue
        yield found
        steps, value = found
        if isinstance(value, (dict, list)):
            pending.append(_below(steps, value))


# --- values and functions ------------------------------------------------------------------------------------------


def _compare(left: Any, sign: str, right: Any) -> bool:
    if sign in (">", ">="):
        left, sign, right = right, {">": "<", ">=": "<="}[sign], left
    if sign != "<" and _equal(left, right):
        return sign != "!="
    return sign == "!=" or (sign != "==" and _is_less(left, right))


def _equal(left: Any, right: Any) -> bool:
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_equal(item, right[name]) for name, item in left.items())
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_equal, left, right))
    if isinstance(left, bool) or isinstance(right, bool):  # Python takes them for numbers
        return left is right
    return bool(left == right)


def _is_less(left: Any, right: Any) -> bool:
    if isinstance(left, str) and isinstance(right, str):
        return left < right
    numbers = (int, float)
    if isinstance(left, numbers) and isinstance(right, numbers):
        return not isinstance(left, bool) and not isinstance(right, bool) and left < right
    return False


def _length(value: Any) -> Any:
    return len(value) if isinstance(value, (str, list, dict)) else ABSENT


def _value(nodes: Iterator[Node]) -> Any:
    found = next(nodes, None)
    return ABSENT if found is None or next(nodes, None) is not None else found[1]


def _matcher(whole: bool) -> Callable[[Any, Any], bool]:
    """Return `match` or `search`. It is false for what is not text or not a regular expression."""

    @lru_cache(maxsize=300)
    def compiled(pattern: str) -> RegularExpression | None:
        try:
            return RegularExpression(pattern, whole, _ANY)
        except InvalidArgument:
            return None

    def matches(text: Any, pattern: Any) -> bool:
        if not isinstance(text, str) or not isinstance(pattern, str):
            return False
        expression = compiled(pattern)
        return expression is not None and expression.search(text) is not None

    return matches


# The number of arguments; whether they are queries, not values; whether the result is a test; how it is made.
_FUNCTIONS: dict[str, tuple[int, bool, bool, Callable[[], Callable[..., Any]]]] = {
    "length": (1, False, False, lambda: _length),
    "count": (1, True, False, lambda: lambda nodes: sum(1 for _ in nodes)),
    "value": (1, True, False, lambda: _value),
    "match": (2, False, True, lambda: _matcher(whole=True)),
    "search": (2, False, True, lambda: _matcher(whole=False)),
}
