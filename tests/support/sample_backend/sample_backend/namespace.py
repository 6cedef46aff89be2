"""Hold the data of a namespace, and all namespaces of the process."""

from __future__ import annotations

import os
import threading
import zlib
from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator
from copy import copy
from typing import Any

from msgspec.structs import replace

from stateview.backends.protocol import CheckpointRecord, Head, StateAt, StoredVersion
from stateview.model import Commit, now


class MemoryVersion(StoredVersion, frozen=True, gc=False):
    """Hold a version in memory. `value` has the stored form, and `checksum` is the checksum of that form."""

    checksum: int = 0

    def is_sound(self) -> bool:
        """Return whether the value is what was written."""
        return zlib.crc32(self.value or b"") == self.checksum


class Namespace:
    """Hold one namespace: its versions, commits, checkpoints and head.

    A namespace in `STORES` never changes. A writer changes a draft, and then puts the draft in the place of the
    namespace. A reader therefore needs no lock and never sees half a commit. A writer that fails leaves nothing.

    Attributes:
        head: the head. Its count stays 0, see `current_head`.
        versions: the kept versions of each key, oldest first. The last version is live, unless it is a delete or has
            expired.
        keys: the keys of `versions`, sorted.
        live_count: the number of keys whose last version has a value.
        expiring: the expiry time of each key whose last version has one.
        commits: the kept commits by revision.
        marks: the checkpoints, oldest first.
        note: the note of a staged import.

    """

    def __init__(self) -> None:
        self.head = Head()
        self.versions: dict[str, list[MemoryVersion]] = {}
        self.keys: list[str] = []
        self.live_count = 0
        self.expiring: dict[str, int] = {}
        self.commits: dict[int, Commit] = {}
        self.marks: list[CheckpointRecord] = []
        self.note: dict[str, Any] | None = None

    def draft(self) -> Namespace:
        """Return a copy to change. Changes replace the lists of versions and checkpoints, never edit them. O(keys)."""
        new = copy(self)
        new.versions, new.keys = self.versions.copy(), self.keys.copy()
        new.expiring, new.commits = self.expiring.copy(), self.commits.copy()
        return new

    def current_head(self) -> Head:
        """Return the head with the number of live keys."""
        return replace(self.head, count=self.live_count - len(self.expired(now())))

    def expired(self, time: int) -> list[str]:
        """Return the keys whose last version has expired. A later commit deletes them."""
        return [key for key, expires in self.expiring.items() if expires <= time]

    def is_kept(self, revision: int) -> bool:
        """Return whether the state of a revision can still be read."""
        named = any(mark.revision == revision for mark in self.marks)
        return revision <= self.head.revision and (revision >= self.head.floor or named)

    def visible(self, key: str, at: StateAt) -> MemoryVersion | None:
        """Return the version of a key that a read of a state sees."""
        for version in reversed(self.versions.get(key, [])):
            if version.revision <= at.revision:
                return version if version.visible(at.time) else None
        return None

    def following(self, after: tuple[str, int], keys: Iterable[str] | None = None) -> Iterator[MemoryVersion]:
        """Yield the versions after a key and revision, sorted by key and revision."""
        first = after[0]
        names = self.keys[bisect_left(self.keys, first) :] if keys is None else sorted({k for k in keys if k >= first})
        for key in names:
            yield from (version for version in self.versions.get(key, []) if (key, version.revision) > after)

    # The methods below change a draft.

    def add(self, new: MemoryVersion) -> None:
        """Add the newest version of a key. It supersedes the version before it."""
        kept = self.versions.get(new.key, [])
        if not kept:
            insort(self.keys, new.key)
        elif not kept[-1].until:
            kept = [*kept[:-1], replace(kept[-1], until=new.revision)]
        self.versions[new.key] = [*kept, new]
        self.live_count += (new.value is not None) - (bool(kept) and kept[-1].value is not None)
        self.expiring.pop(new.key, None)
        if new.expires:
            self.expiring[new.key] = new.expires

    def remove(self, key: str) -> None:
        """Remove a key with all its versions."""
        kept = self.versions.pop(key, [])
        if kept:
            self.keys.remove(key)
            self.expiring.pop(key, None)
            self.live_count -= kept[-1].value is not None

    def prune(self, floor: int) -> int:
        """Raise the floor, and remove the versions that neither a kept revision nor a checkpoint needs."""
        named = sorted(mark.revision for mark in self.marks)
        removed = 0
        for key, kept in list(self.versions.items()):
            left = [version for version in kept if not _is_unneeded(version, floor, named)]
            removed += len(kept) - len(left)
            if left:
                self.versions[key] = left
            else:
                self.remove(key)
        self.commits = {revision: commit for revision, commit in self.commits.items() if revision > floor}
        self.head = replace(self.head, floor=floor)
        return removed


def _is_unneeded(version: StoredVersion, floor: int, named: list[int]) -> bool:
    """Return whether neither a revision from the floor on nor a checkpoint reads a version.

    A delete stays while an older version of its key may stay. Without the delete, that version would seem live.
    """
    first = bisect_left(named, version.revision)  # the checkpoints before named[first] are older than the version
    if 0 < version.until <= floor and (first == len(named) or named[first] >= version.until):
        return True
    return version.value is None and version.revision <= floor and first == 0


# The namespaces of each store. A name that begins with "." is hidden: a staged import, or a replaced namespace.
# Writers hold the lock of CHANGED, also through a fork. A commit notifies CHANGED, which wakes `MemoryBackend.wait`.
STORES: dict[str, dict[str, Namespace]] = {}
CHANGED = threading.Condition(threading.Lock())
EMPTY = Namespace()
os.register_at_fork(before=CHANGED.acquire, after_in_parent=CHANGED.release, after_in_child=CHANGED.release)
