"""LangGraph's own tests of its saver for SQLite, run on `StateviewSaver` in its place."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path

import pytest
from conftest import KINDS

PACKAGE = "langgraph-checkpoint-sqlite"
FILES = ("sqlite", "aiosqlite", "delta_channel_migration", "delta_parent_walk", "get_delta_channel_history")
OF_SQL_ALONE = (  # what these tests look at is the text of SQL, or the class `SqliteSaver` itself
    "search_where", "metadata_predicate", "checkpoint_search_sql_injection", "informative_async_errors",
    "looks_up_the_parent_by_primary_key",
    "filter_keys_with_hyphens_and_digits",  # a filter's name is a path there: see references/langgraph.md
)  # fmt: skip
SECONDS = 120


@pytest.fixture(scope="module")
def own_tests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tests of the installed version, from its source distribution."""
    folder = tmp_path_factory.mktemp("source")
    source = f"{PACKAGE}=={version(PACKAGE)}"
    words = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:", source]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False, timeout=SECONDS)
    if done.returncode:
        pytest.skip(f"pip cannot download the source of {source}: {done.stderr[-200:]}")
    [archive] = folder.glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    [tests] = folder.glob("*/tests")
    return tests


@pytest.mark.stress
@pytest.mark.parametrize("mode", ["namespaces", "keys"])
@pytest.mark.parametrize("kind", KINDS)
def test_langgraphs_own_tests_pass(own_tests: Path, store_url: str, mode: str) -> None:
    support = Path(__file__).parents[1] / "support"
    words = ["-q", "-p", "sqlite_saver_stand_in", "-p", "no:cacheprovider", "-o", "addopts=", "-W", "ignore"]
    words += ["-k", " and ".join(f"not {name}" for name in OF_SQL_ALONE), *(f"test_{name}.py" for name in FILES)]
    environment = {
        **os.environ, "PYTHONPATH": str(support), "STAND_IN_STORE": store_url, "STAND_IN_THREADS": mode,
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words], cwd=own_tests, env=environment, capture_output=True, text=True,
        check=False, timeout=SECONDS,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert int(done.stdout.rpartition(" passed")[0].rpartition("\n")[2].split()[-1]) >= 22
