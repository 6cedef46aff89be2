"""`examples/async_agent.py` resumes after it was killed or interrupted."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from stress import only

from stateview import StateManager

AGENT = Path(__file__).parent.parent.parent / "examples" / "async_agent.py"
QUESTION = "Which is warmest: Lisbon, Oslo or Kyoto?"


def start(store_url: str, seconds: str) -> "subprocess.Popen[str]":
    command = [sys.executable, str(AGENT), store_url, QUESTION, "--seconds", seconds]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("number", only([signal.SIGKILL, signal.SIGINT], signal.SIGKILL))
@pytest.mark.parametrize("kind", ["sqlite"])
def test_the_agent_resumes_after_it_was_stopped(store_url: str, number: signal.Signals) -> None:
    first = start(store_url, "0.3")
    with StateManager(store_url, "agent") as state:
        next(iter(state.watch(since=0, keys="result:*", timeout=60)))
        first.send_signal(number)  # the slower tools are under way
        first.communicate(timeout=60)
        results = [entry.value for entry in state.entries("result:")]
        finished = {one["city"] for one in [*results, *state.load("messages")] if one["role"] == "tool"}
        assert "Lisbon" in finished

        out, error = start(store_url, "0").communicate(timeout=60)
        again = {f"measuring {city}" for city in {"Lisbon", "Oslo", "Kyoto"} - finished}
        assert sorted(out.splitlines()) == ["Kyoto, 29 °C", *sorted(again)], error
        assert state.list_checkpoints() == ["after_turn_1"]
        assert state.list_keys() == ["messages"]
