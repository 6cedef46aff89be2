"""What only SQLite's backend remembers from one commit to the next, and what its trimming moves between tables."""

import contextlib
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import textwrap
import threading

import apsw
import pytest

from stateview import StateException, StateManager
from stateview.backends.files import staging
from stateview.backends.protocol import CommitRequest, StateAt, Write
from stateview.backends.sqlite import schema, writer
from stateview.backends.sqlite.connections import page_checksums
from stateview.backends.sqlite.row_checksums import first_corruption
from stateview.backends.stored_values import PLAIN


def differing(one, other):
    return {key for key in {*one, *other} if one.get(key) != other.get(key)}


@pytest.mark.parametrize("seed", range(5))
def test_two_connections_and_a_short_history(tmp_path, seed):
    """Commits of one key and of several, in turns, far beyond what is kept: checkpoints still differ as they should."""
    chance = random.Random(seed)
    history = chance.choice([3, 40, 64])
    states = [StateManager(f"sqlite:{tmp_path}", "ns", history=history) for _ in range(2)]
    now, marks = {}, {}
    for number in range(300):
        state, act, key = chance.choice(states), chance.random(), f"k{chance.randrange(8)}"
        if act < 0.6:
            state.save(key, number)
            now[key] = number
        elif act < 0.75:
            with state.transaction() as tx:
                for key in ("k0", "k1", "k2"):
                    tx.save(key, number)
                    now[key] = number
        elif act < 0.9 and key in now:
            state.delete(key)
            del now[key]
        elif act < 0.97:
            state.checkpoint(f"c{number}")
            marks[f"c{number}"] = dict(now)
    for state in states:
        head = state.backend.head()
        assert head.count == len(now)
        assert history <= head.revision - head.floor <= history + writer.SLACK_REVISIONS
        for name, before in marks.items():
            assert {entry.key for entry in state.diff(name)} == differing(before, now)
            other = chance.choice(list(marks))
            assert {entry.key for entry in state.diff(name, other)} == differing(before, marks[other])
        with state.backend._connection() as db:
            assert first_corruption(db, schema.tables(), PLAIN) == ""
        state.close()


def test_a_save_after_the_store_was_dropped_or_removed(tmp_path, monkeypatch):
    ours, theirs = (StateManager(f"sqlite:{tmp_path}", "ns") for _ in range(2))
    assert [ours.save("k", number) for number in range(3)] == [1, 2, 3]
    theirs.backend.drop()
    assert ours.save("k", 3) == 1
    assert theirs.load("k") == 3
    shutil.rmtree(tmp_path / "ns")
    monkeypatch.setattr(
        writer, "FILE_TRUST_SECONDS", 0.0
    )  # who removes files by hand is seen a twentieth of a second later
    assert ours.save("k", 4) == 1
    ours.close()
    theirs.close()


def test_a_commit_of_a_thread_whose_connection_is_to_a_file_that_was_replaced(tmp_path, monkeypatch):
    """Another thread notices the new file first: the commit must not go into the old one, and be lost."""
    ours, theirs = (StateManager(f"sqlite:{tmp_path}", "ns").backend for _ in range(2))
    ours.commit(CommitRequest({"k": Write(b"1")}))
    path, copy = tmp_path / "ns" / "state.db", tmp_path / "copy.db"
    connect = ours._connection

    def connect_late(new=None):
        connection = connect(new)
        enter = connection.__enter__()
        monkeypatch.undo()
        shutil.copyfile(path, copy)
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink()
        copy.rename(path)
        assert ours.get("k").value == b"1"  # the other thread
        return contextlib.nullcontext(enter)

    ours.close()
    monkeypatch.setattr(ours, "_connection", connect_late)
    assert ours.commit(CommitRequest({"k": Write(b"2")})).revision == 2
    assert theirs.get("k").value == ours.get("k").value == b"2"
    ours.close()
    theirs.close()


def test_a_list_of_what_has_rotted_is_an_error_or_in_order(tmp_path):
    """Bytes of the file are changed at random: no list is of the wrong types or order, and no error is foreign."""
    chance, path = random.Random(1), tmp_path / "ns" / "state.db"
    backend = StateManager(f"sqlite:{tmp_path}", "ns").backend
    for step in range(1, 4):
        values = {f"k{n:03}": b'"%s"' % (b"x" * chance.choice([5, 500, 9000])) for n in range(0, 200, step)}
        backend.commit(CommitRequest({key: Write(value) for key, value in values.items()}))
    backend.close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    sound, refused = path.read_bytes(), 0
    for _ in range(150):
        rotten = bytearray(sound)
        for _ in range(3):
            rotten[chance.randrange(100, len(rotten))] = chance.randrange(256)
        path.write_bytes(rotten)
        backend = StateManager(f"sqlite:{tmp_path}", "ns").backend
        for at in (None, StateAt(1, backend.now())):
            for backwards in (False, True):
                try:
                    rows = backend.list_keys(at=at, skip=1, backwards=backwards)
                    backend.count("k1", "k2", at)
                except StateException:
                    refused += 1
                    continue
                assert [row.key for row in rows] == sorted({row.key for row in rows})
                for row in rows:
                    kinds = [type(field) for field in (row.size, row.start, row.revision, row.time, row.expires)]
                    assert kinds == [int, bytes, int, int, int]
        backend.close()
        for name in ("state.db-wal", "state.db-shm"):
            (path.parent / name).unlink(missing_ok=True)
    assert refused


