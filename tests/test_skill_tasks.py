"""Five tasks of a coding agent, each done with the lines of SKILL.md, changed only in its names."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_docs import blocks, commands

from stateview import LockHeld, StateManager


def skill(start):
    """Return the first command of SKILL.md that begins so, without its comment."""
    return next(one.split("  #")[0].strip() for one in commands("SKILL.md") if one.startswith(f"stateview {start}"))


def workflow():
    """Return the block of SKILL.md that goes on where it stopped."""
    (block,) = (one for one in blocks("SKILL.md", "python") if "state.run(" in one)
    return f"from stateview import StateManager\nstate = StateManager()\n{block}"


def shell(line):
    done = subprocess.run(line, shell=True, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (line, done.stderr)
    return done.stdout


@pytest.fixture(autouse=True)
def prepared(folder, monkeypatch):
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    shell("stateview init json workflow-123")


def planned():
    with StateManager() as state:
        state.save("phase", "building")
        state.save("job", {"tasks": [{"name": "scout", "done": True}], "tries": 0})
        shell(skill("checkpoint after_planning"))
        state.save("phase", "testing")
        state.save("job", {"tasks": [{"name": "scout", "done": True}], "tries": 3})


def test_resume_after_a_crash():
    """The process dies in the second item. The run of the same lines keeps the step and the first item."""
    dying = workflow().replace(
        '        state.save(f"result',
        "        if DIES and task == 'build':\n            os._exit(9)\n" + '        state.save(f"result',
    )
    for dies, code in ((True, 9), (False, 0)):
        source = f"import os\nDIES = {dies}\n{dying}"
        done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
    with StateManager() as state:
        assert state.load("current_phase") == "published"
        assert state.load("run/build/plan")["tries"] == 1
        assert len(list(state.history("result:scout"))) == 1


def test_what_changed_since_a_checkpoint():
    planned()
    changed = shell(skill("diff after_planning"))
    assert "phase" in changed
    assert "/tries" in changed


def test_take_back_one_key():
    planned()
    shell(skill("restore after_planning --keys").replace("--keys 'ph*' --keys job", "--keys job"))
    with StateManager() as state:
        assert state.load("job")["tries"] == 0
        assert state.load("phase") == "testing"


def test_move_to_sqlite():
    planned()
    line = skill("migrate").replace("--from sqlite --to json:./copy", "--from json --to sqlite:./copy")
    shell(line)
    with StateManager("sqlite:./copy", "workflow-123") as copy:
        assert copy.load("phase") == "testing"
        assert copy.load("phase", at="after_planning") == "building"


def test_wait_for_another_step():
    line = skill("wait phase exists").replace("phase", "run/build/plan")
    with subprocess.Popen(line, shell=True) as waiting:
        subprocess.run([sys.executable, "-c", workflow()], check=True)
        assert waiting.wait() == 0


def test_a_second_run_at_once_ends_in_one_clear_error():
    with StateManager() as state, state.run("build"):
        done = subprocess.run([sys.executable, "-c", workflow()], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    last = done.stderr.splitlines()[-1]
    assert LockHeld.__name__ in last
    assert f"process {os.getpid()}" in last
