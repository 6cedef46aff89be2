"""Handler: find. Streams what it finds, and says how far it is."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from fnmatch import translate
from itertools import islice
from typing import Any

from ..diff import escape
from .context import Context
from .exits import UsageError
from .results import Table

_STEP = 5000  # keys between two words of progress

Test = Callable[[str], bool]


def find(context: Context, given: dict[str, Any]) -> Table:
    """`find [PATTERN]`."""
    pattern, where = given.get("pattern"), given.get("in", "both")
    if pattern is None and "jsonpath" not in given:
        raise UsageError("find: PATTERN or --jsonpath is missing", "See 'stateview help find'")
    test = text_test(pattern, given.get("regex", False)) if pattern is not None else None
    query = _query(given["jsonpath"]) if "jsonpath" in given else None
    manager = context.manager
    view = manager.at(given.get("at", "live"))
    total = manager.head().count

    def rows() -> Iterator[tuple[Any, ...]]:
        for number, entry in enumerate(view.entries(keys=given.get("keys")), 1):
            if number % _STEP == 0:
                context.progress(f"{number:,} of {total:,} keys searched")
            if query is not None:
                for path, value in query(entry.value):
                    if test is None or (isinstance(value, str) and test(value)):
                        yield entry.key, path, value
                continue
            assert test is not None
            if where != "values" and test(entry.key):
                yield entry.key, "", entry.value
            elif where != "keys":
                yield from ((entry.key, path, value) for path, value in leaves(entry.value) if test(leaf_text(value)))

    limit = given.get("limit")
    empty = f"nothing found in namespace {view.namespace!r}"
    return Table(columns=("key", "path", "value"), rows=islice(rows(), limit), empty=empty)


def text_test(pattern: str, regex: bool = False) -> Test:
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
    if any(sign in pattern for sign in "*?["):
        glob = re.compile(translate(pattern))
        return lambda text: glob.match(text) is not None
    return lambda text: pattern in text


def _query(expression: str) -> Callable[[Any], Iterator[tuple[str, Any]]]:
    import jsonpath

    try:
        compiled = jsonpath.compile(expression)
    except jsonpath.JSONPathError as error:
        raise UsageError(f"{expression[:60]!r} is not a JSONPath: {error}") from error

    def run(value: Any) -> Iterator[tuple[str, Any]]:
        if isinstance(value, (dict, list)):
            for match in compiled.finditer(value):
                yield "".join("/" + escape(part) for part in match.parts), match.obj

    return run


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The values inside a value that hold no others, each with its JSON Pointer. O(nodes)."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, f"{path}/{escape(key)}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from leaves(item, f"{path}/{index}")
    else:
        yield path, value


def leaf_text(value: Any) -> str:
    """What is searched of a leaf: a string as it is, anything else as JSON."""
    from .. import codec

    return value if isinstance(value, str) else codec.encode(value).decode()
