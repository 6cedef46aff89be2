"""Runs and steps: what is saved, what is done again, and what is not."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from stateview import (
    CommitUnknown,
    Conflict,
    InvalidArgument,
    LockHeld,
    LockLost,
    NotSerializable,
    SkipStep,
    StepChanged,
    StepTimeout,
)


class Calls(list):
    """Functions that note their calls."""

    def function(self, name, result=None):
        def called(*args):
            self.append(name)
            if isinstance(result, BaseException):
                raise result
            return args[0] + result if args else result

        return called


def workflow(state, calls, fails=None, **options):
    with state.run("nightly", **options) as run:
        one = run.step("fetch", calls.function("fetch", 1))
        two = run.step("clean", calls.function("clean", 10), one)
        if fails:
            run.step("send", calls.function("send", fails))
        return run.step("sum", calls.function("sum", 100), two)


def test_a_run_goes_on_where_it_stopped_and_begins_anew_when_it_ended(state):
    calls = Calls()
    with pytest.raises(ZeroDivisionError):
        workflow(state, calls, ZeroDivisionError("none"))
    assert (state.load("run/nightly")["state"], state.load("run/nightly/send")["state"]) == ("failed", "failed")
    assert workflow(state, calls) == 111 and calls == ["fetch", "clean", "send", "sum"]
    assert state.load("run/nightly")["state"] == "done"
    assert workflow(state, calls) == 111 and calls[4:] == ["fetch", "clean", "sum"]
    assert state.load("run/nightly")["go"] == 2 and state.list_keys() == [
        "run/nightly", "run/nightly/clean", "run/nightly/fetch", "run/nightly/sum",
    ]  # fmt: skip


def test_what_a_step_keeps(state):
    calls = Calls()
    with pytest.raises(ZeroDivisionError):
        workflow(state, calls, ZeroDivisionError("none"))
    record = state.load("run/nightly/clean")
    assert {name: record[name] for name in ("state", "tries", "result", "process", "order")} == {
        "state": "done", "tries": 1, "result": 11, "process": os.getpid(), "order": 2,
    }  # fmt: skip
    assert record["began"] <= record["ended"] and record["duration"] >= 0 and record["host"] and record["arguments"]
    assert record["function"].endswith("Calls.function.<locals>.called")
    error = state.load("run/nightly/send")["error"]
    assert (error["type"], error["message"]) == ("ZeroDivisionError", "none")
    # A test that raises from a trace function leaves an exception behind in the process, which Python then chains.
    first_place = error["trace"].rpartition("Traceback (most recent call last):\n")[2].splitlines()[0]
    assert first_place.endswith("in called") and "/stateview/workflow/" not in error["trace"]


def test_a_result_and_its_checkpoint_are_one_commit(state):
    workflow(state, Calls())
    log = {commit.reason: commit.revision for commit in state.log()}
    named = {mark.name: mark.revision for mark in state.checkpoints()}
    assert named == {
        f"nightly.{step}": log[f"run nightly: {step} done"] for step in ("fetch", "clean", "sum")
    }  # fmt: skip
    assert [mark.kind for mark in state.checkpoints()] == ["auto"] * 3
    assert state.load("run/nightly/clean", at="nightly.clean")["result"] == 11
    assert len(state.log()) == 6  # lock, begin, three steps, end, which also unlocks


def test_checkpoints_are_kept_by_a_number_or_not_made(state):
    for _ in range(4):
        workflow(state, Calls(), checkpoints=2)
    assert len(state.checkpoints(all=True)) == 6
    state.checkpoint("mine")
    workflow(state, Calls(), checkpoints=0)
    assert len(state.checkpoints(all=True)) == 7


def test_restoring_the_checkpoint_after_a_step_makes_the_next_run_go_on_after_it(state):
    calls = Calls()
    workflow(state, calls)
    state.restore_checkpoint("nightly.clean")
    calls.clear()
    assert workflow(state, calls) == 111 and calls == ["sum"]
    state.undo()  # the end of the run
    state.undo()  # the last step
    calls.clear()
    assert workflow(state, calls) == 111 and calls == ["sum"]


def test_an_edited_result_is_what_the_next_steps_get(state):
    workflow(state, Calls())
    state.restore_checkpoint("nightly.clean")
    state.update("run/nightly/clean", lambda record: record | {"result": 1000})
    assert workflow(state, Calls()) == 1100


def test_a_run_whose_state_is_changed_by_others_writes_nothing_more(state, other):
    acts = [
        lambda: other.restore_checkpoint("r.one"),
        lambda: other.delete("run/r"),
        lambda: other.delete("lock/run%2Fr"),
        lambda: other.save("run/r/three", {"state": "done", "result": 5}),
        other.undo,
    ]
    for act in acts:
        with pytest.raises(LockLost), state.run("r") as run:
            run.step("one", lambda: 1)
            run.step("two", lambda: 2)
            act()
            head = other.head()
            with pytest.raises(LockLost):
                run.step("three", lambda: 3)
            with pytest.raises(LockLost):
                list(run.each("four", [1]))
            assert other.head() == head
        for key in other.list_keys():
            other.delete(key)


def test_a_run_that_was_changed_gives_its_lock_back(state, other):
    with pytest.raises(LockLost), state.run("r") as run:
        for _tx in run.step("s"):
            other.delete("run/r")
            break
    assert state.list_keys("lock/") == [] and state.list_keys("run/") == []


def test_a_child_by_fork_is_not_in_the_run(here):
    with here.run("r") as run:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                run.step("s", int)
            except LockLost:
                code = 0
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        run.step("s", int)


def test_one_run_at_a_time(state, other):
    with state.run("r") as run:
        with pytest.raises(LockHeld, match="this process") as caught, other.run("r"):
            pytest.fail("two runs")
        assert "stateview run unlock r" in caught.value.hint
        with other.run("another/one") as second:
            second.step("s", lambda: 1)
        run.step("s", lambda: 1)
    assert "run/another%2Fone/s" in state


def test_a_block_writes_its_own_keys_and_its_completion_in_one_commit(state):
    calls = Calls()

    def go(fails):
        with state.run("r") as run:
            for tx in run.step("once"):
                calls.append("once")
                tx.update("count", lambda n: n + 1, 0)
                tx.result = {"a": 1}
            with run.step("with") as tx:
                tx.update("count", lambda n: n + 10, 0)
                calls.append(tx.done)
                tx.result = 7 if not tx.done else tx.result
                assert tx.result == 7
            if fails:
                with run.step("last") as tx:
                    tx.save("never", 1)
                    raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        go(True)
    assert state.load("count") == 11 and state.load("run/r/last")["state"] == "failed" and "never" not in state
    assert state.load("run/r/once")["result"] == {"a": 1}
    assert state.load("count", at="r.once") == 1 and state.load("run/r/once", at="r.once")["state"] == "done"
    go(False)
    assert state.load("count") == 11 and calls == ["once", False, True]


def test_a_block_whose_reads_have_changed_is_refused(state, other):
    state.save("k", 1)
    with pytest.raises(Conflict), state.run("r") as run, run.step("s") as tx:
        tx.save("k", tx.load("k") + 1)
        other.save("k", 5)
    assert state.load("k") == 5 and state.load("run/r/s")["state"] == "failed" and state.list_keys("lock/") == []
    with state.run("r") as run, run.step("s") as tx:
        tx.save("k", tx.load("k") + 1)
    assert state.load("k") == 6


def test_each_item_once(state):
    done = []
    rows = [{"id": number} for number in range(5)]

    def go(stop):
        with state.run("r") as run:
            for row in run.each("send", rows, key="id"):
                if row["id"] == stop:
                    raise ZeroDivisionError
                done.append(row["id"])

    for stop in (2, 4):
        with pytest.raises(ZeroDivisionError):
            go(stop)
        assert state.load("run/r/send")["state"] == "failed"
    rows += [{"id": "a/b"}]
    go(None)
    assert done == [0, 1, 2, 3, 4, "a/b"] and state.load("run/r/send")["result"] == 6
    assert state.list_keys("run/r/send/") == [f"run/r/send/{n}" for n in (0, 1, 2, 3, 4, "a%2Fb")]
    go(None)
    assert len(done) == 12


def test_items_without_a_key_of_their_own(here):
    with here.run("r") as run:
        assert list(run.each("a", ["x", 3])) == ["x", 3]
        for items, key in ((["x", "x"], None), ([[1]], None), ([{"id": None}], "id"), ([{}], "id")):
            with pytest.raises(InvalidArgument, match="key"):
                list(run.each("b", items, key))
        assert list(run.each("c", [[1], [2]], lambda item: item[0])) == [[1], [2]]


def add(number):
    return number + 1


def add_two(number):
    return number + 2


@pytest.mark.parametrize(
    ("function", "argument", "what"),
    [(add, 2, "other arguments"), (add_two, 1, r"another version of test_runs\.add")],
    ids=["arguments", "code"],
)
def test_a_step_that_was_done_with_other_arguments_or_code(here, function, argument, what):
    def go(function, argument, **options):
        with here.run("r", **options) as run:
            result = run.step("s", function, argument)
            run.step("stop", Calls().function("stop", SystemExit(1)))
        return result

    def stopped(*args, **options):
        with pytest.raises(SystemExit):
            go(*args, **options)
        return here.load("run/r/s")["result"]

    assert stopped(add, 1) == 2
    with pytest.raises(StepChanged, match=rf"step 's' of run 'r' was done with {what}") as caught:
        go(function, argument)
    assert "stateview run reset s --run r" in str(caught.value)
    assert stopped(function, argument, on_change="keep") == 2
    assert stopped(function, argument, on_change="run") == 3
    assert stopped(function, argument) == 3


def test_retries_with_pauses_for_the_named_exceptions(here):
    calls = []

    def flaky(fails):
        calls.append(time.monotonic())
        if len(calls) <= fails:
            raise ConnectionError(f"try {len(calls)}")
        return "fine"

    with here.run("r", retries=1, backoff=0.001) as run:
        assert run.step("s", flaky, 2, retries=2, backoff=0.02) == "fine"
        assert calls[1] - calls[0] >= 0.01 and calls[2] - calls[1] >= 0.02
        assert here.load("run/r/s")["tries"] == 3 and here.log(2)[0].reason == "run r: s done"
        calls.clear()
        with pytest.raises(ConnectionError, match="try 2"):
            run.step("two", flaky, 9)
        calls.clear()
        with pytest.raises(ConnectionError, match="try 1"):
            run.step("three", flaky, 9, retry_on=(ValueError, KeyError))
    assert here.load("run/r")["state"] == "done"  # the block went on after them
    assert (here.load("run/r/two")["tries"], here.load("run/r/three")["tries"]) == (2, 1)


def test_the_tries_of_earlier_runs_count(here):
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            workflow(here, Calls(), ZeroDivisionError())
    assert here.load("run/nightly/send")["tries"] == 2


def test_a_function_that_takes_too_long_goes_on_in_its_thread(here):
    end = threading.Event()
    with here.run("r") as run:
        assert run.step("fast", lambda: threading.current_thread().name, timeout=60) == "step fast"
        with pytest.raises(StepTimeout, match=r"longer than its time-out of 0\.01 s\. Its thread goes on"):
            run.step("slow", end.wait, timeout=0.01, retries=5, backoff=0.001)
        assert here.load("run/r/slow")["state"] == "failed" and here.load("run/r/slow")["tries"] == 1
        end.set()


def test_results_that_cannot_be_saved_are_refused_with_the_place(here):
    with here.run("r") as run:
        with pytest.raises(
            NotSerializable, match=r"the result of step 's' cannot be saved.*its path or its id"
        ) as found:
            run.step("s", lambda: {"a": [1, {2}]})
        assert found.value.path == "$.a[1]"
        assert here.load("run/r/s")["state"] == "failed"
        assert run.step("t", lambda: (1, (2,))) == [1, [2]]
        with pytest.warns(UserWarning, match=r"the result of step 'large' takes 1\.5 MB"):
            run.step("large", lambda: "x" * 1_500_000)
        deep = json.loads("[" * 200 + "]" * 200)
        with pytest.raises(NotSerializable, match="nested too deep"):
            run.step("deep", lambda: deep)


def test_a_result_is_a_copy(here):
    with pytest.raises(SystemExit), here.run("r") as run:
        kept = run.step("s", lambda: [1])
        kept.append(2)
        raise SystemExit
    with here.run("r") as run:
        assert run.is_resumed and run.step("s", lambda: [1]) == [1]


def test_a_step_may_say_that_there_is_nothing_to_do(here):
    def nothing():
        raise SkipStep("no rows")

    with pytest.raises(SystemExit), here.run("r") as run:
        assert run.step("s", nothing, retries=3) is None
        with run.step("t") as tx:
            tx.save("k", 1)
            raise SkipStep("none")
        raise SystemExit
    assert here.load("run/r/s")["state"] == "skipped" and here.load("run/r/s")["reason"] == "no rows"
    assert "k" not in here
    with here.run("r") as run:
        assert run.step("s", nothing) is None


def test_a_name_that_is_used_again_is_numbered_and_one_inside_a_step_has_its_name(here):
    calls = Calls()

    def outer(run, fails):
        run.step("inner", calls.function("inner", 1))
        run.step("inner", calls.function("inner", 2))
        if fails and len(calls) < 5:
            raise ConnectionError

    def go(stops):
        with here.run("r") as run:
            for number in range(2):
                run.step("fetch", calls.function("fetch", number))
            run.step("fetch", calls.function("fetch", 5), key="k")
            run.step("outer", lambda: outer(run, True), retries=1, backoff=0)
            run.step("inner", calls.function("own", 3))
            if stops:
                raise SystemExit

    with pytest.raises(SystemExit):
        go(True)
    assert here.list_keys("run/r/") == [
        "run/r/" + name for name in ("fetch", "fetch[2]", "fetch[k]", "inner", "outer", "outer>inner", "outer>inner[2]")
    ]
    assert calls == ["fetch", "fetch", "fetch", "inner", "inner", "own"]
    go(False)
    assert len(calls) == 6


def test_runs_inside_a_run(here):
    with here.run("outer") as outer:

        def inner():
            with here.run("inner") as run:
                return run.step("s", lambda: 1)

        assert outer.step("s", inner) == 1
    assert here.list_keys() == ["run/inner", "run/inner/s", "run/outer", "run/outer/s"]


def test_steps_in_threads_at_once_need_keys(state):
    barrier, refused = threading.Barrier(2, timeout=60), threading.Event()
    found, errors = [], []

    def work(run, key):
        try:
            found.append(run.step("s", lambda: (barrier.wait(), key)[1], key=key))
            run.step("t", lambda: refused.wait(60))
        except InvalidArgument as error:
            errors.append(error)
            refused.set()

    with state.run("r") as run:
        threads = [threading.Thread(target=work, args=(run, key)) for key in ("a", "b")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with pytest.raises(InvalidArgument, match="called before with this key"):
            run.step("s", int, key="a")
    assert sorted(found) == ["a", "b"] and "done at once" in str(errors[0])
    assert {"run/r/s[a]", "run/r/s[b]"} <= {*state.list_keys()}


def test_a_step_that_outlives_its_run_writes_nothing(here):
    begun, end = threading.Event(), threading.Event()
    errors = []

    def work(run):
        with contextlib.suppress(LockLost):
            run.step("s", lambda: (begun.set(), end.wait(60)))
            errors.append("written")

    with here.run("r") as run:
        thread = threading.Thread(target=work, args=(run,))
        thread.start()
        begun.wait(60)
    head = here.head()
    end.set()
    thread.join()
    assert here.head() == head and not errors and here.load("run/r/s")["state"] == "interrupted"
    assert here.load("run/r")["state"] == "interrupted"  # so the next one goes on


def test_a_step_that_lasts_is_shown_as_running(here):
    def slow():
        end = time.monotonic() + 60
        while here.load("run/r/s", {"state": ""})["state"] != "running" and time.monotonic() < end:
            time.sleep(0.05)
        return here.load("run/r")["step"]

    with here.run("r") as run:
        assert run.step("s", slow) == "s"
    assert here.load("run/r/s")["state"] == "done"


SIGNALLED = """
    import os, signal, sys, time
    from stateview import StateManager
    with StateManager(sys.argv[1], "ns") as state, state.run("r") as run:
        run.step("one", lambda: 1)
        run.step("two", lambda: (os.kill(os.getpid(), int(sys.argv[2])), time.sleep(60)))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_marks_the_step_as_interrupted(store_url, state, number):
    words = [sys.executable, "-c", textwrap.dedent(SIGNALLED), store_url, str(int(number))]
    done = subprocess.run(words, check=False, stderr=subprocess.DEVNULL, timeout=60)
    assert done.returncode == (143 if number == signal.SIGTERM else -2)
    assert state.load("run/r")["state"] == state.load("run/r/two")["state"] == "interrupted"
    assert state.list_keys("lock/") == []
    calls = Calls()
    with state.run("r") as run:
        run.step("one", calls.function("one"), on_change="keep")
        run.step("two", calls.function("two"))
    assert calls == ["two"] and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_arguments_of_a_wrong_type(here):
    for options in ({"on_change": "x"}, {"retry_on": "x"}, {"retries": -1}, {"timeout": "x"}, {"backoff": -1}):
        with pytest.raises(InvalidArgument):
            here.run("r", **options)
        with here.run("r") as run, pytest.raises(InvalidArgument):
            run.step("s", int, **options)
    with here.run("r") as run:
        for wrong in (5, "", None, "\udcff"):
            with pytest.raises(InvalidArgument):
                run.step(wrong, int)
            with pytest.raises(InvalidArgument):
                list(run.each(wrong, []))
        with pytest.raises(InvalidArgument, match="without a function"):
            run.step("s", None, 5)
    assert here.list_keys() == ["run/r"]


