"""AsyncStateManager: it has all that StateManager has, and the same answers come from it."""

import asyncio
import contextvars
import inspect
import pickle
import threading
from functools import partial

import pytest
from in_loop import in_loop, threads_of

import stateview
from stateview import (
    AsyncDiff,
    AsyncStateManager,
    AsyncStateView,
    AsyncTransaction,
    Conflict,
    Diff,
    InvalidArgument,
    KeyNotFound,
    LockHeld,
    NotSerializable,
    ReadOnly,
    RefNotFound,
    StateException,
    StateManager,
    StateView,
    Transaction,
    WaitTimeout,
)
from stateview.aio import extras
from stateview.encryption import Encryption
from stateview.transfer.import_job import ImportJob

FACES = [
    (StateManager, AsyncStateManager),
    (StateView, AsyncStateView),
    (Transaction, AsyncTransaction),
    (Diff, AsyncDiff),
    (Encryption, extras.AsyncEncryption),
    (ImportJob, extras.AsyncImportJob),
]
NOT_OFFERED = {"backend", "run"}  # their calls block: `run_sync` gives the backend; for `run` see references/asyncio.md
STANDS_FOR = {"__contains__": "contains", "__iter__": "__aiter__", "__len__": "count"}
OPENS = {"lock", "transaction", "open_import"}  # for `async with`
AT_ONCE = {"in_namespace", "without_values"}  # no access
OTHER_TEXT = {"lock", "update", "transact", "transaction", "wait", "watch", "close", "counts"}
OTHER_SHAPE = {"transact"}  # its function may be a coroutine function


def members(cls):
    """The public methods and properties of a class, and the special methods that read."""
    return {
        name: member
        for name, member in vars(cls).items()
        if (name[0] != "_" or name in STANDS_FOR) and (callable(member) or isinstance(member, (property, staticmethod)))
    }


def shape(function):
    """The parameters of a method without `self`: names, kinds, defaults and annotations."""
    return [
        (one.name, one.kind, one.default, one.annotation)
        for one in list(inspect.signature(function).parameters.values())[1:]
    ]


@pytest.mark.parametrize(("cls", "face"), FACES, ids=lambda cls: cls.__name__)
def test_everything_public_has_its_asynchronous_counterpart(cls, face):
    """A new method fails this test: give it a line in `aio/manager.py`, such as `name = call(StateManager.name)`."""
    for name, member in members(cls).items():
        counterpart = vars(face).get(STANDS_FOR.get(name, name))
        if name in NOT_OFFERED:
            assert counterpart is None
            continue
        assert counterpart is not None, f"{face.__name__} has no {name}"
        if not inspect.isfunction(member) or name in STANDS_FOR:
            continue
        is_async = inspect.iscoroutinefunction(counterpart) or inspect.isasyncgenfunction(counterpart)
        assert is_async or name in OPENS | AT_ONCE, name
        changed = [(*one[:3], one[3].removeprefix("Async")) for one in shape(counterpart)]
        assert changed == shape(member) or name in OTHER_SHAPE, name
        if name not in OTHER_TEXT:
            assert inspect.getdoc(counterpart) == inspect.getdoc(member), name


def test_the_constructor_takes_what_that_of_a_state_manager_takes():
    assert shape(AsyncStateManager.__init__)[:-1] == shape(StateManager.__init__)
    assert shape(AsyncStateManager.__init__)[-1][0] == "threads"
    with pytest.raises(InvalidArgument):
        AsyncStateManager("json", threads=0)
    with pytest.raises(InvalidArgument):
        AsyncStateManager("json", threads="many")


def test_help_shows_signature_and_text():
    text = inspect.cleandoc(AsyncStateManager.save.__doc__)
    assert text == inspect.getdoc(StateManager.save)
    assert "ttl" in str(inspect.signature(AsyncStateManager.save))
    assert stateview.AsyncStateManager is AsyncStateManager
    assert "AsyncStateManager" in dir(stateview)
    with pytest.raises(AttributeError):
        stateview.no_such_name


