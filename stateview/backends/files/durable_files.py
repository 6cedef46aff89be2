"""Files that survive a crash: fsync, temporary files, locks, backups of damaged files."""

from __future__ import annotations

import errno
import os
import threading
import time
from _weakrefset import WeakSet  # weakref.WeakSet, without the rest of weakref
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO

from ...errors import NOTHING_CHANGED, BackendError, BackendUnavailable, Damaged, ReadOnly, StateException
from ..reentry import members, reentry_error
from ..retries import Backoff

TEMPORARY = ".tmp-"
DAMAGED = ".damaged-"
_LOCK_PAUSE_SECONDS = 0.002
OUT_OF_FILES = (errno.EMFILE, errno.ENFILE)
CLOSE_FILES = "Close files that this process holds open, or raise its limit (ulimit -n)"


class _LockFile(FileIO):
    """An open lock file, the thread that opened it, and whether it may hold the lock: from before `flock` succeeds."""

    thread = 0
    may_hold = False


_lock_files: WeakSet[_LockFile] = WeakSet()
os.register_at_fork(after_in_child=_lock_files.clear)  # the parent's threads do not exist in the child


def file_error(error: OSError, path: str) -> StateException:
    """Convert an error of the operating system. The message names the file, the hint gives the next step.

    Raises:
        OSError: the error itself, if it is none of the operating system: ours, or a signal handler's.

    """
    if error.errno is None:
        raise error
    what = f"{path}: {os.strerror(error.errno)}"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return ReadOnly(
            what, "Check who owns the folder and its files: a write needs the right to write to all of them"
        )
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return BackendError(what, (NOTHING_CHANGED, "Free some space and try again"))
    if error.errno in OUT_OF_FILES:
        return BackendError(f"{path}: too many files are open", CLOSE_FILES)
    if error.errno in (errno.ENOTDIR, errno.EISDIR, errno.EEXIST):
        return BackendError(what, "A store is a folder; check its path")
    return BackendError(what, NOTHING_CHANGED)


def is_system_error(error: BaseException) -> bool:
    """Return whether the operating system refused a call. A signal handler's exception, even OSError, has no errno."""
    return isinstance(error, OSError) and error.errno is not None


def is_out_of_files(needed: int) -> bool:
    """Return whether the process, or the system, cannot open so many files more."""
    descriptors: list[int] = []
    try:
        while len(descriptors) < needed:
            descriptors += [os.open(os.devnull, os.O_RDONLY)]
    except OSError as error:
        return error.errno in OUT_OF_FILES
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
    return False


def read_file(path: str) -> bytes:
    """Return the content of a file."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise file_error(error, path) from error


def fsync_folder(path: str) -> None:
    """Make the names in a folder durable. Without this call, a loss of power may undo a rename."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def makedirs_durable(path: str) -> None:
    """Make a folder and its missing parents durably."""
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
    """Return a path beside `path` that no other thread or process uses."""
    return f"{path}{TEMPORARY}{os.getpid()}-{os.urandom(4).hex()}"


def write_all(file: FileIO, data: bytes) -> None:
    """Write all of `data` to an unbuffered file, of which one `write` may take only a part."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def write_temporary(path: str, data: bytes, mtime: int | None = None, mode: int | None = None) -> str:
    """Write `data` durably to a temporary file beside `path` and return its path. Leaves no file after an error.

    Args:
        path: the path that the caller renames the file to.
        data: the content.
        mtime: the modification time, in nanoseconds since 1970.
        mode: the permissions, which it has before it has content. None: those of a new file.

    """
    name = temporary(path)
    try:
        with open(name, "xb", buffering=0) as file:
            if mode is not None:
                os.fchmod(file.fileno(), mode)
            write_all(file, data)
            if mtime is not None:
                os.utime(file.fileno(), ns=(mtime, mtime))
            os.fsync(file.fileno())
    except BaseException:
        remove(name)
        raise
    return name


def remove(path: str) -> None:
    """Remove a file if it exists."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def temporary_owner(name: str) -> tuple[bool, str]:
    """Return whether a file name is that of a temporary file, and the id of its process if this process runs."""
    _, marker, tail = name.partition(TEMPORARY)
    owner = tail.partition("-")[0]
    return bool(marker), owner if owner.isdigit() and os.path.exists(f"/proc/{owner}") else ""


