"""The least that a saver on a plain Redis server can do, for comparison: see `PlainRedisSaver`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import redis
from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple, get_checkpoint_id, get_checkpoint_metadata


class PlainRedisSaver(BaseCheckpointSaver[Any]):
    """Keep each checkpoint whole, as the savers in use do: a hash of MessagePack, its ID in a sorted set of the thread.

    A `put` is one pipeline in MULTI. A write is a field of a hash beside its checkpoint. It does less than LangGraph's
    contract asks: a write of a task that ran before is replaced, and a thread has no list of its subgraphs.
    """

    def __init__(self, url: str) -> None:
        super().__init__()
        self.client = redis.Redis.from_url(url)

    def _keys(self, config: Any, identifier: str) -> tuple[str, str, str]:
        thread = f"{config['configurable']['thread_id']}:{config['configurable'].get('checkpoint_ns', '')}"
        return f"ids:{thread}", f"checkpoint:{thread}:{identifier}", f"writes:{thread}:{identifier}"

    def put(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
        """Save a checkpoint with all its channels."""
        identifier = checkpoint["id"]
        ids, key, _ = self._keys(config, identifier)
        kind, data = self.serde.dumps_typed(checkpoint)
        _, about = self.serde.dumps_typed(get_checkpoint_metadata(config, metadata))
        fields: dict[Any, Any] = {
            "kind": kind, "data": data, "metadata": about, "parent": get_checkpoint_id(config) or "",
        }  # fmt: skip
        with self.client.pipeline(transaction=True) as pipe:
            pipe.hset(key, mapping=fields)
            pipe.zadd(ids, {identifier: 0})
            pipe.execute()
        return {"configurable": {**config["configurable"], "checkpoint_id": identifier}}

    def put_writes(self, config: Any, writes: Sequence[Any], task_id: str, task_path: str = "") -> None:
        """Save what a task wrote."""
        fields: dict[Any, Any] = {}
        for index, (channel, value) in enumerate(writes):
            fields[f"{task_id}:{index}"] = self.serde.dumps_typed((channel, value))[1]
        self.client.hset(self._keys(config, get_checkpoint_id(config) or "")[2], mapping=fields)

    def get_tuple(self, config: Any) -> CheckpointTuple | None:
        """Return a checkpoint, or the last one of its thread."""
        identifier = get_checkpoint_id(config)
        if identifier is None:
            last = self.client.zrevrange(self._keys(config, "")[0], 0, 0)
            if not last:
                return None
            identifier = last[0].decode()
        return self._tuples(config, [identifier])[0]

    def _tuples(self, config: Any, identifiers: Sequence[str]) -> list[CheckpointTuple]:
        with self.client.pipeline(transaction=False) as pipe:
            for identifier in identifiers:
                _, key, writes = self._keys(config, identifier)
                pipe.hgetall(key)
                pipe.hgetall(writes)
            replies = pipe.execute()
        found = []
        for identifier, fields, written in zip(identifiers, replies[::2], replies[1::2], strict=True):
            kind, place = fields[b"kind"].decode(), config["configurable"]
            pending = [
                (name.decode().rpartition(":")[0], *self.serde.loads_typed(("msgpack", data)))
                for name, data in sorted(written.items())
            ]
            one: Any = {"configurable": {**place, "checkpoint_id": identifier}}
            parent: Any = {"configurable": {**place, "checkpoint_id": fields[b"parent"].decode()}}
            found.append(CheckpointTuple(
                one, self.serde.loads_typed((kind, fields[b"data"])),
                self.serde.loads_typed(("msgpack", fields[b"metadata"])), parent if fields[b"parent"] else None,
                pending,
            ))  # fmt: skip
        return found

    def list(
        self, config: Any, *, filter: dict[str, Any] | None = None, before: Any = None, limit: int | None = None
    ) -> Iterator[CheckpointTuple]:
        """Yield the checkpoints of a thread, the newest first. A filter reads all of them, one page at a time."""
        identifiers = [one.decode() for one in self.client.zrevrange(self._keys(config, "")[0], 0, -1)]
        left = limit
        for start in range(0, len(identifiers), 10):
            for found in self._tuples(config, identifiers[start : start + 10]):
                if left == 0:
                    return
                if all(found.metadata.get(key) == value for key, value in (filter or {}).items()):
                    left = left if left is None else left - 1
                    yield found

    def delete_thread(self, thread_id: str) -> None:
        """Delete a thread."""
        config = {"configurable": {"thread_id": thread_id}}
        ids = self._keys(config, "")[0]
        keys = [key for one in self.client.zrange(ids, 0, -1) for key in self._keys(config, one.decode())[1:]]
        self.client.delete(ids, *keys)
