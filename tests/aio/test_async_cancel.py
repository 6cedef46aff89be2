"""Cancelled calls of AsyncStateManager: each has happened whole or not at all when its `await` ends."""

import asyncio
import os
import random
import signal
from contextlib import contextmanager
from pathlib import Path

import apsw
import pytest
from in_loop import in_loop, threads_of
from redis_proxy import RedisProxy
from stress import stressed

from stateview import AsyncStateManager, BackendUnavailable, StateManager

LONG = 30  # seconds after which a test that hangs fails


@contextmanager
def held(url):
    """Hold the write lock of namespace `ns` of an SQLite store."""
    db = apsw.Connection(str(Path(url.partition(":")[2]) / "ns" / "state.db"))
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        db.execute("ROLLBACK")
        db.close()


@pytest.fixture
def sqlite_url(new_store):
    url = new_store("sqlite")
    with StateManager(url, "ns") as state:
        state.save("k", 0)
    return url


async def ticks(number=20):
    """Let the loop turn: it cannot while a call blocks it."""
    for _ in range(number):
        await asyncio.sleep(0.001)


async def begun(state, number=1):
    """Wait until so many calls run on threads."""
    while state._threads._pool is None or len(state._threads._pool._threads) < number:
        await asyncio.sleep(0.001)
    await ticks()


async def cancelled(task, message=None):
    task.cancel(message)
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    return caught.value


@pytest.mark.parametrize("number", [40, *stressed(500)])
@in_loop
async def test_a_cancelled_save_is_made_or_not_and_nothing_comes_later(store_url, number):
    chance = random.Random(number)
    made = 0
    async with AsyncStateManager(store_url, "ns", threads=2) as state:
        last = 0
        await state.save("k", 0)
        for value in range(1, number + 1):
            others = [asyncio.create_task(state.load("k")) for _ in range(chance.randrange(3))]
            task = asyncio.create_task(state.save("k", value))
            await asyncio.sleep(chance.choice([0, 0, 0.0005, 0.001, 0.003]))
            task.cancel()
            try:
                revision = await task
            except asyncio.CancelledError:
                revision = None
            found = await state.entry("k")
            assert found.value in ((value,) if revision else (last, value))
            assert revision in (None, found.revision)
            made += found.value == value
            last = found.value
            await asyncio.gather(*others)
            assert await state.load("k", fresh=True) == last
        assert await state.revision() == made + 1
    with StateManager(store_url, "ns") as after:
        assert (after.load("k"), after.revision) == (last, made + 1)
        assert [entry.value for entry in after.history("k", 5000)] == sorted(
            {entry.value for entry in after.history("k", 5000)}, reverse=True
        )
    assert threads_of(seconds=LONG) == []


@pytest.mark.parametrize("number", [15, *stressed(150)])
@in_loop
async def test_a_cancelled_transaction_and_update_are_whole_or_absent(store_url, number):
    chance = random.Random(number)

    async def write(state, value):
        async with state.transaction() as tx:
            await tx.save("a", value)
            await tx.save("b", value)
        await state.update("n", lambda count: count + 1)

    async with AsyncStateManager(store_url, "ns") as state:
        async with state.transaction() as tx:
            for key in "abn":
                await tx.save(key, 0)
        for value in range(1, number + 1):
            task = asyncio.create_task(write(state, value))
            await asyncio.sleep(chance.uniform(0, 0.01))
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            first, second = await state.load_many(), await state.load_many()
            assert first == second, "something came after the cancelled calls had ended"
            assert first["a"] == first["b"] in range(value + 1)
            assert first["n"] <= first["a"]


@in_loop
async def test_what_has_not_begun_never_begins_and_what_has_begun_is_awaited(sqlite_url):
    async with AsyncStateManager(sqlite_url, "ns", threads=1) as state:
        with held(sqlite_url):
            running = asyncio.create_task(state.save("k", 1))
            await begun(state)
            waiting = asyncio.create_task(state.save("k", 2))
            await ticks()
            await cancelled(waiting)  # at once, although the lock is held
            for _ in range(3):
                running.cancel()  # each of these waits for the thread
                await ticks(3)
            assert not running.done()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert await state.load("k") == 1
        assert await state.revision() == 2


@in_loop
async def test_the_error_of_a_call_is_the_cause_of_its_cancellation(sqlite_url):
    async with AsyncStateManager(sqlite_url, "ns", timeout=0.2) as state:
        with held(sqlite_url):
            task = asyncio.create_task(state.save("k", 1))
            await begun(state)
            error = await cancelled(task, "enough")
            assert error.args == ("enough",)
            assert isinstance(error.__cause__, BackendUnavailable)
        assert await state.load("k") == 0


