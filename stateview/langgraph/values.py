"""Write the values of channels as JSON that people read, and read them by LangGraph's own serializer.

What JSON holds exactly stays as it is. An object becomes a JSON object that names its class: the fields of a message
stand beside `"@class"`. To be read, it is packed again as LangGraph's `JsonPlusSerializer` packs it. So the serializer
and its allowlist decide what is made of it. Nothing else is imported or called.
"""

from __future__ import annotations

import marshal
import math
from base64 import b64decode, b64encode
from collections.abc import Iterator
from operator import is_
from typing import Any

import ormsgpack
from langchain_core import messages
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from stateview import Damaged
from stateview.codec import Encoded, encoded, is_exact

_CLASS = "@class"
_AS = "@as"  # how the object is made; a model of pydantic, such as a message, has none
_MARK = _CLASS.encode()
_BYTES, _FLOAT, _DICT, _BLOB = "bytes", "float", "dict", "blob"  # classes of what is no extension of msgpack

# LangGraph's codes of extensions: `EXT_…` in `langgraph.checkpoint.serde.jsonplus`.
_PYDANTIC, _DELTA = 5, 7
_WAYS = {"value": 0, "arguments": 1, "fields": 2, "method": 3, "pydantic-1": 4}
_WAY_OF = {code: way for way, code in _WAYS.items()}
_METHOD_OF_MODEL = "model_validate_json"
_PARTS_BYTES = 8_000_000  # of encoded messages that are remembered, twice
_BOXES = frozenset({dict, list, tuple})
_OPTION = ormsgpack.OPT_NON_STR_KEYS
_REMEDY = "Someone changed it by hand: undo that, or restore the channel from a checkpoint"


# Messages of the plain classes are shown and made without msgpack, in the same way: half of the time is saved.
_MESSAGES: dict[str, type[messages.BaseMessage]] = {
    f"{kind.__module__}.{kind.__name__}": kind
    for kind in (
        messages.AIMessage, messages.FunctionMessage, messages.HumanMessage, messages.SystemMessage,
        messages.ToolMessage,
    )
}  # fmt: skip
_NAMES = {kind: name for name, kind in _MESSAGES.items()}


class _Opaque(Exception):
    """Say that a value has a part that cannot be shown, so that it is stored as a blob."""


def guess_json(value: Any, serde: SerializerProtocol) -> Any:
    """Return a value as JSON by a look at its types. Where a `save` refuses the result, `to_json` is right.

    A value that JSON holds exactly, a message and a list of messages are not encoded here. `save` does that, and would
    do it a second time.
    """
    if not isinstance(serde, JsonPlusSerializer):
        return to_json(value, serde)
    guess = _show_messages(value) if type(value) is list else None
    if guess:
        return guess
    if holds_mark(value):
        return to_json(value, serde)
    try:
        marshal.dumps(value, 2)  # it refuses what `save` would take for a plain value: members of a `StrEnum`
    except ValueError:
        return to_json(value, serde)
    return value


def _show_messages(values: list[Any]) -> list[Encoded] | None:
    """Return messages as objects that name their classes, encoded; None if the list holds anything else.

    A conversation is saved at each turn, and nearly all of its messages are those of the turn before.
    """
    shown = []
    for value in values:
        try:
            part = _parts.unchanged(value) or _parts.made(value)
        except ValueError:  # of `marshal`, or of a field that compares in its own way
            return None
        if part is None:
            return None
        shown.append(part)
    return shown


def _message_fields(value: Any) -> dict[str, Any] | None:
    """Return a message as an object that names its class; None if it is none, or needs the serializer.

    Fields that have their default value are left out: they are most of a message's fields.
    """
    name = _NAMES.get(type(value))
    if name is None:
        return None
    fields = value.model_dump(exclude_defaults=True)
    if _CLASS in fields or _AS in fields or _any_holds_mark(fields):
        return None
    return {_CLASS: name, "type": value.type, **fields}


def _plain_messages(value: Any) -> Any:
    """Return a message, or a list of them, as objects that name their classes; None for anything else."""
    if type(value) is not list:
        return _message_fields(value)
    shown = []
    for item in value:
        if (fields := _message_fields(item)) is None:
            return None
        shown.append(fields)
    return shown or None


