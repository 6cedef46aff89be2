"""Ctrl-Z, SIGTSTP and SIGSTOP under a shell with job control: what takes the terminal can be used after `fg`."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from terminal import Terminal

from stateview import StateManager

BASH = "import os; os.execvp('bash', ['bash', '--norc', '--noprofile', '-i'])"
WORDS = {name: f"{name} sqlite:st -n flow" for name in ("dashboard", "shell", "serve")}
WORDS |= {"table": "watch --table -s sqlite:st -n flow", "serve": WORDS["serve"] + " --port 0"}
ENDS = {"dashboard": "q", "shell": "\x04", "table": "\x03", "serve": "\x03"}
STOPS = {"ctrl-z": None, "SIGTSTP": signal.SIGTSTP, "SIGSTOP": signal.SIGSTOP}


@pytest.fixture
def bash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    monkeypatch.chdir(tmp_path)
    with StateManager("sqlite:st", "flow") as state:
        state.save("alpha", 1)
        state.save("beta", 2)
    home = {"HISTFILE": "", "XDG_STATE_HOME": str(tmp_path), "PROMPT_COMMAND": "", "PS1": "bash> "}
    terminal = Terminal(program=("-c", BASH), **home)
    terminal.until("bash>")
    yield terminal
    terminal.type("\x03\x15kill -KILL %1; exit\r")
    terminal.kill()


def start(bash: Terminal, face: str) -> int:
    """Start a face as a job of the shell; its process id."""
    bash.type(f"clear; {sys.executable} -m stateview {WORDS[face]}\r")
    bash.until(lambda text: is_usable(bash, face))
    children = Path(f"/proc/{bash.pid}/task/{bash.pid}/children").read_text().split()
    return int(children[-1])


def is_usable(bash: Terminal, face: str) -> bool:
    if face == "shell":
        return line_of_cursor(bash).endswith("flow@2>")
    lines = bash.text.split("\n")
    if face == "serve":
        return "0 pages open, read-only · u: new URL" in bash.text
    if face == "table":
        return lines[0].startswith("  key") and lines[1].startswith("  alpha") and lines[3] == "Ctrl-C ends"
    return "LIVE" in lines[0] and any("alpha" in line for line in lines) and lines[-1].startswith("/ Filter")


def line_of_cursor(bash: Terminal) -> str:
    return str(bash.screen.display[bash.screen.cursor.y]).rstrip()


def stop(bash: Terminal, pid: int, how: str) -> None:
    if STOPS[how] is None:
        bash.type("\x1a")
    else:
        os.kill(pid, STOPS[how])
    bash.until(lambda text: "Stopped" in text and line_of_cursor(bash).startswith("bash>"))


def go_on(bash: Terminal, face: str) -> None:
    bash.type("\x15clear; fg\r")
    bash.until(lambda text: "Stopped" not in text and is_usable(bash, face))


@pytest.mark.parametrize("face", ["dashboard", "shell", "table", "serve"])
def test_it_is_painted_again_and_takes_keys(bash: Terminal, face: str) -> None:
    pid = start(bash, face)
    for how in ("ctrl-z", "SIGSTOP"):
        stop(bash, pid, how)
        if how == "SIGSTOP":
            bash.resize(110, 25)  # the program hears of it only later
        else:
            assert modes_are_restored(bash)
        go_on(bash, face)
    assert len(bash.text.split("\n")) == 25
    os.kill(pid, signal.SIGCONT)  # it was not stopped
    if face == "dashboard":
        bash.type("?")
        bash.until("the keys that work here")
        bash.type("\x1b")
        bash.until(lambda text: is_usable(bash, face))
    elif face == "shell":
        bash.type("load al\x08\x08alpha\r")
        bash.until(lambda text: "\n1\n" in text and is_usable(bash, face))
    elif face == "table":
        with StateManager("sqlite:st", "flow") as state:
            state.save("alpha", 7)
        bash.until("~ alpha  7")
    else:
        bash.type("u")
        bash.until("It works once")
    bash.type(ENDS[face])
    bash.until(lambda text: "bash>" in line_of_cursor(bash))
    assert modes_are_restored(bash)


def modes_are_restored(bash: Terminal) -> bool:
    bash.type("clear; stty -a\r")
    return re.search(r"\bicanon\b.* iexten echo ", bash.until("iexten echo "), re.DOTALL) is not None


@pytest.mark.stress
@pytest.mark.parametrize("face", ["dashboard", "shell"])
def test_in_the_background_it_waits_and_without_a_shell_it_goes_on(bash: Terminal, face: str) -> None:
    pid = start(bash, face)
    for how in STOPS:
        stop(bash, pid, how)
        bash.type("\x15clear; bg\r")
        bash.until(lambda text: "&" in text)
        bash.until(lambda text: bash.type("\r") or "Stopped" in text)  # bash tells of it before a prompt
        go_on(bash, face)
    words = ("sqlite:st", "-n", "flow")
    alone = Terminal(face, *words)  # Ctrl-Z stops nothing here: no one could continue it
    alone.until(lambda text: is_usable(alone, face))
    alone.type("\x1a")
    alone.type("\x1a" + ("?" if face == "dashboard" else "load alpha\r"))
    alone.until("the keys that work here" if face == "dashboard" else "\n1\n")
    os.kill(alone.pid, signal.SIGTERM)
    os.kill(alone.pid, signal.SIGCONT)  # as systemd does
    assert alone.end() in (143, -15)
