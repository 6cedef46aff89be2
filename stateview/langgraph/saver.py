"""Keep the checkpoints of LangGraph over the public methods of `StateManager`.

The live state of a thread is its last checkpoint: a key for each channel, `ch/NAME`, and the key `checkpoint` for the
rest. Each `put` is one commit of what changed, with a checkpoint `c-ID`. So a restore, an undo, or a new value of one
channel is what the graph goes on from: `get_tuple` without an ID reads the live state.
"""

from __future__ import annotations

import asyncio
import glob
import random
import threading
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial
from typing import Any, Literal

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
    get_checkpoint_id,
    get_checkpoint_metadata,
)
from langgraph.checkpoint.serde.base import SerializerProtocol

from stateview import (
    ABSENT,
    Conflict,
    InvalidArgument,
    NotSerializable,
    RefNotFound,
    StateManager,
    StateView,
    Transaction,
    diff,
)

from .managers import Managers
from .places import THREAD, Place, quote, thread_of
from .reader import PLAIN, Found, Record, ThreadReader, is_record, no_thread, to_config, to_record
from .values import from_json, guess_json, holds_mark, to_json

_States = list[tuple[int | str, str, str]]  # ref, name and note of each state to copy
_END: Any = object()
_LOCKS = 64  # threads of LangGraph that rarely wait for each other
_WRITTEN = 10_000  # checkpoints; far more than there are runs at a time


