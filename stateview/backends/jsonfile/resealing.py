"""Rewrite a JSON namespace in the form that its keyring asks for: one new history, and one new state.json.

The new history counts from its rename on. Its last line leads from the former state.json to the new one, as that of a
commit does. So the next writer completes the work of a process that was killed between the two renames.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from msgspec.structs import replace

from ...model import now
from ...sealing import keyring
from ..files.durable_files import file_error, replaced_path, write_temporary
from ..files.staging import remove_plain_leftovers
from ..protocol import ProgressCount, Version
from ..stored_values import StoredValues
from . import document
from .history import History
from .reader import LoadedState
from .records import CommitRecord, PackedVersion, digest

if TYPE_CHECKING:
    from .backend import JSONBackend

_VERSIONS_PER_REPORT = 100


def reseal(backend: JSONBackend, progress: ProgressCount) -> int:
    """Rewrite what is not in the form, see `KeepsKeyring.reseal`. Call it under the lock.

    The files are replaced even if nothing changes: by that others learn that the keyring is another.
    """
    backend._live = backend._history = None
    live = backend._refresh()
    backend.values.check_open()
    if live.line is None or backend._keyring is None:
        return 0
    history = backend._past()
    backend._history = None  # until the file is as the history is then
    try:
        count = _convert(history, backend.values, progress)
        if keyring.decode(backend._keyring).state == "sealing":
            remove_plain_leftovers(backend.folder, "json", backend.url)
        _set_files(backend, history)
        _replace(backend, history, live, live.line)
        backend._refresh()  # writes the files of checkpoints
    except OSError as error:
        raise file_error(error, backend.folder) from error
    finally:
        backend._live = backend._history = None
    return count


def _convert(history: History, values: StoredValues, progress: ProgressCount) -> int:
    """Give all versions, commits and checkpoints of a history their form; return how many parts had another."""
    total, seen, count = sum(map(len, history.versions.values())), 0, 0
    for versions in history.versions.values():
        for index, version in enumerate(versions):
            if seen % _VERSIONS_PER_REPORT == 0:
                progress(seen, total)
            seen += 1
            resealed = _resealed(version, values)
            count += resealed is not version
            versions[index] = resealed
    for number, commit in enumerate(history.commits):
        reason = values.resealed_text(commit.reason, "reason", "", commit.revision)
        author = values.resealed_text(commit.author, "author", "", commit.revision)
        history.commits[number] = replace(commit, reason=reason, author=author)
        count += (reason is not commit.reason) + (author is not commit.author)
    for mark in list(history.marks):
        note = values.resealed_text(mark.note, "note", mark.name, mark.revision)
        history.marks.add(replace(mark, note=note))
        count += note is not mark.note
    progress(total, total)
    return count


def _resealed(version: Version, values: StoredValues) -> Version:
    """Return a version in its form: the same object if it is in that already."""
    if isinstance(version, PackedVersion):
        delta = version.delta
        data = values.resealed_delta(delta.data, version.key, version.revision, delta.base)
        return version if data is delta.data else replace(version, delta=replace(delta, data=data))
    if version.value is None:
        return version
    value = values.resealed(version.value, version.key, version.revision)
    return version if value is version.value else replace(version, value=value)


def _set_files(backend: JSONBackend, history: History) -> None:
    """Note which checkpoints are to have files, with which digests."""
    history.forget_files()
    if backend._makes_files():
        for mark in {mark.name: mark for mark in history.marks}.values():
            content = document.serialize(history.state_at(mark.point), {})
            history.digests[mark.name, mark.revision] = digest(content)


def _replace(backend: JSONBackend, history: History, live: LoadedState, line: CommitRecord) -> None:
    """Write the files, and give them their names: the history first, which makes them count."""
    entries = history.live()
    data = document.serialize(entries, {})
    before_mtime = live.signature[0] if live.signature is not None else 0
    last = replace(
        line, digest=digest(data), before=line.digest, before_mtime=before_mtime, count=len(entries), reason="",
        author="", undo=line.undo[:3], replaced="", fileless=False, floor=history.floor, lineage=history.lineage,
    )  # fmt: skip
    if backend.values.sealed:
        last.seal()
    changed = last.digest != line.digest
    last.mtime = max(now() * 1000, line.mtime + 1) if changed else line.mtime
    lines = b"".join(history.to_lines(last, settled=False))
    renames = []
    try:
        path = replaced_path(backend.history_path, backend.folder)
        renames.append((write_temporary(backend.history_path, lines), path))
        if changed:
            path = replaced_path(backend.state_path, backend.folder)
            renames.append((write_temporary(backend.state_path, data, last.mtime), path))
        for pair in renames:
            backend._rename([pair])
    finally:
        backend._abandon([pair for pair in renames if os.path.exists(pair[0])])
