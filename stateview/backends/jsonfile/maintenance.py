"""Maintenance of a JSON namespace: superseded versions, the files of deleted checkpoints, disk usage."""

from __future__ import annotations

import os
from bisect import bisect_left

from ..files.durable_files import file_error, remove
from ..protocol import DiskUsage, SupersededVersion
from ..stored_values import StoredValues
from .history import Checkpoints, History
from .records import PackedVersion, file_digest

LINE_OVERHEAD_BYTES = 75  # of a version's line in the history, in addition to its key and value


def superseded(
    history: History, after: tuple[str, int], limit: int, values: StoredValues
) -> list[SupersededVersion]:  # fmt: skip
    """Return a page of superseded versions, see `Backend.superseded`."""
    keys = history.sorted_keys()
    page: list[SupersededVersion] = []
    for index in range(bisect_left(keys, after[0]), len(keys)):
        key = keys[index]
        versions = history.versions[key]
        for number, version in enumerate(versions):
            is_last = number + 1 == len(versions)
            if (key, version.revision) <= after or (is_last and version.value is not None):
                continue
            if len(page) == limit:
                return page
            if isinstance(version, PackedVersion):
                size, stored = version.delta.size, len(version.delta.data) * 4 // 3
            else:
                stored = len(version.value or b"")
                size = values.size(version.value, key, version.revision) if version.value else 0
            until = 0 if is_last else versions[number + 1].revision
            space = stored + len(key.encode()) + LINE_OVERHEAD_BYTES
            page.append(SupersededVersion(key, version.revision, until, size, version.value is None, space))
    return page


def remove_leftover_checkpoints(folder: str, history: History) -> None:
    """Remove the files of names without a checkpoint that has a file. A file that was edited stays. O(files).

    A killed process leaves the file of a deleted checkpoint. The option `checkpoint_files` leaves files of before.

    Args:
        folder: the namespace's folder.
        history: its history.

    Raises:
        OSError: a file cannot be read or removed.

    """
    for name in {name for name, _ in history.files if not history.has_file(name)}:
        remove_leftover_checkpoint(os.path.join(folder, "checkpoints", f"{name}.json"), name, history)


def remove_leftover_checkpoint(path: str, name: str, history: History) -> None:
    """Remove the file of a name without a checkpoint that has a file, unless the file was edited."""
    found = file_digest(path)
    is_deleted = history.marks.newest(name) is None
    if found is not None and ((name, found) in history.files or (is_deleted and history.wrote(name, found))):
        remove(path)


def disk_usage(folder: str, marks: Checkpoints, gone: set[tuple[str, int]]) -> DiskUsage:
    """Return the size of a namespace's files, see `Backend.disk_usage`. Files of gone checkpoints are spare."""
    remaining = {mark.name for mark in marks if (mark.name, mark.revision) not in gone}
    files = {name: _size(os.path.join(folder, "checkpoints", f"{name}.json")) for name in {mark.name for mark in marks}}
    total = sum(files.values()) + sum(
        _size(os.path.join(folder, name)) for name in ("state.json", "history.jsonl", "keyring.json")
    )
    spare = sum(size for name, size in files.items() if name not in remaining)
    return DiskUsage(total, spare, sum(files.values()))


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise file_error(error, path) from error
