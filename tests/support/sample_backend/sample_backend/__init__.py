"""Keep namespaces in the memory of one process: a sample of a backend that another package adds to stateview.

The store URL is `memory:NAME`. All managers of one process that open the same NAME share a store, which ends with the
process. After `fork()`, the child has a copy of the store, and no process sees the other's writes.

`namespace.py` holds the data, `backend.py` the backend, `staging.py` the staged import, and `recovery.py` the recovery.
`KIND` registers them: the entry point in the `.dist-info` folder names it. `references/writing-a-backend.md` explains
each step.
"""

from __future__ import annotations

from typing import Any

from stateview.backends import BackendKind, Store
from stateview.backends.protocol import Backend


def make(store: Store, namespace: str, **options: Any) -> Backend:
    """Import and make the backend of a namespace. `store.place` is the whole URL, since the store is no folder."""
    from .backend import MemoryBackend

    return MemoryBackend(store.place.partition(":")[2], namespace, **options)


KIND = BackendKind("memory", "memory of one process", make, ("memory",))
