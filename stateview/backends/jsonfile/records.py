"""The lines of `history.jsonl`: records with checksums, read and appended one by one.

A line is a JSON object. Its first member `sum` is the BLAKE2b digest of the rest of the line. The first line is a
`Header`. A `BaseVersion` is a version that was kept without its commit, and a `CommitRecord` is a commit. A commit
counts from the moment that its line is complete. An incomplete last line is a commit that was never acknowledged.
"""

from __future__ import annotations

import os
from typing import TypeVar

try:
    from _blake2 import blake2b  # not hashlib, which loads OpenSSL
except ImportError:
    from hashlib import blake2b

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from ...codec import MAX_DEPTH
from ...errors import Damaged, run
from ...model import Commit, to_datetime, to_micros
from ..files.durable_files import fsync_folder, is_system_error, remove, write_all
from ..protocol import CheckpointRecord, Version

FORMAT = 2  # of a history that this release begins
NO_FILE = "none"  # in the place of the digest of a checkpoint's file, if it has none
_CHECKSUM_START = b'{"sum":"'
_CHECKSUM_END = b'",'
_CHECKSUM_DIGITS = 16  # hexadecimal
LINE_START_BYTES = len(_CHECKSUM_START) + _CHECKSUM_DIGITS + len(_CHECKSUM_END)  # before the rest of the line
_Record = TypeVar("_Record", bound=Struct)
_TAIL_BYTES = 8192  # read at the end of a file at first, to find its last line


class Header(Struct, omit_defaults=True):
    """The first line.

    Attributes:
        format: 1 is of a release that knew no deltas.
        lineage: the lineage of the namespace.
        floor: the lowest revision from which on all states are kept.
        made: when the file was begun, which distinguishes it from the file that it replaced.
        packed: bytes of the lines with which the file was begun.

    """

    format: int
    lineage: str
    floor: int = 0
    made: int = 0
    packed: int = 0


class DeltaRecord(Struct, frozen=True, omit_defaults=True):
    """A value in its packed form, see `deltas.Delta`. `data` is base64 in the file."""

    size: int
    data: bytes
    base: int = 0
    place: int = 0


_NO_DELTA = DeltaRecord(0, b"")


class PackedVersion(Version, frozen=True):
    """A superseded version whose value is a delta. Its `value` is empty, which no value is; see `History.whole`."""

    delta: DeltaRecord = _NO_DELTA


class BaseVersion(Struct, omit_defaults=True):
    """A version that is kept without its commit. A delete has neither `value` nor `delta`.

    A version with a delta has `delta_time` instead of `time`. Otherwise a release without deltas would take it for a
    delete, and lose its value.
    """

    key: str
    revision: int
    time: int = 0
    expires: int = 0
    value: Raw | UnsetType = UNSET
    delta: DeltaRecord | UnsetType = UNSET
    delta_time: int = 0

    @classmethod
    def of(cls, version: Version) -> BaseVersion:
        """Make the record of a version."""
        record = cls(version.key, version.revision, version.time, version.expires)
        if version.value is not None:
            _put_value(record, version)
        if record.delta is not UNSET:
            record.time, record.delta_time = 0, version.time
        return record

    def version(self) -> Version:
        """Return the version of the record."""
        return _version(self, self.key, self.revision, self.time or self.delta_time)


class ValueRecord(Struct, omit_defaults=True):
    """A value that a commit wrote, whole or as a delta. `time` is 0 for the commit's time."""

    value: Raw | UnsetType = UNSET
    expires: int = 0
    time: int = 0
    delta: DeltaRecord | UnsetType = UNSET

    @classmethod
    def of(cls, version: Version) -> ValueRecord:
        """Make the record of a version that is no delete."""
        record = cls(expires=version.expires, time=version.time)
        _put_value(record, version)
        return record


def _put_value(record: BaseVersion | ValueRecord, version: Version) -> None:
    if isinstance(version, PackedVersion):
        record.delta = version.delta
    else:
        record.value = Raw(version.value or b"")


def _version(record: BaseVersion | ValueRecord, key: str, revision: int, time: int) -> Version:
    delta = record.delta
    if not isinstance(delta, UnsetType):
        return PackedVersion(key, b"", revision, time, record.expires, delta)
    value = None if isinstance(record.value, UnsetType) else bytes(record.value)
    return Version(key, value, revision, time, record.expires)


