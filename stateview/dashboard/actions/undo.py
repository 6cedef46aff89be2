"""Undo and redo from any screen: at once where the last commit was made here, else asked, with what it would do."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ...cli.commands.checkpoints import tally
from ...model import Commit, now, to_micros
from ...states.json_diff import Diff
from ...states.restore import position_of
from ..display.text import format_ago

if TYPE_CHECKING:
    from ..app import Dashboard


def back(app: Dashboard, act: str, ended: Callable[[bool], None]) -> None:
    """Undo or redo (`act`) in the live state, provided that nobody commits between the look and the act.

    `ended` is told whether it was done.
    """
    manager = app.manager
    if app.read_only:
        app.notify_user(f"read-only: {act} would write", wrong=True)
        ended(False)
        return

    def look(_stop: object) -> tuple[Diff, Commit, Commit]:
        last = manager.log(1)[0] if manager.revision else None
        preview = manager.undo(dry_run=True) if act == "undo" else manager.redo(dry_run=True)
        assert last is not None, "else there was nothing to undo or redo"
        preview.counts  # noqa: B018 - computed here, on the thread
        meant = position_of(last) if act == "undo" else last.forward
        return preview, last, next(iter(manager.log(1, below=meant + 1)), last)

    def decide(found: tuple[Diff, Commit, Commit]) -> None:
        preview, last, meant = found
        words = [act, "--expected", str(last.revision)]

        def run() -> None:
            done, way = ("undone", "Z brings it back") if act == "undo" else ("redone", "z takes it back")
            told = f"{done} {meant.revision}: {meant.reason} · {way}"

            def then(_result: object) -> None:
                app.notify_user(told)
                ended(True)

            app.acts.run(words, then=then, failed=failed)

        done = app.acts.done[-1].line if app.acts.done else ""
        about_checkpoint = done.startswith(app.command_line(["checkpoint"]) + " ")
        if app.acts.made(meant) and not about_checkpoint:
            run()
            return
        from ..dialogs.confirm import Confirm

        by = f" by {meant.author}" if meant.author else ""
        whose = "" if app.acts.made(meant) else ", which was not made here"
        said = [
            f"{act.capitalize()} commit {meant.revision}{by}, {format_ago(to_micros(meant.time), now())}{whose}?",
            f"  {meant.reason}",
            f"It would change {tally(preview)}.",
        ]
        if about_checkpoint:
            said.append(f"(The last act, '{done}', is no commit: undo does not concern checkpoints.)")
        app.push_screen(Confirm(said, app.command_line(words)), lambda sure: run() if sure else ended(False))

    def failed(error: Exception) -> None:
        app.show_error(error, act=True)
        ended(False)

    app.request(act, look, decide, dropped=lambda: ended(False))