def test_steps_inside_items_and_blocks_belong_to_these(here):
    calls = Calls()

    def go(stop):
        with here.run("r") as run:
            for item in run.each("rows", ["a", "b"]):
                run.step("mail", calls.function(f"mail {item}", 1))
                if item == stop:
                    raise ZeroDivisionError
            for _tx in run.step("block"):
                run.step("mail", calls.function("mail in block", 2))
            run.step("mail", calls.function("mail", 3))

    with pytest.raises(ZeroDivisionError):
        go("b")
    go(None)
    assert calls == ["mail a", "mail b", "mail in block", "mail"]
    assert [key for key in here.list_keys("run/r/") if key.endswith("mail")] == [
        f"run/r/{name}mail" for name in ("block>", "", "rows[a]>", "rows[b]>")
    ]


def test_a_step_whose_commit_was_made_without_a_reply_is_done(state):
    def loses_the_reply(run):
        commit = run._commit

        def lossy(request):
            run._commit = commit
            commit(request)
            raise CommitUnknown("the connection was lost")

        run._commit = lossy

    with state.run("r") as run:
        run.step("one", lambda: 1)
        loses_the_reply(run)
        with pytest.raises(CommitUnknown):
            run.step("two", lambda: 2)
        run.step("three", lambda: 3)
        loses_the_reply(run)
        with pytest.raises(CommitUnknown):
            list(run.each("four", [1]))
        assert list(run.each("five", [1])) == [1]
        loses_the_reply(run)
        with pytest.raises(ZeroDivisionError):
            run.step("six", lambda: 1 / 0)
    states = [state.load(f"run/r/{name}")["state"] for name in ("two", "three", "five", "six")]
    assert states == ["done", "done", "done", "failed"]
    assert state.list_keys("run/r/four/") == ["run/r/four/1"] and state.load("run/r")["state"] == "interrupted"


def test_a_step_that_has_ended_is_not_shown_as_running_again(here, monkeypatch):
    monkeypatch.setattr("stateview.workflow.run.ANNOUNCE_SECONDS", 0)
    with here.run("r") as run:
        closed = run.closed
        run.closed = lambda step: (run._announce(), closed(step))  # as the thread that renews the lock may
        run.step("s", lambda: run._announce() or here.load("run/r/s")["state"])
        assert here.load("run/r/s")["result"] == "running" and here.load("run/r/s")["state"] == "done"
        run.step("u", lambda: 5)
        assert here.load("run/r/u")["state"] == "done"
        with pytest.raises(ZeroDivisionError):
            run.step("t", lambda: 1 / 0)
        assert here.load("run/r/t")["state"] == "failed"


def test_a_step_inside_one_that_is_tried_again_is_not_called_again_if_its_commit_was_made(here):
    calls = Calls()

    def outer(run):
        commit = run._commit

        def lossy(request):
            run._commit = commit
            commit(request)
            raise CommitUnknown("the connection was lost")

        run._commit = commit if calls else lossy
        return run.step("inner", calls.function("inner", 5))

    with here.run("r", retries=1, backoff=0) as run:
        assert run.step("outer", outer, run) == 5 and calls == ["inner"]
