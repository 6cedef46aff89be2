"""README and SKILL.md are tried, not believed: every command and block of code in them runs."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from forked import forked

from stateview import StateManager

ROOT = Path(__file__).parent.parent
TEXTS = [
    "README.md",
    "SKILL.md",
    "references/asyncio.md",
    "references/backends.md",
    "references/encryption.md",
    "references/formats.md",
    "references/langgraph.md",
    "references/migration.md",
    "references/other-stores.md",
    "references/refs.md",
    "references/workflows.md",
    "references/writing-a-backend.md",
]


def blocks(name: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / name).read_text(), re.DOTALL)


@pytest.fixture(autouse=True)
def prepared(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")


def commands(name: str) -> list[str]:
    lines = "\n".join(blocks(name, "bash") + blocks(name, "console")).splitlines()
    found = [line.removeprefix("$ ").strip() for line in lines if "stateview " in line]
    return [line for line in found if not line.startswith(("python3", "pip"))]


def run(line: str) -> subprocess.CompletedProcess[str]:
    """Run a line: a shell runs it, unless it is a command alone."""
    parts = shlex.shlex(line, posix=True, punctuation_chars="|&;<>()$`")
    parts.whitespace_split = True
    words = list(parts)
    if words[0] == "stateview" and not any(set(word) <= set(parts.punctuation_chars) for word in words):
        return forked(*words[1:])
    return subprocess.run(line, shell=True, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", ["README.md", "SKILL.md", "references/migration.md", "references/refs.md"])
def test_every_command_runs(name: str) -> None:
    setup = {
        "README.md": """stateview init sqlite workflow-123; stateview save tasks '[{"name": "x", "done": true}]'""",
        "SKILL.md": "true",
        "references/refs.md": "stateview init",
        "references/migration.md": "stateview init json workflow-123; stateview save k 1",
    }
    subprocess.run(setup[name], shell=True, check=True, capture_output=True)
    lines = commands(name)
    assert len(lines) > 2
    for line in lines:
        done = run(f"timeout 3 {line}" if "watch" in line else line)
        allowed = {0, 1} if "--exit-code" in line else {0, 124} if "watch" in line else {0}
        assert done.returncode in allowed, (line, done.stderr)


def test_the_setting_up_of_encryption_runs() -> None:
    (block,) = blocks("references/encryption.md", "sh")
    lines = [line for line in block.splitlines() if not line.startswith(("pip", "stateview key on"))]
    plain = "stateview save config 1; export STATEVIEW_KEY=$(stateview key new); stateview key on"
    for script in ("\n".join(lines), plain):
        done = subprocess.run(
            ["sh", "-ec", f"{script}\nstateview key status"], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert '"state":"sealed"' in done.stdout
        subprocess.run(["rm", "-r", ".claude"], check=True)


@pytest.mark.parametrize("name", ["README.md", "SKILL.md", "references/asyncio.md", "references/workflows.md"])
def test_every_block_of_python_runs(name: str) -> None:
    source = "\n".join(blocks(name, "python"))
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_workflow_of_the_skill_carries_on_where_it_was_stopped() -> None:
    (block,) = (block for block in blocks("SKILL.md", "python") if "state.run(" in block)
    assert block.count("    return f") == 1
    dying = "    print(task, flush=True)\n    if task == os.environ['DIES']:\n        os._exit(9)\n    return f"
    source = f"import os\nfrom stateview import StateManager\nstate = StateManager('json', 'w')\n{block}"
    command = [sys.executable, "-c", source.replace("    return f", dying)]
    done = [
        subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "DIES": task})
        for task in ("build", "")
    ]
    assert [one.stdout.split() for one in done] == [["plan", "scout", "build"], ["build"]], done[1].stderr
    assert StateManager("json", "w").load("current_phase") == "published"


def test_the_skill_keeps_its_limits() -> None:
    text = (ROOT / "SKILL.md").read_text()
    assert text.count("\n") < 400
    for link in re.findall(r"\((references/[\w.]+)\)", text):
        assert (ROOT / link).exists()


def test_every_command_is_documented() -> None:
    from stateview.cli.definition import COMMANDS

    texts = " ".join((ROOT / name).read_text() for name in TEXTS)
    for command in COMMANDS:
        assert command.hidden or re.search(rf"\b{command.name}\b", texts), command.name


def test_links_between_the_documents_lead_somewhere() -> None:
    for name in TEXTS:
        for link in re.findall(r"\]\(([\w./]+)\)", (ROOT / name).read_text()):
            assert (ROOT / name).parent.joinpath(link).exists(), (name, link)
