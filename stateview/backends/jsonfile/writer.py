"""Commits to the files of one JSON namespace."""

from __future__ import annotations

import os

import msgspec
from msgspec import Raw

from ...errors import COMMITTED, COMMITTED_FOR_NOW, Damaged, ReadOnly, StateException, tells_what_was_done
from ...model import now
from ..conflicts import plain_data_error
from ..files.durable_files import (
    backup_damaged_file,
    file_error,
    fsync_folder,
    is_system_error,
    makedirs_durable,
    remove,
    replaced_path,
    write_temporary,
)
from ..protocol import MAX_EXPIRED_PER_COMMIT, CommitRequest, ProgressCount, Version
from . import document
from .history import History
from .reader import LoadedState, Reader, apply_writes, head_of
from .records import (
    FORMAT,
    NO_FILE,
    CheckpointEntry,
    CommitRecord,
    ValueRecord,
    append_record,
    digest,
    file_digest,
    has_lines,
    is_last,
    read_header,
    truncate_history,
)

_MIN_OVERDUE_REVISIONS = 16
_PACKED_BYTES = 4096  # the size from which a value can call for packing the history
_CLOCK_STEP_NANOSECONDS = 1_000_000_000  # a clock that is further behind was set: state.json gets its time, too
_Content = tuple[dict[str, Version], dict[str, bytes]]  # the entries of a state, and their blocks in state.json


