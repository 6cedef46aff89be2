"""Read data of the older layouts for an import. A temporary store adopts a copy of it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from typing import Any

from ..backends import mask
from ..backends.protocol import Backend, Head, ProgressCount, StagedImport
from ..errors import NOTHING_CHANGED, Damaged, InvalidName, KeyNotFound
from ..states.compare import entries
from .files import ImportFile, file_error, file_errors
from .import_sources import ImportSource, put
from .temporary_stores import TemporaryStores

SQLITE_MAGIC = b"SQLite format 3\0"
_APPLICATION_ID = slice(68, 72)  # of a SQLite database's header
_STORE, _NAMESPACE = "older", "import"


class LegacySource(ImportSource):
    """A temporary store that has adopted data of an older layout.

    Args:
        name: the name of the source, for messages.
        layout: the layout, for the description.
        adopted: the namespace in the temporary store.

    Raises:
        KeyNotFound: nothing was adopted.

    """

    def __init__(self, name: str, layout: str, adopted: Backend) -> None:
        self._adopted = adopted
        head = adopted.head()
        if not head.lineage:
            raise KeyNotFound(f"{name} holds nothing to import")
        super().__init__(name, f"{layout}: {head.count:,} keys, {len(adopted.marks()):,} checkpoints")

    def backend(self, space: TemporaryStores) -> Backend:  # noqa: ARG002
        return self._adopted

    def fill(self, receiver: StagedImport, reason: str, author: str, progress: ProgressCount) -> Head:  # noqa: ARG002
        head = self._adopted.head()
        after, done = ("", 0), 0
        while page := self._adopted.versions_page(after):
            put(receiver, page)
            after = page[-1].key, page[-1].revision
            done += sum(1 for version in page if not version.until and version.value is not None)
            progress(done, head.count)
        put(receiver, commits=self._adopted.commits(1 << 30), marks=self._adopted.marks())
        return head


def legacy_folder(path: str, space: TemporaryStores) -> LegacySource:
    """Return the source for a folder of an older layout of JSON files, or with an older database.

    Raises:
        InvalidName: the folder is a namespace of a store.
        KeyNotFound: it holds no older layout.
        BackendError: it cannot be read.

    """
    from ..backends.legacy.json_files import find_key_files

    try:
        names = os.listdir(path)
    except OSError as error:
        raise file_error(error, path) from error
    if "history.jsonl" in names or _is_ours(os.path.join(path, "state.db")):
        raise _namespace_error(path, path, "json" if "history.jsonl" in names else "sqlite")
    if "state.db" in names:
        return legacy_database(ImportFile(os.path.join(path, "state.db"), space), space)
    saved = os.path.join(path, "checkpoints")
    if "state.json" in names:
        _copy_files([os.path.join(path, "state.json")], space, _NAMESPACE)
        _copy_files(_json_files(saved), space, _NAMESPACE, "checkpoints")
        return LegacySource(path, "an older state.json", space.open_copy("json", _NAMESPACE, _STORE))
    if key_files := find_key_files(path):
        _copy_files(key_files.values(), space)
        for name in sorted(os.listdir(saved)) if os.path.isdir(saved) else ():
            checkpoint = os.path.join(saved, name)
            if os.path.isdir(checkpoint):
                copy = space.path(_STORE, "checkpoints", name)
                os.makedirs(copy, exist_ok=True)
                _copy_files(_json_files(checkpoint), space, "checkpoints", name)
                shutil.copystat(checkpoint, copy)  # the time of the checkpoint
        return LegacySource(path, "files KEY.json of the older layout", space.open_copy("json", "default", _STORE))
    hint = "A folder holds KEY.json files, or an older state.json or state.db; of a store see 'stateview migrate'"
    raise KeyNotFound(f"{path} holds nothing that can be imported", hint)


def legacy_database(file: ImportFile, space: TemporaryStores) -> LegacySource:
    """Return the source for a SQLite database of the older layout.

    Raises:
        InvalidName: the database is a namespace of a store.
        Damaged: it is not of the older layout, or damaged.

    """
    if _is_ours(file.path):
        raise _namespace_error(file.name, os.path.dirname(os.path.abspath(file.path)), "sqlite")
    copy = space.path(_STORE, _NAMESPACE, "state.db")
    for suffix in ("", "-wal", "-journal"):
        if os.path.exists(file.path + suffix):
            with file_errors(file.name):
                shutil.copyfile(file.path + suffix, copy + suffix)
    adopted = space.open_copy("sqlite", _NAMESPACE, _STORE)
    try:
        return LegacySource(file.name, "an older state.db", adopted)
    except Damaged as error:  # the message names the copy, which the user does not know
        raise Damaged(error.message.replace(copy, file.name), NOTHING_CHANGED) from error


def legacy_strings(server: Any, space: TemporaryStores, namespace: str) -> LegacySource:
    """Return the source for the strings of the older layout in a Redis. Only one page of the live state is in memory.

    Raises:
        KeyNotFound: the Redis holds no such string.
        Damaged: a string is not JSON.

    """
    from ..backends.legacy.adoption import adopt
    from ..backends.legacy.redis_strings import read_strings
    from ..backends.redis.connections.client import escape_match
    from ..backends.redis.foreign_keys import scan

    def find(prefix: str) -> Iterator[dict[str, bytes]]:
        for page in scan(server, escape_match(prefix) + "*"):
            yield {item.key: item.value for item in page if item.type == "string"}

    store = space.open("sqlite", _NAMESPACE)
    adopt(read_strings(find, namespace, mask(server.url)), _AdoptingStore(store))
    if not store.head().lineage:
        hint = "For other keys give --pattern; for a namespace of stateview's see 'stateview migrate'"
        raise KeyNotFound(f"{server.url} has no keys state:{namespace}:* or checkpoint:{namespace}:*", hint)
    return LegacySource(server.url, "the older layout in Redis", store)


class _AdoptingStore:
    """A store as the target of `adopt`."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.read = backend.read
        self.commit = backend.commit

    def all_keys(self) -> Iterator[str]:
        return (version.key for version in entries(self._backend, None))


def _namespace_error(name: str, folder: str, kind: str) -> InvalidName:
    root, namespace = os.path.split(os.path.abspath(folder))
    hint = f"It is no file to import: see 'stateview migrate {kind}:{root} …'"
    return InvalidName(f"{name} is the namespace {namespace!r} of a store", hint)


def _is_ours(path: str) -> bool:
    """Return whether a file is a database of a store, by the application ID in its header."""
    from ..backends.sqlite.schema import APPLICATION_ID

    if not os.path.isfile(path):
        return False
    with open(path, "rb") as file:
        header = file.read(100)
    return header.startswith(SQLITE_MAGIC) and int.from_bytes(header[_APPLICATION_ID], "big") == APPLICATION_ID


def _json_files(folder: str) -> list[str]:
    if not os.path.isdir(folder):
        return []
    paths = [os.path.join(folder, name) for name in sorted(os.listdir(folder)) if name.endswith(".json")]
    return [path for path in paths if os.path.isfile(path)]


def _copy_files(paths: Iterable[str], space: TemporaryStores, *folder: str) -> None:
    for path in paths:
        with file_errors(path):
            shutil.copy2(path, space.path(_STORE, *folder, os.path.basename(path)))
