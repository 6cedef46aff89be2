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
from stateview.cli.key_names import FIRST_KEYS


@pytest.fixture(autouse=True)
def prepared(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    with StateManager("json", "default") as state:
        state.save("wf:93:a", 1)
        state.save("wf:93:b", 1)
        state.save("job", {"limits": 1, "tasks": ["x"]})
        state.save("config/limits", 1)
        state.checkpoint("after_planning", note="approved")


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["lo"], ["load", "log", "plot"]),
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
        (["restore", "@30"], ["@30m", "@30h", "@30d", "@30w"]),
        (["log", "--since", "@y"], ["@yesterday"]),
        (["diff", "live", "--keys", "@y"], []),
        (["-n", "d"], ["default"]),
        (["--format", "j"], ["json", "jsonl"]),
        (["-n", "default", "delete", "job", "wf:9"], ["wf:93:"]),
        (["help", "che"], ["checkpoint", "checkpoints"]),
        (["completion", "z"], ["zsh"]),
        (["-s", "redis://127.0.0.1:1", "load", "j"], []),
        (["-n", "../x", "load", "j"], []),
        (["nonsense", "x"], []),
        (["load", "lim"], ["config/limits"]),
        (["load", "93"], ["wf:93:"]),
        (["load", "limtis"], ["config/limits"]),
        (["load", "LIMITS"], ["config/limits"]),
        (["load", "clmts"], ["config/limits"]),
        (["load", "job", "/mits"], ["/limits"]),
        (["restore", "plan"], ["after_planning"]),
        (["restore", "afetr_planning"], ["after_planning"]),
        (["-n", "fault"], ["default"]),
        (["resotre"], ["restore"]),
        (["help", "point"], ["checkpoint", "checkpoints"]),
        (["--format", "sonl"], ["jsonl"]),
        (["diff", "--summry"], ["--summary"]),
    ],
)
def test_candidates(words: list[str], offered: list[str]) -> None:
    assert [text for text, _ in candidates(words)] == offered


def test_each_candidate_says_what_it_means() -> None:
    helps = dict(candidates(["load", "job", "--at", "a"]))
    assert "approved" in helps["after_planning"]
    assert dict(candidates(["lo"]))["load"] == "print the value of a key"
    assert dict(candidates(["load", "job", "--at", "@"]))["@2h"] == "2 hours ago"


def test_the_times_of_commits_are_offered() -> None:
    state = StateManager("json", "default")
    times = [text for text, help in candidates(["load", "job", "--at", "@20"]) if help.startswith("revision")]
    assert [state.at(text).revision for text in times] == [4, 3, 2, 1]


def script(shell: str) -> str:
    done = subprocess.run(["stateview", "completion", shell], capture_output=True, text=True, check=True)
    return done.stdout


class InteractiveShell:
    """A shell at a terminal of its own."""

    def __init__(self, *command: str, **variables: str) -> None:
        self.child, self.terminal = pty.fork()
        if self.child == 0:
            os.environ.update({"TERM": "xterm", **variables})
            os.execlp(command[0], *command)
        self.seen = ""

    def __enter__(self) -> InteractiveShell:
        return self

    def __exit__(self, *_: object) -> None:
        os.kill(self.child, 9)
        os.waitpid(self.child, 0)
        os.close(self.terminal)

    def type(self, text: str, until: str) -> None:
        """Type a text, and wait until the terminal has shown another."""
        os.write(self.terminal, text.encode())
        deadline = time.monotonic() + 30
        while until not in self.seen and time.monotonic() < deadline:
            if select.select([self.terminal], [], [], 0.1)[0]:
                self.seen += os.read(self.terminal, 65536).decode(errors="replace")
        assert until in self.seen, self.seen
        self.seen = ""


def test_bash(folder: Path) -> None:
    """A real bash: it parts words at `:`, `=` and `@`, and replaces what it takes for the last one."""
    (folder / "c.bash").write_text(script("bash"))
    with StateManager("json", "default") as state:
        state.save("later", 1)
        state.checkpoint("after_planning")
        moment = state.log(1)[0].time.isoformat()
    with InteractiveShell("bash", "--norc", "--noprofile", "-i") as bash:
        bash.type("source ./c.bash; bind -x '\"\\C-g\": echo \"[$READLINE_LINE]\"'; echo load''ed\n", "loaded")
        for line, whole in {
            "load jo": "load job ", "load wf:": "load wf:93:", "restore aft": "restore after_planning ",
            "load job --at=aft": "load job --at=after_planning ", "load job --at @45": "load job --at @45",
            "load job --at @yes": "load job --at @yesterday ", "load job --at=@yes": "load job --at=@yesterday ",
            "load job --at after_planning@": "load job --at after_planning@4 ",
            f"load job --at @{moment[:-6]}": f"load job --at @{moment} ", "load lim": "load config/limits ",
            "load job --at=plan": "load job --at=after_planning ", "load wf:93:x": "load wf:93:x",
            "help int": "help int",
        }.items():  # fmt: skip
            bash.type(f"\x15stateview {line}\t\x07", f"[stateview {whole}]")


def test_fish(folder: Path) -> None:
    assert shutil.which("fish"), "fish is not installed; .ci/run installs it"
    (folder / "c.fish").write_text(script("fish"))
    program = "source c.fish; complete -C 'stateview load wf:93:'; complete -C 'stateview restore aft'"
    done = subprocess.run(["fish", "--no-config", "-c", program], capture_output=True, text=True, check=True)
    assert [line.split("\t")[0] for line in done.stdout.splitlines()] == ["wf:93:a", "wf:93:b", "after_planning"]
    program = "source c.fish; complete -C 'stateview load lim'"
    done = subprocess.run(["fish", "--no-config", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("config/limits\t")


def test_zsh(folder: Path) -> None:
    assert shutil.which("zsh"), "zsh is not installed; .ci/run installs it"
    (folder / "c.zsh").write_text(script("zsh"))
    with InteractiveShell("zsh", "-f", "-i", ZDOTDIR=str(folder), PS1="ready> ") as zsh:
        zsh.type("autoload -Uz compinit; compinit -u -d dump; source ./c.zsh; echo load''ed\n", "loaded")
        zsh.type("stateview restore aft\t", "stateview restore after_planning")
        zsh.type("\x15stateview load job --at @yest\t", "@yesterday")
        zsh.type("\x15stateview load lim\t", "config/limits")
        zsh.type("\x15stateview help point\t", "checkpoints")
        zsh.type("\x15stateview load wf:93:\t", "revision 2")


def test_a_key_inside_many_is_found_within_the_bound(folder: Path) -> None:
    """Of more keys than are looked at, each group is: what `lim` finds lies behind all the others."""
    with StateManager("sqlite", "many") as state, state.transaction() as transaction:
        for number in range(FIRST_KEYS):
            transaction.save(f"flow:{number:05}:step", 1)
        for number in range(700):
            transaction.save(f"flow:x:{number}", 1)
            transaction.save(f"key-{number:07}", 1)
        transaction.save("zz/config/limits", 1)
    words = ["-s", "sqlite", "-n", "many", "load"]
    assert [text for text, _ in candidates([*words, "lim"])] == ["zz/config/limits"]
    assert ("flow:00012:", "…") not in candidates([*words, "0012"]), "a segment of a single key is the key"
    assert "flow:00012:step" in dict(candidates([*words, "0012"]))
