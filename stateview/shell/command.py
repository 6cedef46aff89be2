"""Handler: shell. A prompt at a terminal, else a script."""

from __future__ import annotations

import sys
from typing import Any

from ..cli.context import Context
from ..cli.results import ActionResult
from .script import run_scripts
from .session import Shell


def start(context: Context, given: dict[str, Any]) -> ActionResult:
    """`shell [STORE]`."""
    options = dict(context.options)
    if "store" in given:
        options["store"] = given["store"]
    file, commands = given.get("file"), given.get("command", [])
    if file is not None or commands or not sys.stdin.isatty():
        return ActionResult(code=run_scripts(Shell(options), file, commands, given.get("keep_going", False)))
    from .prompt import Prompt

    return ActionResult(code=Prompt(options).run())
