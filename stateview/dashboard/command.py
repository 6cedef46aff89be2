"""Handler: dashboard. Reads the first page on a thread while Textual is imported, which takes most of the time."""

from __future__ import annotations

import gc
import os
import sys
from typing import Any

from .. import settings
from ..backends import kind_of, mask, parse_store
from ..cli.context import Context
from ..cli.exit_codes import UsageError
from ..cli.results import ActionResult
from ..errors import BackendError
from ..manager import StateManager
from .data.key_source import Prefetch

TIMEOUT_SECONDS = 3.0  # seconds that a read goes on trying: a person is better told than kept waiting


def start(context: Context, given: dict[str, Any]) -> ActionResult:
    """`dashboard [STORE]`."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()) and "TEXTUAL_DRIVER" not in os.environ:
        raise UsageError("the dashboard needs a terminal", "Use the commands: 'stateview help' lists them")
    gc.disable()  # until `_collect`: what is imported stays, and a tenth of the time would go into looking through it
    options = {**context.options, "store": given.get("store") or context.options.get("store")}
    found = settings.find()
    store = options["store"] or os.environ.get("STATEVIEW_STORE") or found.text("store") or "json"
    manager = context.open(options["store"], options.get("namespace"), timeout=TIMEOUT_SECONDS)
    manager.author = manager.author or "dashboard"  # so that the log tells a person's acts from the script's
    fork = "at" not in given and kind_of(parse_store(manager.url)).slow_import
    prefetch = Prefetch(manager, given.get("at"), fork=fork)
    if "at" in given:
        _check_ref(manager, given["at"])
    from .app import Dashboard
    from .display.themes import theme_of
    from .input.keymap import keymap_of

    app = Dashboard(
        manager, options, given.get("at"), store=store, stores=_stores(store, manager, found), redact=found.redact(),
        prefetch=prefetch, theme=theme_of(given.get("theme"), found), keys=keymap_of(found),
        opened=_collect,
    )  # fmt: skip
    app.run()
    return ActionResult(code=app.return_code or 0)


def _collect() -> None:
    """Collect garbage from now on, but of what is there already: looking through it all takes longer than a frame."""
    gc.freeze()
    gc.enable()


def _check_ref(manager: StateManager, ref: str) -> None:
    """Refuse an unknown ref before the screen is taken over; that the backend is not, the dashboard shows."""
    try:
        manager.at(ref)
    except BackendError:
        pass  # the banner says it, and goes on trying


def _stores(store: str, manager: StateManager, found: settings.Settings) -> list[tuple[str, str]]:
    """Return what can be gone to: what to open it by, and what to show of it."""
    named = [(name, f"{name}  {mask(url)}") for name, url in sorted(found.stores().items())]
    if store in dict(named):
        return named
    return [(store, manager.url), *named]
