"""Define the types that users see: entries, commits, checkpoints, changes, reports, and the names they may have."""

from __future__ import annotations

import time as _time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any, Final, Literal, NamedTuple, TypeGuard

from msgspec import Struct

from .errors import Hint, InvalidName, StateException, hint_text

NAMES_PER_LINE = 10  # names in one line of a report
_SIMILAR_RATIO = 0.6  # as difflib has it
_SIMILAR_CHARACTERS = 200  # the time of a comparison grows with the square of the length

MAX_KEY_BYTES = 1024
_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")  # compiling a pattern costs 1 ms
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Absent(Enum):
    """Be the type of `ABSENT`, which means "no value", since `None` is a value."""

    ABSENT = "ABSENT"

    def __repr__(self) -> str:
        return "ABSENT"

    def __bool__(self) -> bool:
        return False


ABSENT: Final = Absent.ABSENT


class SealedText(str):
    """Stand for a text that no key opens, as `(sealed)`. `error` tells why."""

    error: StateException

    def __new__(cls, error: StateException) -> SealedText:
        """Make the text that stands for all texts that this error is about."""
        text = super().__new__(cls, "(sealed)")
        text.error = error
        return text


def opened(text: str) -> str:
    """Return a text. Raise the error that tells why no key opens it, if it is a `SealedText`."""
    if isinstance(text, SealedText):
        raise type(text.error)(text.error.message, text.error.next_steps)  # each time anew: faces add to an error
    return text


class SealedValue(bytes):
    """Stand for a value that no key opens. It is empty; `size` counts the bytes of what is stored."""

    size: int

    def __new__(cls, size: int) -> SealedValue:
        """Make what stands for a value of this size."""
        value = super().__new__(cls)
        value.size = size
        return value

    def __repr__(self) -> str:
        return "(sealed)"


class Entry(Struct, frozen=True):
    """Hold a key's value with the revision that wrote it, the time, and the expiry (`None`: it never expires)."""

    key: str
    value: Any
    revision: int
    time: datetime
    expires: datetime | None = None

    @property
    def ttl(self) -> float | None:
        """Return the seconds left until the entry expires; `None` without an expiry."""
        return None if self.expires is None else max(0.0, (self.expires - datetime.now(UTC)).total_seconds())


class Commit(Struct, frozen=True):
    """Describe one atomic set of writes and deletes.

    `keys` counts the keys written or deleted. The last three fields serve undo and redo, and are 0 in an ordinary
    commit. `position` is the revision whose content this commit restored. `forward` is the revision that a redo would
    restore. `behind` is the commit that records the redo after that.
    """

    revision: int
    time: datetime
    reason: str = ""
    author: str = ""
    keys: int = 0
    position: int = 0
    forward: int = 0
    behind: int = 0


CheckpointKind = Literal["named", "auto", "safety"]


class Checkpoint(Struct, frozen=True):
    """Name a revision.

    `current` is false if the name has moved on since: `name@REVISION` still reads this state. `kind` tells who named
    the checkpoint: `"named"` a person, `"auto"` nobody, `"safety"` an act, before it changed the state.
    """

    name: str
    revision: int
    time: datetime
    note: str = ""
    current: bool = True
    kind: CheckpointKind = "named"

    @property
    def ref(self) -> str:
        """Return the ref that reads exactly this checkpoint."""
        return self.name if self.current else f"{self.name}@{self.revision}"


Kind = Literal["added", "removed", "changed"]


class PathChange(NamedTuple):
    """Describe a difference inside a value: a JSON Pointer (RFC 6901), the kind, and both sides."""

    path: str
    kind: Kind
    before: Any
    after: Any


def name_first(names: Iterable[str]) -> str:
    """Name the first `NAMES_PER_LINE` of some names, and count the rest."""
    listed = list(names)
    shown = ", ".join(listed[:NAMES_PER_LINE])
    return shown if len(listed) <= NAMES_PER_LINE else f"{shown}, and {len(listed) - NAMES_PER_LINE:,} more"


