"""The tests of StateManager once more, run through AsyncStateManager by the plugin `async_face`."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from stress import stride

ROOT = Path(__file__).parent.parent.parent
SUITES = (  # of one run of pytest each, whose beginning takes longer than most of them; parted by spaces
    "tests/manager/test_arguments.py tests/manager/test_encryption_key.py tests/manager/test_legacy_users.py",
    "tests/manager/test_moving_floor.py tests/states/test_patterns.py tests/states/test_restore.py",
)
LONG_SUITES = {  # on request, see `stride`; and what in them is left out
    "tests/states/test_many_keys.py": "not one_round_trip",  # it counts those of its own thread
    "tests/manager/test_told_outcome.py": "",
    "tests/manager/test_rename_expire_undo.py": "",
    "tests/maintenance/test_prune.py": "",
    "tests/maintenance/test_stats.py": "",
    "tests/manager/test_anchored_stores.py": "",
    "tests/manager/test_bad_input.py": "",
    "tests/manager/test_clock.py": "",
    "tests/transfer/test_export_import.py": "",
}


SUPPORT = "tests/support:tests/support/servers:tests/support/stores"


@pytest.mark.stress
@pytest.mark.parametrize("paths", [*SUITES, *(LONG_SUITES if stride(0) else ())])
def test_the_tests_of_a_state_manager_pass(paths: str) -> None:
    words = "-p async_face -p no:cacheprovider -n 0 -q --timeout 120 -k"
    options = [*words.split(), LONG_SUITES.get(paths, "")]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *paths.split()], cwd=ROOT, capture_output=True, text=True,
        check=False, env={**os.environ, "PYTHONPATH": SUPPORT}, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr
    assert int(re.search(r"(\d+) calls went through", done.stdout)[1]) > 10, "the plugin had no effect"
