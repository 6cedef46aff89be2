"""Copies of a JSON namespace: pages of its versions, and the staged import that builds one.

The staging folder is `migrating-json` in the namespace's folder. Each `put` appends one line with a checksum to its
`puts.jsonl`, so that it is stored completely or not at all. `finish` writes the namespace's files in the staging folder
and moves the history first. From then on the namespace is the new one. While state.json is still in the staging folder,
readers read it there, and the next writer moves it.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Container, Iterable
from io import FileIO
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from ...errors import BackendError
from ...model import Commit, now
from ..conflicts import check_same_keyring, destination_exists_error
from ..deltas import CarriedVersion
from ..files.durable_files import file_error, fsync_folder, is_system_error, remove, replaced_path, temporary, write_all
from ..files.staging import JSON_STAGE, StagingFolder, set_aside
from ..protocol import PAGE_BYTES, Backend, CheckpointRecord, Head, StoredVersion, Version
from ..stored_values import PLAIN
from . import document
from .history import History, packed_version
from .records import (
    NO_FILE,
    BaseVersion,
    CheckpointEntry,
    CommitRecord,
    add_checksum,
    check_checksum,
    checkpoint_entry,
    digest,
)

if TYPE_CHECKING:
    from .backend import JSONBackend

PUTS = "puts.jsonl"
SYNC_BYTES = 32_000_000  # of puts that a loss of power may take


class _StagedBatch(Struct, omit_defaults=True):
    """The arguments of one `put`, as a line of `puts.jsonl`. Its values are in their stored form."""

    note: dict[str, Any]
    forget: list[str] = []
    versions: list[BaseVersion] = []
    commits: list[CommitRecord] = []
    marks: list[CheckpointEntry] | None = None


def versions_page(
    history: History, after: tuple[str, int], limit: int, keys: Iterable[str] | None
) -> list[StoredVersion]:
    """Return a page of versions, see `Backend.versions_page`."""
    names = history.sorted_keys() if keys is None else sorted(set(keys))
    page: list[StoredVersion] = []
    size = 0
    for index in range(bisect_left(names, after[0]), len(names)):
        versions = history.versions.get(names[index], [])
        for number, version in enumerate(versions):
            if (version.key, version.revision) <= after:
                continue
            if len(page) >= limit or size >= PAGE_BYTES:
                return page
            until = versions[number + 1].revision if number + 1 < len(versions) else 0
            value = history.opened(version).value
            size += len(value or b"")
            page.append(StoredVersion(version.key, value, version.revision, version.time, version.expires, until))
    return page


def staged_state(folder: str, expected: str) -> bytes | None:
    """Return the state.json with a digest from the staging folder; None if it is not there.

    It is there if `finish` was interrupted between its renames.
    """
    try:
        with open(os.path.join(folder, JSON_STAGE, "state.json"), "rb") as file:
            data = file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return data if digest(data) == expected else None


def finish_swap(folder: str) -> None:
    """Move the staged files to their places, after the history was moved. Call it under the folder's lock."""
    stage, checkpoints = os.path.join(folder, JSON_STAGE), os.path.realpath(os.path.join(folder, "checkpoints"))
    remove(os.path.join(stage, PUTS))
    staged = os.path.join(stage, "checkpoints")
    if os.path.isdir(staged):
        if os.path.isdir(checkpoints):  # of the former namespace, which has second names in the folder set aside
            os.rename(checkpoints, temporary(os.path.join(stage, "former")))
        os.rename(staged, checkpoints)
        fsync_folder(os.path.dirname(checkpoints))
    # The last rename: while state.json is in the staging folder, an interrupted swap is continued.
    path = replaced_path(os.path.join(folder, "state.json"), folder)
    os.rename(os.path.join(stage, "state.json"), path)
    fsync_folder(os.path.dirname(path))


