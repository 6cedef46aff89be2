"""Calls in the middle of a call of the same thread, as a signal handler, a finalizer or a callback makes them.

The inner call runs after each function call that the outer call makes in the package.
"""

import contextlib
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial

import interjection
import pytest
import stress
from conftest import KINDS
from interjection import PACKAGE

from stateview import Reentered, StateManager

PLACES = PACKAGE, contextlib.__file__
run_at_call = partial(interjection.run_at_call, places=PLACES)
PATIENCE_SECONDS = 20.0  # of the manager; an inner call that waits for its own thread takes this long
ACTS = {
    "save": lambda state, value: state.save("a", value),
    "load": lambda state, value: state.load("a"),
    "checkpoint": lambda state, value: state.checkpoint("c", note=str(value)),
    "delete": lambda state, value: state.delete("b"),
    "list_keys": lambda state, value: state.list_keys(),
    "diff": lambda state, value: list(state.diff("c")),
    "update": lambda state, value: state.update("n", lambda number: number + 1),
    "restore": lambda state, value: state.restore_checkpoint("c", keys=["b"]),
    "log": lambda state, value: state.log(),
    "compact": lambda state, value: state.compact(0),
}
LINES = 80  # of an outer call: in so many places a test tries the inner one
READS = ("load", "list_keys", "diff", "log")
REDIS = KINDS[2]


def on(*kinds):
    """Run a test on these kinds of store by default, and on each under `-m stress`."""
    return pytest.mark.parametrize("kind", stress.only(KINDS, *kinds))


@pytest.fixture
def points(request):
    """In how many places of an outer call the inner one is tried: by hand as many as the environment says."""
    short = request.config.getoption("-m") == "not stress"
    return int(os.environ.get("STATEVIEW_TEST_POINTS") or (6 if short else 10))


def run_at_line(outer, inner, wanted):
    """Call `outer`, and `inner` before the line of that number, in whatever module; return how many lines it runs."""
    lines = 0

    def trace(frame, event, argument):
        nonlocal lines
        lines += event == "line"
        if event == "line" and lines == wanted:
            sys.settrace(None)
            inner()
        return trace

    sys.settrace(trace)
    try:
        outer()
    finally:
        sys.settrace(None)
    return lines


def fill(state):
    state.save("a", 0)
    state.save("b", 0)
    state.save("n", 0)
    state.checkpoint("c")
    state.save("b", 1)


@pytest.fixture
def state(store_url):
    with StateManager(store_url, "ns", timeout=PATIENCE_SECONDS) as manager:
        fill(manager)
        yield manager


def reenter(state, outer, inner, place):
    """Run an act in the middle of another, and check both; return how many calls the outer act makes."""
    ran, refused, value = [], [], f"inner {place}"

    def inside():
        begun = time.monotonic()
        ran.append(place)
        try:
            ACTS[inner](state, value)
        except Reentered as error:
            refused.append(str(error))  # the error itself would keep all frames alive
        assert time.monotonic() - begun < PATIENCE_SECONDS / 2, "the inner call waited for its own thread"

    before = state.load("n")
    calls = run_at_call(lambda: ACTS[outer](state, "outer"), inside, place)
    kind = state.backend.kind
    assert not refused or (inner not in READS and (kind == "json" or (kind == "sqlite" and outer == "compact")))
    with StateManager(state._opened["backend"], "ns") as fresh:
        assert fresh.at("live").load("n") == before + (outer == "update") + (inner == "update" and not refused)
        for key in fresh.list_keys():
            assert fresh.load(key) == state.load(key)
        assert fresh.log() == state.log() and fresh.checkpoints(all=True) == state.checkpoints(all=True)
        if outer == "save":
            assert fresh.load("a") in (value, "outer")
        elif inner == "save" and ran and not refused:
            assert fresh.load("a") == value
    return calls


