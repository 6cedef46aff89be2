"""What more than one backend needs: the same refusals in the same words, and files that survive a crash."""

from __future__ import annotations

import errno
import os
import re
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol
from weakref import WeakSet

from ..errors import (
    NOTHING_CHANGED,
    BackendError,
    BackendUnavailable,
    Conflict,
    HistoryPruned,
    ReadOnly,
    StateException,
)
from ..model import is_name
from .protocol import CommitRequest, Head, KeySummary, StoreIdentity, prefix_end

TEMPORARY = ".tmp-"
DAMAGED = ".damaged-"
LOCK_POLL_SECONDS = 0.002  # seconds between tries for a lock that another process holds
_NETWORK = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "fuse.sshfs", "fuse.glusterfs"}
MAX_EXPIRED_PER_COMMIT = 100  # expired entries that one commit takes away, so that no commit is long for it


class ForkAware(Protocol):
    """Something that must not go on in a child as it was in the parent."""

    def before_fork(self) -> None:
        """Called in the parent, by the thread that forks: wait until no other thread is in the middle of something."""

    def after_fork(self, child: bool) -> None:
        """Called in the parent, and in the child."""


_forkable: WeakSet[ForkAware] = WeakSet()
_forking = threading.RLock()
_waiting: list[ForkAware] = []


def watch_fork(one: ForkAware) -> None:
    """Tell `one` of every fork, for as long as it lives."""
    _forkable.add(one)


def _before_fork() -> None:
    _forking.acquire()
    _waiting[:] = _forkable
    for one in _waiting:
        one.before_fork()


def _after_fork(child: bool) -> None:
    global _forking
    for one in _waiting:
        one.after_fork(child)
    _waiting.clear()
    if child:
        _forking = threading.RLock()
    else:
        _forking.release()


os.register_at_fork(
    before=_before_fork,
    after_in_parent=lambda: _after_fork(child=False),
    after_in_child=lambda: _after_fork(child=True),
)


def check_base(batch: CommitRequest, namespace: str, revision: int) -> None:
    """Raise `Conflict` if the namespace is not at the revision that the batch was made for."""
    if batch.base is not None and batch.base != revision:
        raise base_conflict_error(namespace, batch.base, revision)


def base_conflict_error(namespace: str, base: int, revision: int) -> Conflict:
    """The namespace moved on."""
    return Conflict(
        f"namespace {namespace!r} is at revision {revision}, not at {base} as expected",
        "Look at what changed since, and try again",
    )


def check_new(batch: CommitRequest, namespace: str) -> None:
    """Refuse a first commit that expects something to be there, before anything is made for it."""
    check_base(batch, namespace, 0)
    for key, expected in batch.expected.items():
        if expected:
            raise key_conflict_error(key, expected, 0)
    for mark in batch.marks:
        if mark.revision:
            raise history_pruned_error(namespace, mark.revision, 0)


def key_conflict_error(key: str, expected: int, revision: int) -> Conflict:
    """A key is not at the revision it was expected to have."""
    if expected == 0:
        return Conflict(f"key {key!r} exists already, since revision {revision}", "It was to be written only if absent")
    is_now = f"at revision {revision}" if revision else "absent"
    return Conflict(f"key {key!r} is {is_now}, not at revision {expected} as expected", "Load it and try again")


def checkpoint_conflict_error(name: str) -> Conflict:
    """A checkpoint that was to be new has a name that is taken."""
    return Conflict(f"checkpoint {name!r} exists already")


def history_pruned_error(namespace: str, revision: int, floor: int) -> HistoryPruned:
    """A revision that is no longer kept."""
    return HistoryPruned(
        f"revision {revision} of namespace {namespace!r} is no longer kept",
        f"Its history reaches back to revision {floor}; older states are kept where a checkpoint names them",
    )


def warn_user(text: str) -> None:
    """Tell the person at the terminal something once, without stopping."""
    print(f"stateview: {text}", file=sys.stderr, flush=True)


