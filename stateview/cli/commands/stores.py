"""Handlers: init, namespaces, fork, watch."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from ... import settings
from ...backends import mask
from ...errors import ReadOnly
from ...states.json_diff import Change
from ..context import Context
from ..results import ActionResult, Changes, Table, plural


def init(context: Context, given: dict[str, Any]) -> ActionResult:
    """`init [STORE] [NAMESPACE]`."""
    found = settings.find()
    before = found.text("store"), found.text("namespace")
    wanted = (
        given.get("backend") or context.options.get("store"),
        given.get("namespace") or context.options.get("namespace"),
    )
    if not any(wanted) and any(before):
        shown = mask(before[0] or "json")
        told = f"{found.path} says: {shown}, namespace {before[1] or 'default'}; give a store or namespace to change it"
        return ActionResult(told, data={"store": shown, "namespace": before[1] or "default", "path": found.path})
    if context.options.get("read_only"):
        raise ReadOnly("init writes a stateview.toml, and --read-only was given")
    store = given.get("backend") or context.options.get("store") or "json"
    namespace = given.get("namespace") or context.options.get("namespace") or "default"
    chosen = settings.resolve_target(store, namespace)
    manager = context.open(chosen.store, chosen.namespace)
    manager.head()  # a server that is not there is better known now
    manager.close()
    path = settings.save_target(store, namespace)
    shown = mask(store)
    was = f"; before: {mask(before[0] or 'json')}, namespace {before[1] or 'default'}" if any(before) else ""
    told = f"this folder uses {shown}, namespace {namespace} ({path}){was}"
    return ActionResult(told, data={"store": shown, "namespace": namespace, "path": path})


def namespaces(context: Context, given: dict[str, Any]) -> Table:
    """`namespaces`."""
    manager = context.manager

    def rows() -> Iterator[tuple[Any, ...]]:
        for name in manager.namespaces():
            with context.open(context.options.get("store"), name, read_only=True) as one:
                head = one.head()
                yield name, head.count, head.revision, len(one.list_checkpoints())

    columns = ("namespace", "keys", "revision", "checkpoints")
    return Table(columns=columns, rows=rows(), plain=0, empty=f"no namespaces in {manager.url}")


def fork(context: Context, given: dict[str, Any]) -> ActionResult:
    """`fork NAMESPACE`."""
    at = given.get("at", "live")
    made = context.manager.fork(given["to"], at=at)
    told = f"forked {context.manager.namespace} at {at} into {made.namespace}: {plural(made.head().count, 'key')}"
    return ActionResult(told, data={"namespace": made.namespace}, name=made.namespace)


def watch(context: Context, given: dict[str, Any]) -> Changes:
    """`watch`."""
    found: Iterator[Change] = context.manager.watch(
        since=given.get("since", "live"), keys=given.get("keys"), timeout=given.get("timeout")
    )
    return Changes(changes=islice(found, given["count"]) if "count" in given else found)
