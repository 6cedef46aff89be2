"""What more than one backend needs: the same refusals in the same words, and files that survive a crash."""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol
from weakref import WeakSet

from ..errors import BackendError, BackendUnavailable, Conflict, HistoryPruned, ReadOnly, StateException
from .base import Batch

TEMPORARY = ".tmp-"
DAMAGED = ".damaged-"
LOCK_POLL = 0.002  # seconds between tries for a lock that another process holds
REAP = 100  # expired entries that one commit takes away, so that no commit is long for it


class Forkable(Protocol):
    """Something that must not go on in a child as it was in the parent."""

    def after_fork(self) -> None:
        """Called in the child."""


_forkable: WeakSet[Forkable] = WeakSet()


def watch_fork(one: Forkable) -> None:
    """Call `one.after_fork()` in every child, for as long as it lives."""
    _forkable.add(one)


def _after_fork() -> None:
    for one in list(_forkable):
        one.after_fork()


os.register_at_fork(after_in_child=_after_fork)


def check_base(batch: Batch, namespace: str, revision: int) -> None:
    """Raise `Conflict` if the namespace is not at the revision that the batch was made for."""
    if batch.base is not None and batch.base != revision:
        raise conflict_base(namespace, batch.base, revision)


def conflict_base(namespace: str, base: int, revision: int) -> Conflict:
    """The namespace moved on."""
    return Conflict(
        f"namespace {namespace!r} is at revision {revision}, not at {base} as expected",
        "Look at what changed since, and try again",
    )


def conflict_key(key: str, expected: int, revision: int) -> Conflict:
    """A key is not at the revision it was expected to have."""
    if expected == 0:
        return Conflict(f"key {key!r} exists already, since revision {revision}", "It was to be written only if absent")
    is_now = f"at revision {revision}" if revision else "absent"
    return Conflict(f"key {key!r} is {is_now}, not at revision {expected} as expected", "Load it and try again")


def conflict_mark(name: str) -> Conflict:
    """A checkpoint that was to be new has a name that is taken."""
    return Conflict(f"checkpoint {name!r} exists already")


def pruned(namespace: str, revision: int, floor: int) -> HistoryPruned:
    """A revision that is no longer kept."""
    return HistoryPruned(
        f"revision {revision} of namespace {namespace!r} is no longer kept",
        f"Its history reaches back to revision {floor}; older states are kept where a checkpoint names them",
    )


def notice(text: str) -> None:
    """Tell the person at the terminal something once, without stopping."""
    print(f"stateview: {text}", file=sys.stderr, flush=True)


def file_error(error: OSError, path: str) -> StateException:
    """An operating system's error as one of ours, which names the file and the next step."""
    what = f"{path}: {os.strerror(error.errno) if error.errno else error}"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return ReadOnly(what, "Check who owns the folder, or open it with read_only=True (--read-only)")
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return BackendError(what, "Nothing was changed. Free some space and try again")
    if error.errno in (errno.ENOTDIR, errno.EISDIR, errno.EEXIST):
        return BackendError(what, "A store is a folder; check its path")
    return BackendError(what, "Nothing was changed")


def fsync_folder(path: str) -> None:
    """Make the names in a folder durable. A rename without this is gone after a loss of power."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folders(path: str) -> None:
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


def sweep(folder: str) -> list[str]:
    """Remove temporary files whose process is gone; return their names. Call it under the folder's lock."""
    swept = []
    for name in os.listdir(folder) if os.path.isdir(folder) else ():
        _, found, tail = name.partition(TEMPORARY)
        owner = tail.partition("-")[0]
        if found and not (owner.isdigit() and os.path.exists(f"/proc/{owner}")):
            remove(os.path.join(folder, name))
            swept.append(name)
    return swept


def keep_damaged(path: str) -> str:
    """Move a damaged file aside, under a name with the time, and return that name."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    name = f"{path}{DAMAGED}{stamp}"
    while os.path.exists(name):
        name = f"{path}{DAMAGED}{stamp}-{os.urandom(2).hex()}"
    os.rename(path, name)
    return name


@contextmanager
def file_lock(path: str, timeout: float) -> Iterator[None]:
    """Hold the exclusive lock of a folder, by `flock` on a file in it that is never replaced.

    Raises:
        BackendUnavailable: another process held it for `timeout` seconds.

    """
    import fcntl  # not on every platform: only where files are locked

    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        deadline = time.monotonic() + timeout
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise BackendUnavailable(
                        f"{path} has been locked by another process for {timeout:g} s", "Try again, or end that process"
                    ) from None
                time.sleep(LOCK_POLL)
        try:
            yield
        finally:
            # Closing alone would leave it locked while a child forked meanwhile holds a copy of the descriptor.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)
