"""Upkeep of a JSON namespace: what is kept beside what is live, and what its files take."""

from __future__ import annotations

import os
from bisect import bisect_left

from ..durable_files import file_error, remove
from ..protocol import CheckpointRecord, DiskUsage, SupersededVersion
from ..stored_values import StoredValues
from .history import History, digest

LINE_OVERHEAD_BYTES = 75  # bytes of a version's line in the history, beside its key and value


def past(history: History, after: tuple[str, int], limit: int, values: StoredValues) -> list[SupersededVersion]:
    """Return a page of the superseded versions."""
    keys = history.sorted_keys()
    out: list[SupersededVersion] = []
    for place in range(bisect_left(keys, after[0]), len(keys)):
        key = keys[place]
        versions = history.versions[key]
        for number, version in enumerate(versions):
            last = number + 1 == len(versions)
            if (key, version.revision) <= after or (last and version.value is not None):
                continue
            if len(out) == limit:
                return out
            stored = version.value or b""
            size = len(stored) if values.plain or not stored else len(values.unpack(stored, key, version.revision))
            until = 0 if last else versions[number + 1].revision
            line = len(stored) + len(key.encode()) + LINE_OVERHEAD_BYTES
            out.append(SupersededVersion(key, version.revision, until, size, version.value is None, line))
    return out


def remove_left_over(folder: str, history: History) -> None:
    """Remove the files of deleted checkpoints that a killed process left: those that are what it wrote. O(files).

    Raises:
        OSError: one cannot be read or removed.

    """
    place = os.path.join(folder, "checkpoints")
    current = {mark.name for mark in history.marks}
    written = {(name, digest_) for (name, _), digest_ in history.digests.items() if name not in current}
    for name in {name for name, _ in written}:
        path = os.path.join(place, f"{name}.json")
        try:
            with open(path, "rb") as file:
                ours = (name, digest(file.read())) in written
        except FileNotFoundError:
            continue
        if ours:
            remove(path)


def space(folder: str, marks: list[CheckpointRecord], gone: set[tuple[str, int]]) -> DiskUsage:
    """See `Backend.disk_usage`. The files of checkpoints that are gone are spare."""
    stay = {mark.name for mark in marks if (mark.name, mark.revision) not in gone}
    files = {name: _size(os.path.join(folder, "checkpoints", f"{name}.json")) for name in {mark.name for mark in marks}}
    total = sum(files.values()) + sum(_size(os.path.join(folder, name)) for name in ("state.json", "history.jsonl"))
    return DiskUsage(total, sum(size for name, size in files.items() if name not in stay))


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise file_error(error, path) from error
