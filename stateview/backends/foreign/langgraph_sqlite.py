"""Look into the database of LangGraph's `SqliteSaver`: `langgraph-sqlite:PATH`.

A thread is a namespace; each part of a thread that a subgraph keeps (a `checkpoint_ns`) is a namespace of its own. A
checkpoint of LangGraph is a revision, in the order of their ids as in LangGraph, and the checkpoint `c-ID`. Its keys:

- `ch/NAME`: the value of a channel.
- `writes/TASK/INDEX/CHANNEL`: what a task wrote to a channel after this checkpoint.
- `metadata`: the metadata, such as the step.
- `checkpoint`: all else, such as the versions of the channels, and the id of the parent.

The saver stores each checkpoint whole. The index compares the bytes of a channel with those before: O(all bytes of the
thread) at the first read, then O(what is new).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from hashlib import sha256
from typing import Any, NamedTuple
from uuid import UUID

import apsw
import msgspec

from ... import codec
from ...model import parse_time
from .. import Store
from ..protocol import NamespaceNumbers
from . import names, values
from .history import History, HistoryBackend, Point
from .sqlite_file import SqliteFile, rows

TABLES = {
    "checkpoints": (
        "thread_id", "checkpoint_ns", "checkpoint_id", "parent_checkpoint_id", "type", "checkpoint", "metadata",
    ),
    "writes": ("thread_id", "checkpoint_ns", "checkpoint_id", "task_id", "idx", "channel", "type", "value"),
}  # fmt: skip
WHAT = "a database of LangGraph's SqliteSaver"
_CHANNEL, _WRITE = "ch/", "writes/"
_UUID_EPOCH = 0x01B21DD213814000  # from 1582 to 1970, in tenths of a microsecond
_MAX_CACHED = 8  # checkpoints of which the parts are kept, so that a list of keys reads each once
_THREADS = """WITH RECURSIVE parts(thread, part) AS (
    SELECT * FROM (SELECT thread_id, checkpoint_ns FROM checkpoints ORDER BY 1, 2 LIMIT 1)
    UNION ALL
    SELECT checkpoints.thread_id, checkpoints.checkpoint_ns FROM parts JOIN checkpoints ON checkpoints.rowid = (
        SELECT rowid FROM checkpoints WHERE (thread_id, checkpoint_ns) > (parts.thread, parts.part)
        ORDER BY thread_id, checkpoint_ns LIMIT 1)
) SELECT thread, part FROM parts"""  # a seek for each thread, where DISTINCT would read the index of all checkpoints
_OF_THREAD = "WHERE thread_id = ?1 AND checkpoint_ns = ?2"


class Parts(NamedTuple):
    """The parts of a stored checkpoint, still encoded: its channels, and all else."""

    type: str
    channels: dict[str, bytes]
    rest: dict[str, bytes]
    whole: bytes | None  # the checkpoint, if it is not decoded, such as where it is encrypted


def split(kind: object, data: object) -> Parts:
    """Split a stored checkpoint into its parts. It never fails: what cannot be split stays whole."""
    if isinstance(data, str):
        data = data.encode(errors="replace")
    if not isinstance(data, bytes):
        return Parts("null", {}, {}, b"")
    if kind in ("json", None):
        decode: Any = msgspec.json.decode
    elif kind == "msgpack":
        decode = msgspec.msgpack.decode
    else:
        return Parts(str(kind), {}, {}, data)
    try:
        found = decode(data, type=dict[str, msgspec.Raw])
        raw = found.pop("channel_values", None)
        channels = {} if raw is None else decode(raw, type=dict[str, msgspec.Raw])
    except (ValueError, TypeError, RecursionError, MemoryError, msgspec.MsgspecError):
        return Parts(str(kind), {}, {}, data)
    kind = str(kind or "json")
    return Parts(kind, {n: bytes(v) for n, v in channels.items()}, {n: bytes(v) for n, v in found.items()}, None)


class LangGraphSqlite(HistoryBackend):
    """A thread in the database of LangGraph's `SqliteSaver`. See the protocol `Backend` for each method."""

    kind = "langgraph-sqlite"
    title = WHAT

    def __init__(self, store: Store, namespace: str, **options: Any) -> None:
        super().__init__(store, namespace, **options)
        self._file = SqliteFile(self.place, TABLES, WHAT, self.timeout)
        self._history = History()
        self._thread: tuple[str, str] | None = None
        self._known: tuple[object, ...] = ()  # the data version of the index
        self._rows_known: list[Any] = []  # rowid and id of each checkpoint in the index
        self._before: dict[str, bytes] = {}  # the channels of its last checkpoint
        self._cached: dict[tuple[int, int], Parts] = {}

    def close(self) -> None:
        self._file.close()

    # --- threads -----------------------------------------------------------------------------------------------

    def namespaces(self) -> list[str]:
        return sorted(names.namespace_name(*found) for found in self._file.read(self._threads))

    def _threads(self, db: apsw.Connection) -> list[tuple[str, str]]:
        found = db.execute(_THREADS)  # a hostile file has bytes there, which no name of a namespace leads back to
        return [(thread, part) for thread, part in found if isinstance(thread, str) and isinstance(part, str)]

    def _find_thread(self, db: apsw.Connection) -> tuple[str, str] | None:
        """Return the thread and its part that the namespace shows; None if there is none. O(1) for a plain name."""
        name = self.namespace
        if names.namespace_name(name) == name:
            found = rows(db, f"SELECT 1 FROM checkpoints {_OF_THREAD} LIMIT 1", (name, ""))
            return (name, "") if found else None
        return next((found for found in self._threads(db) if names.namespace_name(*found) == name), None)

    def numbers(self, wanted: Sequence[str]) -> Iterator[NamespaceNumbers | None]:
        """Yield the numbers of threads by their newest checkpoints alone."""

        def of_all(db: apsw.Connection) -> dict[str, NamespaceNumbers]:
            return {names.namespace_name(*one): self._numbers(db, *one) for one in self._threads(db)}

        known = self._file.read(of_all)
        return (known.get(name) for name in wanted)

    def _numbers(self, db: apsw.Connection, thread: str, part: str) -> NamespaceNumbers:
        (count,) = rows(db, f"SELECT count(*) FROM checkpoints {_OF_THREAD}", (thread, part))[0]
        last, kind, data = rows(
            db, f"SELECT checkpoint_id, type, checkpoint FROM checkpoints {_OF_THREAD} ORDER BY 1 DESC LIMIT 1",
            (thread, part),
        )[0]  # fmt: skip
        (written,) = rows(db, f"SELECT count(*) FROM writes {_OF_THREAD} AND checkpoint_id = ?3", (thread, part, last))[
            0
        ]
        return NamespaceNumbers(
            names.namespace_name(thread, part), len(split(kind, data).channels) + written + 2, count, count
        )

    # --- the index ---------------------------------------------------------------------------------------------

    def history(self) -> History:
        with self._lock:
            return self._file.read(self._refreshed)

    def _refreshed(self, db: apsw.Connection) -> History:
        version = self._file.data_version(db)
        if version == self._known:
            return self._history
        thread = self._find_thread(db)
        if thread is None:
            self._history, self._thread, self._known, self._rows_known = History(), None, version, []
            return self._history
        present = rows(db, f"SELECT rowid, checkpoint_id FROM checkpoints {_OF_THREAD} ORDER BY checkpoint_id", thread)
        old = len(self._rows_known)
        if thread != self._thread or not old or present[:old] != self._rows_known:
            lineage = sha256(repr((thread, present[0][1])).encode()).hexdigest()[:32]
            self._history, self._before, self._cached, old = History(lineage), {}, {}, 0
            self._known = ()
        self._thread, self._rows_known = thread, present
        if old:
            place = present[old - 1][1]
            self._history.amend(self._writes(db, place))
        for place in (identifier for _, identifier in present[old:]):
            self._add(db, place)
        self._known = version
        return self._history

    def _add(self, db: apsw.Connection, place: str) -> None:
        """Add a checkpoint to the index."""
        kind, data, metadata = rows(
            db, f"SELECT type, checkpoint, metadata FROM checkpoints {_OF_THREAD} AND checkpoint_id = ?3",
            (*self._of_thread(), place),
        )[0]  # fmt: skip
        parts = split(kind, data)
        written: dict[str, Any] = {"checkpoint": None, "metadata": None}
        present = set(written)
        for channel, value in parts.channels.items():
            key = names.key_name(_CHANNEL + channel)
            present.add(key)
            if self._before.get(channel) != value:
                written[key] = channel
        self._before = parts.channels
        writes = self._writes(db, place)
        point = Point(place, names.checkpoint_name(str(place)), _time(place, parts), _reason(metadata))
        self._history.add(point, written | writes, present | writes.keys())

    def _of_thread(self) -> tuple[str, str]:
        assert self._thread is not None, "a namespace without a thread has no checkpoints"
        return self._thread

    def _writes(self, db: apsw.Connection, place: str) -> dict[str, Any]:
        """Return the keys of the pending writes of a checkpoint, each with its task and index."""
        found = rows(
            db, f"SELECT task_id, idx, channel FROM writes {_OF_THREAD} AND checkpoint_id = ?3",
            (*self._of_thread(), place),
        )  # fmt: skip
        return {names.key_name(f"{_WRITE}{task}/{at}/{channel}"): (task, at) for task, at, channel in found}

    # --- values ------------------------------------------------------------------------------------------------

    def encoded(self, history: History, wanted: Iterable[tuple[str, int]]) -> Iterator[bytes]:
        for key, revision in wanted:
            with self._lock:
                yield self._file.read(partial(self._value, history=history, key=key, revision=revision))

    def _value(self, db: apsw.Connection, history: History, key: str, revision: int) -> bytes:
        place = history.points[revision - 1].place
        at = (*self._of_thread(), place)
        if key.startswith(_WRITE):
            found = rows(
                db, f"SELECT type, value FROM writes {_OF_THREAD} AND checkpoint_id = ?3 AND task_id = ?4 AND idx = ?5",
                (*at, *history.names[key]),
            )  # fmt: skip
            return values.typed_json(*found[0]) if found else _gone("write")
        if key == "metadata":
            found = rows(db, f"SELECT metadata FROM checkpoints {_OF_THREAD} AND checkpoint_id = ?3", at)
            return _metadata(found[0][0]) if found else _gone("metadata")
        parts = self._parts(db, history, revision, at)
        if parts is None:
            return _gone("checkpoint")
        if key.startswith(_CHANNEL):
            return values.typed_json(parts.type, parts.channels[history.names[key]])
        return self._rest(db, parts, at)

    def _parts(self, db: apsw.Connection, history: History, revision: int, at: tuple[str, ...]) -> Parts | None:
        parts = self._cached.pop((history.serial, revision), None)
        if parts is None:
            found = rows(db, f"SELECT type, checkpoint FROM checkpoints {_OF_THREAD} AND checkpoint_id = ?3", at)
            if not found:
                return None
            parts = split(*found[0])
        self._cached[history.serial, revision] = parts
        while len(self._cached) > _MAX_CACHED:
            del self._cached[next(iter(self._cached))]
        return parts

    def _rest(self, db: apsw.Connection, parts: Parts, at: tuple[str, ...]) -> bytes:
        """Return what a checkpoint holds beside its channels."""
        parent = rows(db, f"SELECT parent_checkpoint_id FROM checkpoints {_OF_THREAD} AND checkpoint_id = ?3", at)
        if parts.whole is not None:
            return codec.encode(values.opaque(parts.type, parts.whole))
        rest = {name: msgspec.Raw(values.typed_json(parts.type, data)) for name, data in parts.rest.items()}
        thread, part = self._of_thread()
        shown = {} if self.namespace == thread else {"thread_id": thread, "checkpoint_ns": part}
        return msgspec.json.encode(rest | {"parent": parent[0][0] if parent else None} | shown)