class CheckpointEntry(Struct, omit_defaults=True):
    """A checkpoint, and the digest of its file, or `NO_FILE`."""

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
    """Make the record of a checkpoint."""
    return CheckpointEntry(mark.name, mark.revision, mark.time, mark.note, digest, mark.kind)


class CommitRecord(Struct, omit_defaults=True):
    """A commit.

    `digest` and `mtime` are those of state.json after it, and `before` is the digest after the commit before it. If it
    replaces another state.json, one edited by hand or of an older layout, `replaced` is the digest of that.
    `before_mtime` is the modification time of the file that it replaces. `settled` says that the checkpoints' files
    were in place before the line, as in a rewritten history. `left` are the names of checkpoints with the digests of
    files of an older layout, which this commit replaces. `fileless` says that no checkpoint made until then has a file.
    A fourth number in `undo`, which older releases refuse, says that values and texts are sealed with the keyring.
    """

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
    undo: tuple[int, ...] = (0, 0, 0)
    set: dict[str, ValueRecord] = {}
    delete: list[str] = []
    marks: list[CheckpointEntry] = []
    unmarks: list[tuple[str, int]] = []
    replaced: str = ""
    before_mtime: int = 0
    settled: bool = False
    left: list[tuple[str, str]] = []
    fileless: bool = False

    @classmethod
    def of(cls, commit: Commit) -> CommitRecord:
        """Make a record with a commit's metadata, without writes and digests."""
        record = cls(commit.revision, to_micros(commit.time), "", reason=commit.reason, author=commit.author)
        record.keys, record.undo = commit.keys, (commit.position, commit.forward, commit.behind)
        return record

    def commit(self) -> Commit:
        """Return the commit's metadata."""
        return Commit(self.rev, to_datetime(self.time), self.reason, self.author, self.keys, *self.undo[:3])

    def seal(self) -> None:
        """Note that the values and texts are sealed."""
        self.undo = (*self.undo[:3], 1)

    def is_sealed(self) -> bool:
        """Return whether the values and texts are sealed."""
        return len(self.undo) > 3

    def writes(self) -> bool:
        """Return whether the commit made a revision, not only checkpoints."""
        return bool(self.set or self.delete)

    def is_before(self, digest: str, mtime: int) -> bool:
        """Return whether a state.json is the one that this commit was to replace, left by a process that was killed.

        The same content with a later modification time is an edit by hand.

        Args:
            digest: the digest of the file; "" if there is none.
            mtime: its modification time, in nanoseconds.

        """
        if digest != (self.replaced or self.before):
            return False
        if not digest:
            return True
        if not self.before_mtime:  # a line of an earlier release
            return mtime <= self.mtime
        return mtime in (self.before_mtime, self.mtime)


def marked(line: CommitRecord) -> frozenset[str]:
    """Return the names of the checkpoints that a commit made or deleted."""
    return frozenset(mark.name for mark in line.marks) | {name for name, _ in line.unmarks}


def written(record: CommitRecord) -> list[Version]:
    """Return the versions that a commit made."""
    versions = [_version(item, key, record.rev, item.time or record.time) for key, item in record.set.items()]
    versions += [Version(key, None, record.rev, record.time) for key in record.delete]
    return versions


def digest(data: bytes) -> str:
    """Return the digest of a file that the history keeps."""
    return blake2b(data, digest_size=16).hexdigest()


def file_digest(path: str) -> str | None:
    """Return the digest of a file, None if there is none."""
    try:
        with open(path, "rb") as file:
            return digest(file.read())
    except FileNotFoundError:
        return None


