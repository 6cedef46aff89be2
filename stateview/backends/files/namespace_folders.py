"""Folders of namespaces: where they lie, and which a store has."""

from __future__ import annotations

import os
from collections.abc import Iterable

from ...model import is_name
from ..protocol import StoreIdentity
from .durable_files import file_error

_NETWORK = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "fuse.sshfs", "fuse.glusterfs"}


def folder_identity(folder: str) -> StoreIdentity:
    """Return the identity of a namespace's folder, whatever link or mount leads to it.

    Raises:
        StateException: the folder cannot be examined.

    """
    try:
        status = os.stat(folder)
    except FileNotFoundError:
        return StoreIdentity((os.path.realpath(folder),))
    except OSError as error:
        raise file_error(error, folder) from error
    return StoreIdentity((status.st_dev, status.st_ino))


def folders_with(root: str, files: Iterable[str]) -> list[str]:
    """List the folders in `root` that hold one of some files, sorted; [] if `root` does not exist.

    A folder that this user may not examine is listed too, so that reading it reports the error.

    Raises:
        StateException: `root` cannot be read.

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
    except OSError:  # a link into a folder that this user may not search
        return True


def _may_hold(path: str) -> bool:
    """Return whether a file exists or cannot be checked."""
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return is_name(os.path.basename(os.path.dirname(path)))  # not `lost+found`, which is no namespace
    return True


def is_network_filesystem(path: str) -> bool:
    """Return whether a path lies on a network file system, where WAL does not work. False where Linux cannot tell."""
    longest, kind = "", ""
    try:
        with open("/proc/self/mounts", encoding="utf-8", errors="replace") as mounts:
            for line in mounts:
                _, mount_point, mount_kind, *_ = line.split(" ")
                inside = os.path.abspath(path).startswith(mount_point.rstrip("/") + "/")
                if inside and len(mount_point) >= len(longest):
                    longest, kind = mount_point, mount_kind
    except OSError:
        return False
    return kind in _NETWORK
