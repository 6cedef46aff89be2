"""The preview of a restore: the changes that bring live back to another state of the namespace."""

from __future__ import annotations

from typing import ClassVar

from .base import PreviewScreen


class RestoreScreen(PreviewScreen):
    """Previews a restore, of all keys that differ or of some. For the arguments see `PreviewScreen`."""

    HELP = (
        "The changes that a restore would make: + adds a key again, - DELETES a key, ~ changes a value back. space\n"
        "marks a key or, inside a value, a place. a marks all keys, n none, i inverts the marks. y creates a\n"
        "checkpoint of live, and restores the marked keys in one commit. z undoes the restore."
    )
    WAYS: ClassVar[tuple[tuple[str, ...], ...]] = (
        ("restore one key", "n, move to the key, space, y"),
        ("restore one place", "enter, move to the place, space, y"),
        ("restore what a filter shows", "n, / and a part of the names, enter, a, y"),
    )
