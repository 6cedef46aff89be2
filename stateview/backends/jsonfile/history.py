"""The history of a JSON namespace: `history.jsonl`, one checksummed line a commit, from which all can be rebuilt.

The first line is a header, then come the versions that were kept without their commits, and the commits, by revision.
A line is a JSON object whose first member `sum` is the BLAKE2b digest of the rest of the line. An unfinished last line
is a commit that was never acknowledged. A commit counts from the moment that its line is whole.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from typing import Any

try:
    from _blake2 import blake2b  # without OpenSSL, which all of hashlib loads
except ImportError:
    from hashlib import blake2b

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from ...errors import Damaged, run
from ...model import Commit, now, to_datetime
from ..protocol import CheckpointRecord, StateAt, Version

_OPEN = b'{"sum":"'
_CHECKSUM_DIGITS = 16  # hexadecimal digits
_START = len(_OPEN) + _CHECKSUM_DIGITS + 2  # where the rest of a line begins


class Header(Struct, omit_defaults=True):
    """The first line."""

    format: int
    lineage: str
    floor: int = 0
    made: int = 0  # when this file was begun: tells it from the one that it replaced


class BaseVersion(Struct, omit_defaults=True):
    """A version kept from before the floor, without its commit. `value` is absent for a delete."""

    key: str
    revision: int
    time: int
    expires: int = 0
    value: Raw | UnsetType = UNSET


class ValueRecord(Struct, omit_defaults=True):
    """A value that a commit wrote; `time` where it is not the commit's."""

    value: Raw
    expires: int = 0
    time: int = 0


class CheckpointEntry(Struct, omit_defaults=True):
    """A checkpoint; `digest` is that of its file."""

    name: str
    revision: int
    time: int
    note: str = ""
    digest: str = ""
    kind: str = ""

    def stored(self) -> CheckpointRecord:
        """Return the checkpoint without the digest of its file."""
        return CheckpointRecord(self.name, self.revision, self.time, self.note, self.kind)


def checkpoint_entry(mark: CheckpointRecord, digest: str = "") -> CheckpointEntry:
    """Return a checkpoint as a line of the history tells it."""
    return CheckpointEntry(mark.name, mark.revision, mark.time, mark.note, digest, mark.kind)


class CommitRecord(Struct, omit_defaults=True):
    """A commit. `digest` and `mtime` are those of state.json after it, `before` its digest before."""

    rev: int
    time: int
    digest: str
    before: str = ""
    mtime: int = 0
    count: int = 0
    floor: int = 0
    lineage: str = ""
    reason: str = ""
    author: str = ""
    keys: int = 0
    undo: tuple[int, int, int] = (0, 0, 0)
    set: dict[str, ValueRecord] = {}
    delete: list[str] = []
    marks: list[CheckpointEntry] = []
    unmarks: list[tuple[str, int]] = []

    def writes(self) -> bool:
        """Whether it made a revision, rather than a checkpoint only."""
        return bool(self.set or self.delete)


def digest(data: bytes) -> str:
    """Return the digest that history keeps of a file."""
    return blake2b(data, digest_size=16).hexdigest()


