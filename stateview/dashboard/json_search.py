"""Text sought in a JSON value, decoded piece by piece. No terminal code."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from msgspec import Raw

from .. import codec
from .json_tree import SMALL, Broken, Step, look_into
from .masking import masked

HITS = 10_000  # places that a search gives

_Place = tuple[tuple[Step, ...], Any, bool]  # the steps to a value, the value, and whether it is masked


def search(
    value: Any, wanted: str, patterns: tuple[str, ...], stop: Callable[[], bool], limit: int = HITS
) -> Iterator[tuple[Step, ...]]:
    """The steps to each place whose name, or whose value if it is no box, holds a text; in document order. O(size).

    The case of letters makes no difference unless the text has a capital. What is masked is not looked into.

    Args:
        value: what `decode` returned, or `Raw`.
        wanted: the text.
        patterns: the names that are masked.
        stop: whether to end early.
        limit: how many at most.

    """
    exact = any(sign.isupper() for sign in wanted)
    needle = wanted if exact else wanted.casefold()
    found = 0
    for number, (steps, text) in enumerate(_walk(value, patterns, _Filter(needle, exact))):
        if number % 256 == 0 and stop():
            return
        name = steps[-1] if steps and isinstance(steps[-1], str) else ""
        if any(needle in (one if exact else one.casefold()) for one in (name, text)):
            yield steps
            found += 1
            if found == limit:
                return


class _Filter:
    """Tells quickly of some encoded values that they cannot hold a text."""

    def __init__(self, needle: str, exact: bool) -> None:
        self.exact = exact
        plain = needle.isascii() and needle.isprintable() and not any(sign in needle for sign in '"\\/')
        self.needle = needle.encode() if plain else b""

    def passes(self, raw: Raw) -> bool:
        """Whether it must be looked into."""
        data = bytes(raw) if self.needle and len(memoryview(raw)) <= SMALL else b""
        if not data or not data.isascii() or b"\\u" in data:
            return True
        return self.needle in (data if self.exact else data.lower())


def _walk(value: Any, patterns: tuple[str, ...], filter: _Filter) -> Iterator[tuple[tuple[Step, ...], str]]:
    """Each place inside a value with its text, which is empty for a box and for what is masked or passed over."""
    pending: list[Iterator[_Place]] = [iter([((), value, False)])]
    while pending:
        place = next(pending[-1], None)
        if place is None:
            pending.pop()
            continue
        steps, item, hidden = place
        if hidden or (isinstance(item, Raw) and not filter.passes(item)):
            yield steps, ""
            continue
        if isinstance(item, Raw):
            item = look_into(item, len(steps))
        if isinstance(item, (dict, list)):
            yield steps, ""
            pending.append(_inside(steps, item, patterns))
        else:
            yield steps, _text(item)


def _inside(steps: tuple[Step, ...], box: Any, patterns: tuple[str, ...]) -> Iterator[_Place]:
    if isinstance(box, dict):
        for name, item in box.items():
            yield (*steps, name), item, masked(name, patterns)
    else:
        for index, item in enumerate(box):
            yield (*steps, index), item, False


def _text(value: Any) -> str:
    if isinstance(value, Broken):
        return ""
    if isinstance(value, Raw):
        return bytes(value).decode(errors="replace")
    return value if isinstance(value, str) else codec.encode(value).decode()
