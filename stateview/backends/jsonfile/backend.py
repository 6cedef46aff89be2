"""JSON files: `ROOT/NS/state.json` for people and `jq`, beside it the history that makes every promise.

A commit writes the new state.json into a temporary file, appends its line to the history, and renames. From the
moment the line is whole the commit counts: whoever finds state.json one commit behind finishes the rename.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice

import msgspec
from msgspec import Raw, Struct

from ...errors import BackendError, Damaged, ReadOnly, StateException
from ...model import Commit, Finding, now
from ..conflicts import check_preconditions, history_pruned_error
from ..durable_files import (
    file_error,
    file_lock,
    fsync_folder,
    makedirs_durable,
    remove,
    remove_stale_temporary_files,
    write_temporary,
)
from ..fork import watch_fork
from ..key_ranges import encodable_bound, key_range
from ..namespace_folders import folder_identity, folders_with
from ..protocol import (
    MAX_EXPIRED_PER_COMMIT,
    SUMMARY_BYTES,
    CheckpointRecord,
    CommitRequest,
    DiskUsage,
    Head,
    KeySummary,
    ProgressCount,
    ProgressText,
    RecoverySession,
    StagedImport,
    StateAt,
    StoredVersion,
    StoreIdentity,
    SupersededVersion,
    Version,
    Write,
)
from ..stored_values import PLAIN, StoredValues
from . import document
from .history import (
    CheckpointEntry,
    CommitRecord,
    Header,
    History,
    ValueRecord,
    add_checksum,
    digest,
    last_line,
    written,
)

POLL_SECONDS = 0.05  # seconds between looks of `wait`
_MAX_ATTEMPTS = 5  # reads without the lock, while writers rename between two of ours

Signature = tuple[int, ...]  # what stat says of state.json and of the history


class _LoadedState(Struct):
    """The present state in memory, and the signature of the files that it was read from.

    `behind` where state.json itself still is that of the commit before.
    """

    signature: Signature | None
    head: Head
    entries: dict[str, Version]
    line: CommitRecord | None = None
    keys: list[str] | None = None
    blocks: dict[str, bytes] = {}
    behind: bool = False

    def sorted_keys(self) -> list[str]:
        if self.keys is None:
            self.keys = sorted(self.entries)
        return self.keys


class JSONBackend:
    """State of one namespace in JSON files.

    Args:
        root: the folder of the store; the namespace is a folder in it. Made at the first commit.
        namespace: a checked name.
        read_only: never write, not even to adopt older data or take in an edit by hand.
        history: superseded versions are kept for this many revisions at least.
        timeout: seconds to wait for another writer.
        values: the stored form of values.

    All values in memory and in the files are in their stored form. Methods that take or return values convert them.
    """

    kind = "json"
    rewrites_state = True
    editable_by_hand = True

    def __init__(
        self, root: str, namespace: str, *, read_only: bool = False, history: int = 10_000, timeout: float = 10.0,
        values: StoredValues = PLAIN,
    ) -> None:  # fmt: skip
        self.root = os.path.abspath(root)
        self.url = f"json:{root}"
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
        self._live: _LoadedState | None = None
        self._history: History | None = None
        watch_fork(self)

    def before_fork(self) -> None:
        """No other thread holds the lock, of which the child would have a copy."""
        self._mutex.acquire()

    def after_fork(self, child: bool) -> None:
        """Give the child a mutex of its own."""
        if child:
            self._mutex = threading.RLock()
        else:
            self._mutex.release()

    # --- reading -----------------------------------------------------------------------------------------------

    def identity(self) -> StoreIdentity:
        """See `Backend.identity`. The folder, as the file system knows it."""
        return folder_identity(self.folder)

    def now(self) -> int:
        """Return the machine's clock."""
        return now()

    def head(self) -> Head:
        """See `Backend.head`. O(keys) after a change by another process."""
        live = self._refresh()
        moment = now()
        gone = sum(1 for version in live.entries.values() if version.expires and version.expires <= moment)
        return msgspec.structs.replace(live.head, count=len(live.entries) - gone)

    def get(self, key: str) -> Version | None:
        """See `Backend.get`. Two stats, and O(1)."""
        live = self._live
        if live is None or live.signature is None or live.signature != self._signature():
            live = self._refresh()
        version = live.entries.get(key)
        if version is None or (version.expires and not version.visible(now())):
            return None
        return version if self.values.plain else self._unpacked(version)

    def read(self, keys: Iterable[str], at: StateAt | None = None) -> dict[str, Version]:
        if at is None:
            entries, moment = self._refresh().entries, now()
            found = ((key, entries.get(key)) for key in keys)
            return {
                key: self._unpacked(version)
                for key, version in found
                if version is not None and version.visible(moment)
            }
        with self._mutex:
            history = self._past(at.revision)
            past = ((key, history.version_at(key, at)) for key in keys)
            return {key: self._unpacked(version) for key, version in past if version is not None}

    def _unpacked(self, version: Version) -> Version:
        """Return a version with its encoded value instead of the stored form."""
        if self.values.plain or version.value is None:
            return version
        value = self.values.unpack(version.value, version.key, version.revision)
        return msgspec.structs.replace(version, value=value)

    def _packed(self, request: CommitRequest) -> CommitRequest:
        """Return a request with the stored forms of its values."""
        if self.values.plain:
            return request
        writes = {
            key: write
            if write.value is None
            else msgspec.structs.replace(write, value=self.values.pack(write.value, key))
            for key, write in request.writes.items()
        }
        return msgspec.structs.replace(request, writes=writes)

    def scan(self, prefix: str = "", after: str = "", limit: int = 1000, at: StateAt | None = None) -> list[Version]:
        """See `Backend.scan`. O(limit), of a past state O(keys passed over); O(keys log keys) after a new key."""
        out: list[Version] = []
        with self._mutex:
            if at is None:
                live, moment = self._refresh(), now()
                for key in _from(live.sorted_keys(), prefix, after):
                    if not key.startswith(prefix) or len(out) == limit:
                        break
                    if (version := live.entries[key]).visible(moment):
                        out.append(self._unpacked(version))
                return out
            history = self._past(at.revision)
            for key in _from(history.sorted_keys(), prefix, after):
                if not key.startswith(prefix) or len(out) == limit:
                    break
                if (found := history.version_at(key, at)) is not None:
                    out.append(self._unpacked(found))
        return out

    def list_keys(
        self, prefix: str = "", after: str = "", before: str = "", limit: int = 1000, at: StateAt | None = None,
        skip: int = 0, backwards: bool = False,
    ) -> list[KeySummary]:  # fmt: skip
        """See `Backend.list_keys`. O(skip + limit), of a past state O(keys passed over)."""
        with self._mutex:
            found = self._visible(*key_range(prefix, after, before), at, backwards)
            page = [_row(self._unpacked(version)) for version in islice(found, skip, skip + limit)]
        return page[::-1] if backwards else page

    def count(self, low: str = "", high: str = "", at: StateAt | None = None) -> int:
        """See `Backend.count`. O(keys counted)."""
        with self._mutex:
            return sum(1 for _ in self._visible(encodable_bound(low), encodable_bound(high), at))

    def _visible(self, low: str, high: str, at: StateAt | None, backwards: bool = False) -> Iterator[Version]:
        """Yield the visible versions of a range of keys. To be used up while the mutex is held."""
        find: Callable[[str], Version | None]
        if at is None:
            live, moment = self._refresh(), now()
            keys, find = live.sorted_keys(), live.entries.get
        else:
            history, moment = self._past(at.revision), at.time
            keys, find = history.sorted_keys(), partial(history.version_at, point=at)
        start, end = bisect_left(keys, low), bisect_left(keys, high) if high else len(keys)
        places = range(end - 1, start - 1, -1) if backwards else range(start, end)
        found = (find(keys[place]) for place in places)
        return (version for version in found if version is not None and version.visible(moment))

    def changed_keys(self, low: StateAt, high: StateAt) -> list[str]:
        """See `Backend.changed_keys`. O(keys)."""
        with self._mutex:
            history = self._past(low.revision, high.revision)
            before, after = sorted((low.time, high.time))
            out = []
            for key, versions in history.versions.items():
                old = bisect_right(versions, low.revision, key=_revision)
                new = bisect_right(versions, high.revision, key=_revision)
                if old != new or (new and before < versions[new - 1].expires <= after):
                    out.append(key)
        return sorted(out)

    def versions(self, key: str, limit: int = 100, below: int = 0) -> list[Version]:
        with self._mutex:
            found = self._past().versions.get(key, [])
            newest = (version for version in reversed(found) if not below or version.revision < below)
            return [self._unpacked(version) for version in islice(newest, limit)]

    def commits(self, limit: int = 100, below: int = 0) -> list[Commit]:
        with self._mutex:
            commits = self._past().commits
            end = bisect_left(commits, below, key=lambda commit: commit.revision) if below else len(commits)
            return commits[max(0, end - limit) : end][::-1]

    def marks(self) -> list[CheckpointRecord]:
        with self._mutex:
            return list(self._past().marks)

    def versions_page(
        self, after: tuple[str, int] = ("", 0), limit: int = 1000, keys: Iterable[str] | None = None
    ) -> list[StoredVersion]:
        from .transfer import dump

        with self._mutex:
            return dump(self._past(), after, limit, keys, self.values)

    def open_staging(self) -> StagedImport:
        from .transfer import JSONReceiver

        self._check_writable()
        return JSONReceiver(self)

    def wait(self, revision: int, timeout: float) -> int:
        """See `Backend.wait`. Looks at the file twenty times a second."""
        deadline = time.monotonic() + timeout
        while (head := self._refresh().head.revision) <= revision and (left := deadline - time.monotonic()) > 0:
            time.sleep(min(POLL_SECONDS, left))
        return head

    def namespaces(self) -> list[str]:
        found = set(folders_with(self.root, ("state.json", "history.jsonl")))
        if document.legacy_value_files(self.root):
            found.add("default")
        return sorted(found)

    def close(self) -> None:
        """Nothing is held open between calls."""
        self._live = self._history = None

    # --- what is on the disk -----------------------------------------------------------------------------------

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

    def _refresh(self) -> _LoadedState:
        """Return the present state, read again only if a file is another one than was read last.

        state.json alone does not tell: a commit counts from its line in the history, whether or not its process lived
        to rename, and one that deletes what is not there leaves state.json as it was.
        """
        with self._mutex:
            live = self._live
            if live is None or live.signature is None or live.signature != self._signature():
                live = self._read_patiently()
            if live.behind and self._locked and not self.read_only:
                live = self._finish(live)
            self._live = live
            return live

    def _read_patiently(self) -> _LoadedState:
        for _ in range(_MAX_ATTEMPTS):
            if (live := self._read()) is not None:
                return live
        with self._lock():
            return self._read() or self._settle()

    def _finish(self, live: _LoadedState) -> _LoadedState:
        """Rename for a process that was killed before it did: what is written next builds on it."""
        line = live.line
        assert line is not None
        from .transfer import finish_swap, staged_state

        if staged_state(self.folder, line.digest) is not None:
            finish_swap(self.folder)
            return _LoadedState(self._signature(), live.head, live.entries, line, live.keys, live.blocks)
        data = document.serialize(live.entries, live.blocks)
        if digest(data) != line.digest:
            raise Damaged(f"{self.state_path} is one commit behind, and does not lead to the next", document.RECOVER)
        try:
            os.rename(write_temporary(self.state_path, data, line.mtime), self.state_path)
            fsync_folder(self.folder)
        except OSError as error:
            raise file_error(error, self.state_path) from error
        _warn_user(f"{self.state_path} did not show revision {line.rev}, whose process was ended; it does now")
        return _LoadedState(self._signature(), live.head, live.entries, line, live.keys, live.blocks)

    def _read(self) -> _LoadedState | None:
        """Return the present state without the lock; None where the two files do not fit together (yet)."""
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
            return _LoadedState(None, Head(), {}) if signature is None else None
        found = digest(data) if signature is not None else ""
        if behind := found != line.digest:
            from .transfer import staged_state

            if (staged := staged_state(self.folder, line.digest)) is not None:
                entries = document.parse(staged, self.state_path)
                self._hold(entries, line)
                head = Head(line.rev, line.time, line.count, line.floor, line.lineage)
                return _LoadedState(None, head, entries, line, behind=True)
        if found not in (line.digest, line.before) or (signature is None and line.before):
            return None
        entries = document.parse(data, self.state_path) if signature is not None else {}
        if not behind:
            self._hold(entries, line)
        else:  # a commit between its line and its rename, now or before a crash
            for version in written(line):
                if version.value is None:
                    entries.pop(version.key, None)
                else:
                    entries[version.key] = version
        head = Head(line.rev, line.time, line.count, line.floor, line.lineage)
        return _LoadedState(signature, head, entries, line, behind=behind)

    def _hold(self, entries: dict[str, Version], line: CommitRecord) -> None:
        if len(entries) != line.count:
            raise Damaged(f"{self.state_path} holds {len(entries)} entries instead of {line.count}")

    def _settle(self) -> _LoadedState:
        """Under the lock: state.json is neither the last commit's nor the one before. Edited by hand, or damaged."""
        history = self._read_history()
        line = history.last
        if line is None:
            raise Damaged(f"{self.history_path} holds no commit, but there is a {self.state_path}", document.RECOVER)
        signature = self._signature()
        if signature is None:
            raise Damaged(f"{self.state_path} is missing, and its history is there", document.RECOVER)
        if not document.is_edited(signature[0], line.mtime):
            raise Damaged(f"{self.state_path} is not what was last written, and was not edited since", document.RECOVER)
        with open(self.state_path, "rb") as file:
            data = file.read()
        edited = document.parse_edited(data, self.state_path, now())
        if any(version.revision > line.rev for version in edited.values()):
            raise Damaged(f"{self.history_path} ends at revision {line.rev}, and state.json is later", document.RECOVER)
        before = history.live()
        head = Head(line.rev, line.time, len(before), line.floor, line.lineage)
        live = _LoadedState(signature, head, dict(before), line)
        batch = CommitRequest(writes=document.edits(before, edited), reason="edited outside")
        self._check_edits(batch.writes, line.rev + 1)
        if self.read_only:
            for key, write in batch.writes.items():
                if write.value is None:
                    del live.entries[key]
                else:
                    live.entries[key] = Version(key, write.value, line.rev, write.time or now())
            return live
        if batch.writes:
            changed = f"{len(batch.writes)} key{'s' if len(batch.writes) > 1 else ''}"
            _warn_user(
                f"{self.state_path} was edited outside; taken in as revision {line.rev + 1} ({changed})"
                " - 'stateview undo' takes it back"
            )
        self._apply(live, batch)
        assert self._live is not None
        return self._live

    def _check_edits(self, writes: dict[str, Write], revision: int) -> None:
        """Raise `Damaged` if a value that was edited by hand is not in the stored form."""
        for key, write in writes.items():
            if write.value is not None:
                try:
                    self.values.unpack(write.value, key, revision)
                except Damaged as error:
                    raise Damaged(
                        f"{self.state_path}: the entry {key[:60]!r}: {error.message}", error.next_steps
                    ) from error

    def _adopt(self, data: bytes, signature: Signature | None) -> _LoadedState | None:
        """There is no history: nothing yet, or data of an older format."""
        older = document.legacy_commits(self.root, self.namespace, data if signature is not None else None)
        if not older:
            return _LoadedState(None, Head(), {})
        older = [self._packed(batch) for batch in older]
        if not self.read_only:
            if not self._locked:
                return None
            self._live = self._history = None
            for batch in older:
                self._apply(self._live or _LoadedState(None, Head(), {}), batch)
            assert self._live is not None
            return self._live
        history = History("older")
        for batch in older:
            revision = history.revision
            history.add(self._line(history.last, batch, revision, revision + bool(batch.writes), batch.time))
        self._history = history
        entries = history.live()
        return _LoadedState(signature, Head(history.revision, now(), len(entries), 0, "older"), entries)

    def _past(self, *revisions: int) -> History:
        """Return the history, up to date, checked to keep these revisions."""
        history = self._history
        if history is None or history.lineage != "older":
            if self._live is None:
                self._refresh()
            history = self._read_history()
        for revision in revisions:
            if not history.is_kept(revision):
                raise history_pruned_error(self.namespace, revision, history.floor)
        return history

    def _read_history(self) -> History:
        try:
            self._history = History.load(self.history_path, self._history)
        except FileNotFoundError:
            if self._history is None or self._history.lineage != "older":
                self._history = History()
        except OSError as error:
            raise file_error(error, self.history_path) from error
        return self._history

    # --- writing -----------------------------------------------------------------------------------------------

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """Hold the folder's lock; where this process may not write, only one that is there already."""
        with self._mutex:
            path = os.path.join(self.folder, "lock")
            if self._locked or (self.read_only and not os.path.exists(path)):
                yield
                return
            try:
                with file_lock(path, self.timeout, create=not self.read_only):
                    self._locked = True
                    try:
                        if not self.read_only:
                            remove_stale_temporary_files(self.folder)
                        yield
                    finally:
                        self._locked = False
            except OSError as error:
                if isinstance(error, StateException):
                    raise
                raise file_error(error, self.folder) from error

    def commit(self, batch: CommitRequest) -> Head:
        """See `Backend.commit`. O(keys); three fsyncs."""
        self._check_writable()
        batch = self._packed(batch)
        with self._lock():
            live = self._refresh()
            moment = now()

            def live_revision(key: str) -> int:
                version = live.entries.get(key)
                return version.revision if version is not None and version.visible(moment) else 0

            check_preconditions(
                batch, self.namespace, live.head, live_revision=live_revision,
                has_checkpoint=lambda name: any(mark.name == name for mark in self._past().marks),
                is_kept=lambda revision: self._past().is_kept(revision),
            )  # fmt: skip
            self._apply(live, batch)
            return self.head()

    def _apply(self, live: _LoadedState, batch: CommitRequest) -> None:
        """Write a batch that is known to fit, and put the new state in place of `live`."""
        history = self._past() if batch.marks or batch.unmarks else None
        moment = max(now(), live.head.time + 1)
        line = self._line(live.line, self._with_expired(live, batch, moment), live.head.revision,
                          live.head.revision + bool(batch.writes), batch.time or moment)  # fmt: skip
        entries, blocks = dict(live.entries), dict(live.blocks)
        for version in written(line):
            blocks.pop(version.key, None)
            if version.value is None:
                entries.pop(version.key, None)
            else:
                entries[version.key] = version
        data = document.serialize(entries, blocks)
        line.count, line.digest = len(entries), digest(data)
        line.lineage = live.head.lineage or os.urandom(16).hex()
        line.floor = live.head.floor
        self._write(live, line, data, history)
        head = Head(line.rev, line.time, line.count, line.floor, line.lineage)
        keys = live.keys if live.keys is not None and entries.keys() == live.entries.keys() else None
        self._live = _LoadedState(self._signature(), head, entries, line, keys, blocks)
        if self._overdue(self._live):
            try:
                self.compact(line.rev - self.keep)
            except BackendError:
                pass  # the commit stands all the same, and the next one tries again

    def _line(
        self, last: CommitRecord | None, batch: CommitRequest, revision: int, new: int, moment: int
    ) -> CommitRecord:
        line = CommitRecord(
            new, moment, "", reason=batch.reason, author=batch.author, keys=len(batch.writes), undo=batch.undo
        )
        line.before = last.digest if last is not None else ""
        line.mtime = max(now() * 1000, last.mtime + 1 if last is not None else 0)
        for key, write in batch.writes.items():
            if write.value is None:
                line.delete.append(key)
            else:
                line.set[key] = ValueRecord(Raw(write.value), moment + write.ttl if write.ttl else 0, write.time)
        for mark in batch.marks:
            at = revision if mark.revision is None else mark.revision
            line.marks.append(CheckpointEntry(mark.name, at, mark.time or moment, mark.note, "", mark.kind))
        line.unmarks = list(batch.unmarks)
        return line

    def _with_expired(self, live: _LoadedState, batch: CommitRequest, moment: int) -> CommitRequest:
        """Return the batch with some of what has expired as deletes, so that it does not stay in the file for ever."""
        if not batch.writes:
            return batch
        gone = [key for key, version in live.entries.items() if version.expires and version.expires <= moment]
        extra = {key: document.DELETE for key in gone[:MAX_EXPIRED_PER_COMMIT] if key not in batch.writes}
        return msgspec.structs.replace(batch, writes={**extra, **batch.writes}) if extra else batch

    def _write(self, live: _LoadedState, line: CommitRecord, data: bytes, history: History | None) -> None:
        """Make the files say what `line` says: temporary files, the history's line, the renames."""
        pairs: list[tuple[str, str]] = []
        size = None
        changed = live.line is None or line.digest != live.line.digest
        try:
            for mark in line.marks:
                content = self._content(live, mark, history)
                mark.digest = digest(content)
                path = self._checkpoint_path(mark.name)
                makedirs_durable(os.path.dirname(path))
                pairs.append((write_temporary(self._aside(mark.name), content), path))
            if changed:
                pairs.append((write_temporary(self.state_path, data, line.mtime), self.state_path))
            else:
                line.mtime = live.line.mtime if live.line is not None else 0
            size = self._append(line)
            for name, path in pairs:
                os.rename(name, path)
            fsync_folder(self.folder)
            for folder in {os.path.dirname(path) for _, path in pairs} - {self.folder}:
                fsync_folder(folder)
        except BaseException as error:
            if size is not None and not (changed and (self._signature() or (0,))[0] == line.mtime):
                self._cut(size)  # not where the rename came through: then the commit stands
            for name, _ in pairs:
                remove(name)
            self._live = self._history = None
            if isinstance(error, OSError):
                raise file_error(error, self.folder) from error
            raise
        for name, _ in line.unmarks:
            self._forget_file(name, line)

    def _content(self, live: _LoadedState, mark: CheckpointEntry, history: History | None) -> bytes:
        if mark.revision == live.head.revision:
            shown = {key: version for key, version in live.entries.items() if version.visible(mark.time)}
            return document.serialize(shown, live.blocks if len(shown) == len(live.entries) else {})
        assert history is not None
        return document.serialize(history.state_at(StateAt(mark.revision, mark.time)), {})

    def _append(self, line: CommitRecord) -> int:
        """Append the commit to the history, durably. Returns the size before, for taking it back."""
        with open(self.history_path, "ab", buffering=0) as file:
            size = file.tell()
            if size:
                last, end, _ = last_line(self.history_path)
                if last is None or end < size:  # what lies beyond is of a commit that was never acknowledged
                    end = end if last is not None else 0
                    os.ftruncate(file.fileno(), end)
                size = end
            data = add_checksum(line)
            if not size:
                data = add_checksum(Header(1, line.lineage, made=now())) + data
            try:
                view = memoryview(data)
                while view:
                    view = view[file.write(view) :]
                os.fsync(file.fileno())
            except BaseException:
                os.ftruncate(file.fileno(), size)
                raise
        if not size:
            fsync_folder(self.folder)
        return size

    def _cut(self, size: int) -> None:
        if not size:
            remove(self.history_path)
            return
        with open(self.history_path, "ab", buffering=0) as file:
            os.ftruncate(file.fileno(), size)
            os.fsync(file.fileno())

    def _checkpoint_path(self, name: str) -> str:
        return os.path.join(self.folder, "checkpoints", f"{name}.json")

    def _aside(self, name: str) -> str:
        """Return a checkpoint's file is begun in the namespace's own folder, in which what is left over is swept."""
        return os.path.join(self.folder, f"{name}.json")

    def _forget_file(self, name: str, line: CommitRecord) -> None:
        """Remove the file of a deleted checkpoint, or show the earlier one of that name in it."""
        if any(mark.name == name for mark in line.marks):
            return
        history = self._past()
        earlier = [mark for mark in history.marks if mark.name == name]
        path = self._checkpoint_path(name)
        if not earlier:
            remove(path)
            return
        content = document.serialize(history.state_at(StateAt(earlier[-1].revision, earlier[-1].time)), {})
        os.rename(write_temporary(self._aside(name), content), path)

    # --- upkeep ------------------------------------------------------------------------------------------------

    def _check_writable(self) -> None:
        if self.read_only:
            raise ReadOnly(f"{self.folder} is open for reading only")

    def _overdue(self, live: _LoadedState) -> bool:
        return live.head.revision - live.head.floor > self.keep + max(16, self.keep // 4)

    def compact(self, floor: int, progress: ProgressCount | None = None) -> int:
        """See `Backend.compact`. Rewrites the history file. O(history)."""
        self._check_writable()
        if not os.path.isdir(self.folder):
            return 0
        with self._lock():
            live = self._refresh()
            history = self._past()
            if live.line is None or history.last is None:
                return 0
            if progress is not None:
                progress(0, sum(map(len, history.versions.values())))
            from .maintenance import remove_left_over

            dropped = history.trim(floor)
            last = msgspec.structs.replace(live.line, floor=history.floor, lineage=history.lineage)
            data = b"".join(history.to_lines(last))
            try:
                remove_left_over(self.folder, history)
                os.rename(write_temporary(self.history_path, data), self.history_path)
                fsync_folder(self.folder)
            except OSError as error:
                raise file_error(error, self.history_path) from error
            finally:
                self._history = self._live = None
            return dropped

    def superseded(self, after: tuple[str, int] = ("", 0), limit: int = 1000) -> list[SupersededVersion]:
        from .maintenance import past

        with self._mutex:
            return past(self._past(), after, limit, self.values)

    def disk_usage(self, gone: Iterable[tuple[str, int]] = ()) -> DiskUsage | None:
        """See `Backend.disk_usage`. O(files)."""
        from .maintenance import space

        with self._mutex:
            return space(self.folder, self._past().marks, set(gone))

    def drop(self) -> None:
        self._check_writable()
        if not os.path.isdir(self.folder):
            return
        import shutil

        from ..staging import take_out

        with self._lock():
            moved = take_out(self.folder, "json")
            self._live = self._history = None
        shutil.rmtree(moved)

    @contextmanager
    def open_recovery(self) -> Iterator[RecoverySession]:
        from .recovery import JSONRecovery

        with self._lock():
            self._live = self._history = None
            try:
                yield JSONRecovery(self)
            finally:
                self._live = self._history = None

    def diagnose(self, progress: ProgressText) -> Iterator[Finding]:
        from .doctor import diagnose

        return diagnose(self, progress)


def _warn_user(text: str) -> None:
    print(f"stateview: {text}", file=sys.stderr, flush=True)


def _sign(stat: os.stat_result) -> Signature:
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


def _revision(version: Version) -> int:
    return version.revision


def _row(version: Version) -> KeySummary:
    value = version.value or b""
    return KeySummary(version.key, len(value), value[:SUMMARY_BYTES], version.revision, version.time, version.expires)


def _from(keys: list[str], prefix: str, after: str) -> Iterator[str]:
    start = max(bisect_left(keys, prefix), bisect_right(keys, after) if after else 0)
    return (keys[index] for index in range(start, len(keys)))
