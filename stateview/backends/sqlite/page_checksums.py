"""A checksum in every page of a database, by SQLite's own VFS for that, which apsw's wheels carry as an extension.

SQLite does not notice a bit that has flipped in a page, and the checksums of our rows do not tell where a row is no
longer found. With this, to read such a page is an error. What is in the WAL has checksums of SQLite's own.
"""

from __future__ import annotations

import os
from functools import cache
from threading import Lock

import apsw

RESERVED_BYTES = 8  # bytes at the end of every page: by this SQLite knows that it has a checksum
_NAME = "cksmvfs"
_mutex = Lock()


@cache
def vfs() -> str | None:
    """The name of the VFS; None where this build of apsw is without it. It does nothing to other databases."""
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
        apsw.set_default_vfs(before)  # it has made itself that of the whole process
        return _NAME


def connect(path: str) -> apsw.Connection:
    """A connection that verifies the checksum of each page it reads, and writes them."""
    return apsw.Connection(path, vfs=vfs())


def connect_trusting(path: str) -> apsw.Connection:
    """A connection that writes the checksums, and reads what is there, whatever they say."""
    connection = connect(path)
    verify(connection, False)
    return connection


def verify(connection: apsw.Connection, on: bool) -> None:
    """Whether a page that is read from now on, which this connection has not read before, must be what was written."""
    connection.pragma("checksum_verification", "ON" if on else "OFF")
    connection.execute("PRAGMA shrink_memory")  # else pages that it has read before would count as verified


def protect(connection: apsw.Connection) -> bool:
    """Give the pages of a database that is still empty, or is vacuumed next, their checksums; False where it cannot."""
    if vfs() is None:
        return False
    connection.reserve_bytes("main", RESERVED_BYTES)
    return True


def has_checksums(connection: apsw.Connection) -> bool:
    """Whether its pages have room for them."""
    return connection.reserve_bytes("main", -1) == RESERVED_BYTES


def is_fault(error: apsw.Error) -> bool:
    """Whether it says that a page is not what its checksum is of."""
    return getattr(error, "extendedresult", 0) == apsw.SQLITE_IOERR_DATA
