"""The history of a JSON namespace in memory: all that the lines of `history.jsonl` say."""

from __future__ import annotations

import os
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterator
from typing import Any, BinaryIO

import msgspec
from msgspec import Raw

from ...errors import Damaged, run
from ...model import Commit, now
from ..protocol import CheckpointRecord, StateAt, Version
from .records import (
    LINE_START_BYTES,
    BaseVersion,
    CommitRecord,
    Header,
    ValueRecord,
    add_checksum,
    check_checksum,
    checkpoint_entry,
    decode_record,
    is_commit,
    written,
)


class Checkpoints:
    """The checkpoints of a history, oldest first."""

    def __init__(self) -> None:
        self._all: dict[tuple[str, int], CheckpointRecord] = {}
        self._names: dict[str, dict[int, None]] = {}
        self._revisions: Counter[int] = Counter()

    def __iter__(self) -> Iterator[CheckpointRecord]:
        return iter(self._all.values())

    def __len__(self) -> int:
        return len(self._all)

    def add(self, mark: CheckpointRecord) -> None:
        """Add a checkpoint as the newest, in place of one of the same name and revision."""
        self.remove(mark.name, mark.revision)
        self._all[mark.name, mark.revision] = mark
        self._names.setdefault(mark.name, {})[mark.revision] = None
        self._revisions[mark.revision] += 1

    def remove(self, name: str, revision: int) -> None:
        """Remove a checkpoint, if it exists."""
        if self._all.pop((name, revision), None) is not None:
            del self._names[name][revision]
            self._revisions[revision] -= 1

    def newest(self, name: str) -> CheckpointRecord | None:
        """Return the newest checkpoint of a name. O(1)."""
        revisions = self._names.get(name)
        return self._all[name, next(reversed(revisions))] if revisions else None

    def is_at(self, revision: int) -> bool:
        """Return whether a checkpoint names a revision. O(1)."""
        return self._revisions[revision] > 0


