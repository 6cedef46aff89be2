"""Handler: find. Streams the matches and reports its progress."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from ... import codec
from ...errors import see
from ...model import ProgressMessage
from ...states.matching.patterns import compile_globs, first_literal, is_glob
from ...states.matching.regular_expressions import RegularExpression
from ...states.values.pointers import escape_token
from ...states.view import to_entry
from ..context import Context
from ..exit_codes import UsageError
from ..results import Table, unless_cut

if TYPE_CHECKING:
    from ..json_queries import Steps

_KEYS_PER_REPORT = 5000

Matcher = Callable[[str], bool]
Span = tuple[int, int]
FindSpan = Callable[[str], Span | None]


def find(context: Context, args: dict[str, Any]) -> Table:
    """`find [PATTERN]`. A person sees each value shortened around the match; JSON has it whole."""
    pattern, where, regex = args.get("pattern"), args.get("in", "both"), args.get("regex", False)
    if pattern is None and "jsonpath" not in args:
        raise UsageError("find: PATTERN or --jsonpath is missing", see("help", "find"))
    if regex and pattern is None:
        raise UsageError("find: --regex is about PATTERN, which is missing", see("help", "find"))
    if "jsonpath" in args:
        from ..json_queries import compile_query  # rarely used

        query = compile_query(args["jsonpath"])
    else:
        query = None
    manager = context.existing
    view = manager.at(args.get("at", "live"))
    total = manager.head().count
    as_text = not regex and pattern is not None and is_glob(pattern) and pattern in view  # a key of this name wins
    wanted = RegularExpression(pattern) if regex and pattern is not None else pattern
    matches = make_matcher(wanted, as_text) if wanted is not None else None

    def rows() -> Iterator[tuple[Any, ...]]:
        for number, entry in enumerate(map(to_entry, view.steady_entries(keys=args.get("keys"))), 1):
            if number % _KEYS_PER_REPORT == 0:
                context.progress(ProgressMessage.of(number, total, "keys searched"))
            if query is not None:
                yield from ((entry.key, path, value) for path, value in _selected(query(entry.value), matches))
                continue
            assert matches is not None
            if where != "values" and matches(entry.key):
                yield entry.key, "", entry.value
            elif where != "keys":
                yield from ((entry.key, path, value) for path, value in find_parts(entry.value, matches))

    span_of = find_span(wanted, as_text) if wanted is not None else lambda _text: None
    return Table(
        columns=("key", "path", "value"), rows=islice(rows(), args.get("limit")),
        empty=unless_cut(f"nothing found in namespace {view.namespace!r}", args.get("limit")),
        excerpt=lambda value, room: excerpt(value, span_of, room), position=lambda value: _position(value, span_of),
        matches=matches,
    )  # fmt: skip


def make_matcher(pattern: str | RegularExpression, as_text: bool = False) -> Matcher:
    """Return a test for a text: whether it contains the pattern.

    A text with `*`, `?` or `[` is a glob for the whole text, unless `as_text`. The test raises `InvalidArgument` if the
    searches of a regular expression take too long.
    """
    if isinstance(pattern, RegularExpression):
        return lambda text: pattern.search(text) is not None
    if is_glob(pattern) and not as_text:
        glob = compile_globs(pattern)
        return lambda text: glob.match(text) is not None
    return lambda text: pattern in text


def find_span(pattern: str | RegularExpression, as_text: bool = False) -> FindSpan:
    """Return a function that finds the start and end of the match in a text that `make_matcher` accepts.

    The match of a glob is the first text between its wildcards. The function returns None if there is none.
    """
    if isinstance(pattern, RegularExpression):
        return pattern.search
    literal = pattern if as_text else first_literal(pattern)

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


def _selected(places: Iterator[tuple[Steps, Any]], matches: Matcher | None) -> Iterator[tuple[str, Any]]:
    """Yield the JSON Pointer and the value of each selected place; with a matcher, of each match in them, once."""
    found: set[str] = set()
    for steps, value in places:
        path = "".join("/" + escape_token(step) for step in steps)
        if matches is None:
            yield path, value
            continue
        for part in find_parts(value, matches, path, steps[-1] if steps else None):
            if part[0] not in found:
                found.add(part[0])
                yield part


def find_parts(
    value: Any, matches: Matcher, path: str = "", name: int | str | None = None
) -> Iterator[tuple[str, Any]]:
    """Yield the JSON Pointer and the value of each scalar that matches, and of each member whose name does. O(nodes).

    Args:
        value: a decoded value.
        matches: the test for a text.
        path: the pointer of the value.
        name: the step to the value, if it is a part of another.

    """
    is_box = isinstance(value, (dict, list))
    if (isinstance(name, str) and matches(name)) or (not is_box and matches(leaf_text(value))):
        yield path, value
    if is_box:
        for step, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from find_parts(item, matches, f"{path}/{escape_token(step)}", step)


def leaf_text(value: Any) -> str:
    """Return the text that is searched in a value: a string itself, any other value as JSON."""
    return value if isinstance(value, str) else codec.encode(value).decode()
