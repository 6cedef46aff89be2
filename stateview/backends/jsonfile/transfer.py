"""Copies of a JSON namespace: what it keeps, page by page, and the stage in which another becomes one.

The stage is the folder `migrating-json` in the namespace's own. Every put is one sealed line of its `puts.jsonl`: it is
there whole, or not at all. `finish` makes the namespace's files of them, and renames the history first: from then on
the namespace is the new one, and whoever finds state.json still in the stage reads it there, or finishes the renames.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from ...errors import BackendError
from ...model import Commit, now, to_datetime, to_micros
from ..conflicts import destination_exists_error
from ..durable_files import file_error, fsync_folder, remove, temporary
from ..protocol import PAGE_BYTES, Backend, CheckpointRecord, Head, StateAt, StoredVersion, Version
from ..staging import StagingFolder, set_aside
from ..stored_values import StoredValues
from . import document
from .history import (
    BaseVersion,
    CheckpointEntry,
    CommitRecord,
    History,
    add_checksum,
    check_checksum,
    checkpoint_entry,
    digest,
)

if TYPE_CHECKING:
    from .backend import JSONBackend

STAGE = "migrating-json"
PUTS = "puts.jsonl"
SYNC_BYTES = 32_000_000  # bytes of puts that a loss of power may take

Entries = dict[str, Version]


class _StagedBatch(Struct, omit_defaults=True):
    """A line of the stage's log."""

    note: dict[str, Any]
    forget: list[str] = []
    versions: list[BaseVersion] = []
    commits: list[CommitRecord] = []
    marks: list[CheckpointEntry] | None = None


def dump(
    history: History, after: tuple[str, int], limit: int, keys: Iterable[str] | None, values: StoredValues
) -> list[StoredVersion]:
    """Return a page of the stored versions."""
    names = history.sorted_keys() if keys is None else sorted(set(keys))
    out: list[StoredVersion] = []
    size = 0
    for place in range(bisect_left(names, after[0]), len(names)):
        versions = history.versions.get(names[place], [])
        for number, version in enumerate(versions):
            if (version.key, version.revision) <= after:
                continue
            if len(out) >= limit or size >= PAGE_BYTES:
                return out
            until = versions[number + 1].revision if number + 1 < len(versions) else 0
            value = version.value
            if value is not None:
                value = values.unpack(value, version.key, version.revision)
                size += len(value)
            out.append(StoredVersion(version.key, value, version.revision, version.time, version.expires, until))
    return out


def staged_state(folder: str, expected: str) -> bytes | None:
    """Return the state.json with this digest.

    Where it is still in the stage of a copy that is finished but for renames.
    """
    try:
        with open(os.path.join(folder, STAGE, "state.json"), "rb") as file:
            data = file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return data if digest(data) == expected else None


def finish_swap(folder: str) -> None:
    """Put the files of a stage in their places, once its history is in its own. Call it under the folder's lock."""
    stage, place = os.path.join(folder, STAGE), os.path.join(folder, "checkpoints")
    remove(os.path.join(stage, PUTS))
    staged = os.path.join(stage, "checkpoints")
    if os.path.isdir(staged):
        if os.path.isdir(place):  # of the former namespace, which is kept aside
            os.rename(place, temporary(os.path.join(stage, "former")))
        os.rename(staged, place)
        fsync_folder(folder)
    os.rename(os.path.join(stage, "state.json"), os.path.join(folder, "state.json"))  # last: while it is here, go on
    fsync_folder(folder)


