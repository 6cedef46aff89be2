"""What a step does in the cases that its caller decides."""

from __future__ import annotations

from typing import Any, Literal

from ..errors import InvalidArgument

OnChange = Literal["refuse", "run", "keep"]
_ON_CHANGE = ("refuse", "run", "keep")


class Options:
    """What a step does when it fails, takes too long, or was done with other arguments."""

    def __init__(
        self, retries: int = 0, backoff: float = 1.0, timeout: float | None = None,
        retry_on: type[BaseException] | tuple[type[BaseException], ...] = Exception, on_change: OnChange = "refuse",
    ) -> None:  # fmt: skip
        self.retries, self.backoff, self.timeout = retries, backoff, timeout
        self.retry_on, self.on_change = retry_on, on_change
        if on_change not in _ON_CHANGE:
            raise InvalidArgument(f"on_change={on_change!r}: give 'refuse', 'run' or 'keep'")
        kinds = retry_on if isinstance(retry_on, tuple) else (retry_on,)
        if not all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in kinds):
            raise InvalidArgument(f"retry_on={retry_on!r}: give an exception class, or a tuple of them")

    def changed(self, **given: Any) -> Options:
        """Return these options, with those that are given and not None."""
        chosen = {name: value for name, value in given.items() if value is not None}
        return Options(**{**vars(self), **chosen}) if chosen else self
