"""Temporary stores: where an import converts a source before it writes to the namespace."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref

from ..backends import open_backend
from ..backends.durable_files import file_error
from ..backends.protocol import Backend


class TemporaryStores:
    """A temporary folder for stores and files. `close`, the garbage collector or the end of the process removes it."""

    def __init__(self) -> None:
        try:
            self.folder = tempfile.mkdtemp(prefix="stateview-")
        except OSError as error:
            raise file_error(error, tempfile.gettempdir()) from error
        self._opened: list[Backend] = []
        self._end = weakref.finalize(self, _clear, self.folder, self._opened)

    def open(self, kind: str, namespace: str, name: str = "store") -> Backend:
        """Open a namespace of the store `name` in the folder."""
        backend = open_backend(f"{kind}:{os.path.join(self.folder, name)}", namespace)
        self._opened.append(backend)
        return backend

    def close_too(self, backend: Backend) -> None:
        """Let `close` close another backend as well."""
        self._opened.append(backend)

    def path(self, *names: str) -> str:
        """Return a path in the folder, and make its parents."""
        path = os.path.join(self.folder, *names)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return path

    def close(self) -> None:
        """Close the opened namespaces and remove the folder."""
        self._end()


def _clear(folder: str, opened: list[Backend]) -> None:
    for backend in opened:
        backend.close()
    shutil.rmtree(folder)
