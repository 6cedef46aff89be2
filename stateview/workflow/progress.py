"""What a screen shows of runs and steps, at any state. Nothing here reads the items of a step, or a step twice."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from ..arguments import KeyName
from ..backends.key_ranges import prefix_end
from ..backends.protocol import KeySummary
from ..model import to_micros
from ..states.leases import lock_key
from . import records
from .control import LAST, StepStatus, run_state, step_state
from .records import ENDED, Record

if TYPE_CHECKING:
    from ..manager import StateManager
    from ..states.view import StateView

    Readable = StateManager | StateView

_ROWS = 300  # of a page of keys
_LAST = "/" + "\U0010ffff" * 256  # a key and this sort after all keys below it
_LOCKS = lock_key(records.lock_name(""))  # what the keys of the locks of runs begin with


class RunGlance(Struct, frozen=True):
    """Describe a run in a few words: `state` and `step` as in `RunStatus`, and since when, in microseconds."""

    name: str
    state: str
    step: str | None
    since: int
    fence: int | None = None


class RunProgress(Struct, frozen=True):
    """Describe a run with its steps, in their order. `others` are the other runs of the namespace."""

    run: RunGlance
    steps: list[StepStatus]
    others: list[RunGlance]

    def index_of(self, step: str) -> int | None:
        """Return the place of a step."""
        return next((index for index, one in enumerate(self.steps) if one.name == step), None)


def newest_run(view: Readable, *, is_live: bool = True) -> RunGlance | None:
    """Return the run that goes on; if none does, the run whose entry was written last; None without a run.

    Args:
        view: the namespace, or a state of it.
        is_live: whether `view` is of the present: then a run whose process is known to have ended is `stopped`.

    Cost: O(log n) for each run and for each step with items.

    """
    glances = all_runs(view, is_live)
    return glances[0] if glances else None


def all_runs(view: Readable, is_live: bool = True) -> list[RunGlance]:
    """Return the runs: first the one that `newest_run` returns, then the others by name. For the cost see there."""
    rows = {key: row for key, row in _below(view, records.PREFIX).items() if row is not None}
    locks = {records.PREFIX + row.key.removeprefix(_LOCKS): row.key for row in view.rows(_LOCKS)}
    found = view.load_many([KeyName(key) for key in (*rows, *(key for run, key in locks.items() if run in rows))])
    glances = []
    for key, row in rows.items():
        record = _record(found.get(key))
        if record is not None:
            state = run_state(record, found.get(locks.get(key, "")), is_live=is_live)
            glances.append(_glance(key, row, record, state))
    if not glances:
        return []
    best = max(glances, key=lambda one: (one.state == "running", rows[records.run_key(one.name)].revision))
    return [best, *(one for one in glances if one is not best)]


def _glance(key: str, row: KeySummary, record: Record, state: str) -> RunGlance:
    since = moment_of(record.get("began")) if state == "running" else None
    fence = record.get("fence")
    step = record.get("step") if isinstance(record.get("step"), str) and state != "done" else None
    return RunGlance(records.parts_of(key)[0], state, step, row.time if since is None else since, fence)


def _below(view: Readable, prefix: str) -> dict[str, KeySummary | None]:
    """Return the keys one level below a prefix, with None for one that only has keys below it.

    The keys further below are passed over.
    """
    found: dict[str, KeySummary | None] = {}
    after = ""
    while True:
        page = view.rows(prefix, after, limit=_ROWS)
        own = slash = ""
        for row in page:
            own, slash, _ = row.key[len(prefix) :].partition("/")
            if slash:
                found.setdefault(prefix + own)
            else:
                found[row.key] = row
        if len(page) < _ROWS:
            return found
        after = f"{prefix}{own}{_LAST}" if slash else page[-1].key


def _record(value: Any) -> Record | None:
    """Return the record of an entry; None if somebody has saved something else there."""
    return value if isinstance(value, dict) and isinstance(value.get("state"), str) else None


def moment_of(text: object) -> int | None:
    """Return a time of a record in microseconds; None if it is none."""
    try:
        return to_micros(datetime.fromisoformat(str(text)))
    except ValueError:
        return None


class ProgressReader:
    """Reads a run with its steps again and again. An entry that is unchanged is read once."""

    def __init__(self) -> None:
        self._records: dict[str, tuple[tuple[int, int], Record | None]] = {}  # by key: revision and time, the record

    def read(self, view: Readable, run: str | None = None, *, is_live: bool = True) -> RunProgress | None:
        """Read a run; None if there is none.

        Args:
            view: the namespace, or a state of it.
            run: the name of the run. None, or one that is not there: see `newest_run`.
            is_live: see `newest_run`.

        """
        glances = all_runs(view, is_live)
        if not glances:
            return None
        glance = next((one for one in glances if one.name == run), glances[0])
        prefix = f"{records.run_key(glance.name)}/"
        below = _below(view, prefix)
        self._load(view, {key: row for key, row in below.items() if row is not None})
        steps = [self._step(view, glance, key, row) for key, row in below.items()]
        steps.sort(key=lambda one: (one.order, one.name))
        return RunProgress(glance, steps, [one for one in glances if one is not glance])

    def _load(self, view: Readable, rows: dict[str, KeySummary]) -> None:
        known = {key: (row.revision, row.time) for key, row in rows.items()}
        self._records = {key: kept for key, kept in self._records.items() if known.get(key) == kept[0]}
        missing = [KeyName(key) for key in rows if key not in self._records]
        for start in range(0, len(missing), _ROWS):
            for key, value in view.load_many(missing[start : start + _ROWS]).items():
                record = _record(value)
                self._records[key] = known[key], record and {k: v for k, v in record.items() if k != "result"}

    def _step(self, view: Readable, run: RunGlance, key: str, row: KeySummary | None) -> StepStatus:
        name = records.parts_of(key)[1]
        found = self._records.get(key) if row is not None else None
        record = (found[1] if found else None) or {"state": "running", "fence": run.fence}
        low = f"{key}/"
        items = view.count(low, prefix_end(low)) if row is None or record.get("function") == "" else 0
        state, duration = step_state(record, run.state, run.fence), record.get("duration")
        return StepStatus(
            name, state, int(record.get("tries", 0)), str(record.get("began", "")), duration, items,
            record.get("error"), record.get("reason"), int(record.get("order", LAST)),
        )  # fmt: skip


def seconds_of(step: StepStatus, moment: int) -> float | None:
    """Return how long a step took; for one that goes on, how long it has taken at a moment, in microseconds."""
    if step.state != "running":
        return step.duration
    began = moment_of(step.began)
    return None if began is None else max(0.0, (moment - began) / 1_000_000)


def count_of(steps: list[StepStatus]) -> int:
    """Return how many steps are done."""
    return sum(step.state in ENDED for step in steps)


def concerns_runs(changed: list[str] | None) -> bool:
    """Return whether what is shown of runs may differ after a change of keys; None: of any keys."""
    return changed is None or any(key.startswith((records.PREFIX, _LOCKS)) for key in changed)
