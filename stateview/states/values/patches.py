"""Changes inside a JSON value: a place set, a JSON Patch (RFC 6902), a merge patch (RFC 7396).

All functions change the value that they get, and return it or its replacement: give them a fresh copy.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from ...errors import Conflict, InvalidArgument, KeyNotFound, see
from ...model import ABSENT
from .pointers import is_index, split_pointer

_ROOT = ""  # the member of a box around the value, so that the whole value is a place like any other


def get_place(value: Any, path: str, key: str, default: Any = ABSENT) -> Any:
    """Return what lies at a JSON Pointer, or the default. O(length of the path).

    Raises:
        InvalidName: the path is not a JSON Pointer.
        KeyNotFound: nothing lies there, and no default was given; or nothing can lie there.

    """
    box, token = _place({_ROOT: value}, path, key)
    found = _member(box, token)
    if found is ABSENT and (default is ABSENT or not (isinstance(box, dict) or token == "-")):
        raise _missing(key, path)
    return default if found is ABSENT else found


def set_place(value: Any, path: str, new: Any, key: str) -> Any:
    """Set what lies at a JSON Pointer, and return the value. `-` appends to an array. O(length of the path).

    Raises:
        InvalidName: the path is not a JSON Pointer.
        KeyNotFound: nothing can lie there: what is to hold it is missing.

    """
    root = {_ROOT: value}
    box, token = _place(root, path, key)
    if isinstance(box, list) and token != "-":
        get_place(value, path, key)
        box[int(token)] = new
    else:
        _add(box, token, new, key, path)
    return root[_ROOT]


def merge_patch(value: Any, patch: Any) -> Any:
    """Return a value with a merge patch applied (RFC 7396, section 2): null removes a member. O(size of the patch)."""
    if not isinstance(patch, dict):
        return patch
    if not isinstance(value, dict):
        value = {}
    for name, part in patch.items():
        if part is None:
            value.pop(name, None)
        else:
            value[name] = merge_patch(value.get(name), part)
    return value


def apply_patch(value: Any, operations: Any, key: str) -> Any:
    """Return a value with the operations of a JSON Patch applied in turn (RFC 6902). O(size, for each operation).

    Raises:
        InvalidArgument: the operations are not a JSON Patch, or one removes the whole value.
        InvalidName: a path is not a JSON Pointer.
        KeyNotFound: an operation names a place that is not there.
        Conflict: a `test` found another value.

    """
    if not isinstance(operations, list):
        raise InvalidArgument(f"a JSON Patch is an array of operations, not {type(operations).__name__}")
    root = {_ROOT: value}
    for number, operation in enumerate(operations):
        _apply(root, operation, f"operation {number} of the JSON Patch", key)
    return root[_ROOT]


def _apply(root: dict[str, Any], operation: Any, name: str, key: str) -> None:
    if not isinstance(operation, dict):
        raise InvalidArgument(f"{name} is not an object")
    act = operation.get("op")
    needed = _NEEDED.get(act) if isinstance(act, str) else None
    if needed is None:
        raise InvalidArgument(f"{name} has op {act!r:.40}: give add, remove, replace, move, copy or test")
    for member in needed:
        if member not in operation or (member != "value" and not isinstance(operation[member], str)):
            raise InvalidArgument(
                f"{name} ({act}) has no {member!r}" + ("" if member == "value" else " that is a string")
            )
    path = operation["path"]
    if act == "test":
        found = get_place(root[_ROOT], path, key)
        if not is_equal(found, operation["value"]):
            raise Conflict(f"{name} found another value at {path!r} of {key!r}", see("load", key))
    elif act == "remove":
        _remove(root, path, name, key)
    elif act == "replace":
        get_place(root[_ROOT], path, key)
        root[_ROOT] = set_place(root[_ROOT], path, operation["value"], key)
    elif act == "add":
        _add(*_place(root, path, key), operation["value"], key, path)
    else:
        source = operation["from"]
        if act == "move" and path.startswith(source + "/"):
            raise InvalidArgument(f"{name} moves {source!r} into itself")
        moved = get_place(root[_ROOT], source, key)
        if act == "copy":
            moved = deepcopy(moved)
        elif source != path:
            _remove(root, source, name, key)
        if act == "copy" or source != path:
            _add(*_place(root, path, key), moved, key, path)


_NEEDED = {
    "add": ("path", "value"),
    "remove": ("path",),
    "replace": ("path", "value"),
    "move": ("path", "from"),
    "copy": ("path", "from"),
    "test": ("path", "value"),
}


def is_equal(one: Any, other: Any) -> bool:
    """Return whether two JSON values are equal, numbers by their value (RFC 6902, section 4.6). O(size)."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(is_equal(part, other[name]) for name, part in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(is_equal, one, other))
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    return bool(one == other)


def _place(root: dict[str, Any], path: str, key: str) -> tuple[Any, str]:
    """Return the object or array that holds a place, and the last token of its path."""
    *way, token = (_ROOT, *split_pointer(path))
    box: Any = root
    for step in way:
        box = _member(box, step)
        if box is ABSENT:
            raise _missing(key, path)
    if not isinstance(box, (dict, list)):
        raise _missing(key, path)
    return box, token


def _member(box: Any, token: str) -> Any:
    if isinstance(box, dict):
        return box.get(token, ABSENT)
    if isinstance(box, list) and is_index(token) and int(token) < len(box):
        return box[int(token)]
    return ABSENT


def _add(box: Any, token: str, new: Any, key: str, path: str) -> None:
    if isinstance(box, dict):
        box[token] = new
    elif token == "-":
        box.append(new)
    elif is_index(token) and int(token) <= len(box):
        box.insert(int(token), new)
    else:
        raise _missing(key, path)


def _remove(root: dict[str, Any], path: str, name: str, key: str) -> None:
    box, token = _place(root, path, key)
    if _member(box, token) is ABSENT:
        raise _missing(key, path)
    if box is root:
        raise InvalidArgument(f"{name} removes the whole value", "Delete the key instead")
    del box[token if isinstance(box, dict) else int(token)]


def _missing(key: str, path: str) -> KeyNotFound:
    return KeyNotFound(f"the value of {key[:60]!r} has nothing at {path!r}", see("load", key))
