"""Handlers: save, load, delete, rename, expire, keys, entry."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ... import codec
from ...arguments import KeyName, may_be_same
from ...backends.conflicts import key_conflict_error
from ...errors import Conflict, KeyNotFound, see
from ...model import ABSENT, SealedValue, format_time, is_key
from ...states.matching.patterns import Selection, is_glob
from ...states.missing import NEAR_KEYS, near_hint
from ...states.transaction import Transaction
from ..context import Context, missing_namespace
from ..exit_codes import UsageError
from ..results import ActionResult, DiffResult, Excerpt, Record, Table, ValueResult, no_match, plural, unless_cut
from ..values import DURATIONS, parse_seconds, read_value, type_name

_EXCERPT_CHARACTERS = 60
_REASON_CHARACTERS = 500


def save(context: Context, args: dict[str, Any]) -> ActionResult | DiffResult:
    """`save KEY[#POINTER] VALUE`."""
    value = read_value(args["value"], args.get("string", False), args.get("json", False))
    name, ttl, expected = args["key"], args.get("ttl"), args.get("expected")
    if ttl == 0:
        raise UsageError("--ttl must be more than 0", f"Give a time such as {DURATIONS}")
    kind, key, path = type_name(value), name, ""
    if "#/" in name:
        from .places import split_place

        key, path = split_place(context, name)
    if args.get("dry_run"):
        from .previews import preview

        return preview(context, args, [key], lambda trial: trial.save(key, value, path=path, ttl=ttl))
    if context.transaction is not None:
        if args.get("reason"):
            raise UsageError("save takes no --reason inside a transaction", "Give --reason to 'commit'")
        context.transaction.save(key, value, path=path, ttl=ttl, expected=expected)
        return ActionResult(f"will save {name} ({kind})", data={"key": key})
    revision = context.manager.save(key, value, path=path, ttl=ttl, expected=expected, reason=args.get("reason", ""))
    text = codec.encode(value).decode()
    start = text if len(text) <= _EXCERPT_CHARACTERS else text[: _EXCERPT_CHARACTERS - 1] + "…"
    excerpt = Excerpt(key, path, f"saved {name} = ", start, f" ({kind}), revision {revision}")
    return ActionResult(excerpt.message(), data={"key": key, "revision": revision, "type": kind}, excerpt=excerpt)


def load(context: Context, args: dict[str, Any]) -> ValueResult:
    """`load KEY [PATH]`."""
    key, path, at = args["key"], args.get("path", ""), args.get("at")
    if path:
        from ...states.values.pointers import resolve_pointer, split_pointer

        split_pointer(path)  # whether or not there is a value
    default = read_value(args["default"]) if "default" in args else ABSENT
    value = context.reader(at).load(key) if default is ABSENT else context.read(key, at)
    if value is not ABSENT and path:
        value = resolve_pointer(value, path)
        if value is ABSENT and default is ABSENT:
            raise KeyNotFound(f"the value of {key!r} has nothing at {path}", see("load", key))
    if value is ABSENT and context.transaction is None and (missing := missing_namespace(context.manager)):
        return ValueResult(missing, data=codec.encode(default))
    return ValueResult(data=codec.encode(default if value is ABSENT else value))


def delete(context: Context, args: dict[str, Any]) -> ActionResult | DiffResult:
    """`delete KEY…`, `delete --prefix PREFIX`."""
    manager, prefix = context.manager, args.get("prefix")
    patterns: list[str] = args.get("key", [])
    if not patterns and prefix is None:
        raise UsageError("delete: nothing was chosen", "Give keys, globs, or --prefix PREFIX")
    if prefix == "":
        raise UsageError("--prefix '' would delete every key", "For every key give '*'")
    if context.transaction is not None:
        if ignored := next((name for name in ("reason", "expected", "previewed", "dry_run") if name in args), ""):
            hint = "Give --reason to 'commit', which also checks the keys that were read"
            if ignored == "dry_run":
                hint = "'diff' shows what 'commit' would change"
            raise UsageError(f"delete takes no --{ignored.replace('_', '-')} inside a transaction", hint)
        if prefix is not None:
            return _delete_prefix_later(context.transaction, prefix, context)
        return _delete_later(context.transaction, patterns, context)
    if prefix is not None:
        return _delete_prefix(context, prefix, args)
    present = manager.backend.read([pattern for pattern in patterns if is_key(pattern)])
    names = [name for name in patterns if type(name) is KeyName or not is_glob(name) or name in present]
    globs = [pattern for pattern in patterns if pattern not in names]
    expected = args.get("expected")
    if expected is not None and (globs or len(names) > 1):
        raise UsageError("--expected takes one key", "For several keys use --previewed REVISION")
    for name in names:
        if name not in present:
            manager.entry(name)  # raises the KeyNotFound that names the store and namespace
    keys = sorted({*names, *(manager.list_keys(keys=globs) if globs else ())})
    unmatched = [glob for glob in globs if not any(map(Selection(glob), keys))]
    if not keys:
        manager.check_exists()
        return ActionResult(no_match(unmatched), data={"deleted": []})
    if args.get("dry_run"):
        return _preview_delete(context, args, keys)
    if globs:
        context.confirm(f"delete {plural(len(keys), 'key')} of {manager.namespace}?")
    reason = args.get("reason") or f"delete {' '.join(patterns)}"
    if expected is not None:
        manager.delete(keys[0], expected=expected, reason=reason)
    else:
        with manager.transaction(reason[:_REASON_CHARACTERS]) as transaction:
            transaction.delete(keys=map(KeyName, keys))
            if "previewed" in args:
                _check_previewed(transaction, keys, args["previewed"])
    return ActionResult(_with_unmatched(_deleted(keys), unmatched), undo="undo", data={"deleted": keys})


def _preview_delete(context: Context, args: dict[str, Any], keys: list[str]) -> DiffResult:
    from .previews import preview

    return preview(context, args, keys, lambda trial: trial.delete(keys=map(KeyName, keys)))


def _deleted(keys: list[str]) -> str:
    return f"deleted {keys[0] if len(keys) == 1 else f'{len(keys)} keys'}"


def _delete_prefix(context: Context, prefix: str, args: dict[str, Any]) -> ActionResult | DiffResult:
    manager, reason = context.existing, args.get("reason", "")
    present = manager.list_keys(prefix)
    if present and args.get("dry_run"):
        return _preview_delete(context, args, present)
    if present:
        context.confirm(f"delete {plural(len(present), 'key')} of {manager.namespace} with the prefix {prefix!r}?")
        if "previewed" in args:
            with manager.transaction(reason or f"delete prefix {prefix}") as transaction:
                keys = transaction.delete_prefix(prefix)
                _check_previewed(transaction, keys, args["previewed"])
        else:
            keys = manager.delete_prefix(prefix, reason=reason)
        if keys:
            return ActionResult(_deleted(keys), undo="undo", data={"deleted": keys})
    return ActionResult(_no_prefix(prefix), data={"deleted": []})


def _no_prefix(prefix: str) -> str:
    return f"no key has the prefix {prefix!r}"


def _check_previewed(transaction: Transaction, keys: list[str], previewed: int) -> None:
    for key in keys:
        if transaction.revision(key) > previewed:
            raise Conflict(
                f"key {key!r} was written since revision {previewed}", "Nothing was deleted. Load the key and try again"
            )


def _delete_later(transaction: Transaction, patterns: list[str], context: Context) -> ActionResult:
    from bisect import bisect_left

    present = transaction.list_keys()
    selection = Selection(patterns).among(set(present).intersection)
    keys = [key for key in present if selection(key)]
    found = set(keys)
    missing = next((name for name in selection.exact() if name not in found), None)
    if missing is not None:
        place = bisect_left(present, missing)
        near = present[max(0, place - NEAR_KEYS) : place + NEAR_KEYS]
        hint = near_hint(missing, lambda: near, see("keys"), quoted=True)
        raise KeyNotFound(f"there is no key {missing!r} in this transaction", hint)
    globs = [pattern for pattern in patterns if is_glob(pattern) and pattern not in found]
    unmatched = [glob for glob in globs if not any(map(Selection(glob), keys))]
    if not keys:
        return ActionResult(no_match(unmatched), data={"deleted": []})
    if len(keys) > len(selection.exact()):
        context.confirm(f"delete {plural(len(keys), 'key')}?")
    transaction.delete(keys=map(KeyName, keys))
    summary = f"will delete {plural(len(keys), 'key')}"
    return ActionResult(_with_unmatched(summary, unmatched), data={"deleted": keys})


def _delete_prefix_later(transaction: Transaction, prefix: str, context: Context) -> ActionResult:
    keys = transaction.list_keys(prefix)
    if not keys:
        return ActionResult(_no_prefix(prefix), data={"deleted": []})
    context.confirm(f"delete {plural(len(keys), 'key')} with the prefix {prefix!r}?")
    transaction.delete_prefix(prefix)
    return ActionResult(f"will delete {plural(len(keys), 'key')}", data={"deleted": keys})


def _with_unmatched(summary: str, globs: list[str]) -> str:
    return f"{summary}; {no_match(globs)}" if globs else summary


def rename(context: Context, args: dict[str, Any]) -> ActionResult | DiffResult:
    """`rename KEY NEW`."""
    key, new = args["key"], args["new"]
    if args.get("dry_run"):
        from .previews import preview

        return preview(context, args, [key], lambda trial: _rename_on_trial(trial, key, new))
    revision = context.manager.rename(key, new, expected=args.get("expected"), reason=args.get("reason", ""))
    return ActionResult(f"renamed {key} to {new}, revision {revision}", data={"key": new, "revision": revision})


def _rename_on_trial(trial: Transaction, key: str, new: str) -> None:
    value = trial.load(key)
    if present := trial.revision(new):
        raise Conflict(f"key {new!r} exists already, since revision {present}", "Delete it first")
    trial.save(new, value)
    trial.delete(key)


def expire(context: Context, args: dict[str, Any]) -> ActionResult:
    """`expire KEY DURATION|never`."""
    key, ttl = args["key"], _expiry(args["duration"])
    if args.get("dry_run"):
        revision = context.manager.entry(key).revision
        if not may_be_same(args.get("expected", revision), revision):
            raise key_conflict_error(key, args["expected"], revision)
        from .checkpoints import DRY_RUN

        would = f"{key} would {'never expire' if ttl is None else f'expire in {ttl:,.12g} s'}"
        return ActionResult(f"{would}; {DRY_RUN}", data={"key": key, "ttl": ttl, "would": would})
    revision = context.manager.expire(key, ttl, expected=args.get("expected"), reason=args.get("reason", ""))
    when = "never" if ttl is None else f"in {ttl:,.12g} s"
    data = {"key": key, "revision": revision, "ttl": ttl}
    return ActionResult(f"{key} expires {when}, revision {revision}", data=data)


def _expiry(text: str) -> float | None:
    if text == "never":
        return None
    seconds = parse_seconds(text)
    if seconds is None:
        raise UsageError(f"{text[:40]!r} is not a time to expire in", f"Give such as {DURATIONS}; or never")
    return seconds


def keys(context: Context, args: dict[str, Any]) -> Table:
    """`keys [PATTERN]`."""
    pattern, prefix, limit = args.get("pattern"), args.get("prefix", ""), args.get("limit")
    if context.transaction is not None and "at" not in args:
        present = context.transaction.list_keys()
        selection = Selection(pattern).among(set(present).intersection)
        names = [key for key in present if key.startswith(prefix) and selection(key)]
        listed = [(name,) for name in names[:limit]]
        return Table(columns=("key",), rows=listed, plain=0, empty=unless_cut("no key matches", limit))
    view = context.manager.at(args.get("at", "live"))
    context.check_exists(view.revision)

    def rows() -> Iterator[tuple[Any, ...]]:
        for row in view.steady_rows(prefix, pattern, limit):
            yield row.key, row.revision, SealedValue(row.size) if row.sealed else row.size, format_time(row.time)

    namespace = f"namespace {view.namespace!r} of {context.manager.url}"
    empty = f"no key matches in {namespace}" if pattern or prefix else f"{namespace} has no keys"
    return Table(columns=("key", "revision", "bytes", "time"), rows=rows(), plain=0, empty=unless_cut(empty, limit))


def entry(context: Context, args: dict[str, Any]) -> Record:
    """`entry KEY`."""
    entry = context.manager.entry(args["key"], at=args.get("at"))
    data: dict[str, Any] = {
        "key": entry.key, "value": entry.value, "type": type_name(entry.value), "revision": entry.revision,
        "time": entry.time.isoformat(),
    }  # fmt: skip
    if entry.expires is not None:
        data["expires"] = entry.expires.isoformat()
        data["ttl"] = round(entry.ttl or 0.0, 3)
    return Record(data=data)
