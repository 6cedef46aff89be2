"""A cache of loaded values, valid for as long as the WAL index shows that nothing was committed.

Each commit changes the index's header, the first 48 bytes of the `-shm` file, before it is acknowledged (SQLite's
"WAL-mode File Format", section 2.1). Comparing the header takes no system call, where a SELECT takes two locks.
"""

from __future__ import annotations

import mmap
import os
from time import monotonic

from ..protocol import Version

TRUST_SECONDS = 0.5  # for this long the cache does not check whether the database is still the file at its path
CACHE_BYTES = 16 * 1024 * 1024  # of values, for each database
_VERSION_OVERHEAD_BYTES = 200
_HEADER_BYTES = 48
_MAX_INDEXES = 64  # WAL indexes that one process keeps mapped

# The mapped WAL indexes by device and inode. Neither a map nor its descriptor is ever closed: closing any descriptor
# of a file drops all locks of the process on that file (fcntl(2)), and SQLite's own locks are among them.
_indexes: dict[tuple[int, int], tuple[int, mmap.mmap]] = {}


class ReadCache:
    """Encoded versions by key, dropped together when anyone commits. It lives as long as a connection is open."""

    def __init__(self, index: mmap.mmap) -> None:
        self._index = index
        self._state: tuple[bytes, dict[str, Version]] = (b"", {})  # one tuple, so that threads see both or neither
        self._trusted_until = 0.0
        self._size = 0

    def get(self, key: str) -> Version | None:
        """Return the version of a key if the cache has it and nothing was committed since."""
        header, versions = self._state
        if self._index[:_HEADER_BYTES] != header or monotonic() > self._trusted_until:
            return None
        return versions.get(key)

    def header(self) -> bytes:
        """Return the header of the WAL index. Take it before a read, and give it to `put` after the read."""
        return self._index[:_HEADER_BYTES]

    def put(self, version: Version, header: bytes, checked_at: float) -> None:
        """Store a version that was read after `header`, from a file that was at its path at the time `checked_at`."""
        cached_header, versions = self._state
        size = len(version.value or b"") + _VERSION_OVERHEAD_BYTES
        if header != cached_header or self._size + size > CACHE_BYTES:
            versions, self._size = {}, 0
            self._state = (header, versions)
        if size <= CACHE_BYTES:
            versions[version.key] = version
            self._size += size
        self._trusted_until = checked_at + TRUST_SECONDS


def open_cache(path: str) -> ReadCache | None:
    """Open a cache for a database to which a connection is open; None where the database has no WAL index."""
    try:
        status = os.stat(f"{path}-shm")
        identity = (status.st_dev, status.st_ino)
        if identity not in _indexes:
            if len(_indexes) >= _MAX_INDEXES:
                return None
            descriptor = os.open(f"{path}-shm", os.O_RDONLY | os.O_CLOEXEC)
            opened = os.fstat(descriptor)
            index = mmap.mmap(descriptor, _HEADER_BYTES, prot=mmap.PROT_READ)
            _indexes[opened.st_dev, opened.st_ino] = (descriptor, index)
            if (opened.st_dev, opened.st_ino) != identity:
                return None
        return ReadCache(_indexes[identity][1])
    except (OSError, ValueError):
        return None  # a rollback journal, or a file that may not be read: every load runs a SELECT