def add_checksum(record: Struct) -> bytes:
    """Return a record as a line with its checksum."""
    rest = msgspec.json.encode(record)[1:]
    return _OPEN + blake2b(rest, digest_size=_CHECKSUM_DIGITS // 2).hexdigest().encode() + b'",' + rest + b"\n"


def check_checksum(line: bytes) -> bytes | None:
    """Return the JSON of a sealed line (without its newline), or None if the checksum is wrong."""
    rest = line[_START:]
    if line[: len(_OPEN)] != _OPEN or line[_START - 2 : _START] != b'",':
        return None
    if (
        blake2b(rest, digest_size=_CHECKSUM_DIGITS // 2).hexdigest().encode()
        != line[len(_OPEN) : len(_OPEN) + _CHECKSUM_DIGITS]
    ):
        return None
    return b"{" + rest


def last_line(path: str) -> tuple[CommitRecord | None, int, int]:
    """Return the last whole commit of a history file, where its line ends, and the file's size. O(size of that line).

    The line is None where the file holds no commit yet.

    Raises:
        FileNotFoundError: there is no file.
        Damaged: the last whole line is not what was written.

    """
    with open(path, "rb", buffering=0) as file:
        size = end = file.seek(0, os.SEEK_END)
        tail = b""
        while True:
            step = min(end, max(8192, len(tail)))
            file.seek(end - step)
            tail = file.read(step) + tail
            end -= step
            stop = tail.rfind(b"\n")
            start = tail.rfind(b"\n", 0, stop) if stop > 0 else -1
            if start >= 0 or end == 0:
                break
    if check_checksum(tail[stop + 1 : -1]) is not None:
        raise Damaged(f"{path}: the end of the last line is not what was written", run("recover"))
    if stop < 0:  # nothing, or the first line of a first commit that was never acknowledged
        return None, 0, size
    data = check_checksum(tail[start + 1 : stop])
    if data is None:
        raise Damaged(f"{path}: the last line is not what was written", run("recover"))
    whole = end + stop + 1
    line = msgspec.json.decode(data, type=CommitRecord) if data.startswith(b'{"rev"') else None
    if line is not None and not line.digest:  # of a file that was written anew: one more came after it, with the marks
        raise Damaged(f"{path}: the last line is missing", run("recover"))
    return line, whole, size


class History:
    """All that a history file holds, in memory. `end` is where its last whole line ends."""

    def __init__(self, lineage: str = "") -> None:
        self.lineage = lineage
        self.floor = 0
        self.revision = 0
        self.versions: dict[str, list[Version]] = {}
        self.commits: list[Commit] = []
        self.marks: list[CheckpointRecord] = []
        self.digests: dict[tuple[str, int], str] = {}
        self.last: CommitRecord | None = None
        self.end = 0
        self.first = b""
        self._keys: list[str] = []

    def sorted_keys(self) -> list[str]:
        """Return the keys of all versions. O(keys log keys) after one came or went, else O(1)."""
        if len(self._keys) != len(self.versions):
            self._keys = sorted(self.versions)
        return self._keys

    @classmethod
    def load(cls, path: str, known: History | None = None) -> History:
        """Read a history, or only what was added to the one `known` since. O(what is read).

        Raises:
            FileNotFoundError: there is none.
            Damaged: a line is not what was written.

        """
        with open(path, "rb") as file:
            first = file.readline()
            history = known if known is not None and known.first == first else cls()
            history.first = first
            file.seek(history.end)
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    break
                if not history.append_line(line[:-1]):
                    raise Damaged(
                        f"{path}: line {number} after byte {history.end} is not what was written",
                        run("recover"),
                    )
                history.end += len(line)
        return history

    def append_line(self, line: bytes) -> bool:
        """Add one sealed line; False, and nothing added, where it is not what was written."""
        data = check_checksum(line)
        if data is None:
            return False
        if data.startswith(b'{"rev"'):
            record = msgspec.json.decode(data, type=CommitRecord)
            if not self.is_next(record):
                return False
            self.add(record)
        elif data.startswith(b'{"key"'):
            base = msgspec.json.decode(data, type=BaseVersion)
            value = None if isinstance(base.value, UnsetType) else bytes(base.value)
            version = Version(base.key, value, base.revision, base.time, base.expires)
            versions = self.versions.setdefault(base.key, [])
            if versions and versions[-1].revision >= version.revision:  # doubled, or not in order
                return False
            versions.append(version)
        else:
            header = msgspec.json.decode(data, type=Header)
            self.lineage, self.floor = header.lineage, header.floor
            self.revision = max(self.revision, header.floor)
        return True

    def is_next(self, line: CommitRecord) -> bool:
        """Whether no line is gone between the last one and this, as far as it knows what it came after."""
        last = self.last
        here = max(last.rev if last is not None else 0, self.floor)
        if not line.digest:  # of a file that was written anew, in which the log is whole above the floor
            inside = line.rev == here + 1 or (line.rev <= self.floor and (last is None or line.rev > last.rev))
            return inside and (last is None or not last.digest)
        if not line.before:
            return True
        if last is None or not last.digest:
            return line.rev == here
        return last.digest == line.before and line.rev == last.rev + line.writes()

    def add(self, line: CommitRecord) -> None:
        """Add one commit."""
        for version in written(line):
            self.versions.setdefault(version.key, []).append(version)
        if line.writes() or not line.digest:
            self.commits.append(
                Commit(line.rev, to_datetime(line.time), line.reason, line.author, line.keys, *line.undo)
            )
        self.revision = max(self.revision, line.rev)
        gone = {tuple(mark) for mark in line.unmarks}
        gone |= {(mark.name, mark.revision) for mark in line.marks}
        self.marks = [mark for mark in self.marks if (mark.name, mark.revision) not in gone]
        for mark in line.marks:
            self.marks.append(mark.stored())
            self.digests[mark.name, mark.revision] = mark.digest
        self.last = line

    def is_kept(self, revision: int) -> bool:
        """Whether the state at a revision can be read."""
        if revision > self.revision:
            return False
        return revision >= self.floor or any(mark.revision == revision for mark in self.marks)

    def version_at(self, key: str, point: StateAt) -> Version | None:
        """Return the version of a key that a state shows. O(log versions of the key)."""
        found = latest(self.versions.get(key, ()), point.revision)
        return found if found is not None and found.visible(point.time) else None

    def live(self) -> dict[str, Version]:
        """Return the last version of every key that is not deleted, expired ones included. O(keys)."""
        return {key: versions[-1] for key, versions in self.versions.items() if versions[-1].value is not None}

    def state_at(self, at: StateAt) -> dict[str, Version]:
        """Return the visible versions of a state. O(keys log versions of a key)."""
        found = ((key, self.version_at(key, at)) for key in self.versions)
        return {key: version for key, version in found if version is not None}

    def trim(self, floor: int) -> int:
        """Forget what neither a revision from `floor` on nor a checkpoint can see; return how many versions."""
        self.floor = max(self.floor, min(floor, self.revision))
        seen = sorted({mark.revision for mark in self.marks if mark.revision < self.floor} | {self.floor})
        lowest = min([self.floor, *(mark.revision for mark in self.marks)])  # of all that is kept
        dropped = 0
        for key, versions in list(self.versions.items()):
            kept: list[Version] = []
            for position, version in enumerate(versions):
                until = versions[position + 1].revision if position + 1 < len(versions) else self.revision + 1
                first = bisect_right(seen, version.revision - 1)
                seen_there = first < len(seen) and seen[first] < until
                if until > self.floor or seen_there:
                    kept.append(version)
            while kept and kept[0].value is None and kept[0].revision <= lowest:
                del kept[0]
            dropped += len(versions) - len(kept)
            if kept:
                self.versions[key] = kept
            else:
                del self.versions[key]
        self._keys = []
        self.commits = [commit for commit in self.commits if commit.revision > self.floor]
        return dropped

    def to_lines(self, last: CommitRecord) -> list[bytes]:
        """Return the lines of a fresh file that holds all this. `last` tells of the present state.json."""
        lines = [add_checksum(Header(1, self.lineage, self.floor, now()))]
        by_revision: dict[int, list[Version]] = {}
        for versions in self.versions.values():
            for version in versions:
                by_revision.setdefault(version.revision, []).append(version)
        commits = {commit.revision: commit for commit in self.commits}
        for revision in sorted(by_revision.keys() | commits.keys()):
            versions = by_revision.get(revision, [])
            if revision in commits:
                lines.append(add_checksum(_commit_line(commits[revision], versions)))
                continue
            for version in versions:
                value = UNSET if version.value is None else Raw(version.value)
                lines.append(add_checksum(BaseVersion(version.key, revision, version.time, version.expires, value)))
        marks = [checkpoint_entry(mark, self.digests.get((mark.name, mark.revision), "")) for mark in self.marks]
        fields: dict[str, Any] = {"rev": self.revision, "marks": marks, "set": {}, "delete": [], "unmarks": []}
        lines.append(add_checksum(msgspec.structs.replace(last, floor=self.floor, lineage=self.lineage, **fields)))
        return lines


_NANOSECONDS_PER_MICROSECOND = to_datetime(1) - to_datetime(0)


def _commit_line(commit: Commit, versions: list[Version]) -> CommitRecord:
    """Return a commit and what it wrote as a line of a file that is written anew: without digests."""
    micros = (commit.time - to_datetime(0)) // _NANOSECONDS_PER_MICROSECOND
    line = CommitRecord(commit.revision, micros, "", reason=commit.reason, author=commit.author, keys=commit.keys)
    line.undo = (commit.position, commit.forward, commit.behind)
    for version in versions:
        if version.value is None:
            line.delete.append(version.key)
        else:
            line.set[version.key] = ValueRecord(Raw(version.value), version.expires, version.time)
    return line


def written(line: CommitRecord) -> list[Version]:
    """Return the versions that a commit made."""
    out = [
        Version(key, bytes(item.value), line.rev, item.time or line.time, item.expires)
        for key, item in line.set.items()
    ]
    out += [Version(key, None, line.rev, line.time) for key in line.delete]
    return out


def latest(versions: list[Version] | tuple[()], revision: int) -> Version | None:
    """Return the last of ascending versions that is not after a revision."""
    place = bisect_right(versions, revision, key=lambda version: version.revision)
    return versions[place - 1] if place else None
