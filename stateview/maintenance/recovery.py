"""Recover a damaged namespace: decide what is lost, have the rest stored again, and report both.

A backend reads the sound data (`RecoverySession.salvage`) and stores the result (`RecoverySession.rewrite`). If single
values are missing, `lost_versions` decides. If commits are unreadable, `lost_commits` decides. Both follow these rules:

- The namespace continues after the highest revision that any record names, so no revision number is used twice.
- No value is guessed. A lost value is absent in every state that showed it.
- The floor rises above every incomplete state. An incomplete state is readable only through a checkpoint, and the
  report names each checkpoint that shows less than it did.
"""

from __future__ import annotations

import os

from msgspec.structs import replace

from ..backends.protocol import Backend, LogSalvage, RecoverySession, Salvage
from ..backends.stored_values import PLAIN
from ..errors import Sealed, tells_what_was_done
from ..model import Problem, RecoveryReport
from .doctor import diagnose, examined
from .lost_commits import LostCommits
from .lost_versions import LostVersions


def recover(backend: Backend) -> RecoveryReport:
    """Check a namespace, repair it, and report what was repaired and what is lost.

    Every damaged original is kept. A sound namespace is not written to. O(all that is stored).

    Raises:
        Damaged: a person must decide, such as about a file of another program.
        Sealed: it is damaged, and to repair it takes a key that opens it. Nothing was changed.

    """
    try:
        report = _recover(backend)
    except Sealed:
        if any(finding.severity == "error" for finding in diagnose(examined(backend))):
            raise
        report = RecoveryReport(backend.namespace, backend.head().revision)
    error = getattr(backend, "values", PLAIN).error
    if error is not None and not isinstance(error, Sealed):
        lost = Problem("the keyring", error.message, "nothing was changed: restore it from a backup", False, "keyring")
        report = replace(report, problems=(*report.problems, lost))
    return replace(report, sealed=isinstance(error, Sealed))


def _recover(backend: Backend) -> RecoveryReport:
    with backend.open_recovery() as session, tells_what_was_done(lambda: _done(session)):
        session.repair()
        problems: list[Problem] = []
        while (salvage := session.salvage()) is not None:
            decision = LostCommits(salvage) if isinstance(salvage, LogSalvage) else LostVersions(salvage)
            session.rewrite(decision.restored())
            problems += [_summary(salvage, decision, session.kept)] if salvage.damage else []
            problems += decision.problems
        problems = [*session.problems, *problems]
    return RecoveryReport(backend.namespace, backend.head().revision, tuple(problems), tuple(session.kept))


def _done(session: RecoverySession) -> str:
    """Return what an interrupted recovery has done; "" for nothing."""
    mended = f"Mended so far: {len(session.problems):,}" if session.problems else ""
    kept = f"kept aside: {', '.join(session.kept)}" if session.kept else ""
    done = "; ".join(filter(None, (mended, kept)))
    return done and f"{done[0].upper()}{done[1:]}; 'recover' does the rest"


def _summary(salvage: Salvage, decision: LostVersions | LostCommits, kept: list[str]) -> Problem:
    """Summarize the recovery: the damage, how much was sound, and where the damaged original is kept."""
    name = os.path.basename(salvage.subject)
    originals = [os.path.basename(path) for path in kept if os.path.basename(path).startswith(name)]
    where = f"; the damaged original is kept as {originals[0]}" if originals else ""
    return Problem(salvage.subject, salvage.damage, decision.summary() + where, decision.is_whole(), "damaged")