@in_loop
async def test_the_acts_of_a_workflow(store_url):
    async with AsyncStateManager(store_url, "ns", author="me") as state:
        assert await state.save("a", [1, 2]) == 1
        assert await state.checkpoint("cp") == "cp"
        async with state.transaction("two keys") as tx:
            assert await tx.load("a") == [1, 2]
            await tx.save("a", [1, 3])
            await tx.save("b", {"x": None})
            assert await tx.list_keys() == ["a", "b"]
            assert [entry.key async for entry in tx.entries()] == ["a", "b"]
        assert await state.load_many() == {"a": [1, 3], "b": {"x": None}}
        assert await state.contains("b") and not await state.contains("c")
        assert await state.revision() == (await state.head()).revision
        assert (await state.log(1))[0].author == state.author == "me"

        diff = await state.diff("cp")
        assert [(change.kind, change.key) async for change in diff] == [("changed", "a"), ("added", "b")]
        assert await diff.count() == 2 and (await diff.counts())["added"] == 1
        assert [one["path"] for one in await diff.as_json_patch()] == ["/a/1", "/b"]
        with pytest.raises(TypeError, match="count"):
            bool(diff)
        view = await state.at("cp")
        assert (await view.load("a"), await view.list_keys(), view.ref) == ([1, 2], ["a"], "cp")
        assert [entry.value async for entry in view.entries()] == [[1, 2]]
        assert await view.contains("a") and not await view.contains("b")

        assert await (await state.restore_checkpoint("cp")).count() == 2
        assert await state.load_many() == {"a": [1, 2]}
        assert [change.key async for change in await state.undo()] == ["a", "b"]
        assert await state.delete("b") is True
        assert await state.delete(keys=["a", "c"]) == ["a"]
        with pytest.raises(KeyNotFound):
            await state.load("a")
        with pytest.raises(NotSerializable):
            await state.save("a", {1, 2})
        with pytest.raises(InvalidArgument):
            await state.save("a", 1, ttl="soon")
        with pytest.raises(RefNotFound):
            await state.at("nothing")
        assert (await state.doctor()).ok
        assert await state.run_sync(lambda sync, more: sync.revision + more, more=1) == await state.revision() + 1


@in_loop
async def test_an_entry_of_thousands_comes_in_order_and_an_iterator_can_be_left(store_url):
    async with AsyncStateManager(store_url, "ns") as state:
        await state.run_sync(lambda sync: save_many(sync, 1000))
        assert [entry.value async for entry in state.entries("k")] == list(range(1000))
        async for entry in state.entries():
            if entry.value == 3:
                break
        with pytest.raises(RefNotFound):
            async for _ in state.entries(at="nothing"):
                pass
        left = state.entries()
        assert (await anext(left)).value == 0
    await left.aclose()  # after the manager was closed
    assert threads_of() == []


def save_many(state, number):
    with state.transaction() as tx:
        for index in range(number):
            tx.save(f"k{index:04}", index)


@in_loop
async def test_update_takes_plain_and_coroutine_functions(store_url):
    async def slowly(value):
        await asyncio.sleep(0)
        return value + 1

    class Adder:
        async def __call__(self, value):
            return value + 1

    async with AsyncStateManager(store_url, "ns") as state, asyncio.TaskGroup() as group:
        for function in (lambda value: value + 1, slowly, partial(slowly), Adder()) * 3:
            group.create_task(state.update("n", function, 0))
    with StateManager(store_url, "ns") as sync:
        assert sync.load("n") == 12
        assert len(sync.history("n")) == 12


@in_loop
async def test_a_coroutine_function_is_called_again_on_a_conflict_and_its_own_errors_are_raised(store_url):
    calls = []

    async with AsyncStateManager(store_url, "ns") as state:

        async def change(value):
            calls.append(value)
            if len(calls) == 1:
                await state.save("k", 10)
            return [*value, 1] if isinstance(value, list) else value + 1

        assert await state.update("k", change, 0, reason="why") == 11
        assert calls == [0, 10]
        assert (await state.log(1))[0].reason == "why"

        async def refuse(value):
            raise Conflict("mine")

        with pytest.raises(Conflict, match="mine"):
            await state.update("k", refuse)
        with pytest.raises(KeyNotFound):
            await state.update("absent", change)
        async with state.transaction() as tx:
            assert await tx.update("k", change) == 12
            assert await tx.update("k", lambda value: value * 2) == 24
            assert tx.size == 1
        assert await state.load("k") == 24


@in_loop
async def test_a_transaction_is_one_commit_or_none(store_url):
    async with AsyncStateManager(store_url, "ns") as state:
        await state.save("k", 1)
        with pytest.raises(ZeroDivisionError):
            async with state.transaction() as tx:
                await tx.save("k", 2)
                1 / 0
        with pytest.raises(Conflict):
            async with state.transaction() as tx:
                await tx.save("k", await tx.load("k") + 1)
                await state.save("k", 5)
        with pytest.raises(StateException):
            await tx.save("k", 9)
        assert await state.load("k") == 5

        async with state.transaction() as tx, asyncio.TaskGroup() as group:
            for number in range(20):  # calls of several tasks take turns
                group.create_task(tx.save(f"t{number}", number))
                group.create_task(tx.list_keys())
        assert len(await state.list_keys("t")) == 20
        begun = await state.begin("by hand")
        await begun.save("k", 6)
        assert await state.commit(begun) == await state.revision()


@in_loop
async def test_a_watch_yields_what_others_commit_until_nothing_comes(store_url):
    with StateManager(store_url, "ns") as other:
        other.save("k", 0)
        async with AsyncStateManager(store_url, "ns") as state:
            seen = []
            async for change in state.watch(since=0, keys="k*", timeout=0.3):
                seen.append(change.after)
                if len(seen) < 3:
                    await asyncio.to_thread(other.save, "k", len(seen))
            assert seen == [0, 1, 2]
            with pytest.raises(InvalidArgument):
                async for _ in state.watch(keys=5):
                    pass


