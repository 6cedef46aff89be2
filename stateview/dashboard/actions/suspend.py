"""Run commands that need the terminal, while the dashboard is suspended."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from textual.app import SuspendNotSupported

from ...cli.exit_codes import UsageError

if TYPE_CHECKING:
    from ..app import Dashboard


def run_in_terminal(app: Dashboard, words: list[str]) -> tuple[str, bool]:
    """Run a command line in the terminal, and return its outcome and whether it succeeded.

    The app is suspended until the command ends. The store is passed in the environment, because its URL may hold a
    password, and other users can see the arguments of a process.

    Raises:
        UsageError: the app has no terminal.

    """
    try:
        with app.suspend():
            command = [sys.executable, "-P", "-m", "stateview", *_flags(app.options), *words]
            code = subprocess.run(command, check=False, env={**os.environ, **_environment(app)}).returncode
            if code:
                print(f"\nended with {code}; press enter to go back", end="", flush=True)
                sys.stdin.readline()
    except SuspendNotSupported:
        raise UsageError("there is no terminal here", f"Run 'stateview {words[0]}' in a terminal") from None
    return (f"ended with {code}" if code else "done"), not code


def _flags(options: dict[str, Any]) -> list[str]:
    author = ["--author", str(options["author"])] if options.get("author") else []
    return [*author, *(["--read-only"] if options.get("read_only") else [])]


def _environment(app: Dashboard) -> dict[str, str]:
    store = app.options.get("store") or app.store
    return {"STATEVIEW_NAMESPACE": app.manager.namespace, **({"STATEVIEW_STORE": store} if store else {})}
