"""Read the checkpoints of LangGraph's threads."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, NamedTuple, TypeGuard, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    Checkpoint,
    CheckpointTuple,
    DeltaChannelHistory,
    PendingWrite,
    get_checkpoint_id,
    writes_sort_key,
)
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from stateview import ABSENT, InvalidArgument, RefNotFound, StateManager, StateView

from .managers import Managers
from .places import THREAD, Place, namespace_of, quote, thread_of, unquote
from .values import from_json
from .versions import Past

Record = dict[str, Any]
Writes = list[PendingWrite]  # in the class, `list` is a method
WritesOfSteps = list[Writes]
_Order = list[tuple[str, Place, int | None]]  # ID, place and revision of each checkpoint
_ADDED = ("parent", "metadata", "channels")  # members of a record that are not LangGraph's
PLAIN = (*_ADDED, "v", "id", "ts", "channel_versions", "versions_seen", "updated_channels")  # never given to `serde`
_MEMBERS = frozenset({*_ADDED, "id", "channel_versions"})  # of each record
_PAGE = 500  # entries that one read of a store returns
_KNOWN = 10_000  # threads


class Found(NamedTuple):
    """A checkpoint: where it is, its record, and the state that holds its channels; None: the live state.

    `read` are the channels that were read together with the record, by key.
    """

    place: Place
    record: Record
    revision: int | None
    view: StateView | None = None
    read: dict[str, Any] | None = None

    @property
    def id(self) -> str:
        """Return its ID."""
        return str(self.record["id"])


class ThreadReader(BaseCheckpointSaver[Any]):
    """The methods of a checkpointer that read."""

    state: StateManager
    _shared: bool
    _managers: Managers
    _known: dict[tuple[str, str], None]  # namespaces and roots at which a thread was found

    # --- one checkpoint ----------------------------------------------------------------------------------------

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Return a checkpoint: the live state, or the one with the ID in `config`. O(what it holds).

        The ID of the live checkpoint means the live state too, so that a restored channel is read in either way.
        """
        with self._place(config) as place:
            found = self._find(place, get_checkpoint_id(config) or None)
            return None if found is None else self._tuple(found)

    def _find(self, place: Place, identifier: str | None) -> Found | None:
        """Find the checkpoint with an ID, or the live one.

        An earlier checkpoint most often has the channels of the live one, so they are read with its record.
        """
        nothing: Record = {**dict.fromkeys(_MEMBERS), "channels": []}
        live = nothing
        if identifier is not None:
            live = to_record(place, place.state.load(place.record, nothing, fresh=True))
        if live["id"] == identifier:
            view = place.state.at("live")
            record = to_record(place, view.load(place.record, nothing))
            if record["id"] is not None and identifier in (None, record["id"]):
                return Found(place, record, None, view)
        if identifier is None:
            return None
        try:
            view = place.state.at(place.name(identifier))
        except RefNotFound:
            return None
        channels = [glob.escape(place.channels + name) for name in live["channels"]]
        values = view.load_many([glob.escape(place.record), *channels])
        record = values.pop(place.record, None)
        if not is_record(record) or record["id"] != identifier:
            return None
        return Found(place, record, view.revision, view, values)

    def _raw(self, found: Found, past: Past | None = None) -> dict[str, Any]:
        """Return the stored values of the channels of a checkpoint, by channel."""
        place, record, revision, view, read = found
        if revision is None or (past is None and view is None):
            view = view or place.state.at("live" if revision is None else revision)
        if revision is None and view is not None:  # a channel may have been restored that the record does not name
            return {entry.key.removeprefix(place.channels): entry.value for entry in view.entries(place.channels)}
        if past is not None:
            values = {name: past.load(place.channels + name, revision or 0) for name in record["channels"]}
            return {name: value for name, value in values.items() if value is not ABSENT}
        values = dict(read or {})
        missing = [glob.escape(key) for name in record["channels"] if (key := place.channels + name) not in values]
        values |= view.load_many(missing) if view is not None and missing else {}
        return {name: values[key] for name in record["channels"] if (key := place.channels + name) in values}

    def _tuple(self, found: Found, past: Past | None = None) -> CheckpointTuple:
        """Return a checkpoint as LangGraph takes it, with its writes."""
        place, record = found.place, found.record
        values = {name: self._load(value) for name, value in self._raw(found, past).items()}
        checkpoint = {
            key: from_json(value, self._plain if key in PLAIN else self.serde)
            for key, value in record.items()
            if key not in _ADDED
        }
        return CheckpointTuple(
            to_config(place, found.id), cast("Checkpoint", {**checkpoint, "channel_values": values}),
            self._metadata(record), None if record["parent"] is None else to_config(place, record["parent"]),
            self._writes(place, found.id),
        )  # fmt: skip

    def _writes(self, place: Place, identifier: str, view: StateView | None = None) -> Writes:
        """Return the writes of a checkpoint in LangGraph's order: those that are live, or else those in a view."""
        prefix = place.writes(identifier)
        tasks = {entry.key: entry.value for entry in view.entries(prefix)} if view is not None else {}
        live = [*place.state.entries(prefix, limit=_PAGE)]
        tasks |= {entry.key: entry.value for entry in (live if len(live) < _PAGE else place.state.entries(prefix))}
        rows = [
            (writes_sort_key(task["path"], unquote(key.removeprefix(prefix)), index), channel, value)
            for key, task in tasks.items()
            for index, channel, value in task["writes"]
        ]
        rows.sort(key=lambda row: row[0])
        return [(order[1], channel, self._load(value)) for order, channel, value in rows]

    # --- many checkpoints --------------------------------------------------------------------------------------

    def list(
        self, config: RunnableConfig | None, *, filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None, limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:  # fmt: skip
        """Yield checkpoints, the newest first; without `config` those of all threads, one thread after the other.

        Values are read of those that match, a few checkpoints at a time.
        """
        latest = get_checkpoint_id(before) if before else None
        chosen = get_checkpoint_id(config) if config else None
        graph = config["configurable"].get("checkpoint_ns") if config else None

        def matching() -> Iterator[CheckpointTuple]:
            for root in self._roots() if config is None else self._root(str(config["configurable"]["thread_id"])):
                past = Past(root.state)
                for found in self._all(root, graph, chosen, latest):
                    metadata = self._metadata(found.record) if filter else {}
                    if all(metadata.get(key) == value for key, value in (filter or {}).items()):
                        yield self._tuple(found, past)

        yield from islice(matching(), limit if limit is None else max(limit, 0))

    def _all(
        self, root: Place, graph: str | None = None, chosen: str | None = None, latest: str | None = None
    ) -> Iterator[Found]:
        """Yield the checkpoints of a thread, the newest first.

        Args:
            root: the place of the thread.
            graph: only those of this graph.
            chosen: only the one with this ID.
            latest: only those with an ID before this.

        """
        live = {place.graph: record for place, record in self._live(root, graph)}
        digests = {root._replace(graph=name).digest: name for name in live}
        past = Past(root.state)
        found: _Order = []
        for mark in root.state.checkpoints():
            name = root.graph_of(mark.name, digests)
            if name is None or graph not in (None, name):
                continue
            place = root._replace(graph=name)
            identifier = mark.name.partition(".")[0].removeprefix("c-")
            if mark.name.startswith("x-"):
                record = past.load(place.record, mark.revision)
                identifier = record["id"] if is_record(record) else ""
            if identifier != live.get(name, {}).get("id"):
                found.append((identifier, place, mark.revision))
        found += [(record["id"], root._replace(graph=name), None) for name, record in live.items()]
        found.sort(key=lambda one: (one[0], one[1].graph), reverse=True)
        for identifier, place, revision in found:
            if (chosen and identifier != chosen) or (latest and identifier >= latest):
                continue
            record = live[place.graph] if revision is None else past.load(place.record, revision)
            if is_record(record) and record["id"] == identifier:
                yield Found(place, record, revision)

    def _digests(self, root: Place) -> dict[str, str]:
        """Return the live graphs of a thread by what stands for them in a name that cannot tell them."""
        return {place.digest: place.graph for place, _ in self._live(root)}

    def _live(self, root: Place, graph: str | None = None) -> Iterator[tuple[Place, Record]]:
        """Yield the live checkpoint of each graph of a thread, or of one graph."""
        if graph is not None:
            place = root._replace(graph=graph)
            record = root.state.load(place.record, None, fresh=True)
            if record is not None:
                yield place, to_record(place, record)
            return
        below = f"{root.root}sub/"
        keys = [glob.escape(key) for key in root.state.list_keys(below) if key.endswith("/checkpoint")]
        for key, record in root.state.load_many([glob.escape(root.record), *keys]).items():
            name = "" if key == root.record else unquote(key.removeprefix(below).partition("/")[0])
            place = root._replace(graph=name)
            if key == place.record:
                yield place, to_record(place, record)

    # --- channels of deltas ------------------------------------------------------------------------------------

    def get_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """Return the writes of channels since the last ancestor that holds their value, and that value as `seed`."""
        collected: dict[str, WritesOfSteps] = {name: [] for name in channels}
        seeds: dict[str, Any] = {}
        with self._place(config) as place:
            self._collect(place, get_checkpoint_id(config) or None, collected, seeds)
        found: dict[str, DeltaChannelHistory] = {}
        for name in channels:
            found[name] = {"writes": [write for part in reversed(collected[name]) for write in part]}
            if name in seeds:
                found[name]["seed"] = seeds[name]
        return found

    def _collect(
        self, place: Place, identifier: str | None, collected: dict[str, WritesOfSteps], seeds: dict[str, Any]
    ) -> None:
        """Add to `collected` the writes of each ancestor, the newest first, until each channel has a seed."""
        target = self._find(place, identifier) if collected else None
        past = Past(place.state)
        for one in self._ancestors(target, past) if target is not None else ():
            missing = [name for name in collected if name not in seeds]
            if not missing:
                break
            writes = self._writes(place, one.id, target.view if target is not None else None)
            for name in missing:
                collected[name].append([write for write in writes if write[1] == name])
                if name in one.record["channels"]:
                    value = past.load(place.channels + name, one.revision or 0)
                    if value is not ABSENT:
                        seeds[name] = self._load(value)

    def _ancestors(self, one: Found, past: Past) -> Iterator[Found]:
        """Yield the parent of a checkpoint, its parent, and so on."""
        place = one.place
        revisions = {mark.name: mark.revision for mark in place.state.checkpoints()} if one.record["parent"] else {}
        seen = {one.id}
        while (parent := one.record["parent"]) is not None and parent not in seen:  # a `put` can close a circle
            seen.add(parent)
            revision = revisions.get(place.name(parent), 0)
            record = past.load(place.record, revision) if revision else ABSENT
            if not is_record(record) or record["id"] != parent:
                return
            one = Found(place, record, revision)
            yield one

    # --- where things are --------------------------------------------------------------------------------------

    @contextmanager
    def _thread(self, thread: str, graph: str = "") -> Iterator[Place]:
        """Give the place of a thread, whose manager stays open for the length of the block."""
        if self._shared:
            yield Place(self.state, thread, graph, f"{quote(thread)}/", True)
            return
        with self._managers.use(namespace_of(thread)) as state:
            yield Place(state, thread, graph)

    @contextmanager
    def _place(self, config: RunnableConfig) -> Iterator[Place]:
        """Give the place of a graph, as `_thread` does, unless other data lies there."""
        chosen = config["configurable"]
        with self._thread(str(chosen["thread_id"]), chosen.get("checkpoint_ns") or "") as place:
            self._check(place)
            yield place

    def _root(self, thread: str) -> Iterator[Place]:
        """Give the place of one thread, in the form of `_roots`."""
        with self._place({"configurable": {"thread_id": thread}}) as root:
            yield root

    def _roots(self) -> Iterator[Place]:
        """Give the place of each thread of the store, in turn. What is no thread is passed over."""
        for thread in self._threads():
            with self._thread(thread) as root:
                if not self._other_key(root):
                    yield root

    def _check(self, place: Place) -> None:
        """Raise an error if other data lies at the place of a thread."""
        if key := self._other_key(place):
            raise no_thread(place, f"the key {key!r}")

    def _other_key(self, place: Place) -> str:
        """Return a key of other data that lies at the place of a thread; "" if none does. Each thread is asked once."""
        name = place.state.namespace, place.root
        if name in self._known:
            return ""
        root = place._replace(graph="")
        record = root.state.load(root.record, None, fresh=True)
        if record is None:
            view = root.state.at("live")  # others may save or delete the thread meanwhile
            keys = [row.key for row in view.rows(root.root, limit=_PAGE)]
            record = view.load(root.record, None)
            if record is None and not any(map(root.is_shown_by, keys)):
                return keys[0] if keys else ""
        if record is not None and not is_record(record):
            return root.record
        if len(self._known) >= _KNOWN:
            self._known.clear()
        self._known[name] = None
        return ""

    def _threads(self) -> Iterator[str]:
        """Yield the threads of the store, in the order of their namespaces or keys."""
        if self._shared:
            yield from map(unquote, dict.fromkeys(key.partition("/")[0] for key in self.state.list_keys()))
            return
        for name in self.state.namespaces():
            thread = thread_of(name)
            if thread is None:
                with self._managers.use(name) as state:
                    thread = state.load(THREAD, None)
            if isinstance(thread, str):
                yield thread

    def _load(self, value: Any) -> Any:
        return from_json(value, self.serde)

    def _metadata(self, record: Record) -> Any:
        return from_json(record["metadata"], self._plain)

    @property
    def _plain(self) -> SerializerProtocol:
        """Return the serializer of what a checkpoint holds beside its channels."""
        return self.serde if isinstance(self.serde, JsonPlusSerializer) else JsonPlusSerializer()


def is_record(value: Any) -> TypeGuard[Record]:
    """Return whether a value of a key `checkpoint` is what this saver stores there."""
    return type(value) is dict and value.keys() >= _MEMBERS


def to_record(place: Place, value: Any) -> Record:
    """Return a value of a key `checkpoint`.

    Raises:
        InvalidArgument: it is other data.

    """
    if not is_record(value):
        raise no_thread(place, f"the key {place.record!r}")
    return value


def no_thread(place: Place, found: str) -> InvalidArgument:
    """Return the error that other data lies at the place of a thread, with what was found."""
    return InvalidArgument(
        f"thread_id {place.thread!r} is no thread of StateviewSaver: namespace {place.state.namespace!r} of"
        f" {place.state.url} holds other data: {found}",
        "Use another thread_id or another store. references/langgraph.md says how to take over threads of other savers",
    )


def to_config(place: Place, identifier: str) -> RunnableConfig:
    """Return what names a checkpoint to LangGraph."""
    return {
        "configurable": {"thread_id": place.thread, "checkpoint_ns": place.graph, "checkpoint_id": identifier},
    }
