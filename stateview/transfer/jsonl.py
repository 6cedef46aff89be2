"""A namespace as JSON Lines: one stream of text that holds all of it, the same bytes from every backend.

The first line says what the namespace is; then come its commits, newest first, its checkpoints, in the order of their
making, its versions, by key and then revision, and a last line that counts them. After every thousand lines, and in
the last, stands a SHA-256 of all bytes before, so that what was cut off or altered is found, and about where.
References: references/formats.md.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from hashlib import sha256
from typing import IO, Any

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from .. import codec
from ..backends.protocol import CheckpointRecord, Head, StoredVersion, Version
from ..errors import NOTHING_CHANGED, Damaged, Hint, StateException
from ..model import Commit, check_checkpoint, check_key, check_name, to_datetime, to_micros

FORMAT = 1
LINES_PER_DIGEST = 1000  # lines, after which a digest stands
MAX_LINE = codec.MAX_BYTES + 1_000_000  # the largest value, and all that can stand beside it
FIRST = b'{"stateview":'

_LAST_TIME = 253_402_300_799_999_999  # the end of the year 9999
_LAST_REVISION = 10**15

Record = Commit | CheckpointRecord | Version


class Header(Struct, frozen=True, forbid_unknown_fields=True):
    """The first line: the format's number, and what was exported when the namespace stood where."""

    stateview: int
    namespace: str
    lineage: str
    revision: int
    floor: int
    time: int


class _Commit(Struct, omit_defaults=True, forbid_unknown_fields=True):
    commit: int
    time: int
    keys: int
    reason: str = ""
    author: str = ""
    undo: tuple[int, int, int] | UnsetType = UNSET


class _Checkpoint(Struct, omit_defaults=True, forbid_unknown_fields=True):
    checkpoint: str
    revision: int
    time: int
    note: str = ""


