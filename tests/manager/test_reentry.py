"""Calls in the middle of a call of the same thread, as a signal handler, a finalizer or a callback makes them.

The inner call runs after each function call that the outer call makes in the package.
"""

import contextlib
import gc
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
import stress

import stateview
from stateview import Reentered, StateManager

PLACES = (str(Path(stateview.__file__).parent), contextlib.__file__)
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
READS = ("load", "list_keys", "diff", "log")


@pytest.fixture
def points(request):
    """In how many places of an outer call the inner one is tried: by hand as many as the environment says."""
    short = request.config.getoption("-m") == "not stress"
    return int(os.environ.get("STATEVIEW_TEST_POINTS") or (6 if short else 10))


def run_at_call(outer, inner, wanted):
    """Call `outer`, and `inner` after the function call of that number; return how many calls `outer` makes in all.

    Python runs signal handlers when a function begins, and after each call of a function in C.
    """
    calls = 0

    def profile(frame, event, argument):
        nonlocal calls
        if event in ("call", "c_return") and frame.f_code.co_filename.startswith(PLACES):
            calls += 1
            if calls == wanted:
                sys.setprofile(None)
                inner()

    sys.setprofile(profile)
    try:
        outer()
    finally:
        sys.setprofile(None)
    return calls


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
    refused = []

    def inside():
        begun = time.monotonic()
        try:
            ACTS[inner](state, "inner")
        except Reentered as error:
            refused.append(str(error))  # the error itself would keep all frames alive
        assert time.monotonic() - begun < PATIENCE_SECONDS / 2, "the inner call waited for its own thread"

    before = state.load("n")
    calls = run_at_call(lambda: ACTS[outer](state, "outer"), inside, place)
    kind = state.backend.kind
    assert not refused or (kind == "json" and inner not in READS) or "compact" in (outer, inner)
    with StateManager(state._opened["backend"], "ns") as fresh:
        assert fresh.at("live").load("n") == before + (outer == "update") + (inner == "update" and not refused)
        for key in fresh.list_keys():
            assert fresh.load(key) == state.load(key)
        assert fresh.log() == state.log() and fresh.checkpoints(all=True) == state.checkpoints(all=True)
        if outer == "save":
            assert fresh.load("a") in ("inner", "outer")
    return calls


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
