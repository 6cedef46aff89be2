"""A memory of what was read from SQLite, good for as long as the WAL index says that nothing was committed since.

Each commit changes the index's header, the first 48 bytes of the `-shm` file, before it is acknowledged (SQLite's
"WAL-mode File Format", section 2.1). To compare them takes no system call, where a SELECT takes two locks.
"""

from __future__ import annotations

import mmap
import os
from time import monotonic

from ..protocol import Version

TRUST_SECONDS = 0.5  # seconds until it is looked at again whether the database is still the file that lies there
CACHE_BYTES = 16 * 1024 * 1024  # bytes of values of one database
_HEADER_BYTES = 48
_MAX_CACHES = 64  # databases that one process remembers

# The index by device and inode. Neither it nor its descriptor is ever closed: to close any descriptor of a file drops
# all locks that the process holds on it (fcntl(2)), and SQLite's own are among them.
_indexes: dict[tuple[int, int], tuple[int, mmap.mmap]] = {}


class ReadCache:
    """Versions by key, dropped together as soon as anyone commits. It lives while a connection is open, no longer."""

    def __init__(self, index: mmap.mmap) -> None:
        self._index = index
        self._state: tuple[bytes, dict[str, Version]] = (b"", {})
        self._until = 0.0
        self._size = 0

    def get(self, key: str) -> Version | None:
        """What is remembered of a key and certain to be true; None where that is nothing."""
        stamp, held = self._state
        if self._index[:_HEADER_BYTES] != stamp or monotonic() > self._until:
            return None
        return held.get(key)

    def stamp(self) -> bytes:
        """To be taken before a read, and given to `put` after it."""
        return self._index[:_HEADER_BYTES]

    def put(self, version: Version, stamp: bytes, looked: float) -> None:
        """Remember what was read after `stamp`, when the file was looked at at the time `looked`."""
        known, held = self._state
        size = len(version.value or b"") + 200
        if stamp != known or self._size + size > CACHE_BYTES:
            held, self._size = {}, 0
            self._state = (stamp, held)
        if size <= CACHE_BYTES:
            held[version.key] = version
            self._size += size
        self._until = looked + TRUST_SECONDS


def open_cache(path: str) -> ReadCache | None:
    """A memory for the database at a path, to which a connection is open; None where it has no WAL index."""
    try:
        found = os.stat(f"{path}-shm")
        known = (found.st_dev, found.st_ino)
        if known not in _indexes:
            if len(_indexes) >= _MAX_CACHES:
                return None
            descriptor = os.open(f"{path}-shm", os.O_RDONLY | os.O_CLOEXEC)
            opened = os.fstat(descriptor)
            _indexes[opened.st_dev, opened.st_ino] = (
                descriptor,
                mmap.mmap(descriptor, _HEADER_BYTES, prot=mmap.PROT_READ),
            )
            if (opened.st_dev, opened.st_ino) != known:
                return None
        return ReadCache(_indexes[known][1])
    except (OSError, ValueError):
        return None  # a rollback journal, or a file that may not be read: every load asks SQLite
