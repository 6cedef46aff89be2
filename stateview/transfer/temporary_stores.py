"""Temporary stores: where an import converts a source before it writes to the namespace."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from typing import Any

from ..backends import open_backend
from ..backends.files.durable_files import file_error
from ..backends.files.memory_files import private_folder
from ..backends.protocol import Backend
from ..backends.sealed_values import KeyedValues
from ..sealing.keys import UserKey


class TemporaryStores:
    """A temporary folder for stores and files. `close`, the garbage collector or the end of the process removes it.

    Args:
        sealed: whether the values are for an encrypted namespace. Stores are encrypted then, with a key that nobody
            keeps. Files, and copies of stores, lie in memory, where the system has a folder for that.

    """

    def __init__(self, sealed: bool = False) -> None:
        try:
            self.folder = private_folder(in_memory=False)
            self._files = private_folder(in_memory=True) if sealed else self.folder
        except OSError as error:
            raise file_error(error, tempfile.gettempdir()) from error
        self._options = {"values": KeyedValues(UserKey.generate())} if sealed else {}
        self._opened: list[Backend] = []
        self._end = weakref.finalize(self, _clear, (self.folder, self._files), self._opened)

    def open(self, kind: str, namespace: str) -> Backend:
        """Open a namespace of a new store in the folder."""
        return self._open(kind, os.path.join(self.folder, "store"), namespace, **self._options)

    def open_copy(self, kind: str, namespace: str, name: str) -> Backend:
        """Open a namespace of a store whose files were copied to `path(name, …)`."""
        return self._open(kind, os.path.join(self._files, name), namespace)

    def _open(self, kind: str, folder: str, namespace: str, **options: Any) -> Backend:
        backend = open_backend(f"{kind}:{folder}", namespace, **options)
        self._opened.append(backend)
        return backend

    def close_too(self, backend: Backend) -> None:
        """Let `close` close another backend as well."""
        self._opened.append(backend)

    def path(self, *names: str) -> str:
        """Return a path in the folder, and make its parents."""
        path = os.path.join(self._files, *names)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return path

    def close(self) -> None:
        """Close the opened namespaces and remove the folder."""
        self._end()


def _clear(folders: tuple[str, str], opened: list[Backend]) -> None:
    for backend in opened:
        backend.close()
    for folder in {*folders}:
        shutil.rmtree(folder)
