"""Handler: watch. Prints changes as they are committed, or keeps a table of keys and places up to date."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from ...manager import StateManager
from ...states.changes import Change
from ..context import Context, missing_namespace
from ..live_table import Places
from ..results import Changes, LiveTable, Text


def watch(context: Context, args: dict[str, Any]) -> Changes | LiveTable:
    """`watch [WHAT…]`."""
    manager, since = context.manager, args.get("since", "live")
    places = Places(args.get("what", []), args.get("keys") or [])
    missing = missing_namespace(manager)
    if missing:
        context.show(Text(empty=f"{missing}. Waiting for its first commit"))
    if args.get("table") or places.has_pointers:
        changes = _until_written(manager, manager.watch(since=since, keys=places.keys, timeout=args.get("timeout")))
        rows = (row for change in changes for row in places.changed(change))
        return LiveTable(
            columns=("key", "path", "value"), rows=islice(rows, args["count"]) if "count" in args else rows,
            places=places if args.get("table") else None, timeout=args.get("timeout"),
        )  # fmt: skip
    changes = manager.watch(since=since, keys=places.keys, timeout=args.get("timeout"))
    if missing:
        changes = _until_written(manager, changes)
    return Changes(changes=islice(changes, args["count"]) if "count" in args else changes)


def _until_written(manager: StateManager, changes: Iterator[Change]) -> Iterator[Change]:
    """Yield the changes; at their end the namespace must have been written."""
    yield from changes
    manager.check_exists()
