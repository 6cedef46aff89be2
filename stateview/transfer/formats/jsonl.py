"""Write a namespace as JSON Lines: one stream of text that holds all of it, with the same bytes from every backend.

The first line describes the namespace. Then come its commits, newest first; its checkpoints, oldest first; and its
versions, by key and then revision. The last line counts them. A SHA-256 of all bytes before it follows every thousand
lines, and stands in the last line. A reader so finds damage, and roughly where. See references/formats.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import sha256
from typing import IO, Annotated

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from ... import codec
from ...backends.protocol import CheckpointRecord, StoredVersion, Version
from ...maintenance.history import any_within, with_superseded_by
from ...model import Commit, opened, to_micros

FORMAT = 1
LINES_PER_DIGEST = 1000
FIRST = b'{"stateview":'

_LAST_TIME = 253_402_300_799_999_999  # the end of the year 9999
_LAST_REVISION = 10**15

Number = Annotated[int, Meta(ge=0, le=_LAST_REVISION)]
Revision = Annotated[int, Meta(ge=1, le=_LAST_REVISION)]
Time = Annotated[int, Meta(ge=0, le=_LAST_TIME)]
Lineage = Annotated[str, Meta(pattern=r"\A[0-9a-f]{1,64}\Z")]


class Header(Struct, frozen=True, forbid_unknown_fields=True):
    """Describe the exported namespace in the first line: the format's number, and where the namespace stood."""

    stateview: int
    namespace: str
    lineage: Lineage
    revision: Number
    floor: Number
    time: Time


class CommitLine(Struct, omit_defaults=True, forbid_unknown_fields=True):
    """Hold a commit. `undo` has its position, forward and behind, unless all are 0."""

    commit: Revision
    time: Time
    keys: Number
    reason: str = ""
    author: str = ""
    undo: tuple[Number, Number, Number] | UnsetType = UNSET


class CheckpointLine(Struct, omit_defaults=True, forbid_unknown_fields=True):
    """Hold a checkpoint."""

    checkpoint: str
    revision: Number
    time: Time
    note: str = ""


class VersionLine(Struct, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """Hold a version: its value, or `deleted`."""

    key: str
    revision: Revision
    time: Time
    expires: Time = 0
    deleted: bool = False
    value: Raw | UnsetType = UNSET


class DigestLine(Struct, forbid_unknown_fields=True):
    """Hold the number of lines before this line, and their digest."""

    lines: int
    sha256: str


class EndLine(Struct, forbid_unknown_fields=True):
    """Hold the number of lines before this line, by kind and in all, and their digest."""

    end: int
    commits: int
    checkpoints: int
    versions: int
    sha256: str


encode_line = msgspec.json.Encoder().encode


class Counts(Struct, frozen=True):
    """Count the commits, checkpoints and versions in a file."""

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
    """Write what a revision from the header's floor on, or a checkpoint, shows of a namespace. O(arguments).

    Args:
        out: a file, open for writing bytes.
        header: the first line.
        commits: newest first. Commits up to the floor are left out.
        marks: oldest first.
        versions: sorted by key, then revision.

    """
    lines = _LineWriter(out)
    lines.add(header)
    counts = [0, 0, 0]
    for commit in commits:
        if commit.revision > header.floor:
            texts = opened(commit.reason), opened(commit.author)
            line = CommitLine(commit.revision, to_micros(commit.time), commit.keys, *texts)
            if any(undo := (commit.position, commit.forward, commit.behind)):
                line.undo = undo
            lines.add(line)
            counts[0] += 1
    revisions = []
    for mark in marks:
        revisions.append(mark.revision)
        lines.add(CheckpointLine(mark.name, mark.revision, mark.time, opened(mark.note)))
        counts[1] += 1
    for version in reachable(with_superseded_by(versions), header.floor, sorted(revisions)):
        deleted = version.value is None
        value = UNSET if version.value is None else Raw(version.value)
        lines.add(VersionLine(version.key, version.revision, version.time, version.expires, deleted, value))
        counts[2] += 1
    lines.end(*counts)
    return Counts(*counts)


class _LineWriter:
    """Write lines to a file in blocks, with digests between them."""

    def __init__(self, out: IO[bytes]) -> None:
        self._out = out
        self._lines: list[bytes] = []  # not yet written
        self._size = 0  # bytes of these lines
        self._count = 0
        self._digest = sha256()

    def add(self, line: Struct) -> None:
        data = encode_line(line)
        self._lines.append(data)
        self._size += len(data)
        self._count += 1
        if self._count % LINES_PER_DIGEST == 0:
            self._flush()
            self._lines.append(encode_line(DigestLine(self._count, self._digest.hexdigest())))
            self._count += 1
        elif self._size > codec.MAX_BYTES // 8:
            self._flush()

    def _flush(self) -> None:
        if self._lines:
            block = b"\n".join(self._lines) + b"\n"
            self._digest.update(block)
            self._out.write(block)
            self._lines.clear()
            self._size = 0

    def end(self, commits: int, checkpoints: int, versions: int) -> None:
        self._flush()
        line = EndLine(self._count, commits, checkpoints, versions, self._digest.hexdigest())
        self._out.write(encode_line(line) + b"\n")


def reachable(versions: Iterable[StoredVersion], floor: int, marks: list[int]) -> Iterator[StoredVersion]:
    """Yield the versions that a revision from `floor` on, or one of the sorted revisions `marks`, shows.

    A backend may keep unreachable versions until its next `compact`. An export leaves them out, so that its bytes do
    not depend on the backend. It also leaves out a delete with no reachable version of its key before it.

    Args:
        versions: sorted by key, then revision.
        floor: the lowest revision from which on all states are exported.
        marks: the revisions of the checkpoints, sorted.

    """
    key = ""  # the key of the last version that was yielded
    for version in versions:
        if version.until and version.until <= floor and not any_within(marks, version.revision, version.until):
            continue
        if version.value is not None or version.revision > floor or version.key == key:
            key = version.key
            yield version
