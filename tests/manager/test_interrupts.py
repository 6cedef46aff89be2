"""An act that Ctrl-C ends anywhere: the same manager goes on, and sees the same as one that is opened then."""

import pytest
from interjection import run_at_call
from stress import stride

from stateview import StateManager
from stateview.backends.jsonfile.history import History


def others_commit(url):
    with StateManager(url, "ns") as other:
        other.save("list", list(range(300)))
        other.checkpoint("others")


ACTS = {
    "history": lambda state, url: (others_commit(url), list(state.history("list"))),
    "past": lambda state, url: (others_commit(url), state.load("list", at=3)),
    "save": lambda state, url: state.save("list", list(range(200))),
    "checkpoint": lambda state, url: state.checkpoint("d"),
    "compact": lambda state, url: state.compact(state.revision),
    "restore": lambda state, url: state.restore_checkpoint("c"),
}


def interrupt():
    raise KeyboardInterrupt


def seen(state):
    return (
        state.revision,
        {entry.key: entry.value for entry in state.entries()},
        [commit.revision for commit in state.log()],
        [(version.revision, version.value) for version in state.history("list")],
        [(checkpoint.name, checkpoint.revision) for checkpoint in state.checkpoints()],
    )


def test_after_ctrl_c_between_a_line_of_the_history_and_the_next_the_history_is_read_anew(tmp_path, monkeypatch):
    append_line = History.append_line

    def interrupted_line(self, line):
        append_line(self, line)
        monkeypatch.undo()
        raise KeyboardInterrupt

    url = f"json:{tmp_path}/store"
    with StateManager(url, "ns") as state:
        state.save("list", [1])
        state.history("list")
        others_commit(url)
        monkeypatch.setattr(History, "append_line", interrupted_line)
        with pytest.raises(KeyboardInterrupt):
            state.history("list")
        assert [version.revision for version in state.history("list")] == [2, 1]


@pytest.mark.parametrize("name", ACTS)
def test_after_ctrl_c_anywhere_the_manager_sees_what_a_new_manager_sees(new_store, kind, name):
    has_call, call = True, 0
    while has_call:
        call += stride(1 + call // 2)
        url = new_store(kind)
        with StateManager(url, "ns") as state:
            for number in range(6):
                state.save("list", list(range(100 + number)))
            state.checkpoint("c")
            state.save("other", 1)
            state.log(), state.history("list")
            has_call = False
            try:
                run_at_call(lambda state=state, url=url: ACTS[name](state, url), interrupt, call)
            except KeyboardInterrupt:
                has_call = True
            with StateManager(url, "ns") as new:
                assert seen(state) == seen(new), f"interrupted at call {call}"
                assert state.save("after", call) == new.revision
                assert [finding for finding in new.doctor().findings if finding.severity == "error"] == []
    assert call > 10
