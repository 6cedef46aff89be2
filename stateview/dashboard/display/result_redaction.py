"""Results of commands with masked values, for the screen."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from msgspec.structs import replace

from ... import codec
from ...cli.exit_codes import UsageError
from ...cli.parser import parse
from ...cli.results import ActionResult, Changes, DiffResult, Record, Result, Stream, Table, ValueResult
from ...errors import StateException
from ...model import ABSENT
from ...states.changes import Change, Diff
from ...states.values.pointers import split_pointer, unescape_token
from .redaction import MASK, is_redacted, masked_places, without_masked

WRITES = ("save", "patch", "merge", "append")  # commands whose argument `value` may be masked


def redact_result(
    result: Result, arguments: dict[str, Any], patterns: tuple[str, ...], export_hint: str = ""
) -> Result:
    """Return the result of a command with masked values. A streamed result stays streamed.

    Args:
        result: the result.
        arguments: the arguments of the command.
        patterns: the globs of masked keys, and of masked names inside values.
        export_hint: the next step in that error.

    Raises:
        UsageError: the result is an export, which cannot be masked.

    """
    if not patterns:
        return result
    key = arguments.get("key")
    place = key if isinstance(key, str) else ""
    if isinstance(result, ActionResult) and result.excerpt is not None:
        excerpt = result.excerpt
        if _is_secret(excerpt.key, excerpt.text, patterns) or _path_masked(
            excerpt.path, patterns, _decoded(excerpt.text)
        ):
            return replace(result, summary=excerpt.message(MASK), excerpt=None)
        return result
    if isinstance(result, Stream):
        raise UsageError("an export is not shown on the screen where values are masked", export_hint)
    if isinstance(result, ValueResult):
        pointer, value = arguments.get("path", ""), codec.decode(result.data)
        whole = () if pointer else (value,)
        masked = _is_place_masked(place, patterns, *whole) or _path_masked(pointer, patterns, value)
        return replace(result, data=codec.encode(MASK if masked else without_masked(value, patterns)))
    if isinstance(result, Record) and "value" in result.data:
        value = result.data["value"]
        keys = {place, str(result.data.get("key", ""))}
        masked = any(_is_place_masked(key, patterns, value) for key in keys)
        return replace(result, data={**result.data, "value": MASK if masked else without_masked(value, patterns)})
    if isinstance(result, Table) and "value" in result.columns:
        rows = _rows(result, place, patterns)
        empty = result.empty
        if empty and arguments.get("pattern") and arguments.get("in") != "keys":
            empty += "; masked values are not searched"
        return replace(result, rows=rows, empty=empty)
    if isinstance(result, DiffResult) and result.diff is not None:
        diff = result.diff
        return replace(result, diff=Diff(diff.before, diff.after, lambda: _changes(diff, patterns)))
    if isinstance(result, Changes):
        return replace(result, changes=_changes(result.changes, patterns))
    return result


def check_operation(operation: dict[str, Any], patterns: tuple[str, ...], hint: str) -> None:
    """Check that an operation of a JSON Patch of a diff holds no masked value.

    Raises:
        UsageError: it holds one.

    """
    if "value" not in operation or not patterns:
        return
    value, place = operation["value"], operation["path"]
    if _path_masked(place, patterns, value) or next(masked_places(value, patterns), None) is not None:
        raise UsageError(f"the patch would show a masked value at {place[:100]}", hint)


def reveals_redacted(arguments: dict[str, Any], patterns: tuple[str, ...]) -> bool:
    """Return whether the arguments of a command hold a value to write that is masked, or has masked members."""
    text = arguments.get("value")
    if not isinstance(text, str):
        return False
    text = codec.encode(text).decode() if arguments.get("string") else text
    return _is_secret(str(arguments.get("key")), text, patterns)


def _is_place_masked(word: str, patterns: tuple[str, ...], *values: Any) -> bool:
    """Return whether a key is masked, or as `KEY#POINTER` the key or a name on the way to the place.

    `values` is the value of the place, as for `is_redacted`.
    """
    ends = [at for at in range(len(word)) if word.startswith("#/", at)]
    return is_redacted(word, patterns, *values) or any(
        is_redacted(word[:at], patterns) or _are_masked(word[at + 2 :].split("/"), patterns, values) for at in ends
    )


def _is_secret(key: str, text: str, patterns: tuple[str, ...]) -> bool:
    """Return whether a value is masked, or has masked members. `text` may be only the start of the value."""
    if not patterns or _is_place_masked(key, patterns, _decoded(text)):
        return bool(patterns)
    try:
        value = codec.decode(text.encode())
        paths = [str(one.get("path")) for one in value if isinstance(one, dict)] if isinstance(value, list) else []
        named = {name for path in paths for name in path.split("/")}  # by the operations of a JSON Patch
        return any(is_redacted(name, patterns) for name in named) or bool(next(masked_places(value, patterns), None))
    except StateException:  # a string, an invalid value, or the start of a box that may hold any name
        return text[:1] in ("{", "[") and text.endswith("…")


def _decoded(text: str) -> Any:
    """Return the value of a JSON text; of any other text, or the start of one, the text."""
    try:
        return codec.decode(text.encode())
    except StateException:
        return text


def redacted_words(words: list[str], patterns: tuple[str, ...]) -> list[str]:
    """Return the words of a command line, with the value that it writes masked if it has to be."""
    arguments = parse(words).arguments if words[:1] and words[0] in WRITES else {}
    return [words[0], arguments["key"], MASK] if reveals_redacted(arguments, patterns) else words


def redacted_help(words: list[str], text: str, help: str, patterns: tuple[str, ...]) -> str:
    """Return what a completion tells of a place in a value, masked if it has to be.

    Args:
        words: the arguments before it, one of which may name the key.
        text: the completion: a JSON Pointer, or `KEY#POINTER`; others tell of no value.
        help: the start of the value as JSON.
        patterns: the masked names.

    """
    if not patterns or not (text.startswith("/") or "#/" in text):
        return help
    value = _decoded(help)
    masked = (_is_place_masked(place, patterns, value) for place in (text, f"#{text}"))
    return MASK if any(masked) or any(is_redacted(word, patterns) for word in words) else help


def _path_masked(pointer: object, patterns: tuple[str, ...], *values: Any) -> bool:
    return _are_masked([name for name in split_pointer(str(pointer)) if name], patterns, values)


def _are_masked(names: list[str], patterns: tuple[str, ...], values: tuple[Any, ...]) -> bool:
    """Return whether a name on the way to a place is masked. `values` is the value of the last one."""
    *boxes, last = names or [""]
    return any(is_redacted(name, patterns) for name in boxes) or is_redacted(last, patterns, *values)


def _rows(table: Table, place: str, patterns: tuple[str, ...]) -> Iterator[tuple[Any, ...]]:
    matches = table.matches
    value, key = table.columns.index("value"), table.columns.index("key") if "key" in table.columns else None
    path = table.columns.index("path") if "path" in table.columns else None
    for row in table.rows:
        whole = () if path is not None and row[path] else (row[value],)
        masked = _is_place_masked(place, patterns, *whole) or (
            key is not None and is_redacted(str(row[key]), patterns, *whole)
        )
        visible = [str(row[key])] if key is not None else []  # the key, and the name of a member that is masked itself
        if path is not None and not masked and _path_masked(row[path], patterns, row[value]):
            masked = True
            box, _, name = str(row[path]).rpartition("/")
            visible += [] if _path_masked(box, patterns) else [unescape_token(name)]
        if masked and matches is not None and visible and not any(map(matches, visible)):
            continue  # `find` matched the masked value, which a user could guess by searching
        yield *row[:value], MASK if masked else without_masked(row[value], patterns), *row[value + 1 :]


def _changes(changes: Iterable[Change], patterns: tuple[str, ...]) -> Iterator[Change]:
    """Yield changes with masked values. The two sides stay different, so that each is still a change."""
    for change in changes:
        if is_redacted(change.key, patterns, change.before, change.after):
            before = change.before if change.before is ABSENT else MASK
            after = change.after if change.after is ABSENT else MASK if before is ABSENT else f"{MASK} (another)"
        else:
            before, after = without_masked(change.before, patterns), without_masked(change.after, patterns)
            if before == after:
                after = f"{MASK} (another)"
        yield Change(change.key, change.kind, before, after, change.before_revision, change.after_revision)
