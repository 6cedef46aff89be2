"""Temporary files that hold plain values of an encrypted namespace: in memory where the system has such a folder."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import suppress
from typing import IO

_COPY_BYTES = 1 << 20


def memory_folder() -> str | None:
    """Return a folder whose files lie in memory (or in swap space); None if there is none, for the default one."""
    for folder in (os.environ.get("XDG_RUNTIME_DIR"), "/dev/shm"):
        if folder and os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK):
            return folder
    return None


def private_folder(in_memory: bool) -> str:
    """Make a folder of mode 0700, and return its path.

    Args:
        in_memory: its files are to lie in memory, if that is possible.

    """
    return tempfile.mkdtemp(prefix="stateview-", dir=memory_folder() if in_memory else None)


def spool(in_memory: bool) -> IO[bytes]:
    """Open a file without a name, for writing and reading."""
    return tempfile.TemporaryFile(dir=memory_folder() if in_memory else None)


def erase(folder: str) -> None:
    """Overwrite the files of a folder, and remove it. A disk may keep older blocks all the same."""
    for place, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(place, name)
            if not os.path.islink(path):
                with suppress(OSError):  # it is removed below
                    _overwrite(path)
    shutil.rmtree(folder)


def _overwrite(path: str) -> None:
    with open(path, "r+b") as file:
        left = os.fstat(file.fileno()).st_size
        while left > 0:
            left -= file.write(bytes(min(left, _COPY_BYTES)))
        file.flush()
        os.fsync(file.fileno())
