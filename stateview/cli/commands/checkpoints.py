"""Handlers: checkpoint, checkpoints, diff, restore, revert, undo, redo, log, history, blame."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from itertools import islice
from typing import Any

from ...arguments import KeyName
from ...backends.conflicts import checkpoint_conflict_error
from ...errors import NOTHING_CHANGED, KeyNotFound, see
from ...manager import StateManager
from ...model import check_checkpoint, format_time
from ...states.changes import Diff
from ...states.matching.patterns import Selection, matches_any
from ...states.moments import pinned
from ...states.restore import RestoreDiff
from ...states.revert import RevertDiff, conflicts_text
from ...states.transaction import Transaction
from ...states.view import StateView, require_keys
from ...states.view import diff as compare
from ..context import Context
from ..exit_codes import ConfirmationRequired, ExitCode, UsageError
from ..results import ActionResult, DiffResult, FullScreen, Record, Table, no_match, plural, tally, unless_cut

DRY_RUN = "dry run: nothing was changed"
_NOT_RESTORED = "; nothing to restore"
_NOTHING_TO_REVERT = "nothing to revert"
_NOT_COMMITTED = "(open transaction, not committed)"
_FILTERS = ("by", "since", "until", "grep")  # of log and history


def checkpoint(context: Context, args: dict[str, Any]) -> ActionResult:
    """`checkpoint [NAME]`."""
    manager, name = context.manager, args.get("name")
    if args.get("dry_run"):
        return _preview_checkpoint(manager, name, args)
    if args.get("delete") or "rename" in args:
        return _change_checkpoint(context, name, args)
    before = {mark.name: mark.revision for mark in manager.checkpoints()}
    name = manager.checkpoint(name, note=args.get("note", ""), at=args.get("at"))
    revision = next(mark.revision for mark in reversed(manager.checkpoints()) if mark.name == name)
    earlier = before.get(name, revision)
    moved = f"; the earlier state is now {name}@{earlier}" if earlier != revision else ""
    data = {"name": name, "revision": revision}
    return ActionResult(f"checkpoint {name} is revision {revision}{moved}", data=data, name=name)


def _preview_checkpoint(manager: StateManager, name: str | None, args: dict[str, Any]) -> ActionResult:
    """Check what a checkpoint is to become, and say it."""
    marks = {mark.name: mark.revision for mark in manager.checkpoints()}
    if args.get("delete") or "rename" in args:
        if name is None:
            raise UsageError("checkpoint: NAME is missing", see("help", "checkpoint"))
        revision = manager.at(name).revision
        new = args.get("rename")
        if new is not None and check_checkpoint(new) in marks:
            raise checkpoint_conflict_error(new)
        said = f"checkpoint {name} (revision {revision}) would be {'deleted' if new is None else f'renamed to {new}'}"
    else:
        if name is not None:
            check_checkpoint(name)
        revision = manager.at(args.get("at", "live")).revision
        earlier = marks.get(name or "", revision)
        moved = f", and the earlier state {name}@{earlier}" if earlier != revision else ""
        said = f"checkpoint {name or 'auto_…'} would be revision {revision}{moved}"
    return ActionResult(f"{said}; {DRY_RUN}", data={"name": name, "revision": revision, "would": said})


def _change_checkpoint(context: Context, name: str | None, args: dict[str, Any]) -> ActionResult:
    manager = context.manager
    if name is None:
        raise UsageError("checkpoint: NAME is missing", see("help", "checkpoint"))
    if args.get("delete"):
        deleted = manager.delete_checkpoint(name)
        command = context.quoted("checkpoint", deleted.name, "--at", str(deleted.revision))
        said = f"deleted checkpoint {name} (revision {deleted.revision}) - {command} creates it again"
        return ActionResult(said, data={"deleted": name})
    manager.rename_checkpoint(name, args["rename"])
    return ActionResult(f"renamed checkpoint {name} to {args['rename']}", data={"name": args["rename"]})


def checkpoints(context: Context, args: dict[str, Any]) -> Table:
    """`checkpoints`."""
    manager, limit = context.manager, args.get("limit")
    marks = manager.checkpoints(all=args.get("all", False), limit=limit, newest_first=args.get("newest_first", False))
    context.check_exists(marks)
    rows = [(mark.ref, mark.revision, mark.time.isoformat(), mark.note) for mark in marks]
    empty = f"no checkpoints in namespace {manager.namespace!r}"
    if not manager.read_only:
        empty += f" - {context.quoted('checkpoint', 'NAME')} creates one"
    any_safety = any(mark.kind == "safety" for mark in marks)
    summary = f"of the checkpoints before_…, {manager.safety}" if any_safety else ""
    columns = ("name", "revision", "time", "note")
    return Table(summary, columns=columns, rows=rows, plain=0, empty=unless_cut(empty, limit))


def diff(context: Context, args: dict[str, Any]) -> DiffResult:
    """`diff BEFORE [AFTER]`."""
    if context.transaction is not None and "after" not in args:
        return _diff_of_transaction(context, context.transaction, args)
    if "before" not in args:
        raise UsageError("diff: BEFORE is missing (the earlier state)", "Usage: diff BEFORE [AFTER] [options]")
    manager, before, after, keys = context.manager, args["before"], args.get("after", "live"), args.get("keys")
    later = _other_namespace(context, args, "with") or manager
    views = manager.at(before), later.at(after)
    context.check_exists(views[0].revision or (later is manager and views[1].revision))
    changes = compare(*views, keys)
    require_keys(keys, *views)
    code = ExitCode.MISSING if args.get("exit_code") and changes else ExitCode.OK
    plain = args.get("patch") or args.get("summary") or not changes
    screen = None if plain else FullScreen(
        before, after, None if keys is None else [change.key for change in changes],
        args.get("with_namespace", ""), args.get("with_store", ""), wanted=wants_full_screen(args),
    )  # fmt: skip
    return DiffResult(
        code=code, diff=changes, patch=args.get("patch", False), keys_only=args.get("summary", False),
        full_screen=screen,
        empty=_empty(args, f"no difference between {changes.before} and {changes.after}", changes, *views),
    )  # fmt: skip


def wants_full_screen(args: dict[str, Any]) -> bool | None:
    """Return what `--pager` and `--no-pager` ask for; None is nothing."""
    return False if args.get("no_pager") else True if args.get("pager") else None


def _diff_of_transaction(context: Context, transaction: Transaction, args: dict[str, Any]) -> DiffResult:
    """Compare a state with the open transaction. Without BEFORE it is what 'commit' would change."""
    if other := next((name for name in ("with_namespace", "with_store", "pager") if name in args), ""):
        raise UsageError(
            f"diff takes no --{other.replace('_', '-')} inside a transaction", "End it first with 'commit'"
        )
    manager, keys = context.manager, args.get("keys")
    view = manager.at(args["before"]) if "before" in args else None
    changes = transaction.diff(args.get("before"), keys=keys)
    if keys is not None:
        written = set(transaction.written)
        require_keys([key for key in keys if key not in written], view or manager.at("live"))
    code = ExitCode.MISSING if args.get("exit_code") and changes else ExitCode.OK
    empty = "the transaction changes nothing" if view is None else f"no difference between {view.ref} and transaction"
    return DiffResult(
        code=code, diff=changes, patch=args.get("patch", False), keys_only=args.get("summary", False),
        empty=empty + _in_chosen(args),
    )  # fmt: skip


def restore(context: Context, args: dict[str, Any]) -> DiffResult | ActionResult:
    """`restore REF`."""
    manager, ref, keys = context.existing, args["ref"], args.get("keys")
    source = _other_namespace(context, args, "from")
    if source is not None and keys is None and "path" not in args:
        raise UsageError("restore --from-namespace and --from-store need --keys or --path", see("help", "restore"))
    origin = source or manager
    at = pinned(origin.backend, ref)  # what is restored is what is shown, although `@2h` moves on meanwhile
    target, label = origin.at(at), ref if source is None else f"{source.namespace}:{ref}"
    empty = f"live already equals {label}"
    paths = _paths(manager.at("live"), target, args["path"]) if "path" in args else None
    options: dict[str, Any] = {"paths": paths, "source": source}
    options |= {name: args[name] for name in ("expected", "previewed", "reason") if name in args}

    def preview() -> tuple[Diff, str]:
        planned = manager.restore_checkpoint(at, keys, dry_run=True, **options)
        return planned, _empty(args, empty, planned, target, manager.at("live"), after=_NOT_RESTORED)

    if args.get("dry_run"):
        planned, empty = preview()
        return DiffResult(DRY_RUN if planned else "", diff=planned, empty=empty)
    if context.ask is None or context.options.get("yes"):
        applied = manager.restore_checkpoint(at, keys, **options)
        empty = _empty(args, empty, applied, target, manager.at("live"), after=_NOT_RESTORED)
        result = _applied(applied, f"restored {label}", empty, paths=paths)
        result.summary += _deleted_checkpoints(manager, applied)
        return result
    options.setdefault("previewed", manager.revision)
    planned, empty = preview()
    if not planned:
        return DiffResult(diff=planned, empty=empty)
    screen = None
    if not {"path", "expected", "previewed", "reason"} & args.keys():  # the screen knows its own guards alone
        chosen = None if keys is None else [change.key for change in planned]
        screen = FullScreen(
            "live", str(at), chosen, args.get("from_namespace", ""), args.get("from_store", ""), restore=True,
            wanted=wants_full_screen(args),
        )  # fmt: skip
    decided = context.review(DiffResult(diff=planned, full_screen=screen))
    if decided:
        return ActionResult(f"restored {label}", undo="undo")
    if decided is False:
        raise ConfirmationRequired("not done", NOTHING_CHANGED)
    context.confirm(f"restore {label}: {tally(planned, paths)}?")
    # The diff is not printed again: `previewed` makes sure that the one above is the one applied.
    applied = manager.restore_checkpoint(at, keys, **options)
    return ActionResult(f"restored {label}{_deleted_checkpoints(manager, applied)}", undo="undo")


def revert(context: Context, args: dict[str, Any]) -> DiffResult | ActionResult:
    """`revert KEY REVISION`, `revert --commit REVISION`."""
    if "commit" in args:
        return _revert_commit(context, args)
    if "revision" not in args:
        raise UsageError("revert: KEY and REVISION are missing, or --commit", see("help", "revert"))
    return restore(context, {**args, "ref": args["revision"], "keys": [KeyName(args["key"])]})


def _revert_commit(context: Context, args: dict[str, Any]) -> DiffResult | ActionResult:
    manager, skip = context.existing, args.get("skip_conflicts", False)
    revision = manager.at(args["commit"]).revision  # what is reverted is what is shown, although live moves on
    options = {name: args[name] for name in ("skip_conflicts", "expected", "previewed", "reason") if name in args}
    asks = context.ask is not None and not context.options.get("yes")
    if asks:
        options.setdefault("previewed", manager.revision)
    if args.get("dry_run") or asks:
        planned = manager.revert_commit(revision, dry_run=True, **options)
        left = _left_out(planned)
        if args.get("dry_run"):
            code = ExitCode.CONFLICT if left and not skip else ExitCode.OK
            return DiffResult(DRY_RUN + left, code, diff=planned, empty=_NOTHING_TO_REVERT)
        if planned and (skip or not left):
            question = f"revert commit {revision}: {tally(planned)}{left}?"
            screen = FullScreen(
                "live", str(revision - 1), [change.key for change in planned], question=question,
                words=["revert", "--commit", str(revision), *(["--skip-conflicts"] if skip else [])],
                wanted=wants_full_screen(args),
            )  # fmt: skip
            context.approve(DiffResult(diff=planned, full_screen=screen), question)
    applied = manager.revert_commit(revision, **options)
    left = _left_out(applied)
    if not applied.checkpoint:
        return DiffResult(diff=applied, empty=_NOTHING_TO_REVERT + left)
    left += _deleted_checkpoints(manager, applied)
    if asks:
        return ActionResult(f"reverted commit {revision}{left}", undo="undo")
    return DiffResult(f"reverted commit {revision}: {tally(applied)}{left}", undo="undo", diff=applied, empty="")


def _left_out(diff: RevertDiff) -> str:
    return f"; changed since, and left as it is: {conflicts_text(diff.conflicts)}" if diff.conflicts else ""


def _deleted_checkpoints(manager: StateManager, applied: Diff) -> str:
    expired = applied.expired if isinstance(applied, RestoreDiff) else ()
    return f"; {plural(len(expired), 'old safety checkpoint')} deleted: {manager.safety}" if expired else ""


def _other_namespace(context: Context, args: dict[str, Any], word: str) -> StateManager | None:
    """Open the namespace of the options `--WORD-namespace` and `--WORD-store`; None if neither was given."""
    namespace, store = args.get(f"{word}_namespace"), args.get(f"{word}_store")
    if namespace is None and store is None:
        return None
    if store is not None:
        from ..guessed_store import url_of

        store, told = url_of(store)
        context.tell(told)
    store = context.options.get("store") if store is None else store
    return context.open(store, namespace or context.manager.namespace, read_only=True)


def _paths(live: StateView, target: StateView, words: list[str]) -> dict[str, set[str]]:
    """Split each `KEY#POINTER`. A key can contain `#`: the longest key that differs is taken. O(changes).

    Raises:
        KeyNotFound: no key of a word differs.

    """
    splits = {word: [(word[:at], word[at + 1 :]) for at, sign in enumerate(word) if sign == "#"] for word in words}
    candidates = {key for pairs in splits.values() for key, _ in pairs}
    differing = {change.key for change in compare(live, target, candidates)} if candidates else set()
    paths: dict[str, set[str]] = {}
    for word, pairs in splits.items():
        if not pairs:
            raise UsageError(f"--path {word[:100]!r} is not KEY#POINTER", "Give such as 'job#/tasks/0/state'")
        key, pointer = next((pair for pair in reversed(pairs) if pair[0] in differing), ("", ""))
        if not key:
            names = " or ".join(repr(key[:60]) for key, _ in pairs[:3])
            there = () if target.namespace == live.namespace else ("--with-namespace", target.namespace)
            hint = see("diff", "live", target.ref, *there)
            raise KeyNotFound(f"no key {names} differs between live and {target.ref}", hint)
        paths.setdefault(key, set()).add(pointer)
    return paths


def _empty(args: dict[str, Any], empty: str, changes: Diff, *views: StateView, after: str = "") -> str:
    """Return the message for no difference, which tells of the chosen keys and paths alone.

    It names the globs that match no key of any state, in O(keys).
    """
    said = f"{empty}{_in_chosen(args)}{after}"
    patterns = () if changes else args.get("keys", ())
    globs = [glob for glob in patterns if not any(next(view.raw_entries(keys=glob), None) for view in views)]
    if not globs:
        return said
    unmatched = no_match(globs, " in either state")
    return unmatched if len(globs) == len(patterns) and "path" not in args else f"{unmatched}; {said}"


def _in_chosen(args: dict[str, Any]) -> str:
    chosen = [word for name, word in (("keys", "keys"), ("path", "paths")) if name in args]
    return f" in these {' and '.join(chosen)}" if chosen else ""


def undo(context: Context, args: dict[str, Any]) -> DiffResult:
    """`undo`."""
    dry_run = args.get("dry_run", False)
    applied = context.manager.undo(dry_run=dry_run, expected=args.get("expected"))
    if dry_run:
        return DiffResult(DRY_RUN if applied else "", diff=applied, empty="undo would change no value")
    return _applied(applied, "undone", "undone; no value changed", "redo")


def redo(context: Context, args: dict[str, Any]) -> DiffResult:
    """`redo`."""
    dry_run = args.get("dry_run", False)
    applied = context.manager.redo(dry_run=dry_run, expected=args.get("expected"))
    if dry_run:
        return DiffResult(DRY_RUN if applied else "", diff=applied, empty="redo would change no value")
    return _applied(applied, "redone", "redone; no value changed")


def _applied(
    applied: Diff, action: str, empty: str, undo: str = "undo", *,
    paths: Mapping[str, Collection[str]] | None = None,
) -> DiffResult:  # fmt: skip
    summary = f"{action}: {tally(applied, paths)}" if applied else ""
    return DiffResult(summary, undo=undo if applied else "", diff=applied, empty=empty)


def log(context: Context, args: dict[str, Any]) -> Table:
    """`log`."""
    manager, filters = context.manager, {name: args[name] for name in (*_FILTERS, "key") if name in args}
    limit = args.get("limit", 100)
    commits = manager.log(limit, below=args.get("below", 0), **filters)
    context.check_exists(commits or context.transaction is not None)
    names: dict[int, list[str]] = {}
    for mark in manager.checkpoints(all=True):
        names.setdefault(mark.revision, []).append(mark.name)
    rows = [
        (commit.revision, commit.time.isoformat(), commit.author, commit.keys,
         " ".join(names.get(commit.revision, ())), commit.reason)
        for commit in commits
    ]  # fmt: skip
    if pending := _pending(context, args, args.get("key")):
        rows = [(0, pending[0], pending[1], pending[2], "", _NOT_COMMITTED), *rows][:limit]
    columns = ("revision", "time", "author", "keys", "checkpoints", "reason")
    none = "no commit matches" if filters else "no commits"
    return Table(columns=columns, rows=rows, empty=unless_cut(f"{none} in namespace {manager.namespace!r}", limit))


def _pending(context: Context, args: dict[str, Any], keys: list[str] | None) -> tuple[str, str, int] | None:
    """Return time, author and number of keys of the open transaction, if log or history is to show it. It is newest."""
    transaction, author = context.transaction, context.manager.author or ""
    if transaction is None or not any(map(Selection(keys), transaction.written)):
        return None
    if any(name in args for name in ("below", "until", "grep")) or not matches_any(author, args.get("by") or ["*"]):
        return None
    return format_time(context.manager.backend.now()), author, transaction.size


def history(context: Context, args: dict[str, Any]) -> Table:
    """`history KEY`."""
    manager, key, limit = context.manager, args["key"], args.get("limit", 100)
    filters = {name: args[name] for name in _FILTERS if name in args}
    versions = manager.history(key, limit, below=args.get("below", 0), sealed=True, **filters)
    pending = _pending(context, args, [KeyName(key)])
    if not versions and not pending and not manager.history(key, 1, sealed=True):
        manager.entry(key)  # raises the KeyNotFound that names the store and namespace

    commits = manager.commits(version.revision for version in versions)

    def rows() -> Iterator[tuple[Any, ...]]:
        if pending:
            yield 0, pending[0], context.read(key), pending[1], _NOT_COMMITTED
        for version in versions:
            commit = commits.get(version.revision)
            author, reason = (commit.author, commit.reason) if commit is not None else ("", "")
            yield version.revision, version.time.isoformat(), version.value, author, reason

    empty = unless_cut(f"no version of key {key!r} matches", limit)
    return Table(columns=("revision", "time", "value", "author", "reason"), rows=islice(rows(), limit), empty=empty)


def blame(context: Context, args: dict[str, Any]) -> Record:
    """`blame KEY [PATH]`."""
    commit, outcome = context.manager.find_blame(args["key"], args.get("path", ""), at=args.get("at") or "live")
    data: dict[str, Any] = {
        "revision": commit.revision,
        "time": commit.time.isoformat(),
        "reason": commit.reason,
        "author": commit.author,
    }
    if outcome:
        data[outcome] = True
    return Record(data={name: value for name, value in data.items() if value != ""})