class JSONReceiver:
    """See `Receiver`. All that is put is in memory as well, as a JSON namespace is."""

    def __init__(self, backend: JSONBackend, stage: str = STAGE) -> None:
        self._backend = backend
        self._stage = StagingFolder(backend.folder, stage, backend.url)
        self._versions: dict[str, list[Version]] = {}
        self._commits: dict[int, Commit] = {}
        self._marks: list[CheckpointRecord] = []
        self._note: dict[str, Any] | None = None
        self._unsynced = 0
        self._settled: Head | None = None
        self._reader: JSONBackend | None = None
        try:
            self._log = self._load()
        except BaseException as error:
            self._stage.release()
            if isinstance(error, OSError):
                raise file_error(error, self._stage.folder) from error
            raise

    def _load(self) -> Any:
        """Take in the puts of the log that are whole, cut off what is not, and open it for more."""
        path = self._stage.path(PUTS)
        if not os.path.exists(path):
            if os.path.exists(self._stage.path("state.json")):
                with self._backend._lock():
                    self._backend._refresh()  # finishes what was cut off in the middle of its renames
            self._stage.clear()
        log = open(path, "a+b", buffering=0)  # noqa: SIM115 - open as long as the receiver
        log.seek(0)
        end = 0
        with open(path, "rb") as lines:
            for line in lines:
                data = check_checksum(line[:-1]) if line.endswith(b"\n") else None
                if data is None:
                    break
                self._take(msgspec.json.decode(data, type=_StagedBatch))
                end += len(line)
        os.ftruncate(log.fileno(), end)
        return log

    def _take(self, put: _StagedBatch) -> None:
        for key in put.forget:
            self._versions.pop(key, None)
        for base in put.versions:
            value = None if isinstance(base.value, UnsetType) else bytes(base.value)
            version = Version(base.key, value, base.revision, base.time, base.expires)
            self._versions.setdefault(base.key, []).append(version)
        for line in put.commits:
            self._commits[line.rev] = Commit(
                line.rev, to_datetime(line.time), line.reason, line.author, line.keys, *line.undo
            )
        if put.marks is not None:
            self._marks = [mark.stored() for mark in put.marks]
        self._note = put.note

    def progress(self) -> dict[str, Any] | None:
        return self._note

    def put(
        self, versions: Iterable[StoredVersion] = (), commits: Iterable[Commit] = (),
        marks: Iterable[CheckpointRecord] | None = None, *,
        note: dict[str, Any], forget: Iterable[str] = (),
    ) -> None:  # fmt: skip
        """See `Receiver.put`. O(what is given)."""
        put = _StagedBatch(note, list(forget))
        for one in versions:
            value = UNSET if one.value is None else Raw(self._backend.values.pack(one.value, one.key))
            put.versions.append(BaseVersion(one.key, one.revision, one.time, one.expires, value))
        for commit in commits:
            line = CommitRecord(commit.revision, to_micros(commit.time), "", reason=commit.reason, author=commit.author)
            line.keys, line.undo = commit.keys, (commit.position, commit.forward, commit.behind)
            put.commits.append(line)
        if marks is not None:
            put.marks = [checkpoint_entry(mark) for mark in marks]
        data = add_checksum(put)
        end = os.fstat(self._log.fileno()).st_size
        try:
            view = memoryview(data)
            while view:
                view = view[self._log.write(view) :]
            self._unsynced += len(data)
            if self._unsynced > SYNC_BYTES:
                os.fsync(self._log.fileno())
                self._unsynced = 0
        except OSError as error:
            os.ftruncate(self._log.fileno(), end)
            raise file_error(error, self._stage.path(PUTS)) from error
        self._settled = None
        self._take(put)

    def staged(self, head: Head) -> Backend:
        """See `Receiver.staged`. O(keys) for every checkpoint, too: each is a file."""
        from .backend import JSONBackend

        self._settle(head)
        if self._reader is None:
            self._reader = JSONBackend(
                self._stage.parent, STAGE, timeout=self._backend.timeout, values=self._backend.values
            )
        return self._reader

    def build(self, head: Head) -> str:
        """Finish the files in the stage, with their whole log; return their folder."""
        self._settle(head, prune_log=False)
        return self._stage.folder

    def _settle(self, head: Head, prune_log: bool = True) -> None:
        """Make the files of the namespace in the stage, durable."""
        if self._settled == head:
            return
        if self._reader is not None:
            self._reader.close()
        history = History(head.lineage)
        history.floor, history.revision = head.floor, head.revision
        history.versions, history.marks = self._versions, self._marks
        lowest = head.floor if prune_log else -1
        history.commits = [self._commits[revision] for revision in sorted(self._commits) if revision > lowest]
        live = {key: versions[-1] for key, versions in self._versions.items() if versions[-1].value is not None}
        blocks: dict[str, bytes] = {}
        data = document.serialize(live, blocks)
        mtime = now() * 1000
        try:
            os.makedirs(self._stage.path("checkpoints"), exist_ok=True)
            self._write("state.json", data, mtime)
            for mark in {mark.name: mark for mark in self._marks}.values():
                point = StateAt(mark.revision, mark.time)
                shown = {key: found for key in self._versions if (found := history.version_at(key, point)) is not None}
                same = {key: blocks[key] for key, version in shown.items() if live.get(key) is version}
                content = document.serialize(shown, same)
                history.digests[mark.name, mark.revision] = digest(content)
                self._write(os.path.join("checkpoints", f"{mark.name}.json"), content)
            # Of the same digest before: who finds no state.json is not to take it for the first commit of all
            line = CommitRecord(head.revision, head.time, digest(data), digest(data), mtime=mtime, count=len(live))
            self._write("history.jsonl", b"".join(history.to_lines(line)))
            fsync_folder(self._stage.path("checkpoints"))
            fsync_folder(self._stage.folder)
        except OSError as error:
            raise file_error(error, self._stage.folder) from error
        self._settled = head

    def _write(self, name: str, data: bytes, mtime: int | None = None) -> None:
        with open(self._stage.path(name), "wb") as file:
            file.write(data)
            file.flush()
            if mtime is not None:
                os.utime(file.fileno(), ns=(mtime, mtime))
            os.fsync(file.fileno())

    def finish(self, head: Head, over: bool = False) -> str:
        """See `Receiver.finish`. The former namespace is kept in a folder of its own in the namespace's."""
        backend, stage = self._backend, self._stage
        self._settle(head)
        try:
            with backend._lock():
                there, kept = backend.head(), ""
                if there.lineage and not over:
                    raise destination_exists_error(backend.url, backend.namespace, there.revision)
                if there.lineage or os.path.isdir(os.path.join(stage.parent, "checkpoints")):
                    kept = set_aside(stage.parent, ("state.json", "history.jsonl", "checkpoints"))
                os.rename(stage.path("history.jsonl"), backend.history_path)
                fsync_folder(stage.parent)
                finish_swap(stage.parent)
                backend._live = backend._history = None
        except OSError as error:
            if isinstance(error, BackendError):
                raise
            raise file_error(error, stage.folder) from error
        self.drop()
        return kept

    def drop(self) -> None:
        if not self._log.closed:
            self._stage.clear()
            self.close()

    def close(self) -> None:
        if self._log.closed:
            return
        if self._reader is not None:
            self._reader.close()
        if not os.fstat(self._log.fileno()).st_size:
            self._stage.clear()
        self._log.close()
        self._stage.release()
