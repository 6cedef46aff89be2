"""Define the diff of two states, and the change of one key in it. `json_diff` compares the values."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

from msgspec import Struct

from ..model import Kind, PathChange

SIGNS: dict[Kind, str] = {"added": "+", "removed": "-", "changed": "~"}


class Change(Struct, frozen=True, dict=True):
    """Describe the change of one key between two states. `ABSENT` means no value; the revisions wrote each side."""

    key: str
    kind: Kind
    before: Any
    after: Any
    before_revision: int = 0
    after_revision: int = 0

    @cached_property
    def paths(self) -> list[PathChange]:
        """Return the differences inside the value, computed at the first use; see `compare`."""
        from .values.json_diff import compare

        if self.kind == "changed":
            return compare(self.before, self.after)
        return [PathChange("", self.kind, self.before, self.after)]

    def as_json_patch(self) -> list[dict[str, Any]]:
        """List the RFC 6902 operations on the object `{key: value, …}` that make this change, in order."""
        from .values.json_diff import json_patch
        from .values.pointers import escape_token

        path = "/" + escape_token(self.key)
        if self.kind == "removed":
            return [{"op": "remove", "path": path}]
        if self.kind == "added":
            return [{"op": "add", "path": path, "value": self.after}]
        return json_patch(self.before, self.after, path)


class Diff:
    """Hold the changes between two states, one `Change` a key, in key order.

    Iterating streams the changes. `len()` and `counts` go through all of them once. Only the counts are kept, so a diff
    can be iterated again, at the same cost.
    """

    def __init__(self, before: str, after: str, source: Callable[[], Iterator[Change]]) -> None:
        self.before = before
        self.after = after
        self._source = source
        self._counts: dict[Kind, int] | None = None

    def __iter__(self) -> Iterator[Change]:
        counts: dict[Kind, int] = {"added": 0, "removed": 0, "changed": 0}
        for change in self._source():
            counts[change.kind] += 1
            yield change
        self._counts = counts

    @property
    def counts(self) -> dict[Kind, int]:
        """Count the keys added, removed and changed. O(changes) the first time."""
        if self._counts is None:
            for _ in self:
                pass
        assert self._counts is not None
        return dict(self._counts)

    def __len__(self) -> int:
        return sum(self.counts.values())

    def __bool__(self) -> bool:
        return next(iter(self), None) is not None

    def __repr__(self) -> str:
        return f"Diff({self.before!r} → {self.after!r})"

    def as_json_patch(self) -> list[dict[str, Any]]:
        """List the RFC 6902 operations on the object `{key: value, …}` that turn one state into the other."""
        return [operation for change in self for operation in change.as_json_patch()]