def did_you_mean(name: str, names: Iterable[str], quoted: bool = False) -> str:
    """Return the question whether one of the names most similar to a name was meant; "" if none is similar.

    O(names). Longer names than `_SIMILAR_CHARACTERS` are not compared.
    """
    folded: dict[str, list[str]] = {}
    for other in names:
        if len(other) <= _SIMILAR_CHARACTERS:
            folded.setdefault(other.casefold(), []).append(other)
    near = nearest(name.casefold(), folded) if len(name) <= _SIMILAR_CHARACTERS else []
    found = [repr(other) if quoted else other for fold in near for other in folded[fold]][:3]
    return f"Did you mean {' or '.join(found)}?" if found else ""


def nearest(name: str, others: Iterable[str], most: int = 3) -> list[str]:
    """Return the names most similar to a name, the best first. O(names).

    First are those with the same number, zeros before it apart, then those that start with the name. Then come those
    with a character more or less, best near the end, and last those that difflib finds similar.
    """
    import re
    from difflib import SequenceMatcher
    from heapq import nsmallest

    padding = re.compile(r"(?<!\d)0+(?=\d)")
    unpadded, matcher = padding.sub("", name), SequenceMatcher(b=name)

    def rank(other: str) -> tuple[int, float, str] | None:
        if padding.sub("", other) == unpadded:
            return 0, len(other), other
        if other.startswith(name):
            return 1, len(other), other
        short, long = sorted((name, other), key=len)
        if len(long) - len(short) == 1:
            same = next((at for at, sign in enumerate(short) if sign != long[at]), len(short))
            if short[same:] == long[same + 1 :]:
                return 2, len(short) - same, other
        matcher.set_seq1(other)
        ratio = min(matcher.real_quick_ratio(), matcher.quick_ratio())
        if ratio < _SIMILAR_RATIO or (ratio := matcher.ratio()) < _SIMILAR_RATIO:
            return None
        return 3, -ratio, other

    ranks = (found for other in others if (found := rank(other)) is not None)
    return [other for *_, other in nsmallest(most, ranks)]


class Problem(Struct, frozen=True):
    """One finding of `recover()`: its subject, the damage, and the repair or the loss.

    `mended` is false where something is lost, or a person must look. `code` names the kind of the finding for programs,
    and stays the same when the words change.
    """

    subject: str
    found: str
    done: str
    mended: bool = True
    code: str = ""


class RecoveryReport(Struct, frozen=True):
    """Report what `recover()` found and did. `ok` is true if all damage is repaired.

    `sealed` tells that the namespace is encrypted and no key opens it, so that its values were not checked.
    """

    namespace: str
    revision: int
    problems: tuple[Problem, ...] = ()
    kept: tuple[str, ...] = ()
    sealed: bool = False

    @property
    def ok(self) -> bool:
        """Return whether the namespace is sound now."""
        return all(problem.mended for problem in self.problems)


Severity = Literal["error", "warning", "note"]


class Finding(Struct, frozen=True):
    """Describe a finding of `doctor()`: the subject, what was found, what that means, and what to do about it.

    An `error` is damage, or data that could not be read. A `warning` is sound data at risk. A `note` is information.
    `code` names the kind of the finding for programs, and stays the same when the words change.
    """

    severity: Severity
    subject: str
    found: str
    meaning: str = ""
    next_step: Hint = ""
    code: str = ""

    @property
    def remedy(self) -> str:
        """Return what to do about the finding, as text."""
        return hint_text(self.next_step)


class DoctorReport(Struct, frozen=True):
    """Report what `doctor()` found. `ok` is true if no finding is an error.

    `format` is the format of the stored history. 1: superseded versions are whole. 2: they are packed, so that large
    ones may be deltas. 0: not known.
    """

    namespace: str
    revision: int
    findings: tuple[Finding, ...] = ()
    format: int = 0

    @property
    def ok(self) -> bool:
        """Return whether the namespace is sound."""
        return not any(finding.severity == "error" for finding in self.findings)


