"""Commands that need the terminal for themselves run in a process of their own, while the dashboard steps aside."""

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
    """Run a command line in the terminal, and come back; what came of it, and whether that was well.

    Waits until it ends, as does the app. The store is handed over in the environment: its URL may hold a password,
    which the words of a process show to everyone.

    Raises:
        UsageError: there is no terminal to give away.

    """
    try:
        with app.suspend():
            command = [sys.executable, "-P", "-m", "stateview", *_flags(app.options), *words]
            code = subprocess.run(command, check=False, env={**os.environ, **_environment(app)}).returncode
            if code:
                print(f"\nended with {code}; press enter to go back", end="", flush=True)
                sys.stdin.readline()
    except SuspendNotSupported:
        raise UsageError("there is no terminal here to give away", f"Run 'stateview {words[0]}' in one") from None
    return (f"ended with {code}" if code else "done"), not code


def _flags(options: dict[str, Any]) -> list[str]:
    author = ["--author", str(options["author"])] if options.get("author") else []
    return [*author, *(["--read-only"] if options.get("read_only") else [])]


def _environment(app: Dashboard) -> dict[str, str]:
    store = app.options.get("store") or app.store
    return {"STATEVIEW_NAMESPACE": app.manager.namespace, **({"STATEVIEW_STORE": store} if store else {})}
