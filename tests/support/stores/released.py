"""Released versions of other libraries, each in an environment of its own, that write the data which tests read."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

import pytest

INSTALL_SECONDS = 100  # twice at most: a test may take 300


def run_with(folder: Path, packages: list[str], script: str, *arguments: object, alone: tuple[str, ...] = ()) -> None:
    """Run a script in a new environment with packages. The test is skipped where pip cannot install them.

    Args:
        folder: where the environment is made.
        packages: what pip installs, such as `diskcache==4.1.0`.
        script: Python code.
        arguments: its `sys.argv[1:]`.
        alone: packages that are installed without those that they need.

    """
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    for names, options in ((packages, []), (alone, ["--no-deps"])):
        if not names:
            continue
        pip = [sys.executable, *["-m", "pip", "--python"], python, *["install", "-q", "--only-binary=:all:"]]
        try:
            done = subprocess.run(
                [*pip, *options, *names], capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            pytest.skip(f"pip took over {INSTALL_SECONDS} s for {' '.join(names)}")
        if done.returncode:
            pytest.skip(f"pip cannot install {' '.join(names)} here: {done.stderr.strip()[-200:]}")
    subprocess.run([python, "-c", script, *map(str, arguments)], check=True, cwd=folder)
