"""The rests between two looks at a store."""

from __future__ import annotations


class Rests:
    """Tells how long to rest after each look that succeeded, so that a slow store is not asked all the time.

    A look that waited for a failover says nothing of the next look. So a look counts as no longer than the look before.

    Args:
        factor: the length of a rest in lengths of a look.
        usual: seconds that any look may take, whatever the look before took.

    """

    def __init__(self, factor: float, usual: float = 0.0) -> None:
        self._factor = factor
        self._usual = usual
        self._last = 0.0

    def after(self, took: float) -> float:
        """Return the seconds to rest after a look that took so many seconds."""
        counted, self._last = min(took, max(self._usual, self._last)), took
        return self._factor * counted
