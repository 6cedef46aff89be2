"""A diff that does not fit the terminal opens on the screens of the dashboard, and leaving it returns to the prompt."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from terminal import Terminal

from stateview import StateManager


@pytest.fixture
def state(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StateManager]:
    monkeypatch.setenv("XDG_STATE_HOME", str(folder / "home"))
    monkeypatch.setenv("PAGER", "cat")
    with StateManager("sqlite:st", "flow") as manager:
        with manager.transaction() as transaction:
            for number in range(30):
                transaction.save(f"task:{number:02}", "planned")
        manager.checkpoint("plan")
        with manager.transaction() as transaction:
            for number in range(30):
                transaction.save(f"task:{number:02}", "done")
            transaction.save("note", 1)
        yield manager


def at_prompt(text: str) -> bool:
    """Whether the shell waits for a line."""
    return text.rstrip().endswith(">")


def test_diff_and_restore_in_the_shell(state: StateManager) -> None:
    terminal = Terminal("shell", "sqlite:st", "-n", "flow", rows=12)
    try:
        terminal.until("flow@2>")
        terminal.type("diff plan\r")
        terminal.until("Diff  plan → live")
        terminal.type("q")
        terminal.until(at_prompt)
        terminal.type("restore plan --keys task:0*\r")
        terminal.until("10 of 10 marked")
        assert "only 10 keys" in terminal.text
        terminal.type("q")
        # In all that was written: a prompt that learns late where the cursor is scrolls these lines away
        terminal.until(lambda text: b"not done. Nothing was changed" in terminal.raw and at_prompt(text))
        terminal.type("diff plan --keys note --pager\r")
        terminal.until("only 1 key")
        terminal.type("q")
        terminal.until(at_prompt)
        terminal.type("diff plan --keys note\r")  # it fits
        terminal.until("1 key differs: +1 added")
        terminal.type("diff plan | tail -1\r")
        terminal.until('~ task:29  "planned" → "done"\nsqlite')
        terminal.type("option pager off\rdiff plan\r")
        terminal.until(lambda text: "task:28" in text and at_prompt(text))
        terminal.type("option pager on\rrestore plan\r")
        terminal.until("31 of 31 marked")
        terminal.type("y")
        restored = b"restored plan - 'stateview -s sqlite:st -n flow undo' takes it back"
        terminal.until(lambda text: restored in terminal.raw and "flow@3>" in text)
        assert state.load("task:00") == "planned" and "note" not in state
    finally:
        terminal.kill()


def test_diff_on_the_command_line(state: StateManager) -> None:
    terminal = Terminal("diff", "plan", "-s", "sqlite:st", "-n", "flow", rows=20)
    terminal.until("Diff  plan → live")
    terminal.type("q")
    assert terminal.end() == 0
    terminal = Terminal("diff", "plan", "-s", "sqlite:st", "-n", "flow", "--no-pager", rows=20)
    terminal.until('~ task:29  "planned" → "done"')
    assert terminal.end() == 0


def ends_with(terminal: Terminal, text: str, revision: int) -> None:
    """Wait until the shell has said a text, and is at its prompt again."""
    terminal.until(lambda shown: text.encode() in terminal.raw and f"flow@{revision}>" in shown and at_prompt(shown))
    terminal.raw = b""


def test_a_revert_is_approved_on_the_full_screen(state: StateManager) -> None:
    state.save("late", 1)
    terminal = Terminal("shell", "sqlite:st", "-n", "flow", rows=14)
    try:
        terminal.until("flow@3>")
        terminal.type("revert --commit 2\r")
        text = terminal.until(lambda text: "+0 −1 ~30" in text and "y Go ahead" in text and "computing" not in text)
        assert "Preview  revert --commit 2" in text and "revert commit 2: 31 keys (1 removed, 30 changed)?" in text
        assert "Mark" not in text and "Copy CLI" not in text and "late" not in text
        terminal.type("q")
        ends_with(terminal, "not done. Nothing was changed", 3)
        terminal.type("revert --commit 2\r")
        terminal.until(lambda text: "+0 −1 ~30" in text and "computing" not in text)
        terminal.type("y")
        ends_with(terminal, "reverted commit 2", 4)
        assert state.load("task:00") == "planned" and "note" not in state and state.load("late") == 1
    finally:
        terminal.kill()


def test_an_import_is_approved_on_the_full_screen(state: StateManager) -> None:
    source = {f"task:{number:02}": "imported" for number in range(25)} | {"api_key": "hunter2"}
    Path("other.json").write_text(json.dumps(source))
    terminal = Terminal("shell", "sqlite:st", "-n", "flow", rows=14)
    try:
        terminal.until("flow@2>")
        terminal.type("import other.json --merge\r")
        text = terminal.until(lambda text: "+1 −0 ~25" in text and "••••••" in text and "computing" not in text)
        assert "import other.json (merge): 26 keys (1 added, 25 changed)?" in text and "hunter2" not in text
        terminal.type("y")
        ends_with(terminal, "imported: 26 keys", 3)
        assert state.load("task:24") == "imported" and state.load("note") == 1
        terminal.type("import other.json --replace\r")
        terminal.until("import other.json (replace): 6 keys (6 removed)?")  # it fits
        terminal.type("n\r")
        ends_with(terminal, "not done", 3)
        terminal.type("import other.json --replace --pager\r")
        terminal.until(lambda text: "+0 −6 ~0" in text and "Preview" in text and "computing" not in text)
        terminal.type("q")
        ends_with(terminal, "not done", 3)
    finally:
        terminal.kill()


def test_scripts_get_the_text(state: StateManager) -> None:
    words = [sys.executable, "-m", "stateview", "-s", "sqlite:st", "-n", "flow", "diff", "plan"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("31 keys differ") and done.stdout.count("\n") == 32
    refused = subprocess.run([*words, "--pager"], capture_output=True, text=True, check=False)
    assert refused.returncode == 2 and "--pager needs a terminal" in refused.stderr
