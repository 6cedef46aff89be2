"""`doctor()` of a SQLite namespace: the file, its pages, rows and log, and what SQLite it is in the hands of."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

import apsw

from ...errors import BackendUnavailable, Hint, NextStep, StateException, run
from ...model import Finding
from ..common import is_network_filesystem
from ..folder_checks import could_not, examine_folder
from ..protocol import ProgressText
from . import page_checksums as pages
from . import schema
from .row_checksums import RECOVER, find_corruption

if TYPE_CHECKING:
    from .backend import SQLiteBackend

MAX_FREE_SHARE = 0.25  # of the pages that are free, from which on it is worth saying
LARGE_WAL_BYTES = 64 * 1024 * 1024  # bytes of a log
_JOURNAL = b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7"  # what it begins with
_INSTRUCTIONS_PER_REPORT = 100_000  # instructions of SQLite between two looks whether to stop

# The WAL-reset bug: a write that meets a checkpoint of another connection can lose a commit, or damage the file
_SOUND = ((3, 44, 6), (3, 50, 7))
_BAD = ((3, 7, 0), (3, 51, 2))


def examine(backend: SQLiteBackend, say: ProgressText) -> Iterator[Finding]:
    """See `Backend.diagnose`."""
    path = backend.path
    yield from _version(apsw.sqlite_lib_version())
    if not os.path.isdir(backend.folder):
        return
    try:
        yield from examine_folder(backend.root, backend.folder, (path, f"{path}-wal"))
        if not os.path.exists(path):
            yield from _without(backend)
            return
        yield from _files(backend)
        with backend._connection() as db:
            if db is not None:
                db.set_progress_handler(partial(_keep_on, say), _INSTRUCTIONS_PER_REPORT)
                try:
                    yield from _settings(backend, db)
                    yield from _content(backend, db, say)
                finally:
                    db.set_progress_handler(None)
    except BackendUnavailable as error:
        yield _finding(backend, "error", error.message, "it could not be checked", error.next_steps)
    except StateException as error:
        if getattr(error.__cause__, "extendedresult", 0) == apsw.SQLITE_READONLY_ROLLBACK:
            yield _journal(backend)
            return
        yield _finding(
            backend, "error", error.message, "nothing that is in what is damaged can be read", error.next_steps
        )
    except OSError as error:
        yield could_not(backend.root, error.filename or backend.folder, error)


def _keep_on(say: ProgressText) -> bool:
    """What SQLite calls in the middle of a statement: who wants it to end raises."""
    say("within SQLite")
    return False


def _finding(backend: SQLiteBackend, severity: str, found: str, meaning: str, remedy: Hint = "") -> Finding:
    assert severity in ("error", "warning", "note")
    subject = os.path.relpath(backend.path, backend.root)
    return Finding(severity, subject, found, meaning, remedy)  # type: ignore[arg-type]


def _version(text: str) -> Iterator[Finding]:
    version = tuple(int(part) for part in text.split("."))[:3]
    low, high = _BAD
    if low <= version <= high and not any(version[:2] == good[:2] and version >= good for good in _SOUND):
        meaning = "in WAL mode it can lose an acknowledged commit, or damage the file"
        remedy = "Upgrade apsw, which carries SQLite: pip install -U apsw"
        yield Finding("warning", "SQLite", f"version {text}", meaning, remedy)
    if pages.vfs() is None:
        meaning = "a flipped bit in a new database may go unnoticed where it hides a row"
        remedy = "Install apsw from a wheel: pip install --only-binary apsw apsw"
        yield Finding("warning", "SQLite", "this build of apsw is without checksums of pages", meaning, remedy)


def _without(backend: SQLiteBackend) -> Iterator[Finding]:
    """There is no database, and there may have been one."""
    for suffix in ("-wal", "-journal"):
        if os.path.exists(backend.path + suffix):
            yield _finding(backend, "error", f"it is missing, and its {suffix[1:]} file is there",
                           "the file was removed by other means: its content is lost, but for what was kept elsewhere",
                           "Put the file back, beside that one")  # fmt: skip


def _journal(backend: SQLiteBackend) -> Finding:
    """A rollback journal keeps the database from all who may not write, as `doctor` does not."""
    try:
        with open(f"{backend.path}-journal", "rb") as file:
            is_one = file.read(len(_JOURNAL)) == _JOURNAL
    except FileNotFoundError:
        is_one = True  # it was taken back just now
    found, does = "a rollback journal lies beside it", "a write was cut off; the next access for writing takes it back"
    if not is_one:
        found = "a file lies beside it in the place of a rollback journal, and is none"
        does = "it says nothing of the database; the next access for writing removes it"
    meaning = f"{does}. Until then who may not write cannot read either, so that nothing more was checked"
    return _finding(backend, "error", found, meaning, run("recover", after=", which does so, and checks all"))


def _files(backend: SQLiteBackend) -> Iterator[Finding]:
    path = backend.path
    log = f"{path}-wal"
    size = os.path.getsize(log) if os.path.exists(log) else 0
    if size > max(LARGE_WAL_BYTES, os.path.getsize(path) // 2):
        yield _finding(backend, "warning", f"its log (-wal) has grown to {size // 1_000_000:,} MB",
                       "a process that reads for long keeps it from being folded in; reads get slower",
                       "End that process; the last one to close the database folds it in")  # fmt: skip


def _settings(backend: SQLiteBackend, db: apsw.Connection) -> Iterator[Finding]:
    mode, network = db.pragma("journal_mode"), is_network_filesystem(backend.path)
    if mode == "wal" and network:
        yield _finding(backend, "error", "it is in WAL mode on a network file system",
                       "writers on two machines do not see each other, and damage it",
                       NextStep("Move it to a local disk, or ", ("migrate",), " it there"))  # fmt: skip
    elif mode != "wal" and not network and os.access(backend.folder, os.W_OK):  # else it is opened as it lies
        yield _finding(backend, "warning", f"its journal mode is {mode}, not WAL",
                       "it is sound, but slow, and readers and writers wait for each other",
                       NextStep("", ("migrate",), " it to a new place"))  # fmt: skip
    if not pages.has_checksums(db):
        yield _finding(backend, "note", "its pages have no checksums",
                       "it was made by a build without them; a flipped bit that hides a row may go unnoticed",
                       NextStep("", ("migrate",), " it to a new place"))  # fmt: skip
    total, free = (int(db.execute(f"PRAGMA {name}").get) for name in ("page_count", "freelist_count"))
    if free > MAX_FREE_SHARE * total and free > 256:
        size = int(db.execute("PRAGMA page_size").get)
        yield _finding(backend, "note", f"{free / total:.0%} of its pages are free, {free * size // 1_000_000:,} MB",
                       "they are used again; the file does not shrink by itself", run("compact"))  # fmt: skip


def _content(backend: SQLiteBackend, db: apsw.Connection, say: ProgressText) -> Iterator[Finding]:
    meaning = "what is stored is not what was written, or not all of it"
    for found in find_corruption(db, schema.tables(), say):
        yield _finding(backend, "error", found, meaning, RECOVER)
