"""Parse JSON documents that a person or another program wrote. An error names its line and column, or its key."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from json import JSONDecodeError
from typing import Any

from ... import codec
from ...backends.jsonfile.document import parse_edited
from ...backends.protocol import Version
from ...errors import NOTHING_CHANGED, Damaged, InvalidName, NotSerializable
from ...model import check_key

_STATE_FIELDS = {"value", "timestamp", "revision", "expires"}
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\]:,]|[^\s{}\[\]:,"]+', re.DOTALL)


def parse(data: bytes, name: str) -> dict[str, Any]:
    """Parse a JSON object, with exact numbers. O(size), and about ten times as much memory.

    Raises:
        Damaged: the data is not a JSON object in UTF-8, has a key twice or NaN, or is nested too deep.

    """
    try:
        text = codec.decode_text(data)
    except UnicodeDecodeError as error:
        place = _place(data[: error.start].decode(errors="replace"))
        raise Damaged(f"{name}, {place}: not UTF-8 ({error.reason})", NOTHING_CHANGED) from error
    try:
        document = codec.parse_strict(text)
    except JSONDecodeError as error:
        raise Damaged(f"{name}, line {error.lineno} column {error.colno}: {error.msg}", NOTHING_CHANGED) from error
    except (ValueError, RecursionError) as error:
        position, fault = _find_fault(text)
        raise Damaged(f"{name}, {_place(text[:position])}: {fault or error}", NOTHING_CHANGED) from error
    if not isinstance(document, dict):
        raise Damaged(f"{name}: it is JSON, but not an object {{key: value}}", NOTHING_CHANGED)
    return document


def is_state(document: dict[str, Any]) -> bool:
    """Return whether a document has the form of a state.json: each entry has a value, a time, and no other fields."""
    return bool(document) and all(
        isinstance(entry, dict)
        and "value" in entry
        and isinstance(entry.get("timestamp"), str)
        and entry.keys() <= _STATE_FIELDS
        for entry in document.values()
    )


def plain(document: dict[str, Any], name: str, time: int) -> Iterator[Version]:
    """Yield the entries of `{key: value}`. Removes them from the document, so that memory holds each value once.

    Raises:
        Damaged: `save` would refuse a key or a value.

    """
    for key in list(document):
        try:
            yield Version(check_key(key), codec.encode(document.pop(key)), 0, time)
        except (InvalidName, NotSerializable) as error:
            raise Damaged(
                f"{name}: the entry {key[:60]!r}: {error.message}", error.next_steps or NOTHING_CHANGED
            ) from error


def state_versions(data: bytes, name: str, time: int) -> list[Version]:
    """Return the entries of a state.json.

    Raises:
        Damaged: the data is not a state.json.

    """
    try:
        return list(parse_edited(data, name, time).values())
    except Damaged as error:
        raise Damaged(error.message, NOTHING_CHANGED) from error


def _place(before: str) -> str:
    return f"line {before.count(chr(10)) + 1} column {len(before) - before.rfind(chr(10))}"


def _find_fault(text: str) -> tuple[int, str]:
    """Find the position and the text of a fault in well-formed JSON: a key twice, a forbidden number, or depth.

    The text is "" if no fault is found.
    """
    objects: list[set[str] | None] = []  # the keys of each open object; None for an array
    at_key = False
    for token in _TOKEN.finditer(text):
        sign = token[0]
        if sign in "{[":
            objects.append(set() if sign == "{" else None)
            at_key = sign == "{"
            if len(objects) > codec.MAX_DEPTH + 1:
                return token.start(), f"nested over {codec.MAX_DEPTH} levels deep"
        elif sign in "}]":
            objects.pop()
        elif sign == ",":
            at_key = objects[-1] is not None
        elif sign == ":":
            at_key = False
        elif at_key and (keys := objects[-1]) is not None:
            key = codec.parse_strict(sign)
            if key in keys:
                return token.start(), f"the key {key[:60]!r} occurs twice"
            keys.add(key)
        elif sign in ("NaN", "Infinity", "-Infinity"):
            return token.start(), f"{sign} is not JSON"
        elif sign[0] in "-0123456789" and any(mark in sign for mark in ".eE") and math.isinf(float(sign)):
            return token.start(), f"the number {sign[:40]} is too large"
    return 0, ""
