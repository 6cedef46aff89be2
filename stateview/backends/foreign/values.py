"""The JSON that shows the values of another program. Nothing is executed, and no class is imported.

What JSON lacks is an object with one marker:

- `{"$class": "module.Name", …}`: an object; its fields follow, or its arguments under `$args`.
- `{"$bytes": {"bytes": 3, "base64": "…"}}`: bytes; long ones are opaque.
- `{"$opaque": {"type": "pickle", "bytes": 123, "sha256": "…"}}`: what is not decoded. A diff compares the digests.
- `{"$number": "NaN"}`: a number that JSON lacks.
- `{"$map": [[key, value], …]}`: a map with keys that are no text, or that are a marker.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable
from datetime import datetime
from hashlib import sha256
from math import isfinite
from typing import Any

import msgspec

from ... import codec
from ...errors import NotSerializable, StateException

MAX_SHOWN_BYTES = 1024  # of bytes that are shown as base64; longer ones are opaque
_MARKERS = ("$class", "$args", "$bytes", "$opaque", "$number", "$map")
_SIGNS = [f'"{marker}":'.encode() for marker in _MARKERS]  # inside a JSON text the quotes would have a backslash
_EXTENSIONS = ("one argument", "arguments", "fields", "method", "fields", "fields")  # of LangGraph: codes 0 to 5
_ARRAY, _SNAPSHOT = 6, 7

Bytes = bytes | bytearray | memoryview


class Marked(dict[str, Any]):
    """An object that this module made, in contrast to a map of the other program that looks like it."""


def opaque(kind: str, data: Bytes | None = None, size: int | None = None, **more: Any) -> Marked:
    """Return what stands for data that is not decoded: its type, its size, and its digest if it is at hand."""
    shown: dict[str, Any] = {"type": kind}
    if data is not None:
        shown |= {"bytes": len(data), "sha256": digest(sha256(data))}
    elif size is not None:
        shown["bytes"] = size
    return Marked({"$opaque": shown | more})


def digest(hashed: Any) -> str:
    """Return the digits of a hash that an opaque value shows."""
    return str(hashed.hexdigest()[:16])


def shown_bytes(data: Bytes) -> Marked:
    """Return what shows bytes: base64 and their number, or an opaque value if they are many."""
    if len(data) > MAX_SHOWN_BYTES:
        return opaque("bytes", data)
    return Marked({"$bytes": {"bytes": len(data), "base64": base64.b64encode(data).decode()}})


def shown_text(data: bytes) -> Any:
    """Return bytes of a store that knows no types: text if they are UTF-8, else what shows bytes."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return shown_bytes(data)


def encode(value: Any, data: Bytes | None, kind: str) -> bytes:
    """Encode a decoded value. `data` and `kind` describe a value that JSON cannot hold, as where it is too deep.

    Where `data` is None, the JSON of the value describes it, which is then over the limit in size alone.
    """
    try:
        return codec.encode(_marked(value))
    except (NotSerializable, RecursionError, UnicodeEncodeError):
        return codec.encode(opaque(kind, msgspec.json.encode(_marked(value)) if data is None else data))


def _marked(value: Any) -> Any:
    """Return a value with markers for what JSON lacks. A value without any of that comes back as it is."""
    kind = type(value)
    if kind is str or kind is int or kind is bool or value is None:
        return value
    if kind is float:
        return value if isfinite(value) else Marked({"$number": str(value)})
    if kind is list or kind is tuple:
        return [_marked(item) for item in value]
    if kind is Marked:
        return Marked({name: _marked(item) for name, item in value.items()})
    if isinstance(value, dict):
        if any(type(key) is not str or key in _MARKERS for key in value):
            return Marked({"$map": [[_marked(key), _marked(item)] for key, item in value.items()]})
        return {key: _marked(item) for key, item in value.items()}
    if isinstance(value, (bytes, bytearray, memoryview)):
        return shown_bytes(value)
    if isinstance(value, datetime):  # MessagePack's own timestamps
        return Marked({"$class": "datetime.datetime", "$args": [value.isoformat()]})
    return opaque(kind.__name__)