class ProgressMessage(str):
    """Tell the progress of a long act as text, with its numbers: `done` of `total`, 0 if not known."""

    __slots__ = ("done", "total")
    done: int
    total: int

    def __new__(cls, text: str, done: int = 0, total: int = 0) -> ProgressMessage:
        """Make a message of a text and the numbers in it."""
        message = super().__new__(cls, text)
        message.done, message.total = done, total
        return message

    @classmethod
    def of(cls, done: int, total: int, what: str, subject: str = "") -> ProgressMessage:
        """Make the message `SUBJECT: 1,000 of 5,000 WHAT`."""
        return cls(f"{subject}{': ' if subject else ''}{done:,} of {total:,} {what}", done, total)

    def about(self, subject: str) -> ProgressMessage:
        """Return the same message with a subject before it."""
        return ProgressMessage(f"{subject}: {self}", self.done, self.total)


def now() -> int:
    """Return microseconds since 1970, UTC: the clock of every stored time."""
    return _time.time_ns() // 1000


def to_datetime(micros: int) -> datetime:
    """Convert microseconds since 1970 to an aware UTC datetime; exact, unlike `fromtimestamp`."""
    return _EPOCH + timedelta(microseconds=micros)


def to_micros(moment: datetime) -> int:
    """Convert a datetime to microseconds; a naive time is UTC, as the older formats meant it."""
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - _EPOCH) // timedelta(microseconds=1)


def parse_time(text: str) -> int:
    """Convert ISO 8601 text to microseconds.

    Raises:
        ValueError: the text is not a time.

    """
    return to_micros(datetime.fromisoformat(text))


def format_time(micros: int) -> str:
    """Format microseconds as ISO 8601 with the zone, such as `2026-01-31T09:00:00.000001+00:00`."""
    return to_datetime(micros).isoformat()


def is_name(name: str) -> bool:
    """Return whether a namespace or checkpoint may have this name."""
    return 1 <= len(name) <= 128 and name[0] != "." and _NAME.issuperset(name)


def check_name(name: object, what: str) -> str:
    """Return `name` if a namespace or checkpoint may have it.

    Raises:
        InvalidName: the name is not allowed; the message says why.

    """
    if not isinstance(name, str):
        raise InvalidName(f"{what} name must be a string, not {type(name).__name__}")
    if not is_name(name):
        raise InvalidName(
            f"{what} name {name[:140]!r} is not allowed",
            "Use 1 to 128 of the letters a-z A-Z, digits, '.', '_' and '-', not starting with '.'",
        )
    return name


def check_checkpoint(name: object) -> str:
    """Return `name` if a checkpoint may have it: a name that is not a ref of its own.

    Raises:
        InvalidName: the name is not allowed.

    """
    text = check_name(name, "checkpoint")
    if text == "live" or text.isdigit():
        raise InvalidName(f"checkpoint name {text!r} is not allowed", "'live' and bare numbers are refs already")
    return text


def check_lock(name: object, what: str = "lock") -> str:
    """Return `name` if a lock, a run or a step may have it: any text that is not empty.

    Raises:
        InvalidName: it is no text.

    """
    if not isinstance(name, str):
        raise InvalidName(f"{what} name must be a string, not {type(name).__name__}")
    if not name:
        raise InvalidName(f"{what} name is empty")
    return name


def check_key(key: object) -> str:
    """Return `key` if it is a valid key.

    Raises:
        InvalidName: the key is not a string, is empty, holds NUL or a lone surrogate, or is over 1,024 bytes of UTF-8.

    """
    if not isinstance(key, str):
        raise InvalidName(f"a key must be a string, not {type(key).__name__}")
    if not key:
        raise InvalidName("a key must not be empty")
    if "\0" in key:
        raise InvalidName(f"key {key[:60]!r} holds a NUL character")
    try:
        size = len(key) if key.isascii() else len(key.encode())
    except UnicodeEncodeError:
        raise InvalidName(f"key {key[:60]!r} holds a lone surrogate, which is not Unicode text") from None
    if size > MAX_KEY_BYTES:
        raise InvalidName(f"key {key[:40]!r}… is {size:,} bytes of UTF-8", f"At most {MAX_KEY_BYTES:,} are allowed")
    return key


def is_key(key: object) -> TypeGuard[str]:
    """Return whether `key` is a valid key."""
    try:
        check_key(key)
    except InvalidName:
        return False
    return True
