"""`StateviewStore`: the contract of py-key-value-aio, over the public API."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest
from in_loop import in_loop

from stateview import AsyncStateManager, InvalidName


@in_loop
async def test_values_of_collections_are_put_got_listed_and_deleted(store_url: str) -> None:
    from key_value.aio.errors import SerializationError

    from stateview.keyvalue import StateviewStore

    async with AsyncStateManager(store_url, "cache") as state:
        store = StateviewStore(state)
        assert await store.get("k", collection="c") is None
        assert await store.ttl("k", collection="c") == (None, None)
        await store.put("k", {"a": [1, {"b": None}]}, collection="c")
        await store.put("k", {"other": 1})
        await store.put("a:b*/é", {"x": 1}, collection="c:d")
        assert await store.get("k", collection="c") == {"a": [1, {"b": None}]}
        assert await store.get("k") == {"other": 1}
        assert await store.keys("c:d") == ["a:b*/é"]
        assert sorted(await store.collections()) == ["c", "c:d", "default_collection"]
        assert await store.delete("k", collection="c")
        assert not await store.delete("k", collection="c")
        before = await state.head()
        await store.put_many(["x", "y", "z"], [{"n": 1}, {"n": 2}, {"n": 3}], collection="m")
        assert (await state.head()).revision == before.revision + 1
        assert await store.get_many(["z", "none", "x"], collection="m") == [{"n": 3}, None, {"n": 1}]
        assert await store.keys("m", limit=2) == ["x", "y"]
        assert await store.delete_many(["x", "none", "y"], collection="m") == 2
        assert await store.destroy_collection("m")
        assert not await store.destroy_collection("m")
        with pytest.raises(SerializationError):
            await store.put("k", {"a": math.nan})
        with pytest.raises(InvalidName, match="1,024"):
            await store.put("k" * 2000, {})


@pytest.mark.stress
@in_loop
async def test_values_expire(store_url: str) -> None:
    from stateview.keyvalue import StateviewStore

    async with AsyncStateManager(store_url, "cache") as state:
        store: Any = StateviewStore(state)
        await store.put("short", {"a": 1}, ttl=0.05)
        await store.put_many(["long", "longer"], [{"a": 1}, {"a": 2}], ttl=100)
        value, left = await store.ttl("long")
        assert value == {"a": 1}
        assert 90 < left <= 100
        await asyncio.sleep(0.06)
        assert await store.get("short") is None
        assert await store.keys() == ["long", "longer"]
        await store.put("long", {"a": 3})
        assert await store.ttl("long") == ({"a": 3}, None)
