"""`doctor`: what is sound has no findings, every damage has one that says what to do, and nothing is changed by it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest
import redis
import redis_servers
from conftest import REDIS
from other_user import as_another_user, told
from plain_sqlite import plain_sqlite
from redis_pages import unlist

from stateview import DoctorReport, Finding, StateException, StateManager
from stateview.backends.sqlite import doctor as sqlite_doctor
from stateview.cli.program import main

FILES = ("json", "sqlite")


def fill(state: StateManager) -> None:
    """A past of every kind: overwritten, deleted, written anew, expiring, gone; two checkpoints, one moved name."""
    for number in range(30):
        state.save(f"k{number % 7}", {"n": number})
    state.save("lease", 1, ttl=1000)
    state.save("brief", 1, ttl=0.001)
    state.checkpoint("one")
    state.delete("k3")
    with state.transaction() as many:
        many.save("é", "\u202e")
        many.save("k0", [1])
    state.checkpoint("two")
    state.save("k3", 10**30)
    state.save("lease", 2)
    state.checkpoint("one")


def errors(report: DoctorReport) -> list[Finding]:
    return [one for one in report.findings if one.severity == "error"]


def said(report: DoctorReport) -> str:
    return "\n".join(f"{one.severity}: {one.subject}: {one.found}" for one in report.findings)


@pytest.fixture
def state(store_url: str) -> Iterator[StateManager]:
    with StateManager(store_url, "main") as manager:
        fill(manager)
        yield manager


@pytest.fixture(params=FILES)
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StateManager]:
    with StateManager(f"{request.param}:{tmp_path / 'store'}", "main") as manager:
        fill(manager)
        yield manager


def folder_of(state: StateManager) -> Path:
    return Path(state.url.partition(":")[2]) / state.namespace


# --- what is sound ------------------------------------------------------------------------------------------------


def test_what_is_sound_has_no_errors_and_stays_as_it_is(state: StateManager, kind: str) -> None:
    before = [(entry.key, entry.value, entry.revision) for entry in state.at("live").entries()], state.log()
    told: list[str] = []
    report = state.doctor(told.append)
    assert report.ok
    assert [one for one in report.findings if one.subject != state.url] == []  # a test's server keeps nothing: warned
    assert (report.namespace, report.revision) == ("main", state.revision)
    assert any("checkpoint two" in text for text in told)
    assert ([(entry.key, entry.value, entry.revision) for entry in state.at("live").entries()], state.log()) == before


def test_what_is_sound_stays_so_through_the_acts(state: StateManager) -> None:
    state.restore_checkpoint("two")
    state.undo()
    state.rename("k1", "renamed")
    state.delete_checkpoint("two")
    assert errors(state.doctor()) == []
    state.compact(state.revision)
    assert errors(state.doctor()) == []
    with state.fork("other", at="one") as other:
        assert errors(other.doctor()) == []


def test_a_short_history_is_sound(store_url: str) -> None:
    with StateManager(store_url, "main", history=20) as state:
        for number in range(400):
            if number % 5:
                state.save(f"k{number % 11}", number)
            else:
                state.delete(f"k{number % 11}")
            if number % 97 == 0:
                state.checkpoint(f"c{number}")
        assert state.head().floor > 300
        assert errors(state.doctor()) == []


def test_where_nothing_is_there_is_nothing_wrong(store_url: str) -> None:
    with StateManager(store_url, "never") as state:
        report = state.doctor()
        assert (report.ok, report.revision) == (True, 0)
        assert state.namespaces() == []


def test_among_writers_it_finds_nothing_wrong(store_url: str) -> None:
    done = threading.Event()
    with StateManager(store_url, "main", history=50) as state, StateManager(store_url, "main", history=50) as writer:
        fill(state)

        def write() -> None:
            number = 0
            while not done.is_set():
                number += 1
                writer.save(f"k{number % 7}", number)
                writer.delete(f"k{(number + 3) % 7}")
                if number % 10 == 0:
                    writer.checkpoint("moving")

        thread = threading.Thread(target=write)
        thread.start()
        try:
            for _ in range(8):
                assert errors(state.doctor()) == []
        finally:
            done.set()
            thread.join()


def test_who_listens_may_stop_it(state: StateManager) -> None:
    def stop(text: str) -> None:
        if text.startswith("checkpoint"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        state.doctor(stop)
    assert state.doctor().ok


def test_files_are_not_changed(files: StateManager) -> None:
    files.close()
    folder = folder_of(files)
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*.*") if path.is_file()}
    assert files.doctor().findings == ()
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in before} == before


# --- the command --------------------------------------------------------------------------------------------------


def test_the_command_says_what_to_do_and_exits_with_3(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with StateManager("json:store", "main") as state:
        fill(state)
    assert main(["doctor", "json:store", "-n", "main"]) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "is sound, revision" in captured.err
    (folder / "store" / "main" / "state.json.tmp-999999999-1").touch()
    assert main(["doctor", "json:store", "-n", "main", "--format", "json"]) == 0
    (one,) = json.loads(capsys.readouterr().out)
    assert one["severity"] == "warning"
    assert "process that is gone" in one["found"]
    history = folder / "store" / "main" / "history.jsonl"
    history.write_bytes(history.read_bytes().replace(b"k1", b"k9", 1))
    assert main(["doctor", "json:store", "-n", "main"]) == 3
    assert "'stateview -s json:store -n main recover'" in capsys.readouterr().out
    for words in (["doctor"], ["recover"], ["prune", "--keep", "1"], ["compact"]):
        assert main([*words, "-s", "json:store", "-n", "nothing"]) == 1
        assert "does not exist. The store has main: choose one by --namespace" in capsys.readouterr().err


@pytest.mark.parametrize("data", [b"", b"this is no database\n" * 500, b"\0" * 8192], ids=["empty", "text", "zeros"])
def test_a_database_that_cannot_be_opened_is_a_finding(
    folder: Path, data: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    place = folder / "store" / "main"
    place.mkdir(parents=True)
    (place / "state.db").write_bytes(data)
    assert main(["doctor", "sqlite:store", "-n", "main", "--format", "json"]) == 3
    (one,) = json.loads(capsys.readouterr().out)
    assert one["severity"] == "error"
    assert "recover" in one["remedy"]
    assert (place / "state.db").read_bytes() == data


def test_a_server_that_does_not_answer_is_a_finding(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "redis://127.0.0.1:1", "-n", "main", "--format", "json"]) == 3
    (one,) = json.loads(capsys.readouterr().out)
    assert "does not answer" in one["found"]


# --- folders ------------------------------------------------------------------------------------------------------


def test_what_is_left_over_is_said(files: StateManager) -> None:
    folder = folder_of(files)
    (folder / "state.json.tmp-999999999-1").touch()
    (folder / f"state.json.tmp-{os.getpid()}-1").touch()
    (folder / "state.json.damaged-20250101T000000Z").touch()
    (folder / f"migrating-{files.backend.kind}").mkdir()
    (folder / "before-migrate-20250101T000000Z").mkdir()
    report = files.doctor()
    assert report.ok
    assert sorted(one.severity for one in report.findings) == ["note", "note", "note", "warning", "warning"]
    for word in ("gone", "which runs", "recover", "not finished", "migration replaced"):
        assert word in said(report)


def test_a_lock_that_is_held_is_said_and_one_that_is_not_is_fine(files: StateManager) -> None:
    with open(folder_of(files) / "lock", "rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        (one,) = files.doctor().findings
        assert one.severity == "note"
        assert f"process {os.getpid()}" in one.found
    assert files.doctor().findings == ()


def test_permissions_are_said(files: StateManager) -> None:
    folder = folder_of(files)
    folder.chmod(0o777)
    (one,) = files.doctor().findings
    assert "every user" in one.found
    folder.chmod(0o755)
    assert files.doctor().findings == ()


@pytest.mark.parametrize("kind", FILES)
def test_what_may_not_be_read_or_written_is_said(kind: str, tmp_path: Path) -> None:
    with StateManager(f"{kind}:{tmp_path}", "main") as state:
        fill(state)
    files = [path for path in folder_of(state).iterdir() if path.is_file()]

    def look() -> str:
        with StateManager(state.url, "main") as other:
            return said(other.doctor())

    assert state.doctor().findings == ()
    assert "this user may not write" in as_another_user(tmp_path, look)
    for path in files:
        path.chmod(0o600)
    assert "this user may not read" in as_another_user(tmp_path, look)


@pytest.mark.parametrize("kind", FILES)
def test_a_namespace_that_may_not_be_read_is_not_left_out(kind: str, tmp_path: Path) -> None:
    url = f"{kind}:{tmp_path / 'store'}"
    for name in ("hidden", "main"):
        with StateManager(url, name) as state:
            state.save("k", 1)
    (tmp_path / "store" / "lost+found").mkdir(mode=0o700)
    (tmp_path / "store" / "empty").mkdir()
    (tmp_path / "store" / "hidden").chmod(0o700)
    with StateManager(url, "main") as state:
        assert as_another_user(tmp_path, lambda: str(state.namespaces())) == "['hidden', 'main']"
    other = "json" if kind == "sqlite" else "sqlite"
    assert told(["migrate", url, f"{other}:{tmp_path / 'first'}", "--all"])[0] == "0"  # who is another may not import
    assert told(["stats", "--all", "-s", url])[0] == "0"
    acts = (
        ["stats", "--all", "-s", url],
        ["migrate", url, f"{other}:{tmp_path / 'second'}", "--all"],
        ["stats", "-s", url, "-n", "hidden"],
    )
    for words in acts:
        code, _, text = as_another_user(tmp_path, lambda words=words: told(words)).partition("\n")  # type: ignore[misc]
        assert code == "3", text
        assert "store/hidden" in text


@pytest.mark.parametrize("kind", FILES)
def test_what_only_reads_needs_no_right_to_write(kind: str, tmp_path: Path) -> None:
    url = f"{kind}:{tmp_path / 'store'}"
    with StateManager(url, "main") as state:
        fill(state)
    acts = [["stats"], ["prune", "one", "--dry-run"], ["compact", "--dry-run"], ["stats", "--all"], ["doctor"]]
    for words in acts:
        words += ["-s", url, *([] if "--all" in words else ["-n", "main"]), "--format", "json"]
        expected = told(words).partition("\n")[2]
        code, _, text = as_another_user(tmp_path, lambda words=words: told(words)).partition("\n")  # type: ignore[misc]
        assert code == "0", text
        assert words[0] == "doctor" or text == expected
    code, _, text = as_another_user(
        tmp_path, lambda: told(["prune", "one", "--yes", "-s", url, "-n", "main"])
    ).partition("\n")
    assert code == "3", text
    assert "store/main" in text


def test_sqlite_a_log_that_may_only_be_read_is_no_damage(sqlite_state: StateManager, tmp_path: Path) -> None:
    words = ["doctor", sqlite_state.url, "-n", "main"]
    told(words)
    with contextlib.closing(apsw.Connection(str(folder_of(sqlite_state) / "state.db"))) as held:
        held.execute("SELECT count(*) FROM meta").fetchall()
        sqlite_state.save("k", 1)  # into the log, which stays as long as it is held open
        code, _, text = as_another_user(tmp_path, lambda: told(words)).partition("\n")
    assert code == "0", text


@pytest.mark.parametrize("kind", FILES)
def test_a_network_file_system_and_a_full_disk_are_said(kind: str, tmp_path: Path, monkeypatch: Any) -> None:
    from stateview.backends.files import folder_checks as file_doctor

    with StateManager(f"{kind}:{tmp_path}", "main") as state:
        fill(state)
    real = os.statvfs(tmp_path)
    monkeypatch.setattr(file_doctor, "is_network_filesystem", lambda path: True)
    monkeypatch.setattr(sqlite_doctor, "is_network_filesystem", lambda path: True)
    full = os.statvfs_result([*real[:4], 1, *real[5:]])
    monkeypatch.setattr("os.statvfs", lambda path: full)
    report = state.doctor()
    assert "network file system" in said(report)
    assert "MB are free" in said(report)
    assert report.ok == (kind == "json")  # WAL does not work there


# --- JSON files ---------------------------------------------------------------------------------------------------


@pytest.fixture
def json_state(tmp_path: Path) -> Iterator[StateManager]:
    with StateManager(f"json:{tmp_path}", "main") as manager:
        fill(manager)
        yield manager


def rot(path: Path, old: bytes, new: bytes) -> None:
    """Other bytes in a file, and its time as it was."""
    found = path.stat().st_mtime_ns
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new, 1))
    os.utime(path, ns=(found, found))


def end_otherwise(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1] + b"x")


def remove(folder: Path, name: str) -> None:
    (folder / name).unlink()


JSON_DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a line": (lambda folder: rot(folder / "history.jsonl", b"k4", b"k9"), "line 6 is not what was written"),
    "its end": (lambda folder: end_otherwise(folder / "history.jsonl"), "end of the last line"),
    "no commit": (lambda folder: (folder / "history.jsonl").write_bytes(b""), "holds no commit"),
    "no history": (lambda folder: remove(folder, "history.jsonl"), "missing, and state.json refers"),
    "rot": (lambda folder: rot(folder / "state.json", b'"n": 2', b'"n": 8'), "was not edited since"),
    "no state": (lambda folder: remove(folder, "state.json"), "state.json: it is missing"),
    "a checkpoint": (lambda folder: rot(folder / "checkpoints" / "two.json", b"k1", b"kX"), "two.json: it is not"),
}  # fmt: skip


@pytest.mark.parametrize("what", JSON_DAMAGE)
def test_json_damage_is_an_error_that_recover_mends(json_state: StateManager, what: str) -> None:
    damage, words = JSON_DAMAGE[what]
    damage(folder_of(json_state))
    report = json_state.doctor()
    assert not report.ok
    assert words in said(report)
    assert all(one.meaning and "recover" in one.remedy for one in errors(report))
    json_state.recover()
    assert errors(json_state.doctor()) == []


def test_json_edits_are_a_warning_and_are_not_taken_in(json_state: StateManager) -> None:
    path = folder_of(json_state) / "state.json"
    path.write_text(path.read_text().replace('"n": 29', '"n": 99'))
    edited = path.read_bytes()
    report = json_state.doctor()
    assert [one.severity for one in report.findings] == ["warning"]
    assert "edited outside" in said(report)
    assert path.read_bytes() == edited
    path.write_text(path.read_text().replace("{", "[", 1))
    report = json_state.doctor()
    assert "line 2 column" in said(report)
    assert not report.ok


def test_json_older_data_is_a_note_and_stays(tmp_path: Path) -> None:
    folder = tmp_path / "main"
    folder.mkdir()
    (folder / "state.json").write_text('{"a": {"value": 1, "timestamp": "2025-01-01T00:00:00"}}')
    with StateManager(f"json:{tmp_path}", "main") as state:
        report = state.doctor()
    assert [one.severity for one in report.findings] == ["note"]
    assert "older layout" in said(report)
    assert [path.name for path in folder.iterdir()] == ["state.json"]


def test_json_a_checkpoint_file_of_no_checkpoint_is_a_warning(json_state: StateManager) -> None:
    folder = folder_of(json_state) / "checkpoints"
    shutil.copy(folder / "one.json", folder / "stray.json")
    report = json_state.doctor()
    assert [one.severity for one in report.findings] == ["warning"]
    assert "no checkpoint has this name" in said(report)


def test_json_a_commit_that_was_cut_off_is_a_note_and_is_finished_once(
    json_state: StateManager, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = folder_of(json_state)
    before, found = (folder / "state.json").read_bytes(), (folder / "state.json").stat().st_mtime_ns
    json_state.save("last", 1)
    (folder / "state.json").write_bytes(before)
    os.utime(folder / "state.json", ns=(found, found))
    report = json_state.doctor()
    assert [one.severity for one in report.findings] == ["note"]
    assert "does not show revision" in said(report)
    with open(folder / "history.jsonl", "ab") as history:
        history.write(b'{"sum":"0123456789abcdef","rev":7,"time')
    assert "is incomplete" in said(json_state.doctor())
    with StateManager(json_state.url, "main") as other:
        other.save("next", 1)
        assert (other.load("last"), other.doctor().findings) == (1, ())
    assert capsys.readouterr().err.count("was missing revision") == 1


# --- SQLite -------------------------------------------------------------------------------------------------------


@pytest.fixture
def sqlite_state(tmp_path: Path) -> Iterator[StateManager]:
    with StateManager(f"sqlite:{tmp_path}", "main") as manager:
        fill(manager)
        manager.close()
        yield manager


def edit(state: StateManager, *statements: str, checksums: bool = True) -> None:
    """Statements of another program, which knows of the pages' checksums or does not."""
    path = str(folder_of(state) / "state.db")
    if checksums:
        db = apsw.Connection(path, vfs="cksmvfs")
        for statement in statements:
            db.execute(statement)
        db.close()
        return
    with plain_sqlite(Path(path)) as plain:
        for statement in statements:
            plain.execute(statement)


