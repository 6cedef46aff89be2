"""The main screens as pictures.

`SNAPSHOTS=write pytest -m "stress or not stress" tests/dashboard/test_snapshots.py` makes them anew.
A picture that differs is left beside the old one as NAME.new.svg: open both.
"""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path

import pytest
from dashboard_host import answered, compared, shown, until
from textual.pilot import Pilot
from textual.widgets import Input

from stateview import StateManager
from stateview.dashboard.app import Dashboard
from stateview.dashboard.widgets.timeline import Timeline

FOLDER = Path(__file__).parent / "snapshots"
BEGAN = 1_769_850_000_000_000  # 2026-01-31 09:00 UTC
MINUTE = 60_000_000
SIZES = [(80, 24), (160, 50)]
CLOCKS = (
    "stateview.dashboard.screens.panes.now",
    "stateview.dashboard.screens.history.now",
    "stateview.dashboard.widgets.timeline.now",
    "stateview.dashboard.widgets.key_list.now",
    "stateview.dashboard.widgets.overview.table.now",
)
FADING = (  # for how long what was just touched is marked
    "stateview.dashboard.widgets.key_list.TOUCHED_SECONDS",
    "stateview.dashboard.widgets.value.json_view.MARKED_SECONDS",
)


@pytest.fixture
def store(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A store of which every time is known."""
    moment = BEGAN

    def later() -> None:
        nonlocal moment
        moment += MINUTE

    for name in (*CLOCKS, "stateview.backends.sqlite.reader.now"):
        monkeypatch.setattr(name, lambda: moment)
    for name in FADING:
        monkeypatch.setattr(name, 0.1)
    with StateManager("sqlite:state", "orders", author="agent-7") as state:
        state.save("job", {"user": "dev", "limits": {"tokens": 200_000, "errors": 3}, "files": ["a.csv", "b.csv"]})
        later()
        state.save("spec", "Import the orders.\nStop at the first error.", reason="plan")
        with state.transaction("plan tasks") as transaction:
            for number in range(1, 6):
                transaction.save(f"task:{number:02}", {"state": "waiting", "tries": 0})
        state.checkpoint("after_planning", note="approved by dev")
        later()
        state.update("job", lambda job: {**job, "limits": {"tokens": 2_000_000, "errors": 3}}, reason="raise limits")
        later()
        state.save("spec", "Import the orders.\nGo on after errors.\nLog them.", reason="adapt plan")
        state.save("error", {"task": "task:03", "message": "no such file: [/b.csv] \x1b[31m"})
        later()
        state.delete("task:05", reason="drop release")
        later()
    monkeypatch.setenv("TZ", "UTC")
    for name in ("NO_COLOR", "TEXTUAL_THEME", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    return "sqlite:state"


async def main(pilot: Pilot[None]) -> None:
    await shown(pilot, "task:04", "2 Keys")
    await pilot.press("j")
    await shown(pilot, "tokens: 2000000", "/user")


async def past(pilot: Pilot[None]) -> None:
    await main(pilot)
    await pilot.press("4")
    app = pilot.app
    assert isinstance(app, Dashboard) and app.main is not None
    app.main.query_one(Timeline).go_to("after_planning")
    await shown(pilot, "AS OF after_planning")
    await until(pilot, lambda: app.main is not None and app.main.keys.total == 7)


async def diff(pilot: Pilot[None]) -> None:
    await past(pilot)
    await pilot.press("d")
    await shown(pilot, "Diff  after_planning → live", "~2")
    await pilot.press("j")  # from the key that was selected
    await shown(pilot, "Log them.")


async def restore(pilot: Pilot[None]) -> None:
    await past(pilot)
    await pilot.press("r")
    await shown(pilot, "4 of 4 marked")
    await pilot.press("space")
    await shown(pilot, "3 of 4 marked", "1 of 1 · r5 → r2 · spec")


async def history(pilot: Pilot[None]) -> None:
    await main(pilot)
    await pilot.press("H")
    await shown(pilot, "History · job", "agent-7", "/limits/tokens")


async def checkpoint(pilot: Pilot[None]) -> None:
    await main(pilot)
    await pilot.press("c", *"before build")
    await shown(pilot, "is not allowed")


async def overview(pilot: Pilot[None]) -> None:
    with StateManager("sqlite:state", "prices") as state:
        state.save("eur", 1)
        state.checkpoint("imported")
    broken = Path("state/stock")
    broken.mkdir()
    (broken / "state.db").write_bytes(b"no database" * 1000)
    await main(pilot)
    await pilot.press("0")
    await shown(pilot, "4 min", "! damaged: enter says why", "imported", "3 namespaces")
    await pilot.press("j", "space")
    await answered(pilot)


async def revert(pilot: Pilot[None]) -> None:
    await main(pilot)
    await pilot.press("4")
    app = pilot.app
    assert isinstance(app, Dashboard) and app.main is not None
    app.main.query_one(Timeline).go_to("3")
    await shown(pilot, "AS OF 3")
    await pilot.press("V")
    await shown(pilot, "Revert  commit 3: plan tasks", "4 of 4 marked")
    await answered(pilot)


async def take(pilot: Pilot[None]) -> None:
    with StateManager("sqlite:state", "prices") as state:
        state.save("job", {"user": "ana", "limits": {"tokens": 200_000, "errors": 3}, "files": []})
        state.save("eur", 1)
    await main(pilot)
    await pilot.press("0")
    await shown(pilot, "2 namespaces")
    await pilot.press("j", "d")
    await shown(pilot, "Diff  orders:live → prices:live", "+1")
    await compared(pilot)
    await pilot.press("space", "space", "space", "P")
    await shown(pilot, "Take  prices:2 → live", "3 of 3 marked")
    await answered(pilot)


def plain(svg: str) -> str:
    """Without what is another in each export of the same picture."""
    return re.sub(r"terminal-\d+-", "terminal-", svg)


FLOWS = [main, past, diff, restore, history, checkpoint, overview, revert, take]
OWN_LAYOUT = [(flow, (100, 30)) for flow in (main, past, overview, revert, take)]  # others look as at 80x24


@pytest.mark.parametrize(
    ("flow", "size"),
    [*((flow, size) for flow in FLOWS for size in SIZES), *OWN_LAYOUT],
    ids=lambda one: one.__name__ if callable(one) else f"{one[0]}x{one[1]}",
)
def test_a_screen_looks_as_it_did(store: str, flow, size: tuple[int, int]) -> None:
    taken = ""
    path = FOLDER / f"{flow.__name__}-{size[0]}x{size[1]}.svg"
    expected = "" if os.environ.get("SNAPSHOTS") == "write" else path.read_text(encoding="utf-8")

    async def go() -> None:
        nonlocal taken
        app = Dashboard(StateManager(store, "orders", author="you"))
        async with app.run_test(size=size) as pilot:
            await flow(pilot)
            for field in app.screen.query(Input):
                field.cursor_blink = False
            for _ in range(40):
                await pilot.pause(0.5 if expected else 2.5)  # until marks of what was just touched are gone
                taken = plain(app.export_screenshot(title="stateview"))
                if expected in ("", taken):
                    return

    asyncio.run(asyncio.wait_for(go(), 60))
    new = path.with_suffix(".new.svg")
    if not expected:
        FOLDER.mkdir(exist_ok=True)
        path.write_text(taken, encoding="utf-8")
        new.unlink(missing_ok=True)
    elif taken != expected:
        new.write_text(taken, encoding="utf-8")
        pytest.fail(f"{path.name} is not what it was: see {new.name}")