class History:
    """The versions, commits and checkpoints of a history file.

    Attributes:
        lineage: the lineage of the namespace.
        floor: the lowest revision from which on all states are kept.
        revision: the last revision.
        versions: the kept versions of each key, by ascending revision.
        commits: the kept commits, by ascending revision.
        marks: the checkpoints, oldest first.
        digests: the digest of each checkpoint's file, by name and revision.
        last: the record of the last commit.
        end: the offset at which the last line that was read ends.
        first: the first line of the file, which identifies the file.
        last_start: the offset of the last line that was read, and the line's first bytes, with its checksum.
        files: each name of a checkpoint with each digest that its file had.
        signature: that of the file before it was last read.

    """

    def __init__(self, lineage: str = "") -> None:
        self.lineage = lineage
        self.floor = 0
        self.revision = 0
        self.versions: dict[str, list[Version]] = {}
        self.commits: list[Commit] = []
        self.marks = Checkpoints()
        self.digests: dict[tuple[str, int], str] = {}
        self.last: CommitRecord | None = None
        self.end = 0
        self.first = b""
        self.last_start = 0, b""
        self.signature: tuple[int, ...] = ()
        self.files: set[tuple[str, str]] = set()
        self._keys: list[str] = []
        self._index: tuple[list[tuple[int, str]], set[str]] | None = None  # all writes in order; keys with an expiry

    def sorted_keys(self) -> list[str]:
        """Return the keys of all versions. O(keys log keys) after a key was added or removed, else O(1)."""
        if len(self._keys) != len(self.versions):
            self._keys = sorted(self.versions)
        return self._keys

    def copy(self) -> History:
        """Return a copy that later lines do not change. O(keys)."""
        other = History()
        vars(other).update(vars(self))
        other.versions = {key: versions[:] for key, versions in self.versions.items()}
        other.commits, other.digests, other.files = self.commits[:], dict(self.digests), set(self.files)
        other.marks, other._index = Checkpoints(), None
        for mark in self.marks:
            other.marks.add(mark)
        return other

    @classmethod
    def load(cls, path: str, known: History | None = None) -> History:
        """Read a history file.

        Args:
            path: the file.
            known: an earlier result. If it is of the same file, only the lines added since are read, into this object.

        Raises:
            FileNotFoundError: there is no file.
            Damaged: a line is not what was written.

        Cost: O(bytes read).

        """
        with open(path, "rb") as file:
            first = file.readline()
            history = known if known is not None and known.first == first and known.is_in(file) else cls()
            history.first = first
            file.seek(history.end)
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    break
                history.last_start = history.end, line[:LINE_START_BYTES]
                if not history.append_line(line[:-1]):
                    raise Damaged(
                        f"{path}: line {number} after byte {history.end} is not what was written",
                        run("recover"),
                    )
                history.end += len(line)
        return history

    def is_in(self, file: BinaryIO) -> bool:
        """Return whether the last line that was read is still in the file, which an older one may have replaced."""
        offset, start = self.last_start
        file.seek(offset)
        return file.read(len(start)) == start and os.fstat(file.fileno()).st_size >= self.end

    def append_line(self, line: bytes) -> bool:
        """Add the record of a line without its newline.

        Returns:
            False if the checksum is wrong or the line does not follow the lines before it. Nothing is added then.

        """
        data = check_checksum(line)
        if data is None:
            return False
        if is_commit(data):
            record = decode_record(data, CommitRecord)
            if not self.is_next(record):
                return False
            self.add(record)
        elif data.startswith(b'{"key"'):
            version = decode_record(data, BaseVersion).version()
            versions = self.versions.get(version.key)
            if versions and versions[-1].revision >= version.revision:  # a doubled line, or lines out of order
                return False
            self._append(version)
        else:
            header = decode_record(data, Header)
            self.lineage, self.floor = header.lineage, header.floor
            self.revision = max(self.revision, header.floor)
        return True

    def is_next(self, line: CommitRecord) -> bool:
        """Return whether no line is missing between the last one and this, as far as the lines can show."""
        last = self.last
        here = max(last.rev if last is not None else 0, self.floor)
        if not line.digest:  # in a rewritten file: it has all commits above the floor, and some below it
            inside = line.rev == here + 1 or (line.rev <= self.floor and (last is None or line.rev > last.rev))
            return inside and (last is None or not last.digest)
        if not line.before:
            return True
        if last is None or not last.digest:
            return line.rev == here
        return last.digest == line.before and line.rev == last.rev + line.writes()

    def add(self, line: CommitRecord) -> None:
        """Add a commit."""
        for version in written(line):
            self._append(version)
        if line.writes() or not line.digest:
            self.commits.append(line.commit())
        self.revision = max(self.revision, line.rev)
        self.files.update(line.left)
        for name, revision in line.unmarks:
            self.marks.remove(name, revision)
        for mark in line.marks:
            self.marks.add(mark.stored())
            self.digests[mark.name, mark.revision] = mark.digest
            self.files.add((mark.name, mark.digest))
        self.last = line

    def is_kept(self, revision: int) -> bool:
        """Return whether a state can be read at a revision."""
        if revision > self.revision:
            return False
        return revision >= self.floor or self.marks.is_at(revision)

    def changed_keys(self, low: StateAt, high: StateAt) -> list[str]:
        """Return the keys that changed between two states. O(changes, and keys that ever had an expiry)."""
        if self._index is None:
            versions = [version for of_key in self.versions.values() for version in of_key]
            writes = sorted((version.revision, version.key) for version in versions)
            self._index = writes, {version.key for version in versions if version.expires}
        writes, expiring = self._index
        earlier, later = sorted((low.time, high.time))
        changed = {
            key
            for _, key in writes[bisect_left(writes, (low.revision + 1,)) : bisect_left(writes, (high.revision + 1,))]
        }
        for key in expiring:
            version = latest(self.versions.get(key, ()), high.revision)
            if version is not None and earlier < version.expires <= later:
                changed.add(key)
        return sorted(changed)

    def _append(self, version: Version) -> None:
        """Add a version that is newer than all others."""
        self.versions.setdefault(version.key, []).append(version)
        if self._index is not None:
            writes, expiring = self._index
            writes.append((version.revision, version.key))
            if version.expires:
                expiring.add(version.key)

    def wrote(self, name: str, digest: str) -> bool:
        """Return whether a checkpoint's file was written, not edited; true where a digest of the name is not known."""
        return (name, digest) in self.files or (name, "") in self.files

    def version_at(self, key: str, point: StateAt) -> Version | None:
        """Return the visible version of a key at a state. O(log versions of the key)."""
        version = latest(self.versions.get(key, ()), point.revision)
        return version if version is not None and version.visible(point.time) else None

    def live(self) -> dict[str, Version]:
        """Return the last version of every key that is not deleted, expired ones included. O(keys)."""
        return {key: versions[-1] for key, versions in self.versions.items() if versions[-1].value is not None}

    def state_at(self, at: StateAt) -> dict[str, Version]:
        """Return the visible versions of a state. O(keys log versions of a key)."""
        versions = ((key, self.version_at(key, at)) for key in self.versions)
        return {key: version for key, version in versions if version is not None}

    def trim(self, floor: int) -> int:
        """Remove the versions that no revision from `floor` on and no checkpoint needs; return how many."""
        self.floor = max(self.floor, min(floor, self.revision))
        kept_revisions = sorted({mark.revision for mark in self.marks if mark.revision < self.floor} | {self.floor})
        lowest = min([self.floor, *(mark.revision for mark in self.marks)])
        removed = 0
        for key, versions in list(self.versions.items()):
            kept: list[Version] = []
            for index, version in enumerate(versions):
                until = versions[index + 1].revision if index + 1 < len(versions) else self.revision + 1
                first = bisect_right(kept_revisions, version.revision - 1)
                is_seen = first < len(kept_revisions) and kept_revisions[first] < until
                if until > self.floor or is_seen:
                    kept.append(version)
            while kept and kept[0].value is None and kept[0].revision <= lowest:
                del kept[0]
            removed += len(versions) - len(kept)
            if kept:
                self.versions[key] = kept
            else:
                del self.versions[key]
        self._keys, self._index = [], None
        self.commits = [commit for commit in self.commits if commit.revision > self.floor]
        return removed

    def to_lines(self, last: CommitRecord, settled: bool = True) -> list[bytes]:
        """Return the lines of a new file that holds this history.

        Args:
            last: the record of the last commit, for the digest and the time of the present state.json.
            settled: the files of the checkpoints are in place.

        """
        lines = [add_checksum(Header(1, self.lineage, self.floor, now()))]
        by_revision: dict[int, list[Version]] = {}
        for versions in self.versions.values():
            for version in versions:
                by_revision.setdefault(version.revision, []).append(version)
        commits = {commit.revision: commit for commit in self.commits}
        for revision in sorted(by_revision.keys() | commits.keys()):
            versions = by_revision.get(revision, [])
            if revision in commits:
                lines.append(add_checksum(_commit_record(commits[revision], versions)))
            else:
                lines += [add_checksum(BaseVersion.of(version)) for version in versions]
        marks = [checkpoint_entry(mark, self.digests.get((mark.name, mark.revision), "")) for mark in self.marks]
        fields: dict[str, Any] = {"rev": self.revision, "marks": marks, "set": {}, "delete": [], "unmarks": []}
        fields["settled"] = settled
        lines.append(add_checksum(msgspec.structs.replace(last, floor=self.floor, lineage=self.lineage, **fields)))
        return lines


def _commit_record(commit: Commit, versions: list[Version]) -> CommitRecord:
    """Make the record of a commit for a rewritten file: with its writes, without digests."""
    record = CommitRecord.of(commit)
    for version in versions:
        if version.value is None:
            record.delete.append(version.key)
        else:
            record.set[version.key] = ValueRecord(Raw(version.value), version.expires, version.time)
    return record


def latest(versions: list[Version] | tuple[()], revision: int) -> Version | None:
    """Return the last version, of versions by ascending revision, that is not after a revision."""
    count = bisect_right(versions, revision, key=lambda version: version.revision)
    return versions[count - 1] if count else None
