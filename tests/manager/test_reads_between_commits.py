"""A read in the middle of which another manager commits: it answers as before the commit or as after it."""

import os
import threading

import pytest
from interjection import PACKAGE, run_at_call
from stress import stride

from stateview import KeyNotFound, StateManager

BACKENDS = os.path.join(PACKAGE, "backends")
READS = {
    "head": lambda state: state.head().revision,
    "load": lambda state: state.load("k", None),
    "entry": lambda state: state.entry("k").value,
    "keys": lambda state: list(state.list_keys()),
    "entries": lambda state: [(entry.key, entry.value) for entry in state.entries()],
    "count": lambda state: state.count(),
    "log": lambda state: [commit.revision for commit in state.log()],
    "history": lambda state: [version.revision for version in state.history("k")],
    "checkpoints": lambda state: [checkpoint.name for checkpoint in state.checkpoints()],
    "stats": lambda state: state.stats().keys,
}
BEFORE = {
    "checkpoint alone": lambda state: state.checkpoint("c"),
    "no folder": lambda state: None,
    "entry": lambda state: state.save("k", 1),
    "entry deleted": lambda state: (state.save("k", 1), state.delete("k")),
}


def _answer(read, state):
    try:
        return read(state)
    except KeyNotFound:
        return KeyNotFound


def _answer_beside_commit(url, read, commit, call):
    """Return the answer of a read, before whose call of C of that number in a backend another commits; and its calls.

    The other is a thread: where the reader holds a lock that it needs, it commits later.
    """
    answers = []
    with StateManager(url, "ns") as state, StateManager(url, "ns") as other:
        thread = threading.Thread(target=commit, args=(other,))

        def begin():
            thread.start()
            thread.join(0.2)

        calls = run_at_call(lambda: answers.append(_answer(read, state)), begin, call, BACKENDS, ("c_call",))
        if thread.ident:
            thread.join()
        return answers[0], calls >= call


@pytest.mark.parametrize("name", READS)
@pytest.mark.parametrize("before", BEFORE)
def test_a_read_answers_as_before_or_as_after_a_commit_in_the_middle_of_it(new_store, kind, name, before):
    read, has_call, call = READS[name], True, 0
    while has_call:
        call += 1 if (name, kind, before) == ("head", "sqlite", "checkpoint alone") else stride(4 + call)
        url = new_store(kind)
        with StateManager(url, "ns") as state:
            BEFORE[before](state)
            answers = [_answer(read, state)]
        found, has_call = _answer_beside_commit(url, read, lambda state: state.save("k", 2), call)
        if has_call:
            with StateManager(url, "ns") as state:
                answers.append(_answer(read, state))
        assert found in answers, f"before call {call}"
    assert call > 2
