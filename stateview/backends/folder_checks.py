"""Findings about a namespace's folder: who may write to it, what is left over in it, who holds its lock, its disk."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator

from ..errors import Hint, NextStep
from ..model import Finding
from .durable_files import DAMAGED, TEMPORARY, file_error
from .namespace_folders import is_network_filesystem
from .staging import ASIDE, NOT_SHOWN, REPLACED, UNFINISHED

FREE_SPACE_FACTOR = 2  # times the size of the files that should be free on the disk
_STAGES = ("migrating-json", "migrating-sqlite")


def examine_folder(root: str, folder: str, files: Iterable[str]) -> Iterator[Finding]:
    """Findings about a folder and its files, those that are there."""
    present = [path for path in files if os.path.exists(path)]
    for path in (folder, *present):
        yield from _permissions(root, path)
    for place in (folder, os.path.join(folder, "checkpoints")):
        yield from _left_over(root, place)
    yield from _lock(root, os.path.join(folder, "lock"))
    yield from _disk(root, folder, present)


def could_not(root: str, path: str, error: OSError) -> Finding:
    """What could not be looked at is a finding, not a pass."""
    what = file_error(error, path)
    return Finding(
        "error", os.path.relpath(path, root), what.message, "it could not be checked", "Check who owns it, and the disk"
    )


def _permissions(root: str, path: str) -> Iterator[Finding]:
    found = os.stat(path)
    subject = os.path.relpath(path, root)
    is_folder = stat.S_ISDIR(found.st_mode)
    if not os.access(path, os.R_OK | (os.X_OK if is_folder else 0)):
        yield Finding(
            "error", subject, "this user may not read it", "nothing of it can be checked", "Check who owns it"
        )
    elif not os.access(path, os.W_OK):
        meaning = "every save fails" if is_folder or path.endswith(".db") else "a save replaces it all the same"
        yield Finding("warning", subject, "this user may not write to it", meaning, "Check who owns it")
    if found.st_mode & stat.S_IWOTH and not (is_folder and found.st_mode & stat.S_ISVTX):
        remedy = f"chmod o-w {path}"
        yield Finding("warning", subject, "every user of this machine may write to it", "anyone can change it", remedy)


def _left_over(root: str, folder: str) -> Iterator[Finding]:
    try:
        names = sorted(os.listdir(folder))
    except FileNotFoundError:
        return
    except OSError as error:
        yield could_not(root, folder, error)
        return
    for name in names:
        subject = os.path.relpath(os.path.join(folder, name), root)
        _, temporary, tail = name.partition(TEMPORARY)
        owner = tail.partition("-")[0]
        if temporary and owner.isdigit() and os.path.exists(f"/proc/{owner}"):
            yield Finding(
                "note", subject, f"a temporary file of process {owner}, which runs", "a save may be under way"
            )
        elif temporary:
            meaning = "a save was cut off before it counted; nothing is missing"
            again: Hint = NextStep("The next save, or ", ("recover",), ", removes it")
            yield Finding("warning", subject, "a temporary file of a process that is gone", meaning, again)
        elif DAMAGED in name:
            remedy = "Remove it when nothing in it is missed any more"
            yield Finding("note", subject, "a damaged file that 'recover' kept", "it takes room, no more", remedy)
        elif name in _STAGES:
            remedy = "Run the migration again, which goes on, or the import; or remove the folder"
            yield Finding("warning", subject, UNFINISHED, NOT_SHOWN, remedy)
        elif name.startswith(ASIDE):
            remedy = "Remove it when nothing in it is missed any more"
            yield Finding("note", subject, REPLACED, "it takes room, no more", remedy)


def _lock(root: str, path: str) -> Iterator[Finding]:
    """A lock that is held. The file alone is none: the system lets go of the lock of a process that ends."""
    import fcntl

    subject = os.path.relpath(path, root)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    except OSError as error:
        yield could_not(root, path, error)
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        fcntl.flock(descriptor, fcntl.LOCK_UN)
    except BlockingIOError:
        owner = _owner(os.fstat(descriptor).st_ino)
        meaning = "a save or a recovery is under way; it is let go of when that process ends"
        remedy = f"If it stays: look at process {owner}" if owner else "If it stays: look for the process that holds it"
        yield Finding("note", subject, f"held by process {owner or 'of an unknown number'}", meaning, remedy)
    finally:
        os.close(descriptor)


def _owner(inode: int) -> str:
    """The process that holds a lock on a file, as far as Linux tells."""
    try:
        with open("/proc/locks", encoding="ascii", errors="replace") as locks:
            held = (line.split() for line in locks)
            return next((one[4] for one in held if len(one) > 5 and one[5].rpartition(":")[2] == str(inode)), "")
    except OSError:
        return ""


def _disk(root: str, folder: str, files: list[str]) -> Iterator[Finding]:
    subject = os.path.relpath(folder, root)
    if is_network_filesystem(os.path.join(folder, "state")):
        meaning = "locks and renames may not hold between machines there, and a save waits for the network"
        yield Finding("warning", subject, "it is on a network file system", meaning, "Keep it on a local disk")
    size = sum(os.path.getsize(path) for path in files)
    disk = os.statvfs(folder)
    free = disk.f_bavail * disk.f_frsize
    if free < FREE_SPACE_FACTOR * size:
        found = f"{free // 1_000_000:,} MB are free on its disk, and its files take {size // 1_000_000:,} MB"
        meaning = "a save, a recovery or a prune may find no room; nothing is lost by that"
        yield Finding("warning", subject, found, meaning, "Free some space, or prune the history")
