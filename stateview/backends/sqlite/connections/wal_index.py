"""The index of the WAL, the -shm file, where it is of another WAL than the one beside it.

The last connection to a database removes the WAL and its index when it is closed. Another copy of SQLite may still have
that WAL open, without a lock: its process closed the database file by other ways, for example after a copy, and so
dropped the lock. If no connection has the next index open at that moment, the other copy makes it anew, of the removed
WAL. All others would use that index with the present WAL. They would read wrong pages, or none, and a WAL checkpoint
would write wrong pages into the database.
"""

from __future__ import annotations

import os

import apsw

from ...files.durable_files import remove
from . import page_checksums as pages
from .file_locks import LockedConnection
from .pool import leave_log

# In the header of the index, and of the WAL: https://www.sqlite.org/walformat.html
_INDEX_HEADER_BYTES = 48
_FRAMES = slice(16, 20)
_SALT_IN_INDEX = slice(32, 40)
_SALT_IN_WAL = slice(16, 24)


def is_outdated(connection: apsw.Connection) -> bool:
    """Return whether the index that a new connection uses is of another WAL.

    One look is enough: as long as the connection is open, nobody makes the index anew.
    """
    try:
        connection.pragma("user_version")  # the first read opens the WAL
    except (apsw.IOError, apsw.CorruptError, apsw.NotADBError):
        if _is_of_another_wal(connection):
            return True
        raise
    return _is_of_another_wal(connection)


def _is_of_another_wal(connection: apsw.Connection) -> bool:
    try:
        if connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)[0] <= 0:
            return False
    except apsw.Error:
        pass  # another connection writes, or this user may not: the header tells as well, and takes longer to find
    try:
        header = _index_header(f"{connection.filename}-shm")
        with open(connection.filename_wal, "rb") as wal:
            salt = wal.read(_SALT_IN_WAL.stop)[_SALT_IN_WAL]
    except OSError:
        return False  # there is no /proc, or no such file
    return any(header[_FRAMES]) and header[_SALT_IN_INDEX] != salt


def _index_header(path: str) -> bytes:
    """Read the header of an index from this process's memory; nothing where it is not found there.

    To open and close the file would drop the locks that another copy of SQLite in this process has on it.
    """
    inode = str(os.stat(path).st_ino)
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps, open("/proc/self/mem", "rb", 0) as memory:
        for line in maps:
            if inode in line and line.rstrip().endswith("-shm"):
                addresses, _, offset, _, mapped = line.split()[:5]
                if mapped == inode and int(offset, 16) == 0:
                    memory.seek(int(addresses.partition("-")[0], 16))
                    return memory.read(_INDEX_HEADER_BYTES)
    return b""


def remove_index(path: str) -> None:
    """Remove the index, as the last connection does, unless another connection has a lock on the database."""
    connection = LockedConnection.open(path, flags=apsw.SQLITE_OPEN_READWRITE, vfs=pages.vfs())
    try:
        leave_log(connection)
        connection.pragma("locking_mode", "EXCLUSIVE")  # set before the first read, it makes SQLite use no index file
        connection.execute("BEGIN IMMEDIATE")
        remove(f"{path}-shm")
    except (apsw.BusyError, PermissionError):  # who may write the files may not remove one without the folder's right
        pass  # the caller tries again
    finally:
        connection.close()
