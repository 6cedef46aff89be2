"""Encode and decode values. No other module does. JSON text in UTF-8, compact, and exact or refused.

msgspec does the work. It writes NaN as null and bytes as base64, so the result is decoded again and compared. Where the
two differ, a slower walk says why, or encodes a value that is allowed all the same (tuples).
"""

from __future__ import annotations

from itertools import chain
from math import isfinite
from typing import Any

import msgspec

from .errors import Damaged, NotSerializable, StateException, see

MAX_BYTES = 64 * 1024 * 1024
MAX_DEPTH = 200
_SCALARS = frozenset({str, int, float, bool, type(None)})
_DIGITS = 4000  # below the interpreter's limit for int() and str()

SAVE_AS_UTF8 = "Save it as UTF-8 without a byte order mark"
_MARKS = {  # UTF-32 first: its mark begins like that of UTF-16
    b"\xef\xbb\xbf": "UTF-8",
    b"\xff\xfe\0\0": "UTF-32",
    b"\0\0\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}

_INSTEAD = {
    "datetime": "Save value.isoformat()",
    "date": "Save value.isoformat()",
    "set": "Save sorted(value)",
    "frozenset": "Save sorted(value)",
    "bytes": "Save value.decode() or base64 text",
    "Decimal": "Save str(value)",
    "UUID": "Save str(value)",
}

_encode = msgspec.json.encode
_decode = msgspec.json.decode


class Encoded:
    """A value that is encoded and checked already, see `encoded`."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data


def encoded(value: object) -> Encoded:
    """Encode a value once, for several saves of lists that hold it. O(size).

    A script that saves a growing list at each step can keep what `encoded` returned for each member, and save the list
    of that. `save` then only copies bytes. All members must be such parts. `load` returns the values.

    Raises:
        NotSerializable: as `encode`, and for a value over 199 levels deep.

    """
    data = encode(value)
    if too_deep(b"[%b]" % data, [value]):
        raise _depth("$")
    return Encoded(data)


def encode(value: object) -> bytes:
    """Encode `value` as compact JSON, so that `decode` returns an equal value. O(size).

    Tuples are written as lists. Integers of any size are exact. A list of what `encoded` returned is put together.

    Raises:
        NotSerializable: NaN, an infinity, a key that is not a string, bytes, sets, dates, a lone surrogate or any other
            type that JSON lacks; over 64 MiB encoded; over 200 levels deep. `path` is the place.

    """
    if type(value) is list and value and type(value[0]) is Encoded:
        return _checked_size(_join(value))
    try:
        data = _encode(value)
        exact = _decode(data) == value
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError):
        exact = False
    if not exact:
        parts: list[str] = []
        _walk(value, "$", 0, parts)
        data = "".join(parts).encode()
    elif too_deep(data, value):
        raise _depth("$")
    return _checked_size(data)


def _join(parts: list[Encoded]) -> bytes:
    for place, part in enumerate(parts):
        if type(part) is not Encoded:
            raise _refuse(f"$[{place}]", "a value beside parts that are encoded", "Give it to codec.encoded as well")
    members = [part.data for part in parts]
    members[0] = b"[" + members[0]
    members[-1] += b"]"
    return b",".join(members)  # `%b` would take ten times as long to copy


def _checked_size(data: bytes) -> bytes:
    if len(data) > MAX_BYTES:
        raise NotSerializable(
            f"the value is {len(data):,} bytes encoded, over the limit of {MAX_BYTES:,}",
            "Split it over several keys, or save the path of a file that holds it",
        )
    return data


def is_exact(value: Any) -> bool:
    """Return whether a value comes back equal and of the same types. O(size).

    True for dict with string keys, list, str, int of any size, finite float, bool and None, within the limits of
    `encode`. False for anything else inside too: a tuple comes back as a list, a member of a `StrEnum` as a string.
    """
    import marshal  # it refuses subclasses of the built-in types, at the speed of C

    try:
        marshal.dumps(value, 2)
        return bool(decode(encode(value)) == value)
    except (ValueError, StateException):
        return False


def decode(data: bytes | str, what: str = "value") -> Any:
    """Decode the result of `encode`. `what` names the value in an error. O(size).

    Raises:
        Damaged: the data is not JSON, not UTF-8, or over a limit of this package.

    """
    _check_size(len(data), what)
    try:
        value = _decode(data)
    except msgspec.ValidationError:
        value = _decode_long(data, what)
    except ValueError as error:  # msgspec's errors and UnicodeDecodeError
        raise Damaged(f"{what} is not valid JSON: {error}", see("recover")) from error
    except RecursionError:
        raise _deep(what) from None
    if len(data) > 2 * MAX_DEPTH and too_deep(data, value):
        raise _deep(what)
    return value


def decode_level(data: bytes | memoryview | msgspec.Raw, what: str = "value") -> Any:
    """Decode only the outermost array or object; its members come as `msgspec.Raw`, still encoded. O(size).

    It takes a tenth of the time of `decode`, so that a screen can show the start of a large value at once. Damage
    further inside is found when that member is decoded.

    Raises:
        Damaged: the data is not JSON, or over the size limit.

    """
    _check_size(len(memoryview(data)), what)
    first = bytes(memoryview(data)[:64]).lstrip()[:1]
    kind: Any = {b"{": dict[str, msgspec.Raw], b"[": list[msgspec.Raw]}.get(first)
    if kind is None:
        return decode(bytes(data), what)
    try:
        return _decode(data, type=kind)
    except ValueError as error:
        raise Damaged(f"{what} is not valid JSON: {error}", see("recover")) from error
    except RecursionError:
        raise _deep(what) from None


def _check_size(size: int, what: str) -> None:
    if size > MAX_BYTES:
        raise Damaged(f"{what} is {size:,} bytes, over the limit of {MAX_BYTES:,}; it was not saved by stateview")


def _decode_long(data: bytes | str, what: str) -> Any:
    """Decode data with an integer that msgspec calls out of range."""
    try:
        value = parse_strict(data if isinstance(data, str) else data.decode())
        encode(value)  # the json module lets lone surrogates through
    except (ValueError, NotSerializable) as error:
        raise Damaged(f"{what} is not valid JSON: {error}", see("recover")) from error
    except RecursionError:
        raise _deep(what) from None
    return value


def _deep(what: str) -> Damaged:
    return Damaged(f"{what} is nested over {MAX_DEPTH} levels deep; it was not saved by stateview")


def normal(data: bytes, what: str = "value") -> bytes:
    """Rewrite JSON of another program as `encode` would write it. O(size).

    Raises:
        Damaged: the data is not JSON, not UTF-8, over a limit, or ambiguous: a key twice in an object.

    """
    value = decode(data, what)
    try:
        if (exact := _encode(value)) == data:
            return exact
        data = pretty(data, -1)
        if exact == data:
            return data
    except ValueError:  # an integer of over 4,300 digits
        pass
    try:
        return encode(parse_strict(data.decode()))
    except (ValueError, NotSerializable) as error:
        raise Damaged(f"{what} is not valid JSON: {error}") from error
    except RecursionError:
        raise _deep(what) from None


def canonical(value: object) -> bytes:
    """Return bytes that are equal exactly if two values are the same JSON. O(size log keys).

    `1`, `1.0` and `True` differ; the order of keys does not matter. `value` must come from `decode`.
    """
    try:
        return _encode(value, order="sorted")
    except ValueError:  # an integer of over 4,300 digits
        import json  # imported here: it takes as long as this whole module

        return json.dumps(_spell_long(value), sort_keys=True).encode()


def _spell_long(value: object) -> object:
    if isinstance(value, dict):
        return {key: _spell_long(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_spell_long(item) for item in value]
    return {"\ud800": hex(value)} if type(value) is int and value.bit_length() > 13_000 else value


def parse_strict(text: str) -> Any:
    """Decode JSON of a person or another program; duplicate keys, NaN and overflow are errors.

    Raises:
        json.JSONDecodeError: the text is not JSON, with line and column.
        ValueError: a duplicate key, or a number that JSON lacks.
        RecursionError: the text is nested too deep for the interpreter.

    """

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        members = dict(items)
        if len(members) != len(items):
            keys = [key for key, _ in items]
            raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} occurs twice")
        return members

    def constant(text: str) -> Any:
        raise ValueError(f"{text} is not JSON")

    def number(text: str) -> float:
        value = float(text)
        if value in (float("inf"), float("-inf")):
            raise ValueError(f"the number {text[:40]} is too large")
        return value

    import json

    return json.loads(text, object_pairs_hook=pairs, parse_constant=constant, parse_float=number, parse_int=_long_int)


def decode_text(data: bytes) -> str:
    """Decode the text of a file, or of standard input, that a person names.

    Raises:
        UnicodeDecodeError: it is not plain UTF-8; `text_fault` says why. Nobody sees a byte order mark in a file, so it
            is refused and not dropped: data would change on the way.

    """
    check_text_start(data[:64])
    return data.decode()


def check_text_start(start: bytes) -> None:
    """Raise `UnicodeDecodeError` if a text that starts like this has a byte order mark, or is UTF-16 or UTF-32."""
    for mark, encoding in _MARKS.items():
        if start.startswith(mark):
            raise UnicodeDecodeError("utf-8", start, 0, len(mark), f"a byte order mark ({encoding})")
    if len(start) > 1 and any(start[::2]) != any(start[1::2]):  # every second byte is zero
        raise UnicodeDecodeError("utf-8", start, 0, 2, "text in UTF-16")


def text_fault(error: UnicodeDecodeError) -> str:
    """Return what `decode_text` found, as the rest of a sentence about the file."""
    return f"is not plain UTF-8 text: {error.reason} at byte {error.start}"


def pretty(data: bytes, indent: int = 2, what: str = "a value") -> bytes:
    """Format encoded JSON with indentation (below 0: without spaces), digits unchanged. O(size).

    Raises:
        Damaged: it is nested too deep for the interpreter, so `encode` did not make it.

    """
    try:
        return msgspec.json.format(data, indent=indent)
    except RecursionError:
        raise _deep(what) from None


def too_deep(data: bytes | str, value: object) -> bool:
    """Return whether `value`, encoded as `data`, is nested over the limit. O(1) with few brackets, else O(nodes)."""
    if len(data) <= 2 * MAX_DEPTH or not _has_many_brackets(data):  # each level opens and closes
        return False
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        boxes = (box for box in level if isinstance(box, (dict, list, tuple)))
        items = list(chain.from_iterable(box.values() if isinstance(box, dict) else box for box in boxes))
        if _SCALARS.issuperset(map(type, items)):
            return False
        level = [item for item in items if type(item) not in _SCALARS]
    return True


def _has_many_brackets(data: bytes | str) -> bool:
    """Return whether more arrays and objects begin than there may be levels. `find` is faster than `count` here."""
    found = 0
    for sign in "[{":
        mark: Any = sign.encode() if isinstance(data, bytes) else sign
        at = data.find(mark)
        while at >= 0:
            found += 1
            if found > MAX_DEPTH:
                return True
            at = data.find(mark, at + 1)
    return False


def _depth(path: str) -> NotSerializable:
    return NotSerializable(
        f"the value is nested over {MAX_DEPTH} levels deep, or holds itself, at {path[:80]}", path=path
    )


def _refuse(path: str, why: str, hint: str) -> NotSerializable:
    return NotSerializable(f"{why} at {path} cannot be saved: it would not come back equal", hint, path)


def _walk(value: object, path: str, depth: int, out: list[str]) -> None:
    """Encode a value that the fast encoder changed or refused, and name the place of an error."""
    if depth == MAX_DEPTH and isinstance(value, (dict, list, tuple)):
        raise _depth(path)
    if value is None or value is True or value is False:
        out.append({None: "null", True: "true", False: "false"}[value])
    elif isinstance(value, str):
        out.append(_text(value, path))
    elif isinstance(value, int):
        out.append(_int_text(int.__index__(value)))
    elif isinstance(value, float):
        if not isfinite(value):
            number = float.__repr__(value)
            raise _refuse(path, f"the number {number}", "JSON has no such number; save null or a string")
        out.append(float.__repr__(value))
    elif isinstance(value, dict):
        out.append("{")
        for position, (key, item) in enumerate(value.items()):
            if not isinstance(key, str):
                kind = type(key).__name__
                raise _refuse(path, f"the {kind} key {key!r}"[:120], "The keys of a JSON object are strings")
            out.append(("," if position else "") + _text(key, path) + ":")
            _walk(item, path + (f".{key}" if key.isidentifier() else f"[{_text(key, path)}]"), depth + 1, out)
        out.append("}")
    elif isinstance(value, (list, tuple)):
        out.append("[")
        for position, item in enumerate(value):
            if position:
                out.append(",")
            _walk(item, f"{path}[{position}]", depth + 1, out)
        out.append("]")
    else:
        hint = _INSTEAD.get(type(value).__name__, "Save only dict, list, str, int, float, bool and None")
        raise _refuse(path, f"a {type(value).__name__}", hint)


def _text(text: str, path: str) -> str:
    try:
        return _encode(str.__str__(text)).decode()  # a subclass, such as an Enum, may print differently
    except UnicodeEncodeError:
        raise _refuse(path, "a string with a lone surrogate", "It is not valid Unicode text") from None


def _int_text(number: int) -> str:
    if number < 0:
        return "-" + _int_text(-number)
    if number.bit_length() < 13_000:
        return str(number)
    half = 10 ** (number.bit_length() * 3 // 20)  # about half of the digits
    high, low = divmod(number, half)
    return _int_text(high) + _int_text(low).rjust(len(_int_text(half)) - 1, "0")


def _long_int(text: str) -> int:
    if text.startswith("-"):
        return -_long_int(text[1:])
    if len(text) <= _DIGITS:
        return int(text)
    cut = len(text) // 2
    shift: int = 10**cut
    return _long_int(text[:-cut]) * shift + _long_int(text[-cut:])
