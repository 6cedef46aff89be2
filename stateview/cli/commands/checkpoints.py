"""Handlers: checkpoint, checkpoints, diff, restore, undo, redo, log, history, blame."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from ...errors import KeyNotFound, StateException, see
from ...manager import StateManager
from ...model import ABSENT, Commit
from ...states.json_diff import Diff
from ...states.restore import RestoreDiff
from ...states.view import StateView
from ..context import Context
from ..exit_codes import ExitCode, UsageError
from ..results import ActionResult, DiffResult, Record, Table, plural

_DRY_RUN = "dry run: nothing was changed"


def checkpoint(context: Context, given: dict[str, Any]) -> ActionResult:
    """`checkpoint [NAME]`."""
    manager, name = context.manager, given.get("name")
    if given.get("delete") or "rename" in given:
        if name is None or (given.get("delete") and "rename" in given):
            raise UsageError("give the checkpoint's NAME with either --delete or --rename")
        if given.get("delete"):
            gone = manager.delete_checkpoint(name)
            again = f"'stateview checkpoint {gone.name} --at {gone.revision}' names it again"
            return ActionResult(
                f"deleted checkpoint {name} (revision {gone.revision}) - {again}", data={"deleted": name}
            )
        manager.rename_checkpoint(name, given["rename"])
        return ActionResult(f"renamed checkpoint {name} to {given['rename']}", data={"name": given["rename"]})
    known = {one.name: one.revision for one in manager.checkpoints()}
    name = manager.checkpoint(name, note=given.get("note", ""), at=given.get("at"))
    made = next(one for one in reversed(manager.checkpoints()) if one.name == name)
    moved = known.get(name, made.revision) != made.revision
    return ActionResult(
        f"checkpoint {name} = revision {made.revision}"
        + (f"; it was {known[name]}, which {name}@{known[name]} still names" if moved else ""),
        data={"name": name, "revision": made.revision},
        name=name,
    )


def checkpoints(context: Context, given: dict[str, Any]) -> Table:
    """`checkpoints`."""
    found = context.manager.checkpoints(all=given.get("all", False))
    rows = [(one.ref, one.revision, one.time.isoformat(), one.note) for one in found]
    empty = f"no checkpoints in namespace {context.manager.namespace!r} - 'stateview checkpoint NAME' makes one"
    told = (
        f"of the checkpoints before_…, {context.manager.safety}" if any(one.kind == "safety" for one in found) else ""
    )
    return Table(told, columns=("name", "revision", "time", "note"), rows=rows, plain=0, empty=empty)


def diff(context: Context, given: dict[str, Any]) -> DiffResult:
    """`diff BEFORE [AFTER]`."""
    from ...states.view import diff as compare

    manager, before, after = context.manager, given["before"], given.get("after", "live")
    other = manager
    if "with_namespace" in given or "with_store" in given:
        store = given.get("with_store", context.options.get("store"))
        other = context.open(store, given.get("with_namespace", manager.namespace), read_only=True)
    found = compare(manager.at(before), other.at(after), given.get("keys"))
    _check_matches(given.get("keys"), found, manager.at(before), other.at(after))
    code = ExitCode.MISSING if given.get("exit_code") and found else ExitCode.OK
    return DiffResult(
        code=code, diff=found, patch=given.get("patch", False), summary=given.get("summary", False),
        empty=f"no difference between {found.before} and {found.after}",
    )  # fmt: skip


def restore(context: Context, given: dict[str, Any]) -> DiffResult | ActionResult:
    """`restore REF`."""
    manager, ref, chosen = context.manager, given["ref"], given.get("keys")
    empty = f"live is as it was at {ref}; nothing to restore"
    asked = {name: given[name] for name in ("expected", "previewed") if name in given}
    paths = _paths(manager, ref, given["path"]) if "path" in given else None

    def preview() -> Diff:
        found = manager.restore_checkpoint(ref, chosen, dry_run=True, paths=paths, **asked)
        _check_matches(chosen, found, manager.at(ref), manager.at("live"))
        return found

    if given.get("dry_run"):
        found = preview()
        return DiffResult(_DRY_RUN if found else "", diff=found, empty=empty)
    shown = context.ask is not None and not context.options.get("yes")
    if shown:
        asked.setdefault("previewed", manager.revision)
        found = preview()
        if not found:
            return DiffResult(diff=found, empty=empty)
        context.show(DiffResult(diff=found))
        context.confirm(f"restore {ref}: {tally(found, paths)}?")
    applied = manager.restore_checkpoint(ref, chosen, paths=paths, **asked)
    if shown:  # the diff has been seen, and `previewed` made sure that it is what was applied
        return ActionResult(told=f"restored {ref}{_let_go(manager, applied)}", undo="undo")
    _check_matches(chosen, applied, manager.at(ref), manager.at("live"))
    result = _applied(applied, f"restored {ref}", empty, paths=paths)
    result.told += _let_go(manager, applied)
    return result


def _let_go(manager: StateManager, applied: Diff) -> str:
    expired = applied.expired if isinstance(applied, RestoreDiff) else ()
    return f"; {plural(len(expired), 'old safety checkpoint')} deleted: {manager.safety}" if expired else ""


def _paths(manager: StateManager, ref: str, words: list[str]) -> dict[str, set[str]]:
    """Each `KEY#POINTER` taken apart where KEY is one that differs, the longest if several do. O(changes).

    Raises:
        KeyNotFound: there is no such key.

    """
    splits = {word: [(word[:at], word[at + 1 :]) for at, sign in enumerate(word) if sign == "#"] for word in words}
    candidates = {key for pairs in splits.values() for key, _ in pairs}
    differ = {change.key for change in manager.diff("live", ref, keys=candidates)} if candidates else set()
    paths: dict[str, set[str]] = {}
    for word, pairs in splits.items():
        if not pairs:
            raise UsageError(f"--path {word[:100]!r} is not KEY#POINTER", "Give such as 'job#/tasks/0/state'")
        key, pointer = next((pair for pair in reversed(pairs) if pair[0] in differ), ("", ""))
        if not key:
            said = " or ".join(repr(key[:60]) for key, _ in pairs[:3])
            raise KeyNotFound(f"no key {said} differs between live and {ref}", see("diff", "live", ref))
        paths.setdefault(key, set()).add(pointer)
    return paths


def _check_matches(chosen: list[str] | None, found: Diff, *views: StateView) -> None:
    """No difference is one thing, and a pattern that no key matches another. O(keys) where there is no difference.

    Raises:
        KeyNotFound: there is no difference, and a pattern chose nothing.

    """
    for pattern in (chosen or []) if not found else []:
        if not any(next(view.raw_entries(keys=pattern), None) for view in views):
            raise KeyNotFound(f"no key matches {pattern!r} in either state", see("keys"))


def undo(context: Context, given: dict[str, Any]) -> DiffResult:
    """`undo`."""
    dry_run = given.get("dry_run", False)
    applied = context.manager.undo(dry_run=dry_run, expected=given.get("expected"))
    if dry_run:
        return DiffResult(_DRY_RUN if applied else "", diff=applied, empty="undo would change no value")
    return _applied(applied, "undone", "undone; no value changed", "redo")


def redo(context: Context, given: dict[str, Any]) -> DiffResult:
    """`redo`."""
    dry_run = given.get("dry_run", False)
    applied = context.manager.redo(dry_run=dry_run, expected=given.get("expected"))
    if dry_run:
        return DiffResult(_DRY_RUN if applied else "", diff=applied, empty="redo would change no value")
    return _applied(applied, "redone", "redone; no value changed")


def _applied(
    applied: Diff, what: str, empty: str, undo: str = "undo", *,
    paths: Mapping[str, Collection[str]] | None = None,
) -> DiffResult:  # fmt: skip
    told = f"{what}: {tally(applied, paths)}" if applied else ""
    return DiffResult(told=told, undo=undo if applied else "", diff=applied, empty=empty)


def tally(diff: Diff, paths: Mapping[str, Collection[str]] | None = None) -> str:
    """The counts of a diff in words, in the sense of what happens to the live state. For `paths` see `amount`."""
    counts = diff.counts
    said = [f"{counts[kind]} {kind}" for kind in ("added", "removed", "changed") if counts[kind]]
    total = sum(counts.values())
    return f"{amount(total, paths or {})} ({', '.join(said)})" if said else "no keys"


def amount(keys: int, paths: Mapping[str, Collection[str]]) -> str:
    """So many keys in words, such as `2 keys and 3 paths of 1 key`: those of `paths` were changed only there."""
    whole = max(0, keys - len(paths))
    said = [plural(whole, "key")] if whole or not paths else []
    if paths:
        said.append(f"{plural(sum(map(len, paths.values())), 'path')} of {plural(len(paths), 'key')}")
    return " and ".join(said)


def log(context: Context, given: dict[str, Any]) -> Table:
    """`log`."""
    found = context.manager.log(given.get("limit", 100), below=given.get("below", 0))
    names: dict[int, list[str]] = {}
    for one in context.manager.checkpoints(all=True):
        names.setdefault(one.revision, []).append(one.name)
    rows = [
        (one.revision, one.time.isoformat(), one.author, one.keys, " ".join(names.get(one.revision, ())), one.reason)
        for one in found
    ]
    columns = ("revision", "time", "author", "keys", "checkpoints", "reason")
    return Table(columns=columns, rows=rows, empty=f"no commits in namespace {context.manager.namespace!r}")


def history(context: Context, given: dict[str, Any]) -> Table:
    """`history KEY`."""
    key = given["key"]
    found = context.manager.history(key, given.get("limit", 100))
    if not found:
        context.manager.entry(key)  # raises the KeyNotFound that says where it was sought

    def rows() -> Iterator[tuple[Any, ...]]:
        for one in found:
            yield one.revision, one.time.isoformat(), one.value

    return Table(columns=("revision", "time", "value"), rows=rows())


def blame(context: Context, given: dict[str, Any]) -> Record:
    """`blame KEY [PATH]`."""
    try:
        commit: Commit = context.manager.blame(given["key"], given.get("path", ""))
    except ValueError as error:
        if isinstance(error, (LookupError, OSError, StateException)):
            raise
        raise UsageError(str(error)) from error
    data = {
        "revision": commit.revision,
        "time": commit.time.isoformat(),
        "reason": commit.reason,
        "author": commit.author,
    }
    return Record(data={name: value for name, value in data.items() if value not in ("", ABSENT)})
