"""The entries of runs and steps, and the digests of what a step is called with. Pure."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache, partial
from os.path import dirname
from types import CodeType
from typing import Any

import msgspec

from .. import codec
from ..errors import Damaged, NotSerializable, see
from ..model import check_key, check_lock
from ..states.leases import quoted, unquoted

PREFIX = "run/"
LARGE_BYTES = 1_000_000  # a result from which a warning is given
_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
_MAX_NAME_CHARACTERS = 128
_DIGEST_CHARACTERS = 16
_CO_COROUTINE = 0x80  # a flag of code objects
_TRACE_CHARACTERS = 4_000
_OWN_FOLDER = dirname(__file__)
_encoder = msgspec.json.Encoder(enc_hook=lambda value: {"type": _type_name(value)}, order="deterministic")

ENDED = ("done", "skipped")  # the states of a step that is not done again

Record = dict[str, Any]


def run_key(run: str) -> str:
    """Return the key of a run's entry."""
    return check_key(PREFIX + quoted(check_lock(run, "run")))


def step_key(run: str, step: str) -> str:
    """Return the key of a step's entry."""
    return check_key(f"{run_key(run)}/{quoted(step)}")


def item_key(run: str, step: str, item: str) -> str:
    """Return the key of the entry that says that an item of a step is done."""
    return f"{step_key(run, step)}/{quoted(item)}"


def parts_of(key: str) -> list[str]:
    """Split the key of a run, a step or an item into its names."""
    return [unquoted(part) for part in key.removeprefix(PREFIX).split("/")]


def lock_name(run: str) -> str:
    """Return the name of the lock of a run."""
    return f"run/{run}"


def checkpoint_name(run: str, step: str) -> str:
    """Return the name of the checkpoint after a step: `RUN.STEP`, with `-` for what no checkpoint's name may hold."""
    text = f"{run}.{step.replace('[', '-').rstrip(']')}"
    name = "".join(sign if sign in _NAME else "-" for sign in text).lstrip(".")
    return name[:_MAX_NAME_CHARACTERS]


def moment() -> str:
    """Return the present time of this machine as text, for people: no decision depends on it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def encoded(record: Record, result: Any, what: str) -> tuple[bytes, Any]:
    """Encode a record with a result; return the bytes, and the result as the next run will read it.

    Raises:
        NotSerializable: JSON cannot hold the result. The error names the step, and the place in the result.

    """
    hint = "Save it elsewhere, and return its path or its id"
    try:
        data = codec.encode(result)
        whole = codec.encode(record)[:-1] + b',"result":' + data + b"}"
        return whole, codec.decode(whole)["result"]
    except NotSerializable as error:
        message = f"the result of {what} cannot be saved: {error.message}"
        raise NotSerializable(message, (*error.next_steps, hint), error.path) from None
    except Damaged:
        message = f"the result of {what} is too large, or nested too deep, to be saved"
        raise NotSerializable(message, hint) from None


def record_of(value: Any, key: str) -> Record:
    """Return the value of a run's or a step's entry.

    Raises:
        Damaged: somebody has saved something else there.

    """
    if not isinstance(value, dict) or not isinstance(value.get("state"), str):
        raise Damaged(f"key {key!r} does not hold the record of a run or a step", see("history", key))
    return value


def state_after(error: BaseException | None) -> str:
    """Return the state of a run or a step after an error, or after none."""
    if error is None:
        return "done"
    return "failed" if isinstance(error, Exception) else "interrupted"


def error_record(error: BaseException) -> Record:
    """Return what is kept of an error: its type, its text, and the end of its traceback.

    The traceback begins with the user's function. It is kept whole if it has places of this package only.
    """
    import traceback

    place = error.__traceback__
    while place is not None and dirname(place.tb_frame.f_code.co_filename) == _OWN_FOLDER:
        place = place.tb_next
    trace = "".join(traceback.format_exception(type(error), error, place or error.__traceback__))
    fields = {"type": _type_name(error), "message": str(error), "trace": trace[-_TRACE_CHARACTERS:]}
    return {name: text.encode(errors="backslashreplace").decode() for name, text in fields.items()}


# --- digests -------------------------------------------------------------------------------------------------------


def arguments_digest(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """Return a digest of arguments. What JSON cannot hold, such as a connection, counts by its type alone. O(size)."""
    if not args and not kwargs:
        return ""
    try:
        data = _encoder.encode([args, kwargs])
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError):
        data = _encoder.encode([[_encoded_alone(value) for value in (*args, *kwargs.values())], list(kwargs)])
    return _sha256(data)


def _encoded_alone(value: Any) -> Any:
    try:
        return _encoder.encode(value).decode()
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError):
        return {"type": _type_name(value)}


def function_name(function: Callable[..., Any]) -> str:
    """Return the qualified name of a function."""
    while isinstance(function, partial):
        function = function.func
    name = getattr(function, "__qualname__", "") or type(function).__qualname__
    return f"{getattr(function, '__module__', '')}.{name}"


def code_digest(function: Callable[..., Any]) -> str:
    """Return a digest of the code of a function, with the Python version before it; "" for a function without code.

    The functions that it calls are not part of it. Digests of two Python versions cannot be compared: the compiler
    differs.
    """
    while isinstance(function, partial):
        function = function.func
    function = getattr(function, "__wrapped__", function)
    code = getattr(function, "__code__", None) or getattr(type(function).__call__, "__code__", None)
    return _digest_of(code) if isinstance(code, CodeType) else ""


def is_coroutine_function(function: Callable[..., Any]) -> bool:
    """Return whether a call makes a coroutine. The module `inspect` would say so too, but its import takes 10 ms."""
    while isinstance(function, partial):
        function = function.func
    code = getattr(getattr(function, "__func__", function), "__code__", None)
    code = code or getattr(type(function).__call__, "__code__", None)
    return isinstance(code, CodeType) and bool(code.co_flags & _CO_COROUTINE)


def same_code(one: str, two: str) -> bool:
    """Return whether two digests of code are equal, or cannot be compared."""
    versions = one.partition(" ")[0], two.partition(" ")[0]
    return one == two or not one or not two or versions[0] != versions[1]


@lru_cache(1000)
def _digest_of(code: CodeType) -> str:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return f"{version} {_sha256(repr(_shape(code)).encode())}"


def _sha256(data: bytes) -> str:
    from hashlib import sha256  # loads OpenSSL, which a look at runs does not need

    return sha256(data).hexdigest()[:_DIGEST_CHARACTERS]


def _shape(part: object) -> object:
    """Return a part of a function's code without its places in the file, and in the same order in every process."""
    if isinstance(part, CodeType):
        return part.co_code, part.co_names, part.co_varnames, part.co_argcount, [_shape(one) for one in part.co_consts]
    if isinstance(part, frozenset):
        return sorted(repr(_shape(one)) for one in part)
    return [_shape(one) for one in part] if isinstance(part, tuple) else (type(part).__name__, part)


def _type_name(value: object) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
