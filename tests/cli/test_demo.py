"""The demo: walks through the main acts, and leaves a store that the lines it names work on."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from stateview import StateManager


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "stateview", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_it_walks_leaves_a_store_and_can_run_again(tmp_path: Path) -> None:
    for _ in range(2):
        done = run(tmp_path, "demo")
        assert (done.returncode, done.stderr) == (0, "")
    for act in (
        "state.save(",
        "state.checkpoint(",
        "state.diff(",
        "state.blame(",
        "state.restore_checkpoint(",
        "state.undo()",
    ):
        assert act in done.stdout
    lines = re.findall(r"^  \S*stateview (.+)$", done.stdout, re.MULTILINE)  # with its path where PATH does not have it
    assert len(lines) >= 5
    for line in lines:
        shown = run(tmp_path / "stateview-demo", *line.split())
        assert shown.returncode == 0, (line, shown.stderr)
        assert shown.stdout
    with StateManager(f"sqlite:{tmp_path / 'stateview-demo' / 'state'}", "import-orders") as state:
        assert state.namespaces() == ["import-orders", "nightly-report"]
        assert {change.key for change in state.diff("after_planning")} == {
            "error",
            "job",
            "phase",
            "spec",
            "task:03",
            "task:05",
        }


def test_a_folder_that_is_no_demo_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("x")
    done = run(tmp_path, "demo", "mine")
    assert done.returncode == 2
    assert "mine exists" in done.stderr
    assert (tmp_path / "mine" / "file").read_text() == "x"


@pytest.mark.parametrize("name", ["stateview-demo", "else where"])
def test_it_goes_where_it_is_told(tmp_path: Path, name: str) -> None:
    assert run(tmp_path, "demo", name).returncode == 0
    assert (tmp_path / name / "stateview.toml").exists()
