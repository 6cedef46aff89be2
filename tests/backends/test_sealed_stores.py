"""Namespaces that are sealed with a key: the contract holds, and no byte that is stored shows what was written."""

from __future__ import annotations

import os
from typing import Any

import pytest
import test_contract
from plain_sqlite import plain_sqlite
from sealed_stores import open_sealed, unsealed

from stateview.backends.protocol import Backend
from stateview.testing import Open


class _Sealed:
    def open(self, store: str, namespace: str, **options: Any) -> Backend:
        return open_sealed(store, namespace, **options)

    def stored(self, store: str, namespace: str, key: str) -> bytes | None:
        stored = super().stored(store, namespace, key)  # type: ignore[misc]
        return None if stored is None else unsealed(store, namespace, key, stored)

    @pytest.mark.parametrize("seed", [0])  # the other seeds try the history, on plain values
    def test_forgetting_keeps_what_checkpoints_see(self, backend: Backend, opened: Open, seed: int) -> None:
        super().test_forgetting_keeps_what_checkpoints_see(backend, opened, seed)  # type: ignore[misc]


class TestSQLite(_Sealed, test_contract.TestSQLite):
    def damage(self, store: str, namespace: str, key: str) -> None:
        with plain_sqlite(test_contract.folder(store, namespace) / "state.db") as db:
            db.execute("UPDATE entries SET value = replace(value, 'A', 'B') WHERE key = ?", (key,))


class TestJSON(_Sealed, test_contract.TestJSON):
    def damage(self, store: str, namespace: str, key: str) -> None:
        path = test_contract.folder(store, namespace) / "state.json"
        stat = path.stat()
        path.write_bytes(path.read_bytes().replace(b'"$sealed": "AQ', b'"$sealed": "AR'))
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


class TestRedis(_Sealed, test_contract.TestRedis):
    pass