@in_loop
async def test_an_import_is_opened_a_file_is_exported_and_a_namespace_forked(store_url, tmp_path):
    target = str(tmp_path / "file.jsonl")
    async with AsyncStateManager(store_url, "ns") as state:
        await state.save("k", 1)
        assert (await state.export(target)).versions == 1
        await state.save("k", 2)
        async with state.open_import(target, how="replace", force=True) as job:
            await job.refresh()
            assert [change.after async for change in await job.preview()] == [1]
            assert (await job.execute()).how == "replace"
        assert await state.load("k") == 1
        async with await state.fork("other") as fork:
            assert isinstance(fork, AsyncStateManager)
            assert await fork.load("k") == 1
        async with state.in_namespace("other") as other:
            assert await other.load("k") == 1
        assert await state.namespaces() == ["ns", "other"]
        assert not (await state.encryption.status()).keys
        assert await state.is_encrypted() is False


@in_loop
async def test_it_is_pickled_as_its_arguments_and_read_only_is_kept(store_url):
    async with AsyncStateManager(store_url, "ns", threads=3) as state:
        await state.save("k", 1)
        async with pickle.loads(pickle.dumps(state)) as copy:
            assert await copy.load("k") == 1
            assert copy._threads.count == 3
            assert repr(copy) == repr(state) == f"<Async{repr(StateManager(store_url, 'ns'))[1:]}"
    async with AsyncStateManager(store_url, "ns", read_only=True) as reader:
        assert reader.read_only and reader.namespace == "ns"
        with pytest.raises(ReadOnly):
            await reader.save("k", 2)


@in_loop
async def test_context_variables_reach_the_worker_thread(store_url):
    request = contextvars.ContextVar("request", default="none")
    found = []

    async with AsyncStateManager(store_url, "ns") as state:
        request.set("7")
        await state.update("k", lambda value: found.append(request.get()) or 1, 0)
        await state.run_sync(lambda _: found.append(request.get()))
        assert found == ["7", "7"]
        await state.run_sync(lambda _: request.set("8"))
        assert request.get() == "7"


def test_event_loops_in_several_threads_share_a_manager(store_url):
    state = AsyncStateManager(store_url, "ns")

    async def work():
        for _ in range(5):
            await state.update("n", lambda value: value + 1, 0)

    threads = [threading.Thread(target=lambda: asyncio.run(work())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    async def end():
        async with state:
            return await state.load("n")

    assert asyncio.run(end()) == 15
    assert threads_of() == []


@in_loop
async def test_transact_takes_plain_and_coroutine_functions(store_url):
    async with AsyncStateManager(store_url, "ns") as state, AsyncStateManager(store_url, "ns") as other:
        await state.save("n", 1)

        async def double(tx):
            value = await tx.load("n")
            if value == 1:  # another writer comes first, so this is called again
                await other.save("n", 5)
            await tx.save("n", value * 2)
            await tx.checkpoint("doubled")
            return value

        assert await state.transact(double, reason="double") == 5
        assert await state.load("n", at="doubled") == 10
        assert (await state.log(1))[0].reason == "double"
        assert await state.transact(lambda tx: tx.save("n", 1)) is None
        assert await state.load("n") == 1


@in_loop
async def test_a_wait_holds_up_nobody_and_is_cancelled_at_once(store_url):
    async with AsyncStateManager(store_url, "ns", threads=1) as state:
        waits = [asyncio.create_task(state.wait("job", "== done", timeout=None)) for _ in range(3)]
        await state.save("job", "running")
        with pytest.raises(WaitTimeout, match=r"waited 0.3 s"):
            await state.wait("job", "== done", timeout=0.3)
        waits[0].cancel()
        with pytest.raises(asyncio.CancelledError):
            await waits[0]
        await state.save("job", "done")
        assert await asyncio.gather(*waits[1:]) == ["done", "done"]


@in_loop
async def test_a_commit_in_the_middle_is_reverted_and_the_safety_checkpoint_is_named(store_url):
    async with AsyncStateManager(store_url, "ns") as state:
        for key in "abc":
            await state.save(key, 1)
        diff = await state.revert_commit(2)
        assert ([change.key async for change in diff], diff.conflicts) == (["b"], {})
        assert diff.checkpoint in await state.list_checkpoints()


@in_loop
async def test_a_lock_is_held_by_a_task_and_waiting_for_it_holds_up_nobody(store_url):
    async with AsyncStateManager(store_url, "ns", threads=1) as state, AsyncStateManager(store_url, "ns") as other:
        async with state.lock("deploy") as lock:
            await state.save("k", lock.fence)
            waiting = asyncio.create_task(take_lock(other))
            left = asyncio.create_task(take_lock(other))
            with pytest.raises(LockHeld):
                async with other.lock("deploy"):
                    raise AssertionError
            left.cancel()
            with pytest.raises(asyncio.CancelledError):
                await left
            assert await other.load("k") == lock.fence
        assert await waiting > lock.fence
        assert await state.list_keys("lock/") == []


async def take_lock(state):
    async with state.lock("deploy", wait=60) as lock:
        return lock.fence
