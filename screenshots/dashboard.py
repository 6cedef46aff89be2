"""Pictures of the dashboard on the demo store: `python screenshots/dashboard.py`. Needs chromium for the PNGs.

The program is the real one, driven by Textual's Pilot: the keys below are what a person would press.
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from textual.pilot import Pilot

from stateview import StateManager
from stateview.dashboard.app import Dashboard
from stateview.dashboard.widgets.timeline import Timeline

HERE = Path(__file__).parent.resolve()
SIZE = (120, 34)
PATIENCE = 400  # looks, fifty a second


async def until(pilot: Pilot[None], *texts: str) -> None:
    """Wait until the screen shows what is to be in the picture."""
    for _ in range(PATIENCE):
        strips = pilot.app.screen._compositor.render_strips()
        seen = "\n".join("".join(segment.text for segment in strip) for strip in strips)
        if all(text in seen for text in texts):
            return
        await pilot.pause(0.02)
    raise TimeoutError(f"{texts} did not come:\n{seen}")


async def take(name: str, pilot: Pilot[None]) -> None:
    """Write a picture, as SVG and as PNG."""
    await pilot.pause(0.3)
    path = HERE / f"{name}.svg"
    path.write_text(pilot.app.export_screenshot(title="stateview"), encoding="utf-8")
    found = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', path.read_text(encoding="utf-8"))
    assert found is not None, "an SVG of Textual says its size"
    width, height = (int(float(side)) + 2 for side in found.groups())
    with tempfile.TemporaryDirectory() as profile:
        subprocess.run(
            ["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}",
             f"--window-size={width},{height}", f"--screenshot={path.with_suffix('.png')}", path.as_uri()],
            check=True, capture_output=True,
        )  # fmt: skip


async def walk() -> None:
    """Take the pictures of keys, history, diff and restore, in one session."""
    app = Dashboard(StateManager(author="you"))
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, "task:04", "after_planning")
        await pilot.press("j")
        await until(pilot, "tokens: 2000000", "█")  # of the strip of changes
        await take("dashboard", pilot)

        await pilot.press("H")
        await until(pilot, "History", "/limits/tokens", "clean up files")
        await pilot.press("j", "j", "j")
        await until(pilot, "Change r2 → r7")
        await take("dashboard-history", pilot)

        await pilot.press("escape", "4")
        assert app.main is not None
        app.main.query_one(Timeline).go_to("after_planning")
        await until(pilot, "AS OF after_planning")
        await pilot.press("d")
        await until(pilot, "Diff", "spec", "~4")
        await pilot.press("g", "j", "j", "j")
        await until(pilot, "Log them.")
        await take("dashboard-diff", pilot)

        await pilot.press("escape", "r")
        await until(pilot, "Restore", "marked")
        await pilot.press("n", "g", "j", "space", "j", "j", "space")
        await until(pilot, "2 of ")
        await take("dashboard-restore", pilot)


def fail() -> None:
    """Do the run of `nightly.py`, under a name without a folder: the picture shows its traceback."""
    code = f"exec(compile(open({str(HERE / 'nightly.py')!r}).read(), 'nightly.py', 'exec'))"
    environment = {**os.environ, "PYTHONPATH": str(HERE)}  # where the traceback finds the lines
    done = subprocess.run([sys.executable, "-c", code], env=environment, check=False, capture_output=True, text=True)
    assert "503" in done.stderr, f"the run is to fail in its last step:\n{done.stderr}"


async def look_at_run() -> None:
    """Take the picture of a run that failed."""
    app = Dashboard(StateManager(namespace="billing", author="you"))
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, "currency", "✗ publish", "5 Steps")
        await pilot.press("5")
        await until(pilot, "4/5 done", "503", "at nightly.py")
        await pilot.press("enter")
        await until(pilot, "in publish")
        await pilot.press("5")
        await until(pilot, "A Retry")
        await take("dashboard-steps", pilot)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        subprocess.run([sys.executable, "-m", "stateview", "demo"], check=True, capture_output=True)
        os.chdir("stateview-demo")
        os.environ.pop("NO_COLOR", None)
        asyncio.run(walk())
        fail()
        asyncio.run(look_at_run())
        os.chdir("/")
