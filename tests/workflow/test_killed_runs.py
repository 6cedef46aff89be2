"""Workflows of five steps that are killed, started twice at once, and stopped: nothing is written twice, or lost."""

import os
import random
import signal
import time
from collections import Counter

import pytest
from stress import stride
from test_packed_killed import die_at

from stateview import LockHeld, LockLost, StateManager

DONE, HELD, LOST = 10, 11, 12  # exit codes of a worker
ITEMS = 4
TTL = 0.4  # seconds; a stopped process loses its run after them


def work(url, ttl=30.0, stop=None, namespace="ns"):
    """Do the workflow once. Each result is new whenever its function runs, so that a second run would show."""

    def made(name, result=""):
        if name == stop:
            with run.lock._mutex:  # not in a renewal on the other thread, which would keep the lock of the file
                os.kill(os.getpid(), signal.SIGSTOP)
        return result + os.urandom(8).hex()

    with (
        StateManager(url, namespace, quiet=True) as state,
        state.run("daily", ttl=ttl, checkpoints=2, on_change="keep") as run,
    ):
        first = run.step("one", made, "one")
        for tx in run.step("two"):
            tx.update("count/two", lambda n: n + 1, 0)
            tx.result = made("two")
        for item in run.each("three", range(ITEMS)):
            made(item)
            state.save("at", first)
        with run.step("four") as tx:
            made("four")
            tx.update("count/four", lambda n: n + 1, 0)
        run.step("five", made, "five", first)


def start(url, *options):
    """Start a worker, which stops itself in a step if one is named."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        work(url, *options)
        code = DONE
    except LockHeld:
        code = HELD
    except LockLost:
        code = LOST
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(code)


def ended(child):
    """The exit code of a worker, or -9."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


class Judge:
    """Looks at the state after each kill, and remembers what was done."""

    def __init__(self, url, namespace="ns"):
        self.state = StateManager(url, namespace)
        self.namespace = namespace
        self.seen = {}
        self.codes = Counter()

    def look(self):
        values = self.state.load_many("*")
        if "run/daily" not in values:
            return
        go = values["run/daily"]["go"]
        done = {name: values.get(f"run/daily/{name}", {"state": ""})["state"] == "done" for name in ("two", "four")}
        for name, is_done in done.items():
            assert values.get(f"count/{name}", 0) == go - 1 + is_done, (name, values)
        names = [key for key, value in values.items() if key.count("/") == 2 and value["state"] == "done"]
        before = self.seen.pop(go, {})
        assert before.keys() <= {*names}, "a step that was done is not done any more"
        for key in names:
            result = values[key].get("result")
            assert before.setdefault(key, result) == result, f"{key} was done twice"
            assert self.state.load(key, at=f"daily.{key.rpartition('/')[2]}")["result"] == result
        items = [key for key in values if key.count("/") == 3]
        assert len(items) == ITEMS or not values.get("run/daily/three", {}).get("result")
        if "run/daily/five" in names:
            assert values["run/daily/five"]["result"].startswith(values["run/daily/one"]["result"])
        self.seen = {go: before}

    def finish(self, url):
        """Let the last go end, which nothing may hinder for longer than the lease."""
        deadline = time.monotonic() + 60
        while (code := ended(start(url, 30.0, None, self.namespace))) != DONE:
            assert code == HELD and time.monotonic() < deadline, code
            time.sleep(0.05)
        self.look()
        assert self.state.load("run/daily")["state"] == "done" and self.state.doctor().ok


def duration(url):
    """The seconds of the quickest of three goes: a slow one would move the kills behind the end."""
    times = []
    for _ in range(3):
        began = time.monotonic()
        assert ended(start(url)) == DONE
        times.append(time.monotonic() - began)
    return min(times)


KILLS = [5, pytest.param(int(os.environ.get("WORKFLOW_KILLS", "40")), marks=pytest.mark.stress)]


@pytest.mark.parametrize("kills", KILLS)
def test_a_workflow_that_is_killed_at_random_instants(store_url, kills):
    chance, judge = random.Random(kills), Judge(store_url)
    longest = 1.3 * duration(store_url)
    for _ in range(kills):
        child = start(store_url)
        time.sleep(chance.uniform(0, longest))
        os.kill(child, signal.SIGKILL)
        judge.codes[ended(child)] += 1
        judge.look()
    judge.finish(store_url)
    assert {*judge.codes} <= {-9, DONE}, judge.codes
    print(
        f"{store_url.partition(':')[0]}: {kills} kills, {dict(judge.codes)}, {judge.state.load('run/daily')['go']} goes"
    )


@pytest.mark.stress
def test_two_starters_at_once_of_which_some_are_killed(store_url):
    chance, judge = random.Random(2), Judge(store_url)
    longest = 1.3 * duration(store_url)
    for _ in range(30):
        children = [start(store_url) for _ in range(2)]
        time.sleep(chance.uniform(0, longest))
        if chance.random() < 0.7:
            os.kill(chance.choice(children), signal.SIGKILL)
        judge.codes.update(map(ended, children))
        judge.look()
    judge.finish(store_url)
    assert {*judge.codes} <= {-9, DONE, HELD} and judge.codes[HELD], judge.codes


@pytest.mark.stress
def test_a_stopped_holder_that_comes_back_writes_nothing_more(store_url):
    """It is stopped between two commits: in the middle of one it holds the lock of the file, which all wait for."""
    judge = Judge(store_url)
    assert ended(start(store_url)) == DONE
    for stop in ("one", "two", 0, ITEMS - 1, "four", "five"):
        child = start(store_url, TTL, stop)
        assert os.WIFSTOPPED(os.waitpid(child, os.WUNTRACED)[1])
        judge.look()
        deadline = time.monotonic() + 60
        while (code := ended(start(store_url))) != DONE:
            assert code == HELD and time.monotonic() < deadline, code
            time.sleep(0.05)
        judge.look()
        head = judge.state.head()
        os.kill(child, signal.SIGCONT)
        assert ended(child) == LOST and judge.state.head() == head
    judge.finish(store_url)


@pytest.mark.parametrize("every", [stride(11)])
@pytest.mark.stress
def test_a_workflow_that_is_killed_before_any_system_call_statement_or_request(store_url, kind, every):
    finished, step = False, 0
    while not finished:
        step += every
        namespace = f"ns{step}"
        finished = die_at(step, lambda: work(store_url, namespace=namespace))  # noqa: B023
        judge = Judge(store_url, namespace)
        with judge.state:
            judge.look()
            was_done = judge.state.load("run/daily", {"state": ""})["state"] == "done"
            judge.finish(store_url)
            assert judge.state.load("run/daily")["go"] == 1 + was_done >= 1 + finished
    print(f"{kind}: killed before each of {step} steps, every {every}")
    assert step > 3 * every
