"""Findings about a namespace's folder: permissions, leftover files, the lock, the disk."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator

from ...errors import NextStep, run
from ...model import Finding
from .durable_files import DAMAGED, file_error, temporary_owner
from .namespace_folders import is_network_filesystem
from .staging import ASIDE, STAGES, replaced_finding, unfinished_finding

FREE_SPACE_FACTOR = 2  # the free space on the disk should be this many times the size of the files
_TAKES_SPACE = "it takes disk space and has no other effect"
REMOVE_WHEN_UNNEEDED = "Remove it when you need nothing in it any more"


def check_folder(root: str, folder: str, files: Iterable[str]) -> Iterator[Finding]:
    """Find problems of a namespace's folder.

    Args:
        root: the store's folder, to which the subjects of findings are relative.
        folder: the namespace's folder.
        files: the paths of its files, which may be missing.

    """
    present = [path for path in files if os.path.exists(path)]
    for path in (folder, *present):
        yield from _check_permissions(root, path)
    for path in (folder, os.path.join(folder, "checkpoints")):
        yield from _check_leftovers(root, path)
    yield from _check_lock(root, os.path.join(folder, "lock"))
    yield from _check_disk(root, folder, present)


def unreadable_finding(root: str, path: str, error: OSError) -> Finding:
    """Return the finding for a file or folder that cannot be read, and is therefore not known to be sound."""
    message = file_error(error, path).message
    remedy = "Check who owns it, and the disk"
    return Finding("error", os.path.relpath(path, root), message, "it could not be checked", remedy, "unreadable")


def whole_versions_finding(root: str, path: str) -> Finding:
    """Return the finding for history that `compact` would pack."""
    found, meaning = "it keeps large superseded versions whole (format 1)", "they take more space than packed ones"
    return Finding(
        "note", os.path.relpath(path, root), found, meaning, run("compact", after=": it packs them"), "whole-versions"
    )


def _check_permissions(root: str, path: str) -> Iterator[Finding]:
    mode = os.stat(path).st_mode
    subject, owner = os.path.relpath(path, root), "Check who owns it"
    is_folder = stat.S_ISDIR(mode)
    if not os.access(path, os.R_OK | (os.X_OK if is_folder else 0)):
        meaning = "its content cannot be checked"
        yield Finding("error", subject, "this user may not read it", meaning, owner, "no-read-permission")
    elif not os.access(path, os.W_OK):
        meaning = "every save fails" if is_folder or path.endswith(".db") else "a save can still replace it"
        yield Finding("warning", subject, "this user may not write to it", meaning, owner, "no-write-permission")
    if mode & stat.S_IWOTH and not (is_folder and mode & stat.S_ISVTX):
        message, remedy = "every user of this machine may write to it", f"chmod o-w {path}"
        yield Finding("warning", subject, message, "anyone can change it", remedy, "world-writable")


def _check_leftovers(root: str, folder: str) -> Iterator[Finding]:
    try:
        names = sorted(os.listdir(folder))
    except FileNotFoundError:
        return
    except OSError as error:
        yield unreadable_finding(root, folder, error)
        return
    for name in names:
        subject = os.path.relpath(os.path.join(folder, name), root)
        is_temporary, owner = temporary_owner(name)
        if is_temporary and owner:
            message = f"a temporary file of process {owner}, which runs"
            yield Finding("note", subject, message, "a save may be under way", "", "temporary-file")
        elif is_temporary:
            message = "a temporary file of a process that is gone"
            meaning = "a save was interrupted before it was committed; nothing is missing"
            again = NextStep("The next save, or ", ("recover",), ", removes it")
            yield Finding("warning", subject, message, meaning, again, "stale-temporary-file")
        elif DAMAGED in name:
            message = "a damaged file that 'recover' kept"
            yield Finding("note", subject, message, _TAKES_SPACE, REMOVE_WHEN_UNNEEDED, "damaged-file-kept")
        elif name in STAGES:
            remedy = "Run the migration or the import again to continue it, or remove the folder"
            yield unfinished_finding(subject, remedy)
        elif name.startswith(ASIDE):
            yield replaced_finding(subject, REMOVE_WHEN_UNNEEDED)


def _check_lock(root: str, path: str) -> Iterator[Finding]:
    """Report a lock that is held.

    The lock file alone means nothing: the system releases the lock when its owner ends.
    """
    import fcntl

    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    except OSError as error:
        yield unreadable_finding(root, path, error)
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        fcntl.flock(descriptor, fcntl.LOCK_UN)
    except BlockingIOError:
        owner = _lock_owner(os.fstat(descriptor).st_ino)
        message = f"held by process {owner or 'of an unknown number'}"
        meaning = "a save or a recovery is under way; the lock is released when that process ends"
        remedy = f"If it stays: look at process {owner}" if owner else "If it stays: look for the process that holds it"
        yield Finding("note", os.path.relpath(path, root), message, meaning, remedy, "lock-held")
    finally:
        os.close(descriptor)


def _lock_owner(inode: int) -> str:
    """Return the id of the process that holds a lock on a file; "" where Linux does not show it."""
    try:
        with open("/proc/locks", encoding="ascii", errors="replace") as locks:
            rows = (line.split() for line in locks)
            return next((row[4] for row in rows if len(row) > 5 and row[5].rpartition(":")[2] == str(inode)), "")
    except OSError:
        return ""


def _check_disk(root: str, folder: str, files: list[str]) -> Iterator[Finding]:
    subject = os.path.relpath(folder, root)
    if is_network_filesystem(os.path.join(folder, "state")):
        meaning = "locks and renames may not work between machines there, and a save waits for the network"
        remedy = "Keep it on a local disk"
        yield Finding("warning", subject, "it is on a network file system", meaning, remedy, "network-filesystem")
    size = sum(os.path.getsize(path) for path in files)
    disk = os.statvfs(folder)
    free = disk.f_bavail * disk.f_frsize
    if free < FREE_SPACE_FACTOR * size:
        message = f"{free // 1_000_000:,} MB are free on its disk, and its files take {size // 1_000_000:,} MB"
        meaning = "a save, a recovery or a prune may fail for lack of space; no data is lost by that"
        yield Finding("warning", subject, message, meaning, "Free some space, or prune the history", "low-disk-space")
