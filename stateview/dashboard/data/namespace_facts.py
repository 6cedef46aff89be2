"""What the overview shows of a namespace: numbers, times and its newest run. Damage is a fact too. No terminal code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ...backends.protocol import CheckpointRecord
from ...cli.commands.stores import problem_of
from ...errors import StateException
from ...manager import StateManager
from ...states.missing import missing_namespace
from ...workflow.progress import RunGlance, newest_run

_STATES = ("running", "failed", "interrupted", "stopped", "waiting", "done")  # what needs a look comes first
_STALE = "unavailable"
PROBLEMS = {
    "damaged": "damaged: enter says why",
    "gone": "gone: it was dropped",
    "sealed": "sealed: no key opens its values",
    _STALE: "stale: the backend does not answer",
    "unreadable": "unreadable: enter says why",
}


class NamespaceFacts(NamedTuple):
    """The facts of a namespace. None: not known.

    Attributes:
        keys: the number of its keys.
        size: the bytes that it takes.
        committed: the time of the last commit.
        checkpoint: the checkpoint that was made last.
        run: the newest run.
        problem: why a fact is missing, in a word of `PROBLEMS`.
        error: the error behind it.

    """

    keys: int | None = None
    size: int | None = None
    committed: int | None = None
    checkpoint: CheckpointRecord | None = None
    run: RunGlance | None = None
    problem: str = ""
    error: Exception | None = None

    @property
    def opens(self) -> bool:
        """Whether the namespace can be shown, maybe without its values."""
        return self.problem in ("", "sealed", _STALE)

    def after(self, earlier: NamespaceFacts | None) -> NamespaceFacts:
        """Return these facts, or the earlier ones as stale if the backend has not answered."""
        if self.problem != _STALE or earlier is None:
            return self
        return earlier._replace(problem=_STALE, error=self.error)


def read_facts(open: Callable[[], StateManager]) -> NamespaceFacts:
    """Read the facts of a namespace. What was read before an error stays. O(checkpoints + runs).

    Args:
        open: returns a manager of the namespace, which is closed here.

    """
    facts = NamespaceFacts()
    try:
        with open() as manager:
            head = manager.head()
            if not head.lineage:
                return NamespaceFacts(problem="gone", error=missing_namespace(manager.backend))
            facts = facts._replace(keys=head.count, committed=head.time or None)
            usage, marks = manager.backend.disk_usage(), manager.backend.marks()
            facts = facts._replace(size=None if usage is None else usage.total, checkpoint=marks[-1] if marks else None)
            facts = facts._replace(run=newest_run(manager))
            if any(row.sealed for row in manager.backend.list_keys(limit=1)):
                facts = facts._replace(problem="sealed")
    except (StateException, OSError) as error:
        facts = facts._replace(problem=problem_of(error), error=error)
    return facts


class Column(NamedTuple):
    """A column of the overview: its title, what its order is called, and what a namespace is sorted by.

    The values of `key` are in the order that is shown first: large numbers and late times before the others.
    """

    title: str
    order: str
    reverse: str
    key: Callable[[NamespaceFacts], Any]


def _falling(number: int | None) -> int | None:
    return None if number is None else -number


def _checkpoint_key(facts: NamespaceFacts) -> int | None:
    return None if facts.checkpoint is None else -facts.checkpoint.time


def _run_key(facts: NamespaceFacts) -> tuple[int, int] | None:
    run = facts.run
    if run is None:
        return None
    return _STATES.index(run.state) if run.state in _STATES else len(_STATES), -run.since


COLUMNS = (
    Column("Namespace", "name", "name, backwards", lambda _facts: 0),
    Column("Keys", "most keys", "fewest keys", lambda facts: _falling(facts.keys)),
    Column("Size", "largest", "smallest", lambda facts: _falling(facts.size)),
    Column("Commit", "latest commit", "oldest commit", lambda facts: _falling(facts.committed)),
    Column("Checkpoint", "latest checkpoint", "oldest checkpoint", _checkpoint_key),
    Column("Run", "run state", "run state, backwards", _run_key),
)


def in_order(names: list[str], facts: dict[str, NamespaceFacts], column: Column, backwards: bool) -> list[str]:
    """Sort names by a column. Names without its fact come last, whichever way. O(n log n)."""
    keys = {name: column.key(facts.get(name, NamespaceFacts())) for name in names}
    known = [name for name in names if keys[name] is not None]
    known.sort(key=lambda name: (keys[name], name), reverse=backwards)
    return known + [name for name in names if keys[name] is None]
