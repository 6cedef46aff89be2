"""The history of a JSON namespace in memory: all that the lines of `history.jsonl` say."""

from __future__ import annotations

import os
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import pairwise
from operator import is_
from typing import Any, BinaryIO

import msgspec

from ...errors import Damaged, run
from ...model import Commit, now
from ..deltas import (
    MIN_BYTES,
    MIN_STORED_BYTES,
    SMALL_FANOUT,
    Chain,
    DamagedDelta,
    Delta,
    make_delta,
    may_be_packed,
    rebase,
    rebased_steps,
    spans,
)
from ..protocol import CheckpointRecord, StateAt, StoredVersion, Version
from ..stored_values import PLAIN, StoredValues
from .records import (
    FORMAT,
    LINE_START_BYTES,
    NO_FILE,
    BaseVersion,
    CommitRecord,
    DeltaRecord,
    Header,
    PackedVersion,
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


_Encoded = tuple[Commit | None, list[Version], bytes]  # the commit and the versions of a revision, and their lines


class History:
    """The versions, commits and checkpoints of a history file.

    Attributes:
        lineage: the lineage of the namespace.
        values: the stored form of values. Deltas are between encoded values, all else is in the stored form.
        floor: the lowest revision from which on all states are kept.
        revision: the last revision.
        versions: the kept versions of each key, by ascending revision.
        commits: the kept commits, by ascending revision.
        marks: the checkpoints, oldest first.
        digests: the digest of each checkpoint's file, or `NO_FILE`, by name and revision.
        last: the record of the last commit.
        end: the offset at which the last line that was read ends.
        first: the first line of the file, which identifies the file.
        last_start: the offset of the last line that was read, and the line's first bytes, with its checksum.
        files: each name of a checkpoint with each digest that its file had.
        signature: that of the file before it was last read.
        elsewhere: versions by key and revision that a recovery found elsewhere.

    """

    def __init__(self, lineage: str = "", values: StoredValues = PLAIN) -> None:
        self.lineage = lineage
        self.values = values
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
        self.elsewhere: dict[tuple[str, int], Version] = {}
        self._chain = Chain(self._kept)
        self._encoded: dict[int, _Encoded] = {}  # the lines of each revision when the file was last rewritten
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
        other.marks, other._index, other._chain = Checkpoints(), None, Chain(other._kept)
        for mark in self.marks:
            other.marks.add(mark)
        return other

    @classmethod
    def load(cls, path: str, known: History | None = None, values: StoredValues = PLAIN) -> History:
        """Read a history file.

        Args:
            path: the file.
            known: an earlier result. If it is of the same file, only the lines added since are read, into this object.
            values: the stored form of values.

        Raises:
            FileNotFoundError: there is no file.
            Damaged: a line is not what was written.

        Cost: O(bytes read).

        """
        with open(path, "rb") as file:
            first = file.readline()
            known = known if known is not None and known.first == first != b"" and known.is_in(file) else None
            history = known if known is not None and known.values is values else cls(values=values)
            history.first = b""  # an interrupt between a line and its end leaves a history that is read anew
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
            history.first = first
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
        if line.fileless:
            self.forget_files()
        self.last = line

    def forget_files(self) -> None:
        """Note that no checkpoint has a file any more."""
        for mark in self.marks:
            self.digests[mark.name, mark.revision] = NO_FILE

    def has_file(self, name: str) -> bool:
        """Return whether a checkpoint of a name exists that is to have a file."""
        mark = self.marks.newest(name)
        return mark is not None and self.digests.get((name, mark.revision)) != NO_FILE

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
        """Return the visible version of a key at a state, packed or not. O(log versions of the key)."""
        version = latest(self.versions.get(key, ()), point.revision)
        return version if version is not None and version.visible(point.time) else None

    def whole(self, version: Version) -> Version:
        """Return a version with its value in the stored form. The cost of `opened`."""
        if not isinstance(version, PackedVersion):
            return version
        return self.values.pack_version(self.opened(version))

    def opened(self, version: Version, is_lone: bool = False) -> Version:
        """Return a version with its encoded value. O(size), and for a delta as many times as its chain is long.

        Args:
            version: the version, packed or not.
            is_lone: whether no other version of the key is read with it, see `Chain`.

        Raises:
            Damaged: a version of its chain is missing, or is not what was written.

        """
        if not isinstance(version, PackedVersion):
            return self.values.unpack_version(version)
        value = self._value(version.key, version.revision, is_lone)
        return Version(version.key, value, version.revision, version.time, version.expires)

    def _value(self, key: str, revision: int, is_lone: bool = False) -> bytes:
        chain = Chain(self._kept, is_lone=True) if is_lone else self._chain
        try:
            return chain.value(key, revision)
        except DamagedDelta as error:
            what = f"revision {revision} of {key[:60]!r} in the history: {error}"
            raise Damaged(what, run("recover")) from error

    def pack(self) -> None:
        """Make superseded values deltas to the versions that superseded them. O(bytes of those that are whole)."""
        least = MIN_BYTES if self.values.plain else MIN_STORED_BYTES
        for versions in self.versions.values():
            place = 0
            for index, version in enumerate(versions[:-1]):
                if isinstance(version, PackedVersion):
                    place = version.delta.place + 1
                elif version.value is not None and len(version.value) >= least:
                    newer = versions[index + 1]
                    try:
                        value, newer_value = self.opened(version).value, self.opened(newer).value
                    except Damaged:  # a form that does not open is kept as it is
                        continue
                    assert value is not None
                    delta = make_delta(value, newer.revision, newer_value, place)
                    if delta is not None:
                        versions[index] = packed_version(version, delta, self.values)
                        self._rebase(versions, index, place)
                        place += 1

    def can_pack(self) -> bool:
        """Return whether `pack` would pack a version. O(bytes of the whole ones up to the first that it would)."""
        pairs = (pair for versions in self.versions.values() for pair in pairwise(versions))
        return self.values.plain and any(
            make_delta(version.value, newer.revision, self.whole(newer).value, 0) is not None
            for version, newer in pairs
            if version.value and not isinstance(version, PackedVersion)
        )

    def _rebase(self, versions: list[Version], index: int, place: int) -> None:
        """Make older deltas relative to one at a place, see `deltas`."""
        for step in rebased_steps(place, SMALL_FANOUT):
            for number in range(index - 1, -1, -1):
                older = versions[number]
                if isinstance(older, PackedVersion) and older.delta.place % step == 0:
                    if spans(step, len(older.delta.data)):
                        delta = self._rebased(older, versions[index].revision)
                        if spans(step, len(delta.data)):
                            versions[number] = packed_version(older, delta, self.values)
                    break

    def _rebased(self, version: PackedVersion, base: int) -> Delta:
        """Return a version relative to another revision of its key, or compressed alone if `base` is 0."""
        value = self._value(version.key, version.revision)
        base_value = self._value(version.key, base) if base else None
        return rebase(value, base, base_value, version.delta.place)

    def _kept(self, key: str, revision: int) -> Delta | bytes:
        """Return a version of a key as it is kept, for `Chain`."""
        version = latest(self.versions.get(key, ()), revision)
        if version is None or version.revision != revision or version.value is None:
            if (version := self.elsewhere.get((key, revision))) is not None:
                return as_kept(version, self.values)
            raise DamagedDelta(f"revision {revision} of the key is missing")
        return as_kept(version, self.values)

    def deltas(self, versions: Iterable[StoredVersion]) -> dict[tuple[str, int], Delta]:
        """Return the deltas that versions are kept as, by key and revision. O(log versions of a key) for each."""
        found = {}
        for version in filter(may_be_packed, versions):
            kept = latest(self.versions.get(version.key, ()), version.revision)
            if isinstance(kept, PackedVersion) and kept.revision == version.revision:
                delta = as_kept(kept, self.values)
                assert isinstance(delta, Delta)
                found[version.key, version.revision] = delta
        return found

    def live(self) -> dict[str, Version]:
        """Return the last version of every key that is not deleted, expired ones included. O(keys)."""
        return {key: versions[-1] for key, versions in self.versions.items() if versions[-1].value is not None}

    def state_at(self, at: StateAt) -> dict[str, Version]:
        """Return the visible versions of a state, in the stored form. O(keys log versions of a key)."""
        versions = ((key, self.version_at(key, at)) for key in self.versions)
        return {key: self.whole(version) for key, version in versions if version is not None}

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
            if len(kept) < len(versions):
                self._keep_bases(versions, kept)
            removed += len(versions) - len(kept)
            if kept:
                self.versions[key] = kept
            else:
                del self.versions[key]
        self._keys, self._index = [], None
        self.commits = [commit for commit in self.commits if commit.revision > self.floor]
        return removed

    def _keep_bases(self, versions: list[Version], kept: list[Version]) -> None:
        """Make deltas that stay independent of those that go, before these go."""
        staying = {version.revision for version in kept}
        bases = {one.revision: one.delta.base for one in versions if isinstance(one, PackedVersion)}
        values = [one.revision for one in kept if one.value is not None]
        for index, version in enumerate(kept):
            if isinstance(version, PackedVersion) and (base := version.delta.base) and base not in staying:
                while base and base not in staying:
                    base = bases.get(base) or next((revision for revision in values if revision > base), 0)
                kept[index] = packed_version(version, self._rebased(version, base), self.values)

    def to_lines(self, last: CommitRecord, settled: bool = True) -> list[bytes]:
        """Return the lines of a new file that holds this history, which is as read from that file then.

        Args:
            last: the record of the last commit, for the digest and the time of the present state.json.
            settled: the files of the checkpoints are in place.

        """
        self.pack()
        lines: list[bytes] = []
        by_revision: dict[int, list[Version]] = {}
        for versions in self.versions.values():
            for version in versions:
                by_revision.setdefault(version.revision, []).append(version)
        commits = {commit.revision: commit for commit in self.commits}
        encoded: dict[int, _Encoded] = {}
        for revision in sorted(by_revision.keys() | commits.keys()):
            commit, versions = commits.get(revision), by_revision.get(revision, [])
            former = self._encoded.get(revision)
            if former is None or commit is not former[0] or not _same(versions, former[1]):
                former = commit, versions, _lines_of(commit, versions, self.values.sealed)
            encoded[revision] = former
            lines.append(former[2])
        self._encoded = encoded
        marks = [checkpoint_entry(mark, self.digests.get((mark.name, mark.revision), "")) for mark in self.marks]
        fields: dict[str, Any] = {"rev": self.revision, "marks": marks, "set": {}, "delete": [], "unmarks": []}
        fields["settled"] = settled
        self.last = msgspec.structs.replace(last, floor=self.floor, lineage=self.lineage, **fields)
        lines.append(add_checksum(self.last))
        header = Header(FORMAT, self.lineage, self.floor, now(), sum(map(len, lines)))
        lines.insert(0, add_checksum(header))
        self.first, self.end, self.signature = lines[0], sum(map(len, lines)), ()
        self.last_start = self.end - len(lines[-1]), lines[-1][:LINE_START_BYTES]
        return lines


def _same(one: list[Version], other: list[Version]) -> bool:
    """Return whether two lists hold the same objects."""
    return len(one) == len(other) and all(map(is_, one, other))


def _lines_of(commit: Commit | None, versions: list[Version], is_sealed: bool) -> bytes:
    """Return the lines of the versions of a revision in a rewritten file, and of its commit if that is kept."""
    if commit is not None:
        return add_checksum(_commit_record(commit, versions, is_sealed))
    return b"".join(add_checksum(BaseVersion.of(version)) for version in versions)


def _commit_record(commit: Commit, versions: list[Version], is_sealed: bool) -> CommitRecord:
    """Make the record of a commit for a rewritten file: with its writes, without digests."""
    record = CommitRecord.of(commit)
    if is_sealed:
        record.seal()
    for version in versions:
        if version.value is None:
            record.delete.append(version.key)
        else:
            record.set[version.key] = ValueRecord.of(version)
    return record


def packed_version(version: Version, delta: Delta, values: StoredValues) -> PackedVersion:
    """Return a version as it is kept with a delta."""
    data = values.pack_delta(delta.data, version.key, version.revision, delta.base)
    record = DeltaRecord(delta.size, data, delta.base, delta.place)
    return PackedVersion(version.key, b"", version.revision, version.time, version.expires, record)


def as_kept(version: Version, values: StoredValues) -> Delta | bytes:
    """Return a version that has a value in the form that `Chain` reads."""
    if not isinstance(version, PackedVersion):
        return values.unpack(version.value or b"", version.key, version.revision)
    kept = version.delta
    data = values.unpack_delta(kept.data, version.key, version.revision, kept.base)
    return Delta(kept.base, kept.place, kept.size, data)


def latest(versions: list[Version] | tuple[()], revision: int) -> Version | None:
    """Return the last version, of versions by ascending revision, that is not after a revision."""
    count = bisect_right(versions, revision, key=lambda version: version.revision)
    return versions[count - 1] if count else None
