"""Short excerpts of changed values. All are bounded, and masked values are hidden."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from ... import codec
from ...model import ABSENT, PathChange
from ...states.changes import Change
from ...states.values.json_diff import differences
from ...states.values.pointers import split_pointer
from ..display.redaction import MASK
from ..display.text import SIGNS
from .diff_spans import common_prefix

SUMMARY_CHARACTERS = 60  # characters of each value in a summary
_NEAR_CHARACTERS = 40  # characters of each of two long texts in a summary
_MAX_PLACES = 100  # places that a summary counts
_MAX_BITS = 200_000  # of an integer that is written out

Hidden = Callable[..., bool]  # whether the value of a name is masked: takes the name, and its versions if known


def summary(change: Change, hidden: Hidden) -> str:
    """Return a change in a few words, for a row of a list. O(size of the values)."""
    if hidden(change.key, change.before, change.after):
        return MASK
    if change.kind != "changed":
        return brief(change.after if change.kind == "added" else change.before, SUMMARY_CHARACTERS, hidden)
    places = list(islice(differences(change.before, change.after), _MAX_PLACES))
    if len(places) > 1:
        return f"{len(places)}{'+' if len(places) == _MAX_PLACES else ''} places"
    place = _near_difference(places[0])
    old, new = both_sides(place, SUMMARY_CHARACTERS, hidden)
    if place.kind == "changed":
        return f"{place.path} {old} → {new}".strip()
    return f"{SIGNS[place.kind]} {place.path} {new if place.kind == 'added' else old}"


def _near_difference(place: PathChange) -> PathChange:
    """Cut two long texts to the part around their first difference, so that they do not look equal."""
    before, after = place.before, place.after
    if not (isinstance(before, str) and isinstance(after, str)) or max(len(before), len(after)) <= _NEAR_CHARACTERS:
        return place
    start = max(0, common_prefix(before, after) - _NEAR_CHARACTERS // 4)
    end = start + _NEAR_CHARACTERS
    return place._replace(before=before[start:end], after=after[start:end])


def both_sides(place: PathChange, bound: int, hidden: Hidden) -> tuple[str, str]:
    """Return the excerpts of the values before and after."""
    *boxes, name = split_pointer(place.path) or ("",)
    if any(map(hidden, boxes)) or hidden(name, place.before, place.after):
        return MASK, MASK
    return brief(place.before, bound, hidden), brief(place.after, bound, hidden)


def brief(value: Any, bound: int, hidden: Hidden) -> str:
    """Return the first `bound` characters of a value as JSON, with the value's size if it is longer. O(bound)."""
    parts: list[str] = []
    room = bound
    for piece in _pieces(value, bound, hidden):
        parts.append(piece)
        room -= len(piece)
        if room < 0:
            text = "".join(parts)[:bound]
            if isinstance(value, str):
                return f"{text}… ({len(value):,} characters)"
            return f"{text}… ({len(value):,} items)" if isinstance(value, (dict, list)) else text + "…"
    return "".join(parts)


def _pieces(value: Any, bound: int, hidden: Hidden) -> Iterator[str]:
    if isinstance(value, str):
        yield codec.encode(value[: bound + 1]).decode()[: bound + 2]
    elif isinstance(value, dict):
        for number, (name, item) in enumerate(value.items()):
            yield ("," if number else "{") + codec.encode(name[: bound + 1]).decode() + ":"
            if hidden(name, item):
                yield MASK
            else:
                yield from _pieces(item, bound, hidden)
        yield "}" if value else "{}"
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield "," if number else "["
            yield from _pieces(item, bound, hidden)
        yield "]" if value else "[]"
    elif type(value) is int and value.bit_length() > _MAX_BITS:
        yield f"(an integer of {value.bit_length():,} bits)"
    elif value is ABSENT:
        yield "(no value)"
    else:
        yield codec.encode(value).decode()