class JSONStagedImport:
    """A staged import into a JSON namespace. All staged data is in memory too, as that of a JSON namespace is.

    Args:
        backend: the destination.
        stage: the name of the staging folder.
        is_stored: whether what is put is in the stored form already, with the keyring of the namespace.

    """

    def __init__(self, backend: JSONBackend, stage: str = JSON_STAGE, is_stored: bool = False) -> None:
        self._backend = backend
        self._is_stored = is_stored
        self._keyring = backend._keyring if is_stored else backend.keyring()
        self._form = backend._given.opened(self._keyring)
        self._form.check_open()
        self.fileless: Container[str] = ()  # names of checkpoints that get no file
        self._stage = StagingFolder(backend.folder, stage, backend.url)
        self._versions: dict[str, list[Version]] = {}
        self._commits: dict[int, Commit] = {}
        self._marks: list[CheckpointRecord] = []
        self._note: dict[str, Any] | None = None
        self._unsynced = 0  # bytes
        self._settled: Head | None = None  # the head for which the staged files were written
        self._reader: JSONBackend | None = None
        self._is_committed = False  # the history was moved, and the other files follow
        try:
            self._log = self._load()
        except BaseException as error:
            self._stage.release()
            if isinstance(error, OSError):
                raise file_error(error, self._stage.folder) from error
            raise

    def _load(self) -> FileIO:
        """Read the complete lines of the log, cut off an incomplete one, and open the log for more."""
        path = self._stage.path(PUTS)
        if not os.path.exists(path):
            if os.path.exists(self._stage.path("state.json")):
                with self._backend._call(), self._backend._lock():
                    self._backend._refresh()  # completes an interrupted swap
            self._stage.clear()
        self._start_sealing()
        log = open(path, "a+b", buffering=0)  # noqa: SIM115 - open as long as this object
        log.seek(0)
        end = 0
        with open(path, "rb") as lines:
            for line in lines:
                data = check_checksum(line[:-1]) if line.endswith(b"\n") else None
                if data is None:
                    break
                self._add(msgspec.json.decode(data, type=_StagedBatch))
                end += len(line)
        os.ftruncate(log.fileno(), end)
        return log

    def _start_sealing(self) -> None:
        """Take over the keyring of the destination or of what is staged already, or make one if a key was given."""
        path, document = self._stage.path("keyring.json"), self._keyring
        if document is None and not self._is_stored:
            if os.path.exists(path):
                with open(path, "rb") as file:
                    document = file.read()
            else:
                document = self._backend._given.new_keyring()
        if document is not None:
            self._write("keyring.json", document)
        self._keyring, self._form = document, self._backend._given.opened(document)
        self._form.check_open()
        self._values = PLAIN if self._is_stored else self._form

    def _add(self, batch: _StagedBatch) -> None:
        for key in batch.forget:
            self._versions.pop(key, None)
        for base in batch.versions:
            self._versions.setdefault(base.key, []).append(base.version())
        for record in batch.commits:
            self._commits[record.rev] = record.commit()
        if batch.marks is not None:
            self._marks = [mark.stored() for mark in batch.marks]
        self._note = batch.note

    def progress(self) -> dict[str, Any] | None:
        return self._note

    def put(
        self, versions: Iterable[StoredVersion] = (), commits: Iterable[Commit] = (),
        marks: Iterable[CheckpointRecord] | None = None, *,
        note: dict[str, Any], forget: Iterable[str] = (),
    ) -> None:  # fmt: skip
        batch = _StagedBatch(note, list(forget))
        batch.versions = [BaseVersion.of(self._stored(version)) for version in versions]
        batch.commits = [CommitRecord.of(self._values.pack_commit(commit)) for commit in commits]
        if marks is not None:
            batch.marks = [checkpoint_entry(self._values.pack_mark(mark)) for mark in marks]
        line = add_checksum(batch)
        end = os.fstat(self._log.fileno()).st_size
        try:
            write_all(self._log, line)
            self._unsynced += len(line)
            if self._unsynced > SYNC_BYTES:
                os.fsync(self._log.fileno())
                self._unsynced = 0
        except OSError as error:
            os.ftruncate(self._log.fileno(), end)
            raise file_error(error, self._stage.path(PUTS)) from error
        self._settled = None
        self._add(batch)

    def _stored(self, version: StoredVersion) -> Version:
        """Return a version as it is kept."""
        if isinstance(version, CarriedVersion) and version.delta is not None:
            return packed_version(version, version.delta, self._values)
        return self._values.pack_version(version)

    def staged(self, head: Head) -> Backend:
        """Return the backend of the staged data. O(keys) also for every checkpoint, since each is a file."""
        from .backend import JSONBackend

        self._settle(head)
        if self._reader is None:
            backend = self._backend
            self._reader = JSONBackend(self._stage.parent, JSON_STAGE, timeout=backend.timeout, values=backend._given)
        return self._reader

    def build(self, head: Head) -> str:
        """Write the namespace's files with all staged commits, also those below the floor; return their folder."""
        self._settle(head, prune_log=False)
        return self._stage.folder

    def _settle(self, head: Head, prune_log: bool = True) -> None:
        """Write the namespace's files in the staging folder, durably."""
        if self._settled == head:
            return
        if self._reader is not None:
            self._reader.close()
        history = History(head.lineage, self._form)
        history.floor, history.revision = head.floor, head.revision
        history.versions = self._versions
        for mark in self._marks:
            history.marks.add(mark)
        lowest = head.floor if prune_log else -1
        history.commits = [self._commits[revision] for revision in sorted(self._commits) if revision > lowest]
        try:
            os.makedirs(self._stage.path("checkpoints"), exist_ok=True)
            self._write_files(history, head)
            fsync_folder(self._stage.path("checkpoints"))
            fsync_folder(self._stage.folder)
        except OSError as error:
            raise file_error(error, self._stage.folder) from error
        self._settled = head

    def _write_files(self, history: History, head: Head) -> None:
        live = history.live()
        blocks: dict[str, bytes] = {}
        data = document.serialize(live, blocks)
        mtime = now() * 1000
        self._write("state.json", data, mtime)
        for mark in {mark.name: mark for mark in self._marks}.values():
            if not self._backend.checkpoint_files or self._form.sealed or mark.name in self.fileless:
                history.digests[mark.name, mark.revision] = NO_FILE
                continue
            entries = history.state_at(mark.point)
            unchanged = {key: blocks[key] for key, version in entries.items() if live.get(key) is version}
            content = document.serialize(entries, unchanged)
            history.digests[mark.name, mark.revision] = digest(content)
            self._write(os.path.join("checkpoints", f"{mark.name}.json"), content)
        # `before` is the same digest: without it, a missing state.json would be taken for that of a first commit.
        record = CommitRecord(head.revision, head.time, digest(data), digest(data), mtime=mtime, count=len(live))
        if self._form.sealed:
            record.seal()
        self._write("history.jsonl", b"".join(history.to_lines(record)))

    def _write(self, name: str, data: bytes, mtime: int | None = None) -> None:
        with open(self._stage.path(name), "wb") as file:
            file.write(data)
            file.flush()
            if mtime is not None:
                os.utime(file.fileno(), ns=(mtime, mtime))
            os.fsync(file.fileno())

    def finish(self, head: Head, over: bool = False) -> str:
        """Turn the staged data into the namespace. The former one is kept in a folder in the namespace's folder."""
        backend, stage = self._backend, self._stage
        self._settle(head)
        try:
            with backend._call(), backend._lock():
                former, kept = backend._refresh().head, ""
                if former.lineage and not over:
                    raise destination_exists_error(backend.url, backend.namespace, former.revision)
                check_same_keyring(backend._read_keyring(), self._keyring, backend.namespace)
                if former.lineage or os.path.isdir(os.path.join(stage.parent, "checkpoints")):
                    kept = set_aside(stage.parent, ("state.json", "history.jsonl", "checkpoints", "keyring.json"))
                for name in ("state.json", "checkpoints"):
                    replaced_path(os.path.join(stage.parent, name), stage.folder)  # before the first rename
                if self._keyring is not None and backend._read_keyring() != self._keyring:
                    backend._write_keyring(self._keyring)  # before the history, which needs it
                path = replaced_path(backend.history_path, stage.folder)
                os.rename(stage.path("history.jsonl"), path)
                self._is_committed, backend._live, backend._history = True, None, None
                self._complete(os.path.dirname(path))
        except OSError as error:
            if isinstance(error, BackendError):
                raise
            raise file_error(error, stage.folder) from error
        self.drop()
        return kept

    def _complete(self, folder: str) -> None:
        """Move the other files, after the history, which is in `folder`."""
        try:
            fsync_folder(folder)
            finish_swap(self._stage.parent)
        except OSError as error:
            if not is_system_error(error):
                raise
            what = f"{self._stage.folder}: {os.strerror(error.errno or 0)}: not all files were moved out of it"
            raise BackendError(what, "The namespace is complete; its next commit moves them") from error
        self._is_committed = False

    def drop(self) -> None:
        if not self._log.closed:
            if not self._is_committed:
                self._stage.clear()
            self.close()

    def close(self) -> None:
        if self._log.closed:
            return
        if self._reader is not None:
            self._reader.close()
        if not self._is_committed and not os.fstat(self._log.fileno()).st_size:
            self._stage.clear()
        self._log.close()
        self._stage.release()
