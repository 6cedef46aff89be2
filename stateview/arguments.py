"""Check the arguments of public methods by their annotations, before anything is read or written.

A wrong type that got through would be stored: a note that is no string makes a file that no reader accepts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from reprlib import Repr
from typing import Any, TypeVar

from .errors import InvalidArgument

MAX_INTEGER = 2**63 - 1  # the largest number that each backend can store
MAX_SECONDS = 1e10  # 317 years

StoreURL = str  # its path may hold bytes that are not UTF-8
SecretText = str  # no error shows it


class Revision(int):
    """Be the revision of a commit, with its time in microseconds (`time`; 0: not known).

    A Redis server that has lost commits uses their numbers again, and the time tells two commits of a number apart.
    """

    time: int

    def __new__(cls, number: int, time: int = 0) -> Revision:
        """Make a revision from its number and the time of its commit."""
        revision = super().__new__(cls, number)
        revision.time = time
        return revision


def time_of(revision: int) -> int:
    """Return the time of a revision's commit, in microseconds; 0 for a number that knows none."""
    return revision.time if isinstance(revision, Revision) else 0


def may_be_same(one: int, other: int) -> bool:
    """Return whether two revisions have one number, and no two times."""
    times = time_of(one), time_of(other)
    return one == other and (times[0] == times[1] or 0 in times)


class KeyName(str):
    """A key's name where patterns are taken: never a glob."""

    __slots__ = ()


_T = TypeVar("_T")
_SHOWN_CHARACTERS = 60  # of a value in a message
_SHORT = Repr()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother = 2, _SHOWN_CHARACTERS, _SHOWN_CHARACTERS
_NAMED = ("key", "new", "name", "other", "namespace", "backend")  # checked where the name is parsed


def _shown(value: object) -> str:
    """Return a value for a message: its start, if it is long. O(1) for what Python can show in parts."""
    try:
        text = _SHORT.repr(value)
    except Exception:  # a whole number of over 4,300 digits, or a part that cannot be shown
        text = f"<{type(value).__name__}>"
    return text if len(text) <= _SHOWN_CHARACTERS + 2 else text[:_SHOWN_CHARACTERS] + "…"


def check_text(value: object, name: str) -> str:
    """Return a text as an exact `str`.

    Raises:
        InvalidArgument: it is no string, or holds a lone surrogate: Python's form of a byte that is not UTF-8.

    """
    text = check_string(value, name)
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise InvalidArgument(f"{name}={_shown(text)}: this is not Unicode text", "Write it in UTF-8") from None
    return text


def to_exact(value: Any, _name: str = "") -> Any:
    """Return a `str` for a string of a subclass, which the encoders refuse, and any other value as it is."""
    return str.__str__(value) if isinstance(value, str) and type(value) is not str else value


def check_string(value: object, name: str) -> str:
    """Return a string as an exact `str`. It may hold the bytes of a path that are not UTF-8.

    Raises:
        InvalidArgument: it is no string.

    """
    if not isinstance(value, str):
        raise InvalidArgument(f"{name}={_shown(value)}: give a string, not {type(value).__name__}")
    return str(to_exact(value))


def check_integer(value: Any, name: str) -> int:
    """Return a whole number as an exact `int`, or as the `Revision` that it is.

    Raises:
        InvalidArgument: it is no whole number, or not between 0 and `MAX_INTEGER`.

    """
    if type(value) is not int:
        if isinstance(value, bool) or not hasattr(type(value), "__index__"):
            raise InvalidArgument(f"{name}={_shown(value)}: give a whole number, not {type(value).__name__}")
        value = value if isinstance(value, Revision) else value.__index__()
    if not 0 <= value <= MAX_INTEGER:
        raise InvalidArgument(f"{name}={_shown(value)}: give a whole number from 0 to {MAX_INTEGER:,}")
    return value if isinstance(value, Revision) else int(value)


def check_seconds(value: Any, name: str) -> float:
    """Return a number of seconds.

    Raises:
        InvalidArgument: it is no number, or not between 0 and `MAX_SECONDS`.

    """
    if isinstance(value, bool) or not hasattr(type(value), "__float__"):
        raise InvalidArgument(f"{name}={_shown(value)}: give a number of seconds, not {type(value).__name__}")
    try:
        seconds = float(value)
    except (ArithmeticError, ValueError, TypeError):
        seconds = math.inf
    if not 0 <= seconds <= MAX_SECONDS:
        raise InvalidArgument(f"{name}={_shown(value)}: give a number of seconds from 0 to {MAX_SECONDS:,.0f}")
    return seconds


def check_pattern(value: object, name: str) -> str:
    """Return a text as `check_text` does, or a `KeyName` as it is: without its type it could be read as a glob."""
    text = check_text(value, name)
    return KeyName(text) if type(value) is KeyName else text