class _Parts:
    """Messages as they were last encoded. Those that were not asked for since a while are forgotten."""

    def __init__(self) -> None:
        self._recent: dict[bytes, Encoded] = {}
        self._older: dict[bytes, Encoded] = {}
        self._bytes = 0  # of the recent ones
        self._objects: dict[int, tuple[Any, tuple[Any, ...], Any, list[Any], bytes, Encoded]] = {}
        self._noted = 0  # bytes of the parts of these objects

    def unchanged(self, value: Any) -> Encoded | None:
        """Return a message that was made before, if it has the same fields and nothing in them has changed.

        A run keeps its messages from turn to turn, and may change them in place.
        """
        known = self._objects.get(id(value))
        if known is None:
            return None
        _, fields, extra, boxes, text, part = known
        now = value.__dict__
        if len(now) != len(fields) or not all(map(is_, now.values(), fields)) or value.__pydantic_extra__ is not extra:
            return None  # a field that is another object may be equal to what it replaced: 1 and True are
        return part if (marshal.dumps(boxes, 2) == text if text else not any(boxes)) else None

    def made(self, value: Any) -> Encoded | None:
        """Return a message encoded, as an equal message was before; None if it is none, or needs the serializer."""
        name = _NAMES.get(type(value))
        if name is None:
            return None
        fields, extra = value.__dict__, value.__pydantic_extra__
        # Equal texts mean equal messages: each type has a mark of its own, and subclasses of `str` are refused
        text = marshal.dumps((name, fields, extra), 2)
        part = self._recent.get(text)
        if part is None:
            part = self._older.get(text)
            if part is None:
                shown = _message_fields(value)
                if shown is None:
                    return None
                part = encoded(shown)
            self._recent[text] = part
            self._bytes += len(text) + len(part.data)
            if self._bytes > _PARTS_BYTES:
                self._older, self._recent, self._bytes = self._recent, {}, 0
        boxes = [field for field in (*fields.values(), extra) if type(field) in _BOXES]
        packed = marshal.dumps(boxes, 2) if any(boxes) else b""
        self._objects[id(value)] = value, (*fields.values(),), extra, boxes, packed, part
        self._noted += len(part.data)
        if self._noted > _PARTS_BYTES:
            self._objects, self._noted = {}, 0
        return part


_parts = _Parts()


def _any_holds_mark(fields: dict[str, Any]) -> bool:
    for item in fields.values():  # noqa: SIM110 - `any` takes twice as long
        if item and type(item) in (dict, list) and holds_mark(item):
            return True
    return False


def to_json(value: Any, serde: SerializerProtocol) -> Any:
    """Return a value as JSON. O(size).

    Raises:
        TypeError: the serializer does not take the value.

    """
    ours = isinstance(serde, JsonPlusSerializer)  # another one, such as that which encrypts, is given every value
    if ours and (shown := _plain_messages(value)) is not None and is_exact(shown):
        return shown
    if ours and is_exact(value) and not holds_mark(value):
        return value
    kind, data = serde.dumps_typed(value)
    if ours and kind == "msgpack":
        try:
            return _shown(data)
        except _Opaque:
            pass
    if ours and kind == _BYTES:
        return _spell(data)
    return {_CLASS: _BLOB, "type": kind, "base64": b64encode(data).decode()}


def from_json(value: Any, serde: SerializerProtocol) -> Any:
    """Return what a value in JSON stands for, by the serializer. O(size).

    Raises:
        Damaged: an object names a class, and lacks what belongs to it.

    """
    if type(value) is list and (made := _make_messages(value)) is not None:
        return made
    if not holds_mark(value):
        return value
    if isinstance(value, dict) and value.get(_CLASS) == _BLOB:
        return serde.loads_typed(_blob(value))
    packed = ormsgpack.packb(_to_packed(value), option=_OPTION)
    return serde.loads_typed(("msgpack", packed))


def _make_messages(values: list[Any]) -> list[Any] | None:
    """Return the messages that a list stands for; None if anything else needs the serializer."""
    made = []
    for value in values:
        kind = _MESSAGES.get(value.get(_CLASS, "")) if type(value) is dict else None
        if kind is None or _AS in value:
            return None
        fields = value.copy()
        del fields[_CLASS]
        if _any_holds_mark(fields) or "content_blocks" in fields:
            return None
        try:
            # `kind(**fields)` does the same, and passes three constructors that only look for `content_blocks`
            made.append(kind.__pydantic_validator__.validate_python(fields, self_instance=kind.__new__(kind)))
        except (TypeError, ValueError):  # someone changed it by hand
            return None
    return made or None


def _blob(value: dict[str, Any]) -> tuple[str, bytes]:
    """Return what a serializer made of a value."""
    try:
        return value["type"], b64decode(value["base64"], validate=True)
    except (KeyError, TypeError, ValueError) as error:
        raise _broken(_BLOB) from error


def _broken(name: str) -> Damaged:
    return Damaged(f"a value holds an object of the class {name[:80]!r} that is not whole", _REMEDY)


