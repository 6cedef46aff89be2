"""Recover a damaged namespace: the methods of the protocol `RecoverySession`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

from msgspec.structs import replace

from stateview.backends.protocol import Restored, Salvage
from stateview.model import Problem

from .backend import MemoryBackend
from .namespace import Namespace


@contextmanager
def open_recovery(backend: MemoryBackend) -> Iterator[MemoryRecovery]:
    """Hold the lock of all writers until the recovery ends. Readers read on."""
    backend.check_writable()
    with backend.locked() as namespaces:
        yield MemoryRecovery(backend, namespaces)


class MemoryRecovery:
    """Read what is sound, and store what `stateview.maintenance.recovery` decides. It decides nothing itself."""

    def __init__(self, backend: MemoryBackend, namespaces: dict[str, Namespace]) -> None:
        self.problems: list[Problem] = []
        self.kept: list[str] = []
        self.backend = backend
        self.namespaces = namespaces

    def repair(self) -> None:
        """Repair nothing: memory has no leftover files and no derived data."""

    def salvage(self) -> Salvage | None:
        """Return the sound versions, and the keys and revisions of all versions; None if all versions are sound."""
        present = self.backend.present()
        stored = list(present.following(("", 0)))
        sound = [version for version in stored if version.is_sound()]
        if len(sound) == len(stored):
            return None
        return Salvage(
            subject=self.backend.namespace,
            damage=f"{len(stored) - len(sound)} of {len(stored)} versions are not what was written",
            head=replace(present.head, count=present.live_count),
            versions=[self.backend.unpack_stored(version) for version in sound],
            commits=list(present.commits.values()),
            marks=present.marks,
            written={(version.key, version.revision) for version in stored},
        )

    def rewrite(self, restored: Restored) -> None:
        """Put a new namespace in the place of the damaged one, which gets a hidden name."""
        new = Namespace()
        for version in restored.versions:
            new.add(self.backend.pack(version, version.until))
        new.head, new.marks = replace(restored.head, count=0), restored.marks
        new.commits = {commit.revision: commit for commit in restored.commits if commit.revision > new.head.floor}
        hidden = f".{self.backend.namespace}-damaged-{uuid4().hex[:8]}"
        self.namespaces[hidden] = self.backend.present()
        self.namespaces[self.backend.namespace] = new
        self.kept.append(hidden)