class StateviewSaver(ThreadReader):
    """Keep the checkpoints of LangGraph's threads in a store: a thread is a namespace, and a channel is a key.

    Args:
        store: a `StateManager`, or its first argument: a store URL, `"json"`, `"sqlite"`, `"redis"`, or a store's name.
            None: the store that `stateview init` chose.
        threads: `"namespaces"`: each thread is a namespace. Its timeline, diff, restore and undo are those of the
            agent. `"keys"`: all threads are in the namespace of the manager, and their keys begin with `THREAD/`. This
            takes an eighth of the space for many short threads. Restore a thread there with `keys="THREAD/*"`.
        serde: LangGraph's serializer of what is no JSON. None: `JsonPlusSerializer`, with its allowlist. Any other
            serializer, such as one that encrypts, is given each value, and people cannot read its result.
        options: of `StateManager`, if `store` is none: `durability`, `encryption_key`, `history` and so on.

    A store may hold other data too: `list` passes over it, and each method that names it as a thread refuses it by
    `InvalidArgument`.

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
        self._managers = Managers(self.state)
        self._known = {}
        self._locks = [threading.Lock() for _ in range(_LOCKS)]
        self._written: OrderedDict[tuple[str, str], None] = OrderedDict()  # checkpoints with writes of this saver

    def close(self) -> None:
        """Close files and connections. A later use of the saver opens them again."""
        self._managers.close()
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
        with self._place(config) as place:
            self._put(place, config, checkpoint, metadata, new_versions)
            return to_config(place, checkpoint["id"])

    def _put(
        self, place: Place, config: RunnableConfig, checkpoint: Checkpoint, metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> None:  # fmt: skip
        parent, identifier = get_checkpoint_id(config) or None, checkpoint["id"]
        values: Mapping[str, Any] = checkpoint["channel_values"]
        versions = checkpoint["channel_versions"]
        found_metadata = get_checkpoint_metadata(config, metadata)
        members = {key: value for key, value in checkpoint.items() if key != "channel_values"}
        record = {key: value if key in PLAIN else to_json(value, self.serde) for key, value in members.items()}
        record |= {"parent": parent, "metadata": dict(found_metadata), "channels": sorted(values)}

        def write(tx: Transaction, live: Record | None, expected: int | None = None) -> None:
            live = live or {"id": None, "channel_versions": {}, "channels": []}
            before = from_json(live["channel_versions"], self._plain)
            follows = live["id"] is not None and live["id"] == parent  # else the live channels are of another branch
            for name, value in values.items():
                kept = follows and name in live["channels"] and name in versions
                if not kept or name in new_versions or before.get(name) != versions[name]:
                    self._save(tx, place.channels + name, value)
            gone = [name for name in live["channels"] if name not in values]
            if gone:
                tx.delete(keys=[glob.escape(place.channels + name) for name in gone])
            self._save_record(tx, place.record, record, expected)
            self._tell_thread(place, tx)
            tx.checkpoint(place.name(identifier), note=note)
            early.clear()
            if has_writes:
                early.update({key: tx.load(key) for key in tx.list_keys(place.writes(identifier))})
            for key in early:
                tx.delete(key)

        note = f"{found_metadata.get('source', '')} {found_metadata.get('step', '')}".strip()
        note += f" of {place.graph}" * bool(place.graph) + f", thread {place.thread}" * place.shared
        reason = note or "checkpoint"
        # LangGraph saves a checkpoint while its tasks run already. What they have written is saved again after it: the
        # checkpoint names the state before them, so that they run again after a restore.
        early: dict[str, Any] = {}
        with self._lock(place):
            has_writes = (place.state.namespace, place.writes(identifier)) in self._written
            found = next(place.state.entries(keys=[glob.escape(place.record)]), None)
            live, revision = (to_record(place, found.value), found.revision) if found is not None else (None, 0)
            try:
                place.state.transact(lambda tx: write(tx, live, revision), reason=reason)
            except Conflict:  # another writer came first
                place.state.transact(lambda tx: write(tx, _live_record(place, tx)), reason=reason)
            for key, task in early.items():
                place.state.transact(
                    partial(_add_writes, key=key, task=task), reason="task wrote before its checkpoint was saved"
                )

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Save what a task wrote after a checkpoint: one commit."""
        rows = [
            [WRITES_IDX_MAP.get(channel, index), channel, to_json(value, self.serde)]
            for index, (channel, value) in enumerate(writes)
        ]
        task = {"path": task_path, "writes": sorted({row[0]: row for row in rows}.values(), key=_index)}
        reason = f"task wrote {', '.join(dict.fromkeys(channel for channel, _ in writes))}"[:200]
        identifier = config["configurable"]["checkpoint_id"]
        with self._place(config) as place, self._lock(place):
            key = place.writes(identifier) + quote(task_id)
            self._note_writes(place, identifier)
            try:
                place.state.save(key, task, expected=0, reason=reason)
            except Conflict:  # the task has written before
                place.state.transact(partial(_add_writes, key=key, task=task), reason=reason)

    # --- threads -----------------------------------------------------------------------------------------------

    def delete_thread(self, thread_id: str) -> None:
        """Delete a thread with all its checkpoints: its namespace, with the history. Nothing brings it back.

        With `threads="keys"` its keys and checkpoints are deleted, and the history of the namespace stays.
        O(checkpoints of all threads). `compact` frees the space of what deleted checkpoints kept.

        Raises:
            InvalidArgument: other data lies there, such as keys of a user. Nothing was deleted.

        """
        with self._thread(str(thread_id)) as root:
            self._check_all(root)
            self._known.pop((root.state.namespace, root.root), None)
            if not self._shared:
                root.state.drop()
                self._managers.close(root.state.namespace)
                return
            names = [mark.name for mark in root.state.checkpoints()]
            digests = self._digests(root) if any(".." in name for name in names) else {}
            root.state.delete_prefix(root.root, reason=f"delete thread {thread_id}")
            # To free their space would take O(history) for each thread: `compact` does it for all.
            self._unname(root, [name for name in names if root.graph_of(name, digests) is not None], free=False)

    def _check_all(self, root: Place) -> None:
        """Raise an error if anything but a thread lies at its place. O(keys)."""
        keys = root.state.list_keys(root.root)
        other = next((key for key in keys if not root.holds(key)), "") or self._other_key(root)
        if other:
            raise no_thread(root, f"the key {other!r}")
        is_empty = not keys and not self._shared and root.state.revision  # all was deleted, or undone
        if is_empty and not any(is_record(one.value) for one in root.state.history(root.record, 2)):
            raise no_thread(root, "the history of deleted keys")

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Delete the checkpoints of some runs with their writes, in all threads. O(all checkpoints).

        Where the live state is of such a run, the newest checkpoint that is left becomes live, or nothing.
        """
        runs = set(run_ids)
        for root in self._roots() if runs else ():
            self._forget(root, [one for one in self._all(root) if self._metadata(one.record).get("run_id") in runs])

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
            with self._thread(thread) as root:
                self._check(root)
                found = list(self._all(root))
                kept = {(one.place.graph, name) for one in found for name in self._needed(one, found)}
                self._forget(root, [one for one in found if (one.place.graph, one.id) not in kept])

    def _needed(self, one: Found, found: Sequence[Found]) -> set[str]:
        """Return what the newest checkpoint of a graph needs: itself, and ancestors down to its snapshots of deltas."""
        graph = {other.record["id"]: other for other in found if other.place.graph == one.place.graph}
        if one.id != next(iter(graph)):
            return set()
        kept, at, missing = {one.id}, one, self._deltas(one.record)
        while missing and (parent := graph.get(at.record["parent"])) is not None and parent.id not in kept:
            kept.add(parent.record["id"])
            missing -= set(parent.record["channels"])
            at = parent
        return kept

    def _deltas(self, record: Record) -> set[str]:
        """Return the channels of deltas that have no value in a checkpoint."""
        counted = self._metadata(record).get("counters_since_delta_snapshot") or {}
        return set(counted) - set(record["channels"])

    def _forget(self, root: Place, gone: Sequence[Found]) -> None:
        """Delete checkpoints with their writes; make the newest one live that is left, where the live one is gone."""
        if not gone:
            return
        names = {(one.place.graph, one.id) for one in gone}
        left: dict[str, Found] = {}
        for one in self._all(root):
            if (one.place.graph, one.id) not in names:
                left.setdefault(one.place.graph, one)
        live = {place.graph: record["id"] for place, record in self._live(root)}

        def write(tx: Transaction) -> None:
            for one in gone:
                place, identifier = one.place, one.id
                for key in tx.list_keys(place.writes(identifier)):
                    tx.delete(key)
                if live.get(place.graph) != identifier:
                    continue
                for key in [place.record, *tx.list_keys(place.channels)]:
                    tx.delete(key)
                if (newest := left.get(place.graph)) is not None:
                    for name, value in self._raw(newest).items():
                        tx.save(place.channels + name, value)
                    tx.save(place.record, newest.record)

        root.state.transact(write, reason=f"delete {len(gone)} checkpoint{'s' * (len(gone) > 1)}")
        self._unname(root, [one.place.name(one.id) for one in gone])

    def _unname(self, root: Place, names: Sequence[str], free: bool = True) -> None:
        """Delete the checkpoints with these names, as far as they exist, and free what only they kept."""
        if not names:
            return
        act = partial(root.state.prune, keep=0) if free else root.state.delete_checkpoints
        try:
            act(names)
        except RefNotFound:
            present = {mark.name for mark in root.state.checkpoints()}
            act([name for name in names if name in present])

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy a thread with all its checkpoints and writes. O(what changed in all its checkpoints)."""
        with self._thread(str(source_thread_id)) as source, self._thread(str(target_thread_id)) as target:
            self._check(source)
            self._check(target)
            self._copy(source, target)

    def _copy(self, source: Place, target: Place) -> None:
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
            with target.state.transaction(f"copy of thread {source.thread}") as tx:
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

    # --- what is stored ----------------------------------------------------------------------------------------

    def _lock(self, place: Place) -> threading.Lock:
        """Return the lock that keeps a `put` and a `put_writes` of a thread apart."""
        return self._locks[hash((place.state.namespace, place.root)) % _LOCKS]

    def _note_writes(self, place: Place, checkpoint: str) -> None:
        """Remember that a checkpoint has writes. Those of before it is saved come from the saver that will save it."""
        self._written[place.state.namespace, place.writes(checkpoint)] = None
        if len(self._written) > _WRITTEN:
            self._written.popitem(last=False)

    def _tell_thread(self, place: Place, tx: Transaction) -> None:
        """Save the ID of a thread where the name of its namespace does not tell it."""
        if not self._shared and thread_of(place.state.namespace) is None and tx.load(THREAD, None) != place.thread:
            tx.save(THREAD, place.thread)

    def _save(self, tx: Transaction, key: str, value: Any) -> None:
        try:
            tx.save(key, guess_json(value, self.serde))
        except NotSerializable:
            tx.save(key, to_json(value, self.serde))

    def _save_record(self, tx: Transaction, key: str, record: Record, expected: int | None) -> None:
        try:
            if any(map(holds_mark, record.values())):
                raise NotSerializable("a name in it looks like that of a class")
            tx.save(key, record, expected=expected)
        except NotSerializable:  # metadata can be any object
            shown = {name: to_json(value, self._plain) for name, value in record.items()}
            tx.save(key, shown, expected=expected)


def _live_record(place: Place, tx: Transaction) -> Record | None:
    live = tx.load(place.record, None)
    return None if live is None else to_record(place, live)


def _index(row: Sequence[Any]) -> int:
    return int(row[0])


def _add_writes(tx: Transaction, *, key: str, task: dict[str, Any]) -> None:
    """Add what a task wrote to what it wrote before. Only the special channels are written again."""
    before = tx.load(key, {"path": "", "writes": []})
    rows = {row[0]: row for row in before["writes"]}
    rows |= {row[0]: row for row in task["writes"] if row[0] < 0 or row[0] not in rows}
    after = {"path": task["path"] or before["path"], "writes": sorted(rows.values(), key=_index)}
    if after != before:
        tx.save(key, after)