def folder_identity(folder: str) -> StoreIdentity:
    """Where a namespace's folder lies, whatever link or mount leads there."""
    try:
        found = os.stat(folder)
    except FileNotFoundError:
        return StoreIdentity((os.path.realpath(folder),))
    except OSError as error:
        raise file_error(error, folder) from error
    return StoreIdentity((found.st_dev, found.st_ino))


def file_error(error: OSError, path: str) -> StateException:
    """An operating system's error as one of ours, which names the file and the next step."""
    what = f"{path}: {os.strerror(error.errno) if error.errno else error}"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return ReadOnly(what, "Check who owns the folder, or open it with read_only=True (--read-only)")
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return BackendError(what, (NOTHING_CHANGED, "Free some space and try again"))
    if error.errno in (errno.ENOTDIR, errno.EISDIR, errno.EEXIST):
        return BackendError(what, "A store is a folder; check its path")
    return BackendError(what, NOTHING_CHANGED)


def folders_with(root: str, files: Iterable[str]) -> list[str]:
    """The folders in `root` that hold one of these files, sorted; also those of which that cannot be told.

    Raises:
        StateException: `root` cannot be read, see `file_error`. It is empty where it is not there.

    """
    try:
        with os.scandir(root) as entries:
            names = [entry.name for entry in entries if not entry.name.startswith(".") and _may_be_folder(entry)]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise file_error(error, root) from error
    files = tuple(files)
    return sorted(name for name in names if any(_may_hold(os.path.join(root, name, file)) for file in files))


def _may_be_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to where this user may not look
        return True


def _may_hold(path: str) -> bool:
    """Whether a file is there, or may be: who may not look into its folder is to be told so by reading it."""
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return is_name(os.path.basename(os.path.dirname(path)))  # `lost+found` is none
    return True


def fsync_folder(path: str) -> None:
    """Make the names in a folder durable. A rename without this is gone after a loss of power."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def makedirs_durable(path: str) -> None:
    """`makedirs` whose new folders are still there after a loss of power."""
    missing = []
    while not os.path.isdir(path):
        missing.append(path)
        path = os.path.dirname(path) or "."
    for folder in reversed(missing):
        try:
            os.mkdir(folder)
        except FileExistsError:
            if not os.path.isdir(folder):
                raise
        fsync_folder(os.path.dirname(folder) or ".")


def is_network_filesystem(path: str) -> bool:
    """Whether a path lies on a network file system, on which WAL does not work. Linux; false where it cannot tell."""
    best, kind = "", ""
    try:
        with open("/proc/self/mounts", encoding="utf-8", errors="replace") as mounts:
            for line in mounts:
                _, point, name, *_ = line.split(" ")
                inside = os.path.abspath(path).startswith(point.rstrip("/") + "/")
                if inside and len(point) >= len(best):
                    best, kind = point, name
    except OSError:
        return False
    return kind in _NETWORK


def temporary(path: str) -> str:
    """A name beside `path` that no other thread or process uses."""
    return f"{path}{TEMPORARY}{os.getpid()}-{os.urandom(4).hex()}"


def write_temporary(path: str, data: bytes, mtime: int | None = None) -> str:
    """Write `data` durably into a temporary file beside `path`, and return its name. Leaves nothing on an error."""
    name = temporary(path)
    try:
        with open(name, "xb", buffering=0) as file:
            view = memoryview(data)
            while view:
                view = view[file.write(view) :]
            if mtime is not None:
                os.utime(file.fileno(), ns=(mtime, mtime))
            os.fsync(file.fileno())
    except BaseException:
        remove(name)
        raise
    return name


def remove(path: str) -> None:
    """Remove a file that may be gone already."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def remove_stale_temporary_files(folder: str) -> list[str]:
    """Remove temporary files and folders whose process is gone; return their names. Call it under the folder's lock."""
    swept = []
    for name in os.listdir(folder) if os.path.isdir(folder) else ():
        _, found, tail = name.partition(TEMPORARY)
        owner = tail.partition("-")[0]
        if found and not (owner.isdigit() and os.path.exists(f"/proc/{owner}")):
            path = os.path.join(folder, name)
            if os.path.isdir(path):
                import shutil  # here, since a recovery was killed seldom

                shutil.rmtree(path)
            else:
                remove(path)
            swept.append(name)
    return swept


