"""Which actions the line of keys and the help list: those that can act in this dashboard."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..display.redaction import SECRETS

if TYPE_CHECKING:
    from ..app import Dashboard

WRITES = frozenset((
    "app.undo", "app.redo", "main.edit", "main.editor", "main.add", "main.rename", "main.expire", "main.delete",
    "main.checkpoint", "main.restore", "main.revert", "main.fork", "keys.mark", "diff.restore", "diff.take",
    "diff.mark", "diff.mark-all", "diff.mark-none", "diff.invert", "history.restore", "steps.retry", "steps.reset",
    "restore.apply", "restore.anyway", "edit.save", "conflict.mine",
))  # fmt: skip
NEEDS_TERMINAL = frozenset(("main.editor", "edit.editor", "app.suspend"))


def is_listed(app: Dashboard, action: str) -> bool:
    """Return whether an action can act in a dashboard, by its id. A press of its key tells why not.

    An action that writes cannot act in a read-only dashboard, and one that needs a terminal cannot act in a browser.
    """
    if action == "app.secrets":
        return app.may_show_secrets or SECRETS not in app.masks
    return not (app.read_only and action in WRITES) and not (app.is_web and action in NEEDS_TERMINAL)
