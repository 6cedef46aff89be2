"""Findings about a SQLite namespace: the SQLite library, the database file, its settings, pages and rows."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

import apsw

from ...errors import BackendUnavailable, Hint, NextStep, StateException, run
from ...model import Finding, Severity
from ..files.folder_checks import check_folder, unreadable_finding, whole_versions_finding
from ..files.namespace_folders import is_network_filesystem
from ..protocol import ProgressText
from . import schema
from .connections import file_locks
from .connections import page_checksums as pages
from .packing import can_pack
from .row_checksums import RECOVER, find_corruption

if TYPE_CHECKING:
    from .backend import SQLiteBackend
    from .connections.pool import Connection

MIN_FREE_SHARE = 0.25  # the share of free pages from which on they are reported
MIN_FREE_PAGES = 256
LARGE_WAL_BYTES = 64 * 1024 * 1024
_JOURNAL_MAGIC = b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7"  # the first bytes of a rollback journal
_INSTRUCTIONS_PER_REPORT = 100_000  # instructions of SQLite between two calls of `progress`

# Versions with the WAL-reset bug: a write during another connection's checkpoint can lose a commit, or damage the file.
_UNSAFE_SINCE = (3, 7, 0)
_UNSAFE_UNTIL = (3, 51, 2)
_BACKPORTS = ((3, 44, 6), (3, 50, 7))  # from here on a release of the same minor version has the fix


def diagnose(backend: SQLiteBackend, progress: ProgressText) -> Iterator[Finding]:
    """Find what is wrong with a namespace, see `Backend.diagnose`."""
    path = backend.path
    yield from _check_library(apsw.sqlite_lib_version())
    if not os.path.isdir(backend.folder):
        return
    try:
        yield from check_folder(backend.root, backend.folder, (path, f"{path}-wal"))
        if not os.path.exists(path):
            yield from _check_leftovers(backend)
            return
        yield from _check_wal_size(backend)
        with backend._connection() as db:
            if db is not None:
                db.set_progress_handler(partial(_report, progress), _INSTRUCTIONS_PER_REPORT)
                try:
                    yield from _check_settings(backend, db)
                    yield from _check_content(backend, db, progress)
                finally:
                    db.set_progress_handler(None)
    except BackendUnavailable as error:
        yield _finding(backend, "error", "database-locked", error.message, "it could not be checked", error.next_steps)
    except StateException as error:
        if getattr(error.__cause__, "extendedresult", 0) == apsw.SQLITE_READONLY_ROLLBACK:
            yield _describe_journal(backend)
            return
        meaning = "nothing that is in what is damaged can be read"
        yield _finding(backend, "error", "database-unreadable", error.message, meaning, error.next_steps)
    except OSError as error:
        yield unreadable_finding(backend.root, error.filename or backend.folder, error)


def _report(progress: ProgressText) -> bool:
    """Report progress from inside a statement: what `progress` raises ends the statement."""
    progress("within SQLite")
    return False


def _finding(
    backend: SQLiteBackend, severity: Severity, code: str, found: str, meaning: str, remedy: Hint = ""
) -> Finding:  # fmt: skip
    return Finding(severity, os.path.relpath(backend.path, backend.root), found, meaning, remedy, code)


def _check_library(text: str) -> Iterator[Finding]:
    version = tuple(int(part) for part in text.split("."))[:3]
    has_fix = any(version[:2] == fixed[:2] and version >= fixed for fixed in _BACKPORTS)
    if _UNSAFE_SINCE <= version <= _UNSAFE_UNTIL and not has_fix:
        meaning = "in WAL mode it can lose an acknowledged commit, or damage the file"
        remedy = "Upgrade apsw, which carries SQLite: pip install -U apsw"
        yield Finding("warning", "SQLite", f"version {text}", meaning, remedy, "unsafe-sqlite")
    if pages.vfs() is None:
        meaning = "a flipped bit in a new database may go unnoticed where it hides a row"
        remedy = "Install apsw from a wheel: pip install --only-binary apsw apsw"
        found = "this build of apsw is without checksums of pages"
        yield Finding("warning", "SQLite", found, meaning, remedy, "no-checksum-vfs")
    if file_locks.TABLE is None:
        found = "this system only has locks that a process loses when it closes the locked file"
        meaning = "a program that saves, and copies the store's files meanwhile, can damage the database"
        elsewhere = NextStep("Copy the files in another process, or use ", ("export",))
        yield Finding("note", "SQLite", found, meaning, elsewhere, "droppable-locks")


def _check_leftovers(backend: SQLiteBackend) -> Iterator[Finding]:
    """Report a WAL or a journal without its database."""
    for suffix in ("-wal", "-journal"):
        if os.path.exists(backend.path + suffix):
            yield _finding(backend, "error", "database-missing",
                           f"it is missing, and its {suffix[1:]} file is there",
                           "the file was removed by other means: its content is lost, but for what was kept elsewhere",
                           "Put the file back, beside that one")  # fmt: skip


def _describe_journal(backend: SQLiteBackend) -> Finding:
    """Describe the file in the place of a rollback journal, which keeps a read-only connection from the database."""
    try:
        with open(f"{backend.path}-journal", "rb") as file:
            is_journal = file.read(len(_JOURNAL_MAGIC)) == _JOURNAL_MAGIC
    except FileNotFoundError:
        is_journal = True  # another process has rolled it back meanwhile
    code, found = "rollback-journal", "a rollback journal lies beside it"
    effect = "a write was cut off; the next access for writing takes it back"
    if not is_journal:
        code, found = "stray-journal", "a file lies beside it in the place of a rollback journal, and is none"
        effect = "it says nothing of the database; the next access for writing removes it"
    meaning = f"{effect}. Until then a read-only connection cannot read the database, and nothing more was checked"
    return _finding(backend, "error", code, found, meaning, run("recover", after=", which does so, and checks all"))


def _check_wal_size(backend: SQLiteBackend) -> Iterator[Finding]:
    path = backend.path
    wal = f"{path}-wal"
    size = os.path.getsize(wal) if os.path.exists(wal) else 0
    if size > max(LARGE_WAL_BYTES, os.path.getsize(path) // 2):
        yield _finding(backend, "warning", "large-wal", f"its log (-wal) has grown to {size // 1_000_000:,} MB",
                       "a process with a long read keeps SQLite from checkpointing it; reads get slower",
                       "End that process; the last process to close the database checkpoints it")  # fmt: skip


def _check_settings(backend: SQLiteBackend, db: apsw.Connection) -> Iterator[Finding]:
    mode, network = db.pragma("journal_mode"), is_network_filesystem(backend.path)
    if mode == "wal" and network:
        yield _finding(backend, "error", "wal-on-network", "it is in WAL mode on a network file system",
                       "writers on two machines do not see each other, and damage it",
                       NextStep("Move it to a local disk, or ", ("migrate",), " it there"))  # fmt: skip
    elif mode != "wal" and not network and os.access(backend.folder, os.W_OK):  # a read-only folder allows no WAL
        yield _finding(backend, "warning", "journal-mode", f"its journal mode is {mode}, not WAL",
                       "it is sound, but slow, and readers and writers wait for each other",
                       NextStep("", ("migrate",), " it to a new place"))  # fmt: skip
    if not pages.has_checksums(db):
        yield _finding(backend, "note", "no-page-checksums", "its pages have no checksums",
                       "it was made by a build without them; a flipped bit that hides a row may go unnoticed",
                       NextStep("", ("migrate",), " it to a new place"))  # fmt: skip
    total, free = (int(db.execute(f"PRAGMA {name}").get) for name in ("page_count", "freelist_count"))
    if free > MIN_FREE_SHARE * total and free > MIN_FREE_PAGES:
        megabytes = free * int(db.execute("PRAGMA page_size").get) // 1_000_000
        yield _finding(backend, "note", "free-pages", f"{free / total:.0%} of its pages are free, {megabytes:,} MB",
                       "they are used again; the file does not shrink by itself", run("compact"))  # fmt: skip


def _check_content(backend: SQLiteBackend, db: Connection, progress: ProgressText) -> Iterator[Finding]:
    meaning = "what is stored is not what was written, or not all of it"
    sound = True
    db.execute("BEGIN")
    try:
        db.pragma("user_version")  # the first read decides which state is read
        backend._check_form(db)
        for found in find_corruption(db, schema.tables(), db.values, progress):
            sound = False
            yield _finding(backend, "error", found.code, found.text, meaning, RECOVER)
    finally:
        if db.in_transaction:
            db.execute("COMMIT")
    if sound and db.values.plain:
        progress("whether its versions are packed")
        if can_pack(db):
            yield whole_versions_finding(backend.root, backend.path)
