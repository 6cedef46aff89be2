"""Read a namespace from JSON Lines, and check every line: an altered or incomplete file is an error with its place."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import IO, Any

import msgspec
from msgspec import UNSET, Struct, UnsetType

from ... import codec
from ...backends.protocol import CheckpointRecord, Head, Version
from ...errors import NOTHING_CHANGED, Damaged, Hint, StateException
from ...model import Commit, check_checkpoint, check_key, check_name, to_datetime
from .jsonl import (
    FIRST,
    FORMAT,
    LINES_PER_DIGEST,
    CheckpointLine,
    CommitLine,
    Counts,
    DigestLine,
    EndLine,
    Header,
    VersionLine,
    encode_line,
)

MAX_LINE_BYTES = codec.MAX_BYTES + 1_000_000  # the largest value, and all other fields of its line
_BYTES_PER_UPDATE = 10_000  # a line of more bytes is added to the digest at once
_COPY_AGAIN = "Export the namespace again, or copy the file again"

_KINDS: tuple[tuple[bytes, type[Struct]], ...] = (
    (b'{"commit":', CommitLine), (b'{"checkpoint":', CheckpointLine), (b'{"key":', VersionLine)
)  # fmt: skip

Record = Commit | CheckpointRecord | Version


class JsonlReader:
    """Read and check an export, line by line.

    Args:
        file: the export, open at its beginning.
        name: the file's name, for errors.
        floor: commits up to this revision may be missing, though the header has a lower floor.

    Raises:
        Damaged: the first line is not the header of an export.

    """

    def __init__(self, file: IO[bytes], name: str, floor: int = 0) -> None:
        self.name = name
        self._floor = floor
        self.counts = Counts()
        self.bytes = 0
        self._file = file
        self._number = 0  # of the line that was read last
        self._digest = sha256()
        self._pending: list[bytes] = []  # lines that are not yet in the digest
        line = self._next_line()
        if not line.startswith(FIRST):
            raise self._damaged("it is not the first line of an export", f"An export begins with {FIRST.decode()}")
        if (number := re.match(rb'\{"stateview":(\d+)[,}]', line)) and int(number[1]) > FORMAT:
            raise self._damaged(
                f"the file has format {number[1].decode()}, and this stateview reads formats up to {FORMAT}",
                "Upgrade stateview",
            )
        self.header: Header = self._parse(line, Header)
        self._check_name(lambda name: check_name(name, "namespace"), self.header.namespace)
        self._check_range(self.header.floor <= self.header.revision, "floor", self.header.floor)
        self._add_to_digest(line)

    @property
    def head(self) -> Head:
        """Return the head of the namespace in the file. Its keys are not counted."""
        header = self.header
        return Head(header.revision, header.time, 0, header.floor, header.lineage)

    def records(self) -> Iterator[Record]:
        """Yield the commits, the checkpoints and the versions, in the order of the file. Call it once.

        The records are proven only after the last one, because their digest follows them in the file.

        Raises:
            Damaged: a line is not what was written, with its number; or the end is missing.

        """
        counts = [0, 0, 0]
        section = 0
        last: Any = None  # the order of the last record in this section
        while True:
            line = self._next_line()
            kind = next((number for number, (start, _) in enumerate(_KINDS) if line.startswith(start)), -1)
            if kind < 0:
                if line.startswith(b'{"end":'):
                    break
                self._read_digest(line)
                continue
            if kind > 0 and section == 0:
                self._check_commits(counts[0])
            if kind != section:
                if kind < section:
                    raise self._damaged("the line is out of order: commits come first, then checkpoints, then versions")
                section, last = kind, None
            record, last = self._record(self._parse(line, _KINDS[kind][1]), last)
            counts[kind] += 1
            self._add_to_digest(line)
            yield record
        if section == 0:
            self._check_commits(counts[0])
        self._read_end(line, counts)

    def _record(self, line: Any, last: Any) -> tuple[Record, Any]:
        """Convert a parsed line; return its record, and what the next line of its kind must come after."""
        header = self.header
        if isinstance(line, CommitLine):
            in_order = line.commit < last if last else line.commit == header.revision
            self._check_range(in_order and line.commit > header.floor, "commit", line.commit)
            undo = (0, 0, 0) if isinstance(line.undo, UnsetType) else line.undo
            commit = Commit(line.commit, to_datetime(line.time), line.reason, line.author, line.keys, *undo)
            return commit, line.commit
        self._check_range(line.revision <= header.revision, "revision", line.revision)
        if isinstance(line, CheckpointLine):
            self._check_name(check_checkpoint, line.checkpoint)
            return CheckpointRecord(line.checkpoint, line.revision, line.time, line.note), None
        order = line.key, line.revision
        if last is None or last[0] != line.key:
            self._check_name(check_key, line.key)
        if last is not None and order <= last:
            raise self._damaged("the versions are not sorted by key and revision")
        if line.deleted != (line.value is UNSET):
            raise self._damaged('the version needs either a "value" or "deleted":true')
        value = None if line.deleted else self._value(line)
        return Version(line.key, value, line.revision, line.time, line.expires), order

    def _value(self, line: VersionLine) -> bytes:
        try:
            assert not isinstance(line.value, UnsetType)
            data = bytes(line.value)
            normal = codec.normal(data, f"the value of {line.key[:60]!r}")
            # A number can be written in several ways. A value without spaces keeps the way that it was stored in.
            return data if data == normal or data == codec.pretty(data, -1) else normal
        except Damaged as error:
            raise self._damaged(error.message) from error

    # --- lines ---------------------------------------------------------------------------------------------------

    def _next_line(self) -> bytes:
        """Return the next line, without its end."""
        self._number += 1
        try:
            line = self._file.readline(MAX_LINE_BYTES + 1)
        except EOFError as error:  # a compressed file is incomplete
            raise self._damaged(f"the file is cut off here: {error}") from error
        self.bytes += len(line)
        if line.endswith(b"\r\n"):
            raise self._damaged("the line ends with CRLF instead of LF", "Copy the file without converting line ends")
        if line.endswith(b"\n"):
            return line[:-1]
        if len(line) > MAX_LINE_BYTES:
            raise self._damaged(f"the line is longer than {MAX_LINE_BYTES:,} bytes, the limit of an export")
        if not line and self._number == 1:
            raise self._damaged("the file is empty")
        fault = "is missing" if not line else "has no end"
        raise self._damaged(f"the line {fault}: the file is cut off here", _COPY_AGAIN)

    def _parse(self, line: bytes, kind: type[Any]) -> Any:
        """Parse a line. Except inside a value, its bytes must be those that an export writes."""
        try:
            parsed = msgspec.json.decode(line, type=kind)
            if encode_line(parsed) == line:
                return parsed
        except (ValueError, RecursionError) as error:  # msgspec's errors and UnicodeDecodeError are ValueErrors
            text = str(error) or "nested too deep"
            if place := re.search(r" \(byte (\d+)\)$", text):
                text = f"{text[: place.start()]}, at column {int(place[1]) + 1}"
            raise self._damaged(text) from error
        raise self._damaged("the line is not as an export writes it: it has a field twice, another order, or spaces")

    def _add_to_digest(self, line: bytes) -> None:
        self._pending.append(line)
        if len(self._pending) >= LINES_PER_DIGEST or len(line) > _BYTES_PER_UPDATE:
            self._update_digest()

    def _update_digest(self) -> None:
        if self._pending:
            self._digest.update(b"\n".join(self._pending) + b"\n")
            self._pending.clear()

    def _read_digest(self, line: bytes) -> None:
        if not line.startswith(b'{"lines":'):
            raise self._damaged("it is no line of an export")
        parsed: DigestLine = self._parse(line, DigestLine)
        self._check_position(parsed.lines, self._number % LINES_PER_DIGEST == 1)
        self._check_digest(parsed.sha256)
        self._add_to_digest(line)

    def _read_end(self, line: bytes, counts: list[int]) -> None:
        parsed: EndLine = self._parse(line, EndLine)
        self.counts = Counts(*counts)
        self._check_position(parsed.end)
        self._check_digest(parsed.sha256)
        if [parsed.commits, parsed.checkpoints, parsed.versions] != counts:
            raise self._damaged("its counts differ from the lines before it")
        if self._file.read(1):
            self._number += 1
            raise self._damaged("the line comes after the end of the export")

    # --- checks --------------------------------------------------------------------------------------------------

    def _check_position(self, lines: int, fits: bool = True) -> None:
        if not fits or lines != self._number - 1:
            raise self._damaged(f"an export has this line after line {lines:,}: lines before it are missing or extra")

    def _check_digest(self, digest: str) -> None:
        self._update_digest()
        if self._digest.hexdigest() != digest:
            first = (self._number - 2) // LINES_PER_DIGEST * LINES_PER_DIGEST + 1
            last = self._number - 1
            raise Damaged(f"{self.name}, lines {first:,} to {last:,}: they are not what was written", _COPY_AGAIN)

    def _check_range(self, fits: bool, field: str, number: int) -> None:
        if not fits:
            raise self._damaged(f"{field} {number} is out of range")

    def _check_commits(self, commits: int) -> None:
        first, last = max(self.header.floor, self._floor) + 1, self.header.revision
        if (missing := last - first + 1 - commits) > 0:
            raise self._damaged(f"{missing:,} of the commits {first} to {last} are missing before this line")

    def _check_name(self, check: Callable[[str], object], name: str) -> None:
        try:
            check(name)
        except StateException as error:
            raise self._damaged(error.message) from error

    def _damaged(self, fault: str, hint: Hint = NOTHING_CHANGED) -> Damaged:
        return Damaged(f"{self.name}, line {self._number:,}: {fault}", hint)
