"""Undo and redo from any screen: at once where the last commit was made here, else asked, with what it would do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...commands.states import tally
from ...diff import Diff
from ...model import Commit, now, to_micros
from ..acts import command_line
from ..paint import ago

if TYPE_CHECKING:
    from ..app import Dashboard


def back(app: Dashboard, act: str) -> None:
    """Undo or redo (`act`) in the live state, provided that nobody commits between the look and the act."""
    manager = app.manager
    if app.read_only:
        app.tell(f"read-only: {act} would write", wrong=True)
        return

    def look(_stop: object) -> tuple[Diff, Commit]:
        commit = manager.log(1)
        preview = manager.undo(dry_run=True) if act == "undo" else manager.redo(dry_run=True)
        preview.counts  # noqa: B018 - computed here, on the thread
        return preview, commit[0]

    def decide(found: tuple[Diff, Commit]) -> None:
        preview, commit = found
        words = [act, "--expected", str(commit.revision)]
        if app.acts.made(commit):
            app.acts.run(words)
            return
        from ..dialogs.confirm import Confirm

        by = f" by {commit.author}" if commit.author else ""
        said = [
            f"The last commit was not made here: {commit.revision}{by}, {ago(to_micros(commit.time), now())}:",
            f"  {commit.reason}",
            f"{act.capitalize()} would change {tally(preview)}.",
        ]

        def answered(sure: bool | None) -> None:
            if sure:
                app.acts.run(words)

        app.push_screen(Confirm(said, command_line(words)), answered)

    app.reader.ask(app, act, look, decide, app.trouble)
