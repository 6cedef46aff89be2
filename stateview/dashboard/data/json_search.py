"""Text sought in a JSON value, decoded piece by piece. No terminal code."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from itertools import accumulate, islice
from typing import Any, NamedTuple

from msgspec import Raw

from ... import codec
from ..display.redaction import is_redacted
from .json_tree import (
    SMALL_BYTES,
    TEXT_CHARACTERS,
    Broken,
    Step,
    has_lines,
    look_into,
    room_of,
    shown_of,
    start_of_text,
)

MAX_HITS = 10_000  # places that a search gives
_PIECE_CHARACTERS = 256_000  # characters of a text that are searched at once

_Place = tuple[tuple[Step, ...], Any, bool]  # the steps to a value, the value, and whether it is masked


class Hit(NamedTuple):
    """A place where something was found: the steps to it, and the character of its text where that has lines.

    `more`: it stands for others too, all in what is left out where the text is shown.
    """

    steps: tuple[Step, ...]
    at: int | None = None
    more: bool = False


def search(
    value: Any, wanted: str, patterns: tuple[str, ...], stop: Callable[[], bool], limit: int = MAX_HITS, width: int = 80
) -> Iterator[Hit]:
    """Each place whose name, or whose value if it is no box, holds a text; in document order. O(size).

    Of a text that is shown in lines each such line is a place, and one all that is left out there. The case of letters
    makes no difference unless the text has a capital. What is masked is not looked into.

    Args:
        value: what `decode` returned, or `Raw`.
        wanted: the text.
        patterns: the names that are masked.
        stop: whether to end early.
        limit: how many at most.
        width: characters of one line of a text.

    """
    exact = any(sign.isupper() for sign in wanted)
    needle = wanted if exact else wanted.casefold()
    return islice(_search(value, needle, exact, patterns, stop, width), limit)


def _search(
    value: Any, needle: str, exact: bool, patterns: tuple[str, ...], stop: Callable[[], bool], width: int
) -> Iterator[Hit]:  # fmt: skip
    for number, (steps, text, shown) in enumerate(_walk(value, patterns, _Filter(needle, exact))):
        if number % 256 == 0 and stop():
            return
        name = steps[-1] if steps and isinstance(steps[-1], str) else ""
        named = needle in (name if exact else name.casefold())
        if named or (not shown and needle in (text if exact else text.casefold())):
            yield Hit(steps)
        if shown:
            yield from _in_lines(steps, text, needle, exact, stop, width, shown)


def _in_lines(
    steps: tuple[Step, ...], text: str, needle: str, exact: bool, stop: Callable[[], bool], width: int, shown: int
) -> Iterator[Hit]:  # fmt: skip
    """Yield a hit for each line of the screen in which a text begins to hold another, as far as it is shown.

    And one more.
    """
    top = text[:shown]
    line_end, after, left_out = -1, 0, -1
    places = _places(text, needle, exact, stop)
    for at in places:
        if left_out < 0:
            left_out = shown_of(top, width)
        if at >= left_out:
            yield Hit(steps, at, next(places, None) is not None)
            return
        if at < after:
            continue  # on the line of the last one
        yield Hit(steps, at)
        if at >= line_end:
            start, line_end = top.rfind("\n", 0, at) + 1, top.find("\n", at)
            line_end = len(top) if line_end < 0 else line_end
            room = room_of(top[start:line_end], width)
        after = min(start + ((at - start) // room + 1) * room, line_end)


def _places(text: str, needle: str, exact: bool, stop: Callable[[], bool]) -> Iterator[int]:
    """Yield the characters at which a text holds another.

    Looked for in pieces, so that other threads have their turns.
    """
    for start in range(0, len(text), _PIECE_CHARACTERS):
        if stop():
            return
        piece = text[start : start + _PIECE_CHARACTERS + len(needle) - 1]
        within = piece if exact else piece.casefold()
        # some letters become two
        ends = None if len(within) == len(piece) else list(accumulate(len(sign.casefold()) for sign in piece))
        place = within.find(needle)
        while place >= 0:
            at = place if ends is None else bisect_right(ends, place)
            if at >= _PIECE_CHARACTERS:
                break
            yield start + at
            place = within.find(needle, place + 1)


class _Filter:
    """Tells quickly of some encoded values that they cannot hold a text."""

    def __init__(self, needle: str, exact: bool) -> None:
        self.exact = exact
        plain = needle.isascii() and needle.isprintable() and not any(sign in needle for sign in '"\\/')
        self.needle = needle.encode() if plain else b""

    def passes(self, raw: Raw) -> bool:
        """Whether it must be looked into."""
        data = bytes(raw) if self.needle and len(memoryview(raw)) <= SMALL_BYTES else b""
        if not data or not data.isascii() or b"\\u" in data:
            return True
        return self.needle in (data if self.exact else data.lower())


def _walk(value: Any, patterns: tuple[str, ...], filter: _Filter) -> Iterator[tuple[tuple[Step, ...], str, int]]:
    """Each place inside a value with its text, which is empty for a box and for what is masked or passed over.

    Also how many characters of the text are shown at most, if it is shown in lines; else 0.
    """
    pending: list[Iterator[_Place]] = [iter([((), value, False)])]
    while pending:
        place = next(pending[-1], None)
        if place is None:
            pending.pop()
            continue
        steps, item, hidden = place
        if hidden or (isinstance(item, Raw) and not filter.passes(item)):
            yield steps, "", 0
            continue
        shown = TEXT_CHARACTERS
        if isinstance(item, Raw):
            start = start_of_text(item)
            shown = TEXT_CHARACTERS if start is None else len(start.start)
            item = look_into(item, len(steps))
        if isinstance(item, (dict, list)):
            yield steps, "", 0
            pending.append(_inside(steps, item, patterns))
        else:
            yield steps, _text(item), shown if isinstance(item, str) and has_lines(item) else 0


def _inside(steps: tuple[Step, ...], box: Any, patterns: tuple[str, ...]) -> Iterator[_Place]:
    if isinstance(box, dict):
        for name, item in box.items():
            yield (*steps, name), item, is_redacted(name, patterns)
    else:
        for index, item in enumerate(box):
            yield (*steps, index), item, False


def _text(value: Any) -> str:
    if isinstance(value, Broken):
        return ""
    if isinstance(value, Raw):
        return bytes(value).decode(errors="replace")
    return value if isinstance(value, str) else codec.encode(value).decode()
