"""Read and write the files that users name: compressed or not, pipes, devices and open files."""

from __future__ import annotations

import errno
import gzip
import io
import os
import shutil
import stat
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import IO, TYPE_CHECKING, Any

from ..backends.files.durable_files import fsync_folder, remove, temporary
from ..backends.files.memory_files import memory_folder
from ..errors import (
    NOTHING_CHANGED,
    BackendError,
    Conflict,
    Damaged,
    Hint,
    InvalidName,
    KeyNotFound,
    StateException,
    tells_what_was_done,
)
from .formats import sealed_files
from .standard_input import standard_input
from .temporary_stores import TemporaryStores

if TYPE_CHECKING:
    from ..sealing.keys import UserKey

COPY_BYTES = 1 << 20
_GZIP = b"\x1f\x8b"
_GZIP_LEVEL = 6

OutputFile = str | os.PathLike[str] | IO[bytes]


def file_error(error: OSError, name: str) -> BackendError:
    """Convert an error of the operating system. The message names the file."""
    hints: dict[int, Hint] = {
        errno.ENOENT: "Check the path: its folder must exist",
        errno.EACCES: "Check who may read and write it", errno.EPERM: "Check who may read and write it",
        errno.ENOSPC: (NOTHING_CHANGED, "Free some space and try again"),
    }  # fmt: skip
    reason = os.strerror(error.errno) if error.errno else str(error)
    return BackendError(f"{name}: {reason}", hints.get(error.errno or 0, NOTHING_CHANGED))


@contextmanager
def file_errors(name: str) -> Iterator[None]:
    """Convert errors of the operating system and of gzip. Errors of a closed pipe, and of stateview, stay as they are.

    Args:
        name: the file's name, for the message.

    Raises:
        Damaged: a compressed file is incomplete or altered.
        BackendError: the operating system refused.

    """
    try:
        yield
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise Damaged(f"{name}: its compressed data (gzip) is incomplete or altered: {error}") from error
    except OSError as error:
        if isinstance(error, (StateException, BrokenPipeError)):
            raise
        raise file_error(error, name) from error


# --- reading ----------------------------------------------------------------------------------------------------------


class ImportFile:
    """A file that can be read more than once. The content of a pipe is copied first.

    Args:
        source: a path, a file open for reading bytes, or `-` for standard input.
        stores: where the copy goes.
        user_key: what opens a sealed file.

    Raises:
        KeyNotFound: the file does not exist.
        Damaged: it is a device.
        BackendError: it cannot be read.
        InvalidName: standard input is closed.

    """

    def __init__(self, source: Any, stores: TemporaryStores, user_key: UserKey | None = None) -> None:
        self.is_plain = False
        self._user_key = user_key
        self.name = "standard input" if source == "-" else str(getattr(source, "name", "the file"))
        if isinstance(source, str) and source != "-":
            self.name = self.path = source
            try:
                mode = os.stat(source).st_mode
            except FileNotFoundError as error:
                raise KeyNotFound(f"there is no file {source!r}") from error
            except OSError as error:
                raise file_error(error, source) from error
            if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
                raise Damaged(f"{source} is a device, not a file", "For standard input give -")
            self.is_plain = stat.S_ISREG(mode)
        if not self.is_plain:
            self._copy(source, stores)
        with self._errors(), open(self.path, "rb") as file:
            self._is_sealed = file.read(len(sealed_files.FIRST)) == sealed_files.FIRST
            self.size = os.fstat(file.fileno()).st_size
        with self._open() as opened:
            self._zipped = opened.read(len(_GZIP)) == _GZIP
        if self._zipped or self._is_sealed:
            self.size = 0  # that of the content is not known

    def _copy(self, source: Any, stores: TemporaryStores) -> None:
        self.path = stores.path("input")
        with self._errors(), open(self.path, "wb") as copy:
            if isinstance(source, str) and source != "-":
                with open(source, "rb") as pipe:
                    shutil.copyfileobj(pipe, copy, COPY_BYTES)
            else:
                hint = "Give a file, or 'stateview import - < FILE'"
                shutil.copyfileobj(standard_input(hint) if source == "-" else source, copy, COPY_BYTES)

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """Open the file from its beginning, decompressed."""
        with self._errors(), self._open() as file:
            if not self._zipped:
                yield file
                return
            with gzip.open(file, "rb") as content:
                yield content  # type: ignore[misc]

    @contextmanager
    def _open(self) -> Iterator[IO[bytes]]:
        with self._errors(), read_file(self.path, self._is_sealed, self._user_key, self.name) as file:
            yield file

    def _errors(self) -> AbstractContextManager[None]:
        return file_errors(self.name)


