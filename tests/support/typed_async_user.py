"""What a type checker knows of AsyncStateManager. `mypy` checks this file; no test runs it."""

from __future__ import annotations

from typing import Any, assert_type

from stateview import AsyncDiff, AsyncStateManager, AsyncStateView, Change, Commit, Entry, StateManager


async def use(state: AsyncStateManager) -> None:
    """Name the type of each form of method. An `ignore` that is not needed is an error too."""
    assert_type(await state.save("key", 1, ttl=5), int)
    await state.save("key")  # type: ignore[call-arg]
    await state.save(1, 1)  # type: ignore[arg-type]
    await state.save("key", 1, tll=5)  # type: ignore[call-arg]
    assert_type(await state.delete("key"), bool)
    assert_type(await state.delete(keys=["key"]), list[str])
    assert_type(await state.log(limit=5), list[Commit])
    assert_type(await state.at("live"), AsyncStateView)
    assert_type(await state.restore_checkpoint("cp", dry_run=True), AsyncDiff)
    async for entry in state.entries(prefix="a"):
        assert_type(entry, Entry)
    async for change in state.watch(timeout=1):
        assert_type(change, Change)
    async for change in await state.diff("cp"):
        assert_type(change, Change)
    async with state.transaction() as tx:
        assert_type(await tx.load("key"), Any)
        assert_type(await tx.list_keys(), list[str])
    async with state.open_import("file.jsonl", how="merge") as job:
        assert_type(await job.committed_revision(), int | None)
    assert_type(await state.run_sync(StateManager.count, low="a"), int)
    async with await state.fork("other", at="cp") as other:
        assert_type(other, AsyncStateManager)
