"""Undo and redo from any screen. A commit of another program is undone only after a question."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ...cli.results import tally
from ...model import Commit, now, to_micros
from ...states.changes import Diff
from ...states.restore import position_of
from ..display.text import format_ago

if TYPE_CHECKING:
    from ..app import Dashboard


def undo_or_redo(app: Dashboard, act: str, ended: Callable[[bool], None]) -> None:
    """Undo or redo in the live state, unless another commit comes after the preview.

    Args:
        app: the app.
        act: `undo` or `redo`.
        ended: called at the end with whether it was done.

    """
    manager = app.manager
    if app.read_only:
        app.notify_user(f"read-only: {act} would write", wrong=True)
        ended(False)
        return

    def preview_commit(_stop: object) -> tuple[Diff, Commit, Commit]:
        last = manager.log(1)[0] if manager.revision else None
        preview = manager.undo(dry_run=True) if act == "undo" else manager.redo(dry_run=True)
        assert last is not None, "without a commit the preview raises"
        preview.counts  # noqa: B018 - computes the diff here, on the thread
        revision = position_of(last) if act == "undo" else last.forward
        return preview, last, next(iter(manager.log(1, below=revision + 1)), last)

    def decide(result: tuple[Diff, Commit, Commit]) -> None:
        preview, last, commit = result
        words = [act, "--expected", str(last.revision)]

        def run() -> None:
            done, way_back = ("undone", "Z brings it back") if act == "undo" else ("redone", "z takes it back")

            def then(_result: object) -> None:
                app.notify_user(f"{done} {commit.revision}: {commit.reason} · {way_back}")
                ended(True)

            app.acts.run(words, then=then, failed=failed)

        last_line = app.acts.done[-1].line if app.acts.done else ""
        after_checkpoint = last_line.startswith(app.command_line(["checkpoint"]) + " ")
        made_here = app.acts.was_made_here(commit)
        if made_here and not after_checkpoint:
            run()
            return
        from ..dialogs.confirm import Confirm

        author = f" by {commit.author}" if commit.author else ""
        age = format_ago(to_micros(commit.time), now())
        origin = "" if made_here else ", which was not made here"
        question = [
            f"{act.capitalize()} commit {commit.revision}{author}, {age}{origin}?",
            f"  {commit.reason}",
            f"It would change {tally(preview)}.",
        ]
        if after_checkpoint:
            question.append(f"(Your last action, '{last_line}', made no commit: {act} does not affect checkpoints.)")
        app.push_screen(Confirm(question, app.command_line(words)), lambda sure: run() if sure else ended(False))

    def failed(error: Exception) -> None:
        app.show_error(error, act=True)
        ended(False)

    app.request(act, preview_commit, decide, dropped=lambda: ended(False))