# --- writing ----------------------------------------------------------------------------------------------------------


def output_file(target: OutputFile, overwrite: bool, in_memory: bool = False) -> AbstractContextManager[str]:
    """Yield the path of a temporary file, then give its content to the target.

    A regular file appears whole and durable, or not at all. A link to it stays a link. A pipe, a device or an open file
    gets a copy.

    Args:
        target: a path, or a file open for writing bytes.
        overwrite: replace an existing file.
        in_memory: the copy is to lie in memory, if that is possible.

    Raises:
        Conflict: the file exists, and `overwrite` is false.
        InvalidName: the path is a folder.
        BackendError: the file cannot be written.

    """
    if not isinstance(target, (str, os.PathLike)):
        return _copied_to(target, in_memory)
    path = os.fspath(target)
    return _copied_to(path, in_memory) if _is_special(path) else _placed_at(os.path.realpath(path), overwrite)


def _is_special(path: str) -> bool:
    """Return whether a path is a pipe or a device, which cannot be replaced by a file."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    if stat.S_ISDIR(mode):
        raise InvalidName(f"{path} is a folder", "Give the name of a file")
    return not stat.S_ISREG(mode)


@contextmanager
def _copied_to(target: str | IO[bytes], in_memory: bool) -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="stateview-", dir=memory_folder() if in_memory else None) as folder:
        name = os.path.join(folder, "export")
        if isinstance(target, str):
            with file_errors(target):
                yield name
                with open(target, "wb") as special:
                    _copy(name, special)
        else:
            yield name
            _copy(name, target)


def _copy(name: str, target: IO[bytes]) -> None:
    with open(name, "rb") as file:
        shutil.copyfileobj(file, target, COPY_BYTES)


@contextmanager
def _placed_at(path: str, overwrite: bool) -> Iterator[str]:
    if os.path.exists(path) and not overwrite:
        raise _exists_error(path)
    name = temporary(path)
    try:
        with file_errors(path):
            yield name
            _place(name, path, overwrite)
    finally:
        remove(name)


def _place(name: str, path: str, overwrite: bool) -> None:
    """Move a file to its path, atomically and durably."""
    if overwrite:
        if os.path.exists(path):
            shutil.copymode(path, name)
        os.replace(name, path)
    else:
        try:
            os.link(name, path)
        except FileExistsError:
            raise _exists_error(path) from None
        except OSError:  # the file system has no hard links
            if os.path.exists(path):
                raise _exists_error(path) from None
            os.rename(name, path)
    try:
        fsync_folder(os.path.dirname(path))
    except OSError as error:
        with tells_what_was_done(lambda: "The file is complete, though a loss of power may still undo it"):
            raise file_error(error, path) from error


def _exists_error(path: str) -> Conflict:
    return Conflict(f"{path} exists already; it was not overwritten", "Give --yes (overwrite=True), or another name")


@contextmanager
def read_file(path: str, is_sealed: bool, user_key: UserKey | None, name: str) -> Iterator[IO[bytes]]:
    """Open a file, sealed or not. `name` is for the messages."""
    with open(path, "rb") as file:
        yield io.BufferedReader(sealed_files.SealedReader(file, name, user_key)) if is_sealed else file


@contextmanager
def write_durable(name: str, zipped: bool, user_key: UserKey | None = None) -> Iterator[IO[bytes]]:
    """Open a new file for writing, compressed if asked, sealed with a key, and make it durable when it is closed."""
    with open(name, "wb") as file:
        sealed = sealed_files.SealedWriter(file, user_key) if user_key is not None else None
        out: Any = sealed or file
        if zipped:
            with gzip.GzipFile("", "wb", _GZIP_LEVEL, out, mtime=0) as compressed:
                yield compressed  # type: ignore[misc]
        else:
            yield out
        if sealed is not None:
            sealed.finish()
        file.flush()
        os.fsync(file.fileno())
