"""The copies `checkpoints/NAME.json`: what they cost, and stores that have none (`checkpoint_files = false`)."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from stateview import StateManager
from stateview.backends.jsonfile import maintenance
from stateview.cli.program import main


def fill(state: StateManager) -> None:
    """Three checkpoints of two names."""
    for number in range(3):
        state.save("k", [number, "x" * 600])
        state.checkpoint(f"c{number % 2}")
    state.save("k", "live")


def files(folder: Path) -> set[str]:
    place = folder / "main" / "checkpoints"
    return set(os.listdir(place)) if place.is_dir() else set()


def opened(folder: Path, with_files: bool) -> StateManager:
    return StateManager(f"json:{folder}", "main", checkpoint_files=with_files)


def test_without_files_every_act_works_and_nothing_is_missed(tmp_path: Path) -> None:
    with opened(tmp_path, False) as state:
        fill(state)
        assert state.load("k", at="c0")[0] == state.load("k", at="c0@3")[0] == 2
        assert [change.key for change in state.diff("c1")] == ["k"]
        state.restore_checkpoint("c1")
        assert state.load("k")[0] == 1
        state.delete_checkpoint("c0@3")
        state.compact()
    assert not (tmp_path / "main" / "checkpoints").exists()
    for with_files in (False, True):  # another process need not know of the option
        with opened(tmp_path, with_files) as state:
            assert state.doctor().findings == ()
            assert state.recover().problems == ()
            state.save("k", with_files)
            state.compact(state.revision)
            assert state.doctor().findings == ()
            assert state.load("k", at="c0@1")[0] == 0
    assert files(tmp_path) == set()
    with opened(tmp_path, True) as state:
        state.checkpoint("later")
        assert state.doctor().findings == ()
        (tmp_path / "main" / "checkpoints" / "later.json").unlink()
        assert [finding.code for finding in state.doctor().findings] == ["checkpoint-file-missing"]
        assert state.recover().ok
    assert files(tmp_path) == {"later.json"}


@pytest.mark.parametrize("by_compact", [False, True])
def test_the_files_of_before_are_removed_unless_they_were_edited(tmp_path: Path, by_compact: bool) -> None:
    with opened(tmp_path, True) as state:
        fill(state)
        state.checkpoint("edited")
        state.save("k", "last")
    edited = tmp_path / "main" / "checkpoints" / "edited.json"
    edited.write_text("{}")
    with opened(tmp_path, False) as state:
        state.save("k", "no act on checkpoints")
        assert files(tmp_path) == {"c0.json", "c1.json", "edited.json"}
        if by_compact:
            state.compact()
        else:
            state.checkpoint("new")
        assert files(tmp_path) == {"edited.json"}
        state.checkpoint("edited")
        state.compact(state.revision)
    assert edited.read_text() == "{}"
    with opened(tmp_path, True) as state:
        assert [(one.severity, one.code) for one in state.doctor().findings] == [("note", "checkpoint-file-left")]
        assert state.recover().problems == ()
        assert state.load("k", at="c0@3")[0] == 2
        assert state.checkpoint("c1") == "c1"
    assert files(tmp_path) == {"edited.json", "c1.json"}


def test_what_a_process_that_ended_did_not_remove_is_removed_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(tmp_path, True) as state:
        fill(state)

    def ended(*_args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, opened(tmp_path, False) as state:
        patch.setattr(maintenance, "remove_leftover_checkpoints", ended)
        with pytest.raises(KeyboardInterrupt):
            state.checkpoint("new")
    assert files(tmp_path) == {"c0.json", "c1.json"}
    with opened(tmp_path, True) as state:
        assert {finding.code for finding in state.doctor().findings} == {"checkpoint-file-left"}
        assert state.load("k", at="c1")[0] == 1
        state.compact()
        assert files(tmp_path) == set()
        assert state.doctor().findings == ()


def test_a_recovery_from_damage_writes_no_files(tmp_path: Path) -> None:
    with opened(tmp_path, False) as state:
        fill(state)
    with opened(tmp_path, True) as state:
        state.checkpoint("copied")
    path = tmp_path / "main" / "history.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    lines[1] = lines[1].replace(b"save k", b"SAVE k")  # the first commit, whose value c0@1 shows
    path.write_bytes(b"".join(lines))
    with opened(tmp_path, True) as state:
        assert "lost-checkpoint" in [problem.code for problem in state.recover().problems]
        assert state.load("k", at="c1")[0] == 1
        assert [one for one in state.doctor().findings if one.code != "damaged-file-kept"] == []
    assert files(tmp_path) == {"copied.json"}


def test_a_copy_from_another_store_has_no_files(tmp_path: Path) -> None:
    with StateManager(f"sqlite:{tmp_path / 'from'}", "main") as source:
        fill(source)
    folder = tmp_path / "to"
    (tmp_path / "stateview.toml").write_text(f'[stores.plain]\nurl = "json:{folder}"\ncheckpoint_files = false\n')
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        with StateManager("sqlite:from", "main") as source:
            source.migrate_to("plain")
        with StateManager("plain", "main") as state:
            assert state.doctor().findings == ()
            state.checkpoint("more")
            with state.fork("other") as fork:
                fork.checkpoint("of the fork".replace(" ", "_"))
    assert files(folder) == set()
    assert not (folder / "other" / "checkpoints").exists()


def test_stats_name_what_the_files_cost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with opened(tmp_path, True) as state:
        fill(state)
        size = sum(path.stat().st_size for path in (tmp_path / "main" / "checkpoints").iterdir())
        stats = state.stats()
        assert stats.checkpoint_files == size > 1200
        assert stats.space is not None and stats.space > size
    command = ["stats", "--store", f"json:{tmp_path}", "-n", "main"]
    assert main([*command, "--format", "table"]) == 0
    assert "checkpoint files" in capsys.readouterr().out
    assert main([*command, "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["checkpoint_files"] == size
    with opened(tmp_path, False) as state:
        state.compact()
        assert state.stats().checkpoint_files == 0
    assert main([*command, "--format", "table"]) == 0
    assert "checkpoint files" not in capsys.readouterr().out
