"""Page checksums, by SQLite's checksum VFS, which apsw's wheels include as an extension.

SQLite does not notice a flipped bit in a page. Row checksums do not help where the bit hides a row. With page checksums
reading such a page is an error. Frames in the WAL have SQLite's own checksums.
"""

from __future__ import annotations

import os
from functools import cache
from threading import RLock

import apsw

from .file_locks import LockedConnection

RESERVED_BYTES = 8  # at the end of every page: this number tells the VFS that the page has a checksum
_NAME = "cksmvfs"
_mutex = RLock()  # a signal handler can open a database in the middle of another opening


@cache
def vfs() -> str | None:
    """Load the checksum VFS and return its name; None where this build of apsw has none.

    Databases without page checksums work with it as well.
    """
    with _mutex:
        if _NAME in apsw.vfs_names():
            return _NAME
        before = apsw.vfs_names()[0]
        folder = os.path.join(os.path.dirname(apsw.__file__), "sqlite_extra_binaries")
        loader = apsw.Connection(":memory:")
        try:
            loader.enable_load_extension(True)
            loader.load_extension(os.path.join(folder, "cksumvfs"))
        except apsw.ExtensionLoadingError:
            return None
        finally:
            loader.close()
        apsw.set_default_vfs(before)  # the extension makes its VFS the default of the whole process
        return _NAME


def connect(path: str) -> apsw.Connection:
    """Open a connection that verifies the checksum of each page it reads, and writes checksums."""
    return LockedConnection.open(path, vfs=vfs())


def connect_trusting(path: str) -> apsw.Connection:
    """Open a connection that writes checksums, and reads pages without verifying them."""
    connection = connect(path)
    verify(connection, False)
    return connection


def verify(connection: apsw.Connection, on: bool) -> None:
    """Turn verification on or off for pages that the connection reads from the file from now on."""
    connection.pragma("checksum_verification", "ON" if on else "OFF")
    connection.execute("PRAGMA shrink_memory")  # drops cached pages, which would not be verified again


def protect(connection: apsw.Connection) -> bool:
    """Turn page checksums on for a database that is empty, or vacuumed next; False where there is no VFS for it."""
    if vfs() is None:
        return False
    connection.reserve_bytes("main", RESERVED_BYTES)
    return True


def has_checksums(connection: apsw.Connection) -> bool:
    """Return whether the pages of a database have checksums."""
    return connection.reserve_bytes("main", -1) == RESERVED_BYTES


def is_fault(error: apsw.Error) -> bool:
    """Return whether an error says that a page has a wrong checksum."""
    return getattr(error, "extendedresult", 0) == apsw.SQLITE_IOERR_DATA