@on("json", "sqlite")
@pytest.mark.parametrize("inner", ["save", *stress.stressed("load", "checkpoint", "delete")])
@pytest.mark.parametrize("outer", ACTS)
def test_both_stand_or_the_inner_call_is_refused_at_once(state, outer, inner, points):
    calls = reenter(state, outer, inner, -1)
    for place in range(1, calls + 1, max(1, calls // points)):
        if outer == "delete" or inner == "delete":
            state.save("b", place)
        reenter(state, outer, inner, place)
    assert not [finding for finding in state.doctor().findings if finding.severity == "error"]


def test_the_first_save_of_a_namespace(store_url, points):
    number, calls = 1, 2
    while number < calls:
        with StateManager(store_url, f"new-{number}", timeout=PATIENCE_SECONDS) as state:
            begun, saved = time.monotonic(), []

            def inner(state=state, saved=saved):
                try:
                    saved.append(state.save("inner", 1))
                except Reentered:
                    assert state.backend.kind != "redis"

            calls = run_at_call(lambda state=state: state.save("outer", 1), inner, number)
            assert time.monotonic() - begun < PATIENCE_SECONDS / 2
            assert state.list_keys() == ["inner", "outer"][not saved :]
            assert state.doctor().ok
        number += max(1, calls // points)


@on(REDIS)
@pytest.mark.parametrize("act", ["save", "load"])
def test_a_storm_of_signals(state, act):
    inside, errors, handled, stop = False, [], 0, threading.Event()

    def handler(*_):
        nonlocal inside, handled
        if inside:
            return
        inside = True
        try:
            state.save("handled", handled + 1)
            handled += 1
        except Reentered:
            assert state.backend.kind == "json"
        except Exception as error:  # an exception would end the outer call
            errors.append(error)
        finally:
            inside = False

    def send():
        while not stop.is_set():
            os.kill(os.getpid(), signal.SIGUSR1)
            time.sleep(0.002)

    before, number = signal.signal(signal.SIGUSR1, handler), 0
    sender = threading.Thread(target=send)
    sender.start()
    try:
        end = time.monotonic() + 0.25
        while time.monotonic() < end:
            number += 1
            ACTS[act](state, number)
    finally:
        stop.set()
        sender.join()
        signal.signal(signal.SIGUSR1, before)
    assert not errors and handled
    with StateManager(state._opened["backend"], "ns") as fresh:
        assert (fresh.load("handled"), fresh.load("a")) == (handled, number if act == "save" else 0)
        assert fresh.doctor().ok


@on("json", REDIS)
@pytest.mark.parametrize("outer", ["load", "save", *stress.stressed("compact")])
def test_close_in_the_middle_of_a_call(state, outer):
    """As a handler of SIGTERM closes the manager: the call in the middle of which it comes ends as it would have."""
    state.load("a")
    calls = run_at_line(lambda: ACTS[outer](state, 0), lambda: None, -1)
    for place in range(1, calls + 1, max(1, calls // LINES)):
        run_at_line(lambda place=place: ACTS[outer](state, place), state.close, place)
        assert outer != "save" or state.load("a") == place
    assert state.doctor().ok


FORKED = [(kind, outer) for kind in KINDS for outer in ("load", "save", "compact") if kind != "json" or outer in READS]


@pytest.mark.parametrize(("kind", "outer"), stress.only(FORKED, ("sqlite", "load"), ("sqlite", "save")))
def test_a_fork_in_the_middle_of_a_call(state, outer, points):
    """The fork waits for no connection of its own thread, and a commit that it interrupts gives its lock up for it.

    In the middle of a commit to JSON files the parent keeps the folder's lock, and the child would wait for it.
    """
    failed = []

    def fork():
        begun = time.monotonic()
        pid = os.fork()
        if not pid:
            status = 1
            try:
                status = 0 if state.save("child", "saved") else 2
            except Reentered:
                status = 0 if outer == "compact" else 3
            finally:
                os._exit(status)
        failed.append(os.waitpid(pid, 0)[1] or time.monotonic() - begun > PATIENCE_SECONDS / 2)

    state.load("a")
    calls = run_at_call(lambda: ACTS[outer](state, 0), lambda: None, -1)
    for place in range(1, calls + 1, max(1, calls // points)):
        run_at_call(lambda place=place: ACTS[outer](state, place), fork, place)
        assert outer != "save" or state.load("a") == place
    assert not any(failed) and state.load("child") == "saved" and state.doctor().ok


@on(REDIS)
def test_an_exception_of_a_handler_leaves_no_reply_for_the_next_call(state):
    begun = time.monotonic()
    calls = run_at_line(lambda: state.revision, lambda: None, -1)
    for place in range(1, calls + 1, max(1, calls // LINES)):
        with contextlib.suppress(SystemExit):
            run_at_line(lambda: state.revision, sys.exit, place)
        assert state.list_keys() == ["a", "b", "n"] and state.load("b") == 1
    assert time.monotonic() - begun < PATIENCE_SECONDS / 2, "a call waited for the reply to another one"


@pytest.mark.parametrize("kind", ["json", "sqlite"])
def test_a_store_that_is_opened_by_another_path(kind, store_url, tmp_path):
    root = store_url.partition(":")[2]
    link = tmp_path / "link"
    os.makedirs(root, exist_ok=True)
    link.symlink_to(root)
    outcomes = []

    def inner(number=0):
        try:
            with StateManager(f"{kind}:{link}", name, timeout=PATIENCE_SECONDS, quiet=True) as other:
                outcomes.append(other.save("inner", number))
        except Reentered:
            outcomes.append(0)

    begun = time.monotonic()
    for place in range(1, 140, 18):
        name = f"new-{place}"
        with StateManager(store_url, name, timeout=PATIENCE_SECONDS, quiet=True) as state:
            run_at_call(lambda state=state: state.save("outer", 1), inner, place)
            assert state.list_keys() == ["inner", "outer"][not outcomes[-1] :]
    assert time.monotonic() - begun < PATIENCE_SECONDS and not all(outcomes)


def test_a_function_of_update_that_saves_the_same_key(state):
    calls = []

    def save_too(number):
        calls.append(state.save("n", number))
        return number + 1

    with pytest.raises(Reentered):
        state.update("n", save_too)
    assert len(calls) < 20

    def save_once(number):
        if len(calls) < 20:
            calls.extend([state.save("n", 7)] * 20)
        return number + 1

    assert state.update("n", save_once) == state.load("n") == 8


def test_a_backend_is_opened_in_the_middle_of_its_import():
    code = """if True:
        import signal, sys
        from stateview import Reentered, StateManager

        def handler(*_):
            try:
                StateManager("redis://127.0.0.1:1", "ns", timeout=0.1).revision
            except Reentered:
                print("refused")

        def profile(frame, event, argument):
            if event == "call" and frame.f_code.co_filename.endswith("redis/connections/client.py"):
                sys.setprofile(None)
                signal.raise_signal(signal.SIGUSR1)

        signal.signal(signal.SIGUSR1, handler)
        sys.setprofile(profile)
        StateManager("redis://127.0.0.1:1", "ns", timeout=0.1).backend
    """
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "refused\n"


def test_a_callback_of_a_long_call_saves(state, tmp_path):
    for number in range(50):
        state.save("a", number)
    saved = []

    def save(*_):
        try:
            saved.append(state.save("called", len(saved)))
        except Reentered:
            assert state.backend.kind == "json"

    state.compact(progress=save)
    state.export(tmp_path / "export.jsonl", progress=save)
    for _ in state.diff("c"):
        save()
    state.update("n", lambda number: number + bool(state.save("within", number)))
    with state.transaction() as transaction:
        transaction.save("block", 1)
        save()
    assert (state.load("called"), state.load("n"), state.load("block")) == (len(saved) - 1, 1, 1)
    assert state.doctor().ok


class Finalizer:
    def __init__(self, act):
        self.act = act

    def __del__(self):
        self.act()


def test_a_finalizer_saves(state):
    number, errors = 0, []

    def save():
        nonlocal number
        number += 1
        try:
            state.save("finalized", number)
        except Reentered:
            number -= 1
        except Exception as error:
            errors.append(error)

    def outer():
        for _ in range(10):
            cycle = Finalizer(save)
            cycle.itself = cycle  # only a collection in the middle of an allocation finds it
            del cycle
            state.save("a", [{"n": [index]} for index in range(200)])

    threshold = gc.get_threshold()
    gc.set_threshold(20, 2, 2)
    try:
        outer()
    finally:
        gc.set_threshold(*threshold)
    gc.collect()
    assert not errors and number and state.load("finalized") == number and state.doctor().ok


def test_an_exception_of_a_handler_that_saved_ends_the_outer_call(state, points):
    """As `sys.exit` does in a handler of SIGTERM: the save of the handler stands, the outer save is whole or absent."""
    calls = run_at_call(lambda: state.save("a", 1), lambda: None, -1)
    for place in range(1, calls, max(1, calls // points)):
        stopped = []

        def leave(stopped=stopped, place=place):
            try:
                state.save("stopped", place)
                stopped.append(place)
            except Reentered:
                assert state.backend.kind == "json"
            raise SystemExit

        before = state.load("a")
        with contextlib.suppress(SystemExit):
            run_at_call(lambda place=place: state.save("a", f"outer {place}"), leave, place)
        gc.collect()  # an exception inside contextlib leaves its frames, and the lock, to the collector
        assert state.load("a") in (before, f"outer {place}")
        assert not stopped or state.load("stopped") == place
    state.save("a", "after")
    assert state.load("a") == "after" and state.doctor().ok