SQLITE_DAMAGE = {
    "a value": (["UPDATE entries SET value = '9' WHERE key = 'k1'"], "1 row of the table entries"),
    "a version": (["UPDATE versions SET until = until + 1 WHERE key = 'k2' AND revision = 3"], "table versions"),
    "a mark": (["UPDATE marks SET revision = 7 WHERE name = 'two'"], "table marks"),
    "a commit": (["UPDATE commits SET reason = 'x' WHERE revision = 5"], "table commits"),
    "no commit": (["DELETE FROM commits WHERE revision = 5"], "what the commits touched"),
    "no entry": (["DELETE FROM entries WHERE key = 'k1'"], "what the commits touched"),
    "no version": (["DELETE FROM versions WHERE key = 'k1' AND revision = 2"], "what the commits touched"),
    "no touch": (["DELETE FROM touched WHERE key = 'k0'"], "what the commits touched"),
    "no meta": (["DELETE FROM meta"], "the table meta is empty"),
    "no table": (["DROP TABLE touched"], "touched is missing"),
    "an index": (["PRAGMA writable_schema = ON", "DELETE FROM sqlite_schema WHERE name = 'marks_revision'"], ""),
}


@pytest.mark.parametrize("what", SQLITE_DAMAGE)
def test_sqlite_damage_is_an_error_that_recover_mends(
    sqlite_state: StateManager, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stateview.backends.sqlite.backend.TRUST_SECONDS", 0.0)
    monkeypatch.setattr("stateview.backends.sqlite.connections.database.SMALL_FILE_BYTES", 0)
    statements, words = SQLITE_DAMAGE[what]
    edit(sqlite_state, *statements)
    report = sqlite_state.doctor()
    assert not report.ok
    assert words in said(report)
    assert all(one.meaning and "recover" in one.remedy for one in errors(report))
    sqlite_state.recover()
    assert errors(sqlite_state.doctor()) == []


def test_sqlite_a_page_that_was_not_written_by_us_is_an_error(sqlite_state: StateManager) -> None:
    edit(sqlite_state, "UPDATE entries SET value = '9' WHERE key = 'k1'", checksums=False)
    report = sqlite_state.doctor()
    assert "page" in said(report)
    assert not report.ok
    assert "the value of key 'k1'" in [one.subject for one in sqlite_state.recover().problems if not one.mended]
    assert errors(sqlite_state.doctor()) == []


def test_sqlite_every_flipped_bit_of_what_is_used_is_an_error(
    sqlite_state: StateManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stateview.backends.sqlite.backend.TRUST_SECONDS", 0.0)
    path = folder_of(sqlite_state) / "state.db"
    data = path.read_bytes()
    chance = random.Random(7)
    for place in chance.sample([place for place, byte in enumerate(data) if byte], 60):
        path.write_bytes(data[:place] + bytes([data[place] ^ (1 << chance.randrange(8))]) + data[place + 1 :])
        assert not sqlite_state.doctor().ok, place
        sqlite_state.recover()
        assert errors(sqlite_state.doctor()) == []
        for left in path.parent.glob("state.db*"):
            left.unlink()


@pytest.mark.parametrize(
    ("version", "bad"),
    [("3.7.0", True), ("3.40.1", True), ("3.44.6", False), ("3.50.6", True), ("3.50.7", False), ("3.51.2", True),
     ("3.51.3", False), ("3.54.1", False)],
)  # fmt: skip
def test_sqlite_versions_that_lose_commits_are_warned_of(version: str, bad: bool) -> None:
    assert bool(list(sqlite_doctor._check_library(version))) == bad


def test_sqlite_settings_are_said(sqlite_state: StateManager, monkeypatch: pytest.MonkeyPatch) -> None:
    edit(sqlite_state, "PRAGMA journal_mode = DELETE")
    assert "journal mode is delete" in said(sqlite_state.doctor())
    edit(sqlite_state, "PRAGMA journal_mode = WAL")
    assert sqlite_state.doctor().findings == ()
    for number in range(40):
        sqlite_state.save("large", "x" * 100_000 + str(number))
    monkeypatch.setattr(sqlite_doctor, "LARGE_WAL_BYTES", 1000)
    assert "log (-wal) has grown" in said(sqlite_state.doctor())
    sqlite_state.backend.compact(sqlite_state.revision)
    sqlite_state.delete("large")
    with StateManager(sqlite_state.url, "main") as other, other.backend._connection() as db:  # type: ignore[attr-defined]
        db.execute("CREATE TABLE filler (x); INSERT INTO filler VALUES (zeroblob(3000000)); DROP TABLE filler")
    assert "pages are free" in said(sqlite_state.doctor())


def test_sqlite_a_log_without_its_database_is_an_error(sqlite_state: StateManager) -> None:
    path = folder_of(sqlite_state) / "state.db"
    path.rename(path.with_name("state.db-wal"))
    assert "is missing, and its wal file is there" in said(sqlite_state.doctor())


# --- Redis --------------------------------------------------------------------------------------------------------


@pytest.fixture(params=list(REDIS))
def redis_state(request: pytest.FixtureRequest, new_store: Callable[[str], str]) -> Iterator[tuple[StateManager, Any]]:
    url = new_store(request.param)
    with StateManager(url, "main") as manager, redis.Redis.from_url(url) as client:
        fill(manager)
        yield manager, client


P = "stateview:{main}:"
REDIS_DAMAGE: dict[str, tuple[Callable[[Any], Any], str]] = {
    "a type": (lambda c: (c.delete(P + "hindex"), c.set(P + "hindex", "x")), "wrong-type"),
    "the history's type": (lambda c: (c.delete(P + "history"), c.set(P + "history", "x")), "wrong-type"),
    "an expiry of all": (lambda c: c.expire(P + "live", 1000), "expiry-set"),
    "the head": (lambda c: c.hset(P + "head", "revision", "x"), "head-unreadable"),
    "no head at all": (lambda c: c.delete(P + "head"), "head-unreadable"),
    "the head's type": (lambda c: (c.delete(P + "head"), c.set(P + "head", "x")), "wrong-type"),
    "no head": (lambda c: c.hdel(P + "head", "lineage"), "head-unreadable"),
    "an entry": (lambda c: c.hset(P + "live", "k1", "rotten"), "entries-unreadable"),
    "a value": (lambda c: c.hset(P + "live", "k1", b"30 1 0 {"), "entries-unreadable"),
    "a name": (lambda c: (c.hset(P + "live", b"\xff", "1 1 0 1"), c.zadd(P + "index", {b"\xff": 0})), "not a key"),
    "an index": (lambda c: c.zrem(P + "index", "k1"), "not-indexed"),
    "a bare name": (lambda c: c.zadd(P + "index", {"bare": 0}), "value-missing"),
    "an expiry": (lambda c: c.zadd(P + "expiry", {"k1": 5}), "wrong-expiry"),
    "a version": (lambda c: c.hset(P + "history", b"k1\0" + b"%016d" % 2, "rotten"), "versions-unreadable"),
    "a version's index": (lambda c: unlist(c, P + "hindex", b"k1\0" + b"%016d" % 2), "not-indexed"),
    "a version's end": (lambda c: c.hset(P + "history", b"k1\0" + b"%016d" % 2, b"7 1 0 V{}"), "do not follow"),
    "no version": (lambda c: (c.hdel(P + "history", b"k1\0" + b"%016d" % 9),
                              unlist(c, P + "hindex", b"k1\0" + b"%016d" % 9)), "do not follow"),
    "a touch": (lambda c: c.zremrangebylex(P + "writes", "-", "+"), "disagree about"),
    "a commit": (lambda c: c.hset(P + "commits", "5", "x"), "commits-unreadable"),
    "no commit": (lambda c: c.hdel(P + "commits", "5", "6"), "the commits of 2 revisions are missing"),
    "a mark's place": (lambda c: c.zrem(P + "marks", "two@34"), "checkpoint-misplaced"),
    "a mark's note": (lambda c: c.hset(P + "notes", "two@34", "x"), "checkpoint-unreadable"),
    "how many marks": (lambda c: c.hdel(P + "notes", "name:two"), "checkpoint-count"),
    "the registry": (lambda c: c.srem("stateview:namespaces", "main"), "not-registered"),
}  # fmt: skip


@pytest.mark.parametrize("what", REDIS_DAMAGE)
def test_redis_damage_is_an_error_that_recover_mends_or_names(redis_state: tuple[StateManager, Any], what: str) -> None:
    state, client = redis_state
    assert state.checkpoints()[0].ref == "two", "two@34 is meant below"
    assert state.checkpoints()[0].revision == 34
    damage, words = REDIS_DAMAGE[what]
    right = {ref: {one.key: one.value for one in state.at(ref).entries()} for ref in ("live", "one", "two")}
    damage(client)
    report = state.doctor()
    assert not report.ok
    assert words in said(report) + " ".join(one.code for one in report.findings)
    assert all(one.code and one.meaning and "recover" in one.remedy for one in errors(report)), report
    mended = state.recover()
    assert mended.problems
    assert errors(state.doctor()) == []
    assert state.recover().problems == ()
    lost = " ".join(f"{one.subject} {one.found} {one.done}" for one in mended.problems if not one.mended)
    for ref, content in right.items():
        try:
            found = {one.key: one.value for one in state.at(ref).entries()}
        except StateException:
            assert ref in lost
            continue
        for key in content.keys() | found.keys():
            assert found.get(key) == content.get(key) or repr(key) in lost or "history" in lost, (ref, key, mended)
    assert state.save("after", 1) == state.revision


@pytest.fixture(params=list(REDIS))
def server(request: pytest.FixtureRequest) -> Callable[..., Any]:
    def start(*options: str) -> Any:
        return redis_servers.running(REDIS[request.param], *options)

    return start


@pytest.mark.parametrize(
    ("options", "severity", "words"),
    [
        ((), "warning", "no snapshots"),
        (("--save", "60 1"), "warning", "appendonly no; snapshots"),
        (("--appendonly", "yes", "--appendfsync", "no"), "warning", "appendfsync no"),
        (("--appendonly", "yes", "--appendfsync", "everysec"), "note", "appendfsync everysec"),
        (("--appendonly", "yes", "--appendfsync", "always"), "", ""),
        (("--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"), "warning", "allkeys-lru"),
        (("--maxmemory", "100mb", "--maxmemory-policy", "volatile-lru"), "warning", "no snapshots"),
    ],
)  # fmt: skip
def test_redis_settings_that_would_lose_state_are_said(
    server: Callable[..., Any], options: tuple[str, ...], severity: str, words: str
) -> None:
    with server(*options) as url, StateManager(f"{url}?allow_eviction=1", "main") as state:
        state.save("a", 1)
        report = state.doctor()
        assert report.ok
        if not words:
            assert report.findings == ()
        else:
            assert any(one.severity == severity and words in one.found for one in report.findings), report
            assert all(one.code for one in report.findings)
        if "volatile-lru" in options:
            assert len(report.findings) == 1


def test_redis_what_migrations_left_is_said(redis_state: tuple[StateManager, Any]) -> None:
    state, client = redis_state
    with StateManager(state.url, "other") as other:
        other.save("k", 1)
        for name in client.keys("stateview:{other}:*"):
            parts = name.decode().split(":")
            client.copy(name, f"{parts[0]}:{{{state.namespace}}}:before-migrate-20250101T000000Z-abcd:{parts[2]}")
            client.copy(name, f"{parts[0]}:{{{state.namespace}}}X:before-migrate-20250101T000000Z-abcd:{parts[2]}")
    receiver = state.backend.open_staging()
    receiver.put(note={"n": 1})
    receiver.close()
    told = [one for one in state.doctor().findings if "migrat" in one.subject]
    assert [(one.severity, one.subject.partition("}:")[2]) for one in told] == [
        ("warning", "migrating:receiver"), ("note", "before-migrate-20250101T000000Z-abcd:*"),
    ]  # fmt: skip
    state.backend.drop()
    assert [one for one in state.doctor().findings if "migrat" in one.subject] == told


def test_redis_a_memory_that_is_almost_full_is_said(server: Callable[..., Any]) -> None:
    with server() as url, StateManager(url, "main") as state, redis.Redis.from_url(url) as client:
        state.save("a", 1)
        client.config_set("maxmemory", int(client.info("memory")["used_memory"] * 1.05))
        assert "of its memory is used" in said(state.doctor())


def test_redis_a_replica_and_what_may_not_be_asked_are_said(server: Callable[..., Any]) -> None:
    with server("--rename-command", "CONFIG", "") as url:
        with StateManager(url, "main") as state:
            fill(state)
            report = state.doctor()
            assert report.ok
            assert any(one.severity == "note" and "CONFIG GET is not allowed" in one.found for one in report.findings)
        with redis.Redis.from_url(url) as client:
            client.acl_setuser(
                "poor", enabled=True, passwords=["+x"], keys=["*"], commands=["+@all", "-info", "-config"]
            )
        with StateManager(url.replace("//", "//poor:x@"), "main") as state:
            report = state.doctor()
            assert report.ok
            assert sum("is not allowed" in one.found for one in report.findings) == 2
        port = url.rpartition(":")[2]
        with server("--replicaof", f"127.0.0.1 {port}") as copy, StateManager(copy, "main") as replica:
            for _ in range(100):
                with redis.Redis.from_url(copy) as client:
                    if client.info("replication")["master_link_status"] == "up":
                        break
                threading.Event().wait(0.1)
            report = replica.doctor()
            assert report.ok
            assert "it is a replica, its link to the primary up" in said(report)


def test_redis_a_clock_that_is_off_is_said(redis_state: tuple[StateManager, Any], monkeypatch: Any) -> None:
    state, _ = redis_state
    monkeypatch.setattr("stateview.backends.redis.connections.contact.now", lambda: 1_000_000)
    assert "its clock is" in said(state.doctor())


def test_json_a_checkpoint_whose_file_is_still_being_written_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    appended, rename = threading.Event(), os.rename

    def late(old: str, new: str) -> None:
        if new.endswith("one.json"):
            appended.set()
            time.sleep(0.15)  # the inspection comes first
        rename(old, new)

    with StateManager(f"json:{tmp_path}", "main") as state, StateManager(f"json:{tmp_path}", "main") as writer:
        writer.save("k", 1)
        monkeypatch.setattr(os, "rename", late)
        thread = threading.Thread(target=writer.checkpoint, args=("one",))
        thread.start()
        assert appended.wait(20)
        assert errors(state.doctor()) == []
        thread.join()


def test_sqlite_a_commit_on_its_way_is_no_damage(sqlite_state: StateManager) -> None:
    program = """
import sys
from itertools import count
from stateview import StateManager
with StateManager(sys.argv[1], "main") as state:
    for number in count():
        state.save(f"k{number % 50}", "x" * (number % 3000))
        number or print(flush=True)
"""
    command = [sys.executable, "-c", program, sqlite_state.url]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
        try:
            assert writer.stdout is not None
            writer.stdout.readline()
            for _ in range(20):
                assert sqlite_state.doctor().ok
        finally:
            writer.kill()
