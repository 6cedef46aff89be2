"""The index of the WAL, the -shm file, where it is of a WAL that was removed.

The last connection to a database removes the WAL and its index when it is closed. Another copy of SQLite may have the
WAL open then without a lock: its process dropped the lock when it closed the database by other ways, for example after
a copy of the files. It makes a new index of the removed WAL. As long as it has that index open, all others use it with
a new WAL, which is empty. A read of a frame fails with SQLITE_IOERR_SHORT_READ, and a write that reads no such frame
would put its own where no recovery finds them.
"""

from __future__ import annotations

import os

import apsw

from ...files.durable_files import remove
from . import page_checksums as pages
from .file_locks import LockedConnection
from .pool import leave_log


def is_outdated(connection: apsw.Connection) -> bool:
    """Return whether the index of a new connection lists more frames than the WAL holds."""
    try:
        connection.pragma("user_version")  # the first read opens the WAL
        frames, _ = connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)
    except apsw.ReadOnlyError:
        return False  # this user may not write the WAL, and is not told how many frames it has
    except apsw.IOError as error:
        if getattr(error, "extendedresult", 0) == apsw.SQLITE_IOERR_SHORT_READ:
            return True  # a frame of the first page. No other file gives this error
        raise
    return frames > 0 and os.path.getsize(connection.filename_wal) < frames * int(connection.pragma("page_size"))


def remove_index(path: str) -> None:
    """Remove the index, as the last connection does, unless another connection has a lock on the database."""
    connection = LockedConnection.open(path, flags=apsw.SQLITE_OPEN_READWRITE, vfs=pages.vfs())
    try:
        leave_log(connection)
        connection.pragma("locking_mode", "EXCLUSIVE")  # set before the first read, it makes SQLite use no index file
        connection.execute("BEGIN IMMEDIATE")
        remove(f"{path}-shm")
    except apsw.BusyError:
        pass  # the caller tries again
    finally:
        connection.close()
