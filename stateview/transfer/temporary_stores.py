"""Temporary stores: where an import converts a source before it writes to the namespace."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from typing import Any

from ..backends import open_backend
from ..backends.durable_files import file_error
from ..backends.protocol import Backend


class TemporaryStores:
    """A temporary folder for stores and files. `close`, the garbage collector or the end of the process removes it.

    Args:
        seals: whether what is imported may have been sealed, so that no store holds plain values.

    """

    def __init__(self, seals: bool = False) -> None:
        self._seals = seals
        try:
            self.folder = tempfile.mkdtemp(prefix="stateview-")
        except OSError as error:
            raise file_error(error, tempfile.gettempdir()) from error
        self._opened: list[Backend] = []
        self._end = weakref.finalize(self, _clear, self.folder, self._opened)

    def open(self, kind: str, namespace: str, name: str = "store", sealed: bool = False) -> Backend:
        """Open a namespace of the store `name` in the folder, sealed if that is asked for and needed."""
        url = f"{kind}:{os.path.join(self.folder, name)}"
        backend = open_backend(url, namespace, **(_throw_away_key() if self._seals and sealed else {}))
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


def _throw_away_key() -> dict[str, Any]:
    """Return the options for a store that only this process can open."""
    from ..backends.sealed_values import KeyedValues
    from ..sealing.keys import UserKey

    return {"values": KeyedValues(UserKey.generate())}


def _clear(folder: str, opened: list[Backend]) -> None:
    for backend in opened:
        backend.close()
    shutil.rmtree(folder)
