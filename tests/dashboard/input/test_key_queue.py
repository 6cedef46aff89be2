"""Keys that come faster than what they do: typed ahead, or in one packet of a slow line, on the real program."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from terminal import Terminal

from stateview import StateManager


@pytest.fixture
def program(folder: Path) -> Iterator[Terminal]:
    with StateManager("sqlite:st", "flow") as manager:
        with manager.transaction() as several:
            for number in range(100):
                several.save(f"qq{number}", {"n": number})
        manager.checkpoint("one")
    terminal = Terminal("dashboard", "sqlite:st", "-n", "flow", columns=120, rows=35)
    terminal.until("LIVE")
    terminal.until("qq1")
    yield terminal
    terminal.kill()


def burst(terminal: Terminal, keys: str) -> None:
    """All of the keys are there before the program has seen the first."""
    os.kill(terminal.pid, signal.SIGSTOP)
    terminal.type(keys)
    os.kill(terminal.pid, signal.SIGCONT)


def test_what_follows_the_key_of_a_filter_is_the_filter(program: Terminal) -> None:
    burst(program, "/qq77\r")
    program.until(lambda text: "qq77" in text and "qq76" not in text)
    burst(program, "\x1b")
    program.until("qq76")
    burst(program, "jjjjj/zqz")
    program.until(lambda text: "no key matches 'zqz'" in text)


def test_what_follows_the_key_of_a_screen_goes_to_that_screen(program: Terminal) -> None:
    burst(program, ":stats\r")
    program.until("by the hour")
    burst(program, "\x1b")
    program.until("qq1")
    burst(program, "d\r\r")
    program.until("one → live")
    burst(program, "\x1b?\x1b:qqq")
    program.until("qqq")


def test_ctrl_c_waits_for_no_other_key(program: Terminal) -> None:
    burst(program, "/" + "q" * 500 + "\x03")
    assert program.end() == 0
