"""An index of the WAL that another program made of a removed WAL is no damage, and stops nobody who opens the store."""

import contextlib
import fcntl
import os
import shutil

import apsw
import pytest
from test_first_write import CALLS, FailingCall

from stateview import BackendError, BackendUnavailable, StateManager
from stateview.backends.sqlite.connections import file_locks, wal_index

pytestmark = pytest.mark.skipif(file_locks.TABLE is None, reason="this system has no locks of file descriptions")
IN_USE = 128  # the byte of the -shm file that each program locks while it has the file open


def save_small(state):
    state.save("k", 2)


def save_large(state):
    state.save("large", "y" * 20_000)  # takes new pages, so the first page is in the WAL


@contextlib.contextmanager
def outdated_index(folder, act, later=()):
    """Leave the index of the WAL that `act` wrote and a close removed, in use by another program.

    Beside it is the WAL that `later` wrote, as a killed process leaves it.
    """
    path, kept = folder / "s/n/state.db-shm", folder / "kept"
    for step in (lambda state: state.save("k", 1), act):
        with StateManager(f"sqlite:{folder}/s", "n") as state:
            step(state)
            shutil.copy(path, kept)
    assert sorted(os.listdir(path.parent)) == ["lock", "state.db"]
    for number in later:
        with StateManager(f"sqlite:{folder}/s", "n") as state:
            state.save("k", number)
            state.backend._pool.close_idle(keep_log=True)
    shutil.copy(kept, path)
    with open(path, "r+b") as file:
        fcntl.fcntl(file, file_locks._F_OFD_SETLK, file_locks._pack(fcntl.F_RDLCK, IN_USE, 1, 0))
        yield


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("later", [(), (11, 12)])
@pytest.mark.parametrize("act", [save_small, save_large])
def test_who_opens_the_store_makes_the_index_anew(tmp_path, act, later, read_only):
    with outdated_index(tmp_path, act, later):
        with StateManager(f"sqlite:{tmp_path}/s", "n", timeout=5, read_only=read_only) as state:
            assert state.load("k") == (later or (2 if act is save_small else 1,))[-1]
            assert not [finding for finding in state.doctor().findings if finding.severity == "error"]
        with StateManager(f"sqlite:{tmp_path}/s", "n", timeout=5) as state:
            state.save("k", 3)
    with StateManager(f"sqlite:{tmp_path}/s", "n") as state:
        assert state.load("k") == 3
        assert state.revision == 3 + len(later)


def test_while_another_connection_is_open_the_error_names_the_cause_and_the_next_attempt_succeeds(tmp_path):
    with outdated_index(tmp_path, save_small):
        other = apsw.Connection(str(tmp_path / "s/n/state.db"), flags=apsw.SQLITE_OPEN_READONLY)
        other.pragma("user_version")  # has a lock from now on
        state = StateManager(f"sqlite:{tmp_path}/s", "n", timeout=0.05)
        with pytest.raises(BackendUnavailable, match="outdated index"):
            state.load("k")
        other.close()
        assert state.load("k") == 2
        state.close()


def test_who_may_not_remove_the_index_is_told_the_cause(tmp_path, monkeypatch):
    def refused(path):
        raise PermissionError(path)

    monkeypatch.setattr(wal_index, "remove", refused)
    state = StateManager(f"sqlite:{tmp_path}/s", "n", timeout=0.05)
    with outdated_index(tmp_path, save_small), pytest.raises(BackendUnavailable, match="outdated index"):
        state.load("k")
    assert state.load("k") == 2
    state.close()


@pytest.mark.parametrize("name", ["pread64", "pwrite64"])
def test_a_disk_that_fails_is_told_and_not_tried_again(tmp_path, name):
    with StateManager(f"sqlite:{tmp_path}/s", "n") as state:
        state.save("k", 1)
    with FailingCall(name, CALLS[name]) as call, StateManager(f"sqlite:{tmp_path}/s", "n") as state:
        call.left = 1
        with pytest.raises(BackendError, match="Check the disk"):
            state.load("k")
        assert state.load("k") == 1  # a second attempt would have succeeded
