"""JSON files: `ROOT/NS/state.json` for people and `jq`, and beside it the history and the checkpoints' files."""

from __future__ import annotations

import os
import threading
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice

import msgspec

from ...errors import Conflict
from ...model import Commit, Finding, now
from ..conflicts import check_preconditions
from ..deltas import Delta
from ..error_places import marks_errors
from ..files.durable_files import fsync_folder, remove
from ..files.namespace_folders import folder_identity, folders_with
from ..key_ranges import encodable_bound, key_range
from ..protocol import (
    SUMMARY_BYTES,
    Backend,
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
)
from ..retries import poll_revision
from ..stored_values import PLAIN, StoredValues
from .history import History
from .reader import LoadedState, Signature
from .records import PackedVersion, read_header
from .writer import Writer

POLL_SECONDS = 0.05


@marks_errors
class JSONBackend(Writer):
    """A namespace in JSON files.

    Args:
        root: the folder of the store. The namespace is a folder in it, which the first commit makes.
        namespace: a valid name.
        read_only: never write. Edits by hand and data of an older layout are shown, but not committed.
        history: the number of revisions for which superseded versions are kept.
        timeout: seconds to wait for another writer.
        values: the stored form of values.
        checkpoint_files: write each checkpoint into a file `checkpoints/NAME.json`, too, for people and older scripts.

    """

    kind = "json"
    rewrites_state = True
    ranks_keys = False

    def __init__(
        self, root: str, namespace: str, *, read_only: bool = False, history: int = 10_000, timeout: float = 10.0,
        values: StoredValues = PLAIN, checkpoint_files: bool = True,
    ) -> None:  # fmt: skip
        super().__init__(root, namespace, read_only, history, timeout, values)
        self.checkpoint_files = checkpoint_files
        self.url = f"json:{root}"

    # --- reading -----------------------------------------------------------------------------------------------

    def identity(self) -> StoreIdentity:
        return folder_identity(self.folder)

    def now(self) -> int:
        return now()

    def head(self) -> Head:
        """Return the present head. O(keys)."""
        with self._call():
            return self._head(self._refresh())

    def _head(self, live: LoadedState) -> Head:
        moment = now()
        expired = sum(1 for version in live.entries.values() if version.expires and version.expires <= moment)
        return msgspec.structs.replace(live.head, count=len(live.entries) - expired)

    def get(self, key: str) -> Version | None:
        """Return the live version of a key. Two calls of `stat`; O(keys) after a commit of another process."""
        live = self._live
        if live is None or live.signature is None or live.signature != self._signature():
            with self._call():
                live = self._refresh()
        version = live.entries.get(key)
        if version is None or (version.expires and not version.visible(now())):
            return None
        return live.values.unpack_version(version)

    def read(self, keys: Iterable[str], at: StateAt | None = None) -> dict[str, Version]:
        with self._call():
            find, moment, _ = self._state(at)
            versions = ((key, find(key)) for key in keys)
            return {
                key: self._opened(version)
                for key, version in versions
                if version is not None and version.visible(moment)
            }

    def scan(self, prefix: str = "", after: str = "", limit: int = 1000, at: StateAt | None = None) -> list[Version]:
        """Return a page of visible versions. O(limit); of a past state O(keys passed over)."""
        with self._call():
            versions = self._visible(*key_range(prefix, after, ""), at)
            return [self._opened(version) for version in islice(versions, limit)]

    def _opened(self, version: Version) -> Version:
        """Return a version of a state with its encoded value."""
        if isinstance(version, PackedVersion):
            return self._past().opened(version, is_lone=True)
        return self.values.unpack_version(version)

    def list_keys(
        self, prefix: str = "", after: str = "", before: str = "", limit: int = 1000, at: StateAt | None = None,
        skip: int = 0, backwards: bool = False,
    ) -> list[KeySummary]:  # fmt: skip
        """Return a page of keys. O(skip + limit); of a past state O(keys passed over)."""
        with self._call():
            versions = self._visible(*key_range(prefix, after, before), at, backwards)
            page = [self._summary(version) for version in islice(versions, skip, skip + limit)]
        return page[::-1] if backwards else page

    def _summary(self, version: Version) -> KeySummary:
        key, revision, moment, expires = version.key, version.revision, version.time, version.expires
        if self.values.error is not None:
            size = version.delta.size if isinstance(version, PackedVersion) else len(version.value or b"")
            return KeySummary(key, size, b"", revision, moment, expires, sealed=True)
        value = self._opened(version).value or b""
        return KeySummary(key, len(value), value[:SUMMARY_BYTES], revision, moment, expires)

    def count(self, low: str = "", high: str = "", at: StateAt | None = None) -> int:
        """Return the number of visible keys of a range. O(keys counted)."""
        with self._call():
            return sum(1 for _ in self._visible(encodable_bound(low), encodable_bound(high), at))

    def _state(self, at: StateAt | None) -> tuple[Callable[[str], Version | None], int, Callable[[], list[str]]]:
        """Return how to read a state: a function for a key's version, the time of the read, the sorted keys."""
        if at is None:
            live = self._refresh()
            return live.entries.get, now(), live.sorted_keys
        history = self._past(at.revision)
        return partial(history.version_at, point=at), at.time, history.sorted_keys

    def _visible(self, low: str, high: str, at: StateAt | None, backwards: bool = False) -> Iterator[Version]:
        """Iterate over the visible versions of a range of keys, while the caller holds the mutex."""
        find, moment, sorted_keys = self._state(at)
        keys = sorted_keys()
        start, end = bisect_left(keys, low), bisect_left(keys, high) if high else len(keys)
        indexes = range(end - 1, start - 1, -1) if backwards else range(start, end)
        versions = (find(keys[index]) for index in indexes)
        return (version for version in versions if version is not None and version.visible(moment))

    def changed_keys(self, low: StateAt, high: StateAt) -> list[str]:
        with self._call():
            return self._past(low.revision, high.revision).changed_keys(low, high)

    def versions(self, key: str, limit: int = 100, below: int = 0) -> list[Version]:
        with self._call():
            history = self._past()
            versions = history.versions.get(key, [])
            newest = (version for version in reversed(versions) if not below or version.revision < below)
            return [history.opened(version) for version in islice(newest, limit)]

    def commits(self, limit: int = 100, below: int = 0) -> list[Commit]:
        with self._call():
            commits = self._past().commits
            end = bisect_left(commits, below, key=lambda commit: commit.revision) if below else len(commits)
            return [*map(self.values.unpack_commit, commits[max(0, end - limit) : end][::-1])]

    def marks(self) -> list[CheckpointRecord]:
        with self._call():
            marks = self._past().marks
            return [*map(self.values.unpack_mark, marks)]

    def versions_page(
        self, after: tuple[str, int] = ("", 0), limit: int = 1000, keys: Iterable[str] | None = None
    ) -> list[StoredVersion]:
        from .transfer import versions_page

        with self._call():
            return versions_page(self._past(), after, limit, keys)

    def deltas(self, versions: Iterable[StoredVersion]) -> dict[tuple[str, int], Delta]:
        """Return the deltas that versions are kept as, by key and revision. O(versions)."""
        with self._call():
            return self._past().deltas(versions)

    @contextmanager
    def snapshot(self, whole: bool = False) -> Iterator[Backend]:  # noqa: ARG002
        """Copy what is in memory. O(keys)."""
        with self._call():
            self._refresh()
            frozen = _Snapshot(self, self._past(), self._live)
        yield frozen

    def open_staging(self) -> StagedImport:
        from .transfer import JSONStagedImport

        self._check_writable()
        return JSONStagedImport(self)

    def wait(self, revision: int, timeout: float) -> int:
        """Look at the files every `POLL_SECONDS`."""

        def current() -> int:
            with self._call():
                return self._refresh().head.revision

        return poll_revision(current, revision, timeout, POLL_SECONDS)

    def namespaces(self) -> list[str]:
        from ..legacy.json_files import find_key_files

        names = set(folders_with(self.root, ("state.json", "history.jsonl")))
        if find_key_files(self.root):
            names.add("default")
        return sorted(names)

    def close(self) -> None:
        """Free the memory. No file is open between calls."""
        self._live = self._history = None

    # --- writing -----------------------------------------------------------------------------------------------

    def commit(self, batch: CommitRequest) -> Head:
        """Apply a commit. O(keys); three fsyncs."""
        self._check_writable()
        with self._call(), self._lock():
            live = self._refresh()
            if live.line is None or not self.values.ready:
                self._start_sealing(live)
            moment = now()

            def live_revision(key: str) -> int:
                version = live.entries.get(key)
                return version.revision if version is not None and version.visible(moment) else 0

            check_preconditions(
                batch, self.namespace, live.head, live_revision=live_revision,
                has_checkpoint=lambda name: self._past().marks.newest(name) is not None,
                is_kept=lambda revision: self._past().is_kept(revision),
            )  # fmt: skip
            return self._head(self._apply(live, self._packed(batch, live.head.revision + 1)))

    # --- what others wrote -------------------------------------------------------------------------------------

    def _settle(self) -> LoadedState:
        from .outside_changes import settle

        return settle(self)

    def _adopt(self, data: bytes, signature: Signature | None) -> LoadedState | None:
        from .outside_changes import adopt

        return adopt(self, data, signature)

    # --- maintenance -------------------------------------------------------------------------------------------

    def compact(self, floor: int, progress: ProgressCount | None = None) -> int:
        """Remove versions, by writing a new history file."""
        self._check_writable()
        with self._call():
            return self._compact(floor, progress) if os.path.isdir(self.folder) else 0

    def superseded(self, after: tuple[str, int] = ("", 0), limit: int = 1000) -> list[SupersededVersion]:
        from .maintenance import superseded

        with self._call():
            return superseded(self._past(), after, limit, self.values)

    def disk_usage(self, gone: Iterable[tuple[str, int]] = ()) -> DiskUsage | None:
        """Return the size of all files. O(files)."""
        from .maintenance import disk_usage

        with self._call():
            return disk_usage(self.folder, self._past().marks, set(gone))

    def keyring(self) -> bytes | None:
        with self._call():
            return self._read_keyring()

    def put_keyring(self, document: bytes | None, former: bytes | None) -> None:
        self._check_writable()
        with self._call(), self._lock():
            if self._read_keyring() != former:
                raise Conflict("the keyring of the namespace was changed meanwhile", "Try again")
            if document is not None:
                self._write_keyring(document)
            else:
                remove(self.keyring_path)
                fsync_folder(self.folder)
            self._live = self._history = None

    def reseal(self, progress: ProgressCount) -> int:
        from .resealing import reseal

        self._check_writable()
        with self._call(), self._lock():
            return reseal(self, progress)

    def history_format(self) -> int:
        try:
            return read_header(self.history_path).format
        except FileNotFoundError:
            return 0

    def drop(self) -> None:
        self._check_writable()
        if not os.path.isdir(self.folder):
            return
        from ..files.staging import remove_taken_out, take_out

        with self._call(), self._lock():
            moved = take_out(self.folder, "json")
            self._live = self._history = None
        remove_taken_out(moved, self.namespace)

    @contextmanager
    def open_recovery(self) -> Iterator[RecoverySession]:
        from .recovery import JSONRecovery

        with self._call(), self._lock():
            self._live = self._history = None
            try:
                yield JSONRecovery(self)
            finally:
                self._live = self._history = None

    def diagnose(self, progress: ProgressText) -> Iterator[Finding]:
        from .doctor import diagnose

        return diagnose(self, progress)


class _Snapshot(JSONBackend):
    """The reads of a backend, of a copy of its history. It reads no file."""

    def __init__(self, backend: JSONBackend, history: History, live: LoadedState | None) -> None:
        self.__dict__.update(vars(backend))
        self._mutex = threading.RLock()
        self.read_only = True
        self._history = history.copy()
        line, known = history.last, None if live is None else live.head
        if live is None or known is None or (known.revision, known.lineage) != (history.revision, history.lineage):
            known = Head(line.rev, line.time, 0, lineage=history.lineage) if line is not None else Head()
            live = LoadedState(None, known, history.live(), line)  # another process wrote between the two reads
        self._live = msgspec.structs.replace(live, head=msgspec.structs.replace(known, floor=history.floor))

    @contextmanager
    def _call(self) -> Iterator[None]:
        with self._mutex:
            yield

    def _refresh(self) -> LoadedState:
        assert self._live is not None
        return self._live

    def _read_history(self) -> History:
        assert self._history is not None
        return self._history

    def _read_keyring(self) -> bytes | None:
        return self._keyring

    def get(self, key: str) -> Version | None:
        return self.read([key]).get(key)


def _revision(version: Version) -> int:
    return version.revision
