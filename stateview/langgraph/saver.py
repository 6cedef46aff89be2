"""Keep the checkpoints of LangGraph over the public methods of `StateManager`.

The live state of a thread is its last checkpoint: a key for each channel, `ch/NAME`, and the key `checkpoint` for the
rest. Each `put` is one commit of what changed, with a checkpoint `c-ID`. So a restore, an undo, or a new value of one
channel is what the graph goes on from: `get_tuple` without an ID reads the live state.
"""

from __future__ import annotations

import asyncio
import glob
import random
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any, Literal, NamedTuple, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
    PendingWrite,
    get_checkpoint_id,
    get_checkpoint_metadata,
    writes_sort_key,
)
from langgraph.checkpoint.serde.base import SerializerProtocol

from stateview import ABSENT, InvalidArgument, RefNotFound, StateManager, StateView, Transaction, diff

from .places import THREAD, Place, namespace_of, quote, thread_of, unquote
from .values import from_json, to_json

Record = dict[str, Any]
Writes = list[PendingWrite]  # in the class, `list` is a method
WritesOfSteps = list[Writes]
_Order = list[tuple[str, Place, int | None]]  # ID, place and revision of each checkpoint
_States = list[tuple[int | str, str, str]]  # ref, name and note of each state to copy
_OURS = ("parent", "metadata", "channels")  # members of a record that are not LangGraph's
_MANAGERS = 256  # threads whose files and connections stay open
_PAGE = 500  # entries that one read of a store returns
_END: Any = object()


class _Found(NamedTuple):
    """A checkpoint that was found: where it is, its record, and the state that holds its channels."""

    place: Place
    record: Record
    view: StateView


