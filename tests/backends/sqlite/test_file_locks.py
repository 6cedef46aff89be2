"""SQLite's locks stay while the same process opens and closes the store's files by other ways."""

import contextlib
import fcntl
import gc
import os
import shutil
import sqlite3
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import apsw
import pytest

from stateview import BackendUnavailable, StateManager
from stateview.backends.sqlite.connections import file_locks

pytestmark = pytest.mark.skipif(file_locks.TABLE is None, reason="this system has no locks of file descriptions")

SAVE = """
import sys
from stateview import BackendUnavailable, StateManager
with StateManager(sys.argv[1], "n", timeout=0.05) as state:
    try:
        state.save("theirs", 1)
        state.backend.compact(0)
    except BackendUnavailable:
        print("locked")
"""


def manager(folder):
    return StateManager(f"sqlite:{folder}/s", "n")


def copy(folder):
    """Open and close every file of the store, as a backup does."""
    shutil.copytree(folder / "s", folder / "copy", dirs_exist_ok=True)


def another_process_saves(folder, script=SAVE):
    done = subprocess.run(
        [sys.executable, "-c", script, f"sqlite:{folder}/s"], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def count_acknowledged(url, seconds):
    """Count up by an update and a large save each, while threads copy the files, and open and close them by SQLite."""
    script = """
import contextlib, os, shutil, sqlite3, sys, tempfile, threading, time
from stateview import StateManager
url, until = sys.argv[1], time.time() + float(sys.argv[2])
folder = url.partition(":")[2]
def copies():
    while time.time() < until:
        with tempfile.TemporaryDirectory() as to:
            try: shutil.copytree(folder, to + "/copy")
            except (OSError, shutil.Error): pass
def connections():
    while time.time() < until:
        with StateManager(url, "n") as other: other.load("count"); other.list_keys()
        # Read-only: another copy of SQLite has POSIX locks, which the copies drop while it removes the log. So its
        # reads may fail, and it may leave an outdated index of the log to the others
        db = sqlite3.connect(f"file:{folder}/n/state.db?mode=ro", timeout=10, uri=True)
        with contextlib.suppress(sqlite3.DatabaseError): db.execute("PRAGMA schema_version").fetchall()
        db.close()
for act in (copies, connections): threading.Thread(target=act).start()
acknowledged = 0
while time.time() < until:
    with StateManager(url, "n") as state:
        for _ in range(5):
            state.update("count", lambda n: n + 1)
            acknowledged += 1
            state.save("large", "y" * 20_000)
print(acknowledged)
"""
    return subprocess.Popen([sys.executable, "-c", script, url, str(seconds)], stdout=subprocess.PIPE, text=True)


@pytest.mark.stress
def test_nothing_is_lost_while_both_writers_copy_the_files(tmp_path):
    state = manager(tmp_path)
    state.save("count", 0)
    state.close()
    children = [count_acknowledged(f"sqlite:{tmp_path}/s", 3) for _ in range(2)]
    acknowledged = sum(int(child.communicate()[0]) for child in children)
    assert state.load("count") == acknowledged > 0
    assert not [finding for finding in state.doctor().findings if finding.severity == "error"]


def test_a_copy_drops_neither_a_writers_lock_nor_a_readers(tmp_path):
    state = manager(tmp_path)
    state.save("k", "first")
    with state.backend._connection() as db:
        db.execute("BEGIN IMMEDIATE")
        copy(tmp_path)
        assert another_process_saves(tmp_path) == "locked"
        db.execute("ROLLBACK; BEGIN")
        before = db.execute("SELECT * FROM entries").fetchall()
        copy(tmp_path)
        log = os.stat(tmp_path / "s/n/state.db-wal").st_ino
        assert another_process_saves(tmp_path) == ""  # a commit, a WAL checkpoint, and a close that is not the last
        assert os.stat(tmp_path / "s/n/state.db-wal").st_ino == log
        assert db.execute("SELECT * FROM entries").fetchall() == before
        db.execute("COMMIT")
    assert state.load("theirs") == 1
    state.save("k", "second")
    assert another_process_saves(tmp_path) == ""
    state.close()
    assert sorted(os.listdir(tmp_path / "s/n")) == ["lock", "state.db"]  # the last close removes the log
    assert manager(tmp_path).load("k") == "second"


def test_another_copy_of_sqlite_in_the_process_is_one_more_program(tmp_path):
    state = manager(tmp_path)
    state.save("k", 1)
    with state.backend._connection() as db:
        db.execute("BEGIN IMMEDIATE")
        other = sqlite3.connect(tmp_path / "s/n/state.db", timeout=0)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("BEGIN IMMEDIATE")
        other.close()
        assert another_process_saves(tmp_path) == "locked"
        db.execute("ROLLBACK")
    other = sqlite3.connect(tmp_path / "s/n/state.db", timeout=0, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    state.backend.timeout = 0.05
    with pytest.raises(BackendUnavailable, match="locked"):
        state.save("k", 2)
    other.execute("ROLLBACK")
    state.save("k", 3)
    other.close()
    assert another_process_saves(tmp_path) == ""
    state.close()


@pytest.mark.parametrize("kind", [apsw.Connection, type("Own", (apsw.Connection,), {})])
def test_a_connection_of_the_program_keeps_its_lock_when_the_last_of_ours_is_closed(tmp_path, kind):
    state = manager(tmp_path)
    state.save("k", 1)
    with contextlib.closing(kind(state.backend.path)) as own:
        own.execute("SELECT * FROM sqlite_schema").fetchall()
        state.close()
        with open(own.filename, "r+b") as file, pytest.raises(BlockingIOError):
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 510, 0x40000002)  # SQLite's bytes of those who read


def test_a_child_that_was_forked_in_the_middle_of_a_transaction_has_locks_of_its_own(tmp_path):
    state = manager(tmp_path)
    state.save("k", 1)
    state.backend.timeout = 0.05  # the fork waits no longer for the transaction
    with state.backend._connection() as db:
        db.execute("BEGIN")
        db.execute("SELECT * FROM entries").fetchall()
        if (child := os.fork()) == 0:
            try:
                state.save("k", 2)
                held = state.backend._connection().__enter__()
                held.execute("BEGIN IMMEDIATE")
                os.kill(os.getpid(), 19)  # SIGSTOP
            finally:
                os._exit(0)
        assert os.WIFSTOPPED(os.waitpid(child, os.WUNTRACED)[1])
        db.execute("ROLLBACK")
        with pytest.raises(apsw.BusyError):
            db.execute("BEGIN IMMEDIATE")
        os.kill(child, 9)
        os.waitpid(child, 0)
        db.execute("BEGIN IMMEDIATE; ROLLBACK")
    assert state.load("k") == 2
    state.close()


def test_a_transaction_that_began_before_stateview_was_loaded_releases_its_locks(tmp_path):
    script = """
import apsw, subprocess, sys
own = apsw.Connection(sys.argv[1].partition(":")[2] + ".db")
own.execute("PRAGMA journal_mode = WAL; CREATE TABLE t (x); BEGIN IMMEDIATE; INSERT INTO t VALUES (1)").fetchall()
from stateview import StateManager
StateManager(sys.argv[1], "n").save("k", 1)
own.execute("COMMIT")
other = "import sqlite3, sys; sqlite3.connect(sys.argv[1], timeout=0, isolation_level=None).execute('BEGIN IMMEDIATE')"
subprocess.run([sys.executable, "-c", other, own.filename], check=True)
"""
    assert another_process_saves(tmp_path, script) == ""


def test_a_file_that_is_replaced_while_it_is_opened_is_opened_again(tmp_path):
    for name in "ab":
        apsw.Connection(str(tmp_path / name)).execute(f"CREATE TABLE {name} (x)")

    class Slow(file_locks.LockedConnection):
        def __init__(self, path, **arguments):
            super().__init__(path, **arguments)
            if (tmp_path / "b").exists():
                os.replace(tmp_path / "b", path)

    connection = Slow.open(str(tmp_path / "a"))
    assert connection.execute("SELECT name FROM sqlite_schema").get == "b"
    assert (os.stat(tmp_path / "a").st_dev, os.stat(tmp_path / "a").st_ino) in file_locks._files
    connection.close()


def test_databases_that_are_closed_leave_neither_a_descriptor_nor_an_entry(tmp_path):
    for number in range(3):
        state = StateManager(f"sqlite:{tmp_path}/{number}", "n")
        state.save("k", 1)
        threads = [threading.Thread(target=state.save, args=("k", n)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if number:
            state.close()  # else the collector does
    del state, threads
    gc.collect()
    stores = {(status.st_dev, status.st_ino) for status in map(os.stat, tmp_path.glob("*/n/state.db"))}
    assert len(stores) == 3 and not stores & set(file_locks._files)
    opened = [os.fstat(int(name)) for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{name}")]
    assert not stores & {(status.st_dev, status.st_ino) for status in opened}


@pytest.mark.parametrize(("machine", "prefix"), [("x86_64", ""), ("aarch64", "aarch64-linux-gnu-")])
def test_the_machine_code_is_what_its_source_assembles_to(machine, prefix, tmp_path):
    if os.uname().machine == machine:
        prefix = ""
    elif not prefix:
        pytest.skip("the assembler here is for another machine")
    if not shutil.which(f"{prefix}as"):
        pytest.skip(f"there is no {prefix}as")
    source, object_file, out = Path(__file__).parent / "file_locks" / f"{machine}.S", tmp_path / "o", tmp_path / "out"
    subprocess.run([f"{prefix}as", "-o", object_file, source], check=True)
    subprocess.run([f"{prefix}objcopy", "-O", "binary", "-j", ".text", object_file, out], check=True)
    code = bytes.fromhex(file_locks._CODE[machine])
    assert out.read_bytes() == code + bytes(32)


def test_a_python_without_memfd_and_ofd_constants_has_the_locks():
    script = """
        import fcntl, os
        for module, name in ((os, "memfd_create"), (os, "MFD_CLOEXEC"), (fcntl, "F_OFD_SETLK")):
            if hasattr(module, name):
                delattr(module, name)
        from stateview.backends.sqlite.connections import file_locks
        assert file_locks.TABLE is not None
        """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True, timeout=60)


def test_a_child_excludes_its_parent_beside_a_connection_of_the_program(tmp_path):
    """A connection that is open at the fork leaves its -shm descriptor to the child."""
    script = """
        import os, sys
        import apsw
        from stateview import StateManager
        state = StateManager(f"sqlite:{sys.argv[1]}", "main")
        state.save("k", 1)
        path = os.path.join(sys.argv[1], "main", "state.db")
        foreign = apsw.Connection(path)
        foreign.execute("SELECT count(*) FROM sqlite_schema").fetchall()
        read, write = os.pipe()
        ours, told = os.pipe()
        child = os.fork()
        if child == 0:
            mine = apsw.Connection(path)
            mine.execute("BEGIN IMMEDIATE")
            os.write(told, b"x")
            os.read(read, 1)
            os._exit(0)
        os.read(ours, 1)
        other = apsw.Connection(path)
        try:
            other.execute("BEGIN IMMEDIATE")
            print("BOTH")
        except apsw.BusyError:
            print("busy")
        os.write(write, b"x")
        os.waitpid(child, 0)
        """
    command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)]
    assert subprocess.run(command, check=True, timeout=60, capture_output=True, text=True).stdout == "busy\n"


def test_a_connection_that_the_interpreter_closes_at_its_very_end_is_closed_in_peace(tmp_path):
    script = f"""
        import stateview.backends.sqlite.reader as module
        from stateview import StateManager
        state = StateManager("sqlite:{tmp_path}", "n", quiet=True)
        state.save("k", 1)
        module.select = lambda *given: state  # the module outlives the program, and with it the connection
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True, timeout=60)