def check_texts(value: Any, name: str) -> list[str] | str:
    """Return one text, or a list of the texts of an iterable. A `KeyName` stays one.

    Raises:
        InvalidArgument: it is neither, or an item is no text.

    """
    if isinstance(value, str):
        return check_pattern(value, name)
    if isinstance(value, bytes | bytearray | memoryview) or not isinstance(value, Iterable):
        raise InvalidArgument(f"{name}={_shown(value)}: give a string, or a list of strings")
    return [check_pattern(item, f"{name}[{index}]") for index, item in enumerate(value)]


def check_integers(value: Any, name: str) -> list[int]:
    """Return a list of the whole numbers of an iterable.

    Raises:
        InvalidArgument: it is no iterable, or an item is no whole number.

    """
    if isinstance(value, str | bytes | bytearray | memoryview) or not isinstance(value, Iterable):
        raise InvalidArgument(f"{name}={_shown(value)}: give a list of whole numbers")
    return [check_integer(item, f"{name}[{index}]") for index, item in enumerate(value)]


def check_paths(value: Any, name: str) -> dict[str, list[str]]:
    """Return a mapping of a key to the list of its JSON Pointers; one pointer alone may be a string.

    Raises:
        InvalidArgument: it is no mapping of texts to texts.

    """
    if not isinstance(value, Mapping):
        raise InvalidArgument(f"{name}={_shown(value)}: give a dict of a key to a list of JSON Pointers")
    checked = {}
    for key, paths in value.items():
        texts = check_texts(paths, f"{name}[{_shown(key)}]")
        checked[check_text(key, name)] = [texts] if isinstance(texts, str) else texts
    return checked


def check_secret(value: Any, name: str) -> str:
    """Return a text that no error shows.

    Raises:
        InvalidArgument: it is no text.

    """
    if not isinstance(value, str):
        raise InvalidArgument(f"{name}: give a string, not {type(value).__name__}")
    return value


def check_callable(value: _T, name: str) -> _T:
    """Return a function.

    Raises:
        InvalidArgument: it cannot be called.

    """
    if not callable(value):
        raise InvalidArgument(f"{name}={_shown(value)}: give a function, not {type(value).__name__}")
    return value


def check_condition(value: Any, name: str) -> Any:
    """Return a function, or a text as `check_text` does.

    Raises:
        InvalidArgument: it is neither.

    """
    return value if callable(value) else check_text(value, name)


_CHECKS: dict[str, Callable[[Any, str], Any]] = {
    "str": check_text,
    "StoreURL": check_string,
    "SecretText": check_secret,
    "int": check_integer,
    "float": check_seconds,
    "Iterable[str] | str": check_texts,
    "Iterable[int]": check_integers,
    "Mapping[str, Iterable[str]]": check_paths,
    "Callable[[Any], Any]": check_callable,
    "Callable[[Transaction], T]": check_callable,
    "str | Callable[[Any], Any]": check_condition,
    "ProgressCount": check_callable,
    "ProgressText": check_callable,
    "OnMigrationProgress": check_callable,
}


def _unless_none(check: Callable[[Any, str], Any]) -> Callable[[Any, str], Any]:
    return lambda value, name: None if value is None else check(value, name)


_CHECKS |= {f"{annotation} | None": _unless_none(check) for annotation, check in _CHECKS.items()}


def checked(function: Callable[..., _T]) -> Callable[..., _T]:
    """Check the arguments of a function by its annotations. About 0.5 µs a call.

    Keys, names and refs are left to the code that parses them, and so is every annotation that `_CHECKS` does not list.
    A function that takes only a key, such as `load`, is returned as it is.
    """
    code = getattr(function, "__wrapped__", function).__code__  # reading `inspect.signature` takes 30 times as long
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    checks = {name: check for name in names if (check := _check_of(name, function.__annotations__.get(name, "")))}
    if checks.keys() <= {"key"}:
        return function
    positional = {index: name for index, name in enumerate(names[: code.co_argcount]) if name in checks}

    @wraps(function)
    def checking(*args: Any, **kwargs: Any) -> _T:
        if positional:
            given = list(args)
            for index, name in positional.items():
                if index < len(given):
                    given[index] = checks[name](given[index], name)
            args = tuple(given)
        for name, value in kwargs.items():
            if name in checks:
                kwargs[name] = checks[name](value, name)
        return function(*args, **kwargs)

    return checking


def checked_methods(cls: type[_T]) -> type[_T]:
    """Check the arguments of all public methods of a class, and of its constructor, by `checked`."""
    for name, member in list(vars(cls).items()):
        if (name == "__init__" or not name.startswith("_")) and callable(member):
            setattr(cls, name, checked(member))
    return cls


def _check_of(name: str, annotation: str) -> Callable[[Any, str], Any] | None:
    return to_exact if name in _NAMED and annotation in ("str", "str | None") else _CHECKS.get(annotation)
