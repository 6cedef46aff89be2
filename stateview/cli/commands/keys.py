"""Handlers: save, load, delete, rename, expire, keys, entry."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ... import codec
from ...errors import Conflict, KeyNotFound, see
from ...model import ABSENT
from ...states.patterns import Selection, is_glob
from ...states.transaction import Transaction
from ..context import Context
from ..exit_codes import UsageError
from ..results import ActionResult, Excerpt, Record, Table, ValueResult, plural
from ..values import LENGTHS, parse_seconds, read_value, type_name


def save(context: Context, given: dict[str, Any]) -> ActionResult:
    """`save KEY VALUE`."""
    value = read_value(given["value"], given.get("string", False), given.get("json", False))
    key, ttl = given["key"], given.get("ttl")
    if ttl == 0:
        raise UsageError("--ttl must be a positive length of time", f"Give one such as {LENGTHS}")
    if context.transaction is not None:
        if given.get("reason"):
            raise UsageError("--reason goes with 'commit' inside a transaction")
        context.transaction.save(key, value, ttl=ttl, expected=given.get("expected"))
        return ActionResult(f"will save {key} ({type_name(_plain(value))})", data={"key": key})
    revision = context.manager.save(key, value, ttl=ttl, expected=given.get("expected"), reason=given.get("reason", ""))
    text = codec.encode(value).decode()
    start = text if len(text) <= 60 else text[:59] + "…"
    shown = Excerpt(key, "", f"saved {key} = ", start, f" ({type_name(_plain(value))}), revision {revision}")
    data = {"key": key, "revision": revision, "type": type_name(_plain(value))}
    return ActionResult(told=shown.told(), data=data, shown=shown)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def load(context: Context, given: dict[str, Any]) -> ValueResult:
    """`load KEY [PATH]`."""
    key, path, at = given["key"], given.get("path", ""), given.get("at")
    manager = context.manager
    default = read_value(given["default"]) if "default" in given else ABSENT
    fallback = ABSENT if default is ABSENT else _Missing
    value = context.reader.load(key, fallback) if at is None else manager.load(key, fallback, at=at)
    if value is not _Missing and path:
        from ...states.pointers import resolve_pointer

        try:
            value = resolve_pointer(value, path)
        except ValueError as error:
            raise UsageError(str(error)) from error
        if value is ABSENT:
            if default is ABSENT:
                raise KeyNotFound(f"there is nothing at {path} in the value of {key!r}", see("load", key))
            value = _Missing
    return ValueResult(data=codec.encode(default if value is _Missing else value))


class _Missing:
    """Stands for "not there" where a default was given."""


def delete(context: Context, given: dict[str, Any]) -> ActionResult:
    """`delete KEY…`."""
    manager, patterns = context.manager, given["key"]
    if context.transaction is not None:
        return _delete_later(context.transaction, patterns, context)
    globs = [one for one in patterns if is_glob(one)]
    names = [one for one in patterns if one not in globs or one in manager]
    globs = [one for one in globs if one not in names]
    expected = given.get("expected")
    if expected is not None and (globs or len(names) > 1):
        raise UsageError("--expected goes with one key", "--previewed REVISION guards many")
    for name in names:
        if name not in manager:
            manager.entry(name)  # raises the KeyNotFound that says where it was sought
    found = sorted({*names, *(manager.list_keys(keys=globs) if globs else ())})
    if globs:
        if not found:
            raise KeyNotFound(f"no key matches {' '.join(globs)!r}", see("keys"))
        context.confirm(f"delete {plural(len(found), 'key')} of {manager.namespace}?")
    reason = given.get("reason") or f"delete {' '.join(patterns)}"
    if expected is not None:
        manager.delete(found[0], expected=expected, reason=reason)
    else:
        with manager.transaction(reason[:500]) as transaction:
            for key in found:
                transaction.delete(key)
            newer = [key for key in found if transaction.revision(key) > given.get("previewed", 1 << 62)]
            if newer:
                since = f"since revision {given['previewed']}"
                raise Conflict(f"key {newer[0]!r} was written {since}", "Nothing was deleted: look at it, then again")
    told = f"deleted {found[0] if len(found) == 1 else f'{len(found)} keys'}"
    return ActionResult(told=told, undo="undo", data={"deleted": found})


def _delete_later(transaction: Transaction, patterns: list[str], context: Context) -> ActionResult:
    chosen = Selection(patterns)
    found = [key for key in transaction.list_keys() if chosen(key)]
    missing = [name for name in chosen.exact() if name not in found]
    if missing or not found:
        raise KeyNotFound(f"there is no key {(missing or patterns)[0]!r} in this transaction", "See 'keys'")
    if len(found) > len(chosen.exact()):
        context.confirm(f"delete {plural(len(found), 'key')}?")
    for key in found:
        transaction.delete(key)
    return ActionResult(f"will delete {plural(len(found), 'key')}", data={"deleted": found})


def rename(context: Context, given: dict[str, Any]) -> ActionResult:
    """`rename KEY NEW`."""
    key, new = given["key"], given["new"]
    revision = context.manager.rename(key, new, expected=given.get("expected"), reason=given.get("reason", ""))
    return ActionResult(f"renamed {key} to {new}, revision {revision}", data={"key": new, "revision": revision})


def expire(context: Context, given: dict[str, Any]) -> ActionResult:
    """`expire KEY DURATION|never`."""
    key, ttl = given["key"], _expiry(given["duration"])
    revision = context.manager.expire(key, ttl, expected=given.get("expected"), reason=given.get("reason", ""))
    when = "never" if ttl is None else f"in {ttl:,.12g} s"
    return ActionResult(
        f"{key} expires {when}, revision {revision}", data={"key": key, "revision": revision, "ttl": ttl}
    )


def _expiry(text: str) -> float | None:
    if text == "never":
        return None
    seconds = parse_seconds(text)
    if seconds is None:
        raise UsageError(f"{text[:40]!r} is no time to expire in", f"Give one such as {LENGTHS}; or never")
    return seconds


def keys(context: Context, given: dict[str, Any]) -> Table:
    """`keys [PATTERN]`."""
    if context.transaction is not None and "at" not in given:
        chosen = Selection(given.get("pattern"))
        listed = [key for key in context.transaction.list_keys(given.get("prefix", "")) if chosen(key)]
        return Table(
            columns=("key",), rows=[(key,) for key in listed[: given.get("limit")]], plain=0, empty="no key matches"
        )
    view = context.manager.at(given.get("at", "live"))
    pattern, prefix, limit = given.get("pattern"), given.get("prefix", ""), given.get("limit")

    def rows() -> Iterator[tuple[Any, ...]]:
        for number, entry in enumerate(view.raw_entries(prefix, pattern)):
            if limit is not None and number >= limit:
                return
            assert entry.value is not None
            yield entry.key, entry.revision, len(entry.value), _time(entry.time)

    where = f"namespace {view.namespace!r} of {context.manager.url}"
    empty = f"no key matches in {where}" if pattern or prefix else f"{where} has no keys"
    if not context.manager.head().lineage:
        empty = f"there is no {where} yet; the first save makes it"
    return Table(columns=("key", "revision", "bytes", "time"), rows=rows(), plain=0, empty=empty)


def _time(micros: int) -> str:
    from ...model import format_time

    return format_time(micros)


def entry(context: Context, given: dict[str, Any]) -> Record:
    """`entry KEY`."""
    found = context.manager.entry(given["key"], at=given.get("at"))
    data: dict[str, Any] = {
        "key": found.key, "value": found.value, "type": type_name(found.value), "revision": found.revision,
        "time": found.time.isoformat(),
    }  # fmt: skip
    if found.expires is not None:
        data["expires"] = found.expires.isoformat()
        data["ttl"] = round(found.ttl or 0.0, 3)
    return Record(data=data)
