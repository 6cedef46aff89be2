"""What the product talks about: entries, commits, checkpoints, changes, and the names they may have."""

from __future__ import annotations

import time as _time
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any, Final, Literal, NamedTuple, TypeGuard

from msgspec import Struct

from .errors import Hint, InvalidName, hint_text

MAX_KEY_BYTES = 1024
_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")  # compiling a pattern costs 1 ms
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Absent(Enum):
    """The type of `ABSENT`. Stands for "no value", since `None` is a value."""

    ABSENT = "ABSENT"

    def __repr__(self) -> str:
        return "ABSENT"

    def __bool__(self) -> bool:
        return False


ABSENT: Final = Absent.ABSENT


class Entry(Struct, frozen=True):
    """A key's value with the revision that wrote it, when, and when it goes (`None`: it stays)."""

    key: str
    value: Any
    revision: int
    time: datetime
    expires: datetime | None = None

    @property
    def ttl(self) -> float | None:
        """Seconds left until the entry expires; `None` without an expiry."""
        return None if self.expires is None else max(0.0, (self.expires - datetime.now(UTC)).total_seconds())


class Commit(Struct, frozen=True):
    """One atomic set of writes and deletes.

    `keys` counts the keys it wrote or deleted. The three last fields are there for undo and redo: `position` is the
    revision whose content this commit brought back, `forward` the one that a redo would bring back, and `behind` the
    commit that tells what a redo after that would do. All are 0 in an ordinary commit.
    """

    revision: int
    time: datetime
    reason: str = ""
    author: str = ""
    keys: int = 0
    position: int = 0
    forward: int = 0
    behind: int = 0


CheckpointKind = Literal["named", "auto", "safety"]  # by a person; without a name; by an act, of the state before it


class Checkpoint(Struct, frozen=True):
    """A name for a revision. `current` is false where the name has since moved on: `name@REVISION` still reads it.

    `kind` tells who named it: `"named"` a person, `"auto"` nobody, `"safety"` an act, before it changed the state.
    """

    name: str
    revision: int
    time: datetime
    note: str = ""
    current: bool = True
    kind: CheckpointKind = "named"

    @property
    def ref(self) -> str:
        """What `at=` takes to read exactly this one."""
        return self.name if self.current else f"{self.name}@{self.revision}"


Kind = Literal["added", "removed", "changed"]


class PathChange(NamedTuple):
    """One difference inside a value: where (a JSON Pointer, RFC 6901), what kind, and both sides."""

    path: str
    kind: Kind
    before: Any
    after: Any


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
    """What `recover()` found. `ok` is true when nothing is left that could not be mended."""

    namespace: str
    revision: int
    problems: tuple[Problem, ...] = ()
    kept: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the namespace is sound now."""
        return all(problem.mended for problem in self.problems)


Severity = Literal["error", "warning", "note"]


class Finding(Struct, frozen=True):
    """One finding of `doctor()`: what it is about, what was found, what that means, and what to do about it.

    An `error` is damage, or something that could not be read: what is stored may be wrong, or missing. A `warning`
    is sound as it is and may lose state some day; a `note` is good to know. `code` names the kind of the finding for
    programs, and stays the same when the words change.
    """

    severity: Severity
    subject: str
    found: str
    meaning: str = ""
    next_step: Hint = ""
    code: str = ""

    @property
    def remedy(self) -> str:
        """What to do about it, as text."""
        return hint_text(self.next_step)


class DoctorReport(Struct, frozen=True):
    """What `doctor()` found. `ok` is true where no finding is an error."""

    namespace: str
    revision: int
    findings: tuple[Finding, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the namespace is sound."""
        return not any(finding.severity == "error" for finding in self.findings)