def _gone(what: str) -> bytes:
    """Return what stands for a value that the owner deleted since the index was read."""
    return codec.encode(values.opaque(f"{what} that was deleted meanwhile"))


def _metadata(data: object) -> bytes:
    """Encode the metadata: JSON since langgraph-checkpoint 2, in some releases before it MessagePack."""
    if isinstance(data, bytes) and data[:1] not in (b"{", b""):
        return values.msgpack_json(data)
    return values.typed_json("json", data) if data else b"{}"


def _reason(metadata: object) -> str:
    """Return what made a checkpoint, by its metadata, such as `loop, step 3`."""
    found = codec.decode(_metadata(metadata))
    if not isinstance(found, dict):
        return ""
    source, step, writes = (found.get(name) for name in ("source", "step", "writes"))
    by = ", ".join(writes) if isinstance(writes, dict) else ""
    told = [str(source)[:60] if source else "", f"step {step}" if type(step) is int else "", by[:100]]
    return ", ".join(filter(None, told))


def _time(place: object, parts: Parts) -> int:
    """Return when a checkpoint was made: by its `ts`, else by the time in its id, else 0."""
    if "ts" in parts.rest:
        text = codec.decode(values.typed_json(parts.type, parts.rest["ts"]))
        try:
            return max(0, parse_time(str(text)))
        except (ValueError, OverflowError):
            pass
    try:
        identifier = UUID(str(place)).int
    except ValueError:
        return 0
    ticks = (identifier >> 80 << 12) | (identifier >> 64 & 0xFFF)  # UUID 6: the time, its highest bits first
    return max(0, (ticks - _UUID_EPOCH) // 10)
