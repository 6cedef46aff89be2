"""A loss of power at any instant: what was acknowledged is there, nothing is half, and the store goes on."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from typing import Any

import power_loss
import pytest
from sealed_stores import KEY
from stress import stressed, stride

from stateview import StateManager

pytestmark = pytest.mark.skipif(not power_loss.is_traceable(), reason="strace is not installed, or may trace nothing")

ACTS = """
import json, os, sys
from stateview import StateManager

url, key, acts = sys.argv[1], sys.argv[2] or None, int(sys.argv[3])
lines = [f"line {number} of many" for number in range(60)]
marks = {}

with StateManager(url, "ns", encryption_key=key) as state:
    def tell():
        os.write(1, json.dumps([state.revision, {one.key: one.value for one in state.entries()}, marks]).encode())

    tell()
    for number in range(1, acts + 1):
        lines.append(f"more {number}")
        with state.transaction() as tx:
            tx.save("large", lines)
            tx.save("small", number)
        tell()
        if number % 4 == 0:
            state.checkpoint(f"c{number}", note="a note")
            marks[f"c{number}"] = state.revision
            tell()
        if number % 7 == 0:
            state.delete("small")
            tell()
        if number % 9 == 0:
            state.restore_checkpoint("c4")
            tell()
            if marks.pop("c8", None):
                state.delete_checkpoint("c8")
                tell()
        if number % 10 == 0:
            state.compact(state.revision - 12)
            tell()
"""


def check(url: str, key: str, told: list[Any], acknowledged: int) -> None:
    """Open what is left, and compare it with what the program told before the loss, and would have told next."""
    states = {revision: values for revision, values, _ in told}
    revision, _, marks = told[acknowledged - 1] if acknowledged else (0, {}, {})
    next_marks = told[acknowledged][2] if acknowledged < len(told) else marks
    with StateManager(url, "ns", encryption_key=key or None) as state:
        assert revision <= state.revision <= max(states)
        found = {mark.name: mark.revision for mark in state.checkpoints() if mark.name.startswith("c")}
        assert found.items() >= marks.items() & next_marks.items()
        assert found.items() <= marks.items() | next_marks.items()
        for number in {*range(max(1, state.revision - 12), state.revision + 1), *found.values()} & states.keys():
            assert {one.key: one.value for one in state.at(number).entries()} == states[number], number
        assert [one for one in state.doctor().findings if one.severity == "error"] == []
        before = state.revision
        state.save("after", before)
        assert (state.revision, state.load("after")) == (before + 1, before)


def is_told(call: power_loss.Call) -> bool:
    return call.name == "write" and call.descriptor == 1


@pytest.mark.parametrize("acts", [6, *stressed(22)])
@pytest.mark.parametrize("key", ["", KEY.printed()], ids=["plain", "sealed"])
@pytest.mark.parametrize("kind", ["json", "sqlite"])
def test_what_was_acknowledged_survives_and_nothing_is_half(kind: str, key: str, acts: int, tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    program = [sys.executable, "-c", ACTS, f"{kind}:{store}", key, str(acts)]
    calls = power_loss.recorded(program, tmp_path / "log")
    told = [json.loads(call.texts[0]) for call in calls if is_told(call)]
    disk, chance = power_loss.Disk(store), random.Random(acts)
    acknowledged = moments = losses = 0
    for call in calls:
        if is_told(call):
            acknowledged += 1
        elif disk.apply(call) and (moments := moments + 1) % stride(3 if acts > 6 else 5) == 0:
            for share in (0, 0.5, 1):
                losses += 1
                folder = tmp_path / f"after-{losses}"
                folder.mkdir()
                disk.leave(folder, chance, share)
                check(f"{kind}:{folder}", key, told[: acknowledged + 1], acknowledged)
    print(f"{moments} moments, {losses} losses of power")
    assert losses > 20