class ProgressMessage(str):
    """How far a long act is, as text for a person, with the numbers in it: `done` of `total`, 0 where not known."""

    __slots__ = ("done", "total")
    done: int
    total: int

    def __new__(cls, text: str, done: int = 0, total: int = 0) -> ProgressMessage:
        """The text, and the numbers in it."""
        message = super().__new__(cls, text)
        message.done, message.total = done, total
        return message

    @classmethod
    def of(cls, done: int, total: int, what: str, subject: str = "") -> ProgressMessage:
        """`SUBJECT: 1,000 of 5,000 WHAT`."""
        return cls(f"{subject}{': ' if subject else ''}{done:,} of {total:,} {what}", done, total)

    def about(self, subject: str) -> ProgressMessage:
        """The same with what it is about before it."""
        return ProgressMessage(f"{subject}: {self}", self.done, self.total)


def now() -> int:
    """Microseconds since 1970, UTC: the clock of every stored time."""
    return _time.time_ns() // 1000


def to_datetime(micros: int) -> datetime:
    """Microseconds since 1970 as an aware UTC datetime; exact, unlike `fromtimestamp`."""
    return _EPOCH + timedelta(microseconds=micros)


def to_micros(moment: datetime) -> int:
    """Reverse of `to_datetime`; a naive time is taken as UTC, as the older formats meant it."""
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - _EPOCH) // timedelta(microseconds=1)


def parse_time(text: str) -> int:
    """ISO 8601 text as microseconds.

    Raises:
        ValueError: not a time.

    """
    return to_micros(datetime.fromisoformat(text))


def format_time(micros: int) -> str:
    """Microseconds as ISO 8601 with its zone, such as `2026-01-31T09:00:00.000001+00:00`."""
    return to_datetime(micros).isoformat()


def is_name(name: str) -> bool:
    """Whether a namespace or checkpoint may have this name."""
    return 1 <= len(name) <= 128 and name[0] != "." and _NAME.issuperset(name)


def check_name(name: object, what: str) -> str:
    """Return `name` if a namespace or checkpoint may have it.

    Raises:
        InvalidName: it may not; the message says why.

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
    """As `check_name`, and not something that a ref already means.

    Raises:
        InvalidName: it may not be a checkpoint's name.

    """
    text = check_name(name, "checkpoint")
    if text == "live" or text.isdigit():
        raise InvalidName(f"checkpoint name {text!r} is not allowed", "'live' and bare numbers are refs already")
    return text


def check_key(key: object) -> str:
    """Return `key` if it may be one.

    Raises:
        InvalidName: not a string, empty, holds NUL or a lone surrogate, or over 1,024 bytes of UTF-8.

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
    """Whether `key` may be one."""
    try:
        check_key(key)
    except InvalidName:
        return False
    return True


class ParsedRef(NamedTuple):
    """A parsed ref: a checkpoint's `name`, or `None` for live and plain numbers; a `revision`; steps `back`."""

    name: str | None
    revision: int | None
    back: int


_REF = r"(?a)(?P<base>[\w.-]+)(?:@(?P<revision>\d{1,18}))?(?:~(?P<back>\d{1,18}))?"


def parse_ref(ref: object) -> ParsedRef:
    """`live`, `live~3`, `NAME`, `NAME@REVISION` or a revision number.

    Raises:
        InvalidName: it is none of these.

    """
    if isinstance(ref, int) and not isinstance(ref, bool) and ref >= 0:
        return ParsedRef(None, ref, 0)
    import re  # here, since a plain load needs no pattern

    match = re.fullmatch(_REF, ref) if isinstance(ref, str) else None
    if match is None:
        raise InvalidName(
            f"{ref!r} is not a ref", "Give a checkpoint's name, NAME@REVISION, a revision number, 'live' or 'live~3'"
        )
    base, revision, back = match["base"], match["revision"], int(match["back"] or 0)
    if base == "live" or base.isdigit():
        if revision is not None:
            raise InvalidName(f"{ref!r} is not a ref", "Only a checkpoint's name takes '@REVISION'")
        return ParsedRef(None, None if base == "live" else int(base[:19]), back)
    return ParsedRef(check_name(base, "checkpoint"), int(revision) if revision else None, back)
