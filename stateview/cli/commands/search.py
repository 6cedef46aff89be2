"""Handler: find. Streams the matches and reports its progress."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from ... import codec
from ...errors import see
from ...model import ProgressMessage
from ...states.patterns import compile_globs, first_literal, is_glob
from ...states.pointers import escape_token
from ..context import Context
from ..exit_codes import UsageError
from ..results import Table

_KEYS_PER_REPORT = 5000

Matcher = Callable[[str], bool]
Span = tuple[int, int]
FindSpan = Callable[[str], Span | None]


def find(context: Context, args: dict[str, Any]) -> Table:
    """`find [PATTERN]`. A person sees each value shortened around the match; JSON has it whole."""
    pattern, where, regex = args.get("pattern"), args.get("in", "both"), args.get("regex", False)
    if pattern is None and "jsonpath" not in args:
        raise UsageError("find: PATTERN or --jsonpath is missing", see("help", "find"))
    matches = make_matcher(pattern, regex) if pattern is not None else None
    query = _compile_query(args["jsonpath"]) if "jsonpath" in args else None
    manager = context.manager
    view = manager.at(args.get("at", "live"))
    total = manager.head().count

    def rows() -> Iterator[tuple[Any, ...]]:
        for number, entry in enumerate(view.entries(keys=args.get("keys")), 1):
            if number % _KEYS_PER_REPORT == 0:
                context.progress(ProgressMessage.of(number, total, "keys searched"))
            if query is not None:
                for path, value in query(entry.value):
                    if matches is None or (isinstance(value, str) and matches(value)):
                        yield entry.key, path, value
                continue
            assert matches is not None
            if where != "values" and matches(entry.key):
                yield entry.key, "", entry.value
            elif where != "keys":
                yield from (
                    (entry.key, path, value) for path, value in iter_scalars(entry.value) if matches(leaf_text(value))
                )

    span_of = find_span(pattern, regex) if pattern is not None else lambda _text: None
    return Table(
        columns=("key", "path", "value"), rows=islice(rows(), args.get("limit")),
        empty=f"nothing found in namespace {view.namespace!r}",
        excerpt=lambda value, room: excerpt(value, span_of, room), position=lambda value: _position(value, span_of),
    )  # fmt: skip


def make_matcher(pattern: str, regex: bool = False) -> Matcher:
    """Return a test for a text: whether it contains the pattern.

    A pattern with `*`, `?` or `[` is a glob for the whole text. With `regex` it is a regular expression.

    Raises:
        UsageError: it is not a regular expression.

    """
    if regex:
        try:
            compiled = re.compile(pattern)
        except re.error as error:
            raise UsageError(f"{pattern[:60]!r} is not a regular expression: {error}") from error
        return lambda text: compiled.search(text) is not None
    if is_glob(pattern):
        glob = compile_globs(pattern)
        return lambda text: glob.match(text) is not None
    return lambda text: pattern in text


def find_span(pattern: str, regex: bool = False) -> FindSpan:
    """Return a function that finds the start and end of the match in a text that `make_matcher` accepts.

    The match of a glob is the first text between its wildcards. The function returns None if there is none.
    """
    if regex:
        compiled = re.compile(pattern)

        def search(text: str) -> Span | None:
            match = compiled.search(text)
            return match.span() if match is not None else None

        return search
    literal = first_literal(pattern)

    def find_literal(text: str) -> Span | None:
        start = text.find(literal) if literal else -1
        return (start, start + len(literal)) if start >= 0 else None

    return find_literal


def _position(value: Any, span_of: FindSpan) -> int | None:
    span = span_of(value) if isinstance(value, str) else None
    return span[0] if span is not None else None


def excerpt(value: Any, span_of: FindSpan, room: int) -> str:
    """Return a value as JSON in at most `room` characters: the text around the match, with `…` where it is cut.

    Of a text with many lines it returns the line where the match begins, after the number of that line. O(size).
    """
    text, is_text = leaf_text(value), isinstance(value, str)
    span = None if isinstance(value, (dict, list)) else span_of(text)
    if span is None or not is_text or "\n" not in text:
        if len(text) <= room:
            encoded = codec.encode(text).decode() if is_text else text
            if len(encoded) <= room:
                return encoded
        return _around(text, span or (0, 0), 0, len(text), room, is_text)
    start, end = text.rfind("\n", 0, span[0]) + 1, text.find("\n", span[0])
    number = f"line {text.count(chr(10), 0, start) + 1:,}: "
    return number + _around(text, span, start, len(text) if end < 0 else end, room - len(number), True)


def _around(text: str, span: Span, start: int, end: int, room: int, is_text: bool) -> str:
    """Return the part of `text[start:end]` around a span, as a JSON string if `is_text`. O(room)."""
    size = max(1, room - 4)  # two quotes and two `…`
    while True:
        before = max(0, min(size // 3, size - (span[1] - span[0])))
        first = max(start, min(span[0] - before, end - size))
        last = min(end, first + size)
        part = ("…" if first > 0 else "") + text[first:last] + ("…" if last < len(text) else "")
        encoded = codec.encode(part).decode() if is_text else part
        if len(encoded) <= room or size == 1:
            return encoded
        size = max(1, size * room // len(encoded) - 1)  # escapes made it longer than `room`


def _compile_query(expression: str) -> Callable[[Any], Iterator[tuple[str, Any]]]:
    import jsonpath

    try:
        compiled = jsonpath.compile(expression)
    except jsonpath.JSONPathError as error:
        raise UsageError(f"{expression[:60]!r} is not a JSONPath: {error}") from error

    def run(value: Any) -> Iterator[tuple[str, Any]]:
        if isinstance(value, (dict, list)):
            for match in compiled.finditer(value):
                yield "".join("/" + escape_token(part) for part in match.parts), match.obj

    return run


def iter_scalars(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the JSON Pointer and the value of each scalar inside a value. O(nodes)."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from iter_scalars(item, f"{path}/{escape_token(key)}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from iter_scalars(item, f"{path}/{index}")
    else:
        yield path, value


def leaf_text(value: Any) -> str:
    """Return the text that is searched in a value: a string itself, any other value as JSON."""
    return value if isinstance(value, str) else codec.encode(value).decode()
