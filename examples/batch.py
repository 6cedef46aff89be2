"""Do each of 10,000 items once, also when killed in the middle and run again: `python examples/batch.py FOLDER`.

An item is marked as done when the loop asks for the next one. The item in work when the process dies is given again.
"""

import sys
from pathlib import Path

from stateview import StateManager


def main(folder, count="10000"):
    with (
        StateManager(f"sqlite:{folder}/state", "batch", quiet=True) as state,
        state.run("batch") as run,
        Path(folder, "calls.txt").open("a", buffering=1) as calls,
    ):
        for item in run.each("items", range(int(count))):
            calls.write(f"{item}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
