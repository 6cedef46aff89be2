"""The only place that encodes or decodes a value. JSON text in UTF-8, compact, and exact or refused.

msgspec does the work; it is trusted with nothing: it writes NaN as null and bytes as base64, so what it wrote is read
back and compared, and where the two differ a slower walk says why, or encodes what is fine all the same (tuples).
"""

from __future__ import annotations

from math import isfinite
from typing import Any

import msgspec

from .errors import Damaged, NotSerializable, see

MAX_BYTES = 64 * 1024 * 1024
MAX_DEPTH = 200
_DIGITS = 4000  # below the interpreter's limit on the digits of one int() or str()

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


def encode(value: object) -> bytes:
    """Encode `value` as compact JSON, so that `decode` gives back its equal. O(size).

    Tuples are written as lists. Integers of any size are exact.

    Raises:
        NotSerializable: NaN, an infinity, a key that is no string, bytes, sets, dates, lone surrogates and all that
            JSON has not; over 64 MiB encoded; over 200 levels deep. `path` says where.

    """
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
    if len(data) > MAX_BYTES:
        raise NotSerializable(
            f"the value is {len(data):,} bytes encoded, over the limit of {MAX_BYTES:,}",
            "Split it over several keys, or save the path of a file that holds it",
        )
    return data


def decode(data: bytes | str, what: str = "value") -> Any:
    """Decode what `encode` wrote. `what` names it in an error. O(size).

    Raises:
        Damaged: not JSON, not UTF-8, or over a limit of this package.

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
    """Decode only the outermost array or object; what it holds comes as `msgspec.Raw`, still encoded. O(size).

    A tenth of the time that `decode` takes, so that a screen can show the start of a large value at once. What is wrong
    further inside, or nested too deep there, is found when that is decoded.

    Raises:
        Damaged: not JSON, or over the limit of size.

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
    """Decode what msgspec says is out of range: an integer beyond the interpreter's limit on digits is none of it."""
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
    """JSON that came from elsewhere as `encode` would write it; refused where it is in doubt what it says. O(size).

    Raises:
        Damaged: not JSON, not UTF-8, over a limit, or something that JSON leaves open: a key twice in an object.

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
    """Bytes that are equal exactly when two values are the same JSON: `1`, `1.0` and `True` differ, key order does not.

    O(size log keys). `value` must be what `decode` returned.
    """
    try:
        return _encode(value, order="sorted")
    except ValueError:  # an integer of over 4,300 digits
        import json  # where it is needed: it costs as much time as all of this module

        return json.dumps(_spell_long(value), sort_keys=True).encode()


def _spell_long(value: object) -> object:
    if isinstance(value, dict):
        return {key: _spell_long(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_spell_long(item) for item in value]
    return {"\ud800": hex(value)} if type(value) is int and value.bit_length() > 13_000 else value


def parse_strict(text: str) -> Any:
    """Decode JSON that a person or another program wrote: duplicate keys, NaN and overflow are errors.

    Raises:
        json.JSONDecodeError: not JSON, with line and column.
        ValueError: a duplicate key, or a number that JSON has not.
        RecursionError: nested too deep for the interpreter.

    """

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(items)
        if len(found) != len(items):
            keys = [key for key, _ in items]
            raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} is there twice")
        return found

    def constant(text: str) -> Any:
        raise ValueError(f"{text} is not JSON")

    def number(text: str) -> float:
        value = float(text)
        if value in (float("inf"), float("-inf")):
            raise ValueError(f"the number {text[:40]} is too large")
        return value

    import json

    return json.loads(text, object_pairs_hook=pairs, parse_constant=constant, parse_float=number, parse_int=_long_int)


def pretty(data: bytes, indent: int = 2) -> bytes:
    """Encoded JSON with indentation (below 0: without any space), digits untouched. O(size)."""
    return msgspec.json.format(data, indent=indent)


def too_deep(data: bytes | str, value: object) -> bool:
    """Whether `value`, encoded as `data`, is nested over the limit. O(1) for what has few brackets, else O(nodes)."""
    if len(data) <= 2 * MAX_DEPTH:  # each level opens and closes
        return False
    brackets = data.count(b"[") + data.count(b"{") if isinstance(data, bytes) else data.count("[") + data.count("{")
    if brackets <= MAX_DEPTH:
        return False
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        level = [
            item
            for box in level
            if isinstance(box, (dict, list, tuple))
            for item in (box.values() if isinstance(box, dict) else box)
            if isinstance(item, (dict, list, tuple))
        ]
        if not level:
            return False
    return True


def _depth(path: str) -> NotSerializable:
    return NotSerializable(
        f"the value is nested over {MAX_DEPTH} levels deep, or holds itself, at {path[:80]}", path=path
    )


def _refuse(path: str, why: str, hint: str) -> NotSerializable:
    return NotSerializable(f"{why} at {path} cannot be saved: it would not come back equal", hint, path)


def _walk(value: object, path: str, depth: int, out: list[str]) -> None:
    """Encode by hand, refusing by path. Only reached by what the fast encoder changed or refused."""
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
        return _encode(str.__str__(text)).decode()  # a subclass, such as an Enum, may show itself otherwise
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
