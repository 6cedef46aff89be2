"""Look into CrewAI's checkpoints and flows: `crewai:PATH`, of a SQLite database, or of a folder of JSON files.

A branch is a namespace; a checkpoint is a revision, in the order in which they were made, and the checkpoint `c-ID`. It
is one JSON document. Its keys:

- `entity/N/FIELD`: a field of the N-th crew, flow or agent, from 0.
- `state/FIELD`: any other field, such as the event record.
- `parent`: the id of the parent.

In a database of `SQLiteFlowPersistence`, a flow is a namespace. A state that was saved after a method is a revision,
and the checkpoint `c-ROW`. The keys are `state/FIELD`.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from typing import Any, NamedTuple

import apsw
import msgspec

from ... import codec
from ...errors import Damaged, KeyNotFound, StateException
from ...model import to_micros
from .. import Store
from ..files.durable_files import file_error
from . import names, values
from .history import History, HistoryBackend, Point
from .sqlite_file import SqliteFile, rows

TABLES = {"checkpoints": ("id", "created_at", "parent_id", "branch", "data")}
FLOW_TABLES = {"flow_states": ("id", "flow_uuid", "method_name", "timestamp", "state_json")}
WHAT = "a store of CrewAI's checkpoints"
FILE = re.compile(r"(\d{8}T\d{6}_[0-9a-f]{8})(?:_p-(.*))?\.json")
_MAX_DEPTH = 5  # of the folders of branches: a fork is `fork/NAME`
_MAX_CACHED = 8


class Place(NamedTuple):
    """Where a checkpoint is: its id, what changes if it is replaced, and its file; "" for a row of the database."""

    identifier: str
    mark: object
    parent: str | None
    path: str = ""


def _order(place: Place) -> tuple[str, object, str]:
    """Return what sorts files: the second in the id, then the time of the file, since the rest of the id is random."""
    return place.identifier[:15], place.mark, place.identifier


class CrewAI(HistoryBackend):
    """A branch of CrewAI's checkpoints. See the protocol `Backend` for each method."""

    kind = "crewai"
    title = WHAT
    tables = TABLES

    def __init__(self, store: Store, namespace: str, **options: Any) -> None:
        super().__init__(store, namespace, **options)
        self._file = SqliteFile(self.place, self.tables, self.title, self.timeout)
        self._history = History()
        self._places: list[Place] = []
        self._before: dict[str, bytes] = {}
        self._cached: dict[tuple[int, int], dict[str, bytes]] = {}

    def close(self) -> None:
        self._file.close()

    def namespaces(self) -> list[str]:
        return sorted(map(names.namespace_name, self._branches()))

    def _branches(self) -> list[str]:
        if os.path.isdir(self.place):
            return list(_folders(self.place))
        if not os.path.exists(self.place):
            raise KeyNotFound(f"there is no file or folder {self.place}", "Check the path")
        return [str(row[0]) for row in self._file.read(partial(rows, query="SELECT DISTINCT branch FROM checkpoints"))]

    def _found(self) -> tuple[str | None, list[Place]]:
        """Return the branch, and its checkpoints in order."""
        branch = next((one for one in self._branches() if names.namespace_name(one) == self.namespace), None)
        if branch is None:
            return None, []
        if os.path.isdir(self.place):
            return branch, sorted(_files(_folders(self.place)[branch]), key=_order)
        query = "SELECT id, rowid, parent_id FROM checkpoints WHERE branch = ? ORDER BY rowid"
        found = self._file.read(partial(rows, query=query, values=(branch,)))
        return branch, [Place(str(identifier), row, parent) for identifier, row, parent in found]

    def history(self) -> History:
        with self._lock:
            branch, places = self._found()
            old = len(self._places)
            if not old or places[:old] != self._places:
                lineage = sha256(repr((branch, places[0].identifier)).encode()).hexdigest()[:32] if places else ""
                self._history, self._before, self._cached, old = History(lineage), {}, {}, 0
            for place in places[old:]:
                parts = self._parts(place)
                written: dict[str, Any] = {key: None for key, data in parts.items() if self._before.get(key) != data}
                self._history.add(self._point(place), written, set(parts))
                self._before = parts
            self._places = places
            return self._history

    def _point(self, place: Place) -> Point:
        reason = f"after {place.parent}" if place.parent else ""
        return Point(place, names.checkpoint_name(place.identifier), _time(place.identifier), reason)

    def _parts(self, place: Place) -> dict[str, bytes]:
        """Return the keys of a checkpoint, with their JSON. What is no such document is one opaque value."""
        data = _content(place.path) if place.path else self._file.read(partial(_row, identifier=place.identifier))
        parts = {"parent": codec.encode(place.parent)}
        try:
            found = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
            entities = msgspec.json.decode(found.pop("entities", b"[]"), type=list[dict[str, msgspec.Raw]])
        except (ValueError, RecursionError):
            return parts | {"state": codec.encode(values.opaque("JSON", data))}
        for field, raw in found.items():
            parts[names.key_name(f"state/{field}")] = bytes(raw)
        for number, entity in enumerate(entities):
            for field, raw in entity.items():
                parts[names.key_name(f"entity/{number}/{field}")] = bytes(raw)
        return parts

    def encoded(self, history: History, wanted: Iterable[tuple[str, int]]) -> Iterator[bytes]:
        for key, revision in wanted:
            with self._lock:
                parts = self._cached.pop((history.serial, revision), None)
                if parts is None:
                    parts = self._parts(history.points[revision - 1].place)
                self._cached[history.serial, revision] = parts
                while len(self._cached) > _MAX_CACHED:
                    del self._cached[next(iter(self._cached))]
            yield values.json_text(parts[key]) if key in parts else codec.encode(values.opaque("deleted meanwhile"))


