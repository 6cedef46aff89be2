"""Search for a text in a JSON value, which is decoded piece by piece. No terminal code."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from itertools import accumulate, islice
from typing import Any, NamedTuple

from msgspec import Raw

from .... import codec
from ...display.redaction import is_redacted
from .json_nodes import SMALL_BYTES, Broken, Step, decode_outer_level, text_start
from .json_text import TEXT_CHARACTERS, has_lines, listed_characters, row_ends

MAX_HITS = 10_000  # hits of one search
_PIECE_CHARACTERS = 256_000  # characters of a text that are searched at once, so that other threads get their turns

_Member = tuple[tuple[Step, ...], Any, bool]  # the steps to a value, the value, and whether it is masked


class Hit(NamedTuple):
    """A row that matches.

    Attributes:
        steps: the steps to its value.
        at: the position of the match in the text, if the value is a text that opens into rows.
        more: whether the hit stands for all matches in the part of the text that is not listed.

    """

    steps: tuple[Step, ...]
    at: int | None = None
    more: bool = False


def search(
    value: Any, wanted: str, patterns: tuple[str, ...], stop: Callable[[], bool], limit: int = MAX_HITS, width: int = 80
) -> Iterator[Hit]:
    """Yield each value whose name or text holds `wanted`, in document order. O(size).

    A text that opens into rows gives a hit for each matching row, and one for the part that is not listed. The search
    ignores case unless `wanted` has a capital letter. Masked values are not searched.

    Args:
        value: a decoded value, or `Raw`.
        wanted: the text to search for.
        patterns: the globs of masked names.
        stop: whether to end early.
        limit: the most hits to yield.
        width: the columns of a row.

    """
    exact = any(sign.isupper() for sign in wanted)
    needle = wanted if exact else wanted.casefold()
    return islice(_search(value, needle, exact, patterns, stop, width), limit)


def _search(
    value: Any, needle: str, exact: bool, patterns: tuple[str, ...], stop: Callable[[], bool], width: int
) -> Iterator[Hit]:  # fmt: skip
    for number, (steps, text, listed) in enumerate(_walk(value, patterns, _Prefilter(needle, exact))):
        if number % 256 == 0 and stop():
            return
        name = steps[-1] if steps and isinstance(steps[-1], str) else ""
        name_matches = needle in (name if exact else name.casefold())
        if name_matches or (not listed and needle in (text if exact else text.casefold())):
            yield Hit(steps)
        if listed:
            yield from _search_rows(steps, text, needle, exact, stop, width, listed)


def _search_rows(
    steps: tuple[Step, ...], text: str, needle: str, exact: bool, stop: Callable[[], bool], width: int, listed: int
) -> Iterator[Hit]:  # fmt: skip
    """Yield a hit for each listed row in which a match begins, and one for the part that is not listed."""
    top = text[:listed]
    line_end, row_end, listed_end = -1, 0, -1
    ends: Iterator[int] = iter(())  # of the rows of the line, from the row after the last hit on
    positions = _positions(text, needle, exact, stop)
    for at in positions:
        if listed_end < 0:
            listed_end = listed_characters(top, width)
        if at >= listed_end:
            yield Hit(steps, at, next(positions, None) is not None)
            return
        if at < row_end:
            continue  # on the row of the last hit
        yield Hit(steps, at)
        if at >= line_end:
            start, line_end = top.rfind("\n", 0, at) + 1, top.find("\n", at)
            line_end = len(top) if line_end < 0 else line_end
            ends = row_ends(top[start:line_end], width)
        row_end = next((start + end for end in ends if start + end > at), line_end)


def _positions(text: str, needle: str, exact: bool, stop: Callable[[], bool]) -> Iterator[int]:
    """Yield the positions at which a needle begins in a text."""
    for start in range(0, len(text), _PIECE_CHARACTERS):
        if stop():
            return
        piece = text[start : start + _PIECE_CHARACTERS + len(needle) - 1]
        folded = piece if exact else piece.casefold()
        # casefold makes some letters two characters, so positions in `folded` are mapped back by these ends
        ends = None if len(folded) == len(piece) else list(accumulate(len(sign.casefold()) for sign in piece))
        position = folded.find(needle)
        while position >= 0:
            at = position if ends is None else bisect_right(ends, position)
            if at >= _PIECE_CHARACTERS:
                break
            yield start + at
            position = folded.find(needle, position + 1)


class _Prefilter:
    """Finds encoded values that cannot hold a needle, so that they need not be decoded."""

    def __init__(self, needle: str, exact: bool) -> None:
        self.exact = exact
        plain = needle.isascii() and needle.isprintable() and not any(sign in needle for sign in '"\\/')
        self.needle = needle.encode() if plain else b""

    def passes(self, raw: Raw) -> bool:
        """Return False if the encoded value cannot hold the needle."""
        data = bytes(raw) if self.needle and len(memoryview(raw)) <= SMALL_BYTES else b""
        if not data or not data.isascii() or b"\\u" in data:
            return True
        return self.needle in (data if self.exact else data.lower())


def _walk(value: Any, patterns: tuple[str, ...], prefilter: _Prefilter) -> Iterator[tuple[tuple[Step, ...], str, int]]:
    """Yield the steps and the text of each value inside a value.

    The text is empty for a box, a masked value, or a value that cannot match. The number is the most characters that
    are listed, for a text that opens into rows; else 0.
    """
    pending: list[Iterator[_Member]] = [iter([((), value, False)])]
    while pending:
        member = next(pending[-1], None)
        if member is None:
            pending.pop()
            continue
        steps, item, masked = member
        if masked or (isinstance(item, Raw) and not prefilter.passes(item)):
            yield steps, "", 0
            continue
        listed = TEXT_CHARACTERS
        if isinstance(item, Raw):
            start = text_start(item)
            listed = TEXT_CHARACTERS if start is None else len(start.start)
            item = decode_outer_level(item, len(steps))
        if isinstance(item, (dict, list)):
            yield steps, "", 0
            pending.append(_members(steps, item, patterns))
        else:
            yield steps, _text(item), listed if isinstance(item, str) and has_lines(item) else 0


def _members(steps: tuple[Step, ...], box: Any, patterns: tuple[str, ...]) -> Iterator[_Member]:
    if isinstance(box, dict):
        for name, item in box.items():
            yield (*steps, name), item, is_redacted(name, patterns, item)
    else:
        for index, item in enumerate(box):
            yield (*steps, index), item, False


def _text(value: Any) -> str:
    if isinstance(value, Broken):
        return ""
    if isinstance(value, Raw):
        return bytes(value).decode(errors="replace")
    return value if isinstance(value, str) else codec.encode(value).decode()
