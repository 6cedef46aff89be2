"""Reading the files of one JSON namespace: the live state and the history, kept in memory until the files change.

A commit writes the new state.json to a temporary file, appends its line to the history, and renames. The commit counts
from the moment that the line is complete. If state.json is one commit behind, the next writer completes the rename.
All values are in their stored form.
"""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager

from msgspec import Struct

from ...errors import Damaged
from ..conflicts import history_pruned_error
from ..files.durable_files import file_error, file_lock, remove_stale_temporary_files
from ..fork import watch_fork
from ..protocol import Head, Version
from ..reentry import is_owned
from ..stored_values import PLAIN, StoredValues
from . import document
from .history import History
from .records import CommitRecord, digest, last_line, marked, written

_MAX_ATTEMPTS = 5  # reads without the lock, while writers rename between the reads of two files
LEGACY_LINEAGE = "older"  # of data of an older layout that is read but not converted

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
        values: the form of the values of the entries.

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
    values: StoredValues = PLAIN

    def sorted_keys(self) -> list[str]:
        """Return the keys of the entries, sorted. O(keys log keys) the first time."""
        if self.keys is None:
            self.keys = sorted(self.entries)
        return self.keys


class Reader(ABC):
    """The files of one namespace, read into memory. Safe for threads, processes and forks."""

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
        self.values = self._given = values  # `values` is the form of the namespace that was read last
        self._keyring: bytes | None = None
        self.keyring_path = os.path.join(self.folder, "keyring.json")
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
            memory = self._live, self._history, self._locked, self.values, self._keyring
            self._live = self._history = None
            self._locked = False
            try:
                yield
            finally:
                self._live, self._history, self._locked, self.values, self._keyring = memory

    # --- what only a writer does -------------------------------------------------------------------------------

    @abstractmethod
    def _complete_rename(self, live: LoadedState) -> LoadedState:
        """Write the state.json of a commit whose process was killed before its rename. Call it under the lock."""

    @abstractmethod
    def _update_checkpoint_file(self, name: str) -> None:
        """Make the file of a name that of its newest checkpoint, or remove it if there is none."""

    @abstractmethod
    def _settle(self) -> LoadedState:
        """Take in an edit by hand, under the lock."""

    @abstractmethod
    def _adopt(self, data: bytes, signature: Signature | None) -> LoadedState | None:
        """Load a namespace without a history. Returns None if the lock is needed."""

    # --- the keyring -------------------------------------------------------------------------------------------

    def _choose_values(self, document: bytes | None, line: CommitRecord | None) -> None:
        """Choose the form of values by the keyring, which the namespace of a sealed commit must have."""
        if document is None and line is not None and line.is_sealed():
            raise Damaged(f"{self.keyring_path} is missing", "Put it back from a backup")
        self._use_keyring(document)

    def _use_keyring(self, document: bytes | None) -> None:
        if document != self._keyring:
            self.values, self._keyring = self._given.opened(document), document

    def _read_keyring(self) -> bytes | None:
        try:
            with open(self.keyring_path, "rb") as file:
                return file.read()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise file_error(error, self.keyring_path) from error

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
            live.values = self.values
            self._live = live
            return live

    def _read_patiently(self) -> LoadedState:
        for _ in range(_MAX_ATTEMPTS):
            if (live := self._read()) is not None:
                return live
        with self._lock():
            return self._read() or self._settle()

    def _read(self) -> LoadedState | None:
        """Read the live state without the lock; None if the files do not fit together (yet)."""
        document = self._read_keyring()
        try:
            live = self._read_files(document)
        except Damaged:
            if document == self._read_keyring():
                raise
            return None
        return live if document == self._read_keyring() else None

    def _read_files(self, keyring: bytes | None) -> LoadedState | None:
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
            self._use_keyring(keyring)
            return self._adopt(data, signature)
        except OSError as error:
            raise file_error(error, self.history_path) from error
        self._choose_values(keyring, line)
        if line is None:
            return self._adopt(data, signature) if signature is None else None
        state_digest = digest(data) if signature is not None else ""
        unchecked = frozenset[str]() if line.settled else marked(line)
        if behind := state_digest != line.digest:
            from .transfer import staged_state

            if (staged := staged_state(self.folder, line.digest)) is not None:
                entries = document.parse(staged, self.state_path)
                self._check_count(entries, line)
                return LoadedState(None, head_of(line), entries, line, behind=True)
        if behind and not line.is_before(state_digest, signature[0] if signature is not None else 0):
            return None
        if behind and (line.replaced or not line.writes()):
            entries = self._read_history().live()
        else:
            entries = document.parse(data, self.state_path) if signature is not None else {}
        if behind:  # a commit between its line and its rename, now or before a crash
            apply_writes(entries, line)
        else:
            self._check_count(entries, line)
        return LoadedState(signature, head_of(line), entries, line, behind=behind, unchecked=unchecked)

    def _check_count(self, entries: dict[str, Version], line: CommitRecord) -> None:
        if len(entries) != line.count:
            raise Damaged(f"{self.state_path} holds {len(entries)} entries instead of {line.count}")

    def _past(self, *revisions: int) -> History:
        """Return the history, up to date.

        Raises:
            HistoryPruned: one of the revisions is not kept.

        """
        live, history = self._refresh(), self._history
        if history is None or live.head.lineage != LEGACY_LINEAGE:
            signature = () if live.signature is None else live.signature[3:]
            revision = live.head.revision  # a history that shows an edit is one ahead of the file
            if history is None or not signature or (history.signature, history.revision) != (signature, revision):
                history = self._read_history()
                history.signature = signature
                if self._read_keyring() != self._keyring:  # it may be in another form than the state
                    self._live = self._history = None
                    return self._past(*revisions)
        for revision in revisions:
            if not history.is_kept(revision):
                raise history_pruned_error(self.namespace, revision, history.floor)
        return history

    def _read_history(self) -> History:
        known = self._history  # which `close` forgets at any time
        try:
            history = History.load(self.history_path, known, self.values)
        except FileNotFoundError:  # there is no namespace: `_refresh` raises an error if the history alone is missing
            history = known if known is not None and known.lineage == LEGACY_LINEAGE else History()
        except OSError as error:
            raise file_error(error, self.history_path) from error
        self._history = history
        return history

    # --- the lock ----------------------------------------------------------------------------------------------

    def _may_write(self) -> bool:
        """Return whether this process may write. Who may not can still read, as with `read_only`.

        The folder is looked for first: one that another process makes between the two looks may be written to.
        """
        return not self.read_only and (not os.path.isdir(self.folder) or os.access(self.folder, os.W_OK))

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


def _sign(stat: os.stat_result) -> Signature:
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


def head_of(line: CommitRecord) -> Head:
    """Return the head after a commit."""
    return Head(line.rev, line.time, line.count, line.floor, line.lineage)


def apply_writes(entries: dict[str, Version], line: CommitRecord) -> list[str]:
    """Apply a commit to the entries before it, and return the keys that it wrote."""
    versions = written(line)
    for version in versions:
        if version.value is None:
            entries.pop(version.key, None)
        else:
            entries[version.key] = version
    return [version.key for version in versions]