@pytest.mark.parametrize("at", [None, 2])
def test_a_list_is_read_from_the_index_in_its_order(tmp_path, at):
    """No plan sorts the namespace, and to pass over live keys touches no row."""
    with StateManager(f"sqlite:{tmp_path}", "ns") as state:
        for number in range(3):
            state.save(f"k{number}", number)
        asked = []
        with state.backend._connection() as db:
            db.trace_v2(apsw.SQLITE_TRACE_STMT, lambda event: asked.append(event["sql"]))
        point = None if at is None else StateAt(at, state.backend.now())
        for backwards in (False, True):
            assert len(state.backend.list_keys(at=point, skip=1, backwards=backwards)) == (at or 3) - 1
        lists = [sql for sql in asked if "ORDER BY key" in sql]
        assert len(lists) == 4
        with state.backend._connection() as db:
            db.trace_v2(0, None)
            for sql in lists:
                plan = [str(row[3]) for row in db.execute(f"EXPLAIN QUERY PLAN {sql}", ("", "z", 2, 0, 9))]
                assert not any("TEMP B-TREE" in line or "SCAN" in line for line in plan), plan
                if at is None and sql.startswith("SELECT key FROM"):
                    assert any("COVERING INDEX sqlite_autoindex_entries_1" in line for line in plan), plan


def test_a_connection_that_is_used_during_a_fork_is_closed_with_the_others(tmp_path):
    backend = StateManager(f"sqlite:{tmp_path}", "ns").backend
    backend.commit(CommitRequest({"k": Write(b"1")}))
    backend.timeout = 0.0  # the fork waits no longer for it
    with backend._connection() as used:
        assert used is not None
        backend.before_fork()
        backend.after_fork(child=False)
    backend.close()
    assert not (tmp_path / "ns" / "state.db-wal").exists()  # the last connection removes it


def test_an_entry_that_expires_while_keys_are_listed(tmp_path, monkeypatch):
    with StateManager(f"sqlite:{tmp_path}", "main") as state:
        state.save("a", 1)
        state.save("b", 2, ttl=60)
        expires = state.backend.get("b").expires
        moments = iter([expires - 1])
        monkeypatch.setattr(state.backend, "now", lambda: next(moments, expires + 1))
        assert [row.key for row in state.backend.list_keys()] == ["a", "b"]


def test_recover_waits_for_another_process(tmp_path):
    with StateManager(f"sqlite:{tmp_path}", "main") as state:
        state.save("a", 1)
        path = state.backend.path
    with contextlib.closing(page_checksums.connect(path)) as db:
        db.pragma("journal_mode", "DELETE")
    script = """
        import apsw, sys, time
        db = apsw.Connection(sys.argv[1])
        db.execute("BEGIN EXCLUSIVE")
        print("locked", flush=True)
        time.sleep(0.3)
        db.execute("COMMIT")
        """
    command = [sys.executable, "-c", textwrap.dedent(script), path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "locked\n"
        with StateManager(f"sqlite:{tmp_path}", "main") as state:
            assert state.recover().problems == ()
            assert state.load("a") == 1


def test_nobody_commits_into_a_database_while_it_is_dropped(tmp_path, monkeypatch):
    url = f"sqlite:{tmp_path}"
    with StateManager(url, "main") as state, StateManager(url, "main") as other:
        state.save("a", 1)
        other.save("b", 1)
        take_out, saved = staging.take_out, []

        def moved(folder, kind):
            out = take_out(folder, kind)
            thread = threading.Thread(target=lambda: saved.append(other.save("b", 2)))
            thread.start()
            thread.join(0.2)
            assert not saved
            threads.append(thread)
            return out

        threads = []
        monkeypatch.setattr(staging, "take_out", moved)
        state.backend.drop()
        threads[0].join(10)
        assert saved == [1]
        assert state.list_keys() == ["b"]


def test_a_connection_may_write_where_another_process_removes_the_log_meanwhile(tmp_path, monkeypatch):
    backend = StateManager(f"sqlite:{tmp_path}", "ns").backend
    (tmp_path / "ns").mkdir()
    for suffix in ("", "-wal"):
        open(backend.path + suffix, "w").close()
    log = backend.path + "-wal"
    access = os.access

    def last_close_of_another_process(path, mode):
        if path == log:
            os.unlink(path)
        return access(path, mode)

    monkeypatch.setattr(os, "access", last_close_of_another_process)
    assert backend._may_write()
