"""The workflow of the picture of the Steps pane: a night's invoices, of which a step fails.

Args:
    sys.argv[1]: how long to wait where a real step waits for others; 1 is the length in the picture.

"""

from __future__ import annotations

import sys
import time

from stateview import StateManager
from stateview.workflow.run import Run

PACE = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0
Rows = list[dict[str, object]]


def fetch(_url: str) -> Rows:
    """Read the invoices of a day."""
    time.sleep(2.4 * PACE)
    return [{"id": f"C-{1040 + number}", "total": 7 * number % 90} for number in range(26)]


def clean(rows: Rows) -> Rows:
    """Leave out what is not to be billed."""
    time.sleep(0.35 * PACE)
    return [row for row in rows if row["total"]]


def summarize(rows: Rows) -> dict[str, object]:
    """Return the numbers of the report."""
    time.sleep(1.1 * PACE)
    return {"invoices": len(rows), "total": sum(int(str(row["total"])) for row in rows)}


def publish(_summary: dict[str, object]) -> None:
    """Send the report to a server that is down."""
    time.sleep(0.3 * PACE)
    raise ConnectionError("POST https://reports.example.org/daily: 503 Service Unavailable")


def nightly(run: Run) -> None:
    """Do the steps."""
    rows = run.step("fetch", fetch, "https://shop.example.org/invoices/2026-11-28")
    rows = run.step("clean", clean, rows)
    for _ in run.each("send", rows, key="id"):
        time.sleep(0.1 * PACE)
    summary = run.step("summarize", summarize, rows)
    run.step("publish", publish, summary, retries=2, backoff=0.3 * PACE)


if __name__ == "__main__":
    with StateManager(namespace="billing") as state:
        state.save("currency", "EUR")
        state.save("recipients", ["sales@example.org", "board@example.org"])
        with state.run("backup", checkpoints=0) as backup:
            backup.step("copy", time.sleep, 0.8 * PACE)
        with state.run("nightly") as run:
            nightly(run)
