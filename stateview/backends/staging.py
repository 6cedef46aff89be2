"""A namespace's folder, which two kinds of backend may share, and in it the stage of a copy, held by one receiver."""

from __future__ import annotations

import os
import shutil
import time
from contextlib import ExitStack

from ..errors import BackendUnavailable
from .conflicts import staging_locked_error
from .durable_files import file_error, file_lock, fsync_folder, temporary

LOCK = "receiver.lock"
ASIDE = "before-migrate-"

# What each kind has in a namespace's folder, by how its name begins, in the order of going: without the last of JSON,
# or the first of SQLite, there is no namespace; without the others, `recover` makes them anew
_OWN = {
    "json": ("migrating-json", "checkpoints", "state.json", "history.jsonl"),
    "sqlite": ("state.db", "migrating-sqlite"),
}

# What doctor says of what is left
UNFINISHED = "a copy into this namespace that is not finished"
NOT_SHOWN = "it is under way, or was ended; nobody is shown any of it"
REPLACED = "what a migration replaced, kept"


class StagingFolder:
    """The folder of a stage, which looks like a namespace of its own to the backend that is to read it.

    Raises:
        Conflict: another receiver holds it.

    """

    def __init__(self, folder: str, name: str, url: str) -> None:
        self.parent = folder
        self.name = name
        self.folder = os.path.join(folder, name)
        self._released = False
        self._held = ExitStack()
        try:
            self._held.enter_context(file_lock(os.path.join(self.folder, LOCK), 0))
        except BackendUnavailable as error:
            raise staging_locked_error(url, os.path.basename(folder)) from error
        except OSError as error:
            raise file_error(error, self.folder) from error

    def path(self, name: str) -> str:
        """A file in the stage."""
        return os.path.join(self.folder, name)

    def clear(self) -> None:
        """Remove all that was staged; the lock stays."""
        for name in os.listdir(self.folder):
            if name != LOCK:
                _remove(self.path(name))

    def release(self) -> None:
        """Let go of it, and leave no empty folder behind. Once it is let go of, nothing."""
        if self._released:
            return
        self._released = True
        if os.path.isdir(self.folder) and os.listdir(self.folder) == [LOCK]:
            shutil.rmtree(self.folder)  # while it is held: who waits for this lock sees that it is gone
        self._held.close()
        try:
            os.rmdir(self.parent)
        except OSError:
            pass  # what else is in it stays


def set_aside(folder: str, names: tuple[str, ...]) -> str:
    """Give the files and folders of a namespace second names in a new folder in its own; returns that, durable."""
    place = os.path.join(folder, ASIDE + time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()))
    while os.path.exists(place):
        place += "-" + os.urandom(2).hex()
    os.mkdir(place)
    for name in names:
        source, copy = os.path.join(folder, name), os.path.join(place, name)
        if os.path.isdir(source):
            shutil.copytree(source, copy, copy_function=_link)
            fsync_folder(copy)
        elif os.path.exists(source):
            _link(source, copy)
    fsync_folder(place)
    fsync_folder(folder)
    return place


def take_out(folder: str, kind: str) -> str:
    """Take a namespace of a kind out of its folder; where the other kind has none in it, with the folder.

    Returns a folder that no list shows, with all that is to be removed. Call it under the folder's lock.
    """
    root, name = os.path.split(folder)
    place = os.path.join(root, "." + os.path.basename(temporary(name)))
    names = sorted(os.listdir(folder))
    (others,) = (starts for one, starts in _OWN.items() if one != kind)
    if not any(one.startswith(others) and one != "checkpoints" for one in names):
        os.rename(folder, place)
        return place
    os.mkdir(place)
    own = [one for start in _OWN[kind] for one in names if one.startswith(start)]
    own += [one for one in names if one.startswith(ASIDE) and _is_of(os.path.join(folder, one), kind)]
    for one in own:
        os.rename(os.path.join(folder, one), os.path.join(place, one))
    fsync_folder(folder)
    return place


def _is_of(folder: str, kind: str) -> bool:
    """Whether what a migration replaced was of this kind."""
    return any(one.startswith(_OWN[kind]) for one in os.listdir(folder))


def _link(source: str, copy: str) -> None:
    try:
        os.link(source, copy)
    except OSError:  # a file system without links
        shutil.copy2(source, copy)
        with open(copy, "rb") as file:
            os.fsync(file.fileno())


def _remove(path: str) -> None:
    if os.path.isdir(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)
