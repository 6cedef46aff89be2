"""The examples: killed in the middle and run again they have the same outcome, and lines are counted."""

import ast
import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
SCRIPTS = ["by_hand.py", "with_stateview.py"]
LINES_SAVED = 200  # docstrings are not counted
REPORT = "{'invoices': 17, 'cents': 171270}"


def start(script, folder, hangs_at=""):
    command = [sys.executable, str(EXAMPLES / script), str(folder)]
    environment = {**os.environ, "ORDERS_HANGS_AT": hangs_at}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def calls(folder):
    path = folder / "calls.txt"
    return path.read_text().split() if path.exists() else []


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_workflow_that_is_killed_and_run_again(tmp_path, script):
    first = start(script, tmp_path, hangs_at="5")
    while len(calls(tmp_path)) < 4:
        assert first.poll() is None, first.communicate()
        time.sleep(0.01)
    second = start(script, tmp_path)
    _, message = second.communicate()
    assert second.returncode == 1
    assert message.startswith("error: ")
    assert str(first.pid) in message
    assert message.count("\n") <= 2, message  # one clear error, no traceback
    first.kill()
    first.communicate()
    again = start(script, tmp_path)
    output, message = again.communicate()
    assert again.returncode == 0, message
    assert output.strip() == REPORT
    invoices = [json.loads(path.read_text()) for path in tmp_path.glob("invoice-*.json")]
    assert sum(invoice["cents"] for invoice in invoices) == 171270
    done = Counter(calls(tmp_path))
    assert len(done) == 17
    assert sum(done.values()) <= 18  # the item in work when the process died may be done again, no other


def code_lines(script):
    """Count lines that are neither blank, nor a comment, nor a docstring."""
    source = (EXAMPLES / script).read_text()
    skipped = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
            skipped.update(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    lines = enumerate(source.splitlines(), 1)
    return sum(1 for n, line in lines if n not in skipped and line.strip() and not line.strip().startswith("#"))


def test_the_lines_that_stateview_saves():
    by_hand, with_stateview = (code_lines(script) for script in SCRIPTS)
    assert by_hand - with_stateview >= LINES_SAVED, (by_hand, with_stateview)


def test_the_script_with_state_by_hand_restores_and_resets(tmp_path):
    """Its commands work, so that the comparison of lines is fair."""
    assert start("by_hand.py", tmp_path).wait() == 0
    command = [sys.executable, str(EXAMPLES / "by_hand.py"), str(tmp_path), "--changes", "check"]
    changes = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert [line.split()[:2] for line in changes] == [
        ["+", key] for key in ("report", "steps/invoices", "steps/publish", "steps/rates")
    ]
    (tmp_path / "state.json").write_text("{")
    for option, step in (("--restore", "check"), ("--reset", "check")):
        command = [sys.executable, str(EXAMPLES / "by_hand.py"), str(tmp_path), option, step]
        assert subprocess.run(command, check=False).returncode == 0
    assert start("by_hand.py", tmp_path).wait() == 0
    assert len(calls(tmp_path)) == 2 * 17


@pytest.mark.stress
def test_a_batch_of_10_000_items_that_is_killed_and_resumed(tmp_path):
    """An item in work when its process dies may be done again; no other is, and none is left out."""
    command = [sys.executable, str(EXAMPLES / "batch.py"), str(tmp_path)]
    kills = 0
    for limit in (2_000, 5_000, 8_000):
        batch = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        while len(calls(tmp_path)) < limit and batch.poll() is None:
            time.sleep(0.05)
        assert batch.poll() is None
        batch.kill()
        batch.wait()
        kills += 1
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    done = Counter(calls(tmp_path))
    assert done.keys() == {str(n) for n in range(10_000)}
    assert sum(done.values()) <= 10_000 + kills