def remove_stale_temporary_files(folder: str) -> list[str]:
    """Remove the temporary files and folders of processes that have ended, and return their names.

    Call it under the folder's lock.
    """
    removed = []
    for name in os.listdir(folder) if os.path.isdir(folder) else ():
        is_temporary, owner = temporary_owner(name)
        if is_temporary and not owner:
            path = os.path.join(folder, name)
            if os.path.isdir(path):
                import shutil  # imported here: only a killed recovery leaves a folder

                shutil.rmtree(path)
            else:
                remove(path)
            removed.append(name)
    return removed


def replaced_path(path: str, folder: str) -> str:
    """Return the path to rename a temporary file to: the path itself, or the file that a symbolic link leads to.

    Args:
        path: the path of a file that is to be replaced, or made.
        folder: the folder of the temporary file.

    Raises:
        BackendError: the path leads to another file system, to which no file can be renamed.

    """
    target = os.path.realpath(path) if os.path.islink(path) else path
    if os.stat(os.path.dirname(target)).st_dev != os.stat(folder).st_dev:
        what = f"{path} leads to another file system, {os.path.dirname(target)}"
        raise BackendError(what, (NOTHING_CHANGED, f"Make {folder} itself a link to a folder there"))
    return target


def check_links(*paths: str) -> None:
    """Check that no path is a symbolic link that leads nowhere: what it led to is missing, and not new.

    Raises:
        Damaged: a link leads nowhere.

    """
    for path in paths:
        if os.path.islink(path) and not os.path.exists(path):
            what = f"{path} is a symbolic link to {os.readlink(path)}, which does not exist"
            raise Damaged(what, "Bring back what it leads to, or remove the link")


def backup_damaged_file(path: str) -> str:
    """Give a damaged file a second name that holds the time, and return that. The caller replaces the first."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    name = f"{path}{DAMAGED}{stamp}"
    while os.path.exists(name):
        name = f"{path}{DAMAGED}{stamp}-{os.urandom(2).hex()}"
    try:
        os.link(os.path.realpath(path), name)  # the file itself: the symbolic link would lead to what replaces it
    except OSError:  # a file system without links
        import shutil

        shutil.copy2(path, name)
    return name


@contextmanager
def file_lock(path: str, timeout: float, create: bool = True) -> Iterator[None]:
    """Hold the exclusive lock of a folder, by `flock` on a file in the folder that is never replaced.

    Args:
        path: the path of the lock file.
        timeout: seconds to wait for the lock.
        create: make the folder and the lock file if they are missing.

    Raises:
        BackendUnavailable: another process held the lock for `timeout` seconds.
        Reentered: this thread holds the lock, and `timeout` is not 0.

    """
    import fcntl  # not on every platform: only where files are locked

    backoff = Backoff(timeout, _LOCK_PAUSE_SECONDS, _LOCK_PAUSE_SECONDS)
    while True:
        if create:
            makedirs_durable(os.path.dirname(path))
        try:
            flags = os.O_RDWR | os.O_CREAT if create else os.O_RDONLY
            file = _LockFile(os.open(path, flags | os.O_CLOEXEC, 0o666))
        except FileNotFoundError:
            # Another process may have dropped the folder after makedirs_durable
            if create and not os.path.islink(path) and backoff.wait():
                continue
            raise
        with file:  # the exception of a signal handler can end a `finally` before its first call, but not this
            file.thread = threading.get_ident()
            _lock_files.add(file)
            _flock(file, path, backoff, timeout)
            if _is_at(file.fileno(), path):
                try:
                    yield
                finally:
                    # Closing alone would leave it locked while a child forked meanwhile holds a copy of the descriptor.
                    fcntl.flock(file.fileno(), fcntl.LOCK_UN)
                return


def holds_lock(path: str) -> bool:
    """Return whether this thread holds the lock file at a path, by whatever path it was opened. O(locks held)."""
    thread = threading.get_ident()
    mine = [file for file in members(_lock_files) if file.thread == thread and file.may_hold and not file.closed]
    return any(_is_at(file.fileno(), path) for file in mine)


def _flock(file: _LockFile, path: str, backoff: Backoff, timeout: float) -> None:
    import fcntl

    while True:
        file.may_hold = True
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            file.may_hold = False
            if timeout and holds_lock(path):
                raise reentry_error(path) from None
            if not backoff.wait():
                raise BackendUnavailable(
                    f"{path} has been locked by another process for {timeout:g} s", "Try again, or end that process"
                ) from None


def _is_at(descriptor: int, path: str) -> bool:
    """Return whether the open lock file is still at its path. `drop` moves the folder away with its lock file."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False
