"""Reads that need no value: they also work where no key opens a sealed namespace."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any, cast

from .protocol import Backend, StateAt, Version


class _Wanted(threading.local):
    names_only = False


_wanted = _Wanted()


def wants_names_only() -> bool:
    """Return whether the present read of this thread wants a `SealedValue` in place of a value that no key opens."""
    return _wanted.names_only


def names_only(backend: Backend) -> Backend:
    """Return a backend that returns a `SealedValue` for each value that no key opens, instead of raising `Sealed`.

    For lists of names, times and sizes. Its `get` and its snapshots are those of the backend itself.
    """
    return cast("Backend", backend if isinstance(backend, _NamesOnly) else _NamesOnly(backend))


class _NamesOnly:
    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def read(self, keys: Iterable[str], at: StateAt | None = None) -> dict[str, Version]:
        return cast("dict[str, Version]", self._call("read", keys, at))

    def scan(self, prefix: str = "", after: str = "", limit: int = 1000, at: StateAt | None = None) -> list[Version]:
        return cast("list[Version]", self._call("scan", prefix, after, limit, at))

    def versions(self, key: str, limit: int = 100, below: int = 0) -> list[Version]:
        return cast("list[Version]", self._call("versions", key, limit, below))

    def _call(self, method: str, *arguments: Any) -> Any:
        former, _wanted.names_only = _wanted.names_only, True
        try:
            return getattr(self._backend, method)(*arguments)
        finally:
            _wanted.names_only = former
