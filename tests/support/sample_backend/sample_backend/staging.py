"""Build a copy of another namespace in a hidden namespace: the methods of the protocol `StagedImport`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

from msgspec.structs import replace

from stateview.backends.conflicts import destination_exists_error, staging_locked_error
from stateview.backends.protocol import Backend, CheckpointRecord, Head, StoredVersion
from stateview.errors import BackendError
from stateview.model import Commit

from .backend import MemoryBackend
from .namespace import CHANGED, EMPTY, Namespace

HOLDERS: dict[tuple[str, str], MemoryStagedImport] = {}  # by store and namespace


class MemoryStagedImport:
    """Build a copy in a hidden namespace, then rename it. See the protocol `StagedImport`."""

    def __init__(self, backend: MemoryBackend) -> None:
        self.backend = backend
        self.hidden = f".{backend.namespace}"
        self.destination = (backend.store, backend.namespace)
        with backend.locked():
            if HOLDERS.setdefault(self.destination, self) is not self:
                raise staging_locked_error(backend.url, backend.namespace)

    @contextmanager
    def draft(self) -> Iterator[Namespace]:
        """Change the hidden namespace: by all that the block does, or by nothing if the block raises."""
        with self.held() as namespaces:
            draft = namespaces.get(self.hidden, EMPTY).draft()
            yield draft
            namespaces[self.hidden] = draft

    @contextmanager
    def held(self) -> Iterator[dict[str, Namespace]]:
        """Hold the lock, and refuse a staged import that was closed."""
        with self.backend.locked() as namespaces:
            if HOLDERS.get(self.destination) is not self:
                raise BackendError(f"the import into {self.backend.url} was closed", "Open another with open_staging()")
            yield namespaces

    def progress(self) -> dict[str, Any] | None:
        """Return the note of the last `put`."""
        with self.held() as namespaces:
            return namespaces.get(self.hidden, EMPTY).note

    def put(
        self, versions: Iterable[StoredVersion] = (), commits: Iterable[Commit] = (),
        marks: Iterable[CheckpointRecord] | None = None, *, note: dict[str, Any], forget: Iterable[str] = (),
    ) -> None:  # fmt: skip
        """Add versions, commits and checkpoints, with a note."""
        stored = [self.backend.pack(version, version.until) for version in versions]
        with self.draft() as draft:
            for key in forget:
                draft.remove(key)
            for version in stored:
                draft.add(version)
            draft.commits |= {commit.revision: commit for commit in commits}
            draft.marks = draft.marks if marks is None else list(marks)
            draft.note = dict(note)

    def staged(self, head: Head) -> Backend:
        """Return a backend that reads the hidden namespace."""
        with self.draft() as draft:
            draft.head = replace(head, count=0)
        return MemoryBackend(self.backend.store, self.hidden, timeout=self.backend.timeout, values=self.backend.values)

    def finish(self, head: Head, over: bool = False) -> str:
        """Rename the hidden namespace. A namespace that it replaces gets a hidden name, which is returned."""
        name, kept = self.backend.namespace, ""
        with self.held() as namespaces:
            if name in namespaces:
                if not over:
                    raise destination_exists_error(self.backend.url, name, namespaces[name].head.revision)
                kept = f"{self.hidden}-before-import-{uuid4().hex[:8]}"
                namespaces[kept] = namespaces[name]
            draft = namespaces.get(self.hidden, EMPTY).draft()
            draft.head, draft.note = replace(head, count=0), None
            namespaces[name] = draft
            namespaces.pop(self.hidden, None)
            del HOLDERS[self.destination]
            CHANGED.notify_all()
        return kept and f"{self.backend.url}/{kept}"

    def drop(self) -> None:
        """Remove the hidden namespace, and release the destination."""
        with self.backend.locked() as namespaces:
            if HOLDERS.get(self.destination) is self:
                namespaces.pop(self.hidden, None)
                del HOLDERS[self.destination]

    def close(self) -> None:
        """Release the destination. The hidden namespace stays."""
        with self.backend.locked():
            if HOLDERS.get(self.destination) is self:
                del HOLDERS[self.destination]
