"""Handler: find. Streams what it finds, and says how far it is."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from ...errors import see
from ...model import ProgressMessage
from ...states.patterns import compile_globs, first_literal, is_glob
from ...states.pointers import escape_token
from ..context import Context
from ..exit_codes import UsageError
from ..results import Table

_KEYS_PER_REPORT = 5000  # keys between two words of progress

Test = Callable[[str], bool]
Span = tuple[int, int]


def find(context: Context, given: dict[str, Any]) -> Table:
    """`find [PATTERN]`. A person is shown the place in a value where it was found, JSON has the whole value."""
    pattern, where = given.get("pattern"), given.get("in", "both")
    if pattern is None and "jsonpath" not in given:
        raise UsageError("find: PATTERN or --jsonpath is missing", see("help", "find"))
    test = make_matcher(pattern, given.get("regex", False)) if pattern is not None else None
    query = _query(given["jsonpath"]) if "jsonpath" in given else None
    manager = context.manager
    view = manager.at(given.get("at", "live"))
    total = manager.head().count

    def rows() -> Iterator[tuple[Any, ...]]:
        for number, entry in enumerate(view.entries(keys=given.get("keys")), 1):
            if number % _KEYS_PER_REPORT == 0:
                context.progress(ProgressMessage.of(number, total, "keys searched"))
            if query is not None:
                for path, value in query(entry.value):
                    if test is None or (isinstance(value, str) and test(value)):
                        yield entry.key, path, value
                continue
            assert test is not None
            if where != "values" and test(entry.key):
                yield entry.key, "", entry.value
            elif where != "keys":
                yield from (
                    (entry.key, path, value) for path, value in iter_scalars(entry.value) if test(leaf_text(value))
                )

    limit = given.get("limit")
    empty = f"nothing found in namespace {view.namespace!r}"
    place = find_span(pattern, given.get("regex", False)) if pattern is not None else lambda _text: None
    return Table(
        columns=("key", "path", "value"), rows=islice(rows(), limit), empty=empty,
        excerpt=lambda value, room: excerpt(value, place, room), place=lambda value: _start(value, place),
    )  # fmt: skip


def make_matcher(pattern: str, regex: bool = False) -> Test:
    """Whether a text holds a pattern; with `*?[`, whether all of it is like it; as a regex, whether that is found.

    Raises:
        UsageError: not a regular expression.

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


def find_span(pattern: str, regex: bool = False) -> Callable[[str], Span | None]:
    """Where a text that passed `text_test` is like a pattern, as far as that is one place: from, and to before."""
    if regex:
        compiled = re.compile(pattern)

        def search(text: str) -> Span | None:
            found = compiled.search(text)
            return found.span() if found is not None else None

        return search
    plain = first_literal(pattern) if is_glob(pattern) else pattern

    def find_plain(text: str) -> Span | None:
        at = text.find(plain) if plain else -1
        return (at, at + len(plain)) if at >= 0 else None

    return find_plain


def _start(value: Any, place: Callable[[str], Span | None]) -> int | None:
    span = place(value) if isinstance(value, str) else None
    return span[0] if span is not None else None


def excerpt(value: Any, place: Callable[[str], Span | None], room: int) -> str:
    """A value as JSON in at most `room` characters: what is around a place in it, with `…` for what is left out.

    Of a text with many lines it is from the line where the place begins, whose number stands before it. O(size).
    """
    from ... import codec

    whole, is_text = leaf_text(value), isinstance(value, str)
    span = None if isinstance(value, (dict, list)) else place(whole)
    if span is None or not is_text or "\n" not in whole:
        if len(whole) <= room:
            shown = codec.encode(whole).decode() if is_text else whole
            if len(shown) <= room:
                return shown
        return _around(whole, span or (0, 0), 0, len(whole), room, is_text)
    start, end = whole.rfind("\n", 0, span[0]) + 1, whole.find("\n", span[0])
    number = f"line {whole.count(chr(10), 0, start) + 1:,}: "
    return number + _around(whole, span, start, len(whole) if end < 0 else end, room - len(number), True)


def _around(text: str, span: Span, start: int, end: int, room: int, is_text: bool) -> str:
    """A part of a text between two places, around another, as a JSON string if it is one. O(room)."""
    from ... import codec

    size = max(1, room - 4)  # quotes, and what marks that it goes on
    while True:
        before = max(0, min(size // 3, size - (span[1] - span[0])))
        first = max(start, min(span[0] - before, end - size))
        last = min(end, first + size)
        part = ("…" if first > 0 else "") + text[first:last] + ("…" if last < len(text) else "")
        shown = codec.encode(part).decode() if is_text else part
        if len(shown) <= room or size == 1:  # what is escaped takes more
            return shown
        size = max(1, size * room // len(shown) - 1)


def _query(expression: str) -> Callable[[Any], Iterator[tuple[str, Any]]]:
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
    """The values inside a value that hold no others, each with its JSON Pointer. O(nodes)."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from iter_scalars(item, f"{path}/{escape_token(key)}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from iter_scalars(item, f"{path}/{index}")
    else:
        yield path, value


def leaf_text(value: Any) -> str:
    """What is searched of a leaf: a string as it is, anything else as JSON."""
    from ... import codec

    return value if isinstance(value, str) else codec.encode(value).decode()
