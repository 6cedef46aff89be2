"""Completion: what is offered, and that bash, zsh and fish really offer it."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stateview import StateManager
from stateview.cli.completion import candidates


@pytest.fixture(autouse=True)
def prepared(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    with StateManager("json", "default") as state:
        state.save("wf:93:a", 1)
        state.save("wf:93:b", 1)
        state.save("job", {"limits": 1, "tasks": ["x"]})
        state.checkpoint("after_planning", note="approved")


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["lo"], ["load", "log"]),
        (["load", "w"], ["wf:"]),
        (["load", "wf:"], ["wf:93:"]),
        (["load", "wf:93:"], ["wf:93:a", "wf:93:b"]),
        (["load", "job", "/"], ["/limits", "/tasks"]),
        (["load", "job", ""], ["/limits", "/tasks"]),
        (["blame", "nothing", ""], []),
        (["load", "job", "/tasks/0"], ["/tasks/0"]),
        (["assert", "job", "/l"], ["/limits"]),
        (["assert", "job", "ex"], ["exists"]),
        (["load", "j"], ["job"]),
        (["load", "job", "--a"], ["--at"]),
        (["load", "job", "--at", "a"], ["after_planning"]),
        (["load", "job", "--at=a"], ["--at=after_planning"]),
        (["restore", ""], ["after_planning", "live"]),
        (["-n", "d"], ["default"]),
        (["--format", "j"], ["json", "jsonl"]),
        (["-n", "default", "delete", "job", "wf:9"], ["wf:93:"]),
        (["help", "che"], ["checkpoint", "checkpoints"]),
        (["completion", "z"], ["zsh"]),
        (["-s", "redis://127.0.0.1:1", "load", "j"], []),
        (["-n", "../x", "load", "j"], []),
        (["nonsense", "x"], []),
    ],
)
def test_candidates(words: list[str], offered: list[str]) -> None:
    assert [text for text, _ in candidates(words)] == offered


def test_each_candidate_says_what_it_means() -> None:
    helps = dict(candidates(["load", "job", "--at", "a"]))
    assert "approved" in helps["after_planning"]
    assert dict(candidates(["lo"]))["load"] == "print the value of a key"


def script(shell: str) -> str:
    done = subprocess.run(["stateview", "completion", shell], capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.parametrize(
    ("line", "reply"), [("load wf:93:", ["a", "b"]), ("load jo", ["job"]), ("restore aft", ["after_planning"])]
)
def test_bash(line: str, reply: list[str], folder: Path) -> None:
    (folder / "c.bash").write_text(script("bash"))
    words = ["stateview", *[part for piece in line.split() for part in _parted(piece)]]
    array = " ".join(f"'{word}'" for word in words)
    program = f"""source c.bash; compopt() {{ :; }}
COMP_WORDS=({array}); COMP_CWORD={len(words) - 1}; COMP_LINE='stateview {line}'; COMP_POINT=${{#COMP_LINE}}
_stateview; printf '%s\\n' "${{COMPREPLY[@]}}" """
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=True)
    assert (done.stdout.split(), done.stderr) == (reply, "")


def _parted(word: str) -> list[str]:
    """A word as bash parts it for completion."""
    out = [""]
    for sign in word:
        if sign in ":=":
            out += [sign, ""]
        else:
            out[-1] += sign
    return [part for part in out if part]


def test_fish(folder: Path) -> None:
    assert shutil.which("fish"), "fish is not installed; .ci/run installs it"
    (folder / "c.fish").write_text(script("fish"))
    program = "source c.fish; complete -C 'stateview load wf:93:'; complete -C 'stateview restore aft'"
    done = subprocess.run(["fish", "--no-config", "-c", program], capture_output=True, text=True, check=True)
    assert [line.split("\t")[0] for line in done.stdout.splitlines()] == ["wf:93:a", "wf:93:b", "after_planning"]


def test_zsh(folder: Path) -> None:
    assert shutil.which("zsh"), "zsh is not installed; .ci/run installs it"
    (folder / "c.zsh").write_text(script("zsh"))
    child, terminal = pty.fork()
    if child == 0:
        os.environ.update({"TERM": "xterm", "ZDOTDIR": str(folder), "PS1": "ready> "})
        os.execlp("zsh", "zsh", "-f", "-i")
    seen = ""

    def until(text: str) -> None:
        nonlocal seen
        deadline = time.monotonic() + 30
        while text not in seen and time.monotonic() < deadline:
            if select.select([terminal], [], [], 0.1)[0]:
                seen += os.read(terminal, 65536).decode(errors="replace")
        assert text in seen, seen

    try:
        os.write(terminal, b"autoload -Uz compinit; compinit -u -d dump; source ./c.zsh; echo load''ed\n")
        until("loaded")
        os.write(terminal, b"stateview restore aft\t")
        until("stateview restore after_planning")
        os.write(terminal, b"\x15stateview load wf:93:\t")
        until("revision 2")
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
        os.close(terminal)
