"""What others do to the files of a JSON namespace: edit them, put earlier ones back, lose some of them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from stateview import Damaged, StateManager

SECOND = 10**9
PUT_BACK = "edited outside"


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"json:{tmp_path}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "main"


def put(path: Path, data: bytes, mtime: int | None = None) -> None:
    path.write_bytes(data)
    if mtime is not None:
        os.utime(path, ns=(mtime, mtime))


def states(url: str, folder: Path, end: str) -> list[tuple[bytes, int]]:
    """Save 1, 2, 3; the content and modification time of state.json after each."""
    kept = []
    with StateManager(url, "main") as state:
        for number in (1, 2, 3):
            state.save("a", number)
            path = folder / "state.json"
            kept.append((path.read_bytes(), path.stat().st_mtime_ns))
        if end == "checkpoint":
            state.checkpoint("c")
        elif end == "compacted":
            state.compact()
    return kept


@pytest.mark.parametrize("end", ["save", "checkpoint", "compacted"])
@pytest.mark.parametrize("back", [1, 2])
def test_an_earlier_state_put_back_by_hand_is_an_edit(
    url: str, folder: Path, capfd: pytest.CaptureFixture[str], back: int, end: str
) -> None:
    kept = states(url, folder, end)
    put(folder / "state.json", kept[-1 - back][0])
    with StateManager(url, "main", read_only=True) as state:
        assert state.load("a") == state.load("a", at="live") == 3 - back
        assert [one.value for one in state.history("a", 2)] == [3 - back, 3]
        assert [change.after for change in state.diff(3)] == [3 - back]
        assert [one.code for one in state.doctor().findings] == ["edited"]
        put(folder / "state.json", *kept[-1])
        assert state.load("a") == state.load("a", at="live") == state.revision == 3
        assert [one.value for one in state.history("a", 2)] == [3, 2] or end == "compacted"
        put(folder / "state.json", kept[-1 - back][0])
    with StateManager(url, "main") as state:
        assert state.load("a") == 3 - back
        assert state.log(1)[0].reason == PUT_BACK
        assert "was edited outside" in capfd.readouterr().err
        state.save("b", 1)
        assert state.doctor().findings == ()
        state.undo()
        state.undo()
        assert state.load("a") == 3


@pytest.mark.parametrize("open_before", [True, False])
def test_a_manager_that_is_open_sees_the_state_that_was_put_back(url: str, folder: Path, open_before: bool) -> None:
    kept = states(url, folder, "save")
    with StateManager(url, "main") as state:
        if open_before:
            assert state.load("a") == 3
        put(folder / "state.json", kept[1][0])
        assert state.load("a") == 2
        assert state.update("a", lambda value: value + 10) == 12


@pytest.mark.parametrize("back", [1, 2])
def test_an_earlier_state_of_an_old_time_is_no_edit(url: str, folder: Path, back: int) -> None:
    """It may be bit rot: an old time is no sign of a person."""
    kept = states(url, folder, "save")
    data, mtime = kept[-1 - back]
    put(folder / "state.json", data, mtime - SECOND)
    with StateManager(url, "main") as state:
        with pytest.raises(Damaged, match="recover"):
            state.load("a")
        assert state.recover().ok
        assert state.load("a") == 3


@pytest.mark.parametrize("act", ["load", "save"])
def test_the_file_that_a_killed_commit_left_is_completed(
    url: str, folder: Path, capfd: pytest.CaptureFixture[str], act: str
) -> None:
    (_, (data, mtime), _) = states(url, folder, "save")
    put(folder / "state.json", data, mtime)
    with StateManager(url, "main") as state:
        assert [one.severity for one in state.doctor().findings] == ["note"]
        assert state.load("a") == 3
        if act == "save":
            state.save("b", 1)
            assert "It has been completed" in capfd.readouterr().err
            assert state.load("a") == 3
            assert PUT_BACK not in [one.reason for one in state.log()]
            assert state.doctor().findings == ()


def test_a_line_of_an_earlier_release_has_no_time_of_the_file_before(
    url: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stateview.backends.jsonfile.reader._sign", lambda stat: (0, stat.st_size, stat.st_ino))
    (_, (data, mtime), _) = states(url, folder, "save")
    monkeypatch.undo()
    for time, right in ((mtime, 3), (None, 2)):
        put(folder / "state.json", data, time)
        with StateManager(url, "main", read_only=True) as state:
            assert state.load("a") == right


def test_state_and_history_put_back_together_are_an_earlier_state(url: str, folder: Path, tmp_path: Path) -> None:
    with StateManager(url, "main") as state:
        state.save("a", 1)
        state.checkpoint("one")
        shutil.copytree(folder, tmp_path / "copy")
        state.save("a", 2)
        state.checkpoint("one")
        state.checkpoint("two")
        assert [one.revision for one in state.log()] == [2, 1]  # the history is in memory
        for name in ("state.json", "history.jsonl", "checkpoints/one.json"):
            put(folder / name, (tmp_path / "copy" / name).read_bytes())
        assert state.load("a") == 1
        assert [one.revision for one in state.log()] == [1]
        assert state.list_checkpoints() == ["one"]
        state.save("b", 2)
        assert [one.revision for one in state.log()] == [2, 1]
    with StateManager(url, "main") as state:
        assert [one.revision for one in state.log()] == [2, 1]
        assert [one.code for one in state.doctor().findings] == ["checkpoint-unknown"]  # of `two`, which stayed
        assert (state.load("a"), state.load("b"), state.load("a", at="one")) == (1, 2, 1)


def test_an_edit_of_the_format_alone_is_taken_in_once(
    url: str, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    states(url, folder, "save")
    path = folder / "state.json"
    before, size = path.read_bytes(), (folder / "history.jsonl").stat().st_size
    put(path, before.replace(b"  ", b"\t"))
    for _ in range(3):
        with StateManager(url, "main") as state:
            assert state.load("a") == 3
    assert capfd.readouterr().err == ""
    assert path.read_bytes() == before
    assert (folder / "history.jsonl").read_bytes()[size:].count(b"\n") == 1


# --- checkpoints' files, which are copies ----------------------------------------------------------------------------


@pytest.mark.parametrize("gone", ["c.json", "."])
def test_a_copy_of_a_checkpoint_that_is_gone_is_a_note_and_can_be_made_again(url: str, folder: Path, gone: str) -> None:
    with StateManager(url, "main") as state:
        state.save("a", 1)
        state.checkpoint("c")
        state.checkpoint("d")
        state.save("a", 2)
        data = (folder / "checkpoints" / "c.json").read_bytes()
        if gone == ".":
            shutil.rmtree(folder / "checkpoints")
        else:
            (folder / "checkpoints" / gone).unlink()
        assert state.load("a", at="c") == 1
        assert state.doctor().ok
        assert {one.code for one in state.doctor().findings} == {"checkpoint-file-missing"}
        assert state.checkpoint("e") == "e"
        assert state.recover().ok
        assert (folder / "checkpoints" / "c.json").read_bytes() == data
        assert state.doctor().findings == ()


def test_an_earlier_copy_put_back_is_a_note(url: str, folder: Path) -> None:
    path = folder / "checkpoints" / "c.json"
    with StateManager(url, "main") as state:
        state.save("a", 1)
        state.checkpoint("c")
        earlier = path.read_bytes()
        state.save("a", 2)
        state.checkpoint("c")
        state.save("a", 3)
        put(path, earlier)
        assert [one.code for one in state.doctor().findings] == ["checkpoint-file-behind"]
        assert state.load("a", at="c") == 2
        assert state.recover().ok
        assert state.doctor().findings == ()


@pytest.mark.parametrize("act", ["move", "delete", "save"])
def test_an_edited_copy_of_a_checkpoint_is_never_lost(url: str, folder: Path, act: str) -> None:
    path = folder / "checkpoints" / "c.json"
    with StateManager(url, "main") as state:
        state.save("a", 1)
        state.checkpoint("c")
    edit = path.read_bytes().replace(b"1", b"7", 1)
    put(path, edit)
    with StateManager(url, "main") as state:
        assert [one.code for one in state.doctor().findings] == ["checkpoint-file-damaged"]
        assert state.load("a", at="c") == 1
        if act == "move":
            state.checkpoint("c")
        elif act == "delete":
            state.delete_checkpoint("c")
        else:
            state.save("a", 2)
    assert edit in [one.read_bytes() for one in path.parent.iterdir()]


# --- parts that are missing ------------------------------------------------------------------------------------------

READS: dict[str, Callable[[StateManager], object]] = {
    "load": lambda state: state.load("a", None),
    "list_keys": lambda state: state.list_keys(),
    "log": lambda state: state.log(),
    "list_checkpoints": lambda state: state.list_checkpoints(),
    "history": lambda state: state.history("a"),
    "at": lambda state: state.load("a", at="c"),
    "diff": lambda state: list(state.diff("c")),
    "save": lambda state: state.save("a", 9),
    "update": lambda state: state.update("a", lambda value: value, default=0),
    "checkpoint": lambda state: state.checkpoint("other"),
    "delete": lambda state: state.delete("a"),
    "compact": lambda state: state.compact(),
    "superseded": lambda state: state.backend.superseded(),
    "stats": lambda state: state.stats(),
}


@pytest.mark.parametrize("opened", [True, False], ids=["open", "opened anew"])
@pytest.mark.parametrize("gone", ["history.jsonl", "state.json"])
def test_a_part_that_is_missing_is_damage_to_whatever_meets_it(url: str, folder: Path, gone: str, opened: bool) -> None:
    with StateManager(url, "main") as state:
        state.save("a", 1)
        state.checkpoint("c")
        state.save("a", 2)
    for name, read in READS.items():
        with StateManager(url, "main") as state:
            if opened:
                assert (state.load("a"), len(state.log()), state.list_checkpoints()) == (2, 2, ["c"])
            (folder / gone).rename(folder / "aside")
            with pytest.raises(Damaged, match="recover"):
                read(state)
                pytest.fail(f"{name} answered")
            (folder / "aside").rename(folder / gone)
            assert state.load("a") == 2


def test_a_reader_of_an_older_layout_goes_on_after_another_process_has_adopted_it(url: str, folder: Path) -> None:
    folder.mkdir()
    (folder / "state.json").write_text('{"a": {"value": 1, "timestamp": "2025-01-01T00:00:00"}}')
    with StateManager(url, "main", read_only=True) as reader, StateManager(url, "main") as writer:
        assert (reader.load("a"), len(reader.log())) == (1, 1)
        writer.save("a", 2)
        writer.checkpoint("c")
        assert (reader.load("a"), len(reader.log()), reader.list_checkpoints()) == (2, 2, ["c"])