def _checksum(rest: bytes) -> bytes:
    return blake2b(rest, digest_size=_CHECKSUM_DIGITS // 2).hexdigest().encode()


def add_checksum(record: Struct) -> bytes:
    """Encode a record as a line with its checksum and a newline."""
    rest = msgspec.json.encode(record, enc_hook=int)[1:]  # a note may hold a `Revision`
    return b"".join((_CHECKSUM_START, _checksum(rest), _CHECKSUM_END, rest, b"\n"))


def check_checksum(line: bytes) -> bytes | None:
    """Return the JSON of a record from its line without the newline; None if the checksum is wrong."""
    rest = line[LINE_START_BYTES:]
    if line[:LINE_START_BYTES] != _CHECKSUM_START + _checksum(rest) + _CHECKSUM_END:
        return None
    return b"{" + rest


def decode_record(data: bytes, kind: type[_Record]) -> _Record:
    """Decode the JSON of a record whose checksum is right. `Damaged` if it holds a value that is nested too deep."""
    try:
        return msgspec.json.decode(data, type=kind)
    except RecursionError:
        raise Damaged(f"a value in the history is nested over {MAX_DEPTH} levels deep", run("recover")) from None


def is_commit(data: bytes) -> bool:
    """Return whether the JSON of a record is that of a commit."""
    return data.startswith(b'{"rev"')


def last_line(path: str) -> tuple[CommitRecord | None, int, int]:
    """Read the last complete line of a history file, from the end of the file.

    Returns:
        the commit, or None if the file holds no commit; the offset at which its line ends; the file's size.

    Raises:
        FileNotFoundError: there is no file.
        Damaged: the last complete line is not what was written.

    Cost: O(size of the line).

    """
    with open(path, "rb", buffering=0) as file:
        size = offset = file.seek(0, os.SEEK_END)
        tail = b""
        while True:
            step = min(offset, max(_TAIL_BYTES, len(tail)))
            file.seek(offset - step)
            tail = file.read(step) + tail
            offset -= step
            stop = tail.rfind(b"\n")
            start = tail.rfind(b"\n", 0, stop) if stop > 0 else -1
            if start >= 0 or offset == 0:
                break
    if check_checksum(tail[stop + 1 : -1]) is not None:
        raise Damaged(f"{path}: the end of the last line is not what was written", run("recover"))
    if stop < 0:  # an empty file, or the incomplete first line of a first commit that was never acknowledged
        return None, 0, size
    data = check_checksum(tail[start + 1 : stop])
    if data is None:
        raise Damaged(f"{path}: the last line is not what was written", run("recover"))
    record = decode_record(data, CommitRecord) if is_commit(data) else None
    if record is not None and not record.digest:  # a rewritten file ends with a line that has a digest
        raise Damaged(f"{path}: the last line is missing", run("recover"))
    return record, offset + stop + 1, size


def read_header(path: str) -> Header:
    """Read the first line of a history file, whose checksum was verified before. O(size of the line)."""
    with open(path, "rb") as file:
        line = file.readline()
    return decode_record(check_checksum(line[:-1]) or b"{}", Header)


def has_lines(path: str, data: bytes) -> bool:
    """Return whether a history file of this format holds the lines of `data`, whatever time the first line tells."""
    with open(path, "rb") as file:
        first = file.readline()
        rest = memoryview(data)[data.index(b"\n") + 1 :]
        if os.fstat(file.fileno()).st_size != len(first) + len(rest) or file.read() != rest:
            return False
    return read_header(path).format == FORMAT


def append_record(path: str, record: CommitRecord, made: int) -> int:
    """Append a commit to a history file, durably, and make the file if it does not exist.

    An incomplete last line is overwritten: its commit was never acknowledged.

    Args:
        path: the history file.
        record: the commit.
        made: the time for the header of a new file.

    Returns:
        the size to give to `truncate_history`, which takes the commit back.

    """
    with open(path, "ab", buffering=0) as file:
        size = file.tell()
        if size:
            last, end, _ = last_line(path)
            end = end if last is not None else 0
            if end < size:
                os.ftruncate(file.fileno(), end)
                size = end
        data = add_checksum(record)
        if not size:
            data = add_checksum(Header(FORMAT, record.lineage, made=made)) + data
        try:
            write_all(file, data)
            os.fsync(file.fileno())
            if not size:
                fsync_folder(os.path.dirname(path))
        except BaseException as error:
            if is_system_error(error):
                os.ftruncate(file.fileno(), size)
                if not size:
                    remove(path)  # an empty history would be listed as a namespace
            else:  # Ctrl-C or a signal's exception: the line may be complete, and others may have read it
                os.fsync(file.fileno())
            raise
    return size


def is_last(path: str, record: CommitRecord) -> bool:
    """Return whether a record is the last complete line of a history file."""
    try:
        last = last_line(path)[0]
    except FileNotFoundError:
        return False
    return last == record


def truncate_history(path: str, size: int) -> None:
    """Cut a history file to a size, durably. Removes the file if the size is 0."""
    if not size:
        remove(path)
        return
    with open(path, "ab", buffering=0) as file:
        os.ftruncate(file.fileno(), size)
        os.fsync(file.fileno())
