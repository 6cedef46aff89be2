"""Every finding about a SQLite namespace has a code that programs can rely on."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from stateview import StateManager
from stateview.backends.sqlite import doctor
from stateview.backends.sqlite.backend import SQLiteBackend
from stateview.backends.sqlite.connections import database, page_checksums

DAMAGE = {
    "integrity-check": ["PRAGMA writable_schema = ON", "UPDATE sqlite_schema SET rootpage = 3 WHERE name = 'meta'"],
    "wrong-tables": ["DROP TABLE touched"],
    "damaged-rows": ["UPDATE entries SET value = '7' WHERE key = 'a'"],
    "meta-missing": ["DELETE FROM meta"],
    "touched-mismatch": ["DELETE FROM touched"],
    "entry-count": ["DELETE FROM entries WHERE key = 'b'", "DELETE FROM touched WHERE key = 'b'"],
    "commits-missing": ["DELETE FROM commits WHERE revision = 3"],
    "journal-mode": ["PRAGMA journal_mode = DELETE"],
    "free-pages": [
        "CREATE TABLE filler (x)", "INSERT INTO filler VALUES (zeroblob(3000000))", "DROP TABLE filler"
    ],
}  # fmt: skip


@pytest.fixture
def backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SQLiteBackend:
    monkeypatch.setattr(database, "SMALL_FILE_BYTES", 0)  # else a small damaged file is not opened at all
    with StateManager(f"sqlite:{tmp_path}", "ns") as state:
        with state.transaction() as many:
            many.save("a", 1)
            many.save("b", 2, ttl=3600)
        state.save("a", 2)
        state.save("c", 3)
    return SQLiteBackend(str(tmp_path), "ns", read_only=True)


def codes(backend: SQLiteBackend) -> list[str]:
    findings = list(backend.diagnose(lambda _text: None))
    backend.close()
    return [finding.code for finding in findings]


def beside(backend: SQLiteBackend, suffix: str, data: bytes) -> None:
    Path(backend.path + suffix).write_bytes(data)


@pytest.mark.parametrize("code", DAMAGE)
def test_what_statements_do_has_a_code(backend: SQLiteBackend, code: str) -> None:
    assert codes(backend) == []
    with closing(page_checksums.connect(backend.path)) as db:
        for statement in DAMAGE[code]:
            db.execute(statement).fetchall()
    assert code in codes(backend)


FILES: dict[str, Callable[[SQLiteBackend], None]] = {
    "database-missing": lambda backend: Path(backend.path).rename(backend.path + "-wal") and None,
    "database-unreadable": lambda backend: Path(backend.path).write_bytes(b"x" * 4096) and None,
    "rollback-journal": lambda backend: beside(backend, "-journal", bytes.fromhex("d9d505f920a163d7") + bytes(504)),
    "stray-journal": lambda backend: beside(backend, "-journal", b"x" * 512),
}


@pytest.mark.parametrize("code", FILES)
def test_what_lies_in_the_folder_has_a_code(backend: SQLiteBackend, code: str) -> None:
    FILES[code](backend)
    assert codes(backend) == [code]


def test_a_locked_database_has_a_code(backend: SQLiteBackend) -> None:
    with closing(page_checksums.connect(backend.path)) as db:
        db.execute("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE").fetchall()
        backend.timeout = 0.05
        assert codes(backend) == ["database-locked"]


def test_settings_and_the_library_have_codes(backend: SQLiteBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "is_network_filesystem", lambda _path: True)
    assert codes(backend) == ["wal-on-network"]
    monkeypatch.undo()
    monkeypatch.setattr(doctor, "LARGE_WAL_BYTES", -1)
    monkeypatch.setattr(doctor.os.path, "getsize", lambda path: 0 if path.endswith("db") else 1)
    beside(backend, "-wal", b"")
    assert "large-wal" in codes(backend)
    assert [finding.code for finding in doctor._check_library("3.51.2")] == ["unsafe-sqlite"]


def test_a_build_without_page_checksums_has_codes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_checksums, "vfs", lambda: None)
    backend = SQLiteBackend(str(tmp_path), "ns")
    with StateManager(f"sqlite:{tmp_path}", "ns") as state:
        state.save("a", 1)
    assert codes(backend) == ["no-checksum-vfs", "no-page-checksums"]