def holds_mark(value: Any) -> bool:
    """Return whether an object in a JSON value names a class."""
    return next(_marked(value), None) is not None


def _count_marks(value: Any) -> int:
    return sum(1 for _ in _marked(value))


def _marked(value: Any) -> Iterator[dict[Any, Any]]:
    """Yield the objects in a JSON value that name a class. O(containers)."""
    level = [value]
    while level:
        below: list[Any] = []
        for box in level:
            if type(box) is dict:
                if _CLASS in box:
                    yield box
                below += [item for item in box.values() if type(item) in (dict, list)]
            elif type(box) is list:
                below += [item for item in box if type(item) in (dict, list)]
        level = below


def _shown(data: bytes) -> Any:
    """Return a packed value as JSON, its extensions as objects that name their classes."""
    made = 0

    def show(code: int, data: bytes) -> Any:
        nonlocal made
        made += 1
        return _show(code, ormsgpack.unpackb(data, ext_hook=show, option=_OPTION))

    found = ormsgpack.unpackb(data, ext_hook=show, option=_OPTION)
    if _MARK in data and _count_marks(found) != made:
        _refuse()  # a dict of the user has this key
    if not is_exact(found):
        found = _spell(found)
        if not is_exact(found):
            _refuse()  # such as one that is nested too deep
    return found


def _show(code: int, found: Any) -> Any:
    """Return an extension of msgpack as an object that names its class."""
    if code == _DELTA:
        return {_CLASS: "langgraph.checkpoint.serde.types._DeltaSnapshot", _AS: "delta", "value": found}
    if code == _PYDANTIC and len(found) == 4 and found[3] == _METHOD_OF_MODEL and type(found[2]) is dict:
        fields = {_CLASS: f"{found[0]}.{found[1]}", **found[2]}
        return fields if _AS not in fields and len(fields) == len(found[2]) + 1 else _refuse()
    way = _WAY_OF.get(code)
    if way is None or len(found) != (4 if way == "method" else 3):
        return _refuse()
    shown = {_CLASS: f"{found[0]}.{found[1]}", _AS: way, "value": found[2]}
    return {**shown, "method": found[3]} if way == "method" else shown


def _refuse() -> Any:
    raise _Opaque


def _spell(value: Any) -> Any:
    """Return what msgpack holds and JSON lacks as objects that name their classes."""
    if isinstance(value, bytes):
        return {_CLASS: _BYTES, "base64": b64encode(value).decode()}
    if isinstance(value, float) and not math.isfinite(value):
        return {_CLASS: _FLOAT, "value": repr(value)}
    if isinstance(value, list):
        return [_spell(item) for item in value]
    if isinstance(value, dict):
        if all(isinstance(key, str) for key in value):
            return {key: _spell(item) for key, item in value.items()}
        return {_CLASS: _DICT, "items": [[_spell(key), _spell(item)] for key, item in value.items()]}
    if isinstance(value, tuple):  # a key of a dict
        return _refuse()
    return value


def _to_packed(value: Any) -> Any:
    """Return a value for `ormsgpack`, with an extension for each object that names its class."""
    if type(value) is list:
        return [_to_packed(item) if type(item) in (dict, list) else item for item in value]
    if type(value) is not dict:
        return value
    name = value.get(_CLASS)
    if not isinstance(name, str):
        return {key: _to_packed(item) for key, item in value.items()}
    try:
        return _to_extension(name, value)
    except (KeyError, TypeError, ValueError) as error:
        raise _broken(name) from error


def _to_extension(name: str, value: dict[str, Any]) -> Any:
    if name == _BYTES:
        return b64decode(value["base64"])
    if name == _FLOAT:
        return float(value["value"])
    if name == _BLOB:
        raise ValueError(name)  # it stands for a whole value
    if name == _DICT:
        return {_to_packed(key): _to_packed(item) for key, item in value["items"]}
    way = value.get(_AS)
    if "." not in name:
        raise ValueError(name)
    if way == "delta":
        return ormsgpack.Ext(_DELTA, ormsgpack.packb(_to_packed(value["value"]), option=_OPTION))
    module, _, class_name = name.rpartition(".")
    if way is None:
        fields = {key: _to_packed(item) for key, item in value.items() if key != _CLASS}
        made: tuple[Any, ...] = (module, class_name, fields, _METHOD_OF_MODEL)
        return ormsgpack.Ext(_PYDANTIC, ormsgpack.packb(made, option=_OPTION))
    made = (module, class_name, _to_packed(value["value"]), *([value["method"]] if way == "method" else ()))
    return ormsgpack.Ext(_WAYS[way], ormsgpack.packb(made, option=_OPTION))