def backup_damaged_file(path: str) -> str:
    """Give a damaged file a second name, with the time, and return that. The caller puts another in its place."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    name = f"{path}{DAMAGED}{stamp}"
    while os.path.exists(name):
        name = f"{path}{DAMAGED}{stamp}-{os.urandom(2).hex()}"
    try:
        os.link(path, name)
    except OSError:  # a file system without links
        import shutil

        shutil.copy2(path, name)
    return name


@contextmanager
def file_lock(path: str, timeout: float, create: bool = True) -> Iterator[None]:
    """Hold the exclusive lock of a folder, by `flock` on a file in it that is never replaced.

    With `create` the folder and the file are made where they are missing.

    Raises:
        BackendUnavailable: another process held it for `timeout` seconds.

    """
    import fcntl  # not on every platform: only where files are locked

    deadline = time.monotonic() + timeout
    while True:
        if create:
            makedirs_durable(os.path.dirname(path))
        try:
            flags = os.O_RDWR | os.O_CREAT if create else os.O_RDONLY
            descriptor = os.open(path, flags | os.O_CLOEXEC, 0o666)
        except FileNotFoundError:
            if create and time.monotonic() < deadline:  # dropped between the two lines above
                continue
            raise
        try:
            _flock(descriptor, path, deadline, timeout)
            if _is_at(descriptor, path):
                try:
                    yield
                finally:
                    # Closing alone would leave it locked while a child forked meanwhile holds a copy of the descriptor.
                    fcntl.flock(descriptor, fcntl.LOCK_UN)
                return
        finally:
            os.close(descriptor)


def _flock(descriptor: int, path: str, deadline: float, timeout: float) -> None:
    import fcntl

    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise BackendUnavailable(
                    f"{path} has been locked by another process for {timeout:g} s", "Try again, or end that process"
                ) from None
            time.sleep(LOCK_POLL_SECONDS)


def _is_at(descriptor: int, path: str) -> bool:
    """Whether the lock is still that of the folder: who dropped the namespace moved it away with its lock."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def key_range(prefix: str, after: str, before: str) -> tuple[str, str]:
    """From which key on, and up to which, not including it, the keys lie that `Backend.list_keys` speaks of.

    "" is no bound.
    """
    low = encodable_bound(max(prefix, after + "\0") if after else prefix)
    highs = [high for high in (prefix_end(prefix), before) if high]
    return low, encodable_bound(min(highs)) if highs else ""


def encodable_bound(text: str) -> str:
    """A bound that divides the keys as `text` does, and can be encoded. Keys hold neither NUL nor lone surrogates."""
    found = re.search("[\0\ud800-\udfff]", text)
    if found is None:
        return text
    return text[: found.start()] + ("\0" if found[0] == "\0" else "\ue000")


LARGE_ROW_BYTES = 1_000_000  # bytes of a value from which on its row is remembered, since to read it again takes long
_MAX_LARGE_ROWS = 100


class LargeRowCache:
    """Rows of huge values that were live at some revision, and are for as long as no history says otherwise."""

    def __init__(self) -> None:
        self.rows: dict[str, tuple[KeySummary, int]] = {}
        self.lineage = ""

    def find(self, key: str, head: Head) -> KeySummary | None:
        """A row that still is what is live, unless the history holds it as superseded, which is for the caller to see.

        What was superseded and forgotten since would not be found there: nothing is said of what the floor has passed.
        """
        row, seen = self.rows.get(key, (None, 0))
        if row is None or self.lineage != head.lineage or head.floor > seen:
            return None
        self.rows[key] = row, head.revision
        return row

    def put(self, row: KeySummary, head: Head) -> None:
        """Remember a row that is live at this head."""
        if self.lineage != head.lineage or len(self.rows) >= _MAX_LARGE_ROWS:
            self.rows, self.lineage = {}, head.lineage
        self.rows[row.key] = row, head.revision
