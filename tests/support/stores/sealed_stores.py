"""Stores whose namespaces are sealed with a key."""

from __future__ import annotations

from typing import Any

from stateview.backends import open_backend
from stateview.backends.protocol import Backend
from stateview.backends.sealed_values import KeyedValues
from stateview.errors import Damaged
from stateview.sealing.keys import UserKey

KEY, OTHER_KEY = UserKey.generate(), UserKey.generate()


def open_sealed(store: str, namespace: str = "main", **options: Any) -> Backend:
    return open_backend(store, namespace, values=KeyedValues(KEY), **options)


def unsealed(store: str, namespace: str, key: str, stored: bytes) -> bytes:
    """The value of a stored form of any revision."""
    backend: Any = open_sealed(store, namespace)
    last = backend.head().revision
    backend.close()
    for revision in range(last, 0, -1):
        try:
            value: bytes = backend.values.unpack(stored, key, revision)
        except Damaged:
            continue
        return value
    raise Damaged(f"the stored form of {key!r} is of no revision")
