"""Parse refs, and the times in them. Every face parses both here; references/refs.md describes the grammar. No I/O."""

from __future__ import annotations

from datetime import datetime, timedelta

from msgspec import Struct

from .errors import InvalidName
from .model import check_name, to_datetime, to_micros

TIMES = "2h (ago), 30m, yesterday, 2026-11-28 or 2026-11-28T10:00"  # examples, as errors and help texts show them
DAYS = {"today": 0, "yesterday": 1}  # days before the present one; each means its beginning

_UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}
_SECOND_MICROSECONDS = 1_000_000
_BACK = r"(?:~(?P<back>\d{1,18}))?"
_REF = rf"(?a)(?:@(?P<time>[^~]+)|(?P<base>[\w.-]+)(?:@(?P<revision>\d{{1,18}}))?){_BACK}"
_HINT = (
    "Give a checkpoint's name, NAME@REVISION, a revision number, 'live', 'live~3', or a time such as '@2h' or "
    "'@2026-11-28T10:00'"
)


class ParsedRef(Struct, frozen=True):
    """Hold a parsed ref: a checkpoint's `name`, a `revision` or a `time` (live: none of them), and steps `back`.

    `time` is the text after the `@`, as `parse_moment` takes it.
    """

    name: str | None
    revision: int | None
    back: int
    time: str = ""

    @property
    def is_live(self) -> bool:
        """Return whether it counts from live: `live`, or `live~3`."""
        return self.name is None and self.revision is None and not self.time


def parse_ref(ref: object) -> ParsedRef:
    """Parse `live`, `live~3`, `NAME`, `NAME@REVISION`, a revision number, or a time such as `@2h`.

    Raises:
        InvalidName: it is not a ref.

    """
    if isinstance(ref, int) and not isinstance(ref, bool) and ref >= 0:
        return ParsedRef(None, ref, 0)
    import re  # imported here: a plain load needs no pattern

    match = re.fullmatch(_REF, ref) if isinstance(ref, str) else None
    if match is None:
        raise InvalidName(f"{ref!r} is not a ref", _HINT)
    base, revision, back, time = match["base"], match["revision"], int(match["back"] or 0), match["time"]
    if time is not None:
        _check_time(time)
        return ParsedRef(None, None, back, time)
    if base == "live" or base.isdigit():
        if revision is not None:
            raise InvalidName(f"{ref!r} is not a ref", "Only a checkpoint's name takes '@REVISION'")
        return ParsedRef(None, None if base == "live" else int(base[:19]), back)
    return ParsedRef(check_name(base, "checkpoint"), int(revision) if revision else None, back)


def _check_time(text: str) -> None:
    try:
        parse_moment(text, 0)
    except ValueError:
        times = f"Give such as {', '.join(f'@{example}' for example in TIMES.replace(' or', ',').split(', '))}"
        hint = f"A revision is written without '@': {text[:20]}" if text.isdecimal() else times
        raise InvalidName(f"{'@' + text[:60]!r} is not a time", hint) from None


def parse_moment(text: str, now: int) -> int:
    """Convert a time, without its `@`, to microseconds: an age, `today`, `yesterday`, a date, or a date and a time.

    A date means its beginning. A time without an offset or `Z` is local.

    Args:
        text: the time.
        now: the present time of the clock by which ages are measured, in microseconds.

    Raises:
        ValueError: it is not a time.

    """
    if text in DAYS:
        day = to_datetime(now).astimezone().date() - timedelta(days=DAYS[text])
        return local_micros(datetime(day.year, day.month, day.day))
    if text[:1].isdigit() and text[-1:] in "smhdwn":
        return now - parse_age(text)
    return local_micros(datetime.fromisoformat(text))


def local_micros(moment: datetime) -> int:
    """Convert a datetime to microseconds; a naive one is local.

    Raises:
        ValueError: it is too close to the first or the last year to have an offset.

    """
    try:
        return to_micros(moment.astimezone())
    except (OverflowError, OSError) as error:
        raise ValueError(f"{moment} is out of range") from error


def parse_age(age: str | float | timedelta) -> int:
    """Convert an age to microseconds: `30d`, `12h`, `90min`, `90m`, `45s`, `2w`; a number of seconds; a timedelta.

    Raises:
        ValueError: it is not an age, or is below zero.

    """
    import re

    if isinstance(age, str):
        match = re.fullmatch(r"(\d{1,12}(?:\.\d{1,6})?) ?(s|min|m|h|d|w)", age, re.ASCII)
        if match is None:
            raise ValueError(f"{age[:40]!r} is not an age: give a number and one of {', '.join(_UNITS)}, such as 30d")
        return round(float(match[1]) * _UNITS[match[2]] * _SECOND_MICROSECONDS)
    seconds = age.total_seconds() if isinstance(age, timedelta) else age
    if isinstance(age, bool) or not isinstance(seconds, (int, float)) or not 0 <= seconds <= 1e12:
        raise ValueError(f"{age!r} is not an age: give such as '30d', seconds, or a timedelta")
    return round(seconds * _SECOND_MICROSECONDS)
