"""Handlers: init, namespaces, fork, drop."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Iterator
from itertools import repeat
from typing import Any
from urllib.parse import unquote

from ... import settings
from ...backends import absolute_url, is_bare, mask, parse_store
from ...backends.url_passwords import passwords, with_variables
from ...errors import (
    NOTHING_CHANGED,
    BackendUnavailable,
    Conflict,
    Damaged,
    InvalidName,
    ReadOnly,
    Sealed,
    StateException,
)
from ...manager import StateManager
from ...model import check_name
from ...states.missing import empty_store
from ..context import Context
from ..exit_codes import UsageError, exit_code
from ..guessed_store import with_store
from ..results import ActionResult, Record, Table, plural
from .checkpoints import DRY_RUN


def init(context: Context, args: dict[str, Any]) -> ActionResult:
    """`init [STORE] [NAMESPACE]`."""
    present = settings.find()
    old_store, old_namespace = mask(present.text("store") or "json"), present.text("namespace") or "default"
    exists = bool(present.text("store") or present.text("namespace"))
    options, told = with_store(context.options, args.get("backend"), first=False)
    context.tell(told)
    store, namespace = options.get("store"), args.get("namespace") or options.get("namespace")
    if not (store or namespace) and exists:
        summary = f"{present.path} says: {old_store}, namespace {old_namespace}"
        data = {"store": old_store, "namespace": old_namespace, "path": present.path}
        return ActionResult(f"{summary}; give a store or namespace to change it", data=data)
    if context.options.get("read_only"):
        raise ReadOnly("init writes stateview.toml, but --read-only was given")
    store, namespace = store or "json", namespace or "default"
    # A bare kind is going to mean the default place of this folder, whatever a stateview.toml above says.
    bare = is_bare(store) and store not in present.stores()
    url = absolute_url(parse_store(store)) if bare else settings.resolve_target(store, namespace).store
    with context.open(url, namespace) as manager:
        manager.head()  # fails if a server does not answer, before the file names it
    store, unset = _with_variables(context, store, namespace)
    path = settings.save_target(store, namespace)
    before = f"; before: {old_store}, namespace {old_namespace}" if exists else ""
    set_first = f"; set {' and '.join(unset)} to the password first, as by: export {unset[0]}=…" if unset else ""
    summary = f"this folder uses {mask(store)}, namespace {namespace} ({path}){before}{set_first}"
    return ActionResult(summary, data={"store": mask(store), "namespace": namespace, "path": path})


def _with_variables(context: Context, store: str, namespace: str) -> tuple[str, list[str]]:
    """Return a store URL with variables in place of its passwords, and those that do not hold the passwords yet.

    Raises:
        UsageError: there is nobody to ask for the names of the variables.
        InvalidName: an answer is no name of a variable.

    """
    found = passwords(store) if ":" in store else []
    if not found:
        return store, []
    names = [password.variable for password in found]
    if context.ask_line is None:
        command = shlex.join(["stateview", "init", with_variables(store, names), namespace])
        what = f"{mask(store)} holds a password, which init does not write into {settings.FILE}"
        raise UsageError(what, (NOTHING_CHANGED, f"Set {' and '.join(names)} to it, and run: {command}"))
    if not context.options.get("yes"):
        question = "The file names an environment variable in place of the password. Its name"
        names = [context.ask_line(f"{question} [{name}]") or name for name in names]
    for name in names:
        if not re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", name):
            raise InvalidName(f"{name!r} is no name of an environment variable", "Use letters, digits and _")
    given = [store[one.start : one.end] for one in found]
    unset = [name for name, text in zip(names, given, strict=True) if os.environ.get(name) not in (text, unquote(text))]
    return with_variables(store, names), unset


def namespaces(context: Context, args: dict[str, Any]) -> Table:
    """`namespaces`."""

    def read(namespace: StateManager) -> tuple[Any, ...]:
        head = namespace.head()
        return namespace.namespace, head.count, head.revision, len(namespace.list_checkpoints())

    numbers = getattr(context.manager.backend, "numbers", None)  # of Redis, where opening each takes round trips
    result = table_of_namespaces(context, ("namespace", "keys", "revision", "checkpoints"), read, numbers)
    result.plain = 0
    return result


def table_of_namespaces(
    context: Context, columns: tuple[str, ...], read: Callable[[StateManager], tuple[Any, ...]],
    read_all: Callable[[list[str]], Iterator[tuple[Any, ...] | None]] | None = None,
) -> Table:  # fmt: skip
    """Make a table of all namespaces of the store. The last column says why a namespace cannot be read.

    The errors of these are the summary of the table, once its rows are read, and the first has its exit code.

    Args:
        context: the context of the command.
        columns: the names of the columns, that of the namespace first.
        read: returns the row of a namespace.
        read_all: yields the rows of all names, None for a namespace that `read` has to read.

    Raises:
        NamespaceNotFound: the store has no namespace.
        BackendUnavailable: a server does not answer, which is no fault of a namespace.

    """
    names = names_of_store(context)
    failed: dict[str, StateException] = {}

    def row_of(name: str) -> tuple[Any, ...]:
        try:
            with context.open(context.options.get("store"), name, read_only=True) as manager:
                return *read(manager), ""
        except StateException as error:
            if isinstance(error, BackendUnavailable) and not hasattr(context.manager.backend, "root"):
                raise
            error.target = context.target_options(error.about(context.manager.url, name).place)
            failed[name] = error
            return name, *repeat(None, len(columns) - 1), problem_of(error)

    def rows() -> Iterator[tuple[Any, ...]]:
        known = repeat(None, len(names)) if read_all is None else read_all(names)
        for name, row in zip(names, known, strict=True):
            yield row_of(name) if row is None else (*row, "")
        if failed:
            told = "\n".join(f"{name}: {error}" for name, error in failed.items())
            result.summary = f"{len(failed):,} of {plural(len(names), 'namespace')} cannot be read\n{told}"
            result.code = exit_code(next(iter(failed.values())))

    result = Table(columns=(*columns, "problem"), rows=rows())
    return result


def problem_of(error: Exception) -> str:
    """Return in a word why a namespace cannot be read."""
    if isinstance(error, Sealed):
        return "sealed"
    if isinstance(error, BackendUnavailable):
        return "unavailable"
    return "damaged" if isinstance(error, Damaged) else "unreadable"


def names_of_store(context: Context) -> list[str]:
    """List the namespaces of the store.

    Raises:
        NamespaceNotFound: it has none.

    """
    names = context.manager.namespaces()
    if not names:
        raise empty_store(context.manager.backend)
    return names


def fork(context: Context, args: dict[str, Any]) -> ActionResult:
    """`fork NAMESPACE`."""
    manager, at = context.manager, args.get("at", "live")
    if args.get("dry_run"):
        count = len(context.existing.at(at).list_keys())
        if check_name(args["to"], "namespace") in manager.namespaces():
            raise Conflict(f"namespace {args['to']!r} exists already", "Give another name")
        said = f"{manager.namespace} at {at} would be forked into {args['to']}: {plural(count, 'key')}"
        return ActionResult(f"{said}; {DRY_RUN}", data={"namespace": args["to"], "keys": count, "would": said})
    copy = manager.fork(args["to"], at=at)
    summary = f"forked {manager.namespace} at {at} into {copy.namespace}: {plural(copy.head().count, 'key')}"
    return ActionResult(summary, data={"namespace": copy.namespace}, name=copy.namespace)


def drop(context: Context, args: dict[str, Any]) -> Record | ActionResult:
    """`drop`."""
    manager = context.manager
    if manager.namespace not in manager.namespaces():  # a damaged namespace is listed, and can be dropped
        manager.check_exists()
    data, words = _contents(manager)
    preview = Record(data=data, lines=tuple((name, str(value)) for name, value in data.items()))
    if args.get("dry_run"):
        preview.summary = DRY_RUN
        return preview
    manager.check_writable()
    if context.ask_line is not None and not context.options.get("yes"):
        context.show(preview)
    question = f"remove namespace {manager.namespace!r} of {manager.url} with {words}, which cannot be undone?"
    context.confirm_name(question, manager.namespace)
    manager.drop()
    return ActionResult(f"removed namespace {manager.namespace!r} of {manager.url} with {words}", data=data)


def _contents(manager: StateManager) -> tuple[dict[str, Any], str]:
    """Return what is in a namespace, as data and in words."""
    data: dict[str, Any] = {"namespace": manager.namespace, "store": manager.url}
    try:
        head, marks = manager.head(), len(manager.list_checkpoints())
    except Damaged:
        return data | {"damaged": True}, "damaged contents"
    counts = {"keys": head.count, "revision": head.revision, "checkpoints": marks}
    history = plural(head.revision - head.floor, "revision")
    return data | counts, f"{plural(head.count, 'key')}, {plural(marks, 'checkpoint')} and {history} of history"