@in_loop
async def test_a_timeout_and_a_task_group_end_as_they_do_with_other_calls(sqlite_url):
    async with AsyncStateManager(sqlite_url, "ns", timeout=0.3) as state:
        with held(sqlite_url):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.02):
                    await state.save("k", 1)
            assert asyncio.current_task().cancelling() == 0
            with pytest.raises(ExceptionGroup) as caught:
                async with asyncio.TaskGroup() as group:
                    group.create_task(state.save("k", 2))
                    group.create_task(fail())
            assert caught.group_contains(ZeroDivisionError)
        assert await state.load("k") == 0
    async with AsyncStateManager(sqlite_url, "ns") as state:
        async with asyncio.timeout(LONG), asyncio.TaskGroup() as group:
            tasks = [group.create_task(state.save(f"t{number}", number)) for number in range(20)]
        assert sorted(task.result() for task in tasks) == list(range(2, 22))


async def fail():
    await asyncio.sleep(0.01)
    1 / 0


@in_loop
async def test_the_loop_turns_while_sqlite_is_locked(sqlite_url):
    async with AsyncStateManager(sqlite_url, "ns") as state:
        with held(sqlite_url):
            tasks = [asyncio.create_task(state.save(f"t{number}", number)) for number in range(20)]
            await ticks()
            assert not any(task.done() for task in tasks)
            assert len(threads_of("call")) == 8, "the pool has its bound"
        await asyncio.gather(*tasks)
        assert len(await state.list_keys("t")) == 20


@in_loop
async def test_the_loop_turns_while_redis_does_not_answer(new_store):
    from conftest import REDIS

    if not REDIS:
        pytest.fail("no redis-server was found")
    with RedisProxy(new_store(next(iter(REDIS)))) as proxy:
        async with AsyncStateManager(proxy.url, "ns") as state:
            await state.save("k", 0)
            proxy.plain.frozen = True
            task = asyncio.create_task(state.save("k", 1))
            await ticks()
            task.cancel()
            await ticks()
            assert not task.done()
            proxy.plain.frozen = False
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await state.load("k", fresh=True) == 1


@in_loop
async def test_a_cancelled_watch_ends_at_once_and_its_thread_soon(store_url):
    async with AsyncStateManager(store_url, "ns") as state:
        await state.save("k", 0)
        seen = []

        async def follow():
            async for change in state.watch():
                seen.append(change.after)  # noqa: PERF401

        tasks = [asyncio.create_task(follow()) for _ in range(12)]  # more than there are threads for calls
        while len(seen) < 12:  # a watch begins with its first look
            await state.update("k", lambda count: count + 1)
            await asyncio.sleep(0.01)
        assert len(threads_of("apart")) == 12
        for task in tasks:
            task.cancel()
        done = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), LONG)
        assert all(isinstance(one, asyncio.CancelledError) for one in done)
        assert await asyncio.to_thread(threads_of, "apart", LONG) == []
        assert state._threads._apart == set()


@in_loop
async def test_closing_waits_for_calls_ends_watches_and_a_later_use_opens_again(store_url):
    state = AsyncStateManager(store_url, "ns")
    await state.save("k", 0)

    async def follow():
        return [change async for change in state.watch()]

    watching = asyncio.create_task(follow())
    saves = [asyncio.create_task(state.save(f"t{number}", number)) for number in range(20)]
    await asyncio.sleep(0.001)
    await state.close()
    assert all(task.done() or state._threads.started for task in saves)
    assert sorted(await asyncio.gather(*saves)) == list(range(2, 22))
    await asyncio.wait_for(watching, LONG)
    assert threads_of(seconds=LONG) == []
    assert await state.load("t19") == 19
    closing = asyncio.create_task(state.close())
    await asyncio.sleep(0)
    closing.cancel()
    await asyncio.gather(closing, return_exceptions=True)
    await state.close()
    assert threads_of(seconds=LONG) == []


def test_no_file_stays_open_after_many_cancelled_calls(sqlite_url):
    def opened():
        return len(os.listdir("/proc/self/fd"))

    async def main(number):
        async with AsyncStateManager(sqlite_url, "ns") as state:
            tasks = [asyncio.create_task(act) for act in [state.save("k", 1), state.load("k"), state.log()] * number]
            tasks += [asyncio.create_task(anext(state.watch())) for _ in range(3)]
            await asyncio.sleep(0.01)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(main(2))
    before = opened()
    for _ in range(3):
        asyncio.run(main(10))
    assert opened() <= before
    assert threads_of(seconds=LONG) == []


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_after_a_fork_the_child_has_threads_of_its_own(store_url):
    state = AsyncStateManager(store_url, "ns")

    async def add():
        return await state.update("n", lambda value: value + 1, 0)

    assert asyncio.run(add()) == 1
    child = os.fork()
    if child == 0:
        try:
            signal.alarm(LONG)
            asyncio.run(add())
            asyncio.run(state.close())
        finally:
            os._exit(len(threads_of(seconds=LONG)))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert asyncio.run(add()) == 3
    asyncio.run(state.close())


def test_a_loop_that_is_closed_before_a_call_ends_leaves_the_call_whole(sqlite_url):
    state = AsyncStateManager(sqlite_url, "ns")
    loop = asyncio.new_event_loop()
    with held(sqlite_url):
        task = loop.create_task(state.save("k", 1))
        loop.run_until_complete(begun(state))
        task._log_destroy_pending = False
        loop.close()
    asyncio.run(state.close())
    with StateManager(sqlite_url, "ns") as after:
        assert after.load("k") == 1
