"""Report the progress and the outcome of a migration."""

from __future__ import annotations

import time
from collections.abc import Callable

from msgspec import Struct

from ..model import ProgressMessage
from .state_digests import StateDigest


class MigrationProgress(Struct, frozen=True):
    """Report the progress of a migration: the step, and how many of `total` keys are `done`; `rate` in keys/s."""

    namespace: str
    doing: str
    done: int
    total: int
    rate: float = 0.0

    @property
    def left(self) -> float | None:
        """Return roughly how many seconds are left in this step; None if it is not known yet."""
        return max(0, self.total - self.done) / self.rate if self.rate else None

    @property
    def percent(self) -> int:
        """Return how much of this step is done."""
        return min(100, 100 * self.done // self.total) if self.total else 0

    def message(self) -> ProgressMessage:
        """Return the progress as text, with its numbers."""
        return ProgressMessage(str(self), self.done, self.total)

    def __str__(self) -> str:
        text = f"{self.namespace}: {self.doing} {self.done:,} of {self.total:,} keys, {self.percent}%"
        left = self.left
        return text if left is None else f"{text}, {self.rate:,.0f} keys/s, {_spell(left)} left"


def _spell(seconds: float) -> str:
    whole = int(seconds + 0.5)
    return f"{whole // 60} min {whole % 60} s" if whole >= 60 else f"{whole} s"


class MigrationReport(Struct, frozen=True):
    """Report what a migration did or, with `dry_run`, would do.

    `keys` counts the live entries, `versions` all kept versions, `bytes` the size of their values. `digest` covers the
    live state. `checkpoints` has the keys and digest of each checkpoint, by `NAME@REVISION`. `already` is true if the
    destination held the whole copy before, `resumed` if an earlier copy was resumed. `behind` counts the source's
    commits that came after the copy. `replaces` describes the replaced namespace, `kept` is where it is kept, and
    `safety` the checkpoint that was made in it. `switched` is the settings file that names the destination now.
    `encrypted` is true if the copy is, or would be, encrypted. `reading` says of which moments the values are, if they
    are not all of one: see `KeepsPresentAlone`.
    """

    source: str
    destination: str
    namespace: str
    revision: int
    keys: int
    versions: int
    bytes: int
    digest: str = ""
    checkpoints: dict[str, StateDigest] = {}
    seconds: float = 0.0
    dry_run: bool = False
    already: bool = False
    resumed: bool = False
    behind: int = 0
    replaces: str = ""
    kept: str = ""
    safety: str = ""
    switched: str = ""
    encrypted: bool = False
    reading: str = ""


OnMigrationProgress = Callable[[MigrationProgress], None]


class ProgressRate:
    """Report the progress of one step, with its rate."""

    def __init__(self, report: OnMigrationProgress, namespace: str, doing: str, total: int, before: int = 0) -> None:
        self._report, self._namespace, self._doing = report, namespace, doing
        self._total, self._before, self._started = total, before, time.monotonic()

    def reached(self, done: int) -> None:
        """Report the number of keys done."""
        seconds = time.monotonic() - self._started
        rate = (done - self._before) / seconds if seconds > 0.05 else 0.0
        self._report(MigrationProgress(self._namespace, self._doing, done, max(done, self._total), rate))
