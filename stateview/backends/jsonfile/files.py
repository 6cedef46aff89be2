"""The files of one JSON namespace: load the state, take in edits and older layouts, write commits.

A commit writes the new state.json to a temporary file, appends its line to the history, and renames. The commit counts
from the moment that the line is complete. If state.json is one commit behind, the next writer completes the rename.
All values are in their stored form.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
from msgspec import Raw, Struct

from ...errors import Damaged, ReadOnly, StateException, tells_what_was_done
from ...model import now
from ..conflicts import history_pruned_error
from ..durable_files import (
    backup_damaged_file,
    check_links,
    file_error,
    file_lock,
    fsync_folder,
    is_system_error,
    makedirs_durable,
    remove,
    remove_stale_temporary_files,
    replaced_path,
    write_temporary,
)
from ..fork import watch_fork
from ..protocol import MAX_EXPIRED_PER_COMMIT, CommitRequest, Head, ProgressCount, Version, Write
from ..prune_progress import PruneProgress
from ..reentry import is_owned
from ..stored_values import StoredValues
from . import document
from .history import History
from .records import (
    CheckpointEntry,
    CommitRecord,
    ValueRecord,
    append_record,
    digest,
    file_digest,
    is_last,
    last_line,
    marked,
    truncate_history,
    written,
)

_MAX_ATTEMPTS = 5  # reads without the lock, while writers rename between the reads of two files
_COMMITTED = "The commit was made"
_CONVERTED = "The older layout was converted, and the next call completes its files"
_LEGACY_LINEAGE = "older"  # of data of an older layout that is read but not converted
_MIN_OVERDUE_REVISIONS = 16
_NO_DIGEST = "-"  # of a state that never was in a state.json
_CLOCK_STEP_NANOSECONDS = 1_000_000_000  # a clock that is further behind was set: state.json gets its time, too

Signature = tuple[int, ...]
"""Modification time, size and inode of state.json, then of the history. Another signature means other content."""


class LoadedState(Struct):
    """The live state in memory.

    Attributes:
        signature: the signature of the files that it was read from; None if there are none.
        head: the head; its `count` includes expired entries.
        entries: the last version of every key that is not deleted, expired ones included.
        line: the record of the last commit; None without a history.
        keys: the sorted keys, once they are needed.
        blocks: the text of each entry in state.json, as far as it is known.
        behind: whether state.json is still that of the commit before `line`.
        unchecked: names of checkpoints that `line` made or deleted, whose files may be those from before it.
        replaced: the digest of a state.json that no commit wrote: it was edited by hand, or is of an older layout.

    """

    signature: Signature | None
    head: Head
    entries: dict[str, Version]
    line: CommitRecord | None = None
    keys: list[str] | None = None
    blocks: dict[str, bytes] = {}
    behind: bool = False
    unchecked: frozenset[str] = frozenset()
    replaced: str = ""

    def sorted_keys(self) -> list[str]:
        """Return the keys of the entries, sorted. O(keys log keys) the first time."""
        if self.keys is None:
            self.keys = sorted(self.entries)
        return self.keys


class NamespaceFiles:
    """The files of one namespace, read into memory and written as commits. Safe for threads, processes and forks."""

    def __init__(
        self, root: str, namespace: str, read_only: bool, history: int, timeout: float, values: StoredValues
    ) -> None:
        self.root = os.path.abspath(root)
        self.namespace = namespace
        self.folder = os.path.join(self.root, namespace)
        self.state_path = os.path.join(self.folder, "state.json")
        self.history_path = os.path.join(self.folder, "history.jsonl")
        self.read_only = read_only
        self.keep = history
        self.timeout = timeout
        self.values = values
        self._mutex = threading.RLock()
        self._locked = False
        self._live: LoadedState | None = None
        self._history: History | None = None
        watch_fork(self)

    def before_fork(self) -> None:
        """Acquire the mutex, so that the child copies the state of no unfinished call."""
        self._mutex.acquire()

    def after_fork(self, child: bool) -> None:
        """Release the mutex, or give the child its own."""
        if child:
            self._mutex = threading.RLock()
            self._live = self._history = None  # half updated, if the fork came in the middle of a call of its thread
        else:
            self._mutex.release()

    @contextmanager
    def _call(self) -> Iterator[None]:
        """Run a public call alone in this process.

        A call in the middle of another call of its thread sees the files only: what is in memory may be half updated.
        """
        reentered = is_owned(self._mutex)
        with self._mutex:
            if not reentered:
                self._locked = False  # an exception of a signal handler can end a call anywhere
                yield
                return
            memory = self._live, self._history, self._locked
            self._live = self._history = None
            self._locked = False
            try:
                yield
            finally:
                self._live, self._history, self._locked = memory

    # --- loading -----------------------------------------------------------------------------------------------

    def _signature(self) -> Signature | None:
        try:
            return _sign(os.stat(self.state_path)) + self._sign_history()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise file_error(error, self.state_path) from error

    def _sign_history(self) -> Signature:
        try:
            return _sign(os.stat(self.history_path))
        except FileNotFoundError:
            return ()

    def _refresh(self) -> LoadedState:
        """Return the live state. Reads the files again only if their signature has changed.

        The signature includes the history: a commit counts from its line on, even if its process was killed before it
        renamed state.json. A commit that deletes an absent key leaves state.json as it was.
        """
        with self._mutex:
            live = self._live
            if live is None or live.signature is None or live.signature != self._signature():
                live = self._read_patiently()
            if self._locked and self._may_write():
                if live.behind:
                    live = self._complete_rename(live)
                if live.unchecked:
                    names, live.unchecked, self._live = live.unchecked, frozenset(), live
                    for name in names:
                        self._update_checkpoint_file(name)
            self._live = live
            return live

    def _read_patiently(self) -> LoadedState:
        for _ in range(_MAX_ATTEMPTS):
            if (live := self._read()) is not None:
                return live
        with self._lock():
            return self._read() or self._settle()

    def _read(self) -> LoadedState | None:
        """Read the live state without the lock; None if the two files do not fit together (yet)."""
        signature, data = None, b""
        try:
            with open(self.state_path, "rb", buffering=0) as file:
                signature = _sign(os.fstat(file.fileno())) + self._sign_history()
                data = file.readall() or b""
        except FileNotFoundError:
            pass
        except OSError as error:
            raise file_error(error, self.state_path) from error
        try:
            line = last_line(self.history_path)[0]
        except FileNotFoundError:
            return self._adopt(data, signature)
        except OSError as error:
            raise file_error(error, self.history_path) from error
        if line is None:
            return self._adopt(data, signature) if signature is None else None
        state_digest = digest(data) if signature is not None else ""
        unchecked = frozenset[str]() if line.settled else marked(line)
        if behind := state_digest != line.digest:
            from .transfer import staged_state

            if (staged := staged_state(self.folder, line.digest)) is not None:
                entries = document.parse(staged, self.state_path)
                self._check_count(entries, line)
                return LoadedState(None, _head(line), entries, line, behind=True)
        if behind and not line.is_before(state_digest, signature[0] if signature is not None else 0):
            return None
        if behind and (line.replaced or not line.writes()):
            entries = self._read_history().live()
        else:
            entries = document.parse(data, self.state_path) if signature is not None else {}
        if behind:  # a commit between its line and its rename, now or before a crash
            _apply_writes(entries, line)
        else:
            self._check_count(entries, line)
        return LoadedState(signature, _head(line), entries, line, behind=behind, unchecked=unchecked)

    def _check_count(self, entries: dict[str, Version], line: CommitRecord) -> None:
        if len(entries) != line.count:
            raise Damaged(f"{self.state_path} holds {len(entries)} entries instead of {line.count}")

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
            what = f"{self.state_path} was missing revision {line.rev}"
            _warn(f"{what}: the process that wrote it was killed. It has been completed.")
        live.signature, live.behind = self._signature(), False
        return live

    def _settle(self) -> LoadedState:
        """Take in an edit by hand, under the lock.

        state.json is neither that of the last commit nor that of the one before.

        Raises:
            Damaged: the file was not edited but damaged, or the edit is not valid.

        """
        history = self._read_history()
        line = history.last
        if line is None:
            raise Damaged(f"{self.history_path} holds no commit, but there is a {self.state_path}", document.RECOVER)
        signature = self._signature()
        if signature is None:
            raise Damaged(f"{self.state_path} is missing, and its history exists", document.RECOVER)
        if not document.is_edited(signature[0], line.mtime):
            raise Damaged(f"{self.state_path} is not what was last written, and was not edited since", document.RECOVER)
        with open(self.state_path, "rb") as file:
            data = file.read()
        edited = document.parse_edited(data, self.state_path, now())
        if any(version.revision > line.rev for version in edited.values()):
            raise Damaged(f"{self.history_path} ends at revision {line.rev}, and state.json is later", document.RECOVER)
        before = history.live()
        head = Head(line.rev, line.time, len(before), line.floor, line.lineage)
        live = LoadedState(signature, head, dict(before), line)
        request = CommitRequest(writes=document.edits(before, edited), reason="edited outside")
        self._check_edits(request.writes, line.rev + 1)
        if not self._may_write():  # show the commit of the edit, in a history that is read anew after this one
            moment = max(now(), line.time + 1)
            record = self._record(line, request, line.rev, line.rev + bool(request.writes), moment, moment)
            record.digest = _NO_DIGEST
            history.add(record)
            history.first, history.signature = b"", signature[3:]
            live.entries = history.live()
            is_edited = history.revision > line.rev
            live.head = Head(history.revision, moment, len(live.entries), line.floor, line.lineage, is_edited)
            return live
        if request.writes:
            keys = f"{len(request.writes)} key{'s' if len(request.writes) > 1 else ''}"
            _warn(
                f"{self.state_path} was edited outside; taken in as revision {line.rev + 1} ({keys})"
                " - 'stateview undo' takes it back"
            )
        live.replaced = digest(data)
        return self._apply(live, request)

    def _check_edits(self, writes: dict[str, Write], revision: int) -> None:
        """Raise `Damaged` if a value that was edited by hand is not in the stored form."""
        for key, write in writes.items():
            if write.value is not None:
                try:
                    self.values.unpack(write.value, key, revision)
                except Damaged as error:
                    what = f"{self.state_path}: the entry {key[:60]!r}: {error.message}"
                    raise Damaged(what, error.next_steps) from error

    def _adopt(self, data: bytes, signature: Signature | None) -> LoadedState | None:
        """Load a namespace without a history: a new one, or data of an older layout, which is converted under the lock.

        Returns None if the lock is needed.
        """
        from ..legacy import json_files
        from ..legacy.adoption import LegacyState, adoption_requests

        if signature is None:
            check_links(self.root, self.folder, self.state_path, self.history_path)
        states: list[LegacyState] = []
        if file := json_files.refers_to_history(self.folder, data if signature is not None else None):
            if os.path.exists(self.history_path):
                return None  # another process has just made the namespace, and its first checkpoint
            raise Damaged(f"{self.history_path} is missing, but {file} refers to it", document.RECOVER)
        if signature is not None:
            states = json_files.read_state_file(self.folder, data)
        elif self.namespace == "default":
            states = json_files.read_key_files(self.root)
        if not states:
            return LoadedState(None, Head(), {})
        may_write = self._may_write()
        if may_write and not self._locked:
            return None
        requests = [self._packed(request) for request in adoption_requests(states)]
        history = History(os.urandom(16).hex() if may_write else _LEGACY_LINEAGE)
        for request in requests:
            revision, moment = history.revision, request.time or now()
            record = self._record(history.last, request, revision, revision + bool(request.writes), moment, moment)
            record.digest = _NO_DIGEST
            history.add(record)
        if may_write:
            return self._convert(history, data, signature)
        self._history = history
        entries = history.live()
        return LoadedState(signature, Head(history.revision, now(), len(entries), 0, _LEGACY_LINEAGE), entries)

    def _convert(self, history: History, data: bytes, signature: Signature | None) -> LoadedState | None:
        """Write the files of a namespace of an older layout, of which `history` was made. Call it under the lock.

        The history comes first, and at once: only the older files hold the later states until then.
        """
        replaced = digest(data) if signature is not None else ""
        if history.last is None:
            return LoadedState(signature, Head(), {}, replaced=replaced)
        renames = []
        entries = history.live()
        content = document.serialize(entries, {})
        last = msgspec.structs.replace(history.last, digest=digest(content), before="", count=len(entries))
        last.replaced, last.before_mtime = replaced, signature[0] if signature is not None else 0
        try:
            for mark in {mark.name: mark for mark in history.marks}.values():
                state = document.serialize(history.state_at(mark.point), {})
                history.digests[mark.name, mark.revision] = digest(state)
                path = self._checkpoint_path(mark.name)
                makedirs_durable(os.path.dirname(path))
                if (former := file_digest(path)) is not None:
                    last.left.append((mark.name, former))
                path = replaced_path(path, self.folder)
                renames.append((write_temporary(self._temporary_stem(mark.name), state), path))
            path = replaced_path(self.state_path, self.folder)
            renames.append((write_temporary(self.state_path, content, last.mtime), path))
            lines = b"".join(history.to_lines(last, settled=False))
            path = replaced_path(self.history_path, self.folder)
            with tells_what_was_done(lambda: _CONVERTED if os.path.exists(path) else ""):
                try:
                    self._rename([(write_temporary(self.history_path, lines), path)])
                    self._rename(renames)
                except OSError as error:
                    raise file_error(error, self.folder) from error
        finally:
            self._abandon(renames)
        return self._read()

    def _past(self, *revisions: int) -> History:
        """Return the history, up to date.

        Raises:
            HistoryPruned: one of the revisions is not kept.

        """
        live, history = self._refresh(), self._history
        if history is None or live.head.lineage != _LEGACY_LINEAGE:
            signature = () if live.signature is None else live.signature[3:]
            revision = live.head.revision  # a history that shows an edit is one ahead of the file
            if history is None or not signature or (history.signature, history.revision) != (signature, revision):
                history = self._read_history()
                history.signature = signature
        for revision in revisions:
            if not history.is_kept(revision):
                raise history_pruned_error(self.namespace, revision, history.floor)
        return history

    def _read_history(self) -> History:
        known = self._history  # which `close` forgets at any time
        try:
            history = History.load(self.history_path, known)
        except FileNotFoundError:  # there is no namespace: `_refresh` raises an error if the history alone is missing
            history = known if known is not None and known.lineage == _LEGACY_LINEAGE else History()
        except OSError as error:
            raise file_error(error, self.history_path) from error
        self._history = history
        return history

    # --- writing -----------------------------------------------------------------------------------------------

    def _check_writable(self) -> None:
        if self.read_only:
            raise ReadOnly(f"{self.folder} is open for reading only")
        if not self._may_write():
            hint = "Ask who owns it for the right to write to the folder and all files in it"
            raise ReadOnly(f"{self.folder}: this user may not write to it", hint)

    def _may_write(self) -> bool:
        """Return whether this process may write. Who may not can still read, as with `read_only`."""
        return not self.read_only and (os.access(self.folder, os.W_OK) or not os.path.isdir(self.folder))

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """Hold the folder's lock. A read-only backend makes no lock file, and goes on without a lock if none exists."""
        with self._mutex:
            path = os.path.join(self.folder, "lock")
            may_write = self._may_write()
            if self._locked or (not may_write and not os.path.exists(path)):
                yield
                return
            try:
                with file_lock(path, self.timeout, create=may_write):
                    self._locked = True
                    try:
                        if may_write:
                            remove_stale_temporary_files(self.folder)
                        yield
                    finally:
                        self._locked = False
            except OSError as error:
                raise file_error(error, self.folder) from error

    def _packed(self, request: CommitRequest) -> CommitRequest:
        """Return a request with the stored forms of its values."""
        if self.values.plain:
            return request
        pack, replace = self.values.pack, msgspec.structs.replace
        writes = {
            key: write if write.value is None else replace(write, value=pack(write.value, key))
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
        for key in _apply_writes(entries, line):
            blocks.pop(key, None)
        data = document.serialize(entries, blocks)
        line.count, line.digest = len(entries), digest(data)
        line.lineage = live.head.lineage or os.urandom(16).hex()
        line.floor = live.head.floor
        line.replaced, line.before_mtime = live.replaced, live.signature[0] if live.signature is not None else 0
        self._write(live, line, data, history)
        keys = live.keys if live.keys is not None and entries.keys() == live.entries.keys() else None
        unchecked = frozenset(name for name, _ in line.unmarks) - {mark.name for mark in line.marks}
        self._live = LoadedState(self._signature(), _head(line), entries, line, keys, blocks, unchecked=unchecked)
        with tells_what_was_done(lambda: _COMMITTED):
            try:
                self._trim(line)
                return self._refresh()
            except OSError as error:
                raise file_error(error, self.folder) from error

    def _trim(self, line: CommitRecord) -> None:
        """Prune, after a commit, if enough revisions are overdue."""
        if line.rev - line.floor > self.keep + max(_MIN_OVERDUE_REVISIONS, self.keep // 4):
            try:
                self._compact(line.rev - self.keep)
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
        record = CommitRecord(new, moment, "", reason=request.reason, author=request.author, undo=request.undo)
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
            at = revision if mark.revision is None else mark.revision
            record.marks.append(CheckpointEntry(mark.name, at, mark.time or start, mark.note, "", mark.kind))
        record.unmarks = list(request.unmarks)
        return record

    def _write(self, live: LoadedState, line: CommitRecord, data: bytes, history: History | None) -> None:
        """Write a commit: temporary files, then the history's line, then the renames."""
        renames: list[tuple[str, str]] = []
        size = None
        stands = False  # whether the commit counts although it failed
        changed = live.line is None or line.digest != live.line.digest or line.replaced != ""
        try:
            for mark in line.marks:
                content = self._checkpoint_content(live, mark, history)
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
                    made = f"{_COMMITTED}, though a loss of power may undo it" if stands else ""
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

    def _checkpoint_content(self, live: LoadedState, mark: CheckpointEntry, history: History | None) -> bytes:
        if mark.revision == live.head.revision:
            entries = {key: version for key, version in live.entries.items() if version.visible(mark.time)}
            return document.serialize(entries, live.blocks if len(entries) == len(live.entries) else {})
        assert history is not None
        return document.serialize(history.state_at(mark.stored().point), {})

    def _checkpoint_path(self, name: str) -> str:
        return os.path.join(self.folder, "checkpoints", f"{name}.json")

    def _temporary_stem(self, name: str) -> str:
        """Return the path beside which a checkpoint's file is begun: in the folder whose stale files are removed."""
        return os.path.join(self.folder, f"{name}.json")

    def _update_checkpoint_file(self, name: str) -> None:
        """Make the file of a name that of its newest checkpoint, or remove it if there is none."""
        history = self._past()
        mark = history.marks.newest(name)
        path = self._checkpoint_path(name)
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
            _warn(f"{path} was not what was last written; it is kept as {backup_damaged_file(path)}")
        return found

    def _compact(self, floor: int, progress: ProgressCount | None = None) -> int:
        """Rewrite the history without the versions that `Backend.compact` removes; return how many these are."""
        with self._lock():
            live = self._refresh()
            history = self._past()
            if live.line is None or history.last is None:
                return 0
            if progress is not None:
                progress(0, sum(map(len, history.versions.values())))
            from .maintenance import remove_leftover_checkpoints

            done = PruneProgress(history.floor, history.floor)
            removed = history.trim(floor)
            last = msgspec.structs.replace(live.line, floor=history.floor, lineage=history.lineage)
            data = b"".join(history.to_lines(last))
            try:
                remove_leftover_checkpoints(self.folder, history)
                path = replaced_path(self.history_path, self.folder)
                new = write_temporary(self.history_path, data)
                try:
                    self._rename([(new, path)])
                finally:
                    if not os.path.exists(new):
                        done.floor, done.versions = history.floor, removed
            except OSError as error:
                with tells_what_was_done(done.text):
                    raise file_error(error, self.history_path) from error
            finally:
                self._history = self._live = None
            return removed


def _sign(stat: os.stat_result) -> Signature:
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


def _head(line: CommitRecord) -> Head:
    return Head(line.rev, line.time, line.count, line.floor, line.lineage)


def _apply_writes(entries: dict[str, Version], line: CommitRecord) -> list[str]:
    """Apply a commit to the entries before it, and return the keys that it wrote."""
    versions = written(line)
    for version in versions:
        if version.value is None:
            entries.pop(version.key, None)
        else:
            entries[version.key] = version
    return [version.key for version in versions]


def _with_expired(live: LoadedState, request: CommitRequest, moment: int) -> CommitRequest:
    """Return a request that also deletes some expired entries, so that they do not stay in state.json."""
    if not request.writes:
        return request
    expired = [key for key, version in live.entries.items() if version.expires and version.expires <= moment]
    deletes = {key: document.DELETE for key in expired[:MAX_EXPIRED_PER_COMMIT] if key not in request.writes}
    return msgspec.structs.replace(request, writes={**deletes, **request.writes}) if deletes else request


def _warn(text: str) -> None:
    """Print a warning for the person at the terminal."""
    print(f"stateview: {text}", file=sys.stderr, flush=True)
