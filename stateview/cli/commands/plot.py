"""Handler: plot. Draws a number over its history."""

from __future__ import annotations

import math
from typing import Any

from ...errors import InvalidArgument, see
from ...model import ABSENT, SealedValue
from ...states.values.pointers import resolve_pointer
from ..context import Context
from ..results import Chart
from .places import split_place

_VERSIONS = 1000
_FILTERS = ("by", "since", "until", "grep")


def plot(context: Context, args: dict[str, Any]) -> Chart:
    """`plot KEY[#POINTER]`."""
    manager = context.manager
    key, path = split_place(context, args["key"])
    filters = {name: args[name] for name in _FILTERS if name in args}
    versions = manager.history(key, args.get("limit", _VERSIONS), below=args.get("below", 0), sealed=True, **filters)
    if not versions:
        manager.entry(key)  # raises the KeyNotFound that names the store and namespace
    rows = []
    for version in reversed(versions):
        value = version.value
        if (
            value is not ABSENT
            and not isinstance(value, SealedValue)
            and is_number(found := resolve_pointer(value, path))
        ):
            rows.append((version.revision, version.time.isoformat(), found))
    if not rows:
        latest = f"{key}{f'#{path}' if path else ''}"
        raise InvalidArgument(f"no version of {latest!r} is a number", ("Give such as job#/tokens", see("load", key)))
    left = len(versions) - len(rows)
    return Chart(columns=("revision", "time", "value"), rows=rows, title=args["key"], without_number=left)


def is_number(value: object) -> bool:
    """Return whether a value can be drawn."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