class Writer(Reader):
    """The commits of a namespace, and the completion of those that were cut off."""

    checkpoint_files: bool  # whether checkpoints have files

    def _check_writable(self) -> None:
        if self.read_only:
            raise ReadOnly(f"{self.folder} is open for reading only")
        if not self._may_write():
            hint = "Ask who owns it for the right to write to the folder and all files in it"
            raise ReadOnly(f"{self.folder}: this user may not write to it", hint)

    def _start_sealing(self, live: LoadedState) -> None:
        """Make the keyring of a new namespace if a key was given. Call it under the lock.

        Raises:
            Sealed: the namespace has a keyring, and no key opens it.
            InvalidArgument: the namespace has plain data.

        """
        if live.line is None:
            document = self._read_keyring()
            if document is None and (document := self._given.new_keyring()) is not None:
                self._write_keyring(document)
            self._use_keyring(document)
        self.values.check_open()
        if not self.values.ready:
            raise plain_data_error(self.namespace)

    def _write_keyring(self, document: bytes) -> None:
        """Write the keyring durably. Call it under the lock."""
        try:
            path = replaced_path(self.keyring_path, self.folder)
            self._rename([(write_temporary(self.keyring_path, document), path)])
        except OSError as error:
            raise file_error(error, self.keyring_path) from error

    def _makes_files(self) -> bool:
        """Return whether checkpoints get files. Those of sealed values would be of use to nobody."""
        return self.checkpoint_files and not self.values.sealed

    def _packed(self, request: CommitRequest, revision: int) -> CommitRequest:
        """Return a request with the stored forms of the values that it writes at a revision."""
        if self.values.plain:
            return request
        pack, replace = self.values.pack, msgspec.structs.replace
        writes = {
            key: write if write.value is None else replace(write, value=pack(write.value, key, revision))
            for key, write in request.writes.items()
        }
        return replace(request, writes=writes)

    def _apply(self, live: LoadedState, request: CommitRequest) -> LoadedState:
        """Commit a request whose preconditions are met and whose values are packed; return the new state."""
        history = self._past() if request.marks or request.unmarks else None
        clock = now()
        moment, start = request.time or max(clock, live.head.time + 1), request.time or clock
        revision = live.head.revision
        request = _with_expired(live, request, clock)
        line = self._record(live.line, request, revision, revision + bool(request.writes), moment, start)
        entries, blocks = dict(live.entries), dict(live.blocks)
        for key in apply_writes(entries, line):
            blocks.pop(key, None)
        data = document.serialize(entries, blocks)
        line.count, line.digest = len(entries), digest(data)
        line.lineage = live.head.lineage or os.urandom(16).hex()
        line.floor = live.head.floor
        line.replaced, line.before_mtime = live.replaced, live.signature[0] if live.signature is not None else 0
        self._write(live, line, data, history, (entries, blocks))
        keys = live.keys if live.keys is not None and entries.keys() == live.entries.keys() else None
        unchecked = frozenset(name for name, _ in line.unmarks) - {mark.name for mark in line.marks}
        self._live = LoadedState(
            self._signature(), head_of(line), entries, line, keys, blocks, unchecked=unchecked, values=self.values
        )
        with tells_what_was_done(lambda: COMMITTED):
            try:
                if line.fileless:
                    from .maintenance import remove_leftover_checkpoints

                    remove_leftover_checkpoints(self.folder, self._past())
                self._tidy(line)
                return self._refresh()
            except OSError as error:
                raise file_error(error, self.folder) from error

    def _is_pack_due(self, line: CommitRecord) -> bool:
        """Return whether to pack the history after a commit: once it is longer by a quarter.

        Only a commit of a large value packs, and none packs a file that an older release began: that is for `compact`.
        """
        if not any(len(bytes(item.value)) >= _PACKED_BYTES for item in line.set.values() if item.value):
            return False
        header = read_header(self.history_path)
        longer = os.stat(self.history_path).st_size - header.packed
        return header.format >= FORMAT and longer > max(header.packed // 4, _PACKED_BYTES)

    def _tidy(self, line: CommitRecord) -> None:
        """Prune, after a commit, if enough revisions are overdue; else pack the history, if that is due."""
        overdue = line.rev - line.floor > self.keep + max(_MIN_OVERDUE_REVISIONS, self.keep // 4)
        if overdue or self._is_pack_due(line):
            try:
                self._compact(line.rev - self.keep if overdue else line.floor)
            except Damaged:
                raise
            except StateException:
                pass  # the commit is complete, and the next one tries again

    def _record(
        self, last: CommitRecord | None, request: CommitRequest, revision: int, new: int, moment: int, start: int
    ) -> CommitRecord:
        """Make the record of a commit, still without what the new state.json and the checkpoints' files determine.

        Its time is `moment`, which rises even if the clock steps back. Durations begin at `start`, by the clock.
        """
        text = self.values.pack_text
        record = CommitRecord(new, moment, "", undo=request.undo)
        record.reason = text(request.reason, "reason", "", new)
        record.author = text(request.author, "author", "", new)
        if self.values.sealed:
            record.seal()
        record.keys = len(request.writes)
        record.before = last.digest if last is not None else ""
        record.mtime = now() * 1000
        if last is not None and record.mtime <= last.mtime < record.mtime + _CLOCK_STEP_NANOSECONDS:
            record.mtime = last.mtime + 1
        for key, write in request.writes.items():
            if write.value is None:
                record.delete.append(key)
            else:
                record.set[key] = ValueRecord(Raw(write.value), start + write.ttl if write.ttl else 0, write.time)
        for mark in request.marks:
            at = mark.revision_in(revision, new)
            note = text(mark.note, "note", mark.name, at)
            record.marks.append(CheckpointEntry(mark.name, at, mark.time or start, note, "", mark.kind))
        record.unmarks = list(request.unmarks)
        return record

    def _write(
        self, live: LoadedState, line: CommitRecord, data: bytes, history: History | None, after: _Content
    ) -> None:
        """Write a commit: temporary files, then the history's line, then the renames. `after` is the new state."""
        renames: list[tuple[str, str]] = []
        size = None
        stands = False  # whether the commit counts although it failed
        changed = live.line is None or line.digest != live.line.digest or line.replaced != ""
        try:
            line.fileless = not self._makes_files() and bool(line.marks or line.unmarks)
            for mark in line.marks:
                if line.fileless:
                    mark.digest = NO_FILE
                    continue
                states = {live.head.revision: (live.entries, live.blocks), line.rev: after}
                content = self._checkpoint_content(states, mark, history)
                mark.digest = digest(content)
                path = self._checkpoint_path(mark.name)
                makedirs_durable(os.path.dirname(path))
                if history is not None:
                    self._keep_edited(path, mark.name, history)
                path = replaced_path(path, self.folder)
                renames.append((write_temporary(self._temporary_stem(mark.name), content), path))
            if changed:
                path = replaced_path(self.state_path, self.folder)
                renames.append((write_temporary(self.state_path, data, line.mtime), path))
            else:
                line.mtime = live.line.mtime if live.line is not None else 0
            size = append_record(self.history_path, line, now())
            self._rename(renames)
        except BaseException as error:
            try:
                # Other processes may have read a complete line, or the renamed state.json: then the commit stands.
                if not is_system_error(error):  # Ctrl-C, or the exception of another signal's handler
                    if is_last(self.history_path, line):
                        self._rename([pair for pair in renames if os.path.exists(pair[0])])
                elif size is not None:
                    stands = True
                    if not (changed and (self._signature() or (0,))[0] == line.mtime):
                        truncate_history(self.history_path, size)
                        stands = False
            finally:
                self._abandon(renames)
                if isinstance(error, OSError):
                    made = COMMITTED_FOR_NOW if stands else ""
                    with tells_what_was_done(lambda: made):
                        raise file_error(error, self.folder) from error
            raise

    def _rename(self, renames: list[tuple[str, str]]) -> None:
        """Give the temporary files of a commit their names, durably."""
        for name, path in renames:
            os.rename(name, path)
        for folder in {self.folder, *(os.path.dirname(path) for _, path in renames)}:
            fsync_folder(folder)

    def _abandon(self, renames: list[tuple[str, str]]) -> None:
        """Remove the temporary files of a commit that failed, and forget the state that was read before it."""
        for name, _ in renames:
            remove(name)
        self._live = self._history = None

    def _checkpoint_content(self, states: dict[int, _Content], mark: CheckpointEntry, history: History | None) -> bytes:
        if mark.revision in states:
            live, blocks = states[mark.revision]
            entries = {key: version for key, version in live.items() if version.visible(mark.time)}
            return document.serialize(entries, blocks if len(entries) == len(live) else {})
        assert history is not None
        return document.serialize(history.state_at(mark.stored().point), {})

    def _checkpoint_path(self, name: str) -> str:
        return os.path.join(self.folder, "checkpoints", f"{name}.json")

    def _temporary_stem(self, name: str) -> str:
        """Return the path beside which a checkpoint's file is begun: in the folder whose stale files are removed."""
        return os.path.join(self.folder, f"{name}.json")

    def _complete_rename(self, live: LoadedState) -> LoadedState:
        """Write the state.json of a commit whose process was killed before its rename. Call it under the lock."""
        line = live.line
        assert line is not None
        from .transfer import finish_swap, staged_state

        if staged_state(self.folder, line.digest) is not None:
            finish_swap(self.folder)
        else:
            data = document.serialize(live.entries, live.blocks)
            if digest(data) != line.digest:
                what = f"{self.state_path} is one commit behind, and its content does not lead to that commit"
                raise Damaged(what, document.RECOVER)
            try:
                path = replaced_path(self.state_path, self.folder)
                self._rename([(write_temporary(self.state_path, data, line.mtime), path)])
            except OSError as error:
                raise file_error(error, self.state_path) from error
            from ..notes import say

            what = f"{self.state_path} was missing revision {line.rev}"
            say(f"{what}: the process that wrote it was killed. It has been completed.")
        live.signature, live.behind = self._signature(), False
        return live

    def _update_checkpoint_file(self, name: str) -> None:
        """Make the file of a name that of its newest checkpoint, or remove it if there is none."""
        history = self._past()
        mark = history.marks.newest(name)
        path = self._checkpoint_path(name)
        if mark is not None and not history.has_file(name):
            from .maintenance import remove_leftover_checkpoint

            remove_leftover_checkpoint(path, name, history)
            return
        found = self._keep_edited(path, name, history)
        if mark is None:
            remove(path)
        elif found is None or found != history.digests.get((name, mark.revision)):
            content = document.serialize(history.state_at(mark.point), {})
            makedirs_durable(os.path.dirname(path))
            path = replaced_path(path, self.folder)
            os.rename(write_temporary(self._temporary_stem(name), content), path)

    def _keep_edited(self, path: str, name: str, history: History) -> str | None:
        """Keep a checkpoint's file that is to be replaced under a second name, if a person has edited it.

        Returns:
            the file's digest, None if there is no file.

        """
        found = file_digest(path)
        if found is not None and not history.wrote(name, found):
            from ..notes import say

            say(f"{path} was not what was last written; it is kept as {backup_damaged_file(path)}")
        return found

    def _compact(self, floor: int, progress: ProgressCount | None = None) -> int:
        """Rewrite the history without the versions that `Backend.compact` removes; return how many these are."""
        with self._lock():
            live = self._refresh()
            self.values.check_open()
            history = self._past()
            if live.line is None or history.last is None:
                return 0
            if progress is not None:
                progress(0, sum(map(len, history.versions.values())))
            from ..prune_progress import PruneProgress
            from .maintenance import remove_leftover_checkpoints

            done = PruneProgress(history.floor, history.floor)
            self._history = None  # until the file is as the history is then
            removed = history.trim(floor)
            if not self._makes_files():
                history.forget_files()
            last = msgspec.structs.replace(live.line, floor=history.floor, lineage=history.lineage)
            data = b"".join(history.to_lines(last))
            try:
                remove_leftover_checkpoints(self.folder, history)
                if has_lines(self.history_path, data):
                    return removed
                path = replaced_path(self.history_path, self.folder)
                new = write_temporary(self.history_path, data)
                try:
                    self._rename([(new, path)])
                finally:
                    if not os.path.exists(new):
                        done.floor, done.versions = history.floor, removed
                self._history = history
            except OSError as error:
                with tells_what_was_done(done.text):
                    raise file_error(error, self.history_path) from error
            finally:
                self._live = None
            return removed


def _with_expired(live: LoadedState, request: CommitRequest, moment: int) -> CommitRequest:
    """Return a request that also deletes some expired entries, so that they do not stay in state.json."""
    if not request.writes:
        return request
    expired = [key for key, version in live.entries.items() if version.expires and version.expires <= moment]
    deletes = {key: document.DELETE for key in expired[:MAX_EXPIRED_PER_COMMIT] if key not in request.writes}
    return msgspec.structs.replace(request, writes={**deletes, **request.writes}) if deletes else request
