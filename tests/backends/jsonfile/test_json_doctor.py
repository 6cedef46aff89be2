"""Every finding about a JSON namespace and its folder has a code that programs can rely on."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec import Raw

from stateview import StateManager
from stateview.backends.files import folder_checks
from stateview.backends.jsonfile.backend import JSONBackend
from stateview.backends.jsonfile.history import History
from stateview.backends.jsonfile.records import CheckpointEntry, CommitRecord, ValueRecord, add_checksum


@pytest.fixture
def backend(tmp_path: Path) -> JSONBackend:
    with StateManager(f"json:{tmp_path}", "main") as state:
        state.save("a", "first")
        state.checkpoint("one")
        state.save("a", "second")
        state.save("b", 2)
    return JSONBackend(str(tmp_path), "main", read_only=True)


def codes(backend: JSONBackend) -> list[str]:
    return [finding.code for finding in backend.diagnose(lambda _text: None)]


def replace(path: Path, old: bytes, new: bytes, later: int = 0) -> None:
    """Change a file's bytes, and its time by some seconds."""
    time = path.stat().st_mtime_ns + later * 10**9
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new, 1))
    os.utime(path, ns=(time, time))


def rewrite(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(change(path.read_bytes()))


def drop_line(path: Path, number: int) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    del lines[number]
    path.write_bytes(b"".join(lines))


def state_of_before(folder: Path) -> None:
    """Make state.json that of the commit before the last, as in the middle of a commit."""
    path = folder / "state.json"
    before = json.loads(path.read_bytes())
    del before["b"]
    replace(path, path.read_bytes(), json.dumps(before, indent=2).encode() + b"\n")


FILES: dict[str, Callable[[Path], Any]] = {
    "history-missing": lambda folder: (folder / "history.jsonl").unlink(),
    "history-line-damaged": lambda folder: replace(folder / "history.jsonl", b"first", b"fIrst"),
    "history-line-missing": lambda folder: drop_line(folder / "history.jsonl", 1),
    "history-end-damaged": lambda folder: rewrite(folder / "history.jsonl", lambda data: data[:-1] + b"x"),
    "history-line-unfinished": lambda folder: rewrite(folder / "history.jsonl", lambda data: data + b'{"sum":"'),
    "history-empty": lambda folder: (folder / "history.jsonl").write_bytes(b""),
    "state-missing": lambda folder: (folder / "state.json").unlink(),
    "state-behind": state_of_before,
    "state-damaged": lambda folder: replace(folder / "state.json", b"second", b"secOnd"),
    "edited": lambda folder: replace(folder / "state.json", b"second", b"third", 1),
    "edit-invalid": lambda folder: replace(folder / "state.json", b"{", b"[", 1),
    "history-truncated": lambda folder: replace(folder / "state.json", b'"revision": 3', b'"revision": 9', 1),
    "checkpoint-file-missing": lambda folder: (folder / "checkpoints" / "one.json").unlink(),
    "checkpoint-file-damaged": lambda folder: replace(folder / "checkpoints" / "one.json", b"first", b"fIrst"),
    "checkpoint-unknown": lambda folder: (folder / "checkpoints" / "two.json").write_bytes(b"{}\n"),
    "stale-temporary-file": lambda folder: (folder / "state.json.tmp-999999999-1").touch(),
    "temporary-file": lambda folder: (folder / f"state.json.tmp-{os.getpid()}-1").touch(),
    "damaged-file-kept": lambda folder: (folder / "state.json.damaged-20250101T000000Z").touch(),
    "unfinished-copy": lambda folder: (folder / "migrating-json").mkdir(),
    "replaced-namespace": lambda folder: (folder / "before-migrate-20250101T000000Z").mkdir(),
    "world-writable": lambda folder: folder.chmod(0o777),
}  # fmt: skip


@pytest.mark.parametrize("code", FILES)
def test_a_finding_about_files_has_a_code(backend: JSONBackend, code: str) -> None:
    assert codes(backend) == []
    FILES[code](Path(backend.folder))
    assert codes(backend) == [code]


def test_a_finding_about_a_history_that_was_rewritten_has_a_code(backend: JSONBackend) -> None:
    JSONBackend(backend.root, "main").compact(1)
    assert codes(backend) == []
    drop_line(Path(backend.history_path), -1)
    assert codes(backend) == ["history-end-missing"]


def test_a_finding_about_a_folder_has_a_code(backend: JSONBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    with open(os.path.join(backend.folder, "lock"), "rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert codes(backend) == ["lock-held"]
    monkeypatch.setattr(folder_checks, "is_network_filesystem", lambda _path: True)
    assert codes(backend) == ["network-filesystem"]
    monkeypatch.undo()
    monkeypatch.setattr(folder_checks, "FREE_SPACE_FACTOR", 10**15)
    assert codes(backend) == ["low-disk-space"]


def test_a_finding_about_rights_has_a_code(backend: JSONBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: not mode & os.W_OK)
    assert set(codes(backend)) == {"no-write-permission"}
    monkeypatch.setattr("os.access", lambda path, mode: False)
    assert set(codes(backend)) == {"no-read-permission"}


def test_a_finding_about_an_older_layout_has_a_code(tmp_path: Path) -> None:
    (tmp_path / "main").mkdir()
    (tmp_path / "main" / "state.json").write_text('{"a": {"value": 1, "timestamp": "2025-01-01T00:00:00"}}')
    assert codes(JSONBackend(str(tmp_path), "main", read_only=True)) == ["legacy-layout"]


def test_a_namespace_that_others_write_to_all_the_time_has_a_code(backend: JSONBackend) -> None:
    writer = StateManager(f"json:{backend.root}", "main")
    findings = backend.diagnose(lambda text: text.startswith("checkpoint") and writer.save("a", 1))  # type: ignore[arg-type, func-returns-value]
    assert [finding.code for finding in findings] == ["busy"]


def test_a_history_is_read_in_time_that_grows_with_its_checkpoints_not_with_their_square() -> None:
    def seconds(many: int) -> float:
        """Processor time to read that many checkpoints, and to look each up."""
        lines = [
            add_checksum(CommitRecord(1, number, "d", "d", marks=[CheckpointEntry(f"c{number}", 1, number)]))[:-1]
            for number in range(many)
        ]
        lines.insert(0, add_checksum(CommitRecord(1, 0, "d", count=1, set={"k": ValueRecord(Raw(b"1"))}))[:-1])
        begun, history = time.process_time(), History()
        assert all(map(history.append_line, lines))
        assert all(history.marks.newest(f"c{number}") and history.is_kept(1) for number in range(many))
        return time.process_time() - begun

    few, many = (min(seconds(number) for _ in range(3)) for number in (1500, 6000))
    assert many < 9 * few  # four times as many take about four times as long
