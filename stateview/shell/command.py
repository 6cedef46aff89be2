"""Handler: shell. Opens a prompt at a terminal, otherwise runs a script."""

from __future__ import annotations

import sys
from typing import Any

from ..cli.context import Context
from ..cli.guessed_store import with_store
from ..cli.program import print_message
from ..cli.results import ActionResult
from .script import run_scripts
from .session import Shell


def start(context: Context, args: dict[str, Any]) -> ActionResult:
    """`shell [STORE]`."""
    options, guessed = with_store(context.options, args.get("store"))
    if guessed:
        print_message(f"stateview: {guessed}")
    file, commands = args.get("file"), args.get("command", [])
    if file is not None or commands or not sys.stdin.isatty():
        return ActionResult(code=run_scripts(Shell(options), file, commands, args.get("keep_going", False)))
    from .prompt import Prompt

    return ActionResult(code=Prompt(options).run())