class CrewAIFlows(CrewAI):
    """A flow of CrewAI's `SQLiteFlowPersistence`. The parent of a `Place` is the method that a state came after."""

    title = "a database of CrewAI's flows"
    tables = FLOW_TABLES

    def _branches(self) -> list[str]:
        return [
            str(row[0]) for row in self._file.read(partial(rows, query="SELECT DISTINCT flow_uuid FROM flow_states"))
        ]

    def _found(self) -> tuple[str | None, list[Place]]:
        flow = next((one for one in self._branches() if names.namespace_name(one) == self.namespace), None)
        query = "SELECT id, timestamp, method_name FROM flow_states WHERE flow_uuid = ? ORDER BY id"
        found = [] if flow is None else self._file.read(partial(rows, query=query, values=(flow,)))
        return flow, [Place(str(row), str(moment), str(method)) for row, moment, method in found]

    def _point(self, place: Place) -> Point:
        try:
            moment = max(0, to_micros(datetime.fromisoformat(str(place.mark)).astimezone(UTC)))
        except (ValueError, OverflowError):
            moment = 0
        return Point(place, names.checkpoint_name(place.identifier), moment, f"after {place.parent}")

    def _parts(self, place: Place) -> dict[str, bytes]:
        query = "SELECT state_json FROM flow_states WHERE id = ?"
        found = self._file.read(partial(rows, query=query, values=(int(place.identifier),)))
        text = found[0][0] if found else ""
        data = text if isinstance(text, bytes) else str(text).encode()
        try:
            fields = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
        except (ValueError, RecursionError):
            return {"state": codec.encode(values.opaque("JSON", data))}
        return {names.key_name(f"state/{field}"): bytes(raw) for field, raw in fields.items()}


def holds_flows(path: str) -> bool:
    """Return whether a path leads to a database of `SQLiteFlowPersistence`."""
    file = SqliteFile(path, FLOW_TABLES, CrewAIFlows.title, timeout=5.0)
    try:
        file.read(apsw.Connection.total_changes)
    except StateException:  # whoever opens it says what is wrong
        return False
    finally:
        file.close()
    return True


def _row(db: apsw.Connection, identifier: str) -> bytes:
    found = rows(db, "SELECT json(data) FROM checkpoints WHERE id = ?", (identifier,))
    return str(found[0][0]).encode() if found else b""


def _folders(root: str) -> dict[str, str]:
    """Return the folder of each branch."""
    found: dict[str, str] = {}
    for folder, inside, files in os.walk(root):
        branch = os.path.relpath(folder, root)
        if branch.count(os.sep) >= _MAX_DEPTH:
            inside.clear()
        if branch != "." and any(FILE.fullmatch(name) for name in files):
            found[branch] = folder
    return found


def _files(folder: str) -> Iterator[Place]:
    try:
        listed = sorted(os.scandir(folder), key=lambda entry: entry.name)
        for entry in listed:
            found = FILE.fullmatch(entry.name)
            if found and entry.is_file(follow_symlinks=False):
                status = entry.stat(follow_symlinks=False)
                yield Place(found[1], (status.st_mtime_ns, status.st_size), _parent(found[2]), entry.path)
    except OSError as error:
        raise file_error(error, folder) from error


def _parent(identifier: str | None) -> str | None:
    """Return the parent that the name of a file tells: the first checkpoint has the word `none`."""
    return None if identifier == "none" else identifier


def _content(path: str) -> bytes:
    """Read the file of a checkpoint, which may be gone by now, or larger than a value may be."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(handle, "rb") as file:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode) or status.st_size > codec.MAX_BYTES:
                raise Damaged(f"{path} is no file, or over {codec.MAX_BYTES:,} bytes", "It is too large to be shown")
            return file.read()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise file_error(error, path) from error


def _time(identifier: str) -> int:
    """Return the time in an id, such as `20260131T090000_0123abcd`, in UTC; 0 if it has none."""
    try:
        return to_micros(datetime.strptime(identifier[:15], "%Y%m%dT%H%M%S").replace(tzinfo=UTC))
    except ValueError:
        return 0
