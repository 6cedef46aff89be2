"""Compile the package and the test modules once for all workers, where a fresh checkout has no bytecode.

All workers import the same modules at the same time, in the same order. So each of them would compile every module,
and pytest would rewrite the assertions of every test module in each: five seconds of each worker.
"""

from __future__ import annotations

import compileall
import importlib
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent.parent
PACKAGE = TESTS.parent / "stateview"


def compile_share(config: pytest.Config) -> None:
    """Compile the share of this worker, in a run of the whole suite; the other workers read the files it leaves."""
    worker = getattr(config, "workerinput", None)
    if worker is None or config.args_source is not config.ArgsSource.TESTPATHS:
        return
    number, of = int(worker["workerid"].removeprefix("gw")), worker["workercount"]
    for path in sorted(PACKAGE.rglob("*.py"))[number::of]:
        compileall.compile_file(path, quiet=2)  # an import reports what is wrong in it
    for path in sorted(TESTS.rglob("test_*.py"))[number::of]:
        sys.path.insert(0, str(path.parent))  # as pytest does it
        try:
            importlib.import_module(path.stem)
        except Exception:
            continue  # pytest imports it again, and reports what is wrong in it
