"""Handlers of changes inside a value: patch, merge, increment, append; and `KEY#POINTER`, which names a place."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ... import codec
from ...errors import InvalidArgument, NextStep, StateException
from ...model import ABSENT, is_key
from ...states.transaction import Transaction
from ..context import Context
from ..exit_codes import UsageError
from ..results import ActionResult, DiffResult, ValueResult, plural
from ..values import place_hint, read_value

if TYPE_CHECKING:
    from ..definition import Command

_SIGN = "#/"


def split_place(context: Context, word: str) -> tuple[str, str]:
    """Split `KEY#POINTER`. A key can contain `#/`: the longest key that has a value is taken.

    Without such a key the whole word is a key. One round trip where the word has the sign.
    """
    if _SIGN not in word:
        return word, ""
    ends = [at for at in range(len(word)) if word.startswith(_SIGN, at)]
    places = [(word, ""), *((word[:at], word[at + 1 :]) for at in reversed(ends))]
    names = [key for key, _ in places if is_key(key)]
    if context.transaction is None:
        present = set(context.manager.backend.read(names))
    else:
        present = {key for key in names if context.read(key) is not ABSENT}
    return next((place for place in places if place[0] in present), (word, ""))


def place_step(context: Context, command: Command, key: str, at: str | None) -> NextStep | None:
    """Return the next step for a missing key that is `KEY#POINTER` of a key that exists; None otherwise."""
    try:
        key, path = split_place(context, key)
    except StateException:  # the error is about the key: a value that cannot be read by now does not replace it
        return None
    if not path:
        return None
    words = key, path, *(("--at", at) if at is not None else ())
    if any(arg.name == "path" for arg in command.args):
        return NextStep("Did you mean ", (command.name, *words), "?")
    return NextStep("", ("load", *words), " prints this place of the value")


def patch(context: Context, args: dict[str, Any]) -> ActionResult | DiffResult:
    """`patch KEY OPERATIONS`."""
    key, operations = args["key"], read_value(args["value"], json=True)
    if args.get("dry_run"):
        return _preview(context, args, key, lambda trial: trial.patch(key, operations))
    _change(context, args, "patch", key, operations)
    return ActionResult(f"patched {key}{_later(context)}", data={"key": key})


def merge(context: Context, args: dict[str, Any]) -> ActionResult | DiffResult:
    """`merge KEY VALUE`."""
    key, value = args["key"], read_value(args["value"], json=True)
    if args.get("dry_run"):
        return _preview(context, args, key, lambda trial: trial.merge(key, value))
    _change(context, args, "merge", key, value)
    return ActionResult(f"merged into {key}{_later(context)}", data={"key": key})


def _preview(context: Context, args: dict[str, Any], key: str, act: Callable[[Transaction], object]) -> DiffResult:
    from .previews import preview

    return preview(context, args, [key], act)


def _change(context: Context, args: dict[str, Any], act: str, key: str, value: Any) -> None:
    if context.transaction is not None:
        _check_alone(args, act)
        getattr(context.transaction, act)(key, value)
        return
    change: Callable[..., Any] = getattr(context.manager, act)
    change(key, value, expected=args.get("expected"), reason=args.get("reason", ""))


def increment(context: Context, args: dict[str, Any]) -> ValueResult | DiffResult:
    """`increment KEY[#POINTER] [BY]`."""
    by = read_value(args.get("by", "1"))
    if not _is_number(by):
        hint = place_hint(args["key"], args["by"]) if args["by"].startswith("/") else ""
        raise UsageError(f"increment by {args['by'][:40]!r}: give a number", hint)

    def add(value: Any) -> Any:
        if not _is_number(value):
            raise InvalidArgument(f"{args['key'][:60]!r} is no number", "Increment a number")
        return value + by

    if args.get("dry_run"):
        return _preview_update(context, args, add, 0)
    return ValueResult(data=codec.encode(_update(context, args, "increment", add, 0)))


def append(context: Context, args: dict[str, Any]) -> ActionResult | DiffResult:
    """`append KEY[#POINTER] VALUE`."""
    item = read_value(args["value"], args.get("string", False), args.get("json", False))

    def add(value: Any) -> Any:
        if not isinstance(value, list):
            raise InvalidArgument(f"{args['key'][:60]!r} is no array", "Append to an array")
        return [*value, item]

    if args.get("dry_run"):
        return _preview_update(context, args, add, [])
    length = len(_update(context, args, "append", add, []))
    text = f"appended to {args['key']}, which has {plural(length, 'item')}{_later(context)}"
    return ActionResult(text, data={"key": args["key"], "length": length})


def _preview_update(
    context: Context, args: dict[str, Any], function: Callable[[Any], Any], default: Any
) -> DiffResult:  # fmt: skip
    key, path = split_place(context, args["key"])
    return _preview(context, args, key, lambda trial: trial.update(key, function, default, path=path, keep_ttl=True))


def _update(context: Context, args: dict[str, Any], act: str, function: Callable[[Any], Any], default: Any) -> Any:
    """Update a key or a place in its value. What is not there yet begins with the default."""
    key, path = split_place(context, args["key"])
    if context.transaction is not None:
        _check_alone(args, act)
        return context.transaction.update(key, function, default, path=path, keep_ttl=True)
    reason = args.get("reason") or f"{act} {args['key']}"
    return context.manager.update(key, function, default, path=path, keep_ttl=True, reason=reason)


def _check_alone(args: dict[str, Any], act: str) -> None:
    if ignored := next((name for name in ("reason", "expected") if name in args), ""):
        raise UsageError(f"{act} takes no --{ignored} inside a transaction", "Give --reason to 'commit'")


def _later(context: Context) -> str:
    return "" if context.transaction is None else ", at 'commit'"


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
