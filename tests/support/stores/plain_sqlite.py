"""A SQLite database as another program uses it, while stateview has it open in this process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw


@contextmanager
def plain_sqlite(path: Path) -> Iterator[apsw.Connection]:
    """Open a database without the checksums of its pages, by the library that stateview uses.

    The standard module is another copy of SQLite, and may have no locks that last while this process closes files.
    """
    db = apsw.Connection(str(path), vfs="unix")
    try:
        yield db
    finally:
        db.close()
