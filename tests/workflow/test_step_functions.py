"""`@step`, coroutines, and the digests of functions and arguments."""

import asyncio
import inspect
import os
import subprocess
import sys
import threading
from functools import partial

import pytest

from stateview import InvalidArgument, StepTimeout, step
from stateview.workflow import records

calls = []


@pytest.fixture(autouse=True)
def no_calls():
    calls.clear()


@step
def double(number, *, plus=0):
    calls.append(number)
    return 2 * number + plus


@step("named", retries=1, backoff=0)
def flaky(number):
    calls.append(number)
    if len(calls) == 1:
        raise ConnectionError
    return number


@step
async def fetch(number):
    calls.append(number)
    await asyncio.sleep(0)
    return number


def test_a_function_is_plain_outside_of_a_run_and_a_step_inside(here):
    assert (double(1), double(1, plus=1), double.__name__) == (2, 3, "double")
    with pytest.raises(SystemExit), here.run("r"):
        assert (double(1), double(2, plus=1)) == (2, 5)
        raise SystemExit
    assert here.list_keys("run/r/") == ["run/r/double", "run/r/double[2]"]
    calls.clear()
    with here.run("r"):
        assert (double(1), double(2, plus=1)) == (2, 5) and calls == []
        assert flaky(5) == 5 and calls == [5, 5] and here.load("run/r/named")["tries"] == 2
    assert double(1) == 2 and calls == [5, 5, 1]


def test_a_thread_belongs_to_the_only_run(here):
    found = []

    def work():
        try:
            found.append(double(4))
        except InvalidArgument as error:
            found.append(error)

    def in_thread():
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        return found.pop()

    with here.run("r"):
        assert in_thread() == 8 and "run/r/double" in here
        with here.run("inner"):
            assert "several runs are open" in str(in_thread())
    assert in_thread() == 8 and calls == [4, 4]


def test_coroutines(state):
    async def go(stops):
        with state.run("r") as run:
            one = await run.step("one", fetch.__wrapped__, 1)
            many = await asyncio.gather(*(run.step("fetch", fetch.__wrapped__, n, key=n) for n in range(3)))
            two = await fetch(2)
            if stops:
                raise SystemExit
            return one, many, two

    with pytest.raises(SystemExit):
        asyncio.run(go(True))
    assert sorted(calls) == [0, 1, 1, 2, 2]
    assert asyncio.run(go(False)) == (1, [0, 1, 2], 2) and len(calls) == 5


def test_a_coroutine_is_cancelled_by_its_time_out_and_an_interruption_is_noted(here):
    async def late():
        await asyncio.sleep(60)

    async def fails():
        raise ConnectionError

    async def go():
        with here.run("r") as run:
            with pytest.raises(StepTimeout, match="It was cancelled"):
                await run.step("late", late, timeout=0.01)
            with pytest.raises(ConnectionError):
                await run.step("fails", fails, retries=2, backoff=0)
            await asyncio.wait_for(run.step("cancelled", late), 0.05)

    with pytest.raises(TimeoutError):
        asyncio.run(go())
    found = {name: here.load(f"run/r/{name}") for name in ("late", "fails", "cancelled")}
    assert [(record["state"], record["tries"]) for record in found.values()] == [
        ("failed", 1), ("failed", 3), ("interrupted", 1),
    ]  # fmt: skip


def test_an_awaitable_of_a_plain_function_is_refused(here):
    with here.run("r") as run, pytest.raises(InvalidArgument, match="async def"):
        run.step("s", lambda: fetch(1))


SAMPLE = """
from stateview.workflow import records
def sample(value):
    return [one for one in value if one in {"a", "b", "c", "d"}], lambda: value
print(records.code_digest(sample), records.arguments_digest(({"b", "a"}, {"x": 1, "y": 2}), {}))
"""


def test_digests_are_the_same_in_every_process():
    words, found = [sys.executable, "-c", SAMPLE], set()
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        found.add(subprocess.run(words, check=True, capture_output=True, text=True, env=environment).stdout)
    assert len(found) == 1 and len(found.pop()) > 30


def sample(value):
    return value


def test_digests_of_arguments_and_functions():
    digest = records.arguments_digest
    assert digest(({"a": 1, "b": 2},), {}) == digest(({"b": 2, "a": 1},), {}) != digest(({"a": 1},), {})
    assert digest((1,), {}) != digest(("1",), {}) and digest((), {"a": 1}) != digest((), {"b": 1})
    assert digest((threading.Lock(), 1), {}) == digest((threading.Lock(), 1), {}) != digest((threading.Lock(), 2), {})
    assert digest(("\udcff", 1), {}) != digest(("\udcff", 2), {})
    code = records.code_digest
    assert code(lambda: 1) == code(lambda: 1) != code(lambda: 2) and code(print) == ""
    assert code(partial(sample, 1)) == code(sample) and records.function_name(partial(sample)).endswith(".sample")
    assert records.same_code("3.11 a", "3.12 b") and not records.same_code("3.11 a", "3.11 b")


class Fetcher:
    async def method(self):
        pass

    async def __call__(self):
        pass


def test_coroutine_functions_are_told_from_others():
    for function in (fetch, partial(fetch, 1), Fetcher().method, Fetcher()):
        assert records.is_coroutine_function(function) and inspect.iscoroutinefunction(fetch)
    for function in (double, print, partial(double), Fetcher, len):
        assert not records.is_coroutine_function(function)


def test_names_of_checkpoints():
    assert records.checkpoint_name("nightly", "fetch[2]") == "nightly.fetch-2"
    assert records.checkpoint_name("a b", "é>c") == "a-b.--c" and len(records.checkpoint_name("x" * 200, "s")) == 128
