"""Handler of the command `dashboard`. A thread reads the first page of keys while Textual is imported."""

from __future__ import annotations

import gc
import os
import sys
from typing import Any

from .. import settings
from ..backends import kind_of, mask, parse_store
from ..cli.context import Context
from ..cli.exit_codes import UsageError
from ..cli.guessed_store import with_store
from ..cli.program import is_dumb_terminal, print_message
from ..cli.results import ActionResult
from ..errors import BackendError
from ..manager import StateManager
from ..states.moments import pinned
from .data.key_source import Prefetch

TIMEOUT_SECONDS = 3.0  # a read retries no longer, so that the user sees the error instead of waiting


def start(context: Context, args: dict[str, Any]) -> ActionResult:
    """Run `dashboard [STORE]`."""
    if "TEXTUAL_DRIVER" not in os.environ:
        if not (sys.stdin.isatty() and sys.stdout.isatty()):
            raise UsageError("the dashboard needs a terminal", "Use the commands: 'stateview help' lists them")
        if is_dumb_terminal():
            raise UsageError(
                f"the dashboard needs a terminal that can move its cursor, and TERM is {os.environ['TERM']}",
                "Use 'stateview shell', or the commands: 'stateview help' lists them",
            )
    gc.disable()  # until `_enable_gc`: collections during the imports free nothing and cost a tenth of the start
    options, guessed = with_store({"store": None, **context.options}, args.get("store"))
    if guessed:
        print_message(f"stateview: {guessed}")
    config = settings.find()
    store = options["store"] or os.environ.get("STATEVIEW_STORE") or config.text("store") or "json"
    manager = context.open(options["store"], options.get("namespace"), timeout=TIMEOUT_SECONDS)
    manager.author = manager.author or "dashboard"  # tells the user's commits from those of scripts in the log
    at = _checked_ref(manager, args["at"]) if "at" in args else None
    kind = kind_of(parse_store(manager.url))
    fork = at is None and kind.slow_import and not kind.foreign  # a foreign store is opened once
    prefetch = Prefetch(manager, at, fork=fork)
    from .app import Dashboard
    from .data.remembered import Memory, remembered_path
    from .display.redaction import patterns_of
    from .display.themes import theme_of
    from .input.keymap import keymap_of

    def opened() -> None:
        _enable_gc()
        if guessed:
            app.notify(guessed, markup=False)

    app = Dashboard(
        manager, options, at, store=store, stores=_stores(store, manager, config), redact=patterns_of(config),
        prefetch=prefetch, theme=theme_of(args.get("theme"), config), keys=keymap_of(config),
        memory=Memory("" if "TEXTUAL_DRIVER" in os.environ else remembered_path()), opened=opened,
    )  # fmt: skip
    app.run()
    return ActionResult(code=app.return_code or 0)


def _enable_gc() -> None:
    """Start collecting garbage. Exempt the objects of the start, because scanning them takes longer than a frame."""
    gc.freeze()
    gc.enable()


def _checked_ref(manager: StateManager, ref: str) -> str:
    """Refuse an unknown ref before the dashboard takes over the screen. Of a time, return what it means now."""
    try:
        fixed = str(pinned(manager.backend, ref))
        manager.at(fixed)
    except BackendError:
        return ref  # the dashboard starts anyway: its banner shows the error, and it retries
    return fixed


def _stores(store: str, manager: StateManager, config: settings.Settings) -> list[tuple[str, str]]:
    """List the stores that the user can switch to: the name or URL to open, and the text to show."""
    named = [(name, f"{name}  {mask(url)}") for name, url in sorted(config.stores().items())]
    if store in dict(named):
        return named
    return [(store, manager.url), *named]
