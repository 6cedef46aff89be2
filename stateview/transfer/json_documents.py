"""JSON documents that a person or another program wrote, read with suspicion: what is wrong is named with its place."""

from __future__ import annotations

import re
from collections.abc import Iterator
from json import JSONDecodeError
from typing import Any

from .. import codec
from ..backends.jsonfile.document import parse_edited
from ..backends.protocol import Version
from ..errors import NOTHING_CHANGED, Damaged, InvalidName, NotSerializable
from ..model import check_key

_STATE = {"value", "timestamp", "revision", "expires"}
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\]:,]|[^\s{}\[\]:,"]+', re.DOTALL)


def parse(data: bytes, name: str) -> dict[str, Any]:
    """Return a JSON object, exactly. O(size), and about ten times as much memory.

    Raises:
        Damaged: no JSON object, no UTF-8, a key twice, NaN, nested too deep; with line and column.

    """
    if data.startswith(b"\xef\xbb\xbf"):
        raise Damaged(f"{name}, line 1 column 1: a byte order mark", "Save it as UTF-8 without one")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        place = _place(data[: error.start].decode(errors="replace"))
        raise Damaged(f"{name}, {place}: not UTF-8 ({error.reason})", NOTHING_CHANGED) from error
    try:
        found = codec.parse_strict(text)
    except JSONDecodeError as error:
        raise Damaged(f"{name}, line {error.lineno} column {error.colno}: {error.msg}", NOTHING_CHANGED) from error
    except (ValueError, RecursionError) as error:
        position, what = _fault(text)
        raise Damaged(f"{name}, {_place(text[:position])}: {what or error}", NOTHING_CHANGED) from error
    if not isinstance(found, dict):
        raise Damaged(f"{name}: it is JSON, but not an object {{key: value}}", NOTHING_CHANGED)
    return found


def is_state(found: dict[str, Any]) -> bool:
    """Whether a document is a state.json: every entry with a value, its time, and nothing else."""
    return bool(found) and all(
        isinstance(one, dict) and "value" in one and isinstance(one.get("timestamp"), str) and one.keys() <= _STATE
        for one in found.values()
    )


def plain(found: dict[str, Any], name: str, moment: int) -> Iterator[Version]:
    """Yield the entries of `{key: value}`. Takes them out of the document, so that both are not in memory.

    Raises:
        Damaged: a key or value that no save would take.

    """
    for key in list(found):
        try:
            yield Version(check_key(key), codec.encode(found.pop(key)), 0, moment)
        except (InvalidName, NotSerializable) as error:
            raise Damaged(
                f"{name}: the entry {key[:60]!r}: {error.message}", error.next_steps or NOTHING_CHANGED
            ) from error


def versions(data: bytes, name: str, moment: int) -> list[Version]:
    """Return the entries of a state.json.

    Raises:
        Damaged: it is not one.

    """
    try:
        return list(parse_edited(data, name, moment).values())
    except Damaged as error:
        raise Damaged(error.message, NOTHING_CHANGED) from error


def _place(before: str) -> str:
    return f"line {before.count(chr(10)) + 1} column {len(before) - before.rfind(chr(10))}"


def _fault(text: str) -> tuple[int, str]:
    """Where a document that is JSON by its form says what JSON cannot, and what; "" where that is not found."""
    keys: list[set[str] | None] = []  # of each object that is open; None for an array
    at_key = False
    for token in _TOKEN.finditer(text):
        sign = token[0]
        if sign in "{[":
            keys.append(set() if sign == "{" else None)
            at_key = sign == "{"
            if len(keys) > codec.MAX_DEPTH + 1:
                return token.start(), f"nested over {codec.MAX_DEPTH} levels deep"
        elif sign in "}]":
            keys.pop()
        elif sign == ",":
            at_key = keys[-1] is not None
        elif sign == ":":
            at_key = False
        elif at_key and (known := keys[-1]) is not None:
            key = codec.parse_strict(sign)
            if key in known:
                return token.start(), f"the key {key[:60]!r} is there twice"
            known.add(key)
        elif sign in ("NaN", "Infinity", "-Infinity"):
            return token.start(), f"{sign} is not JSON"
        elif sign[0] in "-0123456789" and any(mark in sign for mark in ".eE") and abs(float(sign)) == float("inf"):
            return token.start(), f"the number {sign[:40]} is too large"
    return 0, ""
