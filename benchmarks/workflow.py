"""What steps cost beside bare saves: `python benchmarks/workflow.py [--items N] [--quick]`.

A slow machine fails nothing: every ratio is printed beside the one to reach.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from timing import Row, in_turns, redis_server, show, slower

from stateview import StateManager
from stateview.workflow.run import Run

VALUE: dict[str, Any] = {"status": "building", "attempt": 3, "files": ["src/app.py", "src/db.py"], "took": 1.25}
STEP, EACH = 2.5, 1.5


def produce(number: int) -> dict[str, Any]:
    return {**VALUE, "number": number}


@contextmanager
def opened(url: str, namespace: str) -> Iterator[tuple[StateManager, StateManager, Run]]:
    """A manager that saves, and another with a run: the run's lock would be asked for by the bare saves too."""
    with (
        StateManager(url, namespace, quiet=True) as bare,
        StateManager(url, f"{namespace}-run", quiet=True) as state,
        state.run("bench", checkpoints=1) as run,
    ):
        yield bare, state, run


def step_row(kind: str, url: str, rounds: int) -> Row:
    """A step that returns at once, with its checkpoint, against a save of the same value."""
    numbers = itertools.count()
    with opened(url, "step") as (bare, _state, run):

        def step() -> None:
            number = next(numbers)
            run.step("work", produce, number, key=number)

        def save() -> None:
            number = next(numbers)
            bare.save(f"work/{number}", produce(number))

        ours, against = in_turns(step, save, rounds, 10)
    return slower(f"{kind}: a step, against a save", ours, against, limit=STEP)


def each_row(kind: str, url: str, items: int, batch: int) -> Row:
    """Items of `each`, against a save for each item. Both sides grow alike, and alternate in batches."""
    rows = [{"id": number} for number in range(items)]
    times = [0.0, 0.0]
    with opened(url, "each") as (bare, _state, run):
        work = run.each("send", rows, key="id")
        next(work)
        for start in range(0, items - batch, batch):
            sides = (0, 1) if start // batch % 2 else (1, 0)
            for side in sides:
                began = time.perf_counter()
                for number in range(start, start + batch):
                    if side:
                        bare.save(f"done/{number}", True)
                    else:
                        next(work)
                times[side] += time.perf_counter() - began
        list(work)
    count = items - batch
    return slower(f"{kind}: each of {items:,} items, against a save", times[0] / count, times[1] / count, limit=EACH)


def resume_row(kind: str, url: str, items: int) -> str:
    """Say how long it takes to begin a run again whose items are done."""
    rows = [{"id": number} for number in range(items)]
    with StateManager(url, "each-run", quiet=True) as state:
        state.update("run/bench", lambda record: record | {"state": "interrupted"})
        began = time.perf_counter()
        with state.run("bench") as run:
            left = list(run.each("send", rows, key="id"))
        return f"{kind}: {items:,} items that are done pass by in {time.perf_counter() - began:.2f} s; {len(left)} left"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    items, rounds = (1_000, 20) if args.quick else (args.items, 100)
    folder = tempfile.mkdtemp()
    rows: list[Row] = []
    notes: list[str] = []
    try:
        with redis_server() as port:
            urls = {"sqlite": f"sqlite:{folder}/store"}
            if port:
                urls["redis"] = f"redis://127.0.0.1:{port}/0"
            for kind, url in urls.items():
                rows.append(step_row(kind, url, rounds))
                rows.append(each_row(kind, url, items, 50))
                notes.append(resume_row(kind, url, items))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(show(rows))
    print("\n".join(notes))


if __name__ == "__main__":
    sys.exit(main())