class StateviewSaver(BaseCheckpointSaver[Any]):
    """Keep the checkpoints of LangGraph's threads in a store: a thread is a namespace, and a channel is a key.

    Args:
        store: a `StateManager`, or its first argument: a store URL, `"json"`, `"sqlite"`, `"redis"`, or a store's name.
            None: the store that `stateview init` chose.
        threads: `"namespaces"`: each thread is a namespace. Its timeline, diff, restore and undo are those of the
            agent. `"keys"`: all threads are in the namespace of the manager, and their keys begin with `THREAD/`. This
            takes a tenth of the space for many short threads. Restore a thread there with `keys="THREAD/*"`.
        serde: LangGraph's serializer of what is no JSON. None: `JsonPlusSerializer`, with its allowlist. Any other
            serializer, such as one that encrypts, is given each value, and people cannot read its result.
        options: of `StateManager`, if `store` is none: `durability`, `encryption_key`, `history` and so on.

    The methods are those of `BaseCheckpointSaver`. The asynchronous ones run the same code on threads of the event
    loop. One that has begun to write runs to its end, even if it is cancelled.

    Raises:
        InvalidArgument, InvalidName: an argument is not valid.

    """

    def __init__(
        self, store: StateManager | str | None = None, *, threads: Literal["namespaces", "keys"] = "namespaces",
        serde: SerializerProtocol | None = None, **options: Any,
    ) -> None:  # fmt: skip
        super().__init__(serde=serde)
        if threads not in ("namespaces", "keys"):
            raise InvalidArgument(f"threads={threads!r}: give 'namespaces' or 'keys'")
        if isinstance(store, StateManager) and options:
            raise InvalidArgument(f"{', '.join(options)}: give the options to the StateManager")
        self._owned = not isinstance(store, StateManager)
        self.state = store if isinstance(store, StateManager) else StateManager(store, **options)
        self._shared = threads == "keys"
        self._states: dict[str, StateManager] = {}

    def close(self) -> None:
        """Close files and connections. A later use of the saver opens them again."""
        for state in tuple(self._states.values()):
            state.close()
        if self._owned:
            self.state.close()

    def __enter__(self) -> StateviewSaver:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- one checkpoint ----------------------------------------------------------------------------------------

    def put(
        self, config: RunnableConfig, checkpoint: Checkpoint, metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:  # fmt: skip
        """Save a checkpoint: one commit of the channels that changed, with the checkpoint `c-ID`. O(what changed)."""
        place, parent, identifier = self._place(config), get_checkpoint_id(config), checkpoint["id"]
        values: Mapping[str, Any] = checkpoint["channel_values"]
        versions = checkpoint["channel_versions"]
        found_metadata = get_checkpoint_metadata(config, metadata)
        record = {key: self._dump(value) for key, value in checkpoint.items() if key != "channel_values"}
        record |= {"parent": parent, "metadata": self._dump(dict(found_metadata)), "channels": sorted(values)}
        written: dict[str, Any] = {}

        def write(tx: Transaction) -> None:
            live = tx.load(place.record, None) or {"id": None, "channel_versions": {}, "channels": []}
            follows = live["id"] is not None and live["id"] == parent  # else the live channels are of another branch
            for name, value in values.items():
                kept = follows and name in live["channels"] and name in versions
                if not kept or name in new_versions or live["channel_versions"].get(name) != versions[name]:
                    if name not in written:
                        written[name] = self._dump(value)
                    tx.save(place.channels + name, written[name])
            gone = [name for name in live["channels"] if name not in values]
            if gone:
                tx.delete(keys=[glob.escape(place.channels + name) for name in gone])
            tx.save(place.record, record)
            self._tell_thread(place, tx)
            tx.checkpoint(place.name(identifier), note=note)

        note = f"{found_metadata.get('source', '')} {found_metadata.get('step', '')}".strip()
        note += f" of {place.graph}" * bool(place.graph) + f", thread {place.thread}" * place.shared
        place.state.transact(write, reason=f"checkpoint {note}")
        return _config(place, identifier)

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Save what a task wrote after a checkpoint: one commit."""
        place = self._place(config)
        key = place.writes(config["configurable"]["checkpoint_id"]) + quote(task_id)
        rows = [
            (WRITES_IDX_MAP.get(channel, index), channel, self._dump(value))
            for index, (channel, value) in enumerate(writes)
        ]

        def write(tx: Transaction) -> None:
            before = tx.load(key, None)
            stored = {row[0]: row for row in (before["writes"] if before else ())}
            for row in rows:
                if row[0] < 0 or row[0] not in stored:  # only the special channels may be written again
                    stored[row[0]] = list(row)
            after = {"path": task_path or (before or {}).get("path", ""), "writes": [stored[n] for n in sorted(stored)]}
            if after != before:
                tx.save(key, after)

        channels = ", ".join(dict.fromkeys(channel for channel, _ in writes))
        place.state.transact(write, reason=f"writes of a task to {channels}"[:200])

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Return a checkpoint: the live state, or the one with the ID in `config`. O(what it holds).

        The ID of the live checkpoint means the live state too, so that a restored channel is read in either way.
        """
        place = self._place(config)
        found = self._find(place, get_checkpoint_id(config))
        return None if found is None else self._tuple(found)

    def _find(self, place: Place, identifier: str | None) -> _Found | None:
        """Find the checkpoint with an ID, or the live one."""
        view = place.state.at("live")
        record = view.load(place.record, None)
        if record is not None and identifier in (None, record["id"]):
            return _Found(place, record, view)
        if identifier is None:
            return None
        try:
            view = place.state.at(place.name(identifier))
        except RefNotFound:
            return None
        record = view.load(place.record, None)
        return None if record is None or record["id"] != identifier else _Found(place, record, view)

    def _tuple(self, found: _Found) -> CheckpointTuple:
        place, record, view = found
        values = {
            entry.key.removeprefix(place.channels): self._load(entry.value) for entry in view.entries(place.channels)
        }
        return self._made(place, record, values)

    def _made(self, place: Place, record: Record, values: dict[str, Any]) -> CheckpointTuple:
        """Return a checkpoint as LangGraph takes it, with its writes."""
        checkpoint = {key: self._load(value) for key, value in record.items() if key not in _OURS}
        parent = record["parent"]
        return CheckpointTuple(
            _config(place, record["id"]), cast("Checkpoint", {**checkpoint, "channel_values": values}),
            self._load(record["metadata"]), None if parent is None else _config(place, parent),
            self._writes(place, record["id"]),
        )  # fmt: skip

    def _writes(self, place: Place, identifier: str, view: StateView | None = None) -> Writes:
        """Return the writes of a checkpoint in LangGraph's order: those that are live, or else those in a view."""
        prefix = place.writes(identifier)
        tasks = {entry.key: entry.value for entry in view.entries(prefix)} if view is not None else {}
        live = list(place.state.entries(prefix, limit=_PAGE))
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

        The values are read one checkpoint at a time, and only of those that match.
        """
        latest = get_checkpoint_id(before) if before else None
        chosen = get_checkpoint_id(config) if config else None

        def matching() -> Iterator[CheckpointTuple]:
            for thread in self._threads() if config is None else [str(config["configurable"]["thread_id"])]:
                graph = None if config is None else config["configurable"].get("checkpoint_ns")
                for found in self._all(thread, graph):
                    identifier = found.record["id"]
                    if (chosen and identifier != chosen) or (latest and identifier >= latest):
                        continue
                    metadata = self._load(found.record["metadata"])
                    if all(metadata.get(key) == value for key, value in (filter or {}).items()):
                        yield self._tuple(found)

        yield from islice(matching(), limit if limit is None else max(limit, 0))

    def _all(self, thread: str, graph: str | None = None) -> Iterator[_Found]:
        """Yield the checkpoints of a thread, the newest first; of one graph, or of all."""
        root = self._thread(thread)
        live = {place.graph: record for place, record in self._live(root)}
        digests = {root._replace(graph=name).digest: name for name in live}
        found: _Order = []
        for mark in root.state.checkpoints():
            name = root.graph_of(mark.name, digests)
            if name is not None and graph in (None, name):
                place = root._replace(graph=name)
                identifier = mark.name.partition(".")[0].removeprefix("c-")
                if mark.name.startswith("x-"):
                    record = root.state.at(mark.revision).load(place.record, {"id": ""})
                    identifier = record["id"]
                if identifier != live.get(name, {}).get("id"):
                    found.append((identifier, place, mark.revision))
        found += [
            (record["id"], root._replace(graph=name), None) for name, record in live.items() if graph in (None, name)
        ]
        found.sort(key=lambda one: (one[0], one[1].graph), reverse=True)
        for identifier, place, revision in found:
            view = place.state.at("live" if revision is None else revision)
            record = view.load(place.record, None)
            if record is not None and record["id"] == identifier:
                yield _Found(place, record, view)

    def _digests(self, root: Place) -> dict[str, str]:
        """Return the live graphs of a thread by what stands for them in a name that cannot tell them."""
        return {place.digest: place.graph for place, _ in self._live(root)}

    def _live(self, root: Place) -> Iterator[tuple[Place, Record]]:
        """Yield the live checkpoint of each graph of a thread."""
        keys = [glob.escape(root.record), *root.state.list_keys(f"{root.root}sub/")]
        records = root.state.load_many([key for key in keys if key == root.record or key.endswith("/checkpoint")])
        for key, record in records.items():
            graph = "" if key == root.record else unquote(key.removeprefix(f"{root.root}sub/").partition("/")[0])
            place = root._replace(graph=graph)
            if key == place.record and isinstance(record, dict) and "channel_versions" in record:
                yield place, record

    # --- threads -----------------------------------------------------------------------------------------------

    def delete_thread(self, thread_id: str) -> None:
        """Delete a thread with all its checkpoints: its namespace, with the history. Nothing brings it back.

        With `threads="keys"` its keys and checkpoints are deleted, and the history of the namespace stays.
        """
        root = self._thread(str(thread_id))
        if not self._shared:
            self._states.pop(root.state.namespace, None)
            root.state.drop()
            return
        digests = self._digests(root)
        names = [mark.name for mark in root.state.checkpoints() if root.graph_of(mark.name, digests) is not None]
        if root.state.list_keys(root.root):
            root.state.delete_prefix(root.root, reason=f"delete thread {thread_id}")
        self._unname(root, names)

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Delete the checkpoints of some runs with their writes, in all threads. O(all checkpoints).

        Where the live state is of such a run, the newest checkpoint that is left becomes live, or nothing.
        """
        runs = set(run_ids)
        for thread in self._threads() if runs else ():
            gone = [one for one in self._all(thread) if self._load(one.record["metadata"]).get("run_id") in runs]
            self._forget(thread, gone)

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Delete all checkpoints of threads (`"delete"`), or all but the live one of each graph (`"keep_latest"`).

        Ancestors that a channel of deltas is computed from are kept. The history is kept as of any delete: the command
        `stateview compact --keep 1` frees its space.

        Raises:
            InvalidArgument: the strategy is none of these.

        """
        if strategy not in ("keep_latest", "delete"):
            raise InvalidArgument(f"strategy={strategy!r}: give 'keep_latest' or 'delete'")
        for thread in thread_ids:
            if strategy == "delete":
                self.delete_thread(thread)
                continue
            found = list(self._all(thread))
            kept = {(one.place.graph, name) for one in found for name in self._needed(one, found)}
            self._forget(thread, [one for one in found if (one.place.graph, one.record["id"]) not in kept])

    def _needed(self, one: _Found, found: Sequence[_Found]) -> set[str]:
        """Return what the newest checkpoint of a graph needs: itself, and ancestors down to its snapshots of deltas."""
        graph = {other.record["id"]: other for other in found if other.place.graph == one.place.graph}
        if one.record["id"] != next(iter(graph)):
            return set()
        kept, at, missing = {one.record["id"]}, one, self._deltas(one.record)
        while missing and (parent := graph.get(at.record["parent"])) is not None:
            kept.add(parent.record["id"])
            missing -= set(parent.record["channels"])
            at = parent
        return kept

    def _deltas(self, record: Record) -> set[str]:
        """Return the channels of deltas that have no value in a checkpoint."""
        counted = self._load(record["metadata"]).get("counters_since_delta_snapshot") or {}
        return set(counted) - set(record["channels"])

    def _forget(self, thread: str, gone: Sequence[_Found]) -> None:
        """Delete checkpoints with their writes; make the newest one live that is left, where the live one is gone."""
        if not gone:
            return
        root, names = self._thread(thread), {(one.place.graph, one.record["id"]) for one in gone}
        left: dict[str, _Found] = {}
        for one in self._all(thread):
            if (one.place.graph, one.record["id"]) not in names:
                left.setdefault(one.place.graph, one)
        live = {place.graph: record["id"] for place, record in self._live(root)}

        def write(tx: Transaction) -> None:
            for one in gone:
                place, identifier = one.place, one.record["id"]
                for key in tx.list_keys(place.writes(identifier)):
                    tx.delete(key)
                if live.get(place.graph) != identifier:
                    continue
                for key in [place.record, *tx.list_keys(place.channels)]:
                    tx.delete(key)
                if (newest := left.get(place.graph)) is not None:
                    for entry in newest.view.entries(place.channels):
                        tx.save(entry.key, entry.value)
                    tx.save(place.record, newest.record)

        root.state.transact(write, reason=f"delete {len(gone)} checkpoint{'s' * (len(gone) > 1)}")
        self._unname(root, [one.place.name(one.record["id"]) for one in gone])

    def _unname(self, root: Place, names: Sequence[str]) -> None:
        """Delete the checkpoints with these names, as far as they exist, and what only they kept."""
        present = {mark.name for mark in root.state.checkpoints()}
        if wanted := [name for name in names if name in present]:
            root.state.prune(wanted, keep=0)

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy a thread with all its checkpoints and writes. O(what changed in all its checkpoints)."""
        source, target = self._thread(str(source_thread_id)), self._thread(str(target_thread_id))
        digests = self._digests(source)
        states: _States = []
        for mark in source.state.checkpoints():
            graph = source.graph_of(mark.name, digests)
            if graph is not None:
                copied = target._replace(graph=graph).name("")
                _, point, scope = copied.partition(".")
                states.append((mark.revision, mark.name.partition(".")[0] + point + scope, mark.note))
        before: StateView | None = None
        for ref, name, note in [*states, ("live", "", "")]:
            view = source.state.at(ref)
            with target.state.transaction(f"copy of thread {source_thread_id}") as tx:
                if before is None:
                    changes = [(entry.key, entry.value) for entry in view.entries(source.root)]
                else:
                    compared = diff(before, view, [f"{glob.escape(source.root)}*"] if source.root else None)
                    changes = [(change.key, change.after) for change in compared]
                for key, value in changes:
                    copied_key = target.root + key.removeprefix(source.root)
                    if value is ABSENT:
                        tx.delete(copied_key)
                    elif copied_key != THREAD:
                        tx.save(copied_key, value)
                self._tell_thread(target, tx)
                if name:
                    tx.checkpoint(name, note=note)
            before = view

    # --- channels of deltas ------------------------------------------------------------------------------------

    def get_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """Return the writes of channels since the last ancestor that holds their value, and that value as `seed`."""
        place = self._place(config)
        target = self._find(place, get_checkpoint_id(config)) if channels else None
        collected: dict[str, WritesOfSteps] = {name: [] for name in channels}
        seeds: dict[str, Any] = {}
        if target is not None:
            for one in self._ancestors(target):
                missing = [name for name in channels if name not in seeds]
                if not missing:
                    break
                writes = self._writes(place, one.record["id"], target.view)
                for name in missing:
                    collected[name].append([write for write in writes if write[1] == name])
                    value = one.view.load(place.channels + name, ABSENT) if name in one.record["channels"] else ABSENT
                    if value is not ABSENT:
                        seeds[name] = self._load(value)
        found: dict[str, DeltaChannelHistory] = {}
        for name in channels:
            found[name] = {"writes": [write for part in reversed(collected[name]) for write in part]}
            if name in seeds:
                found[name]["seed"] = seeds[name]
        return found

    def _ancestors(self, one: _Found) -> Iterator[_Found]:
        """Yield the parent of a checkpoint, its parent, and so on."""
        place = one.place
        revisions = {mark.name: mark.revision for mark in place.state.checkpoints()} if one.record["parent"] else {}
        while (parent := one.record["parent"]) is not None and place.name(parent) in revisions:
            view = place.state.at(revisions[place.name(parent)])
            record = view.load(place.record, None)
            if record is None or record["id"] != parent:
                return
            one = _Found(place, record, view)
            yield one

    def get_next_version(self, current: str | int | float | None, channel: None) -> Any:  # noqa: ARG002
        """Return the next version of a channel: a whole number, or a text in a thread that has texts."""
        if not isinstance(current, str):
            return 1 if current is None else current + 1
        return f"{int(current.partition('.')[0]) + 1:032}.{random.random():016}"

    # --- asyncio -----------------------------------------------------------------------------------------------

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Return a checkpoint, see `get_tuple`."""
        return await asyncio.to_thread(self.get_tuple, config)

    async def alist(
        self, config: RunnableConfig | None, *, filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None, limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:  # fmt: skip
        """Yield checkpoints, see `list`."""
        found = self.list(config, filter=filter, before=before, limit=limit)
        while (one := await asyncio.to_thread(next, found, _END)) is not _END:
            yield one

    async def aput(
        self, config: RunnableConfig, checkpoint: Checkpoint, metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:  # fmt: skip
        """Save a checkpoint, see `put`."""
        return await asyncio.to_thread(self.put, config, checkpoint, metadata, new_versions)

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Save what a task wrote, see `put_writes`."""
        await asyncio.to_thread(self.put_writes, config, writes, task_id, task_path)

    async def adelete_thread(self, thread_id: str) -> None:
        """Delete a thread, see `delete_thread`."""
        await asyncio.to_thread(self.delete_thread, thread_id)

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Delete the checkpoints of some runs, see `delete_for_runs`."""
        await asyncio.to_thread(self.delete_for_runs, run_ids)

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy a thread, see `copy_thread`."""
        await asyncio.to_thread(self.copy_thread, source_thread_id, target_thread_id)

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Delete checkpoints of threads, see `prune`."""
        await asyncio.to_thread(partial(self.prune, thread_ids, strategy=strategy))

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """Return the writes of channels, see `get_delta_channel_history`."""
        return await asyncio.to_thread(partial(self.get_delta_channel_history, config=config, channels=channels))

    # --- where things are --------------------------------------------------------------------------------------

    def _thread(self, thread: str) -> Place:
        if self._shared:
            return Place(self.state, thread, "", f"{quote(thread)}/", True)
        name = namespace_of(thread)
        state = self._states.get(name)
        if state is None:
            if len(self._states) >= _MANAGERS:
                self._states.pop(next(iter(self._states)), None)  # closed when nobody uses it any more
            state = self._states.setdefault(name, self.state.in_namespace(name))
        return Place(state, thread, "")

    def _place(self, config: RunnableConfig) -> Place:
        chosen = config["configurable"]
        return self._thread(str(chosen["thread_id"]))._replace(graph=chosen.get("checkpoint_ns") or "")

    def _tell_thread(self, place: Place, tx: Transaction) -> None:
        """Save the ID of a thread where the name of its namespace does not tell it."""
        if not self._shared and thread_of(place.state.namespace) is None and tx.load(THREAD, None) != place.thread:
            tx.save(THREAD, place.thread)

    def _threads(self) -> Iterator[str]:
        """Yield the threads of the store, sorted by the names of their namespaces."""
        if self._shared:
            parts = {key.partition("/")[0] for key in self.state.list_keys()}
            yield from sorted(map(unquote, parts))
            return
        for name in self.state.namespaces():
            thread = thread_of(name)
            if thread is None:
                thread = self.state.in_namespace(name).load(THREAD, None)
            if isinstance(thread, str):
                yield thread

    def _dump(self, value: Any) -> Any:
        return to_json(value, self.serde)

    def _load(self, value: Any) -> Any:
        return from_json(value, self.serde)


def _config(place: Place, identifier: str) -> RunnableConfig:
    return {
        "configurable": {"thread_id": place.thread, "checkpoint_ns": place.graph, "checkpoint_id": identifier},
    }
