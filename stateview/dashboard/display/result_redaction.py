"""Results of commands with what is not to be seen on a screen masked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from msgspec.structs import replace

from ... import codec
from ...cli.commands.search import make_matcher
from ...cli.exit_codes import UsageError
from ...cli.parser import parse
from ...cli.results import ActionResult, Changes, DiffResult, Record, Result, Stream, Table, ValueResult
from ...errors import StateException
from ...states.json_diff import Change, Diff
from ...states.pointers import split_pointer
from .redaction import MASK, is_redacted, masked_places


def redact_result(result: Result, given: dict[str, Any], patterns: tuple[str, ...]) -> Result:
    """Return the result with what is not to be seen masked.

    Values of keys, and of names inside values, that a glob matches.

    Streams what the result streams.
    """
    if not patterns:
        return result
    key = given.get("key")
    named = isinstance(key, str) and is_redacted(key, patterns)
    if isinstance(result, ActionResult) and result.excerpt is not None:
        one = result.excerpt
        if _is_secret(one.key, one.text, patterns) or _hidden_path({"path": one.path}, patterns):
            return replace(result, summary=one.message(MASK), excerpt=None)
        return result
    if isinstance(result, Stream):
        raise UsageError("an export is not shown on the screen where values are masked", "Give a file: 'export FILE'")
    if isinstance(result, ValueResult):
        return replace(result, data=_bytes(result.data, named or _hidden_path(given, patterns), patterns))
    if isinstance(result, Record) and "value" in result.data:
        hidden = named or is_redacted(str(result.data.get("key", "")), patterns)
        value = MASK if hidden else _inside(result.data["value"], patterns)
        return replace(result, data={**result.data, "value": value})
    if isinstance(result, Table) and "value" in result.columns:
        rows = _rows(result, given, named, patterns)  # an excerpt is made of what is masked already
        empty = result.empty
        if given.get("pattern") and given.get("in") != "keys":
            empty += "; masked values are not searched"
        return replace(result, rows=rows, empty=empty)
    if isinstance(result, DiffResult) and result.diff is not None:
        diff = result.diff
        seen = Diff(diff.before, diff.after, lambda: _changes(diff, patterns))
        return replace(result, diff=seen)
    if isinstance(result, Changes):
        return replace(result, changes=_changes(result.changes, patterns))
    return result


def reveals_redacted(given: dict[str, Any], patterns: tuple[str, ...]) -> bool:
    """Whether arguments of `save` hold a value that is not to be seen, or one with such a value inside."""
    text = given.get("value")
    return isinstance(text, str) and _is_secret(str(given.get("key")), text, patterns)


def _is_secret(key: str, text: str, patterns: tuple[str, ...]) -> bool:
    """Whether the text of a key's value, or the beginning of it, is not to be seen."""
    if not patterns or is_redacted(key, patterns):
        return bool(patterns)
    try:
        return next(masked_places(codec.decode(text.encode()), patterns), None) is not None
    except StateException:  # a string, or nothing that is saved; or the beginning of what may hold anything
        return text[:1] in ("{", "[") and text.endswith("…")


def redacted_words(words: list[str], patterns: tuple[str, ...]) -> list[str]:
    """Return the words of an act as its command line shows them.

    The value that `save` gets may be one not to be seen.
    """
    given = parse(words).arguments if words[:1] == ["save"] else {}
    return ["save", given["key"], MASK] if reveals_redacted(given, patterns) else words


def _hidden_path(given: dict[str, Any], patterns: tuple[str, ...]) -> bool:
    return any(is_redacted(name, patterns) for name in split_pointer(str(given.get("path", ""))) if name)


def _bytes(data: bytes, hidden: bool, patterns: tuple[str, ...]) -> bytes:
    return codec.encode(MASK if hidden else _inside(codec.decode(data), patterns))


def _inside(value: Any, patterns: tuple[str, ...]) -> Any:
    """Recursive: a value that was read is at most 200 levels deep."""
    if isinstance(value, dict):
        return {name: MASK if is_redacted(name, patterns) else _inside(one, patterns) for name, one in value.items()}
    if isinstance(value, list):
        return [_inside(one, patterns) for one in value]
    return value


def _rows(
    table: Table, given: dict[str, Any], named: bool, patterns: tuple[str, ...]
) -> Iterator[tuple[Any, ...]]:  # fmt: skip
    found_by = make_matcher(given["pattern"], given.get("regex", False)) if given.get("pattern") else None
    value, key = table.columns.index("value"), table.columns.index("key") if "key" in table.columns else None
    path = table.columns.index("path") if "path" in table.columns else None
    for row in table.rows:
        hidden = named or (key is not None and is_redacted(str(row[key]), patterns))
        hidden = hidden or (path is not None and _hidden_path({"path": row[path]}, patterns))
        if hidden and found_by is not None and key is not None and not found_by(str(row[key])):
            continue  # `find` found it by its value, which could be guessed so
        yield *row[:value], MASK if hidden else _inside(row[value], patterns), *row[value + 1 :]


def _changes(changes: Iterable[Change], patterns: tuple[str, ...]) -> Iterator[Change]:
    """Yield a masked side says whether it is there, and nothing else; both differ, so that it is still a change."""
    from ...model import ABSENT

    for one in changes:
        if is_redacted(one.key, patterns):
            before = one.before if one.before is ABSENT else MASK
            after = one.after if one.after is ABSENT else MASK if before is ABSENT else f"{MASK} (another)"
        else:
            before, after = _inside(one.before, patterns), _inside(one.after, patterns)
            if before == after:
                after = f"{MASK} (another)"
        yield Change(one.key, one.kind, before, after, one.before_revision, one.after_revision)
