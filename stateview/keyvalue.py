"""Keep the values of `py-key-value-aio` in a namespace: `StateviewStore`. Install it with `stateview[keyvalue]`."""

from __future__ import annotations

from collections.abc import Sequence

from key_value.aio.errors import SerializationError
from key_value.aio.stores import base

from stateview import AsyncStateManager, NotSerializable, join_key, split_key


class StateviewStore(
    base.BaseEnumerateKeysStore, base.BaseEnumerateCollectionsStore, base.BaseDestroyCollectionStore,
    base.BaseContextManagerStore,
):  # fmt: skip
    """Keep each value under the key `COLLECTION:KEY`, with its expiry. `put_many` and `delete_many` are one commit."""

    def __init__(self, state: AsyncStateManager, *, default_collection: str | None = None) -> None:
        self.state = state
        super().__init__(client_provided_by_user=True, default_collection=default_collection, stable_api=True)

    async def _get_managed_entry(self, *, collection: str, key: str) -> base.ManagedEntry | None:
        return (await self._get_managed_entries(collection=collection, keys=[key]))[0]

    async def _get_managed_entries(self, *, collection: str, keys: Sequence[str]) -> list[base.ManagedEntry | None]:
        got: dict[str, base.ManagedEntry] = {}
        async for one in self.state.entries(keys=[join_key(collection, key) for key in keys]):
            got[split_key(one.key)[1]] = base.ManagedEntry(value=one.value, created_at=one.time, expires_at=one.expires)
        return [got.get(key) for key in keys]

    async def _put_managed_entry(self, *, collection: str, key: str, managed_entry: base.ManagedEntry) -> None:
        await self._put_managed_entries(collection=collection, keys=[key], managed_entries=[managed_entry])

    async def _put_managed_entries(
        self, *, collection: str, keys: Sequence[str], managed_entries: Sequence[base.ManagedEntry], **_: object
    ) -> None:
        try:
            async with self.state.transaction(f"put into {collection}") as tx:
                for key, entry in zip(keys, managed_entries, strict=True):
                    left = None if entry.ttl is None else max(entry.ttl, 1e-6)
                    await tx.save(join_key(collection, key), entry.value_as_dict, ttl=left)
        except NotSerializable as error:
            raise SerializationError(str(error)) from error

    async def _delete_managed_entry(self, *, key: str, collection: str) -> bool:
        return await self.state.delete(join_key(collection, key))

    async def _delete_managed_entries(self, *, keys: Sequence[str], collection: str) -> int:
        return len(await self.state.delete(keys=[join_key(collection, key) for key in keys]))

    async def _get_collection_keys(self, *, collection: str, limit: int | None = None) -> list[str]:
        return [split_key(name)[1] for name in await self.state.list_keys(join_key(collection, ""))][:limit]

    async def _get_collection_names(self, *, limit: int | None = None) -> list[str]:
        return [*dict.fromkeys(split_key(name)[0] for name in await self.state.list_keys())][:limit]

    async def _delete_collection(self, *, collection: str) -> bool:
        return bool(await self.state.delete_prefix(join_key(collection, "")))
