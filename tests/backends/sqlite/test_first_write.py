"""A first write in the middle of which the disk failed once is no reason for the next to fail."""

import ctypes
import errno

import apsw
import pytest
import stress

from stateview import StateException, StateManager


class FailingCall:
    """A system call of SQLite that fails once: where it is called the n-th time."""

    def __init__(self, name, kind):
        self.name, self.vfs = name, apsw.VFS("failing", "unix")
        self.address = self.vfs.xGetSystemCall(name)
        self.original = kind(self.address)
        self.replacement = kind(self)
        self.left = 0

    def __call__(self, *arguments):
        self.left -= 1
        if self.left == 0:
            ctypes.set_errno(errno.EIO)
            return -1
        return self.original(*arguments)

    def __enter__(self):
        self.vfs.xSetSystemCall(self.name, ctypes.cast(self.replacement, ctypes.c_void_p).value)
        return self

    def __exit__(self, *_):
        self.vfs.xSetSystemCall(self.name, self.address)
        self.vfs.unregister()


SIZE, OFFSET = ctypes.c_size_t, ctypes.c_int64
CALLS = {
    "pwrite64": ctypes.CFUNCTYPE(ctypes.c_ssize_t, ctypes.c_int, ctypes.c_void_p, SIZE, OFFSET, use_errno=True),
    "pread64": ctypes.CFUNCTYPE(ctypes.c_ssize_t, ctypes.c_int, ctypes.c_void_p, SIZE, OFFSET, use_errno=True),
    "ftruncate": ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, OFFSET, use_errno=True),
}
ACTS = {
    "save": lambda state, _: state.save("k", 1),
    "checkpoint": lambda state, _: state.checkpoint("c"),
    "import": lambda state, source: state.import_from(source),
}


@pytest.mark.parametrize("act", stress.first(ACTS))
@pytest.mark.parametrize(("name", "step"), [("pwrite64", 46), *stress.stressed(*((name, 3) for name in CALLS))])
def test_the_next_save_succeeds(tmp_path, name, act, step):
    source = tmp_path / "source.jsonl"
    with StateManager(f"sqlite:{tmp_path}/source", "n") as state:
        state.save("imported", 1)
        state.export(source)
    failed, number = 0, 1
    with FailingCall(name, CALLS[name]) as call:
        reached = True
        while reached:
            with StateManager(f"sqlite:{tmp_path}/{number}", "n") as state:
                call.left = number
                try:
                    ACTS[act](state, source)
                except StateException:
                    failed += 1
                reached, call.left = call.left <= 0, 0
            with StateManager(f"sqlite:{tmp_path}/{number}", "n") as state:
                state.save("next", 2)
                assert state.load("next") == 2
                assert not [finding for finding in state.doctor().findings if finding.severity == "error"]
            number += step
    assert failed
