"""Locks between processes: one holder, takeover, loss, and what a former holder can still write."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from stateview import LockHeld, LockLost
from stateview.backends import processes
from stateview.states import leases

HOLDER = """
import sys, time
from stateview import StateManager
with StateManager(sys.argv[1], "ns") as state, state.lock("x", ttl=float(sys.argv[2])) as lock:
    print(lock.fence, flush=True)
    sys.stdin.readline()
    try:
        state.save("late", 1)
    except BaseException as error:
        print(type(error).__name__, flush=True)
    else:
        print("saved", flush=True)
"""


@pytest.fixture
def holder(store_url):
    """Start a process that takes the lock `x`, and saves a key once it gets a line."""
    started = []

    def start(ttl=30.0):
        words = [sys.executable, "-c", HOLDER, store_url, str(ttl)]
        process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert int(process.stdout.readline()) > 0
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_one_holder_at_a_time_and_the_fence_rises(state, other):
    with state.lock("a/b%") as first:
        assert state.list_keys("lock/") == ["lock/a%2Fb%25"]
        with pytest.raises(LockHeld) as caught, other.lock("a/b%"):
            pytest.fail("two holders")
        assert isinstance(caught.value, TimeoutError)
        holder = state.load("lock/a%2Fb%25")
        assert (caught.value.host, caught.value.process, caught.value.since) == (
            holder["host"], os.getpid(), holder["since"],
        )  # fmt: skip
        assert "this process" in str(caught.value) and "stateview delete lock/a%2Fb%25" in caught.value.hint
        with other.lock("another") as free:
            assert free.fence > first.fence
        state.save("k", 1)
    with other.lock("a/b%") as second:
        assert second.fence > first.fence
    assert other.list_keys() == ["k"] and other.load("k") == 1


def test_a_lock_is_used_again_and_not_twice_at_once(state, other):
    lock = state.lock("x")
    with lock:
        first = lock.fence
        with pytest.raises(LockHeld), lock:
            pytest.fail("two holders")
        state.save("k", 1)
    with pytest.raises(LockLost), lock:
        assert lock.fence > first
        other.delete("lock/x")
        state.save("k", 2)
    with lock:
        assert state.fork("forked").list_keys() == ["k"]  # nobody holds the lock of the new namespace


def test_a_second_holder_waits(state, other):
    order = []

    def wait():
        with other.lock("x", wait=60):
            order.append("second")

    with state.lock("x"):
        thread = threading.Thread(target=wait)
        thread.start()
        with pytest.raises(LockHeld), other.lock("x", wait=0.05):
            pytest.fail("two holders")
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_the_lock_of_a_killed_process_is_taken_over_at_once(state, holder):
    process = holder(ttl=3600)
    with pytest.raises(LockHeld) as caught, state.lock("x"):
        pytest.fail("two holders")
    assert caught.value.process == process.pid and f"process {process.pid} on host" in str(caught.value)
    process.kill()
    process.wait()
    with state.lock("x"):
        pass


def test_a_process_of_another_host_is_waited_for_until_the_lease_expires(state, other):
    lock = state.lock("x", ttl=3600)
    lock.acquire()
    value = state.load("lock/x") | {"host_id": "another", "process": 1}
    lock._released.set()
    other.save("lock/x", value, ttl=0.2)
    state._locks.clear()
    with pytest.raises(LockHeld), other.lock("x"):
        pytest.fail("two holders")
    with other.lock("x", wait=60) as second:
        assert second.fence > lock.fence


def test_a_stopped_holder_that_comes_back_writes_nothing(state, holder):
    process = holder(ttl=0.3)
    process.send_signal(signal.SIGSTOP)
    with state.lock("x", wait=60):
        process.send_signal(signal.SIGCONT)
        out, _ = process.communicate("\n")
        assert out == "LockLost\n" and "late" not in state


def test_the_lease_is_renewed_while_the_block_lasts(state, other):
    with state.lock("x", ttl=1.0):
        end = time.monotonic() + 1.3
        while time.monotonic() < end:
            with pytest.raises(LockHeld), other.lock("x"):
                pytest.fail("two holders")
            time.sleep(0.1)
        state.save("k", 1)
    assert state.load("k") == 1


def test_every_commit_of_the_holder_depends_on_the_lock(state, other):
    state.save("k", 1)
    state.checkpoint("before")
    acts = [
        lambda: state.save("k", 2), lambda: state.delete("k"), lambda: state.update("k", lambda n: n + 1),
        lambda: state.checkpoint("c"), lambda: state.restore_checkpoint("before"), state.undo,
    ]  # fmt: skip
    with pytest.raises(LockLost), state.lock("x"):
        state.save("k", 5)
        other.delete("lock/x")
        head = other.head()
        for act in acts:
            with pytest.raises(LockLost, match=r"'x' of namespace 'ns' is lost: .*deleted"):
                act()
        with pytest.raises(LockLost), state.transaction() as tx:
            tx.save("k", 9)
        assert other.head() == head and other.list_checkpoints() == ["before"]
    state.save("k", 6)  # outside the block it writes as before


def test_the_loss_is_an_error_at_the_end_of_the_block_too_unless_another_error_says_more(state, other):
    with pytest.raises(LockLost), state.lock("x"):
        other.delete("lock/x")
        with other.lock("x"):
            pass
    with pytest.raises(ZeroDivisionError), state.lock("x"):
        other.delete("lock/x")
        raise ZeroDivisionError


def test_a_restore_and_an_undo_leave_locks_as_they_are(state, other):
    state.save("k", 1)
    with state.lock("x"):
        state.save("k", 2)
        state.checkpoint("inside")
        assert [change.key for change in other.restore_checkpoint(1)] == ["k"]
        state.save("k", 3)
        with other.lock("y"):
            other.undo()
            assert state.load("k") == 1
            other.redo()
        assert state.load("k") == 3 and state.list_keys("lock/") == ["lock/x"]
    assert [change.key for change in state.undo()] == ["k"] and state.load("k") == 1
    assert [change.key for change in state.restore_checkpoint("inside", dry_run=True)] == ["k"]
    state.restore_checkpoint("inside")
    assert state.list_keys() == ["k"] and state.load("k") == 2


def test_a_child_by_fork_neither_holds_nor_frees_the_lock(state, store_url):
    with state.lock("x") as lock:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                state.save("child", 1)
                lock.__exit__(None, None, None)
                code = 0
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        state.save("k", 1)
    assert state.list_keys() == ["child", "k"]


def test_threads_of_one_manager_commit_beside_renewals(state):
    def add(lock):
        for _ in range(10):
            lock._due = 0.0  # the next commit renews
            state.update("n", lambda n: n + 1, 0)
            lock._due = 0.0
            lock._renew()

    with state.lock("x") as lock:
        threads = [threading.Thread(target=add, args=(lock,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert state.load("n") == 30


def test_a_process_is_named_by_its_id_and_its_start():
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert processes.is_gone(ended.pid, "1") and not processes.is_gone(os.getpid(), processes.started(os.getpid()))
    assert processes.is_gone(os.getpid(), "1") is (sys.platform == "linux")
    assert leases.unquoted(leases.quoted("a/%2F%")) == "a/%2F%"


def test_a_value_that_is_no_lock_is_held_by_nobody_known(state):
    state.save("lock/x", json.loads("[1]"))
    with pytest.raises(LockHeld), state.lock("x"):
        pytest.fail("taken")