class _Version(Struct, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    key: str
    revision: int
    time: int
    expires: int = 0
    deleted: bool = False
    value: Raw | UnsetType = UNSET


class _Check(Struct, forbid_unknown_fields=True):
    lines: int
    sha256: str


class _End(Struct, forbid_unknown_fields=True):
    end: int
    commits: int
    checkpoints: int
    versions: int
    sha256: str


_KINDS: tuple[tuple[bytes, type[Struct]], ...] = (
    (b'{"commit":', _Commit), (b'{"checkpoint":', _Checkpoint), (b'{"key":', _Version)
)  # fmt: skip
_encode = msgspec.json.Encoder().encode


class Counts(Struct, frozen=True):
    """How much a file holds."""

    commits: int = 0
    checkpoints: int = 0
    versions: int = 0


def write(
    out: IO[bytes],
    header: Header,
    commits: Iterable[Commit],
    marks: Iterable[CheckpointRecord],
    versions: Iterable[Version],
) -> Counts:
    """Write a namespace: what can be seen of it from the header's floor on, or at a checkpoint. O(what is given).

    Args:
        out: where to.
        header: what the namespace is.
        commits: newest first. Those up to the floor are left out.
        marks: in the order of their making.
        versions: by key and then revision.

    """
    lines = _LineWriter(out)
    lines.add(header)
    counts = [0, 0, 0]
    for commit in commits:
        if commit.revision > header.floor:
            line = _Commit(commit.revision, to_micros(commit.time), commit.keys, commit.reason, commit.author)
            if any(undo := (commit.position, commit.forward, commit.behind)):
                line.undo = undo
            lines.add(line)
            counts[0] += 1
    revisions = []
    for mark in marks:
        revisions.append(mark.revision)
        lines.add(_Checkpoint(mark.name, mark.revision, mark.time, mark.note))
        counts[1] += 1
    for one in reachable(with_superseded_by(versions), header.floor, sorted(revisions)):
        value = UNSET if one.value is None else Raw(one.value)
        lines.add(_Version(one.key, one.revision, one.time, one.expires, one.value is None, value))
        counts[2] += 1
    lines.end(*counts)
    return Counts(*counts)


class _LineWriter:
    """Lines on their way to a file, with a digest of them in between."""

    def __init__(self, out: IO[bytes]) -> None:
        self._out = out
        self._some: list[bytes] = []
        self._size = 0
        self._count = 0
        self._digest = sha256()

    def add(self, line: Struct) -> None:
        data = _encode(line)
        self._some.append(data)
        self._size += len(data)
        self._count += 1
        if self._count % LINES_PER_DIGEST == 0:
            self._flush()
            self._some.append(_encode(_Check(self._count, self._digest.hexdigest())))
            self._count += 1
        elif self._size > codec.MAX_BYTES // 8:
            self._flush()

    def _flush(self) -> None:
        if self._some:
            block = b"\n".join(self._some) + b"\n"
            self._digest.update(block)
            self._out.write(block)
            self._some.clear()
            self._size = 0

    def end(self, commits: int, checkpoints: int, versions: int) -> None:
        self._flush()
        self._out.write(_encode(_End(self._count, commits, checkpoints, versions, self._digest.hexdigest())) + b"\n")


def with_superseded_by(versions: Iterable[Version]) -> Iterator[StoredVersion]:
    """Versions by key and then revision, each with the revision that superseded it: that of the key's next one."""
    before: Version | None = None
    for one in versions:
        if before is not None:
            yield _kept(before, one.revision if one.key == before.key else 0)
        before = one
    if before is not None:
        yield _kept(before, 0)


def _kept(one: Version, until: int) -> StoredVersion:
    return StoredVersion(one.key, one.value, one.revision, one.time, one.expires, until)


def reachable(versions: Iterable[StoredVersion], floor: int, marks: list[int]) -> Iterator[StoredVersion]:
    """Of versions by key those that a revision from `floor` on, or one of the sorted `marks`, can see.

    What a backend keeps beyond that until it next tidies up is no part of the namespace: it would depend on the
    backend. A delete that nobody can see anything before is none either.
    """
    given = ""  # the last key of which there was something
    for one in versions:
        current = not one.until or one.until > floor
        if not current:
            place = bisect_left(marks, one.revision)
            current = place < len(marks) and marks[place] < one.until
        if current and (one.value is not None or one.revision > floor or given == one.key):
            given = one.key
            yield one


class JsonlReader:
    """A file of JSON Lines, read and checked line by line.

    Args:
        file: what to read from, at its beginning.
        name: what to call it in errors.

    Raises:
        Damaged: as `records`.

    """

    def __init__(self, file: IO[bytes], name: str) -> None:
        self.name = name
        self.counts = Counts()
        self.bytes = 0
        self._file = file
        self._number = 0  # of the line that was read last
        self._sum = sha256()
        self._pending: list[bytes] = []  # read, and not yet in the sum
        line = self._line()
        if not line.startswith(FIRST):
            raise self._wrong("it does not begin as an export does", f"The first line begins with {FIRST.decode()}")
        if (number := re.match(rb'\{"stateview":(\d+)[,}]', line)) and int(number[1]) > FORMAT:
            raise self._wrong(
                f"it is of format {number[1].decode()}, this stateview knows {FORMAT}", "Upgrade stateview"
            )
        self.header = self._parse(line, Header)
        self._check_header(self.header)
        self._take(line)

    @property
    def head(self) -> Head:
        """Where the namespace stands that is in the file; the keys are not counted."""
        header = self.header
        return Head(header.revision, header.time, 0, header.floor, header.lineage)

    def records(self) -> Iterator[Record]:
        """Yield the commits, the checkpoints and the versions, in the order of the file. To be called once.

        What came is certain only when it has ended: the digest that proves it comes later in the file.

        Raises:
            Damaged: a line is not what was written, with its number; or the end is missing.

        """
        counts = [0, 0, 0]
        section = 0
        last: Any = None
        while True:
            line = self._line()
            kind = next((place for place, (start, _) in enumerate(_KINDS) if line.startswith(start)), -1)
            if kind < 0:
                if line.startswith(b'{"end":'):
                    break
                self._check(line)
                continue
            if kind > 0 and section == 0:
                self._check_commits(counts[0])
            if kind != section:
                if kind < section:
                    raise self._wrong("it is out of order: commits come first, then checkpoints, then keys")
                section, last = kind, None
            found, last = self._record(self._parse(line, _KINDS[kind][1]), last)
            counts[kind] += 1
            self._take(line)
            yield found
        if section == 0:
            self._check_commits(counts[0])
        self._end(line, counts)

    def _record(self, found: Any, last: Any) -> tuple[Record, Any]:
        """Return a line as what it stands for, and what the next one must come after."""
        header = self.header
        if isinstance(found, _Commit):
            self._bound(header.floor + 1 <= found.commit <= header.revision, "commit", found.commit)
            self._bound(found.commit < last if last else found.commit == header.revision, "commit", found.commit)
            self._times(found.time)
            undo = (0, 0, 0) if isinstance(found.undo, UnsetType) else found.undo
            for number in (found.keys, *undo):
                self._bound(0 <= number <= _LAST_REVISION, "number", number)
            made = Commit(found.commit, to_datetime(found.time), found.reason, found.author, found.keys, *undo)
            return made, found.commit
        self._times(found.time)
        if isinstance(found, _Checkpoint):
            self._bound(0 <= found.revision <= header.revision, "revision", found.revision)
            self._named(check_checkpoint, found.checkpoint)
            return CheckpointRecord(found.checkpoint, found.revision, found.time, found.note), None
        self._bound(1 <= found.revision <= header.revision, "revision", found.revision)
        self._times(found.expires)
        place = found.key, found.revision
        if last is None or last[0] != found.key:
            self._named(check_key, found.key)
        if last is not None and place <= last:
            raise self._wrong("its key comes after that of the line before, or is the same at no later revision")
        if found.deleted != (found.value is UNSET):
            raise self._wrong('it needs either a "value" or "deleted":true')
        value = None if found.deleted else self._value(found)
        return Version(found.key, value, found.revision, found.time, found.expires), place

    def _value(self, found: _Version) -> bytes:
        try:
            assert not isinstance(found.value, UnsetType)
            data = bytes(found.value)
            normal = codec.normal(data, f"the value of {found.key[:60]!r}")
            # Numbers can be written in more ways than one: what stands without spaces is as it was stored
            return data if data == normal or data == codec.pretty(data, -1) else normal
        except Damaged as error:
            raise self._wrong(error.message) from error

    # --- lines ---------------------------------------------------------------------------------------------------

    def _line(self) -> bytes:
        """Return the next line, without its end."""
        try:
            line = self._file.readline(MAX_LINE + 1)
        except EOFError as error:  # of what was compressed
            self._number += 1
            raise self._wrong(f"the file is cut off there: {error}") from error
        self._number += 1
        self.bytes += len(line)
        if line.endswith(b"\n"):
            if line.endswith(b"\r\n"):
                raise self._wrong(
                    "its end is CRLF, not as it was written", "Something changed the line ends on the way"
                )
            return line[:-1]
        if len(line) > MAX_LINE:
            raise self._wrong(f"it is longer than {MAX_LINE:,} bytes, which no line of an export is")
        if not line and self._number == 1:
            raise self._wrong("the file is empty")
        what = "is missing" if not line else "has no end"
        raise self._wrong(f"it {what}: the file is cut off there", "Export, or copy the file, once more")

    def _parse(self, line: bytes, kind: type[Any]) -> Any:
        """Return a line as one of ours: of just the bytes that an export writes, but for the inside of a value."""
        try:
            found = msgspec.json.decode(line, type=kind)
            if _encode(found) == line:
                return found
        except (ValueError, RecursionError) as error:  # msgspec's errors and UnicodeDecodeError are ValueErrors
            text = str(error) or "nested too deep"
            if place := re.search(r" \(byte (\d+)\)$", text):
                text = f"{text[: place.start()]}, at column {int(place[1]) + 1}"
            raise self._wrong(text) from error
        raise self._wrong("it is not as an export writes it: a field twice, in another order, or spaces")

    def _take(self, line: bytes) -> None:
        self._pending.append(line)
        if len(self._pending) >= LINES_PER_DIGEST or len(line) > 10_000:
            self._count_in()

    def _count_in(self) -> None:
        if self._pending:
            self._sum.update(b"\n".join(self._pending) + b"\n")
            self._pending.clear()

    def _check(self, line: bytes) -> None:
        if not line.startswith(b'{"lines":'):
            raise self._wrong("it begins as no line of an export does")
        found = self._parse(line, _Check)
        if self._number % LINES_PER_DIGEST != 1 or found.lines != self._number - 1:
            raise self._wrong(
                f"it stands after line {found.lines:,} of an export: lines are missing before it, or too many"
            )
        self._prove(found.sha256)
        self._take(line)

    def _prove(self, digest: str) -> None:
        self._count_in()
        if self._sum.hexdigest() != digest:
            first = (self._number - 2) // LINES_PER_DIGEST * LINES_PER_DIGEST + 1
            self._number -= 1
            hint = "Export, or copy the file, once more"
            raise Damaged(f"{self.name}, lines {first:,} to {self._number:,}: they are not what was written", hint)

    def _end(self, line: bytes, counts: list[int]) -> None:
        found = self._parse(line, _End)
        self.counts = Counts(*counts)
        if found.end != self._number - 1:
            raise self._wrong(
                f"it stands after line {found.end:,} of an export: lines are missing before it, or too many"
            )
        self._prove(found.sha256)
        if [found.commits, found.checkpoints, found.versions] != counts:
            raise self._wrong("it counts other lines than there are")
        if self._file.read(1):
            self._number += 1
            raise self._wrong("it comes after the end of the export")

    # --- what may stand there ------------------------------------------------------------------------------------

    def _check_header(self, header: Header) -> None:
        self._named(lambda name: check_name(name, "namespace"), header.namespace)
        if not re.fullmatch("[0-9a-f]{1,64}", header.lineage):
            raise self._wrong("its lineage is none")
        self._bound(0 <= header.revision <= _LAST_REVISION, "revision", header.revision)
        self._bound(0 <= header.floor <= header.revision, "floor", header.floor)
        self._times(header.time)

    def _bound(self, fits: bool, what: str, number: int) -> None:
        if not fits:
            raise self._wrong(f"{what} {number} cannot stand there")

    def _check_commits(self, commits: int) -> None:
        first, last = self.header.floor + 1, self.header.revision
        if missing := last - first + 1 - commits:
            raise self._wrong(f"before it {missing:,} of the commits {first} to {last} are missing")

    def _times(self, time: int) -> None:
        self._bound(0 <= time <= _LAST_TIME, "time", time)

    def _named(self, check: Any, name: str) -> None:
        try:
            check(name)
        except StateException as error:
            raise self._wrong(error.message) from error

    def _wrong(self, why: str, hint: Hint = NOTHING_CHANGED) -> Damaged:
        return Damaged(f"{self.name}, line {self._number:,}: {why}", hint)
