"""Handler: plot. Draws a number over its history."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from itertools import islice
from shlex import quote
from typing import Any

from ...errors import InvalidArgument, see
from ...model import ABSENT, SealedValue
from ...states.values.pointers import escape_token, resolve_pointer
from ..context import Context
from ..results import Chart
from .places import split_place

_VERSIONS = 1000
_MAX_PLACES = 3
_MAX_LOOKED_AT = 10_000
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
        values = (version.value for version in versions if version.value is not ABSENT)
        inside = resolve_pointer(next(values, ABSENT), path)
        places = [quote(f"{key}#{path}{pointer}") for pointer in islice(_numbers(inside), _MAX_PLACES)]
        hint = f"Give {' or '.join(places)}" if places else see("load", key)
        raise NoNumber(f"no version of {latest!r} is a number", hint)
    left = len(versions) - len(rows)
    return Chart(columns=("revision", "time", "value"), rows=rows, title=args["key"], without_number=left)


class NoNumber(InvalidArgument):
    """No version of what is to be drawn is a number."""


def _numbers(value: object) -> Iterator[str]:
    """Yield the pointers of the numbers inside a value, the least deep first. It looks at `_MAX_LOOKED_AT` places."""
    left = deque([("", value)])
    for _ in range(_MAX_LOOKED_AT):
        if not left:
            return
        pointer, found = left.popleft()
        if is_number(found):
            yield pointer
        parts = found.items() if isinstance(found, dict) else enumerate(found) if isinstance(found, list) else ()
        left.extend((f"{pointer}/{escape_token(token)}", part) for token, part in islice(parts, _MAX_LOOKED_AT))


def is_number(value: object) -> bool:
    """Return whether a value can be drawn."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
