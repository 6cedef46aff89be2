"""The staging folder of a copy into a namespace, and a namespace's folder, which JSON files and SQLite may share."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from ...errors import BackendError, BackendUnavailable, Hint, tells_what_was_done
from ...model import Finding
from ..conflicts import staging_locked_error
from .durable_files import (
    DAMAGED,
    TEMPORARY,
    file_error,
    file_lock,
    fsync_folder,
    is_system_error,
    temporary,
    temporary_owner,
)

LOCK = "receiver.lock"
ASIDE = "before-migrate-"  # the start of the name of a folder that holds a replaced namespace
JSON_STAGE = "migrating-json"
SQLITE_STAGE = "migrating-sqlite"
STAGES = (JSON_STAGE, SQLITE_STAGE)

# The start of the names of each kind's files in a namespace's folder, in the order in which `take_out` moves them. A
# process that is killed meanwhile leaves no namespace, or one that `recover` completes: without the history of
# JSON, or the first file of SQLite, there is no namespace.
_FILES = {
    "json": (JSON_STAGE, "checkpoints", "state.json", "history.jsonl", "keyring.json"),
    "sqlite": ("state.db", SQLITE_STAGE),
}


def unfinished_finding(subject: str, remedy: Hint) -> Finding:
    """Return the finding for the stage of a copy that is not finished."""
    message = "a copy into this namespace that is not finished"
    meaning = "it is still running or was interrupted; its data is not visible"
    return Finding("warning", subject, message, meaning, remedy, "unfinished-copy")


def replaced_finding(subject: str, remedy: Hint) -> Finding:
    """Return the finding for a former namespace that `migrate` replaced and kept."""
    message = "a namespace that a migration replaced, kept"
    return Finding("note", subject, message, "it takes space and has no other effect", remedy, "replaced-namespace")


class StagingFolder:
    """The folder in which a copy is built. The backend that reads it takes it for a namespace's folder.

    The constructor acquires the folder's lock.

    Args:
        folder: the folder of the destination's namespace.
        name: the staging folder's name in it.
        url: the store's URL, for messages.

    Raises:
        Conflict: another copy holds the lock.

    """

    def __init__(self, folder: str, name: str, url: str) -> None:
        self.parent = folder
        self.folder = os.path.join(folder, name)
        self._released = False
        self._lock = ExitStack()
        try:
            self._lock.enter_context(file_lock(os.path.join(self.folder, LOCK), 0))
        except BackendUnavailable as error:
            raise staging_locked_error(url, os.path.basename(folder)) from error
        except OSError as error:
            raise file_error(error, self.folder) from error

    def path(self, name: str) -> str:
        """Return the path of a file in the folder."""
        return os.path.join(self.folder, name)

    def clear(self) -> None:
        """Remove all that was staged, but not the lock file."""
        with self._removing():
            for name in os.listdir(self.folder):
                if name != LOCK:
                    _remove(self.path(name))

    def release(self) -> None:
        """Release the lock, and remove the folder if it is empty. Does nothing the second time."""
        if self._released:
            return
        self._released = True
        with self._removing(), self._lock:
            if os.path.isdir(self.folder) and os.listdir(self.folder) == [LOCK]:
                shutil.rmtree(
                    self.folder
                )  # before the release: a process that waits for this lock sees that it is gone
        try:
            os.rmdir(self.parent)
        except OSError:
            pass  # other files are in it

    @contextmanager
    def _removing(self) -> Iterator[None]:
        """Say of an error of the system that only staged data is left, whatever became of the namespace."""
        try:
            yield
        except OSError as error:
            if not is_system_error(error):
                raise
            what = f"{self.folder}: {os.strerror(error.errno or 0)}: staged data could not be removed"
            raise BackendError(what, "Remove the folder if no import or migration runs") from error


def set_aside(folder: str, names: tuple[str, ...]) -> str:
    """Give the files and folders of a namespace second names in a new folder, durably, and return its path.

    Args:
        folder: the namespace's folder, in which the new one is made.
        names: the files and folders in it; missing ones are left out.

    """
    aside = os.path.join(folder, ASIDE + time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()))
    while os.path.exists(aside):
        aside += "-" + os.urandom(2).hex()
    os.mkdir(aside)
    for name in names:
        source, copy = os.path.join(folder, name), os.path.join(aside, name)
        if os.path.isdir(source):
            shutil.copytree(source, copy, copy_function=_link)
            fsync_folder(copy)
        elif os.path.exists(source):
            _link(source, copy)
    fsync_folder(aside)
    fsync_folder(folder)
    return aside


def remove_plain_leftovers(folder: str, kind: str, url: str) -> None:
    """Remove what a namespace that is being sealed has kept beside its files: it holds what was written, not sealed.

    That is the files of checkpoints, damaged files and former namespaces that were kept, and copies that are not
    finished. Call it under the folder's lock.

    Raises:
        Conflict: a copy into the namespace is running.
        OSError: a file cannot be removed.

    """
    stage = {"json": JSON_STAGE, "sqlite": SQLITE_STAGE}[kind]
    if os.path.isdir(os.path.join(folder, stage)):
        staging = StagingFolder(folder, stage, url)
        try:
            staging.clear()
        finally:
            staging.release()
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        is_former = name.startswith(ASIDE) and _is_of_kind(path, kind)
        if is_former or (name.startswith(_FILES[kind]) and DAMAGED in name):
            _remove(path)
    checkpoints = os.path.join(folder, "checkpoints")
    if kind == "json" and os.path.isdir(checkpoints):
        for name in os.listdir(checkpoints):
            if name.endswith(".json") or DAMAGED in name:
                _remove(os.path.join(checkpoints, name))
        fsync_folder(checkpoints)
    fsync_folder(folder)


def take_out(folder: str, kind: str) -> str:
    """Move the files of one kind of backend out of a namespace's folder, and return the folder that they are in now.

    If the other kind has no files in the namespace's folder, the whole folder is moved. `namespaces` does not list the
    returned folder; the caller removes it. Call it under the folder's lock.

    Args:
        folder: the namespace's folder.
        kind: `json` or `sqlite`.

    """
    place, folder = folder, os.path.realpath(folder)
    root, namespace = os.path.split(folder)
    out = os.path.join(root, "." + os.path.basename(temporary(namespace)))
    for name in os.listdir(root):  # of a process that was killed while it dropped this namespace
        if name.startswith(f".{namespace}{TEMPORARY}") and not temporary_owner(name)[1]:
            shutil.rmtree(os.path.join(root, name))
    names = sorted(os.listdir(folder))
    (other_files,) = (starts for other, starts in _FILES.items() if other != kind)
    if not any(name.startswith(other_files) and name != "checkpoints" for name in names):
        os.rename(folder, out)
        if os.path.islink(place):
            os.unlink(place)
        return out
    os.mkdir(out)
    moved = [name for start in _FILES[kind] for name in names if name.startswith(start)]
    moved += [name for name in names if name.startswith(ASIDE) and _is_of_kind(os.path.join(folder, name), kind)]
    for name in moved:
        os.rename(os.path.join(folder, name), os.path.join(out, name))
    fsync_folder(folder)
    return out


def remove_taken_out(folder: str, namespace: str) -> None:
    """Remove the folder that `take_out` returned, and what the links of the namespace's own names in it lead to."""
    try:
        for name in {name for names in _FILES.values() for name in names}:
            path = os.path.join(folder, name)
            if not os.path.islink(path):
                continue
            target = os.path.realpath(path)
            for found in (target, f"{target}-wal", f"{target}-shm"):
                if os.path.exists(found):
                    _remove(found)
        shutil.rmtree(folder)
    except OSError as error:
        with tells_what_was_done(lambda: f"Namespace {namespace!r} was removed, but its files are still in {folder}"):
            raise file_error(error, folder) from error


def _is_of_kind(folder: str, kind: str) -> bool:
    """Return whether a replaced namespace's folder holds files of a kind of backend."""
    return any(name.startswith(_FILES[kind]) for name in os.listdir(folder))


def _link(source: str, copy: str) -> None:
    try:
        os.link(os.path.realpath(source), copy)
    except OSError:  # a file system without links
        shutil.copy2(source, copy)
        with open(copy, "rb") as file:
            os.fsync(file.fileno())


def _remove(path: str) -> None:
    if os.path.isdir(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)