# --- what LangGraph and others store -------------------------------------------------------------------------------


def typed_json(kind: object, data: object) -> bytes:
    """Encode what a serializer of LangGraph wrote as a type and bytes, such as `msgpack`. It never fails."""
    if kind is None:
        kind = "json" if isinstance(data, (str, bytes)) else "null"
    if kind == "null" or data is None:
        return b"null"
    if isinstance(data, str):
        data = data.encode(errors="replace")
    if not isinstance(data, bytes):
        return codec.encode(opaque(f"{kind} in a {type(data).__name__}", repr(data).encode()))
    read = {"msgpack": msgpack_json, "json": json_text, "bytes": _bytes_json, "bytearray": _bytes_json}.get(str(kind))
    return codec.encode(opaque(str(kind)[:60], data)) if read is None else read(data)


def _bytes_json(data: Bytes) -> bytes:
    return codec.encode(shown_bytes(data))


def json_text(data: bytes) -> bytes:
    """Encode JSON of another program. What is not JSON, such as a NaN in it, becomes opaque or a marker."""
    try:
        return codec.normal(data)
    except StateException:
        pass
    try:
        return encode(json.loads(data), data, "json")
    except (ValueError, RecursionError):
        return codec.encode(opaque("json", data))


def msgpack_json(data: Bytes) -> bytes:
    """Encode MessagePack with the extensions of LangGraph's `JsonPlusSerializer`."""
    made = 0

    def extension(code: int, payload: memoryview) -> Any:
        nonlocal made
        value = _extension(code, payload, extension)
        made += 1
        return value

    try:
        value = msgspec.msgpack.decode(data, ext_hook=extension)
    except (ValueError, TypeError, RecursionError, MemoryError, msgspec.MsgspecError):
        return codec.encode(opaque("msgpack", data))
    if not made:
        try:  # most values are plain JSON, which needs no walk
            encoded = codec.encode(value)
            if not any(sign in encoded for sign in _SIGNS):
                return encoded
        except (NotSerializable, RecursionError, UnicodeEncodeError):
            pass
    return encode(value, data, "msgpack")


def _extension(code: int, payload: memoryview, hook: Callable[[int, memoryview], Any]) -> Any:
    """Return what shows an extension value: an object with its class, or an opaque value."""
    known = 0 <= code <= _SNAPSHOT
    content = msgspec.msgpack.decode(payload, ext_hook=hook) if known else None
    if code == _SNAPSHOT:
        return Marked({"$class": "langgraph.DeltaSnapshot", "$args": [content]})
    if code == _ARRAY and isinstance(content, list) and len(content) == 4:
        kind, shape, order, data = content
        return Marked({"$class": "numpy.ndarray", "dtype": kind, "shape": shape, "order": order, "data": data})
    if not known or not isinstance(content, list) or len(content) < 3:
        return opaque(f"extension {code}", payload)
    module, name, argument = content[:3]
    label = f"{module}.{name}"
    how = _EXTENSIONS[code]
    if how == "fields" and isinstance(argument, dict) and _are_names(argument):
        return Marked({"$class": label, **argument})
    if how == "arguments" and isinstance(argument, list):
        return Marked({"$class": label, "$args": argument})
    if label in ("builtins.set", "builtins.frozenset") and isinstance(argument, list):
        argument = sorted(
            argument, key=lambda item: msgspec.json.encode(_marked(item))
        )  # a set has no order of its own
    return Marked({"$class": label, "$args": [argument]})


def _are_names(fields: dict[Any, Any]) -> bool:
    return all(type(name) is str and name not in _MARKERS for name in fields)


def inflated(data: bytes) -> bytes | None:
    """Return what zlib compressed; None if it is not that, or over the limit of a value."""
    stream = zlib.decompressobj()
    try:
        plain = stream.decompress(data, codec.MAX_BYTES)
    except zlib.error:
        return None
    return plain if stream.eof else None
